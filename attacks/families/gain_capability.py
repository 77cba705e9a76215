"""Have capabilities that the process had not: in its user namespace, or in a new one.

What counts is the effective set together with the user namespace that it is for: the pair is
another than before, and the set is not empty.
"""

from attacks import namespaces, witness
from attacks.consts import AT_FDCWD, CLONE_NEWUSER, SIGCHLD, Named
from attacks.consts_namespaces import (
    CAP_NET_RAW,
    LINUX_CAPABILITY_VERSION_1,
    LINUX_CAPABILITY_VERSION_3,
)
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Arg, Buffer, Result

FAMILY = Family(
    "gain-capability",
    title="Gain capabilities",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    group="identity",
    attack_technique="T1548",
    unrecorded={
        "prctl(PR_SET_KEEPCAPS), and secure bits": "see keep-capability",
        "capset of the inheritable set, and ambient capabilities": "see pass-on-capability",
        "execve of a program with file capabilities": "user 0 gets them from any program",
    },
)
_SET, _LINK = 16, 256
_NET_RAW = 1 << CAP_NET_RAW
UID, _KEEP = 7, -1
PR_SET_DUMPABLE = Named(4, "PR_SET_DUMPABLE")


@FAMILY.witness
def another_set(w: Kernel) -> None:
    old = namespaces.field(w.setup, namespaces.subject_status(w.setup), "CapEff", _SET)
    old_link = witness.link(w.setup, witness.subject(w), "ns/user")
    now = namespaces.field(w, namespaces.subject_status(w), "CapEff", _SET)
    link = _link(w, old_link)
    child = namespaces.field(w, namespaces.child_status(w), "CapEff", _SET)
    child_link = namespaces.child_link(w, "ns/user", old_link)
    signs = (
        _sign(w, w.compare(old, now, _SET), w.compare(old_link.buffer, link.buffer, _LINK), now),
        _sign(w, 1, w.compare(old_link.buffer, child_link.buffer, _LINK), child),
    )
    namespaces.one_is_zero(w, *signs)


@FAMILY.variant(Technique.BASELINE, references=("man 7 user_namespaces",))
def unshare(k: Kernel) -> None:
    """The call that the author of the policy has in mind: all capabilities, in the namespace."""
    k.unshare(CLONE_NEWUSER).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def clone(k: Kernel) -> None:
    """A child is born with all capabilities; the flags of clone have to be looked at."""
    namespaces.lives_on(k, k.clone(CLONE_NEWUSER | SIGCHLD).decisive())


@FAMILY.variant(Technique.NEWER_SYSCALL)
def clone3(k: Kernel) -> None:
    """The flags are behind a pointer, where no filter can look."""
    arguments = namespaces.clone_args(k, CLONE_NEWUSER)
    namespaces.lives_on(k, k.clone3(arguments, arguments.size).decisive())


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=(Need.CAP_NET_RAW,))
def capset_regain(k: Kernel) -> None:
    """What was only laid aside is taken back: the permitted set is what must be empty."""
    header = k.struct("II", LINUX_CAPABILITY_VERSION_3, 0, name="header")
    k.capset(header, _sets(k, 0, _NET_RAW))
    k.capset(header, _sets(k, _NET_RAW, _NET_RAW)).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL, needs=(Need.CAP_NET_RAW,))
def capset_first_version(k: Kernel) -> None:
    """The oldest layout has half the size: a tracer that reads the newest misreads it."""
    header = k.struct("II", LINUX_CAPABILITY_VERSION_1, 0, name="header")
    k.capset(header, _sets(k, 0, _NET_RAW))
    k.capset(header, _sets(k, _NET_RAW, _NET_RAW)).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    assumption=Assumption.TRUSTED_SETUP,
    needs=(Need.CAP_SETUID, Need.MANY_IDS),
)
def setresuid_back(k: Kernel) -> None:
    """Who gave up only the effective user id takes it back, and the capabilities with it."""
    k.setup.setresuid(_KEEP, UID, _KEEP)
    k.setup.prctl(PR_SET_DUMPABLE, 1)
    k.setresuid(_KEEP, 0, _KEEP).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def capset_drop(k: Kernel) -> None:
    """Capabilities that are given up are not there afterwards."""
    header = k.struct("II", LINUX_CAPABILITY_VERSION_3, 0, name="header")
    k.capset(header, _sets(k, 0, 0)).decisive().may_fail()


def _link(w: Kernel, otherwise: witness.Text) -> witness.Text:
    """The subject's user namespace now; what it was if a change of user has hidden it."""
    buffer = w.buffer(_LINK, name="text")
    w.copy(buffer, otherwise.buffer, _LINK)
    path = w.proc_pid(witness.subject(w), "/ns/user")
    return witness.Text(buffer, w.readlinkat(AT_FDCWD, path, buffer, _LINK).may_fail())


def _sets(k: Kernel, effective: int, permitted: int) -> Buffer:
    return k.struct("IIIIII", effective, permitted, 0, 0, 0, 0, name="sets")


def _sign(w: Kernel, same_set: Arg, same_namespace: Arg, now: Arg) -> Result:
    """Zero if set or namespace is another and the set is neither empty nor unknown."""
    pair = w.buffer(2, name="pair")
    w.store(pair, 0, 1, same_set)
    w.store(pair, 1, 1, same_namespace)
    unchanged = w.compare(pair, w.data(b"\1\1", name="unchanged"), 2)
    empty = w.compare(now, w.data(b"0" * _SET, name="empty"), _SET)
    unknown = w.compare(now, w.data(bytes(_SET), name="unknown"), _SET)
    return w.add(w.add(unchanged, empty), unknown)
