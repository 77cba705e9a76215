#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if !defined(__x86_64__) || defined(__ILP32__)
#error "this program makes raw x86-64 system calls: compile it on x86-64 Linux"
#endif

enum grade { NOTHING, EQUIVALENT, EXACT };
enum kind { DIRECTORY, REGULAR, SYMLINK, FIFO, ANCESTOR };
enum effect {
	E_DIRECTORY, E_FILE, E_OBJECT, E_DELETED, E_MODE, E_EXECUTED, E_PROCESS, E_WITNESSED, E_LEARNED,
	E_CODE, E_REACHED
};
enum state { NOT_REACHED, STARTED, DONE };

struct object {
	enum kind kind;
	const char *path;
	unsigned int mode;
	const char *content;
	size_t length;
};

struct piece {
	size_t offset;
	size_t length;
	const char *data;
};

struct line {
	int decisive;
	int is_call;
	const char *text;
};

struct instruction {
	uint16_t code;
	uint8_t jt, jf;
	uint32_t k;
};

struct filter {
	unsigned short length;
	const struct instruction *code;
};

/* @config */

/* The subject's own story: shown, never believed. */
struct arm {
	volatile long result[SLOTS];
	volatile unsigned char state[SLOTS];
	volatile long loaded;
	volatile int parked, go, finished, victim_ready;
	volatile long subject_pid;	/* for the victim, which is there first */
	volatile int unshared, mapped;
};

/* What the process that watches the subject saw; the subject has no mapping of it. */
struct verdict {
	volatile int harness_error;
	volatile int grade;
	volatile int status;
	volatile int victim_status;
	char secret[sizeof(SECRET) - 1];
};

static struct arm *arm;
static struct verdict *verdict;
static unsigned char *arena;
static unsigned char *low_page;
/* Where in that page the victim's own function is, which it calls again and again. */
enum { HOOK = 3072 };
static uint64_t ticks_per_us;
static long subject_pid, victim_pid;
/* A page that each process has of its own, at one address; the victim's begins with the secret. */
static unsigned char *own_page;
static const char *secret;
/* Whether the section that ran last came to its end. */
static volatile int complete;

/* A child runs on a stack of its own: it may share its memory with its parent. */
#define BODY_STACK 65536
static unsigned char body_stack[8][BODY_STACK] __attribute__((aligned(64)));
static volatile unsigned int bodies;

static inline __attribute__((always_inline)) long new_stack(void (*body)(void))
{
	return body ? (long)(body_stack[bodies++ % 8] + BODY_STACK - 64) : 0;
}

#define A(offset) ((long)(arena + (offset)))
#define R(slot) (arm->result[slot])

/* ---- raw system calls: no libc between the program and the kernel */

static inline __attribute__((always_inline)) long
call64(void (*body)(void), long nr, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	register long r12 __asm__("r12") = (long)body;
	register long r14 __asm__("r14") = new_stack(body);

	/* A child never returns into this frame, which vfork or a thread shares with its parent. */
	__asm__ volatile("syscall\n\t"
			 "test %%r12, %%r12\n\t"
			 "jz 1f\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %%r14, %%rsp\n\t"
			 "call *%%r12\n\t"
			 "ud2\n"
			 "1:"
			 : "=a"(result), "+r"(r10), "+r"(r8), "+r"(r9)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r12), "r"(r14)
			 : "rcx", "r11", "memory", "cc");
	return result;
}

static inline __attribute__((always_inline)) long
call32(void (*body)(void), long nr, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r12 __asm__("r12") = (long)body;
	register long r13 __asm__("r13") = f;
	register long r14 __asm__("r14") = new_stack(body);

	__asm__ volatile("xchg %%rbp, %%r13\n\t"
			 "int $0x80\n\t"
			 "xchg %%rbp, %%r13\n\t"
			 "test %%r12, %%r12\n\t"
			 "jz 1f\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %%r14, %%rsp\n\t"
			 "call *%%r12\n\t"
			 "ud2\n"
			 "1:"
			 : "=a"(result), "+r"(r13)
			 : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e), "r"(r12), "r"(r14)
			 : "r8", "r9", "r10", "r11", "memory", "cc");
	return result;
}

