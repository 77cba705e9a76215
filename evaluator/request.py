"""From the options of ``sidestep evaluate`` to the plan of a campaign."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from attacks import library
from attacks.family import Assumption, FamilyInstance
from evaluator import process
from evaluator.errors import EnvironmentLackError, InputError
from evaluator.inputs import changed_since, expanded, named
from evaluator.objectives import objective, unknown
from evaluator.options import POSTURES, RUNTIME_MODELS, node_setup
from evaluator.plan import Plan, Rewrites
from evaluator.posture import posture
from evaluator.records import PROFILE_TEXT_LIMIT
from evaluator.sandbox import check_target
from evaluator.terminal import complain
from evaluator.verdict import FailOn
from evaluator.workloads import DEFAULTS, chosen
from mitigations.candidate import Candidate, FailedCandidate, ProfileError

if TYPE_CHECKING:
    from mitigations.load import Meaning, OnFile


_MOST_OF_A_FILE = 50
VM = "vm"
"""The ``--runtime`` that is a virtual machine."""


class Request(Struct, frozen=True, kw_only=True):
    """The options of ``evaluate``, still as the user wrote them."""

    paths: tuple[str, ...]
    meaning: Meaning
    runtime_model: str
    posture: str
    families: list[str]
    objective: str | None
    workloads: list[str]
    assume: list[str]
    suite: str | None
    fail_on: list[str]
    jobs: int | None
    repeats: int
    timeout: float
    fast_path: bool
    exhaustive: bool
    simulate: bool
    search: float
    form: str
    as_json: bool
    output: str | None
    changed_since: str | None = None
    pids: tuple[int, ...] = ()
    runtime: str = "native"
    kernel: str | None = None
    """The package of the kernel that a virtual machine boots; None: the usual one."""
    endpoint: str | None = None
    """The socket of a CRI runtime."""
    start: bool = False
    """Whether a CRI runtime is started for this."""
    ambient: bool = False
    control: str | None = None
    """The pack that an ambient run takes its programs and its control from; with ``unpack``,
    the results that are its control."""
    pack: str | None = None
    unpack: str | None = None

    @property
    def prints_json(self) -> bool:
        return self.as_json or self.form == "json"


def plan(request: Request) -> Plan:
    """What to run; an ``InputError`` where the options make no sense."""
    if math.isnan(request.timeout):
        raise InputError("--timeout: nan is no number of seconds")
    if math.isnan(request.search):
        raise InputError("--search: nan is no number of seconds")
    if request.simulate and request.search:
        raise InputError("--simulate runs nothing, and --search runs programs: choose one")
    if request.simulate and request.workloads:
        raise InputError("--simulate runs nothing, and --workload runs programs: choose one")
    _check_runtime(request)
    _check_known(list(FailOn), request.fail_on, "condition")
    _check_known(list(Assumption), request.assume, "assumption")
    goal = objective(request.objective) if request.objective is not None else None
    # An objective says what must hold; `--family` narrows what runs, but not below that.
    named = [*request.families, *(goal.families if goal and request.families else ())]
    candidates = _candidates(request)
    return Plan(
        candidates=candidates,
        families=families(named, request.suite or library.SUITE),
        workloads=chosen([*DEFAULTS, *request.workloads, *(goal.workloads if goal else ())]),
        objective=goal,
        posture=request.posture,
        assume=frozenset(Assumption(one) for one in request.assume),
        jobs=request.jobs or len(os.sched_getaffinity(0)),
        repeats=request.repeats,
        timeout_s=request.timeout,
        fast_path=request.fast_path,
        rewrites=Rewrites.ALL if request.exhaustive else Rewrites.SAMPLED,
        with_steps=request.prints_json or request.output is not None,
        suite=frozenset(library.suite(request.suite or library.SUITE).variants),
        sources=_texts(candidates),
    )


def _check_runtime(request: Request) -> None:
    """What a container runtime or a virtual machine cannot be asked for."""
    if request.kernel is not None and request.runtime != VM:
        raise InputError(f"--kernel chooses what a virtual machine boots: add --runtime {VM}")
    if request.start and request.runtime != "cri":
        raise InputError("--start starts a containerd: add --runtime cri")
    if request.runtime == "native":
        return
    for given, option in (
        (request.simulate, "--simulate"),
        (request.search, "--search"),
        (request.workloads, "--workload"),
        (request.exhaustive and request.runtime != VM, "--exhaustive"),
        (request.pids, "--pid"),
    ):
        if given:
            raise InputError(f"--runtime {request.runtime} does not take {option}: leave one out")
    if request.runtime == VM and request.exhaustive and not request.families:
        raise InputError(
            f"--runtime {VM} --exhaustive: in an emulated machine all rewrites of all families "
            "would run for an hour: name families with --family"
        )
    if request.runtime == VM and request.jobs not in (None, 1):
        raise InputError(f"--runtime {VM} has one machine for all trials: leave --jobs out")


def _check_known(known: Sequence[str], values: Sequence[str], kind: str) -> None:
    for value in values:
        if value not in known:
            raise InputError(unknown(kind, value, list(known)))


def families(
    references: Sequence[str], suite: str | None = None, *, exhaustive: bool = False
) -> tuple[FamilyInstance, ...]:
    """The families named, or all of them; with a suite, only the variants that it holds.

    ``exhaustive`` adds what every rewrite makes of them.
    """
    if references:
        chosen = [library.parse_reference(reference) for reference in references]
        for instance in chosen:
            check_target(instance.effect.parent)
    else:
        chosen = [family.default for family in library.load_families().values()]
    distinct = tuple({instance.label: instance for instance in chosen}.values())
    if exhaustive:
        distinct = tuple(_with_derived(instance) for instance in distinct)
    if suite is None:
        return distinct
    frozen = library.suite(suite).variants.keys()
    held = [instance.only(frozen) for instance in distinct]
    for instance in held:
        if references and not instance.size:
            raise InputError(
                f"suite {suite} holds nothing of family {instance.family.name}: a new family is in "
                "the next suite (docs/adding-a-variant.md)"
            )
    return tuple(instance for instance in held if instance.size)


def _with_derived(instance: FamilyInstance) -> FamilyInstance:
    # Half a second of rewriting that only this needs.
    from evaluator.derived import rewritten

    return replace(instance, made=tuple(rewritten(instance)))


def _candidates(request: Request) -> tuple[Candidate | FailedCandidate, ...]:
    """All candidates of all paths; what cannot be loaded stays among them as failed."""
    # It loads libseccomp, which listing attacks does not need.
    from evaluator.findings import with_findings

    found: list[Candidate | FailedCandidate] = []
    paths: Sequence[str] = _expanded(request.paths, found)
    if request.changed_since is not None:
        paths = changed_since(request.changed_since, paths, partial(_made_of, request))
    given = (*paths, *(f"pid:{pid}" for pid in request.pids))
    how = (request.meaning, request.runtime_model, request.posture)
    found += all_of(given, *how, finish=with_findings)
    return with_distinct_names(found)


def all_of(
    paths: Iterable[str],
    meaning: Meaning = "auto",
    runtime_model: str = RUNTIME_MODELS[0],
    stance: str = POSTURES[0],
    *,
    finish: Callable[[Candidate], Candidate] = lambda one: one,
) -> Iterator[Candidate | FailedCandidate]:
    """The candidates of all paths, in their order; one that cannot be loaded is a failed one."""
    for path in paths:
        try:
            loaded = _load(path, meaning, runtime_model, stance)
            yield from [finish(one) if isinstance(one, Candidate) else one for one in loaded]
        except ProfileError as error:
            yield FailedCandidate(Path(path).stem or path, path, error)
        except OSError as error:  # a name that no file can have
            why = ProfileError(error.strerror or str(error), code="unreadable")
            yield FailedCandidate(Path(path).stem or path, path, why)


def candidates_of(
    paths: Sequence[str], *, meaning: Meaning, runtime_model: str, stance: str
) -> tuple[Candidate | FailedCandidate, ...]:
    """All candidates of files and directories; what is of no use in a directory stays as failed.

    ``InputError`` for a path that holds nothing at all, or a file that cannot be used.
    """
    found: list[Candidate | FailedCandidate] = []
    for path in expanded(paths):
        try:
            loaded = _load(path, meaning, runtime_model, stance)
        except ProfileError as error:
            raise InputError(_at(path, error)) from None
        if not loaded:
            raise InputError(f"{path}: holds no candidate")
        found += loaded
    return with_distinct_names(found)


def _expanded(paths: Sequence[str], failed: list[Candidate | FailedCandidate]) -> list[str]:
    """The paths that patterns stand for; a pattern for nothing is a candidate that failed."""
    found: list[str] = []
    for path in paths:
        try:
            found += expanded([path])
        except ProfileError as error:
            failed.append(FailedCandidate(path, path, error))
    return found


def _load(
    given: str,
    meaning: Meaning,
    runtime_model: str,
    stance: str,
    on_file: OnFile = lambda _: None,
) -> list[Candidate | FailedCandidate]:
    """The candidates of a path, or the one of them that is named behind a ``#``."""
    from evaluator.installed_systemd import facts
    from mitigations.libseccomp import LibseccompMissing
    from mitigations.load import is_own_result, load

    pid = process.pid_of(given)
    if pid is not None:
        return [process.candidate(process.read(pid))]
    wanted = named(given)
    try:
        loaded = load(
            _path(wanted.path),
            meaning=meaning,
            runtime=runtime_model,
            capabilities=posture(stance).capabilities,
            setup=node_setup(),
            known_to_systemd=facts,
            on_file=on_file,
        )
    except LibseccompMissing as error:
        raise EnvironmentLackError(str(error)) from error
    folder = _path(wanted.path)
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    own = [one.name for one in inside if is_own_result(one)]
    if own:
        complain(f"{wanted.path}: left out, as sidestep wrote it: {', '.join(own)}")
    if not wanted.name:
        return loaded
    found = [one for one in loaded if one.name == wanted.name]
    if not found:
        names = [one.name for one in loaded]
        raise ProfileError(unknown("candidate", wanted.name, names), code="no-such-candidate")
    return found


