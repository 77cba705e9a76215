"""Join the namespace of the parameter ``type`` that another process is in."""

from attacks import namespaces, witness
from attacks.consts import (
    AF_UNIX,
    AT_FDCWD,
    AT_SYMLINK_FOLLOW,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    O_RDONLY,
    SIGCHLD,
    SOCK_DGRAM,
    Named,
)
from attacks.consts_namespaces import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWUTS,
    FD_NSFS_ROOT,
    PIDFD_GET_CGROUP_NAMESPACE,
    PIDFD_GET_IPC_NAMESPACE,
    PIDFD_GET_MNT_NAMESPACE,
    PIDFD_GET_NET_NAMESPACE,
    PIDFD_GET_UTS_NAMESPACE,
    SIOCGSKNS,
)
from attacks.deputy import STOLEN_FD
from attacks.effects import Effect, EffectKind
from attacks.errors import AttackError
from attacks.family import Assumption, Family, Need, Parameters, Technique
from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.recorder import Result

_KINDS = {
    CLONE_NEWNS: ("ns/mnt", PIDFD_GET_MNT_NAMESPACE),
    CLONE_NEWCGROUP: ("ns/cgroup", PIDFD_GET_CGROUP_NAMESPACE),
    CLONE_NEWUTS: ("ns/uts", PIDFD_GET_UTS_NAMESPACE),
    CLONE_NEWIPC: ("ns/ipc", PIDFD_GET_IPC_NAMESPACE),
    CLONE_NEWNET: ("ns/net", PIDFD_GET_NET_NAMESPACE),
}
_HANDLE_SIZE = 136


def _effect(parameters: Parameters) -> Effect:
    if parameters["type"] not in _KINDS:
        known = ", ".join(f"{int(flag):#x} ({flag.text})" for flag in _KINDS)
        raise AttackError(f"join-namespace: type={parameters['type']:#x} is not one of {known}")
    return Effect(EffectKind.WITNESSED)


FAMILY = Family(
    "join-namespace",
    title="Join the namespace of another process",
    effect=_effect,
    parameters={"type": int(CLONE_NEWNET)},
    constants={"type": _KINDS},
    has_target=False,
    stays=True,
    group="namespaces and mounts",
    attack_technique="T1611",
)
ADMIN = (Need.CAP_SYS_ADMIN,)


def _is_network(parameters: Parameters) -> bool:
    return parameters["type"] == CLONE_NEWNET


@FAMILY.witness
def another_namespace(w: Kernel) -> None:
    witness.link_changes(w, witness.subject(w), _link(w))


# With the right to do it


@FAMILY.variant(Technique.BASELINE, needs=ADMIN, references=("man 2 setns",))
def setns(k: Kernel) -> None:
    """The call that the author of the policy has in mind; the namespace is that of a child."""
    child = namespaces.lives_on(k, k.clone(_type(k) | SIGCHLD))
    namespace = k.open(namespaces.path_of(k, child, _link(k)), O_RDONLY)
    k.setns(namespace, _type(k)).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, assumption=Assumption.TRUSTED_SETUP, needs=ADMIN)
def setns_any_type(k: Kernel) -> None:
    """Type 0 takes whatever the descriptor is: no argument says which kind of namespace it is."""
    k.setns(_opened(k), 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, assumption=Assumption.TRUSTED_SETUP, needs=ADMIN)
def setns_pidfd(k: Kernel) -> None:
    """A process descriptor stands for all namespaces of its process; procfs is not needed."""
    k.victim.unshare(_type(k))
    k.setns(k.pidfd_open(k.env(Environment.VICTIM_PID), 0), _type(k)).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, assumption=Assumption.TRUSTED_SETUP, needs=ADMIN)
def setns_pidfd_ioctl(k: Kernel) -> None:
    """An ioctl (6.11) turns a process descriptor into a namespace: nothing in procfs is opened."""
    k.victim.unshare(_type(k))
    process = k.pidfd_open(k.env(Environment.VICTIM_PID), 0)
    k.setns(k.ioctl(process, _KINDS[_type(k)][1]), 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, assumption=Assumption.TRUSTED_SETUP, needs=ADMIN)
