"""Runs of the past: which there were, how each step ended, what it answered, and in what two of them differ.

Reads the journal, and prunes it; whoever runs something writes it (`journal`).
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from claude_force.base.errors import JournalError, RunNotFoundError
from claude_force.base.sections import nearest
from claude_force.stores.entries import StoreError
from claude_force.stores.runs import RunRecord, RunStore, StepRecord
from claude_force.workflows.causes import differences, kept_causes
from claude_force.workflows.choices import KEY
from claude_force.workflows.definition import Workflow, read_workflow
from claude_force.workflows.journal import Journal

if TYPE_CHECKING:
    from claude_force.response_cache import ResponseCache

LAST = "last"
"""In place of a run's id: the newest run."""


class Difference(NamedTuple):
    """A step, or an item of one, that is not the same in two runs."""

    step: str
    before: str | None
    """How it ended in the one run; `None` where that has nothing of it."""
    now: str | None
    changes: tuple[str, ...]
    """What is different, each in words."""


class History:
    """The runs of a journal. `seals` is the response cache, whose signature each answer must bear.

    Whatever fails on disk is a `JournalError`.
    """

    def __init__(self, store: RunStore, seals: "ResponseCache") -> None:
        self._store = store
        self._seals = seals

    def runs(self, *, workflow: str | None = None, status: str | None = None, limit: int) -> list[RunRecord]:
        """The newest runs, newest first; without their definitions and inputs."""
        with self._reading():
            return self._store.runs(workflow=workflow, status=status, limit=limit)

    def counts(self) -> dict[str, int]:
        """How many runs there are, by status."""
        with self._reading():
            return self._store.counts()

    def changes(self) -> tuple[int, int] | None:
        """What is another one after each change of the journal; `None` where there is none. See `Database.changes`."""
        with self._reading():
            return self._store.changes()

    def workflow(self, run: RunRecord) -> Workflow:
        """The workflow as it was run, as far as it can be read."""
        with self._reading():
            definition = msgspec.json.decode(run.definition, type=dict[str, Any])
        definition.pop(KEY, None)
        return read_workflow(definition)[0]

    def find(self, wanted: str, *, workflow: str | None = None) -> RunRecord:
        """The run with this id, or the one whose id begins so; or the "last" one. Raises `RunNotFoundError`."""
        with self._reading():
            if wanted == LAST:
                ids = [run.id for run in self._store.runs(workflow=workflow, limit=1)]
            else:
                ids = self._store.match(wanted) if wanted else []
                ids = [wanted] if wanted in ids else ids
            found = self._store.run(ids[0]) if len(ids) == 1 else None
        if len(ids) > 1:
            raise RunNotFoundError(f"{len(ids)} runs begin with {wanted!r}; give more of the id", run_id=wanted)
        if found is None:
            what = f"of workflow {workflow!r}" if wanted == LAST and workflow else repr(wanted)
            hint = "`claude-force runs list` shows those there are"
            raise RunNotFoundError(f"there is no run {what}; {hint}", run_id=wanted)
        if workflow is not None and found.workflow != workflow:
            raise RunNotFoundError(
                f"run {found.id} is one of workflow {found.workflow!r}, not of {workflow!r}; leave the name out, or"
                " give another run",
                run_id=wanted,
            )
        return found

    def steps(self, run: RunRecord) -> dict[str, StepRecord | None]:
        """How each step ended, and each item of one, in the order of the file.

        `None` is a step of which nothing was noted: it was not reached, or was under way, when the run broke off.
        """
        with self._reading():
            records = {record.step: record for record in self._store.steps(run.id)}
            definition = msgspec.json.decode(run.definition, type=_Definition)
        names = [step.id or step.agent for step in definition.steps]
        place = {name: number for number, name in enumerate(names)}
        found = dict.fromkeys((name for name in names if name not in records), None) | records
        return dict(sorted(found.items(), key=lambda pair: _rank(pair[0], place)))

    def answers(self, run: RunRecord, step: str) -> dict[str, str]:
        """The answer of a step; of one that was done for each item of a list, those of its items.

        Raises `RunNotFoundError` where there is none, and `JournalError` for one that is not signed by us.
        """
        steps = self.steps(run)
        if step not in steps:
            raise RunNotFoundError(f"run {run.id} has no step {step!r}{nearest(step, steps)}", run_id=run.id)
        found = [
            record
            for name, record in steps.items()
            if record and record.key and (name == step or name.startswith(f"{step}["))
            if record.status in {"done", "cached"}
        ]
        if not found:
            record = steps[step]
            why = "nothing was noted of it" if record is None else record.reason or record.status
            raise RunNotFoundError(f"step {step!r} of run {run.id} has no answer: {why}", run_id=run.id)
        return {record.step: self._answer(run, record) for record in found}

    def compare(self, before: RunRecord, now: RunRecord) -> list[Difference]:
        """The steps whose status, request or answer is another one."""
        earlier, later = self.steps(before), self.steps(now)
        return [
            Difference(name, first.status if first else None, second.status if second else None, changes)
            for name in {**later, **earlier}
            if (first := earlier.get(name)) is not (second := later.get(name))
            if (changes := tuple(self._changes((before, first), (now, second))))
        ]

    def prune(self, *, now: datetime, older_than_hours: float | None = None, keep: int | None = None) -> int:
        """Remove runs that are older, but for the newest `keep`; how many it were. See `RunStore.prune`."""
        older_than = None if older_than_hours is None else now - timedelta(hours=older_than_hours)
        with self._reading():
            return self._store.prune(older_than=older_than, keep=keep)

    def _answer(self, run: RunRecord, record: StepRecord) -> str:
        kept = Journal(self._store, self._seals, run.id).answer(record.key or "")
        if kept is None:
            raise JournalError(
                f"the answer of {record.step!r} in run {run.id} is not kept, or its signature is not ours; do it"
                " again with --force",
                path=str(self._store.path),
            )
        return kept.reply.text

    def _changes(
        self, before: tuple[RunRecord, StepRecord | None], now: tuple[RunRecord, StepRecord | None]
    ) -> Iterator[str]:
        first, second = before[1], now[1]
        if first is None or second is None:
            yield f"{_status(first)} is now {_status(second)}"
            return
        if first.status != second.status:
            yield f"{first.status} is now {second.status}"
        causes, later = kept_causes(first.causes), kept_causes(second.causes)
        changes = list(differences(causes, later)) if causes and later else []
        yield from changes
        if not first.key or not second.key:
            return
        if first.key != second.key and not changes:
            yield "its request changed"
        if self._text(before[0], first) != self._text(now[0], second):
            yield "its answer changed"

    def _text(self, run: RunRecord, record: StepRecord) -> str | None:
        kept = Journal(self._store, self._seals, run.id).answer(record.key or "")
        return None if kept is None else kept.reply.text

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (StoreError, msgspec.MsgspecError, RecursionError) as error:
            path = str(self._store.path)
            raise JournalError(f"the journal of runs cannot be used: {error}", path=path) from error


