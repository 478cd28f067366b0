"""Small documents that many machines share, on a Redis or a Postgres: `SharedDocuments`, with one operation.

`change` reads documents, has a function decide by the *server's* time, so that no host's clock matters, and writes what
it has changed: all of it, and only if nobody else was faster. Else it reads them again and the function decides anew,
so the function must have no effect but its answer, and must know what it has done already when it meets that: a server
may do what it was asked, and its answer get lost.

What a document means is said by its `kind`, a tagged struct whose tag holds the version of the format. What is of none
that is known is an error, never the beginning of a new document.

A server that does not answer is not asked again for `AWAY_S`, so that a thousand calls do not wait for it one after
the other; then the next call tries. Who asks is told by a `StoreError`; who goes on without says so with `warn`.
"""

import importlib.util
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec

from claude_force.base.errors import ConfigError
from claude_force.base.servers import check_redis_url, parse_url, shown_url
from claude_force.stores.entries import StoreBusyError, StoreError

if TYPE_CHECKING:
    import psycopg
    import redis

AWAY_S = 2.0
CONNECT_S = 3
ANSWER_S = 3
"""How long an answer may take: each takes about a millisecond where all is well."""
CHANGE_WAIT_S = 10.0
"""How long others may be faster, again and again."""
KEPT_S = 90 * 86_400
"""How long a document stands after its last change."""
_BACKOFF_S, _LONGEST_BACKOFF_S = 0.0005, 0.05

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")


class AwayError(StoreError):
    """The server cannot be reached, or takes too long."""


class Server(Protocol):
    """Where the documents lie, as text. Raises `AwayError`, or `StoreError` where the server says no."""

    def read(self, names: Sequence[str]) -> tuple[list[str], float]:
        """The documents, "" where there is none, and the time."""

    def swap(self, names: Sequence[str], old: Sequence[str], new: Sequence[str]) -> bool:
        """Put the new ones in the place of the old ones, if these are still there, all of them; whether they were."""

    def check(self) -> str | None:
        """What its owner should know of it, if anything. Raises `StoreError` where it forgets what it must keep."""

    def close(self) -> None:
        """Let go of the connection; a later call opens one anew."""

    def after_fork(self) -> None:
        """In a child process: forget the connection, which is the parent's."""


