"""The probe program: a tiny static ELF that is recognised from outside and makes no system call.

It spins.  Its code does not depend on where it lies and starts at a page boundary of the file, so
that a variant may also map the file and jump into it.  ``PROBE_MAGIC`` is in the file, where the
judge finds it through /proc/PID/exe even if the program never had a name (a memfd).
"""

from __future__ import annotations

import struct

PROBE_MAGIC = b"\x00sidestep-probe\x00"
CODE_OFFSET = 4096
"""Where the code starts in the file."""

# 1: pause; jmp 1b -- the same bytes in 32-bit and 64-bit code.
_CODE = b"\xf3\x90\xeb\xfc"
_BASE = 0x400000
_EXECUTABLE, _PT_LOAD, _READ_EXECUTE = 2, 1, 5
_EM_386, _EM_X86_64 = 3, 62


def probe_elf(bits: int) -> bytes:
    """The probe as an ELF file for 64-bit or 32-bit x86."""
    code = _CODE.ljust(16, b"\x90") + PROBE_MAGIC
    size = CODE_OFFSET + len(code)
    ident = b"\x7fELF" + bytes((2 if bits == 64 else 1, 1, 1)) + bytes(9)
    entry = _BASE + CODE_OFFSET
    if bits == 64:
        header = struct.pack(
            "<HHIQQQIHHHHHH", _EXECUTABLE, _EM_X86_64, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0
        )
        segment = struct.pack(
            "<IIQQQQQQ", _PT_LOAD, _READ_EXECUTE, 0, _BASE, _BASE, size, size, 4096
        )
    else:
        header = struct.pack(
            "<HHIIIIIHHHHHH", _EXECUTABLE, _EM_386, 1, entry, 52, 0, 0, 52, 32, 1, 0, 0, 0
        )
        segment = struct.pack(
            "<IIIIIIII", _PT_LOAD, 0, _BASE, _BASE, size, size, _READ_EXECUTE, 4096
        )
    return (ident + header + segment).ljust(CODE_OFFSET, b"\0") + code
