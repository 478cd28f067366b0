"""What came of a piece of work, as plain facts by name: traces and logs say the same of it."""

from typing import TYPE_CHECKING

from claude_force.base.records import Execution, KeptReply, Reply

if TYPE_CHECKING:
    from claude_force.base.spans import Outcome
    from claude_force.base.usage import Usage


def facts_of(outcome: "Outcome") -> dict[str, object]:
    """The facts; `None` is not known, or says nothing. No text of anybody is among them."""
    match outcome:
        case Reply():
            return {
                "model": outcome.model,
                "stop_reason": outcome.stop_reason or "error",
                "request_id": outcome.request_id,
                "simulated": outcome.simulated,
                "streamed": None if outcome.ttft_s is None else True,
                "ttft_s": outcome.ttft_s,
                **_tokens(outcome.usage),
            }
        case Execution():
            return {
                "attempts": outcome.attempts,
                "cached": outcome.cached,
                "cost_usd": outcome.cost_usd,
                "saved_usd": outcome.saved_usd,
            }
        case KeptReply() | None:
            return {"hit": outcome is not None}
        case _:  # of a step or a run, whose errors are not raised
            return {
                "status": outcome.status,
                "cost_usd": outcome.cost_usd,
                "saved_usd": outcome.saved_usd,
                "error_type": type(outcome.error).__name__ if outcome.error else None,
            }


def _tokens(usage: "Usage | None") -> dict[str, object]:
    """Of the whole prompt and the whole output; what the prompt cache had, and what was thought, are parts of them."""
    if usage is None:
        return {}
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens or None,
        "cache_write_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens or None,
        "thinking_tokens": usage.thinking_tokens,
    }
