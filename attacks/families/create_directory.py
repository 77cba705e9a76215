"""Create a directory.

A new inode at the target is exact; a directory that was elsewhere and is now found there (renamed,
mounted, linked to) is equivalent.
"""

from attacks import deputy, supervisor
from attacks import directory_by_mount as by_mount
from attacks.consts import (
    AT_FDCWD,
    IOSQE_ASYNC,
    O_CREAT,
    O_DIRECTORY,
    O_PATH,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    S_IFDIR,
)
from attacks.directory_by_mount import MODE
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import NEAR, TARGET, Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel

FAMILY = Family(
    "create-directory",
    title="Create a directory",
    group="file system",
    effect=lambda _: Effect(EffectKind.DIRECTORY),
    attack_technique="T1074",
    unrecorded={
        "ioctl BTRFS_IOC_SUBVOL_CREATE on the parent": "needs btrfs; the sandbox is a tmpfs",
    },
)
SOURCE = (
    Object(ObjectKind.DIRECTORY, f"{NEAR}src", 0o755),
    Object(ObjectKind.DIRECTORY, f"{NEAR}src/t", 0o755),
)
OVERLAY = (
    Object(ObjectKind.DIRECTORY, "src", 0o755),
    Object(ObjectKind.DIRECTORY, "src/t", 0o755),
    Object(ObjectKind.DIRECTORY, "up", 0o755),
    Object(ObjectKind.DIRECTORY, "wk", 0o755),
    Object(ObjectKind.DIRECTORY, "mnt", 0o755),
)
IN_THE_WAY = Object(ObjectKind.FILE, TARGET)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)


# Direct calls


