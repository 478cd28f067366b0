"""Single flight: identical requests that are in the air at once share one call, across tasks and threads.

The first one leads and asks; the others follow and wait. What the leader gets, all get. If it fails, one of those that
waited leads, for it may have more time or luck; only an error that every further call would meet is shared. A leader
that is cancelled loses nobody either.
"""

import threading
from typing import TYPE_CHECKING, NamedTuple

from claude_force.engine.outside import Signal

if TYPE_CHECKING:
    from claude_force.base.errors import ClaudeForceError
    from claude_force.base.records import Reply


class Flight:
    """One request in the air."""

    def __init__(self, leader: int) -> None:
        self.leader = leader
        """The thread that the leader lives in."""
        self.over = Signal()
        self.outcome: Reply | ClaudeForceError | None = None
        """What the leader got; `None` until it is over, and where the leader was cancelled."""


class Boarding(NamedTuple):
    """How a turn takes part in a flight."""

    flight: Flight
    leads: bool


class Flights:
    """The requests in the air, by key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects the dict
        self._flights: dict[str, Flight] = {}

    def board(self, key: str, *, is_blocking: bool) -> Boarding:
        """Lead the flight of this key, if nobody does; else follow.

        A turn that blocks its thread flies alone where the leader lives in that thread: it could never land.
        """
        me = threading.get_ident()
        with self._lock:
            known = self._flights.get(key)
            if known is not None and not (is_blocking and known.leader == me):
                return Boarding(known, leads=False)
            flight = Flight(me)
            self._flights.setdefault(key, flight)
            return Boarding(flight, leads=True)

    def land(self, key: str, flight: Flight) -> None:
        """End the flight, and wake those that follow."""
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
        flight.over.fire()
