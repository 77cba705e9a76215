"""What a candidate's filters answer, and why: to a call, to each call of a variant, to a family.

Nothing runs: this is what the compiled filters say (``mitigations.analysis``), beside the rules of
the source that name the call.  A family is held if every known way to its effect is denied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module

from msgspec import Struct
from msgspec.structs import replace

from attacks.consts import Named
from attacks.effects import Grade
from attacks.family import Assumption, FamilyInstance, Variant
from attacks.program import Abi, Program, Syscall, is_decisive
from attacks.text import context_of, render
from evaluator import predict
from evaluator.cause import Causes, Through
from evaluator.derived import rewritten
from evaluator.errors import InputError
from evaluator.outline import attack_ops, known_args, outline
from evaluator.records import Cause
from mitigations import x86_64
from mitigations.analysis import InexactError, Part, partition
from mitigations.bpf import UNFILTERED_X86_64, Decision, Filter, disassemble
from mitigations.candidate import Candidate
from mitigations.rules import OF_ABI, Condition, Profile, Rule
from mitigations.runtimes import becomes_or
from mitigations.suggestion import quote
from mitigations.witness import meets

_CALL = re.compile(
    r"(?:(?P<abi>x86_64|i386|x32):)?(?P<name>\w+)\s*(?:\((?P<args>.*)\))?", re.DOTALL
)
_COMMA = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')
"""One that is not in a string."""
_UNKNOWN = frozenset({"_", "...", "?", ""})
_CONSTANTS = ("consts", "consts_files", "consts_namespaces", "consts_network", "consts_watches")
_WORD = (1 << 64) - 1
_ARGUMENTS = 6
_OPERATORS = {
    "SCMP_CMP_EQ": "==",
    "SCMP_CMP_NE": "!=",
    "SCMP_CMP_GT": ">",
    "SCMP_CMP_GE": ">=",
    "SCMP_CMP_LT": "<",
    "SCMP_CMP_LE": "<=",
}
_ALWAYS = " for all arguments"
_ASSUMES = (
    "nothing was opened, mapped or started before the filter",
    "what needs no call of its own is beyond any filter and not counted",
    "the kernel has every table and every call",
    "no process or thread without the filter helps",
    "no call outside this library causes the effect",
)


class Answer(Struct, frozen=True):
    """Arguments of a call that get one answer."""

    answer: str
    """``ALLOW``, ``ERRNO(EPERM)`` and so on."""
    allows: bool
    conditions: tuple[str, ...]
    """All of them hold; none means whatever the arguments are."""
    witness: tuple[int, ...]
    """Six arguments that get this answer."""
    instruction_pointer: int
    """Of the witness."""
    instructions: tuple[tuple[str, ...], ...]
    """For each filter, the newest first: the instructions that the witness runs through."""


class SourceRule(Struct, frozen=True):
    """A rule of the source profile that names the call."""

    where: str
    """JSON path in the source."""
    action: str
    conditions: tuple[str, ...]
    findings: tuple[str, ...] = ()
    """Codes of what is odd about it: ``unknown-syscall``, ``shadowed-rule``."""


class CallExplanation(Struct, frozen=True):
    """One call through one table."""

    call: str
    abi: str
    nr: int
    answers: tuple[Answer, ...]
    rules: tuple[SourceRule, ...]
    default: str
    """What the source says of calls that no rule names."""
    inexact: str = ""
    """Why there are no conditions: what the filter calculates with an argument."""
    unjudged: str = ""
    """Why no rule is behind the answer: the profile does not name the call's architecture."""


class Question(Struct, frozen=True):
    """A call as somebody wrote it; ``None`` is an argument that may be anything."""

    abis: tuple[Abi, ...]
    name: str
    args: tuple[int | None, ...]


class StepExplanation(Struct, frozen=True):
    """One call of a variant's attack."""

    text: str
    decisive: bool
    answer: str


class VariantExplanation(Struct, frozen=True):
    """What the filters say of a variant's calls, in their order."""

    variant: str
    predicted: str
    """``BLOCKED``, ``BYPASSED`` or ``DEPENDS``: on what a call returns, on a supervisor, or, where
    the filters let it through, on the candidate's other layers."""
    steps: tuple[StepExplanation, ...]
    cause: Cause | None = None
    """What lets it through, if it is not blocked."""