class SharedDocuments:
    """Documents on one server. Safe for threads and processes, and touches nothing before it is asked."""

    def __init__(self, server: Server, shown: str) -> None:
        self.shown = shown
        """The address, as people may see it."""
        self.owner = os.urandom(6).hex()
        """This process, among all that share the documents."""
        self._server = server
        self._lock = threading.Lock()  # one question at a time: threads of a process need not race on the server
        self._away_until_s = 0.0
        self._away_for = ""
        self._told: set[str] = set()  # of what the log has a warning; "" is an outage that is not over
        _ALIVE.add(self)

    def change(self, names: Sequence[str], kind: type[S], decide: Callable[[Sequence[S], float], T]) -> T:
        """What the function says of these documents, which it may change, at this moment of the server."""
        with self._lock:
            outcome = self._change(names, kind, decide)
            self._told.discard("")
            return outcome

    def warn(self, error: OSError) -> None:
        """Tell the log of an error that nobody else will hear of: once, and of an outage once for each."""
        about = "" if isinstance(error, AwayError) else str(error)
        if about not in self._told:
            self._told.add(about)
            logging.getLogger("claude_force.shared").warning(
                "%s; until that is mended, this process keeps limits and circuit breakers by itself, what has a budget"
                " is not sent, and what was set aside for requests that end meanwhile counts as spent",
                error,
                extra={"server": self.shown},
            )

    def check(self) -> str | None:
        """What its owner should know of the server, if anything.

        Raises `StoreError` where it does not answer, or forgets what must not be forgotten.
        """
        with self._lock:
            return self._ask(self._server.check)

    def close(self) -> None:
        """Let go of the connection; a later call opens one anew."""
        with self._lock:
            self._server.close()

    def after_fork(self) -> None:
        """In a child process: forget the connection, and a lock that nobody here will release."""
        self._server.after_fork()
        SharedDocuments.__init__(self, self._server, self.shown)

    def _change(self, names: Sequence[str], kind: type[S], decide: Callable[[Sequence[S], float], T]) -> T:
        begun_s, backoff_s = time.monotonic(), _BACKOFF_S
        while True:
            bodies, now_s = self._ask(partial(self._server.read, names))
            states = [self._decoded(name, body, kind) for name, body in zip(names, bodies, strict=True)]
            before = [_encoded(state) for state in states]
            outcome = decide(states, now_s)
            after = [_encoded(state) for state in states]
            if after == before or self._ask(partial(self._server.swap, names, bodies, after)):
                return outcome
            if time.monotonic() - begun_s > CHANGE_WAIT_S:
                raise StoreBusyError(f"{self.shown!r}: others are writing {', '.join(names)}, and are always faster")
            time.sleep(random.uniform(0, backoff_s))  # noqa: S311 - so that those who race do not meet again
            backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)

    def _decoded(self, name: str, body: str, kind: type[S]) -> S:
        if not body:
            return kind()
        try:
            state = _decoder(kind).decode(body)
            if isinstance(state, kind):
                return state
            reason = "it says that it is nothing"
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            reason = str(error)
        raise StoreError(
            f"{self.shown!r}: {name!r} is nothing that this version of claude-force knows ({reason}); upgrade, if a"
            " newer one wrote it, or else remove it"
        )

    def _ask(self, question: Callable[[], T]) -> T:
        if (left_s := self._away_until_s - time.monotonic()) > 0:
            raise AwayError(f"{self.shown!r} {self._away_for}; it is asked again in {left_s:.1f} s")
        try:
            return question()
        except AwayError as error:
            self._away_until_s, self._away_for = time.monotonic() + AWAY_S, str(error)
            raise AwayError(f"{self.shown!r} {error}") from error.__cause__
        except StoreError as error:
            raise StoreError(f"{self.shown!r} {error}") from error.__cause__


_ALIVE: "weakref.WeakSet[SharedDocuments]" = weakref.WeakSet()


def _after_fork() -> None:
    for documents in tuple(_ALIVE):
        documents.after_fork()


os.register_at_fork(after_in_child=_after_fork)


class _Nothing(msgspec.Struct, tag_field="format", tag="nothing", forbid_unknown_fields=True):
    """One more kind that a document could be, so that each has to say what it is."""


@cache
def _decoder(kind: type[msgspec.Struct]) -> "msgspec.json.Decoder[msgspec.Struct]":
    return msgspec.json.Decoder(kind | _Nothing)


def _encoded(state: msgspec.Struct) -> str:
    return msgspec.json.encode(state).decode()


def shared_documents(url: str) -> SharedDocuments:
    """The documents at this `shared.url`. Raises `ConfigError`: it is none, or the extra for it is not installed."""
    parts = parse_url(url, named="shared.url", schemes=("redis", "rediss", "postgresql"))
    is_postgres = parts.scheme == "postgresql"
    if not is_postgres:
        check_redis_url(parts, named="shared.url")
    module, extra = ("psycopg", "durable") if is_postgres else ("redis", "redis")
    if importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"shared.url is {shown_url(url)!r}, and there is no {module!r} to reach it with; run"
            f" `pip install 'claude-force[{extra}]'`"
        )
    return SharedDocuments(Postgres(url) if is_postgres else Redis(url), shown_url(url))


# The bodies before, then those after; 1 where the first were all there.
_SWAP = """
for number, key in ipairs(KEYS) do
  if (redis.call('GET', key) or '') ~= ARGV[1 + number] then return 0 end
end
for number, key in ipairs(KEYS) do
  redis.call('SET', key, ARGV[1 + #KEYS + number], 'EX', ARGV[1])
end
return 1
"""


