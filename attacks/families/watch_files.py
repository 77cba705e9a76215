"""Watch a directory: be told by the kernel which file somebody makes in it.

The one who makes the file is the victim, who does so while the attack watches; the file's name is
the secret.
"""

from attacks import bystander
from attacks.calls.operand import Fd
from attacks.consts import AT_FDCWD, NULL, O_DIRECTORY, O_PATH, O_RDONLY
from attacks.consts_watches import (
    FAN_CREATE,
    FAN_MARK_ADD,
    FAN_MARK_FILESYSTEM,
    FAN_MARK_MOUNT,
    FAN_MARK_ONLYDIR,
    FAN_OPEN,
    FAN_REPORT_DFID_NAME,
    FAN_REPORT_FID,
    IN_CREATE,
)
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import TARGET, Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result

FAMILY = Family(
    "watch-files",
    title="Watch what others do with files",
    effect=lambda _: Effect(EffectKind.LEARNED),
    attack_technique="T1083",
    group="file system",
    unrecorded={
        "poll of /proc/self/mounts": "tells of mounts, and not what happens to files",
        "fanotify_init(FAN_CLASS_CONTENT) for permission events": (
            "needs CAP_SYS_ADMIN in the initial user namespace"
        ),
        "fanotify_mark(FAN_MARK_MNTNS) on a mount namespace": (
            "tells the numbers of mounts, which prove nothing about a file"
        ),
        "poll on /proc/self/mounts": "tells of changed mounts, not of files",
    },
)
ADMIN = (Need.CAP_SYS_ADMIN,)
SIZE = 1024


@FAMILY.variant(Technique.BASELINE)
def inotify_init1(k: Kernel) -> None:
    """The calls that the author of the policy has in mind."""
    go = bystander.opens_it_later(k, k.parent())
    watch = k.inotify_init1(0)
    k.inotify_add_watch(watch, k.parent(), IN_CREATE).decisive()
    _read(k, go, watch)


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def inotify_init(k: Kernel) -> None:
    """The older call without flags makes the same instance and has another number."""
    go = bystander.opens_it_later(k, k.parent())
    watch = k.inotify_init()
    k.inotify_add_watch(watch, k.parent(), IN_CREATE).decisive()
    _read(k, go, watch)


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def inotify_inherited_watch(k: Kernel) -> None:
    """The watch was set before the filter: what is left to see is a read, like any other."""
    go = bystander.opens_it_later(k, k.parent())
    watch = k.setup.inotify_init1(0)
    k.setup.inotify_add_watch(watch, k.parent(), IN_CREATE)
    bystander.begin(k, go)
    k.read(watch, _events(k), SIZE).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def inotify_inherited_instance(k: Kernel) -> None:
    """The instance was made before the filter; lists that stop its making come too late."""
    go = bystander.opens_it_later(k, k.parent())
    watch = k.setup.inotify_init1(0)
    k.inotify_add_watch(watch, k.parent(), IN_CREATE).decisive()
    _read(k, go, watch)


@FAMILY.variant(Technique.PROC_INTERFACE)
def inotify_proc_fd(k: Kernel) -> None:
    """The directory is watched through a descriptor's link in procfs, under another path."""
    go = bystander.opens_it_later(k, k.parent())
    here = k.open(k.parent(), O_PATH | O_DIRECTORY)
    watch = k.inotify_init1(0)
    k.inotify_add_watch(watch, k.proc_fd(here), IN_CREATE).decisive()
    _read(k, go, watch)


@FAMILY.variant(Technique.FD_RELATIVE)
def inotify_chdir(k: Kernel) -> None:
    """The working directory is watched as a dot, for whoever compares the text of paths."""
    go = bystander.opens_it_later(k, k.parent())
    k.chdir(k.parent())
    watch = k.inotify_init1(0)
    k.inotify_add_watch(watch, k.text("."), IN_CREATE).decisive()
    _read(k, go, watch)


@FAMILY.variant(Technique.ASYNC_KERNEL)
def inotify_io_uring_read(k: Kernel) -> None:
    """A ring reads the events: rules on read never see them."""
    go = bystander.opens_it_later(k, k.parent())
    watch, events, ring = k.inotify_init1(0), _events(k), k.ring()
    k.inotify_add_watch(watch, k.parent(), IN_CREATE).decisive()
    bystander.begin(k, go)
    ring.submit("READ", fd=watch, addr=events, length=SIZE)


