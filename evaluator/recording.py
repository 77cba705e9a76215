"""What a program was seen to call, over one run or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from evaluator.kept_arguments import Arguments
from mitigations import x86_64

ABIS = tuple(x86_64.NUMBERS)


class Use(Struct, frozen=True):
    """One call with the arguments that were kept of it."""

    abi: str
    call: str
    """Its name; the number where the table has none."""
    args: Arguments
    """``None``: not kept, not known, or too many different values: it may be anything."""
    runs: int
    """In how many runs it was seen."""
    before_own_filter: bool = False
    """By a process that had no filter of its own yet, in a program that puts one on."""


class Recording(Struct, frozen=True):
    command: tuple[str, ...]
    """What was run; empty where that was not one command, or somebody else recorded it."""
    runs: int
    uses: tuple[Use, ...]
    notes: tuple[str, ...] = ()
    appearances: Mapping[str, int] = {}
    """In how many runs a call was seen, whatever its arguments, by ``title``."""
    ends: tuple[str, ...] = ()
    """How each run ended, in words."""
    workload: str = ""
    """Its name, where the command is that of one workload."""

    def calls(self, abi: str) -> frozenset[str]:
        return frozenset(use.call for use in self.uses if use.abi == abi)

    @property
    def abis(self) -> tuple[str, ...]:
        return tuple(abi for abi in ABIS if self.calls(abi))

    def only_once(self) -> tuple[Use, ...]:
        """The uses of calls that not every run made."""
        return tuple(use for use in self.uses if self.appearances[title(use)] < self.runs)


def title(use: Use) -> str:
    """A call by its name, and by its ABI where that is not the native one."""
    return use.call if use.abi == "x86_64" else f"{use.abi}:{use.call}"


def recording(
    command: Sequence[str],
    uses: Sequence[Use],
    notes: Sequence[str] = (),
    end: str = "",
    workload: str = "",
) -> Recording:
    """One run."""
    distinct = _sorted(set(uses))
    return Recording(
        command=tuple(command),
        runs=1,
        uses=distinct,
        notes=tuple(notes),
        appearances={title(use): 1 for use in distinct},
        ends=(end,) if end else (),
        workload=workload,
    )


def merge(recordings: Sequence[Recording]) -> Recording:
    """All of them as one; notes that several have are said once."""
    appearances = Counter[str]()
    for one in recordings:
        appearances.update(one.appearances)
    commands = {one.command for one in recordings if one.command}
    workloads = {one.workload for one in recordings}
    return Recording(
        command=commands.pop() if len(commands) == 1 else (),
        runs=sum(one.runs for one in recordings),
        uses=_merged(recordings),
        notes=tuple(dict.fromkeys(note for one in recordings for note in one.notes)),
        appearances=dict(sorted(appearances.items())),
        ends=tuple(end for one in recordings for end in one.ends),
        workload=workloads.pop() if len(workloads) == 1 else "",
    )


def _merged(recordings: Sequence[Recording]) -> tuple[Use, ...]:
    runs = Counter[Use]()
    for use in (use for one in recordings for use in one.uses):
        runs[replace(use, runs=0)] += use.runs
    return _sorted(replace(use, runs=n) for use, n in runs.items())


def _sorted(uses: Iterable[Use]) -> tuple[Use, ...]:
    def order(use: Use) -> tuple[int, str, bool, list[int]]:
        args = [-1 if value is None else value for value in use.args]
        return ABIS.index(use.abi), use.call, not use.before_own_filter, args

    return tuple(sorted(uses, key=order))
