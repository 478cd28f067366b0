"""Message batches: many turns at half the price, sent exactly once, and each answer accounted for exactly once.

```text
  in the cache                    given at once, by the turn that every call is
        │
  in a batch still to collect     waited for: what a crash, or another process, left is never sent again
        │
  put down, then sent             `sending` until the server is known to have it, then `sent`
        │
  ended                           each answer goes through a turn, as one that has just arrived: judged, priced, kept
        │
  given                           to who asked, who may have to write it down
        │
  collected                       the budgets are settled, the entries go
```

**Sent once.** A batch is on the disk before it is sent. If its process dies, or the connection does, the server may
have it, and its API has no name for it but the ids of its entries, which it tells only when the batch has ended. So
whoever finds it `sending` looks at the batches that nobody of ours knows, that are no older and have as many entries:
one that has ended is ours if its entries carry our id; one that runs may be ours, and is waited for. Only where there
is none, `GRACE` after it was sent, it is sent again. Exactness ends where a server takes a request later than that.

**Accounted once.** One process at a time collects a batch. The ledger says which of its answers it has: after a crash,
collecting writes only the others down, but keeps and gives all.

**Never over a limit.** What a batch can cost at the most is set aside before it is sent, and stays so when its
process has died, as the server goes on; it is settled when the batch is collected.
"""

import copy
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import msgspec

from claude_force.base.batches import (
    RESULTS_KEPT,
    Asked,
    BatchEntry,
    BatchRecord,
    BatchStatus,
    custom_id_of,
    unanswered,
)
from claude_force.base.endpoints import DEFAULT_ENDPOINT, Endpoint
from claude_force.base.errors import (
    ApiError,
    BatchEntryError,
    BatchError,
    BatchNotFoundError,
    BudgetError,
    ClaudeForceError,
    TaskError,
)
from claude_force.base.pricing import BatchPrices
from claude_force.base.records import AgentResult, Caching, Execution, PromptCaching, Reply, Request, Savings
from claude_force.base.spans import NO_SPANS
from claude_force.base.usage import Usage
from claude_force.engine.budget import request_usd
from claude_force.engine.key import request_key
from claude_force.engine.parts import Parts, Watch
from claude_force.engine.request import Prepared, Task, build_request
from claude_force.engine.retry import is_passing, wait_s
from claude_force.engine.spending import short
from claude_force.engine.traffic import Traffic
from claude_force.engine.turn import choice_of, run_prepared
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

Results = Mapping[str, Reply | ClaudeForceError]
"""What became of each entry, by `custom_id`."""

Take = Callable[[str, Outcome], None]
"""Called with the key of an answer that was collected."""

# The API takes 100,000 requests and 256 MB. With less in each, what is held in memory, and what one fault costs, stays
# small; a batch more costs nothing.
MOST_ENTRIES = 10_000
MOST_BYTES = 64 * 1024 * 1024
# Most batches end within an hour, some within minutes.
FIRST_POLL_S, LAST_POLL_S, POLL_GROWTH = 5.0, 60.0, 1.5
# So many questions may fail one after the other: some ten minutes without a network. No more is spent on sending.
MOST_FAILURES, LAST_SEND_S = 12, 600.0
# So often results are asked for that lack some: a connection that was cut may look like the end of them.
MOST_LOOKS = 4
# For so long a request that was on its way when its sender died may still be taken.
GRACE = timedelta(minutes=2)
# By so much the server's clock may be off ours.
SKEW = timedelta(minutes=5)
# Who shares the beginning of a prompt in a batch reads it from the prompt cache now and then, not always: writing it
# for an hour costs as much again as the prompt, so it pays where more than half of them do.
LEAST_SHARING = 10

_FREE, _NOTHING = Decimal(0), Usage()
_UNBILLED = {"usage": _NOTHING, "cost_usd": _FREE, "batch_saved_usd": _FREE, "routing_saved_usd": _FREE}
_NOBODY: "Mapping[str, BatchTurn]" = MappingProxyType({})


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


class _Ask(msgspec.Struct, frozen=True):
    """What an answer is judged and accounted by, as it lies in the store."""

    text: str
    prepared: Prepared
    keeps: bool
    """Whether the cache is to keep the answer."""
    workflow_id: str | None = None
    run_id: str | None = None
    step_id: str | None = None


