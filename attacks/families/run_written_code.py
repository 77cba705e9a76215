"""Run code that the process wrote itself.

Policies against it forbid memory that is writable and executable, or that becomes executable after
it was writable.  Two names for the same memory, and calls that store to memory for the kernel, get
by without either.
"""

from attacks import written_by_others as by_others
from attacks.consts import (
    AT_FDCWD,
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    MAP_SHARED,
    NULL,
    O_RDWR,
    O_TMPFILE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    Named,
)
from attacks.effects import Effect, EffectKind, Object, ObjectKind
from attacks.executable_memory import (
    ANONYMOUS,
    PAGE,
    RW,
    RWX,
    RX,
    code_bytes,
    executable,
    memfd,
    page_of,
    put_code,
    pwrite_code,
    two_mappings,
    write_and_run,
    write_then_map,
    written,
)
from attacks.family import TARGET, Assumption, Family, Fresh, Technique
from attacks.kernel import Kernel
from attacks.program import Environment
from attacks.recorder import Result

PROT_SEM = Named(0x8, "PROT_SEM")
PROT_GROWSDOWN = Named(0x01000000, "PROT_GROWSDOWN")
UNKNOWN_PROT = 0x10000000
MAP_GROWSDOWN = Named(0x100, "MAP_GROWSDOWN")
MREMAP_MAYMOVE = Named(1, "MREMAP_MAYMOVE")
READ_IMPLIES_EXEC = Named(0x400000, "READ_IMPLIES_EXEC")
MFD_NOEXEC_SEAL = Named(8, "MFD_NOEXEC_SEAL")
NO_KEY = -1
IPC_PRIVATE = Named(0, "IPC_PRIVATE")
IPC_CREAT = Named(0o1000, "IPC_CREAT")
SHM_EXEC = Named(0o100000, "SHM_EXEC")
SHM_RDONLY = Named(0o10000, "SHM_RDONLY")
SHMAT, SHMGET = Named(21, "SHMAT"), Named(23, "SHMGET")
IOCB_CMD_PWRITE = Named(1, "IOCB_CMD_PWRITE")
NEW_SHARED_MEMORY = (Fresh.IPC,)

FAMILY = Family(
    "run-written-code",
    title="Run code that the process wrote",
    effect=lambda _: Effect(EffectKind.CODE),
    objects=(Object(ObjectKind.FILE, TARGET, 0o644, bytes(64)),),
    has_target=False,
    attack_technique="T1055",
    group="execution and memory",
    unrecorded={
        "open(/dev/zero), mmap(PROT_READ|PROT_WRITE|PROT_EXEC, MAP_PRIVATE)": (
            "nothing outside the working directory is opened; the mapping is that of mmap_rwx"
        ),
        "open(/dev/shm/...), two mappings": "the same as two mappings of any other file",
        "open(/dev/userfaultfd), ioctl(USERFAULTFD_IOC_NEW)": (
            "the device belongs to root of the host and is not in the sandbox"
        ),
    },
)


# Memory that is both


@FAMILY.variant(Technique.BASELINE)
def mmap_rwx(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    write_and_run(k, k.mmap(NULL, PAGE, RWX, ANONYMOUS, -1, 0).decisive())


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def mmap_rwx_prot_sem(k: Kernel) -> None:
    """A protection bit without meaning passes filters that compare the protection for equality."""
    write_and_run(k, k.mmap(NULL, PAGE, RWX | PROT_SEM, ANONYMOUS, -1, 0).decisive())


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def mmap_rwx_unknown_bits(k: Kernel) -> None:
    """Unlike mprotect, mmap ignores protection bits that it does not know, in the low half too."""
    write_and_run(k, k.mmap(NULL, PAGE, RWX | UNKNOWN_PROT, ANONYMOUS, -1, 0).decisive())


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def mmap_write_exec(k: Kernel) -> None:
    """Without PROT_READ the value is another, and the processor lets it be read all the same."""
    write_and_run(k, k.mmap(NULL, PAGE, PROT_WRITE | PROT_EXEC, ANONYMOUS, -1, 0).decisive())


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def mmap_rwx_shared(k: Kernel) -> None:
    """Shared instead of private: the flags are not those that a rule may compare with."""
    write_and_run(k, k.mmap(NULL, PAGE, RWX, MAP_SHARED | MAP_ANONYMOUS, -1, 0).decisive())


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.TRUSTED_SETUP)
def inherited_rwx_mapping(k: Kernel) -> None:
    """Memory of this kind from before the filter: nothing is left for a filter to see."""
    memory = k.setup.mmap(NULL, PAGE, RWX, ANONYMOUS, -1, 0)
    put_code(k, memory)
    k.call(memory).decisive()


