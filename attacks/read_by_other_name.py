"""Reading a file under another name: recipes of the family read-file."""

from __future__ import annotations

from attacks import file_contents as contents
from attacks.consts import (
    AT_FDCWD,
    MS_BIND,
    NULL,
    O_DIRECTORY,
    O_PATH,
    O_RDONLY,
    OPEN_TREE_CLONE,
)
from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.read_by_ring import read_it


def link_alias(k: Kernel) -> None:
    """A second hard link: rules on the name do not know this one."""
    alias = k.near("alias")
    k.link(k.path(), alias)
    read_it(k, k.open(alias, O_RDONLY))


def rename_alias(k: Kernel) -> None:
    """The file gets another name before it is opened."""
    alias = k.near("alias")
    k.rename(k.path(), alias)
    read_it(k, k.open(alias, O_RDONLY))


def symlink_alias(k: Kernel) -> None:
    """Whoever compares the path that was opened sees the link's name."""
    alias = k.near("alias")
    k.symlink(k.path(), alias)
    read_it(k, k.open(alias, O_RDONLY))


def proc_self_root(k: Kernel) -> None:
    """Procfs has a link to the root, and so another path to every file."""
    read_it(k, k.open(k.proc(f"self/root{k.absolute_text()}"), O_RDONLY))


def proc_self_cwd(k: Kernel) -> None:
    """Procfs has a link to the working directory."""
    read_it(k, k.open(k.proc(f"self/cwd/{k.from_cwd()}"), O_RDONLY))


def proc_neighbour_cwd(k: Kernel) -> None:
    """The working directory of another process of the same user is a way to the file."""
    there = k.open(k.proc_pid(k.env(Environment.VICTIM_PID)), O_PATH)
    read_it(k, k.openat(there, k.text(f"cwd/{k.from_cwd()}"), O_RDONLY))


def chroot_alias(k: Kernel) -> None:
    """In another root the file has another path."""
    k.chroot(k.parent())
    read_it(k, k.open(k.from_root(), O_RDONLY))


def bind_directory_alias(k: Kernel) -> None:
    """The directory is mounted a second time, where the rules allow reading."""
    k.mount(k.parent(), k.relative("al"), NULL, MS_BIND, NULL)
    read_it(k, k.open(k.relative(f"al/{k.recording.effect.name}"), O_RDONLY))


def bind_file_alias(k: Kernel) -> None:
    """The file is mounted over one that may be read."""
    k.mount(k.path(), k.near("out"), NULL, MS_BIND, NULL)
    read_it(k, k.open(k.near("out"), O_RDONLY))


def open_tree_alias(k: Kernel) -> None:
    """A detached copy of the directory: the file is reached through no path of the system."""
    read_it(k, k.openat(k.open_tree(AT_FDCWD, k.parent(), OPEN_TREE_CLONE), k.name(), O_RDONLY))


def overlay_alias(k: Kernel) -> None:
    """An overlay shows the file under another path and on another file system."""
    overlay = k.text("overlay")
    options = k.text(f"lowerdir={k.recording.effect.parent},upperdir=up,workdir=wk")
    k.mount(overlay, k.relative("mnt"), overlay, 0, options)
    read_it(k, k.open(k.relative(f"mnt/{k.recording.effect.name}"), O_RDONLY))


def handle_of_directory(k: Kernel) -> None:
    """The directory is opened by its handle; from Linux 6.11 whoever may mount it may do so."""
    read_it(
        k, k.openat(contents.directory_by_handle(k, O_RDONLY | O_DIRECTORY), k.name(), O_RDONLY)
    )
