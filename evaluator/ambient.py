"""A confinement that somebody else put on: programs packed here, run there, judged here.

``pack`` runs every program here without the confinement (the control) and writes the programs, with
what the control came to, as the frames that the native runner reads.  There it is
``runner ambient <pack >results``: it needs no Python.  ``unpack`` judges what it wrote.

What is in force there is what is judged, so there is nothing to compare it with, and no filter to
simulate.  A block needs a control that worked, on the same kernel, and a call that was refused
there and not here.
"""

from __future__ import annotations

import binascii
import hashlib
import platform
import subprocess
import time
from binascii import a2b_base64
from collections.abc import Iterator, Sequence
from contextlib import suppress
from zlib import crc32

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from attacks import library
from attacks.effects import EffectKind
from attacks.errors import AttackError
from attacks.family import FamilyInstance, Variant
from attacks.program import Syscall
from evaluator import outcome
from evaluator.enforcement import control_of, status_fields
from evaluator.errors import EnvironmentLackError, HarnessError, InputError
from evaluator.needs import Needs
from evaluator.outcome import Pair, Terms
from evaluator.plan import Plan
from evaluator.pool import Pool
from evaluator.posture import posture
from evaluator.records import CandidateRun, Enforcement, GroundTruth, Starts, StoppedAt, TrialRecord
from evaluator.refusals import difference
from evaluator.sandbox import Sandbox, explain_step, runner_path
from evaluator.stage import untried, why_not_inside
from evaluator.trial import grade, program_spec
from evaluator.verdict import Outcome
from evaluator.wire import (
    ConfigSpec,
    Frame,
    ProgramSpec,
    RecordState,
    Request,
    Result,
    RunFlag,
    Step,
    decode_hello,
    decode_result,
    decode_status,
    encode_config,
    encode_program,
    encode_run,
    frame,
    head,
    signal_name,
)
from mitigations import x86_64
from mitigations.candidate import Attachment, Candidate

NAME = "ambient"
LAYER = "confinement"
_FORMAT = "sidestep.pack/1"
_WAIT_US = 300_000
_CONTROL_WAIT_US = 1_000_000
_TRIES = 3
_SIGSYS = 31
_HEADER, _CONTROL, _SUM = b"H", b"C", b"S"
_HEAD_SIZE = 8
_WHOLE_S = 1800
_REFUSALS = ("EPERM", "EACCES", "ENOSYS", "EROFS")
"""What confinements answer.  Any other errno may be the doing of the place, and is no block."""
_OTHER_KERNEL = "the control ran on another kernel, so what does not work here may be due to that"
_NOT_THERE = "the control does not show it either, where it ran"
_BLIND = "whoever looks for the effect is confined as well, and may only not have seen it"


class Header(Struct, frozen=True):
    """What a pack says of itself, for whoever reads the results."""

    format: str
    kernel: str
    """Of the machine that the control ran on, as ``uname -r``."""
    posture: str
    """Of the control."""
    suite: str
    families: tuple[str, ...]
    must_hold: tuple[str, ...]
    """Those that somebody named."""
    objective: str | None
    variants: tuple[str, ...]
    """Those that were packed, in the order of their results."""
    digest: str
    """Of the programs: results of others cannot be judged by this library."""
    unmet: dict[str, str]
    """By variant, what the machine of the control lacks for it."""


class Contents(Struct, frozen=True):
    """A pack, or what a runner made of one; that it is whole is for ``families_of`` to say."""

    header: Header
    controls: dict[int, Result | str]
    """By place; a message where the control could not be set up."""
    results: dict[int, Result]
    status: str = ""
    """/proc/self/status of the runner in the confinement, and its kernel's release."""
    control: str = ""
    """Where the control ran, in words; empty for that of the pack."""
    notes: bytes = b""
    """What the pack says beside its programs, as frames."""
    sum: int = 0
    """CRC-32 of these and of the programs, by the word of the pack."""


