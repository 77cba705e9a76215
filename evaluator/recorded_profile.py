"""From a recording to a profile that lets the recorded program work, and little else.

The default answers EPERM.  A call is allowed by its name, and by the arguments that were seen where
that takes something from an attacker: the socket families, no new namespace through clone or
unshare, the personality.  With ``arguments``, also by commands and options.  clone3 keeps its flags
in memory: where the program does without it, it answers ENOSYS, on which C libraries call clone.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from evaluator.kept_arguments import kept
from evaluator.recording import Recording, Use
from mitigations import libseccomp, x86_64
from mitigations.rules import NATIVE, OF_ABI, Condition, Profile, Rule

NO_RUNTIME = "none"
MOST_VALUES = 32
"""With more values of one argument seen, the next run will bring another."""
_EPERM, _ENOSYS = 1, 38
_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEW* as clone(2) takes them: CLONE_NEWTIME is for unshare and clone3 only."""
_CLONE_NEWTIME = 0x80

_COMPANIONS = """
clock_getres clock_gettime getcpu gettimeofday time
restart_syscall rt_sigreturn rt_sigprocmask sigreturn
exit exit_group
futex sched_yield clock_nanosleep
brk madvise mmap mremap munmap getrandom
clock_getres_time64 clock_gettime64 clock_nanosleep_time64 futex_time64 mmap2
"""
COMPANIONS = frozenset(_COMPANIONS.split())
"""What a program calls by chance: it may be missing in one run and needed in the next.

By line: where the vDSO cannot answer (another clock source); when a signal comes; at an end that
the recording did not see; where a lock is contended; when memory grows in another way, and random
bytes for hash tables; the same on i386.  None of them reaches anything outside the process.
"""

_BY_VALUE = {"socket": 0, "socketpair": 0, "personality": 0}
_BY_NEW_NAMESPACES = {"clone": _NEW_NAMESPACES, "unshare": _NEW_NAMESPACES | _CLONE_NEWTIME}
_BY_VALUE_TOO = {
    "arch_prctl": 0, "bpf": 0, "fcntl": 1, "fcntl64": 1, "fsopen": 1, "ioctl": 1, "ipc": 0,
    "keyctl": 0, "mprotect": 2, "pkey_mprotect": 2, "prctl": 0, "ptrace": 0, "seccomp": 0,
    "setns": 1, "socketcall": 0,
}  # fmt: skip


class Made(Struct, frozen=True):
    """A profile and what it cannot do for the recorded program."""

    profile: Profile
    notes: tuple[str, ...]


def profile_of(recording: Recording, *, runtime: str = NO_RUNTIME, arguments: bool = False) -> Made:
    """A profile for the recorded program; with ``runtime``, also for what starts its container.

    ``runtime`` is a model of mitigations/data/startup-calls.json, or ``none``.
    """
    uses = (*recording.uses, *runtime_uses(runtime))
    calls = {use.call for use in uses if not use.call.isdigit()}
    by_value = _BY_VALUE | (_BY_VALUE_TOO if arguments else {})
    rules = [_always(_unconditional(uses, calls, by_value))]
    for call in sorted(calls):
        rules += _conditional(call, [use for use in uses if use.call == call], by_value)
    if "clone3" not in calls:
        rules.append(_rule(("clone3",), action="SCMP_ACT_ERRNO", errno=_ENOSYS))
    profile = Profile(
        default_action="SCMP_ACT_ERRNO",
        default_errno_ret=_EPERM,
        architectures=(NATIVE, *(OF_ABI[abi] for abi in recording.abis if OF_ABI[abi] != NATIVE)),
        flags=None,
        listener_path="",
        listener_metadata="",
        rules=tuple(_placed(rule, f"syscalls[{i}]") for i, rule in enumerate(rules)),
    )
    return Made(profile, tuple(_notes(recording, calls)))


