"""How a run of a workflow goes, for a person, on stderr: a live table on a terminal, plain lines elsewhere."""

import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from claude_force.apps.console import harmless, moves_cursor, note, price

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType
    from rich.spinner import Spinner
    from rich.table import Table

    from claude_force.base.batches import BatchStatus
    from claude_force.base.results import StepResult
    from claude_force.workflows.events import OnEvent, RunEvent
    from claude_force.workflows.plan import Plan

WAITING, RUNNING = "waiting", "running"

# Which rows stay where a screen has too few lines for all: what happens, what went wrong, what comes next.
_RANKS = {RUNNING: 0, "failed": 1, "cancelled": 1, WAITING: 2}
# Lines of a terminal that are not rows: head, rules, what is left out, the total, and one for the cursor.
_FRAME_LINES = 7
_COLOURS = {"done": "green", "cached": "green", "failed": "red", "cancelled": "red", RUNNING: "cyan"}
_REFRESHES_PER_S = 8


@contextmanager
def shown(plan: "Plan", *, is_alone: bool) -> "Iterator[OnEvent]":
    """Show how the run goes; call what this gives with each of its events.

    Where results go to the same terminal while it runs, stderr is not `is_alone` on it: they would tear a table.
    """
    if is_alone and moves_cursor(sys.stderr):
        with _live_table(plan) as see:
            yield see
    else:
        yield _Lines().say


# ---------------------------------------------------------------- lines


