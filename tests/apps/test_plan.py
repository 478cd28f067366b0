"""`--plan`: what a command would do and cost, with nothing asked; `--exact`, and what could be saved."""

import json
from pathlib import Path
from typing import Any

import anthropic  # noqa: F401 - the first import takes a second, which is not for a test's time limit
import pytest

from claude_force.testing import ApiFault, Rule, Simulator

from .conftest import Run

COUNT = "/v1/messages/count_tokens"
TASKS: tuple[Any, ...] = (
    "Review it.",
    {"task": "Test it.", "id": "t"},
    "Review it.",
    {"task": "Read it.", "files": ["a.py"]},
)
STEPS = [
    {"id": "a", "agent": "reviewer", "task": "Look."},
    {"id": "b", "agent": "reviewer", "task": "Sum up {{ steps.a.output }}", "dependencies": ["a"]},
]
PLANS = {
    "one": (["execute", "reviewer", "Review it."], 1),
    "file": (["execute", "reviewer", "--tasks-file", "tasks.jsonl", "--output", "results.jsonl"], 3),
    "workflow": (["run-workflow", "two"], 2),
}


@pytest.fixture
def project(project: Path) -> Path:
    """A project with something to plan."""
    (project / "tasks.jsonl").write_text("".join(f"{json.dumps(task)}\n" for task in TASKS))
    (project / "a.py").write_text("print('é')\n" * 500)
    (project / ".claude/workflows").mkdir()
    (project / ".claude/workflows/two.json").write_text(json.dumps({"steps": STEPS}))
    return project


