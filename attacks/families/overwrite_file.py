"""Change what a file contains, so that the old bytes are not there any more.

The same file with other bytes, or without them, is exact; another file under the same name is
equivalent.  The witness asks both ways: by a descriptor from before, and by name.
"""

from attacks import deputy
from attacks import file_contents as contents
from attacks import overwrite_by_memory as by_memory
from attacks import overwrite_by_ring as by_ring
from attacks.consts import (
    AT_FDCWD,
    MOVE_MOUNT_F_EMPTY_PATH,
    MS_BIND,
    NULL,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    O_TRUNC,
    O_WRONLY,
    OPEN_TREE_CLONE,
    RENAME_EXCHANGE,
    RLIMIT_CORE,
    SIGABRT,
    Named,
)
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import TARGET, Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.overwrite_by_ring import NEW, SIZE, new, opened, write_it
from attacks.program import Environment

OLD = b"the old contents\n"
FAMILY = Family(
    "overwrite-file",
    title="Overwrite a file",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(Object(ObjectKind.FILE, TARGET, 0o644, OLD),),
    attack_technique="T1565.001",
    group="file system",
    unrecorded={
        "fallocate FALLOC_FL_ZERO_RANGE": "needs ext4, xfs or the like; tmpfs refuses it",
        "fallocate FALLOC_FL_INSERT_RANGE": "needs ext4, xfs or the like; tmpfs refuses it",
        "ioctl FS_IOC_ZERO_RANGE": "needs ext4, xfs or the like; tmpfs refuses it",
        "ioctl FICLONE, FICLONERANGE": "need a file system with reflinks",
        "open_by_handle_at of a file": "needs CAP_DAC_READ_SEARCH outside of user namespaces",
    },
)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)
SOURCE = (contents.beside("src", NEW),)
F_DUPFD = Named(0, "F_DUPFD")
FS_IOC_UNRESVSP_32 = Named(0x402C582B, "FS_IOC_UNRESVSP_32")
PUNCH = contents.FALLOC_FL_PUNCH_HOLE | contents.FALLOC_FL_KEEP_SIZE
_NUMBER = 60
"""A descriptor that nothing else has."""


@FAMILY.witness
def the_old_bytes_are_gone(w: Kernel) -> None:
    file, named = contents.watched(w), contents.watched_by_name(w)
    contents.not_both(w, file.begins_with(w, OLD), named.begins_with(w, OLD))


# Calls that write


