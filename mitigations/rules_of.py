"""Rules for filters that were never made of any: what they answer to each call, as a profile.

Rules are about names and have one default for all, so not every filter has an exact one.  The
profile is compiled and compared with the filters call by call and argument by argument, and every
difference is said.
"""

from __future__ import annotations

import errno
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from mitigations import runtimes
from mitigations.analysis import InexactError, Part, difference_of, partition
from mitigations.bpf import UNFILTERED_X86_64, Filter, severity
from mitigations.candidate import ProfileError, SeccompLayer
from mitigations.classic import Action
from mitigations.conditions_of import Answers, Conditions, TooManyError, by_comparison, by_mask
from mitigations.rules import NATIVE, OF_ABI, Profile, Rule
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
_DATA = 0xFFFF
_LARGEST_ERRNO = 4094  # libseccomp takes no larger one
_NOBODYS_CALL = 0x2FFFFFF
"""A number that no table has, nor comes near to."""
_UNNAMED = "calls without a name"
_MOST_RULES_OF_A_CALL = 64
_MOST_NAMES = 6
_KILLED = int(Action.KILL_THREAD)


class Rules(Struct, frozen=True):
    profile: Profile
    lost: tuple[str, ...]
    """What its filter answers otherwise than the filters did, a line for each kind."""


class _Call(Struct, frozen=True):
    """What a call gets: all answers, and for which arguments; `why` it is not told exactly."""

    answers: Answers
    why: str = ""

    @property
    def denied(self) -> bool:
        return not any(Action.of(value).allows for value in self.answers)


_Kind = tuple[str, str, str, bool]
"""A table, the answers before and after, and whether it hangs on arguments."""
_Tables = Mapping[str, Mapping[str, _Call]]


def rules_of(filters: Sequence[Filter], *, arguments: bool = True) -> Rules:
    """A profile whose one filter answers as these do together, and in what it does not.

    A call that they let through on some arguments, and no rules say on which, is let through on
    all.  Without ``arguments`` that is so of every such call.  Where tables answer a name
    differently, the native one decides.  ProfileError, code ``no-rules``, where nothing can be
    told of the filters.
    """
    default = _default(filters)
    tables = {abi: _calls(filters, abi, default, arguments=arguments) for abi in NUMBERS}
    if all(call.why for call in tables["x86_64"].values()):
        why = next(iter(tables["x86_64"].values())).why
        said = f"no rules say what the filters do: {why} (--to bpf and --to c write them down)"
        raise ProfileError(said, code="no-rules")
    profile = _profile(tables, default)
    try:
        compiled = Filter.decode(_compiled(profile).program)
    except ProfileError:  # too large, or rules that libseccomp does not take together
        if not arguments:
            raise
        return rules_of(filters, arguments=False)
    untold = {
        (abi, name): call.why for abi, table in tables.items() for name, call in table.items()
    }
    return Rules(profile, tuple(differences(filters, [compiled], untold)))


# ---------------------------------------------------------------------------- what calls are given


def _default(filters: Sequence[Filter]) -> int:
    """What calls without a name get; of ENOSYS, which runtimes add, what most are denied with."""
    ((default, _),) = _call(filters, ("x86_64", _UNNAMED, _NOBODYS_CALL), None).answers.items()
    if default != int(Action.ERRNO) | errno.ENOSYS:
        return default
    calls = _calls(filters, "x86_64", default, arguments=False).values()
    return Counter(value for call in calls if call.denied for value in call.answers).most_common(1)[
        0
    ][0]


def _calls(
    filters: Sequence[Filter], abi: str, default: int, *, arguments: bool
) -> dict[str, _Call]:
    """What each call gets, without those that nobody filters."""
    native = NUMBERS["x86_64"]
    found: dict[str, _Call] = {}
    for name, number in NUMBERS[abi].items():
        if abi == "x86_64" and number in UNFILTERED_X86_64:
            continue
        exactly = arguments and (abi == "x86_64" or name not in native)
        found[name] = _call(filters, (abi, name, number), default if exactly else None)
    return found


def _call(filters: Sequence[Filter], call: tuple[str, str, int], default: int | None) -> _Call:
    """With a default answer of a profile by arguments, else one answer for all of them."""
    abi, _, number = call
    try:
        parts = _parts(filters, abi, number)
    except InexactError as error:
        return _Call({int(Action.ALLOW): [()]}, str(error))
    if default is not None and len({part.value for part in parts}) > 1:
        for answers in _ways(parts):
            if _holds(answers, filters, call, default):
                return _Call(answers)
    return _Call({_loosest(parts): [()]})


def _parts(filters: Sequence[Filter], abi: str, number: int) -> list[Part]:
    """The partition, with answers as rules can give them."""
    found = partition(filters, arch(abi), number)
    return [Part(_plain(part.value), part.tests, part.words) for part in found]


def _plain(value: int) -> int:
    """Without data that does nothing; what is no action kills the process."""
    action = Action.of(value)
    if action is Action.ERRNO:
        return int(action) | min(value & _DATA, _LARGEST_ERRNO)
    return int(action) | (value & _DATA if action is Action.TRACE else 0)


