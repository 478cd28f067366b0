"""A run of a workflow, written once for both faces: `Run.execute` starts what is ready and settles what has ended.

All decisions are made here, between two awaits of one coroutine, so they need no lock: what is ready (`schedule`), what
a step is told (`data`), whether the budget has room, what a failure means for the rest. What is slow is asked of a
`Crew`, which does one step after the other, or many at once; each step is one turn (`engine.turn`).
"""

import copy
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from claude_force.base.errors import (
    AnswerError,
    BudgetError,
    ClaudeForceError,
    CutAnswerError,
    DeadlineError,
    NotRunError,
    RunError,
    WorkflowError,
)
from claude_force.base.pricing import total_usd
from claude_force.base.records import PromptCaching, Reply, Savings
from claude_force.base.results import StepResult, WorkflowResult
from claude_force.engine.parts import Watch
from claude_force.engine.request import suspicions
from claude_force.engine.retry import is_passing
from claude_force.engine.turn import run_turn
from claude_force.stores.runs import StepRecord
from claude_force.workflows.asking import config_of, task_of
from claude_force.workflows.causes import causes_of, differences, kept_causes
from claude_force.workflows.crew import Handing
from claude_force.workflows.data import NO_ITEM, holds, list_of, told
from claude_force.workflows.events import EventKind, OnEvent, RunEvent
from claude_force.workflows.journal import RunCache
from claude_force.workflows.rounds import Rounds
from claude_force.workflows.schedule import Schedule, Standing
from claude_force.workflows.template import placeholders
from claude_force.workflows.unit import Noting, Spread, Unit

