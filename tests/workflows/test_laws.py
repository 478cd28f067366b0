"""Laws of workflows, over random graphs: what comes before what, what becomes of whom, and what a run may say of it."""

import asyncio
import graphlib
import hashlib
import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_force import AgentOrchestrator, AsyncAgentOrchestrator, RunEvent, WorkflowResult
from claude_force.testing import ApiFault, SeenRequest, Simulator
from claude_force.workflows.definition import AtLeast, Workflow, WorkflowStep
from claude_force.workflows.plan import Plan, cycles
from claude_force.workflows.schedule import Schedule, Standing

Graph = dict[str, list[str]]

# ---------------------------------------------------------------- strategies


@st.composite
def graphs(draw: st.DrawFn, max_steps: int = 9) -> Graph:
    """Steps in any order of the file, each with what it depends on; without circles."""
    names = [f"s{number}" for number in range(draw(st.integers(1, max_steps)))]
    needed = {
        name: draw(st.lists(st.sampled_from(names[:number]), unique=True, max_size=4)) if number else []
        for number, name in enumerate(names)
    }
    return {name: needed[name] for name in draw(st.permutations(names))}


def joins(draw: st.DrawFn, needed: list[str]) -> Any:
    """Any that can be met."""
    if not needed:
        return "all"
    at_least = st.builds(AtLeast, at_least=st.integers(1, len(needed)))
    return draw(st.one_of(st.just("all"), st.just("any"), at_least))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """With random joins."""
    steps = [
        WorkflowStep(name, "reviewer", "x", needed, join=joins(draw, needed)) for name, needed in draw(graphs()).items()
    ]
    return Plan(Workflow(steps=steps), "w")


# ---------------------------------------------------------------- plan


@given(graphs(max_steps=20))
def test_the_order_is_topological(graph: Graph) -> None:
    """Each step once, after all that it depends on, and nearest to the file."""
    plan = Plan(Workflow(steps=[WorkflowStep(name, "a", "t", needed) for name, needed in graph.items()]), "w")
    place = {name: number for number, name in enumerate(plan.order)}
    assert sorted(plan.order) == sorted(graph)
    assert all(place[dependency] < place[name] for name, needed in graph.items() for dependency in needed)
    for number, name in enumerate(plan.order):
        done = set(plan.order[:number])
        assert name == next(other for other in graph if other not in done and done.issuperset(graph[other]))


@given(graphs(max_steps=12), st.randoms(use_true_random=False))
def test_the_critical_path_is_the_longest(graph: Graph, dice: Any) -> None:
    """No other way through the graph takes more seconds."""
    plan = Plan(Workflow(steps=[WorkflowStep(name, "a", "t", needed) for name, needed in graph.items()]), "w")
    seconds = {name: float(dice.randint(0, 5)) for name in graph}

    def longest(name: str) -> float:
        return seconds[name] + max((longest(other) for other in plan.dependents[name]), default=0.0)

    path = plan.critical_path(seconds)
    assert sum(seconds[name] for name in path) == max(longest(name) for name in graph)
    assert all(before in graph[after] for before, after in itertools.pairwise(path))
    assert plan.remaining(seconds) == {name: longest(name) for name in graph}


@given(st.integers(1, 8).flatmap(lambda n: st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)))))
def test_circles_are_found_and_written_out(edges: list[tuple[int, int]]) -> None:
    """Each is a way along dependencies, from its first in the file; no step is in two; without them none is left."""
    graph: Graph = {str(number): [] for edge in edges for number in edge}
    for step, dependency in set(edges):
        graph[str(step)].append(str(dependency))
    found = cycles(WorkflowStep(name, "a", "t", needed) for name, needed in graph.items())
    for cycle in found:
        assert cycle[0] == cycle[-1] == next(name for name in graph if name in cycle)
        assert all(before in graph[after] for before, after in itertools.pairwise(cycle))
        assert len(set(cycle)) == len(cycle) - 1
    in_circles = Counter(name for cycle in found for name in cycle[1:])
    assert set(in_circles.values()) <= {1}
    rest = {
        name: [d for d in needed if d not in in_circles] for name, needed in graph.items() if name not in in_circles
    }
    graphlib.TopologicalSorter(rest).prepare()
    assert bool(found) == _has_circle(graph)


