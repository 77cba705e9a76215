// SPDX-License-Identifier: MIT
// One trial from fixture to answer.

static void on_signal(int signal, void (*to)(int))
{
	struct { void (*to)(int); u64 flags; void (*restorer)(void); u64 mask; } act = { to, 0x04000000 /* SA_RESTORER */, restore_rt, 0 };

	SYS4(rt_sigaction, signal, &act, 0, 8);
}

static void tick_handler(int signal)
{
	(void)signal;
	ticks_seen++;
}

// A blocked wait4 ends with EINTR at every tick, so that every wait has a deadline.
static i64 start_ticking(void)
{
	on_signal(SIGALRM, tick_handler);
	return tick_every(TICK_US);
}

// Where somebody else's confinement denies clock_gettime: then bounds are rather too long.
#define NO_CLOCK_TICKS 100000000
#define FAST_TICKS 6000

static u64 measured_ticks_per_us(void)
{
	u64 begin = clock_us(), from = ticks(), us;

	do
		us = clock_us() - begin;
	while (us < 200 && ticks() - from < NO_CLOCK_TICKS);
	return us ? (ticks() - from) / us : FAST_TICKS;
}

#define CALIBRATIONS 9

// The median: whoever is interrupted between a look at one clock and at the other measures anything,
// and every bound would be wrong by that.
static void calibrate(void)
{
	u64 found[CALIBRATIONS];

	for (int n = 0; n < CALIBRATIONS; n++) {
		u64 one = measured_ticks_per_us();
		int at = n;

		for (; at && found[at - 1] > one; at--)
			found[at] = found[at - 1];
		found[at] = one;
	}
	ticks_per_us = found[CALIBRATIONS / 2];
	if (!ticks_per_us)
		ticks_per_us = 1;
}

// The kernel may take its time to end a ring.
#define SWEEP_US 10000000

// Until init says that nobody is left in the subjects' pid namespace.
static void sweep(void)
{
	struct answer answer;
	int status;
	i64 pid;
	u8 byte = 0;
	u64 deadline = now_us() + SWEEP_US;

	for (int round = 0; now_us() < deadline; round++) {
		// What CLONE_PARENT made is our child, and init's kill leaves it for us to reap.
		while ((pid = SYS4(wait4, -1, &status, WNOHANG | WALL, 0)) > 0)
			gate_event((int)pid, status);
		if (write_all(init_to, &byte, 1) || read_all(init_from, &answer, sizeof answer))
			SYS1(exit_group, 1);	// without init there is no sandbox: a new runner must come
		if (answer.error == -ESRCH)
			return;
		if (round > 3)
			nap_us(100);
	}
	SYS1(exit_group, 1);	// somebody cannot be killed, and would be in the way of all that follow
}

struct trial {
	const struct program *p;
	const struct config *c;
	const struct request *q;
	struct reply *reply;
	struct view view;
	struct gate_state own;	// a gate for this trial alone
	struct gate_state *gate, *victim_gate;
	struct witness_state own_witness;
	const struct program *looker;	// what the witness runs, or the customer
	u64 deadline;
	int customer, to_come, lost;	// the customer: its pid, whether it is still to come, or could not
	int subject, victim, victim_inner, ns, park;
	u64 probe_ino;
};

// Processes of the trial beside the subject and the victim.
static void company(const struct trial *t, struct pids *to)
{
	struct pids all = { 0, { 0 } };

	strangers(&all, t->subject, t->victim, t->gate ? t->gate->pid : 0);
	for (int k = 0; k < all.n && k < 32; k++) {
		int ours = all.pid[k] == common.pid || all.pid[k] == t->own_witness.pid;

		for (u32 i = 0; i < 16; i++)
			ours |= gates[i].pid && all.pid[k] == gates[i].pid;
		if (!ours)
			to->pid[to->n++ % 32] = all.pid[k];
	}
}

