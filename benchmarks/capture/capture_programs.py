"""Captures the programs that runc and crun load for the synthetic profiles.

python -m benchmarks.capture.capture_programs [--runtime runc|crun|runc12]...
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.capture import private_space, profiles, runtimes, store
from benchmarks.capture.bundle import make_root, write_bundle
from benchmarks.capture.private_space import CaptureError
from benchmarks.capture.readback import read_filters

if TYPE_CHECKING:
    from pathlib import Path

_SLEEP = ["sleep", "600"]


def main() -> int:
    return private_space.run("benchmarks.capture.capture_programs", _work)


def _work(directory: Path) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", choices=runtimes.NAMES, action="append")
    chosen = parser.parse_args().runtime or ["runc", "crun"]
    root = make_root(directory / "root")
    for name in chosen:
        runtime = runtimes.find(name, directory)
        captures = [
            _capture(runtime, directory, root, profile, block)
            for profile, block in profiles.PROFILES.items()
        ]
        store.save(captures)
        print(
            f"{runtime.name} {runtime.version} (libseccomp {runtime.libseccomp}): "
            f"{len(captures)} programs"
        )


def _capture(
    runtime: runtimes.Runtime, directory: Path, root: Path, name: str, block: dict[str, Any]
) -> store.Capture:
    bundle = write_bundle(directory / f"{runtime.name}_{name}", root, block, _SLEEP)
    with runtimes.running(runtime, directory / f"state-{runtime.name}", bundle) as pid:
        programs = read_filters(pid)
    if len(programs) != 1:
        raise CaptureError(f"{bundle.name}: {len(programs)} filters in force, expected one")
    return store.Capture(
        name=bundle.name,
        program=programs[0],
        profile=block,
        runtime=runtime.name,
        model=runtime.model,
        version=runtime.version,
        libseccomp=runtime.libseccomp,
        command=runtime.shown("run", "--detach", "--bundle", "BUNDLE", bundle.name),
    )


if __name__ == "__main__":
    sys.exit(main())
