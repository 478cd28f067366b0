"""Limits on money, over real HTTP: what is spent never passes them, by the simulator's own bill."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from claude_force import AgentOrchestrator, AsyncAgentOrchestrator, BudgetError, ClaudeForceError
from claude_force.testing import ApiFault, CutStream, Hang

from .conftest import TOKENS, WORST, bill, configure, spender

Face = Callable[..., Any]

OUTPUT = Decimal("0.0005")


def test_one_more_is_not_sent(face: Face, project: Path) -> None:
    """The message says what it could have cost, what is left, and of which limit."""
    configure(project, budgets={"per_day_usd": float(2 * WORST)})
    with spender() as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        for task in ("one", "two"):
            assert subject.execute_agent("reviewer", task, max_tokens=TOKENS) == task
        assert subject.execute_agent("reviewer", "one", max_tokens=TOKENS).cached  # and needs no room
        with pytest.raises(
            BudgetError, match=r"'reviewer' is not sent: it could cost \$0.0005, and \$0.0001"
        ) as raised:
            subject.execute_agent("reviewer", "three", max_tokens=TOKENS)
        assert simulator.stats.calls == {"/v1/messages": 2}
    error = raised.value
    assert (error.exit_code, error.limit_usd) == (4, 2 * WORST)
    assert error.spent_usd == bill(simulator)
    assert "budgets.per_day_usd" in str(error)


@pytest.mark.usefixtures("project")
def test_a_limit_of_ones_own(face: Face) -> None:
    """`max_cost_usd` is for all calls of one orchestrator, and nobody else's."""
    with spender() as simulator:
        for _ in range(2):
            with face(
                api_key="k", base_url=simulator.base_url, max_cost_usd=float(WORST), enable_cache=False
            ) as subject:
                subject.execute_agent("reviewer", "one", max_tokens=TOKENS)
                with pytest.raises(BudgetError, match="of max_cost_usd"):
                    subject.execute_agent("reviewer", "two", max_tokens=TOKENS)
        assert simulator.stats.calls == {"/v1/messages": 2}


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf")])
def test_a_limit_that_is_none(face: Face, limit: float) -> None:
    """Is said at once."""
    with pytest.raises(ClaudeForceError, match="max_cost_usd is"):
        face(max_cost_usd=limit)


@pytest.mark.parametrize(
    ("fault", "is_free"),
    [
        (ApiFault(400), True),
        (ApiFault(529), True),
        (ApiFault(429), True),
        (CutStream(), False),
        (Hang(), False),
    ],
    ids=["400", "529", "429", "cut", "hang"],
)
def test_what_a_failure_counts(face: Face, project: Path, fault: Any, is_free: object) -> None:
    """A refusal is free; what may have been billed counts as the worst case."""
    configure(project, budgets={"per_day_usd": float(WORST)})
    seconds = 1 if isinstance(fault, Hang) else 60
    with spender(faults=[fault]) as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        with pytest.raises(ClaudeForceError):
            subject.execute_agent("reviewer", "one", max_tokens=TOKENS, timeout_seconds=seconds, on_text=lambda _: None)
        if is_free:
            assert subject.execute_agent("reviewer", "two", max_tokens=TOKENS) == "two"
        else:
            with pytest.raises(BudgetError):
                subject.execute_agent("reviewer", "two", max_tokens=TOKENS)


def test_where_nobody_answers_nothing_is_spent(face: Face, project: Path) -> None:
    """A laptop without a network must not eat the budget of its day."""
    configure(project, budgets={"per_day_usd": float(WORST)})
    with spender() as simulator:
        url = simulator.base_url
    with face(api_key="k", base_url=url) as subject:
        for _ in range(3):
            with pytest.raises(ClaudeForceError, match="no connection"):
                subject.execute_agent("reviewer", "one", max_tokens=TOKENS)


def test_what_has_no_price_is_not_sent(face: Face, project: Path) -> None:
    """Nobody could say that it keeps the limit."""
    configure(project, budgets={"per_day_usd": 100})
    with spender() as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        with pytest.raises(BudgetError, match="the price of 'llama' is not known"):
            subject.execute_agent("reviewer", "one", model="llama")
        assert simulator.stats.calls == {}


