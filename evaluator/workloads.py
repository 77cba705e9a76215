"""Workloads: honest programs that must keep working, as data."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

from evaluator.errors import InputError
from evaluator.objectives import unknown


class Program(StrEnum):
    """Where the program comes from."""

    STATIC_ENTRY = "static-entry"
    """The bundled static program: it exits with 0 and makes no other system call."""
    SYSTEM = "system"
    """``argv[0]`` is an absolute path of this machine, seen read-only in the sandbox."""


class Workload(Struct, frozen=True):
    """Runs in an empty, writable directory of its own; works if it exits with 0 and ``stdout``."""

    name: str
    title: str
    program: Program
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    stdout: str = ""
    needs: tuple[str, ...] = ()
    """Absolute paths without which it cannot run here."""


# Builtins alone would leave out fork, execve, pipes and the dynamic loader.
_SHELL_BASICS = """\
set -e
printf 'one\\ntwo\\nthree\\n' > list
cat list
ls
sort list | head -n 1
grep -c t list
cp list copy
mv copy moved
wc -l < moved
rm moved
test ! -e moved
printf 'done\\n'
"""

WORKLOADS = (
    Workload(
        name="static-entry",
        title="A static program starts and exits",
        program=Program.STATIC_ENTRY,
        argv=("static-entry",),
    ),
    Workload(
        name="shell-basics",
        title="A shell script writes, reads, lists, pipes, copies and removes files",
        program=Program.SYSTEM,
        argv=("/bin/sh", "-c", _SHELL_BASICS),
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        stdout="one\ntwo\nthree\nlist\none\n2\n3\ndone\n",
        needs=("/bin/sh",),
    ),
)


def workload(name: str) -> Workload:
    """The workload of that name, or an ``InputError`` with the nearest names."""
    for one in WORKLOADS:
        if one.name == name:
            return one
    raise InputError(unknown("workload", name, [one.name for one in WORKLOADS]))
