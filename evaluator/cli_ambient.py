"""``sidestep evaluate --ambient``: where packs come from and go to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from evaluator.errors import InputError
from evaluator.terminal import say

if TYPE_CHECKING:
    from evaluator.ambient import Contents
    from evaluator.plan import Plan
    from evaluator.request import Request

_SCRATCH = "/dev/shm"  # noqa: S108 - a tmpfs in nearly every container


def check(request: Request) -> None:
    """``InputError`` where the options make no sense together."""
    given = [
        name
        for name, value in (
            ("--control", request.control),
            ("--pack", request.pack),
            ("--unpack", request.unpack),
        )
        if value is not None
    ]
    if not request.ambient:
        raise InputError(f"{given[0]} is about somebody else's confinement: add --ambient")
    if request.paths or request.pids:
        raise InputError("--ambient judges what is already in force: leave the candidates out")
    if "--pack" in given and len(given) > 1:
        raise InputError(f"--pack and {(set(given) - {'--pack'}).pop()}: choose one")
    if not given:
        raise InputError(
            "--ambient needs a control, which cannot be run in here: make one outside with "
            "`sidestep evaluate --ambient --pack FILE`, and give it with --control FILE"
        )
    if request.pack is None and (request.families or request.objective is not None):
        raise InputError("--family and --objective belong to the pack: give them with --pack")
    for value, option in (
        (request.runtime != "native", "--runtime"),
        (request.simulate, "--simulate"),
        (request.search, "--search"),
        (request.workloads, "--workload"),
        (request.exhaustive, "--exhaustive"),
    ):
        if value:
            raise InputError(f"--ambient does not take {option}: leave one out")


def write_pack(request: Request, plan: Plan) -> int:
    """Runs the controls and writes the file; says what to do with it."""
    from attacks import library
    from evaluator.ambient import pack
    from evaluator.sandbox import runner_path

    assert request.pack is not None
    path = Path(request.pack)
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{path}: not a file that could be written")
    content = pack(plan, request.suite or library.SUITE, request.families)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror}") from None
    say(
        f"written to {path}: copy it and {runner_path()} to where the confinement is, and run there"
    )
    say(f"  ./runner ambient <{path.name} >results   (works in {_SCRATCH}; another tmpfs: name it)")
    say("then judge what it wrote")
    say("  sidestep evaluate --ambient --unpack results")
    say("with what another one wrote beside it, not so confined, as the control: --control OTHER")
    return 0


def contents(request: Request) -> tuple[Contents, Plan, Request]:
    """What a runner made of a pack, there or here; the plan and the request it was packed for."""
    from evaluator.ambient import candidate, families_of, read, run_here, with_control
    from evaluator.request import plan

    name = request.unpack or request.control
    assert name is not None
    data = _bytes(name)
    if request.unpack is None:
        families_of(read(data, name), name)  # before anything runs
        data = run_here(data, _SCRATCH)
    found = read(data, name)
    families = families_of(found, name)
    if request.unpack is not None and request.control is not None:
        beside = read(_bytes(request.control), request.control)
        found = with_control(found, beside, request.control)
    header = found.header
    packed = replace(
        request,
        posture=header.posture,
        families=list(header.must_hold),
        objective=header.objective,
        suite=header.suite,
    )
    planned = plan(packed)
    suite = frozenset(one for family in families for one in family.ids)
    planned = replace(planned, candidates=(candidate(),), families=families, suite=suite)
    return found, planned, packed


def _bytes(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from None
