"""What agents did before: sessions in `.claude/agent_memory.db`, found again by the words of a task.

Relevance is the share of a task's words that a session has, each weighed by how rare it is: 1 has all of them, 0 none.
So it says how alike two tasks are, and does not only rank them: where nothing is alike, nothing is found. BM25 (the
full-text index of SQLite) finds the candidates, because it knows the words of 100,000 sessions in a millisecond.

What looks like a key or a password is masked before it is kept. Sessions that our secret has not signed are passed
over: what is recalled goes into prompts, and a cloned repository may bring a file of sessions along.
"""

import functools
import hashlib
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from claude_force.base.errors import AgentMemoryError, ClaudeForceError, ConfigError, InputError
from claude_force.base.records import Material
from claude_force.base.secrets import masked
from claude_force.base.words import words
from claude_force.performance_tracker import task_hash
from claude_force.stores.entries import StoreError
from claude_force.stores.seal import ForgedError, Sealer, UnreadableError
from claude_force.stores.secret import VARIABLE, Secret, file_secrets, given_secrets, secret_path
from claude_force.stores.sessions import Candidate, Filter, SessionFile, SessionRow

if TYPE_CHECKING:
    from claude_force.base.config import Memory as Bounds

MIN_RELEVANCE = 0.4
"""Below, two tasks share little more than their subject."""
MAX_RESULT_CHARS = 20_000
"""Of an answer that is kept; the rest is left out, and said so."""
MAX_WORDS = 150
"""Different words of a task, and of a result, by which it is found."""
# A word that many sessions have hardly tells them apart, and takes as long to look up as all rarer ones together.
ENOUGH_MATCHES = 1_000
CHARS_PER_TOKEN = 3
"""Roughly: `max_tokens` is a bound on size, and no bill."""
_CUT = "\n[the rest is left out]"
_SPARE = 5  # sessions that may have to be left out
_IN_RESULT = 0.5  # what an answer happens to mention says less than what was asked


