// SPDX-License-Identifier: MIT
// sidestep's runner: the judge, the init of the sandbox, the gates and the subjects, in one static
// program without a libc.  evaluator/wire.py specifies the frames, evaluator/sandbox.py starts it.
//
//   outer    started by Python, in the caller's namespaces; writes the id maps, waits, does nothing else
//   judge R  pid 1 of its own namespaces; makes fixtures, asks the oracle, never runs a program
//   init P   pid 1 of the pid namespace *below* the judge's, in a user namespace below the judge's;
//            holds the namespaces that subjects live in, and sweeps them with kill(-1)
//   gate G   a child of R in R's pid namespace, so subjects cannot see it; joins P's namespaces,
//            enters the posture, gets the layers, and then needs one permitted call: clone
//   subject  a sibling of the gate by CLONE_PARENT, in P's pid namespace: runs the attack and dies
//
// Where a filter denies every clone, the subject is loaded directly, once per trial ("direct").
// Without no_new_privs the filter needs CAP_SYS_ADMIN, which the posture must not have: a second
// thread that kept the capabilities loads it for the whole thread group (TSYNC) and exits.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long u64;
typedef long i64;

#include "x86_64.h"

// ---------------------------------------------------------------- shared memory, below 4 GiB

// Everything lies in one 2 MiB range with the text (build.py links it at 0x500000): one page of
// page tables for a subject, and `int 0x80` can reach all of it.

#define ARENA 0x400000UL
#define ARENA_SIZE (256 * 1024UL)
#define TRACE 0x440000UL
#define PROGRAM 0x44a000UL
#define SHARED_END 0x455000UL
#define CONTROL 0x460000UL
#define MAX_OPS 512
#define MAX_PROGRAMS 8192
#define MAX_CONFIGS 256
#define MAX_FRAME (4 * 1024 * 1024)

enum { K_SYSCALL = 1, K_LOAD, K_STORE, K_ADD, K_PRINT, K_WAIT, K_CALL, K_EXPECT, K_FAULT };
enum { V_CONST, V_ARENA, V_SLOT, V_ENV };
enum { E_SYSCALL, E_INT80, E_SYSENTER, E_FAR };
enum { F_MAY_FAIL = 1, F_BODY = 2 };
enum { S_NOT_REACHED, S_STARTED, S_DONE, S_MISMATCH, S_TIMEOUT };
enum { ENV_VICTIM_PID, ENV_SUBJECT_PID, ENV_VICTIM_HOOK, ENV_SYSCALL_INSN, ENV_COUNT };

struct op {
	u8 kind, entry, flags, width;
	u32 nr, skip, bound_us;
	u8 value_kind[8];
	u64 value[6];
};

struct record {
	u32 state, spare;
	u64 result, args[6];
};

struct trace {
	volatile u32 victim_ready, spare[15];
	struct record record[MAX_OPS];
};

struct program_page {
	u32 setup_end, victim_end, attack_end, spare;
	volatile u64 env[ENV_COUNT];
	struct op op[MAX_OPS];
};

// Seen by the judge and the gate; MADV_DONTFORK in the gate keeps it from subjects.
struct control {
	volatile u32 seized, entry, pid, loader, loaded, loader_used, stuck, stay, step, victim;
	volatile i32 error, clone_result;
};

static u64 kernel_stack;
static struct trace *const trace = (struct trace *)TRACE;
static struct program_page *const page = (struct program_page *)PROGRAM;
static struct control *const control = (struct control *)CONTROL;

// ---------------------------------------------------------------- the kernel's words

