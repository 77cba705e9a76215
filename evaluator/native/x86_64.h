// SPDX-License-Identifier: MIT
// How x86-64 enters the kernel, and the numbers of the calls that the runner itself makes.

#ifndef __x86_64__
#error "sidestep's runner knows x86-64 only"
#endif

enum {
	NR_read = 0, NR_write = 1, NR_open = 2, NR_close = 3, NR_fstat = 5, NR_lseek = 8, NR_mmap = 9,
	NR_munmap = 11, NR_rt_sigaction = 13, NR_rt_sigprocmask = 14, NR_mremap = 25, NR_ioctl = 16, NR_pread64 = 17, NR_sched_yield = 24,
	NR_madvise = 28, NR_dup2 = 33, NR_nanosleep = 35, NR_setitimer = 38, NR_getpid = 39,
	NR_socket = 41, NR_clone = 56, NR_execve = 59, NR_exit = 60, NR_wait4 = 61, NR_kill = 62,
	NR_fcntl = 72, NR_chdir = 80, NR_umask = 95, NR_ptrace = 101, NR_setgroups = 116,
	NR_setresuid = 117, NR_setresgid = 119, NR_capget = 125, NR_capset = 126, NR_sched_setscheduler = 144,
	NR_sched_setaffinity = 203, NR_sched_getaffinity = 204,
	NR_pivot_root = 155, NR_prctl = 157, NR_mount = 165, NR_umount2 = 166, NR_gettid = 186,
	NR_getdents64 = 217, NR_clock_gettime = 228, NR_exit_group = 231, NR_tgkill = 234,
	NR_openat = 257, NR_mkdirat = 258, NR_mknodat = 259, NR_fchownat = 260, NR_newfstatat = 262,
	NR_unlinkat = 263, NR_fstatfs = 138, NR_symlinkat = 266, NR_readlinkat = 267, NR_fchmodat = 268,
	NR_unshare = 272, NR_pipe2 = 293, NR_prlimit64 = 302, NR_setns = 308, NR_getrandom = 318, NR_seccomp = 317,
	NR_getuid = 102, NR_getgid = 104, NR_setpgid = 109, NR_close_range = 436, NR_landlock_create_ruleset = 444, NR_landlock_add_rule = 445, NR_landlock_restrict_self = 446, NR_clone3 = 435, NR_mount_setattr = 442,
	NR_i386_exit = 1, NR_i386_clone = 120,
};

// Each takes the number and a vector of six 64-bit arguments, and returns rax as the kernel left it.
u64 enter_syscall(u64 nr, const u64 *args);
u64 enter_int80(u64 nr, const u64 *args);
u64 enter_sysenter(u64 nr, const u64 *args);
u64 enter_far_int80(u64 nr, const u64 *args);
// Where the call returns 0, continue on `stack` with body(index) instead: right for a child that
// shares our stack (vfork, CLONE_VM) as well as for one that does not.
u64 spawn_syscall(u64 nr, const u64 *args, void *stack, void (*body)(u64), u64 index);
u64 spawn_int80(u64 nr, const u64 *args, void *stack, void (*body)(u64), u64 index);
extern const char syscall_instruction[];
// Stops here for whoever traces it; `stayed` is where its instruction pointer is then.
void stay_here(void);
extern const char stayed[];
void restore_rt(void);

