"""A workflow from the shell, from its inputs to its exit code: what is printed, and what Ctrl-C means.

stdout gets results only: the answers of the last steps, or JSON. Ctrl-C, SIGTERM or SIGHUP once starts nothing more and
lets what is in flight come to its end; twice cancels that, too. Either way the journal has what was paid for. With
`--batch`, once is enough: what is in flight is the server's, which goes on with it for whoever takes the run up.
"""

import asyncio
import json
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

import click

from claude_force.apps.console import (
    harmless,
    is_terminal,
    note,
    price,
    print_answers,
    print_json,
    say,
    say_caching,
    say_choice,
    say_savings,
)
from claude_force.apps.inputs import piped_input, typed_inputs
from claude_force.apps.progress import shown
from claude_force.async_orchestrator import AsyncAgentOrchestrator
from claude_force.base.errors import InputError
from claude_force.orchestrator import Project, WorkflowOptions

if TYPE_CHECKING:
    from claude_force.base.results import WorkflowResult
    from claude_force.workflows.events import OnEvent, RunEvent
    from claude_force.workflows.plan import Plan
    from claude_force.workflows.run import Run

Format = Literal["text", "json", "stream-json"]

# More steps than these in one line are no order that anybody reads.
MOST_IN_ORDER = 50
# Nor are more models than these read before a run; its result has all.
MOST_CHOICES = 20
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class _Ending:
    """What became of a run, as far as is known."""

    run: "Run"
    result: "WorkflowResult | None" = None
    """Once it has ended; a run that was cancelled has one, too."""
    stopped_by: signal.Signals | None = None
    """That by which it was stopped."""
    error: OSError | None = None
    """Why nobody could be told of it any more."""

    @property
    def exit_code(self) -> int:
        """That of the result, or of the signal that kept it from its end."""
        code = self.result.exit_code if self.result else 1
        return 128 + self.stopped_by if code and self.stopped_by else code


def run_workflow(
    project: Project,
    name: str | None,
    *,
    inputs: Sequence[str],
    options: WorkflowOptions,
    max_concurrent: int | None,
    config_path: str | None,
    offline: bool,
    output: Format,
    tells_why: bool,
) -> int:
    """Run it and print what came of it; gives the exit code. What is wrong before anything is sent is raised."""
    if sys.stdout is None:
        raise InputError("standard output is closed, so the answers would be lost; redirect it to a file")
    given = typed_inputs(inputs)
    if name is not None and "resume" not in options:
        given |= piped_input(project, name, given)
    orchestrator = AsyncAgentOrchestrator.of(project, max_concurrent=max_concurrent)
    ending = asyncio.run(_run(orchestrator, name, given, options, output))
    result = ending.result
    if result is None:  # only a defect of ours, which was raised, leaves none
        return ending.exit_code
    if output == "json":
        print_json(result.to_dict() | {"exit_code": ending.exit_code})
    elif output == "text" and result.status == "completed":
        _print_answers(ending.run.plan, result)
    go_on = [
        *("claude-force", "run-workflow", name or result.workflow_name, "--resume", result.run_id),
        *(("--config", config_path) if config_path else ()),
        *(("--offline",) if offline else ()),
        *(("--no-cache",) if options.get("use_cache") is False else ()),
        *(("--max-usd", str(limit_usd)) if (limit_usd := options.get("max_cost_usd")) else ()),
        *(("--batch",) if options.get("batch") else ()),
        *(("--live-fallback",) if options.get("live_fallback") else ()),
        *(("--engine", "durable") if options.get("engine") == "durable" else ()),
    ]
    _say_end(result, shlex.join(go_on) if ending.run.is_kept else None)
    if tells_why:
        _say_why(result)
    if ending.error is not None:
        raise ending.error
    return ending.exit_code


# ---------------------------------------------------------------- the run


