"""Ours, libseccomp's own simulation, the exact partition and the live kernel give one answer.

Hypothesis draws the filters, so that a failure shrinks to a small one.  The calls come from a
generator with a drawn seed: from each part that a filter tells apart, most of them with a word
changed, which single words drawn one by one would hardly come upon.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest
from drawn_filters import NAMES, profiles, raw_filters
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from libseccomp_defects import is_miscompiled, low_halves
from msgspec import Struct
from seccomp_answers import HARMLESS, LOADS, MOST_CALLS, Call, Kernel, call_of, ends, shown

from attacks.program import Abi
from benchmarks.libseccomp_sim import NoSimulator, Simulator, stub_length
from evaluator.sandbox import Sandbox
from mitigations import x86_64
from mitigations.analysis import InexactError, Part, partition
from mitigations.bpf import UNFILTERED_X86_64, Filter, decide_stack, severity
from mitigations.candidate import ProfileError
from mitigations.classic import Action
from mitigations.meaning import meant
from mitigations.rules import Profile
from mitigations.runtimes import MODELS, compile_profile, find_model

FEWEST = 100_000
# Some more than it takes: an edit of this file makes Hypothesis draw others.
STACKS, RAW_STACKS = 215, 40
SITES, CALLS_OF_A_SITE = 18, 48
# Each call that ends its process costs a process.
MOST_ENDS = 6
# Each call is looked for in each of them.
MOST_PARTS = 60
ODD_NUMBERS = (0xFFFFFFFF, 0x7FFFFFFF, 0x40000000, 0xFFFF, 512, 0x400001FF, 0xBFFFFFFF)
MODEL_NAMES = st.sampled_from(("crun", *MODELS))


class One(Struct, frozen=True):
    """A filter of a stack, how many instructions libseccomp did not write, and what it means."""

    program: bytes
    filter: Filter
    profile: Profile | None = None
    stub: int = 0


Stack = Sequence[One]


def compiled(profile: Profile, model: str) -> One:
    try:
        program = compile_profile(profile, find_model(model)).program
    except ProfileError:
        assume(condition=False)
        raise
    return One(program, Filter.decode(program), profile, stub_length(program))


COMPILED = st.builds(compiled, profiles(), MODEL_NAMES)
RAW = raw_filters().map(lambda program: One(program, Filter.decode(program)))


# -------------------------------------------------------------------------------- drawing calls


def drawn_calls(dice: random.Random, stack: Stack) -> list[tuple[Call, tuple[Part, ...]]]:
    """Calls, each with the parts of its call; no parts where the partition is not exact."""
    found: list[tuple[Call, tuple[Part, ...]]] = []
    for abi, nr in drawn_sites(dice, stack):
        try:
            parts = partition([one.filter for one in stack], x86_64.arch(abi), nr)
        except InexactError:
            parts = ()
        bases = [part.args for part in parts] or [(0,) * 6]
        found += [
            (call_of(abi, nr, changed(dice, dice.choice(bases), stack)), parts)
            for _ in range(CALLS_OF_A_SITE)
        ]
    return found


def drawn_sites(dice: random.Random, stack: Stack) -> list[tuple[Abi, int]]:
    """Calls that the rules name, calls that do nothing, and numbers that are odd."""
    rules = [rule for one in stack if one.profile for rule in one.profile.rules]
    named = sorted({name for rule in rules for name in rule.names}) or NAMES
    judged = [abi for abi in Abi if all(is_judged(one, abi) for one in stack)]
    sites: list[tuple[Abi, int]] = []
    while len(sites) < SITES:
        abi = dice.choice(judged * 8 + list(Abi))
        known = x86_64.number(abi, dice.choice(named))
        kind = dice.randrange(8)
        if kind == 0 and HARMLESS[abi]:
            known = dice.choice(HARMLESS[abi])
        elif kind == 1:
            known = dice.choice(ODD_NUMBERS)
        elif kind == 2 and known is not None:
            known += dice.choice((-1, 1))
        if known is not None and (abi, known) != LOADS and fits(abi, known):
            sites.append((abi, known))
    return sites


def is_judged(one: One, abi: Abi) -> bool:
    """Whether a filter does more with that ABI than to kill."""
    return one.profile is None or one.profile.judges(abi)


def fits(abi: Abi, nr: int) -> bool:
    """Whether a filter sees that number as one of that table, and is asked at all."""
    return x86_64.abi_of(x86_64.arch(abi), nr) == abi and nr not in UNFILTERED_X86_64


def changed(dice: random.Random, args: Sequence[int], stack: Stack) -> tuple[int, ...]:
    """The arguments with garbage where nobody looks, perhaps, and a word moved over an edge."""
    found = list(args)
    for _ in range(dice.choice((0, 1, 1, 2))):
        index = dice.randrange(6)
        found[index] = moved(dice, found[index], stack) & (1 << 64) - 1
    return tuple(found)


def moved(dice: random.Random, word: int, stack: Stack) -> int:
    match dice.randrange(6):
        case 0:
            return word + dice.choice((-1, 1))
        case 1:
            return word ^ 1 << dice.randrange(64)
        case 2:
            return word & 0xFFFFFFFF | dice.getrandbits(32) << 32
        case 3:
            return dice.getrandbits(64)
        case _:
            instructions = dice.choice(stack).filter.instructions
            low, high = (dice.choice(instructions).k for _ in range(2))
            return low | dice.choice((0, high)) << 32


# ------------------------------------------------------------------------------- the witnesses


class Witnesses(Struct):
    kernel: Kernel
    simulator: Simulator
    pointers: dict[Abi, int]
    count: Counter[str]

    def agree(self, stack: Stack, dice: random.Random) -> None:
        drawn = drawn_calls(dice, stack)
        calls = [call for call, _ in drawn]
        ours = [self.ours(stack, call) for call in calls]
        self.count["calls"] += len(calls)
        for (call, parts), value in zip(drawn, ours, strict=True):
            self.agree_with_partition(parts, call, value)
        each = [self.of_libseccomp(one, calls) for one in stack]
        theirs = [strictest(values) for values in zip(*each, strict=True)]
        for call, value, said in zip(calls, ours, theirs, strict=True):
            assert said in (None, value), f"libseccomp's simulation of {call}"
        self.agree_with_kernel(stack, calls, ours, theirs)

    def ours(self, stack: Stack, call: Call) -> int:
        filters, pointer = [one.filter for one in stack], self.pointers[call.abi]
        (value,) = decide_stack(filters, call.arch, call.nr, call.seen_args, pointer).possible
        assert value is not None
        return value

    def agree_with_partition(self, parts: Sequence[Part], call: Call, value: int) -> None:
        if 0 < len(parts) <= MOST_PARTS:
            pointer = self.pointers[call.abi]
            found = [part.value for part in parts if part.holds(call.seen_args, pointer)]
            assert found == [value], f"the partition of {call}"
            self.count["partition"] += 1

    def of_libseccomp(self, one: One, calls: Sequence[Call]) -> list[int | None]:
        """What its simulator says, but for what a runtime's stub answers; checks the meaning."""
        if one.profile is None:
            return [None] * len(calls)
        asked = [(call.arch, call.nr, call.seen_args, self.pointers[call.abi]) for call in calls]
        values = self.simulator.decide(one.program[8 * one.stub :], asked)
        miscompiled = {
            site: is_miscompiled(one.profile, *site)
            for site in {(call.abi, call.nr) for call in calls}
        }
        for index, call in enumerate(calls):
            decision = one.filter.decide(*asked[index])
            if 0 <= decision.ret_pc < one.stub:
                values[index] = None
            else:
                (value,) = decision.possible
                self.is_meant(one.profile, call, value, miscompiled[call.abi, call.nr])
        return values

    def is_meant(self, profile: Profile, call: Call, value: int | None, miscompiled: bool) -> None:
        """The rules say it, or a known defect of libseccomp has made something else of them."""
        wanted = meant(profile, call.abi, call.nr, call.seen_args)
        if wanted is None:
            return
        if miscompiled:
            self.count["wrong by shared-argument"] += value not in wanted
            return
        self.count["meaning"] += 1
        if value not in wanted and call.abi is not Abi.X86_64:
            self.count["wrong by low-halves"] += 1
            halves = tuple(arg & 0xFFFFFFFF for arg in call.args)
            wanted = meant(low_halves(profile), call.abi, call.nr, halves) or set()
        assert value in wanted, f"the meaning of {call}"

    def agree_with_kernel(
        self,
        stack: Stack,
        calls: Sequence[Call],
        ours: Sequence[int],
        theirs: Sequence[int | None],
    ) -> None:
        deadly = [ends(call, value) for call, value in zip(calls, ours, strict=True)]
        goes_on = [index for index, last in enumerate(deadly) if not last]
        asked = [goes_on[at : at + MOST_CALLS] for at in range(0, len(goes_on), MOST_CALLS)]
        asked += [[index] for index, last in enumerate(deadly) if last][:MOST_ENDS]
        found = self.kernel.answers(
            [one.program for one in stack], [[calls[index] for index in one] for one in asked]
        )
        for one, answers in zip(asked, found, strict=True):
            for index, answer in zip(one, answers, strict=False):
                assert answer == shown(calls[index], ours[index]), f"the kernel of {calls[index]}"
                self.count["kernel"] += 1
                self.count["kernel and libseccomp"] += theirs[index] is not None
                self.count[f"kernel, {calls[index].abi}"] += 1
                self.count[f"kernel, stack of {len(stack)}"] += 1
                self.count[f"kernel, {Action.of(ours[index]).name}"] += 1
            assert len(answers) == len(one), f"the kernel ended {calls[one[len(answers) - 1]]}"


