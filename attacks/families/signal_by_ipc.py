"""Tell somebody something by System V IPC or a POSIX message queue.

The witness has one object of each kind; one of them gets a message or another value.  Each trial
has an IPC namespace of its own.
"""

from attacks import deputy
from attacks.consts import NULL, O_CREAT, O_NONBLOCK, O_RDONLY, O_WRONLY, Named
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Fresh, Technique
from attacks.kernel import Kernel
from attacks.recorder import Arg, Buffer, Result

FAMILY = Family(
    "signal-by-ipc",
    title="Tell somebody something by an IPC object",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    group="network",
    attack_technique="T1559",
)
MESSAGES, SEMAPHORES, MEMORY = 0x7701, 0x7702, 0x7703
QUEUE = "observer"
FOR_ALL = 0o666
SIZE = 4096
IPC = (Fresh.IPC,)
IPC_CREAT = Named(0o1000, "IPC_CREAT")
IPC_STAT = Named(2, "IPC_STAT")
GETVAL = Named(12, "GETVAL")
SETVAL = Named(16, "SETVAL")
SETALL = Named(17, "SETALL")
SEMOP = Named(1, "SEMOP")
SEMGET = Named(2, "SEMGET")
SEMCTL = Named(3, "SEMCTL")
SEMTIMEDOP = Named(4, "SEMTIMEDOP")
MSGSND = Named(11, "MSGSND")
MSGGET = Named(13, "MSGGET")
SHMAT = Named(21, "SHMAT")
SHMGET = Named(23, "SHMGET")
OLD_VERSION = Named(1 << 16, "1<<16")
_MSQID_SIZE, _QNUM = 120, 80
_MQ_CURMSGS = 24
_SLOTS = 4


@FAMILY.witness
def one_of_them_has_changed(w: Kernel) -> None:
    s = w.setup
    s.umask(0)
    messages = s.msgget(MESSAGES, IPC_CREAT | FOR_ALL)
    semaphores = s.semget(SEMAPHORES, 1, IPC_CREAT | FOR_ALL)
    memory = s.shmat(s.shmget(MEMORY, SIZE, IPC_CREAT | FOR_ALL), NULL, 0)
    # A queue belongs to a file system where the witness, of another user namespace, makes nothing.
    queue = s.mq_open(s.text(QUEUE), O_RDONLY | O_NONBLOCK, 0, NULL).may_fail()
    about, attributes = w.buffer(_MSQID_SIZE, name="msqid"), w.buffer(64, name="attr")
    w.raw("msgctl", messages, IPC_STAT, about)
    w.raw("mq_getsetattr", queue, NULL, attributes).may_fail()
    view = w.buffer(8 * _SLOTS, name="view")
    seen = (
        w.load(about, _QNUM),
        w.semctl(semaphores, 0, GETVAL),
        w.load(memory),
        w.load(attributes, _MQ_CURMSGS),
    )
    for number, value in enumerate(seen):
        w.store(view, 8 * number, 8, value)
    w.expect(w.compare(view, w.buffer(view.size, name="zeros"), view.size), 1, 0)


# Messages


@FAMILY.variant(Technique.BASELINE, fresh=IPC)
def msgsnd(k: Kernel) -> None:
    """The calls that the author of the policy has in mind."""
    k.msgsnd(k.msgget(MESSAGES, 0), _message(k), 1, 0).decisive()


@FAMILY.variant(Technique.MULTIPLEXER, fresh=IPC)
def ipc_msgsnd_i386(k: Kernel) -> None:
    """One 32-bit number stands for all of System V IPC; the first argument says which call."""
    queue = k.i386.ipc(MSGGET, MESSAGES, 0, 0, NULL, 0)
    k.i386.ipc(MSGSND, queue, 1, 0, _message32(k), 0).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT, fresh=IPC)
def ipc_msgsnd_version_i386(k: Kernel) -> None:
    """The upper half of the call's number is a version: a rule that compares all of it misses."""
    queue = k.i386.ipc(MSGGET | OLD_VERSION, MESSAGES, 0, 0, NULL, 0)
    k.i386.ipc(MSGSND | OLD_VERSION, queue, 1, 0, _message32(k), 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, fresh=IPC)
def msgsnd_i386(k: Kernel) -> None:
    """Since 5.1 the 32-bit table has direct numbers as well; the type has 32 bits there."""
    queue = k.i386.msgget(MESSAGES, 0)
    k.i386.msgsnd(queue, _message32(k), 1, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, assumption=Assumption.TRUSTED_SETUP, fresh=IPC)
def mq_timedsend(k: Kernel) -> None:
    """POSIX queues are other calls than System V's, in the same namespace."""
    k.setup.close(_new_queue(k.setup))
    queue = k.mq_open(k.text(QUEUE), O_WRONLY, 0, NULL)
    k.mq_timedsend(queue, _letter(k), 1, 0, NULL).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR, fresh=IPC)
def mq_timedsend_inherited(k: Kernel) -> None:
    """The queue was opened before the filter: rules on mq_open come too late."""
    k.mq_timedsend(_new_queue(k.setup), _letter(k), 1, 0, NULL).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, assumption=Assumption.TRUSTED_SETUP, fresh=IPC)
def mq_timedsend_i386(k: Kernel) -> None:
    """Both calls by the 32-bit table, where they have other numbers."""
    k.setup.close(_new_queue(k.setup))
    queue = k.i386.mq_open(k.text(QUEUE), O_WRONLY, 0, NULL)
    k.i386.mq_timedsend(queue, _letter(k), 1, 0, NULL).decisive()


