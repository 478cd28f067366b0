"""JSON schemas of structured output: what the API refuses in them, and the smallest value that fits one.

Covered is what structured output allows: types, `enum`, `const`, `anyOf`, `allOf`, local `$ref`, formats, and
`minItems` of 0 or 1. Bounds, which it does not allow, are kept all the same where the end of a description says them as
JSON: there `transports/output_schema.py` puts them, and a model would read them.
"""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Json = Any

MARKED_TEXT = "simulated"
MAX_DEPTH = 64  # deeper is a schema that contains itself, which the API refuses as well

_REFUSED = frozenset(
    {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "maxItems",
        "patternProperties",
    }
)
_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
_TOLD = frozenset({*_BOUNDS, "minItems", "minLength", "maxLength"})
MAX_TOLD_LENGTH = 10_000  # a description is anybody's text, and must not fill the memory
_BY_TYPE: "Mapping[str, Json]" = {"boolean": False, "null": None}
_BY_FORMAT: "Mapping[str, str]" = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "PT0S",
    "email": "simulated@example.com",
    "hostname": "example.com",
    "uri": "https://example.com/simulated",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class _EndlessSchemaError(Exception):
    """The schema asks for itself."""


def check_schema(schema: Json) -> str | None:
    """What the API would refuse; `None` where it would not."""
    if not isinstance(schema, dict):
        return "Input should be an object"
    try:
        problem = next(filter(None, map(_problem, _parts(schema))), None)
        if problem is None:
            smallest_instance(schema)
    except _EndlessSchemaError:
        return "Recursive schemas are not supported"
    except (LookupError, TypeError, AttributeError) as error:
        return f"the schema cannot be read: {error!r}"
    return problem


def smallest_instance(schema: "Mapping[str, Json]") -> Json:
    """A value that fits: required properties only, the first of what may be chosen."""
    return _instance(schema, schema, 0)


def _problem(part: "Mapping[str, Json]") -> str | None:
    """What is wrong with one schema, those inside it left aside."""
    refused = sorted(_REFUSED & part.keys())
    if refused:
        return f"For {part.get('type', 'any')!r} type, property {refused[0]!r} is not supported"
    if part.get("type") == "object" and part.get("additionalProperties") is not False:
        return "For 'object' type, 'additionalProperties' must be explicitly set to false"
    if part.get("minItems", 0) not in {0, 1}:
        return "For 'array' type, 'minItems' values other than 0 or 1 are not supported"
    return None


def _parts(schema: Json) -> "Iterator[Mapping[str, Json]]":
    """The schema and every schema inside it."""
    yield schema
    inner = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
    inner += [*schema.get("definitions", {}).values(), schema.get("items")]
    for word in ("anyOf", "oneOf", "allOf"):
        inner += schema.get(word, [])
    for part in inner:
        if isinstance(part, dict):
            yield from _parts(part)


def _instance(schema: Json, root: "Mapping[str, Json]", depth: int) -> Json:  # noqa: PLR0911 - one line for each word
    if depth > MAX_DEPTH:
        raise _EndlessSchemaError
    if schema is True:
        return MARKED_TEXT
    if "$ref" in schema:
        return _instance(_resolve(schema["$ref"], root), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return _instance(schema[word][0], root, depth + 1)
    if "allOf" in schema:
        found = [_instance(part, root, depth + 1) for part in schema["allOf"]]
        return {key: value for part in found for key, value in part.items()} if isinstance(found[0], dict) else found[0]
    return _by_type(schema, root, depth)


def _by_type(schema: "Mapping[str, Json]", root: "Mapping[str, Json]", depth: int) -> Json:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    schema = {**_told(schema), **schema}
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: _instance(properties.get(name, True), root, depth + 1) for name in schema.get("required", ())}
    if kind == "array":
        return [_instance(schema.get("items", True), root, depth + 1)] * min(
            int(schema.get("minItems", 0)), MAX_TOLD_LENGTH
        )
    if kind == "string":
        return _BY_FORMAT.get(schema.get("format", "")) or _text(schema)
    return _number(schema) if kind in ("integer", "number") else _BY_TYPE[kind]


def _told(schema: "Mapping[str, Json]") -> dict[str, Json]:
    """The bounds that the last paragraph of the description says as JSON."""
    try:
        said = json.loads(str(schema.get("description")).rpartition("\n\n")[2])
    except (ValueError, RecursionError):
        return {}
    words = said.items() if isinstance(said, dict) else ()
    return {word: value for word, value in words if word in _TOLD and isinstance(value, int | float)}


def _text(schema: "Mapping[str, Json]") -> str:
    length = min(max(len(MARKED_TEXT), int(schema.get("minLength", 0))), MAX_TOLD_LENGTH)
    return (MARKED_TEXT * length)[: min(length, int(schema.get("maxLength", length)))]


def _number(schema: "Mapping[str, Json]") -> float:
    """0, or else one near its bounds."""
    bounds = [schema[word] for word in _BOUNDS if word in schema]
    near = [bound + step for bound in bounds for step in (0, 1, -1)]
    middle = [sum(bounds) / len(bounds)] if bounds and schema.get("type") == "number" else []
    return next((number for number in (0, *near, *middle) if _is_within(number, schema)), 0)


def _is_within(number: float, schema: "Mapping[str, Json]") -> bool:
    low, high = schema.get("minimum", number), schema.get("maximum", number)
    return bool(
        low <= number <= high
        and schema.get("exclusiveMinimum", number - 1) < number < schema.get("exclusiveMaximum", number + 1)
    )


def _resolve(reference: str, root: "Mapping[str, Json]") -> Json:
    """What a local reference such as `#/$defs/Step` points at."""
    found: Json = root
    for word in reference.removeprefix("#").split("/")[1:]:
        found = found[word.replace("~1", "/").replace("~0", "~")]
    return found
