"""What the API takes and gives: every JSON document as a Struct. The OpenAPI document is made of these.

Money is US dollars as a float, as with `--json` on the command line; `null` is an unknown price. Times are ISO 8601 in
UTC. Names, answers and errors are text of others: whoever shows them must not run them.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from claude_force.base.config import PositiveFloat
from claude_force.base.records import Effort
from claude_force.insight.alerts import Alert
from claude_force.insight.anomalies import Finding

Status = Literal["running", "completed", "failed", "cancelled"]
StepState = Literal[
    "waiting", "ready", "running", "done", "cached", "failed", "skipped", "cancelled", "not_run", "unknown"
]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """A document that is given."""


class Taken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A document, or a query, that is taken."""


# ---------------------------------------------------------------- figures


class Costs(Shape, frozen=True):
    """As `claude-force analytics costs --json` has them."""

    executions: int
    failures: int
    cached: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    cost_usd: float
    unpriced: int
    saved_by_cache_usd: float
    saved_by_prompt_cache_usd: float
    saved_by_routing_usd: float
    saved_by_batch_usd: float


class Figures(Costs, frozen=True):
    """As `claude-force analytics summary --json` has them."""

    interrupted: int
    success_rate: float | None
    hit_rate: float | None
    error_types: dict[str, int]
    time_ms: dict[str, float | None]
    """By percentile: `p50`, `p75`, `p90`, `p95`, `p99`."""


class Group(Figures, frozen=True):
    """The figures of one agent, or of one model."""

    name: str


class DayCosts(Costs, frozen=True):
    """The costs of a day of the machine's time zone."""

    day: str


class Interval(Figures, frozen=True):
    """The figures of an hour, or of a day of the machine's time zone."""

    begins_at: datetime


class Bin(Shape, frozen=True):
    """A bar of the histogram of times."""

    up_to_ms: float | None
    """`null` for the last one, which has no end."""
    executions: int


class Budget(Shape, frozen=True):
    """How it stands with a limit."""

    limit: str
    limit_usd: float
    spent_usd: float
    held_usd: float
    left_usd: float


class CacheFigures(Shape, frozen=True):
    """What the response cache has done, and what it holds."""

    enabled: bool
    hits: int
    misses: int
    evictions: int
    entries: int
    size_bytes: int
    saved_usd: float


class OverviewQuery(Taken, frozen=True):
    """Which executions are asked for; what is left out is all."""

    days: Annotated[float, msgspec.Meta(gt=0, le=3650)] | msgspec.UnsetType = msgspec.UNSET
    """Only what ended in the last so many days, 3,650 at most: there is an interval for each. A query has no `null`."""
    agent: str | None = None
    model: str | None = None
    simulated: bool = False
    """Those of the simulator, instead of the real ones."""


class Overview(Shape, frozen=True):
    """How executions went, and what there is."""

    at: datetime
    version: str
    project: str
    allow_runs: bool
    tracking: bool
    total: Figures
    saved_usd: float
    """By the caches, the router and message batches together."""
    today: DayCosts
    """Since midnight here, whatever `days` says."""
    by_agent: list[Group]
    """The busiest first."""
    by_model: list[Group]
    by_day: list[DayCosts]
    interval: Literal["hourly", "daily"]
    trend: list[Interval]
    """The oldest first, with those in which nothing was done."""
    latency: list[Bin]
    """Whole turns of what a model answered."""
    alerts: list[Alert]
    """Every rule, as `claude-force analytics alerts` judges it."""
    anomalies: list[Finding]
    """Of the last week, the last first."""
    budgets: list[Budget]
    cache: CacheFigures
    agents: list[str]
    """All that the ledger names."""
    models: list[str]
    left_out: int
    """Simulated executions where the real ones were asked for, and the other way round."""
    unreadable_lines: int
    problems: dict[str, str]
    """Parts that cannot be read, and are empty, with the reason: `ledger`, `alerts`, `budgets`."""


# ---------------------------------------------------------------- runs


class RunFacts(Shape, frozen=True):
    """A run of a workflow."""

    id: str
    workflow: str
    status: Status
    """One that is `running` elsewhere may have broken off."""
    started_at: datetime
    ended_at: datetime | None
    duration_s: float | None
    cost_usd: float | None
    saved_usd: float
    resumed: int
    error: str | None
    simulated: bool
    is_here: bool
    """Whether this server runs it, and can cancel it."""


