"""One arm of one trial: what the runner needs of a variant, and the grade of what the judge saw."""

from __future__ import annotations

import functools
import re
import stat

from msgspec.structs import replace

from attacks.effects import SECRET, Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import Assumption, Fresh, Variant
from attacks.probe import PROBE_MAGIC, probe_elf
from attacks.program import (
    Addr,
    Call,
    Const,
    Env,
    Environment,
    Operation,
    Print,
    Program,
    Syscall,
    Wait,
    is_decisive,
    operands,
)
from evaluator.machine_code import image
from evaluator.sentinel import SENTINEL_ERRNO
from evaluator.wire import Facts, ProgramFlag, ProgramSpec, RecordState, Result

# What can make a process: afterwards init sweeps the pid namespace until nobody is left.
_SPAWNING = frozenset({"clone", "clone3", "fork", "vfork", "execve", "execveat", "ptrace"})
_PR_GET_AUXV = Const(0x41555856)  # prctl(2), since Linux 6.4
_NUMBERS = frozenset({Environment.VICTIM_PID, Environment.SUBJECT_PID})
_OWN_NUMBERS = frozenset(
    {"getpid", "gettid", "getppid", "getpgrp", "getpgid", "getsid", "set_tid_address"}
)
_OWN_PROCFS = re.compile(rb"^/?proc/(thread-)?self\b")
_CLONE_NEW = {
    Fresh.MOUNT: 0x20000,
    Fresh.UTS: 0x4000000,
    Fresh.IPC: 0x8000000,
    Fresh.NET: 0x40000000,
}
_DT_REG = 8
_WATCH = {
    EffectKind.PROCESS: ProgramFlag.WATCH_PROCESS,
    EffectKind.EXECUTED: ProgramFlag.WATCH_EXEC,
    EffectKind.CODE: ProgramFlag.WATCH_CODE,
    EffectKind.LEARNED: ProgramFlag.SECRET,
}


def program_spec(variant: Variant) -> ProgramSpec:
    """The variant as the runner gets it."""
    return ProgramSpec(
        program=variant.program,
        objects=tuple(filled(one, variant.program) for one in variant.objects),
        parent=variant.effect.parent,
        name=variant.effect.name,
        flags=_flags(variant),
        fresh=sum(_CLONE_NEW[one] for one in variant.fresh),
        magic=PROBE_MAGIC,
        witness=_witness(variant.effect.witness) if variant.effect.witness else None,
    )


@functools.cache
def _witness(program: Program) -> ProgramSpec:
    """One for all variants of a family, so that the runner is told of it once."""
    return ProgramSpec(program)


def filled(one: Object, program: Program) -> Object:
    """The object with its contents, where the variant only says what they are."""
    match one.kind:
        case ObjectKind.PROBE:
            return replace(one, content=probe_elf(64))
        case ObjectKind.PROBE32:
            return replace(one, content=probe_elf(32))
        case ObjectKind.IMAGE:
            return replace(one, content=image(program))
        case _:
            return one


def _flags(variant: Variant) -> ProgramFlag:
    flags = _WATCH.get(variant.effect.kind, ProgramFlag.NONE)
    if variant.effect.stays:
        flags |= ProgramFlag.STAY
    if _has_secret(variant):
        flags |= ProgramFlag.SECRET
    if may_spawn(variant.program):
        flags |= ProgramFlag.SWEEP
    if variant.effect.kind is EffectKind.EXECUTED and variant.grade is Grade.EQUIVALENT:
        flags |= ProgramFlag.WATCH_MAPPED
    if variant.core_file:
        flags |= ProgramFlag.CORE
    if variant.no_new_privs:
        flags |= ProgramFlag.NO_NEW_PRIVS
    if variant.assumption is Assumption.UNFILTERED_THREAD:
        flags |= (
            ProgramFlag.NO_NEW_PRIVS
        )  # the filter must come without TSYNC, so from the thread itself
    if _must_be_alone(variant.program):
        flags |= (
            ProgramFlag.NO_NEW_PRIVS
        )  # the thread that loads without it stays where a filter lets none exit
    if _must_set_up_itself(variant):
        flags |= ProgramFlag.DIRECT
    if _waits(variant.program):
        flags |= ProgramFlag.SPREAD
    if variant.program.needs_victim:
        flags |= ProgramFlag.VICTIM
    if _looks_at_mappings(variant.program):
        flags |= ProgramFlag.VDSO
    return flags


