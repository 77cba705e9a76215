"""The part of JSON Schema that structured outputs accept.

Accepted are the keywords that the SDK's ``transform_schema`` sends, and nothing else. The API's
limits on optional and union-typed properties are those of its documentation.
"""

from collections.abc import Iterator
from typing import Any

from tests.messages_api.errors import invalid

ANYWHERE = {"description", "title", "$defs"}
OF_TYPE = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems"},
    "string": {"format"},
    "integer": set[str](),
    "number": set[str](),
    "boolean": set[str](),
    "null": set[str](),
}
STRING_FORMATS = {
    "date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid",
}  # fmt: skip
SHAPES = ("$ref", "anyOf", "allOf", "enum", "const", "type")
OPTIONAL_PROPERTIES = 24
UNION_PROPERTIES = 16


def check_schema(schema: object, where: str) -> None:
    """Raises Refused where the API would refuse to compile it."""
    root = _object(schema, where)
    _check(root, root, where)
    _check_recursion(root, where)
    objects = [one for one in walk(root) if one.get("type") == "object"]
    optional = sum(len(one["properties"].keys() - set(one.get("required", []))) for one in objects)
    if optional > OPTIONAL_PROPERTIES:
        raise invalid(
            where,
            f"Invalid schema: {optional} optional properties, at most {OPTIONAL_PROPERTIES} are"
            " allowed. List them in 'required'",
        )
    properties = [member for one in objects for member in one["properties"].values()]
    unions = sum("anyOf" in member for member in properties)
    if unions > UNION_PROPERTIES:
        raise invalid(
            where, f"Invalid schema: {unions} properties use anyOf, at most {UNION_PROPERTIES} may"
        )


def walk(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema and every schema inside it, definitions included; references are not followed."""
    yield schema
    for name in ("properties", "$defs"):
        for member in schema.get(name, {}).values():
            yield from walk(member)
    for name in ("anyOf", "allOf"):
        for member in schema.get(name, []):
            yield from walk(member)
    if "items" in schema:
        yield from walk(schema["items"])


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid(where, "Input should be a JSON schema object")
    return value


def _check(schema: dict[str, Any], root: dict[str, Any], where: str) -> None:
    shape = next((name for name in SHAPES if name in schema), None)
    if shape is None:
        raise invalid(where, f"Invalid schema: one of {', '.join(SHAPES)} is required")
    allowed = ANYWHERE | {shape}
    if shape == "type":
        kind = schema["type"]
        if not isinstance(kind, str) or kind not in OF_TYPE:
            raise invalid(where, f"Invalid schema: type {kind!r}; use anyOf for several types")
        allowed |= OF_TYPE[kind]
    else:
        kind = f"with {shape}"
    for name in schema:
        if name not in allowed:
            raise invalid(where, f"For {kind!r} type, property {name!r} is not supported")
    for name, member in schema.get("$defs", {}).items():
        _check(_object(member, f"{where}.$defs.{name}"), root, f"{where}.$defs.{name}")
    _check_shape(shape, schema, root, where)


def _check_shape(shape: str, schema: dict[str, Any], root: dict[str, Any], where: str) -> None:
    if shape == "$ref":
        _resolved(schema["$ref"], root, where)
    elif shape in ("anyOf", "allOf"):
        if not isinstance(schema[shape], list) or not schema[shape]:
            raise invalid(where, f"{shape}: a list of at least one schema is required")
        for at, member in enumerate(schema[shape]):
            _check(_object(member, f"{where}.{shape}.{at}"), root, f"{where}.{shape}.{at}")
    elif shape == "enum":
        if not isinstance(schema["enum"], list) or not schema["enum"]:
            raise invalid(where, "enum: a list of at least one value is required")
        if any(isinstance(value, dict | list) for value in schema["enum"]):
            raise invalid(where, "enum: only strings, numbers, booleans and null are supported")
    elif shape == "const":
        if isinstance(schema["const"], dict | list):
            raise invalid(where, "const: only strings, numbers, booleans and null are supported")
    else:
        _check_type(schema, root, where)


def _check_type(schema: dict[str, Any], root: dict[str, Any], where: str) -> None:
    kind = schema["type"]
    if kind == "object":
        if schema.get("additionalProperties") is not False:
            raise invalid(
                where, "For 'object' type, 'additionalProperties' must be explicitly set to false"
            )
        properties = _object(schema.get("properties"), f"{where}.properties")
        for name, member in properties.items():
            _check(
                _object(member, f"{where}.properties.{name}"), root, f"{where}.properties.{name}"
            )
        unknown = set(schema.get("required", [])) - properties.keys()
        if unknown:
            raise invalid(where, f"required: {sorted(unknown)} are no properties")
    elif kind == "array":
        if "items" not in schema:
            raise invalid(where, "For 'array' type, 'items' is required")
        _check(_object(schema["items"], f"{where}.items"), root, f"{where}.items")
        if schema.get("minItems", 0) not in (0, 1):
            raise invalid(
                where, "For 'array' type, 'minItems' values other than 0 or 1 are not supported"
            )
    elif kind == "string" and schema.get("format", "date") not in STRING_FORMATS:
        raise invalid(where, f"For 'string' type, format {schema['format']!r} is not supported")


def _resolved(reference: object, root: dict[str, Any], where: str) -> dict[str, Any]:
    name = reference.removeprefix("#/$defs/") if isinstance(reference, str) else None
    found = root.get("$defs", {}).get(name)
    if found is None:
        raise invalid(where, f"$ref: {reference!r} is not one of '#/$defs/'")
    return _object(found, where)


def _check_recursion(root: dict[str, Any], where: str) -> None:
    definitions = root.get("$defs", {})
    uses = {
        name: {one["$ref"].removeprefix("#/$defs/") for one in walk(body) if "$ref" in one}
        for name, body in definitions.items()
    }
    for start, used in uses.items():
        reached: set[str] = set()
        ahead = set(used)
        while ahead:
            name = ahead.pop()
            if name == start:
                raise invalid(where, f"Recursive schemas are not supported: $defs.{start}")
            if name not in reached:
                reached.add(name)
                ahead |= uses[name]
