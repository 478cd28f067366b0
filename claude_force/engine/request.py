"""From "this agent, this task" to the exact request: checked, fenced, with a model chosen. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from claude_force.base.briefing import NO_SKILLS, LoadedSkills
from claude_force.base.config import MAX_TIMEOUT_S
from claude_force.base.endpoints import serving
from claude_force.base.errors import InjectionError, TaskError
from claude_force.base.models import DEFAULT_ALIAS, resolve_model, takes_effort
from claude_force.base.pricing import dearest_geo
from claude_force.base.records import Effort, ModelRecommendation, Request
from claude_force.engine.briefing import brief
from claude_force.engine.output import schema_text
from claude_force.engine.untrusted import NOTICE, fence, scan

if TYPE_CHECKING:
    from datetime import datetime

    from claude_force.base.config import Config, Limits
    from claude_force.base.ports import UseCache
    from claude_force.base.records import AgentDefinition, Material


Others = Literal["none", "here", "to_come"]
"""Whether there are others, and whether some of them have not begun yet."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What one turn is asked to do. `None` means: as the agent's file or the config says."""

    agent_name: str
    text: str
    materials: tuple["Material", ...] = ()
    model: str | None = None
    choice: "ModelRecommendation | None" = None
    """The router's, for where nobody names a model."""
    effort: "Effort | None" = None
    max_tokens: int | None = None
    inference_geo: str | None = None
    """Where the model must run; the agent's file and the config may say so as well, and all that is said holds."""
    timeout_s: float | None = None
    attempt_timeout_s: float | None = None
    fallback_models: tuple[str, ...] | None = None
    use_memory: bool | None = None
    use_cache: "UseCache" = None
    workflow_id: str | None = None
    run_id: str | None = None
    step_id: str | None = None
    others: Callable[[], Others] | None = None
    """Who of its batch or run asks the same agent and model, and so shares the beginning of its prompt."""
    run_s: float = 0.0
    """How long the run that it belongs to will probably take."""
    begun_at: "datetime | None" = None
    """When it was asked, where that was before this turn: in a batch."""
    output_schema: Mapping[str, Any] | None = None
    """A JSON schema that the answer has to fit."""
    skills: LoadedSkills = NO_SKILLS
    project_context: bool | None = None
    """Whether the agent is told what the project says."""


class Prepared(msgspec.Struct, frozen=True):
    """A request that is ready to be sent, and what the user should know about it."""

    request: Request
    fallbacks: tuple[Request, ...]
    """The same for other models, to be asked in this order where the first is not available."""
    warnings: tuple[str, ...]
    choice: ModelRecommendation | None = None
    """The router's, where it decided."""
    unrouted_model: str | None = None
    """The model that would be asked without it; `None` where it has not decided."""
    skills: tuple[str, ...] = ()
    """Those that are given in full, by name."""
    context: tuple[str, ...] = ()
    """The files of the project's context that are."""
    inference_geo: str | None = None
    """Where the model must run; `None`: anywhere."""
    dearest_geo: str | None = None
    """Of the places where it may run, the one where it costs most."""


def build_request(task: Task, agent: "AgentDefinition", config: "Config", aliases: Mapping[str, str]) -> Prepared:
    """The request for this task. The shared text comes first and the task last, so that prompt caching can work.

    Model and effort: the call's, else the agent file's, else the router's, else the config's, else `sonnet` and the
    model's own effort.
    `aliases` may say what the family names stand for.
    """
    check_task(task, config.limits)
    geo = _demanded_geo(task, agent, config)
    geos = (endpoint.inference_geo for endpoint in serving(config.endpoints, geo))
    told = brief(
        agent,
        config,
        task=task.text,
        materials=task.materials,
        given=task.skills,
        project_context=task.project_context,
    )
    # As plain texts, which can be kept: those of files know more, such as their kind.
    warnings = [*map(str, (*agent.warnings, *told.warnings)), *suspicions(task.materials, config.security.injection)]
    named = named_model(task, agent)
    choice = None if named else task.choice
    default = config.defaults.model or DEFAULT_ALIAS
    model = resolve_model(named or (choice.tier if choice else None) or default, aliases)
    if model.warning:
        warnings.append(model.warning)
    effort = task.effort or agent.effort or (choice.effort if choice else config.defaults.effort)
    if effort and not takes_effort(model.id, effort):
        warnings.append(f"{model.id} does not take effort {effort!r}; sent without")
    fenced = (NOTICE, *map(fence, task.materials)) if task.materials else ()
    request = Request(
        model=model.id,
        system=told.system,
        skills=told.skills,
        prompt=(*fenced, task.text),
        max_tokens=config.defaults.max_tokens if task.max_tokens is None else task.max_tokens,
        effort=_taken(effort, model.id),
        output_schema=None if task.output_schema is None else schema_text(task.output_schema),
    )
    fallbacks = (
        msgspec.structs.replace(request, model=other, effort=_taken(effort, other))
        for other in _fallback_models(task, agent, config, aliases)
        if other != model.id
    )
    unrouted = resolve_model(default, aliases).id if choice else None
    return Prepared(
        request=request,
        fallbacks=tuple(fallbacks),
        warnings=tuple(warnings),
        choice=choice,
        unrouted_model=unrouted,
        skills=told.skill_names,
        context=told.context_names,
        inference_geo=geo,
        dearest_geo=dearest_geo(geos),
    )


