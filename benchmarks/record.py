"""What recording costs: the same command recorded and not, in one run: ratios, never single times.

    python -m benchmarks.record [--rounds N]

Both take turns, so that the drift of a noisy machine meets both.  "Plain" is the same native runner
without a filter, so that the ratio is that of the recording and not of starting one more process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable

from benchmarks.engine import rounds_of
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


def took(command: tuple[str, ...], *, recorded: bool) -> float:
    found, _ = run(command, How(60.0, asks=ASKS if recorded else b""))
    if found.end != "exited with 0":
        sys.exit(f"{command[0]} {found.end}")
    return found.took_s


def measure(command: tuple[str, ...], *, recorded: bool) -> Callable[[], float]:
    return lambda: took(command, recorded=recorded)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measures = {
        f"{name}, {'recorded' if recorded else 'plain'}": measure(command, recorded=recorded)
        for name, command in _COMMANDS.items()
        for recorded in (False, True)
    }
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        found = rounds_of(measures, options.rounds)
        calls = {name: run(command, How(60.0))[0].calls for name, command in _COMMANDS.items()}
        os.chdir("/")
    ratios = {
        name: statistics.median(
            recorded / plain
            for recorded, plain in zip(
                found[f"{name}, recorded"], found[f"{name}, plain"], strict=True
            )
        )
        for name in _COMMANDS
    }
    if options.json:
        print(json.dumps({"ratios": ratios, "calls": calls}, indent=1))
        return
    for name, values in found.items():
        print(f"{name:18} {statistics.median(values) * 1e3:8.1f} ms (median of {len(values)})")
    print()
    for name, value in ratios.items():
        print(f"{name}, {calls[name]} calls: recorded / plain (at most {BOUND}) {value:6.2f}")


if __name__ == "__main__":
    main()