@FAMILY.variant(Technique.BASELINE)
def mkdir(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.mkdir(k.path(), MODE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def mkdirat(k: Kernel) -> None:
    """Lists that name mkdir often forget its *at sibling, which is what some C libraries call."""
    k.mkdirat(AT_FDCWD, k.path(), MODE).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def mkdirat_dirfd(k: Kernel) -> None:
    """A real dirfd defeats rules that only match AT_FDCWD."""
    here = k.openat(AT_FDCWD, k.parent(), O_PATH | O_DIRECTORY)
    k.mkdirat(here, k.name(), MODE).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def mkdirat_inherited_dirfd(k: Kernel) -> None:
    """The directory was opened before the filter: rules on open never see it."""
    here = k.setup.openat(AT_FDCWD, k.parent(), O_PATH | O_DIRECTORY)
    k.mkdirat(here, k.name(), MODE).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def mkdirat_absolute_bad_dirfd(k: Kernel) -> None:
    """An absolute path makes the kernel ignore dirfd, so any number passes a rule on it."""
    k.mkdirat(9999, k.absolute(), MODE).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def mkdir_dotdot(k: Kernel) -> None:
    """The path is spelled in a roundabout way, for whoever compares the text of paths."""
    parent = k.recording.effect.parent
    again = parent.rpartition("/")[2]
    k.mkdir(k.text(f"{parent}/./../{again}//{k.recording.effect.name}"), MODE).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def mkdir_chdir(k: Kernel) -> None:
    """The working directory names the place; the path given to mkdir is only the last part."""
    k.chdir(k.parent())
    k.mkdir(k.name(), MODE).decisive()


@FAMILY.variant(Technique.NAMESPACE, needs=(Need.CAP_SYS_CHROOT,))
def mkdir_chroot(k: Kernel) -> None:
    """After chroot the same directory has another absolute path."""
    k.chroot(k.parent())
    k.mkdir(k.from_root(), MODE).decisive()


# Paths through procfs


@FAMILY.variant(Technique.PROC_INTERFACE)
def mkdir_proc_cwd(k: Kernel) -> None:
    """A magic link of procfs leads to the same place under another name."""
    k.mkdir(k.proc(f"self/cwd/{k.from_cwd()}"), MODE).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def mkdir_proc_root(k: Kernel) -> None:
    """The root link of procfs gives every file a second absolute path."""
    k.mkdir(k.proc(f"self/root{k.absolute_text()}"), MODE).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def mkdir_proc_fd(k: Kernel) -> None:
    """A descriptor's link in procfs turns it back into a path, so plain mkdir is relative to it."""
    here = k.open(k.parent(), O_PATH)
    k.mkdir(k.proc_fd(here, f"/{k.recording.effect.name}"), MODE).decisive()


# Arguments with more bits than the kernel reads


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def mkdirat_wide_dirfd(k: Kernel) -> None:
    """The kernel reads 32 bits of dirfd; a filter that compares all 64 with AT_FDCWD misses."""
    k.mkdirat(k.wide(AT_FDCWD), k.path(), MODE).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def mkdir_wide_mode(k: Kernel) -> None:
    """The kernel reads 16 bits of a mode; a filter that compares all 64 misses."""
    k.mkdir(k.path(), 0xFFFFFFFFFFFF0000 | MODE).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def mkdirat_wide_mode(k: Kernel) -> None:
    """The mode of mkdirat is as narrow as that of mkdir."""
    k.mkdirat(AT_FDCWD, k.path(), 0xFFFFFFFFFFFF0000 | MODE).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def mkdir_wide_nr(k: Kernel) -> None:
    """The kernel drops the upper half of rax before the filter sees it; other checkers may not."""
    k.wide_number.mkdir(k.path(), MODE).decisive()


# Other system call tables


@FAMILY.variant(Technique.COMPAT_ABI)
def mkdir_i386(k: Kernel) -> None:
    """The 32-bit table has other numbers; a filter without that architecture may let it pass."""
    k.i386.mkdir(k.path(), MODE).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def mkdirat_i386(k: Kernel) -> None:
    """The *at sibling in the 32-bit table."""
    k.i386.mkdirat(AT_FDCWD, k.path(), MODE).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def mkdir_i386_sysenter(k: Kernel) -> None:
    """The call is made before the task dies of the wrong return: a kill is no proof of a stop."""
    k.i386_sysenter.mkdir(k.path(), MODE).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def mkdir_i386_far(k: Kernel) -> None:
    """A far jump into the 32-bit code segment: the process is 32-bit for two instructions."""
    k.i386_far.mkdir(k.path(), MODE).decisive()


@FAMILY.variant(Technique.X32_ABI)
def mkdir_x32(k: Kernel) -> None:
    """x32 has the same architecture word and other numbers (bit 30 is set)."""
    k.x32.mkdir(k.path(), MODE).decisive()


@FAMILY.variant(Technique.X32_ABI)
def mkdirat_x32(k: Kernel) -> None:
    """The *at sibling among the x32 numbers."""
    k.x32.mkdirat(AT_FDCWD, k.path(), MODE).decisive()


# io_uring


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_mkdirat(k: Kernel) -> None:
    """The kernel makes the directory on behalf of a ring: no mkdir call is ever made."""
    k.ring().mkdirat(AT_FDCWD, k.path(), MODE).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_async_mkdirat(k: Kernel) -> None:
    """A kernel worker thread makes the directory, outside the caller's own context."""
    k.ring().asynchronous(IOSQE_ASYNC).mkdirat(AT_FDCWD, k.path(), MODE).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.NO_MMAP,))
def io_uring_no_mmap_mkdirat(k: Kernel) -> None:
    """The ring lies in memory of the program: rules on mmap of a descriptor never see it."""
    k.ring(mapped=False).mkdirat(AT_FDCWD, k.path(), MODE).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL, Need.NO_MMAP))
def io_uring_setup_only_mkdirat(k: Kernel) -> None:
    """A second ring that attaches to the first wakes its thread: io_uring_enter is never called."""
    k.woken_ring().mkdirat(AT_FDCWD, k.path(), MODE).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL,))
