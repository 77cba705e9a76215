"""What stands on the command line: patterns, one candidate of several, what has changed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluator import cli, inputs
from evaluator.errors import InputError
from evaluator.inputs import expanded, named
from mitigations.candidate import ProfileError

PROFILE = """{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
 "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"""
FAMILY = ("--simulate", "--family", "create-directory")
Command = Callable[..., tuple[int, str, str]]


def pod(*names: str, profile: str = "deny.json") -> str:
    localhost = {"type": "Localhost", "localhostProfile": profile}
    containers = [{"name": one, "securityContext": {"seccompProfile": localhost}} for one in names]
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web"},
            "spec": {"containers": containers},
        }
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "deny.json").write_text(PROFILE)
    (tmp_path / "web.yaml").write_text(pod("a", "b"))
    (tmp_path / "one.yml").write_text(pod("c"))
    (tmp_path / "profile.json").write_text(PROFILE)
    return tmp_path


@pytest.fixture
def command(folder: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([*arguments])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def changed_since(revision: str, paths: list[str]) -> list[str]:
    return inputs.changed_since(revision, paths, lambda _: [])


def names(out: str) -> list[str]:
    return [one["name"] for one in json.loads(out)["candidates"]]


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=n", "-c", "user.email=n@invalid", "-c", "init.defaultBranch=main"]
    command = ["git", "-C", str(folder), *who, *arguments]
    subprocess.run(command, check=True, capture_output=True)


# --------------------------------------------------------------------------- paths and patterns


def test_a_name_behind_a_mark(folder: Path) -> None:
    assert named("web.yaml").name == ""
    assert (named("web.yaml#pod/web:a").path, named("web.yaml#pod/web:a").name) == (
        "web.yaml",
        "pod/web:a",
    )
    (folder / "a#b").write_text("")
    assert named("a#b").path == "a#b"


def test_patterns_that_no_shell_expanded(folder: Path) -> None:
    assert expanded(["*.y*ml"]) == ["one.yml", "web.yaml"]
    assert expanded(["web.yaml", "nosuch.json"]) == ["web.yaml", "nosuch.json"]
    (folder / "[x].json").write_text(PROFILE)
    assert expanded(["[x].json"]) == ["[x].json"]
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "p.json").write_text(PROFILE)
    assert expanded(["deep/**/*.json"]) == ["deep/er/p.json"]
    with pytest.raises(ProfileError, match="no file is called like that"):
        expanded(["*.nosuch"])


def test_one_of_several_is_chosen_by_name(command: Command) -> None:
    root = ("--seccomp-root", "root")
    code, out, _ = command("explain", "web.yaml#pod/web:b", "mkdir", *root)
    assert code == 0
    assert "ERRNO(EPERM)" in out
    code, out, err = command("explain", "web.yaml", "mkdir", *root)
    assert (code, out) == (2, "")
    assert "name one of them, as web.yaml#pod/web:a" in err
    code, out, err = command("explain", "web.yaml#pod/web:x", "mkdir", *root)
    assert (code, out) == (2, "")
    assert "or pod/web:a?" in err


def test_evaluate_takes_patterns_and_says_what_meets_nothing(command: Command) -> None:
    code, out, err = command(
        "evaluate", "*.y*ml", "x*.json", *FAMILY, "--json", "--seccomp-root", "root"
    )
    assert code == 2
    assert err == "sidestep: x*.json: no file is called like that\n"
    assert names(out) == ["x*.json", "pod/web:c", "pod/web:a", "pod/web:b"]


def test_names_in_several_files_stay_apart(command: Command, folder: Path) -> None:
    (folder / "again.yaml").write_text(pod("a"))
    _, out, _ = command(
        "evaluate", "again.yaml", "web.yaml", *FAMILY, "--json", "--seccomp-root", "root"
    )
    assert names(out) == ["again.yaml", "web.yaml#pod/web:a", "pod/web:b"]


