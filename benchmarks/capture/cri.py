"""A client for the few CRI calls that a capture needs: messages are encoded by hand, no stubs.

A message is written as (field number, value) pairs; bytes are nested messages. Field numbers are
those of the CRI v1 protocol.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from benchmarks.capture.private_space import CaptureError

try:
    import grpc  # type: ignore[import-untyped]  # grpcio carries no type hints
except ImportError:
    raise SystemExit("capture: this needs grpcio: python -m pip install grpcio") from None

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Field = tuple[int, int | str | bytes]
Message = dict[int, list[int | bytes]]

_NODE_NETWORK, _CONTAINER_PID = 2, 1
_TIMEOUT = 60


class CallError(CaptureError):
    """The runtime service refused a call or is not there."""


class Client:
    """One connection to a runtime service."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix://{socket}")

    def close(self) -> None:
        self._channel.close()

    def version(self) -> str:
        answer = self._call("Version")
        return f"{_text(answer, 2)} {_text(answer, 3)}"

    def run_sandbox(self, sandbox: bytes) -> str:
        return _text(self._call("RunPodSandbox", (1, sandbox)), 1)

    def create(self, sandbox_id: str, container: bytes, sandbox: bytes) -> str:
        answer = self._call("CreateContainer", (1, sandbox_id), (2, container), (3, sandbox))
        return _text(answer, 1)

    def start(self, container_id: str) -> None:
        self._call("StartContainer", (1, container_id))

    def remove(self, container_id: str) -> None:
        self._call("RemoveContainer", (1, container_id))

    def describe(self, container_id: str) -> dict[str, Any]:
        """What the runtime says about the container when asked to be verbose."""
        answer = self._call("ContainerStatus", (1, container_id), (2, 1))
        for entry in answer[2]:
            pair = decode(cast("bytes", entry))
            if _text(pair, 1) == "info":
                return cast("dict[str, Any]", json.loads(_text(pair, 2)))
        raise ValueError("ContainerStatus has no info")

    def remove_sandbox(self, sandbox_id: str) -> None:
        self._call("StopPodSandbox", (1, sandbox_id))
        self._call("RemovePodSandbox", (1, sandbox_id))

    def _call(self, method: str, *fields: Field) -> Message:
        invoke: Callable[..., Message] = self._channel.unary_unary(
            f"/runtime.v1.RuntimeService/{method}",
            request_serializer=None,
            response_deserializer=decode,
        )
        try:
            return invoke(encode(*fields), timeout=_TIMEOUT)
        except grpc.RpcError as error:
            raise CallError(f"{method}: {error.details()}") from error


def sandbox_config(cgroup: str, logs: Path) -> bytes:
    """A pod sandbox in the machine's network, so that no network plugin is needed."""
    security = encode((1, _namespaces()))
    return encode(
        (1, encode((1, "capture"), (2, "capture"), (3, "capture"))),
        (3, str(logs)),
        (8, encode((1, cgroup), (2, security))),
    )


def container_config(
    image: str,
    command: list[str],
    seccomp_type: int,
    only: list[str] | None = None,
    name: str = "capture",
) -> bytes:
    """A container with the default capabilities, or with these alone (``NET_RAW``, or ``ALL``).

    Everything but that and seccomp is left unset.
    """
    security = encode((3, _namespaces()), (15, encode((1, seccomp_type))))
    if only is not None:
        wanted = encode(*((1, one) for one in only), *(() if "ALL" in only else ((2, "ALL"),)))
        security = encode((1, wanted)) + security
    return encode(
        (1, encode((1, name))),
        (2, encode((1, image))),
        *((3, word) for word in command),
        (11, "capture.log"),
        (15, encode((2, security))),
    )


def _namespaces() -> bytes:
    return encode((1, _NODE_NETWORK), (2, _CONTAINER_PID))


def encode(*fields: Field) -> bytes:
    parts: list[bytes] = []
    for number, value in fields:
        if isinstance(value, int):
            parts += [_varint(number << 3), _varint(value)]
        else:
            data = value.encode() if isinstance(value, str) else value
            parts += [_varint(number << 3 | 2), _varint(len(data)), data]
    return b"".join(parts)


def decode(data: bytes) -> Message:
    result: Message = {}
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        value: int | bytes
        match key & 7:
            case 0:
                value, at = _read_varint(data, at)
            case 1 | 5 as kind:
                size = 8 if kind == 1 else 4
                value, at = data[at : at + size], at + size
            case 2:
                size, at = _read_varint(data, at)
                value, at = data[at : at + size], at + size
            case kind:
                raise ValueError(f"wire type {kind} is not part of the protocol")
        result.setdefault(key >> 3, []).append(value)
    return result


def _text(message: Message, number: int) -> str:
    return cast("bytes", message[number][0]).decode()


def _varint(value: int) -> bytes:
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
