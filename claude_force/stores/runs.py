"""The journal of workflow runs in one SQLite file: `RunStore`.

It keeps what it is told about a run, its steps and their answers, and understands none of it: that an answer is whole
and ours is checked by who reads it (`stores.seal`), and what a status means is said by who gives it. Only `prune` looks
at one: a run that is `running` may still be written to.

- An answer, or a step, is one statement, and is on record when the call returns: a process that is killed in the next
  moment loses nothing (`stores.database` says what a power cut may cost).
- Money lies in the file as the text of its decimal: nothing is added up here, so exactness needs no smallest unit and
  no largest sum. NULL is an unknown price.
- Times are whole microseconds since 1970, which is all that a `datetime` has.
- Asking makes no file; only a run does.
"""
# ruff: noqa: S608 - statements are put together from our own names of columns

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from claude_force.stores.database import Database, Design
from claude_force.stores.entries import StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run of a workflow."""

    id: str
    """Such as `"20261126-111530-3fa2c1"`."""
    workflow: str
    """Its name."""
    status: str
    """`running`, `completed`, `failed` or `cancelled`."""
    started_at: datetime
    """When it first began, in UTC."""
    ended_at: datetime | None = None
    definition: str = "{}"
    """The workflow as it was run, as JSON."""
    inputs: str = "{}"
    """What it was given, as JSON."""
    cost_usd: Decimal | None = Decimal(0)
    """`None` where a price is unknown."""
    saved_usd: Decimal = Decimal(0)
    resumed: int = 0
    """How often it was taken up again."""
    error: str | None = None
    """Why it failed, in one line."""
    simulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """How a step of a run ended."""

    step: str
    """Its id; `"reviews[3]"` is one item of a step that has many."""
    agent: str
    status: str
    """`done`, `cached`, `failed`, `skipped`, `cancelled` or `not_run`."""
    key: str | None = None
    """The key of its request, which leads to its answer."""
    model: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    input_tokens: int | None = None
    """Of the prompt, all of it."""
    output_tokens: int | None = None
    cost_usd: Decimal | None = None
    saved_usd: Decimal | None = None
    attempts: int = 0
    reason: str | None = None
    """Its error, or why it was not run, in one line."""
    causes: str = "{}"
    """What decided that it ran, or that it did not, as JSON."""


Record = TypeVar("Record", RunRecord, StepRecord)


class RunStore(Database):
    """The runs in one file, for many threads and processes at once. Whatever fails is a `StoreError`.

    Making the object touches no disk; the file is made by the first run that begins. A forked child may go on with it.

    ```python
    from datetime import UTC, datetime
    from pathlib import Path
    from claude_force.stores.runs import RunRecord, RunStore, StepRecord

    store = RunStore(Path(".claude/runs.db"))
    now = datetime.now(UTC)
    store.begin(RunRecord(id="20261126-111530-3fa2c1", workflow="review", status="running", started_at=now))
    store.keep("20261126-111530-3fa2c1", "ab12", b"sealed")
    store.note("20261126-111530-3fa2c1", StepRecord(step="linter", agent="linter", status="done", key="ab12"))
    assert store.answer("20261126-111530-3fa2c1", "ab12") == b"sealed"
    ```
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _DESIGN)

    # ------------------------------------------------------------ while it runs

    def begin(self, run: RunRecord) -> None:
        """Put down a new run; its id must be new as well."""
        if not self._change(_BEGIN, *_row(run, _RUN)):
            raise StoreError(f"{str(self.path)!r} has a run {run.id!r} already; give the new one another id")

    def take_up(self, run_id: str, *, definition: str, inputs: str) -> RunRecord:
        """The run, which goes on: it is running, was resumed once more, and has neither an end nor an error."""

        def take_up(writer: sqlite3.Connection) -> list[tuple[Any, ...]]:
            writer.execute(_TAKE_UP, (definition, inputs, run_id))
            return writer.execute(_THE_RUN, (run_id,)).fetchall()

        rows = self._transact(take_up)
        if not rows:
            raise self._unknown(run_id)
        return self._read(RunRecord, _RUN, rows)[0]

    def keep(self, run_id: str, key: str, sealed: bytes) -> None:
        """Keep an answer, in place of an older one of this run under this key."""
        if not self._change(_KEEP, key, sealed, run_id):
            raise self._unknown(run_id)

    def answer(self, run_id: str, key: str) -> bytes | None:
        """The answer that this run has under this key. Never waits for a writer."""
        rows = self._rows(_ANSWER, run_id, key)
        return rows[0][0] if rows else None

    def note(self, run_id: str, *steps: StepRecord) -> None:
        """Put down how these steps are, in place of what was noted of them before; all of them, or none."""
        if len(steps) == 1:
            changed = self._change(_NOTE, *_row(steps[0], _STEP), run_id)
        else:
            rows = [(*_row(step, _STEP), run_id) for step in steps]
            changed = self._transact(lambda writer: writer.executemany(_NOTE, rows).rowcount)
        if steps and not changed:
            raise self._unknown(run_id)

    def end(
        self,
        run_id: str,
        *,
        status: str,
        ended_at: datetime,
        cost_usd: Decimal | None,
        saved_usd: Decimal,
        error: str | None = None,
        simulated: bool = False,
        steps: Sequence[StepRecord] = (),
    ) -> None:
        """Put down how the run ended, and these steps with it. A run that was simulated once stays so.

        `cost_usd` and `saved_usd` are of this part of it: they are added to those of the parts before. A part that was
        killed has added nothing; the ledger has its costs, under the run's id.
        """
        rows = [(*_row(step, _STEP), run_id) for step in steps]

        def end(writer: sqlite3.Connection) -> int:
            writer.executemany(_NOTE, rows)
            cost, saved = cost_usd, saved_usd
            for earlier, saved_earlier in writer.execute(_SUMS, (run_id,)):
                cost = None if cost is None or earlier is None else cost + Decimal(earlier)
                saved += Decimal(saved_earlier)
            values = (
                status,
                _micros(ended_at),
                None if cost is None else str(cost),
                str(saved),
                error,
                simulated,
                run_id,
            )
            return writer.execute(_END, values).rowcount

        if not self._transact(end):
            raise self._unknown(run_id)

    # ------------------------------------------------------------ what is asked later

    def run(self, run_id: str) -> RunRecord | None:
        """The run with exactly this id."""
        found = self._read(RunRecord, _RUN, self._rows(_THE_RUN, run_id))
        return found[0] if found else None

    def match(self, prefix: str) -> list[str]:
        """The ids that begin so, newest first."""
        rows = self._rows(
            f"SELECT CAST(id AS TEXT) FROM runs WHERE substr(id, 1, ?) = ? {_NEWEST}", len(prefix), prefix
        )
        return [run_id for (run_id,) in rows]

    def runs(self, *, workflow: str | None = None, status: str | None = None, limit: int = 50) -> list[RunRecord]:
        """The newest runs, of this workflow or with this status, newest first; without their definitions and inputs."""
        rows = self._rows(_THE_RUNS, workflow, workflow, status, status, limit)
        return self._read(RunRecord, _RUN_IN_SHORT, rows)

    def counts(self) -> dict[str, int]:
        """How many runs there are, by status."""
        return dict(self._rows(_COUNTS))

    def steps(self, run_id: str) -> list[StepRecord]:
        """The steps of a run, in the order in which they were first noted."""
        return self._read(StepRecord, _STEP, self._rows(_THE_STEPS, run_id))

    def durations(self, workflow: str, *, simulated: bool | None = None) -> dict[str, float]:
        """For each step the seconds that it took in the newest run of this workflow in which it was done.

        It looks back over a hundred runs: of all, or of those that were `simulated`, or not.
        """
        rows = self._rows(_DURATIONS, workflow, simulated, simulated, _LOOK_BACK)
        return {step: seconds for step, seconds, _ in rows}

    def output_tokens(self, workflow: str, *, simulated: bool) -> dict[str, list[int]]:
        """For each step, and each item of one, how many tokens its answers had; it looks back over a hundred runs."""
        found: dict[str, list[int]] = {}
        for step, tokens in self._rows(_OUTPUT_TOKENS, workflow, simulated, simulated, _LOOK_BACK):
            found.setdefault(step, []).append(tokens)
        return found

    def prune(self, *, older_than: datetime | None = None, keep: int | None = None) -> int:
        """Remove runs with all that belongs to them; how many it were.

        Those go that ended, or were last heard of, before `older_than`, but for the newest `keep`; where neither is
        given, none. A run that is running goes only if `older_than` says so. The file shrinks, unless a run is running.
        """
        if (older_than is None and keep is None) or not self._is_there():
            return 0
        before = None if older_than is None else _micros(older_than)
        removed = 0
        while self._change(_PRUNE, keep or 0, before, before):  # one by one: others can write in between
            removed += 1
        if removed and not self._rows("SELECT 1 FROM runs WHERE status = 'running' LIMIT 1"):
            with suppress(StoreError):  # others may be reading; then it shrinks another time
                self._change("VACUUM")
                self._change("PRAGMA wal_checkpoint(TRUNCATE)")
        return removed

    # ------------------------------------------------------------ helpers

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return super()._rows(query, *values) if self._is_there() else []

    def _is_there(self) -> bool:
        return self._reader is not None or os.path.lexists(self.path)  # a link as well: it is refused, not passed over

    def _read(self, kind: Callable[..., Record], columns: "_Columns", rows: list[tuple[Any, ...]]) -> list[Record]:
        try:
            return [kind(**_facts(row, columns)) for row in rows]
        except (ValueError, ArithmeticError) as error:
            raise StoreError(f"{str(self.path)!r} holds what nobody could have noted; move it away") from error

    def _unknown(self, run_id: str) -> StoreError:
        return StoreError(f"{str(self.path)!r} has no run {run_id!r}; it may have been pruned")