/* The sixth argument lies on the stack that ebp names.  A 64-bit task does not come back. */
static long __attribute__((unused))
call_sysenter(void (*body)(void), long nr, long a, long b, long c, long d, long e, long f)
{
	register long r13 __asm__("r13") = (long)(low_page + 2048);

	(void)body;
	*(uint32_t *)(low_page + 2048) = (uint32_t)f;
	__asm__ volatile("mov %%r13d, %%ebp\n\t"
			 "sysenter\n\t"
			 "ud2"
			 :
			 : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e), "r"(r13)
			 : "memory");
	__builtin_unreachable();
}

/* Through the 32-bit code segment: low_page holds "int $0x80; ljmp $0x33" and the way back. */
static long __attribute__((unused))
call_far(void (*body)(void), long nr, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r12 __asm__("r12") = (long)low_page;
	register long r13 __asm__("r13") = f;

	(void)body;
	__asm__ volatile("mov %%rsp, %%r14\n\t"
			 "sub $256, %%rsp\n\t"
			 "lea 1f(%%rip), %%r15\n\t"
			 "xchg %%rbp, %%r13\n\t"
			 "pushq $0x23\n\t"
			 "push %%r12\n\t"
			 "lretq\n"
			 "1:\n\t"
			 "xchg %%rbp, %%r13\n\t"
			 "mov %%r14, %%rsp\n\t"
			 : "=a"(result), "+r"(r12), "+r"(r13)
			 : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
			 : "r8", "r9", "r10", "r11", "r14", "r15", "memory", "cc");
	return result;
}

__asm__(".globl syscall_insn\nsyscall_insn:\n\tsyscall\n\tret\n");
extern const char syscall_insn[];

static inline __attribute__((always_inline)) void started(int slot)
{
	arm->state[slot] = STARTED;
}

static inline __attribute__((always_inline)) long done(int slot, long result)
{
	arm->result[slot] = result;
	arm->state[slot] = DONE;
	return result;
}

static int is_error(long result)
{
	return result < 0 && result >= -4095;
}

/* What a 32-bit call returns has 32 bits: an error is negative, an address is not. */
static long __attribute__((unused)) from32(long result)
{
	uint32_t low = (uint32_t)result;

	return low >= 0xfffff001U ? (long)(int32_t)low : (long)low;
}

static void __attribute__((noreturn)) leave(long nr)
{
	call64(0, nr, 0, 0, 0, 0, 0, 0);
	__asm__ volatile("ud2");
	__builtin_unreachable();
}

