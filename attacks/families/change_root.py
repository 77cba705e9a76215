"""Change the root directory of the process."""

from attacks import deputy, namespaces, witness
from attacks.consts import (
    CLONE_FS,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    MS_BIND,
    MS_MOVE,
    MS_REC,
    NULL,
    O_DIRECTORY,
    O_PATH,
    SIGCHLD,
)
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer

FAMILY = Family(
    "change-root",
    title="Change the root directory",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(Object(ObjectKind.DIRECTORY, "d/old", 0o755),),
    has_target=False,
    stays=True,
    group="namespaces and mounts",
)
CHROOT = (Need.CAP_SYS_CHROOT,)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)


@FAMILY.witness
def another_root(w: Kernel) -> None:
    before, now = _root(w.setup), _root(w)
    w.expect(w.compare(before, now, 16), 1, 0)


@FAMILY.variant(Technique.BASELINE, needs=CHROOT, references=("man 2 chroot",))
def chroot(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.chroot(k.parent()).decisive()


@FAMILY.variant(Technique.FD_RELATIVE, needs=CHROOT)
def chroot_dot(k: Kernel) -> None:
    """Goes there by a descriptor: the path that chroot gets says nothing."""
    k.fchdir(k.open(k.parent(), O_PATH | O_DIRECTORY))
    k.chroot(k.text(".")).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, needs=CHROOT)
def chroot_proc_fd(k: Kernel) -> None:
    """The directory is given as a descriptor's link in procfs, not by its name."""
    k.chroot(k.proc_fd(k.open(k.parent(), O_PATH))).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR, needs=CHROOT
)
def chroot_inherited(k: Kernel) -> None:
    """The directory was opened before the filter: no rule on opening it helps."""
    k.fchdir(k.setup.open(k.parent(), O_PATH | O_DIRECTORY))
    k.chroot(k.text(".")).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=CHROOT)
def chroot_shared(k: Kernel) -> None:
    """A child that shares the directories of its parent changes the root of both."""
    child = k.clone(CLONE_FS | SIGCHLD)
    with k.child(child):
        k.chroot(k.parent()).decisive()
    k.wait4(child, NULL, 0, NULL)


@FAMILY.variant(Technique.NAMESPACE)
def chroot_in_new_user_namespace(k: Kernel) -> None:
    """A user namespace of one's own gives the capability that chroot asks for."""
    k.unshare(CLONE_NEWUSER)
    k.chroot(k.parent()).decisive()


@FAMILY.variant(Technique.NAMESPACE, needs=ADMIN, fresh=MOUNTS, references=("man 2 pivot_root",))
def pivot_root(k: Kernel) -> None:
    """Swaps the root mount of the namespace; lists that name chroot alone miss it."""
    _own_mount(k)
    k.pivot_root(k.text("."), k.text("old")).decisive()


@FAMILY.variant(Technique.NAMESPACE, needs=ADMIN, fresh=MOUNTS)
def pivot_root_dot(k: Kernel) -> None:
    """Without a place for the old root, which ends up under the new one: paths tell nothing."""
    _own_mount(k)
    k.pivot_root(k.text("."), k.text(".")).decisive()


@FAMILY.variant(Technique.NAMESPACE, needs=(*ADMIN, *CHROOT), fresh=MOUNTS)
def move_over_root(k: Kernel) -> None:
    """A mount is moved over the root before chroot, which only follows it: its path is a dot."""
    _own_mount(k)
    k.mount(k.text("."), k.absolute("/"), NULL, MS_MOVE, NULL)
    k.chroot(k.text(".")).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD, needs=CHROOT)
def sibling_thread(k: Kernel) -> None:
    """A thread from before the filter changes the root, which all threads share."""
    with deputy.sibling_thread(k) as thread:
        thread.chroot(k.parent())


@FAMILY.variant(Technique.FD_RELATIVE, needs=CHROOT, negative=True)
def chdir(k: Kernel) -> None:
    """Another working directory is not another root."""
    k.chdir(k.parent()).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=ADMIN, fresh=MOUNTS, negative=True)
def pivot_root_no_mount(k: Kernel) -> None:
    """The new root must be a mount: a plain directory is refused."""
    k.unshare(CLONE_NEWNS)
    k.chdir(k.parent())
    k.pivot_root(k.text("."), k.text("old")).decisive().may_fail()


def _own_mount(k: Kernel) -> None:
    """The directory as a mount of its own, in a namespace of its own, and the way into it."""
    k.unshare(CLONE_NEWNS)
    k.mount(k.parent(), k.parent(), NULL, MS_BIND | MS_REC, NULL)
    k.chdir(k.parent())


def _root(w: Kernel) -> Buffer:
    return namespaces.inode(w, w.proc_pid(witness.subject(w), "/root"))
