"""The frames between Python and the runner: programs, configurations, requests, results.

A frame is a 32-bit type and a 32-bit length, both little-endian, then the payload.  Every payload
begins with a fixed structure that ``runner.c`` declares under the same name; the runner's first
frame (HELLO) carries the sizes of its structures, and a difference is a stale runner.  What comes
from the runner is checked here before anything else looks at it: the trace is the subject's claim
and may hold anything.
"""

from __future__ import annotations

import errno
import functools
import signal
import struct
from collections.abc import Callable, Sequence
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple, assert_never, cast, overload

from msgspec import Struct

from attacks.effects import Object, ObjectKind
from attacks.program import (
    Add,
    Addr,
    Call,
    Compare,
    Const,
    Copy,
    Entry,
    Env,
    Environment,
    Expect,
    Fault,
    Find,
    Load,
    Operation,
    Print,
    Program,
    Slot,
    Store,
    Syscall,
    Value,
    Wait,
    is_decisive,
    size_of,
    spawns,
)
from evaluator.errors import HarnessError
from mitigations.candidate import LandlockLayer

VERSION = 8
MAX_FRAME = 4 * 1024 * 1024


class Frame(IntEnum):
    HELLO = 1
    PROGRAM = 2
    CONFIG = 3
    RUN = 4
    PROBE = 5
    RELEASE = 6
    RESULT = 7
    STATUS = 8
    ERROR = 9
    NOTE = 10
    """For whoever reads the results: the runner gives it back as it is."""


class Step(IntEnum):
    """Where the runner failed; the values are ``X_...`` of runner.c."""

    NONE = 0
    CLONE_JUDGE = 1
    SETGROUPS = 2
    UID_MAP = 3
    GID_MAP = 4
    SETRESUID = 5
    PRIVATE = 6
    TMPFS = 7
    BIND = 8
    PROC = 9
    PIVOT = 10
    SCRATCH = 11
    CLONE_INIT = 12
    INIT_MAPS = 13
    INIT_MOUNT = 14
    INIT_PROC = 15
    INIT_PIVOT = 16
    LOOPBACK = 17
    NAMESPACES = 18
    SHARED_MEMORY = 19
    FORK = 20
    SEIZE = 21
    JOIN = 22
    FRESH = 23
    POSTURE = 24
    SETUP = 25
    LOADER = 26
    LOAD = 27
    GATE_DIED = 28
    GATE_WAIT = 29
    FIXTURE = 30
    SUBJECT = 31
    VICTIM = 32
    PROTOCOL = 33
    SCRATCH_LOST = 34
    STATUS = 35
    WITNESS = 36
    GATE_KILLED = 37
    """The error is the number of a signal."""
    NO_TMPFS = 38
    UNCONFINED = 39
    ORACLE = 40
    NEEDS_READ = 41
    """With an error of 0 the performer died of asking for it; so for the next four."""
    NEEDS_MMAP = 42
    NEEDS_CLONE = 43
    NEEDS_WAIT = 44
    NEEDS_TIMER = 45
    PERFORMER = 46
    LEFT_OVER = 47
    READ_ONLY = 48
    LABEL = 49
    NEEDS_KILL = 50


class ProgramFlag(IntFlag):
    NONE = 0
    SWEEP = 1
    WATCH_PROCESS = 2
    WATCH_EXEC = 4
    WATCH_MAPPED = 8
    CORE = 16
    COLLECT = 32
    DIRECT = 64
    VICTIM = 128
    NO_NEW_PRIVS = 256
    SPREAD = 512
    STAY = 1024
    """The subject is still there when the witness looks."""
    WATCH_CODE = 2048
    SECRET = 4096
    """There is a secret, and the arena is searched for it afterwards."""
    CUSTOMER = 8192
    """The witness is a customer: it runs once beside the subject, whose service ends with it."""
    VDSO = 16384
    """It may look for the vDSO, which the usual subject does not have."""


