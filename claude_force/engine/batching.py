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

**Accounted once.** One process at a time collects a batch. The ledger says which of its answers it has: after a crash,
collecting writes only the others down, but keeps and gives all.

How it is sent once, and never over a limit, is told in `sending`.
"""

import copy
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import msgspec

from claude_force.base.batches import (
    RESULTS_KEPT,
    BatchEntry,
    BatchRecord,
    custom_id_of,
    unanswered,
)
from claude_force.base.endpoints import Endpoint
from claude_force.base.errors import (
    ApiError,
    BatchEntryError,
    BatchError,
    BatchNotFoundError,
    ClaudeForceError,
)
from claude_force.base.pricing import BatchPrices
from claude_force.base.records import AgentResult, Caching, Execution, PromptCaching, Reply, Request, Savings
from claude_force.base.spans import NO_SPANS
from claude_force.base.usage import Usage
from claude_force.engine.key import request_key
from claude_force.engine.parts import Parts, Watch
from claude_force.engine.request import Prepared, Task, build_request
from claude_force.engine.retry import is_passing
from claude_force.engine.sending import (
    FIRST_POLL_S,
    BatchTurn,
    BatchWatch,
    Outcome,
    Sending,
    as_asked,
    ask_of,
    entry_of,
)
from claude_force.engine.traffic import Traffic
from claude_force.engine.turn import choice_of, run_prepared

if TYPE_CHECKING:
    from claude_force.base.ports import OnText
    from claude_force.engine.outside import Outside

Results = Mapping[str, Reply | ClaudeForceError]
"""What became of each entry, by `custom_id`."""

Take = Callable[[str, Outcome], None]
"""Called with the key of an answer that was collected."""

# So often results are asked for that lack some: a connection that was cut may look like the end of them.
MOST_LOOKS = 4
_FREE, _NOTHING = Decimal(0), Usage()
_UNBILLED = {"usage": _NOTHING, "cost_usd": _FREE, "batch_saved_usd": _FREE, "routing_saved_usd": _FREE}
_NOBODY: "Mapping[str, BatchTurn]" = MappingProxyType({})


class Batching(Sending, frozen=True, kw_only=True):
    """All that batches need; made by a face's project."""

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

        for id_ in await self.send(outside, list(wanted.values()), watch):
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
        return await self.send(outside, list(wanted.values()), watch)

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
        record = await self.sent(outside, id_, watch)
        try:
            await self.ended(outside, record, watch)
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
                named = (_named(entry_of(turn), id_) for turn in wanted.values())
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
            for entry, asked in zip(entries, as_asked(entries, endpoint), strict=True):
                answers[entry.key], cost_usd = await self._answer(outside, entry, results, record, booked, wanted)
                spent[entry.agent] += self.at_most(asked, record) if cost_usd is None else cost_usd
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
        for looks in itertools.count(1):
            results = await self.heard(outside, lambda: server.results(batch_id), batch_id, watch)
            if len(results) >= record.entries or looks == MOST_LOOKS:
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
            if (ask := ask_of(entry)).run_id is None or ask.run_id != ended_run
        )

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
        ask, result = ask_of(entry), results.get(entry.custom_id) or unanswered("missing")
        turn = wanted.get(entry.key)
        parts = turn.parts if turn else self.parts
        see_booked = turn.see_booked if turn else None
        book = _Book(
            (see_booked or _unseen) if entry.custom_id in booked else parts.ledger.record,
            batch_id=record.batch_id,
            custom_id=entry.custom_id,
            is_free=_is_unbilled(result),
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
        """See `Ledger.record`."""
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


def _is_unbilled(result: "Reply | ClaudeForceError") -> bool:
    """Whether the server says that there is no answer; of what it leaves out nobody knows whether there was one."""
    return not (isinstance(result, Reply) or (isinstance(result, BatchEntryError) and result.end == "missing"))


def _unseen(_: Execution) -> None:
    """Nobody wants to know."""


def _named(entry: BatchEntry, id_: str) -> BatchEntry:
    return msgspec.structs.replace(entry, custom_id=custom_id_of(entry.key, id_))


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
