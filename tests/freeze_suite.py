"""Freezes the default instance of every family into the current suite."""

import sys

from attacks.library import SUITE, SUITES, current_suite, suite

if __name__ == "__main__":
    different = suite().differences()
    path = SUITES / f"{SUITE}.json"
    path.write_text(current_suite().to_json(), encoding="utf-8")
    sys.stdout.write(f"{path}: {len(different)} variants differ from what was frozen before\n")
