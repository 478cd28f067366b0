"""What an agent is told beside its own prompt: the project's context, and skills. Values that decide nothing."""

from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Source = Literal["config", "project", "user"]
"""Where an agent's or a skill's file comes from."""


class Skill(msgspec.Struct, frozen=True, kw_only=True):
    """A `SKILL.md`, read and checked. Field names follow its front matter; nothing of it is ever run."""

    name: str
    """That of its folder."""
    description: str
    body: str
    path: "Path"
    """Its file; whatever else lies in the same folder belongs to the skill."""
    source: Source = "project"
    when_to_use: str | None = None
    keywords: tuple[str, ...] = ()
    """Words by which it is chosen, too; also read from `metadata`, as the standard knows no such key."""
    allowed_tools: tuple[str, ...] = ()
    """Read and shown; an agent has no tools here."""
    disable_model_invocation: bool = False
    """It is then given only where somebody asks for it by name."""
    license: str | None = None
    compatibility: str | None = None
    metadata: "Mapping[str, str]" = msgspec.field(default_factory=dict)
    extra: "Mapping[str, Any]" = msgspec.field(default_factory=dict)
    """Every other key of the front matter, untouched."""
    warnings: tuple[str, ...] = ()
    """What had to be repaired or guessed, and where it is not as the standard has it, each with the fix."""

    @property
    def summary(self) -> str:
        """What it is about, and when to use it."""
        return " ".join(f"{self.description} {self.when_to_use or ''}".split())


class SkillResource(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a skill's folder, which somebody asked for."""

    skill: str
    path: str
    """From the skill's folder, with `/` between."""
    text: str


class LoadedSkills(msgspec.Struct, frozen=True, kw_only=True):
    """Skills that a call gives, whatever its agent's file names and its task seems to need."""

    skills: tuple[Skill, ...] = ()
    resources: tuple[SkillResource, ...] = ()


NO_SKILLS = LoadedSkills()


class SkillChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a task needs a skill, and why."""

    name: str
    is_chosen: bool
    reasons: tuple[str, ...]
    """What weighs most comes first."""
    score: float
    """How much speaks for it, against the other skills of the same agent."""


class ContextFile(msgspec.Struct, frozen=True, kw_only=True):
    """A `CLAUDE.md`, or a file that one imports, as it is sent."""

    name: str
    """From the project's root, or from the home folder: the same on every machine."""
    text: str


class Briefing(msgspec.Struct, frozen=True, kw_only=True):
    """What was found for an agent: which of it a task gets is decided when its request is built."""

    context: tuple[ContextFile, ...] = ()
    """The farthest file first."""
    context_warnings: tuple[str, ...] = ()
    skills: tuple[Skill, ...] = ()
    """Those that the agent's file names, by name; without those that are given only when asked for."""
    skill_warnings: tuple[str, ...] = ()
