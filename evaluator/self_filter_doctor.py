"""Whether a program can filter itself under a candidate; if not, where it stops, and why.

What is and what is not the cause is settled by runs that differ in one thing: the profile, the
capabilities, no_new_privs.  Lines that repair the profile are printed only if the check, made again
under the changed profile, works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from evaluator import self_filter_repair as lines
from evaluator.enforcement import Applied, apply
from evaluator.errors import EnvironmentLackError, HarnessError
from evaluator.outline import known_args
from evaluator.pool import Pool
from evaluator.posture import CAPABILITY_NUMBERS, CONTAINER, Posture
from evaluator.sandbox import is_filtered
from evaluator.self_filter import Check, Part, Step, StepRecord, Verdict, program, run, steps
from evaluator.wire import ConfigSpec, Filter
from mitigations import classic, runtimes
from mitigations.candidate import Attachment, Candidate, ProfileError
from mitigations.changes import Change
from mitigations.classic import Action, Instruction
from mitigations.rules import Profile

_SYS_ADMIN = 1 << CAPABILITY_NUMBERS["CAP_SYS_ADMIN"]
_CONTAINER = sum(1 << CAPABILITY_NUMBERS[name] for name in CONTAINER)
_ALLOW_ALL = classic.pack([Instruction(classic.RETURN_K, 0, 0, Action.ALLOW)])
_ASKED = 4
"""The step that asks whether no_new_privs is set."""
_NONE, _ANY, _THIS = "none", "allow-all", "candidate"
_BEFORE, _ITSELF, _NEVER = "before it starts", "by itself", "never"


class Arm(Struct, frozen=True):
    """One run of the check, and what it was made under."""

    profile: str
    """``none``, ``allow-all`` or ``candidate``."""
    capabilities: int
    """As the bits of capset(2)."""
    no_new_privs: str
    """When it is set: ``before it starts``, ``by itself`` or ``never``."""
    works: bool
    reason: str


class Suspect(Struct, frozen=True):
    """Something that people take for the cause, and whether it is."""

    name: str
    cause: bool
    evidence: str


class Repair(Struct, frozen=True):
    """Lines to follow in their order, and the check as it went under the profile after them."""

    lines: tuple[str, ...]
    means: str
    check: Check


class SelfFilter(Struct, frozen=True):
    """What became of the check under a candidate."""

    candidate: str
    source: str
    posture: str
    runtime_model: str
    works: bool
    check: Check
    control: Check
    answered_by: str
    """The rule, default or instruction that gave the answer which stops the program."""
    where: str
    suspects: tuple[Suspect, ...]
    repairs: tuple[Repair, ...]
    arms: tuple[Arm, ...]
    notes: tuple[str, ...]


def examine(pool: Pool, candidate: Candidate, stance: Posture) -> SelfFilter:
    """The check with and without the candidate, and what explains the difference.

    ``EnvironmentLackError`` if the candidate is not in force here, or the check does not even work
    without it.
    """
    applied = apply(pool, candidate, stance)
    if not applied.enforcement.enforced:
        raise EnvironmentLackError(f"{candidate.name}: {applied.enforcement.reason}")
    trials = _Trials(pool, candidate, applied)
    control = trials.check(_NONE)
    if not control.works:
        own = " (this process is under a filter already)" if is_filtered() else ""
        raise EnvironmentLackError(
            f"no program can filter itself here, even without the candidate: {control.reason}{own}"
        )
    check = trials.check(_THIS)
    blame = _blame(candidate, applied, check)
    return SelfFilter(
        candidate=candidate.name,
        source=candidate.source,
        posture=stance.name,
        runtime_model=candidate.runtime_model,
        works=check.works,
        check=check,
        control=control,
        answered_by=blame.said,
        where=blame.where,
        suspects=_suspects(trials),
        repairs=() if check.works else tuple(_repairs(pool, candidate, applied, check)),
        arms=trials.arms,
        notes=(*applied.notes, *_ambient(trials)),
    )


def _ambient(trials: _Trials) -> list[str]:
    """What was set before us cannot be taken away, and is in every arm."""
    never = trials.check(_NONE, 0, _NEVER)
    was_set = any(one.number == _ASKED and one.answer == "1" for one in never.steps)
    return ["no_new_privs was set before sidestep was started: it is in every arm"] * was_set


class _Trials:
    """The check under what differs from the real situation in this or that; each run once."""

    def __init__(self, pool: Pool, candidate: Candidate, applied: Applied) -> None:
        self._pool = pool
        self._applied = applied
        self._ran: dict[tuple[str, int, str], Check] = {}
        self._brings_own = candidate.brings_no_new_privs
        self._loads_itself = candidate.attachment is Attachment.SELF
        self.capabilities = applied.config.capabilities
        self.no_new_privs = _BEFORE if applied.config.no_new_privs else _ITSELF

    @property
    def arms(self) -> tuple[Arm, ...]:
        return tuple(Arm(*key, one.works, one.reason) for key, one in self._ran.items())

    def can(self, no_new_privs: str) -> bool:
        """Whether the candidate can be there if no_new_privs comes at that time."""
        needs = self._brings_own or self._loads_itself
        return no_new_privs in (_BEFORE, self.no_new_privs) or not needs

    def check(
        self, profile: str, capabilities: int | None = None, no_new_privs: str | None = None
    ) -> Check:
        """The check under this profile; by default all else is as in the real situation."""
        mask = self.capabilities if capabilities is None else capabilities
        nnp = no_new_privs or self.no_new_privs
        key = (profile, mask, nnp)
        if key not in self._ran:
            self._ran[key] = self._run(*key)
        return self._ran[key]

    def _run(self, profile: str, capabilities: int, no_new_privs: str) -> Check:
        config = replace(
            self._applied.config,
            capabilities=capabilities,
            no_new_privs=no_new_privs == _BEFORE,
            filters=self._filters(profile),
        )
        never = no_new_privs == _NEVER
        found = run(self._pool, config, self._applied.control, sets_no_new_privs=not never)
        self._in_force(found, len(config.filters))
        return found

    def _filters(self, profile: str) -> tuple[Filter, ...]:
        if profile == _THIS:
            return self._applied.config.filters
        return (Filter(_ALLOW_ALL),) if profile == _ANY else ()

    def _in_force(self, found: Check, filters: int) -> None:
        """Counted by the kernel, beside what was there before us."""
        control = next(iter(self._ran.values()), found)  # the first run is without any
        if found.filters is None or control.filters is None:
            return
        if found.filters - control.filters != filters:
            ours = found.filters - control.filters
            raise HarnessError(f"the kernel counts {ours} filters of this arm, not {filters}")


def _suspects(trials: _Trials) -> tuple[Suspect, ...]:
    """Each is changed alone: it is the cause if the program is stopped only with it."""
    return (
        _profile(trials),
        _any_filter(trials),
        _capabilities(trials),
        _no_new_privs(trials),
        _sys_admin(trials),
    )


def _cause(trials: _Trials, changed: Check) -> bool:
    return changed.works and not trials.check(_THIS).works


def _profile(trials: _Trials) -> Suspect:
    without = trials.check(_NONE)
    evidence = f"with it: {_said(trials.check(_THIS))}; without it: {_said(without)}"
    return Suspect("this profile", _cause(trials, without), evidence)


def _any_filter(trials: _Trials) -> Suspect:
    """The cause if it is no better under a filter that allows everything."""
    other = trials.check(_ANY)
    evidence = f"under one that allows everything: {_said(other)}"
    return Suspect("any profile at all", not other.works, evidence)


def _capabilities(trials: _Trials) -> Suspect:
    """Where there are some they are taken away, and where there is none, those of a container."""
    words, mask = ("none", 0) if trials.capabilities else ("those of a container", _CONTAINER)
    changed, bare = trials.check(_THIS, mask), trials.check(_NONE, 0)
    evidence = f"with {words}: {_said(changed)}; with none and without the profile: {_said(bare)}"
    cause = not trials.capabilities and _cause(trials, changed)
    return Suspect("zero capabilities", cause, evidence)


def _no_new_privs(trials: _Trials) -> Suspect:
    seen = {
        when: trials.check(_THIS, no_new_privs=when)
        for when in (_BEFORE, _ITSELF)
        if trials.can(when)
    }
    evidence = "; ".join(f"set {when}: {_said(one)}" for when, one in seen.items())
    others = [one for when, one in seen.items() if when != trials.no_new_privs]
    return Suspect("no_new_privs", any(_cause(trials, one) for one in others), evidence)


def _sys_admin(trials: _Trials) -> Suspect:
    """seccomp(2): to install a filter takes no_new_privs or CAP_SYS_ADMIN, either of them."""
    more = trials.check(_THIS, trials.capabilities | _SYS_ADMIN)
    bare, able = (trials.check(_NONE, mask, _NEVER) for mask in (0, _SYS_ADMIN))
    evidence = (
        f"with it: {_said(more)}; without the profile, and if no_new_privs is never set: "
        f"{_said(able)} with it, {_said(bare)} without it"
    )
    return Suspect("no CAP_SYS_ADMIN", _cause(trials, more), evidence)


def _said(check: Check) -> str:
    if check.works:
        return "works"
    failed = check.failed
    assert failed is not None
    return f"{failed.answer or 'no answer'} at step {failed.number}"


def _blame(candidate: Candidate, applied: Applied, check: Check) -> lines.Blame:
    if check.works:
        return lines.Blame("")
    step = _step(_problems(check)[-1])
    return lines.blame(candidate.profile, applied.filters, step.call, _args(step))


def _step(record: StepRecord) -> Step:
    return next(one for one in steps() if one.number == record.number)


def _args(step: Step) -> list[int | None]:
    return known_args(step.call, program(steps()).layout())


# ------------------------------------------------------------------------------------- repairs

_Way = Callable[[Profile, str, Sequence[int | None]], list[Change]]


def _repairs(pool: Pool, candidate: Candidate, applied: Applied, check: Check) -> list[Repair]:
    """Allowing what is asked for; and, where seccomp(2) is to stay denied, the way around it."""
    # Beside other filters, or without a model, nobody knows what a change would make of it.
    if candidate.profile is None or not candidate.runtime_model or len(applied.filters) != 1:
        return []
    found = [_repair(pool, candidate, applied, check, lines.allowing)]
    if any(one.call.startswith("seccomp(") for one in _problems(check)):
        found.append(_repair(pool, candidate, applied, check, lines.refusing))
    return [one for one in found if one is not None]


def _repair(
    pool: Pool, candidate: Candidate, applied: Applied, check: Check, on_seccomp: _Way
) -> Repair | None:
    """Step by step, as far as the check gets; None where it does not get on."""
    made: list[Change] = []
    profile = candidate.profile
    while profile is not None and not check.works:
        before = _next_problem(check, on_seccomp)
        step = _step(before)
        way = on_seccomp if step.call.name == "seccomp" else lines.allowing
        more = way(profile, step.call.name, _args(step))
        config = _configured(more, candidate, applied) if more else None
        if config is None:
            return None
        made, profile = [*made, *more], more[-1].profile
        check = run(pool, config, applied.control)
        if not check.works and _next_problem(check, on_seccomp).number <= before.number:
            return None
    means = "all its threads get the filter" if check.by == "seccomp" else _BY_PRCTL
    return Repair(lines.in_order(made), means, check)


_INSTALLERS = (Part.INSTALL, Part.FALLBACK)
_BY_PRCTL = "it falls back to prctl: only the thread that asks, and those it starts, get the filter"


def _problems(check: Check) -> list[StepRecord]:
    """The steps that do not go as they should; that a filter is not there is its installer's."""
    failed = check.failed
    if failed is not None and failed.part is Part.WITNESS:
        return [one for one in check.steps if one.part in _INSTALLERS and one.answer == "0"]
    return [one for one in check.steps if one.verdict in (Verdict.FAILED, Verdict.FALLS_BACK)]


def _next_problem(check: Check, on_seccomp: _Way) -> StepRecord:
    """What to change first: where seccomp(2) is to be refused, that it falls back is meant."""
    found = _problems(check)
    return found[0] if on_seccomp is lines.allowing else found[-1]


def _configured(
    made: Sequence[Change], candidate: Candidate, applied: Applied
) -> ConfigSpec | None:
    """The posture under the changed profile; None where the runtime would refuse it."""
    profile = made[-1].profile
    if profile is None:
        return None
    try:
        layer = runtimes.compile_profile(profile, runtimes.model_of(candidate.runtime_model))
    except ProfileError:
        return None
    (old,) = applied.config.filters
    return replace(applied.config, filters=(Filter(layer.program, old.flags),))
