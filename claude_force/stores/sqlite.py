"""Cached answers in one SQLite file: `SqliteEntries`, an `EntryStore`.

- The file, its connections and how others are kept from planting one are those of `stores.database`. A read takes
  10 µs. With a connection for each, eight threads would read up to twice as fast, and nothing could be sure to close
  them.
- Sizes and counts are kept by triggers, in the transaction of whatever changes them, so they cannot drift.
- Uses are numbered, not timed, so no clock can disturb their order. An entry's id is the number of the use that wrote
  it; later ones lie apart, where they are dense: writing 500 of them down touches a few pages instead of 500, and a
  new entry, which was not used since, touches none.
"""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

from claude_force.stores.database import Database, Design
from claude_force.stores.entries import ENTRY_OVERHEAD_BYTES, AgentCounts, Stored, StoreError, Totals
from claude_force.stores.notes import PICO, Notes

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
    """.split(";;")
)


# All numbers are of one row: an entry's id, and those of its later uses.
_NEXT = "max((SELECT coalesce(max(id), 0) FROM entries), (SELECT coalesce(max(used), 0) FROM uses), unused_from) + 1"


def _m001_entries(connection: sqlite3.Connection) -> None:
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute("INSERT INTO totals (id) VALUES (1)")


def _m002_uses_of_what_was_used(connection: sqlite3.Connection) -> None:
    """A new entry has no row in `uses` any more: two of the pages that a write touched."""
    for statement in (
        "ALTER TABLE totals ADD COLUMN unused_from INTEGER NOT NULL DEFAULT 0",
        "UPDATE totals SET unused_from = (SELECT coalesce(max(id), 0) + 1 FROM entries)",  # all so far have a row
        "DROP TRIGGER entry_added",
        "DROP TRIGGER entry_replaced",
        f"""CREATE TRIGGER entry_added AFTER INSERT ON entries BEGIN
            UPDATE totals SET bytes = bytes + {_NEW}, entries = entries + 1; END""",
        # No `INSERT OR REPLACE`: in a trigger the outer statement's way with conflicts would count.
        f"""CREATE TRIGGER entry_replaced AFTER UPDATE OF sealed ON entries BEGIN
            INSERT INTO uses (id, used) SELECT new.id, {_NEXT} FROM totals WHERE true
            ON CONFLICT (id) DO UPDATE SET used = excluded.used, hits = 0;
            UPDATE totals SET bytes = bytes + {_NEW} - ({_OLD}), generation = generation + 1; END""",
    ):
        connection.execute(" ".join(statement.split()))


_DESIGN = Design("cache", "move it away, or give another cache_dir", (_m001_entries, _m002_uses_of_what_was_used))

_PAGE = 100  # entries read at once by a scan: enough to be fast, few enough to hold in memory
_UNUSED = "NOT EXISTS (SELECT 1 FROM uses WHERE uses.id = entries.id)"
# A damaged or planted file may hold anything anywhere.
_THIS = "WHERE id = ? AND CAST(sealed AS BLOB) = ?"
_READ = "SELECT id, CAST(sealed AS BLOB) FROM entries WHERE key = ?"
_SCAN = f"""
    SELECT id, CAST(key AS TEXT), CAST(sealed AS BLOB), hits, number FROM (
        SELECT * FROM (SELECT id, hits, used AS number FROM uses WHERE (used, id) > (?, ?)
                       ORDER BY used, id LIMIT {_PAGE})
        UNION ALL
        SELECT * FROM (SELECT id, 0, id FROM entries WHERE id > ? AND {_UNUSED} ORDER BY id LIMIT {_PAGE})
    ) JOIN entries USING (id) ORDER BY number, id LIMIT {_PAGE}
