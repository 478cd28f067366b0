"""What an answer costs, in exact US dollars, or `None` where that is not known: never 0, never a guess.

Prices come from `genai-prices` (dated, with prompt-length bands and prompt-cache rates), which is imported at the first
priced answer and never updates itself over the network. `pricing` in the config overrides it per model.
"""

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from genai_prices.types import TieredPrices

    from claude_force.base.ports import Pricer
    from claude_force.base.usage import Usage

_MILLION = Decimal(1_000_000)
BATCH_SHARE = Decimal("0.5")
"""Of the price, where a request is part of a message batch."""
# By where the model runs, for all tokens; the API says "not_available" of models that cannot be told where to.
# Source: https://platform.claude.com/docs/en/manage-claude/data-residency.
_GEO_FACTORS = {None: Decimal(1), "global": Decimal(1), "not_available": Decimal(1), "us": Decimal("1.1")}


class ModelPrice(msgspec.Struct, frozen=True, kw_only=True):
    """US dollars per million tokens. A rate that is left out is unknown: usage that needs it is unpriced."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None

    def cost_usd(self, usage: "Usage") -> Decimal | None:
        """The price of this usage; `None` if tokens were used whose rate is not given."""
        rates = (self.input, self.output, self.cache_read, self.cache_write_5m, self.cache_write_1h)
        return _cost_usd(zip(_counts(usage), rates, strict=True))


class Prices:
    """The price list: the user's overrides first, then `genai-prices`.

    Example:
        >>> from datetime import UTC, datetime
        >>> from claude_force.base.usage import Usage
        >>> day = datetime(2026, 11, 20, tzinfo=UTC)
        >>> Prices().cost_usd("claude-haiku-5-5", Usage(input_tokens=1000, output_tokens=1000), day)
        Decimal('0.0006')
        >>> Prices().cost_usd("llama3.2:3b", Usage(input_tokens=1000), day) is None
        True
    """

    def __init__(self, overrides: "Mapping[str, ModelPrice] | None" = None) -> None:
        self._overrides = dict(overrides or {})

    def cost_usd(
        self, model: str, usage: "Usage | None", at: "datetime", *, asked_as: str | None = None
    ) -> Decimal | None:
        """The price of `usage` at the rates of the day `at`, and of the place where the model ran.

        An override may name the model as it was `asked_as`: servers answer with a name of their own.
        """
        if usage is None:
            return None
        override = self._overrides.get(model) or self._overrides.get(asked_as or model)
        cost_usd = _listed_cost_usd(model, usage, at) if override is None else override.cost_usd(usage)
        factor = _GEO_FACTORS.get(usage.inference_geo, None if override is None else Decimal(1))
        return None if cost_usd is None or factor is None else cost_usd * factor


class BatchPrices(msgspec.Struct, frozen=True):
    """What a batch costs: `BATCH_SHARE` of everything, the prompt cache as well.

    Source: https://platform.claude.com/docs/en/build-with-claude/batch-processing.
    """

    prices: "Pricer"

    def cost_usd(
        self, model: str, usage: "Usage | None", at: "datetime", *, asked_as: str | None = None
    ) -> Decimal | None:
        """See `Pricer.cost_usd`."""
        cost_usd = self.prices.cost_usd(model, usage, at, asked_as=asked_as)
        return None if cost_usd is None else cost_usd * BATCH_SHARE


def saved_by_caching_usd(
    prices: "Pricer", model: str, usage: "Usage | None", at: "datetime", *, asked_as: str | None = None
) -> Decimal | None:
    """What the prompt cache has saved, against the same tokens without it; `None` where a price or usage is not known.

    It is below 0 where more was paid for writing than was saved by reading.

    Example:
        >>> from datetime import UTC, datetime
        >>> from claude_force.base.usage import Usage
        >>> day = datetime(2026, 11, 20, tzinfo=UTC)
        >>> saved_by_caching_usd(Prices(), "claude-sonnet-5-5", Usage(cache_read_tokens=20_000), day)
        Decimal('0.038')
    """
    if usage is None:
        return None
    if usage.prompt_tokens == usage.input_tokens:
        return Decimal(0)
    plain = replace(
        usage,
        input_tokens=usage.prompt_tokens,
        cache_read_tokens=0,
        cache_write_5m_tokens=0,
        cache_write_1h_tokens=0,
    )
    paid, else_paid = (prices.cost_usd(model, tokens, at, asked_as=asked_as) for tokens in (usage, plain))
    return None if paid is None or else_paid is None else else_paid - paid


def dearest_geo(geos: "Iterable[str | None]") -> str | None:
    """Of these places, the one where the same tokens cost most; first of all one whose price is not known."""
    return max(geos, key=lambda geo: _GEO_FACTORS.get(geo, Decimal("Infinity")), default=None)


def total_usd(costs: "Iterable[Decimal | None]") -> Decimal | None:
    """The sum; `None` where a part is unpriced."""
    total = Decimal(0)
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return total


def _listed_cost_usd(model: str, usage: "Usage", at: "datetime") -> Decimal | None:
    """By the list's rates and bands, summed up here: its own sum takes 100 us, a tenth of a whole call."""
    from genai_prices import data_snapshot  # noqa: PLC0415 - 100 ms: paid at the first priced answer only

    try:
        _, info = data_snapshot.get_snapshot().find_provider_model(model, None, "anthropic", None)
    except LookupError:  # a model that is not listed
        return None
    listed = info.get_prices(at)
    needed = (
        (tokens, getattr(listed, rate)) for tokens, rate in zip(_counts(usage), _LISTED_RATES, strict=True) if tokens
    )
    return _cost_usd((tokens, _rate(price, usage.prompt_tokens)) for tokens, price in needed)


_LISTED_RATES = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")


def _counts(usage: "Usage") -> tuple[int, ...]:
    """The tokens that are priced apart, in the order of the rates."""
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_5m_tokens,
        usage.cache_write_1h_tokens,
    )


def _rate(price: "Decimal | TieredPrices | None", prompt_tokens: int) -> Decimal | None:
    """The rate of the band that a prompt of this length falls into: all of its tokens are priced by it."""
    if price is None or isinstance(price, Decimal):
        return price
    return next((tier.price for tier in reversed(price.tiers) if prompt_tokens > tier.start), price.base)


def _cost_usd(parts: "Iterable[tuple[int, Decimal | None]]") -> Decimal | None:
    """The price of so many tokens at these rates; `None` if one rate is not known, or there are less than none."""
    cost = Decimal(0)
    for tokens, rate in parts:
        if tokens < 0 or (tokens and rate is None):
            return None
        if rate is not None:
            cost += tokens * rate
    return cost / _MILLION
