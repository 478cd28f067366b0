"""Placeholders: names and paths, never expressions, and nothing that is put in is looked at again."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.workflows.template import Placeholder, filled, placeholders, walk

PLACES = {
    "{{ inputs.diff }}": Placeholder("input", "diff"),
    "{{inputs.diff}}": Placeholder("input", "diff"),
    "{{ steps.a-b.output }}": Placeholder("output", "a-b"),
    "{{ steps.a.output.title.0 }}": Placeholder("output", "a", ("title", "0")),
    "{{ steps.a.status }}": Placeholder("status", "a"),
    "{{ item }}": Placeholder("item", "item"),
    "{{ item.x.y }}": Placeholder("item", "item", ("x", "y")),
    "{{ 1 + 1 }}": Placeholder("unknown", "1 + 1"),
    "{{ steps.a }}": Placeholder("unknown", "steps.a"),
    "{{}}": Placeholder("unknown", ""),
}


@pytest.mark.parametrize(("text", "place"), PLACES.items(), ids=PLACES.keys())
def test_what_stands_between_braces(text: str, place: Placeholder) -> None:
    """Taken apart; what is no placeholder is told as it stands."""
    assert list(placeholders(f"Look: {text}!")) == [place]


@pytest.mark.parametrize("text", [r"\{{ user }}", "{ user }", "{{ a\nb }}", "{{ user", "}}{{"])
def test_what_is_none(text: str) -> None:
    """A backslash means the braces themselves."""
    assert list(placeholders(text)) == []
    assert filled(text, lambda _: "no") == text.removeprefix("\\")


@given(st.text())
def test_values_are_never_looked_at_again(value: str) -> None:
    """Whatever an answer holds."""
    assert filled("<{{ item }}>", lambda _: value + "{{ item }}") == f"<{value}{{{{ item }}}}>"


def test_no_text_takes_long() -> None:
    """Many blanks after the braces took cubic time once: 5,000 would have taken minutes."""
    started = time.process_time()
    assert list(placeholders("{{" + " " * 5000)) == []
    assert time.process_time() - started < 1


def test_a_path_leads_into_json() -> None:
    """By key and by place."""
    assert walk({"a": [{"b": "found"}]}, ("a", "0", "b")) == "found"


@pytest.mark.parametrize("path", [("x",), ("a", "1"), ("a", "x"), ("a", "0", "b", "c")])
def test_a_path_that_leads_nowhere_says_where_it_ends(path: tuple[str, ...]) -> None:
    """Missing is an error, and never an empty text."""
    with pytest.raises(LookupError, match=f"has no '{path[-1]}'"):
        walk({"a": [{"b": "text"}]}, path)
