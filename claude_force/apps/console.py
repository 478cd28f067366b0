"""What the commands share: how things are printed, and the options that mean the same everywhere.

Results go to stdout, everything else to stderr. Colour and tables only where a person looks; a pipe gets plain lines.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from claude_force.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from click.shell_completion import CompletionItem

    from claude_force.base.records import ModelRecommendation, PromptCaching, Savings
    from claude_force.orchestrator import Project

Command = TypeVar("Command", bound=Callable[..., Any])


def example(*lines: str) -> str:
    """A help page's last part: commands to try, each on its own line."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def json_option(command: Command) -> Command:
    """`--json`; errors are then JSON, too."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for a machine to read.")(command)


def config_option(command: Command) -> Command:
    """`--config`."""
    path = click.Path(path_type=Path, dir_okay=False)
    option = click.option(
        "--config", "config_path", type=path, help="Use this claude.json instead of searching for one."
    )
    return option(command)


def routing_options(command: Command) -> Command:
    """`--auto-model` and its bounds: three options, as `Project` takes them."""
    from claude_force.base.models import TIERS  # noqa: PLC0415 - few commands choose a model

    options = (
        click.option(
            "--auto-model/--no-auto-model",
            default=None,
            help="The cheapest model that is good enough, where nobody names one. [default: as the config says]",
        ),
        click.option(
            "--min-tier", type=click.Choice(TIERS), help="With --auto-model: no cheaper one. [default: haiku]"
        ),
        click.option("--max-tier", type=click.Choice(TIERS), help="With --auto-model: no dearer one. [default: opus]"),
    )
    for option in reversed(options):
        command = option(command)
    return command


def check_routing(project: "Project", min_tier: str | None, max_tier: str | None) -> None:
    """Refuse bounds for a choice that is not made."""
    if (min_tier or max_tier) and not project.auto_model:
        raise click.UsageError("--min-tier and --max-tier belong to --auto-model; give that, too")


def yes_option(command: Command) -> Command:
    """`--yes`: what is removed for good is not asked about."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(command)


def ask(question: str) -> None:
    """Have a person agree; where they do not, the command ends. Raises `InputError` where nobody can be asked."""
    if not is_terminal(sys.stdin):
        raise InputError(f"nobody can be asked {question!r}; give --yes")
    click.confirm(question, abort=True, err=True)


def completions(names: "Iterable[str]", incomplete: str) -> "list[CompletionItem]":
    """The names that go on so, for a shell. It puts them on its line as they are: one that it would run is no name."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only the shell asks

    from claude_force.library.definition import name_fault  # noqa: PLC0415

    return [CompletionItem(name) for name in names if name.startswith(incomplete) and not name_fault(name)]


def print_json(value: object) -> None:
    """One JSON document on stdout, in ASCII where the terminal or pipe takes no more."""
    import json  # noqa: PLC0415 - most commands print text

    import msgspec  # noqa: PLC0415 - not for --help

    plain = msgspec.to_builtins(value, enc_hook=str)
    click.echo(_escaped(json.dumps(plain, indent=2, ensure_ascii=not takes_unicode())))


def print_json_line(line: bytes) -> None:
    """A line of JSON on stdout, with its end."""
    click.echo(_escaped(line.decode()).encode(), nl=False)


# Controls, but for those that JSON escapes anyway, and turns of direction. Text, as `re` compiles what is used alone.
_OBEYED = "\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"


def harmless(text: str) -> str:
    """The text without what a terminal obeys: no agent file or answer may move the cursor or turn a line round."""
    if text.isprintable():  # which no character is that a terminal obeys
        return text
    return re.sub(f"[\\0-\\x08\\x0b-\\x1f{_OBEYED}]", "\N{REPLACEMENT CHARACTER}", text)


def _escaped(json_text: str) -> str:
    """The same JSON without what a terminal obeys, and halves of characters, as a file's name may have."""
    return re.sub(f"[{_OBEYED}\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", json_text)


