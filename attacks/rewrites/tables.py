"""Rules that make each call through another table, or another form of its number."""

from __future__ import annotations

from attacks.arguments import KINDS
from attacks.consts import Named
from attacks.family import Technique
from attacks.kernel import Kernel
from attacks.program import Abi, Entry
from attacks.recorder import Result
from attacks.replay import Made
from attacks.rewrites.rule import call_by_call

# What does the same there under another name.
I386_NAMES = {
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
    return k.i386.raw(I386_NAMES.get(call.name, call.name), *call.args)


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


SOCKETCALL = {
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
IPC = {"semget": 2, "msgget": 13, "shmget": 23}


@call_by_call("multiplexer", Technique.MULTIPLEXER)
def multiplexer(k: Kernel, call: Made) -> Result | None:
    """One 32-bit call for many: its arguments are behind a pointer, where no filter can look."""
    name, args = call.name, call.args
    if name in SOCKETCALL:
        values = k.struct("I" * len(args), *args, name="socketcall_args")
        return k.i386.socketcall(Named(SOCKETCALL[name], f"SYS_{name.upper()}"), values)
    if name in IPC:
        more = (*args, 0, 0)
        return k.i386.raw("ipc", Named(IPC[name], name.upper()), more[0], more[1], more[2], 0, 0)
    return None
