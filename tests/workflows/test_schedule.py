"""Which step is next; that it is right in every graph is in `test_laws`."""

import pytest

from claude_force.workflows.definition import Workflow, WorkflowStep
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


REASONS = [
    ("all", Standing.MISSING, "it needs 'a', which has no answer"),
    ("any", Standing.MISSING, "it needs 1 of 1 answers, and there can be no more than 0"),
    ("all", Standing.PASSED, "none of the steps that it depends on was done"),
]


@pytest.mark.parametrize(("join", "standing", "reason"), REASONS)
def test_who_is_skipped_is_told_why(join: str, standing: Standing, reason: str) -> None:
    """And so are those behind it."""
    steps = [
        WorkflowStep("a", "a", "t"),
        WorkflowStep("b", "a", "t", ["a"], join="any" if join == "any" else "all"),
        WorkflowStep("c", "a", "t", ["b"]),
    ]
    schedule = Schedule(Plan(Workflow(steps=steps), "w"), {})
    schedule.take()
    skips = schedule.settle("a", standing)
    assert [skip.step.id for skip in skips] == ["b", "c"]
    assert skips[0].reason == reason
    assert schedule.waiting == []
