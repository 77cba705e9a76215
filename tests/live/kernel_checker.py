"""Asks the kernel whether it would take programs as seccomp filters; run as a process of its own.

From stdin, again and again: how many instructions, and the instructions.  To stdout, for each: an
errno, 0 where the program is taken.  None is ever in force: each is to be loaded with a listener,
for which there is no descriptor left, and that is looked at after the program was checked.
"""

import ctypes
import errno
import resource
import struct
import sys

_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER = 317, 1, 8
_PR_SET_NO_NEW_PRIVS = 38
_COUNT = struct.Struct("<I")


class SockFprog(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    while head := questions.read(_COUNT.size):
        (length,) = _COUNT.unpack(head)
        program = SockFprog(length, questions.read(length * 8))
        done = libc.syscall(_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(program))
        assert done == -1
        error = ctypes.get_errno()
        answers.write(_COUNT.pack(0 if error == errno.EMFILE else error))
        answers.flush()


if __name__ == "__main__":
    main()
