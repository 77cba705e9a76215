"""Create a System V message queue."""

from attacks import ipc_objects
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Fresh, Technique
from attacks.ipc_objects import CREATE, IPC_EXCL, IPC_PRIVATE, KEY, MSGGET
from attacks.kernel import Kernel

NEW = (Fresh.IPC,)

FAMILY = Family(
    "create-message-queue",
    title="Create a message queue",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    attack_technique="T1559",
    group="processes",
    unrecorded={"mq_open": "another kind of queue, see create-posix-queue"},
)


@FAMILY.witness
def a_queue_is_there(w: Kernel) -> None:
    ipc_objects.table_changes(w, "msg")


@FAMILY.variant(Technique.BASELINE, fresh=NEW, references=("man 2 msgget",))
def msgget(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.msgget(IPC_PRIVATE, CREATE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, fresh=NEW)
def msgget_key(k: Kernel) -> None:
    """With a key that strangers can use; a rule against IPC_PRIVATE does not match."""
    k.msgget(KEY, CREATE | IPC_EXCL).decisive()


@FAMILY.variant(Technique.MULTIPLEXER, fresh=NEW)
def ipc_msgget_i386(k: Kernel) -> None:
    """The multiplexer of the 32-bit table: another number, and what is created is an argument."""
    k.i386.ipc(MSGGET, IPC_PRIVATE, CREATE, 0, 0, 0).decisive()


@FAMILY.variant(Technique.MULTIPLEXER, fresh=NEW)
def ipc_msgget_version_i386(k: Kernel) -> None:
    """The upper half of the multiplexer's first argument is ignored: comparing all of it misses."""
    k.i386.ipc(ipc_objects.versioned(MSGGET), IPC_PRIVATE, CREATE, 0, 0, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, fresh=NEW, negative=True)
def msgget_existing(k: Kernel) -> None:
    """Without IPC_CREAT a key is only looked up."""
    k.msgget(KEY, 0o600).decisive().may_fail()
