"""Message batches on their way: put down, sent once, found again after a crash, waited for until they have ended.

**Sent once.** A batch is on the disk before it is sent. If its process dies, or the connection does, the server may
have it, and its API has no name for it but the ids of its entries, which it tells only when the batch has ended. So
whoever finds it `sending` looks at the batches that nobody of ours knows, that are no older and have as many entries:
one that has ended is ours if its entries carry our id; one that runs may be ours, and is waited for. Only where there
is none, `GRACE` after it was sent, it is sent again. Exactness ends where a server takes a request later than that.

**Never over a limit.** What a batch can cost at the most is set aside before it is sent, and stays so when its
process has died, as the server goes on; it is settled when the batch is collected.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from claude_force.base.batches import Asked, BatchEntry, BatchRecord, BatchStatus
from claude_force.base.endpoints import DEFAULT_ENDPOINT, Endpoint
from claude_force.base.errors import (
    ApiError,
    BatchError,
    BatchNotFoundError,
    BudgetError,
    ClaudeForceError,
    TaskError,
)
from claude_force.base.pricing import BatchPrices
from claude_force.base.records import AgentResult, Caching, Execution
from claude_force.base.spans import NO_SPANS
from claude_force.engine.budget import request_usd
from claude_force.engine.parts import Parts
from claude_force.engine.request import Prepared, Task
from claude_force.engine.retry import is_passing, wait_s
from claude_force.engine.spending import short
from claude_force.engine.warming import prefixes

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from claude_force.base.batches import BatchBudget, BatchServer, BatchStore
    from claude_force.base.ports import OnText
    from claude_force.engine.outside import Outside

T = TypeVar("T")
Outcome = AgentResult | ClaudeForceError
OnStatus = Callable[[BatchStatus], None]
"""Called whenever a server has said how a batch of ours stands."""
OnOutcome = Callable[[int, Outcome], None]
"""Called with a task's place in the input, and how it ended, as soon as that is known."""

# The API takes 100,000 requests and 256 MB. With less in each, what is held in memory, and what one fault costs, stays
# small; a batch more costs nothing.
MOST_ENTRIES = 10_000
MOST_BYTES = 64 * 1024 * 1024
# Most batches end within an hour, some within minutes.
FIRST_POLL_S, LAST_POLL_S, POLL_GROWTH = 5.0, 60.0, 1.5
# So many questions may fail one after the other: some ten minutes without a network. No more is spent on sending.
MOST_FAILURES, LAST_SEND_S = 12, 600.0
# For so long a request that was on its way when its sender died may still be taken.
GRACE = timedelta(minutes=2)
# By so much the server's clock may be off ours.
SKEW = timedelta(minutes=5)
# Where our clock was set back since it was sent, nobody knows how old it is; but no batch runs for longer.
LONGEST = timedelta(days=1)
# Who shares the beginning of a prompt in a batch reads it from the prompt cache now and then, not always: writing it
# for an hour costs as much again as the prompt, so it pays where more than half of them do.
LEAST_SHARING = 10


_FREE = Decimal(0)


class BatchTurn(NamedTuple):
    """One task of a batch, ready to be asked."""

    task: Task
    prepared: Prepared
    key: str
    parts: Parts
    """Of who asks: whose cache it is, and whose ledger."""
    keeps: bool
    """Whether whoever collects it, with parts of his own, is to keep the answer in the cache."""
    see_booked: Callable[[Execution], object] | None = None
    """Gets what the ledger has of it already, written by a process that died, or by another one."""
    place: "AbstractContextManager[object]" = NO_SPANS
    """Of its spans, among those of who asks."""


class BatchWatch(NamedTuple):
    """Who looks on."""

    on_status: OnStatus | None = None
    on_outcome: OnOutcome | None = None
    on_warning: "OnText | None" = None

    def warn(self, text: str) -> None:
        """Tell whoever looks on."""
        if self.on_warning:
            self.on_warning(text)


class Ask(msgspec.Struct, frozen=True):
    """What an answer is judged and accounted by, as it lies in the store."""

    text: str
    prepared: Prepared
    keeps: bool
    """Whether the cache is to keep the answer."""
    workflow_id: str | None = None
    run_id: str | None = None
    step_id: str | None = None


