"""Workflows are found by name, nearest first, and one that cannot be read says why."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_force import WorkflowError
from claude_force.base.config import Settings, load_settings
from claude_force.library.workflows import WorkflowLibrary
from tests.conftest import write

ONE = '{"steps": [{"agent": "a", "task": "Do it."}]}'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository."""
    (tmp_path / ".git").mkdir()
    return tmp_path


def test_the_nearest_one_counts(root: Path) -> None:
    """The config's first, then the folders from here up to the repository's root, then the user's."""
    for folder in (root / "inner", root, Path(os.environ["HOME"])):
        write(folder / ".claude/workflows/w.json", ONE)
    write(Path(os.environ["HOME"]) / ".claude/workflows/mine.yaml", "steps: []")
    write(root / ".claude/workflows/other.yml", "steps: []")
    write(root / ".claude/workflows/README.md", "no workflow")
    library = WorkflowLibrary(Settings(), start=root / "inner")
    assert list(library.names()) == ["mine", "other", "w"]
    assert library.find("w").path == root / "inner/.claude/workflows/w.json"
    write(root / ".claude/claude.json", '{"workflows": {"w": {"name": "of the config", "steps": []}}}')
    configured = WorkflowLibrary(load_settings(start=root), start=root / "inner")
    assert configured.find("w").raw["name"] == "of the config"


def test_json_and_yaml_say_the_same(root: Path) -> None:
    """Either form may be written."""
    write(root / ".claude/workflows/j.json", ONE)
    write(root / ".claude/workflows/y.yaml", "steps:\n  - agent: a\n    task: Do it.\n")
    library = WorkflowLibrary(Settings(), start=root)
    assert library.find("j").raw == library.find("y").raw


def test_a_misspelt_name_is_told_the_nearest(root: Path) -> None:
    """Or which there are, or how to get some."""
    library = WorkflowLibrary(Settings(), start=root)
    with pytest.raises(WorkflowError, match="claude-force init"):
        library.find("reviw")
    write(root / ".claude/workflows/review.json", ONE)
    with pytest.raises(WorkflowError, match="did you mean 'review'"):
        library.find("reviw")
    with pytest.raises(WorkflowError, match="there are review"):
        library.find("xyz")


UNREADABLE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no JSON": ("w.json", lambda path: path.write_text("{"), "it is not JSON"),
    "a list": ("w.json", lambda path: path.write_text("[]"), "it holds no object"),
    "no YAML": ("w.yaml", lambda path: path.write_text("a: [b"), "no valid YAML"),
    "an alias": ("w.yaml", lambda path: path.write_text("a: &a [*a]"), "anchor"),
    "no UTF-8": ("w.json", lambda path: path.write_bytes(b'{"name": "\xff"}'), "it is not UTF-8 text"),
    "a folder": ("w.json", lambda path: path.mkdir(), "no regular file"),
    "a pipe": ("w.json", os.mkfifo, "no regular file"),
    "a dead link": ("w.json", lambda path: path.symlink_to("nowhere"), "No such file"),
}


@pytest.mark.parametrize(("name", "make", "words"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_read_says_why(root: Path, name: str, make: Callable[[Path], object], words: str) -> None:
    """With its file, and without waiting for a pipe."""
    path = root / ".claude/workflows" / name
    path.parent.mkdir(parents=True)
    make(path)
    with pytest.raises(WorkflowError, match=words) as caught:
        WorkflowLibrary(Settings(), start=root).find("w")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\u202eb", "a\udcff"])
def test_what_has_no_name_that_can_be_seen(root: Path, name: str) -> None:
    """Is listed, so that it is found, but neither run nor drawn: nobody could read its journal, or its picture."""
    write(root / f".claude/workflows/{name}.json", ONE)
    library = WorkflowLibrary(Settings(), start=root)
    assert list(library.names()) == [name]
    with pytest.raises(WorkflowError, match="characters that cannot be seen; rename it"):
        library.find(name)
    with pytest.raises(WorkflowError, match="characters that cannot be seen; rename it"):
        library.find(f"{root}/.claude/workflows/{name}.json")


def test_an_entry_without_a_name_that_can_be_seen(root: Path) -> None:
    """The same for those of the config."""
    write(root / ".claude/claude.json", '{"workflows": {"a\\u001b": {"steps": []}}}')
    with pytest.raises(WorkflowError, match="characters that cannot be seen; rename it"):
        WorkflowLibrary(load_settings(start=root), start=root).find("a\x1b")