def document(profile: Profile) -> dict[str, Any]:
    """The profile as OCI writes it, without the keys that say nothing."""
    found = profile.as_dict()
    for rule in found["syscalls"]:
        for condition in rule.get("args", ()):
            if condition["op"] != "SCMP_CMP_MASKED_EQ":
                del condition["valueTwo"]
    return found


def models() -> tuple[str, ...]:
    """The runtimes whose own needs are known."""
    return tuple(_startup_calls())


@functools.cache
def _startup_calls() -> dict[str, Any]:
    text = importlib.resources.files("mitigations").joinpath("data/startup-calls.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


@functools.cache
def runtime_uses(model: str) -> tuple[Use, ...]:
    """What a runtime calls between loading the filter and exec, with no_new_privs or without."""
    if model == NO_RUNTIME:
        return ()
    found = _startup_calls()[model]
    calls = [call for case in ("nnp", "no-nnp") for call in _calls_of(found[case])]
    return tuple(
        Use("x86_64", call["name"], kept("x86_64", call["name"], tuple(call["args"])), 0)
        for call in calls
    )


def _calls_of(case: dict[str, Any]) -> list[dict[str, Any]]:
    return [*case["always"], *case["sometimes"]]


def _unconditional(uses: Sequence[Use], calls: set[str], by_value: dict[str, int]) -> set[str]:
    conditional = {
        call
        for call in calls
        if _conditional(call, [use for use in uses if use.call == call], by_value)
    }
    tables = {use.abi for use in uses}
    companions = {
        call for call in COMPANIONS if any(x86_64.number(abi, call) is not None for abi in tables)
    }
    return calls - conditional | companions


def _conditional(call: str, uses: Sequence[Use], by_value: dict[str, int]) -> list[Rule]:
    """The rules of a call that is allowed on some arguments only; none where it is on all."""
    if call in _BY_NEW_NAMESPACES:
        seen = _values(uses, 0)
        mask = _BY_NEW_NAMESPACES[call] & ~functools.reduce(int.__or__, seen or (), 0)
        if seen is None or not mask:
            return []
        return [_rule((call,), Condition(0, "SCMP_CMP_MASKED_EQ", mask, 0))]
    if call not in by_value:
        return []
    index = by_value[call]
    values = _values(uses, index)
    if values is None or len(values) > MOST_VALUES:
        return []
    return [_rule((call,), Condition(index, "SCMP_CMP_EQ", value, 0)) for value in sorted(values)]


def _values(uses: Iterable[Use], index: int) -> set[int] | None:
    """All values of an argument; ``None`` where one is not known."""
    found = {use.args[index] for use in uses}
    return None if None in found else {value for value in found if value is not None}


def _always(names: Iterable[str]) -> Rule:
    return _rule(tuple(sorted(names)))


def _rule(
    names: tuple[str, ...],
    *conditions: Condition,
    action: str = "SCMP_ACT_ALLOW",
    errno: int | None = None,
) -> Rule:
    return Rule(names, (), action, errno, conditions, "")


def _placed(rule: Rule, where: str) -> Rule:
    named_at = tuple(f"{where}.names[{i}]" for i in range(len(rule.names)))
    return replace(rule, named_at=named_at, where=where)


def _notes(recording: Recording, calls: set[str]) -> Iterable[str]:
    numbers = sorted({use.call for use in recording.uses if use.call.isdigit()}, key=int)
    if numbers:
        yield f"no name is known for call {', '.join(numbers)}: no profile can allow it"
    unknown = sorted(call for call in calls if libseccomp.resolve(call) is None)
    if unknown:
        yield (
            f"libseccomp {libseccomp.version()} has no name for {', '.join(unknown)}: a runtime "
            "that uses it drops the rule, and the call answers EPERM"
        )
    if "clone3" in calls:
        yield "it calls clone3, whose flags no filter sees: new namespaces are not ruled out"
    others = [abi for abi in recording.abis if abi != "x86_64"]
    if others:
        yield (
            f"it also calls through {' and '.join(others)}: rules go by name, so all that is "
            "allowed is allowed there, too"
        )
