"""`agents recommend` and `execute auto`: who should do it, from the shell."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import anthropic  # noqa: F401 - takes seconds, which no test's time limit should pay
import pytest

from claude_force.testing import Simulator

Run = Callable[..., CompletedProcess[str]]
AGENT = "---\nname: {0}\ndescription: {1}\nmodel: haiku\n---\nYou know Homer.\n"


@pytest.fixture(autouse=True)
def _crew(project: Path) -> None:
    """A second agent, so that there is a choice."""
    path = project / ".claude/agents/translator.md"
    path.write_text(AGENT.format("translator", "Translates texts into other languages."))


def test_recommend(run: Run) -> None:
    """Plain lines in a pipe: agent, confidence, why; the task may come from there, too."""
    done = run("agents", "recommend", "Translate the manual")
    name, confidence, why = done.stdout.strip().split("\t")
    assert (done.returncode, name, why) == (0, "translator", "it has the words translate")
    assert 0.5 < float(confidence) <= 1
    assert run("agents", "recommend", "-", stdin="Translate the manual").stdout == done.stdout


def test_recommend_as_json(run: Run) -> None:
    """For machines; none is an empty list."""
    [match] = json.loads(run("agents", "recommend", "Translate the manual", "--json").stdout)
    assert match["agent_name"] == "translator"
    assert match["reasons"] == ["it has the words translate"]
    done = run("agents", "recommend", "Sing of Rome", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


def test_recommend_explains(run: Run) -> None:
    """What each word says, and what the ranking goes by."""
    done = run("agents", "recommend", "Translate the code", "--explain")
    assert "the word translate" in done.stdout
    assert "by: words alone: no all-MiniLM-L6-v2" in done.stderr
    found = json.loads(run("agents", "recommend", "Translate the code", "--explain", "--json").stdout)
    assert [each["agent_name"] for each in found["agents"]] == ["translator", "reviewer"]
    assert found["fits"] is True


@pytest.mark.parametrize("options", [(), ("--async",)])
def test_execute_auto(run: Run, simulator: Simulator, options: tuple[str, ...]) -> None:
    """The one that fits is asked; who and why is on stderr, the answer alone on stdout."""
    done = run("execute", "auto", "Translate the manual", *options)
    assert (done.returncode, done.stdout) == (0, "Looks good.\n")
    assert "agent: translator (" in done.stderr
    assert "it has the words translate" in done.stderr
    assert len(simulator.requests) == 1


def test_execute_auto_with_all_else(run: Run, project: Path) -> None:
    """The task from standard input, a file, JSON, offline; a machine is told who was chosen, and why."""
    (project / "manual.txt").write_text("Press the button.")
    done = run("execute", "auto", "-", "--file", "manual.txt", "--json", "--offline", stdin="Translate this.")
    answer = json.loads(done.stdout)
    assert answer["agent_name"] == answer["selection"]["agent_name"] == "translator"
    assert run("execute", "auto", "Translate it", "--plan", "--offline").returncode == 0


def test_execute_auto_refuses(run: Run, simulator: Simulator, project: Path) -> None:
    """Where none fits, nothing is sent, and the nearest are named; nor does it choose for a file of tasks."""
    done = run("execute", "auto", "Was Homer blind?")
    assert (done.returncode, done.stdout) == (2, "")
    assert "probably no agent fits" in done.stderr
    assert "'translator' (0." in done.stderr
    assert "nothing speaks for any" in run("execute", "auto", "Sing of Rome").stderr
    (project / "tasks.jsonl").write_text('"Translate it."\n')
    done = run("execute", "auto", "--tasks-file", "tasks.jsonl")
    assert done.returncode == 2
    assert "auto chooses for one task" in done.stderr
    assert not simulator.requests


def test_an_agent_that_is_really_named_auto(run: Run, project: Path) -> None:
    """Is called as any other."""
    (project / ".claude/agents/auto.md").write_text(AGENT.format("auto", "Repairs cars."))
    done = run("execute", "auto", "Translate the manual")
    assert done.returncode == 0
    assert "agent:" not in done.stderr
