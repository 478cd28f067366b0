"""`--max-usd` and `claude-force budgets`: a real process, a real server, and never more than was allowed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_force.base.usage import Usage
from claude_force.testing import Answer, Simulator

from .conftest import Run

# Of haiku, 1,000 tokens of output cost $0.0005, and a prompt here less than $0.00005.
ASK = ("execute", "reviewer", "--max-tokens", "1000")


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A server that uses all of the output that it may."""
    usage = Usage(input_tokens=10, output_tokens=1000)
    with Simulator(answer=lambda request: Answer(request.prompt, usage=usage)) as running:
        yield running


def configure(project: Path, **config: Any) -> None:
    """The project's config."""
    (project / ".claude/claude.json").write_text(json.dumps(config))


def test_one_call(run: Run, project: Path, simulator: Simulator) -> None:
    """What it could cost is said before it is sent; then how the day stands, for people and machines."""
    configure(project, budgets={"per_day_usd": 1, "per_agent_per_day_usd": {"reviewer": 0.0011}})
    refused = run(*ASK, "one", "--max-usd", "0.0001")
    assert (refused.returncode, refused.stdout, simulator.stats.calls) == (4, "", {})
    assert "'reviewer' is not sent: it could cost $0.0005, and $0.0001 of max_cost_usd" in refused.stderr
    assert run(*ASK, "one").stdout == "one\n"
    rows = json.loads(run("budgets", "--json").stdout)
    assert [row["limit"] for row in rows] == ["budgets.per_agent_per_day_usd.reviewer", "budgets.per_day_usd"]
    assert [(row["spent_usd"], row["held_usd"]) for row in rows] == [(0.000501, 0)] * 2
    assert run("budgets").stdout.splitlines()[1].split("\t") == [
        "budgets.per_day_usd", "$1.0000", "$0.0005", "$0.0000", "$0.9995",
    ]  # fmt: skip
    assert json.loads(run("budgets", "--json", "--offline").stdout)[0]["spent_usd"] == 0
    assert run(*ASK, "two", "--async").stdout == "two\n"
    assert run(*ASK, "three").returncode == 4


def test_many_tasks(run: Run, project: Path, simulator: Simulator) -> None:
    """What fits is done and kept, the rest is not run, and more money goes on from there."""
    (project / "t.jsonl").write_text("".join(f'"task {number}"\n' for number in range(4)))
    ask = (*ASK, "--tasks-file", "t.jsonl", "--output", "r.jsonl")
    first = run(*ask, "--max-usd", "0.0011", "--json")
    facts = json.loads(first.stdout)
    assert (first.returncode, facts["exit_code"]) == (4, 4)
    assert (facts["done"], facts["failed"], facts["not_run"], facts["error"]["type"]) == (2, 0, 2, "BudgetError")
    assert "is not sent: it could cost" in first.stderr
    assert simulator.stats.calls == {"/v1/messages": 2}
    assert run(*ask, "--max-usd", "1").returncode == 0
    assert simulator.stats.calls == {"/v1/messages": 4}


def test_no_budget(run: Run, project: Path) -> None:
    """Is said, and no file is made."""
    done = run("budgets")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no budget is set" in done.stderr
    assert not (project / ".claude/budgets.db").exists()


def test_a_budget_that_is_none(run: Run, project: Path) -> None:
    """Is a fault of the config."""
    configure(project, budgets={"per_day_usd": 0, "per_dya_usd": 1})
    done = run("budgets")
    assert done.returncode == 2
    assert "budgets.per_dya_usd" in done.stderr
