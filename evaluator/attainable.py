"""What each kind of layer makes of a family, and whether anything holds it while a shell works.

Only what is measured here has a word of its own.  seccomp: a profile that allows everything is
hardened with the family as the objective.  Capabilities and Landlock: the ways that work in a
posture are run again without any capability, and under a ruleset that denies all that Landlock can
but programs, libraries and the shell's own directory.  For the other kinds nothing can be put on a
subject yet, and that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from attacks import library
from attacks.family import FamilyInstance
from evaluator import campaign, enforcement
from evaluator.confinement import landlock_abi
from evaluator.drafts import Draft, draft_of
from evaluator.harden import Hardening, Terms
from evaluator.harden_records import Hardened
from evaluator.harden_report import hardened
from evaluator.layers import LayerKind
from evaluator.plan import Plan, Progress
from evaluator.pool import Pool
from evaluator.posture import NO_NEW_PRIVS, WITHOUT_CAPABILITIES
from evaluator.records import CandidateResult
from evaluator.verdict import WORKS_IN_CONTROL, Outcome, Scope
from evaluator.workloads import workload
from mitigations.candidate import Candidate, LandlockLayer, NoNewPrivsLayer
from mitigations.landlock_rights import FS, NET, SCOPE, everything, reading
from mitigations.load import LIBRARY

_ALLOW_ALL = LIBRARY / "unconfined.json"
_WORKLOAD = "shell-basics"
_POSTURES = ("container", "root")
"""The first one in which something works that counts."""
_WITHOUT = WITHOUT_CAPABILITIES.name
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/proc")


class Comes(StrEnum):
    """What a family comes to under a layer of some kind."""

    HOLDS = "holds"
    LEAKS = "leaks"
    """Some ways are stopped, and others are not."""
    CANNOT = "cannot"
    """No choice of changes holds it while the workload works; or no way is stopped."""
    NOT_TESTED = "not tested"


class Cell(Struct, frozen=True):
    """``why`` holds the evidence, or what keeps it from being tested."""

    comes: Comes
    why: str


class Row(Struct, frozen=True):
    """One family."""

    family: str
    title: str
    group: str
    posture: str
    """In which it was measured; empty where no way works here."""
    cells: Mapping[LayerKind, Cell]
    changes: tuple[str, ...] = ()
    """By which seccomp holds it."""

    @property
    def attainable(self) -> bool | None:
        """Whether something that was measured holds it; None if nothing could be measured."""
        measured = [one.comes for one in self.cells.values() if one.comes is not Comes.NOT_TESTED]
        return Comes.HOLDS in measured if measured else None


_NEVER_RUN = Cell(
    Comes.NOT_TESTED, "the call never runs: that it is reached says nothing of other layers"
)
_NO_WAY = "no way to it works on this machine"
UNMEASURED = {
    LayerKind.APPARMOR: Cell(Comes.NOT_TESTED, "tried in a virtual machine only (--runtime vm)"),
    LayerKind.NAMESPACE: Cell(
        Comes.NOT_TESTED, "both arms run in namespaces of their own: there is none to compare with"
    ),
}


def rows(
    families: Sequence[FamilyInstance],
    jobs: int,
    on_progress: Callable[[Progress], None] = lambda _: None,
    rounds: int = 30,
) -> Iterator[Row]:
    """A row for each family, in their order."""
    draft = draft_of(str(_ALLOW_ALL), "auto", "runc-1.1", _POSTURES[0])
    stances = (*_POSTURES, _WITHOUT, NO_NEW_PRIVS.name)
    results = {one: _run(draft.candidate, families, one, jobs) for one in stances}
    landlock = _landlocked(draft.candidate)
    locked = _run(landlock, families, NO_NEW_PRIVS.name, jobs) if landlock else None
    working = {
        stance: {one.family: one.working for one in result.families}
        for stance, result in results.items()
    }
    for number, family in enumerate(families):
        on_progress(Progress(family.label, number, len(families)))
        stance = next((one for one in _POSTURES if working[one][family.label]), "")
        if not stance:
            untested = Cell(Comes.NOT_TESTED, _NO_WAY)
            yield _row(family, "", dict.fromkeys(LayerKind, untested))
            continue
        ways = working[stance][family.label], working[_WITHOUT][family.label]
        never = family.family.reachability
        capability = (
            _NEVER_RUN
            if never
            else _without(*ways, "work without any capability", works=_shell(results[_WITHOUT]))
        )
        found = _hardened(draft, family, stance, jobs, rounds)
        cells = {
            LayerKind.SECCOMP: _seccomp(found),
            LayerKind.CAPABILITY: capability,
            LayerKind.LANDLOCK: _NEVER_RUN
            if never
            else _locked(family, results[NO_NEW_PRIVS.name], locked),
            **UNMEASURED,
        }
        lines = tuple(one.line for one in found.changes) if found.holds else ()
        yield _row(family, stance, cells, lines)


def _row(
    family: FamilyInstance,
    stance: str,
    cells: Mapping[LayerKind, Cell],
    changes: tuple[str, ...] = (),
) -> Row:
    kind = family.family
    return Row(family.label, kind.title, kind.group, stance, cells, changes)


def _run(
    candidate: Candidate, families: Sequence[FamilyInstance], stance: str, jobs: int
) -> CandidateResult:
    """What works in a posture under a candidate, or if nothing is denied."""
    plan = Plan(
        candidates=(candidate,),
        families=tuple(families),
        workloads=(workload(_WORKLOAD),),
        posture=stance,
        jobs=jobs,
        with_steps=False,
    )
    (result,) = campaign.evaluate(plan, lambda _: None)
    return result


def _landlocked(nothing: Candidate) -> Candidate | None:
    """A candidate under all that the kernel's Landlock can deny; None if it has none.

    Programs and libraries can be read, devices used, and a workload has its own directory.
    """
    with Pool(1) as pool:
        abi = landlock_abi(pool, enforcement.control_of(pool, NO_NEW_PRIVS))
    if not abi:
        return None
    fs = everything(FS, abi)
    devices = ("execute", "read_file", "read_dir", "write_file", "truncate", "ioctl_dev")
    ruleset = LandlockLayer(
        handled_fs=fs,
        handled_net=everything(NET, abi),
        scoped=everything(SCOPE, abi),
        path_rules=(
            *((path, reading(abi)) for path in _SYSTEM),
            ("/dev", sum(FS[name].bit for name in devices) & fs),
            ("/work/w", fs),
        ),
    )
    return replace(nothing, layers=(*nothing.layers, NoNewPrivsLayer(), ruleset))


def _shell(result: CandidateResult) -> bool:
    return {one.workload: one.works for one in result.workloads}[_WORKLOAD]


def _locked(family: FamilyInstance, free: CandidateResult, locked: CandidateResult | None) -> Cell:
    if locked is None:
        return Cell(Comes.NOT_TESTED, "this kernel has no Landlock")
    before = {
        one.variant
        for one in free.trials
        if one.family == family.label and one.scope is Scope.IN and one.outcome in WORKS_IN_CONTROL
    }
    if not before:
        return Cell(Comes.NOT_TESTED, "no way to it works with no_new_privs")
    left = {one.variant for one in locked.trials if one.outcome is Outcome.BYPASSED} & before
    return _without(len(before), len(left), "work under Landlock", works=_shell(locked))


def _without(before: int, left: int, how: str, *, works: bool) -> Cell:
    why = f"{left} of {before} ways {how}"
    if not works:
        return Cell(Comes.CANNOT, f"{why}, and {_WORKLOAD} does not")
    if not left:
        return Cell(Comes.HOLDS, why)
    return Cell(Comes.LEAKS if left < before else Comes.CANNOT, why)


def _hardened(
    draft: Draft, family: FamilyInstance, stance: str, jobs: int, rounds: int
) -> Hardened:
    terms = Terms(
        families=(family,),
        chosen=(workload(_WORKLOAD),),
        posture=stance,
        jobs=jobs,
        rounds=rounds,
        suite=frozenset(library.suite().variants),
    )
    one = Hardening(replace(draft, posture=stance), terms)
    one.run()
    return hardened(one, None)


def _seccomp(found: Hardened) -> Cell:
    if found.holds:
        count = len(found.changes)
        return Cell(Comes.HOLDS, f"{count} {'change' if count == 1 else 'changes'}")
    if found.conflicts:
        first = found.conflicts[0]
        way = first.variant.rpartition("/")[2]
        return Cell(Comes.CANNOT, f"{way}: {first.said}" if way else first.said)
    (family,) = found.families
    return Cell(Comes.LEAKS, f"{family.after}: {found.ended or family.reason}")
