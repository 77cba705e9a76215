// SPDX-License-Identifier: MIT
// An honest 32-bit program: a server and its client on loopback, all by socketcall(2), which is how
// 32-bit programs used the network before Linux 4.3 and how old libcs still do.

typedef unsigned int u32;

enum { SOCKET = 1, BIND, CONNECT, LISTEN, ACCEPT, GETSOCKNAME, SEND = 9, RECV };
enum { NR_exit = 1, NR_fork, NR_read, NR_write, NR_waitpid = 7, NR_socketcall = 102 };

static int sys(int nr, u32 a, u32 b, u32 c)
{
	int result;

	__asm__ volatile("int $0x80" : "=a"(result) : "0"(nr), "b"(a), "c"(b), "d"(c) : "memory");
	return result;
}

static int socketcall(int call, u32 a, u32 b, u32 c, u32 d)
{
	u32 args[4] = { a, b, c, d };

	return sys(NR_socketcall, (u32)call, (u32)args, 0);
}

static void say(const char *text)
{
	u32 n = 0;

	while (text[n])
		n++;
	sys(NR_write, 1, (u32)text, n);
}

static void __attribute__((noreturn)) leave(int code)
{
	for (;;)
		sys(NR_exit, (u32)code, 0, 0);
}

static void check(int result, const char *what)
{
	char number[8] = "   \n";

	if (result >= 0)
		return;
	for (int i = 2, n = -result; i >= 0; i--, n /= 10)
		number[i] = (char)('0' + n % 10);
	say(what);
	say(": errno ");
	say(number);
	leave(1);
}

static void client(u32 *address)
{
	char text[5] = "";
	int fd = socketcall(SOCKET, 2, 1, 0, 0);

	check(fd, "client: socket");
	check(socketcall(CONNECT, (u32)fd, (u32)address, 16, 0), "client: connect");
	check(socketcall(SEND, (u32)fd, (u32)"ping", 4, 0), "client: send");
	check(socketcall(RECV, (u32)fd, (u32)text, 4, 0), "client: recv");
	text[4] = '\n';
	sys(NR_write, 1, (u32)text, 5);
	leave(0);
}

void _start(void)
{
	u32 address[4] = { 2, 0x0100007f, 0, 0 }, size = 16;	// AF_INET, any port, 127.0.0.1
	char text[4];
	int status = 1, server = socketcall(SOCKET, 2, 1, 0, 0);

	check(server, "socket");
	check(socketcall(BIND, (u32)server, (u32)address, 16, 0), "bind");
	check(socketcall(LISTEN, (u32)server, 1, 0, 0), "listen");
	check(socketcall(GETSOCKNAME, (u32)server, (u32)address, (u32)&size, 0), "getsockname");
	int child = sys(NR_fork, 0, 0, 0);

	check(child, "fork");
	if (!child)
		client(address);
	int fd = socketcall(ACCEPT, (u32)server, 0, 0, 0);

	check(fd, "accept");
	check(socketcall(RECV, (u32)fd, (u32)text, 4, 0), "recv");
	check(socketcall(SEND, (u32)fd, (u32)"pong", 4, 0), "send");
	check(sys(NR_waitpid, (u32)child, (u32)&status, 0), "waitpid");
	leave(status ? 1 : 0);
}
