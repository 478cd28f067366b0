"""Every example that people can read is run: in the pages, in docstrings, in Python and in the shell.

What stands between fences is run or checked by its language:

- `python`: executed, against a simulator. A first line such as `# test_review.py` names a file: it is written down for
  all examples of its page, and given to pytest if it is a test.
- `sh`: executed, offline; it must succeed.
- `console`: commands after `$ `, and what they print, where `...` stands for anything.
- `json`: a valid `claude.json`. `markdown`: an agent file without fault.
- `text`: for reading only, as what needs a key, the network or the reader's own files.

Shell starts in an empty folder and sees what the blocks above it left. So does Python where there is shell above it;
else it starts in a project made from this repository's `.claude`. The shell blocks of README.md are run by `.ci/run`.
"""

import doctest
import importlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import claude_force
from claude_force.base.config import validate_config
from claude_force.library.agents import AgentLibrary
from claude_force.library.disk import Folder
from claude_force.testing import Simulator, environment

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"(?P<indent> *)(?P<fence>```+)(?P<language>\w*)")
FILE = re.compile(r"# (\w+\.py)\n")
COMMAND = re.compile(r"^\$ (.*)\n", re.MULTILINE)
PROMPT = "<<< next command >>>"
SHELL = {"sh", "console"}
LANGUAGES = SHELL | {"python", "json", "markdown", "text"}


class Block(NamedTuple):
    """What stands between two fences."""

    page: str
    line: int
    """Of its first line, counted from 1."""
    language: str
    code: str

    @property
    def file(self) -> str | None:
        """The name that a Python example gives itself."""
        named = FILE.match(self.code)
        return named[1] if named else None


def pages() -> list[Path]:
    """Where examples are: the pages, and docstrings with fences."""
    return [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "claude_force").rglob("*.py")),
    ]


def blocks_of(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    opening: re.Match[str] | None = None
    inside: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if opening is None:
            opening, inside = FENCE.match(line), []
        elif line.strip() == opening["fence"]:
            code = textwrap.dedent("\n".join([*inside, ""]))
            yield Block(str(page.relative_to(ROOT)), number - len(inside), opening["language"], code)
            opening = None
        else:
            inside.append(line)


BLOCKS = [block for page in pages() for block in blocks_of(page)]


def rows(language: str) -> list[Any]:
    """One row for each block in this language."""
    return [pytest.param(block, id=f"{block.page}:{block.line}") for block in BLOCKS if block.language == language]


@pytest.fixture(autouse=True)
def _machine(_from_nursery: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`claude-force` is that of the nursery, and what examples put into the temporary folder goes with the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in [name for name in os.environ if name.startswith(("PYTEST_", "COV_"))]:
        monkeypatch.delenv(name)  # or a pytest that an example starts takes itself for one of ours


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """An empty folder."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with our agents, and one source file to ask about."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / ".claude", folder / ".claude", ignore=shutil.ignore_patterns("metrics"))
    source = folder / "claude_force" / "cli.py"
    source.parent.mkdir()
    shutil.copy(ROOT / "claude_force" / "cli.py", source)
    return folder


@pytest.fixture
def _simulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Who asks Claude gets a simulator."""
    with Simulator() as simulator:
        for name, value in environment(simulator.base_url).items():
            monkeypatch.setenv(name, value)
        yield


def shell_of(page: str) -> list[Block]:
    """The shell blocks of a page; those of README.md make environments."""
    return [block for block in BLOCKS if block.page == page != "README.md" and block.language in SHELL]


def play(blocks: list[Block], folder: Path) -> list[str]:
    """Run shell blocks one after the other, as one script; what each command of a `console` and each `sh` printed."""
    mark = f"echo; echo '{PROMPT}'\n"
    script = "".join(
        mark + block.code if block.language == "sh" else COMMAND.sub(rf"{mark}\1\n", commands(block))
        for block in blocks
    )
    done = subprocess.run(
        ["bash", "-eu", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.split(f"\n{PROMPT}\n")[1:]


def commands(block: Block) -> str:
    """The lines of a `console` that are typed."""
    return "".join(f"$ {command}\n" for command in COMMAND.findall(block.code))


def said_by(block: Block) -> list[str | None]:
    """What the page says that `play` gives for a shell block; `None` is anything."""
    return [None] if block.language == "sh" else COMMAND.split(block.code)[2::2]


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS if shell_of(block.page)}))
def test_shell(page: str, empty: Path) -> None:
    """Commands that a page tells to type succeed, one after the other, without a key, and print what it says."""
    expected = [said for block in shell_of(page) for said in said_by(block)]
    for said, got in zip(expected, play(shell_of(page), empty), strict=True):
        if said is not None:
            assert doctest.OutputChecker().check_output(said, got, doctest.ELLIPSIS), f"{said}\n--- but got:\n{got}"


@pytest.mark.usefixtures("_simulated", "unobserved")
@pytest.mark.parametrize("block", rows("python"))
def test_python(block: Block, empty: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python that a page or a docstring shows runs as it stands."""
    above = [other for other in shell_of(block.page) if other.line < block.line]
    folder = empty if above else project
    play(above, folder)
    for other in BLOCKS:
        if other.page == block.page and other.file:
            (folder / other.file).write_text(other.code, encoding="utf-8")
    if block.file and block.file.startswith("test_"):
        quiet = ["-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *quiet, block.file],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
    else:
        monkeypatch.chdir(folder)
        code = compile("\n" * (block.line - 1) + block.code, str(ROOT / block.page), "exec")
        exec(code, {"__name__": "__main__"})  # noqa: S102 - it is what this test is about


@pytest.mark.parametrize("block", rows("json"))
def test_config(block: Block) -> None:
    """A configuration that a page shows is valid."""
    validate_config(json.loads(block.code))


@pytest.mark.parametrize("block", rows("markdown"))
def test_agent_file(block: Block, tmp_path: Path) -> None:
    """An agent file that a page shows loads without a warning."""
    (tmp_path / "agent.md").write_text(block.code, encoding="utf-8")
    library = AgentLibrary([Folder(path=tmp_path, source="project", root=tmp_path)])
    assert library.problems() == []
    assert [agent.warnings for agent in library.load_all()] == [()]


def test_nothing_is_left_out() -> None:
    """No block escapes the tests above by an unknown language or a fence that is not closed."""
    assert [block for block in BLOCKS if block.language not in LANGUAGES and block.page.endswith(".md")] == []
    fences = {page: len(re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE)) for page in pages()}
    assert [str(page) for page, count in fences.items() if count % 2] == []


def docstrings() -> Iterator[doctest.DocTest]:
    """Every docstring with an example, in every module."""
    for found in pkgutil.walk_packages(claude_force.__path__, "claude_force."):
        if found.name != "claude_force.__main__":
            tests = doctest.DocTestFinder().find(importlib.import_module(found.name))
            yield from (test for test in tests if test.examples)


@pytest.mark.parametrize("example", list(docstrings()), ids=lambda example: example.name)
def test_docstring(example: doctest.DocTest, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of a docstring gives what it says, in a project with agents."""
    monkeypatch.chdir(project)
    said: list[str] = []
    outcome = doctest.DocTestRunner().run(example, out=said.append, clear_globs=False)
    assert outcome.failed == 0, "".join(said)
