"""What a check runs, keeps and runs again: with campaigns whose results are made up."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from evaluator import check_store, library_run
from evaluator.baseline import Baseline
from evaluator.check_store import Store
from evaluator.expectations import read
from evaluator.library_check import Checked, check, locator
from evaluator.library_run import Options
from evaluator.plan import Plan
from evaluator.posture import POSTURES
from evaluator.records import Environment, Probe
from mitigations.candidate import Candidate as Loaded
from reports.schema import Candidate, Cause, Document, Family, Tool, Trial, Workload
from reports.schema import Environment as Machine

WHERE = Environment("6.1", "x86_64", "2.5.4", "namespaces", (), {}, "root", 65536, ())
ENTRY = '[[profile]]\nmatch = "*.json"\nfamilies = ["create-directory"]\n'


def profile(path: Path, *denied: str) -> None:
    rule = {"names": denied or ["mkdir"], "action": "SCMP_ACT_ERRNO"}
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))


def trial(family: str, name: str, outcome: str) -> Trial:
    return Trial(
        f"{family}/{name}",
        "baseline",
        "none",
        outcome,
        None,
        None,
        None,
        None,
        family=family,
        route=f"x86_64:{name}",
    )


def result(name: str, outcome: str, families: Sequence[str], works: str = "works") -> Candidate:
    verdicts = {"BYPASSED": "leaky", "INEFFECTIVE": "undecided", "BLOCKED": "held"}
    return Candidate(
        name,
        name,
        True,
        True,
        families=tuple(
            Family(one, verdicts.get(outcome, "undecided"), True, 0, 0, 0, (), ())
            for one in families
        ),
        trials=tuple(
            each
            for one in families
            for each in (trial(one, "mkdir", "BLOCKED"), trial(one, "mkdirat", outcome))
        ),
        workloads=(Workload("static-entry", works == "works", outcome=works),),
        counts={outcome: 1},
    )


class Campaigns:
    """Stands for the sandbox: what each campaign is asked for, and what it finds."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        self.outcome: Callable[[int, str], str] = lambda run, name: "BLOCKED"
        self.works: Callable[[int], str] = lambda run: "works"

    def __call__(self, plan: Plan, options: Options, _: Any) -> Iterator[Candidate]:
        labels = tuple(one.label for one in plan.families)
        names = tuple(one.name for one in plan.candidates)
        run = len(self.asked)
        self.asked.append((names, labels))
        for name in names:
            found = result(name, self.outcome(run, name), labels)
            works = self.works(run)
            ran = tuple(
                Workload(one.name, works == "works", outcome=works) for one in plan.workloads
            )
            yield replace(found, workloads=ran)


@pytest.fixture
def campaigns(monkeypatch: pytest.MonkeyPatch) -> Campaigns:
    made = Campaigns()
    monkeypatch.setattr(library_run, "_campaign", made)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache", pytest.fail)


def checked(root: Path, text: str, store: Store | None = None, base: Any = None) -> Checked:
    (root / "sidestep.toml").write_text(text)
    library = read(root / "sidestep.toml")
    tool = Tool("sidestep", "1")
    return check(".", library, (), base, Options(jobs=1), WHERE, store, lambda _: None, tool)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "lib"
    made.mkdir()
    profile(made / "a.json", "mkdir")
    profile(made / "b.json", "mkdir", "mkdirat")
    return made


def says(found: Checked) -> dict[str, str]:
    return {one.id: one.says for one in found.document.items}


def test_profiles_with_equal_settings_are_one_campaign(campaigns: Campaigns, root: Path) -> None:
    found = checked(root, ENTRY)
    assert campaigns.asked == [(("a.json", "b.json"), ("create-directory",))]
    assert (found.document.exit_code, found.document.evaluated) == (0, 2)
    campaigns.asked.clear()
    checked(root, ENTRY.replace("*", "a") + ENTRY.replace("*", "b").replace("directory", "file"))
    assert [names for names, _ in campaigns.asked] == [("a.json",), ("b.json",)]


