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
//   performer  in place of init and gates, where somebody else puts the confinement on (perform.h)
//   subject  a sibling of the gate by CLONE_PARENT, in P's pid namespace: runs the attack and dies
//
// Where a filter denies every clone, the subject is loaded directly, once per trial ("direct").
// Without no_new_privs the filter needs CAP_SYS_ADMIN, which the posture must not have: a second
// thread that kept the capabilities loads it for the whole thread group (TSYNC) and exits.
//
// One translation unit in several files, each using only those above it:

#include "kernel.h"
#include "shared.h"
#include "subject.h"
#include "judge.h"
#include "sandbox.h"
#include "oracle.h"
#include "gate.h"
#include "witness.h"
#include "trial.h"
#include "perform.h"
#include "record.h"

// A subject of a configuration that does nothing, so that somebody outside can look at it.
static int parked;
static struct gate_state parked_gate;	// its own, where its layers need one

// A line more of the status that was read last, where the kernel runs AppArmor.
static void append_label(int pid)
{
	static char label[512];
	char path[64];

	if (read_file(proc_path(path, pid, "attr/apparmor/current"), label, sizeof label) > 0 &&
	    length(status_text) + length(label) + 16 < sizeof status_text)
		append(append(status_text + length(status_text), "AppArmor:\t"), label);
}

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
		drop_gate(&t.own);
	} else {
		answer.pid = (u32)t.subject;
		append_label(t.subject);
		answer.length = (u32)length(status_text);
		parked = t.subject;
		parked_gate = t.own;
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
	drop_gate(&parked_gate);
	parked = 0;
}

static int sane_program(const struct program *p, u64 n)
{
	if (n < sizeof *p || p->id >= MAX_PROGRAMS || p->n_ops > MAX_OPS || p->arena_length > ARENA_SIZE || p->n_objects > 64 ||
	    p->contents_length > MAX_FRAME || p->setup_end > p->victim_end || p->victim_end > p->attack_end || p->attack_end > p->n_ops ||
	    p->witness > MAX_PROGRAMS)
		return 0;
	if (p->parent[63] || p->name[63] || p->collect[63] || p->receipt[63] || p->report[63] || p->stop > 64)
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

static int sane_ruleset(const struct layer *l)
{
	const struct ruleset *r = (const struct ruleset *)(l + 1);

	if (l->length < sizeof *r || r->n_rules > MAX_RULES || l->length != sizeof *r + r->n_rules * sizeof r->rule[0])
		return 0;
	for (u64 i = 0; i < r->n_rules; i++)
		if (r->rule[i].path[239] || r->rule[i].kind - 1 > 1)
			return 0;
	return 1;
}

static int sane_read_only(const struct layer *l)
{
	const struct read_only *r = (const struct read_only *)(l + 1);

	if (l->length < sizeof *r || r->n_writable > MAX_RULES || l->length != sizeof *r + r->n_writable * sizeof r->writable[0])
		return 0;
	for (u64 i = 0; i < r->n_writable; i++)
		if (r->writable[i][239])
			return 0;
	return 1;
}

static int sane_config(const struct config *c, u64 n)
{
	u64 at = sizeof *c;

	if (n < at || c->id >= MAX_CONFIGS || c->n_layers > 4096)
		return 0;
	for (u32 i = 0; i < c->n_layers; i++) {
		const struct layer *l = (const struct layer *)((const u8 *)c + at);

		if (at + sizeof *l > n || l->length % 8 || at + sizeof *l + l->length > n)
			return 0;
		if (l->kind == L_SECCOMP && l->length > 4096 * 8)
			return 0;
		if (l->kind == L_READ_ONLY && !sane_read_only(l))
			return 0;
		if (l->kind == L_LANDLOCK && (!c->no_new_privs || !sane_ruleset(l)))
			return 0;	// a ruleset is for one thread, so the one that it is for must load it
		if (l->kind == L_APPARMOR && (l->length != 240 || ((const char *)(l + 1))[239]))
			return 0;
		if (l->kind - 1 >= L_APPARMOR)
			return 0;
		at += sizeof *l + l->length;
	}
	return at == n;
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

// CRC-32 (ISO 3309) of what came before, continued.
static u32 continued(u32 sum, const void *data, u64 n)
{
	const u8 *p = data;

	sum = ~sum;
	while (n--) {
		sum ^= *p++;
		for (int i = 0; i < 8; i++)
			sum = sum >> 1 ^ (sum & 1 ? 0xedb88320 : 0);
	}
	return ~sum;
}

static void serve(void)
{
	u8 *frame = allocate_own(MAX_FRAME);
	u32 head[2];

	while (!read_all(CONTROL_IN, head, 8)) {
		if (head[1] > MAX_FRAME || read_all(CONTROL_IN, frame, head[1]))
			break;
		if (ambient && head[0] != T_PROBE && head[0] != T_RUN)
			told = continued(continued(told, head, 8), frame, head[1]);
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
		} else if (head[0] == T_NOTE) {	// for whoever reads the results
			put_frame(T_NOTE, head[1]);
			put(frame, head[1]);
			flush();
		} else if (head[0] == T_PROBE && head[1] == 4)
			(staged ? show_stage : probe)(*(u32 *)frame);
		else if (head[0] == T_RELEASE)
			release();
		else
			put_error(head[0]);
	}
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
		8, step, error, (u32)many_ids,
		{ sizeof(struct op), sizeof(struct record), sizeof(struct reply), sizeof(struct program), sizeof(struct config), sizeof(struct request) },
		A(victim_hook), A(syscall_instruction) };

	put_frame(T_HELLO, sizeof hello);
	put(&hello, sizeof hello);
	flush();
}

