"""Workloads in both arms, and the calls that a candidate must not deny them.

A workload is exec'ed under the candidate exactly as a container's entry point is.  The customer of
a service is a shell beside it, in the same namespaces and unconfined.  Which denial breaks a
workload is proved like everything else: with that call allowed it works, without it it does not.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path, PurePosixPath

from msgspec import Struct
from msgspec.structs import replace

from attacks.effects import Object, ObjectKind
from attacks.program import Addr, Blob, Const, Operation, Program, Slot, Store, Syscall
from evaluator import diagnosis, enforcement, self_filter
from evaluator.enforcement import Applied
from evaluator.errors import HarnessError, InputError
from evaluator.pool import Arm, Pool
from evaluator.posture import posture
from evaluator.records import WorkloadOutcome, WorkloadRecord
from evaluator.sandbox import runner_path
from evaluator.self_filter import Check
from evaluator.wire import (
    KILLED,
    ConfigSpec,
    Denied,
    Filter,
    ProgramFlag,
    ProgramSpec,
    RecordState,
    Result,
    RunFlag,
    signal_name,
)
from evaluator.workloads import PATH, Service, Workload, found
from evaluator.workloads import Program as From
from mitigations import classic, x86_64
from mitigations.candidate import Attachment, Candidate

Ran = Result | Check | str
"""What came of one run; text where the harness failed."""
_HOME = "/work/w"
_BESIDE = "o"
_PRINTED = f"{_BESIDE}/out"
"""Where it prints to: a directory that stays writable below a read-only root, as a pipe would."""
_BUNDLED = f"{_HOME}/.program"
_CLONE_NEWIPC, _CLONE_NEWNET = 0x08000000, 0x40000000
_READY = b"ready\n"
_ROUNDS = 64
_BLAME_S, _ALL_BLAME_S = 20.0, 40.0
"""For the search for what breaks one workload, and all of them."""
_TRACED = 2
"""A program that is traced takes so many times as long."""
_LEAST_LATENCY_S, _LATENCIES, _PATIENCE = 0.2, 10, 3
_OUTPUT_KEPT = 2000
_FILE_LIMIT = "it wrote more than 32 MiB to one file"


def run_workloads(
    pool: Pool,
    wanted: Sequence[Workload],
    applied: Applied,
    on_done: Callable[[int], None],
    controls: dict[str, tuple[Ran, ...]] | None = None,
    specs: dict[str, ProgramSpec] | None = None,
    *,
    with_blame: bool = True,
) -> tuple[WorkloadRecord, ...]:
    """Each workload in both arms, in order; a program that fails for once is no evidence.

    ``controls`` keeps the control arm of a posture for the next candidate; what is broken has its
    own run again.  ``specs`` keeps the programs.  ``with_blame``: whether what breaks one is
    searched for.
    """
    here = _Here(pool, applied, {} if specs is None else specs, with_blame=with_blame)
    able = [one for one in wanted if not lacking(pool, one)]
    on_done(len(wanted) - len(able))
    controls = {} if controls is None else controls
    controls |= here.twice([one for one in able if one.name not in controls], applied.control, {})
    fair = [one for one in able if not trouble(one, controls[one.name][-1])]
    on_done(len(able) - len(fair))
    mitigated = here.twice(fair, applied.config, controls) if applied.loads else {}
    records = {one.name: here.record(one, controls.get(one.name, ()), ()) for one in wanted}

    def judge(one: Workload) -> WorkloadRecord:
        runs = mitigated.get(one.name, ("the candidate does not load",))
        record = here.record(one, controls[one.name], runs)
        on_done(1)
        return record

    # What breaks one is asked again and again: the runners are shared out among several.
    with ThreadPoolExecutor(pool.size) as threads:
        try:
            records.update((each.workload, each) for each in threads.map(judge, fair))
        except BaseException:
            pool.close()  # or Ctrl-C would wait for what they have in hand
            raise
    return tuple(records[one.name] for one in wanted)


def in_sandbox(
    wanted: Sequence[Workload],
    candidate: Candidate | None,
    stance: str,
    on_done: Callable[[int], None],
) -> tuple[WorkloadRecord, ...]:
    """The same in a sandbox of its own; without a candidate both arms are the control.

    ``InputError`` if nothing can be exec'ed under the candidate, ``EnvironmentLackError`` where
    there can be no sandbox, ``HarnessError`` if it is lost.
    """
    if candidate and candidate.attachment is Attachment.SELF:
        raise InputError(
            f"{candidate.source}: a filter that a program puts on itself: no workload is started "
            "under it"
        )
    nothing = Candidate("unconfined", "", (), Attachment.RUNTIME, "")
    with Pool(len(os.sched_getaffinity(0))) as pool:
        applied = enforcement.apply(pool, candidate or nothing, posture(stance))
        return run_workloads(pool, wanted, applied, on_done)


def lacking(pool: Pool, one: Workload) -> str:
    """Why a workload cannot run here; empty if it can."""
    missing = one.missing()
    if missing:
        return f"not installed: {', '.join(missing)}"
    if one.needs_ids and pool.first.id_map == 1:
        return "it changes its user, and the sandbox of an ordinary user has a single one"
    if one.program is From.SOCKETCALL and not _socketcall().is_file():
        return "the compiler made no 32-bit program when sidestep was built"
    return ""


class _Here:
    """The sandbox with its two arms, and what is known of each workload in it."""

    def __init__(
        self,
        pool: Pool,
        applied: Applied,
        specs: dict[str, ProgramSpec],
        *,
        with_blame: bool,
    ) -> None:
        self._pool = pool
        self._applied = applied
        self._with_blame = with_blame
        self._specs = specs
        self._until = time.monotonic() + _ALL_BLAME_S

    def twice(
        self,
        wanted: Sequence[Workload],
        config: ConfigSpec,
        controls: Mapping[str, Sequence[Ran]],
    ) -> dict[str, tuple[Ran, ...]]:
        """One run of each, and a second one where the first shows anything but a success."""
        first = self._run(wanted, config, controls, _LATENCIES)
        again = [one for one in wanted if trouble(one, first[one.name])]
        second = self._run(again, config, controls, _PATIENCE * _LATENCIES)
        return {
            name: (result, second[name]) if name in second else (result,)
            for name, result in first.items()
        }

    def _run(
        self,
        wanted: Sequence[Workload],
        config: ConfigSpec,
        controls: Mapping[str, Sequence[Ran]],
        latencies: int,
    ) -> dict[str, Ran]:
        bounds = {one.name: _bound(one, controls.get(one.name, ()), latencies) for one in wanted}
        plain = [one for one in wanted if one.program is not From.SELF_FILTER]
        arms = [self._arm(one, config, bounds[one.name]) for one in plain]
        found: dict[str, Ran] = {
            one.name: ran for one, ran in zip(plain, self._pool.run(arms), strict=True)
        }
        found |= {one.name: self._check(config) for one in wanted if one not in plain}
        return {one.name: found[one.name] for one in wanted}

    def _check(self, config: ConfigSpec) -> Check | str:
        try:
            return self_filter.run(self._pool, config, self._applied.control)
        except HarnessError as error:
            return str(error)

    def _arm(
        self, one: Workload, config: ConfigSpec, bound_s: float, flags: RunFlag = RunFlag.NONE
    ) -> Arm:
        if one.name not in self._specs:
            self._specs[one.name] = spec_of(one)
        return Arm(self._specs[one.name], config, self._applied.control, int(bound_s * 1e6), flags)

    def try_(self, one: Workload, config: ConfigSpec, bound_s: float) -> str:
        if one.program is From.SELF_FILTER:
            return trouble(one, self._check(config))
        (result,) = self._pool.run([self._arm(one, config, bound_s)])
        return trouble(one, result)

    def record(
        self,
        one: Workload,
        controls: Sequence[Ran],
        runs: Sequence[Ran],
    ) -> WorkloadRecord:
        """What both arms say together; ``runs`` are the mitigated ones."""
        absent = lacking(self._pool, one)
        fault = absent or (trouble(one, controls[-1]) if controls else "")
        base = WorkloadRecord(one.name, one.title, works=False, works_in_control=not fault)
        if fault:
            reason = absent or f"it does not work without the candidate either: {fault}"
            return replace(base, outcome=WorkloadOutcome.UNAVAILABLE, reason=reason)
        if not runs:
            return base
        base = replace(base, output=_output(runs[-1])[-_OUTPUT_KEPT:])
        broken = trouble(one, runs[-1])
        if isinstance(runs[-1], str) and self._applied.loads:
            return _unstable(base, f"nothing is known, as there was no result twice: {broken}")
        first = next(
            (said for said in (trouble(one, run) for run in (*controls, *runs)) if said), ""
        )
        if not broken and not first:
            return replace(base, outcome=WorkloadOutcome.WORKS, works=True)
        if not broken:
            return _unstable(base, f"it failed once and worked once: {first}")
        return self._broken(one, base, broken, _bound(one, controls, _LATENCIES))

    def _broken(
        self, one: Workload, base: WorkloadRecord, said: str, bound_s: float
    ) -> WorkloadRecord:
        if not self._applied.loads:
            return replace(base, outcome=WorkloadOutcome.BROKEN, reason=said)
        again = self.try_(one, self._applied.control, one.deadline)
        if again:
            return _unstable(
                base, f"it worked once without the candidate, and then no more: {again}"
            )
        denied, needed = self._blamed(one, bound_s)
        if not denied and self._would_tell():
            return _unstable(base, f"it failed twice, and nothing was denied: {said}")
        calls = ", ".join(diagnosis.call_name(each) for each in needed)
        named = f"; with {calls} allowed it works" if needed else ""
        first = f"; first denied: {diagnosis.in_words(denied[:1])}" if denied else ""
        return replace(
            base,
            outcome=WorkloadOutcome.BROKEN,
            reason=f"{said}{first}{named}",
            denied=tuple(diagnosis.stopped_at(each) for each in denied),
            needs=tuple(diagnosis.stopped_at(each) for each in needed),
        )

    def _blamed(self, one: Workload, bound_s: float) -> tuple[Sequence[Denied], Sequence[Denied]]:
        """What it is denied, and what of that it cannot do without."""
        config = self._applied.config
        if not self._with_blame:
            return self.denied(one, config, _TRACED * bound_s), ()
        until = min(self._until, time.monotonic() + _BLAME_S)
        return _Blame(self, one, config, bound_s, until).found()

    def _would_tell(self) -> bool:
        """Whether a denial is all that can break a workload, and a diagnosis would show it."""
        config, control = self._applied.config, self._applied.control
        filters_alone = replace(config, filters=()) == replace(control, filters=())
        return filters_alone and diagnosis.trapping(config) is not None

    def denied(self, one: Workload, config: ConfigSpec, bound_s: float) -> Sequence[Denied]:
        """What a configuration's filters deny the workload, each call once, in order."""
        if one.program is From.SELF_FILTER:
            return _refused(self._check(config))
        traps = diagnosis.trapping(config)
        if traps is None:
            return ()
        (result,) = self._pool.run([self._arm(one, traps, bound_s, RunFlag.DIAGNOSE)])
        if isinstance(result, str):
            return ()
        first: dict[tuple[int, int], Denied] = {}
        for each in result.denied:
            first.setdefault((each.arch, each.nr), each)
        return tuple(first.values())


