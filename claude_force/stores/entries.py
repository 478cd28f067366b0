"""What a store of cached answers does: sealed bytes under a key, figures that never lie, the least recently used goes.

A store keeps what it is given and understands none of it: that an entry is whole and ours is checked by who reads it
(`stores.seal`). `stores.contract` holds what every store must keep to.
"""

import math
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENTRY_OVERHEAD_BYTES = 256
"""What an entry counts beside its sealed bytes: its key, twice, and its places in tables and indexes."""


class StoreError(OSError):
    """The store cannot do what was asked: no room, no rights, damaged, or of a newer version. Says which."""


class StoreBusyError(StoreError):
    """Others are writing, for longer than this could wait."""


class StoreAwayError(StoreError):
    """The server that has the store does not answer, and is not asked for a moment: then it is tried again."""

    outage: int
    """Which one it is, for this process: nobody need be told twice of the same."""

    def __init__(self, message: str, *, outage: int) -> None:
        super().__init__(message)
        self.outage = outage


class Stored(NamedTuple):
    """One entry as it lies in the store."""

    id: int
    """Its place, where it has one; with `sealed` it tells this very entry from one that has replaced it since."""
    key: str
    sealed: bytes
    hits: int = 0
    """How often it was served, in all processes; `scan` knows."""


class AgentCounts(NamedTuple):
    """What the cache did for one agent."""

    hits: int = 0
    misses: int = 0
    saved: Decimal = Decimal(0)
    """What the hits would have cost, in US dollars."""


class Totals(NamedTuple):
    """Figures over all processes, since the store was made."""

    bytes: int
    """All entries, those in quarantine as well, each with its `ENTRY_OVERHEAD_BYTES`."""
    entries: int
    quarantined: int
    evictions: int
    integrity_failures: int
    generation: int
    """Grows whenever an entry is replaced or removed on purpose: then copies in memory may be out of date. Another one,
    even if it is smaller, says so as well: a server may have forgotten it."""
    by_agent: "Mapping[str, AgentCounts]"


class EntryStore(Protocol):
    """A store of sealed entries, shared by many threads and processes. Whatever fails is a `StoreError`.

    Uses are noted in memory and written down by `settle`, with the next `write`, and by `close`: a process that is
    killed loses those of the last moment, and with them nothing but figures and an order.
    """

    def read(self, key: str) -> Stored | None:
        """The entry under this key. Never waits for a writer."""

    def write(self, key: str, sealed: bytes, *, max_bytes: int, keep_s: float = math.inf) -> None:
        """Keep the entry in place of an older one, and remove the least recently used until all fit `max_bytes`.

        What cannot fit at all is not kept. A store on a server may leave the removing to the server. After `keep_s` an
        entry is of no more use, and may be forgotten.
        """

    def note_hit(self, agent: str, key: str, cost_usd: Decimal | None) -> None:
        """Count a hit for this agent, and a use of this key. Never waits, never fails."""

    def note_miss(self, agent: str) -> None:
        """Count a miss for this agent. Never waits, never fails."""

    def settle(self) -> None:
        """Write down what was noted. Never waits: while others write, it keeps it and raises `StoreBusyError`."""

    def remove(self, *stored: Stored) -> int:
        """Remove these entries, unless they were replaced since; how many it were."""

    def quarantine(self, stored: Stored) -> bool:
        """Move an entry out of the way and count an integrity failure, unless it was replaced since."""

    def scan(self) -> "Iterator[Stored]":
        """Every entry, without keeping others from writing; the least recently used first, where the store knows."""

    def totals(self) -> Totals:
        """The figures, with what was noted by this process."""

    def generation(self) -> int:
        """That of `totals`, without the work of counting."""

    def audit(self, *, repair: bool = False) -> bool:
        """Whether the size and the counts are those that counting anew gives; `repair` puts them right."""

    def clear(self) -> int:
        """Remove every entry, those in quarantine as well; how many it were. The counts of uses stay."""

    def close(self) -> None:
        """Settle and let go of files; a later call opens them anew."""

    def after_fork(self) -> None:
        """In a child process: forget connections and notes, which are the parent's."""
