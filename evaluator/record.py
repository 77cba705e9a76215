"""Runs a command under the native runner and collects what all its processes call.

The runner (native/record.h) puts a filter on the command that asks about every call, and answers
that it may go on.  What comes back is the program's own doing and is taken for no more than that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from operator import itemgetter
from typing import NamedTuple

from msgspec import Struct

from evaluator.errors import EnvironmentLackError, HarnessError, InputError
from evaluator.kept_arguments import ARGUMENTS, KEPT, NO_ARGUMENTS, Kept, kept
from evaluator.predict import errno_name
from evaluator.recording import ABIS, Recording, Use, recording
from evaluator.sandbox import runner_path
from evaluator.terminal import printable
from evaluator.wire import signal_name
from mitigations import classic, x86_64
from mitigations.classic import Action, Instruction

GRACE_S = 1.0
"""How long what outlives the command, or SIGTERM, may go on."""
MOST_VALUES = 64
"""So many different arguments of a call are told apart; beyond, they may be anything."""
MOST_OUTPUT = 64 * 1024
"""So much of what the command prints is passed on."""
NO_NEW_PRIVS = (
    "recorded with no_new_privs, as CAP_SYS_ADMIN is missing: set-user-ID programs ran without "
    "their rights"
)
_PATIENCE_S = 15.0
_WORD = (1 << 64) - 1
_LARGEST_REPORT = 1 << 26

_CONFIG = struct.Struct("<IIIIQQII")
_KEPT = struct.Struct("<IIIIQ6Q")
_OUTCOME = struct.Struct("<IIiIIIIIIIQQ")
_USE = struct.Struct("<IIII6QQQ")
_EVENT = struct.Struct("<IIII16s")
_VERSION = 1
_SIGKILL = int(signal.SIGKILL)

ASKS = classic.pack([Instruction(classic.RETURN_K, 0, 0, Action.USER_NOTIF)])
"""The filter that asks about every call."""


class Step(IntEnum):
    """What failed, in numbers of the runner (STEP_* in native/record.h)."""

    NONE = 0
    CONFIG = 1
    CLONE = 2
    FILTER = 3
    EXEC = 4
    MEMORY = 5
    CONTINUE = 6


class Happening(IntEnum):
    """What the runner noticed (EVENT_* in native/record.h)."""

    OWN_FILTER = 1
    SECOND_LISTENER = 2
    STRICT = 3
    LEFT_OVER = 4


class _Outcome(NamedTuple):
    """struct outcome of native/record.h."""

    version: int
    step: int
    error: int
    status: int
    timed_out: int
    stopped: int
    gave_up: int
    """Privileges, for no_new_privs."""
    lost: int
    n_uses: int
    n_events: int
    calls: int
    took_us: int


class _Event(NamedTuple):
    """struct event of native/record.h."""

    kind: int
    pid: int
    value: int
    of: int
    comm: bytes

    @property
    def who(self) -> str:
        return printable(self.comm.partition(b"\0")[0].decode(errors="replace")) or str(self.pid)


class InterruptedRecordingError(Exception):
    """Somebody stopped it; ``found`` is what was seen until then."""

    def __init__(self, found: Recording, cause: KeyboardInterrupt) -> None:
        super().__init__(found, cause)
        self.found = found
        self.cause = cause


class How(Struct, frozen=True):
    """What the runner does with a command."""

    timeout_s: float
    filters: tuple[bytes, ...] = ()
    """Put on before the command starts, as they are."""
    asks: bytes = ASKS
    """The filter that asks about calls; empty to record nothing."""
    answer: int = 0
    """The errno that a call gets which was asked about; 0 lets it go on."""
    answers: Mapping[tuple[str, str], int] = {}
    """Other answers, by ABI and name."""
    forward: int = 0
    """A signal that the runner passes on to the command; 0: none."""


CUT_OFF = "was still running when its time was up"
SUCCEEDED = "exited with 0"


class Ran(Struct, frozen=True):
    """One run of a command."""

    uses: tuple[Use, ...]
    """In the order of their first call."""
    calls: int
    notes: tuple[str, ...]
    end: str
    """How it ended, in words."""
    took_s: float


def record(command: Sequence[str], timeout_s: float) -> Recording:
    """One recorded run.

    ``InputError`` where the command cannot be started, ``EnvironmentLackError`` where the kernel
    has no listener for us, ``InterruptedRecordingError`` on Ctrl-C, when all its processes are
    gone.
    """
    ran, stopped = run(command, How(timeout_s))
    found = recording(command, ran.uses, ran.notes, ran.end)
    if stopped is not None:
        raise InterruptedRecordingError(found, stopped)
    return found


def run(command: Sequence[str], how: How) -> tuple[Ran, KeyboardInterrupt | None]:
    """Runs the command once, and says whether somebody stopped it."""
    path = _path_of(command)
    with contextlib.ExitStack() as stack:
        config = _memory_file(encode(how))
        stack.callback(os.close, config)
        read_end, write_end = os.pipe()
        stack.callback(os.close, read_end)
        try:
            process = subprocess.Popen(
                [str(runner_path()), "record", str(config), str(write_end), path, *command],
                stdin=_input(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(config, write_end),
            )
        except OSError as error:
            raise EnvironmentLackError(
                f"cannot start the native runner: {error.strerror}"
            ) from error
        finally:
            os.close(write_end)
        stack.enter_context(process)
        stack.callback(process.kill)
        report, stopped = _collect(process, read_end, how.timeout_s)
    return decode(report, command), stopped


def _path_of(command: Sequence[str]) -> str:
    """What to exec, found as a shell would."""
    if not command or not command[0]:
        raise InputError("no command: write it behind --")
    if any("\0" in word for word in command):
        raise InputError("a null byte in the command")
    name = command[0]
    if "/" in name:
        return name
    found = shutil.which(name)
    if found is None:
        raise InputError(f"{name}: command not found on PATH")
    return found


def _input() -> int:
    """A file on our stdin is the command's, from its beginning; otherwise it reads nothing."""
    try:
        if stat.S_ISREG(os.fstat(0).st_mode):
            os.lseek(0, 0, os.SEEK_SET)
            return 0
    except OSError:
        pass
    return subprocess.DEVNULL