if TYPE_CHECKING:
    from claude_force.base.ports import UseCache
    from claude_force.base.records import AgentResult, ModelRecommendation, Retry
    from claude_force.base.results import RunStatus, StepStatus
    from claude_force.engine.batching import Batching
    from claude_force.engine.parts import Parts
    from claude_force.engine.request import Others, Task
    from claude_force.engine.turn import Do
    from claude_force.stores.claims import Claims
    from claude_force.workflows.causes import Causes
    from claude_force.workflows.crew import Crew, Hands
    from claude_force.workflows.data import Told
    from claude_force.workflows.definition import ForEach, WorkflowStep
    from claude_force.workflows.journal import Journal
    from claude_force.workflows.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run is to be made."""

    use_cache: "UseCache" = None
    """As for a call, for every step: `False` neither asks the response cache nor keeps there."""
    force: frozenset[str] = frozenset()
    """Steps that are done again whatever there is."""
    with_text: bool = False
    """Whether events tell each piece of text, which costs a stream."""
    on_event: OnEvent | None = None
    batching: "Batching | None" = None
    """What sends its turns as message batches, if they are to be."""
    live_fallback: bool = False
    """Whether what a batch left unanswered is asked as an ordinary call."""
    hands: "Hands | None" = None
    """Who makes its turns, if it is not done here."""


class Run:
    """One run. `before` has the steps of the run that this one is compared with, for `StepResult.why`."""

    def __init__(
        self,
        plan: "Plan",
        inputs: Mapping[str, Any],
        *,
        parts: "Parts",
        crew: "Crew",
        journal: "Journal",
        claims: "Claims",
        seconds: Mapping[str, float],
        before: Mapping[str, StepRecord],
        choices: "Mapping[str, ModelRecommendation]",
        is_resumed: bool,
        options: RunOptions,
    ) -> None:
        self.plan, self._inputs, self._parts, self._crew = plan, inputs, parts, crew
        self._journal, self._claims, self._before, self._options = journal, claims, before, options
        self.choices = choices
        """The router's, by step, for where nobody names a model."""
        self._is_resumed = is_resumed
        self._lists = frozenset(step.id for step in plan.steps.values() if step.items)
        self._size, self._timeout_seconds = crew.size, plan.workflow.timeout_seconds
        self._rounds: Rounds | None = None
        if options.batching is not None:
            self._rounds = self._crew = self._rounds_of(options.batching)
            self._size, self._timeout_seconds = self._rounds.size, None  # a batch has hours, and no bound
        elif plan.workflow.max_concurrent:
            self._size = min(crew.size, plan.workflow.max_concurrent)
        remaining = plan.remaining(seconds)
        # One at a time, the file's own order is the one that a reader expects.
        self._schedule = Schedule(plan, remaining if self._size > 1 else {})
        known_s = sum(seconds.values()) if self._size == 1 else max(remaining.values(), default=0.0)
        self._expected_s = known_s if seconds else 0.0
        self._uses = Counter(self._kin(step, step.agent, step.model) for step in plan.steps.values())
        """Steps that have not ended, by whom they ask."""
        self._spans = parts.find_spans()
        self._started_s = parts.clock.monotonic()
        self._results: dict[str, StepResult] = {}
        self._order: list[str] = []
        self._in_flight: set[Unit] = set()
        self._spreads: list[Spread] = []
        self._cost_usd: Decimal | None = Decimal(0)
        self._saved_usd = Decimal(0)
        self._caching, self._savings = PromptCaching(), Savings()
        self._warnings: list[str] = []
        self._error: ClaudeForceError | None = None
        self._is_stopped = False
        self._on_event = options.on_event
        self._defect: BaseException | None = None  # what `on_event` raised
        self._records: deque[StepRecord] = deque()  # how steps ended, where it is not written down yet

    def _rounds_of(self, batching: "Batching") -> Rounds:
        from claude_force.engine.sending import BatchWatch  # noqa: PLC0415 - most runs have none

        watch = BatchWatch(
            on_status=lambda status: self._tell("batch", batch=status),
            on_warning=lambda text: self._tell("warning", text=text),
        )
        live_fallback = self._options.live_fallback
        return Rounds(self._crew.outside, batching, live_fallback=live_fallback, watch=watch, is_over=self._is_over)

    @property
    def run_id(self) -> str:
        """Its id in the journal."""
        return self._journal.run_id

    @property
    def is_kept(self) -> bool:
        """Whether its journal has all of it, so that it can be taken up again."""
        return self._journal.is_complete

    # ------------------------------------------------------------ the loop

    async def execute(self) -> WorkflowResult:
        """Do all that can be done. Raises only what is no failure of a step: a cancellation, a Ctrl-C, a defect."""
        with self._spans.span("run", self.plan.name, run_id=self._journal.run_id) as span:
            result = await self._executed()
            span.tell(result)
        return result

    async def _executed(self) -> WorkflowResult:
        drains = False
        try:
            self._tell("run_started")
            await self._take_hands()
            while True:
                self._fill()
                if not self._in_flight:
                    break
                self._end(await self._crew.ended())
            if self._rounds and not self._is_over():
                await self._rounds.finish(self._journal.run_id)
            drains = True
        except BaseException:
            self._is_stopped = True
            try:
                await self._crew.cancel()
            finally:  # a second cancellation may come meanwhile
                for unit in tuple(self._in_flight):
                    self._end(unit)
            raise
        finally:
            left = [step for step in self.plan.steps.values() if step.id not in self._results]
            result = await self._finished(left)
            if hands := self._options.hands:
                is_complete = result.status == "completed"
                await hands.end(self._crew.outside, result.run_id, is_complete=is_complete, drains=drains)
            for step in left:
                self._tell("ended", step=step.id, result=result.steps[step.id])
            self._tell("run_ended", run=result)
        return result

    async def _take_hands(self) -> None:
        """Connect to who makes the turns; a run that has nobody ends before it sends anything."""
        if hands := self._options.hands:
            try:
                await hands.begin(self._crew.outside)
            except ClaudeForceError as error:
                self._error = error

    async def outcome(self, *, on_error: Literal["raise", "return"]) -> WorkflowResult:
        """As `execute`; with `"raise"`, a run that did not come to its end is a `RunError`."""
        result = await self.execute()
        if result.status != "completed" and on_error == "raise":
            raise self._failed(result) from result.error
        return result

    def _failed(self, result: WorkflowResult) -> RunError:
        missing = [f"{step.id} ({step.status})" for step in result.steps.values() if not step.has_answer]
        why = f": {_line(result.error)}" if result.error else ""
        further = "can be taken up again" if self.is_kept else "could not be written down, so it cannot be taken up"
        return RunError(
            f"workflow {result.workflow_name!r} did not come to its end{why}; without an answer: {', '.join(missing)};"
            f" run {result.run_id} {further}",
            result=result,
            exit_code=result.exit_code,
        )

    def stop(self) -> None:
        """Start nothing more; what is in flight comes to its end and is kept."""
        self._is_stopped = True

    def _fill(self) -> None:
        while len(self._in_flight) < self._size and not self._is_over():
            unit = self._next_unit()
            if unit is None:
                return
            unit.started_s = self._elapsed_s
            self._in_flight.add(unit)
            self._tell("started", step=unit.name, items=unit.of)
            self._crew.start(self._do(unit))

    def _is_over(self) -> bool:
        """Whether nothing more may start; notices it if the time of the run is over by now."""
        timeout_s = self._timeout_seconds
        if (
            timeout_s is not None
            and self._elapsed_s >= timeout_s
            and not (self._error or self._is_stopped)
            and (self._spreads or self._schedule.waiting)  # else it is done, if late
        ):
            self._error = DeadlineError(
                f"workflow {self.plan.name!r} is not done within {timeout_s:g} s; raise its timeout_seconds, or"
                " take the run up again",
                timeout_s=timeout_s,
                elapsed_s=self._elapsed_s,
            )
        return self._is_stopped or self._error is not None

    def _next_unit(self) -> Unit | None:
        """The next item of a step that is spread out, else the next step; what needs no turn is settled on the way."""
        for spread in self._spreads:
            if spread.has_room:
                spread.running += 1
                return spread.left.popleft()
        while not self._is_over() and (step := self._schedule.take()):
            if step.when and not holds(step.when, self._inputs, self._known(step)):
                reason = "its condition (`when`) does not hold"
                self._settle(step, self._empty(step, status="skipped", reason=reason), Standing.PASSED)
            elif not step.items:
                return Unit(step, step.id, Noting(self._parts.ledger))
            elif unit := self._spread(step, step.items):
                return unit
        return None

    def _spread(self, step: "WorkflowStep", each: "ForEach") -> Unit | None:
        """The first item of the step; `None` where it has none, or its list is no list."""
        (place,) = placeholders(each.items)
        try:
            items = list_of(place, self._inputs, self._known(step))
        except WorkflowError as error:
            self._settle_failed(step, self._empty(step, status="failed", error=error))
            return None
        if not items:
            self._settle_as(step, self._empty(step, status="done", text="[]"))
            return None
        ledger = self._parts.ledger
        units = deque(
            Unit(step, f"{step.id}[{n}]", Noting(ledger), n, item, of=len(items)) for n, item in enumerate(items)
        )
        bound = None if self._rounds else each.max_concurrent
        spread = Spread(step, units, [None] * len(items), bound, running=1)
        self._spreads.append(spread)
        return spread.left.popleft()

    def _end(self, unit: Unit) -> None:
        """Take what became of one unit."""
        self._in_flight.discard(unit)
        result = unit.result or self._facts(unit, status="cancelled", reason="the run was cancelled")
        self._count(unit, result)
        if result.error is not None and (result.error.is_terminal or isinstance(result.error, BudgetError)):
            self._error = self._error or result.error  # every further step would meet it
        if unit.number is None:
            self._settle_as(unit.step, result)
            return
        self._tell("ended", step=unit.name, result=result)
        spread = next(spread for spread in self._spreads if spread.step is unit.step)
        spread.running -= 1
        spread.results[unit.number] = result
        if result.status == "failed" and unit.step.on_failure == "fail":
            self._error = self._error or result.error
        if not spread.running and (not spread.left or self._is_over()):
            self._spreads.remove(spread)
            self._settle_as(unit.step, self._joined(spread))

    def _joined(self, spread: Spread) -> StepResult:
        """The items as one step: done if all are."""
        results = [result for result in spread.results if result is not None]
        gaps = [result for result in results if not result.has_answer]
        missing = len(spread.results) - len(results) + len(gaps)
        values = [None if result is None or not result.has_answer else self._value(result) for result in spread.results]
        status: StepStatus = "done" if any(result.status == "done" for result in results) else "cached"
        first = min(gaps, key=lambda gap: _WORST.index(gap.status), default=None)
        if missing:
            status = first.status if first else "not_run"
        started_s = min((result.started_s for result in results), default=self._elapsed_s)
        return StepResult(
            id=spread.step.id,
            agent=spread.step.agent,
            status=status,
            text=msgspec.json.encode(values).decode(),
            reason=f"{missing} of {len(values)} items have no answer" + (f": {first.reason}" if first else "")
            if missing
            else None,
            why="; ".join(dict.fromkeys(result.why for result in results if result.why)),
            cost_usd=total_usd(result.cost_usd for result in results),
            saved_usd=sum((result.saved_usd or Decimal(0) for result in results), Decimal(0)),
            attempts=sum(result.attempts for result in results),
            started_s=started_s,
            duration_s=self._elapsed_s - started_s,
            simulated=any(result.simulated for result in results),
            error=first.error if first else None,
        )

    def _value(self, result: StepResult) -> Any:  # noqa: ANN401 - as JSON has it
        step = self.plan.steps[result.id.partition("[")[0]]
        return msgspec.json.decode(result.text or "null") if step.output == "json" else result.text

    def _settle_as(self, step: "WorkflowStep", result: StepResult) -> None:
        if result.has_answer:
            self._order.append(step.id)
            step.result, step.completed = result.text, True
            self._settle(step, result, Standing.GIVEN)
        elif result.status == "failed":
            self._settle_failed(step, result)
        else:
            self._note_end(step, result)

    def _settle_failed(self, step: "WorkflowStep", result: StepResult) -> None:
        if step.on_failure == "fail":
            self._error = self._error or result.error
            self._note_end(step, result)
        else:
            self._settle(step, result, Standing.TOLD if step.on_failure == "continue" else Standing.MISSING)

    def _settle(self, step: "WorkflowStep", result: StepResult, standing: Standing) -> None:
        self._note_end(step, result)
        for skip in self._schedule.settle(step.id, standing):
            self._note_end(skip.step, self._empty(skip.step, status="skipped", reason=skip.reason))

    def _note_end(self, step: "WorkflowStep", result: StepResult) -> None:
        self._results[step.id] = result
        self._uses[self._kin(step, step.agent, step.model)] -= 1
        if step.items or result.status == "skipped":  # all else was written down with its turn
            self._note(StepRecord(step=step.id, agent=step.agent, status=result.status, reason=result.reason))
        self._tell("ended", step=step.id, result=result)

    async def _finished(self, left: "list[WorkflowStep]") -> WorkflowResult:
        """The result, written down; `left` are the steps that did not come to an end of their own."""
        begun = {spread.step.id: self._joined(spread) for spread in self._spreads}
        for step in left:
            self._results[step.id] = begun.get(step.id) or self._empty(step, status="not_run", reason=self._ending)
        status: RunStatus = "completed"
        if self._error is not None:
            status = "failed"
        elif any(step.status in {"cancelled", "not_run"} for step in self._results.values()):
            status = "cancelled"
        result = WorkflowResult(
            workflow_name=self.plan.name,
            run_id=self._journal.run_id,
            status=status,
            steps={step: self._results[step] for step in self.plan.steps},
            execution_order=tuple(self._order),
            total_time_seconds=self._elapsed_s,
            cost_usd=self._cost_usd,
            saved_usd=self._saved_usd,
            prompt_caching=self._caching,
            savings=msgspec.structs.replace(self._savings, cache_usd=self._saved_usd),
            error=self._error,
            warnings=tuple(self._warnings),
        )
        ends = [result.steps[step.id] for step in left if not self._had_answer(step.id)]
        records = [StepRecord(step=end.id, agent=end.agent, status=end.status, reason=end.reason) for end in ends]
        now = self._parts.clock.now()
        await self._crew.outside.finish(lambda: self._journal.end(result, now, records))
        return result

    # ------------------------------------------------------------ one step

    async def _do(self, unit: Unit) -> Unit:
        """One unit, to its end, however that is."""
        run_id, agent = self._journal.run_id, unit.step.agent
        with self._spans.span("step", unit.name, run_id=run_id, agent=agent) as span:
            try:
                unit.result = await self._answered(unit)
            except (BudgetError, NotRunError) as error:
                unit.result = self._facts(unit, status="not_run", reason=_line(error), error=error)
            except ClaudeForceError as error:
                if error is self._defect:
                    raise
                unit.result = self._facts(unit, status="failed", reason=_line(error), error=error)
            span.tell(unit.result)
        return unit

    async def _answered(self, unit: Unit) -> StepResult:
        step = unit.step
        known = self._known(step)
        lists = tuple(self._lists.intersection(step.dependencies))
        limits = self._parts.config.limits
        ready = told(step, self._inputs, known, limits=limits, item=unit.item, lists=lists)
        unit.causes = await self._causes(unit, known)
        warnings = [*ready.notes, *suspicions(ready.inserted, self._parts.config.security.injection)]
        for warning in warnings:
            self._warn(unit, warning)
        try:
            answer = await self._turn(unit, ready, step.agent, step.model)
        except ClaudeForceError as error:
            if step.fallback is None or error.is_terminal or isinstance(error, BudgetError | NotRunError):
                raise
            agent = step.fallback.agent or step.agent
            warnings.append(f"{step.agent!r} failed, so the fallback was asked: {_line(error)}")
            self._warn(unit, warnings[-1])
            answer = await self._turn(unit, ready, agent, step.fallback.model or step.model)
        return self._facts(
            unit,
            status="cached" if answer.cached else "done",
            text=str(answer),
            agent=answer.agent_name,
            model=answer.model,
            choice=answer.choice,
            usage=answer.usage,
            saved_usd=answer.saved_usd,
            simulated=answer.simulated,
            why=self._why(unit, answer),
            warnings=(*answer.warnings, *warnings),
        )

    async def _turn(self, unit: Unit, ready: "Told", agent: str, model: str | None) -> "AgentResult":
        step, parts, options = unit.step, self._parts, self._options
        is_forced = step.id in options.force
        inner = None if step.cache is False or options.use_cache is False else parts.cache
        cache = RunCache(
            self._journal,
            self._claims,
            inner,
            key=unit.key,
            reads=self._is_resumed and not is_forced,
            inner_reads=not is_forced and "refresh" not in {step.cache, options.use_cache},
        )
        parts = msgspec.structs.replace(parts, cache=cache, config=config_of(step, parts.config), ledger=unit.ledger)
        task = msgspec.structs.replace(
            task_of(step, ready, agent=agent, model=model, choice=self.choices.get(step.id)),
            workflow_id=self.plan.name,
            run_id=self._journal.run_id,
            step_id=unit.name,
            others=lambda: self._others(unit, agent, model),
            run_s=self._expected_s,
        )

        async def turn() -> "AgentResult":
            if self._is_over():  # while it waited for its place
                raise self._unsent(unit, agent)
            timed = msgspec.structs.replace(task, timeout_s=self._timeout_s(step))  # by what is left now
            try:
                if self._rounds:
                    return await self._batched(self._rounds, unit, parts, timed, cache)
                hands = self._options.hands
                do = self._handed(unit, agent, cache, hands) if hands else None
                return await run_turn(self._crew.outside, parts, timed, self._watch(unit), do=do)
            except ClaudeForceError as error:
                if error.is_terminal and error is not self._defect:
                    self._error = self._error or error  # before its place goes to the next, who would meet it, too
                raise

        try:
            answer = await self._crew.turn(turn)
        finally:
            unit.key = cache.key
        if not answer.is_whole:
            raise CutAnswerError(
                f"the answer of {step.id!r} is not whole ({answer.stop_reason}); raise its max_tokens",
                agent=agent,
                model=answer.model,
                stop_reason=answer.stop_reason,
                text=str(answer),
            )
        return answer

    def _handed(self, unit: Unit, agent: str, cache: RunCache, hands: "Hands") -> "Do":
        """What has the turn made elsewhere."""
        handing = Handing(
            cache=cache,
            is_resumed=self._is_resumed,
            is_forced=unit.step.id in self._options.force,
            left_s=None if self._timeout_seconds is None else self._timeout_seconds - self._elapsed_s,
            is_over=self._is_over,
            unsent=lambda: self._unsent(unit, agent),
            see=unit.ledger.executions.append,
        )
        return partial(hands.turn, handing=handing)

    async def _batched(
        self, rounds: Rounds, unit: Unit, parts: "Parts", task: "Task", cache: RunCache
    ) -> "AgentResult":
        """The turn's answer, kept or from the batch of its round; what may be better next time is in the next, too."""
        batching = msgspec.structs.replace(rounds.batching, parts=parts)
        (asked,) = await rounds.outside.call(lambda: batching.prepare([task]))
        see_booked, place = unit.ledger.executions.append, self._spans.here()
        turn = asked._replace(keeps=cache.is_shared, see_booked=see_booked, place=place)
        cache.key = cache.key or turn.key
        for warning in turn.prepared.warnings:
            self._warn(unit, warning)
        outcome = await batching.kept(rounds.outside, turn)
        attempts, most = 0, parts.config.defaults.max_retries + 1
        while outcome is None:
            outcome = await rounds.answer(turn)
            if outcome is None:
                raise self._unsent(unit, task.agent_name)
            if isinstance(outcome, AnswerError):
                attempts += outcome.attempts  # more than one where it was asked by itself after all
                if attempts < most and is_passing(outcome):
                    text = f"attempt {attempts} of {most}: {outcome}; again in the next batch"
                    self._tell("retried", step=unit.name, text=text)
                    outcome = None
        if isinstance(outcome, ClaudeForceError):
            raise outcome if outcome is self._defect else copy.copy(outcome)  # it may be of many
        return outcome

    def _unsent(self, unit: Unit, agent: str) -> NotRunError:
        return NotRunError(f"{unit.name!r} was not sent: {self._ending}", agent=agent, cause=self._error)

    def _others(self, unit: Unit, agent: str, model: str | None) -> "Others":
        """Which turns of this run ask the same agent and model, and so share the beginning of their prompts."""
        kin, steps = self._kin(unit.step, agent, model), {other.step.id: other.step for other in self._in_flight}
        here = [step for step in steps.values() if self._kin(step, step.agent, step.model) == kin]
        if self._uses[kin] > len(here) or any(spread.left for spread in self._spreads if spread.step is unit.step):
            return "to_come"
        return "none" if len(here) <= 1 and (unit.of or 1) == 1 else "here"

    def _kin(self, step: "WorkflowStep", agent: str, model: str | None) -> tuple[str, str | None]:
        """Whom the step asks, as far as one knows before its agent is read."""
        choice = self.choices.get(step.id)
        return agent, model or (choice.model if choice else None)

    def _timeout_s(self, step: "WorkflowStep") -> float | None:
        """What the step may take: its own time, or what is left of the run's."""
        limit_s = self._timeout_seconds
        if limit_s is None:
            return step.timeout_seconds
        own_s = step.timeout_seconds or self._parts.config.defaults.timeout_seconds
        return max(min(own_s, limit_s - self._elapsed_s), 0.001)

    def _watch(self, unit: Unit) -> Watch:
        def say_retry(retry: "Retry") -> None:
            text = f"attempt {retry.attempt} of {retry.max_attempts}: {retry.error}; again in {retry.wait_s:.1f} s"
            self._tell("retried", step=unit.name, text=text)

        tells_text = self._options.with_text and self._on_event is not None
        return Watch(
            on_text=(lambda text: self._tell("text", step=unit.name, text=text)) if tells_text else None,
            on_retry=say_retry,
            on_warning=lambda text: self._warn(unit, text),
        )

    # ------------------------------------------------------------ facts

    @property
    def _ending(self) -> str:
        """Why nothing more is sent."""
        return f"the run ended: {_line(self._error)}" if self._error else "the run was stopped"

    @property
    def _elapsed_s(self) -> float:
        return self._parts.clock.monotonic() - self._started_s

    def _known(self, step: "WorkflowStep") -> dict[str, StepResult]:
        """How its dependencies ended; those that still run are not there yet."""
        return {
            name: self._results.get(name) or self._empty(self.plan.steps[name], status="not_run", reason="not done yet")
            for name in step.dependencies
        }

    def _empty(self, step: "WorkflowStep", **facts: Any) -> StepResult:  # noqa: ANN401 - fields
        """A step that no turn was made for."""
        error = facts.get("error")
        facts.setdefault("reason", _line(error) if error else None)
        return StepResult(id=step.id, agent=step.agent, cost_usd=Decimal(0), started_s=self._elapsed_s, **facts)

    def _facts(self, unit: Unit, *, agent: str | None = None, **facts: Any) -> StepResult:  # noqa: ANN401 - fields
        return StepResult(
            id=unit.name,
            agent=agent or unit.step.agent,
            cost_usd=unit.ledger.cost_usd,
            attempts=sum(execution.attempts for execution in unit.ledger.executions),
            started_s=unit.started_s,
            duration_s=self._elapsed_s - unit.started_s,
            **facts,
        )

    def _count(self, unit: Unit, result: StepResult) -> None:
        """Enter one unit in the run's sums, and in the journal."""
        self._cost_usd = total_usd((self._cost_usd, result.cost_usd))
        if result.saved_usd and not result.simulated:
            self._saved_usd += result.saved_usd
        for execution in unit.ledger.executions:
            self._caching += execution.prompt_caching
            self._savings += execution.savings
        now = self._parts.clock.now()
        usage = result.usage
        record = StepRecord(
            step=unit.name,
            agent=result.agent,
            status=result.status,
            key=unit.key,
            model=result.model,
            started_at=now - timedelta(seconds=result.duration_s),
            ended_at=now,
            input_tokens=usage.prompt_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
            cost_usd=result.cost_usd,
            saved_usd=result.saved_usd,
            attempts=result.attempts,
            reason=result.reason,
            causes=msgspec.json.encode(unit.causes).decode(),
        )
        self._note(record)
        if result.status == "cached" and unit.key and result.text is not None:
            reply = Reply(
                model=result.model or "",
                text=result.text,
                stop_reason="end_turn",
                usage=None,
                simulated=result.simulated,
            )
            keep = partial(self._journal.keep, unit.key, reply, agent=result.agent, task="", cost_usd=result.saved_usd)
            self._crew.outside.later(keep)

    def _note(self, record: StepRecord) -> None:
        """Have it written down soon, in one transaction with others: the answer itself is in the journal already."""
        if record.status in {"cancelled", "not_run"} and self._had_answer(record.step):
            return
        self._records.append(record)
        self._crew.outside.later(self._write_records)

    def _had_answer(self, name: str) -> bool:
        """Whether this run has an answer of it from before it was taken up: that it was not reached changes nothing."""
        before = self._before.get(name) if self._is_resumed else None
        return before is not None and before.status in {"done", "cached"}

    def _write_records(self) -> None:
        records = []
        while self._records:
            records.append(self._records.popleft())
        if records:
            self._journal.note(*records)

    async def _causes(self, unit: Unit, known: Mapping[str, StepResult]) -> "Causes":
        agents, name = self._parts.agents, unit.step.agent
        agent = agents.recall(name)
        if agent is None:
            agent = await self._crew.outside.call(lambda: agents.find(name))
        item = None if unit.item is NO_ITEM else msgspec.json.encode(unit.item).decode()
        return causes_of(
            unit.step,
            agent,
            self._inputs,
            known,
            item,
            self.choices.get(unit.step.id),
            project_context=self._parts.config.project_context,
        )

    def _why(self, unit: Unit, answer: "AgentResult") -> str:
        """Why it was done again, or not, in words."""
        if unit.step.id in self._options.force:
            return "it was forced"
        before = self._before.get(unit.name)
        if answer.cached:
            return "the same was answered before"
        if before is None:
            return "it was never done before"
        changes = "; ".join(differences(kept_causes(before.causes), unit.causes))
        if changes:
            return changes
        if before.status in {"done", "cached"}:
            return "nothing changed, but its answer is not kept any more"
        return f"it had no answer before ({before.status})"

    def _warn(self, unit: Unit, text: str) -> None:
        line = f"{unit.name}: {text}"
        if line not in self._warnings:
            self._warnings.append(line)
            self._tell("warning", step=unit.name, text=text)

    def _tell(self, kind: EventKind, **facts: Any) -> None:  # noqa: ANN401 - fields of an event
        if self._on_event is None:
            return
        event = RunEvent(kind=kind, at_s=self._elapsed_s, cost_usd=self._cost_usd, run_id=self._journal.run_id, **facts)
        try:
            self._on_event(event)
        except BaseException as error:
            self._on_event = None  # it ends the run, and the ending must not end in it as well
            self._defect = error
            raise


_WORST: "tuple[StepStatus, ...]" = ("failed", "cancelled", "skipped", "not_run")


def _line(error: ClaudeForceError) -> str:
    """An error as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
