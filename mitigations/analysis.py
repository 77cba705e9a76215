"""What filters do with every argument that a call can have: an exact partition.

A filter compares 32-bit words of struct seccomp_data, or some of their bits, with constants
(seccomp(2)).  Each way through the program is a conjunction of such tests; words are independent
of each other, so a way exists if for each word there is a value that passes its tests.  Arithmetic
that mixes bits (a sum, a product, two words compared with each other) is told, never guessed.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from msgspec import Struct

from mitigations import classic
from mitigations.bpf import ALU, UNFILTERED_X86_64, Decision, Filter, data_words, severity
from mitigations.classic import Action, Instruction
from mitigations.x86_64 import AUDIT_ARCH_X86_64, NUMBERS
from mitigations.x86_64 import arch as arch_of

_MASK = 0xFFFFFFFF
_BITS = 32
_NR, _ARCH, _POINTER, _ARGUMENTS = 0, 1, 2, 4  # words of struct seccomp_data
_WORDS = 16
_MOST_WAYS = 1 << 11
_MOST_STATES = 1 << 12


class InexactError(Exception):
    """A filter computes with an argument in a way that this analysis does not follow."""


class Bits(Struct, frozen=True):
    """Bits of one word of struct seccomp_data: ``((word << shift) & mask) ^ flip``.

    A negative ``shift`` is to the right.
    """

    word: int
    shift: int = 0
    mask: int = _MASK
    flip: int = 0

    def of(self, value: int) -> int:
        """What they are where the word has that value."""
        moved = value << self.shift if self.shift >= 0 else value >> -self.shift
        return (moved & self.mask) ^ self.flip

    @property
    def text(self) -> str:
        """As C writes it."""
        shown = f"{'high' if self.word % 2 else 'low'}({_named(self.word)})"
        if self.shift:
            shown = f"{shown} {'<<' if self.shift > 0 else '>>'} {abs(self.shift)}"
        if self.mask != _MASK:
            shown = f"{shown} & {self.mask:#x}"
        return f"({shown}) ^ {self.flip:#x}" if self.flip else shown


Value = int | Bits


class Test(Struct, frozen=True):
    """One comparison on the way: ``operator`` is that of the jump, ``holds`` how it came out."""

    __test__ = False

    bits: Bits
    operator: int
    constant: int
    holds: bool

    def passes(self, value: int) -> bool:
        """Whether a word of that value takes this way."""
        return _compared(self.operator, self.bits.of(value), self.constant) is self.holds

    @property
    def text(self) -> str:
        """As C writes it: ``(low(args[1]) & 0x40) != 0``."""
        if self.operator == classic.JSET:
            plain = Bits(self.bits.word, self.bits.shift, self.bits.mask & self.constant)
            flipped = self.bits.flip & self.constant
            tested = f"({self.bits.text}) & {self.constant:#x}" if flipped else plain.text
            return f"({tested}) {'!=' if self.holds else '=='} 0"
        operator = _WRITTEN[self.operator, self.holds]
        if self.operator == classic.JGT and not self.constant:
            operator = "!=" if self.holds else "=="  # nothing is below 0
        whole = self.bits == Bits(self.bits.word)
        tested = self.bits.text if whole else f"({self.bits.text})"
        return f"{tested} {operator} {self.constant:#x}"


_WRITTEN = {
    (classic.JEQ, True): "==",
    (classic.JEQ, False): "!=",
    (classic.JGT, True): ">",
    (classic.JGT, False): "<=",
    (classic.JGE, True): ">=",
    (classic.JGE, False): "<",
}


class Part(Struct, frozen=True):
    """Arguments that get one answer, by one way through the filters.

    ``value`` is what the filters return together, ``words`` a struct seccomp_data of this part.
    """

    value: int
    tests: tuple[Test, ...]
    words: tuple[int, ...]

    @property
    def action(self) -> Action:
        return Action.of(self.value)

    @property
    def allows(self) -> bool:
        return self.action.allows

    @property
    def answer(self) -> str:
        """``ALLOW``, ``ERRNO(EPERM)`` and so on."""
        return classic.answer_text(self.value)

    @property
    def args(self) -> tuple[int, ...]:
        """The six arguments of the witness, 64 bits each."""
        pairs = zip(self.words[_ARGUMENTS::2], self.words[_ARGUMENTS + 1 :: 2], strict=True)
        return tuple(low | high << _BITS for low, high in pairs)

    @property
    def pointer(self) -> int:
        """The instruction pointer of the witness."""
        return self.words[_POINTER] | self.words[_POINTER + 1] << _BITS

    def holds(self, args: Sequence[int | None], pointer: int | None = 0) -> bool:
        """Whether a call with these arguments may belong to this part; None may be anything."""
        words = data_words(0, 0, args, pointer)  # no test is of arch and nr
        known = ((test, words[test.bits.word]) for test in self.tests)
        # Words are independent of each other, and for each one there is a value that passes.
        return all(word is None or test.passes(word) for test, word in known)

    @property
    def conditions(self) -> tuple[str, ...]:
        """The tests in words, those of both halves of an argument as one where they are one."""
        return tuple(_conditions(self.tests))


def partition(filters: Sequence[Filter], arch: int, nr: int) -> tuple[Part, ...]:
    """What a stack of filters, the oldest first, does with every argument of one call.

    Every struct seccomp_data of this arch and nr is in exactly one part.  ``InexactError`` where a
    filter computes what cannot be followed, or has more than 2,048 ways through it.
    """
    if arch == AUDIT_ARCH_X86_64 and nr in UNFILTERED_X86_64:
        filters = ()
    parts: list[Part] = []
    for count, part in enumerate(_Walk(filters, arch & _MASK, nr & _MASK).parts()):
        if count >= _MOST_WAYS:
            raise InexactError(f"there are more than {_MOST_WAYS:,} ways through it")
        parts.append(part)
        while len(parts) > 1 and (both := _merged(*parts[-2:])):
            parts[-2:] = [both]
    return tuple(parts)


def _merged(one: Part, other: Part) -> Part | None:
    """Both in one, if a test tells them apart that changes nothing."""
    if one.value != other.value or len(one.tests) != len(other.tests) or not one.tests:
        return None
    *before, last = one.tests
    *others, opposite = other.tests
    told = (last.bits, last.operator, last.constant)
    if before != others or told != (opposite.bits, opposite.operator, opposite.constant):
        return None
    return Part(one.value, tuple(before), one.words)


class _State(Struct):
    """A place on a way: which filter, which instruction, what the registers hold."""

    filters_left: int
    held: int
    """What the filters before have returned together."""
    pc: int = 0
    a: Value = 0
    x: Value = 0
    scratch: tuple[Value, ...] = (0,) * classic.SCRATCH_WORDS
    tests: tuple[Test, ...] = ()


class _Walk:
    """All ways through a stack of filters, in the order of a depth-first search."""

    def __init__(self, filters: Sequence[Filter], arch: int, nr: int) -> None:
        self._filters = filters
        # Nothing of the arguments, not even of i386's: through int 0x80, 64-bit code passes what
        # is in the upper halves of its registers to the filters, and then the kernel drops it.
        self._known = {_NR: nr, _ARCH: arch}

    def parts(self) -> Iterator[Part]:
        # The newest filter runs first, and with equal answers the first one counts.
        pending = [_State(len(self._filters), int(Action.ALLOW))]
        while pending:
            state = pending.pop()
            if not state.filters_left:
                yield Part(state.held, state.tests, self._witness(state.tests))
            else:
                pending += self._advance(state)

    def _witness(self, tests: Sequence[Test]) -> tuple[int, ...]:
        words = [self._known.get(word, 0) for word in range(_WORDS)]
        for word in {test.bits.word for test in tests}:
            found = solution(frozenset(test for test in tests if test.bits.word == word))
            assert found is not None
            words[word] = found
        return tuple(words)

    def _advance(self, state: _State) -> list[_State]:
        """Runs to the next test of an argument, or to the end of a filter: what may come then."""
        filter_ = self._filters[state.filters_left - 1]
        if not state.pc:
            decided = self._begun(state, filter_)
            if decided is not None:
                return [_after(state, decided)]
        instructions = filter_.instructions
        while True:
            instruction = instructions[state.pc]
            code = instruction.code
            match code & 7:
                case classic.RET:
                    return [self._returned(state, instruction)]
                case classic.JMP if code == classic.JUMP:
                    state.pc += 1 + instruction.k
                case classic.JMP:
                    ways = _branches(state, instruction)
                    if len(ways) > 1:
                        return ways
                    state = ways[0]
                case classic.ALU:
                    divided = _calculate(state, instruction)
                    if divided is not None:
                        return [_after(state, divided)]
                case classic.ST | classic.STX as kind:
                    value = state.a if kind == classic.ST else state.x
                    k = instruction.k
                    state.scratch = (*state.scratch[:k], value, *state.scratch[k + 1 :])
                    state.pc += 1
                case classic.MISC:
                    if code & 0xF8 == classic.TAX:
                        state.x = state.a
                    else:
                        state.a = state.x
                    state.pc += 1
                case register:
                    value = self._loaded(state, instruction)
                    if register == classic.LD:
                        state.a = value
                    else:
                        state.x = value
                    state.pc += 1

    def _begun(self, state: _State, filter_: Filter) -> int | None:
        """Goes to the first argument that a filter looks at; its answer if it looks at none."""
        start = filter_.prefix(self._known[_ARCH], self._known[_NR])
        if isinstance(start, Decision):
            (answer,) = start.possible
            assert answer is not None  # nothing of it came from an argument
            return answer
        assert start.a is not None
        assert start.x is not None
        state.pc, state.a, state.x = start.pc, start.a, start.x
        state.scratch = tuple(word or 0 for word, _ in start.scratch)
        return None

    def _loaded(self, state: _State, instruction: Instruction) -> Value:
        match instruction.code & 0xE0:
            case classic.ABS:
                word = instruction.k // 4
                return self._known[word] if word in self._known else Bits(word)
            case classic.MEM:
                return state.scratch[instruction.k]
            case classic.LEN:
                return classic.SECCOMP_DATA_BYTES
            case _:
                return instruction.k

    @staticmethod
    def _returned(state: _State, instruction: Instruction) -> _State:
        value = instruction.k if instruction.code == classic.RETURN_K else state.a
        if isinstance(value, Bits):
            raise InexactError(f"instruction {state.pc} returns {value.text}")
        return _after(state, value)


def _after(state: _State, value: int) -> _State:
    """The next older filter, after one that returned ``value``: the strictest answer counts."""
    stricter = severity(value) < severity(state.held)
    return _State(state.filters_left - 1, value if stricter else state.held, tests=state.tests)


# ------------------------------------------------------------------------------------ comparing


def _compared(operator: int, left: int, right: int) -> bool:
    match operator:
        case classic.JEQ:
            return left == right
        case classic.JSET:
            return bool(left & right)
        case classic.JGT:
            return left > right
        case _:
            return left >= right


def _branches(state: _State, instruction: Instruction) -> list[_State]:
    """What may come after a conditional jump; where it is not taken stands last, and runs first."""
    operator = instruction.code & 0xF0
    left, right = state.a, state.x if instruction.code & classic.X else instruction.k
    turned = False
    if isinstance(right, Bits) and not isinstance(left, Bits):
        left, right, operator, turned = _turned(left, right, operator)
    if isinstance(left, Bits) and isinstance(right, Bits):
        if left != right:
            raise InexactError(f"instruction {state.pc} compares {left.text} with {right.text}")
        taken = operator in (classic.JEQ, classic.JGE)
        if operator == classic.JSET:
            right = _MASK
        else:
            return [_jumped(state, instruction, taken)]
    if instruction.jt == instruction.jf:
        return [_jumped(state, instruction, taken=True)]
    if isinstance(left, Bits):
        assert isinstance(right, int)
        return _tested(state, instruction, left, operator, right, turned=turned)
    assert isinstance(right, int)
    return [_jumped(state, instruction, _compared(operator, left, right))]


def _turned(left: int, right: Bits, operator: int) -> tuple[Bits, int, int, bool]:
    """The same comparison with the constant on the right, and whether it is the opposite."""
    if operator == classic.JGT:
        return right, left, classic.JGE, True
    if operator == classic.JGE:
        return right, left, classic.JGT, True
    return right, left, operator, False


def _tested(
    state: _State,
    instruction: Instruction,
    bits: Bits,
    operator: int,
    constant: int,
    *,
    turned: bool,
) -> list[_State]:
    ways: list[tuple[bool, Test]] = []
    same = [test for test in state.tests if test.bits.word == bits.word]
    for holds in (False, True):
        test = Test(bits, operator, constant, holds)
        if solution(frozenset((*same, test))) is not None:
            ways.append((holds is not turned, test))
    if len(ways) == 1:  # what came before decides it
        return [_jumped(state, instruction, ways[0][0])]
    return [_jumped(state, instruction, taken, (*state.tests, test)) for taken, test in ways]


def _jumped(
    state: _State, instruction: Instruction, taken: bool, tests: tuple[Test, ...] | None = None
) -> _State:
    pc = state.pc + 1 + (instruction.jt if taken else instruction.jf)
    kept = state.tests if tests is None else tests
    return _State(state.filters_left, state.held, pc, state.a, state.x, state.scratch, kept)


# ---------------------------------------------------------------------------------- calculating


def _calculate(state: _State, instruction: Instruction) -> int | None:
    """One arithmetic instruction; 0 where it ends the program, by a division by zero."""
    operation = instruction.code & 0xF0
    operand = state.x if instruction.code & classic.X else instruction.k
    if operation == classic.DIV and operand == 0:
        return 0
    where = state.pc
    state.pc += 1
    if operation == classic.NEG:
        if isinstance(state.a, Bits):
            raise InexactError(f"instruction {where} negates {state.a.text}")
        state.a = -state.a & _MASK
        return None
    left, right = state.a, operand
    if isinstance(right, Bits) and operation in (classic.AND, classic.OR, classic.XOR):
        left, right = right, left
    if isinstance(right, Bits):
        raise InexactError(f"instruction {where} calculates with {right.text}")
    if isinstance(left, Bits):
        state.a = _moved(left, operation, right, where)
    else:
        state.a = ALU[operation](left, right) & _MASK
    return None


def _moved(left: Bits, operation: int, right: int, where: int) -> Value:
    """Bits after an operation that only moves, drops, sets or flips them."""
    power = max(0, right.bit_length() - 1)
    if operation == classic.MUL and not right:
        return 0
    if operation in (classic.MUL, classic.DIV) and right == 1 << power:
        operation, right = (classic.LSH if operation == classic.MUL else classic.RSH), power
    shift, mask, flip = left.shift, left.mask, left.flip
    match operation:
        case classic.AND:
            mask, flip = mask & right, flip & right
        case classic.OR:
            mask, flip = mask & ~right, flip | right
        case classic.XOR:
            flip ^= right
        case classic.LSH:
            by = right & 31
            shift, mask, flip = shift + by, mask << by & _MASK, flip << by & _MASK
        case classic.RSH:
            by = right & 31
            shift, mask, flip = shift - by, mask >> by, flip >> by
        case classic.ADD | classic.SUB if right == 0:
            pass
        case _:
            raise InexactError(f"instruction {where} calculates with {left.text}")
    return Bits(left.word, shift, mask, flip) if mask else flip


# -------------------------------------------------------------------------------------- solving


@lru_cache(1 << 16)
def solution(tests: frozenset[Test]) -> int | None:
    """A value of a word that passes all tests; None if there is none."""
    if all(test.bits == Bits(test.bits.word) and test.operator != classic.JSET for test in tests):
        return _within(tests)
    for guess in (0, *(_first_guess(test) for test in tests)):
        if all(test.passes(guess) for test in tests):
            return guess
    return _Search(tuple(tests)).value()


def _within(tests: Iterable[Test]) -> int | None:
    """The same where the whole word is compared: long lists of values are common, and in order."""
    least, most = 0, _MASK
    others: set[int] = set()
    for test in tests:
        match test.operator, test.holds:
            case classic.JEQ, True:
                least, most = max(least, test.constant), min(most, test.constant)
            case classic.JEQ, False:
                others.add(test.constant)
            case classic.JGT, True:
                least = max(least, test.constant + 1)
            case classic.JGE, False:
                most = min(most, test.constant - 1)
            case classic.JGE, True:
                least = max(least, test.constant)
            case _:
                most = min(most, test.constant)
    return next((value for value in range(least, most + 1) if value not in others), None)


def _first_guess(test: Test) -> int:
    """A value that passes one test, if its bits stand where they are in the word."""
    aimed = test.constant ^ test.bits.flip
    if test.operator == classic.JSET:
        aimed &= test.bits.mask
    elif (test.operator == classic.JGT) is test.holds and test.operator != classic.JEQ:
        aimed = min(_MASK, test.constant + 1) ^ test.bits.flip
    back = aimed >> test.bits.shift if test.bits.shift >= 0 else aimed << -test.bits.shift
    return back & _MASK


def _decided_bits(test: Test) -> Iterator[tuple[int, int]]:
    """Places in the word, and what stands there if the test passes."""
    bits = test.bits
    looked_at = bits.mask
    if test.operator == classic.JSET:
        looked_at &= test.constant
        one_of_many = test.holds and (looked_at & (looked_at - 1) or bits.flip & test.constant)
        wanted = looked_at if test.holds else 0
    else:
        one_of_many = test.operator != classic.JEQ or not test.holds
        wanted = test.constant
    if one_of_many:
        return
    for place in range(_BITS):
        if looked_at >> place & 1 and 0 <= place - bits.shift < _BITS:
            yield place - bits.shift, (wanted ^ bits.flip) >> place & 1


class _Search:
    """The smallest word that passes all tests, bit by bit from the highest.

    After some bits a test knows of its value whether it is smaller than, equal to or larger than
    the beginning of its constant (or whether a bit was met, for JSET): nothing else matters.
    """

    def __init__(self, tests: tuple[Test, ...]) -> None:
        self._tests = tests
        self._dead: set[tuple[int, tuple[int, ...]]] = set()
        self._forced: dict[int, int] = {}
        """Bits of the word that one test alone decides."""

    def _forces(self) -> bool:
        """Finds the bits that single tests decide; False if two of them disagree."""
        for test in self._tests:
            for place, digit in _decided_bits(test):
                if self._forced.setdefault(place, digit) != digit:
                    return False
        return True

    def value(self) -> int | None:
        if not self._forces():
            return None
        # Bits that no bit of the word reaches come first where a value was moved to the right.
        begun = tuple(
            self._read(test, 0, range(_BITS - 1, _BITS - 1 + test.bits.shift, -1), None)
            for test in self._tests
        )
        return self._search(_BITS - 1, begun)

    def _search(self, bit: int, states: tuple[int, ...]) -> int | None:
        if bit < 0:
            ended = zip(self._tests, states, strict=True)
            return 0 if all(self._ends(test, state) for test, state in ended) else None
        if (bit, states) in self._dead:
            return None
        if len(self._dead) > _MOST_STATES:
            raise InexactError(f"{len(self._tests)} tests of one word are too many")
        for digit in (self._forced[bit],) if bit in self._forced else (0, 1):
            after = tuple(
                self._read(test, state, (bit + test.bits.shift,), digit)
                for test, state in zip(self._tests, states, strict=True)
            )
            rest = self._search(bit - 1, after)
            if rest is not None:
                return digit << bit | rest
        self._dead.add((bit, states))
        return None

    @staticmethod
    def _read(test: Test, state: int, places: Sequence[int], digit: int | None) -> int:
        """The state after bits of the value; those that no bit of the word reaches are flipped."""
        bits = test.bits
        for place in places:
            if not 0 <= place < _BITS:
                continue
            own = bits.flip >> place & 1
            if digit is not None and bits.mask >> place & 1:
                own ^= digit
            wanted = test.constant >> place & 1
            if test.operator == classic.JSET:
                state |= own & wanted
            elif not state:
                state = own - wanted
        return state

    def _ends(self, test: Test, state: int) -> bool:
        """Whether a test passes; what was moved to the left ends in bits of no word."""
        state = self._read(test, state, range(test.bits.shift - 1, -1, -1), None)
        match test.operator:
            case classic.JEQ:
                true = state == 0
            case classic.JGT:
                true = state > 0
            case classic.JGE:
                true = state >= 0
            case _:
                true = state == 1
        return true is test.holds


# -------------------------------------------------------------------------------------- wording


def _conditions(tests: Sequence[Test]) -> Iterator[str]:
    equal = {
        test.bits.word: test.constant
        for test in tests
        if test.operator == classic.JEQ and test.holds and test.bits == Bits(test.bits.word)
    }
    whole = {word for word in equal if word % 2 == 0 and word + 1 in equal}
    said: set[int] = set()
    for test in tests:
        word = test.bits.word
        pair = word & ~1
        if pair not in whole:
            # Where a word is known, nothing else needs to be said of it.
            if word not in equal or test == _equal(word, equal[word]):
                yield test.text
        elif pair not in said:
            said.add(pair)
            yield f"{_named(pair)} == {equal[pair] | equal[pair + 1] << _BITS:#x}"


def _equal(word: int, constant: int) -> Test:
    return Test(Bits(word), classic.JEQ, constant, holds=True)


def _named(word: int) -> str:
    """The field of struct seccomp_data that a word is half of."""
    return f"args[{(word - _ARGUMENTS) // 2}]" if word >= _ARGUMENTS else "instruction_pointer"


def native_parts(filters: Sequence[Filter], name: str) -> tuple[Part, ...]:
    """The partition of a call of x86-64; empty if there is no such call, or it cannot be told."""
    number = NUMBERS["x86_64"].get(name)
    try:
        return () if number is None else partition(filters, AUDIT_ARCH_X86_64, number)
    except InexactError:
        return ()


# ---------------------------------------------------------------------------- two of a kind


class Change(Struct, frozen=True):
    """Arguments of a call that one stack of filters answers otherwise than another."""

    abi: str
    call: str
    nr: int
    before: str
    """``ALLOW``, ``ERRNO(EPERM)`` and so on."""
    after: str
    opened: bool
    """It was denied, and passes now."""
    closed: bool
    """It passed, and is denied now."""
    conditions: tuple[str, ...]
    """All of them hold; none means whatever the arguments are."""
    witness: tuple[int, ...]
    """Six arguments of this region."""


def difference(before: Sequence[Filter], after: Sequence[Filter]) -> Iterator[Change]:
    """Every region of every call on every table that two stacks of filters answer differently.

    ``InexactError`` where one of them cannot be analysed exactly.
    """
    for abi, table in NUMBERS.items():
        for call, nr in table.items():
            yield from difference_of(before, after, abi, call, nr)


def difference_of(
    before: Sequence[Filter], after: Sequence[Filter], abi: str, call: str, nr: int
) -> Iterator[Change]:
    """``difference`` for one call; ``call`` is what it is to be called."""
    seen_as = arch_of(abi)
    old, new = partition(before, seen_as, nr), partition(after, seen_as, nr)
    for one in old:
        for other in new:
            if one.value != other.value:
                yield from _changed(one, other, (abi, call, nr))


def _changed(one: Part, other: Part, of: tuple[str, str, int]) -> Iterator[Change]:
    """What two parts of different answers have in common, if that is anything."""
    tests = tuple(dict.fromkeys((*one.tests, *other.tests)))
    words = list(one.words)
    for word in {test.bits.word for test in tests}:
        found = solution(frozenset(test for test in tests if test.bits.word == word))
        if found is None:
            return
        words[word] = found
    both = Part(other.value, tests, tuple(words))
    yield Change(
        *of,
        before=one.answer,
        after=other.answer,
        opened=other.allows and not one.allows,
        closed=one.allows and not other.allows,
        conditions=both.conditions,
        witness=both.args,
    )
