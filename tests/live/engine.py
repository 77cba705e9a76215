"""What the live tests share: small programs, filters by hand, and one arm run."""

import os
import struct
from collections.abc import Sequence

from attacks.effects import Object, ObjectKind
from attacks.program import Addr, Blob, Const, Operation, Program, Syscall
from evaluator.posture import POSTURES
from evaluator.sandbox import Sandbox
from evaluator.wire import ConfigSpec, Filter, ProgramFlag, ProgramSpec, Request, Result, RunFlag

ALLOW, LOG, TRACE, NOTIFY = 0x7FFF0000, 0x7FFC0000, 0x7FF00000, 0x7FC00000
EPERM, FAKED, TRAP, KILL_THREAD, KILL = 0x50001, 0x50000, 0x30000, 0x0, 0x80000000
PARENT = Object(ObjectKind.DIRECTORY, "d", 0o755)


def instructions(*rows: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("<HBBI", *row) for row in rows)


def answers_all(action: int) -> bytes:
    return instructions((6, 0, 0, action))


def answers(numbers: Sequence[int], action: int, otherwise: int = ALLOW) -> bytes:
    """Any architecture: these numbers get ``action``, all others ``otherwise``."""
    n = len(numbers)
    tests = [(0x15, n - i, 0, number) for i, number in enumerate(numbers)]
    return instructions((0x20, 0, 0, 0), *tests, (6, 0, 0, otherwise), (6, 0, 0, action))


def call(name: str, *args: int | Addr, **kwargs: object) -> Syscall:
    values = tuple(Const(arg) if isinstance(arg, int) else arg for arg in args)
    return Syscall(name, values, **kwargs)  # type: ignore[arg-type]


def program(
    *attack: Operation, texts: Sequence[str] = ("d/t",), setup: Sequence[Operation] = ()
) -> Program:
    blobs = tuple(Blob(text.encode() + b"\0", len(text.encode()) + 1) for text in texts)
    return Program(blobs=blobs, setup=tuple(setup), attack=attack)


MKDIR = program(call("mkdir", Addr(0), 0o755, decisive=True))


def config(*filters: bytes, posture: str = "container") -> ConfigSpec:
    stance = POSTURES[posture]
    # An ordinary user can map one id only: every posture is uid 0 of the sandbox then.
    many = os.geteuid() == 0
    return ConfigSpec(
        stance.uid if many else 0,
        stance.gid if many else 0,
        stance.mask,
        stance.no_new_privs,
        tuple(Filter(one) for one in filters),
    )


def run(
    sandbox: Sandbox,
    what: Program,
    how: ConfigSpec,
    *,
    flags: ProgramFlag = ProgramFlag.SWEEP,
    slow: bool = False,
    timeout_us: int = 500_000,
    times: int = 1,
) -> list[Result]:
    sandbox.define_program(0, ProgramSpec(what, (PARENT,), flags=flags))
    sandbox.define_config(0, how)
    sandbox.define_config(1, config(posture="container"))
    request = Request(0, 0, 0, 1, timeout_us, RunFlag.SLOW if slow else RunFlag.NONE)
    return list(sandbox.run([request] * times))


def made_directory(result: Result) -> bool:
    return result.after.path.error == 0 and result.after.by_fd.error == 0
