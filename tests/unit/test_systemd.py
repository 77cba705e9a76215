"""Units of systemd: what is made of them, against what systemd itself was seen to make of them."""

import json
import shutil
from pathlib import Path

import pytest
from systemd_capture import candidate, differences, filters_of, recorded, write

from evaluator import installed_systemd
from mitigations import libseccomp, systemd, systemd_facts, systemd_keys
from mitigations.bpf import Filter, decide_stack
from mitigations.candidate import (
    Candidate,
    CapabilitiesLayer,
    FailedCandidate,
    NoNewPrivsLayer,
    OwnPosture,
    ProfileError,
)
from mitigations.load import load
from mitigations.systemd_facts import of_installed, sets_of
from mitigations.x86_64 import AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, NUMBERS

CAPTURE = recorded()


@pytest.mark.parametrize("name", CAPTURE["units"])
def test_systemd_was_seen_to_load_the_same(name: str, tmp_path: Path) -> None:
    """Every filter in every byte, no_new_privs, capabilities and who it runs as."""
    unit = CAPTURE["units"][name]
    if CAPTURE["provenance"]["libseccomp"] != libseccomp.version():
        pytest.skip("captured with another libseccomp, which makes other bytes")
    write(tmp_path, unit["files"])
    ours = candidate(tmp_path / name)
    assert not differences(name, ours, filters_of(unit), unit["status"])


def test_the_capture_has_filters_for_all_that_makes_some() -> None:
    text = json.dumps(CAPTURE["units"])
    for key in systemd_keys.HONOURED | systemd_keys.IN_PART.keys():
        assert f"{key}=" in text
    assert sum(bool(unit["filters"]) for unit in CAPTURE["units"].values()) > 40


@pytest.mark.parametrize("name", CAPTURE["refused"])
def test_what_systemd_cannot_start_is_refused(name: str, tmp_path: Path) -> None:
    write(tmp_path, {name: CAPTURE["refused"][name]})
    with pytest.raises(ProfileError) as caught:
        candidate(tmp_path / name)
    assert "systemd" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_setting_that_systemd_knows_is_forgotten() -> None:
    settings = systemd_facts.recorded().settings
    known = frozenset[str]().union(
        *(settings[each] for each in ("Service", "Socket", "Mount", "Swap"))
    )
    ours = (
        systemd_keys.HONOURED,
        frozenset(systemd_keys.IN_PART),
        systemd_keys.NOT_MODELLED,
        systemd_keys.NOT_ENFORCING,
    )
    assert frozenset[str]().union(*ours) == known
    assert sum(map(len, ours)) == len(known), "a setting is in two lists"


def unit(tmp_path: Path, *lines: str, name: str = "x.service") -> Candidate:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return candidate(path)


def codes(one: Candidate) -> list[str]:
    return [warning.code for warning in one.warnings]


@pytest.mark.parametrize("key", sorted(systemd_keys.NOT_MODELLED))
def test_what_is_enforced_and_not_modelled_is_named(key: str, tmp_path: Path) -> None:
    found = unit(tmp_path, "[Service]", f"{key}=something")
    if key not in systemd_facts.recorded().settings["Service"]:
        found = unit(tmp_path, "[Socket]", f"{key}=something", name="x.socket")
    assert any(key in one.message for one in found.warnings)


def test_what_is_off_is_not_named(tmp_path: Path) -> None:
    assert not unit(
        tmp_path, "[Service]", "PrivateTmp=no", "ProtectSystem=", "TasksMax=infinity"
    ).warnings


