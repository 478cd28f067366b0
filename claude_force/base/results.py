"""How a run of a workflow ended, and each of its steps: values that the command line, scripts and other rooms read."""

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from claude_force.base.records import PromptCaching, Savings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from claude_force.base.errors import ClaudeForceError
    from claude_force.base.records import ModelRecommendation
    from claude_force.base.usage import Usage

StepStatus = Literal["done", "cached", "failed", "skipped", "cancelled", "not_run"]
RunStatus = Literal["running", "completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """How one step of a run ended, or one item of a `for_each` step."""

    id: str
    agent: str
    status: StepStatus
    text: str | None = None
    """The answer; of a `for_each` step, a JSON list of its items' answers, `null` for those without."""
    reason: str | None = None
    """Why it failed, was skipped or not run: one line."""
    why: str = ""
    """Why it was done, or did not have to be: what changed since the run before."""
    model: str | None = None
    choice: "ModelRecommendation | None" = None
    """Why this model, where the router chose it."""
    usage: "Usage | None" = None
    cost_usd: "Decimal | None" = None
    """`None` is unpriced; 0 where nothing was sent."""
    saved_usd: "Decimal | None" = None
    attempts: int = 0
    started_s: float = 0.0
    """Since the run began."""
    duration_s: float = 0.0
    simulated: bool = False
    error: "ClaudeForceError | None" = None
    warnings: tuple[str, ...] = ()

    @property
    def has_answer(self) -> bool:
        """Whether it was done, now or before."""
        return self.status in {"done", "cached"}

    def to_dict(self) -> dict[str, Any]:
        """All facts, ready for JSON: money is a float, an error is its type, message and exit code."""
        facts = {f.name: getattr(self, f.name) for f in fields(self)}
        for money in ("cost_usd", "saved_usd"):
            facts[money] = None if facts[money] is None else float(facts[money])
        facts["usage"] = self.usage and {f.name: getattr(self.usage, f.name) for f in fields(self.usage)}
        facts["error"] = self.error and {
            "type": type(self.error).__name__,
            "message": str(self.error),
            "exit_code": self.error.exit_code,
        }
        return facts | {"choice": msgspec.to_builtins(self.choice), "warnings": list(self.warnings)}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowResult:
    """How a run of a workflow ended. Its fields can be asked for like those of a dict, too.

    Example:
        >>> result = WorkflowResult(workflow_name="check", run_id="1", status="completed", steps={})
        >>> result["results"], result.exit_code
        ({}, 0)
    """

    workflow_name: str
    run_id: str
    status: RunStatus
    """`completed` only where all that had to be done is."""
    steps: "Mapping[str, StepResult]"
    """How each step ended, in the order of the file."""
    execution_order: tuple[str, ...] = ()
    """The steps with an answer, in the order in which they came to it."""
    total_time_seconds: float = 0.0
    cost_usd: "Decimal | None" = None
    """Of all that was sent; `None` where a part of it is unpriced."""
    saved_usd: "Decimal | None" = None
    """What the answers that were not asked for again had cost."""
    prompt_caching: PromptCaching = field(default_factory=PromptCaching)
    """What Claude's prompt cache did for all that was sent."""
    savings: Savings = field(default_factory=Savings)
    """What was not paid thanks to the caches, the router and message batches."""
    error: "ClaudeForceError | None" = None
    """What ended the run, if something did."""
    warnings: tuple[str, ...] = ()

    @property
    def results(self) -> dict[str, str]:
        """The answers by step."""
        return {id_: step.text for id_, step in self.steps.items() if step.text is not None and step.has_answer}

    @property
    def cached_steps(self) -> tuple[str, ...]:
        """The steps that were answered by what was paid for before."""
        return tuple(id_ for id_, step in self.steps.items() if step.status == "cached")

    @property
    def exit_code(self) -> int:
        """What the command line exits with."""
        if self.status == "completed":
            return 0
        return self.error.exit_code if self.error else 1

    @property
    def simulated(self) -> bool:
        """True where the offline simulator answered a step."""
        return any(step.simulated for step in self.steps.values())

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - each field has its own type
        if name in _RESULT_KEYS:
            return getattr(self, name)
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """All facts, ready for JSON."""
        facts = {name: getattr(self, name) for name in _RESULT_KEYS}
        for money in ("cost_usd", "saved_usd"):
            facts[money] = None if facts[money] is None else float(facts[money])
        return facts | {
            "prompt_caching": self.prompt_caching.to_dict(),
            "savings": self.savings.to_dict(),
            "steps": {id_: step.to_dict() for id_, step in self.steps.items()},
            "error": None if self.error is None else {"type": type(self.error).__name__, "message": str(self.error)},
            "simulated": self.simulated,
            "exit_code": self.exit_code,
        }


_RESULT_KEYS = (
    "workflow_name",
    "run_id",
    "status",
    "results",
    "execution_order",
    "cached_steps",
    "total_time_seconds",
    "cost_usd",
    "saved_usd",
    "prompt_caching",
    "savings",
    "steps",
    "error",
    "warnings",
)
