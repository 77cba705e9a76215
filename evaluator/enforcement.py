"""From a candidate to a configuration of the runner, and the kernel's word that it is in force."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from operator import contains

from msgspec import Struct, field
from msgspec.structs import replace

from evaluator.confinement import (
    FLAGS,
    Absent,
    confinement,
    landlock_abi,
    read_only_in_force,
    rulesets_in_force,
)
from evaluator.errors import HarnessError
from evaluator.outcome import Terms
from evaluator.pool import Pool
from evaluator.posture import CAPABILITY_NUMBERS, Posture
from evaluator.records import Enforcement, GroundTruth
from evaluator.sandbox import ROOT_IDS
from evaluator.wire import ConfigSpec, ParkedStatus, Step, signal_name
from mitigations import bpf
from mitigations.candidate import Attachment, Candidate, LandlockLayer

_SOMEBODY = 1000
_OF_PROGRAMS = {"/", "/work", "/work/w"}
"""Where the directory of honest programs lies, and what leads there."""
LABEL = "AppArmor"
"""The line that the runner adds to a status: /proc/PID/attr/apparmor/current."""
_CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


class Applied(Struct, frozen=True):
    """A candidate as it stands in the sandbox."""

    stance: Posture
    control: ConfigSpec
    config: ConfigSpec
    filters: tuple[bpf.Filter, ...]
    enforcement: Enforcement
    loads: bool
    notes: tuple[str, ...] = ()
    alone: Mapping[str, ConfigSpec] = field(default_factory=dict[str, ConfigSpec])
    """The control with the layers of one kind only, for each kind that is no filter."""
    absent: tuple[Absent, ...] = ()

    def terms(self, syscall_insn: int, *, with_steps: bool) -> Terms:
        missing = "" if self.loads else self.enforcement.reason
        return Terms(
            self.filters,
            missing,
            self.config.no_new_privs,
            syscall_insn,
            with_steps=with_steps,
            logging=self.logging,
            others=tuple(self.alone),
            capabilities=None if self.config.kept is None else self.config.capabilities_left,
            absent=self.absent,
        )

    @property
    def victim(self) -> ConfigSpec:
        """What is beside the subject: under no filter and no ruleset, with the same capabilities.

        Capabilities and mounts are those of a whole container.  A neighbour with more capabilities
        could not be traced, and that would be taken for the candidate's work.
        """
        return replace(self.control, kept=self.config.kept, writable=self.config.writable)

    @property
    def logging(self) -> frozenset[int]:
        """Positions of the filters whose answers the kernel is asked to log."""
        asks = FLAGS["SECCOMP_FILTER_FLAG_LOG"]
        return frozenset(n for n, one in enumerate(self.config.filters) if one.flags & asks)


def control_of(pool: Pool, stance: Posture) -> ConfigSpec:
    """The posture alone.  With a single mapped id, every posture is uid 0 of the sandbox."""
    single = pool.first.id_map == 1
    return ConfigSpec(
        uid=0 if single else _mapped(stance.uid),
        gid=0 if single else _mapped(stance.gid),
        capabilities=stance.mask,
        no_new_privs=stance.no_new_privs,
    )


def _mapped(number: int) -> int:
    """The id itself, or another ordinary one where the sandbox does not have it."""
    return number if number < ROOT_IDS else _SOMEBODY


def apply(pool: Pool, candidate: Candidate, stance: Posture) -> Applied:
    """Loads the candidate once, reads the subject's state and the filter back, and compares."""
    control = control_of(pool, stance)
    abi = landlock_abi(pool, control) if _rulesets(candidate) else 0
    confined = confinement(control, candidate, abi, pool.first.load_apparmor)
    config = confined.config
    filters = tuple(bpf.Filter.decode(layer.program) for layer in candidate.seccomp)
    with _parked(pool, control) as before:
        pass
    if before.step is not Step.NONE:
        raise HarnessError(f"the control arm cannot be set up: {_refusal(before)}")
    refused, truth = _CANNOT_LOAD, GroundTruth()
    if not _cannot_load(candidate, config):
        with _parked(pool, config) as status:
            refused = _refusal(status)
            if not refused:
                back = _read_back(pool, status.pid, candidate)
                truth = ground_truth(status_fields(before.text), status_fields(status.text), back)
        if not refused and config.rulesets:
            counted = rulesets_in_force(pool, control, config)
            if isinstance(counted, str):
                refused = f"Landlock rulesets cannot be counted: {counted}"
            else:
                truth = replace(truth, landlock_abi=abi, landlock_rulesets=counted)
    if not refused and config.writable is not None:
        odd = read_only_in_force(pool, control, config)
        refused = f"read-only root: {odd}" if odd else ""
    reason = refused or not_in_force(truth, config)
    lacking = "; ".join(dict.fromkeys(one.reason for one in confined.absent))
    return Applied(
        stance,
        control,
        config,
        filters,
        Enforcement(not (reason or lacking), truth, reason or lacking),
        loads=not reason,
        notes=(*_notes(pool, stance), *_left_out(config)),
        alone=confined.alone,
        absent=confined.absent,
    )


def _notes(pool: Pool, stance: Posture) -> Iterator[str]:
    single = pool.first.id_map == 1
    if single and stance.uid:
        yield "one id is mapped: every posture runs as uid 0 of the sandbox"
    if not single and stance.uid != _mapped(stance.uid):
        yield f"uid {stance.uid} is not mapped: the sandbox runs it as uid {_mapped(stance.uid)}"


