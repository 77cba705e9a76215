"""Whether a scenario tells good answers from bad ones: answers of which that is known."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from attacks.family import FamilyInstance
from attacks.program import Syscall
from evaluator.judging import Asked, scores
from evaluator.plan import Progress
from evaluator.request import families
from evaluator.scenarios import Expect, Mechanism, Scenario
from evaluator.scoring import Score
from mitigations.candidate import Candidate, FailedCandidate
from mitigations.load import load
from mitigations.runtime_default import BUNDLED

_ABIS = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")


class Known(StrEnum):
    """Answers that need no model; they are rows of every comparison."""

    REFERENCE = "reference"
    POC_ONLY = "poc-only"
    """Denies the calls of the baselines by name, and nothing else."""
    ALLOW_ALL = "allow-all"
    DENY_ALL = "deny-all"
    RUNTIME_DEFAULT = "runtime-default"
    """What a container runtime puts on where nobody asks for anything; nothing is known of it
    beforehand, so no scenario is checked by it."""


class Checked(Struct, frozen=True):
    """The known answers' scores, and what is wrong with the scenario."""

    scenario: Scenario
    scores: Mapping[Known, Score]
    wrong: tuple[str, ...]


def known_answers(scenario: Scenario) -> dict[Known, str]:
    """Profiles as JSON."""
    instances = families([one.family for one in scenario.hold]) if scenario.hold else ()
    answers = {
        Known.POC_ONLY: _profile("SCMP_ACT_ALLOW", sorted(_baseline_calls(instances))),
        Known.ALLOW_ALL: _profile("SCMP_ACT_ALLOW"),
        Known.DENY_ALL: _profile("SCMP_ACT_ERRNO"),
    }
    if scenario.reference is None or Mechanism.SECCOMP not in scenario.mechanisms:
        return answers
    return {Known.REFERENCE: scenario.reference, **answers}


def _baseline_calls(instances: Iterable[FamilyInstance]) -> set[str]:
    return {
        op.name
        for instance in instances
        for _, op in instance.baseline.program.flatten()
        if isinstance(op, Syscall) and op.decisive
    }


def _profile(default: str, denied: Sequence[str] = ()) -> str:
    rules = [{"names": list(denied), "action": "SCMP_ACT_ERRNO", "errnoRet": 1}] if denied else []
    return json.dumps({"defaultAction": default, "architectures": _ABIS, "syscalls": rules})


def runtime_default() -> str:
    """What came with us as the profile of a container runtime, captured from a real one.

    It is the one for the capabilities of the posture ``container``.
    """
    captured = json.loads(BUNDLED.read_text("utf-8"))
    return json.dumps(captured["seccomp"])


def check(
    scenarios: Sequence[Scenario], on_progress: Callable[[Progress], None], *, jobs: int = 1
) -> list[Checked]:
    """Evaluates the known answers of each and compares with what is known of them."""
    answers = [known_answers(one) for one in scenarios]
    asked = [
        Asked(one, tuple(map(candidate, texts.values())))
        for one, texts in zip(scenarios, answers, strict=True)
    ]
    found = scores(asked, on_progress, jobs=jobs)
    return [
        _checked(one, dict(zip(texts, scored, strict=True)))
        for one, texts, scored in zip(scenarios, answers, found, strict=True)
    ]


def _checked(scenario: Scenario, scored: Mapping[Known, Score]) -> Checked:
    return Checked(scenario, scored, tuple(_wrong(scenario, scored)))


def candidate(text: str) -> Candidate:
    """The answer with that text; ``ProfileError`` if it is no profile that can be used."""
    with tempfile.NamedTemporaryFile(prefix="sidestep-answer-", suffix=".json") as file:
        file.write(text.encode("utf-8", errors="surrogatepass"))
        file.flush()
        (found,) = load(Path(file.name), meaning="oci")
    if isinstance(found, FailedCandidate):
        raise found.error
    return found


def _wrong(scenario: Scenario, scores: Mapping[Known, Score]) -> Iterator[str]:
    if unjudged := scores[Known.ALLOW_ALL].unjudged:
        yield f"cannot be judged here: {', '.join(unjudged)}"
    if broken := scores[Known.ALLOW_ALL].broken:
        yield f"does not even work where everything is allowed: {', '.join(broken)}"
    if scores[Known.DENY_ALL].workloads_ok is not False:
        yield "a profile that denies everything breaks no workload"
    if scenario.expect is Expect.NOTHING:
        return
    if scores[Known.ALLOW_ALL].held is not False:
        yield "a profile that allows everything holds the objective"
    if not scores[Known.ALLOW_ALL].visible.bypasses:
        yield "no visible way works here"
    if scores[Known.POC_ONLY].poc_blocked is not True:
        yield "a profile that denies the PoC's calls does not stop the PoC"
    if not scores[Known.POC_ONLY].hidden.bypasses:
        yield "a profile that denies the PoC's calls alone stops every hidden way"
    yield from _wrong_reference(scenario, scores.get(Known.REFERENCE))


def _wrong_reference(scenario: Scenario, found: Score | None) -> Iterator[str]:
    solvable = scenario.expect is Expect.MITIGABLE and Mechanism.SECCOMP in scenario.mechanisms
    if found is None:
        if solvable:
            yield "it is said to be mitigable, and no reference solution is there"
        return
    if not solvable:
        yield "it is said that no profile solves it, and a reference solution is there"
    elif found.joint is not True:
        why = (*found.visible.bypasses, *found.hidden.bypasses, *found.broken, *found.unjudged)
        yield f"the reference solution is not perfect: {', '.join(why[:6]) or 'see its score'}"
