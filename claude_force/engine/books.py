"""What a turn used and cost, all its attempts together, as the ledger keeps it. Each turn is entered once."""

from decimal import Decimal
from typing import TYPE_CHECKING

from claude_force.base.pricing import BatchPrices, saved_by_caching_usd, total_usd
from claude_force.base.records import WHOLE_STOP_REASONS, Call, Execution, PromptCaching
from claude_force.base.usage import Usage
from claude_force.engine.key import SIMULATED_SERVER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_force.engine.parts import Turn

_NOTHING, _FREE, _NO_CACHING = Usage(), Decimal(0), PromptCaching()


def close(turn: "Turn") -> None:
    """The turn has its answer: what is entered from now on is a success, or an answer that was cut."""
    turn.failure = None if turn.last and turn.last.stop_reason in WHOLE_STOP_REASONS else "CutAnswer"


def enter(turn: "Turn") -> Execution:
    """Write the turn down, unless that was done. May stall: the price list is loaded, a file is written."""
    if turn.execution is None:
        turn.execution = execution_of(turn)
        turn.parts.ledger.record(turn.execution)
    return turn.execution


def execution_of(turn: "Turn") -> Execution:
    """The turn as the ledger keeps it: the tokens and the price of *all* its attempts."""
    kept, last = turn.kept, turn.last
    calls = _calls(turn)
    usage, cost_usd = _paid(turn, calls)
    is_batch = isinstance(turn.parts.prices, BatchPrices)
    return Execution(
        timestamp=turn.timestamp,
        agent_name=turn.task.agent_name,
        task=turn.task.text,
        model=last.model if last else turn.model,
        success=turn.failure is None,
        duration_ms=turn.elapsed_s * 1000,
        attempts=turn.attempts,
        ttft_ms=last.ttft_s * 1000 if last and last.ttft_s is not None and not kept else None,
        usage=usage,
        cost_usd=cost_usd,
        calls=calls,
        stop_reason=last.stop_reason if last else None,
        request_id=last.request_id if last else None,
        endpoint=turn.endpoint.name or None if turn.endpoint and not kept else None,
        region=turn.endpoint.region if turn.endpoint and not kept else None,
        error_type=turn.failure,
        simulated=last.simulated if last else turn.parts.server == SIMULATED_SERVER,
        cached=kept is not None,
        cache_age_s=kept.age_s if kept else None,
        saved_usd=kept.cost_usd if kept else None,
        prompt_caching=_caching(turn, usage, calls),
        routing_saved_usd=_saved_by_routing(turn, calls, cost_usd),
        batch_saved_usd=cost_usd if is_batch else _FREE,  # it costs half, so as much again was saved
        workflow_id=turn.task.workflow_id,
        run_id=turn.task.run_id,
        step_id=turn.task.step_id,
    )


def _calls(turn: "Turn") -> tuple[Call, ...]:
    asked = zip(turn.replies, turn.asked, strict=False)  # a Ctrl-C may have come between the two
    return tuple(Call(model=reply.model, asked_as=request.model, usage=reply.usage) for reply, request in asked)


def _paid(turn: "Turn", calls: "Sequence[Call]") -> tuple[Usage | None, Decimal | None]:
    """Tokens and price of all that was sent; `None` is not known."""
    if turn.has_unknown_cost:
        return None, None
    prices, at = turn.parts.prices, turn.timestamp
    known = [call.usage for call in calls if call.usage is not None]
    usage = sum(known, _NOTHING) if len(known) == len(calls) else None
    return usage, total_usd(prices.cost_usd(call.model, call.usage, at, asked_as=call.asked_as) for call in calls)


def _caching(turn: "Turn", usage: Usage | None, calls: "Sequence[Call]") -> PromptCaching:
    """What the prompt cache did for all that was sent; a turn that nothing was kept or read for has figures of 0."""
    used = usage or _NOTHING
    if not (turn.shared_tokens or used.prompt_tokens - used.input_tokens):
        return _NO_CACHING
    prices, at = turn.parts.prices, turn.timestamp
    saved = (saved_by_caching_usd(prices, call.model, call.usage, at, asked_as=call.asked_as) for call in calls)
    return PromptCaching(
        read_tokens=used.cache_read_tokens,
        written_tokens=used.cache_write_5m_tokens + used.cache_write_1h_tokens,
        shared_tokens=turn.shared_tokens,
        saved_usd=None if turn.has_unknown_cost else total_usd(saved),
        waited_s=turn.warming_s,
    )


def _saved_by_routing(turn: "Turn", calls: "Sequence[Call]", cost_usd: Decimal | None) -> Decimal | None:
    """Against the same tokens by the model that would have been asked without the router; `None` is not known."""
    unrouted = turn.unrouted_model
    if unrouted is None or not calls:
        return _FREE
    prices, at = turn.parts.prices, turn.timestamp
    else_usd = total_usd(prices.cost_usd(unrouted, call.usage, at) for call in calls)
    return None if cost_usd is None or else_usd is None else else_usd - cost_usd
