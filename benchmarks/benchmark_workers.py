"""What handing a step over costs, beside the call: `benchmark_workers.py [--steps 100] [--url postgresql://...]`.

The same workflow, whose steps need nothing of each other, by this process; through a file; and, where a database is
given, through Postgres with a worker in a thread of this process. The simulator answers at once, so what is left is
ours. Ratios within one run hold, absolute times drift with the machine.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from claude_force import AsyncAgentOrchestrator
from claude_force.orchestrator import EngineName, Project
from claude_force.testing import Simulator

SIZE = 10
"""How many steps are under way at once."""


async def seconds(base_url: str, folder: Path, steps: int, engine: EngineName) -> float:
    """How long a run takes whose connections, and whose imports, are there already."""
    workflow = {"name": "w", "steps": [{"id": f"s{n}", "agent": "a", "task": f"say {n}"} for n in range(steps)]}
    async with AsyncAgentOrchestrator(None, "k", SIZE, base_url=base_url, project_dir=folder) as subject:
        for _ in range(2):
            started_s = time.perf_counter()
            result = await subject.execute_workflow(workflow, engine=engine, use_cache=False)
            took_s = time.perf_counter() - started_s
        assert result.status == "completed"  # noqa: S101 - a failed run would make the figures lie
        return took_s


@contextmanager
def worker(base_url: str, folder: Path) -> Iterator[None]:
    """Another machine that works."""
    shift = Project(api_key="k", base_url=base_url, project_dir=folder).shift(concurrency=SIZE)
    shift.try_start()
    yield
    shift.stop(drains=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--url", help="of a Postgres, to be measured as well")
    asked = parser.parse_args()
    os.environ["CLAUDE_CACHE_SECRET"] = "a secret that all machines have"  # noqa: S105 - of nothing
    with Simulator(answer="done", max_recorded=0) as simulator, tempfile.TemporaryDirectory() as name:
        project, machine = Path(name, "project"), Path(name, "machine")
        (project / ".claude/agents").mkdir(parents=True)
        (project / ".claude/agents/a.md").write_text("---\nname: a\ndescription: d\nmodel: haiku\n---\nBe kind.\n")

        def say(what: str, engine: EngineName) -> None:
            took_s = asyncio.run(seconds(simulator.base_url, project, asked.steps, engine))
            print(f"{what:<40} {took_s:8.2f} s, {took_s / asked.steps * 1000:8.1f} ms a step, {SIZE} at once")

        say("in this process", "built-in")
        say("through a file", "durable")
        if asked.url:
            os.environ["CLAUDE_ENGINE_URL"] = asked.url
            with worker(simulator.base_url, machine):
                say("through Postgres", "durable")


if __name__ == "__main__":
    main()
