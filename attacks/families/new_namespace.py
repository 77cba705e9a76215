"""Get into a new namespace of the parameter ``type``, a CLONE_NEW* flag: oneself or a child.

Not for user namespaces, which are a family of their own.  A new pid or time namespace is for the
children of the one who asks for it.
"""

from attacks import namespaces
from attacks.consts import (
    CLONE_FS,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    SIGCHLD,
    Named,
)
from attacks.consts_namespaces import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWTIME,
    CLONE_NEWUTS,
)
from attacks.effects import Effect, EffectKind
from attacks.errors import AttackError
from attacks.family import Family, Need, Parameters, Technique
from attacks.kernel import Kernel
from attacks.recorder import Result

_LINKS = {
    CLONE_NEWNS: "ns/mnt",
    CLONE_NEWCGROUP: "ns/cgroup",
    CLONE_NEWUTS: "ns/uts",
    CLONE_NEWIPC: "ns/ipc",
    CLONE_NEWNET: "ns/net",
    CLONE_NEWPID: "ns/pid",
    CLONE_NEWTIME: "ns/time_for_children",
}


def _effect(parameters: Parameters) -> Effect:
    if parameters["type"] not in _LINKS:
        known = ", ".join(f"{int(flag):#x} ({flag.text})" for flag in _LINKS)
        raise AttackError(f"new-namespace: type={parameters['type']:#x} is not one of {known}")
    return Effect(EffectKind.WITNESSED)


FAMILY = Family(
    "new-namespace",
    title="Get into a new namespace",
    effect=_effect,
    parameters={"type": int(CLONE_NEWNS)},
    constants={"type": _LINKS},
    has_target=False,
    stays=True,
    group="namespaces and mounts",
    attack_technique="T1611",
    unrecorded={
        "open_tree(..., OPEN_TREE_NAMESPACE)": "newer than the kernel that it was tried on",
    },
)
ADMIN = (Need.CAP_SYS_ADMIN,)


def _has_clone_flag(parameters: Parameters) -> bool:
    return parameters["type"] != CLONE_NEWTIME


@FAMILY.witness
def another_namespace(w: Kernel) -> None:
    namespaces.link_changes_here_or_in_a_child(w, _LINKS[_type(w)])


# With the right to do it


@FAMILY.variant(Technique.BASELINE, needs=ADMIN, references=("man 2 unshare", "man 7 namespaces"))
def unshare(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.unshare(_type(k)).decisive()
    _bear(k)


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=ADMIN, when=_has_clone_flag)
def clone(k: Kernel) -> None:
    """A child is born in it; clone cannot be denied, so its flags have to be looked at."""
    namespaces.lives_on(k, k.clone(_type(k) | SIGCHLD).decisive())


@FAMILY.variant(Technique.NEWER_SYSCALL, needs=ADMIN)
def clone3(k: Kernel) -> None:
    """The flags are behind a pointer, where no filter can look."""
    arguments = namespaces.clone_args(k, _type(k))
    namespaces.lives_on(k, k.clone3(arguments, arguments.size).decisive())


# With a user namespace, which anybody may have


@FAMILY.variant(Technique.NAMESPACE)
def unshare_with_user(k: Kernel) -> None:
    """Together with a user namespace it needs no capability, and equals no single flag."""
    k.unshare(_type(k) | CLONE_NEWUSER).decisive()
    _bear(k)


@FAMILY.variant(Technique.NAMESPACE)
def unshare_after_user(k: Kernel) -> None:
    """A user namespace first: in it even a process without capabilities has them all."""
    k.unshare(CLONE_NEWUSER)
    k.unshare(_type(k)).decisive()
    _bear(k)


@FAMILY.variant(Technique.NAMESPACE, when=_has_clone_flag)
def clone_with_user(k: Kernel) -> None:
    """A child gets both at birth; rules that compare the flags of clone for equality miss it."""
    namespaces.lives_on(k, k.clone(_type(k) | CLONE_NEWUSER | SIGCHLD).decisive())


@FAMILY.variant(Technique.COMPAT_ABI)
def clone_with_user_i386(k: Kernel) -> None:
    """The 32-bit table has another number: rules on the flags of the 64-bit one do not cover it."""
    flags = _type(k) | CLONE_NEWUSER | SIGCHLD
    namespaces.lives_on(k, k.i386.clone(flags).decisive())


@FAMILY.variant(Technique.NEWER_SYSCALL)
def clone3_with_user(k: Kernel) -> None:
    """Needs no capability, and both flags are behind a pointer."""
    arguments = namespaces.clone_args(k, _type(k) | CLONE_NEWUSER)
    namespaces.lives_on(k, k.clone3(arguments, arguments.size).decisive())


# Controls that must not get there


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def unshare_directories(k: Kernel) -> None:
    """Unshare with another flag makes no namespace: directories are no longer shared, no more."""
    k.unshare(CLONE_FS).decisive().may_fail()


@FAMILY.variant(Technique.WIDE_ARGUMENT, negative=True)
def unshare_wide(k: Kernel) -> None:
    """Unshare looks at all 64 bits and refuses what it does not know, unlike clone."""
    k.unshare(0x100000000 | CLONE_NEWUSER | _type(k)).decisive().may_fail()


@FAMILY.variant(
    Technique.SIBLING_SYSCALL, negative=True, when=lambda values: not _has_clone_flag(values)
)
def clone_time_bit(k: Kernel) -> None:
    """For clone the bit of a time namespace is part of the number of the exit signal."""
    created = k.clone(CLONE_NEWTIME | SIGCHLD | CLONE_NEWUSER).decisive().may_fail()
    namespaces.lives_on(k, created)


def _type(k: Kernel) -> Named:
    wanted = k.param("type")
    return next(flag for flag in _LINKS if flag == wanted)


def _bear(k: Kernel) -> Result | None:
    """The child that a new pid namespace is for."""
    if k.param("type") != CLONE_NEWPID:
        return None
    return namespaces.lives_on(k, k.clone(SIGCHLD))