_decoder = msgspec.json.Decoder(Ask)


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to have batches at a server."""

    parts: Parts
    servers: "Callable[[Endpoint], BatchServer]"
    store: "BatchStore"
    budget: "BatchBudget | None"
    """What may be spent; `None` where there is no limit."""
    accounts: "BatchBudget"
    """Where a batch is settled that another process may have sent, under limits of its own."""

    # ------------------------------------------------------------ sending, under the batch's claim

    async def send(self, outside: "Outside", turns: Sequence[BatchTurn], watch: BatchWatch) -> list[str]:
        """Send what is in no batch yet, by the first endpoint; gives our ids of all batches that have a part of it."""
        if not turns:
            return []
        endpoint = next(iter(self.parts.config.endpoints), DEFAULT_ENDPOINT)
        for turn in turns:
            geo = turn.prepared.inference_geo
            if endpoint.name and geo not in {None, endpoint.inference_geo}:
                raise TaskError(
                    f"{turn.task.agent_name!r} is not sent: batches go by the first endpoint, {endpoint.name!r}, whose"
                    f" inference_geo is {endpoint.inference_geo!r} and not {geo!r}; put one first that has it"
                )
        entries = [entry_of(turn) for turn in turns]
        put_down = partial(
            self.store.join,
            entries,
            server=self.parts.server,
            endpoint=endpoint.name,
            at=self.parts.clock.now(),
            split=_split,
        )
        joined = await outside.finish(put_down)
        unsent = list(joined.added)
        try:
            while unsent:
                id_ = unsent.pop(0)
                await self._send_one(outside, id_, endpoint, watch)
        finally:
            for id_ in unsent:
                await outside.finish(partial(self.store.drop, id_))
            for release in joined.added.values():
                release()
        return [*joined.waiting, *joined.added]

    async def _send_one(self, outside: "Outside", id_: str, endpoint: Endpoint, watch: BatchWatch) -> None:
        """Send a batch that was put down. Returns as well where nobody knows whether the server has it."""
        entries = await outside.call(lambda: self.store.entries(id_))
        asked, server = as_asked(entries, endpoint), self.servers(endpoint)
        failures, clock = 0, self.parts.clock
        ends_s = clock.monotonic() + LAST_SEND_S
        while True:
            try:
                await outside.finish(partial(self._hold, id_, entries, asked))
                status = await outside.finish_apart(lambda: self._create(server, id_, asked))
            except (ApiError, BudgetError) as error:
                if isinstance(error, ApiError) and _may_be_there(error):
                    watch.warn(f"it is not known whether the server has taken the batch, which is found out: {error}")
                    return
                failures += 1
                retries, left_s = self.parts.config.defaults.max_retries, ends_s - clock.monotonic()
                wait = wait_s(error, attempt=failures, max_retries=retries, left_s=left_s, roll=clock.roll())
                if wait is None:
                    await outside.finish(partial(self._forget, id_, entries))
                    raise
                await outside.pause(wait)
            else:
                if watch.on_status:
                    watch.on_status(status)
                return

    def _create(self, server: "BatchServer", id_: str, asked: Sequence[Asked]) -> BatchStatus:
        """In one piece, so that who is cancelled meanwhile leaves no doubt whether the server has it."""
        status = server.create(asked)
        self.store.sent(id_, status.id)
        return status

    def _hold(self, id_: str, entries: Sequence[BatchEntry], asked: Sequence[Asked]) -> None:
        """Set aside what it can cost at the most. Raises `BudgetError`."""
        if self.budget is None:
            return
        at = self.parts.clock.now()
        usd: defaultdict[str, Decimal] = defaultdict(Decimal)
        for entry, one in zip(entries, asked, strict=True):
            worst_usd = self._worst_usd(one, at)
            if worst_usd is None:
                raise BudgetError(
                    f"the batch is not sent: the price of {one.request.model!r} is not known, so no limit can be kept;"
                    " set it under `pricing` in the config"
                )
            usd[entry.agent] += worst_usd
        shortage = self.budget.hold_batch(id_, usd, at=at)
        if shortage is not None:
            raise short("the batch", shortage, sum(usd.values(), _FREE))

    def _worst_usd(self, asked: Asked, at: datetime) -> Decimal | None:
        ttl = asked.caching.ttl if asked.caching else "5m"
        prices = BatchPrices(self.parts.prices)
        return request_usd(asked.request, prices, at, inference_geo=asked.inference_geo, ttl=ttl)

    def _forget(self, id_: str, entries: Sequence[BatchEntry]) -> None:
        """It was never sent."""
        if self.budget is not None:
            self.budget.settle_batch(id_, dict.fromkeys((entry.agent for entry in entries), _FREE))
        self.store.drop(id_)

    def cancel(self, record: BatchRecord) -> BatchStatus:
        """Have the server answer nothing more of it. Raises `BatchNotFoundError`, and forgets what it does not know."""
        batch_id = record.batch_id
        if batch_id is None:
            raise BatchNotFoundError(
                f"it is not known yet whether the server has {record.id!r}; `claude-force batch collect {record.id}`"
                " finds out",
                batch_id=record.id,
            )
        try:
            return self.server(record).cancel(batch_id)
        except BatchNotFoundError as error:
            self.give_up(record)
            raise BatchNotFoundError(
                f"the server has no batch {batch_id!r}, so it is forgotten here, and the most that it could cost counts"
                " as spent; if it was sent from another workspace, it goes on there",
                batch_id=batch_id,
            ) from error

    def give_up(self, record: BatchRecord) -> None:
        """Forget a batch that the server does not know; nobody knows what it has cost, so the most of it counts."""
        entries = self.store.entries(record.id)
        spent: defaultdict[str, Decimal] = defaultdict(Decimal)
        for entry, asked in zip(entries, as_asked(entries, self.endpoint(record)), strict=True):
            spent[entry.agent] += self.at_most(asked, record)
        self.accounts.settle_batch(record.id, spent)
        self.store.drop(record.id)

    def at_most(self, asked: Asked, record: BatchRecord) -> Decimal:
        """What it can have cost, where nobody knows what it has; an unpriced one was held for by nobody."""
        return self._worst_usd(asked, record.sent_at) or _FREE

    # ------------------------------------------------------------ waiting

    def endpoint(self, record: BatchRecord) -> Endpoint:
        """The way that it was sent by, and no other has it. Raises `BatchError` where that is gone."""
        for endpoint in (DEFAULT_ENDPOINT, *self.parts.config.endpoints):
            if endpoint.name == record.endpoint:
                return endpoint
        raise BatchError(
            f"the batch {record.batch_id or record.id!r} was sent by the endpoint {record.endpoint!r}, whose account"
            " alone has its answers, and which is not in use; name it in the config again until it is collected",
            batch_id=record.batch_id,
        )

    def server(self, record: BatchRecord) -> "BatchServer":
        """The server that has it."""
        return self.servers(self.endpoint(record))

    def record(self, id_: str) -> BatchRecord:
        """What we know of a batch, by our id or the server's. Raises `BatchNotFoundError`."""
        for record in self.store.records(self.parts.server):
            if id_ in {record.id, record.batch_id}:
                return record
        raise BatchNotFoundError(
            f"no batch {id_!r} was sent from here; `claude-force batch list` shows those that were", batch_id=id_
        )

    async def sent(self, outside: "Outside", id_: str, watch: BatchWatch) -> BatchRecord:
        """The batch, once it is known that the server has it."""
        poll_s = FIRST_POLL_S
        while True:
            record = await outside.call(lambda: self.record(id_))
            if record.batch_id is None and (release := await outside.call(lambda: self.store.claim(id_))):
                try:
                    await self._find(outside, id_, watch)
                finally:
                    release()
                record = await outside.call(lambda: self.record(id_))
            if record.batch_id is not None:
                return record
            await outside.pause(poll_s)
            poll_s = min(poll_s * POLL_GROWTH, LAST_POLL_S)

    async def _find(self, outside: "Outside", id_: str, watch: BatchWatch) -> None:
        """One look, under its claim, whether the server has this batch; else it is sent once more."""
        records = await outside.call(lambda: self.store.records(self.parts.server))
        record = next((record for record in records if record.id == id_), None)
        if record is None or record.batch_id is not None:
            return
        server, looked_at = self.server(record), self.parts.clock.now()
        is_set_back = record.sent_at > looked_at
        since = (looked_at - LONGEST if is_set_back else record.sent_at) - SKEW
        listed = await self.heard(outside, lambda: server.list_since(since), id_, watch)
        known = {each.batch_id for each in records}
        may_be_it = [status for status in listed if status.id not in known and status.entries == record.entries]
        for status in may_be_it:
            if status.ended_at is not None and await self._is_ours(outside, server, status, id_, watch):
                await outside.finish(partial(self.store.sent, id_, status.id))
                return
        now = self.parts.clock.now()
        if (is_set_back or now - record.sent_at > GRACE) and all(status.ended_at is not None for status in may_be_it):
            await outside.finish(lambda: self.store.renew(id_, now))
            if not is_set_back:  # else its age can be told from now on
                await self._send_one(outside, id_, self.endpoint(record), watch)

    async def _is_ours(
        self, outside: "Outside", server: "BatchServer", status: BatchStatus, id_: str, watch: BatchWatch
    ) -> bool:
        if status.is_archived:
            return False
        custom_id = await self.heard(outside, partial(server.first_custom_id, status.id), id_, watch)
        return custom_id is not None and custom_id.endswith(f"-{id_}")

    async def ended(self, outside: "Outside", record: BatchRecord, watch: BatchWatch) -> None:
        """Poll until it has ended."""
        batch_id, server = record.batch_id or "", self.server(record)
        poll_s = FIRST_POLL_S
        while True:
            status = await self.heard(outside, lambda: server.show(batch_id), batch_id, watch)
            if watch.on_status:
                watch.on_status(status)
            if status.status == "ended":
                return
            await outside.pause(poll_s)
            poll_s = min(poll_s * POLL_GROWTH, LAST_POLL_S)

    async def heard(self, outside: "Outside", ask: Callable[[], T], batch: str, watch: BatchWatch) -> T:
        """What the server says. One that cannot be reached for a while is no reason to leave a batch."""
        failures, poll_s = 0, FIRST_POLL_S
        while True:
            try:
                return await outside.apart(ask)
            except ApiError as error:
                failures += 1
                if not is_passing(error) or failures > MOST_FAILURES:
                    raise
                watch.warn(f"the batch {batch} could not be asked for, and is again: {error}")
            await outside.pause(poll_s)
            poll_s = min(poll_s * POLL_GROWTH, LAST_POLL_S)


