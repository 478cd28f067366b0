"""From a workflow's name, or a dict, to a `Run` that can be executed: found, read, checked with all its faults at once.

Nothing is sent here, and nothing written but the run's first line in the journal.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from claude_force.base.config import Budgets as Limits
from claude_force.base.errors import InputError, JournalError, WorkflowError
from claude_force.base.sections import nearest
from claude_force.library.workflows import WorkflowLibrary
from claude_force.stores.claims import Claims
from claude_force.stores.entries import StoreError
from claude_force.stores.runs import RunRecord, RunStore, StepRecord
from claude_force.workflows.checks import problems_of
from claude_force.workflows.choices import KEY, Choices, choose_models, kept_choices
from claude_force.workflows.definition import given_inputs, not_json, read_workflow, refuse
from claude_force.workflows.history import History
from claude_force.workflows.journal import Journal
from claude_force.workflows.plan import Plan
from claude_force.workflows.run import Run, RunOptions

if TYPE_CHECKING:
    from claude_force.base.config import Config, Settings
    from claude_force.engine.parts import Parts
    from claude_force.insight.choosing import Chooser
    from claude_force.response_cache import ResponseCache
    from claude_force.stores.budgets import Budgets
    from claude_force.workflows.crew import Crew


NO_LIMITS = Limits()


class Shop(Protocol):
    """What a run takes from its project."""

    @property
    def start(self) -> Path:
        """The folder where the user stands."""

    @property
    def settings(self) -> "Settings":
        """The configuration."""

    @property
    def parts(self) -> "Parts":
        """The parts of a turn."""

    @property
    def cache(self) -> "ResponseCache":
        """What signs answers, on or off."""

    @property
    def auto_model(self) -> bool:
        """Whether a model is chosen where nobody names one."""

    @property
    def chooser(self) -> "Chooser":
        """Who chooses it, or would."""

    @property
    def budgets(self) -> "Budgets":
        """What may be spent."""

    @property
    def runs(self) -> RunStore:
        """The journal of all runs."""


def read_plan(shop: Shop, workflow: str | Mapping[str, Any]) -> Plan:
    """The plan of a workflow, by its name or as a dict. Raises one `WorkflowError` with every fault."""
    name, raw = _written(shop, workflow)
    plan, problems = read_checked(shop, raw, name)
    refuse(problems, name)
    return plan


def lacking(shop: Shop, workflow: str, given: Mapping[str, Any]) -> list[str]:
    """The required inputs of a workflow that nothing gives; without a look at its faults."""
    _, raw = _written(shop, workflow)
    inputs = read_workflow(raw)[0].inputs
    return [name for name, spec in inputs.items() if spec.required and spec.default is None and name not in given]


def _written(shop: Shop, workflow: str | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """A workflow's name, and what stands in its file or dict."""
    if isinstance(workflow, str):
        found = WorkflowLibrary(shop.settings, start=shop.start).find(workflow)
        return found.name, found.raw
    return str(workflow.get("name") or "workflow"), workflow


def read_checked(shop: Shop, raw: Mapping[str, Any], name: str) -> tuple[Plan, list[str]]:
    """The plan of what was written, and every fault of it. With faults, it has the steps that could be read."""
    workflow, problems = read_workflow(raw)
    if not problems and (problem := not_json(raw)):
        problems = [problem]
    if workflow.steps or not problems:
        problems += problems_of(workflow, find_agent=shop.parts.agents.find)
    return Plan(workflow, name), problems


class Asked(NamedTuple):
    """What somebody wants to run."""

    name: str
    raw: Mapping[str, Any]
    """The workflow as it is written."""
    plan: Plan
    problems: list[str]
    """Its faults; with some, the plan has the steps that could be read."""
    inputs: dict[str, Any]
    """As they were given, now or when the run began that is taken up again."""
    taken_up: RunRecord | None
    """That run."""
    choices: Choices
    """The models that it chose."""


def asked_for(
    shop: Shop, workflow: str | Mapping[str, Any] | None, inputs: Mapping[str, Any] | None, *, resume: str | None
) -> Asked:
    """What is meant by these. Raises `WorkflowError` for no workflow, `RunNotFoundError`, or `JournalError`."""
    written = None if workflow is None else _written(shop, workflow)
    taken_up, unasked = None, dict[str, Any]()
    choices: Choices = {}
    if resume is not None:
        taken_up = History(shop.runs, shop.cache).find(resume, workflow=written and written[0])
        definition, unasked, choices = _kept(shop.runs, taken_up)
        written = written or (taken_up.workflow, definition)
    if written is None:
        raise WorkflowError("give a workflow, or the run to take up again")
    plan, problems = read_checked(shop, written[1], written[0])
    known = {given: value for given, value in unasked.items() if given in plan.workflow.inputs} | dict(inputs or {})
    return Asked(*written, plan, problems, known, taken_up, choices)


