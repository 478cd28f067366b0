"""Many agents at once: makespan against the ideal, and CPU a call against the bare SDK doing the same calls."""

import asyncio
import itertools
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import anthropic

from claude_force import AsyncAgentOrchestrator

SERVER = """
import sys
from claude_force.transports.simulator import serve
serve(latency=float(sys.argv[1]), on_ready=lambda url: print(url, flush=True))
"""


def run(iterations: int) -> dict[str, float]:
    """The simulator runs in a process of its own, so that CPU figures are the client's."""
    return {**_makespans(), **_cpu(max(1, iterations // 7)), **_memory()}


def _makespans() -> dict[str, float]:
    figures = {}
    with _server(0.3) as url:
        together, one_by_one = (_seconds(_ours(url, limit), 3, limit) for limit in (3, 1))
        figures["3 tasks of 300 ms: sequential over concurrent"] = one_by_one / together
        for limit in (1, 5, 10, 20):
            ideal = math.ceil(50 / limit) * 0.3
            label = f"50 tasks of 300 ms, {limit} at once"
            clients = {
                "makespan over ideal": _ours(url, limit),
                "aiohttp SDK client, makespan over ideal": _bare(url, is_default=False),
                "default SDK client, makespan over ideal": _bare(url, is_default=True),
            }
            for name, client in clients.items():
                figures[f"{label}: {name}"] = _seconds(client, 50, limit) / ideal
    return figures


def _seconds(client: "AbstractAsyncContextManager[Call]", count: int, limit: int) -> float:
    async def main() -> float:
        async with client as call:
            await _all(call, limit, limit)  # connections are made before the clock starts
            started = time.perf_counter()
            await _all(call, count, limit)
            return time.perf_counter() - started

    return asyncio.run(main())


def _cpu(iterations: int) -> dict[str, float]:
    figures = {}
    with _server(0.05) as url:
        for limit in (100, 1000):
            ours, bare, aiohttp = [], [], []
            for _ in range(iterations):
                ours.append(asyncio.run(_cpu_a_call(_ours(url, limit), limit)))
                bare.append(asyncio.run(_cpu_a_call(_bare(url, is_default=True), limit)))
                aiohttp.append(asyncio.run(_cpu_a_call(_bare(url, is_default=False), limit)))
            figures[f"{limit} in flight: default SDK client, CPU ms a call"] = min(bare) * 1000
            figures[f"{limit} in flight: full turn over default SDK client, CPU"] = min(ours) / min(bare)
            figures[f"{limit} in flight: aiohttp SDK client over default one, CPU"] = min(aiohttp) / min(bare)
    return figures


MEMORY = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from scenarios import concurrency, memory
ours, bare = concurrency._ours, concurrency._bare
client = ours(sys.argv[2], 1000) if sys.argv[3] == "ours" else bare(sys.argv[2], is_default=True)
asyncio.run(concurrency._cpu_a_call(client, 1000))
print(memory.peak_mb())
"""


def _memory() -> dict[str, float]:
    """Each in a process of its own, because a peak is never forgotten."""
    peaks = {}
    with _server(0.05) as url:
        for whose in ("ours", "bare"):
            command = [sys.executable, "-c", MEMORY, str(Path(__file__).parents[1]), url, whose]
            peaks[whose] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"1000 in flight: full turn over default SDK client, peak memory": peaks["ours"] / peaks["bare"]}


Call = Callable[[int], Awaitable[object]]


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
    with tempfile.TemporaryDirectory() as folder:
        agents = Path(folder) / ".claude/agents"
        agents.mkdir(parents=True)
        (agents / "a.md").write_text("---\nname: a\ndescription: d\nmodel: haiku\n---\nBe kind.\n")
        os.utime(agents / "a.md", (0, 0))  # a file that was just written is read again each time, in case it changes
        async with AsyncAgentOrchestrator(None, "k", limit, base_url=url, project_dir=folder) as subject:
            tasks = itertools.count()  # none twice: an answer from the cache would be no call
            yield lambda _: subject.execute_agent("a", f"task {next(tasks)}")


@asynccontextmanager
async def _bare(url: str, *, is_default: bool) -> AsyncIterator[Call]:
    http_client = None if is_default else anthropic.DefaultAioHttpClient()
    async with anthropic.AsyncAnthropic(api_key="k", base_url=url, max_retries=0, http_client=http_client) as client:
        yield lambda number: client.messages.create(
            model="claude-haiku-5-5",
            max_tokens=16_000,
            system=[{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
            messages=[{"role": "user", "content": [{"type": "text", "text": f"task {number}"}]}],
        )


@contextmanager
def _server(latency_s: float) -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(latency_s)], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip() if process.stdout else ""
    finally:
        process.terminate()
        process.wait()
