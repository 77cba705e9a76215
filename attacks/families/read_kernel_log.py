"""Read the kernel's log.  The call never runs: a sentinel stops what the candidate allows."""

from attacks.consts import NULL, O_NONBLOCK, O_RDONLY, Named
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Technique
from attacks.kernel import Kernel

FAMILY = Family(
    "read-kernel-log",
    title="Read the kernel's log",
    effect=lambda _: Effect(EffectKind.REACHED),
    has_target=False,
    reachability=True,
    attack_technique="T1082",
    group="kernel surface",
    unrecorded={
        "read of /dev/kmsg": "the sandbox has no such device, and it needs CAP_SYSLOG",
        "open of /proc/kmsg": "needs CAP_SYSLOG in the initial user namespace",
        "read of /proc/kallsyms": "shows zeros without CAP_SYSLOG in the initial user namespace",
        "open of /proc/modules": "not in every kernel, and shows zeros like /proc/kallsyms",
        "read of /sys/kernel/notes": "the sandbox has no sysfs",
        "open of /sys/kernel/vmcoreinfo": "the sandbox has no sysfs",
        "read of /proc/self/stack": "needs CAP_SYS_ADMIN in the initial user namespace",
        "read of /proc/self/wchan": "is a zero, for a process that runs",
        "read of /proc/iomem": "shows zeros without CAP_SYS_ADMIN in the initial user namespace",
        "open of /proc/vmallocinfo": "belongs to root of the initial user namespace",
        "open of /proc/timer_list": "belongs to root of the initial user namespace",
        "open of /proc/kpageflags": "belongs to root of the initial user namespace",
        "read of /proc/net/unix": "its pointers are hashed",
        "pread of /proc/self/pagemap": "frame numbers are zeros without CAP_SYS_ADMIN",
        "open of /proc/kcore": "not in every kernel, and needs CAP_SYS_RAWIO",
        "sgdt": "the processor gives a dummy value (UMIP), and no call is made",
    },
)
SYSLOG_ACTION_READ = Named(2, "SYSLOG_ACTION_READ")
SYSLOG_ACTION_READ_ALL = Named(3, "SYSLOG_ACTION_READ_ALL")
SYSLOG_ACTION_READ_CLEAR = Named(4, "SYSLOG_ACTION_READ_CLEAR")
SYSLOG_ACTION_SIZE_UNREAD = Named(9, "SYSLOG_ACTION_SIZE_UNREAD")
SYSLOG_ACTION_SIZE_BUFFER = Named(10, "SYSLOG_ACTION_SIZE_BUFFER")
SIZE = 4000


@FAMILY.variant(Technique.BASELINE)
def syslog_read_all(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.syslog(SYSLOG_ACTION_READ_ALL, k.buffer(SIZE, name="log"), SIZE).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def syslog_read(k: Kernel) -> None:
    """Another action reads too, and takes away what it read: rules on one action miss it."""
    k.syslog(SYSLOG_ACTION_READ, k.buffer(SIZE, name="log"), SIZE).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def syslog_read_clear(k: Kernel) -> None:
    """Reading and clearing is one action, with a number of its own."""
    k.syslog(SYSLOG_ACTION_READ_CLEAR, k.buffer(SIZE, name="log"), SIZE).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def syslog_size_buffer(k: Kernel) -> None:
    """Asking for a size is allowed by rules that are about reading, and tells of the log."""
    k.syslog(SYSLOG_ACTION_SIZE_BUFFER, NULL, 0).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def syslog_size_unread(k: Kernel) -> None:
    """How much there is to read changes with every message, which is news in itself."""
    k.syslog(SYSLOG_ACTION_SIZE_UNREAD, NULL, 0).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def open_kmsg(k: Kernel) -> None:
    """The log is a device too, but opening a file is not kept away from the kernel here."""
    k.open(k.text("/dev/kmsg"), O_RDONLY | O_NONBLOCK).decisive().may_fail()