"""
_WRITE = (
    f"INSERT OR IGNORE INTO entries (id, key, sealed) VALUES ((SELECT {_NEXT} FROM totals), ?, ?)"
    " ON CONFLICT (key) DO UPDATE SET sealed = excluded.sealed"
)
# One statement, a transaction of its own, takes half as long as one that has to look and to evict. Where it does not
# fit, it comes to nothing by the column's NOT NULL; `INSERT ... SELECT ... WHERE` takes a sixth longer.
_WRITE_IF_IT_FITS = _WRITE.replace("?, ?)", "?, CASE WHEN (SELECT bytes FROM totals) + ? <= ? THEN ? END)")
_USE = (
    f"INSERT INTO uses (used, hits, id) SELECT {_NEXT}, ?, entries.id FROM totals, entries WHERE key = ?"
    " ON CONFLICT (id) DO UPDATE SET used = excluded.used, hits = hits + excluded.hits"
)
_COUNT = (
    "INSERT INTO agents VALUES (?, ?, ?, ?) ON CONFLICT (agent) DO UPDATE SET hits = hits + excluded.hits,"
    " misses = misses + excluded.misses, saved = saved + excluded.saved"
)
_EVICT_FORGED = "DELETE FROM quarantine WHERE id = (SELECT min(id) FROM quarantine)"
# Every entry is passed once: those before `unused_from` were all used since.
_ADVANCE = (
    "UPDATE totals SET unused_from = coalesce((SELECT id FROM entries WHERE id >= unused_from"
    f" AND {_UNUSED} ORDER BY id LIMIT 1), {_NEXT})"
)
_EVICT = """
    DELETE FROM entries WHERE id = (SELECT id FROM (
        SELECT * FROM (SELECT id, used AS number FROM uses ORDER BY used LIMIT 1)
        UNION ALL
        SELECT id, id FROM entries WHERE id = (SELECT unused_from FROM totals)
    ) ORDER BY number LIMIT 1)
