"""Every scenario tells a good answer from bad ones, here."""

import pytest

from evaluator.scenario_check import Known, check
from evaluator.scenarios import Expect, scenarios


@pytest.mark.slow
@pytest.mark.parametrize("one", scenarios(), ids=lambda one: one.name)
def test_known_answers_get_what_is_known_of_them(one) -> None:
    (checked,) = check([one], lambda _: None, jobs=2)
    assert not checked.wrong
    if one.expect is not Expect.NOTHING:
        assert checked.scores[Known.POC_ONLY].joint is False
        assert checked.scores[Known.ALLOW_ALL].joint is False
    assert checked.scores[Known.DENY_ALL].joint is False
