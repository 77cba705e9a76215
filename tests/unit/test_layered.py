"""Layered candidates: what they come to, and every defect in one line with file and place."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from evaluator.confinement import confinement
from evaluator.errors import InputError
from evaluator.options import POSTURES as OFFERED
from evaluator.posture import CONTAINER, POSTURES, mask
from evaluator.request import candidate_of, filters_alone
from evaluator.wire import ConfigSpec
from mitigations import apparmor, layered
from mitigations.candidate import (
    AppArmorLayer,
    Attachment,
    Candidate,
    CapabilitiesLayer,
    FailedCandidate,
    LandlockLayer,
    NoNewPrivsLayer,
    OwnPosture,
    ProfileError,
    ReadOnlyRootLayer,
    SeccompLayer,
)
from mitigations.capabilities import CAPABILITIES
from mitigations.landlock_rights import FS
from mitigations.load import load

FILTER = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}],
}
RULESET = '[[layer]]\nkind = "landlock"\nruleset = [{ handled_access_fs = ["make_dir"] }]\n'
CONTROL = ConfigSpec(0, 0, mask(CONTAINER), no_new_privs=False)


def loaded(tmp_path: Path, text: str) -> Candidate:
    (tmp_path / "filter.json").write_text(json.dumps(FILTER))
    (tmp_path / "stack.toml").write_text(text)
    (found,) = load(tmp_path / "stack.toml")
    assert not isinstance(found, FailedCandidate)
    return found


def test_all_kinds_of_layers(tmp_path: Path) -> None:
    (tmp_path / "p.apparmor").write_text(
        "profile x flags=(complain) {\n  /{usr,bin}/** r, # {\n}\n"
    )
    found = loaded(
        tmp_path,
        'name = "all"\nintent = "everything"\n'
        '[[layer]]\nkind = "seccomp"\nfile = "filter.json"\n'
        + RULESET
        + '[[layer]]\nkind = "capabilities"\ndrop = ["chown", "CAP_MKNOD"]\n'
        '[[layer]]\nkind = "apparmor"\nfile = "p.apparmor"\n'
        '[[layer]]\nkind = "apparmor"\nprofile = "docker-default"\n'
        '[[layer]]\nkind = "read-only-root"\nwritable = ["/tmp"]\n',
    )
    assert (found.name, found.intent, found.meaning) == ("all", "everything", "layered")
    first, *rest = found.layers
    assert isinstance(first, NoNewPrivsLayer)  # nobody restricts himself without it
    kinds = [type(one) for one in rest]
    assert kinds == [
        SeccompLayer, LandlockLayer, CapabilitiesLayer, AppArmorLayer, AppArmorLayer,
        ReadOnlyRootLayer,
    ]  # fmt: skip
    kept = next(one.kept for one in rest if isinstance(one, CapabilitiesLayer))
    assert frozenset(CAPABILITIES) - kept == {"CAP_CHOWN", "CAP_MKNOD"}
    assert [one.profile for one in rest if isinstance(one, AppArmorLayer)] == [
        "x",
        "docker-default",
    ]
    assert found.profile is not None
    assert found.attachment is Attachment.RUNTIME


def test_a_stack_is_what_it_enforces(tmp_path: Path) -> None:
    plain = loaded(tmp_path, '[[layer]]\nkind = "seccomp"\nfile = "filter.json"\n')
    (alone,) = load(tmp_path / "filter.json")
    assert isinstance(alone, Candidate)
    assert plain.digest == alone.digest
    assert plain.seccomp_only
    more = loaded(tmp_path, '[[layer]]\nkind = "seccomp"\nfile = "filter.json"\n' + RULESET)
    other = loaded(tmp_path, RULESET.replace("make_dir", "make_reg"))
    assert len({plain.digest, more.digest, other.digest}) == 3


def test_docker_rules_go_by_the_capabilities_that_are_left(tmp_path: Path) -> None:
    rule = {
        "names": ["chroot"],
        "action": "SCMP_ACT_ALLOW",
        "includes": {"caps": ["CAP_SYS_CHROOT"]},
    }
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "archMap": [], "syscalls": [rule]}
    (tmp_path / "docker.json").write_text(json.dumps(profile))
    stack = '[[layer]]\nkind = "seccomp"\nfile = "docker.json"\n'
    drops = '[[layer]]\nkind = "capabilities"\ndrop = ["SYS_CHROOT"]\n'
    without, with_it = loaded(tmp_path, stack + drops), loaded(tmp_path, stack)
    assert without.profile is not None
    assert with_it.profile is not None
    assert len(without.profile.rules) < len(with_it.profile.rules)


def test_a_posture_of_its_own(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        'posture = { uid = 1000, gid = 1000, capabilities = ["NET_ADMIN"] }\n' + RULESET,
    )
    assert found.posture == OwnPosture("of stack", 1000, 1000, frozenset({"CAP_NET_ADMIN"}))
    assert loaded(tmp_path, 'posture = "restricted"\n' + RULESET).posture == "restricted"


def test_postures_are_those_that_there_are() -> None:
    assert tuple(layered.POSTURES) == tuple(OFFERED)
    for name, has in layered.POSTURES.items():
        assert POSTURES[name].capabilities == has


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layer = 3\n", "line 1: layer: expected at least one [[layer]]"),
        ("layer = []\n", "line 1: layer: expected at least one [[layer]]"),
        ('[[layer]]\nkind = "seccom"\n', "line 2: layer[0].kind: `kind` must be one of seccomp,"),
        ('[[layer]]\nfile = "a"\n', "line 1: layer[0].kind: `kind` must be one of seccomp,"),
        ('[[layer]]\nkind = "seccomp"\n', "line 1: layer[0].file: missing"),
        (
            '[[layer]]\nkind = "seccomp"\nfile = "../x.json"\n',
            "line 3: layer[0].file: '../x.json' leads out of the directory of this file",
        ),
        (
            '[[layer]]\nkind = "seccomp"\nfile = "/etc/passwd"\n',
            "line 3: layer[0].file: '/etc/passwd' leads out of the directory",
        ),
        (
            '[[layer]]\nkind = "seccomp"\nfile = "link.json"\n',
            "line 3: layer[0].file: 'link.json' is a link out of the directory",
        ),
        (
            '[[layer]]\nkind = "seccomp"\nfile = "none.json"\n',
            "line 3: layer[0].file: none.json: ",
        ),
        (
            '[[layer]]\nkind = "seccomp"\nfile = "stack.toml"\n',
            "line 3: layer[0].file: stack.toml: a filter is a *.json or a *.bpf",
        ),
        (
            '[[layer]]\nkind = "landlock"\nfile = "stack.toml"\n',
            "line 3: layer[0].file: stack.toml: line 1: layer: unknown key",
        ),
        (
            '[[layer]]\nkind = "landlock"\nfile = "a.toml"\nabi = 3\n',
            "line 3: layer[0].file: a file, or the ruleset itself, and not both",
        ),
        (
            '[[layer]]\nkind = "seccomp"\nfile = "rules.json"\n',
            "line 3: layer[0].file: rules.json is no seccomp profile",
        ),
        (
            RULESET + '[[layer]]\nkind = "capabilities"\n\n\ndrop = ["CAP_CHWON"]\n',
            "line 8: layer[1].drop[0]: no capability 'CAP_CHWON' (did you mean 'CAP_CHOWN'?)",
        ),
        (
            '[[layer]]\nkind = "capabilities"\n',
            "line 1: layer[0]: either `keep`, what is left, or `drop`, what is taken away",
        ),
        (
            '[[layer]]\nkind = "capabilities"\nkeep = []\nadd = []\n',
            "line 4: layer[0].add: unknown key 'add'",
        ),
        ('[[layer]]\nkind = "apparmor"\n', "line 1: layer[0]: either `file`, with the profile, or"),
        (
            '[[layer]]\nkind = "apparmor"\nfile = "broken.apparmor"\n',
            "line 3: layer[0].file: broken.apparmor: line 1: a { that nothing closes",
        ),
        (
            '[[layer]]\nkind = "read-only-root"\nwritable = ["tmp"]\n',
            "line 3: layer[0].writable[0]: 'tmp' is no absolute path",
        ),
        (
            'posture = "contaner"\n' + RULESET,
            "line 1: posture: unknown posture 'contaner' (did you",
        ),
        ("posture = { uid = -1 }\n" + RULESET, "line 1: posture.uid: -1 is no id"),
        ("posture = { user = 1 }\n" + RULESET, "line 1: posture.user: unknown key 'user'"),
        ('attachment = "own"\n' + RULESET, "line 1: attachment: unknown attachment 'own'"),
        ("intent = 3\n" + RULESET, "line 1: intent: expected a string, found a number"),
        (
            "intnet = 'x'\n" + RULESET,
            "line 1: intnet: unknown key 'intnet' (did you mean 'intent'?)",
        ),
    ],
)
def test_every_defect_is_one_line_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "x.json").write_text(json.dumps(FILTER))
    (folder / "link.json").symlink_to(tmp_path / "x.json")
    (folder / "rules.json").write_text('{"ruleset": [{"scoped": ["signal"]}]}')
    (folder / "broken.apparmor").write_text("profile x {\n")
    with pytest.raises(ProfileError) as error:
        loaded(folder, text)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("#include <tunables/global>\nprofile a /usr/bin/a {\n}\n", "a"),
        ("/usr/bin/b {\n  #include <abstractions/base>\n}\n", "/usr/bin/b"),
        ('profile "with space" flags=(attach_disconnected) {\n @{PROC}/** r,\n}\n', "with space"),
        ("profile e { deny /etc/{a,b}/** w, }\n", "e"),
        ("/usr/bin/f flags=(complain) { /** r, }\n", "/usr/bin/f"),
        ("@{X}=/home/{a,b} /root\nprofile g {}\n", "g"),
        ("profile c {\n  profile inner {\n }\n}\nprofile d {\n}\n", "c"),
        ("/usr/{bin,sbin}/h flags=(attach_disconnected) {\n}\n", "/usr/{bin,sbin}/h"),
        ("profile @{exec_path} {\n}\n", "@{exec_path}"),
        ("profile i{\n}\n", "i"),
    ],
)
def test_the_name_of_an_apparmor_profile(text: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "x.apparmor").write_text(text)
    (found,) = load(tmp_path)
    assert isinstance(found, Candidate)
    (layer,) = found.layers
    assert isinstance(layer, AppArmorLayer)
    assert (layer.profile, layer.text) == (name, text)


@pytest.mark.parametrize(
    ("head", "without"),
    [
        ("profile a /usr/{bin,sbin}/a flags=(complain) {", "profile a flags=(complain) {"),
        ('profile "b c" "/opt/b c" {', 'profile "b c" {'),
        ("profile d @{exec_path} {", "profile d {"),
        ("profile e flags=(attach_disconnected) {", "profile e flags=(attach_disconnected) {"),
        ("/usr/bin/f {", "/usr/bin/f {"),
    ],
)
def test_a_profile_without_what_it_attaches_to(head: str, without: str) -> None:
    text = "include <tunables/global>\n{}\n /usr/** r,\n}}\nprofile other /bin/sh {{\n}}\n"
    assert apparmor.unattached(text.format(head)) == text.format(without)


def test_of_several_profiles_of_a_file_one_is_put_on(tmp_path: Path) -> None:
    (tmp_path / "p.apparmor").write_text("profile a {\n}\nprofile b {\n}\nprofile c {\n}\n")
    (tmp_path / "stack.toml").write_text('[[layer]]\nkind = "apparmor"\nfile = "p.apparmor"\n')
    for file, where in (("p.apparmor", "line 3"), ("stack.toml", "p.apparmor: line 3")):
        (found,) = load(tmp_path / file)
        assert isinstance(found, Candidate)
        (warning,) = found.warnings
        assert (warning.code, warning.where) == ("another-profile", where)
        assert "the profile a that is put on" in warning.message


@pytest.mark.parametrize("text", ["", "# profile x {\n", "abi <abi/4.0>,\n", "profile x {\n}}\n"])
def test_what_is_no_apparmor_profile(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.apparmor").write_text(text)
    with pytest.raises(ProfileError):
        load(tmp_path / "x.apparmor")


def test_a_directory_has_other_toml_as_well(tmp_path: Path) -> None:
    loaded(tmp_path, RULESET)
    (tmp_path / "library.toml").write_text("")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    (tmp_path / "rules.toml").write_text('[[ruleset]]\nscoped = ["signal"]\n')
    assert [one.name for one in load(tmp_path)] == ["filter", "rules", "stack"]


def _no_profile(layer: AppArmorLayer) -> str:
    return f"{layer.profile} is not loaded"


def test_an_apparmor_profile_is_put_on_where_it_can_be_loaded() -> None:
    one = Candidate("x", "x", (AppArmorLayer("p", "profile p {}"),), Attachment.RUNTIME, "layers")
    refused = confinement(CONTROL, one, 0, _no_profile)
    assert refused.config.apparmor == ""
    assert [each.reason for each in refused.absent] == ["AppArmor profile 'p': p is not loaded"]
    found = confinement(CONTROL, one, 0, lambda _: "")
    assert found.config.apparmor == "p"
    assert found.absent == ()
    assert list(found.alone) == ["apparmor"]
    two = replace(one, layers=(*one.layers, AppArmorLayer("q")))
    assert len(confinement(CONTROL, two, 0, lambda _: "").absent) == 2


def test_what_each_kind_of_layer_does_alone(tmp_path: Path) -> None:
    drops = '[[layer]]\nkind = "capabilities"\ndrop = ["CHOWN"]\n'
    seccomp = '[[layer]]\nkind = "seccomp"\nfile = "filter.json"\n'
    found = confinement(CONTROL, loaded(tmp_path, seccomp + RULESET + drops), 7, _no_profile)
    assert found.config.no_new_privs
    assert len(found.config.filters) == len(found.config.rulesets) == 1
    assert found.config.capabilities_left == mask(CONTAINER - {"CAP_CHOWN"})
    assert list(found.alone) == ["no-new-privs", "landlock", "capabilities"]
    assert not any(one.filters for one in found.alone.values())
    assert not found.alone["no-new-privs"].rulesets
    assert found.alone["capabilities"].no_new_privs is False
    assert found.absent == ()
    # Of filters alone the simulator knows everything.
    assert confinement(CONTROL, loaded(tmp_path, seccomp), 0, _no_profile).alone == {}


def test_a_kernel_without_landlock_or_with_an_older_one(tmp_path: Path) -> None:
    handled = FS["make_dir"].bit | FS["truncate"].bit
    layers = (NoNewPrivsLayer(), LandlockLayer(handled, scoped=2))
    candidate = Candidate("x", "x", layers, Attachment.RUNTIME, "landlock")
    none = confinement(CONTROL, candidate, 0, _no_profile)
    assert none.config.rulesets == ()
    assert none.absent[0].concerns("create-directory@/data")
    old = confinement(CONTROL, candidate, 2, _no_profile)
    assert old.config.rulesets == (LandlockLayer(FS["make_dir"].bit),)
    assert [one.reason for one in old.absent] == [
        "Landlock: LANDLOCK_ACCESS_FS_TRUNCATE needs ABI 3, and this kernel has 2",
        "Landlock: LANDLOCK_SCOPE_SIGNAL needs ABI 6, and this kernel has 2",
    ]
    truncate, signal = old.absent
    assert truncate.concerns("truncate-file@/data")
    assert not truncate.concerns("create-directory")
    assert signal.concerns("kill-process[signal=9]")


def test_commands_for_filters_alone_say_so(tmp_path: Path) -> None:
    loaded(tmp_path, RULESET)
    candidate = candidate_of(str(tmp_path / "stack.toml"))
    with pytest.raises(InputError, match=r"explain is for filters alone, .* landlock$"):
        filters_alone(candidate, "explain")
    plain = candidate_of(str(tmp_path / "filter.json"))
    assert filters_alone(plain, "explain") is plain
