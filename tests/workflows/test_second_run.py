"""What must be the same in a second run of a workflow, so that it costs nothing."""

from pathlib import Path
from typing import Any

import pytest

from claude_force import AgentOrchestrator
from claude_force.testing import Simulator


def test_a_status_is_told_as_it_was(project: Path) -> None:
    """A step that is told how another ended is answered by the cache, too: `cached` is no news for it."""
    step = {"id": "sum", "agent": "reviewer", "task": "It is {{ steps.first.status }}.", "dependencies": ["first"]}
    workflow = {"name": "w", "steps": [{"id": "first", "agent": "reviewer", "task": "Look."}, step]}
    with AgentOrchestrator(project_dir=project, offline=True) as orchestrator:
        assert orchestrator.execute_workflow(workflow)["cached_steps"] == ()
        assert orchestrator.execute_workflow(workflow)["cached_steps"] == ("first", "sum")


def test_a_longer_list_pays_for_what_is_new(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a step that is done for each item of an answer, an item that was done before is not asked again."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    with Simulator(answer=answer) as server, AgentOrchestrator(project_dir=project, base_url=server.base_url) as face:
        for task, asked in (('["a", "b"]', 3), ('["a", "b", "c"]', 5)):
            listing = {"id": "list", "agent": "reviewer", "task": task}
            each = {"agent": "reviewer", "task": "Do {{ item }}.", "for_each": "{{ steps.list.output }}"}
            face.execute_workflow({"name": "w", "steps": [listing, {**each, "id": "each", "dependencies": ["list"]}]})
            assert len(server.requests) == asked


def answer(request: Any) -> str:
    """The task again."""
    return str(request.prompt)