def _loosest(parts: Sequence[Part]) -> int:
    """What lets most through; of what lets nothing through, the strictest."""
    values = {part.value for part in parts}
    through = [value for value in values if Action.of(value).allows]
    return max(through, key=severity) if through else min(values, key=severity)


def _ways(parts: Sequence[Part]) -> Iterator[Answers]:
    """Comparisons are what people write; libseccomp is better at masks."""
    compared = by_comparison(parts)
    if compared is not None:
        yield compared
    try:
        yield by_mask(parts)
    except TooManyError:
        return


def _holds(
    answers: Answers, filters: Sequence[Filter], call: tuple[str, str, int], default: int
) -> bool:
    """Whether a profile of these rules alone answers the call as the filters do."""
    abi, name, _ = call
    rules = _rules({name: _Call(answers)}, default)
    if len(rules) > _MOST_RULES_OF_A_CALL:
        return False
    architectures = (NATIVE,) if abi == "x86_64" else (NATIVE, OF_ABI[abi])
    try:
        compiled = Filter.decode(_compiled(_with(rules, default, architectures)).program)
        return not any(_kinds(filters, [compiled], *call))
    except (ProfileError, InexactError):
        return False


# ------------------------------------------------------------------------------------ the profile


def _profile(tables: _Tables, default: int) -> Profile:
    judged = [abi for abi in OF_ABI if abi == "x86_64" or _is_judged(tables, abi)]
    named: dict[str, _Call] = {}
    for abi in judged:
        for name, call in tables[abi].items():
            named.setdefault(name, call)
    return _with(_rules(named, default), default, tuple(OF_ABI[abi] for abi in judged))


def _is_judged(tables: _Tables, abi: str) -> bool:
    """A table of which every call kills the thread is one that the profile does not list.

    So is one of which every call is denied otherwise, if natively some are let through.
    """
    calls = tables[abi].values()
    if all(list(call.answers) == [_KILLED] for call in calls):
        return False
    open_natively = any(not call.denied for call in tables["x86_64"].values())
    return not (open_natively and all(call.denied for call in calls))


def _rules(calls: Mapping[str, _Call], default: int) -> tuple[Rule, ...]:
    """One for each answer and list of conditions, with the names of all calls that it is for."""
    names: dict[tuple[int, Conditions], list[str]] = defaultdict(list)
    for name, call in calls.items():
        for value, lists in call.answers.items():
            if value != default:
                for conditions in lists:
                    names[value, conditions].append(name)
    found: list[Rule] = []
    for (value, conditions), of in names.items():
        where = f"syscalls[{len(found)}]"
        places = tuple(f"{where}.names[{n}]" for n in range(len(of)))
        action, errno_ret = _action(value)
        found.append(Rule(tuple(of), places, action, errno_ret, conditions, where))
    return tuple(found)


def _with(rules: tuple[Rule, ...], default: int, architectures: tuple[str, ...]) -> Profile:
    action, errno_ret = _action(default)
    return Profile(
        default_action=action,
        default_errno_ret=errno_ret,
        architectures=architectures,
        flags=None,
        listener_path="",
        listener_metadata="",
        rules=rules,
    )


def _action(value: int) -> tuple[str, int | None]:
    action = Action.of(value)
    has_data = action in (Action.ERRNO, Action.TRACE)
    return _ACTIONS[action], value & _DATA if has_data else None


def _compiled(profile: Profile) -> SeccompLayer:
    return runtimes.compile_profile(profile, runtimes.find_model(_COMPILER))


# ------------------------------------------------------------------------------------ differences


def differences(
    before: Sequence[Filter],
    after: Sequence[Filter],
    untold: Mapping[tuple[str, str], str] | None = None,
) -> Iterator[str]:
    """Every call of every table that two stacks answer differently, a line for each kind of it.

    ``untold`` says why of some calls it is not told what they get.
    """
    kinds: dict[_Kind, list[str]] = defaultdict(list)
    for abi, table in NUMBERS.items():
        for name, number in {**table, _UNNAMED: _NOBODYS_CALL}.items():
            why = (untold or {}).get((abi, name), "")
            found: set[_Kind] = set()
            try:
                found.update(_kinds(before, after, abi, name, number))
            except InexactError as error:
                why = why or str(error)
            if why:
                kinds[abi, why, "", False].append(name)
            for kind in sorted(found):
                kinds[kind].append(name)
    tables: dict[tuple[tuple[str, ...], str, str, bool], list[str]] = defaultdict(list)
    for (abi, was, now, partly), names in kinds.items():
        tables[tuple(names), was, now, partly].append(abi)
    for (of, was, now, partly), abis in tables.items():
        through = "" if abis == ["x86_64"] else f"{', '.join(abis)}: "
        some = " on some arguments" if partly else ""
        said = f"{now}{some}, not {was}" if now else f"let through, for it is not told: {was}"
        yield f"{through}{_listed(of)}: {said}"


def _kinds(
    before: Sequence[Filter], after: Sequence[Filter], abi: str, name: str, number: int
) -> Iterator[_Kind]:
    for change in difference_of(before, after, abi, name, number):
        if change.before != change.after:
            yield abi, change.before, change.after, bool(change.conditions)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
