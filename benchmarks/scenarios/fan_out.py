"""A fan-out of 100 tasks, 20 at once, as over the files of a repository."""

from results import Figure
from work import independent, side_by_side


def run(iterations: int) -> dict[str, Figure]:
    """As one call, a semaphore and `gather`, a loop, and a map."""
    return side_by_side(iterations, lambda number: {"fan-out of 100": [independent(f"file {number}", 100)]})
