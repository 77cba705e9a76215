"""The recorder that a recipe gets: the system calls, the other tables, the other sections.

``k.mkdirat(dirfd, path, mode)`` records the call and returns a handle on its result.  ``k.i386``
and ``k.x32`` record the same calls through another table; ``k.setup`` and ``k.victim`` record into
the other sections.  Calls that a table lacks fail when the program is encoded, not here.
"""

from __future__ import annotations

from attacks.calls.files import Files
from attacks.calls.memory import Memory
from attacks.calls.network import Network
from attacks.calls.processes import Processes
from attacks.calls.system import System
from attacks.consts import (
    CLONE_FILES,
    CLONE_FS,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VM,
)
from attacks.program import Abi, Entry
from attacks.recorder import Result, Section
from attacks.ring import Ring


class Kernel(Files, Processes, Network, Memory, System):
    """Records the calls of one variant."""

    @property
    def setup(self) -> Kernel:
        """What happens in the subject before the candidate's layers are put on."""
        return Kernel(self.recording, Section.SETUP, self._abi, self._entry)

    @property
    def victim(self) -> Kernel:
        """What the victim does, unfiltered, before the attack."""
        return Kernel(self.recording, Section.VICTIM, self._abi, self._entry)

    @property
    def i386(self) -> Kernel:
        """The 32-bit table, through ``int 0x80``."""
        return self.through(Abi.I386, Entry.INT80)

    @property
    def i386_sysenter(self) -> Kernel:
        """The 32-bit table through ``sysenter``: the call is made, then the task dies."""
        return self.through(Abi.I386, Entry.SYSENTER)

    @property
    def i386_far(self) -> Kernel:
        """The 32-bit table from a 32-bit code segment."""
        return self.through(Abi.I386, Entry.FAR_INT80)

    @property
    def x32(self) -> Kernel:
        return self.through(Abi.X32, Entry.SYSCALL)

    @property
    def wide_number(self) -> Kernel:
        """Garbage above the call's number: the kernel drops it before the filter sees it."""
        return self.through(Abi.X86_64, Entry.WIDE_SYSCALL)

    def thread(self) -> Result:
        """A thread of the subject, on a stack of its own; a body says what it does."""
        flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
        return self.clone(flags, self.stack())

    def ring(self, *, sqpoll: bool = False, mapped: bool = True) -> Ring:
        """A new io_uring; see ``Ring``.  On another ABI only the ring's own calls go through it."""
        native = self.through(Abi.X86_64, Entry.SYSCALL)
        return Ring.make(native, self, sqpoll=sqpoll, mapped=mapped)

    def woken_ring(self) -> Ring:
        """A ring whose kernel thread another ring wakes; see ``Ring.woken``."""
        return Ring.woken(self)

    def through(self, abi: Abi, entry: Entry) -> Kernel:
        """The same section through another table or entry."""
        return Kernel(self.recording, self._section, abi, entry)
