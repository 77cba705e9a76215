// SPDX-License-Identifier: MIT
// Fixtures before a trial, what is seen before and after it, and who is there.

static char *inside(char *to, const char *path)
{
	if (path[0] == '/')
		append(append(to, "/s"), path);
	else
		append(append(append(to, work), "/"), path);
	return to;
}

static u32 kuid(u32 id)
{
	return many_ids ? id + 1 : id;
}

// Sixteen letters that nobody can guess: whoever has them was told, or read them.
static u8 secret[16];
static const char placeholder[] = "sidestep-secret!";	// attacks/effects.py: SECRET

static void new_secret(void)
{
	SYS3(getrandom, secret, sizeof secret, 0);
	for (u32 i = 0; i < sizeof secret; i++)
		secret[i] = 'a' + secret[i] % 16;
}

static void put_secret(u8 *data, u64 n)
{
	for (u64 at = 0; at + sizeof secret <= n; at++)
		if (data[at] == 's' && same_bytes(data + at, (const u8 *)placeholder, sizeof secret))
			memcpy(data + at, secret, sizeof secret);
}

static int has_secret(const u8 *data, u64 n)
{
	// Two words long and without a zero, it holds a whole word, and most words are zero.
	for (u64 at = 0; at + 8 <= n; at += 8)
		for (u64 back = 0; *(const u64 *)(data + at) && back < 8 && back <= at; back++)
			if (at - back + sizeof secret <= n && same_bytes(data + at - back, secret, sizeof secret))
				return 1;
	return 0;
}

static void look(struct seen *seen, int dir, const char *path, int flags)
{
	struct stat st;

	memset(seen, 0, sizeof *seen);
	seen->error = (i32)-SYS4(newfstatat, dir, path, &st, flags);
	if (seen->error)
		return;
	seen->mode = st.st_mode;
	seen->ino = st.st_ino;
	seen->dev = st.st_dev;
	seen->nlink = (u32)st.st_nlink;
	seen->uid = st.st_uid;
	seen->gid = st.st_gid;
	seen->size = (u64)st.st_size;
	seen->mtime_ns = (u64)st.st_mtime * 1000000000 + (u64)st.st_mtime_ns;
}

struct view {		// what the oracle holds on to from before the attack
	char path[256], parent[256];
	const char *name;
	int root, dir, held;
};

static volatile u32 ticks_seen;

// A signal that is pending cuts a listing short.  Without one, and with room left, it is complete.
static i64 list(int dir, u8 *buffer, u64 size, int *complete)
{
	u32 before = ticks_seen;
	i64 n = SYS3(getdents64, dir, buffer, size);

	*complete = n <= 0 || (ticks_seen == before && n < (i64)size - 300);
	return n;
}

static void list_names(struct facts *f, int dir)
{
	int complete = 0;
	static u8 buffer[4096] __attribute__((aligned(8)));
	i64 n;

	SYS3(lseek, dir, 0, 0);
	while (!complete && (n = list(dir, buffer, sizeof buffer, &complete)) > 0) {
		for (i64 at = 0; at < n;) {
			struct dirent64 *d = (struct dirent64 *)(buffer + at);

			at += d->reclen;
			if (same(d->name, ".") || same(d->name, ".."))
				continue;
			if (f->n_names < 8) {
				u64 k = length(d->name);

				f->names[f->n_names].ino = d->ino;
				f->names[f->n_names].type = d->type;
				memcpy(f->names[f->n_names].name, d->name, k > 30 ? 30 : k);
			}
			f->n_names++;
		}
	}
}

// `absent`: the target was just looked for, and nobody has run since.
static void observe(struct facts *f, const struct view *v, int absent)
{
	memset(f, 0, sizeof *f);
	if (absent) {
		f->path.error = f->followed.error = f->by_fd.error = f->held.error = ENOENT;
		list_names(f, v->dir);
		return;
	}
	look(&f->path, v->root, v->path, AT_SYMLINK_NOFOLLOW);
	f->followed = f->path;
	if (!f->path.error && (f->path.mode & S_IFMT) == S_IFLNK)
		look(&f->followed, v->root, v->path, 0);
	look(&f->by_fd, v->dir, v->name, AT_SYMLINK_NOFOLLOW);
	if (v->held >= 0)
		look(&f->held, v->held, "", AT_EMPTY_PATH);
	else
		f->held.error = ENOENT;
	if (v->dir >= 0)
		list_names(f, v->dir);
}

static const u8 *objects_of(const struct program *p)
{
	return (const u8 *)(p + 1);
}

static const u8 *contents_of(const struct program *p)
{
	return objects_of(p) + p->n_objects * sizeof(struct object);
}

