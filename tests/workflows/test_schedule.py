"""Which step is next; that it is right in every graph is in `test_laws`."""

import pytest

from claude_force.workflows.definition import AtLeast, Workflow, WorkflowStep
from claude_force.workflows.plan import Plan
from claude_force.workflows.schedule import Schedule, Standing


def test_the_longest_way_comes_first_and_of_equals_the_file() -> None:
    """Without times, a step is as long as any."""
    steps = [WorkflowStep(*row) for row in (("x", "a", "t"), ("y", "a", "t"), ("c", "a", "t"), ("d", "a", "t", ["c"]))]
    plan = Plan(Workflow(steps=steps), "w")
    schedule = Schedule(plan, plan.remaining({}))
    assert [step.id for step in iter(schedule.take, None)] == ["c", "x", "y"]
    in_order = Schedule(plan, {})
    assert [step.id for step in iter(in_order.take, None)] == ["x", "y", "c"]


FEW = "it needs 1 of 1 answers, and there can be no more than 0"
REASONS = [
    ("all", Standing.MISSING, Standing.MISSING, "it needs 'a', which has no answer"),
    ("any", Standing.MISSING, Standing.MISSING, FEW),
    ("any", Standing.TOLD, Standing.MISSING, FEW),
    ("any", Standing.PASSED, Standing.PASSED, FEW),
    ("all", Standing.PASSED, Standing.PASSED, "none of the steps that it depends on was done"),
]


@pytest.mark.parametrize(("join", "standing", "becomes", "reason"), REASONS)
def test_who_is_skipped_is_told_why(join: str, standing: Standing, becomes: Standing, reason: str) -> None:
    """And so are those behind it, for which it is as if it had failed, or had not been wanted either."""
    steps = [
        WorkflowStep("a", "a", "t"),
        WorkflowStep("b", "a", "t", ["a"], join="any" if join == "any" else "all"),
        WorkflowStep("c", "a", "t", ["b"]),
    ]
    schedule = Schedule(Plan(Workflow(steps=steps), "w"), {})
    schedule.take()
    skips = schedule.settle("a", standing)
    assert [(skip.step.id, skip.standing) for skip in skips] == [("b", becomes), ("c", becomes)]
    assert skips[0].reason == reason
    assert schedule.waiting == []


def test_who_can_still_start_waits() -> None:
    """A failure that is told counts for `all`; two of three may still come while one is under way."""
    steps = [
        *(WorkflowStep(name, "a", "t") for name in "abc"),
        WorkflowStep("all", "a", "t", ["a", "b"]),
        WorkflowStep("two", "a", "t", ["a", "b", "c"], join=AtLeast(at_least=2)),
    ]
    schedule = Schedule(Plan(Workflow(steps=steps), "w"), {})
    assert [step.id for step in iter(schedule.take, None)] == ["a", "b", "c"]
    assert schedule.settle("a", Standing.GIVEN) == schedule.settle("b", Standing.TOLD) == []
    assert [step.id for step in iter(schedule.take, None)] == ["all"]
    assert schedule.settle("c", Standing.GIVEN) == []
    assert [step.id for step in iter(schedule.take, None)] == ["two"]
