"""The response cache: `ResponseCache`, which gives an answer that was paid for once again, and never a wrong one.

An entry is believed only where it carries our signature for the very key that is asked for (`stores.seal`); its age is
counted from the time that was signed. Whatever the disk does costs the cache, never the answer: one warning on
`claude_force.cache`, then on. How entries lie on disk is in `stores.sqlite`; why all this is as it is, in
docs/explanation/cache.md.
"""

import hashlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from claude_force.base.clock import SystemClock
from claude_force.base.config import claude_folder, current_folder, user_folder
from claude_force.base.errors import CacheError, ConfigError, TaskError
from claude_force.base.records import WHOLE_STOP_REASONS, KeptReply, Reply
from claude_force.base.usage import Usage
from claude_force.stores.claims import Claims
from claude_force.stores.entries import StoreAwayError, StoreBusyError, Stored, StoreError
from claude_force.stores.seal import ForgedError, Sealer, UnreadableError, check_encryption
from claude_force.stores.secret import VARIABLE, Secret, file_secrets, given_secrets, secret_path

if TYPE_CHECKING:
    from claude_force.base.clock import Clock
    from claude_force.stores.entries import EntryStore
    from claude_force.stores.redis import RedisServer
    from claude_force.stores.redis_claims import RedisClaims

Outcome = TypeVar("Outcome")

KEY_VERSION = 1
"""Of `get` and `set`. Another way to make keys gets another number, so that old entries are not mistaken for new."""
FILE_NAME = "responses.db"
MB = 1024 * 1024

