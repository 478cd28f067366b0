"""The values that pass between the rooms of the house. They hold facts and decide nothing.

All are immutable. Money is `Decimal` US dollars, tokens are counts, times are seconds unless the name says otherwise.
"""

from dataclasses import asdict
from datetime import datetime  # noqa: TC003 - an `Execution` is read from JSON, by its annotations
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Self, SupportsIndex

import msgspec

from claude_force.base.briefing import Briefing, Source
from claude_force.base.models import Tier
from claude_force.base.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Effort = Literal["low", "medium", "high", "xhigh", "max"]
CacheTtl = Literal["5m", "1h"]

_NOTHING_USD = Decimal(0)
WHOLE_STOP_REASONS = frozenset({"end_turn", "stop_sequence"})


class AgentDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """One agent file (or config entry), read and checked. Field names follow Claude Code's front matter."""

    name: str
    description: str
    prompt: str
    """The body of the file: the system prompt."""
    path: "Path | None" = None
    source: Source = "project"
    model: str | None = None
    """As written: an alias, an id, or `None` for "whatever is the default" (also written `inherit`)."""
    fallback_models: tuple[str, ...] = ()
    """Asked in this order where the model is not available; a key of ours, which Claude Code passes over."""
    effort: Effort | None = None
    inference_geo: str | None = None
    """Where the model must run; a key of ours."""
    tools: tuple[str, ...] | None = None
    """`None` means all tools, an empty tuple means none."""
    disallowed_tools: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    """Tasks for it, in a user's words; a key of ours, as `keywords` is."""
    permission_mode: str | None = None
    max_turns: int | None = None
    memory: str | None = None
    color: str | None = None
    extra: "Mapping[str, Any]" = msgspec.field(default_factory=dict)
    """Every other key of the front matter, untouched."""
    warnings: tuple[str, ...] = ()
    """What had to be repaired or guessed to read the file, each with the fix."""
    briefing: Briefing | None = None
    """What it is told beside its prompt, where it was found for a call."""


class Material(msgspec.Struct, frozen=True):
    """Text that a task is about: a file, piped input, another step's output. It is data, never instructions."""

    name: str
    text: str
    kind: str = "file"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent to the model: everything here decides the answer, and nothing else does."""

    model: str
    system: tuple[str, ...]
    """System blocks in order: what all agents of a project share, then what all tasks of this agent do; two at most."""
    prompt: tuple[str, ...]
    """Text blocks of the one user message; the task last."""
    max_tokens: int
    effort: Effort | None = None
    output_schema: str | None = None
    """The JSON schema that the answer has to fit, as JSON text; properties are answered in their order there."""
    skills: tuple[str, ...] = ()
    """System blocks that follow: the skills that this task needs."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All blocks, in the order in which they are sent."""
        return (*self.system, *self.skills, *self.prompt)


class ModelRecommendation(msgspec.Struct, frozen=True, kw_only=True):
    """The model for a task, and why this one."""

    model: str
    """The id that is asked."""
    tier: Tier | None
    """Its family; `None` for a model that is not Claude's."""
    effort: Effort | None
    """`None`: the model's own."""
    score: float | None
    """How much the task needs, from 0 to 1; `None` where a model was named and nothing had to be found out."""
    reasons: tuple[str, ...]
    """What weighs most comes first."""


class Caching(msgspec.Struct, frozen=True):
    """What the prompt cache is asked to keep of a request. It decides no answer, so it is no part of `Request`."""

    ends: tuple[int, ...]
    """Where to mark: after so many blocks of the user message, in order; 0 is the end of the system's blocks, and below
    0 so many of them before it."""
    ttl: CacheTtl = "5m"
    on_begin: "Callable[[], object] | None" = None
    """Called once the answer has begun, from any thread; its presence asks the transport to stream."""


def _both_usd(one: "Decimal | None", two: "Decimal | None") -> "Decimal | None":
    return None if one is None or two is None else one + two


