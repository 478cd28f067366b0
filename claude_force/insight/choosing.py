"""Who chooses a model where nobody names one: `Chooser`, the router with what the ledger says of an agent's past."""

from typing import TYPE_CHECKING

from claude_force.base.models import TIERS, Tier, resolve_model, takes_effort
from claude_force.base.records import ModelRecommendation
from claude_force.engine.router import TaskTraits, route
from claude_force.insight.models import past_of, read_last
from claude_force.performance_tracker import task_hash

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Self

    from claude_force.base.config import Routing
    from claude_force.base.records import AgentDefinition
    from claude_force.engine.request import Task
    from claude_force.insight.ledger import LedgerLine


class Chooser:
    """Chooses between two tiers. `ledger` is its file; `simulated`, whether its simulated executions count.

    `last` are its last lines, for who must not see it change; else they are read before each choice.
    """

    def __init__(
        self,
        bounds: "Routing",
        aliases: "Mapping[str, str]",
        ledger: "Path",
        *,
        simulated: bool,
        last: "tuple[LedgerLine, ...] | None" = None,
    ) -> None:
        self._bounds, self._aliases = bounds, aliases
        self._ledger, self._simulated, self._last = ledger, simulated, last

    @property
    def name(self) -> str:
        """What stands for a model that it chooses, where it must not matter which."""
        return f"{self._bounds.min_tier}..{self._bounds.max_tier}"

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """Those that are allowed, the cheapest first."""
        return TIERS[TIERS.index(self._bounds.min_tier) : TIERS.index(self._bounds.max_tier) + 1]

    def last(self) -> "tuple[LedgerLine, ...]":
        """The last lines of the ledger, by which it goes."""
        return read_last(self._ledger, simulated=self._simulated) if self._last is None else self._last

    def frozen(self) -> "Self":
        """The same, by the ledger as it is now: for many choices, which must not change between them."""
        return type(self)(self._bounds, self._aliases, self._ledger, simulated=self._simulated, last=self.last())

    def choose(self, task: "Task", agent: "AgentDefinition | None") -> ModelRecommendation:
        """The cheapest model that is good enough for the task, whatever it or the agent's file may name."""
        past = past_of(task.agent_name, self.last(), task_hash=task_hash(task.text))
        traits = TaskTraits(
            text=task.text,
            file_chars=tuple(len(material.text) for material in task.materials),
            max_tokens=task.max_tokens,
            agent_name=task.agent_name,
            agent_effort=agent.effort if agent else None,
            history=past.history if agent else {},
        )
        (_, tier, fitting), score, reasons = route(
            traits, min_tier=self._bounds.min_tier, max_tier=self._bounds.max_tier
        )
        model = resolve_model(tier, self._aliases).id
        effort = task.effort or (agent.effort if agent else None) or (fitting if takes_effort(model, fitting) else None)
        return ModelRecommendation(model=model, tier=tier, effort=effort, score=score, reasons=reasons)
