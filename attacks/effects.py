"""What must be true afterwards: effects and the objects that a trial starts from, as data.

Paths are relative to the subject's working directory (``/work`` in the sandbox) or absolute.  The
evaluator looks at the world from outside the subject and grades what it sees; nothing here runs.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from attacks.program import Program

SECRET = b"sidestep-secret!"
"""Stands in fixtures and in a witness's program for sixteen letters, new in each trial."""


class Grade(StrEnum):
    """How well the effect was reached; only ``exact`` decides a verdict."""

    EXACT = "exact"
    EQUIVALENT = "equivalent"


class EffectKind(StrEnum):
    """What the oracle looks for."""

    DIRECTORY = "directory"
    """exact: a directory with a new inode under lstat at the target, by path and by a descriptor of
    its parent opened before; equivalent: the path resolves to a directory in another way."""
    FILE = "file"
    """The same for a regular file; any new name in the parent, so that a core file counts."""
    OBJECT = "object"
    """exact: a name in the target's parent that was not there (a new inode, or one more link of an
    old one); equivalent: something that was there moved, or is mounted, there."""
    DELETED = "deleted"
    """exact: the target's inode lost its last name; equivalent: the path stopped showing it."""
    MODE = "mode"
    """exact: the inode opened before now has all of ``bits``; equivalent: the path shows them."""
    EXECUTED = "executed"
    """exact: a process whose /proc/PID/exe is the probe program; equivalent: its code is mapped
    executable."""
    PROCESS = "process"
    """exact: a process beside the subject that was not there."""
    WITNESSED = "witnessed"
    """The family's witness, a program that runs outside the mitigation, comes to its end after the
    attack and did not before; the grade is what the variant says of itself."""
    LEARNED = "learned"
    """exact: the secret, which nobody can guess, is in the subject's memory."""
    CODE = "code"
    """exact: a process ran into the trap of ``attacks.probe.TRAP_CODE``, which it wrote itself."""
    REACHED = "reached"
    """The decisive call reached the sentinel, an older filter that keeps it from the kernel: the
    candidate would have let it pass.  It never runs."""


class Effect(Struct, frozen=True):
    """One effect; ``bits`` only for MODE."""

    kind: EffectKind
    parent: str = "d"
    name: str = "t"
    bits: int = 0
    witness: Program | None = None
    """For WITNESSED: ``setup`` is done once, before the subject's first instruction; ``attack`` is
    run before the attack and after it, and has the effect if it comes to its end."""
    stays: bool = False
    """The subject is kept, stopped at the end of its program, until the witness has looked."""

    @property
    def path(self) -> str:
        return f"{self.parent}/{self.name}"


class ObjectKind(StrEnum):
    DIRECTORY = "directory"
    FILE = "file"
    SYMLINK = "symlink"
    FIFO = "fifo"
    ANCESTOR = "ancestor"
    """A directory on the way to another object, made unless it is there already."""
    PROBE = "probe"
    """The probe program: a static ELF that parks without a system call."""
    PROBE32 = "probe32"
    IMAGE = "image"
    """A static ELF that does what stands in the body of the program's execve."""


class Object(Struct, frozen=True):
    """Something that the judge makes before each trial, owned by the subject's ids."""

    kind: ObjectKind
    path: str
    mode: int = 0o644
    content: bytes = b""
    """File contents, or where a symlink points."""
