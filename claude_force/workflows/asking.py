"""From a step, and what it is told, to the engine's words: the task of its turn, and a config with its retries. Pure.

A run asks so, and a forecast foretells so: what both say must be the same request.
"""

from typing import TYPE_CHECKING

import msgspec

from claude_force.engine.request import Task

if TYPE_CHECKING:
    from claude_force.base.config import Config
    from claude_force.base.records import ModelRecommendation
    from claude_force.workflows.data import Told
    from claude_force.workflows.definition import WorkflowStep


def task_of(
    step: "WorkflowStep", ready: "Told", *, agent: str, model: str | None, choice: "ModelRecommendation | None"
) -> Task:
    """What the turn is asked; the agent and the model may be those of the step's fallback."""
    return Task(
        agent_name=agent,
        text=ready.text,
        materials=ready.materials,
        model=model,
        choice=choice,
        effort=step.effort,
        max_tokens=step.max_tokens,
        output_schema=step.schema,
    )


def config_of(step: "WorkflowStep", config: "Config") -> "Config":
    """The configuration as the step has it."""
    if step.retries is None:
        return config
    return msgspec.structs.replace(config, defaults=msgspec.structs.replace(config.defaults, max_retries=step.retries))
