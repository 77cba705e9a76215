"""Work that takes turns at the runners; no runner is needed here."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future

from evaluator.pool import Asking, Batch, overlapped


def batch() -> Batch:
    made = Batch([], 1, lambda _: None)
    made.at_work.append(Future())
    return made


def asking(name: str, one: Batch) -> Asking[str]:
    yield one
    return name


def test_one_whose_batch_takes_long_holds_nobody_up() -> None:
    slow, quick, last = batch(), batch(), batch()
    quick.at_work[0].set_result(None)
    last.at_work[0].set_result(None)
    ended = overlapped(
        iter([asking("slow", slow), asking("quick", quick), asking("last", last)]), 2
    )
    assert [next(ended), next(ended)] == ["quick", "last"]
    slow.at_work[0].set_result(None)
    assert list(ended) == ["slow"]


def test_it_waits_where_no_batch_is_done() -> None:
    slow = batch()
    threading.Timer(0.05, slow.at_work[0].set_result, [None]).start()
    assert list(overlapped([asking("slow", slow)], 3)) == ["slow"]


def test_no_more_begin_than_may_be_at_work() -> None:
    begun: list[int] = []
    batches = [batch() for _ in range(4)]

    def works() -> Iterator[Asking[int]]:
        for number, one in enumerate(batches):
            begun.append(number)
            one.at_work[0].set_result(None)
            yield numbered(number, one)

    def numbered(number: int, one: Batch) -> Asking[int]:
        yield one
        return number

    ended = overlapped(works(), 2)
    assert next(ended) == 0
    assert begun == [0, 1]
    assert sorted(ended) == [1, 2, 3]
