"""A fan-out of 100 tasks, 20 at once, as over the files of a repository."""

from results import Figure
from work import independent, side_by_side


def run(iterations: int) -> dict[str, Figure]:
    """As one call, a semaphore and `gather`, a loop, and a map."""
    rounds = max(1, iterations // 2)  # the loop takes 14 s
    return side_by_side(rounds, lambda number: {"fan-out of 100": [independent(f"file {number}", 100)]})
