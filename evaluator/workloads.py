"""Workloads: honest programs that must keep working, as data.

Each is one TOML file, ``evaluator/honest/NAME.toml`` or a user's own.  A program that ends by
itself works if it exits with 0 and prints ``stdout``.  A service works if it becomes ready, answers
a request as it should, and ends when it is asked to: an exit code alone would prove nothing.
"""

from __future__ import annotations

import functools
import importlib.resources
import math
import shutil
import signal
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from evaluator import toml_source
from evaluator.errors import InputError
from evaluator.objectives import unknown

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for, here and in the sandbox, which shows the same directories."""
DEFAULTS = ("static-entry", "shell-basics")
"""What every evaluation runs; the others take longer, and are asked for."""
_MOST_FILES, _LONGEST_NAME, _LARGEST = 32, 58, 256 * 1024
_MOST_WORDS = 1000
"""Of a command and its environment, which the runner takes as so many blobs."""

Text = Annotated[str, Meta(min_length=1)]


class Program(StrEnum):
    """Where the program comes from."""

    SYSTEM = "system"
    """``command[0]`` is a program of this machine, seen read-only in the sandbox."""
    STATIC_ENTRY = "static-entry"
    """The bundled static program: it exits with 0 and makes no other system call."""
    SOCKETCALL = "socketcall-i386"
    """The bundled static 32-bit program: it talks to itself over loopback by socketcall(2)."""
    SELF_FILTER = "self-filter"
    """The start-up check of ``evaluator.self_filter``: it is made, not exec'ed."""


