"""What one version of systemd knows: its sets of system calls, its settings, address families.

The recorded facts are in ``data/systemd.json``, which benchmarks/capture/record_systemd.py makes
of the installed systemd.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

MODELLED = 252
"""The version whose way of making filters is followed."""
_RECORDED = Path(__file__).parent / "data" / "systemd.json"
_SUBSTITUTE = "AF_UNSPEC", "AF_MAX"


class _Provenance(Struct, frozen=True):
    version: str


class _Recorded(Struct, frozen=True):
    provenance: _Provenance
    sets: dict[str, tuple[str, ...]]
    settings: dict[str, frozenset[str]]
    address_families: dict[str, int]


class Facts(Struct, frozen=True):
    version: str
    """As ``systemd --version`` says it: ``systemd 252 (252.38-1~deb12u1)``."""
    sets: Mapping[str, Sequence[str]]
    """By name, with its ``@``: names of calls and of other sets."""
    settings: Mapping[str, frozenset[str]]
    """By section: the keys that systemd knows there."""
    address_families: Mapping[str, int]
    installed: bool = False
    """Whether the sets are those of the systemd of this machine."""

    @property
    def number(self) -> int:
        """The version alone; 0 where it cannot be told."""
        digits = self.version.removeprefix("systemd").split()
        return int(digits[0]) if digits and digits[0].isdecimal() else 0

    @property
    def family_limit(self) -> int:
        """AF_MAX: families from there on are no families."""
        return self.address_families["AF_MAX"]

    def family(self, name: str) -> int | None:
        return None if name in _SUBSTITUTE else self.address_families.get(name)

    def calls_of(self, name: str) -> tuple[str, ...] | None:
        """All calls of a set and of the sets in it, in their order; None for no set."""
        if name not in self.sets:
            return None
        found: list[str] = []
        for member in self.sets[name]:
            found += (self.calls_of(member) or ()) if member.startswith("@") else (member,)
        return tuple(found)


@cache
def recorded() -> Facts:
    """Of the version that is modelled."""
    found = msgspec.json.decode(_RECORDED.read_bytes(), type=_Recorded)
    return Facts(found.provenance.version, found.sets, found.settings, found.address_families)


def of_installed(version: str, listing: str) -> Facts:
    """The recorded facts with the sets that ``systemd-analyze syscall-filter`` lists here.

    ``version`` is the first line of ``systemd-analyze --version``.
    """
    return replace(recorded(), version=version, sets=sets_of(listing), installed=True)


def sets_of(listing: str) -> dict[str, list[str]]:
    """What ``systemd-analyze syscall-filter`` prints: a set, and its members indented below it."""
    sets: dict[str, list[str]] = {}
    members: list[str] = []
    for line in listing.splitlines():
        word = line.strip()
        if line.startswith("@"):
            members = sets.setdefault(word, [])
        elif word and not word.startswith("#"):
            members.append(word)
    return sets
