"""A client for the few CRI calls that are needed here: messages are encoded by hand, no stubs.

A message is written as (field number, value) pairs; bytes are nested messages. Field numbers are
those of the CRI v1 protocol.
"""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from evaluator.errors import EnvironmentLackError, HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Field = tuple[int, int | str | bytes]
Message = dict[int, list[int | bytes]]

# SecurityProfile.ProfileType
RUNTIME_DEFAULT = 0
TYPES = {"RuntimeDefault": RUNTIME_DEFAULT, "Unconfined": 1, "Localhost": 2}
EXITED = 2  # ContainerState
# What a kubelet sends for procMount: Default.
MASKED = (
    *("/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi"),
    *("/sys/firmware", "/sys/devices/virtual/powercap"),
)
READ_ONLY = tuple(f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger"))

# NamespaceMode
POD_NETWORK, NODE_NETWORK = 0, 2
_CONTAINER_PID = 1
_TIMEOUT_S = 20.0
_EXEC_S = 10
# A connection that is refused is tried again at once: the daemon is only just starting.
_OPTIONS = [(f"grpc.{which}_reconnect_backoff_ms", 100) for which in ("initial", "min", "max")]


class CallError(HarnessError):
    """The runtime service refused a call or is not there."""


class Done(NamedTuple):
    """What a program that was run in a container said."""

    exit_code: int
    stdout: str
    stderr: str


class Client:
    """One connection to a runtime service."""

    def __init__(self, socket: Path) -> None:
        """``EnvironmentLackError`` where grpcio is not installed."""
        try:
            grpc: Any = importlib.import_module("grpc")  # it carries no type hints
        except ImportError:
            raise EnvironmentLackError(
                "the CRI is spoken with grpcio, which is not installed: pip install 'sidestep[cri]'"
            ) from None
        self._error: type[Exception] = grpc.RpcError
        self._channel: Any = grpc.insecure_channel(f"unix://{socket}", _OPTIONS)

    def close(self) -> None:
        self._channel.close()

    def version(self, timeout_s: float = _TIMEOUT_S) -> str:
        answer = self._call("Version", timeout_s=timeout_s)
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

    def run(self, container_id: str, *command: str) -> Done:
        """A program beside the entry point, as ``kubectl exec`` starts it."""
        words = ((2, word) for word in command)
        answer = self._call("ExecSync", (1, container_id), *words, (3, _EXEC_S))
        return Done(_number(answer, 3), _text(answer, 1), _text(answer, 2))

    def status(self, container_id: str) -> tuple[int, int]:
        """ContainerState, and the exit code of an entry point that has ended."""
        answer = self._call("ContainerStatus", (1, container_id))
        status = decode(cast("bytes", answer[1][0]))
        return _number(status, 3), _number(status, 7)

    def count(self, sandbox_id: str) -> int:
        """How many containers the pod has."""
        answer = self._call("ListContainers", (1, encode((3, sandbox_id))))
        return len(answer.get(1, []))

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

    def _call(self, method: str, *fields: Field, timeout_s: float = _TIMEOUT_S) -> Message:
        invoke: Callable[..., Message] = self._channel.unary_unary(
            f"/runtime.v1.RuntimeService/{method}",
            request_serializer=None,
            response_deserializer=decode,
        )
        try:
            return invoke(encode(*fields), timeout=timeout_s)
        except self._error as error:
            details = getattr(error, "details", str)() or "no details"
            raise CallError(f"{method}: {details}") from error


def sandbox_config(
    cgroup: str, logs: Path, name: str = "capture", network: int = NODE_NETWORK
) -> bytes:
    """A pod sandbox, in the machine's network, so that no network plugin is needed, or its own.

    Its own process is under RuntimeDefault, whatever the pod says: so a kubelet has it.
    """
    security = encode((1, _namespaces(network)), (9, security_profile(RUNTIME_DEFAULT)))
    return encode(
        (1, encode((1, name), (2, name), (3, "capture"))),
        (3, str(logs)),
        (8, encode((1, cgroup), (2, security))),
    )


def security_profile(kind: int, localhost_ref: str = "") -> bytes:
    return encode((1, kind), *([(2, localhost_ref)] if localhost_ref else []))


class Standing(NamedTuple):
    """Who runs a container with what; all of it is the runtime's where it is not given."""

    uid: int
    gid: int
    no_new_privs: bool
    apparmor: str = ""
    """The name of a loaded profile; empty: Unconfined, or the runtime would load its own."""


def container_config(
    image: str,
    command: Sequence[str],
    seccomp: int | bytes,
    only: Sequence[str] | None = None,
    name: str = "capture",
    *,
    standing: Standing | None = None,
    mounts: Sequence[tuple[str, str, bool]] = (),
    directory: str = "",
    network: int = NODE_NETWORK,
) -> bytes:
    """A container with the default capabilities, or with these alone (``NET_RAW``, or ``ALL``).

    ``seccomp``: a profile type, or a ``security_profile``.  ``mounts``: the path in the container,
    the machine's, whether it is read-only.  All that is not given is left unset.
    """
    profile = security_profile(seccomp) if isinstance(seccomp, int) else seccomp
    security = encode((3, _namespaces(network)), (15, profile))
    if only is not None:
        wanted = encode(*((1, one) for one in only), *(() if "ALL" in only else ((2, "ALL"),)))
        security = encode((1, wanted)) + security
    if standing is not None:
        # AppArmor in the field of today and in that of old runtimes, as a kubelet has it.
        kind = "Localhost" if standing.apparmor else "Unconfined"
        security += encode(
            (5, encode((1, standing.uid))),
            (9, f"localhost/{standing.apparmor}" if standing.apparmor else "unconfined"),
            (11, int(standing.no_new_privs)),
            (12, encode((1, standing.gid))),
            *((13, path) for path in MASKED),
            *((14, path) for path in READ_ONLY),
            (16, security_profile(TYPES[kind], standing.apparmor)),
        )
    return encode(
        (1, encode((1, name))),
        (2, encode((1, image))),
        *((3, word) for word in command),
        *([(5, directory)] if directory else []),
        *((7, encode((1, inside), (2, outside), (3, int(ro)))) for inside, outside, ro in mounts),
        (11, f"{name}.log"),
        (15, encode((2, security))),
    )


def _namespaces(network: int) -> bytes:
    return encode((1, network), (2, _CONTAINER_PID))


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
    return cast("bytes", message.get(number, [b""])[0]).decode(errors="replace")


def _number(message: Message, number: int) -> int:
    return cast("int", message.get(number, [0])[0])


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
