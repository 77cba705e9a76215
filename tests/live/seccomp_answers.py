"""What the kernel answers to calls under filters, at volume and without any of them being made.

The filters are loaded above a sentinel that answers an errno to everything: the strictest answer
counts, and of equals the newest, so whatever is stricter than an errno, or an errno of its own, is
seen as it is.  What is less strict (ALLOW, LOG, TRACE, USER_NOTIF) shows as the sentinel's errno.
The sentinel lets through a few calls that do nothing whatever their arguments: there TRACE and
USER_NOTIF, which nobody waits for, show as ENOSYS and the others as a result.
A signal handler that leads nowhere tells TRAP from a kill.
"""

import errno
import signal
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from attacks.program import Abi, Addr, Blob, Const, Entry, Program, Syscall
from evaluator.sandbox import Sandbox
from evaluator.sentinel import SENTINEL_ERRNO
from evaluator.wire import (
    ProgramFlag,
    ProgramSpec,
    RecordState,
    Request,
    Result,
    encode_program,
)
from mitigations import x86_64
from mitigations.bpf import severity
from mitigations.classic import MAX_ERRNO, SECCOMP_DATA_BYTES, Action

from engine import PARENT, config, instructions

HARMLESS = {
    Abi.X86_64: tuple(x86_64.NUMBERS["x86_64"][name] for name in ("getpid", "gettid")),
    Abi.I386: tuple(x86_64.NUMBERS["i386"][name] for name in ("getpid", "gettid")),
    Abi.X32: (),  # a kernel without x32 answers ENOSYS to all of it
}
LOADS = (Abi.X86_64, x86_64.NUMBERS["x86_64"]["seccomp"])
"""The sentinel and all filters but the newest let it pass, for more filters are to come."""
MOST_CALLS = 500
"""In one program."""
_ARCH, _NR, _POINTER = 4, 0, 8
_LD, _JEQ, _AND, _OR, _RSH, _RETURN, _RETURN_A = 0x20, 0x15, 0x54, 0x44, 0x74, 0x06, 0x16
_SA_RESTORER = 0x04000000
NOWHERE = struct.pack("<4Q", 0x10, _SA_RESTORER, 0, 0)
"""A handler for SIGSYS, where nothing is: whoever is trapped dies of another signal."""
_TIMEOUT_US = 2_000_000
PASSES, NO_ANSWER = "passes", f"errno {errno.ENOSYS}"
_TRAPPED, _KILLED = f"signal {signal.SIGSEGV:d}", f"signal {signal.SIGSYS:d}"
_HELD = f"errno {SENTINEL_ERRNO}"


class Call(NamedTuple):
    """A call as a program makes it, and what a filter sees of it."""

    abi: Abi
    nr: int
    args: tuple[int, ...]
    arch: int
    seen_args: tuple[int, ...]


def call_of(abi: Abi, nr: int, args: Sequence[int]) -> Call:
    """The runner's int 0x80 passes the lower halves of the arguments."""
    keep = 0xFFFFFFFF if abi is Abi.I386 else (1 << 64) - 1
    return Call(abi, nr, tuple(args), x86_64.arch(abi), tuple(arg & keep for arg in args))


def shown(call: Call, value: int) -> str:
    """How an answer of the filters shows above the sentinel."""
    if call.nr not in HARMLESS[call.abi] and severity(value) > severity(Action.ERRNO):
        return _HELD
    match Action.of(value):
        case Action.KILL_PROCESS | Action.KILL_THREAD:
            return _KILLED
        case Action.TRAP:
            return _TRAPPED
        case Action.ERRNO:
            number = min(value & 0xFFFF, MAX_ERRNO)
            return f"errno {number}" if number else "result 0"
        case action:
            return PASSES if action.allows else NO_ANSWER


def ends(call: Call, value: int) -> bool:
    """Whether that answer ends the process, so that it can be the last one of a program only."""
    return shown(call, value) in (_KILLED, _TRAPPED)


class Kernel:
    """A runner of its own, asked about filters."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        sandbox.define_config(1, config())

    def pointer(self, abi: Abi) -> int:
        """What a filter sees as the instruction pointer of a call: a filter that answers it."""
        found = 0
        for shift in range(0, 32, 8):
            lines = ((_LD, 0, 0, _POINTER), (_RSH, 0, 0, shift), (_AND, 0, 0, 0xFF))
            filter_ = instructions(*lines, (_OR, 0, 0, Action.ERRNO | 0x100), (_RETURN_A, 0, 0, 0))
            (answer,) = self.answers([filter_], [[call_of(abi, 1, (0,) * 6)]])[0]
            found |= (int(answer.removeprefix("errno ")) & 0xFF) << shift
        return found

    def answers(
        self, filters: Sequence[bytes], programs: Sequence[Sequence[Call]]
    ) -> list[list[str]]:
        """For each program its answers, up to the one that ends it."""
        self._sandbox.define_config(0, config(_sentinel(), *filters))
        for number, calls in enumerate(programs):
            self._sandbox.send(encode_program(number, _program(calls), _as_said))
        asked = [Request(n, n, 0, 1, _TIMEOUT_US) for n in range(len(programs))]
        results = list(self._sandbox.run(asked))
        for result in results:
            assert result.ok, result.trouble
            assert result.truth.filters == 1 + len(filters)
        return [list(_answers(result)) for result in results]


def _sentinel() -> bytes:
    native, i386 = HARMLESS[Abi.X86_64], HARMLESS[Abi.I386]
    return instructions(
        (_LD, 0, 0, _ARCH),
        (_JEQ, 0, 5, x86_64.AUDIT_ARCH_X86_64),
        (_LD, 0, 0, _NR),
        (_JEQ, 7, 0, native[0]),
        (_JEQ, 6, 0, native[1]),
        (_JEQ, 5, 0, LOADS[1]),
        (_RETURN, 0, 0, Action.ERRNO | SENTINEL_ERRNO),
        (_LD, 0, 0, _NR),
        (_JEQ, 2, 0, i386[0]),
        (_JEQ, 1, 0, i386[1]),
        (_RETURN, 0, 0, Action.ERRNO | SENTINEL_ERRNO),
        (_RETURN, 0, 0, Action.ALLOW),
    )


def _as_said(_: str, name: str) -> int:
    return int(name)


def _program(calls: Sequence[Call]) -> ProgramSpec:
    """All calls in turn; SIGSYS is caught by a handler at an address where nothing is."""
    assert len(calls) <= MOST_CALLS
    assert LOADS not in {(call.abi, call.nr) for call in calls}
    catch = Syscall(
        str(x86_64.NUMBERS["x86_64"]["rt_sigaction"]),
        (Const(signal.SIGSYS), Addr(0), Const(0), Const(8)),
    )
    what = Program(
        blobs=(Blob(NOWHERE, SECCOMP_DATA_BYTES),),
        setup=(catch,),
        attack=tuple(
            Syscall(
                str(call.nr),
                tuple(Const(arg) for arg in call.args),
                call.abi,
                Entry.INT80 if call.abi is Abi.I386 else Entry.SYSCALL,
                may_fail=True,
            )
            for call in calls
        ),
    )
    # No clone passes the filters: the subject loads them for itself.
    return ProgramSpec(what, (PARENT,), flags=ProgramFlag.DIRECT)


def _answers(result: Result) -> Iterator[str]:
    for record in result.records[1:]:
        if record.state is not RecordState.DONE:
            yield f"signal {result.signal}"
            return
        if record.error:
            yield f"errno {record.error}"
        else:
            yield PASSES if record.result else "result 0"
