"""Kill another process of the same user: end it, by whatever signal, fault or limit."""

from attacks import kill_by_owner as by_owner
from attacks import neighbour, witness
from attacks.consts import (
    AT_FDCWD,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    CLONE_PARENT,
    MAP_SHARED,
    NULL,
    O_DIRECTORY,
    O_NOCTTY,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    PROT_READ,
    PTRACE_CONT,
    PTRACE_DETACH,
    PTRACE_INTERRUPT,
    PTRACE_SEIZE,
    SIGKILL,
    SIGSEGV,
    WALL,
    Named,
)
from attacks.deputy import STOLEN_FD
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Assumption, Family, Need, Technique
from attacks.kernel import Kernel
from attacks.kill_by_owner import F_SETOWN, socketpair
from attacks.program import Environment
from attacks.recorder import Buffer, Result

SIGINT = Named(2, "SIGINT")
SIGUSR1 = Named(10, "SIGUSR1")
SIGUSR2 = Named(12, "SIGUSR2")
SIGTERM = Named(15, "SIGTERM")
SIGRTMIN = Named(34, "SIGRTMIN")
SIG_IGN = 1
SI_QUEUE = -1
MSG_OOB = Named(1, "MSG_OOB")
PIDFD_THREAD = Named(0x80, "PIDFD_THREAD")
PIDFD_SIGNAL_THREAD = Named(1, "PIDFD_SIGNAL_THREAD")
PIDFD_SIGNAL_PROCESS_GROUP = Named(4, "PIDFD_SIGNAL_PROCESS_GROUP")
PTRACE_POKEUSER = Named(6, "PTRACE_POKEUSER")
PTRACE_KILL = Named(8, "PTRACE_KILL")
PTRACE_O_EXITKILL = Named(0x100000, "PTRACE_O_EXITKILL")
RIP = Named(128, "RIP")
RLIMIT_CPU = Named(0, "RLIMIT_CPU")
TIOCGPTPEER = Named(0x5441, "TIOCGPTPEER")
TIOCSPTLCK = Named(0x40045431, "TIOCSPTLCK")
TIOCSCTTY = Named(0x540E, "TIOCSCTTY")
TIOCSIG = Named(0x40045436, "TIOCSIG")
SIGINFO_SIZE = 128
FAULTING = b"\x0f\x0b" * 8
BUSY_US = 1_000_000
SHARED_FILE = Object(ObjectKind.FILE, "mapped", 0o644, b"something to read\n")
LEASED = Object(ObjectKind.FILE, "leased", 0o644, b"x")
WATCHED = Object(ObjectKind.DIRECTORY, "watched", 0o755)
PTY_PLACE = Object(ObjectKind.DIRECTORY, "pts", 0o755)
INHERITED = Assumption.INHERITED_DESCRIPTOR

FAMILY = Family(
    "kill-process",
    title="Kill another process",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    has_target=False,
    group="processes",
    attack_technique="T1489",
    unrecorded={
        "write '1' to cgroup.kill, or freeze by cgroup.freeze": "needs a delegated cgroup2 tree",
        "ioctl(pty, TIOCVHANGUP)": "needs CAP_SYS_ADMIN in the initial user namespace",
        "close the last master of the victim's terminal": "the end of the subject does it as well",
        "resize the victim's terminal (SIGWINCH)": "the signal does not end a process by default",
    },
)


@FAMILY.witness
def the_victim_is_dead(w: Kernel) -> None:
    witness.gone(w, witness.victim(w))


# The calls that send a signal


