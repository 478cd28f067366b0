"""Why a step was done again: what changed, in words."""

import pytest

from claude_force.base.records import AgentDefinition
from claude_force.workflows.causes import Causes, causes_of, differences, kept_causes
from claude_force.workflows.definition import WorkflowStep

AGENT = AgentDefinition(name="reviewer", description="", prompt="You review.")
STEP = WorkflowStep("a", "reviewer", "Look at {{ inputs.x }}.")


def causes(step: WorkflowStep = STEP, agent: AgentDefinition = AGENT, x: str = "1", item: str | None = None) -> Causes:
    """Those of this step."""
    return causes_of(step, agent, {"x": x, "unused": x}, {}, item)


CHANGES = {
    "agent file reviewer changed": causes(agent=AgentDefinition(name="reviewer", description="", prompt="Else.")),
    "input 'x' changed": causes(x="2"),
    "its item changed": causes(item="i"),
    "its task changed": causes(WorkflowStep("a", "reviewer", "See {{ inputs.x }}.")),
    "max_tokens: the default is now 5": causes(WorkflowStep("a", "reviewer", STEP.task, max_tokens=5)),
    "agent reviewer is now writer": causes(WorkflowStep("a", "writer", STEP.task)),
}


@pytest.mark.parametrize(("words", "now"), CHANGES.items(), ids=CHANGES.keys())
def test_a_change_is_told(words: str, now: Causes) -> None:
    """That one, and no other."""
    assert list(differences(causes(), now)) == [words]
    assert list(differences(now, now)) == []


@pytest.mark.parametrize("text", ["", "[]", '{"inputs": 3}', '{"agent": []}'])
def test_what_nobody_could_have_noted_is_nothing(text: str) -> None:
    """A journal may be damaged, or planted."""
    assert kept_causes(text) == {}
