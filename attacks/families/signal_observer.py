"""Let an observer notice something, by pipes, locks, and what others see of a process.

The observer looks at every channel, and the effect is that one of them shows what it did not show
before the attack.  What cannot be read counts as unchanged: that a process dies says nothing.
"""

import struct

from msgspec import Struct

from attacks import deputy, loopback, witness
from attacks.consts import (
    AT_FDCWD,
    NULL,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    Named,
)
from attacks.consts_network import IORING_REGISTER_EVENTFD
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Assumption, Family, Technique
from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.recorder import Arg, Buffer, Result

FIFO = "d/p"
LOCKED = "f0"
FAMILY = Family(
    "signal-observer",
    title="Let an observer notice something",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(
        Object(ObjectKind.FIFO, FIFO, 0o600),
        Object(ObjectKind.FILE, LOCKED, 0o644, b"x"),
    ),
    has_target=False,
    stays=True,
    group="network",
    attack_technique="T1029",
    unrecorded={
        "the exit status": "it cannot be filtered: every end of a process has one",
        "the time of access of a file that is read": "it is the reading itself that tells",
        "processor time, memory, timing": "side channels without a call",
        "write to /dev/kmsg": "the sandbox has no such device",
        "connect to /dev/log": "the sandbox has no such socket",
    },
)
SEEN_FD = 88
"""The number of an inherited descriptor, so that the observer finds it."""
NICE, SLACK, SCORE, UMASK = 19, 12345, 88, 0o123
COMM = b"EXFIL"
MARK_FD = 77
INHERITED = Assumption.INHERITED_DESCRIPTOR
FIONREAD = Named(0x541B, "FIONREAD")
F_SETLK = Named(6, "F_SETLK")
F_GETLK = Named(5, "F_GETLK")
F_OFD_SETLK = Named(37, "F_OFD_SETLK")
F_RDLCK = Named(0, "F_RDLCK")
F_WRLCK = Named(1, "F_WRLCK")
LOCK_EX = Named(2, "LOCK_EX")
LOCK_NB = Named(4, "LOCK_NB")
LOCK_UN = Named(8, "LOCK_UN")
PR_SET_NAME = Named(15, "PR_SET_NAME")
PR_SET_TIMERSLACK = Named(29, "PR_SET_TIMERSLACK")
SIG_BLOCK = Named(0, "SIG_BLOCK")
SIGUSR2 = Named(12, "SIGUSR2")
SI_QUEUE = Named(-1, "SI_QUEUE")
SLOT = 8


# What the observer sees


class _View(Struct):
    """One slot for each channel; all are zero again whenever the observer looks."""

    w: Kernel
    slots: Buffer
    used: int = 0

    def slot(self) -> Buffer:
        return self.blank(SLOT)

    def blank(self, size: int) -> Buffer:
        buffer = self.w.buffer(size, name="seen")
        self.w.copy(buffer, self.w.buffer(size, name="zeros"), size)
        return buffer

    def keep(self, source: Arg) -> None:
        self.w.copy(self.slots.at(self.used), source, SLOT)
        self.used += SLOT

    def keep_value(self, value: Arg) -> None:
        self.w.store(self.slots, self.used, SLOT, value)
        self.used += SLOT

    def keep_found(self, text: Buffer, wanted: bytes) -> None:
        """Whether the text is there; of a process that is gone nothing is."""
        where = self.slot()
        self.w.store(where, 0, SLOT, self.w.find(text, text.size, wanted))
        self.keep_value(self.w.load(where, SLOT - 1, 1))


@FAMILY.witness
def some_channel_shows_something(w: Kernel) -> None:
    s = w.setup
    fifo = s.openat(AT_FDCWD, s.text(FIFO), O_RDWR | O_NONBLOCK)
    lock = s.openat(AT_FDCWD, s.text(LOCKED), O_RDWR)
    before, now = _look(s, fifo, lock), _look(w, fifo, lock)
    w.expect(w.compare(before, now, now.size), 1, 0)


