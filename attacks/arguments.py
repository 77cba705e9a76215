"""What the arguments of each call are: how much of a register is read, and what it means.

``fd`` and ``int``: the lower 32 bits, whatever stands above them (a filter sees all 64); ``mode``:
the lower 16; ``path``: the address of a path that is looked up; ``ptr``: another address; ``long``:
all 64 bits, or a check that the upper ones are empty (``mprotect``, ``unshare``, ``mount`` refuse
garbage).  From the man pages of section 2 and the kernel's SYSCALL_DEFINE lines, tried on 6.18.
"""

from __future__ import annotations

_TABLE = """
futex ptr int int ptr ptr int; ioprio_get int int; quotactl_fd fd int int ptr;
sched_setparam int ptr; syncfs fd;
accept fd ptr ptr; accept4 fd ptr ptr int; access path int; acct path;
add_key ptr ptr ptr long int; adjtimex ptr; arch_prctl int long; bind fd ptr int;
bpf int ptr long; brk ptr; capget ptr ptr; capset ptr ptr; chdir path; chmod path mode;
chown path int int; chroot path; clock_adjtime int ptr; clock_gettime int ptr;
clock_settime int ptr; clone int ptr ptr ptr ptr; clone3 ptr long; close fd; connect fd ptr int;
copy_file_range fd ptr fd ptr long int; creat path mode; delete_module ptr int; dup fd;
dup2 fd fd; dup3 fd fd int; epoll_create1 int; epoll_ctl fd int fd ptr; eventfd int;
eventfd2 int int; execve path ptr ptr; execveat fd path ptr ptr int; exit int; exit_group int;
faccessat fd path int; faccessat2 fd path int int; fallocate fd int long long;
fanotify_init int int; fanotify_mark fd int long fd path; fchdir fd; fchmod fd mode;
fchmodat fd path mode; fchmodat2 fd path mode int; fchown fd int int;
fchownat fd path int int int; fcntl fd int long; fgetxattr fd ptr ptr long;
file_getattr fd path ptr long int; file_setattr fd path ptr long int; finit_module fd ptr int;
flock fd int; fork; fremovexattr fd ptr; fsconfig fd int ptr ptr int;
fsetxattr fd ptr ptr long int; fsmount fd int int; fsopen ptr int; fspick fd path int;
fstat fd ptr; fstatfs fd ptr; ftruncate fd long; futimesat fd path ptr; getdents fd ptr long;
getdents64 fd ptr long; getegid; geteuid; getpid; getrandom ptr long int; getrlimit int ptr;
getsockname fd ptr ptr; getsockopt fd int int ptr ptr; gettid; gettimeofday ptr ptr;
getxattr path ptr ptr long; getxattrat fd path int ptr ptr long; init_module ptr long ptr;
inotify_add_watch fd path long; inotify_init; inotify_init1 int;
io_getevents long long long ptr ptr; io_setup long ptr; io_submit long long ptr;
io_uring_enter fd int int int ptr long; io_uring_register fd int ptr int;
io_uring_setup int ptr; ioctl fd int long; ioperm long long int; iopl int;
ioprio_set int int int; ipc int long long long ptr long; kcmp int int int long long;
kexec_file_load fd fd long ptr int; kexec_load long long ptr int;
keyctl int long long long long; kill int int; landlock_add_rule fd int ptr int;
landlock_create_ruleset ptr long int; landlock_restrict_self fd int; lchown path int int;
lgetxattr path ptr ptr long; link path path; linkat fd path fd path int; listen fd int;
listmount ptr ptr long int; listxattr path ptr long; listxattrat fd path int ptr long;
lremovexattr path ptr; lseek fd long int; lsetxattr path ptr ptr long int; lstat path ptr;
madvise ptr long int; memfd_create ptr int; memfd_secret int; migrate_pages int long ptr ptr;
mkdir path mode; mkdirat fd path mode; mknod path mode long; mknodat fd path mode long;
mlock ptr long; mlock2 ptr long int; mlockall int; mmap ptr long int int fd long;
modify_ldt int ptr long; mount path path ptr long ptr; mount_setattr fd path int ptr long;
move_mount fd path fd path int; mprotect ptr long long; mq_open ptr int mode ptr;
mq_timedreceive fd ptr long ptr ptr; mq_timedsend fd ptr long int ptr; mq_unlink ptr;
mremap ptr long long int ptr; msgget int int; msgrcv fd ptr long long int;
msgsnd fd ptr long int; munmap ptr long; name_to_handle_at fd path ptr ptr int;
nanosleep ptr ptr; newfstatat fd path ptr int; nice int; open path int mode;
open_by_handle_at fd ptr int; open_tree fd path int; open_tree_attr fd path int ptr long;
openat fd path int mode; openat2 fd path ptr long; perf_event_open ptr int int fd int;
personality int; pidfd_getfd fd int int; pidfd_open int int; pidfd_send_signal fd int ptr int;
pipe ptr; pipe2 ptr int; pivot_root path path; pkey_mprotect ptr long long int;
poll ptr int int; prctl int long long long long; pread64 fd ptr long long;
preadv fd ptr long long long; preadv2 fd ptr long long long int; prlimit64 int int ptr ptr;
process_madvise fd ptr long int int; process_vm_readv int ptr long ptr long int;
process_vm_writev int ptr long ptr long int; ptrace long int long long;
pwrite64 fd ptr long long; pwritev fd ptr long long long; pwritev2 fd ptr long long long int;
quotactl int ptr long ptr; read fd ptr long; readlink path ptr long;
readlinkat fd path ptr long; readv fd ptr long; reboot long long int ptr;
recvfrom fd ptr long int ptr ptr; recvmmsg fd ptr int int ptr; recvmsg fd ptr int;
removexattr path ptr; removexattrat fd path int ptr; rename path path; renameat fd path fd path;
renameat2 fd path fd path int; request_key ptr ptr ptr int; rmdir path;
rt_sigaction long ptr ptr long; rt_sigprocmask int ptr ptr long; rt_sigqueueinfo int int ptr;
rt_tgsigqueueinfo int int int ptr; sched_getaffinity int long ptr;
sched_setaffinity int long ptr; sched_setattr int ptr int; sched_setscheduler int int ptr;
seccomp int int ptr; semctl fd int int long; semget int int int; semop fd ptr long;
semtimedop fd ptr long ptr; sendfile fd fd ptr long; sendmmsg fd ptr int int;
sendmsg fd ptr int; sendto fd ptr long int ptr int; set_thread_area ptr; setdomainname ptr int;
setfsgid long; setfsuid long; setgid int; setgroups long ptr; sethostname ptr int;
setns fd int; setpgid int int; setpriority int int int; setregid int int; setresgid int int int;
setresuid int int int; setreuid int int; setrlimit int ptr; setsid;
setsockopt fd int int ptr int; settimeofday ptr ptr; setuid int; setxattr path ptr ptr long int;
setxattrat fd path int ptr ptr long; shmat fd ptr int; shmctl fd int ptr; shmget int long int;
shutdown fd int; socket int int int; socketcall int ptr; socketpair int int int ptr;
splice fd ptr fd ptr long int; stat path ptr; statfs path ptr; statmount ptr ptr long int;
statx fd path int long ptr; swapoff path; swapon path int; symlink ptr path;
symlinkat ptr fd path; syslog int ptr long; tee fd fd long int; tgkill int int int;
tkill int int; truncate path long; umask mode; umount path; umount2 path int; uname ptr;
unlink path; unlinkat fd path int; unshare long; userfaultfd int; utime path ptr;
utimensat fd path ptr int; utimes path ptr; vfork; vhangup; vmsplice fd ptr long int;
wait4 int ptr int ptr; waitid int int ptr int ptr; waitpid int ptr int; write fd ptr long;
writev fd ptr long;
"""
KINDS: dict[str, tuple[str, ...]] = {
    name: tuple(kinds)
    for name, *kinds in (row.split() for row in _TABLE.replace("\n", " ").split(";") if row.strip())
}
"""The kinds of the arguments, by the name of the call."""
NARROW = frozenset({"fd", "int", "mode"})
_KNOWN_OPEN_FLAGS = 0o37777703
UNHEEDED: dict[tuple[str, int], int] = {
    ("open", 1): ~_KNOWN_OPEN_FLAGS & 0xFFFFFFFF | 0o2100400,
    ("openat", 2): ~_KNOWN_OPEN_FLAGS & 0xFFFFFFFF | 0o2100400,
    ("socket", 1): 0o2004000,
    ("mmap", 2): 0x8,
    ("mprotect", 2): 0x8,
    ("mount", 3): 0xFFFF0000,
    ("mkdir", 1): 0xF000,
    ("mkdirat", 2): 0xF000,
    ("chmod", 1): 0xF000,
    ("fchmod", 1): 0xF000,
    ("fchmodat", 2): 0xF000,
    ("fchmodat2", 2): 0xF000,
}
"""By call and argument: bits that change nothing, or nothing that most effects need.

What the kernel refuses or forgets of flags and modes: O_CLOEXEC, O_NOCTTY and O_LARGEFILE, bits
that open(2) does not know, SOCK_CLOEXEC and SOCK_NONBLOCK, PROT_SEM, a magic number of mount(2).
"""
