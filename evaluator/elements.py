"""The single changes that a hardened candidate is put together of, and what each costs.

A cost says how much an honest program may miss: nothing is known of it until one is run.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence

from msgspec import Struct

from attacks.family import Variant
from attacks.program import Syscall
from evaluator.cause import Causes, Through
from evaluator.closing import EVERYDAY, Closing
from evaluator.repairs import FALLBACKS, beside
from mitigations.changes import Change
from mitigations.rules import Profile, Rule
from mitigations.runtimes import action_value

_RANKS = 10
"""Between equal changes the one that is tried first for a fix is the cheaper one."""
_RARE, _ORDINARY, _EVERYDAY = 10, 30, 300
_IN_PART = {_RARE: 8, _ORDINARY: 12, _EVERYDAY: 20}
"""The same where only some arguments are denied."""
_TABLE = 100
"""For a whole table: no program that is run here may use it, and others may."""
_SOFT = 6
"""ENOSYS for what programs do without."""
_ORDINARY_CALLS = """
accept accept4 bind chmod chown clock_gettime clock_settime copy_file_range creat epoll_create
epoll_create1 eventfd2 fadvise64 fallocate fchmod fchmodat fchown fchownat fdatasync flock
fstatfs fsync ftruncate getegid geteuid getgid getgroups getpeername getpgrp getppid getpriority
getrandom getresgid getresuid getrlimit getrusage getsockname getsockopt gettimeofday
inotify_add_watch inotify_init1 link linkat listen memfd_create mkdir mkdirat mknod mknodat msync
pidfd_open posix_fadvise preadv pwritev recvmmsg rename renameat renameat2 rmdir rseq rt_sigpending
rt_sigsuspend rt_sigtimedwait sched_getaffinity sched_yield semctl semget semop sendfile sendmmsg
set_tid_address setgid setgroups setitimer setpgid setpriority setresgid setresuid setrlimit setsid
setsockopt setuid shmat shmctl shmget shutdown signalfd4 socketcall socketpair splice statfs
symlink symlinkat sync_file_range sysinfo timer_create timerfd_create timerfd_settime truncate
umask uname unlink unlinkat utimensat
"""
_OFTEN = frozenset(_ORDINARY_CALLS.split())


class Element(Struct, frozen=True):
    """One change, proved to stop something."""

    key: str
    """Equal for changes after which the filters are the same."""
    step: Syscall
    """The call that it is against."""
    closing: Closing
    cost: int

    @property
    def line(self) -> str:
        return self.closing.change.line


class Elements:
    """The changes to one candidate, each found once."""

    def __init__(self, causes: Causes, profile: Profile | None) -> None:
        self._causes = causes
        self._profile = profile
        self._keys: dict[str, str] = {}
        """By line: all that is said of a profile's rules takes a millisecond."""
        self.known: dict[str, Element] = {}

    def against(self, variant: Variant, family: Sequence[Variant]) -> Iterator[Element]:
        """All single changes that stop a variant."""
        found = self._causes.all_closings(Through(variant), family, beside)
        seen: set[str] = set()
        for rank, (step, closing) in enumerate(found):
            key = self._key(closing)
            if key not in seen:
                seen.add(key)
                yield self._once(key, rank, step, closing)

    def _once(self, key: str, rank: int, step: Syscall, closing: Closing) -> Element:
        if key not in self.known:
            cost = _cost(self._profile, step.name, closing.change) * _RANKS
            cost += min(rank, _RANKS - 1)
            self.known[key] = Element(key, step, closing, cost)
        return self.known[key]

    def _key(self, closing: Closing) -> str:
        change = closing.change
        if change.profile is None:
            return change.line
        if change.line not in self._keys:
            self._keys[change.line] = _difference(self._profile, change.profile)
        return self._keys[change.line]


def _difference(old: Profile | None, new: Profile) -> str:
    """What the rules of a changed profile say of single calls, less what they said before."""
    before = _sayings(old) if old else frozenset[str]()
    after = _sayings(new)
    less, more = sorted(before - after), sorted(after - before)
    return "; ".join([*(f"-{one}" for one in less), *(f"+{one}" for one in more)])


def _sayings(profile: Profile) -> frozenset[str]:
    rules = {f"{name} {_said(rule)}" for rule in profile.rules for name in rule.names}
    default = action_value(profile.default_action, profile.default_errno_ret)
    return frozenset({*rules, f"default {default:#x}", *profile.architectures})


def _said(rule: Rule) -> str:
    conditions = [
        f"{one.index} {one.operator} {one.value} {one.value_two}" for one in rule.conditions
    ]
    return f"{action_value(rule.action, rule.errno_ret):#x} {conditions}"


def _cost(profile: Profile | None, name: str, change: Change) -> int:
    if change.profile and _architectures(profile) != change.profile.architectures:
        return _TABLE
    level = _EVERYDAY if name in EVERYDAY else _ORDINARY if name in _OFTEN else _RARE
    new = _new_rules(profile, change.profile, name)
    if name in FALLBACKS and any(one.errno_ret == errno.ENOSYS for one in new):
        return _SOFT
    return _IN_PART[level] if any(one.conditions for one in new) else level


def _architectures(profile: Profile | None) -> tuple[str, ...]:
    return profile.architectures if profile else ()


def _new_rules(old: Profile | None, new: Profile | None, name: str) -> list[Rule]:
    known = old.rules if old else ()
    return [one for one in (new.rules if new else ()) if name in one.names and one not in known]
