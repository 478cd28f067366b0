"""The store on a server, against a real Valkey: the laws of every store, what others may plant, outages, claims."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
import redis

from claude_force.base.errors import ConfigError
from claude_force.stores.contract import check_entry_store
from claude_force.stores.entries import StoreAwayError, Stored, StoreError
from claude_force.stores.redis import AWAY_S, MOST_CONNECTIONS, PREFIX, RedisEntries, RedisServer
from claude_force.stores.redis_claims import TTL_S, RedisClaims
from tests.conftest import in_threads

ROOM = 1_000_000


@pytest.fixture
def store(valkey: str) -> Iterator[RedisEntries]:
    """An empty store."""
    with closing(RedisEntries(RedisServer(valkey))) as store:
        yield store


class Clock:
    """A clock that tests set."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_it_keeps_the_contract(valkey: str, client: redis.Redis) -> None:
    """Every law holds that a store can keep whose server removes what it likes."""

    def make() -> RedisEntries:
        client.flushall()
        return RedisEntries(RedisServer(valkey))

    assert len(list(check_entry_store(make, bounded=False))) == 8


def test_what_lies_there_ends_with_its_time(store: RedisEntries, client: redis.Redis) -> None:
    """The server forgets an entry by itself, a replaced one too, whatever time somebody asks for."""
    for keep_s in (90.0, float("inf"), 60.0):
        store.write("a", b"kept", max_bytes=ROOM, keep_s=keep_s)
    assert 59_000 < client.pttl(f"{PREFIX}entry:a") <= 60_000
    store.write("a", b"kept", max_bytes=ROOM, keep_s=float("inf"))
    assert client.pttl(f"{PREFIX}entry:a") > 60_000
    store.write("a", b"too late", max_bytes=ROOM, keep_s=-5.0)
    assert client.pttl(f"{PREFIX}entry:a") <= 1


def plant_another_type(client: redis.Redis, name: str) -> None:
    """A text."""
    client.set(name, "a string")


def plant_a_list(client: redis.Redis, name: str) -> None:
    """A list."""
    client.rpush(name, "a")


def plant_nothing_in_it(client: redis.Redis, name: str) -> None:
    """An entry without a signature."""
    client.hset(name, "sealed", "")


@pytest.mark.parametrize("plant", [plant_another_type, plant_a_list, plant_nothing_in_it])
def test_what_is_planted_can_be_seen_moved_and_replaced(
    store: RedisEntries, client: redis.Redis, plant: Callable[[redis.Redis, str], None]
) -> None:
    """Whatever lies where an entry should: it is read as one that nobody believes."""
    plant(client, f"{PREFIX}entry:a")
    assert store.read("a") == Stored(0, "a", b"") == next(store.scan())
    assert store.totals().entries == 1
    assert store.quarantine(Stored(0, "a", b""))
    assert (store.read("a"), store.totals().quarantined) == (None, 1)
    plant(client, f"{PREFIX}entry:a")
    store.write("a", b"ours", max_bytes=ROOM)
    assert store.read("a") == Stored(0, "a", b"ours")


def test_figures_that_are_none(store: RedisEntries, client: redis.Redis) -> None:
    """Somebody puts words where numbers belong: no figure, and no failure of its own kind."""
    client.mset({f"{PREFIX}generation": "soon", f"{PREFIX}integrity-failures": "many"})
    client.hset(f"{PREFIX}hits", mapping={"agent": "often", b"\xff": 3})
    assert (store.generation(), store.totals().integrity_failures) == (0, 0)
    assert [counts.hits for counts in store.totals().by_agent.values()] == [0, 3]
    store.note_hit("agent", "a", None)
    with pytest.raises(StoreError, match="integer"):
        store.settle()
    client.rpush(f"{PREFIX}entry:\udcff".encode(errors="surrogateescape"), "a")
    assert [stored.key for stored in store.scan()] == [r"\xff"]
    assert store.clear() == 1
    assert store.generation() > 0


def test_the_generation_is_never_one_that_was(store: RedisEntries, client: redis.Redis) -> None:
    """Not even where the server has removed it to make room: what is in memory must not count for ever."""
    seen = set()
    for _ in range(3):
        store.write("a", b"one", max_bytes=ROOM)
        store.clear()
        seen.add(store.generation())
        client.delete(f"{PREFIX}generation")
    assert len(seen) == 3


