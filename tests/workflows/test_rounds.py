"""Runs of workflows by message batches: what is ready at once is one batch, at half the price, and nothing is lost.

Where a process is killed, time is a clock that a pause moves on; processes, server, files and kills are real.
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic  # noqa: F401 - a second that no time limit of a test is to pay
import pytest

from claude_force import BatchEntryError, BudgetError, CredentialsError, RunEvent, WorkflowResult
from claude_force.engine.faces import Blocking, run_now
from claude_force.engine.sending import BatchWatch
from claude_force.orchestrator import Project
from claude_force.testing import ApiFault, Hang, Rule, Simulator
from tests.conftest import about, bill, calls, ledger, spent, step
from tests.workflows.conftest import statuses

Face = Callable[..., Any]


KILLS = sorted({*range(2, 42, 3), 31})
"""The acts after which a run is killed; it has 38, and each was tried when this was written.

After 31 all answers are in its journal, and the last batch is not settled.
"""


# Forks a child for each line that it reads; says how each ended.
NURSERY = """
import json, os, signal, sys
from datetime import timedelta
import msgspec
from claude_force.base.clock import SystemClock
from claude_force.engine.faces import Blocking, run_now
from claude_force.orchestrator import Project
from claude_force.workflows.crew import Alone
from claude_force.workflows.run import RunOptions
from claude_force.workflows.start import prepare_run

url, workflow = sys.argv[1], json.loads(sys.argv[2])

class Clock(SystemClock):
    ahead = timedelta()

    def now(self):
        return super().now() + self.ahead

class Deadly(Blocking):
    clock, left = Clock(), 0

    async def pause(self, seconds):
        self.clock.ahead += timedelta(seconds=seconds)

    async def call(self, function):
        value = function()
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    apart = finish = call

def child(folder, acts):
    os.chdir(folder)
    project = Project(api_key="k", base_url=url, enable_cache=False)
    outside = Deadly(lambda: project.live)
    outside.left = acts
    batching = project.batching
    batching = msgspec.structs.replace(batching, parts=msgspec.structs.replace(batching.parts, clock=outside.clock))
    run = prepare_run(
        project,
        Alone(outside),
        workflow,
        None,
        resume="last" if project.runs.runs(workflow=None, limit=1) else None,
        max_cost_usd=1.0,
        options=RunOptions(batching=batching),
    )
    result = run_now(run.execute())
    (spending,) = run._parts.budget.standing(project.parts.clock.now())
    facts = {"status": result.status, "results": result.results, "spent": str(spending.spent_usd)}
    with open("result.json", "w") as file:
        json.dump(facts | {"held": str(spending.held_usd)}, file)

for line in sys.stdin:
    folder, acts = line.split()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            child(folder, int(acts))
            code = 0
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""

