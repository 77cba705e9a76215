"""Rules for a whole program: before the filter, in another process, in another image."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from msgspec.structs import replace

from attacks.consts import (
    CLONE_FILES,
    CLONE_FS,
    CLONE_NEWUSER,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    NULL,
    WALL,
)
from attacks.effects import EffectKind
from attacks.family import IMAGE, Assumption, Technique, Variant
from attacks.kernel import Kernel
from attacks.program import (
    Const,
    Env,
    Environment,
    Operation,
    Program,
    Store,
    Syscall,
    fits_image,
    is_decisive,
)
from attacks.replay import Around, replay, untouched
from attacks.rewrites.rule import whole


@whole("inherited", Technique.DESCRIPTOR_REUSE, Assumption.INHERITED_DESCRIPTOR)
def inherited(variant: Variant) -> Program | None:
    """All that comes before the decisive call was done before the filter."""
    program = variant.program
    if program.victim or program.setup:
        return None
    for index, op in enumerate(program.attack):
        if is_decisive(op):
            before = program.attack[:index]
            opens = any(isinstance(one, Syscall) and not one.body for one in before)
            spawns = any(isinstance(one, Syscall) and one.body for one in before)
            if not opens or spawns or not isinstance(op, Syscall):
                return None
            if any(map(_wants_one_thread, before)) or any(map(_notes, program.attack)):
                return None
            return replace(program, setup=before, attack=program.attack[index:])
    return None


def _wants_one_thread(op: Operation) -> bool:
    """unshare(2): CLONE_NEWUSER is for processes with one thread.

    There is another one before the filter is in force: it keeps the capability to load it.
    """
    if not isinstance(op, Syscall) or op.name != "unshare" or not isinstance(op.args[0], Const):
        return False
    return bool(op.args[0].value & CLONE_NEWUSER)


def _notes(op: Operation) -> bool:
    """Whether it notes an answer: what was asked before the filter was not found out under it."""
    return isinstance(op, Store) and op.address == Env(Environment.SECRET)


@contextmanager
def _in_child(k: Kernel) -> Generator[None]:
    with k.child(k.fork()):
        yield
        k.exit_group(0).may_fail()  # a kernel thread of its ring would keep it alive
    k.wait4(-1, NULL, WALL, NULL).may_fail()


@whole("child", Technique.SIBLING_SYSCALL)
def child(variant: Variant) -> Program | None:
    """A child does it, and the parent only waits: filters are inherited, rules on a pid are not."""
    return _inside(variant, _in_child)


@contextmanager
def _in_thread(k: Kernel) -> Generator[None]:
    """CLONE_VFORK: the kernel wakes the first thread when this one has ended, however it ends."""
    flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
    with k.child(k.clone(flags | CLONE_VFORK, k.stack())):
        yield


@whole("thread", Technique.SIBLING_SYSCALL)
def thread(variant: Variant) -> Program | None:
    """A thread does it: threads that are made under a filter inherit it, and so it must hold."""
    return _inside(variant, _in_thread)


def _inside(variant: Variant, around: Around) -> Program | None:
    if variant.effect.kind is EffectKind.PROCESS:
        return None  # what is put around it would be the effect
    if variant.effect.stays or any(section == "setup" for section, _ in variant.program.flatten()):
        return None
    return replay(variant.program, variant.effect, untouched, around)


# The file would be looked at instead of the probe; the secret must come into the memory of the
# program before, the sentinel's answer into its trace.
_OF_THE_PROGRAM = (
    EffectKind.PROCESS,
    EffectKind.EXECUTED,
    EffectKind.LEARNED,
    EffectKind.REACHED,
)


@contextmanager
def _in_image(k: Kernel) -> Generator[None]:
    path = k.text(IMAGE)
    with k.child(k.execve(path, k.struct("QQ", path, 0, name="argv"), NULL)):
        yield


@whole("exec", Technique.SIBLING_SYSCALL)
def executed(variant: Variant) -> Program | None:
    """Another program does it, after an execve: filters stay, and so it must hold."""
    program = variant.program
    if program.setup or program.victim or not all(fits_image(op, 0) for op in program.attack):
        return None
    if variant.effect.stays or variant.effect.kind in _OF_THE_PROGRAM:
        return None
    return replay(program, variant.effect, untouched, _in_image)