def _demanded_geo(task: Task, agent: "AgentDefinition", config: "Config") -> str | None:
    """Where the model must run: none of those who may say so can take back what another has said."""
    said = {"the call": task.inference_geo, f"the agent {agent.name!r}": agent.inference_geo}
    said["the config"] = config.inference_geo
    demands = {who: geo for who, geo in said.items() if geo}
    if len(set(demands.values())) > 1:
        listed = ", ".join(f"{who} {geo!r}" for who, geo in demands.items())
        raise TaskError(f"inference_geo cannot be all of these: {listed}; say the same, or leave it out")
    return next(iter(demands.values()), None)


def named_model(task: Task, agent: "AgentDefinition | None") -> str | None:
    """The model that the call names, else the agent's file: then no router is asked."""
    return _said(task.model) or (agent.model if agent else None)


def _taken(effort: "Effort | None", model: str) -> "Effort | None":
    return effort if effort and takes_effort(model, effort) else None


def _fallback_models(
    task: Task, agent: "AgentDefinition", config: "Config", aliases: Mapping[str, str]
) -> Iterable[str]:
    """Their ids: the call's, else the agent file's, else the config's."""
    names = task.fallback_models
    if names is None:
        names = agent.fallback_models or tuple(config.defaults.fallback_models)
    return dict.fromkeys(resolve_model(name, aliases).id for name in names if _said(name))


def _said(model: str | None) -> str | None:
    """The model that a call names; blank and `inherit` name none."""
    return None if model is None or model.strip().lower() in {"", "inherit"} else model


def check_task(task: Task, limits: "Limits") -> None:
    """Refuse what cannot be a task, before it costs anything. Raises `TaskError`."""
    _check_options(task)
    if not task.text.strip():
        raise TaskError(f"the task for {task.agent_name!r} is empty; say what to do", length_chars=0)
    _check_text("task", task.text)
    _check_length("task", len(task.text), limits.max_task_chars, "limits.max_task_chars")
    for material in task.materials:
        _check_text("the name of a material", material.name)
        _check_text(material.name, material.text, _NUL)
    total = sum(len(material.text) for material in task.materials)
    _check_length("material", total, limits.max_material_chars, "limits.max_material_chars")


def _check_options(task: Task) -> None:
    """Refuse numbers and words that the API, or a clock, would choke on."""
    for what, seconds in (("timeout", task.timeout_s), ("timeout of an attempt", task.attempt_timeout_s)):
        if seconds is not None and not 0 < seconds <= MAX_TIMEOUT_S:
            raise TaskError(f"the {what} is {seconds!r}; give seconds above 0, up to {MAX_TIMEOUT_S:g}")
    if task.max_tokens is not None and task.max_tokens < 1:
        raise TaskError(f"max_tokens is {task.max_tokens!r}; give 1 or more")
    if task.effort is not None and task.effort not in get_args(Effort):
        raise TaskError(f"effort is {task.effort!r}; give one of {', '.join(get_args(Effort))}")
    if not (task.use_cache is None or isinstance(task.use_cache, bool) or task.use_cache == "refresh"):
        raise TaskError(f"use_cache is {task.use_cache!r}; give True, False or 'refresh'")
    for model in (task.model, *(task.fallback_models or ())):
        if model is not None:
            _check_text("model", model)


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")  # all below the blank but tab, newline, form feed and return
_NUL = re.compile("\0")  # logs are full of colour codes; only NUL says "not a text"


def _check_text(source: str, text: str, refused: re.Pattern[str] = _CONTROL) -> None:
    if found := refused.search(text):
        line = text.count("\n", 0, found.start()) + 1
        where = f"{source!r} holds the control character {found[0]!r} in line {line}"
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


def suspicions(materials: Sequence["Material"], policy: str) -> list[str]:
    """A warning for each place that looks like a prompt injection. Raises `InjectionError` where the policy says so."""
    findings = [] if policy == "off" else list(scan(materials))
    if findings and policy == "refuse":
        raise InjectionError(
            f"material looks like a prompt injection ({'; '.join(map(str, findings))}); read it, and set"
            " security.injection to 'warn' if it is harmless",
            source=findings[0].source,
            findings=tuple(map(str, findings)),
        )
    return [f"looks like a prompt injection: {finding}" for finding in findings]