def _has_circle(graph: Graph) -> bool:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError:
        return True
    return False


# ---------------------------------------------------------------- schedule


def fate(step: WorkflowStep, ended: dict[str, Standing]) -> str | Standing:
    """By brute force: `ready`, `waits`, or the standing of a skipped step, from how its dependencies ended."""
    how = Counter(ended.get(dependency) for dependency in step.dependencies)
    unknown = how[None]
    if step.join == "all":
        if how[Standing.MISSING]:
            return Standing.MISSING
        if unknown:
            return "waits"
        all_passed = step.dependencies and how[Standing.PASSED] == len(step.dependencies)
        return Standing.PASSED if all_passed else "ready"
    needed = 1 if step.join == "any" else step.join.at_least
    if how[Standing.GIVEN] >= needed:
        return "ready"
    if how[Standing.GIVEN] + unknown >= needed:
        return "waits"
    return Standing.MISSING if how[Standing.MISSING] or how[Standing.TOLD] else Standing.PASSED


@given(plans(), st.data())
def test_the_schedule_is_the_brute_force_one(plan: Plan, data: st.DataObject) -> None:
    """At every moment, whatever ends in whichever order: ready is who may start, skipped who never will, once each."""
    schedule = Schedule(plan, {})
    ended: dict[str, Standing] = {}
    taken: set[str] = set()
    under_way: list[str] = []
    while True:
        while step := schedule.take():
            assert fate(step, ended) == "ready"
            assert step.id not in taken
            taken.add(step.id)
            under_way.append(step.id)
        if not under_way:
            break
        name = data.draw(st.sampled_from(under_way))
        under_way.remove(name)
        ended[name] = data.draw(st.sampled_from(Standing))
        for skip in schedule.settle(name, ended[name]):
            assert skip.step.id not in ended
            assert skip.step.id not in taken
            ended[skip.step.id] = skip.standing
        for other in plan.steps.values():  # nobody is forgotten
            if other.id not in ended and other.id not in taken:
                assert fate(other, ended) in {"waits", "ready"}
        assert {other.id for other in schedule.waiting} == set(plan.steps) - set(ended) - taken
    assert set(ended) == set(plan.steps)


# ---------------------------------------------------------------- runs


@st.composite
def workflows(draw: st.DrawFn, *, only_all: bool = False) -> tuple[dict[str, Any], frozenset[str]]:
    """A workflow, and the steps that fail."""
    steps = []
    graph = draw(graphs(max_steps=7))
    for name, needed in graph.items():
        policies = ["skip", "continue"] if only_all else ["fail", "skip", "continue"]
        step: dict[str, Any] = {"id": name, "agent": "reviewer", "task": f"Do {name}.", "dependencies": needed}
        step |= {"retries": 0, "on_failure": draw(st.sampled_from(policies))}
        if not only_all and needed:
            step["join"] = draw(st.sampled_from(["all", "any", {"at_least": len(needed)}]))
        if draw(st.booleans()):
            wanted = draw(st.sampled_from(["yes", "no"]))
            step["when"] = {"input": "sure", "equals": wanted}
        if draw(st.integers(0, 4)) == 0:
            step |= {"for_each": "{{ inputs.items }}", "task": f"Do {name}. {{{{ item }}}}"}
        steps.append(step)
    failing = draw(st.frozensets(st.sampled_from(sorted(graph)), max_size=3))
    inputs = {"sure": {"default": "yes"}, "items": {"type": "list", "default": draw(st.sampled_from([[], ["p", "q"]]))}}
    return {"name": "w", "inputs": inputs, "steps": steps}, failing


