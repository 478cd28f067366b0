"""Until there is an answer: attempts under one deadline, each past circuit breaker and limits of model and endpoint."""

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar

import msgspec

from claude_force.base.endpoints import retries, serving
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

    from claude_force.base.endpoints import Endpoint
    from claude_force.base.records import Caching, Reply, Request
    from claude_force.engine.breaker import Permit
    from claude_force.engine.limits import Ticket
    from claude_force.engine.parts import Turn
    from claude_force.engine.traffic import Gate

T = TypeVar("T")


NOT_AVAILABLE = (OverloadedError, ServerError, CircuitOpenError)
"""What says of a model that it is not there now."""


async def ask_models(turn: "Turn", requests: "Sequence[Request]") -> str:
    """The answer of the first model that is there: the one that was chosen, then those to fall back to.

    A model is left for the next one only where it is overloaded or fails on its side: never for credentials, spent
    limits, rate limits or bad requests, which another model would not mend.
    """
    first: ClaudeForceError | None = None
    for request, following in zip(requests, [*requests[1:], None], strict=True):
        try:
            return await _ask(turn, request, waits_for_circuit=following is None)
        except NOT_AVAILABLE as error:
            if following is None or turn.left_s <= 0:
                raise
            turn.warn(f"{request.model} is not available, so {following.model} is asked: {error.args[0]}")
            first = first or error
        except ModelNotFoundError as error:
            if first is None:
                raise
            turn.warn(f"the fallback model {request.model!r} is unknown: {error.args[0]}")
            if following is None:
                raise first from error  # a misspelt fallback must not end the batch
    raise AssertionError("there is at least one request")


async def _ask(turn: "Turn", request: "Request", *, waits_for_circuit: bool) -> str:
    """Send until there is an answer, the error is final, or the time is over.

    Where an endpoint fails, the next one is asked at once; when all were asked, it is time to wait.
    """
    from claude_force.engine.endpoints import Ways  # noqa: PLC0415 - with the breaker, when something is sent

    config, clock = turn.parts.config, turn.parts.clock
    endpoints = serving(config.endpoints, turn.inference_geo)
    ways, max_retries = Ways(endpoints, request, turn.parts.traffic), retries(config.defaults.max_retries, endpoints)
    failures = 0
    while True:
        endpoint = await turn.outside.call(ways.next) if ways.may_stall else ways.next()
        try:
            reply = await _attempt(turn, request, endpoint)
            ways.answered(endpoint)
            return read_answer(reply, agent=turn.task.agent_name, schema=turn.output_schema)
        except (ApiError, AnswerError) as error:
            moves_on = ways.failed(endpoint, error)
            has_next, said = moves_on and ways.has_next, ways.said if moves_on else [error]
            is_out = moves_on and error.is_terminal
            is_no_try = is_out or isinstance(error, CircuitOpenError)  # not tried again, or not even sent
            failures += not is_no_try
            left_s, roll = turn.left_s, clock.roll()
            waits = (wait_s(one, attempt=failures, max_retries=max_retries, left_s=left_s, roll=roll) for one in said)
            wait = min((wait for wait in waits if wait is not None), default=None)
            if has_next:
                wait = 0.0 if failures <= max_retries and left_s > 0 else None
            elif not waits_for_circuit and all(isinstance(one, CircuitOpenError) for one in said):
                wait = None
            if wait is None:
                _give_up(turn, said, left_s)
            if is_out:
                turn.warn(f"the endpoint {endpoint.name!r} is left out from now on: {error.args[0]}")
            if turn.watch.on_retry:
                tried = failures + is_no_try
                turn.watch.on_retry(Retry(attempt=tried, max_attempts=max_retries + 1, wait_s=wait, error=error))
        await turn.outside.pause(wait)


def _give_up(turn: "Turn", said: "Sequence[ApiError | AnswerError]", left_s: float) -> NoReturn:
    """Raise what says most of all that endpoints said: that the model is not there, before that one of them is not."""
    lasting = [error for error in said if not error.is_terminal] or said[-1:]
    error = next((error for error in lasting if isinstance(error, NOT_AVAILABLE)), lasting[-1])
    error.attempts = turn.attempts
    if left_s <= 0 and is_passing(error):  # what no time would have mended is told as it is
        raise deadline(turn, error) from error
    raise error


async def _attempt(turn: "Turn", request: "Request", endpoint: "Endpoint") -> "Reply":
    """One request, once its place among those that share its beginning is known: see `fan_out`."""
    gate = turn.parts.traffic.gate(request.model, endpoint.name)
    place = await take_place(turn, request, gate.warmth)
    reply: Reply | None = None
    try:
        reply = await _sent(turn, request, place.caching if place else None, endpoint, gate)
    finally:
        if place:
            turn.shared_tokens += place.shared_tokens if reply is not None else 0
            gate.warmth.leave(place, has_answer=reply is not None)
    return reply


async def _sent(
    turn: "Turn", request: "Request", caching: "Caching | None", endpoint: "Endpoint", gate: "Gate"
) -> "Reply":
    """One request, sent when breaker and limits let it. Both are told how it ended, however it ends."""
    stake = await staked(turn, request, inference_geo=endpoint.inference_geo)
    ticket = gate.limits.join(request, is_blocking=turn.outside.is_blocking)
    permit: Permit | None = None
    outcome: Reply | ClaudeForceError | None = None
    is_sent = False
    try:
        permit = await _admitted(turn, gate, ticket)
        turn.attempts += 1
        turn.endpoint = endpoint
        timeout_s = _timeout_s(turn)
        facts = {"max_tokens": request.max_tokens, "effort": request.effort, **endpoint.facts}
        with turn.spans.span("attempt", request.model, **facts) as span:
            is_sent = True
            outcome = await turn.outside.send(
                request, timeout_s=timeout_s, on_text=turn.watch.on_text, caching=caching, endpoint=endpoint
            )
            outcome = _placed(outcome, endpoint)
            turn.asked.append(request)
            turn.replies.append(outcome)
            span.tell(outcome)
    except ClaudeForceError as error:
        outcome = error
        if isinstance(error, ApiError):
            error.endpoint = endpoint.name or None
        raise
    finally:
        await _asked(turn, gate, partial(gate.leave, ticket, permit, outcome))
        turn.has_unknown_cost |= is_sent and not is_known(outcome)
        if stake is not None:
            await turn.outside.finish(partial(stake.settle, cost_usd(turn, request, outcome, is_sent=is_sent)))
    return outcome


def _placed(reply: "Reply", endpoint: "Endpoint") -> "Reply":
    """With the place that was asked for, where the server does not say where the model ran: it is billed by that."""
    usage = reply.usage
    if endpoint.inference_geo is None or usage is None or usage.inference_geo is not None:
        return reply
    return msgspec.structs.replace(reply, usage=replace(usage, inference_geo=endpoint.inference_geo))


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