def strictest(oldest_first: Sequence[int | None]) -> int | None:
    """As seccomp_run_filters does; None where the answer of one is not known."""
    held = int(Action.ALLOW)
    for value in reversed(oldest_first):
        if value is None:
            return None
        held = value if severity(value) < severity(held) else held
    return held


def counted(count: Counter[str]) -> str:
    return ", ".join(f"{name}: {number:,}" for name, number in sorted(count.items()))


@pytest.fixture(scope="module")
def witnesses() -> Iterator[Witnesses]:
    try:
        with Simulator() as simulator, Sandbox() as sandbox:
            kernel = Kernel(sandbox)
            pointers = {abi: kernel.pointer(abi) for abi in Abi}
            yield Witnesses(kernel, simulator, pointers, Counter())
    except NoSimulator as error:
        pytest.skip(f"libseccomp's simulator cannot be had: {error}")


def test_of_compiled_profiles_all_say_the_same(
    witnesses: Witnesses, record_property: Callable[[str, object], None]
) -> None:
    @settings(max_examples=STACKS, suppress_health_check=list(HealthCheck))
    @given(st.lists(COMPILED, min_size=1, max_size=3), st.integers(0, 1 << 32))
    def agree(stack: Stack, seed: int) -> None:
        witnesses.agree(stack, random.Random(seed))

    before = Counter(witnesses.count)
    agree()
    count = witnesses.count - before
    record_property("calls of compiled profiles", counted(count))
    assert count["kernel and libseccomp"] >= FEWEST


def test_of_programs_by_hand_all_but_libseccomp_say_the_same(
    witnesses: Witnesses, record_property: Callable[[str, object], None]
) -> None:
    """Its simulator knows what libseccomp writes alone."""

    @settings(max_examples=RAW_STACKS, suppress_health_check=list(HealthCheck))
    @given(st.lists(RAW | COMPILED, min_size=1, max_size=3), st.integers(0, 1 << 32))
    def agree(stack: Stack, seed: int) -> None:
        witnesses.agree(stack, random.Random(seed))

    before = Counter(witnesses.count)
    agree()
    record_property("calls of programs by hand", counted(witnesses.count - before))
