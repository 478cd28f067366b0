"""Cached answers in one SQLite file: `SqliteEntries`, an `EntryStore`.

- One connection reads and one writes, each behind a lock: a read takes 10 µs and never waits for a writer, in this
  process or another (write-ahead log). With a connection for each, eight threads would read up to twice as fast, and
  nothing could be sure to close them.
- Sizes and counts are kept by triggers, in the transaction of whatever changes them, so they cannot drift.
- Uses are numbered, not timed, so no clock can disturb their order. They lie apart from the entries, where they are
  dense: writing 500 of them down touches a few pages instead of 500.
- The file gets its name when it is complete. A file whose tables are not exactly ours is not used: a repository that
  somebody cloned may bring one along.

The log reaches the disk at checkpoints only (`synchronous=NORMAL`): a power cut may cost the last answers, never the
file. A killed process costs nothing that was written.
"""

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from claude_force.stores.entries import ENTRY_OVERHEAD_BYTES, AgentCounts, StoreBusyError, Stored, StoreError, Totals
from claude_force.stores.files import link_once, make_private_folder

VERSION = 1

_SIZE = f"length({{}}.sealed) + {ENTRY_OVERHEAD_BYTES}"
_NEW, _OLD = _SIZE.format("new"), _SIZE.format("old")
_NEXT_USE = "(SELECT coalesce(max(used), 0) + 1 FROM uses)"
# Each statement word for word as it stands in the file.
SCHEMA = tuple(
    " ".join(statement.split())
    for statement in f"""
    CREATE TABLE entries (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, sealed BLOB NOT NULL);;
    CREATE TABLE uses (id INTEGER PRIMARY KEY, used INTEGER NOT NULL, hits INTEGER NOT NULL DEFAULT 0);;
    CREATE INDEX by_use ON uses (used);;
    CREATE TABLE quarantine (id INTEGER PRIMARY KEY, key TEXT NOT NULL, sealed BLOB NOT NULL);;
    CREATE TABLE totals (id INTEGER PRIMARY KEY, bytes INTEGER NOT NULL DEFAULT 0, entries INTEGER NOT NULL DEFAULT 0,
        quarantined INTEGER NOT NULL DEFAULT 0, evictions INTEGER NOT NULL DEFAULT 0,
        integrity_failures INTEGER NOT NULL DEFAULT 0, generation INTEGER NOT NULL DEFAULT 0);;
    CREATE TABLE agents (agent TEXT PRIMARY KEY, hits INTEGER NOT NULL, misses INTEGER NOT NULL,
        saved INTEGER NOT NULL);;
    CREATE TRIGGER entry_added AFTER INSERT ON entries BEGIN
        INSERT INTO uses (id, used) VALUES (new.id, {_NEXT_USE});
        UPDATE totals SET bytes = bytes + {_NEW}, entries = entries + 1; END;;
    CREATE TRIGGER entry_replaced AFTER UPDATE OF sealed ON entries BEGIN
        UPDATE uses SET used = {_NEXT_USE}, hits = 0 WHERE id = new.id;
        UPDATE totals SET bytes = bytes + {_NEW} - ({_OLD}), generation = generation + 1; END;;
    CREATE TRIGGER entry_removed AFTER DELETE ON entries BEGIN
        DELETE FROM uses WHERE id = old.id;
        UPDATE totals SET bytes = bytes - ({_OLD}), entries = entries - 1; END;;
    CREATE TRIGGER quarantine_added AFTER INSERT ON quarantine BEGIN
        UPDATE totals SET bytes = bytes + {_NEW}, quarantined = quarantined + 1,
        integrity_failures = integrity_failures + 1; END;;
    CREATE TRIGGER quarantine_removed AFTER DELETE ON quarantine BEGIN
        UPDATE totals SET bytes = bytes - ({_OLD}), quarantined = quarantined - 1; END
    """.split(";;")  # noqa: S608 - constants
)

