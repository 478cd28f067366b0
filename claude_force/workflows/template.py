r"""Placeholders in a task: `{{ inputs.NAME }}`, `{{ steps.ID.output }}`, `{{ steps.ID.status }}`, `{{ item }}`. Pure.

- Names only, no expressions: a path may go on into JSON (`{{ item.file }}`, `{{ steps.plan.output.title }}`).
- What is put in is never looked at again, so an answer cannot smuggle in a placeholder.
- A backslash in front means the braces themselves: `\{{ user }}` is sent as `{{ user }}`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

_BRACES = re.compile(r"(\\?)\{\{([^{}\n]*)\}\}")  # one way to match, so no text takes long
_WORDS = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One of them, taken apart."""

    kind: Literal["input", "output", "status", "item", "unknown"]
    name: str = ""
    """Of the input or the step; for an unknown one, what stands between the braces."""
    path: tuple[str, ...] = ()
    """Into its JSON value."""

    @property
    def source(self) -> str:
        """How it is called in messages."""
        return "item" if self.kind == "item" else self.name


def placeholders(text: str) -> Iterator[Placeholder]:
    """All that stand in the text, in their order."""
    for found in _BRACES.finditer(text):
        if not found[1]:
            yield _parsed(found[2])


def filled(text: str, value_of: Callable[[Placeholder], str]) -> str:
    """The text with each placeholder's value in its place."""

    def value(found: re.Match[str]) -> str:
        return found[0][1:] if found[1] else value_of(_parsed(found[2]))

    return _BRACES.sub(value, text)


def _parsed(words: str) -> Placeholder:
    words = words.strip(" \t")
    if not _WORDS.fullmatch(words):
        return Placeholder("unknown", words)
    match words.split("."):
        case ["inputs", name, *path]:
            return Placeholder("input", name, tuple(path))
        case ["steps", name, "output", *path]:
            return Placeholder("output", name, tuple(path))
        case ["steps", name, "status"]:
            return Placeholder("status", name)
        case ["item", *path]:
            return Placeholder("item", "item", tuple(path))
        case _:
            return Placeholder("unknown", words)


def walk(value: Any, path: tuple[str, ...]) -> Any:  # noqa: ANN401 - as JSON has it
    """The value at the end of the path. Raises `LookupError`, saying where it ends."""
    for depth, key in enumerate(path):
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (LookupError, TypeError, ValueError):
            there = ".".join(path[:depth]) or "it"
            raise LookupError(f"{there} has no {key!r}") from None
    return value
