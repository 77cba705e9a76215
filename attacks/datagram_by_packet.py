"""A datagram in a packet that the program makes itself: recipes of send-datagram."""

from __future__ import annotations

import struct

from attacks import loopback, packets
from attacks.consts import (
    O_WRONLY,
    SOCK_DGRAM,
)
from attacks.consts_network import (
    AF_INET,
    AF_PACKET,
    IPPROTO_ICMP,
    IPPROTO_RAW,
    IPPROTO_UDP,
    SOCK_PACKET,
    SOCK_RAW,
)
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result

TEXT = b"leaked by datagram"
LOOPBACK_INDEX = 1


def send_to(k: Kernel, sock: Result, data: Buffer, to: Buffer) -> Result:
    return k.sendto(sock, data, data.size, 0, to, to.size)


def raw_udp(k: Kernel) -> None:
    """A raw socket carries a UDP header of the program's own: its type is not SOCK_DGRAM."""
    sock = k.socket(AF_INET, SOCK_RAW, IPPROTO_UDP)
    packet = k.data(packets.udp(TEXT), name="packet")
    send_to(k, sock, packet, loopback.inet(k, port=0)).decisive()


def raw_ip_header(k: Kernel) -> None:
    """The program writes the IP header too, so the destination that counts is in the data."""
    sock = k.socket(AF_INET, SOCK_RAW, IPPROTO_RAW)
    packet = k.data(packets.ip(TEXT), name="packet")
    send_to(k, sock, packet, loopback.inet(k, port=0)).decisive()


def raw_icmp(k: Kernel) -> None:
    """A ping carries data as well, and is not what network rules call traffic."""
    sock = k.socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)
    packet = k.data(packets.echo_request(TEXT), name="packet")
    send_to(k, sock, packet, loopback.inet(k, port=0)).decisive()


def ping_socket(k: Kernel) -> None:
    """Where a group may use ping sockets, ICMP needs no privilege; type and family are UDP's."""
    allowed = k.setup.open(k.proc("sys/net/ipv4/ping_group_range"), O_WRONLY)
    k.setup.write(allowed, k.data(b"0 2000"), 6)
    sock = k.socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)
    packet = k.data(packets.echo_request(TEXT), name="packet")
    send_to(k, sock, packet, loopback.inet(k, port=0)).decisive()


def packet_datagram(k: Kernel) -> None:
    """A packet socket hands the interface a whole IP packet, below every address family."""
    sock = k.socket(AF_PACKET, SOCK_DGRAM, 0)
    packet = k.data(packets.ip6(TEXT), name="packet")
    send_to(k, sock, packet, _interface(k)).decisive()


def packet_raw(k: Kernel) -> None:
    """A whole frame, with the header of the link layer in front."""
    sock = k.socket(AF_PACKET, SOCK_RAW, 0)
    frame = k.data(packets.frame(TEXT), name="frame")
    send_to(k, sock, frame, _interface(k)).decisive()


def packet_of_the_inet_family(k: Kernel) -> None:
    """AF_INET with the ancient type SOCK_PACKET is a packet socket: the family says otherwise."""
    sock = k.socket(AF_INET, SOCK_PACKET, 0)
    frame = k.data(packets.frame(TEXT), name="frame")
    # struct sockaddr_pkt: the device by name, then the protocol.
    name = (
        struct.pack("<H", AF_PACKET)
        + b"lo".ljust(14, b"\0")
        + struct.pack(">H", packets.ETH_P_IPV6)
    )
    send_to(k, sock, frame, k.data(name, name="address")).decisive()


def io_uring_packet_datagram(k: Kernel) -> None:
    """A ring makes the packet socket: a filter that denies the family does not see it."""
    ring = k.ring()
    sock = ring.submit("SOCKET", fd=AF_PACKET, off=SOCK_DGRAM)
    message = loopback.message(k, k.data(packets.ip6(TEXT), name="packet"), _interface(k))
    ring.submit("SENDMSG", fd=sock, addr=message, length=1).decisive()


def _interface(k: Kernel) -> Buffer:
    """The address of the loopback device, for packet sockets."""
    head = struct.pack("<H", AF_PACKET) + struct.pack(">H", packets.ETH_P_IPV6)
    return k.data(head + struct.pack("<iHBB", LOOPBACK_INDEX, 0, 0, 6) + bytes(8), name="address")