class Way(Struct, frozen=True):
    """All variants of a family whose effect is caused by one operation through one table."""

    entry: str
    """``x86_64:mkdir``, ``x86_64:IORING_OP_MKDIRAT``, ``memory``."""
    verdict: str
    """``denied``, ``passes`` or ``depends``."""
    detail: str
    variants: tuple[str, ...]
    witness: str = ""
    """The shortest variant that gets through, as its id."""
    grade: Grade = Grade.EXACT
    """Whether it causes the effect itself or something equivalent, which does not count here."""


class FamilyExplanation(Struct, frozen=True):
    """Every way that the library knows, and whether all of them are denied."""

    family: str
    held: bool
    ways: tuple[Way, ...]
    assumes: tuple[str, ...]


def parse_call(text: str) -> Question | None:
    """The call that somebody wrote: ``openat``, ``i386:openat(AT_FDCWD, _, O_CREAT)``.

    None if no table has a call of that name; ``InputError`` for arguments that cannot be read.
    """
    match = _CALL.fullmatch(text.strip())
    if match is None:
        return None
    wanted = [Abi(match["abi"])] if match["abi"] else list(Abi)
    abis = tuple(one for one in wanted if x86_64.number(one.value, match["name"]) is not None)
    if not abis:
        return None
    words = [] if match["args"] is None else _COMMA.split(match["args"])
    if len(words) > _ARGUMENTS:
        raise InputError(f"{text}: a call has at most {_ARGUMENTS} arguments, not {len(words)}")
    args = [_argument(word.strip()) for word in words]
    return Question(abis, match["name"], (*args, *[None] * (_ARGUMENTS - len(args))))


def _argument(word: str) -> int | None:
    if word in _UNKNOWN or word[:1] in ('"', "&"):
        return None
    value = 0
    for part in word.split("|"):
        value |= _number(part.strip())
    if not -(1 << 63) <= value <= _WORD:
        raise InputError(f"argument {quote(word)}: it does not fit 64 bits")
    return value & _WORD


def _number(word: str) -> int:
    if not word.isascii():
        raise InputError(f"argument {quote(word)}: not a number")
    octal = re.fullmatch(r"0([0-7]+)", word)
    if octal:
        return int(octal[1], 8)
    try:
        return int(word, 0)
    except ValueError:
        pass
    for module in _CONSTANTS:
        found = getattr(import_module(f"attacks.{module}"), word, None)
        if isinstance(found, Named):
            return int(found)
    raise InputError(
        f"argument {quote(word)}: neither a number nor a constant that the library knows; "
        "_ alone stands for anything"
    )


