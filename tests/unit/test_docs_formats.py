"""docs/formats.md against the code: every field has its row, and every warning its word."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from evaluator import cli_export, process
from mitigations import (
    kubernetes,
    landlock,
    layered,
    manifest,
    runtime_default,
    security_context,
    spo,
    systemd,
    systemd_keys,
    systemd_settings,
    unit_file,
)

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
_QUOTED = re.compile(r"`([^`]+)`")
_FIELD = re.compile(r"\.?([A-Za-z][A-Za-z_]*)")
_CODE = re.compile(r"[a-z]+(?:-[a-z]+)+")


@cache
def sections() -> dict[str, str]:
    """The text of each section by its heading."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(section: str) -> Iterator[list[str]]:
    """The cells of each row of its tables, without headings."""
    for line in sections()[section].splitlines():
        if line.startswith("| ") and not line.startswith(("| field", "| setting", "| |")):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def fields(section: str) -> set[str]:
    """What stands in backticks in the first cells; ``variable[].name`` is name of variable."""
    found: set[str] = set()
    for first, *_ in rows(section):
        for words in _QUOTED.findall(first):
            found.update(_FIELD.findall(words.replace("[]", "")))
    return found


def warned(section: str) -> set[str]:
    """Codes of warnings that its rows name."""
    return {
        word
        for cells in rows(section)
        for cell in cells[1:]
        for word in _QUOTED.findall(cell)
        if _CODE.fullmatch(word)
    }


def codes(*modules: object) -> set[str]:
    """Of all findings that a module makes, read from its source."""
    found: set[str] = set()
    for module in modules:
        source = Path(str(module.__file__)).read_text()  # type: ignore[attr-defined]
        for call in ast.walk(ast.parse(source)):
            if not isinstance(call, ast.Call) or not call.args:
                continue
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            first = call.args[0]
            if name in ("finding", "Finding", "_note") and isinstance(first, ast.Constant):
                found.add(str(first.value))
    return {one for one in found if _CODE.fullmatch(one)}


KUBERNETES = "Kubernetes"
OPERATOR = "Security Profiles Operator"
UNITS = "systemd units"
PROCESS = "A live process"
MADE_BY = {
    KUBERNETES: (kubernetes, security_context, manifest, runtime_default),
    OPERATOR: (spo, manifest),
    UNITS: (systemd, systemd_settings, unit_file),
    "Landlock": (landlock,),
    PROCESS: (process,),
}
# In the text of the section, or about files of another page.
_ELSEWHERE = {
    KUBERNETES: {"runtime-default-given"},
    OPERATOR: {"not-modelled", "complain-mode"},
    UNITS: {
        *("other-systemd", "reset-by-typo", "ignored-value", "ignored-line", "own-commands-only"),
        *("unknown-key", "unknown-section", "rest-ignored"),
    },
}


@pytest.mark.parametrize("section", MADE_BY)
def test_every_warning_is_named_and_every_name_is_a_warning(section: str) -> None:
    made = codes(*MADE_BY[section])
    assert len(made) > 1
    named = warned(section) | {
        one for one in _ELSEWHERE.get(section, ()) if f"`{one}`" in sections()[section]
    }
    assert made - named == set()
    # What a row names beside its own codes: other words with a dash.
    others = {"unfiltered-neighbour", "unfiltered-thread", "systemd-root", "systemd-user"}
    assert named - made - others == set()


def test_every_field_of_a_security_context_has_its_row() -> None:
    """And what is named there is a field of a pod or a container."""
    known = {
        *security_context._POD_CONTEXT,
        *security_context._CONTAINER_CONTEXT,
        *security_context._POD_FIELDS,
    } - {"containers", "initContainers", "securityContext"}
    named = fields(KUBERNETES)
    assert known - named == set()
    beside = {
        *security_context._OTHER_POD_FIELDS,
        *security_context._OTHER_CONTAINER_FIELDS,
    }
    rest = {one for one in named - known - beside if not one.islower()}
    assert rest == {"DIR", "FILE", "mountPath", "readOnly"}  # of options, and of a volumeMount


def test_every_field_of_a_resource_has_its_row() -> None:
    assert {*spo._SPEC} - fields(OPERATOR) == set()


def test_every_setting_of_a_unit_has_its_row_or_is_counted() -> None:
    named = fields(UNITS)
    assert {*systemd_keys.HONOURED, *systemd_keys.IN_PART} - named == set()
    (counted,) = re.findall(r"and (\d+) others", sections()[UNITS])
    here = named & systemd_keys.NOT_MODELLED
    assert int(counted) == len(systemd_keys.NOT_MODELLED) - len(here)
    known = {
        *systemd_keys.HONOURED,
        *systemd_keys.IN_PART,
        *systemd_keys.NOT_MODELLED,
        *systemd_keys.COMMANDS,
    }
    assert named - known == set()


def test_every_key_of_a_ruleset_and_of_a_layered_candidate_has_its_row() -> None:
    spelled = {"handledAccessFs", "handledAccessNet", "scoped", "allowedAccess", "parent", "port"}
    assert spelled | {"abi", "variable", "ruleset", "pathBeneath", "netPort"} <= fields("Landlock")
    named = fields("Layered candidates")
    assert {*layered._TOP} - {"layer"} - named == set()
    text = sections()["Layered candidates"]
    for kind, keys in layered._KEYS.items():
        (row,) = [cells for cells in rows("Layered candidates") if f'"{kind}"' in cells[0]]
        own = [one for one in keys if one not in layered._LANDLOCK]
        assert all(f"`{one}`" in " ".join(row) for one in own), kind
    assert all(one in text for one in layered._POSTURE)


def test_every_export_format_has_its_row() -> None:
    named = {word for cells in rows("Export") for word in _QUOTED.findall(cells[0])}
    assert named == set(cli_export.FORMATS)
    assert f"--to {'|'.join(cli_export.FORMATS)} " in sections()["Export"]
