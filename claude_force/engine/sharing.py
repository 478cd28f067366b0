"""Ask once, pay once: an answer that was kept, that another turn is asking for, or that another process is.

the cache has it                        -> take it
a turn of this process asks the same    -> wait for it (`flight`)
another process asks the same           -> wait until it is in the cache
nobody does                             -> ask, keep the answer, and give it to all who wait
"""

import copy
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from claude_force.base.errors import ClaudeForceError, InvalidOutputError
from claude_force.base.records import KeptReply
from claude_force.engine import books
from claude_force.engine.answer import read_answer
from claude_force.engine.attempts import ask_models, deadline
from claude_force.engine.key import request_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from claude_force.base.ports import ReplyCache
    from claude_force.base.records import Request
    from claude_force.engine.parts import Turn

# How often to look whether another process has its answer: a look costs 20 us, and an answer takes seconds.
LOOK_EVERY_S = 0.05


async def answer(turn: "Turn", requests: "Sequence[Request]") -> str:
    """The answer to the first of these requests, or, where its model is not available, to one of the others."""
    use_cache, cache = turn.task.use_cache, turn.parts.cache
    if use_cache is False:
        return await ask_models(turn, requests)
    key = _key(turn, requests[0])
    agent = turn.task.agent_name
    if (
        cache
        and use_cache != "refresh"
        and (kept := await _looked_up(turn, "memory", lambda: cache.recall(key, agent=agent), may_stall=False))
    ):
        return _given(turn, kept)
    models = (request.model for request in requests[1:])  # who takes no other model's answer must not be given one
    kind = "refresh" if use_cache == "refresh" else ""
    return await _share(turn, requests, key, flight="/".join((key, kind, turn.inference_geo or "", *models)))


async def _share(turn: "Turn", requests: "Sequence[Request]", key: str, *, flight: str) -> str:
    """Lead the flight, or wait for what its leader gets."""
    flights = turn.parts.traffic.flights
    seat = flights.board(flight, is_blocking=turn.outside.is_blocking)
    outcome: KeptReply | ClaudeForceError | None = None
    try:
        if not seat.leads:
            with turn.spans.span("wait", "the same request"):
                await turn.outside.wait(seat.called, timeout_s=max(turn.left_s, 0.0))
            if seat.outcome is None and turn.left_s <= 0:
                raise deadline(turn)
        if seat.leads:
            text, outcome = await _lead(turn, requests, key, waits=not seat.flies_alone)
            return text
    except ClaudeForceError as error:
        outcome = error if error.is_terminal else None
        raise
    finally:
        flights.leave(seat, outcome)
    if isinstance(seat.outcome, KeptReply):
        return _given(turn, seat.outcome)
    raise copy.copy(seat.outcome) if seat.outcome else deadline(turn)  # a raised error collects tracebacks


async def _lead(turn: "Turn", requests: "Sequence[Request]", key: str, *, waits: bool) -> tuple[str, KeptReply]:
    """Ask, and keep the answer before anybody else may ask."""
    cache = turn.parts.cache
    if cache is None:
        text = await ask_models(turn, requests)
        return text, KeptReply(reply=turn.replies[-1], cost_usd=None)
    agent, may_stall, reads = turn.task.agent_name, cache.may_stall, turn.task.use_cache != "refresh"
    # To claim on a server, and to let go, is done to its end: a turn that is cancelled must leave no claim behind.
    finish = turn.outside.finish
    claim = partial(cache.claim, key, agent=agent, is_blocking=turn.outside.is_blocking)
    look = partial(cache.find, key, agent=agent, counts=True)
    if may_stall and reads:  # a look is a third of what claiming, looking and letting go take there
        if kept := await _looked_up(turn, "cache", look, may_stall=True):
            return _given(turn, kept), kept
        look = partial(cache.find, key, agent=agent, counts=False)
    release: Callable[[], object] | None = None
    try:
        while reads and not release:
            if waits:
                release = await finish(claim) if may_stall else claim()
            if kept := await _looked_up(turn, "cache", look, may_stall=may_stall):
                return _given(turn, kept), kept
            if not waits:
                break
            if not release:
                await _rest(turn)
            look = partial(cache.find, key, agent=agent, counts=False)
        text = await ask_models(turn, requests)
        books.close(turn)
        return text, await turn.outside.finish(lambda: _keep(turn, cache))
    finally:
        if release:
            await finish(release) if may_stall else release()


async def _rest(turn: "Turn") -> None:
    """Wait until it is time to look again whether somebody has the answer."""
    if turn.left_s <= LOOK_EVERY_S:
        raise deadline(turn)
    with turn.spans.span("wait", "the same request"):
        await turn.outside.pause(LOOK_EVERY_S)


def _keep(turn: "Turn", cache: "ReplyCache") -> KeptReply:
    """Under the key of the request that was answered: a fallback model's answer is not the first one's."""
    request, reply, parts = turn.asked[-1], turn.replies[-1], turn.parts
    # What others are saved is the price of this reply, without attempts that were of no use.
    cost_usd = parts.prices.cost_usd(reply.model, reply.usage, turn.timestamp, asked_as=request.model)
    cache.keep(_key(turn, request), reply, agent=turn.task.agent_name, task=turn.task.text, cost_usd=cost_usd)
    books.enter(turn)  # in the same hop to a thread, and after it: who is killed in between has what was paid
    return KeptReply(reply=reply, cost_usd=cost_usd)


def _key(turn: "Turn", request: "Request") -> str:
    return request_key(request, server=turn.parts.server)


async def _looked_up(
    turn: "Turn", where: str, look: "Callable[[], KeptReply | None]", *, may_stall: bool
) -> KeptReply | None:
    """What is there that fits."""
    with turn.spans.span("lookup", where) as span:
        kept = _fitting(turn, await turn.outside.call(look) if may_stall else look())
        span.tell(kept)
    return kept


def _fitting(turn: "Turn", kept: KeptReply | None) -> KeptReply | None:
    """What was kept, if it fits the schema: a later release of the checker may be stricter than one before."""
    with suppress(InvalidOutputError):
        if kept and turn.output_schema is not None:
            read_answer(kept.reply, agent=turn.task.agent_name, schema=turn.output_schema)
        return kept
    return None


def _given(turn: "Turn", kept: KeptReply) -> str:
    """An answer that this turn does not pay for; who streams gets it in one piece."""
    turn.kept = kept
    if turn.watch.on_text:
        turn.watch.on_text(kept.reply.text)
    return read_answer(kept.reply, agent=turn.task.agent_name)
