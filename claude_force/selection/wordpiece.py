"""Text as the tokens of BERT's uncased models: split at signs, lower case, no accents, then the longest known pieces.

The same as `BertTokenizer(do_lower_case=True)` gives, but that `[SEP]` and its like in a text are signs and letters:
a task is not trusted to end itself.
"""

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_LETTERS = 100
"""Of a word; a longer one is unknown, as BERT has it."""


class WordPiece:
    """Splits texts by a vocabulary, of which a piece's number is its line.

    Example:
        >>> pieces = WordPiece(["[UNK]", "[CLS]", "[SEP]", "re", "##view", "!"])
        >>> pieces.ids("Réview!", limit=8)
        [1, 3, 4, 5, 2]
    """

    def __init__(self, vocabulary: "Sequence[str]") -> None:
        """Raises `KeyError` where one of BERT's own pieces is missing."""
        self._ids: Mapping[str, int] = {piece: number for number, piece in enumerate(vocabulary)}
        self._unknown, self._first, self._last = (self._ids[piece] for piece in ("[UNK]", "[CLS]", "[SEP]"))

    def ids(self, text: str, *, limit: int) -> list[int]:
        """The numbers of the pieces, `limit` at the most with the two that BERT puts around them."""
        found: list[int] = []
        for word in _split(text):
            if len(found) >= limit - 2:
                break
            found += self._pieces(word)
        return [self._first, *found[: limit - 2], self._last]

    def _pieces(self, word: str) -> list[int]:
        if len(word) > MOST_LETTERS:
            return [self._unknown]
        found, start = list[int](), 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if prefix + word[start:end] in self._ids), None)
            if end is None:
                return [self._unknown]
            found.append(self._ids[prefix + word[start:end]])
            start = end
        return found


def _split(text: str) -> list[str]:
    """Words and signs."""
    spaced = []
    for char in unicodedata.normalize("NFD", "".join(map(_plain, text)).lower()):
        category = unicodedata.category(char)
        if category == "Mn":
            continue
        spaced.append(f" {char} " if _is_sign(char, category) else char)
    return "".join(spaced).split()


def _plain(char: str) -> str:
    """The character, with spaces where it is a word of its own; nothing where it cannot be seen."""
    if char.isascii():
        return char if char.isprintable() else " " if char in "\t\n\r" else ""
    if _is_ideograph(ord(char)):
        return f" {char} "
    category = unicodedata.category(char)
    if category == "Zs":
        return " "
    return "" if category.startswith("C") or char == "\N{REPLACEMENT CHARACTER}" else char


def _is_sign(char: str, category: str) -> bool:
    return category.startswith("P") or (char.isascii() and char.isprintable() and not char.isalnum() and char != " ")


# The blocks that BERT takes for Chinese: Japanese and Korean syllables are not among them.
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def _is_ideograph(code: int) -> bool:
    return any(first <= code <= last for first, last in _IDEOGRAPHS)
