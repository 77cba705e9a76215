"""Rules that change bits of arguments which the kernel does not heed."""

from __future__ import annotations

from attacks.arguments import KINDS, NARROW
from attacks.consts import O_CLOEXEC, O_NOCTTY, O_PATH, Named
from attacks.family import Technique
from attacks.kernel import Kernel
from attacks.program import Const
from attacks.recorder import Arg, Result
from attacks.replay import Made
from attacks.rewrites.rule import call_by_call

SOCK_CLOEXEC = Named(0o2000000, "SOCK_CLOEXEC")
PROT_SEM = Named(0x8, "PROT_SEM")
O_LARGEFILE = Named(0o100000, "O_LARGEFILE")
MS_MGC_VAL = Named(0xC0ED0000, "MS_MGC_VAL")
_GARBAGE = 0xDEADBEEF << 32
_HIGH_MODE = 0xFFFF0000
_LOW = (1 << 32) - 1


@call_by_call("wide", Technique.WIDE_ARGUMENT)
def wide(k: Kernel, call: Made) -> Result | None:
    """The kernel reads 32 bits of these arguments, 16 of a mode; a filter compares 64."""
    kinds = KINDS.get(call.name, ())
    if not NARROW.intersection(kinds[: len(call.args)]):
        return None
    args = [_widened(k, kind, arg) for kind, arg in zip(kinds, call.args, strict=False)]
    return k.raw(call.name, *args, *call.args[len(args) :])


def _widened(k: Kernel, kind: str, arg: Arg) -> Arg:
    if kind not in NARROW:
        return arg
    if isinstance(arg, Const):
        low = arg.value & _LOW
        high = _GARBAGE | (_HIGH_MODE if kind == "mode" else 0)
        return Const(high | low, f"{high:#x}|{arg.text or hex(low)}")
    return k.wide(arg) if isinstance(arg, Result) else arg


@call_by_call("noise", Technique.WIDE_ARGUMENT)
def noise(k: Kernel, call: Made) -> Result | None:
    """Flag bits that change nothing: rules that compare for equality miss."""
    bits: dict[str, tuple[int, int]] = {
        "open": (1, O_NOCTTY | O_LARGEFILE | O_CLOEXEC),
        "openat": (2, O_NOCTTY | O_LARGEFILE | O_CLOEXEC),
        "socket": (1, SOCK_CLOEXEC),
        "mmap": (2, PROT_SEM),
        "mprotect": (2, PROT_SEM),
        "mount": (3, MS_MGC_VAL),
    }
    if call.name not in bits:
        return None
    index, more = bits[call.name]
    number = call.constant(index)
    path_only = call.name.startswith("open") and number is not None and number & int(O_PATH)
    if number is None or path_only:
        return None
    old = call.args[index]
    text = old.text if isinstance(old, Const) and old.text else hex(number)
    args = list(call.args)
    args[index] = Const(number | more, f"{text}|{getattr(more, 'text', hex(more))}")
    return k.raw(call.name, *args)
