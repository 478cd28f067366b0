"""Prompt caching: what a request shares with others, whether marking it pays, and who goes first where many share it.

The API keeps a prefix that is marked, and others can read it once the answer to the first request has begun: until
then, each request that carries the mark pays for writing it. So of the turns that share a long prefix, one goes first,
marked, and the others wait for its first event, for a bounded time; those for which that is not worth it, or not
possible, go at once without a mark, as a plain prefix is cheaper than a second write.

A prefix is marked where it will be read: by turns that wait, by others of the same batch or run that are still to come,
or, as far as one can tell, because it was used within the last minutes. What is used once is never marked, and nothing
is that is shorter than what the model keeps.
"""

import hashlib
import threading
from typing import TYPE_CHECKING

import msgspec

from claude_force.base.models import min_cacheable_tokens
from claude_force.base.records import Caching
from claude_force.engine.outside import Signal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from claude_force.base.clock import Clock
    from claude_force.base.records import CacheTtl, Request
    from claude_force.engine.request import Others

TTL_S: "dict[CacheTtl, float]" = {"5m": 300.0, "1h": 3600.0}
# A token has some four bytes; less would take a prefix that is too short for the model for one that is long enough.
BYTES_PER_TOKEN = 4
# Below, what the others would save is worth less than the second or two for which they would wait.
WORTH_WAITING_TOKENS = 4_000
# How many prefixes are remembered; each takes half a kilobyte.
MOST_PREFIXES = 2_000


class Prefix(msgspec.Struct, frozen=True):
    """The beginning of a request, up to a place where the prompt cache can be told to keep it."""

    key: bytes
    tokens: int
    """An estimate, rather too low than too high."""
    end: int
    """How many blocks of the user message belong to it; 0 where it ends with the system's, below 0 before its end."""
    is_agents: bool = False
    """Whether every task of the agent begins with it, and no other agent's does."""


def prefixes(request: "Request") -> tuple[Prefix, ...]:
    """Those that the model would keep, the longest first. Four at most, as many as can be marked.

    Up to the task; up to the user message, with the skills that the task needs; what all tasks of the agent share; what
    all agents of the project do.
    """
    least, chars = min_cacheable_tokens(request.model), sum(map(len, request.texts[:-1]))
    if chars < least:  # no character is shorter than a byte, nor longer than a token's four
        return ()
    digest = hashlib.blake2b(f"{request.model}\0".encode(), digest_size=16)
    tokens, found = 0, []
    parts = [(text,) for text in request.system] + ([request.skills] if request.skills else [])
    end = -len(request.system) - len(request.skills)
    for number, texts in enumerate(parts, 1):
        tokens += _add(digest, texts)
        end += len(texts)
        found.append(Prefix(digest.digest(), tokens, end, is_agents=number == len(request.system)))
    if request.prompt[1:]:
        # What else is sent is part of a prefix that reaches into the messages.
        tokens += _add(digest, request.prompt[:-1])
        digest.update(f"{request.effort}\0{request.output_schema}".encode())
        found.append(Prefix(digest.digest(), tokens, len(request.prompt) - 1))
    return tuple(prefix for prefix in reversed(found) if prefix.tokens >= least)