def _made_of(request: Request, given: str) -> list[Path]:
    """The files that a candidate's file refers to, as far as it can be read."""
    found: list[Path] = []
    with suppress(ProfileError, OSError):
        _load(given, request.meaning, request.runtime_model, request.posture, found.append)
    return found


def _path(given: str) -> Path:
    if not given:
        raise ProfileError("an empty path", code="empty-path")  # Path("") would be "."
    return Path(given)


def with_distinct_names(
    candidates: Sequence[Candidate | FailedCandidate],
) -> tuple[Candidate | FailedCandidate, ...]:
    """What is called alike is told apart by its file, and within one file by a number."""
    names = Counter(one.name for one in candidates)
    in_source = Counter((one.name, one.source) for one in candidates)
    of_source = Counter(one.source for one in candidates)
    taken: set[str] = set()
    distinct: list[Candidate | FailedCandidate] = []
    for candidate in candidates:
        name, source = candidate.name, candidate.source
        wanted = name
        if names[name] > in_source[name, source]:
            alone = of_source[source] == in_source[name, source]
            wanted = source if alone else f"{source}#{name}"
        distinct.append(replace(candidate, name=_free(wanted, taken)))
    return tuple(distinct)


def _free(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted} ({number})", number + 1
    taken.add(name)
    return name


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _texts(candidates: Sequence[Candidate | FailedCandidate]) -> dict[str, str]:
    """The beginning of each file; one with a crowd of candidates would be kept that often."""
    counts = Counter(one.source for one in candidates)
    few = [source for source, count in counts.items() if count <= _MOST_OF_A_FILE]
    return {source: text for source in few if (text := text_of(source))}


