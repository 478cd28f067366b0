"""Agents: the Markdown files below `.claude/agents`, found by name, and which one counts where several have it.

An agent *is* its `name` field; where its file lies does not matter. Which file wins, when two define the same name:

1. the config's entry,
2. the nearest `.claude/agents`, seen from where the user stands, then those of its parents,
3. the user's own `agents` folder,
4. inside one folder: the first path in sorted order.

A file that cannot be used is an `AgentFileError`; if its name is asked for, that is raised, never a farther agent taken
instead. How the files are found on the disk: `disk`; what one file says: `definition`.
"""

import contextlib
import copy
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from claude_force.base.errors import AgentFileError, AgentNameError, AgentNotFoundError
from claude_force.base.records import AgentDefinition
from claude_force.library.definition import (
    MAX_NAME_CHARS,
    Outcome,
    file_error,
    may_define,
    name_fault,
    read_definition,
)
from claude_force.library.disk import File, Folder, Unusable, Walk, resolved
from claude_force.library.remarks import Remark, Shadowed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


class ConfiguredAgent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent file that the config names."""

    path: "Path"
    root: "Path | None"
    """Where the file must lie when all links are followed; `None` for the user's own config, which may name any."""
    keywords: tuple[str, ...] = ()
    """Added to those of the file."""


class AgentLibrary:
    """Finds agents by name. Implements `base.ports.AgentFinder`.

    Every call looks at the disk again, so an edited file is seen at once; what did not change is not read twice.
    Threads may share a library: all it keeps are dicts of immutable records, each stored whole in one operation.

    Example:
        >>> from pathlib import Path
        >>> library = AgentLibrary(agent_folders(Path(), home=Path.home() / ".claude"))
        >>> [agent.name for agent in library.load_all()] == library.names()
        True
    """

    def __init__(
        self, folders: Sequence[Folder] = (), *, entries: "Mapping[str, ConfiguredAgent] | None" = None
    ) -> None:
        """`folders` go nearest first, as `agent_folders` gives them; `entries` are the config's agents, by name."""
        self._folders = tuple(folders)
        self._entries = dict(entries or {})
        self._kept: dict[Path, _Kept] = {}
        self._found: dict[str, _Found] = {}

    def recall(self, name: str) -> AgentDefinition | None:
        """What `find` gave for this name within the last second, if its file is as it was: a microsecond, no walk.

        An edit of the agent is seen at once; that *another* file takes its name over, a second later.
        """
        found = self._found.get(name)
        if found is None or time.monotonic() - found.looked_at_s > RECENT_S:
            return None
        try:
            info = os.stat(found.path)  # noqa: PTH116 - a third of the time that Path.stat takes
        except OSError:
            return None
        same = (info.st_mtime_ns, info.st_size, info.st_ino)
        return found.agent if same == (found.file.modified_ns, found.file.size, found.file.inode) else None

    def find(self, name: str) -> AgentDefinition:
        """The agent of that name.

        Raises `AgentNameError` before any file is touched, `AgentNotFoundError` with the nearest names, or
        `AgentFileError` where the file that counts cannot be used.
        """
        check_agent_name(name)
        for tree in self._trees(wanted=name):
            if name in tree.agents:
                return self._remembered(tree.chosen(name))
            for problem in tree.problems:
                if problem.agent == name:
                    raise copy.copy(problem)  # the kept one is shared, and a raised one collects tracebacks
        raise not_found(name, self.names())

    def _remembered(self, agent: AgentDefinition) -> AgentDefinition:
        kept = self._kept.get(agent.path) if agent.path else None
        if kept is not None:
            self._found[agent.name] = _Found(agent, kept.file, str(kept.file.real), time.monotonic())
        return agent

    def names(self) -> list[str]:
        """The names of all usable agents, sorted."""
        return sorted(self._survey().agents)

    def load_all(self) -> list[AgentDefinition]:
        """All usable agents, sorted by name."""
        return [agent for _, agent in sorted(self._survey().agents.items())]

    def problems(self) -> list[AgentFileError]:
        """Files and folders that cannot be used, in the order in which they are searched."""
        return [copy.copy(problem) for problem in self._survey().problems]

    def shadowed(self) -> list[Shadowed]:
        """Usable files that another file of the same name hides, in the same tree or in a farther one."""
        return self._survey().shadowed

    def _survey(self) -> "_Survey":
        survey = _Survey()
        for tree in self._trees(wanted=None):
            survey.add(tree)
        return survey

    def _trees(self, *, wanted: str | None) -> "Iterator[_Tree]":
        """The trees, first the one that counts most; files that cannot define the `wanted` name are left out."""
        walk = Walk()
        yield self._entries_tree(walk, wanted=wanted)
        for folder in self._folders:
            tree = _Tree()
            for file in walk.files(folder):
                tree.add(self._read(file, wanted=wanted))
            yield tree

    def _entries_tree(self, walk: Walk, *, wanted: str | None) -> "_Tree":
        tree = _Tree()
        for name, entry in self._entries.items():
            file = walk.file(entry.path, root=entry.root, source="config")
            if wanted in {None, name}:
                tree.add(_configured(self._read(file, wanted=None), name, entry))
        return tree

    def _read(self, file: File | Unusable, *, wanted: str | None) -> Outcome:
        if isinstance(file, Unusable):
            return file_error(file.path, file.reason)
        kept = self._kept.get(file.path)
        if kept is not None and kept.file != file:
            kept = None
        if kept is not None and kept.ruled_out in {None, wanted}:
            return kept.outcome
        data = file.data()
        if isinstance(data, Unusable):  # not kept: rights can change without a trace in the file
            return file_error(data.path, data.reason)
        # A file that was ruled out before is read in full this time: whoever asks for a second name asks for many.
        is_ruled_out = kept is None and wanted is not None and not may_define(data, wanted, path=file.path)
        outcome = None if is_ruled_out else read_definition(data, path=file.path, source=file.source)
        if time.time_ns() - file.modified_ns > SETTLED_NS:
            self._kept[file.path] = _Kept(file, outcome, wanted if is_ruled_out else None)
        return outcome


