"""Append to a file: it becomes longer, and what it held is still its beginning.

The witness asks the file itself, by a descriptor from before, so a longer file that was put in its
place does not count.
"""

from attacks import deputy
from attacks import file_contents as contents
from attacks.calls.operand import Fd
from attacks.consts import AT_FDCWD, NULL, O_APPEND, O_PATH, O_RDONLY, O_RDWR, O_WRONLY, Named
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import TARGET, Assumption, Family, Need, Technique
from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.recorder import Buffer, Result

OLD, TAIL = b"the first line\n", b"tail\n"
END, LONGER, SIZE = len(OLD), len(OLD) + len(TAIL), len(TAIL)
FAMILY = Family(
    "append-file",
    title="Append to a file",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(Object(ObjectKind.FILE, TARGET, 0o644, OLD),),
    attack_technique="T1565.001",
    group="file system",
)
SOURCE = (contents.beside("src", TAIL),)
F_SETFL = Named(4, "F_SETFL")


@FAMILY.witness
def longer_with_the_old_beginning(w: Kernel) -> None:
    file = contents.watched(w)
    w.expect(file.byte_at(w, END), 1, 1)
    w.expect(file.begins_with(w, OLD), 1, 1)


# Calls that write


@FAMILY.variant(Technique.BASELINE)
def open_append(k: Kernel) -> None:
    """The flag and the call that the author of the policy has in mind."""
    _write(k, k.open(k.path(), O_WRONLY | O_APPEND))


@FAMILY.variant(Technique.NEWER_SYSCALL)
def openat2_append(k: Kernel) -> None:
    """The flag is behind a pointer, so that no rule can tell appending from overwriting."""
    how = contents.open_how(k, O_WRONLY | O_APPEND)
    _write(k, k.openat2(AT_FDCWD, k.path(), how, contents.HOW_SIZE))


@FAMILY.variant(Technique.FD_RELATIVE)
def lseek_write(k: Kernel) -> None:
    """The position is moved to the end: no flag says that this appends."""
    file = _opened(k)
    k.lseek(file, 0, contents.SEEK_END)
    _write(k, file)


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def pwrite64(k: Kernel) -> None:
    """The offset of the end, in a call with another number."""
    k.pwrite64(_opened(k), _tail(k), SIZE, END).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def pwritev(k: Kernel) -> None:
    """The vector and the offset in one call, which lists that know both others may lack."""
    k.pwritev(_opened(k), contents.iovec(k, _tail(k), SIZE), 1, END).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def pwritev2_append(k: Kernel) -> None:
    """A flag of the single write (4.16) makes it append, whatever the offset says."""
    vector = contents.iovec(k, _tail(k), SIZE)
    k.pwritev2(_opened(k), vector, 1, 0, 0, contents.RWF_APPEND).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def pwritev2_noappend(k: Kernel) -> None:
    """A flag (6.9) takes O_APPEND away from one write, which then says where it goes."""
    file = k.open(k.path(), O_WRONLY | O_APPEND)
    vector = contents.iovec(k, _tail(k), SIZE)
    k.pwritev2(file, vector, 1, END, 0, contents.RWF_NOAPPEND).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def fcntl_append(k: Kernel) -> None:
    """The flag comes after opening, where a rule on the flags of open does not look."""
    file = _opened(k)
    k.fcntl(file, F_SETFL, O_APPEND)
    _write(k, file)


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_fd_append(k: Kernel) -> None:
    """The path that is opened for appending is that of a descriptor, not the file's."""
    _write(k, k.open(k.proc_fd(k.open(k.path(), O_PATH)), O_WRONLY | O_APPEND))


@FAMILY.variant(Technique.ASYNC_KERNEL)
def aio_append(k: Kernel) -> None:
    """The old asynchronous interface has the flag of the single write too, in memory."""
    file, operation = _opened(k), contents.IOCB_CMD_PWRITE
    contents.aio(k, file, operation, _tail(k), SIZE, flags=contents.RWF_APPEND).decisive()