_decoder = msgspec.json.Decoder(_Ask)


class Batching(msgspec.Struct, frozen=True, kw_only=True):
    """All that batches need; made by a face's project."""

    parts: Parts
    servers: "Callable[[Endpoint], BatchServer]"
    store: "BatchStore"
    budget: "BatchBudget | None"
    """What may be spent; `None` where there is no limit."""
    accounts: "BatchBudget"
    """Where a batch is settled that another process may have sent, under limits of its own."""
    booked: Callable[[str], Collection[str]]
    """Which entries of a batch (by its server's id) are in the ledger."""

    # ------------------------------------------------------------ from tasks to answers

    def prepare(self, tasks: Sequence[Task]) -> list[BatchTurn]:
        """Each task's request. Raises the `InputError` family; nothing was sent."""
        parts = self.parts
        found = {name: parts.agents.find(name) for name in dict.fromkeys(task.agent_name for task in tasks)}
        turns = []
        for asked in tasks:
            agent = found[asked.agent_name]
            choose = choice_of(parts, asked, agent)
            task = msgspec.structs.replace(asked, choice=choose()) if choose else asked
            prepared = build_request(task, agent, parts.config, parts.aliases)
            key = request_key(prepared.request, server=parts.server)
            turns.append(BatchTurn(task, prepared, key, parts, keeps=task.use_cache is not False))
        return turns

    async def execute(
        self, outside: "Outside", tasks: Sequence[Task], *, live_fallback: bool, watch: BatchWatch
    ) -> list[Outcome]:
        """How each task ended, in their order. Whatever ends this, the batch goes on, and the same call finds it."""
        turns = await outside.apart(lambda: self.prepare(tasks))
        outcomes: dict[int, Outcome] = {}

        def end(number: int, outcome: Outcome) -> None:
            outcomes[number] = outcome
            if watch.on_outcome:
                watch.on_outcome(number, outcome)

        waiting: dict[str, list[int]] = {}
        for number, turn in enumerate(turns):
            outcome = None if turn.key in waiting else await self.kept(outside, turn)
            if outcome is None:
                waiting.setdefault(turn.key, []).append(number)
            else:
                end(number, outcome)
        await self._ask(outside, turns, waiting, end, live_fallback=live_fallback, watch=watch)
        await self.finish(outside, watch)
        return [outcomes[number] for number in range(len(turns))]

    async def ask(
        self,
        outside: "Outside",
        turns: Sequence[BatchTurn],
        end: Callable[[int, Outcome], None],
        *,
        live_fallback: bool,
        watch: BatchWatch,
    ) -> None:
        """Have these answered that nobody has the answers of; `end` gets the place of each, and how it ended.

        What concerns all that are left, such as a limit that has no room for them, is raised.
        """
        waiting: dict[str, list[int]] = {}
        for number, turn in enumerate(turns):
            waiting.setdefault(turn.key, []).append(number)
        await self.finish(outside, watch, wanted=waiting)
        await self._ask(outside, turns, waiting, end, live_fallback=live_fallback, watch=watch)

    async def _ask(
        self,
        outside: "Outside",
        turns: Sequence[BatchTurn],
        waiting: dict[str, list[int]],
        end: Callable[[int, Outcome], None],
        *,
        live_fallback: bool,
        watch: BatchWatch,
    ) -> None:
        """Those at the places that `waiting` has, by key."""
        wanted = {key: turns[numbers[0]] for key, numbers in waiting.items()}

        def give(key: str, outcome: Outcome) -> None:
            for again, number in enumerate(waiting.pop(key, ())):  # a batch may have what somebody else wants
                end(number, _given_again(outcome) if again else outcome)

        def take(key: str, answer: Outcome) -> None:
            if not (live_fallback and _may_go_live(answer)):
                give(key, answer)

        for id_ in await self._submit(outside, list(wanted.values()), watch):
            answers = await self.see_through(outside, id_, watch, wanted=wanted, take=take)
            for key in answers:
                if key in waiting:
                    asked = wanted[key]
                    give(key, await _outcome(outside, asked.parts, asked.task, asked.prepared))
        for key in tuple(waiting):
            give(key, unanswered("missing"))

    async def submit(self, outside: "Outside", tasks: Sequence[Task], *, watch: BatchWatch) -> list[str]:
        """Send what neither the cache nor a batch has, and wait for nothing; gives the ids of the batches."""
        turns = await outside.apart(lambda: self.prepare(tasks))
        wanted = await outside.apart(lambda: {turn.key: turn for turn in turns if not _is_kept(turn)})
        return await self._submit(outside, list(wanted.values()), watch)

    async def _submit(self, outside: "Outside", turns: Sequence[BatchTurn], watch: BatchWatch) -> list[str]:
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
        entries = [_entry(turn) for turn in turns]
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
                await self._send(outside, id_, endpoint, watch)
        finally:
            for id_ in unsent:
                await outside.finish(partial(self.store.drop, id_))
            for release in joined.added.values():
                release()
        return [*joined.waiting, *joined.added]

    async def see_through(
        self,
        outside: "Outside",
        id_: str,
        watch: BatchWatch,
        *,
        wanted: Mapping[str, BatchTurn] = _NOBODY,
        take: Take | None = None,
    ) -> dict[str, Outcome]:
        """Wait for a batch of ours, and collect it: how each of its entries ended, by key.

        `wanted` ones are given even if another process has collected them meanwhile. `take` is as in `collect`.
        """
        record = await self._sent(outside, id_, watch)
        try:
            await self._ended(outside, record, watch)
            results = await self._results(outside, record, watch)
            return await self.collect(outside, record, results, wanted=wanted, take=take)
        except BatchNotFoundError as error:
            if self.parts.clock.now() - record.sent_at <= RESULTS_KEPT:
                raise
            await outside.finish(lambda: self.give_up(record))
            raise BatchNotFoundError(
                f"the batch {record.batch_id!r} is so old that the server has its answers no more; ask again",
                batch_id=record.batch_id or "",
            ) from error

    async def finish(
        self, outside: "Outside", watch: BatchWatch, *, wanted: Collection[str] = (), ended_run: str | None = None
    ) -> None:
        """Collect to the end what a crash has left in the middle: its last answers may be all that is missing.

        What has a `wanted` key is left to who wants it. Nobody wants those of `ended_run`, which has all it needs.
        """
        for record in await outside.call(lambda: self.store.records(self.parts.server)):
            if record.stage != "sent" or not record.is_begun:
                continue
            release = await outside.call(partial(self.store.claim, record.id))
            if release is None:  # somebody is at it
                continue
            release()
            if wanted and any(
                entry.key in wanted for entry in await outside.call(partial(self.store.entries, record.id))
            ):
                continue
            try:
                results = await outside.apart(partial(self.server(record).results, record.batch_id or ""))
                if len(results) >= record.entries:  # else the connection was cut, and who wants it looks again
                    await self.collect(outside, record, results, ended_run=ended_run)
            except ClaudeForceError as error:
                watch.warn(f"the batch {record.batch_id} is not collected to its end: {error}")

    async def kept(self, outside: "Outside", turn: BatchTurn) -> Outcome | None:
        """What its cache has for it; `None` where it has to be asked."""
        if not await outside.apart(lambda: _is_kept(turn)):
            return None
        parts = msgspec.structs.replace(turn.parts, budget=None)
        outcome = await _outcome(_Replaying(outside, unanswered("missing")), parts, turn.task, turn.prepared)
        return None if isinstance(outcome, BatchEntryError) else outcome  # it has gone from the cache meanwhile

    # ------------------------------------------------------------ sending, under the batch's claim

    async def _send(self, outside: "Outside", id_: str, endpoint: Endpoint, watch: BatchWatch) -> None:
        """Send a batch that was put down. Returns as well where nobody knows whether the server has it."""
        entries = await outside.call(lambda: self.store.entries(id_))
        asked, server = _asked(entries, endpoint), self.servers(endpoint)
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
        for entry, asked in zip(entries, _asked(entries, self.endpoint(record)), strict=True):
            spent[entry.agent] += self._at_most(asked, record)
        self.accounts.settle_batch(record.id, spent)
        self.store.drop(record.id)

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

    async def _sent(self, outside: "Outside", id_: str, watch: BatchWatch) -> BatchRecord:
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
        server = self.server(record)
        listed = await self._heard(outside, lambda: server.list_since(record.sent_at - SKEW), id_, watch)
        known = {each.batch_id for each in records}
        may_be_it = [status for status in listed if status.id not in known and status.entries == record.entries]
        for status in may_be_it:
            if status.ended_at is not None and await self._is_ours(outside, server, status, id_, watch):
                await outside.finish(partial(self.store.sent, id_, status.id))
                return
        now = self.parts.clock.now()
        if now - record.sent_at > GRACE and all(status.ended_at is not None for status in may_be_it):
            await outside.finish(lambda: self.store.renew(id_, now))
            await self._send(outside, id_, self.endpoint(record), watch)

    async def _is_ours(
        self, outside: "Outside", server: "BatchServer", status: BatchStatus, id_: str, watch: BatchWatch
    ) -> bool:
        if status.is_archived:
            return False
        custom_id = await self._heard(outside, partial(server.first_custom_id, status.id), id_, watch)
        return custom_id is not None and custom_id.endswith(f"-{id_}")

    async def _ended(self, outside: "Outside", record: BatchRecord, watch: BatchWatch) -> None:
        """Poll until it has ended."""
        batch_id, server = record.batch_id or "", self.server(record)
        poll_s = FIRST_POLL_S
        while True:
            status = await self._heard(outside, lambda: server.show(batch_id), batch_id, watch)
            if watch.on_status:
                watch.on_status(status)
            if status.status == "ended":
                return
            await outside.pause(poll_s)
            poll_s = min(poll_s * POLL_GROWTH, LAST_POLL_S)

    async def _heard(self, outside: "Outside", ask: Callable[[], T], batch: str, watch: BatchWatch) -> T:
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

    # ------------------------------------------------------------ collecting

    async def collect(
        self,
        outside: "Outside",
        record: BatchRecord,
        results: "Results",
        *,
        wanted: Mapping[str, BatchTurn] = _NOBODY,
        take: Take | None = None,
        ended_run: str | None = None,
    ) -> dict[str, Outcome]:
        """How each entry of a batch that has ended did, by key; one process at a time accounts for it.

        Each is given to `take` before the batch is forgotten. Where nobody takes them, answers that are not kept would
        be lost, but for those of `ended_run`: the batch stays to be collected, which is a `BatchError`. Of a batch that
        was collected already, only the `wanted` ones are given, from what the server still has.
        """
        batch_id, id_ = record.batch_id or "", record.id
        endpoint = self.endpoint(record)
        while not (release := await outside.call(lambda: self.store.claim(id_))):
            await outside.pause(FIRST_POLL_S)
        try:
            record = await outside.call(lambda: self.record(id_))
            if record.stage == "collected":
                named = (_named(_entry(turn), id_) for turn in wanted.values())
                there = [entry for entry in named if entry.custom_id in results]
                again = {
                    entry.key: await self._answer(outside, entry, results, record, results, wanted) for entry in there
                }
                return _taken({key: answer for key, (answer, _) in again.items()}, take)
            entries = await outside.call(lambda: self.store.entries(id_))
            booked = await outside.apart(lambda: self.booked(batch_id)) if record.is_begun else ()
            await outside.finish(lambda: self.store.begin(id_))
            answers: dict[str, Outcome] = {}
            spent: defaultdict[str, Decimal] = defaultdict(Decimal)
            for entry, asked in zip(entries, _asked(entries, endpoint), strict=True):
                answers[entry.key], cost_usd = await self._answer(outside, entry, results, record, booked, wanted)
                spent[entry.agent] += self._at_most(asked, record) if cost_usd is None else cost_usd
            if take is None and not await outside.apart(lambda: self._are_kept(entries, answers, ended_run)):
                raise BatchError(
                    f"not all answers of the batch {batch_id} are kept in the cache, so it stays to be collected; the"
                    " command that sent it gives them",
                    batch_id=batch_id,
                )
            _taken(answers, take)
            await outside.finish(lambda: self._settle(id_, spent))
            return answers
        finally:
            release()

    async def _results(self, outside: "Outside", record: BatchRecord, watch: BatchWatch) -> "Results":
        """What became of each entry; what the server leaves out again and again has no answer."""
        batch_id, server = record.batch_id or "", self.server(record)
        for _ in range(MOST_LOOKS):
            results = await self._heard(outside, lambda: server.results(batch_id), batch_id, watch)
            if len(results) >= record.entries:
                break
            await outside.pause(FIRST_POLL_S)
        return results

    def _are_kept(self, entries: Sequence[BatchEntry], answers: Mapping[str, Outcome], ended_run: str | None) -> bool:
        """Whether the cache has all whole answers that are wanted: it may be off, full, or not asked to keep them."""
        cache = self.parts.cache
        return all(
            cache is not None and ask.keeps and cache.peek(entry.key, agent=entry.agent) is not None
            for entry in entries
            if isinstance(answer := answers[entry.key], AgentResult) and answer.is_whole
            if (ask := _decode(entry)).run_id is None or ask.run_id != ended_run
        )

    def _at_most(self, asked: Asked, record: BatchRecord) -> Decimal:
        return self._worst_usd(asked, record.sent_at) or _FREE

    def _settle(self, id_: str, spent: Mapping[str, Decimal]) -> None:
        self.accounts.settle_batch(id_, spent)
        self.store.collected(id_)

    async def _answer(
        self,
        outside: "Outside",
        entry: BatchEntry,
        results: "Results",
        record: BatchRecord,
        booked: Collection[str],
        wanted: Mapping[str, BatchTurn],
    ) -> tuple[Outcome, Decimal | None]:
        """One entry's answer, as a turn gives it that has just got it, and what it has cost."""
        ask, result = _decode(entry), results.get(entry.custom_id) or unanswered("missing")
        turn = wanted.get(entry.key)
        parts = turn.parts if turn else self.parts
        see_booked = turn.see_booked if turn else None
        book = _Book(
            (see_booked or _unseen) if entry.custom_id in booked else parts.ledger.record,
            batch_id=record.batch_id,
            custom_id=entry.custom_id,
            is_free=not isinstance(result, Reply),
        )
        prepared = msgspec.structs.replace(turn.prepared, fallbacks=()) if turn else ask.prepared
        config, endpoint = self.parts.config, self.endpoint(record)
        # By the one that has answered, whatever the config says of it by now.
        endpoint = msgspec.structs.replace(endpoint, inference_geo=prepared.inference_geo or endpoint.inference_geo)
        parts = msgspec.structs.replace(
            parts,
            ledger=book,
            budget=None,
            prices=BatchPrices(self.parts.prices),
            traffic=Traffic(self.parts.clock),  # how it went hours ago says nothing about the model now
            config=msgspec.structs.replace(
                config,
                defaults=msgspec.structs.replace(config.defaults, max_retries=0),
                endpoints=[endpoint] if endpoint.name else [],
            ),
        )
        task = Task(
            agent_name=entry.agent,
            text=ask.text,
            use_cache="refresh" if ask.keeps or (turn and turn.task.use_cache is not False) else False,
            timeout_s=math.inf,
            begun_at=record.sent_at,
            workflow_id=ask.workflow_id,
            run_id=ask.run_id,
            step_id=ask.step_id,
        )
        with turn.place if turn else NO_SPANS:
            return await _outcome(_Replaying(outside, result), parts, task, prepared), book.cost_usd


