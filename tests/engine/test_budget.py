"""A budget that is never passed: no bill within a request's bounds is higher than its worst case."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.base.config import Config
from claude_force.base.models import CURRENT
from claude_force.base.pricing import ModelPrice, Prices
from claude_force.base.records import AgentDefinition, Material, Request
from claude_force.base.usage import Usage
from claude_force.engine.budget import (
    FRAME_TOKENS,
    SCHEMA_FRAME_TOKENS,
    SCHEMA_GROWTH,
    Extent,
    extent_of,
    request_usd,
    worst_case_usd,
)
from claude_force.engine.request import Task, build_request

DAY = datetime(2026, 11, 20, tzinfo=UTC)
MODELS = st.sampled_from([*CURRENT.values(), "claude-sonnet-4-5"])
PRICES = Prices()


def up_to(most: int) -> st.SearchStrategy[int]:
    """Any number of so many, and often all of them: that is where a bound is too low."""
    return st.just(most) | st.integers(0, most)


@st.composite
def bills(draw: st.DrawFn) -> tuple[Extent, int, list[tuple[str, Usage]]]:
    """An extent, so many attempts, and what each attempt of each model may use within it."""
    models = draw(st.lists(MODELS, min_size=1, max_size=3, unique=True))
    extent = Extent(tuple(models), draw(st.integers(0, 500_000)), draw(st.integers(1, 100_000)))
    attempts = draw(st.integers(1, 4))
    used = []
    for model in models:
        for _ in range(draw(up_to(attempts))):
            prompt = draw(up_to(extent.prompt_tokens))
            second = draw(up_to(prompt) | st.just(0))
            first = draw(up_to(second))
            output = draw(up_to(extent.output_tokens))
            usage = Usage(
                input_tokens=first,
                cache_read_tokens=second - first,
                cache_write_5m_tokens=prompt - second,
                output_tokens=output,
            )
            used.append((model, usage))
    return extent, attempts, used


@given(bills())
def test_no_bill_is_higher(case: tuple[Extent, int, list[tuple[str, Usage]]]) -> None:
    """Whatever the models, the retries, the price bands and the luck with the prompt cache."""
    extent, attempts, used = case
    worst = worst_case_usd(extent, PRICES, DAY, attempts=attempts)
    costs = [PRICES.cost_usd(model, usage, DAY) for model, usage in used]
    assert worst is not None
    assert sum((cost for cost in costs if cost is not None), Decimal(0)) <= worst
    assert None not in costs


def test_the_worst_case_can_happen() -> None:
    """It is a price and no fancy: a prompt that is written to the prompt cache, and all of the output, each time."""
    price = ModelPrice(input=Decimal(2), output=Decimal(10), cache_write_5m=Decimal("2.5"), cache_write_1h=Decimal(4))
    prices = Prices({"m": price})
    extent = Extent(("m",), 1_000_000, 100_000)
    assert worst_case_usd(extent, prices, DAY, attempts=3) == 3 * (Decimal("2.5") + 1)
    assert worst_case_usd(extent, prices, DAY, attempts=1, ttl="1h") == 4 + 1
    asked = Request(model="m", system=(), prompt=("x" * (1_000_000 - FRAME_TOKENS),), max_tokens=100_000)
    assert request_usd(asked, prices, DAY, inference_geo="us") == Decimal("1.1") * (Decimal("2.5") + 1)
    assert request_usd(asked, prices, DAY, inference_geo=None, ttl="1h") == 4 + 1


@pytest.mark.parametrize("models", [("nobody",), ("claude-haiku-5-5", "nobody"), ("half",)])
def test_one_unknown_price_is_enough(models: tuple[str, ...]) -> None:
    """Where one model, or one rate that may be needed, has no price, there is no worst case."""
    prices = Prices({"half": ModelPrice(input=Decimal(1), output=Decimal(1))})
    assert worst_case_usd(Extent(models, 10, 10), prices, DAY, attempts=1) is None


@given(task=st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1).filter(str.strip))
def test_every_byte_counts(task: str) -> None:
    """The agent's prompt, the fenced material and the task are all in the extent, by their bytes."""
    agent = AgentDefinition(name="a", description="A.", prompt="You are \N{HEAVY BLACK HEART}.", model="haiku")
    asked = Task(
        agent_name="a",
        text=task,
        materials=(Material("f", "x = 1"),),
        max_tokens=7,
        fallback_models=("opus",),
        inference_geo="us",
    )
    prepared = build_request(asked, agent, Config(), {})
    extent = extent_of(prepared)
    texts = (*prepared.request.system, *prepared.request.prompt)
    assert extent.models == ("claude-haiku-5-5", "claude-opus-5-5")
    assert extent.prompt_tokens == len("".join(texts).encode()) + FRAME_TOKENS * len(texts)
    assert (extent.output_tokens, extent.inference_geo) == (7, "us")


def test_a_schema_is_paid_too() -> None:
    """It is part of the prompt, with what is added to it on the way."""
    agent = AgentDefinition(name="a", description="A.", prompt="You are kind.", model="haiku")
    plain, schema = (
        extent_of(build_request(Task(agent_name="a", text="x", output_schema=each), agent, Config(), {}))
        for each in (None, {"type": "object"})
    )
    added = SCHEMA_GROWTH * len('{"type":"object"}') + SCHEMA_FRAME_TOKENS
    assert schema.prompt_tokens == plain.prompt_tokens + added
