"""The sync face finishes a coroutine in one step, and says so when it cannot; the async face loses no cancellation."""

import asyncio
import threading

import pytest

from claude_force.engine.faces import Awaiting, run_now


async def answer(value: int) -> int:
    """A coroutine that never waits."""
    return value


async def wait_for_a_loop(log: list[str]) -> None:
    """A coroutine that truly waits."""
    try:
        await asyncio.sleep(0)
    finally:
        log.append("closed")


def test_a_coroutine_that_never_waits_is_finished() -> None:
    """No loop is needed, and none is in the way."""
    assert run_now(answer(7)) == 7

    async def inside_a_loop() -> int:
        return run_now(answer(8))

    assert asyncio.run(inside_a_loop()) == 8


def test_a_coroutine_that_waits_is_closed_and_reported() -> None:
    """Its clean-up runs, and the error names it."""
    log: list[str] = []
    with pytest.raises(RuntimeError, match=r"wait_for_a_loop.* waited for an event loop"):
        run_now(wait_for_a_loop(log))
    assert log == ["closed"]


def test_an_error_passes_through() -> None:
    """What the coroutine raises is what the caller gets."""

    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run_now(fail())


class Ledger:
    """Takes its time to write something down."""

    def __init__(self) -> None:
        self.is_writing = threading.Event()
        self.may_end = threading.Event()

    def write(self) -> str:
        self.is_writing.set()
        assert self.may_end.wait(20)
        return "written"


async def test_a_cancellation_waits_for_the_end_of_a_turn() -> None:
    """What is paid is handed over, and then the task ends as it was told to."""
    log: list[str] = []
    ledger = Ledger()

    async def turns() -> None:
        outside = Awaiting(None)  # type: ignore[arg-type] # it sends nothing
        while True:
            log.append(await outside.finish(ledger.write))
            await asyncio.sleep(0)
            log.append("went on")

    task = asyncio.create_task(turns())
    await asyncio.to_thread(ledger.is_writing.wait, 20)
    task.cancel()
    await asyncio.sleep(0)
    ledger.may_end.set()
    ended, _ = await asyncio.wait([task], timeout=5)
    task.cancel()
    assert [task.cancelled() for task in ended] == [True]
    assert log == ["written"]


async def test_a_timeout_that_was_left_in_time_cancels_nothing_later() -> None:
    """`asyncio.timeout` that struck while the turn ended is over with its block."""
    ledger = Ledger()
    async with asyncio.timeout(None) as limit:

        async def strike() -> None:
            await asyncio.to_thread(ledger.is_writing.wait, 20)
            limit.reschedule(0)
            asyncio.get_running_loop().call_soon(ledger.may_end.set)

        striking = asyncio.create_task(strike())
        assert await Awaiting(None).finish(ledger.write) == "written"  # type: ignore[arg-type] # it sends nothing
    assert limit.expired()
    await striking
    await asyncio.sleep(0)
