"""What container runtimes load for a profile: not just libseccomp's program, and not all alike.

runc puts a stub in front of a filter whose default action stops calls: numbers above the largest
one that the profile names answer ENOSYS, so that new C libraries fall back. Two iterations over Go
maps make the order of its parts random; `SeccompLayer.valid` holds every program that can result.
From 1.2 on, runc has libseccomp build a binary tree where there are more than 32 rules.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations, permutations

from msgspec import Struct

from mitigations import classic, libseccomp
from mitigations.candidate import ProfileError, SeccompLayer
from mitigations.classic import Action, Instruction
from mitigations.libseccomp import NumberedRule
from mitigations.rules import ERRNO_ACTIONS, NATIVE, Profile, Rule
from mitigations.suggestion import did_you_mean, quote
from mitigations.x86_64 import AUDIT_ARCH_X86_64, X32_BIT

_LOG = "SECCOMP_FILTER_FLAG_LOG"
_SPEC_ALLOW = "SECCOMP_FILTER_FLAG_SPEC_ALLOW"
_TSYNC = "SECCOMP_FILTER_FLAG_TSYNC"
_WAIT_KILLABLE = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"

_SIMPLE_ACTIONS = {
    "SCMP_ACT_ALLOW": Action.ALLOW,
    "SCMP_ACT_KILL": Action.KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": Action.KILL_PROCESS,
    "SCMP_ACT_KILL_THREAD": Action.KILL_THREAD,
    "SCMP_ACT_LOG": Action.LOG,
    "SCMP_ACT_NOTIFY": Action.USER_NOTIF,
    "SCMP_ACT_TRAP": Action.TRAP,
}
_X32 = "SCMP_ARCH_X32"
_TREE_FROM_RULES = 33
# Calls that i386 makes through one other call: libseccomp turns a rule on one into rules on both.
_SOCKET_CALLS = """
socketcall socket bind connect listen accept getsockname getpeername socketpair send recv sendto
recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg
"""
_IPC_CALLS = """
ipc semop semget semctl semtimedop msgsnd msgrcv msgget msgctl shmat shmdt shmget shmctl
"""
STUBLESS = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
"""The default actions with which runc leaves out its stub."""
_MULTIPLEXED = tuple(frozenset(calls.split()) for calls in (_SOCKET_CALLS, _IPC_CALLS))
# Each takes an instruction at least, and libseccomp's time grows with their square.
_MOST_RULES = classic.MAX_INSTRUCTIONS
_Tests = tuple[tuple[int, int], ...]
# More architectures than any profile for this machine has; beyond, the orders are too many to list.
_MOST_ORDERED = 3


class Model(Struct, frozen=True):
    """How one line of a runtime's releases turns a profile into a program.

    `flags` are those that it takes in a profile, `loaded` those that reach the kernel, `default`
    those of a profile that names none. None in `flags`: it refuses any.
    """

    name: str
    flags: tuple[str, ...] | None
    loaded: tuple[str, ...]
    default: tuple[str, ...]
    has_stub: bool = False
    stub_has_native: bool = False
    builds_tree: bool = False
    refuses_pointless_errno: bool = False
    has_strict_parser: bool = False
    needs_listener_calls: bool = False
    most_conditions: int | None = None


MODELS = {
    model.name: model
    for model in (
        Model("runc-1.1", None, (), (), has_stub=True, needs_listener_calls=True),
        Model(
            "runc-1.2",
            # It takes TSYNC and does nothing with it.
            (_LOG, _SPEC_ALLOW, _TSYNC),
            (_LOG, _SPEC_ALLOW),
            (_SPEC_ALLOW,),
            has_stub=True,
            stub_has_native=True,
            builds_tree=True,
            needs_listener_calls=True,
        ),
        Model(
            "crun",
            (_LOG, _SPEC_ALLOW, _TSYNC, _WAIT_KILLABLE),
            (_LOG, _SPEC_ALLOW, _TSYNC, _WAIT_KILLABLE),
            (_SPEC_ALLOW,),
            refuses_pointless_errno=True,
            # Of config.json: it wants `defaultAction` and, be it empty, a list of names in each
            # rule, and passes over keys in another case.
            has_strict_parser=True,
            # It does not look at the seventh condition of a rule and those after it.
            most_conditions=6,
        ),
    )
}
DEFAULT_MODEL = "runc-1.1"


def find_model(name: str) -> Model:
    if name not in MODELS:
        hint = did_you_mean(name, MODELS)
        known = ", ".join(MODELS)
        raise ProfileError(
            f"unknown runtime {quote(name)}{hint}: known are {known}", code="unknown-runtime"
        )
    return MODELS[name]


def model_of(described: str) -> Model:
    """The model that a result names."""
    return find_model(described.partition("/")[0])


def describe(model: Model) -> str:
    """The model as results name it: the same profile compiles differently elsewhere."""
    return f"{model.name}/libseccomp-{libseccomp.version()}"


def compile_profile(
    profile: Profile, model: Model, only: Collection[str] | None = None
) -> SeccompLayer:
    """The filter that a runtime of this model loads; ProfileError where it would refuse.

    With ``only``, the rules on these calls alone: a large profile takes a tenth of a second, and
    what a filter answers to a call hangs on no rule about another one, but for the stub, which is
    that of the whole profile.  For questions about these calls; nobody loads it.
    """
    _refuse(profile, model)
    body = _body(profile, model, only)
    stubs = _stubs(profile, model) if model.has_stub else [b""]
    valid = tuple(stub + body for stub in stubs)
    length = len(classic.unpack(valid[0]))
    if length > classic.MAX_INSTRUCTIONS:
        raise _too_large(str(length), profile)
    return SeccompLayer(valid[0], valid, _flags(profile, model))


def action_value(action: str, errno_ret: int | None) -> int:
    """The SCMP_ACT_* of a rule as libseccomp and the kernel encode it."""
    low = errno.EPERM if errno_ret is None else errno_ret
    match action:
        case "SCMP_ACT_ERRNO":
            return Action.ERRNO | low
        case "SCMP_ACT_TRACE":
            return Action.TRACE | low
        case _:
            return _SIMPLE_ACTIONS[action]


def becomes_or(rule: Rule) -> bool:
    """Two conditions on one argument: runtimes make a rule of each condition of the list."""
    indexes = [condition.index for condition in rule.conditions]
    return len(set(indexes)) < len(indexes)


def _path(profile: Profile, key: str) -> str:
    return f"{profile.where}.{key}" if profile.where else key


def _refuse(profile: Profile, model: Model) -> None:
    _refuse_flags(profile, model)
    if model.refuses_pointless_errno:
        if profile.default_errno_ret is not None and profile.default_action not in ERRNO_ACTIONS:
            raise _pointless_errno(profile.default_action, _path(profile, "defaultErrnoRet"))
        for rule in profile.rules:
            if rule.errno_ret is not None and rule.action not in ERRNO_ACTIONS:
                raise _pointless_errno(rule.action, f"{rule.where}.errnoRet")
    if model.has_strict_parser:
        for rule in profile.rules:
            if not rule.has_names:
                raise ProfileError(
                    "crun refuses a rule without names (it does not know name)",
                    rule.where,
                    "missing-names",
                )
    if model.needs_listener_calls:
        if profile.default_action == "SCMP_ACT_NOTIFY":
            raise ProfileError(
                "runc refuses SCMP_ACT_NOTIFY as the default action",
                _path(profile, "defaultAction"),
                "notify-default",
            )
        for rule in profile.rules:
            if rule.action == "SCMP_ACT_NOTIFY" and "write" in rule.names:
                raise ProfileError(
                    "runc refuses SCMP_ACT_NOTIFY for write, by which it passes the listener on",
                    rule.named_at[rule.names.index("write")],
                    "notify-write",
                )


def _refuse_flags(profile: Profile, model: Model) -> None:
    for index, flag in enumerate(profile.flags or ()):
        if model.flags is None:
            raise ProfileError(
                f"{model.name} refuses any flags: drop them, or evaluate for runc-1.2 or crun",
                _path(profile, "flags"),
                "flags-unsupported",
            )
        if flag not in model.flags:
            raise ProfileError(
                f"{model.name} does not know {quote(flag)}{did_you_mean(flag, model.flags)}",
                _path(profile, f"flags[{index}]"),
                "unknown-flag",
            )


def _pointless_errno(action: str, where: str) -> ProfileError:
    return ProfileError(f"crun refuses an errno for {action}", where, "errno-without-use")


def _flags(profile: Profile, model: Model) -> tuple[str, ...]:
    if profile.flags is None:
        return model.default
    return tuple(flag for flag in model.loaded if flag in profile.flags)


def _body(profile: Profile, model: Model, only: Collection[str] | None) -> bytes:
    default = action_value(profile.default_action, profile.default_errno_ret)
    count = sum(len(rule.names) * max(1, len(rule.conditions)) for rule in profile.rules)
    if count > _MOST_RULES:
        raise ProfileError(f"{count} rules, {_MOST_RULES} at most", profile.where, "too-many-rules")
    rules: list[NumberedRule] = []
    names = None if only is None else together(only)
    for rule in profile.rules:
        action = action_value(rule.action, rule.errno_ret)
        if action == default:
            continue
        conditions = rule.conditions[: model.most_conditions]
        lists = [(each,) for each in conditions] if becomes_or(rule) else [conditions]
        for name, where in zip(rule.names, rule.named_at, strict=True):
            number = libseccomp.resolve(name) if names is None or name in names else None
            if number is not None:
                rules += [NumberedRule(action, number, each, where) for each in lists]
    named = sum(len(rule.names) for rule in profile.rules)
    architectures = [
        (architecture, profile.architectures_at(architecture))
        for architecture in profile.architectures
    ]
    optimize = 2 if model.builds_tree and named >= _TREE_FROM_RULES else None
    least = _least_length(rules)
    if least > classic.MAX_INSTRUCTIONS:
        raise _too_large(f"at least {least}", profile)
    return libseccomp.compile_filter(
        default, architectures, rules, optimize=optimize, where=profile.where
    )


def together(names: Collection[str]) -> frozenset[str]:
    """Calls of which none is answered by rules on others."""
    touched = (group for group in _MULTIPLEXED if not group.isdisjoint(names))
    return frozenset(names).union(*touched)


def _too_large(length: str, profile: Profile) -> ProfileError:
    return ProfileError(
        f"compiles to {length} instructions, the kernel takes {classic.MAX_INSTRUCTIONS}",
        profile.where,
        "filter-too-large",
    )


def _least_length(rules: Sequence[NumberedRule]) -> int:
    """No compiled filter of these rules is shorter; known at once, unlike how long it is.

    libseccomp makes a tree of the conditions of a call, word by word in the order of the
    arguments, and each node of it is a jump at least.  It shares equal trees of several calls and
    architectures, so that only the largest one counts, and drops rules that another one of fewer
    conditions covers.
    """
    calls: dict[int, set[_Tests]] = {}
    mixed: set[int] = set()
    for rule in rules:
        words = sorted((each.index, each.value) for each in rule.conditions)
        tests = tuple(
            test
            for index, value in words
            for test in ((2 * index, value >> 32), (2 * index + 1, value & 0xFFFFFFFF))
        )
        calls.setdefault(rule.number, set()).add(tests)
        if rule.number < 0 or any(each.operator != "SCMP_CMP_EQ" for each in rule.conditions):
            mixed.add(rule.number)  # other tests can make each other's jumps pointless
    return max((_nodes(lists) for number, lists in calls.items() if number not in mixed), default=0)


def _nodes(lists: set[_Tests]) -> int:
    kept = (
        tests
        for tests in lists
        if not any(
            part in lists
            for count in range(0, len(tests), 2)
            for part in combinations(tests, count)
        )
    )
    nodes = {tests[:end] for tests in kept for end in range(1, len(tests) + 1)}
    # Below a node another word is tested, which has to be loaded first.
    return len(nodes) + len({node[:-1] for node in nodes})


def _stubs(profile: Profile, model: Model) -> list[bytes]:
    if profile.default_action in STUBLESS:
        return [b""]
    largest = _largest_numbers(profile, model)
    orders = list(permutations(largest))
    if len(largest) > _MOST_ORDERED:
        orders = orders[:1]
    stubs = (
        classic.pack(_stub(largest, sections, tests)) for sections in orders for tests in orders
    )
    return list(dict.fromkeys(stubs))


def _largest_numbers(profile: Profile, model: Model) -> dict[int, dict[str, int]]:
    """Per AUDIT_ARCH, for each ABI that shares it: the largest number that any name stands for."""
    architectures = list(profile.architectures)
    if model.stub_has_native and NATIVE not in architectures:
        architectures.append(NATIVE)
    largest: dict[int, dict[str, int]] = {}
    for architecture in dict.fromkeys(architectures):
        is_x32 = architecture == _X32
        audit = AUDIT_ARCH_X86_64 if is_x32 else libseccomp.TOKENS[architecture]
        numbers = [
            libseccomp.resolve(name, architecture) for rule in profile.rules for name in rule.names
        ]
        top = max((number for number in numbers if number is not None), default=0)
        shared = largest.setdefault(audit, {})
        if top > 0:
            shared[architecture] = top
    return largest


def _stub(
    largest: Mapping[int, Mapping[str, int]], sections: Sequence[int], tests: Sequence[int]
) -> list[Instruction]:
    """Built from its end, for every jump is measured from there: `sections` and `tests` grow down.

    The last two instructions are: on to the filter; answer ENOSYS.
    """
    program = [_goto(1), Instruction(classic.RETURN_K, 0, 0, Action.ERRNO | errno.ENOSYS)]
    starts: dict[int, int] = {}
    for audit in sections:
        if largest[audit]:
            program = _section(audit, largest[audit], len(program) - 1) + program
            starts[audit] = len(program)
    program.insert(0, _goto(len(program)))
    for audit in tests:
        program.insert(0, _test(classic.JEQ, audit, len(program) - starts.get(audit, 0)))
    program.insert(0, Instruction(classic.LOAD_WORD, 0, 0, 4))
    return program


def _section(audit: int, numbers: Mapping[str, int], to_enosys: int) -> list[Instruction]:
    """Numbers above the largest go to ENOSYS, `to_enosys` instructions behind this section."""
    load = Instruction(classic.LOAD_WORD, 0, 0, 0)
    on_to_filter = _goto(to_enosys + 1)
    if len(numbers) == 2:
        return [
            load,
            _test(classic.JSET, X32_BIT, 1),
            _test(classic.JGT, numbers[NATIVE], to_enosys + 2, 1),
            _test(classic.JGT, numbers[_X32], to_enosys + 1),
            on_to_filter,
        ]
    ((architecture, number),) = numbers.items()
    section = [_test(classic.JGT, number, to_enosys + 1), on_to_filter]
    if audit == AUDIT_ARCH_X86_64:
        # The jump past the other ABI's numbers lands on the `on_to_filter` of this section.
        skip = (1, 0) if architecture == NATIVE else (0, 1)
        section.insert(0, _test(classic.JSET, X32_BIT, *skip))
    return [load, *section]


def _test(test: int, value: int, yes: int, no: int = 0) -> Instruction:
    return Instruction(classic.JMP | test | classic.K, yes, no, value)


def _goto(skip: int) -> Instruction:
    return Instruction(classic.JUMP, 0, 0, skip)
