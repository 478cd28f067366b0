"""Many agents at once: what users of the async face rely on."""

import asyncio
import fcntl
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from claude_force import (
    AgentOrchestrator,
    AgentResult,
    AgentTask,
    AsyncAgentOrchestrator,
    ClaudeForceError,
    CredentialsError,
    InputError,
    NotRunError,
    OverloadedError,
)
from claude_force.testing import Answer, ApiFault, Hang, Rule, Simulator, Stall

from .conftest import echo, until

SOON = {"retry-after-ms": "1"}


pytestmark = pytest.mark.usefixtures("project")


@pytest.fixture
async def no_leak() -> AsyncIterator[None]:
    """The test leaves no task behind, and no exception that nobody saw."""
    unseen: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.set_exception_handler(lambda _, context: unseen.append(context))
    before = asyncio.all_tasks()
    yield
    gc.collect()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()
    assert unseen == []


def orchestrator(simulator: Simulator, **options: Any) -> AsyncAgentOrchestrator:
    """One that asks this simulator."""
    return AsyncAgentOrchestrator(api_key="k", base_url=simulator.base_url, **options)


def tasks(count: int) -> Iterator[tuple[str, str]]:
    """As many tasks, each with its own answer."""
    return (("reviewer", f"task {number}") for number in range(count))


# ---------------------------------------------------------------- many at once


@pytest.mark.usefixtures("no_leak")
@pytest.mark.parametrize("max_concurrent", [1, 3, 10])
async def test_no_more_than_max_concurrent(max_concurrent: int) -> None:
    """The server never sees more at once, sees that many, and results come in the order of the tasks."""
    with Simulator(answer=echo) as simulator:
        simulator.hold()
        async with orchestrator(simulator, max_concurrent=max_concurrent) as subject:
            batch = asyncio.create_task(subject.execute_multiple(tasks(30)))
            await until(simulator, lambda stats: stats.in_flight == max_concurrent)
            simulator.release()
            results = await batch
        assert simulator.stats.max_in_flight == max_concurrent
        assert simulator.stats.connections_made <= max_concurrent
    assert results == [str(number) for number in range(30)]


@pytest.mark.usefixtures("no_leak")
async def test_calls_of_ones_own_gather_are_limited_too() -> None:
    """Whoever starts a thousand calls at once still has `max_concurrent` in flight."""
    with Simulator(answer=echo) as simulator:
        async with orchestrator(simulator, max_concurrent=4) as subject:
            results = await asyncio.gather(*(subject.execute_agent(*task) for task in tasks(200)))
        assert simulator.stats.max_in_flight <= 4
    assert results == [str(number) for number in range(200)]


async def test_a_task_may_have_options_of_its_own(project: Path) -> None:
    """An `AgentTask` brings its own files and model, which win over those of the batch; pairs may stand beside it."""
    (project / "a.py").write_text("A = 1")
    with Simulator(answer="Fine.") as simulator:
        async with orchestrator(simulator, max_concurrent=1) as subject:
            own = AgentTask("reviewer", "own", {"model": "opus", "files": "a.py"})
            assert await subject.execute_multiple([own, ("reviewer", "common")], model="sonnet") == ["Fine.", "Fine."]
        assert [request.model for request in simulator.requests] == ["claude-opus-5-5", "claude-sonnet-5-5"]
        assert ["A = 1" in request.prompt for request in simulator.requests] == [True, False]


@pytest.mark.usefixtures("no_leak")
async def test_tasks_are_drawn_as_places_become_free() -> None:
    """A generator of ten thousand tasks is not read ahead."""
    drawn = 0

    def endless() -> Iterator[tuple[str, str]]:
        nonlocal drawn
        for drawn in range(1, 10_001):
            yield "reviewer", f"task {drawn}"

    with Simulator(answer=echo) as simulator:
        async with orchestrator(simulator, max_concurrent=3) as subject:
            outcomes = subject.as_completed(endless())
            for _ in range(5):
                assert not isinstance((await anext(outcomes)).result, ClaudeForceError)
            await outcomes.aclose()
    assert drawn <= 20


