"""Rules that turn a program into an equivalent one: the same effect, another way into the kernel.

A rule is a function with a name, a technique and a reason.  It is asked about every native call of
an attack, and either records what takes its place or leaves it as it is; where it changes nothing
there is no derived variant.  A rule cannot make a wrong result: a derived program that does not
reach the effect without a filter is unsupported, never evidence.

Which calls mean the same is in the man pages; ``attacks/arguments.py`` says what a call reads of
its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from attacks.arguments import KINDS, NARROW
from attacks.consts import (
    AT_FDCWD,
    AT_REMOVEDIR,
    CLONE_FILES,
    CLONE_FS,
    CLONE_NEWUSER,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VM,
    NULL,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_NOCTTY,
    O_PATH,
    O_TRUNC,
    O_WRONLY,
    SIGCHLD,
    WALL,
    Named,
)
from attacks.effects import EffectKind
from attacks.errors import AttackError
from attacks.family import Assumption, Technique, Variant, needs_of
from attacks.kernel import Kernel
from attacks.program import (
    Abi,
    Const,
    Entry,
    Env,
    Environment,
    Operation,
    Program,
    Store,
    Syscall,
    is_decisive,
)
from attacks.recorder import Arg, Buffer, Result
from attacks.replay import Around, Made, Rule, replay, untouched

CLONE_PARENT_SETTID = Named(0x100000, "CLONE_PARENT_SETTID")
CLONE_CHILD_CLEARTID = Named(0x200000, "CLONE_CHILD_CLEARTID")
SOCK_CLOEXEC = Named(0o2000000, "SOCK_CLOEXEC")
PROT_SEM = Named(0x8, "PROT_SEM")
O_LARGEFILE = Named(0o100000, "O_LARGEFILE")
MS_MGC_VAL = Named(0xC0ED0000, "MS_MGC_VAL")
_GARBAGE = 0xDEADBEEF << 32
_HIGH_MODE = 0xFFFF0000
_LOW = (1 << 32) - 1
_HERE = int(AT_FDCWD) & (1 << 64) - 1
_LONG_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One rule; ``name`` shows in the id of what it derives: ``create-directory/mkdirat~i386``."""

    name: str
    technique: Technique
    why: str
    rewrite: Callable[[Variant], Program | None]
    """The other program, or None where the rule does not apply."""
    assumption: Assumption = Assumption.NONE


REWRITES: dict[str, Rewrite] = {}
"""All rules by name, in the order in which they are shown."""


def call_by_call(name: str, technique: Technique) -> Callable[[Rule], Rule]:
    """Adds the decorated function as a rule; its docstring is the reason."""

    def add(rule: Rule) -> Rule:
        def rewrite(variant: Variant) -> Program | None:
            return replay(variant.program, variant.effect, rule)

        REWRITES[name] = Rewrite(name, technique, _reason(rule), rewrite)
        return rule

    return add


def whole(
    name: str, technique: Technique, assumption: Assumption = Assumption.NONE
) -> Callable[[Callable[[Variant], Program | None]], Callable[[Variant], Program | None]]:
    """The same for a rule that looks at the program as a whole."""

    def add(rule: Callable[[Variant], Program | None]) -> Callable[[Variant], Program | None]:
        REWRITES[name] = Rewrite(name, technique, _reason(rule), rule, assumption)
        return rule

    return add


def _reason(rule: Callable[..., object]) -> str:
    return " ".join((rule.__doc__ or "").split())


def derive(variant: Variant, rewrite: Rewrite) -> Variant | None:
    """The variant that a rule makes of another; None where it does not apply.

    Only what needs no assumption and can get through is rewritten: the rest has its own reasons.
    """
    if variant.negative or variant.assumption is not Assumption.NONE:
        return None
    try:
        program = rewrite.rewrite(variant)
    except AttackError:
        return None  # too many operations, or too much memory
    if program is None or program == variant.program:
        return None
    return replace(
        variant,
        id=f"{variant.id}~{rewrite.name}",
        parent=variant.id,
        technique=rewrite.technique,
        assumption=rewrite.assumption,
        program=program,
        why=rewrite.why,
        needs=variant.needs | needs_of(program),
        references=(),
    )


def derived(variants: tuple[Variant, ...]) -> Iterator[Variant]:
    """What one application of each rule makes of each variant, less what is there already."""
    known = {variant.program for variant in variants}
    for variant in variants:
        for rewrite in REWRITES.values():
            other = derive(variant, rewrite)
            if other is not None and other.program not in known:
                known.add(other.program)
                yield other


