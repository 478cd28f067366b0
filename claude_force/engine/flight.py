"""Single flight: identical requests that are in the air at once share one call, across tasks and threads.

The first one leads and asks; the others follow and wait. What the leader gets, all get. If it fails or is cancelled,
the next one leads, for it may have more time or luck, and the others go on waiting; only an error that every further
call would meet is shared.
"""

import threading
from typing import TYPE_CHECKING

import msgspec

from claude_force.engine.outside import Signal

if TYPE_CHECKING:
    from claude_force.base.errors import ClaudeForceError
    from claude_force.base.records import KeptReply

    Outcome = KeptReply | ClaudeForceError


class Seat(msgspec.Struct, eq=False):
    """One turn's part in a flight."""

    key: str
    thread: int
    leads: bool
    """Whether it is this turn that asks; may become true while it waits."""
    flies_alone: bool = False
    """Others of its thread take part, who cannot move while it waits: so it waits for nobody."""
    called: Signal = msgspec.field(default_factory=Signal)
    """Raised when it leads, or when there is an outcome."""
    outcome: "Outcome | None" = None
    """What the leader got for all."""


class Flights:
    """The requests in the air, by key: those who take part in each, the leader first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects the dict, and what its seats say
        self._flights: dict[str, dict[Seat, None]] = {}

    def board(self, key: str, *, is_blocking: bool) -> Seat:
        """Take part: as the leader, if there is none yet; else as one that waits.

        A turn that blocks its thread flies alone where others of that thread take part: they could not move.
        """
        me = threading.get_ident()
        with self._lock:
            seats = self._flights.setdefault(key, {})
            if is_blocking and any(seat.thread == me for seat in seats):
                return Seat(key, me, leads=True, flies_alone=True)
            seat = Seat(key, me, leads=not seats)
            seats[seat] = None
        return seat

    def leave(self, seat: Seat, outcome: "Outcome | None") -> None:
        """End one's part. A leader says what it got for all; `None` is nothing, so that another one leads."""
        with self._lock:
            seats = self._flights.get(seat.key, {})
            if seat not in seats:
                return
            del seats[seat]
            called = list(seats) if outcome is not None else []
            if outcome is None and seat.leads:
                called = list(seats)[:1]
            for other in called:
                other.leads, other.outcome = outcome is None, outcome
            if outcome is not None or not seats:
                del self._flights[seat.key]
        for other in called:
            other.called.fire()
