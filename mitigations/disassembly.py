"""A filter as text: one line per instruction, numbers shown with the calls they stand for."""

from collections.abc import Sequence
from typing import NamedTuple

from mitigations import classic, x86_64
from mitigations.classic import Instruction

_ARGUMENTS = tuple(f"args[{index}].{half}" for index in range(6) for half in ("low", "high"))
FIELDS = ("nr", "arch", "ip.low", "ip.high", *_ARGUMENTS)
ARCHES = {x86_64.AUDIT_ARCH_X86_64: "x86_64", x86_64.AUDIT_ARCH_I386: "i386"}
TESTS = {classic.JEQ: "==", classic.JGT: ">", classic.JGE: ">=", classic.JSET: "&"}
OPERATORS = {
    classic.ADD: "+",
    classic.SUB: "-",
    classic.MUL: "*",
    classic.DIV: "/",
    classic.OR: "|",
    classic.AND: "&",
    classic.XOR: "^",
    classic.LSH: "<<",
    classic.RSH: ">>",
}


class _Known(NamedTuple):
    """What is certain before an instruction: the field that A holds, the arch already tested."""

    holds: str | None
    arch: int | None


def render(instructions: Sequence[Instruction]) -> list[str]:
    known = _propagate(instructions)
    width = len(str(len(instructions) - 1))
    return [
        f"{pc:{width}}  {_text(instruction, pc, known[pc])}"
        for pc, instruction in enumerate(instructions)
    ]


def _propagate(instructions: Sequence[Instruction]) -> list[_Known]:
    """One forward pass is enough, for jumps only go forward."""
    nothing = _Known(None, None)
    known: list[_Known | None] = [None] * (len(instructions) + 1)
    known[0] = nothing
    for pc, instruction in enumerate(instructions):
        here = known[pc] or nothing
        for branch, target in enumerate(classic.successors(instruction, pc)):
            if target > len(instructions):
                continue
            after = _after(instruction, here, taken=branch == 0)
            before = known[target]
            known[target] = after if before is None else _merge(before, after)
    return [each or nothing for each in known[:-1]]


def _merge(one: _Known, other: _Known) -> _Known:
    return _Known(
        one.holds if one.holds == other.holds else None,
        one.arch if one.arch == other.arch else None,
    )


def _after(instruction: Instruction, here: _Known, *, taken: bool) -> _Known:
    code, _, _, k = instruction
    if code == classic.LOAD_WORD:
        return here._replace(holds=_field(k))
    if code & 7 in (classic.LD, classic.ALU) or code == classic.MISC | classic.TXA:
        return here._replace(holds=None)
    if code == classic.JMP | classic.JEQ | classic.K and here.holds == "arch" and taken:
        return here._replace(arch=k)
    return here


def _field(offset: int) -> str:
    index, odd = divmod(offset, 4)
    return f"data[{offset}]" if odd or index >= len(FIELDS) else FIELDS[index]


def _text(instruction: Instruction, pc: int, known: _Known) -> str:
    code, _, _, k = instruction
    kind = code & 7
    if code == classic.LOAD_WORD:
        return f"A = {_field(k)}"
    if code in (classic.RETURN_K, classic.RETURN_A):
        return f"return {classic.answer_text(k) if code == classic.RETURN_K else 'A'}"
    if code == classic.JUMP:
        return f"goto {pc + 1 + k}"
    if code in classic.CONDITIONAL:
        return _conditional(instruction, pc, known)
    if kind == classic.ALU and code in classic.SECCOMP_CODES:
        operand = "X" if code & classic.X else f"{k:#x}"
        operator = OPERATORS.get(code & 0xF0)
        return f"A = A {operator} {operand}" if operator else "A = -A"
    return _move(instruction)


def _move(instruction: Instruction) -> str:
    code, _, _, k = instruction
    scratch, constant = f"scratch[{k}]", f"{k:#x}"
    moves = {
        classic.LD | classic.IMM: f"A = {constant}",
        classic.LDX | classic.IMM: f"X = {constant}",
        classic.LD | classic.MEM: f"A = {scratch}",
        classic.LDX | classic.MEM: f"X = {scratch}",
        classic.LD | classic.LEN: "A = sizeof(seccomp_data)",
        classic.LDX | classic.LEN: "X = sizeof(seccomp_data)",
        classic.ST: f"{scratch} = A",
        classic.STX: f"{scratch} = X",
        classic.MISC | classic.TAX: "X = A",
        classic.MISC | classic.TXA: "A = X",
    }
    return moves.get(code, f"unknown opcode {code:#04x} k={constant}")


def _conditional(instruction: Instruction, pc: int, known: _Known) -> str:
    code, jt, jf, k = instruction
    left = known.holds or "A"
    test = TESTS[code & 0xF0]
    right = "X" if code & classic.X else _constant(k, test, known)
    yes, no = pc + 1 + jt, pc + 1 + jf
    if jt == 0:
        return f"if not ({left} {test} {right}) goto {no}"
    otherwise = "" if jf == 0 else f" else goto {no}"
    return f"if {left} {test} {right} goto {yes}{otherwise}"


def _constant(value: int, test: str, known: _Known) -> str:
    if known.holds == "arch" and value in ARCHES:
        return ARCHES[value]
    if known.holds == "nr":
        arch = x86_64.AUDIT_ARCH_X86_64 if known.arch is None else known.arch
        abi = x86_64.abi_of(arch, value)
        call = None if abi is None or test == "&" else x86_64.name(abi, value)
        if call is not None:
            return f"{value:#x} (x32 {call})" if abi == "x32" else f"{value} ({call})"
    return f"{value:#x}"