class Explainer:
    """One candidate's filters, asked about calls, variants and families."""

    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate
        self._profile = candidate.profile
        self._filters = tuple(Filter.decode(layer.program) for layer in candidate.seccomp)
        self._lines = [disassemble(layer.program) for layer in candidate.seccomp]
        self._warned: dict[str, list[str]] = {}
        """Codes of findings by the place that they are about."""
        for one in candidate.warnings:
            self._warned.setdefault(one.where, []).append(one.code)
        self._partitions: dict[tuple[Abi, str], tuple[Part, ...] | InexactError] = {}

    def _partition(self, abi: Abi, name: str) -> tuple[Part, ...]:
        """What happens to all arguments of a call; ``InexactError`` if that cannot be told."""
        if (abi, name) not in self._partitions:
            arch, nr = _seen_as(abi, name)
            try:
                self._partitions[abi, name] = partition(self._filters, arch, nr)
            except InexactError as error:
                self._partitions[abi, name] = error
        found = self._partitions[abi, name]
        if isinstance(found, InexactError):
            raise found
        return found

    # -------------------------------------------------------------------------------- one call

    def call(self, abi: Abi, name: str, args: Sequence[int | None]) -> CallExplanation:
        """What the filters answer to one call, for all arguments that ``args`` leaves open."""
        asked = _as_passed(abi, args)
        inexact = ""
        answers: tuple[Answer, ...] = ()
        try:
            parts = [one for one in self._partition(abi, name) if one.holds(asked, None)]
            answers = tuple(self._answer(abi, name, one, asked) for one in parts)
        except InexactError as error:
            inexact = str(error)
        profile = self._profile
        return CallExplanation(
            call=name,
            abi=abi.value,
            nr=_seen_as(abi, name)[1],
            answers=answers,
            rules=tuple(self._source_rules(profile.rules, name, asked)) if profile else (),
            default=profile.default_action if profile else "",
            inexact=inexact,
            unjudged=_unasked(abi, name) or (_unjudged(profile, abi) if profile else ""),
        )

    def _source_rules(
        self, rules: Iterable[Rule], name: str, asked: Sequence[int | None]
    ) -> Iterator[SourceRule]:
        """The rules that name a call, and may be for these arguments."""
        for rule in rules:
            if name in rule.names and _may_hold(rule, asked):
                where = rule.named_at[rule.names.index(name)]
                said = tuple(_condition(one) for one in rule.conditions)
                errno_ret = "" if rule.errno_ret is None else f" errnoRet {rule.errno_ret}"
                found = self._warned.get(where, ()) or self._warned.get(rule.where, ())
                yield SourceRule(where, f"{rule.action}{errno_ret}", said, tuple(found))

    def _answer(self, abi: Abi, name: str, part: Part, asked: Sequence[int | None]) -> Answer:
        given = zip(part.args, asked, strict=True)
        witness = tuple(own if one is None else one for own, one in given)
        trails: list[tuple[str, ...]] = []
        asked_of = [] if _unasked(abi, name) else [*zip(self._filters, self._lines, strict=True)]
        for one, lines in reversed(asked_of):
            decision = one.decide(*_seen_as(abi, name), witness, part.pointer, with_path=True)
            trails.append(tuple(lines[pc] for pc in decision.path or ()))
        return Answer(
            part.answer, part.allows, part.conditions, witness, part.pointer, tuple(trails)
        )

    # ----------------------------------------------------------------------- variant and family

    def variant(self, variant: Variant, family: Sequence[Variant] = ()) -> VariantExplanation:
        """What the filters say of each call, before anything is known of its results.

        ``family`` are the other ways to the same effect: one rule may be meant for all of them.
        """
        program = variant.program
        context = context_of(program)
        steps = tuple(
            StepExplanation(render(op, context, slot), op.decisive, self._decide(op, program).text)
            for slot, op in attack_ops(program)
            if isinstance(op, Syscall)
        )
        predicted = self._predicted(variant)
        if predicted != "BYPASSED":
            return VariantExplanation(variant.id, predicted, steps)
        causes = Causes(self._candidate, self._filters, 0)
        (cause,) = causes.of([Through(variant)], family or [variant])
        if not self._candidate.seccomp_only:
            predicted = predict.DEPENDS
        return VariantExplanation(variant.id, predicted, steps, cause)

    def family(self, instance: FamilyInstance) -> FamilyExplanation:
        """Every operation that the library knows for the effect, with and without rewrites."""
        by_entry: dict[tuple[str, Grade], list[Variant]] = {}
        for one in (*instance.variants, *rewritten(instance)):
            usable = not one.negative and not one.beyond_seccomp
            if usable and one.assumption is Assumption.NONE and predict.is_known(one.program):
                by_entry.setdefault((_entry(one), one.grade), []).append(one)
        ways = tuple(
            replace(self._way(entry, variants), grade=grade)
            for (entry, grade), variants in by_entry.items()
        )
        held = all(one.verdict == "denied" for one in ways if one.grade is Grade.EXACT)
        return FamilyExplanation(instance.label, held, ways, _ASSUMES)

    def _predicted(self, variant: Variant) -> str:
        found = predict.foretold(variant.program, self._filters, None, 0)
        return predict.of_variant(variant, found, self._filters)

    def _decide(self, op: Syscall, program: Program) -> Decision:
        return predict.decide(op, _constants(op, program), self._filters)

    def _way(self, entry: str, variants: Sequence[Variant]) -> Way:
        said = {one.id: self._predicted(one) for one in variants}
        names = tuple(one.id for one in variants)
        for verdict, word in (("BYPASSED", "passes"), ("DEPENDS", "depends")):
            through = [one for one in variants if said[one.id] == verdict]
            if through:
                shortest = min(through, key=lambda one: (len(one.program.flatten()), one.id))
                return Way(entry, word, self._let_through(shortest), names, shortest.id)
        return Way(entry, "denied", self._denied(variants), names)

    def _parts(self, op: Syscall, program: Program) -> list[Part]:
        """What the filters may answer on the arguments of a program's call that are known."""
        known = _as_passed(op.abi, _constants(op, program))
        return [one for one in self._partition(op.abi, op.name) if one.holds(known, None)]

    def _let_through(self, variant: Variant) -> str:
        """On which condition the decisive call of a variant passes."""
        op = _decisive(variant)
        if op is None:
            return "no call causes it: a filter does not see it"
        try:
            parts = self._parts(op, variant.program)
        except InexactError as error:
            return f"{self._decide(op, variant.program).text} ({error})"
        passing = [one for one in parts if one.allows]
        if not passing and variant.core_file:
            return f"{parts[0].answer}, and a death by the filter may be the effect"
        if not passing:
            return f"{parts[0].answer}, and the program may be its own supervisor"
        text = render(op, context_of(variant.program, results=False))
        where = " and ".join(passing[0].conditions)
        return f"{text} where {where}" if where else text

    def _denied(self, variants: Sequence[Variant]) -> str:
        """What stops all of them: the decisive call, or one that has to come before or after it."""
        answers = {self._denial(one) for one in variants}
        whole = [one for one in answers if one.endswith(_ALWAYS)]
        return "; ".join(sorted(whole or answers))

    def _denial(self, variant: Variant) -> str:
        op = _decisive(variant)
        try:
            parts = self._parts(op, variant.program) if op else []
            if op and parts and not any(one.allows for one in parts):
                always = not any(one.allows for one in self._partition(op.abi, op.name))
                return parts[0].answer + (_ALWAYS if always else " on these arguments")
        except InexactError as error:
            return str(error)
        plan = outline(variant.program)
        for call in plan.calls:
            decision = predict.decide_call(call, call.args, self._filters, 0)
            if not call.op.may_fail and not decision.allows and not decision.depends:
                where = "after" if call.slot > plan.decisive else "before"
                return f"{where} it, {call.op.abi.value}:{call.op.name} {decision.text}"
        return "a call that it needs"


