"""Words in one form: what people write in two ways meets, and what says nothing is left out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.base.words import MOST_LETTERS, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("review reviews reviewing reviewed", "Review REVIEW review review"),
        ("parseJSONFile", "parse json files"),
        ("code-reviewer", "code reviewer"),
        ("snake_case_name", "snake case names"),
        ("retry retries retried", "retry retry retry"),
        ("caching caches cached", "cache cache cache"),
        ("running stopped", "run stop"),
        ("HTTPServer2", "http server2"),
        ("GRÖSSE", "größe"),
        ("testers tester tests", "test test test"),
        ("class classes reds", "class class red"),
    ],
)
def test_what_is_the_same(one: str, other: str) -> None:
    """Endings, cases and the ways to write a name in code."""
    assert words(one) == words(other) != []


def test_which_form_a_word_has() -> None:
    """What was kept of past work is found by these very forms."""
    said = (
        "Review the HTTPServer's retries: parse_config() was failing, nobody denied the key or called off a happy fee"
    )
    forms = "review http serv retri pars config fail nobodi deni key call off happi fee"
    assert words(said) == forms.split()


@pytest.mark.parametrize("text", ["", "the of and is", "a b c", "--- !!!", "f" * (MOST_LETTERS + 1)])
def test_what_says_nothing(text: str) -> None:
    """Stop words, single letters, signs, and what is no word but a hash."""
    assert words(text) == []


@given(st.text())
def test_any_text(text: str) -> None:
    """Words are what a full-text index takes as one word: they have no space, quote or sign, and are the same again."""
    assert all(word.isalnum() and " ".join(word.split()) == word for word in words(text))
