"""Where a filter is less than it seems, by what is known of calls: and which trial showed it.

``mitigations.traps`` compares a profile with what became of it.  Here stands what needs more than
that: how much of an argument the kernel reads, and which call does the same through another table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from msgspec.structs import replace

from attacks.arguments import KINDS, NARROW
from attacks.family import Variant
from attacks.program import Abi, Syscall
from attacks.rewrites.tables import I386_NAMES, IPC, SOCKETCALL
from evaluator import predict
from evaluator.explain import parse_call
from evaluator.outline import attack_ops, known_args
from mitigations import classic, x86_64
from mitigations.analysis import Part, native_parts
from mitigations.bpf import Decision, Filter, State
from mitigations.candidate import Candidate, Finding
from mitigations.json_section import MOST_FINDINGS
from mitigations.rules import LETS_THROUGH, Profile, Rule
from mitigations.witness import Args, answer, written

_WIDE = 1 << 32
_WIDE_MODE = 1 << 16
_ARCH_OFFSET = 4  # of struct seccomp_data
_MULTIPLEXED = {
    name: (call, number)
    for call, table in (("socketcall", SOCKETCALL), ("ipc", IPC))
    for name, number in table.items()
}
_ANYTHING: Args = (None,) * 6


def with_findings(candidate: Candidate) -> Candidate:
    """The candidate with these findings behind those that it was loaded with."""
    filters = tuple(Filter.decode(layer.program) for layer in candidate.seccomp)
    if not filters:
        return candidate
    looked_at = _Filters(candidate.profile, filters)
    found = chain(looked_at.upper_halves(), looked_at.other_tables(), looked_at.hidden())
    more = islice(found, max(0, MOST_FINDINGS - len(candidate.warnings)))
    return replace(candidate, warnings=(*candidate.warnings, *more))


class _Filters:
    """The filters of a candidate, and the profile that they were compiled from if there is one."""

    def __init__(self, profile: Profile | None, filters: tuple[Filter, ...]) -> None:
        self._profile = profile
        self._filters = filters
        rules = [one for one in profile.rules if _denies(one)] if profile else []
        self._places: dict[str, str] = {}
        """Where each call stands in the source: in the rule with conditions, if one has any."""
        self._conditional: set[str] = set()
        for rule in sorted(rules, key=lambda one: not one.conditions):
            for name, where in zip(rule.names, rule.named_at, strict=True):
                self._places.setdefault(name, f"{rule.where}.args" if rule.conditions else where)
                self._conditional.update([name] if rule.conditions else [])

    def _asked(self) -> Iterable[str]:
        """The calls that somebody meant to deny something of; of raw programs nobody knows."""
        native = x86_64.NUMBERS["x86_64"]
        return [one for one in self._places if one in native] if self._profile else native

    def _decide(self, abi: str, name: str, args: Args = _ANYTHING) -> Decision:
        return answer(self._filters, abi, name, args)

    # ---------------------------------------------------------------------------- upper halves

    def upper_halves(self) -> Iterator[Finding]:
        """Arguments of which a filter compares more than the kernel reads."""
        for name in self._asked():
            narrow = [n for n, kind in enumerate(KINDS.get(name, ())) if kind in NARROW]
            parts = (
                native_parts(self._filters, name)
                if narrow and self._looks_at_arguments(name)
                else ()
            )
            for index in narrow:
                shown = self._passes_wide(name, index, parts)
                if shown:
                    bits = 16 if KINDS[name][index] == "mode" else 32
                    message = (
                        f"argument {index} of {name} is compared with all its bits, of which the "
                        f"kernel reads {bits}: garbage above them gets through"
                    )
                    where = self._places.get(name, "")
                    yield Finding("upper-half-compared", message, where, shown)

    def _looks_at_arguments(self, name: str) -> bool:
        if self._profile:
            return name in self._conditional
        nr = x86_64.NUMBERS["x86_64"][name]
        starts = (one.prefix(x86_64.AUDIT_ARCH_X86_64, nr) for one in self._filters)
        return any(isinstance(start, State) for start in starts)

    def _passes_wide(self, name: str, index: int, parts: Iterable[Part]) -> str:
        """A call that is denied without the bits that the kernel drops, and passes with them."""
        is_mode = KINDS[name][index] == "mode"
        for part in parts:
            for garbage in (_WIDE, _WIDE_MODE) if is_mode else (_WIDE,):
                args = list(part.args)
                args[index] |= garbage
                if not part.allows and self._decide("x86_64", name, args).allows:
                    return self._shortest("x86_64", name, args)
        return ""

    def _shortest(self, abi: str, name: str, args: Sequence[int | None]) -> str:
        """The call with as few arguments as decide that it passes."""
        shown = list(args)
        for index in range(len(shown)):
            fewer = [*shown[:index], None, *shown[index + 1 :]]
            if self._decide(abi, name, fewer).allows:
                shown = fewer
        return written(abi, name, shown)

    # ---------------------------------------------------------------------------- other tables

    def other_tables(self) -> Iterator[Finding]:
        """Calls that are denied natively and pass through another table."""
        i386, x32 = list(self._through("i386")), list(self._through("x32"))
        for name, other in i386 if self._profile else i386[:1]:
            more = "" if self._profile else _more(i386)
            message = f"{name} is denied, but i386:{other} does the same and passes"
            message += self._by_number(other) + more
            shown = written("i386", other)
            yield Finding("i386-entry", message, self._places.get(name, ""), shown)
        for name, other in x32 if self._profile else x32[:1]:
            more = "" if self._profile else _more(x32)
            message = f"{name} is denied, but x32:{other} passes where the kernel has x32{more}"
            yield Finding("x32-entry", message, self._places.get(name, ""), written("x32", other))
        if not x32:
            yield from self._x32_allowed()

    def _through(self, abi: str) -> Iterator[tuple[str, str]]:
        """Calls that are denied whatever their arguments, with what passes in their place."""
        for name in self._asked():
            twins = [name, I386_NAMES.get(name, name)] if abi == "i386" else [name]
            native = self._decide("x86_64", name)
            if native.depends or native.allows:
                continue
            for twin in dict.fromkeys(twins):
                known = x86_64.number(abi, twin) is not None
                if known and self._decide(abi, twin).allows:
                    yield name, twin
                    break

    def _by_number(self, other: str) -> str:
        """What the number is natively, for a filter that does not look at the architecture."""
        looks = any(
            one.code == classic.LOAD_WORD and one.k == _ARCH_OFFSET
            for filter_ in self._filters
            for one in filter_.instructions
        )
        nr = x86_64.NUMBERS["i386"][other]
        meant = x86_64.name("x86_64", nr)
        return "" if looks else f": its number {nr} is judged as that of {meant or 'no call'}"

    def _x32_allowed(self) -> Iterator[Finding]:
        """An allow list that takes x32 in: a second way to all that it allows."""
        profile = self._profile
        if not profile or "SCMP_ARCH_X32" not in profile.architectures:
            return
        if self._decide("x86_64", "file_setattr").allows:  # a deny list: it is judged there too
            return
        named = (name for rule in profile.rules for name in rule.names)
        known = (name for name in named if x86_64.number("x32", name) is not None)
        shown = next((one for one in known if self._decide("x32", one).allows), "")
        if shown:
            place = profile.architectures_at("SCMP_ARCH_X32")
            message = "where the kernel has x32, what is allowed passes through it as well"
            yield Finding("x32-entry", f"{message}; else ENOSYS", place, written("x32", shown))

    # ----------------------------------------------------------------------------- multiplexers

    def hidden(self) -> Iterator[Finding]:
        """Calls with denied arguments, which a 32-bit multiplexer takes from memory."""
        for name in self._asked():
            call, number = _MULTIPLEXED.get(name, ("", 0))
            args = (int(number), *_ANYTHING[1:])
            if not call or self._decide("x86_64", name).allows:
                continue
            if self._decide("i386", call, args).allows:
                message = (
                    f"{name} may be denied, but i386:{call} does the same with its arguments where "
                    "no filter looks"
                )
                where = self._places.get(name, "")
                yield Finding("hidden-by-multiplexer", message, where, written("i386", call, args))


def _denies(rule: Rule) -> bool:
    """Whether a rule may keep a call out: by its action, or by what its conditions leave out."""
    return bool(rule.conditions) or rule.action not in LETS_THROUGH


def _more(found: Sequence[object]) -> str:
    return f" (and {len(found) - 1} more calls)" if len(found) > 1 else ""


# ------------------------------------------------------------------------------------ confirmation


class Shown:
    """The witnesses of a candidate's findings, looked for in what its trials did."""

    def __init__(self, filters: Sequence[Filter], witnesses: Iterable[str]) -> None:
        self._filters = filters
        self._wanted: dict[tuple[Abi, str], list[tuple[str, Decision]]] = {}
        for text in witnesses:
            call = _call(text)
            if call is not None:
                abi, name, args = call
                decision = answer(filters, abi.value, name, args)
                self._wanted.setdefault((abi, name), []).append((text, decision))

    def by(self, variant: Variant, answered: str | None) -> Iterator[str]:
        """The witnesses that a trial showed.

        ``answered`` is what its decisive call was answered; None if the variant got through.
        """
        for _, op in attack_ops(variant.program) if self._wanted else ():
            if not isinstance(op, Syscall) or (answered is not None and not op.decisive):
                continue
            for text, decision in self._wanted.get((op.abi, op.name), ()):
                said = None if decision.allows else predict.answer(decision)
                if said == answered and self._same_way(op, variant, decision):
                    yield text

    def _same_way(self, op: Syscall, variant: Variant, decision: Decision) -> bool:
        args = known_args(op, variant.program.layout())
        ran = predict.decide(op, args, self._filters)
        return not ran.depends and (ran.region, ran.ret_pc) == (decision.region, decision.ret_pc)


def _call(text: str) -> tuple[Abi, str, Args] | None:
    """A witness, which is what ``explain`` takes as well; natively unless it says otherwise."""
    question = parse_call(text) if text else None
    return (question.abis[0], question.name, question.args) if question else None
