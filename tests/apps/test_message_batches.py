"""Message batches from the shell: sent, left, looked at, collected, cancelled."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import anthropic
import pytest

from claude_force.testing import Simulator
from tests.conftest import echo

from .conftest import Run, Start

EXECUTE = ("execute", "reviewer", "--tasks-file", "t.jsonl", "--batch", "--output", "r.jsonl")


@pytest.fixture
def project(project: Path) -> Path:
    """The project, with two tasks."""
    (project / "t.jsonl").write_text('"task 0"\n"task 1"\n')
    return project


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """It answers with the task's last word."""
    with Simulator(answer=echo) as running:
        yield running


def texts(project: Path) -> list[str]:
    """The answers in the results file."""
    lines = [json.loads(line) for line in (project / "r.jsonl").read_text().splitlines()]
    return [line["result"]["text"] for line in sorted(lines, key=lambda line: line["number"])]


def test_a_tasks_file_at_half_the_price(run: Run, project: Path, simulator: Simulator) -> None:
    """Results are as ever; how it stands is said on stderr, and the same command goes on."""
    done = run(*EXECUTE)
    assert done.returncode == 0
    assert texts(project) == ["0", "1"]
    assert "in progress, 2 entries; most end within an hour" in done.stderr
    assert "2 done, 0 failed" in done.stderr
    assert "/v1/messages" not in simulator.stats.calls
    assert "2 of 2 tasks are done already" in run(*EXECUTE).stderr


def test_sent_and_left(run: Run, project: Path, simulator: Simulator) -> None:
    """`--no-wait` returns at once; another command collects, and the first one gives what was collected."""
    left = run(*EXECUTE, "--no-wait")
    assert left.returncode == 0
    (listed,) = json.loads(run("batch", "list", "--json").stdout)
    assert (listed["stage"], listed["entries"]) == ("sent", 2)
    assert f"`claude-force batch collect {listed['id']}`" in left.stderr
    again = run(*EXECUTE[:-2], "--no-wait", "--json")  # nothing is sent twice, and no results file is needed
    assert json.loads(again.stdout) == {"batches": [listed["id"]]}
    assert json.loads(run("batch", "status", listed["id"], "--json").stdout)["succeeded"] == 2
    collected = run("batch", "collect", "--json")
    assert json.loads(collected.stdout) == {"batches": 1, "answered": 2, "failed": 0}
    assert listed["id"] + "\tcollected" in run("batch", "list").stdout
    assert run(*EXECUTE).returncode == 0
    assert texts(project) == ["0", "1"]
    assert sum(request.method == "POST" for request in simulator.requests) == 1


def test_cancelled(run: Run) -> None:
    """What was not answered is said, and costs nothing."""
    run(*EXECUTE, "--no-wait")
    (listed,) = json.loads(run("batch", "list", "--json").stdout)
    assert json.loads(run("batch", "cancel", listed["id"], "--json").stdout)["status"] == "canceling"
    collected = run("batch", "collect", listed["id"], "--json")
    assert (collected.returncode, json.loads(collected.stdout)["failed"]) == (1, 2)
    assert "BatchEntryError" in collected.stderr