def _taken(answers: dict[str, Outcome], take: Take | None) -> dict[str, Outcome]:
    """The same, once each was taken."""
    if take is not None:
        for key, answer in answers.items():
            take(key, answer)
    return answers


def settled(outcomes: list[Outcome], on_error: Literal["raise", "return"]) -> list[Outcome]:
    """The outcomes, or the first error."""
    if on_error == "raise":
        for outcome in outcomes:
            if isinstance(outcome, ClaudeForceError):
                raise outcome
    return outcomes


def _is_kept(turn: BatchTurn) -> bool:
    cache, use_cache = turn.parts.cache, turn.task.use_cache
    if cache is None or use_cache is False or use_cache == "refresh":
        return False
    return cache.peek(turn.key, agent=turn.task.agent_name) is not None


async def _outcome(outside: "Outside", parts: Parts, task: Task, prepared: Prepared) -> Outcome:
    """How a turn ends."""
    try:
        return await run_prepared(outside, parts, task, prepared, Watch())
    except ClaudeForceError as error:
        return error


class _Book:
    """The ledger, as an answer of a batch is written down in it: once, with its batch."""

    def __init__(
        self, record: Callable[[Execution], object], *, batch_id: str | None, custom_id: str, is_free: bool
    ) -> None:
        self.cost_usd: Decimal | None = None
        self._record, self._is_free = record, is_free
        self._facts = {"batch_id": batch_id, "request_id": custom_id}

    def record(self, execution: Execution) -> None:
        """See `Ledger.record`. What was not answered is not billed."""
        execution = msgspec.structs.replace(execution, **self._facts, **(_UNBILLED if self._is_free else {}))
        self.cost_usd = execution.cost_usd
        self._record(execution)


