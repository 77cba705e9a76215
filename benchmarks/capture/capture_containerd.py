"""Captures the RuntimeDefault profile that containerd renders, and the program that runc loads.

python -m benchmarks.capture.capture_containerd            (needs grpcio)
python -m benchmarks.capture.capture_containerd --compare  writes nothing: is it as it is recorded?
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.capture import private_space, runtimes, store
from benchmarks.capture.bundle import make_root
from benchmarks.capture.private_space import CaptureError, cgroup
from benchmarks.capture.readback import read_filters
from evaluator import containerd, cri
from evaluator.image import write_image
from mitigations.capabilities import CAPABILITIES
from mitigations.load import running_kernel
from mitigations.runtime_default import BUNDLED, read, with_capabilities
from mitigations.runtimes import compile_profile, find_model

_IMAGE = "capture.invalid/busybox:1"
_ENTRY_POINT = ["/bin/busybox", "sleep", "600"]
_SECONDS = 20


def main() -> int:
    return private_space.run("benchmarks.capture.capture_containerd", _work)


def _work(directory: Path) -> None:
    archive = write_image(
        directory / "image.tar", make_root(directory / "root"), _IMAGE, _ENTRY_POINT
    )
    with containerd.running(directory, archive, _IMAGE) as client:
        info, programs = _container(client, directory / "logs")
        by_capability = _by_capability(client, directory / "logs")
        version = client.version()
    if len(programs) != 1:
        raise CaptureError(f"{len(programs)} filters in force, expected one")
    _check(by_capability, info["runtimeSpec"])
    if "--compare" in sys.argv[1:]:
        _compare(info["runtimeSpec"], programs[0], by_capability)
        print(f"{version}: {len(programs[0]) // 8} instructions, as recorded")
        return
    _store(info, programs[0], version, by_capability)


def _container(client: cri.Client, logs: Path) -> tuple[dict[str, Any], list[bytes]]:
    sandbox = cri.sandbox_config(cgroup(), logs)
    sandbox_id = client.run_sandbox(sandbox)
    try:
        container = cri.container_config(_IMAGE, _ENTRY_POINT, cri.RUNTIME_DEFAULT)
        container_id = client.create(sandbox_id, container, sandbox)
        client.start(container_id)
        info = client.describe(container_id)
        _wait_for_entry_point(info["pid"])
        return info, read_filters(info["pid"])
    finally:
        client.remove_sandbox(sandbox_id)


def _by_capability(client: cri.Client, logs: Path) -> dict[str, Any]:
    """What is rendered without any capability, and what each one alone adds or takes away."""
    sandbox = cri.sandbox_config(cgroup(), logs)
    sandbox_id = client.run_sandbox(sandbox)

    def rendered(*only: str) -> dict[str, Any]:
        name = "-".join(("capture", *only)).lower()
        config = cri.container_config(_IMAGE, _ENTRY_POINT, cri.RUNTIME_DEFAULT, list(only), name)
        container_id = client.create(sandbox_id, config, sandbox)
        try:
            spec = client.describe(container_id)["runtimeSpec"]
        finally:
            client.remove(container_id)
        return dict(spec["linux"]["seccomp"])

    try:
        none = rendered()
        found: dict[str, Any] = {}
        for name in CAPABILITIES:
            block = rendered(name.removeprefix("CAP_"))
            if _but_rules(block) != _but_rules(none):
                raise CaptureError(f"{name} changes more than rules")
            added = [one for one in block["syscalls"] if one not in none["syscalls"]]
            removed = [one for one in none["syscalls"] if one not in block["syscalls"]]
            if added or removed:
                found[name] = {"added": added, "removed": removed}
        return {"none": none, "each": found, "all": rendered("ALL")}
    finally:
        client.remove_sandbox(sandbox_id)


def _but_rules(block: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key != "syscalls"}


def _check(by_capability: dict[str, Any], spec: dict[str, Any]) -> None:
    """That what each capability does alone adds up: for the default ones, and for all of them."""
    default = spec["process"]["capabilities"]["bounding"]
    for names, block in (
        (default, spec["linux"]["seccomp"]),
        (CAPABILITIES, by_capability.pop("all")),
    ):
        rules = with_capabilities(by_capability, frozenset(names))["syscalls"]
        wanted = block["syscalls"]
        if any(one not in wanted for one in rules) or any(one not in rules for one in wanted):
            raise CaptureError(f"the parts of {len(names)} capabilities are not the whole")


def _compare(spec: dict[str, Any], program: bytes, by_capability: dict[str, Any]) -> None:
    """That containerd renders what is recorded, and that runc loads what is made of it here."""
    recorded = json.loads(BUNDLED.read_text())
    default = frozenset(spec["process"]["capabilities"]["bounding"])
    for what, here, there in (
        ("default capabilities", sorted(default), sorted(recorded["provenance"]["capabilities"])),
        ("seccomp section", spec["linux"]["seccomp"], recorded["seccomp"]),
        ("rules by capability", by_capability, recorded["by_capability"]),
    ):
        if here != there:
            raise CaptureError(f"the {what} of this containerd differ from {BUNDLED.name}")
    reading = read(None, default, running_kernel())
    assert reading.profile is not None
    layer = compile_profile(reading.profile, find_model(_model()))
    if program not in layer.valid:
        raise CaptureError(f"what runc loads is none of the {len(layer.valid)} programs made here")


def _model() -> str:
    """Of the installed runc."""
    version = _runc().split()[2]
    return "runc-1.1" if version.startswith(("1.0.", "1.1.")) else "runc-1.2"


def _runc() -> str:
    done = subprocess.run(["runc", "--version"], capture_output=True, text=True, check=True)
    return done.stdout


def _wait_for_entry_point(pid: int) -> None:
    deadline = time.monotonic() + _SECONDS
    while Path(f"/proc/{pid}/comm").read_text().strip() != "busybox":
        if time.monotonic() > deadline:
            raise CaptureError("the entry point did not start")
        time.sleep(0.01)


def _store(
    info: dict[str, Any], program: bytes, version: str, by_capability: dict[str, Any]
) -> None:
    spec = info["runtimeSpec"]
    profile = spec["linux"]["seccomp"]
    package = version.split()[1].lstrip("v").split("~")[0].split("+")[0]
    runc_version = _runc().split()[2]
    capture = store.Capture(
        name=f"cri_containerd-{package}_RuntimeDefault",
        program=program,
        profile=profile,
        runtime="containerd",
        model="runc-1.1",
        version=f"{version}, runc {runc_version}",
        libseccomp=runtimes.libseccomp_version(),
        command="CRI RunPodSandbox, CreateContainer (seccomp RuntimeDefault), StartContainer",
    )
    store.save([capture])
    provenance = {
        "version": version,
        "runtime": f"runc {runc_version}",
        "date": store.today(),
        "command": "python -m benchmarks.capture.capture_containerd",
        "how": "CRI v1, seccomp profile type RuntimeDefault, capabilities not set; the seccomp "
        "section of runtimeSpec in the verbose ContainerStatus",
        "capabilities": spec["process"]["capabilities"]["bounding"],
        "program": capture.entry["program"],
        "sha256": capture.entry["sha256"],
    }
    store.write_json(
        store.DATA / f"runtime-default.containerd-{package}.json",
        {"provenance": provenance, "seccomp": profile, "by_capability": by_capability},
    )
    print(f"{version}: {len(program) // 8} instructions")


if __name__ == "__main__":
    sys.exit(main())
