"""A mixed day: 4 single reviews, 2 workflows of three agents, a nightly run over 20 files, and a second one.

The second nightly run meets 14 files as they were, and 6 that were changed. What such days cost in dollars, with each
saving alone, is the scenario `cost`.
"""

import itertools

from results import Figure
from scenarios.three_agents import workflow
from work import Work, independent, side_by_side

FILES, UNCHANGED = 20, 14


def run(iterations: int) -> dict[str, Figure]:
    """As one client does it all, with what it remembers of it."""
    return side_by_side(
        iterations,
        lambda number: {"a mixed day": day(f"day {number}")},
        peers=["SDK, asyncio.gather", "SDK, gather, diskcache", "langgraph"],
    )


def day(name: str) -> list[Work]:
    """What is done, in its order."""
    reviews = [independent(f"{name} review {number}", 1, tokens=300) for number in range(4)]
    workflows = [workflow(f"{name} workflow {number}") for number in range(2)]
    night = independent(f"{name} night", FILES)
    changed = independent(f"{name} changed", FILES - UNCHANGED)
    again = dict(itertools.islice(night.items(), UNCHANGED)) | {f"new {key}": step for key, step in changed.items()}
    return [*reviews, *workflows, night, again]
