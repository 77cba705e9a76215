"""The start-up check of a program that filters itself, as Elasticsearch and OpenSearch make it.

Before it installs its filter, the program makes sure that the calls are what they claim to be: an
operation that nobody has must be unknown (ENOSYS or EINVAL).  Under a profile that answers EPERM it
concludes that there is no seccomp, and says that its system call filters could not be installed.

The check is a program of ``attacks.program``, made natively in the sandbox.  What it was answered
is read from the trace; whether that is enough is decided here, as the program itself would.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from enum import StrEnum, auto

from msgspec import Struct

from attacks.consts import NULL, PR_SET_NO_NEW_PRIVS
from attacks.program import Addr, Blob, Const, Operation, Program, Store, Syscall
from evaluator import predict
from evaluator.errors import HarnessError
from evaluator.pool import Arm, Pool
from evaluator.wire import ConfigSpec, ProgramSpec, Record, RecordState, Result, signal_name
from mitigations import classic, x86_64
from mitigations.bpf import Filter
from mitigations.classic import Action, Instruction

_BOGUS = 0xF7A46A5C
_SET_MODE_FILTER = Const(1, "SECCOMP_SET_MODE_FILTER")
_TSYNC = Const(1, "SECCOMP_FILTER_FLAG_TSYNC")
_PR_GET_SECCOMP = Const(21, "PR_GET_SECCOMP")
_PR_SET_SECCOMP = Const(22, "PR_SET_SECCOMP")
_PR_SET_NO_NEW_PRIVS = Const(int(PR_SET_NO_NEW_PRIVS), PR_SET_NO_NEW_PRIVS.text)
_PR_GET_NO_NEW_PRIVS = Const(39, "PR_GET_NO_NEW_PRIVS")
_MODE_FILTER = Const(2, "SECCOMP_MODE_FILTER")
_BOGUS_CONST = Const(_BOGUS, f"{_BOGUS:#x}")
_NOT_THERE = ("ENOSYS", "EINVAL")
_STARTING = ("fork", "vfork", "execve", "execveat")
_EACCES = 13
_WITNESS = 1233
"""An errno that no kernel has: step 3 has shown that the candidate answers another one."""
_PROG = 1
"""The blob of the struct sock_fprog; the one before holds the instructions."""
_TIMEOUT_US = 5_000_000


class Part(StrEnum):
    """What a step is for."""

    PROBE = auto()
    NO_NEW_PRIVS = auto()
    INSTALL = auto()
    FALLBACK = auto()
    CONFIRM = auto()
    WITNESS = auto()
    """Not of the program's: whether its filter answers, as the program believes from here on."""


class Verdict(StrEnum):
    """What the program makes of an answer."""

    ACCEPTED = "accepted"
    FALLS_BACK = "falls back"
    NOT_NEEDED = "not needed"
    FAILED = "failed"
    NOT_REACHED = "not reached"


class Step(Struct, frozen=True):
    """A call of the check; ``accepted`` are the answers with which the program goes on."""

    number: int
    part: Part
    call: Syscall
    text: str
    accepted: tuple[str, ...]


class StepRecord(Struct, frozen=True):
    """A step as it went; ``answer`` is empty where the call was not made."""

    number: int
    part: Part
    call: str
    accepted: tuple[str, ...]
    answer: str
    verdict: Verdict


class Check(Struct, frozen=True):
    """One run of the check."""

    works: bool
    by: str
    """The call that installed the filter: ``seccomp``, ``prctl``, or neither."""
    reason: str
    """The call that the program stops at, and its answer; empty if it works."""
    steps: tuple[StepRecord, ...]
    filters: int | None
    """``Seccomp_filters`` of /proc/PID/status before the first step; None if it is not told."""

    @property
    def failed(self) -> StepRecord | None:
        return next((one for one in self.steps if one.verdict is Verdict.FAILED), None)


def _prctl(option: Const, *args: Const | Addr) -> tuple[str, tuple[Const | Addr, ...]]:
    return "prctl", (option, *args, *[Const(0)] * (4 - len(args)))


def _seccomp(*args: Const | Addr) -> tuple[str, tuple[Const | Addr, ...]]:
    return "seccomp", (*args, *[Const(0)] * (3 - len(args)))


