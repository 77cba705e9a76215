"""Which one-line changes to a profile may keep a call from passing: the cheapest ones first.

Nothing is proved here: ``evaluator.cause`` tries them on what got through.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from attacks.arguments import KINDS, NARROW
from mitigations import changes, libseccomp
from mitigations.changes import Change
from mitigations.rules import LETS_THROUGH, Condition, Profile, Rule

_DENY = "SCMP_ACT_ERRNO"
_MASKED = "SCMP_CMP_MASKED_EQ"
_ASKS = ("SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY")
_LOW = (1 << 32) - 1
_MODE = (1 << 16) - 1
_PERMISSIONS = 0o7777
"""What is heeded of a mode that makes no device."""

Args = Sequence[int | None]


class Closing(Struct, frozen=True):
    """A change that may close a way."""

    change: Change
    breaks: str = ""
    """What ordinary programs do that is denied as well."""


class _Bits(Struct, frozen=True):
    """Bits of an argument that tell the use of a call which matters; any of ``values``."""

    index: int
    values: tuple[tuple[int, int], ...] = ()
    """Masks and what stands under them; without any, the value as a whole is a command."""


_NAMESPACES = tuple((one, one) for one in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000))
_OTHERS = ((0x4000000, 0x4000000), (0x2000000, 0x2000000))
_OPEN = ((0x410000, 0x410000), (0x40, 0x40), (0x200, 0x200))  # O_TMPFILE, O_CREAT, O_TRUNC
_THREAD = ((0x10000, 0), (0x10000, 0x10000))  # CLONE_THREAD: a process, or a thread
_SET_ID = ((0o4000, 0o4000), (0o2000, 0o2000))
_TYPE = tuple((0o170000, one) for one in (0o020000, 0o060000, 0o010000, 0o140000))
_EXECUTABLE = ((4, 4),)
_REMOVE = ((0x200, 0x200), (0x200, 0))  # AT_REMOVEDIR
_TELLING: Mapping[str, _Bits] = {
    "open": _Bits(1, _OPEN),
    "openat": _Bits(2, _OPEN),
    "clone": _Bits(0, (*_NAMESPACES, *_OTHERS, *_THREAD)),
    "unshare": _Bits(0, (*_NAMESPACES, *_OTHERS)),
    "mmap": _Bits(2, _EXECUTABLE),
    "mmap2": _Bits(2, _EXECUTABLE),
    "mprotect": _Bits(2, _EXECUTABLE),
    "pkey_mprotect": _Bits(2, _EXECUTABLE),
    "chmod": _Bits(1, _SET_ID),
    "fchmod": _Bits(1, _SET_ID),
    "fchmodat": _Bits(2, _SET_ID),
    "fchmodat2": _Bits(2, _SET_ID),
    "mknod": _Bits(1, _TYPE),
    "mknodat": _Bits(2, _TYPE),
    "unlinkat": _Bits(2, _REMOVE),
    "socket": _Bits(0),
    "socketpair": _Bits(0),
    "ioctl": _Bits(1),
    "fcntl": _Bits(1),
    "fcntl64": _Bits(1),
    "prctl": _Bits(0),
    "arch_prctl": _Bits(0),
    "bpf": _Bits(0),
    "keyctl": _Bits(0),
    "seccomp": _Bits(0),
}
_EVERYDAY_CALLS = """
read write readv writev pread64 pwrite64 open openat close lseek stat lstat fstat newfstatat statx
access faccessat poll ppoll select pselect6 mmap mmap2 munmap mprotect mremap brk madvise ioctl
fcntl fcntl64 dup dup2 dup3 pipe pipe2 getdents64 getcwd chdir fchdir readlink readlinkat clone
clone3 fork vfork execve execveat exit exit_group wait4 waitid futex prctl arch_prctl rt_sigaction
rt_sigprocmask rt_sigreturn sigaltstack getpid gettid getuid prlimit64 socket connect sendto
recvfrom sendmsg recvmsg epoll_ctl epoll_wait set_robust_list nanosleep clock_nanosleep kill
tgkill
"""
EVERYDAY = frozenset(_EVERYDAY_CALLS.split())
_FALLS_BACK = frozenset({"clone3"})
"""What the C library calls first, and does without if it answers ENOSYS."""


def changes_against(
    profile: Profile, name: str, args: Args, siblings: Sequence[Rule]
) -> Iterator[Closing]:
    """Changes by which this call may be denied.

    ``args`` are those that are known; ``siblings`` the rules that deny what does the same.
    """
    naming = [one for one in profile.rules if name in one.names]
    for rule in naming:
        if rule.action in _ASKS:
            yield Closing(changes.set_action(profile, rule, _DENY))
    if not naming and profile.default_action in _ASKS:
        yield Closing(changes.set_default(profile, _DENY))
    if profile.default_action in LETS_THROUGH:
        if libseccomp.resolve(name) is not None:
            yield from _more_denied(profile, name, args, naming, siblings)
    else:
        yield from _less_allowed(profile, name, args, naming)


def _more_denied(
    profile: Profile, name: str, args: Args, naming: Sequence[Rule], siblings: Sequence[Rule]
) -> Iterator[Closing]:
    conditional = [one for one in naming if one.conditions and one.action not in LETS_THROUGH]
    yield from _narrowed(profile, name, conditional)
    telling = _telling(name, args)
    if telling is not None:
        yield Closing(changes.add_rule(profile, name, _DENY, telling))
    if name in _FALLS_BACK:
        yield Closing(changes.add_rule(profile, name, _DENY, errno_ret=errno.ENOSYS))
    whole = _whole(name)
    for rule in siblings:
        if name not in rule.names and _fits(rule, name):
            change = changes.add_name(profile, rule, name)
            breaks = "" if rule.conditions else whole
            yield from [Closing(change, breaks)] if change else ()
    for rule in conditional:
        yield Closing(changes.drop_conditions(profile, rule), whole)
    for rule in naming:
        if rule.action in LETS_THROUGH and len(rule.names) == 1:
            yield Closing(changes.set_action(profile, rule, _DENY), whole)
    yield Closing(changes.add_rule(profile, name, _DENY), whole)


def _less_allowed(
    profile: Profile, name: str, args: Args, naming: Sequence[Rule]
) -> Iterator[Closing]:
    allowing = [one for one in naming if one.action in LETS_THROUGH]
    conditional = [one for one in allowing if one.conditions]
    yield from _narrowed(profile, name, conditional)
    for rule in conditional:
        yield from _without_bits(profile, rule, name, args)
    for rule in allowing:
        yield Closing(changes.remove_name(profile, rule, name), _whole(name))
    if not naming:  # a rule on what it multiplexes allows it
        yield Closing(changes.add_rule(profile, name, _DENY, errno_ret=errno.ENOSYS))


def _whole(name: str) -> str:
    return f"every {name} is denied, and most programs call it" if name in EVERYDAY else ""


def _fits(rule: Rule, name: str) -> bool:
    """Whether a rule's conditions are about arguments of the same kind."""
    kinds = KINDS.get(name, ())
    return all(_alike(rule, one.index, kinds) for one in rule.conditions)


