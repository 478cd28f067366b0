"""Which model each step of a run is asked of, where neither the step nor its agent's file names one.

It is chosen before the run begins, by the step's task as it is written, and kept with the workflow in the journal: a
run that is taken up again asks the same models, whatever the ledger says by then, and so pays for nothing twice.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from claude_force.base.records import AgentDefinition, ModelRecommendation
from claude_force.engine.request import Task, named_model
from claude_force.workflows.causes import digest

if TYPE_CHECKING:
    from claude_force.insight.choosing import Chooser
    from claude_force.workflows.definition import WorkflowStep
    from claude_force.workflows.plan import Plan

KEY = "$choices"
"""Beside the workflow's own keys, in the journal."""


class KeptChoice(msgspec.Struct, frozen=True):
    """A choice, and a digest of what it was made for."""

    made_for: str
    choice: ModelRecommendation


Choices = Mapping[str, KeptChoice]
"""By step."""
FindAgent = Callable[[str], AgentDefinition]


def kept_choices(definition: Mapping[str, object]) -> Choices:
    """Those of a run in the journal. Raises `msgspec.ValidationError` for what nobody could have kept."""
    return msgspec.convert(definition.get(KEY, {}), dict[str, KeptChoice])


def choose_models(plan: "Plan", kept: Choices, chooser: "Chooser | None", find_agent: FindAgent) -> Choices:
    """A choice for each step that needs one; what the run has chosen before holds while the step stays as it was.

    Without a `chooser`, for no other step.
    """
    if not (chooser or kept):
        return {}
    chooser = chooser and chooser.frozen()
    found = {step.id: _chosen(step, kept.get(step.id), chooser, find_agent) for step in plan.steps.values()}
    return {step: choice for step, choice in found.items() if choice}


def would_choose(step: "WorkflowStep", chooser: "Chooser", find_agent: FindAgent) -> ModelRecommendation | None:
    """The router's choice for this step; `None` where somebody names a model."""
    agent = find_agent(step.agent)
    asked = Task(
        agent_name=step.agent, text=step.task, model=step.model, effort=step.effort, max_tokens=step.max_tokens
    )
    return None if named_model(asked, agent) else chooser.choose(asked, agent)


def _chosen(
    step: "WorkflowStep", kept: KeptChoice | None, chooser: "Chooser | None", find_agent: FindAgent
) -> KeptChoice | None:
    facts = (step.agent, step.task, step.model, step.effort)
    made_for = digest(msgspec.json.encode(facts).decode())
    if kept and kept.made_for == made_for and (chooser is None or kept.choice.tier in chooser.tiers):
        return kept
    choice = would_choose(step, chooser, find_agent) if chooser else None
    return KeptChoice(made_for, choice) if choice else None