class RunFlag(IntFlag):
    NONE = 0
    SLOW = 1
    DIAGNOSE = 2
    """The filters answer every denial with a trap: note the call, and give the real answer."""
    GLANCE = 4
    """Nothing is expected: the witness does not wait long for it."""


class Mode(IntEnum):
    """How the subject came under the filter."""

    NONE = 0
    GATE = 1
    FRESH_GATE = 2
    DIRECT = 3


class RecordState(IntEnum):
    NOT_REACHED = 0
    STARTED = 1
    DONE = 2
    MISMATCH = 3
    TIMEOUT = 4


_FRAMES = {int(kind): kind for kind in Frame}
_HEAD = struct.Struct("<II")
_OP = struct.Struct("<BBBBIII8s6Q")
_RECORD = struct.Struct("<I4x7Q")
_OBJECT = struct.Struct("<IIII64s")
_NUMBERS = struct.Struct("<2I")
_PROGRAM = struct.Struct("<10I16s64s64s64s64s64s")
_PROGRAMS_KEPT = 4096
_CONFIG = struct.Struct("<IIIIQQQII")
_LAYER = struct.Struct("<IIII")
_RULESET = struct.Struct("<4Q")
_RULE = struct.Struct("<QII240s")
_BENEATH, _PORT = 1, 2
_REQUEST = struct.Struct("<6I")
_SEEN = struct.Struct("<iIQQIII4xQQ")
_LOOKS = {"path": 0, "by_fd": 1, "followed": 2, "held": 3}
"""In this order they come, before the two numbers and the names."""
_COUNTS = struct.Struct("<QI4x")
_NAME = struct.Struct("<QB31s")
_DENIED = struct.Struct("<IIiI6Q")
_TRUTH = struct.Struct("<4I3Q")
_REPLY = struct.Struct("<IIIi19I4x")
_HELLO = struct.Struct("<IIiI6IQQ")
_STATUS = struct.Struct("<IiII")
_NAMES = 8
_FACTS_SIZE = len(_LOOKS) * _SEEN.size + _COUNTS.size + _NAMES * _NAME.size
_REPLY_SIZE = _REPLY.size + _TRUTH.size + 2 * _FACTS_SIZE
_SIZES = (
    _OP.size,
    _RECORD.size,
    _REPLY_SIZE,
    _NUMBERS.size + _PROGRAM.size,
    _CONFIG.size,
    _REQUEST.size,
)

_KINDS = {
    Syscall: 1,
    Load: 2,
    Store: 3,
    Add: 4,
    Print: 5,
    Wait: 6,
    Call: 7,
    Expect: 8,
    Fault: 9,
    Copy: 10,
    Compare: 11,
    Find: 12,
}
_ENTRIES = {
    Entry.SYSCALL: 0,
    Entry.INT80: 1,
    Entry.SYSENTER: 2,
    Entry.FAR_INT80: 3,
    Entry.WIDE_SYSCALL: 4,
}
_ENVIRONMENT = {
    Environment.VICTIM_PID: 0,
    Environment.SUBJECT_PID: 1,
    Environment.VICTIM_HOOK: 2,
    Environment.SYSCALL_INSN: 3,
    Environment.HANDLER: 4,
    Environment.RESTORER: 5,
    Environment.CAUGHT: 6,
    Environment.SECRET: 7,
    Environment.ID_OFFSET: 8,
}
_OBJECTS = {
    ObjectKind.DIRECTORY: 0,
    ObjectKind.FILE: 1,
    ObjectKind.PROBE: 1,
    ObjectKind.PROBE32: 1,
    ObjectKind.IMAGE: 1,
    ObjectKind.SYMLINK: 2,
    ObjectKind.FIFO: 3,
    ObjectKind.ANCESTOR: 4,
}
_U64 = (1 << 64) - 1
_MAY_FAIL, _BODY, _DECISIVE = 1, 2, 4

