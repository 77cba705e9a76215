"""What can be computed of a filter, and how fast; bounds in brackets.

    python -m benchmarks.analysis [--rounds N]

The filter is the captured runtime default of 983 instructions, and the best of several rounds
counts.  The library is asked of a filter that is new each time; what is known of its programs alone
was found before.  ``scmp_bpf_sim`` of libseccomp's sources does not know stacks and is not
installed by distributions: the rival is the interpreter loop itself, instruction by instruction
from the start.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable

from attacks import library
from benchmarks.engine import captured
from evaluator.predict import predicted
from mitigations import x86_64
from mitigations.analysis import partition
from mitigations.bpf import Filter, decide_stack

_CALLS = 20_000


def calls(n: int) -> list[tuple[int, int, tuple[int, ...]]]:
    """Calls of all tables with arguments as programs pass them, the same ones every time."""
    dice = random.Random(983)
    known = [
        (x86_64.arch(abi), nr) for abi, table in x86_64.NUMBERS.items() for nr in table.values()
    ]
    words = (0, 1, 2, 3, 16, 0x40, 0x1000, 0x7E020000, 0xFFFFFFFF, 1 << 32)
    return [(*dice.choice(known), tuple(dice.choice(words) for _ in range(6))) for _ in range(n)]


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
                stack[0].decide(*one, with_path=True) for one in asked[: _CALLS // 20]
            ],
        }.items():
            found.setdefault(name, []).append(seconds(what))
    (whole, foretold, decided, looped) = (min(values) for values in found.values())
    per_second, loop = _CALLS / decided, _CALLS / 20 / looped
    print(f"all calls of three tables, partition (under 0.5 s)  {whole:8.2f} s")
    print(f"{len(programs):,} recorded variants, prediction (under 0.3 s)    {foretold:8.2f} s")
    print(f"decisions a second (at least 200,000)               {per_second:8.0f}")
    print(f"the interpreter loop, decisions a second            {loop:8.0f}")
    print(f"ratio                                               {per_second / loop:8.1f}")


if __name__ == "__main__":
    main()
