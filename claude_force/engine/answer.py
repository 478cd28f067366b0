"""Is this reply an answer? A failure is never passed on as a success.

| stop reason | what becomes of it |
|---|---|
| `end_turn`, `stop_sequence` | the answer |
| `max_tokens`, `model_context_window_exceeded` | an answer that is not whole: returned, marked, never cached |
| `refusal` | `RefusalError` |
| none at all | `CutAnswerError`: the stream broke without saying so |
| `tool_use`, `pause_turn`, anything else | `CutAnswerError`: the model waits for a next step that nobody takes |
| any of the first two rows without text | `EmptyAnswerError` |
"""

from typing import TYPE_CHECKING

from claude_force.base.errors import CutAnswerError, EmptyAnswerError, RefusalError
from claude_force.base.records import WHOLE_STOP_REASONS

if TYPE_CHECKING:
    from claude_force.base.records import Reply

CUT_STOP_REASONS = frozenset({"max_tokens", "model_context_window_exceeded"})


def read_answer(reply: "Reply", *, agent: str) -> str:
    """The text of the answer. Raises an `AnswerError` where there is none."""
    facts = {"agent": agent, "model": reply.model, "request_id": reply.request_id, "stop_reason": reply.stop_reason}
    if reply.stop_reason == "refusal":
        kind = f" ({reply.refusal_category})" if reply.refusal_category else ""
        raise RefusalError(
            f"{reply.model} declined to answer {agent!r}{kind}; rephrase the task or choose another model",
            category=reply.refusal_category,
            explanation=reply.refusal_explanation,
            **facts,
        )
    if reply.stop_reason is None:
        raise CutAnswerError(f"the answer for {agent!r} broke off before its end; try again", text=reply.text, **facts)
    if reply.stop_reason not in WHOLE_STOP_REASONS | CUT_STOP_REASONS:
        raise CutAnswerError(
            f"{reply.model} stopped for {reply.stop_reason!r}, which {agent!r} has no use for; ask for a plain answer",
            text=reply.text,
            **facts,
        )
    if not reply.text.strip():
        why = (
            "; raise max_tokens, it was used up before the first word" if reply.stop_reason in CUT_STOP_REASONS else ""
        )
        raise EmptyAnswerError(f"{reply.model} answered {agent!r} without any text{why}", **facts)
    return reply.text
