"""Whether an attempt leaves a record, and its process alive: by action, flags and what is known."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from evaluator import aftermath
from evaluator.audit_log import audit_log
from mitigations.bpf import Filter, decide_stack
from mitigations.classic import Action

from engine import ALLOW, EPERM, KILL, KILL_THREAD, LOG, NOTIFY, TRACE, TRAP, answers

X86_64, MKDIR = 0xC000003E, 83
UNKNOWN = (None,) * 6


def stack(*actions: int) -> list[Filter]:
    """Filters that answer mkdir, the oldest first."""
    return [Filter.decode(answers([MKDIR], action)) for action in actions]


def after(filters: Sequence[Filter], *logging: int, killed: bool = False) -> aftermath.Aftermath:
    decision = decide_stack(filters, X86_64, MKDIR, (0,) * 6)
    return aftermath.of_decision(decision, frozenset(logging), len(filters), killed=killed)


@pytest.mark.parametrize(
    ("action", "survives", "unasked"),
    [
        (EPERM, True, False),
        (0x50000, True, False),
        (TRACE, True, False),
        (NOTIFY, True, False),
        (TRAP, None, False),
        (KILL_THREAD, None, True),
        (KILL, False, True),
        (LOG, True, True),
    ],
)
def test_only_kills_and_log_are_recorded_unasked(
    action: int, survives: bool | None, unasked: bool
) -> None:
    silent, asking = after(stack(action)), after(stack(action), 0)
    assert (silent.survives, silent.audited) == (survives, unasked)
    assert (asking.survives, asking.audited) == (survives, True)
    assert silent.why.startswith(f"{Action.of(action).name}: ")
    assert ("SECCOMP_FILTER_FLAG_LOG" in asking.why) is not unasked


def test_a_value_that_the_kernel_does_not_know_kills_and_is_recorded() -> None:
    found = after(stack(0x12340000))
    assert (found.survives, found.audited) == (False, True)


def test_both_answers_are_said_in_words() -> None:
    assert after(stack(EPERM)).said == "blocked silently; the process lives on"
    assert after(stack(KILL)).said == "blocked with an audit record; the process dies"
    assert after(stack(TRAP), 0).said == "blocked with an audit record; the process may live on"
    assert after(stack(LOG)).said == "got through with an audit record"


def test_the_flag_counts_of_the_filter_that_answers_and_of_no_other() -> None:
    mild_above = stack(EPERM, LOG)
    assert after(mild_above, 0).audited
    assert not after(mild_above, 1).audited
    # On a tie the newest speaks, which is the last one.
    assert after(stack(EPERM, EPERM), 1).audited
    assert not after(stack(EPERM, EPERM), 0).audited


def by_argument(low: int, high: int) -> list[Filter]:
    """Answers ``high`` if the first argument is 1, else ``low``."""
    rows = [(0x20, 0, 0, 16), (0x15, 0, 1, 1), (0x06, 0, 0, high), (0x06, 0, 0, low)]
    code = b"".join(
        code.to_bytes(2, "little") + bytes((jt, jf)) + k.to_bytes(4, "little")
        for code, jt, jf, k in rows
    )
    return [Filter.decode(code)]


def unknown(filters: Sequence[Filter], *logging: int, killed: bool) -> aftermath.Aftermath:
    decision = decide_stack(filters, X86_64, MKDIR, UNKNOWN)
    assert decision.depends
    return aftermath.of_decision(decision, frozenset(logging), len(filters), killed=killed)


def test_what_the_program_got_tells_between_answers() -> None:
    both = by_argument(EPERM, KILL)
    assert unknown(both, killed=True).why.startswith("KILL_PROCESS: ")
    assert unknown(both, killed=False).why.startswith("ERRNO: ")
    assert unknown(by_argument(ALLOW, EPERM), 0, killed=False).audited


def test_what_remains_open_is_said_to_be_open() -> None:
    found = unknown(by_argument(TRAP, KILL), killed=True)
    assert (found.survives, found.audited) == (None, None)
    assert found.said == "blocked perhaps silently; the process may live on"
    assert "KILL_PROCESS: " in found.why
    assert " or TRAP: " in found.why
    two = [*by_argument(EPERM, TRACE), *stack(ALLOW)]
    assert unknown(two, 1, killed=False).audited is None
    assert unknown(two, 0, 1, killed=False).audited
    assert unknown(two, killed=False).audited is False


# ------------------------------------------------------------------ the machine


def proc(root: Path, *, cmdline: str = "quiet", logged: str | None = "errno log\n") -> Path:
    (root / "self").mkdir()
    (root / "self/loginuid").write_text("0")
    (root / "cmdline").write_text(cmdline)
    if logged is not None:
        (root / "sys/kernel/seccomp").mkdir(parents=True)
        (root / "sys/kernel/seccomp/actions_logged").write_text(logged)
    return root


EVERYTHING = "kill_process kill_thread trap errno user_notif trace log\n"


def test_a_machine_that_records_everything_has_nothing_to_say(tmp_path: Path) -> None:
    found = audit_log(proc(tmp_path, logged=EVERYTHING))
    assert (found.kept, found.said) == (True, "")
    assert found.actions_logged == tuple(EVERYTHING.split())


def test_silenced_actions_are_named(tmp_path: Path) -> None:
    found = audit_log(proc(tmp_path))
    assert found.said == ("this machine logs no kill_process, kill_thread, trap, user_notif, trace")


@pytest.mark.parametrize("option", ["audit=0", "audit=off"])
def test_a_log_that_is_off_is_no_log(tmp_path: Path, option: str) -> None:
    found = audit_log(proc(tmp_path, cmdline=f"quiet {option}\n", logged=EVERYTHING))
    assert (found.kept, found.said) == (False, "this machine keeps no audit log")


def test_a_kernel_without_audit_keeps_no_log(tmp_path: Path) -> None:
    root = proc(tmp_path)
    (root / "self/loginuid").unlink()
    assert audit_log(root).kept is False


def test_what_cannot_be_read_is_not_known(tmp_path: Path) -> None:
    root = proc(tmp_path, logged=None)
    (root / "cmdline").unlink()
    found = audit_log(root)
    assert (found.kept, found.actions_logged, found.said) == (None, None, "")
