"""A mixed day: 500 tasks of 8 agents, and what each saving takes off the bill, alone and all together.

The day is made of 25 jobs of 20 tasks, such as a nightly run over a folder: each is one command, at least an hour after
the one before, so that what Claude's prompt cache had is gone (but for what a job itself puts there). 30 % of the tasks
were asked before on that day, word for word. Every other job asks all its tasks about one long document; the tasks of
the rest have files of their own. Texts, files and what suffices for them (`tier`) come from the labelled set
(`benchmarks/routing`), drawn with a fixed seed in the shares of `MIX`; answers are as long as their label needs.

The bill is what the ledger says: the tokens that the simulator has billed, at the prices of today. It is compared with
the simulator's own count. What is not in it: stronger models may answer longer, and a real prompt cache may lose what a
busy server had no room for.
"""

import asyncio
import json
import random
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from claude_force import AgentTask, AsyncAgentOrchestrator
from claude_force.base.clock import SystemClock
from claude_force.base.models import Tier
from claude_force.base.records import Material
from claude_force.base.usage import Usage
from claude_force.insight.costs import read_costs
from claude_force.insight.counting import Selection
from claude_force.insight.figures import Costs
from claude_force.testing import Answer, SeenRequest, Simulator, Stats
from scenarios.routing import ANSWER, LabelledTask, read_tasks

STARTER = Path(__file__).parents[2] / ".claude" / "agents"
AGENTS = (
    "linter", "commit-message-writer", "docs-writer", "release-notes-writer", "type-checker", "test-writer",
    "code-reviewer", "bug-investigator",
)  # fmt: skip
JOBS, TASKS_A_JOB, REPEATED = 25, 20, 6
DOCUMENT_CHARS = (24_000, 80_000)
"""6,000 to 20,000 tokens: a module with its tests, a specification."""
MIX: dict[Tier, float] = {"haiku": 0.7, "sonnet": 0.25, "opus": 0.05}
"""Everyday work is mostly plain; an assumption, so the figures of the labelled set's own mix are printed, too."""
SEED = 20261126


@dataclass(frozen=True)
class Savings:
    """Which of them are on."""

    cache: bool = False
    prompt_cache: bool = False
    batch: bool = False
    max_tier: Tier | None = None
    """Of the router; `None` is no router: all by the middle tier."""


OFF = Savings()
SUBJECTS = {
    "response cache alone": Savings(cache=True),
    "prompt cache alone": Savings(prompt_cache=True),
    "batches alone": Savings(batch=True),
    "routing alone, up to the middle tier": Savings(max_tier="sonnet"),
    "routing alone, up to the top tier": Savings(max_tier="opus"),
    "all, up to the middle tier": Savings(cache=True, prompt_cache=True, batch=True, max_tier="sonnet"),
    "all, up to the top tier": Savings(cache=True, prompt_cache=True, batch=True, max_tier="opus"),
}


@dataclass(frozen=True)
class Asked:
    """One task of the day."""

    agent: str
    text: str
    materials: tuple[Material, ...]
    tier: Tier

    @property
    def task(self) -> AgentTask:
        """As the orchestrator takes it."""
        return AgentTask(self.agent, self.text, {"materials": self.materials})


class DayClock(SystemClock):
    """A clock that is set forward between two jobs, for the simulator: what its prompt cache keeps grows old by it."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        """The time of that day."""
        return super().now() + self.ahead

    def monotonic(self) -> float:
        """Seconds."""
        return super().monotonic() + self.ahead.total_seconds()


def run(iterations: int) -> dict[str, float]:  # noqa: ARG001 - nothing here is a time
    """Dollars and shares in percent; the mix of `MIX`, then the labelled set's own."""
    figures: dict[str, float] = {}
    tasks = read_tasks()
    even = {tier: sum(task.tier == tier for task in tasks) / len(tasks) for tier in MIX}
    for name, mix in (("everyday mix", MIX), ("balanced mix", even)):
        day = list(make_day(tasks, mix))
        off = asyncio.run(bill_of(day, OFF))
        figures[f"{name}: everything off, all by the middle tier, $"] = float(off)
        for subject, savings in SUBJECTS.items():
            figures[f"{name}: {subject}, % less"] = float(100 * (1 - asyncio.run(bill_of(day, savings)) / off))
    return figures