static u64 *kernel_stack;

// The buffer, and the stack that the kernel gave us (since _start we live on our own): whoever is
// forked has that much less to copy.  At the end of that stack stands the path that was executed.
static void keep_to_myself(void)
{
	u64 *at = kernel_stack + 1 + kernel_stack[0] + 1;
	u64 begin = (A(kernel_stack) & ~4095UL) - 0x40000, end = 0;

	while (*at++)	// the environment
		;
	for (; at[0]; at += 2) {
		if (at[0] == 31 /* AT_EXECFN */)
			end = (at[1] & ~4095UL) + 4096;
		if (at[0] == 33 /* AT_SYSINFO_EHDR */)
			vdso = at[1];
	}
	SYS3(madvise, out, MAX_FRAME, MADV_DONTFORK);
	if (end > begin)
		SYS3(madvise, begin, end - begin, MADV_DONTFORK);	// ENOMEM: it may begin later
}

static void __attribute__((noreturn)) judge(int go)
{
	u32 answer[2];
	int built;

	if (read_all(go, answer, 8))
		SYS1(exit_group, 0);
	keep_to_myself();
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
	SYS2(dup2, 0, CONTROL_IN);
	SYS2(dup2, 1, CONTROL_OUT);
	SYS3(fcntl, CONTROL_IN, 2, 1);
	SYS3(fcntl, CONTROL_OUT, 2, 1);
	i64 null = SYS4(openat, AT_FDCWD, "/dev/null", O_RDWR, 0);

	SYS2(dup2, null, 0);
	SYS2(dup2, null, 1);
	if (null > 2)
		SYS1(close, null);
}

static void take_stage(const char *in, const char *to)
{
	SYS2(dup2, number_at(&in), STAGE_IN);
	SYS2(dup2, number_at(&to), STAGE_OUT);
	SYS3(fcntl, STAGE_IN, 2, 1);
	SYS3(fcntl, STAGE_OUT, 2, 1);
	staged = 1;
}

// Judge, gate and subject take turns, so they are quickest on one processor.
static void stay_on(const char *core)
{
	u64 one[16] = { 0 }, number = number_at(&core);

	SYS3(sched_getaffinity, 0, sizeof cores, cores);
	one[number / 64 % 16] = 1UL << number % 64;
	SYS3(sched_setaffinity, 0, sizeof one, one);
}

// What whoever started us ignores or blocks (nohup does) would be ignored by every subject.
static void forget_signals(void)
{
	u64 usual[4] = { 0, 0, 0, 0 }, none = 0;

	for (int signal = 1; signal <= 64; signal++)
		SYS4(rt_sigaction, signal, usual, 0, 8);
	SYS4(rt_sigprocmask, 2 /* SIG_SETMASK */, &none, 0, 8);
}

// serve MAP DENY CORE [SCRATCH IN OUT [MEMORY]]: MAP is the judge's id map, DENY is 1 where setgroups must be
// given up first.  IN and OUT are pipes from and to a performer, which sees SCRATCH as /work;
// with MEMORY, its memory, it is alone.
static int serve_mode(char **argv, int argc)
{
	int go[2], status;
	u32 answer[2] = { 0, 0 };
	i64 pid, e;

	if (argc < 5)
		return 2;
	forget_signals();
	stay_on(argv[4]);
	out = allocate(MAX_FRAME);
	many_ids = argv[3][0] == '0';
	take_control_fds();
	if (argc > 7) {
		shared_scratch = argv[5];
		take_stage(argv[6], argv[7]);
	}
	if (argc > 8) {
		i64 at = SYS6(mmap, 0, SHARED_END - ARENA, PROT_READ | PROT_WRITE, MAP_SHARED, number_at((const char **)&argv[8]), 0);

		alone = 1;
		stage_memory = at < 0 ? 0 : (u8 *)at;
		if (!stage_memory)
			return 3;
	}
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
	SYS1(close, CONTROL_IN);
	SYS1(close, CONTROL_OUT);
	SYS1(close, STAGE_IN);
	SYS1(close, STAGE_OUT);
	write_all(go[1], answer, 8);
	while (SYS4(wait4, pid, &status, WALL, 0) == -EINTR)
		;
	return status ? 1 : 0;
}

