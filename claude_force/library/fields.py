"""The values of a front matter, each brought to its type, and what stands in for those that are missing.

Agents and skills are read by it alike; which keys there are, and what they mean, is known to `definition` and `skills`.
"""

import re
from typing import TYPE_CHECKING, Any

from claude_force.library.remarks import Remark, WarningKind

if TYPE_CHECKING:
    from claude_force.library.frontmatter import Document

USUAL_DESCRIPTION_CHARS = 1_024  # what the agent skills standard allows; 208 real agents are longer
# Text, because a start must not compile what it does not use: `re` compiles a pattern once, when it is used.
_LIST_ITEM = r"(?:[^,\n(]|\([^)]*\)?)+"
_TOOL = r"[^\s,(]+(?:\([^)]*\)?)?"  # a bracket that nobody closes takes the rest along, or each would look for its end
_COUNT = r"0*[1-9][0-9]{0,8}"
_BIG = 1e18  # beyond it, Python may refuse to write an integer down
_SWITCHES = {"yes": True, "on": True, "true": True, "1": True, "no": False, "off": False, "false": False, "0": False}
_NO_TEXT = ("#", "<!--", "---", "***", "```")


class Fields:
    """The front matter's values, each brought to its type or left out; whatever is not as it should be is a warning."""

    def __init__(self, document: "Document") -> None:
        self.warnings = list(document.warnings)
        self.meta = document.meta

    def warn(self, text: str, kind: WarningKind = "wrong-value") -> None:
        """Keep a warning for the reader of the definition."""
        self.warnings.append(Remark(text, kind))

    def text(self, key: str) -> str | None:
        """A text; numbers and lists are written out."""
        value = self.meta.get(key)
        if value is None or isinstance(value, str):
            return (value or "").strip() or None
        texts = [plain(item) for item in (value if isinstance(value, list) else [value])]
        if None in texts:
            self.warn(f"{key!r} is no text and was left out; put it in quotes")
            return None
        self.warn(f"{key!r} is no text and was read as one; put it in quotes")
        return ", ".join(filter(None, texts)).strip() or None

    def names(self, key: str) -> tuple[str, ...] | None:
        """Names from a list or from a text with commas; `None` where the key is absent or says nothing."""
        value = self.meta.get(key)
        if value is None:
            if key in self.meta:
                self.warn(f"{key!r} is empty and was left out; write '[]' for none")
            return None
        texts = [plain(item) for item in (value if isinstance(value, list) else [value])]
        if None in texts:
            self.warn(f"{key!r} holds something else than names, which was left out; write 'a, b'")
        items = [item for text in texts if text for item in re.findall(_LIST_ITEM, text)]
        return tuple(dict.fromkeys(name for item in items if (name := item.strip().removeprefix("- ").strip())))

    def texts(self, key: str) -> tuple[str, ...]:
        """Sentences from a list, or a single one."""
        value = self.meta.get(key)
        texts = [plain(item) for item in (value if isinstance(value, list) else [value])]
        if None in texts and value is not None:
            self.warn(f"{key!r} holds something else than texts, which was left out; put each in quotes")
        return tuple(text.strip() for text in texts if text and text.strip())

    def choice(self, key: str, words: tuple[Any, ...]) -> Any:  # noqa: ANN401 - one of `words`, or None
        """One of a few words."""
        text = self.text(key)
        word = next((word for word in words if text and word.lower() == text.lower()), None)
        if text and word is None:
            self.warn(f"{key!r} is {text!r} and was left out; use {', '.join(words[:-1])} or {words[-1]}")
        return word

    def count(self, key: str) -> int | None:
        """A whole number above zero."""
        value = self.meta.get(key)
        text = plain(value)
        if value is not None and not (text and re.fullmatch(_COUNT, text)):
            self.warn(f"{key!r} is no whole number above 0 and was left out; write a number such as 10")
            return None
        return int(text) if text else None

    def switch(self, key: str) -> bool | None:
        """Yes or no, as YAML or people write it."""
        value = self.meta.get(key)
        if value is None or isinstance(value, bool):
            return value
        text = plain(value)
        if text is None or text.lower() not in _SWITCHES:
            self.warn(f"{key!r} is neither yes nor no; write one of them")
            return None
        return _SWITCHES[text.lower()]


def plain(value: object) -> str | None:
    """A text or a number as text. Not truth values, and no number so big that it cannot be one."""
    if isinstance(value, str):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _BIG
    return str(value) if is_number else None


def tool_names(text: str) -> list[str]:
    """The names in a text, between blanks or commas, each with what stands in its brackets."""
    return re.findall(_TOOL, text)


def without_blank_edges(text: str) -> str:
    """The text from its first line that is not blank to its last one."""
    lines = text.split("\n")
    filled = [i for i, line in enumerate(lines) if line.strip()]
    return "\n".join(lines[filled[0] : filled[-1] + 1]) if filled else ""


def first_sentence(text: str) -> str:
    """What fits on one line of a list."""
    head, dot, _ = " ".join(text.split()).partition(". ")
    return head + dot.strip()


def first_paragraph(text: str) -> str:
    """The first lines that are text, on one line; the first heading where there is nothing else."""
    lines: list[str] = []
    for line in map(str.strip, text.split("\n")):
        if line and not line.startswith(_NO_TEXT):
            lines.append(line)
        elif lines:
            break
    return " ".join(lines or [text.split("\n", 1)[0].strip("# ")])[:USUAL_DESCRIPTION_CHARS]