def test_a_batch_that_the_server_does_not_know(run: Run, project: Path, simulator: Simulator) -> None:
    """It keeps no other from being collected; once it is given up, what it could cost counts as spent."""
    (project / ".claude/claude.json").write_text('{"budgets": {"per_day_usd": 1}}')
    run(*EXECUTE, "--no-wait")
    run("execute", "reviewer", "--tasks-file", "t.jsonl", "--batch", "--no-wait", "--max-tokens", "99")
    gone, other = (batch["id"] for batch in json.loads(run("batch", "list", "--json").stdout))
    assert run("batch", "status", gone).returncode == 0  # which ends it
    with anthropic.Anthropic(api_key="k", base_url=simulator.base_url) as client:
        client.messages.batches.delete(gone)
    collected = run("batch", "collect", "--json")
    assert collected.returncode == 2
    assert json.loads(collected.stdout) == {"batches": 1, "answered": 2, "failed": 0}
    assert f"{gone} is not collected" in collected.stderr
    assert f"{other}: ended, 2 entries" in collected.stderr
    (before,) = json.loads(run("budgets", "--json").stdout)
    cancelled = run("batch", "cancel", gone)
    assert (cancelled.returncode, "it is forgotten here" in cancelled.stderr) == (2, True)
    (after,) = json.loads(run("budgets", "--json").stdout)
    assert after["spent_usd"] == pytest.approx(before["spent_usd"] + before["held_usd"])
    assert (before["held_usd"] > 0, after["held_usd"]) == (True, 0)
    assert gone not in run("batch", "list").stdout


def test_what_is_not_there(run: Run) -> None:
    """An unknown id is bad usage; so are options that do not go together."""
    for action in ("status", "collect", "cancel"):
        refused = run("batch", action, "msgbatch_x")
        assert (refused.returncode, "no batch 'msgbatch_x' was sent from here" in refused.stderr) == (2, True)
    assert run("batch", "list").stderr == "note: no batches were sent from here\n"
    for options in (
        ("execute", "reviewer", "x", "--batch"),
        ("execute", "reviewer", "x", "--no-wait"),
        (*EXECUTE, "--max-concurrent", "2"),
        (*EXECUTE, "--no-wait", "--live-fallback"),
        (*EXECUTE, "--no-wait", "--offline"),
        (*EXECUTE, "--plan"),  # its figures would be twice what it costs
    ):
        assert run(*options).returncode == 2


def test_ctrl_c_leaves_it_running(start: Start) -> None:
    """The batch goes on, and how to go on is said."""
    with Simulator("ok", batch_polls=1000) as slow:
        process = start(*EXECUTE, ANTHROPIC_BASE_URL=slow.base_url)
        slow.wait_until(lambda stats: stats.calls.get("/v1/messages/batches/{id}", 0) > 0, timeout_s=120)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 130
        assert "what was sent goes on at the server" in err
        assert "/v1/messages/batches/{id}/cancel" not in slow.stats.calls


# ---------------------------------------------------------------- a workflow


@pytest.fixture
def workflow(project: Path) -> None:
    """Two steps that say their names, and wait for nothing."""
    steps = [{"id": name, "agent": "reviewer", "task": f"say {name}"} for name in ("x", "y")]
    path = project / ".claude/workflows/both.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"steps": steps}))


@pytest.mark.usefixtures("workflow")
def test_ctrl_c_leaves_a_run_to_be_taken_up(start: Start, run: Run) -> None:
    """At once; the command that is said goes on, and nothing is sent twice."""
    with Simulator(lambda request: request.prompt.split()[-1], batch_polls=2) as slow:
        process = start("run-workflow", "both", "--batch", ANTHROPIC_BASE_URL=slow.base_url)
        slow.wait_until(lambda stats: stats.calls.get("/v1/messages/batches/{id}", 0) > 0, timeout_s=120)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 130
        assert "batch: msgbatch_sim_" in err
        assert "a batch that was sent goes on at the server" in err
        command = err.rpartition("to go on: claude-force ")[2].split()
        assert command[-3::2] == ["--resume", "--batch"]
        done = run(*command, "--json", ANTHROPIC_BASE_URL=slow.base_url)
        assert done.returncode == 0
        assert json.loads(done.stdout)["results"] == {"x": "x", "y": "y"}
        assert sum(request.method == "POST" for request in slow.requests) == 1


def test_a_run_and_what_does_not_go_with_batches(run: Run) -> None:
    """Bounds on calls, and what belongs to a batch without one, are bad usage."""
    for options in (("--batch", "--sequential"), ("--batch", "--max-concurrent", "2"), ("--live-fallback",)):
        assert run("run-workflow", "both", *options).returncode == 2