// Whether anything confines us: with all that counts of root in the first user namespace, every
// program would act on the machine itself.
static int is_confined(void)
{
	static char map[256];
	struct truth own;
	const char *p = map;
	u64 numbers[3];

	if (read_truth((int)SYS0(getpid), &own) || read_file("/proc/self/uid_map", map, sizeof map) <= 0)
		return 1;	// it is denied to look
	for (int i = 0; i < 3; i++) {
		while (*p == ' ')
			p++;
		numbers[i] = number_at(&p);
	}
	int whole = !numbers[0] && !numbers[1] && numbers[2] == 0xffffffff;

	return !whole || !(own.effective >> 21 & 1 /* CAP_SYS_ADMIN */);
}

#define TMPFS 0x01021994

// A directory of our own below one of a tmpfs; or that one itself, if whoever started us made it.
static int has_ambient_scratch(const char *parent, int is_ours)
{
	struct { i64 type, rest[14]; } fs;
	i64 e, fd = open_at(AT_FDCWD, parent, O_DIRECTORY, 0);

	if (fd < 0)
		return fail(X_NO_TMPFS, fd);
	e = SYS2(fstatfs, fd, &fs);
	SYS1(close, fd);
	if (e < 0 || fs.type != TMPFS)	// only there inode numbers tell what is new
		return fail(X_NO_TMPFS, e);
	append(work, parent);
	if (!is_ours)
		append_number(append(append(work, parent), "/sidestep-"), (u64)SYS0(getpid));
	if (!is_ours && (e = SYS3(mkdirat, AT_FDCWD, work, 0755)) < 0)
		return fail(X_FIXTURE, e);
	scratch_dir = (int)open_at(AT_FDCWD, work, O_DIRECTORY, 0);
	if (scratch_dir < 0 || (e = SYS1(chdir, work)) < 0)
		return fail(X_SCRATCH, scratch_dir < 0 ? scratch_dir : e);
	e = SYS4(newfstatat, AT_FDCWD, work, &scratch, 0);
	return e < 0 ? fail(X_ORACLE, e) : 0;
}

// Under a filter that hides the world every effect would seem to be missing: it is tried first.
static int can_look(void)
{
	struct facts f;
	struct view v;
	i64 e;

	memset(&v, 0, sizeof v);
	v.root = AT_FDCWD;
	append(append(v.path, work), "/p");
	v.name = "p";
	v.dir = scratch_dir;
	v.held = -1;
	if ((e = SYS3(mkdirat, AT_FDCWD, v.path, 0755)) < 0)
		return fail(X_FIXTURE, e);
	observe(&f, &v, 0);
	SYS3(unlinkat, AT_FDCWD, v.path, AT_REMOVEDIR);
	if (f.path.error || f.by_fd.error || f.n_names != 1)
		return fail(X_ORACLE, -(f.path.error ? f.path.error : f.by_fd.error ? f.by_fd.error : EACCES));
	return 0;
}

static int start_stage(void)
{
	int down[2] = { -1, -1 }, up[2] = { -1, -1 };
	i64 e = SYS2(pipe2, down, O_CLOEXEC), pid, own = SYS0(getpid);

	if (e < 0 || (e = SYS2(pipe2, up, O_CLOEXEC)) < 0)
		return fail(X_NAMESPACES, e);
	if ((pid = fork_with(0)) < 0)
		return fail(X_NEEDS_CLONE, pid);
	if (!pid && SYS0(getpid) == own)	// a filter said so, and there is nobody else
		return fail(X_NEEDS_CLONE, -EPERM);
	if (!pid) {
		SYS2(prctl, PR_SET_PDEATHSIG, SIGKILL);
		SYS2(prctl, PR_SET_CHILD_SUBREAPER, 1);
		SYS1(umask, 022);
		SYS2(dup2, down[0], 60);
		SYS2(dup2, up[1], 61);
		SYS3(close_range, 3, 59, 0);
		SYS3(close_range, 62, ~0U, 0);
		performer(60, 61);
	}
	SYS2(dup2, up[0], STAGE_IN);
	SYS2(dup2, down[1], STAGE_OUT);
	for (int i = 0; i < 2; i++) {
		SYS1(close, up[i]);
		SYS1(close, down[i]);
	}
	staged = 1;
	return 0;
}