class StepFacts(Shape, frozen=True):
    """A step of a run, or one item of it."""

    id: str
    agent: str
    status: StepState
    """`waiting` for what it depends on; `ready`: under way, or waits for a place; `unknown`: nothing was noted."""
    depends_on: list[str]
    item_of: str | None
    """The step, of an item such as `reviews[3]`."""
    model: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    saved_usd: float | None = None
    attempts: int = 0
    reason: str | None = None


class RunsQuery(Taken, frozen=True):
    """Which runs are asked for."""

    workflow: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50


class Runs(Shape, frozen=True):
    """The newest runs first."""

    runs: list[RunFacts]


class RunQuery(Taken, frozen=True):
    """A run, by its id, the beginning of it, or `last`."""

    run: str


class RunView(Shape, frozen=True):
    """A run with its steps, in the order of the file."""

    run: RunFacts
    description: str
    steps: list[StepFacts]


class StepQuery(Taken, frozen=True):
    """A step of a run."""

    run: str
    step: str


class StepView(Shape, frozen=True):
    """What a step answered, and what is different from the run before."""

    run_id: str
    step: str
    answers: dict[str, str]
    """By step, or by each of its items."""
    reason: str | None
    """Why there is no answer."""
    attempts: int
    compared_with: str | None
    """The run of this workflow before this one."""
    changes: list[str]


# ---------------------------------------------------------------- what there is


class AgentFacts(Shape, frozen=True):
    """An agent that can be called."""

    name: str
    description: str
    model: str | None
    effort: str | None
    source: str
    warnings: list[str]


class AgentProblem(Shape, frozen=True):
    """A file that is none."""

    path: str
    line: int | None
    reason: str


class Agents(Shape, frozen=True):
    """The agents of the config, the project and the user."""

    agents: list[AgentFacts]
    problems: list[AgentProblem]


class InputFacts(Shape, frozen=True):
    """What a workflow can be given."""

    type: str
    required: bool
    default: Any
    description: str


class StepOutline(Shape, frozen=True):
    """A step as it is written."""

    id: str
    agent: str
    depends_on: list[str]


class WorkflowFacts(Shape, frozen=True):
    """A workflow that can be run, or what keeps it from being run."""

    name: str
    description: str
    inputs: dict[str, InputFacts]
    steps: list[StepOutline]
    problems: list[str]


class Workflows(Shape, frozen=True):
    """The workflows of the config, the project and the user."""

    workflows: list[WorkflowFacts]


# ---------------------------------------------------------------- what happens


class EventsQuery(Taken, frozen=True):
    """What to be told of: all, or one run."""

    run: str | None = None


class StepEvent(Shape, frozen=True):
    """A step is another way."""

    run_id: str
    step: StepFacts


class Progress(Shape, frozen=True):
    """What happens in a run that this server does."""

    run_id: str
    kind: Literal["started", "retried", "warning", "batch"]
    at_s: float
    step: str | None = None
    text: str | None = None


# ---------------------------------------------------------------- acting

Text = Annotated[str, msgspec.Meta(min_length=1)]
UseCache = Literal["refresh"] | bool | None


class ExecuteTask(Taken, frozen=True):
    """One task for one agent."""

    agent: Text
    task: Text
    model: str | None = None
    effort: Effort | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    use_cache: UseCache = None


class StartRun(Taken, frozen=True):
    """A workflow to run."""

    workflow: Text
    inputs: dict[str, Any] = {}
    force: list[str] = []
    use_cache: UseCache = None
    max_cost_usd: PositiveFloat | None = None


class ResumeRun(Taken, frozen=True):
    """How a run is taken up again."""

    force: list[str] = []
    max_cost_usd: PositiveFloat | None = None


class Nothing(Taken, frozen=True):
    """An empty object."""


class Answer(Shape, frozen=True):
    """What `claude-force execute --json` prints; here are the fields that callers need most."""

    text: str
    agent_name: str
    model: str
    cost_usd: float | None
    cached: bool
    simulated: bool
    stop_reason: str | None
    duration_ms: float


class RunStarted(Shape, frozen=True):
    """A run that is under way, or being cancelled."""

    run: RunFacts


class Alive(Shape, frozen=True):
    """The server answers."""

    status: Literal["ok"]


class Problem(Shape, frozen=True, omit_defaults=True):
    """What went wrong, as RFC 9457 has it."""

    type: str
    """`urn:claude-force:error:` and the name of the error; `about:blank` for what HTTP itself says."""
    title: str
    status: int
    detail: str
    """For a person: what happened, to what, and what to do next."""
    exit_code: int | None = None
    """What the command line would exit with."""
    problems: tuple[str, ...] = ()
    """Every fault, where there are several."""
