"""Act as user 7: by one of the process's ids, by that of a child, or by what it makes.

The witness sees the subject's ids shifted by one, as it is outside the subject's user namespace.
"""

from attacks import namespaces
from attacks.consts import AT_FDCWD, CLONE_NEWUSER, NULL, O_CREAT, O_RDONLY, O_WRONLY
from attacks.consts_namespaces import MS_NOSUID, STATX_BASIC_STATS
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Arg, Buffer, Result

FAMILY = Family(
    "change-user-id",
    title="Change the user id",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    needs=lambda _: (Need.MANY_IDS,),
    group="identity",
    attack_technique="T1548.001",
    unrecorded={
        "uid_map 7 to the own id": "only the process itself sees the number",
        "sendmsg of SCM_CREDENTIALS with another uid": "see forge-socket-credentials",
    },
)
UID = 7
SETUID = (Need.CAP_SETUID,)
_KEEP = -1
_KEEP16 = 0xFFFF
_LINE = 8
"""Four one-digit ids, with tabs between."""
OPEN = "open"
MADE = f"{OPEN}/made"
"""In a directory where everybody may make files."""
PROGRAM = (
    Object(ObjectKind.DIRECTORY, OPEN, 0o755),
    Object(ObjectKind.PROBE, "probe", 0o755),
)
_STATX_SIZE, _STATX_UID = 256, 20


@FAMILY.witness
def somebody_acts_as_another(w: Kernel) -> None:
    """An id of the subject or of its child is another, or a file belongs to that user."""
    signs = [
        _absent(w, namespaces.field(w, status, "Uid", _LINE))
        for status in (namespaces.subject_status(w), namespaces.child_status(w))
    ]
    made = w.buffer(_STATX_SIZE, name="statx")
    w.copy(made, w.buffer(_STATX_SIZE, name="zeros"), _STATX_SIZE)
    w.statx(AT_FDCWD, w.text(MADE), 0, STATX_BASIC_STATS, made).may_fail()
    owner = w.data((UID + 1).to_bytes(4, "little"), name="owner")
    nobody = w.add(w.compare(made.at(_STATX_UID), owner, 4), -1)
    namespaces.one_is_zero(w, *signs, nobody)


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
def setuid16(k: Kernel) -> None:
    """The older of the two calls in the 32-bit table, with 16 bits; programs use the other."""
    k.i386.setuid(UID).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=SETUID)
def setreuid16(k: Kernel) -> None:
    """The 16-bit form of setreuid, under the number that new programs do not use."""
    k.i386.setreuid(UID, UID).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=SETUID)
def setfsuid16(k: Kernel) -> None:
    """The 16-bit form of setfsuid, under the number that new programs do not use."""
    k.i386.setfsuid(UID).decisive()


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


@FAMILY.variant(
    Technique.ASYNC_KERNEL,
    assumption=Assumption.INHERITED_RING,
    needs=SETUID,
    objects=(Object(ObjectKind.DIRECTORY, OPEN, 0o777),),
)
def io_uring_personality(k: Kernel) -> None:
    """An identity was registered with the ring before: an entry names it, and no id is set."""
    ring = k.setup.ring()
    k.setup.setresuid(_KEEP, UID, _KEEP)
    other = ring.registered_personality()
    k.setup.setresuid(_KEEP, 0, _KEEP)
    other.by(k).openat(AT_FDCWD, k.text(MADE), O_CREAT | O_WRONLY, 0o600).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    assumption=Assumption.TRUSTED_SETUP,
    needs=(Need.CAP_SYS_ADMIN, Need.CAP_CHOWN),
    fresh=(Fresh.MOUNT,),
    objects=PROGRAM,
)
def execve_set_user_id(k: Kernel) -> None:
    """Runs a program with the set-user-id bit: no call that sets an id is made."""
    _run(k, _set_user_id_program(k))


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=SETUID, negative=True)
def setreuid_own(k: Kernel) -> None:
    """Setting the ids that one has changes nothing."""
    k.setreuid(_KEEP, _KEEP).decisive().may_fail()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    assumption=Assumption.TRUSTED_SETUP,
    needs=(Need.CAP_SYS_ADMIN, Need.CAP_CHOWN),
    fresh=(Fresh.MOUNT,),
    objects=PROGRAM,
    negative=True,
)
def execve_set_user_id_nosuid(k: Kernel) -> None:
    """On a file system that is mounted nosuid the bit says nothing."""
    _run(k, _set_user_id_program(k, MS_NOSUID))


def _absent(w: Kernel, ids: Arg) -> Result:
    """Zero if the id is among these."""
    line = w.buffer(_LINE + 8, name="ids")
    w.copy(line, ids, _LINE)
    at = w.find(line, _LINE, str(UID + 1).encode())
    found = w.buffer(8, name="found")
    w.store(found, 0, 8, at)
    return w.compare(found, w.data(b"\xff" * 8, name="nowhere"), 8)


def _set_user_id_program(k: Kernel, flags: int = 0) -> Buffer:
    """Before the filter: a copy of the probe that belongs to the user, where the bit counts."""
    before, name, program = k.setup, k.text("tmpfs"), k.text(f"{OPEN}/probe")
    before.mount(name, k.text(OPEN), name, flags, k.text("mode=0755"))
    copy = before.open(program, O_CREAT | O_WRONLY, 0o755)
    before.sendfile(copy, before.open(k.text("probe"), O_RDONLY), NULL, 1 << 16)
    before.fchown(copy, UID, _KEEP)
    before.fchmod(copy, 0o4755)
    before.close(copy)
    return program


def _run(k: Kernel, program: Buffer) -> None:
    argv = k.struct("QQ", program, 0, name="argv")
    with k.child(k.fork()):
        k.execve(program, argv, NULL).decisive()
