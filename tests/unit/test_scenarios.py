"""Scenarios are data that must fit the library; a score is a pure function of a result."""

import pytest

from attacks.family import Technique
from evaluator.cli import main
from evaluator.errors import InputError
from evaluator.scenarios import CANARY, Expect, Hold, Split, is_hidden, scenario, scenarios


def test_there_are_enough_of_them_in_both_halves() -> None:
    assert len(scenarios()) >= 40
    for split in Split:
        assert sum(one.split is split for one in scenarios()) >= 15
    assert {one.expect for one in scenarios()} == set(Expect)


def test_every_file_carries_the_canary() -> None:
    assert all(one.canary == CANARY for one in scenarios())


def test_no_two_of_them_ask_for_the_same() -> None:
    tasks = [one.task for one in scenarios()]
    assert len(tasks) == len(set(tasks))


def test_what_a_rewrite_made_is_hidden_with_its_parent_and_by_its_own_technique() -> None:
    hold = Hold("create-directory", ("mkdirat", "compat-abi"))
    assert is_hidden(hold, "create-directory/mkdirat~wide", Technique.WIDE_ARGUMENT)
    assert is_hidden(hold, "create-directory/mkdir~i386", Technique.COMPAT_ABI)
    assert is_hidden(hold, "create-directory@/data/mkdirat", Technique.SIBLING_SYSCALL)
    assert not is_hidden(hold, "create-directory/mkdir", Technique.BASELINE)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean no-directories"):
        scenario("no-directory")


def test_they_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["scenarios", "list"], "no-directories"),
        (["scenarios", "list", "--split", "held-out", "--json"], '"held-out"'),
        (["scenarios", "show", "no-vsock"], "must still work: open-socket"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert not ended.value.code
        assert said in capsys.readouterr().out
