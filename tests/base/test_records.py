"""Values: an answer is a string that knows how it came about."""

import copy
import json
import pickle
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.base.records import AgentResult
from claude_force.base.usage import Usage


def result(text: str = "Looks good.", **facts: object) -> AgentResult:
    """A result with every fact off its default."""
    defaults: dict[str, object] = {
        "agent_name": "code-reviewer",
        "model": "claude-sonnet-5-5",
        "usage": Usage(input_tokens=10, output_tokens=5, cache_read_tokens=3),
        "cost_usd": Decimal("0.0123"),
        "cached": True,
        "cache_age_seconds": 3.5,
        "stop_reason": "end_turn",
        "request_id": "req_1",
        "duration_ms": 812.5,
        "attempts": 2,
        "simulated": True,
        "warnings": ("careful",),
        "data": {"verdict": ["merge"]},
    }
    return AgentResult(text, **(defaults | facts))  # type: ignore[arg-type] # one dictionary of mixed types


def facts_of(value: AgentResult) -> dict[str, object]:
    """Everything but the text."""
    return {name: getattr(value, name) for name in AgentResult.__slots__}


@given(st.text())
def test_a_result_is_its_text(text: str) -> None:
    """It compares, hashes, prints and slices as the plain string."""
    value = result(text)
    assert value == text
    assert hash(value) == hash(text)
    assert f"{value}" == text
    assert value[:3] == text[:3]
    assert isinstance(value, str)


@pytest.mark.parametrize(
    "reborn",
    [
        pytest.param(lambda r: pickle.loads(pickle.dumps(r)), id="pickle"),  # noqa: S301 - our own bytes
        pytest.param(lambda r: pickle.loads(pickle.dumps(r, protocol=0)), id="pickle-0"),  # noqa: S301 - our own bytes
        pytest.param(copy.copy, id="copy"),
        pytest.param(copy.deepcopy, id="deepcopy"),
    ],
)
def test_a_result_survives(reborn: Callable[[AgentResult], AgentResult]) -> None:
    """Pickled and copied results keep their text and every fact."""
    value = result()
    other = reborn(value)
    assert type(other) is AgentResult
    assert other == value
    assert facts_of(other) == facts_of(value)


def test_a_result_cannot_be_changed() -> None:
    """Facts of a paid answer are not edited by accident."""
    with pytest.raises(AttributeError, match="cost_usd"):
        result().cost_usd = Decimal(0)  # the point of the test
    with pytest.raises(AttributeError, match="model"):
        del result().model


def test_to_dict_is_json() -> None:
    """Everything but the text goes into JSON, with money as a number."""
    data = json.loads(json.dumps(result().to_dict()))
    assert data["text"] == "Looks good."
    assert data["cost_usd"] == 0.0123
    assert data["usage"]["cache_read_tokens"] == 3
    assert data["data"] == {"verdict": ["merge"]}
    assert set(data) == {"text", *AgentResult.__slots__}
    assert result(cost_usd=None, usage=None).to_dict()["cost_usd"] is None


@pytest.mark.parametrize(
    ("stop_reason", "whole"),
    [("end_turn", True), ("stop_sequence", True), ("max_tokens", False), ("model_context_window_exceeded", False)],
)
def test_a_cut_answer_is_not_whole(stop_reason: str, whole: bool) -> None:  # noqa: FBT001 - a row of a table
    """A caller can tell a finished answer from one that was cut."""
    assert result(stop_reason=stop_reason).is_whole is whole


def test_usage_adds_up() -> None:
    """The prompt is everything that went in, and two attempts' tokens are summed."""
    one = Usage(input_tokens=1, cache_read_tokens=2, cache_write_5m_tokens=3, cache_write_1h_tokens=4, output_tokens=5)
    assert one.prompt_tokens == 10
    assert (one + one).total_tokens == 30
    assert (one + one).thinking_tokens is None
    assert (one + Usage(thinking_tokens=7)).thinking_tokens == 7
