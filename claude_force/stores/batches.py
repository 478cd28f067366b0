"""Message batches in one SQLite file: `BatchFile`, so that one is sent exactly once, and collected whoever is left.

A batch is put down, on the disk, before it is sent: who finds one that was being sent knows that the server may have
it. Whether an entry is already in one is asked in the transaction that puts it down, so two processes that want the
same never send it twice. Who acts on a batch has its claim (`stores.claims`), which the system drops when it dies.

Entries are sealed (`stores.seal`): a repository that somebody cloned may bring a file along, and what is found in it is
sent, and paid for.

Entries go when their batch was collected; the batch itself is remembered as long as the server keeps its results.
"""

import functools
import os
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from claude_force.base.batches import RESULTS_KEPT, BatchEntry, BatchRecord, Joined, custom_id_of
from claude_force.base.errors import BatchError
from claude_force.stores.claims import Claims
from claude_force.stores.database import Database, Design
from claude_force.stores.entries import StoreError
from claude_force.stores.seal import ForgedError, Sealer, UnreadableError

Outcome = TypeVar("Outcome")

_ID_BYTES = 8
_ASKED_AT_ONCE = 500  # keys in one question; SQLite takes so many values and more


def _m001_batches(connection: sqlite3.Connection) -> None:
    for statement in (
        """CREATE TABLE batches (id TEXT PRIMARY KEY, batch_id TEXT, stage TEXT NOT NULL, server TEXT NOT NULL,
            sent_at REAL NOT NULL, entries INTEGER NOT NULL, is_begun INTEGER NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE entries (batch TEXT NOT NULL REFERENCES batches (id), custom_id TEXT NOT NULL,
            key TEXT NOT NULL, agent TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (batch, custom_id))""",
        "CREATE INDEX entries_by_key ON entries (key)",
    ):
        connection.execute(" ".join(statement.split()))


