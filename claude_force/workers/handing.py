"""Handing over the steps of a run, and taking what comes back: `Hands`, which a run asks for each of its turns.

The run itself stays where it was started, and holds nothing that a crash could lose: ids say what was handed over, so
whoever takes the run up asks for the same, and gets what is done, or waits for what is under way.

    the run's journal or the cache has it ──► take it
    set aside what it can cost ──► hand it over ──► look, until it is done ──► keep it, count it
"""

from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from claude_force.base.errors import DeadlineError, EngineError
from claude_force.base.records import KeptReply, Reply
from claude_force.engine.budget import request_usd
from claude_force.engine.key import request_key
from claude_force.engine.spending import stake
from claude_force.engine.turn import result_of, run_prepared
from claude_force.workers.engine import Engine, Standing, UnreachableError
from claude_force.workers.work import Outcome, Work, error_of, opened_outcome, retry_of, sealed_work, work_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from claude_force.base.clock import Clock
    from claude_force.base.records import AgentResult, Execution, Request
    from claude_force.engine.outside import Outside
    from claude_force.engine.parts import Parts, Watch
    from claude_force.engine.request import Prepared, Task
    from claude_force.engine.spending import Stake
    from claude_force.stores.seal import Sealer
    from claude_force.workflows.crew import Handing
    from claude_force.workflows.journal import RunCache

    Late = Callable[..., DeadlineError | None]
    """Why nobody waits any longer, once the run has no time left."""

# How often to look how work stands: an answer takes seconds, and a look a millisecond for all that wait together.
LOOK_EVERY_S = 0.1
# How long to wait until somebody is told that nobody takes it, and before an engine that is away is asked again.
PATIENCE_S, AWAY_S = 10.0, 1.0
# How much later than its time an outcome may come, before whoever has the work is taken for gone.
LATE_S = 2.0

_FREE = Decimal(0)
_REMOVED = Standing("cancelled")

T = TypeVar("T")