def _seen_as(abi: Abi, name: str) -> tuple[int, int]:
    """``arch`` and ``nr``, as a filter sees them."""
    nr = x86_64.number(abi.value, name)
    assert nr is not None
    return x86_64.arch(abi.value), nr


def _as_passed(abi: Abi, args: Sequence[int | None]) -> list[int | None]:
    """Six arguments; those of a 32-bit call have 32 bits, those that nobody passes are 0."""
    mask = 0xFFFFFFFF if abi is Abi.I386 else _WORD
    known = [None if one is None else one & mask for one in args]
    return [*known, *[0] * (_ARGUMENTS - len(known))]


def _may_hold(rule: Rule, asked: Sequence[int | None]) -> bool:
    """Whether a rule may be for a call with these arguments."""
    alone = [asked[one.index] is None or meets(one, asked) for one in rule.conditions]
    return any(alone) if becomes_or(rule) else all(alone)


def _unasked(abi: Abi, name: str) -> str:
    if abi is Abi.X86_64 and _seen_as(abi, name)[1] in UNFILTERED_X86_64:
        return "no filter is asked: Linux lets uretprobe and uprobe pass"
    return ""


def _unjudged(profile: Profile, abi: Abi) -> str:
    if profile.judges(abi.value):
        return ""
    return f"no rule judges it: {profile.architectures_at()} has no {OF_ABI[abi.value]}"


def _condition(one: Condition) -> str:
    if one.operator == "SCMP_CMP_MASKED_EQ":
        return f"args[{one.index}] & {one.value:#x} == {one.value_two:#x}"
    return f"args[{one.index}] {_OPERATORS[one.operator]} {one.value:#x}"


def _constants(op: Syscall, program: Program) -> list[int | None]:
    """The arguments that are known without a run."""
    return known_args(op, program.layout())


def _entry(variant: Variant) -> str:
    """The operation that causes the effect, and the table that it goes through."""
    op = _decisive(variant)
    return f"{op.abi.value}:{op.opcode or op.name}" if op else "memory"


def _decisive(variant: Variant) -> Syscall | None:
    ops = [op for _, op in attack_ops(variant.program) if is_decisive(op)]
    return ops[0] if ops and isinstance(ops[0], Syscall) else None
