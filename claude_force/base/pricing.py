"""What an answer costs, in exact US dollars, or `None` where that is not known: never 0, never a guess.

Prices come from `genai-prices` (dated, with prompt-length bands and prompt-cache rates), which is imported at the first
priced answer and never updates itself over the network. `pricing` in the config overrides it per model.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from claude_force.base.records import Usage

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrice:
    """US dollars per million tokens. A rate that is left out is unknown: usage that needs it is unpriced."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None

    def cost_usd(self, usage: "Usage") -> Decimal | None:
        """The price of this usage; `None` if tokens were used whose rate is not given."""
        lines = (
            (usage.input_tokens, self.input),
            (usage.output_tokens, self.output),
            (usage.cache_read_tokens, self.cache_read),
            (usage.cache_write_5m_tokens, self.cache_write_5m),
            (usage.cache_write_1h_tokens, self.cache_write_1h),
        )
        if any(tokens and rate is None for tokens, rate in lines):
            return None
        return sum((tokens * rate for tokens, rate in lines if rate is not None), Decimal(0)) / _MILLION


class Prices:
    """The price list: the user's overrides first, then `genai-prices`.

    Example:
        >>> from datetime import UTC, datetime
        >>> from claude_force.base.records import Usage
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
        """The price of `usage` at the rates of the day `at`.

        An override may name the model as it was `asked_as`: servers answer with a name of their own.
        """
        if usage is None:
            return None
        override = self._overrides.get(model) or self._overrides.get(asked_as or model)
        return _listed_cost_usd(model, usage, at) if override is None else override.cost_usd(usage)


def _listed_cost_usd(model: str, usage: "Usage", at: "datetime") -> Decimal | None:
    import genai_prices  # noqa: PLC0415 - 100 ms: paid at the first priced answer only

    try:
        tokens = genai_prices.Usage(
            input_tokens=usage.prompt_tokens,  # genai-prices counts the whole prompt here, the API does not
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
        )
        price = genai_prices.calc_price(tokens, model, provider_id="anthropic", genai_request_timestamp=at)
    except (LookupError, ValueError):  # a model that is not listed; counts that cannot be
        return None
    return price.total_price
