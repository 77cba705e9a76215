"""Install another seccomp filter: the subject has one more than before.

A filter of one's own can make calls of a program that is run later fail in ways that nobody
expects, and its listener answers in the place of the kernel.
"""

from attacks import kernel_state
from attacks.consts import PR_SET_NO_NEW_PRIVS, Named
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer

FAMILY = Family(
    "install-filter",
    title="Install another seccomp filter",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    attack_technique="T1562",
    group="kernel surface",
    unrecorded={
        "seccomp(SECCOMP_SET_MODE_STRICT), prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)": (
            "the kernel refuses strict mode where there is a filter: every filter stops it"
        ),
        "ioctl(SECCOMP_IOCTL_NOTIF_ADDFD)": (
            "gives a descriptor to a child that has listener and filter: the same way in"
        ),
    },
)
SECCOMP_SET_MODE_FILTER = Named(1, "SECCOMP_SET_MODE_FILTER")
SECCOMP_FILTER_FLAG_TSYNC = Named(1, "SECCOMP_FILTER_FLAG_TSYNC")
SECCOMP_FILTER_FLAG_LOG = Named(2, "SECCOMP_FILTER_FLAG_LOG")
SECCOMP_FILTER_FLAG_SPEC_ALLOW = Named(4, "SECCOMP_FILTER_FLAG_SPEC_ALLOW")
SECCOMP_FILTER_FLAG_NEW_LISTENER = Named(8, "SECCOMP_FILTER_FLAG_NEW_LISTENER")
PR_SET_SECCOMP = Named(22, "PR_SET_SECCOMP")
SECCOMP_MODE_FILTER = Named(2, "SECCOMP_MODE_FILTER")
SECCOMP_GET_ACTION_AVAIL = Named(2, "SECCOMP_GET_ACTION_AVAIL")
ALLOW_ALL = b"\x06\0\0\0\0\0\xff\x7f"
"""One instruction: return SECCOMP_RET_ALLOW."""


@FAMILY.witness
def one_filter_more(w: Kernel) -> None:
    kernel_state.status_changes(w, "Seccomp_filters", 2)


@FAMILY.variant(Technique.BASELINE)
def seccomp(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    _allow_filters(k)
    k.seccomp(SECCOMP_SET_MODE_FILTER, 0, _program(k)).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def prctl(k: Kernel) -> None:
    """An operation of prctl installs filters, for programs older than the call of its own."""
    _allow_filters(k)
    k.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, _program(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def seccomp_flags(k: Kernel) -> None:
    """Harmless flags, which make the arguments others than a rule may compare with."""
    _allow_filters(k)
    flags = SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW
    k.seccomp(SECCOMP_SET_MODE_FILTER, flags, _program(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def seccomp_tsync(k: Kernel) -> None:
    """The filter is put on all threads at once."""
    _allow_filters(k)
    k.seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, _program(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def seccomp_listener(k: Kernel) -> None:
    """With a listener, a process of the attacker's answers calls that an older filter hands on."""
    _allow_filters(k)
    k.seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, _program(k)).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def seccomp_i386(k: Kernel) -> None:
    """The 32-bit call has another number and takes a filter of its own layout."""
    _allow_filters(k)
    k.i386.seccomp(SECCOMP_SET_MODE_FILTER, 0, _program32(k)).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def prctl_i386(k: Kernel) -> None:
    """The operation of the 32-bit prctl, with a filter of the 32-bit layout."""
    _allow_filters(k)
    k.i386.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, _program32(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def seccomp_action_available(k: Kernel) -> None:
    """The same call with an operation that only asks what the kernel knows."""
    action = k.struct("I", 0x7FFF0000, name="action")
    k.seccomp(SECCOMP_GET_ACTION_AVAIL, 0, action).decisive()


def _allow_filters(k: Kernel) -> None:
    """Without it, a filter takes CAP_SYS_ADMIN."""
    k.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _program(k: Kernel) -> Buffer:
    return k.struct("HHIQ", 1, 0, 0, k.data(ALLOW_ALL, name="filter"), name="fprog")


def _program32(k: Kernel) -> Buffer:
    return k.struct("HHI", 1, 0, k.data(ALLOW_ALL, name="filter"), name="fprog")
