"""What an arm was refused and the control was not, by the answers alone.

For layers that are no filters: nobody simulates them, so their answers have to be compared.
"""

from __future__ import annotations

from typing import NamedTuple

from attacks.program import Abi, Load, Program, Store, Syscall
from evaluator import predict
from evaluator.wire import Record, RecordState, Result

_ERRNOS = 4096
_REFUSALS = ("EPERM", "EACCES", "EXDEV")


class Difference(NamedTuple):
    """The first operation that the two arms got different answers to."""

    slot: int
    """Where the answer is."""
    call: str
    """Its name; an operation of a ring is called as its opcode is."""
    abi: Abi
    answer: str
    ends: bool
    """Whether the program ends by it, or the effect should have come of it."""
    decisive: bool

    @property
    def not_permitted(self) -> bool:
        return self.answer in _REFUSALS


def difference(program: Program, control: Result, arm: Result) -> Difference | None:
    """What an arm was refused and the control was not: a call, or an operation of a ring.

    One that the program ends by, or that causes the effect, rather than one that may fail; and of
    those one that was not permitted, as others may be due to it (nobody is left to be traced).
    """
    found: list[Difference] = []
    submitted: Syscall | Store | None = None
    decisive = predict.decisive_calls(program)
    for slot, (section, op) in enumerate(program.flatten()):
        if section != "attack":
            continue
        left, right = control.records[slot], arm.records[slot]
        done = right.state is RecordState.DONE
        if isinstance(op, Syscall):
            submitted = op if op.opcode else submitted
            if done and right.error and right.error != left.error:
                answer = predict.errno_name(right.error)
                same = op.decisive or (op.abi, op.name) in decisive
                last = op.decisive or not op.may_fail
                found.append(Difference(slot, op.name, op.abi, answer, last, same))
        elif isinstance(op, Store):
            submitted = op if op.decisive else submitted
        elif isinstance(op, Load) and submitted is not None and done:
            error = _of_completion(right)
            if error and error != _of_completion(left):
                found.append(_of_ring(slot, submitted, predict.errno_name(error)))
    ends = [one for one in found if one.ends] or found
    return next((one for one in ends if one.not_permitted), ends[0] if ends else None)


def _of_completion(record: Record) -> int:
    """The errno in ``res`` of struct io_uring_cqe, as it was loaded; 0 if there is none."""
    error = (1 << 32) - record.result
    return error if record.state is RecordState.DONE and 0 < error < _ERRNOS else 0


def _of_ring(slot: int, submitted: Syscall | Store, answer: str) -> Difference:
    if isinstance(submitted, Store):  # a kernel thread took it
        return Difference(slot, "io_uring", Abi.X86_64, answer, ends=True, decisive=True)
    called, abi = submitted.opcode, submitted.abi
    return Difference(slot, called, abi, answer, ends=True, decisive=submitted.decisive)
