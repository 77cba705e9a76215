// SPDX-License-Identifier: MIT
// The kernel's words, in the runner's own spelling (it includes no kernel header), and what is
// needed everywhere: calls, memory, text, time.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long u64;
typedef long i64;

#include "x86_64.h"

enum {
	EPERM = 1, ENOENT = 2, ESRCH = 3, EINTR = 4, EBADF = 9, ECHILD = 10, EAGAIN = 11, ENOMEM = 12, EACCES = 13, EEXIST = 17, EINVAL = 22, ENOSYS = 38,
	AT_FDCWD = -100, AT_SYMLINK_NOFOLLOW = 0x100, AT_REMOVEDIR = 0x200, AT_EMPTY_PATH = 0x1000, AT_RECURSIVE = 0x8000,
	O_RDWR = 2, O_WRONLY = 1, O_CREAT = 0100, O_EXCL = 0200, O_NONBLOCK = 04000, O_DIRECTORY = 0200000,
	O_NOFOLLOW = 0400000, O_CLOEXEC = 02000000, O_PATH = 010000000, O_TMPFILE = 020200000,
	MS_RDONLY = 1, MS_NOSUID = 2, MS_NODEV = 4, MS_NOEXEC = 8, MS_REMOUNT = 32, MS_BIND = 4096, MS_REC = 16384, MS_PRIVATE = 1 << 18,
	MNT_DETACH = 2,
	PROT_READ = 1, PROT_WRITE = 2, MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_FIXED = 16, MAP_ANONYMOUS = 32,
	MADV_REMOVE = 9, MADV_DONTFORK = 10, MADV_DOFORK = 11, MREMAP_MAYMOVE = 1, MREMAP_FIXED = 2,
	CLONE_VM = 0x100, CLONE_FS = 0x200, CLONE_FILES = 0x400, CLONE_SIGHAND = 0x800, CLONE_VFORK = 0x4000, CLONE_PARENT = 0x8000, CLONE_THREAD = 0x10000,
	CLONE_NEWNS = 0x20000, CLONE_SYSVSEM = 0x40000, CLONE_PARENT_SETTID = 0x100000, CLONE_CHILD_CLEARTID = 0x200000,
	CLONE_CHILD_SETTID = 0x1000000, CLONE_NEWCGROUP = 0x2000000, CLONE_NEWUTS = 0x4000000, CLONE_NEWIPC = 0x8000000,
	PF_IO_WORKER = 0x10, PF_USER_WORKER = 0x4000,	// linux/sched.h; in proc_pid_stat(5) as flags
	CLONE_NEWUSER = 0x10000000, CLONE_NEWPID = 0x20000000, CLONE_NEWNET = 0x40000000,
	SIGHUP = 1, SIGINT = 2, SIGTERM = 15, SIGTRAP = 5, SIGSYS = 31, SIGKILL = 9, SIGALRM = 14, SIGCHLD = 17,
	WNOHANG = 1, WALL = 0x40000000,
	PTRACE_PEEKTEXT = 1, PTRACE_PEEKUSER = 3, PTRACE_CONT = 7, PTRACE_SEIZE = 0x4206, PTRACE_INTERRUPT = 0x4207, PTRACE_DETACH = 17, PTRACE_SECCOMP_GET_FILTER = 0x420c,
	PTRACE_SETOPTIONS = 0x4200, PTRACE_GETEVENTMSG = 0x4201, PTRACE_GETSIGINFO = 0x4202, PTRACE_GETREGS = 12, PTRACE_SETREGS = 13, PTRACE_O_TRACEFORK = 2, PTRACE_O_TRACEVFORK = 4, PTRACE_O_TRACECLONE = 8, PTRACE_O_TRACEEXEC = 16,
	PTRACE_EVENT_FORK = 1, PTRACE_EVENT_VFORK = 2, PTRACE_EVENT_CLONE = 3, PTRACE_EVENT_EXEC = 4,
	PTRACE_O_EXITKILL = 0x100000, PTRACE_O_CHILDREN = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE,
	SCHED_IDLE = 5,
	PR_SET_PDEATHSIG = 1, PR_SET_DUMPABLE = 4, PR_SET_KEEPCAPS = 8, PR_CAPBSET_DROP = 24, PR_SET_NO_NEW_PRIVS = 38, PR_SET_CHILD_SUBREAPER = 36,
	SECCOMP_SET_MODE_FILTER = 1, SECCOMP_FILTER_FLAG_TSYNC = 1,
	RLIMIT_CPU = 0, RLIMIT_FSIZE = 1, RLIMIT_DATA = 2, RLIMIT_CORE = 4, RLIMIT_NPROC = 6, RLIMIT_NOFILE = 7,
	S_IFMT = 0170000, S_IFDIR = 0040000, S_IFREG = 0100000, S_IFIFO = 0010000, S_IFLNK = 0120000, DT_DIR = 4,
};