# Semaphores


@FAMILY.variant(Technique.SIBLING_SYSCALL, fresh=IPC)
def semop(k: Kernel) -> None:
    """A semaphore's value is a number that others can ask for."""
    k.semop(k.semget(SEMAPHORES, 1, 0), _up(k), 1).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, fresh=IPC)
def semtimedop(k: Kernel) -> None:
    """The form with a time does the same; libraries call only this one."""
    k.semtimedop(k.semget(SEMAPHORES, 1, 0), _up(k), 1, NULL).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, fresh=IPC)
def semctl_setval(k: Kernel) -> None:
    """The value can be set outright, by a call that looks like asking."""
    k.semctl(k.semget(SEMAPHORES, 1, 0), 0, SETVAL, 1).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, fresh=IPC)
def semctl_setall(k: Kernel) -> None:
    """Another operation of semctl takes the values from memory."""
    values = k.struct("H", 1, name="values")
    k.semctl(k.semget(SEMAPHORES, 1, 0), 0, SETALL, values).decisive()


@FAMILY.variant(Technique.MULTIPLEXER, fresh=IPC)
def ipc_semop_i386(k: Kernel) -> None:
    """The multiplexer of the 32-bit table leads to semop."""
    _ipc_semaphore(k, SEMOP, 1, 0, _up(k), 0)


@FAMILY.variant(Technique.MULTIPLEXER, fresh=IPC)
def ipc_semtimedop_i386(k: Kernel) -> None:
    """The multiplexer's fourth call is newer than its list in many a filter."""
    _ipc_semaphore(k, SEMTIMEDOP, 1, 0, _up(k), 0)


@FAMILY.variant(Technique.MULTIPLEXER, fresh=IPC)
def ipc_semctl_i386(k: Kernel) -> None:
    """Through the multiplexer semctl finds the value behind a pointer."""
    _ipc_semaphore(k, SEMCTL, 0, SETVAL, k.struct("I", 1, name="value"), 0)


# Shared memory


@FAMILY.variant(Technique.SIBLING_SYSCALL, fresh=IPC)
def shmat_store(k: Kernel) -> None:
    """When the memory is attached, telling takes no call at all."""
    _tell(k, k.shmat(k.shmget(MEMORY, SIZE, 0), NULL, 0))


@FAMILY.variant(Technique.MULTIPLEXER, fresh=IPC)
def ipc_shmat_store_i386(k: Kernel) -> None:
    """The multiplexer attaches memory, and says where in a word of memory."""
    memory = k.i386.ipc(SHMGET, MEMORY, SIZE, 0, NULL, 0)
    where = k.buffer(8, name="where")
    k.i386.ipc(SHMAT, memory, 0, where, NULL, 0)
    _tell(k, k.load(where, 0, 4))


@FAMILY.variant(Technique.MEMORY_ALIAS, assumption=Assumption.TRUSTED_SETUP, fresh=IPC)
def store_inherited_memory(k: Kernel) -> None:
    """Memory that was attached before the filter stays: no filter sees what is stored there."""
    s = k.setup
    s.umask(0)
    _tell(k, s.shmat(s.shmget(MEMORY, SIZE, IPC_CREAT | FOR_ALL), NULL, 0))


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD, fresh=IPC)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    with deputy.sibling_thread(k) as thread:
        thread.msgsnd(thread.msgget(MESSAGES, 0), _message(k), 1, 0)


# Controls that must not tell anything


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True, fresh=IPC)
def msgsnd_to_semaphores(k: Kernel) -> None:
    """The kinds of objects have numbers of their own: a message needs a queue."""
    k.semget(SEMAPHORES, 1, 0)
    k.msgsnd(MEMORY, _message(k), 1, 0).decisive().may_fail()


@FAMILY.variant(
    Technique.SIBLING_SYSCALL, assumption=Assumption.TRUSTED_SETUP, negative=True, fresh=IPC
)
def mq_timedsend_to_reader(k: Kernel) -> None:
    """A queue that was opened for reading takes no message."""
    k.setup.close(_new_queue(k.setup))
    queue = k.mq_open(k.text(QUEUE), O_RDONLY, 0, NULL)
    k.mq_timedsend(queue, _letter(k), 1, 0, NULL).decisive().may_fail()


def _letter(k: Kernel) -> Buffer:
    return k.data(b"X", name="letter")


def _message(k: Kernel) -> Buffer:
    """A ``msgbuf``: the type, then one letter."""
    return k.struct("QB", 1, ord("X"), name="msgbuf")


def _message32(k: Kernel) -> Buffer:
    return k.struct("IB", 1, ord("X"), name="msgbuf")


def _up(k: Kernel) -> Buffer:
    """A ``sembuf``: the first semaphore, one more."""
    return k.struct("HHH", 0, 1, 0, name="sembuf")


def _ipc_semaphore(k: Kernel, call: int, second: Arg, third: Arg, at: Buffer, fifth: Arg) -> None:
    semaphores = k.i386.ipc(SEMGET, SEMAPHORES, 1, 0, NULL, 0)
    k.i386.ipc(call, semaphores, second, third, at, fifth).decisive()


def _new_queue(s: Kernel) -> Result:
    return s.mq_open(s.text(QUEUE), O_CREAT | O_WRONLY, FOR_ALL, NULL)


def _tell(k: Kernel, memory: Result) -> None:
    k.store(memory, 0, 1, ord("X")).decisive()
