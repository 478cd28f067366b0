"""Who asks, on many machines: as `stores.claims`, by locks on a server that end by themselves.

A claim is a key with a time to live. While one is held, a thread of this process extends it; a process that dies
extends nothing, so another one takes over when the time is over. Whoever loses a claim all the same (a server that was
started anew, a process that stood still) pays for an answer that somebody else pays for, too, and that is all.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import msgspec

from claude_force.stores.entries import StoreError
from claude_force.stores.redis import PREFIX, RedisServer

TTL_S = 15.0
"""How long a dead process holds up the others."""
_LINGER_S = 5.0  # how long the thread stays when nothing is held: the next claim may come soon

# Not for longer than 0 ms: to let go.
_EXTEND = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end"


class _Claim(msgspec.Struct):
    """One that this process has, or is just asking for."""

    server: RedisServer
    name: str
    token: str
    ttl_s: float
    holders: list[int]
    """The threads of those who share it."""
    extend_at: float

    def extend(self, ttl_s: float) -> None:
        """Keep it for so long from now, if it is ours."""
        with suppress(StoreError):  # then it ends by itself
            self.server.run(_EXTEND, (self.name,), (self.token, int(ttl_s * 1000)))


class RedisClaims:
    """The claims of this process on the keys of one server; threads share them."""

    def __init__(self, server: RedisServer, *, ttl_s: float = TTL_S) -> None:
        self._server = server
        self._ttl_s = ttl_s

    def claim(self, key: str, *, is_blocking: bool = False) -> Callable[[], object] | None:
        """See `Claims.claim`. Raises `StoreError` where the server cannot say."""
        me, place = threading.get_ident(), (self._server.shown, key)
        with _GUARD:
            held = _HELD.get(place)
            if held is not None:
                if not is_blocking or me not in held.holders:
                    return None
                held.holders.append(me)
                return partial(_release, place, held, me)
            name, token = f"{PREFIX}claim:{key}", os.urandom(16).hex()
            claim = _HELD[place] = _Claim(self._server, name, token, self._ttl_s, [me], self._next())
        try:
            is_ours = self._server.ask(lambda client: client.set(name, token, nx=True, px=int(self._ttl_s * 1000)))
        except BaseException:
            _release(place, claim, me)  # it may have come about, where only the answer was lost
            raise
        if not is_ours:
            _drop(place, claim, me)
            return None
        _extend_what_is_held()
        return partial(_release, place, claim, me)

    def _next(self) -> float:
        return time.monotonic() + self._ttl_s / 3


_Place = tuple[str, str]
_HELD: dict[_Place, _Claim] = {}
_GUARD = threading.Condition()  # protects the dictionary, and what it holds; told when there is more
_EXTENDING: list[threading.Thread] = []  # the one that does, if any


def _drop(place: _Place, claim: _Claim, holder: int) -> bool:
    """One's share in a claim; whether it was the last."""
    with _GUARD:
        claim.holders.remove(holder)
        if not claim.holders and _HELD.get(place) is claim:
            del _HELD[place]
        return not claim.holders


def _release(place: _Place, claim: _Claim, holder: int) -> None:
    if _HELD.get(place) is claim and _drop(place, claim, holder):  # else forked meanwhile: it is the parent's
        claim.extend(0)


def _extend_what_is_held() -> None:
    """Have a thread that does so."""
    with _GUARD:
        _GUARD.notify()
        if not _EXTENDING:
            _EXTENDING.append(threading.Thread(target=_extend, name="claude-force claims", daemon=True))
            _EXTENDING[0].start()


def _extend() -> None:
    while True:
        with _GUARD:
            if not _HELD and not _GUARD.wait_for(lambda: _HELD, timeout=_LINGER_S):
                _EXTENDING.clear()
                return
            _GUARD.wait(max(min(claim.extend_at for claim in _HELD.values()) - time.monotonic(), 0))
            now = time.monotonic()
            due = [claim for claim in _HELD.values() if claim.extend_at <= now]
            for claim in due:
                claim.extend_at = now + claim.ttl_s / 3
        for claim in due:
            claim.extend(claim.ttl_s)


def _after_fork() -> None:
    """A child has none of its parent's claims, nor the thread."""
    global _GUARD  # noqa: PLW0603 - another thread may have held it
    _GUARD = threading.Condition()
    _HELD.clear()
    _EXTENDING.clear()


os.register_at_fork(after_in_child=_after_fork)
