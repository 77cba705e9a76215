"""Whether this machine writes the audit records that filters ask for; read, and never changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from evaluator.records import AuditLog
from evaluator.sandbox import read_here

_ACTIONS_LOGGED = Path("sys/kernel/seccomp/actions_logged")
_ACTIONS = ("kill_process", "kill_thread", "trap", "errno", "user_notif", "trace", "log")
_OFF = ("audit=0", "audit=off")
"""Options of the boot: no record can be had until the next one."""


def audit_log(
    proc: Path = Path("/proc"), read: Callable[[str], str | None] = read_here
) -> AuditLog:
    """The audit log of the running kernel of the machine whose files ``read`` reads.

    A kernel without CONFIG_AUDIT has no /proc/PID/loginuid.  One that was booted with ``audit=0``
    drops every record.  Whether a daemon listens does not matter: the kernel log gets what none
    takes.
    """
    text = read(str(proc / _ACTIONS_LOGGED))
    logged = None if text is None else tuple(text.split())
    kept = _kept(read(str(proc / "self/loginuid")), read(str(proc / "cmdline")))
    return AuditLog(kept, logged, _said(kept, logged))


def _said(kept: bool | None, logged: tuple[str, ...] | None) -> str:
    if kept is False:
        return "this machine keeps no audit log"
    silent = [one for one in _ACTIONS if logged is not None and one not in logged]
    return f"this machine logs no {', '.join(silent)}" if silent else ""


def _kept(loginuid: str | None, cmdline: str | None) -> bool | None:
    if loginuid is None:
        return False
    return None if cmdline is None else not set(cmdline.split()).intersection(_OFF)
