// SPDX-License-Identifier: MIT
// The subject's interpreter.

// Runs with the layers in force.  It makes no call of its own until the program has ended.

#define STACK 16384
static u8 body_stack[8][STACK] __attribute__((aligned(64)));
static int run(u32 from, u32 to, int polite);

static volatile u32 caught;		// the signal that came last
static u8 own_page[64];		// the victim's begins with the secret

static void handler(int signal)
{
	caught = (u32)signal;
}

static void __attribute__((noreturn)) leave(void)
{
	for (;;) {
		SYS1(exit_group, 0);
		SYS1(exit, 0);
		__asm__ volatile("ud2");
	}
}

static void body(u64 index)
{
	run((u32)index + 1, (u32)index + 1 + page->op[index].skip, 0);
	SYS1(exit, 0);	// a thread ends alone; for a process this is the whole of it
	leave();
}

static u64 value(const struct op *op, int i)
{
	switch (op->value_kind[i]) {
	case V_ARENA:
		return ARENA + op->value[i];
	case V_SLOT:
		return trace->record[op->value[i] % MAX_OPS].result;
	case V_ENV:
		return page->env[op->value[i] % ENV_COUNT];
	}
	return op->value[i];
}

static u64 enter(const struct op *op, u32 index, const u64 *args)
{
	void *stack = body_stack[index % 8] + STACK - 64;
	u64 nr = op->entry == E_WIDE ? op->nr | 0xdead000000000000 : op->nr, result;

	if (op->flags & F_BODY && op->entry == E_INT80)
		result = spawn_int80(nr, args, stack, body, index);
	else if (op->flags & F_BODY)
		return spawn_syscall(nr, args, stack, body, index);
	else if (op->entry == E_INT80)
		result = enter_int80(op->nr, args);
	else if (op->entry == E_SYSENTER)
		result = enter_sysenter(op->nr, args);
	else if (op->entry == E_FAR)
		result = enter_far_int80(op->nr, args);
	else
		return enter_syscall(nr, args);
	result &= 0xffffffff;	// a 32-bit result: an error is negative, an address is not
	return result >= 0xfffff001 ? result | 0xffffffff00000000 : result;
}

static u64 load(u64 address, int width)
{
	switch (width) {
	case 1: return *(volatile u8 *)address;
	case 2: return *(volatile u16 *)address;
	case 4: return *(volatile u32 *)address;
	}
	return *(volatile u64 *)address;
}

static void store(u64 address, int width, u64 v)
{
	switch (width) {
	case 1: *(volatile u8 *)address = (u8)v; return;
	case 2: *(volatile u16 *)address = (u16)v; return;
	case 4: *(volatile u32 *)address = (u32)v; return;
	}
	*(volatile u64 *)address = v;
}

// A polite one lets whoever it waits for go first.  Under a filter that would be a call too many.
static int wait_word(u64 address, u64 unlike, u32 bound_us, int polite)
{
	u64 end = ticks() + bound_us * ticks_per_us;

	while (load(address, 4) == (unlike & 0xffffffff)) {
		if (ticks() > end)
			return 0;
		if (polite)
			SYS0(sched_yield);
		else
			__asm__ volatile("pause");
	}
	return 1;
}

static void print(u64 to, u64 number, u64 suffix)
{
	char *end = append_number((char *)to, number);

	if (suffix)
		append(end, (const char *)suffix);
}

static u64 find(const u8 *in, u64 size, const u8 *wanted, u64 n)
{
	for (u64 at = 0; at + n <= size; at++)
		if (same_bytes(in + at, wanted, n))
			return at;
	return (u64)-1;
}

// 1: the end was reached.  `polite`: no filter judges who runs it.
static int __attribute__((noinline)) run(u32 from, u32 to, int polite)
{
	for (u32 i = from; i < to && i < MAX_OPS; i++) {
		const struct op *op = &page->op[i];
		struct record *r = &trace->record[i];
		u64 v[6];

		for (int k = 0; k < 6; k++)
			r->args[k] = v[k] = value(op, k);
		r->state = S_STARTED;
		__asm__ volatile("" ::: "memory");
		switch (op->kind) {
		case K_SYSCALL: r->result = enter(op, i, v); break;
		case K_LOAD: r->result = load(v[0] + v[1], op->width); break;
		case K_STORE: store(v[0] + v[1], op->width, v[2]); break;
		case K_ADD: r->result = v[0] + v[1]; break;
		case K_PRINT: print(v[0], v[1], v[2]); break;
		case K_WAIT: r->result = (u64)wait_word(v[0] + v[1], v[2], op->bound_us, polite); break;
		case K_CALL: r->result = ((u64(*)(void))v[0])(); break;
		case K_EXPECT: r->result = v[0]; break;
		case K_FAULT: __asm__ volatile("ud2"); break;
		case K_COPY: memcpy((void *)v[0], (void *)v[1], v[2]); break;
		case K_COMPARE: r->result = (u64)same_bytes((u8 *)v[0], (u8 *)v[1], v[2]); break;
		case K_FIND: r->result = find((u8 *)v[0], v[1], (u8 *)v[2], v[3]); break;
		}
		__asm__ volatile("" ::: "memory");
		if (op->kind == K_EXPECT && (v[0] & v[1]) != v[2]) {
			r->state = S_MISMATCH;
			return 0;
		}
		if (op->kind == K_WAIT && !r->result) {
			r->state = S_TIMEOUT;
			return 0;
		}
		r->state = S_DONE;
		if (op->kind == K_SYSCALL && !(op->flags & F_MAY_FAIL) && r->result >= (u64)-4095)
			return 0;
		i += op->skip;	// the body of a call that made a child is the child's
	}
	return 1;
}

static void __attribute__((noreturn)) subject(void)
{
	run(page->victim_end, page->attack_end, 0);
	if (page->stay)
		stay_here();
	leave();
}

// A victim lives beside the subject, unfiltered; variants may make it run code at this address.
static void __attribute__((noinline)) victim_hook(void)
{
	__asm__ volatile(".balign 64; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop;"
			 "nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop;"
			 "nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop; nop");
}

static void __attribute__((noreturn)) victim(void)
{
	run(page->setup_end, page->victim_end, 1);
	trace->victim_ready = 1;
	for (;;) {
		victim_hook();
		nap_us(500);
	}
}
