"""Workflows: makespan over the critical path, CPU a step and memory, beside bare asyncio and the peers that are there.

The first graphs wait instead of calling: what is measured is what a run adds, with journal, cache, ledger and events
on. The last one is 100 calls of 50 ms over real HTTP. Peers are measured where they are installed.
"""

import asyncio
import importlib
import itertools
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from claude_force.async_orchestrator import AsyncAgentOrchestrator, _Crew
from claude_force.base.endpoints import DEFAULT_ENDPOINT
from claude_force.base.records import Reply
from claude_force.base.usage import Usage
from claude_force.engine.faces import Awaiting
from claude_force.engine.parts import Watch
from claude_force.engine.request import Task
from claude_force.engine.turn import run_turn
from claude_force.orchestrator import Project
from claude_force.workflows.run import RunOptions
from claude_force.workflows.start import prepare_run
from project import project
from results import Figure, measured, ratio
from scenarios.concurrency import bare
from simulated import simulated
from work import as_langgraph, as_tasks, is_installed

if TYPE_CHECKING:
    from claude_force.base.endpoints import Endpoint
    from claude_force.base.ports import OnText
    from claude_force.base.records import Caching, Request
    from claude_force.workflows.events import RunEvent
    from work import Act


class Graph(NamedTuple):
    """Seconds that each step takes, and what it depends on; every step comes after all that it depends on."""

    seconds: dict[str, float]
    needed: dict[str, list[str]]

    @property
    def critical_s(self) -> float:
        """The longest way: no run is faster."""
        ends: dict[str, float] = {}
        for step, seconds in self.seconds.items():
            ends[step] = seconds + max((ends[dependency] for dependency in self.needed[step]), default=0.0)
        return max(ends.values())

    def workflow(self) -> dict[str, Any]:
        """As a workflow, whose tasks say how long they take."""
        return {
            "name": "graph",
            "steps": [
                {"id": step, "agent": "a", "task": f"{seconds} {step}", "dependencies": self.needed[step]}
                for step, seconds in self.seconds.items()
            ],
        }