@pytest.mark.usefixtures("no_leak")
async def test_as_completed_gives_the_fast_ones_first() -> None:
    """A slow task holds nobody up."""
    slow = Rule(Answer("slow", latency_s=0.3), when=lambda request: request.prompt.endswith("task 0"))
    with Simulator(answer=echo, rules=[slow]) as simulator:
        async with orchestrator(simulator) as subject:
            outcomes = [outcome async for outcome in subject.as_completed(tasks(3))]
    assert [outcome.number for outcome in outcomes][-1] == 0
    assert {outcome.number: outcome.result for outcome in outcomes} == {0: "slow", 1: "1", 2: "2"}


# ---------------------------------------------------------------- errors


@pytest.mark.usefixtures("no_leak")
async def test_an_error_stands_in_its_place() -> None:
    """With `on_error="return"` the others are not touched, and errors are values."""
    refused = Rule(ApiFault(400), when=lambda request: request.prompt.endswith("task 1"))
    with Simulator(answer=echo, rules=[refused]) as simulator:
        async with orchestrator(simulator) as subject:
            results = await subject.execute_multiple([*tasks(3), ("nobody", "x"), ("reviewer", "")], on_error="return")
    assert [results[0], results[2]] == ["0", "2"]
    assert [type(results[n]).__name__ for n in (1, 3, 4)] == ["InvalidRequestError", "AgentNotFoundError", "TaskError"]


@pytest.mark.usefixtures("no_leak")
async def test_the_first_error_ends_the_batch(project: Path) -> None:
    """Nothing further is sent, what is in flight is finished and in the ledger, then the error is raised."""
    refused = Rule(ApiFault(400), when=lambda request: request.prompt.endswith("task 1"))
    with Simulator(answer=echo, rules=[refused]) as simulator:
        simulator.hold()
        async with orchestrator(simulator, max_concurrent=2) as subject:
            batch = asyncio.create_task(subject.execute_multiple(tasks(50)))
            await until(simulator, lambda stats: stats.in_flight == 2)
            simulator.release()
            with pytest.raises(ClaudeForceError, match="simulated"):
                await batch
        sent = simulator.stats.calls["/v1/messages"]
    assert sent < 25  # some of the quick ones may go out before the error has arrived
    assert len((project / ".claude/metrics/executions.jsonl").read_text().splitlines()) == sent


@pytest.mark.usefixtures("no_leak")
@pytest.mark.parametrize(
    "fault",
    [
        ApiFault(401),
        ApiFault(403),
        ApiFault(402),
        ApiFault(404),
        ApiFault(429, error_code="enforced_spend_limit_reached"),
    ],
    ids=str,
)
async def test_a_terminal_error_ends_everything(fault: ApiFault) -> None:
    """What every further call would meet is met once: nothing more is sent, and the rest says that it was not run."""
    with Simulator(rules=[Rule(fault)]) as simulator:
        async with orchestrator(simulator, max_concurrent=2) as subject:
            results = await subject.execute_multiple(tasks(50), on_error="return")
        assert simulator.stats.calls["/v1/messages"] <= 2
    kinds = [type(result) for result in results]
    assert kinds.count(NotRunError) >= 48
    (cause, *_) = [result for result in results if not isinstance(result, NotRunError)]
    assert isinstance(cause, ClaudeForceError)
    assert results[-1].exit_code == cause.exit_code  # type: ignore[union-attr] # a NotRunError, as counted above


@pytest.mark.usefixtures("no_leak")
async def test_trouble_that_passes_ends_nothing(project: Path) -> None:
    """A batch with overload here and there is whole in the end."""
    (project / ".claude/claude.json").write_text('{"breaker": {"failure_threshold": 50}}')
    busy = Rule(ApiFault(529, headers=SOON), probability=0.3)
    with Simulator(answer=echo, rules=[busy], seed=7) as simulator:
        async with orchestrator(simulator, max_retries=20) as subject:
            results = await subject.execute_multiple(tasks(60))
        assert simulator.stats.statuses[529] > 5
    assert results == [str(number) for number in range(60)]


