"""The durable engine by itself: what is known is not done twice, what is dead is found, and nothing foreign is run."""

import asyncio
import base64
import logging
import os
import pickle
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import pytest

from claude_force import ConfigError, EngineError
from claude_force.orchestrator import Project
from claude_force.workers.alive import ManyWorkers, OneWorker
from claude_force.workers.durable import Address, Queue, Shift, queue_of
from claude_force.workers.engine import Standing

QUEUE = queue_of("")


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    """Where the engine is."""
    url = request.getfixturevalue("postgres") if request.param == "postgres" else "sqlite:///.claude/engine.db"
    return Address(url, folder=tmp_path)


@pytest.fixture
def queue(address: Address) -> Iterator[Queue]:
    """Who hands over, and does not work."""
    queue = Queue(address, QUEUE)
    queue.open()
    yield queue
    queue.close(drains=False)


@pytest.fixture
def at_work(address: Address) -> Iterator[Callable[[], Shift]]:
    """Somebody who works, and gives the work back in capitals."""
    shifts = []

    async def do(id_: str, work: bytes) -> bytes:
        await asyncio.sleep(0)
        return f"{id_} ".encode() + work.upper()

    def begin() -> Shift:
        shifts.append(Shift(address, do, queue=QUEUE, concurrency=4))
        shifts[-1].try_start()
        return shifts[-1]

    yield begin
    for shift in shifts:
        shift.stop(drains=True)


def ended(queue: Queue, *ids: str) -> list[Standing]:
    """How these ended, once they have."""
    while True:
        found = queue.look(ids)
        if len(found) == len(ids) and all(one.state not in {"waiting", "running"} for one in found.values()):
            return [found[id_] for id_ in ids]


def test_work_is_done_once(queue: Queue, at_work: Callable[[], Shift]) -> None:
    """An id that is known is not done again, whatever is handed over with it; what is not known is not there."""
    at_work()
    queue.submit("run/a/1", b"one")
    queue.submit("run/b/1", b"\x00\xff")
    assert ended(queue, "run/a/1", "run/b/1") == [
        Standing("done", b"run/a/1 ONE"),
        Standing("done", b"run/b/1 \x00\xff"),
    ]
    queue.submit("run/a/1", b"another")
    assert ended(queue, "run/a/1") == [Standing("done", b"run/a/1 ONE")]
    assert queue.look(["run/c/1"]) == {}
    queue.submit("run2/a/1", b"of another run")
    queue.forget("run/")
    assert queue.look(["run/a/1", "run/b/1"]) == {}
    assert ended(queue, "run2/a/1")[0].state == "done"


def test_a_worker_that_fails_begins_again(tmp_path: Path) -> None:
    """Who hands over through a file works for it as well; should that end, whatever the reason, nobody else would."""

    async def do(_: str, work: bytes) -> bytes:
        await asyncio.sleep(0)
        if work == b"fail":
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        return work

    address = Address("sqlite:///engine.db", folder=tmp_path)
    queue = Queue(address, QUEUE, shift=Shift(address, do, queue=QUEUE, concurrency=1))
    queue.open()
    queue.submit("run/a/1", b"fail")
    queue.look(["run/a/1"])
    for thread in threading.enumerate():
        if thread.name == "claude-force worker":
            thread.join()
    queue.submit("run/b/1", b"two")
    assert ended(queue, "run/b/1") == [Standing("done", b"two")]
    queue.close(drains=False)


def test_what_nobody_has_begun_can_be_taken_back(queue: Queue, at_work: Callable[[], Shift]) -> None:
    """And is not done by who comes later; what is done stays done."""
    queue.submit("run/a/1", b"one")
    assert queue.look(["run/a/1"]) == {"run/a/1": Standing("waiting")}
    assert queue.cancel("run/a/1")
    queue.submit("run/b/1", b"two")
    at_work()
    assert ended(queue, "run/a/1", "run/b/1") == [Standing("cancelled"), Standing("done", b"run/b/1 TWO")]
    assert not queue.cancel("run/b/1")


