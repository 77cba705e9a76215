"""Find out whether a name exists, without opening anything.

Before the attack a witness makes eight files, under names that it throws dice for: of ``0.0`` and
``0.1`` exactly one is there, and so on up to seven, and four of them end in 1.  The attack has
to find out which: see ``attacks/dice.py``.
"""

from collections.abc import Callable

from attacks import deputy, dice, witness
from attacks import probe_by_ring as by_ring
from attacks.consts import (
    AF_UNIX,
    AT_FDCWD,
    ENOENT,
    NULL,
    O_CREAT,
    O_EXCL,
    O_PATH,
    O_RDONLY,
    O_WRONLY,
    RENAME_EXCHANGE,
    S_IFREG,
    SOCK_STREAM,
    Named,
)
from attacks.consts_namespaces import STATX_BASIC_STATS
from attacks.consts_watches import IN_OPEN
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import NEAR, Assumption, Family, Need, Technique
from attacks.kernel import Kernel
from attacks.probe_by_ring import NAMES, path_of, seen_at
from attacks.program import Environment
from attacks.recorder import Buffer, Result

FAMILY = Family(
    "probe-existence",
    title="Find out whether a name exists",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    stays=True,
    attack_technique="T1083",
    group="file system",
)
EEXIST = Named(17, "EEXIST")
EADDRINUSE = Named(98, "EADDRINUSE")
F_OK = Named(0, "F_OK")

SOURCE = (Object(ObjectKind.FILE, f"{NEAR}f0"),)
_DIGITS = 20


@FAMILY.witness
def the_answers_are_right(w: Kernel) -> None:
    truth = dice.throw(w.setup, w.buffer(8, name="dice"))
    for number in range(NAMES):
        start = f"{w.recording.effect.parent}/{number}.".encode()
        path = w.data(start + bytes(_DIGITS + 1), name="path")
        w.setup.print_number(path.at(len(start)), w.setup.load(truth, number, 1))
        file = w.setup.openat(AT_FDCWD, path, O_CREAT | O_EXCL | O_WRONLY, 0o644)
        w.setup.close(file)
    answers = w.buffer(NAMES, name="answers")
    memory = w.openat(AT_FDCWD, w.proc_pid(witness.subject(w), "/mem"), O_RDONLY)
    w.pread64(memory, answers, NAMES, w.env(Environment.SECRET))
    witness.same(w, answers, truth, NAMES)


# What is meant for looking


@FAMILY.variant(Technique.BASELINE)
def stat(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    seen = seen_at(k)
    _ask(k, lambda path: k.stat(path, seen))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def lstat(k: Kernel) -> None:
    """The sibling that does not follow links is a call of its own."""
    seen = seen_at(k)
    _ask(k, lambda path: k.lstat(path, seen))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def newfstatat(k: Kernel) -> None:
    """What a C library calls for stat today."""
    seen = seen_at(k)
    _ask(k, lambda path: k.newfstatat(AT_FDCWD, path, seen, 0))


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def newfstatat_inherited_dirfd(k: Kernel) -> None:
    """The directory was opened before the filter, and only the last part of a path is given."""
    seen, here = seen_at(k), k.setup.open(k.parent(), O_PATH)
    _ask(k, lambda name: k.newfstatat(here, name, seen, 0), whole=False)


@FAMILY.variant(Technique.NEWER_SYSCALL)
def statx(k: Kernel) -> None:
    """The newest of the family has its own number and is often left open for the C library."""
    seen = seen_at(k)
    _ask(k, lambda path: k.statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, seen))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def access(k: Kernel) -> None:
    """A question about permissions answers the one about existence first."""
    _ask(k, lambda path: k.access(path, F_OK))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def faccessat(k: Kernel) -> None:
    """The *at sibling of access."""
    _ask(k, lambda path: k.faccessat(AT_FDCWD, path, F_OK))


