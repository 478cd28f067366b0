"""Documents that machines share, on a real Valkey and a real Postgres: all of a change or none, whoever races."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from claude_force.base.errors import ConfigError
from claude_force.stores.documents import AwayError, SharedDocuments, shared_documents
from claude_force.stores.entries import StoreError

SERVERS = ["valkey", "postgres"]


class Tally(msgspec.Struct, tag_field="format", tag="tally 1", forbid_unknown_fields=True):
    """Some document."""

    count: int = 0


def add(tallies: Sequence[Tally], _: float) -> list[int]:
    """One more in each."""
    for tally in tallies:
        tally.count += 1
    return [tally.count for tally in tallies]


def look(tallies: Sequence[Tally], _: float) -> list[int]:
    """As they are."""
    return [tally.count for tally in tallies]


@pytest.fixture
def documents(url: str) -> Iterator[SharedDocuments]:
    """Its documents."""
    opened = shared_documents(url)
    yield opened
    opened.close()


def test_one_change_in_all(documents: SharedDocuments, url: str) -> None:
    """Others see what was changed, and a look changes nothing; the time is the server's."""
    others = shared_documents(url)
    assert documents.change(["a", "b"], Tally, look) == [0, 0]
    assert documents.change(["b"], Tally, add) == [1]
    assert others.change(["a", "b"], Tally, add) == [1, 2]
    assert documents.change(["b", "a"], Tally, look) == [2, 1]
    times = [documents.change(["a"], Tally, lambda _, now_s: now_s) for _ in range(2)]
    assert times[0] < times[1] < time.time() + 60
    others.close()


RACER = """
import sys
import msgspec
from claude_force.stores.documents import shared_documents

class Tally(msgspec.Struct, tag_field="format", tag="tally 1", forbid_unknown_fields=True):
    count: int = 0

def add(tallies, _):
    for tally in tallies:
        tally.count += 1

documents = shared_documents(sys.argv[1])
documents.change(["warm"], Tally, add)
print("ready", flush=True)
sys.stdin.readline()
for number in range(50):
    documents.change([["a", "b"], ["b", "a"], ["a"]][number % 3], Tally, add)
"""


@pytest.mark.usefixtures("_from_nursery")
def test_no_change_is_lost(documents: SharedDocuments, url: str) -> None:
    """Four processes, and four threads of this one, that race for the same documents, in any order."""
    command = ["quick-python", "-c", RACER, url]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for racer in racers:
        assert racer.stdout
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("\n")
        racer.stdin.flush()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: documents.change(["b"], Tally, add), range(40)))
    for racer in racers:
        racer.communicate(timeout=120)
        assert racer.returncode == 0
    assert documents.change(["a", "b", "warm"], Tally, look) == [200, 4 * 34 + 40, 4]


JUNK = [
    "no JSON",
    "[1]",
    '{"format":' * 50_000,
    '{"format": "nothing"}',
    '{"count": 3}',
    '{"format": "tally 2", "count": 3}',
    '{"format": "tally 1", "more": 3}',
]


