"""Message batches, over real HTTP: half the price, sent once, each answer accounted for once."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic  # noqa: F401 - a second that no time limit of a test is to pay
import pytest

from claude_force import (
    AgentNotFoundError,
    AgentTask,
    BatchEntryError,
    BudgetError,
    HybridOrchestrator,
    InvalidRequestError,
    OverloadedError,
    RefusalError,
)
from claude_force.base.pricing import Prices
from claude_force.engine.faces import Blocking, run_now
from claude_force.engine.sending import BatchWatch
from claude_force.insight.costs import read_costs
from claude_force.insight.counting import Selection
from claude_force.testing import Answer, ApiFault, Hang, Refusal, Rule, SeenRequest, Simulator

from .conftest import bill, ledger, spent

Face = Callable[..., Any]


def sent(simulator: Simulator) -> Counter[str]:
    """How often each task was sent in a batch."""
    bodies = [each.body for each in simulator.requests if each.path == "/v1/messages/batches" and each.body]
    return Counter(one["params"]["messages"][0]["content"][-1]["text"] for body in bodies for one in body["requests"])


def of(word: str) -> Callable[[SeenRequest], bool]:
    """Requests of the task with this word, in a batch or by themselves."""
    return lambda request: request.path == "/v1/messages" and word in request.prompt


def tasks(*names: str) -> list[tuple[str, str]]:
    """One for each."""
    return [("reviewer", name) for name in names]


def test_answers_at_half_the_price(face: Face, project: Path) -> None:
    """In the order of the tasks; the same in it is sent once, and the ledger is the simulator's bill."""
    with (
        Simulator(lambda request: request.prompt.upper()) as simulator,
        face(api_key="k", base_url=simulator.base_url) as subject,
    ):
        results = subject.execute_batch(tasks("one", "two", "one"))
        assert results == ["ONE", "TWO", "ONE"]
        assert [result.cached for result in results] == [False, False, True]
        assert sent(simulator) == {"one": 1, "two": 1}
        assert sum(result.cost_usd for result in results) == spent(project) == bill(simulator) > 0
        assert sum(result.savings.batch_usd for result in results) == bill(simulator)  # it has cost half
        assert results[2].savings.cache_usd == results[0].cost_usd
        (batch_id,) = {line["batch_id"] for line in ledger(project)}
        assert batch_id.startswith("msgbatch_")
        # The answers are kept as any others are, under the same keys.
        assert subject.execute_agent("reviewer", "two").cached
        again = subject.execute_batch(tasks("two", "three"))
        assert [(result, result.cached) for result in again] == [("TWO", True), ("THREE", False)]
        assert sent(simulator) == {"one": 1, "two": 1, "three": 1}
        assert "/v1/messages" not in simulator.stats.calls
        assert spent(project) == bill(simulator)
        anew = read_costs(subject.performance_tracker.path, Selection(simulated=True), prices=Prices({}))
        assert anew.total.cost_usd == bill(simulator)


@pytest.mark.usefixtures("project")
def test_what_is_sent_is_what_a_call_sends(face: Face) -> None:
    """But for the prompt cache, which keeps for an hour what many share."""
    options: Any = {"model": "sonnet", "effort": "low", "max_tokens": 99, "output_schema": {"type": "integer"}}
    with Simulator("7") as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        (result,) = subject.execute_batch(tasks("one"), **options)
        assert result.data == 7
        assert subject.execute_agent("reviewer", "one", use_cache=False, **options).data == 7
        batch, call = (each.body for each in simulator.requests if each.method == "POST")
        assert batch["requests"][0]["params"] == call


def test_a_beginning_that_many_share_is_paid_for_once(face: Face, project: Path) -> None:
    """It is marked, to be kept for an hour; the sums are still exact."""
    agent = project / ".claude/agents/reviewer.md"
    agent.write_text(agent.read_text() + "Mind the details. " * 1000)
    with Simulator("ok") as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        subject.execute_batch(tasks(*(f"task {number}" for number in range(10))))
        (usage,) = simulator.stats.batch_usage.values()
        assert usage.cache_read_tokens == 9 * usage.cache_write_1h_tokens > 0
        assert spent(project) == bill(simulator)


