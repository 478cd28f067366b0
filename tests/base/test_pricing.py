"""Money: exact, by the price of the day, and never a guess."""

from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.base.models import CURRENT
from claude_force.base.pricing import BatchPrices, ModelPrice, Prices, dearest_geo, saved_by_caching_usd, total_usd
from claude_force.base.usage import Usage

DAY = datetime(2026, 11, 20, tzinfo=UTC)
M = 1_000_000


@pytest.mark.parametrize(
    ("model", "usage", "cost"),
    [
        ("claude-haiku-5-5", Usage(input_tokens=1000, output_tokens=1000), "0.0006"),
        ("claude-haiku-5-5", Usage(input_tokens=100_001), "0.0500005"),
        ("claude-haiku-5-5", Usage(input_tokens=50_000, cache_read_tokens=50_001), "0.02750005"),
        ("claude-sonnet-5-5", Usage(input_tokens=M, output_tokens=M), "12"),
        ("claude-sonnet-5-5", Usage(cache_read_tokens=M), "0.1"),
        ("claude-sonnet-5-5", Usage(cache_write_5m_tokens=M), "2.5"),
        ("claude-sonnet-5-5", Usage(cache_write_1h_tokens=M), "4"),
        ("claude-opus-5-5", Usage(cache_write_1h_tokens=M, cache_write_5m_tokens=M, output_tokens=M), "33"),
        ("claude-sonnet-4-6", Usage(input_tokens=M), "3"),
    ],
)
def test_prices_are_those_of_the_list(model: str, usage: Usage, cost: str) -> None:
    """Input, output, cache reads, both kinds of cache writes and prompt-length bands are priced apart."""
    assert Prices().cost_usd(model, usage, DAY) == Decimal(cost)


COUNTS = st.integers(0, 400_000)


@given(
    model=st.sampled_from([*CURRENT.values(), "claude-sonnet-4-5", "claude-opus-4-6"]),
    counts=st.tuples(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS),
    day=st.dates(date(2026, 9, 1), date(2027, 1, 1)),
)
def test_our_sum_is_the_lists_own(model: str, counts: tuple[int, ...], day: date) -> None:
    """Whatever the model, the counts, the band and the day: to the last digit what `genai-prices` says itself."""
    fresh, read, for_5m, for_1h, output = counts
    usage = Usage(
        input_tokens=fresh,
        cache_read_tokens=read,
        cache_write_5m_tokens=for_5m,
        cache_write_1h_tokens=for_1h,
        output_tokens=output,
    )
    theirs = genai_prices.Usage(
        input_tokens=usage.prompt_tokens,
        cache_read_tokens=read,
        cache_write_tokens=for_5m + for_1h,
        cache_write_1h_tokens=for_1h,
        output_tokens=output,
    )
    noon = datetime.combine(day, time(12), UTC)
    listed = genai_prices.calc_price(theirs, model, provider_id="anthropic", genai_request_timestamp=noon)
    assert Prices().cost_usd(model, usage, noon) == listed.total_price


@pytest.mark.parametrize("model", ["llama3.2:3b", "claude-opus-9", "sonnet", ""])
def test_an_unknown_price_is_none(model: str) -> None:
    """A model that the list does not know is unpriced, not free."""
    assert Prices().cost_usd(model, Usage(input_tokens=10), DAY) is None


def test_impossible_counts_are_unpriced() -> None:
    """A server that counts backwards gives no price, and no crash."""
    assert Prices().cost_usd("claude-haiku-5-5", Usage(input_tokens=-5), DAY) is None


def test_only_anthropics_prices_are_asked() -> None:
    """A model of another company of that name on another list is not what was called."""
    assert Prices().cost_usd("gpt-4o", Usage(input_tokens=10), DAY) is None


@pytest.mark.parametrize("kind", ["input", "output", "cache_read", "cache_write_5m", "cache_write_1h"])
def test_every_kind_of_token_has_its_rate(kind: str) -> None:
    """Each rate of an override is applied to its own tokens."""
    rates = dict.fromkeys(("input", "output", "cache_read", "cache_write_5m", "cache_write_1h"), Decimal(0))
    prices = Prices({"m": ModelPrice(**(rates | {kind: Decimal(3)}))})
    every = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    usage = Usage(**{name: 10**power for power, name in enumerate(every, start=6)})
    assert prices.cost_usd("m", usage, DAY) == 3 * 10 ** [name.removesuffix("_tokens") for name in every].index(kind)


def test_an_override_may_name_what_was_asked() -> None:
    """Servers answer with a name of their own; the price of the name that was asked for holds."""
    prices = Prices({"local": ModelPrice(input=Decimal(1), output=Decimal(1))})
    assert prices.cost_usd("llama-3.2-q4.gguf", Usage(input_tokens=M), DAY, asked_as="local") == 1


