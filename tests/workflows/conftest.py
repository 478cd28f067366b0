"""What tests of workflows share: a project with two agents, which is the current folder, and the ledger's lines."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Lines = Callable[[], list[dict[str, Any]]]


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

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in (project / ".claude/metrics/executions.jsonl").read_text().splitlines()]

    return read
