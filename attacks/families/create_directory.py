"""Create a directory."""

from attacks.consts import AT_FDCWD, O_DIRECTORY, O_PATH
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Technique
from attacks.kernel import Kernel

FAMILY = Family(
    "create-directory",
    title="Create a directory",
    effect=lambda _: Effect(EffectKind.DIRECTORY),
)


@FAMILY.variant(Technique.BASELINE)
def mkdir(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.mkdir(k.path(), 0o755).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def mkdirat_dirfd(k: Kernel) -> None:
    """A real dirfd defeats rules that only match AT_FDCWD."""
    here = k.openat(AT_FDCWD, k.parent(), O_PATH | O_DIRECTORY)
    k.mkdirat(here, k.name(), 0o755).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_mkdirat(k: Kernel) -> None:
    """The kernel makes the directory on behalf of a ring: no mkdir call is ever made."""
    ring = k.ring()
    ring.mkdirat(AT_FDCWD, k.path(), 0o755).decisive()