def candidate() -> Candidate:
    """The confinement as a candidate: nobody has its layers."""
    return Candidate(NAME, NAME, (), Attachment.RUNTIME, NAME)


# ------------------------------------------------------------------------------------------- pack


def pack(plan: Plan, suite: str, must_hold: Sequence[str] = ()) -> bytes:
    """The programs of a plan and their controls, for ``runner ambient``.

    ``must_hold``: the families that somebody named, which fail unless they are held.
    """
    variants = [
        one for family in plan.families for one in family.variants if not why_not_inside(one)
    ]
    if not variants:
        raise InputError("none of these families can be tried in somebody else's confinement")
    stance = posture(plan.posture)
    with Pool(1) as pool:
        config = control_of(pool, stance)
        needs = Needs(pool, config)
        controls = _controls(pool.first, pool.config_number(config), variants)
    programs = programs_of(variants)
    header = Header(
        _FORMAT,
        platform.release(),
        stance.name,
        suite,
        tuple(one.label for one in plan.families),
        tuple(must_hold),
        plan.objective.name if plan.objective else None,
        tuple(one.id for one in variants),
        _digest(programs),
        {one.id: why for one in variants if (why := needs.unmet(one))},
    )
    frames = [_note(_HEADER, msgspec.json.encode(header))]
    frames += [
        _note(_CONTROL, place.to_bytes(4, "little") + payload)
        for place, payload in enumerate(controls)
    ]
    frames.append(_asked(programs))
    frames.append(_note(_SUM, crc32(b"".join(frames)).to_bytes(4, "little")))
    frames.append(frame(Frame.PROBE, bytes(4)))
    frames += [encode_run([_request(place, one)]) for place, one in enumerate(variants)]
    return b"".join(frames)


_EMPTY = ConfigSpec(0, 0, 0, no_new_privs=False)


def _asked(programs: bytes) -> bytes:
    return encode_config(0, _EMPTY) + programs


def _note(kind: bytes, content: bytes) -> bytes:
    return frame(Frame.NOTE, kind + content)


def _digest(programs: bytes) -> str:
    return hashlib.sha256(programs).hexdigest()[:16]


def _request(place: int, variant: Variant, wait_us: int = _WAIT_US) -> Request:
    # Nothing is expected of a negative control, and nobody waits for it.
    flags = RunFlag.GLANCE if variant.negative else RunFlag.NONE
    return Request(place, place, 0, 0, wait_us, flags)


def programs_of(variants: Sequence[Variant]) -> bytes:
    """A PROGRAM frame for each variant, under its place, and for each witness, behind them."""
    frames: list[bytes] = []
    witnesses: dict[int, int] = {}
    for place, variant in enumerate(variants):
        spec = program_spec(variant)
        witness = None
        if spec.witness is not None:
            known = id(spec.witness)
            if known not in witnesses:
                witnesses[known] = len(variants) + len(witnesses)
                frames.append(_encoded(witnesses[known], spec.witness))
            witness = witnesses[known]
        frames.append(_encoded(place, spec, witness))
    return b"".join(frames)


def _encoded(number: int, spec: ProgramSpec, witness: int | None = None) -> bytes:
    return encode_program(number, spec, x86_64.number, witness)


def _controls(sandbox: Sandbox, config: int, variants: Sequence[Variant]) -> list[bytes]:
    """What each variant comes to here, as the runner says it."""
    sandbox.send(programs_of(variants))
    found: list[bytes] = []
    for place, variant in enumerate(variants):
        payload = b""
        for _ in range(_TRIES):
            asked = _request(place, variant, _CONTROL_WAIT_US)
            sandbox.ask([asked._replace(config=config, victim_config=config)])
            payload = sandbox.next_payload(_CONTROL_WAIT_US)
            result = decode_result(payload)
            if variant.negative or (result.ok and grade(variant, result) is not None):
                break
        found.append(payload)
    return found