def test_only_ours_is_cleared(store: RedisEntries, client: redis.Redis) -> None:
    """Whoever shares the server keeps what is theirs, and the claims of those who ask stay."""
    others = {"claude-force:1:limits": "7", f"{PREFIX}claim:a": "somebody", "entry:a": "x"}
    client.mset(others)
    for number in range(250):
        store.write(f"{number}", b"x", max_bytes=ROOM)
    assert store.clear() == 250
    assert set(client.scan_iter()) == {*map(str.encode, others), f"{PREFIX}generation".encode()}


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://127.0.0.1", "give redis://... or rediss://"),
        ("redis:///0", "give redis://HOST"),
        ("redis://127.0.0.1/mine", "give redis://HOST"),
        ("redis://127.0.0.1?decode_responses=true", "decode_responses"),
        ("redis://127.0.0.1?ssl_ca_certs=x", "ssl_ca_certs"),
        ("rediss://127.0.0.1?socket_timeout=9", "socket_timeout"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str, problem: str) -> None:
    """At once, and with what it may be."""
    with pytest.raises(ConfigError, match=problem):
        RedisServer(url)


# ---------------------------------------------------------------- outages


def test_a_restart_costs_nothing(store: RedisEntries, valkey_server: Any) -> None:
    """Connections that were cut are made anew, without an error."""
    store.read("a")
    valkey_server.stop(signal.SIGKILL)
    valkey_server.start()
    assert store.read("a") is None


def test_a_server_that_is_gone_is_left_alone(valkey: str, valkey_server: Any) -> None:
    """It is asked once, then not for a while; the first who asks after that finds out whether it is back."""
    clock = Clock()
    store = RedisEntries(RedisServer(valkey, monotonic=clock))
    store.read("a")
    valkey_server.stop()
    with pytest.raises(StoreAwayError, match="does not answer") as first:
        store.read("a")
    valkey_server.start()
    with pytest.raises(StoreAwayError, match="does not answer") as second:
        store.read("a")
    clock.seconds += AWAY_S
    assert store.read("a") is None
    valkey_server.stop()
    with pytest.raises(StoreAwayError) as third:
        store.read("a")
    assert [error.value.outage for error in (first, second, third)] == [1, 1, 2]
    valkey_server.start()
    store.close()


def test_a_server_that_is_a_replica_now(store: RedisEntries, client: redis.Redis) -> None:
    """After a failover an old connection may lead to one that does not lead any more: the next call has a new one."""
    store.write("a", b"x", max_bytes=ROOM)
    before = client.info("stats")["total_connections_received"]
    client.slaveof("127.0.0.1", 1)
    try:
        with pytest.raises(StoreError, match="read only replica"):
            store.write("b", b"x", max_bytes=ROOM)
    finally:
        client.slaveof()
    store.write("b", b"x", max_bytes=ROOM)
    assert client.info("stats")["total_connections_received"] == before + 1


def test_a_silent_server_holds_up_one() -> None:
    """Of many threads that ask one that takes no notice, those who come later do not wait; nor does anybody twice."""
    clock = Clock()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        server = RedisServer(f"redis://127.0.0.1:{silent.getsockname()[1]}", monotonic=clock)
        store = RedisEntries(server)
        for round_ in range(2):
            for _ in range(5):
                with pytest.raises(StoreAwayError):
                    store.read("a")
            connections = 0
            with suppress(BlockingIOError):
                while True:
                    silent.accept()[0].close()
                    connections += 1
            assert connections == 1, f"round {round_}"
            clock.seconds += AWAY_S
        store.close()


def test_more_threads_than_connections(store: RedisEntries) -> None:
    """They take turns; redis-py's own pool would raise."""
    store.write("a", b"kept" * 1000, max_bytes=ROOM)
    read: list[Stored | None] = []
    in_threads(lambda: read.extend(store.read("a") for _ in range(5)), 6 * MOST_CONNECTIONS)
    assert read == [Stored(0, "a", b"kept" * 1000)] * 5 * 6 * MOST_CONNECTIONS


def test_a_full_server(store: RedisEntries, client: redis.Redis) -> None:
    """What it refuses is an error that says what to set; what is there is still read."""
    store.write("a", b"kept", max_bytes=ROOM)
    server = RedisServer(_url(client))
    assert "no limit" in (server.unbounded() or "")
    client.config_set("maxmemory", "1")
    try:
        assert "removes nothing" in (server.unbounded() or "")
        with pytest.raises(StoreError, match="maxmemory-policy to allkeys-lru"):
            store.write("a", b"newer", max_bytes=ROOM)
        assert store.read("a") == Stored(0, "a", b"kept")
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert server.unbounded() is None
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "0")
        server.close()


def _url(client: redis.Redis) -> str:
    facts = client.connection_pool.connection_kwargs
    return f"redis://{facts['host']}:{facts['port']}/0"


MAY = ("+@read", "+@write", "+@scripting", "+@connection", "+@transaction", "+time", "-@dangerous")


