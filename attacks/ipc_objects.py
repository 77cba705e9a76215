"""What the families of IPC objects share: System V's tables, and queues with a name.

Each trial has a new IPC namespace, where nothing was before.  The witness is in it.
"""

from __future__ import annotations

from attacks import witness
from attacks.consts import AT_FDCWD, FSCONFIG_CMD_CREATE, NULL, O_PATH, Named
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result

IPC_PRIVATE = Named(0, "IPC_PRIVATE")
IPC_CREAT = Named(0o1000, "IPC_CREAT")
IPC_EXCL = Named(0o2000, "IPC_EXCL")
CREATE = IPC_CREAT | 0o600
KEY = Named(0x51DE, "0x51de")

# Sub-calls of ipc(2), the multiplexer of the 32-bit table.
SEMGET = Named(2, "SEMGET")
MSGGET = Named(13, "MSGGET")
SHMGET = Named(23, "SHMGET")

QUEUE = "queue"
"""The name of a POSIX queue; the call takes it without a slash."""


def versioned(call: Named) -> Named:
    """A sub-call of ipc(2) with something in the upper half, where old C libraries had a version.

    The kernel looks at the lower half only.
    """
    return Named(int(call) | 1 << 16, f"1<<16|{call.text}")


def table_changes(w: Kernel, name: str) -> None:
    """The whole of a witness that asks whether ``/proc/sysvipc/name`` has changed."""
    path = w.text(f"/proc/sysvipc/{name}")
    before = witness.content(w.setup, path)
    witness.differ(w, before, witness.content(w, path))


def queue_appears(w: Kernel, name: str = QUEUE) -> None:
    """The whole of a witness that asks whether the namespace has a POSIX queue of that name."""
    queues = detached_queues(w.setup)
    w.close(w.openat(queues, w.text(name), O_PATH))


def detached_queues(k: Kernel) -> Result:
    """The file system of the namespace's POSIX queues, mounted nowhere."""
    return detached(k, "mqueue")


def detached(k: Kernel, name: str) -> Result:
    """A descriptor of a new mount of that type which is in no directory."""
    context = k.fsopen(k.text(name), 0)
    k.fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0)
    return k.fsmount(context, 0, 0)


def mounted_queues(k: Kernel) -> Buffer:
    """The same file system in a directory of the working directory."""
    where, kind = k.relative("mq"), k.text("mqueue")
    k.raw("mkdirat", AT_FDCWD, where, 0o755)
    k.mount(kind, where, kind, 0, NULL)
    return where
