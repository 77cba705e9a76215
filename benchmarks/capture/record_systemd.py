"""Records what the installed systemd knows, and which filters it loads for the units of a list.

python -m benchmarks.capture.record_systemd
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from base64 import b64encode
from typing import Any

from benchmarks.capture import store, systemd_manager
from benchmarks.capture.private_space import REPOSITORY, CaptureError
from benchmarks.capture.systemd_units import REFUSED, UNITS
from mitigations.systemd_facts import sets_of

FACTS = store.DATA / "systemd.json"
CAPTURE = REPOSITORY / "tests" / "data" / "systemd" / "capture.json"
_SECTIONS = ("Unit", "Service", "Socket", "Mount", "Swap", "Install")
_FAMILY = re.compile(r"#define\s+(AF_\w+)\s+(\w+)")
_PROTOCOL = re.compile(r"#define\s+(PF_\w+)\s+(\w+)")


def main() -> int:
    if reason := systemd_manager.why_not():
        print(f"error: {reason}", file=sys.stderr)
        return 1
    try:
        captured = _captured()
    except (CaptureError, OSError, subprocess.SubprocessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    FACTS.write_text(f"{json.dumps(_facts(), indent=1)}\n")
    CAPTURE.parent.mkdir(exist_ok=True)
    CAPTURE.write_text(f"{json.dumps(captured, indent=1)}\n")
    print(f"{systemd_manager.version()}: {len(captured['units'])} units")
    return 0


def _facts() -> dict[str, Any]:
    return {
        "provenance": {
            "version": systemd_manager.version(),
            "date": store.today(),
            "commands": [
                "systemd-analyze syscall-filter",
                "systemd --dump-configuration-items",
                "cc -E -dM -include sys/socket.h",
            ],
        },
        "sets": sets_of(_output("systemd-analyze", "--no-pager", "syscall-filter")),
        "settings": _settings(_output(str(systemd_manager.MANAGER), "--dump-configuration-items")),
        "address_families": _families(_output("cc", "-E", "-dM", "-include", "sys/socket.h", "-")),
    }


def _settings(listing: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    section: list[str] = []
    for line in listing.splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), [])
        elif line:
            section.append(line.partition("=")[0])
    return {name: sorted(set(found[name])) for name in _SECTIONS if name in found}


def _families(defines: str) -> dict[str, int]:
    protocols = dict(
        match.groups() for match in map(_PROTOCOL.match, defines.splitlines()) if match
    )
    found: dict[str, int] = {}
    for match in map(_FAMILY.match, defines.splitlines()):
        if match is None:
            continue
        value = match[2]
        while not value.isdecimal():
            value = protocols[value]
        found[match[1]] = int(value)
    return dict(sorted(found.items(), key=lambda pair: (pair[1], pair[0])))


def _captured() -> dict[str, Any]:
    services = systemd_manager.capture({**UNITS, **REFUSED})
    names = [name for name in UNITS if "/" not in name and name.endswith(".service")]
    if missing := [name for name in names if name not in services]:
        raise CaptureError(f"systemd did not keep {', '.join(missing)} running")
    if started := [name for name in REFUSED if name in services]:
        raise CaptureError(f"systemd started {', '.join(started)}")
    return {
        "provenance": {
            "version": systemd_manager.version(),
            "libseccomp": _libseccomp(),
            "kernel": os.uname().release,
            "date": store.today(),
            "command": "python -m benchmarks.capture.record_systemd",
        },
        "refused": {name: list(lines) for name, lines in REFUSED.items()},
        "units": {
            name: {
                "files": {file: list(lines) for file, lines in UNITS.items() if _is_of(file, name)},
                "status": services[name].status,
                "filters": [b64encode(one).decode() for one in services[name].filters],
            }
            for name in names
        },
    }


def _is_of(file: str, unit: str) -> bool:
    """Whether it is the unit's own file, or a drop-in that systemd takes for it."""
    folder = file.partition("/")[0]
    stem = folder.removesuffix(".d").removesuffix(".service").partition("@")[0]
    return folder == unit or folder == f"{unit}.d" or (stem.endswith("-") and unit.startswith(stem))


def _libseccomp() -> str:
    from mitigations.libseccomp import version

    return version()


def _output(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
