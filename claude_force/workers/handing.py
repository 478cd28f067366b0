"""Handing over the steps of a run, and taking what comes back: `Hands`, which a run asks for each of its turns.

The run itself stays where it was started, and holds nothing that a crash could lose: ids say what was handed over, so
whoever takes the run up asks for the same, and gets what is done, or waits for what is under way.

    the run's journal or the cache has it ──► take it
    set aside what it can cost ──► hand it over ──► look, until it is done ──► keep it, count it
"""

import itertools
from dataclasses import dataclass
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

    from claude_force.base.records import AgentResult, Execution, Request
    from claude_force.engine.outside import Outside
    from claude_force.engine.parts import Parts, Watch
    from claude_force.engine.request import Prepared, Task
    from claude_force.engine.spending import Stake
    from claude_force.stores.seal import Sealer
    from claude_force.workflows.crew import Handing

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
        turn = _Turn(outside, parts, task, prepared, watch, handing, parts.clock.monotonic())
        cache, agent = handing.cache, task.agent_name
        key = request_key(prepared.request, server=parts.server)
        kept = cache.recall(key, agent=agent)
        kept = kept or await outside.call(lambda: cache.find(key, agent=agent, counts=True))
        if kept is not None:
            given = msgspec.structs.replace(parts, cache=_Given(kept))
            return await run_prepared(outside, given, task, prepared, watch)
        for warning in prepared.warnings:
            turn.warn(warning)
        held = await turn.staked()
        spent_usd: Decimal | None = None
        try:
            outcome = await self._outcome(turn, turn.work(None if held is None else held.worst_usd))
            spent_usd = outcome.execution.cost_usd if outcome.execution else _FREE
        except _UnbegunError as error:
            spent_usd = _FREE
            raise error.why from None
        finally:
            if held is not None:
                await outside.finish(partial(held.settle, spent_usd))
        return await turn.told(outcome)

    # ------------------------------------------------------------ waiting

    async def _outcome(self, turn: "_Turn", work: Work) -> Outcome:
        """How the work ended; it is handed over unless that was done before. Raises `_UnbegunError`, too."""
        outside, has_asked_back = turn.outside, False
        id_ = await self._id(turn, work)
        self._mine.add(id_)
        sealed = sealed_work(self._sealer, id_, work)
        if id_ not in self._standings:
            await self._asked(turn, lambda: self._engine.submit(id_, sealed))
        self._waiting.add(id_)
        try:
            while (ended := _ended(self._standings.get(id_))) is None:
                if ((is_late := self._late(turn)) or turn.handing.is_over()) and not has_asked_back:
                    has_asked_back = True
                    if await self._asked(turn, lambda: self._engine.cancel(id_)):
                        raise _UnbegunError(is_late or turn.handing.unsent())  # noqa: TRY301 - told apart below
                if is_gone := self._late(turn, work.timeout_s + LATE_S):  # whoever has it could not take longer
                    raise is_gone  # noqa: TRY301 - as above
                self._remind(turn, work, self._standings.get(id_))
                await self._look(turn)
        except _UnbegunError:
            raise
        except BaseException as error:
            if not has_asked_back and await outside.finish_apart(partial(self._take_back, id_)):
                raise _UnbegunError(error) from error
            raise
        finally:
            self._waiting.discard(id_)
        return self._taken(id_, ended)

    def _remind(self, turn: "_Turn", work: Work, standing: Standing | None) -> None:
        """Say once that nobody works, or that whoever did may be gone."""
        is_taken = standing is not None and standing.state == "running"
        if not self._is_told and turn.waited_s > PATIENCE_S + (work.timeout_s if is_taken else 0.0):
            self._is_told = True
            turn.warn(f"nobody has {'ended' if is_taken else 'taken'} it for {turn.waited_s:.0f} s; {self._hint}")

    async def _id(self, turn: "_Turn", work: Work) -> str:
        """The id to hand it over under: the first whose outcome is an answer, or may become one, or is not known."""
        if turn.handing.is_forced:  # what came of it before will not do, not even what a worker still has of it
            return work_id(work, f"forced-{int(turn.parts.clock.roll() * 16**8):08x}")
        for take in itertools.count(1):
            id_ = work_id(work, str(take))
            if id_ in self._mine:
                continue
            if not turn.handing.is_resumed:
                break
            standing = (await self._asked(turn, partial(self._engine.look, (id_,)))).get(id_)
            if standing is None:
                break
            if not self._is_failed(id_, standing):
                self._standings[id_] = standing
                break
        return id_

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

    def _late(self, turn: "_Turn", more_s: float = 0.0) -> DeadlineError | None:
        """Why nobody waits any longer, once the run has no time left, nor so much more."""
        waited_s, left_s = turn.waited_s, turn.handing.left_s
        if left_s is None or waited_s < left_s + more_s:
            return None
        return DeadlineError(
            f"no worker has done {turn.task.step_id!r} in the {waited_s:.0f} s that the run had for it; {self._hint},"
            " or raise its timeout_seconds",
            timeout_s=waited_s,
            elapsed_s=waited_s,
        )

    def _take_back(self, id_: str) -> bool:
        """When the run is cancelled: what nobody has begun is not begun; what runs is there for who takes it up."""
        try:
            return self._engine.cancel(id_)
        except UnreachableError:
            return False

    async def _look(self, turn: "_Turn") -> None:
        """Look how all that wait stand, or let another one's look do."""
        monotonic = turn.parts.clock.monotonic
        if monotonic() < self._next_look_s:
            await turn.outside.pause(LOOK_EVERY_S)
            return
        self._next_look_s = monotonic() + LOOK_EVERY_S
        ids = tuple(self._waiting)
        found = await self._asked(turn, partial(self._engine.look, ids))
        self._standings.update({id_: found.get(id_, _REMOVED) for id_ in ids})

    async def _asked(self, turn: "_Turn", ask: "Callable[[], T]") -> T:
        """What the engine says; while it is away, everything waits, for as long as the run has time."""
        is_told = False
        while True:
            try:
                return await turn.outside.apart(ask)
            except UnreachableError as error:
                if not is_told:
                    is_told = True
                    turn.warn(f"the engine does not answer, so everything waits for it: {error}")
                if is_late := self._late(turn):
                    raise is_late from error
                await turn.outside.pause(AWAY_S)


