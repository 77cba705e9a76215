"""Mount a file system on a directory.

Something mounted there, in the mount namespace of the subject, is exact; a file system that the
subject works in and that is mounted nowhere is equivalent.
"""

from attacks import deputy, namespaces, witness
from attacks.consts import (
    AT_FDCWD,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    FSCONFIG_CMD_CREATE,
    MOVE_MOUNT_F_EMPTY_PATH,
    MS_BIND,
    MS_MOVE,
    MS_PRIVATE,
    NULL,
    O_PATH,
    OPEN_TREE_CLONE,
)
from attacks.consts_namespaces import CLONE_NEWCGROUP, MS_MGC_VAL, STATX_BASIC_STATS
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Arg, Buffer, Result

FAMILY = Family(
    "mount-file-system",
    title="Mount a file system",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(Object(ObjectKind.DIRECTORY, "src", 0o755),),
    has_target=False,
    stays=True,
    group="namespaces and mounts",
    unrecorded={
        "mount of ramfs, sysfs, devpts, mqueue": "the same call; the type is text",
        "mount of cgroup2, bpf, debugfs and others": "needs CAP_SYS_ADMIN of the whole system",
        "mount of fuse": "needs /dev/fuse, which the sandbox does not have",
        "mount of ext4, xfs or btrfs": "needs a block device and the whole system's CAP_SYS_ADMIN",
        "move_mount with MOVE_MOUNT_BENEATH": "needs that something is mounted there already",
    },
)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)
OVERLAY = (
    Object(ObjectKind.DIRECTORY, "up", 0o755),
    Object(ObjectKind.DIRECTORY, "wk", 0o755),
)
_STATX_SIZE, _STATX_ATTRIBUTES, _STATX_DEV = 256, 8, 136


@FAMILY.witness
def something_is_mounted(w: Kernel) -> None:
    """The attributes say whether it is the root of a mount; the working directory's device."""
    before, now = _places(w.setup), _places(w)
    namespaces.one_is_zero(w, *(w.compare(a, b, 8) for a, b in zip(before, now, strict=True)))


# The mount call


@FAMILY.variant(Technique.BASELINE, needs=ADMIN, fresh=MOUNTS, references=("man 2 mount",))
def mount(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.mount(k.text("tmpfs"), k.parent(), k.text("tmpfs"), 0, NULL).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT, needs=ADMIN, fresh=MOUNTS)
def mount_magic(k: Kernel) -> None:
    """Flags once had to carry a magic number, and still may: they equal nothing that is listed."""
    k.mount(k.text("tmpfs"), k.parent(), k.text("tmpfs"), MS_MGC_VAL, NULL).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, needs=ADMIN, fresh=MOUNTS)
def mount_proc(k: Kernel) -> None:
    """A procfs of its own, without what covers files of the old one; the type is only text."""
    k.mount(k.text("proc"), k.parent(), k.text("proc"), 0, NULL).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=ADMIN, fresh=MOUNTS)
def mount_binfmt_misc(k: Kernel) -> None:
    """Since 6.7 also in a user namespace, where its owner then registers interpreters."""
    kind = k.text("binfmt_misc")
    k.mount(kind, k.parent(), kind, 0, NULL).decisive()


@FAMILY.variant(Technique.NAMESPACE, needs=ADMIN, fresh=MOUNTS)
def mount_cgroup_after_unshare(k: Kernel) -> None:
    """The kernel refuses the cgroup tree until one has a cgroup namespace of one's own."""
    k.unshare(CLONE_NEWCGROUP)
    k.mount(k.text("cgroup2"), k.parent(), k.text("cgroup2"), 0, NULL).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=ADMIN, fresh=MOUNTS)
def mount_bind(k: Kernel) -> None:
    """A directory mounted in a second place: no file system type is named."""
    k.mount(k.relative("src"), k.parent(), NULL, MS_BIND, NULL).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, needs=ADMIN, fresh=MOUNTS)
def mount_bind_proc_fd(k: Kernel) -> None:
    """The place is given as a descriptor's link in procfs, not by its name."""
    here = k.proc_fd(k.open(k.parent(), O_PATH))
    k.mount(k.relative("src"), here, NULL, MS_BIND, NULL).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=ADMIN, fresh=MOUNTS, objects=OVERLAY)
def mount_overlay(k: Kernel) -> None:
    """Shows other directories under a new name; which, only the text of the options says."""
    options = k.text("lowerdir=src,upperdir=up,workdir=wk")
    k.mount(k.text("overlay"), k.parent(), k.text("overlay"), 0, options).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, assumption=Assumption.TRUSTED_SETUP, needs=ADMIN, fresh=MOUNTS
)
def mount_move(k: Kernel) -> None:
    """A mount that is there already is moved: nothing new is mounted."""
    _private_mount(k.setup)
    k.mount(k.relative("src"), k.parent(), NULL, MS_MOVE, NULL).decisive()


# The mount API of Linux 5.2


@FAMILY.variant(
    Technique.NEWER_SYSCALL, assumption=Assumption.TRUSTED_SETUP, needs=ADMIN, fresh=MOUNTS
)
def move_mount(k: Kernel) -> None:
    """A mount that is there already is moved by a newer call that lists from before 5.2 lack."""
    _private_mount(k.setup)
    k.move_mount(AT_FDCWD, k.relative("src"), AT_FDCWD, k.parent(), 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, needs=ADMIN, fresh=MOUNTS)
def fsmount(k: Kernel) -> None:
    """Four calls since 5.2 do what mount does; lists from before do not know their numbers."""
    _attach(k, k.fsmount(_configured(k), 0, 0))