def io_uring_sqpoll_mkdirat(k: Kernel) -> None:
    """A kernel thread takes the entry from memory."""
    k.ring(sqpoll=True).mkdirat(AT_FDCWD, k.path(), MODE).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_inherited_mkdirat(k: Kernel) -> None:
    """A ring from before the filter: only io_uring_enter is left for the filter to see."""
    k.setup.ring().by(k).mkdirat(AT_FDCWD, k.path(), MODE).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_personality_mkdirat(k: Kernel) -> None:
    """Entries run with credentials that were stored in the ring before any restriction."""
    ring = k.setup.ring().registered_personality()
    ring.by(k).mkdirat(AT_FDCWD, k.path(), MODE).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)
def io_uring_inherited_sqpoll_mkdirat(k: Kernel) -> None:
    """A polled ring from before the filter takes the operation from memory, without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    ring.by(k).stores_only().mkdirat(AT_FDCWD, k.path(), MODE).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def io_uring_i386_mkdirat(k: Kernel) -> None:
    """The ring's calls have entries in the 32-bit table too."""
    k.i386.ring().mkdirat(AT_FDCWD, k.path(), MODE).decisive()


# A directory that was elsewhere


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def rename(k: Kernel) -> None:
    """Moves a directory in: nothing is made, but something is there that was not."""
    k.rename(k.source(), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def renameat(k: Kernel) -> None:
    """The *at sibling of rename."""
    k.renameat(AT_FDCWD, k.source(), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def renameat2(k: Kernel) -> None:
    """The newest rename; lists that stop at renameat miss it."""
    k.renameat2(AT_FDCWD, k.source(), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def renameat2_noreplace(k: Kernel) -> None:
    """A flag changes the arguments and not the effect."""
    k.renameat2(AT_FDCWD, k.source(), AT_FDCWD, k.path(), RENAME_NOREPLACE).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=(*SOURCE, IN_THE_WAY))
def renameat2_exchange(k: Kernel) -> None:
    """A file and a directory swap places: the directory appears where the file was."""
    k.renameat2(AT_FDCWD, k.source(), AT_FDCWD, k.path(), RENAME_EXCHANGE).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, grade=Grade.EQUIVALENT, objects=SOURCE)
def io_uring_renameat(k: Kernel) -> None:
    """A ring renames without a rename call."""
    k.ring().renameat(AT_FDCWD, k.source(), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, grade=Grade.EQUIVALENT, objects=SOURCE)
def rename_i386(k: Kernel) -> None:
    """Rename through the 32-bit table."""
    k.i386.rename(k.source(), k.path()).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, grade=Grade.EQUIVALENT, objects=SOURCE)
def renameat_i386(k: Kernel) -> None:
    """The *at sibling of rename in the 32-bit table."""
    k.i386.renameat(AT_FDCWD, k.source(), AT_FDCWD, k.path()).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, grade=Grade.EQUIVALENT, objects=SOURCE)
def renameat2_i386(k: Kernel) -> None:
    """The newest rename in the 32-bit table."""
    k.i386.renameat2(AT_FDCWD, k.source(), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE)
def symlink(k: Kernel) -> None:
    """A symbolic link: whoever follows it finds a directory."""
    k.symlink(k.link_to("src/t"), k.path()).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, grade=Grade.EQUIVALENT, objects=SOURCE)
def io_uring_symlinkat(k: Kernel) -> None:
    """A ring makes the symbolic link."""
    k.ring().symlinkat(k.link_to("src/t"), AT_FDCWD, k.path()).decisive()


# Mounts

FAMILY.variant(
    Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=SOURCE
)(by_mount.bind_mount)
FAMILY.variant(
    Technique.COMPAT_ABI, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=SOURCE
)(by_mount.bind_mount_i386)
FAMILY.variant(
    Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=SOURCE
)(by_mount.rbind_mount)
FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
    needs=ADMIN,
    fresh=MOUNTS,
    objects=SOURCE,
)(by_mount.mount_move)
FAMILY.variant(
    Technique.NEWER_SYSCALL,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
    needs=ADMIN,
    fresh=MOUNTS,
    objects=SOURCE,
)(by_mount.move_mount)

for _recipe in (
    by_mount.open_tree_move_mount,
    by_mount.open_tree_attr_move_mount,
):
    FAMILY.variant(
        Technique.NEWER_SYSCALL,
        grade=Grade.EQUIVALENT,
        needs=ADMIN,
        fresh=MOUNTS,
        objects=SOURCE,
    )(_recipe)

