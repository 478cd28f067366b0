"""Whoever does the steps, a run is the same: answers, errors, costs, events, and what taking it up pays for."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_force import BudgetError, CredentialsError, InvalidRequestError, RunError
from claude_force.base.results import WorkflowResult
from claude_force.testing import ApiFault, Simulator

if TYPE_CHECKING:
    from claude_force.workflows.events import RunEvent

CHAIN = {
    "name": "chain",
    "inputs": {"words": {"type": "list", "default": ["a", "b", "c"]}},
    "steps": [
        {"id": "one", "agent": "reviewer", "task": "say 1"},
        {"id": "two", "agent": "reviewer", "task": "say 2", "dependencies": ["one"]},
        {"id": "each", "agent": "reviewer", "task": "say {{ item }}", "for_each": "{{ inputs.words }}"},
    ],
}


@pytest.fixture(autouse=True)
def _one_home(monkeypatch: pytest.MonkeyPatch, simulator: Simulator) -> None:
    """Everybody asks the simulator."""


@pytest.fixture
def subject(face: Any) -> Iterator[Any]:
    """An orchestrator of either face."""
    with face() as orchestrator:
        yield orchestrator


def texts(result: WorkflowResult) -> dict[str, str]:
    """Its answers."""
    return dict(result.results)


def test_a_run_is_the_same(subject: Any, engine: Any, simulator: Simulator) -> None:
    """Answers, statuses and costs of a run do not depend on who does it, and each step is paid once."""
    events: list[RunEvent] = []
    result = subject.execute_workflow(CHAIN, engine=engine, on_event=events.append)
    assert texts(result) == {"one": "1", "two": "2", "each": '["a","b","c"]'}
    assert {step.status for step in result.steps.values()} == {"done"}
    assert simulator.stats.calls["/v1/messages"] == 5
    assert result.cost_usd == Decimal("0.0000118")
    kinds = [event.kind for event in events]
    assert (kinds[0], kinds[-1], kinds.count("started"), kinds.count("ended")) == ("run_started", "run_ended", 5, 6)


def test_what_was_answered_before_is_not_asked(subject: Any, engine: Any, simulator: Simulator) -> None:
    """The same run again costs nothing."""
    subject.execute_workflow(CHAIN, engine=engine)
    again = subject.execute_workflow(CHAIN, engine=engine)
    assert {step.status for step in again.steps.values()} == {"cached"}
    assert (again.cost_usd, simulator.stats.calls["/v1/messages"]) == (0, 5)


def test_an_error_is_what_it_was(subject: Any, engine: Any, simulator: Simulator, refused: set[str]) -> None:
    """A step fails with the error that the API's answer is, with its facts; one that ends all ends the run."""
    refused.add("2")
    with pytest.raises(RunError) as failed:
        subject.execute_workflow(CHAIN, engine=engine)
    error = failed.value.result.error
    assert (type(error), error.status, error.attempts) == (InvalidRequestError, 400, 1)
    assert "no such thing" in str(error)
    simulator.script(ApiFault(401))
    with pytest.raises(RunError) as ended:
        subject.execute_workflow(CHAIN, engine=engine, use_cache=False)
    assert (type(ended.value.result.error), ended.value.exit_code) == (CredentialsError, 3)


def test_retries_are_told(subject: Any, engine: Any, simulator: Simulator) -> None:
    """An attempt that failed and was made again is an event, and counts."""
    simulator.script(ApiFault(529, headers={"retry-after-ms": "1"}))
    events: list[RunEvent] = []
    step = {"name": "alone", "steps": [{"id": "one", "agent": "reviewer", "task": "say 1"}]}
    result = subject.execute_workflow(step, engine=engine, on_event=events.append)
    (retried,) = [event.text for event in events if event.kind == "retried"]
    assert retried is not None
    assert retried.startswith("attempt 1 of ")
    assert result.steps["one"].attempts == 2


def test_a_run_is_taken_up(subject: Any, engine: Any, simulator: Simulator, refused: set[str]) -> None:
    """What has an answer is not asked again, what failed is, and what is forced is."""
    refused.add("2")
    failed = subject.execute_workflow(CHAIN, engine=engine, on_error="return", use_cache=False)
    assert failed.steps["two"].status == "failed"
    refused.clear()
    done = subject.execute_workflow(None, engine=engine, resume=failed.run_id, use_cache=False)
    assert (done.run_id, done.status, texts(done)["two"]) == (failed.run_id, "completed", "2")
    paid = simulator.stats.statuses[200]
    assert paid == 5
    subject.execute_workflow(None, engine=engine, resume=failed.run_id, use_cache=False, force=["one"])
    assert simulator.stats.statuses[200] == paid + 1


def test_a_limit_holds(subject: Any, engine: Any, simulator: Simulator) -> None:
    """A step that could pass the run's limit is not sent, and what others cost counts."""
    with pytest.raises(RunError) as failed:
        subject.execute_workflow(CHAIN, engine=engine, max_cost_usd=0.0001)
    assert isinstance(failed.value.result.error, BudgetError)
    assert failed.value.exit_code == 4
    assert simulator.stats.calls.get("/v1/messages", 0) == 0
    assert subject.execute_workflow(CHAIN, engine=engine, max_cost_usd=1).status == "completed"


def test_a_demand_of_place_holds(subject: Any, engine: Any, simulator: Simulator, project: Path) -> None:
    """Where an agent's model must run, it runs for whoever does the step."""
    agent = project / ".claude/agents/reviewer.md"
    agent.write_text(agent.read_text().replace("model: haiku", "model: haiku\ninference_geo: us"))
    result = subject.execute_workflow(CHAIN, engine=engine)
    assert {request.body["inference_geo"] for request in simulator.requests} == {"us"}
    assert result.cost_usd == Decimal("0.0000118") * Decimal("1.1")
