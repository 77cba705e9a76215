/*
 * Puts Landlock rulesets and then filters on itself, oldest first, and runs a program under them:
 *
 *     cc -o under FILE.c && ./under PROGRAM [ARGUMENT...]
 *
 * Exit status 125: they could not be put on, and nothing was run; 126, 127: as env(1).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if !defined(__x86_64__) || defined(__ILP32__)
#error "the filters are for x86-64 Linux"
#endif

struct filter {
	const struct sock_filter *code;
	unsigned short length;
	unsigned int flags;
};

/* linux/landlock.h, of which older headers lack parts */
struct ruleset {
	unsigned long long fs, net, scoped;
	const struct path_rule *paths;
	const struct port_rule *ports;
};

struct path_rule {
	unsigned long long allowed;
	const char *path;
};

struct port_rule {
	unsigned long long allowed, port;
};

enum { CREATE_RULESET = 444, ADD_RULE, RESTRICT_SELF, BENEATH = 1, PORT };

/* @filters */
static int failed(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	return 125;
}

static int restrict_by(const struct ruleset *of)
{
	/* What a kernel does not know it refuses, and then nothing is run. */
	size_t size = of->scoped ? 24 : of->net ? 16 : 8;
	int set = syscall(CREATE_RULESET, of, size, 0);
	const unsigned long long on_files = 0xc007;

	if (set < 0)
		return -1;
	for (const struct path_rule *rule = of->paths; rule->path; rule++) {
		struct {
			unsigned long long allowed;
			int fd;
		} __attribute__((packed)) beneath = {rule->allowed, open(rule->path, O_PATH | O_CLOEXEC)};
		struct stat status;

		if (beneath.fd < 0 && errno == ENOENT)
			continue;	/* what is not there needs no rule */
		if (beneath.fd < 0 || fstat(beneath.fd, &status))
			return -1;
		if (!S_ISDIR(status.st_mode))
			beneath.allowed &= on_files;
		if (beneath.allowed && syscall(ADD_RULE, set, BENEATH, &beneath, 0))
			return -1;
		close(beneath.fd);
	}
	for (const struct port_rule *rule = of->ports; rule->allowed; rule++)
		if (syscall(ADD_RULE, set, PORT, rule, 0))
			return -1;
	return syscall(RESTRICT_SELF, set, 0) || close(set);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: %s PROGRAM [ARGUMENT...]\n", argv[0]);
		return 125;
	}
	if (no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return failed("no_new_privs");
	for (const struct ruleset *one = rulesets; one->paths; one++)
		if (restrict_by(one))
			return failed("landlock");
	for (size_t n = 0; filters[n].code; n++) {
		struct sock_fprog program = {
			.len = filters[n].length,
			.filter = (struct sock_filter *)filters[n].code,
		};

		if (!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, filters[n].flags, &program))
			continue;
		/* Without CAP_SYS_ADMIN a filter needs no_new_privs. */
		if (errno != EACCES || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, filters[n].flags, &program))
			return failed("seccomp");
	}
	execvp(argv[1], argv + 1);
	fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
	return errno == ENOENT ? 127 : 126;
}
