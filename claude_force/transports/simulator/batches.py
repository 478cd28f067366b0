"""Message batches, in memory and without waiting: a batch is at work until it was asked for so many times, then done.

So a client sees each status (`in_progress`, perhaps `canceling`, `ended`) in the same order in every run.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from claude_force.transports.simulator.prompt import encode
from claude_force.transports.simulator.script import ApiFault, RejectedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.base.clock import Clock

Json = Any

RESULTS_KEPT = timedelta(days=29)
"""Then a batch is archived."""

MAX_REQUESTS = 100_000
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(slots=True)
class _Batch:
    id: str
    requests: list[Json]
    created: datetime
    status: Literal["in_progress", "canceling", "ended"] = "in_progress"
    cancelled: datetime | None = None
    ended: datetime | None = None
    archived: datetime | None = None
    results: list[Json] = field(default_factory=list)
    polls: int = 0

    def to_json(self) -> dict[str, Json]:
        kinds = [result["result"]["type"] for result in self.results]
        return {
            "type": "message_batch",
            "id": self.id,
            "processing_status": self.status,
            "created_at": self.created.isoformat(),
            "expires_at": (self.created + timedelta(hours=24)).isoformat(),
            "cancel_initiated_at": self.cancelled and self.cancelled.isoformat(),
            "ended_at": self.ended and self.ended.isoformat(),
            "archived_at": self.archived and self.archived.isoformat(),
            "results_url": f"/v1/messages/batches/{self.id}/results" if self.ended and not self.archived else None,
            "request_counts": {
                "processing": 0 if self.ended else len(self.requests),
                **{kind: kinds.count(kind) for kind in ("succeeded", "errored", "canceled", "expired")},
            },
        }


class Batches:
    """All batches of a simulator; `answer` gives the result of one request.

    The one that asks for the `polls`th time finds a batch done.
    """

    def __init__(self, clock: "Clock", answer: "Callable[[Json], dict[str, Json]]", *, polls: int) -> None:
        self._clock = clock
        self._polls = polls
        self._answer = answer
        self._batches: dict[str, _Batch] = {}

    def create(self, body: Json, id_: str) -> dict[str, Json]:
        """Take a batch; its requests are not looked at yet, as with the API."""
        batch = _Batch(id_, _requests(body), self._clock.now())
        self._batches[id_] = batch
        return batch.to_json()

    def show(self, id_: str) -> dict[str, Json]:
        """One batch; asking often enough finishes it, and one that was cancelled at once."""
        batch = self._find(id_)
        self._ask(batch)
        return batch.to_json()

    def show_all(self) -> list[dict[str, Json]]:
        """All batches, newest first, as they are; each was asked for by that."""
        listed = [batch.to_json() for batch in reversed(self._batches.values())]
        for batch in self._batches.values():
            self._ask(batch)
        return listed

    def cancel(self, id_: str) -> dict[str, Json]:
        """Stop a batch that is at work; none of its requests is answered."""
        batch = self._find(id_)
        if batch.status == "ended":
            raise RejectedError(ApiFault(400, message=f"Batch {id_} cannot be canceled: it has ended"))
        batch.status, batch.cancelled = "canceling", self._clock.now()
        return batch.to_json()

    def delete(self, id_: str) -> dict[str, Json]:
        """Forget a batch that has ended."""
        if self._find(id_).status != "ended":
            raise RejectedError(ApiFault(400, message=f"Batch {id_} cannot be deleted: cancel it first"))
        del self._batches[id_]
        return {"type": "message_batch_deleted", "id": id_}

    def results(self, id_: str) -> str:
        """The results, one JSON object a line."""
        batch = self._find(id_)
        if batch.status != "ended" or batch.archived:
            raise RejectedError(ApiFault(404, message=f"Batch {id_} has no results"))
        return "".join(encode(result) + "\n" for result in batch.results)

    def _find(self, id_: str) -> _Batch:
        if id_ not in self._batches:
            raise RejectedError(ApiFault(404, message=f"message_batch_id: {id_}"))
        return self._batches[id_]

    def _ask(self, batch: _Batch) -> None:
        batch.polls += 1
        if batch.status != "ended" and (batch.cancelled or batch.polls >= self._polls):
            self._finish(batch)
        if batch.ended and not batch.archived and self._clock.now() - batch.created > RESULTS_KEPT:
            batch.archived = self._clock.now()

    def _finish(self, batch: _Batch) -> None:
        for request in batch.requests:
            result = {"type": "canceled"} if batch.cancelled else self._answer(request["params"])
            batch.results.append({"custom_id": request["custom_id"], "result": result})
        batch.status, batch.ended = "ended", self._clock.now()


def _requests(body: Json) -> list[Json]:
    requests = body.get("requests") if isinstance(body, dict) else None
    if not isinstance(requests, list) or not 1 <= len(requests) <= MAX_REQUESTS:
        raise RejectedError(ApiFault(400, message=f"requests: a list of 1 to {MAX_REQUESTS} items is required"))
    ids = set()
    for index, request in enumerate(requests):
        if not isinstance(request, dict) or request.keys() != {"custom_id", "params"}:
            raise RejectedError(ApiFault(400, message=f"requests.{index}: custom_id and params are required"))
        id_ = request["custom_id"]
        if not isinstance(id_, str) or not _CUSTOM_ID.fullmatch(id_):
            raise RejectedError(
                ApiFault(
                    400, message=f"requests.{index}.custom_id: String should match pattern '^{_CUSTOM_ID.pattern}$'"
                )
            )
        if id_ in ids:
            raise RejectedError(ApiFault(400, message=f"requests.{index}.custom_id: {id_!r} is used twice"))
        ids.add(id_)
    return requests
