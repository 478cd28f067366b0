"""`claude-force skills`, and what other commands tell of skills and the project's context."""

import json
from pathlib import Path

import pytest

from claude_force.testing import Simulator

from .conftest import Run


@pytest.fixture
def project(skilled: Path) -> Path:
    """With a CLAUDE.md, and skills that the agent lists."""
    return skilled


def test_list_and_show(run: Run) -> None:
    """Names for a person, all facts for a machine, and single files; a way out of the folder is bad usage."""
    assert [line.split("\t")[0] for line in run("skills", "list").stdout.splitlines()] == ["main", "sql", "tests"]
    shown = json.loads(run("skills", "show", "sql", "--json").stdout)
    assert (shown["resources"], shown["body"].partition(":")[0], shown["source"]) == (["locks.md"], "sql", "project")
    assert "resources: locks.md" in run("skills", "show", "sql").stdout
    assert run("skills", "show", "sql", "--resource", "locks.md").stdout == "All about locks.\n"
    out = run("skills", "show", "sql", "--resource", "../main/SKILL.md")
    assert (out.returncode, "no path inside the skill's folder" in out.stderr) == (2, True)


def test_validate(project: Path, run: Run) -> None:
    """Warnings are fine, what cannot be used is not."""
    fine = run("skills", "validate")
    assert (fine.returncode, fine.stdout) == (0, "3 usable, 0 not, 0 warnings\n")
    (project / ".claude/skills/main/SKILL.md").write_text("---\nname: other\n---\n")
    found = run("skills", "validate", "--json")
    assert (found.returncode, json.loads(found.stdout)["problems"][0]["reason"].partition(";")[0]) == (
        1,
        "it holds no instructions",
    )


def test_report_counts_as_a_plan_does(run: Run, simulator: Simulator) -> None:
    """What is chosen is what a call sends: the plan has the same tokens, by the same counter, estimated and counted."""
    question = "Which index does this query need?"
    for exact in ([], ["--exact"]):
        report = json.loads(run("skills", "report", "reviewer", question, *exact, "--json").stdout)
        plan = json.loads(run("execute", "reviewer", question, "--plan", *exact, "--json").stdout)["tasks"][0]
        assert {skill["name"]: skill["chosen"] for skill in report["skills"]} == {
            "main": True,
            "sql": True,
            "tests": False,
        }
        assert report["chosen_tokens"] == plan["prompt_tokens"]
        assert report["saved_tokens"] == report["all_tokens"] - report["chosen_tokens"] > 500
        assert report["counted"] == bool(exact)
        assert plan["skills"] == ["main", "sql"]
        assert plan["context"]["files"] == ["CLAUDE.md"]
    assert not [request for request in simulator.requests if request.path.endswith("/messages")]


def test_options_of_execute(run: Run, simulator: Simulator, project: Path) -> None:
    """A skill and a file of it by name, and no context; for tasks of a file as well."""
    options = ("--skill", "tests", "--skill", "sql:locks.md", "--no-project-context")
    done = run("execute", "reviewer", "Which index?", *options, "--json")
    assert json.loads(done.stdout)["skills"] == ["main", "sql", "tests"]
    (project / "tasks.jsonl").write_text('"Which index?"\n')
    assert run("execute", "reviewer", "--tasks-file", "tasks.jsonl", "--output", "out.jsonl", *options).returncode == 0
    assert len(simulator.requests) == 1  # the second had its answer
    assert "Be kind." not in str(simulator.requests[0].body)
    assert "All about locks." in str(simulator.requests[0].body)
    assert run("execute", "reviewer", "Which index?", "--skill", "nothing").returncode == 2


def test_what_is_sent_can_be_seen(run: Run, project: Path) -> None:
    """By `agents show` and `doctor`, with its tokens; switched off, it is not there."""
    assert json.loads(run("agents", "show", "reviewer", "--json").stdout)["context"]["files"] == ["CLAUDE.md"]
    assert "CLAUDE.md: about 1," in run("doctor").stdout
    (project / ".claude/claude.json").write_text('{"project_context": false}')
    assert json.loads(run("agents", "show", "reviewer", "--json").stdout)["context"] == {"files": [], "tokens": 0}
    assert "switched off" in run("doctor").stdout
