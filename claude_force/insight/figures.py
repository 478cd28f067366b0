"""The figures of executions: `Costs`, what was spent and saved, and `Figures`, how it went as well.

Lines are added many at once, and column by column: a call for each line and figure would take longer than to read them.
Each goes to the figures at its *place*, so that the lines need not be divided before.
What was added apart can be merged, so figures are the same however the lines were divided. Sums are exact: money is
`Decimal`, and times are whole microseconds.
"""

import itertools
from collections import Counter
from decimal import Decimal
from operator import mul
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec.structs import astuple

from claude_force.base.records import Savings
from claude_force.insight.ledger import ShortLine, are_costs, are_money
from claude_force.insight.sketch import Sketch, add_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PERCENTILES = (50, 75, 90, 95, 99)
_FREE = Decimal(0)
_SUM_DIGITS = 24
"""Before the point: more than as many lines as there can be of the dearest one come to."""

INTERRUPTED = "Interrupted"
Columns = dict[str, tuple[Any, ...]]
"""What lines say of each field of a `ShortLine`, in their order."""


def columns_of(lines: "Iterable[ShortLine]") -> Columns:
    """Those of these lines."""
    columns = tuple(zip(*map(astuple, lines), strict=True)) or itertools.repeat(())
    return dict(zip(ShortLine.__struct_fields__, columns, strict=False))


def are_sound(columns: Columns) -> bool:
    """Whether all costs are, as `ShortLine.is_sound` has it."""
    costs = (_known(columns[name]) for name in ("estimated_cost", "saved_cost"))
    saved = (_known(columns[name]) for name in ("prompt_cache_saved", "routing_saved"))
    return all(map(are_costs, costs)) and all(map(are_money, saved))


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
        amounts = [getattr(self, name) for name in self.__struct_fields__ if name.endswith("_usd")]
        if not are_money(amounts, digits=_SUM_DIGITS):
            raise ValueError("it has a sum of money that is none")

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
    def saved_usd(self) -> Decimal:
        """By all of these together."""
        by_caches = self.saved_by_cache_usd + self.saved_by_prompt_cache_usd
        return by_caches + self.saved_by_routing_usd + self.saved_by_batch_usd

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

    def merge(self, other: "Figures") -> None:
        """Count what the other one has counted, too."""
        self.costs.merge(other.costs)
        self.interrupted += other.interrupted
        self.error_types.update(other.error_types)
        self.times_ms.merge(other.times_ms)
        self.total_time_us += other.total_time_us

    @property
    def ended(self) -> int:
        """How many came to an end of their own."""
        return self.costs.executions - self.interrupted

    @property
    def failed(self) -> int:
        """How many of these did so without a whole answer."""
        return self.error_types.total()

    @property
    def error_rate(self) -> float | None:
        """Of those that came to an end of their own; `None` where there was none."""
        return self.failed / self.ended if self.ended else None

    @property
    def success_rate(self) -> float | None:
        """Of these, too."""
        return 1 - self.failed / self.ended if self.ended else None

    @property
    def hit_rate(self) -> float | None:
        """The share that an earlier answer served; `None` where there was none."""
        return self.costs.cached / self.costs.executions if self.costs.executions else None

    def percentile_ms(self, percent: int) -> float | None:
        """The time that so many percent did not take longer than, within 1 %."""
        return self.times_ms.quantile(percent / 100)


def add_costs(
    costs: "Sequence[Costs]", places: "Sequence[int]", columns: Columns, *, repriced: "Sequence[Priced] | None" = None
) -> None:
    """Count each execution in the one of `costs` at its place; `repriced` has other prices for them."""
    prices, by_prompt_cache = columns["estimated_cost"], columns["prompt_cache_saved"]
    if repriced is not None:
        prices, by_prompt_cache = zip(*repriced, strict=True)
    batches = columns["batch_id"]
    added: dict[str, Sequence[Any]] = {
        "executions": (1,) * len(places),
        "failures": [not success for success in columns["success"]],
        "cached": columns["cached"],
        "input_tokens": columns["input_tokens"],
        "cache_read_tokens": columns["cache_read_tokens"],
        "cache_write_tokens": columns["cache_write_tokens"],
        "output_tokens": columns["output_tokens"],
        "cost_usd": prices,
        "unpriced": [price is None for price in prices],
        "saved_by_cache_usd": columns["saved_cost"],
        "saved_by_prompt_cache_usd": by_prompt_cache,
        "saved_by_routing_usd": columns["routing_saved"],
        "saved_by_batch_usd": [price if batch else None for price, batch in zip(prices, batches, strict=True)],
    }
    for name, values in added.items():
        _add_up(costs, name, places, values)


def add_figures(figures: "Sequence[Figures]", places: "Sequence[int]", columns: Columns) -> None:
    """Count each execution in the one of `figures` at its place."""
    add_costs([each.costs for each in figures], places, columns)
    times_ms = columns["execution_time_ms"]
    _add_up(figures, "total_time_us", places, list(map(float.__round__, map(mul, times_ms, itertools.repeat(1000)))))
    ends = columns["success"], columns["error_type"], columns["cached"]
    if not all(ends[0]) or any(ends[1]) or any(ends[2]):
        asked = []
        for place, success, error_type, cached in zip(places, *ends, strict=True):
            asked.append(success and error_type != INTERRUPTED and not cached)
            if error_type == INTERRUPTED:
                figures[place].interrupted += 1
            elif not success:
                figures[place].error_types[error_type or "unknown"] += 1
        places, times_ms = list(itertools.compress(places, asked)), tuple(itertools.compress(times_ms, asked))
    add_numbers([each.times_ms for each in figures], places, times_ms)


def _add_up(owners: "Sequence[Costs | Figures]", name: str, places: "Sequence[int]", values: "Sequence[Any]") -> None:
    if not any(values):  # as of most fields
        return
    sums = [0] * len(owners)
    for place, value in zip(places, values, strict=True):
        if value:
            sums[place] += value
    for owner, more in zip(owners, sums, strict=True):
        if more:  # what is nothing is not written down, so it must stay as it is
            setattr(owner, name, getattr(owner, name) + more)


def _known(money: "Iterable[Decimal | None]") -> list[Decimal]:
    return [amount for amount in money if amount is not None]
