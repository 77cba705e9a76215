"""Read a file whose contents are secret.

The secret has to arrive in memory of the program's own: a copy in another file is fetched from
there by a mapping, so that such a variant does not need the read call that it avoids.
"""

from attacks import deputy, read_by_ring
from attacks import file_contents as contents
from attacks import read_by_other_name as by_other_name
from attacks.consts import (
    AT_FDCWD,
    MAP_PRIVATE,
    NULL,
    O_ACCMODE,
    O_CREAT,
    O_DIRECTORY,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    PROT_EXEC,
    PROT_READ,
)
from attacks.effects import SECRET, Effect, EffectKind, Object, ObjectKind
from attacks.family import TARGET, Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.read_by_ring import SIZE, got, opened, read_it
from attacks.recorder import Result

FAMILY = Family(
    "read-file",
    title="Read a file",
    effect=lambda _: Effect(EffectKind.LEARNED),
    objects=(Object(ObjectKind.FILE, TARGET, 0o600, SECRET),),
    attack_technique="T1005",
    group="file system",
    unrecorded={
        "open_by_handle_at of a file": "needs CAP_DAC_READ_SEARCH outside of user namespaces",
        "/proc/self/map_files": "needs CAP_CHECKPOINT_RESTORE outside of user namespaces",
        "the descriptor in a fanotify event": "needs CAP_SYS_ADMIN outside of user namespaces",
        "ioctl FICLONE into another file": "needs a file system with reflinks",
    },
)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)
OUT = (contents.beside("out", b"\n"),)
ELSEWHERE = (Object(ObjectKind.DIRECTORY, "al", 0o755),)
OVERLAY = tuple(Object(ObjectKind.DIRECTORY, path, 0o755) for path in ("up", "wk", "mnt"))


# Calls that read


