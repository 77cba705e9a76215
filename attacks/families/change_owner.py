"""Change the owner of a file to ``uid`` and ``gid``; -1 leaves one of them as it is.

The file belongs to the subject.  The same inode with another owner is exact; another file of that
owner under the same name, or an owner that a mount makes up, is equivalent.
"""

from attacks import inode
from attacks.consts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
    CLONE_NEWUSER,
    MOVE_MOUNT_F_EMPTY_PATH,
    MS_BIND,
    NULL,
    O_CREAT,
    O_EXCL,
    O_PATH,
    O_RDONLY,
    O_WRONLY,
    OPEN_TREE_CLONE,
    SIGCHLD,
)
from attacks.consts_files import MOUNT_ATTR_IDMAP
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.errors import AttackError
from attacks.family import NEAR, TARGET, Assumption, Family, Fresh, Need, Parameters, Technique
from attacks.kernel import Kernel
from attacks.program import Environment

UNCHANGED = -1
_WORD = (1 << 64) - 1
LARGEST = 65534
"""More ids than these are not mapped in the sandbox; and 65535 means -1 in 16 bits."""


def _effect(parameters: Parameters) -> Effect:
    for name in ("uid", "gid"):
        if not UNCHANGED <= parameters[name] <= LARGEST:
            raise AttackError(f"change-owner: {name}={parameters[name]} is not -1 to {LARGEST}")
    if parameters["uid"] == parameters["gid"] == UNCHANGED:
        raise AttackError("change-owner: uid and gid are both -1, which changes nothing")
    return Effect(EffectKind.WITNESSED)


FAMILY = Family(
    "change-owner",
    title="Change the owner of a file",
    effect=_effect,
    objects=(Object(ObjectKind.FILE, TARGET, 0o644, b"mine\n"),),
    parameters={"uid": 7, "gid": 7},
    attack_technique="T1222.002",
    needs=lambda _: (Need.MANY_IDS,),
    group="file system",
)
CHOWN = (Need.CAP_CHOWN,)
IDS = (Need.CAP_SETGID, Need.CAP_SETUID)
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)
OTHER = (Object(ObjectKind.FILE, f"{NEAR}f0", 0o644, b"other\n"),)
ANYBODY = 0o777


def _both(parameters: Parameters) -> bool:
    return UNCHANGED not in (parameters["uid"], parameters["gid"])


def _group(parameters: Parameters) -> bool:
    return parameters["gid"] != UNCHANGED


@FAMILY.witness
def another_owner(w: Kernel) -> None:
    status = inode.shown(w, w.path())
    for name, field in (("uid", inode.UID), ("gid", inode.GID)):
        if w.param(name) != UNCHANGED:
            seen = w.load(status, *field)
            w.expect(w.add(seen, w.env(Environment.ID_OFFSET)), _WORD, w.param(name))


# Direct calls