def _looks_at_mappings(program: Program) -> bool:
    """Whether it may learn where the kernel has mapped something: from a file, or from prctl(2)."""
    return any(
        tell in blob.data for blob in program.blobs for tell in (b"auxv", b"maps", b"map_files")
    ) or any(
        isinstance(op, Syscall) and op.name == "prctl" and op.args[0] == _PR_GET_AUXV
        for _, op in program.flatten()
    )


def _has_secret(variant: Variant) -> bool:
    """Whether something of the trial holds sixteen letters that nobody can guess."""
    texts = [one.content for one in variant.objects]
    texts += [one.path.encode() for one in variant.objects]
    texts += [blob.data for blob in variant.effect.witness.blobs] if variant.effect.witness else []
    return any(SECRET in text for text in texts)


def _must_be_alone(program: Program) -> bool:
    """Whether it may enter another user namespace, which a process of several threads may not."""
    made = {
        op.name
        for section, op in program.flatten()
        if section == "attack" and isinstance(op, Syscall)
    }
    return not made.isdisjoint(("setns", "unshare"))


def _makes_threads(setup: tuple[Operation, ...]) -> bool:
    """Rings have kernel threads; neither they nor others survive the gate's fork."""
    return any(isinstance(op, Syscall) and (op.body or op.name == "io_uring_setup") for op in setup)


def _must_set_up_itself(variant: Variant) -> bool:
    """Whether setup must be run by the very process that goes on with the attack."""
    program = variant.program
    if variant.foreign and program.setup:
        return True  # whatever number it holds is one of the sandbox
    return _makes_threads(program.setup) or _knows_processes(program)


def _knows_processes(program: Program) -> bool:
    """Whether its setup names a process by its number, or itself in procfs.

    A gate is out of the subjects' pid namespace, so that none can see it: there the numbers are
    others', and ``/proc/self`` is nobody.
    """
    own = {place for place, one in enumerate(program.blobs) if _OWN_PROCFS.search(one.data)}
    for section, op in program.flatten() if program.setup else ():
        if section != "setup" or isinstance(op, Print):  # by a number in a path procfs finds it
            continue
        if isinstance(op, Syscall) and op.name in _OWN_NUMBERS:
            return True
        for value in operands(op):
            if isinstance(value, Env) and value.name in _NUMBERS:
                return True
            if isinstance(value, Addr) and value.blob in own:
                return True
    return False


def _waits(program: Program) -> bool:
    """Whether the subject spins until another thread, perhaps a kernel's, has stored something."""
    if Wait in map(type, program.attack):
        return True
    setup = (op for section, op in program.flatten() if section == "setup")
    return bool(program.setup) and Wait in map(type, setup)


def may_spawn(program: Program) -> bool:
    """Whether a process may be left over: it makes one, execs, steers another, or runs bytes."""
    for _, op in program.flatten():
        if isinstance(op, Syscall):
            if op.body or op.name in _SPAWNING:
                return True
        elif isinstance(op, Call):
            return True
    return False


def rescue_program(program: Program) -> Program | None:
    """The program with everything before its decisive operation done in setup.

    ``None`` where there is nothing before it, where the decisive operation is inside a child, or
    where a victim's operations lie between the two sections (slots would change).
    """
    if program.victim:
        return None
    for index, op in enumerate(program.attack):
        if is_decisive(op):
            if not index:
                return None
            setup, attack = program.attack[:index], program.attack[index:]
            return replace(program, setup=program.setup + setup, attack=attack)
    return None


def already(variant: Variant, result: Result) -> str | None:
    """Why the world was not ready: the effect was there before, or what it acts on was not."""
    effect, before = variant.effect, result.before
    match effect.kind:
        case EffectKind.DIRECTORY:
            there = before.path.error == 0 and stat.S_ISDIR(before.path.mode)
            return "the directory was there before" if there else None
        case EffectKind.DELETED:
            return "the file was not there" if before.held.error else None
        case EffectKind.MODE:
            if before.held.error:
                return "the file was not there"
            return "the mode was set before" if _has(before.held.mode, effect.bits) else None
        case EffectKind.WITNESSED:
            return "the witness saw the effect before" if result.witness_before else None
        case _:
            return None


