"""Profiles by chance, the same ones for the same seed: for tests that need many different filters.

They name the calls that the attack library makes; anything else would hardly stop a thing.
"""

import random
from collections.abc import Iterator
from typing import Any

from attacks import library
from attacks.program import Const, Syscall

ARCHITECTURES = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")
ANSWERS = (
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
)
OPERATORS = ("EQ", "NE", "GT", "GE", "LT", "LE", "MASKED_EQ")
NEVER_ASKED = {"write"}
"""runc refuses NOTIFY for it, and as the default."""
ERRNOS = (0, 1, 1, 2, 11, 13, 38, 4094)
MOST_RULES, MOST_NAMES, MOST_ARGUMENTS = 6, 12, 2


def profiles(count: int, seed: int = 983) -> Iterator[dict[str, Any]]:
    """So many profiles of all kinds: lists of what is denied, and of what is allowed."""
    dice = random.Random(seed)
    seen = _constants()
    for _ in range(count):
        yield _allowing(dice, seen) if dice.random() < 1 / 3 else _denying(dice, seen)


def _constants() -> dict[str, list[tuple[int, int]]]:
    """The calls of the library, each with index and value of the constants that it is given."""
    found: dict[str, set[tuple[int, int]]] = {}
    for family in library.load_families().values():
        for variant in family.default.variants:
            for section, op in variant.program.flatten():
                if section == "attack" and isinstance(op, Syscall):
                    arguments = enumerate(op.args)
                    values = {(n, arg.value) for n, arg in arguments if isinstance(arg, Const)}
                    found.setdefault(op.name, set()).update(values)
    return {name: sorted(values) for name, values in sorted(found.items())}


def _denying(dice: random.Random, seen: dict[str, list[tuple[int, int]]]) -> dict[str, Any]:
    """All is allowed, but for some calls."""
    rules = [_rule(dice, seen, dice.choice(ANSWERS)) for _ in range(dice.randint(1, MOST_RULES))]
    return _profile(dice, {"defaultAction": "SCMP_ACT_ALLOW"}, rules)


def _allowing(dice: random.Random, seen: dict[str, list[tuple[int, int]]]) -> dict[str, Any]:
    """All is denied, but for most calls."""
    names = [name for name in seen if dice.random() < dice.choice((0.8, 0.9, 0.97))]
    rules = [{"names": names, "action": "SCMP_ACT_ALLOW"}]
    rules += [_rule(dice, seen, "SCMP_ACT_ALLOW") for _ in range(dice.randint(0, MOST_RULES))]
    return _profile(dice, _answer(dice, dice.choice(ANSWERS[:-1]), "default"), rules)


def _profile(
    dice: random.Random, default: dict[str, Any], rules: list[dict[str, Any]]
) -> dict[str, Any]:
    chosen = dice.choice(((), ARCHITECTURES[:1], ARCHITECTURES[:2], ARCHITECTURES, ARCHITECTURES))
    architectures = {"architectures": list(chosen)} if chosen else {}
    return {**default, **architectures, "syscalls": rules}


def _rule(
    dice: random.Random, seen: dict[str, list[tuple[int, int]]], action: str
) -> dict[str, Any]:
    """Some calls, with or without conditions on arguments that programs really pass."""
    answer = _answer(dice, action, "")
    if dice.random() < 1 / 2:
        names = dice.sample(sorted(seen.keys() - NEVER_ASKED), dice.randint(1, MOST_NAMES))
        return {"names": names, **answer}
    name = dice.choice([one for one, values in seen.items() if values and one not in NEVER_ASKED])
    count = dice.randint(1, MOST_ARGUMENTS)
    known = dice.sample(seen[name], min(count, len(seen[name])))
    distinct = dict(known)
    return {"names": [name], **answer, "args": [_test(dice, *one) for one in distinct.items()]}


def _answer(dice: random.Random, action: str, prefix: str) -> dict[str, Any]:
    key, number = ("defaultAction", "defaultErrnoRet") if prefix else ("action", "errnoRet")
    if action != "SCMP_ACT_ERRNO":
        return {key: action}
    return {key: action, number: dice.choice(ERRNOS)}


def _test(dice: random.Random, index: int, value: int) -> dict[str, Any]:
    operator = dice.choice(OPERATORS)
    test = {"index": index, "op": f"SCMP_CMP_{operator}", "value": value}
    if operator != "MASKED_EQ":
        return test
    mask = dice.choice((value, 1 << dice.randrange(32), 0xFFFFFFFF))
    return {**test, "value": mask, "valueTwo": value & mask}
