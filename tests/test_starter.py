"""The product's own `.claude`: what `init` gives people must load without a single warning."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from claude_force import AgentOrchestrator
from claude_force.apps.commands.init import starter_files, starter_folder
from claude_force.base.config import Config, migrate_config, validate_config
from claude_force.base.models import CURRENT
from claude_force.base.records import AgentDefinition
from claude_force.library.agents import AgentLibrary
from claude_force.library.disk import Folder
from claude_force.testing import ApiFault, Simulator

STARTER = starter_folder()
LIBRARY = AgentLibrary([Folder(path=STARTER / "agents", source="project", root=STARTER)])
AGENTS = LIBRARY.load_all()
SKILLS = sorted((STARTER / "skills").glob("*/SKILL.md"))
WORKFLOWS = sorted((STARTER / "workflows").glob("*.json"))
# Claude Code's own tools; a starter agent needs no others.
TOOLS = {"Bash", "Edit", "Glob", "Grep", "Read", "WebFetch", "WebSearch", "Write"}


def front_matter(path: Path) -> dict[str, object]:
    """What strict YAML makes of it."""
    loaded = yaml.safe_load(path.read_text().split("\n---\n", 1)[0].removeprefix("---\n"))
    assert isinstance(loaded, dict)
    return loaded


def test_nineteen_agents_load_without_a_warning() -> None:
    """Every file is used, none had to be repaired, none hides another."""
    assert len(AGENTS) == 19
    assert LIBRARY.problems() == []
    assert LIBRARY.shadowed() == []
    assert [warning for agent in AGENTS for warning in agent.warnings] == []


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_an_agent_is_a_proper_sub_agent(agent: AgentDefinition) -> None:
    """Strict YAML, the file's name, a family model, known tools, skills that exist, and a prompt with substance."""
    assert agent.path is not None
    assert front_matter(agent.path)["name"] == agent.path.stem == agent.name
    assert 40 < len(agent.description) < 600
    assert agent.model in CURRENT
    assert agent.tools is not None
    assert set(agent.tools) <= TOOLS
    assert {*agent.skills} <= {path.parent.name for path in SKILLS}
    assert len(agent.prompt.splitlines()) >= 40


@pytest.mark.parametrize("path", SKILLS, ids=lambda path: path.parent.name)
def test_a_skill_follows_the_standard(path: Path) -> None:
    """Only the standard's fields, the folder's name, limits kept, references that exist."""
    meta = front_matter(path)
    assert set(meta) <= {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}
    assert meta["name"] == path.parent.name
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", path.parent.name)
    assert 1 <= len(str(meta["description"])) <= 1024
    text = path.read_text()
    assert len(text.splitlines()) < 500
    linked = re.findall(r"\((references/[^)]+)\)|`(references/[^`]+)`", text)
    assert all((path.parent / (link or code)).is_file() for link, code in linked)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_sound(path: Path) -> None:
    """Agents exist, dependencies exist and form no cycle, and each placeholder names an input or a dependency."""
    workflow = json.loads(path.read_text())
    steps = {step["id"]: step for step in workflow["steps"]}
    assert len(steps) == len(workflow["steps"]) >= 4
    names = {agent.name for agent in AGENTS}
    seen: set[str] = set()
    for step in workflow["steps"]:
        assert step["agent"] in names
        assert {*step["dependencies"]} <= seen, "steps stand in an order that can be run"
        for kind, name in re.findall(r"\{\{ (inputs|steps)\.([\w-]+)", step["task"]):
            assert name in (workflow["inputs"] if kind == "inputs" else step["dependencies"])
        seen.add(step["id"])


ROOT = STARTER.parent
CODE = (ROOT / "claude_force/cli.py").read_text()
REAL: dict[str, dict[str, str]] = {
    "api-review": {"api": (ROOT / "claude_force/transports/simulator/api.py").read_text()},
    "bug-triage": {"report": "`claude-force healt` suggests `help` instead of `health`.", "code": CODE},
    "code-quality-check": {"code": CODE},
    "docs-review": {"docs": (ROOT / "README.md").read_text(), "code": CODE},
    "release-notes": {"changes": (ROOT / "CHANGELOG.md").read_text(), "version": "2.2.0 -> 2.3.0"},
}


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """A project with the starter."""
    for file in starter_files(STARTER):
        target = tmp_path / ".claude" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((STARTER / file).read_bytes())
    return tmp_path


@pytest.mark.parametrize("name", [path.stem for path in WORKFLOWS])
def test_a_workflow_runs(started: Path, name: str) -> None:
    """Offline, on real files of this repository, every step is done, and a second run costs nothing."""
    with AgentOrchestrator(project_dir=started, offline=True) as orchestrator:
        result = orchestrator.execute_workflow(name, REAL[name])
        assert (result.status, result.warnings) == ("completed", ())
        assert {step.status for step in result.steps.values()} == {"done"}
        assert orchestrator.execute_workflow(name, REAL[name]).cached_steps == tuple(result.steps)


@pytest.mark.parametrize("name", [path.stem for path in WORKFLOWS])
def test_a_review_that_fails_is_told(started: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One reviewer that declines does not cost the others: the summary is written, and told what is missing."""
    steps = json.loads((STARTER / "workflows" / f"{name}.json").read_text())["steps"]
    others = (step for step in steps if step["agent"] != steps[-1]["agent"])
    failing = next(step for step in others if step.get("on_failure") == "continue")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    head = LIBRARY.find(failing["agent"]).prompt

    def answer(request: Any) -> str | ApiFault:
        return ApiFault(400) if head in str(request.body["system"][0]["text"]) else "Fine."

    with Simulator(answer=answer) as server:
        orchestrator = AgentOrchestrator(project_dir=started, base_url=server.base_url)
        result = orchestrator.execute_workflow(name, REAL[name], on_error="return")
        last = server.requests[-1].prompt
    assert (result.status, result.steps[failing["id"]].status) == ("completed", "failed")
    assert f"(no answer from '{failing['id']}': failed)" in last
    assert "so say what that leaves open" in last


def test_the_config_is_up_to_date() -> None:
    """The starter's claude.json is valid, needs no upgrade, and says nothing but the defaults."""
    raw = json.loads((STARTER / "claude.json").read_text())
    assert migrate_config(raw) == raw
    assert validate_config(raw) == Config()


def test_init_offers_all_of_it() -> None:
    """Agents, skills with their references, workflows and the config are offered, and nothing else."""
    offered = set(starter_files(STARTER))
    assert {path.relative_to(STARTER) for path in [*SKILLS, *WORKFLOWS, STARTER / "claude.json"]} <= offered
    assert {path.parts[0] for path in offered} == {"agents", "skills", "workflows", "claude.json", ".gitignore"}


def test_what_runs_leave_is_no_part_of_the_project(tmp_path: Path) -> None:
    """After `init`, git passes over the journal of runs, whose answers are nobody else's."""
    shutil.copytree(
        STARTER, tmp_path / ".claude", ignore=shutil.ignore_patterns("metrics", "cache", "runs.*", "budgets.*")
    )
    for name in ("runs.db", "runs.db-wal", "agent_memory.db"):
        (tmp_path / ".claude" / name).write_bytes(b"")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    seen = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert ".claude/claude.json" in seen
    assert ".db" not in seen
