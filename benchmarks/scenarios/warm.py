"""Warm fan-out: 20 turns that share 20,000 tokens; what is billed fresh, written and read, and how long it takes."""

import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from claude_force import AsyncAgentOrchestrator
from claude_force.base.usage import Usage
from claude_force.testing import Latency, Simulator

TURNS = 20
PREFIX_TOKENS = 20_000
MODEL = "claude-sonnet-5-5"
FIRST_TOKEN_S = 1.0
PER_TOKEN_S = 0.02
ANSWER = "word " * 60  # 75 tokens: 1.5 s after the first


def run(iterations: int) -> dict[str, float]:
    """With and without, in turns; tokens are those of the shared prefix, as the simulator has billed them."""
    figures: dict[str, float] = {"first token, s": FIRST_TOKEN_S}
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(max(1, iterations // 7)):
        for is_warm in (True, False):
            taken_s, usage, cost_usd = asyncio.run(_fan_out(is_warm=is_warm))
            seconds[is_warm].append(taken_s)
            name = "warm" if is_warm else "cold"
            figures[f"{name}: prefixes billed as fresh"] = usage.input_tokens // PREFIX_TOKENS
            figures[f"{name}: prefixes written"] = usage.cache_write_5m_tokens // PREFIX_TOKENS
            figures[f"{name}: prefixes read"] = usage.cache_read_tokens // PREFIX_TOKENS
            figures[f"{name}: cost, cents"] = cost_usd * 100
    warm_s, cold_s = (statistics.median(seconds[is_warm]) for is_warm in (True, False))
    return figures | {
        "warm: makespan, s": warm_s,
        "cold: makespan, s": cold_s,
        "warm later than cold, in first-token latencies": (warm_s - cold_s) / FIRST_TOKEN_S,
        "cold over warm, cost": figures["cold: cost, cents"] / figures["warm: cost, cents"],
    }


async def _fan_out(*, is_warm: bool) -> tuple[float, Usage, float]:
    latency = Latency(FIRST_TOKEN_S, per_token_s=PER_TOKEN_S)
    with tempfile.TemporaryDirectory() as name, Simulator(ANSWER, latency=latency) as simulator:
        folder = Path(name)
        (folder / ".claude/agents").mkdir(parents=True)
        (folder / ".claude/claude.json").write_text(json.dumps({"cache": {"warm_fan_out": is_warm}}))
        agent = folder / ".claude/agents/a.md"
        body = "A rule to obey. " * (PREFIX_TOKENS // 4)
        agent.write_text(f"---\nname: a\ndescription: d\nmodel: {MODEL}\n---\n{body}\n")
        os.utime(agent, (0, 0))  # a file that was just written is read again each time, in case it changes
        async with AsyncAgentOrchestrator(None, "k", TURNS, base_url=simulator.base_url, project_dir=folder) as subject:
            await subject.execute_agent("a", "warm up", model="haiku")  # the SDK is loaded before the clock starts
            started = time.perf_counter()
            results = await subject.execute_multiple([("a", f"task {number}") for number in range(TURNS)])
            taken_s = time.perf_counter() - started
        costs = [getattr(result, "cost_usd", None) or 0 for result in results]
        return taken_s, simulator.stats.usage[MODEL], float(sum(costs))
