"""Random programs: well-formed, and otherwise as odd as can be."""

from __future__ import annotations

from hypothesis import strategies as st

from attacks.program import (
    MAX_DEPTH,
    Abi,
    Add,
    Addr,
    Blob,
    Call,
    Const,
    Entry,
    Env,
    Environment,
    Expect,
    Fault,
    Load,
    Operation,
    Print,
    Program,
    Slot,
    Store,
    Syscall,
    Value,
    Wait,
)

COMPAT = (Entry.INT80, Entry.SYSENTER, Entry.FAR_INT80)
WORDS = st.integers(0, 9) | st.integers(-(2**63), 2**64 - 1)
WIDTHS = st.sampled_from([1, 2, 4, 8])
OFFSETS = st.integers(-64, 64)
BLOBS = st.builds(
    lambda data, extra, align, name: Blob(data, len(data) + extra, align, name),
    st.binary(max_size=24) | st.text("ab/ \n\"'", max_size=9).map(lambda s: s.encode() + b"\0"),
    st.integers(0, 9),
    st.sampled_from([1, 8, 4096]),
    st.sampled_from(["", "a", "b", "a-1"]),
)


@st.composite
def programs(
    draw: st.DrawFn, names: tuple[str, ...] = ("mkdir",), longest_us: int = 1_000_000
) -> Program:
    """Well-formed programs: slots only name what is earlier, one operation is decisive."""
    blobs = tuple(draw(st.lists(BLOBS, max_size=5)))
    count = 0

    def value() -> Value:
        kinds: list[st.SearchStrategy[Value]] = [
            st.builds(Const, WORDS, st.sampled_from(["", "AT_FDCWD", "A|B"])),
            st.builds(Env, st.sampled_from(Environment)),
        ]
        if count:
            kinds.append(st.builds(Slot, st.integers(0, count - 1)))
        if blobs:
            blob = draw(st.integers(0, len(blobs) - 1))
            kinds.append(st.builds(Addr, st.just(blob), st.integers(0, blobs[blob].size)))
        return draw(st.one_of(kinds))

    def operation(depth: int) -> Operation:
        nonlocal count
        shape = draw(st.integers(0, 8))
        values = [value() for _ in range(3)]
        offset, width = draw(OFFSETS), draw(WIDTHS)
        count += 1
        match shape:
            case 0:
                return Load(values[0], offset, width)
            case 1:
                return Store(values[0], offset, width, values[1])
            case 2:
                return Add(values[0], values[1])
            case 3:
                return Print(*values)
            case 4:
                return Wait(values[0], offset, values[1], draw(st.integers(0, longest_us)))
            case 5:
                return Call(values[0])
            case 6:
                return Expect(values[0], draw(st.integers(0, 2**64 - 1)), draw(WORDS))
            case _:
                return syscall(values, depth)

    def syscall(values: list[Value], depth: int) -> Syscall:
        abi = draw(st.sampled_from(Abi))
        entry = draw(st.sampled_from(COMPAT)) if abi is Abi.I386 else Entry.SYSCALL
        body = operations(depth + 1, 2) if depth < MAX_DEPTH and draw(st.booleans()) else ()
        flags = draw(st.booleans())
        opcode = draw(st.sampled_from(["", "IORING_OP_NOP"]))
        return Syscall(
            draw(st.sampled_from(names)), tuple(values), abi, entry, False, flags, body, opcode
        )

    def operations(depth: int, most: int) -> tuple[Operation, ...]:
        return tuple(operation(depth) for _ in range(draw(st.integers(0, most))))

    setup, victim, attack = operations(0, 3), operations(0, 2), operations(0, 5)
    return Program(blobs, setup, victim, (*attack, Fault(decisive=True)))
