"""Answers on disk, by what was asked and the number of the sample: nothing is asked twice.

DIR/DIGEST.SAMPLE.json   a request and its reply
DIR/batch.DIGEST.json    a batch that was sent and not fetched yet
DIR/said.DIGEST          what a conversation was told between two requests
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from mitigations.candidate import ProfileError
from mitigations.generate.reply import Message, Reply
from mitigations.generate.request import Request

_LOCK = ".lock"
_T = TypeVar("_T")


class Kept(Struct, frozen=True):
    """A file of the store."""

    asked: Mapping[str, Any]
    """The parameters of the request."""
    sample: int
    reply: Reply


class Asked(Struct, frozen=True):
    """A request and the number of its sample."""

    request: Request
    sample: int


class Batch(Struct, frozen=True):
    """A batch at the provider: what was asked, by its ``custom_id``."""

    id: str
    asked: Mapping[str, Asked]


class Store:
    """One directory, made when it is needed; ``ProfileError`` where it cannot be used."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._locked: int | None = None

    def lock(self) -> None:
        """Keeps others out who would ask the same; ``ProfileError`` if somebody is in."""
        path = self._directory / _LOCK
        self._make()
        try:
            self._locked = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.unlock()
            raise ProfileError("another run keeps its answers there", str(path.parent)) from None
        except OSError as error:
            raise ProfileError(f"cannot lock: {error.strerror}", str(path)) from None

    def unlock(self) -> None:
        if self._locked is not None:
            os.close(self._locked)
            self._locked = None

    def get(self, request: Request, sample: int) -> Reply | None:
        """The reply; ``ProfileError`` if what is stored is damaged, or answers something else."""
        name = f"{request.digest()}.{sample}.json"
        found = self._read(name, Kept)
        if found is None:
            return None
        if (found.asked, found.sample) != (request.parameters(), sample):
            raise self._unreadable(name, ValueError("it answers another request"))
        if found.reply.raw is not None:
            try:
                msgspec.convert(found.reply.raw, Message)
            except msgspec.ValidationError as error:
                raise self._unreadable(name, error) from None
        return found.reply

    def put(self, request: Request, sample: int, reply: Reply) -> None:
        kept = Kept(request.parameters(), sample, reply)
        self._write(f"{request.digest()}.{sample}.json", msgspec.json.encode(kept))

    def batches(self) -> Iterator[Batch]:
        """Those whose results were not fetched."""
        for path in sorted(self._directory.glob("batch.*.json")):
            if (found := self._read(path.name, Batch)) is not None:
                yield found

    def put_batch(self, batch: Batch) -> None:
        self._write(_batch_name(batch.id), msgspec.json.encode(batch))

    def drop_batch(self, batch: Batch) -> None:
        self.place(batch).unlink(missing_ok=True)

    def place(self, batch: Batch) -> Path:
        """The file of a batch."""
        return self._directory / _batch_name(batch.id)

    def said(self, key: str, kind: type[_T]) -> _T | None:
        """What ``say`` kept under that key."""
        return self._read(_said_name(key), kind)

    def say(self, key: str, what: object) -> None:
        self._write(_said_name(key), msgspec.json.encode(what))

    def _read(self, name: str, kind: type[_T]) -> _T | None:
        try:
            return msgspec.json.decode((self._directory / name).read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._unreadable(name, error) from None

    def _unreadable(self, name: str, error: Exception) -> ProfileError:
        said = error.strerror if isinstance(error, OSError) else error
        return ProfileError(
            f"cannot read this stored answer: {said}; remove the file to ask again",
            str(self._directory / name),
        )

    def _make(self) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ProfileError(f"cannot make it: {error.strerror}", str(self._directory)) from None

    def _write(self, name: str, content: bytes) -> None:
        """Whole or not at all, whatever happens meanwhile."""
        self._make()
        temporary = ""
        try:
            handle, temporary = tempfile.mkstemp(dir=self._directory, prefix=".writing-")
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self._directory / name)
        except BaseException as error:
            if temporary:
                with contextlib.suppress(OSError):
                    Path(temporary).unlink()
            if isinstance(error, OSError):
                where = str(self._directory / name)
                raise ProfileError(f"cannot write: {error.strerror}", where) from None
            raise


def _batch_name(identity: str) -> str:
    return f"batch.{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"


def _said_name(key: str) -> str:
    return f"said.{hashlib.sha256(key.encode()).hexdigest()}"
