"""``sidestep evaluate``: its options, who runs it, and what is written."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evaluator import completion as offer
from evaluator.errors import HarnessError, InputError, SidestepError, border, code_of
from evaluator.options import (
    debug_option,
    format_option,
    is_directory,
    jobs_option,
    own_version,
    posture_option,
    reading_options,
    split,
)
from evaluator.terminal import complain, page, progress_bar, say_pieces

if TYPE_CHECKING:
    from evaluator.plan import Plan, Progress
    from evaluator.pods import Engine
    from evaluator.records import CandidateResult, CandidateRun, Environment, Run
    from evaluator.request import Request
    from evaluator.runtimes import Runtime
    from evaluator.vm import Machines

FAIL_ON = ("leaky", "undecided", "reachable-elsewhere", "broken-workload")
_FILE_SUFFIXES = (".html", ".json", ".csv", ".parquet", ".md")


@click.command()
@click.argument("paths", metavar="CANDIDATE...", nargs=-1, shell_complete=offer.files)
@click.option(
    "--pid",
    "pids",
    metavar="N",
    type=click.IntRange(1, 1 << 22),
    multiple=True,
    help="Evaluate what a live process is under; repeatable. Needs root.",
)
@reading_options
@posture_option
@click.option(
    "--changed-since",
    metavar="REV",
    help="Only candidates in files that git says have changed since then.",
)
@click.option(
    "--family",
    "families",
    metavar="FAMILY",
    multiple=True,
    shell_complete=offer.families,
    help="Test only this family, and fail unless it is held; repeatable. "
    "Takes a target and parameters: create-file@/data, change-mode[bits=04000].",
)
@click.option(
    "--objective",
    metavar="NAME",
    shell_complete=offer.objectives,
    help="Families that must hold, workloads that must run: a name of `sidestep objectives list`.",
)
@click.option(
    "--workload",
    "workloads",
    metavar="WORKLOAD",
    multiple=True,
    callback=split,
    shell_complete=offer.listed(offer.workloads),
    help="Run this honest program as well: a name of `sidestep workloads list`, a TOML file, or "
    "`all`; repeatable.",
)
@click.option(
    "--assume",
    metavar="ASSUMPTION",
    multiple=True,
    callback=split,
    shell_complete=offer.listed(offer.assumptions),
    help="Count what an attacker gets from this as well: inherited-descriptor, inherited-ring, "
    "unfiltered-thread, unfiltered-neighbour, trusted-setup; repeatable.",
)
@click.option(
    "--suite",
    metavar="NAME",
    shell_complete=offer.suites,
    help="The frozen list of variants to judge by.",
)
@click.option(
    "--fail-on",
    metavar="CONDITION",
    multiple=True,
    callback=split,
    shell_complete=offer.listed(offer.words(FAIL_ON)),
    help=f"Exit with 1 on any of: {', '.join(FAIL_ON)}; repeatable.",
)
@jobs_option
@click.option(
    "--repeats",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="How often to run each trial; a block counts only if all repeats agree.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0.01, 3600),
    default=5.0,
    show_default=True,
    help="For one arm of one trial.",
)
@click.option(
    "--exhaustive",
    is_flag=True,
    help="Run what every rewrite makes of every variant, too (seconds instead of one).",
)
@click.option(
    "--search",
    metavar="SECONDS",
    type=click.FloatRange(0, 86400),
    default=0.0,
    help="After that, search so long in what is held for a way that nobody recorded.",
)
@click.option(
    "--simulate",
    is_flag=True,
    help="Predict and run nothing: for places where nothing can run. A prediction is no evidence.",
)
@click.option(
    "--runtime",
    type=click.Choice(("native", "runc", "crun", "cri", "vm")),
    default="native",
    show_default=True,
    help="Who puts the candidate on: our own sandbox, a container of runc or crun or a pod of "
    "containerd (these need root), or our own sandbox on another kernel, in a virtual machine.",
)
@click.option(
    "--kernel",
    metavar="PACKAGE",
    help="With --runtime vm: the package of the kernel to boot. It is downloaded to a cache, never "
    "installed.  [default: linux-image-amd64]",
)
@click.option(
    "--endpoint",
    metavar="SOCKET",
    envvar="CONTAINER_RUNTIME_ENDPOINT",
    help="With --runtime cri: where containerd serves the CRI.",
)
@click.option(
    "--start",
    is_flag=True,
    help="With --runtime cri: start a containerd of our own, and end it with all that it started.",
)
@click.option(
    "--ambient",
    is_flag=True,
    help="Judge the confinement that sidestep itself runs in; with --pack or --unpack, one that "
    "the native runner alone is taken to.",
)
@click.option(
    "--control",
    metavar="FILE",
    shell_complete=offer.files,
    help="With --ambient: the programs, and what they do outside, as --pack wrote it there. With "
    "--unpack: what a runner wrote that was less confined, as the control.",
)
@click.option(
    "--pack",
    metavar="FILE",
    shell_complete=offer.files,
    help="With --ambient: run the controls here, and write programs for a runner elsewhere.",
)
@click.option(
    "--unpack",
    metavar="FILE",
    shell_complete=offer.files,
    help="With --ambient: judge what a runner wrote elsewhere.",
)
@click.option(
    "--fast-path/--no-fast-path",
    default=True,
    show_default=True,
    help="Reuse controls and loaded filters where that cannot change a result.",
)
@format_option
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    shell_complete=offer.files,
    help="Write results.parquet, summary.csv, run.json, report.html there; or one file.",
)
@debug_option
@click.pass_context
def evaluate(context: click.Context, /, **options: Any) -> None:
    """Run the attack library under each candidate and say what gets through.

    CANDIDATE is a file, a directory, a pattern or - for stdin: a seccomp profile (OCI or Docker
    JSON), a raw filter, a systemd unit, Kubernetes manifests or resources of the Security Profiles
    Operator. One of several in a file is PATH#NAME, as in web.yaml#deployment/web:app; pid:N is a
    live process, here and wherever a candidate is named.
    """
    from evaluator.request import Request

    request = Request(**options)
    if request.ambient or request.control or request.pack or request.unpack:
        with border():
            context.exit(_ambient(request))
    if not options["paths"] and not options["pids"]:
        raise click.UsageError("Missing argument 'CANDIDATE...', or --pid.", context)
    with border(), ExitStack() as stack:
        runtime = None
        if request.runtime == "vm":
            context.exit(_evaluate_elsewhere(request))
        if request.runtime != "native":
            runtime = _runtime(request, stack)
            chosen = context.get_parameter_source("runtime_model")
            given = chosen is click.core.ParameterSource.COMMANDLINE
            if given and request.runtime_model != runtime.model:
                raise InputError(
                    f"--runtime-model {request.runtime_model}: {runtime.name} {runtime.version} "
                    f"is {runtime.model}: leave it out"
                )
            options["runtime_model"] = runtime.model
        code = _evaluate(Request(**options), runtime)
    context.exit(code)


def _evaluate_elsewhere(request: Request) -> int:
    """On another kernel, in a virtual machine."""
    from evaluator.request import plan
    from evaluator.vm import Machines, qemu
    from evaluator.vm_kernel import DEFAULT, kernel
    from evaluator.vm_run import environment

    started = time.time()
    if request.output is not None:
        _check_output(request.output, request.paths)
    planned = plan(request)
    failures = _complain_of_failed(planned)
    if failures and failures == len(planned.candidates) and not request.prints_json:
        return InputError.exit_code
    qemu()  # before anything is downloaded
    chosen = kernel(DEFAULT if request.kernel is None else request.kernel, complain)
    with Machines(chosen, complain) as machines:
        where = environment(machines, _where(simulated=True))
        results, stopped = _campaign(planned, request, machines=machines)
    return _publish(request, _run(request, planned, where, results, started, stopped))


def _runtime(request: Request, stack: ExitStack) -> Runtime | Engine:
    """The one that was asked for; what was started for it ends with the stack."""
    if request.runtime == "cri":
        from evaluator.pods import connected, started

        if request.start:
            return stack.enter_context(started())
        if not request.endpoint:
            raise InputError(
                "--runtime cri: name containerd's socket with --endpoint or "
                "CONTAINER_RUNTIME_ENDPOINT, or have one started with --start"
            )
        return stack.enter_context(connected(request.endpoint))
    from evaluator.runtimes import find

    return find(request.runtime)


def _ambient(request: Request) -> int:
    """A confinement that somebody else put on: packs programs for it, or judges what they did."""
    from evaluator.cli_ambient import check, contents, write_pack
    from evaluator.request import plan

    check(request)
    started = time.time()
    if request.output is not None:
        _check_output(request.output, ())
    if request.pack is not None:
        return write_pack(request, plan(request))
    found, planned, request = contents(request)
    where = _isolated(_where(simulated=False), "somebody else's confinement")
    from evaluator.ambient import judge
    from evaluator.assemble import assemble

    results = [assemble(judge(found, planned), planned)]
    return _publish(request, _run(request, planned, where, results, started, None))


def _isolated(where: Environment, isolation: str) -> Environment:
    from msgspec.structs import replace

    return replace(where, isolation=isolation)


def _evaluate(request: Request, runtime: Runtime | Engine | None = None) -> int:
    from evaluator.request import plan

    started = time.time()
    if request.output is not None:
        _check_output(request.output, request.paths)
    planned = plan(request)
    if request.changed_since is not None and not planned.candidates and not request.prints_json:
        complain(f"no candidate has changed since {request.changed_since}")
        return 0
    failures = _complain_of_failed(planned)
    if failures and failures == len(planned.candidates) and not request.prints_json:
        return InputError.exit_code
    where = _where(simulated=request.simulate)
    if runtime is not None:
        where = _isolated(where, f"{runtime.name} {runtime.version}")
    results, stopped = _campaign(planned, request, runtime)
    return _publish(request, _run(request, planned, where, results, started, stopped))


def _where(*, simulated: bool) -> Environment:
    from msgspec.structs import replace

    from evaluator.audit_log import audit_log
    from evaluator.doctor import environment

    if simulated:
        from evaluator.doctor import without_sandbox

        return replace(environment(without_sandbox(), "none"), audit_log=audit_log())
    from evaluator.doctor import probe

    return replace(environment(probe()), audit_log=audit_log())


def _complain_of_failed(plan: Plan) -> int:
    """A line for each candidate that could not be loaded, and their number."""
    from mitigations.candidate import FailedCandidate

    failures = [one for one in plan.candidates if isinstance(one, FailedCandidate)]
    for candidate in failures:
        message = str(candidate.error)
        says_where = message.startswith(candidate.source)
        complain(message if says_where else f"{candidate.source}: {message}")
    return len(failures)


def _check_output(output: str, inputs: Sequence[str]) -> None:
    """Finds out before the run, not after it, that there is nowhere to write."""
    if not output:
        raise InputError("--output: an empty path")
    path = Path(output)
    try:
        if path.is_file() and any(Path(one).is_file() and path.samefile(one) for one in inputs):
            raise InputError(f"{path}: the output would overwrite an input")
        directory = path if is_directory(output, _FILE_SUFFIXES) else path.parent
        if directory.exists() and not directory.is_dir():
            raise InputError(f"{directory}: not a directory")
        if any(
            directory.is_dir() and Path(one).is_dir() and directory.samefile(one) for one in inputs
        ):
            raise InputError(f"{directory}: the next run would take the output for a profile")
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror}") from None
    from reports.files import check

    with border():
        check(output)


def _campaign(
    plan: Plan,
    request: Request,
    runtime: Runtime | Engine | None = None,
    machines: Machines | None = None,
) -> tuple[list[CandidateResult], int | None]:
    """The results, and the exit code if it ended early; what was finished before is kept."""
    results: list[CandidateResult] = []
    runs: list[CandidateRun] = []
    try:
        with progress_bar() as on_progress:
            results.extend(_results(plan, request, on_progress, runs, runtime, machines))
            if request.search:
                from evaluator.deepen import deepen

                deepen(results, runs, plan, request.search, on_progress)
    except KeyboardInterrupt as error:
        complain(f"interrupted: {len(results)} of {len(plan.candidates)} candidates finished")
        return results, code_of(error)
    except SidestepError as error:
        if not isinstance(error, HarnessError) and not results:
            raise
        complain(str(error))
        return results, error.exit_code
    return results, None


def _results(
    plan: Plan,
    request: Request,
    on_progress: Callable[[Progress], None],
    runs: list[CandidateRun],
    runtime: Runtime | Engine | None,
    machines: Machines | None,
) -> Iterator[CandidateResult]:
    """The results as they come; ``runs`` gets what they were made of."""
    if request.simulate:
        from evaluator.simulate import simulate

        return simulate(plan, on_progress)
    from evaluator.assemble import Assembling
    from evaluator.campaign import evaluate as run_campaign

    assembled = Assembling()

    def keep(run: CandidateRun, plan: Plan) -> CandidateResult:
        runs.append(run)
        return assembled(run, plan)

    if machines is not None:
        from evaluator.vm_run import evaluate as run_elsewhere

        return run_elsewhere(plan, machines, on_progress, keep)
    if runtime is not None:
        from evaluator.runtime_run import evaluate as run_contained

        return run_contained(plan, runtime, on_progress, keep)
    return run_campaign(plan, on_progress, keep)


def _run(
    request: Request,
    plan: Plan,
    where: Environment,
    results: list[CandidateResult],
    started: float,
    stopped: int | None,
) -> Run:
    from datetime import UTC, datetime

    from attacks import library
    from evaluator.assemble import gates, run_exit_code
    from evaluator.records import Run, Tool
    from evaluator.verdict import FailOn

    named = {one.label for one in plan.families} if request.families else set[str]()
    must_hold = named.union(plan.objective.families if plan.objective else ())
    judged = gates(
        results,
        families=sorted(must_hold),
        workloads=plan.objective.workloads if plan.objective else (),
        fail_on=[FailOn(one) for one in request.fail_on],
    )
    return Run(
        tool=Tool("sidestep", own_version()),
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        duration_s=round(time.time() - started, 6),
        exit_code=run_exit_code(results, judged) if stopped is None else stopped,
        arguments=tuple(sys.argv[1:]),
        environment=where,
        suite=request.suite or library.SUITE,
        objective=request.objective,
        assume=tuple(sorted(plan.assume)),
        gates=judged,
        candidates=tuple(results),
        simulated=request.simulate,
    )


def _in_pieces(document: dict[str, Any]) -> Iterator[str]:
    """As ``json.dumps``, one candidate after the other: of thousands no text holds them all."""
    opening = "{"
    for key, value in document.items():
        yield f"{opening}{json.dumps(key)}: "
        opening = ", "
        if key != "candidates":
            yield json.dumps(value)
            continue
        for place, one in enumerate(value):
            yield ("[" if not place else ", ") + json.dumps(one)
        yield "]" if value else "[]"
    yield "}"


def _publish(request: Request, run: Run) -> int:
    """Files first, as they are what must not get lost; then the terminal in any case."""
    from evaluator.records import document
    from reports.errors import ReportError

    written = document(run)
    lost: ReportError | None = None
    if request.output is not None:
        from reports.files import write

        try:
            write(written, request.output)
        except ReportError as error:
            lost = error
    if request.prints_json:
        say_pieces(_in_pieces(written))
    else:
        from evaluator.table import show

        with page() as console:
            show(console, written)
            if request.output is not None and lost is None:
                console.print(f"\nwritten to {request.output}", markup=False, soft_wrap=True)
    if lost is not None:
        raise InputError(str(lost)) from lost
    return run.exit_code
