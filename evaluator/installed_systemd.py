"""The sets of system calls of the systemd that is installed here."""

from __future__ import annotations

import subprocess
from functools import cache

from mitigations.systemd_facts import Facts, of_installed, recorded

_COMMAND = "systemd-analyze"
_PATIENCE_S = 10.0


@cache
def facts() -> Facts:
    """Those of ``systemd-analyze`` where there is one that answers, else the recorded ones."""
    try:
        version = _output("--version").splitlines()[0]
        found = of_installed(version, _output("--no-pager", "syscall-filter"))
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError, IndexError):
        return recorded()
    return found if "@default" in found.sets and found.number else recorded()


def _output(*arguments: str) -> str:
    done = subprocess.run(
        [_COMMAND, *arguments],
        capture_output=True,
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=_PATIENCE_S,
    )
    return done.stdout.decode()