// Whoever opens the other end may come later.
static int open_fifo(const char *path, int flags, int as)
{
	i64 fd;

	while ((fd = open_at(AT_FDCWD, path, flags, 0)) == -EINTR)
		;
	if (fd < 0)
		return fail(X_NAMESPACES, fd);
	SYS2(dup2, fd, as);
	SYS1(close, fd);
	SYS3(fcntl, as, 2, 1);
	return 0;
}

// ambient [DIRECTORY [PACK]]: the judge in somebody else's confinement, as it is; frames on stdin,
// answers on stdout.  It works below DIRECTORY, which must be a tmpfs.  With PACK, a file with those
// frames, the answers are text: where there is no shell, as in an image of two files, and for logs.
//
// ambient DIRECTORY IN OUT SAID TOLD: the judge in a container beside that of a performer, with FIFOs
// for all that is read and written.  It works in DIRECTORY, which both of them see under this name.
static int ambient_mode(char **argv, int argc)
{
	int ready, is_beside = argc > 6;

	ambient = 1;
	forget_signals();
	if (argc == 4) {
		i64 pack = open_at(AT_FDCWD, argv[3], 0, 0);

		if (pack < 0)
			return 2;
		SYS2(dup2, pack, 0);
		SYS1(close, pack);
	}
	as_text = argc == 4;
	out = allocate(MAX_FRAME);
	if (!is_beside)
		take_control_fds();
	else if (open_fifo(argv[3], 0, CONTROL_IN) || open_fifo(argv[4], O_WRONLY, CONTROL_OUT))
		return 3;
	SYS1(umask, 0);
	work[0] = 0;
	if (!out)
		return 3;
	if (is_confined())
		ready = !has_ambient_scratch(argc > 2 ? argv[2] : "/dev/shm", is_beside) && !can_look() &&
			!map_shared(ARENA, SHARED_END - ARENA) && !map_shared(CONTROL, 4096) && (is_beside || !start_stage());
	else
		ready = fail(X_UNCONFINED, 0) + 1;
	calibrate();
	start_ticking();
	ready = ready && (is_beside || !greet_stage());
	say_hello(ready ? 0 : fail_step, ready ? 0 : fail_error);
	staged = 1;
	if (ready && (!is_beside || (!open_fifo(argv[6], O_WRONLY, STAGE_OUT) && !open_fifo(argv[5], 0, STAGE_IN))))
		serve();
	if (scratch_dir >= 0) {
		wipe_scratch();
		SYS3(unlinkat, AT_FDCWD, work, AT_REMOVEDIR);
	}
	return ready ? 0 : 3;
}

// perform [alone]: what a container runtime executes; the judge is at the other end of its pipes.
// perform TOLD SAID: the same, where the pipes have names.
static int perform_mode(char **argv, int argc)
{
	alone = argc == 3;
	forget_signals();
	if (argc > 3) {
		set_limits(0, 0);
		SYS1(umask, 022);
		if (open_fifo(argv[2], 0, CONTROL_IN) || open_fifo(argv[3], O_WRONLY, CONTROL_OUT))
			return 3;
	} else
		take_control_fds();
	performer(CONTROL_IN, CONTROL_OUT);
}

// loopback: brings up the interface of the network namespace that it is started in.
static int loopback_mode(void)
{
	return loopback_up() ? 1 : 0;
}

// pause: the first process of a pod, which only has to be there.
static int pause_mode(void)
{
	i64 day[2] = { 86400, 0 };

	for (;;)
		SYS2(nanosleep, day, 0);
	return 0;
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

	kernel_stack = stack;
	if (argc > 1 && same(argv[1], "serve"))
		code = serve_mode(argv, argc);
	else if (argc > 1 && same(argv[1], "readback"))
		code = readback_mode(argv, argc);
	else if (argc > 1 && same(argv[1], "ambient"))
		code = ambient_mode(argv, argc);
	else if (argc > 1 && same(argv[1], "perform"))
		code = perform_mode(argv, argc);
	else if (argc > 1 && same(argv[1], "loopback"))
		code = loopback_mode();
	else if (argc > 1 && same(argv[1], "pause"))
		code = pause_mode();
	else if (argc > 1 && same(argv[1], "record")) {
		forget_signals();
		code = record_mode(argv, argc);
	}
	SYS1(exit_group, code);
}
