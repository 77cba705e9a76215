"""One trial against its rivals, in one run: ratios, never single times.

    python -m benchmarks.engine [--rounds N]

Rivals take turns in small blocks, so that the drift of a noisy machine meets all of them.  A trial
here is the whole trial: fixture, oracle before, attack in a fresh process under the filter, oracle
after, ground truth, clean-up; decoded in Python.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from attacks import library
from evaluator.pool import Arm, Pool
from evaluator.posture import POSTURES
from evaluator.trial import program_spec
from evaluator.wire import ConfigSpec, Filter, ProgramSpec, RunFlag

ROOT = Path(__file__).resolve().parent.parent
CAPTURES = ROOT / "tests" / "data" / "captures"
_CLONE_NEWNS, _CLONE_NEWNET = 0x20000, 0x40000000


def captured(instructions: int) -> Path:
    """A captured program of that length."""
    for path in sorted(CAPTURES.glob("*.bpf")):
        if path.stat().st_size == instructions * 8:
            return path
    sys.exit(f"no captured program of {instructions} instructions in {CAPTURES}")


def compile_base(folder: Path) -> Path:
    base = folder / "base"
    source = Path(__file__).with_name("base.c")
    subprocess.run(["cc", "-O2", "-static", str(source), "-o", str(base)], check=True)
    return base


def base_us(base: Path, filter_path: Path, rounds: int) -> float:
    # On the core of the first worker, as that is how our own runner runs.
    core = str(min(os.sched_getaffinity(0)))
    done = subprocess.run(
        ["taskset", "-c", core, base, filter_path, str(rounds)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def config(filter_path: Path) -> ConfigSpec:
    stance = POSTURES["container"]
    filters = (Filter(filter_path.read_bytes()),)
    return ConfigSpec(stance.uid, stance.gid, stance.mask, no_new_privs=False, filters=filters)


def trials_us(
    pool: Pool, spec: ProgramSpec, how: ConfigSpec, n: int, flags: RunFlag = RunFlag.NONE
) -> float:
    """Microseconds a trial, over ``n`` trials spread over the pool's workers."""
    arms = [Arm(spec, how, how, 1_000_000, flags)] * n
    begin = time.perf_counter()
    results = pool.run(arms)
    took = time.perf_counter() - begin
    if any(isinstance(one, str) or one.truth.filters < 1 for one in results):
        sys.exit("a trial went wrong")
    return took / n * 1e6


_CHILD = """
import os, pyseccomp, subprocess, sys
ATTACK = "import os\\ntry: os.mkdir('/tmp/sidestep-bench-x')\\nexcept OSError: pass"
def load():
    f = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in ("mkdir", "mkdirat"):
        f.add_rule(pyseccomp.ERRNO(1), name)
    f.load()
for _ in range(int(sys.argv[1])):
    subprocess.run([sys.executable, "-c", ATTACK], preexec_fn=load)
"""


_SEVEN = [
    word
    for name in (
        "change-mode",
        "create-directory",
        "create-file",
        "create-filesystem-object",
        "create-process",
        "delete-file",
        "execute-program",
    )
    for word in ("--family", name)
]
"""The families that the first bounds were set for."""


Serve = Callable[[int, Connection], None]


class Worker:
    """A process of its own on one core, as a campaign has them; ``serve`` is what it does."""

    def __init__(self, core: int, serve: Serve) -> None:
        context = multiprocessing.get_context("fork")
        self.end, theirs = context.Pipe()
        context.Process(target=self._serve, args=(core, serve, theirs), daemon=True).start()

    @staticmethod
    def _serve(core: int, serve: Serve, end: Connection) -> None:
        os.sched_setaffinity(0, {core})
        serve(core, end)


def serve_trials(spec: ProgramSpec, how: ConfigSpec) -> Serve:
    """Trials with a runner of its own, as often as it is told."""

    def serve(core: int, end: Connection) -> None:
        with Pool(1, core) as pool:
            while n := end.recv():
                end.send(trials_us(pool, spec, how, n))

    return serve


def serve_forks(core: int, end: Connection) -> None:
    """What the machine itself makes of a second core: nothing but fork and wait."""
    del core
    while n := end.recv():
        for _ in range(n):
            child = os.fork()
            if not child:
                os._exit(0)
            os.waitpid(child, 0)
        end.send(n)