static const u8 *arena_of(const struct program *p)
{
	return contents_of(p) + ((p->contents_length + 7) & ~7U);
}

static const struct op *ops_of(const struct program *p)
{
	return (const struct op *)(arena_of(p) + ((p->arena_length + 7) & ~7U));
}

// A program where a subject looks for it, or in a copy of those pages that lies so far behind them.
static void lay_out(const struct program *p, u64 behind)
{
	u8 *arena = (u8 *)(ARENA + behind);
	struct trace *its_trace = (struct trace *)(A(trace) + behind);
	struct program_page *its = (struct program_page *)(A(page) + behind);
	// Zeros up to one page beyond: a buffer at the end of the arena must not show an older trial.
	u64 rest = ARENA_SIZE - p->arena_length;

	memcpy(arena, arena_of(p), p->arena_length);
	memset(arena + p->arena_length, 0, rest > 4096 ? 4096 : rest);
	memset((void *)its_trace->record, 0, p->n_ops * sizeof(struct record));
	its->setup_end = p->setup_end;
	its->victim_end = p->victim_end;
	its->attack_end = p->attack_end;
	its->env[ENV_SYSCALL_INSN] = A(syscall_instruction);
	its->env[ENV_SECRET] = A(own_page);
	its->env[ENV_ID_OFFSET] = -(u64)many_ids;	// as kuid
	memcpy(its->op, ops_of(p), p->n_ops * sizeof(struct op));
}

static void wipe(int dir, int depth)
{
	u8 buffer[512] __attribute__((aligned(8)));
	int complete = 0;
	i64 n;

	while (!complete && (n = list(dir, buffer, sizeof buffer, &complete)) > 0) {
		for (i64 at = 0; at < n;) {
			struct dirent64 *d = (struct dirent64 *)(buffer + at);

			at += d->reclen;
			if (same(d->name, ".") || same(d->name, ".."))
				continue;
			if (d->type != DT_DIR) {
				SYS3(unlinkat, dir, d->name, 0);
				continue;
			}
			// What lies in a fixture is mostly empty.
			if ((depth && !SYS3(unlinkat, dir, d->name, AT_REMOVEDIR)) || depth > 200)
				continue;
			i64 sub = open_at(dir, d->name, O_DIRECTORY | O_NOFOLLOW, 0);

			if (sub >= 0) {
				wipe((int)sub, depth + 1);
				SYS1(close, sub);
			}
			SYS3(unlinkat, dir, d->name, AT_REMOVEDIR);
		}
	}
}

// The fixture of the last trial, where it is a single empty directory: one that nobody has touched
// since is as good as new.
static struct {
	int stands;
	char path[sizeof ((struct object *)0)->path];
	u32 mode, uid, gid;
	struct stat around, itself;	// the scratch, and the directory in it
} standing;

static void wipe_scratch(void)
{
	standing.stands = 0;
	SYS3(lseek, scratch_dir, 0, 0);
	wipe(scratch_dir, 0);
}

// What most trials leave, by name, so that wiping finds nothing: the target, in the directory that is
// held from before, and that directory, which is the fixture that stood.
static void clear_away(const struct view *v, const struct facts *now)
{
	char path[256];

	if (!standing.stands || now->by_fd.error)
		return;
	SYS3(unlinkat, v->dir, v->name, (now->by_fd.mode & S_IFMT) == S_IFDIR ? AT_REMOVEDIR : 0);
	SYS3(unlinkat, AT_FDCWD, inside(path, standing.path), AT_REMOVEDIR);
}

static void wipe_path(const char *path)
{
	i64 fd = open_at(AT_FDCWD, path, O_DIRECTORY | O_NOFOLLOW, 0);

	if (fd < 0)
		return;
	wipe((int)fd, 0);
	SYS1(close, fd);
}

// The working directory must still be ours, with the owner and mode that we gave it.
static int restore_scratch(u32 uid, u32 gid)
{
	struct stat st;

	if (SYS4(newfstatat, AT_FDCWD, work, &st, AT_SYMLINK_NOFOLLOW) || st.st_ino != scratch.st_ino || st.st_dev != scratch.st_dev)
		return fail(X_SCRATCH_LOST, -ENOENT);
	if (st.st_uid != uid || st.st_gid != gid)
		SYS5(fchownat, AT_FDCWD, work, uid, gid, 0);
	if ((st.st_mode & 07777) != 0755)
		SYS3(fchmodat, AT_FDCWD, work, 0755);
	return 0;
}