def _look(w: Kernel, fifo: Result, lock: Result) -> Buffer:
    view = _View(w, w.buffer(16 * SLOT, name="view"))
    subject, victim = witness.subject(w), witness.victim(w)
    _waiting(view, fifo)
    inherited = w.openat(AT_FDCWD, w.proc_pid(subject, f"/fd/{SEEN_FD}"), O_RDONLY | O_NONBLOCK)
    _waiting(view, inherited.may_fail())
    view.keep_value(w.flock(lock, LOCK_EX | LOCK_NB).may_fail())
    w.flock(lock, LOCK_UN)
    asked = w.buffer(32, name="flock")
    w.copy(asked, _file_lock(w, F_WRLCK), 32)
    w.fcntl(lock, F_GETLK, asked)
    view.keep_value(w.load(asked, 0, 2))
    for pid, file, text in (
        (subject, "comm", COMM),
        (subject, "stat", f" {20 + NICE} {NICE} ".encode()),
        (subject, "timerslack_ns", str(SLACK).encode()),
        (subject, "oom_score_adj", str(SCORE).encode()),
        (subject, "status", f"Umask:\t{UMASK:04o}".encode()),
        (subject, f"fdinfo/{SEEN_FD}", f"eventfd-count: {1:16x}".encode()),
        (victim, "status", f"ShdPnd:\t{1 << SIGUSR2 - 1:016x}".encode()),
    ):
        _shows(view, w.proc_pid(pid, f"/{file}"), text)
    for link, wanted in (("cwd", b"/d\0"), (f"fd/{MARK_FD}", b"/dev/null\0")):
        target = view.blank(64)
        w.readlinkat(AT_FDCWD, w.proc_pid(subject, f"/{link}"), target, target.size).may_fail()
        view.keep_found(target, wanted)
    return view.slots


def _waiting(view: _View, fd: Result) -> None:
    """How much could be read."""
    count = view.slot()
    view.w.ioctl(fd, FIONREAD, count).may_fail()
    view.keep(count)


def _shows(view: _View, path: Buffer, wanted: bytes) -> None:
    """Whether a file has the text; not where."""
    w, text = view.w, view.blank(2048)
    file = w.openat(AT_FDCWD, path, O_RDONLY).may_fail()
    w.read(file, text, text.size).may_fail()
    w.close(file).may_fail()
    view.keep_found(text, wanted)


# Pipes


@FAMILY.variant(Technique.BASELINE)
def write_fifo(k: Kernel) -> None:
    """The calls that the author of the policy has in mind."""
    pipe = k.openat(AT_FDCWD, k.relative(FIFO), O_WRONLY | O_NONBLOCK)
    k.write(pipe, _letter(k), 1).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def tee_fifo(k: Kernel) -> None:
    """From another pipe tee puts something into this one: nothing is written to it."""
    pipe = k.openat(AT_FDCWD, k.relative(FIFO), O_WRONLY | O_NONBLOCK)
    k.tee(loopback.piped(k, _letter(k)), pipe, 1, 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def write_inherited_pipe(k: Kernel) -> None:
    """Whoever holds the other end of a pipe from before the filter is told by a write."""
    k.write(_inherited_pipe(k), _letter(k), 1).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def vmsplice_inherited_pipe(k: Kernel) -> None:
    """Memory goes into the pipe by another call than write."""
    k.vmsplice(_inherited_pipe(k), loopback.iovec(k, _letter(k)), 1, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, assumption=INHERITED)
def vmsplice_inherited_pipe_i386(k: Kernel) -> None:
    """The 32-bit vmsplice has a vector of its own shape."""
    iov = k.struct("II", _letter(k), 1, name="iov")
    k.i386.vmsplice(_inherited_pipe(k), iov, 1, 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, assumption=INHERITED)
def io_uring_write_inherited_pipe(k: Kernel) -> None:
    """A ring writes to the pipe."""
    pipe = _inherited_pipe(k)
    k.ring().submit("WRITE", fd=pipe, addr=_letter(k), length=1).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE, assumption=INHERITED)
