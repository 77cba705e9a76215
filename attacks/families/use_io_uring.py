"""Have a ring carry out the operation of the parameter ``opcode``.

The oracle is a directory that only the ring makes: by the operation itself (IORING_OP_MKDIRAT, the
default), or by an entry that is linked behind it and so is carried out only if the kernel was
content with the operation.
"""

from attacks import deputy, ring_operations, witness
from attacks.consts import (
    AT_FDCWD,
    IOSQE_ASYNC,
    NULL,
    Named,
)
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.errors import AttackError
from attacks.family import TARGET, Assumption, Family, Need, Parameters, Technique
from attacks.kernel import Kernel
from attacks.recorder import Arg, Result
from attacks.ring import OPCODES, Ring

MKDIRAT = OPCODES["MKDIRAT"]
MODE = 0o755

_RECORDED = {
    OPCODES[name]: Named(OPCODES[name], f"IORING_OP_{name}")
    for name in ("MKDIRAT", *(name for name, _ in ring_operations.OPERATIONS.values()))
}


def _effect(parameters: Parameters) -> Effect:
    opcode = parameters["opcode"]
    if opcode not in _RECORDED:
        known = ", ".join(_RECORDED[number].text for number in sorted(_RECORDED))
        raise AttackError(f"use-io-uring: opcode={opcode} is not recorded (known: {known})")
    return Effect(EffectKind.DIRECTORY)


FAMILY = Family(
    "use-io-uring",
    title="Use io_uring",
    effect=_effect,
    objects=(Object(ObjectKind.FILE, ring_operations.FILE, 0o644, ring_operations.CONTENT),),
    parameters={"opcode": MKDIRAT},
    constants={"opcode": _RECORDED.values()},
    attack_technique="T1562",
    group="kernel surface",
    unrecorded={
        "io_uring_register(-1, IORING_REGISTER_SEND_MSG_RING)": (
            "the message lies in the memory of the subject, where nobody outside can believe it"
        ),
        "io_uring_register(-1, IORING_REGISTER_QUERY)": "only asks what the kernel knows",
        "IORING_OP_TIMEOUT": "its end ends every wait for the ring, also that for what is linked",
        "IORING_OP_FUTEX_WAIT": "without somebody who wakes it, all that it can do is fail",
        "sendmsg(SCM_RIGHTS) of a ring": "the kernel passes no rings",
    },
)
IORING_SETUP_CQSIZE = Named(0x8, "IORING_SETUP_CQSIZE")
IORING_SETUP_CLAMP = Named(0x10, "IORING_SETUP_CLAMP")
IORING_SETUP_R_DISABLED = Named(0x40, "IORING_SETUP_R_DISABLED")
IORING_SETUP_SUBMIT_ALL = Named(0x80, "IORING_SETUP_SUBMIT_ALL")
IORING_SETUP_COOP_TASKRUN = Named(0x100, "IORING_SETUP_COOP_TASKRUN")
IORING_SETUP_SINGLE_ISSUER = Named(0x1000, "IORING_SETUP_SINGLE_ISSUER")
IORING_SETUP_DEFER_TASKRUN = Named(0x2000, "IORING_SETUP_DEFER_TASKRUN")
IORING_SETUP_REGISTERED_FD_ONLY = Named(0x8000, "IORING_SETUP_REGISTERED_FD_ONLY")
IORING_REGISTER_RESTRICTIONS = Named(11, "IORING_REGISTER_RESTRICTIONS")
IORING_REGISTER_ENABLE_RINGS = Named(12, "IORING_REGISTER_ENABLE_RINGS")
IORING_REGISTER_RING_FDS = Named(20, "IORING_REGISTER_RING_FDS")
IORING_RESTRICTION_SQE_OP = 1
ANY_INDEX = 0xFFFFFFFF
IOSQE_IO_LINK = Named(4, "IOSQE_IO_LINK")


def _alone(parameters: Parameters) -> bool:
    """Whether one entry is enough."""
    return parameters["opcode"] == MKDIRAT


def _without_table(parameters: Parameters) -> bool:
    """Whether nothing else is registered for the ring, which takes the ring's descriptor."""
    return parameters["opcode"] not in ring_operations.WITH_TABLE


def _without_vectors(parameters: Parameters) -> bool:
    """Whether no structure has another layout in the 32-bit table."""
    return parameters["opcode"] not in ring_operations.WITH_VECTORS


@FAMILY.variant(Technique.BASELINE)
def io_uring(k: Kernel) -> None:
    """The calls that the author of the policy has in mind: set up, map, enter."""
    _use(k, k.ring()).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL)
def worker(k: Kernel) -> None:
    """A kernel thread carries the operation out, outside the caller's own context."""
    _use(k, k.ring().asynchronous(IOSQE_ASYNC)).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL,))
def poller(k: Kernel) -> None:
    """A kernel thread takes the entry from memory."""
    _use(k, k.ring(sqpoll=True)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=(Need.NO_MMAP,))
def own_memory(k: Kernel) -> None:
    """The ring lies in memory of the program: rules on mmap of a descriptor never see it."""
    _use(k, k.ring(mapped=False)).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, needs=(Need.SQPOLL, Need.NO_MMAP), when=_alone)
def setup_alone(k: Kernel) -> None:
    """A second ring that attaches to the first wakes its thread: io_uring_enter is never called."""
    k.woken_ring().mkdirat(AT_FDCWD, k.path(), MODE).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def setup_flags(k: Kernel) -> None:
    """The flags of a ring are behind a pointer: the ring may be of any kind."""
    flags = IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER
    _use(k, Ring.make(k, k, extra=flags | IORING_SETUP_DEFER_TASKRUN)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def enabled_later(k: Kernel) -> None:
    """The ring starts disabled, and io_uring_register sets it going."""
    ring = Ring.make(k, k, extra=IORING_SETUP_R_DISABLED)
    k.raw("io_uring_register", ring.fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0)
    _use(k, ring).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, when=_without_table)
