"""A workflow as people write it: what each key takes, and what inputs become."""

from typing import Any

import pytest

from claude_force.workflows.definition import AtLeast, given_inputs, read_workflow, wrong_default


def test_all_keys_are_read() -> None:
    """Into steps that know what they need."""
    raw = {
        "$schema": "x",
        "steps": [
            {"agent": "a", "task": "t"},
            {"id": "b", "agent": "a", "task": "t", "dependencies": ["a"], "join": {"at_least": 1}, "cache": "refresh"},
        ],
    }
    workflow, problems = read_workflow(raw)
    assert problems == []
    assert [step.id for step in workflow.steps] == ["a", "b"]
    assert workflow.steps[1].join == AtLeast(at_least=1)


WRONG: dict[str, dict[str, Any]] = {
    "an unknown key": {"agent": "a", "task": "t", "depends": []},
    "a result": {"agent": "a", "task": "t", "result": "x"},
    "an id with a dot": {"id": "a.b", "agent": "a", "task": "t"},
    "an id of two lines": {"id": "a\n", "agent": "a", "task": "t"},
    "no task": {"agent": "a"},
    "no such policy": {"agent": "a", "task": "t", "on_failure": "explode"},
    "no time": {"agent": "a", "task": "t", "timeout_seconds": 0},
    "none of none": {"agent": "a", "task": "t", "join": {"at_least": 0}},
}


@pytest.mark.parametrize("step", WRONG.values(), ids=WRONG.keys())
def test_faults_are_told_with_their_place(step: dict[str, Any]) -> None:
    """Each once, and those of other steps as well."""
    _, problems = read_workflow({"steps": [step, {"agent": "b", "task": 3}]})
    assert len(problems) == 2
    assert all("steps" in problem for problem in problems)


VALUES: list[tuple[str, Any, Any]] = [
    ("string", "x", "x"),
    ("integer", "3", 3),
    ("number", "0.5", 0.5),
    ("boolean", "true", True),
    ("list", "a\n\nb", ["a", "b"]),
    ("list", '["a", 1]', ["a", 1]),
    ("object", '{"a": {"b": "ü"}}', {"a": {"b": "ü"}}),
]


@pytest.mark.parametrize(("kind", "given", "value"), VALUES, ids=str)
def test_what_is_typed_in_is_read_as_its_type(kind: str, given: Any, value: Any) -> None:
    """On the shell everything is text."""
    workflow, _ = read_workflow({"inputs": {"x": {"type": kind}}, "steps": []})
    assert given_inputs(workflow, {"x": given}) == ({"x": value}, [])


DEEP = "[" * 20_000 + "]" * 20_000
BAD = [
    ("list", DEEP),
    ("integer", "x"),
    ("integer", 1.5),
    ("boolean", "maybe"),
    ("string", 3),
    ("object", "[]"),
    ("list", {"a": 1}),
]


@pytest.mark.parametrize(("kind", "given"), [*BAD, ("string", "\ud800"), ("list", [print])], ids=repr)
def test_what_is_something_else_is_a_fault(kind: str, given: Any) -> None:
    """Of ours, and not of whoever writes it down."""
    workflow, _ = read_workflow({"inputs": {"x": {"type": kind}}, "steps": []})
    (problem,) = given_inputs(workflow, {"x": given})[1]
    assert problem.startswith("inputs.x: ")


def test_what_is_not_given() -> None:
    """A default, nothing of its type, or a fault where it is required."""
    inputs = {"d": {"default": "x"}, "s": {}, "l": {"type": "list"}, "r": {"required": True, "description": "why"}}
    workflow, _ = read_workflow({"inputs": inputs, "steps": []})
    assert given_inputs(workflow, {}) == ({"d": "x", "s": "", "l": []}, ["inputs.r: nothing gives it (why)"])


@pytest.mark.parametrize(("kind", "default"), BAD[1:4], ids=repr)
def test_a_default_of_the_wrong_type(kind: str, default: Any) -> None:
    """Is a fault before any run."""
    workflow, _ = read_workflow({"inputs": {"x": {"type": kind, "default": default}}, "steps": []})
    assert wrong_default(workflow.inputs["x"])
