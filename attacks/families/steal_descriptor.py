"""Get a descriptor of another process: what is in a file that it alone can open is read here."""

from attacks import neighbour
from attacks.consts import (
    AF_UNIX,
    AT_FDCWD,
    NULL,
    O_DIRECTORY,
    O_PATH,
    O_RDONLY,
    SOCK_STREAM,
    Named,
)
from attacks.deputy import STOLEN_FD
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.neighbour import SECRET_SIZE, SOL_SOCKET
from attacks.recorder import Arg, Buffer, Result
from attacks.ring import Ring

SCM_RIGHTS = Named(1, "SCM_RIGHTS")
SYS_RECVMSG = Named(17, "SYS_RECVMSG")
IOSQE_FIXED_FILE = Named(1, "IOSQE_FIXED_FILE")
IORING_REGISTER_FILES = Named(2, "IORING_REGISTER_FILES")
INHERITED = Assumption.INHERITED_DESCRIPTOR
NEIGHBOUR = Assumption.UNFILTERED_NEIGHBOUR
CONTROL_SIZE = 24

FAMILY = Family(
    "steal-descriptor",
    title="Get a descriptor of another process",
    effect=lambda _: Effect(EffectKind.LEARNED),
    has_target=False,
    group="processes",
    unrecorded={
        "receive a descriptor by IORING_OP_MSG_RING": (
            "the victim would have to send it to a ring that the subject makes later"
        ),
        "ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD)": "gives descriptors away, and takes none",
    },
)


# Fetched from the victim


@FAMILY.variant(Technique.BASELINE)
def pidfd_getfd(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    _keep_secret(k)
    pidfd = k.pidfd_open(neighbour.pid(k), 0)
    file = k.pidfd_getfd(pidfd, STOLEN_FD, 0).decisive()
    _read(k, file)


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def socket_peer_pidfd(k: Kernel) -> None:
    """Since 6.5; a connected socket hands out the pidfd, so pidfd_open need not be allowed."""
    _keep_secret(k)
    file = k.pidfd_getfd(neighbour.peer_pidfd(k), STOLEN_FD, 0).decisive()
    _read(k, file)


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def inherited_pidfd(k: Kernel) -> None:
    """A pidfd from before the filter: there is no pid that a rule could look at."""
    _keep_secret(k)
    with neighbour.before_the_filter(k) as before:
        pidfd = before.pidfd_open(neighbour.pid(k), 0)
    file = k.pidfd_getfd(pidfd, STOLEN_FD, 0).decisive()
    _read(k, file)


# Opened again


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_fd_open(k: Kernel) -> None:
    """The victim's descriptors are links in procfs, and opening one opens the file anew."""
    _keep_secret(k)
    file = k.open(neighbour.path(k, f"fd/{STOLEN_FD}"), O_RDONLY).decisive()
    _read(k, file)


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_task_fd_open(k: Kernel) -> None:
    """Each thread's directory has the links again, under another path."""
    _keep_secret(k)
    file = k.open(neighbour.task_path(k, f"fd/{STOLEN_FD}"), O_RDONLY).decisive()
    _read(k, file)


@FAMILY.variant(Technique.FD_RELATIVE)
def proc_fd_dirfd(k: Kernel) -> None:
    """Opened relative to the directory of links, the path is just a number."""
    _keep_secret(k)
    directory = k.open(neighbour.path(k, "fd"), O_PATH | O_DIRECTORY)
    file = k.openat(directory, k.text(str(STOLEN_FD)), O_RDONLY).decisive()
    _read(k, file)


@FAMILY.variant(Technique.NEWER_SYSCALL)
def proc_fd_openat2(k: Kernel) -> None:
    """openat2 follows the link as well, and has its flags in memory."""
    _keep_secret(k)
    how = k.struct("QQQ", O_RDONLY, 0, 0, name="open_how")
    path = neighbour.path(k, f"fd/{STOLEN_FD}")
    file = k.openat2(AT_FDCWD, path, how, how.size).decisive()
    _read(k, file)


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_proc_fd(k: Kernel) -> None:
    """A ring opens the link: no call of the open family."""
    _keep_secret(k)
    path = neighbour.path(k, f"fd/{STOLEN_FD}")
    file = k.ring().openat(AT_FDCWD, path, O_RDONLY, 0).decisive()
    _read(k, file)


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def inherited_fd_directory(k: Kernel) -> None:
    """The directory of links was opened before the filter: no path names a process."""
    _keep_secret(k)
    directory = k.setup.open(neighbour.path(k.setup, "fd"), O_PATH | O_DIRECTORY)
    file = k.openat(directory, k.text(str(STOLEN_FD)), O_RDONLY).decisive()
    _read(k, file)


# Kept in a ring of the victim's


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=NEIGHBOUR)
def stolen_ring_registered_file(k: Kernel) -> None:
    """The victim's ring is fetched, and reads a file that never gets a descriptor here."""
    ring = _register_secret(k)
    pidfd = k.pidfd_open(neighbour.pid(k), 0)
    _read_registered(k, ring.stolen(k, k.pidfd_getfd(pidfd, STOLEN_FD, 0)))


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def inherited_ring_registered_file(k: Kernel) -> None:
    """A shared ring from before the filter has the victim's files: io_uring_enter reads them."""
    ring = _register_secret(k)
    with neighbour.before_the_filter(k) as before:
        pidfd = before.pidfd_open(neighbour.pid(k), 0)
        shared = before.pidfd_getfd(pidfd, STOLEN_FD, 0)
    _read_registered(k, ring.stolen(k, shared))


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def inherited_ring_installed_file(k: Kernel) -> None:
    """A shared ring turns what the victim registered into a descriptor of whoever asks."""
    ring = _register_secret(k)
    with neighbour.before_the_filter(k) as before:
        pidfd = before.pidfd_open(neighbour.pid(k), 0)
        shared = before.pidfd_getfd(pidfd, STOLEN_FD, 0)
    file = ring.stolen(k, shared).submit("FIXED_FD_INSTALL", fd=0, flags=IOSQE_FIXED_FILE)
    _read(k, file.decisive())


