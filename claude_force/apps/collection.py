"""A collection on the screen. What is wrong with its files is found by `library.collection`."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from claude_force.apps.console import is_terminal, note, print_table
from claude_force.library.collection import Problem, Report, kinds, worst_first

# A hostile or a very broken tree can hold thousands; nobody reads them on a screen.
MOST_LINES = 200
_STEP = 250  # files between two looks at the progress: some tenths of a second

Item = TypeVar("Item")


def counted(items: Iterable[Item], what: str) -> Iterator[Item]:
    """The items, and for a person who waits, how many there were so far."""
    is_shown = is_terminal(sys.stderr)
    for number, item in enumerate(items, 1):
        if is_shown and number % _STEP == 0:
            click.echo(f"\r{number:,} {what}", err=True, nl=False)
        yield item
    if is_shown:
        click.echo("\r\033[K", err=True, nl=False)


# ------------------------------------------------------------ how it stands


def report_as_json(report: Report) -> dict[str, Any]:
    """All of it, in JSON's types."""
    return {
        "usable": sorted(report.names),
        "documentation": report.documentation,
        "kinds": kinds(report.problems),
        "problems": report.errors,
        "warnings": report.warnings,
    }


def print_kinds(problems: Sequence[Problem], *, label: str = "") -> None:
    """The kinds of problems, with how many files have them and one that does."""
    rows = [
        (label or ("error" if count.is_error else "warning"), count.kind, f"{count.files:,}", shown(count.example))
        for count in kinds(problems)
    ]
    if rows:
        print_table(("", "kind of problem", "files", "such as"), rows)


def note_problems(problems: Sequence[Problem], *, label: str = "") -> None:
    """The problems on stderr, the worst files first."""
    for problem in worst_first(problems)[:MOST_LINES]:
        where = shown(problem.path) + ("" if problem.line is None else f":{problem.line}")
        note(f"{where}: {problem.reason}", kind=label or ("error" if problem.is_error else "warning"))
    if len(problems) > MOST_LINES:
        note(f"and {len(problems) - MOST_LINES:,} more; --json has all of them", kind=label or "warning")


def shown(path: Path) -> str:
    """The path on one line, whatever its name holds."""
    return str(path) if str(path).isprintable() else repr(str(path))


def print_total(report: Report) -> None:
    """The last line."""
    pages = f", {report.documentation} documentation" if report.documentation else ""
    click.echo(f"{report.usable} usable, {report.unusable} not, {len(report.warnings)} warnings{pages}")