class Service(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program that lives until it is asked to end; both scripts are sh(1)'s, run unconfined."""

    ready: Text
    """Run again and again until it exits with 0."""
    request: Text
    """Run once, then; it has to exit with 0."""
    answer: str | None = None
    """All that the request prints; missing if its exit code says enough."""
    stop: str = "SIGTERM"
    """The signal that ends the service in good order."""


class Workload(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Runs in an empty, writable directory of its own, which holds ``files`` and is its HOME."""

    name: str
    title: Text
    """What works if it does, in a few words."""
    command: tuple[str, ...]
    """The program and its arguments."""
    program: Program = Program.SYSTEM
    """Where the program comes from."""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    """Its environment besides PATH and HOME."""
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    """Contents by path below the directory; those that begin with ``#!`` are executable."""
    stdout: str | None = None
    """All that it prints, stderr included; missing if its exit code says enough."""
    service: Service | None = None
    """What makes a service of it; without it the program has to end by itself."""
    needs: tuple[Text, ...] = ()
    """Other programs without which it cannot run, or absolute paths."""
    needs_ids: bool = False
    """It gives up root for another user, so the sandbox must have more than one."""
    deadline: Annotated[float, Meta(gt=0, le=600)] = 10.0
    """Seconds."""

    def missing(self) -> tuple[str, ...]:
        """What of ``needs`` and the command is not on this machine."""
        # One of its own files is not on this machine, and must not be looked for in our directory.
        system = self.program is Program.SYSTEM and not _is_relative(self.command[0])
        own = self.command[:1] if system else ()
        return tuple(one for one in (*own, *self.needs) if found(one) is None)


def found(program: str) -> str | None:
    """The absolute path of a program that the sandbox can see, or None."""
    if program.startswith("/"):
        return program if Path(program).exists() else None
    return shutil.which(program, path=PATH)


@functools.cache
def builtin() -> tuple[Workload, ...]:
    """All workloads that ship with the tool: the defaults first, the others by name."""
    directory = importlib.resources.files("evaluator").joinpath("honest")
    names = [one.name.removesuffix(".toml") for one in directory.iterdir()]
    others = sorted(set(names).difference(DEFAULTS))
    return tuple(
        _decoded(directory.joinpath(f"{name}.toml").read_bytes(), name, f"{name}.toml")
        for name in (*DEFAULTS, *others)
    )


def workload(reference: str) -> Workload:
    """The built-in workload of that name, or that of a TOML file; ``InputError`` if it is neither.

    A path is what has a slash or ends with ``.toml``.
    """
    if "/" in reference or reference.endswith(".toml"):
        return _from_file(reference)
    for one in builtin():
        if one.name == reference:
            return one
    raise InputError(unknown("workload", reference, [one.name for one in builtin()]))


def chosen(references: Sequence[str]) -> tuple[Workload, ...]:
    """The workloads named, each once; ``all`` is every one that ships with the tool."""
    found = [
        one
        for reference in references
        for one in (builtin() if reference == "all" else (workload(reference),))
    ]
    by_name: dict[str, Workload] = {}
    for one in found:
        if by_name.setdefault(one.name, one) != one:
            raise InputError(f"two workloads are called {one.name!r}: rename one of the files")
    return tuple(by_name.values())


def _from_file(reference: str) -> Workload:
    path = Path(reference)
    try:
        if not path.is_file():
            wrong = "not a regular file" if path.exists() else "no such file"
            raise InputError(f"{reference}: {wrong}")
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{reference}: larger than {_LARGEST // 1024} KiB: no workload is")
        return _decoded(path.read_bytes(), path.stem, reference)
    except OSError as error:
        raise InputError(f"{reference}: cannot read: {error.strerror}") from None


def _decoded(data: bytes, name: str, where: str) -> Workload:
    try:
        raw = msgspec.toml.decode(data)
        if "name" in raw:
            raise InputError(f"{where}: name: a workload is called as its file is; remove it")
        one = msgspec.convert({**raw, "name": name}, Workload)
    except msgspec.DecodeError as error:  # of which ValidationError is one
        raise InputError(f"{where}: {_in_words(str(error))}") from None
    except UnicodeDecodeError:
        raise InputError(f"{where}: not UTF-8, so it is no TOML") from None
    except RecursionError:
        raise InputError(f"{where}: nested too deeply: no workload is") from None
    mistake = _mistake(one)
    if mistake:
        raise InputError(f"{where}: {mistake}")
    return one


def _in_words(error: str) -> str:
    """A message of msgspec with the place first: ``service.stop: ...``."""
    known = (*Workload.__struct_fields__, *Service.__struct_fields__)
    path, message = toml_source.said(error, [one for one in known if one != "name"])
    return f"{toml_source.in_words(path)}: {message}" if path else message


def _mistake(one: Workload) -> str:
    if not one.command or not one.command[0]:
        return "command: empty; name the program and its arguments"
    if one.service is not None and one.stdout is not None:
        return "stdout: a service is judged by its answer; remove one of the two"
    if math.isnan(one.deadline):
        return "deadline: nan is no number of seconds"
    if one.service is not None and one.service.stop not in signal.Signals.__members__:
        return f"service.stop: no signal {one.service.stop!r}; write SIGTERM, SIGQUIT, ..."
    if any("\0" in text for text in (*one.command, *one.env, *one.env.values())):
        return "command, env: a NUL cannot be handed to a program"
    if any(not name or "=" in name for name in one.env):
        return "env: a name is empty or holds '='"
    return _mistake_in_programs(one) or _mistake_in_files(one)


def _mistake_in_programs(one: Workload) -> str:
    if len(one.command) + len(one.env) > _MOST_WORDS:
        return f"command, env: more than {_MOST_WORDS} words; write a script in files"
    program = one.command[0]
    if _is_relative(program) and PurePosixPath(program) not in map(PurePosixPath, one.files):
        return f"command: {program!r} is not one of its files; write a name or an absolute path"
    relative = next(filter(_is_relative, one.needs), None)
    if relative is not None:
        return f"needs: {relative!r} is a relative path; write a name or an absolute path"
    return ""


def _is_relative(program: str) -> bool:
    """A path below the workload's directory, rather than a name that is looked for."""
    return "/" in program and not program.startswith("/")


def _mistake_in_files(one: Workload) -> str:
    if len(one.files) > _MOST_FILES:
        return f"files: {len(one.files)}, and {_MOST_FILES} is the most"
    if sum(map(len, one.files.values())) > _LARGEST:
        return f"files: more than {_LARGEST // 1024} KiB"
    for name in one.files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
            return f"files: {name!r} leads out of the workload's directory"
        if len(name.encode()) > _LONGEST_NAME:
            return f"files: {name!r} is longer than {_LONGEST_NAME} bytes"
    return _clash([PurePosixPath(name) for name in one.files])


def _clash(paths: Sequence[PurePosixPath]) -> str:
    for path in paths:
        if paths.count(path) > 1:
            return f"files: {str(path)!r} is there twice"
        if any(parent in paths for parent in path.parents):
            return f"files: {str(path)!r} lies below another file"
    return ""