def _unstable(base: WorkloadRecord, reason: str) -> WorkloadRecord:
    unstable = WorkloadOutcome.UNSTABLE
    return replace(base, outcome=unstable, works_in_control=False, reason=reason)


class _Blame(Struct):
    """The search for the denials that break a workload."""

    here: _Here
    one: Workload
    config: ConfigSpec
    bound_s: float
    until: float
    """By time.monotonic(): then what is known has to do."""

    def found(self) -> tuple[tuple[Denied, ...], tuple[Denied, ...]]:
        """All denials that were met, and those without which the workload works.

        What is denied after another denial was lifted shows only then: a program dies of the first.
        """
        met: dict[tuple[int, int], Denied] = {}
        for _ in range(_ROUNDS):
            config = lifted(self.config, met)
            new = [
                each
                for each in self.here.denied(self.one, config, _TRACED * self.bound_s)
                if (each.arch, each.nr) not in met
            ]
            met.update({(each.arch, each.nr): each for each in new})
            if not new or time.monotonic() > self.until:
                break
            if not self._fails(met):
                return tuple(met.values()), self._fewest(met)
        return tuple(met.values()), ()

    def _fails(self, calls: Iterable[tuple[int, int]]) -> bool:
        return bool(self.here.try_(self.one, lifted(self.config, calls), self.bound_s))

    def _fewest(self, met: Mapping[tuple[int, int], Denied]) -> tuple[Denied, ...]:
        """Those of the calls that are needed: without any of them it does not work.

        Empty where the time did not suffice to leave out what is not needed.
        """
        kept = dict(met)
        for call in reversed(tuple(met)):
            rest = {other: each for other, each in kept.items() if other != call}
            if time.monotonic() > self.until:
                return ()
            if rest and not self._fails(rest):
                kept = rest
        return tuple(kept.values())


