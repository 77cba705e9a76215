"""Calls on memory.

Each method has the name and the arguments of the man page; where a name is a Python word or a
built-in, an underscore follows it.
"""

from __future__ import annotations

from attacks.calls.operand import Fd, Num, Ptr
from attacks.consts import NULL
from attacks.recorder import Recorder, Result


class Memory(Recorder):
    """Calls on memory."""

    def brk(self, addr: Ptr) -> Result:
        return self.raw("brk", addr)

    def mmap(self, addr: Ptr, length: Num, prot: Num, flags: Num, fd: Fd, offset: Num) -> Result:
        return self.raw("mmap", addr, length, prot, flags, fd, offset)

    def munmap(self, addr: Ptr, length: Num) -> Result:
        return self.raw("munmap", addr, length)

    def mprotect(self, addr: Ptr, length: Num, prot: Num) -> Result:
        return self.raw("mprotect", addr, length, prot)

    def pkey_mprotect(self, addr: Ptr, length: Num, prot: Num, pkey: Num) -> Result:
        return self.raw("pkey_mprotect", addr, length, prot, pkey)

    def mremap(
        self, old_address: Ptr, old_size: Num, new_size: Num, flags: Num, new_address: Ptr = NULL
    ) -> Result:
        return self.raw("mremap", old_address, old_size, new_size, flags, new_address)

    def madvise(self, addr: Ptr, length: Num, advice: Num) -> Result:
        return self.raw("madvise", addr, length, advice)

    def mlock(self, addr: Ptr, length: Num) -> Result:
        return self.raw("mlock", addr, length)

    def mlock2(self, addr: Ptr, length: Num, flags: Num) -> Result:
        return self.raw("mlock2", addr, length, flags)

    def mlockall(self, flags: Num) -> Result:
        return self.raw("mlockall", flags)

    def memfd_create(self, name: Ptr, flags: Num) -> Result:
        return self.raw("memfd_create", name, flags)

    def memfd_secret(self, flags: Num) -> Result:
        return self.raw("memfd_secret", flags)

    def userfaultfd(self, flags: Num) -> Result:
        return self.raw("userfaultfd", flags)

    def getrandom(self, buf: Ptr, buflen: Num, flags: Num) -> Result:
        return self.raw("getrandom", buf, buflen, flags)