@pytest.mark.usefixtures("_from_nursery")
def test_two_hundred_at_once_and_eight_processes(project: Path) -> None:
    """Nobody sends what could pass the limit; the others wait for what is held, and use it all."""
    limit = 60 * OUTPUT
    configure(project, budgets={"per_day_usd": float(limit)})
    script = """
import asyncio, sys
import claude_force

async def main():
    async with claude_force.AsyncAgentOrchestrator(None, "k", 25, base_url=sys.argv[1]) as subject:
        tasks = [("reviewer", f"{sys.argv[2]} {number}") for number in range(25)]
        results = await subject.execute_multiple(tasks, on_error="return", max_tokens=1000)
    print(sum(isinstance(result, str) for result in results))
    print(sum(type(result) is claude_force.BudgetError for result in results))

asyncio.run(main())
"""
    with spender(latency=0.02) as simulator:
        command = ["quick-python", "-c", script, simulator.base_url]

        def ask(number: int) -> list[int]:
            done = subprocess.run([*command, str(number)], capture_output=True, text=True, check=True)
            return [int(line) for line in done.stdout.split()]

        with ThreadPoolExecutor(8) as pool:
            counts = list(pool.map(ask, range(8)))
        spent = bill(simulator)
    done, refused = map(sum, zip(*counts, strict=True))
    assert done + refused == 200
    assert spent <= limit
    assert done >= 59  # what is left in the end is less than one worst case
    with AgentOrchestrator() as subject:
        (standing,) = subject._project.budgets.standing(datetime.now(UTC))
    assert [standing.spent_usd, standing.held_usd] == [spent, 0]
    ledger = [json.loads(line) for line in (project / ".claude/metrics/executions.jsonl").read_text().splitlines()]
    assert sum(Decimal(str(line["estimated_cost"])) for line in ledger if line["success"]) == spent


@pytest.mark.usefixtures("project")
async def test_a_cancelled_call_counts_as_its_worst_case() -> None:
    """It is not known what it has cost; and nothing stays held."""
    with spender(faults=[Hang()]) as simulator:
        async with AsyncAgentOrchestrator(
            None, "k", base_url=simulator.base_url, max_cost_usd=float(WORST), enable_cache=False
        ) as subject:
            call = asyncio.create_task(subject.execute_agent("reviewer", "one", max_tokens=TOKENS))
            await asyncio.to_thread(simulator.wait_until, lambda stats: stats.in_flight == 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            with pytest.raises(BudgetError, match=r"of max_cost_usd \(\$0.00055\) is left;"):
                await subject.execute_agent("reviewer", "two", max_tokens=TOKENS)


def test_a_run_has_one_limit_however_often_it_is_taken_up(face: Face, project: Path) -> None:
    """What the parts before have spent counts."""
    configure(project, budgets={"per_run_usd": 0.0012})  # room for two: the third is told a good deal more
    steps: list[dict[str, Any]] = [
        {
            "id": name,
            "agent": "reviewer",
            "task": f"Do {name}. {{{{ inputs.x }}}}",
            "max_tokens": TOKENS,
            "dependencies": dependencies,
        }
        for name, dependencies in (("a", []), ("b", ["a"]), ("c", ["b"]))
    ]
    with spender() as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        workflow = {"name": "w", "inputs": {"x": {"type": "string"}}, "steps": steps}
        first = subject.execute_workflow(workflow, {"x": "x"}, on_error="return")
        second = subject.execute_workflow(workflow, {"x": "x"}, resume=first.run_id, on_error="return")
        assert [step.status for step in first.steps.values()] == ["done", "done", "not_run"]
        assert [step.status for step in second.steps.values()] == ["cached", "cached", "not_run"]
        assert (first.exit_code, second.exit_code) == (4, 4)
        assert isinstance(second.error, BudgetError)
        assert simulator.stats.calls == {"/v1/messages": 2}
        third = subject.execute_workflow(workflow, {"x": "x"}, resume=first.run_id, max_cost_usd=9, on_error="return")
        assert third.exit_code == 4  # the limit of the config stands
    configure(project)
    with spender() as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        last = subject.execute_workflow(workflow, {"x": "x"}, resume=first.run_id, on_error="return")
    assert last.status == "completed"