def test_each_entry_ends_in_its_own_way(face: Face, project: Path) -> None:
    """Judged as a call's answer is; what was not answered costs nothing, and what was refused may."""
    rules = [
        Rule(ApiFault(400), when=of("bad")),
        Rule(ApiFault(529), when=of("busy")),
        Rule(Hang(), when=of("slow")),
        Rule(Answer("no", refusal=Refusal("cyber")), when=of("evil")),
    ]
    names = ("good", "bad", "busy", "slow", "evil")
    with Simulator("ok", rules=rules) as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        results = subject.execute_batch(tasks(*names), on_error="return")
        kinds = [type(result) for result in results[1:]]
        assert kinds == [InvalidRequestError, OverloadedError, BatchEntryError, RefusalError]
        assert (results[0], results[3].end) == ("ok", "expired")
        assert spent(project) == bill(simulator)
        assert Counter(line["success"] for line in ledger(project)) == {True: 1, False: 4}
        with pytest.raises(InvalidRequestError):
            subject.execute_batch(tasks(*names))  # the others are asked again, and the first error is told


def test_live_where_the_batch_has_no_answer(face: Face, project: Path) -> None:
    """If that is allowed; what the API does not accept is not asked again."""
    rules = [
        Rule(ApiFault(529), when=of("busy"), times=1),
        Rule(Hang(), when=of("slow"), times=1),
        Rule(ApiFault(400), when=of("bad")),
    ]
    with Simulator("ok", rules=rules) as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        results = subject.execute_batch(tasks("busy", "slow", "bad"), live_fallback=True, on_error="return")
        assert results[:2] == ["ok", "ok"]
        assert isinstance(results[2], InvalidRequestError)
        assert simulator.stats.calls["/v1/messages"] == 2
        assert spent(project) == bill(simulator)


def test_a_task_of_its_own_options(face: Face, project: Path) -> None:
    """Files and models may differ; a bad one is found before anything is sent."""
    (project / "a.py").write_text("A = 1")
    with Simulator("ok") as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        with pytest.raises(AgentNotFoundError, match="nobody"):
            subject.execute_batch([("reviewer", "one"), ("nobody", "two")])
        assert simulator.stats.calls == {}
        own = AgentTask("reviewer", "one", {"files": "a.py", "model": "opus"})
        assert subject.execute_batch([own, ("reviewer", "one")]) == ["ok", "ok"]
        (batch,) = (each.body["requests"] for each in simulator.requests if each.method == "POST")
        assert {one["params"]["model"] for one in batch} == {"claude-opus-5-5", "claude-haiku-5-5"}


def test_a_limit_holds(face: Face, project: Path) -> None:
    """The whole of what a batch can cost at the most has to fit; half a price goes twice as far."""
    (project / ".claude/claude.json").write_text(json.dumps({"budgets": {"per_day_usd": 0.00110}}))
    with Simulator("ok") as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        with pytest.raises(BudgetError, match="the batch is not sent: it could cost"):
            subject.execute_batch(tasks("one", "two", "three", "four", "five"), max_tokens=1000)
        assert simulator.stats.calls == {}
        assert subject.execute_batch(tasks("one", "two", "three", "four"), max_tokens=1000) == ["ok"] * 4
        # What it did not need is free again, or this could not be held.
        assert subject.execute_batch(tasks("five", "six", "seven"), max_tokens=1000) == ["ok"] * 3


def test_the_router_chooses_for_a_batch_as_for_a_call(project: Path) -> None:
    """Each task gets its own model, in both faces."""
    (project / ".claude/agents/reviewer.md").write_text("---\nname: reviewer\ndescription: R.\n---\nYou review.\n")
    hard = "Design the architecture of a payment service."
    with (
        Simulator("ok") as simulator,
        HybridOrchestrator(api_key="k", base_url=simulator.base_url, enable_cache=False) as subject,
    ):
        results = subject.execute_batch(tasks("Fix the typo in the title.", hard))
        results += asyncio.run(subject.async_face.execute_batch(tasks("Fix the typo in the title.", hard)))
        assert [result.model for result in results] == ["claude-haiku-5-5", "claude-opus-5-5"] * 2  # type: ignore[union-attr] # no errors
        # What that has saved is half of what it would have in a call, whoever collects it.
        batching, outside = subject._project.batching, Blocking(lambda: subject._project.live)
        asked = subject._project.tasks(tasks("Fix the typo in the title."), {})
        (left,) = run_now(batching.submit(outside, asked, watch=BatchWatch()))
        seen = run_now(batching.see_through(outside, left, BatchWatch(), take=lambda *_: None))
        (collected,) = seen.values()
        assert collected.choice == results[0].choice is not None  # type: ignore[union-attr]
        called = subject.execute_agent("reviewer", "Fix the typo in the title.").savings.routing_usd
        *_, batched, alone = [line["routing_saved"] for line in ledger(project)]
        assert batched == collected.savings.routing_usd == called / 2 > 0  # type: ignore[union-attr, operator]
        assert alone == called
