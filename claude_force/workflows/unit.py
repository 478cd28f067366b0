"""What a run has under way: a `Unit` is one turn to do, a `Spread` a step that is done once for each item of a list."""

from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from claude_force.base.pricing import total_usd
from claude_force.workflows.causes import Causes
from claude_force.workflows.data import NO_ITEM

if TYPE_CHECKING:
    from claude_force.base.ports import Ledger
    from claude_force.base.records import Execution
    from claude_force.base.results import StepResult
    from claude_force.workflows.definition import WorkflowStep


@dataclass(slots=True, eq=False)
class Unit:
    """One turn to do: a step, or one item of it."""

    step: "WorkflowStep"
    name: str
    """The step's id, or `reviews[3]` for one of its items."""
    ledger: "Noting"
    number: int | None = None
    item: object = NO_ITEM
    of: int | None = None
    """How many items the step has."""
    started_s: float = 0.0
    key: str | None = None
    causes: Causes = field(default_factory=Causes)
    result: "StepResult | None" = None


@dataclass(slots=True, eq=False)
class Spread:
    """A `for_each` step under way."""

    step: "WorkflowStep"
    left: deque[Unit]
    results: "list[StepResult | None]"
    bound: int | None
    """How many may be under way."""
    running: int = 0

    @property
    def has_room(self) -> bool:
        """Whether another item may be begun."""
        return bool(self.left) and (self.bound is None or self.running < self.bound)


class Noting:
    """The ledger of one step's turns, which remembers what they cost."""

    def __init__(self, ledger: "Ledger") -> None:
        self.executions: list[Execution] = []
        self._ledger = ledger

    def record(self, execution: "Execution") -> None:
        """See `Ledger.record`."""
        self.executions.append(execution)
        self._ledger.record(execution)

    @property
    def cost_usd(self) -> Decimal | None:
        """Of all that was sent; `None` where a part is unpriced."""
        return total_usd(execution.cost_usd if execution.attempts else Decimal(0) for execution in self.executions)
