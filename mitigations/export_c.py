"""A candidate's filters as one C program that puts them on and runs another one under them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

from mitigations import classic
from mitigations.candidate import Candidate, SeccompLayer
from mitigations.disassembly import render

_MARK = "/* @filters */\n"
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1 << 0,
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 1 << 5,
}


def loader(candidate: Candidate) -> str:
    """The source of it: ``cc -o under FILE && ./under PROGRAM ARGUMENT...``."""
    template = resources.files("mitigations").joinpath("data/loader.c").read_text("utf-8")
    before, mark, after = template.partition(_MARK)
    assert mark
    lines: list[str] = []
    for number, layer in enumerate(candidate.seccomp):
        lines += _program(layer, number)
    lines.append("static const struct filter filters[] = {")
    lines += [
        f"\t{{program_{number}, {len(layer.program) // 8}, {_flags(layer):#x}}},"
        for number, layer in enumerate(candidate.seccomp)
    ]
    wants = int(candidate.brings_no_new_privs)
    lines += ["};", f"static const int no_new_privs = {wants};", ""]
    name = candidate.name.replace("*/", "* /").encode("ascii", "backslashreplace").decode()
    heading = f"/* {name}: seccomp filters, oldest first. */\n\n"
    return heading + before + "\n".join(lines) + "\n" + after


def _flags(layer: SeccompLayer) -> int:
    return sum(_FLAGS[flag] for flag in layer.flags)


def _program(layer: SeccompLayer, number: int) -> Iterator[str]:
    instructions = classic.unpack(layer.program)
    yield f"static const struct sock_filter program_{number}[] = {{"
    for one, text in zip(instructions, render(instructions), strict=True):
        yield f"\t{{{one.code:#06x}, {one.jt}, {one.jf}, {one.k:#010x}}},\t/* {text} */"
    yield "};"
    yield ""