class _Step(msgspec.Struct):
    """Of a step, what is read here."""

    agent: str = ""
    id: str | None = None


class _Definition(msgspec.Struct):
    """A workflow as a run had it."""

    steps: list[_Step] = []


def facts(record: RunRecord | StepRecord) -> dict[str, Any]:
    """A record without what is only of use to a run, ready for JSON: money is a float, a time is ISO 8601."""
    found = dataclasses.asdict(record)
    for name in ("definition", "inputs", "causes"):
        found.pop(name, None)
    plain = {name: _plain(value) for name, value in found.items()}
    return plain | {"duration_s": duration_s(record)}


def duration_s(record: RunRecord | StepRecord) -> float | None:
    """How long it took; `None` where that is not known, as where the clock was set back meanwhile."""
    if record.started_at is None or record.ended_at is None or record.ended_at < record.started_at:
        return None
    return (record.ended_at - record.started_at).total_seconds()


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else value


def _rank(name: str, place: Mapping[str, int]) -> tuple[int, int]:
    """Where a step stands in the file, and an item after its step."""
    step, _, number = name.partition("[")
    return place.get(step, len(place)), int(number[:-1]) if number[:-1].isdecimal() else -1


def _status(record: StepRecord | None) -> str:
    return "not there" if record is None else record.status
