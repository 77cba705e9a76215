"""Change one of the group ids of the process to 7, or get into that group.

The witness sees the subject's ids shifted by one, as it is outside the subject's user namespace.
"""

from attacks import namespaces
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Need, Technique
from attacks.kernel import Kernel

FAMILY = Family(
    "change-group-id",
    title="Change the group id",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    needs=lambda _: (Need.MANY_IDS,),
    group="identity",
    attack_technique="T1548.001",
)
GID = 7
SETGID = (Need.CAP_SETGID,)
_KEEP = -1
_KEEP16 = 0xFFFF
_LINE = 8
"""Four one-digit ids, with tabs between."""


@FAMILY.witness
def one_id_is_another(w: Kernel) -> None:
    status = namespaces.subject_status(w)
    line = w.buffer(_LINE + 16, name="ids")
    w.copy(line, namespaces.field(w, status, "Gid", _LINE), _LINE)
    w.copy(line.at(_LINE), namespaces.field(w, status, "Groups", 1), 1)
    w.expect(w.find(line, _LINE + 1, str(GID + 1).encode()), 1 << 63, 0)


@FAMILY.variant(Technique.BASELINE, needs=SETGID, references=("man 2 setgid",))
def setgid(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.setgid(GID).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=SETGID)
def setregid(k: Kernel) -> None:
    """An old sibling that sets two ids; lists that name setgid alone miss it."""
    k.setregid(GID, GID).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=SETGID)
def setresgid(k: Kernel) -> None:
    """Sets only the effective id; what a rule would look at is the second argument."""
    k.setresgid(_KEEP, GID, _KEEP).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=SETGID)
def setfsgid(k: Kernel) -> None:
    """The id that files are opened with and made by, which no list of setgid calls has to name."""
    k.setfsgid(GID).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=SETGID)
def setgroups(k: Kernel) -> None:
    """A further group gives the same rights, and which it is stands behind a pointer."""
    k.setgroups(1, k.struct("I", GID, name="groups")).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=SETGID)
def setgid32(k: Kernel) -> None:
    """The 32-bit table has two calls for it; rules made from the name setgid mean the older."""
    k.i386.raw("setgid32", GID).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=SETGID)
def setregid32(k: Kernel) -> None:
    """The wide form of setregid, which only the 32-bit table has under a name of its own."""
    k.i386.raw("setregid32", GID, GID).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=SETGID)
def setresgid32(k: Kernel) -> None:
    """The wide form of setresgid, which only the 32-bit table has under a name of its own."""
    k.i386.raw("setresgid32", _KEEP, GID, _KEEP).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=SETGID)
def setfsgid32(k: Kernel) -> None:
    """The wide form of setfsgid, which only the 32-bit table has under a name of its own."""
    k.i386.raw("setfsgid32", GID).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=SETGID)
def setgid16(k: Kernel) -> None:
    """The older of the two calls in the 32-bit table, with 16 bits; programs use the other."""
    k.i386.setgid(GID).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=SETGID)
def setregid16(k: Kernel) -> None:
    """The 16-bit form of setregid, under the number that new programs do not use."""
    k.i386.setregid(GID, GID).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=SETGID)
def setfsgid16(k: Kernel) -> None:
    """The 16-bit form of setfsgid, under the number that new programs do not use."""
    k.i386.setfsgid(GID).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=SETGID)
def setresgid16(k: Kernel) -> None:
    """In the 16-bit call another number says that an id is kept: rules on it do not carry over."""
    k.i386.setresgid(_KEEP16, GID, _KEEP16).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=SETGID)
def setgroups16(k: Kernel) -> None:
    """The old call takes a list of 16-bit ids: a tracer that reads it as 32-bit reads another."""
    k.i386.setgroups(1, k.struct("H", GID, name="groups")).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=SETGID)
def setgroups32(k: Kernel) -> None:
    """The wide form of setgroups, which only the 32-bit table has under a name of its own."""
    k.i386.raw("setgroups32", 1, k.struct("I", GID, name="groups")).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=SETGID, negative=True)
def setregid_own(k: Kernel) -> None:
    """Setting the ids that one has changes nothing."""
    k.setregid(_KEEP, _KEEP).decisive().may_fail()
