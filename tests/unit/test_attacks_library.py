"""Promises that every recorded variant keeps, and references to families."""

import subprocess
import sys
import time

import pytest

from attacks.effects import Grade
from attacks.errors import AttackError
from attacks.family import Assumption, Family, Need, Technique
from attacks.library import (
    SUITE,
    Suite,
    current_suite,
    family,
    find_variant,
    load_families,
    parse_reference,
    suite,
)
from attacks.program import (
    ARENA_SIZE,
    MAX_OPERATIONS,
    Abi,
    Addr,
    Print,
    Slot,
    Syscall,
    is_decisive,
    operands,
)
from attacks.rewrites import derived

pytestmark = pytest.mark.unit

FAMILIES = sorted(load_families())
VARIANTS = [v for name in FAMILIES for v in family(name).default.variants]


def test_the_first_seven_families_are_there():
    assert {
        "create-directory",
        "create-file",
        "create-filesystem-object",
        "delete-file",
        "change-mode",
        "execute-program",
        "create-process",
    } <= set(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_one_baseline(name):
    baselines = [v for v in family(name).default.variants if v.technique is Technique.BASELINE]
    assert len(baselines) == 1
    assert (baselines[0].assumption, baselines[0].grade) == (Assumption.NONE, Grade.EXACT)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_negative_control(name):
    assert any(v.negative for v in family(name).default.variants)


@pytest.mark.parametrize("name", sorted(load_families()))
def test_every_effect_is_tried_through_the_32_bit_table(name):
    """Recorded, or made by the rewrite: else who forgets that table would seem to hold it."""
    recorded = family(name).default.variants
    tried = [one for one in (*recorded, *derived(recorded)) if not one.negative]
    calls = [op for one in tried for _, op in one.program.flatten() if isinstance(op, Syscall)]
    assert any(call.decisive and call.abi is Abi.I386 for call in calls)


def test_ids_are_unique():
    ids = [v.id for v in VARIANTS]
    assert sorted(set(ids)) == sorted(ids)


def the_reason_is_a_sentence(variant):
    assert variant.why.endswith(".")
    assert len(variant.why) > 20


def one_decisive_operation_in_the_attack(variant):
    decisive = [section for section, op in variant.program.flatten() if is_decisive(op)]
    assert decisive == ["attack"]


def operands_refer_to_earlier_operations(variant):
    for index, (_, op) in enumerate(variant.program.flatten()):
        slots = [value.index for value in operands(op) if isinstance(value, Slot)]
        assert all(slot < index for slot in slots)


def programs_are_within_the_limits(variant):
    assert len(variant.program.flatten()) <= MAX_OPERATIONS
    assert len(variant.program.arena()) <= ARENA_SIZE


def paths_stay_where_a_trial_happens(variant):
    """Absolute paths are procfs, a device, the working directory, or a file only executed."""
    flat = variant.program.flatten()
    rooted = ("chroot", "openat2")  # which may make another directory the root
    chroots = any(isinstance(op, Syscall) and op.name in rooted for _, op in flat)
    allowed = (b"/proc/", b"/work/", b"/dev/", b"/bin/sh\0", b"/lib64/ld-linux-x86-64.so.2\0")
    suffixes = {
        op.suffix.blob for _, op in flat if isinstance(op, Print) and isinstance(op.suffix, Addr)
    }
    for index, blob in enumerate(variant.program.blobs):
        if (
            blob.data.startswith(b"/")
            and blob.data != b"/\0"
            and index not in suffixes
            and not chroots
        ):
            assert blob.data.startswith(allowed)


def what_was_there_before_the_filter_is_an_assumption(variant):
    if variant.assumption is Assumption.NONE:
        assert not variant.program.setup


PROMISES = (
    the_reason_is_a_sentence,
    one_decisive_operation_in_the_attack,
    operands_refer_to_earlier_operations,
    programs_are_within_the_limits,
    paths_stay_where_a_trial_happens,
    what_was_there_before_the_filter_is_an_assumption,
)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda one: one.id)
def test_a_variant_keeps_every_promise(variant):
    for promise in PROMISES:
        promise(variant)


def test_digests_are_stable():
    first = {v.id: v.program.digest() for v in VARIANTS}
    again = {
        v.id: v.program.digest() for name in FAMILIES for v in family(name).instance().variants
    }
    assert again == first


def test_digests_differ():
    digests = [(v.program.digest(), v.family) for v in VARIANTS]
    repeated = {pair for pair in digests if digests.count(pair) > 1}
    allowed = {(v.program.digest(), v.family) for v in VARIANTS if v.objects}
    assert repeated <= allowed


def test_the_suite_is_current():
    recipes = {f"{f.name}/{one.name}" for f in load_families().values() for one in f.recipes}
    assert recipes <= suite().variants.keys()
    differences = suite().differences()
    assert not differences, "freeze them into the next suite: tests/freeze_suite.py"


