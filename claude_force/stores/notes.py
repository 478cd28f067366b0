"""Uses of cached answers, noted in memory until a store writes them down: `Notes`.

A killed process loses those of the last moment, and with them nothing but figures and an order.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from decimal import Decimal

import msgspec

from claude_force.stores.entries import AgentCounts

MOST_KEPT_NOTES = 65_535
"""Where nothing can be written down for long, the oldest are forgotten."""
PICO = Decimal("1e12")
"""Money lies in stores as a whole number of these: exact sums, and 9 million dollars fit."""

_Note = tuple[str, str | None, Decimal | None]
"""Of an agent: the key that was hit, and what that has saved; a miss has no key."""


class Counts(msgspec.Struct):
    """What is noted for one agent and not written down yet."""

    hits: int = 0
    misses: int = 0
    saved: Decimal = Decimal(0)


class Noted(msgspec.Struct, frozen=True):
    """What was taken, to be written down."""

    uses: dict[str, int]
    """How often each key was hit, the last used last."""
    agents: dict[str, Counts]


class Notes:
    """The notes of one process; its threads share them without a lock."""

    def __init__(self) -> None:
        self._notes = deque[_Note](maxlen=MOST_KEPT_NOTES)  # the last used last; appending to it needs no lock

    def __len__(self) -> int:
        return len(self._notes)

    def hit(self, agent: str, key: str, cost_usd: Decimal | None) -> None:
        """Note a hit."""
        self._notes.append((agent, key, cost_usd))

    def miss(self, agent: str) -> None:
        """Note a miss."""
        self._notes.append((agent, None, None))

    def take(self) -> Noted:
        """All of them, which are not noted any more: if writing fails, a moment's figures are lost."""
        notes: list[_Note] = []
        with suppress(IndexError):
            while True:
                notes.append(self._notes.popleft())
        uses: dict[str, int] = {}
        for _, key, _ in notes:
            if key is not None:
                uses[key] = uses.pop(key, 0) + 1
        return Noted(uses, _counted(notes))

    def added_to(self, counts: Mapping[str, AgentCounts]) -> dict[str, AgentCounts]:
        """What is written down, with what is noted."""
        sums = dict(counts)
        for agent, noted in _counted(self._notes.copy()).items():
            hits, misses, saved = sums.get(agent, AgentCounts())
            sums[agent] = AgentCounts(hits + noted.hits, misses + noted.misses, saved + noted.saved)
        return sums


def _counted(notes: Iterable[_Note]) -> dict[str, Counts]:
    """What they come to, by agent."""
    found: dict[str, Counts] = {}
    for agent, key, cost_usd in notes:
        counts = found.setdefault(agent, Counts())
        counts.hits += key is not None
        counts.misses += key is None
        counts.saved += cost_usd or 0
    return found
