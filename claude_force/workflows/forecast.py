"""What a run would ask, and what it would cost, before anything is sent: `forecast`. It writes nothing.

Whether a step will be asked is known where its request is: it needs no other step's answer, or those answers are in the
cache. Its key is then looked up as a run would. Where it needs an answer that nobody has yet, it is `unknown`.

The figures of one turn are those of `insight.estimate`. Beside that:

- An answer that is not there yet counts with its own estimate in the prompts of those that wait for it.
- *Output*: the median of what the step's answers had in earlier runs (`runs.db`).
- *Minimum*: the shortest of those; a step whose condition is not known yet is not done.
- *Expected*: each step that may be asked is asked once.
- *Maximum*: the fallback of the step is billed as well. There is none for a list of unknown length (`unbounded`).
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from claude_force.base.errors import InputError, WorkflowError
from claude_force.base.pricing import total_usd
from claude_force.base.records import Savings
from claude_force.base.results import StepResult
from claude_force.base.usage import Usage
from claude_force.engine.answer import read_answer
from claude_force.engine.budget import extent_of, worst_case_usd
from claude_force.engine.key import request_key
from claude_force.engine.request import build_request
from claude_force.insight.estimate import (
    CHARS_PER_TOKEN,
    LEAST_OUTPUT_TOKENS,
    NOTHING,
    TYPICAL_OUTPUT,
    Counts,
    Sizes,
    TurnEstimate,
    billed_usd,
    estimate,
    kept_reply,
    other_model,
    savings_of,
)
from claude_force.stores.entries import StoreError
from claude_force.workflows.asking import config_of, task_of
from claude_force.workflows.choices import Choices, choose_models, would_choose
from claude_force.workflows.data import NO_ITEM, Told, holds, list_of, told
from claude_force.workflows.definition import given_inputs, refuse
from claude_force.workflows.journal import Journal
from claude_force.workflows.schedule import Schedule, Standing
from claude_force.workflows.start import limit_of
from claude_force.workflows.template import placeholders

if TYPE_CHECKING:
    from claude_force.base.ports import UseCache
    from claude_force.base.records import KeptReply, ModelRecommendation, Request
    from claude_force.engine.parts import Parts
    from claude_force.engine.request import Prepared
    from claude_force.insight.choosing import Chooser
    from claude_force.workflows.definition import WorkflowStep
    from claude_force.workflows.plan import Plan
    from claude_force.workflows.start import Shop

TYPICAL_ITEMS = 5
"""In a list that nobody has seen yet, and that had no items in an earlier run."""

Outlook = Literal["cached", "asked", "unknown", "skipped", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepForecast:
    """What is to be expected of one step. Money is `None` where a price is not known, or there is no bound."""

    id: str
    agent: str
    model: str
    """The id that is asked."""
    dependencies: tuple[str, ...]
    cache: Outlook
    """`skipped`: its condition does not hold; `refused`: it would fail before anything is sent."""
    why: str = ""
    choice: "ModelRecommendation | None" = None
    """Why this model, where the router chose it."""
    items: int | None = None
    """How often it is done, for each item of a list; an estimate where `why` says so."""
    prompt_tokens: int = 0
    """0 where nothing is sent."""
    counted: Literal["all", "part", "none"] = "none"
    """How much of the prompt the API has counted; the rest is estimated."""
    output_tokens: int = 0
    is_guess: bool = False
    """Whether nothing is known of how long its answers are."""
    min_usd: Decimal | None = Decimal(0)
    expected_usd: Decimal | None = Decimal(0)
    max_usd: Decimal | None = Decimal(0)
    seconds: float | None = None
    """How long it took last time; `None` where it was never done."""
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All facts, ready for JSON: money is a float."""
        facts = {f.name: getattr(self, f.name) for f in fields(self)}
        for money in ("min_usd", "expected_usd", "max_usd"):
            facts[money] = _float(facts[money])
        facts["choice"] = msgspec.to_builtins(self.choice)
        return facts | {"dependencies": list(self.dependencies), "warnings": list(self.warnings)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is to be expected of a run."""

    plan: "Plan"
    steps: Mapping[str, StepForecast]
    """In an order in which they can be done."""
    limit_usd: Decimal | None
    """`max_cost_usd`."""
    stops_at: str | None
    """The first step that would not be sent because of it, if all goes as expected."""
    critical_path: tuple[str, ...]
    """The longest way: no run is faster. Of what is not known, a step takes as long as others do."""
    unpriced: tuple[str, ...]
    """Models without a price."""
    turns: tuple[TurnEstimate, ...]
    savings: Savings
    unbounded: tuple[str, ...]
    """Steps that are done for each item of a list of unknown length."""

    @property
    def min_usd(self) -> Decimal | None:
        """The least that it can cost; `None` where a part of it is unpriced."""
        return total_usd(step.min_usd for step in self.steps.values())

    @property
    def expected_usd(self) -> Decimal | None:
        """What it will cost, roughly."""
        return total_usd(step.expected_usd for step in self.steps.values())

    @property
    def max_usd(self) -> Decimal | None:
        """The most that it can cost; `None` also where there is no bound."""
        return total_usd(step.max_usd for step in self.steps.values())

    @property
    def to_count(self) -> "dict[str, Request]":
        """The requests that would be sent, as far as they are known, by key."""
        return {turn.key: turn.request for turn in self.turns if turn.kept is None}

    @property
    def critical_seconds(self) -> float | None:
        """How long the critical path takes; `None` where a step of it was never done."""
        seconds = [self.steps[step].seconds for step in self.critical_path]
        return None if None in seconds else sum(s for s in seconds if s is not None)

    @property
    def budget(self) -> Literal["none", "holds", "enough", "short"]:
        """`holds`: it cannot cost more than the limit; `enough`: it should not; `short`: it will be stopped."""
        if self.limit_usd is None:
            return "none"
        if self.stops_at is not None:
            return "short"
        return "holds" if self.max_usd is not None and self.max_usd <= self.limit_usd else "enough"

    def to_dict(self) -> dict[str, Any]:
        """All facts, ready for JSON: money is a float, `null` where it is not known or not bounded."""
        return {
            "workflow": self.plan.name,
            "steps": [step.to_dict() for step in self.steps.values()],
            "prompt_tokens": sum(step.prompt_tokens for step in self.steps.values()),
            "output_tokens": sum(step.output_tokens for step in self.steps.values()),
            "min_usd": _float(self.min_usd),
            "expected_usd": _float(self.expected_usd),
            "max_usd": _float(self.max_usd),
            "savings": self.savings.to_dict(),
            "unpriced": list(self.unpriced),
            "unbounded": list(self.unbounded),
            "max_cost_usd": _float(self.limit_usd),
            "budget": self.budget,
            "stops_at": self.stops_at,
            "critical_path": list(self.critical_path),
            "critical_seconds": self.critical_seconds,
        }


def _float(money: Decimal | None) -> float | None:
    return None if money is None else float(money)


def forecast(
    shop: "Shop",
    plan: "Plan",
    inputs: Mapping[str, Any] | None = None,
    *,
    use_cache: "UseCache" = None,
    force: Iterable[str] = (),
    max_cost_usd: float | None = None,
    run_id: str | None = None,
    kept: Choices | None = None,
    counts: Counts | None = None,
) -> Forecast:
    """What a run with these options would do.

    `run_id` is the run that it would take up again, and `kept` the models that this has chosen. `counts` are what the
    API has counted: those of `to_count`, of a forecast without them.

    Raises `WorkflowError` with every fault of the inputs. Opens the cache and the journal where they are, to read.
    """
    values, faults = given_inputs(plan.workflow, inputs or {})
    refuse(faults, plan.name)
    journal = None if run_id is None else Journal(shop.runs, shop.cache, run_id)
    chosen = choose_models(plan, kept or {}, shop.chooser if shop.auto_model else None, shop.parts.agents.find)
    choices = {step: kept.choice for step, kept in chosen.items()}
    seer = _Seer(shop, plan, values, use_cache, frozenset(force), journal, choices, shop.chooser.frozen(), counts or {})
    return seer.seen(max_cost_usd)


class _Turn(NamedTuple):
    """One turn: a step, or one item of it."""

    estimate: TurnEstimate
    reserve_usd: Decimal | None
    """What a run sets aside for it, under a limit."""
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Seer:
    """Goes through the plan as a run does that does one step at a time, and supposes that what is asked is answered."""

    shop: "Shop"
    plan: "Plan"
    inputs: Mapping[str, Any]
    use_cache: "UseCache"
    force: frozenset[str]
    journal: Journal | None
    choices: "Mapping[str, ModelRecommendation]"
    chooser: "Chooser"
    counts: Counts
    turns: list[TurnEstimate] = field(default_factory=list)
    router: "dict[str, ModelRecommendation | None]" = field(default_factory=dict)
    steps: dict[str, StepForecast] = field(default_factory=dict)
    results: dict[str, StepResult] = field(default_factory=dict)
    """Of the steps whose end is known."""
    outputs: dict[str, Sizes] = field(default_factory=dict)
    """Of the steps whose answer is not known."""
    shaky: set[str] = field(default_factory=set)
    """Steps whose request depends on which of others answers first."""
    reserves: dict[str, Decimal | None] = field(default_factory=dict)
    unpriced: dict[str, None] = field(default_factory=dict)
    unbounded: list[str] = field(default_factory=list)
    seconds: Mapping[str, float] = field(default_factory=dict)
    history: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def seen(self, max_cost_usd: float | None) -> Forecast:
        """The forecast."""
        simulated = self.shop.parts.server == "simulator"
        try:
            self.seconds = self.shop.runs.durations(self.plan.name, simulated=simulated)
            self.history = self.shop.runs.output_tokens(self.plan.name, simulated=simulated)
        except StoreError:  # then nothing is known of earlier runs
            pass
        schedule = Schedule(self.plan, {})
        while step := schedule.take():
            found = self._step(step)
            self.steps[step.id] = found
            standing = Standing.PASSED if found.cache == "skipped" else Standing.GIVEN
            for skip in schedule.settle(step.id, standing):
                self.steps[skip.step.id] = self._skipped(skip.step, skip.reason)
        limit = limit_of(self.plan, self.shop.settings.config, max_cost_usd)
        limit_usd = limit and limit.usd
        known = {step.id: step.seconds for step in self.steps.values() if step.seconds is not None}
        usual = statistics.median([s for s in known.values() if s] or [1.0])
        return Forecast(
            plan=self.plan,
            steps=self.steps,
            limit_usd=limit_usd,
            stops_at=None if limit_usd is None else self._stop(limit_usd),
            critical_path=tuple(self.plan.critical_path(dict.fromkeys(self.plan.steps, usual) | known)),
            turns=tuple(self.turns),
            savings=savings_of(self.shop.parts, self.turns, is_routed=self.shop.auto_model),
            unpriced=tuple(self.unpriced),
            unbounded=tuple(self.unbounded),
        )

    def _stop(self, limit_usd: Decimal) -> str | None:
        """The first step for which there is no room, where each costs what is expected."""
        spent_usd = Decimal(0)
        for step_id, reserve_usd in self.reserves.items():
            expected_usd = self.steps[step_id].expected_usd
            if reserve_usd is None or expected_usd is None:
                return step_id
            last_usd = expected_usd / max(1, self.steps[step_id].items or 1)  # of its items, the last has least room
            if spent_usd + expected_usd - last_usd + reserve_usd > limit_usd:
                return step_id
            spent_usd += expected_usd
        return None

    # ------------------------------------------------------------ one step

    def _step(self, step: "WorkflowStep") -> StepForecast:
        waits_for = [name for name in step.dependencies if name in self.outputs]
        if step.join != "all" or self.shaky.intersection(step.dependencies):
            self.shaky.add(step.id)
        is_open = bool(step.when and step.when.step in self.outputs)
        if step.when and not is_open and not holds(step.when, self.inputs, self._known(step)):
            return self._skipped(step, "its condition (`when`) does not hold")
        try:
            items, is_counted = self._items(step)
            turns = [self._turn(step, item, waits_for, of=len(items)) for item in items]
        except InputError as error:
            self.outputs[step.id] = NOTHING
            return self._plain(step, "refused", " ".join(str(error).split()))
        return self._joined(step, turns, waits_for, is_counted=is_counted, is_open=is_open)

    def _items(self, step: "WorkflowStep") -> tuple[Sequence[object], bool]:
        """What the step is done for, and whether that is known."""
        if step.items is None:
            return [NO_ITEM], True
        (place,) = placeholders(step.items.items)
        if place.kind == "output" and place.name in self.outputs:
            before = [name for name in self.history if name.startswith(f"{step.id}[")]
            return ["…"] * (len(before) or TYPICAL_ITEMS), False
        return list_of(place, self.inputs, self._known(step)), True

    def _joined(
        self, step: "WorkflowStep", turns: list[_Turn], waits_for: list[str], *, is_counted: bool, is_open: bool
    ) -> StepForecast:
        """The turns of a step as one."""
        asked = [turn for turn in turns if not turn.estimate.kept]
        output = sum((turn.estimate.output for turn in turns), NOTHING)
        costs = [
            total_usd(turn.estimate.min_usd for turn in turns),
            total_usd(turn.estimate.expected_usd for turn in turns),
            total_usd(turn.estimate.max_usd for turn in turns),
        ]
        reserves = [turn.reserve_usd for turn in asked]
        if asked:
            self.reserves[step.id] = None if None in reserves else max(r for r in reserves if r is not None)
        if not is_counted:
            self.unbounded.append(step.id)
            costs[0], costs[2], output = Decimal(0), None, Sizes(0, output.expected, None)
        if is_open:
            costs[0], output = Decimal(0), msgspec.structs.replace(output, least=0)
        self.turns += [turn.estimate for turn in turns]
        if asked or waits_for:
            self.outputs[step.id] = output
        else:
            self.results[step.id] = self._result(step, turns)
        return StepForecast(
            id=step.id,
            agent=step.agent,
            model=turns[0].estimate.request.model if turns else self._model(step),
            choice=self.choices.get(step.id),
            dependencies=tuple(step.dependencies),
            cache="unknown" if waits_for else "asked" if asked else "cached",
            why=_why(turns, asked, waits_for, is_counted=is_counted, is_open=is_open),
            items=len(turns) if step.items else None,
            prompt_tokens=sum(turn.estimate.prompt_tokens for turn in asked),
            counted=self._counted(asked, waits_for, is_counted=is_counted),
            output_tokens=sum(turn.estimate.output.expected for turn in asked),
            is_guess=any(turn.estimate.is_guess for turn in asked),
            min_usd=costs[0],
            expected_usd=costs[1],
            max_usd=costs[2],
            seconds=self.seconds.get(step.id) if asked else 0.0,
            warnings=tuple(dict.fromkeys(warning for turn in turns for warning in turn.warnings)),
        )

    def _counted(self, asked: list[_Turn], waits_for: list[str], *, is_counted: bool) -> Literal["all", "part", "none"]:
        """Answers that are not there yet cannot be counted."""
        if not asked or not all(turn.estimate.is_counted for turn in asked):
            return "none"
        return "part" if waits_for or not is_counted else "all"

    def _result(self, step: "WorkflowStep", turns: list[_Turn]) -> StepResult:
        """How the step ends: all of it is cached."""
        replies = [turn.estimate.kept.reply for turn in turns if turn.estimate.kept]
        texts = [read_answer(reply, agent=step.agent) for reply in replies]
        if step.items is None:
            return StepResult(id=step.id, agent=step.agent, status="cached", text=texts[0])
        values = [msgspec.json.decode(text) if step.output == "json" else text for text in texts]
        return StepResult(id=step.id, agent=step.agent, status="cached", text=msgspec.json.encode(values).decode())

    def _skipped(self, step: "WorkflowStep", reason: str) -> StepForecast:
        self.results[step.id] = StepResult(id=step.id, agent=step.agent, status="skipped", reason=reason)
        return self._plain(step, "skipped", reason)

    def _plain(self, step: "WorkflowStep", outlook: Outlook, why: str) -> StepForecast:
        """A step for which nothing is sent."""
        return StepForecast(
            id=step.id,
            agent=step.agent,
            model=self._model(step),
            choice=self.choices.get(step.id),
            dependencies=tuple(step.dependencies),
            cache=outlook,
            why=why,
            seconds=0.0,
        )

    def _model(self, step: "WorkflowStep") -> str:
        return self._prepared(step, Told("…"), step.agent, step.model).request.model

    # ------------------------------------------------------------ one turn

    def _turn(self, step: "WorkflowStep", item: object, waits_for: list[str], *, of: int) -> _Turn:
        """One turn of so many."""
        ready = self._told(step, item, waits_for)
        prepared = self._prepared(step, ready, step.agent, step.model)
        request, parts = prepared.request, self._parts(step)
        key = request_key(request, server=parts.server)
        unknown = self._unknown_part(step, waits_for, of=of)
        kept = None if waits_for else self._kept(step, key)
        found = estimate(
            parts,
            prepared,
            key=key,
            kept=kept,
            output=_sizes(kept.reply.text) if kept else self._output(step, request.max_tokens),
            is_guess=not self._lengths(step),
            other_model=other_model(parts, request.model, self._router_choice(step), is_routed=self.shop.auto_model),
            counts=self.counts,
            more=unknown,
        )
        if kept and step.id in self.shaky:
            found = msgspec.structs.replace(found, max_usd=billed_usd(parts, prepared))
        if step.fallback and found.max_usd:
            found = msgspec.structs.replace(found, max_usd=self._with_fallback(step, ready, found.max_usd, unknown))
        if found.max_usd is None:
            self._note_unpriced(prepared)
        reserve = Decimal(0) if kept else self._held_usd(prepared, math.ceil(unknown.expected * CHARS_PER_TOKEN))
        return _Turn(found, reserve, (*prepared.warnings, *ready.notes))

    def _router_choice(self, step: "WorkflowStep") -> "ModelRecommendation | None":
        """The router's choice, whether or not it counts; `None` where somebody names a model."""
        if step.id not in self.router:
            known = self.choices.get(step.id)
            self.router[step.id] = known or would_choose(step, self.chooser, self.shop.parts.agents.find)
        return self.router[step.id]

    def _parts(self, step: "WorkflowStep") -> "Parts":
        """The parts, with the step's own retries."""
        parts = self.shop.parts
        return msgspec.structs.replace(parts, config=config_of(step, parts.config))

    def _told(self, step: "WorkflowStep", item: object, waits_for: list[str]) -> Told:
        """What the step is told, with a stand-in for each answer that is not there."""
        lists = [name for name in step.dependencies if self.plan.steps[name].items]
        known = self._known(step)
        for name in waits_for:
            agent = self.plan.steps[name].agent
            known[name] = StepResult(id=name, agent=agent, status="done", text='["…"]' if name in lists else "…")
        try:
            limits = self.shop.parts.config.limits
            return told(step, self.inputs, known, limits=limits, item=item, lists=lists)
        except WorkflowError:
            if not waits_for:
                raise
        named = (place.name for place in placeholders(step.task) if place.kind == "input")  # it looks into an answer
        return Told("\n".join([step.task, *(str(self.inputs[name]) for name in named)]))

    def _unknown_part(self, step: "WorkflowStep", waits_for: list[str], *, of: int) -> Sizes:
        """How many tokens of answers will be in its prompt: each where it is named, else before the task.

        Of the list that it is done for, each turn has its part.
        """
        named = [place.name for place in placeholders(step.task) if place.kind == "output"]
        source = step.source
        total = NOTHING
        for name in waits_for:
            answer = self.outputs[name]
            total = sum([answer] * (named.count(name) or name != source), total)
            if name == source:
                total += Sizes(answer.least // of, answer.expected // of, answer.most)
        return total

    def _known(self, step: "WorkflowStep") -> dict[str, StepResult]:
        """How its dependencies ended, as a run has it that does one step at a time."""
        return {
            name: self.results.get(name)
            or StepResult(id=name, agent=self.plan.steps[name].agent, status="not_run", reason="not done yet")
            for name in step.dependencies
        }

    def _prepared(self, step: "WorkflowStep", ready: Told, agent: str, model: str | None) -> "Prepared":
        parts = self.shop.parts
        found = parts.agents.recall(agent) or parts.agents.find(agent)
        task = task_of(step, ready, agent=agent, model=model, choice=self.choices.get(step.id))
        return build_request(task, found, config_of(step, parts.config), parts.aliases)

    def _kept(self, step: "WorkflowStep", key: str) -> "KeptReply | None":
        """The answer that a run would take instead of asking."""
        if step.id in self.force:
            return None
        if self.journal and (kept := self.journal.answer(key)):
            return kept
        uses = {step.cache, self.use_cache}
        use_cache: UseCache = False if False in uses else "refresh" if "refresh" in uses else None
        return kept_reply(self.shop.parts, key, agent=step.agent, use_cache=use_cache)

    def _lengths(self, step: "WorkflowStep") -> list[int]:
        """How many tokens its answers had, or those of its items."""
        names = [step.id]
        if step.items:
            names = [name for name in self.history if name.startswith(f"{step.id}[")]
        return [tokens for name in names for tokens in self.history.get(name, ())]

    def _output(self, step: "WorkflowStep", max_tokens: int) -> Sizes:
        lengths = self._lengths(step)
        expected = statistics.median_low(lengths) if lengths else math.ceil(max_tokens * TYPICAL_OUTPUT)
        least = min(lengths, default=LEAST_OUTPUT_TOKENS)
        expected = min(expected, max_tokens)
        return Sizes(min(least, expected), expected, max_tokens)

    def _with_fallback(self, step: "WorkflowStep", ready: Told, first_usd: Decimal, unknown: Sizes) -> Decimal | None:
        """The maximum with the step's fallback, which is asked after all else."""
        fallback = step.fallback
        if fallback is None or unknown.most is None:
            return first_usd
        agent, model = fallback.agent or step.agent, fallback.model or step.model
        prepared = self._prepared(step, ready, agent, model)
        second_usd = billed_usd(self._parts(step), prepared, more_tokens=unknown.most)
        if second_usd is None:
            self._note_unpriced(prepared)
        return total_usd((first_usd, second_usd))

    def _note_unpriced(self, prepared: "Prepared") -> None:
        """Which of its models have no price."""
        prices, now = self.shop.parts.prices, self.shop.parts.clock.now()
        for model in extent_of(prepared).models:
            if prices.cost_usd(model, Usage(cache_write_5m_tokens=1, input_tokens=1, output_tokens=1), now) is None:
                self.unpriced[model] = None

    def _held_usd(self, prepared: "Prepared", more_tokens: int) -> Decimal | None:
        """What is set aside before it is sent: one attempt, by the model that is asked first."""
        extent = extent_of(prepared)
        first = extent._replace(models=extent.models[:1], prompt_tokens=extent.prompt_tokens + more_tokens)
        return worst_case_usd(first, self.shop.parts.prices, self.shop.parts.clock.now(), attempts=1)


def _sizes(text: str) -> Sizes:
    """Of an answer that is there."""
    tokens = math.ceil(len(text) / CHARS_PER_TOKEN)
    return Sizes(tokens, tokens, len(text.encode()))


def _why(turns: list[_Turn], asked: list[_Turn], waits_for: list[str], *, is_counted: bool, is_open: bool) -> str:
    reasons = []
    if waits_for:
        named = ", ".join(waits_for[:3]) + (f" and {len(waits_for) - 3} more" if waits_for[3:] else "")
        reasons.append(f"depends on the answer of {named}")
    if is_open:
        reasons.append("may be skipped")
    if not is_counted:
        reasons.append("the number of items is an estimate")
    elif not turns:
        reasons.append("its list is empty")
    elif 0 < len(asked) < len(turns):
        reasons.append(f"{len(turns) - len(asked)} of {len(turns)} items are cached")
    return "; ".join(reasons)