def lifted(config: ConfigSpec, calls: Iterable[tuple[int, int]]) -> ConfigSpec:
    """The configuration with some calls, as (arch, nr), allowed before any filter judges."""
    head = _allowing(tuple(calls))
    filters = tuple(
        Filter(classic.pack((*head, *classic.unpack(one.program))), one.flags)
        for one in config.filters
    )
    return replace(config, filters=filters)


def _allowing(calls: Sequence[tuple[int, int]]) -> Sequence[classic.Instruction]:
    equal = classic.JMP | classic.JEQ | classic.K
    allow = classic.Instruction(classic.RETURN_K, 0, 0, classic.Action.ALLOW)
    head: list[classic.Instruction] = []
    for arch, nr in calls:
        head += [
            classic.Instruction(classic.LOAD_WORD, 0, 0, 4),
            classic.Instruction(equal, 0, 3, arch),
            classic.Instruction(classic.LOAD_WORD, 0, 0, 0),
            classic.Instruction(equal, 0, 1, nr & 0xFFFFFFFF),
            allow,
        ]
    # The kernel starts a filter with A = 0.
    return (*head, classic.Instruction(classic.LD | classic.IMM, 0, 0, 0)) if head else ()


def _bound(one: Workload, controls: Sequence[Ran], latencies: int) -> float:
    """Seconds to wait: so many times what the control took, where there is one that worked."""
    last = controls[-1] if controls else ""
    if not isinstance(last, Result):
        return one.deadline
    return min(one.deadline, latencies * max(_LEAST_LATENCY_S, last.latency_us / 1e6))


