"""Random filters: profiles with all that they may hold, and programs that nobody compiled."""

import struct
from collections.abc import Sequence

from hypothesis import strategies as st

from mitigations.rules import ACTIONS, ERRNO_ACTIONS, NATIVE, OPERATORS, Condition, Profile, Rule

# Some that say the same on all ABIs, some whose numbers lie apart, some that i386 multiplexes.
NAMES = (
    "read", "openat", "mkdir", "clone", "ioctl", "mmap", "fcntl", "kill", "prctl", "chmod",
    "getpid", "gettid", "connect", "semctl", "rt_sigaction", "futex", "io_uring_setup",
)  # fmt: skip
ARCHITECTURES = (
    (NATIVE, "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    (NATIVE, "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    (NATIVE, "SCMP_ARCH_X86"),
    ("SCMP_ARCH_X32",),
    (),
)
EDGES = (
    0, 1, 2, 7, 0x40, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 0x100000000, 0x100000001,
    0x1FFFFFFFF, 1 << 63, (1 << 64) - 2, (1 << 64) - 1,
)  # fmt: skip
WORDS = st.sampled_from(EDGES) | st.integers(0, 0x100) | st.integers(0, (1 << 64) - 1)
# What kills leaves the kernel one call a process: it is rare, or there would be few calls.
_RARE = ("SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP")
_MILD = tuple(action for action in ACTIONS if action not in _RARE)
_RULE_ACTIONS = st.sampled_from(_MILD * 3 + _RARE)
_DEFAULTS = st.sampled_from(
    ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_LOG") * 6 + _RARE
)
_ERRNOS = st.sampled_from((0, 1, 38, 4094, 4095))  # libseccomp takes no more


@st.composite
def _conditions(draw: st.DrawFn) -> tuple[Condition, ...]:
    """Mostly of different arguments; two of one argument make runtimes write two rules."""
    once = draw(st.integers(0, 4))
    indexes = draw(st.lists(st.integers(0, 5), unique=bool(once), max_size=4))
    return tuple(draw(_condition(index)) for index in indexes)


@st.composite
def _condition(draw: st.DrawFn, index: int) -> Condition:
    operator = draw(st.sampled_from(OPERATORS))
    value, second = draw(WORDS), 0
    if operator == "SCMP_CMP_MASKED_EQ":
        second = draw(WORDS) & value
    return Condition(index, operator, value, second)


def _errno(draw: st.DrawFn, action: str) -> int | None:
    return draw(st.none() | _ERRNOS) if action in ERRNO_ACTIONS else None


@st.composite
def _rule(draw: st.DrawFn) -> Rule:
    names = tuple(draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=3)))
    action = draw(_RULE_ACTIONS)
    return Rule(names, ("",) * len(names), action, _errno(draw, action), draw(_conditions()), "")


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Several rules may be about one call; the loading of further filters is always allowed."""
    default = draw(_DEFAULTS)
    rules = draw(st.lists(_rule(), min_size=1, max_size=9))
    if default != "SCMP_ACT_ALLOW":
        rules.append(Rule(("seccomp",), ("",), "SCMP_ACT_ALLOW", None, (), ""))
    return Profile(
        default,
        _errno(draw, default),
        draw(st.sampled_from(ARCHITECTURES)),
        None,
        "",
        "",
        tuple(rules),
    )


# ------------------------------------------------------------------------------ raw programs

Line = tuple[int, int, int, int]
_CONSTANTS = st.sampled_from([edge & 0xFFFFFFFF for edge in EDGES]) | st.integers(0, 0xFFFFFFFF)
_NONE = st.just(0)
_MOVES = st.one_of(
    st.tuples(st.sampled_from([0x20]), _NONE, _NONE, st.integers(0, 15).map(lambda word: 4 * word)),
    st.tuples(st.sampled_from([0x04, 0x14, 0x24, 0x44, 0x54, 0xA4]), _NONE, _NONE, _CONSTANTS),
    st.tuples(st.just(0x34), _NONE, _NONE, st.integers(1, 0xFFFFFFFF)),
    st.tuples(st.sampled_from([0x64, 0x74]), _NONE, _NONE, st.integers(0, 31)),
    st.tuples(
        st.sampled_from([0x0C, 0x1C, 0x2C, 0x3C, 0x4C, 0x5C, 0x6C, 0x7C, 0xAC, 0x84]),
        _NONE, _NONE, _NONE,
    ),
    st.tuples(st.sampled_from([0x00, 0x01]), _NONE, _NONE, _CONSTANTS),
    st.tuples(st.sampled_from([0x02, 0x03, 0x60, 0x61]), _NONE, _NONE, st.sampled_from([0, 15])),
    st.sampled_from([(0x07, 0, 0, 0), (0x87, 0, 0, 0), (0x80, 0, 0, 0), (0x81, 0, 0, 0)]),
)  # fmt: skip
_ANSWERS = (0x7FFF0000, 0x50001, 0x50000, 0x7FF00003, 0x7FFC0000, 0x7FC00000, 0x5FFFF, 0x7FFF0005)
_DEADLY = (0x30000, 0x80000000, 0x0, 0x12340000)
_LETS_LOAD = [
    (0x20, 0, 0, 4), (0x15, 0, 3, 0xC000003E),
    (0x20, 0, 0, 0), (0x15, 0, 1, 317), (6, 0, 0, 0x7FFF0000),
]  # fmt: skip
# A register as an errno, so that the kernel shows twelve bits of what it holds.
_TELLS = [(0x54, 0, 0, 0xFFF), (0x44, 0, 0, 0x50000), (0x16, 0, 0, 0)]
_TELLS_X = [(0x87, 0, 0, 0), (0x74, 0, 0, 7), *_TELLS]


@st.composite
def raw_filters(draw: st.DrawFn) -> bytes:
    """Every instruction that seccomp takes; all jumps are of constants, and go forward."""
    body = draw(st.lists(st.integers(0, 2), min_size=2, max_size=24))
    lines: list[Line] = [*_LETS_LOAD, (0x02, 0, 0, 0), (0x03, 0, 0, 15)]
    for left, kind in zip(range(len(body), 0, -1), body, strict=True):
        lines.append(draw(_jump(left)) if kind == 0 else draw(_MOVES))
    lines += draw(_ends())
    return b"".join(struct.pack("<HBBI", *line) for line in lines)


@st.composite
def _jump(draw: st.DrawFn, left: int) -> Line:
    test = draw(st.sampled_from([0x15, 0x25, 0x35, 0x45, 0x1D, 0x2D, 0x3D, 0x4D, 0x05]))
    if test == 0x05:
        return test, 0, 0, draw(st.integers(0, min(left, 3)))
    ahead = st.integers(0, left)
    return test, draw(ahead), draw(ahead), draw(_CONSTANTS)


@st.composite
def _ends(draw: st.DrawFn) -> Sequence[Line]:
    """What the last jump goes over, and the end."""
    first = [(6, 0, 0, draw(st.sampled_from(_ANSWERS * 3 + _DEADLY)))]
    return first + draw(st.sampled_from([_TELLS, _TELLS_X, [(0x16, 0, 0, 0)], first]))