def test_a_failure_is_run_again_alone_and_then_believed(campaigns: Campaigns, root: Path) -> None:
    campaigns.outcome = lambda _, name: "BYPASSED" if name == "a.json" else "BLOCKED"
    text = ENTRY.replace('"]', '", "create-file"]')
    found = checked(root, text)
    assert campaigns.asked[1:] == 2 * [(("a.json",), ("create-directory", "create-file"))]
    item = next(one for one in found.document.items if one.status == "fail")
    assert (item.says, item.reruns) == ("leaky", 2)
    assert found.document.exit_code == 1


@pytest.mark.parametrize("first", ["BYPASSED", "INEFFECTIVE"])
def test_what_does_not_repeat_is_undecided_and_forgotten(
    campaigns: Campaigns, root: Path, store: Store, first: str
) -> None:
    campaigns.outcome = lambda run, name: (
        first if (run, name) in ((0, "a.json"), (2, "a.json")) else "BLOCKED"
    )
    found = checked(root, ENTRY, store)
    item = next(one for one in found.document.items if one.status == "fail")
    assert (item.id, item.says) == ("a.json::create-directory", "undecided")
    assert "1 held of 3 runs" in item.message
    campaigns.outcome = lambda run, name: "BLOCKED"
    campaigns.asked.clear()
    again = checked(root, ENTRY, store)
    assert campaigns.asked == [(("a.json",), ("create-directory",))]
    assert again.document.exit_code == 0


def test_a_workload_that_breaks_once_is_undecided(campaigns: Campaigns, root: Path) -> None:
    campaigns.works = lambda run: "broken" if run == 0 else "works"
    found = checked(root, ENTRY + 'workloads = ["static-entry"]')
    assert says(found)["a.json::static-entry"] == "undecided"
    assert campaigns.asked[1] == (("a.json", "b.json"), ())
    campaigns.asked.clear()
    campaigns.works = lambda run: "broken"
    found = checked(root, ENTRY + 'workloads = ["static-entry"]')
    assert says(found)["a.json::static-entry"] == "broken"


def test_what_did_not_run_is_run_again_and_not_kept(
    campaigns: Campaigns, root: Path, store: Store
) -> None:
    text = ENTRY + 'workloads = ["static-entry"]'
    campaigns.works = lambda run: "unavailable" if run == 0 else "works"
    found = checked(root, text, store)
    assert says(found)["a.json::static-entry"] == "undecided"
    campaigns.works = lambda run: "unavailable"
    for _ in range(2):
        campaigns.asked.clear()
        found = checked(root, text, store)
        assert says(found)["a.json::static-entry"] == "unavailable"
        assert found.document.cached == 0
        assert len(campaigns.asked) == 3


def test_that_a_program_is_not_installed_is_kept(
    campaigns: Campaigns, root: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_run.Workload, "missing", lambda _: ("nginx",))
    campaigns.works = lambda run: "unavailable"
    text = ENTRY + 'workloads = ["static-entry"]'
    checked(root, text, store)
    campaigns.asked.clear()
    assert checked(root, text, store).document.cached == 2
    assert campaigns.asked == []


def test_workloads_of_ones_own_are_never_kept(
    campaigns: Campaigns, root: Path, store: Store
) -> None:
    own = 'title = "x"\ncommand = ["sh", "-c", "exec ./thing"]\n'
    (root / "own.toml").write_text(own)
    text = ENTRY + 'workloads = ["static-entry", "own.toml"]'
    first = checked(root, text, store)
    assert (first.document.exit_code, len(campaigns.asked)) == (0, 1)
    campaigns.asked.clear()
    campaigns.works = lambda run: "broken"
    second = checked(root, text, store)
    assert second.document.cached == 2
    assert campaigns.asked == 3 * [(("a.json", "b.json"), ())]
    assert says(second)["a.json::own"] == "broken"


def test_nothing_is_run_when_nothing_changed(
    campaigns: Campaigns, root: Path, store: Store
) -> None:
    campaigns.outcome = lambda _, name: "BYPASSED" if name == "a.json" else "BLOCKED"
    first = checked(root, ENTRY, store)
    campaigns.asked.clear()
    second = checked(root, ENTRY, store)
    assert campaigns.asked == []
    assert (second.document.evaluated, second.document.cached) == (0, 2)
    assert second.document.items == first.document.items
    profile(root / "a.json", "mkdir", "rmdir")
    checked(root, ENTRY, store)
    assert campaigns.asked[0][0] == ("a.json",)