# An answer that is dated later than now was kept by a machine whose clock ran ahead, or our clock was set back since:
# how old it is, nobody knows. Machines that share a folder may be a few minutes apart.
_MOST_AHEAD_S = 300.0
# How soon this process notices that another one has cleared, pruned or replaced entries that are in our memory.
_LOOK_EVERY_S = 1.0
# What an entry takes in memory beside its two long texts: the record, its other fields, its place in a dictionary.
_RECORD_BYTES = 1_000
# A character of a text that is not ASCII: two or four bytes, and its UTF-8, which stays with the text once it was
# encoded. So `sys.getsizeof` grows meanwhile, and what is dropped would count more than when it was put.
_WIDE_BYTES = 5
_MOST_MB = 1e9  # a petabyte is a mistake


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One answer, and all that it takes to give it again. Everything but `hit_count` is signed."""

    key: str
    agent_name: str
    task: str
    model: str
    """As the API named it."""
    response: str
    input_tokens: int | None
    """Prompt tokens that the prompt cache had no part in; `None` where the server does not count."""
    output_tokens: int | None
    estimated_cost: Decimal | None
    """What it cost, in US dollars; `None` is unpriced."""
    timestamp: float
    """When it was kept, in Unix seconds."""
    hit_count: int = 0
    """How often it was served, as far as it is written down; only `entries()` says so."""
    stop_reason: str | None = "end_turn"
    request_id: str | None = None
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    thinking_tokens: int | None = None
    simulated: bool = False
    """True where no model was asked; such an answer is given to nobody who asks for a real one."""


class CacheCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What `ResponseCache.verify` found."""

    checked: int = 0
    expired: int = 0
    """Good, but too old to be served."""
    forged: tuple[str, ...] = ()
    """Keys of entries whose signature is not ours, or not theirs."""
    unreadable: tuple[str, ...] = ()
    """Keys of entries that another version wrote; they are left alone."""
    is_size_right: bool = True
    """Whether the size that is kept is the one that counting gives."""
    repaired: bool = False

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to repair."""
        return not self.forged and self.is_size_right


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(CacheEntry).decode


def cache_folder(start: Path) -> Path:
    """Where answers are kept: in the project's `.claude`, or the user's where there is no project."""
    return (claude_folder(start) or user_folder()) / "cache"


class ResponseCache:
    """Answers in memory and on disk, each believed only with our signature; safe for many threads and processes.

    With the `url` of a Redis or Valkey they are kept there in place of the disk, for many machines. It needs a secret
    that all of them have, and the `redis` extra; `max_size_mb` is then what one answer may have, and the server bounds
    the rest.

    `cache_dir` is by default `.claude/cache` of the project here. Answers are served for `ttl_hours` (fractions are
    fine; `agent_ttl_hours` has exceptions by agent), the disk holds at most `max_size_mb`, the memory `memory_mb`
    (1 MB is 1,048,576 bytes), and the least recently used goes first.

    `secret` signs; of a list, the first does and the others are still believed. Without it, `CLAUDE_CACHE_SECRET`
    counts (several with commas between), or a random one that is made once in the user's own config folder.
    `encrypt=True` also encrypts, with the `encryption` extra.

    Raises `ConfigError` for a secret that is too short, limits that are none, and a missing extra. Only what asks for
    the store by name (`clear`, `delete`, `verify`, `prune`, `entries`, `export_bundle`, `import_bundle`) raises
    `CacheError`; all else goes on without.

    Example:
        >>> import tempfile
        >>> with ResponseCache(tempfile.mkdtemp(), secret="only an example, 32 bytes or so") as cache:
        ...     cache.set("linter", "Check it.", "claude-haiku-5-5", "Fine.", 90, 4, 0.0001)
        ...     print(cache.get("linter", "Check it.", "claude-haiku-5-5")["response"])
        ...     print(cache.get("linter", "Check it.", "claude-haiku-5-5", fingerprint="the agent was edited"))
        Fine.
        None
    """

    def __init__(
        self,
        cache_dir: str | os.PathLike[str] | None = None,
        ttl_hours: float = 24,
        max_size_mb: float = 100,
        enabled: bool = True,  # noqa: FBT001, FBT002 - promised so
        secret: Secret | None = None,
        exclude_agents: Collection[str] = (),
        *,
        agent_ttl_hours: Mapping[str, float] | None = None,
        memory_mb: float = 16,
        encrypt: bool = False,
        url: str | None = None,
        clock: "Clock | None" = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        hours = dict(agent_ttl_hours or {})
        are_sizes = 0 < max_size_mb < _MOST_MB and 0 <= memory_mb < _MOST_MB
        if not (are_sizes and all(value > 0 for value in (ttl_hours, *hours.values()))):
            raise ConfigError(
                f"the cache has the limits ttl_hours={ttl_hours!r}, agent_ttl_hours={agent_ttl_hours!r},"
                f" max_size_mb={max_size_mb!r}, memory_mb={memory_mb!r}; give more than 0, or enabled=False"
            )
        if encrypt:
            check_encryption()
        self.cache_dir = Path(cache_dir) if cache_dir is not None else cache_folder(current_folder())
        self.enabled = enabled
        self.exclude_agents = frozenset(exclude_agents)
        self._ttl_s, self._agent_ttl_s = ttl_hours * 3600, {agent: value * 3600 for agent, value in hours.items()}
        self._max_bytes = int(max_size_mb * MB)
        self._memory = _Memory(int(memory_mb * MB))
        self._clock = clock or SystemClock()
        is_real = isinstance(self._clock, SystemClock)
        self._now = time.time if is_real else lambda: self._clock.now().timestamp()
        self._monotonic = time.monotonic if is_real else self._clock.monotonic
        self._secrets = given_secrets(secret, environment.get(VARIABLE))
        self._server = _server(url, self._secrets, self._monotonic) if url is not None and enabled else None
        self._place = self._server.shown if self._server else str(self.cache_dir)
        self._where = "on the server" if self._server else "on disk"
        self._is_bound_checked = False
        self._encrypt = encrypt
        self._sealer: Sealer | None = None
        self._hits = self._misses = 0
        self._said: set[str] = set()
        self._told_of = 0
        self._generation, self._look_at = -1, float("-inf")
        self._why_off: Exception | None = None
        self._store: EntryStore | None = None
        self._claims: Claims | RedisClaims | None = None
        self._opening = threading.Lock()  # so that two threads in their first call open one store
        self._lock = threading.Lock()  # for memory and the figures of this process; never held while the disk works
        _ALIVE.add(self)

    # ------------------------------------------------------------ asking and keeping

    def get(self, agent_name: str, task: str, model: str, *, fingerprint: str = "") -> dict[str, Any] | None:
        """The answer that `set` kept for exactly these, or `None`.

        It has `response`, `input_tokens`, `output_tokens`, `estimated_cost` (US dollars, a float), `cached` (`True`)
        and `cache_age_seconds`.
        """
        entry = self.lookup(key_of(agent_name, task, model, fingerprint), agent_name=agent_name)
        if entry is None:
            return None
        return {
            "response": entry.response,
            "input_tokens": entry.input_tokens,
            "output_tokens": entry.output_tokens,
            "estimated_cost": None if entry.estimated_cost is None else float(entry.estimated_cost),
            "cached": True,
            "cache_age_seconds": self.age_seconds(entry),
        }

    def set(
        self,
        agent_name: str,
        task: str,
        model: str,
        response: str,
        input_tokens: int | None,
        output_tokens: int | None,
        estimated_cost: float | Decimal | None,
        *,
        fingerprint: str = "",
    ) -> None:
        """Keep an answer, in memory and on disk; `fingerprint` is all else that decides it (agent file, parameters)."""
        entry = CacheEntry(
            key=key_of(agent_name, task, model, fingerprint),
            agent_name=agent_name,
            task=task,
            model=model,
            response=response,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            estimated_cost=None if estimated_cost is None else Decimal(str(estimated_cost)),
            timestamp=self.now(),
        )
        self.keep(entry)

    def lookup(
        self,
        key: str,
        *,
        agent_name: str,
        simulated: bool | None = False,
        counts_miss: bool = True,
        in_memory: bool = False,
    ) -> CacheEntry | None:
        """The fresh entry under this key, or `None`. Counts a hit or a miss for the agent; never raises for the disk.

        `simulated` says which answers are wanted: those of a model, those of the simulator, or, with `None`, either.
        Who looks again for the same answer does not count another miss. `in_memory` leaves the store alone; where that
        is a server, it gives nothing once a second, so that somebody looks there who may wait.
        """
        if not self._takes(agent_name):
            return None
        if self._monotonic() >= self._look_at:
            if in_memory and self._may_stall:
                return None
            self._look_around()
        with self._lock:
            entry = self._memory.get(key)
        is_fresh = entry is not None and self.is_fresh(entry)
        if not is_fresh and not in_memory:  # another process may have asked anew since
            entry = self._read(key)
            is_fresh = entry is not None and self.is_fresh(entry)
        if not is_fresh or (entry is not None and simulated is not None and simulated != entry.simulated):
            entry = None
        if entry is not None or counts_miss:
            self._count(agent_name, entry)
        return entry

    def peek(self, key: str, *, agent_name: str) -> CacheEntry | None:
        """What `lookup` would give, for who only wants to know: no hit, no miss, and no file where there is none."""
        if not self._takes(agent_name):
            return None
        with self._lock:
            entry = self._memory.get(key)
        is_there = self._may_stall or self._store or (self.cache_dir / FILE_NAME).exists()
        if (entry is None or not self.is_fresh(entry)) and is_there:
            entry = self._read(key)
        return entry if entry is not None and self.is_fresh(entry) else None

    def keep(self, entry: CacheEntry) -> None:
        """Keep the entry under its key, in place of an older one. Never raises for the disk.

        An answer that is empty or not whole is not kept, nor is one of an excluded agent.
        """
        if not self._takes(entry.agent_name) or not entry.response or entry.stop_reason not in WHOLE_STOP_REASONS:
            return
        with self._lock:
            self._memory.put(entry)
        if (disk := self._disk()) is not None:
            try:
                self._write(entry, *disk)
                self._check_bound()
            except (StoreError, ValueError) as error:  # a text that is no Unicode is a ValueError
                self._complain(f"an answer is not kept {self._where}", error)

    def is_fresh(self, entry: CacheEntry) -> bool:
        """Whether it is young enough to be served, by the time that was signed."""
        age_s = self._now() - entry.timestamp
        return -_MOST_AHEAD_S <= age_s < self._kept_s(entry)

    def age_seconds(self, entry: CacheEntry) -> float:
        """How old the answer is; 0 for one that a clock ahead of ours has dated."""
        return max(0.0, self.now() - entry.timestamp)

    def sealed(self, entry: CacheEntry) -> bytes:
        """The entry, signed as this cache signs, for another file of ours. Raises `ConfigError` without a secret."""
        return self._seal().seal(entry.key, _encode(entry))

    def unsealed(self, key: str, sealed: bytes) -> CacheEntry | None:
        """What `sealed` made for this key; `None`, and one warning, where it is forged or unreadable."""
        entry = _opened(self._seal(), Stored(0, key, sealed))
        if isinstance(entry, CacheEntry):
            return entry
        self._complain("an answer of a run is not used", f"key {key}: {str(entry) or 'it is not signed by us'}")
        return None

    # ------------------------------------------------------------ looking after it

    def clear(self) -> int:
        """Remove every answer, in memory and on disk, and say how many there were. The figures of the past stay."""
        removed = self._asked(lambda _, store: store.clear())
        self._forget()
        return removed

    def delete(self, agent_name: str, task: str, model: str, *, fingerprint: str = "") -> bool:
        """Remove one answer; whether there was one."""
        key = key_of(agent_name, task, model, fingerprint)

        def remove(_: Sealer, store: "EntryStore") -> int:
            stored = store.read(key)
            return store.remove(stored) if stored else 0

        was_on_disk = self._asked(remove) > 0
        with self._lock:
            return self._memory.drop(key) or was_on_disk

    def prune(
        self, *, agent: str | None = None, model: str | None = None, older_than_hours: float | None = None
    ) -> int:
        """Remove the answers that meet every condition, and say how many; without conditions, those that expired."""

        def is_meant(entry: CacheEntry) -> bool:
            if agent is None and model is None and older_than_hours is None:
                return not self.is_fresh(entry)
            return (
                (agent is None or entry.agent_name == agent)
                and (model is None or entry.model == model)
                and (older_than_hours is None or self.age_seconds(entry) >= older_than_hours * 3600)
            )

        def remove(sealer: Sealer, store: "EntryStore") -> int:
            removed, batch = 0, []
            for stored in store.scan():
                entry = _opened(sealer, stored)
                if isinstance(entry, CacheEntry) and is_meant(entry):
                    batch.append(stored)
                if len(batch) == _BATCH:
                    removed, batch = removed + store.remove(*batch), []
            return removed + (store.remove(*batch) if batch else 0)

        removed = self._asked(remove)
        self._forget()
        return removed

    def verify(self, *, repair: bool = False, on_progress: Callable[[int, int], None] | None = None) -> CacheCheck:
        """Check every signature and the size. `repair` moves what is forged out of the way and puts the size right.

        `on_progress` gets how many were checked, and of how many.
        """

        def check(sealer: Sealer, store: "EntryStore") -> CacheCheck:
            total = store.totals().entries
            checked = expired = 0
            forged, unreadable = [], []
            for stored in store.scan():
                checked += 1
                entry = _opened(sealer, stored)
                if isinstance(entry, CacheEntry):
                    expired += not self.is_fresh(entry)
                elif isinstance(entry, ForgedError):
                    forged.append(str(stored.key))
                    if repair:
                        store.quarantine(stored)
                else:
                    unreadable.append(stored.key)
                if on_progress is not None:
                    on_progress(checked, max(checked, total))
            return CacheCheck(
                checked=checked,
                expired=expired,
                forged=tuple(forged),
                unreadable=tuple(unreadable),
                is_size_right=store.audit(repair=repair),
                repaired=repair,
            )

        return self._asked(check)

    def entries(self) -> Iterator[CacheEntry]:
        """Every entry on disk that is ours, fresh or not, the least recently used first, with its `hit_count`."""
        sealer, store = self._asked(lambda sealer, store: (sealer, store))
        try:
            for stored in store.scan():
                entry = _opened(sealer, stored)
                if isinstance(entry, CacheEntry):
                    yield msgspec.structs.replace(entry, hit_count=stored.hits)
        except StoreError as error:
            raise CacheError(f"the cache cannot be read: {error}", path=self._place) from error

    def export_bundle(self, path: str | os.PathLike[str]) -> int:
        """Write every fresh answer to one signed file, for `import_bundle` elsewhere; how many it were."""

        def export(sealer: Sealer, store: "EntryStore") -> int:
            fresh = (
                stored
                for stored in store.scan()
                if isinstance(entry := _opened(sealer, stored), CacheEntry) and self.is_fresh(entry)
            )
            return write_bundle(Path(path), fresh, sealer)

        from claude_force.stores.bundle import write_bundle  # noqa: PLC0415 - seldom needed

        return self._asked(export)

    def import_bundle(self, path: str | os.PathLike[str]) -> int:
        """Take the answers of a bundle that are fresh and newer than ours, and say how many.

        A bundle that is not whole, or not signed with our secret, is a `CacheError`, and nothing of it is taken.
        """

        def take(sealer: Sealer, store: "EntryStore") -> int:
            taken = 0
            for key, sealed in read_bundle(Path(path), sealer):
                entry = _opened(sealer, Stored(0, key, sealed))
                if isinstance(entry, CacheEntry) and self.is_fresh(entry) and self._is_newer(entry, sealer, store):
                    self._write(entry, sealer, store)
                    taken += 1
            return taken

        from claude_force.stores.bundle import read_bundle  # noqa: PLC0415 - seldom needed

        taken = self._asked(take)
        self._forget()
        return taken

    def get_stats(self) -> dict[str, Any]:
        """Figures of all processes since the cache was made, and of this one; never raises for the disk.

        `hits`, `misses` and `saved_usd` are totals, `by_agent` has them by agent; `session_hits`, `session_misses` and
        `session_hit_rate` are of this object. Where nothing is on disk, totals are those of this object.
        """
        totals = None
        if self.enabled and (disk := self._disk()) is not None:
            try:
                totals = disk[1].totals()
            except StoreError as error:
                self._complain("the figures of the cache are not known", error)
        with self._lock:
            session = (self._hits, self._misses)
            memory = (len(self._memory.entries), self._memory.bytes)
        agents = totals.by_agent if totals else {}
        hits, misses = (sum(c.hits for c in agents.values()), sum(c.misses for c in agents.values()))
        if totals is None:
            hits, misses = session
        return {
            "enabled": self.enabled,
            "hits": hits,
            "misses": misses,
            "hit_rate": _rate(hits, misses),
            "evictions": totals.evictions if totals else 0,
            "size_mb": totals.bytes / MB if totals else 0.0,
            "max_size_mb": None if self._server else self._max_bytes / MB,
            "entries": totals.entries if totals else memory[0],
            "integrity_failures": totals.integrity_failures if totals else 0,
            "quarantined": totals.quarantined if totals else 0,
            "saved_usd": float(sum((c.saved for c in agents.values()), Decimal(0))),
            "session_hits": session[0],
            "session_misses": session[1],
            "session_hit_rate": _rate(*session),
            "memory_entries": memory[0],
            "memory_mb": memory[1] / MB,
            "on_disk": totals is not None,
            "path": self._place if self._server else str(self.cache_dir / FILE_NAME),
            "by_agent": {
                agent: {
                    "hits": counts.hits,
                    "misses": counts.misses,
                    "hit_rate": _rate(counts.hits, counts.misses),
                    "saved_usd": float(counts.saved),
                }
                for agent, counts in sorted(agents.items())
            },
        }

    def close(self) -> None:
        """Write down the figures and let go of files; a later call opens them anew. Happens by itself at the end."""
        if self._store is not None:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ inside

    @property
    def _may_stall(self) -> bool:
        """Whether who asks the store may have to wait for it."""
        return self._server is not None

    def _kept_s(self, entry: CacheEntry) -> float:
        return self._agent_ttl_s.get(entry.agent_name, self._ttl_s)

    def _write(self, entry: CacheEntry, sealer: Sealer, store: "EntryStore") -> None:
        sealed = sealer.seal(entry.key, _encode(entry))
        keep_s = self._kept_s(entry) - self.age_seconds(entry)
        store.write(entry.key, sealed, max_bytes=self._max_bytes, keep_s=keep_s)

    def _is_newer(self, entry: CacheEntry, sealer: Sealer, store: "EntryStore") -> bool:
        stored = store.read(entry.key)
        ours = stored and _opened(sealer, stored)
        return not isinstance(ours, CacheEntry) or ours.timestamp < entry.timestamp

    def _count(self, agent_name: str, entry: CacheEntry | None) -> None:
        with self._lock:
            if entry is None:
                self._misses += 1
            else:
                self._hits += 1
        if self._store is None:
            return
        if entry is None:
            self._store.note_miss(agent_name)
        else:
            saved = None if entry.simulated else entry.estimated_cost  # what nobody would have paid is not saved
            self._store.note_hit(agent_name, entry.key, saved)

    def _takes(self, agent_name: str) -> bool:
        return self.enabled and agent_name not in self.exclude_agents

    def _shares(self, agent_name: str) -> bool:
        """Whether other processes will find this agent's answers."""
        return self._takes(agent_name) and self._reached() is not None

    def _claim(self, key: str, agent_name: str, *, is_blocking: bool) -> Callable[[], object] | None:
        """See `ReplyCache.claim`. Granted at once where the answer will not be kept for others to find."""
        if not self._shares(agent_name) or self._claims is None:
            return _nothing
        try:
            return self._claims.claim(key, is_blocking=is_blocking)
        except StoreError as error:  # an answer that is paid for twice is better than none
            self._complain("others may pay for the same answer", error)
            return _nothing

    def _check_bound(self) -> None:
        """Say it once if the server would not make room by itself."""
        if self._server is not None and not self._is_bound_checked:
            if reason := self._server.unbounded():
                self._complain("nothing bounds the cache", reason)
            self._is_bound_checked = True

    def now(self) -> float:
        """The time that entries are dated by, in Unix seconds."""
        return self._now()

    def _read(self, key: str) -> CacheEntry | None:
        """From disk, with its signature checked; what is forged is moved out of the way."""
        sealer, store = self._sealer, self._store
        if sealer is None or store is None:
            disk = self._disk()
            if disk is None:
                return None
            sealer, store = disk
        try:
            stored = store.read(key)
            if stored is None:
                return None
            entry = _opened(sealer, stored)
            if isinstance(entry, CacheEntry):
                with self._lock:
                    self._memory.put(entry)
                return entry
            if isinstance(entry, ForgedError):
                self._complain("an entry is not ours and was moved out of the way", f"key {key}")
                store.quarantine(stored)
            else:
                self._complain("an entry cannot be read", entry)
        except StoreError as error:
            self._complain(f"the cache {self._where} is not asked", error)
        return None

    def _disk(self) -> "tuple[Sealer, EntryStore] | None":
        """What seals and what stores; `None`, and one warning, where that cannot be."""
        disk = self._reached()
        if disk is None:
            self._complain("answers are kept in memory only", self._why_off)
        return disk

    def _reached(self) -> "tuple[Sealer, EntryStore] | None":
        """What seals and what stores, made when first needed; `None` where that cannot be."""
        if self._store is None and self._why_off is None:
            with self._opening:
                self._open()
        return (self._sealer, self._store) if self._store is not None and self._sealer is not None else None

    def _open(self) -> None:
        if self._store is not None or self._why_off is not None:
            return
        store, claims = self._made()
        try:
            self._seal()
            if not self._may_stall:  # a server that does not answer now may do so later
                self._generation = store.generation()
        except (StoreError, ConfigError) as error:
            self._why_off = error
        else:
            self._store, self._claims = store, claims
            weakref.finalize(self, store.close)

    def _made(self) -> "tuple[EntryStore, Claims | RedisClaims]":
        """What is imported at the first use."""
        if self._server is not None:
            from claude_force.stores.redis import RedisEntries  # noqa: PLC0415
            from claude_force.stores.redis_claims import RedisClaims  # noqa: PLC0415

            return RedisEntries(self._server), RedisClaims(self._server)
        from claude_force.stores.sqlite import SqliteEntries  # noqa: PLC0415

        return SqliteEntries(self.cache_dir / FILE_NAME), Claims(self.cache_dir / "claims")

    def _seal(self) -> Sealer:
        if self._sealer is None:
            self._sealer = Sealer(self._secrets or file_secrets(secret_path()), encrypt=self._encrypt)
        return self._sealer

    def _asked(self, work: Callable[[Sealer, "EntryStore"], Outcome]) -> Outcome:
        """Work on the disk that somebody asked for: its failure is theirs to know."""
        disk = self._reached()
        if disk is None:
            raise CacheError(f"the cache cannot be used: {self._why_off}", path=self._place)
        try:
            return work(*disk)
        except StoreError as error:
            raise CacheError(f"the cache cannot be used: {error}", path=self._place) from error

    def _look_around(self) -> None:
        """Once a second: write down what was used, and forget what another process has removed or replaced."""
        self._look_at = self._monotonic() + _LOOK_EVERY_S
        if self._store is None:
            return
        try:
            with suppress(StoreBusyError):
                self._store.settle()
        except StoreError as error:
            self._complain("the figures of the cache are not written down", error)
        try:
            generation = self._store.generation()
        except StoreError as error:
            self._complain("what other processes remove is not noticed", error)
            return
        if generation != self._generation:
            self._forget()
            self._generation = generation

    def _forget(self) -> None:
        with self._lock:
            self._memory.clear()

    def _complain(self, what: str, why: object) -> None:
        with self._lock:
            if isinstance(why, StoreAwayError):  # once in each outage, whatever was asked
                if why.outage == self._told_of:
                    return
                what, self._told_of = "answers are kept in memory only, until the server answers again", why.outage
            elif what in self._said:
                return
            else:
                self._said.add(what)
        import logging  # noqa: PLC0415 - 10 ms that only a failure pays

        logging.getLogger("claude_force.cache").warning("%s: %s", what, why, extra={"path": self._place})

    def _after_fork(self) -> None:
        self._lock, self._opening = threading.Lock(), threading.Lock()
        if self._store is not None:
            self._store.after_fork()


