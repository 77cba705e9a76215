// SPDX-License-Identifier: MIT
// The yardstick: fork, no_new_privs, load a filter, exit, wait; nothing is looked at.
// Usage: base FILTER ROUNDS; prints the mean in microseconds, which
// is what our own trials are told in: the odd long one counts on both sides.
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct fprog {
	unsigned short len;
	void *filter;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

int main(int argc, char **argv)
{
	static unsigned char filter[4096 * 8];
	FILE *file = argc > 2 ? fopen(argv[1], "rb") : NULL;
	int rounds = argc > 2 ? atoi(argv[2]) : 0;

	if (!file || rounds < 1)
		return 2;
	struct fprog prog = { (unsigned short)(fread(filter, 1, sizeof filter, file) / 8), filter };

	double begin = now();

	for (int i = 0; i < rounds; i++) {
		pid_t pid = fork();

		if (!pid) {
			prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
			if (syscall(SYS_seccomp, 1, 0, &prog))
				_exit(1);
			_exit(0);
		}
		int status;

		if (waitpid(pid, &status, 0) != pid || status)
			return 1;
	}
	printf("%.2f\n", (now() - begin) / rounds);
	return 0;
}