class Hands:
    """The turns of one run, made by workers. Implements `workflows.crew.Hands`."""

    def __init__(self, engine: Engine, sealer: "Sealer", *, hint: str) -> None:
        """`hint` says how somebody comes to do the work."""
        self._engine, self._sealer, self._hint = engine, sealer, hint
        self._standings: dict[str, Standing] = {}
        self._waiting: set[str] = set()
        self._mine: set[str] = set()
        """What this run has handed over since it was taken up."""
        self._next_look_s = 0.0
        self._is_told = False  # that nobody takes what it hands over

    async def begin(self, outside: "Outside") -> None:
        """Connect. Raises `EngineError` or `ConfigError`."""
        await outside.apart(self._engine.open)

    async def end(self, outside: "Outside", run_id: str, *, is_complete: bool, drains: bool) -> None:
        """The run is over. What came to its end is kept in its journal, and the engine need not have it any more."""

        def end() -> None:
            try:
                if is_complete:
                    self._engine.forget(f"{run_id}/")
            except UnreachableError:
                pass  # it is in nobody's way
            finally:
                self._engine.close(drains=drains)

        await outside.finish_apart(end)

    async def turn(
        self,
        outside: "Outside",
        parts: "Parts",
        task: "Task",
        prepared: "Prepared",
        watch: "Watch",
        *,
        handing: "Handing",
    ) -> "AgentResult":
        """The answer, by whoever takes the work. Raises as `run_turn` does, and `EngineError`."""
        cache, agent = handing.cache, task.agent_name
        key = request_key(prepared.request, server=parts.server)
        kept = cache.recall(key, agent=agent)
        kept = kept or await outside.call(lambda: cache.find(key, agent=agent, counts=True))
        if kept is not None:
            given = msgspec.structs.replace(parts, cache=_Given(kept))
            return await run_prepared(outside, given, task, prepared, watch)
        warn = watch.on_warning or _nobody
        for warning in prepared.warnings:
            warn(warning)
        held = await self._staked(outside, parts, task, prepared)
        work = _work(parts, task, prepared, handing, None if held is None else held.worst_usd)
        spent_usd: Decimal | None = None
        try:
            outcome = await self._outcome(outside, parts, work, handing, warn)
            spent_usd = outcome.execution.cost_usd if outcome.execution else _FREE
        except _UnbegunError as error:
            spent_usd = _FREE
            raise error.why from None
        finally:
            if held is not None:
                await outside.finish(partial(held.settle, spent_usd))
        return await self._told(outside, parts, task, prepared, watch, handing, outcome)

    async def _told(
        self,
        outside: "Outside",
        parts: "Parts",
        task: "Task",
        prepared: "Prepared",
        watch: "Watch",
        handing: "Handing",
        outcome: Outcome,
    ) -> "AgentResult":
        """What came back, as if it had been done here: seen, counted, kept."""
        warn, execution = watch.on_warning or _nobody, outcome.execution
        if execution is not None:
            handing.see(execution)
        for retry in outcome.retries:
            (watch.on_retry or _nobody)(retry_of(retry))
        if outcome.error is not None or execution is None or outcome.text is None:
            raise error_of(outcome.error) if outcome.error else EngineError("a worker gave no answer and no reason")
        for warning in outcome.warnings:
            warn(warning)
        if not execution.cached:
            await outside.finish(partial(_keep, parts, task, prepared, handing.cache, outcome.text, execution))
        return result_of(outcome.text, execution, prepared, (*prepared.warnings, *outcome.warnings))

    async def _staked(self, outside: "Outside", parts: "Parts", task: "Task", prepared: "Prepared") -> "Stake | None":
        """What one answer can cost at the most, of the models that may be asked the one that costs most."""
        if parts.budget is None:
            return None
        requests, geo = (prepared.request, *prepared.fallbacks), prepared.dearest_geo
        now = parts.clock.now()
        timeout_s, started_s = task.timeout_s or parts.config.defaults.timeout_seconds, parts.clock.monotonic()
        dearest = max(requests, key=lambda request: _worst(request, parts, now, geo))
        return await stake(
            outside,
            parts,
            parts.budget,
            task.agent_name,
            dearest,
            lambda: timeout_s - (parts.clock.monotonic() - started_s),
            inference_geo=geo,
        )

    # ------------------------------------------------------------ waiting

    async def _outcome(
        self, outside: "Outside", parts: "Parts", work: Work, handing: "Handing", warn: "Callable[[str], object]"
    ) -> Outcome:
        """How the work ended; it is handed over unless that was done before. Raises `_UnbegunError`, too."""
        clock = parts.clock
        since_s, has_asked_back = clock.monotonic(), False

        def late(more_s: float = 0.0) -> DeadlineError | None:
            waited_s = clock.monotonic() - since_s
            is_late = handing.left_s is not None and waited_s >= handing.left_s + more_s
            return self._late(work, waited_s) if is_late else None

        id_ = await self._id(outside, work, handing, clock, late)
        self._mine.add(id_)
        sealed = sealed_work(self._sealer, id_, work)
        if id_ not in self._standings:
            await self._asked(outside, lambda: self._engine.submit(id_, sealed), warn, late)
        self._waiting.add(id_)
        try:
            while (ended := _ended(self._standings.get(id_))) is None:
                if ((is_late := late()) or handing.is_over()) and not has_asked_back:
                    has_asked_back = True
                    if await self._asked(outside, lambda: self._engine.cancel(id_), warn, late):
                        raise _UnbegunError(is_late or handing.unsent())  # noqa: TRY301 - told apart below
                if is_gone := late(work.timeout_s + LATE_S):  # whoever has it could not take longer
                    raise is_gone  # noqa: TRY301 - as above
                self._remind(work, self._standings.get(id_), clock.monotonic() - since_s, warn)
                await self._look(outside, clock.monotonic, warn, late)
        except _UnbegunError:
            raise
        except BaseException as error:
            if not has_asked_back and await outside.finish_apart(partial(self._take_back, id_)):
                raise _UnbegunError(error) from error
            raise
        finally:
            self._waiting.discard(id_)
        return self._taken(id_, ended)

    def _remind(self, work: Work, standing: Standing | None, waited_s: float, warn: "Callable[[str], object]") -> None:
        """Say once that nobody works, or that whoever did may be gone."""
        is_taken = standing is not None and standing.state == "running"
        if not self._is_told and waited_s > PATIENCE_S + (work.timeout_s if is_taken else 0.0):
            self._is_told = True
            warn(f"nobody has {'ended' if is_taken else 'taken'} it for {waited_s:.0f} s; {self._hint}")

    async def _id(self, outside: "Outside", work: Work, handing: "Handing", clock: "Clock", late: "Late") -> str:
        """The id to hand it over under: the first whose outcome is an answer, or may become one, or is not known."""
        if handing.is_forced:  # what came of it before will not do, not even what a worker still has of it
            return work_id(work, f"forced-{int(clock.roll() * 16**8):08x}")
        take = 1
        while True:
            id_ = work_id(work, str(take))
            if id_ not in self._mine:
                if not handing.is_resumed:
                    return id_
                found = await self._asked(outside, partial(self._engine.look, (id_,)), _nobody, late)
                standing = found.get(id_)
                if standing is None:
                    return id_
                if not self._is_failed(id_, standing):
                    self._standings[id_] = standing
                    return id_
            take += 1

    def _is_failed(self, id_: str, standing: Standing) -> bool:
        if standing.outcome is None:
            return standing.state in {"done", "cancelled", "lost"}
        try:
            execution = opened_outcome(self._sealer, id_, standing.outcome).execution
        except EngineError:  # another one is asked for, and if that is no better it is said
            return True
        return execution is None or not execution.success  # an answer that was cut is none

    def _taken(self, id_: str, ended: Standing) -> Outcome:
        """What came of it. Raises `EngineError` where nothing did."""
        self._standings.pop(id_, None)
        if ended.outcome is not None:
            return opened_outcome(self._sealer, id_, ended.outcome)
        if ended.state == "cancelled":
            raise EngineError(
                f"the work {id_!r} was cancelled, or removed, by somebody else; take the run up again", work=id_
            )
        raise EngineError(
            f"the work {id_!r} was given up: each worker that took it died, or could not read it; see their logs, then"
            " take the run up again",
            work=id_,
        )

    def _late(self, work: Work, waited_s: float) -> DeadlineError:
        return DeadlineError(
            f"no worker has done {work.step!r} in the {waited_s:.0f} s that the run had for it; {self._hint}, or raise"
            " its timeout_seconds",
            timeout_s=waited_s,
            elapsed_s=waited_s,
        )

    def _take_back(self, id_: str) -> bool:
        """When the run is cancelled: what nobody has begun is not begun; what runs is there for who takes it up."""
        try:
            return self._engine.cancel(id_)
        except UnreachableError:
            return False

    async def _look(
        self, outside: "Outside", monotonic: "Callable[[], float]", warn: "Callable[[str], object]", late: "Late"
    ) -> None:
        """Look how all that wait stand, or let another one's look do."""
        if monotonic() < self._next_look_s:
            await outside.pause(LOOK_EVERY_S)
            return
        self._next_look_s = monotonic() + LOOK_EVERY_S
        ids = tuple(self._waiting)
        found = await self._asked(outside, partial(self._engine.look, ids), warn, late)
        self._standings.update({id_: found.get(id_, _REMOVED) for id_ in ids})

    async def _asked(
        self, outside: "Outside", ask: "Callable[[], T]", warn: "Callable[[str], object]", late: "Late"
    ) -> T:
        """What the engine says; while it is away, everything waits, for as long as the run has time."""
        is_told = False
        while True:
            try:
                return await outside.apart(ask)
            except UnreachableError as error:
                if not is_told:
                    is_told = True
                    warn(f"the engine does not answer, so everything waits for it: {error}")
                if is_late := late():
                    raise is_late from error
                await outside.pause(AWAY_S)


