"""The scenarios: each module's `run(iterations)` gives its figures by name."""

import statistics
import time
from collections.abc import Callable


def medians_in_turn(iterations: int, **subjects: Callable[[], object]) -> dict[str, float]:
    """The median seconds of each subject; they are measured in turns, so that a drift hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for subject in subjects.values():
        subject()
    for _ in range(iterations):
        for name, subject in subjects.items():
            started = time.perf_counter()
            subject()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}
