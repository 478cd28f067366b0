"""Why a step was done again: what changed, in words."""

from pathlib import Path

import pytest

from claude_force.base.briefing import Briefing, ContextFile, Skill
from claude_force.base.records import AgentDefinition, ModelRecommendation
from claude_force.base.results import StepResult
from claude_force.workflows.causes import Causes, causes_of, differences, kept_causes
from claude_force.workflows.definition import WorkflowStep


def agent(
    prompt: str = "You review.", *, context: str = "", skill: str = "", path: str | None = None
) -> AgentDefinition:
    """One whose file says this, with what it is told beside it."""
    briefing = Briefing(
        context=(ContextFile(name="CLAUDE.md", text=context),) if context else (),
        skills=(Skill(name="sql", description="", body=skill, path=Path("sql")),) if skill else (),
    )
    where = None if path is None else Path("agents", path)
    return AgentDefinition(name="reviewer", description="", prompt=prompt, path=where, briefing=briefing)


STEP = WorkflowStep("a", "reviewer", "Look at {{ inputs.x }}.", ["b"])
PLAIN = agent()


def step(agent: str = "reviewer", **changes: object) -> WorkflowStep:
    """The step, with these changes."""
    return WorkflowStep("a", agent, **({"task": STEP.task, "dependencies": ["b"]} | changes))  # type: ignore[arg-type] # of mixed types


def causes(
    step: WorkflowStep = STEP, agent: AgentDefinition = PLAIN, x: str = "1", item: str | None = None, b: str = "Fine."
) -> Causes:
    """Those of this step, which knows how two others ended."""
    told = {name: StepResult(id=name, agent="", status="done", text=text) for name, text in (("b", b), ("c", "Well."))}
    return causes_of(step, agent, {"x": x, "unused": x}, told, item)


CHANGES = {
    "agent file reviewer changed": causes(agent=agent("Else.")),
    "agent file re.md changed": causes(agent=agent("Else.", path="re.md")),
    "what CLAUDE.md files say changed": causes(agent=agent(context="Be kind.")),
    "skill 'sql' changed": causes(agent=agent(skill="Join.")),
    "input 'x' changed": causes(x="2"),
    "its item changed": causes(item="i"),
    "its task changed": causes(step(task="See {{ inputs.x }}.")),
    "its schema changed": causes(step(schema={"type": "object"})),
    "model: the default is now opus": causes(step(model="opus")),
    "effort: the default is now low": causes(step(effort="low")),
    "max_tokens: the default is now 5": causes(step(max_tokens=5)),
    "agent reviewer is now writer": causes(step("writer")),
    "the answer of 'b' changed": causes(b="Bad."),
    "the answer of 'c' changed": causes(step(dependencies=["b", "c"])),
    "the answer of 'b' is left out": causes(step(dependencies=[])),
}


@pytest.mark.parametrize(("words", "now"), CHANGES.items(), ids=CHANGES.keys())
def test_a_change_is_told(words: str, now: Causes) -> None:
    """That one, and no other."""
    assert list(differences(causes(), now)) == [words]
    assert list(differences(now, now)) == []


def test_what_was_chosen_is_a_cause_where_nobody_else_says() -> None:
    """A model that is named leaves the router no word, of the effort neither; the step goes before its agent's file."""
    choice = ModelRecommendation(model="claude-opus-5-5", tier="opus", effort="high", score=0.9, reasons=())
    named = AgentDefinition(name="reviewer", description="", prompt="", model="haiku", effort="low")
    told = {"b": StepResult(id="b", agent="", status="failed")}
    found = [
        causes_of(each, who, {"x": 1}, told, None, choice)
        for each, who in ((STEP, PLAIN), (step(model="sonnet"), PLAIN), (STEP, named), (step(effort="max"), named))
    ]
    assert [(one["model"], one["effort"]) for one in found] == [
        ("opus", "high"),
        ("sonnet", None),
        ("haiku", "low"),
        ("haiku", "max"),
    ]
    assert found[0]["steps"] == causes(b="failed")["steps"]  # what a step without an answer is told of


def test_what_is_not_told_is_no_cause() -> None:
    """Where agents are not told what the project says, its files may change."""
    told = {"b": StepResult(id="b", agent="", status="done", text="Fine.")}
    assert causes_of(STEP, agent(context="Be kind."), {"x": "1"}, told, None, project_context=False) == causes()


@pytest.mark.parametrize("text", ["", "[]", '{"inputs": 3}', '{"agent": []}'])
def test_what_nobody_could_have_noted_is_nothing(text: str) -> None:
    """A journal may be damaged, or planted."""
    assert kept_causes(text) == {}
