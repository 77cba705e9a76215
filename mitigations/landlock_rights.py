"""The rights of Landlock, their bits in linux/landlock.h and the ABI that each came with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from mitigations.candidate import LandlockLayer


class Right(Struct, frozen=True):
    bit: int
    since: int
    """The ABI: what landlock_create_ruleset(2) answers with LANDLOCK_CREATE_RULESET_VERSION."""


def _numbered(rights: Mapping[str, int]) -> dict[str, Right]:
    return {name: Right(1 << bit, since) for bit, (name, since) in enumerate(rights.items())}


FS = _numbered(
    {
        **dict.fromkeys(("execute", "write_file", "read_file", "read_dir", "remove_dir"), 1),
        **dict.fromkeys(("remove_file", "make_char", "make_dir", "make_reg", "make_sock"), 1),
        **dict.fromkeys(("make_fifo", "make_block", "make_sym"), 1),
        "refer": 2,
        "truncate": 3,
        "ioctl_dev": 5,
        "resolve_unix": 9,
    }
)
NET = _numbered({"bind_tcp": 4, "connect_tcp": 4})
SCOPE = _numbered({"abstract_unix_socket": 6, "signal": 6})
NEWEST_ABI = 9
"""The newest that is known here."""
_READ = ("execute", "read_file", "read_dir")


def everything(rights: Mapping[str, Right], abi: int) -> int:
    """All rights of a kind that an ABI has."""
    return sum(one.bit for one in rights.values() if one.since <= abi)


def reading(abi: int) -> int:
    """What is needed to read and execute."""
    return sum(FS[name].bit for name in _READ if FS[name].since <= abi)


def without_newer(layer: LandlockLayer, abi: int) -> LandlockLayer:
    """What a kernel with that ABI can enforce of a ruleset; rules for no more than it handles."""
    fs = layer.handled_fs & everything(FS, abi)
    net = layer.handled_net & everything(NET, abi)
    return LandlockLayer(
        handled_fs=fs,
        handled_net=net,
        scoped=layer.scoped & everything(SCOPE, abi),
        path_rules=tuple((path, access & fs) for path, access in layer.path_rules if access & fs),
        port_rules=tuple((port, access & net) for port, access in layer.port_rules if access & net),
    )


def newer(layer: LandlockLayer, abi: int) -> Iterator[tuple[str, Right]]:
    """The rights that a ruleset denies and that an ABI does not have, as the kernel names them."""
    for kind, rights, handled in _parts(layer):
        for name, right in rights.items():
            if handled & right.bit and right.since > abi:
                yield f"LANDLOCK_{kind}_{name.upper()}", right


def denies(layer: LandlockLayer) -> Iterator[str]:
    """The rights that need a rule, and the scopes, by their names in a file."""
    for _, rights, handled in _parts(layer):
        yield from (name for name, right in rights.items() if handled & right.bit)


def _parts(layer: LandlockLayer) -> tuple[tuple[str, Mapping[str, Right], int], ...]:
    return (
        ("ACCESS_FS", FS, layer.handled_fs),
        ("ACCESS_NET", NET, layer.handled_net),
        ("SCOPE", SCOPE, layer.scoped),
    )
