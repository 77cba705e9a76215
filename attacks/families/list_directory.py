"""List a directory: learn the name of a file in it, which nobody can guess."""

from attacks import bystander, deputy
from attacks.calls.operand import Fd
from attacks.consts import (
    AT_FDCWD,
    MAP_PRIVATE,
    MS_BIND,
    NULL,
    O_DIRECTORY,
    O_PATH,
    O_RDONLY,
    OPEN_TREE_CLONE,
    PROT_READ,
)
from attacks.consts_watches import (
    FAN_EVENT_ON_CHILD,
    FAN_MARK_ADD,
    FAN_MARK_ONLYDIR,
    FAN_OPEN,
    FAN_REPORT_DFID_NAME,
    IN_OPEN,
)
from attacks.effects import SECRET, Effect, EffectKind, Object, ObjectKind
from attacks.family import TARGET, Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.recorder import Buffer

FAMILY = Family(
    "list-directory",
    title="List a directory",
    effect=lambda _: Effect(EffectKind.LEARNED),
    objects=(
        Object(ObjectKind.DIRECTORY, TARGET, 0o755),
        Object(ObjectKind.FILE, f"{TARGET}/{SECRET.decode()}"),
    ),
    attack_technique="T1083",
    group="file system",
)
ALIAS = (Object(ObjectKind.DIRECTORY, "alias", 0o755),)
ADMIN = (Need.CAP_SYS_ADMIN,)
SIZE = 1024
_HANDLE_SIZE, _LARGEST_HANDLE = 8 + 128, 128