def _alike(rule: Rule, index: int, kinds: Sequence[str]) -> bool:
    known = [KINDS.get(other, ()) for other in rule.names]
    return index < len(kinds) and all(
        index < len(other) and other[index] == kinds[index] for other in known
    )


def _telling(name: str, args: Args) -> Condition | None:
    """A condition on what a call is used for, which says nothing of its other uses."""
    bits = _TELLING.get(name)
    found = args[bits.index] if bits and bits.index < len(args) else None
    if bits is None or found is None:
        return None
    if not bits.values:
        return Condition(bits.index, _MASKED, _LOW, found & _LOW)
    fits = ((mask, value) for mask, value in bits.values if found & mask == value)
    return next((Condition(bits.index, _MASKED, *one) for one in fits), None)


def _narrowed(profile: Profile, name: str, rules: Iterable[Rule]) -> Iterator[Closing]:
    """Conditions that look at no more of an argument than the kernel does."""
    kinds = KINDS.get(name, ())
    for rule in rules:
        for place, one in enumerate(rule.conditions):
            if one.index < len(kinds) and kinds[one.index] in NARROW:
                mode = _MODE if name.startswith("mknod") else _PERMISSIONS
                narrow = _narrow(one, mode if kinds[one.index] == "mode" else _LOW)
                if narrow is not None and narrow != one:
                    yield Closing(changes.set_condition(profile, rule, place, narrow))


def _narrow(one: Condition, read: int) -> Condition | None:
    """The same comparison of the bits in ``read`` alone, where one condition can say it."""
    match one.operator:
        case "SCMP_CMP_EQ":
            mask, value = read, one.value & read
        case "SCMP_CMP_MASKED_EQ":
            mask, value = one.value & read, one.value_two & read
        case "SCMP_CMP_LE" | "SCMP_CMP_LT":
            beyond = one.value + (one.operator == "SCMP_CMP_LE")
            if beyond & (beyond - 1) or not beyond:
                return None
            mask, value = read & ~(beyond - 1), 0
        case _:
            return None
    return Condition(one.index, _MASKED, mask, value) if mask else None


def _without_bits(profile: Profile, rule: Rule, name: str, args: Args) -> Iterator[Closing]:
    """Bits that must be clear, added to those of an allowing rule."""
    telling = _telling(name, args)
    for place, one in enumerate(rule.conditions):
        same = telling and telling.value_two and telling.index == one.index
        if telling and same and one.operator == _MASKED and not one.value_two & telling.value:
            wider = replace(one, value=one.value | telling.value)
            yield Closing(changes.set_condition(profile, rule, place, wider))
