"""What must be the same in a second run of a workflow, so that it costs nothing."""

from pathlib import Path

from claude_force import AgentOrchestrator


def test_a_status_is_told_as_it_was(project: Path) -> None:
    """A step that is told how another ended is answered by the cache, too: `cached` is no news for it."""
    step = {"id": "sum", "agent": "reviewer", "task": "It is {{ steps.first.status }}.", "dependencies": ["first"]}
    workflow = {"name": "w", "steps": [{"id": "first", "agent": "reviewer", "task": "Look."}, step]}
    with AgentOrchestrator(project_dir=project, offline=True) as orchestrator:
        assert orchestrator.execute_workflow(workflow)["cached_steps"] == ()
        assert orchestrator.execute_workflow(workflow)["cached_steps"] == ("first", "sum")
