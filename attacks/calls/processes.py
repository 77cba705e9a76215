"""Calls on processes and threads: make, run, wait for, signal, trace, limit, identify.

Each method has the name and the arguments of the man page; where a name is a Python word or a
built-in, an underscore follows it.
"""

from __future__ import annotations

from attacks.calls.operand import Fd, Num, Pid, Ptr
from attacks.consts import NULL
from attacks.recorder import Arg, Recorder, Result


class Processes(Recorder):
    """Calls on processes and threads: make, run, wait for, signal, trace, limit, identify."""

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

    def exit_group(self, status: Num) -> Result:
        return self.raw("exit_group", status)

    def wait4(self, pid: Pid, wstatus: Ptr, options: Num, rusage: Ptr) -> Result:
        return self.raw("wait4", pid, wstatus, options, rusage)

    def waitpid(self, pid: Pid, wstatus: Ptr, options: Num) -> Result:
        return self.raw("waitpid", pid, wstatus, options)

    def waitid(self, idtype: Num, id_: Pid, infop: Ptr, options: Num, rusage: Ptr) -> Result:
        return self.raw("waitid", idtype, id_, infop, options, rusage)

    def getpid(self) -> Result:
        return self.raw("getpid")

    def gettid(self) -> Result:
        return self.raw("gettid")

    def geteuid(self) -> Result:
        return self.raw("geteuid")

    def getegid(self) -> Result:
        return self.raw("getegid")

    def setsid(self) -> Result:
        return self.raw("setsid")

    def setpgid(self, pid: Pid, pgid: Pid) -> Result:
        return self.raw("setpgid", pid, pgid)

    def kill(self, pid: Pid, sig: Num) -> Result:
        return self.raw("kill", pid, sig)

    def tkill(self, tid: Pid, sig: Num) -> Result:
        return self.raw("tkill", tid, sig)

    def tgkill(self, tgid: Pid, tid: Pid, sig: Num) -> Result:
        return self.raw("tgkill", tgid, tid, sig)

    def rt_sigqueueinfo(self, tgid: Pid, sig: Num, info: Ptr) -> Result:
        return self.raw("rt_sigqueueinfo", tgid, sig, info)

    def rt_tgsigqueueinfo(self, tgid: Pid, tid: Pid, sig: Num, info: Ptr) -> Result:
        return self.raw("rt_tgsigqueueinfo", tgid, tid, sig, info)

    def rt_sigaction(self, signum: Num, act: Ptr, oldact: Ptr, sigsetsize: Num) -> Result:
        return self.raw("rt_sigaction", signum, act, oldact, sigsetsize)

    def rt_sigprocmask(self, how: Num, set_: Ptr, oldset: Ptr, sigsetsize: Num) -> Result:
        return self.raw("rt_sigprocmask", how, set_, oldset, sigsetsize)

    def pidfd_open(self, pid: Pid, flags: Num) -> Result:
        return self.raw("pidfd_open", pid, flags)

    def pidfd_getfd(self, pidfd: Fd, targetfd: Num, flags: Num) -> Result:
        return self.raw("pidfd_getfd", pidfd, targetfd, flags)

    def pidfd_send_signal(self, pidfd: Fd, sig: Num, info: Ptr, flags: Num) -> Result:
        return self.raw("pidfd_send_signal", pidfd, sig, info, flags)

    def ptrace(self, op: Num, pid: Pid, addr: Arg, data: Arg) -> Result:
        return self.raw("ptrace", op, pid, addr, data)

    def process_vm_readv(
        self, pid: Pid, local_iov: Ptr, liovcnt: Num, remote_iov: Ptr, riovcnt: Num, flags: Num
    ) -> Result:
        return self.raw("process_vm_readv", pid, local_iov, liovcnt, remote_iov, riovcnt, flags)

    def process_vm_writev(
        self, pid: Pid, local_iov: Ptr, liovcnt: Num, remote_iov: Ptr, riovcnt: Num, flags: Num
    ) -> Result:
        return self.raw("process_vm_writev", pid, local_iov, liovcnt, remote_iov, riovcnt, flags)

    def process_madvise(self, pidfd: Fd, iov: Ptr, vlen: Num, advice: Num, flags: Num) -> Result:
        return self.raw("process_madvise", pidfd, iov, vlen, advice, flags)

    def kcmp(self, pid1: Pid, pid2: Pid, type_: Num, idx1: Arg, idx2: Arg) -> Result:
        return self.raw("kcmp", pid1, pid2, type_, idx1, idx2)

    def nanosleep(self, duration: Ptr, rem: Ptr) -> Result:
        return self.raw("nanosleep", duration, rem)

    def prctl(self, op: Num, arg2: Arg = 0, arg3: Arg = 0, arg4: Arg = 0, arg5: Arg = 0) -> Result:
        return self.raw("prctl", op, arg2, arg3, arg4, arg5)

    def arch_prctl(self, op: Num, addr: Arg) -> Result:
        return self.raw("arch_prctl", op, addr)

    def personality(self, persona: Num) -> Result:
        return self.raw("personality", persona)

    def seccomp(self, operation: Num, flags: Num, args: Ptr) -> Result:
        return self.raw("seccomp", operation, flags, args)

    def prlimit64(self, pid: Pid, resource: Num, new_limit: Ptr, old_limit: Ptr) -> Result:
        return self.raw("prlimit64", pid, resource, new_limit, old_limit)

    def setrlimit(self, resource: Num, rlim: Ptr) -> Result:
        return self.raw("setrlimit", resource, rlim)

    def getrlimit(self, resource: Num, rlim: Ptr) -> Result:
        return self.raw("getrlimit", resource, rlim)

    def setpriority(self, which: Num, who: Pid, prio: Num) -> Result:
        return self.raw("setpriority", which, who, prio)

    def nice(self, inc: Num) -> Result:
        return self.raw("nice", inc)

    def sched_setaffinity(self, pid: Pid, cpusetsize: Num, mask: Ptr) -> Result:
        return self.raw("sched_setaffinity", pid, cpusetsize, mask)

    def sched_getaffinity(self, pid: Pid, cpusetsize: Num, mask: Ptr) -> Result:
        return self.raw("sched_getaffinity", pid, cpusetsize, mask)

    def sched_setscheduler(self, pid: Pid, policy: Num, param: Ptr) -> Result:
        return self.raw("sched_setscheduler", pid, policy, param)

    def sched_setattr(self, pid: Pid, attr: Ptr, flags: Num) -> Result:
        return self.raw("sched_setattr", pid, attr, flags)

    def ioprio_set(self, which: Num, who: Pid, ioprio: Num) -> Result:
        return self.raw("ioprio_set", which, who, ioprio)

    def migrate_pages(self, pid: Pid, maxnode: Num, old_nodes: Ptr, new_nodes: Ptr) -> Result:
        return self.raw("migrate_pages", pid, maxnode, old_nodes, new_nodes)

    def setuid(self, uid: Num) -> Result:
        return self.raw("setuid", uid)

    def setgid(self, gid: Num) -> Result:
        return self.raw("setgid", gid)

    def setreuid(self, ruid: Num, euid: Num) -> Result:
        return self.raw("setreuid", ruid, euid)

    def setregid(self, rgid: Num, egid: Num) -> Result:
        return self.raw("setregid", rgid, egid)

    def setresuid(self, ruid: Num, euid: Num, suid: Num) -> Result:
        return self.raw("setresuid", ruid, euid, suid)

    def setresgid(self, rgid: Num, egid: Num, sgid: Num) -> Result:
        return self.raw("setresgid", rgid, egid, sgid)

    def setfsuid(self, fsuid: Num) -> Result:
        return self.raw("setfsuid", fsuid)

    def setfsgid(self, fsgid: Num) -> Result:
        return self.raw("setfsgid", fsgid)

    def setgroups(self, size: Num, list_: Ptr) -> Result:
        return self.raw("setgroups", size, list_)

    def capget(self, hdrp: Ptr, datap: Ptr) -> Result:
        return self.raw("capget", hdrp, datap)

    def capset(self, hdrp: Ptr, datap: Ptr) -> Result:
        return self.raw("capset", hdrp, datap)

    def unshare(self, flags: Num) -> Result:
        return self.raw("unshare", flags)

    def setns(self, fd: Fd, nstype: Num) -> Result:
        return self.raw("setns", fd, nstype)

    def modify_ldt(self, func: Num, ptr: Ptr, bytecount: Num) -> Result:
        return self.raw("modify_ldt", func, ptr, bytecount)

    def set_thread_area(self, u_info: Ptr) -> Result:
        return self.raw("set_thread_area", u_info)
