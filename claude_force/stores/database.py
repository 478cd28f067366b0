"""What all our SQLite files have in common: `Database`, one file that many threads and processes share.

- One connection reads and one writes, each behind a lock: a read never waits for a writer, in this process or another
  (write-ahead log).
- The file gets its name when it is complete. A file whose tables are not exactly ours is not used: a repository that
  somebody cloned may bring one along.
- A file of an older version is brought to ours by the migrations that it lacks, in one transaction.

The log reaches the disk at checkpoints only (`synchronous=NORMAL`): a power cut may cost the last writes, never the
file; a design may ask for more. A killed process costs nothing that was written.

What lies in a file is said by who extends `Database`: `stores.sqlite`, `stores.runs`.
"""

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from claude_force.stores.entries import StoreBusyError, StoreError
from claude_force.stores.files import hidden_beside, make_private_folder

WRITE_WAIT_S = 5.0
"""How long a write waits for those of other processes; each takes well below a millisecond."""
_POLL_S = 0.0003  # about as long as a write takes
_FAULTS = (sqlite3.Error, OSError, MemoryError, OverflowError, UnicodeError)

Outcome = TypeVar("Outcome")
Migration = Callable[[sqlite3.Connection], object]


class Design(NamedTuple):
    """What makes a file one of ours."""

    what: str
    """What people call it: "cache"."""
    way_out: str
    """What to do about a file that is in the way: "move it away"."""
    migrations: tuple[Migration, ...]
    """The first makes version 1 in an empty file, each of the others the next version of the one before.

    None is ever changed once it was released: files that it made lie on disks.
    """
    survives_power_cut: bool = False
    """Whether each write is on the disk when it returns, which costs some milliseconds."""