static i64 make_object(const struct object *o, const char *content, const char *path)
{
	i64 fd, e;

	switch (o->kind) {
	case O_DIR:
	case O_ANCESTOR:
		return SYS3(mkdirat, AT_FDCWD, path, o->mode);
	case O_SYMLINK:
		return SYS3(symlinkat, content, AT_FDCWD, path);
	case O_FIFO:
		return SYS4(mknodat, AT_FDCWD, path, S_IFIFO | o->mode, 0);
	}
	if ((fd = open_at(AT_FDCWD, path, O_CREAT | O_EXCL | O_WRONLY, o->mode)) < 0)
		return fd;
	e = o->content_length && write_all((int)fd, content, o->content_length) ? -EINVAL : 0;
	SYS1(close, fd);
	return e;
}

// The topmost directory outside the scratch that this trial made: all that it may wipe there.
static char made[256];

static int make_objects(const struct program *p, u32 uid, u32 gid)
{
	const struct object *o = (const struct object *)objects_of(p);
	static char small[256];
	char path[256];

	for (u32 i = 0; i < p->n_objects; i++, o++) {
		const char *content = (const char *)contents_of(p) + o->content;

		inside(path, o->path);
		if (p->flags & P_SECRET) {
			put_secret((u8 *)path, length(path));
			if (o->content_length < sizeof small) {
				memcpy(small, content, o->content_length);
				put_secret((u8 *)small, o->content_length);
				content = small;
			}
		}
		i64 e = make_object(o, content, path);

		if (e == -EEXIST && o->kind == O_ANCESTOR)
			continue;
		if (e < 0)
			return fail(X_FIXTURE, e);
		if (o->path[0] == '/' && !made[0])
			append(made, path);
		SYS5(fchownat, AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW);
		if (o->mode & 06000)
			SYS3(fchmodat, AT_FDCWD, path, o->mode);	// chown clears set-id bits
	}
	return 0;
}

// Every change of a directory, of what is in it or of its attributes, sets its ctime; two within a
// tick are told apart by a kernel with multigrain timestamps (Linux 6.13), which is tried out.
static int tells_changes(void)
{
	static int known, tells = 1;
	struct stat before, after;

	for (int i = 0; !known && tells && i < 4; i++)
		tells = !SYS2(fstat, scratch_dir, &before) && !SYS3(fchmodat, AT_FDCWD, work, before.st_mode & 07777) &&
			!SYS2(fstat, scratch_dir, &after) && (before.st_ctime_ns != after.st_ctime_ns || before.st_ctime != after.st_ctime);
	known = 1;
	return tells;
}

static int look_at_fixture(const char *object, struct stat *around, struct stat *itself)
{
	char path[256];

	return SYS4(newfstatat, AT_FDCWD, work, around, AT_SYMLINK_NOFOLLOW) ||
	       SYS4(newfstatat, AT_FDCWD, inside(path, object), itself, AT_SYMLINK_NOFOLLOW);
}

static int is_untouched(const struct stat *then, const struct stat *now)
{
	return then->st_dev == now->st_dev && then->st_ino == now->st_ino && then->st_mode == now->st_mode &&
	       then->st_uid == now->st_uid && then->st_gid == now->st_gid && then->st_nlink == now->st_nlink &&
	       then->st_ctime == now->st_ctime && then->st_ctime_ns == now->st_ctime_ns;
}

// Where somebody may mount, something may lie on it that is not seen from here.
static int may_stand(const struct program *p, const struct config *c)
{
	const struct object *o = (const struct object *)objects_of(p);

	return p->n_objects == 1 && o->kind == O_DIR && o->path[0] != '/' && !(p->flags & P_SECRET) && !ambient &&
	       !((c->effective | c->bounding) >> 21 & 1 /* CAP_SYS_ADMIN */);
}

// Whether the object of this program is there as make_objects() would leave it.
static int fixture_stands(const struct program *p, u32 uid, u32 gid)
{
	const struct object *o = (const struct object *)objects_of(p);
	struct stat around, itself;

	return standing.stands && o->mode == standing.mode && uid == standing.uid && gid == standing.gid &&
	       same(o->path, standing.path) && !look_at_fixture(o->path, &around, &itself) &&
	       is_untouched(&standing.around, &around) && is_untouched(&standing.itself, &itself);
}

static void let_stand(const struct program *p, u32 uid, u32 gid)
{
	const struct object *o = (const struct object *)objects_of(p);

	standing.stands = tells_changes() && !look_at_fixture(o->path, &standing.around, &standing.itself);
	standing.mode = o->mode;
	standing.uid = uid;
	standing.gid = gid;
	append(standing.path, o->path);
}

