"""Objectives and workloads are data that must fit the library."""

import subprocess

import pytest

from attacks.library import load_families
from evaluator.errors import InputError
from evaluator.objectives import OBJECTIVES, objective
from evaluator.workloads import WORKLOADS, Program, workload


@pytest.mark.parametrize("goal", OBJECTIVES, ids=lambda goal: goal.name)
def test_every_objective_names_what_exists_and_says_why(goal) -> None:
    assert goal.families
    assert set(goal.families) <= load_families().keys()
    assert all(goal.families.values())
    assert set(goal.workloads) <= {one.name for one in WORKLOADS}


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean no-new-directories"):
        objective("no-new-directory")
    with pytest.raises(InputError, match="there are: shell-basics, static-entry"):
        workload("zzz")


def test_names_find_their_objects() -> None:
    assert objective("no-new-processes").families.keys() == {"create-process"}
    assert workload("static-entry").program is Program.STATIC_ENTRY


@pytest.mark.parametrize(
    "honest", [one for one in WORKLOADS if one.program is Program.SYSTEM], ids=lambda one: one.name
)
def test_a_system_workload_prints_what_it_says_it_prints(honest, tmp_path) -> None:
    """Without any confinement, here and now: the control arm of the control arm."""
    done = subprocess.run(
        honest.argv, env=dict(honest.env), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == honest.stdout
    assert "mkdir" not in " ".join(honest.argv)
