"""A schema in the API's words: what it takes is kept, the rest is told to the model, nothing is lost."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.engine.budget import SCHEMA_GROWTH
from claude_force.transports.output_schema import narrowed
from claude_force.transports.simulator.schema import check_schema

ROWS: dict[str, tuple[Any, Any]] = {
    "bounds": (
        {"type": "integer", "minimum": 1, "maximum": 5, "description": "Stars."},
        {"type": "integer", "description": 'Stars.\n\n{"minimum":1,"maximum":5}'},
    ),
    "lengths": (
        {"type": "string", "minLength": 2, "pattern": "^ä"},
        {"type": "string", "description": '{"minLength":2,"pattern":"^ä"}'},
    ),
    "min items": ({"type": "array", "minItems": 1}, {"type": "array", "minItems": 1}),
    "more items": (
        {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2},
        {
            "type": "array",
            "items": {"type": "integer", "description": '{"minimum":1}'},
            "description": '{"minItems":2}',
        },
    ),
    "object": (
        {"properties": {"minimum": {"type": "integer"}}, "required": ["minimum"]},
        {"properties": {"minimum": {"type": "integer"}}, "required": ["minimum"], "additionalProperties": False},
    ),
    "open object": (
        {"type": ["object", "null"], "additionalProperties": True},
        {"type": ["object", "null"], "additionalProperties": False},
    ),
    "map": (
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "additionalProperties": {"type": "string"}},
    ),
    "choices": (
        {"oneOf": [{"type": "integer", "minimum": 1}, {"const": {"minimum": 1}}]},
        {"anyOf": [{"type": "integer", "description": '{"minimum":1}'}, {"const": {"minimum": 1}}]},
    ),
    "references": (
        {"$schema": "x", "$id": "y", "$ref": "#/definitions/a", "title": "A", "definitions": {"a": {"type": "object"}}},
        {"$ref": "#/definitions/a", "definitions": {"a": {"type": "object", "additionalProperties": False}}},
    ),
    "formats": (
        {"anyOf": [{"format": "date"}, {"format": "iri"}]},
        {"anyOf": [{"format": "date"}, {"description": '{"format":"iri"}'}]},
    ),
    "true": ({"properties": {"a": True}}, {"properties": {"a": True}, "additionalProperties": False}),
}


@pytest.mark.parametrize(("schema", "sent"), ROWS.values(), ids=ROWS)
def test_the_api_gets_its_own_words(schema: Any, sent: Any) -> None:
    """Words that it refuses stand in the description; values that merely look like words are left alone."""
    assert narrowed(schema) == sent


words = st.sampled_from(["type", "minimum", "maxLength", "pattern", "not", "title", "description", "x", ""])
schemas = st.recursive(
    st.dictionaries(words, st.sampled_from(["object", "string", '"\\\n', "é"]), max_size=3),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.text(max_size=3), inner, max_size=2),
            "items": inner,
            "not": inner,
            "anyOf": st.lists(inner, max_size=2),
            "oneOf": st.lists(inner, max_size=2),
            "$defs": st.dictionaries(st.text(max_size=3), inner, max_size=2),
            "type": st.just("object"),
        },
    ),
    max_leaves=6,
)


def length_bytes(schema: Any) -> int:
    """As JSON, without a blank."""
    return len(json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode())


@given(schemas)
def test_it_does_not_grow_beyond_the_budget(schema: Any) -> None:
    """A worst case is reckoned from the user's schema, so what is sent of it must not be longer than that allows."""
    assert length_bytes(narrowed(schema)) <= SCHEMA_GROWTH * length_bytes(schema)


def test_the_simulator_takes_it() -> None:
    """Which refuses what the API refuses."""
    schema = {"type": "object", "properties": {"n": {"type": "number", "exclusiveMinimum": 0}}}
    assert check_schema(schema)
    assert check_schema(narrowed(schema)) is None