# ---------------------------------------------------------------- streams


@pytest.mark.usefixtures("no_leak")
async def test_a_stream_ends_with_its_result() -> None:
    """Pieces of text as they come, then the finished answer with its facts."""
    with Simulator(answer="one two three " * 20) as simulator:
        async with orchestrator(simulator) as subject:
            *pieces, result = [piece async for piece in subject.stream("reviewer", "x")]
    assert isinstance(result, AgentResult)
    assert len(pieces) > 1
    assert "".join(pieces) == result == "one two three " * 20


@pytest.mark.usefixtures("no_leak")
async def test_a_stream_that_is_left_is_cancelled() -> None:
    """Leaving the loop early closes the connection."""
    with Simulator(answer="word " * 50_000) as simulator:
        async with orchestrator(simulator) as subject:
            stream = subject.stream("reviewer", "x", max_tokens=100_000)
            assert await anext(stream)
            await stream.aclose()
            await until(simulator, lambda stats: stats.in_flight == 0)


@pytest.mark.usefixtures("no_leak")
async def test_a_streams_error_is_raised() -> None:
    """What the call raises, the loop over the stream raises."""
    with Simulator(faults=[ApiFault(401)]) as simulator:
        async with orchestrator(simulator) as subject:
            with pytest.raises(CredentialsError):
                _ = [piece async for piece in subject.stream("reviewer", "x")]


# ---------------------------------------------------------------- cancelling


