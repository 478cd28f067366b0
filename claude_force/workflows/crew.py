"""Who does the steps of a run: one after the other (`Alone`), or many at once (`async_orchestrator`)."""

from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from claude_force.engine.faces import Blocking, run_now
from claude_force.engine.turn import run_turn

if TYPE_CHECKING:
    from claude_force.base.records import AgentResult
    from claude_force.engine.outside import Outside
    from claude_force.engine.parts import Parts, Watch
    from claude_force.engine.request import Task
    from claude_force.workflows.unit import Unit


class Crew(Protocol):
    """Who does the steps of a run."""

    @property
    def size(self) -> int:
        """How many at once."""

    @property
    def outside(self) -> "Outside":
        """The world, as its turns see it."""

    def start(self, work: Coroutine[Any, Any, "Unit"]) -> None:
        """Do this, now or when `ended` is asked."""

    async def ended(self) -> "Unit":
        """The next that has ended; raises what it raised."""

    async def turn(self, parts: "Parts", task: "Task", watch: "Watch") -> "AgentResult":
        """One turn, in one of the places that there are."""

    async def cancel(self) -> None:
        """End all that was started, and wait until it has ended."""


class Alone:
    """One step after the other, in the thread that asks. Implements `Crew`."""

    size = 1

    def __init__(self, outside: Blocking) -> None:
        self.outside = outside
        self._work: deque[Coroutine[Any, Any, Unit]] = deque()

    def start(self, work: Coroutine[Any, Any, "Unit"]) -> None:
        """See `Crew.start`."""
        self._work.append(work)

    async def ended(self) -> "Unit":
        """See `Crew.ended`."""
        return run_now(self._work.popleft())

    async def turn(self, parts: "Parts", task: "Task", watch: "Watch") -> "AgentResult":
        """See `Crew.turn`."""
        return await run_turn(self.outside, parts, task, watch)

    async def cancel(self) -> None:
        """See `Crew.cancel`."""
        while self._work:
            self._work.popleft().close()
