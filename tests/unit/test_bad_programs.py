"""Programs that no kernel takes, and questions about nothing: one line each, and exit code 2."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evaluator import cli
from mitigations import classic
from mitigations.classic import MAX_INSTRUCTIONS, Instruction

ALLOW = Instruction(classic.RETURN_K, 0, 0, classic.Action.ALLOW)
NOTHING = Instruction(classic.LD | classic.IMM, 0, 0, 0)
ONE = classic.pack([ALLOW])
BAD = {
    "cut short": (ONE + ONE[:3], "11 bytes are not a whole number of 8-byte instructions"),
    "shorter than an instruction": (ONE[:7], "7 bytes are not a whole number"),
    "empty": (b"", "the filter has no instruction"),
    "jumps out of range": (
        classic.pack([Instruction(classic.JUMP, 0, 0, 1), ALLOW]),
        "[0]: jump to 2 of 2",
    ),
    "jumps around the world": (
        classic.pack([Instruction(classic.JUMP, 0, 0, 0xFFFFFFFF), ALLOW]),
        "[0]: jump to 4294967296 of 2",
    ),
    "unknown opcode": (
        classic.pack([NOTHING, Instruction(0xFF, 0, 0, 0), ALLOW]),
        "[1]: unknown opcode 0xff",
    ),
    "opcode for sockets": (
        classic.pack([Instruction(classic.LD | classic.B | classic.ABS, 0, 0, 0), ALLOW]),
        "[0]: opcode 0x30 is not allowed in a seccomp filter",
    ),
    "no return": (classic.pack([ALLOW, NOTHING]), "[1]: the last instruction is not a return"),
    "too long": (
        classic.pack([NOTHING] * MAX_INSTRUCTIONS + [ALLOW]),
        "4097 instructions, the kernel takes 4096 at most",
    ),
}
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("verb", [("evaluate",), ("explain", "mkdir")], ids=lambda verb: verb[0])
@pytest.mark.parametrize("name", BAD)
def test_a_program_that_no_kernel_takes_is_one_line(
    command: Command, tmp_path: Path, verb: tuple[str, ...], name: str
) -> None:
    program, message = BAD[name]
    path = tmp_path / "bad.bpf"
    path.write_bytes(program)
    code, out, err = command(verb[0], str(path), *verb[1:])
    assert (code, out) == (2, "")
    assert err.startswith(f"sidestep: {path}: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", sorted(set(BAD) - {"cut short", "shorter than an instruction"}))
def test_in_a_stack_it_is_named_by_its_place(command: Command, tmp_path: Path, name: str) -> None:
    program, message = BAD[name]
    instructions = [list(each) for each in classic.unpack(program)]
    good = {"instructions": [list(ALLOW)]}
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({"filters": [good, {"instructions": instructions}]}))
    code, out, err = command("explain", str(path), "mkdir")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"sidestep: {path}: filters[1].instructions")
    assert message.rpartition(": ")[2] in err


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("mkdr", "did you mean 'mkdir'?"),
        ("mkdr(1)", "did you mean 'mkdir'?"),
        ("i386:mkdr", "did you mean 'mkdir'?"),
        ("mkdir(", "no table of system calls has that name"),
        ("99999", "no call"),
        ("ioctl(1, 2, 3, 4, 5, 6, 7)", "at most 6 arguments"),
        ("create-directry", "did you mean 'create-directory'?"),
        ("create-directory/mkdr", "did you mean 'mkdir'?"),
        ("create-directry/mkdir", "unknown family"),
        ("", "WHAT is empty"),
    ],
)
def test_a_question_about_nothing_is_one_line(
    command: Command, tmp_path: Path, what: str, message: str
) -> None:
    path = tmp_path / "good.bpf"
    path.write_bytes(ONE)
    code, out, err = command("explain", str(path), what)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("sidestep: ")
    assert message in err
