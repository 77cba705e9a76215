"""Work that takes turns at the runners; no runner is needed here."""

import threading
from collections.abc import Iterator

import pytest

from attacks.program import Program
from evaluator.pool import Arm, Asking, Batch, overlapped
from evaluator.wire import ConfigSpec, ProgramSpec

NOTHING = ConfigSpec(0, 0, 0, no_new_privs=False)


def batch() -> Batch:
    arm = Arm(ProgramSpec(Program()), NOTHING, NOTHING, 1)
    return Batch([arm], 1, lambda _: None)


def asking(name: str, one: Batch) -> Asking[str]:
    yield one
    return name


def test_one_whose_batch_takes_long_holds_nobody_up() -> None:
    slow, quick, last = batch(), batch(), batch()
    quick.close()
    last.close()
    ended = overlapped(
        iter([asking("slow", slow), asking("quick", quick), asking("last", last)]), 2
    )
    assert [next(ended), next(ended)] == ["quick", "last"]
    slow.close()
    assert list(ended) == ["slow"]


def test_it_waits_where_no_batch_is_done() -> None:
    slow = batch()
    threading.Timer(0.05, slow.close).start()
    assert list(overlapped([asking("slow", slow)], 3)) == ["slow"]


def test_no_more_begin_than_may_be_at_work() -> None:
    begun: list[int] = []
    batches = [batch() for _ in range(4)]

    def works() -> Iterator[Asking[int]]:
        for number, one in enumerate(batches):
            begun.append(number)
            one.close()
            yield numbered(number, one)

    def numbered(number: int, one: Batch) -> Asking[int]:
        yield one
        return number

    ended = overlapped(works(), 2)
    assert next(ended) == 0
    assert begun == [0, 1]
    assert sorted(ended) == [1, 2, 3]


def test_a_batch_ends_with_its_last_answer_or_when_it_is_given_up() -> None:
    arm = Arm(ProgramSpec(Program()), NOTHING, NOTHING, 1)
    heard: list[int] = []
    answered, given_up, failed = (Batch([arm, arm], 1, heard.append) for _ in range(3))
    answered.answer(1, "second")
    assert not answered.end.done()
    answered.answer(0, "first")
    assert answered.results() == ["first", "second"]
    given_up.answer(1, "second")
    given_up.close()
    assert given_up.results() == ["not run", "second"]
    failed.close(OSError("nobody listens"))
    with pytest.raises(OSError, match="nobody listens"):
        failed.results()
    assert heard == [1, 1, 1]
    assert Batch([], 1, heard.append).results() == []
