"""What the commands share: how things are printed, and the options that mean the same everywhere.

Results go to stdout, everything else to stderr. Colour and tables only where a person looks; a pipe gets plain lines.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

Command = TypeVar("Command", bound=Callable[..., Any])


def example(*lines: str) -> str:
    """A help page's last part: commands to try, each on its own line."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def json_option(command: Command) -> Command:
    """`--json`; errors are then JSON, too."""

    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> bool:  # noqa: FBT001 - click's signature
        ctx.meta["as_json"] = value
        return value

    option = click.option(
        "--json", "as_json", is_flag=True, callback=remember, help="Print JSON for a machine to read."
    )
    return option(command)


def config_option(command: Command) -> Command:
    """`--config`."""
    path = click.Path(path_type=Path, dir_okay=False)
    option = click.option(
        "--config", "config_path", type=path, help="Use this claude.json instead of searching for one."
    )
    return option(command)


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    encoded = msgspec.json.encode(value, enc_hook=str)
    click.echo(msgspec.json.format(encoded, indent=2).decode())


def harmless(text: str) -> str:
    """The text without characters that a terminal obeys: no agent file or answer may move a cursor or set a title."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def note(text: str, *, kind: str = "note") -> None:
    """One line, or a few that belong together, on stderr."""
    colour = {"warning": "yellow", "error": "red"}.get(kind, "cyan")
    click.echo(f"{click.style(kind, fg=colour)}: {harmless(text)}", err=True)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table for a person; tab-separated lines, without a header, for a pipe."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(" ".join(harmless(cell).split()) for cell in row))
        return
    from rich import box  # noqa: PLC0415 - 40 ms that a pipe does not pay
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(*headers, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(harmless(cell)) for cell in row))
    Console().print(table)
