"""Changes by which a program works that a profile keeps from working: the narrowest ones first.

Nothing is proved here: ``evaluator.harden`` runs the program under what comes of them.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from attacks.program import Abi, Syscall
from evaluator.closing import Args, Closing
from evaluator.records import WorkloadRecord
from mitigations import changes
from mitigations.changes import Change
from mitigations.rules import LETS_THROUGH, OF_ABI, Condition, Profile, Rule

_DENY = "SCMP_ACT_ERRNO"
_ALLOW = "SCMP_ACT_ALLOW"
_DENIALS = "denied: "
_DENIAL = re.compile(r"(?:^|, )(?:(?P<abi>\w+):)?(?P<call>\w+) \((?P<answer>[^,]*)\)(?=, |$)")
_RUNTIMES = re.compile(r"cannot finish: (?P<abi>)(?P<call>\w+) answers (?P<answer>.*)")
_FALLBACKS = """
clone3 close_range cachestat copy_file_range epoll_pwait2 faccessat2 fchmodat2 futex_waitv
getrandom io_uring_enter io_uring_register io_uring_setup landlock_create_ruleset map_shadow_stack
membarrier memfd_create memfd_secret mseal openat2 pidfd_getfd pidfd_open pidfd_send_signal
pkey_alloc preadv2 process_madvise pwritev2 renameat2 rseq set_mempolicy_home_node statx
"""
FALLBACKS = frozenset(_FALLBACKS.split())
"""What libraries ask for first and do without where the kernel is too old, which says ENOSYS."""


_FLAGS, _MAP_LOCKED = 3, 0x2000


class Denied(Struct, frozen=True):
    """A call that a program was refused."""

    abi: str
    call: str
    answer: str

    def __str__(self) -> str:
        return self.call if self.abi == "x86_64" else f"{self.abi}:{self.call}"


def denied_in(reason: str | None) -> tuple[Denied, ...]:
    """The calls that an entry point or its runtime was refused, from why it does not start."""
    before, _, said = (reason or "").partition(_DENIALS)
    return tuple(
        Denied(match["abi"] or "x86_64", match["call"], match["answer"])
        for match in (*_RUNTIMES.finditer(before), *_DENIAL.finditer(said))
    )


def denied_to(record: WorkloadRecord) -> tuple[Denied, ...]:
    """The calls that keep a workload from working: those of which that is proved, or all."""
    named = record.needs or record.denied
    return tuple(Denied(one.abi, one.call, one.answer) for one in named)


class Repair(Struct, frozen=True):
    """A change by which a call gets an answer that a program can live with."""

    call: str
    change: Change


def repairs(profile: Profile, denied: Denied) -> Iterator[Repair]:
    """Changes for one refused call, in the order in which they are to be tried."""
    if not profile.judges(denied.abi):
        yield Repair(str(denied), _judged(profile, denied.abi))
        return
    name = denied.call
    if name in FALLBACKS and denied.answer != "ENOSYS":
        yield Repair(str(denied), _answered(profile, name, ()))
    yield Repair(str(denied), _allowed(profile, name))


def beside(profile: Profile, step: Syscall, args: Args) -> Iterator[Closing]:
    """Changes against a call that are no fix on one line: what they cost has to be run.

    ENOSYS for what programs do without; a condition on what a mapping is locked by; to have a
    whole table killed, which costs nothing where all programs are of this machine.
    """
    if step.name in FALLBACKS:
        yield Closing(_answered(profile, step.name, LETS_THROUGH))
    locked = args[_FLAGS] if step.name in ("mmap", "mmap2") else None
    if locked and locked & _MAP_LOCKED and profile.default_action in LETS_THROUGH:
        condition = Condition(_FLAGS, "SCMP_CMP_MASKED_EQ", _MAP_LOCKED, _MAP_LOCKED)
        yield Closing(changes.add_rule(profile, step.name, _DENY, condition))
    architecture = OF_ABI[step.abi.value]
    foreign = step.abi is not Abi.X86_64 and architecture in profile.architectures
    if foreign and not profile.archmap_at:
        kills = f"every program that calls through {step.abi.value} is killed"
        yield Closing(changes.remove_architecture(profile, architecture), kills)


def _answered(profile: Profile, name: str, actions: Sequence[str]) -> Change:
    """A rule that answers ENOSYS, in the place of those with such actions; of all, if of none."""
    without = _without(profile, name, actions)
    added = changes.add_rule(without, name, _DENY, errno_ret=errno.ENOSYS)
    line = added.line
    if without is not profile:
        line = f"take {name} out of {_holders(profile, name, actions)} and {line}"
    return replace(added, line=line)


def _allowed(profile: Profile, name: str) -> Change:
    """No rule denies it; one allows it where the default does not."""
    denying = [one for one in profile.rules if name in one.names and one.action not in LETS_THROUGH]
    without = _without(profile, name, [one.action for one in denying]) if denying else profile
    taken = f"take {name} out of {_holders(profile, name, [one.action for one in denying])}"
    if profile.default_action in LETS_THROUGH:
        return Change(taken, denying[0].where if denying else "", without)
    allowing = [one for one in without.rules if _is_plain(one) and one.action == _ALLOW]
    longest = max(allowing, key=lambda one: len(one.names), default=None)
    added = changes.add_name(without, longest, name) if longest else None
    added = added or changes.add_rule(without, name, _ALLOW)
    return replace(added, line=f"{taken} and {added.line}") if denying else added


def _is_plain(rule: Rule) -> bool:
    return not rule.conditions and changes.has_list(rule)


def _judged(profile: Profile, abi: str) -> Change:
    """The architecture whose calls the kernel kills, as the profile does not name it."""
    # A list that is not there stands for the native architecture alone.
    known = profile.architectures or (OF_ABI["x86_64"],)
    more = (*known, OF_ABI[abi])
    where = profile.architectures_at()
    line = f"add {OF_ABI[abi]} to {where}"
    return Change(line, where, replace(profile, architectures=more))


def _without(profile: Profile, name: str, actions: Sequence[str]) -> Profile:
    for rule in [one for one in profile.rules if _holds(one, name, actions)]:
        changed = changes.remove_name(profile, rule, name).profile
        assert changed is not None
        profile = changed
    return profile


def _holders(profile: Profile, name: str, actions: Sequence[str]) -> str:
    return ", ".join(one.where for one in profile.rules if _holds(one, name, actions))


def _holds(rule: Rule, name: str, actions: Sequence[str]) -> bool:
    return name in rule.names and (not actions or rule.action in actions)
