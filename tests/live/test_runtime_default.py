"""RuntimeDefault as it is recorded, against a containerd and a runc that are started for this."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_PROGRAMS = ("containerd", "ctr", "runc", "unshare", "busybox")
_CGROUPS = Path("/sys/fs/cgroup")


def _lacking() -> str:
    """What is not there to start them; empty if all is."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [one for one in _PROGRAMS if shutil.which(one) is None]
    missing += [] if importlib.util.find_spec("grpc") else ["grpcio"]
    return f"not installed: {', '.join(missing)}" if missing else ""


def traces() -> set[str]:
    """What a container engine might leave: mounts, cgroups, sockets, processes."""
    mounts = {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()}
    cgroups = {str(one) for one in _CGROUPS.rglob("*capture*") if one.is_dir()}
    here = {str(one) for one in Path("/run").glob("containerd/*")}
    return mounts | cgroups | here


@pytest.mark.slow
def test_containerd_still_renders_and_runc_still_loads_what_is_recorded() -> None:
    """The section for the default and for each capability; the bytes that the kernel has."""
    if lacking := _lacking():
        pytest.skip(lacking)
    before = traces()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.capture.capture_containerd", "--compare"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" instructions, as recorded\n")
    assert traces() == before
