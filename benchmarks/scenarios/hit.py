"""What an answer from the cache takes: through both faces, key, ledger and all, and as a command from the shell."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from claude_force import AgentOrchestrator, AsyncAgentOrchestrator
from claude_force.testing import Simulator
from project import project
from results import Figure, measured, ratio

HITS = 1000
COMMAND = ["-m", "claude_force", "execute", "a", "x"]


def run(iterations: int) -> dict[str, Figure]:
    """Medians; an answer of 4 KB that is in memory, and for the shell on disk."""
    with _project() as (folder, url):
        return {**_sync(folder, url, iterations), **asyncio.run(_async(folder, url, iterations)), **_shell(folder, url)}


@contextmanager
def _project() -> Iterator[tuple[Path, str]]:
    with project() as folder, Simulator(answer="x" * 4096) as simulator:
        yield folder, simulator.base_url


def _sync(folder: Path, url: str, iterations: int) -> dict[str, Figure]:
    with AgentOrchestrator(api_key="k", base_url=url, project_dir=folder) as subject:
        subject.execute_agent("a", "x")
        times = []
        for _ in range(iterations):
            started = time.perf_counter()
            for _ in range(HITS):
                subject.execute_agent("a", "x")
            times.append((time.perf_counter() - started) / HITS)
    return {"hit through execute_agent, sync, us": measured([seconds * 1e6 for seconds in times])}


async def _async(folder: Path, url: str, iterations: int) -> dict[str, Figure]:
    async with AsyncAgentOrchestrator(api_key="k", base_url=url, project_dir=folder) as subject:
        await subject.execute_agent("a", "x")
        times = []
        for _ in range(iterations):
            started = time.perf_counter()
            for _ in range(HITS):
                await subject.execute_agent("a", "x")
            times.append((time.perf_counter() - started) / HITS)
    return {"hit through execute_agent, async, us": measured([seconds * 1e6 for seconds in times])}


def _shell(folder: Path, url: str) -> dict[str, Figure]:
    environment = os.environ | {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "k"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled, so measure that
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(15):  # in turns, because machines drift
        for times, arguments in ((ours, COMMAND), (bare, ["-c", "pass"])):
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, *arguments],
                cwd=folder,
                env=environment,
                check=True,
                capture_output=True,
                stdin=subprocess.DEVNULL,
            )
            times.append(time.perf_counter() - started)
    return {
        "hit from the shell, ms": measured([seconds * 1e3 for seconds in ours]),
        "hit from the shell over `python -c pass`": ratio(ours, bare),
    }
