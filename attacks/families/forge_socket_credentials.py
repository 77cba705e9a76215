"""Have a peer told, by the kernel, that a message is from another user.

The witness has a socket that asks for the sender's credentials, and looks for user 7 in them.
"""

from attacks import namespaces
from attacks.consts import AF_UNIX, NULL, SOCK_DGRAM
from attacks.consts_namespaces import MSG_DONTWAIT, SCM_CREDENTIALS, SO_PASSCRED, SOL_SOCKET
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.family import Family, Need, Technique
from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.recorder import Buffer, Result

FAMILY = Family(
    "forge-socket-credentials",
    title="Forge the credentials of a message",
    effect=lambda _: Effect(EffectKind.WITNESSED),
    objects=(Object(ObjectKind.DIRECTORY, "open", 0o777),),
    has_target=False,
    needs=lambda _: (Need.MANY_IDS,),
    group="identity",
    unrecorded={
        "sendmsg of SCM_CREDENTIALS with another pid": (
            "the witness is in another pid namespace, and cannot tell whose number it is told"
        ),
    },
)
UID = 7
SETUID = (Need.CAP_SETUID,)
_ADDRESS = AF_UNIX.to_bytes(2, "little") + b"open/socket\0"
_MSGHDR, _MMSGHDR = 56, 64
_UID_AT = 20
"""In the control message: behind its header and the pid."""


@FAMILY.witness
def another_user_wrote(w: Kernel) -> None:
    before = w.setup
    socket = before.socket(AF_UNIX, SOCK_DGRAM, 0)
    before.raw("unlink", before.text("open/socket")).may_fail()
    before.bind(socket, before.data(_ADDRESS, name="address"), len(_ADDRESS))
    before.raw("chmod", before.text("open/socket"), 0o777)
    one = before.struct("I", 1, name="one")
    before.setsockopt(socket, SOL_SOCKET, SO_PASSCRED, one, one.size)
    control = w.buffer(32, name="control")
    w.copy(control, w.buffer(32, name="zeros"), control.size)
    w.recvmsg(socket, namespaces.message(w, control), MSG_DONTWAIT)
    seen = w.load(control, _UID_AT, 4)
    w.expect(w.add(seen, w.env(Environment.ID_OFFSET)), (1 << 64) - 1, UID)


@FAMILY.variant(Technique.BASELINE, needs=SETUID, references=("man 7 unix",))
def sendmsg(k: Kernel) -> None:
    """The call that the author of the policy has in mind: the credentials are in the message."""
    k.sendmsg(_socket(k), _message(k, UID), 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=SETUID)
def sendmmsg(k: Kernel) -> None:
    """The call for many messages, under a number of its own."""
    many = k.buffer(_MMSGHDR, name="mmsghdr")
    k.copy(many, _message(k, UID), _MSGHDR)
    k.sendmmsg(_socket(k), many, 1, 0).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=SETUID)
def io_uring_sendmsg(k: Kernel) -> None:
    """A ring sends the message: no call of the socket's is made."""
    socket, message = _socket(k), _message(k, UID)
    k.ring().submit("SENDMSG", fd=socket, addr=message, length=1).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=SETUID)
def sendto_real_id(k: Kernel) -> None:
    """Without credentials in the message the kernel tells the real id, which can be another."""
    k.setreuid(UID, -1)
    socket = _socket(k)
    k.sendto(socket, k.buffer(8, name="byte"), 1, 0, NULL, 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=SETUID, negative=True)
def sendmsg_own(k: Kernel) -> None:
    """With its own credentials the message says who sent it."""
    k.sendmsg(_socket(k), _message(k, 0), 0).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def sendmsg_unmapped(k: Kernel) -> None:
    """A user that the namespace does not know is refused."""
    k.sendmsg(_socket(k), _message(k, 1 << 20), 0).decisive().may_fail()


def _socket(k: Kernel) -> Result:
    """Connected to the witness's."""
    socket = k.socket(AF_UNIX, SOCK_DGRAM, 0)
    k.connect(socket, k.data(_ADDRESS, name="address"), len(_ADDRESS))
    return socket


def _message(k: Kernel, uid: int) -> Buffer:
    credentials = (k.getpid(), uid, 0)
    layout = "QIIIIIxxxx"
    control = k.struct(layout, 28, SOL_SOCKET, SCM_CREDENTIALS, *credentials, name="control")
    return namespaces.message(k, control)
