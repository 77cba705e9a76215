"""Each answer in a stack with each other: the kernel does what our simulator says of both.

The call is made by a second thread, so that what kills a thread is told from what kills a process,
and SIGSYS has a handler that leads nowhere, so that a trap is told from both.
"""

import signal
from collections.abc import Iterator

import pytest
from seccomp_answers import NO_ANSWER, NOWHERE, PASSES

from attacks.program import Addr, Blob, Const, Program, Store, Syscall, Wait
from evaluator.sandbox import Sandbox
from evaluator.wire import RecordState, Result
from mitigations.bpf import Filter, decide_stack
from mitigations.classic import Action
from mitigations.x86_64 import AUDIT_ARCH_X86_64, NUMBERS

from engine import answers, call, config, run

GETPID = NUMBERS["x86_64"]["getpid"]
# Two of each kind that carries data, for of equals the newest counts.
ANSWERS = (
    Action.KILL_PROCESS,
    Action.KILL_THREAD,
    Action.TRAP,
    Action.ERRNO | 1,
    Action.ERRNO | 2,
    Action.USER_NOTIF,
    Action.TRACE | 1,
    Action.TRACE | 2,
    Action.LOG,
    Action.ALLOW,
    0x12340000,  # of no action
    0x7FFE0000,
)
_THREAD = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000  # CLONE_VM, FS, FILES, SIGHAND, THREAD
_PATIENCE_US, _TIMEOUT_US = 200_000, 5_000_000
DIES, TRAPPED, THREAD_DIES = "the process dies", "the trap is caught", "the thread dies"

CALL_IN_THREAD = Program(
    blobs=(Blob(NOWHERE, 64), Blob(b"", 8)),
    setup=(call("rt_sigaction", signal.SIGSYS, Addr(0), 0, 8),),
    attack=(
        Syscall(
            "clone",
            (Const(_THREAD),),
            body=(call("getpid", may_fail=True), Store(Addr(1), 0, 4, Const(1))),
        ),
        Wait(Addr(1), bound_us=_PATIENCE_US, value=Const(0)),
    ),
)


def seen(result: Result) -> str:
    """What became of the call of the second thread."""
    assert result.ok, result.trouble
    _, _, made, _, waited = result.records
    if result.signal == signal.SIGSEGV:
        return TRAPPED
    if result.signal == signal.SIGSYS:
        return DIES
    if made.state is not RecordState.DONE:
        return THREAD_DIES if waited.state is RecordState.TIMEOUT else f"signal {result.signal}"
    return f"errno {made.error}" if made.error else PASSES


def expected(value: int) -> str:
    match Action.of(value):
        case Action.KILL_PROCESS:
            return DIES
        case Action.KILL_THREAD:
            return THREAD_DIES
        case Action.TRAP:
            return TRAPPED
        case Action.ERRNO:
            return f"errno {value & 0xFFFF}"
        case action:
            return PASSES if action.allows else NO_ANSWER


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as one:
        yield one


@pytest.mark.parametrize("newest", ANSWERS, ids=hex)
def test_any_two_answers_in_a_stack(sandbox: Sandbox, newest: int) -> None:
    wrong = {}
    for values in ((newest,), *((oldest, newest) for oldest in ANSWERS)):
        programs = [answers([GETPID], value) for value in values]
        stack = [Filter.decode(program) for program in programs]
        (value,) = decide_stack(stack, AUDIT_ARCH_X86_64, GETPID, (0,) * 6).possible
        assert value is not None
        (result,) = run(sandbox, CALL_IN_THREAD, config(*programs), timeout_us=_TIMEOUT_US)
        if seen(result) != expected(value):
            wrong[values] = (seen(result), expected(value))
    assert wrong == {}
