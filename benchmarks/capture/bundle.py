"""Builds OCI bundles from scratch: a root directory with busybox and a config.json."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.capture.private_space import CaptureError, cgroup

BUSYBOX = Path("/bin/busybox")

# What a container gets when nobody asks for more or less.
DEFAULT_CAPABILITIES = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)


def make_root(directory: Path) -> Path:
    """A root file system with one program, and the libraries that it needs if it is not static."""
    if not BUSYBOX.exists():
        raise CaptureError("/bin/busybox is missing: apt-get install busybox-static")
    for name in ("bin", "proc", "dev", "tmp"):
        (directory / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, directory / "bin" / "busybox")
    for library in _libraries(BUSYBOX):
        copy = directory / library.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, copy)
    return directory


def _libraries(program: Path) -> list[str]:
    """As ldd(1) prints them; none for a static program."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    return re.findall(r"(/\S+) \(0x[0-9a-f]+\)", done.stdout)


def write_bundle(
    directory: Path,
    root: Path,
    seccomp: dict[str, Any],
    command: list[str],
    *,
    user: int = 0,
    no_new_privileges: bool = True,
) -> Path:
    """Root gets the default capabilities, anybody else none, as usual."""
    capabilities = [] if user else list(DEFAULT_CAPABILITIES)
    config = {
        "ociVersion": "1.0.2",
        "hostname": "capture",
        "root": {"path": str(root), "readonly": True},
        "process": {
            "terminal": False,
            "user": {"uid": user, "gid": user},
            "args": ["/bin/busybox", *command],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": no_new_privileges,
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "mode=755", "size=64k"],
            },
        ],
        "linux": {
            "cgroupsPath": f"{cgroup()}/{directory.name}",
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
            "seccomp": seccomp,
        },
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    return directory
