"""Take a restriction off a mount: the one of the parameter ``flag`` (1 read-only, 8 noexec).

The mount itself without it is exact; another mount of the same directory in its place is
equivalent.  The flags have the same numbers for mount, mount_setattr and statfs.
"""

from attacks import deputy, witness
from attacks.consts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    MOVE_MOUNT_F_EMPTY_PATH,
    MS_BIND,
    MS_RDONLY,
    NULL,
    O_PATH,
    OPEN_TREE_CLONE,
)
from attacks.consts_namespaces import (
    FSCONFIG_CMD_RECONFIGURE,
    FSCONFIG_SET_FLAG,
    MS_MGC_VAL,
    MS_NOEXEC,
    MS_REMOUNT,
    STATX_BASIC_STATS,
)
from attacks.effects import Effect, EffectKind, Grade
from attacks.errors import AttackError
from attacks.family import Assumption, Family, Fresh, Need, Parameters, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer

_FLAGS = (MS_RDONLY, MS_NOEXEC)


def _effect(parameters: Parameters) -> Effect:
    if parameters["flag"] not in _FLAGS:
        raise AttackError(f"change-mount: flag={parameters['flag']} is not 1 or 8")
    return Effect(EffectKind.WITNESSED)


FAMILY = Family(
    "change-mount",
    title="Take a restriction off a mount",
    effect=_effect,
    parameters={"flag": int(MS_RDONLY)},
    constants={"flag": _FLAGS},
    has_target=False,
    stays=True,
    group="namespaces and mounts",
)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)
_ATTR_SIZE, _STATFS_SIZE, _STATFS_FLAGS = 32, 120, 80
_STATX_SIZE, _STATX_ATTRIBUTES, _MOUNT_ROOT = 256, 8, 0x2000


def _is_read_only(parameters: Parameters) -> bool:
    return parameters["flag"] == MS_RDONLY


@FAMILY.witness
def a_mount_without_the_flag(w: Kernel) -> None:
    path = w.proc_pid(witness.subject(w), "/root/work/d")
    there, system = w.buffer(_STATX_SIZE, name="statx"), w.buffer(_STATFS_SIZE, name="statfs")
    w.statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, there)
    w.expect(w.load(there, _STATX_ATTRIBUTES), _MOUNT_ROOT, _MOUNT_ROOT)
    w.statfs(path, system)
    w.expect(w.load(system, _STATFS_FLAGS), w.param("flag"), 0)


@FAMILY.variant(Technique.BASELINE, needs=ADMIN, fresh=MOUNTS, references=("man 2 mount",))
def remount(k: Kernel) -> None:
    """The call that the author of the policy has in mind, on the whole file system."""
    k.mount(k.text("tmpfs"), k.parent(), k.text("tmpfs"), _flag(k), NULL)
    k.mount(k.text("tmpfs"), k.parent(), NULL, MS_REMOUNT, NULL).decisive()


@FAMILY.variant(
    Technique.SIBLING_SYSCALL, assumption=Assumption.TRUSTED_SETUP, needs=ADMIN, fresh=MOUNTS
)
def remount_bind(k: Kernel) -> None:
    """Another flag changes this mount only; rules that compare the flags for equality miss it."""
    _restricted_mount(k)
    k.mount(NULL, k.parent(), NULL, MS_REMOUNT | MS_BIND, NULL).decisive()


@FAMILY.variant(
    Technique.WIDE_ARGUMENT, assumption=Assumption.TRUSTED_SETUP, needs=ADMIN, fresh=MOUNTS
)
def remount_magic(k: Kernel) -> None:
    """Flags once had to carry a magic number, and still may: they equal nothing that is listed."""
    _restricted_mount(k)
    k.mount(NULL, k.parent(), NULL, MS_MGC_VAL | MS_REMOUNT | MS_BIND, NULL).decisive()


@FAMILY.variant(
    Technique.PROC_INTERFACE, assumption=Assumption.TRUSTED_SETUP, needs=ADMIN, fresh=MOUNTS
)
def remount_proc_fd(k: Kernel) -> None:
    """The mount is given as a descriptor's link in procfs, not by its name."""
    _restricted_mount(k)
    there = k.proc_fd(k.open(k.parent(), O_PATH))
    k.mount(NULL, there, NULL, MS_REMOUNT | MS_BIND, NULL).decisive()


@FAMILY.variant(
    Technique.NEWER_SYSCALL, assumption=Assumption.TRUSTED_SETUP, needs=ADMIN, fresh=MOUNTS
)
def mount_setattr(k: Kernel) -> None:
    """Since 5.12; lists lack its number, and no hook of the security modules is asked."""
    _restricted_mount(k)
    k.mount_setattr(AT_FDCWD, k.parent(), 0, _cleared(k), _ATTR_SIZE).decisive()