def test_a_user_that_may_do_little(valkey: str, client: redis.Redis) -> None:
    """What a user of the server must be allowed is what the guide says; a wrong password is told without it."""
    client.acl_setuser("app", enabled=True, reset=True, passwords=["+sesame"], commands=[*MAY], keys=[f"{PREFIX}*"])
    try:
        address = valkey.removeprefix("redis://")

        def make() -> RedisEntries:
            client.flushall()
            return RedisEntries(RedisServer(f"redis://app:sesame@{address}"))

        assert len(list(check_entry_store(make, bounded=False))) == 8
        server = RedisServer(f"redis://app:sesame@{address}")
        assert server.unbounded() is None
        with pytest.raises(StoreError, match="permission"):
            server.ask(lambda it: it.get("another's"))
        release = RedisClaims(server).claim("k")
        assert release is not None
        release()
        server.close()
        server = RedisServer(f"redis://app:wrong-sesame@{address}")
        with pytest.raises(StoreAwayError, match="does not let us in") as refused:
            server.ask(lambda it: it.ping())
        assert "sesame" not in str(refused.value)
    finally:
        client.acl_deluser("app")


# ---------------------------------------------------------------- claims


@pytest.fixture
def here(valkey: str) -> Iterator[RedisClaims]:
    """Those of this machine."""
    server = RedisServer(valkey)
    yield RedisClaims(server)
    server.close()


@pytest.fixture
def there(valkey: str) -> Iterator[RedisClaims]:
    """Those of another machine: a process knows its own claims by the address of their server."""
    server = RedisServer(valkey.replace("127.0.0.1", "localhost"))
    yield RedisClaims(server)
    server.close()


def test_a_claim_is_granted_once_until_it_ends(here: RedisClaims, there: RedisClaims, client: redis.Redis) -> None:
    """On all machines together; another key is another one, and nothing is left behind."""
    release = here.claim("a")
    assert release is not None
    assert here.claim("a") is there.claim("a") is None
    other = there.claim("b")
    assert other is not None
    release()
    other()
    assert client.keys() == []
    again = there.claim("a")
    assert again is not None
    assert here.claim("a") is None
    again()


def test_a_thread_that_blocks_shares_its_own_claim(here: RedisClaims, client: redis.Redis) -> None:
    """It would wait for itself; the claim ends with the last who shares it."""
    outer, inner = here.claim("a", is_blocking=True), here.claim("a", is_blocking=True)
    assert outer is not None
    assert inner is not None
    inner()
    assert len(client.keys()) == 1
    outer()
    assert client.keys() == []


def test_the_claim_of_a_dead_process_ends(here: RedisClaims, there: RedisClaims, client: redis.Redis) -> None:
    """When its time is over another one takes it; should the dead one only have slept, it takes nothing away."""
    late = there.claim("a")
    assert late is not None
    name = f"{PREFIX}claim:a"
    assert TTL_S - 5 < client.pttl(name) / 1000 <= TTL_S
    client.delete(name)  # as the server does when the time is over
    mine = here.claim("a")
    assert mine is not None
    late()
    assert client.exists(name)
    mine()


def test_a_claim_that_is_held_is_extended(valkey: str, client: redis.Redis) -> None:
    """As often as it takes, for as long as a call takes; then no more."""
    server = RedisServer(valkey)
    claims = RedisClaims(server, ttl_s=0.6)
    release = claims.claim("a")
    assert release is not None
    name, extended, left = f"{PREFIX}claim:a", 0, client.pttl(f"{PREFIX}claim:a")
    while extended < 3:
        now = client.pttl(name)
        assert now > 0
        extended += now > left
        left = now
    release()
    assert not client.exists(name)
    server.close()


def test_a_forked_child_has_no_claims_of_its_parent(here: RedisClaims, client: redis.Redis) -> None:
    """It cannot claim what its parent has, nor end it, and its own claims are its own."""
    release = here.claim("a")
    assert release is not None
    if (child := os.fork()) == 0:
        code = 1
        with suppress(BaseException):
            release()
            own = here.claim("b")
            if own is not None and here.claim("a") is None:
                own()
                code = 0
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert client.keys() == [f"{PREFIX}claim:a".encode()]
    release()
    assert client.keys() == []


def test_a_server_that_is_gone_claims_nothing(here: RedisClaims, valkey_server: Any) -> None:
    """Who asks is told so, and whatever was claimed is let go of without an error."""
    release = here.claim("a")
    assert release is not None
    valkey_server.stop()
    release()
    with pytest.raises(StoreAwayError):
        here.claim("a")
    valkey_server.start()
