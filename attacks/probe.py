"""The probe program: a tiny static ELF that is recognised from outside and makes no system call.

It spins.  Its code does not depend on where it lies and starts at a page boundary of the file, so
that a variant may also map the file and jump into it.  ``PROBE_MAGIC`` is in the first page, where
the judge finds it through /proc/PID/exe even if the program never had a name (a memfd).
"""

from __future__ import annotations

import struct

PROBE_MAGIC = b"sidestep-probe:1"
TRAP_CODE = b"\xcc" + PROBE_MAGIC
"""int3, and the magic by which the judge knows whose trap it was; in 32-bit and 64-bit code."""
CODE_OFFSET = 4096
"""Where the code starts in the file."""

# 1: pause; jmp 1b -- the same bytes in 32-bit and 64-bit code.
_CODE = b"\xf3\x90\xeb\xfc"
_BASE = 0x400000
_SIZE = CODE_OFFSET + len(_CODE)
_PAGE = 4096
_EXECUTABLE, _EM_386, _EM_X86_64 = 2, 3, 62
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _READ, _READ_EXECUTE = 1, 2, 3, 4, 5
_LOADER = b"/lib64/ld-linux-x86-64.so.2\0"
_LOADER_OFFSET, _DYNAMIC_OFFSET, _TABLES_OFFSET = 1024, 2048, 3072
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT = 4, 5, 6, 10, 11


def probe_elf(bits: int) -> bytes:
    """The probe as a static ELF file for 64-bit or 32-bit x86."""
    return _file(_head64(()) if bits == 64 else _head32())


def dynamic_probe_elf() -> bytes:
    """The 64-bit probe as a dynamic program without libraries.

    The dynamic loader, called with a program, maps a dynamic one and executes a static one anew.
    """
    # No symbol but the empty one: strings, symbols and hash table are zeros that may overlap,
    # except for the hash table's two sizes.
    tables = _BASE + _TABLES_OFFSET
    entries = {
        _DT_HASH: tables,
        _DT_STRTAB: tables + 64,
        _DT_SYMTAB: tables + 64,
        _DT_STRSZ: 1,
        _DT_SYMENT: 24,
    }
    section = b"".join(struct.pack("<QQ", *entry) for entry in entries.items()) + bytes(16)
    pieces = {
        _LOADER_OFFSET: _LOADER,
        _DYNAMIC_OFFSET: section,
        _TABLES_OFFSET: struct.pack("<II", 1, 1),
    }
    interpreter = _segment64(_PT_INTERP, _READ, _LOADER_OFFSET, len(_LOADER))
    dynamic = _segment64(_PT_DYNAMIC, _READ, _DYNAMIC_OFFSET, len(section))
    image = bytearray(_file(_head64((interpreter, dynamic))))
    for offset, piece in pieces.items():
        image[offset : offset + len(piece)] = piece
    return bytes(image)


def _file(head: bytes) -> bytes:
    return (head + PROBE_MAGIC).ljust(CODE_OFFSET, b"\0") + _CODE


def _identity(elf_class: int) -> bytes:
    return b"\x7fELF" + bytes((elf_class, 1, 1)) + bytes(9)


def _segment64(kind: int, flags: int, offset: int, size: int) -> bytes:
    address = _BASE + offset
    return struct.pack("<IIQQQQQQ", kind, flags, offset, address, address, size, size, _PAGE)


def _head64(more: tuple[bytes, ...]) -> bytes:
    count = 1 + len(more)
    header = (_EXECUTABLE, _EM_X86_64, 1, _BASE + CODE_OFFSET, 64, 0, 0, 64, 56, count, 0, 0, 0)
    load = _segment64(_PT_LOAD, _READ_EXECUTE, 0, _SIZE)
    # The kernel wants PT_INTERP before what is loaded.
    return _identity(2) + struct.pack("<HHIQQQIHHHHHH", *header) + b"".join((*more, load))


def _head32() -> bytes:
    header = (_EXECUTABLE, _EM_386, 1, _BASE + CODE_OFFSET, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    load = (_PT_LOAD, 0, _BASE, _BASE, _SIZE, _SIZE, _READ_EXECUTE, _PAGE)
    return _identity(1) + struct.pack("<HHIIIIIHHHHHH", *header) + struct.pack("<IIIIIIII", *load)
