"""The system blocks of a request: the project's context, the agent's prompt, its skills. Pure.

What more calls share comes first, because the prompt cache keeps beginnings: the context, which all agents of a project
have; then the agent's prompt with the names of its skills, which all its tasks have; then those skills that this task
needs, in the order of their names.
"""

from typing import TYPE_CHECKING

import msgspec

from claude_force.base.briefing import Briefing, Skill, SkillResource
from claude_force.engine.skills import choose

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from claude_force.base.briefing import ContextFile, LoadedSkills
    from claude_force.base.config import Config
    from claude_force.base.records import AgentDefinition, Material

MOST_SUMMARY_CHARS = 1_536  # where Claude Code cuts, too
_CONTEXT = "What this project says to all who work on it, from its own files; where two differ, the later one counts."
_SKILLS = (
    "Skills are instructions for kinds of work. Those that this task seems to need follow in full, between"
    " <skill_content> tags: keep to them. The others are only named here, and so are files that a skill mentions unless"
    " they follow, too: if the task needs one of them, say which."
)
_NO_BRIEFING = Briefing()


class Brief(msgspec.Struct, frozen=True):
    """What an agent is told for one task."""

    system: tuple[str, ...]
    skills: tuple[str, ...] = ()
    """Blocks."""
    skill_names: tuple[str, ...] = ()
    """Of those that are given in full."""
    context_names: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def brief(
    agent: "AgentDefinition",
    config: "Config",
    *,
    task: str,
    materials: "Sequence[Material]",
    given: "LoadedSkills",
    project_context: bool | None,
) -> Brief:
    """The blocks for this task."""
    found = agent.briefing or _NO_BRIEFING
    wants_context = config.project_context if project_context is None else project_context
    context = found.context if wants_context else ()
    names = {skill.name for skill in given.skills}
    if config.preload_skills:
        own = "\n\n".join([agent.prompt, *map(skill_block, found.skills)])
        chosen = [skill for skill in given.skills if skill not in found.skills]
        names.update(skill.name for skill in found.skills)
    else:
        own = "\n\n".join([agent.prompt, *([skill_list(found.skills)] if found.skills else [])])
        needed = {
            choice.name for choice in choose(found.skills, task, materials, main=main_skill(agent)) if choice.is_chosen
        }
        chosen = [skill for skill in found.skills if skill.name in needed - names] + list(given.skills)
        names.update(needed)
    chosen.sort(key=lambda skill: skill.name)
    resources = sorted(given.resources, key=lambda resource: (resource.skill, resource.path))
    return Brief(
        system=(*([context_block(context)] if context else []), own),
        skills=(*map(skill_block, chosen), *map(_resource_block, resources)),
        skill_names=tuple(sorted(names)),
        context_names=tuple(file.name for file in context),
        warnings=(*(found.context_warnings if wants_context else ()), *found.skill_warnings),
    )


def main_skill(agent: "AgentDefinition") -> str | None:
    """The one that its file names first."""
    return agent.skills[0] if agent.skills else None


def context_block(files: "Iterable[ContextFile]") -> str:
    """The project's context, as it is sent."""
    blocks = (f"<project_context file={_quoted(file.name)}>\n{file.text}\n</project_context>" for file in files)
    return "\n\n".join([_CONTEXT, *blocks])


def skill_list(skills: "Iterable[Skill]") -> str:
    """What an agent is told of all its skills."""
    return "\n".join([_SKILLS, *(f"- {skill.name}: {skill.summary[:MOST_SUMMARY_CHARS]}" for skill in skills)])


def skill_block(skill: Skill) -> str:
    """A skill in full, as it is sent; not a character of its body is changed."""
    return f"<skill_content name={_quoted(skill.name)}>\n{skill.body}\n</skill_content>"


def _resource_block(resource: SkillResource) -> str:
    names = f"skill={_quoted(resource.skill)} path={_quoted(resource.path)}"
    return f"<skill_resource {names}>\n{resource.text}\n</skill_resource>"


def _quoted(name: str) -> str:
    from html import escape  # noqa: PLC0415 - a table of 2,000 names, which few prompts need

    return f'"{escape(name)}"'
