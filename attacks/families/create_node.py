"""Create a node that is neither file, directory nor link; ``type`` says which: its S_IF... bits.

A pipe with a name (the default), a socket (0140000) or a character device (020000).  A new inode of
the type at the target, or one more link of one, is exact; a node that was moved there, or is seen
through a mount, is equivalent.  The only character device that a sandbox can make is the whiteout,
with number 0:0.
"""

import struct

from attacks import deputy, inode
from attacks.consts import (
    AF_UNIX,
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_FOLLOW,
    MS_BIND,
    NULL,
    O_CREAT,
    O_DIRECTORY,
    O_NOCTTY,
    O_PATH,
    O_RDWR,
    O_WRONLY,
    RENAME_WHITEOUT,
    S_IFCHR,
    S_IFIFO,
    S_IFSOCK,
    SOCK_DGRAM,
    SOCK_STREAM,
    SYS_BIND,
    SYS_SOCKET,
    Named,
)
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.errors import AttackError
from attacks.family import NEAR, TARGET, Assumption, Family, Fresh, Need, Parameters, Technique
from attacks.kernel import Kernel
from attacks.recorder import Buffer, Result

SYS_MKNOD = Named(133, "SYS_mknod")
MODE = 0o644
TYPES = {int(kind): kind for kind in (S_IFIFO, S_IFCHR, S_IFSOCK)}


def _effect(parameters: Parameters) -> Effect:
    if parameters["type"] not in TYPES:
        known = ", ".join(f"{kind:#o} ({kind.text})" for kind in TYPES.values())
        raise AttackError(f"create-node: type={parameters['type']:#o} is none of {known}")
    return Effect(EffectKind.WITNESSED)


FAMILY = Family(
    "create-node",
    title="Create a named pipe, socket or device node",
    effect=_effect,
    parameters={"type": int(S_IFIFO)},
    constants={"type": TYPES.values()},
    stays=True,  # a terminal's node goes with whoever holds its master
    group="file system",
    unrecorded={
        "mknod of a block device, or of a character device other than 0:0": (
            "needs CAP_MKNOD in the initial user namespace, which no sandbox has"
        ),
    },
)
SOURCE = (
    Object(ObjectKind.DIRECTORY, f"{NEAR}src", 0o755),
    Object(ObjectKind.FIFO, f"{NEAR}src/t", MODE),
)
EMPTY_SOURCE = (Object(ObjectKind.DIRECTORY, f"{NEAR}src", 0o755),)
OVERLAY = (
    Object(ObjectKind.DIRECTORY, "src", 0o755),
    Object(ObjectKind.FILE, "src/t", 0o644, b"source\n"),
    Object(ObjectKind.DIRECTORY, "wk", 0o755),
    Object(ObjectKind.DIRECTORY, "mnt", 0o755),
)
IN_THE_WAY = Object(ObjectKind.FILE, TARGET, 0o644, b"in the way\n")
ADMIN = (Need.CAP_SYS_ADMIN,)
MOUNTS = (Fresh.MOUNT,)


def _is_pipe(parameters: Parameters) -> bool:
    return parameters["type"] == S_IFIFO


def _is_socket(parameters: Parameters) -> bool:
    return parameters["type"] == S_IFSOCK


def _is_device(parameters: Parameters) -> bool:
    return parameters["type"] == S_IFCHR


@FAMILY.witness
def a_node_of_the_type(w: Kernel) -> None:
    inode.is_of_type(w, inode.shown(w, w.path()), w.param("type"))


# Direct calls


@FAMILY.variant(Technique.BASELINE)
def mknod(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.mknod(k.path(), _mode(k), 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def mknodat(k: Kernel) -> None:
    """The *at sibling is what mkfifo calls; lists that name mknod often forget it."""
    k.mknodat(AT_FDCWD, k.path(), _mode(k), 0).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def mknodat_dirfd(k: Kernel) -> None:
    """A real dirfd defeats rules that only match AT_FDCWD."""
    here = k.open(k.parent(), O_PATH | O_DIRECTORY)
    k.mknodat(here, k.name(), _mode(k), 0).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def mknodat_inherited_dirfd(k: Kernel) -> None:
    """The directory was opened before the filter: rules on open never see it."""
    here = k.setup.open(k.parent(), O_PATH | O_DIRECTORY)
    k.mknodat(here, k.name(), _mode(k), 0).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def mknod_proc_fd(k: Kernel) -> None:
    """A descriptor's link in procfs turns it into a path, so plain mknod is relative to it."""
    here = k.open(k.parent(), O_PATH)
    k.mknod(k.proc_fd(here, f"/{k.recording.effect.name}"), _mode(k), 0).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def mknod_mode_bit_16(k: Kernel) -> None:
    """The kernel reads 16 bits of the mode: a rule that compares the type in 32 bits misses."""
    k.mknod(k.path(), 0x7FFF0000 | _mode(k), 0).decisive()


# A pipe that is there already


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=SOURCE, when=_is_pipe)
def link(k: Kernel) -> None:
    """A pipe gets one more name: link takes every type but directories."""
    k.link(k.source(), k.path()).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=SOURCE, when=_is_pipe)