class KeptReplies:
    """A response cache in the engine's words. Implements `base.ports.ReplyCache`.

    Who answered is part of a key; but all endpoints count as Claude itself, and a simulator may be one of them. Unless
    `takes_simulated`, what one has said is neither kept nor given.
    """

    def __init__(self, cache: ResponseCache, *, takes_simulated: bool) -> None:
        self._cache = cache
        self._simulated = None if takes_simulated else False

    @property
    def may_stall(self) -> bool:
        """See `ReplyCache.may_stall`."""
        return self._cache._may_stall  # noqa: SLF001 - its own module

    def recall(self, key: str, *, agent: str) -> KeptReply | None:
        """The reply under this key, if it is in memory."""
        entry = self._cache.lookup(key, agent_name=agent, simulated=self._simulated, counts_miss=False, in_memory=True)
        return self._kept(entry) if entry else None

    def find(self, key: str, *, agent: str, counts: bool) -> KeptReply | None:
        """The reply under this key."""
        entry = self._cache.lookup(key, agent_name=agent, simulated=self._simulated, counts_miss=counts)
        return self._kept(entry) if entry else None

    def peek(self, key: str, *, agent: str) -> KeptReply | None:
        """See `ReplyCache.peek`."""
        entry = self._cache.peek(key, agent_name=agent)
        return self._kept(entry) if entry and self._takes(simulated=entry.simulated) else None

    def _takes(self, *, simulated: bool) -> bool:
        return self._simulated in {None, simulated}

    def _kept(self, entry: CacheEntry) -> KeptReply:
        return KeptReply(reply=reply_of(entry), cost_usd=entry.estimated_cost, age_s=self._cache.age_seconds(entry))

    def keep(self, key: str, reply: Reply, *, agent: str, task: str, cost_usd: Decimal | None) -> None:
        """Keep a reply, unless it is not whole, or the agent's are not kept."""
        if self._takes(simulated=reply.simulated):
            self._cache.keep(
                entry_of(key, reply, agent=agent, task=task, cost_usd=cost_usd, timestamp=self._cache.now())
            )

    def claim(self, key: str, *, agent: str, is_blocking: bool) -> Callable[[], object] | None:
        """See `ReplyCache.claim`."""
        return self._cache._claim(key, agent, is_blocking=is_blocking)  # noqa: SLF001 - its own module


