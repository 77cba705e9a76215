"""Write a kernel parameter of the network namespace: whether packets are passed on."""

from attacks import witness
from attacks.consts import AT_FDCWD, O_DIRECTORY, O_PATH, O_RDONLY, O_WRONLY
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel

VALUE = b"1"
NEW = (Fresh.NET,)
ADMIN = (Need.CAP_NET_ADMIN,)

FAMILY = Family(
    "write-sysctl",
    title="Write a kernel parameter",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    group="kernel surface",
    unrecorded={
        "write to /proc/sys/kernel/core_pattern, vm/overcommit_memory, vm/drop_caches": "the files "
        "belong to the machine's root, whom no sandbox has",
        "_sysctl": "removed in Linux 5.5",
    },
)


@FAMILY.witness
def the_parameter_is_new(w: Kernel) -> None:
    witness.has(w, witness.content(w, w.proc("sys/net/ipv4/ip_forward")), VALUE)


@FAMILY.variant(Technique.BASELINE, needs=ADMIN, fresh=NEW, references=("man 5 proc",))
def write(k: Kernel) -> None:
    """The calls that the author of the policy has in mind."""
    file = k.open(k.proc("sys/net/ipv4/ip_forward"), O_WRONLY)
    k.write(file, k.data(VALUE), len(VALUE)).decisive()


@FAMILY.variant(Technique.FD_RELATIVE, needs=ADMIN, fresh=NEW)
def openat_dirfd(k: Kernel) -> None:
    """The directory is opened first: no path that is opened for writing begins with /proc/sys."""
    here = k.open(k.proc("sys"), O_PATH | O_DIRECTORY)
    file = k.openat(here, k.text("net/ipv4/ip_forward"), O_WRONLY)
    k.write(file, k.data(VALUE), len(VALUE)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=ADMIN, fresh=NEW)
def pwrite64(k: Kernel) -> None:
    """A write with a position, under a number of its own."""
    file = k.open(k.proc("sys/net/ipv4/ip_forward"), O_WRONLY)
    k.pwrite64(file, k.data(VALUE), len(VALUE), 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=ADMIN, fresh=NEW)
def io_uring_write(k: Kernel) -> None:
    """A ring opens and writes: neither call is made."""
    ring = k.ring()
    file = ring.openat(AT_FDCWD, k.proc("sys/net/ipv4/ip_forward"), O_WRONLY, 0)
    ring.submit("WRITE", fd=file, addr=k.data(VALUE), length=len(VALUE)).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR, needs=ADMIN, fresh=NEW
)
def write_inherited(k: Kernel) -> None:
    """The file was opened before the filter, so that only write is left to look at."""
    file = k.setup.open(k.proc("sys/net/ipv4/ip_forward"), O_WRONLY)
    k.write(file, k.data(VALUE), len(VALUE)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=ADMIN, fresh=NEW, negative=True)
def write_read_only(k: Kernel) -> None:
    """What was opened for reading cannot be written to."""
    file = k.open(k.proc("sys/net/ipv4/ip_forward"), O_RDONLY)
    k.write(file, k.data(VALUE), len(VALUE)).decisive().may_fail()