async def _run(
    orchestrator: AsyncAgentOrchestrator,
    name: str | None,
    inputs: dict[str, Any],
    options: WorkflowOptions,
    output: Format,
) -> _Ending:
    watchers: list[OnEvent] = []

    def tell(event: "RunEvent") -> None:
        for watcher in watchers:
            watcher(event)

    options["on_event"] = tell
    run = orchestrator.workflow_run(name, inputs, with_text=output == "stream-json", **options)
    for step in list(run.choices)[:MOST_CHOICES]:
        say_choice(run.choices[step], of=step)
    ending = _Ending(run)
    stream = _Stream(run.stop)
    running = asyncio.create_task(run.execute())

    def keep(event: "RunEvent") -> None:
        ending.result = event.run or ending.result

    is_streamed = output == "stream-json"
    with (
        _stoppable(run, running, ending, is_batch=options.get("batch", False)),
        shown(run.plan, is_alone=not (is_streamed and is_terminal(sys.stdout))) as show,
    ):
        watchers += [keep, stream.write, show] if is_streamed else [keep, show]
        async with orchestrator:
            with suppress(asyncio.CancelledError):
                await running
    ending.error = stream.error
    return ending


@contextmanager
def _stoppable(run: "Run", running: asyncio.Task[Any], ending: _Ending, *, is_batch: bool) -> Iterator[None]:
    """Stop the run at the first signal that asks for it, and cancel it at the second; a third ends us as always.

    A message batch may take hours to come to its end, and is not lost: nobody waits for it at the first one.
    """
    loop = asyncio.get_running_loop()

    def stop() -> None:
        run.stop()
        if is_batch:
            running.cancel()
            note("a batch that was sent goes on at the server; the run finds it when it is taken up with --batch")
            return
        note("stopping: nothing more starts, what is in flight comes to its end and is kept")
        note("press Ctrl-C again to stop at once")

    def catch(number: int, _: FrameType | None) -> None:
        if ending.stopped_by is None:
            ending.stopped_by = signal.Signals(number)
            loop.call_soon_threadsafe(stop)
        else:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            loop.call_soon_threadsafe(running.cancel)

    caught = [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, catch) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Stream:
    """Each event as a line of JSON. A reader that leaves stops the run, as Ctrl-C does: what is paid for is kept."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self.error: OSError | None = None
        self._stop = stop

    def write(self, event: "RunEvent") -> None:
        """Write one down, and have it read at once."""
        if self.error is None:
            try:
                click.echo(json.dumps(event.to_dict(), default=str))
            except OSError as error:
                self.error = error
                self._stop()


# ---------------------------------------------------------------- what is printed


def _print_answers(plan: "Plan", result: "WorkflowResult") -> None:
    """The answers of the steps that nothing depends on: they are what the workflow was run for."""
    answers = result.results
    print_answers({step: answers[step] for step in plan.order if not plan.dependents[step] and step in answers})


def _say_end(result: "WorkflowResult", go_on: str | None) -> None:
    """How it ended; `go_on` is the command that takes it up, where that can be."""
    if result.simulated:
        note("simulated: no model was asked, nothing was paid")
    is_done = result.status == "completed"
    if result.error is not None:
        note(f"{type(result.error).__name__}: {result.error}", kind="error")
    for step in result.steps.values():
        if not step.has_answer:
            kind = "note" if step.status == "skipped" else "warning"
            note(f"no answer from {step.id!r} ({step.status.replace('_', ' ')}): {step.reason}", kind=kind)
    if result.execution_order:
        say(harmless(f"Execution order: {_order(result.execution_order)}"))
    say_caching(result.prompt_caching)
    say_savings(result.savings, is_simulated=result.simulated)
    costs = f"{'would cost ' if result.simulated and result.cost_usd is not None else ''}{price(result.cost_usd)}"
    say(f"{'Completed in' if is_done else 'Ended after'} {result.total_time_seconds:.2f}s, {costs}")
    if not is_done:
        further = f"its answers are kept; to go on: {go_on}" if go_on else "it is not written down, as is said above"
        note(f"the run is {result.status}; {further}")


def _order(steps: Sequence[str]) -> str:
    more = len(steps) - MOST_IN_ORDER
    return " -> ".join(steps[:MOST_IN_ORDER]) + (f" -> ... and {more:,} more" if more > 0 else "")


def _say_why(result: "WorkflowResult") -> None:
    """Why each step was done, or did not have to be."""
    for step in result.steps.values():
        why = step.why if step.has_answer else step.reason
        note(f"{step.id}: {why}", kind=step.status.replace("_", " "))
    reused = len(result.cached_steps)
    note(f"{reused} of {len(result.steps)} steps reused{_saved(result)}")


def _saved(result: "WorkflowResult") -> str:
    return f", {price(result.saved_usd)} saved" if result.saved_usd else ""
