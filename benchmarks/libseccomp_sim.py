"""libseccomp's own simulator, asked many questions at a time.

It knows the opcodes that libseccomp itself writes: no JSET, no register X, no scratch memory; and
of the answers it does not know USER_NOTIF.  What it cannot do it calls a fault, here None.
"""

from __future__ import annotations

import errno
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mitigations import classic
from mitigations.classic import Action, Instruction

ROOT = Path(__file__).resolve().parent.parent
_ACTIONS = {
    "KILL_PROCESS": Action.KILL_PROCESS,
    "KILL": Action.KILL_THREAD,
    "TRAP": Action.TRAP,
    "ERRNO": Action.ERRNO,
    "TRACE": Action.TRACE,
    "LOG": Action.LOG,
    "ALLOW": Action.ALLOW,
}
# The end of the stub that runc puts before what libseccomp wrote.
_STUB_ENDS = (
    Instruction(classic.JUMP, 0, 0, 1),
    Instruction(classic.RETURN_K, 0, 0, Action.ERRNO | errno.ENOSYS),
)
_COUNTS = struct.Struct("<2I")
_CALL = struct.Struct("<2I7Q")

Call = tuple[int, int, Sequence[int], int]
"""arch, number, the six arguments, the instruction pointer"""


class NoSimulator(Exception):  # noqa: N818 - it names what is missing
    """It could not be fetched or built; the message says why."""


def built() -> Path:
    """Where `scmp_bpf_sim` and our loop around it are; made there if need be."""
    script = ROOT / "scripts" / "libseccomp_sim.sh"
    done = subprocess.run([script], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoSimulator(done.stderr.strip().splitlines()[-1])
    return Path(done.stdout.strip())


class Simulator:
    """A process that decides; use as a context manager."""

    def __enter__(self) -> Simulator:
        self._process = subprocess.Popen(
            [built() / "many"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def decide(self, program: bytes, calls: Sequence[Call]) -> list[int | None]:
        """What the program returns for each of at most a few thousand calls.

        Without the data of answers that have none to show: those of KILL, TRAP, LOG and ALLOW.
        """
        asked = b"".join(
            _CALL.pack(nr & 0xFFFFFFFF, arch, ip, *args) for arch, nr, args, ip in calls
        )
        pipe, answers = self._process.stdin, self._process.stdout
        assert pipe is not None
        assert answers is not None
        pipe.write(_COUNTS.pack(len(program) // 8, len(calls)) + program + asked)
        pipe.flush()
        return [_value(answers.readline().decode().strip()) for _ in calls]


def _value(line: str) -> int | None:
    name, _, data = line.rstrip(")").partition("(")
    return None if name == "FAULT" else _ACTIONS[name] | int(data or 0)


def stub_length(program: bytes) -> int:
    """How many instructions a runtime put before libseccomp's; the simulator cannot run them."""
    instructions = classic.unpack(program)
    first = next(pc for pc, each in enumerate(instructions) if each.code == classic.RETURN_K)
    return first + 1 if instructions[first - 1 : first + 1] == _STUB_ENDS else 0
