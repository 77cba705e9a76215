"""Get a descriptor of another process: one that signals, and that stays with the process.

The witness looks among the subject's descriptors for one of the victim.
"""

from msgspec import Struct

from attacks import deputy, descriptors, witness
from attacks.consts import (
    AF_UNIX,
    AT_EMPTY_PATH,
    NULL,
    O_RDONLY,
    SOCK_STREAM,
    Named,
)
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.program import Env, Environment
from attacks.recorder import Buffer, Recorder, Result

FAMILY = Family(
    "get-process-descriptor",
    title="Get a descriptor of another process",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    attack_technique="T1057",
    group="file system",
    unrecorded={
        "open of /proc/PID as a directory": "is no pidfd: see the family of killing",
        "pidfd_send_signal with PIDFD_SELF": "makes no descriptor, and is about the caller itself",
        "ioctl(PIDFD_GET_INFO)": "tells what /proc/PID/status tells, and makes no descriptor",
        "fanotify with FAN_REPORT_PIDFD": "needs CAP_SYS_ADMIN in the initial user namespace",
    },
)
PIDFD_THREAD = Named(0o200, "PIDFD_THREAD")
PIDFD_NONBLOCK = Named(0o4000, "PIDFD_NONBLOCK")
FD_PIDFS_ROOT = Named(-10002, "FD_PIDFS_ROOT")
SOL_SOCKET = Named(1, "SOL_SOCKET")
SCM_RIGHTS = Named(1, "SCM_RIGHTS")
SO_PASSPIDFD = Named(76, "SO_PASSPIDFD")
SO_PEERPIDFD = Named(77, "SO_PEERPIDFD")
_HANDLE, _LARGEST_HANDLE = 8 + 128, 128
_FOUND, _PID_AT, _LONGEST_PID = b"\nPid:\t", 6, 8
_ABSENT = 1 << 63


@FAMILY.witness
def one_is_of_the_victim(w: Kernel) -> None:
    found = descriptors.details(w, witness.subject(w))
    expected = w.buffer(32, name="expected")
    w.print_number(expected, witness.victim(w), w.text("\nNSpid:\t"))
    at = w.find(found, found.size, _FOUND)
    w.expect(at, _ABSENT, 0)
    witness.same(w, w.add(w.add(found, at), _PID_AT), expected, _LONGEST_PID)


@FAMILY.variant(Technique.BASELINE)
def pidfd_open(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.pidfd_open(_victim(k), 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def pidfd_open_thread(k: Kernel) -> None:
    """A flag of Linux 6.9 asks for a thread; a rule that wants no flags misses it."""
    k.pidfd_open(_victim(k), PIDFD_THREAD).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def pidfd_open_nonblock(k: Kernel) -> None:
    """Any flag makes it another call for whoever compares the flags with zero."""
    k.pidfd_open(_victim(k), PIDFD_NONBLOCK).decisive()


# Over a socket


@FAMILY.variant(Technique.MULTIPLEXER)
def getsockopt_peerpidfd(k: Kernel) -> None:
    """A socket option opens the process at the other end: a connection is all it takes."""
    listener = _listener(k)
    socket = _connected(k, listener)
    size = k.struct("I", 4, name="size")
    k.getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, k.buffer(4, name="pidfd"), size).decisive()


@FAMILY.variant(Technique.MULTIPLEXER)
def recvmsg_scm_pidfd(k: Kernel) -> None:
    """The kernel adds a descriptor of the sender to any message, if the receiver asks for it."""
    listener = _listener(k)
    with k.victim.child(k.victim.thread()):
        peer = k.victim.accept(listener.socket, NULL, NULL)
        k.victim.sendto(peer, k.text("x"), 1, 0, NULL, 0)
    socket = _connected(k, listener, SO_PASSPIDFD)
    k.recvmsg(socket, _message(k, k.buffer(64, name="control")), 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def recvmsg_scm_rights(k: Kernel) -> None:
    """A neighbour opens itself and sends what it got: the filter sees a message arrive."""
    listener = _listener(k)
    with k.victim.child(k.victim.thread()):
        peer = k.victim.accept(listener.socket, NULL, NULL)
        pidfd = k.victim.pidfd_open(k.victim.getpid(), 0)
        rights = k.victim.struct("QIIII", 20, SOL_SOCKET, SCM_RIGHTS, pidfd, 0, name="rights")
        k.victim.sendmsg(peer, _message(k.victim, rights), 0)
    socket = _connected(k, listener)
    k.recvmsg(socket, _message(k, k.buffer(64, name="control")), 0).decisive()


# Other ways


@FAMILY.variant(Technique.INDIRECT_OBJECT, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def open_by_handle_at_pidfs(k: Kernel) -> None:
    """A handle, which is but a few bytes that somebody noted, opens the process again."""
    handle, mount_id = k.buffer(_HANDLE, name="handle"), k.buffer(8, name="mount")
    pidfd = k.victim.pidfd_open(k.victim.getpid(), 0)
    k.victim.store(handle, 0, 4, _LARGEST_HANDLE)
    k.victim.name_to_handle_at(pidfd, k.text(""), handle, mount_id, AT_EMPTY_PATH)
    k.open_by_handle_at(FD_PIDFS_ROOT, handle, O_RDONLY).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC shares all descriptors."""
    with deputy.sibling_thread(k) as thread:
        thread.pidfd_open(_victim(k), 0)


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def pidfd_open_self(k: Kernel) -> None:
    """A descriptor of the caller itself is not one of the victim."""
    k.pidfd_open(k.getpid(), 0).decisive()


class _Listener(Struct, frozen=True):
    """A socket of the victim's that waits for connections."""

    socket: Result
    address: Buffer


def _listener(k: Kernel) -> _Listener:
    address = k.data(b"\1\0sock\0", name="address")
    socket = k.victim.socket(AF_UNIX, SOCK_STREAM, 0)
    k.victim.bind(socket, address, address.size)
    k.victim.listen(socket, 1)
    return _Listener(socket, address)


def _connected(k: Kernel, listener: _Listener, option: int = 0) -> Result:
    socket = k.socket(AF_UNIX, SOCK_STREAM, 0)
    if option:
        k.setsockopt(socket, SOL_SOCKET, option, k.struct("I", 1, name="on"), 4)
    k.connect(socket, listener.address, listener.address.size)
    return socket


def _message(k: Recorder, control: Buffer) -> Buffer:
    """``struct msghdr`` with one byte of text and room for what comes with it."""
    iov = k.struct("QQ", k.buffer(8, name="byte"), 1, name="iov")
    return k.struct("QQQQQQQ", 0, 0, iov, 1, control, control.size, 0, name="message")


def _victim(k: Kernel) -> Env:
    return k.env(Environment.VICTIM_PID)
