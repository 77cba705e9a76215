"""Create a regular file.

A new inode at the target is exact, and so is a core file or a copied-up one; a file that had
another name before, or is only seen through a mount or a link, is equivalent.
"""

from attacks import deputy
from attacks import file_by_ring as by_ring
from attacks.consts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_FOLLOW,
    MS_BIND,
    NULL,
    O_ACCMODE,
    O_CREAT,
    O_DIRECTORY,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    O_TMPFILE,
    O_WRONLY,
    PR_SET_DUMPABLE,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RLIMIT_CORE,
    S_IFREG,
    SIGABRT,
)
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import NEAR, TARGET, Assumption, Family, Fresh, Need, Technique
from attacks.file_by_ring import HOW_SIZE, MODE, open_how
from attacks.kernel import Kernel

FAMILY = Family(
    "create-file",
    title="Create a regular file",
    group="file system",
    effect=lambda _: Effect(EffectKind.FILE),
)
SOURCE = (
    Object(ObjectKind.DIRECTORY, f"{NEAR}src", 0o755),
    Object(ObjectKind.FILE, f"{NEAR}src/t", 0o644, b"source\n"),
)
OVERLAY = (
    Object(ObjectKind.DIRECTORY, "src", 0o755),
    Object(ObjectKind.FILE, "src/t", 0o644, b"source\n"),
    Object(ObjectKind.DIRECTORY, "wk", 0o755),
    Object(ObjectKind.DIRECTORY, "mnt", 0o755),
)
IN_THE_WAY = Object(ObjectKind.DIRECTORY, TARGET, 0o755)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)
QUEUES = (Fresh.MOUNT, Fresh.IPC)


# Direct calls


@FAMILY.variant(Technique.BASELINE)
def open_creat(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.open(k.path(), O_CREAT | O_WRONLY, MODE).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def creat(k: Kernel) -> None:
    """Old, and forgotten: opens for writing and creates, without any flags to look at."""
    k.creat(k.path(), MODE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def openat(k: Kernel) -> None:
    """What C libraries really call when a program says open."""
    k.openat(AT_FDCWD, k.path(), O_CREAT | O_WRONLY, MODE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def openat_rdonly(k: Kernel) -> None:
    """Creates although it only asks to read: rules that look for write access miss it."""
    k.openat(AT_FDCWD, k.path(), O_CREAT | O_RDONLY, MODE).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def openat_dirfd(k: Kernel) -> None:
    """A real dirfd defeats rules that only match AT_FDCWD."""
    here = k.open(k.parent(), O_PATH)
    k.openat(here, k.name(), O_CREAT | O_RDWR, MODE).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def openat_inherited_dirfd(k: Kernel) -> None:
    """The directory was opened before the filter."""
    here = k.setup.open(k.parent(), O_PATH | O_DIRECTORY)
    k.openat(here, k.name(), O_CREAT | O_RDWR, MODE).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def openat2(k: Kernel) -> None:
    """Flags and mode lie behind a pointer, where no filter can look."""
    k.openat2(AT_FDCWD, k.path(), open_how(k, O_CREAT | O_RDWR), HOW_SIZE).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def mknod_regular(k: Kernel) -> None:
    """Without any capability mknod makes regular files."""
    k.mknod(k.path(), S_IFREG | MODE, 0).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def mknod_no_type(k: Kernel) -> None:
    """A mode without a type means a regular file: rules that look for S_IFREG miss it."""
    k.mknod(k.path(), MODE, 0).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def mknodat_regular(k: Kernel) -> None:
    """The *at sibling of mknod."""
    k.mknodat(AT_FDCWD, k.path(), S_IFREG | MODE, 0).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def open_proc_cwd(k: Kernel) -> None:
    """A magic link of procfs leads to the same place under another name."""
    k.open(k.proc(f"self/cwd/{k.from_cwd()}"), O_CREAT | O_WRONLY, MODE).decisive()


# Arguments with more bits than the kernel reads


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def openat_access_mode_3(k: Kernel) -> None:
    """The fourth access mode is neither reading nor writing for whoever compares the two bits."""
    k.openat(AT_FDCWD, k.path(), O_CREAT | O_ACCMODE, MODE).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def openat_wide_flags(k: Kernel) -> None:
    """The kernel reads 32 bits of the flags; a filter that compares all 64 misses."""
    k.openat(AT_FDCWD, k.path(), k.wide(O_CREAT | O_WRONLY), MODE).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def openat_unknown_flags(k: Kernel) -> None:
    """The kernel drops flag bits that it does not know, so equality is the wrong question."""
    k.openat(AT_FDCWD, k.path(), O_CREAT | O_WRONLY | 0x40000004, MODE).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def mknod_wide_mode(k: Kernel) -> None:
    """The kernel reads 16 bits of the mode."""
    k.mknod(k.path(), 0xABCD0000 | S_IFREG | MODE, 0).decisive()


# Other system call tables


@FAMILY.variant(Technique.COMPAT_ABI)
def open_i386(k: Kernel) -> None:
    """The 32-bit table has other numbers; a filter without that architecture may let it pass."""
    k.i386.open(k.path(), O_CREAT | O_WRONLY, MODE).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def creat_i386(k: Kernel) -> None:
    """The old creat in the 32-bit table."""
    k.i386.creat(k.path(), MODE).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def mknod_i386(k: Kernel) -> None:
    """Regular files by mknod in the 32-bit table."""
    k.i386.mknod(k.path(), S_IFREG | MODE, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def mknodat_i386(k: Kernel) -> None:
    """The *at sibling of mknod in the 32-bit table."""
    k.i386.mknodat(AT_FDCWD, k.path(), S_IFREG | MODE, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def openat_i386(k: Kernel) -> None:
    """The *at sibling of open in the 32-bit table."""
    k.i386.openat(AT_FDCWD, k.path(), O_CREAT | O_WRONLY, MODE).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def openat2_i386(k: Kernel) -> None:
    """The newest open has one number in both tables, and the architecture still differs."""
    k.i386.openat2(AT_FDCWD, k.path(), open_how(k, O_CREAT | O_RDWR), HOW_SIZE).decisive()


@FAMILY.variant(Technique.X32_ABI)
def open_x32(k: Kernel) -> None:
    """x32 has the same architecture word and other numbers (bit 30 is set)."""
    k.x32.open(k.path(), O_CREAT | O_WRONLY, MODE).decisive()


@FAMILY.variant(Technique.X32_ABI)
def openat_x32(k: Kernel) -> None:
    """The *at sibling among the x32 numbers."""
    k.x32.openat(AT_FDCWD, k.path(), O_CREAT | O_WRONLY, MODE).decisive()


# A file without a name that gets one


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


@FAMILY.variant(Technique.ASYNC_KERNEL)
def openat2_tmpfile_io_uring_linkat(k: Kernel) -> None:
    """Flags out of sight, no O_CREAT, and the name is given by a ring."""
    how = open_how(k, O_TMPFILE | O_RDWR)
    link = k.proc_fd(k.openat2(AT_FDCWD, k.parent(), how, HOW_SIZE))
    k.ring().linkat(AT_FDCWD, link, AT_FDCWD, k.path(), AT_SYMLINK_FOLLOW).decisive()


# io_uring


for _recipe in (
    by_ring.io_uring_openat,
    by_ring.io_uring_async_openat,
    by_ring.io_uring_openat_direct,
    by_ring.io_uring_openat2,
):
    FAMILY.variant(Technique.ASYNC_KERNEL)(_recipe)

FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL, Need.NO_MMAP))(
    by_ring.io_uring_setup_only_openat
)
FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL,))(by_ring.io_uring_sqpoll_openat)

for _recipe in (
    by_ring.io_uring_inherited_openat,
    by_ring.io_uring_personality_openat,
):
    FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)(_recipe)

FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)(by_ring.io_uring_inherited_sqpoll_openat)
FAMILY.variant(Technique.COMPAT_ABI)(by_ring.io_uring_i386_openat)


# A file that was elsewhere


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def link(k: Kernel) -> None:
    """A second name for a file that is there already."""
    k.link(k.source(), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def linkat(k: Kernel) -> None:
    """The *at sibling of link."""
    k.linkat(AT_FDCWD, k.source(), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, grade=Grade.EQUIVALENT, objects=SOURCE)
def link_i386(k: Kernel) -> None:
    """A second name through the 32-bit table."""
    k.i386.link(k.source(), k.path()).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, grade=Grade.EQUIVALENT, objects=SOURCE)
def linkat_i386(k: Kernel) -> None:
    """The *at sibling of link in the 32-bit table."""
    k.i386.linkat(AT_FDCWD, k.source(), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, grade=Grade.EQUIVALENT, objects=SOURCE)
def io_uring_linkat(k: Kernel) -> None:
    """A ring gives the second name."""
    k.ring().linkat(AT_FDCWD, k.source(), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def rename(k: Kernel) -> None:
    """Moves a file in: nothing is made, but something is there that was not."""
    k.rename(k.source(), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def renameat(k: Kernel) -> None:
    """The *at sibling of rename."""
    k.renameat(AT_FDCWD, k.source(), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def renameat2_noreplace(k: Kernel) -> None:
    """The newest rename; lists that stop at renameat miss it."""
    k.renameat2(AT_FDCWD, k.source(), AT_FDCWD, k.path(), RENAME_NOREPLACE).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=(*SOURCE, IN_THE_WAY))
def renameat2_exchange(k: Kernel) -> None:
    """A directory and a file swap places: the file appears where the directory was."""
    k.renameat2(AT_FDCWD, k.source(), AT_FDCWD, k.path(), RENAME_EXCHANGE).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, grade=Grade.EQUIVALENT, objects=SOURCE)
def io_uring_renameat(k: Kernel) -> None:
    """A ring renames without a rename call."""
    k.ring().renameat(AT_FDCWD, k.source(), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def symlink(k: Kernel) -> None:
    """A symbolic link: whoever follows it finds a regular file."""
    k.symlink(k.link_to("src/t"), k.path()).decisive()


# The kernel writes a file of its own accord


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=(Need.CORE_FILES,), core_file=True)
def core_dump(k: Kernel) -> None:
    """A dying process leaves a core file: bytes of its choice and no file call at all."""
    limit = k.struct("QQ", 1 << 20, 1 << 20, name="rlimit")
    k.chdir(k.parent())
    k.prlimit64(0, RLIMIT_CORE, limit, NULL)
    k.prctl(PR_SET_DUMPABLE, 1)
    k.kill(k.getpid(), SIGABRT).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=(Need.CORE_FILES,), core_file=True)
