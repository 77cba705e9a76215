"""A rewrite makes another program of the same effect, or none; it never spoils one."""

import pytest

from attacks import library
from attacks.arguments import KINDS
from attacks.errors import AttackError
from attacks.family import Assumption, Variant
from attacks.program import Abi, Syscall, is_decisive
from attacks.replay import Made, replay
from attacks.rewrites import REWRITES, derive, derived
from attacks.text import program_text
from evaluator.predict import is_known
from evaluator.wire import ProgramSpec, encode_program
from mitigations import x86_64

RECORDED = [
    variant for family in library.load_families().values() for variant in family.default.variants
]


@pytest.mark.parametrize("variant", RECORDED, ids=lambda one: one.id)
def test_a_replay_that_changes_nothing_is_the_same_program(variant: Variant) -> None:
    def the_same(k, call: Made):  # type: ignore[no-untyped-def]
        return k.raw(call.name, *call.args) if call.decisive else None

    again = replay(variant.program, variant.effect, the_same)
    assert again is None or again.digest() == variant.program.digest()


@pytest.mark.parametrize("name", REWRITES)
def test_a_rewrite_has_a_reason_and_finds_something_to_do(name: str) -> None:
    rewrite = REWRITES[name]
    assert rewrite.why.endswith((".", ")."))
    found = [other for variant in RECORDED if (other := derive(variant, rewrite))]
    assert found
    for other in found:
        assert other.id == f"{other.parent}~{name}"
        assert other.assumption is rewrite.assumption
        assert [s for s, op in other.program.flatten() if is_decisive(op)] == ["attack"]
        if is_known(other.program):
            encode_program(0, ProgramSpec(other.program), x86_64.number)


def test_derived_variants_are_distinct_and_not_recorded_already() -> None:
    for family in library.load_families().values():
        recorded = family.default.variants
        others = list(derived(recorded))
        programs = [one.program.digest() for one in (*recorded, *others)]
        assert len(programs[len(recorded) :]) == len(set(programs) - set(programs[: len(recorded)]))
        assert len({one.id for one in others}) == len(others)


def test_what_rests_on_an_assumption_or_must_fail_is_not_rewritten() -> None:
    for variant in RECORDED:
        if variant.negative or variant.assumption is not Assumption.NONE:
            assert all(derive(variant, one) is None for one in REWRITES.values())


@pytest.mark.parametrize(
    ("identity", "decisive"),
    [
        ("create-directory/mkdir~at", 'mkdirat(AT_FDCWD, "d/t", 0755)'),
        ("create-directory/mkdir~i386", 'i386:mkdir("d/t", 0755)'),
        ("create-directory/mkdir~x32", 'x32:mkdir("d/t", 0755)'),
        ("create-directory/mkdir~wide-number", 'x86_64(wide-syscall):mkdir("d/t", 0755)'),
        ("create-directory/mkdir~proc-cwd", 'mkdir("/proc/self/cwd/d/t", 0755)'),
        ("create-directory/mkdirat~legacy", 'mkdir("d/t", 0755)'),
        ("create-directory/mkdirat~dirfd", 'mkdirat(r0, "t", 0755)'),
        ("change-mode/chmod~newest", 'fchmodat2(AT_FDCWD, "d/t", 0644, 0)'),
        ("append-file/pwrite64~vector", "pwritev(r0, &iovec, 1, 15, 0)"),
        ("create-directory/mkdir~at~i386", 'i386:mkdirat(AT_FDCWD, "d/t", 0755)'),
    ],
)
def test_what_a_rewrite_makes_of_a_call(identity: str, decisive: str) -> None:
    found = library.find_variant(identity)
    (line,) = [one for one in program_text(found.program) if one.decisive]
    assert line.text == decisive


def test_a_chain_needs_rules_that_apply() -> None:
    with pytest.raises(AttackError, match="did you mean 'i386'"):
        library.find_variant("create-directory/mkdir~i38")
    with pytest.raises(AttackError, match="does not apply"):
        library.find_variant("create-directory/mkdir~multiplexer")


def test_the_kinds_are_of_calls_that_exist_and_take_at_most_six() -> None:
    for name, kinds in KINDS.items():
        assert x86_64.number(Abi.X86_64, name) or x86_64.number(Abi.I386, name) or name == "read"
        assert len(kinds) <= 6
        assert set(kinds) <= {"fd", "int", "mode", "path", "ptr", "long"}


def test_every_call_of_the_library_has_its_kinds() -> None:
    made = {
        op.name
        for variant in RECORDED
        for _, op in variant.program.flatten()
        if isinstance(op, Syscall) and op.abi is Abi.X86_64
    }
    assert made <= KINDS.keys()


def test_a_rewritten_call_still_says_what_it_asks_of_a_ring() -> None:
    for name in ("wide", "wide-number"):
        variant = library.find_variant(f"create-directory/io-uring-mkdirat~{name}")
        assert "IORING_OP_MKDIRAT" in [
            op.opcode for _, op in variant.program.flatten() if isinstance(op, Syscall)
        ]


def test_what_a_program_executes_is_made_once_in_a_chain_of_rewrites() -> None:
    mkdir = library.find_variant("create-directory/mkdir")
    executed = derive(mkdir, REWRITES["exec"])
    assert executed is not None
    again = derive(executed, REWRITES["wide"])
    assert again is not None
    assert again.objects == executed.objects
