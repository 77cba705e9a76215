"""Routes before a run: what filters can tell apart in a program, and which ones the library has."""

from __future__ import annotations

from collections.abc import Callable

from attacks.family import Assumption, FamilyInstance
from attacks.program import Program, Syscall, is_decisive
from evaluator.derived import rewritten
from evaluator.outcome import Terms, route
from evaluator.outline import attack_ops, outline
from evaluator.predict import is_known, predicted
from evaluator.search_moves import denied


def route_of(program: Program, said: str, terms: Terms) -> str:
    """What these filters can tell apart, what they say, and who answers what they ask."""
    supervised = outline(program).supervised
    asks = supervised and any(
        one.asks for one in denied(program, terms.filters, terms.syscall_insn)
    )
    by = _supervision(program) if asks else ""
    return f"{said} {route(program, None, terms)}{by}"


def foretold_route(program: Program, terms: Terms) -> str:
    """The same with what the filters are predicted to say."""
    return route_of(program, predicted(program, terms.filters, None, terms.syscall_insn), terms)


def library_routes(
    instance: FamilyInstance,
    terms: Terms,
    as_compared: Callable[[Program], Program] = lambda program: program,
) -> dict[str, str]:
    """The shortest variant that is recorded, or made by one rule, for each route.

    ``as_compared`` is applied to each program before its route is taken.
    """
    known = [
        one
        for one in (*instance.variants, *rewritten(instance))
        if is_known(one.program) and one.assumption is Assumption.NONE and not one.negative
    ]
    found: dict[str, str] = {}
    for one in sorted(known, key=lambda one: (len(one.program.flatten()), one.id)):
        found.setdefault(foretold_route(as_compared(one.program), terms), one.id)
    return found


def _supervision(program: Program) -> str:
    """By what a program is its own supervisor, and on which side."""
    by = {op.name for _, op in attack_ops(program) if isinstance(op, Syscall)}
    inside = not any(map(is_decisive, program.attack))
    return f" asking {' '.join(sorted(by & {'ptrace', 'seccomp'}))}{' for a child' * inside}"
