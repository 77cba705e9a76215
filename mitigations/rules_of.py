"""Rules for filters that were never made of any: what they answer to each call, as a profile.

Only for filters that do not look at arguments.  The profile is compiled and compared with them call
by call, so that what comes out decides as they do or does not come out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from mitigations import runtimes
from mitigations.analysis import InexactError, difference, partition
from mitigations.bpf import UNFILTERED_X86_64, Filter
from mitigations.candidate import ProfileError
from mitigations.classic import Action
from mitigations.rules import OF_ABI, Profile, Rule
from mitigations.x86_64 import NUMBERS, arch

_COMPILER = "crun"  # runc puts an ENOSYS of its own before what it compiles
_ACTIONS = {
    Action.ALLOW: "SCMP_ACT_ALLOW",
    Action.KILL_PROCESS: "SCMP_ACT_KILL_PROCESS",
    Action.KILL_THREAD: "SCMP_ACT_KILL_THREAD",
    Action.LOG: "SCMP_ACT_LOG",
    Action.TRAP: "SCMP_ACT_TRAP",
    Action.USER_NOTIF: "SCMP_ACT_NOTIFY",
    Action.ERRNO: "SCMP_ACT_ERRNO",
    Action.TRACE: "SCMP_ACT_TRACE",
}
_WITH_DATA = (Action.ERRNO, Action.TRACE)
_DATA = 0xFFFF
_NOBODYS_CALL = 0x2FFFFFF
"""A number that no table has, nor comes near to."""


def profile_of(filters: Sequence[Filter]) -> Profile:
    """A profile whose one filter answers every call as these do together.

    ProfileError, code ``no-rules``, where no list of calls says it.
    """
    try:
        answers = {abi: _answers(filters, abi) for abi in NUMBERS}
        unnamed = _only(filters, "x86_64", _NOBODYS_CALL)
    except InexactError as error:
        raise _inexpressible(str(error)) from None
    profile = _profile(answers, unnamed)
    compiled = runtimes.compile_profile(profile, runtimes.find_model(_COMPILER))
    change = next(difference(filters, [Filter.decode(compiled.program)]), None)
    if change is not None:
        said = f"{change.abi}:{change.call} would get {change.after}, not {change.before}"
        raise _inexpressible(said)
    return profile


def _answers(filters: Sequence[Filter], abi: str) -> dict[str, int]:
    """What each call gets, without those that nobody filters."""
    return {
        name: _only(filters, abi, number, name)
        for name, number in NUMBERS[abi].items()
        if abi != "x86_64" or number not in UNFILTERED_X86_64
    }


def _only(filters: Sequence[Filter], abi: str, number: int, name: str = "") -> int:
    parts = partition(filters, arch(abi), number)
    if len({part.value for part in parts}) > 1:
        raise _inexpressible(f"what {abi}:{name or number} gets depends on its arguments")
    return parts[0].value


def _profile(answers: Mapping[str, Mapping[str, int]], default: int) -> Profile:
    """A table of which every call kills the thread is one that the profile does not list."""
    judged = [
        abi
        for abi in OF_ABI
        if abi == "x86_64" or set(answers[abi].values()) != {int(Action.KILL_THREAD)}
    ]
    named: dict[str, int] = {}
    for abi in judged:
        for name, value in answers[abi].items():
            if value != default:
                named.setdefault(name, value)
    order = Counter(named.values())
    rules = [
        _rule([name for name, one in named.items() if one == value], value, index)
        for index, value in enumerate(order)
    ]
    action, errno_ret = _action(default)
    return Profile(
        default_action=action,
        default_errno_ret=errno_ret,
        architectures=tuple(OF_ABI[abi] for abi in judged),
        flags=None,
        listener_path="",
        listener_metadata="",
        rules=tuple(rules),
    )


def _rule(names: Sequence[str], value: int, index: int) -> Rule:
    action, errno_ret = _action(value)
    where = f"syscalls[{index}]"
    places = tuple(f"{where}.names[{n}]" for n in range(len(names)))
    return Rule(tuple(names), places, action, errno_ret, (), where)


def _action(value: int) -> tuple[str, int | None]:
    action = Action.of(value)
    data = value & _DATA
    if data and action not in _WITH_DATA:
        raise _inexpressible(f"an answer of {value:#x} carries data that no action has")
    return _ACTIONS[action], data if action in _WITH_DATA else None


def _inexpressible(why: str) -> ProfileError:
    said = f"no rules on calls say what the filters do: {why} (--to bpf and --to c write them down)"
    return ProfileError(said, code="no-rules")
