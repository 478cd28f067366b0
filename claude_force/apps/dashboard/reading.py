"""What the API shows, read from the stores of a project, which every process of it writes. Nothing here is kept.

Every method may wait for a disk, so the server calls them in threads.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from claude_force import __version__
from claude_force.apps.alerts import judge
from claude_force.apps.dashboard import shapes
from claude_force.apps.dashboard.shapes import (
    AgentFacts,
    AgentProblem,
    Agents,
    Bin,
    Budget,
    CacheFigures,
    DayCosts,
    Group,
    InputFacts,
    Interval,
    Overview,
    OverviewQuery,
    RunFacts,
    RunQuery,
    Runs,
    RunsQuery,
    RunView,
    StepFacts,
    StepOutline,
    StepQuery,
    StepView,
    WorkflowFacts,
    Workflows,
)
from claude_force.apps.dashboard.views import run_facts, step_facts
from claude_force.apps.selection import cost_facts, figure_facts, since
from claude_force.base.errors import ClaudeForceError, RunNotFoundError
from claude_force.insight.alerts import Alert
from claude_force.insight.anomalies import Finding, read_anomalies
from claude_force.insight.costs import read_costs
from claude_force.insight.counting import Selection
from claude_force.insight.figures import Costs, Figures
from claude_force.insight.summary import Summary, read_summary
from claude_force.insight.trends import Trends, read_trends
from claude_force.library.project import agent_library
from claude_force.workflows.history import History
from claude_force.workflows.survey import survey

if TYPE_CHECKING:
    from claude_force.orchestrator import Project
    from claude_force.stores.runs import RunRecord

T = TypeVar("T")

# Where a bar of the histogram of times ends; from a cached prompt's answer to the longest turn that is allowed.
BOUNDS_MS = (100, 250, 500, 1_000, 2_500, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000)
"""15 s is among them because alarms ask for it."""

MB = 1024 * 1024
MOST_HOURLY_DAYS = 2
"""Figures hour by hour; of more days, day by day."""
LATELY = timedelta(days=7)
MOST_ANOMALIES = 50


class Reader:
    """The stores of a project. `here` has the runs that this process does, and is asked at each call."""

    def __init__(self, project: "Project", *, here: Mapping[str, Collection[str]], allow_runs: bool) -> None:
        self._project = project
        self._here = here
        self._allow_runs = allow_runs
        self.history = History(project.runs, project.cache)

    # ------------------------------------------------------------ figures

    def overview(self, query: OverviewQuery) -> Overview:
        """How executions went. What cannot be read is empty, and said: it must not take the rest along."""
        project, now, problems = self._project, datetime.now(UTC), dict[str, str]()

        def part(name: str, read: Callable[[], T], *, empty: T) -> T:
            try:
                return read()
            except (ClaudeForceError, OSError) as error:
                problems[name] = str(error)
                return empty

        ledger = part("ledger", lambda: _read_ledger(project.tracker.path, query, now), empty=_Ledger())
        alerts = part("alerts", lambda: list(judge(project, simulated=query.simulated).alerts), empty=list[Alert]())
        budgets = part("budgets", self.budgets, empty=list[Budget]())
        total, trends = ledger.summary.total, ledger.trends
        return Overview(
            at=now,
            version=__version__,
            project=project.start.resolve().name,
            allow_runs=self._allow_runs,
            tracking=project.settings.config.tracking.enabled,
            total=shapes.Figures(**figure_facts(total)),
            saved_usd=float(total.costs.saved_usd),
            today=DayCosts(day=_today(now), **cost_facts(ledger.today)),
            by_agent=[Group(name=name, **figure_facts(found)) for name, found in ledger.summary.agents.items()],
            by_model=[Group(name=name, **figure_facts(found)) for name, found in ledger.summary.models.items()],
            by_day=[DayCosts(day=day, **cost_facts(found)) for day, found in ledger.days.items()],
            interval=trends.interval,
            trend=[Interval(begins_at=at, **figure_facts(found)) for at, found in trends.intervals.items()],
            latency=_histogram(total),
            alerts=alerts,
            anomalies=ledger.anomalies,
            budgets=budgets,
            cache=self.cache(),
            agents=ledger.agents,
            models=ledger.models,
            left_out=ledger.summary.left_out,
            unreadable_lines=ledger.summary.unreadable_lines,
            problems=problems,
        )

    def budgets(self) -> list[Budget]:
        """How it stands with the limits of today. Raises `BudgetError`."""
        return [Budget(**limit.to_dict()) for limit in self._project.budgets.standing(datetime.now(UTC))]

    def cache(self) -> CacheFigures:
        """What the response cache has done, in all processes."""
        found = self._project.cache.get_stats()
        return msgspec.convert(found | {"size_bytes": round(found["size_mb"] * MB)}, CacheFigures)

    # ------------------------------------------------------------ runs

    def runs(self, query: RunsQuery) -> Runs:
        """The newest runs."""
        found = self.history.runs(workflow=query.workflow, limit=query.limit)
        return Runs(runs=[self.run_facts(run) for run in found])

    def run(self, query: RunQuery) -> RunView:
        """A run with its steps."""
        run = self.history.find(query.run)
        description, steps = self.steps(run)
        return RunView(run=self.run_facts(run), description=description, steps=steps)

    def run_facts(self, run: "RunRecord") -> RunFacts:
        """A run as it is shown."""
        return run_facts(run, is_here=run.id in self._here)

    def steps(self, run: "RunRecord") -> tuple[str, list[StepFacts]]:
        """What the run's workflow says of itself, and its steps."""
        workflow = self.history.workflow(run)
        under_way = self._here.get(run.id, ())
        is_running = run.status == "running"
        records = self.history.steps(run)
        return workflow.description, step_facts(workflow.steps, records, is_running=is_running, under_way=under_way)

    def step(self, query: StepQuery) -> StepView:
        """What a step answered, and what is different from the run before."""
        run = self.history.find(query.run)
        record = self.history.steps(run).get(query.step)
        answers, reason = dict[str, str](), None
        try:
            answers = self.history.answers(run, query.step)
        except RunNotFoundError as error:
            if query.step not in self.history.steps(run):
                raise
            reason = str(error)
        before = next((one for one in self._of_workflow(run) if one.started_at < run.started_at), None)
        changes: list[str] = []
        if before is not None:
            found = self.history.compare(self.history.find(before.id), run)
            changes = [change for difference in found if difference.step == query.step for change in difference.changes]
        return StepView(
            run_id=run.id,
            step=query.step,
            answers=answers,
            reason=reason,
            attempts=0 if record is None else record.attempts,
            compared_with=None if before is None else before.id,
            changes=changes,
        )

    def _of_workflow(self, run: "RunRecord") -> "list[RunRecord]":
        return self.history.runs(workflow=run.workflow, limit=500)

    # ------------------------------------------------------------ what there is

    def agents(self) -> Agents:
        """The agents that can be called, and the files that cannot be used."""
        library = agent_library(self._project.settings, start=self._project.start)
        found = [
            AgentFacts(
                name=agent.name,
                description=agent.description,
                model=agent.model,
                effort=agent.effort,
                source=agent.source,
                warnings=list(map(str, agent.warnings)),
            )
            for agent in library.load_all()
        ]
        problems = msgspec.convert(library.problems(), list[AgentProblem], from_attributes=True)
        return Agents(agents=found, problems=problems)

    def workflows(self) -> Workflows:
        """The workflows that can be run, and what is wrong with the others."""
        return Workflows(
            workflows=[
                WorkflowFacts(
                    name=found.name,
                    description=found.description,
                    inputs=msgspec.convert(
                        found.plan.workflow.inputs if found.plan else {}, dict[str, InputFacts], from_attributes=True
                    ),
                    steps=[
                        StepOutline(id=step.id, agent=step.agent, depends_on=step.dependencies)
                        for step in (found.plan.steps if found.plan else {}).values()
                    ],
                    problems=list(found.problems),
                )
                for found in survey(self._project)
            ]
        )


