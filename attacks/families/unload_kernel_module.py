"""Unload a kernel module.  The call never runs: a sentinel stops what the candidate allows."""

from attacks.consts import O_NONBLOCK, O_TRUNC
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Family, Technique
from attacks.kernel import Kernel

FAMILY = Family(
    "unload-kernel-module",
    title="Unload a kernel module",
    effect=lambda _: Effect(EffectKind.REACHED),
    objects=(Object(ObjectKind.FILE, "module.ko", 0o644, b"\x7fELF"),),
    has_target=False,
    reachability=True,
    group="kernel surface",
)


@FAMILY.variant(Technique.BASELINE, references=("man 2 delete_module",))
def delete_module(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.delete_module(k.text("dummy"), O_NONBLOCK).decisive().may_fail()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def delete_module_force(k: Kernel) -> None:
    """With O_TRUNC a module goes though it is in use; rules on the usual flags do not match."""
    k.delete_module(k.text("dummy"), O_NONBLOCK | O_TRUNC).decisive().may_fail()


@FAMILY.variant(Technique.COMPAT_ABI)
def delete_module_i386(k: Kernel) -> None:
    """The 32-bit table has other numbers; a filter without that architecture may let it pass."""
    k.i386.delete_module(k.text("dummy"), O_NONBLOCK).decisive().may_fail()


@FAMILY.variant(Technique.INDIRECT_OBJECT, negative=True)
def unlink_module_file(k: Kernel) -> None:
    """Deleting the file that a module came from leaves the module where it is."""
    k.unlink(k.relative("module.ko")).decisive()