# A damaged or planted file may hold anything anywhere.
_STORED = "id, CAST(key AS TEXT), CAST(sealed AS BLOB)"
_THIS = "WHERE id = ? AND CAST(sealed AS BLOB) = ?"
_READ = f"SELECT {_STORED} FROM entries WHERE key = ?"  # noqa: S608 - a constant
_SCAN = (
    f"SELECT {_STORED}, hits, used FROM uses JOIN entries USING (id)"  # noqa: S608 - a constant
    " WHERE (used, id) > (?, ?) ORDER BY used, id LIMIT ?"
)
_WRITE = "INSERT INTO entries (key, sealed) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET sealed = excluded.sealed"
_USE = f"UPDATE uses SET used = {_NEXT_USE}, hits = hits + ? WHERE id = (SELECT id FROM entries WHERE key = ?)"  # noqa: S608
_COUNT = (
    "INSERT INTO agents VALUES (?, ?, ?, ?) ON CONFLICT (agent) DO UPDATE SET hits = hits + excluded.hits,"
    " misses = misses + excluded.misses, saved = saved + excluded.saved"
)
_EVICT = (
    "DELETE FROM quarantine WHERE id = (SELECT min(id) FROM quarantine)",
    "DELETE FROM entries WHERE id = (SELECT id FROM uses ORDER BY used LIMIT 1)",
)
_MEASURE = (
    f"SELECT coalesce(sum(length(sealed) + {ENTRY_OVERHEAD_BYTES}), 0), count(*) FROM entries",  # noqa: S608 - constants
    f"SELECT coalesce(sum(length(sealed) + {ENTRY_OVERHEAD_BYTES}), 0), count(*) FROM quarantine",  # noqa: S608
)

WRITE_WAIT_S = 5.0
"""How long a write waits for those of other processes; each takes well below a millisecond."""
_POLL_S = 0.0003  # about as long as a write takes
MOST_NOTES = 512
"""Used keys that are noted before they are written down; settling so many takes about 3 ms."""
_PICO = Decimal("1e12")  # money lies in the file as a whole number: exact sums, and 9 million dollars fit
_PAGE = 100  # entries read at once by a scan: enough to be fast, few enough to hold in memory
_FAULTS = (sqlite3.Error, OSError, MemoryError, OverflowError, UnicodeError)


@dataclass(slots=True)
class _Counts:
    """What is noted for one agent and not written down yet."""

    hits: int = 0
    misses: int = 0
    saved: Decimal = Decimal(0)


