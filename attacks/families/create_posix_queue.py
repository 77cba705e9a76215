"""Create a POSIX message queue: a name in a file system that each IPC namespace has."""

from attacks import ipc_objects
from attacks.consts import (
    AT_FDCWD,
    MOVE_MOUNT_F_EMPTY_PATH,
    NULL,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    S_IFREG,
)
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Fresh, Need, Technique
from attacks.ipc_objects import QUEUE
from attacks.kernel import Kernel
from attacks.recorder import Buffer

NEW = (Fresh.IPC,)
MOUNTS = (Fresh.IPC, Fresh.MOUNT)
ADMIN = (Need.CAP_SYS_ADMIN,)
MESSAGES, MESSAGE_SIZE = 4, 64

FAMILY = Family(
    "create-posix-queue",
    title="Create a POSIX message queue",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    attack_technique="T1559",
    group="processes",
)


@FAMILY.witness
def a_queue_is_there(w: Kernel) -> None:
    ipc_objects.queue_appears(w)


@FAMILY.variant(Technique.BASELINE, fresh=NEW, references=("man 3 mq_open",))
def mq_open(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.mq_open(k.text(QUEUE), O_CREAT | O_RDWR, 0o600, NULL).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT, fresh=NEW)
def mq_open_exclusive(k: Kernel) -> None:
    """More flags and attributes: a rule that knows one value of flags does not match."""
    attributes = k.struct("QQQQQQQQ", 0, MESSAGES, MESSAGE_SIZE, *[0] * 5, name="mq_attr")
    flags = O_CREAT | O_EXCL | O_RDONLY
    k.mq_open(k.text(QUEUE), flags, 0o600, attributes).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, fresh=NEW)
def mq_open_i386(k: Kernel) -> None:
    """The 32-bit table has another number for it, and attributes of half the size."""
    attributes = k.struct("IIIIIIII", 0, MESSAGES, MESSAGE_SIZE, *[0] * 5, name="mq_attr")
    k.i386.mq_open(k.text(QUEUE), O_CREAT | O_RDWR, 0o600, attributes).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, fresh=MOUNTS, needs=ADMIN)
def open_in_mounted_queues(k: Kernel) -> None:
    """Queues are files: where their file system is mounted, open makes one."""
    ipc_objects.mounted_queues(k)
    k.open(_in_mount(k), O_CREAT | O_RDWR, 0o600).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, fresh=MOUNTS, needs=ADMIN)
def mknod_in_mounted_queues(k: Kernel) -> None:
    """A regular file made by mknod is a queue there, and opens nothing."""
    ipc_objects.mounted_queues(k)
    k.mknod(_in_mount(k), S_IFREG | 0o600, 0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, fresh=MOUNTS, needs=ADMIN)
def mknodat_in_mounted_queues(k: Kernel) -> None:
    """The *at sibling of mknod, with a descriptor of the mount and no path to look at."""
    here = k.open(ipc_objects.mounted_queues(k), O_PATH | O_DIRECTORY)
    k.mknodat(here, k.text(QUEUE), S_IFREG | 0o600, 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, fresh=MOUNTS, needs=ADMIN)
def openat_in_detached_queues(k: Kernel) -> None:
    """The file system need not be mounted anywhere, and mount is not called."""
    queues = ipc_objects.detached_queues(k)
    k.openat(queues, k.text(QUEUE), O_CREAT | O_RDWR, 0o600).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, fresh=MOUNTS, needs=ADMIN)
def open_in_moved_queues(k: Kernel) -> None:
    """The newer calls put the mount into a directory, where any program can make queues."""
    queues = ipc_objects.detached_queues(k)
    k.mkdir(k.relative("mq"), 0o755)
    where = k.relative("mq")
    k.move_mount(queues, k.text(""), AT_FDCWD, where, MOVE_MOUNT_F_EMPTY_PATH)
    k.creat(_in_mount(k), 0o600).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, fresh=MOUNTS, needs=ADMIN)
def io_uring_openat_in_detached_queues(k: Kernel) -> None:
    """A ring makes the file: neither mq_open nor open is called."""
    queues = ipc_objects.detached_queues(k)
    k.ring().openat(queues, k.text(QUEUE), O_CREAT | O_RDWR, 0o600).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, fresh=NEW, negative=True)
def mq_open_existing(k: Kernel) -> None:
    """Without O_CREAT a queue is only looked up."""
    k.mq_open(k.text(QUEUE), O_RDWR, 0, NULL).decisive().may_fail()


@FAMILY.variant(Technique.INDIRECT_OBJECT, fresh=NEW, negative=True)
def file_of_that_name(k: Kernel) -> None:
    """A file of that name in any other file system is no queue."""
    k.open(k.relative(QUEUE), O_CREAT | O_RDWR, 0o600).decisive()


def _in_mount(k: Kernel) -> Buffer:
    return k.relative(f"mq/{QUEUE}")
