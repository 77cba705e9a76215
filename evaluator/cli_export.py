"""The command ``sidestep export``: a candidate in another format, for deployment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evaluator.errors import InputError, border
from evaluator.options import debug_option, posture_option, reading_options
from evaluator.terminal import complain

if TYPE_CHECKING:
    from mitigations.load import Meaning

FORMATS = ("oci", "docker", "spo", "daemonset", "systemd", "bpf", "c")


@click.command()
@click.argument("candidate")
@click.option(
    "--to",
    type=click.Choice(FORMATS),
    required=True,
    help="oci and docker: a profile in JSON; spo: a SeccompProfile that the Security Profiles "
    "Operator brings to the nodes; daemonset: a ConfigMap and a DaemonSet that copies the profile "
    "to every node; systemd: a drop-in; bpf: the instructions; c: a program that "
    "loads the filters and runs another.",
)
@reading_options
@posture_option
@click.option("-o", "--output", metavar="FILE", help="Where to write it; by default to stdout.")
@debug_option
def export(
    candidate: str, to: str, meaning: Meaning, runtime_model: str, posture: str, output: str | None
) -> None:
    """Write a candidate in another format, for deployment.

    What the format cannot say is named on stderr, a line for each thing, and so is every call that
    the output answers otherwise than the candidate does.
    """
    from evaluator.request import candidate_of
    from mitigations.candidate import ProfileError
    from mitigations.export import export as exported

    with border():
        found = candidate_of(
            candidate, meaning=meaning, runtime_model=runtime_model, stance=posture
        )
        try:
            written = exported(found, to)
        except ProfileError as error:
            raise InputError(f"{candidate}: {error}") from None
    if output is None:
        _to_stdout(written.content, to)
    else:
        _to_file(written.content, output, candidate)
    for one in written.lost:
        complain(f"not in the {to} output: {one}")


def _to_stdout(content: bytes, to: str) -> None:
    if to == "bpf" and sys.stdout.isatty():
        raise InputError("--to bpf is binary: redirect it, or give -o FILE")
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _to_file(content: bytes, output: str, candidate: str) -> None:
    from evaluator.inputs import named

    path = Path(output)
    try:
        if output.endswith("/") or (path.exists() and not path.is_file()):
            raise InputError(f"{output}: not a regular file")
        source = Path(named(candidate).path)
        if path.exists() and source.exists() and path.samefile(source):
            raise InputError(f"{output}: the output would overwrite the input")
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"{output}: {error.strerror}") from None
