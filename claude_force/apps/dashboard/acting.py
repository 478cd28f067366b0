"""What this server does itself, where it may: turns, and runs of workflows. Budgets, cache and ledger are those of all.

Runs are told of as they go, by way of the `Feed`; what becomes of them is in the journal, where everybody reads it.
"""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from claude_force.apps.dashboard.shapes import Progress
from claude_force.async_orchestrator import AsyncAgentOrchestrator, cancelled
from claude_force.base.errors import WorkflowError
from claude_force.library.workflows import is_path

if TYPE_CHECKING:
    from claude_force.apps.dashboard.shapes import ExecuteTask, ResumeRun, StartRun
    from claude_force.apps.dashboard.stream import Feed
    from claude_force.base.records import AgentResult
    from claude_force.orchestrator import Project, WorkflowOptions
    from claude_force.workflows.events import RunEvent
    from claude_force.workflows.run import Run

MOST_TASKS = 100
"""Turns and runs at once; of these, as many are under way as the config says, and the others wait."""

T = TypeVar("T")


class Actor:
    """Does things for one server. Belongs to one event loop."""

    def __init__(self, project: "Project", feed: "Feed") -> None:
        self.under_way: dict[str, set[str]] = {}
        """For each run that is done here, the steps that are being done."""
        self._orchestrator = AsyncAgentOrchestrator.of(project)
        self._feed = feed
        self._tasks = set[asyncio.Task[Any]]()
        self._runs: dict[str, asyncio.Task[Any]] = {}

    @property
    def is_busy(self) -> bool:
        """Whether there is no room for more."""
        return len(self._tasks) >= MOST_TASKS

    async def execute(self, asked: "ExecuteTask") -> "AgentResult":
        """One turn. It goes on where its caller leaves: it is paid for, and the cache keeps it."""
        options = msgspec.structs.asdict(asked)
        agent, task = options.pop("agent"), options.pop("task")
        return await asyncio.shield(self._begun(self._orchestrator.execute_agent(agent, task, **options)))

    def start(self, asked: "StartRun") -> str:
        """A run of a workflow of the project, by name: its id."""
        if is_path(asked.workflow):  # or a caller could have any file of this machine read
            raise WorkflowError(f"{asked.workflow!r} is a path; give the name of a workflow", workflow=asked.workflow)
        options: WorkflowOptions = {
            "force": asked.force,
            "use_cache": asked.use_cache,
            "max_cost_usd": asked.max_cost_usd,
            "on_event": self._tell,
        }
        return self._run(self._orchestrator.workflow_run(asked.workflow, asked.inputs, **options))

    def resume(self, run_id: str, asked: "ResumeRun") -> None:
        """Go on with a run that is not under way here."""
        options: WorkflowOptions = {
            "resume": run_id,
            "force": asked.force,
            "max_cost_usd": asked.max_cost_usd,
            "on_event": self._tell,
        }
        self._run(self._orchestrator.workflow_run(None, **options))

    async def cancel(self, run_id: str) -> bool:
        """Cancel a run, with what it has in flight, and wait until it has ended; whether it was under way here."""
        if run_id not in self._runs:
            return False
        await cancelled(self._runs[run_id])
        return True

    def end(self) -> None:
        """Cancel everything; what was paid for is kept."""
        for task in self._tasks:
            task.cancel()

    async def aclose(self) -> None:
        """Wait until all has ended, and close connections."""
        await cancelled(*self._tasks)
        await self._orchestrator.aclose()

    def _run(self, run: "Run") -> str:
        run_id = run.run_id
        self.under_way[run_id] = set()
        task = self._runs[run_id] = self._begun(run.execute())
        task.add_done_callback(lambda _: self._forget(run_id))
        return run_id

    def _begun(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _forget(self, run_id: str) -> None:
        del self._runs[run_id], self.under_way[run_id]

    def _tell(self, event: "RunEvent") -> None:
        steps = self.under_way.get(event.run_id)
        if steps is not None and event.step is not None:
            if event.kind == "started":
                steps.add(event.step)
            elif event.kind == "ended":
                steps.discard(event.step)
        if event.kind in {"started", "retried", "warning", "batch"}:
            progress = Progress(
                run_id=event.run_id, kind=event.kind, at_s=round(event.at_s, 3), step=event.step, text=event.text
            )
            self._feed.publish("progress", progress, run=event.run_id)
