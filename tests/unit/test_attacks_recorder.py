"""The recorder: handles become slots, and what cannot be recorded is one line."""

import pytest

from attacks.consts import AT_FDCWD, O_CREAT, O_WRONLY
from attacks.effects import Effect, EffectKind
from attacks.errors import AttackError
from attacks.kernel import Kernel
from attacks.program import (
    Abi,
    Add,
    Addr,
    Const,
    Entry,
    Expect,
    Load,
    Print,
    Slot,
    Store,
    Syscall,
    Wait,
)
from attacks.recorder import Recording

pytestmark = pytest.mark.unit


def recorder(parent="d", **parameters):
    return Kernel(Recording(Effect(EffectKind.DIRECTORY, parent=parent), parameters))


def finish(k):
    return k.recording.finish()


def test_a_result_becomes_the_slot_of_its_operation():
    k = recorder()
    here = k.open(k.parent(), 0)
    k.mkdirat(here, k.name(), 0o755).decisive()
    assert finish(k).attack[1].args[0] == Slot(0)


def test_slots_count_setup_and_victim_first():
    k = recorder()
    k.getpid()
    fd = k.setup.open(k.parent(), 0)
    k.victim.getpid()
    k.fchmod(fd, 0).decisive()
    program = finish(k)
    assert [section for section, _ in program.flatten()] == ["setup", "victim", "attack", "attack"]
    assert program.attack[1].args[0] == Slot(0)


def test_bodies_are_numbered_before_what_follows_them():
    k = recorder()
    with k.child(k.fork()):
        k.getpid()
        k.mkdir(k.path(), 0).decisive()
    pid = k.geteuid()
    k.kill(pid, 0)
    program = finish(k)
    assert [op.name for _, op in program.flatten()] == [
        "fork",
        "getpid",
        "mkdir",
        "geteuid",
        "kill",
    ]
    assert program.attack[2].args[0] == Slot(3)


def test_a_result_of_a_later_section_cannot_be_used():
    k = recorder()
    fd = k.open(k.parent(), 0)
    k.setup.fchmod(fd, 0)
    k.mkdir(k.path(), 0).decisive()
    with pytest.raises(AttackError, match="not there yet"):
        finish(k)


def test_one_operation_must_be_decisive():
    k = recorder()
    k.mkdir(k.path(), 0)
    with pytest.raises(AttackError, match="0 decisive"):
        finish(k)


def test_the_decisive_operation_is_part_of_the_attack():
    k = recorder()
    k.setup.mkdir(k.path(), 0).decisive()
    with pytest.raises(AttackError, match="decisive"):
        finish(k)


def test_a_load_is_never_decisive():
    k = recorder()
    with pytest.raises(AttackError, match="Load"):
        k.load(k.buffer(8)).decisive()


def test_an_empty_body_is_refused():
    k = recorder()
    with pytest.raises(AttackError, match="empty"), k.child(k.fork()):
        pass


def test_a_program_that_is_too_long_is_refused():
    k = recorder()
    for _ in range(600):
        k.getpid()
    k.mkdir(k.path(), 0).decisive()
    with pytest.raises(AttackError, match="601 operations"):
        finish(k)


def test_other_tables_and_entries():
    k = recorder()
    calls = [k.i386, k.i386_sysenter, k.i386_far, k.x32]
    for other in calls:
        other.getpid()
    k.mkdir(k.path(), 0).decisive()
    found = [(op.abi, op.entry) for op in finish(k).attack]
    assert found == [
        (Abi.I386, Entry.INT80),
        (Abi.I386, Entry.SYSENTER),
        (Abi.I386, Entry.FAR_INT80),
        (Abi.X32, Entry.SYSCALL),
        (Abi.X86_64, Entry.SYSCALL),
    ]


def test_constants_keep_their_names():
    k = recorder()
    k.openat(AT_FDCWD, k.path(), O_CREAT | O_WRONLY, 0o644).decisive()
    args = finish(k).attack[0].args
    assert args[0] == Const(2**64 - 100, "AT_FDCWD")
    assert args[2:] == (Const(0o101, "O_CREAT|O_WRONLY"), Const(0o644, "0644"))


