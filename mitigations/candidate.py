"""What one mitigation under evaluation is: its layers, where it came from, what is odd about it."""

import hashlib
from enum import StrEnum

from msgspec import Struct

from mitigations.rules import Profile


class ProfileError(Exception):
    """The input is wrong: what (`message`, a stable `code`) and where (JSON path or line)."""

    def __init__(self, message: str, where: str = "", code: str = "invalid") -> None:
        super().__init__(message, where, code)
        self.message = message
        self.where = where
        self.code = code

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class Finding(Struct, frozen=True):
    """A warning: the input is usable, but does not do what it seems to say."""

    code: str
    message: str
    where: str = ""
    witness: str = ""
    """A call that shows it, checked against the compiled filter; empty if no call can."""
    confirmed_by: str = ""
    """The variant whose trial showed it; empty before a run, and if none did."""


class SeccompLayer(Struct, frozen=True):
    """One cBPF filter: the bytes that we load, and all bytes that the runtime might load instead.

    `program` is an array of struct sock_filter, little-endian. `valid` has more than one member
    where the runtime itself is not deterministic; all members decide alike.
    """

    program: bytes
    valid: tuple[bytes, ...]
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.program in self.valid


class NoNewPrivsLayer(Struct, frozen=True):
    """PR_SET_NO_NEW_PRIVS, where the candidate itself asks for it."""


Layer = SeccompLayer | NoNewPrivsLayer


class Attachment(StrEnum):
    RUNTIME = "runtime"
    SELF = "self"


class Candidate(Struct, frozen=True):
    name: str
    source: str
    layers: tuple[Layer, ...]
    attachment: Attachment
    meaning: str
    runtime_model: str = ""
    posture: str | None = None
    default_action: str = ""
    intent: str = ""
    profile: Profile | None = None
    """What the filter was compiled from; None for a raw program."""
    warnings: tuple[Finding, ...] = ()

    @property
    def seccomp(self) -> tuple[SeccompLayer, ...]:
        return tuple(layer for layer in self.layers if isinstance(layer, SeccompLayer))

    @property
    def digest(self) -> str:
        """What is enforced, and nothing else: equal layers are evaluated once."""
        hasher = hashlib.sha256()
        for layer in self.layers:
            match layer:
                case SeccompLayer():
                    head = f"seccomp {','.join(layer.flags)} {len(layer.program)}\n"
                    hasher.update(head.encode() + layer.program)
                case NoNewPrivsLayer():
                    hasher.update(b"no_new_privs\n")
        return hasher.hexdigest()[:16]


class FailedCandidate(Struct, frozen=True):
    """A file of a directory that is no usable profile; the others go on."""

    name: str
    source: str
    error: ProfileError