def linkat(k: Kernel) -> None:
    """The *at sibling of link."""
    k.linkat(AT_FDCWD, k.source(), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE,
    assumption=Assumption.INHERITED_DESCRIPTOR,
    objects=SOURCE,
    when=_is_pipe,
)
def linkat_inherited_path_fd(k: Kernel) -> None:
    """A descriptor that cannot even be read from gives the pipe a name in a new place."""
    node = k.setup.open(k.source(), O_PATH)
    k.linkat(AT_FDCWD, k.proc_fd(node), AT_FDCWD, k.path(), AT_SYMLINK_FOLLOW).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL, objects=SOURCE, when=_is_pipe)
def linkat_empty_path(k: Kernel) -> None:
    """Since 6.10 no capability is needed to link what a descriptor stands for."""
    node = k.open(k.source(), O_PATH)
    k.linkat(node, k.text(""), AT_FDCWD, k.path(), AT_EMPTY_PATH).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, grade=Grade.EQUIVALENT, objects=SOURCE, when=_is_pipe)
def rename(k: Kernel) -> None:
    """Rename does not care what it moves: a rule on its arguments cannot see the type."""
    k.rename(k.source(), k.path()).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    grade=Grade.EQUIVALENT,
    needs=ADMIN,
    fresh=MOUNTS,
    objects=(*SOURCE, IN_THE_WAY),
    when=_is_pipe,
)
def bind_mount(k: Kernel) -> None:
    """A pipe from elsewhere is mounted over a file."""
    k.mount(k.source(), k.path(), NULL, MS_BIND, NULL).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, objects=SOURCE, when=_is_pipe)
