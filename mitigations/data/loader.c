/*
 * Puts the filters on itself, oldest first, and runs a program under them:
 *
 *     cc -o under FILE.c && ./under PROGRAM [ARGUMENT...]
 *
 * Exit status 125: they could not be put on, and nothing was run; 126, 127: as env(1).
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
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

/* @filters */
static int failed(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	return 125;
}

int main(int argc, char **argv)
{
	size_t count = sizeof(filters) / sizeof(filters[0]);

	if (argc < 2) {
		fprintf(stderr, "usage: %s PROGRAM [ARGUMENT...]\n", argv[0]);
		return 125;
	}
	if (no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return failed("no_new_privs");
	for (size_t n = 0; n < count; n++) {
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