@pytest.mark.parametrize("junk", JUNK)
def test_what_nobody_knows_is_left_alone(
    documents: SharedDocuments, url: str, junk: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a newer version, or of somebody else: an error that names it, never a new beginning; one warning."""
    documents.change(["a"], Tally, add)
    assert put(url, "a", junk) == '{"format":"tally 1","count":1}'
    for _ in range(2):
        with pytest.raises(StoreError, match="'a' is nothing that this version of claude-force knows") as raised:
            documents.change(["b", "a"], Tally, add)
        documents.warn(raised.value)
    assert len(caplog.records) == 1
    assert put(url, "a", junk) == junk
    assert documents.change(["b"], Tally, look) == [0]


def put(url: str, name: str, body: str) -> str:
    """Put this text in the place of a document, past all of our code; gives what was there."""
    if url.startswith("redis"):
        import redis

        with redis.Redis.from_url(url, decode_responses=True) as client:
            was: Any = client.set(f"claude-force:{name}", body, get=True)
    else:
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            query = b"SELECT body FROM claude_force_documents WHERE name = %s"
            ((was,),) = connection.execute(query, [name]).fetchall()
            connection.execute(b"UPDATE claude_force_documents SET body = %s WHERE name = %s", [body, name])
    return str(was)


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_that_goes_and_comes_back(
    server: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """Said at once and once, not waited for by each call, and used again without a word."""
    running = request.getfixturevalue(f"{server}_server")
    documents = shared_documents(request.getfixturevalue(server))
    documents.change(["a"], Tally, add)
    running.stop(signal.SIGKILL if server == "valkey" else signal.SIGINT)
    begun = time.monotonic()
    try:
        for _ in range(50):
            with pytest.raises(AwayError, match=r"127\.0\.0\.1.*does not answer: ") as raised:
                documents.change(["a"], Tally, add)
            documents.warn(raised.value)
        assert time.monotonic() - begun < 30
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "keeps limits and circuit breakers by itself, what has a budget is not sent" in caplog.text
    finally:
        running.start()
    until = time.monotonic() + 120
    while True:
        try:
            counts = documents.change(["a"], Tally, add)
            break
        except AwayError:
            assert time.monotonic() < until
    assert counts == [2] if server == "postgres" else [1]  # this Valkey keeps nothing on the disk
    documents.close()


@pytest.mark.parametrize("server", SERVERS)
def test_a_connection_that_was_cut_while_nobody_asked(server: str, request: pytest.FixtureRequest) -> None:
    """By a restart, or by whatever is between: the next call notices nothing."""
    running = request.getfixturevalue(f"{server}_server")
    documents = shared_documents(request.getfixturevalue(server))
    documents.change(["a"], Tally, add)
    running.stop()
    running.start()
    documents.change(["a"], Tally, add)
    documents.close()


def test_a_server_that_says_nothing(postgres: str) -> None:
    """A process of the server that hangs holds up nobody for longer than a few seconds."""
    import psycopg

    documents = shared_documents(postgres)
    documents.change(["a"], Tally, add)
    with psycopg.connect(postgres) as connection:
        query = b"SELECT pid FROM pg_stat_activity WHERE application_name = 'claude-force'"
        ((pid,),) = connection.execute(query).fetchall()
    os.kill(pid, signal.SIGSTOP)
    try:
        assert documents.change(["a"], Tally, add) == [2]  # by another connection
    finally:
        os.kill(pid, signal.SIGCONT)
    documents.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:sesame@127.0.0.1:1/0",
        "postgresql://me:sesame@127.0.0.1:1/x",
        "postgresql://me:sesame@127.0.0.1:1/x?no_such=sesame",
        "postgresql://me:ses%61me@127.0.0.1:1/x",
    ],
)
def test_no_password_is_shown(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not in the error, not in what it came from, not in the log."""
    documents = shared_documents(url)
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1") as raised:
        documents.change(["a"], Tally, add)
    said = [str(raised.value), caplog.text]
    cause: BaseException | None = raised.value
    while cause := (cause.__cause__ if cause else None):
        said.append(str(cause))
    assert not [text for text in said if "sesame" in text or "ses%61me" in text]


def test_an_address_of_nothing() -> None:
    """Is refused before anything is asked."""
    with pytest.raises(ConfigError, match=r"shared.url is 'mysql://db/x'; give redis://... or rediss://... or"):
        shared_documents("mysql://me:sesame@db/x")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:sesame@127.0.0.1/prod", "shared.url is 'redis://127.0.0.1/prod'; give redis://HOST:PORT/NUMBER"),
        ("redis://:sesame@127.0.0.1/0?timeout=sesame", r"shared.url has the options \['timeout'\]"),
        ("rediss://:sesame@127.0.0.1/0?socket_timeout=9", r"shared.url has the options \['socket_timeout'\]"),
    ],
)
def test_an_address_that_a_client_would_pass_over(url: str, said: str) -> None:
    """A wrong database, and what the client takes for an argument of its own, are refused before anything is asked."""
    with pytest.raises(ConfigError, match=said) as raised:
        shared_documents(url)
    assert "sesame" not in str(raised.value)


def test_a_fork_asks_for_itself(documents: SharedDocuments) -> None:
    """Neither uses the other's connection, nor ends it."""
    documents.change(["a"], Tally, add)
    owner = documents.owner
    if not (child := os.fork()):
        os._exit(documents.change(["a"], Tally, add) != [2] or documents.owner == owner)
    assert os.waitpid(child, 0)[1] == 0
    assert documents.change(["a"], Tally, add) == [3]


def test_a_server_that_forgets(valkey: str) -> None:
    """One that may throw budgets away for want of room is refused for them, with the reason."""
    import redis

    documents = shared_documents(valkey)
    with redis.Redis.from_url(valkey) as client:
        documents.check()
        try:
            client.config_set("maxmemory-policy", "allkeys-lru")
            documents.check()  # it has no limit, so it forgets nothing
            client.config_set("maxmemory", "100mb")
            with pytest.raises(StoreError, match=r"forgets what it has no room for \(maxmemory-policy allkeys-lru\)"):
                documents.check()
        finally:
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")
    documents.close()


def test_a_server_that_is_a_replica_now(valkey: str) -> None:
    """After a failover an old connection may lead to one that does not lead any more: the next call has a new one."""
    import redis

    documents = shared_documents(valkey)
    documents.change(["a"], Tally, add)
    with redis.Redis.from_url(valkey) as client:
        before = client.info("stats")["total_connections_received"]
        client.slaveof("127.0.0.1", 1)
        try:
            with pytest.raises(StoreError, match="read only replica"):
                documents.change(["b"], Tally, add)
        finally:
            client.slaveof()
        assert documents.change(["b"], Tally, add) == [1]
        assert client.info("stats")["total_connections_received"] == before + 1
    documents.close()


def test_a_wrong_kind_of_key(valkey: str) -> None:
    """What somebody else keeps under our name is not overwritten."""
    import redis

    documents = shared_documents(valkey)
    with redis.Redis.from_url(valkey) as client:
        client.rpush("claude-force:a", "x")
        with pytest.raises(StoreError, match="refuses: WRONGTYPE"):
            documents.change(["a"], Tally, add)
        assert client.lrange("claude-force:a", 0, -1) == [b"x"]
    documents.close()