class _Ledger(msgspec.Struct, kw_only=True):
    """What the ledger says."""

    summary: Summary = msgspec.field(default_factory=lambda: Summary(total=Figures(), agents={}, models={}))
    days: dict[str, Costs] = {}
    today: Costs = msgspec.field(default_factory=Costs)
    trends: Trends = msgspec.field(default_factory=lambda: Trends(interval="daily", intervals={}))
    anomalies: list[Finding] = []
    agents: list[str] = []
    models: list[str] = []


def _read_ledger(path: Path, query: OverviewQuery, now: datetime) -> _Ledger:
    within = None if query.days is msgspec.UNSET else query.days
    chosen = Selection(since=since(within), agent=query.agent, model=query.model, simulated=query.simulated)
    summary, everything = read_summary(path, chosen), Selection(simulated=query.simulated)
    names = summary if chosen == everything else read_summary(path, everything)
    lately = msgspec.structs.replace(chosen, since=max(chosen.since or now - LATELY, now - LATELY))
    days = read_costs(path, chosen, by="day").groups
    latest = days
    if chosen.since is not None:  # which may be later than midnight
        two_days = msgspec.structs.replace(chosen, since=now - timedelta(days=2))
        latest = read_costs(path, two_days, by="day").groups
    interval: Literal["hourly", "daily"] = "daily" if within is None or within > MOST_HOURLY_DAYS else "hourly"
    return _Ledger(
        summary=summary,
        days=days,
        today=latest.get(_today(now), Costs()),
        trends=read_trends(path, chosen, interval=interval, until=now, days=within),
        anomalies=read_anomalies(path, lately).findings[:MOST_ANOMALIES],
        agents=sorted(names.agents),
        models=sorted(names.models),
    )


def _today(now: datetime) -> str:
    return now.astimezone().date().isoformat()


def _histogram(figures: Figures) -> list[Bin]:
    below = [figures.times_ms.count_up_to(bound) for bound in BOUNDS_MS]
    counts = [number - before for number, before in zip(below, [0, *below], strict=False)]
    bins = [Bin(up_to_ms=bound, executions=count) for bound, count in zip(BOUNDS_MS, counts, strict=True)]
    return [*bins, Bin(up_to_ms=None, executions=figures.times_ms.count - below[-1])]
