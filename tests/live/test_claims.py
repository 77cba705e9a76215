"""docs/claims.md says what this kernel says, and what a containerd and a runc started here say."""

import importlib.util
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PODS = re.compile(r"^## What a pod gets\n.*?(?=^## )", re.MULTILINE | re.DOTALL)
CHANGED = "run `make docs` and read the change"


def ambient_confinement() -> bool:
    status = Path("/proc/self/status").read_text().split()
    fields = dict(itertools.pairwise(status))
    return fields["Seccomp:"] != "0" or fields["NoNewPrivs:"] != "0"


def lacking() -> str:
    """What is not there to start pods; empty if all is."""
    if os.geteuid() != 0:
        return "needs root"
    programs = ("containerd", "ctr", "runc", "unshare", "busybox")
    missing = [one for one in programs if shutil.which(one) is None]
    missing += [] if importlib.util.find_spec("grpc") else ["grpcio"]
    return f"not installed: {', '.join(missing)}" if missing else ""


def traces() -> set[str]:
    """What the pods of a demo might leave: mounts, cgroups, directories, processes."""
    mounts = {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()}
    cgroups = {str(one) for one in Path("/sys/fs/cgroup").rglob("*capture*") if one.is_dir()}
    directories = {str(one) for one in Path("/tmp").glob("sidestep-capture-*")}
    engine = {str(one) for one in Path("/run").glob("containerd/*")}
    return {one for one in mounts if "capture" in one} | cgroups | directories | engine


def demo(environment: Mapping[str, str] = os.environ) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "docs.kubernetes_demo"],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(ambient_confinement(), reason="needs a process without filter to start from")
def test_every_claim_is_answered_as_the_page_says() -> None:
    done = subprocess.run(
        [sys.executable, DOCS / "claims.py", "--no-pods"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == PODS.sub("", (DOCS / "claims.md").read_text()), CHANGED


@pytest.mark.slow
@pytest.mark.skipif(bool(lacking()), reason=lacking())
def test_pods_get_what_the_page_says() -> None:
    before = traces()
    names = re.findall(r"`(pod-[a-z-]+)` \|$", (DOCS / "claims.md").read_text(), re.MULTILINE)
    done = subprocess.run(
        [sys.executable, DOCS / "claims.py", *names],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    section = PODS.search((DOCS / "claims.md").read_text())
    assert section
    rows = [line for line in section[0].splitlines() if line.startswith("| ")][1:]
    assert done.stdout.splitlines() == rows, CHANGED
    assert traces() == before


@pytest.mark.slow
@pytest.mark.skipif(bool(lacking()), reason=lacking())
def test_the_demo_ends_with_a_table_and_leaves_nothing() -> None:
    before = traces()
    process = demo()
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    *_, last = output.splitlines()
    assert last == "10 of 10 as claimed"
    assert "NOT OBSERVED" not in output
    assert max(map(len, output.splitlines())) <= 80
    assert traces() == before


@pytest.mark.slow
@pytest.mark.skipif(bool(lacking()), reason=lacking())
@pytest.mark.parametrize("seconds", [0.1, 1.2])
def test_interrupted_it_says_so_in_one_line_and_leaves_nothing(seconds: float) -> None:
    before = traces()
    process = demo()
    deadline = time.monotonic() + 10
    while not set(Path("/tmp").glob("sidestep-capture-*")) - set(map(Path, before)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "error: interrupted; what was started is gone\n"
    assert "claimed" not in output
    assert traces() == before


@pytest.mark.skipif(bool(lacking()), reason=lacking())
def test_interrupted_before_it_begins_it_ends_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "msgspec.py").write_text(
        "import time\nprint('importing', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "docs.kubernetes_demo"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == -signal.SIGINT


@pytest.mark.slow
@pytest.mark.skipif(bool(lacking()), reason=lacking())
def test_two_at_once_do_not_meet() -> None:
    before = traces()
    both = [demo(), demo()]
    for process in both:
        output, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
        assert output.endswith("10 of 10 as claimed\n")
    assert traces() == before


@pytest.mark.slow
@pytest.mark.skipif(bool(lacking()), reason=lacking())
def test_what_a_killed_one_left_goes_with_the_next() -> None:
    before = traces()
    killed = demo()
    deadline = time.monotonic() + 10
    while not list(Path("/sys/fs/cgroup").rglob(f"sidestep-capture-{killed.pid}-*/*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed.kill()
    killed.communicate(timeout=30)
    process = demo()
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert traces() == before


@pytest.mark.slow
@pytest.mark.skipif(bool(lacking()), reason=lacking())
@pytest.mark.parametrize(
    ("daemon", "said"),
    [
        ("echo it does not start; exit 7", "containerd ended with exit code 7: it does not start"),
        ("exec sleep 1000", "containerd does not answer within 15 s: no message"),
    ],
)
def test_a_daemon_that_does_not_serve_is_named(tmp_path: Path, daemon: str, said: str) -> None:
    before = traces()
    program = tmp_path / "containerd"
    program.write_text(f"#!/bin/sh\n{daemon}\n")
    program.chmod(0o755)
    search = f"{tmp_path}:{os.environ['PATH']}"
    process = demo({**os.environ, "PATH": search})
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    assert errors == f"error: {said}\n"
    assert traces() == before


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    process = demo({**os.environ, "PATH": str(tmp_path)})
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (3, "")
    assert errors == (
        "error: not installed: containerd, ctr, runc, busybox: "
        "apt-get install containerd runc busybox\n"
    )
