"""Agents: the Markdown files below `.claude/agents`, found, read and checked.

An agent *is* its `name` field; where its file lies does not matter. Which file wins, when two define the same name:

1. the config's entry,
2. the nearest `.claude/agents`, seen from where the user stands, then those of its parents,
3. the user's own `agents` folder,
4. inside one folder: the first path in sorted order.

Files are read leniently: what can be understood is used, and each guess is a warning of the `AgentDefinition`. A file
that cannot be used is an `AgentFileError`; if its name is asked for, that is raised, never a farther agent taken
instead. Nothing that a file contains is ever run. How front matter is read and repaired: `frontmatter`.
"""

import contextlib
import copy
import errno
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

from claude_force.base.errors import AgentFileError, AgentNameError, AgentNotFoundError
from claude_force.base.records import AgentDefinition, AgentSource, Effort
from claude_force.library.frontmatter import MAX_FILE_BYTES, Document, FrontMatterError, read_document

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_NAME_CHARS = 128  # longer than any file name part needs; the convention ends at 64
USUAL_NAME_CHARS = 64  # what the agent skills standard allows
USUAL_DESCRIPTION_CHARS = 1_024  # likewise; 208 real agents are longer, so it is only a warning
MAX_BODY_CHARS = 200_000  # about 50,000 tokens, a quarter of the smallest context window, paid with every call
MAX_FILES = 10_000  # agent files in one tree; the largest public collection has a tenth of that
MAX_FOLDERS = 2_000  # folders in one tree, as the guide for skill clients has it: a stray link must not scan a disk

_SETTLED_NS = 2_000_000_000  # a file this old cannot change unseen: the coarsest file systems count time in 2 s
_SHELL_CHARS = frozenset(";&|<>$`\"'*?()[]{}!~")
_USUAL_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_NAME_LINE = re.compile(rb"^[ \t]*name[ \t]*:([^\r\n]+)", re.MULTILINE)
_ESCAPES = re.compile(rb"\\(?:[xuU]|\r|\n)")
_LIST_ITEM = re.compile(r"(?:[^,\n(]|\([^)]*\)?)+")
_TOOL = re.compile(r"[A-Z]\w*(?:\(.*\))?|mcp__\S+|\*", re.DOTALL)
_COUNT = re.compile(r"0*[1-9][0-9]{0,8}")
_BIG = 1e18  # beyond it, Python may refuse to write an integer down
_NO_TEXT = ("#", "<!--", "---", "***", "```")
_MODEL = re.compile(r"[A-Za-z0-9][\w.:/@\[\]-]*")
_DOCUMENTATION = frozenset(
    {"readme", "claude", "agents", "gemini", "changelog", "contributing", "code_of_conduct", "license"}
)
_SKIPPED_FOLDERS = frozenset({"node_modules"})
_MISSPELT_TOOLS = ("allowed-tools", "allowedTools")
_FIELDS = ("name", "description", "tools", "disallowedTools", "model", "permissionMode", "maxTurns", "skills",
           "memory", "effort", "color", "keywords")  # fmt: skip