# Writable first, executable later


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def mprotect_rx(k: Kernel) -> None:
    """What compilers at run time do: never writable and executable at once."""
    memory = written(k)
    k.mprotect(memory, PAGE, RX).decisive()
    k.call(memory)


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def mprotect_exec_only(k: Kernel) -> None:
    """PROT_EXEC alone is enough to run it, and is not the value that a rule may compare with."""
    memory = written(k)
    k.mprotect(memory, PAGE, PROT_EXEC).decisive()
    k.call(memory)


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def mprotect_rwx(k: Kernel) -> None:
    """Memory becomes both by mprotect, where a rule looks at mmap alone."""
    memory = k.mmap(NULL, PAGE, RW, ANONYMOUS, -1, 0)
    k.mprotect(memory, PAGE, RWX).decisive()
    write_and_run(k, memory)


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def mprotect_rx_prot_sem(k: Kernel) -> None:
    """The one protection bit without meaning that mprotect accepts too."""
    memory = written(k)
    k.mprotect(memory, PAGE, RX | PROT_SEM).decisive()
    k.call(memory)


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def mprotect_growsdown(k: Kernel) -> None:
    """On memory that grows like a stack, one more bit is accepted and compares unequal."""
    memory = k.mmap(NULL, PAGE, RW, ANONYMOUS | MAP_GROWSDOWN, -1, 0)
    put_code(k, memory)
    k.mprotect(memory, PAGE, RX | PROT_GROWSDOWN).decisive()
    k.call(memory)


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def mprotect_data(k: Kernel) -> None:
    """Data that the process was started with becomes code: nothing is mapped at all."""
    data = k.buffer(PAGE, align=PAGE, name="page")
    k.mprotect(data, PAGE, RWX).decisive()
    write_and_run(k, data)


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def mprotect_text(k: Kernel) -> None:
    """The program's own text is made writable for a moment, and written over."""
    hook = k.env(Environment.VICTIM_HOOK)
    k.mprotect(page_of(k, hook), PAGE, RWX).decisive()
    write_and_run(k, hook)


@FAMILY.variant(Technique.NEWER_SYSCALL)
def pkey_mprotect(k: Kernel) -> None:
    """Without a key it is mprotect; lists that name mprotect alone miss it."""
    memory = written(k)
    k.pkey_mprotect(memory, PAGE, RX, NO_KEY).decisive()
    k.call(memory)


# Readable means executable


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def personality_mmap(k: Kernel) -> None:
    """A personality for old programs makes readable memory executable: PROT_EXEC is never said."""
    k.personality(READ_IMPLIES_EXEC).decisive()
    write_and_run(k, k.mmap(NULL, PAGE, RW, ANONYMOUS, -1, 0))


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def personality_mprotect(k: Kernel) -> None:
    """Under that personality PROT_READ adds the right to memory that is there already."""
    memory = written(k)
    k.personality(READ_IMPLIES_EXEC).decisive()
    k.mprotect(memory, PAGE, PROT_READ)
    k.call(memory)


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def personality_brk(k: Kernel) -> None:
    """Under that personality the heap grows executable: brk has no protection to look at."""
    k.personality(READ_IMPLIES_EXEC).decisive()
    end = k.brk(NULL)
    k.brk(k.add(end, 3 * PAGE))
    write_and_run(k, k.add(end, PAGE))


# One piece of memory under two names


@FAMILY.variant(Technique.MEMORY_ALIAS)
def memfd_two_mappings(k: Kernel) -> None:
    """No mapping is ever both: one is written, the other runs."""
    two_mappings(k, memfd(k))


@FAMILY.variant(Technique.MEMORY_ALIAS)
def memfd_write_map(k: Kernel) -> None:
    """Written as a file, mapped as a program: the memory was never writable."""
    write_then_map(k, k.memfd_create(k.text("m"), 0))


@FAMILY.variant(Technique.MEMORY_ALIAS)
def memfd_noexec_write_map(k: Kernel) -> None:
    """The seal against execution (6.3) forbids execve, and not to map the file executable."""
    write_then_map(k, k.memfd_create(k.text("m"), MFD_NOEXEC_SEAL))


