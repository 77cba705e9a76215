"""From the layers of a candidate to a configuration of the runner: what can be put on here.

What cannot is named with the reason, and nothing that gets through without it counts for or
against the candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from attacks.program import Addr, Blob, Const, Load, Program, Slot, Syscall
from evaluator.layers import LANDLOCK_RIGHTS
from evaluator.pool import Arm, Pool
from evaluator.posture import mask
from evaluator.wire import ConfigSpec, Filter, ProgramSpec, RecordState, Result
from mitigations.candidate import (
    AppArmorLayer,
    Candidate,
    CapabilitiesLayer,
    LandlockLayer,
    NoNewPrivsLayer,
    ReadOnlyRootLayer,
)
from mitigations.landlock_rights import newer, without_newer

# seccomp(2); the runner adds TSYNC where a second thread loads for the first.
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 0,  # means something with a listener only
}
MOST_RULESETS = 16
"""landlock_restrict_self(2): more than these layers answer E2BIG."""
_MOST_PATHS = 1024
_LONGEST_PATH = 239
_MAKE_BLOCK = (1 << 11).to_bytes(8, "little")
_TIMEOUT_US = 1_000_000


class Absent(Struct, frozen=True):
    """A part of a candidate that is not in force here."""

    kind: str
    """As ``Layer.kind``."""
    reason: str
    families: frozenset[str] | None = None
    """Those that it could have stopped, by their names without parameters; None: any."""

    def concerns(self, family: str) -> bool:
        """Whether a family, as the user wrote it, might be held by what is missing."""
        name = family.partition("[")[0].partition("@")[0]
        return self.families is None or name in self.families


class Confinement(Struct, frozen=True):
    """What the runner puts on for a candidate."""

    config: ConfigSpec
    alone: Mapping[str, ConfigSpec] = field(default_factory=dict[str, ConfigSpec])
    """The control with the layers of one kind only, for each kind that is no filter."""
    absent: tuple[Absent, ...] = ()


def confinement(
    control: ConfigSpec,
    candidate: Candidate,
    landlock_abi: int,
    load_apparmor: Callable[[AppArmorLayer], str],
) -> Confinement:
    """The candidate's layers on top of the control; ``landlock_abi`` is 0 where there is none.

    ``load_apparmor`` says why a profile cannot be put on, as ``Sandbox`` does.
    """
    programs = tuple(
        Filter(layer.program, sum(FLAGS.get(flag, 0) for flag in layer.flags) & ~1)
        for layer in candidate.seccomp
    )
    rulesets, too_new = _rulesets(candidate, landlock_abi)
    kept, writable = _kept(candidate), _writable(candidate)
    profile, no_profile = _profile(candidate, load_apparmor)
    nnp = control.no_new_privs or candidate.brings_no_new_privs
    config = replace(
        control,
        no_new_privs=nnp,
        filters=programs,
        rulesets=rulesets,
        kept=kept,
        writable=writable,
        apparmor=profile,
    )
    alone: dict[str, ConfigSpec] = {}
    if not candidate.seccomp_only:
        if nnp and not control.no_new_privs:
            alone[NoNewPrivsLayer.kind] = replace(control, no_new_privs=True)
        if rulesets:
            alone[LandlockLayer.kind] = replace(control, no_new_privs=True, rulesets=rulesets)
        if kept is not None:
            alone[CapabilitiesLayer.kind] = replace(control, kept=kept)
        if writable is not None:
            alone[ReadOnlyRootLayer.kind] = replace(control, writable=writable)
        if profile:
            alone[AppArmorLayer.kind] = replace(control, apparmor=profile)
    return Confinement(config, alone, (*too_new, *no_profile, *_not_enforceable(candidate)))


def _kept(candidate: Candidate) -> int | None:
    """What all layers of capabilities leave, as bits; None if there is none."""
    sets = [mask(one.kept) for one in candidate.layers if isinstance(one, CapabilitiesLayer)]
    if not sets:
        return None
    found = sets[0]
    for one in sets:
        found &= one
    return found


def _writable(candidate: Candidate) -> tuple[str, ...] | None:
    """What every layer of a read-only root leaves writable; None if there is none."""
    layers = [one for one in candidate.layers if isinstance(one, ReadOnlyRootLayer)]
    if not layers or not all(map(_fits, layers)):
        return None
    first, *others = layers
    return tuple(one for one in first.writable if all(one in each.writable for each in others))


def _fits(layer: ReadOnlyRootLayer) -> bool:
    """Whether the runner takes so many and so long paths."""
    return len(layer.writable) <= _MOST_PATHS and all(
        len(one.encode(errors="surrogateescape")) <= _LONGEST_PATH for one in layer.writable
    )


def _rulesets(candidate: Candidate, abi: int) -> tuple[tuple[LandlockLayer, ...], Sequence[Absent]]:
    """The rulesets that this kernel takes, and what it lacks."""
    wanted = [one for one in candidate.layers if isinstance(one, LandlockLayer)]
    if not wanted:
        return (), ()
    if not abi:
        return (), (Absent(LandlockLayer.kind, "Landlock: this kernel does not have it"),)
    found: list[LandlockLayer] = []
    absent: list[Absent] = []
    for one in wanted:
        lacking = tuple(newer(one, abi))
        absent += [
            Absent(
                LandlockLayer.kind,
                f"Landlock: {name} needs ABI {right.since}, and this kernel has {abi}",
                LANDLOCK_RIGHTS.get(name, frozenset()),
            )
            for name, right in lacking
        ]
        enforced = without_newer(one, abi)
        if enforced.handled_fs or enforced.handled_net or enforced.scoped:
            found.append(enforced)
    return tuple(found), absent


def _profile(
    candidate: Candidate, load: Callable[[AppArmorLayer], str]
) -> tuple[str, Sequence[Absent]]:
    """The name of the AppArmor profile to put on, and those that cannot be."""
    wanted = [one for one in candidate.layers if isinstance(one, AppArmorLayer)]
    found = ""
    absent: list[Absent] = []
    for one in wanted:
        too_long = len(one.profile.encode()) > _LONGEST_PATH
        refused = "its name is too long" if too_long else ""
        if len(wanted) > 1:
            refused = "one profile at a time is put on, and this candidate has more"
        refused = refused or load(one)
        if refused:
            absent.append(Absent(one.kind, f"AppArmor profile {one.profile!r}: {refused}"))
        else:
            found = one.profile
    return found, absent


def _not_enforceable(candidate: Candidate) -> Iterable[Absent]:
    for layer in candidate.layers:
        if isinstance(layer, ReadOnlyRootLayer) and not _fits(layer):
            said = f"more than {_MOST_PATHS} writable paths, or one of more than {_LONGEST_PATH}"
            yield Absent(layer.kind, f"read-only root: {said} bytes")


# ------------------------------------------------------------------------ Landlock, from the kernel

_VERSION = Program(
    attack=(Syscall("landlock_create_ruleset", (Const(0), Const(0), Const(1)), may_fail=True),)
)
_RESTRICT = Syscall("landlock_restrict_self", (Slot(0), Const(0)), may_fail=True)
_COUNT = Program(
    blobs=(Blob(_MAKE_BLOCK, 8, 8, name="attr"),),
    attack=(
        Syscall("landlock_create_ruleset", (Addr(0), Const(8), Const(0)), may_fail=True),
        *(_RESTRICT,) * MOST_RULESETS,
    ),
)


def landlock_abi(pool: Pool, control: ConfigSpec) -> int:
    """The ABI of the kernel's Landlock as a subject sees it; 0 if there is none."""
    (result,) = pool.run([Arm(ProgramSpec(_VERSION), control, control, _TIMEOUT_US)])
    if isinstance(result, str) or result.records[0].state is not RecordState.DONE:
        return 0
    return 0 if result.records[0].error else result.records[0].result