_KEPT_FIELDS = ("mcpServers", "hooks", "background", "isolation", "initialPrompt")  # known, but without a place of ours
_KNOWN_KEYS = frozenset({*_FIELDS, *_KEPT_FIELDS, *_MISSPELT_TOOLS})
_PERMISSION_MODES = ("default", "manual", "acceptEdits", "auto", "dontAsk", "bypassPermissions", "plan")
_SWITCHES = {"yes": True, "on": True, "true": True, "1": True, "no": False, "off": False, "false": False, "0": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFolder:
    """A tree of agent files."""

    path: "Path"
    source: AgentSource
    root: "Path"
    """Where symbolic links must stay inside: a repository must not have its users send other files of theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowedAgent:
    """A usable file that is not used, because a file that goes first has the same name."""

    name: str
    used: "Path"
    hidden: "Path"

    def __str__(self) -> str:
        return f"agent {self.name!r}: {str(self.used)!r} hides {str(self.hidden)!r}"


class AgentLibrary:
    """Finds agents by name. Implements `base.ports.AgentFinder`.

    Every call looks at the disk again, so an edited file is seen at once; what did not change is not read twice.
    Threads may share a library: all it keeps is a dict of immutable records, each stored whole in one operation.

    Example:
        >>> from pathlib import Path
        >>> library = AgentLibrary(agent_folders(Path(), home=Path.home() / ".claude"))
        >>> [agent.name for agent in library.load_all()] == library.names()
        True
    """

    def __init__(self, folders: Sequence[AgentFolder] = (), *, entries: "Mapping[str, Path] | None" = None) -> None:
        """`folders` go nearest first, as `agent_folders` gives them; `entries` are the config's files, by name."""
        self._folders = tuple(folders)
        self._entries = dict(entries or {})
        self._kept: dict[Path, _Kept] = {}

    def find(self, name: str) -> AgentDefinition:
        """The agent of that name.

        Raises `AgentNameError` before any file is touched, `AgentNotFoundError` with the nearest names, or
        `AgentFileError` where the file that counts cannot be used.
        """
        check_agent_name(name)
        for tree in self._trees(wanted=name):
            if name in tree.agents:
                return tree.chosen(name)
            for problem in tree.problems:
                if problem.agent == name:
                    raise copy.copy(problem)  # the kept one is shared, and a raised one collects tracebacks
        raise self._not_found(name)

    def names(self) -> list[str]:
        """The names of all usable agents, sorted."""
        return sorted(self._survey().agents)

    def load_all(self) -> list[AgentDefinition]:
        """All usable agents, sorted by name."""
        return [agent for _, agent in sorted(self._survey().agents.items())]

    def problems(self) -> list[AgentFileError]:
        """Files and folders that cannot be used, in the order in which they are searched."""
        return [copy.copy(problem) for problem in self._survey().problems]

    def shadowed(self) -> list[ShadowedAgent]:
        """Usable files that another file of the same name hides, in the same tree or in a farther one."""
        return self._survey().shadowed

    def _survey(self) -> "_Survey":
        survey = _Survey()
        for tree in self._trees(wanted=None):
            survey.add(tree)
        return survey

    def _trees(self, *, wanted: str | None) -> "Iterator[_Tree]":
        """The trees, first the one that counts most; files that cannot define the `wanted` name are left out."""
        walk = _Walk()
        yield self._entries_tree(walk, wanted=wanted)
        for folder in self._folders:
            tree = _Tree()
            for file in walk.files(folder, tree.problems):
                tree.add(self._read(file, wanted=wanted))
            yield tree

    def _entries_tree(self, walk: "_Walk", *, wanted: str | None) -> "_Tree":
        tree = _Tree()
        for name, path in self._entries.items():
            file = walk.entry(path)
            if wanted in {None, name}:
                outcome = file if isinstance(file, AgentFileError) else self._read(file, wanted=None)
                tree.add(_renamed(outcome, name, path=path))
        return tree

    def _read(self, file: "_File", *, wanted: str | None) -> "_Outcome":
        kept = self._kept.get(file.path)
        if kept is not None and kept.file != file:
            kept = None
        if kept is not None and kept.ruled_out in {None, wanted}:
            return kept.outcome
        try:
            data = file.data()
        except OSError as error:  # not kept: rights can change without a trace in the file
            return _file_error(file.path, _reason(error))
        # A file that was ruled out before is read in full this time: whoever asks for a second name asks for many.
        is_ruled_out = kept is None and wanted is not None and not _may_define(data, wanted, path=file.path)
        outcome = None if is_ruled_out else _outcome(data, file)
        if time.time_ns() - file.modified_ns > _SETTLED_NS:
            self._kept[file.path] = _Kept(file, outcome, wanted if is_ruled_out else None)
        return outcome

    def _not_found(self, name: str) -> AgentNotFoundError:
        import difflib  # noqa: PLC0415 - only a wrong name pays for it

        by_fold = {known.casefold(): known for known in self.names()}
        nearest = tuple(by_fold[fold] for fold in difflib.get_close_matches(name.casefold(), by_fold))
        hint = f"did you mean {' or '.join(map(repr, nearest))}? " if nearest else ""
        return AgentNotFoundError(
            f"no agent is named {name!r}; {hint}`claude-force agents list` shows all of them",
            agent=name,
            nearest=nearest,
        )


def agent_folders(start: "Path", *, home: "Path") -> list[AgentFolder]:
    """The agent folders that count in the folder `start`, nearest first; `home` is the user's Claude folder.

    From `start` up to the repository root (the nearest parent with `.git`), every `.claude/agents`; outside a
    repository, only that of the nearest folder with a `.claude`. The user's own comes last. (`base.config.user_folder`
    knows `home`: `~/.claude`, or what `CLAUDE_CONFIG_DIR` says.)
    """
    start = _resolved(start)
    places = [start, *start.parents]
    root = next((place for place in places if _exists(place / ".git")), None)
    root = root or next((place for place in places if _exists(place / ".claude")), start)
    own = AgentFolder(path=home / "agents", source="user", root=home / "agents")
    project = [
        AgentFolder(path=place / ".claude" / "agents", source="project", root=root)
        for place in places[: places.index(root) + 1]
    ]
    mine = _resolved(own.path)  # above a folder that is in no repository lies the user's own `.claude`
    return [folder for folder in (*(f for f in project if _resolved(f.path) != mine), own) if _exists(folder.path)]


def check_agent_name(name: str) -> None:
    """Raise `AgentNameError` where a name is a path, an option, or holds characters that a shell or terminal obeys."""
    if fault := _name_fault(name):
        shown = name if len(name) <= MAX_NAME_CHARS else f"{name[:40]}..."
        raise AgentNameError(
            f"{shown!r} is no agent name: {fault}; use lower-case letters, digits and hyphens, as in 'code-reviewer'",
            agent=name[:MAX_NAME_CHARS],
        )


def _name_fault(name: str) -> str | None:
    shell_char = next((char for char in name if char in _SHELL_CHARS), None)
    faults = (
        (not name.strip(), "it is empty"),
        (len(name) > MAX_NAME_CHARS, f"it is longer than {MAX_NAME_CHARS} characters"),
        (name.startswith("-"), "it starts with '-', as options do"),
        (".." in name or any(char in name for char in ":/\\"), "it looks like a path or an address"),
        # Control characters, but also those that turn the direction of what a terminal shows.
        (not name.isprintable(), "it holds characters that cannot be seen"),
        (shell_char, f"it holds {shell_char!r}, which means something to a shell"),
    )
    return next((fault for is_there, fault in faults if is_there), None)


# ------------------------------------------------------------ on the disk


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it lay there at one moment. Equal ones have the same content, if they are old enough."""

    path: "Path"
    real: "Path"
    """Without symbolic links: what was checked is what is opened."""
    source: AgentSource
    modified_ns: int
    size: int
    inode: int

    def data(self) -> bytes:
        """The bytes; one more than allowed is enough to tell that there are too many."""
        with self.real.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES + 1)


_Outcome = AgentDefinition | AgentFileError | None
"""What a file turned out to be; `None` is documentation."""


@dataclass(frozen=True, slots=True)
class _Kept:
    file: _File
    outcome: _Outcome
    ruled_out: str | None
    """The name that was looked for when the file was left unread; `None` where it was read."""


class _Walk:
    """One pass over the trees: each file once, whatever links lead to it."""

    def __init__(self) -> None:
        self._seen: set[Path] = set()

    def files(self, folder: AgentFolder, problems: list[AgentFileError]) -> Iterator[_File]:
        """The agent files of a tree, in the order of their paths; what cannot be used goes to `problems`."""
        root = _resolved(folder.root)
        pending = [(folder.path, _resolved(folder.path))]  # the next one is the last
        files = folders = 0
        while pending:
            path, real = pending.pop()
            if real in self._seen:
                continue
            if not real.is_relative_to(root):
                problems.append(
                    _file_error(path, f"it is a link that leads out of {str(root)!r}; copy the file instead")
                )
                continue
            self._seen.add(real)
            try:
                info = real.stat()
                if stat.S_ISDIR(info.st_mode):
                    folders += 1
                    pending += _children(path, real) if folders <= MAX_FOLDERS else []
                    continue
                file = _file(path, real, folder.source, info)
            except OSError as error:
                problems.append(_file_error(path, _reason(error)))
                continue
            files += 1
            if files > MAX_FILES:
                break
            yield file
        if files > MAX_FILES or folders > MAX_FOLDERS:
            limits = f"{MAX_FILES:,} agent files or {MAX_FOLDERS:,} folders"
            problems.append(_file_error(folder.path, f"it has more than {limits}, and the rest was left out; split it"))

    def entry(self, path: "Path") -> "_File | AgentFileError":
        """The file that the config names, which no tree gives again."""
        real = _resolved(path)
        self._seen.add(real)
        try:
            # A repository's config may name any path; this much keeps it from sending a key file to the model.
            return (
                _file(path, real, "config", real.stat())
                if real.suffix == ".md"
                else _file_error(path, "it does not end in '.md'")
            )
        except OSError as error:
            return _file_error(path, _reason(error))


def _file(path: "Path", real: "Path", source: AgentSource, info: os.stat_result) -> _File:
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    return _File(path, real, source, info.st_mtime_ns, info.st_size, info.st_ino)


def _children(path: "Path", real: "Path") -> "list[tuple[Path, Path]]":
    """What a folder holds that may be or lead to an agent, last one first, each as found and without links."""
    with os.scandir(real) as entries:
        wanted = [(entry.name, entry.is_symlink()) for entry in entries if _is_wanted(entry)]
    return [
        (path / name, _resolved(real / name) if is_link else real / name)
        for name, is_link in sorted(wanted, reverse=True)
    ]


def _is_wanted(entry: "os.DirEntry[str]") -> bool:
    if entry.name.startswith(".") or entry.name in _SKIPPED_FOLDERS:
        return False
    with contextlib.suppress(OSError):  # a link that leads to itself
        return entry.name.endswith(".md") or entry.is_dir()
    return False


def _resolved(path: "Path") -> "Path":
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a link to itself; whoever opens it gets the error
        return path


def _exists(path: "Path") -> bool:
    with contextlib.suppress(OSError):  # a folder above it may be closed to us
        return path.exists()
    return False


def _reason(error: OSError) -> str:
    return f"{error.strerror or type(error).__name__}; check the path and its rights"


def _file_error(path: "Path", reason: str, *, line: int | None = None, agent: str | None = None) -> AgentFileError:
    where = str(path) if line is None else f"{path}:{line}"
    return AgentFileError(
        f"{where!r} cannot be used as an agent: {reason}",
        agent=agent or (path.stem if path.suffix == ".md" else ""),
        path=str(path),
        line=line,
        reason=reason,
    )


# ------------------------------------------------------------ which file wins


@dataclass(slots=True)
class _Tree:
    """What one tree, or the config, has to offer."""

    agents: dict[str, list[AgentDefinition]] = field(default_factory=dict)
    """All usable files of a name; the first one counts."""
    problems: list[AgentFileError] = field(default_factory=list)

    def add(self, outcome: _Outcome) -> None:
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
        return replace(first, warnings=(*first.warnings, warning))


@dataclass(slots=True)
class _Survey:
    """All trees together."""

    agents: dict[str, AgentDefinition] = field(default_factory=dict)
    problems: list[AgentFileError] = field(default_factory=list)
    shadowed: list[ShadowedAgent] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    """Names whose nearest file cannot be used: they are not filled from farther trees."""

    def add(self, tree: _Tree) -> None:
        for name in [name for name in tree.agents if name not in self.broken]:
            used = self.agents.setdefault(name, tree.chosen(name))
            self.shadowed += (
                ShadowedAgent(name=name, used=used.path, hidden=agent.path)
                for agent in tree.agents[name]
                if used.path and agent.path and agent.path != used.path
            )
        self.broken |= {problem.agent for problem in tree.problems} - self.agents.keys()
        self.problems += tree.problems


def _renamed(outcome: _Outcome, name: str, *, path: "Path") -> _Outcome:
    """What the config calls `name`."""
    if fault := _name_fault(name):
        return _file_error(
            path, f"the config calls it {name!r}, which is no agent name: {fault}; rename it", agent=name
        )
    if outcome is None:
        return _file_error(path, "it has neither 'name' nor 'description'; write them as front matter", agent=name)
    if isinstance(outcome, AgentFileError):
        return _file_error(path, outcome.reason, line=outcome.line, agent=name)
    if outcome.name == name:
        return outcome
    warning = f"the config calls this agent {name!r}, its file {outcome.name!r}; use one name for both"
    return replace(outcome, name=name, warnings=(*outcome.warnings, warning))


# ------------------------------------------------------------ from a file to an agent


def _may_define(data: bytes, name: str, *, path: "Path") -> bool:
    """Whether a file can possibly define that name: a cheap look that may err on one side only.

    A name comes from the name of the file, or stands in it letter by letter, unless YAML's escapes spell it.
    """
    is_plain = _PLAIN_NAME.fullmatch(name) and not _ESCAPES.search(data)
    return not is_plain or path.stem == name or name.lower().encode() in data.lower()


def _outcome(data: bytes, file: _File) -> _Outcome:
    try:
        document = read_document(data, known_keys=_KNOWN_KEYS)
    except FrontMatterError as error:
        name_line = _NAME_LINE.search(data)
        if name_line is None and _is_documentation(file.path):
            return None
        name = name_line[1].decode(errors="replace").strip(" \t\"'") if name_line else None
        return _file_error(file.path, error.reason, line=error.line, agent=name)
    return _definition(document, file)


def _is_documentation(path: "Path") -> bool:
    return path.name.partition(".")[0].casefold() in _DOCUMENTATION


def _definition(document: Document, file: _File) -> _Outcome:
    fields = _Fields(document)
    name, description = fields.text("name"), fields.text("description")
    if name is None and (_is_documentation(file.path) or (document.meta and not _KNOWN_KEYS & document.meta.keys())):
        return None
    prompt = _without_blank_edges(document.body)
    identity = name or file.path.stem
    if fault := _prompt_fault(prompt) or _name_fault(identity):
        return _file_error(file.path, fault, agent=identity)
    if not document.has_front_matter:
        fields.warn("there is no front matter, so the file's name and first paragraph describe it; add 'description'")
    elif name is None:
        fields.warn(f"there is no 'name', so the file's name was taken; write 'name: {identity}'")
    if document.has_front_matter and description is None:
        fields.warn(
            "there is no 'description', so the first paragraph was taken; Claude Code skips such a file: add one"
        )
    description = description or _first_paragraph(prompt)
    _warn_of_habits(fields, identity, description)
    return AgentDefinition(
        name=identity,
        description=description,
        prompt=prompt,
        path=file.path,
        source=file.source,
        model=fields.model(),
        effort=fields.choice("effort", get_args(Effort)),
        tools=fields.tools(),
        disallowed_tools=fields.names("disallowedTools") or (),
        skills=fields.names("skills") or (),
        keywords=fields.names("keywords") or (),
        permission_mode=fields.choice("permissionMode", _PERMISSION_MODES),
        max_turns=fields.count("maxTurns"),
        memory=fields.choice("memory", ("user", "project", "local")),
        color=fields.text("color"),
        extra=fields.extra(),
        warnings=tuple(fields.warnings),
    )


def _prompt_fault(prompt: str) -> str | None:
    if not prompt:
        return "it holds no instructions; write them below the front matter"
    if len(prompt) > MAX_BODY_CHARS:
        return f"its instructions are longer than {MAX_BODY_CHARS:,} characters; move reference material into files"
    return None


def _warn_of_habits(fields: "_Fields", name: str, description: str) -> None:
    if len(name) > USUAL_NAME_CHARS:
        fields.warn(f"the name is longer than {USUAL_NAME_CHARS} characters; shorten it")
    if not _USUAL_NAME.fullmatch(name):
        fields.warn(f"the name {name!r} is unusual; lower-case letters, digits and hyphens work everywhere")
    if len(description) > USUAL_DESCRIPTION_CHARS:
        fields.warn(f"the description is longer than {USUAL_DESCRIPTION_CHARS:,} characters; move examples to the body")


def _without_blank_edges(text: str) -> str:
    lines = text.split("\n")
    filled = [i for i, line in enumerate(lines) if line.strip()]
    return "\n".join(lines[filled[0] : filled[-1] + 1]) if filled else ""


def _first_paragraph(text: str) -> str:
    """The first lines that are text, on one line; the first heading where there is nothing else."""
    lines: list[str] = []
    for line in map(str.strip, text.split("\n")):
        if line and not line.startswith(_NO_TEXT):
            lines.append(line)
        elif lines:
            break
    return " ".join(lines or [text.split("\n", 1)[0].strip("# ")])[:USUAL_DESCRIPTION_CHARS]


class _Fields:
    """The front matter's values, each brought to its type or left out; whatever is not as it should be is a warning."""

    def __init__(self, document: Document) -> None:
        self.warnings = list(document.warnings)
        self._meta = document.meta
        for key in self._meta.keys() & _MISSPELT_TOOLS:
            self.warn(f"{key!r} is no field of an agent and has no effect; did you mean 'tools'?")

    def warn(self, text: str) -> None:
        """Keep a warning for the reader of the definition."""
        self.warnings.append(text)

    def text(self, key: str) -> str | None:
        """A text; numbers and lists are written out."""
        value = self._meta.get(key)
        if value is None or isinstance(value, str):
            return (value or "").strip() or None
        texts = [_plain(item) for item in (value if isinstance(value, list) else [value])]
        if None in texts:
            self.warn(f"{key!r} is no text and was left out; put it in quotes")
            return None
        self.warn(f"{key!r} is no text and was read as one; put it in quotes")
        return ", ".join(filter(None, texts)).strip() or None

    def names(self, key: str) -> tuple[str, ...] | None:
        """Names from a list or from a text with commas; `None` where the key is absent or says nothing."""
        value = self._meta.get(key)
        if value is None:
            if key in self._meta:
                self.warn(f"{key!r} is empty and was left out; write '[]' for none")
            return None
        texts = [_plain(item) for item in (value if isinstance(value, list) else [value])]
        if None in texts:
            self.warn(f"{key!r} holds something else than names, which was left out; write 'a, b'")
        items = [item for text in texts if text for item in _LIST_ITEM.findall(text)]
        return tuple(dict.fromkeys(name for item in items if (name := item.strip().removeprefix("- ").strip())))

    def tools(self) -> tuple[str, ...] | None:
        """The allowed tools; `None` for all."""
        tools = self.names("tools")
        if tools is None or "*" in tools:
            return None
        if foreign := [tool for tool in tools if not _TOOL.fullmatch(tool)]:
            self.warn(
                f"'tools' has names that are none of Claude's tools: {', '.join(foreign)}; use names such as 'Read'"
            )
        return tools

    def model(self) -> str | None:
        """The model as written; `None` for `inherit`."""
        model = self.text("model")
        if model is None or model.lower() == "inherit":
            return None
        if not _MODEL.fullmatch(model):
            self.warn(f"{model!r} is no model's id; write an alias such as 'sonnet', or an id")
        return model

    def choice(self, key: str, words: tuple[Any, ...]) -> Any:  # noqa: ANN401 - one of `words`, or None
        """One of a few words."""
        text = self.text(key)
        word = next((word for word in words if text and word.lower() == text.lower()), None)
        if text and word is None:
            self.warn(f"{key!r} is {text!r} and was left out; use {', '.join(words[:-1])} or {words[-1]}")
        return word

    def count(self, key: str) -> int | None:
        """A whole number above zero."""
        value = self._meta.get(key)
        text = _plain(value)
        if value is not None and not (text and _COUNT.fullmatch(text)):
            self.warn(f"{key!r} is no whole number above 0 and was left out; write a number such as 10")
            return None
        return int(text) if text else None

    def extra(self) -> dict[str, Any]:
        """Every key without a place of its own, as it is; only `background` is brought to a truth value."""
        extra = {key: value for key, value in self._meta.items() if key not in _FIELDS}
        if isinstance(text := _plain(extra.get("background")), str):
            if text.lower() in _SWITCHES:
                extra["background"] = _SWITCHES[text.lower()]
            else:
                self.warn("'background' is neither yes nor no; write one of them")
        return extra


def _plain(value: object) -> str | None:
    """A text or a number as text. Not truth values, and no number so big that it cannot be one."""
    if isinstance(value, str):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _BIG
    return str(value) if is_number else None
