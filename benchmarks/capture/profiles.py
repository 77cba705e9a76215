"""Synthetic OCI seccomp blocks: each exercises one part of what runtimes make of a profile.

They are written for their shape, not as advice. Every allow-list lets a static program start, so
that the container lives long enough to be read.
"""

from __future__ import annotations

from typing import Any

Block = dict[str, Any]

X86_64, X86, X32 = "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"

# What the runtimes and a sleeping static program call after the filter is loaded.
_START = (
    "arch_prctl",
    "brk",
    "capget",
    "capset",
    "chdir",
    "clock_nanosleep",
    "close",
    "close_range",
    "dup2",
    "epoll_ctl",
    "epoll_pwait",
    "execve",
    "exit",
    "exit_group",
    "faccessat2",
    "fchdir",
    "fchown",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getcwd",
    "getdents64",
    "getpid",
    "getppid",
    "getrandom",
    "gettid",
    "getuid",
    "madvise",
    "mmap",
    "mprotect",
    "munmap",
    "nanosleep",
    "newfstatat",
    "openat",
    "openat2",
    "prctl",
    "prlimit64",
    "pselect6",
    "read",
    "readlink",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "setgid",
    "setgroups",
    "setresgid",
    "setresuid",
    "setuid",
    "sigaltstack",
    "statx",
    "tgkill",
    "uname",
    "write",
)


def _block(
    default: str, rules: list[Block], architectures: list[str] | None = None, **more: object
) -> Block:
    block: Block = {"defaultAction": default, **more}
    if architectures is not None:
        block["architectures"] = architectures
    block["syscalls"] = rules
    return block


def _rule(action: str, *names: str, args: list[Block] | None = None, **more: object) -> Block:
    rule: Block = {"names": list(names), "action": action, **more}
    if args:
        rule["args"] = args
    return rule


def _arg(index: int, operator: str, value: int, second: int | None = None) -> Block:
    condition: Block = {"index": index, "value": value, "op": f"SCMP_CMP_{operator}"}
    if second is not None:
        condition["valueTwo"] = second
    return condition


_ALLOW, _ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
_ALL = [X86_64, X86, X32]
_MAKE = ("mkdir", "mkdirat")

