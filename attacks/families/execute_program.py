"""Execute a program."""

from msgspec.structs import replace

from attacks.calls.operand import Fd
from attacks.consts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    FSCONFIG_CMD_CREATE,
    MAP_PRIVATE,
    MFD_CLOEXEC,
    MS_BIND,
    NULL,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    O_TMPFILE,
    O_TRUNC,
    O_WRONLY,
    OPEN_TREE_CLONE,
    PROT_EXEC,
    PROT_READ,
    Named,
)
from attacks.effects import Effect, EffectKind, Grade, Object, ObjectKind
from attacks.family import Assumption, Family, Fresh, Need, Technique
from attacks.kernel import Kernel
from attacks.probe import CODE_OFFSET, dynamic_probe_elf, probe_elf
from attacks.recorder import Arg, Buffer, Result

AT_EXECVE_CHECK = Named(0x10000, "AT_EXECVE_CHECK")
F_ADD_SEALS = Named(1033, "F_ADD_SEALS")
F_SEAL_ALL = Named(0xF, "F_SEAL_SEAL|F_SEAL_SHRINK|F_SEAL_GROW|F_SEAL_WRITE")
MFD_ALLOW_SEALING = Named(2, "MFD_ALLOW_SEALING")
MFD_NOEXEC_SEAL = Named(8, "MFD_NOEXEC_SEAL")
MFD_EXEC = Named(0x10, "MFD_EXEC")
_PAGE = 4096
_HANDLE_BYTES = 128

FAMILY = Family(
    "execute-program",
    title="Execute a program",
    group="execution and memory",
    effect=lambda _: Effect(EffectKind.EXECUTED, "d", "prog"),
    objects=(Object(ObjectKind.PROBE, "d/prog", 0o755),),
    attack_technique="T1106",
    has_target=False,
)

_NOT_EXECUTABLE = (Object(ObjectKind.PROBE, "d/prog", 0o644),)
_DYNAMIC = Object(ObjectKind.FILE, "d/prog", 0o755, dynamic_probe_elf())
_ALLOWED = (
    Object(ObjectKind.DIRECTORY, "ok", 0o755),
    Object(ObjectKind.FILE, "ok/allowed", 0o755, b"#!/bin/false\n"),
)
_SCRIPT = (Object(ObjectKind.FILE, "d/script", 0o755, b"#!d/prog\n"),)
_PROBE32 = (Object(ObjectKind.PROBE32, "d/prog32", 0o755),)
_MAGIC = (
    Object(ObjectKind.FILE, "d/magic", 0o755, b"VTMAGIC\n"),
    Object(ObjectKind.DIRECTORY, "bm", 0o755),
)
_OVERLAY = tuple(Object(ObjectKind.DIRECTORY, path, 0o755) for path in ("up", "wk", "mnt"))


def _argv(k: Kernel, *words: Arg) -> Buffer:
    return k.struct("Q" * (len(words) + 1), *words, 0, name="argv")


def _argv32(k: Kernel) -> Buffer:
    """The 32-bit table takes arrays of 32-bit pointers, whoever calls it."""
    return k.struct("II", k.path(), 0, name="argv32")


def _exec_fd(k: Kernel, fd: Fd) -> Result:
    return k.execveat(fd, k.text(""), _argv(k, k.path()), NULL, AT_EMPTY_PATH)


def _memfd(k: Kernel, flags: int) -> Result:
    """A memory file that holds the program."""
    image = probe_elf(64)
    fd = k.memfd_create(k.text("m"), flags)
    k.write(fd, k.data(image, name="program"), len(image))
    return fd


def _jump(k: Kernel, fd: Fd) -> None:
    """Maps the program's code and runs it without any exec."""
    code = k.mmap(NULL, _PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, CODE_OFFSET).decisive()
    k.call(code)


def _loader(k: Kernel) -> None:
    path = k.text("/lib64/ld-linux-x86-64.so.2")
    k.execve(path, _argv(k, path, k.path()), NULL).decisive()