# ------------------------------------------------------------------ what a run says


def trouble(one: Workload, result: Ran) -> str:
    """Why a run does not count as working; empty if it does."""
    if isinstance(result, str):
        return result
    if isinstance(result, Check):
        return result.reason
    said = _trouble_of_run(one, result)
    return f"it filled the 64 MiB of its disk; {said}" if said and result.filled else said


def _trouble_of_run(one: Workload, result: Result) -> str:
    execve = result.records[-1]
    if execve.error:
        return f"execve answered {os.strerror(execve.error)}"
    if execve.state is not RecordState.STARTED:
        return "execve came back, and no program was run"
    if one.service is not None:
        return _trouble_of_service(one.service, result)
    if result.timed_out:
        return "it did not end in time"
    if result.wait_status:
        return _ending(result)
    return _difference("printed", one.stdout, _output(result))


def _trouble_of_service(service: Service, result: Result) -> str:
    ready = result.receipt.startswith(_READY)
    if not result.served:
        if result.timed_out:
            return "it did not answer in time" if ready else "it did not become ready in time"
        if result.wait_status:
            return _ending(result)
        return "it ended before it was used (a service that forks into the background must not)"
    if result.customer_status:
        return f"the request failed{_last_line(_answer(result))}"
    difference = _difference("answered", service.answer, _answer(result))
    if difference:
        return difference
    if result.timed_out:
        return f"it did not end within 5 s of {service.stop}"
    stop = signal.Signals[service.stop]
    in_order = (0, stop, (128 + stop) << 8)
    return "" if result.wait_status in in_order else f"after {service.stop}: {_ending(result)}"


