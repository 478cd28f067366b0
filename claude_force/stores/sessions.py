"""The sessions that an `AgentMemory` keeps: tasks, how they ended, and their words, in one SQLite file.

A session is believed only where our own signature is on it (`seals`): what is recalled goes into prompts, and a
repository that somebody cloned may bring a file along. Its words are in a full-text index (FTS5), in the form of
`base.words`, so that a camelCase name or another ending is found, too.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from claude_force.stores.database import Database, Design

Sealing = Callable[[int], bytes]
"""Gives the seal of a session once it has its id."""


class SessionRow(NamedTuple):
    """One session as it lies in the file."""

    id: int
    agent_name: str
    task: str
    task_hash: str
    result: str
    success: int
    timestamp: str
    """ISO 8601, UTC."""
    metadata: str
    """JSON."""
    seal: bytes


class Candidate(NamedTuple):
    """A session that has some of the words that are looked for."""

    id: int
    task_words: str
    result_words: str


class Filter(NamedTuple):
    """Which sessions count; `None` is all."""

    agent_name: str | None = None
    success: bool | None = None
    since: str | None = None
    """ISO 8601, UTC."""


def _m001_sessions(connection: sqlite3.Connection) -> None:
    for statement in (
        """CREATE TABLE sessions (id INTEGER PRIMARY KEY, agent_name TEXT NOT NULL, task TEXT NOT NULL,
            task_hash TEXT NOT NULL, result TEXT NOT NULL, success INTEGER NOT NULL, timestamp TEXT NOT NULL,
            metadata TEXT NOT NULL)""",
        "CREATE INDEX sessions_by_agent ON sessions (agent_name)",
        "CREATE INDEX sessions_by_task ON sessions (task_hash)",
        "CREATE INDEX sessions_by_time ON sessions (timestamp)",
        "CREATE INDEX sessions_by_success ON sessions (success)",
        "CREATE TABLE seals (session INTEGER PRIMARY KEY, seal BLOB NOT NULL)",
        "CREATE VIRTUAL TABLE words USING fts5 (task, result, tokenize = 'unicode61 remove_diacritics 0')",
        # FTS5 can count, too, but reads all places of a word for it: 30 ms for a task's words in 100,000 sessions.
        "CREATE TABLE word_counts (word TEXT PRIMARY KEY, sessions INTEGER NOT NULL) WITHOUT ROWID",
    ):
        connection.execute(" ".join(statement.split()))


_DESIGN = Design("memory", "move it away", (_m001_sessions,))
_COLUMNS = (
    "s.id, s.agent_name, s.task, s.task_hash, s.result, s.success, s.timestamp, s.metadata, coalesce(l.seal, x'')"
)
_SESSIONS = f"SELECT {_COLUMNS} FROM sessions s LEFT JOIN seals l ON l.session = s.id"  # noqa: S608 - our own names
_CANDIDATES = "SELECT s.id, words.task, words.result FROM words JOIN sessions s ON s.id = words.rowid"
_INSERT = (
    "INSERT INTO sessions (agent_name, task, task_hash, result, success, timestamp, metadata)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_COUNT = (
    "INSERT INTO word_counts VALUES (?, ?) ON CONFLICT (word) DO UPDATE SET sessions = sessions + excluded.sessions"
)
MOST_CANDIDATES = 50


class SessionFile(Database):
    """The sessions of one project. Safe for threads and processes; raises `StoreError`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _DESIGN)

    def version(self) -> int:
        """Another number whenever another connection has written."""
        return int(self._rows("PRAGMA data_version")[0][0])

    def add(self, row: SessionRow, task_words: str, result_words: str, seal: Sealing) -> int:
        """Keep one, whose `id` and `seal` are made here; gives the id."""

        def add(writer: sqlite3.Connection) -> int:
            id_ = int(writer.execute(_INSERT, row[1:-1]).lastrowid or 0)
            writer.execute("INSERT INTO seals VALUES (?, ?)", (id_, seal(id_)))
            writer.execute("INSERT INTO words (rowid, task, result) VALUES (?, ?, ?)", (id_, task_words, result_words))
            _count(writer, task_words, result_words, 1)
            return id_

        return self._transact(add)

    def remove(self, ids: Sequence[int]) -> int:
        """Forget these; how many there were."""

        def remove(writer: sqlite3.Connection) -> int:
            removed = 0
            for id_ in ids:
                for task, result in writer.execute("SELECT task, result FROM words WHERE rowid = ?", (id_,)).fetchall():
                    _count(writer, task, result, -1)
                removed += writer.execute("DELETE FROM sessions WHERE id = ?", (id_,)).rowcount
                writer.execute("DELETE FROM seals WHERE session = ?", (id_,))
                writer.execute("DELETE FROM words WHERE rowid = ?", (id_,))
            return removed

        return self._transact(remove)

    def total(self) -> int:
        """How many sessions there were, of which most are still there: counting them reads the whole table."""
        return int(self._rows("SELECT coalesce(max(id), 0) FROM sessions")[0][0])

    def counts(self, words: Sequence[str]) -> dict[str, int]:
        """In how many sessions each word is; those that are in none are left out."""
        marks = ", ".join("?" * len(words))
        return dict(self._rows(f"SELECT word, sessions FROM word_counts WHERE word IN ({marks})", *words))  # noqa: S608 - marks only

    def candidates(self, words: Sequence[str], wanted: Filter) -> list[Candidate]:
        """Those with one of the words, the best by BM25 first; a word of a task counts more than one of a result."""
        match = " OR ".join(f'"{word}"' for word in words)  # words have no quotes
        where, values = _where(wanted)
        query = f"{_CANDIDATES} WHERE words MATCH ?{where} ORDER BY bm25(words, 4.0, 1.0), s.id DESC LIMIT ?"
        return [Candidate(*row) for row in self._rows(query, match, *values, MOST_CANDIDATES)]

    def find(self, id_: int) -> SessionRow | None:
        """One session."""
        return next((SessionRow(*row) for row in self._rows(f"{_SESSIONS} WHERE s.id = ?", id_)), None)

    def each(self, wanted: Filter) -> Iterator[SessionRow]:
        """All of them, oldest first, so many at a time: others may write meanwhile."""
        where, values = _where(wanted)
        last = 0
        while rows := self._rows(f"{_SESSIONS} WHERE s.id > ?{where} ORDER BY s.id LIMIT 500", last, *values):
            yield from (SessionRow(*row) for row in rows)
            last = rows[-1][0]

    def by_agent(self) -> list[tuple[str, int, int]]:
        """Each agent's sessions, and how many of them were a success."""
        rows = self._rows(
            "SELECT agent_name, count(*), sum(success) FROM sessions GROUP BY agent_name ORDER BY agent_name"
        )
        return [(str(agent), int(number), int(successes)) for agent, number, successes in rows]


def _count(writer: sqlite3.Connection, task_words: str, result_words: str, change: int) -> None:
    rows = [(word, change) for word in {*task_words.split(), *result_words.split()}]
    writer.executemany(_COUNT, rows)
    if change < 0:
        writer.executemany("DELETE FROM word_counts WHERE word = ? AND sessions <= 0", [row[:1] for row in rows])


def _where(wanted: Filter) -> tuple[str, list[object]]:
    conditions = {
        "s.agent_name = ?": wanted.agent_name,
        "s.success = ?": wanted.success,
        "s.timestamp >= ?": wanted.since,
    }
    chosen = {condition: value for condition, value in conditions.items() if value is not None}
    return "".join(f" AND {condition}" for condition in chosen), list(chosen.values())
