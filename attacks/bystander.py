"""The victim as somebody who goes about its business while the attack looks on.

It is not made to do anything for the attack: it opens a file whose name is the secret, at a time
that suits the attack.  The name is only in its private memory, so a program that finds it was told
of it by the kernel.
"""

from __future__ import annotations

from attacks.calls.operand import Fd
from attacks.consts import O_CREAT, O_DIRECTORY, O_PATH, O_RDWR, Named
from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.recorder import Buffer, Result

FUTEX_WAIT = Named(0, "FUTEX_WAIT")
_LONG_US = 2_000_000
_MOMENT_NS, _LOOKS = 500_000, 20


def opens_secret_file(k: Kernel, directory: Buffer) -> Result:
    """The victim opens the file of that name, making it if need be, and keeps it open."""
    here = k.victim.open(directory, O_PATH | O_DIRECTORY)
    return _open(k, here)


def opens_it_later(k: Kernel, directory: Buffer) -> Buffer:
    """The same, as soon as the word that is returned is no longer zero; see ``begin``."""
    go = k.buffer(8, name="go")
    here = k.victim.open(directory, O_PATH | O_DIRECTORY)
    with k.victim.child(k.victim.thread()):
        _await(k, go)
        _open(k, here)
    return go


def opens_it_later_in_subject(k: Kernel, directory: str) -> Buffer:
    """The same, but of the directory that the subject has at that path, in its own mounts."""
    go = k.buffer(8, name="go")
    with k.victim.child(k.victim.thread()):
        _await(k, go)
        path = k.victim.proc_pid(k.env(Environment.SUBJECT_PID), f"/root{directory}")
        _open(k, k.victim.open(path, O_PATH | O_DIRECTORY))
    return go


def begin(k: Kernel, go: Buffer) -> None:
    """What the victim does later, it does now."""
    k.store(go, 0, 4, 1)


def _await(k: Kernel, go: Buffer) -> None:
    """Looks now and then, each time asleep for a while: spinning would take the attack's core."""
    moment = k.struct("QQ", 0, _MOMENT_NS, name="moment")
    for _ in range(_LOOKS):
        k.victim.raw("futex", go, FUTEX_WAIT, 0, moment).may_fail()
    k.victim.wait(go, bound_us=_LONG_US)


def _open(k: Kernel, here: Fd) -> Result:
    return k.victim.openat(here, k.env(Environment.SECRET), O_CREAT | O_RDWR, 0o600)