class PromptCaching(msgspec.Struct, frozen=True, kw_only=True):
    """What Claude's prompt cache did for a call, or for all calls of a batch or a run. Figures can be added.

    Example:
        >>> written = PromptCaching(written_tokens=20_000, shared_tokens=20_000)
        >>> (written + PromptCaching(read_tokens=20_000, shared_tokens=20_000)).shared_tokens
        40000
    """

    read_tokens: int = 0
    written_tokens: int = 0
    shared_tokens: int = 0
    """What was possible: tokens with which other calls began as well, long enough to be kept; an estimate."""
    saved_usd: "Decimal | None" = _NOTHING_USD
    """Against the same calls without it, below 0 where what was written was not read; `None` is unpriced."""
    waited_s: float = 0.0
    """For how long a call waited for another one to write what both share; of many calls, the longest."""

    def __add__(self, other: "PromptCaching") -> "PromptCaching":
        """The figures of both."""
        return PromptCaching(
            read_tokens=self.read_tokens + other.read_tokens,
            written_tokens=self.written_tokens + other.written_tokens,
            shared_tokens=self.shared_tokens + other.shared_tokens,
            saved_usd=_both_usd(self.saved_usd, other.saved_usd),
            waited_s=max(self.waited_s, other.waited_s),
        )

    def to_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON: money is a float."""
        facts = msgspec.structs.asdict(self)
        return facts | {"saved_usd": None if self.saved_usd is None else float(self.saved_usd)}


class Savings(msgspec.Struct, frozen=True, kw_only=True):
    """What was not paid, or would not be, in US dollars; `None` is unpriced, below 0 has cost more. Can be added."""

    cache_usd: "Decimal | None" = _NOTHING_USD
    """By the response cache: what the answers that were there had cost."""
    prompt_cache_usd: "Decimal | None" = _NOTHING_USD
    """By Claude's prompt cache, against the same tokens without it."""
    routing_usd: "Decimal | None" = _NOTHING_USD
    """By the router, against the same tokens by the model that would have been asked without it."""
    batch_usd: "Decimal | None" = _NOTHING_USD
    """By message batches, which cost half as much."""

    def __add__(self, other: "Savings") -> "Savings":
        """Both together; what is unpriced in one of them is so in the sum."""
        names = self.__struct_fields__
        return Savings(**{name: _both_usd(getattr(self, name), getattr(other, name)) for name in names})

    def to_dict(self) -> dict[str, float | None]:
        """Ready for JSON."""
        return {name: None if usd is None else float(usd) for name, usd in msgspec.structs.asdict(self).items()}


class Allowance(msgspec.Struct, frozen=True):
    """One rate limit as a response states it: how much a minute, and how much of it is left now."""

    limit: int
    remaining: int


class RateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the headers of one response say about the limits of its model; `None` where they say nothing.

    Source: `anthropic-ratelimit-{requests,input-tokens,output-tokens}-{limit,remaining}`,
    https://platform.claude.com/docs/en/api/rate-limits.
    """

    seen_at_s: float
    """When the headers arrived, by the monotonic clock."""
    requests: Allowance | None = None
    input_tokens: Allowance | None = None
    output_tokens: Allowance | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What came back from the model, before anybody judged it."""

    model: str
    text: str
    stop_reason: str | None
    """`None` where a stream ended without saying why: a failure."""
    usage: Usage | None
    """`None` where the server does not count."""
    request_id: str | None = None
    refusal_category: str | None = None
    refusal_explanation: str | None = None
    simulated: bool = False
    limits: RateLimits | None = None
    ttft_s: float | None = None
    """From the moment that the request was sent to the first piece of text; `None` where it was not streamed."""


class KeptReply(msgspec.Struct, frozen=True, kw_only=True):
    """A reply that was paid for before, or by another turn."""

    reply: Reply
    cost_usd: "Decimal | None"
    """What it cost then; `None` is unpriced."""
    age_s: float = 0.0


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """A failed attempt that will be made again; handed to whoever watches the turn."""

    attempt: int
    """Which attempt failed, or could not be made because a circuit breaker was open; counted from 1."""
    max_attempts: int
    wait_s: float
    error: Exception


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One answer that the API gave, and so billed."""

    model: str
    asked_as: str
    """The model's name in the request; servers answer with a name of their own."""
    usage: Usage | None


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One turn as the ledger sees it, successful or not."""

    timestamp: "datetime"
    agent_name: str
    task: str
    model: str | None
    success: bool
    duration_ms: float
    attempts: int
    ttft_ms: float | None = None
    """Of the attempt that gave the answer: see `Reply.ttft_s`; `None` also where nothing was sent for it."""
    usage: Usage | None = None
    cost_usd: "Decimal | None" = None
    """`None` is unpriced: the model's price, or the usage, is not known."""
    calls: tuple[Call, ...] = ()
    """Every answer that is in `usage` and `cost_usd`; each is priced by its own length."""
    stop_reason: str | None = None
    request_id: str | None = None
    endpoint: str | None = None
    """Which of several answered, or was asked last, by name."""
    region: str | None = None
    """What the config says of where that is."""
    error_type: str | None = None
    simulated: bool = False
    cached: bool = False
    """Answered by what was paid for before, or by another turn."""
    cache_age_s: float | None = None
    saved_usd: "Decimal | None" = None
    """What the answer had cost; `None` where it is not known, or nothing was saved."""
    prompt_caching: PromptCaching = PromptCaching()
    routing_saved_usd: "Decimal | None" = _NOTHING_USD
    batch_saved_usd: "Decimal | None" = _NOTHING_USD
    workflow_id: str | None = None
    """The workflow's name."""
    run_id: str | None = None
    step_id: str | None = None
    batch_id: str | None = None
    """The server's id of the message batch that it was part of; `request_id` is then its `custom_id` there."""

    @property
    def savings(self) -> Savings:
        """All that was saved; a cached answer without a price has saved nobody knows what."""
        return Savings(
            cache_usd=self.saved_usd if self.cached else _NOTHING_USD,
            prompt_cache_usd=self.prompt_caching.saved_usd,
            routing_usd=self.routing_saved_usd,
            batch_usd=self.batch_saved_usd,
        )