def test_stdin_holds_a_manifest_or_a_profile(folder: Path) -> None:
    for file, name in (("one.yml", "pod/web:c"), ("profile.json", "stdin")):
        with (folder / file).open("rb") as source:
            done = subprocess.run(
                [
                    *(sys.executable, "-c", "from evaluator.cli import main; main()"),
                    *("evaluate", "-", *FAMILY, "--json", "--seccomp-root", "root"),
                ],
                stdin=source,
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        assert names(done.stdout) == [name], done.stderr


def test_the_node_is_what_the_options_say(command: Command, folder: Path) -> None:
    (folder / "bare.yaml").write_text("kind: Pod\nspec: {containers: [{name: c}]}\n")
    default = ("--runtime-default", "profile.json")
    _, out, _ = command("explain", "bare.yaml", "mkdir", *default)
    assert "no filter" in out or "ALLOW" in out
    _, out, _ = command("explain", "bare.yaml", "mkdir", "--seccomp-default", *default)
    assert "ERRNO(EPERM)" in out
    code, _, err = command("explain", "bare.yaml", "mkdir", "--seccomp-root", "")
    assert (code, err) == (2, "sidestep: --seccomp-root: an empty path\n")
    code, _, err = command("explain", "web.yaml#pod/web:a", "mkdir", "--seccomp-root", "nosuch")
    assert code == 2
    assert err.startswith("sidestep: web.yaml:")
    assert "nosuch/deny.json is not there" in err


def test_diff_of_files_with_several_candidates(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("evaluate", *FAMILY, "--seccomp-root", str(folder / "root"), "--json")
    monkeypatch.setattr(sys, "argv", ["sidestep", *arguments])  # which the results remember
    _, out, _ = command(*arguments, "web.yaml")
    (folder / "run.json").write_text(out)
    code, out, err = command("diff", "run.json", "web.yaml")
    assert (code, err) == (0, "")
    assert "nothing differs" in out
    (folder / "fewer.yaml").write_text(pod("b", "c"))
    code, _, err = command("diff", "run.json", "fewer.yaml")
    assert (code, err) == (0, "")


LAYERED = """
[[layer]]
kind = "seccomp"
file = "profile.json"
[[layer]]
kind = "capabilities"
drop = ["CHOWN"]
[[layer]]
kind = "apparmor"
profile = "some"
"""


def test_explain_judges_the_filters_and_names_the_other_layers(
    command: Command, folder: Path
) -> None:
    (folder / "some.toml").write_text(LAYERED)
    said = "not judged: other layers (capabilities, apparmor), which may stop what the filters do"
    code, out, err = command("explain", "some.toml", "mkdir")
    assert (code, err) == (0, "")
    assert "ERRNO(EPERM)" in out
    assert said in " ".join(out.split())
    _, out, _ = command("explain", "some.toml", "create-directory/mkdirat", "--json")
    found = json.loads(out)
    assert found["variant"]["predicted"] == "DEPENDS"  # on those that are not judged
    assert found["not_judged"] == ["capabilities", "apparmor"]
    _, out, _ = command("explain", "some.toml", "create-directory/mkdir", "--json")
    assert json.loads(out)["variant"]["predicted"] == "BLOCKED"
    _, out, _ = command("explain", "profile.json", "create-directory/mkdirat", "--json")
    assert json.loads(out)["variant"]["predicted"] == "BYPASSED"
    assert "not_judged" not in json.loads(out)


def test_a_part_of_a_candidate_is_hardened_with_its_other_layers_in_force(
    command: Command, folder: Path
) -> None:
    from evaluator.drafts import draft_of

    (folder / "some.toml").write_text(LAYERED)
    draft = draft_of("some.toml", "auto", "runc-1.1", "container")
    assert [one.kind for one in draft.candidate.layers] == ["capabilities", "seccomp"]
    assert (draft.is_part, draft.leaves_out) == (True, ("apparmor",))
    assert json.loads(draft.text)["syscalls"][0]["names"] == ["mkdir"]
    assert draft.candidate.profile is not None
    whole = draft_of("profile.json", "auto", "runc-1.1", "container")
    assert draft.candidate.seccomp == whole.candidate.seccomp
    assert not whole.is_part
    (folder / "ruleset.json").write_text('{"ruleset": [{"handledAccessFs": ["make_dir"]}]}')
    code, _, err = command("harden", "ruleset.json", "--family", "create-directory")
    assert code == 2
    assert "no filter to change" in err
    assert err.count("\n") == 1


# ----------------------------------------------------------------------------- what has changed


def test_only_what_changed(command: Command, folder: Path) -> None:
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")
    assert changed_since("HEAD", ["web.yaml", "."]) == []
    (folder / "web.yaml").write_text(pod("a"))
    (folder / "new.json").write_text(PROFILE)
    (folder / "one.yml").unlink()
    assert changed_since("HEAD", ["web.yaml", "profile.json"]) == ["web.yaml"]
    assert sorted(changed_since("HEAD", ["."])) == ["new.json", "web.yaml"]
    arguments = ("evaluate", ".", *FAMILY, "--json", "--seccomp-root", "root")
    _, out, _ = command(*arguments, "--changed-since", "HEAD")
    assert names(out) == ["new", "pod/web:a"]


def test_what_a_file_refers_to_counts_as_its_own(command: Command, folder: Path) -> None:
    (folder / "data.toml").write_text('[[layer]]\nkind = "seccomp"\nfile = "root/deny.json"\n')
    (folder / "a.service").write_text("[Service]\nSystemCallFilter=~mkdir\n")
    (folder / "a.service.d").mkdir()
    (folder / "a.service.d" / "x.conf").write_text("[Service]\nSystemCallFilter=~rmdir\n")
    (folder / "spo").mkdir()
    spo = "apiVersion: security-profiles-operator.x-k8s.io/v1\nkind: SeccompProfile\n"
    base = "metadata: {name: base}\nspec: {defaultAction: SCMP_ACT_ALLOW}\n"
    (folder / "spo" / "base.yaml").write_text(spo + base)
    more = "metadata: {name: top}\nspec: {baseProfileName: base, defaultAction: SCMP_ACT_ALLOW}\n"
    (folder / "spo" / "top.yaml").write_text(spo + more)
    (folder / "bare.yml").write_text("kind: Pod\nspec: {containers: [{name: c}]}\n")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")
    options = (*FAMILY, "--json", "--seccomp-root", "root", "--runtime-default", "profile.json")

    def changed(*paths: str) -> list[str]:
        arguments = ("evaluate", *paths, *options, "--seccomp-default", "--changed-since", "HEAD")
        return names(command(*arguments)[1])

    every = (".", "spo")
    assert changed(*every) == []
    profile = folder / "root" / "deny.json"
    profile.write_text(PROFILE.replace("mkdir", "rmdir"))
    assert sorted(changed(*every)) == ["data", "pod/web:a", "pod/web:b", "pod/web:c"]
    assert changed("web.yaml#pod/web:a") == ["pod/web:a"]
    profile.unlink()  # no node would start them now
    assert len(changed(*every)) == 4
    profile.write_text(PROFILE)
    (folder / "profile.json").write_text(PROFILE.replace("mkdir", "rmdir"))
    assert changed("bare.yml", "web.yaml") == ["pod/unnamed:c"]
    (folder / "profile.json").write_text(PROFILE)
    (folder / "a.service.d" / "x.conf").unlink()
    assert changed(*every) == ["a.service"]
    git(folder, "checkout", "-q", ".")
    (folder / "service.d").mkdir()
    (folder / "service.d" / "new.conf").write_text("[Service]\nSystemCallFilter=~chmod\n")
    assert changed(*every) == ["a.service"]
    (folder / "spo" / "base.yaml").write_text(spo + base.replace("ALLOW", "LOG"))
    assert sorted(changed("spo")) == ["seccompprofile/base", "seccompprofile/top"]


def test_what_git_does_not_know_counts_as_changed(
    command: Command, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")
    elsewhere = tmp_path_factory.mktemp("node")
    arguments = ("evaluate", "one.yml", *FAMILY, "--json", "--seccomp-root", str(elsewhere))
    assert names(command(*arguments, "--changed-since", "HEAD")[1]) == []
    (elsewhere / "deny.json").write_text(PROFILE)
    assert names(command(*arguments, "--changed-since", "HEAD")[1]) == ["pod/web:c"]


def test_nothing_changed_is_no_failure(command: Command, folder: Path) -> None:
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")
    code, out, err = command("evaluate", "profile.json", *FAMILY, "--changed-since", "HEAD")
    assert (code, out, err) == (0, "", "sidestep: no candidate has changed since HEAD\n")


@pytest.mark.parametrize("revision", ["nosuch", "--output=x", "", "HEAD:web.yaml"])
def test_revisions_that_are_none(folder: Path, revision: str) -> None:
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")
    with pytest.raises(InputError, match="has no commit"):
        changed_since(revision, ["web.yaml"])
    assert not (folder / "x").exists()


def test_where_git_knows_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(folder.parent))
    with pytest.raises(InputError, match="not a git repository"):
        changed_since("HEAD", ["web.yaml"])
    with pytest.raises(InputError, match="stdin has no history"):
        changed_since("HEAD", ["-"])
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(InputError, match="git is not installed"):
        changed_since("HEAD", ["web.yaml"])


# ------------------------------------------------------------------------------- many documents


def test_pods_that_are_alike_are_judged_once_and_shared(command: Command, folder: Path) -> None:
    """Thousands of documents take the memory of one, and each has its own name and notes."""
    from evaluator import simulate

    made: list[str] = []
    run = simulate._run

    def counted(candidate: Any, *rest: Any) -> Any:
        made.append(candidate.name)
        return run(candidate, *rest)

    pods = [
        f"kind: Pod\nmetadata: {{name: p{n}}}\nspec: {{containers: [{{name: c}}]}}\n"
        for n in range(40)
    ]
    (folder / "many.yaml").write_text("---\n".join(pods))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate, "_run", counted)
        _, out, _ = command("evaluate", "many.yaml", *FAMILY, "--json")
    document = json.loads(out)
    assert [one["name"] for one in document["candidates"]] == [f"pod/p{n}:c" for n in range(40)]
    assert made == ["pod/p0:c"]
    first, last = document["candidates"][0], document["candidates"][-1]
    assert first["trials"] == last["trials"] != []
    assert first["families"] == last["families"]
    assert first["warnings"][0]["where"] != last["warnings"][0]["where"]
    assert list(document)[:2] == ["schema", "tool"]


# --------------------------------------------------------------------------------------- export


def test_export_writes_what_is_asked_and_says_what_is_lost(command: Command, folder: Path) -> None:
    code, out, err = command("export", "profile.json", "--to", "oci", "-o", "out.json")
    assert (code, out, err) == (0, "", "")
    assert json.loads((folder / "out.json").read_text()) == json.loads(PROFILE)
    one = ("web.yaml#pod/web:a", "--seccomp-root", "root")
    (folder / "root" / "deny.json").write_text(PROFILE.replace("_ERRNO", "_KILL"))
    code, out, err = command("export", *one, "--to", "systemd", "-o", "out.conf")
    assert (code, out) == (0, "")
    assert err.startswith("sidestep: not in the systemd output: mkdir: KILL_PROCESS, not KILL")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("profile.json", "--to", "yaml"), "'yaml' is not one of"),
        (("profile.json",), "Missing option '--to'"),
        (("nosuch.json", "--to", "c"), "nosuch.json: No such file"),
        (("profile.json", "--to", "c", "-o", "."), ".: not a regular file"),
        (("profile.json", "--to", "c", "-o", "no/such"), "no/such: No such file"),
        (("profile.json", "--to", "c", "-o", "profile.json"), "would overwrite the input"),
        (("web.yaml", "--to", "c", "--seccomp-root", "root"), "holds 2 candidates"),
        (
            ("web.yaml#pod/web:a", "--to", "c", "--seccomp-root", "root", "-o", "web.yaml"),
            "would overwrite the input",
        ),
    ],
)
def test_export_refuses_in_one_line(
    command: Command, arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = command("export", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_results_of_our_own_are_no_profiles(command: Command, folder: Path) -> None:
    """They are left out of a directory, by a word; what might be a profile never is."""
    (folder / "d").mkdir()
    result = '{"schema":"sidestep.results/1", "candidates": [' + "0," * (1 << 20) + "0]}"
    (folder / "d" / "run.json").write_text(result)
    (folder / "d" / "deny.json").write_text(PROFILE)
    disguised = PROFILE.replace("{", '{"schema": "sidestep.results/1", ', 1)
    (folder / "d" / "other.json").write_text(disguised)
    usual = ("--simulate", "--family", "create-directory", "--json")
    _, out, err = command("evaluate", "d", *usual)
    assert {one["name"] for one in json.loads(out)["candidates"]} == {"deny", "other"}
    assert "sidestep: d: left out, as sidestep wrote it: run.json\n" in err
    code, out, err = command("evaluate", "d/run.json", *usual)
    assert code == 2
    assert "what sidestep wrote, and no mitigation" in err


@pytest.mark.parametrize("name", ["evaluate", "harden", "export"])
def test_a_mistyped_suffix_or_a_slash(command: Command, folder: Path, name: str) -> None:
    """One form has no suffix to mistype; but a file cannot be called like a directory."""
    output = "x.bogus" if name == "evaluate" else "x.bogus/"
    options = ("--to", "oci") if name == "export" else ()
    code, out, err = command(name, "deny.json", *options, "-o", output)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert not (folder / "x.bogus").exists()
