"""Cached answers on a Redis or Valkey, for many machines: `RedisServer`, which is asked, and `RedisEntries`, its store.

- What a server does costs the cache, never an answer: each question has a second, then the server is left alone for
  five, and whoever asks first after that finds out whether it is back.
- An entry is one hash, so its hits go wherever it goes. The server forgets it when its time is over, and removes the
  least recently used by itself: sizes and counts are those that counting gives.
- What may not fall apart is one script, which the server does as a whole.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from claude_force.base.errors import ConfigError
from claude_force.base.servers import check_redis_url, parse_url, shown_url
from claude_force.stores.entries import (
    ENTRY_OVERHEAD_BYTES,
    AgentCounts,
    StoreAwayError,
    Stored,
    StoreError,
    Totals,
)
from claude_force.stores.notes import PICO, Notes

if TYPE_CHECKING:
    from decimal import Decimal

    import redis

T = TypeVar("T")

ANSWER_S = 1.0
"""The most that a connection, an answer, or a free connection is waited for."""
AWAY_S = 5.0
"""How long a server that did not answer is left alone."""
MOST_CONNECTIONS = 16
"""Of one process; more threads take turns, where redis-py's own pool would raise."""

PREFIX = "claude-force:1:cache:"
_ENTRY, _FORGED = f"{PREFIX}entry:", f"{PREFIX}forged:"
_GENERATION, _FAILURES = f"{PREFIX}generation", f"{PREFIX}integrity-failures"
_HITS, _MISSES, _SAVED = f"{PREFIX}hits", f"{PREFIX}misses", f"{PREFIX}saved"
_PAGE = 100  # entries read at once by a scan: enough to be fast, few enough to hold in memory
_LONGEST_S = 10 * 365 * 86_400.0  # a server refuses a time that is too far away
_FORGED_S = 7 * 86_400.0  # long enough to look at what somebody planted

# By the clock, so that it is another one even after the server has forgotten the last.
_TURN_PAGE = """
local function turn_page(key)
    local now = redis.call('TIME')
    local last = tonumber(redis.call('GET', key) or 0) or 0
    redis.call('SET', key, string.format('%.0f', math.max(now[1] * 1000000 + now[2], last + 1)))
end
"""
# What anybody may have put there: an entry of another type is an empty one, and believed by nobody.
_SEALED = """
local function sealed(key)
    local held = redis.pcall('HGET', key, 'sealed')
    if type(held) == 'string' then return held end
    return ''
end
"""
# HSET comes first: a full server refuses a script's first change only.
_WRITE = f"""{_TURN_PAGE}
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'sealed', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if kind ~= 'none' then
    redis.call('HDEL', KEYS[1], 'hits')
    turn_page(KEYS[2])
end
"""
_REMOVE = f"""{_TURN_PAGE}{_SEALED}
local removed = 0
for i = 2, #KEYS do
    if sealed(KEYS[i]) == ARGV[i - 1] then removed = removed + redis.call('DEL', KEYS[i]) end
end
turn_page(KEYS[1])
return removed
"""
_QUARANTINE = f"""{_SEALED}
if redis.call('EXISTS', KEYS[1]) == 0 or sealed(KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('INCR', KEYS[3])
return 1
"""
_USE = """
for i, key in ipairs(KEYS) do
    if redis.pcall('HEXISTS', key, 'sealed') == 1 then redis.call('HINCRBY', key, 'hits', ARGV[i]) end
end
"""
_DROP = f"{_TURN_PAGE} if redis.call('DEL', KEYS[2]) == 1 then turn_page(KEYS[1]) end"
_CLEARED = f"{_TURN_PAGE} turn_page(KEYS[1])"


