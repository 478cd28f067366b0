"""Nothing paid is lost: a run that is taken up again, whatever ended it and was edited, pays for the rest only.

The response cache is off (`enable_cache=False`) unless a test is about it: what answers is the journal alone.
"""

import asyncio
import hashlib
import itertools
import json
import logging
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from claude_force import (
    AgentOrchestrator,
    AsyncAgentOrchestrator,
    JournalError,
    RunError,
    RunNotFoundError,
    WorkflowDAG,
    WorkflowResult,
)
from claude_force.base.records import Reply
from claude_force.orchestrator import Project
from claude_force.stores.claims import Claims
from claude_force.stores.runs import RunRecord, RunStore
from claude_force.testing import ApiFault, Rule, SeenRequest, Simulator, Stats
from claude_force.workflows.history import History
from claude_force.workflows.journal import Journal, RunCache
from tests.conftest import calls, step

Face = Callable[..., Any]
Steps = list[dict[str, Any]]
KILLS = 5
"""Of the test with `kill -9`; 200 were tried once when it was written."""


def digest(request: SeenRequest) -> str:
    """An answer that says what was asked."""
    return hashlib.sha256((request.system + request.prompt).encode()).hexdigest()[:8]


CHAIN: Steps = [step("a"), step("b", "a"), step("c", "b"), step("d")]


def without_cache(face: Face, simulator: Simulator) -> Any:
    """An orchestrator that finds nothing but what its runs have."""
    return face(api_key="k", base_url=simulator.base_url, enable_cache=False)


def again(face: Face, simulator: Simulator, steps: Steps, **options: Any) -> tuple[WorkflowResult, int]:
    """The last run, taken up again by another orchestrator, and the calls that it cost."""
    before = calls(simulator)
    inputs = options.pop("inputs", None)
    declared = options.pop("declared", {})
    with without_cache(face, simulator) as subject:
        result = subject.execute_workflow(
            {"name": "w", "steps": steps, "inputs": declared}, inputs, resume="last", **options
        )
    return result, calls(simulator) - before


def answers(project: Path) -> int:
    """How many answers the journal has."""
    connection = sqlite3.connect(project / ".claude/runs.db")
    try:
        ((count,),) = connection.execute("SELECT count(*) FROM answers").fetchall()
    finally:
        connection.close()
    return int(count)


@pytest.fixture
def first(face: Face) -> Any:
    """Makes a first run of these steps, to its end, and says what it was."""

    def run(simulator: Simulator, steps: Steps, **options: Any) -> WorkflowResult:
        with without_cache(face, simulator) as subject:
            result: WorkflowResult = subject.execute_workflow({"name": "w", "steps": steps}, **options)
        return result

    return run


# ---------------------------------------------------------------- edits


EDITS: dict[str, tuple[Steps, list[str]]] = {
    "nothing": (CHAIN, []),
    "another order": ([CHAIN[3], CHAIN[2], CHAIN[0], CHAIN[1]], []),
    "a step renamed": ([*CHAIN[:3], {**CHAIN[3], "id": "e"}], []),
    "a step added": ([*CHAIN, step("e", "d")], ["e"]),
    "a step removed": (CHAIN[:3], []),
    "a task at the start": ([step("a", task="Else."), *CHAIN[1:]], ["a", "b", "c"]),
    "a task at the end": ([*CHAIN[:2], step("c", "b", task="Else."), CHAIN[3]], ["c"]),
    "another agent": ([*CHAIN[:3], step("d", agent="writer")], ["d"]),
    "a longer answer": ([*CHAIN[:3], step("d", max_tokens=77)], ["d"]),
    "no answer from the cache": ([{**one, "cache": False} for one in CHAIN], []),
}


@pytest.mark.parametrize(("steps", "asked"), EDITS.values(), ids=EDITS.keys())
def test_an_edit_costs_the_steps_that_it_touches(face: Face, first: Any, steps: Steps, asked: list[str]) -> None:
    """And those that are told what these answer; where it stands in the file, and what it is called, decide nothing."""
    with Simulator(answer=digest) as simulator:
        first(simulator, CHAIN)
        result, cost = again(face, simulator, steps)
    assert cost == len(asked)
    assert [name for name, one in result.steps.items() if one.status == "done"] == asked
    assert result.status == "completed"


