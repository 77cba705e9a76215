"""Packets that a program makes itself: from this host to this host, with a text inside."""

from __future__ import annotations

import struct

from attacks.consts_network import IPPROTO_UDP
from attacks.loopback import LOOPBACK, LOOPBACK6, PORT

ETH_P_IPV6 = 0x86DD
_SENDER_PORT = 20479
_ECHO_REQUEST = 8
_HOPS = 64
_UDP_SIZE, _IP_SIZE = 8, 20
_VERSION_4_AND_SIZE, _VERSION_6 = 0x45, 6 << 28


def udp(text: bytes, checksum: int = 0) -> bytes:
    """A datagram to the witness; in IPv4 no checksum is needed."""
    return struct.pack(">HHHH", _SENDER_PORT, PORT, _UDP_SIZE + len(text), checksum) + text


def ip(text: bytes) -> bytes:
    """The datagram in an IPv4 packet; the kernel fills in the checksum of the header."""
    payload = udp(text)
    size = _IP_SIZE + len(payload)
    kind, hosts = (_VERSION_4_AND_SIZE, 0, size, 0, 0, _HOPS, IPPROTO_UDP, 0), (LOOPBACK, LOOPBACK)
    return struct.pack(">BBHHHBBHII", *kind, *hosts) + payload


def ip6(text: bytes) -> bytes:
    """The datagram in an IPv6 packet.

    Only these, with a checksum, come in at the loopback device from a packet socket: IPv4 packets
    with loopback addresses are dropped as strangers.
    """
    hosts, size = LOOPBACK6 + LOOPBACK6, _UDP_SIZE + len(text)
    pseudo = hosts + struct.pack(">II", size, IPPROTO_UDP)
    payload = udp(text, _checksum(pseudo + udp(text)))
    return struct.pack(">IHBB", _VERSION_6, size, IPPROTO_UDP, _HOPS) + hosts + payload


def frame(text: bytes) -> bytes:
    """The IPv6 packet with the header of the link layer in front; the addresses are zeros."""
    return bytes(12) + struct.pack(">H", ETH_P_IPV6) + ip6(text)


def echo_request(text: bytes) -> bytes:
    """What ping sends."""
    body = struct.pack(">HH", 1, 1) + text
    checksum = _checksum(struct.pack(">BBH", _ECHO_REQUEST, 0, 0) + body)
    return struct.pack(">BBH", _ECHO_REQUEST, 0, checksum) + body


def _checksum(data: bytes) -> int:
    """The internet checksum; a result of 0, which means none, does not come up here."""
    even = data + bytes(len(data) % 2)
    total = sum(int.from_bytes(even[at : at + 2], "big") for at in range(0, len(even), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
