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
_ARCH, _NR, _FIRST_ARGUMENT = 4, 0, 16
_NO_DESCRIPTOR = 0xFFFFFFFF


@functools.cache
def sentinel() -> Filter:
    """The filter: every guarded call on every ABI gets ``SENTINEL_ERRNO``.

    So does an ioctl of descriptor -1, which the kernel answers with EBADF whatever its command: by
    that a candidate can be asked about commands, and nothing happens.
    """
    native = _answers(["x86_64", "x32"])
    program = [
        Instruction(LOAD_WORD, 0, 0, _ARCH),
        Instruction(JMP | JEQ | K, 0, len(native), x86_64.AUDIT_ARCH_X86_64),
        *native,
        Instruction(JMP | JEQ | K, 1, 0, x86_64.AUDIT_ARCH_I386),
        Instruction(RETURN_K, 0, 0, Action.ALLOW),
        *_answers(["i386"]),
    ]
    return Filter(pack(program))


def _numbers(abis: Sequence[str], names: Sequence[str]) -> list[int]:
    found = (x86_64.number(abi, name) for abi in abis for name in names)
    return [number for number in found if number is not None]


def _answers(abis: Sequence[str]) -> list[Instruction]:
    always, ioctl = _numbers(abis, GUARDED), _numbers(abis, ["ioctl"])
    left = len(always) + len(ioctl)
    tests: list[Instruction] = []
    for number in (*always, *ioctl):
        left -= 1
        # Over the tests that are left to the second LOAD below, or behind its test.
        over = left + (1 if number in ioctl else 4)
        tests.append(Instruction(JMP | JEQ | K, over, 0, number))
    return [
        Instruction(LOAD_WORD, 0, 0, _NR),
        *tests,
        Instruction(RETURN_K, 0, 0, Action.ALLOW),
        Instruction(LOAD_WORD, 0, 0, _FIRST_ARGUMENT),
        Instruction(JMP | JEQ | K, 1, 0, _NO_DESCRIPTOR),
        Instruction(RETURN_K, 0, 0, Action.ALLOW),
        Instruction(RETURN_K, 0, 0, Action.ERRNO | SENTINEL_ERRNO),
    ]