def test_an_edited_agent_is_asked_again(face: Face, first: Any, project: Path) -> None:
    """Its steps, and no others."""
    steps = [step("a"), step("b", agent="writer")]
    with Simulator(answer=digest) as simulator:
        first(simulator, steps)
        agent = project / ".claude/agents/writer.md"
        agent.write_text(agent.read_text() + "Be brief.\n")
        result, cost = again(face, simulator, steps)
    assert cost == 1
    assert result.cached_steps == ("a",)
    assert result.steps["b"].why == "agent file writer.md changed"


def test_an_edited_input_costs_the_steps_that_name_it(face: Face) -> None:
    """What is not given again is as it was given before."""
    steps = [step("a", task="Look at {{ inputs.x }}"), step("b", task="Look at {{ inputs.y }}")]
    declared: dict[str, Any] = {"x": {"required": True}, "y": {"required": True}}
    with Simulator(answer=digest) as simulator:
        with without_cache(face, simulator) as subject:
            subject.execute_workflow({"name": "w", "steps": steps, "inputs": declared}, {"x": "1", "y": "1"})
        result, cost = again(face, simulator, steps, declared=declared, inputs={"y": "2"})
    assert cost == 1
    assert result.cached_steps == ("a",)
    assert result.steps["b"].why == "input 'y' changed"


def test_what_was_not_given_may_be_edited(face: Face) -> None:
    """A default is the workflow's of now, an optional number may be left out, a lost input is no fault."""
    steps = [step("a", task="{{ inputs.x }} {{ inputs.n }}")]
    declared: dict[str, Any] = {"x": {"default": "old"}, "n": {"type": "integer"}, "gone": {}}
    with Simulator(answer=digest) as simulator:
        with without_cache(face, simulator) as subject:
            subject.execute_workflow({"name": "w", "steps": steps, "inputs": declared}, {"gone": "1"})
        del declared["gone"]
        assert again(face, simulator, steps, declared=declared)[1] == 0
        declared["x"] = {"default": "new"}
        assert again(face, simulator, steps, declared=declared)[1] == 1
        assert "new" in simulator.requests[-1].prompt


def test_its_own_workflow_and_inputs_are_kept(face: Face, first: Any) -> None:
    """An id, or the beginning of one, is enough."""
    with Simulator(answer=digest) as simulator:
        run_id = first(simulator, CHAIN).run_id
        with without_cache(face, simulator) as subject:
            result = subject.execute_workflow(None, resume=run_id[:-2])
            with pytest.raises(RunNotFoundError):
                subject.execute_workflow(None, resume="1999")
        assert (result.run_id, result.workflow_name, calls(simulator)) == (run_id, "w", 4)


def test_the_last_run_of_a_workflow_without_a_name(face: Face) -> None:
    """It has one all the same."""
    with Simulator(answer=digest) as simulator, without_cache(face, simulator) as subject:
        subject.execute_workflow({"steps": CHAIN})
        subject.execute_workflow({"steps": CHAIN}, resume="last")
        assert calls(simulator) == 4


# ---------------------------------------------------------------- options


OPTIONS: dict[str, tuple[dict[str, Any], int]] = {
    "force": ({"force": ["a"]}, 1),
    "force, in the middle": ({"force": ["b", "d"]}, 2),
    "use_cache=False": ({"use_cache": False}, 0),
    "use_cache=refresh": ({"use_cache": "refresh"}, 0),
}


@pytest.mark.parametrize(("options", "cost"), OPTIONS.values(), ids=OPTIONS.keys())
def test_only_force_pays_again(face: Face, first: Any, options: dict[str, Any], cost: int) -> None:
    """What a run has paid for is its own: whatever is said of the response cache, it is not asked again."""
    with Simulator(answer=digest) as simulator:
        before = first(simulator, CHAIN)
        result, paid = again(face, simulator, CHAIN, **options)
    assert paid == cost
    assert result.results == before.results