def reply_of(entry: CacheEntry) -> Reply:
    """The reply that was kept; its usage is not, for it was paid then."""
    return Reply(
        model=entry.model,
        text=entry.response,
        stop_reason=entry.stop_reason,
        usage=None,
        request_id=entry.request_id,
        simulated=entry.simulated,
    )


def entry_of(
    key: str, reply: Reply, *, agent: str, task: str, cost_usd: Decimal | None, timestamp: float
) -> CacheEntry:
    """The entry that keeps a reply."""
    usage = reply.usage or Usage()
    return CacheEntry(
        key=key,
        agent_name=agent,
        task=task,
        model=reply.model,
        response=reply.text,
        input_tokens=usage.input_tokens if reply.usage else None,
        output_tokens=usage.output_tokens if reply.usage else None,
        estimated_cost=cost_usd,
        timestamp=timestamp,
        stop_reason=reply.stop_reason,
        request_id=reply.request_id,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_5m_tokens=usage.cache_write_5m_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        thinking_tokens=usage.thinking_tokens,
        simulated=reply.simulated,
    )


def _server(url: str, secrets: tuple[bytes, ...], monotonic: Callable[[], float]) -> "RedisServer":
    """The server of this address. Raises `ConfigError` for one that is none, and where no secret was given."""
    from claude_force.stores.redis import RedisServer  # noqa: PLC0415 - most caches have none

    server = RedisServer(url, monotonic=monotonic)
    if not secrets:
        raise ConfigError(
            f"the cache on {server.shown} needs a secret that all who share it have, or no machine would believe the"
            f" answers of another one; set {VARIABLE}, such as by `openssl rand -hex 32`"
        )
    return server


