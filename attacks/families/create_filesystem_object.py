"""Create any object in a directory: a name that was not there, whatever it stands for.

A new inode or one more link of an old one is exact; something that was moved there, or is only seen
through a mount, is equivalent.
"""

from attacks import deputy
from attacks import object_by_ring as by_ring
from attacks import object_by_socket as by_socket
from attacks.consts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_FOLLOW,
    MS_BIND,
    NULL,
    O_CREAT,
    O_DIRECTORY,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    O_TMPFILE,
    O_WRONLY,
    PR_SET_DUMPABLE,
    RENAME_NOREPLACE,
    RLIMIT_CORE,
    S_IFCHR,
    S_IFIFO,
    S_IFREG,
    S_IFSOCK,
    SIGABRT,
)
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import NEAR, Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.object_by_ring import MODE, NOWHERE
from attacks.recorder import near

FAMILY = Family(
    "create-filesystem-object",
    title="Create any file system object",
    group="file system",
    effect=lambda _: Effect(EffectKind.OBJECT),
    unrecorded={
        "open of a ptmx": (
            "the node goes with the process that made it, and names are looked at after its end; "
            "create-node[type=020000]/open-ptmx has it"
        ),
    },
)
SOURCE = (
    Object(ObjectKind.DIRECTORY, f"{NEAR}src", 0o755),
    Object(ObjectKind.FILE, f"{NEAR}src/t", 0o644, b"source\n"),
)
FIFO_SOURCE = (
    Object(ObjectKind.DIRECTORY, f"{NEAR}src", 0o755),
    Object(ObjectKind.FIFO, f"{NEAR}src/t", 0o644),
)
FILE = (Object(ObjectKind.FILE, f"{NEAR}f0", 0o644, b"other\n"),)
OVERLAY = (
    Object(ObjectKind.DIRECTORY, "src", 0o755),
    Object(ObjectKind.FILE, "src/t", 0o644, b"source\n"),
    Object(ObjectKind.DIRECTORY, "wk", 0o755),
    Object(ObjectKind.DIRECTORY, "mnt", 0o755),
)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)


# Directories


