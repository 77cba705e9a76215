"""Turn swapping on or off.  The call never runs: a sentinel stops what the candidate allows."""

from attacks.consts import O_RDWR, Named
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Family, Technique
from attacks.kernel import Kernel

SWAP_FLAG_PREFER = Named(0x8000, "SWAP_FLAG_PREFER")
SWAP_FLAG_DISCARD = Named(0x10000, "SWAP_FLAG_DISCARD")
SWAP_PRIORITY = 5
MAGIC = b"SWAPSPACE2"
MAGIC_AT = 4096 - len(MAGIC)

FAMILY = Family(
    "enable-swap",
    title="Turn swapping on or off",
    effect=lambda _: Effect(EffectKind.REACHED),
    objects=(Object(ObjectKind.FILE, "swap", 0o600, bytes(MAGIC_AT) + MAGIC),),
    has_target=False,
    reachability=True,
    group="kernel surface",
    unrecorded={
        "write to /sys/block/zram0/disksize": "the file belongs to the machine's root",
    },
)


@FAMILY.variant(Technique.BASELINE, references=("man 2 swapon",))
def swapon(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.swapon(k.relative("swap"), 0).decisive().may_fail()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def swapon_flags(k: Kernel) -> None:
    """Priority and discarding are bits of the flags: rules that expect 0 there do not match."""
    flags = SWAP_FLAG_PREFER | SWAP_FLAG_DISCARD | Named(SWAP_PRIORITY, f"{SWAP_PRIORITY}")
    k.swapon(k.relative("swap"), flags).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def swapoff(k: Kernel) -> None:
    """The counterpart has a number of its own, and pulls what was swapped out back into memory."""
    k.swapoff(k.relative("swap")).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def swapon_i386(k: Kernel) -> None:
    """The 32-bit table has other numbers; a filter without that architecture may let it pass."""
    k.i386.swapon(k.relative("swap"), 0).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def swapoff_i386(k: Kernel) -> None:
    """The counterpart in the 32-bit table."""
    k.i386.swapoff(k.relative("swap")).decisive().may_fail()


@FAMILY.variant(Technique.INDIRECT_OBJECT, negative=True)
def swap_signature(k: Kernel) -> None:
    """A file is marked as swap space, as mkswap does; the kernel does not use it yet."""
    file = k.open(k.relative("swap"), O_RDWR)
    k.pwrite64(file, k.data(MAGIC, name="magic"), len(MAGIC), MAGIC_AT).decisive()
