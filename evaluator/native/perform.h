// SPDX-License-Identifier: MIT
// The performer: starts subjects where somebody else has put a confinement on.
//
// It is the program that a container runtime executes (or a child of the judge, where that lives in
// the confinement itself), with two pipes to the judge.  What it is under its subjects are under: it
// puts nothing on.  It needs little, and says what it is denied: read and write on its pipes, mmap,
// clone, wait4 and setitimer.  Fixtures and the oracle are the judge's, and so is every answer.
//
// Where it may not fork it is the subject itself, of one trial: `alone`.  Then its memory is a file
// that the judge has too, so that the trace is there whatever becomes of it.

#define STAGE_US 5000000	// in which a performer answers, beyond a trial's own bound

// Told before each thing that is tried, and after it with its error: whoever dies of asking has said
// for what.  Then comes the text of its /proc/self/status.
struct stage_word {
	u32 step;
	i32 error;
};

struct stage_hello {
	u32 first, length;	// whether it is pid 1 of its namespace; of the text
};

struct order {		// followed by a program
	u32 tag, timeout_us, length, spare;
	u64 probe_ino;
	u8 secret[16];
};

static int is_first;	// pid 1: orphans are ours, and kill(-1) reaches all that is left

// ---------------------------------------------------------------- the performer's side

// The kernel writes the child's own pid there: an answer of 0 alone is no proof, a filter may fake it.
static i64 fork_subject(void)
{
	u64 args[6] = { CLONE_CHILD_SETTID | SIGCHLD, 0, 0, A(&page->env[ENV_SUBJECT_PID]), 0, 0 };
	i64 pid;

	page->env[ENV_SUBJECT_PID] = 0;
	pid = (i64)enter_syscall(NR_clone, args);
	if (!pid && page->env[ENV_SUBJECT_PID])
		subject();
	return pid ? pid : -EPERM;
}

// A filter may answer 0 to everything: what is not allowed to fail has not been done.
static i64 fails_with(i64 got, i64 expected)
{
	return got == expected ? 0 : got < 0 ? got : -EPERM;
}

// Kills what a trial left, until nobody is there.
static int clear_stage(int subject_pid)
{
	u64 deadline = now_us() + 2000000;
	int status;
	i64 got, e;

	while ((got = SYS4(wait4, -1, &status, WNOHANG | WALL, 0)) != -ECHILD) {
		struct pids left = { 0, { 0 } };

		if (got < 0 && got != -EINTR)
			return fail(X_LEFT_OVER, got);
		// Nobody has that number: whoever is told anything else may not kill.
		if (now_us() > deadline)
			return (e = fails_with(SYS2(kill, 0x3fffffff, 0), -ESRCH)) ? fail(X_NEEDS_KILL, e) : fail(X_LEFT_OVER, -EAGAIN);
		if (got)
			continue;
		if (is_first) {
			SYS2(kill, -1, SIGKILL);
		} else {
			SYS2(kill, -subject_pid, SIGKILL);
			children_of((int)SYS0(getpid), &left);
			for (int i = 0; i < left.n && i < 32; i++)
				SYS2(kill, left.pid[i], SIGKILL);
		}
		SYS0(sched_yield);
	}
	return 0;
}

static int perform(const struct order *o, const struct program *p, struct reply *r)
{
	struct request q = { o->tag, 0, 0, 0, 0, o->timeout_us };
	struct trial t;
	u64 begin = now_us();
	i64 pid;

	memset(&t, 0, sizeof t);
	t.p = p;
	t.q = &q;
	t.reply = r;
	memcpy(secret, o->secret, sizeof secret);
	copy_program(p);
	pid = fork_subject();
	if (pid < 0)
		return fail(X_SUBJECT, pid);
	if (!is_first)
		SYS2(setpgid, pid, pid);
	t.subject = (int)pid;
	await_subject(&t);
	r->latency_us = (u32)(now_us() - begin);
	r->learned = p->flags & P_SECRET && has_secret((const u8 *)ARENA, ARENA_SIZE);
	if (t.subject)
		SYS2(kill, t.subject, SIGKILL);
	return clear_stage((int)pid);
}

static void say_before(int to, u32 step)
{
	write_all(to, &step, sizeof step);
}

static int say_after(int to, i64 error)
{
	i32 e = error < 0 ? (i32)-error : 0;

	write_all(to, &e, sizeof e);
	return e ? -1 : 0;
}