class RedisServer:
    """A server by its address. Making the object connects to nothing; safe for many threads.

    Raises `ConfigError` for an address that is none, and where the `redis` extra is missing.
    """

    def __init__(self, url: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        check_redis_url(parse_url(url, named="cache.url", schemes=("redis", "rediss")), named="cache.url")
        self.shown = shown_url(url)
        """Its address, without what only says who asks."""
        if find_spec("redis") is None:
            raise ConfigError("cache.url needs the library of Redis; `pip install 'claude-force[redis]'`")
        self._url = url
        self._monotonic = monotonic
        self._client: redis.Redis | None = None
        self._is_away = False
        self._why_away = ""
        self._outages = 0
        self._ask_at = -math.inf
        self._lock = threading.Lock()  # for all of these; never held while the server works

    def ask(self, work: Callable[["redis.Redis"], T]) -> T:
        """What the work gives. Raises `StoreAwayError`, at once while the server is left alone, and `StoreError`."""
        import redis  # noqa: PLC0415 - 300 ms that only a server needs

        if self._is_away:
            self._wait_for_turn()
        try:
            outcome = work(self._connected())
        except StoreError:
            raise
        except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.InvalidResponse, OSError) as error:
            raise self._lost(error) from error
        except redis.OutOfMemoryError as error:
            raise StoreError(
                f"{self.shown} is full and removes nothing; set its maxmemory-policy to allkeys-lru"
            ) from error
        except (redis.RedisError, ValueError) as error:
            if isinstance(error, redis.ReadOnlyError):  # another one leads now, and the address may lead there already
                self.close()
            raise StoreError(f"{self.shown}: {error}") from error
        self._is_away = False
        return outcome

    def run(self, script: str, keys: Iterable[str], arguments: Iterable[str | bytes | int] = ()) -> Any:  # noqa: ANN401 - as the script says
        """What this script gives there, done as a whole."""
        return self.ask(lambda client: client.register_script(script)(keys=list(keys), args=list(arguments)))

    def unbounded(self) -> str | None:
        """Why it would not make room by itself, as far as it says. Raises `StoreAwayError`."""
        try:
            found = self.ask(lambda client: client.config_get("maxmemory*"))
        except StoreAwayError:
            raise
        except StoreError:
            return None  # who runs it may not tell us
        settings = {_text(name or ""): _text(value or "") for name, value in found.items()}
        if settings.get("maxmemory") == "0":
            return f"{self.shown} has no limit on its memory; set its maxmemory, and maxmemory-policy allkeys-lru"
        if settings.get("maxmemory-policy") == "noeviction":
            return f"{self.shown} removes nothing when it is full; set its maxmemory-policy to allkeys-lru"
        return None

    def close(self) -> None:
        """Let go of connections; a later question makes new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def after_fork(self) -> None:
        """In a child process: forget connections, which are the parent's, and a lock that nobody here will release."""
        if self._client is not None:
            _INHERITED.append(self._client)
        self._client, self._lock = None, threading.Lock()

    def _wait_for_turn(self) -> None:
        """One asks whether it is back; the others are not held up with it."""
        with self._lock:
            now = self._monotonic()
            if now < self._ask_at:
                raise StoreAwayError(self._why_away, outage=self._outages)
            self._ask_at = now + AWAY_S

    def _lost(self, error: Exception) -> StoreAwayError:
        import redis  # noqa: PLC0415 - as above

        refused = isinstance(error, redis.AuthenticationError)
        what = "does not let us in, so look at the user and password of its address" if refused else "does not answer"
        with self._lock:
            self._outages += not self._is_away
            self._is_away, self._why_away = True, f"{self.shown} {what}: {error}"
            self._ask_at = self._monotonic() + AWAY_S
            return StoreAwayError(self._why_away, outage=self._outages)

    def _connected(self) -> "redis.Redis":
        if self._client is None:
            import redis  # noqa: PLC0415 - as above
            from redis.backoff import NoBackoff  # noqa: PLC0415
            from redis.retry import Retry  # noqa: PLC0415

            with self._lock:
                if self._client is None:
                    pool = redis.BlockingConnectionPool.from_url(
                        self._url,
                        max_connections=MOST_CONNECTIONS,
                        timeout=ANSWER_S,
                        socket_connect_timeout=ANSWER_S,
                        socket_timeout=ANSWER_S,
                        retry=Retry(NoBackoff(), 0),  # who waited in vain does not wait again
                        protocol=2,  # all that is asked here, without a handshake
                    )
                    self._client = redis.Redis.from_pool(pool)
        return self._client


_INHERITED: "list[redis.Redis]" = []
"""A forked child must not close these as its own."""