def test_unknown_usage_is_unpriced() -> None:
    """A server that does not count gives no price."""
    assert Prices().cost_usd("claude-haiku-5-5", None, DAY) is None


def test_the_users_price_comes_first() -> None:
    """An override replaces the list, and a rate that it leaves out stays unknown."""
    prices = Prices({"local": ModelPrice(input=Decimal("0.1"), output=Decimal(2))})
    assert prices.cost_usd("local", Usage(input_tokens=M, output_tokens=M), DAY) == Decimal("2.1")
    assert prices.cost_usd("local", Usage(cache_read_tokens=1), DAY) is None
    assert prices.cost_usd("claude-haiku-5-5", Usage(output_tokens=M), DAY) == Decimal("0.5")


RATES = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
USAGES = st.builds(Usage, **{f"{name}_tokens": COUNTS for name in RATES})


@given(st.lists(USAGES, max_size=8))
def test_the_price_of_a_sum_is_the_sum_of_the_prices(usages: list[Usage]) -> None:
    """Where there are no bands, a batch costs half, and what the prompt cache saved adds up as well."""
    prices = Prices({"m": ModelPrice(**{name: Decimal(f"0.{place}7") for place, name in enumerate(RATES)})})
    whole = sum(usages, Usage())
    cost_usd = total_usd(prices.cost_usd("m", usage, DAY) for usage in usages)
    assert cost_usd == prices.cost_usd("m", whole, DAY)
    assert total_usd([Decimal(1), None]) is None
    assert BatchPrices(prices).cost_usd("else", whole, DAY, asked_as="m") == (cost_usd or 0) / 2
    assert BatchPrices(prices).cost_usd("else", whole, DAY) is None
    saved_usd = total_usd(saved_by_caching_usd(prices, "else", usage, DAY, asked_as="m") for usage in usages)
    assert saved_usd == saved_by_caching_usd(prices, "m", whole, DAY)


@given(model=st.sampled_from([*CURRENT.values(), "claude-sonnet-4-5"]), usage=USAGES, more=USAGES)
def test_more_never_costs_less(model: str, usage: Usage, more: Usage) -> None:
    """Whatever the kind of tokens, and whichever band of the list they come to lie in."""
    part, whole = (Prices().cost_usd(model, tokens, DAY) for tokens in (usage, usage + more))
    assert part is not None
    assert whole is not None
    assert Decimal(0) <= part <= whole


@pytest.mark.parametrize(
    ("usage", "saved"),
    [
        (Usage(input_tokens=M, output_tokens=M), "0"),
        (Usage(cache_read_tokens=M, output_tokens=M), "1.9"),
        (Usage(cache_write_5m_tokens=M), "-0.5"),
        (Usage(cache_write_1h_tokens=M, cache_read_tokens=M), "-0.1"),
    ],
)
def test_what_the_prompt_cache_saved(usage: Usage, saved: str) -> None:
    """Against the plain price of the same tokens; a write that is not read has cost."""
    assert saved_by_caching_usd(Prices(), "claude-sonnet-5-5", usage, DAY) == Decimal(saved)


def test_what_was_saved_is_unknown_where_a_price_is() -> None:
    """Never a guess; where the prompt cache had no part, it saved nothing at any price."""
    assert saved_by_caching_usd(Prices(), "llama", Usage(cache_read_tokens=1), DAY) is None
    assert saved_by_caching_usd(Prices(), "llama", None, DAY) is None
    assert saved_by_caching_usd(Prices(), "llama", Usage(input_tokens=1), DAY) == 0


def test_the_place_where_a_model_runs_has_its_price() -> None:
    """In the US all tokens cost a tenth more; of a place that nobody has a price of, only the user's own is known."""
    plain, places = Usage(input_tokens=M, output_tokens=M), (None, "global", "not_available", "us", "moon")
    own = Prices({"claude-sonnet-5-5": ModelPrice(input=Decimal(1), output=Decimal(5))})
    listed, said = (
        [prices.cost_usd("claude-sonnet-5-5", replace(plain, inference_geo=geo), DAY) for geo in places]
        for prices in (Prices(), own)
    )
    assert listed == [12, 12, 12, Decimal("13.2"), None]
    assert said == [6, 6, 6, Decimal("6.6"), 6]
    assert (dearest_geo(places), dearest_geo(["global", "us", None]), dearest_geo([])) == ("moon", "us", None)


def test_usages_of_two_places_are_of_none() -> None:
    """A sum says where the model ran only where it ran in one place."""
    here, there = (Usage(input_tokens=1, inference_geo=geo) for geo in ("us", "global"))
    assert (here + here).inference_geo == (here + Usage()).inference_geo == (Usage() + here).inference_geo == "us"
    assert (here + there).inference_geo is None