NumberOf = Callable[[str, str], int | None]
"""(abi, call name) -> number, as ``mitigations.x86_64.number``."""


def frame(kind: Frame, payload: bytes) -> bytes:
    return _HEAD.pack(kind, len(payload)) + payload


def head(data: bytes, at: int = 0) -> tuple[Frame, int]:
    """The type and length of a frame; ``HarnessError`` for nonsense."""
    kind, length = _HEAD.unpack_from(data, at)
    found = _FRAMES.get(kind)
    if length > MAX_FRAME or found is None:
        raise HarnessError(f"the runner sent nonsense: frame type {kind}, length {length}")
    return found, length


class ProgramSpec(Struct, frozen=True, eq=False):
    """Everything that the runner must know of one variant."""

    program: Program
    objects: tuple[Object, ...] = ()
    parent: str = "d"
    name: str = "t"
    flags: ProgramFlag = ProgramFlag.NONE
    fresh: int = 0
    """CLONE_NEW* flags of namespaces that each trial gets new."""
    magic: bytes = bytes(16)
    collect: str = ""
    witness: ProgramSpec | None = None
    """What looks for the effect: ``setup`` is done once, ``attack`` before and after."""
    receipt: str = ""
    """A file that the customer writes."""
    report: str = ""
    """A file that a recorder writes."""
    stop: int = 0
    """The signal that the subject gets when its customer has ended."""


def encode_program(
    number: int,
    spec: ProgramSpec,
    number_of: NumberOf,
    witness: int | None = None,
    *,
    patience: int = 1,
) -> bytes:
    """A PROGRAM frame; ``HarnessError`` if a call has no number on its ABI.

    ``witness`` is the number under which the runner knows ``spec.witness``.  ``patience``: so many
    times longer than it says a program waits for a word, where the machine is that much slower.
    """
    head = _NUMBERS.pack(number, 0 if witness is None else witness + 1)
    return frame(Frame.PROGRAM, head + _encoded(spec, number_of, patience))


_PATIENT_US = 800_000
"""Less than what one arm of a trial may take: who waits so long says himself that he did."""


@functools.lru_cache(_PROGRAMS_KEPT)
def _encoded(spec: ProgramSpec, number_of: NumberOf, patience: int) -> bytes:
    """What is the same for every runner, and told to most of them."""
    program = spec.program
    flat = program.flatten()
    setup_end = sum(map(size_of, program.setup))
    victim_end = setup_end + sum(map(size_of, program.victim))
    contents = bytearray()
    objects = bytearray()
    for one in spec.objects:
        data = one.content + (b"\0" if one.kind is ObjectKind.SYMLINK else b"")
        path = _text(one.path, 64)
        objects += _OBJECT.pack(_OBJECTS[one.kind], one.mode, len(contents), len(data), path)
        contents += data
    arena = program.arena()
    layout = program.layout()
    ops = b"".join(_encode_op(op, layout, number_of, patience) for _, op in flat)
    fixed = _PROGRAM.pack(
        spec.flags,
        spec.fresh,
        len(spec.objects),
        len(contents),
        len(arena),
        setup_end,
        victim_end,
        len(flat),
        len(flat),
        spec.stop,
        spec.magic,
        _text(spec.parent, 64),
        _text(spec.name, 64),
        _text(spec.collect, 64),
        _text(spec.receipt, 64),
        _text(spec.report, 64),
    )
    return fixed + bytes(objects) + _padded(contents) + _padded(arena) + ops


def _text(text: str, size: int) -> bytes:
    data = text.encode()
    if len(data) >= size:
        raise HarnessError(f"a path of a trial is longer than {size - 1} bytes: {text!r}")
    return data


def _padded(data: bytes | bytearray) -> bytes:
    return bytes(data) + bytes(-len(data) % 8)


