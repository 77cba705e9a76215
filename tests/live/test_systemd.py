"""Units under the real systemd, started for this in namespaces of its own, against the model.

Where it cannot be run, or is another than the one that is modelled, what it loaded once is in
tests/data/systemd (tests/unit/test_systemd.py compares with that), and the summary says so.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from systemd_capture import candidate, differences, write

from benchmarks.capture import systemd_manager
from benchmarks.capture.private_space import CaptureError
from benchmarks.capture.systemd_manager import Service
from benchmarks.capture.systemd_units import REFUSED, UNITS
from evaluator.installed_systemd import facts
from mitigations.bpf import Filter, decide_stack
from mitigations.candidate import Candidate, ProfileError
from mitigations.systemd_facts import MODELLED
from mitigations.x86_64 import AUDIT_ARCH_X86_64, NUMBERS

RANDOM_UNITS = 150
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def why_not() -> str:
    """Why the real systemd says nothing here; empty if it does."""
    reason = systemd_manager.why_not()
    if not reason and facts().number != MODELLED:
        reason = f"it is {facts().version}, and systemd {MODELLED} is modelled"
    if reason:
        return reason
    try:
        started = systemd_manager.capture({"one.service": []})
    except CaptureError as error:
        return str(error)
    return "" if started else "it starts no service here"


def compared(
    units: Mapping[str, Sequence[str]], services: Mapping[str, Service], folder: Path
) -> list[str]:
    """All differences between the model and what systemd did."""
    write(folder, units)
    found: list[str] = []
    for name in (each for each in units if "/" not in each):
        real = services.get(name)
        try:
            ours = candidate(folder / name, facts())
        except ProfileError as error:
            found += [f"{name}: systemd starts it, here: {error}"] if real is not None else []
            continue
        if real is None:
            found += [] if kills(ours) else [f"{name}: systemd cannot start it"]
        else:
            found += differences(name, ours, real.filters, real.status)
    return found


def kills(ours: Candidate) -> bool:
    """Whether a program cannot begin under it, or not wait: then there is nothing to read back."""
    filters = [Filter.decode(layer.program) for layer in ours.seccomp]
    numbers = (NUMBERS["x86_64"][name] for name in ("execve", "pause"))
    return not all(decide_stack(filters, AUDIT_ARCH_X86_64, nr, ()).allows for nr in numbers)


def test_systemd_loads_what_is_made_of_each_unit(
    why_not: str, tmp_path: Path, record_property: Record
) -> None:
    if why_not:
        record_property("systemd", f"not asked here, its recorded filters were: {why_not}")
        return
    units = {**UNITS, **REFUSED}
    services = systemd_manager.capture(units)
    assert not compared(units, services, tmp_path)
    assert set(services) == {name for name in UNITS if "/" not in name}
    count = sum(len(one.filters) for one in services.values())
    record_property(
        "systemd", f"{count} filters of {len(services)} units are its own in every byte"
    )


def test_systemd_loads_what_is_made_of_random_units(
    why_not: str, tmp_path: Path, record_property: Record
) -> None:
    if why_not:
        record_property("systemd, random units", f"not asked here: {why_not}")
        return
    drawn = random.Random(252)
    units = {f"drawn-{number}.service": _unit(drawn) for number in range(RANDOM_UNITS)}
    services = systemd_manager.capture(units)
    assert not compared(units, services, tmp_path)
    started = f"{len(services)} of {len(units)} start"
    assert len(services) > RANDOM_UNITS // 2
    record_property("systemd, random units", f"{started}, with filters that are its own")


_CALLS = """
mkdir mkdirat chmod unlink rename socketcall ipc mmap2 clock_settime64 stime _sysctl nosuch
io_uring_setup clone3 arm_fadvise64_64 uselib bdflush landlock_create_ruleset
""".split()  # noqa: SIM905 - read more easily
_SETS = """
@aio @basic-io @clock @cpu-emulation @debug @file-system @ipc @keyring @module @mount @obsolete
@privileged @process @raw-io @resources @setuid @swap @system-service @timer @nosuch
""".split()  # noqa: SIM905 - read more easily
_ERRNOS = ("EPERM", "ENOSYS", "13", "kill", "0", "4094", "ENOSUCH", "-1", "0x10", "010")
_FAMILIES = """
AF_UNIX AF_LOCAL AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_VSOCK AF_ALG AF_NOSUCH
""".split()  # noqa: SIM905 - read more easily
_NAMESPACES = ["cgroup", "ipc", "net", "mnt", "pid", "user", "uts", "time", "nosuch"]
_ARCHITECTURES = ["native", "x86", "x32", "x86-64", "arm64", "nosuch"]
_CAPABILITIES = """
CAP_CHOWN cap_kill CAP_SYS_ADMIN CAP_MKNOD CAP_SYSLOG 3 CAP_NOSUCH
""".split()  # noqa: SIM905 - read more easily
_SWITCHES = """
NoNewPrivileges LockPersonality MemoryDenyWriteExecute ProtectClock ProtectHostname
ProtectKernelLogs ProtectKernelModules ProtectKernelTunables RestrictRealtime RestrictSUIDSGID
""".split()  # noqa: SIM905 - read more easily


def _unit(drawn: random.Random) -> list[str]:
    """Lines of [Service] that say much, oddly."""
    makers = (_filter, _filter, _filter, _log, _families, _namespaces, _others, _switch)
    lines = [drawn.choice(makers)(drawn) for _ in range(drawn.randint(1, 6))]
    if drawn.random() < 0.3:
        lines.append("User=nobody")
    if drawn.random() < 0.2:
        lines.insert(
            drawn.randint(0, len(lines)), drawn.choice(("# said", "", "nothing", "X-Own=1"))
        )
    return [part for line in lines for part in _laid_out(drawn, line)]


def _laid_out(drawn: random.Random, line: str) -> list[str]:
    """The line as it is, with odd blanks, or continued; with a comment between or without."""
    key, _, value = line.partition("=")
    if drawn.random() < 0.2:
        return [f"  {key}\t = {value}  "]
    words = value.split(" ")
    if drawn.random() < 0.2 and len(words) > 1:
        at = drawn.randint(1, len(words) - 1)
        comment = ["  # between"] if drawn.random() < 0.5 else []
        return [f"{key}={' '.join(words[:at])} \\", *comment, " ".join(words[at:])]
    return [line]


def _some(drawn: random.Random, words: Sequence[str], most: int = 4) -> str:
    return " ".join(drawn.choice(words) for _ in range(drawn.randint(1, most)))


def _tilde(drawn: random.Random) -> str:
    return drawn.choice(("", "", "~"))


def _filter(drawn: random.Random) -> str:
    if drawn.random() < 0.1:
        return "SystemCallFilter="
    if drawn.random() < 0.2:
        return f"SystemCallErrorNumber={drawn.choice(_ERRNOS)}"
    words = _some(drawn, (*_CALLS, *_SETS)).split()
    with_errno = [
        f"{word}:{drawn.choice(_ERRNOS)}" if drawn.random() < 0.25 else word for word in words
    ]
    return f"SystemCallFilter={_tilde(drawn)}{' '.join(with_errno)}"


def _log(drawn: random.Random) -> str:
    if drawn.random() < 0.2:
        return "SystemCallLog="
    return f"SystemCallLog={_tilde(drawn)}{_some(drawn, (*_CALLS, *_SETS))}"


def _families(drawn: random.Random) -> str:
    if drawn.random() < 0.2:
        return f"RestrictAddressFamilies={drawn.choice(('', 'none', 'none AF_UNIX'))}"
    return f"RestrictAddressFamilies={_tilde(drawn)}{_some(drawn, _FAMILIES)}"


def _namespaces(drawn: random.Random) -> str:
    if drawn.random() < 0.3:
        return f"RestrictNamespaces={drawn.choice(('', 'yes', 'no', 'T', '0'))}"
    return f"RestrictNamespaces={_tilde(drawn)}{_some(drawn, _NAMESPACES, 3)}"


def _others(drawn: random.Random) -> str:
    kind = drawn.randint(0, 2)
    if kind == 0:
        return f"SystemCallArchitectures={_some(drawn, _ARCHITECTURES, 3)}"
    if kind == 1:
        return f"CapabilityBoundingSet={_tilde(drawn)}{_some(drawn, _CAPABILITIES)}"
    return f"Personality={drawn.choice(('x86', 'x86-64', '', 'nosuch'))}"


def _switch(drawn: random.Random) -> str:
    value = drawn.choice(("yes", "yes", "on", "TRUE", "no", "maybe", ""))
    return f"{drawn.choice(_SWITCHES)}={value}"