static int make_fixture(const struct program *p, const struct config *c, int slow)
{
	u32 uid = kuid(c->uid), gid = kuid(c->gid);
	int may = !slow && may_stand(p, c);

	if (may && fixture_stands(p, uid, gid))
		return 0;
	if (standing.stands)
		wipe_scratch();
	if (restore_scratch(uid, gid) || make_objects(p, uid, gid))
		return -1;
	if (may)
		let_stand(p, uid, gid);
	return 0;
}

// Inode numbers of one tmpfs only grow: what is above the watermark was made later.  Right after
// the fixture that is the last object's; later, or elsewhere, a nameless file tells.
static u64 watermark(const struct program *p, const char *parent, int right_after)
{
	struct stat st;
	i64 fd;

	if (right_after && standing.stands)
		return standing.itself.st_ino;
	if (right_after && p->n_objects && p->parent[0] != '/') {
		char path[256];

		inside(path, ((const struct object *)objects_of(p))[p->n_objects - 1].path);
		if (!SYS4(newfstatat, AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW))
			return st.st_ino;
	}
	fd = open_at(AT_FDCWD, parent, O_TMPFILE | O_RDWR, 0600);

	if (fd < 0)
		return 0;
	memset(&st, 0, sizeof st);
	SYS2(fstat, fd, &st);
	SYS1(close, fd);
	return st.st_ino;
}

struct pids {
	int n, pid[32];
};

static void children_of_thread(const char *task, const char *thread, struct pids *to)
{
	char path[96], text[512];

	append(append(append(append(path, task), "/"), thread), "/children");
	if (read_file(path, text, sizeof text) < 0)
		return;
	for (const char *p = text; *p && to->n < 32;) {
		while (*p == ' ' || *p == '\n')
			p++;
		if (*p >= '0' && *p <= '9')
			to->pid[to->n++] = (int)number_at(&p);
		else if (*p)
			return;
	}
}

// Of every thread: when one ends, another becomes the parent of its children.
static void children_of(int pid, struct pids *to)
{
	u8 buffer[1024] __attribute__((aligned(8)));
	char task[64];
	i64 fd = open_at(AT_FDCWD, proc_path(task, pid, "task"), O_DIRECTORY, 0), n;

	if (fd < 0)
		return;
	while ((n = SYS3(getdents64, fd, buffer, sizeof buffer)) > 0)
		for (i64 at = 0; at < n;) {
			struct dirent64 *d = (struct dirent64 *)(buffer + at);

			at += d->reclen;
			if (d->name[0] != '.')
				children_of_thread(task, d->name, to);
		}
	SYS1(close, fd);
}

// Processes in the subjects' pid namespace beside init, the subject and the victim.
static void strangers(struct pids *to, int subject_pid, int victim_pid, int gate_pid)
{
	struct pids all = { 0, { 0 } };

	children_of(1, &all);		// ours: CLONE_PARENT makes siblings
	children_of(init_pid, &all);	// orphans
	if (subject_pid)
		children_of(subject_pid, &all);
	if (victim_pid)
		children_of(victim_pid, &all);
	for (int i = 0; i < all.n; i++) {
		int pid = all.pid[i];

		if (pid == init_pid || pid == subject_pid || pid == victim_pid || pid == gate_pid)
			continue;
		to->pid[to->n++ % 32] = pid;
	}
}

static int runs_probe(int pid, const u8 *magic)
{
	static u8 head[8192];
	char path[64];
	i64 fd = open_at(AT_FDCWD, proc_path(path, pid, "exe"), O_NONBLOCK, 0), n;

	if (fd < 0)
		return 0;
	n = SYS4(pread64, fd, head, sizeof head, 0);
	SYS1(close, fd);
	for (i64 i = 0; i + 16 <= n; i++)
		if (head[i] == magic[0] && same_bytes(head + i, magic, 16))
			return 1;
	return 0;
}

// Whether an executable mapping of `pid` is a file that the trial's fixture made from the probe.
static int maps_probe(int pid, u64 ino)
{
	static char text[16384];
	char path[64];

	if (!ino || read_file(proc_path(path, pid, "maps"), text, sizeof text) < 0)
		return 0;
	for (const char *p = text; *p;) {
		const char *line = p;

		while (*p && *p != ' ')
			p++;
		int executable = *p && p[1] && p[2] && p[3] == 'x';

		for (int field = 0; *p && *p != '\n' && field < 4; p++)
			field += *p == ' ';
		if (executable && number_at(&p) == ino)
			return 1;
		while (*p && *p != '\n')
			p++;
		if (*p)
			p++;
		if (p == line)
			return 0;
	}
	return 0;
}
