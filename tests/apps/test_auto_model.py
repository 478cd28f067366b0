"""`execute --auto-model`: the model is chosen for the task, and the user hears which one and why."""

import json
from pathlib import Path

import pytest

from claude_force.testing import Simulator

from .conftest import Run

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


def test_what_it_saves_is_told(run: Run, project: Path) -> None:
    """Against the model that would have been asked, by the same tokens; a dearer choice has cost more."""
    (project / "tasks.jsonl").write_text(f'"{EASY}"\n')
    easy = run("execute", "helper", "--tasks-file", "tasks.jsonl", "--auto-model")
    assert "would have saved: $0.0" in easy.stderr
    assert " by routing\n" in easy.stderr
    assert run("execute", "helper", HARD, "--auto-model", "--json").returncode == 0
    agents = json.loads(run("analytics", "costs", "--simulated", "--json", "--by-model").stdout)["groups"]
    saved = {agent["model"]: agent["saved_by_routing_usd"] for agent in agents}
    assert saved["claude-haiku-5-5"] > 0 > saved["claude-opus-5-5"]


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
        (["helper", EASY, "--max-tier", "opus"], "belong to --auto-model"),
        (["helper", EASY, "--auto-model", "--min-tier", "opus", "--max-tier", "haiku"], "exchange them"),
        (["nobody", EASY, "--auto-model"], "nobody"),
    ],
    ids=["model", "tier alone", "crossed", "no such agent"],
)
def test_what_does_not_go_together(run: Run, simulator: Simulator, args: list[str], said: str) -> None:
    """A mistake is explained, and nothing is sent."""
    done = run("execute", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert not simulator.requests


HAIKU, SONNET, OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"
STEPS = [
    {"id": "easy", "agent": "helper", "task": EASY},
    {"id": "hard", "agent": "helper", "task": HARD, "dependencies": ["easy"]},
    {"id": "own", "agent": "reviewer", "task": HARD, "dependencies": ["hard"]},
]


@pytest.fixture
def workflow(project: Path) -> Path:
    """Three steps, one of them of an agent that names its model."""
    (project / ".claude/workflows").mkdir()
    path = project / ".claude/workflows/three.json"
    path.write_text(json.dumps({"steps": STEPS}))
    return path


def test_each_line_of_a_tasks_file_has_its_own_model(project: Path, run: Run, simulator: Simulator) -> None:
    """A line that names one is obeyed; what is done is not asked again because another model would be chosen by now."""
    (project / "tasks.jsonl").write_text(
        "\n".join(json.dumps(task) for task in (EASY, HARD, {"task": EASY, "model": "opus"}))
    )
    args = ("execute", "helper", "--tasks-file", "tasks.jsonl", "--output", "results.jsonl", "--auto-model")
    assert run(*args).returncode == 0
    lines = [json.loads(line) for line in (project / "results.jsonl").read_text().splitlines()]
    found = {line["number"]: line["result"] for line in lines}
    assert [found[number]["model"] for number in (1, 2, 3)] == [HAIKU, OPUS, OPUS]
    assert [(found[number]["choice"] or {}).get("effort") for number in (1, 2, 3)] == ["low", "high", None]
    ledger = project / ".claude/metrics/executions.jsonl"
    failed = json.loads(ledger.read_text().splitlines()[0]) | {
        "agent_name": "helper",
        "model": HAIKU,
        "success": False,
        "error_type": "InvalidOutputError",
        "cached": False,
        "simulated": False,
    }
    ledger.write_text(f"{json.dumps(failed)}\n" * 5)
    assert run(*args).returncode == 0
    assert len(simulator.requests) == 3
    assert run(*args, "--min-tier", "sonnet").returncode == 0
    assert (len(simulator.requests), simulator.requests[-1].model) == (4, SONNET)  # the cache has the others


@pytest.mark.usefixtures("workflow")
def test_each_step_of_a_workflow_has_its_own_model(run: Run, simulator: Simulator) -> None:
    """The plan says which and why before anything is sent; the run asks those, and its result says so."""
    planned = run("run-workflow", "three", "--auto-model", "--plan", "--json")
    steps = json.loads(planned.stdout)["steps"]
    assert not simulator.requests
    done = run("run-workflow", "three", "--auto-model", "--json")
    result = json.loads(done.stdout)["steps"]
    models = [HAIKU, OPUS, HAIKU]
    assert [step["model"] for step in steps] == [seen.model for seen in simulator.requests] == models
    assert [step["choice"] for step in steps] == [result[step]["choice"] for step in ("easy", "hard", "own")]
    assert steps[1]["choice"]["reasons"] == ["hard work: design, architecture"]
    assert steps[2]["choice"] is None
    assert "model: hard: claude-opus-5-5, effort high" in done.stderr
    assert "model: hard: claude-opus-5-5, effort high" in run("run-workflow", "three", "--auto-model", "--plan").stderr


@pytest.mark.usefixtures("workflow")
@pytest.mark.parametrize(
    "args",
    [
        ["execute", "helper", HARD],
        ["run-workflow", "three"],
        ["cache", "warm", "helper", "--tasks-file", "tasks.jsonl"],
    ],
    ids=["execute", "run-workflow", "cache warm"],
)
def test_the_config_may_say_so_for_all(project: Path, run: Run, simulator: Simulator, args: list[str]) -> None:
    """`routing` holds for every command, with its bounds."""
    (project / "tasks.jsonl").write_text(json.dumps(HARD))
    (project / ".claude/claude.json").write_text('{"routing": {"enabled": true, "max_tier": "sonnet"}}')
    assert run(*args).returncode == 0
    assert SONNET in {seen.model for seen in simulator.requests}
    assert OPUS not in {seen.model for seen in simulator.requests}


def test_a_command_wins_over_the_config(project: Path, run: Run, simulator: Simulator) -> None:
    """For one call it can be switched off, or the bounds be others."""
    (project / ".claude/claude.json").write_text('{"routing": {"enabled": true}, "defaults": {"model": "haiku"}}')
    assert run("execute", "helper", HARD, "--no-auto-model").returncode == 0
    assert run("execute", "helper", HARD, "--max-tier", "sonnet").returncode == 0
    assert [seen.model for seen in simulator.requests] == [HAIKU, SONNET]
