"""The figures of executions: `Costs`, what was spent and saved, and `Figures`, how it went as well.

Lines are added many at once, and column by column: a call for each line and figure would take longer than to read them.
What was added apart can be merged, so figures are the same however the lines were divided. Sums are exact: money is
`Decimal`, and times are whole microseconds.
"""

import itertools
from collections import Counter
from decimal import Decimal
from operator import attrgetter, mul
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from claude_force.base.records import Savings
from claude_force.insight.ledger import is_money
from claude_force.insight.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from claude_force.insight.ledger import ShortLine

PERCENTILES = (50, 75, 90, 95, 99)
_FREE = Decimal(0)
_SUM_DIGITS = 24
"""Before the point: more than as many lines as there can be of the dearest one come to."""

INTERRUPTED = "Interrupted"
_usual = attrgetter("input_tokens", "output_tokens", "estimated_cost")
_time_ms = attrgetter("execution_time_ms")
_unusual = attrgetter(
    "success",
    "error_type",
    "cached",
    "cache_read_tokens",
    "cache_write_tokens",
    "saved_cost",
    "prompt_cache_saved",
    "routing_saved",
    "batch_id",
)
_NOTHING_UNUSUAL = (True, None, False, 0, 0, None, None, None, None)
_Unusual = list[tuple[Any, ...]] | None


def _unusual_of(lines: "Sequence[ShortLine]") -> _Unusual:
    """What few executions have; `None` where none has: one comparison of each then takes the place of nine sums."""
    found = list(map(_unusual, lines))
    return None if found.count(_NOTHING_UNUSUAL) == len(found) else found


class Priced(NamedTuple):
    """What an execution costs by a price list, and what the prompt cache saved; `None` where nobody knows."""

    cost_usd: Decimal | None
    saved_usd: Decimal | None


class Costs(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The figures of some executions. Tokens are those that the API counted, money is US dollars."""

    executions: int = 0
    failures: int = 0
    """Those without a whole answer; they may have been billed."""
    cached: int = 0
    """Answered by the response cache, or by a call that another turn made."""
    input_tokens: int = 0
    """Prompt tokens that the prompt cache had no part in."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = _FREE
    """Of those that have a price."""
    unpriced: int = 0
    """How many have none, because nobody knows their tokens, or the price of their model."""
    saved_by_cache_usd: Decimal = _FREE
    """What cached answers had cost."""
    saved_by_prompt_cache_usd: Decimal = _FREE
    """Against the same tokens without it; below 0 where more was written than read."""
    saved_by_routing_usd: Decimal = _FREE
    """Against the same tokens by the model that would have been asked; below 0 where a dearer one was needed."""
    saved_by_batch_usd: Decimal = _FREE
    """By message batches, which cost half as much."""

    def __post_init__(self) -> None:
        """Refuse what a file of figures cannot have from us."""
        amounts = (getattr(self, name) for name in self.__struct_fields__ if name.endswith("_usd"))
        if not all(is_money(amount, digits=_SUM_DIGITS) for amount in amounts):
            raise ValueError("it has a sum of money that is none")

    def add(self, lines: "Sequence[ShortLine]", *, repriced: "Sequence[Priced] | None" = None) -> None:
        """Count these executions, at least one; `repriced` has other prices for them, in their order."""
        self.add_columns(lines, _unusual_of(lines), repriced)

    def add_columns(
        self, lines: "Sequence[ShortLine]", unusual: _Unusual, repriced: "Sequence[Priced] | None" = None
    ) -> None:
        """The same, for `Figures`, which has looked for what is unusual already."""
        inputs, outputs, costs = zip(*map(_usual, lines), strict=True)
        if repriced is not None:
            costs = tuple(price.cost_usd for price in repriced)
            self.saved_by_prompt_cache_usd += _total(price.saved_usd for price in repriced)
        known = [cost for cost in costs if cost is not None]
        self.executions += len(lines)
        self.input_tokens += sum(inputs)
        self.output_tokens += sum(outputs)
        self.cost_usd += sum(known, _FREE)
        self.unpriced += len(lines) - len(known)
        if unusual is None:
            return
        successes, _, cached, reads, writes, by_cache, by_prompt_cache, by_routing, batches = zip(*unusual, strict=True)
        self.failures += successes.count(False)
        self.cached += cached.count(True)
        self.cache_read_tokens += sum(reads)
        self.cache_write_tokens += sum(writes)
        self.saved_by_cache_usd += _total(by_cache)
        self.saved_by_prompt_cache_usd += _total(by_prompt_cache if repriced is None else ())
        self.saved_by_routing_usd += _total(by_routing)
        self.saved_by_batch_usd += _total(itertools.compress(costs, batches))

    def merge(self, other: "Costs") -> None:
        """Count what the other one has counted, too."""
        for name in self.__struct_fields__:
            if more := getattr(other, name):  # what is nothing is not written down, so it must stay as it is
                setattr(self, name, getattr(self, name) + more)

    @property
    def prompt_tokens(self) -> int:
        """Whole prompts, cached at the API or not."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def savings(self) -> Savings:
        """What was saved, where it is known."""
        return Savings(
            cache_usd=self.saved_by_cache_usd,
            prompt_cache_usd=self.saved_by_prompt_cache_usd,
            routing_usd=self.saved_by_routing_usd,
            batch_usd=self.saved_by_batch_usd,
        )


class Figures(msgspec.Struct, kw_only=True):
    """The figures of some executions."""

    costs: Costs = msgspec.field(default_factory=Costs)
    interrupted: int = 0
    """Those that the user ended, which are neither a success nor a failure."""
    error_types: Counter[str] = msgspec.field(default_factory=Counter)
    """Why the others failed."""
    times_ms: Sketch = msgspec.field(default_factory=Sketch)
    """Whole turns, waits included, of those for which a model was asked and that had a whole answer."""
    total_time_us: int = 0
    """Of all, in microseconds."""

    def add(self, *lines: "ShortLine") -> None:
        """Count these executions."""
        unusual = _unusual_of(lines)
        self.costs.add_columns(lines, unusual)
        times = list(map(_time_ms, lines))
        self.total_time_us += sum(map(round, map(mul, times, itertools.repeat(1000))))
        if unusual is None:
            self.times_ms.add(*times)
            return
        ends = [(success, error_type, cached) for success, error_type, cached, *_ in unusual]
        for (success, error_type, _), executions in Counter(ends).items():
            if error_type == INTERRUPTED:
                self.interrupted += executions
            elif not success:
                self.error_types[error_type or "unknown"] += executions
        asked = (success and error_type != INTERRUPTED and not cached for success, error_type, cached in ends)
        self.times_ms.add(*itertools.compress(times, asked))

    def merge(self, other: "Figures") -> None:
        """Count what the other one has counted, too."""
        self.costs.merge(other.costs)
        self.interrupted += other.interrupted
        self.error_types.update(other.error_types)
        self.times_ms.merge(other.times_ms)
        self.total_time_us += other.total_time_us

    @property
    def success_rate(self) -> float | None:
        """Of those that came to an end of their own; `None` where there was none."""
        ended = self.costs.executions - self.interrupted
        return 1 - self.error_types.total() / ended if ended else None

    @property
    def hit_rate(self) -> float | None:
        """The share that an earlier answer served; `None` where there was none."""
        return self.costs.cached / self.costs.executions if self.costs.executions else None

    def percentile_ms(self, percent: int) -> float | None:
        """The time that so many percent did not take longer than, within 1 %."""
        return self.times_ms.quantile(percent / 100)


def _total(money: "Iterable[Decimal | None]") -> Decimal:
    return sum(filter(None, money), _FREE)
