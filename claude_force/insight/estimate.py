"""What turns would cost, before anything is sent: `estimate` of one, `savings_of` many.

- *Prompt*: as the API has counted it, else one token for each `CHARS_PER_TOKEN` characters. Claude's tokenizer is not
  public; the figure is that of `ctok` 1.3, an unofficial reconstruction of it, for English text and code. How far the
  estimate is off by that measure: `docs/how-to/plans.md`.
- *Output*: of an answer of which nothing is known, `TYPICAL_OUTPUT` of its `max_tokens`, which is a guess.
- *Minimum*: what is cached costs nothing, the rest has a short answer. No attempt fails.
- *Expected*: each is asked once, no prompt is cached at the API, and no fallback is needed.
- *Maximum*: `engine.budget.worst_case_usd`: a token for each byte, all of `max_tokens`, every retry and fallback model
  billed.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from claude_force.base.endpoints import retries, serving
from claude_force.base.models import DEFAULT_ALIAS, resolve_model
from claude_force.base.pricing import BATCH_SHARE, saved_by_caching_usd, total_usd
from claude_force.base.records import Savings
from claude_force.base.usage import Usage
from claude_force.engine.budget import extent_of, worst_case_usd
from claude_force.engine.key import request_key
from claude_force.engine.request import build_request, named_model
from claude_force.engine.warming import prefixes
from claude_force.insight.models import past_of
from claude_force.performance_tracker import task_hash

if TYPE_CHECKING:
    from claude_force.base.ports import UseCache
    from claude_force.base.records import KeptReply, ModelRecommendation, Request
    from claude_force.engine.parts import Parts
    from claude_force.engine.request import Prepared, Task
    from claude_force.insight.choosing import Chooser

CHARS_PER_TOKEN = 2.6
"""Of the texts of this repository: agent files 2.9, docs 2.7, Python 2.6, tests 2.4."""
TYPICAL_OUTPUT = 1 / 8
"""Of 16,000 tokens, the default, that is 2,000: three pages, which a thorough review has."""
LEAST_OUTPUT_TOKENS = 50
"""Two sentences."""

Counts = Mapping[str, int]
"""How many tokens the API counts in a prompt, by the key of its request."""


class Sizes(msgspec.Struct, frozen=True):
    """How many tokens something has: at least, probably, at most (`None`: there is no bound)."""

    least: int = 0
    expected: int = 0
    most: int | None = 0

    def __add__(self, other: "Sizes") -> "Sizes":
        """Both together."""
        most = None if self.most is None or other.most is None else self.most + other.most
        return Sizes(self.least + other.least, self.expected + other.expected, most)


NOTHING = Sizes()


class TurnEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """What one turn would cost. Money is `None` where a price is not known, or there is no bound."""

    key: str
    request: "Request"
    choice: "ModelRecommendation | None"
    """The router's, where it decided."""
    kept: "KeptReply | None"
    """The answer that is there already."""
    is_counted: bool
    """Whether the API has counted the prompt, as far as it is known."""
    prompt_tokens: int
    """0 where the answer is there."""
    output: Sizes
    is_guess: bool
    """Whether nothing is known of how long the answer will be."""
    min_usd: Decimal | None
    expected_usd: Decimal | None
    max_usd: Decimal | None
    other_usd: Decimal | None
    """As `expected_usd`, with the router on where it is off, and the other way round; the answer as long."""
    skills: tuple[str, ...]
    """Those that are given in full."""
    context: tuple[str, ...]
    """The files of the project's context that are in the prompt."""
    warnings: tuple[str, ...]

    @property
    def context_tokens(self) -> int:
        """What they have in the prompt; an estimate."""
        return tokens_of(self.request.system[0]) if self.context else 0

    @property
    def output_tokens(self) -> int:
        """As expected; 0 where the answer is there."""
        return 0 if self.kept else self.output.expected

    def free(self) -> "TurnEstimate":
        """The same, where another turn pays for it."""
        nothing = dict.fromkeys(("min_usd", "expected_usd", "max_usd", "other_usd"), Decimal(0))
        return msgspec.structs.replace(self, prompt_tokens=0, output=NOTHING, is_guess=False, **nothing)


def estimated_tokens(request: "Request") -> int:
    """Of its prompt, by its characters."""
    return tokens_of(*request.texts)


def tokens_of(*texts: str) -> int:
    """Of texts, by their characters."""
    return math.ceil(sum(map(len, texts)) / CHARS_PER_TOKEN)


def kept_reply(parts: "Parts", key: str, *, agent: str, use_cache: "UseCache") -> "KeptReply | None":
    """The answer that a call would take from the cache."""
    if parts.cache is None or use_cache in {False, "refresh"}:
        return None
    return parts.cache.peek(key, agent=agent)


