"""The Message Batches API through the real SDK: one call each, blocking, no retries. No foreign error leaves."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from claude_force.base.batches import Asked, BatchStatus, unanswered
from claude_force.base.endpoints import DEFAULT_ENDPOINT
from claude_force.base.errors import BatchNotFoundError, ModelNotFoundError
from claude_force.base.records import Reply
from claude_force.transports.foreign import entry_error, translated
from claude_force.transports.wire import (
    SIMULATED_HEADER,
    ErrorBody,
    read_batch,
    read_batches,
    read_custom_id,
    read_result,
    to_parameters,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from claude_force.base.endpoints import Endpoint
    from claude_force.base.errors import ClaudeForceError
    from claude_force.transports.live import LiveTransport

# Tens of megabytes go one way or the other: no time for a turn is that long.
_LONG_S, _SHORT_S = 600.0, 60.0
_PAGE = 100


class LiveBatches:
    """The batches of whoever the transport calls as. Implements `base.batches.BatchServer`."""

    def __init__(self, transport: "Callable[[], LiveTransport]", endpoint: "Endpoint" = DEFAULT_ENDPOINT) -> None:
        """The transport is made at the first call."""
        self._transport = transport
        self._endpoint = endpoint

    def create(self, entries: Sequence[Asked]) -> BatchStatus:
        """See `BatchServer.create`."""
        requests: list[Any] = [
            {
                "custom_id": entry.custom_id,
                "params": to_parameters(entry.request, entry.caching, inference_geo=entry.inference_geo),
            }
            for entry in entries
        ]
        with translated(None):
            raw = self._batches.with_raw_response.create(requests=requests, timeout=_LONG_S)
            return read_batch(raw.http_response.content)

    def show(self, batch_id: str) -> BatchStatus:
        """See `BatchServer.show`."""
        with _found(batch_id):
            raw = self._batches.with_raw_response.retrieve(batch_id, timeout=_SHORT_S)
            status = read_batch(raw.http_response.content)
        if status.is_archived:
            raise _not_there(batch_id)
        return status

    def list_since(self, moment: "datetime") -> list[BatchStatus]:
        """See `BatchServer.list_since`; the server lists the newest first."""
        found: list[BatchStatus] = []
        with translated(None):
            while True:
                after = {"after_id": found[-1].id} if found else {}
                raw = self._batches.with_raw_response.list(limit=_PAGE, timeout=_SHORT_S, **after)
                page, has_more = read_batches(raw.http_response.content)
                found += page
                if not has_more or not page or page[-1].created_at < moment:
                    return [status for status in found if status.created_at >= moment]

    def first_custom_id(self, batch_id: str) -> str | None:
        """See `BatchServer.first_custom_id`; reads no more than it has to."""
        with translated(None):
            return next((read_custom_id(line) for line, _ in self._lines(batch_id)), None)

    def results(self, batch_id: str) -> "dict[str, Reply | ClaudeForceError]":
        """See `BatchServer.results`."""
        found: dict[str, Reply | ClaudeForceError] = {}
        for line, is_simulated in self._lines(batch_id):
            with translated(None):
                custom_id, result = read_result(line, is_simulated=is_simulated)
            if isinstance(result, ErrorBody):
                found[custom_id] = entry_error(result)
            else:
                found[custom_id] = result if isinstance(result, Reply) else unanswered(result)
        return found

    def cancel(self, batch_id: str) -> BatchStatus:
        """See `BatchServer.cancel`."""
        with _found(batch_id):
            raw = self._batches.with_raw_response.cancel(batch_id, timeout=_SHORT_S)
            return read_batch(raw.http_response.content)

    @property
    def _batches(self) -> Any:  # noqa: ANN401 - `anthropic.resources.messages.Batches`, which only a call imports
        return self._transport().client_of(self._endpoint).messages.batches

    def _lines(self, batch_id: str) -> Iterator[tuple[bytes, bool]]:
        """The lines of the results, and whether a simulator wrote them.

        The SDK would build a model of each, unchecked, for ten times the work.
        """
        with _found(batch_id):
            response = self._batches.with_raw_response.results(batch_id, timeout=_LONG_S).http_response
            is_simulated = SIMULATED_HEADER in response.headers
            rest = b""
            try:
                for piece in response.iter_bytes():
                    *lines, rest = (rest + piece).split(b"\n")
                    yield from ((line, is_simulated) for line in lines if line)
                if rest:
                    yield rest, is_simulated
            finally:
                response.close()


@contextmanager
def _found(batch_id: str) -> Iterator[None]:
    """As `translated`; what the server does not know is a batch, and no model."""
    try:
        with translated(None):
            yield
    except ModelNotFoundError as error:
        raise _not_there(batch_id) from error


def _not_there(batch_id: str) -> BatchNotFoundError:
    return BatchNotFoundError(
        f"the server has no batch {batch_id!r}, or not its answers any more: they are kept for 29 days; check that"
        " the API key is of the workspace that it was sent from",
        batch_id=batch_id,
    )
