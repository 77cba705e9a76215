"""Recordings that others made: audit logs, strace's output, the Security Profiles Operator.

Nobody has to record twice.  Every line is either understood, known to say nothing of a call, or
counted and quoted in a note; a file without a single call is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from evaluator.errors import InputError
from evaluator.kept_arguments import ARGUMENTS, NO_ARGUMENTS, Arguments, kept, value_of
from evaluator.recording import Recording, Use, recording
from evaluator.terminal import printable
from mitigations import strict_json, x86_64
from mitigations.candidate import ProfileError
from mitigations.rules import OF_ABI

Form = Literal["auto", "audit", "strace", "spo"]
FORMS: tuple[Form, ...] = ("auto", "audit", "strace", "spo")
LARGEST = 256 << 20
_QUOTED = 3
_NAMED = 5
_LONGEST_QUOTE = 60
_HEAD = 1 << 16


class _Found(Struct):
    """What a file holds, as far as it is read."""

    uses: set[Use]
    strange: Counter[str]
    """Lines that were not understood, by why."""
    quoted: list[str]
    notes: list[str]
    programs: set[str]
    """Whose calls they are, where that is said."""

    def wonder(self, number: int, why: str, line: str) -> None:
        """Notes what was not understood; a number of 0 where there are no lines."""
        self.strange[why] += 1
        if len(self.quoted) < _QUOTED:
            where = f"line {number}: " if number else ""
            self.quoted.append(f"{where}{why}: {printable(line.strip()[:_LONGEST_QUOTE])}")


def read(path: str, form: Form = "auto") -> Recording:
    """The recording in a file; ``InputError`` where it cannot be read or holds no call."""
    try:
        content = strict_json.read_limited(Path(path), LARGEST)
    except ProfileError as error:
        raise InputError(f"{path}: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    text = content.decode("utf-8", errors="replace")
    chosen = _form_of(text) if form == "auto" else form
    found = _Found(set(), Counter(), [], [], set())
    _READERS[chosen](text, found)
    if not found.uses:
        first = f" ({found.quoted[0]})" if found.quoted else ""
        raise InputError(f"{path}: no system call in it, read as {chosen}{first}")
    return recording((), tuple(found.uses), tuple(_notes(path, found)))


def _form_of(text: str) -> Form:
    head = text[:_HEAD]
    if _SPO_MARK.search(head):
        return "spo"
    return "audit" if "audit(" in head else "strace"


def _notes(path: str, found: _Found) -> Iterator[str]:
    yield from dict.fromkeys(found.notes)
    if len(found.programs) > 1:
        names = ", ".join(sorted(found.programs)[:_NAMED])
        more = f" and {len(found.programs) - _NAMED} more" if len(found.programs) > _NAMED else ""
        yield f"{path}: calls of {len(found.programs)} programs: {names}{more}"
    lines = found.strange.total()
    if lines:
        more = f", and {lines - len(found.quoted)} more" if lines > len(found.quoted) else ""
        yield f"{path}: {lines} lines not understood: {'; '.join(found.quoted)}{more}"


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r")


def _use(abi: str, call: str, args: Arguments = NO_ARGUMENTS) -> Use:
    return Use(abi, call, args, 1)


# --- audit ---------------------------------------------------------------------------------------

# What the kernel writes is before the group separator; auditd repeats it behind that, translated.
_RECORD = re.compile(r"type=(?P<type>\w+) (?:msg=)?audit\([^)]*\) ?: ?(?P<fields>[^\x1d]*)")
_FIELD = re.compile(r'(\w+)=("[^"]*"|\S+)')
_CALL_RECORDS = frozenset({"SECCOMP", "1326", "SYSCALL", "1300"})
_WITH_ARGUMENTS = frozenset({"SYSCALL", "1300"})
_BY_NAME = {"x86_64": "x86_64", "i386": "i386"}
_NO_RECORD = re.compile(r"audit_printk_skb|kauditd_printk_skb|audit: backlog|^----$|^time->")


def _read_audit(text: str, found: _Found) -> None:
    for number, line in _lines(text):
        record = _RECORD.search(line)
        if record is None:
            if not _NO_RECORD.search(line):
                found.wonder(number, "not an audit record", line)
        elif record["type"] in _CALL_RECORDS:
            _read_call_record(record, number, line, found)


def _read_call_record(record: re.Match[str], number: int, line: str, found: _Found) -> None:
    # Without a group separator the translation follows at once: code=0x7ffc0000AUID="unset".
    fields: dict[str, str] = {}
    for key, value in _FIELD.findall(record["fields"]):
        fields.setdefault(key, value)
    if "arch" not in fields or "syscall" not in fields:
        found.wonder(number, "no arch or no syscall", line)
        return
    known = _known_call(fields["arch"], fields["syscall"])
    if known is None:
        found.wonder(number, "a call of another machine, or none", line)
        return
    abi, call = known
    if "exe" in fields:
        found.programs.add(printable(fields["exe"].strip('"')))
    args = NO_ARGUMENTS
    if record["type"] in _WITH_ARGUMENTS:
        args = kept(
            abi, call, (*(_hexadecimal(fields.get(f"a{i}", "")) for i in range(4)), None, None)
        )
    found.uses.add(_use(abi, call, args))


def _known_call(arch: str, syscall: str) -> tuple[str, str] | None:
    """ABI and name; both may be numbers or, from ``ausearch -i``, names."""
    if arch in _BY_NAME:
        abi: str | None = _BY_NAME[arch]
    else:
        value = _hexadecimal(arch)
        number = int(syscall) if syscall.isdigit() else 0
        abi = None if value is None else x86_64.abi_of(value, number)
    if abi is None:
        return None
    if syscall.isdigit():
        return abi, x86_64.name(abi, int(syscall)) or syscall
    return (abi, syscall) if x86_64.number(abi, syscall) is not None else None


def _hexadecimal(text: str) -> int | None:
    try:
        return int(text, 16)
    except ValueError:
        return None


# --- strace --------------------------------------------------------------------------------------

_PID = r"(?:\[pid\s+(?P<pid>\d+)\]\s*|(?P<first>\d+)\s+)?"
_TIME = (
    r"(?:(?:\d+:)?\d\d:\d\d(?:\.\d+)?\s+|\d+\.\d+\s+(?:\(\+\s*[\d.]+\)\s+)?|\(\+\s*[\d.]+\)\s+)?"
)
_POINTER = r"(?:\[[0-9a-f?]{8,16}\]\s*)?"
_START = re.compile(r"\s*" + _PID + _TIME + _POINTER)
_CALL = re.compile(r"(?P<name>[a-zA-Z_]\w*)\((?P<rest>.*)")
_NUMBERED = re.compile(r"syscall_(?P<number>0x[0-9a-f]+|\d+)")
_SILENT = re.compile(
    r"---\s.*---$|\+\+\+\s.*\+\+\+$|<\.\.\. .*resumed>|\?\?\?\?\(|strace: "
    r"|Process \d+ (?:attached|detached|resumed|suspended)|<detached"
    # The end of a call that "Process N attached" interrupted.
    r"|<unfinished \.\.\.>$|[,)]"
    # Around the table of strace -c.
    r"|% time +seconds|-+ -+ |[\d.]+ +[\d.]+ +\d+ +(?:\d+ +){1,2}total$"
)
_ATTACHED = "strace: Process "
_COUNTED = re.compile(r"[\d.]+ +[\d.]+ +\d+ +\d+ +(?:\d+ +)?(?P<name>[a-zA-Z_]\w*)$")
_MODE = re.compile(
    r"(?:\[ Process PID=(?P<pid>\d+) runs in|System call usage summary for) "
    r"(?P<mode>64 bit|32 bit|x32) mode"
)
_ABI_OF_MODE = {"64 bit": "x86_64", "32 bit": "i386", "x32": "x32"}
_STRACES_NAMES = {"old_mmap": "mmap", "old_select": "select"}
_BY_A_NAME = (
    "no line says which processes were 32-bit: one is taken for it from the first call on that "
    "only i386 has"
)


def _read_strace(text: str, found: _Found) -> None:
    reader = _Strace(found)
    for number, line in _lines(text):
        reader.take(number, line)


class _Strace:
    """What was read of the output so far."""

    def __init__(self, found: _Found) -> None:
        self._found = found
        self._abis: dict[str | None, str] = {}
        """By process, where one is named in each line."""
        self._latest = "x86_64"

    def take(self, number: int, line: str) -> None:
        mode = _MODE.search(line)
        if mode:
            self._latest = _ABI_OF_MODE[mode["mode"]]
            self._abis[mode["pid"]] = self._latest
            return
        counted = _COUNTED.match(line.strip())
        start = _START.match(line)
        assert start is not None  # all of it is optional
        rest = line[start.end() :].partition(_ATTACHED)[0]  # it may interrupt a call
        call = counted or _CALL.match(rest)
        if not rest or _SILENT.match(line.strip()) or _SILENT.match(rest):
            return
        if call is None:
            self._found.wonder(number, "not a call", line)
            return
        name = _call_name(call["name"])
        abi = self._abi_of(start["pid"] or start["first"], name)
        if not name.isdigit() and x86_64.number(abi, name) is None:
            self._found.wonder(number, f"{abi} has no such call", line)
            return
        args = NO_ARGUMENTS if counted else _strace_values(abi, name, _arguments(call["rest"]))
        self._found.uses.add(_use(abi, name, args))

    def _abi_of(self, pid: str | None, name: str) -> str:
        # Without -f no line has a pid, and the mode is the only process's.
        abi = self._abis.get(pid, "x86_64") if pid else self._latest
        if abi == "x86_64" and _is_of_i386(name):
            self._found.notes.append(_BY_A_NAME)  # with -o, strace says the mode on stderr alone
            abi = self._latest = self._abis[pid] = "i386"
        return abi


def _call_name(text: str) -> str:
    numbered = _NUMBERED.fullmatch(text)
    return str(int(numbered["number"], 0)) if numbered else _STRACES_NAMES.get(text, text)


def _is_of_i386(name: str) -> bool:
    return x86_64.number("x86_64", name) is None and x86_64.number("i386", name) is not None


def _strace_values(abi: str, name: str, texts: Sequence[str]) -> Arguments:
    values = [value_of(name, i, text) for i, text in enumerate(texts[:ARGUMENTS])]
    if name == "clone":  # strace prints its flags by name, behind the stack
        flags = next((text for text in texts if text.startswith("flags=")), "")
        values = [value_of(name, 0, flags) if flags else (values or [None])[0]]
    values += [None] * (ARGUMENTS - len(values))
    return kept(abi, name, tuple(values))


def _arguments(text: str) -> list[str]:
    """What stands between the parentheses, split at the commas that part arguments."""
    found, depth, begin, quoted, at = list[str](), 0, 0, False, 0
    while at < len(text):
        one = text[at]
        if quoted:
            at += one == "\\"
            quoted = one != '"'
        elif one == '"':
            quoted = True
        elif one in "([{":
            depth += 1
        elif one == ")" and not depth:
            break
        elif one in ")]}":
            depth -= 1
        elif one == "," and not depth:
            found.append(text[begin:at].strip())
            begin = at + 1
        at += 1
    last = text[begin:at].removesuffix("<unfinished ...>").strip()
    return [*found, last] if last else found


# --- Security Profiles Operator ------------------------------------------------------------------

_SPO_MARK = re.compile(r"\bkind\"?: *\"?SeccompProfile\b|\blog-enricher\b|\"spo/v")
_ENRICHED = re.compile(r"\blog-enricher\b")
_PAIR = re.compile(r'"?(\w+)"?=("(?:[^"\\]|\\.)*"|\S+)')


class _SpoRule(Struct):
    """A rule of a SeccompProfile; other keys are of no use here."""

    names: list[str]
    action: str = ""


class _SpoSpec(Struct, rename="camel"):
    syscalls: list[_SpoRule] = []
    architectures: list[str] = []
    base_profile_name: str = ""


class _SpoProfile(Struct):
    kind: str
    spec: _SpoSpec


class _SpoLine(Struct):
    """A line of the JSON enricher."""

    version: str
    syscalls: list[str]


def _read_spo(text: str, found: _Found) -> None:
    if _ENRICHED.search(text[:_HEAD]) or '"spo/v' in text[:_HEAD]:
        for number, line in _lines(text):
            _read_spo_line(number, line, found)
        return
    import yaml  # a tenth of a second that only this needs

    if len(text) > strict_json.LIMIT_BYTES:
        raise InputError(f"more than {strict_json.LIMIT_BYTES:,} characters are no SeccompProfile")
    try:
        documents = list(yaml.safe_load_all(text))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        why = " ".join(str(error).split())
        raise InputError(f"not YAML: {printable(why)}") from None
    for item in chain.from_iterable(map(_items, documents)):
        match item:
            case {"kind": "SeccompProfile"}:
                _read_spo_profile(item, found)
            case _:
                found.notes.append("it holds something that is no SeccompProfile: left out")


def _items(document: Any) -> list[Any]:
    """The objects of a ``kind: List``, or the document itself."""
    match document:
        case {"items": [*items]}:
            return items
        case _:
            return [document]


def _read_spo_profile(document: Any, found: _Found) -> None:
    try:
        spec = msgspec.convert(document, _SpoProfile).spec
    except msgspec.ValidationError as error:
        raise InputError(f"SeccompProfile: {error}") from None
    if spec.base_profile_name:
        found.notes.append(
            f"the calls of its base profile {printable(spec.base_profile_name)} are not in the file"
        )
    named = {architecture: abi for abi, architecture in OF_ABI.items()}
    abis = [named[one] for one in spec.architectures if one in named]
    others = sorted(set(spec.architectures) - set(named))
    if others:
        found.notes.append(f"recorded on {', '.join(map(printable, others))}: taken for x86_64")
    for rule in spec.syscalls:
        if rule.action not in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG"):
            continue
        for name in rule.names:
            _add_named(name, abis or ["x86_64"], 0, found)


def _read_spo_line(number: int, line: str, found: _Found) -> None:
    if line.lstrip().startswith("{"):
        try:
            one = msgspec.json.decode(line, type=_SpoLine)
        except msgspec.DecodeError as error:
            found.wonder(number, str(error), line)
            return
        for name in one.syscalls:
            _add_named(name, ["x86_64"], number, found)
        return
    fields = {key: value.strip('"') for key, value in _PAIR.findall(line)}
    if not _ENRICHED.search(line):
        found.wonder(number, "not a line of the enricher", line)
    elif "syscallName" in fields:
        _add_named(fields["syscallName"], ["x86_64"], number, found)


def _add_named(name: str, abis: list[str], number: int, found: _Found) -> None:
    known = [abi for abi in abis if x86_64.number(abi, name) is not None]
    if not known:
        found.wonder(number, "no such call", name)
    for abi in known:
        found.uses.add(_use(abi, name))


_READERS: dict[Form, Callable[[str, _Found], None]] = {
    "audit": _read_audit,
    "strace": _read_strace,
    "spo": _read_spo,
}
