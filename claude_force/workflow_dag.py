"""Workflows from Python: `WorkflowDAG`, which reads, runs and watches one, and `WorkflowStep`.

How steps are scheduled, told and kept is in the room `workflows`.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any, Literal, Unpack

from claude_force.async_orchestrator import cancelled
from claude_force.orchestrator import AgentOrchestrator
from claude_force.workflows.definition import WorkflowStep

if TYPE_CHECKING:
    from claude_force.async_orchestrator import AsyncAgentOrchestrator
    from claude_force.base.results import WorkflowResult
    from claude_force.orchestrator import WorkflowOptions
    from claude_force.workflows.events import RunEvent
    from claude_force.workflows.run import Run

__all__ = ["WorkflowDAG", "WorkflowStep"]


class WorkflowDAG:
    """Runs workflows as graphs: a step starts the moment its own dependencies are done.

    Takes either face of an orchestrator and shares its config, cache, ledger and limits.

    Example:
        >>> import asyncio, claude_force
        >>> workflow = {
        ...     "name": "tell-me",
        ...     "steps": [
        ...         {"id": "lists", "agent": "python-expert", "task": "What is a list?"},
        ...         {"id": "tuples", "agent": "python-expert", "task": "What is a tuple?"},
        ...         {"id": "both", "agent": "docs-writer", "task": "Sum up.", "dependencies": ["lists", "tuples"]},
        ...     ],
        ... }
        >>> dag = WorkflowDAG(claude_force.AgentOrchestrator(offline=True))
        >>> result = asyncio.run(dag.execute_workflow(workflow))
        >>> result.status, result["execution_order"][-1]
        ('completed', 'both')
    """

    def __init__(self, orchestrator: "AgentOrchestrator | AsyncAgentOrchestrator") -> None:
        self._face = orchestrator.async_face if isinstance(orchestrator, AgentOrchestrator) else orchestrator
        self._run: Run | None = None

    def build_dag(self, workflow: str | Mapping[str, Any]) -> dict[str, WorkflowStep]:
        """The steps by id, checked. Raises one `WorkflowError`, which is a `ValueError`, with every fault.

        A circle is written out: `a -> b -> c -> a`.
        """
        return self._face.workflow_plan(workflow).steps

    def get_ready_steps(self, steps: Mapping[str, WorkflowStep]) -> list[WorkflowStep]:
        """The steps that may start now: not `completed`, and enough of their dependencies are."""
        return [
            step
            for step in steps.values()
            if not step.completed and sum(steps[name].completed for name in step.dependencies) >= step.needed
        ]

    async def execute_workflow(
        self,
        workflow: str | Mapping[str, Any] | None,
        inputs: Mapping[str, Any] | None = None,
        *,
        on_error: Literal["raise", "return"] = "raise",
        **options: Unpack["WorkflowOptions"],
    ) -> "WorkflowResult":
        """Same as `AsyncAgentOrchestrator.execute_workflow`; `stop` may end it early."""
        self._run = self._face.workflow_run(workflow, inputs, **options)
        return await self._run.outcome(on_error=on_error)

    async def stream(
        self,
        workflow: str | Mapping[str, Any] | None,
        inputs: Mapping[str, Any] | None = None,
        *,
        with_text: bool = True,
        **options: Unpack["WorkflowOptions"],
    ) -> AsyncGenerator["RunEvent"]:
        """What happens in the run, as it happens; the last event, `run_ended`, has the result, failed or not.

        `with_text` tells each piece of every answer. Leaving the loop early cancels the run.
        """
        told = options.get("on_event")
        events: asyncio.Queue[RunEvent | None] = asyncio.Queue()

        def tell(event: "RunEvent") -> None:
            if told is not None:
                told(event)
            events.put_nowait(event)

        options["on_event"] = tell
        self._run = self._face.workflow_run(workflow, inputs, with_text=with_text, **options)
        running = asyncio.create_task(self._run.execute())
        running.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            await running  # a defect of ours is raised here
        finally:
            await cancelled(running)

    def stop(self) -> None:
        """Start nothing more in the run under way; what is in flight comes to its end and is kept."""
        if self._run is not None:
            self._run.stop()
