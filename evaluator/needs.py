"""Probes: whether this machine and posture have what a variant needs.

Each probe is a small program run in the control arm, so the answer is the kernel's own, in the very
posture of the trial.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from attacks.family import Need, Variant
from attacks.program import Abi, Addr, Blob, Const, Entry, Program, Store, Syscall
from evaluator.pool import Arm, Pool
from evaluator.posture import CAPABILITY_NUMBERS
from evaluator.wire import ConfigSpec, ProgramSpec, RecordState, Result, Truth

_SETUP = Program(
    blobs=(Blob(b"", 120, name="params"),),
    attack=(Syscall("io_uring_setup", (Const(1), Addr(0)), may_fail=True),),
)
_SQPOLL = Program(
    blobs=(Blob(bytes(8) + (2).to_bytes(4, "little"), 120, name="params"),),
    attack=(Syscall("io_uring_setup", (Const(1), Addr(0)), may_fail=True),),
)
_NO_MMAP = Program(
    blobs=(
        Blob(bytes(8) + (0x4000).to_bytes(4, "little"), 120, name="params"),
        Blob(b"", 4096, 4096),
        Blob(b"", 4096, 4096),
    ),
    attack=(
        Store(Addr(0), 72, 8, Addr(1)),
        Store(Addr(0), 112, 8, Addr(2)),
        Syscall("io_uring_setup", (Const(1), Addr(0)), may_fail=True),
    ),
)
_I386 = Program(attack=(Syscall("getpid", abi=Abi.I386, entry=Entry.INT80, may_fail=True),))
_X32 = Program(attack=(Syscall("getpid", abi=Abi.X32, may_fail=True),))

_PROGRAMS = {
    Need.I386: _I386,
    Need.X32: _X32,
    Need.IO_URING: _SETUP,
    Need.SQPOLL: _SQPOLL,
    Need.NO_MMAP: _NO_MMAP,
}
_MEANING = {
    Need.I386: "architecture: no 32-bit system calls here (int 0x80)",
    Need.X32: "kernel: x32 system calls are not built in or switched off",
    Need.IO_URING: "kernel: io_uring is not available",
    Need.NO_MMAP: "kernel: io_uring with IORING_SETUP_NO_MMAP is not available",
    Need.SQPOLL: "kernel: io_uring with IORING_SETUP_SQPOLL is not available",
}


class Needs:
    """What is lacking in one posture, by need; asked once."""

    def __init__(self, pool: Pool, control: ConfigSpec) -> None:
        arms = [
            Arm(ProgramSpec(program), control, control, 1_000_000) for program in _PROGRAMS.values()
        ]
        results = pool.run(arms)
        self.lacking: dict[Need, str] = {}
        self.only_here: dict[str, str] = {}
        """By the id of a variant: why it works on another kernel only, as was tried."""
        for need, result in zip(_PROGRAMS, results, strict=True):
            trouble = _answer(result)
            if trouble:
                self.lacking[need] = f"{_MEANING[need]} ({trouble})"
        truth = next((one.truth for one in results if isinstance(one, Result)), None)
        for need in Need:
            if need.value in CAPABILITY_NUMBERS and not _has(truth, need.value):
                self.lacking[need] = f"capability: this posture does not have {need.value}"
        for need in (Need.SHELL, Need.LOADER, Need.TIME_NAMESPACE):
            if not pool.first.has(need.value):
                self.lacking[need] = f"system: there is no {need.value} here"
        if not pool.first.hello.many_ids:
            self.lacking[Need.MANY_IDS] = "identity: an ordinary user's sandbox maps one id only"
        if control.uid != 0:
            self.lacking[Need.USER_0] = "identity: this posture is not user 0 of its namespace"
        pattern = core_pattern(pool.first.read)
        if pattern.startswith("|") or "/" in pattern:
            self.lacking[Need.CORE_FILES] = f"kernel: core files go to {pattern!r}"
        if pool.first.read("/proc/sys/dev/tty/legacy_tiocsti") == "0":
            self.lacking[Need.TIOCSTI] = "kernel: dev.tty.legacy_tiocsti is 0"

    def unmet(self, variant: Variant) -> str | None:
        """Why a variant cannot work here, if a probe says so."""
        if variant.needs.isdisjoint(self.lacking):
            return self.only_here.get(variant.id)
        reasons = [self.lacking[need] for need in sorted(variant.needs) if need in self.lacking]
        return "; ".join(reasons)


def core_pattern(read: Callable[[str], str | None]) -> str:
    """Of the machine whose files ``read`` reads."""
    found = read("/proc/sys/kernel/core_pattern")
    return "|" if found is None else found


def _answer(result: Result | str) -> str:
    """Empty if the probe's only call worked, else how it failed."""
    if isinstance(result, str):
        return result
    record = result.records[-1]
    if record.state is not RecordState.DONE:
        return f"signal {result.signal}"
    return os.strerror(record.error) if record.error else ""


def _has(truth: Truth | None, capability: str) -> bool:
    return truth is not None and bool(truth.effective >> CAPABILITY_NUMBERS[capability] & 1)