@FAMILY.variant(Technique.BASELINE)
def read(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    read_it(k, opened(k))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def pread64(k: Kernel) -> None:
    """Reads at an offset, under another number."""
    k.pread64(opened(k), got(k), SIZE, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def readv(k: Kernel) -> None:
    """Where the bytes go to and how many is behind a pointer."""
    k.readv(opened(k), contents.iovec(k, got(k), SIZE), 1).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def preadv(k: Kernel) -> None:
    """The vector and the offset in one call, which lists that know both others may lack."""
    k.preadv(opened(k), contents.iovec(k, got(k), SIZE), 1, 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def preadv2(k: Kernel) -> None:
    """Since 4.6; with -1 as its offset it is readv under another number."""
    k.preadv2(opened(k), contents.iovec(k, got(k), SIZE), 1, contents.WHERE_IT_IS, 0, 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def aio_pread(k: Kernel) -> None:
    """The old asynchronous interface reads: what io_submit does is in memory."""
    contents.aio(k, opened(k), contents.IOCB_CMD_PREAD, got(k), SIZE).decisive()


# Memory that is the file


@FAMILY.variant(Technique.MEMORY_ALIAS)
def mmap(k: Kernel) -> None:
    """The file becomes memory; loads read it, and no call does."""
    _fetch(k, contents.mapped(k, opened(k), PROT_READ, MAP_PRIVATE).decisive())


@FAMILY.variant(Technique.MEMORY_ALIAS)
def mmap_shared_executable(k: Kernel) -> None:
    """The way that libraries are mapped, with other bits in protection and flags."""
    _fetch(k, contents.mapped(k, opened(k), PROT_READ | PROT_EXEC).decisive())


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_self_mem(k: Kernel) -> None:
    """What is read is a file of procfs: the process's own memory, where the file is mapped."""
    memory = contents.mapped(k, opened(k), PROT_READ)
    own = k.open(k.proc("self/mem"), O_RDONLY)
    k.pread64(own, got(k), SIZE, memory).decisive()


@FAMILY.variant(Technique.MEMORY_ALIAS)
def process_vm_readv_self(k: Kernel) -> None:
    """A call that reads another process's memory is used on the caller's own mapping."""
    remote = contents.iovec(k, contents.mapped(k, opened(k), PROT_READ), SIZE)
    k.process_vm_readv(k.getpid(), contents.iovec(k, got(k), SIZE), 1, remote, 1, 0).decisive()


# Through other descriptors


@FAMILY.variant(Technique.SIBLING_SYSCALL, objects=OUT)
def sendfile_file(k: Kernel) -> None:
    """The kernel copies into another file, from where the secret is taken."""
    out = _out(k)
    k.sendfile(out, opened(k), NULL, SIZE).decisive()
    contents.shown(k, out, SIZE)


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def sendfile_memfd(k: Kernel) -> None:
    """The copy goes to a memory file: no other file is touched."""
    out = k.memfd_create(k.text("m"), 0)
    k.sendfile(out, opened(k), NULL, SIZE).decisive()
    contents.shown(k, out, SIZE)


@FAMILY.variant(Technique.NEWER_SYSCALL, objects=OUT)
def copy_file_range(k: Kernel) -> None:
    """A copy from file to file within the kernel, since 4.5."""
    out = _out(k)
    k.copy_file_range(opened(k), NULL, out, NULL, SIZE, 0).decisive()
    contents.shown(k, out, SIZE)


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def splice_pipe(k: Kernel) -> None:
    """The bytes move into a pipe; what is read is the pipe."""
    file, to = opened(k), contents.pipe(k)
    k.splice(file, NULL, to.writer, NULL, SIZE, 0).decisive()
    k.read(to.reader, got(k), SIZE)


@FAMILY.variant(Technique.SIBLING_SYSCALL, objects=OUT)
def splice_tee_splice(k: Kernel) -> None:
    """Two pipes and another file: no call reads anything into memory."""
    file, first, second, out = opened(k), contents.pipe(k), contents.pipe(k), _out(k)
    k.splice(file, NULL, first.writer, NULL, SIZE, 0).decisive()
    k.tee(first.reader, second.writer, SIZE, 0)
    k.splice(second.reader, NULL, out, NULL, SIZE, 0)
    contents.shown(k, out, SIZE)


# Other ways to open


@FAMILY.variant(Technique.FD_RELATIVE)
def openat(k: Kernel) -> None:
    """Lists that name open often forget its *at sibling, which is what libraries call."""
    read_it(k, k.openat(AT_FDCWD, k.path(), O_RDONLY))


@FAMILY.variant(Technique.FD_RELATIVE)
def openat_dirfd(k: Kernel) -> None:
    """A real dirfd defeats rules that only match AT_FDCWD."""
    read_it(k, k.openat(k.open(k.parent(), O_PATH), k.name(), O_RDONLY))


@FAMILY.variant(Technique.NEWER_SYSCALL)
def openat2(k: Kernel) -> None:
    """Since 5.6; the flags are behind a pointer, where no filter can look."""
    read_it(k, k.openat2(AT_FDCWD, k.path(), contents.open_how(k, O_RDONLY), contents.HOW_SIZE))


@FAMILY.variant(Technique.NEWER_SYSCALL)
def openat2_in_root(k: Kernel) -> None:
    """The directory is the root of the lookup, so that the path names another file elsewhere."""
    how = contents.open_how(k, O_RDONLY, contents.RESOLVE_IN_ROOT)
    there = k.open(k.parent(), O_PATH)
    read_it(k, k.openat2(there, k.from_root(), how, contents.HOW_SIZE))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def open_create(k: Kernel) -> None:
    """A rule that takes O_CREAT and O_RDWR for a new file overlooks that there is one already."""
    read_it(k, k.open(k.path(), O_CREAT | O_RDWR, 0o600))


@FAMILY.variant(Technique.FD_RELATIVE)
def chdir_relative(k: Kernel) -> None:
    """From inside the directory the path is the bare name."""
    k.chdir(k.parent())
    read_it(k, k.open(k.name(), O_RDONLY))


@FAMILY.variant(Technique.FD_RELATIVE)
def fchdir_relative(k: Kernel) -> None:
    """Gets into the directory by descriptor, so that chdir is not called."""
    k.fchdir(k.open(k.parent(), O_PATH | O_DIRECTORY))
    read_it(k, k.open(k.name(), O_RDONLY))


@FAMILY.variant(Technique.NEWER_SYSCALL)
def open_tree_path_fd(k: Kernel) -> None:
    """Without its clone flag open_tree opens the directory, for everybody, and open does not."""
    read_it(k, k.openat(k.open_tree(AT_FDCWD, k.parent(), 0), k.name(), O_RDONLY))


# Other names for the file


for _recipe in (
    by_other_name.link_alias,
    by_other_name.rename_alias,
    by_other_name.symlink_alias,
):
    FAMILY.variant(Technique.INDIRECT_OBJECT)(_recipe)


for _recipe in (
    by_other_name.proc_self_root,
    by_other_name.proc_self_cwd,
):
    FAMILY.variant(Technique.PROC_INTERFACE)(_recipe)

FAMILY.variant(Technique.PROC_INTERFACE, assumption=Assumption.UNFILTERED_NEIGHBOUR)(
    by_other_name.proc_neighbour_cwd
)
FAMILY.variant(Technique.NAMESPACE, needs=(Need.CAP_SYS_CHROOT,))(by_other_name.chroot_alias)
FAMILY.variant(Technique.INDIRECT_OBJECT, needs=ADMIN, fresh=MOUNTS, objects=ELSEWHERE)(
    by_other_name.bind_directory_alias
)
FAMILY.variant(Technique.INDIRECT_OBJECT, needs=ADMIN, fresh=MOUNTS, objects=OUT)(
    by_other_name.bind_file_alias
)
FAMILY.variant(Technique.INDIRECT_OBJECT, needs=ADMIN, fresh=MOUNTS)(by_other_name.open_tree_alias)
FAMILY.variant(Technique.INDIRECT_OBJECT, needs=ADMIN, fresh=MOUNTS, objects=OVERLAY)(
    by_other_name.overlay_alias
)
FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    needs=ADMIN,
    fresh=MOUNTS,
    relocatable=False,
    references=("open_by_handle_at(2)",),
)(by_other_name.handle_of_directory)


# io_uring

for _recipe in (
    read_by_ring.io_uring_openat_read,
    read_by_ring.io_uring_openat2_readv,
    read_by_ring.io_uring_linked_direct,
    read_by_ring.io_uring_splice,
    read_by_ring.io_uring_read_fixed,
):
    FAMILY.variant(Technique.ASYNC_KERNEL)(_recipe)

for _recipe in (
    read_by_ring.io_uring_personality,
    read_by_ring.io_uring_inherited_file,
    read_by_ring.io_uring_fixed_fd_install,
    read_by_ring.io_uring_msg_ring,
):
    FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)(_recipe)

FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)(read_by_ring.io_uring_inherited_sqpoll)


# Opened before


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def inherited_fd(k: Kernel) -> None:
    """The file was opened before the filter; reading looks like any other reading."""
    read_it(k, opened(k.setup))


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def inherited_fd_mmap(k: Kernel) -> None:
    """A descriptor from before the filter is mapped, as a library would be."""
    _fetch(k, contents.mapped(k, opened(k.setup), PROT_READ, MAP_PRIVATE).decisive())


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def inherited_path_fd(k: Kernel) -> None:
    """An O_PATH descriptor, which cannot read, is opened anew through procfs."""
    file = k.setup.open(k.path(), O_PATH)
    read_it(k, k.open(k.proc_fd(file), O_RDONLY))


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def inherited_dirfd(k: Kernel) -> None:
    """A directory from before the filter leads to all files in it."""
    read_it(k, k.openat(k.setup.open(k.parent(), O_RDONLY | O_DIRECTORY), k.name(), O_RDONLY))


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def received_by_recvmsg(k: Kernel) -> None:
    """The open file comes in a message: nothing here opens anything."""
    socket = contents.queued_descriptor(k.setup, opened(k.setup))
    message = contents.empty_message(k)
    k.recvmsg(socket, message.header, 0)
    read_it(k, message.descriptor(k))


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def received_by_recvmmsg(k: Kernel) -> None:
    """The call that receives many messages is forgotten where recvmsg is denied."""
    socket = contents.queued_descriptor(k.setup, opened(k.setup))
    message = contents.empty_message(k)
    vector = k.buffer(64, name="mmsghdr")
    k.copy(vector, message.header, message.header.size)
    k.recvmmsg(socket, vector, 1, 0, NULL)
    read_it(k, message.descriptor(k))


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def received_by_io_uring(k: Kernel) -> None:
    """A ring receives the message with the open file."""
    socket = contents.queued_descriptor(k.setup, opened(k.setup))
    message = contents.empty_message(k)
    k.ring().submit("RECVMSG", fd=socket, addr=message.header, length=1)
    read_it(k, message.descriptor(k))


@FAMILY.variant(Technique.COMPAT_ABI, assumption=Assumption.INHERITED_DESCRIPTOR)
def received_by_socketcall_i386(k: Kernel) -> None:
    """One number for all calls on sockets, with the arguments in memory, receives the file."""
    socket = contents.queued_descriptor(k.setup, opened(k.setup))
    message = contents.empty_message32(k)
    k.i386.socketcall(contents.SYS_RECVMSG, k.struct("III", socket, message.header, 0, name="args"))
    read_it(k, message.descriptor32(k))


# The 32-bit table, where arguments have another shape


@FAMILY.variant(Technique.COMPAT_ABI)
def pread64_i386(k: Kernel) -> None:
    """The offset is split into two arguments."""
    k.i386.raw("pread64", opened(k.i386), got(k), SIZE, 0, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def readv_i386(k: Kernel) -> None:
    """The vector has 32-bit pointers."""
    k.i386.readv(opened(k.i386), contents.iovec32(k, got(k), SIZE), 1).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def preadv_i386(k: Kernel) -> None:
    """The offset is split, and the vector has 32-bit pointers."""
    k.i386.preadv(opened(k.i386), contents.iovec32(k, got(k), SIZE), 1, 0, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def preadv2_i386(k: Kernel) -> None:
    """Both halves of the offset are -1, which stands for the file's own position."""
    vector = contents.iovec32(k, got(k), SIZE)
    k.i386.preadv2(
        opened(k.i386), vector, 1, contents.WHERE_IT_IS, contents.WHERE_IT_IS, 0
    ).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def mmap2_i386(k: Kernel) -> None:
    """This mmap has a name that the 64-bit table lacks."""
    _fetch(k, contents.mapped_by_mmap2(k, opened(k.i386), PROT_READ, MAP_PRIVATE).decisive())


@FAMILY.variant(Technique.COMPAT_ABI)
def old_mmap_i386(k: Kernel) -> None:
    """All six arguments are behind one pointer, where no filter can look."""
    _fetch(k, contents.mapped_by_old_mmap(k, opened(k.i386), PROT_READ, MAP_PRIVATE).decisive())


@FAMILY.variant(Technique.COMPAT_ABI, objects=OUT)
def sendfile64_i386(k: Kernel) -> None:
    """The 32-bit table has two sendfile calls, and the second is a name of its own."""
    out = _out(k)
    k.i386.raw("sendfile64", out, opened(k.i386), NULL, SIZE).decisive()
    contents.shown(k, out, SIZE)


@FAMILY.variant(Technique.COMPAT_ABI)
def aio_pread_i386(k: Kernel) -> None:
    """The asynchronous interface takes an array of 32-bit pointers."""
    contents.aio(
        k.i386, opened(k.i386), contents.IOCB_CMD_PREAD, got(k), SIZE, pointer="I"
    ).decisive()


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_descriptor(k: Kernel) -> None:
    """A neighbour without the filter has the file open: pidfd_getfd fetches its descriptor."""
    k.victim.dup2(opened(k.victim), deputy.STOLEN_FD)
    pidfd = k.pidfd_open(k.env(Environment.VICTIM_PID), 0)
    read_it(k, k.pidfd_getfd(pidfd, deputy.STOLEN_FD, 0))


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def io_uring_stolen(k: Kernel) -> None:
    """A neighbour's ring is fetched by pidfd_getfd, so io_uring_setup need not be allowed."""
    read_it(k, deputy.stolen_ring(k).openat(AT_FDCWD, k.path(), O_RDONLY, 0))


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    with deputy.sibling_thread(k) as thread:
        thread.read(opened(thread), got(k), SIZE)


# Controls that must not read


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def read_path_fd(k: Kernel) -> None:
    """An O_PATH descriptor leads to the file and is refused by read."""
    k.read(k.open(k.path(), O_PATH), got(k), SIZE).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def read_access_mode_3(k: Kernel) -> None:
    """The access mode 3 is checked like reading and writing and gives a descriptor for neither."""
    file = k.openat(AT_FDCWD, k.path(), O_ACCMODE)
    k.read(file, got(k), SIZE).decisive().may_fail()


def _out(k: Kernel) -> Result:
    return k.open(k.near("out"), O_RDWR)


def _fetch(k: Kernel, memory: Result) -> None:
    k.copy(got(k), memory, SIZE)
