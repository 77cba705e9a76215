"""Nothing that is hidden reaches what a prompt, a tool or feedback may show."""

import itertools
import json
import re
from collections.abc import Iterator

import msgspec
import pytest

from attacks import library
from attacks.consts import AT_FDCWD
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from evaluator import scenarios as asked
from evaluator.cli import main
from evaluator.derived import rewritten
from evaluator.records import (
    CandidateResult,
    FamilyRecord,
    GroundTruth,
    RouteCount,
    Starts,
    StoppedAt,
    TrialRecord,
    WorkloadOutcome,
    WorkloadRecord,
)
from evaluator.scenarios import CANARY, Hold, Scenario, is_hidden, scenarios
from evaluator.shown import Level, feedback, poc, view, visible_families, visible_ways
from evaluator.verdict import Outcome, Scope, Verdict

SECRET = "secretcanary"
"""In all that hidden ways say of themselves."""
LABEL = "make-a-canary"


def family() -> Family:
    made = Family(LABEL, title="Make a canary", effect=lambda _: Effect(EffectKind.DIRECTORY))

    @made.variant(Technique.BASELINE)
    def plain(k: Kernel) -> None:
        """The visible PoC."""
        k.mkdir(k.path(), 0o755).decisive()

    @made.variant(Technique.SIBLING_SYSCALL)
    def by_descriptor(k: Kernel) -> None:
        """A visible way."""
        k.mkdirat(AT_FDCWD, k.path(), 0o755).decisive()

    @made.variant(Technique.SIBLING_SYSCALL)
    def secretcanary_named(k: Kernel) -> None:
        """Hidden by its name: secretcanary in the reason."""
        k.mkdir(k.relative("secretcanary-path"), 0o755)
        k.mkdirat(AT_FDCWD, k.path(), 0o755).decisive()

    @made.variant(
        Technique.ASYNC_KERNEL,
        objects=(Object(ObjectKind.DIRECTORY, "secretcanary-object", 0o755),),
        references=("https://secretcanary.example/",),
    )
    def secretcanary_technique(k: Kernel) -> None:
        """Hidden by its technique: secretcanary again."""
        k.mkdir(k.relative("secretcanary-other"), 0o755)
        k.mkdirat(AT_FDCWD, k.path(), 0o755).decisive()

    return made


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Scenario:
    """A scenario whose hidden ways, and the judge's own notes, carry the secret."""
    found = family()
    known = library.family
    monkeypatch.setattr(library, "family", lambda name: found if name == LABEL else known(name))
    one = Scenario(
        name="no-canary",
        canary=CANARY,
        title="No canary is made",
        task="Nobody makes a canary.",
        advisory="Canaries were made before.",
        references=("https://example.org/",),
        cluster="secretcanary-cluster",
        tier=1,
        split=asked.Split.DEV,
        hold=(Hold(LABEL, ("secretcanary-named", "async-kernel")),),
        keep={"create-file": "files are made"},
        workloads=("shell-basics",),
        needs=("secretcanary-need",),
        reference='{"secretcanary": "reference"}',
    )
    monkeypatch.setattr(asked, "scenarios", lambda: (one,))
    return one


def variants(one: Scenario) -> Iterator[TrialRecord]:
    """All ways, recorded and derived, and private chains of rewrites; all of them get through."""
    instance = library.parse_reference(one.hold[0].family)
    first = (*instance.variants, *rewritten(instance))
    chains = rewritten(msgspec.structs.replace(instance, recipes=(), made=first))
    for variant in (*first, *chains):
        yield trial(variant.id, variant.family, variant.technique, f"secretcanary {variant.why}")
    baseline = library.parse_reference("create-file").baseline
    at = StoppedAt("openat", "x86_64", "EPERM", True)
    yield trial(baseline.id, "create-file", baseline.technique, "", outcome=Outcome.BLOCKED, at=at)


def trial(
    variant: str,
    label: str,
    technique: Technique,
    why: str,
    *,
    outcome: Outcome = Outcome.BYPASSED,
    at: StoppedAt | None = None,
) -> TrialRecord:
    return TrialRecord(
        variant=variant,
        family=label,
        title="a call" if SECRET not in variant else SECRET,
        technique=technique,
        assumption=Assumption.NONE,
        grade=Grade.EXACT,
        outcome=outcome,
        control_effect=Grade.EXACT,
        mitigated_effect=Grade.EXACT,
        predicted=None,
        route=SECRET,
        reason=SECRET,
        why=why,
        stopped_at=at,
        scope=Scope.IN,
    )


def record(label: str, baseline: str) -> FamilyRecord:
    return FamilyRecord(
        family=label,
        title="A title",
        attack_technique="",
        baseline=baseline,
        verdict=Verdict.LEAKY,
        targeted=True,
        working=99,
        blocked=0,
        bypassed=99,
        bypasses=(SECRET,),
        beside=(SECRET,),
        reachable_elsewhere=(SECRET,),
        undecided=(SECRET,),
        untestable=0,
        techniques=(),
        routes=RouteCount(99, 0),
        by_technique={},
        shortest_bypass=SECRET,
        summary=SECRET,
        reason=SECRET,
    )