def text_of(source: str) -> str:
    """The beginning of a candidate's file, for the report; a raw program has no text."""
    path = Path(source)
    try:
        if not path.is_file():
            return ""  # a pipe was read to its end; a FIFO would keep us for ever
        # Some files of /proc would keep a reader for ever.
        with open(path, "rb", buffering=0, opener=_without_waiting) as file:
            content = file.read(PROFILE_TEXT_LIMIT) or b""
    except OSError:
        return ""
    return "" if b"\0" in content else content.decode("utf-8", errors="replace")


def filters_alone(candidate: Candidate, command: str) -> Candidate:
    """The candidate; ``InputError`` if it has a layer that such a command knows nothing of."""
    if not candidate.seccomp_only:
        raise InputError(
            f"{candidate.source}: {command} is for filters alone, and this candidate has "
            f"other layers: {kinds_beside(candidate)}"
        )
    return candidate


def kinds_beside(candidate: Candidate) -> str:
    """The kinds of its layers that are no filters: ``capabilities, landlock``."""
    return ", ".join(dict.fromkeys(one.kind for one in candidate.beside_filters))


def candidate_of(
    path: str,
    *,
    meaning: Meaning = "auto",
    runtime_model: str = RUNTIME_MODELS[0],
    stance: str = POSTURES[0],
) -> Candidate:
    """The one candidate of a file; ``InputError`` if it cannot be used, or is not one."""
    try:
        _refuse_directory(path)
        loaded = _load(path, meaning, runtime_model, stance)
    except ProfileError as error:
        raise InputError(_at(path, error)) from None
    if len(loaded) > 1:
        names = ", ".join(one.name for one in loaded[:4]) + (", ..." if len(loaded) > 4 else "")
        raise InputError(
            f"{path}: holds {len(loaded)} candidates ({names}): name one of them, as "
            f"{path}#{loaded[0].name}"
        )
    (one,) = loaded
    if not isinstance(one, Candidate):
        raise InputError(_at(path, one.error))
    return one


def _at(path: str, error: ProfileError) -> str:
    """The error with its file, which an error of a manifest has already."""
    return str(error) if str(error).startswith(f"{named(path).path}:") else f"{path}: {error}"


def _refuse_directory(path: str) -> None:
    """Before any of its files is read: a directory may hold thousands."""
    from mitigations.load import profiles_in

    folder = _path(named(path).path)
    count = len(profiles_in(folder)) if folder.is_dir() else 1
    if count > 1:
        raise InputError(f"{path}: holds {count} candidates: name one file")