# With 0 for PR_SET_SECCOMP the program goes on as well, though no kernel answers that to NULL.
_ALL = (
    (Part.PROBE, _seccomp(_BOGUS_CONST), _NOT_THERE),
    (Part.PROBE, _seccomp(_SET_MODE_FILTER, _BOGUS_CONST), _NOT_THERE),
    (Part.PROBE, _prctl(_BOGUS_CONST), _NOT_THERE),
    (Part.PROBE, _prctl(_PR_GET_NO_NEW_PRIVS), ("0", "1")),
    (Part.PROBE, _prctl(_PR_GET_SECCOMP), ("0", "2")),
    (Part.PROBE, _prctl(_PR_SET_SECCOMP, _MODE_FILTER, Const(0, NULL.text)), ("EFAULT", "0")),
    (Part.NO_NEW_PRIVS, _prctl(_PR_SET_NO_NEW_PRIVS, Const(1)), ("0",)),
    (Part.NO_NEW_PRIVS, _prctl(_PR_GET_NO_NEW_PRIVS), ("1",)),
    (Part.INSTALL, _seccomp(_SET_MODE_FILTER, _TSYNC, Addr(_PROG)), ("0",)),
    (Part.FALLBACK, _prctl(_PR_SET_SECCOMP, _MODE_FILTER, Addr(_PROG)), ("0",)),
    (Part.CONFIRM, _prctl(_PR_GET_SECCOMP), ("2",)),
    (Part.WITNESS, _prctl(_BOGUS_CONST), (f"errno {_WITNESS}",)),
)


@functools.cache
def steps(*, sets_no_new_privs: bool = True) -> tuple[Step, ...]:
    """The check; without ``sets_no_new_privs`` it leaves out what the kernel asks for."""
    found = (
        Step(number, part, Syscall(*call, may_fail=True), _text(*call), accepted)
        for number, (part, call, accepted) in enumerate(_ALL, 1)
    )
    return tuple(one for one in found if sets_no_new_privs or one.part is not Part.NO_NEW_PRIVS)


def _text(name: str, args: Sequence[Const | Addr]) -> str:
    shown = ["&filter" if isinstance(one, Addr) else one.text or str(one.value) for one in args]
    while len(shown) > 1 and shown[-1] == "0":
        shown.pop()
    return f"{name}({', '.join(shown)})"


