"""Until there is an answer: attempts under one deadline, each past the model's circuit breaker and its limits."""

import math
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from claude_force.base.errors import (
    AnswerError,
    ApiError,
    CircuitOpenError,
    ClaudeForceError,
    DeadlineError,
    ModelNotFoundError,
    OverloadedError,
    RateLimitError,
    ServerError,
)
from claude_force.base.records import Retry
from claude_force.engine.answer import read_answer
from claude_force.engine.fan_out import take_place
from claude_force.engine.retry import is_passing, wait_s
from claude_force.engine.spending import LEASE_MARGIN_S, cost_usd, is_known, staked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from claude_force.base.records import Caching, Reply, Request
    from claude_force.engine.breaker import Permit
    from claude_force.engine.limits import Ticket
    from claude_force.engine.parts import Turn
    from claude_force.engine.traffic import Gate

T = TypeVar("T")


async def ask_models(turn: "Turn", requests: "Sequence[Request]") -> str:
    """The answer of the first model that is there: the one that was chosen, then those to fall back to.

    A model is left for the next one only where it is overloaded or fails on its side: never for credentials, spent
    limits, rate limits or bad requests, which another model would not mend.
    """
    first: ClaudeForceError | None = None
    for request, following in zip(requests, [*requests[1:], None], strict=True):
        try:
            return await _ask(turn, request, waits_for_circuit=following is None)
        except (OverloadedError, ServerError, CircuitOpenError) as error:
            if following is None or turn.left_s <= 0:
                raise
            turn.warn(f"{request.model} is not available, so {following.model} is asked: {error.args[0]}")
            first = first or error
        except ModelNotFoundError as error:
            if first is None:
                raise
            turn.warn(f"the fallback model {request.model!r} is unknown: {error.args[0]}")
            raise first from error  # a misspelt fallback must not end the batch
    raise AssertionError("there is at least one request")


async def _ask(turn: "Turn", request: "Request", *, waits_for_circuit: bool) -> str:
    """Send until there is an answer, the error is final, or the time is over."""
    max_retries, roll = turn.parts.config.defaults.max_retries, turn.parts.clock.roll
    failures = 0
    while True:
        try:
            reply = await _attempt(turn, request)
            return read_answer(reply, agent=turn.task.agent_name, schema=turn.output_schema)
        except (ApiError, AnswerError) as error:
            is_open = isinstance(error, CircuitOpenError)
            failures += not is_open  # what was not even sent is no try
            left_s = turn.left_s
            wait = wait_s(error, attempt=failures, max_retries=max_retries, left_s=left_s, roll=roll())
            if wait is None or (is_open and not waits_for_circuit):
                error.attempts = turn.attempts
                if left_s <= 0 and is_passing(error):  # what no time would have mended is told as it is
                    raise deadline(turn, error) from error
                raise
            if turn.watch.on_retry:
                tried = failures + is_open
                turn.watch.on_retry(Retry(attempt=tried, max_attempts=max_retries + 1, wait_s=wait, error=error))
        await turn.outside.pause(wait)


async def _attempt(turn: "Turn", request: "Request") -> "Reply":
    """One request, once its place among those that share its beginning is known: see `fan_out`."""
    place = await take_place(turn, request)
    reply: Reply | None = None
    try:
        reply = await _sent(turn, request, place.caching if place else None)
    finally:
        if place:
            turn.shared_tokens += place.shared_tokens if reply is not None else 0
            turn.parts.traffic.warmth.leave(place, has_answer=reply is not None)
    return reply


async def _sent(turn: "Turn", request: "Request", caching: "Caching | None") -> "Reply":
    """One request, sent when breaker and limits let it. Both are told how it ended, however it ends."""
    gate = turn.parts.traffic.gate(request.model)
    stake = await staked(turn, request)
    ticket = gate.limits.join(request, is_blocking=turn.outside.is_blocking)
    permit: Permit | None = None
    outcome: Reply | ClaudeForceError | None = None
    is_sent = False
    try:
        permit = await _admitted(turn, gate, ticket)
        turn.attempts += 1
        timeout_s = _timeout_s(turn)
        with turn.spans.span("attempt", request.model, max_tokens=request.max_tokens, effort=request.effort) as span:
            is_sent = True
            outcome = await turn.outside.send(request, timeout_s=timeout_s, on_text=turn.watch.on_text, caching=caching)
            turn.asked.append(request)
            turn.replies.append(outcome)
            span.tell(outcome)
    except ClaudeForceError as error:
        outcome = error
        raise
    finally:
        await _asked(turn, gate, partial(gate.leave, ticket, permit, outcome))
        turn.has_unknown_cost |= is_sent and not is_known(outcome)
        if stake is not None:
            await turn.outside.finish(partial(stake.settle, cost_usd(turn, request, outcome, is_sent=is_sent)))
    return outcome


async def _admitted(turn: "Turn", gate: "Gate", ticket: "Ticket") -> "Permit":
    """Wait until the limits let this ticket go. A wait that would end after the deadline is not begun."""
    while True:
        lease_s = _timeout_s(turn) + LEASE_MARGIN_S if gate.is_shared else None
        wait = await _asked(turn, gate, partial(gate.admit, ticket, lease_s=lease_s))
        if not isinstance(wait, float):
            return wait
        left_s = turn.left_s
        if left_s <= 0 or left_s <= wait < math.inf:
            model = ticket.request.model
            raise RateLimitError(
                f"the rate limit of {model} leaves no room for this request in the time it has; raise the timeout, or"
                " ask for fewer at once",
                model=model,
                retry_after_s=wait,
            )
        with turn.spans.span("wait", "limits"):
            await turn.outside.wait(ticket.signal, timeout_s=min(wait, left_s))


async def _asked(turn: "Turn", gate: "Gate", question: "Callable[[], T]") -> "T":
    """What a gate says: at once, or to its end, so that who is cancelled meanwhile knows what was given."""
    return await turn.outside.finish(question) if gate.is_shared else question()


def _timeout_s(turn: "Turn") -> float:
    """For one attempt, from now on."""
    own_s = turn.task.attempt_timeout_s or turn.parts.config.defaults.attempt_timeout_seconds or math.inf
    return max(min(own_s, turn.left_s), 0.001)  # a sleep may have ended late; 0 would mean "none"


def deadline(turn: "Turn", last: ClaudeForceError | None = None) -> DeadlineError:
    """The error of a turn whose time is over."""
    tries = "1 attempt" if turn.attempts == 1 else f"{turn.attempts} attempts"
    why = f"the last: {last.args[0]}" if last else "it waited for the same request of another turn"
    return DeadlineError(
        f"no answer for {turn.task.agent_name!r} within {turn.timeout_s:g} s ({tries}; {why});"
        " raise the timeout or try later",
        timeout_s=turn.timeout_s,
        elapsed_s=turn.elapsed_s,
        attempts=turn.attempts,
        last_error=last,
        exit_code=last.exit_code if last else 1,
    )