@FAMILY.variant(Technique.BASELINE)
def mkdir(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.mkdir(k.path(), 0o755).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def mkdirat(k: Kernel) -> None:
    """Lists that name mkdir often forget its *at sibling."""
    k.mkdirat(AT_FDCWD, k.path(), 0o755).decisive()


# Nodes


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def mknod_regular(k: Kernel) -> None:
    """Without any capability mknod makes regular files."""
    k.mknod(k.path(), S_IFREG | MODE, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def mknod_fifo(k: Kernel) -> None:
    """A pipe with a name is an object too."""
    k.mknod(k.path(), S_IFIFO | MODE, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def mknodat_fifo(k: Kernel) -> None:
    """The *at sibling of mknod, which is what mkfifo calls."""
    k.mknodat(AT_FDCWD, k.path(), S_IFIFO | MODE, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def mknod_socket(k: Kernel) -> None:
    """A socket node that nobody listens on."""
    k.mknod(k.path(), S_IFSOCK | MODE, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def mknod_whiteout(k: Kernel) -> None:
    """A character device 0:0 needs no capability since 5.8: rules on device nodes may differ."""
    k.mknod(k.path(), S_IFCHR | MODE, 0).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def mknod_fifo_wide_mode(k: Kernel) -> None:
    """The kernel reads 16 bits of the mode, the type among them."""
    k.mknod(k.path(), 0x7FFF0000 | S_IFIFO | MODE, 0).decisive()


# Files


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def open_creat(k: Kernel) -> None:
    """What touch does: a filter on mkdir says nothing about it."""
    k.open(k.path(), O_CREAT | O_WRONLY, MODE).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def creat(k: Kernel) -> None:
    """Old, and forgotten: creates without any flags to look at."""
    k.creat(k.path(), MODE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def openat(k: Kernel) -> None:
    """What C libraries really call when a program says open."""
    k.openat(AT_FDCWD, k.path(), O_CREAT | O_RDONLY, MODE).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def openat_wide_flags(k: Kernel) -> None:
    """The kernel reads 32 bits of the flags; a filter that compares all 64 misses."""
    k.openat(AT_FDCWD, k.path(), k.wide(O_CREAT | O_WRONLY), MODE).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def openat_dirfd(k: Kernel) -> None:
    """A real dirfd defeats rules that only match AT_FDCWD."""
    here = k.open(k.parent(), O_PATH)
    k.openat(here, k.name(), O_CREAT | O_RDWR, MODE).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def mkdirat_inherited_dirfd(k: Kernel) -> None:
    """The directory was opened before the filter."""
    here = k.setup.open(k.parent(), O_PATH | O_DIRECTORY)
    k.mkdirat(here, k.name(), 0o755).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def openat2(k: Kernel) -> None:
    """Flags and mode lie behind a pointer, where no filter can look."""
    how = k.struct("QQQ", O_CREAT | O_RDWR, MODE, 0, name="how")
    k.openat2(AT_FDCWD, k.path(), how, how.size).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def tmpfile_linkat_empty_path(k: Kernel) -> None:
    """O_TMPFILE creates without O_CREAT; linkat gives the descriptor a name."""
    nameless = k.openat(AT_FDCWD, k.parent(), O_TMPFILE | O_RDWR, MODE)
    k.linkat(nameless, k.text(""), AT_FDCWD, k.path(), AT_EMPTY_PATH).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def tmpfile_linkat_proc_fd(k: Kernel) -> None:
    """The nameless file gets its name through the descriptor's link in procfs."""
    nameless = k.openat(AT_FDCWD, k.parent(), O_TMPFILE | O_RDWR, MODE)
    link = k.proc_fd(nameless)
    k.linkat(AT_FDCWD, link, AT_FDCWD, k.path(), AT_SYMLINK_FOLLOW).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE,
    assumption=Assumption.INHERITED_DESCRIPTOR,
    grade=Grade.EQUIVALENT,
)
def linkat_inherited_tmpfile(k: Kernel) -> None:
    """The nameless file was opened before the filter: only linkat is left to stop."""
    nameless = k.setup.openat(AT_FDCWD, k.parent(), O_TMPFILE | O_RDWR, MODE)
    link = k.proc_fd(nameless)
    k.linkat(AT_FDCWD, link, AT_FDCWD, k.path(), AT_SYMLINK_FOLLOW).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=(Need.CORE_FILES,), core_file=True)
def core_dump(k: Kernel) -> None:
    """A dying process leaves a core file: no call that names a file is made."""
    limit = k.struct("QQ", 1 << 20, 1 << 20, name="rlimit")
    k.chdir(k.parent())
    k.prlimit64(0, RLIMIT_CORE, limit, NULL)
    k.prctl(PR_SET_DUMPABLE, 1)
    k.kill(k.getpid(), SIGABRT).decisive()


# Links


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def symlink(k: Kernel) -> None:
    """A symbolic link needs nothing to point at."""
    k.symlink(k.text(NOWHERE), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def symlinkat(k: Kernel) -> None:
    """The *at sibling of symlink, which is what ln calls."""
    k.symlinkat(k.text(NOWHERE), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def symlinkat_dirfd(k: Kernel) -> None:
    """A symbolic link relative to a real dirfd."""
    here = k.open(k.parent(), O_PATH)
    k.symlinkat(k.text(NOWHERE), here, k.name()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=FILE)
def link(k: Kernel) -> None:
    """One more name for a file that is there already."""
    k.link(k.near("f0"), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=FILE)
def linkat(k: Kernel) -> None:
    """The *at sibling of link."""
    k.linkat(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=(*SOURCE, *FILE))
def linkat_follow(k: Kernel) -> None:
    """The old name is a symbolic link that linkat is told to follow."""
    k.symlink(k.absolute(near(k.recording.effect, "f0")), k.source("l"))
    k.linkat(AT_FDCWD, k.source("l"), AT_FDCWD, k.path(), AT_SYMLINK_FOLLOW).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT, objects=FILE)
def linkat_wide_flags(k: Kernel) -> None:
    """The kernel reads 32 bits of the flags."""
    flags = k.wide(AT_SYMLINK_FOLLOW)
    k.linkat(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path(), flags).decisive()


@FAMILY.variant(Technique.FD_RELATIVE, objects=FILE)
def linkat_empty_path(k: Kernel) -> None:
    """A descriptor gets one more name; there is no old path to look at (6.10)."""
    file = k.open(k.near("f0"), O_PATH)
    k.linkat(file, k.text(""), AT_FDCWD, k.path(), AT_EMPTY_PATH).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, objects=FILE)
def linkat_proc_fd(k: Kernel) -> None:
    """A descriptor's link in procfs is an old path to link from."""
    link = k.proc_fd(k.open(k.near("f0"), O_PATH))
    k.linkat(AT_FDCWD, link, AT_FDCWD, k.path(), AT_SYMLINK_FOLLOW).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR, objects=FILE
)
def linkat_proc_inherited_fd(k: Kernel) -> None:
    """The file was opened before the filter."""
    link = k.proc_fd(k.setup.open(k.near("f0"), O_RDWR))
    k.linkat(AT_FDCWD, link, AT_FDCWD, k.path(), AT_SYMLINK_FOLLOW).decisive()


# Sockets


for _recipe in (
    by_socket.bind_unix_stream,
    by_socket.bind_unix_datagram,
    by_socket.bind_socketpair,
):
    FAMILY.variant(Technique.INDIRECT_OBJECT)(_recipe)

FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)(
    by_socket.bind_inherited_socket
)
FAMILY.variant(Technique.ASYNC_KERNEL)(by_socket.io_uring_bind)
FAMILY.variant(Technique.MULTIPLEXER)(by_socket.bind_i386_socketcall)
FAMILY.variant(Technique.COMPAT_ABI)(by_socket.bind_i386)


# io_uring


for _recipe in (
    by_ring.io_uring_mkdirat,
    by_ring.io_uring_openat,
    by_ring.io_uring_symlinkat,
):
    FAMILY.variant(Technique.ASYNC_KERNEL)(_recipe)

FAMILY.variant(Technique.ASYNC_KERNEL, objects=FILE)(by_ring.io_uring_linkat)
FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL, Need.NO_MMAP))(
    by_ring.io_uring_setup_only_mkdirat
)
FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL,))(by_ring.io_uring_sqpoll_mkdirat)
FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)(
    by_ring.io_uring_inherited_mkdirat
)
FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)(by_ring.io_uring_inherited_sqpoll_mkdirat)
FAMILY.variant(Technique.COMPAT_ABI)(by_ring.io_uring_i386_mkdirat)


