"""What tests of workflows share: a project with two agents, which is the current folder, and the ledger's lines."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from claude_force import WorkflowResult
from tests.conftest import ledger

Lines = Callable[[], list[dict[str, Any]]]


def statuses(result: WorkflowResult) -> dict[str, str]:
    """How each step ended."""
    return {name: one.status for name, one in result.steps.items()}


@pytest.fixture(autouse=True)
def project(project: Path) -> Path:
    """The project of all tests, with a second agent."""
    (project / ".claude/agents/writer.md").write_text(
        "---\nname: writer\ndescription: Writes texts.\nmodel: haiku\n---\nYou write texts.\n"
    )
    return project


@pytest.fixture
def lines(project: Path) -> Lines:
    """Reads the ledger."""
    return partial(ledger, project)
