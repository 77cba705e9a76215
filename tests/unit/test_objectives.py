"""Objectives and workloads are data that must fit the library."""

import pytest

from attacks.library import load_families
from evaluator.cli import main
from evaluator.errors import InputError
from evaluator.objectives import OBJECTIVES, objective
from evaluator.workloads import Program, builtin, workload


@pytest.mark.parametrize("goal", OBJECTIVES, ids=lambda goal: goal.name)
def test_every_objective_names_what_exists_and_says_why(goal) -> None:
    assert goal.families
    assert set(goal.families) <= load_families().keys()
    assert all(goal.families.values())
    assert set(goal.workloads) <= {one.name for one in builtin()}


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean no-new-directories"):
        objective("no-new-directory")
    with pytest.raises(InputError, match="no workload 'zzz'; there are: bubblewrap"):
        workload("zzz")


def test_names_find_their_objects() -> None:
    assert objective("no-new-processes").families.keys() == {"create-process"}
    assert workload("static-entry").program is Program.STATIC_ENTRY


def test_no_objective_denies_what_its_own_workloads_are() -> None:
    for goal in OBJECTIVES:
        families = set(goal.families)
        if "execute-program" in families:
            assert not goal.workloads, "every workload is exec'ed under the candidate"
        if families & {"create-process", "create-file"}:
            assert "shell-basics" not in goal.workloads
        if families & {"connect-tcp", "accept-connection"}:
            assert not set(goal.workloads) & {"python-network", "nginx", "redis", "node", "dns"}


def test_objectives_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["objectives", "list"], "no-network"),
        (["objectives", "show", "no-exec"], "execute-program"),
        (["objectives", "list", "--json"], '"kernel-surface"'),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert not ended.value.code
        assert said in capsys.readouterr().out