@FAMILY.variant(Technique.NEWER_SYSCALL)
def faccessat2(k: Kernel) -> None:
    """The access call that takes flags came with Linux 5.8, and older lists lack it."""
    _ask(k, lambda path: k.faccessat2(AT_FDCWD, path, F_OK, 0))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def readlink(k: Kernel) -> None:
    """What is no link is EINVAL, what is not there is ENOENT."""
    seen = seen_at(k)
    _ask(k, lambda path: k.readlink(path, seen, 100))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def readlinkat(k: Kernel) -> None:
    """The *at sibling of readlink."""
    seen = seen_at(k)
    _ask(k, lambda path: k.readlinkat(AT_FDCWD, path, seen, 100))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def statfs(k: Kernel) -> None:
    """A call about the whole file system begins with a look at the path."""
    seen = seen_at(k)
    _ask(k, lambda path: k.statfs(path, seen))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def getxattr(k: Kernel) -> None:
    """An attribute that is lacking has another error than a file that is."""
    name, seen = k.text("user.a"), seen_at(k)
    _ask(k, lambda path: k.getxattr(path, name, seen, 10))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def listxattr(k: Kernel) -> None:
    """Every file has a list of attributes, were it an empty one."""
    seen = seen_at(k)
    _ask(k, lambda path: k.listxattr(path, seen, 10))


@FAMILY.variant(Technique.NEWER_SYSCALL)
def getxattrat(k: Kernel) -> None:
    """The newest of the attribute calls, from Linux 6.13."""
    name = k.text("user.a")
    args = k.struct("QII", seen_at(k), 10, 0, name="xattr_args")
    _ask(k, lambda path: k.getxattrat(AT_FDCWD, path, 0, name, args, 16))


@FAMILY.variant(Technique.NEWER_SYSCALL)
def listxattrat(k: Kernel) -> None:
    """The list of attributes has a new number too."""
    seen = seen_at(k)
    _ask(k, lambda path: k.listxattrat(AT_FDCWD, path, 0, seen, 10))


@FAMILY.variant(Technique.NEWER_SYSCALL)
def file_getattr(k: Kernel) -> None:
    """The inode flags have a call by path since Linux 6.17."""
    seen = seen_at(k)
    _ask(k, lambda path: k.file_getattr(AT_FDCWD, path, seen, 24, 0))


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def name_to_handle_at(k: Kernel) -> None:
    """A handle is made of files that are there, and nobody thinks of it as a way to look."""
    handle = k.struct("IIQQ", 16, 0, 0, 0, name="handle")
    mount = k.buffer(8, name="mount")
    _ask(k, lambda path: k.name_to_handle_at(AT_FDCWD, path, handle, mount, 0))


# Opening without rights


@FAMILY.variant(Technique.FD_RELATIVE)
def open_path_fd(k: Kernel) -> None:
    """O_PATH opens whatever is there and asks for no permission: rules on reading allow it."""
    _ask(k, lambda path: k.open(path, O_PATH))


@FAMILY.variant(Technique.NEWER_SYSCALL)
def openat2_path_fd(k: Kernel) -> None:
    """The newest open has its flags behind a pointer."""
    how = k.struct("QQQ", O_PATH, 0, 0, name="how")
    _ask(k, lambda path: k.openat2(AT_FDCWD, path, how, 24))


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def open_tree(k: Kernel) -> None:
    """A call for mounts opens any path, and without its clone flag needs no capability."""
    _ask(k, lambda path: k.open_tree(AT_FDCWD, path, 0))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def getdents64(k: Kernel) -> None:
    """Whoever may list the directory need not ask for a name at all."""
    names = k.buffer(1024, name="names")
    k.getdents64(k.open(k.parent(), O_RDONLY), names, names.size).decisive()
    found = [k.find(names, names.size, f"{number}.0".encode()) for number in range(NAMES)]
    dice.note(k, found, -1)


# Calls that want something else


