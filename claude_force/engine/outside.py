"""The one thing that a turn knows of the world: whatever is slow is asked of an `Outside`.

A turn is written once, as a coroutine over this protocol. `faces.Blocking` answers at once, so the coroutine never
suspends and `faces.run_now` finishes it without an event loop; `faces.Awaiting` truly awaits.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from claude_force.base.ports import OnText
    from claude_force.base.records import Reply, Request

T = TypeVar("T")


class Outside(Protocol):
    """The world, as a turn sees it."""

    async def send(self, request: "Request", *, timeout_s: float, on_text: "OnText | None") -> "Reply":
        """Ask the model once. Raises the `ApiError` family."""

    async def pause(self, seconds: float) -> None:
        """Wait."""

    async def call(self, function: Callable[[], T]) -> T:
        """Do something that may stall: a file, a database."""
