"""Whether this machine writes the audit records that filters ask for; read, and never changed."""

from __future__ import annotations

from pathlib import Path

from evaluator.records import AuditLog

_ACTIONS_LOGGED = Path("sys/kernel/seccomp/actions_logged")
_ACTIONS = ("kill_process", "kill_thread", "trap", "errno", "user_notif", "trace", "log")
_OFF = ("audit=0", "audit=off")
"""Options of the boot: no record can be had until the next one."""


def audit_log(proc: Path = Path("/proc")) -> AuditLog:
    """The audit log of the running kernel.

    A kernel without CONFIG_AUDIT has no /proc/PID/loginuid.  One that was booted with ``audit=0``
    drops every record.  Whether a daemon listens does not matter: the kernel log gets what none
    takes.
    """
    text = _read(proc / _ACTIONS_LOGGED)
    kept, logged = _kept(proc), None if text is None else tuple(text.split())
    return AuditLog(kept, logged, _said(kept, logged))


def _said(kept: bool | None, logged: tuple[str, ...] | None) -> str:
    if kept is False:
        return "this machine keeps no audit log"
    silent = [one for one in _ACTIONS if logged is not None and one not in logged]
    return f"this machine logs no {', '.join(silent)}" if silent else ""


def _kept(proc: Path) -> bool | None:
    if not (proc / "self/loginuid").exists():
        return False
    options = _read(proc / "cmdline")
    return None if options is None else not set(options.split()).intersection(_OFF)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None
