// SPDX-License-Identifier: MIT
// What the judge knows: the structures of the wire (evaluator/wire.py), its own state, its pipes.

enum { O_DIR, O_FILE, O_SYMLINK, O_FIFO, O_ANCESTOR };
enum { P_SWEEP = 1, P_WATCH_PROCESS = 2, P_WATCH_EXEC = 4, P_WATCH_MAPPED = 8, P_CORE = 16, P_COLLECT = 32,
       P_DIRECT = 64, P_VICTIM = 128, P_NNP = 256, P_SPREAD = 512, P_STAY = 1024, P_WATCH_CODE = 2048, P_SECRET = 4096, P_CUSTOMER = 8192,
       P_VDSO = 16384 };
#define WATCHED (P_WATCH_PROCESS | P_WATCH_EXEC | P_WATCH_MAPPED | P_WATCH_CODE)
enum { R_SLOW = 1, R_DIAGNOSE = 2, R_GLANCE = 4 };

struct object {
	u32 kind, mode, content, content_length;
	char path[64];
};

struct program {	// as it arrives on the wire, followed by objects, contents, arena, operations
	u32 id, witness;	// 0, or one more than the number of the program that looks for the effect, or is the customer
	u32 flags, fresh, n_objects, contents_length, arena_length, setup_end, victim_end, attack_end, n_ops;
	u32 stop;		// the signal that asks a service to end
	u8 magic[16];
	char parent[64], name[64], collect[64], receipt[64], report[64];
};

struct config {		// followed by layers
	u32 id, uid, gid, no_new_privs;
	u64 effective, bounding;	// of the posture
	u64 kept;		// what a layer leaves of them
	u32 n_layers, spare;
};

struct layer {		// followed by its bytes, padded to 8
	u32 kind, flags, length, spare;
};

enum { L_SECCOMP = 1, L_LANDLOCK, L_READ_ONLY, L_APPARMOR };	// the last one: 240 bytes of a name

#define MAX_RULES 1024
struct ruleset {		// of Landlock; begins as struct landlock_ruleset_attr does
	u64 fs, net, scoped;
	u64 n_rules;
	struct { u64 access; u32 kind, port; char path[240]; } rule[];	// kind: 1 a path, 2 a port
};

struct read_only {	// all that is mounted, but /dev, /proc and these
	u64 n_writable;
	char writable[][240];
};

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
	u32 saw_code, learned, witness_before, witness_after;
	u32 served, customer_status, receipt, filled, report, spare;
	struct truth truth;
	struct facts before, after;
};

enum { T_HELLO = 1, T_PROGRAM, T_CONFIG, T_RUN, T_PROBE, T_RELEASE, T_RESULT, T_STATUS, T_ERROR, T_NOTE };
enum { M_GATE = 1, M_FRESH_GATE, M_DIRECT };

// Each step that can fail has a number; evaluator/wire.py has the names.
enum {
	X_NONE, X_CLONE_JUDGE, X_SETGROUPS, X_UID_MAP, X_GID_MAP, X_SETRESUID, X_PRIVATE, X_TMPFS, X_BIND, X_PROC, X_PIVOT,
	X_SCRATCH, X_CLONE_INIT, X_INIT_MAPS, X_INIT_MOUNT, X_INIT_PROC, X_INIT_PIVOT, X_LOOPBACK, X_NAMESPACES, X_SHARED_MEMORY,
	X_FORK, X_SEIZE, X_JOIN, X_FRESH, X_POSTURE, X_SETUP, X_LOADER, X_LOAD, X_GATE_DIED, X_GATE_WAIT, X_FIXTURE, X_SUBJECT,
	X_VICTIM, X_PROTOCOL, X_SCRATCH_LOST, X_STATUS, X_WITNESS,
	X_GATE_KILLED,	// its error is a signal
	X_NO_TMPFS, X_UNCONFINED, X_ORACLE,
	X_NEEDS_READ, X_NEEDS_MMAP, X_NEEDS_CLONE, X_NEEDS_WAIT, X_NEEDS_TIMER, X_PERFORMER, X_LEFT_OVER,
	X_READ_ONLY, X_LABEL, X_NEEDS_KILL,
};

// Out of the way of what setup and witnesses open, and below 64: the kernel has room for so many
// descriptors in the process itself, and whoever closes them all looks at each number of the table.
enum { CONTROL_IN = 62, CONTROL_OUT = 63, WITNESS_IN = 60, WITNESS_OUT = 61, STAGE_IN = 58, STAGE_OUT = 59 };
static int init_to = -1, init_from = -1, init_pid;
static int many_ids;
static int staged;	// a performer starts the subjects (perform.h)
static int alone;	// it is the subject itself, of one trial; its memory is ours to look at
static u32 told;	// in ambient mode, a sum of all frames, so that the reader of the answers knows what was asked
static int ambient;	// the judge itself lives in what is judged: no namespaces of ours
static char work[128] = "/s/work";	// the subjects' working directory as the judge sees it
static int ns_fd[6], own_pid_ns, init_pid_ns;
static const char *const ns_name[6] = { "user", "mnt", "net", "ipc", "uts", "cgroup" };
static const u32 ns_flag[6] = { CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP };
static struct program *programs[MAX_PROGRAMS];
static u64 program_bytes[MAX_PROGRAMS];
static struct config *configs[MAX_CONFIGS];
static u64 config_bytes[MAX_CONFIGS];
static struct stat scratch;	// the subject's working directory, as we made it
static int scratch_dir = -1;
static u64 vdso;	// where the kernel mapped it into us
static u64 cores[16];	// those that we were given, before we chose one
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

static int as_text;	// for a log, which may not be binary

// Lines of base64 (RFC 4648), each whole in itself.
static int write_text(const u8 *bytes, u64 n)
{
	static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char line[4097];

	for (u64 at = 0; at < n; at += 3072) {
		u64 end = n - at < 3072 ? n : at + 3072, used = 0;

		for (u64 i = at; i < end; i += 3) {
			u32 left = (u32)(end - i), three = (u32)bytes[i] << 16;

			three |= left > 1 ? (u32)bytes[i + 1] << 8 : 0;
			three |= left > 2 ? bytes[i + 2] : 0;
			for (u32 k = 0; k < 4; k++)
				line[used++] = k > left ? '=' : digit[three >> (18 - 6 * k) & 63];
		}
		line[used++] = '\n';
		if (write_all(CONTROL_OUT, line, used))
			return -1;
	}
	return 0;
}

static void flush(void)
{
	if (out_used && (as_text ? write_text(out, out_used) : write_all(CONTROL_OUT, out, out_used)))
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

#define TICK_US 5000

static i64 tick_every(i64 us)
{
	i64 every[4] = { 0, us, 0, us };

	return SYS3(setitimer, 0, every, 0);
}
