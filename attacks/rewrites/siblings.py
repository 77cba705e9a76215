"""Rules that make each call through another call of the same table."""

from __future__ import annotations

from attacks.consts import AT_FDCWD, AT_REMOVEDIR, O_CREAT, O_TRUNC, O_WRONLY, SIGCHLD
from attacks.family import Technique
from attacks.kernel import Kernel
from attacks.program import Const
from attacks.recorder import Arg, Buffer, Result
from attacks.replay import Made
from attacks.rewrites.rule import call_by_call

_HERE = int(AT_FDCWD) & (1 << 64) - 1
AT_SYMLINK_NOFOLLOW = 0x100


AT = {
    "open": "openat",
    "mkdir": "mkdirat",
    "mknod": "mknodat",
    "unlink": "unlinkat",
    "rmdir": "unlinkat",
    "rename": "renameat",
    "link": "linkat",
    "symlink": "symlinkat",
    "chmod": "fchmodat",
    "chown": "fchownat",
    "lchown": "fchownat",
    "readlink": "readlinkat",
    "access": "faccessat",
    "stat": "newfstatat",
    "lstat": "newfstatat",
    "utimes": "futimesat",
    "execve": "execveat",
    "inotify_init": "inotify_init1",
    "pipe": "pipe2",
    "dup2": "dup3",
    "accept": "accept4",
    "eventfd": "eventfd2",
    "creat": "openat",
    "fork": "clone",
}
_PLAIN = {
    "openat": "open",
    "mkdirat": "mkdir",
    "mknodat": "mknod",
    "renameat": "rename",
    "fchmodat": "chmod",
    "readlinkat": "readlink",
    "faccessat": "access",
    "futimesat": "utimes",
}


@call_by_call("at", Technique.SIBLING_SYSCALL)
def at(k: Kernel, call: Made) -> Result | None:
    """Each call is made through its sibling that takes a descriptor, flags, or both."""
    name, args = call.name, call.args
    match name:
        case "rename":
            return k.raw("renameat", AT_FDCWD, args[0], AT_FDCWD, args[1])
        case "link":
            return k.raw("linkat", AT_FDCWD, args[0], AT_FDCWD, args[1], 0)
        case "symlink":
            return k.raw("symlinkat", args[0], AT_FDCWD, args[1])
        case "creat":
            return k.raw("openat", AT_FDCWD, args[0], O_CREAT | O_WRONLY | O_TRUNC, args[1])
        case "rmdir":
            return k.raw("unlinkat", AT_FDCWD, args[0], AT_REMOVEDIR)
        case "lchown" | "lstat":
            return k.raw(AT[name], AT_FDCWD, *args, AT_SYMLINK_NOFOLLOW)
        case "unlink" | "chown" | "stat" | "execve":
            return k.raw(AT[name], AT_FDCWD, *args, 0)
        case "inotify_init" | "pipe" | "dup2" | "accept" | "eventfd":
            return k.raw(AT[name], *args, 0)
        case "fork":
            return k.clone(SIGCHLD)
        case _:
            return k.raw(AT[name], AT_FDCWD, *args) if name in AT else None


@call_by_call("newest", Technique.NEWER_SYSCALL)
def newest(k: Kernel, call: Made) -> Result | None:
    """Each call is made through its youngest sibling, which older lists do not know."""
    name, args = call.name, call.args
    match name:
        case "open" | "openat":
            path = args if name == "openat" else (AT_FDCWD, *args)
            return k.raw("openat2", path[0], path[1], _open_how(k, path[2:]), 24)
        case "rename":
            return k.raw("renameat2", AT_FDCWD, args[0], AT_FDCWD, args[1], 0)
        case "renameat":
            return k.raw("renameat2", *args, 0)
        case "chmod":
            return k.raw("fchmodat2", AT_FDCWD, *args, 0)
        case "fchmodat":
            return k.raw("fchmodat2", *args, 0)
        case "access":
            return k.raw("faccessat2", AT_FDCWD, *args, 0)
        case "faccessat":
            return k.raw("faccessat2", *args, 0)
        case "fork":
            return k.clone3(k.struct("QQQQQQQQ", 0, 0, 0, 0, SIGCHLD, 0, 0, 0, name="args"), 64)
        case "read" | "pread64" | "write" | "pwrite64":
            return _vectored(k, name, args)
        case "setxattr" | "getxattr":
            value = k.struct("QII", args[2], args[3], *args[4:] or (0,), name="xattr_args")
            return k.raw(f"{name}at", AT_FDCWD, args[0], 0, args[1], value, 16)
        case "removexattr":
            return k.raw("removexattrat", AT_FDCWD, args[0], 0, args[1])
        case _:
            return None


def _open_how(k: Kernel, rest: tuple[Arg, ...]) -> Buffer:
    flags = rest[0]
    making = isinstance(flags, Const) and flags.value & int(O_CREAT)
    mode = rest[1] if len(rest) > 1 and making else 0
    return k.struct("QQQ", flags, mode, 0, name="open_how")


def _vectored(k: Kernel, name: str, args: tuple[Arg, ...]) -> Result:
    """At the file's own position (-1) where the call names none."""
    fd, buffer, size, *rest = args
    vector = k.struct("QQ", buffer, size, name="iovec")
    verb = "preadv2" if name in ("read", "pread64") else "pwritev2"
    return k.raw(verb, fd, vector, 1, rest[0] if rest else -1, 0, 0)


_VECTORS = {"read": "readv", "write": "writev", "pread64": "preadv", "pwrite64": "pwritev"}


@call_by_call("vector", Technique.SIBLING_SYSCALL)
def vector(k: Kernel, call: Made) -> Result | None:
    """The same bytes as a vector of one part: lists that name read and write may lack it."""
    if not call.decisive or call.name not in _VECTORS:
        return None
    fd, buffer, size, *offset = call.args
    parts = k.struct("QQ", buffer, size, name="iovec")
    return k.raw(_VECTORS[call.name], fd, parts, 1, *offset, *(0 for _ in offset))


@call_by_call("legacy", Technique.LEGACY_SYSCALL)
def legacy(k: Kernel, call: Made) -> Result | None:
    """Each call is made through its oldest sibling, which newer libraries do not use any more."""
    name, args = call.name, call.args
    here = call.constant(0) == _HERE
    both_here = here and call.constant(2) == _HERE
    match name:
        case "openat" | "mkdirat" | "mknodat" | "fchmodat" | "readlinkat" | "faccessat" if here:
            return k.raw(_PLAIN[name], *args[1:])
        case "futimesat" if here:
            return k.raw("utimes", *args[1:])
        case "unlinkat" if here and call.constant(2) in (0, int(AT_REMOVEDIR)):
            return k.raw("rmdir" if call.constant(2) else "unlink", args[1])
        case "renameat" | "renameat2" if both_here and not call.constant(4):
            return k.raw("rename", args[1], args[3])
        case "linkat" if both_here and call.constant(4) == 0:
            return k.raw("link", args[1], args[3])
        case "symlinkat" if call.constant(1) == _HERE:
            return k.raw("symlink", args[0], args[2])
        case "pipe2" | "accept4" | "dup3" if call.constant(len(args) - 1) == 0:
            return k.raw({"pipe2": "pipe", "accept4": "accept", "dup3": "dup2"}[name], *args[:-1])
        case _:
            return None
