"""What lets a variant through is told from the source, and what closes it really does."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from attacks import library
from attacks.family import Assumption, FamilyInstance, Variant
from evaluator import predict
from evaluator.cause import Causes, Through
from evaluator.derived import rewritten
from evaluator.explain import Explainer
from evaluator.records import Cause, CauseKind
from mitigations.bpf import Filter
from mitigations.candidate import Candidate, ProfileError
from mitigations.load import load

from fixes import applied

KERNEL = (6, 18)
ERRNO, ALLOW = "SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"
ALL = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
LOAD_NR = [32, 0, 0, 0]


def rule(*names: str, action: str = ERRNO, **more: Any) -> dict[str, Any]:
    return {"names": [*names], "action": action, **more}


def where(index: int, op: str, value: int, two: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": two}


def profile(*rules: dict[str, Any], default: str = ALLOW, **more: Any) -> dict[str, Any]:
    return {"defaultAction": default, "architectures": ALL, "syscalls": [*rules], **more}


def candidate(folder: Path, document: dict[str, Any], runtime: str = "runc-1.1") -> Candidate:
    path = folder / "profile.json"
    path.write_text(json.dumps(document))
    (one,) = load(path, kernel=KERNEL, runtime=runtime)
    assert isinstance(one, Candidate)
    return one


def filters(of: Candidate) -> tuple[Filter, ...]:
    return tuple(Filter.decode(layer.program) for layer in of.seccomp)


def said(variant: Variant, of: Candidate) -> str:
    return predict.predicted(variant.program, filters(of), None, 0)


def cause(folder: Path, document: dict[str, Any], name: str) -> Cause:
    """That of one variant; its fix, if there is one, closes it in the profile as a whole."""
    variant = library.find_variant(name)
    family = library.parse_reference(variant.family).variants
    of = candidate(folder, document)
    assert said(variant, of) != "BLOCKED"
    (found,) = Causes(of, filters(of), 0).of([Through(variant)], family)
    if found.fix and of.profile:
        assert said(variant, candidate(folder, applied(document, found.fix))) == "BLOCKED"
    return found


MKDIR = "create-directory/mkdir"
OPENAT = "create-file/openat"
CAUSES = [
    # profile, variant, kind, call, where, fix
    (
        profile(rule("mkdir")),
        "create-directory/mkdirat",
        "default-allows",
        "x86_64:mkdirat",
        "syscalls[0].names",
        'add "mkdirat" to syscalls[0].names',
    ),
    (
        profile(rule("mkdir"), rule("mkdirr")),
        "create-directory/io-uring-mkdirat",
        "no-call",
        "x86_64:io_uring_setup",
        "syscalls[0].names",
        'add "io_uring_setup" to syscalls[0].names',
    ),
    (
        profile(),
        "create-directory/io-uring-mkdirat",
        "no-call",
        "x86_64:io_uring_setup",
        "syscalls",
        'add {"names": ["io_uring_setup"], "action": "SCMP_ACT_ERRNO"} to syscalls',
    ),
    (
        profile(rule("read"), rule("mkdir", "mkdirat", action=ALLOW), default=ERRNO),
        MKDIR,
        "rule-allows",
        "x86_64:mkdir",
        "syscalls[1].names[0]",
        'remove "mkdir" from syscalls[1].names',
    ),
    (
        profile(rule("read", action=ALLOW), rule("mkdir", action=ALLOW), default=ERRNO),
        MKDIR,
        "rule-allows",
        "x86_64:mkdir",
        "syscalls[1].names[0]",
        "remove syscalls[1]",
    ),
    (
        profile(
            rule("openat", action=ALLOW, args=[where(2, "MASKED_EQ", 0x400000)]), default=ERRNO
        ),
        OPENAT,
        "rule-allows",
        "x86_64:openat",
        "syscalls[0].args",
        (
            'set syscalls[0].args[0] to {"index": 2, "value": 4194368, "valueTwo": 0, '
            '"op": "SCMP_CMP_MASKED_EQ"}'
        ),
    ),
    (
        profile(),
        OPENAT,
        "default-allows",
        "x86_64:openat",
        "syscalls",
        (
            'add {"names": ["openat"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 2, '
            '"value": 64, "valueTwo": 64, "op": "SCMP_CMP_MASKED_EQ"}]} to syscalls'
        ),
    ),
    (
        profile(rule("fchmod", args=[where(1, "EQ", 0o600)])),
        "change-mode/fchmod",
        "condition-misses",
        "x86_64:fchmod",
        "syscalls[0].args",
        "remove syscalls[0].args",
    ),
    (
        profile(rule("chmod", args=[where(1, "LE", 0o7777)])),
        "change-mode/chmod-wide-mode",
        "upper-half",
        "x86_64:chmod",
        "syscalls[0].args",
        "remove syscalls[0].args",
    ),
    (
        profile(rule("socket", args=[where(0, "EQ", 2)])),
        "open-socket/socket~wide",
        "upper-half",
        "x86_64:socket",
        "syscalls[0].args",
        (
            'set syscalls[0].args[0] to {"index": 0, "value": 4294967295, "valueTwo": 2, '
            '"op": "SCMP_CMP_MASKED_EQ"}'
        ),
    ),
    (
        profile(rule("mkdir", action="SCMP_ACT_TRACE")),
        "create-directory/mkdir-traced-child",
        "asks-supervisor",
        "x86_64:mkdir",
        "syscalls[0].action",
        'set syscalls[0].action to "SCMP_ACT_ERRNO"',
    ),
    (
        profile(rule("socket", action=ALLOW, args=[where(0, "EQ", 2)]), default="SCMP_ACT_KILL"),
        "open-socket/socketcall-socket-i386",
        "multiplexer",
        "i386:socketcall",
        "syscalls",
        'add {"names": ["socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38} to syscalls',
    ),
    (
        profile(rule("setxattr", "setxattrat")),
        "set-extended-attribute/setxattrat",
        "name-unknown-to-libseccomp",
        "x86_64:setxattrat",
        "syscalls[0]",
        "",
    ),
    (
        profile(),
        "create-process/clone3",
        "default-allows",
        "x86_64:clone3",
        "syscalls",
        'add {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38} to syscalls',
    ),
]


@pytest.mark.parametrize(("document", "name", "kind", "call", "at", "fix"), CAUSES)
def test_a_cause_names_the_rule_and_the_change(
    document: dict[str, Any], name: str, kind: str, call: str, at: str, fix: str, tmp_path: Path
) -> None:
    found = cause(tmp_path, document, name)
    assert (found.kind.value, found.call, found.where, found.fix) == (kind, call, at, fix)
    assert found.said
    assert not found.said.endswith(".")
    assert ("no one-line change" in found.said) == (not fix)


def test_what_a_fix_breaks_is_told(tmp_path: Path) -> None:
    found = cause(tmp_path, profile(), "execute-program/execve")
    assert found.breaks == "every execve is denied, and most programs call it"


def test_a_raw_program_is_told_its_numbers(tmp_path: Path) -> None:
    allows = {"filters": [{"instructions": [[6, 0, 0, 0x7FFF0000]]}], "attachment": "runtime"}
    found = cause(tmp_path, allows, "create-directory/mkdirat~i386")
    assert (found.kind, found.where) == (CauseKind.FILTER_ALLOWS, "")
    assert found.fix == "deny nr 296 (mkdirat) on arch i386 in the filter"


def test_an_architecture_that_a_raw_program_does_not_know_is_told(tmp_path: Path) -> None:
    program = [LOAD_NR, [21, 0, 1, 83], [6, 0, 0, 0x50001], [6, 0, 0, 0x7FFF0000]]
    document = {"filters": [{"instructions": program}], "attachment": "runtime"}
    assert cause(tmp_path, document, f"{MKDIR}~i386").kind is CauseKind.ARCHITECTURE_NOT_JUDGED
    found = cause(tmp_path, document, f"{MKDIR}~x32")
    assert found.kind is CauseKind.ARCHITECTURE_NOT_JUDGED
    assert found.fix == "deny nr 0x40000053 (mkdir) on arch x86_64 in the filter"


def test_nothing_in_force_is_told(tmp_path: Path) -> None:
    of = candidate(tmp_path, {})
    (found,) = Causes(of, (), 0).of([Through(library.find_variant(MKDIR))], [])
    assert (found.kind, found.fix) == (CauseKind.NO_FILTER, "")


def test_an_old_name_takes_no_second_one(tmp_path: Path) -> None:
    """Docker refuses a rule with ``name`` and ``names``."""
    legacy = {"defaultAction": ALLOW, "syscalls": [{"name": "mkdir", "action": ERRNO}]}
    found = cause(tmp_path, legacy, "create-directory/mkdirat")
    assert found.fix == 'add {"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO"} to syscalls'


def test_a_variant_that_gets_through_is_explained_to_its_end(tmp_path: Path) -> None:
    explainer = Explainer(candidate(tmp_path, profile(rule("mkdir"))))
    family = library.parse_reference("create-directory").variants
    assert explainer.variant(library.find_variant(MKDIR), family).cause is None
    found = explainer.variant(library.find_variant("create-directory/mkdirat"), family).cause
    assert found is not None
    assert found.fix == 'add "mkdirat" to syscalls[0].names'


@pytest.mark.parametrize("name", ["core-dump", "core-dump-fault"])
def test_a_fix_that_leaves_a_death_for_another_call_is_none(name: str, tmp_path: Path) -> None:
    """The program ends by a call that is killed, and a death is what writes the core file."""
    document = profile(rule("open", "creat"), rule("exit_group", action="SCMP_ACT_KILL_PROCESS"))
    found = cause(tmp_path, document, f"create-file/{name}")
    if found.fix:
        variant = library.find_variant(f"create-file/{name}")
        after = filters(candidate(tmp_path, applied(document, found.fix)))
        foretold = predict.foretold(variant.program, after, None, 0)
        assert predict.of_variant(variant, foretold, after) == "BLOCKED"


def test_every_time_that_a_name_is_there_it_has_to_go(tmp_path: Path) -> None:
    document = profile(rule("mkdirat", "read", "mkdirat", action=ALLOW), default=ERRNO)
    found = cause(tmp_path, document, "create-directory/mkdirat")
    assert found.fix == 'remove every "mkdirat" from syscalls[0].names'


def test_no_fix_tells_more_programs_that_a_call_was_made(tmp_path: Path) -> None:
    document = profile(rule("mkdir", errnoRet=0))
    found = cause(tmp_path, document, "create-directory/mkdirat")
    assert found.fix
    assert "syscalls[0]" not in found.fix


@functools.cache
def usable(name: str) -> tuple[FamilyInstance, list[Variant]]:
    """A family with what counts of it, and of what rewrites make of it."""
    instance = library.family(name).default
    return instance, [
        one
        for one in (*instance.variants, *rewritten(instance))
        if one.assumption is Assumption.NONE and not one.negative and not one.beyond_seccomp
    ]


FAMILIES = ["create-directory", "change-mode", "open-socket"]
SOME_CALLS = """
mkdir mkdirat chmod fchmod fchmodat fchmodat2 setxattr fsetxattr setxattrat socket socketpair
socketcall ipc io_uring_setup io_uring_enter ptrace openat open mkdirr
"""
NAMES = SOME_CALLS.split()
CONDITIONS = st.builds(
    where,
    st.integers(0, 3),
    st.sampled_from(["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"]),
    st.sampled_from([0, 1, 2, 0o100, 0o755, 0o7777, 0x410000, 0xFFFFFFFF, 1 << 33]),
    st.sampled_from([0, 1, 0o100, 0o755]),
)
RULES = st.builds(
    lambda names, action, args: {"names": names, "action": action, "args": args},
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True),
    st.sampled_from([ERRNO, ERRNO, ALLOW, "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRACE"]),
    st.lists(CONDITIONS, max_size=2),
)
PROFILES = st.builds(
    lambda rules, default, architectures: profile(
        *rules, default=default, architectures=architectures
    ),
    st.lists(RULES, max_size=5),
    st.sampled_from([ALLOW, ALLOW, ERRNO, "SCMP_ACT_LOG"]),
    st.sampled_from([ALL, ALL[:1], ALL[:2]]),
)


@pytest.mark.slow
@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink one would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(PROFILES, st.sampled_from(["runc-1.1", "runc-1.2", "crun"]), st.data())
def test_every_fix_closes_its_variants_in_the_profile_as_a_whole(
    tmp_path: Path, document: dict[str, Any], runtime: str, data: st.DataObject
) -> None:
    """The change is made to the file, which is compiled anew: no shortcut of ours is in it."""
    try:
        of = candidate(tmp_path, document, runtime)
    except ProfileError:  # libseccomp does not take two answers to one call
        assume(False)
        return
    instance, variants = usable(data.draw(st.sampled_from(FAMILIES), "family"))
    through = [one for one in variants if said(one, of) == "BYPASSED"]
    by_id = {one.id: one for one in through}
    causes = Causes(of, filters(of), 0).of([Through(one) for one in through], instance.variants)
    assert sorted(name for one in causes for name in one.variants) == sorted(by_id)
    for found in causes:
        if found.fix:
            after = candidate(tmp_path, applied(document, found.fix), runtime)
            assert {said(by_id[name], after) for name in found.variants} == {"BLOCKED"}
