"""The runs of the past, from the shell: what each step answered, what changed, and what may go."""

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from claude_force.stores.runs import RunRecord
from claude_force.testing import ApiFault, Simulator
from claude_force.workflows.history import duration_s, facts
from tests.conftest import echo

from .conftest import Run


@pytest.fixture
def simulator() -> Any:
    """A server that answers with the task's last word."""
    with Simulator(answer=echo) as running:
        yield running


@pytest.fixture
def write(project: Path) -> Callable[..., None]:
    """Writes the workflow `review`: a step for each word, the last of which depends on all before it."""

    def write(*words: str, **keys: Any) -> None:
        ids = [word.partition(" ")[0] for word in words]
        steps = [{"id": name, "agent": "reviewer", "task": word} for name, word in zip(ids, words, strict=True)]
        steps[-1] |= {"dependencies": ids[:-1]} | keys
        path = project / ".claude/workflows/review.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"steps": steps}))

    write("a", "b", "sum")
    return write


@pytest.fixture
def review(run: Run, write: Any) -> Callable[..., str]:
    """Runs the workflow, one step after the other; gives the run's id."""
    assert write

    def review(*args: str) -> str:
        run("run-workflow", "review", "--sequential", *args)
        run_id: str = json.loads(run("runs", "list", "--json").stdout)[0]["id"]
        return run_id

    return review


def rows(text: str) -> list[list[str]]:
    """The cells of what a pipe gets."""
    return [line.split("\t") for line in text.splitlines()]


def test_no_runs(run: Run, project: Path) -> None:
    """Where nothing was run there is nothing to show, and looking makes no file."""
    done = run("runs", "list")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no runs are kept here" in done.stderr
    assert run("runs", "show", "last").returncode == 2
    assert not (project / ".claude/runs.db").exists()


def test_list(run: Run, review: Any, simulator: Simulator) -> None:
    """The newest comes first, with how it ended and what it cost; a limit and a workflow's name narrow it."""
    first = review()
    simulator.script(ApiFault(500))
    second = review("--no-cache")
    assert [row[:3] for row in rows(run("runs", "list").stdout)] == [
        [second, "review", "failed"],
        [first, "review", "completed"],
    ]
    failed, completed = json.loads(run("runs", "list", "--json").stdout)
    assert failed["error"]
    assert completed["cost_usd"] > 0
    assert [row[0] for row in rows(run("runs", "list", "--limit", "1").stdout)] == [second]
    assert run("runs", "list", "--workflow", "other").stdout == ""


def test_show(run: Run, review: Any, simulator: Simulator) -> None:
    """Each step in the order of the file with how it ended and why, and one step's answer by itself."""
    simulator.script(None, ApiFault(500))
    run_id = review()
    shown = run("runs", "show", run_id[:-2])
    assert [row[:2] for row in rows(shown.stdout)] == [["a", "done"], ["b", "failed"], ["sum", "not run"]]
    assert rows(shown.stdout)[1][-1].startswith("ServerError: ")
    assert f"note: run {run_id} of review: failed" in shown.stderr
    assert run("runs", "show", "last", "--step", "a").stdout == "a\n"
    assert json.loads(run("runs", "show", "last", "--step", "a", "--json").stdout) == {"a": "a"}
    data = json.loads(run("runs", "show", "last", "--json").stdout)
    assert (data["id"], data["steps"]["sum"]["status"], data["steps"]["a"]["attempts"]) == (run_id, "not_run", 1)


def test_items(run: Run, project: Path) -> None:
    """A step that was done for each item of a list has the answers of all, and each of them by itself."""
    step = {"id": "each", "agent": "reviewer", "task": "look at {{ item }}", "for_each": "{{ inputs.words }}"}
    path = project / "each.json"
    path.write_text(json.dumps({"inputs": {"words": {"type": "list", "default": ["x", "y"]}}, "steps": [step]}))
    assert run("run-workflow", "each.json").returncode == 0
    assert [row[:2] for row in rows(run("runs", "show", "last").stdout)] == [
        ["each", "done"],
        ["each[0]", "done"],
        ["each[1]", "done"],
    ]
    assert run("runs", "show", "last", "--step", "each").stdout == "==> each[0] <==\nx\n==> each[1] <==\ny\n"
    assert run("runs", "show", "last", "--step", "each[1]").stdout == "y\n"


