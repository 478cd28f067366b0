"""A workflow's inputs as they are typed: `--input name=value`, `name=@file`, `name=-`, or piped in."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from claude_force.apps.console import note
from claude_force.apps.stdin import is_piped, read_stdin
from claude_force.library.materials import read_material
from claude_force.workflows.start import lacking

if TYPE_CHECKING:
    from claude_force.workflows.start import Shop

INPUT_HELP = "An input; may be repeated. =@FILE takes a file's text, =- standard input, =@@ a text that begins with @."


def typed_inputs(words: Sequence[str]) -> dict[str, Any]:
    """The values by name."""
    values: dict[str, Any] = {}
    for word in words:
        name, is_pair, value = word.partition("=")
        if not is_pair or not name:
            raise click.UsageError(f"--input {word!r} has no name; write name=value, name=@file or name=-")
        if name in values:
            raise click.UsageError(f"--input {name!r} is given twice; give it once")
        values[name] = value
    if sum(value == "-" for value in values.values()) > 1:
        raise click.UsageError("standard input can be one input only; give the others as name=@file")
    return {name: _value(value) for name, value in values.items()}


def _value(word: str) -> str:
    if word == "-":
        return read_stdin()
    if word.startswith("@@"):
        return word[1:]
    return read_material(word[1:]).text if word.startswith("@") else word


def piped_input(shop: "Shop", workflow: str, given: dict[str, Any]) -> dict[str, Any]:
    """What is piped in, if one required input is open that it can be."""
    if not is_piped():
        return {}
    match lacking(shop, workflow, given):
        case [only] if text := read_stdin():
            note(f"standard input is the input {only!r} ({len(text):,} characters)")
            return {only: text}
    return {}
