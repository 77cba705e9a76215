"""From the options of ``sidestep evaluate`` to the plan of a campaign."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from attacks import library
from attacks.family import Assumption, FamilyInstance
from evaluator.errors import EnvironmentLackError, InputError
from evaluator.objectives import objective, unknown
from evaluator.options import POSTURES, RUNTIME_MODELS
from evaluator.plan import Plan, Rewrites
from evaluator.posture import posture
from evaluator.records import PROFILE_TEXT_LIMIT
from evaluator.sandbox import check_target
from evaluator.verdict import FailOn
from evaluator.workloads import DEFAULTS, chosen
from mitigations.candidate import Candidate, FailedCandidate, ProfileError

if TYPE_CHECKING:
    from mitigations.load import Meaning


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
        sources={one.source: text for one in candidates if (text := text_of(one.source))},
    )


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
    # Both load libseccomp, which listing attacks does not need.
    from evaluator.findings import with_findings
    from mitigations.libseccomp import LibseccompMissing
    from mitigations.load import load

    found: list[Candidate | FailedCandidate] = []
    for path in request.paths:
        try:
            loaded = load(
                _path(path),
                meaning=request.meaning,
                runtime=request.runtime_model,
                capabilities=posture(request.posture).capabilities,
            )
            found += [with_findings(one) if isinstance(one, Candidate) else one for one in loaded]
        except ProfileError as error:
            found.append(FailedCandidate(Path(path).stem or path, path, error))
        except OSError as error:  # a name that no file can have
            why = ProfileError(error.strerror or str(error), code="unreadable")
            found.append(FailedCandidate(Path(path).stem or path, path, why))
        except LibseccompMissing as error:
            raise EnvironmentLackError(str(error)) from error
    return _with_distinct_names(found)


def _path(given: str) -> Path:
    if not given:
        raise ProfileError("an empty path", code="empty-path")  # Path("") would be "."
    return Path(given)


def _with_distinct_names(
    candidates: Sequence[Candidate | FailedCandidate],
) -> tuple[Candidate | FailedCandidate, ...]:
    """Two files of one name are told apart by their paths, and one file given twice by a number."""
    names = [one.name for one in candidates]
    taken: set[str] = set()
    distinct: list[Candidate | FailedCandidate] = []
    for candidate in candidates:
        wanted = candidate.name if names.count(candidate.name) == 1 else candidate.source
        name, number = wanted, 2
        while name in taken:
            name, number = f"{wanted} ({number})", number + 1
        taken.add(name)
        distinct.append(replace(candidate, name=name))
    return tuple(distinct)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


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


def _refuse_several(path: Path) -> None:
    """Before any of them is read: a directory may hold thousands."""
    from mitigations.load import profiles_in

    count = len(profiles_in(path)) if path.is_dir() else 1
    if count > 1:
        raise InputError(f"{path}: holds {count} candidates: name one file")


def filters_alone(candidate: Candidate, command: str) -> Candidate:
    """The candidate; ``InputError`` if it has a layer that such a command knows nothing of."""
    if not candidate.seccomp_only:
        kinds = dict.fromkeys(one.kind for one in candidate.layers)
        others = [one for one in kinds if one not in ("seccomp", "no-new-privs")]
        raise InputError(
            f"{candidate.source}: {command} is for filters alone, and this candidate has "
            f"other layers: {', '.join(others)}"
        )
    return candidate


def candidate_of(
    path: str,
    *,
    meaning: Meaning = "auto",
    runtime_model: str = RUNTIME_MODELS[0],
    stance: str = POSTURES[0],
) -> Candidate:
    """The one candidate of a file; ``InputError`` if it cannot be used, or is not one."""
    from mitigations.libseccomp import LibseccompMissing
    from mitigations.load import load

    try:
        _refuse_several(_path(path))
        (one,) = load(
            _path(path),
            meaning=meaning,
            runtime=runtime_model,
            capabilities=posture(stance).capabilities,
        )
        if not isinstance(one, Candidate):
            raise one.error
    except ProfileError as error:
        raise InputError(f"{path}: {error}") from None
    except LibseccompMissing as error:
        raise EnvironmentLackError(str(error)) from error
    return one
