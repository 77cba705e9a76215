"""Mechanisms: what a filter could tell apart in a variant, and the filter that lets only it pass.

Two variants are one mechanism if they make the same calls through the same tables and give the
decisive one the same constants: then no filter stops one and not the other.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from attacks.arguments import KINDS
from attacks.family import Variant
from attacks.program import Abi, Const, Syscall
from evaluator import predict
from evaluator.outline import attack_ops
from evaluator.wire import call_number
from mitigations import x86_64
from mitigations.classic import (
    JA,
    JEQ,
    JMP,
    LOAD_WORD,
    RETURN_K,
    Action,
    Instruction,
    K,
    pack,
)

_ARCH, _NR, _ARGS = 4, 0, 16
_ADDRESSES = frozenset({"path", "ptr"})
_LOW = (1 << 32) - 1
_ENDS = frozenset({(Abi.X86_64, 60), (Abi.X86_64, 231)})  # exit, exit_group


class Mechanism(Struct, frozen=True):
    """The calls of an attack as (ABI, number), and the constants of the decisive one by place."""

    calls: frozenset[tuple[Abi, int]]
    needed: frozenset[tuple[Abi, int]]
    """Those up to the decisive operation: without one of them there is no effect."""
    decisive: tuple[Abi, int] | None
    """None where memory or code does it, or where the same call is made for something else too."""
    opcodes: str
    """What a ring is asked to do, which no filter sees."""
    constants: tuple[tuple[int, int], ...]


def mechanism(variant: Variant) -> Mechanism:
    """What a filter could know of a variant before it runs."""
    made = [op for _, op in attack_ops(variant.program) if isinstance(op, Syscall)]
    entries = [(op.abi, call_number(op, x86_64.number)) for op in made]
    decisive = next((op for op in made if op.decisive), None)
    opcodes = " ".join(op.opcode for op in made if op.opcode)
    until = predict.until_decisive(variant.program)
    needed = frozenset(
        (op.abi, call_number(op, x86_64.number)) for op in until if isinstance(op, Syscall)
    )
    calls = frozenset(entries)
    if decisive is None:
        return Mechanism(calls, needed, None, opcodes, ())
    entry = entries[made.index(decisive)]
    if entries.count(entry) > 1:
        return Mechanism(calls, needed, None, opcodes, ())
    return Mechanism(calls, needed, entry, opcodes, _constants(decisive))


def _constants(op: Syscall) -> tuple[tuple[int, int], ...]:
    kinds = KINDS.get(op.name, ())
    return tuple(
        (index, arg.value & (1 << 64) - 1)
        for index, arg in enumerate(op.args)
        if isinstance(arg, Const) and (index >= len(kinds) or kinds[index] not in _ADDRESSES)
    )


def count(variants: Iterable[Variant]) -> int:
    """How many mechanisms there are among variants."""
    return len({mechanism(variant) for variant in variants if not variant.negative})


def letting_through(wanted: Mechanism) -> bytes:
    """A filter that answers EPERM to everything but the calls of one mechanism."""
    deny = Action.ERRNO | 1
    program = [Instruction(LOAD_WORD, 0, 0, _ARCH)]
    for arch in (x86_64.AUDIT_ARCH_X86_64, x86_64.AUDIT_ARCH_I386):
        compat = arch == x86_64.AUDIT_ARCH_I386
        calls = [one for one in wanted.calls if (one[0] is Abi.I386) == compat]
        # Who cannot end a thread stays multi-threaded, and unshare(2) refuses that.
        calls += [] if compat else sorted(_ENDS - wanted.calls)
        block = [Instruction(LOAD_WORD, 0, 0, _NR)]
        for entry in sorted(calls):
            allowed = _allowed(wanted, entry, deny, compat=compat)
            # The number fits: its own instructions; else on to the next.
            block.append(Instruction(JMP | JEQ | K, 0, len(allowed), entry[1]))
            block += allowed
        block.append(Instruction(RETURN_K, 0, 0, deny))
        program.append(Instruction(JMP | JEQ | K, 1, 0, arch))
        program.append(Instruction(JMP | JA, 0, 0, len(block)))
        program += block
    program.append(Instruction(RETURN_K, 0, 0, deny))
    return pack(program)


def _allowed(
    wanted: Mechanism, entry: tuple[Abi, int], deny: int, *, compat: bool
) -> list[Instruction]:
    """Ends in an answer, whatever the arguments are."""
    found: list[Instruction] = []
    for index, value in wanted.constants if entry == wanted.decisive else ():
        words = ((_ARGS + 8 * index, value & _LOW), (_ARGS + 8 * index + 4, value >> 32))
        for offset, word in words[:1] if compat else words:
            found.append(Instruction(LOAD_WORD, 0, 0, offset))
            found.append(Instruction(JMP | JEQ | K, 1, 0, word))
            found.append(Instruction(RETURN_K, 0, 0, deny))
    return [*found, Instruction(RETURN_K, 0, 0, Action.ALLOW)]
