"""The two ways to run a turn: now, blocking; or awaited. With `schedule`, the only modules of the engine that act."""

import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from claude_force.base.ports import AsyncTransport, OnText, Transport
    from claude_force.base.records import Reply, Request

T = TypeVar("T")


class Blocking:
    """An `Outside` that answers before it returns: no coroutine that uses it ever suspends."""

    def __init__(self, transport: "Transport") -> None:
        self._transport = transport

    async def send(self, request: "Request", *, timeout_s: float, on_text: "OnText | None") -> "Reply":
        """Ask the model once, blocking this thread."""
        return self._transport.send(request, timeout_s=timeout_s, on_text=on_text)

    async def pause(self, seconds: float) -> None:
        """Sleep; Ctrl-C wakes it."""
        time.sleep(seconds)  # noqa: ASYNC251 - this face has no loop to hold up

    async def call(self, function: Callable[[], T]) -> T:
        """Do it here and now."""
        return function()


class Awaiting:
    """An `Outside` that lets the event loop go on with others. `asyncio` is imported by whoever runs a loop."""

    def __init__(self, transport: "AsyncTransport") -> None:
        self._transport = transport

    async def send(self, request: "Request", *, timeout_s: float, on_text: "OnText | None") -> "Reply":
        """Ask the model once."""
        return await self._transport.send(request, timeout_s=timeout_s, on_text=on_text)

    async def pause(self, seconds: float) -> None:
        """Sleep; cancelling wakes it."""
        import asyncio  # noqa: PLC0415 - the sync face must not load it

        await asyncio.sleep(seconds)

    async def call(self, function: Callable[[], T]) -> T:
        """Do it in a thread; a cancellation waits for it, so that nothing is half done."""
        import asyncio  # noqa: PLC0415 - the sync face must not load it

        return await asyncio.to_thread(function)


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends, without an event loop; works inside a running one, too.

    One step must finish it. A coroutine that truly waits is closed and reported: a defect of ours, never of the user.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return] # StopIteration is not generic
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} waited for an event loop, but the sync face has none")
