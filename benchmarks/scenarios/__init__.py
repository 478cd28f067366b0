"""The scenarios: each module's `run(iterations)` gives its figures by name.

A plain number is one that was measured once, or a median of a measurement's own; a `Figure` knows its noise.
"""

import statistics
import time
from collections.abc import Callable


def medians_in_turn(iterations: int, **subjects: Callable[[], object]) -> dict[str, float]:
    """The median seconds of each subject, measured in turns."""
    return {name: statistics.median(times) for name, times in in_turn(iterations, **subjects).items()}


def in_turn(iterations: int, **subjects: Callable[[], object]) -> dict[str, list[float]]:
    """The seconds of each subject, round by round; they are measured in turns, so that a drift hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for subject in subjects.values():
        subject()
    for _ in range(iterations):
        for name, subject in subjects.items():
            started = time.perf_counter()
            subject()
            times[name].append(time.perf_counter() - started)
    return times