def test_a_fallback_has_answered(face: Face, first: Any) -> None:
    """The step has its answer: the agent that failed is not asked, and paid, again."""
    steps = [step("a", fallback={"agent": "writer"}, retries=0), step("b", "a")]
    refused = Rule(ApiFault(400), when=lambda request: "review code" in request.system and "Do a." in request.prompt)
    with Simulator(answer=digest, rules=[refused]) as simulator:
        before = first(simulator, steps)
        result, cost = again(face, simulator, steps)
    assert before.status == "completed"
    assert cost == 0
    assert result.results == before.results


def test_a_model_fallback_has_answered(face: Face, first: Any, project: Path) -> None:
    """As well."""
    agent = project / ".claude/agents/reviewer.md"
    agent.write_text(agent.read_text().replace("model: haiku", "model: haiku\nfallback_models: [sonnet]"))
    down = Rule(ApiFault(529), when=lambda request: "haiku" in request.model)
    with Simulator(answer=digest, rules=[down]) as simulator:
        steps = [step("a", retries=0)]
        assert first(simulator, steps).steps["a"].model.startswith("claude-sonnet")
        assert again(face, simulator, steps)[1] == 0


def test_a_failed_step_is_asked_again(face: Face, first: Any) -> None:
    """And what succeeded beside it is not."""
    fails = Rule(ApiFault(400), when=lambda request: "Do b." in request.prompt, times=1)
    with Simulator(answer=digest, rules=[fails]) as simulator:
        failed = first(simulator, CHAIN, on_error="return")
        assert failed.status == "failed"
        paid = len(failed.results)
        result, cost = again(face, simulator, CHAIN)
    assert result.status == "completed"
    assert cost == 4 - paid


# ---------------------------------------------------------------- crashes


@pytest.mark.parametrize("number", range(1, 5))
def test_an_interrupt_loses_only_what_is_in_flight(face: Face, number: int) -> None:
    """Ctrl-C, at any step: what was answered before is kept, and the journal says how all of it ended."""
    seen = 0

    def interrupt(event: Any) -> None:
        nonlocal seen
        seen += event.kind == "ended"
        if seen == number:
            raise KeyboardInterrupt

    with Simulator(answer=digest) as simulator:
        with without_cache(face, simulator) as subject, pytest.raises(KeyboardInterrupt):
            subject.execute_workflow({"name": "w", "steps": CHAIN}, on_event=interrupt)
        store = RunStore(Path(".claude/runs.db"))
        (run,), steps = store.runs(), store.steps(store.runs()[0].id)
        store.close()
        kept, paid = answers(Path()), calls(simulator)
        assert paid - 1 <= kept <= paid
        assert run.status in ({"cancelled"} if number < 4 else {"completed", "cancelled"})
        assert {one.step for one in steps} == {"a", "b", "c", "d"}
        result, cost = again(face, simulator, CHAIN)
    assert cost == 4 - kept
    assert result.status == "completed"


async def test_a_cancelled_run_is_taken_up(project: Path) -> None:
    """Cancelled with three calls in flight: these are paid again, and nothing else."""
    steps = [step("a"), *(step(name, "a") for name in "bcd"), step("e", *"bcd")]
    with Simulator(answer=digest) as simulator:
        async with AsyncAgentOrchestrator(api_key="k", base_url=simulator.base_url, enable_cache=False) as subject:
            simulator.hold()
            simulator.release(1)
            running = asyncio.create_task(subject.execute_workflow({"name": "w", "steps": steps}))
            await asyncio.to_thread(simulator.wait_until, lambda stats: stats.calls.get("/v1/messages") == 4)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await asyncio.to_thread(simulator.wait_until, lambda stats: stats.in_flight == 0)
            assert answers(project) == 1
            simulator.release()
            result = await subject.execute_workflow({"name": "w", "steps": steps}, resume="last")
    assert result.cached_steps == ("a",)
    assert calls(simulator) == 4 + 4


