import struct
import time
from collections.abc import Sequence

import pytest

from mitigations.bpf import Action, Decision, Filter, FilterError, decide_stack, disassemble
from mitigations.classic import MAX_INSTRUCTIONS, answer_text
from mitigations.x86_64 import AUDIT_ARCH_I386, AUDIT_ARCH_X86_64

LD_NR, LD_ARCH, LD_IP = (0x20, 0, 0, 0), (0x20, 0, 0, 4), (0x20, 0, 0, 8)
LD_ARG0, LD_ARG0_HIGH = (0x20, 0, 0, 16), (0x20, 0, 0, 20)
ALLOW, KILL, EPERM = (6, 0, 0, 0x7FFF0000), (6, 0, 0, 0), (6, 0, 0, 0x50001)
RET_A, TAX, TXA = (0x16, 0, 0, 0), (0x07, 0, 0, 0), (0x87, 0, 0, 0)
Line = tuple[int, int, int, int]


def program(*lines: Line) -> bytes:
    return b"".join(struct.pack("<HBBI", *line) for line in lines)


def build(*lines: Line) -> Filter:
    return Filter.decode(program(*lines))


def decide(filter_: Filter, *args: int | None, nr: int = 1, ip: int | None = 0) -> Decision:
    return filter_.decide(AUDIT_ARCH_X86_64, nr, args, ip)


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ((), "empty"),
        (((0, 0, 0, 0),) * MAX_INSTRUCTIONS + (ALLOW,), "too-long"),
        (((0xFFFF, 0, 0, 0), ALLOW), "unknown-opcode"),
        (((0x28, 0, 0, 0), ALLOW), "opcode-not-allowed"),  # half-word load
        (((0x40, 0, 0, 0), ALLOW), "opcode-not-allowed"),  # indirect load
        (((0x94, 0, 0, 3), ALLOW), "opcode-not-allowed"),  # modulo
        (((0x34, 0, 0, 0), ALLOW), "division-by-zero"),
        (((0x64, 0, 0, 32), ALLOW), "shift-too-large"),
        (((0x74, 0, 0, 99), ALLOW), "shift-too-large"),
        (((0x05, 0, 0, 1), ALLOW), "jump-out-of-range"),
        (((0x05, 0, 0, 0xFFFFFFFF), ALLOW), "jump-out-of-range"),
        (((0x15, 1, 0, 0), ALLOW), "jump-out-of-range"),
        (((0x15, 0, 1, 0), ALLOW), "jump-out-of-range"),
        ((ALLOW, LD_NR), "no-return"),
        (((0x02, 0, 0, 16), ALLOW), "scratch-out-of-range"),
        (((0x60, 0, 0, 0), ALLOW), "uninitialised-scratch"),
        (((0x20, 0, 0, 64), ALLOW), "load-out-of-range"),
        (((0x20, 0, 0, 3), ALLOW), "load-unaligned"),
    ],
)
def test_what_the_kernel_refuses_is_refused_by_name(lines: Sequence[Line], code: str) -> None:
    with pytest.raises(FilterError) as caught:
        build(*lines)
    assert caught.value.code == code


def test_program_that_ends_amid_an_instruction_is_refused() -> None:
    with pytest.raises(FilterError) as caught:
        Filter.decode(program(ALLOW)[:-1])
    assert caught.value.code == "truncated"


def test_scratch_must_be_stored_on_every_path() -> None:
    load = (0x60, 0, 0, 5)
    stored = (0x02, 0, 0, 5)
    build(stored, (0x15, 0, 1, 7), LD_NR, load, ALLOW)
    with pytest.raises(FilterError, match="never stored"):
        build((0x15, 0, 1, 7), stored, load, ALLOW)


def test_largest_program_is_accepted() -> None:
    assert len(build(*((0, 0, 0, 0),) * (MAX_INSTRUCTIONS - 1), ALLOW)) == MAX_INSTRUCTIONS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0x7FFF0000, "ALLOW"),
        (0x7FFC0000, "LOG"),
        (0x50001, "ERRNO(EPERM)"),
        (0x50000, "ERRNO(0)"),
        (0x5FFFF, "ERRNO(4095)"),
        (0x7FF00000, "TRACE"),
        (0x7FF00007, "TRACE(7)"),
        (0x80000000, "KILL_PROCESS"),
        (0x00000005, "KILL_THREAD"),
        (0x00030000, "TRAP"),
        (0x7FC00000, "USER_NOTIF"),
        (0x12340000, "KILL_PROCESS"),
    ],
)
def test_answer_text(value: int, text: str) -> None:
    assert answer_text(value) == text
    assert decide(build((6, 0, 0, value))).text == text


