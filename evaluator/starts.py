"""Honest programs under a candidate: the four parts of starting, and the workloads."""

from __future__ import annotations

import functools
import importlib.resources
import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attacks.effects import Object, ObjectKind
from attacks.program import Addr, Blob, Const, Operation, Program, Slot, Store, Syscall
from evaluator import diagnosis
from evaluator.enforcement import Applied
from evaluator.pool import Arm, Pool
from evaluator.posture import Posture
from evaluator.records import Starts, WorkloadRecord
from evaluator.wire import (
    ConfigSpec,
    ProgramFlag,
    ProgramSpec,
    RecordState,
    Result,
    RunFlag,
    signal_name,
)
from evaluator.workloads import Program as WorkloadProgram
from evaluator.workloads import Workload, workload
from mitigations import x86_64
from mitigations.bpf import Filter, decide_stack
from mitigations.candidate import Attachment, Candidate, NoNewPrivsLayer
from mitigations.classic import Action

_STATIC = "/work/w/static-entry"
_DYNAMIC = Workload(
    name="dynamic-entry",
    title="A dynamically linked program starts and exits",
    program=WorkloadProgram.SYSTEM,
    argv=("/bin/true",),
    needs=("/bin/true",),
)


def static_entry() -> bytes:
    """A static ELF of a few bytes: exit_group(0), else exit(0)."""
    code = bytes.fromhex("31ff b8e7000000 0f05 31ff b83c000000 0f05 0f0b".replace(" ", ""))
    base, size = 0x400000, 64 + 56
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + size, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    total = size + len(code)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, total, total, 4096)
    return ident + header + segment + code


def honest_programs(
    pool: Pool,
    candidate: Candidate,
    applied: Applied,
    wanted: Sequence[Workload],
    timeout_s: float,
) -> tuple[Starts, tuple[WorkloadRecord, ...]]:
    """What of a container's start works under the candidate, and the wanted workloads."""
    if candidate.attachment is Attachment.SELF:
        # Its program had started long before, and nothing is exec'ed under such a filter.
        reason = "" if applied.loads else applied.enforcement.reason
        return Starts(loads=applied.loads, reason=reason), ()
    entries = (workload("static-entry"), _DYNAMIC)
    once = {one.name: one for one in (*wanted, *entries)}
    ran = workloads(pool, tuple(once.values()), applied, timeout_s)
    records = {one.workload: one for one in ran}
    started = _starts(candidate, applied, [records[one.name] for one in entries])
    return started, tuple(records[one.name] for one in wanted)


def _starts(candidate: Candidate, applied: Applied, entries: Sequence[WorkloadRecord]) -> Starts:
    if not applied.loads:
        return Starts(loads=False, reason=applied.enforcement.reason)
    runtime: bool | None = True
    reason = ""
    if candidate.seccomp:
        nnp = applied.config.no_new_privs
        runtime, reason = _runtime(candidate.runtime_model, applied.filters, no_new_privs=nnp)
    static, dynamic = (one.works if one.works_in_control else None for one in entries)
    if not reason:
        reason = next(
            (f"{one.title}: {one.reason}" for one in entries if one.reason and not one.works), ""
        )
    return Starts(loads=True, runtime=runtime, static=static, dynamic=dynamic, reason=reason)


