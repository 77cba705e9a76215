"""What GET /v1/models says about a scripted model."""

from typing import Any

from tests.messages_api.rules import EFFORTS, MOST_OUTPUT_TOKENS

YES, NO = {"supported": True}, {"supported": False}


def model_info(name: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": f"{name} (scripted)",
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": None,
        "max_input_tokens": 1_000_000,
        "max_tokens": MOST_OUTPUT_TOKENS,
        "capabilities": {
            "batch": YES,
            "citations": NO,
            "code_execution": NO,
            "context_management": NO,
            "effort": YES | dict.fromkeys(EFFORTS, YES),
            "image_input": NO,
            "pdf_input": NO,
            "server_tools": NO | {"code_execution": NO, "web_search": NO},
            "structured_outputs": YES,
            "thinking": YES
            | {"types": dict.fromkeys(("adaptive", "between_tools", "disabled", "enabled"), YES)},
        },
    }


def page(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A list that fits on one page."""
    first, last = (items[0]["id"], items[-1]["id"]) if items else (None, None)
    return {"data": items, "has_more": False, "first_id": first, "last_id": last}