enum {
	EPERM = 1, ENOENT = 2, ESRCH = 3, EINTR = 4, ECHILD = 10, EAGAIN = 11, ENOMEM = 12, EEXIST = 17, EINVAL = 22, ENOSYS = 38,
	AT_FDCWD = -100, AT_SYMLINK_NOFOLLOW = 0x100, AT_REMOVEDIR = 0x200, AT_EMPTY_PATH = 0x1000, AT_RECURSIVE = 0x8000,
	O_RDWR = 2, O_WRONLY = 1, O_CREAT = 0100, O_EXCL = 0200, O_NONBLOCK = 04000, O_DIRECTORY = 0200000,
	O_NOFOLLOW = 0400000, O_CLOEXEC = 02000000, O_PATH = 010000000, O_TMPFILE = 020200000,
	MS_RDONLY = 1, MS_NOSUID = 2, MS_NODEV = 4, MS_NOEXEC = 8, MS_REMOUNT = 32, MS_BIND = 4096, MS_REC = 16384, MS_PRIVATE = 1 << 18,
	MNT_DETACH = 2,
	PROT_READ = 1, PROT_WRITE = 2, MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_FIXED = 16, MAP_ANONYMOUS = 32,
	MADV_DONTFORK = 10,
	CLONE_VM = 0x100, CLONE_FS = 0x200, CLONE_FILES = 0x400, CLONE_SIGHAND = 0x800, CLONE_VFORK = 0x4000, CLONE_PARENT = 0x8000, CLONE_THREAD = 0x10000,
	CLONE_NEWNS = 0x20000, CLONE_SYSVSEM = 0x40000, CLONE_PARENT_SETTID = 0x100000, CLONE_CHILD_CLEARTID = 0x200000,
	CLONE_CHILD_SETTID = 0x1000000, CLONE_NEWCGROUP = 0x2000000, CLONE_NEWUTS = 0x4000000, CLONE_NEWIPC = 0x8000000,
	CLONE_NEWUSER = 0x10000000, CLONE_NEWPID = 0x20000000, CLONE_NEWNET = 0x40000000,
	SIGTRAP = 5, SIGSYS = 31, SIGKILL = 9, SIGALRM = 14, SIGCHLD = 17,
	WNOHANG = 1, WALL = 0x40000000,
	PTRACE_PEEKUSER = 3, PTRACE_CONT = 7, PTRACE_SEIZE = 0x4206, PTRACE_INTERRUPT = 0x4207, PTRACE_DETACH = 17, PTRACE_SECCOMP_GET_FILTER = 0x420c,
	PTRACE_SETOPTIONS = 0x4200, PTRACE_GETSIGINFO = 0x4202, PTRACE_GETREGS = 12, PTRACE_SETREGS = 13, PTRACE_O_TRACEFORK = 2, PTRACE_O_TRACEVFORK = 4, PTRACE_O_TRACECLONE = 8,
	PTRACE_O_EXITKILL = 0x100000, PTRACE_O_CHILDREN = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE,
	PR_SET_PDEATHSIG = 1, PR_SET_DUMPABLE = 4, PR_SET_KEEPCAPS = 8, PR_CAPBSET_DROP = 24, PR_SET_NO_NEW_PRIVS = 38,
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
	struct timespec t;

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

// ---------------------------------------------------------------- the subject's interpreter
// Runs with the layers in force.  It makes no call of its own until the program has ended.

#define STACK 16384
static u8 body_stack[8][STACK] __attribute__((aligned(64)));
static void run(u32 from, u32 to);

static void __attribute__((noreturn)) leave(void)
{
	for (;;) {
		SYS1(exit_group, 0);
		SYS1(exit, 0);
		__asm__ volatile("ud2");
	}
}

static void body(u64 index)
{
	run((u32)index + 1, (u32)index + 1 + page->op[index].skip);
	SYS1(exit, 0);	// a thread ends alone; for a process this is the whole of it
	leave();
}

static u64 value(const struct op *op, int i)
{
	switch (op->value_kind[i]) {
	case V_ARENA:
		return ARENA + op->value[i];
	case V_SLOT:
		return trace->record[op->value[i] % MAX_OPS].result;
	case V_ENV:
		return page->env[op->value[i] % ENV_COUNT];
	}
	return op->value[i];
}

static u64 enter(const struct op *op, u32 index, const u64 *args)
{
	void *stack = body_stack[index % 8] + STACK - 64;
	u64 result;

	if (op->flags & F_BODY)
		result = op->entry == E_SYSCALL ? spawn_syscall(op->nr, args, stack, body, index)
						: spawn_int80(op->nr, args, stack, body, index);
	else if (op->entry == E_INT80)
		result = enter_int80(op->nr, args);
	else if (op->entry == E_SYSENTER)
		result = enter_sysenter(op->nr, args);
	else if (op->entry == E_FAR)
		result = enter_far_int80(op->nr, args);
	else
		return enter_syscall(op->nr, args);
	if (op->entry == E_SYSCALL)
		return result;
	result &= 0xffffffff;	// a 32-bit result: an error is negative, an address is not
	return result >= 0xfffff001 ? result | 0xffffffff00000000 : result;
}

static u64 load(u64 address, int width)
{
	switch (width) {
	case 1: return *(volatile u8 *)address;
	case 2: return *(volatile u16 *)address;
	case 4: return *(volatile u32 *)address;
	}
	return *(volatile u64 *)address;
}

static void store(u64 address, int width, u64 v)
{
	switch (width) {
	case 1: *(volatile u8 *)address = (u8)v; return;
	case 2: *(volatile u16 *)address = (u16)v; return;
	case 4: *(volatile u32 *)address = (u32)v; return;
	}
	*(volatile u64 *)address = v;
}

static int wait_word(u64 address, u64 unlike, u32 bound_us)
{
	u64 end = ticks() + bound_us * ticks_per_us;

	while (load(address, 4) == (unlike & 0xffffffff)) {
		if (ticks() > end)
			return 0;
		__asm__ volatile("pause");
	}
	return 1;
}

static void print(u64 to, u64 number, u64 suffix)
{
	char *end = append_number((char *)to, number);

	if (suffix)
		append(end, (const char *)suffix);
}

static void __attribute__((noinline)) run(u32 from, u32 to)
{
	for (u32 i = from; i < to && i < MAX_OPS; i++) {
		const struct op *op = &page->op[i];
		struct record *r = &trace->record[i];
		u64 v[6];

		for (int k = 0; k < 6; k++)
			r->args[k] = v[k] = value(op, k);
		r->state = S_STARTED;
		__asm__ volatile("" ::: "memory");
		switch (op->kind) {
		case K_SYSCALL: r->result = enter(op, i, v); break;
		case K_LOAD: r->result = load(v[0] + v[1], op->width); break;
		case K_STORE: store(v[0] + v[1], op->width, v[2]); break;
		case K_ADD: r->result = v[0] + v[1]; break;
		case K_PRINT: print(v[0], v[1], v[2]); break;
		case K_WAIT: r->result = (u64)wait_word(v[0] + v[1], v[2], op->bound_us); break;
		case K_CALL: r->result = ((u64(*)(void))v[0])(); break;
		case K_EXPECT: r->result = v[0]; break;
		case K_FAULT: __asm__ volatile("ud2"); break;
		}
		__asm__ volatile("" ::: "memory");
		if (op->kind == K_EXPECT && (v[0] & v[1]) != v[2]) {
			r->state = S_MISMATCH;
			return;
		}
		if (op->kind == K_WAIT && !r->result) {
			r->state = S_TIMEOUT;
			return;
		}
		r->state = S_DONE;
		if (op->kind == K_SYSCALL && !(op->flags & F_MAY_FAIL) && r->result >= (u64)-4095)
			return;
		i += op->skip;	// the body of a call that made a child is the child's
	}
}

static void __attribute__((noreturn)) subject(void)
{
	run(page->victim_end, page->attack_end);
	leave();
}

// A victim lives beside the subject, unfiltered; variants may make it run code at this address.
static void __attribute__((noinline)) victim_hook(void)
{
	__asm__ volatile(".balign 64; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop;"
			 "nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop;"
			 "nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop");
}

static void __attribute__((noreturn)) victim(void)
{
	run(page->setup_end, page->victim_end);
	trace->victim_ready = 1;
	for (;;) {
		victim_hook();
		nap_us(500);
	}
}

// ---------------------------------------------------------------- what the judge knows

enum { O_DIR, O_FILE, O_SYMLINK, O_FIFO };
enum { P_SWEEP = 1, P_WATCH_PROCESS = 2, P_WATCH_EXEC = 4, P_WATCH_MAPPED = 8, P_CORE = 16, P_COLLECT = 32,
       P_DIRECT = 64, P_VICTIM = 128, P_NNP = 256 };
enum { R_SLOW = 1, R_DIAGNOSE = 2 };

struct object {
	u32 kind, mode, content, content_length;
	char path[64];
};

struct program {	// as it arrives on the wire, followed by objects, contents, arena, operations
	u32 id, flags, fresh, n_objects, contents_length, arena_length, setup_end, victim_end, attack_end, n_ops;
	u8 magic[16];
	char parent[64], name[64], collect[64];
};

struct config {		// followed by layers
	u32 id, uid, gid, no_new_privs;
	u64 effective, bounding;
	u32 n_layers, spare;
};

struct layer {		// followed by its bytes, padded to 8
	u32 kind, flags, length, spare;
};

enum { L_SECCOMP = 1 };

struct request {
	u32 tag, program, config, victim_config, flags, timeout_us;
};

struct seen {
	i32 error;
	u32 mode;
	u64 ino, dev;
	u32 nlink, uid, gid, spare;
	u64 size, mtime_ns;
};

struct facts {
	struct seen path, by_fd, followed, held;
	u64 watermark;
	u32 n_names, spare;
	struct { u64 ino; u8 type; char name[31]; } names[8];
};

struct denied {		// a call that a filter answered with SECCOMP_RET_TRAP, in a diagnosis
	u32 nr, arch;
	i32 answer;
	u32 in_subject;
	u64 args[6];
};

struct truth {
	u32 seccomp, filters, no_new_privs, known;
	u64 effective, permitted, bounding;
};

struct reply {
	u32 tag, status, step;
	i32 error;
	u32 mode, wait_status, timed_out, latency_us, n_records, collected, saw_process, saw_exec, saw_mapped, n_denied;
	struct truth truth;
	struct facts before, after;
};

enum { T_HELLO = 1, T_PROGRAM, T_CONFIG, T_RUN, T_PROBE, T_RELEASE, T_RESULT, T_STATUS, T_ERROR };
enum { M_GATE = 1, M_FRESH_GATE, M_DIRECT };

// Each step that can fail has a number; evaluator/wire.py has the names.
enum {
	X_NONE, X_CLONE_JUDGE, X_SETGROUPS, X_UID_MAP, X_GID_MAP, X_SETRESUID, X_PRIVATE, X_TMPFS, X_BIND, X_PROC, X_PIVOT,
	X_SCRATCH, X_CLONE_INIT, X_INIT_MAPS, X_INIT_MOUNT, X_INIT_PROC, X_INIT_PIVOT, X_LOOPBACK, X_NAMESPACES, X_SHARED_MEMORY,
	X_FORK, X_SEIZE, X_JOIN, X_FRESH, X_POSTURE, X_SETUP, X_LOADER, X_LOAD, X_GATE_DIED, X_GATE_WAIT, X_FIXTURE, X_SUBJECT,
	X_VICTIM, X_PROTOCOL, X_SCRATCH_LOST, X_SWEEP, X_STATUS,
};

static int control_in = 200, control_out = 201;
static int init_to = -1, init_from = -1, init_pid;
static int many_ids;
static int ns_fd[6], own_pid_ns, init_pid_ns;
static const char *const ns_name[6] = { "user", "mnt", "net", "ipc", "uts", "cgroup" };
static const u32 ns_flag[6] = { CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP };
static struct program *programs[MAX_PROGRAMS];
static u64 program_bytes[MAX_PROGRAMS];
static struct config *configs[MAX_CONFIGS];
static u64 config_bytes[MAX_CONFIGS];
static struct stat scratch;	// the subject's working directory, as we made it
static int scratch_dir = -1;
static u32 fail_step;
static i32 fail_error;

static int fail(u32 step, i64 error)
{
	fail_step = step;
	fail_error = (i32)-error;
	return -1;
}

static int write_all(int fd, const void *data, u64 n)
{
	const u8 *p = data;

	while (n) {
		i64 done = SYS3(write, fd, p, n);

		if (done == -EINTR)
			continue;
		if (done <= 0)
			return -1;
		p += done;
		n -= (u64)done;
	}
	return 0;
}

static int read_all(int fd, void *data, u64 n)
{
	u8 *p = data;

	while (n) {
		i64 done = SYS3(read, fd, p, n);

		if (done == -EINTR)
			continue;
		if (done <= 0)
			return -1;
		p += done;
		n -= (u64)done;
	}
	return 0;
}

static u8 *out;
static u64 out_used;

static void put(const void *data, u64 n)
{
	if (out_used + n > MAX_FRAME)
		return;
	memcpy(out + out_used, data, n);
	out_used += n;
}

static void flush(void)
{
	if (out_used && write_all(control_out, out, out_used))
		SYS1(exit_group, 0);	// Python is gone
	out_used = 0;
}

static void put_frame(u32 type, u64 n)
{
	u32 head[2] = { type, (u32)n };

	put(head, 8);
}

static i64 open_at(int dir, const char *path, int flags, u32 mode)
{
	return SYS4(openat, dir, path, flags | O_CLOEXEC, mode);
}

static i64 read_file(const char *path, char *to, u64 size)
{
	i64 fd = open_at(AT_FDCWD, path, 0, 0), n = 0, total = 0;

	if (fd < 0)
		return fd;
	while (total < (i64)size - 1 && (n = SYS3(read, fd, to + total, size - 1 - (u64)total)) > 0)
		total += n;
	to[total] = 0;
	SYS1(close, fd);
	return total;
}

static i64 write_file(const char *path, const char *text)
{
	i64 fd = open_at(AT_FDCWD, path, O_WRONLY, 0), n;

	if (fd < 0)
		return fd;
	n = SYS3(write, fd, text, length(text));
	SYS1(close, fd);
	return n < 0 ? n : 0;
}

static char *proc_path(char *to, int pid, const char *file)
{
	append(append(append_number(append(to, "/proc/"), (u64)pid), "/"), file);
	return to;
}

// ---------------------------------------------------------------- building the sandbox

// The subject's root: the caller's programs and libraries read-only, a private scratch, no more.
static int bind_tree(const char *from, const char *to)
{
	struct { u64 set, clear, propagation, userns; } attr = { 1 /* MOUNT_ATTR_RDONLY */, 0, 0, 0 };
	i64 e = SYS5(mount, from, to, 0, MS_BIND | MS_REC, 0);

	if (e < 0)
		return fail(X_BIND, e);
	e = SYS5(mount_setattr, AT_FDCWD, to, AT_RECURSIVE, &attr, sizeof attr);
	return e < 0 && e != -ENOSYS ? fail(X_BIND, e) : 0;
}

static int bind_programs(void)
{
	static const char *const names[] = { "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc" };
	char from[64], to[64], link[128];
	struct stat st;

	for (u32 i = 0; i < sizeof names / sizeof *names; i++) {
		append(append(from, "/"), names[i]);
		append(append(to, "/tmp/s/"), names[i]);
		i64 n = SYS4(readlinkat, AT_FDCWD, from, link, sizeof link - 1);

		if (n > 0) {
			link[n] = 0;
			SYS3(symlinkat, link, AT_FDCWD, to);
		} else if (!SYS4(newfstatat, AT_FDCWD, from, &st, 0)) {
			SYS3(mkdirat, AT_FDCWD, to, 0755);
			if (bind_tree(from, to))
				return -1;
		}
	}
	return 0;
}

static int bind_devices(void)
{
	static const char *const names[] = { "null", "zero", "full", "random", "urandom", "tty" };
	char from[64], to[64];

	SYS3(mkdirat, AT_FDCWD, "/tmp/s/dev", 0755);
	for (u32 i = 0; i < sizeof names / sizeof *names; i++) {
		append(append(from, "/dev/"), names[i]);
		append(append(to, "/tmp/s/dev/"), names[i]);
		i64 fd = open_at(AT_FDCWD, to, O_CREAT | O_WRONLY, 0644);

		if (fd >= 0)
			SYS1(close, fd);
		SYS5(mount, from, to, 0, MS_BIND, 0);
	}
	return 0;
}

static int judge_mounts(void)
{
	i64 e = SYS5(mount, 0, "/", 0, MS_REC | MS_PRIVATE, 0);

	if (e < 0)
		return fail(X_PRIVATE, e);
	if ((e = SYS5(mount, "sidestep", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=16m")) < 0)
		return fail(X_TMPFS, e);
	SYS1(umask, 0);
	SYS3(mkdirat, AT_FDCWD, "/tmp/s", 0755);
	SYS3(mkdirat, AT_FDCWD, "/tmp/s/work", 0755);
	SYS3(mkdirat, AT_FDCWD, "/tmp/s/proc", 0755);
	SYS3(mkdirat, AT_FDCWD, "/tmp/proc", 0755);
	SYS3(mkdirat, AT_FDCWD, "/tmp/old", 0755);
	SYS3(symlinkat, "work", AT_FDCWD, "/tmp/s/tmp");
	// The judge follows absolute links as the subject would.
	SYS3(symlinkat, "s/work", AT_FDCWD, "/tmp/work");
	if (bind_programs() || bind_devices())
		return -1;
	if ((e = SYS5(mount, "sidestep", "/tmp/s/work", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=64m,nr_inodes=8192")) < 0)
		return fail(X_SCRATCH, e);
	if ((e = SYS5(mount, "proc", "/tmp/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0)) < 0)
		return fail(X_PROC, e);
	if ((e = SYS1(chdir, "/tmp")) < 0 || (e = SYS2(pivot_root, ".", "old")) < 0 || (e = SYS2(umount2, "/old", MNT_DETACH)) < 0)
		return fail(X_PIVOT, e);
	SYS1(chdir, "/");
	return 0;
}

static int init_mounts(void)
{
	i64 e = SYS5(mount, "/s", "/s", 0, MS_BIND | MS_REC, 0);

	if (e < 0)
		return fail(X_INIT_MOUNT, e);
	if ((e = SYS5(mount, "proc", "/s/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0)) < 0)
		return fail(X_INIT_PROC, e);
	if ((e = SYS1(chdir, "/s")) < 0 || (e = SYS2(pivot_root, ".", ".")) < 0 || (e = SYS2(umount2, ".", MNT_DETACH)) < 0)
		return fail(X_INIT_PIVOT, e);
	SYS1(chdir, "/");
	return 0;
}

static int loopback_up(void)
{
	struct { char name[16]; short flags; char rest[22]; } ifr = { "lo", 1 /* IFF_UP */, "" };
	i64 fd = SYS3(socket, 2, 2 | O_CLOEXEC, 0);
	i64 e = fd < 0 ? fd : SYS3(ioctl, fd, 0x8914 /* SIOCSIFFLAGS */, &ifr);

	if (fd >= 0)
		SYS1(close, fd);
	return e < 0 ? fail(X_LOOPBACK, e) : 0;
}

static int write_maps(int pid, const char *map, int deny_setgroups, u32 *step)
{
	char path[64];
	i64 e;

	*step = X_SETGROUPS;
	if (deny_setgroups && (e = write_file(proc_path(path, pid, "setgroups"), "deny")) < 0 && e != -ENOENT)
		return (int)e;
	*step = X_UID_MAP;
	if ((e = write_file(proc_path(path, pid, "uid_map"), map)) < 0)
		return (int)e;
	*step = X_GID_MAP;
	return (int)write_file(proc_path(path, pid, "gid_map"), map);
}

struct answer {
	u32 step;
	i32 error;
};

// Answers one question for ever: "is anybody left?", by killing everybody it can see.
static void __attribute__((noreturn)) init(int from, int to)
{
	struct { void *handler; u64 flags; void *restorer; u64 mask; } ignore = { (void *)1, 2 /* SA_NOCLDWAIT */, 0, 0 };
	struct answer answer = { 0, 0 };
	u8 byte;

	SYS3(setresgid, 0, 0, 0);
	SYS3(setresuid, 0, 0, 0);
	SYS2(setgroups, 0, 0);
	SYS2(prctl, PR_SET_PDEATHSIG, SIGKILL);
	SYS2(prctl, PR_SET_DUMPABLE, 1);	// until the judge has opened our namespaces
	if (init_mounts() || loopback_up()) {
		answer.step = fail_step;
		answer.error = fail_error;
	}
	SYS4(rt_sigaction, SIGCHLD, &ignore, 0, 8);
	if (write_all(to, &answer, sizeof answer) || read_all(from, &byte, 1))
		SYS1(exit_group, 1);
	SYS2(prctl, PR_SET_DUMPABLE, 0);
	write_all(to, &answer, sizeof answer);
	while (!read_all(from, &byte, 1)) {
		answer.error = (i32)SYS2(kill, -1, SIGKILL);
		if (write_all(to, &answer, sizeof answer))
			break;
	}
	SYS1(exit_group, 0);
	__builtin_unreachable();
}

static i64 fork_with(u64 flags)
{
	u64 args[6] = { flags | SIGCHLD, 0, 0, 0, 0, 0 };

	return (i64)enter_syscall(NR_clone, args);
}

static int start_init(void)
{
	int down[2], up[2];
	struct answer answer;
	u32 step;
	u8 byte = 0;
	i64 pid, e;

	SYS2(pipe2, down, O_CLOEXEC);
	SYS2(pipe2, up, O_CLOEXEC);
	pid = fork_with(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP);
	if (pid < 0)
		return fail(X_CLONE_INIT, pid);
	if (!pid) {
		SYS1(close, control_in);
		SYS1(close, control_out);
		SYS1(close, down[1]);
		SYS1(close, up[0]);
		if (read_all(down[0], &byte, 1))
			SYS1(exit_group, 1);
		init(down[0], up[1]);
	}
	e = write_maps((int)pid, many_ids ? "0 1 65536" : "0 0 1", !many_ids, &step);
	if (e < 0)
		return fail(X_INIT_MAPS, e);
	SYS1(close, down[0]);
	SYS1(close, up[1]);
	init_to = down[1];
	init_from = up[0];
	init_pid = (int)pid;
	if (write_all(init_to, &byte, 1) || read_all(init_from, &answer, sizeof answer))
		return fail(X_CLONE_INIT, -ESRCH);
	return answer.step ? fail(answer.step, -answer.error) : 0;
}

static int open_namespaces(void)
{
	struct answer answer;
	char path[64], name[16];
	i64 fd;

	for (int i = 0; i < 6; i++) {
		append(append(name, "ns/"), ns_name[i]);
		if ((fd = open_at(AT_FDCWD, proc_path(path, init_pid, name), 0, 0)) < 0)
			return fail(X_NAMESPACES, fd);
		ns_fd[i] = (int)fd;
	}
	if ((fd = open_at(AT_FDCWD, proc_path(path, init_pid, "ns/pid"), 0, 0)) < 0)
		return fail(X_NAMESPACES, fd);
	init_pid_ns = (int)fd;
	if ((fd = open_at(AT_FDCWD, "/proc/self/ns/pid", 0, 0)) < 0)
		return fail(X_NAMESPACES, fd);
	own_pid_ns = (int)fd;
	// From here on no subject can trace init or read its memory, whatever its capabilities.
	if (write_all(init_to, "", 1) || read_all(init_from, &answer, sizeof answer))
		return fail(X_NAMESPACES, -ESRCH);
	return 0;
}

static int map_shared(u64 address, u64 size)
{
	i64 at = SYS6(mmap, address, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	return at < 0 ? fail(X_SHARED_MEMORY, at) : 0;
}

static void *allocate(u64 size)
{
	i64 at = SYS6(mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at < 0 ? 0 : (void *)at;
}

// ---------------------------------------------------------------- fixtures and the oracle

static char *inside(char *to, const char *path)
{
	append(append(to, path[0] == '/' ? "/s" : "/s/work/"), path);
	return to;
}

static u32 kuid(u32 id)
{
	return many_ids ? id + 1 : id;
}

static void look(struct seen *seen, int dir, const char *path, int flags)
{
	struct stat st;

	memset(seen, 0, sizeof *seen);
	seen->error = (i32)-SYS4(newfstatat, dir, path, &st, flags);
	if (seen->error)
		return;
	seen->mode = st.st_mode;
	seen->ino = st.st_ino;
	seen->dev = st.st_dev;
	seen->nlink = (u32)st.st_nlink;
	seen->uid = st.st_uid;
	seen->gid = st.st_gid;
	seen->size = (u64)st.st_size;
	seen->mtime_ns = (u64)st.st_mtime * 1000000000 + (u64)st.st_mtime_ns;
}

struct view {		// what the oracle holds on to from before the attack
	char path[256], parent[256];
	const char *name;
	int root, dir, held;
};

static volatile u32 ticks_seen;

// A signal that is pending cuts a listing short.  Without one, and with room left, it is complete.
static i64 list(int dir, u8 *buffer, u64 size, int *complete)
{
	u32 before = ticks_seen;
	i64 n = SYS3(getdents64, dir, buffer, size);

	*complete = n <= 0 || (ticks_seen == before && n < (i64)size - 300);
	return n;
}

static void list_names(struct facts *f, int dir)
{
	int complete = 0;
	static u8 buffer[4096] __attribute__((aligned(8)));
	i64 n;

	SYS3(lseek, dir, 0, 0);
	while (!complete && (n = list(dir, buffer, sizeof buffer, &complete)) > 0) {
		for (i64 at = 0; at < n;) {
			struct dirent64 *d = (struct dirent64 *)(buffer + at);

			at += d->reclen;
			if (same(d->name, ".") || same(d->name, ".."))
				continue;
			if (f->n_names < 8) {
				u64 k = length(d->name);

				f->names[f->n_names].ino = d->ino;
				f->names[f->n_names].type = d->type;
				memcpy(f->names[f->n_names].name, d->name, k > 30 ? 30 : k);
			}
			f->n_names++;
		}
	}
}

static void observe(struct facts *f, const struct view *v)
{
	memset(f, 0, sizeof *f);
	look(&f->path, v->root, v->path, AT_SYMLINK_NOFOLLOW);
	f->followed = f->path;
	if (!f->path.error && (f->path.mode & S_IFMT) == S_IFLNK)
		look(&f->followed, v->root, v->path, 0);
	look(&f->by_fd, v->dir, v->name, AT_SYMLINK_NOFOLLOW);
	if (v->held >= 0)
		look(&f->held, v->held, "", AT_EMPTY_PATH);
	else
		f->held.error = ENOENT;
	if (v->dir >= 0)
		list_names(f, v->dir);
}

static const u8 *objects_of(const struct program *p)
{
	return (const u8 *)(p + 1);
}

static const u8 *contents_of(const struct program *p)
{
	return objects_of(p) + p->n_objects * sizeof(struct object);
}

static const u8 *arena_of(const struct program *p)
{
	return contents_of(p) + ((p->contents_length + 7) & ~7U);
}

static const struct op *ops_of(const struct program *p)
{
	return (const struct op *)(arena_of(p) + ((p->arena_length + 7) & ~7U));
}

// Inode numbers of one tmpfs only grow: what is above the watermark was made later.  Right after
// the fixture that is the last object's; later, or elsewhere, a nameless file tells.
static u64 watermark(const struct program *p, const char *parent, int right_after)
{
	struct stat st;
	i64 fd;

	if (right_after && p->n_objects && p->parent[0] != '/') {
		char path[256];

		inside(path, ((const struct object *)objects_of(p))[p->n_objects - 1].path);
		if (!SYS4(newfstatat, AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW))
			return st.st_ino;
	}
	fd = open_at(AT_FDCWD, parent, O_TMPFILE | O_RDWR, 0600);

	if (fd < 0)
		return 0;
	memset(&st, 0, sizeof st);
	SYS2(fstat, fd, &st);
	SYS1(close, fd);
	return st.st_ino;
}

static void wipe(int dir, int depth)
{
	u8 buffer[512] __attribute__((aligned(8)));
	int complete = 0;
	i64 n;

	while (!complete && (n = list(dir, buffer, sizeof buffer, &complete)) > 0) {
		for (i64 at = 0; at < n;) {
			struct dirent64 *d = (struct dirent64 *)(buffer + at);

			at += d->reclen;
			if (same(d->name, ".") || same(d->name, ".."))
				continue;
			if (d->type != DT_DIR) {
				SYS3(unlinkat, dir, d->name, 0);
				continue;
			}
			if (depth > 200)
				continue;
			i64 sub = open_at(dir, d->name, O_DIRECTORY | O_NOFOLLOW, 0);

			if (sub >= 0) {
				wipe((int)sub, depth + 1);
				SYS1(close, sub);
			}
			SYS3(unlinkat, dir, d->name, AT_REMOVEDIR);
		}
	}
}

static void wipe_scratch(void)
{
	SYS3(lseek, scratch_dir, 0, 0);
	wipe(scratch_dir, 0);
}

static void wipe_path(const char *path)
{
	i64 fd = open_at(AT_FDCWD, path, O_DIRECTORY | O_NOFOLLOW, 0);

	if (fd < 0)
		return;
	wipe((int)fd, 0);
	SYS1(close, fd);
}

// The working directory must still be ours, with the owner and mode that we gave it.
static int restore_scratch(u32 uid, u32 gid)
{
	struct stat st;

	if (SYS4(newfstatat, AT_FDCWD, "/s/work", &st, AT_SYMLINK_NOFOLLOW) || st.st_ino != scratch.st_ino || st.st_dev != scratch.st_dev)
		return fail(X_SCRATCH_LOST, -ENOENT);
	if (st.st_uid != uid || st.st_gid != gid)
		SYS5(fchownat, AT_FDCWD, "/s/work", uid, gid, 0);
	if ((st.st_mode & 07777) != 0755)
		SYS3(fchmodat, AT_FDCWD, "/s/work", 0755);
	return 0;
}

static i64 make_object(const struct object *o, const char *content, const char *path)
{
	i64 fd, e;

	switch (o->kind) {
	case O_DIR:
		return SYS3(mkdirat, AT_FDCWD, path, o->mode);
	case O_SYMLINK:
		return SYS3(symlinkat, content, AT_FDCWD, path);
	case O_FIFO:
		return SYS4(mknodat, AT_FDCWD, path, S_IFIFO | o->mode, 0);
	}
	if ((fd = open_at(AT_FDCWD, path, O_CREAT | O_EXCL | O_WRONLY, o->mode)) < 0)
		return fd;
	e = o->content_length && write_all((int)fd, content, o->content_length) ? -EINVAL : 0;
	SYS1(close, fd);
	return e;
}

static int make_objects(const struct program *p, u32 uid, u32 gid)
{
	const struct object *o = (const struct object *)objects_of(p);
	char path[256];

	for (u32 i = 0; i < p->n_objects; i++, o++) {
		i64 e = make_object(o, (const char *)contents_of(p) + o->content, inside(path, o->path));

		if (e < 0)
			return fail(X_FIXTURE, e);
		SYS5(fchownat, AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW);
		if (o->mode & 06000)
			SYS3(fchmodat, AT_FDCWD, path, o->mode);	// chown clears set-id bits
	}
	return 0;
}

// ---------------------------------------------------------------- who is there

struct pids {
	int n, pid[32];
};

static void children_of(int pid, struct pids *to)
{
	char path[64], text[512];
	char *end = append_number(append(path, "/proc/"), (u64)pid);

	append(append_number(append(end, "/task/"), (u64)pid), "/children");
	if (read_file(path, text, sizeof text) < 0)
		return;
	for (const char *p = text; *p && to->n < 32;) {
		while (*p == ' ' || *p == '\n')
			p++;
		if (*p >= '0' && *p <= '9')
			to->pid[to->n++] = (int)number_at(&p);
		else if (*p)
			return;
	}
}

// Processes in the subjects' pid namespace beside init, the subject and the victim.
static void strangers(struct pids *to, int subject_pid, int victim_pid, int gate_pid)
{
	struct pids all = { 0, { 0 } };

	children_of(1, &all);		// ours: CLONE_PARENT makes siblings
	children_of(init_pid, &all);	// orphans
	if (subject_pid)
		children_of(subject_pid, &all);
	if (victim_pid)
		children_of(victim_pid, &all);
	for (int i = 0; i < all.n; i++) {
		int pid = all.pid[i];

		if (pid == init_pid || pid == subject_pid || pid == victim_pid || pid == gate_pid)
			continue;
		to->pid[to->n++ % 32] = pid;
	}
}

static int runs_probe(int pid, const u8 *magic)
{
	static u8 head[8192];
	char path[64];
	i64 fd = open_at(AT_FDCWD, proc_path(path, pid, "exe"), O_NONBLOCK, 0), n;

	if (fd < 0)
		return 0;
	n = SYS4(pread64, fd, head, sizeof head, 0);
	SYS1(close, fd);
	for (i64 i = 0; i + 16 <= n; i++)
		if (head[i] == magic[0] && same_bytes(head + i, magic, 16))
			return 1;
	return 0;
}

// Whether an executable mapping of `pid` is a file that the trial's fixture made from the probe.
static int maps_probe(int pid, u64 ino)
{
	static char text[16384];
	char path[64];

	if (!ino || read_file(proc_path(path, pid, "maps"), text, sizeof text) < 0)
		return 0;
	for (const char *p = text; *p;) {
		const char *line = p;

		while (*p && *p != ' ')
			p++;
		int executable = *p && p[1] && p[2] && p[3] == 'x';

		for (int field = 0; *p && *p != '\n' && field < 4; p++)
			field += *p == ' ';
		if (executable && number_at(&p) == ino)
			return 1;
		while (*p && *p != '\n')
			p++;
		if (*p)
			p++;
		if (p == line)
			return 0;
	}
	return 0;
}

// ---------------------------------------------------------------- gates and subjects

static void set_limits(int core_file)
{
	static const u64 limits[][2] = { { RLIMIT_CPU, 10 }, { RLIMIT_FSIZE, 32 << 20 }, { RLIMIT_DATA, 512 << 20 }, { RLIMIT_NPROC, 256 }, { RLIMIT_NOFILE, 256 } };
	u64 core[2] = { core_file ? 1 << 20 : 1, core_file ? 1 << 20 : 1 };

	for (u32 i = 0; i < sizeof limits / sizeof *limits; i++) {
		u64 both[2] = { limits[i][1], limits[i][1] };

		SYS4(prlimit64, 0, limits[i][0], both, 0);
	}
	SYS4(prlimit64, 0, RLIMIT_CORE, core, 0);	// 1: too small for a core file, and no pipe handler either
}

static void __attribute__((noreturn)) gate_fail(u32 step, i64 error)
{
	control->step = step;
	control->error = (i32)-error;
	SYS1(exit_group, 1);
	__builtin_unreachable();
}

static void join_namespaces(u32 fresh)
{
	for (int i = 0; i < 6; i++) {
		i64 e = SYS2(setns, ns_fd[i], ns_flag[i]);

		if (e < 0)
			gate_fail(X_JOIN, e);
	}
	if (fresh) {
		i64 e = SYS1(unshare, fresh);

		if (e < 0)
			gate_fail(X_FRESH, e);
		if (fresh & CLONE_NEWNET && loopback_up())
			gate_fail(X_FRESH, -fail_error);
	}
}

static void standard_files(void)
{
	i64 fd = SYS4(openat, AT_FDCWD, "/dev/null", O_RDWR, 0);

	if (fd < 0)
		gate_fail(X_POSTURE, fd);
	for (int i = 0; i < 3; i++)
		if (fd != i)
			SYS2(dup2, fd, i);
	SYS3(close_range, 3, ~0U, 0);
}

static void enter_posture(const struct config *c, int core_file)
{
	struct { u32 version; int pid; } head = { 0x20080522, 0 };
	struct { u32 effective, permitted, inheritable; } data[2];
	i64 e;

	set_limits(core_file);
	if (many_ids && (e = SYS2(setgroups, 0, 0)) < 0)
		gate_fail(X_POSTURE, e);
	for (u64 cap = 0; cap < 64; cap++)
		if (!(c->bounding >> cap & 1))
			SYS2(prctl, PR_CAPBSET_DROP, cap);
	SYS2(prctl, PR_SET_KEEPCAPS, 1);
	if ((e = SYS3(setresgid, c->gid, c->gid, c->gid)) < 0 || (e = SYS3(setresuid, c->uid, c->uid, c->uid)) < 0)
		gate_fail(X_POSTURE, e);
	for (int i = 0; i < 2; i++) {
		data[i].effective = data[i].permitted = (u32)(c->effective >> 32 * i);
		data[i].inheritable = 0;
	}
	if ((e = SYS2(capset, &head, data)) < 0)
		gate_fail(X_POSTURE, e);
	SYS2(prctl, PR_SET_KEEPCAPS, 0);
	SYS2(prctl, PR_SET_DUMPABLE, 1);
	SYS1(umask, 022);
	if ((e = SYS1(chdir, "/work")) < 0)
		gate_fail(X_POSTURE, e);
}

// Puts every layer on; returns 0 or the kernel's answer.
static i64 load_layers(const struct config *c, u32 extra)
{
	const u8 *at = (const u8 *)(c + 1);

	for (u32 i = 0; i < c->n_layers; i++) {
		const struct layer *l = (const struct layer *)at;
		struct sock_fprog prog = { (u16)(l->length / 8), l + 1 };
		i64 e = SYS3(seccomp, SECCOMP_SET_MODE_FILTER, l->flags | extra, &prog);

		if (e)
			return e;
		at += sizeof *l + ((l->length + 7) & ~7U);
	}
	return 0;
}

static volatile u32 loader_go;
static const struct config *loader_config;
static u8 loader_stack[8192] __attribute__((aligned(64)));

// The second thread: keeps the capabilities, loads for the group, goes away.
static void loader(u64 unused)
{
	u64 arg[6] = { 0, 0, 0, 0, 0, 0 };
	u64 idle = 0;
	i64 e;

	(void)unused;
	SYS3(sched_setscheduler, 0, 0, &idle);
	while (!loader_go)
		__asm__ volatile("pause");
	e = load_layers(loader_config, SECCOMP_FILTER_FLAG_TSYNC);
	if (e) {
		gate_fail(X_LOAD, e);
	}
	control->loaded = 1;
	if (!control->stay) {
		enter_syscall(NR_exit, arg);
		enter_int80(NR_i386_exit, arg);
	}
	control->stuck = 1;
	for (;;)
		__asm__ volatile("pause");
}

static void start_loader(const struct config *c)
{
	u64 args[6] = { CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID | CLONE_PARENT_SETTID,
			0, A(&control->loader), A(&control->loader), 0, 0 };
	i64 e;

	loader_config = c;
	control->loader_used = 1;
	e = (i64)spawn_syscall(NR_clone, args, loader_stack + sizeof loader_stack - 64, loader, 0);
	if (e < 0)
		gate_fail(X_LOADER, e);
}

static int wants_nnp(const struct program *p, const struct config *c)
{
	return c->no_new_privs || (p && p->flags & P_NNP);
}

static const struct config *current_config;
static u64 current_config_bytes;

// Subjects are forked without the control page, and without the stack that the kernel gave us:
// we live on our own since start().
static void forget_control(void)
{
	SYS3(madvise, CONTROL, 4096, MADV_DONTFORK);
	SYS3(madvise, kernel_stack & ~4095UL, 4096, MADV_DONTFORK);
	SYS3(madvise, current_config, current_config_bytes, MADV_DONTFORK);
}

static void default_signals(void)
{
	struct { void *handler; u64 flags; void *restorer; u64 mask; } none = { 0, 0, 0, 0 };

	SYS4(rt_sigaction, SIGALRM, &none, 0, 8);
}

// From a fork of the judge to a process in the posture with the layers on.
static void confine(const struct program *p, const struct config *c, int gate)
{
	int nnp = wants_nnp(p, c);

	default_signals();
	join_namespaces(p ? p->fresh : 0);
	if (!nnp && c->n_layers)
		start_loader(c);
	if (gate) {
		i64 e = SYS2(setns, init_pid_ns, CLONE_NEWPID);

		if (e < 0)
			gate_fail(X_JOIN, e);
	}
	standard_files();
	enter_posture(c, p && p->flags & P_CORE);
	if (nnp)
		SYS5(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (p && page->setup_end) {
		run(0, page->setup_end);
		for (u32 i = 0; i < page->setup_end; i++)
			if (page->op[i].kind == K_SYSCALL && trace->record[i].state != S_NOT_REACHED &&
			    !(page->op[i].flags & F_MAY_FAIL) && trace->record[i].result >= (u64)-4095)
				gate_fail(X_SETUP, (i64)trace->record[i].result);
	}
	forget_control();
	if (!c->n_layers) {
		control->loaded = 1;
		return;
	}
	if (nnp) {
		i64 e = load_layers(c, 0);

		if (e) {
			control->step = X_LOAD;
			control->error = (i32)-e;
			leave();
		}
		control->loaded = 1;
		return;
	}
	loader_go = 1;
}

// What gates and subjects need of the trial, where a fork of the judge can see it.
static struct program current;

static void __attribute__((noreturn)) gate(const struct program *p, const struct config *c)
{
	while (!control->seized)
		SYS0(sched_yield);
	confine(p, c, 1);
	for (;;) {
		u64 flags = CLONE_PARENT | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD;
		u64 own_tid = A(&page->env[ENV_SUBJECT_PID]);
		u64 native[6] = { flags, 0, A(&control->pid), own_tid, 0, 0 };
		u64 compat[6] = { flags, 0, A(&control->pid), 0, own_tid, 0 };
		u64 result;
		u32 entry, as_victim;

		__asm__ volatile("int3" ::: "memory");
		entry = control->entry;	// the child does not have this page
		as_victim = control->victim;
		// VFORK: the gate sleeps until its subject is gone, out of everybody's way.
		native[0] = compat[0] = flags | (as_victim ? 0 : CLONE_VFORK);
		result = entry == 1 ? enter_int80(NR_i386_clone, compat) : enter_syscall(NR_clone, native);
		if (entry == 1)
			result = (u64)(i64)(i32)result;
		// A filter may answer ERRNO(0): only a real child finds its tid written by the kernel.
		if (!result && page->env[ENV_SUBJECT_PID]) {
			if (as_victim)
				victim();
			subject();
		}
		control->clone_result = (i32)(i64)result;
	}
}

struct gate_state {
	int pid;		// 0: none
	u32 config, entry;
	int no_gate;		// this configuration lets no gate clone
	int loader_stays;	// its loader thread cannot exit
	int running;		// let go, and not yet seen back at its int3
	int proven;		// it has made a subject
	u32 options;		// PTRACE_O_...
	struct truth truth;
};

static struct gate_state gates[16];

static void kill_and_reap(int pid)
{
	int status;

	if (pid <= 0)
		return;
	SYS2(kill, pid, SIGKILL);
	while (SYS4(wait4, pid, &status, WALL, 0) == -EINTR)
		;
}

static u64 field(const char *text, const char *name, u64 base)
{
	u64 n = length(name);

	for (const char *p = text; *p; p++) {
		if ((p == text || p[-1] == '\n') && same_bytes((const u8 *)p, (const u8 *)name, n)) {
			u64 v = 0;

			for (p += n; *p == '\t' || *p == ' '; p++)
				;
			for (; (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'f'); p++)
				v = v * base + (u64)(*p <= '9' ? *p - '0' : *p - 'a' + 10);
			return v;
		}
	}
	return ~0UL;
}

static char status_text[8192];

static int read_truth(int pid, struct truth *t)
{
	char path[64];
	i64 n = read_file(proc_path(path, pid, "status"), status_text, sizeof status_text);

	memset(t, 0, sizeof *t);
	if (n <= 0)
		return fail(X_STATUS, n ? n : -ENOENT);
	t->seccomp = (u32)field(status_text, "Seccomp:", 10);
	t->filters = (u32)field(status_text, "Seccomp_filters:", 10);
	t->no_new_privs = (u32)field(status_text, "NoNewPrivs:", 10);
	t->effective = field(status_text, "CapEff:", 16);
	t->permitted = field(status_text, "CapPrm:", 16);
	t->bounding = field(status_text, "CapBnd:", 16);
	t->known = 1;
	return 0;
}

// Waits for a gate to stop at its int3; -1 if it died or stopped for another reason.
static int wait_gate(int pid, u64 deadline)
{
	int status;

	for (;;) {
		i64 got = SYS4(wait4, pid, &status, WALL, 0);

		if (got == -EINTR) {
			if (now_us() > deadline)
				return fail(X_GATE_WAIT, -EAGAIN);
			continue;
		}
		if (got != pid)
			return fail(X_GATE_DIED, got < 0 ? got : -ECHILD);
		if ((status & 0xff) == 0x7f && (status >> 8 & 0xff) == SIGTRAP && !(status >> 16))
			return 0;
		if ((status & 0xff) == 0x7f)
			return fail(X_GATE_DIED, -(status >> 8 & 0xff));
		return fail(control->step ? control->step : X_GATE_DIED, control->step ? -control->error : -(status & 0x7f));
	}
}

// The loader thread must be gone before the first subject: subjects are single-threaded.
static int wait_loader(int pid, u64 deadline)
{
	int status;
	u64 word;
	i64 e;

	while (!control->loaded || control->loader) {
		if (control->step)
			return fail(control->step, -control->error);
		if (control->stuck && control->stay)
			return 0;
		if (control->stuck)
			return fail(X_LOADER, -EAGAIN);
		if (now_us() > deadline)
			return fail(X_GATE_WAIT, -EAGAIN);
		if (SYS4(wait4, pid, &status, WNOHANG | WALL, 0) == pid)	// the filter kills who exits
			return fail(control->loaded ? X_LOADER : X_GATE_DIED, -EAGAIN);
		SYS0(sched_yield);
	}
	// A filter that kills who exits has doomed the gate as well: then ptrace finds nobody.
	e = SYS4(ptrace, PTRACE_PEEKUSER, pid, 0, &word);
	return e < 0 ? fail(X_LOADER, e) : 0;
}

static const struct program *share_program(const struct program *p)
{
	if (p)
		memcpy(&current, p, sizeof current);
	return p ? &current : 0;
}

static const struct config *share_config(const struct config *c)
{
	void *copy;

	if (current_config)
		SYS2(munmap, current_config, current_config_bytes);
	current_config_bytes = config_bytes[c->id];
	current_config = copy = allocate(current_config_bytes);
	if (copy)
		memcpy(copy, c, current_config_bytes);
	return current_config;
}

static int build_gate(const struct program *p, const struct config *c, struct gate_state *g)
{
	u64 deadline = now_us() + 5000000;
	i64 pid;

	memset((void *)control, 0, sizeof *control);
	g->pid = 0;
	g->config = c->id;
	p = share_program(p);
	if (!(c = share_config(c)))
		return fail(X_FORK, -ENOMEM);
	pid = fork_with(0);
	if (pid < 0)
		return fail(X_FORK, pid);
	if (!pid)
		gate(p, c);
	i64 e = SYS4(ptrace, PTRACE_SEIZE, pid, 0, PTRACE_O_EXITKILL);

	if (e < 0) {
		kill_and_reap((int)pid);
		return fail(X_SEIZE, e);
	}
	control->seized = 1;
	if (wait_gate((int)pid, deadline) || wait_loader((int)pid, deadline) || read_truth((int)pid, &g->truth)) {
		if (fail_step == X_GATE_DIED && control->loaded && control->loader_used)
			fail_step = X_LOADER;
		kill_and_reap((int)pid);
		return -1;
	}
	g->pid = (int)pid;
	g->running = g->proven = 0;
	g->options = PTRACE_O_EXITKILL;
	return 0;
}

static void drop_gate(struct gate_state *g)
{
	kill_and_reap(g->pid);
	g->pid = 0;
}

// Lets a gate make one clone.  0: it is on its way; the gate sleeps until that process is gone.
static int let_clone(struct gate_state *g, int as_victim, int park)
{
	u32 options = PTRACE_O_EXITKILL | (park ? PTRACE_O_CHILDREN : 0);
	i64 e = 0;

	if (g->running && wait_gate(g->pid, now_us() + 5000000))
		e = -1;
	g->running = 0;
	control->pid = 0;
	page->env[ENV_SUBJECT_PID] = 0;
	control->clone_result = 0;
	control->entry = g->entry;
	control->victim = (u32)as_victim;
	if (!e && g->options != options)
		e = SYS4(ptrace, PTRACE_SETOPTIONS, g->pid, 0, options);
	g->options = options;
	if (!e)
		e = SYS4(ptrace, PTRACE_CONT, g->pid, 0, 0);
	if (e < 0) {
		drop_gate(g);
		return fail(X_GATE_DIED, -ESRCH);
	}
	g->running = 1;
	return 0;
}

// The next stop of a child that we trace; -1 if it died, or out of time.
static int wait_stop(int pid, int *status)
{
	u64 deadline = now_us() + 5000000;
	i64 got;

	while ((got = SYS4(wait4, pid, status, WALL, 0)) == -EINTR)
		if (now_us() > deadline)
			return -1;
	return got == pid && (*status & 0xff) == 0x7f ? 0 : -1;
}

// One clone; its process stopped before its first instruction, and ours to let go.
static int clone_parked(struct gate_state *g)
{
	int status;

	if (let_clone(g, 0, 1))
		return -1;
	if (wait_stop(g->pid, &status)) {
		g->running = 0;
		drop_gate(g);
		return fail(X_GATE_DIED, -ESRCH);
	}
	if (status >> 8 == SIGTRAP) {	// back at its int3: refused
		g->running = 0;
		return fail(X_SUBJECT, control->clone_result);
	}
	if (!(status >> 16) || SYS4(ptrace, PTRACE_CONT, g->pid, 0, 0) < 0 || wait_stop((int)control->pid, &status)) {
		drop_gate(g);
		return fail(X_GATE_DIED, -ESRCH);
	}
	g->proven = 1;
	return (int)control->pid;
}

// One clone that runs at once.  -1: the gate was refused, or died of asking.
static int clone_from(struct gate_state *g, int as_victim)
{
	u64 deadline = now_us() + 5000000;
	int status;

	if (let_clone(g, as_victim, 0))
		return -1;
	while (!control->pid) {
		i64 got = SYS4(wait4, g->pid, &status, WNOHANG | WALL, 0);

		if (got == g->pid && (status & 0xff) == 0x7f && status >> 8 == SIGTRAP && !control->pid) {
			g->running = 0;
			return fail(X_SUBJECT, control->clone_result);
		}
		if (got == g->pid && control->pid) {	// it is back already: its child has come and gone
			g->running = (status & 0xff) != 0x7f;
			break;
		}
		if (got || now_us() > deadline) {
			drop_gate(g);
			return fail(X_GATE_DIED, got ? -ESRCH : -EAGAIN);
		}
		SYS0(sched_yield);
	}
	g->proven = 1;
	return (int)control->pid;
}

static struct gate_state *slot_for(u32 config)
{
	static u32 next;
	struct gate_state *g;

	for (u32 i = 0; i < 16; i++)
		if ((gates[i].pid || gates[i].no_gate) && gates[i].config == config)
			return &gates[i];
	g = &gates[next++ % 16];
	drop_gate(g);
	memset(g, 0, sizeof *g);
	g->config = config;
	return g;
}

// A gate that came back to its int3, or is gone; nothing if it was none.
static void gate_event(int pid, int status)
{
	for (u32 i = 0; i < 16; i++)
		if (pid > 0 && gates[i].pid == pid) {
			gates[i].running = 0;
			if ((status & 0xff) != 0x7f)
				gates[i].pid = 0;
		}
}

// ---------------------------------------------------------------- the end of a trial

static int sweep(int subject_pid, int victim_pid)
{
	struct answer answer;
	int status;
	u8 byte = 0;

	if (subject_pid)
		SYS2(kill, subject_pid, SIGKILL);
	if (victim_pid)
		SYS2(kill, victim_pid, SIGKILL);
	for (int round = 0; round < 2000; round++) {
		for (int gone = 1; gone;) {	// what CLONE_PARENT gave us; never a gate: those are traced and stopped
			gone = 0;
			i64 pid = SYS4(wait4, -1, &status, WNOHANG | WALL, 0);

			if (pid > 0)
				gone = 1;
			gate_event((int)pid, status);
		}
		if (write_all(init_to, &byte, 1) || read_all(init_from, &answer, sizeof answer))
			return fail(X_SWEEP, -ESRCH);
		if (answer.error == -ESRCH)
			return 0;
		if (round > 3)
			nap_us(100);
	}
	return fail(X_SWEEP, -EAGAIN);
}

struct trial {
	const struct program *p;
	const struct config *c;
	const struct request *q;
	struct reply *reply;
	struct view view;
	struct gate_state own;	// a gate for this trial alone
	struct gate_state *gate, *victim_gate;
	int subject, victim, ns, park;
	u64 probe_ino;
};

static void watch(struct trial *t)
{
	struct pids extra = { 0, { 0 } };
	struct reply *r = t->reply;

	strangers(&extra, t->subject, t->victim, t->gate ? t->gate->pid : 0);
	for (u32 i = 0; i < 16; i++)
		for (int k = 0; k < extra.n && k < 32; k++)
			if (gates[i].pid && extra.pid[k] == gates[i].pid)
				extra.pid[k] = 0;
	if (t->subject)
		extra.pid[extra.n++ % 32] = t->subject;
	for (int k = 0; k < extra.n && k < 32; k++) {
		int pid = extra.pid[k];

		if (!pid)
			continue;
		if (pid != t->subject)
			r->saw_process = 1;
		if (t->p->flags & P_WATCH_EXEC && runs_probe(pid, t->p->magic))
			r->saw_exec = 1;
		if (t->p->flags & P_WATCH_MAPPED && maps_probe(pid, t->probe_ino))
			r->saw_mapped = 1;
	}
}

static int satisfied(const struct trial *t)
{
	const struct reply *r = t->reply;

	return (t->p->flags & P_WATCH_PROCESS && r->saw_process) || r->saw_exec || r->saw_mapped;
}

// An event while the subject's pid was not yet known here: >0 if it was the subject's end.
static i64 settle(struct trial *t, int pid, int status)
{
	if (pid == (int)control->pid) {
		t->subject = pid;
		return pid;
	}
	gate_event(pid, status);
	if (t->gate && !t->gate->running)
		return control->pid ? -EINTR : -ECHILD;	// back without a subject: refused
	return t->gate && !t->gate->pid && !control->pid ? -ECHILD : -EINTR;
}

// Until the subject is dead (reaped), seen doing what the family watches for, or out of time.
static void await_subject(struct trial *t)
{
	int watching = t->p->flags & (P_WATCH_PROCESS | P_WATCH_EXEC | P_WATCH_MAPPED);
	u64 deadline = now_us() + t->q->timeout_us;
	int status;

	for (;;) {
		i64 got = SYS4(wait4, t->subject, &status, WALL | (watching ? WNOHANG : 0), 0);

		if (t->subject == -1 && got > 0)
			got = settle(t, (int)got, status);
		if (got > 0) {
			t->reply->wait_status = (u32)status;
			break;
		}
		if (got < 0 && got != -EINTR) {
			t->reply->status = 1;
			fail(X_SUBJECT, got);
			break;
		}
		if (watching) {
			watch(t);
			if (satisfied(t))
				return;
			nap_us(20);
		}
		if (now_us() > deadline) {
			t->reply->timed_out = 1;
			if (t->subject == -1)
				t->subject = (int)control->pid;
			return;
		}
	}
	t->subject = 0;
	if (watching)
		watch(t);
}

static void copy_program(const struct program *p)
{
	u32 n = p->n_ops;

	memset((void *)trace->record, 0, n * sizeof(struct record));
	trace->victim_ready = 0;
	memcpy((void *)ARENA, arena_of(p), p->arena_length);
	// Zeros up to one page beyond: a buffer at the end of the arena must not show an older trial.
	u64 rest = ARENA_SIZE - p->arena_length;

	memset((void *)(ARENA + p->arena_length), 0, rest > 4096 ? 4096 : rest);
	page->setup_end = p->setup_end;
	page->victim_end = p->victim_end;
	page->attack_end = p->attack_end;
	page->env[ENV_VICTIM_PID] = page->env[ENV_SUBJECT_PID] = 0;
	page->env[ENV_VICTIM_HOOK] = A(victim_hook);
	page->env[ENV_SYSCALL_INSN] = A(syscall_instruction);
	memcpy(page->op, ops_of(p), n * sizeof(struct op));
}

static void open_view(struct trial *t)
{
	struct view *v = &t->view;
	const struct program *p = t->p;

	inside(v->parent, p->parent);
	append(append(append(v->path, v->parent), "/"), p->name);
	v->name = p->name;
	v->root = AT_FDCWD;
	v->dir = (int)open_at(AT_FDCWD, v->parent, O_DIRECTORY, 0);
	v->held = (int)open_at(AT_FDCWD, v->path, O_NOFOLLOW | O_PATH, 0);
}

static void close_view(struct view *v)
{
	if (v->root >= 0)
		SYS1(close, v->root);
	if (v->dir >= 0)
		SYS1(close, v->dir);
	if (v->held >= 0)
		SYS1(close, v->held);
}

// With mounts of its own, a subject's paths are looked up below its own root, as it sees them.
static void view_from(struct trial *t, int pid)
{
	char path[64];

	t->ns = (int)open_at(AT_FDCWD, proc_path(path, pid, "ns/mnt"), 0, 0);
	t->view.root = (int)open_at(AT_FDCWD, proc_path(path, pid, "root"), O_PATH | O_DIRECTORY, 0);
	if (t->p->parent[0] == '/')
		append(append(append(t->view.path, t->p->parent + 1), "/"), t->p->name);
	else
		append(append(append(append(t->view.path, "work/"), t->p->parent), "/"), t->p->name);
}

static int start_victim(struct trial *t)
{
	struct gate_state *g = slot_for(t->q->victim_config);
	struct config *c = configs[t->q->victim_config % MAX_CONFIGS];
	u64 deadline = now_us() + 1000000;

	if (!c)
		return fail(X_PROTOCOL, -EINVAL);
	if (!g->pid && build_gate(0, c, g))
		return -1;
	t->victim = clone_from(g, 1);
	t->victim_gate = g;
	if (t->victim <= 0) {
		t->victim = 0;
		return fail(X_VICTIM, -ESRCH);
	}
	while (trace->victim_ready != 1) {
		if (now_us() > deadline)
			return fail(X_VICTIM, -EAGAIN);
		nap_us(20);
	}
	trace->victim_ready = 0;
	page->env[ENV_VICTIM_PID] = page->env[ENV_SUBJECT_PID];	// its own pid, as it and the subject see it
	return 0;
}

static void __attribute__((noreturn)) direct(const struct program *p, const struct config *c)
{
	while (!control->seized)
		SYS0(sched_yield);
	confine(p, c, 0);
	__asm__ volatile("int3" ::: "memory");	// TSYNC may come at any moment: no call from here on
	subject();
}

// The subject loads for itself: where no clone passes the filter.  It is parked when this returns.
static int start_direct(struct trial *t, int loader_stays)
{
	u64 deadline = now_us() + 5000000;
	i64 e = SYS2(setns, init_pid_ns, CLONE_NEWPID), pid;

	if (e < 0)
		return fail(X_JOIN, e);
	memset((void *)control, 0, sizeof *control);
	control->stay = (u32)loader_stays;
	const struct program *p = share_program(t->p);
	const struct config *c = share_config(t->c);
	u64 args[6] = { CLONE_CHILD_SETTID | SIGCHLD, 0, 0, A(&page->env[ENV_SUBJECT_PID]), 0, 0 };

	page->env[ENV_SUBJECT_PID] = 0;
	pid = c ? (i64)enter_syscall(NR_clone, args) : -ENOMEM;
	if (!pid)
		direct(p, c);
	SYS2(setns, own_pid_ns, CLONE_NEWPID);
	if (pid < 0)
		return fail(X_FORK, pid);
	t->subject = (int)pid;
	e = SYS4(ptrace, PTRACE_SEIZE, pid, 0, PTRACE_O_EXITKILL);
	if (e < 0)
		return fail(X_SEIZE, e);
	control->seized = 1;
	return wait_gate((int)pid, deadline) || wait_loader((int)pid, deadline) ? -1 : 0;
}

// A second attempt runs the setup section again; what the victim did stays.
static void forget_setup(void)
{
	memset((void *)trace->record, 0, page->setup_end * sizeof(struct record));
}

static int needs_own_gate(const struct trial *t)
{
	return t->p->setup_end || t->p->fresh || t->p->flags & (P_CORE | P_NNP | P_DIRECT) || t->q->flags & (R_SLOW | R_DIAGNOSE);
}

static int gate_clone(struct trial *t, struct gate_state *g, const struct program *own)
{
	// The usual case: a gate that has done it before, and nobody who has to look meanwhile.
	if (g->pid && g->proven && !t->park && !(t->p->flags & (P_WATCH_PROCESS | P_WATCH_EXEC | P_WATCH_MAPPED)) && g != t->victim_gate) {
		if (let_clone(g, 0, 0))
			return -1;
		t->subject = -1;
		return 1;
	}
	for (; g->entry < 2; g->entry++) {
		if (!g->pid) {
			forget_setup();
			if (build_gate(own, t->c, g))
				return -1;
		}
		if (own && t->p->fresh & CLONE_NEWNS && t->ns < 0)
			view_from(t, g->pid);
		int pid = t->park ? clone_parked(g) : clone_from(g, 0);

		if (pid > 0) {
			t->subject = pid;
			return 1;
		}
	}
	return 0;
}

// Gets a subject going, the cheapest way that is exact.
static int start_subject(struct trial *t)
{
	struct reply *r = t->reply;
	struct gate_state *shared = slot_for(t->c->id);
	int got = 0;

	// Whether the loader thread can exit under this filter is learnt from a gate, once.
	if (t->p->flags & P_DIRECT && !shared->pid && !shared->no_gate && build_gate(0, t->c, shared)) {
		if (fail_step != X_LOADER)
			return -1;
		shared->loader_stays = shared->no_gate = 1;
	}
	if (!shared->no_gate && !(t->p->flags & P_DIRECT)) {
		int own = needs_own_gate(t);

		t->gate = own ? &t->own : shared;
		if (own)
			t->own.entry = shared->entry;
		got = gate_clone(t, t->gate, own ? t->p : 0);
		if (got < 0 && fail_step != X_LOADER)
			return -1;
		shared->loader_stays |= got < 0;
		shared->no_gate |= got <= 0;
		if (shared->no_gate)
			drop_gate(shared);
		r->truth = t->gate->truth;
		r->mode = own ? M_FRESH_GATE : M_GATE;
	}
	if (got <= 0) {
		drop_gate(&t->own);
		t->gate = 0;
		t->park = 1;
		forget_setup();
		if (start_direct(t, shared->loader_stays))
			return -1;
		r->mode = M_DIRECT;
		if (t->p->fresh & CLONE_NEWNS)
			view_from(t, t->subject);
	}
	return t->park ? read_truth(t->subject, &r->truth) : 0;
}

// What a victim was made to do may come after the subject's end: look until something changed.
static void await_victim(struct trial *t)
{
	u64 end = now_us() + (t->q->timeout_us < 50000 ? t->q->timeout_us : 50000);
	struct facts now;

	do {
		observe(&now, &t->view);
		now.watermark = t->reply->before.watermark;
		if (!same_bytes((u8 *)&now, (u8 *)&t->reply->before, sizeof now))
			return;
		nap_us(100);
	} while (now_us() < end);
}

static void end_trial(struct trial *t)
{
	int reap = t->subject;
	int sweeping = t->p->flags & P_SWEEP || t->subject || t->victim;

	if (t->own.pid)
		drop_gate(&t->own);
	if (reap) {
		int status;

		SYS2(kill, reap, SIGKILL);
		while (SYS4(wait4, reap, &status, WALL, 0) == -EINTR)
			;
		if (!t->reply->timed_out)
			t->reply->wait_status = (u32)status;
	}
	if (sweeping && sweep(0, t->victim))
		t->reply->status = 1;
}

static u64 probe_inode(const struct program *p)
{
	const struct object *o = (const struct object *)objects_of(p);
	struct stat st;
	char path[256];

	for (u32 i = 0; i < p->n_objects; i++, o++) {
		const u8 *content = contents_of(p) + o->content;

		if (o->kind != O_FILE || o->content_length < 64)
			continue;
		for (u32 k = 0; k + 16 <= o->content_length; k++)
			if (same_bytes(content + k, p->magic, 16))
				return SYS4(newfstatat, AT_FDCWD, inside(path, o->path), &st, 0) ? 0 : st.st_ino;
	}
	return 0;
}

// ---------------------------------------------------------------- diagnosis
// For programs whose calls nobody recorded (what a subject execs): their filters are loaded with
// every denial turned into SECCOMP_RET_TRAP, the answer in its data.  The tracer notes the call and
// gives that answer, so the program runs on as it would have.

#define ANSWER_KILL 0xffff
static struct denied denied[64];

struct siginfo_sys {
	int signo, error, code, pad;
	u64 address;
	int nr;
	u32 arch;
	u8 rest[96];
};

struct registers {
	u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss, fs_base, gs_base, ds, es, fs, gs;
};

// Answers a trapped call.  0: it was one; -1: another SIGSYS.
static int answer_trapped(struct trial *t, int pid)
{
	struct siginfo_sys info;
	struct registers r;
	struct denied *d = &denied[t->reply->n_denied % 64];

	if (SYS4(ptrace, PTRACE_GETSIGINFO, pid, 0, &info) < 0 || info.code != 1 /* SYS_SECCOMP */ ||
	    SYS4(ptrace, PTRACE_GETREGS, pid, 0, &r) < 0)
		return -1;
	d->nr = (u32)info.nr;
	d->arch = info.arch;
	d->answer = info.error;
	d->in_subject = pid == t->subject;
	if (info.arch == 0x40000003 /* AUDIT_ARCH_I386 */) {
		u64 args[6] = { (u32)r.bx, (u32)r.cx, (u32)r.dx, (u32)r.si, (u32)r.di, (u32)r.bp };

		memcpy(d->args, args, sizeof args);
	} else {
		u64 args[6] = { r.di, r.si, r.dx, r.r10, r.r8, r.r9 };

		memcpy(d->args, args, sizeof args);
	}
	if (t->reply->n_denied < 64)
		t->reply->n_denied++;
	if (info.error == ANSWER_KILL) {
		SYS2(kill, pid, SIGKILL);
		return 0;
	}
	r.ax = (u64)-(i64)info.error;
	r.orig_ax = ~0UL;
	SYS4(ptrace, PTRACE_SETREGS, pid, 0, &r);
	return 0;
}

static void diagnose(struct trial *t)
{
	u64 deadline = now_us() + t->q->timeout_us;
	int status;

	SYS4(ptrace, PTRACE_SETOPTIONS, t->subject, 0, PTRACE_O_EXITKILL | PTRACE_O_CHILDREN);
	SYS4(ptrace, PTRACE_CONT, t->subject, 0, 0);
	t->park = 0;
	for (;;) {
		i64 pid = SYS4(wait4, -1, &status, WALL, 0);
		int signal = status >> 8 & 0xff;

		if (now_us() > deadline) {
			t->reply->timed_out = 1;
			return;
		}
		if (pid == -EINTR)
			continue;
		if (pid == -ECHILD)
			return;
		if (t->gate && pid == t->gate->pid) {
			gate_event((int)pid, status);
			continue;
		}
		if ((status & 0xff) != 0x7f) {
			if (pid != t->subject)
				continue;
			t->reply->wait_status = (u32)status;
			t->subject = 0;
			return;
		}
		if (status >> 16 || (signal == SIGSYS && !answer_trapped(t, (int)pid)))
			signal = 0;
		SYS4(ptrace, PTRACE_CONT, pid, 0, signal);
	}
}

// Lets a parked subject run, untraced.
static void release_subject(struct trial *t)
{
	if (t->park)
		SYS4(ptrace, PTRACE_DETACH, t->subject, 0, 0);
	t->park = 0;
}

static int try_trial(struct trial *t)
{
	struct reply *r = t->reply;
	u32 uid = kuid(t->c->uid), gid = kuid(t->c->gid);
	u64 begin = 0;

	if (restore_scratch(uid, gid) || make_objects(t->p, uid, gid))
		return -1;
	if (t->p->flags & P_WATCH_MAPPED)
		t->probe_ino = probe_inode(t->p);
	copy_program(t->p);
	if (t->p->flags & P_VICTIM) {
		if (start_victim(t))
			return -1;
	}
	open_view(t);
	t->park = needs_own_gate(t);	// what setup makes must be seen before the attack starts
	if (!t->park) {
		observe(&r->before, &t->view);
		r->before.watermark = watermark(t->p, t->view.parent, 1);
		begin = now_us();
	}
	if (start_subject(t))
		return -1;
	if (t->park) {
		if (t->view.held < 0)
			t->view.held = (int)open_at(t->view.root, t->view.path, O_NOFOLLOW | O_PATH, 0);
		observe(&r->before, &t->view);
		r->before.watermark = watermark(t->p, t->view.parent, 0);
		begin = now_us();
	}
	if (t->q->flags & R_DIAGNOSE) {
		diagnose(t);
		return 0;
	}
	release_subject(t);
	await_subject(t);
	if (t->victim && !r->timed_out)
		await_victim(t);
	r->latency_us = (u32)(now_us() - begin);
	return 0;
}

static void collect(struct trial *t)
{
	static char text[65536];
	char path[256];
	i64 n = t->p->flags & P_COLLECT ? read_file(inside(path, t->p->collect), text, sizeof text) : 0;

	t->reply->collected = n > 0 ? (u32)n : 0;
	put_frame(T_RESULT, sizeof *t->reply + t->reply->n_records * sizeof(struct record) + t->reply->collected +
			  t->reply->n_denied * sizeof(struct denied));
	put(t->reply, sizeof *t->reply);
	put((void *)trace->record, t->reply->n_records * sizeof(struct record));
	put(text, t->reply->collected);
	put(denied, t->reply->n_denied * sizeof(struct denied));
}

static void run_trial(const struct request *q)
{
	static struct reply reply;
	struct trial t;

	memset(&reply, 0, sizeof reply);
	memset(&t, 0, sizeof t);
	reply.tag = q->tag;
	t.q = q;
	t.reply = &reply;
	t.p = q->program < MAX_PROGRAMS ? programs[q->program] : 0;
	t.c = q->config < MAX_CONFIGS ? configs[q->config] : 0;
	t.ns = t.view.root = t.view.dir = t.view.held = -1;
	fail_step = 0;
	fail_error = 0;
	if (!t.p || !t.c) {
		reply.status = 1;
		reply.step = X_PROTOCOL;
		put_frame(T_RESULT, sizeof reply);
		put(&reply, sizeof reply);
		return;
	}
	if (try_trial(&t))
		reply.status = 1;
	end_trial(&t);
	if (reply.status) {
		reply.step = fail_step;
		reply.error = fail_error;
	} else
		observe(&reply.after, &t.view);
	reply.n_records = t.p->n_ops;
	close_view(&t.view);
	if (t.ns >= 0)
		SYS1(close, t.ns);
	collect(&t);
	wipe_scratch();
	if (t.p->parent[0] == '/') {
		char path[256];

		wipe_path(inside(path, t.p->parent));
		SYS3(unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
	}
}

// ---------------------------------------------------------------- the judge's life

// A subject of a configuration that does nothing, so that somebody outside can look at it.
static int parked;

static void probe(u32 id)
{
	struct { u32 step; i32 error; u32 pid, length; } answer = { 0, 0, 0, 0 };
	struct config *c = id < MAX_CONFIGS ? configs[id] : 0;
	struct request q = { 0, 0, id, id, 0, 1000000 };
	struct program idle;
	struct reply reply;
	struct trial t;

	memset(&t, 0, sizeof t);
	memset(&idle, 0, sizeof idle);
	memset(&reply, 0, sizeof reply);
	memset(page, 0, 1024);
	t.p = &idle;
	t.c = c;
	t.q = &q;
	t.reply = &reply;
	t.ns = -1;
	t.park = 1;
	fail_step = 0;
	page->attack_end = 1;
	page->op[0].kind = K_WAIT;	// on a word that nobody sets
	page->op[0].value[0] = ARENA + ARENA_SIZE - 8;
	page->op[0].bound_us = 60000000;
	*(volatile u32 *)(ARENA + ARENA_SIZE - 8) = 0;
	if (!c || start_subject(&t)) {
		answer.step = c ? fail_step : X_PROTOCOL;
		answer.error = fail_error;
		kill_and_reap(t.subject);
	} else {
		answer.pid = (u32)t.subject;
		answer.length = (u32)length(status_text);
		parked = t.subject;
		release_subject(&t);	// a reader of its filters must be able to trace it
	}
	put_frame(T_STATUS, sizeof answer + answer.length);
	put(&answer, sizeof answer);
	put(status_text, answer.length);
	flush();
}

static void release(void)
{
	kill_and_reap(parked);
	parked = 0;
}

static int sane_program(const struct program *p, u64 n)
{
	if (n < sizeof *p || p->id >= MAX_PROGRAMS || p->n_ops > MAX_OPS || p->arena_length > ARENA_SIZE || p->n_objects > 64 ||
	    p->contents_length > MAX_FRAME || p->setup_end > p->victim_end || p->victim_end > p->attack_end || p->attack_end > p->n_ops)
		return 0;
	if (p->parent[63] || p->name[63] || p->collect[63])
		return 0;
	u64 need = sizeof *p + p->n_objects * sizeof(struct object) + ((p->contents_length + 7) & ~7U) + ((p->arena_length + 7) & ~7U) +
		   p->n_ops * sizeof(struct op);

	if (need != n)
		return 0;
	const struct object *o = (const struct object *)objects_of(p);

	for (u32 i = 0; i < p->n_objects; i++, o++)
		if (o->path[63] || o->content > p->contents_length || o->content_length > p->contents_length - o->content)
			return 0;
	return 1;
}

static int sane_config(const struct config *c, u64 n)
{
	u64 at = sizeof *c;

	if (n < at || c->id >= MAX_CONFIGS || c->n_layers > 32)
		return 0;
	for (u32 i = 0; i < c->n_layers; i++) {
		const struct layer *l = (const struct layer *)((const u8 *)c + at);

		if (at + sizeof *l > n || l->kind != L_SECCOMP || l->length % 8 || l->length > 4096 * 8)
			return 0;
		at += sizeof *l + l->length;
	}
	return at == n;
}

// A small address space is quickly forked: what only the judge needs stays with the judge.
static void *allocate_own(u64 size)
{
	void *at = allocate(size);

	if (at)
		SYS3(madvise, at, size, MADV_DONTFORK);
	return at;
}

static void *keep(const void *data, u64 n, void *old, u64 old_bytes)
{
	void *copy = allocate_own(n);

	if (copy)
		memcpy(copy, data, n);
	if (old)
		SYS2(munmap, old, old_bytes);
	return copy;
}

static void forget_gate(u32 config)
{
	for (u32 i = 0; i < 16; i++)
		if (gates[i].config == config) {
			drop_gate(&gates[i]);
			memset(&gates[i], 0, sizeof gates[i]);
			gates[i].config = ~0U;
		}
}

static void put_error(u32 code)
{
	put_frame(T_ERROR, 4);
	put(&code, 4);
	flush();
}

static void serve(void)
{
	u8 *frame = allocate_own(MAX_FRAME);
	u32 head[2];

	while (!read_all(control_in, head, 8)) {
		if (head[1] > MAX_FRAME || read_all(control_in, frame, head[1]))
			break;
		struct program *p = (struct program *)frame;
		struct config *c = (struct config *)frame;

		if (head[0] == T_PROGRAM && sane_program(p, head[1])) {
			u32 id = p->id;

			programs[id] = keep(p, head[1], programs[id], program_bytes[id]);
			program_bytes[id] = head[1];
		} else if (head[0] == T_CONFIG && sane_config(c, head[1])) {
			u32 id = c->id;

			forget_gate(id);
			configs[id] = keep(c, head[1], configs[id], config_bytes[id]);
			config_bytes[id] = head[1];
		} else if (head[0] == T_RUN && head[1] % sizeof(struct request) == 0) {
			for (u32 i = 0; i < head[1] / sizeof(struct request); i++) {
				run_trial((struct request *)frame + i);
				if (out_used > MAX_FRAME / 2)
					flush();
			}
			flush();
		} else if (head[0] == T_PROBE && head[1] == 4)
			probe(*(u32 *)frame);
		else if (head[0] == T_RELEASE)
			release();
		else
			put_error(head[0]);
	}
}

static void tick_handler(int signal)
{
	(void)signal;
	ticks_seen++;
}

__asm__(".text\nrestore_rt:\n	mov $15, %eax\n	syscall\n");
extern void restore_rt(void);

// A blocked wait4 ends with EINTR every 5 ms, so that every wait has a deadline.
static void start_ticking(void)
{
	struct { void (*handler)(int); u64 flags; void (*restorer)(void); u64 mask; } act = { tick_handler, 0x04000000 /* SA_RESTORER */, restore_rt, 0 };
	i64 every[4] = { 0, 5000, 0, 5000 };

	SYS4(rt_sigaction, SIGALRM, &act, 0, 8);
	SYS3(setitimer, 0, every, 0);
}

static void calibrate(void)
{
	u64 begin = clock_us(), from = ticks(), us;

	do
		us = clock_us() - begin;
	while (us < 200);
	ticks_per_us = (ticks() - from) / us;
	if (!ticks_per_us)
		ticks_per_us = 1;
}

static int build(void)
{
	i64 e;

	if ((e = SYS3(setresgid, 0, 0, 0)) < 0 || (e = SYS3(setresuid, 0, 0, 0)) < 0)
		return fail(X_SETRESUID, e);
	if (many_ids)
		SYS2(setgroups, 0, 0);
	SYS2(prctl, PR_SET_DUMPABLE, 1);
	_Static_assert(TRACE + sizeof(struct trace) <= PROGRAM && PROGRAM + sizeof(struct program_page) <= SHARED_END, "layout");
	if (judge_mounts() || map_shared(ARENA, SHARED_END - ARENA) || map_shared(CONTROL, 4096))
		return -1;
	if (start_init() || open_namespaces())
		return -1;
	scratch_dir = (int)open_at(AT_FDCWD, "/s/work", O_DIRECTORY, 0);
	e = SYS4(newfstatat, AT_FDCWD, "/s/work", &scratch, 0);
	return e < 0 ? fail(X_SCRATCH, e) : 0;
}

static void say_hello(u32 step, i32 error)
{
	struct { u32 version, step; i32 error; u32 many_ids, sizes[6]; u64 hook, insn; } hello = {
		1, step, error, (u32)many_ids,
		{ sizeof(struct op), sizeof(struct record), sizeof(struct reply), sizeof(struct program), sizeof(struct config), sizeof(struct request) },
		A(victim_hook), A(syscall_instruction) };

	put_frame(T_HELLO, sizeof hello);
	put(&hello, sizeof hello);
	flush();
}

static void __attribute__((noreturn)) judge(int go)
{
	u32 answer[2];
	int built;

	if (read_all(go, answer, 8))
		SYS1(exit_group, 0);
	SYS3(madvise, out, MAX_FRAME, MADV_DONTFORK);
	built = !answer[0] && !build();
	SYS2(prctl, PR_SET_PDEATHSIG, SIGKILL);	// a change of ids would have cleared it
	if (answer[0])
		fail(answer[0], -(i32)answer[1]);
	calibrate();
	start_ticking();
	say_hello(built ? 0 : fail_step, built ? 0 : fail_error);
	if (built)
		serve();
	SYS1(exit_group, 0);
	__builtin_unreachable();
}

static void take_control_fds(void)
{
	// High numbers, so that setup sections see the descriptors that a fresh process would get.
	SYS2(dup2, 0, control_in);
	SYS2(dup2, 1, control_out);
	SYS3(fcntl, control_in, 2, 1);
	SYS3(fcntl, control_out, 2, 1);
	i64 null = SYS4(openat, AT_FDCWD, "/dev/null", O_RDWR, 0);

	SYS2(dup2, null, 0);
	SYS2(dup2, null, 1);
	if (null > 2)
		SYS1(close, null);
}

// serve MAP DENY: MAP is the judge's id map, DENY is 1 where setgroups must be given up first.
static int serve_mode(char **argv, int argc)
{
	int go[2], status;
	u32 answer[2] = { 0, 0 };
	i64 pid, e;

	if (argc < 4)
		return 2;
	out = allocate(MAX_FRAME);
	many_ids = argv[3][0] == '0';
	take_control_fds();
	SYS2(pipe2, go, O_CLOEXEC);
	pid = fork_with(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP);
	if (pid < 0) {
		say_hello(X_CLONE_JUDGE, (i32)-pid);
		return 3;
	}
	if (!pid) {
		SYS1(close, go[1]);
		judge(go[0]);
	}
	e = write_maps((int)pid, argv[2], !many_ids, &answer[0]);
	answer[1] = (u32)-e;
	if (e >= 0)
		answer[0] = 0;
	SYS1(close, control_in);
	SYS1(close, control_out);
	write_all(go[1], answer, 8);
	while (SYS4(wait4, pid, &status, WALL, 0) == -EINTR)
		;
	return status ? 1 : 0;
}

// readback PID: the filters of a process, oldest first, each as a count and its instructions.
static int readback_mode(char **argv, int argc)
{
	static u8 filter[4096 * 8];
	const char *text = argc > 2 ? argv[2] : "";
	u64 pid = number_at(&text);
	int status;
	i64 e = SYS4(ptrace, PTRACE_SEIZE, pid, 0, 0);

	if (e >= 0)
		e = SYS4(ptrace, PTRACE_INTERRUPT, pid, 0, 0);
	if (e >= 0)
		e = SYS4(wait4, pid, &status, WALL, 0);
	for (u64 i = 0; e >= 0; i++) {
		i32 n = (i32)SYS4(ptrace, PTRACE_SECCOMP_GET_FILTER, pid, i, filter);

		if (n < 0 || n > 4096) {
			e = i ? 0 : n;
			if (n == -ENOENT)
				e = 0;
			break;
		}
		write_all(1, &n, 4);
		write_all(1, filter, (u64)n * 8);
	}
	if (e < 0) {
		i32 n = (i32)e;

		write_all(1, &n, 4);
	}
	return e < 0;
}

void start(u64 *stack)
{
	int argc = (int)stack[0];
	char **argv = (char **)(stack + 1);
	int code = 2;

	kernel_stack = A(stack);

	if (argc > 1 && same(argv[1], "serve"))
		code = serve_mode(argv, argc);
	else if (argc > 1 && same(argv[1], "readback"))
		code = readback_mode(argv, argc);
	SYS1(exit_group, code);
}
