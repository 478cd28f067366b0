"""One turn: one agent does one task. Written once, for both faces.

find the agent -> build the request -> share it with whoever asks the same -> send, with retries under one deadline
(`attempts`) -> read the answer -> price -> ledger.

Nothing here waits, reads a clock or opens a file by itself: it asks its `Outside` and its `Parts`.
"""

import copy
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from claude_force.base.errors import ClaudeForceError
from claude_force.base.records import WHOLE_STOP_REASONS, AgentResult, Execution, Usage
from claude_force.engine.answer import read_answer
from claude_force.engine.attempts import ask_models, deadline
from claude_force.engine.key import request_key
from claude_force.engine.parts import Parts, Turn, Watch
from claude_force.engine.request import Task, build_request

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from claude_force.base.records import Reply, Request
    from claude_force.engine.flight import Seat
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
        text, reply = await _share(turn, (prepared.request, *prepared.fallbacks))
        turn.failure = None if reply.stop_reason in WHOLE_STOP_REASONS else "CutAnswer"
    except Exception as error:  # ours, or of whoever watches
        turn.failure = type(error).__name__
        raise
    finally:
        execution = await outside.finish(enter)
    return AgentResult(
        text,
        agent_name=agent.name,
        model=reply.model,
        usage=execution.usage,
        cost_usd=execution.cost_usd,
        cached=execution.cached,
        cache_age_seconds=0.0 if execution.cached else None,
        stop_reason=reply.stop_reason,
        request_id=reply.request_id,
        duration_ms=execution.duration_ms,
        attempts=turn.attempts,
        simulated=reply.simulated,
        warnings=tuple(turn.warnings),
    )


async def _share(turn: Turn, requests: "Sequence[Request]") -> "tuple[str, Reply]":
    """The answer: asked for, or waited for where another turn is already asking exactly the same."""
    key = "/".join(request_key(request, server=turn.parts.server) for request in requests)
    flights = turn.parts.traffic.flights
    seat = flights.board(key, is_blocking=turn.outside.is_blocking)
    outcome: Reply | ClaudeForceError | None = None
    try:
        if not seat.leads:
            await turn.outside.wait(seat.called, timeout_s=max(turn.left_s, 0.0))
            if seat.outcome is None and turn.left_s <= 0:
                raise deadline(turn)
        if seat.leads:
            text = await ask_models(turn, requests)
            outcome = reply = turn.replies[-1]
            return text, reply
    except ClaudeForceError as error:
        outcome = error if error.is_terminal else None
        raise
    finally:
        flights.leave(seat, outcome)
    return _shared(turn, seat)


def _shared(turn: Turn, seat: "Seat") -> "tuple[str, Reply]":
    """What the leader got for all."""
    reply = seat.outcome
    if reply is None or isinstance(reply, ClaudeForceError):
        raise copy.copy(reply) if reply else deadline(turn)  # a copy, because a raised error collects tracebacks
    turn.shared = reply
    if turn.watch.on_text:
        turn.watch.on_text(reply.text)
    return read_answer(reply, agent=turn.task.agent_name), reply


def _execution(turn: Turn, model: str, timestamp: "datetime") -> Execution:
    """The turn as the ledger keeps it: the tokens and the price of *all* its attempts."""
    prices, replies, last = turn.parts.prices, turn.replies, turn.last
    usages = [reply.usage for reply in replies]
    costs = [prices.cost_usd(reply.model, reply.usage, timestamp, asked_as=model) for reply in replies]
    if turn.shared is not None:
        usages, costs = [*usages, Usage()], [*costs, Decimal(0)]
    return Execution(
        timestamp=timestamp,
        agent_name=turn.task.agent_name,
        task=turn.task.text,
        model=last.model if last else model,
        success=turn.failure is None,
        duration_ms=turn.elapsed_s * 1000,
        attempts=turn.attempts,
        usage=None if turn.has_unknown_cost else _total(usages, Usage()),
        cost_usd=None if turn.has_unknown_cost else _total(costs, Decimal(0)),
        stop_reason=last.stop_reason if last else None,
        request_id=last.request_id if last else None,
        error_type=turn.failure,
        simulated=bool(last and last.simulated),
        cached=turn.shared is not None,
        workflow_id=turn.task.workflow_id,
    )


def _total(parts: "Sequence[Amount | None]", zero: "Amount") -> "Amount | None":
    """The sum; `None` if there is nothing to add, or one part is not known."""
    known = [part for part in parts if part is not None]
    return sum(known, zero) if known and len(known) == len(parts) else None
