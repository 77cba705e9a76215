"""From a candidate to a configuration of the runner, and the kernel's word that it is in force."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from evaluator.errors import HarnessError
from evaluator.outcome import Terms
from evaluator.pool import Pool
from evaluator.posture import CAPABILITY_NUMBERS, Posture
from evaluator.records import Enforcement, GroundTruth
from evaluator.sandbox import read_back, runner_path
from evaluator.wire import ConfigSpec, Filter, ParkedStatus, Step, signal_name
from mitigations import bpf
from mitigations.candidate import Attachment, Candidate, NoNewPrivsLayer

# seccomp(2); the runner adds TSYNC where a second thread loads for the first.
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 0,  # means something with a listener only
}
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

    def terms(self, syscall_insn: int, *, with_steps: bool) -> Terms:
        missing = "" if self.enforcement.enforced else self.enforcement.reason
        return Terms(
            self.filters,
            missing,
            self.config.no_new_privs,
            syscall_insn,
            with_steps=with_steps,
            logging=self.logging,
        )

    @property
    def logging(self) -> frozenset[int]:
        """Positions of the filters whose answers the kernel is asked to log."""
        asks = FLAGS["SECCOMP_FILTER_FLAG_LOG"]
        return frozenset(n for n, one in enumerate(self.config.filters) if one.flags & asks)


def control_of(pool: Pool, stance: Posture) -> ConfigSpec:
    """The posture alone.  With a single mapped id, every posture is uid 0 of the sandbox."""
    single = pool.first.id_map == 1
    return ConfigSpec(
        uid=0 if single else stance.uid,
        gid=0 if single else stance.gid,
        capabilities=stance.mask,
        no_new_privs=stance.no_new_privs,
        rulesets=stance.rulesets,
    )


def apply(pool: Pool, candidate: Candidate, stance: Posture) -> Applied:
    """Loads the candidate once, reads the subject's state and the filter back, and compares."""
    control = control_of(pool, stance)
    config = _configured(control, candidate)
    filters = tuple(bpf.Filter.decode(layer.program) for layer in candidate.seccomp)
    with _parked(pool, control) as before:
        pass
    if before.step is not Step.NONE:
        raise HarnessError(
            f"the control arm cannot be set up: {before.step.name} {os.strerror(before.error)}"
        )
    notes = (
        ("one id is mapped: every posture runs as uid 0 of the sandbox",)
        if pool.first.id_map == 1 and stance.uid
        else ()
    )
    refused, truth = _CANNOT_LOAD, GroundTruth()
    if not _cannot_load(candidate, config):
        with _parked(pool, config) as status:
            refused = _refusal(status)
            if not refused:
                back = _read_back(pool.first.host_pid(status.pid), candidate)
                truth = _ground_truth(status_fields(before.text), status_fields(status.text), back)
    reason = refused or _not_in_force(truth, len(filters), config.no_new_privs)
    enforcement = Enforcement(not reason, truth, reason)
    return Applied(stance, control, config, filters, enforcement, not reason, notes)


def _refusal(status: ParkedStatus) -> str:
    """Why no subject came under the candidate; empty if one did."""
    match status.step:
        case Step.NONE:
            return ""
        case Step.LOAD:
            return f"the kernel refused the filter: {os.strerror(status.error)}"
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


def _configured(control: ConfigSpec, candidate: Candidate) -> ConfigSpec:
    programs = tuple(
        Filter(layer.program, sum(FLAGS.get(flag, 0) for flag in layer.flags) & ~1)
        for layer in candidate.seccomp
    )
    own = any(isinstance(layer, NoNewPrivsLayer) for layer in candidate.layers)
    nnp = control.no_new_privs or own
    return replace(control, no_new_privs=nnp, filters=programs)


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
        found = _filters_of(pool.first.host_pid(status.pid))
        return found if isinstance(found, str) else ""


def _read_back(pid: int | None, candidate: Candidate) -> str:
    loaded = _filters_of(pid)
    if isinstance(loaded, str):
        return loaded
    # Filters that were there before us are older, and so come first.
    own = loaded[len(loaded) - len(candidate.seccomp) :] if candidate.seccomp else []
    return "identical" if own == [layer.program for layer in candidate.seccomp] else "different"


def _filters_of(pid: int | None) -> list[bytes] | str:
    """All filters of a process, or why they are not to be had."""
    if os.geteuid() != 0:
        return "not permitted: needs CAP_SYS_ADMIN in the initial user namespace"
    if pid is None:
        return "the subject was not found in /proc"
    try:
        return read_back(runner_path(), pid)
    except OSError as error:
        why = "this process is under a filter itself" if ambient_filters() else error.strerror
        return f"not permitted: {why}"


def ambient_filters() -> bool:
    """Whether this very process is under seccomp (then the kernel shows it no filters)."""
    own = status_fields(Path("/proc/self/status").read_text())
    return own.get("Seccomp") != "0"


def status_fields(text: str) -> dict[str, str]:
    """The lines of a /proc/PID/status (proc_pid_status(5)) by name."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _ground_truth(control: dict[str, str], status: dict[str, str], back: str) -> GroundTruth:
    before, after = _number(control.get("Seccomp_filters")), _number(status.get("Seccomp_filters"))
    return GroundTruth(
        seccomp_mode=_number(status.get("Seccomp")),
        seccomp_filters=None if before is None or after is None else after - before,
        no_new_privs=status.get("NoNewPrivs") == "1",
        read_back=back,
        capabilities={
            name: status[name] for name in _CAPABILITY_SETS if status.get(name) != control.get(name)
        },
    )


def _not_in_force(truth: GroundTruth, filters: int, no_new_privs: bool) -> str:
    if truth.seccomp_filters is not None and truth.seccomp_filters != filters:
        return f"the kernel counts {truth.seccomp_filters} filters of this candidate, not {filters}"
    if filters and truth.seccomp_mode != 2:
        return f"/proc/PID/status says Seccomp: {truth.seccomp_mode}"
    if no_new_privs and not truth.no_new_privs:
        return "no_new_privs is not set"
    if truth.read_back == "different":
        return "the filter that the kernel holds is not the one that was loaded"
    return ""