@pytest.mark.parametrize(
    ("lines", "result"),
    [
        (((0x00, 0, 0, 7), (0x04, 0, 0, 0xFFFFFFFF), RET_A), 6),  # add wraps
        (((0x00, 0, 0, 7), (0x14, 0, 0, 8), RET_A), 0xFFFFFFFF),  # sub wraps
        (((0x00, 0, 0, 0x10001), (0x24, 0, 0, 0x10001), RET_A), 0x20001),  # mul wraps
        (((0x00, 0, 0, 7), (0x34, 0, 0, 2), RET_A), 3),
        (((0x00, 0, 0, 5), (0x44, 0, 0, 2), RET_A), 7),
        (((0x00, 0, 0, 7), (0x54, 0, 0, 5), RET_A), 5),
        (((0x00, 0, 0, 1), (0x64, 0, 0, 31), RET_A), 0x80000000),
        (((0x00, 0, 0, 8), (0x74, 0, 0, 2), RET_A), 2),
        (((0x00, 0, 0, 7), (0xA4, 0, 0, 5), RET_A), 2),
        (((0x00, 0, 0, 1), (0x84, 0, 0, 0), RET_A), 0xFFFFFFFF),  # neg
        (((0x00, 0, 0, 1), (0x01, 0, 0, 33), (0x6C, 0, 0, 0), RET_A), 2),  # shift by X mod 32
        (((0x00, 0, 0, 9), (0x01, 0, 0, 0), (0x3C, 0, 0, 0), ALLOW), 0),  # division by X = 0
        (((0x00, 0, 0, 9), (0x02, 0, 0, 3), (0x61, 0, 0, 3), (0, 0, 0, 0), TXA, RET_A), 9),
        (((0x01, 0, 0, 4), (0x03, 0, 0, 3), (0x60, 0, 0, 3), RET_A), 4),
        (((0x00, 0, 0, 4), TAX, (0x00, 0, 0, 0), TXA, RET_A), 4),
        (((0x80, 0, 0, 0), RET_A), 64),
        (((0x81, 0, 0, 0), TXA, RET_A), 64),
        ((RET_A,), 0),
    ],
)
def test_arithmetic_is_that_of_the_kernel(lines: Sequence[Line], result: int) -> None:
    assert decide(build(*lines)).possible == {result}


@pytest.mark.parametrize(
    ("test", "operand", "value", "taken"),
    [
        (0x15, 5, 5, True),
        (0x15, 5, 6, False),
        (0x25, 5, 6, True),
        (0x25, 5, 5, False),
        (0x35, 5, 5, True),
        (0x35, 5, 4, False),
        (0x45, 6, 4, True),
        (0x45, 6, 8, False),
        (0x25, 0x7FFFFFFF, 0xFFFFFFFF, True),  # unsigned
    ],
)
def test_jumps_compare_unsigned(test: int, operand: int, value: int, taken: bool) -> None:
    constant = build(LD_ARG0, (test, 0, 1, operand), ALLOW, KILL)
    register = build((0x01, 0, 0, operand), LD_ARG0, (test | 8, 0, 1, 0), ALLOW, KILL)
    assert decide(constant, value).allows is taken
    assert decide(register, value).allows is taken
    assert decide(constant, value).region == ((1, taken),)
    assert decide(register, value).region == ((2, taken),)


def test_jump_on_nr_or_arch_is_not_of_the_region() -> None:
    both = build(LD_ARCH, (0x15, 0, 1, AUDIT_ARCH_X86_64), LD_NR, (0x15, 0, 1, 1), ALLOW, KILL)
    assert decide(both).region == ()


def test_instruction_pointer_is_of_the_region() -> None:
    assert decide(build(LD_IP, (0x15, 0, 1, 9), ALLOW, KILL), ip=9).region == ((1, True),)


def test_upper_half_of_an_argument_is_a_word_of_its_own() -> None:
    high = build(LD_ARG0_HIGH, (0x15, 0, 1, 7), ALLOW, KILL)
    assert decide(high, 7 << 32).allows
    assert not decide(high, 7).allows
    assert decide(high, -1).region == ((1, False),)


def test_unknown_word_decides_only_where_the_outcome_hangs_on_it() -> None:
    hangs = build(LD_ARG0, (0x15, 0, 1, 7), ALLOW, EPERM)
    same = build(LD_ARG0, (0x15, 0, 1, 7), EPERM, EPERM)
    decision = decide(hangs, None)
    assert decision.depends
    assert decision.action is None
    assert decision.text == "DEPENDS(ALLOW or ERRNO(EPERM))"
    assert not decision.allows
    assert decide(same, None).text == "ERRNO(EPERM)"
    assert decide(hangs, 7, None).allows


def test_same_action_with_other_data_depends() -> None:
    assert decide(build(LD_ARG0, (0x15, 0, 1, 7), EPERM, (6, 0, 0, 0x50002)), None).depends


def test_unknown_word_that_is_returned_may_be_anything() -> None:
    assert decide(build(LD_ARG0, RET_A), None).text == "DEPENDS"
    divided = build(
        (0x00, 0, 0, 9), (0x02, 0, 0, 0), LD_ARG0, TAX, (0x60, 0, 0, 0), (0x3C, 0, 0, 0), ALLOW
    )
    assert decide(divided, None).depends
    assert decide(divided, 3).allows
    assert decide(divided, 0).action is Action.KILL_THREAD


