"""The rule that submits to a ring what would have been a call."""

from __future__ import annotations

from collections.abc import Callable

from attacks.consts import AT_FDCWD, AT_REMOVEDIR, O_CREAT, O_TRUNC, O_WRONLY
from attacks.family import Technique
from attacks.kernel import Kernel
from attacks.recorder import Arg, Result
from attacks.replay import Made
from attacks.rewrites.rule import call_by_call
from attacks.rewrites.siblings import AT
from attacks.ring import Ring

RING = {
    "mkdirat": ("MKDIRAT", "fd addr length"),
    "openat": ("OPENAT", "fd addr op_flags length"),
    "openat2": ("OPENAT2", "fd addr off length"),
    "unlinkat": ("UNLINKAT", "fd addr op_flags"),
    "renameat": ("RENAMEAT", "fd addr length off"),
    "renameat2": ("RENAMEAT", "fd addr length off op_flags"),
    "linkat": ("LINKAT", "fd addr length off op_flags"),
    "symlinkat": ("SYMLINKAT", "addr fd off"),
    "close": ("CLOSE", "fd"),
    "read": ("READ", "fd addr length"),
    "pread64": ("READ", "fd addr length off"),
    "write": ("WRITE", "fd addr length"),
    "pwrite64": ("WRITE", "fd addr length off"),
    "readv": ("READV", "fd addr length"),
    "writev": ("WRITEV", "fd addr length"),
    "fallocate": ("FALLOCATE", "fd length off addr"),
    "ftruncate": ("FTRUNCATE", "fd off"),
    "madvise": ("MADVISE", "addr length op_flags"),
    "setxattr": ("SETXATTR", "addr3 addr off length op_flags"),
    "fsetxattr": ("FSETXATTR", "fd addr off length op_flags"),
    "getxattr": ("GETXATTR", "addr3 addr off length"),
    "statx": ("STATX", "fd addr op_flags length off"),
    "socket": ("SOCKET", "fd off length"),
    "connect": ("CONNECT", "fd addr off"),
    "bind": ("BIND", "fd addr off"),
    "listen": ("LISTEN", "fd length"),
    "accept4": ("ACCEPT", "fd addr off op_flags"),
    "sendmsg": ("SENDMSG", "fd addr op_flags"),
    "recvmsg": ("RECVMSG", "fd addr op_flags"),
    "shutdown": ("SHUTDOWN", "fd length"),
    "pipe2": ("PIPE", "addr op_flags"),
    "epoll_ctl": ("EPOLL_CTL", "fd length off addr"),
    "splice": ("SPLICE", ""),
}
"""By call: the operation of a ring that does the same, and where its arguments go."""
_POSITIONED = frozenset({"read", "write", "readv", "writev"})
_ONE_MESSAGE = frozenset({"sendmsg", "recvmsg"})


@call_by_call("ring", Technique.ASYNC_KERNEL)
def ring(k: Kernel, call: Made) -> Result | None:
    """A ring does it: the call is never made, and a filter on it never asked."""
    return submitted(k.ring, call) if call.decisive else None


def submitted(make: Callable[[], Ring], call: Made) -> Result | None:
    """The call as an operation of a new ring; None where rings have no such operation."""
    name, args = call.name, call.args
    if name in AT and AT[name] in RING and name != "lchown":
        return _in_ring(make(), *_as_at(name, args))
    return _in_ring(make(), name, args) if name in RING and name != "splice" else None


def _as_at(name: str, args: tuple[Arg, ...]) -> tuple[str, tuple[Arg, ...]]:
    match name:
        case "rename":
            return "renameat", (AT_FDCWD, args[0], AT_FDCWD, args[1])
        case "link":
            return "linkat", (AT_FDCWD, args[0], AT_FDCWD, args[1], 0)
        case "symlink":
            return "symlinkat", (args[0], AT_FDCWD, args[1])
        case "creat":
            return "openat", (AT_FDCWD, args[0], O_CREAT | O_WRONLY | O_TRUNC, args[1])
        case "rmdir":
            return "unlinkat", (AT_FDCWD, args[0], AT_REMOVEDIR)
        case "unlink":
            return "unlinkat", (AT_FDCWD, args[0], 0)
        case "pipe" | "accept":
            return AT[name], (*args, 0)
        case _:
            return AT[name], (AT_FDCWD, *args)


def _in_ring(new: Ring, name: str, args: tuple[Arg, ...]) -> Result:
    opcode, fields = RING[name]
    values: dict[str, Arg] = dict(zip(fields.split(), args, strict=False))
    if name in _POSITIONED:
        values["off"] = -1
    if name in _ONE_MESSAGE:
        values["length"] = 1
    return new.submit_fields(opcode, values)