@FAMILY.variant(Technique.NEWER_SYSCALL)
def fanotify_dfid_name(k: Kernel) -> None:
    """Since 5.13 the other interface needs no capability if it tells names, not descriptors."""
    go = bystander.opens_it_later(k, k.parent())
    watch = k.fanotify_init(FAN_REPORT_DFID_NAME, 0)
    flags = FAN_MARK_ADD | FAN_MARK_ONLYDIR
    k.fanotify_mark(watch, flags, FAN_CREATE, AT_FDCWD, k.parent()).decisive()
    _read(k, go, watch)


@FAMILY.variant(Technique.FD_RELATIVE)
def fanotify_dirfd_null(k: Kernel) -> None:
    """Without a path the mark is put on the descriptor itself: there is no path to compare."""
    go = bystander.opens_it_later(k, k.parent())
    here = k.open(k.parent(), O_RDONLY | O_DIRECTORY)
    watch = k.fanotify_init(FAN_REPORT_DFID_NAME, 0)
    k.fanotify_mark(watch, FAN_MARK_ADD, FAN_CREATE, here, NULL).decisive()
    _read(k, go, watch)


@FAMILY.variant(Technique.COMPAT_ABI)
def fanotify_mark_i386(k: Kernel) -> None:
    """In the 32-bit table the mask takes two places, so all arguments behind it have moved."""
    go = bystander.opens_it_later(k, k.parent())
    watch = k.i386.fanotify_init(FAN_REPORT_DFID_NAME, 0)
    k.i386.raw("fanotify_mark", watch, FAN_MARK_ADD, FAN_CREATE, 0, AT_FDCWD, k.parent()).decisive()
    _read(k, go, watch)


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    grade=Grade.EQUIVALENT,
    needs=ADMIN,
    fresh=(Fresh.MOUNT,),
    objects=(Object(ObjectKind.DIRECTORY, TARGET),),
)
def fanotify_mount_mark(k: Kernel) -> None:
    """A mark on a mount sees every file below it, whatever path it is given."""
    go, watch = _own_file_system(k)
    flags = FAN_MARK_ADD | FAN_MARK_MOUNT
    k.fanotify_mark(watch, flags, FAN_OPEN, AT_FDCWD, k.path()).decisive()
    _read(k, go, watch)


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    grade=Grade.EQUIVALENT,
    needs=ADMIN,
    fresh=(Fresh.MOUNT,),
    objects=(Object(ObjectKind.DIRECTORY, TARGET),),
)
def fanotify_filesystem_mark(k: Kernel) -> None:
    """A mark on a whole file system sees it under every mount that it has."""
    go, watch = _own_file_system(k)
    flags = FAN_MARK_ADD | FAN_MARK_FILESYSTEM
    k.fanotify_mark(watch, flags, FAN_CREATE, AT_FDCWD, k.path()).decisive()
    _read(k, go, watch)


# Controls that must not tell the name


@FAMILY.variant(Technique.NEWER_SYSCALL, negative=True)
def fanotify_fid(k: Kernel) -> None:
    """This mode tells that something was made, and by handle where, but never a name."""
    go = bystander.opens_it_later(k, k.parent())
    watch = k.fanotify_init(FAN_REPORT_FID, 0)
    k.fanotify_mark(watch, FAN_MARK_ADD, FAN_CREATE, AT_FDCWD, k.parent()).decisive()
    _read(k, go, watch)


def _own_file_system(k: Kernel) -> tuple[Buffer, Result]:
    """One from the attacker's user namespace, which such marks need, and what is to watch it."""
    go = bystander.opens_it_later_in_subject(k, k.absolute_text())
    k.mount(k.text("tmpfs"), k.path(), k.text("tmpfs"), 0, NULL)
    return go, k.fanotify_init(FAN_REPORT_DFID_NAME, 0)


def _read(k: Kernel, go: Buffer, watch: Fd) -> None:
    """Lets the file be made and waits for the news."""
    events = _events(k)
    bystander.begin(k, go)
    k.read(watch, events, SIZE)


def _events(k: Kernel) -> Buffer:
    return k.buffer(SIZE, name="events")
