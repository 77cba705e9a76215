"""Get into a new user namespace: the process itself or a child of it."""

from attacks import namespaces
from attacks.consts import (
    AT_FDCWD,
    AT_SYMLINK_FOLLOW,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    CLONE_THREAD,
    CLONE_VM,
    O_RDONLY,
    SIGCHLD,
)
from attacks.consts_namespaces import (
    CLONE_NEWNET,
    CLONE_NEWUTS,
    FD_NSFS_ROOT,
    NS_GET_USERNS,
    PIDFD_GET_USER_NAMESPACE,
)
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.recorder import Result

FAMILY = Family(
    "new-user-namespace",
    title="Get into a new user namespace",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    group="namespaces and mounts",
    attack_technique="T1611",
)
_HANDLE_SIZE = 136


@FAMILY.witness
def another_user_namespace(w: Kernel) -> None:
    namespaces.link_changes_here_or_in_a_child(w, "ns/user")


# A namespace of its own


@FAMILY.variant(Technique.BASELINE, references=("man 2 unshare", "man 7 user_namespaces"))
def unshare(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.unshare(CLONE_NEWUSER).decisive()


@FAMILY.variant(Technique.NAMESPACE)
def unshare_several(k: Kernel) -> None:
    """Other flags beside it: a rule that compares the argument for equality does not match."""
    k.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def clone(k: Kernel) -> None:
    """A child is born in it; clone cannot be denied, so its flags have to be looked at."""
    namespaces.lives_on(k, k.clone(CLONE_NEWUSER | SIGCHLD).decisive())


@FAMILY.variant(Technique.NEWER_SYSCALL)
def clone3(k: Kernel) -> None:
    """The flags are behind a pointer, where no filter can look."""
    arguments = namespaces.clone_args(k, CLONE_NEWUSER)
    namespaces.lives_on(k, k.clone3(arguments, arguments.size).decisive())


@FAMILY.variant(Technique.COMPAT_ABI)
def clone_i386(k: Kernel) -> None:
    """The 32-bit table has another number: rules on the flags of the 64-bit one do not cover it."""
    namespaces.lives_on(k, k.i386.clone(CLONE_NEWUSER | SIGCHLD).decisive())


# The namespace of a neighbour, which has one already


@FAMILY.variant(Technique.PROC_INTERFACE, assumption=Assumption.TRUSTED_SETUP)
def setns(k: Kernel) -> None:
    """Joins the namespace that a neighbour is in: lists that name unshare and clone lack setns."""
    k.setns(_neighbours(k), CLONE_NEWUSER).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, assumption=Assumption.TRUSTED_SETUP)
def setns_any_type(k: Kernel) -> None:
    """Type 0 takes whatever the descriptor is: no argument says that it is a user namespace."""
    k.setns(_neighbours(k), 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, assumption=Assumption.TRUSTED_SETUP)
def setns_i386(k: Kernel) -> None:
    """The same by the 32-bit table, where setns has another number."""
    k.i386.setns(_neighbours(k), CLONE_NEWUSER).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT, assumption=Assumption.TRUSTED_SETUP)
def setns_wide(k: Kernel) -> None:
    """The kernel reads 32 bits of the type, and a filter compares 64."""
    k.setns(_neighbours(k), k.wide(CLONE_NEWUSER)).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, assumption=Assumption.TRUSTED_SETUP)
def setns_pidfd(k: Kernel) -> None:
    """A process descriptor stands for all namespaces of its process; procfs is not needed."""
    k.victim.unshare(CLONE_NEWUSER)
    k.setns(k.pidfd_open(k.env(Environment.VICTIM_PID), 0), CLONE_NEWUSER).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, assumption=Assumption.TRUSTED_SETUP)
def setns_pidfd_several(k: Kernel) -> None:
    """Several namespaces of a process in one call: the type is no longer equal to one flag."""
    flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS
    k.victim.unshare(flags)
    k.setns(k.pidfd_open(k.env(Environment.VICTIM_PID), 0), flags).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, assumption=Assumption.TRUSTED_SETUP)
def setns_pidfd_ioctl(k: Kernel) -> None:
    """An ioctl (6.11) turns a process descriptor into a namespace: nothing in procfs is opened."""
    k.victim.unshare(CLONE_NEWUSER)
    process = k.pidfd_open(k.env(Environment.VICTIM_PID), 0)
    k.setns(k.ioctl(process, PIDFD_GET_USER_NAMESPACE), 0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, assumption=Assumption.TRUSTED_SETUP)
def setns_owner_ioctl(k: Kernel) -> None:
    """Any other namespace leads to the user namespace that owns it, by an ioctl."""
    k.victim.unshare(CLONE_NEWUSER | CLONE_NEWUTS)
    other = k.open(namespaces.neighbours(k, "ns/uts"), O_RDONLY)
    k.setns(k.ioctl(other, NS_GET_USERNS), 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, assumption=Assumption.TRUSTED_SETUP)
def setns_handle(k: Kernel) -> None:
    """Namespaces have file handles (6.18): opened by number, where nobody watches paths."""
    k.victim.unshare(CLONE_NEWUSER)
    link = namespaces.neighbours(k, "ns/user")
    handle, mount = k.buffer(_HANDLE_SIZE, name="handle"), k.buffer(8, name="mount_id")
    k.store(handle, 0, 4, _HANDLE_SIZE - 8)
    k.name_to_handle_at(AT_FDCWD, link, handle, mount, AT_SYMLINK_FOLLOW)
    k.setns(k.open_by_handle_at(FD_NSFS_ROOT, handle, O_RDONLY), 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def setns_inherited(k: Kernel) -> None:
    """A namespace opened before the filter: setns is all that is left to see."""
    k.setns(_neighbours(k, k.setup), CLONE_NEWUSER).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def setns_received(k: Kernel) -> None:
    """The namespace waits in a socket: whoever closed all descriptors of files still has it."""
    socket = namespaces.queued(k, _neighbours(k, k.setup))
    k.setns(namespaces.received(k, socket), 0).decisive()


# Controls that must not get there


@FAMILY.variant(Technique.WIDE_ARGUMENT, negative=True)
def unshare_wide(k: Kernel) -> None:
    """Unshare looks at all 64 bits and refuses what it does not know, unlike clone."""
    k.unshare(0x100000000 | CLONE_NEWUSER).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def clone_shared_memory(k: Kernel) -> None:
    """A thread cannot be in another user namespace than its process: the kernel refuses."""
    k.clone(CLONE_NEWUSER | CLONE_VM | CLONE_THREAD, k.stack()).decisive().may_fail()


def _neighbours(k: Kernel, opened_by: Kernel | None = None) -> Result:
    """The neighbour has a user namespace of its own, owned by the same user; a descriptor of it."""
    k.victim.unshare(CLONE_NEWUSER)
    opener = opened_by or k
    return opener.open(namespaces.neighbours(opener, "ns/user"), O_RDONLY)
