"""What the command prints for people: within 80 columns, with or without colour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attacks.text import program_text
from evaluator.records import Probe, Starts, TrialRecord
from evaluator.terminal import printable
from evaluator.verdict import HOLDING, Outcome, Scope, Verdict

if TYPE_CHECKING:
    from attacks.family import FamilyInstance, Variant
    from evaluator.coverage import Coverage
    from evaluator.records import FamilyCheck

_NAME_WIDTH = 30
_FEW = 12
"""So many families are shown in any case."""
_LISTED = 4
"""So many families are named in a line of the text."""
_EXPECTED = (Verdict.OPEN, Verdict.UNTESTED)
"""What a family that is not targeted is, mostly."""

# The word carries the meaning; mark and colour only repeat it.
_STYLES = {
    Verdict.LEAKY: ("✗", "x", "bold red"),
    Verdict.OPEN: ("○", "o", "yellow"),
    Verdict.UNDECIDED: ("?", "?", "magenta"),
    Verdict.NOT_ENFORCED: ("!", "!", "magenta"),
    Verdict.HELD_HERE: ("✓", "+", "cyan"),
    Verdict.HELD: ("✓", "+", "bold green"),
    Verdict.UNTESTED: ("·", "-", "dim"),
}
_ORDER = list(_STYLES)
_VERBS = {
    Verdict.LEAKY: "leaks in",
    Verdict.OPEN: "leaves open",
    Verdict.UNDECIDED: "leaves undecided",
    Verdict.NOT_ENFORCED: "does not enforce",
    Verdict.UNTESTED: "leaves untested",
    Verdict.HELD_HERE: "holds here",
    Verdict.HELD: "holds",
}
_FILTERS = {"seccomp", "no-new-privs"}
_BESIDE = {
    Scope.ASSUMPTION: "under an assumption",
    Scope.GRADE: "with an equivalent effect only",
    Scope.BEYOND_SECCOMP: "without any system call",
}
_COMPARED = ("robustness", "utility")
_START_PARTS = ("loads", "runtime", "static", "dynamic")
_PREDICTION = "PREDICTION ONLY: nothing was run, and no verdict here is evidence"
_NOTHING = (0, "0", "", "none", "unconfined", "disabled")


def show(console: Console, document: Mapping[str, Any]) -> None:
    """A block for each candidate, a comparison if there are several, and the gates."""
    _show_environment(console, document)
    if document.get("simulated"):
        console.print(Text(_PREDICTION, "bold yellow"))
    candidates = document["candidates"]
    for candidate in candidates:
        console.print()
        if candidate["valid"]:
            _show_candidate(console, candidate)
        else:
            console.print(_headline(candidate))
    if len(candidates) > 1:
        console.print()
        _show_comparison(console, candidates)
    _show_gates(console, document["gates"])


def _show_environment(console: Console, document: Mapping[str, Any]) -> None:
    """The threat model without which no score may be read."""
    environment = document["environment"]
    assume = ", ".join(document.get("assume", ())) or "nothing"
    parts = [
        f"suite {document['suite']}",
        f"objective {document['objective']}" if document["objective"] else "no objective",
        f"assuming {assume}",
        f"Linux {environment['kernel']} {environment['arch']}",
        f"libseccomp {environment['libseccomp']}",
    ]
    if not document.get("simulated"):
        parts.append(f"{environment['isolation']} as {environment.get('user', 'root')}")
    console.print(_dim(", ".join(parts)))
    there = ", ".join(
        f"{name}: {value}"
        for name, value in environment["ambient"].items()
        if value not in _NOTHING and value is not None and not name.startswith("Cap")
    )
    if there:
        console.print(_dim(f"already in force before we came: {there}"))
    if environment["audit_log"]["said"]:
        console.print(_dim(environment["audit_log"]["said"]))


def _show_candidate(console: Console, candidate: Mapping[str, Any]) -> None:
    console.print(_headline(candidate))
    source, model = candidate["source"], candidate["runtime_model"]
    setting = ", ".join(part for part in (model, f"posture {candidate['posture']}") if part)
    together = f"{source}, {setting}"
    for line in [together] if len(together) <= console.width - 2 else [source, setting]:
        console.print(_indented(_dim(line)))
    console.print(_indented(_starts_line(candidate)))
    console.print(_indented(_scores_line(candidate)))
    if _telling(candidate):
        console.print(_families_table(console, candidate))
    for line in _closing_lines(candidate):
        console.print(_indented(line))
    for line in _workload_lines(candidate):
        console.print(_indented(line))
    for line in _layer_lines(candidate):
        console.print(_indented(line))
    for line in _aftermath_lines(candidate):
        console.print(_indented(line))
    silent = Text(_silent(candidate))
    for line in (silent, _beside_line(candidate), _warnings_line(candidate)):
        if line:
            console.print(_indented(line))


def _layer_lines(candidate: Mapping[str, Any]) -> Iterator[Text]:
    """What is to be known of the run, and which of several layers stopped how many ways."""
    for note in candidate["notes"]:
        yield Text(printable(note), "yellow")
    if {layer["kind"] for layer in candidate["layers"]} <= _FILTERS:
        return
    by_layer: dict[str, list[str]] = {}
    for family in sorted(_telling(candidate), key=_family_order):
        for layer, count in family["stopped_by"].items():
            by_layer.setdefault(layer, []).append(f"{printable(family['family'])} ({count})")
    for layer, families in by_layer.items():
        more = len(families) - _LISTED
        rest = f" and {more} more" if more > 0 else ""
        yield _dim(f"stopped by {layer}: {', '.join(families[:_LISTED])}{rest}")


def _aftermath_lines(candidate: Mapping[str, Any]) -> Iterator[Text]:
    """Whether anybody can notice an attempt, and make another: by what families have in common."""
    alike: dict[str, list[str]] = {}
    for family in sorted(_telling(candidate), key=_family_order):
        for one in family["aftermaths"] if family["targeted"] else ():
            place = f"{printable(family['family'])} ({one['trials']})"
            alike.setdefault(one["said"], []).append(place)
    for said, families in alike.items():
        more = len(families) - _LISTED
        rest = f" and {more} more" if more > 0 else ""
        yield _dim(f"{said}: {', '.join(families[:_LISTED])}{rest}")


def _workload_lines(candidate: Mapping[str, Any]) -> Iterator[Text]:
    """The honest programs that do not work, and those of which nothing is known."""
    for one in candidate["workloads"]:
        reason = f": {one['reason']}" if one["reason"] else ""
        said = printable(f"{one['workload']}{reason}")
        if one["works_in_control"] and not one["works"]:
            yield Text(f"breaks {said}", "red")
        elif one.get("outcome") in ("unstable", "unavailable"):
            yield Text(f"{one['outcome']}: {said}", "yellow")


def _beside_line(candidate: Mapping[str, Any]) -> Text:
    """What gets through and decides nothing, so that nobody takes a verdict for more than it is."""
    targeted = {family["family"] for family in candidate["families"] if family["targeted"]}
    scopes = [
        trial["scope"]
        for trial in candidate["trials"]
        if trial["outcome"] == Outcome.BYPASSED and trial.get("family") in targeted
    ]
    counts = {text: scopes.count(scope) for scope, text in _BESIDE.items() if scope in scopes}
    if not counts:
        return Text()
    shares = ", ".join(f"{count} {text}" for text, count in counts.items())
    return _dim(f"not counted, but through: {shares}")


def _warnings_line(candidate: Mapping[str, Any]) -> Text:
    warnings = candidate["warnings"]
    if not warnings:
        return Text()
    more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
    noun = "warning" if len(warnings) == 1 else "warnings"
    first = warnings[0]
    seen = f", as {printable(first['confirmed_by'])} showed" if first.get("confirmed_by") else ""
    said = f"{printable(first['message'])}{seen}"
    return Text(f"{len(warnings)} {noun}: {said}{more}", "yellow")


def _headline(candidate: Mapping[str, Any]) -> Text:
    name = Text(printable(candidate["name"]), "bold")
    return name.append(f": {_answer(candidate)}", _headline_style(candidate))


def _answer(candidate: Mapping[str, Any]) -> str:
    """What a reader wants to know first, in one clause."""
    if not candidate["valid"]:
        if not candidate["errors"]:
            return "invalid: no reason was recorded"
        first = candidate["errors"][0]
        where = f"{first['where']}: " if first["where"] else ""
        return printable(f"invalid: {where}{first['message']}")
    if candidate.get("simulated"):
        return f"predicted: {_shares(candidate)}"
    if not candidate["enforced"]:
        part = candidate.get("counts", {}).get(Outcome.BLOCKED)
        return f"in force in part: {_shares(candidate)}" if part else "not in force here"
    if _does_not_start(candidate):
        return "does not start"
    return _shares(candidate)


def _shares(candidate: Mapping[str, Any]) -> str:
    """How many of the targeted families have which verdict."""
    targeted = [family["verdict"] for family in candidate["families"] if family["targeted"]]
    if not targeted:
        undecided = any(one["verdict"] == Verdict.UNDECIDED for one in candidate["families"])
        return "undecided" if undecided else "stops nothing that was tried"
    shares = [
        f"{verb} {targeted.count(verdict)}"
        for verdict, verb in _VERBS.items()
        if verdict in targeted
    ]
    noun = "family" if len(targeted) == 1 else "families"
    return f"{', '.join(shares)} of {len(targeted)} targeted {noun}"


def _does_not_start(candidate: Mapping[str, Any]) -> bool:
    if candidate["attachment"] == "self":
        return False
    starts = candidate["starts"]
    return Starts(*(starts[name] for name in _START_PARTS)).ok is False


def _headline_style(candidate: Mapping[str, Any]) -> str:
    verdicts = {family["verdict"] for family in candidate["families"] if family["targeted"]}
    if not candidate["valid"] or Verdict.LEAKY in verdicts:
        return "bold red"
    if verdicts and verdicts <= HOLDING and candidate["enforced"]:
        return "bold green"
    return "bold yellow"


def _starts_line(candidate: Mapping[str, Any]) -> Text:
    starts = candidate["starts"]
    words = {True: "yes", False: "no", None: "not tried"}
    answers = [starts[name] for name in _START_PARTS]
    if all(answers):
        return Text("starts: yes (loads, runtime, static, dynamic)")
    parts = [f"{name} {words[starts[name]]}" for name in _START_PARTS]
    reason = starts.get("reason")
    text = Text(f"starts: {', '.join(parts)}", "red" if False in answers else "")
    return text.append(f" ({printable(reason)})") if reason else text


def _scores_line(candidate: Mapping[str, Any]) -> Text:
    names = (*_COMPARED, "routes")
    return Text(", ".join(f"{name} {_score(candidate, name)}" for name in names))


def _score(candidate: Mapping[str, Any], name: str) -> str:
    """``0.67 (2 of 3)``, or a dash with the reason."""
    value, counted = candidate[name], candidate["counted"].get(name, "counts not recorded")
    return f"{'-' if value is None else f'{value:.2f}'} ({printable(counted)})"


def _families_table(console: Console, candidate: Mapping[str, Any]) -> Table:
    table = plain_table(console)
    table.add_column("family", overflow="fold", max_width=_NAME_WIDTH)
    predicted = candidate.get("simulated")
    table.add_column("predicted" if predicted else "verdict", no_wrap=True)
    table.add_column("blocked", no_wrap=True, justify="right")
    table.add_column("shortest way through", overflow="fold")
    for family in sorted(_telling(candidate), key=_family_order):
        routes = family["routes"]
        table.add_row(
            Text(printable(family["family"])),
            _verdict(console, family["verdict"]),
            f"{routes['blocked']} of {routes['working']}",
            _way_through(family),
            style="" if family["targeted"] else "dim",
        )
    return table


def _telling(candidate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The families that a reader must see; a few more are no burden, dozens are."""
    families: list[Mapping[str, Any]] = candidate["families"]
    if len(families) <= _FEW:
        return families
    return [one for one in families if one["targeted"] or one["verdict"] not in _EXPECTED]


