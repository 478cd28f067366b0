"""What a run asks of an engine: hand this over, how does it stand, take it back. What it is about, no engine knows.

An id is given by who hands over: what is known already is not handed over again, so that whoever takes a run up joins
what is under way. Calls block, and are short; whoever waits looks again.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

import msgspec

State = Literal["waiting", "running", "done", "cancelled", "lost"]
"""`lost` is what nobody does any more: each worker that took it has died of it, or could not read it."""


class UnreachableError(Exception):
    """The engine does not answer now, and may again later."""


class Standing(msgspec.Struct, frozen=True):
    """How a piece of work stands."""

    state: State
    outcome: bytes | None = None
    """What came of it, where it is done."""


class Engine(Protocol):
    """Hands work to workers. Safe for threads."""

    def open(self) -> None:
        """Connect, and make what is needed. Raises `EngineError` or `ConfigError` where that cannot be."""

    def submit(self, id_: str, work: bytes) -> None:
        """Hand this over, unless the id is known. Raises `UnreachableError`."""

    def look(self, ids: Iterable[str]) -> Mapping[str, Standing]:
        """How these stand; without those that are not known. Raises `UnreachableError`."""

    def cancel(self, id_: str) -> bool:
        """Take it back if nobody has begun; whether that was so. Raises `UnreachableError`."""

    def forget(self, prefix: str) -> None:
        """Remove all of a run that came to its end. Raises `UnreachableError`."""

    def close(self, *, drains: bool) -> None:
        """Let go of it; what runs in this very process comes to its end before, or is cancelled."""