@FAMILY.variant(Technique.MEMORY_ALIAS)
def memfd_map_write(k: Kernel) -> None:
    """Mapped executable while it was empty: the code comes by pwrite, which no rule suspects."""
    file = memfd(k)
    memory = k.mmap(NULL, PAGE, RX, MAP_SHARED, file, 0)
    pwrite_code(k, file, 0).decisive()
    k.call(memory)


@FAMILY.variant(Technique.MEMORY_ALIAS)
def file_two_mappings(k: Kernel) -> None:
    """An ordinary file in the place of a memfd, where rules forbid memfd_create."""
    two_mappings(k, k.open(k.path(), O_RDWR))


@FAMILY.variant(Technique.MEMORY_ALIAS)
def file_write_map(k: Kernel) -> None:
    """What is mapped looks like any library: a private, executable mapping of a file."""
    file = k.open(k.path(), O_RDWR)
    pwrite_code(k, file, 0)
    k.call(k.mmap(NULL, PAGE, RX, MAP_PRIVATE, file, 0).decisive())


@FAMILY.variant(Technique.MEMORY_ALIAS)
def file_map_write(k: Kernel) -> None:
    """The file was mapped executable with harmless contents, and is written afterwards."""
    file = k.open(k.path(), O_RDWR)
    memory = k.mmap(NULL, PAGE, RX, MAP_SHARED, file, 0)
    pwrite_code(k, file, 0).decisive()
    k.call(memory)


@FAMILY.variant(Technique.ASYNC_KERNEL)
def file_map_io_uring_write(k: Kernel) -> None:
    """A ring writes the file that is mapped: no write call and nothing writable."""
    file = k.open(k.path(), O_RDWR)
    memory = k.mmap(NULL, PAGE, RX, MAP_SHARED, file, 0)
    code = code_bytes(k)
    k.ring().submit("WRITE", fd=file, addr=code, length=code.size).decisive()
    k.call(memory)


@FAMILY.variant(Technique.MEMORY_ALIAS)
def tmpfile_two_mappings(k: Kernel) -> None:
    """A file without a name: nothing is there for rules on paths."""
    file = k.openat(AT_FDCWD, k.parent(), O_TMPFILE | O_RDWR, 0o600)
    k.ftruncate(file, PAGE)
    two_mappings(k, file)


@FAMILY.variant(Technique.MEMORY_ALIAS, fresh=NEW_SHARED_MEMORY)
def shmat_two_mappings(k: Kernel) -> None:
    """System V shared memory has calls of its own for what mmap does."""
    segment = _segment(k)
    writable = k.shmat(segment, NULL, 0)
    memory = k.shmat(segment, NULL, SHM_RDONLY | SHM_EXEC).decisive()
    put_code(k, writable)
    k.call(memory)


@FAMILY.variant(Technique.SIBLING_SYSCALL, fresh=NEW_SHARED_MEMORY)
def shmat_rwx(k: Kernel) -> None:
    """The protection is a flag of shmat, which lists about mmap and mprotect leave out."""
    write_and_run(k, k.shmat(_segment(k), NULL, SHM_EXEC).decisive())


