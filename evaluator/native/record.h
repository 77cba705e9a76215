// SPDX-License-Identifier: MIT
// Recording: a program under a filter that asks us about every call, and what it asked.

// A recorder is fed by a listener (SECCOMP_FILTER_FLAG_NEW_LISTENER), however that came to us. It
// keeps each distinct call once: phase, architecture, number and the arguments that a rule could
// use. record_mode runs one command so; evaluator/record.py starts it and reads what it reports.

enum {
	SECCOMP_FLAG_NEW_LISTENER = 8, SECCOMP_FLAG_WAIT_KILLABLE = 32, SECCOMP_SYNC_WAKE_UP = 1, SECCOMP_CONTINUE = 1,
	NOTIF_RECV = 0xc0502100, NOTIF_SEND = 0xc0182101, NOTIF_SET_FLAGS = 0x40082104,
	PR_SET_SECCOMP_MODE = 22, PR_SUBREAPER = 36, I386_ARCH = 0x40000003, X32 = 0x40000000,
};

#define MAX_USES (1 << 15)
#define MAX_EVENTS 256
#define MAX_TASKS 4096
#define NUMBERS 1024	// in each of three tables: x86_64, i386, x32

struct notification {
	u64 id;
	u32 pid, flags;
	u32 nr, arch;
	u64 instruction_pointer, args[6];
};

struct response {
	u64 id;
	i64 value;
	i32 error;
	u32 flags;
};

struct kept {			// which bits of which arguments of a call are kept, and what it is answered
	u32 arch, nr, when, answer;	// `when`: 0, or one more than the argument that must be `is`
	u64 is, mask[6];
};

struct record_config {		// on the wire; followed by n_kept of struct kept, then by the filters
	u32 n_kept, most_values, n_filters, answer;
	u64 deadline_us, grace_us;
	u32 listener_bytes;	// the filter that asks; none: nothing is recorded
	u32 forward;		// the signal that is for the command and not for us; 0: none
};

struct use {
	u32 arch, nr;
	u32 own_filter, folded;	// folded: more values than we keep, so any
	u64 args[6], count, first;	// first: the how manieth call of all it was
};

enum { EVENT_OWN_FILTER = 1, EVENT_SECOND_LISTENER, EVENT_STRICT, EVENT_LEFT_OVER };

struct event {
	u32 kind, pid, value, of;
	char comm[16];
};

struct task {
	u32 tid, generation, own_filter, installing, before;
};

struct recorder {
	struct use *uses;
	u32 n_uses, n_events, lost, generation;
	u32 answer, most_values;
	u32 base;		// filters of a task that has none of its own
	u32 watching;		// somebody may have a filter of its own
	i32 refused;		// the kernel's answer to our letting a call go on
	u64 calls;
	struct event events[MAX_EVENTS];
	struct task tasks[MAX_TASKS];
	struct kept *kept[3][NUMBERS], *kept_end;
	u32 values[3][NUMBERS];
};

static u32 table_of(u32 arch, u32 nr)
{
	return arch == I386_ARCH ? 1 : nr & X32 ? 2 : 0;
}

static const struct kept *kept_of(const struct recorder *r, const struct notification *n)
{
	const struct kept *k = r->kept[table_of(n->arch, n->nr)][n->nr % NUMBERS];

	for (; k && k < r->kept_end && k->arch == n->arch && k->nr == n->nr; k++)
		if (!k->when || (n->args[k->when - 1] & 0xffffffff) == k->is)
			return k;
	return 0;
}

static int same_use(const struct use *a, const struct use *b)
{
	return a->nr == b->nr && a->arch == b->arch && a->own_filter == b->own_filter && a->folded == b->folded &&
	       same_bytes((const u8 *)a->args, (const u8 *)b->args, sizeof a->args);
}

static struct use *place_of(struct recorder *r, const struct use *wanted)
{
	u64 h = (u64)wanted->nr << 34 ^ (u64)wanted->arch << 3 ^ wanted->own_filter << 1 ^ wanted->folded;

