"""The plan of a workflow: its steps as a graph. What comes before what, and which way is the longest. Pure."""

import graphlib
import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from claude_force.workflows.definition import Workflow, WorkflowStep


@dataclass(frozen=True)
class Plan:
    """A workflow without faults, under the name by which it was asked for."""

    workflow: Workflow
    name: str

    @cached_property
    def steps(self) -> dict[str, WorkflowStep]:
        """By id, in the order of the file."""
        return {step.id: step for step in self.workflow.steps}

    @cached_property
    def dependents(self) -> dict[str, list[str]]:
        """The steps that depend on each step."""
        found: dict[str, list[str]] = {step: [] for step in self.steps}
        for step in self.steps.values():
            for dependency in step.dependencies:
                found[dependency].append(step.id)
        return found

    @cached_property
    def order(self) -> list[str]:
        """Each step after all that it depends on; of those that are free, the first in the file comes first."""
        place = {step: number for number, step in enumerate(self.steps)}
        left = {step.id: len(step.dependencies) for step in self.steps.values()}
        free = [place[step] for step, count in left.items() if count == 0]
        names, order = list(self.steps), []
        while free:
            order.append(step := names[heapq.heappop(free)])
            for dependent in self.dependents[step]:
                left[dependent] -= 1
                if left[dependent] == 0:
                    heapq.heappush(free, place[dependent])
        return order

    def remaining(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """For each step the longest way from its start to the end; a step whose time is not known takes one second."""
        longest: dict[str, float] = {}
        for step in reversed(self.order):
            after = max((longest[dependent] for dependent in self.dependents[step]), default=0.0)
            longest[step] = after + seconds.get(step, 1.0)
        return longest

    def critical_path(self, seconds: Mapping[str, float]) -> list[str]:
        """The longest way through the graph: no run is faster."""
        longest = self.remaining(seconds)
        starts: Iterable[str] = (step.id for step in self.steps.values() if not step.dependencies)
        path: list[str] = []
        while found := max(starts, key=longest.__getitem__, default=None):
            path.append(found)
            starts = self.dependents[found]
        return path


def cycles(steps: Iterable[WorkflowStep]) -> list[list[str]]:
    """The circles of dependencies, each from a step back to it; of those that share steps, one."""
    graph = {step.id: step.dependencies for step in steps}
    found = []
    while True:
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            cycle: list[str] = error.args[1]
            first = cycle.index(min(cycle, key=list(graph).index))  # as the file has it, whatever graphlib began with
            found.append([*cycle[first:-1], *cycle[:first], cycle[first]])
            graph = {step: needed for step, needed in graph.items() if step not in cycle}
        else:
            return found
