"""What recording costs: the same command recorded and not, in one run: ratios, never single times.

    python -m benchmarks.record [--rounds N]

Both take turns, so that the drift of a noisy machine meets both.  "Plain" is the same native runner
without a filter, so that the ratio is that of the recording and not of starting one more process.
On a busy machine the clock flatters the recorded run, whose two processes wake each other; the time
of processors does not, and on a quiet machine the two ratios are close.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import statistics
import sys
import tempfile
from typing import NamedTuple

from evaluator.record import ASKS, How, run

BOUND = 2.0
_SHELL = """
for i in 1 2 3 4 5 6 7 8 9 10; do
  printf 'one\\ntwo\\nthree\\n' > list
  cat list > /dev/null
  ls > /dev/null
  sort list | head -n 1 > /dev/null
  grep -c t list > /dev/null
  cp list copy
  mv copy moved
  wc -l < moved > /dev/null
  rm moved
done
rm list
"""
_SQLITE = """
import os, sqlite3
db = sqlite3.connect("bench.db")
db.execute("create table t (a integer, b text)")
for _ in range(20):
    with db:
        db.executemany("insert into t values (?, ?)", [(i, str(i)) for i in range(500)])
assert db.execute("select count(*) from t").fetchone() == (10000,)
db.close()
os.unlink("bench.db")
"""
_COMMANDS = {
    "shell": ("/bin/sh", "-c", _SHELL),
    "sqlite": (sys.executable, "-c", _SQLITE),
}


class Cost(NamedTuple):
    """Of one run: seconds on the clock, and of processors, the runner's own among them."""

    clock: float
    cpu: float


def cost(command: tuple[str, ...], *, recorded: bool) -> Cost:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found, _ = run(command, How(60.0, asks=ASKS if recorded else b""))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if found.end != "exited with 0":
        sys.exit(f"{command[0]} {found.end}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(found.took_s, cpu)


def ratio(plain: list[float], recorded: list[float]) -> float:
    """The median of the round-by-round ratios."""
    return statistics.median(b / a for a, b in zip(plain, recorded, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        rounds = [
            {
                name: (cost(command, recorded=False), cost(command, recorded=True))
                for name, command in _COMMANDS.items()
            }
            for _ in range(options.rounds)
        ]
        calls = {name: run(command, How(60.0))[0].calls for name, command in _COMMANDS.items()}
    ratios = {
        f"{name}, {what}": ratio(
            [getattr(one[name][0], what) for one in rounds],
            [getattr(one[name][1], what) for one in rounds],
        )
        for name in _COMMANDS
        for what in Cost._fields
    }
    if options.json:
        print(json.dumps({"ratios": ratios, "calls": calls}, indent=1))
        return
    for name in _COMMANDS:
        for i, how in enumerate(("plain", "recorded")):
            clock, cpu = (
                statistics.median(one[name][i][k] for one in rounds) * 1e3 for k in range(2)
            )
            print(f"{name}, {how:10} {clock:8.1f} ms, {cpu:8.1f} ms of processors")
        print(f"  {calls[name]} calls")
    print(f"\nrecorded / plain, median of {options.rounds} rounds (at most {BOUND})")
    for name, value in ratios.items():
        print(f"{name:18} {value:6.2f}")


if __name__ == "__main__":
    main()
