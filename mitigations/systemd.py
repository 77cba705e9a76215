"""Units of systemd as candidates: a file, its drop-ins, and what systemd 252 would enforce.

A unit brings its own posture: root with all capabilities, or the user that it names.  What it
takes away is a layer: capabilities, new privileges, calls.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from mitigations import libseccomp, strict_json, systemd_filters, systemd_settings, unit_file
from mitigations.candidate import (
    Attachment,
    Candidate,
    CapabilitiesLayer,
    Finding,
    Layer,
    NoNewPrivsLayer,
    OwnPosture,
    ProfileError,
    SeccompLayer,
)
from mitigations.capabilities import CAPABILITIES
from mitigations.suggestion import did_you_mean, quote
from mitigations.systemd_facts import MODELLED, Facts, recorded
from mitigations.systemd_keys import ENFORCING
from mitigations.systemd_settings import KILL, SECTIONS, Settings
from mitigations.unit_file import Assignment, UnitText

SUFFIXES = tuple(SECTIONS)
# systemd.unit(5), for the system manager: an earlier one wins.
SEARCH_PATH = tuple(
    map(
        Path,
        (
            "/etc/systemd/system.control",
            "/run/systemd/system.control",
            "/run/systemd/transient",
            "/run/systemd/generator.early",
            "/etc/systemd/system",
            "/etc/systemd/system.attached",
            "/run/systemd/system",
            "/run/systemd/system.attached",
            "/run/systemd/generator",
            "/usr/local/lib/systemd/system",
            "/usr/lib/systemd/system",
            "/run/systemd/generator.late",
        ),
    )
)
OTHER_KINDS = (".automount", ".device", ".path", ".scope", ".slice", ".target", ".timer")
_HEADER = re.compile(rb"\s*(?:[#;][^\n]*\n\s*)*\[(?:Unit|Install|Service|Socket|Mount|Swap)\]\s")
_TAKEN = {
    "PrivateDevices": {"CAP_MKNOD", "CAP_SYS_RAWIO"},
    "ProtectKernelModules": {"CAP_SYS_MODULE"},
    "ProtectKernelLogs": {"CAP_SYSLOG"},
    "ProtectClock": {"CAP_SYS_TIME", "CAP_WAKE_ALARM"},
}
"""Switches that take capabilities out of the bounding set."""
MASKED = "masked-unit"
_SOMEBODY = 1000
_LARGEST_UID = 65535  # so many ids does the sandbox map
_EVERYTHING = frozenset(CAPABILITIES)
_NO_USER = re.compile(r"[:/\x00-\x1f\x7f]")
_NO_ID, _NO_ID_16 = (1 << 32) - 1, (1 << 16) - 1
"""(uid_t) -1, which is nobody's, also where ids have 16 bits."""
_MOST_DIGITS = len(str(_NO_ID))


class _Effect(Struct, frozen=True):
    posture: OwnPosture
    layers: tuple[Layer, ...]


def refuse_masked(path: Path) -> None:
    """ProfileError for a link to /dev/null."""
    if path.is_symlink() and str(path.resolve()) == "/dev/null":
        message = "a link to /dev/null: the unit is masked, systemd does not start it"
        raise ProfileError(message, code=MASKED)


def is_unit(content: bytes) -> bool:
    """Whether the first line that is no comment is a section that units have."""
    return _HEADER.match(content) is not None


def load(path: Path, content: bytes, facts: Facts, intent: str = "") -> Candidate:
    """The candidate of a unit file and its drop-ins; ProfileError where systemd refuses it.

    Drop-ins are those beside the file; of a file in one of systemd's own directories, those in all
    of them.  A file without a suffix of its own (``/dev/stdin``) is read as a service.
    """
    section = _section(path)
    findings: list[Finding] = []
    more = drop_ins(path)
    texts = [_parsed(content, path, section, findings)]
    texts += [
        _parsed(strict_json.read_limited(each), each, section, findings, is_drop_in=True)
        for each in more
    ]
    _note_sections(texts, section, facts, findings)
    _note_kind(path, findings)
    lines = [one for text in texts for one in text.assignments]
    settings = systemd_settings.read(lines, section, facts, findings)
    effect = _effect(settings, facts, findings)
    _note_version(facts, findings)
    return Candidate(
        name=path.name,
        source=str(path),
        layers=effect.layers,
        attachment=Attachment.RUNTIME,
        meaning="systemd",
        runtime_model=f"systemd-{MODELLED}/libseccomp-{libseccomp.version()}",
        posture=effect.posture,
        default_action=_default_action(settings),
        intent=intent,
        directives=tuple(_directives(lines, section)),
        warnings=tuple(findings),
    )


