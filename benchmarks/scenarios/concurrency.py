"""Many agents at once: makespan against the ideal, and CPU a call against the bare SDK doing the same calls."""

import asyncio
import itertools
import math
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import anthropic

from claude_force import AsyncAgentOrchestrator
from project import project
from results import Figure, measured, ratio
from simulated import simulated
from work import body

Call = Callable[[int], Awaitable[object]]


def run(iterations: int) -> dict[str, Figure]:
    """The simulator runs in a process of its own, so that CPU figures are the client's."""
    rounds = max(1, iterations // 3)  # each is long, and they are much alike
    return {**_makespans(rounds), **_cpu(rounds), **_memory()}


def _makespans(iterations: int) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    with simulated("plain", 0.3) as server:
        url = server.url
        for limit in (1, 5, 10, 20):
            ideal = math.ceil(50 / limit) * 0.3
            clients: dict[str, Callable[[], AbstractAsyncContextManager[Call]]] = {
                "claude-force": partial(_ours, url, limit)
            }
            if limit > 1:  # one by one there is nothing to compare: a makespan is a sum
                clients["aiohttp SDK client"] = partial(bare, url, is_default=False)
                clients["default SDK client"] = partial(bare, url, is_default=True)
            times: dict[str, list[float]] = {name: [] for name in clients}
            for _ in range(iterations if limit > 1 else 1):
                for name, client in clients.items():
                    times[name].append(_seconds(client(), 50, limit) / ideal)
            what = f"50 tasks of 300 ms, {limit} at once, makespan over ideal"
            figures |= {
                f"{what}: {name}": measured(taken, "lower" if name == "claude-force" else None)
                for name, taken in times.items()
            }
    return figures


def _seconds(client: AbstractAsyncContextManager[Call], count: int, limit: int) -> float:
    async def main() -> float:
        async with client as call:
            await _all(call, limit, limit)  # connections are made before the clock starts
            started = time.perf_counter()
            await _all(call, count, limit)
            return time.perf_counter() - started

    return asyncio.run(main())


def _cpu(iterations: int) -> dict[str, Figure]:
    figures = {}
    with simulated("plain", 0.05) as server:
        for limit in (100, 1000):
            default, ours, aiohttp = list[float](), list[float](), list[float]()
            for _ in range(iterations):
                ours.append(asyncio.run(_cpu_a_call(_ours(server.url, limit), limit)))
                default.append(asyncio.run(_cpu_a_call(bare(server.url, is_default=True), limit)))
                aiohttp.append(asyncio.run(_cpu_a_call(bare(server.url, is_default=False), limit)))
            what = f"{limit} in flight, CPU"
            figures[f"{what} ms a call: default SDK client"] = measured([seconds * 1000 for seconds in default])
            figures[f"{what} over the default SDK client: claude-force"] = ratio(ours, default)
            figures[f"{what} over the default SDK client: aiohttp SDK client"] = ratio(aiohttp, default, None)
    return figures


MEMORY = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
import memory
from scenarios import concurrency
url, whose = sys.argv[2:]
client = concurrency._ours(url, 1000) if whose == "ours" else concurrency.bare(url, is_default=True)
asyncio.run(concurrency._cpu_a_call(client, 1000))
print(memory.peak_mb())
"""


def _memory() -> dict[str, Figure]:
    """Each in a process of its own, because a peak is never forgotten."""
    peaks = {}
    with simulated("plain", 0.05) as server:
        for whose in ("ours", "bare"):
            command = [sys.executable, "-c", MEMORY, str(Path(__file__).parents[1]), server.url, whose]
            peaks[whose] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    over = ratio([peaks["ours"]], [peaks["bare"]])
    return {"1000 in flight, peak memory over the default SDK client: claude-force": over}


async def _cpu_a_call(client: AbstractAsyncContextManager[Call], limit: int, count: int = 2000) -> float:
    async with client as call:
        await _all(call, limit, limit)  # connections are made before the clock starts
        started = time.process_time()
        await _all(call, count, limit)
        return (time.process_time() - started) / count


async def _all(call: Call, count: int, limit: int) -> None:
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await call(number)

    await asyncio.gather(*(work() for _ in range(limit)))


@asynccontextmanager
async def _ours(url: str, limit: int) -> AsyncIterator[Call]:
    with project() as folder:
        async with AsyncAgentOrchestrator(None, "k", limit, base_url=url, project_dir=folder) as subject:
            tasks = itertools.count()  # none twice: an answer from the cache would be no call
            yield lambda _: subject.execute_agent("a", f"task {next(tasks)}")


@asynccontextmanager
async def bare(url: str, *, is_default: bool) -> AsyncIterator[Call]:
    """The SDK alone, by its default client or the one that is made with aiohttp."""
    http_client = None if is_default else anthropic.DefaultAioHttpClient()
    async with anthropic.AsyncAnthropic(api_key="k", base_url=url, max_retries=0, http_client=http_client) as client:
        yield lambda number: client.messages.create(**body(f"task {number}"))
