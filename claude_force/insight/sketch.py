"""Quantiles of many numbers in little memory: `Sketch`, which can be merged and written down.

The DDSketch of Masson, Rim and Lee (VLDB 2019): positive numbers are counted in buckets whose bounds grow by the same
factor, so every quantile is within `ACCURACY` of the true one, however the numbers lie; a day has some 500 buckets.
"""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from operator import truediv

import msgspec

ACCURACY = 0.01
"""Relative, of every quantile."""
_GROWTH = (1 + ACCURACY) / (1 - ACCURACY)
# Of 2, which Python takes in half the time of others.
_LOG_GROWTH = math.log2(_GROWTH)


class Sketch(msgspec.Struct):
    """Counts of numbers from 0 on.

    Example:
        >>> sketch = Sketch()
        >>> sketch.add(*range(1, 1001))
        >>> round(sketch.quantile(0.5)), round(sketch.quantile(0.99))
        (498, 983)
    """

    buckets: Counter[int] = msgspec.field(default_factory=Counter)
    zeros: int = 0

    @property
    def count(self) -> int:
        """How many numbers there were."""
        return self.zeros + self.buckets.total()

    def add(self, *numbers: float) -> None:
        """Count these; what is below 0, as of a clock that was set back, is 0."""
        add_numbers((self,), (0,) * len(numbers), numbers)

    def merge(self, other: "Sketch") -> None:
        """Count what the other one has counted, too."""
        self.buckets.update(other.buckets)
        self.zeros += other.zeros

    def count_up_to(self, bound: float) -> int:
        """How many were not above the bound; those within 2 % of it may be on either side."""
        last = math.ceil(math.log2(bound) / _LOG_GROWTH)
        return self.zeros + sum(count for bucket, count in self.buckets.items() if bucket <= last)

    @property
    def sum(self) -> float:
        """Of all numbers, within `ACCURACY`."""
        return math.fsum(_middle(bucket) * count for bucket, count in self.buckets.items())

    def quantile(self, share: float) -> float | None:
        """The number that this share of all is not above; `None` where there is none."""
        rank = share * (self.count - 1)
        if rank < 0:
            return None
        seen = self.zeros
        if seen > rank:
            return 0.0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen > rank:
                return _middle(bucket)
        raise AssertionError("the last bucket ends the count")


def add_numbers(sketches: Sequence[Sketch], places: Sequence[int], numbers: Sequence[float]) -> None:
    """Count each number in the sketch at its place; there may be millions."""
    is_positive = [number > 0 for number in numbers]
    if not all(is_positive):
        for place, is_own in zip(places, is_positive, strict=True):
            sketches[place].zeros += not is_own
        places, numbers = list(itertools.compress(places, is_positive)), list(itertools.compress(numbers, is_positive))
    buckets = map(math.ceil, map(truediv, map(math.log2, numbers), itertools.repeat(_LOG_GROWTH)))
    found: list[list[int]] = [[] for _ in sketches]
    for place, bucket in zip(places, buckets, strict=True):
        found[place].append(bucket)
    for sketch, own in zip(sketches, found, strict=True):
        sketch.buckets.update(own)


def _middle(bucket: int) -> float:
    return 2 * _GROWTH**bucket / (_GROWTH + 1)
