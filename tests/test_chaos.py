"""A bad day: overload, limits, streams that break, stalls and a Ctrl-C, in one batch of a thousand tasks."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from claude_force import AgentResult, AsyncAgentOrchestrator
from claude_force.testing import ApiFault, ApiLimits, CutStream, Rule, Simulator, Stall

from .conftest import echo, ledger

if TYPE_CHECKING:
    from claude_force import ClaudeForceError

COUNT = 1000
RULES = (
    Rule(ApiFault(529, headers={"retry-after-ms": "2"}), probability=0.10),
    Rule(ApiFault(429, headers={"retry-after-ms": "20"}), probability=0.05),
    Rule(CutStream(after_events=3), probability=0.03),
    Rule(Stall(after_events=3), probability=0.005),
)


@pytest.fixture(autouse=True)
def project(project: Path) -> Path:
    """The project of all tests, with a patient breaker, as the trouble here is a rule and no outage."""
    settings = {
        "breaker": {"failure_threshold": 30, "timeout_seconds": 0.5},
        "defaults": {"attempt_timeout_seconds": 2},  # in less, a busy machine may not have sent it
    }
    (project / ".claude/claude.json").write_text(json.dumps(settings))
    return project


def attempts(entries: list[dict[str, object]]) -> int:
    """Requests sent, by the ledger, which leaves out the usual 1."""
    return sum(int(str(entry.get("attempts", 1))) for entry in entries)


async def test_a_bad_day_loses_nothing(project: Path) -> None:
    """Cancelled in the middle, then run to the end: each task ends in one way, and what was paid is what is known."""
    ended: dict[int, AgentResult | ClaudeForceError] = {}

    def streamed(_: str) -> None:
        """A stream can break where a plain answer cannot."""

    async def run(todo: list[int]) -> None:
        tasks = [("reviewer", f"task {number}") for number in todo]
        outcomes = subject.as_completed(tasks, on_text=streamed, timeout_seconds=60)
        async for place, result in outcomes:
            assert todo[place] not in ended, "a task ended twice"
            ended[todo[place]] = result

    with Simulator(answer=echo, rules=RULES, seed=3, max_recorded=0) as simulator:
        async with AsyncAgentOrchestrator(
            api_key="k", base_url=simulator.base_url, max_concurrent=50, max_retries=12
        ) as subject:
            batch = asyncio.create_task(run(list(range(COUNT))))
            await asyncio.to_thread(simulator.wait_until, lambda stats: stats.statuses.get(200, 0) > COUNT // 3)
            batch.cancel()  # as Ctrl-C does
            with pytest.raises(asyncio.CancelledError):
                await batch
            await asyncio.to_thread(simulator.wait_until, lambda stats: stats.in_flight == 0)
            assert 0 < len(ended) < COUNT
            sent, counted = simulator.stats.calls["/v1/messages"], attempts(ledger(project))
            await run([number for number in range(COUNT) if number not in ended])
        stats = simulator.stats
    assert sorted(ended) == list(range(COUNT))
    wrong = {number: result for number, result in ended.items() if result != str(number)}
    assert not wrong
    entries = ledger(project)
    states = Counter(entry.get("error_type", "done") for entry in entries)
    assert states["done"] == COUNT
    assert set(states) <= {"done", "Interrupted"}
    assert states["Interrupted"] <= 50
    assert 0 <= counted - sent <= states["Interrupted"]  # what was cancelled may not have reached the server
    assert attempts(entries) - counted == stats.calls["/v1/messages"] - sent


async def test_a_limit_is_shared_out_with_few_refusals() -> None:
    """Against real token buckets: all is done, in about the order of asking, and the server hardly ever says no."""
    limits = ApiLimits(requests_per_minute=6000, burst_s=1)  # 100 a second, after the first 100
    with Simulator(answer=echo, limits=limits, max_recorded=0) as simulator:
        async with AsyncAgentOrchestrator(api_key="k", base_url=simulator.base_url, max_concurrent=40) as subject:
            tasks = [("reviewer", f"task {number}") for number in range(400)]
            order = [place async for place, result in subject.as_completed(tasks) if isinstance(result, AgentResult)]
        refused = simulator.stats.statuses.get(429, 0)
    assert sorted(order) == list(range(400))
    # Four times as many as are under way; who starves is later by all that are still to come.
    assert max(abs(place - number) for place, number in enumerate(order)) <= 4 * 40
    assert refused <= 8
