"""What tests of turns share: a world in which nothing takes real time."""

from collections.abc import Callable
from typing import TypeVar

from claude_force.base.records import AgentDefinition, Execution
from claude_force.engine.outside import Signal
from tests.conftest import MovedClock

T = TypeVar("T")


class StillWorld(MovedClock):
    """Clock, agents, ledger and outside in one, but for what is sent: it notes what is asked of it."""

    is_blocking = True
    prompt = "p"

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self.paused_until_s: list[float] = []
        self.entries: list[Execution] = []

    def find(self, name: str) -> AgentDefinition:
        return AgentDefinition(name=name, description="d", prompt=self.prompt)

    def recall(self, name: str) -> None:
        """Nothing is known without a look."""

    def record(self, execution: Execution) -> None:
        self.entries.append(execution)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.seconds += seconds
        self.paused_until_s.append(self.seconds)

    async def wait(self, signal: Signal, *, timeout_s: float) -> None:
        await self.pause(timeout_s)

    async def call(self, function: Callable[[], T]) -> T:
        return function()

    finish = finish_apart = apart = call

    def later(self, function: Callable[[], object]) -> None:
        function()
