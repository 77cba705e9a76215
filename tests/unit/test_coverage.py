"""What the library lacks of what it knows."""

from collections.abc import Iterable, Mapping

from attacks import library
from attacks.effects import Effect, EffectKind, Grade
from attacks.family import Assumption, Family, FamilyInstance, Technique
from attacks.kernel import Kernel
from attacks.ring import OPCODES
from evaluator.coverage import SIBLINGS, coverage, missing_siblings
from mitigations import x86_64

OTHERS = ("pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "tgkill", "tkill")


def family(
    calls: Mapping[str, Assumption],
    *,
    negative: Iterable[str] = (),
    unrecorded: Mapping[str, str] | None = None,
    grade: Grade = Grade.EXACT,
) -> FamilyInstance:
    """A family that gets its effect by each of these calls."""
    made = Family(
        "made-up",
        title="Made up",
        effect=lambda _: Effect(EffectKind.PROCESS),
        unrecorded=unrecorded or {},
    )
    for index, (name, assumption) in enumerate({**calls, **dict.fromkeys(negative)}.items()):

        def recipe(k: Kernel, name: str = name) -> None:
            """Made up."""
            k.raw(name, 1, 2).decisive()

        recipe.__name__ = name
        made.variant(
            Technique.SIBLING_SYSCALL if index else Technique.BASELINE,
            assumption=assumption or Assumption.NONE,
            grade=grade,
            negative=assumption is None,
        )(recipe)
    return made.default


def test_siblings_that_a_family_lacks_are_named_by_call() -> None:
    assert missing_siblings([family({"kill": Assumption.NONE})]) == {"made-up": {"kill": OTHERS}}


def test_what_is_recorded_is_not_lacking() -> None:
    calls = dict.fromkeys(("kill", *OTHERS[1:]), Assumption.NONE)
    found = missing_siblings([family(calls)])
    assert found == {"made-up": {"kill": ("pidfd_send_signal",)}}
    assert not missing_siblings([family({**calls, "pidfd_send_signal": Assumption.NONE})])


def test_what_rewrites_make_is_not_lacking() -> None:
    directory = library.load_families()["create-directory"].default
    assert SIBLINGS["mkdir"] == {"mkdirat", "IORING_OP_MKDIRAT"}
    assert not missing_siblings([directory.only(["create-directory/mkdir"])])


def test_what_is_known_not_to_do_it_is_not_lacking() -> None:
    one = family(
        {"kill": Assumption.NONE},
        negative=["tkill"],
        unrecorded={"tgkill of another thread": "a reason", "rt_sigqueueinfo": "another"},
    )
    lacking = ("pidfd_send_signal", "rt_tgsigqueueinfo")
    assert missing_siblings([one]) == {"made-up": {"kill": lacking}}


def test_only_what_decides_a_verdict_asks_for_siblings() -> None:
    inherited = Assumption.INHERITED_DESCRIPTOR
    assert not missing_siblings([family({"kill": inherited})])
    assert not missing_siblings([family({"kill": Assumption.NONE}, grade=Grade.EQUIVALENT)])
    found = missing_siblings([family({"kill": Assumption.NONE, "tkill": inherited})])
    assert "tkill" not in found["made-up"]["kill"]


def test_what_goes_one_way_does_not_go_the_other() -> None:
    assert "clone3" in SIBLINGS["fork"]
    assert "fork" not in SIBLINGS["clone3"]


def test_siblings_are_calls() -> None:
    names = {*SIBLINGS, *(name for some in SIBLINGS.values() for name in some)}
    rings = {f"IORING_OP_{name}" for name in OPCODES}
    assert not [one for one in names - rings if x86_64.number("x86_64", one) is None]


def test_calls_are_counted_by_table() -> None:
    alone = library.load_families()["create-directory"].default.only(["create-directory/mkdir"])
    native, i386, *_ = coverage([alone])
    assert native.used == {"mkdir": 1}
    assert "mkdirat" in native.unused
    assert not i386.used
