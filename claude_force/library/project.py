"""The agents and skills of a project: which folders and files count, for a configuration and where the user stands."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from claude_force.base.config import claude_folder, project_folders, project_of, user_folder
from claude_force.library.agents import AgentLibrary, ConfiguredAgent, agent_folders
from claude_force.library.briefing import BriefedAgents
from claude_force.library.context import Context, read_context
from claude_force.library.skills import SkillLibrary, skill_folders

if TYPE_CHECKING:
    from claude_force.base.config import Settings


def agent_library(settings: "Settings", *, start: Path) -> AgentLibrary:
    """The agents that can be called from the folder `start`: those of the config, the project and the user."""
    base = settings.folder or start
    root = _root_of(settings.path) if settings.path else None
    entries = {
        name: ConfiguredAgent(path=base / entry.path, root=root, keywords=tuple(entry.keywords))
        for name, entry in settings.config.agents.items()
    }
    return AgentLibrary(folders=agent_folders(start, home=user_folder()), entries=entries)


def briefed_agents(settings: "Settings", *, start: Path) -> BriefedAgents:
    """The same, with what each is told beside its prompt."""
    return BriefedAgents(agent_library(settings, start=start), skill_library(start), lambda: project_context(start))


def project_context(start: Path) -> Context:
    """What the project, and the user, say to all agents that are called from the folder `start`.

    `CLAUDE_FORCE_IMPORT_FROM` names folders from which the project's files may import. It is no key of the config,
    because a repository that was cloned brings its config along.
    """
    named = os.environ.get("CLAUDE_FORCE_IMPORT_FROM", "").split(os.pathsep)
    folders = [Path(folder).expanduser() for folder in named if folder]
    return read_context(start, home=user_folder(), import_from=folders)


def skill_library(start: Path) -> SkillLibrary:
    """The skills that can be used in the folder `start`: those of the project and the user."""
    return SkillLibrary(skill_folders(start, home=user_folder()))


def runs_file(start: Path) -> Path:
    """Where runs of workflows are written down: in the project's `.claude`, or the user's where there is no project."""
    return (claude_folder(start) or user_folder()) / "runs.db"


def memory_file(start: Path) -> Path:
    """Where the sessions of agents are remembered: in the project's `.claude`, or the user's where there is none."""
    return (claude_folder(start) or user_folder()) / "agent_memory.db"


def budgets_file(start: Path) -> Path:
    """Where it is written down what was spent of the project's budgets, or the user's where there is no project."""
    return (claude_folder(start) or user_folder()) / "budgets.db"


def batches_file(start: Path) -> Path:
    """Where message batches are put down: in the project's `.claude`, or the user's where there is no project."""
    return (claude_folder(start) or user_folder()) / "batches.db"


def worker_file(start: Path) -> Path:
    """Where a worker notes answers until they have come back: in the project's `.claude`, or else the user's."""
    return (claude_folder(start) or user_folder()) / "worker.db"


def engine_folder(start: Path) -> Path:
    """Where the path of an engine's file starts from: the project's folder, or the user's home."""
    return (claude_folder(start) or user_folder()).parent


def _root_of(config_path: Path) -> Path | None:
    """Where the agents of a config must lie: a project must not have its users send other files of theirs.

    That is its repository, or the project's folder where there is none. The user's own config may name any file.
    """
    folder = config_path.parent.resolve()
    if folder / config_path.name == user_folder().resolve() / "claude.json":
        return None
    root = project_folders(folder)[-1]
    return root if (root / ".git").exists() else project_of(folder / config_path.name)