def _encode_op(
    op: Operation, layout: Sequence[int], number_of: NumberOf, patience: int = 1
) -> bytes:
    entry = width = nr = bound = inside = 0
    flags = _DECISIVE * is_decisive(op)
    values: Sequence[Value]
    match op:
        case Syscall():
            entry = _ENTRIES[op.entry]
            flags |= _MAY_FAIL * op.may_fail
            if op.body:
                flags |= _BODY * spawns(op)
                inside = size_of(op) - 1
            nr = call_number(op, number_of)
            values = op.args
        case Load():
            width, values = op.width, (op.address, Const(op.offset))
        case Store():
            width, values = op.width, (op.address, Const(op.offset), op.value)
        case Add():
            values = (op.a, op.b)
        case Copy():
            values = (op.address, op.source, op.size)
        case Compare():
            values = (op.a, op.b, op.size)
        case Find():
            values = (op.address, op.size, op.wanted, op.wanted_size)
        case Print():
            values = (op.address, op.value, op.suffix)
        case Wait():
            longest = max(op.bound_us, _PATIENT_US)
            bound = min(op.bound_us * patience, longest)
            values = (op.address, Const(op.offset), op.value)
        case Call():
            values = (op.address,)
        case Expect():
            values = (op.value, Const(op.mask), Const(op.equals))
        case Fault():
            values = ()
        case _:
            assert_never(op)
    kinds, words = bytearray(8), [0] * 6
    for n, value in enumerate(values):
        kinds[n], words[n] = _encode_value(value, layout)
    return _OP.pack(
        _KINDS[type(op)],
        entry,
        flags,
        width,
        nr,
        inside,
        bound,
        kinds,
        *words,
    )


def _encode_value(value: Value, layout: Sequence[int]) -> tuple[int, int]:
    match value:
        case Const():
            return 0, value.value & _U64
        case Addr():
            return 1, layout[value.blob] + value.offset
        case Slot():
            return 2, value.index
        case Env():
            return 3, _ENVIRONMENT[value.name]
        case _:
            assert_never(value)


def call_number(op: Syscall, number_of: NumberOf) -> int:
    """The number of a call on its ABI, as it goes into eax."""
    nr = number_of(op.abi, op.name)
    if nr is None:
        raise HarnessError(f"no number for the call {op.name!r} on {op.abi.value}")
    return nr & 0xFFFFFFFF


class Filter(Struct, frozen=True):
    """One seccomp filter as the runner loads it; ``flags`` are those of seccomp(2)."""

    program: bytes
    flags: int = 0


class ConfigSpec(Struct, frozen=True):
    """A posture and the layers on top of it; without layers it is the control arm."""

    uid: int
    gid: int
    capabilities: int
    no_new_privs: bool
    filters: tuple[Filter, ...] = ()
    kept: int | None = None
    """What a layer leaves of the capabilities, as the bits of capset(2); None: all of them."""
    rulesets: tuple[LandlockLayer, ...] = ()
    """Put on before the filters; they need no_new_privs."""
    writable: tuple[str, ...] | None = None
    """All mounts are read-only but ``/dev``, ``/proc`` and these paths; None: as they are."""
    apparmor: str = ""
    """The name of a profile that is loaded, of at most 239 bytes; empty: none."""

    @property
    def capabilities_left(self) -> int:
        """What the subject has in the end."""
        return self.capabilities if self.kept is None else self.capabilities & self.kept


