"""What an agent is told beside its prompt: in which order, which skills, and what of it decides the key."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from claude_force.base.briefing import Briefing, ContextFile, LoadedSkills, Skill, SkillResource
from claude_force.base.config import Config
from claude_force.base.records import AgentDefinition, Material
from claude_force.engine.key import request_key
from claude_force.engine.request import Prepared, Task, build_request
from claude_force.engine.warming import prefixes


def skill(name: str, summary: str, *, body: str = "Do it well. " * 100) -> Skill:
    """A skill of 1,200 characters."""
    return Skill(name=name, description=summary, body=body, path=Path(name, "SKILL.md"))


MAIN = skill("main", "What it always does.")
SQL = skill("sql", "Queries, indexes and migrations of databases.")
TESTS = skill("tests", "How to write pytest tests.")
AGENT = AgentDefinition(
    name="a",
    description="A.",
    prompt="You are a.",
    skills=("main", "tests", "sql"),
    briefing=Briefing(context=(ContextFile(name="CLAUDE.md", text="Be kind."),), skills=(MAIN, SQL, TESTS)),
)


def built(text: str, agent: AgentDefinition = AGENT, config: Config | None = None, **options: object) -> Prepared:
    """The request for a task."""
    return build_request(Task(agent_name="a", text=text, **options), agent, config or Config(), {})  # type: ignore[arg-type] # of Task


def told(old: Skill, new: Skill) -> AgentDefinition:
    """The agent, with another skill in the place of one."""
    assert AGENT.briefing
    skills = tuple(new if each is old else each for each in AGENT.briefing.skills)
    return replace(AGENT, briefing=replace(AGENT.briefing, skills=skills))


def test_what_more_calls_share_comes_first() -> None:
    """Context, then prompt and the names of all skills, then those that the task needs, by name; the task last."""
    one, other = built("Which index does this query need?"), built("Cover it with pytest.")
    assert one.request.system == other.request.system
    context, own = one.request.system
    assert context.endswith('<project_context file="CLAUDE.md">\nBe kind.\n</project_context>')
    assert own.startswith("You are a.\n\nSkills are")
    assert own.endswith(
        "\n- main: What it always does.\n- sql: Queries, indexes and migrations of databases."
        "\n- tests: How to write pytest tests."
    )
    assert (one.skills, other.skills) == (("main", "sql"), ("main", "tests"))
    assert one.request.skills[1] == f'<skill_content name="sql">\n{SQL.body}\n</skill_content>'
    assert one.context == ("CLAUDE.md",)


def test_material_speaks_too_and_who_says_nothing_gets_all() -> None:
    """A needed skill that is left out is the worse mistake."""
    assert (
        "sql"
        in built("Please look.", materials=(Material("0042.sql", "CREATE INDEX i ON t (a); -- migration"),)).skills
    )
    assert built("Go on.").skills == ("main", "sql", "tests")


def test_the_key_changes_with_what_is_used_alone() -> None:
    """The text of a skill that is only named decides nothing; its summary does, and so does the context."""
    task = "Which index does this query need?"
    key = request_key(built(task).request)
    assert request_key(built(task, told(TESTS, replace(TESTS, body="Other. " * 200))).request) == key
    assert request_key(built(task, told(TESTS, replace(TESTS, description="Other."))).request) != key
    assert request_key(built(task, told(SQL, replace(SQL, body="Other. " * 200))).request) != key
    assert request_key(built(task, project_context=False).request) != key


def test_preload_gives_all_whatever_the_task() -> None:
    """As Claude Code does, in the part that all tasks of the agent share; nothing is named twice."""
    prepared = built("Which index?", config=Config(preload_skills=True), skills=LoadedSkills(skills=(SQL,)))
    assert (prepared.skills, prepared.request.skills) == (("main", "sql", "tests"), ())
    assert prepared.request.system[1].count("<skill_content name=") == 3
    assert "- sql:" not in prepared.request.system[1]


def test_what_is_asked_for_by_name_is_given() -> None:
    """Beside what the task needs, with its files behind all skills; also to an agent that lists none."""
    extra = skill("extra", "Something else.")
    asked = LoadedSkills(skills=(extra, TESTS), resources=(SkillResource(skill="extra", path="a.md", text="More."),))
    prepared = built("Which index does this query need?", skills=asked)
    assert prepared.skills == ("extra", "main", "sql", "tests")
    assert prepared.request.skills[-1] == '<skill_resource skill="extra" path="a.md">\nMore.\n</skill_resource>'
    bare = built("Which index?", AgentDefinition(name="a", description="A.", prompt="You are a."), skills=asked)
    assert (bare.request.system, bare.skills) == (("You are a.",), ("extra", "tests"))


def test_each_shared_beginning_can_be_kept_by_itself() -> None:
    """The project's, the agent's, that with skills, and that with material: four marks, as many as the API takes."""
    assert AGENT.briefing
    long = replace(AGENT.briefing, context=(ContextFile(name="CLAUDE.md", text="Be kind. " * 400),))
    agent = replace(AGENT, prompt="You are a. " * 300, briefing=long)
    material = (Material("a.txt", "data " * 900),)
    one = prefixes(built("Which index does this query need?", agent, materials=material).request)
    assert [prefix.end for prefix in one] == [2, 0, -2, -3]
    assert [prefix.is_agents for prefix in one] == [False, False, True, False]
    other = prefixes(built("Cover it with pytest.", agent).request)
    assert [prefix.key for prefix in other[1:]] == [prefix.key for prefix in one[2:]]
    assert other[0].key != one[1].key


@pytest.mark.parametrize("text", ["", "a" * 100_000])
def test_the_listing_is_cut_where_claude_code_cuts(text: str) -> None:
    """A summary of any length costs no more than 1,536 characters."""
    own = built("Which index?", told(SQL, replace(SQL, description=text))).request.system[1]
    assert len(own) < 3_000
