"""Classic BPF as seccomp uses it: instructions, what the kernel refuses, what answers mean."""

import errno
import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
SCRATCH_WORDS = 16  # BPF_MEMWORDS
SECCOMP_DATA_BYTES = 64
MAX_ERRNO = 4095  # the kernel answers this for any larger number

# linux/bpf_common.h
LD, LDX, ST, STX, ALU, JMP, RET, MISC = range(8)
W, H, B = 0x00, 0x08, 0x10
IMM, ABS, IND, MEM, LEN, MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, NEG, MOD, XOR = range(0x00, 0xB0, 0x10)
JA, JEQ, JGT, JGE, JSET = range(0x00, 0x50, 0x10)
K, X, A = 0x00, 0x08, 0x10
TAX, TXA = 0x00, 0x80

LOAD_WORD = LD | W | ABS
RETURN_K, RETURN_A = RET | K, RET | A
JUMP = JMP | JA
CONDITIONAL = frozenset(JMP | test | source for test in (JEQ, JGT, JGE, JSET) for source in (K, X))
_ALU_SECCOMP = (ADD, SUB, MUL, DIV, AND, OR, XOR, LSH, RSH)

# seccomp_check_filter() of the kernel lets these through ...
SECCOMP_CODES = (
    frozenset({LOAD_WORD, LD | W | LEN, LDX | W | LEN, LD | IMM, LDX | IMM, LD | MEM, LDX | MEM})
    | {ST, STX, RETURN_K, RETURN_A, ALU | NEG, MISC | TAX, MISC | TXA, JUMP}
    | {ALU | op | source for op in _ALU_SECCOMP for source in (K, X)}
    | CONDITIONAL
)
# ... and chk_code_allowed() these as well, which only sockets can use.
_SOCKET_CODES = (
    frozenset({LD | H | ABS, LD | B | ABS, LD | W | IND, LD | H | IND, LD | B | IND})
    | {LDX | B | MSH}
    | {ALU | MOD | K, ALU | MOD | X}
)


class Action(IntEnum):
    """SECCOMP_RET_*: the upper half of what a filter returns."""

    KILL_PROCESS = 0x80000000
    KILL_THREAD = 0x00000000
    TRAP = 0x00030000
    ERRNO = 0x00050000
    USER_NOTIF = 0x7FC00000
    TRACE = 0x7FF00000
    LOG = 0x7FFC0000
    ALLOW = 0x7FFF0000

    @property
    def allows(self) -> bool:
        return self in ALLOWING

    @classmethod
    def of(cls, value: int) -> "Action":
        """The action the kernel takes; a value that it does not know kills the process."""
        return _ACTIONS.get(value & 0xFFFF0000, cls.KILL_PROCESS)


_ACTIONS = {int(action): action for action in Action}
_TELLS_DATA = frozenset({Action.TRACE, Action.TRAP})
"""Somebody gets to see it: a tracer, or a handler of SIGSYS."""
ALLOWING = frozenset({Action.ALLOW, Action.LOG})
"""Where the call is made."""


def answer_text(value: int) -> str:
    """`ERRNO(EPERM)`, `ERRNO(0)`, `TRACE(7)`, `ALLOW`; data of a TRAP is si_errno, seccomp(2)."""
    action, low = Action.of(value), value & 0xFFFF
    if action is Action.ERRNO:
        number = min(low, MAX_ERRNO)
        return f"ERRNO({errno.errorcode.get(number, number)})"
    return f"{action.name}({low})" if action in _TELLS_DATA and low else action.name


class FilterError(Exception):
    """The kernel would refuse to load this program: why (`code`), and at which instruction."""

    def __init__(self, code: str, message: str, pc: int | None = None) -> None:
        super().__init__(code, message, pc)
        self.code = code
        self.message = message
        self.pc = pc

    def __str__(self) -> str:
        return self.message if self.pc is None else f"instruction {self.pc}: {self.message}"


class Instruction(NamedTuple):
    """struct sock_filter."""

    code: int
    jt: int
    jf: int
    k: int