def _m002_endpoints(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE batches ADD COLUMN endpoint TEXT NOT NULL DEFAULT ''")


_DESIGN = Design("record of batches", "move it away", (_m001_batches, _m002_endpoints), survives_power_cut=True)
# A damaged or planted file may hold anything anywhere.
_RECORDS = """
    SELECT CAST(id AS TEXT), nullif(CAST(batch_id AS TEXT), ''), CAST(stage AS TEXT), CAST(server AS TEXT),
        CAST(endpoint AS TEXT), CAST(sent_at AS REAL), CAST(entries AS INTEGER), CAST(is_begun AS INTEGER)
    FROM batches WHERE server = ? ORDER BY sent_at DESC, id
"""
_ENTRIES = """
    SELECT CAST(custom_id AS TEXT), CAST(key AS TEXT), CAST(agent AS TEXT), CAST(body AS BLOB)
    FROM entries WHERE batch = ? ORDER BY rowid
"""
_KNOWN = """
    SELECT CAST(key AS TEXT), CAST(batch AS TEXT) FROM entries JOIN batches ON batches.id = batch
    WHERE server = ? AND stage <> 'collected' AND key IN ({})
"""


class BatchFile(Database):
    """The batches of one project. Implements `base.batches.BatchStore`; safe for threads and processes."""

    def __init__(self, path: Path, make_sealer: Callable[[], Sealer]) -> None:
        """`make_sealer` is called when an entry is first written or read."""
        super().__init__(path, _DESIGN)
        self._make_sealer = make_sealer
        self._claims = Claims(path.with_name("batches.lock"))

    def join(
        self,
        entries: Sequence[BatchEntry],
        *,
        server: str,
        endpoint: str,
        at: datetime,
        split: Callable[[Sequence[BatchEntry]], Sequence[Sequence[BatchEntry]]],
    ) -> Joined:
        """See `BatchStore.join`."""
        claimed: dict[str, Callable[[], object]] = {}

        def join(writer: sqlite3.Connection) -> set[str]:
            old = (at - RESULTS_KEPT).timestamp()
            writer.execute("DELETE FROM batches WHERE stage = 'collected' AND sent_at < ?", (old,))
            known = _known(writer, server, [entry.key for entry in entries])
            for part in split([entry for entry in entries if entry.key not in known]):
                id_ = os.urandom(_ID_BYTES).hex()
                claimed[id_] = self._take(id_)  # before others can see it, and take it for one that was left
                row = (id_, None, "sending", server, at.timestamp(), len(part), 0, endpoint)
                writer.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
                writer.executemany(
                    "INSERT INTO entries VALUES (?, ?, ?, ?, ?)",
                    [(id_, custom_id_of(entry.key, id_), *self._sealed(id_, entry)) for entry in part],
                )
            return set(known.values())

        try:
            waiting = self._done(lambda: self._transact(join))
        except BaseException:
            for release in claimed.values():
                release()
            raise
        return Joined(sorted(waiting), claimed)

    def claim(self, id_: str) -> Callable[[], object] | None:
        """See `BatchStore.claim`."""
        try:
            return self._claims.take(id_)
        except OSError as error:
            raise BatchError(
                f"the lock beside {str(self.path)!r} cannot be taken: {error}; mend that and try again"
            ) from error

    def records(self, server: str) -> list[BatchRecord]:
        """See `BatchStore.records`; makes no file where there is none."""
        if not os.path.lexists(self.path):
            return []
        rows = self._done(lambda: self._rows(_RECORDS, server))
        try:
            return [
                BatchRecord(
                    id=id_,
                    batch_id=batch_id,
                    stage=stage,
                    server=of,
                    endpoint=endpoint,
                    sent_at=datetime.fromtimestamp(sent_at, UTC),
                    entries=entries,
                    is_begun=bool(is_begun),
                )
                for id_, batch_id, stage, of, endpoint, sent_at, entries, is_begun in rows
            ]
        except (ValueError, OverflowError, OSError) as error:  # it depends on how far away the time is
            raise BatchError(f"the record of batches {str(self.path)!r} is damaged: {error}; move it away") from error

    def entries(self, id_: str) -> list[BatchEntry]:
        """See `BatchStore.entries`."""
        rows = self._done(lambda: self._rows(_ENTRIES, id_))
        return [
            BatchEntry(custom_id=custom_id, key=key, agent=agent, body=self._unsealed(id_, key, agent, body))
            for custom_id, key, agent, body in rows
        ]

    def sent(self, id_: str, batch_id: str) -> None:
        """See `BatchStore.sent`."""
        self._alter("UPDATE batches SET batch_id = ?, stage = 'sent' WHERE id = ?", batch_id, id_)

    def renew(self, id_: str, at: datetime) -> None:
        """See `BatchStore.renew`."""
        self._alter("UPDATE batches SET sent_at = ? WHERE id = ?", at.timestamp(), id_)

    def begin(self, id_: str) -> None:
        """See `BatchStore.begin`."""
        self._alter("UPDATE batches SET is_begun = 1 WHERE id = ?", id_)

    def collected(self, id_: str) -> None:
        """See `BatchStore.collected`."""

        def end(writer: sqlite3.Connection) -> None:
            writer.execute("UPDATE batches SET stage = 'collected' WHERE id = ?", (id_,))
            writer.execute("DELETE FROM entries WHERE batch = ?", (id_,))

        self._done(lambda: self._transact(end))

    def drop(self, id_: str) -> None:
        """See `BatchStore.drop`."""

        def drop(writer: sqlite3.Connection) -> None:
            writer.execute("DELETE FROM entries WHERE batch = ?", (id_,))
            writer.execute("DELETE FROM batches WHERE id = ?", (id_,))

        self._done(lambda: self._transact(drop))

    def after_fork(self) -> None:
        """In a child process: forget what is the parent's."""
        super().after_fork()
        BatchFile.__init__(self, self.path, self._make_sealer)

    @functools.cached_property
    def _sealer(self) -> Sealer:
        return self._make_sealer()

    def _sealed(self, id_: str, entry: BatchEntry) -> tuple[str, str, bytes]:
        return entry.key, entry.agent, self._sealer.seal(_sealed_as(id_, entry.key, entry.agent), entry.body)

    def _unsealed(self, id_: str, key: str, agent: str, body: bytes) -> bytes:
        try:
            return bytes(self._sealer.unseal(_sealed_as(id_, key, agent), body))
        except (ForgedError, UnreadableError) as error:
            raise BatchError(
                f"the record of batches {str(self.path)!r} has an entry that you have not signed, so nothing of that"
                " batch is sent; move it away"
            ) from error

    def _alter(self, statement: str, *values: object) -> None:
        self._done(lambda: self._change(statement, *values))

    def _done(self, work: Callable[[], Outcome]) -> Outcome:
        try:
            return work()
        except StoreError as error:
            raise BatchError(f"the record of batches cannot be used: {error}; mend that and try again") from error

    def _take(self, id_: str) -> Callable[[], object]:
        release = self.claim(id_)
        if release is None:  # nobody else knows this id yet
            raise AssertionError(id_)
        return release


def _sealed_as(id_: str, key: str, agent: str) -> str:
    return f"entry of the batch {id_}: {key} of {agent}"


def _known(writer: sqlite3.Connection, server: str, keys: Sequence[str]) -> dict[str, str]:
    """In which batch that is still to be collected each of these keys is."""
    found: dict[str, str] = {}
    for start in range(0, len(keys), _ASKED_AT_ONCE):
        some = keys[start : start + _ASKED_AT_ONCE]
        found.update(writer.execute(_KNOWN.format(", ".join("?" * len(some))), (server, *some)).fetchall())
    return found
