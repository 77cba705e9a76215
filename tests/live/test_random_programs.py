"""Whatever a program from a file does: the runner lives, nothing is left, the host is as before."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from programs import programs

from attacks import jsonform, library
from attacks.program import Abi, Program
from evaluator import foreign
from evaluator.errors import InputError
from evaluator.pool import Arm, Pool
from evaluator.share import arm_of
from evaluator.trial import program_spec
from evaluator.wire import ProgramSpec, Result
from mitigations import x86_64

from engine import (
    ALLOW,
    EPERM,
    FAKED,
    KILL,
    KILL_THREAD,
    LOG,
    MKDIR,
    NOTIFY,
    PARENT,
    TRACE,
    TRAP,
    answers,
    config,
    made_directory,
)

FAMILY = library.family("create-directory").default
NAMES = tuple(
    sorted(
        name
        for name in x86_64.NUMBERS["x86_64"]
        if all(x86_64.number(abi.value, name) is not None for abi in Abi)
    )
)
ACTIONS = (EPERM, FAKED, TRAP, KILL_THREAD, KILL, TRACE, NOTIFY, LOG)
FILTERS = st.builds(
    answers,
    st.lists(st.integers(0, 470), max_size=40, unique=True),
    st.sampled_from(ACTIONS),
    st.sampled_from((ALLOW, *ACTIONS)),
)


def text(path: str) -> str:
    """What a file of procfs says; nothing where this kernel lacks it."""
    file = Path(path)
    return file.read_text() if file.exists() else ""


def host() -> dict[str, object]:
    """What a program could have changed outside of the sandbox."""
    ipc = [text(f"/proc/sysvipc/{name}") for name in ("shm", "sem", "msg")]
    return {
        "name": socket.gethostname(),
        "mounts": text("/proc/self/mountinfo"),
        "swaps": text("/proc/swaps"),
        "modules": sorted(line.split()[0] for line in text("/proc/modules").splitlines()),
        "objects": [[line.split()[:3] for line in one.splitlines()] for one in ipc],
        "files": [sorted(Path(path).iterdir()) for path in ("/", "/dev", "/dev/shm")],
        "limits": text("/proc/self/limits"),
        "root": Path("/").stat().st_mode,
    }


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    before, clocks = host(), time.time() - time.monotonic()
    with Pool(1) as workers:
        yield workers
    assert host() == before
    assert abs(time.time() - time.monotonic() - clocks) < 5


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(programs(names=NAMES, longest_us=2000), FILTERS, st.sampled_from(("container", "root")))
def test_a_random_program_harms_nobody(
    pool: Pool, tmp_path: Path, program: Program, rule: bytes, stance: str
) -> None:
    file = tmp_path / "random.json"
    file.write_text(jsonform.dumps(program))
    try:
        (variant,) = foreign.instance(file, FAMILY).variants
    except InputError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert said.startswith(f"{file}: $"), "refused, and where"
        return
    free, under = config(posture=stance), config(rule, posture=stance)
    spec = program_spec(replace(variant, program=program))
    own = Arm(ProgramSpec(MKDIR, (PARENT,)), free, free, 1_000_000)
    runner = pool.first.pid
    results = pool.run(
        [arm_of(variant, spec, config_, free, 50_000) for config_ in (free, under)] + [own]
    )
    for result in results:
        assert not (isinstance(result, str) and result.startswith("the runner")), result
    assert pool.first.pid == runner, "it is still the same"
    last = results[-1]
    assert isinstance(last, Result)
    assert made_directory(last), "and the next trial is as it should be"