@FAMILY.variant(Technique.BASELINE)
def write(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    write_it(k, opened(k))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def pwrite64(k: Kernel) -> None:
    """Writes at an offset, under another number."""
    k.pwrite64(opened(k), new(k), SIZE, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def writev(k: Kernel) -> None:
    """What is written and how much is behind a pointer."""
    k.writev(opened(k), contents.iovec(k, new(k), SIZE), 1).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def pwritev(k: Kernel) -> None:
    """The vector and the offset in one call, which lists that know both others may lack."""
    k.pwritev(opened(k), contents.iovec(k, new(k), SIZE), 1, 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def pwritev2(k: Kernel) -> None:
    """Since 4.6; lists from before know pwritev and not this."""
    k.pwritev2(opened(k), contents.iovec(k, new(k), SIZE), 1, 0, 0, 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def aio_pwrite(k: Kernel) -> None:
    """The old asynchronous interface writes: what io_submit does is in memory."""
    contents.aio(k, opened(k), contents.IOCB_CMD_PWRITE, new(k), SIZE).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def aio_pwritev(k: Kernel) -> None:
    """The vector is behind a pointer that is behind two others."""
    vector = contents.iovec(k, new(k), SIZE)
    contents.aio(k, opened(k), contents.IOCB_CMD_PWRITEV, vector, 1).decisive()


# Other ways to a descriptor


@FAMILY.variant(Technique.FD_RELATIVE)
def openat_write(k: Kernel) -> None:
    """Lists that name open often forget its *at sibling, which is what libraries call."""
    write_it(k, k.openat(AT_FDCWD, k.path(), O_WRONLY))


@FAMILY.variant(Technique.NEWER_SYSCALL)
def openat2_write(k: Kernel) -> None:
    """The access mode is behind a pointer, so a rule on opening for writing does not see it."""
    how = contents.open_how(k, O_WRONLY)
    write_it(k, k.openat2(AT_FDCWD, k.path(), how, contents.HOW_SIZE))


@FAMILY.variant(Technique.FD_RELATIVE)
def dup2_write(k: Kernel) -> None:
    """The program chooses the number, so rules on certain descriptors say nothing about files."""
    k.dup2(opened(k), _NUMBER)
    write_it(k, _NUMBER)


@FAMILY.variant(Technique.FD_RELATIVE)
def fcntl_dupfd_write(k: Kernel) -> None:
    """Where dup is denied to keep a number's meaning, fcntl duplicates too."""
    write_it(k, k.fcntl(opened(k), F_DUPFD, _NUMBER))


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_fd_write(k: Kernel) -> None:
    """The path that is opened for writing is that of a descriptor, not the file's."""
    write_it(k, k.open(k.proc_fd(k.open(k.path(), O_PATH)), O_WRONLY))


# Nothing instead of the old bytes


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def open_truncate(k: Kernel) -> None:
    """Opening alone destroys the contents: no call that writes is made."""
    k.open(k.path(), O_WRONLY | O_TRUNC).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def creat(k: Kernel) -> None:
    """An old call whose flags are implied: a rule on open's flags does not see O_TRUNC."""
    k.creat(k.path(), 0o644).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def truncate(k: Kernel) -> None:
    """Cuts by path: the file is not even opened."""
    k.truncate(k.path(), 3).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def truncate_i386(k: Kernel) -> None:
    """The 32-bit table has two calls for it: this one takes a length of 32 bits."""
    k.i386.truncate(k.path(), 3).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def truncate_proc_fd(k: Kernel) -> None:
    """An O_PATH descriptor, which can write nothing, gives the path that is cut."""
    k.truncate(k.proc_fd(k.open(k.path(), O_PATH)), 0).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def ftruncate_twice(k: Kernel) -> None:
    """Shorter and then longer again: zeros of the same length, and nothing was written."""
    file = opened(k)
    k.ftruncate(file, 0).decisive()
    k.ftruncate(file, len(OLD))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def fallocate_punch_hole(k: Kernel) -> None:
    """A call that is known to reserve space also frees it, and what was there reads as zeros."""
    k.fallocate(opened(k), PUNCH, 0, 5).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def ioctl_unresvsp(k: Kernel) -> None:
    """The same hole by an ioctl that the kernel has for all file systems."""
    file, space = opened(k), contents.file_range(k, SIZE)
    k.ioctl(file, contents.FS_IOC_UNRESVSP64, space).decisive()


# Memory that is the file, and advice on it

for _recipe in (
    by_memory.mmap_shared,
    by_memory.mmap_shared_validate,
    by_memory.mmap_mprotect,
    by_memory.getrandom_into_mapping,
    by_memory.uname_into_mapping,
    by_memory.process_vm_writev_self,
    by_memory.madvise_remove,
    by_memory.process_madvise_remove,
):
    FAMILY.variant(Technique.MEMORY_ALIAS)(_recipe)

FAMILY.variant(Technique.MEMORY_ALIAS, objects=SOURCE)(by_memory.read_into_mapping)
FAMILY.variant(Technique.ASYNC_KERNEL, objects=SOURCE)(by_memory.io_uring_read_into_mapping)
FAMILY.variant(Technique.ASYNC_KERNEL, objects=SOURCE, relocatable=False)(
    by_memory.io_uring_readv_fixed_into_mapping
)
FAMILY.variant(Technique.ASYNC_KERNEL)(by_memory.io_uring_madvise_remove)

for _recipe in (
    by_memory.mmap2_i386,
    by_memory.old_mmap_i386,
    by_memory.madvise_remove_i386,
):
    FAMILY.variant(Technique.COMPAT_ABI)(_recipe)

for _recipe in (
    by_memory.inherited_fd_mmap,
    by_memory.inherited_mapping,
):
    FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)(_recipe)

FAMILY.variant(Technique.MEMORY_ALIAS, negative=True)(by_memory.mmap_private)
FAMILY.variant(Technique.PROC_INTERFACE, negative=True)(by_memory.proc_self_mem_read_only_mapping)


# From other descriptors


@FAMILY.variant(Technique.SIBLING_SYSCALL, objects=SOURCE)
def sendfile(k: Kernel) -> None:
    """The kernel copies from another file; since 2.6.33 the receiver need not be a socket."""
    k.sendfile(opened(k), k.open(k.near("src"), O_RDONLY), NULL, SIZE).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, objects=SOURCE)
def copy_file_range(k: Kernel) -> None:
    """A copy from file to file within the kernel, since 4.5."""
    source = k.open(k.near("src"), O_RDONLY)
    k.copy_file_range(source, NULL, opened(k), NULL, SIZE, 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def copy_file_range_self(k: Kernel) -> None:
    """The file is overwritten with a part of itself: no other file is needed."""
    file = opened(k, O_RDWR)
    here, there = k.struct("Q", 0, name="from"), k.struct("Q", 5, name="to")
    k.copy_file_range(file, here, file, there, 5, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def splice_pipe(k: Kernel) -> None:
    """What is written is a pipe; from there the bytes move into the file."""
    source = contents.filled_pipe(k, new(k))
    k.splice(source.reader, NULL, opened(k), NULL, SIZE, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def vmsplice_splice(k: Kernel) -> None:
    """Memory becomes the pipe's contents: there is no write call, not even to the pipe."""
    between = contents.pipe(k)
    k.vmsplice(between.writer, contents.iovec(k, new(k), SIZE), 1, 0)
    k.splice(between.reader, NULL, opened(k), NULL, SIZE, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, objects=SOURCE)
def splice_file_to_file(k: Kernel) -> None:
    """From a file by way of a pipe: the bytes are never in the program's memory."""
    source, between = k.open(k.near("src"), O_RDONLY), contents.pipe(k)
    k.splice(source, NULL, between.writer, NULL, SIZE, 0)
    k.splice(between.reader, NULL, opened(k), NULL, SIZE, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def tee_splice(k: Kernel) -> None:
    """The pipe that the file is filled from is one that nothing was written to."""
    source, between = contents.filled_pipe(k, new(k)), contents.pipe(k)
    k.tee(source.reader, between.writer, SIZE, 0)
    k.splice(between.reader, NULL, opened(k), NULL, SIZE, 0).decisive()


# io_uring

for _recipe in (
    by_ring.io_uring_write,
    by_ring.io_uring_writev,
    by_ring.io_uring_write_fixed,
    by_ring.io_uring_writev_fixed,
    by_ring.io_uring_splice,
    by_ring.io_uring_tee_splice,
    by_ring.io_uring_pipe_splice,
    by_ring.io_uring_linked_direct,
):
    FAMILY.variant(Technique.ASYNC_KERNEL)(_recipe)

FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)(by_ring.io_uring_inherited_sqpoll)


# Opened before


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def inherited_fd(k: Kernel) -> None:
    """The file was opened before the filter; writing looks like any other writing."""
    write_it(k, opened(k.setup))


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def inherited_fd_ftruncate(k: Kernel) -> None:
    """A descriptor from before the filter cuts the file where write is denied."""
    k.ftruncate(opened(k.setup), 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def inherited_read_only_fd(k: Kernel) -> None:
    """A descriptor that was given for reading is opened anew for writing, through procfs."""
    file = opened(k.setup, O_RDONLY)
    write_it(k, k.open(k.proc_fd(file), O_WRONLY))


# The 32-bit table, where arguments have another shape


@FAMILY.variant(Technique.COMPAT_ABI)
def pwrite64_i386(k: Kernel) -> None:
    """The offset is split into two arguments."""
    k.i386.raw("pwrite64", opened(k.i386), new(k), SIZE, 0, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def writev_i386(k: Kernel) -> None:
    """The vector has 32-bit pointers."""
    k.i386.writev(opened(k.i386), contents.iovec32(k, new(k), SIZE), 1).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def pwritev_i386(k: Kernel) -> None:
    """The offset is split, and the vector has 32-bit pointers."""
    k.i386.pwritev(opened(k.i386), contents.iovec32(k, new(k), SIZE), 1, 0, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def pwritev2_i386(k: Kernel) -> None:
    """The newest of them, with six arguments."""
    vector = contents.iovec32(k, new(k), SIZE)
    k.i386.pwritev2(opened(k.i386), vector, 1, 0, 0, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def vmsplice_splice_i386(k: Kernel) -> None:
    """Memory becomes a pipe's contents by a vector with 32-bit pointers."""
    between = contents.pipe(k.i386)
    k.i386.vmsplice(between.writer, contents.iovec32(k, new(k), SIZE), 1, 0)
    k.i386.splice(between.reader, NULL, opened(k.i386), NULL, SIZE, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def fallocate_punch_hole_i386(k: Kernel) -> None:
    """Offset and length are two arguments each."""
    k.i386.raw("fallocate", opened(k.i386), PUNCH, 0, 0, 5, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def ioctl_unresvsp_i386(k: Kernel) -> None:
    """The structure has no padding, so that even the number of the ioctl is another."""
    file, space = opened(k.i386), contents.file_range32(k, SIZE)
    k.i386.ioctl(file, FS_IOC_UNRESVSP_32, space).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def aio_pwrite_i386(k: Kernel) -> None:
    """The asynchronous interface takes an array of 32-bit pointers."""
    file = opened(k.i386)
    operation = contents.IOCB_CMD_PWRITE
    contents.aio(k.i386, file, operation, new(k), SIZE, pointer="I").decisive()


# Another file under the same name


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def rename(k: Kernel) -> None:
    """A file that was written elsewhere takes the name: nothing was opened."""
    k.rename(k.near("src"), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def renameat2_exchange(k: Kernel) -> None:
    """Two files swap their names, and both are still there."""
    k.renameat2(AT_FDCWD, k.near("src"), AT_FDCWD, k.path(), RENAME_EXCHANGE).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def unlink_link(k: Kernel) -> None:
    """The name is removed and given to another file by a hard link."""
    k.unlink(k.path())
    k.link(k.near("src"), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def unlink_symlink(k: Kernel) -> None:
    """The name becomes a symbolic link: whoever follows it reads something else."""
    k.unlink(k.path())
    k.symlink(k.link_to("src"), k.path()).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=SOURCE
)
def bind_mount(k: Kernel) -> None:
    """Another file is mounted over it."""
    k.mount(k.near("src"), k.path(), NULL, MS_BIND, NULL).decisive()


@FAMILY.variant(
    Technique.NEWER_SYSCALL, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=SOURCE
)
def open_tree_move_mount(k: Kernel) -> None:
    """A bind mount by the mount API of Linux 5.2, without the mount call."""
    tree = k.open_tree(AT_FDCWD, k.near("src"), OPEN_TREE_CLONE)
    k.move_mount(tree, k.text(""), AT_FDCWD, k.path(), MOVE_MOUNT_F_EMPTY_PATH).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    grade=Grade.EQUIVALENT,
    needs=(Need.CORE_FILES,),
    core_file=True,
    target_name="core",
)
def core_dump(k: Kernel) -> None:
    """A dying process puts its memory in the place of a file called core, by no file call."""
    k.chdir(k.parent())
    k.prlimit64(0, RLIMIT_CORE, k.struct("QQ", 1 << 20, 1 << 20, name="limit"), NULL)
    k.kill(k.getpid(), SIGABRT).decisive()


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def ptrace_neighbour(k: Kernel) -> None:
    """A neighbour without the filter is made to call creat by planting an instruction in it."""
    deputy.traced_call(k, deputy.SYS_CREAT, k.path(), 0o644)


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_descriptor(k: Kernel) -> None:
    """A neighbour without the filter has the file open: pidfd_getfd fetches its descriptor."""
    k.victim.dup2(opened(k.victim), deputy.STOLEN_FD)
    pidfd = k.pidfd_open(k.env(Environment.VICTIM_PID), 0)
    write_it(k, k.pidfd_getfd(pidfd, deputy.STOLEN_FD, 0))


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def io_uring_stolen(k: Kernel) -> None:
    """A neighbour's ring is fetched by pidfd_getfd, so io_uring_setup need not be allowed."""
    write_it(k, deputy.stolen_ring(k).openat(AT_FDCWD, k.path(), O_WRONLY, 0))


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    with deputy.sibling_thread(k) as thread:
        thread.write(opened(thread), new(k), SIZE)


# Controls that must not change the file


@FAMILY.variant(Technique.PROC_INTERFACE, needs=ADMIN, fresh=MOUNTS, negative=True)
def bind_mount_memfd(k: Kernel) -> None:
    """A memory file cannot be mounted over a file: it is on a mount that belongs to the kernel."""
    memory = k.memfd_create(k.text("m"), 0)
    k.write(memory, new(k), SIZE)
    k.mount(k.proc_fd(memory), k.path(), NULL, MS_BIND, NULL).decisive().may_fail()
