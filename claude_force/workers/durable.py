"""The durable engine: work and outcomes lie in a database, by way of DBOS, and outlive whoever hands over or works.

`Queue` hands over, and takes back; it is a client of the database and runs nothing. `Shift` is the time that a process
works: it takes work from the queue, as much at once as it may, does it, and sees to what dead ones have left. One piece
of work is one DBOS workflow without steps: its end is its outcome, in one transaction. What DBOS would do by default
and does not do here:

- It recovers only what its own process left, under a name that all processes share: each has a name of its own here,
  and whoever has no lock any more (`alive`) is dead, and what it had is queued again.
- It would run whatever is in the database as pickles: here a pickle is refused, wherever it says it is one.
- It takes other versions of a program for strangers: what is handed over has a version of its own, `_WIRE`.

What of it is not public is marked where it is used; the dependency is pinned below the next major version.
"""

import asyncio
import base64
import importlib
import logging
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl, urlunsplit

from claude_force.base.errors import ConfigError, EngineError
from claude_force.base.servers import parse_url, shown_url
from claude_force.stores.files import make_private_folder
from claude_force.workers.alive import Alive, ManyWorkers, OneWorker
from claude_force.workers.engine import Standing, State, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from dbos import DBOS, DBOSClient

_APP, _WORKFLOW = "claude-force", "turn"
_WIRE = "claude-force-1"
"""The version of `workers.work`: what is handed over by another one waits for a worker of that one."""
LIVES = 5
"""How many workers may die of a piece of work before nobody takes it any more."""
_POLL_S = 0.05
_TICK_S = 1.0
"""How often a worker says that it is alive, and looks whether others are."""
_SLOW_S = 3.0
"""After so long without an answer to that, others may not know it any more."""
_THREADS = 32
"""Those of DBOS; each serves short calls of the database only."""
_PATIENCE = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}
"""Of each connection to Postgres, unless its address says otherwise: that a link is cut is noticed here when the server
notices it, and not after the quarter of an hour for which the system sends again, ever more rarely."""

Do = Callable[[str, bytes], Awaitable[bytes]]


class Address:
    """Where the engine is: a file of this machine, or a Postgres."""

    def __init__(self, url: str, *, folder: Path) -> None:
        """A path that does not begin with `/` starts from this folder. Raises `ConfigError`."""
        parts = parse_url(url, named="engine.url", schemes=("sqlite", "postgresql", "postgres"))
        self.file: Path | None = None
        self.shown, self.url = shown_url(url), url
        if parts.scheme == "sqlite":
            path = parts.path.removeprefix("/")
            if not path or parts.netloc or parts.query:
                raise ConfigError(f"engine.url is {self.shown!r}; give a file, such as sqlite:///.claude/engine.db")
            self.file = folder / path
            self.url = f"sqlite:///{self.file}"
        else:
            given = dict(parse_qsl(parts.query, keep_blank_values=True))
            ours = [f"{name}={value}" for name, value in _PATIENCE.items() if name not in given]
            self.url = urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, *ours)))))

    def alive(self, name: str) -> Alive:
        """What says that a worker of this name is."""
        return ManyWorkers(self.url, name) if self.file is None else OneWorker(_lock_of(self.file))

    def make(self, dbos: "ModuleType") -> None:
        """The tables, and their file, if it is one: private, and for a reader beside a writer. Raises `EngineError`."""
        try:
            with _translated():
                if self.file is not None:
                    _make_file(self.file)
                dbos.DBOS.migrate(self.url)
        except UnreachableError as error:
            raise EngineError(
                f"the engine {self.shown!r} does not answer: {error}; check engine.url, and that it runs"
            ) from error


def _make_file(file: Path) -> None:
    make_private_folder(file.parent)
    os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