@FAMILY.variant(Technique.FD_RELATIVE)
def chdir(k: Kernel) -> None:
    """A file is no directory to go to, but another error says that it is there."""
    _ask(k, k.chdir)


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def inotify_add_watch(k: Kernel) -> None:
    """Only what exists can be watched."""
    watch = k.inotify_init1(0)
    _ask(k, lambda path: k.inotify_add_watch(watch, path, IN_OPEN))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def execve(k: Kernel) -> None:
    """A file that must not be executed is refused in another way than one that is not there."""
    _ask(k, lambda path: k.execve(path, NULL, NULL))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def connect_unix(k: Kernel) -> None:
    """A file where nobody listens refuses a connection; one that is not there is not found."""
    socket = k.socket(AF_UNIX, SOCK_STREAM, 0)
    _ask(k, lambda path: _with_address(k, path, lambda to, size: k.connect(socket, to, size)))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def chroot(k: Kernel) -> None:
    """The path is looked up before the capability: who may not do it still learns something."""
    _ask(k, k.chroot)


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def mount(k: Kernel) -> None:
    """The mount point is looked up first, whether or not the caller may mount anything."""
    source, kind = k.text("x"), k.text("tmpfs")
    _ask(k, lambda path: k.mount(source, path, kind, 0, NULL), ending="/")


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def umount2(k: Kernel) -> None:
    """What is not mounted is EINVAL, and without the capability EPERM; neither is ENOENT."""
    _ask(k, lambda path: k.umount2(path, 0))


@FAMILY.variant(Technique.NEWER_SYSCALL, needs=(Need.CAP_SYS_ADMIN,))
def fspick(k: Kernel) -> None:
    """Only the root of a mount can be picked, but what is there is refused in another way."""
    _ask(k, lambda path: k.fspick(AT_FDCWD, path, 0))


@FAMILY.variant(Technique.FD_RELATIVE)
def utimensat(k: Kernel) -> None:
    """A change of times is refused on the files of others, but not as if they were not there."""
    times = k.struct("QQQQ", 1, 0, 1, 0, name="times")
    _ask(k, lambda path: k.utimensat(AT_FDCWD, path, times, 0))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def rmdir(k: Kernel) -> None:
    """A file is not removed as a directory, and the error tells it from nothing."""
    _ask(k, k.rmdir)


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=SOURCE)
def renameat2_exchange(k: Kernel) -> None:
    """Two files can only swap names if both are there."""
    old = k.near("f0")
    _ask(k, lambda path: k.renameat2(AT_FDCWD, old, AT_FDCWD, path, RENAME_EXCHANGE))


# Calls that fail because the name is taken


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=SOURCE)
def link_exists(k: Kernel) -> None:
    """A name that is taken cannot be given to a link: the attempt to make one is the question."""
    old = k.near("f0")
    _ask(k, lambda path: k.link(old, path), EEXIST)


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def symlink_exists(k: Kernel) -> None:
    """The same by a symbolic link, which needs no file to lead to."""
    to = k.text("x")
    _ask(k, lambda path: k.symlink(to, path), EEXIST)


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def mkdir_exists(k: Kernel) -> None:
    """A directory cannot be made where something is."""
    _ask(k, lambda path: k.mkdir(path, 0o755), EEXIST)


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def mknod_exists(k: Kernel) -> None:
    """Mknod makes a file only where there is none, without any open."""
    _ask(k, lambda path: k.mknod(path, S_IFREG | 0o600, 0), EEXIST)


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def open_exclusive(k: Kernel) -> None:
    """Creating with O_EXCL is refused where there is something already."""
    _ask(k, lambda path: k.open(path, O_CREAT | O_EXCL | O_WRONLY, 0o600), EEXIST)


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def bind_unix(k: Kernel) -> None:
    """A socket's address is in use where a file is, whatever file it is."""

    def ask(path: Buffer) -> Result:
        socket = k.socket(AF_UNIX, SOCK_STREAM, 0)
        return _with_address(k, path, lambda to, size: k.bind(socket, to, size))

    _ask(k, ask, EADDRINUSE)