class _Replaying:
    """An `Outside` where what is sent has its answer already."""

    is_blocking = True  # nobody waits for anything

    def __init__(self, outside: "Outside", result: "Reply | ClaudeForceError") -> None:
        self._result = result
        self.pause, self.wait, self.apart = outside.pause, outside.wait, outside.apart
        self.call, self.later = outside.call, outside.later
        self.finish, self.finish_apart = outside.finish, outside.finish_apart

    async def send(
        self,
        request: Request,  # noqa: ARG002 - as of an `Outside`
        *,
        timeout_s: float,  # noqa: ARG002
        on_text: "OnText | None",  # noqa: ARG002
        caching: Caching | None,  # noqa: ARG002
        endpoint: Endpoint,  # noqa: ARG002
    ) -> Reply:
        """What came for it."""
        if isinstance(self._result, Reply):
            return self._result
        raise copy.copy(self._result)  # a raised error collects tracebacks


def _unseen(_: Execution) -> None:
    """Nobody wants to know."""


def _entry(turn: BatchTurn) -> BatchEntry:
    task = turn.task
    ask = _Ask(
        task.text,
        msgspec.structs.replace(turn.prepared, fallbacks=()),  # an entry is answered by its model, or not at all
        keeps=turn.keeps,
        workflow_id=task.workflow_id,
        run_id=task.run_id,
        step_id=task.step_id,
    )
    return BatchEntry(key=turn.key, agent=task.agent_name, body=msgspec.json.encode(ask))


