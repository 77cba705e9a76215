"""What comes from the runner is checked: nonsense is one error, and in bounded time."""

import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks.program import Addr, Blob, Const, Program, Syscall
from evaluator import sandbox, wire
from evaluator.errors import EnvironmentLackError, HarnessError, SidestepError
from evaluator.pool import Arm, Pool
from evaluator.sandbox import Sandbox
from evaluator.wire import Frame, Mode, RecordState, Step
from mitigations import x86_64

MKDIR = Program(
    blobs=(Blob(b"d/t\0", 4),), attack=(Syscall("mkdir", (Addr(0), Const(0o755)), decisive=True),)
)
SPEC = wire.ProgramSpec(MKDIR)
CONFIG = wire.ConfigSpec(0, 0, 0, no_new_privs=False)

# The structures of runner.c, packed here once more by hand.
SEEN = struct.Struct("<iI2Q4I2Q")
NAME = struct.Struct("<QB31s")


def facts(*, watermark: int = 7, names: tuple[tuple[int, int, bytes], ...] = ()) -> bytes:
    seen = b"".join(SEEN.pack(0, 0o40755, 10 + k, 1, 2, 0, 0, 0, 4096, 99) for k in range(4))
    slots = [NAME.pack(*name) for name in names] + [bytes(NAME.size)] * (8 - len(names))
    return seen + struct.pack("<QII", watermark, len(names), 0) + b"".join(slots)


def reply(
    *, records: int = 1, collected: int = 0, receipt: int = 0, report: int = 0, tag: int = 5
) -> bytes:
    head = struct.pack("<IIIi10I", tag, 0, 0, 0, 1, 9, 0, 123, records, collected, 1, 0, 1, 0)
    head += struct.pack("<4I", 0, 1, 0, 1)
    head += struct.pack("<6I", 1, 256, receipt, 1, report, 0)
    truth = struct.pack("<4I3Q", 2, 1, 0, 1, 3, 4, 5)
    return head + truth + facts() + facts(names=((11, 4, b"t"),))


def record(state: int = 2, result: int = 0) -> bytes:
    return struct.pack("<I4x7Q", state, result, 1, 2, 3, 4, 5, 6)


def hello(step: Step = Step.NONE, error: int = 0) -> bytes:
    sizes = (72, 64, 96 + 40 + 2 * (4 * SEEN.size + 16 + 8 * NAME.size), 384, 48, 24)
    return struct.pack("<IIiI6IQQ", wire.VERSION, step, error, 1, *sizes, 0x1000, 0x2000)


RESULT = (
    reply(records=2, collected=3, receipt=4, report=3)
    + record()
    + record(4, 2**64 - 38)
    + b"outpaidsaw"
)
STATUS = struct.pack("<IiII", 0, 0, 42, 5) + b"Name:"
DECODERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "hello": (wire.decode_hello, hello()),
    "result": (wire.decode_result, RESULT),
    "status": (wire.decode_status, STATUS),
}

# ------------------------------------------------------------------ round trips


def test_a_result_comes_back_field_by_field() -> None:
    result = wire.decode_result(RESULT)
    assert (result.tag, result.ok, result.mode, result.signal) == (5, True, Mode.GATE, 9)
    assert (result.latency_us, result.saw_process, result.saw_exec, result.saw_mapped) == (
        123,
        True,
        False,
        True,
    )
    assert (result.saw_code, result.learned) == (False, True)
    assert (result.witness_before, result.witness_after) == (False, True)
    assert result.truth == wire.Truth(2, 1, 0, True, 3, 4, 5)
    assert result.before.path.mode == 0o40755
    after = result.after
    assert [one.ino for one in (after.path, after.by_fd, after.followed, after.held)] == [
        *range(10, 14)
    ]
    assert result.after.names == (wire.Name(11, 4, "t"),)
    first, second = result.records
    assert first == wire.Record(RecordState.DONE, 0, (1, 2, 3, 4, 5, 6))
    assert (second.state, second.error) == (RecordState.TIMEOUT, 38)
    assert result.collected == b"out"
    assert (result.served, result.customer_status, result.receipt) == (True, 256, b"paid")
    assert result.filled


def test_hello_and_status_come_back() -> None:
    assert wire.decode_hello(hello()) == wire.Hello(Step.NONE, 0, True, 0x1000, 0x2000)
    assert wire.decode_status(STATUS) == wire.ParkedStatus(Step.NONE, 0, 42, "Name:")


