"""Which step is next. A step is ready the moment its own dependencies allow it; nobody waits for a round. Pure.

How a step ended decides what becomes of those that depend on it (`Standing`):

| standing | is | joined by `all` | joined by `any`, `at_least` |
|---|---|---|---|
| GIVEN | answered | counts | counts |
| TOLD | failed, with `on_failure: continue` | counts; the step is told | does not count; the step is told |
| PASSED | not done on purpose: its `when` did not hold | counts, unless it is so with all of them | does not count |
| MISSING | failed with `on_failure: skip`, or skipped because of such a one | the step is skipped | does not count |
"""

import enum
import heapq
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from claude_force.workflows.definition import WorkflowStep
from claude_force.workflows.plan import Plan


class Standing(enum.Enum):
    """What a step that has ended means for those that depend on it."""

    GIVEN = enum.auto()
    TOLD = enum.auto()
    PASSED = enum.auto()
    MISSING = enum.auto()


class Skip(NamedTuple):
    """A step that will not be done, because of those that it depends on."""

    step: WorkflowStep
    standing: Standing
    reason: str


class Schedule:
    """The steps of one run that wait, and those that are ready. `longest` has seconds to the end for each (`Plan`)."""

    def __init__(self, plan: Plan, longest: Mapping[str, float]) -> None:
        self._plan = plan
        self._longest = longest
        self._place = {step: number for number, step in enumerate(plan.steps)}
        self._standings: dict[str, dict[Standing, int]] = {step: {} for step in plan.steps}
        self._waiting = dict(plan.steps)
        self._ready: list[tuple[float, int, str]] = []
        for step in plan.steps.values():
            if not step.dependencies:
                self._make_ready(step.id)

    @property
    def waiting(self) -> list[WorkflowStep]:
        """Those that were not taken, and not skipped."""
        return [*self._waiting.values(), *(self._plan.steps[step] for *_, step in sorted(self._ready))]

    def take(self) -> WorkflowStep | None:
        """The ready step with the longest way to the end; of equals, the first in the file."""
        return self._plan.steps[heapq.heappop(self._ready)[2]] if self._ready else None

    def settle(self, step_id: str, standing: Standing) -> list[Skip]:
        """A step has ended. Gives the steps that are skipped because of it, themselves settled."""
        skips: list[Skip] = []
        ended = deque([(step_id, standing)])
        while ended:
            dependency, how = ended.popleft()
            for dependent in self._plan.dependents[dependency]:
                counts = self._standings[dependent]
                counts[how] = counts.get(how, 0) + 1
                if dependent in self._waiting and (skip := self._judged(self._waiting[dependent], dependency)):
                    skips.append(skip)
                    ended.append((dependent, skip.standing))
        return skips

    def _judged(self, step: WorkflowStep, dependency: str) -> Skip | None:
        """Make the step ready if it may start by now; or say that it never will."""
        counts = self._standings[step.id]
        given, told, missing = (counts.get(how, 0) for how in (Standing.GIVEN, Standing.TOLD, Standing.MISSING))
        still_open = len(step.dependencies) - sum(counts.values())
        if step.join == "all":
            if missing:
                return self._skipped(step, Standing.MISSING, f"it needs {dependency!r}, which has no answer")
            if still_open:
                return None
            if not given + told:
                return self._skipped(step, Standing.PASSED, "none of the steps that it depends on was done")
        elif given < step.needed:
            most = given + still_open
            if most >= step.needed:
                return None
            standing = Standing.MISSING if missing or told else Standing.PASSED
            wanted = f"{step.needed} of {len(step.dependencies)}"
            return self._skipped(step, standing, f"it needs {wanted} answers, and there can be no more than {most}")
        self._make_ready(step.id)
        return None

    def _skipped(self, step: WorkflowStep, standing: Standing, reason: str) -> Skip:
        del self._waiting[step.id]
        return Skip(step, standing, reason)

    def _make_ready(self, step_id: str) -> None:
        del self._waiting[step_id]
        heapq.heappush(self._ready, (-self._longest.get(step_id, 0.0), self._place[step_id], step_id))
