"""What this machine can enforce and test, and why not: probed by building the real sandbox once."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable

from attacks.family import Need
from attacks.program import Addr, Blob, Const, Program, Syscall
from evaluator.confinement import landlock_abi
from evaluator.enforcement import control_of, read_back_refused, status_fields
from evaluator.errors import SidestepError
from evaluator.needs import Needs, core_pattern
from evaluator.pods import started
from evaluator.pool import Arm, Pool
from evaluator.posture import POSTURES
from evaluator.records import Environment, Probe
from evaluator.runtimes import RUNTIMES, Container, RefusedError, find
from evaluator.sandbox import read_here
from evaluator.vm import qemu
from evaluator.vm_kernel import DEFAULT, is_kept, missing_tool
from evaluator.wire import ConfigSpec, ProgramSpec, Result
from evaluator.workloads import builtin
from mitigations import libseccomp

_ACTIONS = {
    "KILL_PROCESS": 0x80000000,
    "KILL_THREAD": 0,
    "TRAP": 0x30000,
    "ERRNO": 0x50000,
    "USER_NOTIF": 0x7FC00000,
    "TRACE": 0x7FF00000,
    "LOG": 0x7FFC0000,
    "ALLOW": 0x7FFF0000,
}


_AMBIENT = ("Seccomp", "Seccomp_filters", "NoNewPrivs", "CapEff", "CapBnd")


def why_not_live() -> str | None:
    """Why no trial can run here; ``None`` if they can."""
    try:
        with Pool(1):
            return None
    except SidestepError as error:
        return str(error)


def probe() -> list[Probe]:
    """Every question, with its answer and what that means."""
    probes = without_sandbox()
    try:
        with Pool(1) as pool:
            probes += live(pool)
    except SidestepError as error:
        probes.append(Probe("sandbox", "cannot be built", str(error), ok=False))
    return probes


def runtime_probes() -> list[Probe]:
    """Which container runtimes can put a candidate on here: a container of each is started."""
    return [*map(_runtime_probe, RUNTIMES), _pods_probe()]


def _runtime_probe(name: str) -> Probe:
    control = ConfigSpec(0, 0, POSTURES["container"].mask, no_new_privs=False)
    try:
        runtime = find(name)
        with Container(runtime, control):
            pass
    except (SidestepError, RefusedError) as error:
        return Probe(name, "not usable", str(error), ok=False)
    meaning = f"--runtime {name}: filters as {runtime.model} makes them"
    return Probe(name, runtime.version, meaning, ok=True)


def vm_probe() -> Probe:
    """Whether another kernel can be booted; nothing is downloaded or started for that."""
    try:
        qemu()
        why_not_downloaded = "" if is_kept(DEFAULT) else missing_tool()
    except SidestepError as error:
        return Probe("vm", "not usable", str(error), ok=False)
    if why_not_downloaded:
        return Probe("vm", "not usable", why_not_downloaded, ok=False)
    had = "is in the cache" if is_kept(DEFAULT) else "is downloaded on first use, never installed"
    return Probe(
        "vm", "QEMU", f"--runtime vm: other kernels, AppArmor, x32; {DEFAULT} {had}", ok=True
    )


def _pods_probe() -> Probe:
    control = ConfigSpec(0, 0, POSTURES["container"].mask, no_new_privs=False)
    try:
        with started() as engine, engine.start(control):
            version, model = engine.version, engine.model
    except (SidestepError, RefusedError) as error:
        return Probe("cri", "not usable", str(error), ok=False)
    meaning = f"--runtime cri --start: filters as {model} makes them"
    return Probe("cri", version, meaning, ok=True)


def environment(probes: list[Probe], isolation: str = "namespaces") -> Environment:
    """Where this run takes place, for the results document."""
    many = next((one.value for one in probes if one.name == "id map"), "0")
    return Environment(
        kernel=platform.release(),
        arch=platform.machine(),
        libseccomp=_libseccomp(),
        isolation=isolation,
        lsm=_lsms(),
        ambient=ambient(),
        user="root" if os.geteuid() == 0 else f"uid {os.geteuid()}",
        id_map=int(many.split()[0]),
        probes=tuple(probes),
    )


def ambient(read: Callable[[str], str | None] = read_here) -> dict[str, str]:
    """The confinement that was there before us: of the process that reads, and of the machine."""
    own = status_fields(read("/proc/self/status") or "")
    found = {name: value for name, value in own.items() if name in _AMBIENT}
    label = read("/proc/self/attr/apparmor/current") or read("/proc/self/attr/current")
    if label:
        found["lsm_label"] = label.strip("\0")
    disabled = read("/proc/sys/kernel/io_uring_disabled")
    if disabled:
        found["io_uring_disabled"] = disabled
    return found


def _libseccomp() -> str:
    try:
        return libseccomp.version()
    except libseccomp.LibseccompMissing:
        return "missing"


def _lsms() -> tuple[str, ...]:
    text = read_here("/sys/kernel/security/lsm")
    return tuple(text.split(",")) if text else ()


def _workloads() -> Probe:
    missing = {one.name: one.missing() for one in builtin() if one.missing()}
    there = len(builtin()) - len(missing)
    lacking = ", ".join(sorted({name for names in missing.values() for name in names}))
    meaning = f"not installed: {lacking}" if lacking else "the programs that a profile may break"
    return Probe("honest programs", f"{there} of {len(builtin())} installed", meaning, ok=True)


def without_sandbox() -> list[Probe]:
    """The questions that no sandbox is needed for."""
    arch = platform.machine()
    version = _libseccomp()
    own = ambient()
    confined = own.get("Seccomp", "0") != "0"
    return [
        Probe("kernel", platform.release(), "what every result is about", ok=True),
        Probe("architecture", arch, "only x86_64 is supported", ok=arch == "x86_64"),
        Probe(
            "user", "root" if os.geteuid() == 0 else f"uid {os.geteuid()}", _user_meaning(), ok=True
        ),
        Probe(
            "libseccomp",
            version,
            "compiles the profiles; a newer one knows more calls",
            ok=version != "missing",
        ),
        _workloads(),
        Probe(
            "ambient seccomp",
            f"mode {own.get('Seccomp', '?')}, {own.get('Seccomp_filters', '?')} filters",
            "a filter is on this process already: results are about both together"
            if confined
            else "nothing confines us",
            ok=not confined,
        ),
        Probe("LSMs", ", ".join(_lsms()) or "not shown (no securityfs)", _lsm_meaning(), ok=True),
        Probe(
            "core pattern",
            core_pattern(read_here),
            "core-file variants need a plain name here",
            ok=True,
        ),
        Probe(
            "user namespaces",
            read_here("/proc/sys/user/max_user_namespaces") or "?",
            "how many may exist",
            ok=True,
        ),
    ]


def _user_meaning() -> str:
    if os.geteuid() == 0:
        return "the sandbox maps 65,536 unprivileged ids"
    return (
        "the sandbox maps one id: the posture `restricted` runs as uid 0 without capabilities, "
        "filters cannot be read back"
    )


def _lsm_meaning() -> str:
    label = ambient().get("lsm_label")
    return f"this process has the label {label}" if label else "no label on this process"


def live(pool: Pool) -> list[Probe]:
    """The questions that a sandbox answers."""
    control = control_of(pool, POSTURES["container"])
    needs = Needs(pool, control)
    probes = [
        Probe(
            "sandbox", "built", "user, mount, pid, network, IPC, UTS and cgroup namespaces", ok=True
        ),
        Probe("id map", f"{pool.first.id_map} ids", _user_meaning(), ok=True),
    ]
    for need, name in (
        (Need.I386, "i386 calls"),
        (Need.X32, "x32 calls"),
        (Need.IO_URING, "io_uring"),
        (Need.SQPOLL, "io_uring SQPOLL"),
    ):
        lacking = needs.lacking.get(need)
        probes.append(
            Probe(
                name,
                "no" if lacking else "yes",
                lacking or "variants that need it can be tested",
                ok=not lacking,
            )
        )
    results = pool.run([Arm(ProgramSpec(_actions()), control, control, 1_000_000)])
    probes.append(_landlock_probe(landlock_abi(pool, control)))
    probes.append(_actions_probe(results[0]))
    refused = read_back_refused(pool, control)
    probes.append(
        Probe(
            "filter read-back",
            "not permitted" if refused else "permitted",
            refused.removeprefix("not permitted: ") or "loaded filters are compared byte by byte",
            ok=not refused,
        )
    )
    return probes


def _landlock_probe(abi: int) -> Probe:
    return Probe(
        "Landlock",
        f"ABI {abi}" if abi else "no",
        "layers of this kind can be enforced" if abi else "not built in",
        ok=bool(abi),
    )


def _actions() -> Program:
    """seccomp(SECCOMP_GET_ACTION_AVAIL) for each action."""
    blobs = tuple(Blob(value.to_bytes(4, "little"), 4, 4, name) for name, value in _ACTIONS.items())
    return Program(
        blobs=blobs,
        attack=tuple(
            Syscall("seccomp", (Const(2), Const(0), Addr(i)), may_fail=True)
            for i in range(len(blobs))
        ),
    )


def _actions_probe(result: Result | str) -> Probe:
    if isinstance(result, str):
        return Probe("seccomp actions", "?", result, ok=False)
    missing = [name for name, one in zip(_ACTIONS, result.records, strict=True) if one.error]
    return Probe(
        "seccomp actions",
        "all" if not missing else f"without {', '.join(missing)}",
        "what a filter may answer here",
        ok=not missing,
    )
