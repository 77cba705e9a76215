"""What a compiled filter does: exact decisions, without libseccomp and without a kernel.

Only forward jumps exist, so a run ends. Words that are not known in advance (the result of an
earlier call, an address) are None; where the outcome hangs on one, the decision says `depends`.
It may say so too often (two tests of one unknown word are taken as independent), never too rarely.
"""

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto

from msgspec import Struct
from msgspec.structs import replace

from mitigations import classic, disassembly
from mitigations.classic import MAX_INSTRUCTIONS, Action, FilterError, Instruction
from mitigations.x86_64 import AUDIT_ARCH_X86_64

__all__ = ["Action", "Decision", "Filter", "FilterError", "decide_stack", "disassemble"]

# uretprobe and uprobe: seccomp lets them pass before it looks at any filter (Linux 6.14, 6.18).
UNFILTERED_X86_64 = frozenset({335, 336})

Region = tuple[tuple[int, bool], ...]
Word = int | None

_MASK = 0xFFFFFFFF
_FIRST_ARGUMENT_WORD = 2  # instruction pointer, then the arguments; before it nr and arch
_STATE_LIMIT = 20_000


class Decision(Struct, frozen=True):
    """What happens to one call.

    `region` holds every conditional jump on a value that came from an argument or the instruction
    pointer, up to the first one that an unknown word decides: calls with equal regions are one way
    to the filter. `possible` are the raw return values that remain (None: any). In the decision of
    a stack, an instruction of filter i is counted as i * 4096 + pc.
    """

    action: Action | None
    data: int
    depends: bool
    region: Region
    ret_pc: int
    possible: frozenset[int | None]
    path: tuple[int, ...] | None = None

    @property
    def allows(self) -> bool:
        return self.action in classic.ALLOWING

    @property
    def text(self) -> str:
        return _text(self.possible, self.depends)


@functools.cache
def _text(possible: frozenset[int | None], depends: bool) -> str:
    values = sorted({classic.answer_text(value) for value in possible if value is not None})
    if not depends:
        return values[0]
    return "DEPENDS" if None in possible else f"DEPENDS({' or '.join(values)})"


class _Stop(Enum):
    RETURN = auto()
    ARGUMENT = auto()
    SPLIT = auto()


class State(Struct):
    """Registers, each with whether its value came from an argument."""

    pc: int = 0
    a: Word = 0
    x: Word = 0
    a_from_argument: bool = False
    x_from_argument: bool = False
    scratch: tuple[tuple[Word, bool], ...] = ((0, False),) * classic.SCRATCH_WORDS
    region: Region = ()

    def key(self) -> tuple[int, Word, Word, tuple[tuple[Word, bool], ...]]:
        return self.pc, self.a, self.x, self.scratch


# Operations of the decoded program; the first four are conditional jumps on a constant.
_JEQ, _JGT, _JGE, _JSET, _LOAD, _RETURN, _JUMP, _OTHER = range(8)
_FAST = {
    classic.JMP | classic.JEQ | classic.K: _JEQ,
    classic.JMP | classic.JGT | classic.K: _JGT,
    classic.JMP | classic.JGE | classic.K: _JGE,
    classic.JMP | classic.JSET | classic.K: _JSET,
    classic.LOAD_WORD: _LOAD,
    classic.RETURN_K: _RETURN,
    classic.JUMP: _JUMP,
}


def _decode(instruction: Instruction, pc: int) -> tuple[int, int, int, int]:
    code, jt, jf, k = instruction
    operation = _FAST.get(code, _OTHER)
    if operation == _LOAD:
        return operation, 0, 0, k // 4
    if operation == _JUMP:
        return operation, pc + 1 + k, 0, 0
    return operation, pc + 1 + jt, pc + 1 + jf, k


ALU: Mapping[int, Callable[[int, int], int]] = {
    classic.ADD: lambda a, b: a + b,
    classic.SUB: lambda a, b: a - b,
    classic.MUL: lambda a, b: a * b,
    classic.DIV: lambda a, b: a // b,
    classic.OR: lambda a, b: a | b,
    classic.AND: lambda a, b: a & b,
    classic.XOR: lambda a, b: a ^ b,
    classic.LSH: lambda a, b: a << (b & 31),
    classic.RSH: lambda a, b: a >> (b & 31),
}