def _silent(candidate: Mapping[str, Any]) -> str:
    """How many families the table leaves out, by verdict; empty if none."""
    shown = {one["family"] for one in _telling(candidate)}
    left = [one["verdict"] for one in candidate["families"] if one["family"] not in shown]
    counts = ", ".join(
        f"{left.count(verdict)} {verdict.value}" for verdict in Verdict if verdict in left
    )
    return f"not targeted: {counts}" if left else ""


def _family_order(family: Mapping[str, Any]) -> tuple[bool, int, str]:
    return not family["targeted"], _ORDER.index(Verdict(family["verdict"])), family["family"]


def _verdict(console: Console, verdict: str) -> Text:
    mark, plain_mark, style = _STYLES[Verdict(verdict)]
    return Text(f"{plain_mark if _ascii_only(console) else mark} {verdict}", style)


def _way_through(family: Mapping[str, Any]) -> Text:
    """The bypass where the family is targeted, else what a reader would ask next."""
    shortest = family["shortest_bypass"]
    match Verdict(family["verdict"]):
        case Verdict.LEAKY | Verdict.OPEN if shortest and family["targeted"]:
            return Text(printable(shortest.partition("/")[2]))
        case Verdict.OPEN:
            return _dim("not targeted")
        case Verdict.HELD_HERE:
            elsewhere = len(family["reachable_elsewhere"])
            return Text(f"{_evidence(family)}, {elsewhere} allowed elsewhere")
        case Verdict.HELD:
            return _dim(_evidence(family))
        case _:
            return Text(printable(family["reason"]))


