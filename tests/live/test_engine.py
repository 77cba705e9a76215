"""One trial tells the truth: whatever the filter answers, and whatever the subject does."""

import errno
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from attacks import library
from attacks.effects import Grade
from attacks.program import (
    Abi,
    Addr,
    Blob,
    Call,
    Const,
    Entry,
    Fault,
    Operation,
    Program,
    Store,
    Syscall,
    Wait,
)
from evaluator.errors import HarnessError
from evaluator.pool import Arm, Pool
from evaluator.sandbox import Sandbox, read_back, runner_path
from evaluator.share import arm_of
from evaluator.trial import grade, program_spec
from evaluator.wire import Mode, ProgramFlag, ProgramSpec, RecordState, Result

from engine import (
    ALLOW,
    EPERM,
    FAKED,
    KILL,
    KILL_THREAD,
    LOG,
    MKDIR,
    NOTIFY,
    PARENT,
    TRACE,
    TRAP,
    answers,
    answers_all,
    call,
    config,
    made_directory,
    program,
    run,
)

MKDIR_NR, CLONE_NR, EXIT_NR, EXIT_GROUP_NR, CLONE_I386 = 83, 56, 60, 231, 120
POSTURES = ("container", "restricted", "root")
SIGSYS = 31


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as one:
        yield one


@pytest.mark.parametrize("posture", POSTURES)
@pytest.mark.parametrize("slow", [False, True])
def test_without_a_filter_the_directory_appears(sandbox: Sandbox, posture: str, slow: bool) -> None:
    (result,) = run(sandbox, MKDIR, config(posture=posture), slow=slow)
    assert result.ok
    assert made_directory(result)
    assert (result.truth.seccomp, result.truth.filters) == (0, 0)


@pytest.mark.parametrize("posture", POSTURES)
@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(
    ("action", "state", "result", "died"),
    [
        (EPERM, RecordState.DONE, -errno.EPERM, 0),
        (FAKED, RecordState.DONE, 0, 0),
        (TRACE, RecordState.DONE, -errno.ENOSYS, 0),
        (NOTIFY, RecordState.DONE, -errno.ENOSYS, 0),
        (TRAP, RecordState.STARTED, 0, SIGSYS),
        (KILL_THREAD, RecordState.STARTED, 0, SIGSYS),
        (KILL, RecordState.STARTED, 0, SIGSYS),
    ],
)
@pytest.mark.parametrize("denied", ["mkdir", "everything"])
def test_a_denied_call_is_seen_with_its_answer(
    sandbox: Sandbox,
    posture: str,
    slow: bool,
    action: int,
    state: RecordState,
    result: int,
    died: int,
    denied: str,
) -> None:
    """Also under a filter that allows nothing: the trace needs no system call to get out."""
    filter_ = answers([MKDIR_NR], action) if denied == "mkdir" else answers_all(action)
    for one in run(sandbox, MKDIR, config(filter_, posture=posture), slow=slow, times=2):
        assert one.ok, one.trouble
        assert not made_directory(one)
        assert (one.truth.seccomp, one.truth.filters) == (2, 1)
        record = one.records[0]
        assert record.state is state
        assert record.result == result % 2**64
        if died:
            assert one.signal == died


@pytest.mark.parametrize("action", [ALLOW, LOG])
def test_an_allowed_call_makes_the_directory(sandbox: Sandbox, action: int) -> None:
    (result,) = run(sandbox, MKDIR, config(answers_all(action)))
    assert made_directory(result)
    assert result.truth.filters == 1


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(
    ("denied", "mode"),
    [
        ([CLONE_NR], "gate by int 0x80"),
        ([CLONE_NR, CLONE_I386], "direct"),
        ([EXIT_NR, EXIT_GROUP_NR], "gate"),
    ],
)
@pytest.mark.parametrize("action", [EPERM, FAKED, KILL, TRAP])
def test_a_filter_against_the_harness_changes_nothing(
    sandbox: Sandbox, slow: bool, denied: list[int], mode: str, action: int
) -> None:
    for one in run(sandbox, MKDIR, config(answers(denied, action)), slow=slow, times=2):
        assert one.ok, one.trouble
        assert made_directory(one)
        if mode == "direct":
            assert one.mode is Mode.DIRECT


