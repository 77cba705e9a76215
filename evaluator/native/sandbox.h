// SPDX-License-Identifier: MIT
// Building the sandbox: mounts, id maps, the init of the subjects, their namespaces.

// The subject's root: the caller's programs and libraries read-only, a private scratch, no more.
static int bind_tree(const char *from, const char *to)
{
	struct { u64 set, clear, propagation, userns; } attr = { 1 /* MOUNT_ATTR_RDONLY */, 0, 0, 0 };
	i64 e = SYS5(mount, from, to, 0, MS_BIND | MS_REC, 0);

	if (e < 0)
		return fail(X_BIND, e);
	e = SYS5(mount_setattr, AT_FDCWD, to, AT_RECURSIVE, &attr, sizeof attr);
	if (e == -ENOSYS)	// before Linux 5.12: the mount itself, which is where programs are
		e = SYS5(mount, 0, to, 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0);
	return e < 0 ? fail(X_BIND, e) : 0;
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

// What somebody else shows to a container as well, for the subjects' working directory.
static const char *shared_scratch;

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
	if (shared_scratch)
		e = SYS5(mount, shared_scratch, "/tmp/s/work", 0, MS_BIND, 0);
	else
		e = SYS5(mount, "sidestep", "/tmp/s/work", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=64m,nr_inodes=8192");
	if (e < 0)
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
		// Some stay for us all the same: who died as the tracee of a parent that was dying.
		while (SYS4(wait4, -1, 0, WNOHANG | WALL, 0) > 0)
			;
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
		SYS1(close, CONTROL_IN);
		SYS1(close, CONTROL_OUT);
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

	if ((u64)at == address)
		return 0;
	return fail(X_SHARED_MEMORY, at < 0 ? at : -EPERM);	// a filter may answer 0, and do nothing
}

static void *allocate(u64 size)
{
	i64 at = SYS6(mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at < 0 ? 0 : (void *)at;
}

// A small address space is quickly forked: what only the judge needs stays with the judge.
static void *allocate_own(u64 size)
{
	void *at = allocate(size);

	if (at)
		SYS3(madvise, at, size, MADV_DONTFORK);
	return at;
}
