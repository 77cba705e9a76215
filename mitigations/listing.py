"""Filters written as text: tables of numbers, and the lines that ``disassembly`` writes.

Tables are what `seccomp-tools dump` prints (``0000: 0x20 0x00 0x00 0x00000004  A = arch``), the
initialisers of C that `tcpdump -dd` and `bpf_asm -c` print (``{ 0x20, 0, 0, 0x00000004 },``) and
what `tcpdump -ddd` prints, with or without their number before them (``32 0 0 4``).  Where the
numbers of the lines begin again at 0, another filter begins, newer than those before it.
"""

import errno
import re
from collections.abc import Callable, Sequence

from msgspec import Struct

from mitigations import classic, disassembly
from mitigations.candidate import ProfileError
from mitigations.classic import Action, Instruction
from mitigations.suggestion import quote

_NUMBER = r"(0[xX][0-9a-fA-F]{1,8}|\d{1,10})"
_FOUR = rf"{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}"
_DUMPED = re.compile(rf"\s*(\d{{1,5}}):\s+{_FOUR}(?:\s.*)?")
_IN_C = re.compile(
    rf"\s*\{{\s*{_NUMBER}\s*,\s*{_NUMBER}\s*,\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\}}\s*,?\s*"
)
_PLAIN = re.compile(rf"\s*{_FOUR}\s*")
_COUNT = re.compile(r"\s*(\d{1,5})\s*")
_OURS = re.compile(r"\s*(\d{1,5})  (\S.*)")
_LEFT_OUT = re.compile(r"\s*(?:line\s+CODE\s+JT\s+JF\s+K|=+|(?:#|//|;).*|)\s*", re.IGNORECASE)
_PSEUDO = re.compile(r"^# pseudo filter code start", re.MULTILINE)
_LARGEST = (0xFFFF, 0xFF, 0xFF, 0xFFFFFFFF)
_GOTO = r"goto (\d+)"
_TEST = r"(\S+(?:\[\d+\](?:\.\w+)?)?) (==|>=|>|&) (.+?)"
_IF = re.compile(rf"if {_TEST} {_GOTO}(?: else {_GOTO})?")
_IF_NOT = re.compile(rf"if not \({_TEST}\) {_GOTO}")
_OPERAND = re.compile(rf"{_NUMBER}(?: \([^()]*\))?")
_TESTS = {text: code for code, text in disassembly.TESTS.items()}
_OPERATORS = {text: code for code, text in disassembly.OPERATORS.items()}
_ARCHES = {text: number for number, text in disassembly.ARCHES.items()}
_SCRATCH = r"scratch\[(\d{1,2})\]"


class _Line(Struct, frozen=True):
    instruction: Instruction
    number: int | None
    """As the line gives it; None in a table without numbers."""


def is_listing(content: bytes) -> bool:
    """Whether the first line that is more than a header or a comment is an instruction."""
    text = content[: 1 << 16].decode(errors="replace")
    if _PSEUDO.search(text):
        return True
    lines = [line for line in text.splitlines() if not _LEFT_OUT.fullmatch(line)]
    first = lines[0] if lines else ""
    if _COUNT.fullmatch(first):
        return len(lines) > 1 and _PLAIN.fullmatch(lines[1]) is not None
    ours = _OURS.fullmatch(first)
    return any(each.fullmatch(first) for each in (_DUMPED, _IN_C, _PLAIN)) or bool(
        ours and _statement(ours[2], int(ours[1])) is not None
    )