def _decode(entry: BatchEntry) -> _Ask:
    try:
        return _decoder.decode(entry.body)
    except msgspec.DecodeError as error:
        raise BatchError(f"the record of batches is damaged: {error} in an entry; move it away") from error


def _named(entry: BatchEntry, id_: str) -> BatchEntry:
    return msgspec.structs.replace(entry, custom_id=custom_id_of(entry.key, id_))


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


def _asked(entries: Sequence[BatchEntry], endpoint: Endpoint) -> list[Asked]:
    """What is sent, marked wherever many share a beginning."""
    wanted = [_decode(entry).prepared for entry in entries]
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


def _may_go_live(outcome: Outcome) -> bool:
    """Whether an ordinary call may well get an answer: what was refused, or cancelled on purpose, is not tried."""
    if isinstance(outcome, BatchEntryError):
        return outcome.end != "canceled"
    return isinstance(outcome, ApiError) and is_passing(outcome)


def _given_again(outcome: Outcome) -> Outcome:
    """The same for another task that asked the same: it is paid for once."""
    if isinstance(outcome, ClaudeForceError):
        return outcome
    facts = {name: getattr(outcome, name) for name in AgentResult.__slots__}
    paid = {"cached": True, "cache_age_seconds": 0.0, "usage": _NOTHING, "cost_usd": _FREE, "attempts": 0}
    saved = {"saved_usd": outcome.cost_usd, "savings": Savings(cache_usd=outcome.cost_usd)}
    facts |= paid | saved | {"prompt_caching": PromptCaching()}
    return AgentResult(str(outcome), **facts)