def test_filters_stack(sandbox: Sandbox) -> None:
    (result,) = run(sandbox, MKDIR, config(answers([MKDIR_NR], EPERM), answers_all(ALLOW)))
    assert result.truth.filters == 2
    assert result.records[0].error == errno.EPERM


def test_the_posture_is_what_the_kernel_says(sandbox: Sandbox) -> None:
    for posture in POSTURES:
        how = config(answers_all(ALLOW), posture=posture)
        (result,) = run(sandbox, MKDIR, how)
        assert result.truth.effective == result.truth.permitted == how.capabilities
        assert result.truth.bounding == how.capabilities
        assert result.truth.no_new_privs == (posture == "restricted")


def test_a_parked_subject_shows_its_filter_to_real_root(sandbox: Sandbox) -> None:
    if os.geteuid() != 0:
        pytest.skip("reading filters back needs real root")
    loaded = answers([MKDIR_NR], EPERM)
    sandbox.define_config(3, config(loaded))
    status = sandbox.park(3)
    try:
        assert "Seccomp:\t2" in status.text
        host = sandbox.host_pid(status.pid)
        assert host is not None
        assert read_back(runner_path(), host) == [loaded]
    finally:
        sandbox.release()


# ------------------------------------------------------------------ hostile subjects

TRACE_PAGE, PROGRAM_PAGE, CONTROL_PAGE, ARENA = 0x440000, 0x44A000, 0x460000, 0x400000
SIGKILL, SIGSTOP = 9, 19


def _child(*body: Operation) -> Syscall:
    return Syscall("fork", body=tuple(body))


def _scribbles(page: int, size: int) -> list[Operation]:
    return [Store(Const(page + at), 0, 8, Const(0x4141414141414141)) for at in range(0, size, 8)]


HOSTILE: dict[str, Program] = {
    "kills everybody": program(call("kill", -1, SIGKILL)),
    "kills init": program(call("kill", 1, SIGKILL, may_fail=True), call("mkdir", Addr(0), 0o755)),
    "stops itself": program(call("kill", 0, SIGSTOP)),
    "traces init": program(
        call("ptrace", 16, 1, 0, 0, may_fail=True), call("mkdir", Addr(0), 0o755)
    ),
    "writes the memory of init": program(
        call("process_vm_writev", 1, Addr(0), 1, Addr(0), 1, 0, may_fail=True),
        call("mkdir", Addr(0), 0o755),
    ),
    "overwrites its trace": program(call("mkdir", Addr(0), 0o755), *_scribbles(TRACE_PAGE, 1024)),
    "overwrites its program": program(
        call("mkdir", Addr(0), 0o755), *_scribbles(PROGRAM_PAGE + 32, 720)
    ),
    "overwrites the control page": program(
        call("mkdir", Addr(0), 0o755), *_scribbles(CONTROL_PAGE, 64)
    ),
    "closes every descriptor": program(
        call("close_range", 0, 2**32 - 1, 0), call("mkdir", Addr(0), 0o755)
    ),
    "unmaps the shared pages": program(call("munmap", ARENA, 0x55000)),
    "unmaps everything": program(call("munmap", 0x1000, 0x7FFFFFFFE000)),
    "leaves a daemon": program(
        _child(call("setsid"), _child(Wait(Addr(0), bound_us=30_000_000, value=Const(0x742F64)))),
        call("mkdir", Addr(0), 0o755),
    ),
    "leaves siblings": program(
        *[
            Syscall(
                "clone",
                (Const(0x8000 | 17),),
                body=(Wait(Addr(0), bound_us=30_000_000, value=Const(0x742F64)),),
            )
        ]
        * 5
    ),
    "forks on and on": program(
        *[_child(_child(_child(Wait(Addr(0), bound_us=5_000_000, value=Const(0x742F64)))))] * 60
    ),
    "takes away its working directory": program(
        call("rmdir", Addr(1), may_fail=True),
        call("rename", Addr(1), Addr(2), may_fail=True),
        call("chmod", Addr(1), 0, may_fail=True),
        call("mkdir", Addr(0), 0o755, may_fail=True),
        texts=("d/t", "/work", "/gone"),
    ),
    "fills the directory": program(
        *[
            op
            for i in range(1, 100)
            for op in (call("mkdir", Addr(i), 0), call("chmod", Addr(i), 0))
        ],
        texts=("d/t", *(f"d/{i}" for i in range(99))),
    ),
    "digs deep": program(
        *[op for _ in range(150) for op in (call("mkdir", Addr(0), 0o700), call("chdir", Addr(0)))],
        texts=("x",),
    ),
    "runs for ever": program(Wait(Addr(0), bound_us=60_000_000, value=Const(0x742F64))),
    "jumps into nothing": Program(attack=(Call(Const(0x666)),)),
    "dies": Program(attack=(Fault(),)),
    "new namespaces": program(
        call("unshare", 0x10000000 | 0x20000 | 0x20000000, may_fail=True),
        call("mkdir", Addr(0), 0o755),
    ),
    "32-bit exit": program(Syscall("exit_group", (Const(7),), abi=Abi.I386, entry=Entry.INT80)),
}
# Those that also make the directory; one locks itself out of its own working directory.
MAKES = {
    name: any(op == call("mkdir", Addr(0), 0o755) for op in what.attack) and "working" not in name
    for name, what in HOSTILE.items()
}
FILTERS = {"no filter": (), "mkdir denied": (answers([MKDIR_NR], EPERM),)}