class _Connection(sqlite3.Connection):
    """One that knows what time it is as SQLite does since 3.42: DBOS takes that for granted from Python 3.12 on."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - as sqlite3 has them
        super().__init__(*arguments, **options)
        _teach_subsec(self)


def _teach_subsec(connection: sqlite3.Connection, _: object = None) -> None:
    """Have `unixepoch('subsec')` be the time with milliseconds, where it would be `NULL`."""
    if sqlite3.sqlite_version_info < (3, 42):
        connection.create_function("unixepoch", 1, lambda _: round(time.time(), 3))


def _lock_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.lock")


def queue_of(server: str) -> str:
    """The queue of what one server answers: a worker that asks another one has no look at it."""
    return f"turns of {server or 'Claude'}"


# ------------------------------------------------------------ handing over


class Queue:
    """Hands over to whoever works for this address. Implements `workers.engine.Engine`."""

    def __init__(self, address: Address, queue: str, *, shift: "Shift | None" = None) -> None:
        """`shift` is who works in this process, while nobody else works for its file."""
        self._address, self._queue, self._shift = address, queue, shift
        self._client: DBOSClient | None = None
        self._open = ExitStack()
        self._beginning = threading.Lock()  # of a shift: by one thread

    def open(self) -> None:
        """See `Engine.open`."""
        dbos = _dbos()
        _check_alone(dbos, works=False)
        self._address.make(dbos)
        self._open.enter_context(_no_pickles)
        self._client = dbos.DBOSClient(
            system_database_url=self._address.url,
            serializer=dbos.DBOSPortableJSONSerializer(),
            application_name=_APP,
            retry_connection_errors=False,
            lazy=True,  # it was there a moment ago
        )
        if self._address.file is not None:
            from sqlalchemy import event  # noqa: PLC0415 - comes with the extra

            event.listen(self._client._sys_db.engine, "connect", _teach_subsec)  # noqa: SLF001 - a client takes no options
        try:
            self._work()
        except EngineError:
            self.close(drains=False)
            raise

    def submit(self, id_: str, work: bytes) -> None:
        """See `Engine.submit`."""
        options = {
            "workflow_name": _WORKFLOW,
            "queue_name": self._queue,
            "workflow_id": id_,
            "app_version": _WIRE,
        }
        with _translated():
            self._opened.enqueue(options, base64.b64encode(work).decode())  # type: ignore[arg-type] # a TypedDict

    def look(self, ids: Iterable[str]) -> Mapping[str, Standing]:
        """See `Engine.look`."""
        self._work()
        with _translated():
            found = self._opened.list_workflows(workflow_ids=list(ids), load_input=False)
        return {status.workflow_id: _standing(status.status, status.output) for status in found}

    def cancel(self, id_: str) -> bool:
        """See `Engine.cancel`. DBOS would cancel what runs as well, and so lose the answer. Not public in it."""
        system = self._opened._sys_db  # noqa: SLF001 - as said above
        table = system.tables.workflow_status
        waits = table.update().where(table.c.workflow_uuid == id_, table.c.status == "ENQUEUED")
        with _translated(), system.engine.begin() as connection:
            return bool(connection.execute(waits.values(status="CANCELLED", queue_name=None)).rowcount)

    def forget(self, prefix: str) -> None:
        """See `Engine.forget`."""
        with _translated():
            found = self._opened.list_workflows(workflow_id_prefix=prefix, load_input=False, load_output=False)
            self._opened.delete_workflows([status.workflow_id for status in found])

    def close(self, *, drains: bool) -> None:
        """See `Engine.close`."""
        if self._shift is not None:
            self._shift.stop(drains=drains)
        if self._client is not None:
            self._client.destroy()
            self._client = None
            self._open.close()

    def _work(self) -> None:
        """Begin to work in this process, if nobody works for its file."""
        if self._shift is not None:
            with self._beginning:
                self._shift.try_start()

    @property
    def _opened(self) -> "DBOSClient":
        if self._client is None:
            raise RuntimeError("the queue was not opened")
        return self._client


def _standing(status: str, output: object) -> Standing:
    state = _STATES.get(status, "lost")
    return Standing(state, _bytes(output) if state == "done" else None)


_STATES: Mapping[str, State] = {
    "ENQUEUED": "waiting",
    "DELAYED": "waiting",
    "PENDING": "running",
    "SUCCESS": "done",
    "CANCELLED": "cancelled",
}


# ------------------------------------------------------------ working


class Shift:
    """The time that this process works: from `work`, or `try_start`, until it is told to stop."""

    def __init__(
        self,
        address: Address,
        do: Do,
        *,
        queue: str,
        concurrency: int,
        max_concurrent: int | None = None,
        drain_s: float = 600.0,
    ) -> None:
        """As much as `concurrency` at once, and `max_concurrent` by all workers; `drain_s` to bring it to its end."""
        self._address, self._do, self._queue, self._drain_s = address, do, queue, drain_s
        self._most = concurrency if max_concurrent is None else min(concurrency, max_concurrent)
        self._limits = {
            "worker_concurrency": self._most,
            "global_concurrency": max_concurrent,
            "polling_interval_sec": _POLL_S,
        }
        self._name = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(6).hex()}"
        self._alive = address.alive(self._name)
        self._thread: threading.Thread | None = None
        self._stop: Callable[[bool], object] | None = None

    async def work(self, until: asyncio.Event, *, on_begin: "Callable[[], object] | None" = None) -> None:
        """Work until the event, then bring what was begun to its end; a cancellation ends it at once.

        Raises `EngineError` where it cannot work, `ConfigError` where the extra is missing.
        """
        dbos = _dbos()
        await asyncio.to_thread(self._alive.hold)
        instance: DBOS | None = None
        try:
            _check_alone(dbos, works=True)
            with _no_pickles:
                try:
                    instance = await self._launched(dbos)
                    if on_begin is not None:
                        on_begin()
                    await self._watch(dbos, until)
                    await self._drain(instance)
                finally:
                    if instance is not None:  # else what was done would be noted for as long as it takes
                        instance._sys_db._retry_connection_errors = False  # noqa: SLF001 - as said above
                    # Connections of this loop are closed after this, by threads that DBOS has taken for its own.
                    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
                    await asyncio.to_thread(dbos.DBOS.destroy, destroy_registry=True)
        finally:
            self._alive.release()

    async def _launched(self, dbos: "ModuleType") -> "DBOS":
        """DBOS, which takes work from now on, and does it in this very event loop."""
        self._address.make(dbos)
        options = {} if self._address.file is None else {"connect_args": {"factory": _Connection}}
        instance: DBOS = dbos.DBOS(
            config={
                "name": _APP,
                "system_database_url": self._address.url,
                "executor_id": self._name,
                "application_version": _WIRE,
                "serializer": dbos.DBOSPortableJSONSerializer(),
                "max_executor_threads": _THREADS,
                "db_engine_kwargs": options,
                "log_level": "ERROR",
            }
        )

        @dbos.DBOS.workflow(name=_WORKFLOW, max_recovery_attempts=LIVES - 1)  # type: ignore[untyped-decorator] # of a module that is imported lazily
        async def turn(work: str) -> str:
            sealed = await self._do(dbos.DBOS.workflow_id, _bytes(work))
            return base64.b64encode(sealed).decode()

        # In this process only, and so with limits of its own: those of a queue in the database are everybody's, and the
        # last one who writes them wins. Not public in DBOS.
        self._taken = instance._registry._register_internal_queue(self._queue, **self._limits)  # noqa: SLF001 - as said above
        dbos.DBOS.launch()
        return instance

    async def _watch(self, dbos: "ModuleType", until: asyncio.Event) -> None:
        """See to what dead workers have left, again and again; take nothing while others may take this one for dead."""
        stopped = asyncio.ensure_future(until.wait())
        try:
            while not until.is_set():
                look = asyncio.ensure_future(asyncio.to_thread(self._see_to_others, dbos))
                for patience_s in (_SLOW_S, None):
                    await asyncio.wait({look, stopped}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                    if until.is_set():
                        return
                    self._take(self._most if look.done() and look.result() else 0)
                await asyncio.wait({stopped}, timeout=_TICK_S)
        finally:
            stopped.cancel()

    def _see_to_others(self, dbos: "ModuleType") -> bool:
        """Queue again what workers had that are dead; whether this one is alive for all others.

        While the database is away, nobody is taken for dead.
        """
        try:
            self._alive.hold()
            with _translated():
                found = dbos.DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
                others = {status.executor_id for status in found} - {None, self._name}
                for other in others:
                    # Not public in DBOS, and what is counts attempts from 0 again, so that work could kill for ever.
                    self._alive.bury(other, partial(dbos.DBOS._recover_pending_workflows, [other]))  # noqa: SLF001 - as said above
        except (EngineError, UnreachableError) as error:
            logging.getLogger("claude_force.workers").warning("the engine does not answer: %s", error)
            return False
        return True

    def _take(self, most: int) -> None:
        """As much as that at once, from now on."""
        self._taken._worker_concurrency = most  # noqa: SLF001 - as said above

    async def _drain(self, instance: "DBOS") -> None:
        """Take nothing more, and wait until what was taken is done."""
        self._take(0)
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + self._drain_s
        await asyncio.sleep(3 * _POLL_S)  # what is being taken at this moment
        while instance._active_workflows_set.activeList() and loop.time() < ends_s:  # noqa: ASYNC110, SLF001 - it tells nobody; as said above
            await asyncio.sleep(_POLL_S)

    # ------------------------------------------------------------ in a thread of its own

    def try_start(self) -> None:
        """Begin to work in a thread, unless it does, or somebody else works for the file; again, if it has failed.

        Raises `EngineError`, and `UnreachableError`.
        """
        if self._thread is not None and self._thread.is_alive():
            return
        try:
            self._alive.hold()
        except EngineError:
            return
        has_begun: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(has_begun,), name="claude-force worker", daemon=True)
        self._thread.start()
        with _translated():
            has_begun.result()

    def stop(self, *, drains: bool) -> None:
        """End what `try_start` has begun, and wait for that."""
        if self._thread is not None and self._stop is not None:
            self._stop(drains)
            self._thread.join()
            self._thread = None

    def _run(self, has_begun: "Future[None]") -> None:
        try:
            asyncio.run(self._worked(has_begun))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - told to who has started it
            if not has_begun.done():
                has_begun.set_exception(error)

    async def _worked(self, has_begun: "Future[None]") -> None:
        loop, until = asyncio.get_running_loop(), asyncio.Event()
        working = asyncio.create_task(self.work(until, on_begin=lambda: has_begun.set_result(None)))
        self._stop = lambda drains: loop.call_soon_threadsafe(until.set if drains else working.cancel)
        await working


def _bytes(text: object) -> bytes:
    """What was handed over, or came back; what is no text of ours is nothing that could be signed."""
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        return b""


# ------------------------------------------------------------ DBOS


def _dbos() -> "ModuleType":
    try:
        import dbos  # noqa: PLC0415 - an extra, of more than a second
    except ImportError as error:
        raise ConfigError(
            "the durable engine is not installed; `pip install 'claude-force[durable]'` does it"
        ) from error
    return dbos


def _check_alone(dbos: "ModuleType", *, works: bool) -> None:
    """Raise where somebody else uses DBOS: there is one in a process, and a second is passed over without a word."""
    inner = importlib.import_module(f"{dbos.__name__}._dbos")
    instance, registry = inner._dbos_global_instance, inner._dbos_global_registry  # noqa: SLF001 - as said above
    theirs = set(registry.workflow_info_map) - {_WORKFLOW} if registry else set()
    is_ours = instance is not None and not works and instance._config["name"] == _APP  # noqa: SLF001 - as said above
    if theirs or not (instance is None or is_ours):
        raise EngineError(
            "this process uses DBOS for something else, and it cannot be used twice in one; start runs, or"
            " `claude-force worker`, as a process of their own"
        )


class _NoPickles:
    """DBOS loads a pickle wherever a row says that it is one, whatever serializer is set: so none is loaded at all.

    As long as somebody holds this; it is of the whole process.
    """

    def __init__(self) -> None:
        self._guard, self._holders = threading.Lock(), 0  # the lock protects the number

    def __enter__(self) -> None:
        with self._guard:
            self._holders += 1
            _pickles().deserialize = _refuse

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._holders -= 1
            if not self._holders:
                del _pickles().deserialize


_no_pickles = _NoPickles()


def _pickles() -> Any:  # noqa: ANN401 - what it is, DBOS does not say
    return importlib.import_module("dbos._serialization").DBOSDefaultSerializer


def _refuse(_: object) -> NoReturn:
    raise EngineError("somebody has put a pickle into the engine's database; it was not loaded")


def _faults() -> tuple[type[Exception], ...]:
    """What DBOS raises where the database does not do what it should."""
    import psycopg  # noqa: PLC0415 - an extra
    import sqlalchemy.exc  # noqa: PLC0415 - an extra
    from dbos import error  # noqa: PLC0415 - an extra

    return OSError, sqlite3.Error, sqlalchemy.exc.SQLAlchemyError, psycopg.Error, error.DBOSException


@contextmanager
def _translated() -> "Iterator[None]":
    try:
        yield
    except _faults() as error:
        raise UnreachableError(_line(error)) from error


def _line(error: Exception) -> str:
    """The first line of an error: SQLAlchemy's go on with statements and their values."""
    return str(error).partition("\n")[0]
