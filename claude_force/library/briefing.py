"""Agents, each with what it is told beside its prompt: the project's context, and the skills that its file names."""

import os
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from claude_force.base.briefing import Briefing, Skill
from claude_force.base.errors import SkillError
from claude_force.library.agents import RECENT_S, SETTLED_NS

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.base.records import AgentDefinition
    from claude_force.library.agents import AgentLibrary
    from claude_force.library.context import Context
    from claude_force.library.skills import SkillLibrary


class BriefedAgents:
    """Finds agents with their briefing. Implements `base.ports.AgentFinder`; threads may share it.

    As in the library, an edit of a file is seen at once, and that there is another one a second later.
    """

    def __init__(self, agents: "AgentLibrary", skills: "SkillLibrary", read_context: "Callable[[], Context]") -> None:
        self._agents = agents
        self._skills = skills
        self._read_context = read_context
        self._found: dict[str, _Found] = {}
        self._finding = threading.Lock()

    def recall(self, name: str) -> "AgentDefinition | None":
        """What `find` gave within the last second, if all its files are as they were."""
        found = self._found.get(name)
        if (
            found is None
            or time.monotonic() - found.looked_at_s > RECENT_S
            or self._agents.recall(name) is not found.of
        ):
            return None
        return found.agent if all(_stamp(path) == stamp for path, stamp in found.stamps.items()) else None

    def find(self, name: str) -> "AgentDefinition":
        """The agent of that name. Raises as `AgentLibrary.find` does; what is wrong with its briefing is a warning."""
        with self._finding:  # a hundred calls notice at once that a second has passed: one of them looks
            return self.recall(name) or self._look(name)

    def _look(self, name: str) -> "AgentDefinition":
        agent = self._agents.find(name)
        looked_at_s = time.monotonic()
        context = self._read_context()
        stamps = {str(path): _stamp(str(path)) for path in context.paths}
        skills, warnings = dict[str, Skill](), list[str]()
        listed = sorted(agent.skills)
        for wanted, skill in zip(listed, self._skills.look_up(listed) if listed else (), strict=True):
            if isinstance(skill, SkillError):
                warnings.append(f"{name!r} goes without skill {wanted!r}: {skill}")
                continue
            if skill.disable_model_invocation:
                warnings.append(f"{name!r} goes without skill {wanted!r}, which is given only where it is asked for")
            else:
                stamps[str(skill.path)] = _stamp(str(skill.path))
                skills[skill.name] = skill
        briefing = Briefing(
            context=tuple(context.files),
            context_warnings=tuple(context.warnings),
            skills=tuple(skills.values()),
            skill_warnings=tuple(warnings),
        )
        briefed = msgspec.structs.replace(agent, briefing=briefing)
        settled_ns = time.time_ns() - SETTLED_NS
        if all(stamp and stamp[0] < settled_ns for stamp in stamps.values()):  # else it may have changed unseen
            self._found[name] = _Found(agent, briefed, stamps, looked_at_s)
        return briefed


_Stamp = tuple[int, int, int]


class _Found(msgspec.Struct, frozen=True):
    of: "AgentDefinition"
    """As the library gave it."""
    agent: "AgentDefinition"
    stamps: dict[str, _Stamp | None]
    """Of the other files."""
    looked_at_s: float


def _stamp(path: str) -> _Stamp | None:
    try:
        info = os.stat(path)  # noqa: PTH116 - a third of the time that Path.stat takes
    except OSError:
        return None
    return info.st_mtime_ns, info.st_size, info.st_ino