def not_found(name: str, names: "Iterable[str]") -> AgentNotFoundError:
    """The error for a name that none of these agents has, with the nearest that there are."""
    import difflib  # noqa: PLC0415 - only a wrong name pays for it

    by_fold = {known.casefold(): known for known in names}
    if not by_fold:
        return AgentNotFoundError(
            f"no agent is named {name!r}, for there are none here; `claude-force init` writes a starter set",
            agent=name,
        )
    nearest = tuple(by_fold[fold] for fold in difflib.get_close_matches(name.casefold(), by_fold))
    hint = f"did you mean {' or '.join(map(repr, nearest))}? " if nearest else ""
    return AgentNotFoundError(
        f"no agent is named {name!r}; {hint}`claude-force agents list` shows all of them",
        agent=name,
        nearest=nearest,
    )


def agent_folders(start: "Path", *, home: "Path") -> list[Folder]:
    """The agent folders that count in the folder `start`, nearest first; `home` is the user's Claude folder.

    Those of the project are the `.claude/agents` of `base.config.project_folders`: from `start` up to the repository's
    root; outside a repository that of `start` alone, because a parent such as `/tmp` may be anybody's. The user's own
    comes last. (`base.config.user_folder` knows `home`: `~/.claude`, or what `CLAUDE_CONFIG_DIR` says.)
    """
    from claude_force.base.config import project_folders  # noqa: PLC0415 - it costs msgspec, 20 ms

    places = project_folders(start)
    own = Folder(path=home / "agents", source="user", root=home / "agents")
    mine = resolved(own.path)  # the home folder may be a project, too: its `.claude` is the user's own
    project = [
        Folder(path=path, source="project", root=places[-1])
        for place in places
        if resolved(path := place / ".claude" / "agents") != mine
    ]
    return [folder for folder in (*project, own) if _exists(folder.path)]


def _exists(path: "Path") -> bool:
    with contextlib.suppress(OSError):  # a folder above it may be closed to us
        return path.exists()
    return False


