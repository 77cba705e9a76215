"""Message Batches: requests that are answered together, later and in another order."""

import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.messages_api.errors import Refused

RESULTS = ("succeeded", "errored", "canceled", "expired")
Answer = Callable[[dict[str, Any]], tuple[str, bytes]]


@dataclass
class Batch:
    """``lines`` are the results, by their type; None until processing ended."""

    id: str
    requests: list[dict[str, Any]]
    polls_left: int
    created: datetime
    cancelled: datetime | None = None
    ended: datetime | None = None
    lines: list[tuple[str, bytes]] | None = field(default=None, repr=False)


class Batches:
    """``answer`` gives the type and the JSON of the result of one request's params.

    ``polls`` is how often a batch is looked at before it has ended.
    """

    def __init__(self, answer: Answer, polls: int = 1) -> None:
        self.polls = polls
        self._answer = answer
        self._batches: dict[str, Batch] = {}
        self._lock = threading.RLock()

    def create(self, requests: list[dict[str, Any]]) -> Batch:
        with self._lock:
            name = f"msgbatch_{len(self._batches) + 1:06}"
            batch = Batch(name, requests, self.polls, datetime.now(UTC))
            self._batches[name] = batch
            return batch

    def look(self, name: str) -> Batch:
        """Time passes only here: the look that finds no polls left ends the processing."""
        with self._lock:
            batch = self._find(name)
            if batch.lines is None and batch.polls_left <= 0:
                self._end(batch)
            batch.polls_left -= 1
            return batch

    def cancel(self, name: str) -> Batch:
        with self._lock:
            batch = self._find(name)
            if batch.lines is not None:
                raise Refused(409, f"Batch {name} has ended and cannot be canceled")
            batch.cancelled = batch.cancelled or datetime.now(UTC)
            return batch

    def results(self, name: str) -> bytes:
        with self._lock:
            batch = self._find(name)
            if batch.lines is None:
                raise Refused(404, f"Batch {name} has no results yet")
            return b"".join(line + b"\n" for _, line in batch.lines)

    def newest_first(self) -> list[Batch]:
        with self._lock:
            return list(reversed(self._batches.values()))

    def _find(self, name: str) -> Batch:
        if name not in self._batches:
            raise Refused(404, f"Message batch {name} not found")
        return self._batches[name]

    def _end(self, batch: Batch) -> None:
        lines: list[tuple[str, bytes]] = []
        for request in batch.requests:
            if batch.cancelled:
                kind, result = "canceled", b'{"type": "canceled"}'
            else:
                kind, result = self._answer(request["params"])
            name = json.dumps(request["custom_id"]).encode()
            lines.append((kind, b'{"custom_id": ' + name + b', "result": ' + result + b"}"))
        batch.lines = shuffled(lines)
        batch.ended = datetime.now(UTC)


def shuffled(lines: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Never the order they came in, and the same for the same lines."""
    order = list(range(len(lines)))
    random.Random(len(lines)).shuffle(order)
    if order == sorted(order):
        order.reverse()
    return [lines[at] for at in order]


def description(batch: Batch, base_url: str) -> dict[str, Any]:
    """The ``message_batch`` object."""
    counts = Counter(kind for kind, _ in batch.lines or [])
    status = "ended" if batch.ended else "canceling" if batch.cancelled else "in_progress"
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": status,
        "request_counts": {
            "processing": 0 if batch.ended else len(batch.requests),
            **{kind: counts[kind] for kind in RESULTS},
        },
        "created_at": _time(batch.created),
        "expires_at": _time(batch.created + timedelta(hours=24)),
        "ended_at": _time(batch.ended),
        "cancel_initiated_at": _time(batch.cancelled),
        "archived_at": None,
        "results_url": f"{base_url}/v1/messages/batches/{batch.id}/results"
        if batch.ended
        else None,
    }


def _time(when: datetime | None) -> str | None:
    return when.isoformat().replace("+00:00", "Z") if when else None