def result(one: Scenario) -> CandidateResult:
    denied = (StoppedAt("execve", "x86_64", "EPERM", False),)
    return CandidateResult(
        name=SECRET,
        source=SECRET,
        valid=True,
        errors=(),
        enforced=True,
        starts=Starts(True, True, True, True),
        posture="container",
        runtime_model="",
        attachment="runtime",
        meaning="oci",
        default_action="",
        intent="",
        digest="",
        instructions=1,
        layers=(),
        ground_truth=GroundTruth(),
        warnings=(),
        notes=(SECRET,),
        robustness=0.0,
        held=0,
        targeted=1,
        routes=0.0,
        routes_blocked=0,
        routes_working=99,
        utility=1.0,
        works=1,
        works_in_control=1,
        counted={},
        counts={},
        duration_s=1.0,
        families=(
            record(LABEL, f"{LABEL}/plain"),
            record("create-file", library.parse_reference("create-file").baseline_id),
        ),
        workloads=(
            WorkloadRecord(
                "shell-basics",
                "A shell",
                False,
                True,
                "it ended with 126",
                outcome=WorkloadOutcome.BROKEN,
                denied=denied,
            ),
        ),
        trials=tuple(variants(one)),
        profile_text=SECRET,
    )


def text(value: object) -> str:
    return json.dumps(msgspec.to_builtins(value)).casefold()


def test_the_canaries_are_there_to_be_found(made: Scenario) -> None:
    """The test below could not fail if nothing hidden carried one."""
    hold = made.hold[0]
    hidden = [
        one.variant
        for one in result(made).trials
        if one.family == LABEL and is_hidden(hold, one.variant, one.technique)
    ]
    assert any(SECRET in one and "~" not in one for one in hidden)
    assert any(SECRET in one and "~" in one for one in hidden)
    assert any(one.count("~") == 2 for one in hidden)
    assert SECRET in text(result(made))


def test_no_canary_reaches_what_a_model_may_see(made: Scenario) -> None:
    seen = [view(made, level) for level in Level]
    shown = text([*seen, poc(made), visible_ways(made), feedback(made, result(made))])
    assert SECRET not in shown
    assert CANARY not in shown
    assert not re.search(r"~[\w-]+~", shown)  # nor a chain of rewrites


@pytest.mark.parametrize(("level", "form"), list(itertools.product(Level, ("table", "json"))))
def test_no_canary_reaches_what_is_shown_at_a_level(
    made: Scenario, level: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["scenarios", "show", made.name, "--level", str(level), "--format", form])
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert "Nobody makes a canary" in shown
    assert SECRET not in shown.casefold()
    assert ("mkdir(" in shown) == (level != Level.EFFECT)
    assert ("made before" in shown) == (level == Level.ADVISORY)


def test_what_is_visible_is_told(made: Scenario) -> None:
    assert [one.id for one in visible_ways(made)] == [f"{LABEL}/plain", f"{LABEL}/by-descriptor"]
    assert next(one.ids for one in visible_families(made)) == [
        f"{LABEL}/plain",
        f"{LABEL}/by-descriptor",
    ]
    assert "mkdir(" in poc(made)
    said = feedback(made, result(made))
    (through,) = (one.through for one in said.families)
    assert {(one.id, one.calls) for one in through} >= {
        (f"{LABEL}/plain", ("mkdir",)),
        (f"{LABEL}/by-descriptor", ("mkdirat",)),
        (f"{LABEL}/plain~i386", ("i386:mkdir",)),
    }
    program, kept = said.broken
    assert (program.name, program.denied[0].call) == ("shell-basics", "execve")
    assert (kept.name, kept.denied[0].answer) == ("create-file", "EPERM")


def test_feedback_does_not_depend_on_hidden_ways(made: Scenario) -> None:
    """The same is said whatever became of them, and if there are none of them."""
    hold = made.hold[0]
    whole = result(made)
    visible = tuple(
        one
        for one in whole.trials
        if one.family != LABEL or not is_hidden(hold, one.variant, one.technique)
    )
    assert len(visible) < len(whole.trials)
    without = msgspec.structs.replace(whole, trials=visible)
    assert feedback(made, whole) == feedback(made, without)


def test_what_was_not_tried_is_not_said_to_be_stopped(made: Scenario) -> None:
    whole = result(made)
    for lacking in ({"families": ()}, {"workloads": ()}):
        with pytest.raises(ValueError, match="was not"):
            feedback(made, msgspec.structs.replace(whole, **lacking))


@pytest.mark.parametrize("one", scenarios(), ids=lambda one: one.name)
def test_no_hidden_way_of_a_scenario_is_shown(one: Scenario) -> None:
    hidden: set[str] = set()
    for hold in one.hold:
        instance = library.parse_reference(hold.family)
        found = {
            way.id
            for way in (*instance.variants, *rewritten(instance))
            if is_hidden(hold, way.id, way.technique)
        }
        assert found
        hidden |= found
    shown = msgspec.json.encode([*(view(one, level) for level in Level), visible_ways(one)])
    words = set(re.split(r"[\"\s\\]+", shown.decode()))
    assert not hidden & words


@pytest.mark.parametrize("one", scenarios(), ids=lambda one: one.name)
def test_no_visible_way_takes_an_entry_that_is_hidden(one: Scenario) -> None:
    """A scenario that hides the 32-bit entry shows nothing that goes through it, unless the PoC."""
    shown = visible_ways(one)
    for hold in one.hold:
        mine = [way for way in shown if way.id.startswith(f"{hold.family}/")]
        baseline = next(way for way in mine if way.technique is Technique.BASELINE)
        for technique, mark in (
            (Technique.COMPAT_ABI, "i386:"),
            (Technique.ASYNC_KERNEL, "io_uring_enter["),
        ):
            if technique in hold.hidden and not any(mark in call for call in baseline.calls):
                assert not [way.id for way in mine if any(mark in call for call in way.calls)]
