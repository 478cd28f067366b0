"""Chance from a seed: the same request gets the same numbers in every run, in whatever order requests arrive."""

from collections import OrderedDict
from hashlib import blake2b

MAX_REMEMBERED = 100_000  # requests whose repetitions are counted; some 20 MB


class Dice:
    """The chance of one request."""

    __slots__ = ("_key", "fingerprint")

    def __init__(self, key: bytes, fingerprint: str) -> None:
        self._key = key
        self.fingerprint = fingerprint
        """The same for each repetition of a request."""

    def roll(self, name: str, /) -> float:
        """A number in [0, 1)."""
        return int.from_bytes(blake2b(name.encode(), key=self._key, digest_size=6).digest(), "big") / 2**48

    def name(self, kind: str) -> str:
        """An id such as `msg_sim_9f0c...`, of its own for each repetition."""
        return f"{kind}_sim_{blake2b(kind.encode(), key=self._key, digest_size=10).hexdigest()}"


class DiceBox:
    """Hands out the dice of each request. Called by the server's thread only."""

    def __init__(self, seed: int) -> None:
        self._seed = blake2b(str(seed).encode(), digest_size=16).digest()
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def dice_for(self, method: str, path: str, body: bytes) -> Dice:
        """The dice of this request, and of this repetition of it."""
        same = blake2b(f"{method} {path}\n".encode() + body, key=self._seed, digest_size=16).digest()
        times = self._seen[same] = self._seen.get(same, 0) + 1
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        return Dice(blake2b(b"%d" % times, key=same, digest_size=16).digest(), same.hex()[:8])
