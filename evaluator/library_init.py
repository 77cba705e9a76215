"""A first ``sidestep.toml``: what the profiles of a directory hold today, and what works."""

from __future__ import annotations

import glob
import json
import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from attacks import library as variants
from evaluator.campaign import evaluate
from evaluator.check_items import Unit
from evaluator.errors import InputError
from evaluator.expectations import Expected, Promise, check_workload_name
from evaluator.findings import with_findings
from evaluator.library_files import profiles_below
from evaluator.library_run import OnProgress, load_units
from evaluator.plan import Plan, Rewrites
from evaluator.records import CandidateResult, WorkloadOutcome
from evaluator.request import families
from evaluator.terminal import printable
from evaluator.verdict import HOLDING, Outcome, Verdict
from evaluator.workloads import DEFAULTS, chosen
from mitigations.candidate import Candidate

_BROKE = (Outcome.HARNESS_ERROR, Outcome.DISAGREEMENT)
_WIDTH = 98
_INTRO = """\
# What `sidestep check` expects of the profiles below this file: docs/check.md.
# Written from what held when it was made; what leaked is named in comments.
"""


class Found(Struct, frozen=True):
    """What one profile comes to."""

    name: str
    """Its path below the library."""
    held: tuple[str, ...]
    works: tuple[str, ...]
    leaks: tuple[str, ...]
    undecided: tuple[str, ...]
    broken: tuple[str, ...]
    error: str = ""
    """Why it cannot be used."""
    harness_failed: tuple[str, ...] = ()
    """Families of which nothing is known, through our fault."""


def evaluated(
    root: Path, workloads: Sequence[str], jobs: int | None, timeout_s: float, progress: OnProgress
) -> list[Found]:
    """What each profile below a directory holds; ``InputError`` if there is none."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot read: {error.strerror}")

    names = profiles_below(root, refuse)
    if not names:
        raise InputError(f"{root}: no profile (*.json, *.bpf) in it or below")
    promise = Promise()
    units = [
        Unit(Expected(name, root / name, promise), promise.postures[0], promise.runtime_models[0])
        for name in names
    ]
    loaded = load_units(units)
    plan = Plan(
        candidates=tuple(
            with_findings(one) if isinstance(one, Candidate) else one for one in loaded
        ),
        families=families((), variants.SUITE),
        workloads=chosen([*DEFAULTS, *workloads]),
        jobs=jobs or len(os.sched_getaffinity(0)),
        timeout_s=timeout_s,
        rewrites=Rewrites.SAMPLED,
        suite=frozenset(variants.suite().variants),
        with_steps=False,
    )
    results = evaluate(plan, progress)
    return [_found(name, one) for name, one in zip(names, results, strict=True)]


def _found(name: str, result: CandidateResult) -> Found:
    if not result.valid:
        error = result.errors[0]
        said = f"{error.where}: {error.message}" if error.where else error.message
        return Found(name, (), (), (), (), (), said)
    if not result.enforced:
        why = next(iter(result.notes), "not in force")
        return Found(name, (), (), (), (), (), why)
    of = {one.family: one for one in result.families if one.targeted}
    return Found(
        name=name,
        held=tuple(label for label, one in of.items() if one.verdict in HOLDING),
        works=tuple(one.workload for one in result.workloads if one.works),
        leaks=tuple(label for label, one in of.items() if one.verdict is Verdict.LEAKY),
        undecided=tuple(label for label, one in of.items() if one.verdict is Verdict.UNDECIDED),
        broken=tuple(
            one.workload for one in result.workloads if one.outcome is WorkloadOutcome.BROKEN
        ),
        harness_failed=tuple(
            dict.fromkeys(one.family for one in result.trials if one.outcome in _BROKE)
        ),
    )


def text_of(found: Iterable[Found], references: Sequence[str]) -> str:
    """The file: one entry for all profiles of which the same is expected.

    ``references`` name workloads that do not ship with the tool, as the file has to name them.
    """
    paths = {Path(one).stem: one for one in references if one.endswith(".toml")}
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Found]] = {}
    left_out: list[str] = []
    for one in found:
        if one.error:
            left_out.append(f"{one.name} cannot be used: {one.error}")
        elif not _is_utf8(one.name):
            left_out.append(f"{one.name}: its name is not UTF-8")
        elif not one.held and not one.works:
            left_out.append(f"{one.name}: nothing is held, and no program works")
        else:
            groups.setdefault((one.held, one.works), []).append(one)
    parts = [_INTRO, f"suite = {_string(variants.SUITE)}\n"]
    parts += [_entry(held, works, alike, paths) for (held, works), alike in groups.items()]
    parts += ["".join(_comment("Left out: ", line) for line in left_out)] if left_out else []
    return "\n".join(parts)


def _entry(
    held: Sequence[str], works: Sequence[str], alike: Sequence[Found], paths: dict[str, str]
) -> str:
    lines = ["[[profile]]\n"]
    names = [glob.escape(one.name) for one in alike]
    lines += [f"match = {_string(names[0])}\n"] if len(names) == 1 else _array("match", names)
    lines += _array("families", held) if held else []
    lines += _array("workloads", [paths.get(one, one) for one in works]) if works else []
    for one in alike:
        lines += _comments(one, "" if len(alike) == 1 else f"{one.name} ")
    return "".join(lines)


def _comments(one: Found, who: str) -> Iterator[str]:
    for what, names in (
        ("leaks, so this is not expected", one.leaks),
        ("undecided", one.undecided),
        ("breaks", one.broken),
    ):
        if names:
            yield _comment(f"{who}{what}: ", ", ".join(names))


def _comment(head: str, text: str) -> str:
    """Lines of comments that nothing can break out of."""
    whole = " ".join(printable(word) for word in f"{head}{text}".split())
    return "".join(f"# {line}\n" for line in textwrap.wrap(whole, _WIDTH, break_on_hyphens=False))


def _array(key: str, values: Sequence[str]) -> list[str]:
    line = f"{key} = [{', '.join(map(_string, values))}]\n"
    if len(line) <= _WIDTH:
        return [line]
    return [f"{key} = [\n", *(f"  {_string(one)},\n" for one in values), "]\n"]


def _string(text: str) -> str:
    """A TOML basic string: that of JSON, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def relative(references: Sequence[str], root: Path) -> list[str]:
    """Workloads as a file in ``root`` has to name them; ``InputError`` if one is not below."""
    found: list[str] = []
    for one in references:
        if not one.endswith(".toml") and "/" not in one:
            found.append(one)
            continue
        try:
            inside = Path(one).resolve().relative_to(root.resolve())
        except ValueError:
            raise InputError(f"--workload {one}: not below {root}: move it there") from None
        check_workload_name(inside.stem)
        found.append(inside.as_posix())
    return found


def counted(found: Sequence[Found]) -> str:
    """One line on what was written."""
    used = [one for one in found if (one.held or one.works) and _is_utf8(one.name)]
    held = sum(len(one.held) for one in used)
    works = sum(len(one.works) for one in used)
    return (
        f"{len(used)} of {len(found)} profiles, {held} families held, {works} workloads that work"
    )
