"""Install a segment descriptor in a table of the processor's.

A claim of the subject would prove nothing, and no file of procfs shows these tables.  The
processor does: code that loads the new selector into a segment register goes on only if there is a
descriptor, else it faults.  The trap that the judge is told of stands behind that instruction.
"""

from attacks.consts import (
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    NULL,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    SIGCHLD,
    Named,
)
from attacks.effects import Effect, EffectKind
from attacks.family import Family, Technique
from attacks.kernel import Kernel
from attacks.probe import TRAP_CODE
from attacks.recorder import Buffer, Result

FAMILY = Family(
    "install-segment",
    title="Install a segment descriptor",
    effect=lambda _: Effect(EffectKind.CODE),
    has_target=False,
    attack_technique="T1068",
    group="kernel surface",
    unrecorded={
        "modify_ldt(0), which reads the table": "nothing is installed",
        "ptrace(PTRACE_SET_THREAD_AREA)": (
            "the one who gets the descriptor is traced by the attacker, and then not by the judge"
        ),
    },
)
WRITE_OLD, WRITE = Named(1, "WRITE_OLDMODE"), Named(0x11, "WRITE")
CLONE_SETTLS = Named(0x80000, "CLONE_SETTLS")
LIMIT = 0xFFFFF
DATA_32BIT_PAGES_USEABLE = 0x51
CODE_32BIT_PAGES_USEABLE = 0x55
LDT_SELECTOR = 0x07
"""Entry 0 of the local table, ring 3."""
TLS_ENTRY = 12
"""The first of the three entries of the global table that belong to a thread."""
TLS_SELECTOR = TLS_ENTRY << 3 | 3
PAGE = 4096
CLONE_ARGS_SIZE = 64


@FAMILY.variant(Technique.BASELINE)
def modify_ldt(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    probe = _probe(k, LDT_SELECTOR)
    descriptor = _descriptor(k, 0)
    k.modify_ldt(WRITE_OLD, descriptor, descriptor.size).decisive()
    k.call(probe)


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def modify_ldt_new_mode(k: Kernel) -> None:
    """A second number does the same: a rule on the first argument may know only one."""
    probe = _probe(k, LDT_SELECTOR)
    descriptor = _descriptor(k, 0)
    k.modify_ldt(WRITE, descriptor, descriptor.size).decisive()
    k.call(probe)


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def modify_ldt_code(k: Kernel) -> None:
    """A segment of code instead of data: which one it is stands behind the pointer."""
    probe = _probe(k, LDT_SELECTOR)
    descriptor = _descriptor(k, 0, CODE_32BIT_PAGES_USEABLE)
    k.modify_ldt(WRITE, descriptor, descriptor.size).decisive()
    k.call(probe)


@FAMILY.variant(Technique.COMPAT_ABI)
def modify_ldt_i386(k: Kernel) -> None:
    """The 32-bit table has it under another number, with the same structure."""
    probe = _probe(k, LDT_SELECTOR)
    descriptor = _descriptor(k, 0)
    k.i386.modify_ldt(WRITE, descriptor, descriptor.size).decisive()
    k.call(probe)


@FAMILY.variant(Technique.COMPAT_ABI)
def set_thread_area_i386(k: Kernel) -> None:
    """The 32-bit table has a call for it that 64-bit programs lack: lists of theirs miss it."""
    probe = _probe(k, TLS_SELECTOR)
    k.i386.set_thread_area(_descriptor(k, TLS_ENTRY)).decisive()
    k.call(probe)


@FAMILY.variant(Technique.COMPAT_ABI)
def clone_settls_i386(k: Kernel) -> None:
    """A flag of the 32-bit clone installs a descriptor in the child: no call is named after it."""
    probe = _probe(k, TLS_SELECTOR)
    tls = _descriptor(k, TLS_ENTRY)
    child = k.i386.raw("clone", CLONE_SETTLS | SIGCHLD, NULL, NULL, tls, NULL).decisive()
    with k.child(child):
        k.call(probe)
    k.wait4(child, NULL, 0, NULL)


@FAMILY.variant(Technique.COMPAT_ABI)
def clone3_settls_i386(k: Kernel) -> None:
    """The same flag behind a pointer, where no filter can look."""
    probe = _probe(k, TLS_SELECTOR)
    tls = _descriptor(k, TLS_ENTRY)
    fields = (CLONE_SETTLS, 0, 0, 0, SIGCHLD, 0, 0, tls)
    arguments = k.struct("Q" * 8, *fields, name="cl_args")
    child = k.i386.clone3(arguments, CLONE_ARGS_SIZE).decisive()
    with k.child(child):
        k.call(probe)
    k.wait4(child, NULL, 0, NULL)


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def set_thread_area(k: Kernel) -> None:
    """The 64-bit table has a number for it and the kernel no code: nothing is installed."""
    probe = _probe(k, TLS_SELECTOR)
    k.set_thread_area(_descriptor(k, TLS_ENTRY)).decisive().may_fail()
    k.call(probe)


def _descriptor(k: Kernel, entry: int, flags: int = DATA_32BIT_PAGES_USEABLE) -> Buffer:
    """``struct user_desc``: which entry, base, limit and the bits."""
    return k.struct("IIII", entry, 0, LIMIT, flags, name="user_desc")


def _probe(k: Kernel, selector: int) -> Result:
    """Code that loads the selector into ``es`` and then traps."""
    code = k.data(
        b"\xb8" + selector.to_bytes(4, "little")  # mov eax, selector
        + b"\x8e\xc0"  # mov es, eax
        + TRAP_CODE,
        name="code",
    )  # fmt: skip
    rwx = PROT_READ | PROT_WRITE | PROT_EXEC
    memory = k.mmap(NULL, PAGE, rwx, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    k.copy(memory, code, code.size)
    return memory
