"""Which calls of the kernel the library exercises, and which it does not know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from attacks.family import FamilyInstance
from attacks.program import Abi, Syscall
from attacks.ring import OPCODES
from mitigations import x86_64


@dataclass(frozen=True, slots=True)
class Coverage:
    """Calls by table, and operations of a ring; ``used`` by how many variants."""

    abi: str
    known: int
    used: Mapping[str, int]
    unused: tuple[str, ...]


def coverage(families: Iterable[FamilyInstance]) -> list[Coverage]:
    """What the attacks of these families call; setup and victims do not count."""
    used: dict[str, dict[str, int]] = {name: {} for name in (*Abi, "io_uring")}
    for instance in families:
        for variant in instance.variants:
            for abi, name in _entries(variant.program.flatten()):
                used[abi][name] = used[abi].get(name, 0) + 1
    tables: dict[str, Iterable[str]] = {abi.value: x86_64.NUMBERS[abi.value] for abi in Abi}
    tables["io_uring"] = [f"IORING_OP_{name}" for name in OPCODES]
    return [
        Coverage(
            abi=abi,
            known=len(set(names)),
            used=dict(sorted(used[abi].items())),
            unused=tuple(sorted(set(names) - used[abi].keys())),
        )
        for abi, names in tables.items()
    ]


def _entries(flat: Iterable[tuple[str, object]]) -> set[tuple[str, str]]:
    entries: set[tuple[str, str]] = set()
    for section, op in flat:
        if section == "attack" and isinstance(op, Syscall):
            entries.add((op.abi.value, op.name))
            entries |= {("io_uring", one) for one in op.opcode.split(", ") if one}
    return entries
