"""Create a process."""

from attacks.consts import (
    CLONE_CLEAR_SIGHAND,
    CLONE_FILES,
    CLONE_FS,
    CLONE_PARENT,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_UNTRACED,
    CLONE_VFORK,
    CLONE_VM,
    NULL,
    SIGCHLD,
    Named,
)
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Technique
from attacks.kernel import Kernel
from attacks.recorder import Arg, Buffer, Result

CLONE_PIDFD = Named(0x1000, "CLONE_PIDFD")
_ALIVE_US = 200_000

FAMILY = Family(
    "create-process",
    title="Create a process",
    group="processes",
    effect=lambda _: Effect(EffectKind.PROCESS),
    has_target=False,
    unrecorded={"clone3 with CLONE_INTO_CGROUP": "needs a delegated tree of control groups"},
)


def _stay(k: Kernel, created: Result) -> None:
    """The new process stays, without a call of its own, until it has been seen."""
    created.decisive()
    never = k.buffer(4, name="never")
    with k.child(created):
        k.wait(never, bound_us=_ALIVE_US)


def _clone_args(k: Kernel, *, flags: int = 0, pidfd: Arg = 0, size: int = 64) -> Buffer:
    """``struct clone_args``; the exit signal is SIGCHLD."""
    rest = (size - 40) // 8
    return k.struct("Q" * (size // 8), flags, pidfd, 0, 0, SIGCHLD, *[0] * rest, name="clone_args")


@FAMILY.variant(Technique.BASELINE)
def fork(k: Kernel) -> None:
    """The call that the author of the policy has in mind; C libraries have long used clone."""
    _stay(k, k.fork())


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def vfork(k: Kernel) -> None:
    """An old sibling that lists of denied calls leave out."""
    _stay(k, k.vfork())


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def clone_sigchld(k: Kernel) -> None:
    """What fork(3) really calls."""
    _stay(k, k.clone(SIGCHLD))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def clone_noflags(k: Kernel) -> None:
    """No flags and no exit signal: rules that look for SIGCHLD do not see a fork in it."""
    _stay(k, k.clone(0))


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def clone_wide_flags(k: Kernel) -> None:
    """The kernel drops the upper half of the flags, a 64-bit comparison does not."""
    _stay(k, k.clone(k.wide(SIGCHLD)))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def clone_parent(k: Kernel) -> None:
    """The new process is a sibling, not a child: nothing that counts children sees it."""
    _stay(k, k.clone(CLONE_PARENT | SIGCHLD))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def clone_vm_vfork(k: Kernel) -> None:
    """What posix_spawn(3) calls: rules that let threads through by CLONE_VM let it through."""
    _stay(k, k.clone(CLONE_VM | CLONE_VFORK | SIGCHLD))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def clone_vm(k: Kernel) -> None:
    """A process that shares the memory, as a thread does: CLONE_VM alone does not make a thread."""
    _stay(k, k.clone(CLONE_VM | SIGCHLD, k.stack()))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def clone_files_fs(k: Kernel) -> None:
    """Shares descriptors and working directory, as a thread does, and is a process all the same."""
    _stay(k, k.clone(CLONE_FILES | CLONE_FS | SIGCHLD))


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def clone_untraced(k: Kernel) -> None:
    """A tracer that follows forks is not told of this one."""
    _stay(k, k.clone(CLONE_UNTRACED | SIGCHLD))


@FAMILY.variant(Technique.NEWER_SYSCALL)
def clone3(k: Kernel) -> None:
    """The flags are behind a pointer, where no filter can look."""
    _stay(k, k.clone3(_clone_args(k), 64))


@FAMILY.variant(Technique.NEWER_SYSCALL)
def clone3_v2_size(k: Kernel) -> None:
    """The size of today's structure: a rule that knows only the first size does not match."""
    _stay(k, k.clone3(_clone_args(k, size=88), 88))


@FAMILY.variant(Technique.NEWER_SYSCALL)
def clone3_pidfd(k: Kernel) -> None:
    """Asks for a pidfd as well; all of it is behind the pointer."""
    pidfd = k.buffer(4, name="pidfd")
    _stay(k, k.clone3(_clone_args(k, flags=CLONE_PIDFD, pidfd=pidfd), 64))


@FAMILY.variant(Technique.NEWER_SYSCALL)
def clone3_clear_sighand(k: Kernel) -> None:
    """A flag above the 32 that clone has."""
    _stay(k, k.clone3(_clone_args(k, flags=CLONE_CLEAR_SIGHAND), 64))


@FAMILY.variant(Technique.COMPAT_ABI)
def i386_fork(k: Kernel) -> None:
    """Fork has another number in the 32-bit table."""
    _stay(k, k.i386.fork())


@FAMILY.variant(Technique.COMPAT_ABI)
def i386_vfork(k: Kernel) -> None:
    """Vfork has another number in the 32-bit table."""
    _stay(k, k.i386.vfork())


@FAMILY.variant(Technique.COMPAT_ABI)
def i386_clone(k: Kernel) -> None:
    """The 32-bit clone: rules on the flags of the 64-bit one do not cover it."""
    _stay(k, k.i386.clone(SIGCHLD))


@FAMILY.variant(Technique.COMPAT_ABI)
def i386_clone3(k: Kernel) -> None:
    """The same number in both tables, under another architecture word."""
    _stay(k, k.i386.clone3(_clone_args(k), 64))


@FAMILY.variant(Technique.X32_ABI)
def x32_fork(k: Kernel) -> None:
    """The same architecture word with bit 30 of the number set."""
    _stay(k, k.x32.fork())


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def thread_negative(k: Kernel) -> None:
    """A thread is no process: the oracle must not count it."""
    thread = k.clone(
        CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD, k.stack(), NULL
    )
    _stay(k, thread)
