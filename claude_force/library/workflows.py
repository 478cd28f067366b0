"""The workflows of a project: those of its config, and every `.claude/workflows/*.json|yaml|yml`.

A name is that of the config's entry, or the file's without its ending. The config's come first, then the folders from
here up to the repository root, then the user's own. The path of a file will do, too: what has a separator or such an
ending is one. What the keys of a workflow mean is for `workflows.definition`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from claude_force.base.config import project_folders, user_folder
from claude_force.base.errors import WorkflowError
from claude_force.base.sections import nearest
from claude_force.library.disk import Unusable, read_text
from claude_force.library.frontmatter import FrontMatterError, read_yaml

if TYPE_CHECKING:
    from claude_force.base.config import Settings

ENDINGS = (".json", ".yaml", ".yml")
MAX_FILE_BYTES = 16 * 1024 * 1024  # a graph of 10,000 steps has about 2 MB


class Found(NamedTuple):
    """A workflow as it was written, and where."""

    name: str
    raw: Mapping[str, Any]
    path: Path | None
    """The file; the config's, where it stands there."""


class WorkflowLibrary:
    """Finds workflows by name, for a configuration and the folder where the user stands."""

    def __init__(self, settings: "Settings", *, start: Path) -> None:
        self._settings = settings
        self._start = start

    def names(self) -> dict[str, Path | None]:
        """Every workflow that can be run, and its file, by name."""
        found: dict[str, Path | None] = dict.fromkeys(self._settings.config.workflows, self._settings.path)
        folders = [folder / ".claude" / "workflows" for folder in project_folders(self._start)]
        for folder in (*folders, user_folder() / "workflows"):
            for path in _files(folder):
                found.setdefault(path.stem, path)
        return dict(sorted(found.items()))

    def find(self, name: str) -> Found:
        """The workflow of that name, unchecked. Raises `WorkflowError` where there is none that can be read."""
        if name in self._settings.config.workflows:
            _check_name(name)
            return Found(name, self._settings.config.workflows[name], self._settings.path)
        if is_path(name):
            file = Path(name)
            return Found(file.stem, _read(file, name), file)
        names = self.names()
        path = names.get(name)
        if path is None:
            hint = (
                nearest(name, names) or f"; there are {', '.join(names)}"
                if names
                else "; `claude-force init` writes some"
            )
            raise WorkflowError(f"there is no workflow {name!r}{hint}", workflow=name)
        return Found(name, _read(path, name), path)


def is_path(name: str) -> bool:
    """Whether this is meant as a file and not as a name."""
    return os.sep in name or name.endswith(ENDINGS)


def _files(folder: Path) -> list[Path]:
    """The workflow files of a folder; of two with the same name, the first by `ENDINGS`."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - a folder that may not be read has none
    except OSError:
        return []
    paths = (folder / name for name in names if not name.startswith("."))
    return sorted((path for path in paths if path.suffix in ENDINGS), key=lambda p: (p.stem, ENDINGS.index(p.suffix)))


def _check_name(name: str) -> None:
    """No journal, ledger or picture takes half of a character, or what a terminal would obey."""
    if not name.isprintable():
        why = "its name holds characters that cannot be seen"
        raise WorkflowError(f"workflow {name!r} cannot be run: {why}; rename it", workflow=name, problems=(why,))


def _read(path: Path, name: str) -> Mapping[str, Any]:
    def refuse(why: str) -> WorkflowError:
        return WorkflowError(f"workflow {name!r} cannot be read: {str(path)!r}: {why}", workflow=name, problems=(why,))

    _check_name(path.stem)
    text = read_text(path, root=None, most_bytes=MAX_FILE_BYTES)
    if isinstance(text, Unusable):
        raise refuse(text.reason)
    try:
        raw = msgspec.json.decode(text) if path.suffix == ".json" else read_yaml(text.encode())
    except (msgspec.DecodeError, RecursionError) as error:
        raise refuse(f"it is not JSON: {error}") from error
    except FrontMatterError as error:
        raise refuse(str(error)) from error
    if not isinstance(raw, dict):
        raise refuse("it holds no object; it must have `steps`")
    return raw