def setns_handle(k: Kernel) -> None:
    """Namespaces have file handles (6.18): opened by number, where nobody watches paths."""
    k.victim.unshare(_type(k))
    handle, mount = k.buffer(_HANDLE_SIZE, name="handle"), k.buffer(8, name="mount_id")
    k.store(handle, 0, 4, _HANDLE_SIZE - 8)
    link = namespaces.neighbours(k, _link(k))
    k.name_to_handle_at(AT_FDCWD, link, handle, mount, AT_SYMLINK_FOLLOW)
    k.setns(k.open_by_handle_at(FD_NSFS_ROOT, handle, O_RDONLY), 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR, needs=ADMIN)
def setns_inherited(k: Kernel) -> None:
    """A namespace opened before the filter: setns is all that is left to see."""
    k.setns(_opened(k, k.setup), _type(k)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR, needs=ADMIN)
def setns_received(k: Kernel) -> None:
    """The namespace waits in a socket: whoever closed all descriptors of files still has it."""
    socket = namespaces.queued(k, _opened(k, k.setup))
    k.setns(namespaces.received(k, socket), 0).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    assumption=Assumption.TRUSTED_SETUP,
    needs=ADMIN,
    when=_is_network,
)
def setns_socket_ioctl(k: Kernel) -> None:
    """A socket leads to the network namespace that it was made in, so one taken over is enough."""
    k.victim.unshare(CLONE_NEWNET)
    k.victim.dup2(k.victim.socket(AF_UNIX, SOCK_DGRAM, 0), STOLEN_FD)
    process = k.pidfd_open(k.env(Environment.VICTIM_PID), 0)
    socket = k.pidfd_getfd(process, STOLEN_FD, 0)
    k.setns(k.ioctl(socket, SIOCGSKNS), 0).decisive()


# With a user namespace of the same user, in which everybody may do everything


@FAMILY.variant(Technique.NAMESPACE, assumption=Assumption.TRUSTED_SETUP)
def setns_pidfd_with_user(k: Kernel) -> None:
    """Together with the user namespace that owns it, it takes no capability to join."""
    k.victim.unshare(_type(k) | CLONE_NEWUSER)
    process = k.pidfd_open(k.env(Environment.VICTIM_PID), 0)
    k.setns(process, _type(k) | CLONE_NEWUSER).decisive()


@FAMILY.variant(Technique.NAMESPACE, assumption=Assumption.TRUSTED_SETUP)
def setns_after_user(k: Kernel) -> None:
    """First the user namespace, which gives the capabilities that the second call needs."""
    k.victim.unshare(_type(k) | CLONE_NEWUSER)
    user = k.open(namespaces.neighbours(k, "ns/user"), O_RDONLY)
    wanted = k.open(namespaces.neighbours(k, _link(k)), O_RDONLY)
    k.setns(user, 0)
    k.setns(wanted, 0).decisive()


@FAMILY.variant(Technique.NAMESPACE)
def setns_own_child(k: Kernel) -> None:
    """A child is born in the namespaces and followed there: unshare is never called."""
    flags = _type(k) | CLONE_NEWUSER
    child = namespaces.lives_on(k, k.clone(flags | SIGCHLD))
    k.setns(k.pidfd_open(child, 0), flags).decisive()


# Controls that must not get there


@FAMILY.variant(
    Technique.PROC_INTERFACE, assumption=Assumption.TRUSTED_SETUP, needs=ADMIN, negative=True
)
def setns_wrong_type(k: Kernel) -> None:
    """The type must be that of the descriptor: a namespace of another kind is refused."""
    k.setns(_opened(k), CLONE_NEWUSER).decisive().may_fail()


@FAMILY.variant(Technique.PROC_INTERFACE, needs=ADMIN, negative=True)
def setns_own(k: Kernel) -> None:
    """Joining the namespace that one is in already changes nothing."""
    k.setns(k.open(k.proc(f"self/{_link(k)}"), O_RDONLY), 0).decisive().may_fail()


def _type(k: Kernel) -> Named:
    wanted = k.param("type")
    return next(flag for flag in _KINDS if flag == wanted)


def _link(k: Kernel) -> str:
    return _KINDS[_type(k)][0]


def _opened(k: Kernel, opened_by: Kernel | None = None) -> Result:
    """The neighbour has a namespace of its own; a descriptor of it."""
    k.victim.unshare(_type(k))
    opener = opened_by or k
    return opener.open(namespaces.neighbours(opener, _link(k)), O_RDONLY)
