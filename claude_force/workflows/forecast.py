"""What a run would ask, and what it would cost, before anything is sent: `forecast`. It writes nothing.

Whether a step will be asked is known where its request is: it needs no other step's answer, or those answers are in the
cache. Its key is then looked up as a run would. Where it needs an answer that nobody has yet, it is `unknown`.

How the figures are estimated:

- *Prompt*: one token for each `CHARS_PER_TOKEN` characters. Claude's present tokenizer is not public. The last public
  one, of Claude 2, takes 4.0 characters of this repository's agent files for a token, 3.8 of its Python and 3.7 of its
  docs; the present one makes up to 1.35 times as many tokens (Anthropic's notes on Opus 4.7), so 2.7 to 4.0. The
  estimate of 3 leans to the dear side. An answer that is not there yet counts with its own estimate.
- *Output*: the median of what the step's answers had in earlier runs (`runs.db`); without any, `TYPICAL_OUTPUT` of its
  `max_tokens`, which is a guess and says so (`is_guess`).
- *Minimum*: what is surely cached costs nothing, the rest has the shortest answer of earlier runs, or one of
  `LEAST_OUTPUT_TOKENS`. A step whose condition is not known yet is not done. No attempt fails.
- *Expected*: each step that may be asked is asked once, no prompt is cached at the API, and no fallback is needed.
- *Maximum*: `engine.budget.worst_case_usd`: a token for each byte, all of `max_tokens`, every retry, fallback model and
  fallback of the step billed. There is none for a list of unknown length (`unbounded`).
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from claude_force.base.errors import InputError, WorkflowError
from claude_force.base.results import StepResult
from claude_force.base.usage import Usage
from claude_force.engine.answer import read_answer
from claude_force.engine.budget import Extent, extent_of, worst_case_usd
from claude_force.engine.key import request_key
from claude_force.engine.request import build_request
from claude_force.stores.entries import StoreError
from claude_force.workflows.asking import config_of, task_of
from claude_force.workflows.choices import Choices, choose_models
from claude_force.workflows.data import NO_ITEM, Told, holds, list_of, told
from claude_force.workflows.definition import given_inputs, refuse
from claude_force.workflows.journal import Journal
from claude_force.workflows.schedule import Schedule, Standing
from claude_force.workflows.start import limit_of
from claude_force.workflows.template import placeholders
from claude_force.workflows.unit import total_usd

if TYPE_CHECKING:
    from claude_force.base.ports import UseCache
    from claude_force.base.records import KeptReply, ModelRecommendation
    from claude_force.engine.request import Prepared
    from claude_force.workflows.definition import WorkflowStep
    from claude_force.workflows.plan import Plan
    from claude_force.workflows.start import Shop

CHARS_PER_TOKEN = 3
TYPICAL_OUTPUT = 1 / 8
"""Of 16,000 tokens, the default, that is 2,000: three pages, which a thorough review has."""
LEAST_OUTPUT_TOKENS = 50
"""Two sentences."""
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
    """Estimated; 0 where nothing is sent."""
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
) -> Forecast:
    """What a run with these options would do.

    `run_id` is the run that it would take up again, and `kept` the models that this has chosen.

    Raises `WorkflowError` with every fault of the inputs. Opens the cache and the journal where they are, to read.
    """
    values, faults = given_inputs(plan.workflow, inputs or {})
    refuse(faults, plan.name)
    journal = None if run_id is None else Journal(shop.runs, shop.cache, run_id)
    chosen = choose_models(plan, kept or {}, shop.chooser if shop.auto_model else None, shop.parts.agents.find)
    choices = {step: kept.choice for step, kept in chosen.items()}
    return _Seer(shop, plan, values, use_cache, frozenset(force), journal, choices).seen(max_cost_usd)


@dataclass(slots=True)
class _Sizes:
    """How long something is: at least, probably, at most (`None`: there is no bound)."""

    least: int = 0
    expected: int = 0
    most: int | None = 0

    def __add__(self, other: "_Sizes") -> "_Sizes":
        most = None if self.most is None or other.most is None else self.most + other.most
        return _Sizes(self.least + other.least, self.expected + other.expected, most)


@dataclass(slots=True, kw_only=True)
class _Turn:
    """One turn: a step, or one item of it."""

    kept: "KeptReply | None"
    model: str
    prompt_tokens: int
    output: _Sizes
    costs: tuple[Decimal | None, Decimal | None, Decimal | None]
    """Minimum, expected, maximum."""
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
    steps: dict[str, StepForecast] = field(default_factory=dict)
    results: dict[str, StepResult] = field(default_factory=dict)
    """Of the steps whose end is known."""
    outputs: dict[str, _Sizes] = field(default_factory=dict)
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
            self.outputs[step.id] = _Sizes()
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
        asked = [turn for turn in turns if not turn.kept]
        output = sum((turn.output for turn in turns), _Sizes())
        costs = [total_usd(turn.costs[place] for turn in turns) for place in range(3)]
        reserves = [turn.reserve_usd for turn in asked]
        if asked:
            self.reserves[step.id] = None if None in reserves else max(r for r in reserves if r is not None)
        if not is_counted:
            self.unbounded.append(step.id)
            costs[0], costs[2], output.least, output.most = Decimal(0), None, 0, None
        if is_open:
            costs[0], output.least = Decimal(0), 0
        if asked or waits_for:
            self.outputs[step.id] = output
        else:
            self.results[step.id] = self._result(step, turns)
        return StepForecast(
            id=step.id,
            agent=step.agent,
            model=turns[0].model if turns else self._model(step),
            choice=self.choices.get(step.id),
            dependencies=tuple(step.dependencies),
            cache="unknown" if waits_for else "asked" if asked else "cached",
            why=_why(turns, asked, waits_for, is_counted=is_counted, is_open=is_open),
            items=len(turns) if step.items else None,
            prompt_tokens=sum(turn.prompt_tokens for turn in asked),
            output_tokens=sum(turn.output.expected for turn in asked),
            is_guess=bool(asked) and not self._lengths(step),
            min_usd=costs[0],
            expected_usd=costs[1],
            max_usd=costs[2],
            seconds=self.seconds.get(step.id) if asked else 0.0,
            warnings=tuple(dict.fromkeys(warning for turn in turns for warning in turn.warnings)),
        )

    def _result(self, step: "WorkflowStep", turns: list[_Turn]) -> StepResult:
        """How the step ends: all of it is cached."""
        texts = [read_answer(turn.kept.reply, agent=step.agent) for turn in turns if turn.kept]
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
        request = prepared.request
        unknown = self._unknown_part(step, waits_for, of=of)
        kept = None if waits_for else self._kept(step, prepared)
        output = _sizes(kept.reply.text) if kept else self._output(step, request.max_tokens)
        prompt = math.ceil(sum(len(text) for text in (*request.system, *request.prompt)) / CHARS_PER_TOKEN)
        prices, now = self.shop.parts.prices, self.shop.parts.clock.now()
        least, expected = (
            Decimal(0) if kept else prices.cost_usd(request.model, Usage(input_tokens=tokens, output_tokens=out), now)
            for tokens, out in (
                (prompt + unknown.least, output.least),
                (prompt + unknown.expected, output.expected),
            )
        )
        is_free = kept is not None and step.id not in self.shaky
        most = Decimal(0) if is_free else self._worst_usd(step, ready, prepared, unknown.most)
        reserve = Decimal(0) if kept else self._held_usd(prepared, unknown.expected * CHARS_PER_TOKEN)
        return _Turn(
            kept=kept,
            model=request.model,
            prompt_tokens=0 if kept else prompt + unknown.expected,
            output=output,
            costs=(least, expected, most),
            reserve_usd=reserve,
            warnings=(*prepared.warnings, *ready.notes),
        )

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

    def _unknown_part(self, step: "WorkflowStep", waits_for: list[str], *, of: int) -> _Sizes:
        """How many tokens of answers will be in its prompt: each where it is named, else before the task.

        Of the list that it is done for, each turn has its part.
        """
        named = [place.name for place in placeholders(step.task) if place.kind == "output"]
        source = step.source
        total = _Sizes()
        for name in waits_for:
            answer = self.outputs[name]
            total = sum([answer] * (named.count(name) or name != source), total)
            if name == source:
                total += _Sizes(answer.least // of, answer.expected // of, answer.most)
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

    def _kept(self, step: "WorkflowStep", prepared: "Prepared") -> "KeptReply | None":
        """The answer that a run would take instead of asking."""
        parts = self.shop.parts
        if step.id in self.force:
            return None
        key = request_key(prepared.request, server=parts.server)
        if self.journal and (kept := self.journal.answer(key)):
            return kept
        if parts.cache is None or not {False, "refresh"}.isdisjoint({step.cache, self.use_cache}):
            return None
        return parts.cache.peek(key, agent=step.agent)

    def _lengths(self, step: "WorkflowStep") -> list[int]:
        """How many tokens its answers had, or those of its items."""
        names = [step.id]
        if step.items:
            names = [name for name in self.history if name.startswith(f"{step.id}[")]
        return [tokens for name in names for tokens in self.history.get(name, ())]

    def _output(self, step: "WorkflowStep", max_tokens: int) -> _Sizes:
        lengths = self._lengths(step)
        expected = statistics.median_low(lengths) if lengths else math.ceil(max_tokens * TYPICAL_OUTPUT)
        least = min(lengths, default=LEAST_OUTPUT_TOKENS)
        expected = min(expected, max_tokens)
        return _Sizes(min(least, expected), expected, max_tokens)

    def _worst_usd(
        self, step: "WorkflowStep", ready: Told, prepared: "Prepared", unknown: int | None
    ) -> Decimal | None:
        """With the fallback of the step, if it has one."""
        if unknown is None:
            return None
        bills = [self._billed_usd(step, prepared, unknown)]
        if step.fallback:
            agent, model = step.fallback.agent or step.agent, step.fallback.model or step.model
            bills.append(self._billed_usd(step, self._prepared(step, ready, agent, model), unknown))
        return total_usd(bills)

    def _held_usd(self, prepared: "Prepared", more_tokens: int) -> Decimal | None:
        """What is set aside before it is sent: one attempt, by the model that is asked first."""
        extent = extent_of(prepared)
        first = Extent(extent.models[:1], extent.prompt_tokens + more_tokens, extent.output_tokens)
        return worst_case_usd(first, self.shop.parts.prices, self.shop.parts.clock.now(), attempts=1)

    def _billed_usd(self, step: "WorkflowStep", prepared: "Prepared", more_tokens: int) -> Decimal | None:
        """Every attempt in full, the prompt longer by so many tokens."""
        parts = self.shop.parts
        extent = extent_of(prepared)
        extent = extent._replace(prompt_tokens=extent.prompt_tokens + more_tokens)
        attempts = config_of(step, parts.config).defaults.max_retries + 1
        now = parts.clock.now()
        billed = worst_case_usd(extent, parts.prices, now, attempts=attempts)
        if billed is None:
            alone = (extent._replace(models=(model,)) for model in extent.models)
            self.unpriced |= {
                one.models[0]: None for one in alone if worst_case_usd(one, parts.prices, now, attempts=1) is None
            }
        return billed


def _sizes(text: str) -> _Sizes:
    """Of an answer that is there."""
    tokens = math.ceil(len(text) / CHARS_PER_TOKEN)
    return _Sizes(tokens, tokens, len(text.encode()))


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