def test_mistakes_are_said_with_file_line_and_what_was_meant(tmp_path: Path) -> None:
    found = unit(
        tmp_path,
        "SystemCallFilter=~mkdir",
        "[Unit]",
        "SystemCallFilter=~mkdir",
        "[Service]",
        "SystemCallFiltr=~mkdir",
        "SystemCallFilter=~mkdri @modul uname:EPREM",
        "nonsense",
        "SystemCallArchitectures=natve",
        "CapabilityBoundingSet=~CAP_SYS_ADIMN",
        "NoNewPrivileges=maybe",
        "[Servce]",
        "ExecStart=+/bin/true",
        "[X-Own]",
        "Whatever=1",
    )
    said = [(one.code, one.where.rpartition(":")[2]) for one in found.warnings]
    assert said == [
        ("ignored-line", "1"),
        ("ignored-line", "7"),
        ("unknown-section", "11"),
        ("unknown-key", "3"),
        ("unknown-key", "5"),
        ("ignored-value", "6"),
        ("ignored-value", "6"),
        ("ignored-value", "6"),
        ("ignored-value", "8"),
        ("ignored-value", "9"),
        ("reset-by-typo", "9"),
        ("ignored-value", "10"),
    ]
    messages = " ".join(one.message for one in found.warnings)
    for meant in ("'SystemCallFilter'", "'mkdir'", "'@module'", "'EPERM'", "'native'", "'Service'"):
        assert f"did you mean {meant}?" in messages
    assert "it belongs into [Service]" in messages
    assert not found.seccomp


def test_command_without_restrictions_is_named(tmp_path: Path) -> None:
    found = unit(tmp_path, "[Service]", "ExecStart=-+/bin/a", "ExecStartPre=-/bin/b+c")
    assert codes(found) == ["unrestricted-command"]


def test_a_user_brings_a_posture_and_root_a_layer(tmp_path: Path) -> None:
    user = unit(tmp_path, "[Service]", "User=web", "AmbientCapabilities=CAP_CHOWN")
    root = unit(tmp_path, "[Service]", "CapabilityBoundingSet=CAP_CHOWN")
    assert isinstance(user.posture, OwnPosture)
    assert isinstance(root.posture, OwnPosture)
    assert (user.posture.uid, user.posture.capabilities) == (1000, {"CAP_CHOWN"})
    assert user.layers == ()
    assert (root.posture.uid, len(root.posture.capabilities)) == (0, 41)
    assert root.layers == (CapabilitiesLayer(frozenset({"CAP_CHOWN"})),)


def test_uid_of_a_unit_is_one_that_the_sandbox_has(tmp_path: Path) -> None:
    for given, uid in (("0", 0), ("7", 7), ("65534", 65534), ("65536", 1000), ("a%i", 1000)):
        found = unit(tmp_path, "[Service]", f"User={given}")
        assert isinstance(found.posture, OwnPosture)
        assert found.posture.uid == uid
    assert codes(found) == ["specifier"]


def test_a_user_by_number_is_said_not_to_be_looked_up(tmp_path: Path) -> None:
    assert codes(unit(tmp_path, "[Service]", "User=99999")) == ["user-not-looked-up"]
    run_as_root = unit(tmp_path, "[Service]", "User=7", "ExecStart=!/bin/x")
    assert "user-not-looked-up" in codes(run_as_root)
    for lines in (["User=0"], ["User=web"], ["User=7", "User="], ["User=7", "DynamicUser=yes"]):
        assert "user-not-looked-up" not in codes(unit(tmp_path, "[Service]", *lines))


# Each as systemd 252 was seen to take it: of a drop-in with one of these, the rest is left out.
NO_USERS = (
    "00",
    "01",
    "-1",
    "65535",
    "4294967295",
    "99999999999",
    "9" * 5000,
    "a/b",
    "a:b",
    "..",
    "a\x7f",
)


@pytest.mark.parametrize("value", NO_USERS)
@pytest.mark.parametrize("key", ["User", "Group"])
def test_what_can_be_no_user(key: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="systemd does not start the unit"):
        unit(tmp_path, "[Service]", f"{key}={value}", f"{key}=nobody")
    drop(tmp_path, "y.service.d/a.conf", "User=7", f"{key}={value}", "User=8", "[Bad")
    found = unit(tmp_path, "[Service]", name="y.service")
    assert isinstance(found.posture, OwnPosture)
    assert found.posture.uid == 7
    assert sorted(codes(found)) == ["rest-ignored", "user-not-looked-up"]


@pytest.mark.parametrize("value", ["+1", "0x1", "1_0", "a b", "-a", '"nobody"', "\u0663", "a*", ""])
def test_what_systemd_looks_up_as_a_user(value: str, tmp_path: Path) -> None:
    found = unit(tmp_path, "[Service]", f"User={value}")
    assert isinstance(found.posture, OwnPosture)
    assert found.posture.uid == (1000 if value else 0)


