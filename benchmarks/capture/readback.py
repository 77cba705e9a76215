"""Reads the seccomp programs of a live process out of the kernel (PTRACE_SECCOMP_GET_FILTER)."""

from __future__ import annotations

import ctypes
import errno
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SEIZE = 0x4206
_INTERRUPT = 0x4207
_DETACH = 17
_GET_FILTER = 0x420C
_WALL = 0x40000000
_DYING_S = 2.0
_INSTRUCTION = 8  # struct sock_filter

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.restype = ctypes.c_long
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def read_filters(pid: int) -> list[bytes]:
    """Every program in force in the process, oldest first, as packed struct sock_filter."""
    programs: list[bytes] = []
    with _stopped(pid):
        while (program := _program(pid, len(programs))) is not None:
            programs.append(program)
    return programs


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    _ptrace(_SEIZE, pid, 0, None)
    try:
        _ptrace(_INTERRUPT, pid, 0, None)
        os.waitpid(pid, _WALL)
        yield
    finally:
        try:
            _ptrace(_DETACH, pid, 0, None)
        except ProcessLookupError:
            _bury(pid)


def _bury(pid: int) -> None:
    """A process that died while we traced it: its parent and its pid namespace wait for us."""
    deadline = time.monotonic() + _DYING_S
    with suppress(ChildProcessError):
        while time.monotonic() < deadline and os.waitpid(pid, _WALL | os.WNOHANG)[0] == 0:
            time.sleep(0.001)


def _program(pid: int, index: int) -> bytes | None:
    try:
        count = _ptrace(_GET_FILTER, pid, index, None)
    except OSError as error:
        # ENOENT: no filter with this index. EINVAL: the process has no filter at all.
        if error.errno in (errno.ENOENT, errno.EINVAL):
            return None
        raise
    buffer = ctypes.create_string_buffer(count * _INSTRUCTION)
    _ptrace(_GET_FILTER, pid, index, ctypes.addressof(buffer))
    return buffer.raw


def _ptrace(request: int, pid: int, address: int, data: int | None) -> int:
    result: int = _LIBC.ptrace(request, pid, address, data)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace({request:#x}, {pid}): {os.strerror(number)}")
    return result
