"""A JSON schema in the API's words: it takes fewer than a user may write.

What it takes is kept. Every other word, such as `minimum` or `pattern`, goes into the description, where the model
reads it; the engine checks the answer against the user's own schema. The SDK's `transform_schema` does the same, but
fails at several types for one value and at parts without a type, and loses what stands under `definitions`.

Source: https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

import json
from typing import Any

Json = Any

_KEPT = frozenset(
    {
        "$defs",
        "$ref",
        "additionalProperties",
        "allOf",
        "anyOf",
        "const",
        "default",
        "definitions",
        "description",
        "enum",
        "format",
        "items",
        "properties",
        "required",
        "title",
        "type",
    }
)
_BESIDE_REF = frozenset({"$defs", "$ref", "definitions"})  # as the SDK has it
_IDLE = frozenset({"$comment", "$id", "$schema"})  # they say nothing to a model
_FORMATS = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"},
)
_MIN_ITEMS = (0, 1)


def narrowed(schema: Json) -> Json:
    """The schema with the API's words only.

    An object gets the properties that are named and no others, as the API demands; one whose other properties have a
    schema of their own cannot be said so, and is left for the API to refuse.
    """
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        schema = {word: value for word, value in schema.items() if word in _BESIDE_REF}
    words = {"anyOf" if word == "oneOf" and "anyOf" not in schema else word: value for word, value in schema.items()}
    kept = {word: _inner(word, value) for word, value in words.items() if _takes(word, value)}
    moved = {word: value for word, value in words.items() if word not in kept and word not in _IDLE}
    if "object" in _types(words) and not isinstance(words.get("additionalProperties"), dict):
        kept["additionalProperties"] = False
    if moved:
        said = json.dumps(moved, ensure_ascii=False, separators=(",", ":"))
        kept["description"] = "\n\n".join(filter(None, (words.get("description"), said)))
    return kept


def _takes(word: str, value: Json) -> bool:
    if word == "format":
        return value in _FORMATS
    return word in _KEPT or (word == "minItems" and value in _MIN_ITEMS)


def _inner(word: str, value: Json) -> Json:
    """What a word says, with every schema in it narrowed."""
    match word:
        case "$defs" | "definitions" | "properties":
            return {name: narrowed(part) for name, part in value.items()}
        case "allOf" | "anyOf":
            return [narrowed(part) for part in value]
        case "items":
            return narrowed(value)
    return value


def _types(schema: Json) -> tuple[str, ...]:
    found = schema.get("type", "object" if "properties" in schema else ())
    return (found,) if isinstance(found, str) else tuple(found)