def test_a_failure_from_the_cache_that_nobody_confirmed_is_run_again(
    campaigns: Campaigns, root: Path, store: Store
) -> None:
    campaigns.outcome = lambda _, name: "BYPASSED"
    waiver = (
        '[[profile.accept]]\nroute = "x86_64:mkdirat"\nreason = "x"\nowner = "x"\n'
        "expires = 2999-01-01\n"
    )
    accepted = checked(root, ENTRY + waiver, store)
    assert (accepted.document.exit_code, len(campaigns.asked)) == (0, 1)
    campaigns.asked.clear()
    found = checked(root, ENTRY, store)
    assert found.document.cached == 2
    assert campaigns.asked == 2 * [(("a.json", "b.json"), ("create-directory",))]
    campaigns.asked.clear()
    assert checked(root, ENTRY, store).document.exit_code == 1
    assert campaigns.asked == []


@pytest.mark.parametrize("outcome", ["HARNESS_ERROR", "DISAGREEMENT", "INEFFECTIVE"])
def test_what_nobody_knows_is_not_kept(
    campaigns: Campaigns, root: Path, store: Store, outcome: str
) -> None:
    campaigns.outcome = lambda _, name: outcome
    found = checked(root, ENTRY, store)
    assert found.document.exit_code == (1 if outcome == "INEFFECTIVE" else 4)
    campaigns.asked.clear()
    assert checked(root, ENTRY, store).document.cached == 0


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b"[" * 5000, b'{"format": 3}'])
def test_a_damaged_entry_is_rewritten(
    campaigns: Campaigns, root: Path, store: Store, tmp_path: Path, damage: bytes
) -> None:
    checked(root, ENTRY, store)
    entries = [one for one in (tmp_path / "cache").rglob("*") if one.is_file()]
    assert len(entries) == 2
    for one in entries:
        one.write_bytes(damage)
    assert checked(root, ENTRY, store).document.cached == 0
    assert checked(root, ENTRY, store).document.cached == 2


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (b'"verdict":"held"', b'"verdict":"fine"'),
        (b'"outcome":"BLOCKED"', b'"outcome":"FINE"'),
        (b'"outcome":"works"', b'"outcome":"fine"'),
        (b'"outcome":"works"', b'"outcome":""'),
        (b'"scope":"in"', b'"scope":"near"'),
        (b'"enforced":true', b'"enforced":null'),
    ],
)
def test_an_entry_with_an_unknown_word_is_rewritten(
    campaigns: Campaigns, root: Path, store: Store, tmp_path: Path, was: bytes, now: bytes
) -> None:
    text = ENTRY + 'workloads = ["static-entry"]'
    checked(root, text, store)
    for one in (tmp_path / "cache").rglob("*.json"):
        assert was in one.read_bytes()
        one.write_bytes(one.read_bytes().replace(was, now))
    found = checked(root, text, store)
    assert (found.document.cached, found.document.exit_code) == (0, 0)
    assert checked(root, text, store).document.cached == 2


