// SPDX-License-Identifier: MIT
// libseccomp's simulator for many calls: its command ends with the first decision, here its exit()
// leads back into the loop. Built by scripts/libseccomp_sim.sh, which fetches the included file.
//
// From stdin, again and again: how many instructions, how many calls, the instructions (struct
// sock_filter), the calls (struct seccomp_data). To stdout, for each call: the line of the command,
// or FAULT where it ends with an error.
#include <setjmp.h>
#include <stdlib.h>

static jmp_buf decided;

#define exit(status) longjmp(decided, 1 + (status))
#define main scmp_bpf_sim
#include "scmp_bpf_sim.c"
#undef main
#undef exit

static void need(void *to, size_t size, size_t count)
{
	if (fread(to, size, count, stdin) != count)
		exit(EXIT_FAILURE);
}

static void decide(const struct bpf_program *program, const struct seccomp_data *call)
{
	int status = setjmp(decided);

	if (!status)
		bpf_execute(program, call);
	if (status != 1)
		puts("FAULT");
}

int main(void)
{
	static bpf_instr_raw instructions[BPF_PRG_MAX_LEN];
	uint32_t counts[2];

	arch = AUDIT_ARCH_X86_64;	// of one byte order with this machine
	if (!freopen("/dev/null", "w", stderr))
		return EXIT_FAILURE;
	while (fread(counts, sizeof(counts), 1, stdin) == 1) {
		struct bpf_program program = { counts[0], instructions };
		struct seccomp_data call;

		if (counts[0] > BPF_PRG_MAX_LEN)
			return EXIT_FAILURE;
		need(instructions, sizeof(*instructions), counts[0]);
		while (counts[1]--) {
			need(&call, sizeof(call), 1);
			decide(&program, &call);
		}
		fflush(stdout);
	}
	return EXIT_SUCCESS;
}