def entry_of(turn: BatchTurn) -> BatchEntry:
    """The turn as it lies in the store."""
    task = turn.task
    ask = Ask(
        task.text,
        msgspec.structs.replace(turn.prepared, fallbacks=()),  # an entry is answered by its model, or not at all
        keeps=turn.keeps,
        workflow_id=task.workflow_id,
        run_id=task.run_id,
        step_id=task.step_id,
    )
    return BatchEntry(key=turn.key, agent=task.agent_name, body=msgspec.json.encode(ask))


def ask_of(entry: BatchEntry) -> Ask:
    """What lies in the store. Raises `BatchError`."""
    try:
        return _decoder.decode(entry.body)
    except msgspec.DecodeError as error:
        raise BatchError(f"the record of batches is damaged: {error} in an entry; move it away") from error


def _split(entries: Sequence[BatchEntry]) -> list[list[BatchEntry]]:
    """Batches that are not too large, in order."""
    parts: list[list[BatchEntry]] = []
    size = 0
    for entry in entries:
        size += len(entry.body)
        if not parts or len(parts[-1]) == MOST_ENTRIES or size > MOST_BYTES:
            parts.append([])
            size = len(entry.body)
        parts[-1].append(entry)
    return parts


def as_asked(entries: Sequence[BatchEntry], endpoint: Endpoint) -> list[Asked]:
    """What is sent, marked wherever many share a beginning."""
    wanted = [ask_of(entry).prepared for entry in entries]
    beginnings = [prefixes(prepared.request) for prepared in wanted]
    sharing = Counter(prefix.key for found in beginnings for prefix in found)
    asked = []
    for entry, prepared, found in zip(entries, wanted, beginnings, strict=True):
        ends = tuple(sorted(prefix.end for prefix in found if sharing[prefix.key] >= LEAST_SHARING))
        caching = Caching(ends, "1h") if ends else None
        geo = prepared.inference_geo or endpoint.inference_geo
        asked.append(Asked(entry.custom_id, prepared.request, caching, geo))
    return asked


def _may_be_there(error: ApiError) -> bool:
    """Whether the server may have taken what it did not say yes to; overload is a clear no."""
    status = error.status or 0
    return error.may_have_arrived or status == HTTPStatus.REQUEST_TIMEOUT or (status >= 500 and status != 529)  # noqa: PLR2004 - HTTP's own border, and the API's own status
