"""Pass a capability on to the programs that will be run.

What counts is the inheritable or the ambient set: one of them is another than before, and not
empty.
"""

from attacks import namespaces
from attacks.consts_namespaces import (
    CAP_NET_RAW,
    LINUX_CAPABILITY_VERSION_1,
    LINUX_CAPABILITY_VERSION_2,
    LINUX_CAPABILITY_VERSION_3,
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_RAISE,
)
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result

FAMILY = Family(
    "pass-on-capability",
    title="Pass capabilities on to programs",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    group="identity",
    attack_technique="T1548",
)
NET_RAW = (Need.CAP_NET_RAW,)
_NET_RAW = 1 << CAP_NET_RAW
_SET = 16


@FAMILY.witness
def one_set_is_larger(w: Kernel) -> None:
    old, now = namespaces.subject_status(w.setup), namespaces.subject_status(w)
    signs = [_changed(w, old, now, name) for name in ("CapInh", "CapAmb")]
    namespaces.one_is_zero(w, *signs)


@FAMILY.variant(Technique.BASELINE, needs=NET_RAW, references=("man 2 capset",))
def capset(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    _inherit(k, LINUX_CAPABILITY_VERSION_3).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL, needs=NET_RAW)
def capset_first_version(k: Kernel) -> None:
    """The oldest layout has half the size: a tracer that reads the newest misreads it."""
    _inherit(k, LINUX_CAPABILITY_VERSION_1).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL, needs=NET_RAW)
def capset_second_version(k: Kernel) -> None:
    """A version that the kernel warns of and still takes; a tracer may know only the newest."""
    _inherit(k, LINUX_CAPABILITY_VERSION_2).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, assumption=Assumption.TRUSTED_SETUP, needs=NET_RAW)
def prctl_ambient_raise(k: Kernel) -> None:
    """What is inheritable already becomes ambient by prctl: programs get it without file bits."""
    _inherit(k.setup, LINUX_CAPABILITY_VERSION_3)
    k.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, assumption=Assumption.TRUSTED_SETUP, needs=NET_RAW)
def prctl_ambient_raise_i386(k: Kernel) -> None:
    """The 32-bit table has the same operation under another number."""
    _inherit(k.setup, LINUX_CAPABILITY_VERSION_3)
    k.i386.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT, assumption=Assumption.TRUSTED_SETUP, needs=NET_RAW)
def prctl_ambient_raise_wide(k: Kernel) -> None:
    """The kernel reads 32 bits of the operation, and a filter compares 64."""
    _inherit(k.setup, LINUX_CAPABILITY_VERSION_3)
    operation = k.wide(PR_CAP_AMBIENT)
    k.prctl(operation, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=NET_RAW, negative=True)
def prctl_ambient_alone(k: Kernel) -> None:
    """What is not inheritable cannot become ambient."""
    k.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0).decisive().may_fail()


def _inherit(k: Kernel, version: int) -> Result:
    """The capability in all three sets; nothing else is kept."""
    header = k.struct("II", version, 0, name="header")
    sets = k.struct("IIIIII", _NET_RAW, _NET_RAW, _NET_RAW, 0, 0, 0, name="sets")
    return k.capset(header, sets)


def _changed(w: Kernel, old: Buffer, now: Buffer, name: str) -> Result:
    """Zero if the set is another than it was, and neither empty nor unknown."""
    before = namespaces.field(w.setup, old, name, _SET)
    after = namespaces.field(w, now, name, _SET)
    same = w.compare(before, after, _SET)
    empty = w.compare(after, w.data(b"0" * _SET, name="empty"), _SET)
    unknown = w.compare(after, w.data(bytes(_SET), name="unknown"), _SET)
    return w.add(w.add(same, empty), unknown)
