"""`use_memory`: past work that is like the task is put beside it, and nothing is paid twice for that."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from claude_force import AgentMemory, AgentOrchestrator, AgentTask, RefusalError, TaskError
from claude_force.agent_memory import Recollection
from claude_force.base.config import Memory as Bounds
from claude_force.testing import Answer, Refusal, SeenRequest, Simulator

SECRET = "a secret of the tests"
Face = type[AgentOrchestrator]


def answer(request: SeenRequest) -> Answer:
    """Short, and of the task alone."""
    return Answer(f"Done: {request.prompt.rpartition(chr(10))[2]}")


def configure(project: Path, **memory: Any) -> None:
    """The project's config."""
    (project / ".claude/claude.json").write_text(json.dumps({"memory": memory}))


def test_what_is_like_the_task_is_put_beside_it(face: Face, project: Path) -> None:
    """As fenced data with its date and its end; what is not like it stays away."""
    with Simulator(answer) as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        subject.execute_agent("reviewer", "Review the retry loop of the client", use_memory=True)
        subject.execute_agent("reviewer", "Translate the manual", use_memory=True)
        subject.execute_agent("reviewer", "Review the retry loop of the server", use_memory=True)
        first, second, third = simulator.requests
    assert "past work" not in first.prompt + second.prompt
    assert "<material-" in third.prompt
    assert 'kind="past work"' in third.prompt
    assert "a success" in third.prompt
    assert (
        "Task: Review the retry loop of the client\n\nAnswer: Done: Review the retry loop of the client" in third.prompt
    )
    assert "manual" not in third.prompt
    assert third.prompt.endswith("Review the retry loop of the server")
    assert (project / ".claude/agent_memory.db").stat().st_mode & 0o077 == 0


def test_the_same_call_is_paid_once(face: Face, project: Path) -> None:
    """What it left in the memory itself does not change its prompt, so the cache has its answer."""
    with Simulator(answer) as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        results = [subject.execute_agent("reviewer", "Review the retry loop", use_memory=True) for _ in range(3)]
        assert [result.cached for result in results] == [False, True, True]
        assert len(simulator.requests) == 1
    memory = AgentMemory(project / ".claude/agent_memory.db")
    assert memory.get_stats()["sessions"] == 1
    memory.close()


@pytest.mark.usefixtures("project")
def test_failures_are_kept_and_marked(face: Face) -> None:
    """A refusal, and an answer that was cut, are told as what they are."""
    with Simulator([Answer("", refusal=Refusal()), Answer("half an", stop_reason="max_tokens"), "ok"]) as simulator:
        with face(api_key="k", base_url=simulator.base_url) as subject:
            with pytest.raises(RefusalError):
                subject.execute_agent("reviewer", "Review the login page twice", use_memory=True)
            subject.execute_agent("reviewer", "Review the login page at once", use_memory=True)
            subject.execute_agent("reviewer", "Review the login page now", use_memory=True)
        prompt = simulator.requests[-1].prompt
    assert prompt.count("a failure") == 2
    assert "It failed: RefusalError: " in prompt
    assert "It failed: half an" in prompt


def test_nothing_is_kept_where_it_is_off(face: Face, project: Path) -> None:
    """Not by default, not where the call says no, and never by the steps of a workflow."""
    configure(project, enabled=True)
    steps = [{"id": "one", "agent": "reviewer", "task": "Review the retry loop"}]
    with Simulator(answer) as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        subject.execute_agent("reviewer", "Review the retry loop", use_memory=False)
        subject.execute_workflow({"name": "w", "steps": steps})
        assert not (project / ".claude/agent_memory.db").exists()
        subject.execute_agent("reviewer", "Review the retry loop, please")
    assert (project / ".claude/agent_memory.db").exists()


def test_a_memory_that_cannot_be_used_costs_no_answer(
    face: Face, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning, and on."""
    (project / ".claude/agent_memory.db").write_bytes(b"none of ours" * 1000)
    with Simulator(answer) as simulator, face(api_key="k", base_url=simulator.base_url) as subject:
        for task in ("one", "two"):
            assert subject.execute_agent("reviewer", task, use_memory=True) == f"Done: {task}"
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "nothing is remembered: the memory of sessions cannot be used" in warning.getMessage()


def test_a_batch_recalls_nothing() -> None:
    """And says so, instead of passing over what was asked for."""
    asked = [AgentTask("reviewer", "x", {"use_memory": True})]
    with AgentOrchestrator(offline=True) as subject, pytest.raises(TaskError, match="a batch recalls nothing"):
        subject.execute_batch(asked)


@pytest.fixture
def memory(tmp_path: Path) -> AgentMemory:
    """Some sessions of one agent."""
    kept = AgentMemory(tmp_path / "m.db", secret=SECRET)
    for number in range(9):
        kept.store_session("a", f"Review the retry loop, part {number}", "word " * 200, success=True)
    return kept


def recalled(memory: AgentMemory, *, is_claude: bool = True, key: str = "none", **bounds: Any) -> list[str]:
    """The texts that are put beside a task."""
    found = Recollection(memory, Bounds(**bounds), is_claude=is_claude).recall(
        "Review the retry loop", agent="a", key=key
    )
    return [material.text for material in found]


def test_the_bounds_hold(memory: AgentMemory) -> None:
    """So many sessions, and so many tokens of them; the last one is cut and says so."""
    assert [len(recalled(memory, max_sessions=n)) for n in (1, 3)] == [1, 3]
    cut = recalled(memory, max_tokens=500)
    assert sum(map(len, cut)) <= 1_500
    assert len(cut) == 2
    assert cut[-1].endswith("\n[the rest is left out]")


def test_what_a_simulator_said_is_not_put_before_claude(memory: AgentMemory) -> None:
    """Only before servers that are none."""
    memory.store_session("a", "Review the retry loop", "simulated", success=True, metadata={"simulated": True})
    assert not any("simulated" in text for text in recalled(memory))
    assert any("simulated" in text for text in recalled(memory, is_claude=False))


def test_what_was_kept_under_its_own_key_is_left_out(memory: AgentMemory) -> None:
    """Or the same call would be another one the second time."""
    memory.store_session("a", "Review the retry loop", "mine", success=True, metadata={"key": "k"})
    assert any("mine" in text for text in recalled(memory))
    assert not any("mine" in text for text in recalled(memory, key="k"))
