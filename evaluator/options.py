"""Options that more than one command takes: they mean the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.core import ParameterSource
from msgspec import Struct, field

from evaluator.errors import InputError

if TYPE_CHECKING:
    from mitigations.kubernetes import NodeSetup

POSTURES = ("container", "restricted", "root")
MEANINGS = ("auto", "oci", "docker", "kubernetes", "spo", "systemd", "raw")
RUNTIME_MODELS = ("runc-1.1", "runc-1.2", "crun")
_F = TypeVar("_F", bound=Callable[..., Any])


class Invocation(Struct):
    """What the outermost frame must know of the command line."""

    debug: bool = False
    node: dict[str, Any] = field(default_factory=dict[str, Any])
    """What was said of the node that manifests are for: fields of ``NodeSetup``."""


def _set_debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Invocation).debug = True


def debug_option(command: _F) -> _F:
    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_set_debug,
        help="Show a traceback where something goes wrong.",
    )(command)


def json_option(command: _F) -> _F:
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print one JSON object and nothing else; short for --format json.",
    )(command)


def format_option(command: _F) -> _F:
    option = click.option(
        "--format",
        "form",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="What to print.",
    )
    return option(json_option(_of_one_mind(command)))


def _of_one_mind(command: _F) -> _F:
    """Refuses ``--json`` beside another ``--format``, before the command does anything."""

    @wraps(command)
    def checked(*args: Any, **options: Any) -> Any:
        source = click.get_current_context().get_parameter_source("form")
        if (
            options["as_json"]
            and options["form"] != "json"
            and source is not ParameterSource.DEFAULT
        ):
            raise InputError(f"--json and --format {options['form']}: give one of them")
        return command(*args, **options)

    return cast("_F", checked)


def posture_option(command: _F) -> _F:
    return click.option(
        "--posture",
        type=click.Choice(POSTURES),
        default=POSTURES[0],
        show_default=True,
        help="What the subject may do before the candidate.",
    )(command)


def reading_options(command: _F) -> _F:
    """How a profile is read, and whose filter is made of it."""
    model = click.option(
        "--runtime-model",
        type=click.Choice(RUNTIME_MODELS),
        default=RUNTIME_MODELS[0],
        show_default=True,
        help="Whose filter to load: what this runtime makes of the profile.",
    )
    meaning = click.option(
        "--from",
        "meaning",
        type=click.Choice(MEANINGS),
        default=MEANINGS[0],
        show_default=True,
        help="What the input is; found out from its content.",
    )
    return meaning(model(node_options(command)))


def unusual(meaning: str, runtime_model: str, stance: str) -> list[str]:
    """The words of these options as far as they are not what is usual, for a command to copy."""
    given = (
        ("--from", meaning, MEANINGS[0]),
        ("--runtime-model", runtime_model, RUNTIME_MODELS[0]),
        ("--posture", stance, POSTURES[0]),
    )
    return [word for name, value, usual in given if value != usual for word in (name, value)]


def node_options(command: _F) -> _F:
    """What a manifest leaves to its node; ``node_setup`` has it while the command runs."""
    for option in (
        click.option(
            "--runtime-default",
            metavar="FILE",
            callback=_set_node,
            expose_value=False,
            help="What RuntimeDefault is: a profile in Docker's format, or a captured one.",
        ),
        click.option(
            "--seccomp-default",
            is_flag=True,
            callback=_set_node,
            expose_value=False,
            help="As the kubelet's option: no seccompProfile means RuntimeDefault.",
        ),
        click.option(
            "--seccomp-root",
            metavar="DIR",
            callback=_set_node,
            expose_value=False,
            help="Where Localhost profiles are  [default: /var/lib/kubelet/seccomp]",
        ),
    ):
        command = option(command)
    return command


def _set_node(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is None or value is False:
        return
    if value == "":
        raise InputError(f"--{str(parameter.name).replace('_', '-')}: an empty path")
    known = value if parameter.name == "seccomp_default" else Path(value)
    context.ensure_object(Invocation).node[str(parameter.name)] = known


def node_setup() -> NodeSetup:
    """What the running command was told of the node."""
    from mitigations.kubernetes import NodeSetup

    context = click.get_current_context(silent=True)
    told = context.find_object(Invocation) if context is not None else None
    return NodeSetup(**(told.node if told is not None else {}))


def jobs_option(command: _F) -> _F:
    return click.option(
        "--jobs", type=click.IntRange(1, 256), help="Worker processes; as many as processors."
    )(command)


def split(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[str]:
    """A repeatable option that also takes several values with commas between them."""
    del parameter
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def is_directory(output: str, suffixes: Collection[str]) -> bool:
    """Whether what `-o` names is a directory, be it one that is still to be made, or a file.

    InputError for a mistyped suffix, which would become the name of a directory.
    """
    path = Path(output)
    if output.endswith("/") or not path.suffix or path.is_dir():
        return True
    if path.suffix not in suffixes and not path.exists():
        known = ", ".join(suffixes)
        raise InputError(f"{path}: no form has this suffix: {known}; for a directory end it with /")
    return path.suffix not in suffixes


def own_version() -> str:
    """That of the installed distribution; ``unknown`` if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import

    try:
        return version("sidestep")
    except PackageNotFoundError:
        return "unknown"