@FAMILY.variant(Technique.BASELINE, needs=CHOWN)
def chown(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.chown(k.path(), _uid(k), _gid(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=CHOWN, when=_both)
def chown_one_by_one(k: Kernel) -> None:
    """Each call leaves one id as it is: a rule on both arguments at once sees neither pair."""
    k.chown(k.path(), UNCHANGED, _gid(k))
    k.chown(k.path(), _uid(k), UNCHANGED).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL, needs=CHOWN)
def lchown(k: Kernel) -> None:
    """Made for symbolic links, it changes files just as well."""
    k.lchown(k.path(), _uid(k), _gid(k)).decisive()


@FAMILY.variant(Technique.FD_RELATIVE, needs=CHOWN)
def fchown(k: Kernel) -> None:
    """Changes by descriptor, one for reading: there is no path to look at."""
    file = k.open(k.path(), O_RDONLY)
    k.fchown(file, _uid(k), _gid(k)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR, needs=CHOWN)
def fchown_inherited(k: Kernel) -> None:
    """The file was opened before the filter, for reading only: that is enough to change it."""
    file = k.setup.open(k.path(), O_RDONLY)
    k.fchown(file, _uid(k), _gid(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=CHOWN)
def fchownat(k: Kernel) -> None:
    """Lists that name chown often forget its *at sibling, which is what chown(1) calls."""
    k.fchownat(AT_FDCWD, k.path(), _uid(k), _gid(k), 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=CHOWN)
def fchownat_nofollow(k: Kernel) -> None:
    """A flag changes the arguments and, for a regular file, not the effect."""
    k.fchownat(AT_FDCWD, k.path(), _uid(k), _gid(k), AT_SYMLINK_NOFOLLOW).decisive()


@FAMILY.variant(Technique.FD_RELATIVE, needs=CHOWN)
def fchownat_empty_path(k: Kernel) -> None:
    """An O_PATH descriptor, which fchown refuses, is accepted with an empty path."""
    file = k.open(k.path(), O_PATH)
    k.fchownat(file, k.text(""), _uid(k), _gid(k), AT_EMPTY_PATH).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR, needs=CHOWN)
def fchownat_inherited_path_fd(k: Kernel) -> None:
    """A descriptor from before the filter that can neither read nor write is enough."""
    file = k.setup.open(k.path(), O_PATH)
    k.fchownat(file, k.text(""), _uid(k), _gid(k), AT_EMPTY_PATH).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, needs=CHOWN)
def chown_proc_fd(k: Kernel) -> None:
    """The link of an O_PATH descriptor in procfs is a path to the file."""
    file = k.open(k.path(), O_PATH)
    k.chown(k.proc_fd(file), _uid(k), _gid(k)).decisive()


# The 32-bit table has each call twice, for ids of 16 and of 32 bits


@FAMILY.variant(Technique.COMPAT_ABI, needs=CHOWN)
def chown32_i386(k: Kernel) -> None:
    """Ids of 32 bits came late to the 32-bit table, under a second name that lists may lack."""
    k.i386.raw("chown32", k.path(), _uid(k), _gid(k)).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=CHOWN)
def lchown32_i386(k: Kernel) -> None:
    """The second name of lchown in the 32-bit table."""
    k.i386.raw("lchown32", k.path(), _uid(k), _gid(k)).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=CHOWN)
def fchown32_i386(k: Kernel) -> None:
    """The second name of fchown in the 32-bit table."""
    file = k.i386.open(k.path(), O_RDONLY)
    k.i386.raw("fchown32", file, _uid(k), _gid(k)).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT, needs=CHOWN, when=_both)
def chown16_high_bits_i386(k: Kernel) -> None:
    """The old call reads 16 bits of each id: a rule that compares 32 sees another number."""
    k.i386.chown(k.path(), 0x7FFF0000 | _uid(k), 0x7FFF0000 | _gid(k)).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT, needs=CHOWN, when=_both)
def lchown16_high_bits_i386(k: Kernel) -> None:
    """The old lchown reads as few bits as the old chown."""
    k.i386.lchown(k.path(), 0x7FFF0000 | _uid(k), 0x7FFF0000 | _gid(k)).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT, needs=CHOWN, when=_both)
def fchown16_high_bits_i386(k: Kernel) -> None:
    """The old fchown reads as few bits as the old chown."""
    file = k.i386.open(k.path(), O_RDONLY)
    k.i386.fchown(file, 0x7FFF0000 | _uid(k), 0x7FFF0000 | _gid(k)).decisive()