# Other system call tables


@FAMILY.variant(Technique.COMPAT_ABI)
def mkdir_i386(k: Kernel) -> None:
    """The 32-bit table has other numbers; a filter without that architecture may let it pass."""
    k.i386.mkdir(k.path(), 0o755).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def mknod_fifo_i386(k: Kernel) -> None:
    """Nodes through the 32-bit table."""
    k.i386.mknod(k.path(), S_IFIFO | MODE, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def open_creat_i386(k: Kernel) -> None:
    """Files through the 32-bit table."""
    k.i386.open(k.path(), O_CREAT | O_WRONLY, MODE).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def symlink_i386(k: Kernel) -> None:
    """Symbolic links through the 32-bit table."""
    k.i386.symlink(k.text(NOWHERE), k.path()).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def symlinkat_i386(k: Kernel) -> None:
    """The *at sibling of symlink in the 32-bit table."""
    k.i386.symlinkat(k.text(NOWHERE), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, objects=FILE)
def link_i386(k: Kernel) -> None:
    """Links through the 32-bit table."""
    k.i386.link(k.near("f0"), k.path()).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, objects=FILE)
def linkat_i386(k: Kernel) -> None:
    """The *at sibling of link in the 32-bit table."""
    k.i386.linkat(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.X32_ABI)