def rulesets_in_force(pool: Pool, control: ConfigSpec, config: ConfigSpec) -> int | str:
    """How many rulesets a subject is under beyond those of the control, as the kernel counts them.

    Nothing in /proc shows them.  But there can be 16 and no more: a subject puts on as many as it
    can, and those that are missing were there before.  It does so without the candidate's filters,
    which might deny it.  A message if it could not be counted.
    """
    arms = [
        Arm(ProgramSpec(_COUNT), one, control, _TIMEOUT_US)
        for one in (
            replace(control, no_new_privs=True),
            replace(config, no_new_privs=True, filters=()),
        )
    ]
    before, after = (_taken(one) for one in pool.run(arms))
    if isinstance(before, str) or isinstance(after, str):
        return before if isinstance(before, str) else after
    return before - after


def _taken(result: Result | str) -> int | str:
    """How many rulesets a subject could put on."""
    if isinstance(result, str):
        return result
    answers = result.records[1 : MOST_RULESETS + 1]
    if any(one.state is not RecordState.DONE for one in answers) or result.records[0].error:
        return "no ruleset could be made to count with"
    return sum(not one.error for one in answers)


# ------------------------------------------------------------------------ mounts, from the kernel

SCRATCH = frozenset({"/", "/work", "/tmp"})  # noqa: S108  (a link to it)
"""What leads to where variants and honest programs write."""
_FLAGS_OF_STATFS = 80
"""Where ``f_flags`` is in struct statfs, which has 120 bytes (statfs(2))."""
_READ_ONLY = 1
_EVERYTHING = (1 << 41) - 1


def read_only_in_force(pool: Pool, control: ConfigSpec, config: ConfigSpec) -> str:
    """What of a read-only root is not as it should be, as statfs(2) says; empty if all is.

    Asked without the candidate's filters, which might deny it, and with all capabilities.
    """
    assert config.writable is not None
    able = replace(control, uid=0, gid=0, capabilities=_EVERYTHING)
    wanted = {"/": True, "/dev": False, "/proc": False, **dict.fromkeys(config.writable, False)}
    if SCRATCH.isdisjoint(config.writable):
        wanted["/work"] = True
    said = [_statfs(one) for one in wanted]
    arms = [
        Arm(ProgramSpec(one), replace(able, writable=config.writable), able, _TIMEOUT_US)
        for one in said
    ]
    for (path, should), result in zip(wanted.items(), pool.run(arms), strict=True):
        if isinstance(result, str):
            return f"{path}: {result}"
        call, flags = result.records[:2]
        if call.error == _NO_SUCH and path in config.writable:
            continue
        if call.error or flags.state is not RecordState.DONE:
            return f"{path}: nothing is known of its mount"
        if bool(flags.result & _READ_ONLY) is not should:
            return f"{path} is {'not ' if should else ''}read-only"
    return ""


_NO_SUCH = 2


def _statfs(path: str) -> Program:
    name = path.encode(errors="surrogateescape") + b"\0"
    return Program(
        blobs=(Blob(name, len(name), 8, name="path"), Blob(b"", 120, 8, name="about")),
        attack=(
            Syscall("statfs", (Addr(0), Addr(1)), may_fail=True),
            Load(Addr(1), _FLAGS_OF_STATFS),
        ),
    )
