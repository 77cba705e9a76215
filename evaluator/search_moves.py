"""What a search does to a program that the filters stop: one call made otherwise, or all of it.

Only calls that are denied are touched.  A move is one of the rules of ``attacks.rewrites`` and
``attacks.moves``, or arguments that the filters let pass (``evaluator.fitting``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from msgspec import Struct

from attacks.errors import AttackError
from attacks.family import Assumption, Technique, Variant
from attacks.kernel import Kernel
from attacks.moves import MOVES, supervised
from attacks.program import Program, Syscall
from attacks.recorder import Result
from attacks.replay import Made, Rule, replay
from attacks.rewrites import REWRITES, Rewrite
from evaluator import predict
from evaluator.fitting import fits, fitted, in_words
from evaluator.outline import attack_ops, known_args
from evaluator.wire import call_number
from mitigations import x86_64
from mitigations.bpf import Decision, Filter
from mitigations.classic import Action

_ASKS = (Action.TRACE, Action.USER_NOTIF)
_WIDE = "The kernel does not read these bits, and with them the filter lets it pass"


class Move(Struct, frozen=True):
    """One step from a program to another one of the same effect."""

    name: str
    """As it shows in the id of what it leads to; behind a colon the call that it is about."""
    technique: Technique
    why: str
    apply: Callable[[Variant], Program | None]


class Denied(Struct, frozen=True):
    """A call of an attack that the filters do not let pass."""

    slot: int
    op: Syscall
    decision: Decision

    @property
    def asks(self) -> bool:
        """The filters leave it to a supervisor."""
        return self.decision.action in _ASKS


def denied(program: Program, filters: Sequence[Filter], insn: int) -> list[Denied]:
    """The calls that have to be made otherwise, by all that is known before a run."""
    layout = program.layout()
    found: list[Denied] = []
    for slot, op in attack_ops(program):
        if not isinstance(op, Syscall) or (op.may_fail and not op.decisive):
            continue
        decision = predict.decide(op, known_args(op, layout), filters, insn)
        if not decision.allows and not decision.depends:
            found.append(Denied(slot, op, decision))
    return found


def named(program: Program, call: str, filters: Sequence[Filter], insn: int) -> list[Denied]:
    """The calls of that name (``i386:open``), as those that turned out to be stopped."""
    return [
        Denied(slot, op, predict.decide(op, [None] * len(op.args), filters, insn))
        for slot, op in attack_ops(program)
        if isinstance(op, Syscall) and f"{op.abi.value}:{op.name}" == call
    ]


def moves(variant: Variant, stopped: Sequence[Denied], filters: Sequence[Filter]) -> Iterator[Move]:
    """All moves from a program, given its calls that are stopped, in their order."""
    if not stopped:
        return
    yield from _of_call(stopped[0], (stopped[0].slot,))
    if len(stopped) > 1:
        yield from _of_call(stopped[0], tuple(one.slot for one in stopped))
    yield from _fitting(variant.program, stopped[0], filters)
    asked = [one for one in stopped if one.asks]
    if asked:
        yield from map(_whole, _supervised(asked).values())
    for rule in REWRITES.values():
        if rule.call is None and rule.assumption is Assumption.NONE:
            yield _whole(rule)


def _of_call(first: Denied, slots: tuple[int, ...]) -> Iterator[Move]:
    about = "" if first.op.decisive else f":{first.op.name}"
    for rule in (*REWRITES.values(), *MOVES.values()):
        if rule.call is not None:
            name = f"{rule.name}{':all' if len(slots) > 1 else about}"
            yield Move(name, rule.technique, rule.why, _applied(_only(rule.call, slots)))


def _only(rule: Rule, slots: Collection[int]) -> Rule:
    """The rule for the calls at these slots, and for no others."""

    def one(k: Kernel, call: Made) -> Result | None:
        return rule(k, call) if call.slot in slots else None

    return one


def _fitting(program: Program, stopped: Denied, filters: Sequence[Filter]) -> Iterator[Move]:
    about = "" if stopped.op.decisive else f":{stopped.op.name}"
    for place, changes in enumerate(fits(stopped.op, program.layout(), filters)):
        name = f"fit{place + 1 if place else ''}{about}"
        rule = fitted(stopped.slot, changes)
        why = f"{_WIDE} ({in_words(changes)})."
        yield Move(name, Technique.WIDE_ARGUMENT, why, _applied(rule, native=False))


def _applied(rule: Rule, *, native: bool = True) -> Callable[[Variant], Program | None]:
    def apply(variant: Variant) -> Program | None:
        try:
            return replay(variant.program, variant.effect, rule, native=native)
        except AttackError:
            return None  # too many operations, or too much memory

    return apply


def _supervised(asked: Sequence[Denied]) -> dict[str, Rewrite]:
    return supervised(call_number(asked[0].op, x86_64.number), len(asked))


def _whole(rule: Rewrite) -> Move:
    def apply(variant: Variant) -> Program | None:
        try:
            return rule.rewrite(variant)
        except AttackError:
            return None

    return Move(rule.name, rule.technique, rule.why, apply)
