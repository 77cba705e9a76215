"""A request that the API answers with an error object."""

from tests.messages_api.replies import ERROR_TYPES


class Refused(Exception):  # noqa: N818  # an answer, not a fault of ours
    """``status`` is the HTTP status; the text is the message of the error object."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def type(self) -> str:
        return ERROR_TYPES[self.status]


def invalid(where: str, message: str) -> Refused:
    """A 400 that names the place in the request."""
    return Refused(400, f"{where}: {message}")


def error_object(type_: str, message: str, request_id: str | None = None) -> dict[str, object]:
    return {
        "type": "error",
        "error": {"type": type_, "message": message},
        "request_id": request_id,
    }
