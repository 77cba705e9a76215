"""Documents of a check, made up: one of every kind of item, and drawn ones full of hostile text."""

from hypothesis import strategies as st

from reports.check_schema import SCHEMA, Change, CheckDocument, Item, Place, Waived, Way
from reports.schema import Environment, Tool

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;"
HOSTILE = (
    MARKUP,
    "]]><!-- --> <![CDATA[",
    "\u202egnp.exe\u2066\u2069\u200f",
    "\x00\x01\x07\x1b[31mred\x7f\x85",
    "\ud800\udfff half",
    "a\nb\r\nc\td",
    "::set-output name=x::y\n::error::z\n##[add-mask]q",
    "\n::warning file=a,line=1::injected",
    "%0A::error::x%25",
    "| a | b |\n|---|---|\n`` ` ``` code",
    "# heading\n- list\n\n    indented\n> quote\n[text](http://example.invalid) ![i](x)",
    "{0} {1} [link](1) {{2}} \\[x](3)",
    "name,with:colons=and%percent",
    "\ufffe\uffff\ufdd0\U0001f600",
    "=cmd|' /C calc'!A0",
    "https://example.invalid www.example.invalid @user #1 a@b.example",
    "",
    " ",
    "X" * 10_000,
)

WAIVED = Waived("the build needs it until the cache moves", "team-build", "2027-01-31")
RING = Way(
    route="x86_64:io_uring_enter MKDIRAT",
    variant="create-directory/io-uring-mkdirat",
    technique="async-kernel",
    call='io_uring_enter -> MKDIRAT("made", 0755)',
    program=("io_uring_setup(8, 0x10000)", "mmap(...)", "io_uring_enter(3, 1, 1, GETEVENTS)"),
    cause="no rule names io_uring_setup, and the default allows",
    fix='add {"names": ["io_uring_setup"], "action": "SCMP_ACT_ERRNO"} to syscalls',
    place=Place("profiles/block-mkdir.json", 2, 20, "defaultAction"),
)


def item(profile: str, subject: str, status: str, says: str, **more: object) -> Item:
    found = {
        "id": f"{profile}::{subject}",
        "profile": profile,
        "subject": subject,
        "kind": "family",
        "posture": "container",
        "runtime_model": "runc-1.1/libseccomp-2.5.4",
        "place": Place(f"profiles/{profile}"),
        "message": f"must be held and is {says}",
    } | more
    return Item(status=status, says=says, **found)  # type: ignore[arg-type]


LEAKY = item(
    "block-mkdir.json",
    "create-directory",
    "fail",
    "leaky",
    message="must be held and is leaky: 1 of 7 routes gets through",
    detail=("`sidestep harden profiles/block-mkdir.json` proposes a change",),
    title="a directory exists that did not",
    attack_technique="T1074",
    ways=(RING,),
)
ITEMS = (
    item("block-mkdir.json", "profile", "pass", "", kind="profile", message=""),
    LEAKY,
    item("block-mkdir.json", "static-entry", "fail", "broken", kind="workload"),
    item(
        "block-mkdir.json",
        "create-file",
        "waived",
        "leaky",
        ways=(Way("x86_64:creat", "create-file/creat", "sibling-syscall", waived=WAIVED),),
    ),
    item("open.json", "send-signal", "fail", "untested"),
    item("open.json", "mount", "error", "harness", message="the judge died twice"),
    item("open.json", "open-socket", "warn", "newly-known", kind="baseline"),
    item(
        "open.json",
        "create-file x86_64:creat",
        "fail",
        "expired",
        kind="waiver",
        place=Place("profiles/sidestep.toml", 7),
    ),
    item("quiet.json", "create-directory", "pass", "held"),
)


def document(*items: Item, **more: object) -> CheckDocument:
    found = {
        "schema": SCHEMA,
        "library": "profiles",
        "expectations": "profiles/sidestep.toml",
        "suite": "2026.11",
        "environment": Environment("6.18.0", "x86_64", "2.5.4", "namespaces"),
        "tool": Tool("sidestep", "0.1.0"),
        "started": "2026-11-23T01:00:00+00:00",
        "exit_code": 1,
    } | more
    return CheckDocument(items=items, **found)  # type: ignore[arg-type]


EVERYTHING = document(
    *ITEMS, baseline="results/run.json", changes=(Change("kernel", "6.12.0", "6.18.0"),)
)

_text = (
    st.sampled_from(HOSTILE)
    | st.text(max_size=40)
    | st.builds("{}{}".format, *[st.sampled_from(HOSTILE)] * 2)
)
_number = st.integers(1, 10**6)
_place = st.builds(Place, _text, st.none() | _number, st.none() | _number, _text)
_waived = st.builds(Waived, _text, _text, _text)
_lines = st.lists(_text, max_size=2).map(tuple)
_way = st.builds(
    Way, _text, _text, _text, _text, _lines, _text, _text, st.none() | _place, st.none() | _waived
)
STATUSES = ("pass", "fail", "error", "waived", "warn", "listed", "of a later version")
_item = st.builds(
    Item,
    id=_text,
    profile=_text,
    subject=_text,
    kind=st.sampled_from(("family", "workload", "waiver", "profile", "baseline")) | _text,
    status=st.sampled_from(STATUSES),
    says=_text,
    title=_text,
    attack_technique=_text | st.just("T1222.002"),
    message=_text,
    detail=_lines,
    posture=_text,
    runtime_model=_text,
    place=st.none() | _place,
    ways=st.lists(_way, max_size=3).map(tuple),
    reruns=st.integers(0, 3),
    duration_s=st.floats(0, 100),
)
_environment = st.builds(Environment, _text, _text, _text, _text)
DOCUMENTS = st.builds(
    CheckDocument,
    schema=st.just(SCHEMA),
    library=_text,
    expectations=_text,
    suite=_text,
    environment=_environment,
    items=st.lists(_item, max_size=4).map(tuple),
    unexpected=_lines,
    changes=st.lists(st.builds(Change, _text, _text, _text), max_size=2).map(tuple),
    baseline=st.none() | _text,
    tool=st.builds(Tool, _text, _text),
    started=st.sampled_from(("", "2026-11-23T01:00:00+00:00", "now", "0001-01-01T00:00:00+14:00")),
    exit_code=st.integers(0, 4),
    simulated=st.booleans(),
)