DIAMOND = [step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c")]


def batches(simulator: Simulator) -> list[list[str]]:
    """The tasks in each batch that the server was sent."""
    bodies = [each.body for each in simulator.requests if each.path == "/v1/messages/batches" and each.body]
    texts = [[one["params"]["messages"][0]["content"][-1]["text"] for one in body["requests"]] for body in bodies]
    return [[text.splitlines()[0] for text in batch] for batch in texts]


def run(face: Face, simulator: Simulator, steps: list[dict[str, Any]], **options: Any) -> WorkflowResult:
    """The workflow of these steps, by batches, without raising."""
    keys = options.pop("keys", {})
    with face(api_key="k", base_url=simulator.base_url) as subject:
        result: WorkflowResult = subject.execute_workflow(
            {"name": "w", "steps": steps, **keys}, on_error="return", batch=True, **options
        )
    return result


def test_a_diamond_at_half_the_price(face: Face, project: Path) -> None:
    """One batch for each level, and no call; ledger, result and the simulator's bill agree, line by line."""
    seen = []
    with Simulator(lambda request: request.prompt.rpartition("Do ")[2]) as simulator:
        result = run(face, simulator, DIAMOND, on_event=lambda event: seen.append(event.batch and event.batch.status))
        assert (calls(simulator), batches(simulator)) == (0, [["Do a."], ["Do b.", "Do c."], ["Do d."]])
        assert (result.status, result.results["d"]) == ("completed", "d.")
        assert result.savings.batch_usd == result.cost_usd == spent(project) == bill(simulator) > 0
        lines = ledger(project)
        assert [line["step_id"] for line in lines] == ["a", "b", "c", "d"]
        assert {(line["workflow_id"], line["run_id"]) for line in lines} == {("w", result.run_id)}
        assert len({line["batch_id"] for line in lines}) == 3
        assert seen.count("ended") == 3
        # What is kept is not sent, and what that makes ready goes along.
        again = run(face, simulator, [*DIAMOND, step("e"), step("f", "b")])
        assert batches(simulator)[3:] == [["Do e.", "Do f."]]
        assert again.cached_steps == ("a", "b", "c", "d")
        assert spent(project) == bill(simulator)


def test_items_go_together(face: Face) -> None:
    """Each is a turn of its own, whatever bounds there are for calls; the same twice is sent once."""
    each = step("each", task="Do {{ item }}.", for_each={"items": "{{ inputs.names }}", "max_concurrent": 1})
    keys = {"inputs": {"names": {"type": "list"}}, "max_concurrent": 1, "timeout_seconds": 0.001}
    with Simulator(lambda request: request.prompt.rpartition("Do ")[2]) as simulator:
        result = run(face, simulator, [each, step("a")], keys=keys, inputs={"names": ["x", "y", "x"]})
        assert [sorted(batch) for batch in batches(simulator)] == [["Do a.", "Do x.", "Do y."]]
    assert json.loads(result.results["each"]) == ["x.", "y.", "x."]


def test_failures_mean_what_the_step_says(face: Face, project: Path) -> None:
    """`on_failure`, `fallback` and `retries` are as ever; what helps is in the next batch."""
    steps = [
        step("told", on_failure="continue"),
        step("after", "told"),
        step("left", on_failure="skip"),
        step("without", "left"),
        step("other", fallback={"agent": "writer"}),
        step("schema", output="json", schema={"type": "integer"}, retries=1),
    ]
    rules = [
        Rule(ApiFault(400), when=about("told")),
        Rule(Hang(), when=about("left")),
        Rule(ApiFault(400), when=lambda request: about("other")(request) and "texts" not in request.system),
        Rule("no integer", when=about("schema"), times=1),
    ]
    with Simulator("7", rules=rules) as simulator:
        result = run(face, simulator, steps)
        assert batches(simulator) == [
            ["Do told.", "Do left.", "Do other.", "Do schema."],
            ["Do other.", "Do schema.", "Do after."],
        ]
        assert calls(simulator) == 0
        assert result.savings.batch_usd == result.cost_usd == spent(project) == bill(simulator) > 0
    assert statuses(result) == {
        "told": "failed",
        "after": "done",
        "left": "failed",
        "without": "skipped",
        "other": "done",
        "schema": "done",
    }
    assert isinstance(result.steps["left"].error, BatchEntryError)
    assert (result.steps["other"].agent, result.steps["schema"].attempts) == ("writer", 2)


def test_live_where_that_is_allowed(face: Face, project: Path) -> None:
    """What the batch left unanswered is asked by itself, at the full price, and the run goes on in batches."""
    with Simulator("ok", rules=[Rule(Hang(), when=about("b"), times=1)]) as simulator:
        result = run(face, simulator, DIAMOND, live_fallback=True)
        assert (result.status, calls(simulator), len(batches(simulator))) == ("completed", 1, 3)
        assert result.cost_usd == spent(project) == bill(simulator) > 0


def test_a_limit_holds_at_the_price_of_a_batch(face: Face, project: Path) -> None:
    """A round that could pass it is not sent; half of what a call could cost is enough."""
    with Simulator("ok") as simulator:
        refused = run(face, simulator, DIAMOND, max_cost_usd=0.0001)
        assert (refused.exit_code, batches(simulator)) == (4, [])
        assert isinstance(refused.error, BudgetError)
        assert refused.error.needed_usd is not None
        assert set(statuses(refused).values()) == {"not_run"}
        enough = float(refused.error.needed_usd)
        assert run(face, simulator, [step("a")], max_cost_usd=enough).status == "completed"
        with face(api_key="k", base_url=simulator.base_url) as subject:
            live = subject.execute_workflow(
                {"name": "w", "steps": [step("a")]}, on_error="return", max_cost_usd=enough, use_cache=False
            )
        assert live.exit_code == 4
        assert spent(project) == bill(simulator)


def test_nothing_is_sent_once_the_run_is_over(face: Face, project: Path) -> None:
    """What waits for its batch is not in it when a step has failed; bad credentials are told once."""
    (project / ".claude/claude.json").write_text('{"limits": {"max_task_chars": 50}}')
    with Simulator("ok", rules=[Rule(ApiFault(401), when=lambda request: request.method == "POST")]) as simulator:
        result = run(face, simulator, [step("a"), step("long", task="x" * 51)])
        assert (statuses(result), batches(simulator)) == ({"a": "not_run", "long": "failed"}, [])
        result = run(face, simulator, [*DIAMOND, step("e")])
        assert isinstance(result.error, CredentialsError)
        assert statuses(result) == {"a": "failed", "b": "not_run", "c": "not_run", "d": "not_run", "e": "failed"}
        assert len(batches(simulator)) == 1


@pytest.mark.usefixtures("_from_nursery")
def test_a_kill_after_each_act(tmp_path: Path, project: Path) -> None:
    """Whichever it was, the run goes on from there, without any cache: each entry is sent once and counted once."""
    projects = {act: tmp_path / f"{act}" for act in (0, *KILLS)}
    for copy in projects.values():
        shutil.copytree(project / ".claude", copy / ".claude")
        (copy / ".git").mkdir()
    lives = [(copy, when) for act, copy in projects.items() for when in (act, 0)]
    workflow = {"name": "w", "steps": [step("a"), step("b"), step("c", "a", "b")]}
    with Simulator(lambda request: request.prompt.upper(), batch_polls=2, max_recorded=100_000) as simulator:
        done = subprocess.run(
            ["quick-python", "-c", NURSERY, simulator.base_url, json.dumps(workflow)],
            input="".join(f"{folder} {act}\n" for folder, act in lives),
            capture_output=True,
            text=True,
            check=True,
            timeout=240,
        )
        assert done.stderr == ""
        codes = [int(code) for code in done.stdout.split()]
        assert (codes[2], codes[-2], set(codes[1::2])) == (-9, 0, {0})  # the last one came to its end before
        bodies = [each.body for each in simulator.requests if each.path == "/v1/messages/batches" and each.body]
        ids = [one["custom_id"] for body in bodies for one in body["requests"]]
        assert len(ids) == len(set(ids)) == 3 * len(projects)
        undisturbed = json.loads((projects[0] / "result.json").read_text())
        assert undisturbed["status"] == "completed"
        for copy in projects.values():
            found = json.loads((copy / "result.json").read_text())
            assert found == undisturbed, copy
            lines = [line for line in ledger(copy) if line.get("batch_id")]
            assert sorted(line["step_id"] for line in lines) == ["a", "b", "c"]
            assert sum(Decimal(line["estimated_cost"]) for line in lines) == Decimal(found["spent"])
        assert sum(map(spent, projects.values())) == bill(simulator)


def test_collected_by_somebody_else_meanwhile(face: Face, project: Path) -> None:
    """The run is interrupted, its batch collected by who knows nothing of its limit: that is settled all the same."""

    def interrupt(event: RunEvent) -> None:
        if event.batch:
            raise KeyboardInterrupt

    with Simulator("ok") as simulator:
        refused = run(face, simulator, DIAMOND, max_cost_usd=0.0001).error
        assert isinstance(refused, BudgetError)
        assert refused.needed_usd is not None
        limit = 2.5 * float(refused.needed_usd)  # enough for two steps at once, not for three
        with pytest.raises(KeyboardInterrupt):
            run(face, simulator, DIAMOND, on_event=interrupt, max_cost_usd=limit)
        other = Project(api_key="k", base_url=simulator.base_url)
        (record,) = other.batching.store.records(other.parts.server)
        run_now(other.batching.see_through(Blocking(lambda: other.live), record.id, BatchWatch()))
        other.close()
        result = run(face, simulator, DIAMOND, resume="last", max_cost_usd=limit)
        assert (result.status, result.cached_steps) == ("completed", ("a",))
        assert batches(simulator) == [["Do a."], ["Do b.", "Do c."], ["Do d."]]
        assert spent(project) == bill(simulator)
        assert {(line["run_id"], line["step_id"]) for line in ledger(project)} >= {(result.run_id, "a")}