def parse(content: bytes) -> list[tuple[Instruction, ...]]:
    """The filters of a text, oldest first; ProfileError with the line that is none of them."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ProfileError("neither text nor whole instructions", code="not-a-listing") from None
    if _PSEUDO.search(text):
        message = "pseudo filter code of libseccomp cannot be loaded: use seccomp_export_bpf(3)"
        raise ProfileError(message, code="pseudo-filter-code")
    filters: list[list[Instruction]] = []
    count: int | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if _LEFT_OUT.fullmatch(line):
            continue
        if not filters and count is None and (match := _COUNT.fullmatch(line)):
            count = int(match[1])
            continue
        found = _line(line, f"line {number}")
        if found.number == 0 or not filters:
            filters.append([])
        if found.number not in (None, len(filters[-1])):
            message = f"instruction {found.number} where {len(filters[-1])} is due"
            raise ProfileError(message, f"line {number}", "missing-instruction")
        filters[-1].append(found.instruction)
    if not filters:
        raise ProfileError("the filter has no instruction", code="no-filters")
    if count not in (None, len(filters[0])):
        message = f"{count} instructions are announced, and {len(filters[0])} are there"
        raise ProfileError(message, code="missing-instruction")
    return [tuple(each) for each in filters]


def _line(line: str, where: str) -> _Line:
    if match := _DUMPED.fullmatch(line):
        return _Line(_table(match.groups()[1:], where), int(match[1]))
    if match := _IN_C.fullmatch(line) or _PLAIN.fullmatch(line):
        return _Line(_table(match.groups(), where), None)
    if match := _OURS.fullmatch(line):
        number = int(match[1])
        instruction = _statement(match[2].rstrip(), number)
        if instruction is not None:
            return _Line(instruction, number)
    raise ProfileError(f"no instruction: {quote(line.strip())}", where, "not-an-instruction")


def _table(fields: Sequence[str], where: str) -> Instruction:
    values = [_integer(each) for each in fields]
    for name, value, largest in zip(Instruction._fields, values, _LARGEST, strict=True):
        if value > largest:
            raise ProfileError(f"{name} is not within 0..{largest:#x}", where, "bad-instruction")
    return Instruction(*values)


def _integer(text: str) -> int:
    return int(text, 16) if text[:2] in ("0x", "0X") else int(text)


# --- our own lines ------------------------------------------------------------------------------


def _statement(text: str, pc: int) -> Instruction | None:
    if match := re.fullmatch(_GOTO, text):
        return _within(classic.JUMP, 0, 0, int(match[1]) - pc - 1)
    if match := _IF_NOT.fullmatch(text):
        return _jump(match[2], match[3], 0, int(match[4]) - pc - 1)
    if match := _IF.fullmatch(text):
        otherwise = int(match[5]) - pc - 1 if match[5] else 0
        return _jump(match[2], match[3], int(match[4]) - pc - 1, otherwise)
    if text.startswith("return "):
        return _answer(text.removeprefix("return "))
    return _assignment(text)


def _within(code: int, jt: int, jf: int, k: int) -> Instruction | None:
    fields = (code, jt, jf, k)
    fits = all(0 <= each <= most for each, most in zip(fields, _LARGEST, strict=True))
    return Instruction(*fields) if fits else None


def _jump(operator: str, right: str, yes: int, no: int) -> Instruction | None:
    code = classic.JMP | _TESTS[operator]
    if right == "X":
        return _within(code | classic.X, yes, no, 0)
    value = _ARCHES.get(right)
    if value is None:
        match = _OPERAND.fullmatch(right)
        value = _integer(match[1]) if match else None
    return None if value is None else _within(code | classic.K, yes, no, value)


def _answer(text: str) -> Instruction | None:
    if text == "A":
        return Instruction(classic.RETURN_A, 0, 0, 0)
    name, _, data = text.removesuffix(")").partition("(")
    if name not in Action.__members__:
        return None
    low = 0
    if data:
        number = vars(errno).get(data, data)
        if not str(number).isdecimal():
            return None
        low = int(number)
    return _within(classic.RETURN_K, 0, 0, Action[name] | low)


_MOVES: tuple[tuple[str, Callable[[int], Instruction | None]], ...] = (
    (rf"A = {_SCRATCH}", lambda k: _within(classic.LD | classic.MEM, 0, 0, k)),
    (rf"X = {_SCRATCH}", lambda k: _within(classic.LDX | classic.MEM, 0, 0, k)),
    (rf"{_SCRATCH} = A", lambda k: _within(classic.ST, 0, 0, k)),
    (rf"{_SCRATCH} = X", lambda k: _within(classic.STX, 0, 0, k)),
    (rf"A = {_NUMBER}", lambda k: _within(classic.LD | classic.IMM, 0, 0, k)),
    (rf"X = {_NUMBER}", lambda k: _within(classic.LDX | classic.IMM, 0, 0, k)),
    (r"A = data\[(\d+)\]", lambda k: _within(classic.LOAD_WORD, 0, 0, k)),
)
_FIXED = {
    "A = X": classic.MISC | classic.TXA,
    "X = A": classic.MISC | classic.TAX,
    "A = -A": classic.ALU | classic.NEG,
    "A = sizeof(seccomp_data)": classic.LD | classic.LEN,
    "X = sizeof(seccomp_data)": classic.LDX | classic.LEN,
}
_CALCULATED = re.compile(rf"A = A (\+|-|\*|/|\||&|\^|<<|>>) (X|{_NUMBER})")


def _assignment(text: str) -> Instruction | None:
    if text in _FIXED:
        return Instruction(_FIXED[text], 0, 0, 0)
    if text.removeprefix("A = ") in disassembly.FIELDS:
        offset = 4 * disassembly.FIELDS.index(text.removeprefix("A = "))
        return Instruction(classic.LOAD_WORD, 0, 0, offset)
    if match := _CALCULATED.fullmatch(text):
        code = classic.ALU | _OPERATORS[match[1]]
        if match[2] == "X":
            return Instruction(code | classic.X, 0, 0, 0)
        return _within(code | classic.K, 0, 0, _integer(match[2]))
    for pattern, made in _MOVES:
        if match := re.fullmatch(pattern, text):
            return made(_integer(match[1]))
    return None
