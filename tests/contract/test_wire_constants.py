"""The runner's C and ``evaluator.wire`` mean the same numbers and the same tables."""

import re
from collections.abc import Mapping
from enum import IntEnum, IntFlag
from pathlib import Path

import pytest

from attacks import program
from evaluator import outline, pool, record, wire

NATIVE = Path(__file__).parents[2] / "evaluator" / "native"
SOURCE = "".join(path.read_text() for path in [*sorted(NATIVE.glob("*.h")), NATIVE / "runner.c"])


def constants(prefix: str) -> dict[str, int]:
    """The enumerators of runner.c that begin with a prefix, with C's rule for their values."""
    found: dict[str, int] = {}
    for body in re.findall(r"enum \{(.*?)\}", SOURCE, re.DOTALL):
        value = -1
        for part in re.sub(r"//.*", "", body).split(","):
            name, _, given = (piece.strip() for piece in part.partition("="))
            if not name.startswith(prefix) or name.startswith("S_IF"):  # a file's type
                continue
            value = int(given, 0) if given else value + 1
            found[name.removeprefix(prefix)] = value
    return found


def defined(name: str) -> int:
    match = re.search(rf"#define {name} \(?([^\n)/]+)\)?", SOURCE)
    assert match is not None, name
    words = [int(word.strip().removesuffix("UL"), 0) for word in match[1].split("*")]
    return words[0] * (words[1] if len(words) > 1 else 1) * (words[2] if len(words) > 2 else 1)


SPELLED: dict[tuple[type[IntEnum] | type[IntFlag], str], Mapping[str, str]] = {
    (wire.ProgramFlag, "P_"): {"NNP": "NO_NEW_PRIVS"},
    (wire.RunFlag, "R_"): {},
    (wire.Frame, "T_"): {},
    (wire.Step, "X_"): {},
    (wire.Mode, "M_"): {},
    (wire.RecordState, "S_"): {},
    (record.Happening, "EVENT_"): {},
    (record.Step, "STEP_"): {},
}


@pytest.mark.parametrize(("names", "prefix"), SPELLED, ids=str)
def test_each_number_has_one_name(names: type[IntEnum] | type[IntFlag], prefix: str) -> None:
    other = SPELLED[names, prefix]
    in_c = {other.get(name, name): value for name, value in constants(prefix).items()}
    in_python = {
        one.name: int(one) for one in names if one.name != "NONE" or prefix in ("X_", "STEP_")
    }
    assert in_python == in_c


def test_operations_and_entries_have_the_runners_numbers() -> None:
    kinds = {kind.__name__.upper(): number for kind, number in wire._KINDS.items()}
    assert kinds == constants("K_")
    short = {
        "SYSCALL": "SYSCALL",
        "INT80": "INT80",
        "SYSENTER": "SYSENTER",
        "FAR_INT80": "FAR",
        "WIDE_SYSCALL": "WIDE",
    }
    in_c = constants("E_")
    assert {short[entry.name]: number for entry, number in wire._ENTRIES.items()} == in_c
    environment = {one.name: number for one, number in wire._ENVIRONMENT.items()}
    assert {**environment, "COUNT": len(environment)} == constants("ENV_")
    assert constants("F_") == {
        "MAY_FAIL": wire._MAY_FAIL,
        "BODY": wire._BODY,
        "DECISIVE": wire._DECISIVE,
    }


def test_sizes_and_places_are_the_runners() -> None:
    assert defined("MAX_OPS") == program.MAX_OPERATIONS
    assert defined("ARENA_SIZE") == program.ARENA_SIZE
    assert defined("ARENA") == outline.ARENA
    assert defined("MAX_FRAME") == wire.MAX_FRAME
    assert defined("MAX_PROGRAMS") == pool._PROGRAMS
    assert defined("MAX_CONFIGS") == pool._CONFIGS