def _nothing() -> None:
    """The end of a claim that nobody has to wait for."""


class _Memory:
    """Entries in the order of their last use, bounded in bytes. Its owner has the lock."""

    def __init__(self, max_bytes: int) -> None:
        self.entries: dict[str, CacheEntry] = {}
        self.bytes = 0
        self._max_bytes = max_bytes

    def get(self, key: str) -> CacheEntry | None:
        """The entry, which is now the last used."""
        entry = self.entries.pop(key, None)
        if entry is not None:
            self.entries[key] = entry
        return entry

    def put(self, entry: CacheEntry) -> None:
        """Keep it, and drop the least recently used beyond the limit."""
        if entry.key in self.entries:
            self.drop(entry.key)
        size = _bytes_of(entry)
        if size > self._max_bytes:
            return
        self.entries[entry.key] = entry
        self.bytes += size
        while self.bytes > self._max_bytes:
            self.drop(next(iter(self.entries)))

    def drop(self, key: str) -> bool:
        """Whether it was there."""
        entry = self.entries.pop(key, None)
        if entry is not None:
            self.bytes -= _bytes_of(entry)
        return entry is not None

    def clear(self) -> None:
        """Drop everything."""
        self.entries.clear()
        self.bytes = 0


def key_of(agent_name: str, task: str, model: str, fingerprint: str) -> str:
    """The key of `get` and `set`: SHA-256, in hex, over the parts with their lengths: none can run into another.

    Raises `TaskError` for a text that is no Unicode.
    """
    try:
        return hashlib.sha256(_encode((KEY_VERSION, agent_name, task, model, fingerprint))).hexdigest()
    except UnicodeEncodeError as error:
        raise TaskError(f"the task for {agent_name!r} holds half a character; read it as UTF-8") from error