class RedisEntries:
    """A store on a server, which bounds its size."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._notes = Notes()

    # ------------------------------------------------------------ EntryStore

    def read(self, key: str) -> Stored | None:
        """See `EntryStore.read`."""
        import redis  # noqa: PLC0415 - at the first use

        def read(client: "redis.Redis") -> object:
            try:
                return client.hget(_ENTRY + key, "sealed")
            except redis.ResponseError as error:
                return _planted(error)

        sealed = self._server.ask(read)
        return Stored(0, key, sealed) if isinstance(sealed, bytes) else None

    def write(self, key: str, sealed: bytes, *, max_bytes: int, keep_s: float = math.inf) -> None:
        """See `EntryStore.write`. `max_bytes` bounds the one answer."""
        if len(sealed) + ENTRY_OVERHEAD_BYTES > max_bytes:
            self._server.run(_DROP, (_GENERATION, _ENTRY + key))
        else:
            self._server.run(_WRITE, (_ENTRY + key, _GENERATION), (sealed, _ms(keep_s)))

    def note_hit(self, agent: str, key: str, cost_usd: "Decimal | None") -> None:
        """See `EntryStore.note_hit`."""
        self._notes.hit(agent, key, cost_usd)

    def note_miss(self, agent: str) -> None:
        """See `EntryStore.note_miss`."""
        self._notes.miss(agent)

    def settle(self) -> None:
        """See `EntryStore.settle`. Waits for the server, and for no other writer."""

        def write(client: "redis.Redis") -> None:
            noted = self._notes.take()
            with client.pipeline() as pipe:
                for agent, counts in noted.agents.items():
                    pipe.hincrby(_HITS, agent, counts.hits)
                    pipe.hincrby(_MISSES, agent, counts.misses)
                    pipe.hincrby(_SAVED, agent, int(counts.saved * PICO))
                if noted.uses:
                    client.register_script(_USE)(
                        keys=[_ENTRY + key for key in noted.uses], args=list(noted.uses.values()), client=pipe
                    )
                pipe.execute()

        if self._notes:
            self._server.ask(write)

    def remove(self, *stored: Stored) -> int:
        """See `EntryStore.remove`."""
        names = (_ENTRY + entry.key for entry in stored)
        return int(self._server.run(_REMOVE, (_GENERATION, *names), (entry.sealed for entry in stored)))

    def quarantine(self, stored: Stored) -> bool:
        """See `EntryStore.quarantine`."""
        names = (_ENTRY + stored.key, _FORGED + stored.key, _FAILURES)
        return bool(self._server.run(_QUARANTINE, names, (stored.sealed, _ms(_FORGED_S))))

    def scan(self) -> Iterator[Stored]:
        """See `EntryStore.scan`. In no order; while the server's table grows, some may come twice."""
        for names in self._pages(_ENTRY):
            facts = self._each(names, lambda pipe, name: pipe.hmget(name, "sealed", "hits"))
            for name, fact in zip(names, facts, strict=True):
                sealed, hits = fact if isinstance(fact, list) else (_planted(fact), None)
                if sealed is not None:
                    yield Stored(0, _text(name).removeprefix(_ENTRY), sealed, _number(hits))

    def totals(self) -> Totals:
        """See `EntryStore.totals`. Entries are counted; evictions are all of the server's since it was started."""
        size = 0
        counts = {_ENTRY: 0, _FORGED: 0}
        for kind in counts:
            for names in self._pages(kind):
                sizes = self._each(names, lambda pipe, name: pipe.hstrlen(name, "sealed"))
                size += sum(_number(one) + ENTRY_OVERHEAD_BYTES for one in sizes)
                counts[kind] += len(names)

        def figures(client: "redis.Redis") -> tuple[Any, ...]:
            agents = [client.hgetall(name) for name in (_HITS, _MISSES, _SAVED)]
            return (*agents, client.mget(_FAILURES, _GENERATION), self._evictions(client))

        hits, misses, saved, (failures, generation), evictions = self._server.ask(figures)
        by_agent = {
            _text(agent): AgentCounts(
                _number(hits.get(agent)), _number(misses.get(agent)), _number(saved.get(agent)) / PICO
            )
            for agent in {**hits, **misses}
        }
        return Totals(
            bytes=size,
            entries=counts[_ENTRY],
            quarantined=counts[_FORGED],
            evictions=evictions,
            integrity_failures=_number(failures),
            generation=_number(generation),
            by_agent=self._notes.added_to(by_agent),
        )

    def generation(self) -> int:
        """See `EntryStore.generation`."""
        return _number(self._server.ask(lambda client: client.get(_GENERATION)))

    def audit(self, *, repair: bool = False) -> bool:  # noqa: ARG002 - counts are made when they are asked for
        """See `EntryStore.audit`."""
        return True

    def clear(self) -> int:
        """See `EntryStore.clear`. Only what is ours goes, whatever else the server holds."""
        removed = 0
        for kind in (_ENTRY, _FORGED):
            for names in self._pages(kind):
                removed += self._server.ask(lambda client, names=names: client.unlink(*names))  # type: ignore[misc] # bound now
        self._server.run(_CLEARED, (_GENERATION,))
        return removed

    def close(self) -> None:
        """See `EntryStore.close`."""
        with suppress(StoreError):
            self.settle()
        self._server.close()

    def after_fork(self) -> None:
        """See `EntryStore.after_fork`."""
        self._server.after_fork()
        self._notes = Notes()

    def _pages(self, kind: str) -> Iterator[list[bytes]]:
        """The names of all keys of a kind, as they are."""
        cursor = 0
        while True:
            cursor, names = self._server.ask(lambda client, at=cursor: client.scan(at, match=f"{kind}*", count=_PAGE))  # type: ignore[misc] # bound now
            if names:
                yield names
            if not cursor:
                return

    def _each(self, names: list[bytes], ask: Callable[[Any, bytes], object]) -> list[Any]:
        """What each gives, or its error, in one go."""

        def all_(client: "redis.Redis") -> list[Any]:
            with client.pipeline(transaction=False) as pipe:
                for name in names:
                    ask(pipe, name)
                return list(pipe.execute(raise_on_error=False))

        return self._server.ask(all_)

    def _evictions(self, client: "redis.Redis") -> int:
        import redis  # noqa: PLC0415 - at the first use

        try:
            return int(client.info("stats")["evicted_keys"])
        except redis.ResponseError:
            return 0  # who runs it may not tell us


def _planted(error: Exception) -> bytes:
    """What lies where an entry should, and is none: nobody will believe it. Raises what is another error."""
    if "WRONGTYPE" in str(error):
        return b""
    raise StoreError(str(error)) from error


def _text(value: str | bytes) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def _number(value: object) -> int:
    """What a figure says; 0 where somebody has put something else there."""
    with suppress(TypeError, ValueError):
        return int(value)  # type: ignore[call-overload,no-any-return] # whatever it is
    return 0


def _ms(seconds: float) -> int:
    return max(1, int(min(seconds, _LONGEST_S) * 1000))
