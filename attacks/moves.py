"""Rules that only a search applies, beside those of ``attacks.rewrites``.

They pay where the obvious ways were denied: a ring without the calls that rings usually take, a
path through a descriptor, an older call of the 32-bit table, being one's own supervisor.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from attacks import supervisor
from attacks.arguments import KINDS
from attacks.consts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    NULL,
    O_CREAT,
    O_PATH,
    O_RDONLY,
    O_TRUNC,
    O_WRONLY,
    S_IFREG,
)
from attacks.effects import EffectKind
from attacks.family import Technique, Variant
from attacks.kernel import Kernel
from attacks.program import Program
from attacks.recorder import Result
from attacks.replay import Around, Made, replay, untouched
from attacks.rewrites.rings import submitted
from attacks.rewrites.rule import Rewrite, call_by_call

MOVES: dict[str, Rewrite] = {}
"""All of them by name; what asks a filter's supervisor is made by ``supervised``."""

_PAGE = 4096
_HERE = int(AT_FDCWD) & (1 << 64) - 1


@call_by_call("ring-step", Technique.ASYNC_KERNEL, MOVES)
def ring_step(k: Kernel, call: Made) -> Result | None:
    """A ring does what has to come before, too."""
    return None if call.decisive else submitted(k.ring, call)


@call_by_call("ring-unmapped", Technique.ASYNC_KERNEL, MOVES)
def ring_unmapped(k: Kernel, call: Made) -> Result | None:
    """The ring lies in memory that the program has already: no mmap is made for it."""
    return submitted(lambda: k.ring(mapped=False), call)


@call_by_call("ring-woken", Technique.ASYNC_KERNEL, MOVES)
def ring_woken(k: Kernel, call: Made) -> Result | None:
    """The ring's own thread is woken by setting up another ring: nothing is ever submitted."""
    return submitted(k.woken_ring, call)


