"""A directory that appears because something is mounted: recipes of create-directory."""

from __future__ import annotations

from attacks.consts import (
    AT_FDCWD,
    FSCONFIG_CMD_CREATE,
    FSCONFIG_SET_STRING,
    MOVE_MOUNT_F_EMPTY_PATH,
    MS_BIND,
    MS_MOVE,
    MS_PRIVATE,
    MS_REC,
    NULL,
    OPEN_TREE_CLONE,
)
from attacks.kernel import Kernel
from attacks.recorder import Result

MODE = 0o755


def bind_mount(k: Kernel) -> None:
    """Another directory, mounted over the parent, brings its entries along."""
    k.mount(k.near("src"), k.parent(), NULL, MS_BIND, NULL).decisive()


def bind_mount_i386(k: Kernel) -> None:
    """The bind mount through the 32-bit table."""
    k.i386.mount(k.near("src"), k.parent(), NULL, MS_BIND, NULL).decisive()


def rbind_mount(k: Kernel) -> None:
    """A recursive bind mount differs in the flags, which a rule may compare for equality."""
    k.mount(k.near("src"), k.parent(), NULL, MS_BIND | MS_REC, NULL).decisive()


def mount_move(k: Kernel) -> None:
    """A mount that is there already is moved over the parent."""
    _private_mount(k.setup)
    k.mount(k.near("src"), k.parent(), NULL, MS_MOVE, NULL).decisive()


def move_mount(k: Kernel) -> None:
    """move_mount moves a mount that is there already; mount is never called."""
    _private_mount(k.setup)
    k.move_mount(AT_FDCWD, k.near("src"), AT_FDCWD, k.parent(), 0).decisive()


def open_tree_move_mount(k: Kernel) -> None:
    """A bind mount by the mount API of Linux 5.2, without the mount call."""
    tree = k.open_tree(AT_FDCWD, k.near("src"), OPEN_TREE_CLONE)
    _move_over_parent(k, tree)


def open_tree_attr_move_mount(k: Kernel) -> None:
    """open_tree_attr (6.15) is too new for lists that name open_tree."""
    attributes = k.buffer(32, name="attr")
    tree = k.open_tree_attr(AT_FDCWD, k.near("src"), OPEN_TREE_CLONE, attributes, 32)
    _move_over_parent(k, tree)


def move_mount_inherited_tree(k: Kernel) -> None:
    """A detached copy of a directory, made before the filter, is attached under it."""
    tree = k.setup.open_tree(AT_FDCWD, k.near("src"), OPEN_TREE_CLONE)
    _move_over_parent(k, tree)


def fsmount_tmpfs(k: Kernel) -> None:
    """The directory is made in a file system that no path leads to, which is attached after."""
    context = k.fsopen(k.text("tmpfs"), 0)
    k.fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0)
    mounted = k.fsmount(context, 0, 0)
    k.mkdirat(mounted, k.name(), MODE)
    _move_over_parent(k, mounted)


def overlay_lower(k: Kernel) -> None:
    """An overlay mount shows the entries of its lower directory in the parent."""
    options = k.text("lowerdir=src,upperdir=up,workdir=wk")
    k.mount(k.text("overlay"), k.parent(), k.text("overlay"), 0, options).decisive()


def overlay_workdir(k: Kernel) -> None:
    """Mounting an overlay makes the kernel create a directory called work in its workdir."""
    options = k.text(f"lowerdir=src,upperdir=up,workdir={k.recording.effect.parent}")
    k.mount(k.text("overlay"), k.relative("mnt"), k.text("overlay"), 0, options).decisive()


def fsopen_overlay_workdir(k: Kernel) -> None:
    """Configuring an overlay makes the directory in its workdir already: nothing is mounted."""
    context = k.fsopen(k.text("overlay"), 0)
    k.fsconfig(context, FSCONFIG_SET_STRING, k.text("lowerdir"), k.text("src"), 0)
    k.fsconfig(context, FSCONFIG_SET_STRING, k.text("upperdir"), k.text("up"), 0)
    k.fsconfig(context, FSCONFIG_SET_STRING, k.text("workdir"), k.parent(), 0)
    k.fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0).decisive()


def fsopen_overlay(k: Kernel) -> None:
    """The overlay by the mount API of Linux 5.2: its options never pass as one string."""
    context = k.fsopen(k.text("overlay"), 0)
    k.fsconfig(context, FSCONFIG_SET_STRING, k.text("lowerdir"), k.text("src"), 0)
    k.fsconfig(context, FSCONFIG_SET_STRING, k.text("upperdir"), k.text("up"), 0)
    k.fsconfig(context, FSCONFIG_SET_STRING, k.text("workdir"), k.text("wk"), 0)
    k.fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0)
    _move_over_parent(k, k.fsmount(context, 0, 0))


def _private_mount(k: Kernel) -> None:
    """Makes src a mount of its own; one that is shared cannot be moved."""
    k.mount(k.near("src"), k.near("src"), NULL, MS_BIND, NULL)
    k.mount(NULL, k.near("src"), NULL, MS_PRIVATE, NULL)


def _move_over_parent(k: Kernel, tree: Result) -> None:
    k.move_mount(tree, k.text(""), AT_FDCWD, k.parent(), MOVE_MOUNT_F_EMPTY_PATH).decisive()
