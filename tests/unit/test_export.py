"""A candidate in another format decides as it did, or it is said what is lost."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mitigations import classic, export_daemonset, export_spo
from mitigations.analysis import Change, difference
from mitigations.bpf import Filter
from mitigations.candidate import (
    AppArmorLayer,
    Attachment,
    Candidate,
    CapabilitiesLayer,
    LandlockLayer,
    NoNewPrivsLayer,
    OwnPosture,
    ProfileError,
    ReadOnlyRootLayer,
    SeccompLayer,
)
from mitigations.export import FORMATS, export
from mitigations.load import LIBRARY, load
from mitigations.rules import ACTIONS, OPERATORS

CC = shutil.which("cc")
WITH_RULES = sorted(
    path
    for path in LIBRARY.glob("*.json")
    if path.name not in ("elasticsearch-self.json", "unconfined.json")
)


def candidate(
    folder: Path, profile: Any, name: str = "some.json", *, runtime: str = "runc-1.1"
) -> Candidate:
    path = folder / name
    path.write_text(profile if isinstance(profile, str) else json.dumps(profile))
    (found,) = load(path, runtime=runtime)
    assert isinstance(found, Candidate), str(found.error)
    return found


def again(
    folder: Path, of: Candidate, to: str, runtime: str = ""
) -> tuple[Candidate, tuple[str, ...]]:
    """Read again; what was compiled from no profile as a runtime loads it that adds nothing."""
    runtime = runtime or ("runc-1.1" if of.profile else "crun")
    written = export(of, to)
    suffix = {"spo": "yaml", "bpf": "bpf", "systemd": "service"}.get(to, "json")
    path = folder / f"again.{suffix}"
    path.write_bytes(written.content)
    meaning: Literal["auto", "spo"] = "spo" if to == "spo" else "auto"
    (found,) = load(path, meaning=meaning, runtime=runtime)
    assert isinstance(found, Candidate), str(found.error)
    return found, written.lost


def filters(of: Candidate) -> list[Filter]:
    return [Filter.decode(layer.program) for layer in of.seccomp]


def changes(one: Candidate, other: Candidate) -> Iterator[Change]:
    """Where they do not the same; data that the kernel does not look at is no difference."""
    return (each for each in difference(filters(one), filters(other)) if each.before != each.after)


def decides_alike(one: Candidate, other: Candidate) -> bool:
    return next(changes(one, other), None) is None


def is_said(change: Change, lost: Sequence[str]) -> bool:
    """Whether a line names the table, the call (or that there are more), and both answers."""
    for line in lost:
        names, _, answers = line.rpartition(": ")
        *tables, called = names.split(": ")
        through = tables[0].split(", ") if tables else ["x86_64"]
        named = change.call in called.replace(" and ", ", ").split(", ") or called.endswith(" more")
        some = " on some arguments" if change.conditions else ""
        said = f"{change.after}{some}, not {change.before}"
        if change.abi in through and named and answers == said:
            return True
    return False


@pytest.mark.parametrize("path", WITH_RULES, ids=lambda path: path.stem)
@pytest.mark.parametrize("to", ["oci", "docker", "spo", "bpf"])
def test_the_library_comes_back_as_it_was(tmp_path: Path, path: Path, to: str) -> None:
    (before,) = load(path)
    assert isinstance(before, Candidate)
    after, lost = again(tmp_path, before, to)
    if path.stem == "errno-zero" and to == "spo":
        assert "EPERM" in lost[0]
    else:
        assert after.seccomp[0].program in before.seccomp[0].valid
        assert lost == ()


CONDITIONS = st.fixed_dictionaries(
    {
        "index": st.integers(0, 5),
        "value": st.integers(0, (1 << 63) - 1),
        "valueTwo": st.integers(0, (1 << 63) - 1),
        "op": st.sampled_from(OPERATORS),
    }
)
RULES = st.fixed_dictionaries(
    {
        "names": st.lists(
            st.sampled_from(["mkdir", "chmod", "openat", "socket", "no_such"]), unique=True
        ),
        "action": st.sampled_from([one for one in ACTIONS if one != "SCMP_ACT_NOTIFY"]),
    },
    optional={
        "errnoRet": st.integers(1, 4000),
        "args": st.lists(CONDITIONS, max_size=2, unique_by=lambda one: one["index"]),
    },
)
PROFILES = st.fixed_dictionaries(
    {"defaultAction": st.sampled_from(["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL"])},
    optional={
        "architectures": st.lists(
            st.sampled_from(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]), unique=True
        ),
        "syscalls": st.lists(RULES, max_size=4),
    },
)


@settings(max_examples=60)
@given(PROFILES)
def test_any_profile_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, profile: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("export")
    try:
        before = candidate(folder, profile)
    except ProfileError:
        reject()  # two rules that libseccomp does not take together
    for to in ("oci", "docker", "spo"):
        after, lost = again(folder, before, to)
        assert after.seccomp[0].valid == before.seccomp[0].valid
        assert lost == ()


def layered(**more: Any) -> Candidate:
    program = SeccompLayer(ALLOW, (ALLOW,))
    layers = (
        NoNewPrivsLayer(),
        CapabilitiesLayer(frozenset({"CAP_CHOWN"})),
        AppArmorLayer("mine"),
        LandlockLayer(handled_fs=1),
        ReadOnlyRootLayer(("/tmp",)),
        program,
    )
    return Candidate(
        name="some",
        source="some",
        layers=layers,
        attachment=Attachment.RUNTIME,
        meaning="oci",
        posture=OwnPosture("uid 7", 7, 7, frozenset()),
        **more,
    )


ALLOW = bytes.fromhex("060000000000ff7f")
PROFILES_ONLY = ("oci", "docker", "spo", "daemonset")
SAID = {
    "no_new_privs": (*PROFILES_ONLY, "bpf"),
    "capability set: CAP_CHOWN": (*PROFILES_ONLY, "bpf", "c"),
    "AppArmor profile mine": (*PROFILES_ONLY, "bpf", "c"),
    "Landlock": tuple(one for one in FORMATS if one != "c"),
    "read-only root": (*PROFILES_ONLY, "bpf", "c"),
    "runs as uid 7": (*PROFILES_ONLY, "bpf", "c"),
}


@pytest.mark.parametrize("to", FORMATS)
def test_every_layer_is_written_or_named(tmp_path: Path, to: str) -> None:
    profile = candidate(tmp_path, {"defaultAction": "SCMP_ACT_ALLOW"}).profile
    lost = " | ".join(export(layered(profile=profile), to).lost)
    for words, formats in SAID.items():
        assert (words in lost) is (to in formats)


@pytest.mark.parametrize("to", FORMATS)
def test_what_cannot_be_written_is_refused(to: str) -> None:
    empty = Candidate(name="e", source="e", layers=(), attachment=Attachment.RUNTIME, meaning="oci")
    if to == "systemd":
        assert export(empty, to).content == b"[Service]\n"
        return
    with pytest.raises(ProfileError) as caught:
        export(empty, to)
    assert caught.value.code == "no-filter"


# ------------------------------------------------------------------------- filters without rules


def without_rules(*filters: Candidate) -> Candidate:
    layers = tuple(layer for one in filters for layer in one.seccomp)
    return replace(filters[0], layers=layers, profile=None)


@pytest.mark.parametrize("path", WITH_RULES, ids=lambda path: path.stem)
def test_rules_that_were_forgotten_are_found_again(tmp_path: Path, path: Path) -> None:
    """Those on arguments, too."""
    (before,) = load(path)
    assert isinstance(before, Candidate)
    after, lost = again(tmp_path, without_rules(before), "oci")
    if path.stem == "strict-allowlist":  # of calls beyond the stub libseccomp knows only some
        assert "runc answers ENOSYS" in lost[-1]
    else:
        assert lost == ()
    assert all(is_said(one, lost) for one in changes(before, after))


def test_several_filters_become_one_profile(tmp_path: Path) -> None:
    one = candidate(tmp_path, deny(["mkdir"], architectures=EVERY))
    other = candidate(tmp_path, deny(["chmod", "mkdir"], errno=38, architectures=EVERY))
    both = without_rules(one, other)
    after, _ = again(tmp_path, both, "spo")
    assert decides_alike(both, after)
    assert len(after.seccomp) == 1


def test_a_unit_becomes_a_profile(tmp_path: Path) -> None:
    unit = tmp_path / "some.service"
    unit.write_text("[Service]\nSystemCallFilter=read write\nSystemCallErrorNumber=EPERM\n")
    (before,) = load(unit)
    assert isinstance(before, Candidate)
    written = export(before, "oci")
    assert any("runc answers ENOSYS" in one for one in written.lost)
    path = tmp_path / "again.json"
    path.write_bytes(written.content)
    (after,) = load(path, runtime="crun")
    assert isinstance(after, Candidate)
    assert decides_alike(before, after)


def test_tables_that_answer_differently(tmp_path: Path) -> None:
    """The native one decides; one that denies everything is not listed, and so is closed."""
    native = candidate(tmp_path, deny(["mkdir"], architectures=EVERY[:1]))
    every = candidate(tmp_path, {"defaultAction": "SCMP_ACT_ERRNO", "architectures": EVERY})
    only_i386 = candidate(
        tmp_path, {"defaultAction": "SCMP_ACT_ALLOW", "architectures": EVERY[1:2]}
    )
    assert json.loads(export(without_rules(native, every), "oci").content)
    assert json.loads(export(without_rules(only_i386), "oci").content)["architectures"]
    (self_filter,) = load(LIBRARY / "elasticsearch-self.json")
    assert isinstance(self_filter, Candidate)
    after, lost = again(tmp_path, self_filter, "oci")
    assert any("i386: " in one and one.endswith("KILL_THREAD, not ERRNO(EACCES)") for one in lost)
    found = list(changes(self_filter, after))
    assert all(is_said(one, lost) for one in found)
    assert not any(one.opened for one in found)


def test_what_a_handler_of_sigsys_is_told_is_named(tmp_path: Path) -> None:
    """The data of a TRAP is si_errno, and profiles have no place for it."""
    program = tmp_path / "some.bpf"
    trap = classic.Instruction(classic.RETURN_K, 0, 0, int(classic.Action.TRAP) | 5)
    program.write_bytes(classic.pack([trap]))
    (before,) = load(program)
    assert isinstance(before, Candidate)
    assert any(one.endswith("TRAP, not TRAP(5)") for one in export(before, "oci").lost)


def test_the_flags_of_such_filters_are_named() -> None:
    flagged = SeccompLayer(ALLOW, (ALLOW,), ("SECCOMP_FILTER_FLAG_LOG",))
    one = Candidate(
        name="s", source="s", layers=(flagged,), attachment=Attachment.RUNTIME, meaning="raw"
    )
    for to in ("oci", "docker", "spo", "systemd", "bpf"):
        assert "the flags SECCOMP_FILTER_FLAG_LOG" in export(one, to).lost, to
    assert export(one, "c").lost == ()


def test_docker_drops_the_default_errno(tmp_path: Path) -> None:
    found = candidate(tmp_path, {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38})
    assert export(found, "oci").lost == ()
    assert "38" in export(found, "docker").lost[0]
    assert "38" in export(found, "spo").lost[0]


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("block-mkdir", "block-mkdir"),
        ("deployment/web:app", "deployment-web-app"),
        ("A B_C..", "a-b-c"),
        ("é", "profile"),
        ("x" * 100, "x" * 63),
    ],
)
def test_names_of_resources(name: str, called: str) -> None:
    assert export_spo.resource_name(name) == called


def test_a_value_that_the_operator_cannot_hold(tmp_path: Path) -> None:
    rule = {
        "names": ["chmod"],
        "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 1, "value": 1 << 63, "op": "SCMP_CMP_EQ"}],
    }
    other = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule, other]}
    after, lost = again(tmp_path, candidate(tmp_path, profile), "spo")
    assert decides_alike(after, candidate(tmp_path, {**profile, "syscalls": [other]}))
    (line,) = lost
    assert "below 2**63: chmod get SCMP_ACT_ALLOW there, not SCMP_ACT_ERRNO" in line


def test_the_operator_asks_nobody_by_default(tmp_path: Path) -> None:
    before = candidate(tmp_path, {"defaultAction": "SCMP_ACT_NOTIFY"}, runtime="crun")
    after, lost = again(tmp_path, before, "spo")
    assert after.default_action == "SCMP_ACT_ERRNO"
    assert "SCMP_ACT_NOTIFY" in lost[0]


# ---------------------------------------------------------------------------------------- systemd


def deny(names: list[str], action: str = "SCMP_ACT_ERRNO", **more: Any) -> dict[str, Any]:
    errno = {"errnoRet": more.pop("errno")} if "errno" in more else {}
    rule = {"names": names, "action": action, **errno}
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule], **more}


def allow(names: list[str], action: str = "SCMP_ACT_ERRNO", **more: Any) -> dict[str, Any]:
    errno = {"defaultErrnoRet": more.pop("errno")} if "errno" in more else {}
    rule = {"names": names, "action": "SCMP_ACT_ALLOW"}
    return {"defaultAction": action, "syscalls": [rule], **errno, **more}


def systemd(folder: Path, profile: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    written = export(candidate(folder, profile), "systemd")
    return written.content.decode(), written.lost


def test_a_deny_list_of_systemd(tmp_path: Path) -> None:
    rules = [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"},
        {"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        {"names": ["reboot"], "action": "SCMP_ACT_KILL_PROCESS"},
    ]
    every = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    text, lost = systemd(
        tmp_path, {"defaultAction": "SCMP_ACT_ALLOW", "architectures": every, "syscalls": rules}
    )
    assert text == (
        "[Service]\nSystemCallArchitectures=x86-64 x86 x32\n"
        "SystemCallFilter=~mkdir:EPERM mkdirat:EPERM chmod:ENOSYS reboot:kill\n"
    )
    assert lost == ()


def test_an_allow_list_of_systemd(tmp_path: Path) -> None:
    rules = [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}]
    text, lost = systemd(tmp_path, {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules})
    assert "SystemCallErrorNumber=EPERM\n" in text
    # What systemd lets through of itself is taken out again.
    assert text.endswith(
        "SystemCallFilter=@default\nSystemCallFilter=~@default\nSystemCallFilter=read write\n"
    )
    assert lost == ()


EVERY = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]


WITH_ARGUMENT = [{"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]


@pytest.mark.parametrize(
    "profile",
    [
        deny(["mkdir", "mkdirat"]),
        deny(["mkdir"], errno=38, architectures=EVERY),
        deny(["mkdir"], errno=38, architectures=EVERY[:2]),
        deny(["mkdir"], errno=0),
        deny(["mkdir", "chmod"], action="SCMP_ACT_KILL_PROCESS"),
        allow(["read", "execve"]),
        allow(["read", "mkdir"], errno=38, architectures=EVERY),
        allow(["read"], action="SCMP_ACT_KILL_PROCESS"),
    ],
)
def test_a_unit_decides_as_the_profile(tmp_path: Path, profile: dict[str, Any]) -> None:
    before = candidate(tmp_path, profile)
    after, lost = again(tmp_path, before, "systemd")
    assert lost == ()
    assert decides_alike(before, after)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"action": "SCMP_ACT_TRAP"}, "KILL_PROCESS, not TRAP"),
        ({"action": "SCMP_ACT_NOTIFY"}, "ERRNO(ENOSYS), not USER_NOTIF"),
        ({"action": "SCMP_ACT_KILL"}, "KILL_PROCESS, not KILL_THREAD"),
        (
            {"action": "SCMP_ACT_ERRNO", "args": WITH_ARGUMENT},
            "ALLOW on some arguments, not ERRNO(EPERM)",
        ),
    ],
)
def test_what_systemd_cannot_say_is_named(tmp_path: Path, rule: dict[str, Any], said: str) -> None:
    rules = [{"names": ["chmod"], **rule}]
    before = candidate(tmp_path, {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
    after, lost = again(tmp_path, before, "systemd")
    assert lost == (f"chmod: {said}",)
    assert all(is_said(one, lost) for one in changes(before, after))


def test_two_answers_beside_an_allow_list(tmp_path: Path) -> None:
    rules = [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
    ]
    before = candidate(tmp_path, {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules})
    after, lost = again(tmp_path, before, "systemd")
    assert lost == ()
    assert decides_alike(before, after)


UNIT = """
[Service]
ExecStart=/bin/true
User=1000
NoNewPrivileges=yes
ProtectHome=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=~user
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
SystemCallFilter=@system-service
SystemCallFilter=~@resources mkdir:ENOENT
SystemCallErrorNumber=EPERM
"""


def unit(folder: Path, text: str) -> Candidate:
    path = folder / "before.service"
    path.write_text(text)
    (found,) = load(path)
    assert isinstance(found, Candidate)
    return found


def test_a_unit_is_its_own_drop_in(tmp_path: Path) -> None:
    before = unit(tmp_path, UNIT)
    after, lost = again(tmp_path, before, "systemd")
    assert lost == ()
    assert (after.layers, after.posture) == (before.layers, before.posture)
    text = export(before, "systemd").content.decode()
    assert "ProtectHome=yes\n" in text
    assert "ExecStart" not in text


@pytest.mark.parametrize("to", ["oci", "docker", "spo", "bpf"])
def test_rules_on_arguments_of_a_unit(tmp_path: Path, to: str) -> None:
    """Natively nothing differs; i386 is said to, for rules know no tables."""
    before = unit(tmp_path, UNIT.replace("SystemCallFilter", "#").replace("SystemCallErr", "#"))
    after, lost = again(tmp_path, before, to)
    found = list(changes(before, after))
    assert all(is_said(one, lost) for one in found)
    assert {one.abi for one in found} == ({"i386"} if to != "bpf" else set())


def test_nothing_gets_into_a_unit_file_by_a_name(tmp_path: Path) -> None:
    strange = "mkdir\nExecStart=/bin/false"
    rules = [{"names": ["chmod", strange], "action": "SCMP_ACT_ERRNO"}]
    text, _ = systemd(tmp_path, {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
    assert "ExecStart" not in text
    some = Candidate(
        name="s",
        source="s",
        layers=(AppArmorLayer("a\nExecStart=/bin/false"),),
        attachment=Attachment.RUNTIME,
        meaning="kubernetes",
    )
    with pytest.raises(ProfileError, match="does not fit"):
        export(some, "systemd")


# -------------------------------------------------------------------------------------- C program


def test_the_program_holds_every_instruction(tmp_path: Path) -> None:
    (found,) = load(LIBRARY / "block-mkdir.json")
    assert isinstance(found, Candidate)
    twice = [one for one in (*found.layers, *found.layers) if isinstance(one, SeccompLayer)]
    text = export(
        Candidate(
            name="*/ evil",
            source="s",
            layers=tuple(twice),
            attachment=Attachment.RUNTIME,
            meaning="raw",
        ),
        "c",
    ).content.decode()
    assert text.startswith("/* * / evil: ")
    assert text.count("return ERRNO(EPERM)") == 2
    assert "no_new_privs = 0;" in text


@pytest.mark.skipif(CC is None, reason="needs a C compiler")
@pytest.mark.parametrize("path", WITH_RULES, ids=lambda path: path.stem)
def test_the_program_compiles_without_a_warning(tmp_path: Path, path: Path) -> None:
    (found,) = load(path)
    assert isinstance(found, Candidate)
    source = tmp_path / "under.c"
    source.write_bytes(export(found, "c").content)
    assert CC is not None
    command = [CC, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", str(source)]
    subprocess.run(command, check=True)


# ------------------------------------------------------------------------- ConfigMap and DaemonSet


def test_a_daemon_set_copies_the_very_profile(tmp_path: Path) -> None:
    """Its file is the one that `oci` writes, and our own reader takes its containers."""
    (before,) = load(LIBRARY / "block-mkdir.json")
    assert isinstance(before, Candidate)
    text = export(before, "daemonset").content.decode()
    config, daemon = yaml.safe_load_all(text)
    ((file, content),) = config["data"].items()
    assert content.encode() == export(before, "oci").content
    assert f"# localhostProfile: {file}\n" in text
    spec = daemon["spec"]["template"]["spec"]
    (copies,) = spec["initContainers"]
    assert f"/profiles/{file} " in copies["command"][2]
    assert copies["command"][2].endswith(f" /node/{file}")
    mounted = {one["name"]: one for one in spec["volumes"]}
    assert {one["name"] for one in copies["volumeMounts"]} == set(mounted)
    assert mounted["profiles"]["configMap"]["name"] == config["metadata"]["name"]
    assert mounted["node"]["hostPath"]["path"] == "/var/lib/kubelet/seccomp"
    labels = daemon["spec"]["template"]["metadata"]["labels"]
    assert daemon["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert "&id" not in text

    path = tmp_path / "all.yaml"
    path.write_text(text)
    found = load(path)
    assert [one.name for one in found] == [
        "daemonset/seccomp-block-mkdir:copy",
        "daemonset/seccomp-block-mkdir:wait",
    ]
    for one in found:
        assert isinstance(one, Candidate)
        assert one.seccomp  # RuntimeDefault
        assert {each.code for each in one.warnings} <= {"read-only-root"}


def test_what_its_command_does(tmp_path: Path) -> None:
    (before,) = load(LIBRARY / "block-mkdir.json")
    assert isinstance(before, Candidate)
    config, daemon = yaml.safe_load_all(export(before, "daemonset").content)
    ((file, content),) = config["data"].items()
    for name in ("profiles", "node"):
        (tmp_path / name).mkdir()
    (tmp_path / "profiles" / file).write_text(content)
    command = daemon["spec"]["template"]["spec"]["initContainers"][0]["command"]
    here = [one.replace(" /", f" {tmp_path}/") for one in command]
    subprocess.run(here, check=True)
    assert [one.name for one in (tmp_path / "node").iterdir()] == [file]
    assert (tmp_path / "node" / file).read_text() == content


def test_another_profile_is_another_template_and_names_fit(tmp_path: Path) -> None:
    """Otherwise no node would copy it."""
    texts = [
        export(candidate(tmp_path, {"defaultAction": one}, f"{'a-' * 60}z.json"), "daemonset")
        for one in ("SCMP_ACT_LOG", "SCMP_ACT_ERRNO")
    ]
    first, second = (list(yaml.safe_load_all(one.content))[1] for one in texts)
    templates = [one["spec"]["template"]["metadata"]["annotations"] for one in (first, second)]
    assert templates[0] != templates[1]
    name = first["metadata"]["name"]
    assert len(name) <= 63
    assert not name.endswith("-")


def test_no_config_map_holds_a_megabyte() -> None:
    names = [f"call_{number:06d}" for number in range(60000)]
    rule = {"names": names, "action": "SCMP_ACT_ERRNO"}
    with pytest.raises(ProfileError, match="a ConfigMap holds less than"):
        export_daemonset.objects(json.dumps([rule] * 2).encode(), "big")