@pytest.mark.usefixtures("no_leak")
async def test_a_cancelled_call_leaves_nothing(project: Path) -> None:
    """A timeout of the caller's closes the connection; the ledger knows that the turn was interrupted."""
    with Simulator(faults=[Hang()]) as simulator:
        async with orchestrator(simulator) as subject:
            call = asyncio.create_task(subject.execute_agent("reviewer", "x"))
            await until(simulator, lambda stats: stats.in_flight == 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(simulator, lambda stats: stats.in_flight == 0)
    assert '"error_type":"Interrupted"' in (project / ".claude/metrics/executions.jsonl").read_text()


@pytest.mark.usefixtures("no_leak")
async def test_a_cancelled_batch_leaves_nothing() -> None:
    """Cancelling a batch cancels each of its calls."""
    with Simulator() as simulator:
        simulator.hold()
        async with orchestrator(simulator, max_concurrent=5) as subject:
            batch = asyncio.create_task(subject.execute_multiple(tasks(20)))
            await until(simulator, lambda stats: stats.in_flight == 5)
            batch.cancel()
            with pytest.raises(asyncio.CancelledError):
                await batch
            await until(simulator, lambda stats: stats.in_flight == 0)
            simulator.release()


@pytest.mark.usefixtures("no_leak")
async def test_a_cancelled_batch_gives_what_had_ended() -> None:
    """An answer that came together with the cancellation is paid for, so it is handed over."""
    given: list[Any] = []

    def cancelling() -> Iterator[tuple[str, str]]:
        yield "reviewer", "task 0"
        batch.cancel()  # drawn as soon as task 0 has ended, before anybody could hear of it
        yield "reviewer", "task 1"

    async def collect() -> None:
        async with orchestrator(simulator, max_concurrent=1) as subject:
            async for _, result in subject.as_completed(cancelling()):
                given.append(result)

    with Simulator(answer=echo) as simulator:
        batch = asyncio.create_task(collect())
        with pytest.raises(asyncio.CancelledError):
            await batch
    assert given == ["0"]


@pytest.mark.usefixtures("no_leak")
async def test_a_cancellation_while_a_stream_is_left_is_not_lost(project: Path) -> None:
    """Leaving takes as long as the ledger does; who is cancelled meanwhile ends."""
    ledger = project / ".claude/metrics/executions.jsonl"
    ledger.parent.mkdir()

    async def leave() -> None:
        stream = subject.stream("reviewer", "x", max_tokens=100_000)
        await anext(stream)
        await stream.aclose()

    with Simulator(answer="word " * 50_000) as simulator, ledger.open("w") as file:
        async with orchestrator(simulator) as subject:
            fcntl.flock(file, fcntl.LOCK_EX)
            leaving = asyncio.create_task(leave())
            await until(simulator, lambda stats: stats.calls != {} and stats.in_flight == 0)
            leaving.cancel()
            await asyncio.sleep(0)
            fcntl.flock(file, fcntl.LOCK_UN)
            with pytest.raises(asyncio.CancelledError):
                await leaving


async def test_a_ledger_that_is_locked_holds_up_no_loop(project: Path) -> None:
    """While another process has the file, the loop goes on; then the line is written all the same, and nothing lost."""
    ledger = project / ".claude/metrics/executions.jsonl"
    ledger.parent.mkdir()
    rounds = 0

    def begin(_: str) -> None:
        nonlocal rounds
        rounds = 0

    with Simulator(answer=echo) as simulator, ledger.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        async with orchestrator(simulator) as subject:
            call = asyncio.create_task(subject.execute_agent("reviewer", "task 7", on_text=begin))
            while not call.done():
                await asyncio.sleep(0.001)
                rounds += 1
            assert await call == "7"
    assert rounds > 50
    assert ledger.read_text().count("\n") == 1


# ---------------------------------------------------------------- tasks that are none


@pytest.mark.usefixtures("no_leak")
async def test_a_defect_ends_the_batch() -> None:
    """What is no task is raised once what is in flight has ended; nothing is paid for after it."""
    broken: list[Any] = [*tasks(2), ("reviewer", "x", "no options"), *tasks(50)]
    with Simulator(answer=echo) as simulator:
        async with orchestrator(simulator, max_concurrent=3) as subject:
            with pytest.raises(TypeError):
                await subject.execute_multiple(broken)
            assert simulator.stats.calls["/v1/messages"] <= 2


@pytest.mark.usefixtures("no_leak")
async def test_a_batch_with_a_defect_may_be_left() -> None:
    """Leaving it ends all of it, and raises nothing of its own."""
    broken: list[Any] = [*tasks(1), ("reviewer", "x", "no options")]
    with Simulator(answer=echo, faults=[None, Hang()]) as simulator:
        async with orchestrator(simulator, max_concurrent=3) as subject:
            batch = subject.as_completed(broken)
            assert (await anext(batch)).result == "0"
            await batch.aclose()


async def test_tasks_without_an_end_may_be_stopped_by_an_error() -> None:
    """A terminal error is heard of at once, however many tasks are left."""
    drawn = 0

    def endless() -> Iterator[tuple[str, str]]:
        nonlocal drawn
        while drawn < 100_000:
            drawn += 1
            yield "reviewer", f"task {drawn}"

    with Simulator(rules=[Rule(ApiFault(401))]) as simulator:
        subject = orchestrator(simulator, max_concurrent=3)
        async with subject, aclosing(subject.as_completed(endless())) as outcomes:
            async for _, result in outcomes:
                if isinstance(result, NotRunError):
                    break
    assert drawn < 20


# ---------------------------------------------------------------- loops and threads


def test_one_orchestrator_serves_loops_in_turn() -> None:
    """Each `asyncio.run` gets connections of its own, which end with it, without any closing by hand."""
    with Simulator(answer=echo) as simulator:
        subject = orchestrator(simulator)
        for number in range(3):
            assert asyncio.run(subject.execute_agent("reviewer", f"task {number}")) == str(number)
            simulator.wait_until(lambda stats: stats.connections_open == 0)


def test_one_orchestrator_serves_loops_in_threads() -> None:
    """Several loops at once, each in its own thread."""
    with Simulator(answer=echo) as simulator:
        subject = orchestrator(simulator, max_concurrent=3)
        with ThreadPoolExecutor(4) as pool:
            batches = pool.map(lambda _: asyncio.run(subject.execute_multiple(tasks(10))), range(4))
            assert list(batches) == [[str(number) for number in range(10)]] * 4
        simulator.wait_until(lambda stats: stats.connections_open == 0)
    assert threading.active_count() < 20


async def test_a_client_that_was_looked_at_first_is_closed_too() -> None:
    """`async_client` opens what the calls will use, and closing closes it."""
    with Simulator(answer=echo) as simulator:
        async with orchestrator(simulator) as subject:
            client = subject.async_client
            assert await subject.execute_agent("reviewer", "task 1") == "1"
        assert client.is_closed()


async def test_the_sync_class_has_async_methods() -> None:
    """They share its config and its ledger, and give the same answers."""
    with Simulator(answer=echo) as simulator, AgentOrchestrator(api_key="k", base_url=simulator.base_url) as subject:
        assert await subject.execute_agent_async("reviewer", "task 7") == "7"
        assert await subject.execute_multiple_async(tasks(3)) == ["0", "1", "2"]
        assert subject.execute_agent("reviewer", "task 8") == "8"
        assert len(subject.performance_tracker.path.read_text().splitlines()) == 5


async def test_switched_off_it_falls_back_to_the_sync_client(project: Path) -> None:
    """`features.async_enabled: false` runs one after the other, through the blocking client."""
    (project / ".claude/claude.json").write_text('{"features": {"async_enabled": false}}')
    with Simulator(answer=echo) as simulator:
        async with orchestrator(simulator, max_concurrent=5) as subject:
            assert await subject.execute_multiple(tasks(6)) == [str(number) for number in range(6)]
            with pytest.raises(RuntimeError, match="async_enabled"):
                _ = subject.async_client
        assert simulator.stats.max_in_flight == 1


async def test_switched_off_it_still_streams(project: Path) -> None:
    """Pieces come as they arrive, in the loop's own thread; what their watcher raises is raised."""
    (project / ".claude/claude.json").write_text('{"features": {"async_enabled": false}}')
    threads: set[int] = set()

    def refuse(_: str) -> None:
        threads.add(threading.get_ident())
        raise ValueError("no")

    with Simulator(answer="word " * 100, faults=[Stall(20), Stall(20)]) as simulator:
        async with orchestrator(simulator) as subject:
            with pytest.raises(ValueError, match="no"):
                await subject.execute_agent("reviewer", "x", on_text=refuse)
            stream = subject.stream("reviewer", "y", timeout_seconds=10)
            async with asyncio.timeout(5):
                assert (await anext(stream)).startswith("word")
            await stream.aclose()
    assert threads == {threading.get_ident()}


async def test_config_and_agents_are_read_beside_the_loop() -> None:
    """`load_config` and `load_agent_definition` give what the sync face reads."""
    with Simulator() as simulator:
        async with orchestrator(simulator) as subject:
            assert (await subject.load_config()).performance.max_concurrent_agents == 10
            assert (await subject.load_agent_definition("reviewer")).prompt == "You review code."
            assert str(subject.async_client.base_url).startswith(simulator.base_url)


@pytest.mark.parametrize("max_concurrent", [0, -1])
def test_a_limit_that_is_none_is_refused(max_concurrent: int) -> None:
    """Zero places would wait for ever."""
    with pytest.raises(InputError, match="max_concurrent"):
        AsyncAgentOrchestrator(max_concurrent=max_concurrent)


async def test_the_retries_of_the_arguments_win(project: Path) -> None:
    """`max_retries` of the constructor decides, whatever the config says."""
    (project / ".claude/claude.json").write_text('{"defaults": {"max_retries": 9}}')
    with Simulator(rules=[Rule(ApiFault(529, headers=SOON))]) as simulator:
        async with orchestrator(simulator, max_retries=1) as subject:
            with pytest.raises(OverloadedError, match="2 attempts"):
                await subject.execute_agent("reviewer", "x")
