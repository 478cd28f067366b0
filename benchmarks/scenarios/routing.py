"""Which model the router takes for 126 labelled tasks: how often that agrees, what it costs, and what mistakes cost.

What the labels are worth: `benchmarks/routing/README.md`. Costs are at the prices of `DAY`, with the same tokens
whatever the model: a prompt of a token for each three characters, and the answer's length by the label (`ANSWER`).
More effort makes longer answers, by how much nobody has told; that is not in it. A task that went too low is paid
twice in the figures "with redoing": once for nothing, and once by the tier of its label.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec

from claude_force.base.models import CURRENT, TIERS, Tier
from claude_force.base.pricing import Prices
from claude_force.base.usage import Usage
from claude_force.engine.router import TaskTraits, route
from scenarios import medians_in_turn

TASKS = Path(__file__).parents[1] / "routing" / "tasks.jsonl"
DAY = datetime(2026, 11, 20, tzinfo=UTC)
SYSTEM_CHARS = 4_500
"""Of an agent's file, as those that come with us have."""
ANSWER: dict[Tier, int] = {"haiku": 300, "sonnet": 2_000, "opus": 4_000}
"""Tokens: some lines, three pages, six pages."""
_PRICES = Prices()


class LabelledTask(msgspec.Struct, frozen=True):
    """One line of the set."""

    task: str
    tier: Tier
    """The lowest that suffices."""
    files: tuple[int, ...] = ()
    """The characters of each."""

    def routed(self, max_tier: Tier = "opus") -> Tier:
        """What the router takes."""
        traits = TaskTraits(text=self.task, file_chars=self.files)
        return route(traits, min_tier="haiku", max_tier=max_tier).rung.tier

    def cost_usd(self, tier: Tier) -> Decimal:
        """What it costs by that tier."""
        prompt_tokens = (SYSTEM_CHARS + len(self.task) + sum(self.files)) // 3
        cost = _PRICES.cost_usd(CURRENT[tier], Usage(input_tokens=prompt_tokens, output_tokens=ANSWER[self.tier]), DAY)
        if cost is None:
            raise LookupError(f"{CURRENT[tier]} has no price; update genai-prices")
        return cost

    def routed_usd(self, max_tier: Tier = "opus", *, redoing: bool = False) -> Decimal:
        """What it costs as it is routed, and once more where that was too low."""
        tier = self.routed(max_tier)
        again = redoing and TIERS.index(tier) < TIERS.index(self.tier)
        return self.cost_usd(tier) + (self.cost_usd(self.tier) if again else Decimal(0))


def run(iterations: int) -> dict[str, float]:
    """Shares in percent."""
    tasks = read_tasks()
    held_out = tasks[2::3]
    known = [task for number, task in enumerate(tasks) if number % 3 != 2]  # noqa: PLR2004 - every third is held out
    low = [task for task in tasks if TIERS.index(task.routed()) < TIERS.index(task.tier)]
    high = [task for task in tasks if TIERS.index(task.routed()) > TIERS.index(task.tier)]
    middle = sum(task.cost_usd("sonnet") for task in tasks)
    seconds = medians_in_turn(iterations, all=lambda: [task.routed() for task in tasks])
    figures: dict[str, float] = {
        f"agreement, {len(known)} tasks that were looked at, %": agreement(known),
        f"agreement, {len(held_out)} tasks held out, %": agreement(held_out),
        "too low, %": _share(len(low), len(tasks)),
        "too high, %": _share(len(high), len(tasks)),
        "hard tasks sent to the bottom": sum(task.tier == "opus" and task.routed() == "haiku" for task in tasks),
        "plain tasks sent to the top": sum(task.tier == "haiku" and task.routed() == "opus" for task in tasks),
        "cost over always sonnet, %": _share(_routed_usd(tasks), middle),
        "cost over always opus, %": _share(_routed_usd(tasks), sum(task.cost_usd("opus") for task in tasks)),
        "cost over always fable, %": _share(_routed_usd(tasks), sum(task.cost_usd("fable") for task in tasks)),
        "cost over always opus, with redoing, %": _share(
            _routed_usd(tasks, redoing=True), sum(task.cost_usd("opus") for task in tasks)
        ),
        "cost over the labels' own tiers, with redoing, %": _share(
            _routed_usd(tasks, redoing=True), sum(task.cost_usd(task.tier) for task in tasks)
        ),
        "cost with max_tier sonnet over always sonnet, %": _share(_routed_usd(tasks, "sonnet"), middle),
    }
    for tier in ANSWER:
        labelled = [task for task in tasks if task.tier == tier]
        always = sum(task.cost_usd("sonnet") for task in labelled)
        figures[f"cost of {tier} tasks over always sonnet, %"] = _share(_routed_usd(labelled), always)
    return figures | {"a decision, us": seconds["all"] / len(tasks) * 1e6}


def read_tasks() -> list[LabelledTask]:
    """The whole set, in its order."""
    return [msgspec.json.decode(line, type=LabelledTask) for line in TASKS.read_bytes().splitlines()]


def agreement(tasks: Sequence[LabelledTask]) -> float:
    """How many went where their label says, in percent."""
    return _share(sum(task.routed() == task.tier for task in tasks), len(tasks))


def _routed_usd(tasks: Sequence[LabelledTask], max_tier: Tier = "opus", *, redoing: bool = False) -> Decimal:
    return sum((task.routed_usd(max_tier, redoing=redoing) for task in tasks), Decimal(0))


def _share(part: Decimal | int, whole: Decimal | int) -> float:
    return float(100 * Decimal(part) / Decimal(whole))
