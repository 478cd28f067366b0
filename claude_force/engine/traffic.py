"""What the turns of one project share while they are under way: flights by request, and gates by model and endpoint.

A gate is breaker and limits of a model there, and what of its prompts the prompt cache has.
"""

import threading
from typing import TYPE_CHECKING

import msgspec

from claude_force.base.errors import ClaudeForceError
from claude_force.engine.flight import Flights

if TYPE_CHECKING:
    from claude_force.base.clock import Clock
    from claude_force.base.ports import Documents
    from claude_force.base.records import Reply, Request
    from claude_force.engine.breaker import CircuitBreaker, Permit
    from claude_force.engine.limits import Limits, Ticket
    from claude_force.engine.warming import Warmth


class Gate(msgspec.Struct, frozen=True):
    """What every request to one model at one endpoint passes."""

    breaker: "CircuitBreaker"
    limits: "Limits"
    warmth: "Warmth"
    """What the prompt cache has there."""
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

    def outlook(self, request: "Request") -> tuple[float, float, bool]:
        """How soon a request would get through, the least first: breaker, limits, and a line where nobody can tell."""
        return self.breaker.retry_after_s, *self.limits.outlook(request)


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
        self._gates: dict[tuple[str, str], Gate] = {}
        self.left_out: set[str] = set()
        """Endpoints whose account said no for good; each look and change is one operation."""

    @property
    def is_shared(self) -> bool:
        """Whether other machines share the gates: then to ask them may stall."""
        return self._shared is not None

    @property
    def gates(self) -> dict[tuple[str, str], Gate]:
        """Those that were made so far, by model and endpoint."""
        with self._lock:
            return dict(self._gates)

    def gate(self, model: str, endpoint: str = "") -> Gate:
        """The gate of this model there, made at the first question."""
        with self._lock:
            place = (model, endpoint)
            if place not in self._gates:
                self._gates[place] = self._made(model, endpoint)
            return self._gates[place]

    def _made(self, model: str, endpoint: str) -> Gate:
        from claude_force.engine.warming import Warmth  # noqa: PLC0415 - the cache may answer all

        name, clock = f"{model} at {endpoint}" if endpoint else model, self._clock
        law, warmth = (self._failure_threshold, self._timeout_s), Warmth(clock)
        if self._shared is None:
            from claude_force.engine.breaker import CircuitBreaker  # noqa: PLC0415 - as above
            from claude_force.engine.limits import Limits  # noqa: PLC0415

            return Gate(CircuitBreaker(*law, name=name, clock=clock), Limits(clock), warmth)
        from claude_force.engine.shared import SharedBreaker, SharedLimits  # noqa: PLC0415 - most share nothing

        where = f"{self._server or 'claude'} {name}"
        breaker = SharedBreaker(self._shared, f"breaker {where}", *law, name=name, clock=clock)
        return Gate(breaker, SharedLimits(self._shared, f"limits {where}", clock=clock), warmth, is_shared=True)
