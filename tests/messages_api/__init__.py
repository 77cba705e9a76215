"""A loopback server that speaks the Messages API, scripted, strict and without a model.

``python -m tests.messages_api`` runs it for trying things by hand. In a test::

    def test_something(messages_api: MessagesApi) -> None:
        messages_api.script("claude-opus-5-5", [replies.rate_limited(), replies.text("{}")])
        ...  # a client with messages_api.base_url and messages_api.api_key
        assert [r.status for r in messages_api.requests] == [429, 200]

What it refuses, the real one refuses as well (version 2026-10-21), or it is not known whether it
would: code that is accepted here stays on the safe side.
"""