def _left_out(config: ConfigSpec) -> Iterator[str]:
    """What a ruleset denies that lies only in the sandbox: nobody could have named it."""
    paths = {path for one in config.rulesets for path, _ in one.path_rules}
    if any(one.handled_fs for one in config.rulesets) and paths.isdisjoint(_OF_PROGRAMS):
        yield "no rule is for /work, where honest programs run here: what breaks them may be that"


def _rulesets(candidate: Candidate) -> list[LandlockLayer]:
    return [one for one in candidate.layers if isinstance(one, LandlockLayer)]


def _refusal(status: ParkedStatus) -> str:
    """Why no subject came under the candidate; empty if one did."""
    if status.said:
        return status.said
    match status.step:
        case Step.NONE:
            return ""
        case Step.LOAD:
            return f"the kernel refused the filter: {os.strerror(status.error)}"
        case Step.LABEL:
            return f"the kernel refused the AppArmor profile: {os.strerror(status.error)}"
        case Step.READ_ONLY:
            return f"the root cannot be made read-only: {os.strerror(status.error)}"
        case Step.GATE_KILLED:
            return f"the process that loads the layers died of {signal_name(status.error)}"
        case step:
            return f"{step.name.lower()} failed: {os.strerror(status.error)}"


_CANNOT_LOAD = (
    "the kernel refuses the filter (EACCES): a program loads its own filter with no_new_privs or "
    "with CAP_SYS_ADMIN, and this one has neither"
)


def _cannot_load(candidate: Candidate, config: ConfigSpec) -> bool:
    """A runtime loads with privilege and then gives it up; a program has what its posture has."""
    privileged = config.capabilities >> CAPABILITY_NUMBERS["CAP_SYS_ADMIN"] & 1
    own = candidate.attachment is Attachment.SELF and bool(candidate.seccomp)
    return own and not config.no_new_privs and not privileged


@contextmanager
def _parked(pool: Pool, config: ConfigSpec) -> Generator[ParkedStatus]:
    """A subject under a configuration that does nothing, for as long as somebody looks at it."""
    sandbox = pool.first
    try:
        yield sandbox.park(pool.config_number(config))
    finally:
        sandbox.release()


def read_back_refused(pool: Pool, control: ConfigSpec) -> str:
    """Why filters cannot be read back here; empty if they can.  Asked of a subject without any."""
    with _parked(pool, control) as status:
        if status.step is not Step.NONE:
            return "no subject could be started"
        found = pool.first.filters_of(status.pid)
        return found if isinstance(found, str) else ""


def _read_back(pool: Pool, judge_view: int, candidate: Candidate) -> str:
    if not candidate.seccomp and not candidate.seccomp_only:
        return "no filter to read back"
    loaded = pool.first.filters_of(judge_view)
    if isinstance(loaded, str):
        return loaded
    # Filters that were there before us are older, and so come first.
    own = loaded[len(loaded) - len(candidate.seccomp) :] if candidate.seccomp else []
    expected = [layer.valid for layer in candidate.seccomp]
    same = len(own) == len(expected) and all(map(contains, expected, own))
    return "identical" if same else "different"


def status_fields(text: str) -> dict[str, str]:
    """The lines of a /proc/PID/status (proc_pid_status(5)) by name."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def ground_truth(control: dict[str, str], status: dict[str, str], back: str) -> GroundTruth:
    """What two status files of /proc say of the candidate; ``back``: of reading it back."""
    before, after = _number(control.get("Seccomp_filters")), _number(status.get("Seccomp_filters"))
    return GroundTruth(
        seccomp_mode=_number(status.get("Seccomp")),
        seccomp_filters=None if before is None or after is None else after - before,
        no_new_privs=status.get("NoNewPrivs") == "1",
        read_back=back,
        capabilities={
            name: status[name]
            for name in _CAPABILITY_SETS
            if name in status and status[name] != control.get(name)
        },
        apparmor=status.get(LABEL, "") if status.get(LABEL) != control.get(LABEL) else "",
    )


def not_in_force(truth: GroundTruth, config: ConfigSpec) -> str:
    """The layer of a configuration that is not in force, by the kernel's word; empty if all are."""
    filters, no_new_privs = len(config.filters), config.no_new_privs
    if truth.seccomp_filters is not None and truth.seccomp_filters != filters:
        return f"the kernel counts {truth.seccomp_filters} filters of this candidate, not {filters}"
    if filters and truth.seccomp_mode != 2:
        return f"/proc/PID/status says Seccomp: {truth.seccomp_mode}"
    if no_new_privs and not truth.no_new_privs:
        return "no_new_privs is not set"
    if truth.read_back == "different":
        return "the filter that the kernel holds is not the one that was loaded"
    if config.apparmor and truth.apparmor != f"{config.apparmor} (enforce)":
        said = truth.apparmor or "nothing"
        return f"/proc/PID/attr/apparmor/current says {said}, not {config.apparmor} (enforce)"
    if config.rulesets and truth.landlock_rulesets != len(config.rulesets):
        found = truth.landlock_rulesets
        return f"the kernel counts {found} Landlock rulesets, not {len(config.rulesets)}"
    return _more_capabilities(truth, config)


def _more_capabilities(truth: GroundTruth, config: ConfigSpec) -> str:
    if config.capabilities_left == config.capabilities:
        return ""
    for name in ("CapEff", "CapPrm", "CapBnd"):
        found = truth.capabilities.get(name)
        if found is None or int(found, 16) != config.capabilities_left:
            return f"{name} is {found or 'as in the control'}, not {config.capabilities_left:016x}"
    return ""