# Siblings

_AT = {
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
AT_SYMLINK_NOFOLLOW = 0x100


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
            return k.raw(_AT[name], AT_FDCWD, *args, AT_SYMLINK_NOFOLLOW)
        case "unlink" | "chown" | "stat" | "execve":
            return k.raw(_AT[name], AT_FDCWD, *args, 0)
        case "inotify_init" | "pipe" | "dup2" | "accept" | "eventfd":
            return k.raw(_AT[name], *args, 0)
        case "fork":
            return k.clone(SIGCHLD)
        case _:
            return k.raw(_AT[name], AT_FDCWD, *args) if name in _AT else None


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


# Other tables

_I386_NAMES = {
    "mmap": "mmap2",
    "chown": "chown32",
    "fchown": "fchown32",
    "lchown": "lchown32",
    "setuid": "setuid32",
    "setgid": "setgid32",
    "setreuid": "setreuid32",
    "setregid": "setregid32",
    "setresuid": "setresuid32",
    "setresgid": "setresgid32",
    "setfsuid": "setfsuid32",
    "setfsgid": "setfsgid32",
    "setgroups": "setgroups32",
    "utimensat": "utimensat_time64",
    "clock_settime": "clock_settime64",
    "semtimedop": "semtimedop_time64",
    "newfstatat": "fstatat64",
}
# Their structures have longs or pointers in them, or a 64-bit argument is two there.
_OTHER_LAYOUT_NAMES = """
readv writev preadv pwritev preadv2 pwritev2 vmsplice process_vm_readv process_vm_writev
process_madvise execve execveat sendmsg recvmsg sendmmsg recvmmsg rt_sigaction rt_sigprocmask waitid
nanosleep setrlimit getrlimit keyctl stat lstat fstat utime utimes futimesat pread64 pwrite64
fallocate fanotify_mark truncate ftruncate lseek io_setup io_submit io_getevents clock_adjtime
adjtimex settimeofday gettimeofday clock_gettime mq_open mq_timedsend mq_timedreceive msgsnd msgrcv
seccomp arch_prctl clone set_thread_area modify_ldt ptrace semctl shmctl rt_sigqueueinfo
rt_tgsigqueueinfo prctl statfs fstatfs setxattrat getxattrat
"""
_OTHER_LAYOUT = frozenset(_OTHER_LAYOUT_NAMES.split())


@call_by_call("i386", Technique.COMPAT_ABI)
def i386(k: Kernel, call: Made) -> Result | None:
    """The 32-bit table has other numbers; a filter without that architecture may let it pass."""
    if call.name in _OTHER_LAYOUT or call.name not in KINDS or call.name.startswith("io_uring"):
        return None
    if call.name == "accept":
        return k.i386.raw("accept4", *call.args, 0)
    if call.name == "mmap" and call.constant(5) != 0:
        return None
    return k.i386.raw(_I386_NAMES.get(call.name, call.name), *call.args)


@call_by_call("x32", Technique.X32_ABI)
def x32(k: Kernel, call: Made) -> Result | None:
    """The same architecture word with bit 30 of the number set."""
    return k.x32.raw(call.name, *call.args) if call.name in KINDS else None


@call_by_call("wide-number", Technique.WIDE_ARGUMENT)
def wide_number(k: Kernel, call: Made) -> Result | None:
    """The upper half of rax is dropped before a filter looks at the number."""
    if not call.decisive:
        return None
    return k.through(Abi.X86_64, Entry.WIDE_SYSCALL).raw(call.name, *call.args)


_SOCKETCALL = {
    "socket": 1,
    "bind": 2,
    "connect": 3,
    "listen": 4,
    "accept": 5,
    "getsockname": 6,
    "socketpair": 8,
    "sendto": 11,
    "recvfrom": 12,
    "shutdown": 13,
    "setsockopt": 14,
    "getsockopt": 15,
    "accept4": 18,
}
_IPC = {"semget": 2, "msgget": 13, "shmget": 23}


@call_by_call("multiplexer", Technique.MULTIPLEXER)
def multiplexer(k: Kernel, call: Made) -> Result | None:
    """One 32-bit call for many: its arguments are behind a pointer, where no filter can look."""
    name, args = call.name, call.args
    if name in _SOCKETCALL:
        values = k.struct("I" * len(args), *args, name="socketcall_args")
        return k.i386.socketcall(Named(_SOCKETCALL[name], f"SYS_{name.upper()}"), values)
    if name in _IPC:
        more = (*args, 0, 0)
        return k.i386.raw("ipc", Named(_IPC[name], name.upper()), more[0], more[1], more[2], 0, 0)
    return None


# Arguments with more bits than the kernel reads


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


# A ring instead of a call

_RING = {
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
_POSITIONED = frozenset({"read", "write", "readv", "writev"})
_ONE_MESSAGE = frozenset({"sendmsg", "recvmsg"})


@call_by_call("ring", Technique.ASYNC_KERNEL)
def ring(k: Kernel, call: Made) -> Result | None:
    """A ring does it: the call is never made, and a filter on it never asked."""
    name, args = call.name, call.args
    if not call.decisive:
        return None
    if name in _AT and _AT[name] in _RING and name != "lchown":
        return _in_ring(k, *_as_at(name, args))
    return _in_ring(k, name, args) if name in _RING and name != "splice" else None


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
            return _AT[name], (*args, 0)
        case _:
            return _AT[name], (AT_FDCWD, *args)


def _in_ring(k: Kernel, name: str, args: tuple[Arg, ...]) -> Result:
    opcode, fields = _RING[name]
    values: dict[str, Arg] = dict(zip(fields.split(), args, strict=False))
    if name in _POSITIONED:
        values["off"] = -1
    if name in _ONE_MESSAGE:
        values["length"] = 1
    return k.ring().submit_fields(opcode, values)


# Descriptors and paths


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


# The whole program


@whole("inherited", Technique.DESCRIPTOR_REUSE, Assumption.INHERITED_DESCRIPTOR)
def inherited(variant: Variant) -> Program | None:
    """All that comes before the decisive call was done before the filter."""
    program = variant.program
    if program.victim or program.setup:
        return None
    for index, op in enumerate(program.attack):
        if is_decisive(op):
            before = program.attack[:index]
            opens = any(isinstance(one, Syscall) and not one.body for one in before)
            spawns = any(isinstance(one, Syscall) and one.body for one in before)
            if not opens or spawns or not isinstance(op, Syscall):
                return None
            if any(map(_wants_one_thread, before)) or any(map(_notes, program.attack)):
                return None
            return replace(program, setup=before, attack=program.attack[index:])
    return None


def _wants_one_thread(op: Operation) -> bool:
    """unshare(2): CLONE_NEWUSER is for processes with one thread.

    There is another one before the filter is in force: it keeps the capability to load it.
    """
    if not isinstance(op, Syscall) or op.name != "unshare" or not isinstance(op.args[0], Const):
        return False
    return bool(op.args[0].value & CLONE_NEWUSER)


def _notes(op: Operation) -> bool:
    """Whether it notes an answer: what was asked before the filter was not found out under it."""
    return isinstance(op, Store) and op.address == Env(Environment.SECRET)


@contextmanager
def _in_child(k: Kernel) -> Generator[None]:
    with k.child(k.fork()):
        yield
        k.exit_group(0)  # a kernel thread of its ring would keep it alive
    k.wait4(-1, NULL, WALL, NULL)


@whole("child", Technique.SIBLING_SYSCALL)
def child(variant: Variant) -> Program | None:
    """A child does it, and the parent only waits: filters are inherited, rules on a pid are not."""
    return _inside(variant, _in_child)


@contextmanager
def _in_thread(k: Kernel) -> Generator[None]:
    """The kernel clears the word when the thread ends, however it ends."""
    word = k.buffer(8, name="tid")
    flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
    cleared = flags | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID
    thread = k.clone(cleared, k.stack(), word, word)
    with k.child(thread):
        yield
    k.wait(word, 0, thread, _LONG_US)


@whole("thread", Technique.SIBLING_SYSCALL)
def thread(variant: Variant) -> Program | None:
    """A thread does it: threads that are made under a filter inherit it, and so it must hold."""
    return _inside(variant, _in_thread)


def _inside(variant: Variant, around: Around) -> Program | None:
    if variant.effect.kind is EffectKind.PROCESS:
        return None  # what is put around it would be the effect
    if variant.effect.stays or any(section == "setup" for section, _ in variant.program.flatten()):
        return None
    return replay(variant.program, variant.effect, untouched, around)