@FAMILY.variant(Technique.BASELINE)
def kill(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.kill(neighbour.pid(k), SIGKILL).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def kill_harmless_signal(k: Kernel) -> None:
    """A rule on SIGKILL and SIGTERM misses the twenty other signals that end a process."""
    k.kill(neighbour.pid(k), SIGUSR1).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def kill_realtime_signal(k: Kernel) -> None:
    """Signals above 31 end a process as well, and lists of signals stop at 31."""
    k.kill(neighbour.pid(k), SIGRTMIN).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def kill_group(k: Kernel) -> None:
    """The pid is negative: a group is killed, and the argument is nobody's pid."""
    k.kill(neighbour.own_group(k), SIGKILL).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def kill_own_group(k: Kernel) -> None:
    """Joins the victim's group and signals pid 0, which rules take for the caller itself."""
    k.victim.setpgid(0, 0)
    ignore = k.struct("QQQQ", SIG_IGN, 0, 0, 0, name="sigaction")
    k.rt_sigaction(SIGTERM, ignore, NULL, 8)
    k.setpgid(0, neighbour.pid(k))
    k.kill(0, SIGTERM).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def kill_everyone(k: Kernel) -> None:
    """Pid -1 is everybody: a rule that protects certain pids does not match it."""
    k.victim.getpid()
    k.kill(-1, SIGUSR1).decisive()


@FAMILY.variant(Technique.LEGACY_SYSCALL)
def tkill(k: Kernel) -> None:
    """Signals one thread; the signal ends the whole process all the same."""
    k.tkill(neighbour.pid(k), SIGKILL).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def tgkill(k: Kernel) -> None:
    """What pthread_kill and abort use, and so what few dare to forbid."""
    k.tgkill(neighbour.pid(k), neighbour.pid(k), SIGKILL).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def rt_sigqueueinfo(k: Kernel) -> None:
    """sigqueue(3) is another call than kill."""
    k.rt_sigqueueinfo(neighbour.pid(k), SIGTERM, _siginfo(k, SIGTERM)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def rt_tgsigqueueinfo(k: Kernel) -> None:
    """Sigqueue for a thread is yet another call."""
    pid = neighbour.pid(k)
    k.rt_tgsigqueueinfo(pid, pid, SIGTERM, _siginfo(k, SIGTERM)).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def rt_sigqueueinfo_i386(k: Kernel) -> None:
    """The 32-bit table has another number, and reads a smaller structure."""
    k.i386.rt_sigqueueinfo(neighbour.pid(k), SIGTERM, _siginfo(k, SIGTERM)).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def rt_tgsigqueueinfo_i386(k: Kernel) -> None:
    """The same for a thread, through the 32-bit table."""
    pid = neighbour.pid(k)
    k.i386.rt_tgsigqueueinfo(pid, pid, SIGTERM, _siginfo(k, SIGTERM)).decisive()


# By descriptor: no pid to look at


@FAMILY.variant(Technique.NEWER_SYSCALL)
def pidfd_send_signal(k: Kernel) -> None:
    """Since 5.3; the victim is a descriptor, and lists of signal calls are older."""
    pidfd = k.pidfd_open(neighbour.pid(k), 0)
    k.pidfd_send_signal(pidfd, SIGKILL, NULL, 0).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def pidfd_send_signal_thread(k: Kernel) -> None:
    """Since 6.9; a flag turns it into tgkill, so a rule that wants flags to be 0 misses it."""
    pidfd = k.pidfd_open(neighbour.pid(k), PIDFD_THREAD)
    k.pidfd_send_signal(pidfd, SIGKILL, NULL, PIDFD_SIGNAL_THREAD).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def pidfd_send_signal_group(k: Kernel) -> None:
    """Since 6.9; a flag turns the descriptor of one process into its group."""
    k.victim.setpgid(0, 0)
    pidfd = k.pidfd_open(neighbour.pid(k), 0)
    k.pidfd_send_signal(pidfd, SIGKILL, NULL, PIDFD_SIGNAL_PROCESS_GROUP).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def pidfd_send_signal_proc_directory(k: Kernel) -> None:
    """A directory of procfs is taken for a pidfd: forbidding pidfd_open does not help."""
    directory = k.open(neighbour.path(k, ""), O_DIRECTORY)
    k.pidfd_send_signal(directory, SIGKILL, NULL, 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_proc_directory(k: Kernel) -> None:
    """A ring opens the directory of procfs that stands for the victim."""
    directory = k.ring().openat(AT_FDCWD, neighbour.path(k, ""), O_DIRECTORY, 0)
    k.pidfd_send_signal(directory, SIGKILL, NULL, 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def pidfd_send_signal_inherited(k: Kernel) -> None:
    """A pidfd from before the filter: only the call that signals is left to see."""
    with neighbour.before_the_filter(k) as before:
        pidfd = before.pidfd_open(neighbour.pid(k), 0)
    k.pidfd_send_signal(pidfd, SIGKILL, NULL, 0).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def socket_peer_pidfd(k: Kernel) -> None:
    """Since 6.5; a connected socket hands out a pidfd of whoever listens, and no pid is named."""
    pidfd = neighbour.peer_pidfd(k)
    k.pidfd_send_signal(pidfd, SIGKILL, NULL, 0).decisive()


# The kernel sends the signal: a descriptor's owner is told that something happened.  Datagrams
# where data is what happens: the end of a stream would be a signal too.


for _recipe in (
    by_owner.fcntl_owner,
    by_owner.fcntl_owner_sigkill,
    by_owner.fcntl_owner_group,
    by_owner.fcntl_owner_ex,
    by_owner.fcntl_owner_pipe,
):
    FAMILY.variant(Technique.INDIRECT_OBJECT)(_recipe)

FAMILY.variant(Technique.COMPAT_ABI)(by_owner.fcntl64_owner_i386)

for _recipe in (
    by_owner.ioctl_owner,
    by_owner.ioctl_socket_owner,
):
    FAMILY.variant(Technique.SIBLING_SYSCALL)(_recipe)

FAMILY.variant(Technique.ASYNC_KERNEL)(by_owner.io_uring_write_owner)
FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)(by_owner.inherited_owned_socket)
FAMILY.variant(Technique.INDIRECT_OBJECT)(by_owner.end_of_stream)
FAMILY.variant(Technique.INDIRECT_OBJECT, objects=(WATCHED,))(by_owner.directory_notification)
FAMILY.variant(Technique.INDIRECT_OBJECT, objects=(LEASED,))(by_owner.broken_lease)


# Debugging it to death


@FAMILY.variant(Technique.MULTIPLEXER)
def ptrace_detach_signal(k: Kernel) -> None:
    """A debugger chooses the signal that its tracee goes on with."""
    neighbour.stop_by_ptrace(k)
    k.ptrace(PTRACE_DETACH, neighbour.pid(k), NULL, SIGTERM).decisive()


@FAMILY.variant(Technique.MULTIPLEXER)
def ptrace_continue_signal(k: Kernel) -> None:
    """The same by PTRACE_CONT, so no rule on one request is enough."""
    neighbour.stop_by_ptrace(k)
    k.ptrace(PTRACE_CONT, neighbour.pid(k), NULL, SIGKILL).decisive()


@FAMILY.variant(Technique.MULTIPLEXER)
def ptrace_kill(k: Kernel) -> None:
    """Ptrace has a request of its own for killing."""
    neighbour.stop_by_ptrace(k)
    k.ptrace(PTRACE_KILL, neighbour.pid(k), NULL, NULL).decisive()


@FAMILY.variant(Technique.MULTIPLEXER)
def ptrace_exitkill(k: Kernel) -> None:
    """An option kills the tracee when the debugger ends, so ending is the whole attack."""
    k.ptrace(PTRACE_SEIZE, neighbour.pid(k), NULL, PTRACE_O_EXITKILL).decisive()


@FAMILY.variant(Technique.MULTIPLEXER)
def ptrace_wild_jump(k: Kernel) -> None:
    """No signal is sent: the victim goes on at an address where there is nothing."""
    neighbour.stop_by_ptrace(k)
    k.ptrace(PTRACE_POKEUSER, neighbour.pid(k), RIP, NULL).decisive()
    k.ptrace(PTRACE_DETACH, neighbour.pid(k), NULL, NULL)


# Making it fail by itself


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_mem_bad_code(k: Kernel) -> None:
    """The victim's code is overwritten through a file, and the victim dies of running it."""
    memory = k.open(neighbour.path(k, "mem"), O_RDWR)
    bad = k.data(FAULTING, name="bad")
    k.pwrite64(memory, bad, bad.size, k.env(Environment.VICTIM_HOOK)).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def proc_mem_lseek_write(k: Kernel) -> None:
    """The position is set before: what is left is a plain write, which no profile can deny."""
    memory = k.open(neighbour.path(k, "mem"), O_RDWR)
    bad = k.data(FAULTING, name="bad")
    k.lseek(memory, k.env(Environment.VICTIM_HOOK), neighbour.SEEK_SET)
    k.write(memory, bad, bad.size).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_bad_code(k: Kernel) -> None:
    """One ring opens the file, another writes the bad code."""
    memory = neighbour.memory_by_ring(k, k.ring(), O_RDWR)
    bad = k.data(FAULTING, name="bad")
    hook = k.env(Environment.VICTIM_HOOK)
    k.ring().submit("WRITE", fd=memory, addr=bad, length=bad.size, off=hook).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, needs=(Need.SQPOLL,)
)
def io_uring_inherited_sqpoll_bad_code(k: Kernel) -> None:
    """With a ring and the file from before the filter, the attack makes no call at all."""
    memory = k.setup.open(neighbour.path(k.setup, "mem"), O_RDWR)
    bad = k.data(FAULTING, name="bad")
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    submitter = ring.by(k).stores_only()
    hook = k.env(Environment.VICTIM_HOOK)
    submitter.submit("WRITE", fd=memory, addr=bad, length=bad.size, off=hook).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, references=("man 2 prlimit",))
def cpu_limit(k: Kernel) -> None:
    """With no CPU time allowed, the victim is killed at the next tick in which it runs."""
    never = k.buffer(8, name="never")
    neighbour.run_anywhere(k)
    with k.victim.child(k.victim.thread()):
        k.victim.wait(never, bound_us=BUSY_US)
    none = k.struct("QQ", 0, 0, name="rlimit")
    k.prlimit64(neighbour.pid(k), RLIMIT_CPU, none, NULL).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=(SHARED_FILE,))
