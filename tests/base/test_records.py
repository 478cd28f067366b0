"""Values: an answer is a string that knows how it came about."""

import copy
import functools
import json
import operator
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.base.errors import BudgetError
from claude_force.base.records import AgentResult, PromptCaching, Savings
from claude_force.base.results import StepResult, WorkflowResult
from claude_force.base.usage import Usage
from tests.conftest import execution


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


MONEY = st.none() | st.decimals(-100, 100, places=6)
COUNTS = st.integers(0, 10**6)
CACHING = st.builds(
    PromptCaching,
    read_tokens=COUNTS,
    written_tokens=COUNTS,
    shared_tokens=COUNTS,
    saved_usd=MONEY,
    waited_s=st.floats(0, 60),
)
SAVINGS = st.builds(Savings, cache_usd=MONEY, prompt_cache_usd=MONEY, routing_usd=MONEY, batch_usd=MONEY)


@given(st.lists(CACHING, min_size=1) | st.lists(SAVINGS, min_size=1))
def test_figures_add_up(figures: list[Any]) -> None:
    """Each by itself, money to the last digit: what is unpriced once is unpriced in the sum; of waits the longest."""
    whole = functools.reduce(operator.add, figures)
    for name, sum_ in whole.to_dict().items():
        values = [getattr(one, name) for one in figures]
        if name == "waited_s":
            assert sum_ == max(values)
        elif None in values:
            assert (sum_, getattr(whole, name)) == (None, None)
        else:
            assert getattr(whole, name) == sum(values)
            assert sum_ == float(sum(values))


@pytest.mark.parametrize("cached", [False, True])
def test_what_a_turn_saved(*, cached: bool) -> None:
    """Each in its own place; what the answer had cost counts where it was not paid again."""
    one, two, three, four = map(Decimal, range(1, 5))
    turn = execution(
        timestamp=datetime(2026, 11, 20, tzinfo=UTC),
        duration_ms=1.0,
        cached=cached,
        saved_usd=one,
        prompt_caching=PromptCaching(saved_usd=two),
        routing_saved_usd=three,
        batch_saved_usd=four,
    )
    assert turn.savings == Savings(cache_usd=one * cached, prompt_cache_usd=two, routing_usd=three, batch_usd=four)


def test_a_run_in_json() -> None:
    """All that is known of it and its steps; an answer is one only where its step has it."""
    error = BudgetError("too dear")
    known = {"agent": "x", "usage": Usage(output_tokens=5), "cost_usd": Decimal("0.5"), "warnings": ("careful",)}
    steps = {
        "a": StepResult(id="a", status="done", text="A", **known),  # type: ignore[arg-type] # of mixed types
        "b": StepResult(id="b", agent="x", status="cached", text="B", saved_usd=Decimal("0.25"), simulated=True),
        "c": StepResult(id="c", agent="x", status="failed", text="cut", reason="too dear", error=error),
        "d": StepResult(id="d", agent="x", status="done"),
    }
    run = WorkflowResult(
        workflow_name="w",
        run_id="1",
        status="failed",
        steps=steps,
        execution_order=("b", "a"),
        cost_usd=Decimal("0.5"),
        saved_usd=Decimal("0.25"),
        error=error,
    )
    data = json.loads(json.dumps(run.to_dict()))
    assert data["results"] == run["results"] == {"a": "A", "b": "B"}
    assert data["cached_steps"] == ["b"]
    assert (data["cost_usd"], data["saved_usd"], data["exit_code"], data["simulated"]) == (0.5, 0.25, 4, True)
    assert data["error"] == {"type": "BudgetError", "message": "too dear"}
    assert (data["prompt_caching"], data["savings"]) == (PromptCaching().to_dict(), Savings().to_dict())
    step = data["steps"]["a"]
    assert (step["usage"]["output_tokens"], step["cost_usd"], step["saved_usd"]) == (5, 0.5, None)
    assert (step["error"], step["choice"], step["warnings"]) == (None, None, ["careful"])
    assert data["steps"]["c"]["error"] == {"type": "BudgetError", "message": "too dear", "exit_code": 4}
    with pytest.raises(KeyError):
        run["to_dict"]
    assert WorkflowResult(workflow_name="w", run_id="1", status="completed", steps={}).exit_code == 0
    plain = WorkflowResult(workflow_name="w", run_id="1", status="cancelled", steps={})
    assert (plain.exit_code, plain.simulated, plain.to_dict()["cost_usd"]) == (1, False, None)