Outcome = TypeVar("Outcome")


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One task that an agent did, or failed to do."""

    id: int
    agent_name: str
    task: str
    result: str
    """The answer; of a failure, the error."""
    success: bool
    timestamp: datetime
    """UTC."""
    metadata: Mapping[str, Any] = msgspec.field(default_factory=dict)
    relevance: float | None = None
    """To the task that was looked for, from 0 to 1; `None` where none was."""


class AgentMemory:
    """Sessions that can be found again by what they were about. Safe for threads and processes.

    `path` is the file; `secret` signs, as that of the cache does (`CLAUDE_CACHE_SECRET`, else a file of the user's).
    The answers to `max_cached_queries` questions are remembered until somebody writes, in this process or another.
    Methods raise `AgentMemoryError` where the file cannot be used.

    Example:
        >>> import tempfile
        >>> memory = AgentMemory(f"{tempfile.mkdtemp()}/agent_memory.db", secret="of 16 bytes or more")
        >>> _ = memory.store_session("reviewer", "Review the retry loop of the client", "It never ends.", success=True)
        >>> [found] = memory.get_similar_sessions("reviewer", "review retries in client.py")
        >>> found.result, memory.get_similar_sessions("reviewer", "Translate the manual")
        ('It never ends.', [])
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        secret: Secret | None = None,
        max_cached_queries: int = 256,
    ) -> None:
        if max_cached_queries < 0:
            raise InputError(f"max_cached_queries is {max_cached_queries!r}; give 0 for none, or more")
        self.path = Path(path)
        self._secrets = given_secrets(secret, os.environ.get(VARIABLE))
        self._file = SessionFile(self.path)
        self._queries = _Queries(max_cached_queries)

    # ------------------------------------------------------------ writing

    def store_session(
        self,
        agent_name: str,
        task: str,
        result: str,
        *,
        success: bool,
        metadata: Mapping[str, Any] | None = None,
        timestamp: datetime | None = None,
    ) -> int:
        """Keep one, without what looks like a key in it; gives its id.

        `metadata` must be JSON. `timestamp` is when it was, if not now.
        """
        at = timestamp or datetime.now(UTC)
        task, result = masked(task), masked(result)
        if len(result) > MAX_RESULT_CHARS:
            result = f"{result[:MAX_RESULT_CHARS]}\n[{len(result) - MAX_RESULT_CHARS:,} more characters were not kept]"
        extra = masked(msgspec.json.encode(dict(metadata or {})).decode())
        row = SessionRow(0, agent_name, task, task_hash(task), result, int(success), _iso(at), extra, b"")
        index = _index(task), _index(result)
        return self._asked(lambda: self._file.add(row, *index, lambda id_: self._seal(row, id_)))

    def forget(self, *ids: int) -> int:
        """Remove these sessions; how many there were."""
        return self._asked(lambda: self._file.remove(ids)) if self._is_there() else 0

    def prune(self, *, older_than: timedelta, now: datetime | None = None) -> int:
        """Remove the sessions that are older; how many."""
        before = _iso((now or datetime.now(UTC)) - older_than)
        return self.forget(*(row.id for row in self._each(Filter()) if row.timestamp < before))

    # ------------------------------------------------------------ reading

    def get_similar_sessions(
        self,
        agent_name: str | None,
        task: str,
        limit: int = 5,
        *,
        success: bool | None = None,
        max_age: timedelta | None = None,
        min_relevance: float = MIN_RELEVANCE,
    ) -> list[Session]:
        """The sessions that are most alike, the most relevant first, the newest first among equals.

        `None` as `agent_name` looks at all agents', as `success` at failures, too. What reaches less than
        `min_relevance` is not given, so there may be none.
        """
        since = None if max_age is None else datetime.now(UTC) - max_age
        wanted = Filter(agent_name, success, None if since is None else _iso(since))
        query = (agent_name, task, limit, success, max_age, min_relevance)
        found = self._asked(
            lambda: self._queries.answer(
                query, self._version(), lambda: self._similar(task, wanted, limit, min_relevance)
            )
        )
        return [session for session in found if since is None or session.timestamp >= since]

    def get_session(self, id_: int) -> Session:
        """One of them. Raises `InputError` where there is none, or none that we have signed."""
        row = self._asked(lambda: self._file.find(id_)) if self._is_there() else None
        session = row and self._believed(row)
        if not session:
            raise InputError(
                f"there is no session {id_} in {str(self.path)!r}; `claude-force memory search` finds some"
            )
        return session

    def sessions(self, *, agent_name: str | None = None) -> Iterator[Session]:
        """All that we have signed, oldest first."""
        for row in self._each(Filter(agent_name)):
            if session := self._believed(row):
                yield session

    def get_stats(self) -> dict[str, Any]:
        """How many sessions there are, by agent, and what the memory of queries did for this object."""
        agents = self._asked(self._file.by_agent) if self._is_there() else []
        return {
            "path": str(self.path),
            "sessions": sum(number for _, number, _ in agents),
            "size_mb": self.path.stat().st_size / 1_000_000 if agents else 0.0,
            "by_agent": {agent: {"sessions": number, "successes": good} for agent, number, good in agents},
            "query_hits": self._queries.hits,
            "query_misses": self._queries.misses,
        }

    def close(self) -> None:
        """Let go of the file; a later call opens it anew."""
        self._file.close()

    # ------------------------------------------------------------ how

    def _similar(self, task: str, wanted: Filter, limit: int, min_relevance: float) -> tuple[Session, ...]:
        asked = list(dict.fromkeys(words(task)))[:MAX_WORDS]
        if not asked or not self._is_there():
            return ()
        counts, total = self._file.counts(asked), self._file.total()
        weights = {word: _rarity(counts.get(word, 1), total) for word in asked}
        candidates = self._file.candidates(_rarest(counts), wanted) if counts else []
        scored = [(_relevance(candidate, weights), candidate.id) for candidate in candidates]
        best = sorted((pair for pair in scored if pair[0] >= min_relevance), reverse=True)
        found: list[Session] = []
        for relevance, id_ in best:
            row = self._file.find(id_) if len(found) < limit else None
            if row is not None and (session := self._believed(row, relevance)):
                found.append(session)
        return tuple(found)

    def _each(self, wanted: Filter) -> Iterator[SessionRow]:
        rows = self._file.each(wanted) if self._is_there() else iter(())
        while (row := self._asked(lambda: next(rows, None))) is not None:
            yield row

    def _asked(self, work: Callable[[], Outcome]) -> Outcome:
        """What the file gives; its trouble is told as ours."""
        try:
            return work()
        except StoreError as error:
            raise AgentMemoryError(f"the memory of sessions cannot be used: {error}", path=str(self.path)) from error

    def _is_there(self) -> bool:
        return os.path.lexists(self.path)  # asking must make no file

    def _version(self) -> int:
        return self._file.version() if self._is_there() else -1

    @functools.cached_property
    def _sealer(self) -> Sealer:
        return Sealer(self._secrets or file_secrets(secret_path()))

    def _seal(self, row: SessionRow, id_: int) -> bytes:
        return self._sealer.seal(f"session {id_}", _digest(row))

    def _believed(self, row: SessionRow, relevance: float | None = None) -> Session | None:
        """The session, if it is as we have signed it."""
        try:
            signed = bytes(self._sealer.unseal(f"session {row.id}", row.seal))
        except (ForgedError, UnreadableError):
            return None
        if signed != _digest(row):
            return None
        return Session(
            id=row.id,
            agent_name=row.agent_name,
            task=row.task,
            result=row.result,
            success=bool(row.success),
            timestamp=datetime.fromisoformat(row.timestamp),
            metadata=msgspec.json.decode(row.metadata),
            relevance=relevance,
        )