def truncated_mapping(k: Kernel) -> None:
    """A file that the victim has mapped becomes shorter: it dies of SIGBUS when it reads there."""
    file = k.victim.open(k.text("mapped"), O_RDONLY)
    word = k.victim.mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0)
    neighbour.run_anywhere(k)
    with k.victim.child(k.victim.thread()):
        k.victim.wait(word, 0, k.victim.load(word, 0, 4), bound_us=BUSY_US)
    k.truncate(k.text("mapped"), 0).decisive()


# The terminal of the victim


@FAMILY.variant(Technique.INDIRECT_OBJECT, assumption=INHERITED, objects=(PTY_PLACE,))
def pty_interrupt_character(k: Kernel) -> None:
    """Writing Ctrl-C to the master of the victim's terminal makes the kernel send SIGINT."""
    k.write(_master_of_victim(k), k.data(b"\x03"), 1).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, assumption=INHERITED, objects=(PTY_PLACE,))
def io_uring_pty_interrupt_character(k: Kernel) -> None:
    """A ring writes the Ctrl-C."""
    master = _master_of_victim(k)
    k.ring().submit("WRITE", fd=master, addr=k.data(b"\x03"), length=1).decisive()


@FAMILY.variant(Technique.MULTIPLEXER, assumption=INHERITED, objects=(PTY_PLACE,))
def pty_signal_ioctl(k: Kernel) -> None:
    """An ioctl of the terminal's master sends a signal to whoever is in the foreground."""
    k.ioctl(_master_of_victim(k), TIOCSIG, SIGINT).decisive()


