"""Write a kernel parameter of a namespace.

Mostly that is how far packets of a network namespace go, which is the same in every new one
(whether it passes packets on is not: that is inherited).  What the IPC namespace allows is written
without any capability, by user 0 of the namespace.
"""

from attacks import ipc_objects, namespaces, witness
from attacks.consts import AT_FDCWD, NULL, O_DIRECTORY, O_PATH, O_RDONLY, O_WRONLY
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Result

VALUE = b"77"
LARGEST = b"8191"
NEW = (Fresh.NET,)
ADMIN = (Need.CAP_NET_ADMIN,)
MOUNTER = (Need.CAP_NET_ADMIN, Need.CAP_SYS_ADMIN)
_SIZE = 16

FAMILY = Family(
    "write-sysctl",
    title="Write a kernel parameter",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    group="kernel surface",
    unrecorded={
        "write to /proc/sys/kernel/core_pattern, vm/overcommit_memory, vm/drop_caches": "the files "
        "belong to the machine's root, whom no sandbox has",
        "write to /proc/sys/fs/mqueue/msg_max": "the same as to that of the other queues, msgmax",
        "write to /proc/sys/user/max_mnt_namespaces": "is of the user namespace, which all trials "
        "share",
        "write to /proc/sys/kernel/ns_last_pid": "is of the pid namespace, which all trials share",
        "_sysctl": "removed in Linux 5.5",
    },
)


@FAMILY.witness
def the_parameter_is_new(w: Kernel) -> None:
    hops = witness.content(w, w.proc("sys/net/ipv4/ip_default_ttl"), _SIZE)
    largest = witness.content(w, w.proc("sys/kernel/msgmax"), _SIZE)
    signs = (_unlike(w, hops, VALUE), _unlike(w, largest, LARGEST))
    namespaces.one_is_zero(w, *signs)


@FAMILY.variant(Technique.BASELINE, needs=ADMIN, fresh=NEW, references=("man 5 proc",))
def write(k: Kernel) -> None:
    """The calls that the author of the policy has in mind."""
    file = k.open(k.proc("sys/net/ipv4/ip_default_ttl"), O_WRONLY)
    k.write(file, k.data(VALUE), len(VALUE)).decisive()


@FAMILY.variant(Technique.FD_RELATIVE, needs=ADMIN, fresh=NEW)
def openat_dirfd(k: Kernel) -> None:
    """The directory is opened first: no path that is opened for writing begins with /proc/sys."""
    here = k.open(k.proc("sys"), O_PATH | O_DIRECTORY)
    file = k.openat(here, k.text("net/ipv4/ip_default_ttl"), O_WRONLY)
    k.write(file, k.data(VALUE), len(VALUE)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=ADMIN, fresh=NEW)
def pwrite64(k: Kernel) -> None:
    """A write with a position, under a number of its own."""
    file = k.open(k.proc("sys/net/ipv4/ip_default_ttl"), O_WRONLY)
    k.pwrite64(file, k.data(VALUE), len(VALUE), 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=ADMIN, fresh=NEW)
def io_uring_write(k: Kernel) -> None:
    """A ring opens and writes: neither call is made."""
    ring = k.ring()
    file = ring.openat(AT_FDCWD, k.proc("sys/net/ipv4/ip_default_ttl"), O_WRONLY, 0)
    ring.submit("WRITE", fd=file, addr=k.data(VALUE), length=len(VALUE)).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR, needs=ADMIN, fresh=NEW
)
def write_inherited(k: Kernel) -> None:
    """The file was opened before the filter, so that only write is left to look at."""
    file = k.setup.open(k.proc("sys/net/ipv4/ip_default_ttl"), O_WRONLY)
    k.write(file, k.data(VALUE), len(VALUE)).decisive()


@FAMILY.variant(
    Technique.NAMESPACE,
    needs=MOUNTER,
    fresh=(Fresh.NET, Fresh.MOUNT),
    objects=(Object(ObjectKind.DIRECTORY, "p", 0o755),),
)
def new_procfs(k: Kernel) -> None:
    """A second procfs has the parameters under another path, whatever is hidden in the first."""
    kind = k.text("proc")
    k.mount(kind, k.text("p"), kind, 0, NULL)
    file = k.open(k.text("p/sys/net/ipv4/ip_default_ttl"), O_WRONLY)
    k.write(file, k.data(VALUE), len(VALUE)).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, needs=MOUNTER, fresh=(Fresh.NET, Fresh.MOUNT))
def detached_procfs(k: Kernel) -> None:
    """A procfs that is in no directory is made by the new mount calls: there is no path to it."""
    procfs = ipc_objects.detached(k, "proc")
    file = k.openat(procfs, k.text("sys/net/ipv4/ip_default_ttl"), O_WRONLY)
    k.write(file, k.data(VALUE), len(VALUE)).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=(Need.USER_0,), fresh=(Fresh.IPC,))
def write_ipc_parameter(k: Kernel) -> None:
    """What user 0 of a namespace may write without a capability: dropping them does not help."""
    file = k.open(k.proc("sys/kernel/msgmax"), O_WRONLY)
    k.write(file, k.data(LARGEST), len(LARGEST)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=ADMIN, fresh=NEW, negative=True)
def write_read_only(k: Kernel) -> None:
    """What was opened for reading cannot be written to."""
    file = k.open(k.proc("sys/net/ipv4/ip_default_ttl"), O_RDONLY)
    k.write(file, k.data(VALUE), len(VALUE)).decisive().may_fail()


def _unlike(w: Kernel, text: witness.Text, wanted: bytes) -> Result:
    """Zero if the text begins so."""
    return w.add(w.compare(text.buffer, w.data(wanted, name="wanted"), len(wanted)), -1)