def test_a_runner_of_other_structures_is_stale() -> None:
    with pytest.raises(HarnessError, match="make native"):
        wire.decode_hello(hello()[:-8])
    stale = bytearray(hello())
    stale[16] += 8
    with pytest.raises(HarnessError, match="make native"):
        wire.decode_hello(bytes(stale))


@given(st.sampled_from(list(Frame)), st.binary(max_size=64))
def test_a_frame_says_what_it_is(kind: Frame, payload: bytes) -> None:
    framed = wire.frame(kind, payload)
    assert wire.head(framed[:8]) == (kind, len(payload))
    assert framed[8:] == payload


def test_a_program_says_where_its_sections_end() -> None:
    payload = wire.encode_program(3, SPEC, x86_64.number)[8:]
    fixed = struct.unpack_from("<12I", payload)
    assert fixed == (3, 0, 0, 0, 0, 0, 4, 0, 0, 1, 1, 0)
    assert payload[384 : 384 + 8] == b"d/t\0\0\0\0\0"
    kind, entry, flags, width, nr = struct.unpack_from("<BBBBI", payload, 392)
    assert (kind, entry, flags, width, nr) == (1, 0, 4, 0, 83)


def test_a_call_without_a_number_is_one_clear_error() -> None:
    unknown = wire.ProgramSpec(Program(attack=(Syscall("no_such_call"),)))
    with pytest.raises(HarnessError, match="no_such_call"):
        wire.encode_program(0, unknown, x86_64.number)


def test_a_path_that_does_not_fit_is_one_clear_error() -> None:
    with pytest.raises(HarnessError, match="longer than 63 bytes"):
        wire.encode_program(0, wire.ProgramSpec(MKDIR, parent="x" * 64), x86_64.number)


# ------------------------------------------------------------------ nonsense


@given(st.binary(min_size=8, max_size=8))
def test_any_head_is_a_frame_or_an_error(data: bytes) -> None:
    try:
        kind, length = wire.head(data)
    except HarnessError:
        return
    assert kind in Frame
    assert length <= wire.MAX_FRAME


@pytest.mark.parametrize("name", DECODERS)
@given(data=st.data())
def test_any_payload_is_a_value_or_a_harness_error(name: str, data: st.DataObject) -> None:
    decode, good = DECODERS[name]
    cut = st.integers(0, len(good)).map(lambda n: good[:n])
    longer = st.binary(max_size=80).map(lambda tail: good + tail)
    mutated = st.lists(
        st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255)), min_size=1, max_size=12
    ).map(lambda changes: _changed(good, changes))
    payload = data.draw(st.binary(max_size=2 * len(good)) | cut | longer | mutated)
    try:
        found = decode(payload)
    except HarnessError:
        return
    # Results are decoded when looked at, and that must not fail either.
    if isinstance(found, wire.Result):
        for seen in (found.before, found.after):
            assert all(isinstance(one.name, str) for one in seen.names)
        assert all(0 <= one.error <= 4095 for one in found.records)
        assert isinstance(found.trouble, str)


def _changed(good: bytes, changes: list[tuple[int, int]]) -> bytes:
    bad = bytearray(good)
    for at, value in changes:
        bad[at] = value
    return bytes(bad)


# ------------------------------------------------------------------ runners that are none

