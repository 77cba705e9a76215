"""What a cause says would close a way does: the file is changed as it says, and run again."""

import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from attacks import library
from evaluator import campaign
from evaluator.plan import Plan
from evaluator.pool import Pool
from evaluator.records import CandidateResult, Cause
from evaluator.share import Groups, Share
from evaluator.verdict import Outcome, Verdict
from mitigations.candidate import Candidate
from mitigations.load import load

from fixes import applied

LIBRARY = Path(__file__).parents[2] / "mitigations" / "library"
MOST = 4
LEAKS = [
    ("block-mkdir.json", "create-directory"),
    ("block-mkdir-kill.json", "create-filesystem-object"),
    ("wide-argument-hole.json", "change-mode"),
    ("trace-action.json", "create-directory"),
]


def evaluate(family: str, *candidates: Candidate) -> list[CandidateResult]:
    plan = Plan(
        candidates=candidates,
        families=(library.family(family).default,),
        workloads=(),
        jobs=min(2, len(os.sched_getaffinity(0))),
    )
    return list(campaign.evaluate(plan, lambda _: None))


def candidate(path: Path) -> Candidate:
    (one,) = load(path)
    assert isinstance(one, Candidate)
    return one


def changed(folder: Path, document: dict[str, Any], number: int, cause: Cause) -> Candidate:
    path = folder / f"{number}.json"
    path.write_text(json.dumps(applied(document, cause.fix)))
    return candidate(path)


@pytest.mark.parametrize(("name", "family"), LEAKS)
def test_a_fix_closes_what_it_says_it_closes(name: str, family: str, tmp_path: Path) -> None:
    (before,) = evaluate(family, candidate(LIBRARY / name))
    (found,) = before.families
    assert found.verdict is Verdict.LEAKY
    assert sorted(v for one in found.causes for v in one.variants) == sorted(found.bypasses)
    document = json.loads((LIBRARY / name).read_text())
    causes = [one for one in found.causes if one.fix][:MOST]
    assert causes
    fixed = [changed(tmp_path, document, n, one) for n, one in enumerate(causes)]
    for cause, after in zip(causes, evaluate(family, *fixed), strict=True):
        outcomes = {one.variant: one.outcome for one in after.trials}
        assert {outcomes[variant] for variant in cause.variants} == {Outcome.BLOCKED}, cause.fix


def test_equal_filters_of_two_sources_get_the_causes_of_their_own(tmp_path: Path) -> None:
    deny = {"action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    sources = [[["mkdir", "mkdirat"]], [["mkdirr"], ["mkdir"], ["mkdirat"]]]
    made = []
    for number, lists in enumerate(sources):
        path = tmp_path / f"{number}.json"
        rules = [{"names": names, **deny} for names in lists]
        path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
        made.append(replace(candidate(path), name=str(number)))
    assert made[0].digest == made[1].digest
    one, other = evaluate("create-directory", *made)
    assert [found.families[0].causes[0].fix for found in (one, other)] == [
        'add "io_uring_setup" to syscalls[0].names',
        'add "io_uring_setup" to syscalls[1].names',
    ]


def test_a_finding_is_confirmed_by_the_trial_that_shows_it() -> None:
    (found,) = evaluate("create-directory", candidate(LIBRARY / "errno-zero.json"))
    confirmed = {one.code: one.confirmed_by for one in found.warnings}
    assert confirmed["errno-zero"] == "create-directory/mkdir"
    assert confirmed["default-allows"] == ""


def test_a_cause_hangs_on_no_schedule() -> None:
    """A process that has the ring alone names the rule that denies what is beside it as well."""
    block = candidate(LIBRARY / "block-mkdir.json")
    family = library.family("create-directory").default
    plan = Plan(candidates=(block,), families=(family,), workloads=())
    ring = family.only({"create-directory/io-uring-mkdirat"})
    with Pool(1) as pool, closing(Groups([[ring]])) as groups:
        run = Share(plan, pool, groups, lambda _name, _done, _more: None, honest=False).run(block)
    ((_, (cause,)),) = run.causes
    assert cause.fix == 'add "io_uring_setup" to syscalls[0].names'
