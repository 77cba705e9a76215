"""Candidates that are filters already: a program that a process puts on itself, or a read-back one.

The JSON form is ours: {"attachment": "self" | "runtime", "no_new_privs": true, "intent": "...",
"filters": [{"flags": [...], "instructions": [[code, jt, jf, k], ...]}, ...]}, oldest filter first.
Else a file is one array of struct sock_filter, or text of one filter or of several (`listing`).
"""

from collections.abc import Sequence

from msgspec import Struct

from mitigations import classic, listing
from mitigations.bpf import Filter
from mitigations.candidate import (
    Attachment,
    Finding,
    Layer,
    NoNewPrivsLayer,
    ProfileError,
    SeccompLayer,
)
from mitigations.classic import FilterError, Instruction
from mitigations.json_section import Section, text, wrong_type
from mitigations.strict_json import JsonObject, is_list
from mitigations.suggestion import did_you_mean, quote

_KEYS = ("attachment", "no_new_privs", "filters", "intent", "comment")
_FILTER_KEYS = ("flags", "instructions", "comment")
FLAGS = (
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
)
_FIELDS = (("code", 0xFFFF), ("jt", 0xFF), ("jf", 0xFF), ("k", 0xFFFFFFFF))
# The kernel's MAX_INSNS_PER_PATH, and what each further filter costs of it.
_LONGEST_STACK = 32768
_COST_OF_A_FILTER = 4


class RawCandidate(Struct, frozen=True):
    layers: tuple[Layer, ...]
    attachment: Attachment
    intent: str
    default_action: str = ""


def is_raw(document: object) -> bool:
    return isinstance(document, JsonObject) and "filters" in document


def parse_raw(document: JsonObject) -> RawCandidate:
    unknown: list[Finding] = []
    top = Section(document, "", _KEYS, unknown)
    attachment = top.text("attachment") or Attachment.SELF.value
    if attachment not in tuple(Attachment):
        hint = did_you_mean(attachment, tuple(Attachment))
        raise ProfileError(
            f"unknown attachment {quote(attachment)}{hint}", "attachment", "unknown-attachment"
        )
    no_new_privs: object = document.get("no_new_privs")
    if not isinstance(no_new_privs, bool | None):
        raise wrong_type("true or false", no_new_privs, "no_new_privs")
    filters = tuple(_parse_filter(each) for each in top.sections("filters", _FILTER_KEYS))
    if not filters:
        raise ProfileError("no filter given", "filters", "no-filters")
    if unknown:
        # A format of our own has no runtime that would ignore a key.
        raise ProfileError("unknown key", unknown[0].where, "unknown-key")
    _check_stack(filters)
    layers: tuple[Layer, ...] = (NoNewPrivsLayer(), *filters) if no_new_privs else filters
    return RawCandidate(layers, Attachment(attachment), top.text("intent"))


def parse_filters(content: bytes) -> RawCandidate:
    """Filters as text, oldest first, or the bytes of one; ProfileError for what is neither."""
    programs = [content]
    if b"\0" not in content:  # which every instruction has, in its code
        programs = [classic.pack(each) for each in listing.parse(content)]
    several = len(programs) > 1
    filters = tuple(
        parse_program(each, f"filters[{index}]" if several else "")
        for index, each in enumerate(programs)
    )
    _check_stack(filters)
    return RawCandidate(filters, Attachment.RUNTIME, "")


def parse_program(content: bytes, where: str = "") -> SeccompLayer:
    """A layer of these very bytes; ProfileError for what the kernel would refuse."""
    try:
        Filter.decode(content)
    except FilterError as error:
        at = where if error.pc is None else f"{where}[{error.pc}]" if where else f"[{error.pc}]"
        raise ProfileError(error.message, at, error.code) from None
    return SeccompLayer(content, (content,))


def _parse_filter(section: Section) -> SeccompLayer:
    for flag, where in section.texts("flags"):
        if flag not in FLAGS:
            hint = did_you_mean(flag, FLAGS)
            raise ProfileError(f"unknown flag {quote(flag)}{hint}", where, "unknown-flag")
    flags = tuple(text(flag, where) for flag, where in section.items("flags"))
    instructions = [_instruction(*each) for each in section.items("instructions")]
    layer = parse_program(classic.pack(instructions), section.path("instructions"))
    return SeccompLayer(layer.program, layer.valid, flags)


def _instruction(value: object, where: str) -> Instruction:
    if not is_list(value) or len(value) != len(_FIELDS):
        raise ProfileError("expected [code, jt, jf, k]", where, "bad-instruction")
    for (name, largest), number in zip(_FIELDS, value, strict=True):
        if type(number) is not int or not 0 <= number <= largest:
            raise ProfileError(f"{name} is not within 0..{largest}", where, "bad-instruction")
    return Instruction(*value)


def _check_stack(filters: Sequence[SeccompLayer]) -> None:
    total = sum(len(classic.unpack(each.program)) + _COST_OF_A_FILTER for each in filters)
    if total > _LONGEST_STACK:
        raise ProfileError(
            f"the filters cost {total} instructions together, the kernel takes {_LONGEST_STACK}",
            "filters",
            "stack-too-large",
        )
