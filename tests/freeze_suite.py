"""Freezes the default instance of every family into the current suite."""

from attacks.library import SUITE, SUITES, current_suite

if __name__ == "__main__":
    (SUITES / f"{SUITE}.json").write_text(current_suite().to_json(), encoding="utf-8")