FAMILY.variant(
    Technique.DESCRIPTOR_REUSE,
    assumption=Assumption.INHERITED_DESCRIPTOR,
    grade=Grade.EQUIVALENT,
    needs=ADMIN,
    fresh=MOUNTS,
    objects=SOURCE,
)(by_mount.move_mount_inherited_tree)
FAMILY.variant(Technique.NEWER_SYSCALL, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS)(
    by_mount.fsmount_tmpfs
)
FAMILY.variant(
    Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=OVERLAY
)(by_mount.overlay_lower)
FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    needs=ADMIN,
    fresh=MOUNTS,
    objects=OVERLAY,
    target_name="work",
    relocatable=False,
)(by_mount.overlay_workdir)
FAMILY.variant(
    Technique.NEWER_SYSCALL,
    needs=ADMIN,
    fresh=MOUNTS,
    objects=OVERLAY,
    target_name="work",
    relocatable=False,
)(by_mount.fsopen_overlay_workdir)
FAMILY.variant(
    Technique.NEWER_SYSCALL, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS, objects=OVERLAY
)(by_mount.fsopen_overlay)


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def ptrace_neighbour(k: Kernel) -> None:
    """A neighbour without the filter is made to call mkdir by planting an instruction in it."""
    deputy.traced_call(k, deputy.SYS_MKDIR, k.path(), MODE)


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def ptrace_neighbour_registers(k: Kernel) -> None:
    """Only the neighbour's registers change; rules against writing its memory never apply."""
    deputy.stepped_call(k, deputy.SYS_MKDIR, k.path(), MODE)


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def ptrace_neighbour_syscall_info(k: Kernel) -> None:
    """A harmless call of the neighbour is replaced while it is stopped at the entry (6.16)."""
    deputy.rewritten_call(k, deputy.SYS_MKDIR, k.path(), MODE)


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_proc_mem(k: Kernel) -> None:
    """A neighbour's code is overwritten through a file, with open and write, without ptrace."""
    deputy.planted_call(k, deputy.SYS_MKDIR, k.path(), MODE)


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def io_uring_stolen_mkdirat(k: Kernel) -> None:
    """A neighbour's ring is fetched by pidfd_getfd, so io_uring_setup need not be allowed."""
    deputy.stolen_ring(k).mkdirat(AT_FDCWD, k.path(), MODE).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    with deputy.sibling_thread(k) as thread:
        thread.mkdir(k.path(), MODE)


# One's own supervisor


@FAMILY.variant(Technique.SUPERVISOR_SELF)
def mkdir_traced_child(k: Kernel) -> None:
    """A filter that leaves mkdir to a tracer (TRACE) asks the parent, which is the attacker."""
    with supervisor.traced_child(k):
        k.mkdir(k.path(), MODE).decisive()


@FAMILY.variant(Technique.SUPERVISOR_SELF)
def mkdir_traced_by_child(k: Kernel) -> None:
    """A filter that leaves mkdir to a tracer (TRACE) asks a child of the attacker's."""
    supervisor.traced_by_child(k)
    k.mkdir(k.path(), MODE).decisive()


@FAMILY.variant(Technique.SUPERVISOR_SELF)
def mkdir_own_listener(k: Kernel) -> None:
    """A newer filter's listener is asked before TRACE and instead of an older USER_NOTIF."""
    supervisor.answered_by_child(k, deputy.SYS_MKDIR)
    k.mkdir(k.path(), MODE).decisive()


# Controls that must not make a directory


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def mknod_directory(k: Kernel) -> None:
    """It is said that mknod makes directories: the kernel refuses the type."""
    k.mknod(k.path(), S_IFDIR | MODE, 0).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def openat_creat_directory(k: Kernel) -> None:
    """It is said that O_CREAT with O_DIRECTORY makes directories: it is an error since 6.4."""
    k.openat(AT_FDCWD, k.path(), O_CREAT | O_DIRECTORY, MODE).decisive().may_fail()
