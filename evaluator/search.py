"""A search for a way to one family's effect that the filters let through, best first.

It begins with the baseline and, unless told otherwise, with all that is recorded.  A program that
the filters are seen to stop is not run: it is changed where it is stopped (``search_moves``).  What
looks open is run, and only two runs decide: the effect is there without the candidate and under it.
Of two programs on one route these filters tell nothing apart, so one of them is enough.
"""

from __future__ import annotations

import heapq
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from msgspec import Struct, field
from msgspec.structs import replace

from attacks.effects import Grade
from attacks.family import Assumption, FamilyInstance, Technique, Variant
from attacks.jsonform import ProgramError, dumps, loads
from attacks.program import Program, Syscall, is_decisive
from attacks.text import program_text
from evaluator.derived import rewritten
from evaluator.foreign import variant_of
from evaluator.outcome import Terms, route
from evaluator.outline import attack_ops, outline
from evaluator.predict import is_known, predicted
from evaluator.search_moves import Denied, Move, denied, moves, named
from evaluator.search_records import Ended, Find, Limits, Searched, SearchVerdict, Step, Tried
from evaluator.search_shorten import shortened
from evaluator.verdict import UNSETTLED, Outcome

Runner = Callable[[Sequence[Variant]], Sequence[Tried]]
"""Runs programs in both arms."""
_BATCH = 16
_PATIENCE = 48
"""So many programs are changed before a batch that is not full is run."""
_ALIKE = 3
"""Programs of one blocked route that are changed, beside those that a search begins with; and so
many of one open route are run where another layer stops them."""
_DEEPEST = 5
"""Moves in a row."""
_ENOUGH = 12
"""Open routes: whoever closes these will search again."""
_AFTER = 200
"""So many programs are built after the first find, and as many as before it."""


class _Node(Struct, frozen=True):
    """A program on the way: what it began with, and the moves since."""

    root: Variant
    variant: Variant
    moves: tuple[Move, ...]
    said: str
    route: str
    """What these filters can tell apart, what they say, and who answers what they ask."""

    @property
    def length(self) -> int:
        return len(self.variant.program.flatten())

    @property
    def technique(self) -> Technique:
        """Why it may get through: the last move's reason, else that of what it began with."""
        return self.moves[-1].technique if self.moves else self.root.technique


class _Queue(Struct):
    """What is to be looked at: first what looks open, of that what is short."""

    dice: random.Random
    heap: list[tuple[tuple[float, ...], _Node]] = field(
        default_factory=list[tuple[tuple[float, ...], _Node]]
    )
    count: int = 0

    def add(self, node: _Node, stopped: int) -> None:
        """``stopped``: how many of its calls are."""
        steps = len(node.moves)
        rank = (1, steps + stopped, steps)
        if node.said != "BLOCKED":
            rank = (0, node.said != "BYPASSED", node.length)
        self.count += 1
        heapq.heappush(self.heap, ((*rank, self.dice.random(), self.count), node))

    def next(self) -> _Node | None:
        return heapq.heappop(self.heap)[1] if self.heap else None


