"""Rules that reach the same object by another descriptor or another path."""

from __future__ import annotations

from collections.abc import Callable

from attacks.arguments import KINDS
from attacks.consts import AT_FDCWD, O_DIRECTORY, O_PATH
from attacks.family import Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result
from attacks.replay import Made
from attacks.rewrites.rule import call_by_call

_HERE = int(AT_FDCWD) & (1 << 64) - 1


@call_by_call("dup", Technique.DESCRIPTOR_REUSE)
def dup(k: Kernel, call: Made) -> Result | None:
    """What was opened is used through a copy, which has another number."""
    if call.name not in ("open", "openat", "openat2", "socket", "memfd_create", "creat"):
        return None
    if call.decisive:
        return None
    return k.dup(k.raw(call.name, *call.args))


@call_by_call("proc-cwd", Technique.PROC_INTERFACE)
def proc_cwd(k: Kernel, call: Made) -> Result | None:
    """Each relative path goes through a magic link of procfs, for whoever judges paths."""
    return _with_paths(k, call, lambda text: k.text(f"/proc/self/cwd/{text}"))


@call_by_call("roundabout", Technique.SIBLING_SYSCALL)
def roundabout(k: Kernel, call: Made) -> Result | None:
    """Each path is spelled in a roundabout way, for whoever compares the text of paths."""
    return _with_paths(k, call, lambda text: k.text(f"./{text.replace('/', '//./')}"))


def _with_paths(k: Kernel, call: Made, spelled: Callable[[str], Buffer]) -> Result | None:
    kinds = KINDS.get(call.name, ())
    args = list(call.args)
    for index, kind in enumerate(kinds[: len(args)]):
        text = call.text(index) if kind == "path" else None
        before = call.constant(index - 1) if index and kinds[index - 1] == "fd" else None
        here = before is None or before == _HERE
        if kinds[index - 1] == "fd" and before is None:
            continue
        if text and here and not text.startswith("/"):
            args[index] = spelled(text)
    return k.raw(call.name, *args) if tuple(args) != call.args else None


@call_by_call("dirfd", Technique.FD_RELATIVE)
def dirfd(k: Kernel, call: Made) -> Result | None:
    """The directory is opened first, and the path is only the last part."""
    kinds = KINDS.get(call.name, ())
    if kinds[:2] != ("fd", "path") or call.constant(0) != _HERE:
        return None
    parent, slash, name = (call.text(1) or "").rpartition("/")
    if not slash or not parent or not name:
        return None
    here = k.openat(AT_FDCWD, k.text(parent), O_PATH | O_DIRECTORY)
    return k.raw(call.name, here, k.text(name), *call.args[2:])
