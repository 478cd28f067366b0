"""Warm fan-out: 20 turns that share 20,000 tokens; what is billed fresh, written and read, and how long it takes."""

import asyncio
import time

from claude_force import AsyncAgentOrchestrator
from claude_force.base.usage import Usage
from claude_force.testing import Latency, Simulator
from project import project
from results import Figure, measured

TURNS = 20
PREFIX_TOKENS = 20_000
MODEL = "claude-sonnet-5-5"
FIRST_TOKEN_S = 1.0
PER_TOKEN_S = 0.02
ANSWER = "word " * 60  # 75 tokens: 1.5 s after the first


def run(iterations: int) -> dict[str, float | Figure]:
    """With and without, in turns; tokens are those of the shared prefix, as the simulator has billed them."""
    figures: dict[str, float] = {"first token, s": FIRST_TOKEN_S}
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(max(1, iterations // 2)):
        for is_warm in (True, False):
            taken_s, usage, cost_usd = asyncio.run(_fan_out(is_warm=is_warm))
            seconds[is_warm].append(taken_s)
            name = "warm" if is_warm else "cold"
            figures[f"prefixes billed as fresh: {name}"] = usage.input_tokens // PREFIX_TOKENS
            figures[f"prefixes written: {name}"] = usage.cache_write_5m_tokens // PREFIX_TOKENS
            figures[f"prefixes read: {name}"] = usage.cache_read_tokens // PREFIX_TOKENS
            figures[f"cost, cents: {name}"] = cost_usd * 100
    later = [(warm - cold) / FIRST_TOKEN_S for warm, cold in zip(seconds[True], seconds[False], strict=True)]
    return figures | {
        "makespan, s: warm": measured(seconds[True]),
        "makespan, s: cold": measured(seconds[False]),
        "warm later than cold, in first-token latencies": measured(later, "lower"),
        "cold over warm, cost": measured([figures["cost, cents: cold"] / figures["cost, cents: warm"]], "higher"),
    }


async def _fan_out(*, is_warm: bool) -> tuple[float, Usage, float]:
    latency = Latency(FIRST_TOKEN_S, per_token_s=PER_TOKEN_S)
    agents, config = {"a": "A rule to obey. " * (PREFIX_TOKENS // 4)}, {"cache": {"warm_fan_out": is_warm}}
    with project(agents, model=MODEL, config=config) as folder, Simulator(ANSWER, latency=latency) as simulator:
        async with AsyncAgentOrchestrator(None, "k", TURNS, base_url=simulator.base_url, project_dir=folder) as subject:
            await subject.execute_agent("a", "warm up", model="haiku")  # the SDK is loaded before the clock starts
            started = time.perf_counter()
            results = await subject.execute_multiple([("a", f"task {number}") for number in range(TURNS)])
            taken_s = time.perf_counter() - started
        costs = [getattr(result, "cost_usd", None) or 0 for result in results]
        return taken_s, simulator.stats.usage[MODEL], float(sum(costs))