def _closing_lines(candidate: Mapping[str, Any]) -> Iterator[Text]:
    """For each way that should not be, what closes the shortest one, as a line to paste."""
    for family in sorted(_telling(candidate), key=_family_order):
        causes = family.get("causes", ())
        if not (causes and family["targeted"]):
            continue
        first, more = causes[0], len(causes) - 1
        line = Text(f"{printable(family['family'])}: ", "bold")
        line.append(printable(first["fix"] or first["said"]), "not bold")
        yield line.append(f" (and {more} more)" if more else "", "not bold dim")


def _evidence(family: Mapping[str, Any]) -> str:
    techniques = len(family["techniques"])
    noun = "technique" if techniques == 1 else "techniques"
    search = family.get("search")
    searched = f", {search['built']} programs searched" if search else ""
    return f"{techniques} {noun}, {family['untestable']} not testable here{searched}"


def _show_comparison(console: Console, candidates: Iterable[Mapping[str, Any]]) -> None:
    table = plain_table(console)
    table.add_column("candidate", overflow="fold")
    for heading in _COMPARED:
        table.add_column(heading, overflow="fold")
    table.add_column("starts", overflow="fold")
    for candidate in candidates:
        name = Text(printable(candidate["name"]))
        if not candidate["valid"]:
            table.add_row(name, *"-" * len(_COMPARED), Text("invalid", "red"))
            continue
        starts: Mapping[str, Any] = candidate["starts"]
        if candidate["attachment"] == "self" or candidate.get("simulated"):
            starts = {}
        fails = [part for part, answer in starts.items() if answer is False]
        table.add_row(
            name,
            *(_score(candidate, key) for key in _COMPARED),
            Text(f"not {', '.join(fails)}", "red") if fails else Text("yes" if starts else "-"),
        )
    console.print(table)