def layered(count: int, *, layers: int, median_s: float, seed: int = 7) -> Graph:
    """A random graph: each step depends on up to three of the layer before.

    Durations are log-normal, as those of answers are: some steps take much longer than most.
    """
    dice = random.Random(seed)  # noqa: S311 - the same graph each time
    names = [[f"s{layer}-{number}" for number in range(count // layers)] for layer in range(layers)]
    seconds = {step: median_s * dice.lognormvariate(0, 0.5) for layer in names for step in layer}
    needed: dict[str, list[str]] = {step: [] for step in names[0]}
    for before, layer in itertools.pairwise(names):
        needed |= {step: dice.sample(before, dice.randint(1, min(3, len(before)))) for step in layer}
    return Graph(seconds, needed)


SKEWED = Graph(  # A -> B, C -> D: where rounds wait for the slow one
    {"a": 0.01, "c": 0.2, "b": 0.2, "d": 0.01}, {"a": [], "c": [], "b": ["a"], "d": ["c"]}
)
FAN = 100
CALL_S = 0.05


def run(iterations: int) -> dict[str, float | Figure]:
    """Every figure, ours and those of the peers that are installed."""
    rounds = max(1, iterations // 3)
    big = layered(1000, layers=40, median_s=0.065)  # a critical path of 4.6 s, of which rounds need 1.5
    figures: dict[str, float | Figure] = {}
    for what, graph in (("1,000 layered steps", big), ("skewed graph of 4", SKEWED)):
        for name, subject in SUBJECTS.items():
            if is_installed(name):
                makespans_s, cpus_s = zip(*(subject(graph) for _ in range(rounds)), strict=True)
                over = ratio(makespans_s, [graph.critical_s] * rounds, _better(name))
                figures[f"{what}, makespan over critical path: {name}"] = over
                if graph is big:
                    each_us = [cpu_s / len(graph.seconds) * 1e6 for cpu_s in cpus_s]
                    figures[f"{what}, CPU us a step: {name}"] = measured(each_us)
    figures["1,000 layered steps, CPU us a step beside the call itself"] = _beside(rounds)
    figures |= _fan_out(rounds)
    figures["10,000 steps, peak memory MB"] = _memory_mb()
    return figures


def _better(name: str) -> Literal["lower"] | None:
    return "lower" if name == "claude-force" else None


Subject = Callable[[Graph], tuple[float, float]]


def timed(make: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Seconds and CPU seconds of what is awaited."""

    async def main() -> tuple[float, float]:
        work = make()
        started, cpu = time.perf_counter(), time.process_time()
        await work
        return time.perf_counter() - started, time.process_time() - cpu

    return asyncio.run(main())


# ---------------------------------------------------------------- ours


class _Waiting:
    """A transport that takes as long as the task says. Implements `AsyncTransport`."""

    async def send(
        self,
        request: "Request",
        *,
        timeout_s: float,  # noqa: ARG002
        on_text: "OnText | None" = None,  # noqa: ARG002
        caching: "Caching | None" = None,  # noqa: ARG002
        endpoint: "Endpoint" = DEFAULT_ENDPOINT,  # noqa: ARG002
    ) -> Reply:
        """Wait, and answer."""
        seconds = float(request.prompt[-1].split()[0])
        if seconds:
            await asyncio.sleep(seconds)
        usage = Usage(input_tokens=100, output_tokens=50)
        return Reply(model=request.model, text="Fine.", stop_reason="end_turn", usage=usage)

    async def aclose(self) -> None:
        """Nothing is open."""


def claude_force(graph: Graph) -> tuple[float, float]:
    """A run with journal, cache, ledger and events, and as many steps at once as there are."""
    with project() as folder:
        opened = Project(project_dir=folder, api_key="k")
        asyncio.run(_run(opened, Graph({"warm": 0.0}, {"warm": []})))  # prices and tables are loaded before the clock
        return timed(lambda: _run(opened, graph))


async def _run(opened: Project, graph: Graph) -> None:
    transport, count = _Waiting(), len(graph.seconds)
    outside, places = Awaiting(transport), asyncio.Semaphore(count)
    crew = _Crew(outside, places, count)
    latest: deque[RunEvent] = deque(maxlen=1)  # who watches keeps what it wants
    options = RunOptions(on_event=latest.append)
    run_ = prepare_run(opened, crew, graph.workflow(), {}, resume=None, max_cost_usd=None, options=options)
    result = await run_.execute()
    assert result.status == "completed", result.error  # noqa: S101 - a failed run would make the figures lie
    await outside.drain()


def _beside(rounds: int) -> Figure:
    """CPU of a step in microseconds, without that of the same turn alone: with cache, ledger and all."""
    graph = layered(1000, layers=40, median_s=0.0)
    runs = [claude_force(graph)[1] - _turns(graph)[1] for _ in range(rounds)]
    return measured([seconds / len(graph.seconds) * 1e6 for seconds in runs])


def _turns(graph: Graph) -> tuple[float, float]:
    with project() as folder:
        opened = Project(project_dir=folder, api_key="k")
        asyncio.run(_run(opened, Graph({"warm": 0.0}, {"warm": []})))

        async def main() -> None:
            outside, places = Awaiting(_Waiting()), asyncio.Semaphore(len(graph.seconds) // 40)

            async def one(task: str) -> None:
                async with places:
                    await run_turn(outside, opened.parts, Task(agent_name="a", text=task), Watch())

            await asyncio.gather(*(one(f"0.0 {step}") for step in graph.seconds))
            await outside.drain()

        return timed(main)


# ---------------------------------------------------------------- peers


def asyncio_alone(graph: Graph) -> tuple[float, float]:
    """Bare asyncio. Keeps nothing."""
    return timed(lambda: as_tasks(graph.needed, _sleeping(graph)))


def _sleeping(graph: Graph) -> "Act":
    async def act(name: str, _: Sequence[str]) -> str:
        await asyncio.sleep(graph.seconds[name])
        return name

    return act


def rounds_of_gather(graph: Graph) -> tuple[float, float]:
    """What is ready runs together, and all wait for the slowest."""

    async def main() -> None:
        done: set[str] = set()
        while len(done) < len(graph.seconds):
            ready = [s for s in graph.seconds if s not in done and done.issuperset(graph.needed[s])]
            await asyncio.gather(*(asyncio.sleep(graph.seconds[step]) for step in ready))
            done.update(ready)

    return timed(main)


def dask_threaded(graph: Graph) -> tuple[float, float]:
    """Dask's threaded scheduler."""
    get = importlib.import_module("dask.threaded").get

    def step(seconds: float, *_: object) -> None:
        time.sleep(seconds)

    tasks = {name: (step, graph.seconds[name], *graph.needed[name]) for name in graph.seconds}
    started, cpu = time.perf_counter(), time.process_time()
    get(tasks, list(tasks), num_workers=len(tasks))
    return time.perf_counter() - started, time.process_time() - cpu


def langgraph(graph: Graph) -> tuple[float, float]:
    """LangGraph, whose steps come in super-steps."""
    compiled = as_langgraph(graph.needed, _sleeping(graph))
    return timed(lambda: compiled.ainvoke({"answers": []}, {"recursion_limit": 10_000, "max_concurrency": 2000}))


SUBJECTS: dict[str, Subject] = {
    "claude-force": claude_force,
    "asyncio": asyncio_alone,
    "rounds of gather": rounds_of_gather,
    "dask": dask_threaded,
    "langgraph": langgraph,
}


# ---------------------------------------------------------------- over HTTP, and in memory


def _fan_out(rounds: int) -> dict[str, Figure]:
    """100 calls at once, each of 50 ms, after one that makes the connections' pool."""
    seconds: dict[str, list[float]] = {"claude-force": [], "default SDK client": [], "aiohttp SDK client": []}
    with simulated("plain", CALL_S) as server:
        for _ in range(rounds):
            seconds["claude-force"].append(asyncio.run(_ours_fanned(server.url)))
            seconds["default SDK client"].append(asyncio.run(_bare_fanned(server.url, is_default=True)))
            seconds["aiohttp SDK client"].append(asyncio.run(_bare_fanned(server.url, is_default=False)))
    return {
        f"fan-out of {FAN} calls of 50 ms, makespan over critical path: {name}": ratio(
            times, [CALL_S] * rounds, _better(name)
        )
        for name, times in seconds.items()
    }


async def _ours_fanned(url: str) -> float:
    with project() as folder:
        async with AsyncAgentOrchestrator(None, "k", FAN, base_url=url, project_dir=folder) as subject:
            graph = Graph({f"s{number}": 0.0 for number in range(FAN)}, {f"s{number}": [] for number in range(FAN)})
            await subject.execute_workflow(Graph({"warm": 0.0}, {"warm": []}).workflow())  # all is imported by then
            started = time.perf_counter()
            await subject.execute_workflow(graph.workflow())
            return time.perf_counter() - started


async def _bare_fanned(url: str, *, is_default: bool) -> float:
    async with bare(url, is_default=is_default) as call:
        await call(-1)
        started = time.perf_counter()
        await asyncio.gather(*map(call, range(FAN)))
        return time.perf_counter() - started


MEMORY = """
import sys
sys.path.insert(0, sys.argv[1])
import memory
from scenarios import workflow
workflow.claude_force(workflow.layered(10_000, layers=50, median_s=0.0))
print(memory.peak_mb())
"""


def _memory_mb() -> float:
    """In a process of its own, because a peak is never forgotten."""
    command = [sys.executable, "-c", MEMORY, str(Path(__file__).parents[1])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
