// SPDX-License-Identifier: MIT
// Memory that the judge, the gates and the subjects share, and what programs are made of.

// Everything lies in one 2 MiB range with the text (build.py links it at 0x500000): one page of
// page tables for a subject, and `int 0x80` can reach all of it.

#define ARENA 0x400000UL
#define ARENA_SIZE (256 * 1024UL)
#define TRACE 0x440000UL
#define PROGRAM 0x44a000UL
#define SHARED_END 0x455000UL
#define CONTROL 0x460000UL
#define MAX_OPS 512
#define MAX_PROGRAMS 8192
#define MAX_CONFIGS 256
#define MAX_FRAME (4 * 1024 * 1024)

enum { K_SYSCALL = 1, K_LOAD, K_STORE, K_ADD, K_PRINT, K_WAIT, K_CALL, K_EXPECT, K_FAULT, K_COPY, K_COMPARE, K_FIND };
enum { V_CONST, V_ARENA, V_SLOT, V_ENV };
enum { E_SYSCALL, E_INT80, E_SYSENTER, E_FAR, E_WIDE };
enum { F_MAY_FAIL = 1, F_BODY = 2, F_DECISIVE = 4 };
enum { S_NOT_REACHED, S_STARTED, S_DONE, S_MISMATCH, S_TIMEOUT };
enum {
	ENV_VICTIM_PID, ENV_SUBJECT_PID, ENV_VICTIM_HOOK, ENV_SYSCALL_INSN, ENV_HANDLER, ENV_RESTORER, ENV_CAUGHT, ENV_SECRET,
	ENV_ID_OFFSET, ENV_COUNT
};

struct op {
	u8 kind, entry, flags, width;
	u32 nr, skip, bound_us;
	u8 value_kind[8];
	u64 value[6];
};

struct record {
	u32 state, spare;
	u64 result, args[6];
};

struct trace {
	volatile u32 victim_ready, spare[15];
	struct record record[MAX_OPS];
};

struct program_page {
	u32 setup_end, victim_end, attack_end, stay;
	volatile u64 env[ENV_COUNT];
	struct op op[MAX_OPS];
};

// Seen by the judge and the gate; MADV_DONTFORK in the gate keeps it from subjects.
struct control {
	volatile u32 seized, entry, pid, loader, loaded, loader_used, stuck, stay, step, victim, read_only;
	volatile i32 error, clone_result;
	u8 secret[16];	// for the victim alone
};

static struct trace *const trace = (struct trace *)TRACE;
static struct program_page *const page = (struct program_page *)PROGRAM;
static struct control *const control = (struct control *)CONTROL;
