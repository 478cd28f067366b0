"""Who is alive: a lock that the system, or the server, drops when its holder is gone.

In a file, one process is the worker, and whoever gets its lock knows that all who worked there before are dead. In
Postgres, each worker has a lock of its own, by a connection of its own: a lost machine is noticed by TCP, within the
half minute that the connection asks the server to wait, and not the two hours of the system's default.
"""

import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from claude_force.base.errors import EngineError
from claude_force.stores.claims import Claims

if TYPE_CHECKING:
    import psycopg


class Alive(Protocol):
    """The lock of one worker, and a look at those of others."""

    def hold(self) -> None:
        """Be alive, in the eyes of others; to be called again and again. Raises `EngineError` where that cannot be."""

    def bury(self, other: str, work: Callable[[], object]) -> None:
        """Do this if that worker is dead; it cannot come back meanwhile. To be called again and again, too."""

    def release(self) -> None:
        """Be alive no more."""


class OneWorker:
    """The only worker of a file."""

    def __init__(self, path: Path) -> None:
        self._path, self._claims = path, Claims(path)
        self._release: Callable[[], object] | None = None

    def hold(self) -> None:
        """See `Alive.hold`."""
        if self._release is None:
            try:
                self._release = self._claims.take(_NAME)
            except OSError as error:
                raise EngineError(f"{str(self._path)!r} cannot be locked: {error}") from error
        if self._release is None:
            raise EngineError(
                f"another process works for {str(self._path.with_suffix(''))!r}, and a file can have one worker only:"
                " its limits would not hold; use that one, or Postgres as engine.url"
            )

    def bury(self, other: str, work: Callable[[], object]) -> None:  # noqa: ARG002 - of the protocol
        """See `Alive.bury`: whoever it is, it has not got the lock."""
        work()

    def release(self) -> None:
        """See `Alive.release`."""
        if self._release is not None:
            self._release()
            self._release = None


_NAME = hashlib.sha256(b"the worker").hexdigest()


class ManyWorkers:
    """One of many workers of a Postgres. Safe for threads."""

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name
        self._guard = threading.Lock()  # one statement at a time
        self._connection: psycopg.Connection | None = None
        self._suspects: set[str] = set()
        """Those that seemed dead at the last look."""

    def hold(self) -> None:
        """See `Alive.hold`. A connection that was lost is made anew, and the lock taken again."""
        import psycopg  # noqa: PLC0415 - an extra

        with self._guard:
            if self._connection is not None:
                try:
                    self._connection.execute("SELECT 1")
                except psycopg.Error:
                    self._connection.close()
                    self._connection, self._suspects = None, set()  # the server may have dropped everybody's locks
                else:
                    return
            try:
                connection = psycopg.connect(self._url, autocommit=True)
                for setting in ("idle = 10", "interval = 5", "count = 3"):
                    connection.execute(f"SET tcp_keepalives_{setting}".encode())
                taken = connection.execute(_TAKE, (_number(self._name),)).fetchone()
            except psycopg.Error as error:
                raise EngineError(f"the engine's database does not answer: {error}") from error
            if taken != (True,):
                connection.close()
                raise EngineError(f"{self._name!r} is taken for dead at this moment; it is tried again")
            self._connection = connection

    def bury(self, other: str, work: Callable[[], object]) -> None:
        """See `Alive.bury`. Who seems dead once may have lost its connection, and is about to make one anew."""
        import psycopg  # noqa: PLC0415 - an extra

        number = _number(other)
        with self._guard:
            if self._connection is None:
                return
            try:
                if self._connection.execute(_TAKE, (number,)).fetchone() != (True,):
                    self._suspects.discard(other)
                    return
                try:
                    if other in self._suspects:
                        work()
                finally:
                    self._connection.execute("SELECT pg_advisory_unlock(%s)", (number,))
            except psycopg.Error:  # noticed by the next `hold`
                return
            self._suspects.add(other)

    def release(self) -> None:
        """See `Alive.release`."""
        import psycopg  # noqa: PLC0415 - an extra

        with self._guard:
            if self._connection is not None:
                with suppress(psycopg.Error):  # at once, and not when the server notices
                    self._connection.execute("SELECT pg_advisory_unlock(%s)", (_number(self._name),))
                self._connection.close()
                self._connection = None


_TAKE = "SELECT pg_try_advisory_lock(%s)"


def _number(name: str) -> int:
    """What Postgres calls a lock."""
    return int.from_bytes(hashlib.sha256(f"claude-force worker {name}".encode()).digest()[:8], signed=True)