@FAMILY.variant(
    Technique.COMPAT_ABI, assumption=Assumption.TRUSTED_SETUP, needs=ADMIN, fresh=MOUNTS
)
def mount_setattr_i386(k: Kernel) -> None:
    """The same number in the 32-bit table, and the same structure: rules on mount see neither."""
    _restricted_mount(k)
    k.i386.mount_setattr(AT_FDCWD, k.parent(), 0, _cleared(k), _ATTR_SIZE).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE,
    assumption=Assumption.INHERITED_DESCRIPTOR,
    needs=ADMIN,
    fresh=MOUNTS,
)
def mount_setattr_inherited(k: Kernel) -> None:
    """A descriptor that can neither read nor write is enough: the path is empty."""
    _restricted_mount(k)
    there = k.setup.open(k.parent(), O_PATH)
    k.mount_setattr(there, k.text(""), AT_EMPTY_PATH, _cleared(k), _ATTR_SIZE).decisive()


@FAMILY.variant(
    Technique.NEWER_SYSCALL,
    assumption=Assumption.TRUSTED_SETUP,
    needs=ADMIN,
    fresh=MOUNTS,
    when=_is_read_only,
)
def fspick(k: Kernel) -> None:
    """The newer calls change the file system's flags as text; mount only has to fit the mount."""
    _read_only_file_system(k)
    context = k.fspick(AT_FDCWD, k.parent(), 0)
    k.fsconfig(context, FSCONFIG_SET_FLAG, k.text("rw"), NULL, 0)
    k.fsconfig(context, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE,
    assumption=Assumption.INHERITED_DESCRIPTOR,
    needs=ADMIN,
    fresh=MOUNTS,
    when=_is_read_only,
)
def fsconfig_inherited(k: Kernel) -> None:
    """The file system was picked before the filter: only fsconfig is left to see."""
    _read_only_file_system(k)
    context = k.setup.fspick(AT_FDCWD, k.parent(), 0)
    k.fsconfig(context, FSCONFIG_SET_FLAG, k.text("rw"), NULL, 0)
    k.fsconfig(context, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0).decisive()


@FAMILY.variant(
    Technique.NEWER_SYSCALL,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
    needs=ADMIN,
    fresh=MOUNTS,
)
def open_tree_attr(k: Kernel) -> None:
    """A copy of the mount is made without the flag (6.15) and put in its place; none is changed."""
    _restricted_mount(k)
    tree = k.open_tree_attr(AT_FDCWD, k.parent(), OPEN_TREE_CLONE, _cleared(k), _ATTR_SIZE)
    k.move_mount(tree, k.text(""), AT_FDCWD, k.parent(), MOVE_MOUNT_F_EMPTY_PATH).decisive()


@FAMILY.variant(
    Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD, needs=ADMIN, fresh=MOUNTS
)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    _restricted_mount(k)
    with deputy.sibling_thread(k) as thread:
        thread.mount(NULL, k.parent(), NULL, MS_REMOUNT | MS_BIND, NULL)


@FAMILY.variant(
    Technique.NAMESPACE,
    assumption=Assumption.TRUSTED_SETUP,
    needs=ADMIN,
    fresh=MOUNTS,
    negative=True,
)
def remount_in_new_user_namespace(k: Kernel) -> None:
    """The flags of mounts from outside a user namespace are locked in it."""
    _restricted_mount(k)
    k.unshare(CLONE_NEWUSER | CLONE_NEWNS)
    k.mount(NULL, k.parent(), NULL, MS_REMOUNT | MS_BIND, NULL).decisive().may_fail()


def _flag(k: Kernel) -> int:
    wanted = k.param("flag")
    return next(flag for flag in _FLAGS if flag == wanted)


def _restricted_mount(k: Kernel) -> None:
    """Before the filter: a file system that is not restricted, and a mount of it that is."""
    k.setup.mount(k.text("tmpfs"), k.parent(), k.text("tmpfs"), 0, NULL)
    k.setup.mount(NULL, k.parent(), NULL, MS_REMOUNT | MS_BIND | _flag(k), NULL)


def _read_only_file_system(k: Kernel) -> None:
    """Before the filter: the file system is read-only, its mount is not."""
    k.setup.mount(k.text("tmpfs"), k.parent(), k.text("tmpfs"), MS_RDONLY, NULL)
    k.setup.mount(NULL, k.parent(), NULL, MS_REMOUNT | MS_BIND, NULL)


def _cleared(k: Kernel) -> Buffer:
    """``struct mount_attr`` that clears the flag."""
    return k.struct("QQQQ", 0, _flag(k), 0, 0, name="mount_attr")
