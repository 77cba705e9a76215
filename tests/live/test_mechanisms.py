"""For each mechanism a filter that lets it through, and stops what works in another way."""

import os
import time
from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from attacks import library
from attacks.family import Assumption, Need, Variant
from attacks.program import Abi, Syscall
from evaluator.derived import rewritten
from evaluator.enforcement import control_of
from evaluator.mechanisms import Mechanism, letting_through, mechanism
from evaluator.outline import attack_ops
from evaluator.pool import Pool
from evaluator.posture import posture
from evaluator.predict import predicted
from evaluator.share import arm_of
from evaluator.trial import grade, program_spec
from evaluator.wire import Filter, Result, call_number
from mitigations import bpf, x86_64

from engine import ALLOW, EPERM, instructions

FOREIGN = {Need.SHELL, Need.LOADER}
"""Whose calls are not in the program."""
FAMILIES = library.load_families()
JOBS = len(os.sched_getaffinity(0))


def own_way(variant: Variant) -> bool:
    """Whether all that a variant calls is in its program and under the filter."""
    return not (
        variant.negative
        or variant.assumption is not Assumption.NONE
        or variant.needs & FOREIGN
        or variant.beyond_seccomp
        or variant.core_file
    )


def distinct(variants: Iterable[Variant]) -> dict[Mechanism, Variant]:
    found: dict[Mechanism, Variant] = {}
    for variant in variants:
        if own_way(variant):
            found.setdefault(mechanism(variant), variant)
    return found


def reached(variant: Variant, result: Result | str) -> bool:
    return isinstance(result, Result) and grade(variant, result) is not None


def _denying(calls: Iterable[tuple[Abi, int]]) -> tuple[Filter, ...]:
    """Answers EPERM to each of these calls, and allows all others."""
    found: list[Filter] = []
    for abi, number in calls:
        i386 = abi is Abi.I386
        arch = x86_64.AUDIT_ARCH_I386 if i386 else x86_64.AUDIT_ARCH_X86_64
        denied = ((0x20, 0, 0, 4), (0x15, 0, 3, arch), (0x20, 0, 0, 0), (0x15, 0, 1, number))
        found.append(Filter(instructions(*denied, (6, 0, 0, EPERM), (6, 0, 0, ALLOW))))
    return tuple(found)


@pytest.mark.parametrize("name", FAMILIES)
def test_without_its_decisive_call_nothing_gets_there(name: str) -> None:
    """Nor does what a rewrite puts around it, so that a filter is judged by the right call."""
    instance = FAMILIES[name].default
    decisive = {
        variant: frozenset(
            (op.abi, call_number(op, x86_64.number))
            for _, op in attack_ops(variant.program)
            if isinstance(op, Syscall) and op.decisive
        )
        for variant in (*instance.variants, *rewritten(instance))
        if own_way(variant)
    }
    with Pool(JOBS) as pool:
        control = control_of(pool, posture("root"))
        arms = [
            arm_of(
                one, program_spec(one), replace(control, filters=_denying(calls)), control, 300_000
            )
            for one, calls in decisive.items()
            if calls
        ]
        results = pool.run(arms)
    tried = [one for one, calls in decisive.items() if calls]
    got_there = [one.id for one, r in zip(tried, results, strict=True) if reached(one, r)]
    assert got_there == []


@pytest.mark.parametrize("name", FAMILIES)
def test_a_filter_tells_each_mechanism_from_the_others(name: str) -> None:
    ways = distinct(FAMILIES[name].default.variants)
    with Pool(JOBS) as pool:
        control = control_of(pool, posture("root"))
        plain = pool.run(
            [arm_of(one, program_spec(one), control, control) for one in ways.values()]
        )
        works = {
            way: one
            for (way, one), result in zip(ways.items(), plain, strict=True)
            if reached(one, result)
        }
        arms = [
            arm_of(
                one,
                program_spec(one),
                replace(control, filters=(Filter(letting_through(way)),)),
                control,
            )
            for way, one in works.items()
        ]
        open_ = dict(zip(works.values(), arms, strict=True))
        for pause_s in (0.0, 0.2, 1.0):  # the kernel frees what queues cost in its own time
            time.sleep(pause_s if open_ else 0)
            results = zip(list(open_), pool.run(list(open_.values())), strict=True)
            open_ = {one: open_[one] for one, result in results if not reached(one, result)}
        assert [one.id for one in open_] == []
    for way, one in works.items():
        stopped = [bpf.Filter.decode(letting_through(way))]
        for other, sibling in works.items():
            if not other.needed <= way.calls:
                said = predicted(sibling.program, stopped, None, 0)
                assert said != "BYPASSED", f"{sibling.id} passes a filter for {one.id}"