@call_by_call("ring-i386", Technique.COMPAT_ABI, MOVES)
def ring_i386(k: Kernel, call: Made) -> Result | None:
    """The ring's own calls are made through the 32-bit table, which knows them as well."""
    if call.name.startswith("io_uring_"):
        return k.i386.raw(call.name, *call.args)
    offset = call.constant(5)
    if call.name != "mmap" or not offset or offset % _PAGE:
        return None
    return k.i386.raw("mmap2", *call.args[:5], offset // _PAGE)


_OLD_I386_NAMES = "chown fchown lchown setuid setgid setreuid setregid setresuid setresgid"
_OLD_I386 = frozenset(_OLD_I386_NAMES.split())


@call_by_call("i386-old", Technique.COMPAT_ABI, MOVES)
def i386_old(k: Kernel, call: Made) -> Result | None:
    """The 32-bit table has older calls of the same name, with 16-bit ids or one argument less."""
    if call.name in _OLD_I386:
        return k.i386.raw(call.name, *call.args)
    if call.name == "umount2" and call.constant(1) == 0:
        return k.i386.raw("umount", call.args[0])
    if call.name == "mmap":
        return k.i386.raw("mmap", k.struct("IIIIII", *call.args, name="mmap_args"))
    return None


_BY_DESCRIPTOR = {
    "chmod": ("fchmod", O_RDONLY),
    "chown": ("fchown", O_RDONLY),
    "truncate": ("ftruncate", O_WRONLY),
    "setxattr": ("fsetxattr", O_RDONLY),
    "getxattr": ("fgetxattr", O_RDONLY),
    "removexattr": ("fremovexattr", O_RDONLY),
    "stat": ("fstat", O_RDONLY),
    "statfs": ("fstatfs", O_RDONLY),
    "chdir": ("fchdir", O_PATH),
}
_EMPTY_PATH = {
    "chmod": ("fchmodat2", AT_EMPTY_PATH),
    "chown": ("fchownat", AT_EMPTY_PATH),
    "stat": ("newfstatat", AT_EMPTY_PATH),
    "execve": ("execveat", AT_EMPTY_PATH),
}


@call_by_call("by-descriptor", Technique.FD_RELATIVE, MOVES)
def by_descriptor(k: Kernel, call: Made) -> Result | None:
    """What the path names is opened first, and the call is made on the descriptor."""
    if call.name not in _BY_DESCRIPTOR:
        return None
    name, flags = _BY_DESCRIPTOR[call.name]
    return k.raw(name, k.openat(AT_FDCWD, call.args[0], flags), *call.args[1:])


@call_by_call("empty-path", Technique.FD_RELATIVE, MOVES)
def empty_path(k: Kernel, call: Made) -> Result | None:
    """What the path names is opened without rights (O_PATH), and the path given is empty."""
    if call.name not in _EMPTY_PATH:
        return None
    name, flags = _EMPTY_PATH[call.name]
    what = k.openat(AT_FDCWD, call.args[0], O_PATH)
    return k.raw(name, what, k.text(""), *call.args[1:], flags)


@call_by_call("proc-fd", Technique.PROC_INTERFACE, MOVES)
def proc_fd(k: Kernel, call: Made) -> Result | None:
    """The path is a magic link of procfs to what was opened without rights (O_PATH)."""
    kinds = KINDS.get(call.name, ())
    at = kinds.index("path") if "path" in kinds else None
    if at is None or call.text(at) is None or at >= len(call.args):
        return None
    if at and call.constant(at - 1) != _HERE:
        return None
    link = k.proc_fd(k.openat(AT_FDCWD, call.args[at], O_PATH))
    return k.raw(call.name, *call.args[:at], link, *call.args[at + 1 :])


@call_by_call("made-by-mknod", Technique.SIBLING_SYSCALL, MOVES)
def made_by_mknod(k: Kernel, call: Made) -> Result | None:
    """The call that makes device nodes makes regular files, too."""
    match call.name:
        case "open" if _creates(call, 1):
            return k.raw("mknod", call.args[0], _regular(call, 2), 0)
        case "creat":
            return k.raw("mknod", call.args[0], _regular(call, 1), 0)
        case "openat" if _creates(call, 2):
            return k.raw("mknodat", *call.args[:2], _regular(call, 3), 0)
        case _:
            return None


@call_by_call("creat", Technique.LEGACY_SYSCALL, MOVES)
def creat(k: Kernel, call: Made) -> Result | None:
    """Before open could make files, another call did."""
    wanted = int(O_CREAT | O_WRONLY | O_TRUNC)
    if call.name != "open" or not _creates(call, 1):
        return None
    if (call.constant(1) or 0) & 3 != wanted & 3:
        return None
    return k.raw("creat", call.args[0], call.args[2])


@call_by_call("sibling", Technique.SIBLING_SYSCALL, MOVES)
def sibling(k: Kernel, call: Made) -> Result | None:
    """Another call of the same table does the same for these arguments."""
    name, args = call.name, call.args
    match name:
        case "read" | "write":
            vector = k.struct("QQ", args[1], args[2], name="iovec")
            return k.raw(f"{name}v", args[0], vector, 1)
        case "kill":
            return k.raw("tkill", *args)
        case "tkill":
            return k.raw("tgkill", args[0], *args)
        case "setuid" | "setgid":
            return k.raw(f"setres{name[3:]}", args[0], args[0], args[0])
        case "setreuid" | "setregid":
            return k.raw(f"setres{name[5:]}", *args, -1)
        case "dup" if not call.decisive:
            return k.raw("fcntl", args[0], 0, 0)
        case "fork":
            return k.raw("vfork")
        case "fchmodat" | "fchownat" if call.constant(0) == _HERE:
            return k.raw(name[1:-2], *args[1:3] if name == "fchmodat" else args[1:4])
        case "pwrite64" | "pread64":
            return k.raw(name.removesuffix("64").removeprefix("p"), *args[:3])
        case _:
            return None


@call_by_call("pidfd", Technique.NEWER_SYSCALL, MOVES)
def pidfd(k: Kernel, call: Made) -> Result | None:
    """The process is named by a descriptor, and told through it."""
    if call.name != "kill":
        return None
    return k.raw("pidfd_send_signal", k.raw("pidfd_open", call.args[0], 0), call.args[1], NULL, 0)


def supervised(number: int, questions: int) -> dict[str, Rewrite]:
    """The rules for a filter that leaves calls to somebody: to whom, it does not say.

    ``number``: of the native call that is asked about; ``questions``: how many calls are.
    """

    @contextmanager
    def listened(k: Kernel) -> Generator[None]:
        supervisor.answered_by_child(k, number)
        yield

    @contextmanager
    def traced(k: Kernel) -> Generator[None]:
        with supervisor.traced_child(k, questions):
            yield

    return {
        "traced": _around("traced", "A tracer is asked, and the attacker is the tracer.", traced),
        "tracing-child": _around(
            "tracing-child", "A tracer is asked, and a child of the attacker is one.", _by_child
        ),
        "own-listener": _around(
            "own-listener", "The newest listener is asked, and it is the attacker's.", listened
        ),
    }


@contextmanager
def _by_child(k: Kernel) -> Generator[None]:
    supervisor.traced_by_child(k)
    yield


def _around(name: str, why: str, around: Around) -> Rewrite:
    def rewrite(variant: Variant) -> Program | None:
        # What is put around it makes a process, and would be the effect.
        if variant.effect.kind is EffectKind.PROCESS or variant.effect.stays:
            return None
        return replay(variant.program, variant.effect, untouched, around)

    return Rewrite(name, Technique.SUPERVISOR_SELF, why, rewrite)


def _creates(call: Made, index: int) -> bool:
    return bool((call.constant(index) or 0) & int(O_CREAT))


def _regular(call: Made, index: int) -> int:
    mode = call.constant(index)
    return int(S_IFREG) | (0o644 if mode is None else mode & 0o7777)
