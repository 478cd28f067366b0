"""From "this agent, this task" to the exact request: checked, fenced, with a model chosen. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_force.base.errors import InjectionError, TaskError
from claude_force.base.models import DEFAULT_ALIAS, resolve_model, takes_effort
from claude_force.base.records import Request
from claude_force.engine.untrusted import NOTICE, fence, scan

if TYPE_CHECKING:
    from claude_force.base.config import Config, Limits
    from claude_force.base.records import AgentDefinition, Effort, Material


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one turn is asked to do. `None` means: as the agent's file or the config says."""

    agent_name: str
    text: str
    materials: tuple["Material", ...] = ()
    model: str | None = None
    effort: "Effort | None" = None
    max_tokens: int | None = None
    timeout_s: float | None = None
    workflow_id: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that is ready to be sent, and what the user should know about it."""

    request: Request
    warnings: tuple[str, ...]


def build_request(task: Task, agent: "AgentDefinition", config: "Config", aliases: Mapping[str, str]) -> Prepared:
    """The request for this task. The shared text comes first and the task last, so that prompt caching can work.

    Model and effort: the call's, else the agent file's, else the config's, else `sonnet` and the model's own effort.
    `aliases` may say what the family names stand for.
    """
    check_task(task, config.limits)
    warnings = [*agent.warnings, *_suspicions(task.materials, config.security.injection)]
    choice = resolve_model(task.model or agent.model or config.defaults.model or DEFAULT_ALIAS, aliases)
    if choice.warning:
        warnings.append(choice.warning)
    effort = task.effort or agent.effort or config.defaults.effort
    if effort and not takes_effort(choice.id, effort):
        warnings.append(f"{choice.id} does not take effort {effort!r}; sent without")
        effort = None
    fenced = (NOTICE, *map(fence, task.materials)) if task.materials else ()
    request = Request(
        model=choice.id,
        system=(agent.prompt,),
        prompt=(*fenced, task.text),
        max_tokens=task.max_tokens or config.defaults.max_tokens,
        effort=effort,
    )
    return Prepared(request, tuple(warnings))


def check_task(task: Task, limits: "Limits") -> None:
    """Refuse what cannot be a task, before it costs anything. Raises `TaskError`."""
    if not task.text.strip():
        raise TaskError(f"the task for {task.agent_name!r} is empty; say what to do", length_chars=0)
    _check_text("task", task.text)
    _check_length("task", len(task.text), limits.max_task_chars, "limits.max_task_chars")
    for material in task.materials:
        _check_text(material.name, material.text, allowed=_TERMINAL_CODES)
    total = sum(len(material.text) for material in task.materials)
    _check_length("material", total, limits.max_material_chars, "limits.max_material_chars")


_TERMINAL_CODES = frozenset(map(chr, range(1, 32)))  # logs are full of colour codes; only NUL says "not a text"


def _check_text(source: str, text: str, allowed: frozenset[str] = frozenset("\t\n\r\f")) -> None:
    found = next((i for i, char in enumerate(text) if char < " " and char not in allowed), None)
    if found is not None:
        where = f"{source!r} holds the control character {text[found]!r} in line {text.count(chr(10), 0, found) + 1}"
        raise TaskError(f"{where}; give plain text", source=source)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TaskError(
            f"{source!r} holds half a character at {error.start}; read it as UTF-8", source=source
        ) from error


def _check_length(source: str, length: int, limit: int, key: str) -> None:
    if length > limit:
        raise TaskError(
            f"the {source} has {length:,} characters, more than the {limit:,} of {key}; shorten it or raise the limit",
            source=source,
            length_chars=length,
            limit_chars=limit,
        )


def _suspicions(materials: Sequence["Material"], policy: str) -> list[str]:
    findings = [] if policy == "off" else [str(finding) for finding in scan(materials)]
    if findings and policy == "refuse":
        raise InjectionError(
            f"material looks like a prompt injection ({'; '.join(findings)}); read it, and set security.injection to"
            " 'warn' if it is harmless",
            source=findings[0].partition(",")[0],
            findings=tuple(findings),
        )
    return [f"looks like a prompt injection: {finding}" for finding in findings]