class Filter:
    """One validated program. Use `decode`; it raises FilterError for what the kernel refuses."""

    def __init__(self, instructions: Sequence[Instruction]) -> None:
        self.instructions = tuple(instructions)
        self._code = tuple(_decode(each, pc) for pc, each in enumerate(self.instructions))
        self._prefixes: dict[tuple[int, int], State | Decision] = {}

    @classmethod
    def decode(cls, program: bytes) -> "Filter":
        instructions = classic.unpack(program)
        classic.check(instructions)
        return cls(instructions)

    def __len__(self) -> int:
        return len(self.instructions)

    def decide(
        self, arch: int, nr: int, args: Sequence[Word], ip: Word = 0, *, with_path: bool = False
    ) -> Decision:
        if with_path:
            return self._finish(State(), data_words(arch, nr, args, ip), [])
        start = self.prefix(arch, nr)
        if isinstance(start, Decision):
            return start
        return self._finish(copy.copy(start), data_words(arch, nr, args, ip), None)

    def prefix(self, arch: int, nr: int) -> "State | Decision":
        """What depends on arch and nr alone: the answer, or the state at the first argument."""
        key = (arch & _MASK, nr & _MASK)
        known = self._prefixes.get(key)
        if known is None:
            state = State()
            stop = self._run(state, data_words(arch, nr, (), 0), None, stop_at_argument=True)
            known = state if stop is _Stop.ARGUMENT else _decided(state, None)
            self._prefixes[key] = known
        return known

    def _finish(self, state: State, words: Sequence[Word], path: list[int] | None) -> Decision:
        if self._run(state, words, path, stop_at_argument=False) is _Stop.RETURN:
            return _decided(state, path)
        possible = self._explore(state, words)
        if len(possible) == 1 and None not in possible:
            state.a = next(iter(possible))
            return _decided(state, None, ret_pc=-1)
        return Decision(None, 0, True, state.region, -1, possible)

    def _explore(self, state: State, words: Sequence[Word]) -> frozenset[Word]:
        """Every value that may be returned when the unknown words may be anything."""
        values: set[Word] = set()
        pending, seen = [state], {state.key()}
        while pending:
            here = copy.copy(pending.pop())
            if self._run(here, words, None, stop_at_argument=False) is _Stop.RETURN:
                values.add(here.a)
                continue
            for target in self._code[here.pc][1:3]:
                branch = copy.copy(here)
                branch.pc = target
                if branch.key() not in seen:
                    seen.add(branch.key())
                    pending.append(branch)
            if len(seen) > _STATE_LIMIT:
                return frozenset({None})
        return frozenset(values)

    def _run(
        self,
        state: State,
        words: Sequence[Word],
        path: list[int] | None,
        *,
        stop_at_argument: bool,
    ) -> _Stop:
        """Advance `state`. At RETURN its A holds the value and its pc the return instruction."""
        code = self._code
        while True:
            operation, jt, jf, k = code[state.pc]
            if path is not None:
                path.append(state.pc)
            if operation <= _JSET:
                a = state.a
                if a is None:
                    return _Stop.SPLIT
                taken = _compare(operation, a, k)
                if state.a_from_argument:
                    state.region += ((state.pc, taken),)
                state.pc = jt if taken else jf
            elif operation == _LOAD:
                if k >= _FIRST_ARGUMENT_WORD and stop_at_argument:
                    return _Stop.ARGUMENT
                state.a = words[k]
                state.a_from_argument = k >= _FIRST_ARGUMENT_WORD
                state.pc += 1
            elif operation == _RETURN:
                state.a = k
                return _Stop.RETURN
            elif operation == _JUMP:
                state.pc = jt
            else:
                stop = _step(state, self.instructions[state.pc])
                if stop is not None:
                    return stop


class Patched(Filter):
    """A filter in which another one answers some calls, given as (arch, nr)."""

    def __init__(self, whole: Filter, other: Filter, calls: frozenset[tuple[int, int]]) -> None:
        self.instructions = whole.instructions
        self._whole = whole
        self._other = other
        self._calls = calls

    def decide(
        self, arch: int, nr: int, args: Sequence[Word], ip: Word = 0, *, with_path: bool = False
    ) -> Decision:
        asked = self._other if (arch, nr) in self._calls else self._whole
        return asked.decide(arch, nr, args, ip, with_path=with_path)


def _compare(operation: int, a: int, b: int) -> bool:
    if operation == _JEQ:
        return a == b
    if operation == _JSET:
        return bool(a & b)
    return a > b if operation == _JGT else a >= b


def data_words(arch: int, nr: int, args: Sequence[Word], ip: Word) -> list[Word]:
    """The sixteen words of struct seccomp_data, which is all that a filter can load."""
    words: list[Word] = [nr & _MASK, arch & _MASK]
    for value in (ip, *args, *(0,) * (6 - len(args))):
        words += (None, None) if value is None else (value & _MASK, (value >> 32) & _MASK)
    return words


def _decided(state: State, path: list[int] | None, ret_pc: int | None = None) -> Decision:
    value = state.a
    trail = None if path is None else tuple(path)
    if value is None:
        return Decision(None, 0, True, state.region, state.pc, frozenset({None}), trail)
    where = state.pc if ret_pc is None else ret_pc
    action = Action.of(value)
    return Decision(action, value & 0xFFFF, False, state.region, where, frozenset({value}), trail)


