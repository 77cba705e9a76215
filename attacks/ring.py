"""io_uring driven by plain operations: set up, fill a submission entry, submit, read the answer.

Nothing here needs the runner to know what a ring is: the submission queue entry and the tail are
memory stores, ``io_uring_enter`` is a call, the answer is a load.  On x86-64 a store is a release
and a load an acquire, which is all the protocol asks for.  Offsets are those of
``linux/io_uring.h``.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from attacks.consts import (
    IORING_ENTER_GETEVENTS,
    IORING_ENTER_REGISTERED_RING,
    IORING_ENTER_SQ_WAKEUP,
    IORING_OFF_SQ_RING,
    IORING_OFF_SQES,
    IORING_REGISTER_FILES,
    IORING_REGISTER_PERSONALITY,
    IORING_SETUP_ATTACH_WQ,
    IORING_SETUP_NO_MMAP,
    IORING_SETUP_SQPOLL,
    MAP_POPULATE,
    MAP_SHARED,
    NULL,
    PROT_READ,
    PROT_WRITE,
    Named,
)
from attacks.errors import AttackError
from attacks.recorder import Arg, Recorder, Result, octal

_ENTRIES = 4
_PAGE = 4096
_PARAMS_SIZE = 120
_FLAGS, _SQ_THREAD_IDLE, _WQ_FD = 8, 16, 24
_SQ_TAIL, _SQ_FLAGS, _SQ_ARRAY, _SQ_USER_ADDR = 44, 56, 64, 72
_CQ_TAIL, _CQES, _CQ_USER_ADDR = 84, 100, 112
_IDLE_MS = 20_000
_SQE_SIZE, _CQE_SIZE, _CQE_RES = 64, 16, 8
_ERROR = 1 << 31
_FIELDS = {
    "opcode": (0, 1),
    "flags": (1, 1),
    "ioprio": (2, 2),
    "fd": (4, 4),
    "off": (8, 8),
    "addr": (16, 8),
    "length": (24, 4),
    "op_flags": (28, 4),
    "buf_index": (40, 2),
    "personality": (42, 2),
    "file_index": (44, 4),
    "addr3": (48, 8),
}
"""Offset and width in ``struct io_uring_sqe``."""
_FOREVER_US = 2_000_000

# enum io_uring_op of linux/io_uring.h, as of 6.18.
_OPCODE_NAMES = """
NOP READV WRITEV FSYNC READ_FIXED WRITE_FIXED POLL_ADD POLL_REMOVE SYNC_FILE_RANGE SENDMSG RECVMSG
TIMEOUT TIMEOUT_REMOVE ACCEPT ASYNC_CANCEL LINK_TIMEOUT CONNECT FALLOCATE OPENAT CLOSE FILES_UPDATE
STATX READ WRITE FADVISE MADVISE SEND RECV OPENAT2 EPOLL_CTL SPLICE PROVIDE_BUFFERS REMOVE_BUFFERS
TEE SHUTDOWN RENAMEAT UNLINKAT MKDIRAT SYMLINKAT LINKAT MSG_RING FSETXATTR SETXATTR FGETXATTR
GETXATTR SOCKET URING_CMD SEND_ZC SENDMSG_ZC READ_MULTISHOT WAITID FUTEX_WAIT FUTEX_WAKE
FUTEX_WAITV FIXED_FD_INSTALL FTRUNCATE BIND LISTEN RECV_ZC EPOLL_WAIT READV_FIXED WRITEV_FIXED PIPE
"""
OPCODES = {name: number for number, name in enumerate(_OPCODE_NAMES.split())}


class _Memory(Struct, frozen=True):
    """Where a ring lies, as operands that stay the same while it is used."""

    fd: Arg
    sqes: Arg
    sq_tail: Arg
    sq_array: Arg
    cq_tail: Arg
    cqes: Arg
    offsets: tuple[Result, ...]
    """The ring's own offsets, which are the same in every mapping of it."""