# Another file of that owner


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, needs=IDS)
def setfsuid_recreate(k: Kernel) -> None:
    """New files belong to the file system ids, so the file is made again: nothing is chowned."""
    k.chmod(k.parent(), ANYBODY)
    k.unlink(k.path())
    k.setfsgid(_gid(k))
    k.setfsuid(_uid(k))
    k.open(k.path(), O_CREAT | O_EXCL | O_WRONLY, 0o644).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
    needs=(Need.CAP_CHOWN, Need.CAP_SETUID),
    when=_group,
)
def set_group_id_directory(k: Kernel) -> None:
    """In a directory with the set-group-id bit new files take its group: no call names it."""
    k.setup.chown(k.parent(), UNCHANGED, _gid(k))
    k.setup.chmod(k.parent(), 0o2000 | ANYBODY)
    k.unlink(k.path())
    k.setfsuid(_uid(k))
    k.open(k.path(), O_CREAT | O_EXCL | O_WRONLY, 0o644).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
    needs=CHOWN,
    objects=OTHER,
)
def rename_replace(k: Kernel) -> None:
    """A file that has the owner already takes the target's name."""
    k.setup.chown(k.near("f0"), _uid(k), _gid(k))
    k.rename(k.near("f0"), k.path()).decisive()


@FAMILY.variant(
    Technique.ASYNC_KERNEL,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
    needs=CHOWN,
    objects=OTHER,
)
def io_uring_rename_replace(k: Kernel) -> None:
    """Rings have no chown, but they rename a file that has the owner over the target."""
    k.setup.chown(k.near("f0"), _uid(k), _gid(k))
    k.ring().renameat(AT_FDCWD, k.near("f0"), AT_FDCWD, k.path()).decisive()


# Mounts


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
    needs=(*CHOWN, *ADMIN),
    fresh=MOUNTS,
    objects=OTHER,
)
def bind_mount(k: Kernel) -> None:
    """A file that has the owner already is mounted over the target."""
    k.setup.chown(k.near("f0"), _uid(k), _gid(k))
    k.mount(k.near("f0"), k.path(), NULL, MS_BIND, NULL).decisive()


@FAMILY.variant(
    Technique.NAMESPACE,
    assumption=Assumption.TRUSTED_SETUP,
    grade=Grade.EQUIVALENT,
    needs=(*ADMIN, *IDS),
    fresh=MOUNTS,
    when=_both,
)
def idmapped_mount(k: Kernel) -> None:
    """A mount translates owners by a user namespace's maps: every file in it changes at once."""
    k.setup.mount(k.text("tmpfs"), k.parent(), k.text("tmpfs"), 0, k.text("mode=0755"))
    k.setup.open(k.path(), O_CREAT | O_WRONLY, 0o644)
    child = k.clone(CLONE_NEWUSER | SIGCHLD)
    with k.child(child):
        k.wait(k.buffer(4, name="never"))
    process = k.open(k.proc_pid(child), O_PATH)
    for name, number in (("uid_map", _uid(k)), ("gid_map", _gid(k))):
        line = f"0 {number} 1"
        k.write(k.openat(process, k.text(name), O_WRONLY), k.text(line), len(line))
    maps = k.openat(process, k.text("ns/user"), O_RDONLY)
    tree = k.open_tree(AT_FDCWD, k.parent(), OPEN_TREE_CLONE)
    attr = k.struct("QQQQ", MOUNT_ATTR_IDMAP, 0, 0, maps, name="mount_attr")
    k.mount_setattr(tree, k.text(""), AT_EMPTY_PATH, attr, attr.size)
    k.move_mount(tree, k.text(""), AT_FDCWD, k.parent(), MOVE_MOUNT_F_EMPTY_PATH).decisive()


# Controls that must not change the owner


@FAMILY.variant(Technique.FD_RELATIVE, negative=True)
def fchown_path_fd(k: Kernel) -> None:
    """An O_PATH descriptor is refused by fchown."""
    file = k.open(k.path(), O_PATH)
    k.fchown(file, _uid(k), _gid(k)).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def chown_unchanged(k: Kernel) -> None:
    """With -1 twice both owners stay, so that a rule may let this one through."""
    k.chown(k.path(), UNCHANGED, UNCHANGED).decisive()


def _uid(k: Kernel) -> int:
    return k.param("uid")


def _gid(k: Kernel) -> int:
    return k.param("gid")