static uint64_t ticks(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

static inline long __attribute__((unused)) find(long in, long size, long wanted, long wanted_size)
{
	const char *at = memmem((void *)in, (size_t)size, (void *)wanted, (size_t)wanted_size);

	return at ? at - (const char *)in : -1;
}

static long __attribute__((unused)) wait_while(long address, uint32_t value, uint64_t bound_us)
{
	uint64_t end = ticks() + bound_us * ticks_per_us;

	while (*(volatile uint32_t *)address == value && ticks() < end)
		__asm__ volatile("pause");
	return *(volatile uint32_t *)address != value;
}

static void __attribute__((unused)) print_decimal(long address, long value, long suffix)
{
	char digits[24], *to = (char *)address;
	unsigned long rest = (unsigned long)value;
	int count = 0;

	do
		digits[count++] = (char)('0' + rest % 10);
	while (rest /= 10);
	while (count)
		*to++ = digits[--count];
	for (const char *from = (const char *)suffix; from && *from; from++)
		*to++ = *from;
	*to = 0;
}

/* ---- the program */

/* @program */

/* ---- what stands there before */

static void __attribute__((noreturn)) harness_error(const char *what)
{
	printf("cannot run here: %s: %s\n", what, strerror(errno));
	fflush(stdout);
	verdict->harness_error = 1;
	if (subject_pid > 0)
		kill((pid_t)subject_pid, SIGKILL);
	_exit(3);
}

/* The secret instead of what stands for it; false if that does not stand there. */
static int fill_in(void *memory, size_t size)
{
	char *at = memmem(memory, size, SECRET, sizeof(SECRET) - 1);

	if (at)
		memcpy(at, secret, sizeof(SECRET) - 1);
	return at != 0;
}

static void make_object(const struct object *fixture)
{
	char path[256], *content = malloc(fixture->length + 1);
	struct object filled = *fixture, *object = &filled;
	int fd;

	snprintf(path, sizeof(path), "%s", fixture->path);
	fill_in(path, strlen(path));
	memcpy(content, fixture->content, fixture->length);
	content[fixture->length] = 0;
	fill_in(content, fixture->length);
	object->path = path;
	object->content = content;
	switch (object->kind) {
	case DIRECTORY:
	case ANCESTOR:
		if (mkdir(object->path, object->mode) && errno != EEXIST)
			harness_error(object->path);
		break;
	case REGULAR:
		fd = open(object->path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, object->mode);
		if (fd < 0 || write(fd, object->content, object->length) != (ssize_t)object->length)
			harness_error(object->path);
		close(fd);
		break;
	case SYMLINK:
		if (symlink(object->content, object->path))
			harness_error(object->path);
		break;
	case FIFO:
		if (mkfifo(object->path, object->mode))
			harness_error(object->path);
		break;
	}
	if (object->kind != SYMLINK && chmod(path, object->mode))
		harness_error(path);
	/* The subject must not find it here. */
	explicit_bzero(path, sizeof(path));
	explicit_bzero(content, object->length);
	free(content);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		harness_error(path);
	close(fd);
}

/* Outside, as root: gives whoever waits for us ids that nobody else has. */
static void __attribute__((noreturn)) give_ids(pid_t pid, int begin)
{
	static const char ids[] = "0 1000000 65536";
	char path[64], letter;

	if (read(begin, &letter, 1) != 1)
		_exit(3);
	snprintf(path, sizeof(path), "/proc/%d/uid_map", (int)pid);
	write_file(path, ids);
	snprintf(path, sizeof(path), "/proc/%d/gid_map", (int)pid);
	write_file(path, ids);
	_exit(0);
}

/* Started as root we take many ids, as programs may change theirs; anybody else has only his. */
static void enter_user_namespace(void)
{
	char uid_map[64], gid_map[64];
	const int as_root = geteuid() == 0;
	int begin[2], status = 0;
	pid_t self = getpid(), helper = 0;

	snprintf(uid_map, sizeof(uid_map), "0 %d 1", (int)geteuid());
	snprintf(gid_map, sizeof(gid_map), "0 %d 1", (int)getegid());
	if (as_root && (pipe(begin) || (helper = fork()) < 0))
		harness_error("a process that maps ids");
	if (as_root && helper == 0)
		give_ids(self, begin[0]);
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS | NAMESPACES))
		harness_error("this variant needs a user namespace");
	if (as_root) {
		if (write(begin[1], "", 1) != 1 || waitpid(helper, &status, 0) != helper || status ||
		    setgroups(0, 0) || setresgid(0, 0, 0) || setresuid(0, 0, 0) ||
		    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
			harness_error("ids of its own");
		close(begin[0]);
		close(begin[1]);
		return;
	}
	write_file("/proc/self/setgroups", "deny");
	write_file("/proc/self/uid_map", uid_map);
	write_file("/proc/self/gid_map", gid_map);
}

/*
 * The subject's ids are the ones above ours, so that what it does to them is seen from outside as a
 * change of ours: these two work from either side of its user namespace.
 */
static void map_subject(void)
{
	const struct timespec moment = { 0, 100 * 1000 };
	char path[64];

	while (!arm->unshared && !waitpid((pid_t)subject_pid, 0, WNOHANG))
		nanosleep(&moment, 0);
	snprintf(path, sizeof(path), "/proc/%ld/uid_map", subject_pid);
	write_file(path, "0 1 65535");
	snprintf(path, sizeof(path), "/proc/%ld/gid_map", subject_pid);
	write_file(path, "0 1 65535");
	arm->mapped = 1;
}