def _same(a: Result, b: Result) -> bool:
    return (made_directory(a), a.records, a.truth, a.signal) == (
        made_directory(b),
        b.records,
        b.truth,
        b.signal,
    )


@pytest.mark.parametrize("posture", POSTURES)
@pytest.mark.parametrize("filtered", FILTERS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_subject_changes_no_other_trial(
    sandbox: Sandbox, name: str, filtered: str, posture: str
) -> None:
    how = config(*FILTERS[filtered], posture=posture)
    (before,) = run(sandbox, MKDIR, how)
    (hostile,) = run(sandbox, HOSTILE[name], how, timeout_us=50_000)
    (after,) = run(sandbox, MKDIR, how)
    assert before.ok
    assert after.ok, after.trouble
    assert _same(before, after)
    assert hostile.ok, hostile.trouble
    # Its own truth: what it did to its trace does not make or hide a directory.
    if MAKES[name]:
        assert made_directory(hostile) == (filtered == "no filter")


def test_the_subject_sees_no_process_but_init_and_itself(sandbox: Sandbox) -> None:
    for posture in POSTURES:
        what = program(
            *[call("kill", pid, 0, may_fail=True) for pid in range(2, 400)], call("getpid")
        )
        (result,) = run(sandbox, what, config(posture=posture))
        own = result.records[-1].result
        alive = [
            pid for pid, record in enumerate(result.records[:-1], 2) if record.error != errno.ESRCH
        ]
        assert alive in ([own], []), "the subject found another process"


def test_nothing_is_inherited_but_null_devices(sandbox: Sandbox) -> None:
    blobs = (Blob(b"", 256),)
    what = Program(
        blobs=blobs, attack=tuple(call("fcntl", fd, 1, may_fail=True) for fd in range(256))
    )
    (result,) = run(sandbox, what, config())
    assert [fd for fd, record in enumerate(result.records) if not record.error] == [0, 1, 2]


def test_a_subject_is_quickly_forked(sandbox: Sandbox) -> None:
    """One page of page tables for text and data: no stack of the runner's, and no vDSO."""
    sandbox.define_config(4, config(answers([MKDIR_NR], EPERM)))
    parked = sandbox.park(4)
    pid = sandbox.host_pid(parked.pid)
    try:
        assert pid is not None
        maps = Path(f"/proc/{pid}/maps").read_text()
    finally:
        sandbox.release()
    low = [int(line.split("-")[1].split()[0], 16) for line in maps.splitlines() if line[:2] == "00"]
    assert max(low) <= 0x600000
    assert "[stack]" not in maps
    assert "[vdso]" not in maps
    assert "[vvar" not in maps


def test_a_hang_ends_at_its_bound(sandbox: Sandbox) -> None:
    begin = time.monotonic()
    (result,) = run(sandbox, HOSTILE["runs for ever"], config(), timeout_us=100_000)
    assert result.timed_out
    assert time.monotonic() - begin < 2


# ------------------------------------------------------------------ nothing left behind


@pytest.fixture
def own_runner(tmp_path: Path) -> Path:
    """A runner that nobody else starts: its processes are known by its name."""
    return Path(shutil.copy2(runner_path(), tmp_path / "runner"))


def _leftovers(runner: Path) -> tuple[int, int, int]:
    """Processes of that runner, our mounts, our descriptors."""
    runners = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                runners += words[0] == bytes(runner)
            except OSError:
                continue
    mounts = Path("/proc/self/mountinfo").read_text().count("sidestep")
    return runners, mounts, len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_left_after_many_trials(own_runner: Path) -> None:
    before = _leftovers(own_runner)
    with Sandbox(own_runner) as one:
        for filters in ((), (answers([MKDIR_NR], EPERM),)):
            results = run(one, MKDIR, config(*filters), flags=ProgramFlag.NONE, times=5000)
            assert {made_directory(result) for result in results} == {not filters}
        assert len(run(one, HOSTILE["leaves a daemon"], config(), times=50)) == 50
        judge = int(Path(f"/proc/{one.pid}/task/{one.pid}/children").read_text().split()[0])
        assert len(list(Path(f"/proc/{judge}/fd").iterdir())) < 40
        left = Path(f"/proc/{judge}/task/{judge}/children").read_text().split()
        assert len(left) <= 17, "init and gates, no subject"
    assert _leftovers(own_runner) == before


def _run_for_seconds(one: Sandbox) -> None:
    for _ in range(200):
        run(one, MKDIR, config())
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_runner_takes_everything_with_it(number: int, own_runner: Path) -> None:
    before = _leftovers(own_runner)
    one = Sandbox(own_runner)
    try:
        run(one, MKDIR, config())
        os.kill(one.pid, number)
        with pytest.raises(HarnessError):
            _run_for_seconds(one)
    finally:
        one.close()
    deadline = time.monotonic() + 5
    while _leftovers(own_runner) != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _leftovers(own_runner) == before


def test_without_its_init_a_runner_is_replaced() -> None:
    """Killing init kills every subject; a runner that went on would fail trial after trial."""
    with Pool(1) as pool:
        arm = Arm(
            ProgramSpec(MKDIR, (PARENT,), flags=ProgramFlag.SWEEP), config(), config(), 500_000
        )
        pool.run([arm])
        judge = (
            Path(f"/proc/{pool.first.pid}/task/{pool.first.pid}/children").read_text().split()[0]
        )
        init = Path(f"/proc/{judge}/task/{judge}/children").read_text().split()[0]
        os.kill(int(init), signal.SIGKILL)
        results = pool.run([arm] * 100)
    lost = [one for one in results if isinstance(one, str)]
    assert len(lost) <= 2
    assert all(made_directory(one) for one in results if not isinstance(one, str))


def test_a_witness_is_no_process_of_the_subject() -> None:
    """Once there is a witness, it is there for all later trials of a runner."""
    unshare = library.find_variant("new-user-namespace/unshare")
    thread = library.find_variant("create-process/thread-negative")
    with Pool(1) as pool:
        arms = [Arm(program_spec(one), config(), config(), 500_000) for one in (unshare, thread)]
        seen, after = pool.run(arms)
    assert isinstance(seen, Result)
    assert isinstance(after, Result)
    assert seen.witness_after
    assert not after.saw_process


@pytest.mark.parametrize("order", ["in turn", "again and again"])
def test_more_filters_than_a_runner_has_room_for(order: str) -> None:
    """A runner knows 256 configurations; each arm gets its own, and so does the victim."""
    spec = ProgramSpec(MKDIR, (PARENT,), flags=ProgramFlag.SWEEP)
    wanted = [1 + i for i in range(300)]
    wanted = wanted * 2 if order == "in turn" else [one for one in wanted for _ in range(2)]
    arms = [
        Arm(spec, config(answers([MKDIR_NR], FAKED + number)), config(), 500_000)
        for number in wanted
    ]
    with Pool(1) as pool:
        results = pool.run(arms)
    assert all(isinstance(one, Result) for one in results)
    assert [one.records[0].error for one in results if isinstance(one, Result)] == wanted


def test_a_ring_that_is_taken_down_leaves_the_next_trial_alone() -> None:
    """The kernel writes to a ring in the program's own memory after the program is gone."""
    spec = program_spec(library.find_variant("create-directory/io-uring-setup-only-mkdirat"))
    with Pool(2) as pool:
        results = pool.run([Arm(spec, config(), config(), 2_000_000)] * 400)
    assert all(isinstance(one, Result) and made_directory(one) for one in results)


@pytest.mark.parametrize(
    ("identity", "stance"),
    [
        pytest.param("kill-process/broken-lease", "container", id="a call that fails and acts"),
        pytest.param("read-process-memory/proc-environment", "container", id="a new program"),
        pytest.param("change-user-id/execve-set-user-id", "root", id="a child that was just made"),
    ],
)
def test_what_comes_a_moment_later_is_always_seen(identity: str, stance: str) -> None:
    variant = library.find_variant(identity)
    control = config(posture=stance)
    arm = arm_of(variant, program_spec(variant), control, control, 2_000_000)
    with Pool(2) as pool:
        results = pool.run([arm] * 1000)
    assert all(isinstance(one, Result) and grade(variant, one) is Grade.EXACT for one in results)


TOUCHES = {
    "mode": [call("chmod", Addr(0), 0o700), call("chmod", Addr(0), 0o755)],
    "times": [call("utime", Addr(0), 0)],
    "attribute": [
        call("setxattr", Addr(0), Addr(1), Addr(1), 4, 0),
        call("removexattr", Addr(0), Addr(1)),
    ],
    "entry": [call("mkdir", Addr(2), 0o755), call("rmdir", Addr(2))],
    "name": [call("rename", Addr(0), Addr(3)), call("rename", Addr(3), Addr(0))],
    "beside": [call("mkdir", Addr(3), 0o755), call("rmdir", Addr(3))],
}


@pytest.mark.parametrize("how", TOUCHES)
def test_a_fixture_is_made_anew_once_somebody_has_touched_it(sandbox: Sandbox, how: str) -> None:
    """The watermark is the directory's inode number; each touch leaves all as it looked before."""
    nothing = config(answers([MKDIR_NR], EPERM))
    untouched = [one.before.watermark for one in run(sandbox, MKDIR, nothing, times=3)]
    assert len(set(untouched)) == 1
    touch = program(*TOUCHES[how], texts=("d", "user.a", "d/x", "e"))
    (touched,) = run(sandbox, touch, config())
    assert [one.state for one in touched.records] == [RecordState.DONE] * len(TOUCHES[how])
    assert touched.before.watermark == untouched[0]
    (behind,) = run(sandbox, MKDIR, nothing)
    assert behind.before.watermark > untouched[0]
    assert not behind.before.names


def test_a_fixture_does_not_outlive_a_posture_that_may_mount(sandbox: Sandbox) -> None:
    nothing = config(answers([MKDIR_NR], EPERM), posture="root")
    marks = [one.before.watermark for one in run(sandbox, MKDIR, nothing, times=3)]
    assert len(set(marks)) == 3


def test_who_may_look_for_the_vdso_has_one() -> None:
    """Its address stands in the auxiliary vector and in the maps; the others do without."""
    families = library.load_families()
    looks = families["run-written-code"].default.variant("proc-mem-vdso")
    plain = families["create-directory"].default.variant("mkdir")
    assert program_spec(looks).flags & ProgramFlag.VDSO
    assert not program_spec(plain).flags & ProgramFlag.VDSO
    asks = replace(plain, program=program(call("prctl", 0x41555856, Addr(0), 8, 0, 0)))
    assert program_spec(asks).flags & ProgramFlag.VDSO
