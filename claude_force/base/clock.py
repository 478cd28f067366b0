"""Time and chance as an argument, so that a replay or a test is exact."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where the engine gets the time and its dice from."""

    def now(self) -> datetime:
        """The wall clock, in UTC: for records."""

    def monotonic(self) -> float:
        """Seconds that only grow: for durations and deadlines."""

    def roll(self) -> float:
        """A random number in [0, 1): for jitter."""


class SystemClock:
    """The machine's own clock and dice."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    def roll(self) -> float:
        """A random number in [0, 1)."""
        import random  # noqa: PLC0415 - 2 ms that only trouble costs

        return random.random()  # noqa: S311 - jitter, not a secret
