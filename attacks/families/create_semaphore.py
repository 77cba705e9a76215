"""Create a System V semaphore set."""

from attacks import ipc_objects
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Fresh, Technique
from attacks.ipc_objects import CREATE, IPC_EXCL, IPC_PRIVATE, KEY, SEMGET
from attacks.kernel import Kernel

NEW = (Fresh.IPC,)

FAMILY = Family(
    "create-semaphore",
    title="Create a semaphore",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    attack_technique="T1559",
    group="processes",
)


@FAMILY.witness
def a_set_is_there(w: Kernel) -> None:
    ipc_objects.table_changes(w, "sem")


@FAMILY.variant(Technique.BASELINE, fresh=NEW, references=("man 2 semget",))
def semget(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.semget(IPC_PRIVATE, 1, CREATE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, fresh=NEW)
def semget_key(k: Kernel) -> None:
    """With a key that strangers can use; a rule against IPC_PRIVATE does not match."""
    k.semget(KEY, 1, CREATE | IPC_EXCL).decisive()


@FAMILY.variant(Technique.MULTIPLEXER, fresh=NEW)
def ipc_semget_i386(k: Kernel) -> None:
    """The multiplexer of the 32-bit table: another number, and what is created is an argument."""
    k.i386.ipc(SEMGET, IPC_PRIVATE, 1, CREATE, 0, 0).decisive()


@FAMILY.variant(Technique.MULTIPLEXER, fresh=NEW)
def ipc_semget_version_i386(k: Kernel) -> None:
    """The upper half of the multiplexer's first argument is ignored: comparing all of it misses."""
    k.i386.ipc(ipc_objects.versioned(SEMGET), IPC_PRIVATE, 1, CREATE, 0, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, fresh=NEW, negative=True)
def semget_existing(k: Kernel) -> None:
    """Without IPC_CREAT a key is only looked up."""
    k.semget(KEY, 1, 0o600).decisive().may_fail()
