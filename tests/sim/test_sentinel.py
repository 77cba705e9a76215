"""The sentinel answers for every guarded call on every ABI, unless the candidate is stricter."""

import pytest

from attacks.effects import EffectKind
from attacks.library import load_families
from attacks.program import Abi, Const, Syscall, is_decisive
from evaluator.sentinel import GUARDED, SENTINEL_ERRNO, sentinel
from mitigations import x86_64
from mitigations.bpf import Filter, decide_stack
from mitigations.classic import RETURN_K, Action, Instruction

ARCHES = {
    Abi.X86_64: x86_64.AUDIT_ARCH_X86_64,
    Abi.I386: x86_64.AUDIT_ARCH_I386,
    Abi.X32: x86_64.AUDIT_ARCH_X86_64,
}
CALLS = [(abi, name) for abi in Abi for name in GUARDED if name in x86_64.NUMBERS[abi]]
SENTINEL = Filter.decode(sentinel().program)
HELD, ALLOW = Action.ERRNO | SENTINEL_ERRNO, int(Action.ALLOW)
EPERM, EACCES = 1, 13
ANYTHING = [None] * 6
REACHABILITY = [family for family in load_families().values() if family.reachability]
VARIANTS = [variant for family in REACHABILITY for variant in family.default.variants]


def answers(abi: Abi, name: str, *filters: Filter, first: int | None = None) -> set[int | None]:
    """What the filters, oldest first, may return for a call; only ``first`` may be known of it."""
    number = x86_64.NUMBERS[abi][name]
    return set(decide_stack(filters, ARCHES[abi], number, [first, *ANYTHING[1:]]).possible)


def always(value: int) -> Filter:
    """A candidate with one answer for every call."""
    return Filter([Instruction(RETURN_K, 0, 0, value)])


@pytest.mark.parametrize(("abi", "name"), CALLS)
def test_a_guarded_call_is_held(abi: Abi, name: str) -> None:
    assert answers(abi, name, SENTINEL) == {HELD}


@pytest.mark.parametrize("name", GUARDED)
def test_every_guarded_name_is_a_call(name: str) -> None:
    assert any(name in table for table in x86_64.NUMBERS.values())


@pytest.mark.parametrize("abi", Abi)
def test_all_other_calls_are_allowed(abi: Abi) -> None:
    others = sorted(set(x86_64.NUMBERS[abi]) - {*GUARDED, "ioctl"})
    found = {name: answers(abi, name, SENTINEL) for name in others}
    assert found == {name: {int(Action.ALLOW)} for name in others}


@pytest.mark.parametrize("abi", Abi)
@pytest.mark.parametrize(
    ("fd", "answer"), [(0xFFFFFFFF, HELD), (-1 & (1 << 64) - 1, HELD), (0, ALLOW), (3, ALLOW)]
)
def test_an_ioctl_is_held_if_it_is_of_no_descriptor(abi: Abi, fd: int, answer: int) -> None:
    assert answers(abi, "ioctl", SENTINEL, first=fd) == {answer}


@pytest.mark.parametrize("number", [-1, 0x3FFFFFFF, 0x7FFFFFFF])
@pytest.mark.parametrize("arch", sorted({*ARCHES.values(), 0xC00000B7}))
def test_what_is_no_call_is_allowed(arch: int, number: int) -> None:
    assert decide_stack([SENTINEL], arch, number, ANYTHING).action is Action.ALLOW


@pytest.mark.parametrize(
    "value",
    [
        Action.ERRNO | EPERM,
        Action.ERRNO | EACCES,
        int(Action.ERRNO),
        int(Action.TRAP),
        int(Action.KILL_THREAD),
        int(Action.KILL_PROCESS),
    ],
    ids=["EPERM", "EACCES", "errno-0", "trap", "kill-thread", "kill-process"],
)
@pytest.mark.parametrize(("abi", "name"), CALLS)
def test_a_candidates_denial_outranks_it(abi: Abi, name: str, value: int) -> None:
    assert answers(abi, name, SENTINEL, always(value)) == {value}


@pytest.mark.parametrize(
    "action", [Action.ALLOW, Action.LOG, Action.TRACE, Action.USER_NOTIF], ids=lambda a: a.name
)
@pytest.mark.parametrize(("abi", "name"), CALLS)
def test_what_does_not_deny_is_outranked(abi: Abi, name: str, action: Action) -> None:
    assert answers(abi, name, SENTINEL, always(action)) == {HELD}


def test_there_are_reachability_families() -> None:
    assert {"restart-machine", "load-kernel-module", "set-clock"} <= {f.name for f in REACHABILITY}


@pytest.mark.parametrize("family", REACHABILITY, ids=lambda f: f.name)
def test_reachability_is_the_effect_of_such_a_family(family) -> None:
    assert family.default.effect.kind is EffectKind.REACHED


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.id)
def test_what_decides_about_reachability_never_runs(variant) -> None:
    """A control must be left alone by the sentinel; it may then run, so it has to be harmless."""
    (decisive,) = [op for _, op in variant.program.flatten() if is_decisive(op)]
    assert isinstance(decisive, Syscall)
    expected = Action.ALLOW if variant.negative else HELD
    first = decisive.args[0] if decisive.args else None
    known = first.value if isinstance(first, Const) else None
    assert answers(decisive.abi, decisive.name, SENTINEL, first=known) == {int(expected)}
    assert (decisive.name in {*GUARDED, "ioctl"}) is not variant.negative


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.id)
def test_nothing_guarded_is_called_on_the_way(variant) -> None:
    calls = [op for _, op in variant.program.flatten() if isinstance(op, Syscall)]
    assert not [op.name for op in calls if op.name in GUARDED and not op.decisive]


def test_only_reachability_families_make_guarded_calls() -> None:
    """Without the sentinel such a call would run."""
    found = [
        f"{variant.id}: {op.name}"
        for family in load_families().values()
        if not family.reachability
        for variant in family.default.variants
        for _, op in variant.program.flatten()
        if isinstance(op, Syscall) and op.name in GUARDED
    ]
    assert not found
