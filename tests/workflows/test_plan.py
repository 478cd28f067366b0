"""A workflow as a graph; its laws are in `test_laws`."""

from claude_force.workflows.definition import Workflow, WorkflowStep
from claude_force.workflows.plan import Plan, cycles


def plan(**needed: str) -> Plan:
    """Steps with one letter each, and the letters that each depends on."""
    return Plan(Workflow(steps=[WorkflowStep(name, "a", "t", list(found)) for name, found in needed.items()]), "w")


def test_of_equals_the_first_in_the_file_comes_first() -> None:
    """So that a reader finds the order that they wrote."""
    assert plan(d="", b="c", c="", a="d").order == ["d", "c", "b", "a"]


def test_the_longest_way_goes_by_seconds() -> None:
    """A step whose time is not known takes one."""
    graph = plan(a="", b="a", c="", d="bc")
    assert graph.critical_path({}) == ["a", "b", "d"]
    assert graph.critical_path({"c": 2.5}) == ["c", "d"]


def test_a_graph_of_ten_thousand_steps_is_no_trouble() -> None:
    """As deep as it is long: nothing here calls itself."""
    steps = [WorkflowStep(f"s{n}", "a", "t", [f"s{n - 1}"] if n else []) for n in range(10_000)]
    graph = Plan(Workflow(steps=steps), "w")
    assert graph.order == list(graph.steps)
    assert len(graph.critical_path({})) == 10_000
    assert cycles(steps) == []
    steps[0].dependencies.append("s9999")
    (cycle,) = cycles(steps)
    assert (cycle[0], cycle[-1], len(cycle)) == ("s0", "s0", 10_001)