static void take_own_ids(void)
{
	if (unshare(CLONE_NEWUSER) || prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
		_exit(3);
	arm->unshared = 1;
	while (!arm->mapped)
		__asm__ volatile("pause");
	if (setgroups(0, 0) || setresgid(0, 0, 0) || setresuid(0, 0, 0) ||
	    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
		_exit(3);
}

/* What the subject finds belongs to the subject. */
static void make_files_as(unsigned int id)
{
	if (id && chown(".", id, id))
		harness_error("files of the subject");
	setfsgid(id);
	setfsuid(id);
}

static void enter_namespaces(const char *scratch)
{
	if (!NAMESPACES)
		return;
	errno = EPERM;
	if (OWN_IDS && geteuid())
		harness_error("this variant needs several ids, as only root has them");
	enter_user_namespace();
	if (mount(0, "/", 0, MS_REC | MS_PRIVATE, 0) || mount("tmpfs", scratch, "tmpfs", 0, 0))
		harness_error("private mount");
}

/* A root of our own with an empty /work, for programs that name the scratch directory absolutely. */
static void make_root(const char *scratch)
{
	char target[300];
	struct dirent *entry;
	struct stat st;
	DIR *dir = opendir("/");

	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || !strcmp(entry->d_name, "work") ||
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		snprintf(target, sizeof(target), "/%s", entry->d_name);
		if (chdir(scratch))
			harness_error(scratch);
		if (S_ISLNK(st.st_mode)) {
			char content[256];
			ssize_t length = readlink(target, content, sizeof(content) - 1);

			content[length > 0 ? length : 0] = 0;
			if (length > 0 && symlink(content, entry->d_name))
				harness_error(target);
		} else if (S_ISDIR(st.st_mode) && !mkdir(entry->d_name, 0755)) {
			mount(target, entry->d_name, 0, MS_BIND | MS_REC, 0);
		}
	}
	if (dir)
		closedir(dir);
	if (mkdir("work", 0755) || mkdir(".old", 0755) ||
	    syscall(SYS_pivot_root, ".", ".old") || umount2("/.old", MNT_DETACH) ||
	    rmdir("/.old") || chdir("/work"))
		harness_error("a root of its own");
}

/* Who signals everybody must find nobody but us: process 1 of a namespace goes on from here. */
static void become_init(void)
{
	int status;
	pid_t child = fork();

	if (child < 0)
		harness_error("a process namespace");
	if (child) {
		waitpid(child, &status, 0);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 3);
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (mount("proc", "/proc", "proc", 0, 0))
		harness_error("a /proc of its own");
}

static void loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request))
		harness_error("a loopback device of its own");
	close(fd);
}

/* ---- the effect, seen from outside */

static int parent_fd = -1, target_fd = -1;
static struct stat old[256];
static int old_count;

static int was_there(const struct stat *st)
{
	for (int i = 0; i < old_count; i++)
		if (old[i].st_ino == st->st_ino && old[i].st_dev == st->st_dev)
			return i;
	return -1;
}

static void remember(const char *path)
{
	struct stat st;
	struct dirent *entry;
	DIR *dir = opendir(path);

	while (dir && (entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) || old_count == 256)
			continue;
		old[old_count++] = st;
		if (S_ISDIR(st.st_mode) && old_count < 250) {
			char below[512];

			snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);
			remember(below);
		}
	}
	if (dir)
		closedir(dir);
}

static void look_before(void)
{
	parent_fd = open(PARENT, O_PATH | O_DIRECTORY | O_CLOEXEC);
	target_fd = openat(parent_fd, NAME, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	remember(".");
}

/* A new inode at the target, by path and by the directory opened before. */
static enum grade look_at_target(mode_t type)
{
	struct stat by_fd, by_path, through;
	int seen = !fstatat(parent_fd, NAME, &by_fd, AT_SYMLINK_NOFOLLOW);

	if (seen && !lstat(PARENT "/" NAME, &by_path) && by_fd.st_ino == by_path.st_ino &&
	    by_fd.st_dev == by_path.st_dev && (!type || (by_fd.st_mode & S_IFMT) == type)) {
		int before = was_there(&by_fd);

		if (before < 0 || by_fd.st_nlink > old[before].st_nlink)
			return EXACT;
	}
	if (!stat(PARENT "/" NAME, &through) && (!type || (through.st_mode & S_IFMT) == type))
		return EQUIVALENT;
	return !type && seen ? EQUIVALENT : NOTHING;
}

/* Any new name in the target's directory, so that a core file counts; type 0 is any kind. */
static enum grade look_for_name(mode_t type)
{
	struct stat st;
	struct dirent *entry;
	enum grade grade = look_at_target(type);
	int fd = openat(parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? 0 : fdopendir(fd);

	while (dir && grade != EXACT && (entry = readdir(dir))) {
		int before;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
		    fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) ||
		    (type && (st.st_mode & S_IFMT) != type))
			continue;
		before = was_there(&st);
		if (before < 0 || (!type && st.st_nlink > old[before].st_nlink))
			grade = EXACT;
	}
	if (dir)
		closedir(dir);
	return grade;
}

static enum grade look_deleted(void)
{
	struct stat then, now;