def test_no_pickle_is_loaded(queue: Queue, at_work: Callable[[], Shift], address: Address, tmp_path: Path) -> None:
    """Who can write to the database cannot run anything: neither where the work is done, nor where it is waited for."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "pwned",)

    evil = base64.b64encode(pickle.dumps({"args": (Evil(),), "kwargs": {}})).decode()
    queue.submit("run/a/1", b"one")
    write(address, "UPDATE {}workflow_status SET serialization = 'py_pickle'")
    write(address, "UPDATE {}workflow_input SET inputs = '%s'", evil)
    at_work()
    assert ended(queue, "run/a/1") == [Standing("lost")]
    queue.submit("run/b/1", b"two")
    assert ended(queue, "run/b/1")[0].state == "done"
    write(address, "UPDATE {}workflow_output SET output = '%s'", evil)
    write(address, "UPDATE {}workflow_status SET serialization = 'py_pickle'")
    assert ended(queue, "run/b/1")[0].state == "done"
    assert not (tmp_path / "pwned").exists()


def write(address: Address, statement: str, value: str = "") -> None:
    """As somebody who may write to the database does it."""
    import psycopg

    statement = statement.replace("%s", value)
    if address.file is None:
        with psycopg.connect(address.url) as connection:
            assert connection.execute(statement.format("dbos.").encode()).rowcount
    else:
        with closing(sqlite3.connect(address.file)) as file, file:
            assert file.execute(statement.format("")).rowcount


def test_a_file_has_one_worker(tmp_path: Path) -> None:
    """A second one is refused with the reason, in this process or another; when the first has gone, it may."""
    first, second = OneWorker(tmp_path / "engine.db.lock"), OneWorker(tmp_path / "engine.db.lock")
    first.hold()
    first.hold()
    with pytest.raises(EngineError, match="can have one worker only"):
        second.hold()
    code = f"""