"""
_MEASURE = (
    f"SELECT coalesce(sum(length(sealed) + {ENTRY_OVERHEAD_BYTES}), 0), count(*) FROM entries",
    f"SELECT coalesce(sum(length(sealed) + {ENTRY_OVERHEAD_BYTES}), 0), count(*) FROM quarantine",
)

MOST_NOTES = 512
"""Hits that are noted before they are written down; settling so many keys takes about 3 ms."""


class SqliteEntries(Database):
    """A store in one file. Making the object touches no disk; the file is made or opened by the first call."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _DESIGN)
        self._notes = Notes()

    # ------------------------------------------------------------ EntryStore

    def read(self, key: str) -> Stored | None:
        """See `EntryStore.read`."""
        rows = self._rows(_READ, key)
        return Stored(rows[0][0], key, rows[0][1]) if rows else None

    def write(self, key: str, sealed: bytes, *, max_bytes: int, keep_s: float = math.inf) -> None:  # noqa: ARG002 - room is what ends an entry here
        """See `EntryStore.write`."""
        size = len(sealed) + ENTRY_OVERHEAD_BYTES
        if self._change(_WRITE_IF_IT_FITS, key, size, max_bytes, sealed):
            return

        def write(writer: sqlite3.Connection) -> None:
            self._write_notes(writer)
            if size > max_bytes:
                writer.execute("DELETE FROM entries WHERE key = ?", (key,))
            else:
                writer.execute(_WRITE, (key, sealed))
            _make_room(writer, max_bytes)

        self._transact(write)

    def note_hit(self, agent: str, key: str, cost_usd: Decimal | None) -> None:
        """See `EntryStore.note_hit`."""
        self._notes.hit(agent, key, cost_usd)
        if len(self._notes) % MOST_NOTES == 0:
            with suppress(StoreError):
                self.settle()

    def note_miss(self, agent: str) -> None:
        """See `EntryStore.note_miss`."""
        self._notes.miss(agent)

    def settle(self) -> None:
        """See `EntryStore.settle`."""
        if self._notes:
            self._transact(self._write_notes, wait_s=0.0)

    def remove(self, *stored: Stored) -> int:
        """See `EntryStore.remove`."""

        def remove(writer: sqlite3.Connection) -> int:
            rows = [(entry.id, entry.sealed) for entry in stored]
            removed = sum(writer.execute(f"DELETE FROM entries {_THIS}", row).rowcount for row in rows)
            writer.execute("UPDATE totals SET generation = generation + 1")
            return removed

        return self._transact(remove)

    def quarantine(self, stored: Stored) -> bool:
        """See `EntryStore.quarantine`."""

        def move(writer: sqlite3.Connection) -> bool:
            row = (stored.id, stored.sealed)
            writer.execute(
                f"INSERT INTO quarantine (key, sealed) SELECT key, sealed FROM entries {_THIS}",
                row,
            )
            return writer.execute(f"DELETE FROM entries {_THIS}", row).rowcount > 0

        return self._transact(move)

    def scan(self) -> Iterator[Stored]:
        """See `EntryStore.scan`. What is used meanwhile may come twice or, if it is new, not at all."""
        number = id_ = -1
        while rows := self._rows(_SCAN, number, id_, number):
            for *stored, number in rows:  # noqa: B007 - where the next page begins
                yield Stored(*stored)
            id_ = rows[-1][0]

    def totals(self) -> Totals:
        """See `EntryStore.totals`."""
        rows = self._rows("SELECT agent, hits, misses, saved FROM agents")
        counts = {agent: AgentCounts(hits, misses, Decimal(saved) / PICO) for agent, hits, misses, saved in rows}
        (numbers,) = self._rows(f"SELECT {', '.join(Totals._fields[:-1])} FROM totals")
        return Totals._make((*numbers, self._notes.added_to(counts)))

    def generation(self) -> int:
        """See `EntryStore.generation`."""
        ((generation,),) = self._rows("SELECT generation FROM totals")
        return int(generation)

    def audit(self, *, repair: bool = False) -> bool:
        """See `EntryStore.audit`."""

        def count(writer: sqlite3.Connection) -> bool:
            (used, entries), (held, quarantined) = (writer.execute(query).fetchone() for query in _MEASURE)
            counted = (used + held, entries, quarantined)
            kept = writer.execute("SELECT bytes, entries, quarantined FROM totals").fetchone()
            if repair:
                writer.execute("UPDATE totals SET bytes = ?, entries = ?, quarantined = ?", counted)
            return bool(counted == kept)

        return self._transact(count)

    def clear(self) -> int:
        """See `EntryStore.clear`. The file shrinks, unless others are reading."""

        def empty(writer: sqlite3.Connection) -> tuple[int, sqlite3.Connection]:
            self._write_notes(writer)
            removed = sum(writer.execute(f"DELETE FROM {name}").rowcount for name in ("entries", "quarantine"))
            writer.execute("UPDATE totals SET generation = generation + 1")
            return removed, writer

        removed, writer = self._transact(empty)
        with suppress(sqlite3.Error), self._writing:  # others may be reading; then it shrinks another time
            writer.execute("VACUUM")
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return removed

    def close(self) -> None:
        """See `EntryStore.close`."""
        if self._notes:
            with suppress(StoreError):
                self._transact(self._write_notes, wait_s=1.0)
        super().close()

    def after_fork(self) -> None:
        """See `EntryStore.after_fork`."""
        super().after_fork()
        SqliteEntries.__init__(self, self.path)

    def _write_notes(self, writer: sqlite3.Connection) -> None:
        """Within a transaction."""
        noted = self._notes.take()
        writer.executemany(_USE, [(hits, key) for key, hits in noted.uses.items()])
        counts = noted.agents.items()
        writer.executemany(_COUNT, [(agent, one.hits, one.misses, int(one.saved * PICO)) for agent, one in counts])


def _make_room(writer: sqlite3.Connection, max_bytes: int) -> None:
    """Remove what is in quarantine, then the least recently used, until all fits."""
    evicted = 0
    while writer.execute("SELECT bytes FROM totals").fetchone()[0] > max_bytes and _evict(writer):
        evicted += 1
    if evicted:
        writer.execute("UPDATE totals SET evictions = evictions + ?", (evicted,))


def _evict(writer: sqlite3.Connection) -> bool:
    """Remove what is the next to go; whether there was anything."""
    if writer.execute(_EVICT_FORGED).rowcount:
        return True
    writer.execute(_ADVANCE)
    return writer.execute(_EVICT).rowcount > 0
