"""Filters that were exported and are read again decide as before, or it is said."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from drawn_filters import EDGES, profiles, raw_filters
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

from mitigations import one_filter, runtimes, x86_64
from mitigations.bpf import Filter, decide_stack
from mitigations.candidate import Attachment, Candidate, ProfileError, SeccompLayer
from mitigations.classic import Action, answer_text
from mitigations.export import export
from mitigations.load import load

CALLS = (
    "read", "openat", "mkdir", "clone", "ioctl", "mmap", "socket", "personality", "chmod", "semctl",
)  # fmt: skip
SUFFIX = {"spo": "yaml", "bpf": "bpf", "systemd": "service"}


def compiled(profile: object) -> bytes:
    assert isinstance(profile, runtimes.Profile)
    try:
        return runtimes.compile_profile(profile, runtimes.find_model("crun")).program
    except ProfileError:
        reject()


PROGRAMS = profiles().map(compiled) | raw_filters()
STACKS = st.lists(PROGRAMS, min_size=1, max_size=2)
ARGUMENTS = st.tuples(*[st.sampled_from(EDGES)] * 6)


def candidate(programs: Sequence[bytes]) -> Candidate:
    layers = tuple(SeccompLayer(one, (one,)) for one in programs)
    return Candidate(
        name="drawn", source="drawn", layers=layers, attachment=Attachment.RUNTIME, meaning="raw"
    )


def again(folder: Path, content: bytes, to: str) -> list[Filter]:
    path = folder / f"again.{SUFFIX.get(to, 'json')}"
    path.write_bytes(content)
    (found,) = load(path, meaning="spo" if to == "spo" else "auto", runtime="crun")
    assert isinstance(found, Candidate), str(found.error)
    return [Filter.decode(one.program) for one in found.seccomp]


def answer(filters: Sequence[Filter], abi: str, number: int, args: Sequence[int]) -> str:
    decision = decide_stack(filters, x86_64.arch(abi), number, args, 0)
    (value,) = decision.possible
    assert value is not None
    return answer_text(value)


def is_said(abi: str, name: str, was: str, now: str, lost: Sequence[str]) -> bool:
    for line in lost:
        if "errnoRet 0: " in line and was in ("ERRNO(0)", "TRACE"):
            return True  # of the operator
        if "as the default action: nobody is asked" in line and was == "USER_NOTIF":
            return now == "ERRNO(EPERM)"
        if line.startswith("defaultErrnoRet ") and now in ("ERRNO(EPERM)", "TRACE(1)"):
            return True
        if "it is not told" not in line and f"not {was}" not in line:
            continue
        names, _, _ = line.partition(": ALLOW" if "told" in line else f": {now}")
        if "it is not told" in line:
            names = line.partition(": let through")[0]
        *tables, called = names.split(": ")
        through = tables[0].split(", ") if tables else ["x86_64"]
        calls = called.replace(" and ", ", ").split(", ")
        if abi in through and (name in calls or called.endswith(" more")):
            return True
        if name in line.split() or f"{name}," in line.split():  # the operator's: a rule left out
            return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("to", ["oci", "docker", "spo", "systemd", "bpf"])
@settings(
    max_examples=12,
    deadline=None,
    phases=(Phase.generate,),  # shrinking takes minutes
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_what_is_read_again_decides_alike(
    tmp_path_factory: pytest.TempPathFactory, to: str, data: st.DataObject
) -> None:
    programs = data.draw(STACKS)
    try:
        written = export(candidate(programs), to)
    except ProfileError as error:
        # Refused as a whole is only what nobody can tell, or does not fit.
        if error.code not in ("no-rules", "several-filters"):
            raise
        reject()
    before = [Filter.decode(one) for one in programs]
    after = again(tmp_path_factory.mktemp("export"), written.content, to)
    for abi in x86_64.NUMBERS:
        for name in CALLS:
            number = x86_64.number(abi, name)
            if number is None:
                continue
            for args in data.draw(st.lists(ARGUMENTS, min_size=4, max_size=4)):
                was, now = (answer(each, abi, number, args) for each in (before, after))
                assert was == now or is_said(abi, name, was, now, written.lost), (
                    abi, name, args, was, now, written.lost,
                )  # fmt: skip


@pytest.mark.parametrize("order", [1, -1])
def test_the_strictest_of_several_answers_counts(order: int) -> None:
    """Whatever the order, for every two actions; of equal ones the newer counts."""
    answers = [int(one) for one in Action] + [int(Action.ERRNO) | 7, int(Action.TRACE) | 7]
    for one in answers:
        for other in answers:
            programs = [_returning(one), _returning(other)][::order]
            together = Filter.decode(one_filter.joined(programs))
            stack = [Filter.decode(each) for each in programs]
            args = [0] * 6
            expected = decide_stack(stack, x86_64.arch("x86_64"), 0, args, 0).possible
            assert decide_stack([together], x86_64.arch("x86_64"), 0, args, 0).possible == expected


def _returning(value: int) -> bytes:
    return b"\x06\0\0\0" + value.to_bytes(4, "little")