class Bad:
    """Says what the simulator answers: 400 to steps that fail, else a digest of the question."""

    def __init__(self) -> None:
        self.failing: frozenset[str] = frozenset()

    def __call__(self, request: SeenRequest) -> Any:
        task = request.prompt.rpartition("Do ")[2]
        if task.partition(".")[0] in self.failing:
            return ApiFault(400, message="broken")
        return hashlib.sha256(request.prompt.encode()).hexdigest()[:6]


def check(workflow: dict[str, Any], result: WorkflowResult, events: list[RunEvent]) -> None:
    """What holds of every run."""
    steps = {step["id"]: step for step in workflow["steps"]}
    assert list(result.steps) == list(steps)
    ended = [event.step for event in events if event.kind == "ended" and event.step and event.step in steps]
    assert sorted(ended) == sorted(steps), "a step ended twice, or not at all"
    position = {event.step: number for number, event in enumerate(events) if event.kind == "ended"}
    for number, event in enumerate(events):
        if event.kind != "started" or event.step is None:
            continue
        step = steps[event.step.partition("[")[0]]
        before = [name for name in step["dependencies"] if position.get(name, number) < number]
        answered = [name for name in before if result.steps[name].has_answer]
        if step.get("join", "all") == "all":
            assert len(before) == len(step["dependencies"]), "it did not wait"
        else:
            assert len(answered) >= (1 if step["join"] == "any" else step["join"]["at_least"])
    statuses = {name: one.status for name, one in result.steps.items()}
    had_to = [name for name in steps if statuses[name] in {"failed", "cancelled", "not_run"}]
    left = [name for name in had_to if statuses[name] != "failed" or steps[name]["on_failure"] == "fail"]
    assert (result.status == "completed") == (not left)
    assert set(result.results) == {name for name in steps if statuses[name] in {"done", "cached"}}
    assert set(result.execution_order) == set(result.results)


@pytest.fixture(scope="module")
def bad() -> Bad:
    """What the one simulator of all examples is told."""
    return Bad()


@pytest.fixture(scope="module")
def simulator(bad: Bad) -> Any:
    """One for all examples."""
    with Simulator(answer=bad, max_recorded=0) as running:
        yield running


quick = settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


def both(simulator: Simulator, workflow: dict[str, Any]) -> list[WorkflowResult]:
    """The workflow through both faces, without a cache; each checked."""
    results = []
    with AgentOrchestrator(api_key="k", base_url=simulator.base_url, enable_cache=False) as subject:
        events: list[RunEvent] = []
        results.append(subject.execute_workflow(workflow, on_error="return", on_event=events.append))
        check(workflow, results[-1], events)

    async def main() -> None:
        async with AsyncAgentOrchestrator(
            api_key="k", base_url=simulator.base_url, enable_cache=False, max_concurrent=4
        ) as subject:
            events: list[RunEvent] = []
            results.append(await subject.execute_workflow(workflow, on_error="return", on_event=events.append))
            check(workflow, results[-1], events)

    asyncio.run(main())
    return results


@quick
@given(workflows())
def test_every_run_keeps_the_laws(simulator: Simulator, bad: Bad, case: tuple[dict[str, Any], frozenset[str]]) -> None:
    """Random joins, policies, conditions, lists and failures, in both faces."""
    workflow, bad.failing = case
    both(simulator, workflow)


@quick
@given(workflows(only_all=True))
def test_sequential_and_parallel_give_the_same(
    simulator: Simulator, bad: Bad, case: tuple[dict[str, Any], frozenset[str]]
) -> None:
    """Statuses and texts, where joins are `all` and no failure ends the run."""
    workflow, bad.failing = case
    one, other = both(simulator, workflow)
    assert {name: (step.status, step.text) for name, step in one.steps.items()} == {
        name: (step.status, step.text) for name, step in other.steps.items()
    }
