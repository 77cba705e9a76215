// SPDX-License-Identifier: MIT
// Gates: the posture, the layers, and one clone for each subject.

static void set_limits(int core_file, int with_time)
{
	static const u64 limits[][2] = { { RLIMIT_CPU, 10 }, { RLIMIT_FSIZE, 32 << 20 }, { RLIMIT_DATA, 512 << 20 }, { RLIMIT_NPROC, 256 }, { RLIMIT_NOFILE, 256 } };
	u64 core[2] = { core_file ? 1 << 20 : 1, core_file ? 1 << 20 : 1 };

	for (u32 i = !with_time; i < sizeof limits / sizeof *limits; i++) {
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

// The queues of a namespace that is gone count for a while: they must not fill RLIMIT_MSGQUEUE.
static void small_queues(void)
{
	SYS3(setresuid, -1, 0, -1);	// whoever is root of the namespace may write these since Linux 5.19
	write_file("/proc/sys/fs/mqueue/msg_default", "1");
	write_file("/proc/sys/fs/mqueue/msgsize_default", "128");
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
		if (fresh & CLONE_NEWIPC)
			small_queues();
	}
}

// Two descriptors of mounts, and one that an AppArmor profile is chosen by, where nobody looks: a gate
// needs no control pipes.
enum { LABEL = 61, BELOW = 62 };

static void standard_files(int with_label, int with_mounts)
{
	i64 fd = SYS4(openat, AT_FDCWD, "/dev/null", O_RDWR, 0);

	if (fd < 0)
		gate_fail(X_POSTURE, fd);
	for (int i = 0; i < 3; i++)
		if (fd != i)
			SYS2(dup2, fd, i);
	SYS3(close_range, 3, LABEL - 1, 0);
	if (!with_label)
		SYS1(close, LABEL);
	if (!with_mounts)
		SYS3(close_range, BELOW, BELOW + 1, 0);
	SYS3(close_range, BELOW + 2, ~0U, 0);
}

struct cap_head { u32 version; int pid; };
struct cap_sets { u32 effective, permitted, inheritable; };
#define CAP_HEAD { 0x20080522, 0 }
#define CAP_SETPCAP_BIT (1 << 8)

static void drop_bounding(u64 kept)
{
	for (u64 cap = 0; cap < 64; cap++)
		if (!(kept >> cap & 1))
			SYS2(prctl, PR_CAPBSET_DROP, cap);
}

// Whether the posture can take its bounding set away after setup, when the layers come.
static int drops_late(const struct config *c)
{
	return (c->effective & CAP_SETPCAP_BIT) != 0;
}

// A layer: takes away what it does not keep, after setup as all layers.
static i64 keep_capabilities(const struct config *c)
{
	struct cap_head head = CAP_HEAD;
	struct cap_sets set[2];
	i64 e;

	if (!(c->effective & ~c->kept) && !(c->bounding & ~c->kept))
		return 0;
	if (drops_late(c))
		drop_bounding(c->kept);
	if ((e = SYS2(capget, &head, set)) < 0)
		return e;
	for (int i = 0; i < 2; i++) {
		u32 kept = (u32)(c->kept >> 32 * i);

		set[i].effective &= kept;
		set[i].permitted &= kept;
		set[i].inheritable &= kept;
	}
	return SYS2(capset, &head, set);
}

static void enter_posture(const struct config *c, int core_file)
{
	struct cap_head head = CAP_HEAD;
	struct cap_sets set[2];
	i64 e;

	set_limits(core_file, 1);
	if (many_ids && (e = SYS2(setgroups, 0, 0)) < 0)
		gate_fail(X_POSTURE, e);
	drop_bounding(drops_late(c) ? c->bounding : c->bounding & c->kept);
	SYS2(prctl, PR_SET_KEEPCAPS, 1);
	if ((e = SYS3(setresgid, c->gid, c->gid, c->gid)) < 0 || (e = SYS3(setresuid, c->uid, c->uid, c->uid)) < 0)
		gate_fail(X_POSTURE, e);
	for (int i = 0; i < 2; i++) {
		set[i].effective = set[i].permitted = (u32)(c->effective >> 32 * i);
		set[i].inheritable = 0;
	}
	if ((e = SYS2(capset, &head, set)) < 0)
		gate_fail(X_POSTURE, e);
	SYS2(prctl, PR_SET_KEEPCAPS, 0);
	SYS2(prctl, PR_SET_DUMPABLE, 1);
	SYS1(umask, 022);
	if ((e = SYS1(chdir, "/work")) < 0)
		gate_fail(X_POSTURE, e);
}

// What cannot be opened gets no rule, and what is no directory the rights of a file: as landlockconfig has it.
static i64 allow_beneath(i64 set, const char *path, u64 access)
{
	static const u64 of_files = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15;	// EXECUTE, WRITE_FILE, READ_FILE, TRUNCATE, IOCTL_DEV
	i64 fd = open_at(AT_FDCWD, path, O_PATH, 0), e;
	struct { u64 access; i32 parent; } __attribute__((packed)) beneath = { access, (i32)fd };
	struct stat st;

	if (fd < 0)
		return 0;
	e = SYS2(fstat, fd, &st);
	if (!e && (st.st_mode & S_IFMT) != S_IFDIR)
		beneath.access &= of_files;
	if (!e && beneath.access)
		e = SYS4(landlock_add_rule, set, 1 /* LANDLOCK_RULE_PATH_BENEATH */, &beneath, 0);
	SYS1(close, fd);
	return e;
}

static i64 restrict_by(const struct ruleset *r)
{
	i64 set = SYS3(landlock_create_ruleset, r, 24, 0), e = set < 0 ? set : 0;

	for (u64 i = 0; !e && i < r->n_rules; i++) {
		u64 port[2] = { r->rule[i].access, r->rule[i].port };

		e = r->rule[i].kind == 1 ? allow_beneath(set, r->rule[i].path, r->rule[i].access) :
					   SYS4(landlock_add_rule, set, 2 /* LANDLOCK_RULE_NET_PORT */, port, 0);
	}
	if (!e)
		e = SYS2(landlock_restrict_self, set, 0);
	if (set >= 0)
		SYS1(close, set);
	return e;
}

static const void *layer_of(const struct config *c, u32 kind)
{
	const u8 *at = (const u8 *)(c + 1);

	for (u32 i = 0; i < c->n_layers; i++) {
		const struct layer *l = (const struct layer *)at;

		if (l->kind == kind)
			return l + 1;
		at += sizeof *l + ((l->length + 7) & ~7U);
	}
	return 0;
}

static const struct read_only *read_only_of(const struct config *c)
{
	return layer_of(c, L_READ_ONLY);
}

// Opened while the judge's /proc is in sight; where nobody else is that we could be taken for.
static void open_label(void)
{
	i64 fd = open_at(AT_FDCWD, "/proc/thread-self/attr/apparmor/current", O_WRONLY, 0), e = fd;

	if (fd >= 0 && fd != LABEL) {
		e = SYS2(dup2, fd, LABEL);
		SYS1(close, fd);
	}
	if (e < 0)
		gate_fail(X_LABEL, e);
}

// As aa_change_profile(2): from here on, for this thread and whom it makes.
static void enter_profile(const char *name)
{
	char order[272];
	i64 e;

	append(append(order, "changeprofile "), name);
	e = SYS3(write, LABEL, order, length(order));
	SYS1(close, LABEL);
	if (e < 0)
		gate_fail(X_LABEL, e);
}

// As every runtime leaves them; honest programs have a directory as if it were a volume.
static const char *const always_writable[] = { "/dev", "/proc", "/work/w", "/work/o" };
static const char *const made_read_only[] = { "/", "/work" };	// the others are so from the start
enum { N_ALWAYS = 4 };

// What stays writable becomes a mount of its own on top, before anybody is in it.
static void split_mounts(const struct read_only *r)
{
	i64 e = SYS1(unshare, CLONE_NEWNS), fd = 0;

	for (u64 i = 0; e >= 0 && i < 2; i++) {
		e = fd = open_at(AT_FDCWD, made_read_only[i], O_PATH | O_DIRECTORY, 0);
		if (e >= 0)
			e = SYS2(dup2, fd, BELOW + i);
		SYS1(close, fd);
	}
	for (u64 i = 0; e >= 0 && i < r->n_writable + N_ALWAYS; i++) {
		const char *path = i < N_ALWAYS ? always_writable[i] : r->writable[i - N_ALWAYS];

		e = SYS5(mount, path, path, 0, MS_BIND | MS_REC, 0);
		if (e == -ENOENT)	// not there, so nobody can write to it
			e = 0;
	}
	if (e < 0)
		gate_fail(X_READ_ONLY, e);
}

// EBUSY: setup has a file open there for writing.
static void make_read_only(void)
{
	struct { u64 set, clear, propagation, userns; } attr = { 1 /* MOUNT_ATTR_RDONLY */, 0, 0, 0 };

	for (u64 i = 0; i < 2; i++) {
		i64 e = SYS5(mount_setattr, BELOW + i, "", AT_EMPTY_PATH, &attr, sizeof attr);

		if (e < 0)
			gate_fail(X_READ_ONLY, e);
		SYS1(close, BELOW + i);
	}
	control->read_only = 1;
}

// Puts every layer on; returns 0 or the kernel's answer.
static i64 load_layers(const struct config *c, u32 extra)
{
	const u8 *at = (const u8 *)(c + 1);

	for (u32 i = 0; i < c->n_layers; i++) {
		const struct layer *l = (const struct layer *)at;
		struct sock_fprog prog = { (u16)(l->length / 8), l + 1 };
		i64 e = l->kind >= L_READ_ONLY ? 0 :	// which are not loaded
			l->kind == L_LANDLOCK ? restrict_by((const struct ruleset *)(l + 1)) :
						SYS3(seccomp, SECCOMP_SET_MODE_FILTER, l->flags | extra, &prog);

		if (e)
			return e;
		at += sizeof *l + ((l->length + 7) & ~7U);
	}
	return 0;
}

static volatile u32 loader_go;
static const struct config *loader_config;
static int loader_is_for_mounts;
static u8 loader_stack[8192] __attribute__((aligned(64)));

// The second thread: keeps the capabilities, changes mounts and loads for the group, goes away.
static void loader(u64 unused)
{
	u64 arg[6] = { 0, 0, 0, 0, 0, 0 };
	u64 idle = 0;
	i64 e;

	(void)unused;
	if (control->stay)	// it will spin to the end: only when nobody else wants to run
		SYS3(sched_setscheduler, 0, SCHED_IDLE, &idle);
	while (!loader_go)
		SYS0(sched_yield);
	if (read_only_of(loader_config))
		make_read_only();
	if (loader_is_for_mounts) {	// whoever waits for us loads the rest
		enter_syscall(NR_exit, arg);
		__builtin_unreachable();
	}
	e = load_layers(loader_config, SECCOMP_FILTER_FLAG_TSYNC);
	if (e)
		gate_fail(X_LOAD, e);
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

// Subjects are forked without the control page and the filters.
static void forget_control(void)
{
	SYS3(madvise, CONTROL, 4096, MADV_DONTFORK);
	SYS3(madvise, current_config, current_config_bytes, MADV_DONTFORK);
}

// Nor, where no program is known that would look for it, with the vDSO and its data before it: they
// lie alone up there, in page tables of their own.
static void forget_vdso(void)
{
	if (vdso)
		SYS3(madvise, vdso - 0x8000, 0xc000, MADV_DONTFORK);	// ENOMEM: not all of it is mapped
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
	if (p && p->flags & P_SPREAD)	// its threads wait for each other: on one core that takes a tick
		SYS3(sched_setaffinity, 0, sizeof cores, cores);
	const struct read_only *r = read_only_of(c);
	const char *profile = layer_of(c, L_APPARMOR);

	if (profile)
		open_label();
	join_namespaces(p ? p->fresh : 0);
	if (r)
		split_mounts(r);
	loader_is_for_mounts = nnp;
	if (r || (!nnp && c->n_layers))
		start_loader(c);
	if (gate) {
		i64 e = SYS2(setns, init_pid_ns, CLONE_NEWPID);

		if (e < 0)
			gate_fail(X_JOIN, e);
	}
	standard_files(profile != 0, r != 0);
	enter_posture(c, p && p->flags & P_CORE);
	if (nnp)
		SYS5(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (p && page->setup_end) {
		run(0, page->setup_end, 1);
		for (u32 i = 0; i < page->setup_end; i++)
			if (page->op[i].kind == K_SYSCALL && trace->record[i].state != S_NOT_REACHED &&
			    !(page->op[i].flags & F_MAY_FAIL) && trace->record[i].result >= (u64)-4095)
				gate_fail(X_SETUP, (i64)trace->record[i].result);
	}
	i64 taken = keep_capabilities(c);

	if (taken < 0)
		gate_fail(X_LOAD, taken);
	if (profile)	// the thread that loads the rest is not under it
		enter_profile(profile);
	forget_control();
	if (!p)
		forget_vdso();
	if (!c->n_layers) {
		control->loaded = 1;
		return;
	}
	if (nnp) {
		if (r)
			loader_go = 1;
		while (r && !control->read_only)
			SYS0(sched_yield);
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
		memcpy(own_page, control->secret, as_victim ? sizeof control->secret : 0);
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
		if (as_victim)	// otherwise it is untouched, and the next subject shares it
			memset(own_page, 0, sizeof own_page);
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

// Of the status file that was read last.
static void parse_truth(struct truth *t)
{
	t->seccomp = (u32)field(status_text, "Seccomp:", 10);
	t->filters = (u32)field(status_text, "Seccomp_filters:", 10);
	t->no_new_privs = (u32)field(status_text, "NoNewPrivs:", 10);
	t->effective = field(status_text, "CapEff:", 16);
	t->permitted = field(status_text, "CapPrm:", 16);
	t->bounding = field(status_text, "CapBnd:", 16);
	t->known = 1;
}

static int read_truth(int pid, struct truth *t)
{
	char path[64];
	i64 n = read_file(proc_path(path, pid, "status"), status_text, sizeof status_text);

	memset(t, 0, sizeof *t);
	if (n <= 0)
		return fail(X_STATUS, n ? n : -ENOENT);
	parse_truth(t);
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
		if (status == (SIGCHLD << 8 | 0x7f) && SYS4(ptrace, PTRACE_CONT, pid, 0, SIGCHLD) >= 0)
			continue;	// whom its setup traces has stopped
		if ((status & 0xff) == 0x7f)
			return fail(X_GATE_KILLED, -(status >> 8 & 0xff));
		if (control->step)
			return fail(control->step, -control->error);
		return fail(status & 0x7f ? X_GATE_KILLED : X_GATE_DIED, status & 0x7f ? -(status & 0x7f) : -ESRCH);
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
			return fail(control->loaded ? X_LOADER : X_GATE_KILLED, -(status & 0x7f));
		if (control->stay)
			nap_us(20);
		else
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
		if ((fail_step == X_GATE_DIED || fail_step == X_GATE_KILLED) && control->loaded && control->loader_used)
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
	memcpy(control->secret, secret, as_victim ? sizeof secret : 0);
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

// A shared gate that came back to its int3, or is gone.  0: that was none.
static int gate_event(int pid, int status)
{
	for (u32 i = 0; i < 16; i++)
		if (pid > 0 && gates[i].pid == pid) {
			gates[i].running = 0;
			if ((status & 0xff) != 0x7f)
				gates[i].pid = 0;
			return 1;
		}
	return 0;
}
