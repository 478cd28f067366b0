"""One turn: one agent does one task. Written once, for both faces.

find the agent -> build the request -> send, with retries under one deadline -> read the answer -> price -> ledger.

Nothing here waits, reads a clock or opens a file by itself: it asks its `Outside` and its `Parts`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from claude_force.base.errors import AnswerError, ApiError, ClaudeForceError, DeadlineError
from claude_force.base.records import WHOLE_STOP_REASONS, AgentResult, Execution, Retry, Usage
from claude_force.engine.answer import read_answer
from claude_force.engine.request import Task, build_request
from claude_force.engine.retry import is_passing, wait_s

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from claude_force.base.clock import Clock
    from claude_force.base.config import Config
    from claude_force.base.ports import AgentFinder, Ledger, OnRetry, OnText, Pricer
    from claude_force.base.records import Reply, Request
    from claude_force.engine.outside import Outside

Amount = TypeVar("Amount", Usage, Decimal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a turn works with; `orchestrator.assemble` makes one and both faces share it."""

    agents: "AgentFinder"
    prices: "Pricer"
    ledger: "Ledger"
    clock: "Clock"
    config: "Config"
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Watch:
    """Who looks on while a turn happens."""

    on_text: "OnText | None" = None
    """Gets the text as it arrives. After an `on_retry`, the answer starts again from its beginning."""
    on_retry: "OnRetry | None" = None
    on_warning: "OnText | None" = None
    """Gets each warning before anything is sent."""


@dataclass(slots=True)
class _Progress:
    """How far a turn has come: what the ledger needs even if it goes no further."""

    replies: list["Reply"] = field(default_factory=list)
    has_unknown_cost: bool = False
    """An attempt failed after its answer had begun: it is billed, and nobody said how much."""
    attempts: int = 0
    failure: str | None = "Interrupted"
    """Until something else is known; a Ctrl-C or a cancellation leaves it so."""


async def run_turn(outside: "Outside", parts: Parts, task: Task, watch: Watch) -> AgentResult:
    """The agent's answer. Raises the `ClaudeForceError` family; whatever was sent is in the ledger, failed or not."""
    agent = await outside.call(lambda: parts.agents.find(task.agent_name))
    prepared = build_request(task, agent, parts.config, parts.aliases)
    if watch.on_warning:
        for warning in prepared.warnings:
            watch.on_warning(warning)
    progress, timestamp, started = _Progress(), parts.clock.now(), parts.clock.monotonic()

    def enter() -> Execution:
        execution = _execution(parts, task, prepared.request.model, progress, timestamp, started)
        parts.ledger.record(execution)
        return execution

    try:
        text = await _ask(outside, parts, task, prepared.request, watch, progress)
        progress.failure = None if progress.replies[-1].stop_reason in WHOLE_STOP_REASONS else "CutAnswer"
    except Exception as error:  # ours, or of whoever watches
        progress.failure = type(error).__name__
        raise
    finally:
        execution = await outside.call(enter)
    reply = progress.replies[-1]
    return AgentResult(
        text,
        agent_name=agent.name,
        model=reply.model,
        usage=execution.usage,
        cost_usd=execution.cost_usd,
        stop_reason=reply.stop_reason,
        request_id=reply.request_id,
        duration_ms=execution.duration_ms,
        attempts=progress.attempts,
        simulated=reply.simulated,
        warnings=prepared.warnings,
    )


async def _ask(
    outside: "Outside", parts: Parts, task: Task, request: "Request", watch: Watch, progress: _Progress
) -> str:
    """Send until there is an answer, the error is final, or the time is over."""
    defaults, monotonic = parts.config.defaults, parts.clock.monotonic
    timeout_s = defaults.timeout_seconds if task.timeout_s is None else task.timeout_s
    started = monotonic()
    while True:
        progress.attempts += 1
        try:
            left_s = max(timeout_s - (monotonic() - started), 0.001)  # a sleep may have ended late; 0 would mean "none"
            reply = await outside.send(request, timeout_s=left_s, on_text=watch.on_text)
            progress.replies.append(reply)
            return read_answer(reply, agent=task.agent_name)
        except (ApiError, AnswerError) as error:
            progress.has_unknown_cost |= isinstance(error, ApiError) and error.has_begun
            left_s = timeout_s - (monotonic() - started)
            wait = wait_s(
                error,
                attempt=progress.attempts,
                max_retries=defaults.max_retries,
                left_s=left_s,
                roll=parts.clock.roll(),
            )
            if wait is None:
                error.attempts = progress.attempts
                if left_s <= 0 and is_passing(error):  # what no time would have mended is told as it is
                    raise _deadline(task, timeout_s, timeout_s - left_s, progress.attempts, error) from error
                raise
            if watch.on_retry:
                watch.on_retry(
                    Retry(attempt=progress.attempts, max_attempts=defaults.max_retries + 1, wait_s=wait, error=error)
                )
        await outside.pause(wait)


def _deadline(task: Task, timeout_s: float, elapsed_s: float, attempts: int, last: ClaudeForceError) -> DeadlineError:
    tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    return DeadlineError(
        f"no answer for {task.agent_name!r} within {timeout_s:g} s ({tries}; the last: {last.args[0]});"
        " raise the timeout or try later",
        timeout_s=timeout_s,
        elapsed_s=elapsed_s,
        attempts=attempts,
        last_error=last,
        exit_code=last.exit_code,
    )


def _execution(
    parts: Parts, task: Task, model: str, progress: _Progress, timestamp: "datetime", started: float
) -> Execution:
    """The turn as the ledger keeps it: the tokens and the price of *all* its attempts."""
    usages = [reply.usage for reply in progress.replies]
    costs = [parts.prices.cost_usd(reply.model, reply.usage, timestamp, asked_as=model) for reply in progress.replies]
    last = progress.replies[-1] if progress.replies else None
    return Execution(
        timestamp=timestamp,
        agent_name=task.agent_name,
        task=task.text,
        model=last.model if last else model,
        success=progress.failure is None,
        duration_ms=(parts.clock.monotonic() - started) * 1000,
        attempts=progress.attempts,
        usage=None if progress.has_unknown_cost else _total(usages, Usage()),
        cost_usd=None if progress.has_unknown_cost else _total(costs, Decimal(0)),
        stop_reason=last.stop_reason if last else None,
        request_id=last.request_id if last else None,
        error_type=progress.failure,
        simulated=bool(last and last.simulated),
        workflow_id=task.workflow_id,
    )


def _total(parts: "Sequence[Amount | None]", zero: "Amount") -> "Amount | None":
    """The sum; `None` if there is nothing to add, or one part is not known."""
    known = [part for part in parts if part is not None]
    return sum(known, zero) if known and len(known) == len(parts) else None