# ----------------------------------------------------------------------------------------- unpack


def read(data: bytes, where: str) -> Contents:
    """A pack or results; ``InputError`` for anything else.

    ``EnvironmentLackError`` where the runner could not work in the confinement, and says why.
    """
    if not data:
        raise InputError(f"{where}: empty: the runner did not start, or was killed at once")
    data = _decoded(data)
    header: Header | None = None
    controls: dict[int, Result | str] = {}
    results: dict[int, Result] = {}
    status, notes, total = "", b"", 0
    try:
        for kind, payload in _frames(data):
            if kind is Frame.ERROR:
                raise InputError(f"{where}: {_DAMAGED}")
            if kind is Frame.NOTE and payload[:1] == _SUM:
                total = int.from_bytes(payload[1:], "little")
            elif kind is Frame.NOTE:
                notes += frame(kind, payload)
            if kind is Frame.HELLO:
                hello = decode_hello(payload)
                if hello.step is not Step.NONE:
                    raise EnvironmentLackError(f"{where}: {explain_step(hello.step, hello.error)}")
            elif kind is Frame.NOTE and payload[:1] == _HEADER:
                if header is not None:
                    raise InputError(f"{where}: of more than one runner: give each by itself")
                header = msgspec.json.decode(payload[1:], type=Header)
            elif kind is Frame.NOTE and payload[:1] == _CONTROL:
                place = int.from_bytes(payload[1:5], "little")
                result = decode_result(payload[5:])
                controls[place] = result if result.ok else result.trouble
            elif kind is Frame.STATUS:
                status = decode_status(payload).text
            elif kind is Frame.RESULT:
                result = decode_result(payload)
                results[result.tag] = result
    except (HarnessError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: no pack and no results of one: {error}") from None
    if header is None or header.format != _FORMAT:
        raise InputError(f"{where}: no pack and no results of one")
    if (status or results) and status_fields(status).get("Told") != str(_told(total)):
        raise InputError(f"{where}: {_DAMAGED}")
    return Contents(header, controls, results, status, notes=notes, sum=total)


_DAMAGED = "the runner was not given the pack as it was made: copy it again, whole"


def _told(total: int) -> int:
    """The sum that a runner comes to which was given all of a pack."""
    return crc32(_note(_SUM, total.to_bytes(4, "little")), total)


def with_control(found: Contents, other: Contents, where: str) -> Contents:
    """The same results, compared with those of a runner beside it that was less confined.

    ``InputError`` if these are results of another pack, or no results.
    """
    if other.header.digest != found.header.digest or other.header.variants != found.header.variants:
        raise InputError(f"{where}: of another pack than the results: both sides run the same one")
    if not other.status:
        raise InputError(f"{where}: holds no results: give what a runner wrote, not the pack")
    stated = status_fields(other.status)
    controls = {
        place: result if result.ok else result.trouble for place, result in other.results.items()
    }
    return Contents(
        replace(found.header, kernel=stated.get("Kernel", "unknown"), unmet={}),
        controls,
        found.results,
        found.status,
        f"the same programs in {where}, under seccomp mode {stated.get('Seccomp', 'unknown')} "
        f"with {stated.get('Seccomp_filters', 'an unknown number of')} filters",
    )


def _decoded(data: bytes) -> bytes:
    """What ``runner ambient DIRECTORY PACK`` wrote as lines of base64; anything else as it is."""
    *lines, last = data.split(b"\n")  # the last is empty, or what a killed one was about to write
    try:
        whole = b"".join(a2b_base64(line, strict_mode=True) for line in lines)
    except binascii.Error:
        return data
    with suppress(binascii.Error):
        whole += a2b_base64(last, strict_mode=True)
    return whole or data


def _frames(data: bytes) -> Iterator[tuple[Frame, bytes]]:
    """Frame by frame; what is cut off at the end is left out, as a runner may have been killed."""
    at = 0
    while at + _HEAD_SIZE <= len(data):
        kind, length = head(data, at)
        if at + _HEAD_SIZE + length > len(data):
            return
        yield kind, data[at + _HEAD_SIZE : at + _HEAD_SIZE + length]
        at += _HEAD_SIZE + length


def families_of(found: Contents, where: str) -> tuple[FamilyInstance, ...]:
    """The families of a pack; ``InputError`` if it is not whole, or not of this library."""
    header = found.header
    try:
        named = [library.parse_reference(label) for label in header.families]
        frozen = library.suite(header.suite).variants.keys()
    except AttackError as error:
        raise InputError(f"{where}: made by another version of sidestep: {error}") from None
    families = tuple(one.only(frozen) for one in named)
    packed = [one for family in families for one in family.variants if not why_not_inside(one)]
    same = [one.id for one in packed] == list(header.variants)
    programs = programs_of(packed)
    if not same or _digest(programs) != header.digest:
        raise InputError(f"{where}: made by another version of sidestep: pack again with this one")
    if crc32(found.notes + _asked(programs)) != found.sum:
        raise InputError(f"{where}: {_CHANGED}")
    return families


_CHANGED = "changed or cut off since it was made: copy it again, whole"


def run_here(contents: bytes, directory: str) -> bytes:
    """What the runner writes of a pack in the confinement that this very process is in.

    ``directory``: a tmpfs to work in.
    """
    try:
        done = subprocess.run(
            [str(runner_path()), "ambient", directory],
            input=contents,
            stdout=subprocess.PIPE,
            timeout=_WHOLE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise HarnessError(f"the runner was not done after {_WHOLE_S} s") from None
    except OSError as error:
        raise EnvironmentLackError(f"the runner cannot be started here: {error}") from None
    if not done.stdout:
        raise EnvironmentLackError(
            f"the runner ended before it could say a word ({_ending(done.returncode)}): the "
            "confinement does not let it work"
        )
    return done.stdout


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal_name(-code)


def judge(contents: Contents, plan: Plan) -> CandidateRun:
    """The run that results tell of."""
    begin = time.monotonic()
    stated = status_fields(contents.status)
    same_kernel = stated.get("Kernel") == contents.header.kernel
    terms = Terms(
        (), "", no_new_privs=False, syscall_insn=0, with_steps=plan.with_steps, others=(LAYER,)
    )
    place = {name: number for number, name in enumerate(contents.header.variants)}
    trials: list[TrialRecord] = []
    for family in plan.families:
        for variant in family.variants:
            number = place.get(variant.id)
            if number is None:
                trials.append(untried(variant, terms, why_not_inside(variant)))
                continue
            pair = _pair(variant, contents, number)
            unmet = contents.header.unmet.get(variant.id)
            if contents.control and not variant.negative and not _works(pair):
                unmet = _NOT_THERE
            if number in contents.results:
                trials.append(_record(pair, terms, unmet, same_kernel=same_kernel))
            else:  # what nobody tried may be a way through
                trials.append(outcome.classify(pair, terms, unmet))
    return CandidateRun(
        candidate=candidate(),
        posture=contents.header.posture,
        enforcement=Enforcement(enforced=True, ground_truth=_truth(stated)),
        starts=Starts(loads=True, runtime=True, static=True),
        trials=tuple(trials),
        workloads=(),
        duration_s=time.monotonic() - begin,
        notes=tuple(_notes(contents, stated, same_kernel=same_kernel)),
    )


def _pair(variant: Variant, contents: Contents, number: int) -> Pair:
    """Both arms.  What is in force there is what is judged, so it is no difference of theirs."""
    control = contents.controls.get(number, "the pack has no control of it")
    arm: Result | str = "it ended before"
    result = contents.results.get(number)
    if result is not None:
        arm = result if result.ok else result.trouble
    if isinstance(arm, Result) and isinstance(control, Result):
        if len(arm.records) != len(variant.program.flatten()):
            arm = "the runner answered something that it was not asked"
        else:
            arm = replace(arm, truth=control.truth)
    return Pair(variant, control, (arm,))


def _works(pair: Pair) -> bool:
    """Whether the control shows the effect."""
    return not isinstance(pair.control, str) and grade(pair.variant, pair.control) is not None


def _record(pair: Pair, terms: Terms, unmet: str | None, *, same_kernel: bool) -> TrialRecord:
    variant, (arm,) = pair.variant, pair.mitigated
    found = outcome.classify(pair, terms, unmet)
    found = replace(found, reachable_elsewhere=False)
    if isinstance(arm, str) and not isinstance(pair.control, str):
        # What the confinement denies the runner says nothing of the attack.
        harness = found.outcome is Outcome.HARNESS_ERROR
        return (
            _unsupported(found, f"the runner could not try it there: {arm}") if harness else found
        )
    # Without a filter to simulate, a kill is nothing that could be disagreed about.
    if found.outcome not in (Outcome.INEFFECTIVE, Outcome.DISAGREEMENT):
        return found
    if not same_kernel:
        return _unsupported(found, _OTHER_KERNEL)
    stopped = _stopped(pair)
    if stopped is None:
        return replace(found, outcome=Outcome.INEFFECTIVE)
    if variant.effect.kind is EffectKind.WITNESSED and not stopped.decisive:
        return _unsupported(found, _BLIND)
    return replace(
        found,
        outcome=Outcome.BLOCKED,
        stopped_at=stopped,
        prerequisite_only=not stopped.decisive,
        reason=None,
    )


def _unsupported(record: TrialRecord, why: str) -> TrialRecord:
    return replace(record, outcome=Outcome.UNSUPPORTED, reason=why, mitigated_effect=None)


def _stopped(pair: Pair) -> StoppedAt | None:
    """The call that was refused there and not in the control, or that it was killed for."""
    control, (arm,) = pair.control, pair.mitigated
    if isinstance(control, str) or isinstance(arm, str):
        return None
    if arm.signal == _SIGSYS and control.signal != _SIGSYS:
        for slot, (_, op) in enumerate(pair.variant.program.flatten()):
            if arm.records[slot].state is RecordState.STARTED and isinstance(op, Syscall):
                return StoppedAt(op.name, op.abi.value, "SIGSYS", op.decisive, LAYER)
    found = difference(pair.variant.program, control, arm)
    if found is None or not found.ends or found.answer not in _REFUSALS:
        return None
    return StoppedAt(found.call, found.abi.value, found.answer, found.decisive, LAYER)


def _truth(stated: dict[str, str]) -> GroundTruth:
    def number(name: str) -> int | None:
        text = stated.get(name, "")
        return int(text) if text.isdecimal() else None

    no_new_privs = number("NoNewPrivs")
    return GroundTruth(
        seccomp_mode=number("Seccomp"),
        seccomp_filters=number("Seccomp_filters"),
        no_new_privs=None if no_new_privs is None else no_new_privs == 1,
        read_back="not from inside a confinement",
        capabilities={name: stated[name] for name in ("CapEff", "CapBnd") if name in stated},
    )


def _notes(contents: Contents, stated: dict[str, str], *, same_kernel: bool) -> Iterator[str]:
    header = contents.header
    own = f"the same programs in sidestep's own sandbox, posture {header.posture}"
    yield (
        f"control: {contents.control or own}, kernel {header.kernel}; BLOCKED there means refused "
        "where the control was not, by whatever confines it: filter, capabilities, mounts or a "
        "security module"
    )
    if not same_kernel:
        yield f"kernel there: {stated.get('Kernel', 'unknown')}; {_OTHER_KERNEL}"
    missing = len(header.variants) - len(contents.results)
    if missing:
        yield f"{missing} of {len(header.variants)} programs have no result: the runner ended early"
