"""Runs and their steps as the API shows them, made of what the journal says. Pure.

The journal hears of a step when it has ended. So of a run under way nobody can tell from it which steps are being
done: one whose dependencies are all settled is `ready`, unless this very server does the run and knows.
"""

from collections import Counter
from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, cast

from claude_force.apps.dashboard.shapes import RunFacts, StepFacts, StepState
from claude_force.stores.runs import RunRecord
from claude_force.workflows.history import duration_s

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from claude_force.apps.dashboard.shapes import Status
    from claude_force.stores.runs import StepRecord
    from claude_force.workflows.definition import WorkflowStep


def run_facts(run: "RunRecord", *, is_here: bool) -> RunFacts:
    """A run."""
    return RunFacts(
        id=run.id,
        workflow=run.workflow,
        status=cast("Status", run.status),
        started_at=run.started_at,
        ended_at=run.ended_at,
        duration_s=duration_s(run),
        cost_usd=None if run.cost_usd is None else float(run.cost_usd),
        saved_usd=float(run.saved_usd),
        resumed=run.resumed,
        error=run.error,
        simulated=run.simulated,
        is_here=is_here and run.status == "running",
    )


def unwritten_run(run_id: str, workflow: str, *, at: datetime) -> RunFacts:
    """One that has begun here, and that the journal does not have."""
    run = RunRecord(id=run_id, workflow=workflow, status="running", started_at=at, cost_usd=None)
    return run_facts(run, is_here=True)


def step_facts(
    steps: "Sequence[WorkflowStep]",
    records: "Mapping[str, StepRecord | None]",
    *,
    is_running: bool,
    under_way: Collection[str] = (),
) -> list[StepFacts]:
    """The steps of a run, in the order of `records`; `under_way` are those that are known to be."""
    written = {step.id: step for step in steps}
    items = Counter(name.partition("[")[0] for name in (*records, *under_way) if "[" in name)
    settled = {name for name, record in records.items() if record is not None}

    def state(name: str, step: "WorkflowStep | None") -> StepState:
        if name in under_way:
            return "running"
        if not is_running:
            return "unknown"
        if items[name]:
            return "running"
        waits_for = () if step is None else step.dependencies
        needed = 0 if step is None else step.needed
        return "ready" if len(settled.intersection(waits_for)) >= needed else "waiting"

    def facts(name: str, record: "StepRecord | None") -> StepFacts:
        parent, bracket, _ = name.partition("[")
        step = written.get(parent)
        depends_on = [] if step is None or bracket else step.dependencies
        item_of = parent if bracket else None
        if record is None or name in under_way:
            agent = "" if step is None else step.agent
            return StepFacts(id=name, agent=agent, status=state(name, step), depends_on=depends_on, item_of=item_of)
        return StepFacts(
            id=name,
            agent=record.agent,
            status=cast("StepState", record.status),
            depends_on=depends_on,
            item_of=item_of,
            model=record.model,
            started_at=record.started_at,
            ended_at=record.ended_at,
            duration_s=duration_s(record),
            input_tokens=record.input_tokens,
            output_tokens=record.output_tokens,
            cost_usd=None if record.cost_usd is None else float(record.cost_usd),
            saved_usd=None if record.saved_usd is None else float(record.saved_usd),
            attempts=record.attempts,
            reason=record.reason,
        )

    return [facts(name, records.get(name)) for name in dict.fromkeys((*records, *under_way))]