# Sent by the victim


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=NEIGHBOUR)
def recvmsg_from_server(k: Kernel) -> None:
    """Some servers send a descriptor to whoever connects; receiving is a plain socket call."""
    file = _make_secret(k)
    listener = neighbour.listen(k)
    with k.victim.child(k.victim.thread()):
        connection = k.victim.accept(listener, NULL, NULL)
        _send(k.victim, connection, file)
    control = _control(k)
    k.recvmsg(neighbour.connect(k), _header(k, control), 0).decisive()
    _read(k, k.load(control, 16, 4))


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def recvmsg_inherited(k: Kernel) -> None:
    """The descriptor waits in a socket from before the filter: one call takes it out."""
    control = _control(k)
    k.recvmsg(_inherited_socket(k), _header(k, control), 0).decisive()
    _read(k, k.load(control, 16, 4))


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def recvmmsg_inherited(k: Kernel) -> None:
    """The call for many messages brings descriptors too, and lists forget it."""
    control = _control(k)
    data = neighbour.iovec(k, k.buffer(1), 1)
    several = k.struct("QIIQQQQIIII", NULL, 0, 0, data, 1, control, CONTROL_SIZE, 0, 0, 0, 0)
    k.recvmmsg(_inherited_socket(k), several, 1, 0, NULL).decisive()
    _read(k, k.load(control, 16, 4))


@FAMILY.variant(Technique.ASYNC_KERNEL, assumption=INHERITED)
def io_uring_recvmsg_inherited(k: Kernel) -> None:
    """A ring takes the message with the descriptor out of the socket."""
    control = _control(k)
    socket, header = _inherited_socket(k), _header(k, control)
    k.ring().submit("RECVMSG", fd=socket, addr=header, length=1).decisive()
    _read(k, k.load(control, 16, 4))


@FAMILY.variant(Technique.COMPAT_ABI, assumption=INHERITED)
def recvmsg_i386_inherited(k: Kernel) -> None:
    """The 32-bit table has another number, and headers of another shape."""
    control = _control(k)
    k.i386.recvmsg(_inherited_socket(k), _header32(k, control), 0).decisive()
    _read(k, k.load(control, 12, 4))


