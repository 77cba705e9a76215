"""Reveal what a mount hides: read a file below a directory that something is mounted on."""

from attacks import deputy, namespaces
from attacks.consts import (
    AT_FDCWD,
    CLONE_NEWNS,
    MNT_DETACH,
    MS_BIND,
    MS_MOVE,
    NULL,
    O_PATH,
    O_RDONLY,
    OPEN_TREE_CLONE,
)
from attacks.consts_namespaces import MNT_EXPIRE
from attacks.effects import SECRET, Effect, EffectKind, Object, ObjectKind
from attacks.family import Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.program import Environment

FAMILY = Family(
    "unmount",
    title="Reveal what a mount hides",
    effect=lambda _: Effect(EffectKind.LEARNED),
    objects=(
        Object(ObjectKind.FILE, "d/under", 0o600, SECRET),
        Object(ObjectKind.DIRECTORY, "e", 0o755),
    ),
    has_target=False,
    group="namespaces and mounts",
    unrecorded={
        "rmdir or rename of the directory in another mount namespace": (
            "whoever is in that namespace sees what is hidden already"
        ),
    },
)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)
PREPARED = Assumption.TRUSTED_SETUP


@FAMILY.variant(Technique.BASELINE, needs=ADMIN, fresh=MOUNTS, references=("man 2 umount",))
def umount2(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    _hide(k)
    k.umount2(k.parent(), 0).decisive()
    _learn(k, "d/under")


@FAMILY.variant(Technique.SIBLING_SYSCALL, assumption=PREPARED, needs=ADMIN, fresh=MOUNTS)
def umount2_detach(k: Kernel) -> None:
    """Also works while the mount is in use; a rule that asks for flags of 0 misses it."""
    _hide(k.setup)
    k.umount2(k.parent(), MNT_DETACH).decisive()
    _learn(k, "d/under")


@FAMILY.variant(Technique.SIBLING_SYSCALL, assumption=PREPARED, needs=ADMIN, fresh=MOUNTS)
def umount2_expire(k: Kernel) -> None:
    """The first call only marks the mount and fails; the second, which looks the same, unmounts."""
    _hide(k.setup)
    k.umount2(k.parent(), MNT_EXPIRE).may_fail()
    k.umount2(k.parent(), MNT_EXPIRE).decisive()
    _learn(k, "d/under")


@FAMILY.variant(Technique.PROC_INTERFACE, assumption=PREPARED, needs=ADMIN, fresh=MOUNTS)
def umount2_proc_fd(k: Kernel) -> None:
    """The mount is given as a descriptor's link in procfs, not by its name."""
    _hide(k.setup)
    k.umount2(k.proc_fd(k.open(k.parent(), O_PATH)), MNT_DETACH).decisive()
    _learn(k, "d/under")


@FAMILY.variant(Technique.COMPAT_ABI, assumption=PREPARED, needs=ADMIN, fresh=MOUNTS)
def umount_i386(k: Kernel) -> None:
    """The 32-bit table still has the call without flags, which no x86-64 list names."""
    _hide(k.setup)
    k.i386.umount(k.parent()).decisive()
    _learn(k, "d/under")


@FAMILY.variant(Technique.INDIRECT_OBJECT, assumption=PREPARED, needs=ADMIN, fresh=MOUNTS)
def mount_move(k: Kernel) -> None:
    """The mount is moved away with the mount call: nothing is unmounted."""
    _hide(k.setup)
    k.mount(k.parent(), k.relative("e"), NULL, MS_MOVE, NULL).decisive()
    _learn(k, "d/under")


@FAMILY.variant(Technique.NEWER_SYSCALL, assumption=PREPARED, needs=ADMIN, fresh=MOUNTS)
def move_mount(k: Kernel) -> None:
    """The newer call (5.2) moves the mount away; lists from before do not know its number."""
    _hide(k.setup)
    k.move_mount(AT_FDCWD, k.parent(), AT_FDCWD, k.relative("e"), 0).decisive()
    _learn(k, "d/under")


@FAMILY.variant(Technique.INDIRECT_OBJECT, assumption=PREPARED, needs=ADMIN, fresh=MOUNTS)
def mount_bind_above(k: Kernel) -> None:
    """What is above the mount is mounted elsewhere, without what is mounted on it."""
    _hide(k.setup)
    k.mount(k.text("."), k.relative("e"), NULL, MS_BIND, NULL).decisive()
    _learn(k, "e/d/under")


@FAMILY.variant(Technique.NEWER_SYSCALL, assumption=PREPARED, needs=ADMIN, fresh=MOUNTS)
def open_tree_above(k: Kernel) -> None:
    """A detached copy of what is above the mount: nothing is mounted or unmounted anywhere."""
    _hide(k.setup)
    tree = k.open_tree(AT_FDCWD, k.text("."), OPEN_TREE_CLONE).decisive()
    namespaces.read_secret(k, k.openat(tree, k.text("d/under"), O_RDONLY))


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE,
    assumption=Assumption.INHERITED_DESCRIPTOR,
    needs=ADMIN,
    fresh=MOUNTS,
)
def openat_inherited(k: Kernel) -> None:
    """The directory was opened before something was mounted on it: the descriptor is below."""
    below = k.setup.open(k.parent(), O_PATH)
    _hide(k.setup)
    namespaces.read_secret(k, k.openat(below, k.text("under"), O_RDONLY).decisive())


@FAMILY.variant(Technique.PROC_INTERFACE, assumption=PREPARED, needs=ADMIN, fresh=MOUNTS)
def neighbours_root(k: Kernel) -> None:
    """A neighbour in another mount namespace does not have the mount: its root shows the file."""
    _hide(k.setup)
    path = namespaces.neighbours(k, "root/work/d/under")
    namespaces.read_secret(k, k.open(path, O_RDONLY).decisive())


@FAMILY.variant(Technique.NAMESPACE, assumption=PREPARED, needs=ADMIN, fresh=MOUNTS)
def setns_neighbours(k: Kernel) -> None:
    """Joins the mount namespace of a neighbour, where nothing is mounted there."""
    _hide(k.setup)
    k.setns(k.pidfd_open(k.env(Environment.VICTIM_PID), 0), CLONE_NEWNS).decisive()
    _learn(k, "work/d/under")


@FAMILY.variant(
    Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD, needs=ADMIN, fresh=MOUNTS
)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    _hide(k.setup)
    with deputy.sibling_thread(k) as thread:
        thread.umount2(k.parent(), MNT_DETACH)
    _learn(k, "d/under")


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, assumption=PREPARED, needs=ADMIN, fresh=MOUNTS, negative=True
)
def rename_directory(k: Kernel) -> None:
    """A directory that something is mounted on cannot be renamed away."""
    _hide(k.setup)
    k.rename(k.parent(), k.relative("e2")).decisive().may_fail()


def _hide(k: Kernel) -> None:
    k.mount(k.text("tmpfs"), k.parent(), k.text("tmpfs"), 0, NULL)


def _learn(k: Kernel, path: str) -> None:
    namespaces.read_secret(k, k.open(k.relative(path), O_RDONLY))
