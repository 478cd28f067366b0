"""Collections: any folders and files, by the thousand, and what is wrong with them by kind of problem.

`agents` knows which file counts for a project; here every file is looked at for itself, once, and nothing but what is
wrong with it is kept. Which kinds of files there are to be looked at, and how one is read, is a `Format`; how one is
repaired: `repair`.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from claude_force.base.errors import AgentFileError, SkillFileError
from claude_force.library.definition import KNOWN_KEYS, file_error, name_from, read_definition
from claude_force.library.disk import File, Folder, Unusable, Walk, agents_of_any_tree, resolved, skills_in
from claude_force.library.remarks import Remark
from claude_force.library.skills import KNOWN_KEYS as SKILL_KEYS
from claude_force.library.skills import read_skill, skill_error

MAX_FILES = 100_000  # in one tree: ten times what is looked at for every call
MAX_FOLDERS = 100_000  # likewise; each skill is a folder of its own


class Readable(Protocol):
    """A file that can be used."""

    @property
    def name(self) -> str:
        """What it is called by."""
        ...

    @property
    def description(self) -> str:
        """When to use it."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What had to be repaired or guessed, each with the fix."""
        ...


Outcome = Readable | AgentFileError | SkillFileError | None
"""What a file turned out to be; `None` is documentation."""


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """What kind of files a collection has."""

    what: str
    """What one is, such as "agent"."""
    walk: Callable[[], Walk]
    """Finds them on the disk."""
    keys: frozenset[str]
    """Those of its front matter that are known; in a broken one they end the value above them."""
    read: Callable[[bytes, Path], Outcome]
    """What the bytes of the file at a path say. Never fails."""
    error: Callable[[Path, str], AgentFileError | SkillFileError]
    """For a file that cannot even be read, with the reason."""
    own_name: Callable[[Path], str | None]
    """What a file at this path is to be called where it does not say so itself."""


AGENTS = Format(
    what="agent",
    walk=lambda: Walk(agents_of_any_tree, max_files=MAX_FILES, max_folders=MAX_FOLDERS),
    keys=KNOWN_KEYS,
    read=lambda data, path: read_definition(data, path=path, source="project"),
    error=file_error,
    own_name=lambda path: name_from(path.stem),
)
SKILLS = Format(
    what="skill",
    walk=lambda: Walk(skills_in, what="skill", max_files=MAX_FILES, max_folders=MAX_FOLDERS),
    keys=SKILL_KEYS,
    read=lambda data, path: read_skill(data, path=path, source="project"),
    error=lambda path, reason: skill_error(path, reason, name=path.absolute().parent.name),
    own_name=lambda path: path.absolute().parent.name,
)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a file: as an error it costs the file, as a warning it does not."""

    path: Path
    line: int | None = None
    """Counted from 1, for an error; warnings have it in their text."""
    kind: str
    reason: str
    """What is wrong, and what to do."""
    is_error: bool = False


def error(path: Path, kind: str, reason: str) -> Problem:
    """What costs a file that nobody has read."""
    return Problem(path=path, kind=kind, reason=reason, is_error=True)


class Examined(msgspec.Struct, frozen=True):
    """A file that was looked at."""

    path: Path
    data: bytes
    """Empty where it could not be read."""
    outcome: Outcome


class KindCount(msgspec.Struct, frozen=True, kw_only=True):
    """How common a kind of problem is."""

    kind: str
    is_error: bool
    files: int
    example: Path


class Report(msgspec.Struct, kw_only=True):
    """What is wrong with the files of a collection. Keeps no text of theirs, however many they are."""

    names: dict[str, Path] = msgspec.field(default_factory=dict)
    """Of the usable files: the first one of each name."""
    usable: int = 0
    unusable: int = 0
    documentation: int = 0
    problems: list[Problem] = msgspec.field(default_factory=list)

    def add(self, path: Path, outcome: Outcome) -> None:
        """Count one more file."""
        if outcome is None:
            self.documentation += 1
        elif isinstance(outcome, AgentFileError | SkillFileError):
            self.unusable += 1
            self.problems += problems_of(path, outcome)
        else:
            self.usable += 1
            self.problems += problems_of(path, outcome)
            first = self.names.setdefault(outcome.name, path)
            if first != path:
                reason = f"{outcome.name!r} is defined by {str(first)!r} as well; rename or remove one"
                self.problems.append(Problem(path=path, kind="duplicate-name", reason=reason))

    @property
    def errors(self) -> list[Problem]:
        """What costs a file."""
        return [problem for problem in self.problems if problem.is_error]

    @property
    def warnings(self) -> list[Problem]:
        """What does not."""
        return [problem for problem in self.problems if not problem.is_error]


def kinds(problems: Iterable[Problem]) -> list[KindCount]:
    """The kinds among the problems: errors first, then the most common ones."""
    paths: dict[tuple[bool, str], dict[Path, None]] = {}
    for problem in problems:
        paths.setdefault((problem.is_error, problem.kind), {})[problem.path] = None
    counts = [
        KindCount(kind=kind, is_error=is_error, files=len(found), example=next(iter(found)))
        for (is_error, kind), found in paths.items()
    ]
    return sorted(counts, key=lambda count: (not count.is_error, -count.files, count.kind))


def worst_first(problems: Iterable[Problem]) -> list[Problem]:
    """The problems file by file: first the files that cannot be used, then those with the most warnings."""
    files: dict[Path, list[Problem]] = {}
    for problem in problems:
        files.setdefault(problem.path, []).append(problem)
    worst = sorted(files.values(), key=lambda found: (not any(one.is_error for one in found), -len(found)))
    return [problem for found in worst for problem in found]


def examine(paths: Iterable[Path], format_: Format) -> Iterator[Examined]:
    """Every file at or below the paths, each once, in the order of the paths."""
    walk = format_.walk()
    for path in paths:
        can_be_walked = os.path.isdir(path) or resolved(path).suffix == ".md"  # noqa: PTH112 - Path.is_dir() may raise
        tree = Folder(path=path, root=path, source="project")
        found = walk.files(tree) if can_be_walked else [walk.file(path, root=None)]
        yield from (looked_at(file, format_) for file in found)


def looked_at(file: File | Unusable, format_: Format) -> Examined:
    """One file, read."""
    data = file.data() if isinstance(file, File) else file
    if isinstance(data, Unusable):
        return Examined(data.path, b"", format_.error(data.path, data.reason))
    return Examined(file.path, data, format_.read(data, file.path))


def kinds_of(outcome: Outcome) -> list[str]:
    """The kinds of problems of one file."""
    return [problem.kind for problem in problems_of(Path(), outcome)]


def problems_of(path: Path, outcome: Outcome) -> list[Problem]:
    """What is wrong with one file."""
    if outcome is None:
        return []
    if isinstance(outcome, AgentFileError | SkillFileError):
        return [Problem(path=path, line=outcome.line, kind=outcome.kind, reason=outcome.reason, is_error=True)]
    return [
        Problem(path=path, kind=warning.kind if isinstance(warning, Remark) else "other", reason=str(warning))
        for warning in outcome.warnings
    ]
