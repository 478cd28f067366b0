"""The disk: trees of Markdown files walked, and single files looked at, with an eye on links, pipes and sizes.

A file is known by its real path: it is given once, whatever links lead to it, and a link never leads out of its root.
What cannot be used is given as an `Unusable` in its place, so nothing is left out silently. What the files mean is not
known here (`definition`, `skills`), nor which of them counts (`agents`, `skills`).
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from claude_force.library.frontmatter import MAX_FILE_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from claude_force.base.briefing import Source

MAX_FILES = 10_000  # agent files in one tree; the largest public collection has a tenth of that
MAX_FOLDERS = 2_000  # folders in one tree, as the guide for skill clients has it: a stray link must not scan a disk


SKILL_FILES = ("SKILL.md", "skill.md")
"""What makes a folder a skill; the first one counts where both are there."""
Listing = Callable[["list[os.DirEntry[str]]"], "list[os.DirEntry[str]]"]
"""What of a folder may be, or lead to, what is looked for."""


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """A tree of agent files, or of skills."""

    path: "Path"
    source: "Source"
    root: "Path"
    """Where symbolic links must stay inside: a repository must not have its users send other files of theirs."""


class File(msgspec.Struct, frozen=True):
    """A file as it lay there at one moment. Equal ones have the same content, if they are old enough."""

    path: "Path"
    """As it was found."""
    real: "Path"
    """Without symbolic links: what was checked is what is opened."""
    source: "Source"
    modified_ns: int
    size: int
    inode: int

    def data(self) -> "bytes | Unusable":
        """The bytes; one more than allowed is enough to tell that there are too many."""
        try:
            with self.real.open("rb") as stream:
                return stream.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            return Unusable(self.path, _reason(error))


class Unusable(msgspec.Struct, frozen=True):
    """A path at which there is nothing to read; `reason` says why, and what to do."""

    path: "Path"
    reason: str


def agents_in(entries: "list[os.DirEntry[str]]") -> "list[os.DirEntry[str]]":
    """Markdown files, and folders that may hold some."""
    return [entry for entry in entries if not entry.name.startswith(".") and _is_wanted(entry)]


def skills_in(entries: "list[os.DirEntry[str]]") -> "list[os.DirEntry[str]]":
    """The file of a skill, below which nothing is another one; else folders, also those where projects keep skills."""
    file = next((entry for name in SKILL_FILES for entry in entries if entry.name == name), None)
    if file is not None:
        return [file]
    open_ones = (entry for entry in entries if not entry.name.startswith(".") or entry.name in _SKILL_PLACES)
    return [entry for entry in open_ones if not entry.name.endswith(".md") and _is_wanted(entry)]


def agents_of_any_tree(entries: "list[os.DirEntry[str]]") -> "list[os.DirEntry[str]]":
    """As `agents_in`, but also below `.claude`, and without what Claude keeps beside agents: commands and skills."""
    if any(entry.name in SKILL_FILES for entry in entries):
        return []
    open_ones = (entry for entry in entries if not entry.name.startswith(".") or entry.name == ".claude")
    return [entry for entry in open_ones if entry.name not in _NO_AGENTS and _is_wanted(entry)]


class Walk:
    """One pass over the trees: each file once, whatever links lead to it."""

    def __init__(
        self,
        listing: Listing = agents_in,
        *,
        what: str = "agent",
        max_files: int = MAX_FILES,
        max_folders: int = MAX_FOLDERS,
    ) -> None:
        self._listing = listing
        self._what = what
        self._max_files = max_files
        self._max_folders = max_folders
        self._seen: set[Path] = set()

    def files(self, folder: Folder) -> Iterator[File | Unusable]:
        """The Markdown files of a tree, in the order of their paths."""
        root, source = resolved(folder.root), folder.source
        pending = [(folder.path, resolved(folder.path))]  # the next one is the last
        files = folders = 0
        while pending:
            path, real = pending.pop()
            if real in self._seen:
                continue
            if not real.is_relative_to(root):
                yield Unusable(path, f"it is a link that leads out of {str(root)!r}; copy the file instead")
                continue
            self._seen.add(real)
            try:
                info = real.stat()
                if stat.S_ISDIR(info.st_mode):
                    folders += 1
                    pending += self._children(path, real) if folders <= self._max_folders else []
                    continue
                file = _file(path, real, source, info)
            except OSError as error:
                yield Unusable(path, _reason(error))
                continue
            files += 1
            if files > self._max_files:
                break
            yield file
        if files > self._max_files or folders > self._max_folders:
            limits = f"{self._max_files:,} {self._what} files or {self._max_folders:,} folders"
            yield Unusable(folder.path, f"it has more than {limits}, and the rest was left out; split it")

    def file(self, path: "Path", *, root: "Path | None", source: "Source" = "project") -> File | Unusable:
        """The Markdown file at `path`, which no tree gives again; it must lie inside `root`, if there is one."""
        real = resolved(path)
        if root is not None and not real.is_relative_to(resolved(root)):
            return Unusable(path, f"it lies outside {str(root)!r}; copy the file into it")
        self._seen.add(real)
        # Whoever wrote the config chose the path; this much keeps a project's `.env` from being sent to a model.
        if real.suffix != ".md":
            return Unusable(path, "it does not end in '.md'")
        try:
            return _file(path, real, source, real.stat())
        except OSError as error:
            return Unusable(path, _reason(error))

    def _children(self, path: "Path", real: "Path") -> "list[tuple[Path, Path]]":
        """What a folder holds that is wanted, the last one first, each as found and without links."""
        with os.scandir(real) as entries:
            wanted = [(entry.name, entry.is_symlink()) for entry in self._listing(list(entries))]
        return [
            (path / name, resolved(real / name) if is_link else real / name)
            for name, is_link in sorted(wanted, reverse=True)
        ]


def read_text(path: "Path", *, root: "Path | None", most_bytes: int) -> "str | Unusable":
    """What a text file says. It must lie inside `root`, if there is one, when all links are followed."""
    real = resolved(path)
    if root is not None and not real.is_relative_to(resolved(root)):
        return Unusable(path, f"it lies outside {str(root)!r}; copy the file into it")
    try:
        if not stat.S_ISREG(real.stat().st_mode):  # a pipe would be waited for
            return Unusable(path, "it is no regular file; give a text file")
        with real.open("rb") as stream:
            data = stream.read(most_bytes + 1)
    except OSError as error:
        return Unusable(path, _reason(error))
    fault = f"it has more than {most_bytes:,} bytes; split it" if len(data) > most_bytes else None
    if b"\0" in data:
        fault = "it holds NUL bytes, so it is no text; give a text file"
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError:
        fault = fault or "it is not UTF-8 text; convert it"
    return Unusable(path, fault) if fault else text.replace("\r\n", "\n").replace("\r", "\n")


def resolved(path: "Path") -> "Path":
    """The path without links, absolute; as it is where its links lead to themselves."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # whoever opens it gets the error
        return path


def _file(path: "Path", real: "Path", source: "Source", info: os.stat_result) -> File:
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    return File(path, real, source, info.st_mtime_ns, info.st_size, info.st_ino)


_SKIPPED_FOLDERS = frozenset({"node_modules"})
_NO_AGENTS = frozenset({"commands", "skills"})
_SKILL_PLACES = frozenset({".claude", ".agents"})


def _is_wanted(entry: "os.DirEntry[str]") -> bool:
    if entry.name in _SKIPPED_FOLDERS:
        return False
    with contextlib.suppress(OSError):  # a link that leads to itself
        return entry.name.endswith(".md") or entry.is_dir()
    return False


def _reason(error: OSError) -> str:
    return f"{error.strerror or type(error).__name__}; check the path and its rights"
