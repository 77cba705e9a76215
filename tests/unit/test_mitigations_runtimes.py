"""The bytes that real runtimes loaded, kept in tests/data/captures, against those of the models."""

import json
import os
import random
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mitigations import libseccomp, oci, runtimes, strict_json
from mitigations.bpf import Action, Filter
from mitigations.candidate import ProfileError, SeccompLayer
from mitigations.libseccomp import NumberedRule
from mitigations.rules import Condition
from mitigations.x86_64 import AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, X32_BIT

ROOT = Path(__file__).parents[2]
CAPTURES = ROOT / "tests" / "data" / "captures"
# A folder of further captures, for whoever has some: pairs of *.bpf and *.seccomp.json.
MORE = os.environ.get("SIDESTEP_RUNTIME_FILTERS")
MODELS = {"runc": "runc-1.1", "cri": "runc-1.1", "runc12": "runc-1.2", "crun": "crun"}


def programs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.bpf"))


def model_of(program: Path) -> str:
    return MODELS[program.stem.split("_")[0].split("-")[0]]


@cache
def captured_with() -> dict[str, str]:
    index = json.loads((CAPTURES / "INDEX.json").read_text())
    return {entry["program"]: entry["libseccomp"] for entry in index}


def compile_block(block: Any, model: str) -> SeccompLayer:
    document = strict_json.parse(json.dumps(block).encode())
    reading = oci.read(document, meaning="oci", kernel=(6, 18))
    assert reading.profile is not None
    return runtimes.compile_profile(reading.profile, runtimes.find_model(model))


def assert_is_member(program: Path) -> None:
    block = json.loads(program.with_name(f"{program.stem}.seccomp.json").read_text())
    layer = compile_block(block, model_of(program))
    assert program.read_bytes() in layer.valid
    assert layer.program == layer.valid[0]


@pytest.mark.parametrize(
    "program",
    [*programs(CAPTURES), *(programs(Path(MORE)) if MORE else ())],
    ids=lambda path: path.stem,
)
def test_model_loads_what_the_runtime_loaded(program: Path) -> None:
    theirs, ours = captured_with().get(program.name), libseccomp.version()
    if theirs is not None and theirs != ours and model_of(program) != "runc-1.2":
        pytest.skip(f"captured with libseccomp {theirs}, here is {ours}")
    assert_is_member(program)


ALL = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
ALLOW_READ = {"names": ["read"], "action": "SCMP_ACT_ALLOW"}


def test_orders_of_the_stub_are_all_known_and_decide_alike() -> None:
    block = {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ALL, "syscalls": [ALLOW_READ]}
    layer = compile_block(block, "runc-1.1")
    assert len(set(layer.valid)) == len(layer.valid) == 4
    filters = [Filter.decode(program) for program in layer.valid]
    for arch in (AUDIT_ARCH_X86_64, AUDIT_ARCH_I386, 0x1234):
        for nr in (0, 1, 2, 3, 4, 39, 83, 500, X32_BIT, X32_BIT | 1, X32_BIT | 600):
            answers = {each.decide(arch, nr, [0] * 6).text for each in filters}
            assert len(answers) == 1


def test_stub_answers_enosys_above_the_largest_number_named() -> None:
    block = {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ALL, "syscalls": [ALLOW_READ]}
    runc = Filter.decode(compile_block(block, "runc-1.1").program)
    crun = Filter.decode(compile_block(block, "crun").program)
    assert runc.decide(AUDIT_ARCH_I386, 4, [0] * 6).text == "ERRNO(ENOSYS)"
    assert crun.decide(AUDIT_ARCH_I386, 4, [0] * 6).text == "ERRNO(EPERM)"
    assert runc.decide(AUDIT_ARCH_I386, 2, [0] * 6).text == "ERRNO(EPERM)"


