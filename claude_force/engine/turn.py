"""One turn: one agent does one task. Written once, for both faces.

find the agent -> choose a model, where nobody names one -> build the request, with past work where that is wanted ->
take its answer from where it was paid for, or ask (`sharing`, `attempts`) -> price -> ledger.

Nothing here waits, reads a clock or opens a file by itself: it asks its `Outside` and its `Parts`.
"""

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from claude_force.base.records import AgentResult
from claude_force.engine import books
from claude_force.engine.output import read_data
from claude_force.engine.parts import Parts, Turn, Watch, WatcherError
from claude_force.engine.remembering import memory_of, remembering
from claude_force.engine.request import Task, build_request, named_model
from claude_force.engine.sharing import answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from claude_force.base.records import AgentDefinition, Execution, ModelRecommendation
    from claude_force.engine.outside import Outside
    from claude_force.engine.request import Prepared

    Do = Callable[[Outside, Parts, Task, Prepared, Watch], Awaitable[AgentResult]]


async def run_turn(
    outside: "Outside", parts: Parts, task: Task, watch: Watch, *, do: "Do | None" = None
) -> AgentResult:
    """The agent's answer. Raises the `ClaudeForceError` family; whatever was sent is in the ledger, failed or not.

    `do` does it once the request is known; by default it is done here.
    """
    do = do or run_prepared
    agent = parts.agents.recall(task.agent_name)
    if agent is None:
        agent = await outside.call(lambda: parts.agents.find(task.agent_name))
    if choose := choice_of(parts, task, agent):
        task = msgspec.structs.replace(task, choice=await outside.call(choose))
    prepared = build_request(task, agent, parts.config, parts.aliases)
    memory = memory_of(parts, task)
    if memory is None:
        return await do(outside, parts, task, prepared, watch)
    return await remembering(
        outside,
        parts,
        memory,
        (task, prepared),
        prepare=lambda recalling: build_request(recalling, agent, parts.config, parts.aliases),
        run=lambda recalling, ready: do(outside, parts, recalling, ready, watch),
    )


def choice_of(parts: Parts, task: Task, agent: "AgentDefinition") -> "Callable[[], ModelRecommendation] | None":
    """What chooses the model of this task; `None` where somebody names it, or nobody chooses."""
    if parts.choose is None or task.choice is not None or named_model(task, agent) is not None:
        return None
    return partial(parts.choose, task, agent)


async def run_prepared(outside: "Outside", parts: Parts, task: Task, prepared: "Prepared", watch: Watch) -> AgentResult:
    """As `run_turn`, from where the request is known."""
    now = parts.clock.now()
    begun_at = task.begun_at or now
    turn = Turn(
        outside=outside,
        parts=parts,
        spans=parts.find_spans(),
        task=task,
        watch=watch.guarded(),
        model=prepared.request.model,
        unrouted_model=prepared.unrouted_model,
        inference_geo=prepared.inference_geo,
        output_schema=prepared.request.output_schema,
        timeout_s=parts.config.defaults.timeout_seconds if task.timeout_s is None else task.timeout_s,
        started_s=parts.clock.monotonic() - max((now - begun_at).total_seconds(), 0.0),
        timestamp=begun_at,
    )
    ids = {"workflow": task.workflow_id, "run_id": task.run_id, "step_id": task.step_id}
    with turn.spans.span("turn", task.agent_name, **ids) as span:
        try:
            for warning in prepared.warnings:
                turn.warn(warning)
            text = await answer(turn, (prepared.request, *prepared.fallbacks))
            books.close(turn)
        except WatcherError as error:
            turn.failure = type(error.error).__name__
            raise error.error from error.error.__cause__
        except Exception as error:
            turn.failure = type(error).__name__
            raise
        finally:
            if turn.execution is not None:
                execution = turn.execution
            elif turn.kept is None:
                execution = await outside.finish(partial(books.enter, turn))
            else:  # nothing was paid, so nobody has to wait until it is written down
                execution = books.execution_of(turn)
                outside.later(partial(parts.ledger.record, execution))
            span.tell(execution)
    return result_of(text, execution, prepared, tuple(turn.warnings))


def result_of(text: str, execution: "Execution", prepared: "Prepared", warnings: tuple[str, ...]) -> AgentResult:
    """The answer, with what the ledger has of its turn, wherever that was made."""
    return AgentResult(
        text,
        agent_name=execution.agent_name,
        model=execution.model or prepared.request.model,
        usage=execution.usage,
        cost_usd=execution.cost_usd,
        cached=execution.cached,
        cache_age_seconds=execution.cache_age_s,
        saved_usd=execution.saved_usd,
        savings=execution.savings,
        prompt_caching=execution.prompt_caching,
        stop_reason=execution.stop_reason,
        request_id=execution.request_id,
        endpoint=execution.endpoint,
        region=execution.region,
        duration_ms=execution.duration_ms,
        ttft_ms=execution.ttft_ms,
        attempts=execution.attempts,
        simulated=execution.simulated,
        warnings=warnings,
        data=None if prepared.request.output_schema is None else read_data(text),
        choice=prepared.choice,
        skills=prepared.skills,
    )