def _exec_allowed(k: Kernel) -> None:
    allowed = k.relative("ok/allowed")
    k.execve(allowed, _argv(k, allowed), NULL).decisive()


# execve and execveat


@FAMILY.variant(Technique.BASELINE)
def execve(k: Kernel) -> None:
    """The call that the author of the policy has in mind."""
    k.execve(k.path(), _argv(k, k.path()), NULL).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def execve_wide_nr(k: Kernel) -> None:
    """The kernel drops the upper half of rax before the filter sees it; other checkers may not."""
    k.wide_number.execve(k.path(), _argv(k, k.path()), NULL).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL)
def execve_null_argv(k: Kernel) -> None:
    """No argument array at all, which Linux accepts."""
    k.execve(k.path(), NULL, NULL).decisive()


@FAMILY.variant(Technique.NEWER_SYSCALL)
def execveat(k: Kernel) -> None:
    """The newer sibling: a list that denies execve alone does not stop it."""
    k.execveat(AT_FDCWD, k.path(), _argv(k, k.path()), NULL, 0).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def execveat_dirfd(k: Kernel) -> None:
    """A real directory descriptor defeats rules that only match AT_FDCWD."""
    here = k.openat(AT_FDCWD, k.parent(), O_PATH | O_DIRECTORY)
    k.execveat(here, k.name(), _argv(k, k.path()), NULL, 0).decisive()


@FAMILY.variant(Technique.FD_RELATIVE)
def execveat_empty_opath(k: Kernel) -> None:
    """The program is a descriptor and the path is empty."""
    _exec_fd(k, k.openat(AT_FDCWD, k.path(), O_PATH)).decisive()


@FAMILY.variant(Technique.WIDE_ARGUMENT)
def execveat_empty_wide(k: Kernel) -> None:
    """Garbage above descriptor and flags: the kernel reads 32 bits, a filter compares 64."""
    fd = k.openat(AT_FDCWD, k.path(), O_RDONLY)
    argv = _argv(k, k.path())
    k.execveat(k.wide(fd), k.text(""), argv, NULL, k.wide(AT_EMPTY_PATH)).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def execve_procfd(k: Kernel) -> None:
    """The path names a descriptor, not the program."""
    fd = k.openat(AT_FDCWD, k.path(), O_PATH)
    k.execve(k.proc_fd(fd), _argv(k, k.path()), NULL).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def inherited_fd_execveat(k: Kernel) -> None:
    """The program was opened before the filter came into force."""
    _exec_fd(k, k.setup.openat(AT_FDCWD, k.path(), O_RDONLY)).decisive()


# programs without a name


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def memfd_execveat(k: Kernel) -> None:
    """The program exists in memory only: no path, and no rule on files sees it."""
    _exec_fd(k, _memfd(k, MFD_CLOEXEC)).decisive()


@FAMILY.variant(Technique.DESCRIPTOR_REUSE, assumption=Assumption.INHERITED_DESCRIPTOR)
def inherited_memfd_execveat(k: Kernel) -> None:
    """The memory file was made before the filter came into force."""
    _exec_fd(k, _memfd(k.setup, 0)).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def memfd_procfd(k: Kernel) -> None:
    """A memory file reached through procfs needs no execveat."""
    k.execve(k.proc_fd(_memfd(k, 0)), _argv(k, k.path()), NULL).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, references=("memfd_create(2)",))
def memfd_mfd_exec(k: Kernel) -> None:
    """Asks for an executable memory file, as kernels from 6.3 want it."""
    _exec_fd(k, _memfd(k, MFD_CLOEXEC | MFD_EXEC)).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def memfd_sealed(k: Kernel) -> None:
    """A sealed memory file, as runtimes use for themselves, so filters let it through."""
    fd = _memfd(k, MFD_CLOEXEC | MFD_ALLOW_SEALING)
    k.raw("fcntl", fd, F_ADD_SEALS, F_SEAL_ALL)
    _exec_fd(k, fd).decisive()