def _memory_file(content: bytes) -> int:
    descriptor = os.memfd_create("sidestep-record")
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def encode(how: How) -> bytes:
    """The struct record_config of native/record.h, and what follows it."""
    kept = [_encode_kept(abi, one, how) for abi in ABIS for one in KEPT if one.on(abi)]
    own = {(abi, one.call) for abi in ABIS for one in KEPT if one.on(abi)}
    for (abi, call), answer in how.answers.items():
        number = x86_64.number(abi, call)
        if (abi, call) not in own and number is not None:
            kept.append(_KEPT.pack(x86_64.arch(abi), number, 0, answer, *(0,) * 7))
    head = _CONFIG.pack(
        len(kept),
        MOST_VALUES,
        len(how.filters),
        how.answer,
        int(how.timeout_s * 1e6),
        int(GRACE_S * 1e6),
        len(how.asks),
        how.forward,
    )
    filters = b"".join(struct.pack("<II", len(one), 0) + one for one in how.filters)
    return head + b"".join(kept) + filters + how.asks


def _encode_kept(abi: str, one: Kept, how: How) -> bytes:
    number = x86_64.number(abi, one.call)
    assert number is not None
    answer = how.answers.get((abi, one.call), how.answer)
    masks = [_WORD if index in one.indices else 0 for index in range(ARGUMENTS)]
    when = 0 if one.only is None else 1
    return _KEPT.pack(x86_64.arch(abi), number, when, answer, one.only or 0, *masks)


def _collect(
    process: subprocess.Popen[bytes], report: int, timeout_s: float
) -> tuple[bytes, KeyboardInterrupt | None]:
    """The runner's report; what the command prints goes to stderr, up to a limit."""
    assert process.stdout is not None
    collected = bytearray()
    stopped: KeyboardInterrupt | None = None
    passed_on = _Output()
    end = time.monotonic() + timeout_s + 2 * GRACE_S + _PATIENCE_S
    with selectors.DefaultSelector() as selector:
        selector.register(report, selectors.EVENT_READ, collected.extend)
        selector.register(process.stdout, selectors.EVENT_READ, passed_on)
        while report in selector.get_map():
            try:  # around all of the loop: an interruption may come between two reads
                while report in selector.get_map():
                    _read_ready(selector, max(0.0, end - time.monotonic()))
                    if time.monotonic() > end or len(collected) > _LARGEST_REPORT:
                        raise HarnessError("the runner does not come to an end")
            except KeyboardInterrupt as error:
                stopped = error
                process.terminate()  # it ends all processes of the command, and reports
        _drain(process.stdout.fileno(), passed_on)
    passed_on.close()
    return bytes(collected), stopped


def _read_ready(selector: selectors.BaseSelector, timeout_s: float) -> None:
    for key, _ in selector.select(timeout_s):
        data = os.read(key.fd, 1 << 18)
        sink: Callable[[bytes], None] = key.data
        if data:
            sink(data)
        else:
            selector.unregister(key.fileobj)


def _drain(descriptor: int, sink: Callable[[bytes], None]) -> None:
    """What still lies in the pipe; nobody of the command is left to write more."""
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while data := os.read(descriptor, 1 << 18):
            sink(data)


