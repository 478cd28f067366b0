"""A thousand turns in flight on a bad day: what is held on the way, that nothing is lost, and that the bill is right.

Each iteration is 1,000 turns, a third of them asked before; `make soak` is 100 iterations. Servers fail, connections
are dropped, answers break on the way, and one model says that it is busy (`simulated.py`). What is held is counted at
each quarter of the way, and may not grow from half way to the end, as what is bounded (a cache, say) has filled by
then. The scenario also fails where a turn did, or where the server's bill is not what the ledger has.
"""

import asyncio
import gc
import os
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

import memory
from claude_force import AgentResult, AgentTask, AsyncAgentOrchestrator
from project import project
from results import Figure, measured
from simulated import BUSY, FAILING, SPOILED, USAGE, Server, simulated

TURNS = 1000
AT_ONCE = 1000
LATENCY_S = 1.0
REPEATED = 3
"""One in so many was asked before, as the turn was that came so many before; by then the cache has its answer."""
LOOK_BACK = 2 * AT_ONCE + 2
GROWTH = {"resident memory, MB": 1.2, "objects": 1.2}
IN_FLIGHT_GROWTH = 1.5
"""What is held at the end may be so many times as much as half way: memory is handed out in large pieces, and how many
of the requests are on the wire at one moment, with their tasks and connections, depends on the machine."""
CONFIG = {"breaker": {"failure_threshold": 1_000}}  # trouble is the rule here, and no outage


def run(iterations: int) -> dict[str, float | Figure]:
    """What is held, and what was in flight, at most."""
    with simulated("faulty", LATENCY_S) as server, project(config=CONFIG) as folder:
        return asyncio.run(_soak(server, folder, max(iterations, 4)))


async def _soak(server: Server, folder: Path, iterations: int) -> dict[str, float | Figure]:
    count, held = iterations * TURNS, dict[int, dict[str, float]]()
    marks = [count // 4, count // 2, count * 3 // 4, count - AT_ONCE]  # as many are in flight at each
    async with AsyncAgentOrchestrator(
        None,
        "k",
        AT_ONCE,
        base_url=server.url,
        project_dir=folder,
        cache_max_size_mb=5,
        timeout_seconds=600,
        max_retries=20,
    ) as subject:
        ended = 0
        async for _, result in subject.as_completed(map(_task, range(count))):
            if not isinstance(result, AgentResult):
                raise result
            ended += 1
            if ended in marks:
                held[ended] = _counts()
    if ended != count:
        raise RuntimeError(f"{count:,} turns were asked for, and {ended:,} ended")
    stats = server.stats()
    _check(folder / ".claude/metrics/executions.jsonl", stats, count)
    half, end = held[marks[1]], held[marks[-1]]
    _check_flat(half, end)
    return (
        {f"{name}: after {mark:,} turns": float(held[mark][name]) for name in end for mark in marks}
        | {f"at the end over half way: {name}": measured([end[name] / half[name]], "lower") for name in end}
        | {
            "requests in flight, at most": float(stats["max_in_flight"]),
            "requests": float(stats["calls"]["/v1/messages"]),
            "requests that were refused": float(sum(n for status, n in stats["statuses"].items() if status != "200")),
        }
    )


def _task(number: int) -> AgentTask:
    asked = number - LOOK_BACK if number % REPEATED == 0 and number >= LOOK_BACK else number
    model = BUSY if asked % 50 == 0 else SPOILED if asked % 10 == 1 else FAILING
    return AgentTask("a", f"task {asked}", {"model": model})


def _counts() -> dict[str, float]:
    gc.collect()
    return {
        "resident memory, MB": memory.resident_mb(),
        "objects": len(gc.get_objects()),
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "open files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - only their number counts
    }


def _check_flat(half: dict[str, float], end: dict[str, float]) -> None:
    for name, now in end.items():
        if now > GROWTH.get(name, IN_FLIGHT_GROWTH) * half[name]:
            raise RuntimeError(f"{name}: {half[name]:,.0f} half way, {now:,.0f} at the end")


# ---------------------------------------------------------------- the bill


class _Line(msgspec.Struct, frozen=True):
    """What the bill needs of a line of the ledger."""

    success: bool
    model: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    estimated_cost: Decimal | None = None
    attempts: int = 1


def _check(ledger: Path, stats: dict[str, Any], count: int) -> None:
    """Refuse to say that all is well where it is not."""
    with ledger.open("rb") as file:
        lines = [msgspec.json.decode(line, type=_Line) for line in file]
    if len(lines) != count or not all(line.success for line in lines):
        raise RuntimeError(f"{count:,} turns ended well, and the ledger has {len(lines):,} lines")
    for model, billed in stats["usage"].items():
        ours = [line for line in lines if line.model == model]
        unknown = [line for line in ours if line.estimated_cost is None]
        known = sum(line.output_tokens or 0 for line in ours) // USAGE.output_tokens
        answers = billed["output_tokens"] // USAGE.output_tokens
        # A turn whose answer broke knows of none of its answers: it has had two at least, and no more than attempts.
        least, most = known + 2 * len(unknown), known + sum(line.attempts for line in unknown)
        if not least <= answers <= most or (unknown and SPOILED not in model):
            raise RuntimeError(
                f"{answers:,} answers of {model} were billed; the ledger has {known:,}, and {len(unknown):,} turns"
                f" of unknown cost"
            )