class _UnbegunError(Exception):
    """Carries out why work was taken back that nobody had begun: it has cost nothing."""

    def __init__(self, why: BaseException) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class _Turn:
    """One turn that is handed over."""

    outside: "Outside"
    parts: "Parts"
    task: "Task"
    prepared: "Prepared"
    watch: "Watch"
    handing: "Handing"
    since_s: float
    """By the clock's `monotonic`."""

    @property
    def waited_s(self) -> float:
        """How long it has taken so far."""
        return self.parts.clock.monotonic() - self.since_s

    @property
    def timeout_s(self) -> float:
        """How long it may take by whoever does it."""
        return self.task.timeout_s or self.parts.config.defaults.timeout_seconds

    def warn(self, text: str) -> None:
        """Tell whoever looks on."""
        if self.watch.on_warning:
            self.watch.on_warning(text)

    async def staked(self) -> "Stake | None":
        """What one answer can cost at the most, of the models that may be asked the one that costs most."""
        parts, prepared = self.parts, self.prepared
        if parts.budget is None:
            return None
        now = parts.clock.now()

        def worst(request: "Request") -> Decimal:  # what has no price costs more than all that have one
            usd = request_usd(request, parts.prices, now, inference_geo=prepared.dearest_geo)
            return Decimal("Infinity") if usd is None else usd

        return await stake(
            self.outside,
            parts,
            parts.budget,
            self.task.agent_name,
            max((prepared.request, *prepared.fallbacks), key=worst),
            lambda: self.timeout_s - self.waited_s,
            inference_geo=prepared.dearest_geo,
        )

    def work(self, limit_usd: Decimal | None) -> Work:
        """All that a worker has to know."""
        parts, task, prepared, cache = self.parts, self.task, self.prepared, self.handing.cache
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
            timeout_s=self.timeout_s,
            attempt_timeout_s=task.attempt_timeout_s or defaults.attempt_timeout_seconds,
            max_retries=defaults.max_retries,
            others=task.others() if task.others else "none",
            run_s=task.run_s,
            keeps=cache.is_shared,
            reads=cache.reads_shared,
            limit_usd=limit_usd,
        )

    async def told(self, outcome: Outcome) -> "AgentResult":
        """What came back, as if it had been done here: seen, counted, kept."""
        execution = outcome.execution
        if execution is not None:
            self.handing.see(execution)
        if self.watch.on_retry:
            for retry in outcome.retries:
                self.watch.on_retry(retry_of(retry))
        if outcome.error is not None or execution is None or outcome.text is None:
            raise error_of(outcome.error) if outcome.error else EngineError("a worker gave no answer and no reason")
        for warning in outcome.warnings:
            self.warn(warning)
        if not execution.cached:
            await self.outside.finish(partial(self._keep, outcome.text, execution))
        return result_of(outcome.text, execution, self.prepared, (*self.prepared.warnings, *outcome.warnings))

    def _keep(self, text: str, execution: "Execution") -> None:
        """The answer, in the run's journal and the cache, under the request's own key, as `engine.sharing` does."""
        parts, prepared, task = self.parts, self.prepared, self.task
        last = execution.calls[-1]
        asked = next((request for request in prepared.fallbacks if request.model == last.asked_as), prepared.request)
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
        self.handing.cache.keep(key, reply, agent=task.agent_name, task=task.text, cost_usd=cost_usd)


def _ended(standing: Standing | None) -> Standing | None:
    return standing if standing and standing.state in {"done", "cancelled", "lost"} else None


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