PROFILES: dict[str, Block] = {
    "deny-three-arches": _block(_ALLOW, [_rule(_ERRNO, *_MAKE, errnoRet=1)], _ALL),
    "deny-native-only": _block(_ALLOW, [_rule(_ERRNO, *_MAKE, errnoRet=13)]),
    "deny-x86-64-named": _block(_ALLOW, [_rule(_ERRNO, "rmdir", "unlink", "unlinkat")], [X86_64]),
    "deny-two-arches": _block(
        _ALLOW, [_rule(_ERRNO, "chmod", "fchmodat", "fchmod")], [X86_64, X86]
    ),
    "deny-x32-first": _block(_ALLOW, [_rule(_ERRNO, "symlink", "symlinkat")], [X32, X86, X86_64]),
    "deny-no-rules": _block(_ALLOW, [], _ALL),
    "deny-over-32-rules": _block(
        _ALLOW,
        [
            _rule(
                _ERRNO,
                "acct",
                "add_key",
                "bpf",
                "chroot",
                "create_module",
                "delete_module",
                "finit_module",
                "fsconfig",
                "fsmount",
                "fsopen",
                "fspick",
                "init_module",
                "ioperm",
                "iopl",
                "kcmp",
                "kexec_file_load",
                "kexec_load",
                "keyctl",
            ),
            _rule(
                _ERRNO,
                "mount",
                "mount_setattr",
                "move_mount",
                "nfsservctl",
                "open_tree",
                "perf_event_open",
                "pivot_root",
                "process_vm_readv",
                "process_vm_writev",
                "ptrace",
                "quotactl",
                "reboot",
                "request_key",
                "setdomainname",
                "sethostname",
                "setns",
                "settimeofday",
                "swapoff",
                "swapon",
                "umount2",
                "unshare",
                "userfaultfd",
                errnoRet=38,
            ),
        ],
        _ALL,
    ),
    "deny-multiplexed": _block(
        _ALLOW,
        [
            _rule(_ERRNO, "socket", args=[_arg(0, "EQ", 38)]),
            _rule(_ERRNO, "socketpair", "sendmmsg", "accept4"),
            _rule(_ERRNO, "semget", "shmget", "msgget"),
        ],
        _ALL,
    ),
    "kill-actions": _block(
        _ALLOW,
        [
            _rule("SCMP_ACT_KILL", "acct"),
            _rule("SCMP_ACT_KILL_THREAD", "swapon"),
            _rule("SCMP_ACT_KILL_PROCESS", "swapoff"),
            _rule("SCMP_ACT_TRAP", "reboot"),
            _rule("SCMP_ACT_TRACE", "chroot", errnoRet=7),
            _rule("SCMP_ACT_TRACE", "pivot_root"),
            _rule("SCMP_ACT_LOG", "sethostname"),
            _rule(_ERRNO, "setdomainname", errnoRet=0),
        ],
        _ALL,
    ),
    "kill-default": _block("SCMP_ACT_KILL_PROCESS", [_rule(_ALLOW, *_START)], [X86_64]),
    "log-default": _block("SCMP_ACT_LOG", [_rule(_ERRNO, *_MAKE)], _ALL),
    "allow-three-arches": _block(
        _ERRNO,
        [
            _rule(_ALLOW, *_START),
            _rule(_ALLOW, "personality", args=[_arg(0, "EQ", 0)]),
            _rule(_ALLOW, "personality", args=[_arg(0, "EQ", 0xFFFFFFFF)]),
            _rule(_ALLOW, "clone", args=[_arg(0, "MASKED_EQ", 0x7E020000, 0)]),
            _rule(_ALLOW, "socket", args=[_arg(0, "NE", 40)]),
            _rule(_ERRNO, "clone3", errnoRet=38),
        ],
        _ALL,
    ),
    "allow-x86-64-only": _block(_ERRNO, [_rule(_ALLOW, *_START)], [X86_64], defaultErrnoRet=1),
    "allow-native-only": _block(_ERRNO, [_rule(_ALLOW, *_START)]),
    "allow-x32-first": _block(_ERRNO, [_rule(_ALLOW, *_START)], [X32, X86_64]),
    "allow-two-arches": _block(_ERRNO, [_rule(_ALLOW, *_START)], [X86, X86_64]),
    "errno-38-default": _block(_ERRNO, [_rule(_ALLOW, *_START)], _ALL, defaultErrnoRet=38),
    "operators": _block(
        _ALLOW,
        [
            _rule(_ERRNO, "kill", args=[_arg(1, "EQ", 10)], errnoRet=1),
            _rule(_ERRNO, "lseek", args=[_arg(2, "NE", 0)], errnoRet=2),
            _rule(_ERRNO, "ftruncate", args=[_arg(1, "LT", 16)], errnoRet=3),
            _rule(_ERRNO, "dup3", args=[_arg(1, "LE", 8)], errnoRet=4),
            _rule(_ERRNO, "listen", args=[_arg(1, "GE", 128)], errnoRet=5),
            _rule(_ERRNO, "readahead", args=[_arg(1, "GT", 0x1_0000_0000)], errnoRet=6),
            _rule(_ERRNO, "fchmod", args=[_arg(1, "MASKED_EQ", 0o4000, 0o4000)], errnoRet=7),
            _rule(
                _ERRNO,
                "madvise",
                args=[_arg(1, "MASKED_EQ", 0xF_0000_0000, 0x3_0000_0000)],
                errnoRet=8,
            ),
            _rule(
                _ERRNO,
                "fallocate",
                args=[_arg(0, "GE", 3), _arg(1, "EQ", 1), _arg(3, "LT", 4096)],
                errnoRet=9,
            ),
            _rule(_ERRNO, "flock", args=[_arg(1, "EQ", 2), _arg(1, "EQ", 6)], errnoRet=11),
            _rule(
                _ERRNO,
                "getpriority",
                args=[_arg(0, "EQ", 1), _arg(1, "GE", 5), _arg(1, "LE", 9)],
                errnoRet=12,
            ),
            _rule(_ERRNO, "mkdirat", args=[_arg(5, "EQ", 0xFFFF_FFFF_FFFF_FFFF)], errnoRet=14),
        ],
        _ALL,
    ),
    "names-unknown-here": _block(
        _ERRNO,
        [
            _rule(_ALLOW, *_START),
            _rule(
                _ALLOW, "no_such_call", "sync_file_range2", "arm_fadvise64_64", "socketcall", "ipc"
            ),
            _rule(_ERRNO, *_MAKE),
        ],
        _ALL,
        defaultErrnoRet=1,
    ),
}