@functools.cache
def _startup_calls() -> dict[str, Any]:
    text = importlib.resources.files("mitigations").joinpath("data/startup-calls.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def foreseen(candidate: Candidate, filters: Sequence[Filter], stance: Posture) -> Starts:
    """What can be said of starting without a run: whether the runtime can finish its own work."""
    if candidate.attachment is Attachment.SELF or not filters:
        return Starts()
    own = any(isinstance(layer, NoNewPrivsLayer) for layer in candidate.layers)
    nnp = own or stance.no_new_privs
    runtime, reason = _runtime(candidate.runtime_model, filters, no_new_privs=nnp)
    return Starts(runtime=runtime, reason=reason)


def _runtime(
    model: str, filters: Sequence[Filter], *, no_new_privs: bool
) -> tuple[bool | None, str]:
    """Whether the runtime's own calls between load and exec pass; simulated on recorded calls.

    A call whose refusal the recorded runtime survived matters only if it is answered by a kill.
    """
    recorded = _startup_calls().get(model.partition("/")[0])
    if recorded is None:
        return None, f"no start of {model or 'this runtime'} was recorded"
    case = "nnp" if no_new_privs else "no-nnp"
    for call in recorded[case]["always"]:
        stopped = _stopped(call, filters)
        if stopped:
            return (
                False,
                f"{model.partition('/')[0]} cannot finish: {call['name']} answers {stopped}",
            )
    return True, ""


def _stopped(call: dict[str, Any], filters: Sequence[Filter]) -> str:
    decision = decide_stack(filters, x86_64.AUDIT_ARCH_X86_64, call["nr"], call["args"])
    if decision.depends or decision.allows:
        return ""
    survivable = (
        decision.action in (Action.ERRNO, Action.TRACE, Action.USER_NOTIF) and not call["needed"]
    )
    return "" if survivable else decision.text


def workloads(
    pool: Pool, wanted: Sequence[Workload], applied: Applied, timeout_s: float
) -> tuple[WorkloadRecord, ...]:
    """Each workload in both arms, exec'ed under the candidate as a container's entry point is."""
    wait = int(max(timeout_s, 5.0) * 1e6)
    specs = {one.name: _spec(one) for one in wanted if not _absent(one)}
    controls = _run(pool, specs, applied.control, applied, wait)
    mitigated = _run(pool, specs, applied.config, applied, wait) if applied.loads else {}
    broken = {
        one.name: specs[one.name]
        for one in wanted
        if one.name in mitigated and _trouble(one, mitigated[one.name])
    }
    traps = diagnosis.trapping(applied.config) if broken else None
    denied = _run(pool, broken, traps, applied, wait, RunFlag.DIAGNOSE) if traps else {}
    return tuple(_workload_record(one, controls, mitigated, denied) for one in wanted)


def _absent(one: Workload) -> str:
    return next((f"not here: {path}" for path in one.needs if not Path(path).exists()), "")


def _run(
    pool: Pool,
    specs: Mapping[str, ProgramSpec],
    config: ConfigSpec,
    applied: Applied,
    wait: int,
    flags: RunFlag = RunFlag.NONE,
) -> dict[str, Result | str]:
    arms = [Arm(spec, config, applied.control, wait, flags) for spec in specs.values()]
    return dict(zip(specs, pool.run(arms), strict=True))


def _workload_record(
    one: Workload,
    controls: Mapping[str, Result | str],
    mitigated: Mapping[str, Result | str],
    denied: Mapping[str, Result | str],
) -> WorkloadRecord:
    missing = _absent(one)
    fine = missing or _trouble(one, controls[one.name])
    result = mitigated.get(one.name, "the candidate does not load")
    broken = missing or _trouble(one, result)
    if broken and not fine:
        broken += _denials(denied.get(one.name))
    output = "" if isinstance(result, str) else result.collected.decode(errors="replace")
    return WorkloadRecord(
        workload=one.name,
        title=one.title,
        works=not broken,
        works_in_control=not fine,
        reason=fine if missing else f"control arm: {fine}" if fine else broken or None,
        output=output[-2000:],
    )


def _denials(result: Result | str | None) -> str:
    if result is None or isinstance(result, str) or not result.denied:
        return ""
    return f"; denied: {diagnosis.in_words(result.denied)}"


def _trouble(one: Workload, result: Result | str) -> str:
    """Why a run does not count as working; empty if it does."""
    if isinstance(result, str):
        return result
    if result.timed_out:
        return "it did not end in time"
    if result.signal:
        return f"it was killed by {signal_name(result.signal)}"
    output = result.collected.decode(errors="replace")
    execve = result.records[-1]
    if execve.error:
        return f"execve answered {os.strerror(execve.error)}"
    if execve.state is not RecordState.STARTED:
        return "execve came back, and no program was run"
    if result.wait_status:
        said = output.strip().splitlines()[-1:] or [""]
        return f"it exited with {result.wait_status >> 8 & 0xFF}" + (
            f": {said[0]}" if said[0] else ""
        )
    return "" if output == one.stdout else "it printed something else than it should"


def _spec(one: Workload) -> ProgramSpec:
    argv = (_STATIC, *one.argv[1:]) if one.program is WorkloadProgram.STATIC_ENTRY else one.argv
    objects = [Object(ObjectKind.DIRECTORY, "d", 0o755), Object(ObjectKind.DIRECTORY, "w", 0o755)]
    if one.program is WorkloadProgram.STATIC_ENTRY:
        objects.append(Object(ObjectKind.FILE, "w/static-entry", 0o755, static_entry()))
    return ProgramSpec(
        program=_execve(argv, one.env),
        objects=tuple(objects),
        flags=ProgramFlag.SWEEP | ProgramFlag.COLLECT,
        collect="out",
    )


def _execve(argv: Sequence[str], env: dict[str, str] | Any) -> Program:
    """Output to a file, own directory, both before the filter; then execve under it."""
    texts = [*argv, *(f"{name}={value}" for name, value in env.items())]
    blobs = [
        Blob(text.encode() + b"\0", len(text.encode()) + 1, 1, text[:20])
        for text in ("out", "w", *texts)
    ]
    vector = len(blobs)
    pointers = [index + 2 for index in range(len(texts))]
    blobs.append(Blob(b"", 8 * (len(texts) + 2), 8, "argv"))
    flags = 0o1 | 0o100 | 0o1000  # O_WRONLY|O_CREAT|O_TRUNC
    setup: list[Operation] = [
        Syscall("openat", (Const(-100, "AT_FDCWD"), Addr(0), Const(flags), Const(0o644))),
        Syscall("dup2", (Slot(0), Const(1))),
        Syscall("dup2", (Slot(0), Const(2))),
        Syscall("close", (Slot(0),)),
        Syscall("chdir", (Addr(1),)),
    ]
    for index, blob in enumerate(pointers):
        gap = index >= len(argv)  # a null ends argv
        setup.append(Store(Addr(vector), 8 * (index + gap), 8, Addr(blob)))
    execve = Syscall(
        "execve",
        (Addr(pointers[0]), Addr(vector), Addr(vector, 8 * (len(argv) + 1))),
        decisive=True,
    )
    return Program(blobs=tuple(blobs), setup=tuple(setup), attack=(execve,))
