"""Structured output: which schemas can be asked for, and which answers fit one."""

import json
import socketserver
import threading
from types import MappingProxyType
from typing import Any

import pytest

from claude_force.base.errors import TaskError
from claude_force.engine.output import MAX_PROBLEMS, problems_of, read_data, schema_text

STEP = {"type": "object", "properties": {"name": {"type": "string", "minLength": 2}}, "required": ["name"]}
PLAN = {
    "type": "object",
    "properties": {"steps": {"type": "array", "items": {"$ref": "#/$defs/s"}}},
    "$defs": {"s": STEP},
}

DRAFT_4 = "http://json-schema.org/draft-04/schema#"  # says less of what a schema is
UNUSABLE: dict[str, tuple[Any, str]] = {
    "no object": (["type"], "is list"),
    "a set": ({"enum": {1}}, "set has no form in it"),
    "no number": ({"minimum": float("nan")}, "is no JSON"),
    "half a character": ({"title": "\ud800"}, "is no JSON"),
    "unknown type": ({"properties": {"a": {"type": "text"}}}, r"\$.properties.a.type: 'text'"),
    "pattern": ({"pattern": "("}, r"\$.pattern"),
    "a place that is not there": ({"$ref": "#/$defs/no"}, "has no place '#/\\$defs/no'"),
    "another file": ({"items": {"$ref": "other.json"}}, "has no place 'other.json', and nothing is fetched"),
    "a place that is no schema": ({"$ref": "#/x", "x": 5}, "5 is not of type 'object'"),
    "a place behind a place": ({"$ref": "#/x", "x": {"y": {"$ref": "#/no"}, "$ref": "#/x/y"}}, "has no place '#/no'"),
    "pattern of names": ({"$schema": DRAFT_4, "patternProperties": {"[": {}}}, "a pattern that is none"),
    "a number for a place": ({"$schema": DRAFT_4, "items": {"$ref": 5}}, "refers to 5"),
    "draft": ({"$schema": 5}, r"\$schema"),
    "address": ({"$id": "http://[", "$ref": "a"}, "an address that is none"),
}


@pytest.mark.parametrize(("schema", "said"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_schema_is_refused(schema: Any, said: str) -> None:
    """The error says where it is wrong."""
    with pytest.raises(TaskError, match=said) as caught:
        schema_text(schema)
    assert caught.value.source == "output_schema"


def test_a_schema_that_never_ends_is_refused() -> None:
    """One that is nested a thousand times is no crash."""
    schema: dict[str, Any] = {}
    for _ in range(300):
        schema = {"items": schema}
    with pytest.raises(TaskError, match="nested too deeply"):
        schema_text(schema)


class _Counting(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        """Count whoever comes."""
        assert isinstance(self.server, _Server)
        self.server.visits += 1


class _Server(socketserver.ThreadingTCPServer):
    visits = 0


@pytest.mark.parametrize(
    "draft", ["https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema#"]
)
def test_nothing_is_fetched(draft: str) -> None:
    """A schema that refers to a server is refused, and the server never hears of it."""
    with _Server(("127.0.0.1", 0), _Counting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/step.json"
        with pytest.raises(TaskError, match="nothing is fetched"):
            schema_text({"$schema": draft, "properties": {"step": {"$ref": address}}})
        server.shutdown()
    assert server.visits == 0


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}},
        {"$ref": "https://example.com/n#/$defs/n", "$id": "https://example.com/n", "$defs": {"n": {"type": "integer"}}},
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$ref": "#/definitions/n",
            "definitions": {"n": {"type": "integer"}},
        },
        {"$schema": "https://example.com/unknown", "type": "integer"},
        MappingProxyType({"type": "integer"}),
    ],
    ids=["local", "own address", "draft 7", "unknown draft", "no dict"],
)
def test_what_is_in_the_schema_counts(schema: Any) -> None:
    """References within it are followed, whatever its draft, and any mapping will do."""
    text = schema_text(schema)
    assert problems_of("7", text) == ()
    assert problems_of('"x"', text) == ("$: 'x' is not of type 'integer'",)


def test_properties_keep_their_order() -> None:
    """The model writes them in the order of the schema: reasons before the verdict, if the user says so."""
    schema: dict[str, Any] = {"properties": {"reasons": {}, "answer": {}}}
    assert list(json.loads(schema_text(schema))["properties"]) == ["reasons", "answer"]


@pytest.mark.parametrize(
    ("answer", "problems"),
    [
        ('{"steps": []}', ()),
        (' {"steps": [{"name": "go"}]}\n', ()),
        (
            '{"steps": [{"name": "go"}, {"name": "x"}, {}]}',
            ("$.steps[1].name: 'x' is too short", "$.steps[2]: 'name' is a required property"),
        ),
        ("Sure! Here it is.", ("$: no JSON (invalid character (byte 0))",)),
        ('```json\n{"steps": []}\n```', ("$: no JSON (invalid character (byte 0))",)),
        ('{"steps": [NaN]}', ("$: no JSON (invalid character (byte 11))",)),
        ('{"steps": []} and', ("$: no JSON (trailing characters (byte 15))",)),
        ('"\\ud800"', ("$: no JSON (Input data was truncated)",)),
        ("1e999", ("$: no JSON (Number out of range)",)),
        ("[" * 100_000, ("$: nested too deeply",)),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_problems_say_where(answer: str, problems: tuple[str, ...]) -> None:
    """Each has its JSON path; what is no JSON has none to have."""
    assert problems_of(answer, schema_text(PLAN)) == problems


def test_a_flood_of_problems_is_cut() -> None:
    """An answer that is all wrong is not told in full, nor is a value that is all of it."""
    schema = schema_text({"items": {"type": "integer"}})
    found = problems_of(json.dumps(["x" * 1000] * 100), schema)
    assert len(found) == MAX_PROBLEMS
    assert all(len(problem) < 300 for problem in found)


def test_numbers_of_any_size() -> None:
    """A long integer keeps its digits; one that the checker cannot divide does not fit, instead of failing."""
    assert read_data("12345678901234567890123") == 12345678901234567890123
    assert problems_of("1" + "0" * 400, schema_text({"multipleOf": 0.5})) == (
        "$: holds a number that is too large to be checked",
    )


def test_a_schema_that_asks_for_itself() -> None:
    """An endless check ends, and nothing fits."""
    assert problems_of("1", schema_text({"$ref": "#"})) == ("$: nested too deeply",)
