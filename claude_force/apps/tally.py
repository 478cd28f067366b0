"""How a long batch goes: what has been counted so far, and how a person is told of it on stderr.

On a terminal that is a bar, which goes when the batch ends; elsewhere a plain line now and then.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from claude_force.apps.console import moves_cursor, note, priced
from claude_force.base.errors import BudgetError, ClaudeForceError, NotRunError
from claude_force.base.records import PromptCaching, Savings

if TYPE_CHECKING:
    from rich.progress import Task
    from rich.text import Text

    from claude_force.apps.task_file import Failure, ResultLine
    from claude_force.base.records import AgentResult

# Seconds between the lines of a log: often enough to see that it lives, seldom enough to be read.
LINE_EVERY_S = 10.0


class Tally(msgspec.Struct, kw_only=True):
    """What became of the tasks of one run."""

    total: int
    """Tasks to be asked in this run."""
    before: int = 0
    """Tasks that an earlier run had done."""
    done: int = 0
    failed: int = 0
    not_run: int = 0
    retries: int = 0
    cost_usd: Decimal = Decimal(0)
    """Of all answers with a known price, those that were cut included."""
    unpriced: int = 0
    """Answers whose price is not known."""
    prompt_caching: PromptCaching = PromptCaching()
    """What Claude's prompt cache did for all answers."""
    savings: Savings = Savings()
    simulated: int = 0
    first_failure: "ResultLine | None" = None
    """That of the lowest number, so that two runs say the same."""
    over_budget: "ResultLine | None" = None
    """The first task that was not sent because it could have passed a limit."""
    ending: "Failure | None" = None
    """The terminal error that ended the batch."""
    started: float = msgspec.field(default_factory=time.monotonic)

    @property
    def ended(self) -> int:
        """Tasks of which the end is known."""
        return self.done + self.failed + self.not_run

    @property
    def exit_code(self) -> int:
        """Of the error that ended the batch, else of the limit that was met, else of the first that failed, else 0."""
        first = self.over_budget or self.first_failure
        cause = self.ending or (first.error if first else None)
        return cause.exit_code if cause else 0

    def add(self, line: "ResultLine", result: "AgentResult | ClaudeForceError") -> None:
        """Count one task that has ended."""
        if isinstance(result, NotRunError):
            self.not_run += 1
            return
        if isinstance(result, BudgetError):  # others may be cheaper, or of an agent that may still spend
            self.not_run += 1
            if self.over_budget is None or line.number < self.over_budget.number:
                self.over_budget = line
            return
        if line.error is None:
            self.done += 1
        else:
            self.failed += 1
            if self.first_failure is None or line.number < self.first_failure.number:
                self.first_failure = line
            if line.error.is_terminal:
                self.ending = self.ending or line.error
        if not isinstance(result, ClaudeForceError):
            self.simulated += result.simulated
            self.unpriced += result.cost_usd is None
            self.cost_usd += result.cost_usd or 0
            self.prompt_caching += result.prompt_caching
            self.savings += result.savings

    def cost(self) -> str:
        """What was paid, or would have been; never a guess for what has no price."""
        return priced(self.cost_usd, self.unpriced, before="would cost " if self.simulated else "")

    def so_far(self, now: float) -> str:
        """One line: how far it is, how fast, how dear, how long to go. `now` is of `time.monotonic`."""
        elapsed_s = max(now - self.started, 0.001)
        parts = [f"{self.ended} of {self.total}"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{self.retries} {'retry' if self.retries == 1 else 'retries'}"] if self.retries else []
        parts += [f"{self.ended / elapsed_s:.1f}/s", self.cost()]
        if self.ended:
            parts.append(f"{_clock((self.total - self.ended) * elapsed_s / self.ended)} left")
        return ", ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def shown(tally: Tally, *, is_alone: bool) -> Iterator[Callable[[], None]]:
    """Show the tally while the batch runs; call what this gives after each change.

    Where results go to the same terminal, so that stderr is not `is_alone` on it, a bar would be torn by them.
    """
    if is_alone and moves_cursor(sys.stderr):
        with _bar(tally) as show:
            yield show
    else:
        yield _lines(tally)


def _lines(tally: Tally) -> Callable[[], None]:
    said = tally.started

    def show() -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= LINE_EVERY_S and tally.ended < tally.total:
            said = now
            note(tally.so_far(now), kind="progress")

    return show


@contextmanager
def _bar(tally: Tally) -> Iterator[Callable[[], None]]:
    from rich.console import Console  # noqa: PLC0415 - 60 ms that a pipe does not pay
    from rich.progress import BarColumn, Progress, ProgressColumn  # noqa: PLC0415
    from rich.table import Column  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    class SoFar(ProgressColumn):
        """The tally's line, which goes on with the clock."""

        def render(self, task: "Task") -> "Text":  # noqa: ARG002 - rich's signature
            return Text(tally.so_far(time.monotonic()))

    console = Console(stderr=True)
    words = SoFar(table_column=Column(no_wrap=True, overflow="ellipsis"))
    with Progress(BarColumn(20), words, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("", total=tally.total)
        yield lambda: progress.update(task, total=tally.total, completed=tally.ended)