def core_dump_fault(k: Kernel) -> None:
    """The process dies of an invalid instruction: no kill call either, and no prlimit64."""
    limit = k.struct("QQ", 1 << 20, 1 << 20, name="rlimit")
    k.chdir(k.parent())
    k.setrlimit(RLIMIT_CORE, limit)
    k.fault().decisive()


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
def overlay_copy_up_open(k: Kernel) -> None:
    """Opening for writing, without O_CREAT, makes an overlay copy the file into its upper layer."""
    _mount_overlay(k)
    k.open(k.relative("mnt/t"), O_WRONLY).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, needs=ADMIN, fresh=MOUNTS, objects=OVERLAY, relocatable=False
)
def overlay_copy_up_chmod(k: Kernel) -> None:
    """Changing a mode is enough to make an overlay copy the file up: nothing is even opened."""
    _mount_overlay(k)
    k.chmod(k.relative("mnt/t"), 0o600).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=QUEUES)
def mqueue_open(k: Kernel) -> None:
    """A file system of message queues, mounted over the parent, shows queues as files."""
    _mount_queues(k)
    k.open(k.path(), O_CREAT | O_RDWR, 0o600).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=QUEUES)
def mqueue_mq_open(k: Kernel) -> None:
    """mq_open creates what a mounted queue file system shows as a file."""
    _mount_queues(k)
    k.mq_open(k.name(), O_CREAT | O_RDWR, 0o600, NULL).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=QUEUES)
def mqueue_mq_open_i386(k: Kernel) -> None:
    """The same queue through the 32-bit table."""
    _mount_queues(k)
    k.i386.mq_open(k.name(), O_CREAT | O_RDWR, 0o600, NULL).decisive()


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def ptrace_neighbour(k: Kernel) -> None:
    """A neighbour without the filter is made to call creat by planting an instruction in it."""
    deputy.traced_call(k, deputy.SYS_CREAT, k.path(), MODE)


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_proc_mem(k: Kernel) -> None:
    """A neighbour's code is overwritten through a file, with open and write, without ptrace."""
    deputy.planted_call(k, deputy.SYS_CREAT, k.path(), MODE)


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def io_uring_stolen_openat(k: Kernel) -> None:
    """A neighbour's ring is fetched by pidfd_getfd, so io_uring_setup need not be allowed."""
    ring = deputy.stolen_ring(k)
    ring.openat(AT_FDCWD, k.path(), O_CREAT | O_RDWR, MODE).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    with deputy.sibling_thread(k) as thread:
        thread.open(k.path(), O_CREAT | O_WRONLY, MODE)


# Controls that must not make a file


@FAMILY.variant(Technique.INDIRECT_OBJECT, negative=True)
def tmpfile_only(k: Kernel) -> None:
    """A nameless file alone is no new file for anybody else."""
    k.openat(AT_FDCWD, k.parent(), O_TMPFILE | O_RDWR, MODE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def open_path_creat(k: Kernel) -> None:
    """O_PATH makes the kernel ignore O_CREAT, so a rule may let the two pass together."""
    k.open(k.path(), O_PATH | O_CREAT, MODE).decisive().may_fail()


def _mount_overlay(k: Kernel) -> None:
    """The target's directory becomes the upper layer."""
    parent = k.recording.effect.parent
    options = k.text(f"lowerdir=src,upperdir={parent},workdir=wk")
    k.mount(k.text("overlay"), k.relative("mnt"), k.text("overlay"), 0, options)


def _mount_queues(k: Kernel) -> None:
    k.mount(k.text("mqueue"), k.parent(), k.text("mqueue"), 0, NULL)
