"""What a request, and a turn, can cost at the most. Pure."""

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from claude_force.base.usage import Usage

if TYPE_CHECKING:
    from datetime import datetime

    from claude_force.base.ports import Pricer
    from claude_force.base.records import CacheTtl, Request
    from claude_force.engine.request import Prepared

# What the API counts beside our texts, such as who speaks: about 8 tokens for a short message, and some for each block.
FRAME_TOKENS = 100
# A schema is sent with more words than it was given, at most five bytes for one (`transports/output_schema.py`), and
# the API adds instructions of its own, of a length that it does not tell; those for tools have 350 to 700 tokens.
SCHEMA_GROWTH, SCHEMA_FRAME_TOKENS = 5, 1_000


class Extent(NamedTuple):
    """The most that one attempt of a turn can use, as far as its requests say."""

    models: tuple[str, ...]
    """The one that was chosen, then those to fall back to."""
    prompt_tokens: int
    output_tokens: int
    inference_geo: str | None = None
    """Where that could be, at the dearest."""


def extent_of(prepared: "Prepared") -> Extent:
    """No token is shorter than a byte of UTF-8, and thinking is part of `max_tokens`."""
    return Extent(
        models=(prepared.request.model, *(fallback.model for fallback in prepared.fallbacks)),
        prompt_tokens=_prompt_tokens(prepared.request),
        output_tokens=prepared.request.max_tokens,
        inference_geo=prepared.dearest_geo,
    )


def request_usd(
    request: "Request", prices: "Pricer", at: "datetime", *, inference_geo: str | None, ttl: "CacheTtl" = "5m"
) -> Decimal | None:
    """The most that this request can cost if it is sent once; `None` if its model has no price."""
    extent = Extent((request.model,), _prompt_tokens(request), request.max_tokens, inference_geo)
    return worst_case_usd(extent, prices, at, attempts=1, ttl=ttl)


def _prompt_tokens(request: "Request") -> int:
    texts = request.texts
    prompt_tokens = sum(len(text.encode()) for text in texts) + FRAME_TOKENS * len(texts)
    if request.output_schema is not None:
        prompt_tokens += SCHEMA_GROWTH * len(request.output_schema.encode()) + SCHEMA_FRAME_TOKENS
    return prompt_tokens


def worst_case_usd(
    extent: Extent, prices: "Pricer", at: "datetime", *, attempts: int, ttl: "CacheTtl" = "5m"
) -> Decimal | None:
    """The price of a turn where every attempt, by each of its models, is billed in full; `None` if one has no price.

    The prompt costs most where all of it is fresh, or all of it is written to the prompt cache, for as long as `ttl`
    says. A turn goes on to the next model only after its `attempts` with the one before, so all add up.
    """
    answer = Usage(output_tokens=extent.output_tokens, inference_geo=extent.inference_geo)
    prompts = (
        replace(answer, input_tokens=extent.prompt_tokens),
        replace(answer, cache_write_5m_tokens=extent.prompt_tokens)
        if ttl == "5m"
        else replace(answer, cache_write_1h_tokens=extent.prompt_tokens),
    )
    total = Decimal(0)
    for model in extent.models:
        costs = [cost for usage in prompts if (cost := prices.cost_usd(model, usage, at)) is not None]
        if len(costs) < len(prompts):
            return None
        total += max(costs) * attempts
    return total
