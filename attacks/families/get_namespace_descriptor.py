"""Get a descriptor of a namespace, which can be entered or kept alive with it.

The witness looks among the subject's descriptors for one of the network namespace that
it shares with everybody here.
"""

from attacks import deputy, descriptors, witness
from attacks.consts import (
    AF_UNIX,
    AT_FDCWD,
    AT_SYMLINK_FOLLOW,
    O_PATH,
    O_RDONLY,
    SOCK_STREAM,
    Named,
)
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Need, Technique
from attacks.kernel import Kernel
from attacks.program import Env, Environment

FAMILY = Family(
    "get-namespace-descriptor",
    title="Get a descriptor of a namespace",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    group="file system",
)
PIDFD_GET_NET_NAMESPACE = Named(0xFF04, "PIDFD_GET_NET_NAMESPACE")
SIOCGSKNS = Named(0x894C, "SIOCGSKNS")
FD_NSFS_ROOT = Named(-10003, "FD_NSFS_ROOT")
_LARGEST = 128
_ABSENT = 1 << 63
_LINK = len("net:[4026531840]")


@FAMILY.witness
def one_is_of_the_namespace(w: Kernel) -> None:
    found = descriptors.links(w, witness.subject(w))
    at = w.find(found, found.size, b"net:[")
    w.expect(at, _ABSENT, 0)
    expected = witness.link(w, witness.subject(w), "ns/net")
    witness.same(w, w.add(found, at), expected.buffer, _LINK)


@FAMILY.variant(Technique.BASELINE)
def open_proc_ns(k: Kernel) -> None:
    """The path that the author of the policy has in mind."""
    k.open(k.proc_pid(_victim(k), "/ns/net"), O_RDONLY).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def open_thread_ns(k: Kernel) -> None:
    """A thread that shares the namespace has the same link under its own number."""
    k.open(k.proc("thread-self/ns/net"), O_RDONLY).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def open_proc_fd(k: Kernel) -> None:
    """A descriptor's link in procfs leads to the directory under a name that no list has."""
    here = k.open(k.proc("self/ns"), O_PATH)
    k.open(k.proc_fd(here, "/net"), O_RDONLY).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_openat(k: Kernel) -> None:
    """A ring opens the link: there is no open call."""
    path = k.proc_pid(_victim(k), "/ns/net")
    k.ring().openat(AT_FDCWD, path, O_RDONLY, 0).decisive()


@FAMILY.variant(Technique.MULTIPLEXER)
def pidfd_ioctl(k: Kernel) -> None:
    """A pidfd gives out the namespaces of its process by ioctl, without procfs and without path."""
    k.ioctl(k.pidfd_open(_victim(k), 0), PIDFD_GET_NET_NAMESPACE).decisive()


@FAMILY.variant(Technique.MULTIPLEXER, needs=(Need.CAP_NET_ADMIN,))
def socket_ioctl(k: Kernel) -> None:
    """A socket gives out the namespace that it belongs to."""
    k.ioctl(k.socket(AF_UNIX, SOCK_STREAM, 0), SIOCGSKNS).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def open_by_handle_at(k: Kernel) -> None:
    """Since 6.18 a namespace has a handle, and opening it needs neither procfs nor capability."""
    handle = k.struct("II" + "Q" * 16, _LARGEST, *(0,) * 17, name="handle")
    mount_id = k.buffer(8, name="mount")
    k.name_to_handle_at(AT_FDCWD, k.proc("self/ns/net"), handle, mount_id, AT_SYMLINK_FOLLOW)
    k.open_by_handle_at(FD_NSFS_ROOT, handle, O_RDONLY).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def neighbour_fd(k: Kernel) -> None:
    """A neighbour has the namespace open; its descriptor is fetched, and nothing is opened."""
    file = k.victim.open(k.proc("self/ns/net"), O_RDONLY)
    k.victim.raw("dup2", file, deputy.STOLEN_FD)
    pidfd = k.pidfd_open(_victim(k), 0)
    k.pidfd_getfd(pidfd, deputy.STOLEN_FD, 0).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC shares all descriptors."""
    with deputy.sibling_thread(k) as thread:
        thread.open(k.proc("self/ns/net"), O_RDONLY)


@FAMILY.variant(Technique.PROC_INTERFACE, negative=True)
def open_other_ns(k: Kernel) -> None:
    """Another kind of namespace is opened by the same call, and is not the wanted one."""
    k.open(k.proc_pid(_victim(k), "/ns/uts"), O_RDONLY).decisive()


def _victim(k: Kernel) -> Env:
    return k.env(Environment.VICTIM_PID)