PREAMBLE = """#!/usr/bin/python3
import os, sys, time
def hello(): os.write(1, bytes.fromhex("{hello}"))
def frames(): return os.read(0, 1 << 16)
"""
RUNNERS = {
    "writes garbage": "os.write(1, b'\\xff' * 4096); frames()",
    "writes text": "print('usage: runner'); sys.stdout.flush(); frames()",
    "closes early": "",
    "closes within a frame": "os.write(1, b'\\x01\\0\\0\\0\\x40\\0\\0\\0half')",
    "hangs": "time.sleep(60)",
    "hangs within a frame": "os.write(1, b'\\x01\\0\\0\\0\\x40\\0\\0\\0half'); time.sleep(60)",
    "dribbles": "\nwhile True: os.write(1, b'\\x01\\0\\0\\0\\0\\0\\x30\\0'); time.sleep(0.005)",
    "is stale": "os.write(1, b'\\x01\\0\\0\\0\\x04\\0\\0\\0\\x63\\0\\0\\0'); frames()",
    "begins with a result": "os.write(1, b'\\x07\\0\\0\\0\\0\\0\\0\\0'); frames()",
}
# After a proper greeting.
LATER = {
    "answers garbage": "frames(); os.write(1, b'\\xee' * 99999); time.sleep(60)",
    "dies": "frames()",
    "hangs": "frames(); time.sleep(60)",
    "does not read": "time.sleep(60)",
    "answers another frame": "frames(); os.write(1, b'\\x08\\0\\0\\0\\0\\0\\0\\0'); time.sleep(60)",
    "answers another request": "frames(); os.write(1, bytes.fromhex('{other}')); time.sleep(60)",
    "answers without records": "frames(); os.write(1, bytes.fromhex('{short}')); time.sleep(60)",
}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Makes a runner of a few lines of Python; afterwards no process and no descriptor is left."""
    monkeypatch.setattr(sandbox, "START_TIMEOUT_S", 0.4)
    monkeypatch.setattr(sandbox, "ANSWER_TIMEOUT_S", 0.3)
    monkeypatch.setattr(sandbox, "CLOSE_TIMEOUT_S", 0.1)
    before = _descriptors()

    def make(body: str) -> Path:
        path = tmp_path / "runner"
        values = {
            "hello": wire.frame(Frame.HELLO, hello()).hex(),
            "other": wire.frame(Frame.RESULT, reply(tag=77) + record()).hex(),
            "short": wire.frame(Frame.RESULT, reply(tag=0, records=0)).hex(),
        }
        text = PREAMBLE + body
        for name, value in values.items():
            text = text.replace("{" + name + "}", value)
        path.write_text(text)
        path.chmod(0o755)
        monkeypatch.setenv("SIDESTEP_RUNNER", str(path))
        return path

    yield make
    assert _descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("name", RUNNERS)
def test_a_runner_that_is_none_is_one_clear_error(name: str, fake: Callable[[str], Path]) -> None:
    path = fake(RUNNERS[name])
    begin = time.monotonic()
    with pytest.raises(HarnessError) as found:
        Sandbox(path)
    assert time.monotonic() - begin < 3
    assert str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", LATER)
def test_a_runner_that_fails_costs_its_arms_and_no_more(
    name: str, fake: Callable[[str], Path]
) -> None:
    fake("hello()\n" + LATER[name])
    begin = time.monotonic()
    with Pool(2) as workers:
        results = workers.run([Arm(SPEC, CONFIG, CONFIG, 1000)] * 3)
    assert time.monotonic() - begin < 8
    assert len(results) == 3
    for one in results:
        assert isinstance(one, str)
        assert one.startswith("the runner")


def test_a_sandbox_that_cannot_be_built_says_which_step_failed(
    fake: Callable[[str], Path],
) -> None:
    body = wire.frame(Frame.HELLO, hello(Step.UID_MAP, 1)).hex()
    path = fake(f"os.write(1, bytes.fromhex('{body}')); frames()")
    with pytest.raises(EnvironmentLackError, match=r"uid map failed with EPERM.*AppArmor"):
        Sandbox(path)
    with pytest.raises(EnvironmentLackError):
        Pool(1)


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"#!/no/such/interpreter\n", 0o755, "cannot start"),
        (b"\x7fELF", 0o755, "cannot start"),
        (b"", 0o644, "cannot start"),
    ],
)
def test_a_runner_that_cannot_be_started_is_a_lack(
    tmp_path: Path, content: bytes, mode: int, said: str
) -> None:
    path = tmp_path / "runner"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(EnvironmentLackError, match=said):
        Sandbox(path)


def test_a_runner_that_is_not_there_is_a_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIDESTEP_RUNNER", str(tmp_path / "nothing"))
    with pytest.raises(EnvironmentLackError, match="make native"):
        Pool(1)


def test_a_runner_that_never_starts_again_ends_the_run(
    fake: Callable[[str], Path], tmp_path: Path
) -> None:
    """It greets once; every later start is refused: an error, not an endless loop."""
    once = tmp_path / "once"
    first = f"once = {str(once)!r}\nif os.path.exists(once): sys.exit()\nopen(once, 'w')\n"
    fake(first + "hello()\nframes()")
    with Pool(1) as workers, pytest.raises(SidestepError):
        workers.run([Arm(SPEC, CONFIG, CONFIG, 1000)] * 3)