@FAMILY.variant(Technique.BASELINE)
def getdents64(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    _list(k, k.open(k.path(), O_RDONLY))


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def getdents(k: Kernel) -> None:
    """The older call still works, and no current C library makes it, so lists forget it."""
    k.getdents(k.open(k.path(), O_RDONLY), _names(k), SIZE).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def old_readdir_i386(k: Kernel) -> None:
    """The 32-bit table has an even older call, one name at a time, which no other table has."""
    here = k.i386.open(k.path(), O_RDONLY)
    dot, dotdot, name = (k.buffer(320, name="entry") for _ in range(3))
    k.i386.raw("readdir", here, dot, 1)
    k.i386.raw("readdir", here, dotdot, 1)
    k.i386.raw("readdir", here, name, 1).decisive()


# Other ways to a descriptor of the directory


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def getdents64_inherited_fd(k: Kernel) -> None:
    """The directory was opened before the filter: no rule on open, and no path rule, sees it."""
    _list(k, k.setup.open(k.path(), O_RDONLY))


@FAMILY.variant(Technique.FD_RELATIVE, assumption=Assumption.INHERITED_DESCRIPTOR)
def openat_dot_inherited_path_fd(k: Kernel) -> None:
    """A descriptor that cannot be read is as good as the path: it is opened again as a dot."""
    here = k.setup.open(k.path(), O_PATH)
    _list(k, k.openat(here, k.text("."), O_RDONLY))


@FAMILY.variant(Technique.NEWER_SYSCALL)
def openat2_getdents64(k: Kernel) -> None:
    """The newest open has its flags behind a pointer, so rules on flags cannot look at them."""
    how = k.struct("QQQ", O_RDONLY, 0, 0, name="how")
    _list(k, k.openat2(AT_FDCWD, k.path(), how, 24))


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_openat_getdents64(k: Kernel) -> None:
    """A ring opens the directory: there is no open call, and getdents sees only a number."""
    _list(k, k.ring().openat(AT_FDCWD, k.path(), O_RDONLY, 0))


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_personality_getdents64(k: Kernel) -> None:
    """A ring from before the filter opens the directory with the credentials of then."""
    ring = k.setup.ring().registered_personality().by(k)
    _list(k, ring.openat(AT_FDCWD, k.path(), O_RDONLY, 0))


@FAMILY.variant(Technique.PROC_INTERFACE)
def getdents64_proc_fd(k: Kernel) -> None:
    """A descriptor without rights is opened anew through its link in procfs."""
    _list(k, k.open(k.proc_fd(k.open(k.path(), O_PATH)), O_RDONLY))


@FAMILY.variant(Technique.PROC_INTERFACE)
def getdents64_proc_root(k: Kernel) -> None:
    """The root link of procfs gives the directory a second absolute path."""
    _list(k, k.open(k.proc(f"self/root{k.absolute_text()}"), O_RDONLY))


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def getdents64_neighbour_fd(k: Kernel) -> None:
    """A neighbour has the directory open; its descriptor is fetched, and nothing is opened."""
    k.victim.raw("dup2", k.victim.open(k.path(), O_RDONLY), deputy.STOLEN_FD)
    pidfd = k.pidfd_open(k.env(Environment.VICTIM_PID), 0)
    _list(k, k.pidfd_getfd(pidfd, deputy.STOLEN_FD, 0))


@FAMILY.variant(Technique.PROC_INTERFACE, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def getdents64_neighbour_cwd(k: Kernel) -> None:
    """The working directory of a neighbour is a link in procfs; the target's name is not used."""
    k.victim.chdir(k.path())
    _list(k, k.open(k.proc_pid(k.env(Environment.VICTIM_PID), "/cwd"), O_RDONLY))


@FAMILY.variant(Technique.NAMESPACE, needs=(Need.CAP_SYS_CHROOT,))
def chroot_getdents64(k: Kernel) -> None:
    """The directory becomes the root, and a slash is all that is listed."""
    k.chroot(k.path())
    _list(k, k.open(k.text("/"), O_RDONLY))


@FAMILY.variant(Technique.FD_RELATIVE)
def chdir_getdents64(k: Kernel) -> None:
    """The directory becomes the working directory, and a dot is all that is listed."""
    k.chdir(k.path())
    _list(k, k.open(k.text("."), O_RDONLY))


# Under another name


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def rename_getdents64(k: Kernel) -> None:
    """The directory is moved away and listed there, where no rule on its path applies."""
    k.rename(k.path(), k.near("moved"))
    _list(k, k.open(k.near("moved"), O_RDONLY))


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def symlink_getdents64(k: Kernel) -> None:
    """The path that is opened is a link's, for whoever compares the text of paths."""
    k.symlink(k.absolute(), k.near("link"))
    _list(k, k.open(k.near("link"), O_RDONLY))


@FAMILY.variant(Technique.NAMESPACE, needs=ADMIN, fresh=(Fresh.MOUNT,), objects=ALIAS)
def bind_mount_getdents64(k: Kernel) -> None:
    """A bind mount gives the same directory a name that no policy knows."""
    k.mount(k.path(), k.text("alias"), NULL, MS_BIND, NULL)
    _list(k, k.open(k.text("alias"), O_RDONLY))


@FAMILY.variant(Technique.NAMESPACE, needs=ADMIN)
def open_tree_getdents64(k: Kernel) -> None:
    """A copy of the mount that is mounted nowhere: its descriptor leads into the directory."""
    tree = k.open_tree(AT_FDCWD, k.path(), OPEN_TREE_CLONE)
    _list(k, k.openat(tree, k.text("."), O_RDONLY))


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=ADMIN, fresh=(Fresh.MOUNT,))
def handle_getdents64(k: Kernel) -> None:
    """The directory is opened by its handle: the call that opens it is given no path."""
    handle, mount_id = k.buffer(_HANDLE_SIZE, name="handle"), k.buffer(8, name="mount")
    k.store(handle, 0, 4, _LARGEST_HANDLE)
    k.name_to_handle_at(AT_FDCWD, k.path(), handle, mount_id, 0)
    mount = k.open(k.parent(), O_RDONLY | O_DIRECTORY)
    _list(k, k.open_by_handle_at(mount, handle, O_RDONLY | O_DIRECTORY))


# Names that the kernel tells without being asked for a list


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def inotify_read(k: Kernel) -> None:
    """A watch tells the name of each file that somebody opens: read takes the place of getdents."""
    go = bystander.opens_it_later(k, k.path())
    watch = k.inotify_init1(0)
    k.inotify_add_watch(watch, k.path(), IN_OPEN)
    bystander.begin(k, go)
    k.read(watch, _names(k), SIZE).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def fanotify_read(k: Kernel) -> None:
    """The newer interface tells names too, and since 5.13 it needs no capability for it."""
    go = bystander.opens_it_later(k, k.path())
    watch = k.fanotify_init(FAN_REPORT_DFID_NAME, 0)
    flags = FAN_MARK_ADD | FAN_MARK_ONLYDIR
    k.fanotify_mark(watch, flags, FAN_OPEN | FAN_EVENT_ON_CHILD, AT_FDCWD, k.path())
    bystander.begin(k, go)
    k.read(watch, _names(k), SIZE).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def readlink_neighbour_fd(k: Kernel) -> None:
    """A neighbour has a file of it open, and the link in procfs says which."""
    k.victim.raw("dup2", bystander.opens_secret_file(k, k.path()), deputy.STOLEN_FD)
    link = k.proc_pid(k.env(Environment.VICTIM_PID), f"/fd/{deputy.STOLEN_FD}")
    k.readlink(link, _names(k), SIZE).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def read_neighbour_maps(k: Kernel) -> None:
    """A neighbour has a file of it mapped: its list of mappings is a file that anyone may read."""
    file = bystander.opens_secret_file(k, k.path())
    k.victim.write(file, k.text("x"), 1)
    k.victim.mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0)
    maps = k.open(k.proc_pid(k.env(Environment.VICTIM_PID), "/maps"), O_RDONLY)
    k.read(maps, k.buffer(4096, name="maps"), 4096).decisive()


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    names = _names(k)
    with deputy.sibling_thread(k) as thread:
        thread.getdents64(thread.open(k.path(), O_RDONLY), names, SIZE)


# Controls that must not tell the name


@FAMILY.variant(Technique.FD_RELATIVE, assumption=Assumption.INHERITED_DESCRIPTOR, negative=True)
def getdents64_inherited_path_fd(k: Kernel) -> None:
    """An O_PATH descriptor is refused by getdents64 until it is opened anew."""
    k.getdents64(k.setup.open(k.path(), O_PATH), _names(k), SIZE).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def getdents64_of_parent(k: Kernel) -> None:
    """The directory above names the directory, not what is in it."""
    _list(k, k.open(k.parent(), O_RDONLY))


def _list(k: Kernel, directory: Fd) -> None:
    k.getdents64(directory, _names(k), SIZE).decisive()


def _names(k: Kernel) -> Buffer:
    return k.buffer(SIZE, name="names")
