"""Records a program anew, call by call, so that a rule can put something else in a call's place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import count

from msgspec import Struct
from msgspec.structs import replace

from attacks.effects import Effect
from attacks.kernel import Kernel
from attacks.program import (
    Abi,
    Addr,
    Const,
    Entry,
    Operation,
    Program,
    Slot,
    Syscall,
    changed,
)
from attacks.recorder import Arg, Recording, Result, Section, check, earlier


class Made(Struct, frozen=True):
    """A call of the program that is rewritten, with operands that the new program has."""

    name: str
    args: tuple[Arg, ...]
    decisive: bool
    program: Program
    slot: int = -1
    """Where the call stands in that program."""
    abi: Abi = Abi.X86_64
    entry: Entry = Entry.SYSCALL

    def text(self, index: int) -> str | None:
        """The string at an argument, where that is one of the program's own and is not built."""
        value = self.args[index]
        if not isinstance(value, Addr) or value.blob >= len(self.program.blobs):
            return None
        blob = self.program.blobs[value.blob]
        data, end, _ = blob.data[value.offset :].partition(b"\0")
        if not end or blob.size != len(blob.data) or not data.isascii():
            return None
        return data.decode()

    def constant(self, index: int) -> int | None:
        """The number at an argument, where it is known."""
        value = self.args[index] if index < len(self.args) else None
        return value.value if isinstance(value, Const) else None


Rule = Callable[[Kernel, Made], Result | None]
"""Records what takes a call's place and returns its result, or None to leave the call as it is."""


Around = Callable[[Kernel], AbstractContextManager[None]]
"""What is recorded before the attack and after it."""


def untouched(k: Kernel, call: Made) -> None:
    """The rule that leaves every call as it is."""
    del k, call


def replay(
    program: Program,
    effect: Effect,
    rule: Rule,
    around: Around | None = None,
    *,
    native: bool = True,
) -> Program | None:
    """The program with ``rule`` applied to every native call of its attack.

    None where that leaves everything as it is.  Without ``native`` the rule is asked about the
    calls through other tables as well.
    """
    recording = Recording(effect, {}, program.blobs)
    if around is None:
        made = _asked(program, recording, rule, native=native)
        if not made:
            return None
        if _one_for_one(recording, made):
            return _exchanged(program, recording, made)
        recording = Recording(effect, {}, program.blobs)
    again = _Replay(program, rule, native=native)
    sections = (
        (Section.SETUP, program.setup),
        (Section.VICTIM, program.victim),
        (Section.ATTACK, program.attack),
    )
    for section, ops in sections:
        k, attack = Kernel(recording, section), section is Section.ATTACK
        with around(k) if around and attack else nullcontext():
            again.record(k, ops, attack)
    return recording.finish()


def _asked(
    program: Program, recording: Recording, rule: Rule, *, native: bool
) -> dict[int, Result]:
    """What the rule puts in the place of calls, by slot; up to the first that becomes several.

    Most rules change little, and recording anew is the larger part of rewriting.
    """
    k = Kernel(recording)
    made: dict[int, Result] = {}
    for slot, (section, op) in enumerate(program.flatten()):
        if section != "attack" or not isinstance(op, Syscall) or (native and not _is_native(op)):
            continue
        args = tuple([earlier(value) if isinstance(value, Slot) else value for value in op.args])
        result = rule(k, _made(op, args, program, slot))
        if result is not None:
            made[slot] = _marked(result, op)
            if recording.count != len(made):
                break
    return made


def _one_for_one(recording: Recording, made: Mapping[int, Result]) -> bool:
    """Whether all that was recorded is one call in the place of each."""
    nodes = recording.attack
    return len(nodes) == recording.count == len(made) and all(
        isinstance(node.op, Syscall) and node is result.node
        for node, result in zip(nodes, made.values(), strict=True)
    )


def _exchanged(program: Program, recording: Recording, made: Mapping[int, Result]) -> Program:
    """The program with other calls in the same slots, so that nothing else need be recorded."""
    begin = len(Program(setup=program.setup, victim=program.victim).flatten())
    attack = tuple(_others(program.attack, made, count(begin)))
    other = replace(program, blobs=recording.blobs, attack=attack)
    check(other)
    return other


def _others(
    ops: tuple[Operation, ...], made: Mapping[int, Result], slots: Iterator[int]
) -> Iterator[Operation]:
    for op in ops:
        result = made.get(next(slots))
        if not isinstance(op, Syscall) or (result is None and not op.body):
            yield op
            continue
        body = tuple(_others(op.body, made, slots))
        yield changed(op, op.args, body) if result is None else result.call(body)


class _Replay:
    def __init__(self, program: Program, rule: Rule, *, native: bool) -> None:
        self._program = program
        self._rule = rule
        self._native = native
        self._results: dict[int, Result] = {}
        self._slot = 0

    def record(self, k: Kernel, ops: tuple[Operation, ...], attack: bool) -> None:
        for op in ops:
            slot, self._slot = self._slot, self._slot + 1
            self._results[slot] = self._one(k, op, slot, attack)
            if isinstance(op, Syscall) and op.body:
                with k.child(self._results[slot]):
                    self.record(k, op.body, attack)

    def _one(self, k: Kernel, op: Operation, slot: int, attack: bool) -> Result:
        asked = attack and self._rule is not untouched
        if asked and isinstance(op, Syscall) and (_is_native(op) or not self._native):
            args = tuple(
                self._results[value.index] if isinstance(value, Slot) else value
                for value in op.args
            )
            result = self._rule(k, _made(op, args, self._program, slot))
            if result is not None:
                return _marked(result, op)
        return k.again(op, self._results)


def _made(op: Syscall, args: tuple[Arg, ...], program: Program, slot: int) -> Made:
    return Made(op.name, args, op.decisive, program, slot, op.abi, op.entry)


def _is_native(op: Syscall) -> bool:
    return op.abi is Abi.X86_64 and op.entry is Entry.SYSCALL


def _marked(result: Result, op: Syscall) -> Result:
    if op.decisive:
        result.decisive()
    if op.may_fail:
        result.may_fail()
    node = result.cause or result.node
    if op.opcode and isinstance(node.op, Syscall) and node.op.name == op.name:
        node.op = replace(node.op, opcode=op.opcode)
    return result
