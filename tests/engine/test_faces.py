"""The sync face finishes a coroutine in one step, and says so when it cannot."""

import asyncio

import pytest

from claude_force.engine.faces import run_now


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