__asm__(
	".text\n"
	".globl enter_syscall, syscall_instruction\n"
	"enter_syscall:\n"
	"	mov %rdi, %rax\n"
	"	mov 24(%rsi), %r10\n"
	"	mov 32(%rsi), %r8\n"
	"	mov 40(%rsi), %r9\n"
	"	mov 16(%rsi), %rdx\n"
	"	mov (%rsi), %rdi\n"
	"	mov 8(%rsi), %rsi\n"
	"syscall_instruction:\n"
	"	syscall\n"
	"	ret\n"

	".globl enter_int80\n"
	"enter_int80:\n"
	"	push %rbx\n"
	"	push %rbp\n"
	"	mov %edi, %eax\n"
	"	mov (%rsi), %ebx\n"
	"	mov 8(%rsi), %ecx\n"
	"	mov 16(%rsi), %edx\n"
	"	mov 32(%rsi), %edi\n"
	"	mov 40(%rsi), %ebp\n"
	"	mov 24(%rsi), %esi\n"
	"	int $0x80\n"
	"	pop %rbp\n"
	"	pop %rbx\n"
	"	ret\n"

	// SYSENTER from 64-bit code: the call is done, then the task dies on the 32-bit return.
	".globl enter_sysenter\n"
	"enter_sysenter:\n"
	"	mov %edi, %eax\n"
	"	mov (%rsi), %ebx\n"
	"	mov 8(%rsi), %ecx\n"
	"	mov 16(%rsi), %edx\n"
	"	mov 32(%rsi), %edi\n"
	"	mov 24(%rsi), %esi\n"
	"	mov $low_stack_top, %esp\n"
	"	mov %rsp, %rbp\n"
	"	sysenter\n"
	"	ud2\n"

	// A far jump into the 32-bit code segment 0x23, int $0x80 there, and back to 0x33.
	".globl enter_far_int80\n"
	"enter_far_int80:\n"
	"	push %rbx\n"
	"	push %rbp\n"
	"	push %r12\n"
	"	mov %rsp, %r12\n"
	"	mov %edi, %eax\n"
	"	mov (%rsi), %ebx\n"
	"	mov 8(%rsi), %ecx\n"
	"	mov 16(%rsi), %edx\n"
	"	mov 32(%rsi), %edi\n"
	"	mov 40(%rsi), %ebp\n"
	"	mov 24(%rsi), %esi\n"
	"	mov $low_stack_top, %esp\n"
	"	ljmp *far_target\n"
	"far_code:\n"
	"	.byte 0xcd, 0x80\n"		// int $0x80
	"	.byte 0xea\n"			// ljmp $0x33, $far_back
	"	.long far_back\n"
	"	.word 0x33\n"
	"far_back:\n"
	"	mov %r12, %rsp\n"
	"	pop %r12\n"
	"	pop %rbp\n"
	"	pop %rbx\n"
	"	ret\n"

	".globl spawn_syscall\n"
	"spawn_syscall:\n"
	"	push %rbx\n"
	"	push %rbp\n"
	"	push %r12\n"
	"	mov %rdx, %rbx\n"
	"	mov %rcx, %rbp\n"
	"	mov %r8, %r12\n"
	"	mov %rdi, %rax\n"
	"	mov 24(%rsi), %r10\n"
	"	mov 32(%rsi), %r8\n"
	"	mov 40(%rsi), %r9\n"
	"	mov 16(%rsi), %rdx\n"
	"	mov (%rsi), %rdi\n"
	"	mov 8(%rsi), %rsi\n"
	"	syscall\n"		// not a call: the child must not read our stack
	"	test %rax, %rax\n"
	"	jz 1f\n"
	"	pop %r12\n"
	"	pop %rbp\n"
	"	pop %rbx\n"
	"	ret\n"
	"1:	mov %rbx, %rsp\n"
	"	mov %r12, %rdi\n"
	"	call *%rbp\n"
	"	ud2\n"

	".globl spawn_int80\n"
	"spawn_int80:\n"
	"	push %r12\n"
	"	push %r13\n"
	"	push %r14\n"
	"	push %rbx\n"
	"	push %rbp\n"
	"	mov %rdx, %r12\n"
	"	mov %rcx, %r13\n"
	"	mov %r8, %r14\n"
	"	mov %edi, %eax\n"
	"	mov (%rsi), %ebx\n"
	"	mov 8(%rsi), %ecx\n"
	"	mov 16(%rsi), %edx\n"
	"	mov 32(%rsi), %edi\n"
	"	mov 40(%rsi), %ebp\n"
	"	mov 24(%rsi), %esi\n"
	"	int $0x80\n"
	"	test %eax, %eax\n"
	"	jz 1f\n"
	"	pop %rbp\n"
	"	pop %rbx\n"
	"	pop %r14\n"
	"	pop %r13\n"
	"	pop %r12\n"
	"	ret\n"
	"1:	mov %r12, %rsp\n"
	"	mov %r14, %rdi\n"
	"	call *%r13\n"
	"	ud2\n"

	".globl stay_here, stayed, restore_rt\n"
	"stay_here:\n"
	"	int3\n"
	"stayed:\n"
	"	ret\n"
	"restore_rt:\n"
	"	mov $15, %eax\n"
	"	syscall\n"

	".globl _start\n"
	"_start:\n"
	"	mov %rsp, %rdi\n"
	"	mov $own_stack_top, %esp\n"
	"	call start\n"
	"	ud2\n"
	"far_target:\n"
	"	.long far_code\n"
	"	.word 0x23\n"

	".bss\n"
	"	.balign 4096\n"
	"	.skip 262144\n"
	"own_stack_top:\n"
	"	.balign 16\n"
	"	.skip 8192\n"
	"low_stack_top:\n"
	"	.skip 64\n"
	".text\n");
