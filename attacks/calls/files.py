"""Calls on files and directories: open, read, write, make, remove, look at.

Each method has the name and the arguments of the man page; where a name is a Python word or a
built-in, an underscore follows it.
"""

from __future__ import annotations

from attacks.calls.operand import Fd, Num, Ptr
from attacks.recorder import Arg, Recorder, Result, octal


class Files(Recorder):
    """Calls on files and directories: open, read, write, make, remove, look at."""

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

    def dup3(self, oldfd: Fd, newfd: Fd, flags: Num) -> Result:
        return self.raw("dup3", oldfd, newfd, flags)

    def fcntl(self, fd: Fd, op: Num, arg: Arg = 0) -> Result:
        return self.raw("fcntl", fd, op, arg)

    def ioctl(self, fd: Fd, op: Num, argp: Arg = 0) -> Result:
        return self.raw("ioctl", fd, op, argp)

    def read(self, fd: Fd, buf: Ptr, count: Num) -> Result:
        return self.raw("read", fd, buf, count)

    def readv(self, fd: Fd, iov: Ptr, iovcnt: Num) -> Result:
        return self.raw("readv", fd, iov, iovcnt)

    def pread64(self, fd: Fd, buf: Ptr, count: Num, offset: Arg) -> Result:
        return self.raw("pread64", fd, buf, count, offset)

    def preadv(self, fd: Fd, iov: Ptr, iovcnt: Num, pos_l: Arg, pos_h: Arg = 0) -> Result:
        return self.raw("preadv", fd, iov, iovcnt, pos_l, pos_h)

    def preadv2(self, fd: Fd, iov: Ptr, iovcnt: Num, pos_l: Arg, pos_h: Arg, flags: Num) -> Result:
        return self.raw("preadv2", fd, iov, iovcnt, pos_l, pos_h, flags)

    def write(self, fd: Fd, buf: Ptr, count: Num) -> Result:
        return self.raw("write", fd, buf, count)

    def writev(self, fd: Fd, iov: Ptr, iovcnt: Num) -> Result:
        return self.raw("writev", fd, iov, iovcnt)

    def pwrite64(self, fd: Fd, buf: Ptr, count: Num, offset: Arg) -> Result:
        return self.raw("pwrite64", fd, buf, count, offset)

    def pwritev(self, fd: Fd, iov: Ptr, iovcnt: Num, pos_l: Arg, pos_h: Arg = 0) -> Result:
        return self.raw("pwritev", fd, iov, iovcnt, pos_l, pos_h)

    def pwritev2(self, fd: Fd, iov: Ptr, iovcnt: Num, pos_l: Arg, pos_h: Arg, flags: Num) -> Result:
        return self.raw("pwritev2", fd, iov, iovcnt, pos_l, pos_h, flags)

    def lseek(self, fd: Fd, offset: Arg, whence: Num) -> Result:
        return self.raw("lseek", fd, offset, whence)

    def sendfile(self, out_fd: Fd, in_fd: Fd, offset: Ptr, count: Num) -> Result:
        return self.raw("sendfile", out_fd, in_fd, offset, count)

    def copy_file_range(
        self, fd_in: Fd, off_in: Ptr, fd_out: Fd, off_out: Ptr, len_: Num, flags: Num
    ) -> Result:
        return self.raw("copy_file_range", fd_in, off_in, fd_out, off_out, len_, flags)

    def splice(
        self, fd_in: Fd, off_in: Ptr, fd_out: Fd, off_out: Ptr, len_: Num, flags: Num
    ) -> Result:
        return self.raw("splice", fd_in, off_in, fd_out, off_out, len_, flags)

    def tee(self, fd_in: Fd, fd_out: Fd, len_: Num, flags: Num) -> Result:
        return self.raw("tee", fd_in, fd_out, len_, flags)

    def vmsplice(self, fd: Fd, iov: Ptr, nr_segs: Num, flags: Num) -> Result:
        return self.raw("vmsplice", fd, iov, nr_segs, flags)

    def truncate(self, path: Ptr, length: Arg) -> Result:
        return self.raw("truncate", path, length)

    def ftruncate(self, fd: Fd, length: Arg) -> Result:
        return self.raw("ftruncate", fd, length)

    def fallocate(self, fd: Fd, mode: Num, offset: Arg, len_: Arg) -> Result:
        return self.raw("fallocate", fd, mode, offset, len_)

    def flock(self, fd: Fd, op: Num) -> Result:
        return self.raw("flock", fd, op)

    def access(self, path: Ptr, mode: Num) -> Result:
        return self.raw("access", path, mode)

    def faccessat(self, dirfd: Fd, path: Ptr, mode: Num) -> Result:
        return self.raw("faccessat", dirfd, path, mode)

    def faccessat2(self, dirfd: Fd, path: Ptr, mode: Num, flags: Num) -> Result:
        return self.raw("faccessat2", dirfd, path, mode, flags)

    def stat(self, path: Ptr, statbuf: Ptr) -> Result:
        return self.raw("stat", path, statbuf)

    def lstat(self, path: Ptr, statbuf: Ptr) -> Result:
        return self.raw("lstat", path, statbuf)

    def fstat(self, fd: Fd, statbuf: Ptr) -> Result:
        return self.raw("fstat", fd, statbuf)

    def newfstatat(self, dirfd: Fd, path: Ptr, statbuf: Ptr, flags: Num) -> Result:
        return self.raw("newfstatat", dirfd, path, statbuf, flags)

    def statx(self, dirfd: Fd, path: Ptr, flags: Num, mask: Num, statxbuf: Ptr) -> Result:
        return self.raw("statx", dirfd, path, flags, mask, statxbuf)

    def statfs(self, path: Ptr, buf: Ptr) -> Result:
        return self.raw("statfs", path, buf)

    def fstatfs(self, fd: Fd, buf: Ptr) -> Result:
        return self.raw("fstatfs", fd, buf)

    def readlink(self, path: Ptr, buf: Ptr, bufsiz: Num) -> Result:
        return self.raw("readlink", path, buf, bufsiz)

    def readlinkat(self, dirfd: Fd, path: Ptr, buf: Ptr, bufsiz: Num) -> Result:
        return self.raw("readlinkat", dirfd, path, buf, bufsiz)

    def getdents(self, fd: Fd, dirp: Ptr, count: Num) -> Result:
        return self.raw("getdents", fd, dirp, count)

    def getdents64(self, fd: Fd, dirp: Ptr, count: Num) -> Result:
        return self.raw("getdents64", fd, dirp, count)

    def mkdir(self, path: Ptr, mode: Num) -> Result:
        return self.raw("mkdir", path, octal(mode))

    def mkdirat(self, dirfd: Fd, path: Ptr, mode: Num) -> Result:
        return self.raw("mkdirat", dirfd, path, octal(mode))

    def mknod(self, path: Ptr, mode: Num, dev: Num) -> Result:
        return self.raw("mknod", path, octal(mode), dev)

    def mknodat(self, dirfd: Fd, path: Ptr, mode: Num, dev: Num) -> Result:
        return self.raw("mknodat", dirfd, path, octal(mode), dev)

    def rmdir(self, path: Ptr) -> Result:
        return self.raw("rmdir", path)

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

    def chmod(self, path: Ptr, mode: Num) -> Result:
        return self.raw("chmod", path, octal(mode))

    def fchmod(self, fd: Fd, mode: Num) -> Result:
        return self.raw("fchmod", fd, octal(mode))

    def fchmodat(self, dirfd: Fd, path: Ptr, mode: Num) -> Result:
        return self.raw("fchmodat", dirfd, path, octal(mode))

    def fchmodat2(self, dirfd: Fd, path: Ptr, mode: Num, flags: Num) -> Result:
        return self.raw("fchmodat2", dirfd, path, octal(mode), flags)

    def chown(self, path: Ptr, owner: Num, group: Num) -> Result:
        return self.raw("chown", path, owner, group)

    def lchown(self, path: Ptr, owner: Num, group: Num) -> Result:
        return self.raw("lchown", path, owner, group)

    def fchown(self, fd: Fd, owner: Num, group: Num) -> Result:
        return self.raw("fchown", fd, owner, group)

    def fchownat(self, dirfd: Fd, path: Ptr, owner: Num, group: Num, flags: Num) -> Result:
        return self.raw("fchownat", dirfd, path, owner, group, flags)

    def utime(self, path: Ptr, times: Ptr) -> Result:
        return self.raw("utime", path, times)

    def utimes(self, path: Ptr, times: Ptr) -> Result:
        return self.raw("utimes", path, times)

    def futimesat(self, dirfd: Fd, path: Ptr, times: Ptr) -> Result:
        return self.raw("futimesat", dirfd, path, times)

    def utimensat(self, dirfd: Fd, path: Ptr, times: Ptr, flags: Num) -> Result:
        return self.raw("utimensat", dirfd, path, times, flags)

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

    def getxattr(self, path: Ptr, name: Ptr, value: Ptr, size: Num) -> Result:
        return self.raw("getxattr", path, name, value, size)

    def lgetxattr(self, path: Ptr, name: Ptr, value: Ptr, size: Num) -> Result:
        return self.raw("lgetxattr", path, name, value, size)

    def fgetxattr(self, fd: Fd, name: Ptr, value: Ptr, size: Num) -> Result:
        return self.raw("fgetxattr", fd, name, value, size)

    def getxattrat(
        self, dirfd: Fd, path: Ptr, at_flags: Num, name: Ptr, args: Ptr, size: Num
    ) -> Result:
        return self.raw("getxattrat", dirfd, path, at_flags, name, args, size)

    def listxattr(self, path: Ptr, list_: Ptr, size: Num) -> Result:
        return self.raw("listxattr", path, list_, size)

    def listxattrat(self, dirfd: Fd, path: Ptr, at_flags: Num, list_: Ptr, size: Num) -> Result:
        return self.raw("listxattrat", dirfd, path, at_flags, list_, size)

    def removexattr(self, path: Ptr, name: Ptr) -> Result:
        return self.raw("removexattr", path, name)

    def lremovexattr(self, path: Ptr, name: Ptr) -> Result:
        return self.raw("lremovexattr", path, name)

    def fremovexattr(self, fd: Fd, name: Ptr) -> Result:
        return self.raw("fremovexattr", fd, name)

    def removexattrat(self, dirfd: Fd, path: Ptr, at_flags: Num, name: Ptr) -> Result:
        return self.raw("removexattrat", dirfd, path, at_flags, name)

    def file_getattr(self, dirfd: Fd, path: Ptr, attr: Ptr, size: Num, at_flags: Num) -> Result:
        return self.raw("file_getattr", dirfd, path, attr, size, at_flags)

    def file_setattr(self, dirfd: Fd, path: Ptr, attr: Ptr, size: Num, at_flags: Num) -> Result:
        return self.raw("file_setattr", dirfd, path, attr, size, at_flags)

    def name_to_handle_at(
        self, dirfd: Fd, path: Ptr, handle: Ptr, mount_id: Ptr, flags: Num
    ) -> Result:
        return self.raw("name_to_handle_at", dirfd, path, handle, mount_id, flags)

    def open_by_handle_at(self, mount_fd: Fd, handle: Ptr, flags: Num) -> Result:
        return self.raw("open_by_handle_at", mount_fd, handle, flags)

    def inotify_init(self) -> Result:
        return self.raw("inotify_init")

    def inotify_init1(self, flags: Num) -> Result:
        return self.raw("inotify_init1", flags)

    def inotify_add_watch(self, fd: Fd, path: Ptr, mask: Num) -> Result:
        return self.raw("inotify_add_watch", fd, path, mask)

    def fanotify_init(self, flags: Num, event_f_flags: Num) -> Result:
        return self.raw("fanotify_init", flags, event_f_flags)

    def fanotify_mark(self, fanotify_fd: Fd, flags: Num, mask: Arg, dirfd: Fd, path: Ptr) -> Result:
        return self.raw("fanotify_mark", fanotify_fd, flags, mask, dirfd, path)
