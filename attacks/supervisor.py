"""Being one's own supervisor: a filter that leaves the decision to somebody does not say to whom.

A filter that answers TRACE asks the tracer of the process, and anybody may trace his own child.  A
filter that answers USER_NOTIF asks a listener; of two that answer so, the kernel heeds the newest,
which the attacker installs himself.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from attacks.consts import (
    NULL,
    PR_SET_NO_NEW_PRIVS,
    PTRACE_CONT,
    PTRACE_SEIZE,
    PTRACE_TRACEME,
    SIGSTOP,
    WALL,
    Named,
)
from attacks.kernel import Kernel
from attacks.program import Environment

PTRACE_SETOPTIONS = Named(0x4200, "PTRACE_SETOPTIONS")
PTRACE_O_TRACESECCOMP = Named(0x80, "PTRACE_O_TRACESECCOMP")
SECCOMP_SET_MODE_FILTER = Named(1, "SECCOMP_SET_MODE_FILTER")
SECCOMP_FILTER_FLAG_NEW_LISTENER = Named(8, "SECCOMP_FILTER_FLAG_NEW_LISTENER")
SECCOMP_IOCTL_NOTIF_RECV = Named(0xC0502100, "SECCOMP_IOCTL_NOTIF_RECV")
SECCOMP_IOCTL_NOTIF_SEND = Named(0xC0182101, "SECCOMP_IOCTL_NOTIF_SEND")
SECCOMP_USER_NOTIF_FLAG_CONTINUE = Named(1, "SECCOMP_USER_NOTIF_FLAG_CONTINUE")
SECCOMP_RET_USER_NOTIF = 0x7FC00000
SECCOMP_RET_ALLOW = 0x7FFF0000

_LOAD_NUMBER, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NOTIFICATION_SIZE = 80
_LONG_US = 2_000_000


@contextmanager
def traced_child(k: Kernel, questions: int = 1) -> Generator[None]:
    """What is recorded meanwhile is done by a child that its parent traces and lets go on.

    ``questions``: how often the filter is going to ask.
    """
    child = k.fork()
    with k.child(child):
        k.ptrace(PTRACE_TRACEME, 0, NULL, NULL)
        k.kill(k.getpid(), SIGSTOP)
        yield
    k.wait4(child, NULL, WALL, NULL)
    k.ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_TRACESECCOMP)
    k.ptrace(PTRACE_CONT, child, NULL, NULL)
    k.wait4(child, NULL, WALL, NULL)
    for _ in range(questions):
        # It stopped to ask, or nobody asked and it has ended.
        k.ptrace(PTRACE_CONT, child, NULL, NULL).may_fail()
        k.wait4(child, NULL, WALL, NULL).may_fail()


def traced_by_child(k: Kernel) -> None:
    """From now on a child traces the process that made it, and lets it go on when it is asked."""
    ready = k.buffer(4, name="ready")
    pid = k.env(Environment.SUBJECT_PID)
    with k.child(k.fork()):
        k.ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACESECCOMP)
        k.store(ready, 0, 4, 1)
        k.wait4(pid, NULL, WALL, NULL)
        k.ptrace(PTRACE_CONT, pid, NULL, NULL)
    k.wait(ready, bound_us=_LONG_US)


def answered_by_child(k: Kernel, number: int) -> None:
    """From now on a child is told of one call of the process that made it, and lets it pass.

    The listener belongs to a filter that is newer than the one it gets around.
    """
    k.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    instructions = (
        (_LOAD_NUMBER, 0, 0, 0),
        (_JUMP_IF_EQUAL, 0, 1, number),
        (_RETURN, 0, 0, SECCOMP_RET_USER_NOTIF),
        (_RETURN, 0, 0, SECCOMP_RET_ALLOW),
    )
    fields = tuple(field for one in instructions for field in one)
    code = k.struct("HBBI" * len(instructions), *fields, name="filter")
    program = k.struct("HHIQ", len(instructions), 0, 0, code, name="fprog")
    listener = k.seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, program)
    asked = k.buffer(_NOTIFICATION_SIZE, name="notification")
    answer = k.struct("QQII", 0, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE, name="answer")
    with k.child(k.fork()):
        k.ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, asked)
        k.store(answer, 0, 8, k.load(asked))
        k.ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, answer)