struct stat {
	u64 st_dev, st_ino, st_nlink;
	u32 st_mode, st_uid, st_gid, pad;
	u64 st_rdev;
	i64 st_size, st_blksize, st_blocks, st_atime, st_atime_ns, st_mtime, st_mtime_ns, st_ctime, st_ctime_ns, unused[3];
};

struct timespec {
	i64 sec, nsec;
};

struct dirent64 {
	u64 ino;
	i64 off;
	u16 reclen;
	u8 type;
	char name[];
};

struct sock_fprog {
	u16 len;
	const void *filter;
};

static i64 sys(u64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	u64 args[6] = { a, b, c, d, e, f };

	return (i64)enter_syscall(nr, args);
}

#define A(x) ((u64)(x))
#define SYS0(n) sys(NR_##n, 0, 0, 0, 0, 0, 0)
#define SYS1(n, a) sys(NR_##n, A(a), 0, 0, 0, 0, 0)
#define SYS2(n, a, b) sys(NR_##n, A(a), A(b), 0, 0, 0, 0)
#define SYS3(n, a, b, c) sys(NR_##n, A(a), A(b), A(c), 0, 0, 0)
#define SYS4(n, a, b, c, d) sys(NR_##n, A(a), A(b), A(c), A(d), 0, 0)
#define SYS5(n, a, b, c, d, e) sys(NR_##n, A(a), A(b), A(c), A(d), A(e), 0)
#define SYS6(n, a, b, c, d, e, f) sys(NR_##n, A(a), A(b), A(c), A(d), A(e), A(f))

void *memcpy(void *to, const void *from, u64 n);
void *memset(void *to, int byte, u64 n);
void start(u64 *stack);

void *memcpy(void *to, const void *from, u64 n)
{
	void *answer = to;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	return answer;
}

void *memset(void *to, int byte, u64 n)
{
	void *answer = to;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(byte) : "memory");
	return answer;
}

static u64 length(const char *text)
{
	u64 n = 0;

	while (text[n])
		n++;
	return n;
}

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static int same_bytes(const u8 *a, const u8 *b, u64 n)
{
	for (u64 i = 0; i < n; i++)
		if (a[i] != b[i])
			return 0;
	return 1;
}

static char *append(char *to, const char *text)
{
	while (*text)
		*to++ = *text++;
	*to = 0;
	return to;
}

static char *append_number(char *to, u64 number)
{
	char digits[24];
	int n = 0;

	do
		digits[n++] = (char)('0' + number % 10);
	while (number /= 10);
	while (n)
		*to++ = digits[--n];
	*to = 0;
	return to;
}

static u64 number_at(const char **text)
{
	u64 number = 0;

	while (**text >= '0' && **text <= '9')
		number = number * 10 + (u64)(*(*text)++ - '0');
	return number;
}

static u64 clock_us(void)
{
	struct timespec t = { 0, 0 };

	SYS2(clock_gettime, 1, &t);
	return (u64)t.sec * 1000000 + (u64)t.nsec / 1000;
}

static u64 ticks_per_us = 1000;

static u64 ticks(void)
{
	u32 low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (u64)high << 32 | low;
}

// For bounds and latencies: no system call.
static u64 now_us(void)
{
	return ticks() / ticks_per_us;
}

static void nap_us(u64 us)
{
	struct timespec t = { 0, (i64)us * 1000 };

	SYS2(nanosleep, &t, 0);
}
