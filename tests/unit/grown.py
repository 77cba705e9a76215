"""A large run made of a small one: what fifty profiles by a thousand ways look like."""

import copy
from typing import Any

ANSWERS = ("EPERM", "ENOSYS", "EACCES", "SIGSYS (killed)", "0 (faked)")


def grown(raw: dict[str, Any], candidates: int, families: int, variants: int) -> dict[str, Any]:
    """Candidates that differ from each other in verdicts, answers, results, causes and names."""
    return {
        **raw,
        "candidates": [
            _candidate(raw["candidates"][0], c, families, variants) for c in range(candidates)
        ],
    }


def _candidate(base: dict[str, Any], c: int, families: int, variants: int) -> dict[str, Any]:
    trials = [one for one in base["trials"] if one["family"] == "create-directory"]
    return {
        **base,
        "name": f"candidate-{c}",
        "source": f"profiles/of/candidate-{c}.json",
        "families": [_family(base["families"][0], c, f, variants) for f in range(families)],
        "trials": [_trial(trials, c, f, v) for f in range(families) for v in range(variants)],
        "profile_text": base["profile_text"] * 300,
        "robustness": (c * 7 % 11) / 10,
        "utility": (c * 3 % 5) / 4,
    }


def _passes(c: int, f: int, v: int) -> bool:
    """A third of all families are held by a candidate; of the others two of five ways pass."""
    return (c + f) % 3 != 0 and (v * 7 + f + c) % 5 < 2


def _family(base: dict[str, Any], c: int, f: int, variants: int) -> dict[str, Any]:
    name = f"family-{f}"
    ids = [f"{name}/way-{v}" for v in range(variants) if _passes(c, f, v)]
    targeted = (c + f) % 3 != 2
    verdict = ("leaky" if targeted else "open") if ids else "held"
    shared = {"kind": "rule-allows", "call": f"x86_64:call_{f}", "where": f"syscalls[{c}].names"}
    causes = [
        {**shared, "variants": [one], "said": f"rule {c} names call_{f} and looks no further",
         "fix": f'add "call_{f}_{n}" to syscalls[{c}].names', "breaks": f"{f} needs it"}
        for n, one in enumerate(ids[:3])
    ]  # fmt: skip
    counts = {"bypassed": len(ids), "blocked": variants - len(ids), "working": variants}
    return {
        **base, **counts, "family": name, "title": f"Reach effect {f}", "bypasses": ids,
        "shortest_bypass": ids[0] if ids else None, "baseline": f"{name}/way-0",
        "verdict": verdict, "targeted": targeted, "causes": causes,
    }  # fmt: skip


def _trial(trials: list[dict[str, Any]], c: int, f: int, v: int) -> dict[str, Any]:
    made = copy.deepcopy(trials[v % len(trials)])
    passes = _passes(c, f, v)
    answer = ANSWERS[(c + f + v) % len(ANSWERS)]
    for step in made["steps"]:
        step["text"] = step["text"].replace("d/t", f"d/{f}-{v}")
        if step["decisive"]:
            step["mitigated"] = "0" if passes else f"-1 {answer}"
    stopped = {"call": f"call_{f}_{v}", "abi": "x86_64", "answer": answer, "decisive": True}
    return {
        **made,
        "variant": f"family-{f}/way-{v}",
        "family": f"family-{f}",
        "why": f"Way {v} to effect {f} takes a call that a list of names may lack.",
        "outcome": "BYPASSED" if passes else "BLOCKED",
        "stopped_at": None if passes else stopped,
    }