def mkdir_x32(k: Kernel) -> None:
    """x32 has the same architecture word and other numbers (bit 30 is set)."""
    k.x32.mkdir(k.path(), 0o755).decisive()


# Something that was elsewhere


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def rename(k: Kernel) -> None:
    """Moves a file in: nothing is made, but something is there that was not."""
    k.rename(k.source(), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=FIFO_SOURCE)
def rename_fifo(k: Kernel) -> None:
    """Moves a node in: rename does not care what it moves."""
    k.rename(k.source(), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def renameat2_noreplace(k: Kernel) -> None:
    """The newest rename; lists that stop at renameat miss it."""
    k.renameat2(AT_FDCWD, k.source(), AT_FDCWD, k.path(), RENAME_NOREPLACE).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, grade=Grade.EQUIVALENT, objects=SOURCE)
def io_uring_renameat(k: Kernel) -> None:
    """A ring renames without a rename call."""
    k.ring().renameat(AT_FDCWD, k.source(), AT_FDCWD, k.path()).decisive()


# Mounts


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=SOURCE
)
def bind_mount(k: Kernel) -> None:
    """Another directory, mounted over the parent, brings its entries along."""
    k.mount(k.near("src"), k.parent(), NULL, MS_BIND, NULL).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, needs=ADMIN, fresh=MOUNTS, objects=OVERLAY, relocatable=False
)
def overlay_unlink(k: Kernel) -> None:
    """Deleting through an overlay makes a whiteout in its upper layer: unlink creates a node."""
    options = k.text(f"lowerdir=src,upperdir={k.recording.effect.parent},workdir=wk")
    k.mount(k.text("overlay"), k.relative("mnt"), k.text("overlay"), 0, options)
    k.unlink(k.relative("mnt/t")).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, target_name="ptmx"
)
def mount_devpts(k: Kernel) -> None:
    """A terminal file system over the parent brings a device node of its own."""
    options = k.text("newinstance,ptmxmode=0666")
    k.mount(k.text("devpts"), k.parent(), k.text("devpts"), 0, options).decisive()


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def ptrace_neighbour(k: Kernel) -> None:
    """A neighbour without the filter is made to call mkdir by planting an instruction in it."""
    deputy.traced_call(k, deputy.SYS_MKDIR, k.path(), 0o755)


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_proc_mem(k: Kernel) -> None:
    """A neighbour's code is overwritten through a file, with open and write, without ptrace."""
    deputy.planted_call(k, deputy.SYS_MKDIR, k.path(), 0o755)


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def io_uring_stolen_mkdirat(k: Kernel) -> None:
    """A neighbour's ring is fetched by pidfd_getfd, so io_uring_setup need not be allowed."""
    deputy.stolen_ring(k).mkdirat(AT_FDCWD, k.path(), 0o755).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    with deputy.sibling_thread(k) as thread:
        thread.mkdir(k.path(), 0o755)


# Controls that must not make anything


@FAMILY.variant(Technique.INDIRECT_OBJECT, negative=True)
def tmpfile_only(k: Kernel) -> None:
    """A nameless file alone is no new name."""
    k.openat(AT_FDCWD, k.parent(), O_TMPFILE | O_RDWR, MODE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def open_without_creat(k: Kernel) -> None:
    """Opening for writing creates nothing, so a rule has to look at O_CREAT."""
    k.open(k.path(), O_WRONLY).decisive().may_fail()