def io_uring_linkat(k: Kernel) -> None:
    """Rings cannot make nodes, but they link them."""
    k.ring().linkat(AT_FDCWD, k.source(), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(
    Technique.ASYNC_KERNEL,
    needs=(Need.SQPOLL, Need.NO_MMAP),
    objects=SOURCE,
    when=_is_pipe,
)
def io_uring_setup_only_linkat(k: Kernel) -> None:
    """A second ring that attaches to the first wakes its thread: io_uring_enter is never called."""
    k.woken_ring().linkat(AT_FDCWD, k.source(), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE,
    assumption=Assumption.INHERITED_RING,
    needs=(Need.SQPOLL,),
    objects=SOURCE,
    when=_is_pipe,
)
def io_uring_inherited_sqpoll_linkat(k: Kernel) -> None:
    """A polled ring from before the filter takes the operation from memory, without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    ring.by(k).stores_only().linkat(AT_FDCWD, k.source(), AT_FDCWD, k.path(), 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, grade=Grade.EQUIVALENT, objects=SOURCE, when=_is_pipe)
def io_uring_renameat(k: Kernel) -> None:
    """A ring moves a pipe in without a rename call."""
    k.ring().renameat(AT_FDCWD, k.source(), AT_FDCWD, k.path()).decisive()


# Sockets with a name


@FAMILY.variant(Technique.INDIRECT_OBJECT, when=_is_socket)
def bind_stream(k: Kernel) -> None:
    """Naming a socket makes a node; the path is behind a pointer to an address."""
    _bind(k, k.socket(AF_UNIX, SOCK_STREAM, 0))


@FAMILY.variant(Technique.INDIRECT_OBJECT, when=_is_socket)
def bind_datagram(k: Kernel) -> None:
    """A rule that stops stream sockets, as those for servers do, lets this one through."""
    _bind(k, k.socket(AF_UNIX, SOCK_DGRAM, 0))


@FAMILY.variant(Technique.INDIRECT_OBJECT, when=_is_socket)
def bind_socketpair(k: Kernel) -> None:
    """One end of a pair can be named as well: socket is never called."""
    pair = k.buffer(8, name="pair")
    k.socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)
    address = _address(k)
    k.bind(k.load(pair, 0, 4), address, address.size).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR, when=_is_socket
)
def bind_inherited(k: Kernel) -> None:
    """The socket was made before the filter: bind is all that is left to see."""
    _bind(k, k.setup.socket(AF_UNIX, SOCK_STREAM, 0))


@FAMILY.variant(Technique.ASYNC_KERNEL, when=_is_socket)
def io_uring_bind(k: Kernel) -> None:
    """A ring names the socket: no bind call is made."""
    address = _address(k)
    socket = k.socket(AF_UNIX, SOCK_STREAM, 0)
    k.ring().bind(socket, address, address.size).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, when=_is_socket)
def io_uring_socket_bind(k: Kernel) -> None:
    """The ring makes the socket too: there is neither a socket nor a bind call."""
    address = _address(k)
    ring = k.ring()
    socket = ring.submit("SOCKET", fd=AF_UNIX, off=SOCK_STREAM)
    ring.bind(socket, address, address.size).decisive()


@FAMILY.variant(Technique.MULTIPLEXER, when=_is_socket)
def socketcall_bind_i386(k: Kernel) -> None:
    """One 32-bit call stands for all socket calls and hides their arguments behind a pointer."""
    wanted = k.struct("III", AF_UNIX, SOCK_STREAM, 0, name="socket_args")
    socket = k.i386.socketcall(SYS_SOCKET, wanted)
    address = _address(k)
    args = k.struct("III", socket, address, address.size, name="bind_args")
    k.i386.socketcall(SYS_BIND, args).decisive()


# Device nodes


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=(*EMPTY_SOURCE, IN_THE_WAY), when=_is_device)
def renameat2_whiteout(k: Kernel) -> None:
    """A file is moved away and a flag of rename leaves a device node in its place."""
    k.renameat2(AT_FDCWD, k.path(), AT_FDCWD, k.source("u"), RENAME_WHITEOUT).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, objects=(*EMPTY_SOURCE, IN_THE_WAY), when=_is_device)
def io_uring_rename_whiteout(k: Kernel) -> None:
    """A ring renames with the same flag: rings make device nodes after all."""
    ring = k.ring()
    ring.renameat(AT_FDCWD, k.path(), AT_FDCWD, k.source("u"), RENAME_WHITEOUT).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    needs=ADMIN,
    fresh=MOUNTS,
    objects=OVERLAY,
    relocatable=False,
    when=_is_device,
)
def overlay_unlink(k: Kernel) -> None:
    """Deleting through an overlay makes a whiteout in its upper layer: unlink creates a node."""
    options = k.text(f"lowerdir=src,upperdir={k.recording.effect.parent},workdir=wk")
    k.mount(k.text("overlay"), k.relative("mnt"), k.text("overlay"), 0, options)
    k.unlink(k.relative("mnt/t")).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    grade=Grade.EQUIVALENT,
    needs=ADMIN,
    fresh=MOUNTS,
    objects=(IN_THE_WAY,),
    when=_is_device,
)
def bind_mount_device(k: Kernel) -> None:
    """A device that is there already, mounted over a file, is a real one at a new path."""
    k.mount(k.text("/dev/null"), k.path(), NULL, MS_BIND, NULL).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    grade=Grade.EQUIVALENT,
    needs=ADMIN,
    fresh=MOUNTS,
    target_name="ptmx",
    when=_is_device,
)
def mount_devpts(k: Kernel) -> None:
    """A terminal file system over the parent brings a device node of its own."""
    options = k.text("newinstance,ptmxmode=0666")
    k.mount(k.text("devpts"), k.parent(), k.text("devpts"), 0, options).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    assumption=Assumption.TRUSTED_SETUP,
    needs=ADMIN,
    fresh=MOUNTS,
    target_name="0",
    when=_is_device,
)
def open_ptmx(k: Kernel) -> None:
    """Opening a terminal's master makes the slave's node: an open without O_CREAT creates."""
    options = k.text("newinstance,ptmxmode=0666,mode=0600")
    k.setup.mount(k.text("devpts"), k.parent(), k.text("devpts"), 0, options)
    master = k.text(f"{k.recording.effect.parent}/ptmx")
    k.open(master, O_RDWR | O_NOCTTY).decisive()


# Somebody else


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR, when=_is_pipe)
def ptrace_neighbour(k: Kernel) -> None:
    """A neighbour without the filter is made to call mknod by planting an instruction in it."""
    deputy.traced_call(k, SYS_MKNOD, k.path(), _mode(k))


# Controls that must not make a node


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def open_with_type(k: Kernel) -> None:
    """Open drops the type from the mode that it is given: it makes a regular file."""
    k.open(k.path(), O_CREAT | O_WRONLY, _mode(k)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def mknod_without_type(k: Kernel) -> None:
    """A mode without a type stands for a regular file, so a rule may let mknod with it through."""
    k.mknod(k.path(), MODE, 0).decisive()


def _mode(k: Kernel) -> int:
    return TYPES[k.param("type")] | MODE


def _bind(k: Kernel, socket: Result) -> None:
    address = _address(k)
    k.bind(socket, address, address.size).decisive()


def _address(k: Kernel) -> Buffer:
    """The target as a ``sockaddr_un``."""
    path = k.recording.effect.path.encode() + b"\0"
    return k.data(struct.pack("<H", AF_UNIX) + path, name="address")
