"""Manifests on the real kernel: what a container may do, and what its neighbours give away."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

COMMAND = [sys.executable, "-c", "from evaluator.cli import main; main()"]
CC = shutil.which("cc")
DENY: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "syscalls": [
        {"names": ["mkdir", "mkdirat", "io_uring_setup"], "action": "SCMP_ACT_ERRNO"},
    ],
}


def evaluated(folder: Path, *containers: Any, families: tuple[str, ...], **spec: Any) -> Any:
    """The results of a pod's containers, by the name of the container."""
    (folder / "deny.json").write_text(json.dumps(DENY))
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": containers, **spec},
    }
    path = folder / "web.yaml"
    path.write_text(yaml.safe_dump(manifest))
    chosen = [word for one in families for word in ("--family", one)]
    done = subprocess.run(
        [*COMMAND, "evaluate", str(path), "--seccomp-root", str(folder), *chosen, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return {one["name"]: one for one in json.loads(done.stdout)["candidates"]}


def container(name: str, *, filtered: bool = True, **context: Any) -> Any:
    profile = {"type": "Localhost", "localhostProfile": "deny.json"}
    given = {"seccompProfile": profile, **context} if filtered else context
    return {"name": name, "securityContext": given}


def verdict(result: Any, family: str) -> str:
    (found,) = [one for one in result["families"] if one["family"] == family]
    return str(found["verdict"])


def test_an_unfiltered_neighbour_counts_where_processes_are_shared(tmp_path: Path) -> None:
    family = "create-directory"

    def verdict_beside(**spec: Any) -> str:
        some = [container("a"), container("b", filtered=False)]
        found = evaluated(tmp_path, *some, families=(family,), **spec)
        return verdict(found["pod/web:a"], family)

    assert verdict_beside() in ("held", "held here")
    assert verdict_beside(shareProcessNamespace=True) == "leaky"
    assert verdict_beside(hostPID=True) == "leaky"
    debugger = {**container("e", filtered=False), "targetContainerName": "a"}
    assert verdict_beside(ephemeralContainers=[debugger]) == "leaky"


def test_capabilities_and_user_are_those_of_the_manifest(tmp_path: Path) -> None:
    family = "change-owner"
    found = evaluated(
        tmp_path,
        container("able", filtered=False, runAsUser=0),
        container("less", filtered=False, runAsUser=0, capabilities={"drop": ["CHOWN"]}),
        container("user", filtered=False, runAsUser=7, allowPrivilegeEscalation=False),
        families=(family,),
    )
    assert verdict(found["pod/web:able"], family) == "open"
    assert verdict(found["pod/web:less"], family) in ("held", "held here")
    assert found["pod/web:user"]["ground_truth"]["no_new_privs"] is True
    assert verdict(found["pod/web:user"], family) == "untested"


@pytest.mark.skipif(CC is None, reason="needs a C compiler")
def test_the_exported_program_runs_another_under_the_filter(tmp_path: Path) -> None:
    profile = tmp_path / "deny.json"
    profile.write_text(json.dumps(DENY))
    source, program = tmp_path / "under.c", tmp_path / "under"
    subprocess.run([*COMMAND, "export", str(profile), "--to", "c", "-o", str(source)], check=True)
    assert CC is not None
    subprocess.run([CC, "-o", str(program), str(source)], check=True)
    made = tmp_path / "made"
    denied = subprocess.run([program, "mkdir", made], capture_output=True, check=False)
    assert b"Operation not permitted" in denied.stderr
    assert not made.exists()
    status = subprocess.run(
        [program, "grep", "^Seccomp", "/proc/self/status"],
        capture_output=True,
        text=True,
        check=True,
    )
    outside = Path("/proc/self/status").read_text()
    before = int(outside.partition("Seccomp_filters:")[2].split()[0])
    assert status.stdout.split() == ["Seccomp:", "2", "Seccomp_filters:", str(before + 1)]
    assert subprocess.run([program], capture_output=True, check=False).returncode == 125
    assert subprocess.run([program, "nosuch"], capture_output=True, check=False).returncode == 127