def encode_config(number: int, spec: ConfigSpec) -> bytes:
    """A CONFIG frame."""
    rulesets = [_encoded_ruleset(one) for one in spec.rulesets]
    layers = b"".join(_LAYER.pack(2, 0, len(data), 0) + data for data in rulesets)
    if spec.writable is not None:
        data = _encoded_writable(spec.writable)
        layers += _LAYER.pack(3, 0, len(data), 0) + data
    if spec.apparmor:
        layers += _LAYER.pack(4, 0, 240, 0) + struct.pack("240s", _text(spec.apparmor, 240))
    layers += b"".join(
        _LAYER.pack(1, one.flags, len(one.program), 0) + one.program for one in spec.filters
    )
    fixed = _CONFIG.pack(
        number,
        spec.uid,
        spec.gid,
        spec.no_new_privs,
        spec.capabilities,
        spec.capabilities,
        _U64 if spec.kept is None else spec.kept,
        len(spec.filters) + len(spec.rulesets) + (spec.writable is not None) + bool(spec.apparmor),
        0,
    )
    return frame(Frame.CONFIG, fixed + layers)


def _encoded_ruleset(one: LandlockLayer) -> bytes:
    rules = [
        _RULE.pack(access, _BENEATH, 0, _text(path, 240)) for path, access in one.path_rules
    ] + [_RULE.pack(access, _PORT, port, b"") for port, access in one.port_rules]
    head = _RULESET.pack(one.handled_fs, one.handled_net, one.scoped, len(rules))
    return head + b"".join(rules)


def _encoded_writable(paths: Sequence[str]) -> bytes:
    return struct.pack("<Q", len(paths)) + b"".join(
        struct.pack("240s", _text(one, 240)) for one in paths
    )


class Request(NamedTuple):
    """One arm of one trial."""

    tag: int
    program: int
    config: int
    victim_config: int
    timeout_us: int
    flags: RunFlag = RunFlag.NONE


def encode_run(requests: Sequence[Request]) -> bytes:
    """A RUN frame; the runner answers each request with one RESULT, in order."""
    return frame(
        Frame.RUN,
        b"".join(
            _REQUEST.pack(r.tag, r.program, r.config, r.victim_config, r.flags, r.timeout_us)
            for r in requests
        ),
    )


class Hello(Struct, frozen=True):
    """The runner's first words: whether it stands, and addresses that programs may use."""

    step: Step
    error: int
    many_ids: bool
    victim_hook: int
    syscall_insn: int


def decode_hello(payload: bytes) -> Hello:
    if len(payload) != _HELLO.size:
        raise HarnessError(
            "the runner and this Python are of different versions: run `make native`"
        )
    version, step, error, many, *rest = _HELLO.unpack(payload)
    if version != VERSION or tuple(rest[:6]) != _SIZES:
        raise HarnessError(
            "the runner and this Python are of different versions: run `make native`"
        )
    return Hello(_step(step), error, bool(many), rest[6], rest[7])


def _step(number: int) -> Step:
    return _STEPS.get(number, Step.PROTOCOL)


class Seen(NamedTuple):
    """lstat, stat or fstat as the judge saw it; ``error`` is an errno, 0 if there was something."""

    error: int
    mode: int
    ino: int
    dev: int
    nlink: int
    uid: int
    gid: int
    size: int
    mtime_ns: int


class Name(NamedTuple):
    ino: int
    type: int
    name: str


class Facts(NamedTuple):
    """What the oracle sees at one moment.

    ``path``: lstat by path; ``by_fd``: lstat by a descriptor of the parent that was opened before
    the attack; ``followed``: stat by path; ``held``: the inode that the target's path led to
    before; ``watermark``: inode numbers above it were made later; ``names``: of the parent, at most
    eight.
    """

    path: Seen
    by_fd: Seen
    followed: Seen
    held: Seen
    watermark: int
    n_names: int
    names: tuple[Name, ...]


class Truth(NamedTuple):
    """The subject's /proc/PID/status: what is really in force."""

    seccomp: int
    filters: int
    no_new_privs: int
    known: bool
    effective: int
    permitted: int
    bounding: int


class Record(Struct, frozen=True, gc=False):
    """One operation as the subject says it ran."""

    state: RecordState
    result: int
    args: tuple[int, ...]

    @property
    def error(self) -> int:
        """The errno of a call that failed, else 0."""
        return (1 << 64) - self.result if self.result >= (1 << 64) - 4095 else 0


