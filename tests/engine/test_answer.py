"""Reading of an answer: a failure is never taken for a success."""

import pytest

from claude_force.base.errors import AnswerError, CutAnswerError, EmptyAnswerError, RefusalError
from claude_force.base.records import Reply
from claude_force.base.usage import Usage
from claude_force.engine.answer import read_answer


def reply(text: str, stop_reason: str | None) -> Reply:
    """A reply as a transport gives it."""
    return Reply(
        model="claude-sonnet-5-5",
        text=text,
        stop_reason=stop_reason,
        usage=Usage(output_tokens=3),
        request_id="req_7",
        refusal_category="cyber" if stop_reason == "refusal" else None,
        refusal_explanation="no" if stop_reason == "refusal" else None,
    )


@pytest.mark.parametrize("stop_reason", ["end_turn", "stop_sequence", "max_tokens", "model_context_window_exceeded"])
def test_an_answer_is_its_text(stop_reason: str) -> None:
    """Whole and cut answers alike are given to the caller, unchanged."""
    assert read_answer(reply("  as it is\n", stop_reason), agent="a") == "  as it is\n"


@pytest.mark.parametrize(
    ("text", "stop_reason", "kind", "said"),
    [
        ("", "refusal", RefusalError, "declined"),
        ("half a", "refusal", RefusalError, "cyber"),
        ("half a", None, CutAnswerError, "broke off"),
        ("", None, CutAnswerError, "broke off"),
        ("calling", "tool_use", CutAnswerError, "'tool_use'"),
        ("wait", "pause_turn", CutAnswerError, "'pause_turn'"),
        ("new", "something_new", CutAnswerError, "'something_new'"),
        ("", "end_turn", EmptyAnswerError, "without any text"),
        (" \n", "end_turn", EmptyAnswerError, "without any text"),
        ("", "max_tokens", EmptyAnswerError, "raise max_tokens"),
    ],
)
def test_what_is_no_answer_is_an_error(text: str, stop_reason: str | None, kind: type[AnswerError], said: str) -> None:
    """Refused, broken, unfinished and empty answers raise, with the request's id and the stop reason as fields."""
    with pytest.raises(kind, match=said) as caught:
        read_answer(reply(text, stop_reason), agent="reviewer")
    error = caught.value
    assert (error.agent, error.model, error.request_id) == ("reviewer", "claude-sonnet-5-5", "req_7")
    assert error.stop_reason == stop_reason
    if isinstance(error, CutAnswerError):
        assert error.text == text
    if isinstance(error, RefusalError):
        assert (error.category, error.explanation, error.exit_code) == ("cyber", "no", 6)