def check_agent_name(name: str) -> None:
    """Raise `AgentNameError` where a name is a path, an option, or holds characters that a shell or terminal obeys."""
    if fault := name_fault(name):
        shown = name if len(name) <= MAX_NAME_CHARS else f"{name[:40]}..."
        raise AgentNameError(
            f"{shown!r} is no agent name: {fault}; use lower-case letters, digits and hyphens, as in 'code-reviewer'",
            agent=name[:MAX_NAME_CHARS],
        )


# ------------------------------------------------------------ what was read before

SETTLED_NS = 2_000_000_000  # a file this old cannot change unseen: the coarsest file systems count time in 2 s
RECENT_S = 1.0  # a batch of calls walks the tree once a second, and a person does not notice


class _Kept(msgspec.Struct, frozen=True):
    file: File
    outcome: Outcome
    ruled_out: str | None
    """The name that was looked for when the file was left unread; `None` where it was read."""


class _Found(msgspec.Struct, frozen=True):
    agent: AgentDefinition
    file: File
    path: str
    looked_at_s: float


# ------------------------------------------------------------ which file wins


class _Tree(msgspec.Struct):
    """What one tree, or the config, has to offer."""

    agents: dict[str, list[AgentDefinition]] = msgspec.field(default_factory=dict)
    """All usable files of a name; the first one counts."""
    problems: list[AgentFileError] = msgspec.field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        if isinstance(outcome, AgentDefinition):
            self.agents.setdefault(outcome.name, []).append(outcome)
        elif outcome is not None:
            self.problems.append(outcome)

    def chosen(self, name: str) -> AgentDefinition:
        first, *others = self.agents[name]
        if not others:
            return first
        hidden = " and ".join(repr(str(other.path)) for other in others)
        warning = f"{name!r} is defined by {str(first.path)!r}, which counts, and by {hidden}; rename or remove one"
        return msgspec.structs.replace(first, warnings=(*first.warnings, Remark(warning, "duplicate-name")))


class _Survey(msgspec.Struct):
    """All trees together."""

    agents: dict[str, AgentDefinition] = msgspec.field(default_factory=dict)
    problems: list[AgentFileError] = msgspec.field(default_factory=list)
    shadowed: list[Shadowed] = msgspec.field(default_factory=list)
    broken: set[str] = msgspec.field(default_factory=set)
    """Names whose nearest file cannot be used: they are not filled from farther trees."""

    def add(self, tree: _Tree) -> None:
        for name in [name for name in tree.agents if name not in self.broken]:
            used = self.agents.setdefault(name, tree.chosen(name))
            self.shadowed += (
                Shadowed(what="agent", name=name, used=used.path, hidden=agent.path)
                for agent in tree.agents[name]
                if used.path and agent.path and agent.path != used.path
            )
        self.broken |= {problem.agent for problem in tree.problems} - self.agents.keys()
        self.problems += tree.problems


def _configured(outcome: Outcome, name: str, entry: ConfiguredAgent) -> Outcome:
    """The agent of a file, as the config has it: under its name there, and with the keywords from there."""
    if fault := name_fault(name):
        reason = f"the config calls it {name!r}, which is no agent name: {fault}; rename it"
        return file_error(entry.path, reason, agent=name, kind="bad-name")
    if outcome is None:
        reason = "it has neither 'name' nor 'description'; write them as front matter"
        return file_error(entry.path, reason, agent=name, kind="empty")
    if isinstance(outcome, AgentFileError):
        return file_error(entry.path, outcome.reason, line=outcome.line, agent=name, kind=outcome.kind)
    keywords = tuple(dict.fromkeys((*outcome.keywords, *entry.keywords)))
    warnings = outcome.warnings
    if outcome.name != name:
        both = f"the config calls this agent {name!r}, its file {outcome.name!r}; use one name for both"
        warnings += (Remark(both, "unusual-name"),)
    return msgspec.structs.replace(outcome, name=name, keywords=keywords, warnings=warnings)