def _m001_runs(connection: sqlite3.Connection) -> None:
    """What may be long stands last in its row: the rest is read without it."""
    for statement in (
        """CREATE TABLE runs (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, workflow TEXT NOT NULL,
            status TEXT NOT NULL, started_at INTEGER NOT NULL, ended_at INTEGER, cost_usd TEXT,
            saved_usd TEXT NOT NULL, resumed INTEGER NOT NULL, error TEXT, simulated INTEGER NOT NULL,
            inputs TEXT NOT NULL, definition TEXT NOT NULL)""",
        "CREATE INDEX runs_by_time ON runs (started_at)",
        """CREATE TABLE steps (number INTEGER PRIMARY KEY, run INTEGER NOT NULL, step TEXT NOT NULL,
            agent TEXT NOT NULL, status TEXT NOT NULL, key TEXT, model TEXT, started_at INTEGER, ended_at INTEGER,
            input_tokens INTEGER, output_tokens INTEGER, cost_usd TEXT, saved_usd TEXT, attempts INTEGER NOT NULL,
            reason TEXT, causes TEXT NOT NULL, UNIQUE (run, step))""",
        """CREATE TABLE answers (number INTEGER PRIMARY KEY, run INTEGER NOT NULL, key TEXT NOT NULL,
            sealed BLOB NOT NULL, UNIQUE (run, key))""",
        """CREATE TRIGGER run_removed AFTER DELETE ON runs BEGIN
            DELETE FROM steps WHERE run = old.number;
            DELETE FROM answers WHERE run = old.number; END""",
    ):
        connection.execute(" ".join(statement.split()))