@FAMILY.variant(Technique.PROC_INTERFACE)
def tmpfile_procfd(k: Kernel) -> None:
    """A file without a name, opened again for reading so that nobody writes to it any more."""
    image = probe_elf(64)
    writer = k.openat(AT_FDCWD, k.parent(), O_TMPFILE | O_RDWR, 0o755)
    k.write(writer, k.data(image, name="program"), len(image))
    reader = k.openat(AT_FDCWD, k.proc_fd(writer), O_RDONLY)
    k.close(writer)
    _exec_fd(k, reader).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT)
def deleted_file(k: Kernel) -> None:
    """The program has no path any more when it is executed."""
    fd = k.openat(AT_FDCWD, k.path(), O_RDONLY)
    k.unlink(k.path())
    _exec_fd(k, fd).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=(Need.CAP_SYS_ADMIN,), fresh=(Fresh.MOUNT,))
def fsmount_detached(k: Kernel) -> None:
    """The program lies on a file system that is mounted nowhere."""
    image = probe_elf(64)
    context = k.fsopen(k.text("tmpfs"), 0)
    k.fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0)
    root = k.fsmount(context, 0, 0)
    writer = k.openat(root, k.text("p"), O_CREAT | O_WRONLY, 0o755)
    k.write(writer, k.data(image, name="program"), len(image))
    k.close(writer)
    k.execveat(root, k.text("p"), _argv(k, k.path()), NULL, 0).decisive()


# the program that is named starts another


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=_SCRIPT)
def script_shebang(k: Kernel) -> None:
    """What is executed is a script; the kernel starts the program as its interpreter."""
    script = k.relative("d/script")
    k.execve(script, _argv(k, script), NULL).decisive()


@FAMILY.variant(Technique.DEPUTY_PROCESS, needs=(Need.SHELL,))
def sh_deputy(k: Kernel) -> None:
    """A shell that may be executed executes the program."""
    words = (k.text("sh"), k.text("-c"), k.path())
    k.execve(k.text("/bin/sh"), _argv(k, *words), NULL).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=(Need.LOADER,))
def ldso_static(k: Kernel) -> None:
    """The dynamic loader is what is executed; it executes the program, which is a static one."""
    _loader(k)


@FAMILY.variant(
    Technique.INDIRECT_OBJECT, needs=(Need.LOADER,), grade=Grade.EQUIVALENT, objects=(_DYNAMIC,)
)
def ldso(k: Kernel) -> None:
    """The dynamic loader is what is executed; it maps the program and jumps into it."""
    _loader(k)


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    needs=(Need.LOADER,),
    grade=Grade.EQUIVALENT,
    objects=(replace(_DYNAMIC, mode=0o644),),
)
def ldso_nonexec(k: Kernel) -> None:
    """The loader does not ask for the x bit of the file that it maps."""
    _loader(k)


@FAMILY.variant(Technique.SIBLING_SYSCALL, objects=_NOT_EXECUTABLE, negative=True)
def nonexec_negative(k: Kernel) -> None:
    """A file without an x bit cannot be executed directly."""
    k.execve(k.path(), _argv(k, k.path()), NULL).decisive()


# its code runs without any exec


@FAMILY.variant(Technique.MEMORY_ALIAS, grade=Grade.EQUIVALENT, objects=_NOT_EXECUTABLE)
def mmap_jump(k: Kernel) -> None:
    """Maps the file as code and jumps: no exec call, no new program, no x bit."""
    _jump(k, k.openat(AT_FDCWD, k.path(), O_RDONLY))


@FAMILY.variant(Technique.COMPAT_ABI, grade=Grade.EQUIVALENT, objects=_NOT_EXECUTABLE)
def i386_mmap_jump(k: Kernel) -> None:
    """The same with both calls from the 32-bit table."""
    fd = k.i386.open(k.path(), O_RDONLY)
    code = k.i386.raw(
        "mmap2", NULL, _PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, CODE_OFFSET // _PAGE
    )
    k.call(code.decisive())