class SqliteEntries:
    """A store in one file. Making the object touches no disk; the file is made or opened by the first call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opening = threading.Lock()
        self._reading = threading.Lock()  # each: one statement, or one transaction, at a time on its connection
        self._writing = threading.Lock()
        self._noting = threading.Lock()  # for the two dictionaries below
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._uses: dict[str, int] = {}  # hits by key, the last used last
        self._counts: dict[str, _Counts] = {}

    # ------------------------------------------------------------ EntryStore

    def read(self, key: str) -> Stored | None:
        """See `EntryStore.read`."""
        rows = self._rows(_READ, key)
        return Stored(*rows[0]) if rows else None

    def write(self, key: str, sealed: bytes, *, max_bytes: int) -> None:
        """See `EntryStore.write`."""
        with self._transaction() as writer:
            self._write_notes(writer)
            if len(sealed) + ENTRY_OVERHEAD_BYTES > max_bytes:
                writer.execute("DELETE FROM entries WHERE key = ?", (key,))
            else:
                writer.execute(_WRITE, (key, sealed))
            _make_room(writer, max_bytes)

    def note_hit(self, agent: str, key: str, cost_usd: Decimal | None) -> None:
        """See `EntryStore.note_hit`."""
        with self._noting:
            counts = self._counts.get(agent) or self._counts.setdefault(agent, _Counts())
            counts.hits += 1
            if cost_usd is not None:
                counts.saved += cost_usd
            self._uses[key] = self._uses.pop(key, 0) + 1
        if len(self._uses) >= MOST_NOTES:
            with suppress(StoreError):
                self.settle()

    def note_miss(self, agent: str) -> None:
        """See `EntryStore.note_miss`."""
        with self._noting:
            self._counts.setdefault(agent, _Counts()).misses += 1

    def settle(self) -> None:
        """See `EntryStore.settle`."""
        if self._counts:
            with self._transaction(wait_s=0.0) as writer:
                self._write_notes(writer)

    def remove(self, *stored: Stored) -> int:
        """See `EntryStore.remove`."""
        with self._transaction() as writer:
            rows = [(entry.id, entry.sealed) for entry in stored]
            removed = sum(writer.execute(f"DELETE FROM entries {_THIS}", row).rowcount for row in rows)  # noqa: S608
            writer.execute("UPDATE totals SET generation = generation + 1")
        return removed

    def quarantine(self, stored: Stored) -> bool:
        """See `EntryStore.quarantine`."""
        with self._transaction() as writer:
            row = (stored.id, stored.sealed)
            writer.execute(
                f"INSERT INTO quarantine (key, sealed) SELECT key, sealed FROM entries {_THIS}",  # noqa: S608
                row,
            )
            return writer.execute(f"DELETE FROM entries {_THIS}", row).rowcount > 0  # noqa: S608

    def scan(self) -> Iterator[Stored]:
        """See `EntryStore.scan`. What is used meanwhile may come twice or, if it is new, not at all."""
        after = (-1, -1)
        while rows := self._rows(_SCAN, *after, _PAGE):
            for row in rows:
                yield Stored(*row[:4])
            after = (rows[-1][4], rows[-1][0])

    def totals(self) -> Totals:
        """See `EntryStore.totals`."""
        rows = self._rows("SELECT agent, hits, misses, saved FROM agents")
        counts = {agent: AgentCounts(hits, misses, Decimal(saved) / _PICO) for agent, hits, misses, saved in rows}
        with self._noting:
            for agent, noted in self._counts.items():
                hits, misses, saved = counts.get(agent, AgentCounts())
                counts[agent] = AgentCounts(hits + noted.hits, misses + noted.misses, saved + noted.saved)
        (numbers,) = self._rows(f"SELECT {', '.join(Totals._fields[:-1])} FROM totals")  # noqa: S608 - our columns
        return Totals._make((*numbers, counts))

    def generation(self) -> int:
        """See `EntryStore.generation`."""
        ((generation,),) = self._rows("SELECT generation FROM totals")
        return int(generation)

    def audit(self, *, repair: bool = False) -> bool:
        """See `EntryStore.audit`."""
        with self._transaction() as writer:
            (used, entries), (held, quarantined) = (writer.execute(query).fetchone() for query in _MEASURE)
            counted = (used + held, entries, quarantined)
            kept = writer.execute("SELECT bytes, entries, quarantined FROM totals").fetchone()
            if repair:
                writer.execute("UPDATE totals SET bytes = ?, entries = ?, quarantined = ?", counted)
        return bool(counted == kept)

    def clear(self) -> int:
        """See `EntryStore.clear`. The file shrinks, unless others are reading."""
        with self._transaction() as writer:
            self._write_notes(writer)
            removed = sum(writer.execute(f"DELETE FROM {name}").rowcount for name in ("entries", "quarantine"))  # noqa: S608 - our tables
            writer.execute("UPDATE totals SET generation = generation + 1")
        with suppress(sqlite3.Error), self._writing:  # others may be reading; then it shrinks another time
            writer.execute("VACUUM")
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return removed

    def close(self) -> None:
        """See `EntryStore.close`."""
        if self._counts:
            with suppress(StoreError), self._transaction(wait_s=1.0) as writer:
                self._write_notes(writer)
        with self._reading, self._writing, self._opening:
            connections, self._reader, self._writer = (self._writer, self._reader), None, None
            for connection in connections:
                if connection is not None:
                    with suppress(sqlite3.Error):
                        connection.close()

    def after_fork(self) -> None:
        """See `EntryStore.after_fork`."""
        _INHERITED.extend(connection for connection in (self._reader, self._writer) if connection is not None)
        SqliteEntries.__init__(self, self.path)

    # ------------------------------------------------------------ the file

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            with self._reading:
                reader = self._reader or self._opened()[0]
                return reader.execute(query, values).fetchall()
        except _FAULTS as error:
            raise _explained(error, self.path) from error

    @contextmanager
    def _transaction(self, *, wait_s: float = WRITE_WAIT_S) -> Iterator[sqlite3.Connection]:
        """All or nothing; raises `StoreError`."""
        try:
            if not self._writing.acquire(timeout=wait_s):
                raise StoreBusyError(f"{str(self.path)!r}: another thread is writing")
            try:
                writer = self._writer or self._opened()[1]  # not before it is ours: another thread may close it
                _begin(writer, wait_s)
                try:
                    yield writer
                    writer.execute("COMMIT")
                finally:
                    if writer.in_transaction:
                        writer.execute("ROLLBACK")
            finally:
                self._writing.release()
        except _FAULTS as error:
            raise _explained(error, self.path) from error

    def _write_notes(self, writer: sqlite3.Connection) -> None:
        """Within a transaction. Notes are taken first: if it fails, a moment's figures are lost and nothing else."""
        with self._noting:
            uses, self._uses = self._uses, {}
            counts, self._counts = self._counts, {}
        if uses:
            writer.executemany(_USE, [(hits, key) for key, hits in uses.items()])
        if counts:
            rows = [(agent, noted.hits, noted.misses, int(noted.saved * _PICO)) for agent, noted in counts.items()]
            writer.executemany(_COUNT, rows)

    def _opened(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        with self._opening:
            if self._reader is None or self._writer is None:
                _refuse_links(self.path)
                if not self.path.exists():
                    _make(self.path)
                self._writer, self._reader = _connect(self.path), _connect(self.path)
                self._writer.execute("PRAGMA busy_timeout = 0")  # `_begin` waits
            return self._reader, self._writer


# Closing one of them in a child process would drop the parent's locks, so they are kept until the child ends.
_INHERITED: list[sqlite3.Connection] = []


def _begin(writer: sqlite3.Connection, wait_s: float) -> None:
    """Start a transaction that writes, as soon as no other process does.

    SQLite's own way to wait sleeps up to 100 ms at a time; with eight writers this one gets a third more done.
    """
    give_up_at = time.monotonic() + wait_s
    while True:
        try:
            writer.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() >= give_up_at:
                raise
        else:
            return
        time.sleep(_POLL_S)


def _is_busy(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says why it is busy
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _make_room(writer: sqlite3.Connection, max_bytes: int) -> None:
    """Remove what is in quarantine, then the least recently used, until all fits."""
    evicted = 0
    for statement in _EVICT:
        while writer.execute("SELECT bytes FROM totals").fetchone()[0] > max_bytes:
            if writer.execute(statement).rowcount == 0:
                break
            evicted += 1
    if evicted:
        writer.execute("UPDATE totals SET evictions = evictions + ?", (evicted,))


class _Connection(sqlite3.Connection):
    """Closes when nobody holds it any more: from Python 3.13 on, one that is merely forgotten warns."""

    def __del__(self) -> None:
        with suppress(sqlite3.Error):
            self.close()


def _connect(path: Path) -> sqlite3.Connection:
    """A connection to our file; raises `StoreError` if it is none of ours, or of a newer version."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=WRITE_WAIT_S,
        isolation_level=None,
        check_same_thread=False,
        factory=_Connection,
    )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        _check_schema(connection, path)
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    if version > VERSION:
        raise StoreError(f"{str(path)!r} was written by a newer claude-force; upgrade, or give another cache_dir")
    found = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    if version != VERSION or sorted(sql for (sql,) in found) != sorted(SCHEMA):  # VACUUM reorders them
        raise StoreError(f"{str(path)!r} is no cache of claude-force; move it away, or give another cache_dir")


def _make(path: Path) -> None:
    """A new file, private, complete before it gets its name; what another process has made meanwhile is left."""
    make_private_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        connection = sqlite3.connect(temporary, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute("BEGIN")
            for statement in SCHEMA:
                connection.execute(statement)
            connection.execute("INSERT INTO totals (id) VALUES (1)")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        finally:
            connection.close()
        link_once(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_links(path: Path) -> None:
    """A cloned repository must not have us write to another file of the user's, by way of a link."""
    for name in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
        if name.is_symlink():
            raise StoreError(f"{str(name)!r} is a link; remove it, or give another cache_dir")


def _explained(error: BaseException, path: Path) -> StoreError:
    if isinstance(error, StoreError):
        return error
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return (StoreBusyError if _is_busy(error) else StoreError)(f"{str(path)!r}: {reason}")