def test_an_entry_that_is_no_file_is_ignored(
    campaigns: Campaigns, root: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    store = Store(tmp_path / "cache", said.append)
    checked(root, ENTRY, store)
    for one in (tmp_path / "cache").rglob("*.json"):
        one.unlink()
        os.mkfifo(one)
    assert checked(root, ENTRY, store).document.cached == 0
    assert len(said) == 1


def test_an_entry_of_another_key_is_not_believed(
    campaigns: Campaigns, root: Path, store: Store, tmp_path: Path
) -> None:
    checked(root, ENTRY, store)
    one, other = (each for each in (tmp_path / "cache").rglob("*") if each.is_file())
    one.write_bytes(other.read_bytes())
    assert checked(root, ENTRY, store).document.cached == 1


def test_a_cache_that_cannot_be_written_is_one_line(
    campaigns: Campaigns, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    said: list[str] = []
    found = checked(root, ENTRY, Store(tmp_path / "file" / "cache", said.append))
    assert found.document.exit_code == 0
    assert len(said) == 1
    assert "nothing is kept for the next check" in said[0]


def test_results_of_the_harness_in_a_later_run_are_errors(campaigns: Campaigns, root: Path) -> None:
    campaigns.outcome = lambda run, _: "HARNESS_ERROR" if run == 2 else "BYPASSED"
    assert checked(root, ENTRY).document.exit_code == 4


# ------------------------------------------------------------------------------------------ keys


def loaded(root: Path) -> Loaded:
    from mitigations.load import load

    (one,) = load(root / "a.json")
    assert isinstance(one, Loaded)
    return one


def test_the_key_holds_all_that_a_result_hangs_on(root: Path) -> None:
    from attacks.library import parse_reference
    from evaluator.objectives import Objective
    from evaluator.plan import Rewrites
    from evaluator.workloads import workload

    candidate = loaded(root)
    plan = Plan((candidate,), (parse_reference("create-directory"),), ())
    around = check_store.surroundings(WHERE)
    named = Objective("x", "", {"create-directory": ""}, ())

    def key(one: Loaded = candidate, of: Plan = plan, suite: str = "s", at: str = around) -> str:
        return check_store.key(one, of, suite, at)

    profile(root / "a.json", "mkdir", "rmdir")
    others = [
        key(loaded(root)),
        key(replace(candidate, runtime_model="crun/libseccomp-1")),
        key(replace(candidate, posture="restricted")),
        key(replace(candidate, attachment="self")),
        key(replace(candidate, profile=None)),
        key(replace(candidate, warnings=())) if candidate.warnings else "",
        key(of=replace(plan, families=(parse_reference("create-file"),))),
        key(of=replace(plan, families=(parse_reference("create-directory@/data"),))),
        key(of=replace(plan, workloads=(workload("static-entry"),))),
        key(of=replace(plan, workloads=(workload("shell-basics"),))),
        key(of=replace(plan, assume=frozenset({"inherited-ring"}))),
        key(of=replace(plan, rewrites=Rewrites.ALL)),
        key(of=replace(plan, objective=named)),
        key(of=replace(plan, timeout_s=1.0)),
        key(of=replace(plan, suite=frozenset({"a/b"}))),
        key(suite="t"),
        key(at=check_store.surroundings(replace(WHERE, kernel="6.2"))),
        key(at=check_store.surroundings(replace(WHERE, libseccomp="2.6"))),
        key(at=check_store.surroundings(replace(WHERE, ambient={"Seccomp": "2"}))),
        key(at=check_store.surroundings(replace(WHERE, probes=(Probe("x", "y", "", ok=True),)))),
    ]
    assert key() == key(replace(candidate, name="other", source="elsewhere"))
    assert len({key(), *others}) == len(others) + 1


def test_the_key_is_the_same_in_another_process(root: Path) -> None:
    import subprocess
    import sys

    code = (
        "from evaluator import check_store as c; from evaluator.posture import POSTURES;"
        "print(c._digest(POSTURES['container']), c.code_digest())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    here = f"{check_store._digest(POSTURES['container'])} {check_store.code_digest()}\n"
    assert said == {here}


def test_where_results_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert check_store.directory() == tmp_path / "sidestep/check"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert check_store.directory() == tmp_path / ".cache/sidestep/check"


# -------------------------------------------------------------------------------------- baselines


def baseline(*candidates: Candidate, kernel: str = "6.1") -> Baseline:
    machine = Machine(kernel, "x86_64", "2.5.4", "namespaces")
    return Baseline("old", Document("sidestep.results/1", machine, "2026.11", candidates))


def test_what_the_baseline_held_is_run_and_compared(campaigns: Campaigns, root: Path) -> None:
    campaigns.outcome = lambda _, name: "BYPASSED" if name == "b.json" else "BLOCKED"
    old = [result(one, "BLOCKED", ["create-file"]) for one in ("a.json", "b.json", "gone.json")]
    found = checked(root, ENTRY.replace("*", "a"), base=baseline(*old, kernel="5.10"))
    assert {labels for _, labels in campaigns.asked} == {
        ("create-directory", "create-file"), ("create-file",),
    }  # fmt: skip
    failing = [one for one in found.document.items if one.status == "fail"]
    assert [(one.id, one.says, one.reruns) for one in failing] == [
        ("b.json::newly-opened create-file", "newly-opened", 2),
        ("gone.json::gone profile", "gone", 0),
    ]
    changes = {one.name: (one.before, one.after) for one in found.document.changes}
    assert changes["kernel"] == ("5.10", "6.1")
    assert found.document.unexpected == ("b.json",)


def test_what_is_set_up_otherwise_than_in_the_baseline_is_compared_all_the_same(
    campaigns: Campaigns, root: Path
) -> None:
    campaigns.outcome = lambda _, name: "BYPASSED"
    old = replace(result("a.json", "BLOCKED", ["create-file"]), posture="container")
    text = ENTRY.replace("*", "a") + 'postures = ["restricted", "root"]'
    found = checked(root, text, base=baseline(old))
    worse = [one.id for one in found.document.items if one.says == "newly-opened"]
    assert worse == [
        f"a.json::newly-opened create-file[{one},runc-1.1]" for one in ("restricted", "root")
    ]
    assert "posture" in {one.name for one in found.document.changes}


def test_what_cannot_be_compared_with_the_baseline_fails(campaigns: Campaigns, root: Path) -> None:
    old = [
        replace(result(f"a.json[{one},crun]", "BLOCKED", []), posture=one, source="a.json")
        for one in ("container", "restricted")
    ]
    found = checked(root, ENTRY, base=baseline(*old))
    (item,) = [one for one in found.document.items if one.status == "fail"]
    assert (item.id, item.kind, item.says) == (
        "a.json::gone profile[restricted]", "baseline", "gone",
    )  # fmt: skip
    assert "cannot be compared" in item.message
    assert found.document.exit_code == 1


def test_a_profile_with_another_name_is_found_by_its_digest(
    campaigns: Campaigns, root: Path
) -> None:
    campaigns.outcome = lambda _, name: "BYPASSED"
    old = replace(result("before.json", "BLOCKED", ["create-file"]), digest=loaded(root).digest)
    found = checked(root, ENTRY.replace("*", "a"), base=baseline(old))
    assert says(found)["a.json::newly-opened create-file"] == "newly-opened"
    assert "gone" not in says(found).values()


def test_what_opened_once_only_is_undecided(campaigns: Campaigns, root: Path) -> None:
    campaigns.outcome = lambda run, _: "BYPASSED" if run == 0 else "BLOCKED"
    old = baseline(result("a.json", "BLOCKED", ["create-file"]))
    found = checked(root, ENTRY.replace("*", "a"), base=old)
    item = next(one for one in found.document.items if one.kind == "baseline")
    assert (item.status, item.says) == ("fail", "undecided")
    assert "1 newly-opened, 2 no difference of 3 runs" in item.message


def test_a_baseline_is_found_by_name_or_by_path(root: Path) -> None:
    from evaluator.check_items import Unit

    (root / "sidestep.toml").write_text(ENTRY)
    (expected, _) = read(root / "sidestep.toml").profiles
    unit = Unit(expected, "container", "runc-1.1")
    one = result("a", "BLOCKED", [])
    for source, match in (
        ("a.json", True),
        ("lib/a.json", True),
        ("/x/a.json", True),
        ("b.json", False),
        ("aa.json", False),
    ):
        assert bool(baseline(replace(one, source=source)).counterpart(unit)) is match
    named = replace(one, name="a.json", source="x")
    assert baseline(named, replace(one, source="a.json")).counterpart(unit) is named


# ----------------------------------------------------------------------------------------- places


def test_a_way_points_to_the_rule_or_the_default_action(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{\n "linux": {"seccomp": {\n  "defaultaction": "A",\n  "syscalls": [1]}}\n}')
    locate = locator(path)

    def cause(kind: str, where: str) -> Cause:
        return Cause((), kind, "", where, "", "")

    rule = locate(cause("rule-allows", "linux.seccomp.syscalls[0]"))
    assert (rule.line, rule.column) == (4, 16)
    for one in (cause("default-allows", "linux.seccomp.syscalls"), cause("no-call", "a.b"), None):
        found = locate(one)
        assert (found.line, found.column, found.path) == (3, 20, "linux.seccomp.defaultAction")
    path.write_bytes(b"\0\1")
    assert locator(path)(None).line is None
    assert locator(tmp_path / "gone")(None).line is None