NURSERY = """
import asyncio, json, os, sys
from claude_force import AsyncAgentOrchestrator
async def main(url, workflow):
    async with AsyncAgentOrchestrator(api_key="k", base_url=url, max_concurrent=5, enable_cache=False) as subject:
        await subject.execute_workflow(workflow)
for line in sys.stdin:
    folder, url, workflow = json.loads(line)
    if not (child := os.fork()):
        os.chdir(folder)
        asyncio.run(main(url, workflow))
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""
"""Forks a process for each line: a run in a process of its own."""


def thirty_steps() -> Steps:
    """Five layers of six; each step needs two of the layer before."""
    dice = random.Random(5)  # noqa: S311 - the same graph each time
    layers = [[f"s{layer}{number}" for number in range(6)] for layer in range(5)]
    steps = [step(name) for name in layers[0]]
    for before, layer in itertools.pairwise(layers):
        steps += [step(name, *dice.sample(before, 2)) for name in layer]
    return steps


@pytest.mark.usefixtures("_from_nursery")
def test_kill_9_at_random_moments(project: Path) -> None:
    """Total calls paid = steps + calls in flight at the kill, and the result is that of an undisturbed run."""
    steps, dice = thirty_steps(), random.Random(9)  # noqa: S311 - no secret
    workflow = {"name": "w", "steps": steps}
    with Simulator(answer=digest, latency=0.002, max_recorded=0) as simulator:
        with without_cache(AgentOrchestrator, simulator) as subject:
            undisturbed = subject.execute_workflow(workflow).results
        command = ["quick-python", "-c", NURSERY]
        in_flight = []
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:
            assert nursery.stdin
            assert nursery.stdout
            for _ in range(KILLS):
                (project / ".claude/runs.db").unlink()
                for rest in (project / ".claude").glob("runs.db-*"):
                    rest.unlink()
                start, moment = calls(simulator), dice.randint(1, 30)
                print(json.dumps([str(project), simulator.base_url, workflow]), file=nursery.stdin, flush=True)
                child = int(nursery.stdout.readline())
                at = partial(_has_sent, start + moment)
                simulator.wait_until(at, timeout_s=120)
                threading.Event().wait(dice.random() * 0.004)  # somewhere within a call
                os.kill(child, signal.SIGKILL)
                assert nursery.stdout.readline() == "gone\n"
                simulator.wait_until(lambda stats: stats.in_flight == 0)
                sent, kept = calls(simulator) - start, answers(project)
                result, cost = asyncio.run(_resumed(simulator, workflow))
                assert cost == 30 - kept
                assert 0 <= sent - kept <= 5, "more was lost than was in flight"
                assert result.status == "completed"
                assert result.results == undisturbed
                in_flight.append(sent - kept)
            nursery.stdin.close()
    print(f"{KILLS} kills; calls in flight, and paid twice: {sorted(in_flight)}")  # noqa: T201 - with `-s`, the figures
    shutil.rmtree(project / ".claude/metrics", ignore_errors=True)


def _has_sent(count: int, stats: Stats) -> bool:
    return stats.calls["/v1/messages"] >= count


async def _resumed(simulator: Simulator, workflow: dict[str, Any]) -> tuple[WorkflowResult, int]:
    before = calls(simulator)
    async with AsyncAgentOrchestrator(
        api_key="k", base_url=simulator.base_url, max_concurrent=5, enable_cache=False
    ) as subject:
        result = await subject.execute_workflow(workflow, resume="last")
    return result, calls(simulator) - before


RESUMER = """
import sys
from claude_force import AgentOrchestrator
with AgentOrchestrator(api_key="k", base_url=sys.argv[1], enable_cache=sys.argv[2] == "with a cache") as subject:
    print("ready", flush=True)
    sys.stdin.readline()
    print(len(subject.execute_workflow(None, resume="last").results))
