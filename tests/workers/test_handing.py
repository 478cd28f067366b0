"""What a run does while it waits for workers: it says so, takes back what nobody has begun, and outlasts an outage."""

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from claude_force import AsyncAgentOrchestrator, DeadlineError
from claude_force.orchestrator import Project
from claude_force.testing import Answer, Simulator
from claude_force.workers.durable import Address, Queue, Shift, queue_of

if TYPE_CHECKING:
    from claude_force.workflows.events import RunEvent
    from tests.conftest import RealServer

WORKFLOW = {
    "name": "w",
    "steps": [{"id": f"s{number}", "agent": "reviewer", "task": f"say {number}"} for number in range(3)],
}
ANSWERS = {f"s{number}": str(number) for number in range(3)}


@pytest.fixture
def somewhere(postgres: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """A Postgres that nobody works for yet."""
    assert simulator.base_url
    monkeypatch.setenv("CLAUDE_ENGINE_URL", postgres)
    monkeypatch.setenv("CLAUDE_CACHE_SECRET", "a secret that all machines have")
    return postgres


@pytest.fixture
def machine(somewhere: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shift]:
    """Another machine, which works once it is told to."""
    assert somewhere
    project = Project(project_dir=tmp_path_factory.mktemp("machine"))
    shift = project.shift(concurrency=3)
    yield shift
    shift.stop(drains=True)
    project.close()


def states(url: str, simulator: Simulator, run_id: str, project: Path) -> set[str]:
    """How the work of a run stands."""
    queue = Queue(Address(url, folder=project), queue_of(simulator.base_url.removeprefix("http://")))
    queue.open()
    try:
        found = queue._opened.list_workflows(workflow_id_prefix=f"{run_id}/", load_input=False, load_output=False)
        return {work.status for work in found}
    finally:
        queue.close(drains=False)


async def test_a_run_that_nobody_does_says_so_and_waits(machine: Shift) -> None:
    """Once, and what to do about it; when somebody comes, it goes on."""
    events: list[RunEvent] = []
    said = asyncio.Event()

    def see(event: "RunEvent") -> None:
        events.append(event)
        if event.kind == "warning":
            said.set()

    async with AsyncAgentOrchestrator() as subject:
        running = asyncio.create_task(subject.execute_workflow(WORKFLOW, engine="durable", on_event=see))
        await said.wait()
        await asyncio.to_thread(machine.try_start)
        result = await running
    assert dict(result.results) == ANSWERS
    (warning,) = result.warnings
    assert "nobody has taken it for 10 s; start `claude-force worker`" in warning
    assert "postgres@" not in warning


@pytest.mark.parametrize("ending", ["stopped", "cancelled", "late"])
async def test_what_nobody_has_begun_is_taken_back(
    ending: str, somewhere: str, simulator: Simulator, project: Path
) -> None:
    """When the run is stopped, cancelled, or out of time; it has cost nothing, and can be taken up."""
    begun = asyncio.Event()
    started: list[str | None] = []

    def see(event: "RunEvent") -> None:
        if event.kind == "started":
            started.append(event.step)
            if len(started) == len(ANSWERS):
                begun.set()

    workflow = WORKFLOW | ({"timeout_seconds": 1.5} if ending == "late" else {})
    async with AsyncAgentOrchestrator() as subject:
        run = subject.workflow_run(workflow, engine="durable", on_event=see, max_cost_usd=1)
        running = asyncio.create_task(run.execute())
        if ending != "late":  # on a slow machine it may be before anything began
            await begun.wait()
        if ending == "cancelled":
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        elif ending == "stopped":
            run.stop()
            assert {step.status for step in (await running).steps.values()} == {"not_run"}
        else:
            assert isinstance((await running).error, DeadlineError)
        assert await asyncio.to_thread(states, somewhere, simulator, run.run_id, project) <= {"CANCELLED"}
    assert simulator.stats.calls.get("/v1/messages", 0) == 0


async def test_an_outage_of_the_database_is_waited_out(
    machine: Shift, simulator: Simulator, postgres_server: "RealServer"
) -> None:
    """What is under way when Postgres goes is paid once, and the run goes on when it is back."""
    machine.try_start()
    simulator.hold()
    async with AsyncAgentOrchestrator() as subject:
        running = asyncio.create_task(subject.execute_workflow(WORKFLOW, engine="durable", use_cache=False))
        await asyncio.to_thread(simulator.wait_until, lambda stats: stats.in_flight == len(ANSWERS))
        await asyncio.to_thread(postgres_server.stop)
        simulator.release()
        await asyncio.to_thread(simulator.wait_until, lambda stats: stats.in_flight == 0)
        await asyncio.to_thread(postgres_server.start)
        result = await running
    assert dict(result.results) == ANSWERS
    assert simulator.stats.calls["/v1/messages"] == len(ANSWERS)


@pytest.mark.parametrize("gone", ["database", "worker"])
async def test_a_run_that_is_out_of_time_waits_for_nobody(
    gone: str, somewhere: str, postgres_server: "RealServer"
) -> None:
    """Neither for a database that is away, nor for a worker that has taken its steps and is dead."""
    begun = asyncio.Event()

    def see(event: "RunEvent") -> None:
        if event.kind == "started" and event.step == "s2":
            begun.set()

    async with AsyncAgentOrchestrator() as subject:
        run = subject.workflow_run(WORKFLOW | {"timeout_seconds": 3}, engine="durable", on_event=see)
        running = asyncio.create_task(run.execute())
        await begun.wait()
        try:
            if gone == "database":
                await asyncio.to_thread(postgres_server.stop)
            else:
                await asyncio.to_thread(die, somewhere)
            result = await running
        finally:
            if gone == "database":
                await asyncio.to_thread(postgres_server.start)
    assert isinstance(result.error, DeadlineError)


def die(url: str) -> None:
    """Take three steps, and be gone."""
    import psycopg

    taken = 0
    with psycopg.connect(url, autocommit=True) as connection:
        while taken < len(ANSWERS):
            take = "UPDATE dbos.workflow_status SET status = 'PENDING', executor_id = 'dead' WHERE status = 'ENQUEUED'"
            taken += connection.execute(take).rowcount


async def test_an_answer_that_was_cut_is_asked_for_again(machine: Shift, simulator: Simulator) -> None:
    """An answer that is not whole fails its step, and is none when the run is taken up."""
    machine.try_start()
    simulator.script(Answer("cut", stop_reason="max_tokens"))
    alone = WORKFLOW | {"steps": WORKFLOW["steps"][:1]}
    async with AsyncAgentOrchestrator() as subject:
        failed = await subject.execute_workflow(alone, engine="durable", on_error="return")
        assert failed.steps["s0"].status == "failed"
        done = await subject.execute_workflow(None, engine="durable", resume=failed.run_id)
    assert dict(done.results) == {"s0": "0"}


async def test_where_models_must_run_holds_for_workers(machine: Shift, simulator: Simulator, project: Path) -> None:
    """It is asked for, priced, and within what the run has set aside for it."""
    machine.try_start()
    alone = WORKFLOW | {"steps": WORKFLOW["steps"][:1]}
    async with AsyncAgentOrchestrator() as subject:
        plain = await subject.execute_workflow(alone, engine="durable", use_cache=False, max_cost_usd=1)
    agent = project / ".claude/agents/reviewer.md"
    agent.write_text(agent.read_text().replace("model: haiku", "model: haiku\ninference_geo: us"))
    async with AsyncAgentOrchestrator() as subject:
        placed = await subject.execute_workflow(alone, engine="durable", use_cache=False, max_cost_usd=1)
    assert [request.body.get("inference_geo") for request in simulator.requests] == [None, "us"]
    assert plain.cost_usd is not None
    assert placed.cost_usd == plain.cost_usd * Decimal("1.1")


@pytest.mark.usefixtures("_from_nursery")
async def test_a_worker_that_is_told_twice_ends(
    somewhere: str, simulator: Simulator, postgres_server: "RealServer", tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also while the database is away, for which what it has done waits; the run goes on with another one."""
    folder = tmp_path_factory.mktemp("machine")
    assert somewhere
    command = ["claude-force", "worker", "--concurrency", "3"]
    worker = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)  # noqa: ASYNC220 - waits for nothing
    simulator.hold()
    async with AsyncAgentOrchestrator() as subject:
        running = asyncio.create_task(subject.execute_workflow(WORKFLOW, engine="durable", use_cache=False))
        await asyncio.to_thread(simulator.wait_until, lambda stats: stats.in_flight == len(ANSWERS), timeout_s=120)
        await asyncio.to_thread(postgres_server.stop)
        try:
            simulator.release()
            worker.terminate()
            assert worker.stderr is not None
            while "once more ends it at once" not in await asyncio.to_thread(worker.stderr.readline):
                pass
            worker.terminate()
            await asyncio.to_thread(worker.communicate, timeout=60)
        finally:
            worker.kill()
            await asyncio.to_thread(postgres_server.start)
        assert worker.returncode == 128 + signal.SIGTERM
        machine = Project(project_dir=folder)
        shift = machine.shift(concurrency=3)
        await asyncio.to_thread(shift.try_start)
        result = await running
        await asyncio.to_thread(shift.stop, drains=True)
        machine.close()
    assert dict(result.results) == ANSWERS
    assert simulator.stats.calls["/v1/messages"] == len(ANSWERS)