	if (target_fd < 0 || fstat(target_fd, &then))
		return NOTHING;
	if (then.st_nlink == 0)
		return EXACT;
	if (lstat(PARENT "/" NAME, &now) || now.st_ino != then.st_ino || now.st_dev != then.st_dev)
		return EQUIVALENT;
	return NOTHING;
}

static enum grade look_mode(void)
{
	struct stat st;

	if (target_fd >= 0 && !fstat(target_fd, &st) && (st.st_mode & BITS) == BITS)
		return EXACT;
	if (!stat(PARENT "/" NAME, &st) && (st.st_mode & BITS) == BITS)
		return EQUIVALENT;
	return NOTHING;
}

static int has_magic(const char *path)
{
	static char content[16384];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? 0 : read(fd, content, sizeof(content));

	if (fd >= 0)
		close(fd);
	return length > 0 && memmem(content, (size_t)length, PROBE_MAGIC, sizeof(PROBE_MAGIC) - 1);
}

static enum grade look_executed(int pid)
{
	char path[64], line[512];
	enum grade grade = NOTHING;
	struct stat st;
	unsigned long inode;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	if (has_magic(path))
		return EXACT;
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	while (maps && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%*s %*2cx%*c %*s %*s %lu", &inode) != 1 || !inode)
			continue;
		for (int i = 0; i < OBJECTS; i++)
			if (objects[i].kind == REGULAR && !stat(objects[i].path, &st) &&
			    st.st_ino == inode && has_magic(objects[i].path))
				grade = EQUIVALENT;
	}
	if (maps)
		fclose(maps);
	return grade;
}

/* A lone subject leads a session: whatever it makes is in it.  With ``kill_all`` they are killed. */
static enum grade look_at_session(int kill_all)
{
	char path[64], line[512], *rest;
	struct dirent *entry;
	enum grade grade = NOTHING;
	DIR *proc = opendir("/proc");

	while (proc && (entry = readdir(proc))) {
		int pid = atoi(entry->d_name), session;
		FILE *stat_file;

		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		stat_file = pid > 0 ? fopen(path, "re") : 0;
		if (!stat_file)
			continue;
		rest = fgets(line, sizeof(line), stat_file) ? strrchr(line, ')') : 0;
		fclose(stat_file);
		if (!rest || rest[2] == 'Z' || sscanf(rest + 2, "%*c %*d %*d %d", &session) != 1)
			continue;
		if (session != subject_pid)
			continue;
		if (kill_all)
			kill(pid, SIGKILL);
		else if (EFFECT == E_PROCESS && pid != subject_pid)
			grade = EXACT;
		else if (EFFECT == E_EXECUTED && grade != EXACT && look_executed(pid))
			grade = look_executed(pid);
	}
	if (proc)
		closedir(proc);
	return grade;
}

/* ---- the witness: another process, without any filter, that looks for the effect */

struct questions {
	volatile int asked, answered, prepare, seen;
	char secret[sizeof(SECRET) - 1];
};

static struct questions *questions;
static pid_t witness_pid;