	for (int i = 0; i < 6; i++)
		h = (h ^ wanted->args[i]) * 0x9e3779b97f4a7c15;
	h ^= h >> 29;
	while (r->uses[h % MAX_USES].count && !same_use(&r->uses[h % MAX_USES], wanted))
		h++;
	return &r->uses[h % MAX_USES];
}

static void note_use(struct recorder *r, const struct notification *n, const struct kept *k, u32 own_filter)
{
	struct use wanted = { n->arch, n->nr, own_filter, 0, { 0 }, 1, r->calls }, *at;
	u32 *values = &r->values[table_of(n->arch, n->nr)][n->nr % NUMBERS];

	for (int i = 0; k && i < 6; i++)
		wanted.args[i] = n->args[i] & k->mask[i];
	at = place_of(r, &wanted);
	if (!at->count && *values >= r->most_values) {
		memset(wanted.args, 0, sizeof wanted.args);
		wanted.folded = 1;
		at = place_of(r, &wanted);
	}
	if (at->count) {
		at->count++;
	} else if (r->n_uses < MAX_USES / 2) {
		*at = wanted;
		r->n_uses++;
		++*values;
	} else {
		r->lost++;
	}
}

// A number in /proc/PID/status; -1 where there is none.
static i64 status_number(u32 pid, const char *field)
{
	char path[64], text[4096], *at = text;
	i64 n = read_file(proc_path(path, (int)pid, "status"), text, sizeof text);

	for (; n > 0 && *at; at++) {
		const char *value = at + length(field);

		if ((at > text && at[-1] != '\n') || !same_bytes((u8 *)at, (const u8 *)field, length(field)))
			continue;
		while (*value == '\t' || *value == ' ')
			value++;
		return (i64)number_at(&value);
	}
	return -1;
}

static struct event *add_event(struct recorder *r, u32 kind, u32 pid)
{
	struct event *e = &r->events[r->n_events < MAX_EVENTS ? r->n_events++ : MAX_EVENTS - 1];
	char path[64];
	i64 n;

	memset(e, 0, sizeof *e);
	e->kind = kind;
	e->pid = pid;
	n = read_file(proc_path(path, (int)pid, "comm"), e->comm, sizeof e->comm);
	if (n > 0 && e->comm[n - 1] == '\n')
		e->comm[n - 1] = 0;
	return e;
}

// Calls visit() with each thread of a process.
static void each_task(u32 pid, void (*visit)(u32, void *), void *with)
{
	char path[64], buffer[4096];
	i64 fd = open_at(AT_FDCWD, proc_path(path, (int)pid, "task"), O_DIRECTORY, 0), n;

	while (fd >= 0 && (n = SYS3(getdents64, fd, buffer, sizeof buffer)) > 0)
		for (i64 at = 0; at < n; at += ((struct dirent64 *)(buffer + at))->reclen) {
			const char *name = ((struct dirent64 *)(buffer + at))->name;

			if (*name != '.')
				visit((u32)number_at(&name), with);
		}
	if (fd >= 0)
		SYS1(close, fd);
}

struct threads {
	i64 least;
	u32 without, all;
};

static void count_thread(u32 tid, void *with)
{
	struct threads *t = with;
	i64 filters = status_number(tid, "Seccomp_filters:");

	t->all++;
	t->without += filters >= 0 && filters < t->least;
}

// A thread came back from putting a filter on: how many of its process have as many?
static void note_own_filter(struct recorder *r, u32 tid, i64 filters)
{
	struct threads t = { filters, 0, 0 };
	i64 pid = status_number(tid, "Tgid:");
	struct event *e;

	if (pid <= 0)
		return;
	each_task((u32)pid, count_thread, &t);
	e = add_event(r, EVENT_OWN_FILTER, (u32)pid);
	e->value = t.without;
	e->of = t.all;
	r->generation++;
}

