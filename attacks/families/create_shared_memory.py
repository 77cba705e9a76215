"""Create a System V shared memory segment."""

from attacks import ipc_objects
from attacks.consts import Named
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Fresh, Technique
from attacks.ipc_objects import CREATE, IPC_EXCL, IPC_PRIVATE, KEY, SHMGET
from attacks.kernel import Kernel

SHM_NORESERVE = Named(0o10000, "SHM_NORESERVE")
SIZE = 4096
NEW = (Fresh.IPC,)

FAMILY = Family(
    "create-shared-memory",
    title="Create shared memory",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    attack_technique="T1559",
    group="processes",
    unrecorded={
        "open with O_CREAT in /dev/shm": "a file like any other, see create-file; the sandbox has "
        "no such directory",
        "mmap with MAP_SHARED|MAP_ANONYMOUS": "only what is forked later shares it, and it has no "
        "name that an onlooker could find",
    },
)


@FAMILY.witness
def a_segment_is_there(w: Kernel) -> None:
    ipc_objects.table_changes(w, "shm")


@FAMILY.variant(Technique.BASELINE, fresh=NEW, references=("man 2 shmget",))
def shmget(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.shmget(IPC_PRIVATE, SIZE, CREATE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, fresh=NEW)
def shmget_key(k: Kernel) -> None:
    """With a key that strangers can use; a rule against IPC_PRIVATE does not match."""
    k.shmget(KEY, SIZE, CREATE | IPC_EXCL).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT, fresh=NEW)
def shmget_other_bits(k: Kernel) -> None:
    """IPC_PRIVATE creates without IPC_CREAT, and bits may be added: flags say little."""
    k.shmget(IPC_PRIVATE, SIZE, SHM_NORESERVE | 0o600).decisive()


@FAMILY.variant(Technique.MULTIPLEXER, fresh=NEW)
def ipc_shmget_i386(k: Kernel) -> None:
    """The multiplexer of the 32-bit table: another number, and what is created is an argument."""
    k.i386.ipc(SHMGET, IPC_PRIVATE, SIZE, CREATE, 0, 0).decisive()


@FAMILY.variant(Technique.MULTIPLEXER, fresh=NEW)
def ipc_shmget_version_i386(k: Kernel) -> None:
    """The upper half of the multiplexer's first argument is ignored: comparing all of it misses."""
    call = ipc_objects.versioned(SHMGET)
    k.i386.ipc(call, IPC_PRIVATE, SIZE, CREATE, 0, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, fresh=NEW, negative=True)
def shmget_existing(k: Kernel) -> None:
    """Without IPC_CREAT a key is only looked up."""
    k.shmget(KEY, SIZE, 0o600).decisive().may_fail()
