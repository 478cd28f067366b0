"""Quantiles of many numbers in little memory: `Sketch`, which can be merged and written down.

The DDSketch of Masson, Rim and Lee (VLDB 2019): positive numbers are counted in buckets whose bounds grow by the same
factor, so every quantile is within `ACCURACY` of the true one, however the numbers lie; a day has some 500 buckets.
"""

import itertools
import math
from collections import Counter
from operator import truediv

import msgspec

ACCURACY = 0.01
"""Relative, of every quantile."""
_GROWTH = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GROWTH = math.log(_GROWTH)


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
        positive = [number for number in numbers if number > 0]
        self.zeros += len(numbers) - len(positive)
        # All in C: there may be millions.
        self.buckets.update(map(math.ceil, map(truediv, map(math.log, positive), itertools.repeat(_LOG_GROWTH))))

    def merge(self, other: "Sketch") -> None:
        """Count what the other one has counted, too."""
        self.buckets.update(other.buckets)
        self.zeros += other.zeros

    def count_up_to(self, bound: float) -> int:
        """How many were not above the bound; those within 2 % of it may be on either side."""
        last = math.ceil(math.log(bound) / _LOG_GROWTH)
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


def _middle(bucket: int) -> float:
    return 2 * _GROWTH**bucket / (_GROWTH + 1)