class _Output:
    """What the command prints, passed on to stderr until it is too much."""

    def __init__(self) -> None:
        self._left = MOST_OUTPUT
        self._dropped = 0

    def __call__(self, data: bytes) -> None:
        shown, self._left = data[: self._left], max(0, self._left - len(data))
        self._dropped += len(data) - len(shown)
        self._write(shown)

    def close(self) -> None:
        if self._dropped:
            self._write(
                f"\nsidestep: {self._dropped:,} more bytes of its output are not shown\n".encode()
            )

    @staticmethod
    def _write(data: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.buffer.write(data)
            sys.stderr.buffer.flush()


def decode(report: bytes, command: Sequence[str]) -> Ran:
    """What the runner wrote about one run.

    ``InputError`` where the command could not be started, ``EnvironmentLackError`` where nothing
    can be recorded, ``HarnessError`` where the report is not whole.
    """
    if len(report) < _OUTCOME.size:
        raise HarnessError(
            "the recorder ended without a report: did the command kill it, its own parent?"
        )
    head = _Outcome(*_OUTCOME.unpack_from(report))
    uses_end = _OUTCOME.size + head.n_uses * _USE.size
    if head.version != _VERSION or len(report) != uses_end + head.n_events * _EVENT.size:
        raise HarnessError("the runner's report is not whole")
    _refuse(Step(head.step), head.error, command)
    events = [_Event(*fields) for fields in _EVENT.iter_unpack(report[uses_end:])]
    own = any(one.kind == Happening.OWN_FILTER for one in events)
    raw = sorted(_USE.iter_unpack(report[_OUTCOME.size : uses_end]), key=itemgetter(-1))
    return Ran(
        uses=tuple(_use(one, own_filter=own) for one in raw),
        calls=head.calls,
        notes=(*_notes_of(events), *_shortcomings(head)),
        end=_end(head),
        took_s=head.took_us / 1e6,
    )


def _refuse(step: Step, error: int, command: Sequence[str]) -> None:
    why = f"{errno_name(error)} ({os.strerror(error)})"
    match step:
        case Step.NONE:
            return
        case Step.EXEC:
            raise InputError(f"{command[0]}: cannot be executed: {os.strerror(error)}")
        case Step.FILTER if error == errno.EBUSY:
            raise EnvironmentLackError(
                "cannot record: this process is itself under a filter with a listener, and the "
                "kernel allows one (EBUSY): start sidestep outside it"
            )
        case Step.CONTINUE:
            raise EnvironmentLackError("cannot record: that takes Linux 5.5 or newer")
        case Step.FILTER:
            raise EnvironmentLackError(
                f"cannot record: the kernel refuses a filter with a listener: {why}"
            )
        case _:
            raise HarnessError(f"the runner failed at {step.name}: {why}")


def _use(raw: tuple[int, ...], *, own_filter: bool) -> Use:
    arch, nr, has_filter, folded, *rest = raw
    abi = x86_64.abi_of(arch, nr) or "x86_64"
    call = x86_64.name(abi, nr) or str(nr)
    args = NO_ARGUMENTS if folded else kept(abi, call, rest[:ARGUMENTS])
    return Use(abi, call, args, 1, before_own_filter=own_filter and not has_filter)


def _end(head: _Outcome) -> str:
    if head.timed_out:
        return CUT_OFF
    if head.stopped:
        return "was stopped"
    if os.WIFSIGNALED(head.status):
        return f"was killed by {signal_name(os.WTERMSIG(head.status))}"
    return f"exited with {os.WEXITSTATUS(head.status)}"


def _notes_of(events: Sequence[_Event]) -> Iterator[str]:
    """What a reader of the recording should know of the program."""
    # Each thread that puts a filter on says how many are left; the last has the last word.
    last = {one.pid: one for one in events if one.kind == Happening.OWN_FILTER}
    for who, threads in dict.fromkeys((one.who, (one.value, one.of)) for one in last.values()):
        without, of = threads
        left = f"; {without} of its {of} threads were left without it" if without else ""
        yield f"{who} puts on a filter of its own{left}"
    for who in dict.fromkeys(one.who for one in events if one.kind == Happening.SECOND_LISTENER):
        yield (
            f"{who} asked for a listener of its own and got EBUSY: the kernel allows one, and it "
            "is recording"
        )
    for who in dict.fromkeys(one.who for one in events if one.kind == Happening.STRICT):
        yield f"{who} asked for seccomp's strict mode, which the kernel refuses beside a filter"
    left_over = [one.who for one in events if one.kind == Happening.LEFT_OVER]
    if left_over:
        names = ", ".join(dict.fromkeys(left_over))
        yield (
            f"{len(left_over)} of its processes outlived it by {GRACE_S:g} s and were killed: "
            f"{names}"
        )


def _shortcomings(head: _Outcome) -> Iterator[str]:
    if head.gave_up:
        yield NO_NEW_PRIVS
    if head.lost:
        yield f"too many different calls: {head.lost} are missing"
    if head.timed_out and os.WIFSIGNALED(head.status) and os.WTERMSIG(head.status) == _SIGKILL:
        yield "it did not end on SIGTERM and was killed"