@pytest.mark.parametrize("action", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"])
def test_no_stub_before_a_filter_that_lets_calls_through(action: str) -> None:
    block = {"defaultAction": action, "architectures": ALL}
    assert compile_block(block, "runc-1.1").program == compile_block(block, "crun").program


def test_tree_from_33_rules_on() -> None:
    names = [f"{name}" for name in ("read", "write", "open", "close", "stat", "mkdir", "rmdir")]

    def block(count: int) -> dict[str, Any]:
        listed = (names * 6)[:count]
        rules = [{"names": [name], "action": "SCMP_ACT_ALLOW"} for name in listed]
        # What the profile names counts, not what is left of it.
        return {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ALL[:1], "syscalls": rules}

    def same(count: int) -> bool:
        programs = [
            compile_block(block(count), model).program for model in ("runc-1.1", "runc-1.2")
        ]
        return programs[0] == programs[1]

    assert same(32)
    assert not same(33)


def test_four_architectures_do_not_multiply_without_end() -> None:
    more = [*ALL, "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_RISCV64", "SCMP_ARCH_PPC64LE"]
    block = {"defaultAction": "SCMP_ACT_ERRNO", "architectures": more, "syscalls": [ALLOW_READ]}
    assert len(compile_block(block, "runc-1.1").valid) == 1


def test_missing_architectures_are_killed() -> None:
    block = {"defaultAction": "SCMP_ACT_ALLOW"}
    decide = Filter.decode(compile_block(block, "runc-1.1").program).decide
    assert decide(AUDIT_ARCH_X86_64, 83, [0] * 6).action is Action.ALLOW
    assert decide(AUDIT_ARCH_I386, 39, [0] * 6).action is Action.KILL_THREAD
    assert decide(AUDIT_ARCH_X86_64, X32_BIT | 83, [0] * 6).action is Action.KILL_THREAD


def test_model_is_named_with_its_libseccomp() -> None:
    assert (
        runtimes.describe(runtimes.find_model("crun")) == f"crun/libseccomp-{libseccomp.version()}"
    )


def many_conditions(count: int, operator: str = "SCMP_CMP_EQ") -> dict[str, Any]:
    rules = [
        {
            "names": ["ioctl"],
            "action": "SCMP_ACT_ERRNO",
            "args": [{"index": index, "value": value << 32 | 1, "op": operator} for index in (0,)],
        }
        for value in range(count)
    ]
    return {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ALL, "syscalls": rules}


def test_what_cannot_fit_is_refused_before_libseccomp_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(libseccomp, "compile_filter", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(ProfileError, match="compiles to at least 8998 instructions") as caught:
        compile_block(many_conditions(2999), "runc-1.1")
    assert caught.value.code == "filter-too-large"


@pytest.mark.parametrize("high", [0, 32])
def test_the_least_length_is_never_more_than_the_length(high: int) -> None:
    for seed in range(150):
        chance = random.Random(seed)
        rules = [
            NumberedRule(
                Action.ERRNO | 1,
                chance.choice([0, 0, 1]),
                tuple(
                    Condition(
                        index, "SCMP_CMP_EQ", chance.randrange(4) << chance.choice([0, high]), 0
                    )
                    for index in chance.sample(range(3), chance.randint(1, 3))
                ),
                "",
            )
            for _ in range(chance.randint(1, 12))
        ]
        named = [(each, "") for each in chance.choice([ALL, ALL[:1]])]
        length = len(libseccomp.compile_filter(Action.ALLOW, named, rules)) // 8
        assert runtimes._least_length(rules) <= length, seed


def test_libseccomp_gets_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libseccomp, "_FEW", 0)
    monkeypatch.setattr(libseccomp, "PATIENCE_S", 0.1)
    monkeypatch.setattr(libseccomp, "_compile", lambda *_: time.sleep(0.5))
    with pytest.raises(ProfileError, match=r"takes more than 0\.1 s") as caught:
        compile_block(many_conditions(2), "runc-1.1")
    assert caught.value.code == "compile-timeout"
