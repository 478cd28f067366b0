"""What the last lines of the ledger say of an agent."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from claude_force.base.usage import Usage
from claude_force.engine.router import PastAnswers
from claude_force.insight.models import LAST_LINES, Past, past_of, read_last
from claude_force.performance_tracker import PerformanceTracker, task_hash
from tests.conftest import execution

HAIKU = "claude-haiku-5-5"


@pytest.fixture
def tracker(tmp_path: Path) -> PerformanceTracker:
    """An empty ledger."""
    return PerformanceTracker(tmp_path / "metrics")


def record(tracker: PerformanceTracker, model: str | None = HAIKU, error_type: str | None = None, **facts: Any) -> None:
    """One execution of an agent, which a model was asked for."""
    defaults: dict[str, Any] = {
        "agent_name": "linter",
        "task": "check it",
        "usage": Usage(input_tokens=10, output_tokens=20),
        "cost_usd": Decimal("0.01"),
    }
    tracker.record(execution(model=model, error_type=error_type, **(defaults | facts)))


def past(tracker: PerformanceTracker, task: str = "check it") -> Past:
    """What is known of the linter."""
    return past_of("linter", read_last(tracker.path, simulated=False), task_hash=task_hash(task))


def test_what_counts_as_too_weak(tracker: PerformanceTracker) -> None:
    """Only answers that were empty or no data as asked; an overload says nothing about a model, nor does a Ctrl-C."""
    for error_type in (None, "EmptyAnswerError", "InvalidOutputError", "OverloadedError", "Interrupted", "CutAnswer"):
        record(tracker, error_type=error_type)
    assert past(tracker).history == {"haiku": PastAnswers(3, 2)}


def test_the_kind_of_task_is_its_words(tracker: PerformanceTracker) -> None:
    """The same words on other files are the same kind; where these are new, all that the agent did counts."""
    record(tracker)
    record(tracker, task="count it", error_type="EmptyAnswerError")
    record(tracker, agent_name="reviewer", error_type="EmptyAnswerError")
    record(tracker, "llama3.2:3b", task="count it")
    assert past(tracker).history == {"haiku": PastAnswers(1, 0)}
    assert past(tracker, "count it").history == {"haiku": PastAnswers(1, 1)}
    assert past(tracker, "something new").history == {"haiku": PastAnswers(2, 1)}


def test_only_the_last_lines_are_read(tracker: PerformanceTracker) -> None:
    """A long ledger takes no longer, even where nearly all of it came from the cache."""
    record(tracker)
    for _ in range(LAST_LINES):
        record(tracker, cached=True)
    assert past(tracker).history == {}


def test_how_long_answers_are(tracker: PerformanceTracker) -> None:
    """The median of the whole answers, by model; failures have no length."""
    for tokens in (100, 300, 9000):
        record(tracker, usage=Usage(output_tokens=tokens))
    record(tracker, error_type="CutAnswer", usage=Usage(output_tokens=1))
    assert past(tracker).output_tokens == {HAIKU: 300}


def test_a_ledger_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    """A choice of model must not fail because of it."""
    folder = tmp_path / "executions.jsonl"
    folder.mkdir()
    assert read_last(folder, simulated=False) == ()
    assert past_of("a", (), task_hash="b") == Past({}, {})