@pytest.mark.parametrize(
    "reference",
    [
        "open-socket[family=AF_PACKET,type=SOCK_RAW]",
        "open-socket[family=AF_UNIX]",
        "create-node[type=S_IFSOCK]",
        "create-node[type=S_IFCHR]@/dev",
        "new-namespace[type=CLONE_NEWTIME]",
        "change-mode[bits=04000]@/data",
        "change-owner[uid=0,gid=5]",
        "create-directory@/etc",
        "use-io-uring[opcode=IORING_OP_NOP]",
    ],
)
def test_the_suite_holds_what_only_some_parameters_have(reference):
    """What is not in the suite is not run, and what is not run would seem to be held."""
    instance = parse_reference(reference)
    made = {one.name for one in (*instance.variants, *derived(instance.variants))}
    names = {f"{instance.family.name}/{name}" for name in made}
    assert names <= suite().variants.keys()


def test_a_suite_names_what_changed():
    frozen = Suite(SUITE, dict(current_suite().variants))
    first, second = sorted(frozen.variants)[:2]
    frozen.variants[first] = "0" * 16
    del frozen.variants[second]
    frozen.variants["x/y"] = "1" * 16
    assert frozen.differences() == sorted([f"{first}: changed", f"{second}: new", "x/y: gone"])


def test_parameters_and_target_make_another_instance():
    instance = parse_reference("change-mode[bits=04000]@/data/")
    assert instance.label == "change-mode[bits=04000]@/data"
    assert instance.effect.path == "/data/t"
    assert instance.baseline.id == "change-mode[bits=04000]@/data/chmod"
    assert instance.baseline.name == "chmod"
    assert instance.baseline.objects[0].path == "/data"
    assert "setxattr-acl" not in [v.name for v in instance.variants]


def test_a_default_value_is_not_part_of_the_label():
    assert parse_reference("change-mode[bits=0o44]").label == "change-mode"


def test_what_cannot_be_moved_is_left_out_elsewhere():
    names = [v.name for v in parse_reference("create-file@/data").variants]
    assert "overlay-copy-up-open" not in names


@pytest.mark.parametrize("name", [n for n in FAMILIES if family(n).has_target])
def test_every_family_records_for_a_target(name):
    instance = parse_reference(f"{name}@/data")
    assert all(v.effect.parent == "/data" for v in instance.variants)


def test_the_default_instance_is_recorded_once():
    assert parse_reference("create-file") is parse_reference("create-file")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("create-dirctory", "did you mean 'create-directory'?"),
        ("zzzzzz", "unknown family 'zzzzzz'"),
        ("", "is not of the form"),
        ("change-mode[bits]", "'bits' is not of the form"),
        ("change-mode[bits=x]", "'bits=x' is not of the form"),
        ("change-mode[depth=1]", "no parameter 'depth' (known: bits)"),
        ("change-mode[bits=0600]", "0600 is set before"),
        ("create-file@data", "must be an absolute path"),
        ("create-file@/a/../b", "must be an absolute path"),
        ("create-file@/", "below /"),
        ("create-file@/" + "a" * 48, "longer than 48 bytes"),
        ("create-file[a=1]]", "is not of the form"),
    ],
)
def test_a_bad_reference_is_one_clear_line(reference, message):
    with pytest.raises(AttackError) as error:
        parse_reference(reference)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_variant_names_the_nearest():
    with pytest.raises(AttackError, match="did you mean 'mkdirat'"):
        find_variant("create-directory/mkdirt")


def test_a_broken_recipe_is_reported_with_its_id():
    broken = Family("broken", "Broken", effect=family("create-file").effect)

    @broken.variant(Technique.BASELINE)
    def forgets(k):
        """Marks nothing as decisive."""
        k.getpid()

    with pytest.raises(AttackError, match="broken/forgets: 0 decisive"):
        broken.instance().variants  # noqa: B018 - they are recorded when somebody asks


def test_a_recipe_without_a_reason_is_refused():
    silent = Family("silent", "Silent", effect=family("create-file").effect)
    with pytest.raises(AttackError, match="silent/quiet"):

        @silent.variant(Technique.BASELINE)
        def quiet(k):
            k.getpid().decisive()


@pytest.mark.slow
def test_the_library_loads_fast():
    code = "from attacks.library import *; [f.default for f in load_families().values()]"
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 2.0  # 0.7 s where nothing else runs


@pytest.mark.parametrize(
    ("reference", "needed"),
    [
        ("open-socket", False),
        ("open-socket[family=17,type=3]", True),
        ("open-socket[type=SOCK_RAW,protocol=1]", True),
        ("open-socket[family=16,type=3]", False),
    ],
)
def test_what_is_needed_can_depend_on_parameters(reference, needed):
    for variant in parse_reference(reference).variants:
        assert (Need.CAP_NET_RAW in variant.needs) is needed


def test_constants_have_their_names():
    by_name = parse_reference("open-socket[family=AF_VSOCK]")
    assert by_name.label == "open-socket[family=AF_VSOCK]"
    assert parse_reference("open-socket[family=40]").label == by_name.label
    assert parse_reference("use-io-uring[opcode=IORING_OP_NOP]").parameters == {"opcode": 0}
    with pytest.raises(AttackError, match="did you mean 'AF_VSOCK'"):
        parse_reference("open-socket[family=AF_VSOCKS]")
    with pytest.raises(AttackError, match="is not of the form parameter=number"):
        parse_reference("change-mode[bits=S_ISUID]")