def _difference(verb: str, wanted: str | None, got: str) -> str:
    """The first line that is not as it should be."""
    if wanted is None or got == wanted:
        return ""
    pairs = zip_longest(wanted.splitlines(), got.splitlines(), fillvalue="nothing")
    first = next((pair for pair in pairs if pair[0] != pair[1]), ("", "the same without its end"))
    return f"it {verb} {first[1][:200]!r} instead of {first[0][:200]!r}"


def _ending(result: Result) -> str:
    if result.signal == signal.SIGXFSZ:
        return _FILE_LIMIT
    if result.signal:
        return f"it was killed by {signal_name(result.signal)}{_last_line(_output(result))}"
    return f"it exited with {result.wait_status >> 8 & 0xFF}{_last_line(_output(result))}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f": {lines[-1][:200]}" if lines else ""


def _output(result: Ran) -> str:
    return result.collected.decode(errors="replace") if isinstance(result, Result) else ""


def _refused(ran: Check | str) -> tuple[Denied, ...]:
    """What the check of a self-filtering program was refused, by what its steps say."""
    found: list[Denied] = []
    bad = (self_filter.Verdict.FAILED, self_filter.Verdict.FALLS_BACK)
    for step in () if isinstance(ran, str) else ran.steps:
        nr = x86_64.number("x86_64", step.call.partition("(")[0])
        if step.verdict in bad and nr is not None:
            answer = getattr(errno, step.answer, 0 if step.answer.isdecimal() else KILLED)
            found.append(Denied(nr, x86_64.AUDIT_ARCH_X86_64, answer, True, ()))
    return tuple({each.nr: each for each in reversed(found)}.values())[::-1]


def _answer(result: Result) -> str:
    return result.receipt.removeprefix(_READY).decode(errors="replace")


# ------------------------------------------------------------------ as the runner gets it


def spec_of(one: Workload, recorder: bytes = b"") -> ProgramSpec:
    """The workload as a program that ends in execve, with its customer.

    With ``recorder``, what is exec'ed is the runner, which starts the workload as this tells it to
    (``evaluator.record.encode``), notes what it calls, and ends as it does.
    """
    objects = [Object(ObjectKind.DIRECTORY, each, 0o755) for each in ("d", "w", _BESIDE)]
    parents = {parent for name in one.files for parent in PurePosixPath(name).parents}
    objects += [
        Object(ObjectKind.DIRECTORY, f"w/{parent}", 0o755)
        for parent in sorted(parents - {PurePosixPath()})
    ]
    for name, text in one.files.items():
        mode = 0o755 if text.startswith("#!") else 0o644
        objects.append(Object(ObjectKind.FILE, f"w/{name}", mode, text.encode()))
    path, content = _entry(one)
    argv = one.command
    if content:
        objects.append(Object(ObjectKind.FILE, f"w/{Path(path).name}", 0o755, content))
    if recorder:
        runner = runner_path().read_bytes()
        objects.append(Object(ObjectKind.FILE, "recorder", 0o755, runner))
        objects.append(Object(ObjectKind.FILE, "recorder.config", 0o644, recorder))
        argv = ("runner", "record", "/work/recorder.config", "/work/report", path, *argv)
        path = "/work/recorder"
    serves = one.service is not None
    return ProgramSpec(
        program=_execve(path, argv, _environment(one), _PRINTED),
        objects=tuple(objects),
        flags=ProgramFlag.SWEEP | ProgramFlag.COLLECT | (ProgramFlag.CUSTOMER if serves else 0),
        fresh=_CLONE_NEWIPC | _CLONE_NEWNET,
        collect=_PRINTED,
        witness=_customer(one, one.service) if one.service else None,
        receipt="receipt",
        stop=stop_signal(one),
        report="report" if recorder else "",
    )


