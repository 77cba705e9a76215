"""Create a thread: the subject's process has one task more than before.

Threads of the kernel that work for a ring are tasks of the process that owns it.
"""

from attacks import kernel_state
from attacks.consts import (
    CLONE_FILES,
    CLONE_FS,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VM,
    IORING_SETUP_SQPOLL,
    IOSQE_ASYNC,
    SIGCHLD,
    Named,
)
from attacks.effects import Effect, EffectKind
from attacks.family import Assumption, Family, Need, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result

FAMILY = Family(
    "create-thread",
    title="Create a thread",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    stays=True,
    group="execution and memory",
)
SMALLEST = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD
USUAL = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
CLONE_DETACHED = Named(0x400000, "CLONE_DETACHED")
CSIGNAL = Named(0xFF, "CSIGNAL")
CLONE_ARGS_SIZE = 88
STACK_SIZE = 4096
LIFE_US = 200_000
PARAMS_SIZE = 120


@FAMILY.witness
def one_task_more(w: Kernel) -> None:
    kernel_state.status_changes(w, "Threads", 2)


@FAMILY.variant(Technique.BASELINE)
def clone(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    _lives(k, k.thread().decisive())


@FAMILY.variant(Technique.NEWER_SYSCALL)
def clone3(k: Kernel) -> None:
    """The flags are behind a pointer, where no filter can look."""
    _lives(k, k.clone3(_arguments(k), CLONE_ARGS_SIZE).decisive())


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def clone_smallest(k: Kernel) -> None:
    """Three flags are enough: a rule that knows the flags of pthread_create(3) does not match."""
    _lives(k, k.clone(SMALLEST, k.stack()).decisive())


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def clone_detached(k: Kernel) -> None:
    """An old flag is ignored today, and makes the flags compare unequal."""
    _lives(k, k.clone(USUAL | CLONE_DETACHED, k.stack()).decisive())


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def clone_signal_bits(k: Kernel) -> None:
    """A thread sends no signal when it ends, so the lowest eight bits mean nothing."""
    _lives(k, k.clone(USUAL | CSIGNAL, k.stack()).decisive())


@FAMILY.variant(Technique.COMPAT_ABI)
def clone_i386(k: Kernel) -> None:
    """The 32-bit table has another number: rules on the flags of the 64-bit one do not cover it."""
    _lives(k, k.i386.clone(USUAL, k.stack()).decisive())


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_worker(k: Kernel) -> None:
    """An operation that may block gets a thread of the process, without clone."""
    k.ring().asynchronous(IOSQE_ASYNC).nop().decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.NO_MMAP,))
def io_uring_no_mmap_worker(k: Kernel) -> None:
    """The ring lies in memory of the program, for rules on mmap of a ring's descriptor."""
    k.ring(mapped=False).asynchronous(IOSQE_ASYNC).nop().decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL,))
def io_uring_poller(k: Kernel) -> None:
    """A ring that polls has a thread of its own from the start: io_uring_setup makes it."""
    params = k.buffer(PARAMS_SIZE, name="params")
    k.store(params, 8, 4, IORING_SETUP_SQPOLL)
    k.io_uring_setup(4, params).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def io_uring_inherited_worker(k: Kernel) -> None:
    """A ring from before the filter: only io_uring_enter is left for the filter to see."""
    k.setup.ring().by(k).asynchronous(IOSQE_ASYNC).nop().decisive()


# Controls that must not make a thread


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def clone_vm_process(k: Kernel) -> None:
    """What shares the memory and not CLONE_THREAD is a process of its own."""
    _lives(k, k.clone(CLONE_VM | SIGCHLD, k.stack()).decisive())


@FAMILY.variant(Technique.ASYNC_KERNEL, negative=True)
def io_uring_nop(k: Kernel) -> None:
    """An operation that does not block is done in the call: a ring alone has no thread."""
    k.ring().nop().decisive()


def _lives(k: Kernel, created: Result) -> None:
    with k.child(created):
        k.wait(k.buffer(4, name="never"), bound_us=LIFE_US)


def _arguments(k: Kernel) -> Buffer:
    """``struct clone_args``: flags, five words that are not used, the stack and its size."""
    stack = k.buffer(STACK_SIZE, align=16, name="stack")
    rest = (0, 0, 0, 0, stack, STACK_SIZE, 0, 0, 0, 0)
    return k.struct("Q" * 11, USUAL, *rest, name="cl_args")