@FAMILY.variant(Technique.MEMORY_ALIAS)
def mremap_alias(k: Kernel) -> None:
    """A length of zero makes mremap map shared memory a second time; the copy is made writable."""
    memory = k.mmap(NULL, PAGE, RX, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
    alias = k.mremap(memory, 0, PAGE, MREMAP_MAYMOVE)
    k.mprotect(alias, PAGE, RW).decisive()
    put_code(k, alias)
    k.call(memory)


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def inherited_mapping_map_exec(k: Kernel) -> None:
    """The writable mapping is older than the filter, which only sees a read-only executable one."""
    file = memfd(k.setup)
    writable = k.setup.mmap(NULL, PAGE, RW, MAP_SHARED, file, 0)
    memory = k.mmap(NULL, PAGE, RX, MAP_SHARED, file, 0).decisive()
    put_code(k, writable)
    k.call(memory)


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def inherited_exec_mapping_write(k: Kernel) -> None:
    """The executable mapping is older than the filter, which only sees a write to a file."""
    file = memfd(k.setup)
    memory = k.setup.mmap(NULL, PAGE, RX, MAP_SHARED, file, 0)
    pwrite_code(k, file, 0).decisive()
    k.call(memory)


# Memory that somebody else writes: no protection of ours counts


for _recipe in (
    by_others.proc_mem,
    by_others.proc_mem_lseek_write,
    by_others.proc_thread_mem,
    by_others.proc_mem_private_file,
    by_others.proc_mem_text,
    by_others.proc_mem_vdso,
):
    FAMILY.variant(Technique.PROC_INTERFACE)(_recipe)

FAMILY.variant(Technique.ASYNC_KERNEL)(by_others.proc_mem_io_uring)
FAMILY.variant(Technique.COMPAT_ABI)(by_others.proc_mem_i386)
FAMILY.variant(Technique.MEMORY_ALIAS)(by_others.userfaultfd_copy)

for _recipe in (
    by_others.io_uring_fixed_buffer,
    by_others.io_uring_fixed_buffer_alias,
):
    FAMILY.variant(Technique.ASYNC_KERNEL)(_recipe)

FAMILY.variant(Technique.SIBLING_SYSCALL)(by_others.ptrace_poketext)


# The 32-bit table, where the arguments have another shape


@FAMILY.variant(Technique.COMPAT_ABI)
def mmap2_rwx_i386(k: Kernel) -> None:
    """The 32-bit table calls it mmap2, which has no 64-bit twin for a list to be copied from."""
    write_and_run(k, k.i386.raw("mmap2", NULL, PAGE, RWX, ANONYMOUS, -1, 0).decisive())


@FAMILY.variant(Technique.COMPAT_ABI)
def mmap_rwx_i386(k: Kernel) -> None:
    """The oldest mmap takes all its arguments in memory, where no filter can look."""
    arguments = k.struct("IIIIII", 0, PAGE, RWX, ANONYMOUS, 0xFFFFFFFF, 0, name="arguments")
    write_and_run(k, k.i386.raw("mmap", arguments).decisive())


@FAMILY.variant(Technique.MULTIPLEXER, fresh=NEW_SHARED_MEMORY)
def ipc_shmat_i386(k: Kernel) -> None:
    """One call of the 32-bit table does all of System V IPC, and returns the address in memory."""
    segment = k.i386.ipc(SHMGET, IPC_PRIVATE, PAGE, IPC_CREAT | 0o777, NULL, 0)
    address = k.buffer(8, name="address")
    k.i386.ipc(SHMAT, segment, SHM_EXEC, address, NULL, 0).decisive()
    write_and_run(k, k.load(address, 0, 4))


# Controls that must not run what was written


@FAMILY.variant(Technique.WIDE_ARGUMENT, negative=True)
def mprotect_wide_prot(k: Kernel) -> None:
    """Unlike others, mprotect checks all 64 bits of its protection: garbage is refused."""
    memory = written(k)
    k.mprotect(memory, PAGE, 0x100000000 | RX).decisive().may_fail()
    k.call(memory)


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def process_vm_writev_self(k: Kernel) -> None:
    """Unlike the file in procfs, process_vm_writev honours the protection of a page."""
    memory = executable(k)
    code = code_bytes(k)
    local = k.struct("QQ", code, code.size, name="local")
    remote = k.struct("QQ", memory, code.size, name="remote")
    pid = k.getpid()
    k.process_vm_writev(pid, local, 1, remote, 1, 0).decisive().may_fail()
    k.call(memory)


@FAMILY.variant(Technique.MEMORY_ALIAS, negative=True)
def memfd_secret_two_mappings(k: Kernel) -> None:
    """Memory of memfd_secret cannot be mapped executable."""
    file = k.memfd_secret(0)
    k.ftruncate(file, PAGE)
    two_mappings(k, file)


@FAMILY.variant(Technique.PROC_INTERFACE, negative=True)
def proc_mem_aio(k: Kernel) -> None:
    """The old asynchronous I/O refuses this file, unlike a ring."""
    memory = executable(k)
    file = k.open(k.proc("self/mem"), O_RDWR)
    context = k.buffer(8, name="context")
    k.io_setup(4, context)
    code = code_bytes(k)
    block = k.struct(
        "QIIHHIQQQQII", 0, 0, 0, IOCB_CMD_PWRITE, 0, file, code, code.size, memory, 0, 0, 0
    )
    k.io_submit(k.load(context), 1, k.struct("Q", block)).decisive().may_fail()
    k.call(memory)


def _segment(k: Kernel) -> Result:
    return k.shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0o777)
