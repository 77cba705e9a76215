"""Load a kernel module.  The call never runs: a sentinel stops what the candidate allows."""

from attacks.consts import MFD_CLOEXEC, O_RDONLY, Named
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.recorder import Result

MODULE_INIT_IGNORE_VERMAGIC = Named(2, "MODULE_INIT_IGNORE_VERMAGIC")
MODULE_INIT_COMPRESSED_FILE = Named(4, "MODULE_INIT_COMPRESSED_FILE")
IMAGE = b"\x7fELF\x02\x01\x01" + bytes(57)
"""Looks like the beginning of a module; nobody reads it."""

FAMILY = Family(
    "load-kernel-module",
    title="Load a kernel module",
    effect=lambda _: Effect(EffectKind.REACHED),
    objects=(Object(ObjectKind.FILE, "module.ko", 0o644, IMAGE),),
    has_target=False,
    reachability=True,
    attack_technique="T1547.006",
    group="kernel surface",
    unrecorded={
        "create_module, then init_module with three arguments": "removed in Linux 2.6",
        "socket of a family that is not loaded": "the kernel starts modprobe on the host",
        "mount of a file system that is not loaded": "the kernel starts modprobe on the host",
    },
)


@FAMILY.variant(Technique.BASELINE, references=("man 2 init_module",))
def init_module(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.init_module(k.data(IMAGE, name="image"), len(IMAGE), k.text("")).decisive().may_fail()


@FAMILY.variant(Technique.NEWER_SYSCALL, references=("man 2 finit_module",))
def finit_module(k: Kernel) -> None:
    """The image comes from a descriptor: another call, which is what today's tools use."""
    k.finit_module(_file(k), k.text(""), 0).decisive().may_fail()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def finit_module_flags(k: Kernel) -> None:
    """Flags that switch checks off also defeat a rule that expects the last argument to be 0."""
    flags = MODULE_INIT_IGNORE_VERMAGIC | MODULE_INIT_COMPRESSED_FILE
    k.finit_module(_file(k), k.text(""), flags).decisive().may_fail()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def finit_module_memfd(k: Kernel) -> None:
    """The image never was in a file with a name that a rule on paths could look at."""
    k.finit_module(_memory_file(k), k.text(""), 0).decisive().may_fail()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def finit_module_inherited(k: Kernel) -> None:
    """The image was opened before the filter, so no open needs to be allowed."""
    k.finit_module(_file(k.setup), k.text(""), 0).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def init_module_i386(k: Kernel) -> None:
    """The 32-bit table has other numbers; a filter without that architecture may let it pass."""
    image = k.data(IMAGE, name="image")
    k.i386.init_module(image, len(IMAGE), k.text("")).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def finit_module_i386(k: Kernel) -> None:
    """The newer call in the 32-bit table: both its name and its architecture may be forgotten."""
    k.i386.finit_module(_file(k), k.text(""), 0).decisive().may_fail()


@FAMILY.variant(Technique.INDIRECT_OBJECT, negative=True)
def image_in_memory(k: Kernel) -> None:
    """The image is written to a file in memory, and the kernel is not asked to load it."""
    file = k.memfd_create(k.text("module"), MFD_CLOEXEC)
    k.write(file, k.data(IMAGE, name="image"), len(IMAGE)).decisive()


def _file(k: Kernel) -> Result:
    return k.open(k.relative("module.ko"), O_RDONLY)


def _memory_file(k: Kernel) -> Result:
    file = k.memfd_create(k.text("module"), MFD_CLOEXEC)
    k.write(file, k.data(IMAGE, name="image"), len(IMAGE))
    return file
