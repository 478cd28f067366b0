"""Is this reply an answer? A failure is never passed on as a success.

| stop reason | what becomes of it |
|---|---|
| `end_turn`, `stop_sequence` | the answer |
| `max_tokens`, `model_context_window_exceeded` | an answer that is not whole: returned, marked, never cached |
| `refusal` | `RefusalError` |
| none at all | `CutAnswerError`: the stream broke without saying so |
| `tool_use`, `pause_turn`, anything else | `CutAnswerError`: the model waits for a next step that nobody takes |
| any of the first two rows without text | `EmptyAnswerError` |
| any of the first two rows that does not fit the schema, where there is one | `InvalidOutputError` |
"""

from typing import TYPE_CHECKING

from claude_force.base.errors import CutAnswerError, EmptyAnswerError, InvalidOutputError, RefusalError
from claude_force.base.records import WHOLE_STOP_REASONS
from claude_force.engine.output import problems_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from claude_force.base.records import Reply

CUT_STOP_REASONS = frozenset({"max_tokens", "model_context_window_exceeded"})


def read_answer(reply: "Reply", *, agent: str, schema: str | None = None) -> str:
    """The text of the answer. Raises an `AnswerError` where there is none, or none that fits the schema."""
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
    if schema is not None:
        _check_output(reply, schema, facts)
    return reply.text


def _check_output(reply: "Reply", schema: str, facts: "Mapping[str, Any]") -> None:
    """A cut answer never fits, as it may look whole: the 12 of a 123."""
    is_cut = reply.stop_reason in CUT_STOP_REASONS
    problems = (f"$: cut ({reply.stop_reason})",) if is_cut else problems_of(reply.text, schema)
    if not problems:
        return
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    advice = "raise max_tokens or give less material" if is_cut else "say in the task, or the schema, what is meant"
    raise InvalidOutputError(
        f"{reply.model} answered {facts['agent']!r} with what does not fit the schema ({problems[0]}{more}); {advice}",
        text=reply.text,
        problems=problems,
        **facts,
    )
