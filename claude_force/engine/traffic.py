"""What the turns of one project share while they are under way: flights by request, gates by model, and warmth.

That is: breaker and limits of a model, and what of its prompts the prompt cache has.
"""

import threading
from typing import TYPE_CHECKING

import msgspec

from claude_force.base.errors import ClaudeForceError
from claude_force.engine.flight import Flights

if TYPE_CHECKING:
    from claude_force.base.clock import Clock
    from claude_force.base.ports import Documents
    from claude_force.base.records import Reply
    from claude_force.engine.breaker import CircuitBreaker, Permit
    from claude_force.engine.limits import Limits, Ticket
    from claude_force.engine.warming import Warmth


class Gate(msgspec.Struct, frozen=True):
    """What every request to one model passes."""

    breaker: "CircuitBreaker"
    limits: "Limits"
    is_shared: bool = False
    """With other machines: then all of it may stall."""

    def admit(self, ticket: "Ticket", *, lease_s: float | None) -> "Permit | float":
        """A permit to send now; else the seconds to wait, unless the ticket's signal comes first.

        Raises `CircuitOpenError`. The breaker is asked anew each time: it may have opened since, and a probe must not
        stand in a line.
        """
        permit = self.breaker.enter()
        wait = self.limits.try_start(ticket, lease_s=lease_s)
        if wait is None:
            return permit
        permit.abandoned()
        return wait

    def leave(self, ticket: "Ticket", permit: "Permit | None", outcome: "Reply | ClaudeForceError | None") -> None:
        """Tell both how it ended; `None` is a cancellation."""
        if permit is not None:
            _tell(permit, outcome)
        self.limits.leave(ticket, outcome)  # after that, for it wakes the next one, who asks the breaker


def _tell(permit: "Permit", outcome: "Reply | ClaudeForceError | None") -> None:
    """Whether the model is there: a stream that breaks off says no, our own cancellation says nothing."""
    if isinstance(outcome, ClaudeForceError):
        from claude_force.engine.breaker import is_outage  # noqa: PLC0415 - with the breaker, when something is sent

        (permit.failed if is_outage(outcome) else permit.abandoned)()
    elif outcome is None:
        permit.abandoned()
    else:
        (permit.failed if outcome.stop_reason is None else permit.succeeded)()


class Traffic:
    """Safe for all threads and tasks of a process."""

    def __init__(
        self,
        clock: "Clock",
        *,
        failure_threshold: int = 5,
        timeout_s: float = 60.0,
        shared: "Documents | None" = None,
        server: str = "",
    ) -> None:
        """With `shared`, gates are those of all machines that ask the same server; it is empty for Claude itself."""
        self.flights = Flights()
        self._clock = clock
        self._failure_threshold = failure_threshold
        self._timeout_s = timeout_s
        self._shared = shared
        self._server = server
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
                self._gates[model] = self._own(model) if self._shared is None else self._common(model, self._shared)
            return self._gates[model]

    def _own(self, model: str) -> Gate:
        from claude_force.engine.breaker import CircuitBreaker  # noqa: PLC0415 - the cache may answer all
        from claude_force.engine.limits import Limits  # noqa: PLC0415

        breaker = CircuitBreaker(self._failure_threshold, self._timeout_s, name=model, clock=self._clock)
        return Gate(breaker, Limits(self._clock))

    def _common(self, model: str, documents: "Documents") -> Gate:
        from claude_force.engine.shared import SharedBreaker, SharedLimits  # noqa: PLC0415 - most share nothing

        name, clock, where = model, self._clock, f"{self._server or 'claude'} {model}"
        law = (self._failure_threshold, self._timeout_s)
        breaker = SharedBreaker(documents, f"breaker {where}", *law, name=name, clock=clock)
        return Gate(breaker, SharedLimits(documents, f"limits {where}", clock=clock), is_shared=True)