static struct task *task_of(struct recorder *r, u32 tid)
{
	struct task *t = &r->tasks[tid % MAX_TASKS];
	i64 filters;

	if (t->tid == tid && t->generation == r->generation && !t->installing)
		return t;
	filters = status_number(tid, "Seccomp_filters:");
	if (t->tid == tid && t->installing && filters > (i64)t->before)
		note_own_filter(r, tid, filters);
	*t = (struct task){ tid, r->generation, filters > (i64)r->base, 0, filters > 0 ? (u32)filters : 0 };
	return t;
}

enum { I_NOTHING, I_FILTER, I_STRICT };

static u32 installs(const struct notification *n)
{
	static const u32 numbers[3][2] = { { 317, 157 }, { 354, 172 }, { 317 | X32, 157 | X32 } };	// seccomp, prctl
	const u32 *own = numbers[table_of(n->arch, n->nr)];
	u32 op = (u32)n->args[0];

	if (n->nr == own[0])
		return op == SECCOMP_SET_MODE_FILTER ? I_FILTER : op == 0 ? I_STRICT : I_NOTHING;
	if (n->nr == own[1] && op == PR_SET_SECCOMP_MODE)
		return n->args[1] == 2 ? I_FILTER : n->args[1] == 1 ? I_STRICT : I_NOTHING;
	return I_NOTHING;
}

static u32 own_filter_of(struct recorder *r, const struct notification *n)
{
	u32 kind = installs(n), own_filter;
	struct task *t;

	r->watching |= kind == I_FILTER;
	if (kind == I_STRICT)
		add_event(r, EVENT_STRICT, n->pid);
	if (!r->watching)
		return 0;
	t = task_of(r, n->pid);
	own_filter = t->own_filter;
	if (kind == I_FILTER) {
		t->installing = 1;
		if ((u32)n->args[0] == SECCOMP_SET_MODE_FILTER && n->args[1] & SECCOMP_FLAG_NEW_LISTENER)
			add_event(r, EVENT_SECOND_LISTENER, n->pid);
	}
	return own_filter;
}

// One call: waits for it, notes it, lets it go on. Returns the kernel's answer to the wait.
static i64 take(struct recorder *r, int listener)
{
	struct notification n;
	struct response answer = { 0, 0, 0, SECCOMP_CONTINUE };
	const struct kept *k;
	i64 e;

	memset(&n, 0, sizeof n);
	e = SYS3(ioctl, listener, NOTIF_RECV, &n);
	if (e < 0)
		return e;
	r->calls++;
	k = kept_of(r, &n);
	note_use(r, &n, k, own_filter_of(r, &n));
	answer.id = n.id;
	answer.error = -(i32)(k ? k->answer : r->answer);
	if (answer.error)
		answer.flags = 0;
	e = SYS3(ioctl, listener, NOTIF_SEND, &answer);
	if (e == -EINVAL)	// before Linux 5.5; who died meanwhile is another error, and none
		r->refused = EINVAL;
	return 0;
}

// `pid` has the filter that asks, and none of its own yet.
static void begin_to_listen(struct recorder *r, int listener, u32 pid)
{
	i64 filters = status_number(pid, "Seccomp_filters:");

	r->base = filters > 0 ? (u32)filters : 0;
	SYS3(ioctl, listener, NOTIF_SET_FLAGS, SECCOMP_SYNC_WAKE_UP);	// since Linux 6.6; only quicker
}

static struct recorder *new_recorder(const struct record_config *c)
{
	struct recorder *r = allocate(sizeof *r);
	struct kept *kept = (struct kept *)(c + 1);

	if (!r || !(r->uses = allocate(MAX_USES * sizeof *r->uses)))
		return 0;
	r->answer = c->answer;
	r->most_values = c->most_values;
	r->kept_end = kept + c->n_kept;
	for (u32 i = c->n_kept; i-- > 0;)	// the first of a call stands last
		r->kept[table_of(kept[i].arch, kept[i].nr)][kept[i].nr % NUMBERS] = &kept[i];
	return r;
}