def write_reopened_pipe(k: Kernel) -> None:
    """The end for reading is all there is; procfs opens it again for writing."""
    k.setup.close(_inherited_pipe(k))
    pipe = k.openat(AT_FDCWD, k.proc(f"self/fd/{SEEN_FD}"), O_WRONLY)
    k.write(pipe, _letter(k), 1).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def write_inherited_eventfd(k: Kernel) -> None:
    """A counter that others hold too is told by eight bytes."""
    k.write(_inherited_eventfd(k), k.struct("Q", 1, name="one"), 8).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, assumption=INHERITED)
def io_uring_eventfd(k: Kernel) -> None:
    """The kernel writes the counter when a ring answers, if only to an entry that does nothing."""
    counter, ring = _inherited_eventfd(k), k.ring()
    descriptor = k.struct("I", counter, name="eventfd")
    k.raw("io_uring_register", ring.fd, IORING_REGISTER_EVENTFD, descriptor, 1)
    ring.nop().decisive()


# Locks


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def flock(k: Kernel) -> None:
    """A lock needs no right to write: a file that can be read is a channel of one bit."""
    file = k.openat(AT_FDCWD, k.relative(LOCKED), O_RDONLY)
    k.flock(file, LOCK_EX).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def fcntl_lock(k: Kernel) -> None:
    """Record locks are of fcntl, which is hardly ever denied."""
    file = k.openat(AT_FDCWD, k.relative(LOCKED), O_RDWR)
    k.fcntl(file, F_SETLK, _file_lock(k, F_WRLCK)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def fcntl_lock_to_read(k: Kernel) -> None:
    """A lock to read is seen as well, and needs no right to write."""
    file = k.openat(AT_FDCWD, k.relative(LOCKED), O_RDONLY)
    k.fcntl(file, F_SETLK, _file_lock(k, F_RDLCK)).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def fcntl_lock_of_description(k: Kernel) -> None:
    """Locks of the open file have operation numbers of their own (3.15)."""
    file = k.openat(AT_FDCWD, k.relative(LOCKED), O_RDWR)
    k.fcntl(file, F_OFD_SETLK, _file_lock(k, F_WRLCK)).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def fcntl_lock_i386(k: Kernel) -> None:
    """The oldest fcntl of the 32-bit table takes a structure of its own."""
    file = k.openat(AT_FDCWD, k.relative(LOCKED), O_RDWR)
    k.i386.fcntl(file, F_SETLK, k.struct("HHIII", F_WRLCK, 0, 0, 1, 0, name="flock")).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=INHERITED)
def flock_inherited(k: Kernel) -> None:
    """A file that was opened before the filter can be locked and unlocked."""
    file = k.setup.openat(AT_FDCWD, k.relative(LOCKED), O_RDONLY)
    k.flock(file, LOCK_EX).decisive()


# What others see of a process


@FAMILY.variant(Technique.PROC_INTERFACE)
def prctl_name(k: Kernel) -> None:
    """Fifteen letters that everybody can read: a process names itself."""
    k.prctl(PR_SET_NAME, k.text(COMM.decode())).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def prctl_name_i386(k: Kernel) -> None:
    """The 32-bit table has another number for it."""
    k.i386.prctl(PR_SET_NAME, k.text(COMM.decode())).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def write_comm(k: Kernel) -> None:
    """The name is a file of procfs too: rules on prctl do not apply."""
    _write(k, "comm", COMM)


@FAMILY.variant(Technique.PROC_INTERFACE)
def setpriority(k: Kernel) -> None:
    """Everybody may be nicer, and everybody can see it."""
    k.setpriority(0, 0, NICE).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def nice_i386(k: Kernel) -> None:
    """The 32-bit table still has nice, which x86-64 never had."""
    k.i386.nice(NICE).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def sched_setattr(k: Kernel) -> None:
    """The newer call sets the nice value with all else, behind a pointer."""
    attributes = k.struct("IIQiIQQQ", 48, 0, 0, NICE, 0, 0, 0, 0, name="attr")
    k.sched_setattr(0, attributes, 0).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def prctl_timer_slack(k: Kernel) -> None:
    """A number of nanoseconds that means nothing to anybody, and that others can read."""
    k.prctl(PR_SET_TIMERSLACK, SLACK).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def write_timer_slack(k: Kernel) -> None:
    """The same number as a file of procfs."""
    _write(k, "timerslack_ns", str(SLACK).encode())


