"""Who does the steps of a run: one after the other (`Alone`), or many at once (`async_orchestrator`).

And whose hands make their turns, where that is somebody else: `Hands` (`workers.handing`).
"""

from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from claude_force.engine.faces import Blocking, run_now

if TYPE_CHECKING:
    from claude_force.base.errors import ClaudeForceError
    from claude_force.base.records import AgentResult, Execution
    from claude_force.engine.outside import Outside
    from claude_force.engine.parts import Parts, Watch
    from claude_force.engine.request import Prepared, Task
    from claude_force.workflows.journal import RunCache
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Handing:
    """What a run says of a turn that it hands over."""

    cache: "RunCache"
    is_resumed: bool
    """Whether the run was taken up, so that the turn may have been handed over before."""
    is_forced: bool
    """Whether what came of that will not do."""
    left_s: float | None
    """How much time the run has; `None` is no bound."""
    is_over: Callable[[], bool]
    """Whether nothing more may start."""
    unsent: "Callable[[], ClaudeForceError]"
    """What is then raised."""
    see: "Callable[[Execution], object]"
    """Hears what was used and paid, once it is known."""


class Hands(Protocol):
    """Who makes the turns of a run elsewhere."""

    async def begin(self, outside: "Outside") -> None:
        """To be called before the first turn. Raises the `ClaudeForceError` family where no turn can be made."""

    async def turn(
        self,
        outside: "Outside",
        parts: "Parts",
        task: "Task",
        prepared: "Prepared",
        watch: "Watch",
        *,
        handing: Handing,
    ) -> "AgentResult":
        """As `engine.turn.run_prepared`."""

    async def end(self, outside: "Outside", run_id: str, *, is_complete: bool, drains: bool) -> None:
        """The run is over; `drains` says whether what still runs in this process may come to its end."""


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
