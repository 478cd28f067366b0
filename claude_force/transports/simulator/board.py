"""What a simulator counts, and the gate that keeps answers back: the two things that tests and the server share.

The server's thread writes; any thread reads, waits and opens the gate.
"""

import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from claude_force.base.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """The counts of a simulator at one moment."""

    calls: "Mapping[str, int]" = field(default_factory=dict)
    """Requests by path; ids are written `{id}`, and what is not served is `"unknown"`."""
    statuses: "Mapping[int, int]" = field(default_factory=dict)
    """Responses begun, by status."""
    in_flight: int = 0
    """Requests whose response is not complete."""
    max_in_flight: int = 0
    abandoned: int = 0
    """Requests whose client left before the response was complete."""
    connections_open: int = 0
    connections_max: int = 0
    connections_made: int = 0
    usage: "Mapping[str, Usage]" = field(default_factory=dict)
    """What was billed, by model: every answer that began, whether or not it arrived whole."""
    batch_usage: "Mapping[str, Usage]" = field(default_factory=dict)
    """What was billed at half the price, by model: every answer in a batch."""


class Board:
    """Keeps the counts."""

    def __init__(self) -> None:
        self.changed = threading.Condition()  # protects every field below
        self._calls: Counter[str] = Counter()
        self._statuses: Counter[int] = Counter()
        self._in_flight = self._max_in_flight = self._abandoned = 0
        self._open = self._max_open = self._made = 0
        self._usage: dict[str, Usage] = {}

    def stats(self) -> Stats:
        """The counts now."""
        with self.changed:
            return Stats(
                calls=dict(self._calls),
                statuses=dict(self._statuses),
                in_flight=self._in_flight,
                max_in_flight=self._max_in_flight,
                abandoned=self._abandoned,
                connections_open=self._open,
                connections_max=self._max_open,
                connections_made=self._made,
                usage=dict(self._usage),
            )

    def connected(self) -> None:
        """A client has connected."""
        with self.changed:
            self._made += 1
            self._open += 1
            self._max_open = max(self._max_open, self._open)
            self.changed.notify_all()

    def disconnected(self) -> None:
        """A connection is gone."""
        with self.changed:
            self._open -= 1
            self.changed.notify_all()

    def arrived(self, route: str) -> None:
        """A request is there."""
        with self.changed:
            self._calls[route] += 1
            self._in_flight += 1
            self._max_in_flight = max(self._max_in_flight, self._in_flight)
            self.changed.notify_all()

    def began(self, status: int, billed: "tuple[str, Usage] | None") -> None:
        """A response begins."""
        with self.changed:
            self._statuses[status] += 1
            if billed:
                model, usage = billed
                self._usage[model] = self._usage.get(model, Usage(thinking_tokens=0)) + usage
            self.changed.notify_all()

    def ended(self, *, is_abandoned: bool) -> None:
        """A request is over."""
        with self.changed:
            self._in_flight -= 1
            self._abandoned += is_abandoned
            self.changed.notify_all()


class Gate:
    """Keeps answers back while it is closed. `enter` and `leave` are for the server's thread, the rest for any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects both fields
        self._passes: int | None = None
        self._waiting: deque[Callable[[], None]] = deque()

    def enter(self, go: "Callable[[], None]") -> bool:
        """True if `go` may go on by itself; else it is called once it may."""
        with self._lock:
            if self._passes is None:
                return True
            if self._passes:
                self._passes -= 1
                return True
            self._waiting.append(go)
            return False

    def leave(self, go: "Callable[[], None]") -> None:
        """Forget one that waits, if it does."""
        with self._lock:
            if go in self._waiting:
                self._waiting.remove(go)

    def close(self) -> None:
        """From now on everybody waits."""
        with self._lock:
            self._passes = self._passes or 0

    def open(self, count: int | None) -> "list[Callable[[], None]]":
        """Let the next `count` through (all, and for good, if it is `None`); returns those to call now."""
        with self._lock:
            if count is None:
                self._passes = None
                freed, self._waiting = list(self._waiting), deque()
                return freed
            freed = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
            if self._passes is not None:
                self._passes += count - len(freed)
            return freed
