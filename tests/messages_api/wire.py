"""HTTP/1.1 on the loopback interface: bytes in, an Answer out, delays and cuts included."""

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """One of ``document`` (JSON), ``events`` (a stream) and ``body`` is what is sent.

    ``delay`` is in seconds. Only ``part`` of the body is sent before the connection ends; with 0
    not even the status line. ``sent`` is told the status just before, None if the client sees none.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    document: dict[str, Any] | None = None
    events: list[bytes] | None = None
    body: bytes = b""
    content_type: str = "application/json"
    delay: float = 0.0
    part: float = 1.0
    sent: Callable[[int | None], None] = lambda status: None


Handle = Callable[[str, str, Mapping[str, str], bytes], Answer]


class LoopbackServer(ThreadingHTTPServer):
    """Binds 127.0.0.1. Exceptions of its threads go to ``errors``."""

    daemon_threads = False  # stop() ends them
    request_queue_size = 512

    def __init__(self, port: int, handle: Handle, errors: list[BaseException]) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.handle_one = handle
        self.stopping = threading.Event()
        self._errors = errors
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends every connection, also one that waits; returns when no thread is left."""
        self.stopping.set()
        self.shutdown()
        self._thread.join()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request, client_address
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):  # the client went away
            self._errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: LoopbackServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name of the base
        """Says nothing: the requests are recorded."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer = self.server.handle_one(self.command, self.path, dict(self.headers), raw)
        stopped = self.server.stopping.wait(answer.delay)
        # Before the bytes: a client that has them may look at what was recorded.
        answer.sent(answer.status if answer.part and not stopped else None)
        if not stopped:
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        if answer.part < 1:
            self.close_connection = True
        if answer.part == 0:
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.events is not None:
            self._send_events(answer.events, answer.part)
            return
        body = answer.body if answer.document is None else json.dumps(answer.document).encode()
        self.send_header("content-type", answer.content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: int(len(body) * answer.part)])

    def _send_events(self, events: list[bytes], part: float) -> None:
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events[: int(len(events) * part)]:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
        if part == 1:
            self.wfile.write(b"0\r\n\r\n")
