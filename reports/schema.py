"""The results document as structs, and the columns of the tables made from it.

The meaning of every key stands here once, in its annotation; ``docs/data.md`` is generated from it.
Keys without a default must be there; the others may be missing from an older document or from a
candidate that could not be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from msgspec import Meta, Struct, field

SCHEMA = "sidestep.results/1"

VERDICTS = ("leaky", "open", "undecided", "not-enforced", "held here", "held", "untested")
HOLDING = ("held", "held here")
OUTCOMES = (
    "BYPASSED",
    "BLOCKED",
    "INEFFECTIVE",
    "UNSUPPORTED",
    "NOT_ENFORCED",
    "DISAGREEMENT",
    "HARNESS_ERROR",
    "SIMULATED",
)
WORKLOAD_OUTCOMES = ("works", "broken", "unavailable", "unstable")

Scalar = str | int | float | bool | None
Int = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
"""What a column of 64 bits can hold."""


class Tool(Struct, frozen=True):
    name: Annotated[str, "which program wrote the document"] = "sidestep"
    version: Annotated[str, "its version"] = ""


class Probe(Struct, frozen=True):
    name: Annotated[str, "what was probed"]
    value: Annotated[Scalar, "what was found"]
    meaning: Annotated[str, "what that means for the tests"] = ""
    ok: Annotated[bool, "false if something cannot be tested because of it"] = True


class AuditLog(Struct, frozen=True):
    """Whether the machine writes the records that filters ask for."""

    kept: Annotated[bool | None, "false if the kernel has no audit log or it is off"] = None
    actions_logged: Annotated[tuple[str, ...] | None, "actions that the kernel may log"] = None
    said: Annotated[str, "which records are not written here; empty if nothing is known"] = ""


class Environment(Struct, frozen=True):
    kernel: Annotated[str, "release of the running kernel"]
    arch: Annotated[str, "machine architecture"]
    libseccomp: Annotated[str, "version of libseccomp that compiled the filters"]
    isolation: Annotated[str, "how trials were kept apart from the machine"]
    lsm: Annotated[tuple[str, ...], "active security modules"] = ()
    ambient: Annotated[Mapping[str, Any], "confinement that was there before"] = field(
        default_factory=dict[str, Any]
    )
    user: Annotated[str, "who ran it: root or an ordinary user"] = ""
    probes: Annotated[tuple[Probe, ...], "what this machine can enforce and test"] = ()
    id_map: Annotated[Int, "number of user ids mapped into the sandbox"] = 0
    audit_log: Annotated[AuditLog, "what becomes of audit records"] = AuditLog()


class Gate(Struct, frozen=True):
    candidate: Annotated[str, "the candidate judged"]
    gate: Annotated[str, "what had to be true"]
    ok: Annotated[bool, "whether it was"]
    message: Annotated[str, "why not"] = ""


class Warn(Struct, frozen=True):
    """Something about the source that the author should know."""

    code: Annotated[str, "stable name of the kind of finding"]
    message: Annotated[str, "what was found"]
    where: Annotated[str, "JSON path or line in the source"] = ""
    witness: Annotated[str, "a call that shows it, checked against the filter; may be empty"] = ""
    confirmed_by: Annotated[str, "id of a variant whose trial showed it; empty if none did"] = ""


class Fault(Struct, frozen=True):
    """Why a candidate could not be used at all."""

    message: Annotated[str, "what is wrong"]
    where: Annotated[str, "JSON path or line in the source"] = ""
    code: Annotated[str, "stable name of the kind of error"] = ""


class Layer(Struct, frozen=True):
    kind: Annotated[str, "seccomp, no-new-privs, ..."]
    instructions: Annotated[Int, "BPF instructions, 0 if not a filter"] = 0
    flags: Annotated[tuple[str, ...], "flags the filter is loaded with"] = ()
    said: Annotated[str, "what it denies or leaves, if not a filter"] = ""


class Starts(Struct, frozen=True):
    loads: Annotated[bool | None, "the kernel accepts the filter"] = None
    runtime: Annotated[bool | None, "the runtime can finish its own work after loading it"] = None
    static: Annotated[bool | None, "a static program runs under it"] = None
    dynamic: Annotated[bool | None, "a dynamically linked program runs under it"] = None
    reason: Annotated[str, "the first call that stops it"] = ""


class GroundTruth(Struct, frozen=True):
    seccomp_mode: Annotated[Int | None, "Seccomp in /proc/PID/status: 2 is a filter"] = None
    seccomp_filters: Annotated[Int | None, "filters in force beyond those of the control"] = None
    no_new_privs: Annotated[bool | None, "NoNewPrivs in /proc/PID/status"] = None
    read_back: Annotated[str | None, "the loaded filter compared with ours, or why not"] = None
    capabilities: Annotated[Mapping[str, str], "sets that differ from the control's"] = field(
        default_factory=dict[str, str]
    )
    apparmor: Annotated[str, "AppArmor profile of the subject, if it differs"] = ""
    landlock_abi: Annotated[Int | None, "ABI of the kernel's Landlock; null: no ruleset"] = None
    landlock_rulesets: Annotated[Int | None, "rulesets in force beyond the control's"] = None


class StoppedAt(Struct, frozen=True):
    call: Annotated[str, "the call that was stopped"]
    abi: Annotated[str, "the ABI it was made through"]
    answer: Annotated[str, "what it was answered: EPERM, 0 (faked), SIGSYS (killed), ..."]
    decisive: Annotated[bool, "whether it is the operation that causes the effect"]
    layer: Annotated[str, "the kind of layer that stopped it"] = "seccomp"


class Aftermath(Struct, frozen=True):
    """What an answer of the filters leaves behind: facts about the filters, not the machine."""

    survives: Annotated[
        bool | None, "whether the process that made the call lives on; null: up to its program"
    ] = None
    audited: Annotated[
        bool | None, "whether the kernel is to write an audit record; null: not known"
    ] = None
    said: Annotated[str, "both in words"] = ""
    why: Annotated[str, "the action that answered, and what follows from it"] = ""


class Step(Struct, frozen=True):
    slot: Annotated[Int, "position in the program"]
    section: Annotated[str, "setup, victim or attack"]
    text: Annotated[str, "the operation as text"]
    abi: Annotated[str | None, "ABI of a call"] = None
    decisive: Annotated[bool, "whether this operation causes the effect"] = False
    control: Annotated[str | None, "its result without the candidate; null: not reached"] = None
    mitigated: Annotated[str | None, "its result under the candidate; null: not reached"] = None
    filter: Annotated[str | None, "what the filter decides on these arguments"] = None


class Trial(Struct, frozen=True):
    """One variant under one candidate: a control and a mitigated arm."""

    variant: Annotated[str, "stable id, family/variant"]
    technique: Annotated[str, "why it may get through"]
    assumption: Annotated[str, "what it takes for granted beyond running code"]
    outcome: Annotated[str, "BYPASSED, BLOCKED, INEFFECTIVE, UNSUPPORTED, ..."]
    control_effect: Annotated[str | None, "grade of the effect in the control arm"]
    mitigated_effect: Annotated[str | None, "grade of the effect under the candidate"]
    predicted: Annotated[str | None, "the simulated outcome, from the control's arguments"]
    stopped_at: Annotated[StoppedAt | None, "the first call that was stopped"]
    aftermath: Annotated[
        Aftermath | None, "of the call that was stopped, or of a decisive one that is logged"
    ] = None
    family: Annotated[str, "the effect it is after"] = ""
    title: Annotated[str, "text of the decisive operation"] = ""
    why: Annotated[str, "why a filter may miss it"] = ""
    grade: Annotated[str, "the grade the variant is known to reach"] = "exact"
    scope: Annotated[str, "in: it decides the verdict; else why it does not"] = "in"
    route: Annotated[str, "variants on one route are one way for this filter"] = ""
    reason: Annotated[str | None, "the cause of an outcome that decides nothing"] = None
    prerequisite_only: Annotated[bool, "blocked, but not on the decisive operation"] = False
    references: Annotated[tuple[str, ...], "where this is described"] = ()
    repeats: Annotated[Int, "how often it ran"] = 1
    agree: Annotated[bool, "whether all repeats agree"] = True
    latency_us: Annotated[Int, "time of the mitigated arm in microseconds"] = 0
    native: Annotated[bool, "the decisive operation is a call of the machine's own ABI"] = True
    negative: Annotated[bool, "a control that must not reach the effect"] = False
    derived_from: Annotated[str, "the variant that a rewrite made this one of; empty if none"] = ""
    beyond_seccomp: Annotated[bool, "gets through even if every call is denied"] = False
    reachable_elsewhere: Annotated[bool, "not testable here, but the filter would allow it"] = False
    length: Annotated[Int, "the number of operations"] = 0
    steps: Annotated[tuple[Step, ...], "the program, operation by operation"] = ()


class RouteCount(Struct, frozen=True):
    blocked: Annotated[Int, "distinct routes blocked"] = 0
    working: Annotated[Int, "distinct routes that work in the control arm"] = 0


class Search(Struct, frozen=True):
    seconds: Annotated[float, "seconds of search for a way that nobody recorded"]
    built: Annotated[Int, "programs that were built"]
    run: Annotated[Int, "programs that were run"]
    routes: Annotated[Int, "distinct routes among them"]
    ended: Annotated[str, "why the search ended"] = ""
    found: Annotated[tuple[str, ...], "ids of what it found, among the trials"] = ()


class Cause(Struct, frozen=True):
    """What lets some ways to an effect through."""

    variants: Annotated[tuple[str, ...], "ids of the variants, the shortest first"]
    kind: Annotated[str, "default-allows, rule-allows, condition-misses, no-call, ..."]
    call: Annotated[str, "abi:name of the decisive call, or of one before it to deny"]
    where: Annotated[str, "JSON path of the rule that lets it through, or of the list to add to"]
    said: Annotated[str, "one sentence"]
    fix: Annotated[str, "one line that closes them, proved by simulation; empty if there is none"]
    breaks: Annotated[str, "what ordinary programs do that the fix denies as well"] = ""


class AftermathCount(Struct, frozen=True):
    """Trials in scope that left the same behind."""

    outcome: Annotated[str, "BLOCKED, or BYPASSED where the way through is logged"]
    trials: Annotated[Int, "how many"]
    survives: Annotated[bool | None, "as in a trial"] = None
    audited: Annotated[bool | None, "as in a trial"] = None
    said: Annotated[str, "both in words"] = ""


class Family(Struct, frozen=True):
    """One effect under one candidate."""

    family: Annotated[str, "name of the effect"]
    verdict: Annotated[str, "leaky, open, undecided, not-enforced, held, held here, untested"]
    targeted: Annotated[bool, "whether the candidate is meant to stop it"]
    working: Annotated[Int, "variants in scope whose control reached the effect"]
    blocked: Annotated[Int, "of these, stopped by the candidate"]
    bypassed: Annotated[Int, "of these, still reaching the effect"]
    bypasses: Annotated[tuple[str, ...], "ids of the variants that got through, in scope"]
    reachable_elsewhere: Annotated[
        tuple[str, ...], "not testable here, but the filter would allow them"
    ]
    beside: Annotated[tuple[str, ...], "ids of those that got through outside the scope"] = ()
    title: Annotated[str, "the effect in words"] = ""
    attack_technique: Annotated[str | None, "MITRE ATT&CK technique, if there is one"] = None
    baseline: Annotated[str | None, "id of the variant a policy's author has in mind"] = None
    techniques: Annotated[tuple[str, ...], "distinct techniques that worked in the control"] = ()
    routes: Annotated[RouteCount, "distinct routes"] = RouteCount()
    untestable: Annotated[Int, "variants that cannot run on this machine"] = 0
    undecided: Annotated[tuple[str, ...], "ids of variants whose outcome decides nothing"] = ()
    shortest_bypass: Annotated[str | None, "the bypass with the fewest operations"] = None
    summary: Annotated[str, "one sentence"] = ""
    reason: Annotated[str, "why this verdict"] = ""
    search: Annotated[Search | None, "a search beyond the recorded ways, if there was one"] = None
    by_technique: Annotated[Mapping[str, RouteCount], "routes for each technique"] = field(
        default_factory=dict[str, RouteCount]
    )
    causes: Annotated[tuple[Cause, ...], "what lets the bypasses through, and closes them"] = ()
    aftermaths: Annotated[tuple[AftermathCount, ...], "what its blocks leave behind"] = ()
    stopped_by: Annotated[Mapping[str, Int], "blocked ways by the kind of layer"] = field(
        default_factory=dict[str, int]
    )


class Workload(Struct, frozen=True):
    """One honest program under one candidate."""

    workload: Annotated[str, "name of the honest program"]
    works: Annotated[bool, "whether it runs under the candidate"]
    title: Annotated[str, "what it does"] = ""
    works_in_control: Annotated[bool, "whether it runs, time and again, without it"] = True
    reason: Annotated[str | None, "why not"] = None
    output: Annotated[str, "the end of what it printed"] = ""
    outcome: Annotated[str, "works, broken, unavailable (not installed here) or unstable"] = ""
    denied: Annotated[tuple[StoppedAt, ...], "what broke it was denied these, in order"] = ()
    needs: Annotated[tuple[StoppedAt, ...], "with these allowed it works, without any not"] = ()


class Candidate(Struct, frozen=True):
    """One mitigation under evaluation."""

    name: Annotated[str, "name of the candidate"]
    source: Annotated[str, "where it came from"]
    valid: Annotated[bool, "false if the source could not be used; see the findings"]
    enforced: Annotated[bool | None, "whether the kernel confirms that it is in force"] = None
    starts: Annotated[Starts, "whether a container can start under it"] = Starts()
    posture: Annotated[str | None, "what the subject may do before the candidate"] = None
    runtime_model: Annotated[str, "runtime and libseccomp whose filter this is"] = ""
    ground_truth: Annotated[GroundTruth, "read from the kernel"] = GroundTruth()
    warnings: Annotated[tuple[Warn, ...], "remarks on the source"] = ()
    robustness: Annotated[float | None, "held / targeted"] = None
    routes: Annotated[float | None, "mean share of blocked routes in targeted families"] = None
    routes_blocked: Annotated[Int, "routes blocked in targeted families"] = 0
    routes_working: Annotated[Int, "of so many that work in the control arm"] = 0
    utility: Annotated[float | None, "workloads that work / those that work in the control"] = None
    works: Annotated[Int, "workloads that work, of those that work in the control"] = 0
    works_in_control: Annotated[Int, "workloads that work in the control"] = 0
    counted: Annotated[Mapping[str, str], "`2 of 3`, or why it is null, by score"] = field(
        default_factory=dict[str, str]
    )
    families: Annotated[tuple[Family, ...], "verdicts"] = ()
    trials: Annotated[tuple[Trial, ...], "every variant"] = ()
    workloads: Annotated[tuple[Workload, ...], "honest programs"] = ()
    digest: Annotated[str, "of the layers; equal digests are equal mitigations"] = ""
    instructions: Annotated[Int, "BPF instructions of all filters"] = 0
    intent: Annotated[str, "what it is meant to stop"] = ""
    attachment: Annotated[str, "runtime or self"] = ""
    meaning: Annotated[str, "how the source was read: oci, docker, raw"] = ""
    default_action: Annotated[str, "what happens to a call that no rule names"] = ""
    layers: Annotated[tuple[Layer, ...], "what is put on, in order"] = ()
    errors: Annotated[tuple[Fault, ...], "why it could not be used"] = ()
    profile_text: Annotated[str, "the source, at most 64 KiB"] = ""
    notes: Annotated[tuple[str, ...], "remarks on the run"] = ()
    counts: Annotated[Mapping[str, Int], "trials by outcome"] = field(
        default_factory=dict[str, int]
    )
    targeted: Annotated[Int, "families it is meant to stop"] = 0
    held: Annotated[Int, "of these, held"] = 0
    duration_s: Annotated[float, "seconds spent on it"] = 0.0
    simulated: Annotated[bool, "nothing was run: its verdicts are predictions"] = False


class Document(Struct, frozen=True):
    """One run: what ``run.json`` holds."""

    schema: Annotated[str, "name and version of this format"]
    environment: Annotated[Environment, "the machine"]
    suite: Annotated[str, "the frozen list of variants that judged"]
    candidates: Annotated[tuple[Candidate, ...], "the mitigations"]
    objective: Annotated[str | None, "what had to hold, if named"] = None
    assume: Annotated[tuple[str, ...], "assumptions that count as in scope"] = ()
    tool: Annotated[Tool, "the program"] = Tool()
    started: Annotated[str, "ISO 8601"] = ""
    duration_s: Annotated[float, "seconds"] = 0.0
    exit_code: Annotated[Int, "exit code of the command"] = 0
    gates: Annotated[tuple[Gate, ...], "what had to be true"] = ()
    arguments: Annotated[tuple[str, ...], "the command line"] = ()
    simulated: Annotated[bool, "nothing was run: all verdicts are predictions"] = False


class Finding(Struct, frozen=True):
    """A remark on a candidate's source: warnings, errors and notes in one table."""

    severity: Annotated[str, "error, warning or note"]
    code: Annotated[str, "stable name of the kind of finding; empty for notes"]
    message: Annotated[str, "what was found"]
    where: Annotated[str, "JSON path or line in the source"]
    witness: Annotated[str, "a call that shows it; empty for errors and notes"] = ""
    confirmed_by: Annotated[str, "id of a variant whose trial showed it; empty if none did"] = ""


