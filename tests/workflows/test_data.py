"""What a step is told: values in their place, fenced where they are long, and what is missing."""

import json
from functools import partial
from typing import Any

import pytest

from claude_force import StepResult, WorkflowError
from claude_force.base.config import Limits
from claude_force.engine.untrusted import NOTICE
from claude_force.workflows import data
from claude_force.workflows.data import MAX_OUTPUT_CHARS, holds, list_of
from claude_force.workflows.definition import When, WorkflowStep
from claude_force.workflows.template import placeholders

told = partial(data.told, limits=Limits())


def step(task: str, *dependencies: str) -> WorkflowStep:
    """A step with this task."""
    return WorkflowStep("me", "reviewer", task, list(dependencies))


def done(name: str, text: str) -> StepResult:
    """A step with this answer."""
    return StepResult(id=name, agent="reviewer", status="done", text=text)


def failed(name: str) -> StepResult:
    """A step without one."""
    return StepResult(id=name, agent="reviewer", status="failed", reason="Broken: it broke")


def test_one_line_stands_as_it_is() -> None:
    """And is scanned all the same."""
    made = told(step("Fix {{ inputs.x }} ü."), {"x": "ä{{ inputs.x }}"}, {})
    assert made.text == "Fix ä{{ inputs.x }} ü."
    assert [material.text for material in made.inserted] == ["ä{{ inputs.x }}"]


def test_several_lines_are_fenced_in_their_place() -> None:
    """With the notice before them."""
    made = told(step("Fix {{ steps.a.output }} now.", "a"), {}, {"a": done("a", "one\ntwo")})
    assert made.text.startswith(f"{NOTICE}\n\nFix \n<material-")
    assert ">\none\ntwo\n</material-" in made.text
    assert made.text.endswith("\n now.")
    assert made.materials == ()


def test_a_task_that_is_one_input_is_that_input() -> None:
    """The user's own instruction, word for word."""
    made = told(step(" {{ inputs.task }}\n"), {"task": "Do\nthis."}, {})
    assert (made.text, made.inserted) == (" Do\nthis.\n", [])


def test_paths_lead_into_answers() -> None:
    """Text as it is, all else as JSON."""
    results = {"a": done("a", '{"title": "T", "list": [1, {"x": null}]}')}
    made = told(step("{{ steps.a.output.title }}: {{ steps.a.output.list }} {{ steps.a.status }}", "a"), {}, results)
    assert made.text == 'T: [1,{"x":null}] done'


@pytest.mark.parametrize("text", ["no JSON", "{}", "", "[" * 100_000], ids=["prose", "object", "empty", "deep"])
def test_a_path_into_something_else_is_an_error(text: str) -> None:
    """Before anything is sent."""
    with pytest.raises(WorkflowError):
        told(step("{{ steps.a.output.title }}", "a"), {}, {"a": done("a", text)})


def test_what_is_too_long_loses_its_middle_and_says_so() -> None:
    """Head and tail stay, the text says how much is left out, and so does a note."""
    text = "H" * 50_000 + "M" * 20_000 + "T" * 30_000
    made = told(step("Sum up.", "a"), {}, {"a": done("a", text)})
    (block,) = made.materials
    assert len(block.text) < MAX_OUTPUT_CHARS + 100
    assert "[... 40,000 characters left out here ...]" in block.text
    assert block.text.startswith("H" * 40_000)
    assert block.text.endswith("T" * 20_000)
    assert made.notes == ["'a' is 100,000 characters long; 40,000 of them are left out"]


def test_what_the_user_gave_is_left_whole() -> None:
    """They are told by the task's own limit."""
    assert "x" * 90_000 in told(step("See: {{ inputs.x }}"), {"x": "x" * 90_000}, {}).text


def test_a_long_item_of_the_users_list_is_left_whole() -> None:
    """It is theirs as an input is; one that a step made is cut."""
    one = WorkflowStep("me", "reviewer", "See: {{ item }}", for_each="{{ inputs.x }}")
    assert "x" * 90_000 in told(one, {"x": []}, {}, item="x" * 90_000).text
    made = WorkflowStep("me", "reviewer", "See: {{ item }}", ["a"], for_each="{{ steps.a.output }}")
    assert told(made, {}, {"a": done("a", "[]")}, item="x" * 90_000).notes != []


def test_answers_that_would_fill_the_task_stand_before_it() -> None:
    """Three hundred reviews are paid for by then: all of them are told, and the task says where they are."""
    reviews = [f"review {number}\n" + "r" * 2_000 for number in range(300)]
    made = told(step("Sum up:\n{{ steps.a.output }}", "a"), {}, {"a": done("a", json.dumps(reviews))}, lists=["a"])
    assert made.text == "Sum up:\n(the answer of 'a' is in a block above)"
    assert [material.text for material in made.materials] == reviews
    assert made.notes == []


def test_no_step_is_refused_for_the_answers_that_were_paid_for() -> None:
    """However many there are, together they take half of what material may hold, and the notes say what was cut."""
    limits = Limits(max_material_chars=100_000)
    reviews = ["r" * 10_000 for _ in range(50)]
    made = data.told(step("Sum up.", "a"), {}, {"a": done("a", json.dumps(reviews))}, limits=limits, lists=["a"])
    assert sum(len(material.text) for material in made.materials) < 60_000
    assert len(made.notes) == 50


def test_an_empty_list_is_no_gap() -> None:
    """There was nothing to do."""
    assert told(step("Sum up:{{ steps.a.output }}", "a"), {}, {"a": done("a", "[]")}, lists=["a"]).text == "Sum up:"


def test_who_sums_up_is_told_what_is_missing() -> None:
    """Named or not."""
    made = told(step("Sum up {{ steps.a.output }}.", "a", "b"), {}, {"a": failed("a"), "b": done("b", "fine")})
    assert made.text.startswith("Sum up (no answer from 'a': failed).\n\nThere is no answer from these steps")
    assert made.text.endswith("\n- a: failed (Broken: it broke)")
    assert [material.name for material in made.materials] == ["b"]


CONDITIONS: list[tuple[dict[str, Any], bool]] = [
    ({"step": "a", "status": "done"}, True),
    ({"step": "a", "status": "failed"}, False),
    ({"step": "b", "status": "failed"}, True),
    ({"step": "a", "equals": "yes"}, True),
    ({"step": "a", "contains": "ye", "lacks": "no"}, True),
    ({"step": "a", "lacks": "ye"}, False),
    ({"input": "n", "equals": 3}, True),
    ({"input": "n", "equals": "3"}, True),
    ({"input": "n", "equals": 4}, False),
    ({"input": "flag", "equals": True}, True),
    ({"input": "list", "contains": '"x"'}, True),
]


@pytest.mark.parametrize(("condition", "expected"), CONDITIONS, ids=str)
def test_conditions(condition: dict[str, Any], expected: bool) -> None:  # noqa: FBT001 - a row
    """All that is given must hold."""
    results = {"a": done("a", " yes\n"), "b": failed("b")}
    assert holds(When(**condition), {"n": 3, "flag": True, "list": ["x"]}, results) is expected


def test_a_list_of_nobody_is_told_as_such() -> None:
    """And not as broken JSON."""
    (place,) = placeholders("{{ steps.a.output }}")
    with pytest.raises(WorkflowError, match=r"there is no answer from 'a' \(failed\)"):
        list_of(place, {}, {"a": failed("a")})