@FAMILY.variant(Technique.ASYNC_KERNEL, grade=Grade.EQUIVALENT, objects=_NOT_EXECUTABLE)
def io_uring_open_mmap_jump(k: Kernel) -> None:
    """The file is opened by a ring, then mapped."""
    _jump(k, k.ring().openat(AT_FDCWD, k.path(), O_RDONLY, 0))


@FAMILY.variant(Technique.ASYNC_KERNEL)
def io_uring_open_execveat(k: Kernel) -> None:
    """A ring opens the program: no open call is made, and no path given to execveat."""
    _exec_fd(k, k.ring().openat(AT_FDCWD, k.path(), O_RDONLY, 0)).decisive()


# other tables


@FAMILY.variant(Technique.COMPAT_ABI)
def i386_execve(k: Kernel) -> None:
    """Execve has another number in the 32-bit table."""
    k.i386.execve(k.path(), _argv32(k), NULL).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def i386_execveat(k: Kernel) -> None:
    """Execveat has another number in the 32-bit table."""
    k.i386.execveat(AT_FDCWD, k.path(), _argv32(k), NULL, 0).decisive()


@FAMILY.variant(Technique.COMPAT_ABI)
def i386_memfd_execveat(k: Kernel) -> None:
    """A memory file made, filled and executed through the 32-bit table."""
    fd = _memfd(k.i386, 0)
    k.i386.execveat(fd, k.text(""), _argv32(k), NULL, AT_EMPTY_PATH).decisive()


@FAMILY.variant(Technique.COMPAT_ABI, needs=(Need.I386,), objects=_PROBE32)
def compat_elf32(k: Kernel) -> None:
    """The program is a 32-bit one: all its calls go through the other table."""
    path = k.relative("d/prog32")
    k.execve(path, _argv(k, path), NULL).decisive()


@FAMILY.variant(Technique.X32_ABI)
def x32_execve(k: Kernel) -> None:
    """The same architecture word with another number."""
    k.x32.execve(k.path(), _argv32(k), NULL).decisive()


# another name for it


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    needs=(Need.CAP_SYS_ADMIN,),
    fresh=(Fresh.MOUNT,),
    objects=_ALLOWED,
)
def bind_over_allowed(k: Kernel) -> None:
    """The program is mounted over one that may be executed."""
    k.mount(k.path(), k.relative("ok/allowed"), NULL, MS_BIND, NULL)
    _exec_allowed(k)


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=_ALLOWED)
def rename_over_allowed(k: Kernel) -> None:
    """The program takes the name of one that may be executed."""
    k.rename(k.path(), k.relative("ok/allowed"))
    _exec_allowed(k)


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=_ALLOWED)
def link_in_allowed_dir(k: Kernel) -> None:
    """A hard link in a directory whose programs may be executed."""
    k.link(k.path(), k.relative("ok/p"))
    k.execve(k.relative("ok/p"), _argv(k, k.path()), NULL).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, objects=_ALLOWED)
def symlink_in_allowed_dir(k: Kernel) -> None:
    """A symbolic link in a directory whose programs may be executed."""
    k.symlink(k.text("../d/prog"), k.relative("ok/p"))
    k.execve(k.relative("ok/p"), _argv(k, k.path()), NULL).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, objects=_ALLOWED)
def write_into_allowed(k: Kernel) -> None:
    """The contents of a program that may be executed are replaced."""
    image = probe_elf(64)
    fd = k.openat(AT_FDCWD, k.relative("ok/allowed"), O_WRONLY | O_TRUNC | O_CLOEXEC)
    k.write(fd, k.data(image, name="program"), len(image))
    k.close(fd)
    _exec_allowed(k)


