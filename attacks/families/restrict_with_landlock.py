"""Get into a Landlock domain of one's own.

No file of procfs tells of a domain.  What shows is what it does: the subject makes a directory,
comes under the restriction, which handles the making of directories and nothing else, tries to
make another one by the same call, and makes a file.  An onlooker who sees the first directory and
the file, and not the second directory, sees the domain at work: no filter on calls does that.
"""

from attacks import witness
from attacks.consts import AT_FDCWD, EINVAL, ENOENT, O_CREAT, O_WRONLY, PR_SET_NO_NEW_PRIVS, Named
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.recorder import Result

FAMILY = Family(
    "restrict-with-landlock",
    title="Get into a Landlock domain",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    attack_technique="T1562",
    group="kernel surface",
)
LANDLOCK_ACCESS_FS_MAKE_DIR = Named(1 << 7, "LANDLOCK_ACCESS_FS_MAKE_DIR")
LANDLOCK_ACCESS_NET_BIND_TCP = Named(1, "LANDLOCK_ACCESS_NET_BIND_TCP")
LANDLOCK_SCOPE_SIGNAL = Named(2, "LANDLOCK_SCOPE_SIGNAL")
LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF = Named(1, "LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF")
FIRST, SECOND, FILE = "d/s", "d/t", "d/u"
FIRST_SIZE = 8
WORD = (1 << 64) - 1


@FAMILY.witness
def a_file_and_one_directory(w: Kernel) -> None:
    witness.content(w, w.relative(FILE))
    for name, said in ((FIRST, EINVAL), (SECOND, ENOENT)):
        found = w.readlinkat(AT_FDCWD, w.relative(name), w.buffer(8), 8).may_fail()
        w.expect(found, WORD, -said & WORD)


@FAMILY.variant(Technique.BASELINE)
def landlock_restrict_self(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    _allow(k)
    k.landlock_restrict_self(_ruleset(k), 0).decisive()
    _show(k)


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def landlock_restrict_self_flags(k: Kernel) -> None:
    """A flag about the log, new in 6.15: the arguments are others and the domain is the same."""
    _allow(k)
    k.landlock_restrict_self(_ruleset(k), LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF).decisive()
    _show(k)


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def landlock_restrict_self_scoped(k: Kernel) -> None:
    """The ruleset of today's size also keeps signals in: all that is behind a pointer."""
    _allow(k)
    fields = (LANDLOCK_ACCESS_FS_MAKE_DIR, LANDLOCK_ACCESS_NET_BIND_TCP, LANDLOCK_SCOPE_SIGNAL)
    attr = k.struct("QQQ", *fields, name="attr")
    k.landlock_restrict_self(k.landlock_create_ruleset(attr, attr.size, 0), 0).decisive()
    _show(k)


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def landlock_inherited_ruleset(k: Kernel) -> None:
    """The ruleset is older than the filter: rules on landlock_create_ruleset never see it."""
    ruleset = _ruleset(k.setup)
    _allow(k)
    k.landlock_restrict_self(ruleset, 0).decisive()
    _show(k)


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def landlock_create_ruleset(k: Kernel) -> None:
    """A ruleset that nobody is put under restricts nothing: the directory appears."""
    _allow(k)
    _ruleset(k).decisive()
    _show(k)


def _allow(k: Kernel) -> None:
    """Without no_new_privs a domain takes CAP_SYS_ADMIN; and the directory that may be made."""
    k.mkdirat(AT_FDCWD, k.relative(FIRST), 0o755)
    k.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _ruleset(k: Kernel) -> Result:
    attr = k.struct("Q", LANDLOCK_ACCESS_FS_MAKE_DIR, name="attr")
    return k.landlock_create_ruleset(attr, FIRST_SIZE, 0)


def _show(k: Kernel) -> None:
    """The directory first, so that nobody sees a file and a directory that is still to come."""
    k.mkdirat(AT_FDCWD, k.relative(SECOND), 0o755).may_fail()
    k.openat(AT_FDCWD, k.relative(FILE), O_CREAT | O_WRONLY, 0o644)
