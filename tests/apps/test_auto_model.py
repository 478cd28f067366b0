"""`execute --auto-model`: the model is chosen for the task, and the user hears which one and why."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_force.testing import Simulator

Run = Callable[..., subprocess.CompletedProcess[str]]

EASY, HARD = "Fix the typo in the title.", "Design the architecture of a payment service."


@pytest.fixture
def project(project: Path) -> Path:
    """The project of the command line's tests, with an agent that names no model."""
    (project / ".claude/agents/helper.md").write_text("---\nname: helper\ndescription: Helps.\n---\nYou help.\n")
    return project


@pytest.mark.parametrize(
    ("args", "model", "said"),
    [
        (["helper", EASY], "claude-haiku-5-5", "model: claude-haiku-5-5, effort low (score 0.15): "),
        (["helper", HARD], "claude-opus-5-5", "hard work: design, architecture"),
        (["helper", HARD, "--async"], "claude-opus-5-5", "hard work: design, architecture"),
        (["helper", HARD, "--max-tier", "sonnet"], "claude-sonnet-5-5", "sonnet is the most that is allowed"),
        (["helper", EASY, "--min-tier", "sonnet"], "claude-sonnet-5-5", "sonnet is the least that is allowed"),
        (["reviewer", HARD], "claude-haiku-5-5", "model: claude-haiku-5-5: the file of 'reviewer' names 'haiku'\n"),
    ],
    ids=["easy", "hard", "async", "most", "least", "agent's own"],
)
def test_the_model_and_why(run: Run, simulator: Simulator, args: list[str], model: str, said: str) -> None:
    """One line on stderr says what was chosen; it is what is asked, and stdout has the answer alone."""
    done = run("execute", *args, "--auto-model")
    assert (done.returncode, done.stdout) == (0, "Looks good.\n")
    assert [line for line in done.stderr.splitlines(keepends=True) if said in line]
    assert [seen.model for seen in simulator.requests] == [model]


def test_piped_material_counts(run: Run, simulator: Simulator) -> None:
    """What is piped in is read once, for the choice and for the call."""
    assert run("execute", "helper", "Summarise it.", "--auto-model", stdin="a long page").returncode == 0
    assert simulator.requests[0].model == "claude-haiku-5-5"
    assert "a long page" in simulator.requests[0].prompt


def test_a_limit_on_money_holds(run: Run, simulator: Simulator) -> None:
    """What the chosen model could cost has to be within --max-usd."""
    done = run("execute", "helper", HARD, "--auto-model", "--max-usd", "0.001")
    assert (done.returncode, done.stdout) == (4, "")
    assert "model: claude-opus-5-5" in done.stderr
    assert not simulator.requests


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["helper", EASY, "--auto-model", "--model", "opus"], "does not go with --model"),
        (["helper", "--auto-model", "--tasks-file", "tasks.jsonl"], "does not go with --tasks-file"),
        (["helper", EASY, "--max-tier", "opus"], "belong to --auto-model"),
        (["helper", EASY, "--auto-model", "--min-tier", "opus", "--max-tier", "haiku"], "exchange them"),
        (["nobody", EASY, "--auto-model"], "nobody"),
    ],
    ids=["model", "tasks file", "tier alone", "crossed", "no such agent"],
)
def test_what_does_not_go_together(run: Run, simulator: Simulator, args: list[str], said: str) -> None:
    """A mistake is explained, and nothing is sent."""
    done = run("execute", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert not simulator.requests