@pytest.mark.parametrize("mistake", [b'[Bad"sec]', b"Description=\xff", b"A=b \\\n \xff"])
def test_drop_in_counts_up_to_its_first_mistake(mistake: bytes, tmp_path: Path) -> None:
    """The lines of which systemd 252 was seen to make three filters, and no more."""
    (tmp_path / "x.service").write_text("[Service]\n")
    (tmp_path / "x.service.d").mkdir()
    lines = b"[Service]\n# \xff\nSystemCallFilter=~chmod\n%s\n[Service]\nNoNewPrivileges=yes\n"
    (tmp_path / "x.service.d" / "a.conf").write_bytes(lines % mistake)
    (tmp_path / "x.service.d" / "b.conf").write_text("[Service]\nUser=web\n")
    found = candidate(tmp_path / "x.service")
    assert len(found.seccomp) == 3
    assert isinstance(found.posture, OwnPosture)
    assert found.posture.name == "systemd-user"
    (warning,) = found.warnings
    assert warning.code == "rest-ignored"
    assert warning.where == f"{tmp_path}/x.service.d/a.conf:4"
    (tmp_path / "x.service").write_bytes(lines % mistake)
    with pytest.raises(ProfileError, match=r"x.service:4: .*systemd does not start the unit"):
        candidate(tmp_path / "x.service")


def test_bounding_set_of_a_user_is_said_not_to_be_modelled(tmp_path: Path) -> None:
    lines = ("[Service]", "User=web", "CapabilityBoundingSet=CAP_KILL")
    assert codes(unit(tmp_path, *lines)) == ["not-modelled"]
    assert codes(unit(tmp_path, *lines, "NoNewPrivileges=yes")) == []


def test_user_and_filter_mean_no_new_privs(tmp_path: Path) -> None:
    found = unit(tmp_path, "[Service]", "User=web", "SystemCallFilter=~mkdir")
    assert isinstance(found.layers[0], NoNewPrivsLayer)
    assert len(found.seccomp) == 3


def test_each_architecture_has_its_own_filter_and_lets_the_others_pass(tmp_path: Path) -> None:
    found = unit(tmp_path, "[Service]", "SystemCallFilter=~mkdir", "SystemCallErrorNumber=EACCES")
    filters = [Filter.decode(layer.program) for layer in found.seccomp]
    for arch, abi in ((AUDIT_ARCH_I386, "i386"), (AUDIT_ARCH_X86_64, "x86_64")):
        number = NUMBERS[abi]["mkdir"]
        alone = [one.decide(arch, number, ()).text for one in filters]
        assert sorted(alone) == ["ALLOW", "ALLOW", "ERRNO(EACCES)"]
        assert decide_stack(filters, arch, number, ()).text == "ERRNO(EACCES)"


# --- drop-ins -----------------------------------------------------------------------------------


def drop(folder: Path, name: str, *lines: str) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(("[Service]", *lines)) + "\n")


def test_drop_ins_are_read_by_name_the_most_special_of_each_name(tmp_path: Path) -> None:
    (tmp_path / "a-b@c.service").write_text("[Service]\n")
    for folder in (
        "a-b@c.service.d",
        "a-b@.service.d",
        "a-@c.service.d",
        "a-@.service.d",
        "service.d",
    ):
        drop(tmp_path, f"{folder}/same.conf")
    drop(tmp_path, "service.d/10.conf")
    drop(tmp_path, "a-@.service.d/20.conf")
    drop(tmp_path, "a-b@.service.d/15.conf")
    drop(tmp_path, "a-b@d.service.d/99.conf")
    found = [str(one.relative_to(tmp_path)) for one in systemd.drop_ins(tmp_path / "a-b@c.service")]
    assert found == [
        "service.d/10.conf",
        "a-b@.service.d/15.conf",
        "a-@.service.d/20.conf",
        "a-b@c.service.d/same.conf",
    ]


