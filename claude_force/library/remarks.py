"""What kinds of problems files have, so that those of thousands of files can be counted.

A problem is told by a sentence: a file that cannot be used by its error's `reason`, everything else by a warning. What
kind it is stands beside the sentence, because nobody should have to read a kind out of words.
"""

from typing import TYPE_CHECKING, Literal, Self

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

ErrorKind = Literal["unreadable", "not-text", "too-large", "unclosed", "bad-yaml", "bad-name", "empty"]
WarningKind = Literal[
    "needs-quotes", "not-indented", "cut-off", "duplicate-key", "tabs", "control-characters", "encoding", "indented",
    "no-front-matter", "no-name", "no-description", "unusual-name", "long-description", "misspelt-field", "wrong-value",
    "unknown-tool", "unknown-model", "duplicate-name", "other-name", "long-body", "unknown-key",
]  # fmt: skip
Kind = ErrorKind | WarningKind


class Remark(str):
    """A warning that knows its kind. To all who only want the sentence it is that."""

    __slots__ = ("kind",)

    kind: WarningKind

    def __new__(cls, text: str, kind: WarningKind) -> Self:
        """The sentence `text`, of this kind."""
        remark = super().__new__(cls, text)
        remark.kind = kind
        return remark

    def __reduce__(self) -> tuple[type["Remark"], tuple[str, WarningKind]]:
        return Remark, (str(self), self.kind)


class Shadowed(msgspec.Struct, frozen=True, kw_only=True):
    """A usable file that is not used, because one that goes first has the same name."""

    what: Literal["agent", "skill"]
    name: str
    used: "Path"
    hidden: "Path"

    def __str__(self) -> str:
        return f"{self.what} {self.name!r}: {str(self.used)!r} hides {str(self.hidden)!r}"