class Database:
    """One file. Making the object touches no disk; the file is made or opened by the first call."""

    def __init__(self, path: Path, design: Design) -> None:
        self.path = path
        self._design = design
        self._opening = threading.Lock()
        self._reading = threading.Lock()  # each: one statement, or one transaction, at a time on its connection
        self._writing = threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._number: int | None = None  # of the file that `changes` has seen
        _ALIVE.add(self)

    def close(self) -> None:
        """Let go of the file; a later call opens it anew."""
        with self._reading, self._writing, self._opening:
            connections, self._reader, self._writer = (self._writer, self._reader), None, None
            for connection in connections:
                if connection is not None:
                    with suppress(sqlite3.Error):
                        connection.close()

    def changes(self) -> tuple[int, int] | None:
        """What is another one after each change by anybody, at the price of a look; `None` where there is no file.

        A file that was put in the place of another is opened here.
        """
        try:
            number = os.lstat(self.path).st_ino
        except OSError:
            self.close()
            return None
        if number != self._number:
            self.close()
            self._number = number
        ((version,),) = self._rows("PRAGMA data_version")
        return number, version

    def after_fork(self) -> None:
        """In a child process: forget connections, which are the parent's, and locks, which nobody here will release."""
        _INHERITED.extend(connection for connection in (self._reader, self._writer) if connection is not None)
        Database.__init__(self, self.path, self._design)

    # ------------------------------------------------------------ for those who extend it

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            with self._reading:
                reader = self._reader or self._opened()[0]
                return reader.execute(query, values).fetchall()
        except _FAULTS as error:
            raise _explained(error, self.path) from error

    def _transact(self, work: Callable[[sqlite3.Connection], Outcome], *, wait_s: float = WRITE_WAIT_S) -> Outcome:
        """What the work gives, done as a whole or not at all; raises `StoreError`."""
        with self._own_writer(wait_s) as writer:
            _execute(writer, "BEGIN IMMEDIATE", wait_s=wait_s)
            try:
                outcome = work(writer)
                writer.execute("COMMIT")
                return outcome
            finally:
                if writer.in_transaction:
                    writer.execute("ROLLBACK")

    def _change(self, statement: str, *values: object) -> int:
        """One statement, which is a transaction of its own; how many rows it changed. Raises `StoreError`."""
        with self._own_writer(WRITE_WAIT_S) as writer:
            return _execute(writer, statement, values, wait_s=WRITE_WAIT_S).rowcount

    @contextmanager
    def _own_writer(self, wait_s: float) -> Iterator[sqlite3.Connection]:
        """The connection that writes, for this thread alone. Raises `StoreError`, for what happens inside as well."""
        try:
            if not self._writing.acquire(timeout=wait_s):
                raise StoreBusyError(f"{str(self.path)!r}: another thread is writing")
            try:
                yield self._writer or self._opened()[1]  # not before it is ours: another thread may close it
            finally:
                self._writing.release()
        except _FAULTS as error:
            raise _explained(error, self.path) from error

    def _opened(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        with self._opening:
            if self._reader is None or self._writer is None:
                _refuse_links(self.path, self._design)
                if not self.path.exists():
                    _make(self.path, self._design)
                self._writer, self._reader = _connect(self.path, self._design), _connect(self.path, self._design)
                self._writer.execute("PRAGMA busy_timeout = 0")  # `_execute` waits
            return self._reader, self._writer


_ALIVE: "weakref.WeakSet[Database]" = weakref.WeakSet()


def _after_fork() -> None:
    """A child has its own connections and locks."""
    for database in tuple(_ALIVE):
        database.after_fork()


os.register_at_fork(after_in_child=_after_fork)

# Closing one of them in a child process would drop the parent's locks, so they are kept until the child ends.
_INHERITED: list[sqlite3.Connection] = []


def _execute(
    writer: sqlite3.Connection, statement: str, values: Sequence[object] = (), *, wait_s: float
) -> sqlite3.Cursor:
    """Start to write, as soon as no other process does.

    SQLite's own way to wait sleeps up to 100 ms at a time; with eight writers this one gets a third more done. A
    statement that found the file busy has changed nothing, so it can be tried again.
    """
    give_up_at: float | None = None
    while True:
        try:
            return writer.execute(statement, values)
        except sqlite3.OperationalError as error:
            now = time.monotonic()
            give_up_at = give_up_at or now + wait_s
            if not _is_busy(error) or now >= give_up_at:
                raise
        time.sleep(_POLL_S)


def _is_busy(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says why it is busy
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class _Connection(sqlite3.Connection):
    """Closes when nobody holds it any more: from Python 3.13 on, one that is merely forgotten warns."""

    def __del__(self) -> None:
        with suppress(sqlite3.Error):
            self.close()


def _connect(path: Path, design: Design) -> sqlite3.Connection:
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
        connection.execute("BEGIN")  # one look: another process may bring the file to a newer version meanwhile
        version = _version(connection, path, design)
        connection.execute("COMMIT")
        if version < len(design.migrations):
            _migrate(connection, path, design)
        connection.execute(f"PRAGMA synchronous = {'FULL' if design.survives_power_cut else 'NORMAL'}")
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection, path: Path, design: Design) -> int:
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    if version > len(design.migrations):
        raise StoreError(f"{str(path)!r} was written by a newer claude-force; upgrade, or {design.way_out}")
    if version < 1 or _schema(connection) != _expected(design.migrations[:version]):
        raise StoreError(f"{str(path)!r} is no {design.what} of claude-force; {design.way_out}")
    return int(version)


def _schema(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    return sorted(sql for (sql,) in rows)  # VACUUM reorders them


@cache
def _expected(migrations: tuple[Migration, ...]) -> list[str]:
    """What these make: every statement, word for word as it stands in a file."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for migration in migrations:
            migration(connection)
        return _schema(connection)


def _migrate(connection: sqlite3.Connection, path: Path, design: Design) -> None:
    """All or nothing; another process may have done it meanwhile."""
    _execute(connection, "BEGIN IMMEDIATE", wait_s=WRITE_WAIT_S)
    for migration in design.migrations[_version(connection, path, design) :]:
        migration(connection)
    connection.execute(f"PRAGMA user_version = {len(design.migrations)}")
    connection.execute("COMMIT")


def _make(path: Path, design: Design) -> None:
    """A new file, private, complete before it gets its name; what another process has made meanwhile is left."""
    make_private_folder(path.parent)
    temporary = hidden_beside(path)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        connection = sqlite3.connect(temporary, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute("BEGIN")
            for migration in design.migrations:
                migration(connection)
            connection.execute(f"PRAGMA user_version = {len(design.migrations)}")
            connection.execute("COMMIT")
        finally:
            connection.close()
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_links(path: Path, design: Design) -> None:
    """A cloned repository must not have us write to another file of the user's, by way of a link."""
    for name in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
        if name.is_symlink():
            raise StoreError(f"{str(name)!r} is a link; {design.way_out}")


def _explained(error: BaseException, path: Path) -> StoreError:
    if isinstance(error, StoreError):
        return error
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return (StoreBusyError if _is_busy(error) else StoreError)(f"{str(path)!r}: {reason}")