MISTAKES = [
    (["show", "2020"], "there is no run '2020'"),
    (["show", ""], "there is no run ''"),
    (["show", "20"], "2 runs begin with '20'; give more of the id"),
    (["show", "last", "--step", "summ"], "has no step 'summ'; did you mean 'sum'?"),
    (["show", "last", "--step", "sum"], "has no answer: the run ended: "),
    (["diff", "last", "nowhere"], "there is no run 'nowhere'"),
    (["prune"], "say what may go"),
    (["prune", "--keep", "1"], "give --yes"),
    (["prune", "--older-than", "soon", "--yes"], "'soon' is no age"),
]


def test_mistakes(run: Run, review: Any, simulator: Simulator) -> None:
    """What is not there, or not clear, is said with what to do next, and nothing is removed."""
    review()
    simulator.script(ApiFault(500))
    review("--no-cache")
    for args, said in MISTAKES:
        done = run("runs", *args)
        assert (done.returncode, done.stdout) == (2, ""), args
        assert said in done.stderr
    assert len(rows(run("runs", "list").stdout)) == 2


def test_a_forged_answer_is_not_shown(run: Run, review: Any, project: Path) -> None:
    """An answer that was changed on disk is refused."""
    review()
    with sqlite3.connect(project / ".claude/runs.db") as connection:
        connection.execute("UPDATE answers SET sealed = replace(sealed, CAST('a' AS BLOB), CAST('z' AS BLOB))")
    connection.close()
    done = run("runs", "show", "last", "--step", "a")
    assert (done.returncode, done.stdout) == (1, "")
    assert "its signature is not ours" in done.stderr


def test_a_journal_that_is_none(run: Run, project: Path) -> None:
    """A file that is no journal is said to be none, in one line."""
    (project / ".claude/runs.db").write_text("mine " * 1000)
    done = run("runs", "list", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["type"] == "JournalError"


def test_diff(run: Run, review: Any, write: Any, project: Path) -> None:
    """The steps that differ, each with what changed; two runs that are the same have none."""
    first = review()
    write("a", "b again", "sum")
    agent = project / ".claude/agents/reviewer.md"
    agent.write_text(agent.read_text() + "Be kind.\n")
    second = review()
    done = run("runs", "diff", first, second)
    assert rows(done.stdout) == [
        ["a", "agent file reviewer.md changed"],
        ["b", "agent file reviewer.md changed; its task changed; its answer changed"],
        ["sum", "agent file reviewer.md changed; the answer of 'b' changed"],
    ]
    write("a", "c", "sum")
    review()
    found = {row["step"]: row["changes"] for row in json.loads(run("runs", "diff", second, "last", "--json").stdout)}
    assert found["a"] == ["done is now cached"]
    assert (found["b"], found["c"]) == (["done is now not there"], ["not there is now done"])
    same = run("runs", "diff", "last", "last")
    assert (same.stdout, "the two runs are the same" in same.stderr) == ("", True)


def test_prune(run: Run, review: Any) -> None:
    """The newest stay, what is young stays, and the rest goes with its answers."""
    review()
    last = review("--no-cache")
    assert run("runs", "prune", "--older-than", "1d", "--yes").stdout == "0 removed\n"
    assert run("runs", "prune", "--keep", "1", "--yes").stdout == "1 removed\n"
    assert [row[0] for row in rows(run("runs", "list").stdout)] == [last]
    assert run("runs", "show", "last", "--step", "sum").stdout == "sum\n"


def test_a_clock_that_was_set_back() -> None:
    """How long a run took is not known then; it is not less than nothing."""
    now = datetime.now(UTC)
    run = RunRecord(id="r", workflow="w", status="completed", started_at=now, ended_at=now - timedelta(hours=1))
    assert duration_s(run) is None
    assert facts(run)["duration_s"] is None
