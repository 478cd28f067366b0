"""What happens in a run, as it happens: `RunEvent`, which the command line, a dashboard and a user's code all read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from msgspec import to_builtins

if TYPE_CHECKING:
    from decimal import Decimal

    from claude_force.base.batches import BatchStatus
    from claude_force.base.results import StepResult, WorkflowResult

EventKind = Literal["run_started", "started", "text", "retried", "warning", "batch", "ended", "run_ended"]
OnEvent = Callable[["RunEvent"], object]
"""Called with each event, in the thread or loop of the run: it should be quick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """One thing that happened. `ended` says how in `result.status`."""

    kind: EventKind
    at_s: float
    """Since the run began."""
    cost_usd: "Decimal | None"
    """Of the run so far; `None` where a part of it is unpriced."""
    step: str | None = None
    """The step, or one item of it: `reviews[3]`."""
    text: str | None = None
    """A piece of the answer, a warning, or why another attempt is made. After `retried` the answer starts again."""
    items: int | None = None
    """Where an item has started: how many its step has."""
    batch: "BatchStatus | None" = None
    """How a message batch stands, at each look at it."""
    result: "StepResult | None" = None
    """How the step ended."""
    run: "WorkflowResult | None" = None
    """How the run ended."""
    run_id: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The facts that are there, ready for JSON."""
        facts = {
            "event": self.kind,
            "run_id": self.run_id,
            "at_s": round(self.at_s, 3),
            "cost_usd": None if self.cost_usd is None else float(self.cost_usd),
            "step": self.step,
            "text": self.text,
            "items": self.items,
            "batch": self.batch and to_builtins(self.batch),
            "result": self.result and self.result.to_dict(),
            "run": self.run and self.run.to_dict(),
        }
        return {name: value for name, value in facts.items() if value is not None or name == "cost_usd"}