class _UnbegunError(Exception):
    """Carries out why work was taken back that nobody had begun: it has cost nothing."""

    def __init__(self, why: BaseException) -> None:
        super().__init__(why)
        self.why = why


def _work(parts: "Parts", task: "Task", prepared: "Prepared", handing: "Handing", limit_usd: Decimal | None) -> Work:
    """All that a worker has to know."""
    defaults = parts.config.defaults
    return Work(
        agent=task.agent_name,
        task=task.text,
        workflow=task.workflow_id or "",
        run=task.run_id or "",
        step=task.step_id or "",
        request=prepared.request,
        fallbacks=prepared.fallbacks,
        unrouted_model=prepared.unrouted_model,
        server=parts.server,
        inference_geo=prepared.inference_geo,
        timeout_s=task.timeout_s or defaults.timeout_seconds,
        attempt_timeout_s=task.attempt_timeout_s or defaults.attempt_timeout_seconds,
        max_retries=defaults.max_retries,
        others=task.others() if task.others else "none",
        run_s=task.run_s,
        keeps=handing.cache.is_shared,
        reads=handing.cache.reads_shared,
        limit_usd=limit_usd,
    )


def _worst(request: "Request", parts: "Parts", now: "datetime", inference_geo: str | None) -> Decimal:
    """What it can cost at the most, for a comparison: what has no price costs more than all that have one."""
    usd = request_usd(request, parts.prices, now, inference_geo=inference_geo)
    return Decimal("Infinity") if usd is None else usd


def _keep(
    parts: "Parts", task: "Task", prepared: "Prepared", cache: "RunCache", text: str, execution: "Execution"
) -> None:
    """The answer, in the run's journal and the cache, as `engine.sharing` keeps one: under the request's own key."""
    last = execution.calls[-1]
    asked = next(
        (request for request in prepared.fallbacks if request.model == last.asked_as),
        prepared.request,
    )
    cost_usd = execution.cost_usd
    if execution.attempts > 1:
        cost_usd = parts.prices.cost_usd(last.model, last.usage, execution.timestamp, asked_as=last.asked_as)
    reply = Reply(
        model=last.model,
        text=text,
        stop_reason=execution.stop_reason,
        usage=last.usage,
        request_id=execution.request_id,
        simulated=execution.simulated,
    )
    key = request_key(asked, server=parts.server)
    cache.keep(key, reply, agent=task.agent_name, task=task.text, cost_usd=cost_usd)


def _ended(standing: Standing | None) -> Standing | None:
    return standing if standing and standing.state in {"done", "cancelled", "lost"} else None


def _nobody(_: object) -> None:
    """Who looks on where nobody does."""


class _Given:
    """A cache for one turn whose answer was found already. Implements what of `base.ports.ReplyCache` is then asked."""

    def __init__(self, kept: KeptReply) -> None:
        self._kept = kept

    def recall(self, key: str, *, agent: str) -> KeptReply:  # noqa: ARG002 - of the protocol
        """See `ReplyCache.recall`."""
        return self._kept

    find = peek = recall

    def keep(self, *_: object, **__: object) -> None:
        """It is kept."""

    def claim(self, *_: object, **__: object) -> "Callable[[], object]":
        """See `ReplyCache.claim`."""
        return lambda: None
