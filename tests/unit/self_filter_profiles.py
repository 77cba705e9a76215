"""Synthetic profiles around the calls by which a program filters itself."""

from typing import Any

_BASE = """
brk capget capset chdir close execve exit exit_group fstat futex getppid mmap mprotect munmap openat
read rt_sigaction rt_sigprocmask rt_sigreturn setgid setgroups setuid write
"""
BASE = _BASE.split()
ERRNO, ALLOW, KILL = "SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_KILL_PROCESS"
PR_SET_SECCOMP = 22


def rule(action: str, *names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": action, **more}


def profile(default: str, *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"defaultAction": default, **more, "syscalls": list(rules)}


def equal(index: int, value: int) -> list[dict[str, Any]]:
    return [{"index": index, "value": value, "op": "SCMP_CMP_EQ"}]


def allowlist(*more: str, default: str = ERRNO) -> dict[str, Any]:
    return profile(default, rule(ALLOW, *BASE, *more))


WITHOUT_SECCOMP = allowlist("prctl")
WITHOUT_BOTH = allowlist()
KILLS = allowlist("prctl", default=KILL)
KILLS_THREAD = allowlist("prctl", default="SCMP_ACT_KILL")
TRAPS = allowlist("prctl", default="SCMP_ACT_TRAP")
DENIED_ALONE = profile(ALLOW, rule(ERRNO, "seccomp"), rule(ERRNO, "bpf"))
DENIED_WITH_OTHERS = profile(ALLOW, rule(ERRNO, "keyctl", "seccomp"))
KILLED_BY_RULE = profile(ALLOW, rule(KILL, "seccomp"), rule(ERRNO, "bpf"))
NOT_THERE = profile(ALLOW, rule(ERRNO, "seccomp", errnoRet=38))
NO_WAY_IN = profile(
    ALLOW,
    rule(ERRNO, "seccomp", errnoRet=38),
    rule(ERRNO, "prctl", args=equal(0, PR_SET_SECCOMP)),
)
PRETENDS = profile(ALLOW, rule(ERRNO, "seccomp", errnoRet=0, args=equal(1, 1)))
SOME_OPTIONS = profile(
    ERRNO,
    rule(ALLOW, *BASE, "seccomp"),
    *(rule(ALLOW, "prctl", args=equal(0, option)) for option in (15, 21, PR_SET_SECCOMP, 38, 39)),
)