def prepare_run(
    shop: Shop,
    crew: "Crew",
    workflow: str | Mapping[str, Any] | None,
    inputs: Mapping[str, Any] | None,
    *,
    resume: str | None,
    max_cost_usd: float | None,
    options: RunOptions,
) -> Run:
    """A run that is ready. Raises `WorkflowError` with every fault, `RunNotFoundError`, or `JournalError`.

    With `resume`, an id of a run or "last", that run is taken up again: with its own inputs where none are given, and
    its own workflow where none is.
    """
    store, clock = shop.runs, shop.parts.clock
    name, raw, plan, problems, known, taken_up, kept = asked_for(shop, workflow, inputs, resume=resume)
    values, faults = given_inputs(plan.workflow, known)
    strangers = [
        f"force: there is no step {step!r}{nearest(step, plan.steps)}"
        for step in sorted(options.force)
        if step not in plan.steps
    ]
    refuse([*problems, *faults, *strangers], name)
    if max_cost_usd is not None and not 0 < max_cost_usd < math.inf:
        raise InputError(f"max_cost_usd is {max_cost_usd!r}; give US dollars above 0, such as 0.50")
    choices = choose_models(plan, kept, shop.chooser if shop.auto_model else None, shop.parts.agents.find)
    run_id = taken_up.id if taken_up else f"{clock.now():%Y%m%d-%H%M%S}-{int(clock.roll() * 16**6):06x}"
    journal = Journal(store, shop.cache, run_id)
    before, seconds = _earlier(store, name, taken_up)
    given = {name: values[name] for name in known}  # and no defaults, which may be edited before it is taken up
    journal.begin(
        RunRecord(
            id=run_id,
            workflow=name,
            status="running",
            started_at=clock.now(),
            definition=msgspec.json.encode({**raw, KEY: choices} if choices else raw).decode(),
            inputs=msgspec.json.encode(given).decode(),
        ),
        is_new=taken_up is None,
    )
    parts, budgets = shop.parts, shop.budgets
    if options.hands is not None:  # the config's limits are counted where the calls are made
        budgets = msgspec.structs.replace(budgets, limits=NO_LIMITS)
        parts = msgspec.structs.replace(parts, budget=budgets if budgets.more else None)
    if (limit := limit_of(plan, shop.settings.config, max_cost_usd)) is not None:
        budget = budgets.limited(f"run {run_id}", limit.usd, limit.named)  # in all that it is taken up
        parts = msgspec.structs.replace(parts, budget=budget)
        if options.batching is not None:
            options = replace(options, batching=msgspec.structs.replace(options.batching, budget=budget))
    return Run(
        plan,
        values,
        parts=parts,
        crew=crew,
        journal=journal,
        claims=Claims(store.path.with_name("runs.lock")),
        seconds=seconds,
        before=before,
        choices={step: kept.choice for step, kept in choices.items()},
        is_resumed=taken_up is not None,
        options=options,
    )


class RunLimit(NamedTuple):
    """The most that a run may cost."""

    usd: Decimal
    named: str
    """Who says so: `max_cost_usd`, or the config."""


def limit_of(plan: Plan, config: "Config", max_cost_usd: float | None) -> RunLimit | None:
    """The lowest limit that applies: of the call, else of the workflow; and that of the config."""
    own = plan.workflow.max_cost_usd if max_cost_usd is None else max_cost_usd
    limits = {"max_cost_usd": own, "budgets.per_run_usd": config.budgets.per_run_usd}
    given = [RunLimit(Decimal(str(usd)), named) for named, usd in limits.items() if usd is not None]
    return min(given, default=None)


def _kept(store: RunStore, run: RunRecord) -> tuple[dict[str, Any], dict[str, Any], Choices]:
    """The workflow, the inputs and the models of a run, as it began."""
    try:
        definition, inputs = _object(run.definition), _object(run.inputs)
        choices = kept_choices(definition)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise JournalError(
            f"run {run.id!r} cannot be taken up: the journal holds what nobody could have noted ({error})",
            path=str(store.path),
        ) from error
    definition.pop(KEY, None)
    return definition, inputs, choices


def _object(text: str) -> dict[str, Any]:
    return msgspec.json.decode(text, type=dict[str, Any])


def _earlier(store: RunStore, name: str, taken_up: RunRecord | None) -> tuple[dict[str, StepRecord], dict[str, float]]:
    """The steps of the run before, and how long steps took; nothing where the journal cannot be read."""
    try:
        run_id = taken_up.id if taken_up else next((run.id for run in store.runs(workflow=name, limit=1)), None)
        if run_id is None:
            return {}, {}
        return {record.step: record for record in store.steps(run_id)}, store.durations(name)
    except StoreError:
        return {}, {}