#define ALONE_FD 3	// where whoever is alone finds its memory

static int has_needs(int from, int to)
{
	int status;
	i64 pid, e;

	say_before(to, X_NEEDS_READ);
	if ((e = SYS3(read, from, &status, 0)) >= 0)
		e = fails_with(SYS3(read, -1, &status, 0), -EBADF);
	if (say_after(to, e))
		return -1;
	say_before(to, X_NEEDS_MMAP);
	if (alone) {
		i64 at = SYS6(mmap, ARENA, SHARED_END - ARENA, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, ALONE_FD, 0);

		SYS1(close, ALONE_FD);
		is_first = 1;
		return say_after(to, at < 0 ? at : fails_with(at, ARENA));
	}
	if (say_after(to, map_shared(ARENA, SHARED_END - ARENA) ? -fail_error : 0))
		return -1;
	say_before(to, X_NEEDS_CLONE);
	memset(page, 0, 4096);	// a program without operations
	pid = fork_subject();
	if (say_after(to, pid))
		return -1;
	say_before(to, X_NEEDS_WAIT);
	while ((pid = SYS4(wait4, -1, &status, WALL, 0)) == -EINTR)
		;
	if (say_after(to, pid ? pid : -EPERM))
		return -1;
	say_before(to, X_NEEDS_TIMER);
	calibrate();
	is_first = SYS0(getpid) == 1;
	if ((e = start_ticking()) < 0)
		return say_after(to, e);
	for (u64 deadline = now_us() + 1000000; !ticks_seen && now_us() < deadline;)
		;
	return say_after(to, ticks_seen ? 0 : -EPERM);
}

static void __attribute__((noreturn)) performer(int from, int to)
{
	static u8 *frame;
	struct stage_hello hello = { 0, 0 };
	struct order order;
	struct reply reply;
	i64 n;

	if (has_needs(from, to))
		SYS1(exit_group, 3);
	hello.first = (u32)is_first;
	n = read_file("/proc/self/status", status_text, sizeof status_text - 256);
	hello.length = n > 0 ? (u32)n : 0;
	if (hello.length) {	// a control that ran on another kernel is none
		append(status_text + hello.length, "Kernel:\t");
		n = read_file("/proc/sys/kernel/osrelease", status_text + hello.length + 8, 200);
		hello.length += 8 + (n > 0 ? (u32)n : 0);
	}
	say_before(to, X_NONE);
	say_after(to, 0);
	write_all(to, &hello, sizeof hello);
	write_all(to, status_text, hello.length);
	frame = allocate(MAX_FRAME);
	while (frame && !read_all(from, &order, sizeof order) && order.length <= MAX_FRAME && !read_all(from, frame, order.length)) {
		const struct program *p = (const struct program *)frame;

		if (alone) {
			copy_program(p);
			page->env[ENV_SUBJECT_PID] = 1;
			subject();
		}
		memset(&reply, 0, sizeof reply);
		fail_step = 0;
		if (perform(&order, p, &reply)) {
			reply.status = 1;
			reply.step = fail_step;
			reply.error = fail_error;
		}
		reply.tag = order.tag;
		reply.n_records = p->n_ops;
		if (write_all(to, &reply, sizeof reply) || write_all(to, (void *)trace->record, p->n_ops * sizeof(struct record)))
			break;
	}
	SYS1(exit_group, 0);
	__builtin_unreachable();
}

// ---------------------------------------------------------------- the judge's side

static char stage_status[8192];
static struct truth stage_truth;
static int stage_greeted;

// As read_all, and never for longer than until the deadline: what is at the other end may be stopped.
static int hear(void *data, u64 n, u64 deadline)
{
	u8 *p = data;

	while (n) {
		i64 done = SYS3(read, STAGE_IN, p, n);

		if (done == -EINTR && now_us() < deadline)
			continue;
		if (done <= 0)
			return fail(X_PERFORMER, done == -EINTR ? -EAGAIN : done < 0 ? done : -ESRCH);
		p += done;
		n -= (u64)done;
	}
	return 0;
}