class _Progress(Struct):
    """How many entries have been submitted: known when recording, as there are no branches."""

    submitted: int = 0
    waiting: list[str] = field(default_factory=list[str])
    """Opcodes of entries that go with the next one."""


class Ring(Struct, frozen=True):
    """A ring, the recorder that submits to it, and how.

    ``store_only`` relies on a kernel thread that already polls the queue: then the store of the
    tail is the last thing the program does for the operation.
    """

    k: Recorder
    memory: _Memory
    progress: _Progress
    sqpoll: bool = False
    flags: int = 0
    personality: Arg = 0
    store_only: bool = False
    enter_flags: int = 0
    """More flags for ``io_uring_enter``."""
    sq_flags: Arg = 0
    """With a kernel thread: where it says that it sleeps."""
    waker: Arg | None = None
    """The parameters of a ring that attaches to this one's thread, which wakes it."""

    @staticmethod
    def make(
        k: Recorder, calls: Recorder, *, sqpoll: bool = False, mapped: bool = True, extra: int = 0
    ) -> Ring:
        """A new ring; ``calls`` makes the ring's own calls, ``k`` everything else.

        Without ``mapped`` the rings lie in memory that the program brings, and no mmap is needed.
        ``extra`` are more ``IORING_SETUP_*`` flags, which must leave the rings' layout as it is.
        """
        setup = (IORING_SETUP_SQPOLL if sqpoll else 0) | (0 if mapped else IORING_SETUP_NO_MMAP)
        setup = extra | setup if extra else setup
        params = k.buffer(_PARAMS_SIZE, name="params")
        if setup:
            k.store(params, _FLAGS, 4, setup)
        if sqpoll:
            k.store(params, _SQ_THREAD_IDLE, 4, _IDLE_MS)
        own = (k.buffer(_PAGE, align=_PAGE), k.buffer(_PAGE, align=_PAGE)) if not mapped else None
        if own:
            k.store(params, _SQ_USER_ADDR, 8, own[1])
            k.store(params, _CQ_USER_ADDR, 8, own[0])
        fd = calls.raw("io_uring_setup", _ENTRIES, params)
        rings, sqes = own or (_map(k, fd, IORING_OFF_SQ_RING), _map(k, fd, IORING_OFF_SQES))
        offsets = tuple(k.load(params, at, 4) for at in (_SQ_TAIL, _SQ_ARRAY, _CQ_TAIL, _CQES))
        memory = _memory(k, fd, rings, sqes, offsets)
        flags = k.add(rings, k.load(params, _SQ_FLAGS, 4)) if sqpoll else 0
        return Ring(calls, memory, _Progress(), sqpoll=sqpoll, sq_flags=flags)

    @staticmethod
    def woken(k: Recorder) -> Ring:
        """A ring with a kernel thread that is woken by setting up another one, for one operation.

        A ring that attaches (IORING_SETUP_ATTACH_WQ, since 5.6) parks and unparks the thread, which
        then looks at all queues for as long as it is to idle: ``io_uring_enter`` is never called.
        """
        ring = Ring.make(k, k, sqpoll=True, mapped=False)
        waker = k.buffer(_PARAMS_SIZE, name="params")
        k.store(waker, _FLAGS, 4, IORING_SETUP_SQPOLL | IORING_SETUP_ATTACH_WQ)
        k.store(waker, _SQ_THREAD_IDLE, 4, _IDLE_MS)
        k.store(waker, _WQ_FD, 4, ring.fd)
        return replace(ring, waker=waker)

    @property
    def fd(self) -> Arg:
        return self.memory.fd

    def by(self, k: Recorder) -> Ring:
        """The same ring, used by another recorder: one of another section, or another ABI."""
        return replace(self, k=k)

    def stolen(self, k: Recorder, fd: Arg) -> Ring:
        """The same ring, reached by another process through ``fd``: it needs its own mappings."""
        rings, sqes = _map(k, fd, IORING_OFF_SQ_RING), _map(k, fd, IORING_OFF_SQES)
        return replace(self, k=k, memory=_memory(k, fd, rings, sqes, self.memory.offsets))

    def registered(self, index: Arg) -> Ring:
        """The same ring, entered by its index among the ring descriptors that were registered."""
        memory = replace(self.memory, fd=index)
        return replace(self, memory=memory, enter_flags=IORING_ENTER_REGISTERED_RING)

    def asynchronous(self, flag: int) -> Ring:
        """The same ring, with a flag on every entry (``IOSQE_ASYNC``)."""
        return replace(self, flags=flag)

    def stores_only(self) -> Ring:
        """The same ring, submitted to without a call."""
        return replace(self, store_only=True)

    def registered_personality(self) -> Ring:
        """The same ring; entries run with the credentials of now, whoever submits them."""
        personality = self.k.raw(
            "io_uring_register", self.memory.fd, IORING_REGISTER_PERSONALITY, NULL, 0
        )
        return replace(self, personality=personality)

    def register_files(self, count: int) -> None:
        """An empty table of ``count`` registered descriptors."""
        table = self.k.data(b"\xff\xff\xff\xff" * count, name="files")
        self.k.raw("io_uring_register", self.memory.fd, IORING_REGISTER_FILES, table, count)

    # Operations, with the argument names of the calls that they stand for

    def nop(self) -> Result:
        return self.submit("NOP")

    def openat(self, dirfd: Arg, path: Arg, flags: int, mode: int, *, slot: int = 0) -> Result:
        return self.submit(
            "OPENAT", fd=dirfd, addr=path, length=octal(mode), op_flags=flags, file_index=slot
        )

    def openat2(self, dirfd: Arg, path: Arg, how: Arg, size: int) -> Result:
        return self.submit("OPENAT2", fd=dirfd, addr=path, length=size, off=how)

    def mkdirat(self, dirfd: Arg, path: Arg, mode: int) -> Result:
        return self.submit("MKDIRAT", fd=dirfd, addr=path, length=octal(mode))

    def unlinkat(self, dirfd: Arg, path: Arg, flags: int) -> Result:
        return self.submit("UNLINKAT", fd=dirfd, addr=path, op_flags=flags)

    def symlinkat(self, target: Arg, newdirfd: Arg, linkpath: Arg) -> Result:
        return self.submit("SYMLINKAT", fd=newdirfd, addr=target, off=linkpath)

    def linkat(self, olddirfd: Arg, old: Arg, newdirfd: Arg, new: Arg, flags: int) -> Result:
        return self.submit(
            "LINKAT", fd=olddirfd, addr=old, length=newdirfd, off=new, op_flags=flags
        )

    def renameat(self, olddirfd: Arg, old: Arg, newdirfd: Arg, new: Arg, flags: int = 0) -> Result:
        return self.submit(
            "RENAMEAT", fd=olddirfd, addr=old, length=newdirfd, off=new, op_flags=flags
        )

    def setxattr(self, path: Arg, name: Arg, value: Arg, size: int, flags: int) -> Result:
        return self.submit(
            "SETXATTR", addr=name, off=value, length=size, addr3=path, op_flags=flags
        )

    def fsetxattr(self, fd: Arg, name: Arg, value: Arg, size: int, flags: int) -> Result:
        return self.submit("FSETXATTR", fd=fd, addr=name, off=value, length=size, op_flags=flags)

    def bind(self, sockfd: Arg, addr: Arg, addrlen: int) -> Result:
        return self.submit("BIND", fd=sockfd, addr=addr, off=addrlen)

    def submit(
        self,
        name: str,
        *,
        fd: Arg = 0,
        addr: Arg = 0,
        off: Arg = 0,
        length: Arg = 0,
        op_flags: Arg = 0,
        file_index: Arg = 0,
        addr3: Arg = 0,
        buf_index: int = 0,
        ioprio: int = 0,
        flags: int = 0,
        may_fail: bool = False,
    ) -> Result:
        """Fills the next entry, submits it with those that wait, and returns its answer.

        The names are those of ``struct io_uring_sqe``; ``length`` is ``len``, ``op_flags`` any of
        the flag words, ``file_index`` also ``splice_fd_in``, ``addr3`` also ``optval``.
        """
        fields: dict[str, Arg] = {
            "flags": flags,
            "ioprio": ioprio,
            "fd": fd,
            "off": off,
            "addr": addr,
            "length": length,
            "op_flags": op_flags,
            "buf_index": buf_index,
            "file_index": file_index,
            "addr3": addr3,
        }
        return self.submit_fields(name, fields, may_fail=may_fail)

    def submit_fields(
        self, name: str, fields: Mapping[str, Arg], *, may_fail: bool = False
    ) -> Result:
        """The same for fields that are known by name only."""
        flags = fields.get("flags", 0)
        assert isinstance(flags, int)
        own: dict[str, Arg] = {"flags": self.flags | flags, "personality": self.personality}
        index = self._fill(name, **{**fields, **own})
        opcode = ", ".join((*self.progress.waiting, f"IORING_OP_{name}"))
        self.progress.waiting.clear()
        self.k.store(self.memory.sq_array, 4 * index, 4, index)
        cause = self._publish(opcode, index)
        answer = self.k.load(self.memory.cqes, index * _CQE_SIZE + _CQE_RES, 4)
        if not may_fail:
            self.k.expect(answer, _ERROR, 0)
        return Result(answer.node, cause.node)

    def wait_for_next(self, name: str, **fields: Arg) -> None:
        """Fills an entry that goes with the next one submitted (``IOSQE_IO_LINK`` in ``flags``)."""
        index = self._fill(name, **fields)
        self.k.store(self.memory.sq_array, 4 * index, 4, index)
        self.progress.waiting.append(f"IORING_OP_{name}")

    def _fill(self, name: str, **fields: Arg) -> int:
        index = self.progress.submitted
        if index >= _ENTRIES:
            raise AttackError(f"more than {_ENTRIES} operations on one ring")
        self.progress.submitted += 1
        opcode = Named(OPCODES[name], f"IORING_OP_{name}")
        for key, value in {"opcode": opcode, **fields}.items():
            offset, width = _FIELDS[key]
            if not (type(value) is int and value == 0):
                self.k.store(self.memory.sqes, index * _SQE_SIZE + offset, width, value)
        return index

    def _publish(self, opcode: str, index: int) -> Result:
        if self.sqpoll and not self.store_only:
            # Awake, it would take the entry without being asked: then the call decides nothing.
            self.k.wait(self.sq_flags, 0, 0, _FOREVER_US)
        tail = self.k.store(self.memory.sq_tail, 0, 4, index + 1)
        if self.waker is not None:
            tail = self.k.raw("io_uring_setup", _ENTRIES, self.waker, opcode=opcode)
        if self.store_only or self.waker is not None:
            self.k.wait(self.memory.cq_tail, 0, index, _FOREVER_US)
            return tail
        flags = IORING_ENTER_GETEVENTS
        if self.sqpoll:
            flags = flags | IORING_ENTER_SQ_WAKEUP
        if self.enter_flags:
            flags = flags | self.enter_flags
        count = opcode.count("IORING_OP_")
        return self.k.raw(
            # Answers are never taken off the queue, so those of before count as well.
            "io_uring_enter",
            self.memory.fd,
            count,
            index + 1,
            flags,
            NULL,
            0,
            opcode=opcode,
        )


def _map(k: Recorder, fd: Arg, offset: int) -> Result:
    """The kernel takes fewer bytes than a page for these few entries; a page is what it maps."""
    return k.raw("mmap", NULL, _PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset)


def _memory(k: Recorder, fd: Arg, rings: Arg, sqes: Arg, offsets: tuple[Result, ...]) -> _Memory:
    sq_tail, sq_array, cq_tail, cqes = (k.add(rings, offset) for offset in offsets)
    return _Memory(fd, sqes, sq_tail, sq_array, cq_tail, cqes, offsets)
