"""One harmless use of each io_uring operation, as the fields of its submission entry.

Each must succeed, so that an entry linked behind it is carried out.  What an operation works on is
made by ordinary calls before: a file, a pipe, two connected sockets.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from attacks.consts import AF_UNIX, AT_FDCWD, O_RDWR, SOCK_DGRAM, SOCK_STREAM, Named
from attacks.kernel import Kernel
from attacks.recorder import Arg, Buffer, Result
from attacks.ring import Ring

FILE = "f0"
"""A file of 64 bytes that the operations may use up."""
CONTENT = bytes(64)
Fields = Mapping[str, Arg]
Prepare = Callable[[Kernel, Ring], Fields]

_AT_HAND = 8
_EPOLL_CTL_ADD = Named(1, "EPOLL_CTL_ADD")
_EPOLLIN = Named(1, "EPOLLIN")
_P_PID, _WEXITED = Named(1, "P_PID"), Named(4, "WEXITED")
_FUTEX2_SIZE_U32 = Named(2, "FUTEX2_SIZE_U32")
_IORING_REGISTER_BUFFERS = Named(0, "IORING_REGISTER_BUFFERS")
_IORING_REGISTER_FILES = Named(2, "IORING_REGISTER_FILES")
_IORING_REGISTER_PBUF_RING = Named(22, "IORING_REGISTER_PBUF_RING")
_PBUF_TAIL, _GROUP = 14, 3
_IOSQE_FIXED_FILE = Named(1, "IOSQE_FIXED_FILE")
_IOSQE_BUFFER_SELECT = Named(1 << 5, "IOSQE_BUFFER_SELECT")
_SOCKET_URING_OP_GETSOCKOPT = Named(2, "SOCKET_URING_OP_GETSOCKOPT")
_SOL_SOCKET, _SO_TYPE = 1, 3
_MADV_WILLNEED, _STATX_BASIC = Named(3, "MADV_WILLNEED"), Named(0x7FF, "STATX_BASIC_STATS")
_NOWHERE = -1
_ATTRIBUTE = "user.sidestep"
_NAME = struct.pack("<H", AF_UNIX) + b"\0sidestep-ring"


def _file(k: Kernel) -> Result:
    return k.open(k.relative(FILE), O_RDWR)


def _pair(k: Kernel) -> tuple[Result, Result]:
    """Two connected sockets."""
    both = k.buffer(8, name="pair")
    k.raw("socketpair", AF_UNIX, SOCK_STREAM, 0, both)
    return k.load(both, 0, 4), k.load(both, 4, 4)


def _pipe(k: Kernel) -> tuple[Result, Result]:
    both = k.buffer(8, name="pipe")
    k.pipe2(both, 0)
    return k.load(both, 0, 4), k.load(both, 4, 4)


def _full_pipe(k: Kernel) -> Result:
    out, into = _pipe(k)
    k.write(into, k.text("hello678"), _AT_HAND)
    return out


def _ready(k: Kernel) -> Result:
    """Something that can be read at once."""
    return k.eventfd2(1, 0)


def _room(k: Kernel, size: int = _AT_HAND) -> Buffer:
    return k.buffer(size, name="room")


def _vector(k: Kernel) -> Buffer:
    return k.struct("QQ", _room(k), _AT_HAND, name="iov")


def _message(k: Kernel) -> Buffer:
    return k.struct("QQQQQQQ", 0, 0, _vector(k), 1, 0, 0, 0, name="msghdr")


def _listener(k: Kernel) -> Result:
    socket = k.socket(AF_UNIX, SOCK_STREAM, 0)
    k.bind(socket, k.data(_NAME, name="address"), len(_NAME))
    k.listen(socket, 1)
    return socket


def _nop(_k: Kernel, _ring: Ring) -> Fields:
    return {}


def _readv(k: Kernel, _ring: Ring) -> Fields:
    return {"fd": _file(k), "addr": _vector(k), "length": 1}


def _registered_buffer(k: Kernel, ring: Ring) -> Buffer:
    page = k.buffer(4096, align=4096, name="page")
    vector = k.struct("QQ", page, page.size, name="iov")
    k.raw("io_uring_register", ring.fd, _IORING_REGISTER_BUFFERS, vector, 1)
    return page


def _fixed(k: Kernel, ring: Ring) -> Fields:
    return {"fd": _file(k), "addr": _registered_buffer(k, ring), "length": _AT_HAND}


def _vector_fixed(k: Kernel, ring: Ring) -> Fields:
    vector = k.struct("QQ", _registered_buffer(k, ring), _AT_HAND, name="iov")
    return {"fd": _file(k), "addr": vector, "length": 1}


def _fsync(k: Kernel, _ring: Ring) -> Fields:
    return {"fd": _file(k)}


def _poll(k: Kernel, _ring: Ring) -> Fields:
    return {"fd": _ready(k), "op_flags": _EPOLLIN}


def _sync_file_range(k: Kernel, _ring: Ring) -> Fields:
    return {"fd": _file(k), "length": 4096}


def _sendmsg(k: Kernel, _ring: Ring) -> Fields:
    return {"fd": _pair(k)[0], "addr": _message(k), "length": 1}


def _recvmsg(k: Kernel, _ring: Ring) -> Fields:
    one, other = _pair(k)
    k.write(one, k.text("hello678"), _AT_HAND)
    return {"fd": other, "addr": _message(k), "length": 1}


def _accept(k: Kernel, _ring: Ring) -> Fields:
    listener = _listener(k)
    client = k.socket(AF_UNIX, SOCK_STREAM, 0)
    k.connect(client, k.data(_NAME, name="address"), len(_NAME))
    return {"fd": listener}


def _connect(k: Kernel, _ring: Ring) -> Fields:
    _listener(k)
    client = k.socket(AF_UNIX, SOCK_STREAM, 0)
    return {"fd": client, "addr": k.data(_NAME, name="address"), "off": len(_NAME)}


def _fallocate(k: Kernel, _ring: Ring) -> Fields:
    return {"fd": _file(k), "addr": 4096}


def _openat(k: Kernel, _ring: Ring) -> Fields:
    return {"fd": AT_FDCWD, "addr": k.relative(FILE), "op_flags": O_RDWR}


def _files_update(k: Kernel, ring: Ring) -> Fields:
    ring.register_files(1)
    return {"addr": k.struct("I", _file(k), name="files"), "length": 1}


def _statx(k: Kernel, _ring: Ring) -> Fields:
    found = _room(k, 256)
    return {"fd": AT_FDCWD, "addr": k.relative(FILE), "length": _STATX_BASIC, "off": found}


def _read(k: Kernel, _ring: Ring) -> Fields:
    return {"fd": _file(k), "addr": _room(k), "length": _AT_HAND}


def _fadvise(k: Kernel, _ring: Ring) -> Fields:
    return {"fd": _file(k), "length": 4096, "op_flags": 4}


def _madvise(k: Kernel, _ring: Ring) -> Fields:
    page = k.buffer(4096, align=4096, name="page")
    return {"addr": page, "length": 4096, "op_flags": _MADV_WILLNEED}


def _send(k: Kernel, _ring: Ring) -> Fields:
    return {"fd": _pair(k)[0], "addr": _room(k), "length": _AT_HAND}


def _recv(k: Kernel, _ring: Ring) -> Fields:
    one, other = _pair(k)
    k.write(one, k.text("hello678"), _AT_HAND)
    return {"fd": other, "addr": _room(k), "length": _AT_HAND}


def _openat2(k: Kernel, _ring: Ring) -> Fields:
    how = k.struct("QQQ", O_RDWR, 0, 0, name="how")
    return {"fd": AT_FDCWD, "addr": k.relative(FILE), "length": how.size, "off": how}


def _epoll_ctl(k: Kernel, _ring: Ring) -> Fields:
    event = k.struct("IQ", _EPOLLIN, 0, name="event")
    fields: dict[str, Arg] = {"fd": k.epoll_create1(0), "length": _EPOLL_CTL_ADD}
    return {**fields, "off": _ready(k), "addr": event}


def _epoll_wait(k: Kernel, _ring: Ring) -> Fields:
    epoll = k.epoll_create1(0)
    k.epoll_ctl(epoll, _EPOLL_CTL_ADD, _ready(k), k.struct("IQ", _EPOLLIN, 0, name="event"))
    return {"fd": epoll, "addr": _room(k, 12), "length": 1}


def _splice(k: Kernel, _ring: Ring) -> Fields:
    fields: dict[str, Arg] = {"fd": _pipe(k)[1], "off": _NOWHERE, "addr": 0, "length": _AT_HAND}
    return {**fields, "file_index": _file(k)}


def _tee(k: Kernel, _ring: Ring) -> Fields:
    return {"fd": _pipe(k)[1], "length": _AT_HAND, "file_index": _full_pipe(k)}


def _provide_buffers(k: Kernel, _ring: Ring) -> Fields:
    return {"fd": 1, "addr": _room(k, 64), "length": 64, "buf_index": 3}


def _read_multishot(k: Kernel, ring: Ring) -> Fields:
    """Of a pipe that nobody writes to any more: it is at its end with the first answer."""
    buffers = k.buffer(4096, align=4096, name="buffers")
    k.store(buffers, 0, 8, _room(k))
    k.store(buffers, 8, 4, _AT_HAND)
    k.store(buffers, _PBUF_TAIL, 2, 1)
    known = k.struct("QIHHQQQ", buffers, 1, _GROUP, 0, 0, 0, 0, name="buf_reg")
    k.raw("io_uring_register", ring.fd, _IORING_REGISTER_PBUF_RING, known, 1)
    out, into = _pipe(k)
    k.close(into)
    return {"fd": out, "flags": _IOSQE_BUFFER_SELECT, "buf_index": _GROUP}


def _shutdown(k: Kernel, _ring: Ring) -> Fields:
    return {"fd": _pair(k)[0], "length": 2}


def _renameat(k: Kernel, _ring: Ring) -> Fields:
    new = k.relative("f1")
    return {"fd": AT_FDCWD, "addr": k.relative(FILE), "length": AT_FDCWD, "off": new}


def _unlinkat(k: Kernel, _ring: Ring) -> Fields:
    return {"fd": AT_FDCWD, "addr": k.relative(FILE)}


def _symlinkat(k: Kernel, _ring: Ring) -> Fields:
    return {"fd": AT_FDCWD, "addr": k.relative(FILE), "off": k.relative("f1")}


def _msg_ring(k: Kernel, _ring: Ring) -> Fields:
    return {"fd": k.ring().fd, "length": 7, "off": 0x77}


def _fsetxattr(k: Kernel, _ring: Ring) -> Fields:
    value = k.text("v")
    return {"fd": _file(k), "addr": k.text(_ATTRIBUTE), "off": value, "length": 1}


def _setxattr(k: Kernel, _ring: Ring) -> Fields:
    value = k.text("v")
    path = k.relative(FILE)
    return {"addr": k.text(_ATTRIBUTE), "off": value, "length": 1, "addr3": path}


def _fgetxattr(k: Kernel, _ring: Ring) -> Fields:
    file = _file(k)
    k.fsetxattr(file, k.text(_ATTRIBUTE), k.text("v"), 1, 0)
    return {"fd": file, "addr": k.text(_ATTRIBUTE), "off": _room(k), "length": _AT_HAND}


def _getxattr(k: Kernel, _ring: Ring) -> Fields:
    path = k.relative(FILE)
    k.setxattr(path, k.text(_ATTRIBUTE), k.text("v"), 1, 0)
    fields: dict[str, Arg] = {"addr": k.text(_ATTRIBUTE), "off": _room(k), "length": _AT_HAND}
    return {**fields, "addr3": path}


def _socket(_k: Kernel, _ring: Ring) -> Fields:
    return {"fd": AF_UNIX, "off": SOCK_STREAM}


def _uring_cmd(k: Kernel, _ring: Ring) -> Fields:
    option = _SO_TYPE << 32 | _SOL_SOCKET
    fields: dict[str, Arg] = {"fd": _pair(k)[0], "off": _SOCKET_URING_OP_GETSOCKOPT}
    return {**fields, "addr": option, "file_index": 4, "addr3": _room(k)}


def _waitid(k: Kernel, _ring: Ring) -> Fields:
    child = k.fork()
    with k.child(child):
        k.exit_group(0)
    fields: dict[str, Arg] = {"fd": child, "length": _P_PID, "off": _room(k, 128)}
    return {**fields, "file_index": _WEXITED}


def _futex_wake(k: Kernel, _ring: Ring) -> Fields:
    word = _room(k)
    return {"fd": _FUTEX2_SIZE_U32, "addr": word, "off": 1, "addr3": 0xFFFFFFFF}


def _fixed_fd_install(k: Kernel, ring: Ring) -> Fields:
    files = k.struct("I", _file(k), name="files")
    k.raw("io_uring_register", ring.fd, _IORING_REGISTER_FILES, files, 1)
    return {"fd": 0, "flags": _IOSQE_FIXED_FILE}


def _ftruncate(k: Kernel, _ring: Ring) -> Fields:
    return {"fd": _file(k), "off": 4}


def _bind(k: Kernel, _ring: Ring) -> Fields:
    socket = k.socket(AF_UNIX, SOCK_DGRAM, 0)
    return {"fd": socket, "addr": k.data(_NAME, name="address"), "off": len(_NAME)}


def _listen(k: Kernel, _ring: Ring) -> Fields:
    socket = k.socket(AF_UNIX, SOCK_STREAM, 0)
    k.bind(socket, k.data(_NAME, name="address"), len(_NAME))
    return {"fd": socket, "length": 1}


def _pipe_op(k: Kernel, _ring: Ring) -> Fields:
    return {"addr": _room(k)}


_NAMED: dict[str, tuple[int, Prepare]] = {
    "NOP": (0, _nop),
    "READV": (1, _readv),
    "WRITEV": (2, _readv),
    "FSYNC": (3, _fsync),
    "READ_FIXED": (4, _fixed),
    "WRITE_FIXED": (5, _fixed),
    "POLL_ADD": (6, _poll),
    "SYNC_FILE_RANGE": (8, _sync_file_range),
    "SENDMSG": (9, _sendmsg),
    "RECVMSG": (10, _recvmsg),
    "ACCEPT": (13, _accept),
    "CONNECT": (16, _connect),
    "FALLOCATE": (17, _fallocate),
    "OPENAT": (18, _openat),
    "CLOSE": (19, _fsync),
    "FILES_UPDATE": (20, _files_update),
    "STATX": (21, _statx),
    "READ": (22, _read),
    "WRITE": (23, _read),
    "FADVISE": (24, _fadvise),
    "MADVISE": (25, _madvise),
    "SEND": (26, _send),
    "RECV": (27, _recv),
    "OPENAT2": (28, _openat2),
    "EPOLL_CTL": (29, _epoll_ctl),
    "SPLICE": (30, _splice),
    "PROVIDE_BUFFERS": (31, _provide_buffers),
    "TEE": (33, _tee),
    "SHUTDOWN": (34, _shutdown),
    "RENAMEAT": (35, _renameat),
    "UNLINKAT": (36, _unlinkat),
    "SYMLINKAT": (38, _symlinkat),
    "LINKAT": (39, _renameat),
    "MSG_RING": (40, _msg_ring),
    "FSETXATTR": (41, _fsetxattr),
    "SETXATTR": (42, _setxattr),
    "FGETXATTR": (43, _fgetxattr),
    "GETXATTR": (44, _getxattr),
    "SOCKET": (45, _socket),
    "URING_CMD": (46, _uring_cmd),
    "READ_MULTISHOT": (49, _read_multishot),
    "WAITID": (50, _waitid),
    "FUTEX_WAKE": (52, _futex_wake),
    "FIXED_FD_INSTALL": (54, _fixed_fd_install),
    "FTRUNCATE": (55, _ftruncate),
    "BIND": (56, _bind),
    "LISTEN": (57, _listen),
    "EPOLL_WAIT": (59, _epoll_wait),
    "READV_FIXED": (60, _vector_fixed),
    "WRITEV_FIXED": (61, _vector_fixed),
    "PIPE": (62, _pipe_op),
}
OPERATIONS = {number: (name, prepare) for name, (number, prepare) in _NAMED.items()}
"""By opcode: the name of ``enum io_uring_op`` and what fills the entry."""

_WITH_TABLE = (
    "READ_FIXED",
    "WRITE_FIXED",
    "FILES_UPDATE",
    "READ_MULTISHOT",
    "FIXED_FD_INSTALL",
    "READV_FIXED",
    "WRITEV_FIXED",
)
WITH_TABLE = frozenset(_NAMED[name][0] for name in _WITH_TABLE)
"""Operations on files or memory that are registered for the ring before."""

_WITH_VECTORS = (
    "READV",
    "WRITEV",
    "READ_FIXED",
    "WRITE_FIXED",
    "SENDMSG",
    "RECVMSG",
    "READV_FIXED",
    "WRITEV_FIXED",
)
WITH_VECTORS = frozenset(_NAMED[name][0] for name in _WITH_VECTORS)
"""Operations on structures that a ring of the 32-bit table reads in the 32-bit layout."""


def linked_fields(k: Kernel, ring: Ring, opcode: int, link: int) -> tuple[str, dict[str, Arg]]:
    """The name and the fields of an entry that a later one hangs on."""
    name, prepare = OPERATIONS[opcode]
    fields = dict(prepare(k, ring))
    more = fields.get("flags", 0)
    assert isinstance(more, int)
    fields["flags"] = ring.flags | link | more
    return name, fields