def test_filter_made_to_explode_ends_soon() -> None:
    """Each round doubles the values that scratch word 0 may hold."""
    lines: tuple[Line, ...] = ((0x02, 0, 0, 0),)
    for _ in range(200):
        add_or_not = ((0x45, 1, 0, 1), (0x00, 0, 0, 1), (0x45, 0, 1, 2), (0x00, 0, 0, 2))
        mix = ((0x61, 0, 0, 0), (0x0C, 0, 0, 0), (0x24, 0, 0, 3), (0x02, 0, 0, 0))
        lines += (LD_ARG0, *add_or_not, *mix)
    started = time.monotonic()
    assert decide(build(*lines, RET_A), None).text == "DEPENDS"
    assert time.monotonic() - started < 5


def test_path_lists_the_instructions_that_ran() -> None:
    decision = build(LD_ARG0, (0x15, 0, 1, 7), ALLOW, KILL).decide(1, 1, [8], with_path=True)
    assert decision.path == (0, 1, 3)
    assert decision.ret_pc == 3


def stack(*filters: Filter, nr: int = 1, arg: int | None = 0) -> Decision:
    return decide_stack(filters, AUDIT_ARCH_X86_64, nr, [arg] * 6)


@pytest.mark.parametrize(
    ("oldest_first", "value"),
    [
        ((0x7FFF0000, 0x50001), 0x50001),
        ((0x50001, 0x7FFF0000), 0x50001),
        ((0x50001, 0x50002), 0x50002),  # a tie: the newest is asked first
        ((0, 0x80000000), 0x80000000),  # signed: the process before the thread
        ((0x80000000, 0), 0x80000000),
        ((0x7FF00000, 0x7FC00000), 0x7FC00000),
        ((0x00030000, 0x00050001), 0x00030000),
        ((0x7FFC0000, 0x7FF00003), 0x7FF00003),
        ((0x7FFF0005, 0x7FFF0007), 0x7FFF0000),  # the kernel begins with a plain ALLOW
    ],
)
def test_stack_combines_as_the_kernel(oldest_first: tuple[int, ...], value: int) -> None:
    assert stack(*(build((6, 0, 0, each)) for each in oldest_first)).possible == {value}


def test_stack_says_which_filter_decided() -> None:
    tested = build(LD_ARG0, (0x15, 0, 1, 0), EPERM, ALLOW)
    decision = stack(build(ALLOW), tested)
    assert decision.ret_pc == MAX_INSTRUCTIONS + 2
    assert decision.region == ((MAX_INSTRUCTIONS + 1, True),)


def test_stack_is_decided_where_the_unknown_cannot_matter() -> None:
    hangs = build(LD_ARG0, (0x15, 0, 1, 7), ALLOW, EPERM)
    assert stack(hangs, build((6, 0, 0, 0x80000000)), arg=None).text == "KILL_PROCESS"
    assert stack(hangs, build(ALLOW), arg=None).depends
    assert stack(build(LD_ARG0, RET_A), build(ALLOW), arg=None).text == "DEPENDS"


@pytest.mark.parametrize("nr", [335, 336])
def test_uretprobe_and_uprobe_are_never_filtered(nr: int) -> None:
    assert stack(build(KILL), nr=nr).allows
    assert not decide_stack([build(KILL)], AUDIT_ARCH_I386, nr, [0] * 6).allows


def test_no_filter_allows() -> None:
    assert stack().allows


def test_disassembly_names_the_calls_of_each_abi() -> None:
    lines = disassemble(
        program(
            LD_ARCH,
            (0x15, 0, 3, AUDIT_ARCH_I386),
            LD_NR,
            (0x15, 3, 0, 39),
            (0x05, 0, 0, 3),
            LD_NR,
            (0x15, 0, 1, 83),
            EPERM,
            ALLOW,
        )
    )
    assert lines == [
        "0  A = arch",
        "1  if not (arch == i386) goto 5",
        "2  A = nr",
        "3  if nr == 39 (mkdir) goto 7",
        "4  goto 8",
        "5  A = nr",
        "6  if not (nr == 83 (mkdir)) goto 8",
        "7  return ERRNO(EPERM)",
        "8  return ALLOW",
    ]


def test_disassembly_shows_what_no_kernel_takes() -> None:
    assert "unknown opcode 0xff" in disassemble(program((0xFF, 0, 0, 3)))[0]
    assert disassemble(b"") == []


def test_disassembly_shows_arguments_and_registers() -> None:
    lines = disassemble(program(LD_ARG0_HIGH, TAX, (0x0C, 0, 0, 0), (0x54, 0, 0, 7), RET_A))
    assert lines == [
        "0  A = args[0].high",
        "1  X = A",
        "2  A = A + X",
        "3  A = A & 0x7",
        "4  return A",
    ]