def filters_of(lines: Iterable[str]) -> tuple[SeccompLayer, ...]:
    """What a service with these lines loads, by the recorded facts; ProfileError as ``load``."""
    facts = recorded()
    text = unit_file.parse("\n".join(("[Service]", *lines)).encode(), "")
    return systemd_filters.layers(
        systemd_settings.read(text.assignments, "Service", facts, []), facts
    )


def _directives(lines: Iterable[Assignment], section: str) -> Iterator[str]:
    for one in lines:
        if one.section == section and one.key in ENFORCING:
            yield f"{one.key}={one.value}"


def _section(path: Path) -> str:
    if path.suffix in OTHER_KINDS:
        message = f"a {path.suffix} unit runs no command: name a .service"
        raise ProfileError(message, code="unit-without-commands")
    return SECTIONS.get(path.suffix, SECTIONS[".service"])


def _parsed(
    content: bytes, path: Path, section: str, findings: list[Finding], *, is_drop_in: bool = False
) -> UnitText:
    if not content:
        raise ProfileError("an empty file: systemd takes the unit for masked", code=MASKED)

    def fatal(one: Assignment) -> str:
        is_wrong = one.section == section and one.key in ("User", "Group") and not _names_one(one)
        return f"{one.key}={quote(one.value)[1:-1]} is neither a name nor an id" if is_wrong else ""

    text = unit_file.parse(content, str(path), is_drop_in=is_drop_in, fatal=fatal)
    findings += text.findings
    return text


def _names_one(one: Assignment) -> bool:
    """Whether systemd takes the value for a user or group, be there one of that name or not."""
    value = one.value
    if not value or "%" in value:
        return True
    if _is_number(value):
        is_id = (value == "0" or value[0] != "0") and len(value) <= _MOST_DIGITS
        return is_id and int(value) < _NO_ID and int(value) != _NO_ID_16
    if _is_number(value.removeprefix("-")):
        return False
    return value not in (".", "..") and not _NO_USER.search(value)


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdecimal()


# --- drop-ins -----------------------------------------------------------------------------------


def drop_in_folders(path: Path) -> list[Path]:
    """The directories in which drop-ins of a unit file may be, the first that counts first."""
    if path.suffix not in SECTIONS:
        return []
    parent = path.parent.resolve()
    places = SEARCH_PATH if parent in (each.resolve() for each in SEARCH_PATH) else (parent,)
    folders = [each / f"{name}.d" for each in places for name in _names(path.name)]
    return [*folders, *(each / f"{path.suffix[1:]}.d" for each in places)]


def drop_ins(path: Path) -> list[Path]:
    """The drop-ins of a unit file in the order in which systemd reads them: by their names."""
    first: dict[str, Path] = {}
    for folder in drop_in_folders(path):
        for file in _conf_files(folder):
            first.setdefault(file.name, file)
    return [first[name] for name in sorted(first) if not _masks(first[name])]


def _conf_files(folder: Path) -> Iterator[Path]:
    try:
        yield from (one for one in folder.iterdir() if one.suffix == ".conf" and one.name[0] != ".")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        message = f"{folder}: {error.strerror or error}"
        raise ProfileError(message, code="unreadable") from None


def _masks(file: Path) -> bool:
    """An empty file, or a link to /dev/null, stands for none of that name."""
    try:
        return str(file.resolve()) == "/dev/null" or (file.is_file() and not file.stat().st_size)
    except OSError:
        return False