def test_drop_ins_of_prefixes_are_read_for_a_template_and_its_instances(tmp_path: Path) -> None:
    for number, folder in enumerate(("a-.service.d", "a-@.service.d", "a-@c.service.d")):
        drop(tmp_path, f"{folder}/{number}.conf")

    def folders(unit: str) -> set[str]:
        return {one.parent.name for one in systemd.drop_ins(tmp_path / unit)}

    assert folders("a-b@c.service") == {"a-.service.d", "a-@.service.d", "a-@c.service.d"}
    assert folders("a-b@.service") == {"a-.service.d", "a-@.service.d"}
    assert folders("a-b.service") == {"a-.service.d"}


def test_a_command_with_one_exclamation_mark_is_run_as_root(tmp_path: Path) -> None:
    def of(*lines: str) -> Candidate:
        path = tmp_path / "a.service"
        path.write_text("\n".join(["[Service]", "User=nobody", "SystemCallFilter=~mkdir", *lines]))
        return candidate(path)

    def codes(found: Candidate) -> list[str]:
        return [one.code for one in found.warnings]

    plain, root = of("ExecStart=!!/x"), of("ExecStart=/x", "ExecStart=!/y")
    assert isinstance(plain.posture, OwnPosture)
    assert isinstance(root.posture, OwnPosture)
    assert (plain.posture.uid, codes(plain), plain.brings_no_new_privs) == (1000, [], True)
    assert (root.posture.uid, codes(root)) == (0, ["unrestricted-command"])
    assert not root.brings_no_new_privs
    again = of("ExecStart=!/x", "ExecStart=", "ExecStart=/y", "ExecStartPre=-!/z")
    assert isinstance(again.posture, OwnPosture)
    assert again.posture.uid == 1000
    assert codes(again) == ["unrestricted-command"] * 2


