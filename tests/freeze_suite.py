"""Freezes the default instance of every family, and what rewrites make of it, into a new suite.

    python tests/freeze_suite.py 2026.12

A suite that was released stays as it is: what is added later is in the next one.  Before that,
``--again`` freezes it anew.
"""

import sys

from msgspec.structs import replace

from attacks.library import SUITE, SUITES, current_suite, suite


def main(name: str, *options: str) -> None:
    path = SUITES / f"{name}.json"
    if path.exists() and options != ("--again",):
        sys.exit(f"{path} is frozen: name another suite, or say --again if it was never released")
    different = suite().differences()
    path.write_text(replace(current_suite(), name=name).to_json(), encoding="utf-8")
    sys.stdout.write(f"{path}: {len(different)} variants differ from suite {SUITE}\n")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