_DESIGN = Design("journal of runs", "move it away", (_m001_runs,))

# ------------------------------------------------------------ a record as a row, and back

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _moment(micros: int) -> datetime:
    return _EPOCH + micros * _MICROSECOND


class _Column(NamedTuple):
    """How a field lies in the file, unless it is `None`."""

    sql: str
    write: Callable[[Any], object] | None = None
    read: Callable[[Any], object] | None = None


_Columns = Mapping[str, _Column]

_TEXT, _NUMBER = _Column("TEXT"), _Column("INTEGER")
_TIME = _Column("INTEGER", _micros, _moment)
_MONEY = _Column("TEXT", str, Decimal)

_RUN_IN_SHORT: _Columns = {
    "id": _TEXT,
    "workflow": _TEXT,
    "status": _TEXT,
    "started_at": _TIME,
    "ended_at": _TIME,
    "cost_usd": _MONEY,
    "saved_usd": _MONEY,
    "resumed": _NUMBER,
    "error": _TEXT,
    "simulated": _Column("INTEGER", int, bool),
}
_RUN: _Columns = {**_RUN_IN_SHORT, "inputs": _TEXT, "definition": _TEXT}
_STEP: _Columns = {
    "step": _TEXT,
    "agent": _TEXT,
    "status": _TEXT,
    "key": _TEXT,
    "model": _TEXT,
    "started_at": _TIME,
    "ended_at": _TIME,
    "input_tokens": _NUMBER,
    "output_tokens": _NUMBER,
    "cost_usd": _MONEY,
    "saved_usd": _MONEY,
    "attempts": _NUMBER,
    "reason": _TEXT,
    "causes": _TEXT,
}


