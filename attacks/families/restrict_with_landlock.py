"""Get into a Landlock domain of one's own.

No file of procfs tells of a domain.  What shows is what it does: the subject empties one file by
opening it, comes under the restriction, which handles opening for writing and nothing else, tries
to empty another one by the same call, and writes to the first.  An onlooker who sees the letter in
the first and the second as it was sees the domain at work: no filter on calls does that.
"""

from attacks import witness
from attacks.consts import AT_FDCWD, O_TRUNC, O_WRONLY, PR_SET_NO_NEW_PRIVS, Named
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.recorder import Result

FIRST, SECOND, KEPT = "d/a", "d/b", b"kept\n"
FAMILY = Family(
    "restrict-with-landlock",
    title="Get into a Landlock domain",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(
        Object(ObjectKind.FILE, FIRST, 0o666, b"old\n"),
        Object(ObjectKind.FILE, SECOND, 0o666, KEPT),
    ),
    has_target=False,
    attack_technique="T1562",
    group="kernel surface",
)
LANDLOCK_ACCESS_FS_WRITE_FILE = Named(1 << 1, "LANDLOCK_ACCESS_FS_WRITE_FILE")
LANDLOCK_ACCESS_NET_BIND_TCP = Named(1, "LANDLOCK_ACCESS_NET_BIND_TCP")
LANDLOCK_SCOPE_SIGNAL = Named(2, "LANDLOCK_SCOPE_SIGNAL")
LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF = Named(1, "LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF")
FIRST_SIZE = 8


@FAMILY.witness
def one_is_written_and_the_other_kept(w: Kernel) -> None:
    witness.has(w, witness.content(w, w.relative(FIRST)), b"x")
    witness.has(w, witness.content(w, w.relative(SECOND)), KEPT)


@FAMILY.variant(Technique.BASELINE)
def landlock_restrict_self(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    first = _allow(k)
    k.landlock_restrict_self(_ruleset(k), 0).decisive()
    _show(k, first)


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def landlock_restrict_self_flags(k: Kernel) -> None:
    """A flag about the log, new in 6.15: the arguments are others and the domain is the same."""
    first = _allow(k)
    k.landlock_restrict_self(_ruleset(k), LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF).decisive()
    _show(k, first)


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def landlock_restrict_self_scoped(k: Kernel) -> None:
    """The ruleset of today's size also keeps signals in: all that is behind a pointer."""
    first = _allow(k)
    fields = (LANDLOCK_ACCESS_FS_WRITE_FILE, LANDLOCK_ACCESS_NET_BIND_TCP, LANDLOCK_SCOPE_SIGNAL)
    attr = k.struct("QQQ", *fields, name="attr")
    k.landlock_restrict_self(k.landlock_create_ruleset(attr, attr.size, 0), 0).decisive()
    _show(k, first)


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def landlock_inherited_ruleset(k: Kernel) -> None:
    """The ruleset is older than the filter: rules on landlock_create_ruleset never see it."""
    ruleset = _ruleset(k.setup)
    first = _allow(k)
    k.landlock_restrict_self(ruleset, 0).decisive()
    _show(k, first)


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def landlock_create_ruleset(k: Kernel) -> None:
    """A ruleset that nobody is put under restricts nothing: the other file is emptied too."""
    first = _allow(k)
    _ruleset(k).decisive()
    _show(k, first)


def _allow(k: Kernel) -> Result:
    """Without no_new_privs a domain takes CAP_SYS_ADMIN; and the file that may be emptied."""
    first = _emptied(k, FIRST)
    k.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return first


def _emptied(k: Kernel, path: str) -> Result:
    return k.openat(AT_FDCWD, k.relative(path), O_WRONLY | O_TRUNC)


def _ruleset(k: Kernel) -> Result:
    attr = k.struct("Q", LANDLOCK_ACCESS_FS_WRITE_FILE, name="attr")
    return k.landlock_create_ruleset(attr, FIRST_SIZE, 0)


def _show(k: Kernel, first: Result) -> None:
    """The letter last, so that nobody sees it and a file that is still to be emptied."""
    _emptied(k, SECOND).may_fail()
    k.write(first, k.text("x"), 1)
