"""`claude-force workflows`: a real process, real files, and nothing sent."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from claude_force.testing import Simulator

from .conftest import Run

GOOD: dict[str, Any] = {
    "name": "Look Twice",
    "description": "Two looks, one word.",
    "inputs": {
        "code": {"required": True, "description": "What to look at"},
        "depth": {"type": "integer", "default": 2},
    },
    "max_cost_usd": 9,
    "steps": [
        {"id": "first", "agent": "reviewer", "task": "Look: {{ inputs.code }}"},
        {"id": "second", "agent": "reviewer", "task": "Look again: {{ inputs.code }}", "on_failure": "continue"},
        {"id": "word", "agent": "reviewer", "task": "One word.", "dependencies": ["first", "second"]},
    ],
}
CIRCLE = """
steps:
- {id: a, agent: reviewer, task: x, dependencies: [b]}
- {id: b, agent: reviewr, task: "{{ inputs.no }}", dependencies: [a], modle: opus}
"""


@pytest.fixture
def project(project: Path) -> Path:
    """A project with a workflow that is sound."""
    folder = project / ".claude/workflows"
    folder.mkdir()
    (folder / "look.json").write_text(json.dumps(GOOD))
    (project / "main.py").write_text("print('hello')\n")
    return project


def write(project: Path, name: str, text: str) -> None:
    """One more workflow."""
    (project / ".claude/workflows" / name).write_text(text)


def test_list(run: Run, project: Path) -> None:
    """What there is, and what is broken with its fault, which stops nobody."""
    write(project, "circle.yaml", CIRCLE)
    write(project, "garbage.json", "{")
    (project / ".claude/workflows/folder.json").mkdir()
    done = run("workflows", "list")
    rows = {row.split("\t")[0]: row.split("\t")[1:] for row in done.stdout.splitlines()}
    assert rows["look"] == ["3", "Two looks, one word.", str(project / ".claude/workflows/look.json")]
    assert rows["circle"][1].startswith("broken: steps[1].modle: unknown key")
    assert rows["garbage"][:1] == rows["folder"][:1] == ["?"]
    assert "broken: it is not JSON" in rows["garbage"][1]
    assert (done.returncode, "3 cannot be run" in done.stderr) == (0, True)
    facts = {fact["name"]: fact for fact in json.loads(run("workflows", "list", "--json").stdout)}
    assert facts["look"]["steps"] == ["first", "second", "word"]
    assert len(facts["circle"]["problems"]) == 4


def test_none(run: Run, project: Path) -> None:
    """Where there are none, the way to some is shown."""
    (project / ".claude/workflows/look.json").unlink()
    done = run("workflows", "list")
    assert (done.stdout, "`claude-force init` writes some" in done.stderr) == ("", True)


def test_show(run: Run) -> None:
    """What it must be given, what it may cost, who does what, and what waits for what."""
    done = run("workflows", "show", "look")
    assert "code  string, required  What to look at" in done.stdout
    assert "depth  integer, default 2" in done.stdout
    assert "max_cost_usd: 9" in done.stdout
    assert "●─╯ word    reviewer · after first, second" in done.stdout
    assert "second  reviewer, on_failure continue" in done.stdout
    assert json.loads(run("workflows", "show", "look", "--json").stdout)["order"] == ["first", "second", "word"]


def test_validate(run: Run, project: Path) -> None:
    """Every fault of every workflow with its file, and exit code 2; 0 where all is well."""
    assert run("workflows", "validate").stdout == "1 sound, 0 not\n"
    write(project, "circle.yaml", CIRCLE)
    write(project, "garbage.json", "{")
    done = run("workflows", "validate")
    path = project / ".claude/workflows/circle.yaml"
    for said in (
        f"{path}: steps[1].modle: unknown key; did you mean 'model'?",
        f"{path}: steps: a -> b -> a is a circle",
        f"{path}: steps.b.task: there is no input 'no'",
        f"{path}: steps.b.agent: no agent is named 'reviewr'; did you mean 'reviewer'?",
        "garbage.json: it is not JSON",
    ):
        assert said in done.stderr
    assert (done.returncode, done.stdout) == (2, "1 sound, 2 not\n")
    assert run("workflows", "validate", "look").returncode == 0
    assert run("workflows", "validate", "lok").returncode == 2
    refused = run("workflows", "graph", "look", "--output", "/proc/none/picture")
    assert (refused.returncode, "cannot write '/proc/none/picture': " in refused.stderr) == (2, True)
    assert len(json.loads(run("workflows", "validate", "circle", "--json").stdout)[0]["problems"]) == 4


@pytest.mark.parametrize(
    ("kind", "begins"), [("text", "●   first"), ("mermaid", "flowchart TD"), ("dot", "digraph"), ("svg", "<svg")]
)
def test_graph(run: Run, project: Path, kind: str, begins: str) -> None:
    """Each format on stdout, or in a file."""
    done = run("workflows", "graph", "look", "--format", kind)
    assert done.stdout.startswith(begins)
    assert run("workflows", "graph", "look", "--format", kind, "--output", "picture").stdout == ""
    assert (project / "picture").read_text() == done.stdout
    data = json.loads(run("workflows", "graph", "look", "--format", kind, "--json").stdout)
    assert data["picture"] == done.stdout
    assert data["steps"][2] == {"id": "word", "dependencies": ["first", "second"]}


@pytest.mark.usefixtures("project")
def test_a_terminal_without_boxes() -> None:
    """Gets stars and bars."""
    command = ["claude-force", "workflows", "graph", "look"]
    done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=True)
    assert b"*-' word" in done.stdout


def test_plan(run: Run, simulator: Simulator) -> None:
    """What is cached, what would be asked, what it costs, and whether the limit holds; nothing is sent."""
    done = run("workflows", "plan", "look", "--input", "code=@main.py")
    assert "first\treviewer\tclaude-haiku-5-5\tasked\t" in done.stdout
    assert "\tunknown: depends on the answer of first, second\t" in done.stdout
    assert "\nlimit     $9.0 is more than it can cost\n" in done.stdout
    assert "nothing was sent" in done.stderr
    data = json.loads(run("workflows", "plan", "look", "--input", "code=x", "--json").stdout)
    assert 0 < data["min_usd"] < data["expected_usd"] < data["max_usd"]
    assert (data["budget"], data["critical_path"]) == ("holds", ["first", "word"])
    short = run("workflows", "plan", "look", "--input", "code=x", "--max-usd", "0.0001").stdout
    assert "is too low: 'first' would not be sent" in short
    assert simulator.stats.calls == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "llama"}, "maximum   no bound: llama unpriced"),
        ({"model": "llama"}, "minimum   $0.00"),
        ({"task": " "}, "second would fail before anything is sent for it: the task for 'reviewer' is empty"),
        ({"for_each": "{{ steps.first.output }}", "dependencies": ["first"]}, "how often second will be done"),
    ],
    ids=["unpriced", "priced part", "refused", "unbounded"],
)
def test_what_a_plan_cannot_know(run: Run, project: Path, change: dict[str, Any], said: str) -> None:
    """No price, no bound, a task that would be refused: said, and never counted as nothing."""
    first, second, word = GOOD["steps"]
    write(project, "look.json", json.dumps({**GOOD, "steps": [first, second | change, word]}))
    done = run("workflows", "plan", "look", "--input", "code=x")
    assert said in done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["plan", "look"], "inputs.code: nothing gives it (What to look at)"),
        (["plan", "look", "--input", "code"], "write name=value, name=@file or name=-"),
        (["plan", "look", "--input", "code=@none.py"], "cannot read 'none.py'"),
        (["show", "lok"], "there is no workflow 'lok'; did you mean 'look'?"),
    ],
    ids=" ".join,
)
def test_mistakes(run: Run, args: list[str], said: str) -> None:
    """Are said in a line, with exit code 2."""
    done = run("workflows", *args)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
