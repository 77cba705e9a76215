"""The sentinel: an older filter that keeps a call from ever running, and shows that it got so far.

Filters are asked newest first and the strictest answer counts, the newest of equals.  So under a
sentinel that answers an errno of its own, a call that the candidate lets pass comes back with that
errno, and one that the candidate denies with the candidate's answer (seccomp(2); seen on 6.18).  A
candidate that answers TRACE, USER_NOTIF or LOG is outranked by the sentinel: these three look like
an allowed call, and what they mean is left to the simulator.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from evaluator.wire import Filter
from mitigations import x86_64
from mitigations.classic import JEQ, JMP, LOAD_WORD, RETURN_K, Action, Instruction, K, pack

SENTINEL_ERRNO = 1234
"""No call of the kernel answers it."""
GUARDED = (
    "acct",
    "adjtimex",
    "bpf",
    "clock_adjtime",
    "clock_adjtime64",
    "clock_settime",
    "clock_settime64",
    "create_module",
    "delete_module",
    "finit_module",
    "get_kernel_syms",
    "init_module",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "lookup_dcookie",
    "nfsservctl",
    "query_module",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "syslog",
    "uselib",
    "vhangup",
)
"""What must never run for real, whatever the caller may do."""
_ARCH, _NR = 4, 0


@functools.cache
def sentinel() -> Filter:
    """The filter: every guarded call on every ABI gets ``SENTINEL_ERRNO``."""
    native = [*_numbers("x86_64"), *_numbers("x32")]
    program = [
        Instruction(LOAD_WORD, 0, 0, _ARCH),
        Instruction(JMP | JEQ | K, 0, len(native) + 3, x86_64.AUDIT_ARCH_X86_64),
        *_answers(native),
        Instruction(JMP | JEQ | K, 1, 0, x86_64.AUDIT_ARCH_I386),
        Instruction(RETURN_K, 0, 0, Action.ALLOW),
        *_answers(_numbers("i386")),
    ]
    return Filter(pack(program))


def _numbers(abi: str) -> list[int]:
    found = (x86_64.number(abi, name) for name in GUARDED)
    return [number for number in found if number is not None]


def _answers(numbers: Sequence[int]) -> list[Instruction]:
    count = len(numbers)
    tests = [Instruction(JMP | JEQ | K, count - i, 0, number) for i, number in enumerate(numbers)]
    return [
        Instruction(LOAD_WORD, 0, 0, _NR),
        *tests,
        Instruction(RETURN_K, 0, 0, Action.ALLOW),
        Instruction(RETURN_K, 0, 0, Action.ERRNO | SENTINEL_ERRNO),
    ]
