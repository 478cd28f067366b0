"""Claude's prompt cache: what is marked to be kept there, and who goes first where many share a long beginning.

The simulator models that cache, so what was written, read and billed as fresh is what it says.
"""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic  # noqa: F401 - takes a second, which is not to be that of a turn
import pytest

from claude_force import (
    AgentOrchestrator,
    AgentResult,
    AgentTask,
    AsyncAgentOrchestrator,
    ClaudeForceError,
    TimedOutError,
)
from claude_force.base.records import PromptCaching
from claude_force.base.usage import Usage
from claude_force.stores.runs import RunRecord, RunStore, StepRecord
from claude_force.testing import ApiFault, Hang, SeenRequest, Simulator, Stall

from .conftest import until

LONG_TOKENS = 20_000
MODEL = "claude-haiku-5-5"


@pytest.fixture(autouse=True)
def project(project: Path) -> Path:
    """A project with an agent whose body is 20,000 tokens long, another like it, and one of 1,000."""
    for name, tokens in (("expert", LONG_TOKENS), ("critic", LONG_TOKENS), ("helper", 1_000)):
        write_agent(project, name, tokens)
    return project


def write_agent(project: Path, name: str, tokens: int) -> None:
    """An agent with a body of so many tokens."""
    head = f"---\nname: {name}\ndescription: d\nmodel: haiku\n---\n"
    (project / f".claude/agents/{name}.md").write_text(head + f"{name} ".ljust(8, ".") * (tokens // 2) + "\n")


def marks(request: SeenRequest) -> list[tuple[str, str]]:
    """Where a request is marked, and for how long."""
    places = [("system", block) for block in request.body["system"]]
    places += [("prompt", block) for block in request.body["messages"][0]["content"]]
    return [(place, block["cache_control"].get("ttl", "5m")) for place, block in places if "cache_control" in block]


def orchestrator(simulator: Simulator, **options: Any) -> AsyncAgentOrchestrator:
    """One that asks this simulator."""
    return AsyncAgentOrchestrator(api_key="k", base_url=simulator.base_url, **options)


def tasks(count: int, agent: str = "expert") -> list[tuple[str, str]]:
    """As many tasks of one agent."""
    return [(agent, f"task {number}") for number in range(count)]


def billed(simulator: Simulator) -> Usage:
    """What was billed to the model of all agents here."""
    return simulator.stats.usage[MODEL]


# ---------------------------------------------------------------- what is marked


def test_a_prefix_that_is_used_once_is_not_marked(face: Any) -> None:
    """A single call never pays the price of a write, which nobody would read."""
    with Simulator() as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        subject.execute_agent("expert", "task")
        assert [marks(request) for request in simulator.requests] == [[]]
        assert billed(simulator).input_tokens >= LONG_TOKENS


def test_a_retry_is_no_second_use(face: Any) -> None:
    """What failed was not billed, so its prefix was not used."""
    faults = [ApiFault(529, headers={"retry-after-ms": "1"})]
    with Simulator(faults=faults) as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        subject.execute_agent("expert", "task")
        assert [marks(request) for request in simulator.requests] == [[], []]


def test_what_is_asked_again_is_marked(face: Any) -> None:
    """Calls one after the other: the second one keeps what the first had, and all that come later read it."""
    with Simulator() as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        results = [subject.execute_agent("expert", f"task {number}") for number in range(4)]
        assert [marks(request) for request in simulator.requests] == [[], *[[("system", "5m")]] * 3]
    assert [result.usage.cache_read_tokens > 0 for result in results] == [False, False, True, True]


def test_files_that_are_asked_about_again_are_kept_too(face: Any, project: Path) -> None:
    """The beginning reaches as far as the task: agent and files are written once, and read by the next question."""
    (project / "book.txt").write_text("A page. " * 5_000)
    with Simulator() as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        for number in range(3):
            result = subject.execute_agent("expert", f"question {number}", files="book.txt")
        assert marks(simulator.requests[-1]) == [("system", "5m"), ("prompt", "5m")]
        assert result.usage.cache_read_tokens > LONG_TOKENS + 9_000
        result = subject.execute_agent("expert", "question", files=[])
        assert result.usage.cache_read_tokens >= LONG_TOKENS


def test_what_the_model_would_not_keep_is_not_marked(face: Any) -> None:
    """Below the model's minimum, a mark is for nothing."""
    with Simulator() as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        for number in range(3):
            subject.execute_agent("reviewer", f"task {number}")
        assert [marks(request) for request in simulator.requests] == [[]] * 3


async def test_a_batch_knows_that_more_is_to_come() -> None:
    """One at a time, the first task is marked already, as the others will read what it has kept."""
    with Simulator() as simulator:
        async with orchestrator(simulator, max_concurrent=1) as subject:
            await subject.execute_multiple(tasks(3))
        assert [marks(request) for request in simulator.requests] == [[("system", "5m")]] * 3
        assert billed(simulator).cache_read_tokens // LONG_TOKENS == 2


async def test_a_batch_of_the_same_question_has_one_use() -> None:
    """Identical tasks share one call, so nothing is kept for a second."""
    with Simulator() as simulator:
        async with orchestrator(simulator) as subject:
            await subject.execute_multiple([("expert", "task")] * 5)
        assert [marks(request) for request in simulator.requests] == [[]]


async def test_a_task_alone_with_its_model_is_not_marked() -> None:
    """Another model reads nothing that this one has kept."""
    with Simulator() as simulator:
        async with orchestrator(simulator) as subject:
            await subject.execute_multiple([AgentTask("expert", "a", {"model": "opus"}), ("expert", "b")])
        assert [marks(request) for request in simulator.requests] == [[], []]


async def test_a_batch_that_starts_at_once_marks_nothing_short() -> None:
    """Who does not wait cannot read either, so where nobody comes later, a mark would only cost."""
    with Simulator() as simulator:
        async with orchestrator(simulator) as subject:
            await subject.execute_multiple(tasks(5, "helper"))
        assert [marks(request) for request in simulator.requests] == [[]] * 5


def test_steps_of_one_agent_share_its_body(face: Any) -> None:
    """The first step of two that ask the same agent is marked, and the second reads; one alone is not marked."""
    steps = [
        {"id": "a", "agent": "expert", "task": "a"},
        {"id": "b", "agent": "expert", "task": "b", "dependencies": ["a"]},
        {"id": "c", "agent": "critic", "task": "c", "dependencies": ["b"]},
    ]
    with Simulator() as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        subject.execute_workflow({"name": "w", "steps": steps})
        assert [marks(request) for request in simulator.requests] == [[("system", "5m")], [("system", "5m")], []]
        assert billed(simulator).cache_read_tokens // LONG_TOKENS == 1


# ---------------------------------------------------------------- who goes first


async def test_of_twenty_one_goes_first() -> None:
    """The prefix is written once and read by all others, who go as soon as its answer begins; none is billed fresh."""
    with Simulator() as simulator:
        simulator.hold()
        async with orchestrator(simulator, max_concurrent=20) as subject:
            batch = asyncio.create_task(subject.execute_multiple(tasks(20)))
            await until(simulator, lambda stats: stats.in_flight == 1)
            simulator.release(1)
            await until(simulator, lambda stats: stats.in_flight == 19)
            simulator.release()
            results = await batch
        usage = billed(simulator)
    assert len(results) == 20
    assert LONG_TOKENS <= usage.cache_write_5m_tokens < LONG_TOKENS + 10
    assert 19 * LONG_TOKENS <= usage.cache_read_tokens < 19 * (LONG_TOKENS + 10)
    assert usage.input_tokens < 20 * 10


async def test_the_first_event_is_enough() -> None:
    """The others do not wait for the first one's answer, which is silent after its first event here."""
    with Simulator(faults=[Stall(after_events=1)]) as simulator:
        async with orchestrator(simulator, max_concurrent=20, max_retries=0) as subject:
            results = [result async for _, result in subject.as_completed(tasks(20), attempt_timeout_seconds=4)]
        assert billed(simulator).cache_read_tokens // LONG_TOKENS == 19
    assert [isinstance(result, TimedOutError) for result in results] == [False] * 19 + [True]


async def test_calls_of_ones_own_gather_are_warmed_too() -> None:
    """Whoever starts the calls: what is here at once is known to share."""
    with Simulator() as simulator:
        async with orchestrator(simulator, max_concurrent=20) as subject:
            await subject.load_agent_definition("expert")
            await asyncio.gather(*(subject.execute_agent(*task) for task in tasks(20)))
        usage = billed(simulator)
    fresh = usage.input_tokens // LONG_TOKENS
    assert fresh <= 1
    assert usage.cache_write_5m_tokens // LONG_TOKENS == 1
    assert usage.cache_read_tokens // LONG_TOKENS == 19 - fresh


@pytest.mark.parametrize("fault", [ApiFault(529, headers={"retry-after-ms": "1"}), ApiFault(400)], ids=["busy", "bad"])
async def test_a_leader_that_fails_is_followed_by_the_next(fault: ApiFault) -> None:
    """Whether it will try again or not: another one leads at once, and all others read."""
    with Simulator(faults=[fault]) as simulator:
        async with orchestrator(simulator, max_concurrent=20) as subject:
            results = await subject.execute_multiple(tasks(20), on_error="return")
        usage = billed(simulator)
    failed = sum(isinstance(result, ClaudeForceError) for result in results)
    assert failed == (fault.status == 400)
    assert usage.cache_write_5m_tokens // LONG_TOKENS == 1
    assert usage.cache_read_tokens // LONG_TOKENS == 19 - failed


async def test_a_leader_that_is_cancelled_is_followed_by_the_next() -> None:
    """Its place is free at once, and nobody waits for it any longer."""
    with Simulator() as simulator:
        simulator.hold()
        async with orchestrator(simulator, max_concurrent=5) as subject:
            await subject.load_agent_definition("expert")
            calls = [asyncio.create_task(subject.execute_agent(*task)) for task in tasks(5)]
            await until(simulator, lambda stats: stats.in_flight == 1)
            calls[0].cancel()
            await until(simulator, lambda stats: stats.in_flight == 1 and stats.abandoned == 1)
            simulator.release()
            results = await asyncio.gather(*calls, return_exceptions=True)
        assert billed(simulator).cache_read_tokens // LONG_TOKENS == 3
    assert isinstance(results[0], asyncio.CancelledError)
    assert not any(isinstance(result, BaseException) for result in results[1:])
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_nobody_waits_long_for_a_leader_that_is_silent() -> None:
    """After a quarter of their time they go: one leads, for those who come later, and the others pay plainly."""
    with Simulator(faults=[Hang()]) as simulator:
        async with orchestrator(simulator, max_concurrent=4, max_retries=0) as subject:
            results = await subject.execute_multiple(
                tasks(8), on_error="return", timeout_seconds=8, attempt_timeout_seconds=4
            )
        usage = billed(simulator)
    assert sum(isinstance(result, ClaudeForceError) for result in results) == 1
    assert usage.cache_write_5m_tokens // LONG_TOKENS == 1
    assert usage.input_tokens // LONG_TOKENS <= 2


async def test_each_prefix_has_a_leader_of_its_own() -> None:
    """Two agents in one batch: two go first."""
    mixed = [task for pair in zip(tasks(10), tasks(10, "critic"), strict=True) for task in pair]
    with Simulator() as simulator:
        simulator.hold()
        async with orchestrator(simulator, max_concurrent=20) as subject:
            batch = asyncio.create_task(subject.execute_multiple(mixed))
            await until(simulator, lambda stats: stats.in_flight == 2)
            simulator.release()
            await batch
        assert simulator.requests[0].system != simulator.requests[1].system
        usage = billed(simulator)
    assert (usage.cache_write_5m_tokens // LONG_TOKENS, usage.cache_read_tokens // LONG_TOKENS) == (2, 18)


@pytest.mark.parametrize("agent", ["reviewer", "helper"])
async def test_nobody_waits_for_little(agent: str) -> None:
    """What is too short to be kept, or to be worth a second, is sent at once; of the latter, one alone pays a write."""
    with Simulator() as simulator:
        simulator.hold()
        async with orchestrator(simulator, max_concurrent=6) as subject:
            batch = asyncio.create_task(subject.execute_multiple(tasks(12, agent)))
            await until(simulator, lambda stats: stats.in_flight == 6)
            simulator.release()
            await batch
        usage = billed(simulator)
    assert usage.cache_write_5m_tokens // 1_000 == (agent == "helper")
    assert usage.cache_read_tokens // 1_000 == (6 if agent == "helper" else 0)


async def test_warm_fan_out_can_be_switched_off(project: Path) -> None:
    """Then nobody waits, and nothing is marked for those who could not read it."""
    (project / ".claude/claude.json").write_text(json.dumps({"cache": {"warm_fan_out": False}}))
    with Simulator() as simulator:
        simulator.hold()
        async with orchestrator(simulator, max_concurrent=4) as subject:
            batch = asyncio.create_task(subject.execute_multiple(tasks(4)))
            await until(simulator, lambda stats: stats.in_flight == 4)
            simulator.release()
            await batch
        usage = billed(simulator)
    assert (usage.input_tokens // LONG_TOKENS, usage.cache_write_5m_tokens // LONG_TOKENS) == (4, 0)


async def test_the_limit_of_calls_still_holds() -> None:
    """Who waits has a place: never more than `max_concurrent` are in flight, and after the first, that many are."""
    with Simulator() as simulator:
        simulator.hold()
        async with orchestrator(simulator, max_concurrent=7) as subject:
            batch = asyncio.create_task(subject.execute_multiple(tasks(30)))
            await until(simulator, lambda stats: stats.in_flight == 1)
            simulator.release(1)
            await until(simulator, lambda stats: stats.in_flight == 7)
            simulator.release()
            await batch
        assert simulator.stats.max_in_flight == 7


def test_threads_wait_for_each_other() -> None:
    """The sync face in a pool of threads: after the first use, one thread writes, and the others read."""
    with Simulator() as simulator, ThreadPoolExecutor(8) as pool:
        with AgentOrchestrator(api_key="k", base_url=simulator.base_url) as subject:
            subject.execute_agent("expert", "first")
            simulator.hold()
            calls = [pool.submit(subject.execute_agent, *task) for task in tasks(8)]
            simulator.wait_until(lambda stats: stats.in_flight == 1)
            simulator.release()
            for call in calls:
                call.result()
        usage = billed(simulator)
    assert (usage.cache_write_5m_tokens // LONG_TOKENS, usage.cache_read_tokens // LONG_TOKENS) == (1, 7)


async def test_a_thread_never_waits_for_itself() -> None:
    """A blocking call where a task of its own thread goes first, which cannot move meanwhile: it is sent at once."""
    with Simulator(faults=[None, Hang()]) as simulator:
        with AgentOrchestrator(api_key="k", base_url=simulator.base_url) as subject:
            await subject.execute_agent_async("expert", "first")
            leader = asyncio.create_task(subject.execute_agent_async("expert", "leader"))
            # Of the leader, and not still of the first: who comes second would hang, and this thread with it.
            await until(simulator, lambda stats: stats.in_flight == 1 and stats.calls["/v1/messages"] == 2)
            assert subject.execute_agent("expert", "blocking").attempts == 1
            leader.cancel()
            await asyncio.wait([leader])
        assert [marks(request) for request in simulator.requests] == [[], [("system", "5m")], []]


# ---------------------------------------------------------------- for how long


@pytest.mark.parametrize(
    ("options", "budgets", "ttl"),
    [
        ({}, {}, "1h"),
        ({"max_cost_usd": 100}, {}, "5m"),
        ({"engine": "durable"}, {}, "1h"),
        ({"engine": "durable"}, {"per_day_usd": 100}, "5m"),
    ],
    ids=["free", "limited", "handed over", "to a worker with a limit"],
)
def test_a_run_that_takes_long_keeps_it_for_an_hour(
    face: Any, project: Path, options: dict[str, Any], budgets: dict[str, Any], ttl: str
) -> None:
    """As it took more than five minutes the last time; but a limit in dollars reckons with what five minutes cost."""
    (project / ".claude/claude.json").write_text(json.dumps({"budgets": budgets}))
    now = datetime.now(UTC)
    with closing(RunStore(project / ".claude/runs.db")) as store:
        store.begin(RunRecord(id="1", workflow="w", status="running", started_at=now))
        done = StepRecord(
            step="a", agent="expert", status="done", started_at=now - timedelta(seconds=200), ended_at=now
        )
        store.note("1", done, replace(done, step="b"))
    steps = [
        {"id": "a", "agent": "expert", "task": "a"},
        {"id": "b", "agent": "expert", "task": "b", "dependencies": ["a"]},
    ]
    with Simulator() as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        subject.execute_workflow({"name": "w", "steps": steps}, **options)
        assert [marks(request) for request in simulator.requests] == [[("system", ttl)]] * 2


# ---------------------------------------------------------------- what is said


async def test_results_say_what_was_read_written_and_saved() -> None:
    """By the prices of the day, for each call and for all: what was written cost more, what was read a tenth."""
    with Simulator() as simulator:
        async with orchestrator(simulator, max_concurrent=3) as subject:
            results = [result async for _, result in subject.as_completed(tasks(3))]
    figures = [result.prompt_caching for result in results if isinstance(result, AgentResult)]
    figures.sort(key=lambda caching: caching.read_tokens)
    assert [caching.written_tokens // LONG_TOKENS for caching in figures] == [1, 0, 0]
    assert [caching.read_tokens // LONG_TOKENS for caching in figures] == [0, 1, 1]
    written, *read = (caching.saved_usd or Decimal(0) for caching in figures)
    assert written == -figures[0].written_tokens * Decimal("0.025") / 1_000_000  # 0.125 instead of 0.10 a million
    assert read == [figures[1].read_tokens * Decimal("0.09") / 1_000_000] * 2
    total = sum(figures, PromptCaching())
    assert total.saved_usd == written + sum(read)
    assert total.shared_tokens == total.read_tokens + total.written_tokens
    assert [caching.waited_s > 0 for caching in figures] == [False, True, True]
    lines = [json.loads(line) for line in subject.performance_tracker.path.read_text().splitlines()]
    assert sorted(line["prompt_cache_saved"] for line in lines) == sorted(float(c.saved_usd or 0) for c in figures)
    assert sorted("prompt_cache_wait_ms" in line for line in lines) == [False, True, True]


def test_a_workflow_says_it_for_all_its_calls(face: Any) -> None:
    """Items of a list, too."""
    steps = [{"id": "a", "agent": "expert", "task": "{{ item }}", "for_each": "{{ inputs.names }}"}]
    workflow = {"name": "w", "steps": steps, "inputs": {"names": {"type": "list"}}}
    with Simulator() as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        result = subject.execute_workflow(workflow, {"names": ["a", "b", "c"]})
        billed = simulator.stats.usage[MODEL]
    assert result.prompt_caching.read_tokens == billed.cache_read_tokens
    assert result.prompt_caching.read_tokens // LONG_TOKENS == 2
    assert result.to_dict()["prompt_caching"]["saved_usd"] == float(result.prompt_caching.saved_usd) > 0


def test_a_cached_answer_has_no_part_in_it(face: Any) -> None:
    """What our own cache gives, Claude's had nothing to do with."""
    with Simulator() as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        results = [subject.execute_agent("expert", task) for task in ("a", "b", "b")]
    assert results[1].prompt_caching.written_tokens >= LONG_TOKENS
    assert results[2].prompt_caching == PromptCaching()