# Longer without a write


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def truncate_longer(k: Kernel) -> None:
    """A call that is known to cut also extends; the file is not even opened."""
    k.truncate(k.path(), LONGER).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def ftruncate_longer(k: Kernel) -> None:
    """Extends by descriptor: there is no path to look at."""
    k.ftruncate(_opened(k), LONGER).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def fallocate(k: Kernel) -> None:
    """Reserving space beyond the end makes the file longer."""
    k.fallocate(_opened(k), 0, 0, LONGER).decisive()


@FAMILY.variant(Technique.MEMORY_ALIAS)
def ftruncate_mmap(k: Kernel) -> None:
    """Extended first, the new end is written by stores to memory."""
    file = _opened(k, O_RDWR)
    end = k.add(contents.mapped_writable(k, file), END)
    k.ftruncate(file, LONGER).decisive()
    k.copy(end, _tail(k), SIZE)


# From other descriptors


@FAMILY.variant(Technique.NEWER_SYSCALL, objects=SOURCE)
def copy_file_range(k: Kernel) -> None:
    """A copy within the kernel; where it goes to is behind a pointer."""
    source, offset = k.open(k.near("src"), O_RDONLY), _end(k)
    k.copy_file_range(source, NULL, _opened(k), offset, SIZE, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, objects=SOURCE)
def sendfile(k: Kernel) -> None:
    """The kernel copies from another file to the position of this one."""
    file = _opened(k)
    k.lseek(file, 0, contents.SEEK_END)
    k.sendfile(file, k.open(k.near("src"), O_RDONLY), NULL, SIZE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def splice_offset(k: Kernel) -> None:
    """What is written is a pipe; the offset in the file is behind a pointer."""
    source, offset = contents.filled_pipe(k, _tail(k)), _end(k)
    k.splice(source.reader, NULL, _opened(k), offset, SIZE, 0).decisive()


# io_uring


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_write_offset(k: Kernel) -> None:
    """A ring writes at the offset of the end."""
    k.ring().submit("WRITE", fd=_opened(k), addr=_tail(k), length=SIZE, off=END).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_write_append(k: Kernel) -> None:
    """A ring knows the flag of the single write, and nothing of it is an argument of a call."""
    flag, file = contents.RWF_APPEND, _opened(k)
    k.ring().submit("WRITE", fd=file, addr=_tail(k), length=SIZE, op_flags=flag).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_fallocate(k: Kernel) -> None:
    """A ring reserves space beyond the end."""
    k.ring().submit("FALLOCATE", fd=_opened(k), addr=LONGER).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_ftruncate(k: Kernel) -> None:
    """A ring extends the file (6.9); lists of opcodes from before do not have this one."""
    k.ring().submit("FTRUNCATE", fd=_opened(k), off=LONGER).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)
