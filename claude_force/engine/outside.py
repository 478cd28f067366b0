"""The one thing that a turn knows of the world: whatever is slow is asked of an `Outside`.

A turn is written once, as a coroutine over this protocol. `faces.Blocking` answers at once, so the coroutine never
suspends and `faces.run_now` finishes it without an event loop; `faces.Awaiting` truly awaits.
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from claude_force.base.endpoints import Endpoint
    from claude_force.base.ports import OnText
    from claude_force.base.records import Caching, Reply, Request

T = TypeVar("T")


class Outside(Protocol):
    """The world, as a turn sees it."""

    @property
    def is_blocking(self) -> bool:
        """Whether waiting holds up this whole thread, with whatever else lives on it."""

    async def send(
        self,
        request: "Request",
        *,
        timeout_s: float,
        on_text: "OnText | None",
        caching: "Caching | None",
        endpoint: "Endpoint",
    ) -> "Reply":
        """Ask the model once, by this way. Raises the `ApiError` family."""

    async def pause(self, seconds: float) -> None:
        """Wait."""

    async def wait(self, signal: "Signal", *, timeout_s: float) -> None:
        """Wait until another turn raises the signal, or the time is over; `timeout_s` may be infinite."""

    async def call(self, function: Callable[[], T]) -> T:
        """Do something that may stall: a file, a database."""

    async def apart(self, function: Callable[[], T]) -> T:
        """Do something that takes long, such as a call that only blocks, and that must not hold up what `call` does."""

    def later(self, function: Callable[[], object]) -> None:
        """Do something soon for which nobody waits, and which never raises."""

    async def finish(self, function: Callable[[], T]) -> T:
        """Do the last thing of a turn to its end, even if the turn is cancelled meanwhile: its answer is paid for."""

    async def finish_apart(self, function: Callable[[], T]) -> T:
        """As `finish`, where it takes so long that others must not wait behind it, as with `apart`."""


class Signal:
    """A flag that is raised once, from any thread, and that turns of both faces can wait for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects both fields
        self._is_raised = False
        self._listeners: list[Callable[[], object]] = []

    def fire(self) -> None:
        """Raise it, and call whoever listens."""
        with self._lock:
            self._is_raised = True
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()

    def listen(self, listener: Callable[[], object]) -> None:
        """Have it called once the flag is up: now, if it is; else later, in the thread that raises it."""
        with self._lock:
            if not self._is_raised:
                self._listeners.append(listener)
                return
        listener()