def _show_gates(console: Console, gates: Iterable[Mapping[str, Any]]) -> None:
    failed = [gate for gate in gates if not gate["ok"]]
    if failed:
        console.print()
    for gate in failed:
        line = Text("gate failed: ", "bold red")
        line.append(f"{printable(gate['candidate'])}: {printable(gate['message'])}", "not bold")
        console.print(line)


def show_attacks(console: Console, families: Iterable[FamilyInstance]) -> None:
    """All variants, family by family, with what makes each one special."""
    for number, instance in enumerate(families):
        if number:
            console.print()
        title = Text(instance.label, "bold").append(f": {instance.family.title}", "not bold")
        console.print(title)
        table = plain_table(console)
        table.add_column("variant", overflow="fold", min_width=20)
        table.add_column("technique", no_wrap=True)
        table.add_column("remarks", overflow="fold")
        for variant in instance.variants:
            table.add_row(variant.name, variant.technique.value, _dim(", ".join(_remarks(variant))))
        console.print(table)


def _remarks(variant: Variant) -> list[str]:
    remarks = [f"needs {need.value}" for need in sorted(variant.needs)]
    if variant.assumption.value != "none":
        remarks.append(f"assumes {variant.assumption.value}")
    if variant.grade.value != "exact":
        remarks.append("equivalent effect")
    if variant.negative:
        remarks.append("negative control")
    if variant.beyond_seccomp:
        remarks.append("no system call")
    return remarks


def show_variant(console: Console, variant: Variant) -> None:
    """One variant with its program; the decisive operation is marked."""
    console.print(Text(variant.id, "bold"))
    console.print(_indented(Text(variant.why)))
    facts = [f"technique {variant.technique.value}", *_remarks(variant)]
    console.print(_indented(Text(", ".join(facts))))
    for reference in variant.references:
        console.print(_indented(_dim(reference)))
    console.print()
    for line in program_text(variant.program):
        console.print(Text(printable(str(line)), "bold" if line.decisive else ""))
    console.print()
    console.print(_dim(f"* decisive operation; program {variant.program.digest()}"))


