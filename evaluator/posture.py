"""Postures: what the subject may do before the candidate is put on."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from evaluator.errors import InputError
from mitigations.candidate import OwnPosture
from mitigations.capabilities import CAPABILITIES

CAPABILITY_NUMBERS = {name: number for number, name in enumerate(CAPABILITIES)}

# What a container of Docker or containerd has unless told otherwise (moby, daemon/pkg/oci/caps).
# fmt: off
_CONTAINER = (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP",
    "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
)
# fmt: on
CONTAINER = frozenset(f"CAP_{name}" for name in _CONTAINER)


class Posture(Struct, frozen=True):
    """Ids, capabilities (effective, permitted and bounding are one set) and no_new_privs."""

    name: str
    uid: int
    gid: int
    capabilities: frozenset[str]
    no_new_privs: bool

    @property
    def nameless(self) -> Posture:
        """Equal for postures in which all controls are the same."""
        return replace(self, name="")

    @property
    def mask(self) -> int:
        """The capabilities as the bits of capset(2)."""
        return mask(self.capabilities)


def mask(names: Iterable[str]) -> int:
    """Capabilities as the bits of capset(2)."""
    return sum(1 << CAPABILITY_NUMBERS[name] for name in names)


POSTURES = {
    posture.name: posture
    for posture in (
        Posture("container", 0, 0, CONTAINER, no_new_privs=False),
        Posture("restricted", 1000, 1000, frozenset(), no_new_privs=True),
        Posture("root", 0, 0, frozenset(CAPABILITY_NUMBERS), no_new_privs=False),
    )
}
WITHOUT_CAPABILITIES = Posture("no-capabilities", 0, 0, frozenset(), no_new_privs=False)
NO_NEW_PRIVS = Posture("no-new-privs", 0, 0, CONTAINER, no_new_privs=True)
# Nobody asks for these by an option: what a family comes to under a layer is measured in them.
_UNASKED = {one.name: one for one in (WITHOUT_CAPABILITIES, NO_NEW_PRIVS)}


def posture(wanted: str | OwnPosture) -> Posture:
    """The posture of that name, or what a candidate brings; ``InputError`` for an unknown name."""
    if isinstance(wanted, OwnPosture):
        own = wanted
        return Posture(own.name, own.uid, own.gid, own.capabilities, no_new_privs=own.no_new_privs)
    if wanted in _UNASKED:
        return _UNASKED[wanted]
    try:
        return POSTURES[wanted]
    except KeyError:
        raise InputError(f"unknown posture {wanted!r}: one of {', '.join(POSTURES)}") from None
