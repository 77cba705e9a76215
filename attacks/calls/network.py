"""Calls on sockets.

Each method has the name and the arguments of the man page; where a name is a Python word or a
built-in, an underscore follows it.
"""

from __future__ import annotations

from attacks.calls.operand import Fd, Num, Ptr
from attacks.recorder import Recorder, Result


class Network(Recorder):
    """Calls on sockets."""

    def socket(self, domain: Num, type_: Num, protocol: Num) -> Result:
        return self.raw("socket", domain, type_, protocol)

    def socketpair(self, domain: Num, type_: Num, protocol: Num, sv: Ptr) -> Result:
        return self.raw("socketpair", domain, type_, protocol, sv)

    def bind(self, sockfd: Fd, addr: Ptr, addrlen: Num) -> Result:
        return self.raw("bind", sockfd, addr, addrlen)

    def listen(self, sockfd: Fd, backlog: Num) -> Result:
        return self.raw("listen", sockfd, backlog)

    def accept(self, sockfd: Fd, addr: Ptr, addrlen: Ptr) -> Result:
        return self.raw("accept", sockfd, addr, addrlen)

    def accept4(self, sockfd: Fd, addr: Ptr, addrlen: Ptr, flags: Num) -> Result:
        return self.raw("accept4", sockfd, addr, addrlen, flags)

    def connect(self, sockfd: Fd, addr: Ptr, addrlen: Num) -> Result:
        return self.raw("connect", sockfd, addr, addrlen)

    def sendto(
        self, sockfd: Fd, buf: Ptr, len_: Num, flags: Num, dest_addr: Ptr, addrlen: Num
    ) -> Result:
        return self.raw("sendto", sockfd, buf, len_, flags, dest_addr, addrlen)

    def sendmsg(self, sockfd: Fd, msg: Ptr, flags: Num) -> Result:
        return self.raw("sendmsg", sockfd, msg, flags)

    def sendmmsg(self, sockfd: Fd, msgvec: Ptr, vlen: Num, flags: Num) -> Result:
        return self.raw("sendmmsg", sockfd, msgvec, vlen, flags)

    def recvfrom(
        self, sockfd: Fd, buf: Ptr, len_: Num, flags: Num, src_addr: Ptr, addrlen: Ptr
    ) -> Result:
        return self.raw("recvfrom", sockfd, buf, len_, flags, src_addr, addrlen)

    def recvmsg(self, sockfd: Fd, msg: Ptr, flags: Num) -> Result:
        return self.raw("recvmsg", sockfd, msg, flags)

    def recvmmsg(self, sockfd: Fd, msgvec: Ptr, vlen: Num, flags: Num, timeout: Ptr) -> Result:
        return self.raw("recvmmsg", sockfd, msgvec, vlen, flags, timeout)

    def getsockname(self, sockfd: Fd, addr: Ptr, addrlen: Ptr) -> Result:
        return self.raw("getsockname", sockfd, addr, addrlen)

    def getsockopt(self, sockfd: Fd, level: Num, optname: Num, optval: Ptr, optlen: Ptr) -> Result:
        return self.raw("getsockopt", sockfd, level, optname, optval, optlen)

    def setsockopt(self, sockfd: Fd, level: Num, optname: Num, optval: Ptr, optlen: Num) -> Result:
        return self.raw("setsockopt", sockfd, level, optname, optval, optlen)

    def shutdown(self, sockfd: Fd, how: Num) -> Result:
        return self.raw("shutdown", sockfd, how)

    def socketcall(self, call: Num, args: Ptr) -> Result:
        return self.raw("socketcall", call, args)