class AgentResult(str):
    """The answer of an agent: a `str` in every way, which also knows how it came about.

    It compares, hashes, slices, pickles and copies as its text (a slice is a plain `str`).

    Example:
        >>> result = AgentResult("Looks good.", agent_name="code-reviewer", model="claude-sonnet-5-5")
        >>> result == "Looks good.", result.model, result.cost_usd
        (True, 'claude-sonnet-5-5', None)
    """

    __slots__ = (
        "agent_name",
        "attempts",
        "cache_age_seconds",
        "cached",
        "choice",
        "cost_usd",
        "data",
        "duration_ms",
        "endpoint",
        "model",
        "prompt_caching",
        "region",
        "request_id",
        "saved_usd",
        "savings",
        "simulated",
        "skills",
        "stop_reason",
        "ttft_ms",
        "usage",
        "warnings",
    )

    agent_name: str
    model: str
    choice: ModelRecommendation | None
    """Why this model, where the router chose it; `None` where somebody named one."""
    usage: Usage | None
    """Tokens as the API counted them; `None` where the server does not count."""
    cost_usd: "Decimal | None"
    """US dollars; `None` is unpriced, never free."""
    data: Any
    """The answer as a JSON value, where a schema was given; else `None`."""
    cached: bool
    """Whether it was paid for before, or by another turn: then usage is zero and it cost nothing."""
    cache_age_seconds: float | None
    saved_usd: "Decimal | None"
    """What a cached answer had cost."""
    savings: Savings
    """What was not paid thanks to the caches, the router and message batches."""
    prompt_caching: PromptCaching
    """What Claude's prompt cache did for it; all 0 where it is `cached`."""
    stop_reason: str | None
    request_id: str | None
    endpoint: str | None
    """Which of several endpoints answered, by name; `None` where there is one way to Claude, or it is `cached`."""
    region: str | None
    """What the config says of where that is."""
    duration_ms: float
    """The whole turn, waits included."""
    ttft_ms: float | None
    """Until the first text came, from when it was asked for; `None` where it was not streamed, or is `cached`."""
    attempts: int
    """Requests sent; 0 where the cache answered."""
    simulated: bool
    """True where the offline simulator answered, not a model."""
    skills: tuple[str, ...]
    """Those that were given in full, by name."""
    warnings: tuple[str, ...]

    def __new__(  # noqa: D102, PLR0913 - documented by the class and its fields, each of which it takes
        cls,
        text: str,
        /,
        *,
        agent_name: str,
        model: str,
        usage: Usage | None = None,
        cost_usd: "Decimal | None" = None,
        cached: bool = False,
        cache_age_seconds: float | None = None,
        saved_usd: "Decimal | None" = None,
        stop_reason: str | None = "end_turn",
        request_id: str | None = None,
        endpoint: str | None = None,
        region: str | None = None,
        duration_ms: float = 0.0,
        ttft_ms: float | None = None,
        attempts: int = 1,
        simulated: bool = False,
        warnings: tuple[str, ...] = (),
        prompt_caching: PromptCaching = PromptCaching(),  # noqa: B008 - immutable
        savings: Savings = Savings(),  # noqa: B008 - immutable
        data: Any = None,  # noqa: ANN401 - any JSON value
        choice: ModelRecommendation | None = None,
        skills: tuple[str, ...] = (),
    ) -> Self:
        self = super().__new__(cls, text)
        facts = locals()
        for name, set_fact in _SETTERS:
            set_fact(self, facts[name])
        return self

    @property
    def is_whole(self) -> bool:
        """True where the model came to its own end; False where `max_tokens` or the context window cut it."""
        return self.stop_reason in WHOLE_STOP_REASONS

    def to_dict(self) -> dict[str, Any]:
        """All facts with the text under `"text"`, ready for JSON: money is a float, tokens are a dict."""
        usage = self.usage and asdict(self.usage)
        facts = {name: getattr(self, name) for name in AgentResult.__slots__}
        for money in ("cost_usd", "saved_usd"):
            facts[money] = None if facts[money] is None else float(facts[money])
        made = {
            "usage": usage,
            "prompt_caching": self.prompt_caching.to_dict(),
            "savings": self.savings.to_dict(),
            "skills": list(self.skills),
            "warnings": list(self.warnings),
        }
        return {"text": str(self), **facts, **made, "choice": msgspec.to_builtins(self.choice)}

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an AgentResult is immutable: {name!r} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"an AgentResult is immutable: {name!r} cannot be removed")

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return _rebuilt, (type(self), str(self), {name: getattr(self, name) for name in AgentResult.__slots__})


# Past the class's own `__setattr__`, and in half the time that `object.__setattr__` takes to find them.
_SETTERS = tuple((name, getattr(AgentResult, name).__set__) for name in AgentResult.__slots__)


def _rebuilt(kind: type[AgentResult], text: str, facts: dict[str, Any]) -> AgentResult:
    """What pickle and copy make a result anew with, by every protocol."""
    return kind(text, **facts)
