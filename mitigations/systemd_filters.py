"""The filters that systemd 252 loads for a unit's settings, in their order.

Each setting has a filter for each architecture of the machine, which lets calls of the others
pass; SystemCallArchitectures= has one for all.  Where the settings leave nothing to deny there is
none.  tests/data/systemd holds what the real one loaded, and the tests compare.
"""

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NoReturn

from mitigations import libseccomp, x86_64
from mitigations.candidate import ProfileError, SeccompLayer
from mitigations.classic import Action
from mitigations.libseccomp import NumberedRule
from mitigations.rules import NATIVE, Condition
from mitigations.systemd_facts import Facts
from mitigations.systemd_settings import (
    ALL_NAMESPACES,
    ARCHITECTURES,
    KILL,
    NAMESPACES,
    Calls,
    Settings,
)

_X86, _X32 = "SCMP_ARCH_X86", "SCMP_ARCH_X32"
_LOCAL = (_X86, _X32, NATIVE)
"""The native one last, so that seccomp may be denied and still load what follows."""
_PROT_WRITE, _PROT_EXEC, _SHM_EXEC = 0x2, 0x4, 0o100000
_SCHED_IDLE = 5
_REAL_TIME = (1, 2, 4)  # below SCHED_IDLE all but SCHED_OTHER and SCHED_BATCH
_O_CREAT = 0o100
_SET_ID_BITS = (0o4000, 0o2000)
_MODE_AT = {
    "chmod": 1,
    "fchmod": 1,
    "fchmodat": 2,
    "fchmodat2": 2,
    "mkdir": 1,
    "mkdirat": 2,
    "mknod": 1,
    "mknodat": 2,
}
_FCHMODAT2 = 452
"""Denied as a whole where libseccomp has no name for it."""
_NOT_THERE = frozenset({errno.EDOM})
"""libseccomp's word for a call that an architecture does not have."""
_ANY = frozenset(range(1, 4096))
_EPERM = int(Action.ERRNO) | errno.EPERM
_ENOSYS = int(Action.ERRNO) | errno.ENOSYS
_EAFNOSUPPORT = int(Action.ERRNO) | errno.EAFNOSUPPORT
_ALLOW = int(Action.ALLOW)

_Rules = Callable[[str], Sequence[NumberedRule] | None]


def layers(settings: Settings, facts: Facts) -> tuple[SeccompLayer, ...]:
    """Oldest first.  ProfileError where systemd could not load one and so not start the unit."""
    try:
        programs = tuple(_programs(settings, facts))
    except ProfileError as error:
        if error.code != "libseccomp-refuses":
            raise
        message = f"{error.message}: systemd cannot start the unit"
        raise ProfileError(message, error.where, "systemd-cannot-start") from None
    return tuple(SeccompLayer(program, (program,)) for program in programs)


def _programs(settings: Settings, facts: Facts) -> Iterator[bytes]:
    before = (_LOCAL, _allowing)
    if settings.has("ProtectHostname"):
        yield from _each(*before, lambda _: _deny("sethostname", "setdomainname"))
    if settings.restricts_families:
        yield from _each(*before, lambda of: None if of == _X86 else _families(settings, facts))
    if settings.has("MemoryDenyWriteExecute"):
        yield from _each(*before, _writable_or_executable)
    if settings.has("RestrictRealtime"):
        yield from _each(*before, lambda _: _real_time())
    if settings.has("RestrictSUIDSGID") or settings.has("DynamicUser"):
        yield from _each(_LOCAL, _tolerant, lambda _: tuple(_set_id()))
    if settings.restricts_namespaces:
        yield from _each(*before, lambda _: _namespaces(settings.namespaces or 0))
    if settings.has("ProtectKernelTunables"):
        yield from _each(*before, lambda of: None if of == _X32 else _deny("_sysctl"))
    if settings.has("ProtectKernelModules"):
        yield from _each(*before, lambda _: _deny(*_known(facts, "@module")))
    if settings.has("ProtectKernelLogs"):
        yield from _each(*before, lambda _: _deny("syslog"))
    if settings.has("ProtectClock"):
        yield from _each(*before, lambda _: _deny(*_known(facts, "@clock")))
    if settings.has("PrivateDevices"):
        yield from _each(*before, lambda _: _deny(*_known(facts, "@raw-io")))
    left = _architectures_left(settings)
    if left != _LOCAL:
        yield libseccomp.compile_filter(_ALLOW, [(each, "") for each in left[:-1]], ())
    after = (left, _allowing)
    if settings.has("LockPersonality"):
        condition = Condition(0, "SCMP_CMP_NE", settings.personality, 0)
        yield from _each(*after, lambda _: (_rule(_EPERM, "personality", condition),))
    if settings.log is not None and settings.log.says_something:
        listed, others = int(Action.LOG), _ALLOW
        if not settings.log.is_allow_list:
            listed, others = others, listed
        yield from _calls(settings.log, left, listed, others)
    if settings.filter is not None and settings.filter.says_something:
        listed, others = _ALLOW, _answer(settings.error_number)
        if not settings.filter.is_allow_list:
            listed, others = others, listed
        yield from _calls(settings.filter, left, listed, others)


def _each(
    architectures: Iterable[str],
    compiled: Callable[[str, Sequence[NumberedRule]], bytes],
    of: _Rules,
) -> Iterator[bytes]:
    for architecture in architectures:
        rules = of(architecture)
        if rules is not None:
            yield compiled(architecture, rules)


def _allowing(architecture: str, rules: Sequence[NumberedRule]) -> bytes:
    return libseccomp.compile_exactly(_ALLOW, architecture, rules, may_refuse=_NOT_THERE)