"""


@pytest.mark.usefixtures("_from_nursery")
@pytest.mark.parametrize("other", ["without", "with a cache"])
def test_two_processes_that_resume_at_once_pay_once(other: str) -> None:
    """Each step is asked by one of them; both have all answers."""
    steps = [step(name) for name in "abcdef"]
    broken = Rule(ApiFault(400), times=1)
    with Simulator(answer=digest, latency=0.02, rules=[broken]) as simulator:
        with without_cache(AgentOrchestrator, simulator) as subject, pytest.raises(RunError):
            subject.execute_workflow({"name": "w", "steps": steps})
        sent = calls(simulator)
        command = ["quick-python", "-c", RESUMER, simulator.base_url]
        processes = [
            subprocess.Popen([*command, whether], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for whether in ("without", other)
        ]
        for process in processes:
            assert process.stdout
            process.stdout.readline()
        for process in processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        outputs = [process.communicate(timeout=120)[0] for process in processes]
        assert calls(simulator) - sent == 6
    assert outputs == ["6\n", "6\n"]


class Interrupted:
    """A response cache on a slow disk, where Ctrl-C, or kill -9, comes while it keeps an answer."""

    def keep(self, *_: Any, **__: Any) -> None:
        raise KeyboardInterrupt


def test_a_run_has_an_answer_before_the_cache() -> None:
    """Who refreshes the cache does not take answers from there: what is not in the journal would be paid twice."""
    project = Project(api_key="k")
    journal = Journal(project.runs, project.cache, "r")
    journal.begin(RunRecord(id="r", workflow="w", status="running", started_at=datetime.now(UTC)), is_new=True)
    claims, inner = Claims(Path(".claude/runs.lock")), cast("Any", Interrupted())
    cache = RunCache(journal, claims, inner, key=None, reads=True, inner_reads=False)
    reply = Reply(model="m", text="paid", stop_reason="end_turn", usage=None)
    with pytest.raises(KeyboardInterrupt):
        cache.keep("ab12", reply, agent="reviewer", task="t", cost_usd=None)
    kept = cache.find("ab12", agent="reviewer", counts=False)
    assert kept
    assert kept.reply.text == "paid"
    project.close()


# ---------------------------------------------------------------- the file


def change(statement: str, *values: object) -> None:
    """Tamper with the journal."""
    connection = sqlite3.connect(".claude/runs.db", isolation_level=None)
    connection.execute(statement, values)
    connection.close()


def test_a_forged_answer_is_never_served(face: Face, first: Any) -> None:
    """Changed, moved to another key, or signed by somebody else: it costs a re-ask, and nothing else."""
    with Simulator(answer=digest) as simulator:
        before = first(simulator, CHAIN)
        change("UPDATE answers SET sealed = (SELECT sealed FROM answers ORDER BY number LIMIT 1)")
        result, cost = again(face, simulator, CHAIN)
        assert cost == 3
        assert result.results == before.results
        change("UPDATE answers SET sealed = x'00'")
        assert again(face, simulator, CHAIN)[1] == 4


def test_what_a_foreign_secret_signed_is_not_ours(face: Face, first: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository that brings a journal along brings no answers."""
    with Simulator(answer=digest) as simulator:
        monkeypatch.setenv("CLAUDE_CACHE_SECRET", "a-secret-of-somebody-else-0123456789")
        first(simulator, CHAIN)
        monkeypatch.delenv("CLAUDE_CACHE_SECRET")
        assert again(face, simulator, CHAIN)[1] == 4


@pytest.mark.parametrize("causes", ["no JSON", "[]", '{"inputs": 3}', '{"steps": {"a": []}}'])
def test_planted_causes_change_no_more_than_words(face: Face, first: Any, causes: str) -> None:
    """What decided a step before is only told."""
    with Simulator(answer=digest) as simulator:
        first(simulator, CHAIN)
        change("UPDATE steps SET causes = ?", causes)
        assert again(face, simulator, CHAIN, force=["a", "c"])[0].status == "completed"


def folder_instead() -> None:
    """Where the file was."""
    Path(".claude/runs.db").unlink()
    Path(".claude/runs.db").mkdir()


GARBAGE: dict[str, Callable[[], object]] = {
    "no database": lambda: Path(".claude/runs.db").write_bytes(b"garbage" * 1000),
    "a newer one": lambda: change("PRAGMA user_version = 99"),
    "a folder": folder_instead,
}


