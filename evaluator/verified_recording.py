"""Whether a recorded program works under the profile that was made of it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from evaluator.kept_arguments import value_text
from evaluator.predict import errno_name
from evaluator.record import CUT_OFF, SUCCEEDED, How, run
from evaluator.recording import ABIS, Use, title
from mitigations import classic, runtimes
from mitigations.classic import Action
from mitigations.rules import ERRNO_ACTIONS, Profile


class Verified(Struct, frozen=True):
    """One more run, under the compiled profile."""

    works: bool
    """It ended as it did when it was recorded, or well where that one, slower, was cut off."""
    end: str
    expected: str
    denied: tuple[str, ...] = ()
    """If it did not: the calls that the profile denied it, in yet another run."""


def verify(
    command: Sequence[str], profile: Profile, model: str, expected: str, timeout_s: float
) -> Verified:
    """Runs the command under the filter that a runtime of that model makes of the profile."""
    program = runtimes.compile_profile(profile, runtimes.find_model(model)).program
    ran, stopped = run(command, How(timeout_s, filters=(program,), asks=b""))
    if stopped is not None:
        raise stopped
    if ran.end == expected or (expected == CUT_OFF and ran.end == SUCCEEDED):
        return Verified(works=True, end=ran.end, expected=expected)
    denied, stopped = run(command, _asking(program, profile, timeout_s))
    if stopped is not None:
        raise stopped
    names = tuple(dict.fromkeys(_denial(use, profile) for use in denied.uses))
    return Verified(works=False, end=ran.end, expected=expected, denied=names)


def _asking(program: bytes, profile: Profile, timeout_s: float) -> How:
    """The same filter, asking where it denies; the runner then answers as it would have."""
    instructions = [
        one._replace(k=Action.USER_NOTIF)
        if one.code == classic.RETURN_K and not Action.of(one.k).allows
        else one
        for one in classic.unpack(program)
    ]
    return How(
        timeout_s,
        asks=classic.pack(instructions),
        answer=profile.default_errno_ret or 0,
        answers={(abi, name): errno for name, errno in _errnos(profile).items() for abi in ABIS},
    )


def _errnos(profile: Profile) -> dict[str, int]:
    return {
        name: rule.errno_ret or 0
        for rule in profile.rules
        if rule.action in ERRNO_ACTIONS
        for name in rule.names
    }


def _denial(use: Use, profile: Profile) -> str:
    known = [
        value_text(use.call, index, value)
        for index, value in enumerate(use.args)
        if value is not None
    ]
    arguments = f"({', '.join(known)})" if known else ""
    answer = _errnos(profile).get(use.call, profile.default_errno_ret or 0)
    return f"{title(use)}{arguments} -> {errno_name(answer)}"