// --- one command -------------------------------------------------------------------------------

struct command {
	const struct record_config *config;
	const char *path;
	char **argv, **envp;
	volatile i32 listener;		// one more than the descriptor, or the kernel's refusal
	volatile i32 exec_error;
	volatile u32 gave_up_privileges;
};

static struct command command;
static u8 command_stack[16384] __attribute__((aligned(64)));
static volatile u32 asked_to_end, to_forward;

static void end_handler(int signal)
{
	asked_to_end = (u32)signal;
}

static void forward_handler(int signal)
{
	to_forward = (u32)signal;
}

// Only so that what blocks returns with EINTR.
static void wake_handler(int signal)
{
	(void)signal;
}

static i64 load_one(const u8 *filter, u32 bytes, u32 flags)
{
	struct sock_fprog prog = { (u16)(bytes / 8), filter };
	i64 e = SYS3(seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);

	if (e == -EACCES && !command.gave_up_privileges) {
		command.gave_up_privileges = 1;
		SYS5(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		e = SYS3(seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
	}
	return e;
}

static i64 load_command_filters(void)
{
	const struct record_config *c = command.config;
	const u8 *at = (const u8 *)(c + 1) + c->n_kept * sizeof(struct kept);
	i64 e = 0;

	for (u32 i = 0; i < c->n_filters && e >= 0; i++) {
		u32 bytes = *(const u32 *)at;

		e = load_one(at + 8, bytes, 0);
		at += 8 + bytes;
	}
	if (e < 0 || !c->listener_bytes)
		return e < 0 ? e : 0;
	e = load_one(at, c->listener_bytes, SECCOMP_FLAG_NEW_LISTENER | SECCOMP_FLAG_WAIT_KILLABLE);
	if (e == -EINVAL)	// before Linux 5.19
		e = load_one(at, c->listener_bytes, SECCOMP_FLAG_NEW_LISTENER);
	return e;
}

// Shares our memory and descriptors until it execs, so that the listener needs no call to reach us.
static void command_body(u64 unused)
{
	i64 e;

	(void)unused;
	SYS2(setpgid, 0, 0);
	SYS2(prctl, PR_SET_PDEATHSIG, SIGKILL);
	e = load_command_filters();
	command.listener = e < 0 ? (i32)e : (i32)e + 1;
	if (e >= 0)
		command.exec_error = (i32)SYS3(execve, command.path, command.argv, command.envp);
	leave();
}

struct outcome {		// on the wire; followed by the uses and the events
	u32 version, step;
	i32 error;
	u32 wait_status, timed_out, asked_to_end, gave_up_privileges, lost, n_uses, n_events;
	u64 calls, took_us;
};

enum { STEP_NONE, STEP_CONFIG, STEP_CLONE, STEP_FILTER, STEP_EXEC, STEP_MEMORY, STEP_CONTINUE };

struct supervision {
	struct recorder *recorder;
	int listener, pid;
	u64 begin, deadline, kill_at;
	u32 timed_out, ended, status;
};

// Every child that we have now, our orphaned descendants among them.
static u32 own_children(u32 *pids, u32 most)
{
	char text[8192];
	const char *at = text;
	u32 n = 0;

	if (read_file("/proc/thread-self/children", text, sizeof text) <= 0)
		return 0;
	for (; *at && n < most; at++) {
		pids[n] = (u32)number_at(&at);
		if (*at != ' ')		// cut off: another process's number
			break;
		n++;
	}
	return n;
}

// Reaps; returns 0 when there is nobody left.
static int reap(struct supervision *s)
{
	int status;
	i64 pid;

	while ((pid = SYS4(wait4, -1, &status, WNOHANG | WALL, 0)) > 0)
		if (pid == s->pid) {
			s->ended = 1;
			s->status = (u32)status;
			s->kill_at = clock_us() + command.config->grace_us;
		}
	return pid != -ECHILD;
}

static void terminate(struct supervision *s, int signal)
{
	if (s->ended || s->pid <= 0)	// its number may be somebody else's by now; 0 is our own group
		return;
	SYS2(kill, s->pid, signal);
	SYS2(kill, -s->pid, signal);
}

// Nobody gets an answer any more, so nobody can fork: what is killed stays dead.
static void kill_all(struct supervision *s)
{
	u64 end = clock_us() + 5000000;
	u32 pids[256], n, first = 1;

	terminate(s, SIGKILL);
	while (reap(s) && clock_us() < end) {
		n = own_children(pids, 256);
		for (u32 i = 0; i < n; i++) {
			if (first && s->ended && s->recorder)
				add_event(s->recorder, EVENT_LEFT_OVER, pids[i]);
			SYS2(kill, pids[i], SIGKILL);
		}
		first = 0;
		nap_us(1000);
	}
}

static void pass_on(struct supervision *s)
{
	if (to_forward && !s->ended)
		SYS2(kill, s->pid, to_forward);
	to_forward = 0;
}

static int serve_one(struct supervision *s)
{
	if (s->listener >= 0)
		return !take(s->recorder, s->listener);
	nap_us(TICK_US);
	return 0;
}

static void supervise(struct supervision *s)
{
	u64 now, next_look = 0;

	for (;;) {
		if (serve_one(s)) {
			if (s->recorder->calls & 255 && !s->recorder->refused)
				continue;
		} else if (!reap(s)) {
			return;
		}
		pass_on(s);
		now = clock_us();
		if (now < next_look && !asked_to_end)
			continue;
		next_look = now + TICK_US;
		if (asked_to_end || s->recorder->refused || (s->kill_at && now > s->kill_at))
			break;
		if (!s->timed_out && !s->ended && now > s->deadline) {
			s->timed_out = 1;
			s->kill_at = now + command.config->grace_us;
			terminate(s, SIGTERM);
		}
	}
	kill_all(s);
}

static int sane_record_config(const struct record_config *c, i64 n)
{
	u64 at = sizeof *c + c->n_kept * sizeof(struct kept);

	if (n < (i64)sizeof *c || c->n_kept > 3 * NUMBERS || c->n_filters > 16 || c->listener_bytes > 4096 * 8 || c->forward > 64)
		return 0;
	for (u32 i = 0; i < c->n_filters; i++) {
		if (at + 8 > (u64)n)
			return 0;
		u32 bytes = *(const u32 *)((const u8 *)c + at);

		if (bytes > 4096 * 8 || bytes % 8)
			return 0;
		at += 8 + bytes;
	}
	return at + c->listener_bytes == (u64)n;
}

static const struct record_config *read_record_config(int fd)
{
	const u64 most = 1 << 20;
	u8 *buffer = allocate(most);
	i64 n, total = 0;

	while (buffer && (n = SYS3(read, fd, buffer + total, most - (u64)total)) > 0)
		total += n;
	SYS1(close, fd);
	return buffer && sane_record_config((struct record_config *)buffer, total) ? (struct record_config *)buffer : 0;
}

static void report_recording(int fd, struct outcome *o, const struct recorder *r)
{
	o->version = 1;
	o->n_uses = r ? r->n_uses : 0;
	o->n_events = r ? r->n_events : 0;
	o->lost = r ? r->lost : 0;
	o->calls = r ? r->calls : 0;
	write_all(fd, o, sizeof *o);
	for (u32 i = 0; r && i < MAX_USES; i++)
		if (r->uses[i].count)
			write_all(fd, &r->uses[i], sizeof r->uses[i]);
	if (r)
		write_all(fd, r->events, r->n_events * sizeof *r->events);
}

// Starts the command; the descriptor of its listener, -1 if it has none, -2 if it did not start.
static int start_command(struct supervision *s, struct outcome *o)
{
	u64 args[6] = { CLONE_VM | CLONE_FILES | SIGCHLD, 0, 0, 0, 0, 0 };
	i64 pid = (i64)spawn_syscall(NR_clone, args, command_stack + sizeof command_stack, command_body, 0);

	if (pid < 0) {
		o->step = STEP_CLONE;
		o->error = (i32)-pid;
		return -2;
	}
	s->pid = (int)pid;
	while (!command.listener && SYS4(wait4, pid, &s->status, WNOHANG | WALL, 0) == 0)
		nap_us(50);
	if (command.listener <= 0) {
		o->step = STEP_FILTER;
		o->error = -command.listener;
		return -2;
	}
	if (!command.config->listener_bytes)
		return -1;
	begin_to_listen(s->recorder, command.listener - 1, (u32)pid);
	return command.listener - 1;
}

static void record_command(struct supervision *s, struct outcome *o)
{
	s->begin = clock_us();
	s->deadline = s->begin + command.config->deadline_us;
	s->listener = start_command(s, o);
	if (s->listener == -2) {
		kill_all(s);
		return;
	}
	tick_every(TICK_US * 2);
	supervise(s);
	tick_every(0);
	o->took_us = clock_us() - s->begin;
	if (s->recorder->refused) {
		o->step = STEP_CONTINUE;
		o->error = s->recorder->refused;
	} else if (command.exec_error) {
		o->step = STEP_EXEC;
		o->error = -command.exec_error;
	}
	o->wait_status = s->status;
	o->timed_out = s->timed_out;
	o->asked_to_end = asked_to_end;
	o->gave_up_privileges = command.gave_up_privileges;
}

// A file that is given by its path, or as a descriptor that is open.
static int given_file(const char *text, int flags)
{
	return *text == '/' ? (int)open_at(AT_FDCWD, text, flags, 0600) : (int)number_at(&text);
}

// As the command did.
static void __attribute__((noreturn)) end_like(u32 status)
{
	u64 usual[4] = { 0, 0, 0, 0 };

	if (status & 0x7f) {
		SYS2(prctl, PR_SET_DUMPABLE, 0);	// a core file of ours would help nobody
		SYS4(rt_sigaction, status & 0x7f, usual, 0, 8);
		SYS2(kill, SYS0(getpid), status & 0x7f);
	}
	for (;;)
		SYS1(exit_group, status >> 8 & 0xff);
}

// record CONFIG REPORT PATH ARGV...: two files, what to exec, and its arguments from the 0th.
static int record_mode(char **argv, int argc)
{
	struct supervision s = { 0, -1, 0, 0, 0, 0, 0, 0, 0 };
	struct outcome o;
	int to;

	if (argc < 6)
		return 2;
	to = given_file(argv[3], O_WRONLY | O_CREAT);
	memset(&o, 0, sizeof o);
	SYS3(fcntl, to, 2 /* F_SETFD */, 1);
	SYS2(prctl, PR_SET_PDEATHSIG, SIGTERM);
	SYS2(prctl, PR_SUBREAPER, 1);
	for (int signal = 1; signal <= SIGTERM; signal++)
		if (signal == SIGHUP || signal == SIGINT || signal == SIGTERM)
			on_signal(signal, end_handler);
	on_signal(SIGCHLD, wake_handler);
	on_signal(SIGALRM, wake_handler);
	command.config = read_record_config(given_file(argv[2], 0));
	if (command.config && command.config->forward)
		on_signal((int)command.config->forward, forward_handler);
	command.path = argv[4];
	command.argv = argv + 5;
	command.envp = argv + argc + 1;
	s.recorder = command.config ? new_recorder(command.config) : 0;
	if (s.recorder)
		record_command(&s, &o);
	else
		o.step = command.config ? STEP_MEMORY : STEP_CONFIG;
	report_recording(to, &o, s.recorder);
	end_like(o.wait_status);
}