@pytest.mark.parametrize("spoil", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_run_does_not_need_its_journal(
    face: Face, first: Any, spoil: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> None:
    """It goes on with one warning; a resume, which does need it, says so before anything is sent."""
    with Simulator(answer=digest) as simulator:
        first(simulator, CHAIN)
        for rest in Path(".claude").glob("runs.db-*"):
            rest.unlink()
        spoil()
        with caplog.at_level(logging.WARNING):
            assert first(simulator, CHAIN).status == "completed"
        assert [record.name for record in caplog.records] == ["claude_force.runs"]
        assert calls(simulator) == 8
        with pytest.raises(JournalError, match=r"runs\.db"):
            again(face, simulator, CHAIN)
        assert calls(simulator) == 8


@pytest.mark.parametrize("until", ["b", "d"])
def test_what_could_not_be_written_is_written_later(face: Face, until: str, caplog: pytest.LogCaptureFixture) -> None:
    """A disk that is full for a while, or another's lock: one warning, and then the journal has all of it."""

    def tell(event: Any) -> None:
        if event.kind == "ended" and event.step == until:
            change("DROP TRIGGER full")

    with Simulator(
        answer=digest, rules=[Rule(ApiFault(400), when=lambda request: "Do d" in request.prompt)]
    ) as simulator:
        with without_cache(face, simulator) as subject:
            first = subject.execute_workflow({"name": "w", "steps": [step("z")]})
            change("CREATE TRIGGER full BEFORE INSERT ON answers BEGIN SELECT RAISE(ABORT, 'full'); END")
            workflow = {"name": "w", "steps": CHAIN, "max_concurrent": 1}
            subject.execute_workflow(workflow, on_event=tell, on_error="return")
        assert [record.name for record in caplog.records] == ["claude_force.runs"]
        store = RunStore(Path(".claude/runs.db"))
        (run, *_), steps = store.runs(), store.steps(store.runs()[0].id)
        store.close()
        assert run.id != first.run_id
        assert (run.status, answers(Path())) == ("failed", 1 + 3)
        assert {one.step: one.status for one in steps} == {"a": "done", "b": "done", "c": "done", "d": "failed"}


def test_a_run_that_ends_at_once_keeps_what_it_had(face: Face, first: Any) -> None:
    """That it was taken up, and stopped before it came to a step, says nothing new of that step."""

    def interrupt(event: Any) -> None:
        if event.kind == "started":
            raise KeyboardInterrupt

    with Simulator(answer=digest) as simulator:
        before = first(simulator, CHAIN)
        with pytest.raises(KeyboardInterrupt):
            again(face, simulator, CHAIN, on_event=interrupt)
        project = Project()
        history = History(project.runs, project.cache)
        run = history.find("last")
        assert run.status == "cancelled"
        assert {name: history.answers(run, name)[name] for name in "abcd"} == before.results
        project.close()


def test_a_journal_that_cannot_be_written_is_not_taken_up(face: Face, first: Any) -> None:
    """Nothing is paid again because of it: the run is refused while nothing has been sent."""
    with Simulator(answer=digest) as simulator:
        first(simulator, CHAIN)
        holder = sqlite3.connect(".claude/runs.db", isolation_level=None)
        holder.execute("CREATE TRIGGER planted BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'no'); END")
        holder.close()
        with pytest.raises(JournalError):
            again(face, simulator, CHAIN)
        assert calls(simulator) == 4


@pytest.mark.parametrize("column", ["definition", "inputs"])
@pytest.mark.parametrize("value", ["[]", '{"steps": ' + "[" * 100_000], ids=["a list", "deep"])
def test_a_damaged_run_is_told(face: Face, first: Any, column: str, value: str) -> None:
    """As an error of ours."""
    with Simulator(answer=digest) as simulator:
        first(simulator, CHAIN)
        change(f"UPDATE runs SET {column} = '{value}'")  # noqa: S608 - a column's name
        with pytest.raises(JournalError):
            again(face, simulator, CHAIN)


def test_the_same_workflow_twice_at_once_shares_its_calls() -> None:
    """Two runs of one process: each answer is paid once, and both are completed."""
    with Simulator(answer=digest) as simulator, ThreadPoolExecutor(1) as pool:
        subject = AgentOrchestrator(api_key="k", base_url=simulator.base_url)
        simulator.hold()
        both = pool.submit(asyncio.run, _both(subject))
        simulator.wait_until(lambda stats: stats.in_flight == 2)
        simulator.release()
        results = both.result()
        assert calls(simulator) == 4
    assert [result.status for result in results] == ["completed"] * 2
    assert results[0].results == results[1].results
    assert results[0].run_id != results[1].run_id


async def _both(subject: AgentOrchestrator) -> list[WorkflowResult]:
    workflow = {"name": "w", "steps": CHAIN}
    return await asyncio.gather(*(WorkflowDAG(subject).execute_workflow(workflow) for _ in range(2)))
