"""`execute auto`: the agent that fits the task, said on stderr, and an error where none does."""

from typing import TYPE_CHECKING

from claude_force.apps.console import note
from claude_force.base.errors import AgentNotFoundError, InputError
from claude_force.library.agents import not_found
from claude_force.library.project import agent_library

if TYPE_CHECKING:
    from claude_force.orchestrator import Project
    from claude_force.semantic_selector import AgentMatch

AUTO = "auto"
MOST_NEAREST = 3


def is_auto(project: "Project", agent: str) -> bool:
    """Whether an agent is to be chosen; one that is really named so is called as any other."""
    if agent != AUTO:
        return False
    try:
        project.parts.agents.find(AUTO)
    except AgentNotFoundError:
        return True
    return False


def choose_agent(project: "Project", task: str) -> "AgentMatch":
    """The one that fits best, as stderr is told. Raises `InputError` with the nearest where probably none fits."""
    matches = project.selector.select_agents(task, 1)
    if matches:
        [match] = matches
        note(f"{match.agent_name} ({match.confidence:.2f}): {'; '.join(match.reasons)}", kind="agent")
        return match
    if not agent_library(project.settings, start=project.start).names():
        raise not_found(AUTO, ())
    nearest = project.selector.select_agents(task, MOST_NEAREST, min_confidence=0)
    names = ", ".join(f"{match.agent_name!r} ({match.confidence:.2f})" for match in nearest)
    found = f"the nearest are {names}" if names else "nothing speaks for any of them"
    raise InputError(f"probably no agent fits this task; {found}; name one, or say more of what is to be done")
