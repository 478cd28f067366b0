"""Who does the steps of a run: one after the other (`Alone`), or many at once (`async_orchestrator`)."""

from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from claude_force.engine.faces import Blocking, run_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.base.records import AgentResult
    from claude_force.engine.outside import Outside
    from claude_force.workflows.unit import Unit

    MakeTurn = Callable[[], Coroutine[Any, Any, AgentResult]]


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

    async def turn(self, make: "MakeTurn") -> "AgentResult":
        """One turn, in one of the places that there are; it is made when there is one."""

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

    async def turn(self, make: "MakeTurn") -> "AgentResult":
        """See `Crew.turn`."""
        return await make()

    async def cancel(self) -> None:
        """See `Crew.cancel`."""
        while self._work:
            self._work.popleft().close()
