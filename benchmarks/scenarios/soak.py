"""Thousands of turns in one process, half of them cached: memory, tasks, threads and open files must stay as they are.

Each iteration is 1,000 turns; `--scenario soak --iterations 100` is the soak of 100,000.
"""

import asyncio
import gc
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from claude_force import AsyncAgentOrchestrator

SERVER = """
from claude_force.transports.simulator import serve
serve(on_ready=lambda url: print(url, flush=True))
"""
TURNS = 1000


def run(iterations: int) -> dict[str, float]:
    """What there is after all turns, over what there was after a quarter of them."""
    with _server() as url, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / ".claude/agents").mkdir(parents=True)
        (folder / ".claude/agents/a.md").write_text("---\nname: a\ndescription: d\nmodel: haiku\n---\nBe kind.\n")
        return asyncio.run(_soak(url, folder, max(iterations, 4)))


async def _soak(url: str, folder: Path, iterations: int) -> dict[str, float]:
    early: dict[str, float] = {}
    async with AsyncAgentOrchestrator(None, "k", 50, base_url=url, project_dir=folder, cache_max_size_mb=5) as subject:
        for iteration in range(iterations):
            tasks = (("a", f"task {iteration}.{number // 2}") for number in range(TURNS))
            async for _, result in subject.as_completed(tasks):
                assert isinstance(result, str), result  # noqa: S101 - a failed turn would make the figures lie
            if iteration == iterations // 4:
                early = _counts()
        late = _counts()
    return {
        f"{what}, after {iterations * TURNS:,} turns over a quarter of them": late[what] / early[what] for what in late
    }


def _counts() -> dict[str, float]:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "resident memory": pages,
        "objects": len(gc.get_objects()),
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "open files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - only their number counts
    }


@contextmanager
def _server() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip() if process.stdout else ""
    finally:
        process.terminate()
        process.wait()
