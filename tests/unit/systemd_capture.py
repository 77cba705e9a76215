"""What systemd itself loaded, beside what is made of the same files here."""

import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mitigations import systemd_facts
from mitigations.analysis import difference
from mitigations.bpf import Filter
from mitigations.candidate import Candidate, CapabilitiesLayer, FailedCandidate, OwnPosture
from mitigations.capabilities import CAPABILITIES
from mitigations.load import load
from mitigations.systemd_facts import Facts

DATA = Path(__file__).parents[1] / "data" / "systemd" / "capture.json"
Status = Mapping[str, str]


def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DATA.read_text())
    return found


def filters_of(unit: Mapping[str, Any]) -> tuple[bytes, ...]:
    return tuple(b64decode(one) for one in unit["filters"])


def write(folder: Path, files: Mapping[str, Sequence[str]]) -> None:
    """As the capture writes them: the lines of a service go into its [Service]."""
    for name, lines in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(lines)
        if "/" not in name:
            text = f"[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/run/pause\n{text}"
        file.write_text(f"{text}\n", errors="surrogateescape")


def candidate(path: Path, facts: Facts | None = None) -> Candidate:
    known = facts or systemd_facts.recorded()
    (found,) = load(path, known_to_systemd=lambda: known)
    assert not isinstance(found, FailedCandidate)
    return found


def differences(unit: str, ours: Candidate, theirs: Sequence[bytes], status: Status) -> list[str]:
    """In words, where they are not the same."""
    mine = [layer.program for layer in ours.seccomp]
    found = [f"{unit}: {len(mine)} filters, systemd has {len(theirs)}"] * (len(mine) != len(theirs))
    for index, (own, other) in enumerate(zip(mine, theirs, strict=False)):
        if own != other:
            changes = list(difference((Filter.decode(own),), (Filter.decode(other),)))
            found.append(
                f"{unit}: filter {index} has other bytes, and decides otherwise: {changes}"
            )
    if ours.brings_no_new_privs != (status["NoNewPrivs"] == "1"):
        found.append(f"{unit}: no_new_privs is {status['NoNewPrivs']}")
    if held(ours) & possible() != named(status["CapEff"]):
        found.append(f"{unit}: CapEff is {status['CapEff']}, here {sorted(held(ours))}")
    assert isinstance(ours.posture, OwnPosture)
    if (ours.posture.uid == 0) != (status["Uid"] == "0"):
        found.append(f"{unit}: uid {ours.posture.uid}, systemd has {status['Uid']}")
    return found


def held(one: Candidate) -> frozenset[str]:
    """The capabilities that are left."""
    assert isinstance(one.posture, OwnPosture)
    kept = [layer.kept for layer in one.layers if isinstance(layer, CapabilitiesLayer)]
    return one.posture.capabilities.intersection(*kept)


def possible() -> frozenset[str]:
    """What systemd had to give where the capture was made: all but what its machine lacks."""
    return named(recorded()["units"]["nothing.service"]["status"]["CapEff"])


def named(mask: str) -> frozenset[str]:
    bits = int(mask, 16)
    return frozenset(name for number, name in enumerate(CAPABILITIES) if bits >> number & 1)