def program(wanted: Sequence[Step]) -> Program:
    """The calls of these steps, one after the other, whatever they are answered."""
    own = _own_filter()
    head = struct.pack("<H6xQ", len(own) // 8, 0)
    to_filter = Store(Addr(_PROG), 8, 8, Addr(0))
    calls: tuple[Operation, ...] = (to_filter, *(one.call for one in wanted))
    blobs = (Blob(own, len(own), 8, "instructions"), Blob(head, len(head), 8, "filter"))
    return Program(blobs=blobs, attack=calls)


def _own_filter() -> bytes:
    """No call that starts a program, no other table; and an answer that only this filter gives."""
    equal, above = (classic.JMP | test | classic.K for test in (classic.JEQ, classic.JGT))
    number = x86_64.NUMBERS["x86_64"]
    starting = [number[name] for name in _STARTING]
    denied = len(starting) + 4  # from the test of the number on, to the denial
    tests = [Instruction(equal, denied - n, 0, nr) for n, nr in enumerate(starting, 1)]
    return classic.pack(
        [
            Instruction(classic.LOAD_WORD, 0, 0, 4),
            Instruction(equal, 0, denied + 2, x86_64.AUDIT_ARCH_X86_64),
            Instruction(classic.LOAD_WORD, 0, 0, 0),
            Instruction(above, denied, 0, x86_64.X32_BIT - 1),
            *tests,
            Instruction(equal, 0, 2, number["prctl"]),
            Instruction(classic.LOAD_WORD, 0, 0, 16),  # the lower half of its first argument
            Instruction(equal, 2, 0, _BOGUS),
            Instruction(classic.RETURN_K, 0, 0, Action.ALLOW),
            Instruction(classic.RETURN_K, 0, 0, Action.ERRNO | _EACCES),
            Instruction(classic.RETURN_K, 0, 0, Action.ERRNO | _WITNESS),
        ]
    )


def judge(wanted: Sequence[Step], answers: Sequence[str]) -> tuple[StepRecord, ...]:
    """What the program makes of its answers, one for each step: where it falls back, and stops."""
    found: list[StepRecord] = []
    stopped = fell_back = False
    for step, answer in zip(wanted, answers, strict=True):
        verdict = _verdict(step, answer, stopped=stopped, fell_back=fell_back)
        stopped = stopped or verdict is Verdict.FAILED
        fell_back = fell_back or verdict is Verdict.FALLS_BACK
        made = verdict not in (Verdict.NOT_REACHED, Verdict.NOT_NEEDED)
        found.append(
            StepRecord(
                step.number, step.part, step.text, step.accepted, answer if made else "", verdict
            )
        )
    return tuple(found)


def _verdict(step: Step, answer: str, *, stopped: bool, fell_back: bool) -> Verdict:
    if stopped:
        return Verdict.NOT_REACHED
    if step.part is Part.FALLBACK and not fell_back:
        return Verdict.NOT_NEEDED
    if answer in step.accepted:
        return Verdict.ACCEPTED
    survives = answer and not answer.startswith("SIG")
    return Verdict.FALLS_BACK if step.part is Part.INSTALL and survives else Verdict.FAILED


def check_of(records: tuple[StepRecord, ...], filters: int | None) -> Check:
    """What came of the steps as a whole."""
    said = {one.part: one for one in records}
    failed = next((one for one in records if one.verdict is Verdict.FAILED), None)
    by = "prctl" if said[Part.INSTALL].verdict is Verdict.FALLS_BACK else "seccomp"
    return Check(not failed, "" if failed else by, _reason(failed), records, filters)


def _reason(failed: StepRecord | None) -> str:
    if failed is None:
        return ""
    if failed.part is Part.WITNESS:
        return "the program believes that its filter is in force, and it is not"
    wanted = " or ".join(failed.accepted)
    return f"{failed.call} answers {failed.answer or 'nothing'}, not {wanted}"


def run(
    pool: Pool, config: ConfigSpec, control: ConfigSpec, *, sets_no_new_privs: bool = True
) -> Check:
    """The check under a configuration; ``HarnessError`` if it could not be made at all.

    ``control`` is the posture alone.  Whether ``config`` is in force is the caller's to see to.
    """
    every = steps(sets_no_new_privs=sets_no_new_privs)
    first = tuple(one for one in every if one.part is not Part.FALLBACK)
    result = _result(pool, first, config, control)
    answers = dict(zip(first, _answers(result), strict=True))
    records = judge(every, [answers.get(one, "") for one in every])
    # A program has no branches: the way with the fallback is another one, and begins alike.
    if any(one.verdict is Verdict.FALLS_BACK for one in records):
        result = _result(pool, every, config, control)
        records = judge(every, _answers(result))
    return check_of(records, result.truth.filters if result.truth.known else None)


def _result(pool: Pool, wanted: Sequence[Step], config: ConfigSpec, control: ConfigSpec) -> Result:
    (result,) = pool.run([Arm(ProgramSpec(program(wanted)), config, control, _TIMEOUT_US)])
    if isinstance(result, str):
        raise HarnessError(f"the check of a self-filtering program could not be run: {result}")
    _agree(wanted, result, config, pool.first.hello.syscall_insn)
    return result


def _agree(wanted: Sequence[Step], result: Result, config: ConfigSpec, insn: int) -> None:
    """The kernel answers what the simulator says, up to where the program's own filter answers."""
    filters = [Filter.decode(one.program) for one in config.filters]
    for one in predict.judged(program(wanted), result, filters, insn):
        if wanted[one.slot - 1].part is Part.WITNESS:
            continue
        found = predict.contradiction(one, result.records[one.slot], result, in_body=False)
        if found:
            raise HarnessError(f"simulator and kernel disagree in step {one.slot}: {found}")


def _answers(result: Result) -> list[str]:
    """What each step was answered; the first record is that of the store."""
    return [_answer(one, result) for one in result.records[1:]]


def _answer(record: Record, result: Result) -> str:
    """What a call was answered, in words; empty if it was not made or never came back."""
    if record.state is RecordState.DONE:
        return predict.errno_name(record.error) if record.error else str(record.result)
    died = record.state is RecordState.STARTED and result.signal
    return f"{signal_name(result.signal)} (killed)" if died else ""