def _tolerant(architecture: str, rules: Sequence[NumberedRule]) -> bytes:
    return libseccomp.compile_exactly(_ALLOW, architecture, rules, may_refuse=_ANY)


def _rule(action: int, name: str, *conditions: Condition) -> NumberedRule:
    number = libseccomp.resolve(name)
    assert number is not None, name
    return NumberedRule(action, number, conditions, name)


def _deny(*names: str) -> tuple[NumberedRule, ...]:
    return tuple(_rule(_EPERM, name) for name in names)


def _known(facts: Facts, name: str) -> tuple[str, ...]:
    """The calls of a set that libseccomp has a name for; systemd leaves out the others."""
    calls = facts.calls_of(name) or ()
    return tuple(call for call in calls if libseccomp.resolve(call) is not None)


def _masked(index: int, bits: int) -> Condition:
    return Condition(index, "SCMP_CMP_MASKED_EQ", bits, bits)


def _families(settings: Settings, facts: Facts) -> tuple[NumberedRule, ...]:
    given = settings.families or set[int]()
    if not settings.families_allowed:
        return tuple(_socket("SCMP_CMP_EQ", family) for family in sorted(given))
    allowed = sorted(family for family in given if 0 < family < facts.family_limit)
    if not allowed:
        return (_rule(_EAFNOSUPPORT, "socket"),)
    between = (family for family in range(1, facts.family_limit) if family not in given)
    return (
        _socket("SCMP_CMP_LT", allowed[0]),
        _socket("SCMP_CMP_GT", allowed[-1]),
        *(_socket("SCMP_CMP_EQ", family) for family in between),
    )


def _socket(operator: str, family: int) -> NumberedRule:
    return _rule(_EAFNOSUPPORT, "socket", Condition(0, operator, family, 0))


def _writable_or_executable(architecture: str) -> tuple[NumberedRule, ...]:
    both, executable = _masked(2, _PROT_WRITE | _PROT_EXEC), _masked(2, _PROT_EXEC)
    maps: tuple[NumberedRule, ...]
    if architecture == _X86:
        maps = (_rule(_EPERM, "mmap2", both), _rule(_EPERM, "mmap"))
    else:
        maps = (_rule(_EPERM, "mmap", both),)
    protects = (_rule(_EPERM, "mprotect", executable), _rule(_EPERM, "pkey_mprotect", executable))
    attach = () if architecture == _X86 else (_rule(_EPERM, "shmat", _masked(2, _SHM_EXEC)),)
    return (*maps, *protects, *attach)


def _real_time() -> tuple[NumberedRule, ...]:
    conditions = [Condition(1, "SCMP_CMP_EQ", policy, 0) for policy in _REAL_TIME]
    conditions.append(Condition(1, "SCMP_CMP_GT", _SCHED_IDLE, 0))
    return tuple(_rule(_EPERM, "sched_setscheduler", condition) for condition in conditions)


def _set_id() -> Iterator[NumberedRule]:
    for bits in _SET_ID_BITS:
        for name, index in _MODE_AT.items():
            if libseccomp.resolve(name) is None:
                yield NumberedRule(_ENOSYS, _FCHMODAT2, (), name)
            else:
                yield _rule(_EPERM, name, _masked(index, bits))
        yield _rule(_EPERM, "open", _masked(1, _O_CREAT), _masked(2, bits))
        yield _rule(_EPERM, "openat", _masked(2, _O_CREAT), _masked(3, bits))
        yield _rule(_ENOSYS, "openat2")
        yield _rule(_EPERM, "creat", _masked(1, bits))


def _namespaces(retained: int) -> tuple[NumberedRule, ...]:
    rules = [_rule(_ENOSYS, "clone3")]
    some = retained & ALL_NAMESPACES
    if some:
        rules.append(_rule(_EPERM, "setns", Condition(1, "SCMP_CMP_EQ", 0, 0)))
    else:
        rules.append(_rule(_EPERM, "setns"))
    for flag in NAMESPACES.values():
        if retained & flag:
            continue
        rules.append(_rule(_EPERM, "unshare", _masked(0, flag)))
        rules.append(_rule(_EPERM, "clone", _masked(0, flag)))
        if some:
            rules.append(_rule(_EPERM, "setns", _masked(1, flag)))
    return tuple(rules)


def _architectures_left(settings: Settings) -> tuple[str, ...]:
    if not settings.architectures:
        return _LOCAL
    named = {ARCHITECTURES.get(name) for name in settings.architectures}
    return tuple(each for each in _LOCAL if each == NATIVE or each in named)


def _answer(number: int) -> int:
    return int(Action.KILL_PROCESS) if number == KILL else int(Action.ERRNO) | number


def _calls(calls: Calls, architectures: Sequence[str], listed: int, others: int) -> Iterator[bytes]:
    """What the calls of the list are answered that have no errno of their own, and all others."""
    if not calls.answers and others == _ALLOW:
        return
    rules = [
        NumberedRule(listed if answer is None else _answer(answer), number, (), "SystemCallFilter=")
        for number, answer in sorted(calls.answers.items())
    ]
    for rule in rules:
        if rule.action == others:
            _refuse(rule.number)
    for architecture in architectures:
        yield libseccomp.compile_exactly(others, architecture, rules, may_refuse=_NOT_THERE)


def _refuse(number: int) -> NoReturn:
    """Libseccomp takes no rule that says what the default says."""
    name = x86_64.name("x86_64", number) or f"call {number}"
    message = (
        f"{name} is answered what all calls are that are not named, a rule that libseccomp "
        "refuses: systemd cannot start the unit"
    )
    raise ProfileError(message, "SystemCallFilter=", "systemd-cannot-start")