class Denied(NamedTuple):
    """A call that the filters denied in a diagnosis; ``answer`` is an errno, or ``KILLED``."""

    nr: int
    arch: int
    answer: int
    in_subject: bool
    args: tuple[int, ...]


KILLED = 0xFFFF


class Result(Struct, frozen=True):
    """One arm of one trial."""

    tag: int
    ok: bool
    step: Step
    error: int
    mode: Mode
    wait_status: int
    timed_out: bool
    latency_us: int
    saw_process: bool
    saw_exec: bool
    saw_mapped: bool
    saw_code: bool
    learned: bool
    """The secret is in the subject's arena."""
    witness_before: bool
    witness_after: bool
    truth: Truth
    before: Facts
    after: Facts
    records: Sequence[Record]
    collected: bytes
    denied: tuple[Denied, ...] = ()
    """In a diagnosis: what the filters denied, in all processes, in order."""
    served: bool = False
    """The customer came to its end before the subject did."""
    customer_status: int = 0
    """Its wait status, if so."""
    receipt: bytes = b""
    """What the customer wrote."""
    report: bytes = b""
    """What a recorder wrote."""
    filled: bool = False
    """The scratch had no room left at the end."""

    @property
    def signal(self) -> int:
        """The signal that the subject died of, 0 if it did not."""
        return self.wait_status & 0x7F

    @property
    def trouble(self) -> str:
        """What went wrong in the harness, in words."""
        if self.step is Step.GATE_KILLED:
            return f"the process that loads the layers died of {signal_name(self.error)}"
        name = errno.errorcode.get(self.error, str(self.error)) if self.error else ""
        return f"{self.step.name.lower().replace('_', ' ')} {name}".strip()


def decode_result(payload: bytes) -> Result:
    """A RESULT; ``HarnessError`` if its lengths do not fit together."""
    if len(payload) < _REPLY_SIZE:
        raise HarnessError(f"the runner sent a result of {len(payload)} bytes")
    fixed = _REPLY.unpack_from(payload)
    tag, status, step, error, mode, wait_status, timed_out, latency, n_records, collected = fixed[
        :10
    ]
    n_denied = fixed[13]
    end = _REPLY_SIZE + n_records * _RECORD.size
    receipt_at = end + collected
    report_at = receipt_at + fixed[20]
    denied_at = report_at + fixed[22]
    if denied_at + n_denied * _DENIED.size != len(payload):
        raise HarnessError("the runner sent a result whose length does not fit")
    facts_at = _REPLY.size + _TRUTH.size
    truth = _TRUTH.unpack_from(payload, _REPLY.size)
    return Result(
        tag=tag,
        ok=status == 0,
        step=_step(step),
        error=error,
        mode=_MODES.get(mode, Mode.NONE),
        wait_status=wait_status,
        timed_out=bool(timed_out),
        latency_us=latency,
        saw_process=bool(fixed[10]),
        saw_exec=bool(fixed[11]),
        saw_mapped=bool(fixed[12]),
        saw_code=bool(fixed[14]),
        learned=bool(fixed[15]),
        witness_before=bool(fixed[16]),
        witness_after=bool(fixed[17]),
        truth=Truth(truth[0], truth[1], truth[2], bool(truth[3]), *truth[4:]),
        before=cast(Facts, _LazyFacts(payload, facts_at)),
        after=cast(Facts, _LazyFacts(payload, facts_at + _FACTS_SIZE)),
        records=_LazyRecords(payload, n_records),
        collected=payload[end:receipt_at],
        denied=tuple(
            _decode_denied(payload, denied_at + i * _DENIED.size) for i in range(n_denied)
        ),
        served=bool(fixed[18]),
        customer_status=fixed[19],
        receipt=payload[receipt_at:report_at],
        report=payload[report_at:denied_at],
        filled=bool(fixed[21]),
    )


