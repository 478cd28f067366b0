"""Skills and project context in calls, workflows and batches, through both faces, the command line and the door."""

from pathlib import Path

import anthropic  # noqa: F401 - seconds, which no test's time limit should have to pay
import pytest

from claude_force import (
    AgentNotFoundError,
    AgentOrchestrator,
    AgentTask,
    Material,
    ProgressiveSkillsManager,
    SkillNotFoundError,
)
from claude_force.testing import Simulator

Face = type[AgentOrchestrator]


@pytest.fixture
def project(skilled: Path) -> Path:
    """With a CLAUDE.md, and skills that the agent lists."""
    return skilled


QUESTION = "Which index does this query need?"


def test_a_call_is_told_what_it_needs(face: Face, project: Path) -> None:
    """An edit of a skill in use asks anew; one that is only named does not, and neither does the same call again."""
    with Simulator("Fine.") as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        result = subject.execute_agent("reviewer", QUESTION)
        texts = [block["text"] for block in simulator.requests[0].body["system"]]
        assert ["Be kind." in texts[0], "You review code." in texts[1], "main: do" in texts[2], "sql: do" in texts[3]]
        assert (len(texts), result.skills, result.to_dict()["skills"]) == (4, ("main", "sql"), ["main", "sql"])
        tests = project / ".claude/skills/tests/SKILL.md"
        tests.write_text(tests.read_text() + "More.\n")
        assert subject.execute_agent("reviewer", QUESTION).cached
        sql = project / ".claude/skills/sql/SKILL.md"
        sql.write_text(sql.read_text() + "More.\n")
        assert not subject.execute_agent("reviewer", QUESTION).cached
        (project / "CLAUDE.md").write_text("Be brief.")
        assert not subject.execute_agent("reviewer", QUESTION).cached
        bare = subject.execute_agent("reviewer", QUESTION, project_context=False, skills=["tests", "sql:locks.md"])
        assert bare.skills == ("main", "sql", "tests")
        assert "Be " not in simulator.requests[-1].body["system"][0]["text"]
        assert "All about locks." in simulator.requests[-1].body["system"][-1]["text"]
        sent = len(simulator.requests)
        with pytest.raises(SkillNotFoundError, match="did you mean 'sql'"):
            subject.execute_agent("reviewer", QUESTION, skills=["sqll"])
        assert len(simulator.requests) == sent == 4


@pytest.mark.usefixtures("project")
def test_batches_and_workflows_are_told_the_same(face: Face) -> None:
    """Their requests have the blocks, and so the key, of a call: what one paid, the others get."""
    workflow = {"name": "w", "steps": [{"id": "one", "agent": "reviewer", "task": QUESTION}]}
    with Simulator("Fine.") as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        (batched,) = subject.execute_batch([AgentTask("reviewer", QUESTION)])
        assert subject.execute_agent("reviewer", QUESTION).cached
        assert subject.execute_workflow(workflow).cached_steps == ("one",)
    assert batched.skills == ("main", "sql")  # type: ignore[union-attr] # it has an answer


def test_a_step_says_what_changed(face: Face, project: Path) -> None:
    """Why it was done again: the file, by its name."""
    workflow = {"name": "w", "steps": [{"id": "one", "agent": "reviewer", "task": QUESTION}]}
    with Simulator("Fine.") as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        subject.execute_workflow(workflow)
        (project / "CLAUDE.md").write_text("Be brief.")
        sql = project / ".claude/skills/sql/SKILL.md"
        sql.write_text(sql.read_text() + "More.\n")
        again = subject.execute_workflow(workflow)
    assert again.steps["one"].why == "what CLAUDE.md files say changed; skill 'sql' changed"


def test_a_skill_that_is_missing_costs_no_answer(project: Path) -> None:
    """The agent goes without it, and a warning says so; the same for one that wants to be asked for."""
    (project / ".claude/skills/sql/SKILL.md").write_text("---\nname: sql\n---\n")
    tests = project / ".claude/skills/tests/SKILL.md"
    tests.write_text(tests.read_text().replace("name:", "disable-model-invocation: true\nname:"))
    with Simulator("Fine.") as simulator, AgentOrchestrator(api_key="k", base_url=simulator.base_url) as subject:
        result = subject.execute_agent("reviewer", QUESTION)
        asked = subject.execute_agent("reviewer", QUESTION, skills=["tests"])
    assert (result.skills, asked.skills) == (("main",), ("main", "tests"))
    assert ["it holds no instructions" in result.warnings[0], "only where it is asked for" in result.warnings[1]]
    assert len(result.warnings) == 2


def test_the_door(project: Path) -> None:
    """Levels two and three by hand; what is preloaded is needed from then on."""
    manager = ProgressiveSkillsManager(project_dir=project)
    assert [skill.name for skill in manager.list_skills()] == ["main", "sql", "tests"]
    choices = manager.analyze_required_skills("reviewer", "Look.", materials=[Material("a.sql", "query index")])
    assert [choice.name for choice in choices if choice.is_chosen] == ["main", "sql"]
    assert choices[1].reasons == ("a file's name says 'a.sql'", "a.sql says 'index', 'query'")
    assert manager.load_skills(["sql:locks.md"]).resources[0].text == "All about locks."
    assert manager.read_resource("sql", "locks.md") == "All about locks."
    manager.preload(["tests"])
    assert manager.analyze_required_skills("reviewer", QUESTION)[2].reasons == ("it is preloaded",)
    with pytest.raises(AgentNotFoundError):
        manager.analyze_required_skills("nobody", QUESTION)