_SOCK_FILTER = struct.Struct("<HBBI")


def unpack(program: bytes) -> tuple[Instruction, ...]:
    size = _SOCK_FILTER.size
    if len(program) % size:
        raise FilterError(
            "truncated", f"{len(program)} bytes are not a whole number of {size}-byte instructions"
        )
    return tuple(Instruction(*fields) for fields in _SOCK_FILTER.iter_unpack(program))


def pack(instructions: Sequence[Instruction]) -> bytes:
    return b"".join(_SOCK_FILTER.pack(*instruction) for instruction in instructions)


def check(instructions: Sequence[Instruction]) -> None:
    """Refuse what the kernel refuses (bpf_check_classic, then seccomp_check_filter)."""
    length = len(instructions)
    if not length:
        raise FilterError("empty", "the filter has no instruction")
    if length > MAX_INSTRUCTIONS:
        raise FilterError(
            "too-long", f"{length} instructions, the kernel takes {MAX_INSTRUCTIONS} at most"
        )
    for pc, instruction in enumerate(instructions):
        _check_instruction(instruction, pc)
        _check_jumps(instruction, pc, length)
    if instructions[-1].code not in (RETURN_K, RETURN_A):
        raise FilterError("no-return", "the last instruction is not a return", length - 1)
    _check_scratch(instructions)


def _check_instruction(instruction: Instruction, pc: int) -> None:
    code, _, _, k = instruction
    if code in _SOCKET_CODES:
        raise FilterError(
            "opcode-not-allowed", f"opcode {code:#04x} is not allowed in a seccomp filter", pc
        )
    if code not in SECCOMP_CODES:
        raise FilterError("unknown-opcode", f"unknown opcode {code:#04x}", pc)
    if code == ALU | DIV | K and k == 0:
        raise FilterError("division-by-zero", "division by the constant 0", pc)
    if code in (ALU | LSH | K, ALU | RSH | K) and k >= 32:
        raise FilterError("shift-too-large", f"shift by {k}, 31 at most", pc)
    if code in (LD | MEM, LDX | MEM, ST, STX) and k >= SCRATCH_WORDS:
        raise FilterError("scratch-out-of-range", f"scratch word {k}, 15 is the last", pc)
    if code == LOAD_WORD and k >= SECCOMP_DATA_BYTES:
        raise FilterError("load-out-of-range", f"load at {k}, seccomp_data has 64 bytes", pc)
    if code == LOAD_WORD and k & 3:
        raise FilterError("load-unaligned", f"load at {k} is not on a word boundary", pc)


def _check_jumps(instruction: Instruction, pc: int, length: int) -> None:
    if instruction.code != JUMP and instruction.code not in CONDITIONAL:
        return
    for target in successors(instruction, pc):
        if target >= length:
            raise FilterError("jump-out-of-range", f"jump to {target} of {length}", pc)


def successors(instruction: Instruction, pc: int) -> tuple[int, ...]:
    """The instructions that may run next."""
    code, jt, jf, k = instruction
    if code == JUMP:
        return (pc + 1 + k,)
    if code in CONDITIONAL:
        return (pc + 1 + jt, pc + 1 + jf)
    return () if code in (RETURN_K, RETURN_A) else (pc + 1,)


def _check_scratch(instructions: Sequence[Instruction]) -> None:
    """Every load of a scratch word follows a store on every path (check_load_and_stores)."""
    everything = (1 << SCRATCH_WORDS) - 1
    at_entry = [everything] * len(instructions)
    valid = 0
    for pc, instruction in enumerate(instructions):
        valid &= at_entry[pc]
        code = instruction.code
        if code in (ST, STX):
            valid |= 1 << instruction.k
        elif code in (LD | MEM, LDX | MEM):
            if not valid & (1 << instruction.k):
                raise FilterError(
                    "uninitialised-scratch", f"scratch word {instruction.k} is never stored", pc
                )
        elif code == JUMP or code in CONDITIONAL:
            for target in successors(instruction, pc):
                at_entry[target] &= valid
            # What follows is reached from elsewhere, if at all.
            valid = everything
