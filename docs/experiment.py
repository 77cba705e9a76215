"""Plain system calls for the experiments of claims.py: independent of the tool, x86-64 only."""

import ctypes
import errno
import os
import resource
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)

# Numbers of the x86-64 table.
MKDIR, RMDIR, SYMLINK, LINK, MKNOD, MKDIRAT, OPENAT, GETDENTS64 = 83, 84, 88, 86, 133, 258, 257, 217
EXECVE, EXECVEAT, FORK, VFORK, MOUNT, SECCOMP, PRCTL, GETPPID = 59, 322, 57, 58, 165, 317, 157, 110
OPENAT2, CAPSET = 437, 126

# Answers of a filter.
ALLOW, LOG, ERRNO = 0x7FFF0000, 0x7FFC0000, 0x00050000
TRACE, USER_NOTIF, TRAP = 0x7FF00000, 0x7FC00000, 0x00030000
KILL_PROCESS, KILL_THREAD = 0x80000000, 0x00000000

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
SET_MODE_STRICT, SET_MODE_FILTER, GET_ACTION_AVAIL = 0, 1, 2
FLAG_TSYNC = 1
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
AT_FDCWD = -100

OK = "works"


def call(number: int, *arguments: int | bytes) -> str:
    """`works`, or the name of the error."""
    words = [ctypes.c_char_p(a) if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments]
    result = LIBC.syscall(ctypes.c_long(number), *words)
    return OK if result >= 0 else errno.errorcode[ctypes.get_errno()]


def instruction(code: int, k: int, jt: int = 0, jf: int = 0) -> bytes:
    return struct.pack("<HBBI", code, jt, jf, k)


def load(offset: int) -> bytes:
    return instruction(0x20, offset)


def answer(action: int) -> bytes:
    return instruction(0x06, action)


def denying(*numbers: int, action: int = ERRNO | errno.EPERM) -> bytes:
    """A filter that answers these numbers so and allows the rest. Only native calls are made."""
    checks = (instruction(0x15, n, 0, 1) + answer(action) for n in numbers)
    return load(0) + b"".join(checks) + answer(ALLOW)


def allowing(*numbers: int) -> bytes:
    """A filter that allows these numbers, and what a child needs to say its answer and end."""
    needed = (1, 9, 11, 12, 60, 202, 231)  # write, mmap, munmap, brk, exit, futex, exit_group
    checks = (instruction(0x15, n, 0, 1) + answer(ALLOW) for n in (*numbers, *needed))
    return load(0) + b"".join(checks) + answer(ERRNO | errno.EPERM)


def denying_argument(number: int, index: int, mask: int, value: int) -> bytes:
    """Denies the call where the low word of that argument, under the mask, equals the value."""
    return b"".join(
        [
            load(0),
            instruction(0x15, number, 0, 4),
            load(16 + 8 * index),
            instruction(0x54, mask),
            instruction(0x15, value, 0, 1),
            answer(ERRNO | errno.EPERM),
            answer(ALLOW),
        ]
    )


BLOCK_MKDIR = denying(MKDIR, MKDIRAT)


class Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(program: bytes, flags: int = 0) -> str:
    block = Program(len(program) // 8, program)
    return call(SECCOMP, SET_MODE_FILTER, flags, ctypes.addressof(block))


def install_with_prctl(program: bytes) -> str:
    block = Program(len(program) // 8, program)
    return call(PRCTL, PR_SET_SECCOMP, 2, ctypes.addressof(block), 0, 0)


def set_no_new_privs() -> None:
    require(call(PRCTL, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def confine(program: bytes) -> None:
    set_no_new_privs()
    require(install(program))


def drop_capabilities() -> None:
    header = ctypes.create_string_buffer(struct.pack("<Ii", 0x20080522, 0))
    empty = ctypes.create_string_buffer(24)
    require(call(CAPSET, ctypes.addressof(header), ctypes.addressof(empty)))


def enter_user_namespace(flags: int = 0) -> None:
    """All capabilities, in a namespace of its own: for root and an ordinary user alike."""
    uid = os.geteuid()
    if LIBC.unshare(CLONE_NEWUSER | flags):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1\n")


def require(result: str) -> None:
    if result != OK:
        raise OSError(getattr(errno, result), result)


def status(field: str, of: str = "self") -> str:
    lines = Path(f"/proc/{of}/status").read_text().splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.startswith(field + ":"))


def in_child(body: Callable[[], str]) -> str:
    """What the body answers in a child, in an empty directory; and the signal that ended it."""
    with tempfile.TemporaryDirectory() as directory:
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            run_child(body, directory, write_end)
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            text = pipe.read()
        _, code = os.waitpid(pid, 0)
    if os.WIFSIGNALED(code):
        return f"{text}, killed by {signal.Signals(os.WTERMSIG(code)).name}".removeprefix(", ")
    return text


def run_child(body: Callable[[], str], directory: str, write_end: int) -> None:
    try:
        os.chdir(directory)
        os.dup2(write_end, 9)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        text = body()
    except OSError as error:
        text = f"the experiment failed: {error}"
    os.write(9, text.encode())
    os._exit(0)


def say(text: str) -> None:
    """A part of the answer, said before the rest may be cut short."""
    os.write(9, text.encode())


def seen_from_outside(body: Callable[[], str], field: str) -> str:
    """What the child says, and what its status shows to its parent while it goes on living."""
    with tempfile.TemporaryDirectory() as directory:
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.chdir(directory)
            os.write(write_end, body().encode())
            while True:  # without a system call: strict mode allows no sleep
                pass
        text = os.read(read_end, 1000).decode()
        value = status(field, str(pid))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read_end)
        os.close(write_end)
    return f"{text}, {field} {value} seen from outside"


def run(argv: Sequence[str], program: bytes | None) -> str:
    """Exit status, output and errors of a program that starts under the filter."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "present").touch()
        done = subprocess.run(
            argv,
            cwd=directory,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            capture_output=True,
            text=True,
            preexec_fn=(lambda: confine(program)) if program else None,
            check=False,
        )
        made = [f"{name} exists" for name in names(directory) if name != "present"]
    message = done.stderr.strip().rpartition(": ")[2] or done.stdout.strip()
    parts = [f"exit {done.returncode}", message and f'"{message}"', *made]
    return ", ".join(part for part in parts if part)


def names(directory: str) -> list[str]:
    return sorted(path.name for path in Path(directory).iterdir())


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True
