"""Set disk quotas.  The call never runs: a sentinel stops what the candidate allows."""

from attacks.consts import O_RDONLY, Named
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer

# QCMD(command, USRQUOTA): the command above eight bits for whose quota it is.
Q_QUOTAOFF = Named(0x800003 << 8 & 0xFFFFFFFF, "QCMD(Q_QUOTAOFF, USRQUOTA)")
Q_SETQUOTA = Named(0x800008 << 8 & 0xFFFFFFFF, "QCMD(Q_SETQUOTA, USRQUOTA)")
Q_SETQUOTA_PROJECT = Named(int(Q_SETQUOTA) | 2, "QCMD(Q_SETQUOTA, PRJQUOTA)")
Q_XSETQLIM = Named(0x5804 << 8, "QCMD(Q_XSETQLIM, USRQUOTA)")
QIF_BLIMITS = Named(1, "QIF_BLIMITS")
USER = 1000

FAMILY = Family(
    "set-quota",
    title="Set disk quotas",
    effect=lambda _: Effect(EffectKind.REACHED),
    has_target=False,
    reachability=True,
    group="kernel surface",
)


@FAMILY.variant(Technique.BASELINE, references=("man 2 quotactl",))
def quotactl(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.quotactl(Q_SETQUOTA, k.text("disk"), USER, _limits(k)).decisive().may_fail()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def quotactl_fd(k: Kernel) -> None:
    """Since 5.14; the file system is named by a descriptor of any file on it, not by its device."""
    here = k.open(k.text("."), O_RDONLY)
    k.raw("quotactl_fd", here, Q_SETQUOTA, USER, _limits(k)).decisive().may_fail()


@FAMILY.variant(Technique.MULTIPLEXER)
def quotactl_off(k: Kernel) -> None:
    """Switches all limits off at once, with a command that sets none."""
    k.quotactl(Q_QUOTAOFF, k.text("disk"), 0, 0).decisive().may_fail()


@FAMILY.variant(Technique.MULTIPLEXER)
def quotactl_project(k: Kernel) -> None:
    """Whose quota it is stands in the lowest byte of the command: exact comparison misses it."""
    k.quotactl(Q_SETQUOTA_PROJECT, k.text("disk"), USER, _limits(k)).decisive().may_fail()


@FAMILY.variant(Technique.MULTIPLEXER)
def quotactl_xfs(k: Kernel) -> None:
    """XFS has a second set of commands for the same, which other file systems answer too."""
    limits = k.buffer(112, name="fs_disk_quota")
    k.quotactl(Q_XSETQLIM, k.text("disk"), USER, limits).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def quotactl_i386(k: Kernel) -> None:
    """In the 32-bit table the call has another number, and limits without the padding."""
    limits = k.struct("QQQQQQQQI", 0, *[0] * 7, QIF_BLIMITS, name="if_dqblk")
    k.i386.quotactl(Q_SETQUOTA, k.text("disk"), USER, limits).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def quotactl_fd_i386(k: Kernel) -> None:
    """The newer call has one number in both tables, and the architecture still differs."""
    here = k.open(k.text("."), O_RDONLY)
    k.i386.raw("quotactl_fd", here, Q_SETQUOTA, USER, _limits(k)).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def statfs(k: Kernel) -> None:
    """Shows how much room a file system has, and limits nobody."""
    k.statfs(k.text("."), k.buffer(120, name="statfs")).decisive()


def _limits(k: Kernel) -> Buffer:
    return k.struct("QQQQQQQQII", *[0] * 8, QIF_BLIMITS, 0, name="if_dqblk")
