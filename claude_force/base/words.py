"""The words of a text, as they are compared: split as code is, in one form, without those that say little.

English endings are taken off by a few rules, not by a stemmer such as Porter's: words are compared with each other
only, so it matters that `reviews` and `reviewing` meet, not that the form is a word. Other languages keep theirs.
"""

import functools
import re
from collections.abc import Iterator

# `parseJSONFile` -> parse JSON File, `utf8` -> utf8, `code-reviewer` and `snake_case` -> two words each.
_PARTS = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|[^\W_A-Za-z]+", re.ASCII)
_WORDS = re.compile(r"[^\W_]+")
_STOP_WORDS = frozenset(
    """
    a about all an and any are as at be been but by can could do does for from get give had has have how i if in
    into is it its just let make me my need no not of on one or our out please should so some that the their them
    then there these they this to up us use want was we were what when where which who will with would you your
    """.split()  # noqa: SIM905 - a list of words, to be read as one
)
MIN_STEM = 3
"""Letters that stay of a word."""
MOST_LETTERS = 40
"""Of a word; what is longer is a hash, a key or base64, and no two texts share it."""


def words(text: str) -> list[str]:
    """Every word that says something, in order, in lower case and without its ending.

    Example:
        >>> words("Review the HTTPServer's retries: parse_config() was failing")
        ['review', 'http', 'serv', 'retri', 'pars', 'config', 'fail']
    """
    return [form for _, form in written_words(text)]


def written_words(text: str) -> Iterator[tuple[str, str]]:
    """The same, each after the word as it was written, in lower case."""
    for run in _WORDS.findall(text):
        yield from _forms(run)


@functools.lru_cache(
    maxsize=20_000
)  # texts of one trade have few words, often: it makes 100 agents three times as fast
def _forms(run: str) -> tuple[tuple[str, str], ...]:
    parts = (part.casefold() for part in (_PARTS.findall(run) if run.isascii() else (run,)))
    return tuple((word, _stem(word)) for word in parts if 1 < len(word) <= MOST_LETTERS and word not in _STOP_WORDS)


def _stem(word: str) -> str:
    """The longest ending goes that leaves three letters; `-y`, `-e` and doubled letters are made alike."""
    if not word.isascii():
        return word
    for ending in ("ingly", "edly", "ing", "ers", "er", "ed", "es", "ly", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= MIN_STEM and not word.endswith("ss"):
            word = word[: -len(ending)]
            break
    if len(word) > MIN_STEM and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]
    if len(word) > MIN_STEM and word[-1] in "ey":
        word = word[:-1] + ("i" if word[-1] == "y" else "")
    return word