_SIGNALS = {int(one): one.name for one in signal.Signals}  # real-time signals have no name


def signal_name(number: int) -> str:
    return _SIGNALS.get(number, f"signal {number}")


class _LazyFacts:
    """Facts, each decoded when first looked at: of most results nobody reads more than one."""

    def __init__(self, payload: bytes, at: int) -> None:
        self._payload = payload
        self._at = at

    def __getattr__(self, name: str) -> Any:
        """Asked for what is not there yet: from then on it is."""
        if name not in Facts._fields:
            raise AttributeError(name)
        found = _decode_fact(name, self._payload, self._at)
        setattr(self, name, found)
        return found


class _LazyRecords(Sequence[Record]):
    """The trace, decoded when somebody first looks at it."""

    __slots__ = ("_decoded", "_length", "_payload")

    def __init__(self, payload: bytes, length: int) -> None:
        self._payload = payload
        self._length = length
        self._decoded: list[Record] | None = None

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if self._decoded is None:
            self._decoded = _decode_records(self._payload, self._length)
        return self._decoded[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)  # pyright: ignore[reportUnknownArgumentType] - any sequence

    def __hash__(self) -> int:
        return hash(tuple(self))


_STATES = {int(state): state for state in RecordState}
_STEPS = {int(step): step for step in Step}
_MODES = {int(mode): mode for mode in Mode}


def _decode_records(payload: bytes, length: int) -> list[Record]:
    trace = memoryview(payload)[_REPLY_SIZE : _REPLY_SIZE + length * _RECORD.size]
    return [
        Record(_STATES.get(state, RecordState.NOT_REACHED), result, tuple(args))
        for state, result, *args in _RECORD.iter_unpack(trace)
    ]


def _decode_denied(payload: bytes, at: int) -> Denied:
    nr, arch, answer, own, *args = _DENIED.unpack_from(payload, at)
    return Denied(nr, arch, answer, bool(own), tuple(args))


def _decode_fact(name: str, payload: bytes, at: int) -> Seen | tuple[Name, ...] | int:
    if name in _LOOKS:
        words = _SEEN.unpack_from(payload, at + _LOOKS[name] * _SEEN.size)
        return absent(words[0]) if words[0] else Seen._make(words)
    counts: tuple[int, int] = _COUNTS.unpack_from(payload, at + len(_LOOKS) * _SEEN.size)
    watermark, n_names = counts
    if name != "names":
        return n_names if name == "n_names" else watermark
    names_at = at + _FACTS_SIZE - _NAMES * _NAME.size
    return tuple(
        _decode_name(payload, names_at + i * _NAME.size) for i in range(min(n_names, _NAMES))
    )


@functools.cache
def absent(error: int) -> Seen:
    """Nothing was there: one object for each errno, as this is what most looks find."""
    return Seen(error, 0, 0, 0, 0, 0, 0, 0, 0)


def _decode_name(payload: bytes, at: int) -> Name:
    ino, kind, name = _NAME.unpack_from(payload, at)
    return Name(ino, kind, name.split(b"\0")[0].decode(errors="replace"))


class ParkedStatus(Struct, frozen=True):
    """A subject parked under a configuration: its pid as the judge sees it, its status file."""

    step: Step
    error: int
    pid: int
    text: str
    said: str = ""
    """Why there is none, in the words of a runtime; empty where the step says it."""


def decode_status(payload: bytes) -> ParkedStatus:
    if len(payload) < _STATUS.size:
        raise HarnessError("the runner sent a status that is too short")
    step, error, pid, length = _STATUS.unpack_from(payload)
    text = payload[_STATUS.size :]
    if len(text) != length:
        raise HarnessError("the runner sent a status whose length does not fit")
    return ParkedStatus(_step(step), error, pid, text.decode(errors="replace"))