def estimate(
    parts: "Parts",
    prepared: "Prepared",
    *,
    key: str,
    kept: "KeptReply | None",
    output: Sizes,
    is_guess: bool,
    other_model: str,
    counts: Counts,
    more: Sizes = NOTHING,
) -> TurnEstimate:
    """What this request would cost, with a prompt that is longer by `more`."""
    request, now, prices = prepared.request, parts.clock.now(), parts.prices
    tokens = counts.get(key, estimated_tokens(request))
    geo = prepared.dearest_geo
    probably = Usage(input_tokens=tokens + more.expected, output_tokens=output.expected, inference_geo=geo)
    costs: list[Decimal | None] = [Decimal(0)] * 4
    if kept is None:
        least = Usage(input_tokens=tokens + more.least, output_tokens=output.least, inference_geo=geo)
        costs = [
            prices.cost_usd(request.model, least, now),
            prices.cost_usd(request.model, probably, now),
            None if more.most is None else billed_usd(parts, prepared, more_tokens=more.most),
            prices.cost_usd(other_model, probably, now),
        ]
    return TurnEstimate(
        key=key,
        request=request,
        choice=prepared.choice,
        kept=kept,
        is_counted=key in counts,
        prompt_tokens=0 if kept else probably.input_tokens,
        output=output,
        is_guess=is_guess and kept is None,
        min_usd=costs[0],
        expected_usd=costs[1],
        max_usd=costs[2],
        other_usd=costs[3],
        skills=prepared.skills,
        context=prepared.context,
        warnings=prepared.warnings,
    )


def billed_usd(parts: "Parts", prepared: "Prepared", *, more_tokens: int = 0) -> Decimal | None:
    """Every attempt by every model in full, the prompt longer by so many tokens."""
    extent = extent_of(prepared)
    extent = extent._replace(prompt_tokens=extent.prompt_tokens + more_tokens)
    config = parts.config
    attempts = retries(config.defaults.max_retries, serving(config.endpoints, prepared.inference_geo)) + 1
    return worst_case_usd(extent, parts.prices, parts.clock.now(), attempts=attempts)


def estimate_task(
    parts: "Parts", asked: "Task", *, chooser: "Chooser", is_routed: bool, counts: Counts
) -> TurnEstimate:
    """What a call for this task would cost; `is_routed`: whether its model is chosen where nobody names one."""
    agent = parts.agents.recall(asked.agent_name) or parts.agents.find(asked.agent_name)
    choice = None if named_model(asked, agent) else chooser.choose(asked, agent)
    prepared = build_request(
        msgspec.structs.replace(asked, choice=choice if is_routed else None), agent, parts.config, parts.aliases
    )
    request = prepared.request
    past = past_of(asked.agent_name, chooser.last(), task_hash=task_hash(asked.text))
    length = past.output_tokens.get(request.model)
    expected = math.ceil(request.max_tokens * TYPICAL_OUTPUT) if length is None else length
    key = request_key(request, server=parts.server)
    return estimate(
        parts,
        prepared,
        key=key,
        kept=kept_reply(parts, key, agent=agent.name, use_cache=asked.use_cache),
        output=Sizes(min(LEAST_OUTPUT_TOKENS, expected), expected, request.max_tokens),
        is_guess=length is None,
        other_model=other_model(parts, request.model, choice, is_routed=is_routed),
        counts=counts,
    )


def other_model(parts: "Parts", model: str, choice: "ModelRecommendation | None", *, is_routed: bool) -> str:
    """The model in place of `model` with the router on where it is off, and the other way round.

    `choice` is the router's, whether or not it counts; `None` where somebody names a model.
    """
    if choice is None:
        return model
    return resolve_model(parts.config.defaults.model or DEFAULT_ALIAS, parts.aliases).id if is_routed else choice.model


def savings_of(parts: "Parts", turns: Sequence[TurnEstimate], *, is_routed: bool) -> Savings:
    """What is saved by what is there, and would be by what is not used; each by itself.

    The prompt cache saves that at the most: each beginning that requests share is written once, and read by the others.
    """
    asked = [turn for turn in turns if turn.kept is None]
    expected, other = total_usd(turn.expected_usd for turn in asked), total_usd(turn.other_usd for turn in asked)
    without, routed = (other, expected) if is_routed else (expected, other)
    return Savings(
        cache_usd=total_usd(turn.kept.cost_usd for turn in turns if turn.kept),
        prompt_cache_usd=_prompt_cache_usd(parts, asked),
        batch_usd=None if expected is None else expected * (1 - BATCH_SHARE),
        routing_usd=None if without is None or routed is None else without - routed,
    )


def _prompt_cache_usd(parts: "Parts", asked: Sequence[TurnEstimate]) -> Decimal | None:
    found = [prefixes(turn.request) for turn in asked]
    uses = Counter(prefix.key for own in found for prefix in own)
    written: set[bytes] = set()
    saved: list[Decimal | None] = []
    for turn, own in zip(asked, found, strict=True):
        shared = next((prefix for prefix in own if uses[prefix.key] > 1), None)
        if shared is None:
            continue
        tokens = min(shared.tokens, turn.prompt_tokens)
        kind = "cache_read_tokens" if shared.key in written else "cache_write_5m_tokens"
        counts: dict[str, Any] = {"input_tokens": turn.prompt_tokens - tokens, kind: tokens}
        usage = Usage(**counts)
        saved.append(saved_by_caching_usd(parts.prices, turn.request.model, usage, parts.clock.now()))
        written.add(shared.key)
    return total_usd(saved)
