"""The project's context: what its `CLAUDE.md` files say to whoever works there, with the files that they import.

As Claude Code has it: the user's own `CLAUDE.md`, then from the repository's root down to where the user stands each
folder's `CLAUDE.md`, `.claude/CLAUDE.md` and `CLAUDE.local.md`. `@path` in their text, but not in code, imports a file,
which follows the one that names it, four hops deep at most. HTML comments on lines of their own are left out.

A project must not have its users send other files of theirs: its files, and what they import, lie inside the repository
when all links are followed, or in a folder that the user has named for it. Hidden ones (`.env`, `.git/config`) are the
user's even there, unless they end in `.md`. The user's own file may import any.
"""

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import msgspec

from claude_force.base.briefing import ContextFile
from claude_force.base.config import home_folder, project_folders
from claude_force.library.disk import Unusable, read_text, resolved

MOST_HOPS = 4
MOST_IMPORTS = 100  # of one file
MOST_FILE_BYTES = 256 * 1024
MOST_CHARS = 100_000  # about 38,000 tokens, paid with every call; Claude Code warns at 40,000 characters a file
NAMES = ("CLAUDE.md", ".claude/CLAUDE.md", "CLAUDE.local.md")


class Context(msgspec.Struct):
    """What was found."""

    files: list[ContextFile] = msgspec.field(default_factory=list)
    warnings: list[str] = msgspec.field(default_factory=list)
    """What was left out, and why."""
    paths: list[Path] = msgspec.field(default_factory=list)
    """Of the files, without links."""


def read_context(start: Path, *, home: Path, import_from: Collection[Path] = ()) -> Context:
    """The context that counts in the folder `start`; `home` is the user's Claude folder.

    Files of the project may import from its repository and from the folders of `import_from`.
    """
    places = project_folders(start)
    root = places[-1]
    reader = _Reader(root, (root, *import_from))
    reader.read(home / "CLAUDE.md", is_own=True)
    for place in reversed(places):
        for name in NAMES:
            reader.read(place / name, is_own=False)
    return reader.found


class _Reader:
    """Reads each file once, whatever links and imports lead to it."""

    def __init__(self, root: Path, allowed: Collection[Path]) -> None:
        self.found = Context()
        self._root = root
        self._allowed = [resolved(folder) for folder in allowed]
        self._chars = 0

    def read(self, path: Path, *, is_own: bool, hops: int = 0, named_by: str | None = None) -> None:
        """Add this file, if it is there, and what it imports. `is_own`: it is the user's."""
        real = resolved(path)
        if real in self.found.paths or not _is_there(path):
            return
        name = self._name(path)
        where = f"{name!r}, which {named_by!r} imports," if named_by else repr(name)
        if not is_own and not any(real.is_relative_to(folder) for folder in self._allowed):
            self._leave_out(where, "it lies outside of the repository; copy it, or name its folder in"
                                   " CLAUDE_FORCE_IMPORT_FROM")  # fmt: skip
            return
        if not is_own and real.suffix != ".md" and not any(_is_in_sight(real, folder) for folder in self._allowed):
            self._leave_out(where, "hidden files hold keys and passwords; copy what is needed into a '.md' file")
            return
        text = read_text(real, root=None, most_bytes=MOST_FILE_BYTES)
        if isinstance(text, Unusable):
            self._leave_out(where, text.reason)
            return
        kept, wanted = parsed(text)
        if self._chars + len(kept) > MOST_CHARS:
            self._leave_out(where, f"with it, there would be more than {MOST_CHARS:,} characters; shorten it")
            return
        self._chars += len(kept)
        self.found.paths.append(real)
        if kept:
            self.found.files.append(ContextFile(name=name, text=kept))
        if len(wanted) > MOST_IMPORTS:
            self._leave_out(f"what {name!r} imports after {MOST_IMPORTS} others", "that is too much; name fewer files")
        for named in wanted[:MOST_IMPORTS]:
            self._import(named, path, is_own=is_own, hops=hops + 1)

    def _import(self, named: str, by: Path, *, is_own: bool, hops: int) -> None:
        """Add what this file imports. What is not there may be meant as something else: a person, a package."""
        path = home_folder() / named[2:] if named.startswith("~/") else by.parent / named
        what = f"{named!r}, which {self._name(by)!r} imports,"
        if not _is_there(path):
            if named.endswith(".md"):
                self._leave_out(what, "there is no such file; mend the path")
        elif hops <= MOST_HOPS:
            self.read(path, is_own=is_own, hops=hops, named_by=self._name(by))
        elif resolved(path) not in self.found.paths:
            self._leave_out(what, f"it is more than {MOST_HOPS} hops away; import it from a nearer file")

    def _leave_out(self, what: str, why: str) -> None:
        self.found.warnings.append(f"{what} is no part of the project's context: {why}")

    def _name(self, path: Path) -> str:
        """The same on every machine, as far as can be: nothing of where the project lies is sent."""
        plain = Path(os.path.normpath(path.absolute()))  # without `..`, as it is written: links are not followed
        for folder, prefix in ((self._root, ""), (home_folder(), "~/")):
            if plain.is_relative_to(folder):
                return prefix + plain.relative_to(folder).as_posix()
        return plain.name


def _is_in_sight(path: Path, folder: Path) -> bool:
    """Whether it lies in this folder and is not hidden there, as `.env` and `.git/config` are."""
    return path.is_relative_to(folder) and not any(part.startswith(".") for part in path.relative_to(folder).parts)


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (OSError, ValueError):  # what prose holds may be no path at all
        return False
    return not os.path.isdir(path)  # noqa: PTH112 - Path.is_dir() may raise


# As text: `re` compiles a pattern once, when it is used. None of them looks at a character more than a few times.
_FENCE = r"[ ]{0,3}(`{3,}|~{3,})"
_CODE = r"(?<!`)`++[^`]++`++"
_IMPORT = r"(?<!\S)@((?:~?/|\.{1,2}/)?[\w.][^\s`]*)"


class Parsed(NamedTuple):
    """A text as it is sent, and the paths that it imports, in order."""

    text: str
    imports: list[str]


def parsed(text: str) -> Parsed:
    """The text without HTML comments that begin a line; one that does not end stays, and code is left as it is."""
    lines, kept, found = text.split("\n"), list[str](), dict[str, None]()
    last_end = max((number for number, line in enumerate(lines) if "-->" in line), default=-1)
    fence, number = "", 0
    while number < len(lines):
        line = lines[number]
        if not fence and line.lstrip().startswith("<!--") and number <= last_end:
            while "-->" not in lines[number]:
                number += 1
            line = lines[number].partition("-->")[2]
            if not line.strip():
                number += 1
                continue
        kept.append(line)
        number += 1
        mark = re.match(_FENCE, line)
        if fence:
            if mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif mark:
            fence = mark[1]
        elif "@" in line:
            found.update((path.rstrip(".,;:!?)'\""), None) for path in re.findall(_IMPORT, re.sub(_CODE, "", line)))
    return Parsed("\n".join(kept).strip(), list(found))