def _row(record: RunRecord | StepRecord, columns: _Columns) -> list[object]:
    values = [(getattr(record, name), column.write) for name, column in columns.items()]
    return [value if value is None or write is None else write(value) for value, write in values]


def _facts(row: tuple[Any, ...], columns: _Columns) -> dict[str, object]:
    values = zip(columns.items(), row, strict=True)
    return {
        name: value if value is None or column.read is None else column.read(value) for (name, column), value in values
    }


# ------------------------------------------------------------ statements


def _selected(columns: _Columns) -> str:
    """A damaged or planted file may hold anything anywhere."""
    return ", ".join(f"CAST({name} AS {column.sql})" for name, column in columns.items())


_NEWEST = "ORDER BY number DESC"  # as they began, whatever the clock said: it may have been set back meanwhile
_THIS_RUN = "(SELECT number FROM runs WHERE id = ?)"

_BEGIN = f"INSERT INTO runs ({', '.join(_RUN)}) VALUES ({', '.join('?' * len(_RUN))}) ON CONFLICT (id) DO NOTHING"
_TAKE_UP = (
    "UPDATE runs SET definition = ?, inputs = ?, status = 'running', resumed = resumed + 1, ended_at = NULL,"
    " error = NULL WHERE id = ?"
)
_SUMS = "SELECT CAST(cost_usd AS TEXT), CAST(saved_usd AS TEXT) FROM runs WHERE id = ?"
_END = (
    "UPDATE runs SET status = ?, ended_at = ?, cost_usd = ?, saved_usd = ?, error = ?, simulated = max(simulated, ?)"
    " WHERE id = ?"
)
# A run that is not there, or no longer, gets nothing: then no row changes.
_KEEP = (
    "INSERT INTO answers (run, key, sealed) SELECT number, ?, ? FROM runs WHERE id = ?"
    " ON CONFLICT (run, key) DO UPDATE SET sealed = excluded.sealed"
)
_NOTE = (
    f"INSERT INTO steps (run, {', '.join(_STEP)}) SELECT number, {', '.join('?' * len(_STEP))} FROM runs WHERE id = ?"
    f" ON CONFLICT (run, step) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _STEP)}"
)

_ANSWER = f"SELECT CAST(sealed AS BLOB) FROM answers WHERE run = {_THIS_RUN} AND key = ?"
_THE_RUN = f"SELECT {_selected(_RUN)} FROM runs WHERE id = ?"
_THE_RUNS = (
    f"SELECT {_selected(_RUN_IN_SHORT)} FROM runs WHERE (? IS NULL OR workflow = ?) AND (? IS NULL OR status = ?)"
    f" {_NEWEST} LIMIT ?"
)
_COUNTS = "SELECT CAST(status AS TEXT), count(*) FROM runs GROUP BY 1"
_THE_STEPS = f"SELECT {_selected(_STEP)} FROM steps WHERE run = {_THIS_RUN} ORDER BY number"

_LOOK_BACK = 100  # of 1,000 steps each take 0.1 s
_DONE_LATELY = f"""
    (SELECT number FROM runs WHERE workflow = ? AND (? IS NULL OR simulated = ?) {_NEWEST} LIMIT ?)
    AS recent JOIN steps ON steps.run = recent.number AND steps.status = 'done'
"""
_DURATIONS = f"""
    SELECT CAST(step AS TEXT), (steps.ended_at - steps.started_at) / 1e6, max(recent.number) FROM {_DONE_LATELY}
    WHERE steps.ended_at - steps.started_at IS NOT NULL
    GROUP BY step
"""  # of a group, SQLite shows the row that has the maximum
_OUTPUT_TOKENS = f"""
    SELECT CAST(step AS TEXT), CAST(output_tokens AS INTEGER) FROM {_DONE_LATELY}
    WHERE CAST(output_tokens AS INTEGER) > 0
"""
_PRUNE = f"""
    DELETE FROM runs WHERE number = (
        SELECT number FROM runs
        WHERE number NOT IN (SELECT number FROM runs {_NEWEST} LIMIT ?)
        AND CASE WHEN ? IS NULL THEN status <> 'running' ELSE coalesce(
            ended_at, (SELECT max(coalesce(ended_at, started_at)) FROM steps WHERE run = runs.number), started_at
        ) < ? END
        LIMIT 1
    )
"""
