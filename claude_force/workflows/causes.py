"""Why a step was done, or did not have to be: what decided its answer now, against what decided it before. Pure."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from claude_force.workflows.template import placeholders

if TYPE_CHECKING:
    from claude_force.base.records import AgentDefinition, ModelRecommendation
    from claude_force.base.results import StepResult
    from claude_force.workflows.definition import WorkflowStep


class Causes(TypedDict, total=False):
    """What decides an answer, each with its value or a digest of it."""

    agent: str
    file: str
    prompt: str
    context: str | None
    skills: dict[str, str]
    model: str | None
    effort: str | None
    max_tokens: int | None
    schema: str | None
    task: str
    item: str | None
    inputs: dict[str, str]
    steps: dict[str, str]


def kept_causes(text: str) -> Causes:
    """Those that the journal has; none where it has something else."""
    try:
        return msgspec.json.decode(text, type=Causes)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {}


def causes_of(
    step: "WorkflowStep",
    agent: "AgentDefinition",
    inputs: Mapping[str, Any],
    results: Mapping[str, "StepResult"],
    item: str | None,
    choice: "ModelRecommendation | None" = None,
    *,
    project_context: bool = True,
) -> Causes:
    """What decides this step's answer; `choice` is the router's, for where nobody names a model.

    `project_context`: whether the agent is told what the project says. Of its skills, all count that its file names.
    """
    context = agent.briefing.context if agent.briefing and project_context else ()
    skills = agent.briefing.skills if agent.briefing else ()
    model = step.model or agent.model
    named = {place.name for place in placeholders(step.task) if place.kind == "input"}
    return {
        "agent": step.agent,
        "file": str(agent.path.name if agent.path else step.agent),
        "prompt": digest(agent.prompt),
        "context": digest(_json([(file.name, file.text) for file in context])) if context else None,
        "skills": {skill.name: digest(f"{skill.summary}\0{skill.body}") for skill in skills},
        "model": model or (choice.tier if choice else None),
        "effort": step.effort or agent.effort or (choice.effort if choice and not model else None),
        "max_tokens": step.max_tokens,
        "schema": None if step.schema is None else digest(_json(step.schema)),
        "task": digest(step.task),
        "item": None if item is None else digest(item),
        "inputs": {name: digest(_json(inputs[name])) for name in sorted(named)},
        "steps": {name: digest(results[name].text or results[name].status) for name in step.dependencies},
    }


def differences(before: Causes, now: Causes) -> Iterator[str]:
    """What is different, each in words."""
    if before.get("agent") != now.get("agent"):
        yield f"agent {before.get('agent')} is now {now.get('agent')}"
    elif before.get("prompt") != now.get("prompt"):
        yield f"agent file {now.get('file')} changed"
    if before.get("context") != now.get("context"):
        yield "what CLAUDE.md files say changed"
    yield from _among("skill", before.get("skills", {}), now.get("skills", {}))
    for name in ("model", "effort", "max_tokens"):
        if before.get(name) != now.get(name):
            yield f"{name}: {_word(before.get(name))} is now {_word(now.get(name))}"
    for name in ("task", "schema", "item"):
        if before.get(name) != now.get(name):
            yield f"its {name} changed"
    yield from _among("input", before.get("inputs", {}), now.get("inputs", {}))
    yield from _among("the answer of", before.get("steps", {}), now.get("steps", {}))


def _among(what: str, before: dict[str, str], now: dict[str, str]) -> Iterator[str]:
    for name in before | now:
        if before.get(name) != now.get(name):
            yield f"{what} {name!r} {'changed' if name in now else 'is left out'}"


def digest(text: str) -> str:
    """Enough of a SHA-256 to see a change."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]


def _word(value: object) -> str:
    return "the default" if value is None else str(value)


def _json(value: Any) -> str:  # noqa: ANN401 - as JSON has it
    return msgspec.json.encode(value, order="sorted").decode()
