"""Message batches, as the rooms speak of them: what a server and a store are asked, and what they say.

A *batch* is one of ours: it is put down before it is sent, under an id of our own, and gets the server's id once the
server has taken it. An *entry* is one request in it, known by its `custom_id`.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import msgspec

from claude_force.base.errors import BatchEntryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from decimal import Decimal

    from claude_force.base.errors import ClaudeForceError
    from claude_force.base.ports import Shortage
    from claude_force.base.records import Caching, Reply, Request

RESULTS_KEPT = timedelta(days=29)
"""How long a server keeps the results of a batch."""

Stage = Literal["sending", "sent", "collected"]
"""`sending`: the server may have it or not; `sent`: it has it; `collected`: all answers were accounted for."""


class BatchStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the server says of a batch. It counts its entries as `processing` until all have ended."""

    id: str
    status: Literal["in_progress", "canceling", "ended"]
    created_at: "datetime"
    expires_at: "datetime"
    """When it ends what has not been answered by then."""
    ended_at: "datetime | None" = None
    is_archived: bool = False
    """Whether its results are gone: they are there for 29 days."""
    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0

    @property
    def entries(self) -> int:
        """How many it has."""
        return self.processing + self.succeeded + self.errored + self.canceled + self.expired


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What we know of a batch of ours."""

    id: str
    """Our own."""
    batch_id: str | None
    """The server's; `None` until it is known that the server took it."""
    stage: Stage
    server: str
    """Who was asked, as in the key of a request."""
    endpoint: str = ""
    """Which of several, by name: a batch belongs to the account that it was sent from."""
    sent_at: "datetime"
    """When it was last put down to be sent."""
    entries: int
    is_begun: bool = False
    """Whether somebody began to account for its answers."""


class BatchEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a batch of ours."""

    key: str
    """That of the request."""
    agent: str
    body: bytes
    """All else that its answer is judged and accounted by; only who wrote it reads it."""
    custom_id: str = ""
    """Given by the store."""


# Three quarters of a key leave room for a batch's id in the 64 characters that a `custom_id` may have.
_KEY_CHARS = 47


def custom_id_of(key: str, id_: str) -> str:
    """What the entry of this key is called in the batch of ours with this id, and in no other."""
    return f"{key[:_KEY_CHARS]}-{id_}"


class Asked(NamedTuple):
    """An entry as the server gets it."""

    custom_id: str
    request: "Request"
    caching: "Caching | None"
    inference_geo: str | None = None


def unanswered(end: str) -> BatchEntryError:
    """The error of an entry that got no answer."""
    return BatchEntryError(f"the batch ended without an answer to this request ({end}); ask again", end=end)


class BatchServer(Protocol):
    """A server of batches; every call blocks. Raises the `ApiError` family, `BatchNotFoundError` for an unknown id."""

    def create(self, entries: Sequence[Asked]) -> BatchStatus:
        """Send it once, without retries."""

    def show(self, batch_id: str) -> BatchStatus:
        """How it stands."""

    def list_since(self, moment: "datetime") -> list[BatchStatus]:
        """Those that were made since then, whoever made them."""

    def first_custom_id(self, batch_id: str) -> str | None:
        """That of any entry of a batch that has ended."""

    def results(self, batch_id: str) -> "dict[str, Reply | ClaudeForceError]":
        """What became of each entry, by `custom_id`."""

    def cancel(self, batch_id: str) -> BatchStatus:
        """Answer nothing more of it."""


class Joined(NamedTuple):
    """Where entries are after `BatchStore.join`."""

    waiting: Sequence[str]
    """Ids of batches that others, or an earlier process, put down, and that have some of them."""
    added: "Mapping[str, Callable[[], object]]"
    """Ids of those that were put down now, to be sent by this process, each with what ends its claim."""


class BatchStore(Protocol):
    """Where batches are put down. Raises `BatchError`."""

    def join(
        self,
        entries: Sequence[BatchEntry],
        *,
        server: str,
        endpoint: str,
        at: "datetime",
        split: "Callable[[Sequence[BatchEntry]], Sequence[Sequence[BatchEntry]]]",
    ) -> Joined:
        """Put down, in batches as `split` says, those entries that no batch has that is still to be collected."""

    def claim(self, id_: str) -> "Callable[[], object] | None":
        """What ends the claim, if we may act on this batch now; `None` while another process, or thread, does."""

    def records(self, server: str) -> list[BatchRecord]:
        """All, the newest first."""

    def entries(self, id_: str) -> list[BatchEntry]:
        """Those of a batch."""

    def sent(self, id_: str, batch_id: str) -> None:
        """The server has it, under this id."""

    def renew(self, id_: str, at: "datetime") -> None:
        """It is sent once more."""

    def begin(self, id_: str) -> None:
        """Its answers are about to be accounted for."""

    def collected(self, id_: str) -> None:
        """All of them are."""

    def drop(self, id_: str) -> None:
        """It was never sent, or is gone."""

    def close(self) -> None:
        """Let go of files; a later call opens them anew."""


class BatchBudget(Protocol):
    """What may be spent by batches, which go on after their process has died, and so does what they set aside."""

    def hold_batch(self, id_: str, usd: "Mapping[str, Decimal]", *, at: "datetime") -> "Shortage | None":
        """Set aside what the entries of each agent can cost, or say which limit has no room for it."""

    def settle_batch(self, id_: str, usd: "Mapping[str, Decimal]") -> None:
        """Count what they have cost, once, and let go of the rest."""