# Controls that must not kill


@FAMILY.variant(Technique.NEWER_SYSCALL, negative=True)
def pidfd_send_signal_path_directory(k: Kernel) -> None:
    """An O_PATH descriptor of the procfs directory does not stand for the process."""
    directory = k.open(neighbour.path(k, ""), O_PATH | O_DIRECTORY)
    k.pidfd_send_signal(directory, SIGKILL, NULL, 0).decisive().may_fail()


@FAMILY.variant(Technique.INDIRECT_OBJECT, negative=True)
def out_of_band_default_signal(k: Kernel) -> None:
    """Without F_SETSIG urgent data sends SIGURG, which nobody dies of."""
    ours, other = socketpair(k)
    k.fcntl(ours, F_SETOWN, neighbour.pid(k))
    k.sendto(other, k.text("x"), 1, MSG_OOB, NULL, 0).decisive()


@FAMILY.variant(Technique.MULTIPLEXER, negative=True)
def ptrace_interrupted_detach_signal(k: Kernel) -> None:
    """A tracee that PTRACE_INTERRUPT stopped goes on without the signal."""
    k.ptrace(PTRACE_SEIZE, neighbour.pid(k), NULL, NULL)
    k.ptrace(PTRACE_INTERRUPT, neighbour.pid(k), NULL, NULL)
    k.wait4(neighbour.pid(k), NULL, WALL, NULL)
    k.ptrace(PTRACE_DETACH, neighbour.pid(k), NULL, SIGSEGV).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, negative=True)
def clone3_exit_signal_to_parent(k: Kernel) -> None:
    """A sibling with an exit signal of its own would signal the common parent; it is refused."""
    k.victim.getpid()
    args = k.struct("QQQQQQQQ", CLONE_PARENT, 0, 0, 0, SIGUSR2, 0, 0, 0, name="clone_args")
    k.clone3(args, args.size).decisive().may_fail()


def _siginfo(k: Kernel, signal: int) -> Buffer:
    """A siginfo with a negative code, which is all that may be sent to others."""
    return k.struct(
        "III" + "x" * (SIGINFO_SIZE - 12), signal, 0, SI_QUEUE & 0xFFFFFFFF, name="siginfo"
    )


def _master_of_victim(k: Kernel) -> Result:
    """The master of a terminal that the victim leads a session on, from before the filter.

    The victim has the terminals' file system in namespaces of its own.
    """
    v = k.victim
    v.unshare(CLONE_NEWUSER | CLONE_NEWNS)
    v.mount(v.text("devpts"), v.text("pts"), v.text("devpts"), 0, v.text("ptmxmode=0666"))
    master = v.open(v.text("pts/ptmx"), O_RDWR | O_NOCTTY)
    v.ioctl(master, TIOCSPTLCK, v.struct("I", 0, name="unlocked"))
    v.setsid()
    terminal = v.ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY)
    v.ioctl(terminal, TIOCSCTTY, 0)
    v.dup2(master, STOLEN_FD)
    with neighbour.before_the_filter(k) as before:
        pidfd = before.pidfd_open(neighbour.pid(k), 0)
        return before.pidfd_getfd(pidfd, STOLEN_FD, 0)
