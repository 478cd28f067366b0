"""Limits and circuit breakers that the processes of many machines share: what they know lies in documents on a server.

They are those of `limits` and `breaker`, by the same laws; times are the server's. While it is away, each process goes
on with limits and breakers of its own, and with the shared ones when it is back: an API that is asked too often says so
itself. `SharedDocuments` warns once for each time.

The line of a process stays its own. Its head asks the server; where others elsewhere are in its way, nobody here will
say when they are gone, so it asks again, less and less often.
"""

import math
from typing import TYPE_CHECKING, TypeVar

from claude_force.engine.breaker import Circuit, CircuitBreaker
from claude_force.engine.limits import Flow, Limits, Ticket

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.base.clock import Clock
    from claude_force.base.ports import Documents

T = TypeVar("T")
Kept = TypeVar("Kept", Circuit, Flow)

FIRST_LOOK_S, LAST_LOOK_S = 0.02, 0.5


class SharedBreaker(CircuitBreaker):
    """The circuit breaker of a model, for all who share its document. Its methods may stall."""

    def __init__(
        self,
        documents: "Documents",
        document: str,
        failure_threshold: int,
        timeout: float,
        *,
        name: str,
        clock: "Clock",
    ) -> None:
        super().__init__(failure_threshold, timeout, name=name, clock=clock)
        self._documents, self._document = documents, document

    def _name_caller(self) -> str:
        return f"{self._documents.owner}-{super()._name_caller()}"

    def _change(self, decide: "Callable[[Circuit, float], T]") -> T:
        return _changed(self._documents, self._document, Circuit, decide, alone=super()._change)


class SharedLimits(Limits):
    """The limits of a model, for all who share their document. Its methods may stall."""

    def __init__(self, documents: "Documents", document: str, *, clock: "Clock") -> None:
        super().__init__(clock)
        self._documents, self._document = documents, document

    def try_start(self, ticket: Ticket, *, lease_s: float | None = None) -> float | None:
        """See `Limits.try_start`. No wait of the head of the line is without an end."""
        wait = super().try_start(ticket, lease_s=lease_s)
        if wait is None or not self._may_ask(ticket):
            return wait
        pause_s = min(FIRST_LOOK_S * 2.0 ** min(ticket.looks, 9), LAST_LOOK_S)
        ticket.looks += 1
        return pause_s if wait == math.inf else max(wait, pause_s)

    def _name_ticket(self) -> str:
        return f"{self._documents.owner}-{super()._name_ticket()}"

    def _change(self, decide: "Callable[[Flow, float], T]") -> T:
        return _changed(self._documents, self._document, Flow, decide, alone=super()._change)


def _changed(
    documents: "Documents",
    document: str,
    kind: "type[Kept]",
    decide: "Callable[[Kept, float], T]",
    *,
    alone: "Callable[[Callable[[Kept, float], T]], T]",
) -> T:
    """What the function says of what lies there, which it may change; while the server is away, of this process's."""
    try:
        return documents.change([document], kind, lambda kept, now_s: decide(kept[0], now_s))
    except OSError as error:
        documents.warn(error)
        return alone(decide)
