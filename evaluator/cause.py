"""What lets a variant through, as small as it can be said: the rule, and one line that closes it.

A line is printed only if it is proved: the changed profile is compiled as the same runtime would,
and by the simulator's prediction this very variant is then stopped.  Of a raw program nobody has
the source: there the change is one more call that it denies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from attacks.arguments import KINDS, NARROW
from attacks.family import Variant
from attacks.program import Abi, Const, Syscall
from evaluator import predict
from evaluator.closing import Args, Closing, changes_against
from evaluator.outline import attack_ops, known_args, outline
from evaluator.records import Cause, CauseKind
from evaluator.wire import Result, call_number
from mitigations import classic, libseccomp, runtimes, x86_64
from mitigations.bpf import UNFILTERED_X86_64, Decision, Filter, Patched, decide_stack
from mitigations.candidate import Candidate, ProfileError
from mitigations.changes import Change
from mitigations.classic import Action, Instruction
from mitigations.rules import LETS_THROUGH, Profile, Rule
from mitigations.witness import meets

_KILLS = (Action.KILL_PROCESS, Action.KILL_THREAD, Action.TRAP)
_ASKS = (Action.TRACE, Action.USER_NOTIF)
_LOW = (1 << 32) - 1
_MODE = (1 << 16) - 1
_MULTIPLEXERS = ("socketcall", "ipc")
_RING = ("io_uring_setup", "io_uring_enter")
_NO_LINE = "no one-line change is known to close it"
_MOST_RULES = 256
"""On one call, conditions counted: what libseccomp compiles in no time."""


More = Callable[[Profile, Syscall, Args], Iterable[Closing]]
"""Changes against a call with these arguments, as far as they are known."""


def _no_more(profile: Profile, step: Syscall, args: Args) -> Iterable[Closing]:
    del profile, step, args
    return ()


class Through(Struct, frozen=True):
    """A variant that got through, with its control arm where there was one."""

    variant: Variant
    control: Result | None = None


class _Told(Struct, frozen=True):
    """What lets one call pass."""

    kind: CauseKind
    where: str
    said: str


class _Line(Struct, frozen=True):
    """A change, and the filters after it."""

    closing: Closing
    filters: tuple[Filter, ...]


class Causes:
    """The causes for one candidate.  What was compiled for one variant serves the others."""

    def __init__(self, candidate: Candidate, filters: Sequence[Filter], insn: int) -> None:
        # Beside other filters, or without a model, nobody knows what a change would make of it.
        known = candidate.runtime_model and len(filters) == 1
        self._profile = candidate.profile if known else None
        self._filters = tuple(filters)
        self._insn = insn
        self._model = runtimes.model_of(candidate.runtime_model) if self._profile else None
        self._compiled: dict[tuple[str, str], tuple[Filter, ...] | None] = {}
        self._known: dict[object, tuple[Cause, _Line, Syscall]] = {}
        """What closed a variant by its first step: it is tried first on those that begin so too."""

    def of(self, through: Iterable[Through], family: Sequence[Variant]) -> tuple[Cause, ...]:
        """What lets these variants through; ``family`` is all that is recorded beside them."""
        siblings = self._siblings(family)
        self._known.clear()  # what is beside them is another rule
        found: dict[Cause, list[str]] = {}
        for one in through:
            found.setdefault(self._one(one, siblings), []).append(one.variant.id)
        return tuple(replace(cause, variants=tuple(variants)) for cause, variants in found.items())

    def all_closings(
        self, through: Through, family: Sequence[Variant], more: More
    ) -> Iterator[tuple[Syscall, Closing]]:
        """Every change that stops a variant, each proved, with the call that it is against.

        ``more`` are changes to try beside those that fit on a line.
        """
        siblings = self._siblings(family)
        steps = _steps(through.variant) if self._filters else []
        for step, line in self._lines(through.variant, steps, siblings, more):
            if self._closed(through, step, line):
                yield step, line.closing

    def _siblings(self, family: Sequence[Variant]) -> list[Rule]:
        """The rules that deny what causes the same effect, that of the baseline first."""
        if self._profile is None:
            return []
        names = [name for one in family for _, name in predict.decisive_calls(one.program)]
        # Who is told that it worked goes wrong later: that is no way to stop more calls.
        denying = [
            one
            for one in self._profile.rules
            if one.action not in LETS_THROUGH and one.errno_ret != 0
        ]
        first = {name: n for n, name in reversed([*enumerate(names)])}
        ranked = [
            (bool(rule.conditions), min(first[name] for name in rule.names if name in first), n)
            for n, rule in enumerate(denying)
            if not first.keys().isdisjoint(rule.names)
        ]
        return [denying[n] for _, _, n in sorted(ranked)]

    def _one(self, through: Through, siblings: Sequence[Rule]) -> Cause:
        steps = _steps(through.variant)
        if not steps or not self._filters:
            return self._beyond(through.variant, steps)
        alike = _alike(through.variant, steps)
        if alike in self._known:
            cause, line, step = self._known[alike]
            if self._closed(through, step, line):
                return cause
        for step, line in self._lines(through.variant, steps, siblings):
            if self._closed(through, step, line):
                told = self._told(through.variant, step)
                change = line.closing.change
                where = told.where or change.where
                cause = Cause(
                    (),
                    told.kind,
                    _call(step),
                    where,
                    told.said,
                    change.line,
                    line.closing.breaks,
                )
                self._known[alike] = cause, line, step
                return cause
        told = self._told(through.variant, steps[0])
        said = f"{told.said}; {_NO_LINE}"
        return Cause((), told.kind, _call(steps[0]), told.where, said, "")

    def _beyond(self, variant: Variant, steps: Sequence[Syscall]) -> Cause:
        """Where there is no filter, or nothing that one could see."""
        if not self._filters:
            call = _call(steps[0]) if steps else ""
            return Cause((), CauseKind.NO_FILTER, call, "", "there is no filter", "")
        said = f"it makes no call before the effect; {_NO_LINE}"
        return Cause((), CauseKind.NO_CALL, "", "", said, "")

    # -------------------------------------------------------------------------------- changes

    def _lines(
        self,
        variant: Variant,
        steps: Sequence[Syscall],
        siblings: Sequence[Rule],
        more: More = _no_more,
    ) -> Iterator[tuple[Syscall, _Line]]:
        """Changes to try, those first that keep no ordinary program from working.

        To deny what every program does is no answer to what only prepares an effect.
        """
        late: list[tuple[Syscall, Closing]] = []
        for number, step in enumerate(steps):
            for closing in self._closings(variant, step, siblings, more):
                if not closing.breaks:
                    yield from self._made(step, closing)
                elif not number or not _is_call(variant):
                    late.append((step, closing))
        for step, closing in late:
            yield from self._made(step, closing)

    def _closings(
        self, variant: Variant, step: Syscall, siblings: Sequence[Rule], more: More
    ) -> Iterator[Closing]:
        if self._profile is None:
            yield Closing(_denied(step))
            return
        args = _constants(variant, step)
        yield from changes_against(self._profile, step.name, args, siblings)
        yield from more(self._profile, step, args)

    def _made(self, step: Syscall, closing: Closing) -> Iterator[tuple[Syscall, _Line]]:
        change = closing.change
        key = (change.line, step.name)
        if key not in self._compiled:
            self._compiled[key] = self._compile(change, step)
        filters = self._compiled[key]
        if filters is not None:
            yield step, _Line(closing, filters)

    def _compile(self, change: Change, step: Syscall) -> tuple[Filter, ...] | None:
        """The filters after a change; None where the runtime would refuse it."""
        if change.profile is None or self._model is None:
            return (*self._filters, _denying(step))
        whole = _is_whole(self._profile, change.profile)
        if _rules_on(change.profile, step.name) > _MOST_RULES:
            return None
        try:
            only = None if whole else [step.name]
            layer = runtimes.compile_profile(change.profile, self._model, only)
        except ProfileError:
            return None
        changed = Filter.decode(layer.program)
        if whole:
            return (changed,)
        names = runtimes.together([step.name])
        calls = {
            (x86_64.arch(abi.value), number)
            for abi in Abi
            for name in names
            if (number := x86_64.number(abi.value, name)) is not None
        }
        (before,) = self._filters
        return (Patched(before, changed, frozenset(calls)),)

    def _closed(self, through: Through, step: Syscall, line: _Line) -> bool:
        """Whether the filters stop a variant after a change, by no answer that is the effect."""
        variant, filters = through.variant, line.filters
        found = predict.foretold(variant.program, filters, through.control, self._insn)
        if predict.of_variant(variant, found, filters) != "BLOCKED":
            return False
        return not variant.core_file or self._decide(variant, step, filters).action not in _KILLS

    # -------------------------------------------------------------------------------- in words

    def _decide(
        self, variant: Variant, step: Syscall, filters: Sequence[Filter] | None = None
    ) -> Decision:
        args = _constants(variant, step)
        return predict.decide(step, args, self._filters if filters is None else filters)

    def _told(self, variant: Variant, step: Syscall) -> _Told:
        """Why this call passes, or what has the effect although it does not."""
        decision = self._decide(variant, step)
        asks = decision.action in _ASKS
        rule = self._naming(step)
        if asks:
            who = rule.where if rule else "the default action"
            said = f"{who} leaves {step.name} to a supervisor, and the program may be one itself"
            return _Told(CauseKind.ASKS_SUPERVISOR, f"{rule.where}.action" if rule else "", said)
        if variant.core_file and decision.action in _KILLS:
            said = f"to be killed for {step.name} leaves the core file that is the effect"
            return _Told(CauseKind.DEATH_IS_EFFECT, "", said)
        if not _is_call(variant):
            return _Told(CauseKind.NO_CALL, "", _unseen(variant, step))
        if step.abi is Abi.X86_64 and call_number(step, x86_64.number) in UNFILTERED_X86_64:
            return _Told(CauseKind.NEVER_FILTERED, "", f"the kernel shows {step.name} to no filter")
        if step.abi is Abi.I386 and step.name in _MULTIPLEXERS:
            said = f"what {_call(step)} is to do stands in memory, where no filter looks"
            return _Told(CauseKind.MULTIPLEXER, "", said)
        narrow = self._narrow(variant, step)
        if narrow is not None:
            where = f"{rule.where}.args" if rule else ""
            return _Told(CauseKind.UPPER_HALF, where, narrow)
        if self._denied_natively(variant, step):
            said = f"{step.name} is denied natively, and not through {step.abi.value}"
            return _Told(CauseKind.ARCHITECTURE_NOT_JUDGED, "", said)
        if self._profile is None:
            return _Told(CauseKind.FILTER_ALLOWS, "", f"the filter allows {_call(step)}")
        return _by_source(self._profile, variant, step)

    def _naming(self, step: Syscall) -> Rule | None:
        """The rule about a call: one with conditions, if there is one."""
        rules = self._profile.rules if self._profile else ()
        naming = [one for one in rules if step.name in one.names]
        return min(naming, key=lambda one: not one.conditions, default=None)

    def _narrow(self, variant: Variant, step: Syscall) -> str | None:
        """What is said if the call is denied without the bits that the kernel drops."""
        kinds, args = KINDS.get(step.name, ()), _constants(variant, step)
        for index, (kind, value) in enumerate(zip(kinds, args, strict=False)):
            read = _MODE if kind == "mode" else _LOW
            if kind not in NARROW or value is None or value <= read:
                continue
            fewer = [*args[:index], value & read, *args[index + 1 :]]
            decision = predict.decide(step, fewer, self._filters)
            if not decision.allows and not decision.depends:
                bits = 16 if kind == "mode" else 32
                return (
                    f"argument {index} of {step.name} is compared with all its bits, of which the "
                    f"kernel reads {bits}"
                )
        return None

    def _denied_natively(self, variant: Variant, step: Syscall) -> bool:
        nr = x86_64.number("x86_64", step.name)
        if step.abi is Abi.X86_64 or nr is None:
            return False
        args = _constants(variant, step)
        decision = decide_stack(self._filters, x86_64.AUDIT_ARCH_X86_64, nr, args, None)
        return not decision.allows and not decision.depends


def _by_source(profile: Profile, variant: Variant, step: Syscall) -> _Told:
    """The rule of the profile that lets a call pass, or the lack of one."""
    name = step.name
    naming = [one for one in profile.rules if name in one.names]
    if libseccomp.resolve(name) is None:
        return _Told(CauseKind.NAME_UNKNOWN, naming[0].where if naming else "", _unknown(step))
    if profile.default_action in LETS_THROUGH:
        denying = [one for one in naming if one.action not in LETS_THROUGH]
        if denying:
            said = f"the conditions of {denying[0].where} do not match these arguments of {name}"
            return _Told(CauseKind.CONDITION_MISSES, f"{denying[0].where}.args", said)
        if not naming:
            said = f"no rule names {name}, and {profile.default_action} is the default"
            return _Told(CauseKind.DEFAULT_ALLOWS, "", said)
    args = _constants(variant, step)
    allowing = [one for one in naming if one.action in LETS_THROUGH]
    for rule in allowing:
        if all(meets(one, args) for one in rule.conditions):
            on = " on these arguments" if rule.conditions else ""
            where = f"{rule.where}.args" if rule.conditions else _place(rule, name)
            return _Told(CauseKind.RULE_ALLOWS, where, f"{rule.where} allows {name}{on}")
    where = allowing[0].where if allowing else ""
    return _Told(CauseKind.RULE_ALLOWS, where, f"the filter allows {_call(step)}")


def _place(rule: Rule, name: str) -> str:
    return rule.named_at[rule.names.index(name)]


def _unknown(step: Syscall) -> str:
    number = call_number(step, x86_64.number)
    release = libseccomp.knows_from(number & ~x86_64.X32_BIT)
    newer = f", as {release} can" if release else ""
    return f"libseccomp {libseccomp.version()} cannot name {step.name} ({number}) in a rule{newer}"


def _unseen(variant: Variant, step: Syscall) -> str:
    """How an effect comes about without a call of its own."""
    ops = [op for _, op in attack_ops(variant.program)]
    in_ring = any(isinstance(op, Syscall) and op.decisive and op.opcode for op in ops)
    how = "an io_uring does it" if in_ring else "it comes about in memory"
    return f"{how}, where no filter looks; {step.name} comes before it"


def _steps(variant: Variant) -> list[Syscall]:
    """The calls without which the effect does not come: the one that it hangs on most first."""
    plan = outline(variant.program)
    calls = (one.op for one in reversed(plan.calls) if one.slot <= plan.decisive)
    needed = [op for op in calls if op.decisive or not op.may_fail]
    if not _is_call(variant):
        needed.sort(key=lambda op: _RING.index(op.name) if op.name in _RING else len(_RING))
    return needed


def _alike(variant: Variant, steps: Sequence[Syscall]) -> object:
    """Equal for variants of which the same is to be said, if the same closes them."""
    first = steps[0]
    args = tuple(one.value if isinstance(one, Const) else None for one in first.args)
    decisive = _decisive(variant)
    in_ring = decisive is not None and bool(decisive.opcode)
    return first.abi, first.name, args, _is_call(variant), in_ring, variant.core_file


def _is_call(variant: Variant) -> bool:
    """Whether the effect is caused by a call that a filter sees."""
    decisive = _decisive(variant)
    return decisive is not None and not decisive.opcode


def _decisive(variant: Variant) -> Syscall | None:
    """The call that causes the effect, where it is one."""
    plan = outline(variant.program)
    return next((one.op for one in plan.calls if one.slot == plan.decisive), None)


def _call(step: Syscall) -> str:
    return f"{step.abi.value}:{step.name}"


def _constants(variant: Variant, step: Syscall) -> list[int | None]:
    known = known_args(step, variant.program.layout())
    return [*known, *[0] * (6 - len(known))]


def _rules_on(profile: Profile, name: str) -> int:
    names = runtimes.together([name])
    naming = (one for one in profile.rules if not names.isdisjoint(one.names))
    return sum(max(1, len(one.conditions)) for one in naming)


def _is_whole(old: Profile | None, new: Profile) -> bool:
    """Whether more changes than what is answered to single calls."""
    return (
        old is None
        or new.default_action != old.default_action
        or new.architectures != old.architectures
    )


def _denied(step: Syscall) -> Change:
    """The change to a program whose source nobody has."""
    nr = call_number(step, x86_64.number)
    arch = "i386" if step.abi is Abi.I386 else "x86_64"
    shown = hex(nr) if nr & x86_64.X32_BIT else str(nr)
    return Change(f"deny nr {shown} ({step.name}) on arch {arch} in the filter", "", None)


def _denying(step: Syscall) -> Filter:
    """A filter that denies one call and nothing else."""
    jump = classic.JMP | classic.JEQ | classic.K
    nr = call_number(step, x86_64.number)
    return Filter(
        (
            Instruction(classic.LOAD_WORD, 0, 0, 4),
            Instruction(jump, 0, 3, x86_64.arch(step.abi.value)),
            Instruction(classic.LOAD_WORD, 0, 0, 0),
            Instruction(jump, 0, 1, nr),
            Instruction(classic.RETURN_K, 0, 0, Action.ERRNO | 1),
            Instruction(classic.RETURN_K, 0, 0, Action.ALLOW),
        )
    )