def _names(unit: str) -> Iterator[str]:
    """The unit's name, its template's, and those that its name begins with, up to each dash.

    What a template's name begins with is read for its instances: with the ``@`` and without.
    """
    yield from _names_read(unit)
    prefix, at, rest = unit.partition("@")
    while at and rest.startswith(".") and (shorter := _shorter(prefix)):
        prefix = f"{shorter}-"
        yield from _names_read(f"{prefix}@{rest}")


def _names_read(unit: str) -> Iterator[str]:
    """As systemd's unit_file_find_dirs: a template has its prefixes without the ``@``."""
    stem, _, suffix = unit.rpartition(".")
    prefix, at, instance = stem.partition("@")
    yield unit
    if at and instance:
        yield from _names_read(f"{prefix}@.{suffix}")
    shorter = _shorter(prefix)
    if shorter:
        yield from _names_read(f"{shorter}-{at if instance else ''}{instance}.{suffix}")


def _shorter(prefix: str) -> str:
    return prefix.removesuffix("-").rpartition("-")[0]


# --- what it comes to ---------------------------------------------------------------------------


def _effect(settings: Settings, facts: Facts, findings: list[Finding]) -> _Effect:
    user = _uid(settings)
    is_number = _is_number(settings.user) and settings.user != "0"
    if is_number and not settings.has("DynamicUser"):
        message = (
            f"User={settings.user}: systemd starts the unit only where a user has this uid, which "
            "is not looked up"
        )
        findings.append(Finding("user-not-looked-up", message))
    bounding = settings.bounding.difference(
        *(taken for switch, taken in _TAKEN.items() if settings.has(switch))
    )
    no_new_privs = (
        settings.has("NoNewPrivileges")
        or settings.has("DynamicUser")
        or (user != 0 and settings.asks_for_filters)
    )
    layers: list[Layer] = []
    if user:
        posture = OwnPosture("systemd-user", user, user, settings.ambient & bounding)
        if bounding != _EVERYTHING and not no_new_privs:
            message = (
                "CapabilityBoundingSet= of a user that is not root: it limits what set-user-ID "
                "programs regain, which is not modelled"
            )
            findings.append(Finding("not-modelled", message))
    else:
        posture = OwnPosture("systemd-root", 0, 0, _EVERYTHING)
        if bounding != _EVERYTHING:
            layers.append(CapabilitiesLayer(bounding))
    if no_new_privs:
        layers.append(NoNewPrivsLayer())
    return _Effect(posture, (*layers, *systemd_filters.layers(settings, facts)))


def _uid(settings: Settings) -> int:
    """Names are not looked up: whoever is not root is somebody ordinary."""
    if settings.is_root_by_command:
        return 0
    if not settings.user:
        return _SOMEBODY if settings.has("DynamicUser") else 0
    if settings.user in ("root", "0"):
        return 0
    number = int(settings.user) if _is_number(settings.user) else _SOMEBODY
    return number if number <= _LARGEST_UID else _SOMEBODY


def _default_action(settings: Settings) -> str:
    if settings.filter is None:
        return ""
    if not settings.filter.is_allow_list:
        return "SCMP_ACT_ALLOW"
    return "SCMP_ACT_KILL_PROCESS" if settings.error_number == KILL else "SCMP_ACT_ERRNO"


def _note_sections(
    texts: Sequence[UnitText], section: str, facts: Facts, findings: list[Finding]
) -> None:
    known = ("Unit", section, "Install")
    for name, where in (each for text in texts for each in text.sections):
        if name not in known and not name.startswith("X-"):
            hint = did_you_mean(name, known)
            message = f"systemd ignores the section [{quote(name)[1:-1]}] here{hint}"
            findings.append(Finding("unknown-section", message, where))


def _note_kind(path: Path, findings: list[Finding]) -> None:
    if path.suffix in (".socket", ".mount", ".swap"):
        message = (
            f"what a {path.suffix} unit says is for the commands that it runs itself, not for a "
            "service behind it"
        )
        findings.append(Finding("own-commands-only", message))


def _note_version(facts: Facts, findings: list[Finding]) -> None:
    if facts.installed and facts.number != MODELLED:
        message = (
            f"the sets of calls are those of {facts.version}, which is installed; what is made of "
            f"them is followed as systemd {MODELLED} does it"
        )
        findings.append(Finding("other-systemd", message))