def _opened(sealer: Sealer, stored: Stored) -> CacheEntry | ForgedError | UnreadableError:
    """The entry that lies there, or why it is none."""
    try:
        entry = _decode(sealer.unseal(stored.key, stored.sealed))
    except (ForgedError, UnreadableError) as error:
        return error
    except msgspec.MsgspecError as error:
        return UnreadableError(str(error))  # signed by us, so written by a version that says it differently
    return entry if entry.key == stored.key else ForgedError()


def _bytes_of(entry: CacheEntry) -> int:
    response, task = entry.response, entry.task
    return (
        _RECORD_BYTES
        + len(response) * (1 if response.isascii() else _WIDE_BYTES)
        + len(task) * (1 if task.isascii() else _WIDE_BYTES)
    )


def _rate(hits: int, misses: int) -> str:
    return f"{hits / (hits + misses or 1):.1%}"


_BATCH = 200  # entries that are removed in one transaction: others can write in between

_ALIVE: "weakref.WeakSet[ResponseCache]" = weakref.WeakSet()


def _after_fork() -> None:
    """A child has its own connections and locks: a thread that held one is not in it."""
    for cache in _ALIVE:
        cache._after_fork()  # noqa: SLF001 - its own module


os.register_at_fork(after_in_child=_after_fork)
