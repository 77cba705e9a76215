"""What can be computed of a filter, and how fast; bounds in brackets.

    python -m benchmarks.analysis [--rounds N]

The filter is the captured runtime default of 983 instructions.  The rivals: a plain loop over the
instructions, and libseccomp's own simulator, as the command that it is (a process for each call)
and in a loop of ours.  It cannot run the stub that runc puts before what libseccomp wrote, so it
gets the filter without.

The best of several rounds counts.  The library is asked of a filter that is new each time; what is
known of its programs alone was found before.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence

from attacks import library
from benchmarks.engine import captured
from benchmarks.libseccomp_sim import Simulator, built, stub_length
from evaluator.predict import predicted
from mitigations import classic, x86_64
from mitigations.analysis import partition
from mitigations.bpf import Filter, data_words, decide_stack
from mitigations.classic import Instruction

_CALLS = 20_000
_LOOPED, _PIPED, _COMMANDS = 1000, 2000, 50
_EQUAL, _ABOVE, _AT_LEAST, _ANY = (
    classic.JMP | test | classic.K for test in (classic.JEQ, classic.JGT, classic.JGE, classic.JSET)
)


def calls(n: int) -> list[tuple[int, int, tuple[int, ...]]]:
    """Calls of all tables with arguments as programs pass them, the same ones every time."""
    dice = random.Random(983)
    known = [
        (x86_64.arch(abi), nr) for abi, table in x86_64.NUMBERS.items() for nr in table.values()
    ]
    words = (0, 1, 2, 3, 16, 0x40, 0x1000, 0x7E020000, 0xFFFFFFFF, 1 << 32)
    return [(*dice.choice(known), tuple(dice.choice(words) for _ in range(6))) for _ in range(n)]


def interpret(program: Sequence[Instruction], arch: int, nr: int, args: Sequence[int]) -> int:
    """The plain loop: what the capture is made of, instruction by instruction."""
    words = data_words(arch, nr, args, 0)
    a = pc = 0
    while True:
        code, jt, jf, k = program[pc]
        pc += 1
        if code == classic.LOAD_WORD:
            word = words[k // 4]
            assert word is not None
            a = word
        elif code == _EQUAL:
            pc += jt if a == k else jf
        elif code == _ABOVE:
            pc += jt if a > k else jf
        elif code == _AT_LEAST:
            pc += jt if a >= k else jf
        elif code == _ANY:
            pc += jt if a & k else jf
        elif code == classic.JUMP:
            pc += k
        elif code == classic.ALU | classic.AND | classic.K:
            a &= k
        elif code == classic.RETURN_K:
            return k
        else:
            raise ValueError(f"libseccomp writes no opcode {code:#x}")


def rivals(program: bytes) -> dict[str, float]:
    """Decisions a second of what libseccomp offers."""
    own = program[8 * stub_length(program) :]
    asked = [(*call, 0) for call in calls(_PIPED)]
    with Simulator() as simulator:
        looped = _PIPED / seconds(lambda: simulator.decide(own, asked))
    with tempfile.NamedTemporaryFile() as file:
        file.write(own)
        file.flush()
        command = [str(built() / "scmp_bpf_sim"), "-f", file.name, "-a", "x86_64", "-s"]

        def one_by_one() -> None:
            for _, nr, _, _ in asked[:_COMMANDS]:
                subprocess.run([*command, str(nr)], check=True, stdout=subprocess.DEVNULL)

        return {
            "scmp_bpf_sim in a loop of ours": looped,
            "scmp_bpf_sim, a process each": _COMMANDS / seconds(one_by_one),
        }


def seconds(what: Callable[[], object]) -> float:
    begin = time.perf_counter()
    what()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    program = captured(983).read_bytes()
    asked = calls(_CALLS)

    def partitions() -> None:
        fresh = [Filter.decode(program)]
        for abi, table in x86_64.NUMBERS.items():
            for nr in table.values():
                partition(fresh, x86_64.arch(abi), nr)

    programs = [
        variant.program
        for family in library.load_families().values()
        for variant in family.default.variants
    ]

    def predictions() -> None:
        fresh = [Filter.decode(program)]
        for one in programs:
            predicted(one, fresh, None, 0)

    predictions()
    stack = [Filter.decode(program)]
    found: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, what in {
            "all calls of three tables, partition (under 0.5 s)": partitions,
            "the whole library, prediction (under 0.3 s)": predictions,
            "decisions": lambda: [decide_stack(stack, *one) for one in asked],
            "interpreter loop": lambda: [
                interpret(stack[0].instructions, *one) for one in asked[:_LOOPED]
            ],
        }.items():
            found.setdefault(name, []).append(seconds(what))
    (whole, foretold, decided, looped) = (min(values) for values in found.values())
    per_second, loop = _CALLS / decided, _LOOPED / looped
    print(f"all calls of three tables, partition (under 0.5 s)  {whole:8.2f} s")
    print(f"{len(programs):,} recorded variants, prediction (under 0.3 s)    {foretold:8.2f} s")
    print(f"decisions a second (at least 200,000)               {per_second:8.0f}")
    for name, rate in {"a plain loop in Python": loop, **rivals(program)}.items():
        print(f"  {name:37} (ratio {per_second / rate:6.1f}) {rate:8.0f}")


if __name__ == "__main__":
    main()
