"""A worker from the shell: what it says, and what signals mean. What it does: `workers.durable.Shift`."""

import asyncio
import os
import signal
import threading
from functools import partial
from importlib import import_module

from claude_force.apps.console import note
from claude_force.orchestrator import Project

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def work(project: Project, *, concurrency: int | None, drain_s: float) -> int:
    """Work until a signal; gives the exit code. Raises `EngineError` or `ConfigError` where that cannot be."""
    import_module("anthropic")  # a second or more, which is not to count as the time of the first steps
    size = concurrency or project.settings.config.performance.max_concurrent_agents
    try:
        code = asyncio.run(_worked(project, size, drain_s))
    finally:
        project.close()
    _leave_threads(code)
    return code


def _leave_threads(code: int) -> None:
    """End the process where a thread does not: DBOS asks for a database until it answers, and Python would wait."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(1.0)
            if thread.is_alive():
                os._exit(code)


async def _worked(project: Project, size: int, drain_s: float) -> int:
    until, loop = asyncio.Event(), asyncio.get_running_loop()
    stopped_by: list[int] = []

    def stop(number: int) -> None:
        stopped_by.append(number)
        if until.is_set():
            working.cancel()
            return
        until.set()
        note("stopping: nothing more is taken, what was begun comes to its end; once more ends it at once")

    for number in _STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop, number)
    shift = project.shift(concurrency=size, drain_s=drain_s)
    begin = partial(note, f"working for {project.engine.shown!r}, {size} at once")
    working = asyncio.create_task(shift.work(until, on_begin=begin))
    try:
        await working
    except asyncio.CancelledError:
        return 128 + stopped_by[-1]
    return 0