class Redis:
    """A `Server` that is a Redis or a Valkey."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: redis.Redis | None = None

    def read(self, names: Sequence[str]) -> tuple[list[str], float]:
        """See `Server.read`."""

        def read(client: "redis.Redis") -> tuple[list[str], float]:
            asked = client.pipeline(transaction=False)
            asked.time()
            asked.mget(_keys(names))
            (seconds, micros), bodies = asked.execute()
            return [body or "" for body in bodies], seconds + micros / 1e6

        return self._do(read)

    def swap(self, names: Sequence[str], old: Sequence[str], new: Sequence[str]) -> bool:
        """See `Server.swap`."""
        keys = _keys(names)
        return bool(self._do(lambda client: client.eval(_SWAP, len(keys), *keys, KEPT_S, *old, *new)))

    def check(self) -> str | None:
        """See `Server.check`. Who is not allowed to ask believes that it keeps, and is warned."""
        from redis.exceptions import ResponseError  # noqa: PLC0415 - an extra

        def look(client: "redis.Redis") -> dict[str, Any]:
            try:
                return {**client.info("memory"), **client.info("persistence")}
            except ResponseError as error:
                logging.getLogger("claude_force.shared").warning(
                    "%r does not say whether it forgets what it has no room for, which must not happen to budgets: %s",
                    shown_url(self._url),
                    error,
                )
                return {}

        found = self._do(look)
        policy = found.get("maxmemory_policy", "noeviction")
        if found.get("maxmemory", 0) and policy != "noeviction":
            raise StoreError(
                f"forgets what it has no room for (maxmemory-policy {policy}), which must not happen to budgets; set it"
                " to noeviction, or take a server of its own for what must be kept"
            )
        return None if found.get("aof_enabled", 1) else "a restart may cost it what was spent lately (appendonly is no)"

    def close(self) -> None:
        """See `Server.close`."""
        if self._client is not None:
            self._client.close()

    def after_fork(self) -> None:
        """See `Server.after_fork`."""
        self._client = None

    def _do(self, work: "Callable[[redis.Redis], T]") -> T:
        import redis  # noqa: PLC0415 - an extra, and 0.2 s
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415

        try:
            if self._client is None:
                self._client = redis.Redis.from_url(
                    self._url,
                    decode_responses=True,
                    socket_connect_timeout=CONNECT_S,
                    socket_timeout=ANSWER_S,
                    retry=Retry(NoBackoff(), 0),
                )
            return work(self._client)
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            raise AwayError(f"does not answer: {_reason(error, self._url)}") from error
        except (redis.RedisError, ValueError) as error:  # a ValueError is about the address
            if isinstance(error, redis.ReadOnlyError):  # another one leads now, and the address may lead there already
                self.close()
            raise StoreError(f"refuses: {_reason(error, self._url)}") from None


def _keys(names: Sequence[str]) -> list[str]:
    return [f"claude-force:{name}" for name in names]


_TABLE = "claude_force_documents"
_MAKE = b"""CREATE TABLE IF NOT EXISTS claude_force_documents
    (name text PRIMARY KEY, body text NOT NULL, changed_at timestamptz NOT NULL DEFAULT now())"""
_FORGET = b"DELETE FROM claude_force_documents WHERE changed_at < now() - make_interval(secs => %s)"
_READ = b"""SELECT extract(epoch FROM clock_timestamp())::float8, coalesce(body, '')
    FROM unnest(%s::text[]) WITH ORDINALITY AS asked (name, place)
    LEFT JOIN claude_force_documents USING (name) ORDER BY place"""
_BEGIN = b"INSERT INTO claude_force_documents (name, body) SELECT unnest(%s::text[]), '' ON CONFLICT DO NOTHING"
# One statement: who waits for a row that is locked sees what came of it, and then it is not the old one any more.
_SWAP_ROWS = b"""WITH asked AS (SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]) AS asked (name, old, new)),
    same AS (SELECT 1 FROM claude_force_documents AS kept JOIN asked ON kept.name = asked.name AND kept.body = asked.old
        ORDER BY kept.name FOR UPDATE OF kept)
    UPDATE claude_force_documents AS kept SET body = asked.new, changed_at = now() FROM asked
    WHERE kept.name = asked.name AND (SELECT count(*) FROM same) = (SELECT count(*) FROM asked)"""
_SETTLE_DOWN = (
    b"SET default_transaction_isolation = 'read committed'",
    f"SET statement_timeout = {ANSWER_S * 1000}".encode(),
    b"SET client_min_messages = warning",
)


class Postgres:
    """A `Server` that is a Postgres: one table, which the first to come makes."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection | None = None

    def read(self, names: Sequence[str]) -> tuple[list[str], float]:
        """See `Server.read`."""
        rows = self._do(lambda connection: connection.execute(_READ, [list(names)]).fetchall())
        return [body for _, body in rows], rows[0][0]

    def swap(self, names: Sequence[str], old: Sequence[str], new: Sequence[str]) -> bool:
        """See `Server.swap`."""
        missing = sorted(name for name, body in zip(names, old, strict=True) if not body)

        def swap(connection: "psycopg.Connection") -> bool:
            if missing:
                connection.execute(_BEGIN, [missing])
            return connection.execute(_SWAP_ROWS, [list(names), list(old), list(new)]).rowcount > 0

        return self._do(swap)

    def check(self) -> str | None:
        """See `Server.check`: a Postgres keeps."""
        self.read(["any"])
        return None

    def close(self) -> None:
        """See `Server.close`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def after_fork(self) -> None:
        """See `Server.after_fork`."""
        if self._connection is not None:
            _INHERITED.append(self._connection)
        self._connection = None

    def _do(self, work: "Callable[[psycopg.Connection], T]") -> T:
        """Twice at the most, where the connection was an old one, that may have been cut since."""
        import psycopg  # noqa: PLC0415 - an extra, and 0.3 s

        while True:
            is_old = self._connection is not None
            try:
                self._connection = self._connection or self._connected()
                return work(self._connection)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                self.close()
                if not is_old:
                    raise AwayError(f"does not answer: {_reason(error, self._url)}") from None
            except psycopg.Error as error:
                raise StoreError(f"refuses: {_reason(error, self._url)}") from None
            except BaseException:  # a Ctrl-C in the middle of an answer
                self.close()
                raise

    def _connected(self) -> "psycopg.Connection":
        import psycopg  # noqa: PLC0415 - an extra
        from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

        try:
            given: dict[str, Any] = conninfo_to_dict(self._url)
        except psycopg.ProgrammingError:  # whose text is the address, with the password
            raise StoreError("is no address of a Postgres; see its documentation on connection URIs") from None
        ours: dict[str, Any] = {
            "connect_timeout": CONNECT_S,
            "tcp_user_timeout": ANSWER_S * 1000,
            "application_name": "claude-force",
        }
        connection = _impatient().connect(**(ours | given), autocommit=True)
        try:
            for statement in _SETTLE_DOWN:
                connection.execute(statement)
            if connection.execute(b"SELECT to_regclass(%s)", [_TABLE]).fetchone() == (None,):
                with connection.transaction():  # two that make it at once would meet
                    connection.execute(b"SELECT pg_advisory_xact_lock(hashtext(%s))", [_TABLE])
                    connection.execute(_MAKE)
            connection.execute(_FORGET, [KEPT_S])
        except BaseException:
            connection.close()
            raise
        return connection


@cache
def _impatient() -> "type[psycopg.Connection]":
    """A connection that does not wait for ever for a server that is there and says nothing."""
    import psycopg  # noqa: PLC0415 - an extra

    class Impatient(psycopg.Connection):
        def wait(self, gen: Any, *options: Any, **more: Any) -> Any:  # noqa: ANN401 - passed on as it is
            return super().wait(gen, *options, **{"timeout": ANSWER_S + 1.0, **more})

    return Impatient


_INHERITED: "list[psycopg.Connection]" = []
"""A forked child would end its parent's connection if it closed one of these."""


def _reason(error: Exception, url: str) -> str:
    """What the client says, in one line and without the password."""
    words = " ".join(str(error).split()) or type(error).__name__
    password = urlsplit(url).password or ""
    for secret in filter(None, (password, unquote(password))):
        words = words.replace(secret, "***")
    return words