def io_uring_inherited_sqpoll(k: Kernel) -> None:
    """A polled ring from before the filter opens and appends, without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    submitter = ring.by(k).stores_only()
    file = submitter.openat(AT_FDCWD, k.path(), O_WRONLY, 0)
    submitter.submit("WRITE", fd=file, addr=_tail(k), length=SIZE, off=END).decisive()


# Opened before


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def inherited_fd(k: Kernel) -> None:
    """A log that was opened before the filter; writing looks like any other writing."""
    _write(k, _opened(k.setup, O_WRONLY | O_APPEND))


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def inherited_fd_flag_cleared(k: Kernel) -> None:
    """A descriptor that was given for appending only loses the flag and takes any offset."""
    file = _opened(k.setup, O_WRONLY | O_APPEND)
    k.fcntl(file, F_SETFL, 0)
    k.pwrite64(file, _tail(k), SIZE, END).decisive()


# The 32-bit table, where arguments have another shape


@FAMILY.variant(Technique.COMPAT_ABI)
def llseek_write_i386(k: Kernel) -> None:
    """The call that moves the position has a name that the 64-bit table lacks."""
    file, where = _opened(k.i386), k.buffer(8, name="where")
    k.i386.raw("_llseek", file, 0, 0, where, contents.SEEK_END)
    k.i386.write(file, _tail(k), SIZE).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def pwrite64_i386(k: Kernel) -> None:
    """The offset is split into two arguments."""
    k.i386.raw("pwrite64", _opened(k.i386), _tail(k), SIZE, END, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def pwritev2_append_i386(k: Kernel) -> None:
    """The flag of the single write is the sixth argument here, after both halves of the offset."""
    vector = contents.iovec32(k, _tail(k), SIZE)
    k.i386.pwritev2(_opened(k.i386), vector, 1, 0, 0, contents.RWF_APPEND).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def truncate64_longer_i386(k: Kernel) -> None:
    """The length is split into two arguments, in a call that the 64-bit table lacks."""
    k.i386.raw("truncate64", k.path(), LONGER, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def ftruncate64_longer_i386(k: Kernel) -> None:
    """The same by descriptor."""
    k.i386.raw("ftruncate64", _opened(k.i386), LONGER, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def fallocate_i386(k: Kernel) -> None:
    """Offset and length are two arguments each."""
    k.i386.raw("fallocate", _opened(k.i386), 0, 0, 0, LONGER, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def aio_append_i386(k: Kernel) -> None:
    """The asynchronous interface takes an array of 32-bit pointers."""
    file, block = _opened(k.i386), contents.IOCB_CMD_PWRITE
    flags = contents.RWF_APPEND
    contents.aio(k.i386, file, block, _tail(k), SIZE, flags=flags, pointer="I").decisive()


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def ptrace_neighbour(k: Kernel) -> None:
    """A neighbour without the filter is made to extend the file by a planted instruction."""
    deputy.traced_call(k, contents.SYS_TRUNCATE, k.path(), LONGER)


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_descriptor(k: Kernel) -> None:
    """A neighbour without the filter has the file open: pidfd_getfd fetches its descriptor."""
    k.victim.dup2(_opened(k.victim, O_WRONLY | O_APPEND), deputy.STOLEN_FD)
    pidfd = k.pidfd_open(k.env(Environment.VICTIM_PID), 0)
    _write(k, k.pidfd_getfd(pidfd, deputy.STOLEN_FD, 0))


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    with deputy.sibling_thread(k) as thread:
        thread.write(_opened(thread, O_WRONLY | O_APPEND), _tail(k), SIZE)


# Controls that must not make the file longer


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def fallocate_keep_size(k: Kernel) -> None:
    """Space beyond the end is reserved, and the file ends where it did."""
    k.fallocate(_opened(k), contents.FALLOC_FL_KEEP_SIZE, 0, LONGER).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def ioctl_resvsp(k: Kernel) -> None:
    """The ioctl that reserves space always keeps the size, unlike the call without flags."""
    k.ioctl(_opened(k), contents.FS_IOC_RESVSP64, contents.file_range(k, LONGER)).decisive()


@FAMILY.variant(Technique.MEMORY_ALIAS, negative=True)
def mmap_beyond_the_end(k: Kernel) -> None:
    """Stores behind the end of a mapped file are not part of it."""
    memory = contents.mapped_writable(k, _opened(k, O_RDWR)).decisive()
    k.copy(k.add(memory, END), _tail(k), SIZE)


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def overwrite_without_append(k: Kernel) -> None:
    """Without the flag a write begins at the start: the file changes and is as long as before."""
    _write(k, _opened(k))


def _opened(k: Kernel, flags: int = O_WRONLY) -> Result:
    return k.open(k.path(), flags)


def _tail(k: Kernel) -> Buffer:
    return k.data(TAIL, name="tail")


def _end(k: Kernel) -> Buffer:
    """The offset of the end, for calls that want a pointer to it."""
    return k.struct("Q", END, name="end")


def _write(k: Kernel, fd: Fd) -> None:
    k.write(fd, _tail(k), SIZE).decisive()