def _step(state: State, instruction: Instruction) -> _Stop | None:
    """Everything that compiled profiles hardly use; it moves `state.pc`."""
    code, k = instruction.code, instruction.k
    match code & 7:
        case classic.ALU:
            return _arithmetic(state, instruction)
        case classic.JMP:
            return _jump_on_x(state, instruction)
        case classic.RET:
            return _Stop.RETURN
        case classic.ST:
            _store(state, k, state.a, state.a_from_argument)
        case classic.STX:
            _store(state, k, state.x, state.x_from_argument)
        case classic.MISC if code & 0xF8 == classic.TAX:
            state.x, state.x_from_argument = state.a, state.a_from_argument
        case classic.MISC:
            state.a, state.a_from_argument = state.x, state.x_from_argument
        case register:
            value, from_argument = _load(state, code, k)
            if register == classic.LD:
                state.a, state.a_from_argument = value, from_argument
            else:
                state.x, state.x_from_argument = value, from_argument
    state.pc += 1
    return None


def _store(state: State, index: int, value: Word, from_argument: bool) -> None:
    scratch = state.scratch
    state.scratch = (*scratch[:index], (value, from_argument), *scratch[index + 1 :])


def _load(state: State, code: int, k: int) -> tuple[Word, bool]:
    match code & 0xE0:
        case classic.MEM:
            return state.scratch[k]
        case classic.LEN:
            return classic.SECCOMP_DATA_BYTES, False
        case _:
            return k, False


def _arithmetic(state: State, instruction: Instruction) -> _Stop | None:
    code = instruction.code
    operation = code & 0xF0
    state_a = state.a
    if operation == classic.NEG:
        state.a = None if state_a is None else -state_a & _MASK
        state.pc += 1
        return None
    operand: Word = instruction.k
    if code & classic.X:
        operand = state.x
        state.a_from_argument |= state.x_from_argument
        if operation == classic.DIV and not operand:
            # Division by zero ends the program with 0. Unknown: that or more, so anything.
            state.a = operand
            return _Stop.RETURN
    if state_a is None or operand is None:
        state.a = None
    else:
        state.a = ALU[operation](state_a, operand) & _MASK
    state.pc += 1
    return None


def _jump_on_x(state: State, instruction: Instruction) -> _Stop | None:
    if state.a is None or state.x is None:
        return _Stop.SPLIT
    test = instruction.code & 0xF0
    taken = _compare(_FAST[classic.JMP | test | classic.K], state.a, state.x)
    if state.a_from_argument or state.x_from_argument:
        state.region += ((state.pc, taken),)
    state.pc += 1 + (instruction.jt if taken else instruction.jf)
    return None


def severity(value: int) -> int:
    """What the kernel compares the answers of stacked filters by; the smallest one counts."""
    full = value & 0xFFFF0000
    return full - (1 << 32) if full & 0x80000000 else full


_ALLOWED = Decision(Action.ALLOW, 0, False, (), -1, frozenset({int(Action.ALLOW)}))


def decide_stack(
    filters: Sequence[Filter], arch: int, nr: int, args: Sequence[Word], ip: Word = 0
) -> Decision:
    """Combine as seccomp_run_filters does: newest (last) first, strictest wins, first on a tie."""
    if arch == AUDIT_ARCH_X86_64 and nr in UNFILTERED_X86_64:
        return _ALLOWED
    if len(filters) == 1:
        decision = filters[0].decide(arch, nr, args, ip)
        if decision.action is Action.ALLOW and decision.data:
            # The kernel starts from a plain ALLOW, which an ALLOW with data does not replace.
            return replace(decision, data=0, possible=_ALLOWED.possible)
        return decision
    region: Region = ()
    outcomes: dict[Word, int] = {int(Action.ALLOW): -1}
    for index in reversed(range(len(filters))):
        decision = filters[index].decide(arch, nr, args, ip)
        offset = index * MAX_INSTRUCTIONS
        region += tuple((offset + pc, taken) for pc, taken in decision.region)
        ret_pc = -1 if decision.ret_pc < 0 else offset + decision.ret_pc
        outcomes = _combine(outcomes, decision.possible, ret_pc)
    return _combined(outcomes, region)


def _combine(before: Mapping[Word, int], possible: frozenset[Word], ret_pc: int) -> dict[Word, int]:
    """Possible values so far (with where they were returned), after one more filter."""
    after: dict[Word, int] = {}
    for held, where in before.items():
        for value in possible:
            if held is None or value is None:
                after[None] = -1
            elif severity(value) < severity(held):
                after[value] = ret_pc
            else:
                after[held] = where
    return after


def _combined(outcomes: Mapping[Word, int], region: Region) -> Decision:
    value, ret_pc = next(iter(outcomes.items()))
    if len(outcomes) > 1 or value is None:
        return Decision(None, 0, True, region, -1, frozenset(outcomes))
    return Decision(Action.of(value), value & 0xFFFF, False, region, ret_pc, frozenset({value}))


def disassemble(program: bytes) -> list[str]:
    """One readable line per instruction; raises FilterError for bytes that are no program."""
    return disassembly.render(classic.unpack(program))