class Column(Struct, frozen=True):
    """One column; ``path`` leads from the row's object to the value."""

    name: str
    dtype: str
    nullable: bool
    meaning: str
    path: tuple[str, ...]


class Table(Struct, frozen=True):
    """One table: its rows are ``row`` objects, flattened, after the candidate's name."""

    name: str
    meaning: str
    row: type[Any]
    columns: tuple[Column, ...]


DTYPES = {str: "string", int: "Int64", float: "Float64", bool: "boolean"}
"""pandas' own nullable types, so that a missing number stays a whole number."""
_LISTED = (Step, Cause, AftermathCount)
"""What a column may hold a list of."""


def described(cls: type[Any]) -> dict[str, tuple[Any, str]]:
    """Type and meaning of every field, in order."""
    types, hints = get_type_hints(cls), get_type_hints(cls, include_extras=True)
    return {name: (types[name], hints[name].__metadata__[-1]) for name in cls.__struct_fields__}


def split_optional(kind: Any) -> tuple[Any, bool]:
    """The type without ``None``, and whether ``None`` was part of it."""
    if get_origin(kind) in (Union, UnionType):
        members = [member for member in get_args(kind) if member is not type(None)]
        if len(members) == 1:
            return members[0], True
    return kind, False


def _columns(
    cls: type[Any], prefix: tuple[str, ...] = (), *, nullable: bool = False
) -> list[Column]:
    found: list[Column] = []
    for name, (annotated, meaning) in described(cls).items():
        kind, optional = split_optional(annotated)
        path = (*prefix, name)
        missing = optional or nullable
        if isinstance(kind, type) and issubclass(kind, Struct):
            found += _columns(kind, path, nullable=missing)
        elif kind in DTYPES:
            found.append(Column("_".join(path), DTYPES[kind], missing, meaning, path))
        elif get_origin(kind) is tuple and get_args(kind)[0] in (str, *_LISTED):
            dtype = "list of string" if get_args(kind)[0] is str else "list of struct"
            found.append(Column("_".join(path), dtype, missing, meaning, path))
    return found


def _table(name: str, meaning: str, row: type[Any]) -> Table:
    key = Column("candidate", "string", False, "name of the candidate", ())
    columns = [column for column in _columns(row) if (row, column.name) != (Candidate, "name")]
    return Table(name, meaning, row, (key, *columns))


TABLES = {
    table.name: table
    for table in (
        _table("candidates", "One row for each candidate.", Candidate),
        _table("families", "One row for each candidate and family.", Family),
        _table("trials", "One row for each candidate and variant.", Trial),
        _table("workloads", "One row for each candidate and workload.", Workload),
        _table("findings", "Remarks on the sources: errors, warnings, notes.", Finding),
    )
}