class Recollection:
    """A memory in the engine's words, within the bounds of the config. Implements `base.ports.Memory`.

    What a simulator has answered is never put before Claude (`is_claude`).
    """

    def __init__(self, memory: AgentMemory, bounds: "Bounds", *, is_claude: bool) -> None:
        self._memory, self._bounds, self._is_claude = memory, bounds, is_claude
        self._has_complained = False

    def recall(self, task: str, *, agent: str, key: str) -> tuple[Material, ...]:
        """See `Memory.recall`."""
        bounds = self._bounds
        try:
            found = self._memory.get_similar_sessions(
                agent, task, limit=bounds.max_sessions + _SPARE, min_relevance=bounds.min_relevance
            )
        except (AgentMemoryError, ConfigError) as error:
            self._complain(error)
            return ()
        wanted = [session for session in found if self._is_wanted(session, key)][: bounds.max_sessions]
        left, past = bounds.max_tokens * CHARS_PER_TOKEN, []
        for session in wanted:
            text = f"Task: {session.task}\n\n{'Answer' if session.success else 'It failed'}: {session.result}"
            if len(text) > left:
                text = f"{text[: max(left - len(_CUT), 0)]}{_CUT}"
            past.append(Material(f"{session.timestamp:%Y-%m-%d}, {_end(session)}", text, "past work"))
            left -= len(text)
            if left <= len(_CUT):
                break
        return tuple(past)

    def keep(self, task: str, result: str, *, agent: str, key: str, success: bool, simulated: bool) -> None:
        """See `Memory.keep`."""
        facts = {"key": key} | ({"simulated": True} if simulated else {})
        try:
            self._memory.store_session(agent, task, result, success=success, metadata=facts)
        except (AgentMemoryError, ConfigError) as error:
            self._complain(error)

    def _is_wanted(self, session: Session, key: str) -> bool:
        is_of_a_simulator = session.metadata.get("simulated") is True
        return session.metadata.get("key") != key and not (is_of_a_simulator and self._is_claude)

    def _complain(self, error: ClaudeForceError) -> None:
        if not self._has_complained:
            import logging  # noqa: PLC0415 - 10 ms that only a failure pays

            self._has_complained = True
            logging.getLogger("claude_force.memory").warning(
                "nothing is remembered: %s", error, extra={"path": str(self._memory.path)}
            )


def _end(session: Session) -> str:
    return "a success" if session.success else "a failure"


class _Queries:
    """The answers to the last questions, as long as nobody has written."""

    def __init__(self, most: int) -> None:
        self._process = os.getpid()
        self.hits = self.misses = 0
        self._most = most
        self._lock = threading.Lock()
        self._version: int | None = None
        self._found: OrderedDict[Hashable, tuple[Session, ...]] = OrderedDict()

    def answer(self, query: Hashable, version: int, find: Callable[[], tuple[Session, ...]]) -> tuple[Session, ...]:
        """What is known of this version of the file, else what `find` gives."""
        if self._process != os.getpid():  # forked: a thread that had the lock is not here to let go of it
            _Queries.__init__(self, self._most)
        with self._lock:
            if version != self._version:
                self._found.clear()
                self._version = version
            found = self._found.get(query)
            if found is not None:
                self.hits += 1
                self._found.move_to_end(query)
                return found
            self.misses += 1
        found = find()
        with self._lock:
            if self._most and version == self._version:  # nobody has written since it was asked
                self._found[query] = found
                if len(self._found) > self._most:
                    self._found.popitem(last=False)
        return found


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def _index(text: str) -> str:
    return " ".join(list(dict.fromkeys(words(text)))[:MAX_WORDS])


def _digest(row: SessionRow) -> bytes:
    return hashlib.sha256(msgspec.json.encode(row[1:-1])).digest()


def _rarity(count: int, total: int) -> float:
    """The weight of a word that is in so many of all sessions, as BM25 has it (Robertson and Zaragoza, 2009).

    A word that is in none is as rare as one that is in one; where there are few sessions, it would else be all.
    """
    return math.log(1 + (total - count + 0.5) / (count + 0.5))


def _rarest(counts: Mapping[str, int]) -> list[str]:
    """The words to look for: the rarest, until they have led to enough sessions."""
    chosen: list[str] = []
    matches = 0
    for word, count in sorted(counts.items(), key=lambda pair: (pair[1], pair[0])):
        if chosen and matches + count > ENOUGH_MATCHES:
            break
        chosen.append(word)
        matches += count
    return chosen


def _relevance(candidate: Candidate, weights: Mapping[str, float]) -> float:
    asked, answered = set(candidate.task_words.split()), set(candidate.result_words.split())
    shared = sum(
        weight if word in asked else _IN_RESULT * weight
        for word, weight in weights.items()
        if word in asked or word in answered
    )
    return shared / sum(weights.values())
