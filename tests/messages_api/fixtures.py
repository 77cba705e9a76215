"""Fixtures for tests that speak to a model."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.messages_api.server import MessagesApi


@pytest.fixture
def messages_api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "Iterator[MessagesApi]":
    """A server with ``base_url`` and ``api_key``; no real credential is within reach.

    Nothing is set in the environment: a client gets both by hand, or ``environment`` in another
    process.
    """
    from tests.messages_api.server import MessagesApi  # every run of pytest loads this file

    for name in list(os.environ):
        if name.startswith("ANTHROPIC_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path / "no-anthropic-profiles"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with MessagesApi() as api:
        yield api
    if api.errors:
        raise ExceptionGroup("the loopback server", [_plain(error) for error in api.errors])


def _plain(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(repr(error))