static void __attribute__((noreturn)) witness(void)
{
	const struct timespec moment = { 0, 100 * 1000 };
	const long subject = arm->subject_pid;
	int first_own = 3;

	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	signal(SIGUSR1, SIG_IGN);	/* of programs that signal everybody */
	/* Shared with its own children, as the subject's are. */
	arm = mmap(0, sizeof(*arm), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	arena = mmap(0, ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (arm == MAP_FAILED || arena == MAP_FAILED)
		_exit(3);
	arm->subject_pid = subject;
	for (int i = 0; i < WITNESS_PIECES; i++)
		memcpy(arena + witness_pieces[i].offset, witness_pieces[i].data, witness_pieces[i].length);
	secret = questions->secret;
	while (fill_in(arena, ARENA_SIZE))
		;
	for (;;) {
		while (questions->answered == questions->asked)
			nanosleep(&moment, 0);
		complete = 0;
		if (questions->prepare) {
			witness_setup();
			close(first_own = dup(0));
		} else {
			witness_attack();
			syscall(SYS_close_range, first_own, ~0U, 0);
		}
		questions->seen = complete;
		questions->answered++;
	}
}

/* Whether the witness came to the end of what it is to do; -1 if it does not answer. */
static int ask(int prepare)
{
	const struct timespec moment = { 0, 100 * 1000 };

	questions->prepare = prepare;
	questions->asked++;
	for (int patience = 30000; questions->answered != questions->asked; patience--) {
		if (!patience || waitpid(witness_pid, 0, WNOHANG) > 0)
			return -1;
		nanosleep(&moment, 0);
	}
	return questions->seen;
}

/* With the subject held before its attack. */
static void begin_witness(void)
{
	const struct timespec moment = { 0, 100 * 1000 };

	for (int patience = 30000; !arm->parked; patience--) {
		if (!patience || waitpid((pid_t)subject_pid, 0, WNOHANG) > 0) {
			errno = ESRCH;
			harness_error("what comes before the attack");
		}
		nanosleep(&moment, 0);
	}
	questions = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (questions == MAP_FAILED)
		harness_error("memory for the witness");
	memcpy(questions->secret, secret, sizeof(questions->secret));
	witness_pid = fork();
	if (witness_pid == 0)
		witness();
	errno = EAGAIN;
	if (ask(1) <= 0)
		harness_error("preparing to look for the effect");
	errno = EEXIST;
	if (EFFECT == E_WITNESSED && ask(0))
		harness_error("the effect is there before the attack");
	arm->go = 1;
}

static enum grade look_reached(void)
{
	for (int i = 0; i < OPERATIONS; i++)
		if (lines[i].decisive && arm->state[i] == DONE && arm->result[i] == -SENTINEL_ERRNO)
			return EXACT;
	return NOTHING;
}

static int trapped(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGTRAP;
}

static enum grade look_code(void)
{
	if (victim_pid && !verdict->victim_status)
		waitpid((pid_t)victim_pid, (int *)&verdict->victim_status, WNOHANG);
	return trapped(verdict->status) || trapped(verdict->victim_status) ? EXACT : NOTHING;
}

/* What nobody can guess is in the memory that the program has. */
static enum grade look_learned(void)
{
	return memmem(arena, ARENA_SIZE, secret, sizeof(SECRET) - 1) ? EXACT : NOTHING;
}

static enum grade look(void)
{
	switch ((enum effect)EFFECT) {
	case E_DIRECTORY:
		return look_at_target(S_IFDIR);
	case E_FILE:
		return look_for_name(S_IFREG);
	case E_OBJECT:
		return look_for_name(0);
	case E_DELETED:
		return look_deleted();
	case E_MODE:
		return look_mode();
	case E_EXECUTED:
	case E_PROCESS:
		return look_at_session(0);
	case E_WITNESSED:
		switch (ask(0)) {
		case 0:
			return NOTHING;
		case 1:
			return EXACT;
		}
		errno = ETIMEDOUT;
		harness_error("the witness");
	case E_LEARNED:
		return look_learned();
	case E_CODE:
		return look_code();
	case E_REACHED:
		return look_reached();
	}
	return NOTHING;
}

/* ---- one arm */

static void load_filters(const struct filter *chosen, int count)
{
	for (int i = 0; i < count; i++) {
		struct {
			unsigned short length;
			const struct instruction *code;
		} prog = { chosen[i].length, chosen[i].code };

		if (syscall(SYS_seccomp, 1, 0, &prog)) {
			arm->loaded = -errno;
			_exit(3);
		}
	}
	arm->loaded = 1;
}

static void keep_null_devices(void)
{
	int null = open("/dev/null", O_RDWR);

	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 ||
	    syscall(SYS_close_range, 3, ~0U, 0))
		_exit(3);
}

/* Lives beside the subject, without any filter; it may be made to run what is put at the hook. */
static void __attribute__((noreturn)) be_victim(void)
{
	const struct timespec moment = { 0, 500 * 1000 };

	keep_null_devices();
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	memcpy(own_page, secret, sizeof(SECRET) - 1);
	victim_pid = getpid();
	complete = 0;
	victim();
	arm->victim_ready = complete ? 1 : -1;
	for (;;) {
		((void (*)(void))(low_page + HOOK))();
		nanosleep(&moment, 0);
	}
}

static void start_victim(void)
{
	const struct timespec moment = { 0, 100 * 1000 };

	victim_pid = fork();
	if (!victim_pid)
		be_victim();
	for (int patience = 30000; !arm->victim_ready; patience--) {
		if (!patience)
			break;
		nanosleep(&moment, 0);
	}
	errno = ESRCH;
	if (arm->victim_ready != 1)
		harness_error("the victim");
}

static void __attribute__((noreturn)) subject(int filtered)
{
	struct rlimit core = { CORE_LIMIT, CORE_LIMIT };

	keep_null_devices();	/* nothing of ours but these */
	if (!VICTIM)
		setsid();	/* its group may be of interest to the other one */
	setrlimit(RLIMIT_CORE, &core);
	arm->subject_pid = subject_pid = getpid();
	if (OWN_IDS)
		take_own_ids();
	/* In both arms: the filter is the only difference. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		_exit(3);
	setup();
	/* Answers for what must not happen for real, in both arms. */
	load_filters(sentinels, SENTINELS);
	if (filtered)
		load_filters(filters, FILTERS);
	arm->parked = 1;
	while (WITNESS && !arm->go)
		__asm__ volatile("pause");
	attack();
	arm->finished = 1;
	while (STAYS)
		__asm__ volatile("pause");
	leave(SYS_exit_group);
}

static void watch(void)
{
	const struct timespec moment = { 0, 2 * 1000 * 1000 };
	/* Of these it is enough that they were seen: a connection is accepted once. */
	const int lives = EFFECT == E_EXECUTED || EFFECT == E_PROCESS || EFFECT == E_WITNESSED || STAYS;
	int ended = 0, patience = 1500;

	while (patience-- > 0) {
		enum grade grade = look();

		if ((int)grade > verdict->grade)
			verdict->grade = grade;
		if (lives ? verdict->grade >= EXPECTED : ended && verdict->grade == EXACT)
			break;
		if (!ended && waitpid((pid_t)subject_pid, (int *)&verdict->status, WNOHANG) > 0) {
			ended = 1;
			/* What the kernel still does for a dead subject comes within this time. */
			patience = 100;
		}
		if (STAYS && arm->finished && patience > 100)
			patience = 100;
		nanosleep(&moment, 0);
	}
	/* What is there when nothing moves any more is what counts. */
	if (!lives) {
		nanosleep(&moment, 0);
		verdict->grade = look();
	}
	for (int round = 0; round < 3; round++)
		look_at_session(1);
	kill((pid_t)subject_pid, SIGKILL);
	if (!ended)
		waitpid((pid_t)subject_pid, (int *)&verdict->status, 0);
	if (victim_pid)
		kill((pid_t)victim_pid, SIGKILL);
}

static void __attribute__((noreturn)) run_arm(const char *scratch, int filtered)
{
	static const unsigned char far_code[] = { 0xcd, 0x80, 0xea };
	uint32_t back;

	umask(0);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	enter_namespaces(scratch);
	if (OWN_ROOT)
		make_root(scratch);
	else if (chdir(scratch))
		harness_error(scratch);
	if (NAMESPACES & CLONE_NEWPID)
		become_init();
	if (NAMESPACES & CLONE_NEWNET)
		loopback_up();
	if (OWN_IDS)
		make_files_as(1);
	if (mkdir(PARENT, 0755) && errno != EEXIST)
		harness_error(PARENT);
	for (int i = 0; i < OBJECTS; i++)
		make_object(&objects[i]);
	if (OWN_IDS)
		make_files_as(0);
	arena = mmap(0, ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	low_page = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	own_page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (arena == MAP_FAILED || low_page == MAP_FAILED || own_page == MAP_FAILED)
		harness_error("memory below 4 GiB");
	memcpy(low_page, far_code, sizeof(far_code));
	back = (uint32_t)(uintptr_t)low_page + 16;
	memcpy(low_page + 3, &back, 4);
	memcpy(low_page + 7, "\x33\0", 2);
	memcpy(low_page + 16, "\x41\xff\xe7", 3);
	memset(low_page + HOOK, 0x90, 64);
	low_page[HOOK + 64] = 0xc3;
	for (int i = 0; i < PIECES; i++)
		memcpy(arena + pieces[i].offset, pieces[i].data, pieces[i].length);
	if (VICTIM)
		start_victim();
	if (OWN_MOUNTS && unshare(CLONE_NEWNS))
		harness_error("mounts that the victim does not have");
	look_before();
	if (madvise(verdict, sizeof(*verdict), MADV_DONTFORK))
		harness_error("a page of its own");
	subject_pid = fork();
	if (subject_pid == 0)
		subject(filtered);
	if (OWN_IDS)
		map_subject();
	if (WITNESS)
		begin_witness();
	watch();
	if (witness_pid)
		kill(witness_pid, SIGKILL);
	_exit(0);
}

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *place)
{
	(void)st;
	(void)flag;
	(void)place;
	remove(path);
	return 0;
}

static void *shared(size_t size)
{
	void *page = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED) {
		perror("cannot run here");
		exit(3);
	}
	return page;
}