def strange(variant: Variant, before: Facts) -> str | None:
    """A name beside the target that nobody made for this trial: what is seen may be another's."""
    if not before.names or variant.program.setup or variant.program.victim:
        return None
    parent = f"{variant.effect.parent}/"
    ours = {one.path.removeprefix(parent) for one in variant.objects if one.path.startswith(parent)}
    names = [one.name for one in before.names if one.name not in ours]
    return f"{names[0]!r} was there before" if names else None


def grade(variant: Variant, result: Result) -> Grade | None:
    """What the judge saw from outside, compared with before; ``None``: the effect is not there."""
    effect, before, after = variant.effect, result.before, result.after
    match effect.kind:
        case EffectKind.WITNESSED:
            return variant.grade if result.witness_after and not result.witness_before else None
        case EffectKind.DIRECTORY:
            return _directory(before, after)
        case EffectKind.FILE:
            return _file(before, after)
        case EffectKind.OBJECT:
            return _object(effect, before, after)
        case EffectKind.DELETED:
            return _deleted(before, after)
        case EffectKind.MODE:
            return _mode(effect, after)
        case EffectKind.EXECUTED:
            mapped = Grade.EQUIVALENT if result.saw_mapped else None
            return Grade.EXACT if result.saw_exec else mapped
        case EffectKind.PROCESS:
            return Grade.EXACT if result.saw_process else None
        case EffectKind.LEARNED:
            return variant.grade if result.learned else None
        case EffectKind.CODE:
            return Grade.EXACT if result.saw_code else None
        case EffectKind.REACHED:
            return Grade.EXACT if _reached(variant.program, result) else None


def _reached(program: Program, result: Result) -> bool:
    """Whether the sentinel answered the decisive call."""
    decisive = next(i for i, (_, op) in enumerate(program.flatten()) if is_decisive(op))
    if decisive >= len(result.records):
        return False  # it was run without its attack
    record = result.records[decisive]
    return record.state is RecordState.DONE and record.error == SENTINEL_ERRNO


def _directory(before: Facts, after: Facts) -> Grade | None:
    new = after.path.ino > before.watermark and after.path.ino == after.by_fd.ino
    if after.path.error == 0 and stat.S_ISDIR(after.path.mode) and new:
        return Grade.EXACT
    moved = (after.followed.ino, after.followed.dev) != (before.followed.ino, before.followed.dev)
    if after.followed.error == 0 and stat.S_ISDIR(after.followed.mode) and moved:
        return Grade.EQUIVALENT
    return None


def _file(before: Facts, after: Facts) -> Grade | None:
    old = {name.name for name in before.names}
    if any(one.type == _DT_REG and one.ino > before.watermark for one in after.names):
        return Grade.EXACT
    if any(one.type == _DT_REG and one.name not in old for one in after.names):
        return Grade.EQUIVALENT
    moved = (after.followed.ino, after.followed.dev) != (before.followed.ino, before.followed.dev)
    if after.followed.error == 0 and stat.S_ISREG(after.followed.mode) and moved:
        return Grade.EQUIVALENT
    return None


def _object(effect: Effect, before: Facts, after: Facts) -> Grade | None:
    old = {name.name for name in before.names}
    new = [name for name in after.names if name.name not in old]
    if any(one.ino > before.watermark for one in new):
        return Grade.EXACT
    linked = after.by_fd.error == 0 and after.by_fd.nlink > 1 and not stat.S_ISDIR(after.by_fd.mode)
    if linked and any(one.name == effect.name for one in new):
        return Grade.EXACT
    moved = (after.path.ino, after.path.dev) != (before.path.ino, before.path.dev)
    return Grade.EQUIVALENT if new or (after.path.error == 0 and moved) else None


def _deleted(before: Facts, after: Facts) -> Grade | None:
    if after.held.error == 0 and after.held.nlink == 0:
        return Grade.EXACT
    gone = after.path.error != 0
    moved = (after.path.ino, after.path.dev) != (before.path.ino, before.path.dev)
    return Grade.EQUIVALENT if gone or moved else None


def _mode(effect: Effect, after: Facts) -> Grade | None:
    if after.held.error == 0 and _has(after.held.mode, effect.bits):
        return Grade.EXACT
    followed = after.followed.error == 0 and _has(after.followed.mode, effect.bits)
    return Grade.EQUIVALENT if followed else None


def _has(mode: int, bits: int) -> bool:
    return mode & bits == bits
