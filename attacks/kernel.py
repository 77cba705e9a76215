"""The recorder that a recipe gets: a typed method for each system call, as the man pages have it.

``k.mkdirat(dirfd, path, mode)`` records the call and returns a handle on its result.  ``k.i386``
and ``k.x32`` record the same calls through another table; ``k.setup`` and ``k.victim`` record into
the other sections.  Calls that a table lacks fail when the program is encoded, not here.
"""

from __future__ import annotations

from attacks.consts import (
    CLONE_FILES,
    CLONE_FS,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VM,
    NULL,
)
from attacks.program import Abi, Addr, Const, Entry, Env
from attacks.recorder import Arg, Buffer, Recorder, Result, Section, octal
from attacks.ring import HURRIED, Ring

Num = int | Result | Const
"""A number: a constant or something computed."""
Fd = int | Result | Const
Pid = int | Result | Env
Ptr = Buffer | Addr | Result | Const | Env | int


class Kernel(Recorder):
    """Records the calls of one variant."""

    @property
    def setup(self) -> Kernel:
        """What happens in the subject before the candidate's layers are put on."""
        return Kernel(self.recording, Section.SETUP, self._abi, self._entry)

    @property
    def victim(self) -> Kernel:
        """What the victim does, unfiltered, before the attack."""
        return Kernel(self.recording, Section.VICTIM, self._abi, self._entry)

    @property
    def i386(self) -> Kernel:
        """The 32-bit table, through ``int 0x80``."""
        return self._through(Abi.I386, Entry.INT80)

    @property
    def i386_sysenter(self) -> Kernel:
        """The 32-bit table through ``sysenter``: the call is made, then the task dies."""
        return self._through(Abi.I386, Entry.SYSENTER)

    @property
    def i386_far(self) -> Kernel:
        """The 32-bit table from a 32-bit code segment."""
        return self._through(Abi.I386, Entry.FAR_INT80)

    @property
    def x32(self) -> Kernel:
        return self._through(Abi.X32, Entry.SYSCALL)

    def thread(self) -> Result:
        """A thread of the subject, on a stack of its own; a body says what it does."""
        flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
        return self.clone(flags, self.stack())

    def ring(self, *, sqpoll: bool = False, mapped: bool = True) -> Ring:
        """A new io_uring; see ``Ring``.  On another ABI only the ring's own calls go through it."""
        native = self._through(Abi.X86_64, Entry.SYSCALL)
        return Ring.make(native, self, sqpoll=sqpoll, mapped=mapped)

    def hurried_rings(self) -> list[Ring]:
        """Rings whose one entry is there before their kernel threads look; see ``Ring.hurried``."""
        return [Ring.hurried(self) for _ in range(HURRIED)]

    def _through(self, abi: Abi, entry: Entry) -> Kernel:
        return Kernel(self.recording, self._section, abi, entry)

    # Files and directories

    def open(self, path: Ptr, flags: Num, *mode: Num) -> Result:
        return self.raw("open", path, flags, *map(octal, mode))

    def openat(self, dirfd: Fd, path: Ptr, flags: Num, *mode: Num) -> Result:
        return self.raw("openat", dirfd, path, flags, *map(octal, mode))

    def openat2(self, dirfd: Fd, path: Ptr, how: Ptr, size: Num) -> Result:
        return self.raw("openat2", dirfd, path, how, size)

    def creat(self, path: Ptr, mode: Num) -> Result:
        return self.raw("creat", path, octal(mode))

    def close(self, fd: Fd) -> Result:
        return self.raw("close", fd)

    def dup(self, oldfd: Fd) -> Result:
        return self.raw("dup", oldfd)

    def dup2(self, oldfd: Fd, newfd: Fd) -> Result:
        return self.raw("dup2", oldfd, newfd)

    def read(self, fd: Fd, buf: Ptr, count: Num) -> Result:
        return self.raw("read", fd, buf, count)

    def write(self, fd: Fd, buf: Ptr, count: Num) -> Result:
        return self.raw("write", fd, buf, count)

    def pwrite64(self, fd: Fd, buf: Ptr, count: Num, offset: Arg) -> Result:
        return self.raw("pwrite64", fd, buf, count, offset)

    def mkdir(self, path: Ptr, mode: Num) -> Result:
        return self.raw("mkdir", path, octal(mode))

    def mkdirat(self, dirfd: Fd, path: Ptr, mode: Num) -> Result:
        return self.raw("mkdirat", dirfd, path, octal(mode))

    def mknod(self, path: Ptr, mode: Num, dev: Num) -> Result:
        return self.raw("mknod", path, octal(mode), dev)

    def mknodat(self, dirfd: Fd, path: Ptr, mode: Num, dev: Num) -> Result:
        return self.raw("mknodat", dirfd, path, octal(mode), dev)

    def link(self, oldpath: Ptr, newpath: Ptr) -> Result:
        return self.raw("link", oldpath, newpath)

    def linkat(self, olddirfd: Fd, oldpath: Ptr, newdirfd: Fd, newpath: Ptr, flags: Num) -> Result:
        return self.raw("linkat", olddirfd, oldpath, newdirfd, newpath, flags)

    def symlink(self, target: Ptr, linkpath: Ptr) -> Result:
        return self.raw("symlink", target, linkpath)

    def symlinkat(self, target: Ptr, newdirfd: Fd, linkpath: Ptr) -> Result:
        return self.raw("symlinkat", target, newdirfd, linkpath)

    def rename(self, oldpath: Ptr, newpath: Ptr) -> Result:
        return self.raw("rename", oldpath, newpath)

    def renameat(self, olddirfd: Fd, oldpath: Ptr, newdirfd: Fd, newpath: Ptr) -> Result:
        return self.raw("renameat", olddirfd, oldpath, newdirfd, newpath)

    def renameat2(
        self, olddirfd: Fd, oldpath: Ptr, newdirfd: Fd, newpath: Ptr, flags: Num
    ) -> Result:
        return self.raw("renameat2", olddirfd, oldpath, newdirfd, newpath, flags)

    def unlink(self, path: Ptr) -> Result:
        return self.raw("unlink", path)

    def unlinkat(self, dirfd: Fd, path: Ptr, flags: Num) -> Result:
        return self.raw("unlinkat", dirfd, path, flags)

    def chdir(self, path: Ptr) -> Result:
        return self.raw("chdir", path)

    def fchdir(self, fd: Fd) -> Result:
        return self.raw("fchdir", fd)

    def chroot(self, path: Ptr) -> Result:
        return self.raw("chroot", path)

    def umask(self, mask: Num) -> Result:
        return self.raw("umask", octal(mask))

    # Modes and attributes

    def chmod(self, path: Ptr, mode: Num) -> Result:
        return self.raw("chmod", path, octal(mode))

    def fchmod(self, fd: Fd, mode: Num) -> Result:
        return self.raw("fchmod", fd, octal(mode))

    def fchmodat(self, dirfd: Fd, path: Ptr, mode: Num) -> Result:
        return self.raw("fchmodat", dirfd, path, octal(mode))

    def fchmodat2(self, dirfd: Fd, path: Ptr, mode: Num, flags: Num) -> Result:
        return self.raw("fchmodat2", dirfd, path, octal(mode), flags)

    def setxattr(self, path: Ptr, name: Ptr, value: Ptr, size: Num, flags: Num) -> Result:
        return self.raw("setxattr", path, name, value, size, flags)

    def lsetxattr(self, path: Ptr, name: Ptr, value: Ptr, size: Num, flags: Num) -> Result:
        return self.raw("lsetxattr", path, name, value, size, flags)

    def fsetxattr(self, fd: Fd, name: Ptr, value: Ptr, size: Num, flags: Num) -> Result:
        return self.raw("fsetxattr", fd, name, value, size, flags)

    def setxattrat(
        self, dirfd: Fd, path: Ptr, at_flags: Num, name: Ptr, args: Ptr, size: Num
    ) -> Result:
        return self.raw("setxattrat", dirfd, path, at_flags, name, args, size)

    # Sockets

    def socket(self, domain: Num, type_: Num, protocol: Num) -> Result:
        return self.raw("socket", domain, type_, protocol)

    def socketpair(self, domain: Num, type_: Num, protocol: Num, sv: Ptr) -> Result:
        return self.raw("socketpair", domain, type_, protocol, sv)

    def bind(self, sockfd: Fd, addr: Ptr, addrlen: Num) -> Result:
        return self.raw("bind", sockfd, addr, addrlen)

    def socketcall(self, call: Num, args: Ptr) -> Result:
        return self.raw("socketcall", call, args)

    # Message queues

    def mq_open(self, name: Ptr, oflag: Num, mode: Num, attr: Ptr) -> Result:
        return self.raw("mq_open", name, oflag, octal(mode), attr)

    # Memory

    def mmap(self, addr: Ptr, length: Num, prot: Num, flags: Num, fd: Fd, offset: Num) -> Result:
        return self.raw("mmap", addr, length, prot, flags, fd, offset)

    def munmap(self, addr: Ptr, length: Num) -> Result:
        return self.raw("munmap", addr, length)

    def mprotect(self, addr: Ptr, length: Num, prot: Num) -> Result:
        return self.raw("mprotect", addr, length, prot)

    def memfd_create(self, name: Ptr, flags: Num) -> Result:
        return self.raw("memfd_create", name, flags)

    # Mounts

    def mount(
        self, source: Ptr, target: Ptr, filesystemtype: Ptr, mountflags: Num, data: Ptr
    ) -> Result:
        return self.raw("mount", source, target, filesystemtype, mountflags, data)

    def umount(self, target: Ptr) -> Result:
        return self.raw("umount", target)

    def umount2(self, target: Ptr, flags: Num) -> Result:
        return self.raw("umount2", target, flags)

    def open_tree(self, dirfd: Fd, path: Ptr, flags: Num) -> Result:
        return self.raw("open_tree", dirfd, path, flags)

    def open_tree_attr(self, dirfd: Fd, path: Ptr, flags: Num, attr: Ptr, size: Num) -> Result:
        return self.raw("open_tree_attr", dirfd, path, flags, attr, size)

    def move_mount(
        self, from_dirfd: Fd, from_path: Ptr, to_dirfd: Fd, to_path: Ptr, flags: Num
    ) -> Result:
        return self.raw("move_mount", from_dirfd, from_path, to_dirfd, to_path, flags)

    def fsopen(self, fsname: Ptr, flags: Num) -> Result:
        return self.raw("fsopen", fsname, flags)

    def fsconfig(self, fd: Fd, cmd: Num, key: Ptr, value: Ptr, aux: Num) -> Result:
        return self.raw("fsconfig", fd, cmd, key, value, aux)

    def fsmount(self, fsfd: Fd, flags: Num, attr_flags: Num) -> Result:
        return self.raw("fsmount", fsfd, flags, attr_flags)

    # Processes

    def fork(self) -> Result:
        return self.raw("fork")

    def vfork(self) -> Result:
        return self.raw("vfork")

    def clone(
        self,
        flags: Num,
        stack: Ptr = NULL,
        parent_tid: Ptr = NULL,
        child_tid: Ptr = NULL,
        tls: Ptr = NULL,
    ) -> Result:
        return self.raw("clone", flags, stack, parent_tid, child_tid, tls)

    def clone3(self, cl_args: Ptr, size: Num) -> Result:
        return self.raw("clone3", cl_args, size)

    def execve(self, path: Ptr, argv: Ptr, envp: Ptr) -> Result:
        return self.raw("execve", path, argv, envp)

    def execveat(self, dirfd: Fd, path: Ptr, argv: Ptr, envp: Ptr, flags: Num) -> Result:
        return self.raw("execveat", dirfd, path, argv, envp, flags)

    def exit(self, status: Num) -> Result:
        return self.raw("exit", status)

    def wait4(self, pid: Pid, wstatus: Ptr, options: Num, rusage: Ptr) -> Result:
        return self.raw("wait4", pid, wstatus, options, rusage)

    def waitpid(self, pid: Pid, wstatus: Ptr, options: Num) -> Result:
        return self.raw("waitpid", pid, wstatus, options)

    def kill(self, pid: Pid, sig: Num) -> Result:
        return self.raw("kill", pid, sig)

    def getpid(self) -> Result:
        return self.raw("getpid")

    def geteuid(self) -> Result:
        return self.raw("geteuid")

    def getegid(self) -> Result:
        return self.raw("getegid")

    def nanosleep(self, duration: Ptr, rem: Ptr) -> Result:
        return self.raw("nanosleep", duration, rem)

    def prctl(self, op: Num, arg2: Arg = 0, arg3: Arg = 0, arg4: Arg = 0, arg5: Arg = 0) -> Result:
        return self.raw("prctl", op, arg2, arg3, arg4, arg5)

    def seccomp(self, operation: Num, flags: Num, args: Ptr) -> Result:
        return self.raw("seccomp", operation, flags, args)

    def prlimit64(self, pid: Pid, resource: Num, new_limit: Ptr, old_limit: Ptr) -> Result:
        return self.raw("prlimit64", pid, resource, new_limit, old_limit)

    def setrlimit(self, resource: Num, rlim: Ptr) -> Result:
        return self.raw("setrlimit", resource, rlim)

    def ptrace(self, op: Num, pid: Pid, addr: Arg, data: Arg) -> Result:
        return self.raw("ptrace", op, pid, addr, data)

    def pidfd_open(self, pid: Pid, flags: Num) -> Result:
        return self.raw("pidfd_open", pid, flags)

    def pidfd_getfd(self, pidfd: Fd, targetfd: Num, flags: Num) -> Result:
        return self.raw("pidfd_getfd", pidfd, targetfd, flags)

    def ipc(self, call: Num, first: Arg, second: Arg, third: Arg, ptr: Ptr, fifth: Arg) -> Result:
        return self.raw("ipc", call, first, second, third, ptr, fifth)

    # io_uring

    def io_uring_setup(self, entries: Num, params: Ptr) -> Result:
        return self.raw("io_uring_setup", entries, params)

    def io_uring_enter(
        self, fd: Fd, to_submit: Num, min_complete: Num, flags: Num, sig: Ptr, size: Num
    ) -> Result:
        return self.raw("io_uring_enter", fd, to_submit, min_complete, flags, sig, size)

    def io_uring_register(self, fd: Fd, op: Num, arg: Ptr, nr_args: Num) -> Result:
        return self.raw("io_uring_register", fd, op, arg, nr_args)