@FAMILY.variant(Technique.NAMESPACE, needs=(Need.CAP_SYS_CHROOT,))
def chroot_alias(k: Kernel) -> None:
    """In another root the program has another path."""
    k.chroot(k.parent())
    k.execve(k.text("/prog"), _argv(k, k.path()), NULL).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, needs=(Need.CAP_SYS_ADMIN,), fresh=(Fresh.MOUNT,))
def open_tree_alias(k: Kernel) -> None:
    """A detached copy of the directory: the program is reached through no path of the system."""
    tree = k.open_tree(AT_FDCWD, k.parent(), OPEN_TREE_CLONE)
    k.execveat(tree, k.name(), _argv(k, k.path()), NULL, 0).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    needs=(Need.CAP_SYS_ADMIN,),
    fresh=(Fresh.MOUNT,),
    objects=_OVERLAY,
)
def overlay_alias(k: Kernel) -> None:
    """An overlay shows the program under another path and on another file system."""
    overlay = k.text("overlay")
    options = k.text("lowerdir=d,upperdir=up,workdir=wk")
    k.mount(overlay, k.relative("mnt"), overlay, 0, options)
    k.execve(k.relative("mnt/prog"), _argv(k, k.path()), NULL).decisive()


@FAMILY.variant(
    Technique.INDIRECT_OBJECT,
    needs=(Need.CAP_SYS_ADMIN,),
    fresh=(Fresh.MOUNT,),
    references=("open_by_handle_at(2)",),
)
def handle_dir(k: Kernel) -> None:
    """The directory is opened by its handle; from Linux 6.11 its owner may do so."""
    handle = k.buffer(8 + _HANDLE_BYTES, name="handle")
    k.store(handle, 0, 4, _HANDLE_BYTES)
    k.raw("name_to_handle_at", AT_FDCWD, k.parent(), handle, k.buffer(4, name="mount_id"), 0)
    fd = k.raw("open_by_handle_at", AT_FDCWD, handle, O_RDONLY | O_DIRECTORY)
    k.execveat(fd, k.name(), _argv(k, k.path()), NULL, 0).decisive()


@FAMILY.variant(
    Technique.NAMESPACE,
    needs=(Need.CAP_SYS_ADMIN,),
    fresh=(Fresh.MOUNT,),
    objects=_MAGIC,
    references=("Documentation/admin-guide/binfmt-misc.rst",),
)
def binfmt_misc(k: Kernel) -> None:
    """The subject registers the program as interpreter of a harmless file (Linux 6.7)."""
    kind, rule = k.text("binfmt_misc"), ":probe:M::VTMAGIC::d/prog:"
    k.mount(kind, k.relative("bm"), kind, 0, NULL)
    fd = k.openat(AT_FDCWD, k.relative("bm/register"), O_WRONLY)
    k.write(fd, k.text(rule), len(rule))
    magic = k.relative("d/magic")
    k.execve(magic, _argv(k, magic), NULL).decisive()


# in a child, and what must not work


@FAMILY.variant(Technique.DEPUTY_PROCESS)
def vfork_execve(k: Kernel) -> None:
    """A child executes it, as every shell does."""
    argv = _argv(k, k.path())
    with k.child(k.vfork()):
        k.execve(k.path(), argv, NULL).decisive()


@FAMILY.variant(Technique.INDIRECT_OBJECT, negative=True)
def memfd_noexec_seal_negative(k: Kernel) -> None:
    """A memory file made with MFD_NOEXEC_SEAL cannot be executed."""
    _exec_fd(k, _memfd(k, MFD_NOEXEC_SEAL)).decisive()


@FAMILY.variant(Technique.SIBLING_SYSCALL, negative=True)
def execve_check_negative(k: Kernel) -> None:
    """AT_EXECVE_CHECK asks whether the program could be executed and executes nothing."""
    k.execveat(AT_FDCWD, k.path(), _argv(k, k.path()), NULL, AT_EXECVE_CHECK).decisive()
