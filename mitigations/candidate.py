"""What one mitigation under evaluation is: its layers, where it came from, what is odd about it."""

import hashlib
from enum import StrEnum
from typing import ClassVar

import msgspec
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

    kind: ClassVar[str] = "seccomp"

    program: bytes
    valid: tuple[bytes, ...]
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.program in self.valid


class NoNewPrivsLayer(Struct, frozen=True):
    """PR_SET_NO_NEW_PRIVS, where the candidate itself asks for it."""

    kind: ClassVar[str] = "no-new-privs"


class LandlockLayer(Struct, frozen=True):
    """One Landlock ruleset: what it denies, and where it does not (landlock(7)).

    All rights are the bits of linux/landlock.h; ``mitigations.landlock`` has their names and the
    ABI that each came with.  Whoever puts one into a candidate puts a ``NoNewPrivsLayer`` before
    it: without that only CAP_SYS_ADMIN may restrict itself.
    """

    kind: ClassVar[str] = "landlock"

    handled_fs: int = 0
    """``LANDLOCK_ACCESS_FS_...`` that are denied where no rule allows them."""
    handled_net: int = 0
    """``LANDLOCK_ACCESS_NET_...``, the same for ports."""
    scoped: int = 0
    """``LANDLOCK_SCOPE_...``"""
    path_rules: tuple[tuple[str, int], ...] = ()
    """An absolute path, and what is allowed on it and below it; one that is not there is no rule.
    """
    port_rules: tuple[tuple[int, int], ...] = ()
    """A port, and what is allowed on it."""


class CapabilitiesLayer(Struct, frozen=True):
    """Capabilities are taken away: only ``kept`` are left of those that the posture has.

    Effective, permitted and bounding become one set, the inheritable and the ambient set are empty.
    """

    kind: ClassVar[str] = "capabilities"

    kept: frozenset[str]
    """Names of capabilities(7): ``CAP_CHOWN``."""


class AppArmorLayer(Struct, frozen=True):
    """An AppArmor profile that is to confine the program, loaded or still to be loaded."""

    kind: ClassVar[str] = "apparmor"

    profile: str
    """Its name."""
    text: str = ""
    """The source, in apparmor.d(5); empty where only the name is known."""


class ReadOnlyRootLayer(Struct, frozen=True):
    """All is mounted read-only but /dev, /proc, and what is at ``writable`` and below it."""

    kind: ClassVar[str] = "read-only-root"

    writable: tuple[str, ...] = ()
    """Absolute paths."""


Layer = (
    SeccompLayer
    | NoNewPrivsLayer
    | LandlockLayer
    | CapabilitiesLayer
    | AppArmorLayer
    | ReadOnlyRootLayer
)


class OwnPosture(Struct, frozen=True):
    """What the subject may do before the layers are put on, and in the control arm.

    It belongs to the candidate's surroundings: the user that a manifest runs as, capabilities that
    it adds.  What the candidate takes away is a layer.
    """

    name: str
    uid: int
    gid: int
    capabilities: frozenset[str]
    """Names of capabilities(7): effective, permitted and bounding are one set."""
    no_new_privs: bool = False


class Attachment(StrEnum):
    RUNTIME = "runtime"
    SELF = "self"


class SecurityProfile(Struct, frozen=True):
    """What a kubelet asks a runtime for, in the CRI's words."""

    type: str
    """RuntimeDefault, Localhost or Unconfined."""
    localhost_ref: str = ""
    """For seccomp a file of the node, for AppArmor a name; empty if it is not of type Localhost."""


class Candidate(Struct, frozen=True):
    name: str
    source: str
    layers: tuple[Layer, ...]
    attachment: Attachment
    meaning: str
    runtime_model: str = ""
    posture: str | OwnPosture | None = None
    """The name of one, or its own; None: what the user asks for."""
    default_action: str = ""
    intent: str = ""
    profile: Profile | None = None
    """What the filter was compiled from; None for a raw program."""
    directives: tuple[str, ...] = ()
    """Of a unit, the lines that enforce something: ``NoNewPrivileges=yes``."""
    warnings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    """What is to be known of the source and is nobody's mistake."""
    requested: SecurityProfile | None = None
    """What a kubelet would ask for, always; None where it is no container of a pod."""
    requested_apparmor: SecurityProfile | None = None
    """The same of AppArmor, which a kubelet leaves to the runtime where nothing is given."""
    assumes: frozenset[str] = frozenset()
    """What an attacker has here by the way it is deployed: ``unfiltered-neighbour``."""

    @property
    def seccomp(self) -> tuple[SeccompLayer, ...]:
        return tuple(layer for layer in self.layers if isinstance(layer, SeccompLayer))

    @property
    def seccomp_only(self) -> bool:
        """Whether nothing but filters (and what lets them be loaded) stands in the way."""
        return all(isinstance(one, SeccompLayer | NoNewPrivsLayer) for one in self.layers)

    @property
    def beside_filters(self) -> tuple[Layer, ...]:
        """The layers that are no filters, but for no_new_privs, which denies no call."""
        return tuple(
            one for one in self.layers if not isinstance(one, SeccompLayer | NoNewPrivsLayer)
        )

    @property
    def brings_no_new_privs(self) -> bool:
        return any(isinstance(layer, NoNewPrivsLayer) for layer in self.layers)

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
                case CapabilitiesLayer():
                    hasher.update(f"capabilities {','.join(sorted(layer.kept))}\n".encode())
                case _:
                    hasher.update(msgspec.json.encode((type(layer).__name__, layer)) + b"\n")
        return hasher.hexdigest()[:16]


class FailedCandidate(Struct, frozen=True):
    """A file of a directory that is no usable profile; the others go on."""

    name: str
    source: str
    error: ProfileError
