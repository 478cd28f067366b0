"""The two ways to run a turn: now, blocking; or awaited. With `schedule`, the only modules of the engine that act."""

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio

    from claude_force.base.endpoints import Endpoint
    from claude_force.base.ports import AsyncTransport, OnText, Transport
    from claude_force.base.records import Caching, Reply, Request
    from claude_force.engine.outside import Signal

# Under load, a hop to a thread for each call costs as much CPU as all the rest of a turn; one for many does not, and
# nobody who waits for a model notices two milliseconds. A few calls make no load: the next step may wait for them.
REST_S = 0.002
_FEW_CALLS = 4

T = TypeVar("T")
_Outcome = tuple[Any, BaseException | None]


class Blocking:
    """An `Outside` that answers before it returns: no coroutine that uses it ever suspends."""

    is_blocking = True

    def __init__(self, transport: Callable[[], "Transport"]) -> None:
        """The transport is made when something is sent: an answer from the cache needs none."""
        self._transport = transport

    async def send(
        self,
        request: "Request",
        *,
        timeout_s: float,
        on_text: "OnText | None",
        caching: "Caching | None",
        endpoint: "Endpoint",
    ) -> "Reply":
        """Ask the model once, blocking this thread."""
        send = self._transport().send
        return send(request, timeout_s=timeout_s, on_text=on_text, caching=caching, endpoint=endpoint)

    async def pause(self, seconds: float) -> None:
        """Sleep; Ctrl-C wakes it."""
        time.sleep(seconds)  # noqa: ASYNC251 - this face has no loop to hold up

    async def wait(self, signal: "Signal", *, timeout_s: float) -> None:
        """Sleep until the signal; Ctrl-C wakes it."""
        raised = threading.Event()
        signal.listen(raised.set)
        raised.wait(None if timeout_s == math.inf else timeout_s)

    async def call(self, function: Callable[[], T]) -> T:
        """Do it here and now."""
        return function()

    async def apart(self, function: Callable[[], T]) -> T:
        """Do it here and now."""
        return function()

    def later(self, function: Callable[[], object]) -> None:
        """Do it here and now."""
        function()

    async def finish(self, function: Callable[[], T]) -> T:
        """Do it here and now."""
        return function()

    async def finish_apart(self, function: Callable[[], T]) -> T:
        """Do it here and now."""
        return function()


class Awaiting:
    """An `Outside` for the turns of one event loop, which goes on with others. Made where the loop runs.

    `asyncio` is imported by whoever runs a loop: the sync face must not load it.
    """

    is_blocking = False

    def __init__(self, transport: "AsyncTransport") -> None:
        self._asyncio = sys.modules["asyncio"]
        self._loop: asyncio.AbstractEventLoop = self._asyncio.get_running_loop()
        self._transport = transport
        self._calls: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self._is_calling = False
        self._rested_at_s = -math.inf

    async def send(
        self,
        request: "Request",
        *,
        timeout_s: float,
        on_text: "OnText | None",
        caching: "Caching | None",
        endpoint: "Endpoint",
    ) -> "Reply":
        """Ask the model once."""
        send = self._transport.send
        return await send(request, timeout_s=timeout_s, on_text=on_text, caching=caching, endpoint=endpoint)

    async def pause(self, seconds: float) -> None:
        """Sleep; cancelling wakes it."""
        await self._asyncio.sleep(seconds)

    async def wait(self, signal: "Signal", *, timeout_s: float) -> None:
        """Sleep until the signal; cancelling wakes it."""
        raised = self._loop.create_future()

        def wake() -> None:
            if not raised.done():
                raised.set_result(None)

        def call_home() -> None:
            with suppress(RuntimeError):  # a loop that is closed has nobody left who waits
                self._loop.call_soon_threadsafe(wake)

        signal.listen(call_home)
        with suppress(TimeoutError):
            async with self._asyncio.timeout(None if timeout_s == math.inf else timeout_s):
                await raised

    async def call(self, function: Callable[[], T]) -> T:
        """Do it in a thread, at once or with others a few milliseconds later.

        A cancellation does not stop it, so that nothing is half done.
        """
        return await self._begun(function)

    async def apart(self, function: Callable[[], T]) -> T:
        """Do it in a thread of its own. A cancellation does not stop it, and does not wait for it either."""
        outcome: T = await self._asyncio.to_thread(function)
        return outcome

    async def finish(self, function: Callable[[], T]) -> T:
        """As `call`, to its end. If the task is cancelled meanwhile, it hears of it where it waits next."""
        return await self._to_its_end(self._begun(function))

    async def finish_apart(self, function: Callable[[], T]) -> T:
        """As `finish`, in a thread of its own."""
        return await self._to_its_end(self._asyncio.ensure_future(self._asyncio.to_thread(function)))

    async def _to_its_end(self, done: "asyncio.Future[T]") -> T:
        is_cancelled = False
        while not done.done():
            try:
                await self._asyncio.shield(done)
            except self._asyncio.CancelledError:
                is_cancelled = True
        if is_cancelled and (task := self._asyncio.current_task()):
            self._loop.call_soon(_cancel_again, task)
        return done.result()

    def later(self, function: Callable[[], object]) -> None:
        """As `call`, without anybody who waits; `drain` does."""
        self._begun(function)

    async def drain(self) -> None:
        """Wait until all that was called so far is done."""
        if self._is_calling:
            await self._begun(lambda: None)

    def _begun(self, function: Callable[[], T]) -> "asyncio.Future[T]":
        done: asyncio.Future[T] = self._loop.create_future()
        self._calls.append((function, done))
        if not self._is_calling:
            self._is_calling = True
            self._loop.call_at(self._rested_at_s, self._go)
        return done

    def _go(self) -> None:
        calls = tuple(self._calls)
        self._calls.clear()
        caller = self._loop.run_in_executor(None, _outcomes, [function for function, _ in calls])
        caller.add_done_callback(partial(self._deliver, [done for _, done in calls]))

    def _deliver(self, awaited: "list[asyncio.Future[Any]]", caller: "asyncio.Future[list[_Outcome]]") -> None:
        self._rested_at_s = self._loop.time() + (REST_S if len(awaited) > _FEW_CALLS else 0.0)
        self._is_calling = bool(self._calls)
        if self._calls:
            self._loop.call_at(self._rested_at_s, self._go)
        for done, (value, error) in zip(awaited, caller.result(), strict=True):
            if done.cancelled():
                continue
            if error is None:
                done.set_result(value)
            else:
                done.set_exception(error)


def _cancel_again(task: "asyncio.Task[Any]") -> None:
    """Unless it has ended, or an `asyncio.timeout` that has been left meanwhile took its cancellation back."""
    if not task.done() and task.cancelling():
        task.cancel()
        task.uncancel()  # it is the same request, and counts once


def _outcomes(functions: list[Callable[[], Any]]) -> list[_Outcome]:
    """What each returns, or raises."""
    return [_outcome(function) for function in functions]


def _outcome(function: Callable[[], Any]) -> _Outcome:
    try:
        return function(), None
    except BaseException as error:  # noqa: BLE001 - raised where it was called for
        return None, error


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