@pytest.mark.parametrize("line", ["LimitFSIZE=0", "TasksMax=0", "AllowedCPUs=0", "Group=0"])
def test_zero_is_a_limit_and_not_off(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.service"
    path.write_text(f"[Service]\nSystemCallFilter=~mkdir\n{line}\n")
    assert [one.code for one in candidate(path).warnings] == ["not-modelled"]
    path.write_text("[Service]\nSystemCallFilter=~mkdir\nPrivateTmp=0\nLimitFSIZE=infinity\n")
    assert not candidate(path).warnings


def test_drop_in_that_is_empty_or_a_link_to_null_hides_those_behind_it(tmp_path: Path) -> None:
    (tmp_path / "a.service").write_text("[Service]\n")
    for name in ("one.conf", "two.conf", "three.conf"):
        drop(tmp_path, f"service.d/{name}")
    (tmp_path / "a.service.d").mkdir()
    (tmp_path / "a.service.d" / "one.conf").symlink_to("/dev/null")
    (tmp_path / "a.service.d" / "two.conf").write_text("")
    found = [one.name for one in systemd.drop_ins(tmp_path / "a.service")]
    assert found == ["three.conf"]


def test_file_of_systemds_own_directories_has_the_drop_ins_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etc, lib = tmp_path / "etc", tmp_path / "lib"
    lib.mkdir()
    monkeypatch.setattr(systemd, "SEARCH_PATH", (etc, lib))
    (lib / "a.service").write_text("[Service]\nSystemCallFilter=~mkdir\n")
    drop(lib, "a.service.d/one.conf", "SystemCallFilter=~chmod")
    drop(etc, "a.service.d/one.conf", "SystemCallFilter=")
    drop(etc, "service.d/two.conf", "NoNewPrivileges=yes")
    found = candidate(lib / "a.service")
    assert found.layers == (NoNewPrivsLayer(),)


def test_line_of_a_drop_in_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.service").write_text("[Service]\n")
    drop(tmp_path, "a.service.d/one.conf", "Sytem=1")
    (warning,) = candidate(tmp_path / "a.service").warnings
    assert warning.where == f"{tmp_path}/a.service.d/one.conf:2"


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.service", b"", "masked"),
        ("a.timer", b"[Timer]\n", "runs no command"),
        ("a.target", b"[Unit]\n", "runs no command"),
        ("a.service", b"[Service\n", "a.service:1: invalid section header"),
        ("a.service", b"[Service]\nX=\xff\n", "a.service:2: not UTF-8"),
        ("a.service", b"[Service]\n\n\0", "a.service:3: a NUL byte"),
        (
            "a.service",
            b"[Service]\nSystemCallFilter=@known\nSystemCallFilter=~uname:kill\n",
            "uname is answered what all calls are that are not named",
        ),
    ],
)
def test_bad_unit_is_one_line(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ProfileError) as caught:
        candidate(tmp_path / name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_directory_holds_units_too_and_goes_on_behind_a_bad_one(tmp_path: Path) -> None:
    (tmp_path / "a.service").write_text("[Service]\nNoNewPrivileges=yes\n")
    (tmp_path / "b.service").write_text("[\n")
    (tmp_path / "c.timer").write_text("[Timer]\n")
    (tmp_path / "README").write_text("x")
    found = load(tmp_path)
    assert [one.name for one in found] == ["a.service", "b"]
    assert isinstance(found[1], FailedCandidate)


def test_masked_unit_is_refused_and_passed_over_in_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a.service").symlink_to("/dev/null")
    (tmp_path / "b.service").write_text("")
    (tmp_path / "c.service").write_text("[Service]\nNoNewPrivileges=yes\n")
    with pytest.raises(ProfileError, match="masked"):
        candidate(tmp_path / "a.service")
    assert [one.name for one in load(tmp_path)] == ["c.service"]


def test_unit_without_a_name_is_known_by_its_first_section(tmp_path: Path) -> None:
    path = tmp_path / "unit"
    path.write_text("# said\n\n; again\n[Unit]\nDescription=x\n[Service]\nNoNewPrivileges=yes\n")
    assert candidate(path).layers == (NoNewPrivsLayer(),)


def test_socket_unit_is_for_its_own_commands(tmp_path: Path) -> None:
    found = unit(tmp_path, "[Socket]", "SystemCallFilter=~mkdir", name="a.socket")
    assert codes(found) == ["own-commands-only"]
    assert len(found.seccomp) == 3


# --- the sets -----------------------------------------------------------------------------------


def test_sets_of_an_installed_systemd_replace_the_recorded_ones(tmp_path: Path) -> None:
    listing = "@default\n    # Said\n    exit\n\n@own\n    # Ours\n    mkdir\n    @default\n# Not\n"
    assert sets_of(listing) == {"@default": ["exit"], "@own": ["mkdir", "@default"]}
    facts = of_installed("systemd 257 (257.1-1)", listing)
    path = tmp_path / "x.service"
    path.write_text("[Service]\nSystemCallFilter=~@own\nSystemCallFilter=~@aio\n")
    found = candidate(path, facts)
    assert codes(found) == ["ignored-value", "other-systemd"]
    (native,) = (Filter.decode(found.seccomp[-1].program),)
    assert native.decide(AUDIT_ARCH_X86_64, NUMBERS["x86_64"]["mkdir"], ()).text == "KILL_PROCESS"
    assert native.decide(AUDIT_ARCH_X86_64, NUMBERS["x86_64"]["exit"], ()).text == "KILL_PROCESS"


def test_version_that_says_nothing_is_none() -> None:
    assert systemd_facts.recorded().number == systemd_facts.MODELLED
    assert of_installed("what", "").number == 0


# ---------------------------------------------------------------------- the systemd of this machine

_ANALYZE = """#!/bin/sh
if [ "$1" = --version ]; then echo "systemd 255 (255.4-1)"; else cat <<LIST
@default
    read
@mine
    mkdir
LIST
fi
"""


@pytest.mark.parametrize(
    ("script", "version"),
    [
        (_ANALYZE, 255),
        (None, 252),  # not installed
        ("#!/bin/sh\nexit 1\n", 252),
        ("#!/bin/sh\necho what\n", 252),
        (_ANALYZE.replace("@default", "@other"), 252),
        ("not a program", 252),
    ],
)
def test_sets_are_those_of_the_installed_systemd_or_else_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, version: int
) -> None:
    if script is not None:
        (tmp_path / "systemd-analyze").write_text(script)
        (tmp_path / "systemd-analyze").chmod(0o755)
    cat = shutil.which("cat")
    assert cat is not None
    (tmp_path / "cat").symlink_to(cat)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = installed_systemd.facts.__wrapped__()
    assert (found.number, found.installed) == (version, version == 255)
    if version == 255:
        assert list(found.sets["@mine"]) == ["mkdir"]
    else:
        assert found.sets == systemd_facts.recorded().sets
