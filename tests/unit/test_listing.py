"""Filters as text, and back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from drawn_filters import raw_filters
from hypothesis import given
from hypothesis import strategies as st
from systemd_capture import filters_of, recorded

from mitigations import classic, disassembly, listing
from mitigations.candidate import Candidate, FailedCandidate, ProfileError, SeccompLayer
from mitigations.classic import Action, Instruction
from mitigations.load import load

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
ALLOW = " 0000: 0x06 0x00 0x00 0x7fff0000  return ALLOW\n"


def real() -> list[tuple[Instruction, ...]]:
    found = [one.read_bytes() for one in sorted(CAPTURES.glob("*.bpf"))]
    found += [one for unit in recorded()["units"].values() for one in filters_of(unit)]
    return [classic.unpack(one) for one in found]


def dumped(program: Sequence[Instruction]) -> str:
    """As seccomp-tools prints it."""
    head = f" line  CODE  JT   JF      K\n{'=' * 33}\n"
    rows = (
        f" {pc:04}: {code:#04x} {jt:#04x} {jf:#04x} {k:#010x}  if (A == open) goto 0001"
        for pc, (code, jt, jf, k) in enumerate(program)
    )
    return head + "\n".join(rows) + "\n"


def in_c(program: Sequence[Instruction]) -> str:
    return "".join(f"{{ {code:#x}, {jt}, {jf}, {k:#010x} }},\n" for code, jt, jf, k in program)


def plain(program: Sequence[Instruction]) -> str:
    return "".join(f"{code} {jt} {jf} {k}\n" for code, jt, jf, k in program)


def ours(program: Sequence[Instruction]) -> str:
    return "\n".join(disassembly.render(program)) + "\n"


@pytest.mark.parametrize("form", [dumped, in_c, plain, ours])
def test_captured_programs_are_what_their_text_says(form: object) -> None:
    assert callable(form)
    for program in real():
        text = form(program).encode()
        assert listing.is_listing(text)
        assert listing.parse(text) == [program]


@given(raw_filters())
def test_any_filter_is_read_from_our_text(content: bytes) -> None:
    """Fields that an instruction does not use, and data that nobody looks at, are not in it."""
    program = classic.unpack(content)
    (again,) = listing.parse(ours(program).encode())
    assert ours(again) == ours(program)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_listing_or_one_line(content: bytes) -> None:
    listing.is_listing(content)
    try:
        listing.parse(content)
    except ProfileError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either way is right


def layers(path: Path) -> list[bytes]:
    (found,) = load(path)
    assert not isinstance(found, FailedCandidate)
    assert all(isinstance(one, SeccompLayer) for one in found.layers)
    return [one.program for one in found.seccomp]


def test_several_in_one_text_are_stacked_oldest_first(tmp_path: Path) -> None:
    one, other = real()[:2]
    for name, text in (
        ("a.txt", dumped(one) + dumped(other)),
        ("b", ours(one) + "\n" + ours(other)),
    ):
        (tmp_path / name).write_text(text)
        assert layers(tmp_path / name) == [classic.pack(one), classic.pack(other)]


def test_suffix_of_a_raw_filter_may_hold_text(tmp_path: Path) -> None:
    path = tmp_path / "a.bpf"
    path.write_text(ALLOW)
    assert layers(path) == [classic.pack([Instruction(classic.RETURN_K, 0, 0, Action.ALLOW)])]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{ALLOW}nonsense\n", "line 2: no instruction: 'nonsense'"),
        (f"{ALLOW} 0002: 0x06 0x00 0x00 0x00000000\n", "line 2: instruction 2 where 1 is due"),
        (" 0000: 0x06 0x100 0x00 0x00000000\n", "line 1: jt is not within 0..0xff"),
        (" 0000: 0x20 0x00 0x00 0x00000004\n", "[0]: the last instruction is not a return"),
        ("0  goto 0\n", "line 1: no instruction: '0  goto 0'"),
        ("#\n# pseudo filter code start\n#\n", "pseudo filter code of libseccomp"),
        ("# nothing\n", "the filter has no instruction"),
        ("hello\n", "line 1: no instruction: 'hello'"),
        ("", "the filter has no instruction"),
        ('{"defaultAction": "SCMP_ACT_ALLOW"}', "they have the key filters"),
    ],
)
def test_bad_text_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(ProfileError) as caught:
        load(path, meaning="raw")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_second_filter_that_no_kernel_takes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"{ALLOW} 0000: 0x20 0x00 0x00 0x00000004\n")
    with pytest.raises(ProfileError, match=r"filters\[1\]\[0\]: the last instruction"):
        load(path)


@pytest.mark.parametrize("name", ["a.txt", "a.c", "a"])
@pytest.mark.parametrize("meaning", ["auto", "raw"])
def test_initialisers_of_c_need_no_comment_before_them(
    tmp_path: Path, name: str, meaning: Any
) -> None:
    (tmp_path / name).write_text("{ 0x20, 0, 0, 0x00000004 },\n{ 0x06, 0, 0, 0x7fff0000 },\n")
    (found,) = load(tmp_path / name, meaning=meaning)
    assert isinstance(found, Candidate)
    assert len(found.seccomp[0].program) == 16


def test_the_number_of_instructions_may_stand_before_them(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("2\n32 0 0 4\n6 0 0 2147418112\n")
    (found,) = load(tmp_path / "a")
    assert isinstance(found, Candidate)
    assert len(found.seccomp[0].program) == 16
    (tmp_path / "a").write_text("3\n32 0 0 4\n6 0 0 2147418112\n")
    with pytest.raises(ProfileError, match="3 instructions are announced, and 2 are there"):
        load(tmp_path / "a")