@FAMILY.variant(Technique.COMPAT_ABI, assumption=INHERITED)
def recvmsg_socketcall_i386_inherited(k: Kernel) -> None:
    """The 32-bit table has one call for all of sockets, whose arguments are in memory."""
    control = _control(k)
    header = _header32(k, control)
    args = k.struct("III", _inherited_socket(k), header, 0, name="args")
    k.i386.socketcall(SYS_RECVMSG, args).decisive()
    _read(k, k.load(control, 12, 4))


# Controls that must not get it


@FAMILY.variant(Technique.PROC_INTERFACE, negative=True)
def pidfd_getfd_proc_directory(k: Kernel) -> None:
    """A directory of procfs, which signals take for a pidfd, is none for pidfd_getfd."""
    _keep_secret(k)
    directory = k.open(neighbour.path(k, ""), O_DIRECTORY)
    k.pidfd_getfd(directory, STOLEN_FD, 0).decisive().may_fail()


@FAMILY.variant(Technique.PROC_INTERFACE, negative=True)
def proc_fd_path_only(k: Kernel) -> None:
    """An O_PATH descriptor of the link finds the file, and does not read it."""
    _keep_secret(k)
    file = k.open(neighbour.path(k, f"fd/{STOLEN_FD}"), O_PATH).decisive()
    k.pread64(file, k.buffer(SECRET_SIZE), SECRET_SIZE, 0).may_fail()


def _make_secret(k: Kernel) -> Result:
    """A file without a name that the victim wrote its secret to."""
    file = k.victim.memfd_create(k.text("secret"), 0)
    k.victim.write(file, neighbour.secret(k), SECRET_SIZE)
    return file


def _keep_secret(k: Kernel) -> None:
    k.victim.dup2(_make_secret(k), STOLEN_FD)


def _read(k: Kernel, file: Result) -> None:
    k.pread64(file, k.buffer(SECRET_SIZE, name="found"), SECRET_SIZE, 0)


def _register_secret(k: Kernel) -> Ring:
    """A ring of the victim's whose first registered file is the one with the secret."""
    ring = k.victim.ring()
    files = k.victim.struct("I", _make_secret(k), name="files")
    k.victim.raw("io_uring_register", ring.fd, IORING_REGISTER_FILES, files, 1)
    k.victim.raw("dup2", ring.fd, STOLEN_FD)
    return ring


def _read_registered(k: Kernel, ring: Ring) -> None:
    found = k.buffer(SECRET_SIZE, name="found")
    read = ring.submit("READ", fd=0, addr=found, length=SECRET_SIZE, flags=IOSQE_FIXED_FILE)
    read.decisive()


def _inherited_socket(k: Kernel) -> Result:
    """One end of a pair from before the filter; the victim has sent its file from the other."""
    pair = k.buffer(8, name="sockets")
    k.victim.socketpair(AF_UNIX, SOCK_STREAM, 0, pair)
    k.victim.dup2(k.victim.load(pair, 0, 4), STOLEN_FD)
    _send(k.victim, k.victim.load(pair, 4, 4), _make_secret(k))
    with neighbour.before_the_filter(k) as before:
        pidfd = before.pidfd_open(neighbour.pid(k), 0)
        return before.pidfd_getfd(pidfd, STOLEN_FD, 0)


def _send(by: Kernel, socket: Result, file: Arg) -> None:
    control = by.struct("QIIII", 20, SOL_SOCKET, SCM_RIGHTS, file, 0, name="cmsghdr")
    by.sendmsg(socket, _header(by, control), 0)


def _control(k: Kernel) -> Buffer:
    return k.buffer(CONTROL_SIZE, name="control")


def _header(k: Kernel, control: Buffer) -> Buffer:
    """A ``struct msghdr`` for one byte and one descriptor."""
    data = neighbour.iovec(k, k.data(b"x"), 1)
    return k.struct("QIIQQQQII", NULL, 0, 0, data, 1, control, CONTROL_SIZE, 0, 0, name="msghdr")


def _header32(k: Kernel, control: Buffer) -> Buffer:
    """The same for the 32-bit table."""
    data = neighbour.iovec32(k, k.data(b"x"), 1)
    return k.struct("IIIIIII", NULL, 0, data, 1, control, CONTROL_SIZE, 0, name="msghdr32")
