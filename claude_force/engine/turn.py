"""One turn: one agent does one task. Written once, for both faces.

find the agent -> build the request -> take its answer from where it was paid for, or ask (`sharing`, `attempts`) ->
price -> ledger.

Nothing here waits, reads a clock or opens a file by itself: it asks its `Outside` and its `Parts`.
"""

from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from claude_force.base.records import WHOLE_STOP_REASONS, AgentResult, Execution, Usage
from claude_force.engine.parts import Parts, Turn, Watch
from claude_force.engine.request import Task, build_request
from claude_force.engine.sharing import answer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from claude_force.engine.outside import Outside

Amount = TypeVar("Amount", Usage, Decimal)


async def run_turn(outside: "Outside", parts: Parts, task: Task, watch: Watch) -> AgentResult:
    """The agent's answer. Raises the `ClaudeForceError` family; whatever was sent is in the ledger, failed or not."""
    agent = parts.agents.recall(task.agent_name)
    if agent is None:
        agent = await outside.call(lambda: parts.agents.find(task.agent_name))
    prepared = build_request(task, agent, parts.config, parts.aliases)
    timeout_s = parts.config.defaults.timeout_seconds if task.timeout_s is None else task.timeout_s
    started_s, timestamp = parts.clock.monotonic(), parts.clock.now()
    turn = Turn(outside=outside, parts=parts, task=task, watch=watch, timeout_s=timeout_s, started_s=started_s)
    for warning in prepared.warnings:
        turn.warn(warning)

    def enter() -> Execution:
        execution = _execution(turn, prepared.request.model, timestamp)
        parts.ledger.record(execution)
        return execution

    try:
        text, reply = await answer(turn, (prepared.request, *prepared.fallbacks))
        turn.failure = None if reply.stop_reason in WHOLE_STOP_REASONS else "CutAnswer"
    except Exception as error:  # ours, or of whoever watches
        turn.failure = type(error).__name__
        raise
    finally:
        if turn.kept is None:
            execution = await outside.finish(enter)
        else:  # nothing was paid, so nobody has to wait until it is written down
            execution = _execution(turn, prepared.request.model, timestamp)
            outside.later(lambda: parts.ledger.record(execution))
    return AgentResult(
        text,
        agent_name=agent.name,
        model=reply.model,
        usage=execution.usage,
        cost_usd=execution.cost_usd,
        cached=execution.cached,
        cache_age_seconds=execution.cache_age_s,
        saved_usd=execution.saved_usd,
        stop_reason=reply.stop_reason,
        request_id=reply.request_id,
        duration_ms=execution.duration_ms,
        attempts=turn.attempts,
        simulated=reply.simulated,
        warnings=tuple(turn.warnings),
    )


def _execution(turn: Turn, model: str, timestamp: "datetime") -> Execution:
    """The turn as the ledger keeps it: the tokens and the price of *all* its attempts."""
    kept, last = turn.kept, turn.last
    usage, cost_usd = _paid(turn, timestamp)
    return Execution(
        timestamp=timestamp,
        agent_name=turn.task.agent_name,
        task=turn.task.text,
        model=last.model if last else model,
        success=turn.failure is None,
        duration_ms=turn.elapsed_s * 1000,
        attempts=turn.attempts,
        usage=usage,
        cost_usd=cost_usd,
        stop_reason=last.stop_reason if last else None,
        request_id=last.request_id if last else None,
        error_type=turn.failure,
        simulated=bool(last and last.simulated),
        cached=kept is not None,
        cache_age_s=kept.age_s if kept else None,
        saved_usd=kept.cost_usd if kept else None,
        workflow_id=turn.task.workflow_id,
    )


def _paid(turn: Turn, timestamp: "datetime") -> tuple[Usage | None, Decimal | None]:
    """Tokens and price of all that was sent; `None` is not known."""
    if turn.has_unknown_cost:
        return None, None
    if turn.kept and not turn.replies:
        return Usage(), Decimal(0)
    usages = [reply.usage for reply in turn.replies]
    cost_usd = turn.parts.prices.cost_usd
    asked = zip(turn.replies, turn.asked, strict=False)  # a Ctrl-C may have come between the two
    costs = [cost_usd(reply.model, reply.usage, timestamp, asked_as=request.model) for reply, request in asked]
    return _total(usages, Usage()), _total(costs, Decimal(0))


def _total(parts: "Sequence[Amount | None]", zero: "Amount") -> "Amount | None":
    """The sum; `None` if there is nothing to add, or one part is not known."""
    known = [part for part in parts if part is not None]
    return sum(known, zero) if known and len(known) == len(parts) else None