from pathlib import Path
from claude_force.workers.alive import OneWorker
OneWorker(Path({str(tmp_path / "engine.db.lock")!r})).hold()
"""
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "can have one worker only" in other.stderr
    first.release()
    second.hold()
    second.release()


def test_only_the_dead_are_buried(postgres: str) -> None:
    """Who holds its lock is alive for all others, also after the server has ended its connection."""
    import psycopg

    one, two = ManyWorkers(postgres, "one"), ManyWorkers(postgres, "two")
    one.hold()
    two.hold()
    done: list[str] = []

    def see_to(*names: str) -> None:
        for name in names:
            one.bury(name, partial(done.append, name))

    see_to("two", "three")
    assert not done, "three may be about to come back"
    see_to("two", "three")
    assert done == ["three"]
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    see_to("two", "two")  # it cannot tell
    one.hold()
    see_to("two")
    two.hold()
    see_to("two", "two")
    assert done == ["three"]
    two.release()
    see_to("two", "two")
    assert done == ["three", "two"]
    one.release()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="of Linux only")
def test_a_link_that_is_cut_is_noticed(postgres: str, tmp_path: Path) -> None:
    """On each connection, by who hands over, who works, and who says that it is alive; an address may say otherwise."""

    def settings(url: str) -> dict[int, int]:
        alive = ManyWorkers(Address(url, folder=tmp_path).url, "one")
        alive.hold()
        assert alive._connection is not None
        with socket.socket(fileno=os.dup(alive._connection.fileno())) as link:
            names = (socket.TCP_USER_TIMEOUT, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            found = {name: link.getsockopt(socket.IPPROTO_TCP, name) for name in names}
        alive.release()
        return found

    assert list(settings(postgres).values()) == [25_000, 10, 5, 3]
    assert list(settings(f"{postgres}?options=-c%20work_mem%3D1MB&keepalives_idle=7").values()) == [25_000, 7, 5, 3]
    address = Address(postgres, folder=tmp_path)
    queue = Queue(address, QUEUE)
    queue.open()
    with queue._opened._sys_db.engine.connect() as connection:
        link = connection.connection.driver_connection
        assert link is not None
        assert link.info.get_parameters()["tcp_user_timeout"] == "25000"
    queue.close(drains=False)


def test_who_is_not_known_to_be_alive_takes_nothing(postgres: str, tmp_path: Path) -> None:
    """Else others would take what it takes for that of a dead one, and have it done and paid for again and again."""
    import psycopg

    said: SimpleQueue[str] = SimpleQueue()
    handler = logging.Handler()
    handler.emit = lambda record: said.put(record.getMessage())  # type: ignore[method-assign] # what it is for
    logging.getLogger("claude_force.workers").addHandler(handler)

    async def do(_: str, work: bytes) -> bytes:
        return work

    address = Address(postgres, folder=tmp_path)
    queue, shift = Queue(address, QUEUE), Shift(address, do, queue=QUEUE, concurrency=4)
    queue.open()
    shift.try_start()
    try:
        with psycopg.connect(postgres, autocommit=True) as other:
            of_locks = "FROM pg_locks WHERE locktype = 'advisory' AND pid = %s"
            assert isinstance(shift._alive, ManyWorkers)
            assert shift._alive._connection is not None
            pid = shift._alive._connection.info.backend_pid
            (lock,) = other.execute(f"SELECT classid::bigint << 32 | objid::bigint {of_locks}", [pid]).fetchone() or ()
            other.execute("SELECT pg_terminate_backend(%s), pg_advisory_lock(%s)", [pid, lock])
            for _ in range(2):
                assert "taken for dead" in said.get()
            queue.submit("run/a/1", b"one")
            for _ in range(3):
                said.get()
            assert queue.look(["run/a/1"]) == {"run/a/1": Standing("waiting")}
        assert ended(queue, "run/a/1") == [Standing("done", b"one")]
    finally:
        shift.stop(drains=True)
        queue.close(drains=False)
        logging.getLogger("claude_force.workers").removeHandler(handler)


@pytest.mark.usefixtures("_from_nursery")
def test_dbos_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """An application that uses DBOS itself is told so, before anything is sent."""
    code = f"""
from pathlib import Path
from dbos import DBOS
from claude_force import EngineError
from claude_force.workers.durable import Address, Queue
@DBOS.workflow()
def theirs() -> None: ...
try:
    Queue(Address("sqlite:///engine.db", folder=Path({str(tmp_path)!r})), "q").open()
except EngineError as error:
    print(error)
"""
    done = subprocess.run(["quick-python", "-c", code], capture_output=True, text=True, check=True)
    assert "uses DBOS for something else" in done.stdout
    assert not list(tmp_path.glob("engine.db*"))


def test_an_engine_that_is_not_there_is_said(tmp_path: Path) -> None:
    """By an address without a password, and what to do about it."""
    queue = Queue(Address("postgresql://me:word@127.0.0.1:9/x", folder=tmp_path), QUEUE)
    with pytest.raises(EngineError, match=r"'postgresql://127\.0\.0\.1:9/x' does not answer") as refused:
        queue.open()
    assert "word@" not in str(refused.value)
    with pytest.raises(ConfigError, match=r"sqlite:///\.claude/engine\.db"):
        Address("sqlite:///", folder=tmp_path)
    with pytest.raises(ConfigError, match="postgresql"):
        Address("mysql://127.0.0.1/x", folder=tmp_path)


def test_many_machines_need_one_secret(postgres: str, monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    """A Postgres is used with a secret that was given, and never with that of one machine."""
    monkeypatch.setenv("CLAUDE_ENGINE_URL", postgres)
    with pytest.raises(ConfigError, match="set CLAUDE_CACHE_SECRET"):
        Project(project_dir=project).hands("durable", size=1, is_batch=False)