def workers_us(workers: Sequence[Worker], n: int) -> float:
    """Microseconds a trial, where each of the workers does ``n``."""
    begin = time.perf_counter()
    for worker in workers:
        worker.end.send(n)
    for worker in workers:
        worker.end.recv()
    return (time.perf_counter() - begin) / (n * len(workers)) * 1e6


def python_child_us(n: int) -> float:
    """The usual way: a fresh Python child with a pyseccomp ``preexec_fn``."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", _CHILD, str(n)], check=True)
    return (time.perf_counter() - begin) / n * 1e6


def command_us(*options: str) -> float:
    """`sidestep evaluate` of one bundled profile, start to finish."""
    profile = ROOT / "mitigations" / "library" / "block-mkdir.json"
    command = [str(Path(sys.executable).with_name("sidestep")), "evaluate", str(profile), *options]
    begin = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, cwd=ROOT)
    assert done.returncode in (0, 1), (
        done.stderr
    )  # a named family that is not held is a failed gate
    return (time.perf_counter() - begin) * 1e6


def rounds_of(measures: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Every measure once a round."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            found[name].append(measure())
    return found


def ratio(found: dict[str, list[float]], a: str, b: str) -> float:
    """The median of the round-by-round ratios."""
    return statistics.median(x / y for x, y in zip(found[a], found[b], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--trials", type=int, default=600)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    small, large = captured(14), captured(983)
    mkdirat = library.load_families()["create-directory"].default.variant("mkdirat")
    spec = program_spec(mkdirat)
    mount, net = (
        ProgramSpec(spec.program, spec.objects, flags=spec.flags, fresh=flag)
        for flag in (_CLONE_NEWNS, _CLONE_NEWNET)
    )
    n = options.trials
    cores = sorted(os.sched_getaffinity(0))[:2]
    workers = [Worker(core, serve_trials(spec, config(large))) for core in cores]
    forkers = [Worker(core, serve_forks) for core in cores]
    with tempfile.TemporaryDirectory() as folder, Pool(1) as one:
        base = compile_base(Path(folder))
        found = rounds_of(
            {
                "base, 14": lambda: base_us(base, small, n // 2),
                "trial, 14": lambda: trials_us(one, spec, config(small), n),
                "base, 983": lambda: base_us(base, large, n // 6),
                "trial, 983": lambda: trials_us(one, spec, config(large), n),
                "one worker on one core, 983": lambda: workers_us(workers[:1], n * 2),
                "two workers on two cores, 983": lambda: workers_us(workers, n * 2),
                "forks on one core": lambda: workers_us(forkers[:1], n * 2),
                "forks on two cores": lambda: workers_us(forkers, n * 2),
                "no fast path, 14": lambda: trials_us(
                    one, spec, config(small), n // 4, RunFlag.SLOW
                ),
                "fresh mount namespace": lambda: trials_us(one, mount, config(small), n // 4),
                "fresh network namespace": lambda: trials_us(one, net, config(small), n // 12),
                "Python child": lambda: python_child_us(8),
                "seven families (under 2 s)": lambda: command_us(*_SEVEN),
                "seven, --json (under 1.2 s)": lambda: command_us("--json", *_SEVEN),
                "all families (under 4 s)": command_us,
                "all families, --json": lambda: command_us("--json"),
            },
            options.rounds,
        )
    ratios = {
        "trial / base, 14 instructions (at most 1.0)": ratio(found, "trial, 14", "base, 14"),
        "trial / base, 983 instructions (at most 0.15)": ratio(found, "trial, 983", "base, 983"),
        "Python child / trial (at least 90)": ratio(found, "Python child", "trial, 14"),
        "one worker on one core / two on two (at least 1.8)": ratio(
            found, "one worker on one core, 983", "two workers on two cores, 983"
        ),
        "forks on one core / on two (what the machine gives)": ratio(
            found, "forks on one core", "forks on two cores"
        ),
        "no fast path / trial": ratio(found, "no fast path, 14", "trial, 14"),
        "fresh mount namespace / trial": ratio(found, "fresh mount namespace", "trial, 14"),
        "fresh network namespace / trial": ratio(found, "fresh network namespace", "trial, 14"),
    }
    if options.json:
        print(
            json.dumps(
                {"ratios": ratios, "us": {k: statistics.median(v) for k, v in found.items()}},
                indent=1,
            )
        )
        return
    for name, values in found.items():
        print(f"{name:31} {statistics.median(values):9.1f} us (median of {len(values)} rounds)")
    print()
    for name, value in ratios.items():
        print(f"{name:52} {value:7.2f}")


if __name__ == "__main__":
    main()