def stop_signal(one: Workload) -> int:
    """What a service gets when it was served; 0 for a program that ends by itself."""
    return signal.Signals[one.service.stop] if one.service else 0


def _entry(one: Workload) -> tuple[str, bytes]:
    """The path of the program in the sandbox, and its contents where it is ours."""
    match one.program:
        case From.STATIC_ENTRY:
            return _BUNDLED, static_entry()
        case From.SOCKETCALL:
            return _BUNDLED, _socketcall().read_bytes()
        case _:
            return found(one.command[0]) or one.command[0], b""


def _socketcall() -> Path:
    return runner_path().with_name("socketcall-i386")


def _environment(one: Workload) -> dict[str, str]:
    return {"PATH": PATH, "HOME": _HOME, "LC_ALL": "C", **one.env}


def _customer(one: Workload, service: Service) -> ProgramSpec:
    script = (
        f"while ! (\n{service.ready}\n) >/dev/null 2>&1; do sleep 0.02; done\n"
        f"echo {_READY.decode().strip()}\n{service.request}\n"
    )
    command = ("/bin/sh", "-c", script)
    return ProgramSpec(_execve("/bin/sh", command, _environment(one), "receipt"))


def _execve(path: str, argv: Sequence[str], env: Mapping[str, str], output: str) -> Program:
    """Output to a file, own directory, both before the filter; then execve under it."""
    texts = [path, *argv, *(f"{name}={value}" for name, value in env.items())]
    blobs = [
        Blob(text.encode() + b"\0", len(text.encode()) + 1, 1, text[:20])
        for text in (output, "w", *texts)
    ]
    vector = len(blobs)
    pointers = [index + 3 for index in range(len(texts) - 1)]
    blobs.append(Blob(b"", 8 * (len(pointers) + 2), 8, "argv"))
    flags = 0o1 | 0o100 | 0o2000  # O_WRONLY|O_CREAT|O_APPEND
    setup: list[Operation] = [
        Syscall("openat", (Const(-100, "AT_FDCWD"), Addr(0), Const(flags), Const(0o644))),
        Syscall("dup2", (Slot(0), Const(1))),
        Syscall("dup2", (Slot(0), Const(2))),
        Syscall("close", (Slot(0),)),
        Syscall("chdir", (Addr(1),)),
    ]
    for index, blob in enumerate(pointers):
        gap = index >= len(argv)  # a null ends argv
        setup.append(Store(Addr(vector), 8 * (index + gap), 8, Addr(blob)))
    execve = Syscall(
        "execve", (Addr(2), Addr(vector), Addr(vector, 8 * (len(argv) + 1))), decisive=True
    )
    return Program(blobs=tuple(blobs), setup=tuple(setup), attack=(execve,))


def static_entry() -> bytes:
    """A static ELF of a few bytes: exit_group(0), else exit(0)."""
    code = bytes.fromhex("31ff b8e7000000 0f05 31ff b83c000000 0f05 0f0b".replace(" ", ""))
    base, size = 0x400000, 64 + 56
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + size, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    total = size + len(code)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, total, total, 4096)
    return ident + header + segment + code
