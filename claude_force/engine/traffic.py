"""What the turns of one project share while they are under way: flights by request, gates by model, and warmth.

That is: breaker and limits of a model, and what of its prompts the prompt cache has.
"""

import threading
from typing import TYPE_CHECKING

import msgspec

from claude_force.engine.flight import Flights

if TYPE_CHECKING:
    from claude_force.base.clock import Clock
    from claude_force.engine.breaker import CircuitBreaker
    from claude_force.engine.limits import Limits
    from claude_force.engine.warming import Warmth


class Gate(msgspec.Struct, frozen=True):
    """What every request to one model passes."""

    breaker: "CircuitBreaker"
    limits: "Limits"


class Traffic:
    """Safe for all threads and tasks of a process."""

    def __init__(self, clock: "Clock", *, failure_threshold: int = 5, timeout_s: float = 60.0) -> None:
        self.flights = Flights()
        self._clock = clock
        self._failure_threshold = failure_threshold
        self._timeout_s = timeout_s
        self._lock = threading.Lock()  # protects the dict and who is made once
        self._gates: dict[str, Gate] = {}
        self._warmth: Warmth | None = None

    @property
    def warmth(self) -> "Warmth":
        """What the prompt cache has, made at the first question."""
        with self._lock:
            if self._warmth is None:
                from claude_force.engine.warming import Warmth  # noqa: PLC0415 - the response cache may answer all

                self._warmth = Warmth(self._clock)
            return self._warmth

    @property
    def gates(self) -> dict[str, Gate]:
        """Those that were made so far, by model."""
        with self._lock:
            return dict(self._gates)

    def gate(self, model: str) -> Gate:
        """The gate of this model, made at the first question."""
        with self._lock:
            if model not in self._gates:
                from claude_force.engine.breaker import CircuitBreaker  # noqa: PLC0415 - the cache may answer all
                from claude_force.engine.limits import Limits  # noqa: PLC0415

                breaker = CircuitBreaker(self._failure_threshold, self._timeout_s, name=model, clock=self._clock)
                self._gates[model] = Gate(breaker, Limits(self._clock))
            return self._gates[model]