@FAMILY.variant(Technique.NEWER_SYSCALL, needs=ADMIN, fresh=MOUNTS)
def open_tree(k: Kernel) -> None:
    """A bind mount since 5.2, without the mount call."""
    _attach(k, k.open_tree(AT_FDCWD, k.relative("src"), OPEN_TREE_CLONE))


@FAMILY.variant(Technique.NEWER_SYSCALL, needs=ADMIN, fresh=MOUNTS)
def open_tree_attr(k: Kernel) -> None:
    """Open_tree_attr (6.15) is too new for lists that name open_tree."""
    attributes = k.buffer(32, name="attr")
    tree = k.open_tree_attr(AT_FDCWD, k.relative("src"), OPEN_TREE_CLONE, attributes, 32)
    _attach(k, tree)


@FAMILY.variant(Technique.NEWER_SYSCALL, grade=Grade.EQUIVALENT, needs=ADMIN, fresh=MOUNTS)
def fsmount_detached(k: Kernel) -> None:
    """A file system that is mounted nowhere can be worked in all the same, by its descriptor."""
    detached = k.fsmount(_configured(k), 0, 0).decisive()
    k.fchdir(detached)


# What was made before the filter


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE,
    assumption=Assumption.INHERITED_DESCRIPTOR,
    needs=ADMIN,
    fresh=MOUNTS,
)
def move_mount_inherited_tree(k: Kernel) -> None:
    """A detached copy of a directory, made before the filter: only move_mount is left to see."""
    _attach(k, k.setup.open_tree(AT_FDCWD, k.relative("src"), OPEN_TREE_CLONE))


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE,
    assumption=Assumption.INHERITED_DESCRIPTOR,
    needs=ADMIN,
    fresh=MOUNTS,
)
def move_mount_inherited_file_system(k: Kernel) -> None:
    """A file system that was made before the filter, and attached under it."""
    _attach(k, k.setup.fsmount(_configured(k.setup), 0, 0))


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE,
    assumption=Assumption.INHERITED_DESCRIPTOR,
    needs=ADMIN,
    fresh=MOUNTS,
)
def fsmount_inherited_context(k: Kernel) -> None:
    """A file system that was configured before the filter: what it is, no call says any more."""
    _attach(k, k.fsmount(_configured(k.setup), 0, 0))


# In a user namespace, which anybody may have


@FAMILY.variant(Technique.NAMESPACE, fresh=MOUNTS)
def mount_in_new_user_namespace(k: Kernel) -> None:
    """In user and mount namespaces of one's own no capability is needed from outside."""
    k.unshare(CLONE_NEWUSER | CLONE_NEWNS)
    k.mount(k.text("tmpfs"), k.parent(), k.text("tmpfs"), 0, NULL).decisive()


@FAMILY.variant(Technique.NAMESPACE, fresh=MOUNTS)
def fsmount_in_new_user_namespace(k: Kernel) -> None:
    """The newer calls in namespaces of one's own: neither a capability nor mount is needed."""
    k.unshare(CLONE_NEWUSER | CLONE_NEWNS)
    _attach(k, k.fsmount(_configured(k), 0, 0))


@FAMILY.variant(Technique.NAMESPACE, fresh=MOUNTS)
def open_tree_in_new_user_namespace(k: Kernel) -> None:
    """A bind mount by the newer calls, with the capabilities of a namespace of one's own."""
    k.unshare(CLONE_NEWUSER | CLONE_NEWNS)
    _attach(k, k.open_tree(AT_FDCWD, k.relative("src"), OPEN_TREE_CLONE))


# Somebody else


@FAMILY.variant(
    Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD, needs=ADMIN, fresh=MOUNTS
)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    with deputy.sibling_thread(k) as thread:
        thread.mount(k.text("tmpfs"), k.parent(), k.text("tmpfs"), 0, NULL)


# Controls that must not mount


@FAMILY.variant(Technique.WIDE_ARGUMENT, needs=ADMIN, fresh=MOUNTS, negative=True)
def mount_wide_flags(k: Kernel) -> None:
    """The kernel looks at all 64 bits of the flags, unlike those of most calls, and refuses."""
    flags = 0xDEADBEEF00000000
    k.mount(k.text("tmpfs"), k.parent(), k.text("tmpfs"), flags, NULL).decisive().may_fail()


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=ADMIN, fresh=MOUNTS, negative=True)
def mount_bind_missing(k: Kernel) -> None:
    """A bind mount of what is not there is refused."""
    k.mount(k.relative("nothing"), k.parent(), NULL, MS_BIND, NULL).decisive().may_fail()


def _configured(k: Kernel) -> Result:
    context = k.fsopen(k.text("tmpfs"), 0)
    k.fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0)
    return context


def _attach(k: Kernel, tree: Result) -> None:
    k.move_mount(tree, k.text(""), AT_FDCWD, k.parent(), MOVE_MOUNT_F_EMPTY_PATH).decisive()


def _private_mount(k: Kernel) -> None:
    """Makes src a mount of its own; one that is shared cannot be moved."""
    k.mount(k.relative("src"), k.relative("src"), NULL, MS_BIND, NULL)
    k.mount(NULL, k.relative("src"), NULL, MS_PRIVATE, NULL)


def _places(w: Kernel) -> tuple[Arg, Arg]:
    target = _statx(w, w.proc_pid(witness.subject(w), "/root/work/d"))
    directory = _statx(w, w.proc_pid(witness.subject(w), "/cwd"))
    return target.at(_STATX_ATTRIBUTES), directory.at(_STATX_DEV)


def _statx(w: Kernel, path: Buffer) -> Buffer:
    buffer = w.buffer(_STATX_SIZE, name="statx")
    w.statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, buffer)
    return buffer