def registered_index(k: Kernel) -> None:
    """io_uring_enter is given an index instead of a descriptor, with a flag of its own."""
    ring = k.ring()
    _use(k, ring.registered(_register(k, ring.fd))).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, needs=(Need.NO_MMAP,), when=_without_table)
def registered_only(k: Kernel) -> None:
    """The ring never has a descriptor (6.5): whoever looks into /proc/PID/fd sees none."""
    flags = IORING_SETUP_REGISTERED_FD_ONLY
    ring = Ring.make(k, k, mapped=False, extra=flags)
    _use(k, ring.registered(ring.fd)).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, when=_without_vectors)
def i386(k: Kernel) -> None:
    """The ring's calls have entries in the 32-bit table too."""
    _use(k, k.i386.ring()).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING)
def inherited(k: Kernel) -> None:
    """A ring from before the filter: only io_uring_enter is left for the filter to see."""
    _use(k, k.setup.ring().by(k)).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_RING, when=_without_table
)
def inherited_registered_index(k: Kernel) -> None:
    """A ring from before the filter, entered by an index: rules on its descriptor do not match."""
    ring = k.setup.ring()
    _use(k, ring.by(k).registered(_register(k, ring.fd))).decisive()


@FAMILY.variant(
    Technique.DESCRIPTOR_REUSE,
    assumption=Assumption.INHERITED_RING,
    needs=(Need.SQPOLL,),
    when=_alone,
)
def inherited_poller(k: Kernel) -> None:
    """A polled ring from before the filter takes the operation from memory, without any call."""
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    _use(k, ring.by(k).stores_only()).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, assumption=Assumption.UNFILTERED_NEIGHBOUR)
def stolen(k: Kernel) -> None:
    """A neighbour's ring is fetched by pidfd_getfd, so io_uring_setup need not be allowed."""
    _use(k, deputy.stolen_ring(k)).decisive()


# Seen by something else than a directory: what denies directories says nothing of rings

ATTRIBUTE, VALUE = "user.by-ring", b"value"
PLAIN = (Object(ObjectKind.FILE, TARGET, 0o644, b"plain\n"),)


def the_attribute_is_there(w: Kernel) -> None:
    found = w.buffer(64, name="found")
    w.lgetxattr(w.path(), w.text(ATTRIBUTE), found, found.size)
    witness.same(w, found, w.data(VALUE, name="wanted"), len(VALUE))


@FAMILY.variant(Technique.ASYNC_KERNEL, objects=PLAIN, looks=the_attribute_is_there, when=_alone)
def set_attribute(k: Kernel) -> None:
    """The ring sets an extended attribute, which rules on making or opening files do not see."""
    _set_attribute(k, k.ring()).decisive()


@FAMILY.variant(
    Technique.ASYNC_KERNEL, objects=PLAIN, looks=the_attribute_is_there, when=_alone, negative=True
)
def set_attribute_behind_an_error(k: Kernel) -> None:
    """The same behind an entry that fails is not carried out."""
    ring = k.ring()
    ring.wait_for_next("CLOSE", fd=-1, flags=IOSQE_IO_LINK)
    _set_attribute(k, ring).decisive()


# Controls that must not carry it out


@FAMILY.variant(Technique.ASYNC_KERNEL, negative=True)
def restricted_ring(k: Kernel) -> None:
    """A ring that is restricted to another operation refuses this one: so rings can be tamed."""
    ring = Ring.make(k, k, extra=IORING_SETUP_R_DISABLED)
    only_nop = k.struct("HBBIII", IORING_RESTRICTION_SQE_OP, 0, 0, 0, 0, 0, name="restriction")
    k.raw("io_uring_register", ring.fd, IORING_REGISTER_RESTRICTIONS, only_nop, 1)
    k.raw("io_uring_register", ring.fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0)
    ring.submit("MKDIRAT", fd=AT_FDCWD, addr=k.path(), length=MODE, may_fail=True).decisive()


@FAMILY.variant(Technique.ASYNC_KERNEL, negative=True)
def linked_behind_an_error(k: Kernel) -> None:
    """An entry behind one that fails is not carried out, on which the oracle relies."""
    ring = k.ring()
    ring.wait_for_next("CLOSE", fd=-1, flags=IOSQE_IO_LINK)
    ring.submit("MKDIRAT", fd=AT_FDCWD, addr=k.path(), length=MODE, may_fail=True).decisive()


def _use(k: Kernel, ring: Ring) -> Result:
    opcode = k.param("opcode")
    if opcode != MKDIRAT:
        name, fields = ring_operations.linked_fields(k, ring, opcode, IOSQE_IO_LINK)
        ring.wait_for_next(name, **fields)
    return ring.mkdirat(AT_FDCWD, k.path(), MODE)


def _set_attribute(k: Kernel, ring: Ring) -> Result:
    value = k.data(VALUE, name="value")
    return ring.setxattr(k.path(), k.text(ATTRIBUTE), value, len(VALUE), 0)


def _register(k: Kernel, ring: Arg) -> Result:
    update = k.struct("IIQ", ANY_INDEX, 0, ring, name="update")
    k.raw("io_uring_register", ring, IORING_REGISTER_RING_FDS, update, 1)
    return k.load(update, 0, 4)