def styled(text: str, colour: str) -> str:
    """The text in a colour, unless the user wants none (https://no-color.org)."""
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if is_plain else click.style(text, fg=colour)


def note(text: str, *, kind: str = "note") -> None:
    """One line, or a few that belong together, on stderr. Never fails: a note must not cost an answer."""
    colour = {"warning": "yellow", "error": "red"}.get(kind, "cyan")
    say(f"{styled(kind, colour)}: {harmless(text)}")


def say(line: str) -> None:
    """A line on stderr, as it is. Never fails."""
    if sys.stderr is not None:
        try:
            click.echo(line, err=True)
        except OSError:
            sys.stderr = None  # what it holds could not be written at the end either, and Python would exit with 120


def is_terminal(stream: Any) -> bool:  # noqa: ANN401 - sys.stdout or sys.stderr, which may be None
    """Whether a person looks at this stream; closed ones are None."""
    return stream is not None and stream.isatty()


def moves_cursor(stream: Any) -> bool:  # noqa: ANN401 - as above
    """Whether this stream is a terminal that can show how far something is, in place of what it showed before."""
    return is_terminal(stream) and os.environ.get("TERM") not in {"dumb", "unknown"}


def takes_unicode() -> bool:
    """Whether stdout has every character."""
    return "utf" in (getattr(sys.stdout, "encoding", None) or "").lower()


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table for a person, or a list where it is too wide; tab-separated lines, without a header, for a pipe."""
    if not is_terminal(sys.stdout):
        for row in rows:
            click.echo("\t".join(" ".join(harmless(cell).split()) for cell in row))
        return
    from rich import box  # noqa: PLC0415 - 40 ms that a pipe does not pay
    from rich.cells import cell_len  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Column, Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    widths = [max(map(cell_len, column)) for column in zip(headers, *rows, strict=True)]
    least = sum(width if width <= _WHOLE else _LEAST_COLUMN for width in widths)
    if least + _TIGHT_GAP * len(headers) > console.width:
        for row in rows:
            click.echo(
                "".join(
                    f"{header}: {' '.join(harmless(cell).split())}\n" for header, cell in zip(headers, row, strict=True)
                )
            )
        return
    is_tight = sum(widths) + _COLUMN_GAP * len(headers) > console.width
    columns = (
        Column(header, overflow="fold", no_wrap=width <= _WHOLE) for header, width in zip(headers, widths, strict=True)
    )
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0) if is_tight else (0, 1))
    for row in rows:
        table.add_row(*(Text(harmless(cell)) for cell in row))
    console.print(table)


_WHOLE, _LEAST_COLUMN = 12, 4
"""Characters: an amount, a time or a key that is torn is misread, so only columns with longer texts are folded."""
_COLUMN_GAP, _TIGHT_GAP = 3, 2


_LEAST_BAR, _MOST_BAR = 8, 40
"""Columns: a shorter one shows nothing, a longer one is far from its line."""


def bars(values: Sequence[float], *, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A bar for each value, as long as the table of these rows leaves room for; what is above 0 is seen."""
    import shutil  # noqa: PLC0415 - a library of its own, which few commands need

    taken = sum(max(map(len, column)) + _COLUMN_GAP for column in zip(headers, *rows, strict=True))
    room = min(max(shutil.get_terminal_size().columns - taken - _COLUMN_GAP, _LEAST_BAR), _MOST_BAR)
    most = max(values, default=0) or 1
    return [_bar(value / most * room) if value > 0 else "" for value in values]