def show_check(console: Console, families: Iterable[FamilyCheck]) -> None:
    """What works here, family by family, and the reason for what does not."""
    found = list(families)
    table = plain_table(console)
    table.add_column("family", overflow="fold", max_width=_NAME_WIDTH)
    for heading in ("works", "rewritten", "negative", "mechanisms"):
        table.add_column(heading, justify="right")
    for one in found:
        table.add_row(
            one.family,
            f"{one.works} of {one.variants}",
            f"{one.derived_works} of {one.derived}" if one.derived else "",
            str(one.negative),
            str(one.mechanisms),
        )
    console.print(table)
    console.print()
    console.print(
        f"{sum(one.works for one in found)} of {sum(one.variants for one in found)} variants "
        f"work here, {sum(one.mechanisms for one in found)} distinct mechanisms"
    )
    for title, reasons in (
        ("cannot be tried here", {k: v for one in found for k, v in one.unsupported.items()}),
        ("rewritten, and no way to the effect here", _of_rewrites(found)),
        ("failed", {k: v for one in found for k, v in one.faults.items()}),
    ):
        if reasons:
            console.print()
            console.print(Text(title, "bold"))
        for variant, reason in reasons.items():
            console.print(_indented(Text(printable(f"{variant}: {reason}"))))


def _of_rewrites(found: Iterable[FamilyCheck]) -> dict[str, str]:
    """What failed of itself by name; what the machine lacks for others only with their number."""
    reasons = {k: v for one in found for k, v in one.derived_unsupported.items()}
    own = {k: v.partition(": ")[2] for k, v in reasons.items() if v.startswith("rewrite: ")}
    lacking = Counter(v for v in reasons.values() if not v.startswith("rewrite: "))
    return own | {f"{number} more": reason for reason, number in lacking.most_common()}


def show_trial(console: Console, trial: TrialRecord) -> None:
    """One program call by call, in both arms, with what the filter answered."""
    console.print(Text(trial.variant, "bold").append(f": {trial.outcome.value}", "not bold"))
    if trial.stopped_at is not None:
        stopped = trial.stopped_at
        by = "" if stopped.layer == "seccomp" else f", by {stopped.layer}"
        console.print(_indented(Text(f"stopped at {stopped.call}: {stopped.answer}{by}")))
    if trial.aftermath is not None:
        console.print(_indented(Text(f"{trial.aftermath.said} ({trial.aftermath.why})")))
    if trial.reason:
        console.print(_indented(Text(printable(trial.reason))))
    table = plain_table(console)
    for heading in ("operation", "without", "with", "filter"):
        table.add_column(heading, overflow="fold")
    for step in trial.steps:
        mark = "* " if step.decisive else ""
        cells = (f"{mark}{step.text}", step.control or "", step.mitigated or "", step.filter or "")
        table.add_row(*(printable(cell) for cell in cells))
    console.print(table)


def show_coverage(
    console: Console,
    tables: Iterable[Coverage],
    siblings: Mapping[str, Mapping[str, Sequence[str]]],
) -> None:
    """For each table of calls, how much of it is used, and the rest by name; siblings by family."""
    for one in tables:
        console.print(Text(f"{one.abi}: {len(one.used)} of {one.known} used", "bold"))
        console.print(_indented(_dim(f"not used: {', '.join(one.unused) or 'none'}")))
    console.print(Text("siblings of a decisive call by which no variant gets the effect", "bold"))
    for family, by_call in siblings.items():
        for call, names in by_call.items():
            console.print(_indented(Text(f"{family}: for {call}: {', '.join(names)}")))


def show_probes(console: Console, probes: Iterable[Probe]) -> None:
    table = plain_table(console)
    table.add_column("probe", overflow="fold", max_width=_NAME_WIDTH)
    table.add_column("value", overflow="fold", max_width=_NAME_WIDTH)
    table.add_column("what it means", overflow="fold")
    good, bad = ("+", "x") if _ascii_only(console) else ("✓", "✗")
    for one in probes:
        name = Text(f"{good} " if one.ok else f"{bad} ", "green" if one.ok else "bold red")
        name.append(printable(one.name), "not bold default")
        table.add_row(name, Text(printable(one.value)), Text(printable(one.meaning)))
    console.print(table)


def plain_table(console: Console) -> Table:
    """One for any list, without a frame."""
    style = box.ASCII2 if _ascii_only(console) else box.SIMPLE_HEAD
    return Table(box=style, pad_edge=True, show_edge=False, header_style="bold")


def _ascii_only(console: Console) -> bool:
    return console.options.ascii_only


def _dim(text: str) -> Text:
    return Text(printable(text), "dim")


def _indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2), expand=False)