static void choose_secret(char *letters, size_t count)
{
	if (syscall(SYS_getrandom, letters, count, 0) != (long)count) {
		perror("cannot run here: getrandom");
		exit(3);
	}
	for (size_t i = 0; i < count; i++)
		letters[i] = (char)('a' + (unsigned char)letters[i] % 26);
}

static void run(int filtered)
{
	char scratch[] = "/tmp/sidestep.XXXXXX";
	pid_t child;

	arm = shared(sizeof(*arm));
	verdict = shared(sizeof(*verdict));
	choose_secret(verdict->secret, sizeof(verdict->secret));
	secret = verdict->secret;
	if (!mkdtemp(scratch)) {
		perror("cannot run here: /tmp");
		exit(3);
	}
	child = fork();
	if (child == 0)
		run_arm(scratch, filtered);
	waitpid(child, 0, 0);
	nftw(scratch, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* ---- the story */

static const char *describe(char *buffer, size_t size, const struct arm *seen, int slot)
{
	long result = seen->result[slot];

	if (seen->state[slot] == NOT_REACHED)
		return "-";
	if (seen->state[slot] == STARTED)
		return "did not return";
	if (lines[slot].is_call && is_error(result)) {
		int number = -(int)result;
		const char *name = number < (int)(sizeof(errors) / sizeof(*errors)) ? errors[number] : 0;

		if (name)
			snprintf(buffer, size, "-1 %s", name);
		else
			snprintf(buffer, size, "-1 errno %d", number);
	} else if (result > 65536 || result < -65536) {
		snprintf(buffer, size, "%#lx", result);
	} else {
		snprintf(buffer, size, "%ld", result);
	}
	return buffer;
}

static void tell(const char *name, const struct verdict *seen)
{
	static const char *const grades[] = { "no effect", "equivalent effect", "exact effect" };

	printf("%-15s %s", name, grades[seen->grade]);
	if (WIFSIGNALED(seen->status) && WTERMSIG(seen->status) != SIGKILL)
		printf("; ended by signal %d (%s)", WTERMSIG(seen->status),
		       strsignal(WTERMSIG(seen->status)));
	printf("\n");
}

int main(void)
{
	const struct timespec calibration = { 0, 20 * 1000 * 1000 };
	uint64_t start = ticks();
	struct arm *control, *mitigated;
	struct verdict *without, *with;
	char left[64], right[64];
	int width = 24;

	setvbuf(stdout, 0, _IOLBF, 0);
	nanosleep(&calibration, 0);
	ticks_per_us = (ticks() - start) / 20000 + 1;
	printf("%s\n%s\n\n", VARIANT, WHY);
	fflush(stdout);
	run(0);
	control = arm;
	without = verdict;
	if (FILTERS)
		run(1);
	mitigated = arm;
	with = verdict;
	if (without->harness_error || with->harness_error)
		return 3;
	if (mitigated->loaded != 1) {
		printf("the filter could not be loaded: %s\n", strerror((int)-mitigated->loaded));
		return 3;
	}
	for (int i = 0; i < OPERATIONS; i++)
		if (width < (int)strlen(lines[i].text))
			width = (int)strlen(lines[i].text);
	printf("      %-*s  %-18s %s\n", width, "", "without filter", FILTERS ? "with filter" : "");
	for (int i = 0; i < OPERATIONS; i++)
		printf("%3d %c %-*s  %-18s %s\n", i, lines[i].decisive ? '*' : ' ', width, lines[i].text,
		       describe(left, sizeof(left), control, i),
		       FILTERS ? describe(right, sizeof(right), mitigated, i) : "");
	printf("\n");
	tell("without filter:", without);
	if (!FILTERS) {
		printf("\nNo filter is compiled in: export it with --under PROFILE.\n");
		return without->grade >= EXPECTED ? 0 : 2;
	}
	tell("with filter:", with);
	if (with->grade >= EXPECTED) {
		printf("\nThe filter does not stop this.\n");
		return 0;
	}
	if (without->grade >= EXPECTED) {
		printf("\nThe filter stops this.\n");
		return 1;
	}
	printf("\nThis does not work here even without the filter, so it says nothing about it.\n");
	return 2;
}
