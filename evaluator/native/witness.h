// SPDX-License-Identifier: MIT
// The witness: a process that looks for an effect by calls of its own, from outside the mitigation.

// It has the judge's ids and pid namespace, so no subject can see, signal or trace it, and the
// subjects' other namespaces, so it sees what they see.  Its programs lie in a box of its own, which
// no subject has, at the addresses where subjects have theirs.

struct witness_state {
	int pid, to, from;
};

static struct witness_state common;	// in the namespaces that subjects share
static u8 *box;

#define IN_BOX(pointer) ((void *)(box + (A(pointer) - ARENA)))
#define WITNESS_BOUND_US 1000000

// The first one is the user namespace, and may be left out.
static void enter_namespaces_of(int pid, int first)
{
	char path[64], name[16];
	i64 fd[6];

	if (ambient)
		return;
	for (int i = first; i < 6; i++)
		fd[i] = pid ? open_at(AT_FDCWD, proc_path(path, pid, (append(append(name, "ns/"), ns_name[i]), name)), 0, 0) : ns_fd[i];
	for (int i = first; i < 6; i++)
		if (SYS2(setns, fd[i], ns_flag[i]) < 0)
			SYS1(exit_group, 1);
	SYS1(chdir, "/work");
}

static i64 lowest_free_fd(void)
{
	i64 fd = SYS3(fcntl, 0, 0 /* F_DUPFD */, 3);

	SYS1(close, fd);
	return fd;
}

// Its pipes stay.
static void close_from(i64 first)
{
	SYS3(close_range, first, WITNESS_IN - 1, 0);
	SYS3(close_range, WITNESS_OUT + 1, ~0U, 0);
}

// Answers for ever: 'p' prepares, 'c' checks.
static void __attribute__((noreturn)) witness(int pid, int from, int to)
{
	i64 first_own;
	u32 done;
	u8 question;

	SYS2(prctl, PR_SET_PDEATHSIG, SIGKILL);
	SYS5(mremap, box, SHARED_END - ARENA, SHARED_END - ARENA, MREMAP_MAYMOVE | MREMAP_FIXED, ARENA);
	SYS2(dup2, from, WITNESS_IN);
	SYS2(dup2, to, WITNESS_OUT);
	enter_namespaces_of(pid, 1);
	close_from(3);
	first_own = lowest_free_fd();
	while (!read_all(WITNESS_IN, &question, 1)) {
		if (question == 'p') {
			close_from(3);
			done = (u32)run(0, page->setup_end, 1);
			first_own = lowest_free_fd();
		} else {
			done = (u32)run(page->victim_end, page->attack_end, 1);
			close_from(first_own);
		}
		if (write_all(WITNESS_OUT, &done, sizeof done))
			break;
	}
	SYS1(exit_group, 0);
	__builtin_unreachable();
}

static void end_witness(struct witness_state *w)
{
	if (!w->pid)
		return;
	kill_and_reap(w->pid);
	SYS1(close, w->to);
	SYS1(close, w->from);
	w->pid = 0;
}

static int make_box(void)
{
	i64 at = box ? (i64)A(box) : (i64)SYS6(mmap, 0, SHARED_END - ARENA, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (at < 0)
		return fail(X_WITNESS, at);
	box = (u8 *)at;
	return 0;
}

// In the namespaces of `pid`, or with 0 in those that subjects share.
static int start_witness(struct witness_state *w, int pid)
{
	int down[2], up[2];

	if (make_box())
		return -1;
	SYS3(madvise, box, SHARED_END - ARENA, MADV_DOFORK);
	SYS2(pipe2, down, O_CLOEXEC);
	SYS2(pipe2, up, O_CLOEXEC);
	i64 child = fork_with(0);

	if (!child)
		witness(pid, down[0], up[1]);
	SYS3(madvise, box, SHARED_END - ARENA, MADV_DONTFORK);
	SYS1(close, down[0]);
	SYS1(close, up[1]);
	if (child < 0) {
		SYS1(close, down[1]);
		SYS1(close, up[0]);
		return fail(X_WITNESS, child);
	}
	w->pid = (int)child;
	w->to = down[1];
	w->from = up[0];
	return 0;
}

// The answer to 'p' or 'c'; -1 if the witness died or hung.
static int ask_witness(struct witness_state *w, u8 question)
{
	u64 deadline = now_us() + WITNESS_BOUND_US;
	u32 done = 0;
	i64 got;

	if (write_all(w->to, &question, 1))
		return fail(X_WITNESS, -ESRCH);
	while ((got = SYS3(read, w->from, &done, sizeof done)) == -EINTR)
		if (now_us() > deadline)
			break;
	if (got == sizeof done)
		return done != 0;
	end_witness(w);
	return fail(X_WITNESS, got == -EINTR ? -EAGAIN : -ESRCH);
}

// The subject's pid as it and the witness see it: the last of NSpid in the status just read.
static int inner_pid(void)
{
	const char *p = status_text;
	u64 pid = 0;

	while (*p && !same_bytes((const u8 *)p, (const u8 *)"\nNSpid:", 7))
		p++;
	for (p += *p ? 7 : 0; *p == '\t' || (*p >= '0' && *p <= '9');)
		if (*p == '\t')
			p++;
		else
			pid = number_at(&p);
	return (int)pid;
}

// The program into the box, with the secret in place.
static void fill_box(const struct program *p, int subject, int victim)
{
	struct program_page *its = IN_BOX(page);

	lay_out(p, A(box) - ARENA);
	put_secret(box, p->arena_length);
	its->stay = 0;
	its->env[ENV_SUBJECT_PID] = (u64)subject;
	its->env[ENV_VICTIM_PID] = (u64)victim;
}

// ---------------------------------------------------------------- the customer
// Uses the service that the subject is, once, from outside the mitigation; root of the same sandbox,
// and in the subjects' pid namespace, so that all it starts is swept with them.

static void __attribute__((noreturn)) customer(int pid)
{
	SYS5(mremap, box, SHARED_END - ARENA, SHARED_END - ARENA, MREMAP_MAYMOVE | MREMAP_FIXED, ARENA);
	default_signals();
	SYS3(sched_setaffinity, 0, sizeof cores, cores);
	enter_namespaces_of(pid, 0);
	if (many_ids)
		SYS2(setgroups, 0, 0);
	SYS3(setresgid, 0, 0, 0);
	SYS3(setresuid, 0, 0, 0);
	standard_files(0, 0);
	SYS1(umask, 022);
	run(0, page->setup_end, 1);
	run(page->victim_end, page->attack_end, 1);
	SYS1(exit_group, 127);
	__builtin_unreachable();
}

// Its pid; -1 with the reason.
static int start_customer(const struct program *p, int subject)
{
	i64 e, pid;

	if (make_box())
		return -1;
	fill_box(p, 0, 0);
	if ((e = SYS2(setns, init_pid_ns, CLONE_NEWPID)) < 0)
		return fail(X_JOIN, e);
	SYS3(madvise, box, SHARED_END - ARENA, MADV_DOFORK);
	pid = fork_with(0);
	if (!pid)
		customer(subject);
	SYS3(madvise, box, SHARED_END - ARENA, MADV_DONTFORK);
	SYS2(setns, own_pid_ns, CLONE_NEWPID);
	return pid < 0 ? fail(X_WITNESS, pid) : (int)pid;
}
