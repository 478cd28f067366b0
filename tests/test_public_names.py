"""The public surface is a decision, not a by-product."""

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import claude_force
from claude_force.base import errors


def test_every_public_name_is_there() -> None:
    """Each name of `__all__` can be imported from the root, and is the one of its own module."""
    for name in claude_force.__all__:
        assert getattr(claude_force, name) is not None
    assert claude_force.AgentOrchestrator.__module__ == "claude_force.orchestrator"
    assert set(dir(claude_force)) == set(claude_force.__all__)


def test_every_error_is_public() -> None:
    """Whoever catches one of our errors finds it at the root."""
    family = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert {name for name in claude_force.__all__ if name.endswith("Error")} == family


def test_type_checkers_and_python_see_the_same_names() -> None:
    """What is imported for type checkers is what `__getattr__` gives."""
    tree = ast.parse(Path(claude_force.__file__).read_text())
    checked = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert checked - {"import_module"} == set(claude_force.__all__) - {"__version__"}


def test_the_version_is_one() -> None:
    """The package and its metadata agree."""
    assert claude_force.__version__ == version("claude-force") == "2.3.0"


def test_what_is_not_there_is_an_attribute_error() -> None:
    """A misspelt name fails as it does on any module."""
    done = subprocess.run(
        [sys.executable, "-c", "import claude_force; claude_force.AgentOrchestrater"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "AttributeError: module 'claude_force' has no attribute 'AgentOrchestrater'" in done.stderr
