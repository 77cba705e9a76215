"""Change one of the user ids of the process to 7.

The witness sees the subject's ids shifted by one, as it is outside the subject's user namespace.
"""

from attacks import namespaces
from attacks.consts import CLONE_NEWUSER, NULL, O_WRONLY
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Need, Technique
from attacks.kernel import Kernel

FAMILY = Family(
    "change-user-id",
    title="Change the user id",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    group="identity",
    attack_technique="T1548.001",
    unrecorded={
        "uid_map 7 to the own id": "only the process itself sees the number",
        "SCM_CREDENTIALS with another pid": "the pid that a peer is told is another effect",
    },
)
UID = 7
SETUID = (Need.CAP_SETUID,)
_KEEP = -1
_KEEP16 = 0xFFFF
_LINE = 8
"""Four one-digit ids, with tabs between."""


@FAMILY.witness
def one_id_is_another(w: Kernel) -> None:
    ids = namespaces.field(w, namespaces.subject_status(w), "Uid", _LINE)
    line = w.buffer(_LINE + 8, name="ids")
    w.copy(line, ids, _LINE)
    w.expect(w.find(line, _LINE, str(UID + 1).encode()), 1 << 63, 0)


@FAMILY.variant(Technique.BASELINE, needs=SETUID, references=("man 2 setuid",))
def setuid(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.setuid(UID).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=SETUID)
def setreuid(k: Kernel) -> None:
    """An old sibling that sets two ids; lists that name setuid alone miss it."""
    k.setreuid(UID, UID).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=SETUID)
def setresuid(k: Kernel) -> None:
    """Sets only the effective id; what a rule would look at is the second argument."""
    k.setresuid(_KEEP, UID, _KEEP).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=SETUID)
def setfsuid(k: Kernel) -> None:
    """The id that files are opened with and made by, which no list of setuid calls has to name."""
    k.setfsuid(UID).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=SETUID)
def setuid32(k: Kernel) -> None:
    """The 32-bit table has two calls for it; rules made from the name setuid mean the older."""
    k.i386.raw("setuid32", UID).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=SETUID)
def setreuid32(k: Kernel) -> None:
    """The wide form of setreuid, which only the 32-bit table has under a name of its own."""
    k.i386.raw("setreuid32", UID, UID).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=SETUID)
def setresuid32(k: Kernel) -> None:
    """The wide form of setresuid, which only the 32-bit table has under a name of its own."""
    k.i386.raw("setresuid32", _KEEP, UID, _KEEP).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=SETUID)
def setfsuid32(k: Kernel) -> None:
    """The wide form of setfsuid, which only the 32-bit table has under a name of its own."""
    k.i386.raw("setfsuid32", UID).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=SETUID)
def setresuid16(k: Kernel) -> None:
    """In the 16-bit call another number says that an id is kept: rules on it do not carry over."""
    k.i386.setresuid(_KEEP16, UID, _KEEP16).decisive()


@FAMILY.variant(Technique.NAMESPACE, needs=SETUID)
def setuid_mapped(k: Kernel) -> None:
    """In a user namespace where 0 is that id, a call that asks for 0 gets it."""
    go, done = k.buffer(8, name="go"), k.buffer(8, name="done")
    process = k.getpid()
    child = k.fork()
    with k.child(child):
        k.wait(go)
        mapped = k.data(f"0 {UID} 1".encode(), name="map")
        k.write(k.open(namespaces.path_of(k, process, "uid_map"), O_WRONLY), mapped, mapped.size)
        k.store(done, 0, 4, 1)
    k.unshare(CLONE_NEWUSER)
    k.store(go, 0, 4, 1)
    k.wait(done)
    k.wait4(child, NULL, 0, NULL)
    k.setresuid(0, 0, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=SETUID, negative=True)
def setreuid_own(k: Kernel) -> None:
    """Setting the ids that one has changes nothing."""
    k.setreuid(_KEEP, _KEEP).decisive().may_fail()
