"""Restart, halt or suspend the machine.

The call never runs: a sentinel stops what the candidate allows.
"""

from attacks.consts import NULL, O_RDONLY, Named
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Technique
from attacks.kernel import Kernel

REBOOT_MAGIC1 = Named(0xFEE1DEAD, "LINUX_REBOOT_MAGIC1")
REBOOT_MAGIC2 = Named(672274793, "LINUX_REBOOT_MAGIC2")
REBOOT_MAGIC2C = Named(537993216, "LINUX_REBOOT_MAGIC2C")
REBOOT_RESTART = Named(0x01234567, "LINUX_REBOOT_CMD_RESTART")
REBOOT_RESTART2 = Named(0xA1B2C3D4, "LINUX_REBOOT_CMD_RESTART2")
REBOOT_POWER_OFF = Named(0x4321FEDC, "LINUX_REBOOT_CMD_POWER_OFF")
REBOOT_CAD_ON = Named(0x89ABCDEF, "LINUX_REBOOT_CMD_CAD_ON")
REBOOT_SW_SUSPEND = Named(0xD000FCE2, "LINUX_REBOOT_CMD_SW_SUSPEND")
REBOOT_KEXEC = Named(0x45584543, "LINUX_REBOOT_CMD_KEXEC")

FAMILY = Family(
    "restart-machine",
    title="Restart the machine",
    effect=lambda _: Effect(EffectKind.REACHED),
    has_target=False,
    reachability=True,
    attack_technique="T1529",
    group="kernel surface",
    unrecorded={
        "write to /proc/sysrq-trigger": "no sandbox has the machine's own root, whose file it is",
        "write to /sys/power/state": "no sandbox has the machine's own root, whose file it is",
        "reboot in a nested pid namespace": "it ends only that namespace's init",
    },
)


@FAMILY.variant(Technique.BASELINE, references=("man 2 reboot",))
def reboot(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    _reboot(k, REBOOT_RESTART)


@FAMILY.variant(Technique.MULTIPLEXER)
def reboot_power_off(k: Kernel) -> None:
    """Another command of the same call: a rule on the command alone may know only the restart."""
    _reboot(k, REBOOT_POWER_OFF)


@FAMILY.variant(Technique.MULTIPLEXER)
def reboot_suspend(k: Kernel) -> None:
    """The command that puts the machine to sleep is rarely on a list of commands."""
    _reboot(k, REBOOT_SW_SUSPEND)


@FAMILY.variant(Technique.MULTIPLEXER)
def reboot_kexec(k: Kernel) -> None:
    """The command that jumps into a kernel loaded before, instead of going through firmware."""
    _reboot(k, REBOOT_KEXEC)


@FAMILY.variant(Technique.MULTIPLEXER)
def reboot_restart2(k: Kernel) -> None:
    """Restarts with a string for the firmware, under a command of its own."""
    k.reboot(REBOOT_MAGIC1, REBOOT_MAGIC2, REBOOT_RESTART2, k.text("x")).decisive().may_fail()


@FAMILY.variant(Technique.MULTIPLEXER)
def reboot_cad_on(k: Kernel) -> None:
    """Restarts nothing yet: from then on three keys on the console do, without asking init."""
    _reboot(k, REBOOT_CAD_ON)


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def reboot_other_magic(k: Kernel) -> None:
    """The kernel takes four second magic numbers; a rule that compares with one misses three."""
    k.reboot(REBOOT_MAGIC1, REBOOT_MAGIC2C, REBOOT_RESTART, NULL).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def reboot_i386(k: Kernel) -> None:
    """The 32-bit table has other numbers; a filter without that architecture may let it pass."""
    _reboot(k.i386, REBOOT_RESTART)


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def syncfs_only(k: Kernel) -> None:
    """What usually comes before a restart, and is not one."""
    k.raw("syncfs", k.open(k.text("."), O_RDONLY)).decisive()


def _reboot(k: Kernel, op: int) -> None:
    k.reboot(REBOOT_MAGIC1, REBOOT_MAGIC2, op, NULL).decisive().may_fail()