class Search:
    """The search in one family; ``go`` does it, and ``result`` tells at any time how far it is."""

    def __init__(
        self,
        instance: FamilyInstance,
        terms: Terms,
        limits: Limits,
        run: Runner,
        run_quickly: Runner,
        on_step: Callable[[int, int], None] = lambda _built, _run: None,
    ) -> None:
        """``limits.seconds`` are for this family; ``on_step`` hears how many were built and run.

        ``run_quickly`` is for programs of which most will not work: nobody waits long for them.
        """
        self._instance = instance
        self._terms = terms
        self._limits = limits
        self._run = run
        self._run_quickly = run_quickly
        self._on_step = on_step
        self._begun = time.monotonic()
        # Not for secrets: the same seed must give the same order.
        self._queue = _Queue(random.Random(f"{limits.seed} {instance.label}"))  # noqa: S311
        self._seen: set[int] = set()
        self._names: dict[str, list[int]] = {}
        self._routes: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        """How many programs of a route were run."""
        self._batch: dict[str, _Node] = {}
        self._waiting: dict[str, deque[_Node]] = {}
        self._tried: dict[str, Tried] = {}
        self._ran = 0
        self._settled: dict[str, Tried] = {}
        self._open: list[_Node] = []
        self._built_before = sys.maxsize
        """The first find."""
        self._finds: list[_Node] = []
        self._baseline = ""
        self._ended = Ended.NOT_BEGUN
        self._seconds: float | None = None

    # ------------------------------------------------------------------------------ the search

    def go(self) -> None:
        """Searches until a limit is reached, or nothing is left."""
        try:
            self._ended = self._look()
            self._finds = self._shortest()
            short = sorted(map(self._shortened, self._finds), key=_by_length)
            # Less what they did not need, some may be on one route.
            self._finds = list({one.route: one for one in reversed(short)}.values())[::-1]
        except KeyboardInterrupt:
            self._ended = Ended.INTERRUPTED
            raise
        finally:
            self._seconds = time.monotonic() - self._begun

    def _look(self) -> Ended:
        if self._baseline_passes():
            return Ended.NO_NEED
        if not self._limits.baseline_only:
            self._begin_with_all()
        changed = 0
        while True:
            over = self._over()
            node = None if over else self._queue.next()
            if node is None or changed >= _PATIENCE or len(self._batch) >= _BATCH:
                changed = 0
                self._flush()
            if node is None:
                if over or not self._queue.heap:
                    return over or Ended.EXHAUSTED
            elif node.said != "BLOCKED":
                self._consider(node)
            else:
                changed += 1
                self._expand(node, self._denied(node.variant.program))

    def _baseline_passes(self) -> bool:
        """Whether nobody need search: what everybody knows works."""
        recorded = self._instance.baseline
        first = self._node(recorded, recorded.program, ())
        assert first is not None
        (tried,) = self._ask([first])
        self._baseline = tried.outcome
        if tried.exact:
            return True
        self._routes[first.route] += 1
        self._settled[first.route] = tried
        self._expand(first, self._denied(first.variant.program))
        return False

    def _begin_with_all(self) -> None:
        """Puts all that is recorded into the queue."""
        roots = [self._node(root, root.program, ()) for root in self._roots()]
        for node in roots:
            self._add(node)
        if (
            self._baseline != Outcome.BLOCKED
        ):  # does any of them work here, for the filters to stop?
            stopped = [one for one in roots if one is not None and one.said == "BLOCKED"]
            self._ask(stopped[:_BATCH])

    def _over(self) -> Ended | None:
        limits = self._limits
        built = len(self._seen)
        if len(self._open) >= _ENOUGH or built > 2 * self._built_before + _AFTER:
            return Ended.ENOUGH
        if limits.programs is not None and built >= limits.programs:
            return Ended.PROGRAMS
        late = limits.seconds is not None and time.monotonic() - self._begun >= limits.seconds
        return Ended.SECONDS if late else None

    def _roots(self) -> Iterator[Variant]:
        """What is recorded beside the baseline, and can be replayed from a file if that can."""
        replayed = is_replayable(self._instance.baseline.program)
        for one in self._instance.variants:
            counts = not one.negative and one.assumption is Assumption.NONE
            in_scope = not (one.beyond_seccomp and self._terms.seccomp_only)
            exact = one.grade is Grade.EXACT and in_scope
            kept = is_replayable(one.program) or not replayed
            if counts and exact and kept and is_known(one.program):
                yield one

    def _expand(self, node: _Node, stopped: Sequence[Denied]) -> None:
        """Adds all that one move makes of a program that is stopped."""
        if len(node.moves) >= _DEEPEST:
            return
        for move in moves(node.variant, stopped, self._terms.filters):
            if self._over() is Ended.PROGRAMS:
                return
            program = move.apply(node.variant)
            if program is not None and is_known(program):
                self._add(self._node(node.root, program, (*node.moves, move)))

    def _node(self, root: Variant, program: Program, made_by: tuple[Move, ...]) -> _Node | None:
        """A program that was not there before, judged; None if it was."""
        key = hash(program)
        if key in self._seen:
            return None
        self._seen.add(key)
        self._on_step(len(self._seen), self._ran)
        return self._judged(root, program, made_by)

    def _judged(self, root: Variant, program: Program, made_by: tuple[Move, ...]) -> _Node:
        name = "~".join((root.name, *(one.name for one in made_by)))
        variant = self._variant(root, program, name)
        said = predicted(program, self._terms.filters, None, self._terms.syscall_insn)
        return _Node(root, variant, made_by, said, self._route(program, said))

    def _route(self, program: Program, said: str) -> str:
        asks = outline(program).supervised and any(one.asks for one in self._denied(program))
        by = _supervision(program) if asks else ""
        return f"{said} {route(program, None, self._terms)}{by}"

    def _variant(self, root: Variant, program: Program, name: str) -> Variant:
        """A program under a name that no other has."""
        key, taken = hash(program), self._names.setdefault(name, [])
        if key not in taken:
            taken.append(key)
        number = taken.index(key) + 1
        own = f"{name}.{number}" if number > 1 else name
        return replace(variant_of(program, self._instance, own), parent=root.id)

    def _add(self, node: _Node | None) -> None:
        """Puts a program into the queue, unless enough of its kind were there."""
        if node is None:
            return
        self._routes[node.route] += 1
        if node.said != "BLOCKED":
            self._queue.add(node, 0)
        elif not node.moves or self._routes[node.route] <= _ALIKE:
            self._queue.add(node, len(self._denied(node.variant.program)))

    def _denied(self, program: Program) -> list[Denied]:
        return denied(program, self._terms.filters, self._terms.syscall_insn)

    # ------------------------------------------------------------------------------ running

    def _consider(self, node: _Node) -> None:
        """Has a program run that looks open, unless that is known of its route."""
        if node.route in self._settled:
            return
        if node.route in self._batch:
            self._waiting.setdefault(node.route, deque()).append(node)
        else:
            self._batch[node.route] = node

    def _flush(self) -> None:
        """Runs what has come together."""
        nodes = list(self._batch.values())
        self._batch.clear()
        for node, tried in zip(nodes, self._ask(nodes), strict=True):
            self._learn(node, tried)

    def _learn(self, node: _Node, tried: Tried) -> None:
        self._told[node.route] += 1
        another = not self._terms.seccomp_only and self._told[node.route] < _ALIKE
        if not tried.exact and another and self._waiting.get(node.route):
            # Another layer may tell apart what the filters do not.
            self._queue.add(self._waiting[node.route].popleft(), 0)
        elif tried.outcome != Outcome.UNSUPPORTED or tried.untestable:
            self._settled[node.route] = tried
        elif self._waiting.get(node.route):  # this one is no way to the effect, the next may be
            self._queue.add(self._waiting[node.route].popleft(), 0)
        if tried.exact:
            self._built_before = min(self._built_before, len(self._seen))
            self._open.append(node)
        elif tried.stopped:
            filters, insn = self._terms.filters, self._terms.syscall_insn
            self._expand(node, named(node.variant.program, tried.stopped, filters, insn))

    def _ask(self, nodes: Sequence[_Node], run: Runner | None = None) -> Sequence[Tried]:
        if not nodes:
            return ()
        found = (run or self._run)([node.variant for node in nodes])
        self._ran += len(nodes)
        self._tried.update((node.variant.id, one) for node, one in zip(nodes, found, strict=True))
        self._on_step(len(self._seen), self._ran)
        return found

    # ------------------------------------------------------------------------------ finds

    def _shortest(self) -> list[_Node]:
        """The shortest of each technique, and of those that the library lacks."""
        found: dict[tuple[Technique, bool], _Node] = {}
        for node in sorted(self._open, key=_by_length):
            found.setdefault((node.technique, node.route in self._library), node)
        return list(found.values())

    def _shortened(self, node: _Node) -> _Node:
        """The same less the moves and operations that it works without."""
        best = self._with_fewer_moves(node)

        def works(programs: Sequence[Program]) -> list[bool]:
            name = best.variant.name
            others = [self._variant(best.root, one, f"{name}-shorter") for one in programs]
            nodes = [replace(best, variant=other) for other in others]
            tried = self._ask(nodes, self._run_quickly)
            return [one.exact for one in tried]

        program = shortened(best.variant.program, works)
        short = replace(variant_of(program, self._instance, best.variant.name), parent=best.root.id)
        return replace(best, variant=short, route=self._route(program, best.said))

    def _with_fewer_moves(self, node: _Node) -> _Node:
        for place in range(len(node.moves)):
            fewer = (*node.moves[:place], *node.moves[place + 1 :])
            program = self._made(node.root, fewer)
            if program is None or program == node.variant.program:
                continue
            other = self._judged(node.root, program, fewer)
            if other.said != "BLOCKED" and self._ask([other])[0].exact:
                return self._with_fewer_moves(other)
        return node

    def _made(self, root: Variant, made_by: Sequence[Move]) -> Program | None:
        """What moves make of a variant; None where one does not apply any more."""
        program = root.program
        for move in made_by:
            other = move.apply(variant_of(program, self._instance, root.name))
            if other is None or not is_known(other):
                return None
            program = other
        return program

    # ------------------------------------------------------------------------------ the result

    def result(self) -> Searched:
        """What was found until now, or what was spent on finding nothing."""
        finds = self._finds or self._shortest()
        unsettled = [
            (name, one) for name, one in self._tried.items() if self._is_unsettled(name, one)
        ]
        begun = time.monotonic() - self._begun
        return Searched(
            family=self._instance.label,
            title=self._instance.family.title,
            baseline=self._baseline,
            verdict=self._verdict(bool(finds), bool(unsettled)),
            finds=tuple(_find(one, self._library) for one in finds),
            ways=len({one.route for one in self._open}),
            built=len(self._seen),
            run=self._ran,
            routes=len(self._routes),
            untestable=sum(one.untestable for one in self._settled.values()),
            unsettled=tuple(f"{name}: {one.outcome} ({one.reason})" for name, one in unsettled),
            disagreements=sum(one.outcome == Outcome.DISAGREEMENT for _, one in unsettled),
            seconds=round(begun if self._seconds is None else self._seconds, 3),
            ended=self._ended,
        )

    def _is_unsettled(self, name: str, tried: Tried) -> bool:
        """What came of an attempt to shorten something proves nothing, and need not."""
        return tried.outcome in UNSETTLED and "-shorter" not in name

    def _verdict(self, found: bool, unsettled: bool) -> SearchVerdict:
        if self._ended is Ended.NO_NEED:
            return SearchVerdict.OPEN
        if found:
            return SearchVerdict.FOUND
        if unsettled:
            return SearchVerdict.UNDECIDED
        stopped = any(one.outcome == Outcome.BLOCKED for one in self._tried.values())
        return SearchVerdict.HELD if stopped else SearchVerdict.UNTESTED

    @cached_property
    def _library(self) -> dict[str, str]:
        """The shortest variant that is recorded, or made by one rule, for each route."""
        known = [
            one
            for one in (*self._instance.variants, *rewritten(self._instance))
            if is_known(one.program) and one.assumption is Assumption.NONE and not one.negative
        ]
        found: dict[str, str] = {}
        for one in sorted(known, key=lambda one: (len(one.program.flatten()), one.id)):
            found.setdefault(self._judged(one, one.program, ()).route, one.id)
        return found


def _by_length(node: _Node) -> tuple[int, int, str]:
    return node.length, len(node.moves), node.variant.id


def _supervision(program: Program) -> str:
    """By what a program is its own supervisor, and on which side."""
    by = {op.name for _, op in attack_ops(program) if isinstance(op, Syscall)}
    inside = not any(map(is_decisive, program.attack))
    return f" asking {' '.join(sorted(by & {'ptrace', 'seccomp'}))}{' for a child' * inside}"


def is_replayable(program: Program) -> bool:
    """Whether ``attacks run`` takes it: it names nothing outside the sandbox's own directory."""
    try:
        loads(dumps(program))
    except ProgramError:
        return False
    return True


def _find(node: _Node, library: dict[str, str]) -> Find:
    program = node.variant.program
    return Find(
        id=node.variant.id,
        technique=node.technique,
        steps=tuple(Step(one.name, one.technique, one.why) for one in node.moves),
        known=library.get(node.route, ""),
        route=node.route,
        operations=node.length,
        digest=program.digest(),
        text=tuple(str(line) for line in program_text(program)),
        program=program,
    )