def test_wide_keeps_the_low_half():
    k = recorder()
    wide = k.wide(AT_FDCWD)
    k.mkdirat(wide, k.path(), 0).decisive()
    assert finish(k).attack[0].args[0].value == 0xDEADBEEFFFFFFF9C


def test_wide_of_a_result_is_an_addition():
    k = recorder()
    k.fchmod(k.wide(k.open(k.path(), 0)), 0).decisive()
    program = finish(k)
    assert isinstance(program.attack[1], Add)
    assert program.attack[2].args[0] == Slot(1)


def test_equal_texts_share_a_blob_and_buffers_do_not():
    k = recorder()
    assert k.text("x") == k.text("x")
    assert k.buffer(8) != k.buffer(8)


def test_a_structure_stores_what_is_not_constant():
    k = recorder()
    fd = k.open(k.path(), 0)
    layout = k.struct("IQxxH", 7, k.path(), fd)
    k.mkdir(layout, 0).decisive()
    program = finish(k)
    blob = program.blobs[layout.blob]
    assert blob.data == b"\7\0\0\0" + bytes(12)
    assert program.attack[1:3] == (
        Store(Addr(layout.blob), 4, 8, program.attack[0].args[0]),
        Store(Addr(layout.blob), 14, 2, Slot(0)),
    )


def test_a_descriptor_is_printed_into_a_path():
    k = recorder()
    path = k.proc_fd(k.open(k.parent(), 0), "/t")
    k.mkdir(path, 0).decisive()
    program = finish(k)
    assert program.blobs[path.blob].data == b"/proc/self/fd/"
    printed = program.attack[1]
    assert isinstance(printed, Print)
    assert printed.address == Addr(path.blob, 14)
    assert program.blobs[printed.suffix.blob].data == b"/t\0"


@pytest.mark.parametrize("path", ["/etc", "../x", "a/../../x"])
def test_relative_paths_stay_inside(path):
    with pytest.raises(AttackError, match="leaves the working directory"):
        recorder().relative(path)


def test_the_target_can_be_elsewhere():
    k = recorder(parent="/data")
    texts = [k.path(), k.absolute(), k.text(k.from_cwd()), k.source()]
    k.mkdir(texts[0], 0).decisive()
    blobs = finish(k).blobs
    assert [blobs[t.blob].data for t in texts] == [
        b"/data/t\0",
        b"/data/t\0",
        b"../data/t\0",
        b"/data/.src/t\0",
    ]


@pytest.mark.parametrize(
    ("parent", "content"), [("d", b"../src/t\0"), ("a/b", b"../../src/t\0"), ("/x", b".src/t\0")]
)
def test_a_link_leads_from_the_target_to_what_is_near(parent, content):
    k = recorder(parent=parent)
    link = k.link_to("src/t")
    k.symlink(link, k.path()).decisive()
    assert finish(k).blobs[link.blob].data == content


def test_a_ring_is_plain_operations():
    k = recorder()
    k.ring().mkdirat(AT_FDCWD, k.path(), 0o755).decisive()
    program = finish(k)
    calls = [op for op in program.attack if isinstance(op, Syscall)]
    assert [op.name for op in calls] == ["io_uring_setup", "mmap", "mmap", "io_uring_enter"]
    assert (calls[-1].decisive, calls[-1].opcode) == (True, "IORING_OP_MKDIRAT")
    assert isinstance(program.attack[-2], Load)
    assert program.attack[-1] == Expect(Slot(len(program.attack) - 2), 0x80000000, 0)


def test_a_polled_ring_from_before_needs_no_call():
    k = recorder()
    ring = k.setup.ring(sqpoll=True)
    ring.nop()
    ring.by(k).stores_only().mkdirat(AT_FDCWD, k.path(), 0o755).decisive()
    attack = finish(k).attack
    assert not any(isinstance(op, Syscall) for op in attack)
    decisive = [op for op in attack if isinstance(op, Store) and op.decisive]
    assert [op.value for op in decisive] == [Const(2)]
    assert any(isinstance(op, Wait) and op.value == Const(1) for op in attack)


def test_a_ring_has_room_for_four_operations():
    k = recorder()
    ring = k.ring()
    for _ in range(4):
        ring.nop()
    with pytest.raises(AttackError, match="more than 4"):
        ring.nop()