// The performer's first words, once.
static int greet_stage(void)
{
	u64 deadline = now_us() + STAGE_US;
	struct stage_hello hello;
	struct stage_word word;

	if (stage_greeted)
		return 0;
	for (;;) {
		if (hear(&word.step, sizeof word.step, deadline))
			return -1;
		if (hear(&word.error, sizeof word.error, deadline))
			return word.step && word.step <= X_LEFT_OVER ? fail(word.step, 0) : -1;	// it died of asking
		if (word.error)
			return fail(word.step, -word.error);
		if (!word.step)
			break;
	}
	if (hear(&hello, sizeof hello, deadline) || hello.length >= sizeof stage_status || hear(stage_status, hello.length, deadline))
		return fail(X_PERFORMER, -EINVAL);
	stage_status[hello.length] = 0;
	memcpy(status_text, stage_status, sizeof status_text);
	if (hello.length)
		parse_truth(&stage_truth);
	stage_greeted = 1;
	return 0;
}

static u8 *stage_memory;

// The one trial of a performer that is alone: its end is the end of its pipe.
static int await_end(struct trial *t, u64 deadline)
{
	const struct trace *its = (const struct trace *)(stage_memory + (TRACE - ARENA));
	u8 byte;
	i64 got;

	while ((got = SYS3(read, STAGE_IN, &byte, 1)) == -EINTR && now_us() < deadline)
		;
	t->reply->timed_out = got == -EINTR;
	memcpy((void *)trace->record, its->record, t->p->n_ops * sizeof(struct record));
	t->reply->learned = t->p->flags & P_SECRET && has_secret(stage_memory, ARENA_SIZE);
	return 0;
}

static int ask_stage(struct trial *t)
{
	struct order o = { t->q->tag, t->q->timeout_us, (u32)program_bytes[t->q->program], 0, t->probe_ino, { 0 } };
	u64 deadline = now_us() + t->q->timeout_us + STAGE_US;
	static struct reply heard;
	struct reply *r = t->reply;

	memcpy(o.secret, secret, sizeof secret);
	if (write_all(STAGE_OUT, &o, sizeof o) || write_all(STAGE_OUT, t->p, o.length))
		return fail(X_PERFORMER, -ESRCH);
	if (alone)
		return await_end(t, now_us() + t->q->timeout_us);
	if (hear(&heard, sizeof heard, deadline))
		return -1;
	if (heard.tag != o.tag || heard.n_records != t->p->n_ops)	// a subject has written to the pipe
		return fail(X_PERFORMER, -EINVAL);
	if (hear((void *)trace->record, t->p->n_ops * sizeof(struct record), deadline))
		return -1;
	r->wait_status = heard.wait_status;
	r->timed_out = heard.timed_out;
	r->learned = heard.learned;
	r->latency_us = heard.latency_us;
	return heard.status ? fail(heard.step, -heard.error) : 0;
}

// One trial with a subject of the performer's: what would have to be there before its layers are put
// on, or beside it without them, is not for us.
static int try_staged(struct trial *t)
{
	struct reply *r = t->reply;

	if (t->p->setup_end || t->p->victim_end != t->p->setup_end || t->p->fresh ||
	    t->p->flags & (WATCHED | P_VICTIM | P_CUSTOMER | P_STAY | P_CORE | P_DIRECT))
		return fail(X_PROTOCOL, -EINVAL);
	if (t->p->witness && !(t->looker = programs[t->p->witness - 1]))
		return fail(X_PROTOCOL, -EINVAL);
	if (greet_stage())
		return -1;
	if (t->p->flags & P_SECRET)
		new_secret();
	if (make_fixture(t->p, t->c, t->q->flags & R_SLOW))
		return -1;
	copy_program(t->p);
	open_view(t);
	observe(&r->before, &t->view, 0);
	r->before.watermark = watermark(t->p, t->view.parent, 1);
	if (t->looker && begin_witness(t))
		return -1;
	r->truth = stage_truth;
	r->mode = M_DIRECT;
	if (ask_stage(t) || (t->looker && end_looking(t)))
		return -1;
	return 0;
}

// For a reader of the filters from outside: the performer waits, under what its subjects are under.
static void show_stage(u32 config)
{
	(void)config;
	struct { u32 step; i32 error; u32 pid, length; } answer = { 0, 0, 0, 0 };

	fail_step = 0;
	if (greet_stage()) {
		answer.step = fail_step;
		answer.error = fail_error;
	} else {
		if (ambient && length(stage_status) + 32 < sizeof stage_status)
			append(append_number(append(stage_status + length(stage_status), "Told:\t"), told), "\n");
		answer.length = (u32)length(stage_status);
	}
	put_frame(T_STATUS, sizeof answer + answer.length);
	put(&answer, sizeof answer);
	put(stage_status, answer.length);
	flush();
}
