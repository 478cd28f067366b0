"""`agents recommend`: who should do it, from the shell."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

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