# io_uring


for _recipe in (
    by_ring.io_uring_statx,
    by_ring.io_uring_openat_path_fd,
    by_ring.io_uring_getxattr,
):
    FAMILY.variant(Technique.ASYNC_KERNEL)(_recipe)

FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)(
    by_ring.io_uring_personality_statx
)


# Calls that only the 32-bit table has


@FAMILY.variant(Technique.COMPAT_ABI)
def oldstat_i386(k: Kernel) -> None:
    """The first stat of all has a number of its own in the 32-bit table."""
    seen = seen_at(k)
    _ask(k, lambda path: k.i386.raw("oldstat", path, seen))


@FAMILY.variant(Technique.COMPAT_ABI)
def oldlstat_i386(k: Kernel) -> None:
    """The first lstat has one too."""
    seen = seen_at(k)
    _ask(k, lambda path: k.i386.raw("oldlstat", path, seen))


@FAMILY.variant(Technique.COMPAT_ABI)
def stat_i386(k: Kernel) -> None:
    """The second generation of stat has the name of the 64-bit call, and another number."""
    seen = seen_at(k)
    _ask(k, lambda path: k.i386.raw("stat", path, seen))


@FAMILY.variant(Technique.COMPAT_ABI)
def stat64_i386(k: Kernel) -> None:
    """The third generation of stat is what 32-bit programs call."""
    seen = seen_at(k)
    _ask(k, lambda path: k.i386.raw("stat64", path, seen))


@FAMILY.variant(Technique.COMPAT_ABI)
def lstat64_i386(k: Kernel) -> None:
    """The third generation of lstat."""
    seen = seen_at(k)
    _ask(k, lambda path: k.i386.raw("lstat64", path, seen))


@FAMILY.variant(Technique.COMPAT_ABI)
def fstatat64_i386(k: Kernel) -> None:
    """The *at sibling has another name and number than in the 64-bit table."""
    seen = seen_at(k)
    _ask(k, lambda path: k.i386.raw("fstatat64", AT_FDCWD, path, seen, 0))


@FAMILY.variant(Technique.COMPAT_ABI)
def statfs64_i386(k: Kernel) -> None:
    """The file system call with 64-bit sizes exists only here, with a size as an argument."""
    seen = seen_at(k)
    _ask(k, lambda path: k.i386.raw("statfs64", path, 84, seen))


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    seen, names = seen_at(k), [path_of(k, number, 0) for number in range(NAMES)]
    with deputy.sibling_thread(k) as thread:
        found = [thread.stat(name, seen).may_fail() for name in names]
        dice.note(thread, found, -ENOENT)


# A control that must not tell


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def open_create(k: Kernel) -> None:
    """Without O_EXCL the file is opened or made, and the answer is the same."""
    _ask(k, lambda path: k.open(path, O_CREAT | O_RDONLY, 0o644))


def _ask(
    k: Kernel,
    call: Callable[[Buffer], Result],
    error: int = ENOENT,
    *,
    whole: bool = True,
    ending: str = "",
) -> None:
    """Asks for all numbers.  The ``error`` means that 0 is missing, or else that 1 is there."""
    last = 0 if error == ENOENT else 1
    paths = [path_of(k, number, last, whole=whole, ending=ending) for number in range(NAMES)]
    found = [call(path).may_fail() for path in paths]
    found[-1].decisive()
    dice.note(k, found, -error)


def _with_address(k: Kernel, path: Buffer, call: Callable[[Buffer, int], Result]) -> Result:
    """``call`` with the path as a Unix socket's address, and the address's length."""
    size = 2 + path.size
    address = k.struct("H" + "x" * path.size, AF_UNIX, name="address")
    k.copy(address.at(2), path, path.size)
    return call(address, size)