def _bar(length: float) -> str:
    """Block characters, the last one an eighth part or more; plain ones where the terminal has no others."""
    if not takes_unicode():
        return "#" * max(round(length), 1)
    eighths = max(round(length * 8), 1)
    rest = eighths % 8
    return "\N{FULL BLOCK}" * (eighths // 8) + (chr(ord("\N{FULL BLOCK}") + 8 - rest) if rest else "")


def beginning(text: str) -> str:
    """What fits into a table, on one line."""
    line = " ".join(text[:200].split())
    return line if len(line) <= 60 else line[:59] + "\N{HORIZONTAL ELLIPSIS}"  # noqa: PLR2004 - a column's width


def print_text(text: str) -> None:
    """Text of others on stdout, with an end of its line: harmless on a terminal, and in a pipe as it is."""
    shown = harmless(text) if is_terminal(sys.stdout) else text
    click.echo(shown, nl=not text.endswith("\n"), color=True)  # or click takes escape codes out of it


def print_answers(answers: Mapping[str, str]) -> None:
    """Answers on stdout, each under its name where there is more than one."""
    for name, text in answers.items():
        if len(answers) > 1:
            print_text(f"==> {name} <==")
        print_text(text)


def price(usd: "Decimal | None") -> str:
    """Dollars, or that nobody knows."""
    return "unpriced" if usd is None else f"{'-' if usd < 0 else ''}${abs(usd):.4f}"


def priced(usd: "Decimal", unpriced: int, *, before: str = "") -> str:
    """Dollars of those that have a price, and how many have none: what nobody knows is not shown as nothing."""
    parts = [f"{before}{price(usd)}"] if usd or not unpriced else []
    return " and ".join([*parts, f"{unpriced:,} unpriced"] if unpriced else parts)


# Nobody reads more before an answer; results and `--json` have all.
_MOST_REASONS = 3


def say_choice(choice: "ModelRecommendation", *, of: str = "") -> None:
    """Which model is asked, and why: a line on stderr, with the step that it is `of`."""
    effort = f", effort {choice.effort}" if choice.effort else ""
    score = "" if choice.score is None else f" (score {choice.score:.2f})"
    reasons = "; ".join(choice.reasons[:_MOST_REASONS])
    note(f"{f'{of}: ' if of else ''}{choice.model}{effort}{score}: {reasons}", kind="model")


def say_savings(savings: "Savings", *, is_simulated: bool) -> None:
    """What was not paid thanks to what, if anything: a line on stderr. What has cost more is below 0."""
    hows = {
        "the response cache": savings.cache_usd,
        "the prompt cache": savings.prompt_cache_usd,
        "routing": savings.routing_usd,
        "batches": savings.batch_usd,
    }
    parts = [f"{price(usd)} by {how}" for how, usd in hows.items() if usd is None or usd]
    if parts:
        note(", ".join(parts), kind="would have saved" if is_simulated else "saved")


def say_caching(caching: "PromptCaching") -> None:
    """What Claude's prompt cache did, if it did anything: a line on stderr."""
    if not (caching.read_tokens or caching.written_tokens):
        return
    possible = max(caching.shared_tokens, caching.read_tokens + caching.written_tokens)  # the former is an estimate
    parts = [f"{caching.read_tokens:,} of {possible:,} shared tokens read, {caching.written_tokens:,} written"]
    if caching.waited_s:
        parts.append(f"{caching.waited_s:.1f} s waited")
    note(", ".join(parts), kind="prompt cache")


def age(seconds: float) -> str:
    """The largest unit that gives a number above 1, such as `3 min`."""
    units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")]
    size, unit = next((pair for pair in units if seconds >= pair[0]), (1, "s"))
    return f"{seconds // size:.0f} {unit}"


_HOURS = {"m": 1 / 60, "h": 1.0, "d": 24.0, "w": 168.0}
_MOST_HOURS = 1000 * 365 * 24.0  # nothing is older, and so much earlier there still are dates


def hours(text: str) -> float:
    """An age as people type it, such as `7d`, in hours. Raises `InputError` where it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text.strip().lower())
    if found is None:
        raise InputError(f"{text!r} is no age; give a number and m, h, d or w, such as 7d")
    return min(float(found[1]) * _HOURS[found[2]], _MOST_HOURS)
