"""A run whose turns go to message batches, at half the price: `Rounds`, a crew that sends what waits as one batch.

```text
 started ──► goes on ──► has ended: its answer was kept, or it failed before it was sent
    ▲           │  ▲
    │           │  └───── answered ◄──────── sent, waited for, collected
    │           └─► waits ──► nobody else can go on ──► all that wait are one batch
    └── what has ended makes others ready
```

Steps go on one after the other, in both faces: what takes long is the batch, and that they wait for together.
"""

import sys
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from types import coroutine
from typing import TYPE_CHECKING, Any

from claude_force.base.errors import ClaudeForceError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from claude_force.base.records import AgentResult
    from claude_force.engine.batching import Batching
    from claude_force.engine.outside import Outside
    from claude_force.engine.sending import BatchTurn, BatchWatch, Outcome
    from claude_force.workflows.crew import MakeTurn
    from claude_force.workflows.unit import Unit

    Work = Coroutine[Any, Any, Unit]

_ROUND = object()
"""What a step suspends with that waits for the round."""


class Rounds:
    """All steps that are ready at once, in one batch. Implements `workflows.crew.Crew`."""

    size = sys.maxsize  # a batch takes whatever is ready

    def __init__(
        self,
        outside: "Outside",
        batching: "Batching",
        *,
        live_fallback: bool,
        watch: "BatchWatch",
        is_over: Callable[[], bool],
    ) -> None:
        """`is_over` says whether nothing more may be sent."""
        self.outside = outside
        self.batching = batching
        self._live_fallback, self._watch = live_fallback, watch
        self._is_over = is_over
        # Each in a context of its own, as if it were a task: what one has there, the others must not see.
        self._ready: deque[tuple[Work, Context]] = deque()
        self._waiting: deque[tuple[Work, Context]] = deque()
        self._turns: list[BatchTurn] = []
        """What those that wait have to be told, in their order."""
        self._outcomes: dict[int, Outcome] = {}
        """By place among those."""

    def start(self, work: "Work") -> None:
        """See `Crew.start`."""
        self._ready.append((work, copy_context()))

    async def ended(self) -> "Unit":
        """See `Crew.ended`."""
        while True:
            while self._ready:
                work, context = self._ready.popleft()
                unit = await _gone_on(work, context)
                if unit is not None:
                    return unit
                self._waiting.append((work, context))
            await self._round()

    async def turn(self, make: "MakeTurn") -> "AgentResult":
        """See `Crew.turn`."""
        return await make()

    async def cancel(self) -> None:
        """See `Crew.cancel`. What was sent goes on at the server."""
        for waiting in (self._ready, self._waiting):
            while waiting:
                work, context = waiting.popleft()
                context.run(work.close)

    async def answer(self, turn: "BatchTurn") -> "Outcome | None":
        """How the turn ended in the batch of its round; `None` if the run was over before that was sent."""
        place, outcomes = len(self._turns), self._outcomes
        self._turns.append(turn)
        await _round()
        return outcomes.get(place)

    async def finish(self, run_id: str) -> None:
        """Account for what a crash has left of a batch; to be called once this run wants nothing more of any."""
        try:
            await self.batching.finish(self.outside, self._watch, ended_run=run_id)
        except ClaudeForceError as error:
            self._watch.warn(f"a batch of before may not be accounted for: {error}")

    async def _round(self) -> None:
        """Send all that wait as one batch, and let them go on once it was collected."""
        turns, outcomes = self._turns, self._outcomes
        if not self._is_over():
            try:
                await self.batching.ask(
                    self.outside, turns, outcomes.__setitem__, live_fallback=self._live_fallback, watch=self._watch
                )
            except ClaudeForceError as error:  # it is each one's own, whatever that means for its step
                for place in range(len(turns)):
                    outcomes.setdefault(place, error)
        self._turns, self._outcomes = [], {}
        self._ready, self._waiting = self._waiting, deque()


@coroutine
def _round() -> "Generator[object, None, None]":
    """Wait for the round."""
    yield _ROUND


@coroutine
def _gone_on(work: "Work", context: Context) -> "Generator[Any, Any, Unit | None]":
    """Have it go on until it ends, or waits for the round: then it is `None`. Whatever else it waits for, we do."""
    error: BaseException | None = None
    while True:
        try:
            awaited = context.run(work.send, None) if error is None else context.run(work.throw, error)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return] # StopIteration is not generic
        if awaited is _ROUND:
            return None
        error = None
        try:
            yield awaited
        except BaseException as raised:  # noqa: BLE001 - it is the work's, such as a cancellation
            error = raised
