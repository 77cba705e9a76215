"""A candidate as one C program that puts its layers on and runs another one under them."""

from __future__ import annotations

import string
from collections.abc import Iterator
from importlib import resources

from mitigations import classic
from mitigations.candidate import Candidate, LandlockLayer, SeccompLayer
from mitigations.disassembly import render

_PLAIN = b"/._-" + (string.ascii_letters + string.digits).encode()
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
    rulesets = [one for one in candidate.layers if isinstance(one, LandlockLayer)]
    lines: list[str] = []
    for number, ruleset in enumerate(rulesets):
        lines += _rules(ruleset, number)
    lines.append("static const struct ruleset rulesets[] = {")
    lines += [
        f"\t{{{one.handled_fs:#x}, {one.handled_net:#x}, {one.scoped:#x}, paths_{n}, ports_{n}}},"
        for n, one in enumerate(rulesets)
    ]
    lines += ["\t{0, 0, 0, 0, 0},", "};", ""]
    for number, layer in enumerate(candidate.seccomp):
        lines += _program(layer, number)
    lines.append("static const struct filter filters[] = {")
    lines += [
        f"\t{{program_{number}, {len(layer.program) // 8}, {_flags(layer):#x}}},"
        for number, layer in enumerate(candidate.seccomp)
    ]
    wants = int(candidate.brings_no_new_privs)
    lines += ["\t{0, 0, 0},", "};", f"static const int no_new_privs = {wants};", ""]
    name = candidate.name.replace("*/", "* /").encode("ascii", "backslashreplace").decode()
    heading = f"/* {name}: its layers, oldest first. */\n\n"
    return heading + before + "\n".join(lines) + "\n" + after


def _rules(layer: LandlockLayer, number: int) -> Iterator[str]:
    yield f"static const struct path_rule paths_{number}[] = {{"
    for path, allowed in layer.path_rules:
        yield f"\t{{{allowed:#x}, {_string(path)}}},"
    yield from ("\t{0, 0},", "};", f"static const struct port_rule ports_{number}[] = {{")
    for port, allowed in layer.port_rules:
        yield f"\t{{{allowed:#x}, {port}}},"
    yield from ("\t{0, 0},", "};", "")


def _string(text: str) -> str:
    """A literal of C; whatever is not plain by its bytes, in three octal digits each."""
    plain = (chr(one) if one in _PLAIN else f"\\{one:03o}" for one in text.encode())
    return f'"{"".join(plain)}"'


def _flags(layer: SeccompLayer) -> int:
    return sum(_FLAGS[flag] for flag in layer.flags)


def _program(layer: SeccompLayer, number: int) -> Iterator[str]:
    instructions = classic.unpack(layer.program)
    yield f"static const struct sock_filter program_{number}[] = {{"
    for one, text in zip(instructions, render(instructions), strict=True):
        yield f"\t{{{one.code:#06x}, {one.jt}, {one.jf}, {one.k:#010x}}},\t/* {text} */"
    yield "};"
    yield ""