class StatusTeller:
    """Says how a message batch stands whenever that has changed."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def __call__(self, status: "BatchStatus") -> None:
        """Say it, if it is news."""
        if self._said.get(status.id) == status.status:
            return
        self._said[status.id] = status.status
        until = "" if status.ended_at else f"; most end within an hour, this one by {status.expires_at:%d %b %H:%M} UTC"
        note(f"{status.id}: {status.status.replace('_', ' ')}, {status.entries:,} entries{until}", kind="batch")


class _Lines:
    """A line where something ended, or did not go as it should, or a batch goes on."""

    def __init__(self) -> None:
        self._say_status = StatusTeller()

    def say(self, event: "RunEvent") -> None:
        """Say what happened, if it is worth a line."""
        of = f"{event.step}: " if event.step else ""
        if event.kind == "retried":
            note(f"{of}{event.text}")
        elif event.kind == "warning":
            note(f"{of}{event.text}", kind="warning")
        elif event.batch is not None:
            self._say_status(event.batch)
        elif event.kind == "ended" and event.result is not None and event.result.status != "not_run":  # the end says it
            result = event.result
            note(f"{event.step}{_how(result)}", kind="error" if result.status == "failed" else result.status)


def _how(result: "StepResult") -> str:
    if not result.has_answer:
        return f": {result.reason}"
    facts = [f"{result.duration_s:.1f} s"]
    if result.usage is not None and result.status == "done":
        facts.append(f"{result.usage.prompt_tokens:,} in, {result.usage.output_tokens:,} out")
    return f", {', '.join(facts)}, {price(result.cost_usd)}"


# ---------------------------------------------------------------- the table


@dataclass(slots=True)
class _Row:
    """One step, as far as it has come."""

    state: str = WAITING
    started_s: float = 0.0
    """Of `time.monotonic`."""
    seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: Decimal | None = Decimal(0)
    items: int | None = None
    items_ended: int = 0

    def add(self, result: "StepResult") -> None:
        """Count what a turn has used."""
        if result.usage is not None and result.status != "cached":
            self.tokens_in += result.usage.prompt_tokens
            self.tokens_out += result.usage.output_tokens
        known = None not in {self.cost_usd, result.cost_usd}
        self.cost_usd = (self.cost_usd or Decimal(0)) + (result.cost_usd or Decimal(0)) if known else None


@dataclass(slots=True)
class _Board:
    """All steps, in topological order."""

    plan: "Plan"
    rows: dict[str, _Row] = field(default_factory=dict)
    started_s: float = field(default_factory=time.monotonic)
    cost_usd: Decimal | None = Decimal(0)
    lines: _Lines = field(default_factory=_Lines)

    def see(self, event: "RunEvent") -> None:
        """Take in what happened."""
        self.cost_usd = event.cost_usd
        if event.kind in {"retried", "warning", "batch"}:
            self.lines.say(event)
        elif event.kind == "started" and event.step is not None:
            row = self.rows[event.step.partition("[")[0]]
            if row.state == WAITING:
                row.state, row.started_s = RUNNING, time.monotonic()
            row.items = event.items
        elif event.kind == "ended" and event.result is not None:
            self._end(event.result)

    def _end(self, result: "StepResult") -> None:
        name, _, item = result.id.partition("[")
        row = self.rows[name]
        if item:
            row.items_ended += 1
            row.add(result)
            return
        row.state, row.seconds = result.status, result.duration_s
        if row.items is None:
            row.add(result)

    def visible(self, room: int) -> list[str]:
        """The steps to show, in their order, where there is room for so many."""
        names = list(self.rows)
        if len(names) <= room:
            return names
        ranked = sorted(range(len(names)), key=lambda n: (_RANKS.get(self.rows[names[n]].state, 3), n))
        return [names[n] for n in sorted(ranked[:room])]

    def totals(self) -> tuple[str, str, str, str]:
        """State, seconds, tokens and cost of the whole run."""
        rows = self.rows.values()
        answered = sum(row.state in {"done", "cached"} for row in rows)
        seconds = time.monotonic() - self.started_s
        tokens = _tokens(sum(row.tokens_in for row in rows), sum(row.tokens_out for row in rows))
        return f"{answered} of {len(rows)}", f"{seconds:.1f}", tokens, price(self.cost_usd)


@contextmanager
def _live_table(plan: "Plan") -> "Iterator[OnEvent]":
    from rich.console import Console  # noqa: PLC0415 - 60 ms that a pipe does not pay
    from rich.live import Live  # noqa: PLC0415
    from rich.spinner import Spinner  # noqa: PLC0415

    board = _Board(plan, {step: _Row() for step in plan.order})
    console, spinner = Console(stderr=True), Spinner("dots")

    def draw() -> "Table":
        return _drawn(board, spinner, room=max(console.height - _FRAME_LINES, 1))

    with Live(get_renderable=draw, console=console, refresh_per_second=_REFRESHES_PER_S, redirect_stdout=False) as live:
        try:
            yield board.see
        finally:
            live.refresh()


def _drawn(board: _Board, spinner: "Spinner", *, room: int) -> "Table":
    from rich import box  # noqa: PLC0415 - loaded by now
    from rich.table import Column, Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(
        Column("step", no_wrap=True, overflow="ellipsis", max_width=32),
        Column("waits for"),  # the one that gives way where the terminal is narrow
        Column("state", no_wrap=True, min_width=11),
        *(Column(name, justify="right", no_wrap=True) for name in ("seconds", "tokens in / out", "cost")),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    visible = board.visible(room)
    for name in visible:
        row = board.rows[name]
        waits = ", ".join(board.plan.steps[name].dependencies)
        seconds, cost = _seconds(row), "" if row.state == WAITING else price(row.cost_usd)
        table.add_row(
            Text(harmless(name)),
            Text(f"<- {harmless(waits)}" if waits else "", style="dim", no_wrap=True, overflow="ellipsis"),
            _state(row, spinner),
            seconds,
            _tokens(row.tokens_in, row.tokens_out),
            cost,
        )
    if len(visible) < len(board.rows):
        table.add_row(f"and {len(board.rows) - len(visible):,} more", "", "", "", "", "")
    table.add_section()
    table.add_row("total", "", *board.totals())
    return table


def _state(row: _Row, spinner: "Spinner") -> "RenderableType":
    from rich.table import Table  # noqa: PLC0415 - loaded by now
    from rich.text import Text  # noqa: PLC0415

    count = "" if row.items is None else f" {row.items_ended}/{row.items}"
    text = Text(f"{row.state.replace('_', ' ')}{count}", style=_COLOURS.get(row.state, "dim"))
    if row.state != RUNNING:
        return text
    both = Table.grid(padding=(0, 1))
    both.add_row(spinner, text)
    return both


def _seconds(row: _Row) -> str:
    if row.state == RUNNING:
        return f"{time.monotonic() - row.started_s:.1f}"
    return f"{row.seconds:.1f}" if row.started_s else ""


def _tokens(tokens_in: int, tokens_out: int) -> str:
    return f"{tokens_in:,} / {tokens_out:,}" if tokens_in or tokens_out else ""