@FAMILY.variant(Technique.PROC_INTERFACE)
def write_oom_score(k: Kernel) -> None:
    """Everybody may offer to be killed first: a number up to 1000."""
    _write(k, "oom_score_adj", str(SCORE).encode())


@FAMILY.variant(Technique.PROC_INTERFACE)
def umask(k: Kernel) -> None:
    """Nine bits that procfs shows, by a call that every filter allows."""
    k.umask(UMASK).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def chdir(k: Kernel) -> None:
    """Where a process is can be seen: each directory is a letter."""
    k.chdir(k.relative("d")).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def dup2(k: Kernel) -> None:
    """Which descriptors are open can be seen: the number is the message."""
    k.dup2(0, MARK_FD).decisive()


# Signals


@FAMILY.variant(Technique.SIBLING_SYSCALL, assumption=Assumption.TRUSTED_SETUP)
def rt_sigqueueinfo(k: Kernel) -> None:
    """A signal that its receiver holds back does no harm, and carries a number."""
    mask = k.victim.struct("Q", 1 << SIGUSR2 - 1, name="mask")
    k.victim.rt_sigprocmask(SIG_BLOCK, mask, NULL, 8)
    info = k.data(struct.pack("<iiiiiii100x", SIGUSR2, 0, SI_QUEUE, 0, 0, 0, 0x58), name="info")
    k.rt_sigqueueinfo(k.env(Environment.VICTIM_PID), SIGUSR2, info).decisive()


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_THREAD)
def sibling_thread(k: Kernel) -> None:
    """A thread from before a filter that was loaded without TSYNC keeps all its rights."""
    with deputy.sibling_thread(k) as thread:
        pipe = thread.openat(AT_FDCWD, k.relative(FIFO), O_WRONLY | O_NONBLOCK)
        thread.write(pipe, _letter(k), 1)


# Controls that must not be noticed


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def write_fifo_to_read(k: Kernel) -> None:
    """An end of a pipe that was opened for reading cannot be written."""
    pipe = k.openat(AT_FDCWD, k.relative(FIFO), O_RDONLY | O_NONBLOCK)
    k.write(pipe, _letter(k), 1).decisive().may_fail()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def fcntl_lock_read_only(k: Kernel) -> None:
    """A record lock to write needs a file that can be written, unlike flock."""
    file = k.openat(AT_FDCWD, k.relative(LOCKED), O_RDONLY)
    k.fcntl(file, F_SETLK, _file_lock(k, F_WRLCK)).decisive().may_fail()


def _letter(k: Kernel) -> Buffer:
    return k.data(b"X", name="letter")


def _file_lock(k: Kernel, type_: int) -> Buffer:
    """A ``struct flock`` for the first byte."""
    return k.data(struct.pack("<hhxxxxqqi4x", type_, 0, 0, 1, 0), name="flock")


def _inherited_pipe(k: Kernel) -> Result:
    """The end for writing of a pipe from before the filter; the other is where it is looked for."""
    ends, s = k.buffer(8, name="pipe"), k.setup
    s.pipe2(ends, 0)
    s.dup2(s.load(ends, 0, 4), SEEN_FD)
    return s.load(ends, 4, 4)


def _inherited_eventfd(k: Kernel) -> Result:
    return k.setup.dup2(k.setup.eventfd2(0, 0), SEEN_FD)


def _write(k: Kernel, name: str, text: bytes) -> None:
    """Writes a file of the process in procfs."""
    data = k.data(text, name="text")
    k.write(k.openat(AT_FDCWD, k.proc(f"self/{name}"), O_WRONLY), data, data.size).decisive()