def make_day(tasks: list[LabelledTask], mix: dict[Tier, float]) -> Iterator[list[Asked]]:
    """The jobs of the day, in order."""
    dice = random.Random(SEED)  # noqa: S311 - the same day each time
    by_tier = {tier: [task for task in tasks if task.tier == tier] for tier in mix}
    asked: dict[str, list[Asked]] = {agent: [] for agent in AGENTS}
    for number in range(JOBS):
        agent = AGENTS[number % len(AGENTS)]
        # Word for word what was asked before; where an agent works for the first time, the others repeat more.
        repeated = dice.sample(asked[agent], REPEATED * JOBS // (JOBS - len(AGENTS))) if asked[agent] else []
        document = _text(f"document {number}", dice.randrange(*DOCUMENT_CHARS)) if number % 2 else None
        new = []
        for place in range(TASKS_A_JOB - len(repeated)):
            (tier,) = dice.choices(list(mix), list(mix.values()))
            drawn = dice.choice(by_tier[tier])
            files = [document] if document else [_text(f"file {number} {place}", chars) for chars in drawn.files]
            new.append(Asked(agent, f"{drawn.task} (item {number}-{place})", tuple(files), tier))
        asked[agent] += new
        yield [*repeated, *new]


def _text(name: str, chars: int) -> Material:
    return Material(name, f"{name}: a line of text that is like others\n" * (chars // 50))


async def bill_of(day: list[list[Asked]], savings: Savings) -> Decimal:
    """What the day costs with these savings."""
    tiers = {asked.text[asked.text.rindex("(item") :]: asked.tier for job in day for asked in job}

    def answer(request: SeenRequest) -> Answer:
        tokens = ANSWER[tiers[request.prompt[request.prompt.rindex("(item") :]]]
        return Answer("done" * tokens)  # of which the simulator counts each as one

    clock = DayClock()
    with tempfile.TemporaryDirectory() as name, Simulator(answer, clock=clock, max_recorded=0) as simulator:
        folder = _project(Path(name), savings)
        for job in day:
            async with AsyncAgentOrchestrator(
                api_key="k", base_url=simulator.base_url, project_dir=folder, enable_cache=savings.cache
            ) as subject:
                execute = subject.execute_batch if savings.batch else subject.execute_multiple
                await execute([asked.task for asked in job])
            clock.ahead += timedelta(hours=1)
        total = read_costs(folder / ".claude/metrics/executions.jsonl", Selection(simulated=True)).total
        _check(total, simulator.stats)
    return total.cost_usd + (0 if savings.prompt_cache else total.saved_by_prompt_cache_usd)


def _project(folder: Path, savings: Savings) -> Path:
    """Our own agents, but for the model that their files name."""
    agents = folder / ".claude" / "agents"
    agents.mkdir(parents=True)
    for agent in AGENTS:
        text = (STARTER / f"{agent}.md").read_text()
        (agents / f"{agent}.md").write_text(re.sub(r"^(model|effort): .*\n", "", text, flags=re.MULTILINE))
    config: dict[str, object] = {"defaults": {"model": "sonnet"}}
    if savings.max_tier:
        config["routing"] = {"enabled": True, "max_tier": savings.max_tier}
    (folder / ".claude/claude.json").write_text(json.dumps(config))
    return folder


def _check(total: Costs, stats: Stats) -> None:
    """Refuse to print a bill that is not the server's."""
    ours = (total.input_tokens, total.cache_read_tokens, total.cache_write_tokens, total.output_tokens)
    usage = sum((*stats.usage.values(), *stats.batch_usage.values()), Usage())
    written = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    theirs = (usage.input_tokens, usage.cache_read_tokens, written, usage.output_tokens)
    if ours != theirs or total.unpriced or total.failures:
        raise RuntimeError(f"the ledger has {ours} tokens, the server has billed {theirs}; {total}")