def files(folder: Path) -> dict[str, bytes]:
    """All that lies there."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def planned(run: Run, *args: str) -> Any:
    """The plan, as a machine reads it."""
    done = run(*args, "--plan", "--json")
    assert done.returncode == 0
    return json.loads(done.stdout)


def items(plan: Any) -> list[Any]:
    """Its steps, or tasks."""
    found: list[Any] = plan.get("steps") or plan["tasks"]
    return found


@pytest.mark.parametrize(("args", "prompts"), PLANS.values(), ids=PLANS.keys())
def test_a_plan_asks_nothing_and_writes_nothing(
    project: Path, run: Run, simulator: Simulator, args: list[str], prompts: int
) -> None:
    """Without --exact, nothing at all is sent; with it, each prompt is counted once, as it is then billed."""
    before = files(project)
    assert run(*args, "--plan").returncode == 0
    assert simulator.stats.calls == {}
    plan = planned(run, *args, "--exact")
    assert (simulator.stats.calls, files(project)) == ({COUNT: prompts}, before)
    assert run(*args).returncode == 0
    if args[0] == "execute":  # of a workflow, the length of what is not answered yet is a guess
        billed = [usage.prompt_tokens for usage in simulator.stats.usage.values()]
        assert sum(item["prompt_tokens"] for item in items(plan)) == sum(billed)


def test_what_waits_for_an_answer_is_counted_in_part(run: Run) -> None:
    """What is not there cannot be counted, and the plan says so."""
    steps = items(planned(run, "run-workflow", "two", "--exact"))
    assert [step["counted"] for step in steps] == ["all", "part"]
    assert steps[1]["prompt_tokens"] > steps[0]["output_tokens"]
    said = run("run-workflow", "two", "--plan", "--exact").stderr
    assert "b: the answers that it waits for are not counted, but estimated" in said
    assert "nothing was asked, the prompts were only counted" in said


@pytest.mark.parametrize(
    ("fault", "times", "code", "calls"),
    [(ApiFault(401), None, 3, 1), (ApiFault(529), 2, 0, 3), (ApiFault(400), None, 1, 1)],
    ids=["credentials", "passing", "bad request"],
)
def test_what_goes_wrong_while_counting(
    project: Path, run: Run, fault: ApiFault, times: int | None, code: int, calls: int
) -> None:
    """It is told as for a call, with its exit code; what may pass is tried again."""
    (project / ".claude/claude.json").write_text('{"defaults": {"max_retries": 2}}')
    with Simulator(rules=[Rule(fault, when=lambda _: True, times=times)]) as faulty:
        done = run("execute", "reviewer", "x", "--plan", "--exact", "--json", ANTHROPIC_BASE_URL=faulty.base_url)
        assert (done.returncode, faulty.stats.calls) == (code, {COUNT: calls})
    assert ("error" in json.loads(done.stdout)) is bool(code)


def test_no_more_than_allowed_are_counted_at_once(project: Path, run: Run, simulator: Simulator) -> None:
    """The bound is that of calls."""
    (project / ".claude/claude.json").write_text('{"performance": {"max_concurrent_agents": 2}}')
    (project / "tasks.jsonl").write_text("".join(f'"Task {number}."\n' for number in range(30)))
    assert run("execute", "reviewer", "--tasks-file", "tasks.jsonl", "--plan", "--exact").returncode == 0
    assert simulator.stats.calls == {COUNT: 30}
    assert simulator.stats.max_in_flight <= 2


def test_what_is_done_or_repeated_is_not_paid(project: Path, run: Run) -> None:
    """A task that stands there twice is asked once; what a results file has is left out, and the file is only read."""
    args = ("execute", "reviewer", "--tasks-file", "tasks.jsonl", "--output", "results.jsonl")
    tasks = items(planned(run, *args))
    assert [(task["number"], task["id"], task["cache"]) for task in tasks] == [
        (1, None, "asked"),
        (2, "t", "asked"),
        (3, None, "repeated"),
        (4, None, "asked"),
    ]
    assert tasks[2]["max_usd"] == 0
    assert run(*args).returncode == 0
    results = project / "results.jsonl"
    cut = results.read_bytes().splitlines(keepends=True)[0] + b'{"number":2'
    results.write_bytes(cut)
    left = items(planned(run, *args))
    assert len(left) == 3
    assert {task["cache"] for task in left} == {"cached"}
    assert results.read_bytes() == cut


def test_the_savings_are_those_of_the_run(project: Path, run: Run, simulator: Simulator) -> None:
    """What the prompt cache then saves, and what the cache then has, is what was foretold; a batch is half."""
    agent = project / ".claude/agents/reviewer.md"
    agent.write_text(agent.read_text() + "You look at every line twice.\n" * 600)
    (project / "tasks.jsonl").write_text("".join(f'"Task {number}."\n' for number in range(6)))
    args = ("execute", "reviewer", "--tasks-file", "tasks.jsonl")
    plan = planned(run, *args, "--exact")
    savings = plan["savings"]
    assert savings["batch_usd"] == pytest.approx(plan["expected_usd"] / 2)
    assert (savings["cache_usd"], savings["routing_usd"]) == (0, 0)
    done = run(*args, "--max-concurrent", "1", "--output", "results.jsonl", "--json")
    paid = json.loads(done.stdout)
    assert savings["prompt_cache_usd"] == pytest.approx(paid["prompt_caching"]["saved_usd"], rel=0.02)
    again = planned(run, *args)
    assert again["savings"]["cache_usd"] == pytest.approx(paid["cost_usd"])
    assert (again["expected_usd"], again["savings"]["batch_usd"]) == (0, 0)
    assert simulator.stats.calls["/v1/messages"] == 6


def test_what_routing_would_save_is_what_it_saves(project: Path, run: Run) -> None:
    """Off, the plan says what it would change, and on, what it does: the same, and below 0 where it costs more."""
    (project / ".claude/agents/helper.md").write_text("---\nname: helper\ndescription: Helps.\n---\nYou help.\n")
    for task, sign in (("Fix the typo in the title.", 1), ("Design the architecture of a payment service.", -1)):
        off = planned(run, "execute", "helper", task)
        on = planned(run, "execute", "helper", task, "--auto-model")
        assert off["savings"]["routing_usd"] == on["savings"]["routing_usd"]
        assert off["savings"]["routing_usd"] == pytest.approx(off["expected_usd"] - on["expected_usd"])
        assert off["savings"]["routing_usd"] * sign > 0
        assert on["tasks"][0]["choice"]["reasons"]
    assert "routing   costs" in run("execute", "helper", task, "--auto-model", "--plan").stdout


def test_what_is_left_out_of_the_prompts_is_said(project: Path, run: Run) -> None:
    """Once, as a call does, and for programs: a plan is what one looks at before paying."""
    (project / "CLAUDE.md").write_text("@gone.md")
    (project / "tasks.jsonl").write_text('"x"\n"y"\n')
    said = "warning: 'gone.md', which 'CLAUDE.md' imports, is no part of the project's context"
    for args in (["x"], ["--tasks-file", "tasks.jsonl"]):
        planned = run("execute", "reviewer", *args, "--plan", "--json")
        assert planned.stderr.count(said) == 1
        assert [len(task["warnings"]) for task in json.loads(planned.stdout)["tasks"]] == [1] * len(args)


def test_a_limit_that_is_too_low_is_said(run: Run) -> None:
    """Before anything is paid."""
    said = run("execute", "reviewer", "x", "--plan", "--max-usd", "0.0001").stderr
    assert "--max-usd 0.0001 is less than what is expected" in said


def test_exact_belongs_to_plan(run: Run, simulator: Simulator) -> None:
    """Alone it would mean nothing."""
    for args in (("execute", "reviewer", "x"), ("run-workflow", "two")):
        done = run(*args, "--exact")
        assert (done.returncode, "--exact belongs to --plan" in done.stderr) == (2, True)
    assert simulator.stats.calls == {}
