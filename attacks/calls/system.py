"""Calls on mounts, IPC objects, keys, clocks, rings and the rest of the kernel.

Each method has the name and the arguments of the man page; where a name is a Python word or a
built-in, an underscore follows it.
"""

from __future__ import annotations

from attacks.calls.operand import Fd, Num, Pid, Ptr
from attacks.recorder import Arg, Recorder, Result, octal


class System(Recorder):
    """Calls on mounts, IPC objects, keys, clocks, rings and the rest of the kernel."""

    def mount(
        self, source: Ptr, target: Ptr, filesystemtype: Ptr, mountflags: Num, data: Ptr
    ) -> Result:
        return self.raw("mount", source, target, filesystemtype, mountflags, data)

    def umount(self, target: Ptr) -> Result:
        return self.raw("umount", target)

    def umount2(self, target: Ptr, flags: Num) -> Result:
        return self.raw("umount2", target, flags)

    def pivot_root(self, new_root: Ptr, put_old: Ptr) -> Result:
        return self.raw("pivot_root", new_root, put_old)

    def open_tree(self, dirfd: Fd, path: Ptr, flags: Num) -> Result:
        return self.raw("open_tree", dirfd, path, flags)

    def open_tree_attr(self, dirfd: Fd, path: Ptr, flags: Num, attr: Ptr, size: Num) -> Result:
        return self.raw("open_tree_attr", dirfd, path, flags, attr, size)

    def move_mount(
        self, from_dirfd: Fd, from_path: Ptr, to_dirfd: Fd, to_path: Ptr, flags: Num
    ) -> Result:
        return self.raw("move_mount", from_dirfd, from_path, to_dirfd, to_path, flags)

    def mount_setattr(self, dirfd: Fd, path: Ptr, flags: Num, attr: Ptr, size: Num) -> Result:
        return self.raw("mount_setattr", dirfd, path, flags, attr, size)

    def fsopen(self, fsname: Ptr, flags: Num) -> Result:
        return self.raw("fsopen", fsname, flags)

    def fsconfig(self, fd: Fd, cmd: Num, key: Ptr, value: Ptr, aux: Num) -> Result:
        return self.raw("fsconfig", fd, cmd, key, value, aux)

    def fsmount(self, fsfd: Fd, flags: Num, attr_flags: Num) -> Result:
        return self.raw("fsmount", fsfd, flags, attr_flags)

    def fspick(self, dirfd: Fd, path: Ptr, flags: Num) -> Result:
        return self.raw("fspick", dirfd, path, flags)

    def listmount(self, req: Ptr, mnt_ids: Ptr, nr_mnt_ids: Num, flags: Num) -> Result:
        return self.raw("listmount", req, mnt_ids, nr_mnt_ids, flags)

    def statmount(self, req: Ptr, buf: Ptr, bufsize: Num, flags: Num) -> Result:
        return self.raw("statmount", req, buf, bufsize, flags)

    def pipe(self, pipefd: Ptr) -> Result:
        return self.raw("pipe", pipefd)

    def pipe2(self, pipefd: Ptr, flags: Num) -> Result:
        return self.raw("pipe2", pipefd, flags)

    def eventfd(self, initval: Num) -> Result:
        return self.raw("eventfd", initval)

    def eventfd2(self, initval: Num, flags: Num) -> Result:
        return self.raw("eventfd2", initval, flags)

    def epoll_create1(self, flags: Num) -> Result:
        return self.raw("epoll_create1", flags)

    def epoll_ctl(self, epfd: Fd, op: Num, fd: Fd, event: Ptr) -> Result:
        return self.raw("epoll_ctl", epfd, op, fd, event)

    def poll(self, fds: Ptr, nfds: Num, timeout: Num) -> Result:
        return self.raw("poll", fds, nfds, timeout)

    def io_setup(self, nr_events: Num, ctx_idp: Ptr) -> Result:
        return self.raw("io_setup", nr_events, ctx_idp)

    def io_submit(self, ctx_id: Arg, nr: Num, iocbpp: Ptr) -> Result:
        return self.raw("io_submit", ctx_id, nr, iocbpp)

    def io_getevents(self, ctx_id: Arg, min_nr: Num, nr: Num, events: Ptr, timeout: Ptr) -> Result:
        return self.raw("io_getevents", ctx_id, min_nr, nr, events, timeout)

    def ipc(self, call: Num, first: Arg, second: Arg, third: Arg, ptr: Ptr, fifth: Arg) -> Result:
        return self.raw("ipc", call, first, second, third, ptr, fifth)

    def shmget(self, key: Num, size: Num, shmflg: Num) -> Result:
        return self.raw("shmget", key, size, shmflg)

    def shmat(self, shmid: Fd, shmaddr: Ptr, shmflg: Num) -> Result:
        return self.raw("shmat", shmid, shmaddr, shmflg)

    def shmctl(self, shmid: Fd, op: Num, buf: Ptr) -> Result:
        return self.raw("shmctl", shmid, op, buf)

    def semget(self, key: Num, nsems: Num, semflg: Num) -> Result:
        return self.raw("semget", key, nsems, semflg)

    def semctl(self, semid: Fd, semnum: Num, op: Num, arg: Arg = 0) -> Result:
        return self.raw("semctl", semid, semnum, op, arg)

    def semop(self, semid: Fd, sops: Ptr, nsops: Num) -> Result:
        return self.raw("semop", semid, sops, nsops)

    def semtimedop(self, semid: Fd, sops: Ptr, nsops: Num, timeout: Ptr) -> Result:
        return self.raw("semtimedop", semid, sops, nsops, timeout)

    def msgget(self, key: Num, msgflg: Num) -> Result:
        return self.raw("msgget", key, msgflg)

    def msgsnd(self, msqid: Fd, msgp: Ptr, msgsz: Num, msgflg: Num) -> Result:
        return self.raw("msgsnd", msqid, msgp, msgsz, msgflg)

    def msgrcv(self, msqid: Fd, msgp: Ptr, msgsz: Num, msgtyp: Num, msgflg: Num) -> Result:
        return self.raw("msgrcv", msqid, msgp, msgsz, msgtyp, msgflg)

    def mq_open(self, name: Ptr, oflag: Num, mode: Num, attr: Ptr) -> Result:
        return self.raw("mq_open", name, oflag, octal(mode), attr)

    def mq_unlink(self, name: Ptr) -> Result:
        return self.raw("mq_unlink", name)

    def mq_timedsend(
        self, mqdes: Fd, msg_ptr: Ptr, msg_len: Num, msg_prio: Num, abs_timeout: Ptr
    ) -> Result:
        return self.raw("mq_timedsend", mqdes, msg_ptr, msg_len, msg_prio, abs_timeout)

    def mq_timedreceive(
        self, mqdes: Fd, msg_ptr: Ptr, msg_len: Num, msg_prio: Ptr, abs_timeout: Ptr
    ) -> Result:
        return self.raw("mq_timedreceive", mqdes, msg_ptr, msg_len, msg_prio, abs_timeout)

    def add_key(
        self, type_: Ptr, description: Ptr, payload: Ptr, plen: Num, keyring: Num
    ) -> Result:
        return self.raw("add_key", type_, description, payload, plen, keyring)

    def request_key(
        self, type_: Ptr, description: Ptr, callout_info: Ptr, dest_keyring: Num
    ) -> Result:
        return self.raw("request_key", type_, description, callout_info, dest_keyring)

    def keyctl(self, op: Num, arg2: Arg = 0, arg3: Arg = 0, arg4: Arg = 0, arg5: Arg = 0) -> Result:
        return self.raw("keyctl", op, arg2, arg3, arg4, arg5)

    def bpf(self, cmd: Num, attr: Ptr, size: Num) -> Result:
        return self.raw("bpf", cmd, attr, size)

    def perf_event_open(self, attr: Ptr, pid: Pid, cpu: Num, group_fd: Fd, flags: Num) -> Result:
        return self.raw("perf_event_open", attr, pid, cpu, group_fd, flags)

    def landlock_create_ruleset(self, attr: Ptr, size: Num, flags: Num) -> Result:
        return self.raw("landlock_create_ruleset", attr, size, flags)

    def landlock_add_rule(
        self, ruleset_fd: Fd, rule_type: Num, rule_attr: Ptr, flags: Num
    ) -> Result:
        return self.raw("landlock_add_rule", ruleset_fd, rule_type, rule_attr, flags)

    def landlock_restrict_self(self, ruleset_fd: Fd, flags: Num) -> Result:
        return self.raw("landlock_restrict_self", ruleset_fd, flags)

    def uname(self, buf: Ptr) -> Result:
        return self.raw("uname", buf)

    def sethostname(self, name: Ptr, len_: Num) -> Result:
        return self.raw("sethostname", name, len_)

    def setdomainname(self, name: Ptr, len_: Num) -> Result:
        return self.raw("setdomainname", name, len_)

    def clock_gettime(self, clockid: Num, tp: Ptr) -> Result:
        return self.raw("clock_gettime", clockid, tp)

    def clock_settime(self, clockid: Num, tp: Ptr) -> Result:
        return self.raw("clock_settime", clockid, tp)

    def clock_adjtime(self, clockid: Num, buf: Ptr) -> Result:
        return self.raw("clock_adjtime", clockid, buf)

    def adjtimex(self, buf: Ptr) -> Result:
        return self.raw("adjtimex", buf)

    def settimeofday(self, tv: Ptr, tz: Ptr) -> Result:
        return self.raw("settimeofday", tv, tz)

    def gettimeofday(self, tv: Ptr, tz: Ptr) -> Result:
        return self.raw("gettimeofday", tv, tz)

    def syslog(self, type_: Num, bufp: Ptr, len_: Num) -> Result:
        return self.raw("syslog", type_, bufp, len_)

    def reboot(self, magic: Num, magic2: Num, op: Num, arg: Ptr) -> Result:
        return self.raw("reboot", magic, magic2, op, arg)

    def kexec_load(self, entry: Arg, nr_segments: Num, segments: Ptr, flags: Num) -> Result:
        return self.raw("kexec_load", entry, nr_segments, segments, flags)

    def kexec_file_load(
        self, kernel_fd: Fd, initrd_fd: Fd, cmdline_len: Num, cmdline: Ptr, flags: Num
    ) -> Result:
        return self.raw("kexec_file_load", kernel_fd, initrd_fd, cmdline_len, cmdline, flags)

    def init_module(self, module_image: Ptr, len_: Num, param_values: Ptr) -> Result:
        return self.raw("init_module", module_image, len_, param_values)

    def finit_module(self, fd: Fd, param_values: Ptr, flags: Num) -> Result:
        return self.raw("finit_module", fd, param_values, flags)

    def delete_module(self, name: Ptr, flags: Num) -> Result:
        return self.raw("delete_module", name, flags)

    def swapon(self, path: Ptr, swapflags: Num) -> Result:
        return self.raw("swapon", path, swapflags)

    def swapoff(self, path: Ptr) -> Result:
        return self.raw("swapoff", path)

    def quotactl(self, op: Num, special: Ptr, id_: Num, addr: Ptr) -> Result:
        return self.raw("quotactl", op, special, id_, addr)

    def acct(self, filename: Ptr) -> Result:
        return self.raw("acct", filename)

    def iopl(self, level: Num) -> Result:
        return self.raw("iopl", level)

    def ioperm(self, from_: Num, num: Num, turn_on: Num) -> Result:
        return self.raw("ioperm", from_, num, turn_on)

    def vhangup(self) -> Result:
        return self.raw("vhangup")

    def io_uring_setup(self, entries: Num, params: Ptr) -> Result:
        return self.raw("io_uring_setup", entries, params)

    def io_uring_enter(
        self, fd: Fd, to_submit: Num, min_complete: Num, flags: Num, sig: Ptr, size: Num
    ) -> Result:
        return self.raw("io_uring_enter", fd, to_submit, min_complete, flags, sig, size)

    def io_uring_register(self, fd: Fd, op: Num, arg: Ptr, nr_args: Num) -> Result:
        return self.raw("io_uring_register", fd, op, arg, nr_args)
