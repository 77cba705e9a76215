"""How many answers to scenarios are scored in a second: rates, and where the time goes.

    python -m benchmarks.scoring [--profiles N] [--jobs N]

The profiles are made up: of each scenario's known answers (the reference solution, the denylist of
the PoC, one that allows everything), each with a rule of its own on calls that no way and no
workload makes, so that no two compile to the same filter.  They are written as files and scored as
``sidestep score`` scores them, workloads and the rows of known answers included.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evaluator import starts
from evaluator.judging import Asked, results
from evaluator.records import Starts
from evaluator.scenario_check import Known, candidate, known_answers
from evaluator.scenarios import Scenario, scenarios
from evaluator.score_run import answers_of, judged
from mitigations.candidate import Candidate

_UNUSED = (
    *("lookup_dcookie", "nfsservctl", "uselib", "sysfs", "ustat", "vhangup", "migrate_pages"),
    *("move_pages", "set_mempolicy", "get_mempolicy", "mbind", "remap_file_pages", "_sysctl"),
    *("create_module", "afs_syscall"),
)
_KINDS = (Known.REFERENCE, Known.POC_ONLY, Known.REFERENCE, Known.ALLOW_ALL, Known.POC_ONLY)
_SEED = 7
_SAMPLE, _EACH = 12, 25
"""Scenarios over which the parts are told apart, and answers to each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profiles", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sidestep-benchmark-") as folder:
        each = -(-asked.profiles // len(scenarios()))
        whole(Path(folder) / "distinct", asked.profiles, each, asked.jobs)
        whole(Path(folder) / "copies", asked.profiles, max(1, each // 10), asked.jobs)
    parts()


def whole(root: Path, count: int, distinct: int, jobs: int) -> None:
    """Scores ``count`` files, ``distinct`` of each scenario different from each other."""
    written = write(root, count, distinct)
    busy, begin = cpu(), time.perf_counter()
    answers = answers_of(root)
    read = time.perf_counter()
    found = judged(answers, lambda _: None, jobs=jobs)
    end = time.perf_counter()
    busy = cpu() - busy
    usable = {
        (one.scenario.name, one.candidate.digest)
        for one in answers
        if isinstance(one.candidate, Candidate)
    }
    known = len(found) - len(answers)
    took = end - begin
    joint = Counter(one.score.joint if one.score else None for one in found[: len(answers)])
    evaluated = len(usable) + known
    print(f"{written} files, {len(usable)} distinct filters, and {known} known answers")
    print(f"  read and compiled {read - begin:.1f} s, evaluated {end - read:.1f} s by {jobs} jobs")
    print(f"  processors were busy with it for {busy:.1f} s of {jobs * took:.1f} s")
    for name, amount in (("files", written), ("evaluations", evaluated)):
        print(
            f"  {name:12} {amount / took / jobs:6.1f} a second and core, "
            f"{amount / busy:6.1f} a second of processor time"
        )
    print(f"  joint: {', '.join(f'{n} {k}' for k, n in sorted(joint.items(), key=str))}")


def cpu() -> float:
    """Seconds of processor time, of this process and of all that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def write(root: Path, count: int, distinct: int) -> int:
    rng = random.Random(_SEED)
    made: dict[str, list[str]] = {}
    everything = scenarios()
    for number in range(count):
        one = everything[number % len(everything)]
        mine = made.setdefault(one.name, [])
        place = number // len(everything)
        if place < distinct:
            mine.append(profile(one, place, rng))
        file = root / "made-up" / one.name / f"{place:04}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(mine[place % len(mine)])
    return count


def profile(one: Scenario, number: int, rng: random.Random) -> str:
    known = known_answers(one)
    base: dict[str, Any] = json.loads(
        known.get(_KINDS[number % len(_KINDS)], known[Known.POC_ONLY])
    )
    rule = {
        "names": sorted(rng.sample(_UNUSED, rng.randint(1, len(_UNUSED)))),
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": number + 1,
    }
    return json.dumps({**base, "syscalls": [*base["syscalls"], rule]})


def parts() -> None:
    """What of one process's time goes where, over some scenarios: in processor time."""
    spent: Counter[str] = Counter()
    count = trials = 0
    rng = random.Random(_SEED)
    for one in scenarios()[:: max(1, len(scenarios()) // _SAMPLE)]:
        texts = [profile(one, n, rng) for n in range(_EACH)]
        begin = cpu()
        asked = Asked(one, tuple(map(candidate, texts)))
        read = cpu()
        with without_programs():
            list(results(asked, lambda _: None))
        families = cpu()
        seen = list(results(asked, lambda _: None))
        spent["reading and compiling"] += read - begin
        spent["families: load, read back, trials, judging"] += families - read
        spent["starts and workloads"] += cpu() - families - (families - read)
        count += len(seen)
        trials += sum(len(each.trials) for each in seen)
    print(f"one process, {count} answers, {trials / count:.0f} trials each, processor time:")
    for name, took in spent.items():
        print(f"  {name:44} {took / count * 1e3:6.1f} ms an answer")
    without = sum(spent.values()) - spent["starts and workloads"]
    print(f"  {count / without:.1f} answers a second without programs, ", end="")
    print(f"{count / sum(spent.values()):.1f} with them")


@contextmanager
def without_programs() -> Iterator[None]:
    """Starts and workloads are not looked at: to tell what the rest takes."""
    whole = starts.honest_programs
    starts.honest_programs = lambda *_, **__: (Starts(), ())
    try:
        yield
    finally:
        starts.honest_programs = whole


if __name__ == "__main__":
    main()
