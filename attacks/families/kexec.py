"""Load another kernel to be started later.  The call never runs: a sentinel stops it."""

from attacks.consts import MFD_CLOEXEC, NULL, O_RDONLY, Named
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Family, Technique
from attacks.kernel import Kernel
from attacks.recorder import Result

KEXEC_ON_CRASH = Named(1, "KEXEC_ON_CRASH")
KEXEC_FILE_UNLOAD = Named(1, "KEXEC_FILE_UNLOAD")
KEXEC_FILE_ON_CRASH = Named(2, "KEXEC_FILE_ON_CRASH")
KEXEC_FILE_NO_INITRAMFS = Named(4, "KEXEC_FILE_NO_INITRAMFS")
LOAD_AT = Named(0x1000000, "0x1000000")
PAGE = 4096

FAMILY = Family(
    "kexec",
    title="Load another kernel",
    effect=lambda _: Effect(EffectKind.REACHED),
    objects=(Object(ObjectKind.FILE, "bzImage", 0o644, bytes(64)),),
    has_target=False,
    reachability=True,
    group="kernel surface",
)


@FAMILY.variant(Technique.BASELINE, references=("man 2 kexec_load",))
def kexec_load(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    segment = k.struct("QQQQ", k.buffer(PAGE), PAGE, LOAD_AT, PAGE, name="segment")
    k.kexec_load(LOAD_AT, 1, segment, 0).decisive().may_fail()


@FAMILY.variant(Technique.MULTIPLEXER)
def kexec_load_on_crash(k: Kernel) -> None:
    """A flag makes it the kernel for after a crash: rules on flags 0 do not match."""
    segment = k.struct("QQQQ", k.buffer(PAGE), PAGE, LOAD_AT, PAGE, name="segment")
    k.kexec_load(LOAD_AT, 1, segment, KEXEC_ON_CRASH).decisive().may_fail()


@FAMILY.variant(Technique.NEWER_SYSCALL, references=("man 2 kexec_file_load",))
def kexec_file_load(k: Kernel) -> None:
    """The kernel reads the image from a descriptor: a newer call, with a number of its own."""
    kernel = _image(k)
    k.kexec_file_load(kernel, -1, 1, k.text(""), KEXEC_FILE_NO_INITRAMFS).decisive().may_fail()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def kexec_file_load_on_crash(k: Kernel) -> None:
    """The newer call for the kernel that runs after a crash, where no restart is needed."""
    flags = KEXEC_FILE_ON_CRASH | KEXEC_FILE_NO_INITRAMFS
    k.kexec_file_load(_image(k), -1, 1, k.text(""), flags).decisive().may_fail()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def kexec_file_load_unload(k: Kernel) -> None:
    """Takes away the kernel that was kept for a crash; there is no file to look at."""
    k.kexec_file_load(-1, -1, 0, NULL, KEXEC_FILE_UNLOAD).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def kexec_load_i386(k: Kernel) -> None:
    """In the 32-bit table the call has another number, and segments of half the size."""
    segment = k.struct("IIII", k.buffer(PAGE), PAGE, LOAD_AT, PAGE, name="segment")
    k.i386.kexec_load(LOAD_AT, 1, segment, 0).decisive().may_fail()


@FAMILY.variant(Technique.INDIRECT_OBJECT, negative=True)
def kernel_in_memory(k: Kernel) -> None:
    """An image in a file in memory is data, until somebody asks for it to be loaded."""
    file = k.memfd_create(k.text("bzImage"), MFD_CLOEXEC)
    k.write(file, k.buffer(PAGE), PAGE).decisive()


def _image(k: Kernel) -> Result:
    return k.open(k.relative("bzImage"), O_RDONLY)