def _add(digest: "hashlib.blake2b", texts: "Iterable[str]") -> int:
    """Take them in, each with its length, so that none can run into the next; gives their tokens."""
    tokens = 0
    for text in texts:
        data = text.encode()
        digest.update(b"%d\0" % len(data))
        digest.update(data)
        tokens += -(-len(data) // BYTES_PER_TOKEN)
    return tokens


class Place(msgspec.Struct, eq=False):
    """One attempt's part: what it may share, and, once that is decided, what it asks the prompt cache to keep."""

    prefixes: tuple[Prefix, ...]
    """The longest first."""
    thread: int
    is_blocking: bool
    caching: Caching | None = None
    called: Signal = msgspec.field(default_factory=Signal)
    """Raised when it is worth deciding again."""
    sent_at_s: float = 0.0
    shared_tokens: int = 0
    """With which others began as well: what could be read, were it there."""
    waits_for: "Place | None" = None
    """Who goes first."""


class _Entry(msgspec.Struct):
    """One prefix, as far as this process knows."""

    present: int = 0
    """Turns that are here with it, from before they are sent until they have ended."""
    used_at_s: float = float("-inf")
    """When one with it was last answered."""
    warm_until_s: float = float("-inf")
    leader: Place | None = None
    """Who goes first, until its answer has begun."""
    waiting: dict[Place, None] = msgspec.field(default_factory=dict)


class Warmth:
    """Which prefixes the prompt cache has, and who is about to put one there. For all threads and tasks of a process.

    Every method returns at once: a turn asks `try_send` until it may go.
    """

    def __init__(self, clock: "Clock") -> None:
        self._clock = clock
        self._lock = threading.Lock()  # protects the dict, its entries, and what its places wait for
        self._entries: dict[bytes, _Entry] = {}

    def join(self, request: "Request", *, is_blocking: bool) -> Place | None:
        """A place for an attempt that will be sent, to be left when it has ended; `None` where nothing can be kept."""
        found = prefixes(request)
        if not found:
            return None
        with self._lock:
            for prefix in found:
                self._entries.setdefault(prefix.key, _Entry()).present += 1
        return Place(found, threading.get_ident(), is_blocking)

    def is_warm(self, place: Place) -> bool:
        """Whether others had all of it kept that can be."""
        with self._lock:
            return self._clock.monotonic() < self._entries[place.prefixes[0].key].warm_until_s

    def try_send(self, place: Place, *, others: "Others", ttl: "CacheTtl", can_wait: bool, is_late: bool) -> bool:
        """Whether it may be sent now, with its `caching`; else its signal says when to try again.

        `others` have the same system blocks. Who can wait, and has done so for too long, `is_late`.
        """
        with self._lock:
            now_s = self._clock.monotonic()
            shared = self._shared(place, now_s, others=others, can_wait=can_wait)
            place.shared_tokens = shared[0].tokens if shared else 0
            entry = self._entries[shared[0].key] if shared else _Entry()
            leader = entry.leader
            # Whom one has waited for in vain does not lead any more: the first that notices goes in its stead.
            is_stuck = is_late and leader is place.waits_for
            if leader is not None and now_s >= entry.warm_until_s and not is_stuck:
                is_own_thread = place.is_blocking and leader.thread == place.thread  # it would wait for itself
                if can_wait and not is_late and _is_long(shared[0]) and not is_own_thread:
                    place.called, place.waits_for = Signal(), leader
                    entry.waiting[place] = None
                    return False
                shared = [prefix for prefix in shared if now_s < self._entries[prefix.key].warm_until_s]
            self._send(place, shared, ttl, now_s)
        return True

    def begun(self, place: Place) -> None:
        """Its answer has begun: from now on others can read what it had kept."""
        with self._lock:
            called = self._begun(place)
        _call(called)

    def leave(self, place: Place, *, has_answer: bool) -> None:
        """Its attempt has ended, however; without an answer, the next one goes first."""
        with self._lock:
            called = self._begun(place) if has_answer else []
            for prefix in place.prefixes:
                entry = self._entries[prefix.key]
                entry.present -= 1
                if has_answer:
                    entry.used_at_s = self._clock.monotonic()
                entry.waiting.pop(place, None)
                if entry.leader is place:
                    entry.leader = None
                if entry.leader is None:  # the one that was called may have been this one
                    called += list(entry.waiting)[:1]
            if len(self._entries) > MOST_PREFIXES:
                self._forget()
        _call(called)

    # ------------------------------------------------------------ under the lock

    def _shared(self, place: Place, now_s: float, *, others: "Others", can_wait: bool) -> "list[Prefix]":
        """The longest prefix that others will read, and what it begins with, which is marked for nothing.

        Those who are here now only read it where they wait for it.
        """
        for number, prefix in enumerate(place.prefixes):
            entry = self._entries[prefix.key]
            pays = now_s < max(entry.used_at_s + TTL_S["5m"], entry.warm_until_s)
            pays |= others == "to_come" and prefix.is_agents
            if can_wait and _is_long(prefix):
                pays |= entry.present > 1 or (others == "here" and prefix.is_agents)
            if pays:
                return list(place.prefixes[number:])
        return []

    def _send(self, place: Place, marked: "Sequence[Prefix]", ttl: "CacheTtl", now_s: float) -> None:
        place.sent_at_s = now_s
        for prefix in place.prefixes:
            entry = self._entries[prefix.key]
            entry.waiting.pop(place, None)
        if not marked:
            return
        first = self._entries[marked[0].key]
        is_warm = now_s < first.warm_until_s
        if not is_warm:
            for prefix in marked:
                self._entries[prefix.key].leader = place
        ends = tuple(sorted(prefix.end for prefix in marked))
        place.caching = Caching(ends, ttl, None if is_warm else lambda: self.begun(place))

    def _begun(self, place: Place) -> list[Place]:
        """Those that wait for it."""
        called: list[Place] = []
        caching = place.caching
        if caching is None:
            return called
        for prefix in place.prefixes:
            if prefix.end in caching.ends:
                entry = self._entries[prefix.key]
                entry.warm_until_s = max(entry.warm_until_s, place.sent_at_s + TTL_S[caching.ttl])
                if entry.leader is place:
                    entry.leader = None
                called += entry.waiting
        return called

    def _forget(self) -> None:
        """The half that nobody uses any more, or not for the longest time."""
        idle = sorted((entry.used_at_s, key) for key, entry in self._entries.items() if not entry.present)
        for _, key in idle[: MOST_PREFIXES // 2]:
            del self._entries[key]


def _is_long(prefix: Prefix) -> bool:
    return prefix.tokens >= WORTH_WAITING_TOKENS


def _call(places: "Iterable[Place]") -> None:
    for place in places:
        place.called.fire()