static void watch(struct trial *t)
{
	struct pids extra = { 0, { 0 } };
	struct reply *r = t->reply;

	if (!(t->p->flags & (WATCHED & ~P_WATCH_CODE)))	// a trap is told, not looked for
		return;
	company(t, &extra);
	if (t->subject)
		extra.pid[extra.n++ % 32] = t->subject;
	for (int k = 0; k < extra.n && k < 32; k++) {
		int pid = extra.pid[k];

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

	return (t->p->flags & P_WATCH_PROCESS && r->saw_process) || r->saw_exec || r->saw_mapped || r->saw_code;
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

// The state of a task, and the number in a later field of its stat file (proc_pid_stat(5)); 0: gone.
static char task_state(const char *path, int field, u32 *number)
{
	char text[1024];
	const char *p = text, *name_end = 0;

	if (read_file(path, text, sizeof text) <= 0)
		return 0;
	for (; *p; p++)
		if (*p == ')')
			name_end = p;
	if (!name_end)
		return 0;
	p = name_end + 2;
	for (int at = 3; *p && at < field; p++)
		at += *p == ' ';
	*number = (u32)number_at(&p);
	return name_end[2];
}

// Whether what is left of a process is threads that the kernel made in it, for its rings.
static int has_only_workers(int pid)
{
	static u8 buffer[4096] __attribute__((aligned(8)));
	char path[64], file[96];
	i64 dir = open_at(AT_FDCWD, proc_path(path, pid, "task"), O_DIRECTORY, 0), n;
	int only = dir >= 0;

	while (only && (n = SYS3(getdents64, dir, buffer, sizeof buffer)) > 0)
		for (i64 at = 0; at < n;) {
			struct dirent64 *d = (struct dirent64 *)(buffer + at);
			const char *name = d->name;
			u32 flags = 0;

			at += d->reclen;
			if (*name == '.' || number_at(&name) == (u64)pid)
				continue;
			append(append(append(append(file, path), "/"), d->name), "/stat");
			char state = task_state(file, 9, &flags);

			only &= !state || state == 'Z' || state == 'X' || flags & (PF_IO_WORKER | PF_USER_WORKER);
		}
	if (dir >= 0)
		SYS1(close, dir);
	return only;
}

// A thread that was killed, or that ended itself alone, leaves a zombie where other threads live on
// (KILL_THREAD; exit where exit_group is denied).  A ring's threads would for long.
static int leader_gone(int pid, u32 *exit_code)
{
	char path[64];
	u32 code;

	if (pid <= 0 || task_state(proc_path(path, pid, "stat"), 52, &code) != 'Z')
		return 0;
	if ((code & 0x7f) != SIGSYS && !has_only_workers(pid))
		return 0;	// on its way out by itself
	*exit_code = code;
	return 1;
}

// -1 is a subject that its gate was let go to make: the kernel has written its pid, or will.
static int subject_of(const struct trial *t)
{
	return t->subject == -1 ? (int)control->pid : t->subject;
}

// Until the subject is dead (reaped), or out of time.
static void await_subject(struct trial *t)
{
	u64 deadline = now_us() + t->q->timeout_us, next_look = now_us() + 4000;
	int status;

	for (;;) {
		i64 got = SYS4(wait4, t->subject, &status, WALL, 0);

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
		if (now_us() > next_look) {
			next_look = now_us() + 4000;
			if (leader_gone(subject_of(t), &t->reply->wait_status)) {
				t->subject = subject_of(t);
				return;	// the rest of it dies in the end
			}
		}
		if (now_us() > deadline) {
			t->reply->timed_out = 1;
			t->subject = subject_of(t);
			return;
		}
	}
	t->subject = 0;
}

static void copy_program(const struct program *p)
{
	static int pinned;

	// A ring in these pages writes to them for a while after its process is gone: then others must come.
	if (pinned)
		SYS3(madvise, ARENA, ARENA_SIZE, MADV_REMOVE);
	pinned = p->arena_length > 4096;
	lay_out(p, 0);
	trace->victim_ready = 0;
	page->stay = p->flags & P_STAY;
	page->env[ENV_VICTIM_PID] = page->env[ENV_SUBJECT_PID] = 0;
	page->env[ENV_VICTIM_HOOK] = A(victim_hook);
	page->env[ENV_HANDLER] = A(handler);
	page->env[ENV_RESTORER] = A(restore_rt);
	page->env[ENV_CAUGHT] = A(&caught);
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

// But for the directory, which is held until it is cleared.
static void close_view(const struct view *v)
{
	if (v->root >= 0)
		SYS1(close, v->root);
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

// What setup mounted is what the attack meets: the directory and the inode are held from there.  Not
// where nobody asks about them: whoever holds a mount keeps it from being unmounted.
static void hold_anew(struct trial *t)
{
	struct view *v = &t->view;
	char parent[256];
	int absolute = t->p->parent[0] == '/';

	if (v->root < 0 || !t->p->setup_end || t->looker || t->p->flags & (WATCHED | P_SECRET))
		return;
	append(append(parent, absolute ? "" : "work/"), t->p->parent + absolute);
	if (v->dir >= 0)
		SYS1(close, v->dir);
	if (v->held >= 0)
		SYS1(close, v->held);
	v->dir = (int)open_at(v->root, parent, O_DIRECTORY, 0);
	v->held = (int)open_at(v->root, v->path, O_NOFOLLOW | O_PATH, 0);
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
	t->victim_inner = (int)page->env[ENV_SUBJECT_PID];
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
	if (!wait_gate((int)pid, deadline) && !wait_loader((int)pid, deadline))
		return 0;
	if (SYS2(kill, pid, 0) == -ESRCH)	// its setup failed: it ended, and was reaped
		t->subject = 0;
	return -1;
}

// A second attempt runs the setup section again; what the victim did stays.
static void forget_setup(void)
{
	memset((void *)trace->record, 0, page->setup_end * sizeof(struct record));
}

// Rules and mounts are of the directories that are there when they are made, and a trial brings its own.
static int has_rules(const struct config *c)
{
	const u8 *at = (const u8 *)(c + 1);

	for (u32 i = 0; i < c->n_layers; i++) {
		const struct layer *l = (const struct layer *)at;

		if (l->kind != L_SECCOMP)
			return 1;
		at += sizeof *l + ((l->length + 7) & ~7U);
	}
	return 0;
}

static int needs_own_gate(const struct trial *t)
{
	return has_rules(t->c) || t->p->setup_end || t->p->fresh || t->p->flags & (P_CORE | P_NNP | P_DIRECT | P_SPREAD | P_VDSO) || t->q->flags & (R_SLOW | R_DIAGNOSE);
}

static int is_followed(const struct trial *t)
{
	return t->p->flags & (WATCHED | P_STAY) || t->q->flags & R_DIAGNOSE;
}

static int gate_clone(struct trial *t, struct gate_state *g, const struct program *own)
{
	// The usual case: a gate that has done it before, and nobody who has to look meanwhile.
	if (g->pid && g->proven && !t->park && g != t->victim_gate) {
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

// For how long an effect is looked for that comes after the subject's end.
static u64 look_for(const struct trial *t, u64 most)
{
	if (t->q->flags & R_GLANCE)
		return 2000;
	return t->q->timeout_us < most ? t->q->timeout_us : most;
}

// What a victim was made to do may come after the subject's end: look until something changed.
static void await_victim(struct trial *t)
{
	u64 end = now_us() + look_for(t, 50000);
	struct facts now;

	while (t->p->flags & P_SECRET && !has_secret((const u8 *)ARENA, ARENA_SIZE) && now_us() < end)
		nap_us(100);
	if (t->p->flags & P_SECRET)
		return;
	do {
		observe(&now, &t->view, 0);
		now.watermark = t->reply->before.watermark;
		if (!same_bytes((u8 *)&now, (u8 *)&t->reply->before, sizeof now))
			return;
		nap_us(100);
	} while (now_us() < end);
}

// Kills a subject; its end is told only when its other threads are reaped, if they are traced.
static int reap_all(int pid)
{
	int status = 0;
	i64 got;

	SYS2(kill, pid, SIGKILL);
	while ((got = SYS4(wait4, -1, &status, WALL, 0)) != -ECHILD) {
		if (got == pid && (status & 0xff) != 0x7f)
			return status;
		gate_event((int)got, status);
	}
	return 0;
}

static void end_trial(struct trial *t)
{
	int reap = t->subject;
	int sweeping = t->p->flags & P_SWEEP || t->subject || t->victim;

	end_witness(&t->own_witness);
	kill_and_reap(t->customer);
	if (t->own.pid)
		drop_gate(&t->own);
	if (reap) {
		int status = reap_all(reap);

		if (!t->reply->timed_out && !t->reply->wait_status)
			t->reply->wait_status = (u32)status;
	}
	if (sweeping)
		sweep();
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

// Where a denial is noted: each call once, as some are tried for ever; null if it was noted before.
static struct denied *new_denied(struct trial *t, u32 arch, u32 nr)
{
	u32 n = t->reply->n_denied;

	for (u32 i = 0; i < n; i++)
		if (denied[i].nr == nr && denied[i].arch == arch)
			return 0;
	if (n == sizeof denied / sizeof *denied)
		return 0;
	t->reply->n_denied++;
	return &denied[n];
}

// Answers a trapped call.  0: it was one; -1: another SIGSYS.
static int answer_trapped(struct trial *t, int pid)
{
	struct siginfo_sys info;
	struct registers r;
	static struct denied known;
	struct denied *d;

	if (SYS4(ptrace, PTRACE_GETSIGINFO, pid, 0, &info) < 0 || info.code != 1 /* SYS_SECCOMP */ ||
	    SYS4(ptrace, PTRACE_GETREGS, pid, 0, &r) < 0)
		return -1;
	if (!(d = new_denied(t, info.arch, (u32)info.nr)))
		d = &known;
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
	if (info.error == ANSWER_KILL) {
		SYS2(kill, pid, SIGKILL);
		return 0;
	}
	r.ax = (u64)-(i64)info.error;
	r.orig_ax = ~0UL;
	SYS4(ptrace, PTRACE_SETREGS, pid, 0, &r);
	return 0;
}

// Whether `tid` is a thread of a process that we knew before.
static int is_thread(int pid, int tid)
{
	char path[64];

	append_number(append(append_number(append(path, "/proc/"), (u64)pid), "/task/"), (u64)tid);
	return !SYS4(newfstatat, AT_FDCWD, path, &(struct stat){ 0 }, 0);
}

// What a stopped process of the trial has just done, where that is what the family watches for.
static void note_event(struct trial *t, int pid, int event)
{
	u64 message = 0;

	if (event == PTRACE_EVENT_EXEC && t->p->flags & P_WATCH_EXEC)
		t->reply->saw_exec |= (u32)runs_probe(pid, t->p->magic);
	if (event < PTRACE_EVENT_FORK || event > PTRACE_EVENT_CLONE || !(t->p->flags & P_WATCH_PROCESS))
		return;
	SYS4(ptrace, PTRACE_GETEVENTMSG, pid, 0, &message);
	if (message && (event != PTRACE_EVENT_CLONE || !is_thread(pid, (int)message)))
		t->reply->saw_process = 1;
}

// Whether a process stopped where its program ended, to be looked at; notes code that was written
// by the program and runs: it traps with the magic behind it.
static int has_stayed(struct trial *t, int pid)
{
	struct registers r;
	u64 word[2] = { 0, 0 };

	if (SYS4(ptrace, PTRACE_GETREGS, pid, 0, &r) < 0)
		return 0;
	if (pid == t->subject && r.ip == A(stayed))
		return 1;
	for (int i = 0; t->p->flags & P_WATCH_CODE && i < 2; i++)
		SYS4(ptrace, PTRACE_PEEKTEXT, pid, r.ip + 8 * (u64)i, &word[i]);
	if (t->p->flags & P_WATCH_CODE && same_bytes((u8 *)word, t->p->magic, 16))
		t->reply->saw_code = 1;
	return 0;
}

#define STOP_US 5000000	// in which a service has to end when it is asked to

// The service runs: its gate is back from a vfork that ends with execve.  Now its customer comes.
static void let_come(struct trial *t)
{
	if (!t->to_come)
		return;
	t->to_come = 0;
	t->customer = start_customer(t->looker, t->subject);
	t->lost = t->customer < 0;
	if (t->lost)
		t->customer = 0;
}

// The customer has come to its end: the service is not needed any more.
static void be_served(struct trial *t, int status)
{
	t->customer = 0;
	t->reply->served = 1;
	t->reply->customer_status = (u32)status;
	t->deadline = now_us() + STOP_US;
	SYS2(kill, t->subject, t->p->stop);
}

// What a process of the trial did, if it is traced; it goes on.  1: nobody need be followed further.
static int take_event(struct trial *t, int pid, int status)
{
	int diagnosing = t->q->flags & R_DIAGNOSE, signal = status >> 8 & 0xff;

	if (t->customer && pid == t->customer) {
		be_served(t, status);
		return 0;
	}
	if (t->own.pid && pid == t->own.pid)
		let_come(t);
	// A shared gate may come back to its int3 just now: it is not ours to let go.
	if (gate_event(pid, status) || (t->gate && pid == t->gate->pid))
		return 0;
	if ((status & 0xff) != 0x7f) {
		if (pid != t->subject)
			return 0;
		t->reply->wait_status = (u32)status;
		t->subject = 0;
		watch(t);
		return 1;
	}
	note_event(t, pid, status >> 16);
	if ((status >> 8 == SIGTRAP && has_stayed(t, pid)) || satisfied(t))
		return 1;
	if (status >> 16 || (diagnosing && signal == SIGSYS && !answer_trapped(t, pid)))
		signal = 0;
	SYS4(ptrace, PTRACE_CONT, pid, 0, signal);
	return 0;
}

// Lets a parked subject run with all that comes of it traced, so that the kernel tells us at once
// what is watched for, or (in a diagnosis) which call was denied.  What nobody is told of
// (CLONE_UNTRACED, mapped code) is looked for at every tick and at the subject's end.
static void follow(struct trial *t)
{
	int status;

	SYS4(ptrace, PTRACE_SETOPTIONS, t->subject, 0, PTRACE_O_EXITKILL | PTRACE_O_CHILDREN | PTRACE_O_TRACEEXEC);
	SYS4(ptrace, PTRACE_CONT, t->subject, 0, 0);
	t->park = 0;
	for (;;) {
		i64 pid = SYS4(wait4, -1, &status, WALL, 0);

		if (pid == -ECHILD)
			return;
		if (pid == -EINTR) {
			watch(t);
			if (satisfied(t) || leader_gone(t->subject, &t->reply->wait_status))
				return;
			t->reply->timed_out = now_us() > t->deadline;
			if (t->reply->timed_out)
				return;
			continue;
		}
		if (take_event(t, (int)pid, status))
			return;
	}
}

// The same for what a subject made that has come to its own end already.
static void follow_children(struct trial *t)
{
	int status;
	i64 pid;

	while (is_followed(t) && (pid = SYS4(wait4, -1, &status, WALL | WNOHANG, 0)) > 0)
		take_event(t, (int)pid, status);
}

// Until a service has ended: its customer comes, is served, and the service is asked to stop.
static void await_service(struct trial *t)
{
	int status;

	while (!t->reply->timed_out) {
		if (SYS4(wait4, t->subject, &status, WALL | WNOHANG, 0) == t->subject) {
			t->reply->wait_status = (u32)status;
			t->subject = 0;
			return;
		}
		if (t->to_come && SYS4(wait4, t->own.pid, &status, WALL | WNOHANG, 0) == t->own.pid)
			let_come(t);
		if (t->customer && SYS4(wait4, t->customer, &status, WALL | WNOHANG, 0) == t->customer)
			be_served(t, status);
		t->reply->timed_out = now_us() > t->deadline;
		nap_us(500);
	}
}

// Lets a parked subject run, untraced.
static void release_subject(struct trial *t)
{
	if (t->park)
		SYS4(ptrace, PTRACE_DETACH, t->subject, 0, 0);
	t->park = 0;
}

// Whether the subject says that it began an operation and was not refused, or that it may fail and
// still act (an open that breaks a lease answers EAGAIN).
static int goes_on(const struct trial *t, const struct op *op, const volatile struct record *r)
{
	int counts = op->kind != K_SYSCALL || op->flags & F_MAY_FAIL;

	if (r->state == S_STARTED)
		return (t->reply->wait_status & 0x7f) != SIGSYS;
	return r->state == S_DONE && (counts || r->result < (u64)-4095);
}

// The index of the decisive operation; the number of operations if there is none.
static u32 decisive_of(const struct program *p)
{
	const struct op *op = ops_of(p);
	u32 i = 0;

	while (i < p->n_ops && !(op[i].flags & F_DECISIVE))
		i++;
	return i;
}

// Whether an effect may still come: the decisive operation was not refused, or a child is on its
// way to it.  That is the subject's claim, and all that hangs on it is how long we look.
static int may_come(const struct trial *t)
{
	const struct op *op = ops_of(t->p);
	u32 last = decisive_of(t->p);

	if (last == t->p->n_ops)
		return 0;
	while (last && trace->record[last].state == S_NOT_REACHED)
		last--;
	if (op[last].skip && !(op[last].flags & F_BODY))
		return 0;	// an executed file: it has come to its end
	return goes_on(t, &op[last], &trace->record[last]);
}

// A child that nobody waited for may still be on its way to the decisive operation, or in the middle of
// it: execve lets the parent of a vfork go on before the child is another program.
static void await_child(struct trial *t)
{
	u64 end = now_us() + look_for(t, is_followed(t) ? 1000000 : 50000);
	u32 decisive = decisive_of(t->p);

	while (may_come(t) && trace->record[decisive].state < S_DONE && now_us() < end) {
		struct pids left = { 0, { 0 } };

		company(t, &left);
		if (!left.n)
			return;
		follow_children(t);
		if (satisfied(t))
			return;
		nap_us(100);
	}
}

static struct witness_state *witness_of(struct trial *t)
{
	return t->p->fresh ? &t->own_witness : &common;
}

// With the subject parked: prepares, and looks for the first time.
static int begin_witness(struct trial *t)
{
	struct witness_state *w = witness_of(t);
	int prepared, seen;

	if (!w->pid && start_witness(w, t->p->fresh ? t->subject : 0))
		return -1;
	fill_box(t->looker, inner_pid(), t->victim_inner);
	prepared = ask_witness(w, 'p');
	if (prepared <= 0)
		return prepared ? -1 : fail(X_WITNESS, -EINVAL);
	seen = ask_witness(w, 'c');
	t->reply->witness_before = seen > 0;
	return seen < 0 ? -1 : 0;
}

// Looks until the effect is there, or cannot come any more, or is late.
static int end_looking(struct trial *t)
{
	u64 deadline = now_us() + look_for(t, 1000000);
	int seen;

	while (!(seen = ask_witness(witness_of(t), 'c')) && may_come(t) && now_us() < deadline) {
		follow_children(t);
		nap_us(100);
	}
	t->reply->witness_after = seen > 0;
	return seen < 0 ? -1 : 0;
}

static int try_trial(struct trial *t)
{
	struct reply *r = t->reply;
	u64 begin = 0;

	if (t->p->witness && !(t->looker = programs[t->p->witness - 1]))
		return fail(X_PROTOCOL, -EINVAL);
	if (t->p->flags & P_SECRET)
		new_secret();
	if (make_fixture(t->p, t->c, t->q->flags & R_SLOW))
		return -1;
	if (t->p->flags & P_WATCH_MAPPED)
		t->probe_ino = probe_inode(t->p);
	copy_program(t->p);
	if (t->p->flags & P_VICTIM) {
		if (start_victim(t))
			return -1;
	}
	open_view(t);
	t->park = needs_own_gate(t) || is_followed(t) || t->looker;	// what setup makes must be seen before the attack starts
	if (!t->park) {
		observe(&r->before, &t->view, t->view.dir >= 0 && t->view.held == -ENOENT && !t->victim);
		r->before.watermark = watermark(t->p, t->view.parent, 1);
		begin = now_us();
	}
	if (start_subject(t))
		return -1;
	if (t->park) {
		hold_anew(t);
		if (t->view.held < 0)
			t->view.held = (int)open_at(t->view.root, t->view.path, O_NOFOLLOW | O_PATH, 0);
		observe(&r->before, &t->view, 0);
		r->before.watermark = watermark(t->p, t->view.parent, 0);
		begin = now_us();
	}
	int serves = t->p->flags & P_CUSTOMER;

	t->deadline = now_us() + t->q->timeout_us;
	t->to_come = serves != 0;
	if (!t->own.pid)	// loaded directly: nobody tells when it has begun
		let_come(t);
	if (t->looker && !serves && begin_witness(t))
		return -1;
	if (is_followed(t)) {
		tick_every(500);	// to look for what no event tells
		follow(t);
		tick_every(TICK_US);
	} else {
		release_subject(t);
		if (serves)
			await_service(t);
		else
			await_subject(t);
	}
	if (t->lost || (t->looker && !serves && end_looking(t)))
		return -1;
	if (!t->looker && !t->victim && t->p->flags & P_SWEEP && !r->timed_out && !satisfied(t))
		await_child(t);
	if (t->victim && !t->looker && !r->timed_out && may_come(t))
		await_victim(t);
	r->learned = t->p->flags & P_SECRET && has_secret((const u8 *)ARENA, ARENA_SIZE);
	r->latency_us = (u32)(now_us() - begin);
	return 0;
}

static int try_staged(struct trial *t);

// Whether the subjects' scratch has no room left: then they could not even say so.
static int is_full(void)
{
	struct { i64 type, bsize; u64 blocks, bfree, rest[11]; } fs;

	return !SYS2(fstatfs, scratch_dir, &fs) && fs.blocks && fs.bfree * 64 < fs.blocks;
}

#define REPORT_SIZE (2UL << 20)

static void collect(struct trial *t)
{
	static char text[65536], receipt[65536], *report;
	struct reply *r = t->reply;
	char path[256];
	i64 n = t->p->flags & P_COLLECT ? read_file(inside(path, t->p->collect), text, sizeof text) : 0;
	i64 m = t->p->flags & P_CUSTOMER ? read_file(inside(path, t->p->receipt), receipt, sizeof receipt) : 0;
	if (t->p->report[0] && !report)
		report = allocate_own(REPORT_SIZE);
	i64 k = t->p->report[0] && report ? read_file(inside(path, t->p->report), report, REPORT_SIZE) : 0;

	r->filled = (u32)is_full();
	r->collected = n > 0 ? (u32)n : 0;
	r->receipt = m > 0 ? (u32)m : 0;
	r->report = k > 0 ? (u32)k : 0;
	put_frame(T_RESULT, sizeof *r + r->n_records * sizeof(struct record) + r->collected + r->receipt +
			  r->report + r->n_denied * sizeof(struct denied));
	put(r, sizeof *r);
	put((void *)trace->record, r->n_records * sizeof(struct record));
	put(text, r->collected);
	put(receipt, r->receipt);
	put(report, r->report);
	put(denied, r->n_denied * sizeof(struct denied));
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
	if (staged ? try_staged(&t) : try_trial(&t))
		reply.status = 1;
	if (!staged)
		end_trial(&t);
	if (reply.status) {
		reply.step = fail_step;
		reply.error = fail_error;
	} else
		observe(&reply.after, &t.view, 0);
	reply.n_records = t.p->n_ops;
	close_view(&t.view);
	if (t.ns >= 0)
		SYS1(close, t.ns);
	collect(&t);
	if (t.view.dir >= 0) {
		clear_away(&t.view, &reply.after);
		SYS1(close, t.view.dir);
	}
	if (!standing.stands || reply.status || reply.timed_out || reply.after.n_names)
		wipe_scratch();
	if (made[0]) {
		wipe_path(made);
		SYS3(unlinkat, AT_FDCWD, made, AT_REMOVEDIR);
		made[0] = 0;
	}
}
