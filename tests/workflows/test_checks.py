"""Every fault of a workflow at once, before anything is sent."""

from typing import Any

import pytest

from claude_force import AgentOrchestrator, InputError, WorkflowDAG, WorkflowError
from claude_force.testing import Simulator
from claude_force.workflows.checks import problems_of
from claude_force.workflows.definition import read_workflow


def step(name: str, *dependencies: str, **more: Any) -> dict[str, Any]:
    """A step."""
    return {"id": name, "agent": "reviewer", "task": "t", "dependencies": list(dependencies), **more}


INPUTS = {"text": {}, "files": {"type": "list"}}
FAULTS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "a circle": ([step("a", "c"), step("b", "a"), step("c", "b")], "steps: a -> b -> c -> a is a circle"),
    "a circle of one": ([step("a", "a")], "steps: a -> a is a circle"),
    "no such dependency": ([step("lint"), step("b", "lnt")], "there is no step 'lnt'; did you mean 'lint'"),
    "the same twice": ([step("a"), step("a")], "steps.a: 2 steps have this id"),
    "no such input": ([step("a", task="{{ inputs.tex }}")], "there is no input 'tex'"),
    "a step not depended on": ([step("a"), step("b", task="{{ steps.a.output }}")], "not among the dependencies"),
    "no placeholder": ([step("a", task="{{ 1 + 1 }}")], "{{ 1 + 1 }} is no placeholder"),
    "no item": ([step("a", task="{{ item }}")], "{{ item }} needs `for_each`"),
    "it can never start": ([step("a"), step("b", "a", join={"at_least": 2})], "it can never start"),
    "nothing to join": ([step("a", join="any")], "it has no dependencies to wait for"),
    "no list": ([step("a", for_each="{{ inputs.text }}")], "input 'text' is no list"),
    "words around it": ([step("a", for_each="all {{ inputs.files }}")], "give one placeholder for a list"),
    "it cannot fail": ([step("a"), step("b", "a", when={"step": "a", "status": "failed"})], "it can never hold"),
    "no condition": ([step("a", when={"input": "text"})], "give what must hold"),
    "no other": ([step("a", fallback={})], "give another agent or model"),
}


@pytest.mark.parametrize(("steps", "fault"), FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_is_told(steps: list[dict[str, Any]], fault: str) -> None:
    """Once, with the way out."""
    workflow, problems = read_workflow({"inputs": INPUTS, "steps": steps})
    assert problems == []
    (problem,) = problems_of(workflow)
    assert fault in problem


def test_all_at_once_and_nothing_is_sent() -> None:
    """Missing agents with the nearest name, missing inputs, unknown inputs and steps to force: one error."""
    steps = [step("a", agent="reviwer"), step("b", "x"), step("c", task="{{ inputs.need }}")]
    workflow = {"inputs": {"need": {"required": True}}, "steps": steps}
    with Simulator() as simulator, AgentOrchestrator(api_key="k", base_url=simulator.base_url) as subject:
        with pytest.raises(WorkflowError) as caught:
            subject.execute_workflow(workflow, {"nead": "1"}, force=["d"])
        assert not simulator.stats.calls
    assert len(caught.value.problems) == 5
    for words in ("reviewer", "there is no step 'x'", "inputs.need: nothing gives it", "inputs.nead", "force:"):
        assert words in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert caught.value.exit_code == 2


def test_what_is_no_json_is_a_fault() -> None:
    """A dict from Python may hold anything."""
    with AgentOrchestrator(api_key="k") as subject, pytest.raises(WorkflowError, match="cannot be written as JSON"):
        subject.execute_workflow({"steps": [step("a", schema={"x": object()}, output="json")]})


def test_build_dag_gives_the_steps() -> None:
    """By id, and says which may start."""
    with AgentOrchestrator(api_key="k") as subject:
        dag = WorkflowDAG(subject)
        steps = dag.build_dag({"steps": [step("a"), step("b", "a")]})
        assert [one.id for one in dag.get_ready_steps(steps)] == ["a"]
        steps["a"].completed = True
        assert [one.id for one in dag.get_ready_steps(steps)] == ["b"]
        with pytest.raises(InputError, match="there is no workflow 'nope'"):
            dag.build_dag("nope")
