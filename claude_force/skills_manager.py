"""Skills as a task needs them: `ProgressiveSkillsManager`, for scripts that look at skills or choose them by hand.

A call does by itself what this offers: it names all of an agent's skills, gives those that the task seems to need in
full (`engine.skills`), and opens no other file of a skill (`engine.briefing`).
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from claude_force.base.briefing import LoadedSkills, Skill, SkillChoice
from claude_force.base.config import load_settings, project_of
from claude_force.engine.briefing import main_skill
from claude_force.engine.skills import choose
from claude_force.library.project import briefed_agents, skill_library
from claude_force.library.skills import read_resource

if TYPE_CHECKING:
    from claude_force.base.records import AgentDefinition, Material


class ProgressiveSkillsManager:
    """The skills of a project and its user, in three levels: named, in full, and file by file.

    `config_path` and `project_dir` say which agents and skills apply, as for `AgentOrchestrator`.

    Example:
        >>> manager = ProgressiveSkillsManager()
        >>> choices = manager.analyze_required_skills("code-reviewer", "Is this ALTER TABLE safe?")
        >>> [choice.name for choice in choices if choice.is_chosen]
        ['code-review-checklist', 'security-review', 'sql-review']
    """

    def __init__(
        self,
        config_path: str | os.PathLike[str] | None = None,
        *,
        project_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        start = Path(project_dir) if project_dir is not None else project_of(config_path)
        self._settings = load_settings(config_path, start=start)
        self._agents = briefed_agents(self._settings, start=start)
        self._library = skill_library(start)
        self._preloaded = LoadedSkills()

    def list_skills(self) -> list[Skill]:
        """Every skill that can be used, by name, as it is now."""
        return self._library.load_all()

    def analyze_required_skills(
        self, agent: str, task: str, *, materials: "Iterable[Material]" = ()
    ) -> list[SkillChoice]:
        """Which of the skills that the agent's file names a call for this task would give in full, and why.

        What was preloaded is among them. Raises the `AgentError` family.
        """
        found = self._found(agent)
        own = found.briefing.skills if found.briefing else ()
        always = {skill.name: "it is preloaded" for skill in self._preloaded.skills}
        if self._settings.config.preload_skills:
            always |= {skill.name: "preload_skills is true" for skill in own}
        skills = {skill.name: skill for skill in (*own, *self._preloaded.skills)}
        return [
            msgspec.structs.replace(choice, is_chosen=True, reasons=(why,))
            if (why := always.get(choice.name))
            else choice
            for choice in choose(
                [skills[name] for name in sorted(skills)], task, tuple(materials), main=main_skill(found)
            )
        ]

    def load_skills(self, names: Iterable[str]) -> LoadedSkills:
        """These in full, for the `skills` of a call; `name:path` is a file of the skill as well.

        Raises the `SkillError` family.
        """
        return self._library.load(names)

    def preload(self, names: Iterable[str]) -> LoadedSkills:
        """The same, and whatever is analyzed from now on needs them. Gives all that were preloaded so far."""
        skills = {skill.name: skill for skill in (*self._preloaded.skills, *self._library.load(names).skills)}
        self._preloaded = LoadedSkills(skills=tuple(skills.values()))
        return self._preloaded

    def read_resource(self, skill: str, path: str) -> str:
        """The text of a file in the skill's folder; `path` starts there. Raises the `SkillError` family."""
        return read_resource(self._library.find(skill), path).text

    def _found(self, agent: str) -> "AgentDefinition":
        return self._agents.recall(agent) or self._agents.find(agent)
