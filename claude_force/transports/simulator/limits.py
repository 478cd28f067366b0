"""The API's rate limits: a token bucket of requests, of input and of output for each model, and headers that tell them.

1. A bucket holds `limit * burst_s / 60`, at least 1, is full at first, and refills all the time, `limit / 60` a second.
2. A request is admitted where one request, its input and one token of output are left. It takes the first two at once;
   its output is taken when the answer begins, which may leave a debt. So `max_tokens` counts nothing.
3. Input is what is not read from the prompt cache: plain tokens and cache writes, as estimated from the request; who
   has none waits for none. Where a script bills another usage, the difference is settled when the answer begins.
4. A request larger than a whole bucket waits until that is full, and leaves a debt; it would wait for ever otherwise.
5. What is not admitted takes nothing: neither from a bucket nor from the script. What is admitted and then goes wrong
   keeps its request and its input.
6. Headers tell how it stands once the request was admitted, so its own output is not in them, however late they arrive.
"""

import math
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from claude_force.base.errors import InputError
from claude_force.transports.simulator.script import ApiFault, RejectedError

if TYPE_CHECKING:
    from claude_force.base.clock import Clock
    from claude_force.base.usage import Usage

# What the headers say where nothing is limited: far above what one machine can ask.
GENEROUS = {"requests": 100_000, "input-tokens": 400_000_000, "output-tokens": 100_000_000}
ROUNDED_FROM = 100_000  # smaller limits than this are for tests, where 1,000 tokens are much: they are told exactly
CLOCK_ERROR_S = 1e-6  # what sums of floats may lose: who waits as long as was asked must not come too early


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiLimits:
    """What may be asked of each model in a minute; a request beyond it gets a 429. `None` never limits.

    Prompt tokens that are read from the prompt cache do not count, nor does `max_tokens`. A 429 says in `retry-after`,
    in whole seconds, when the request would fit. Every response to `/v1/messages` tells limits, rests and resets in
    the headers `anthropic-ratelimit-*`; from 100,000 tokens a minute on, rests are rounded to 1,000, as the API does.

    Raises `InputError` for a limit below 1, and for a burst of no length.

    Example:
        >>> ApiLimits(requests_per_minute=50, output_tokens_per_minute=10_000).burst_s
        60.0
    """

    requests_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    burst_s: float = 60.0
    """How many seconds' worth may be asked at once after a rest: 1 enforces a limit by the second."""

    def __post_init__(self) -> None:
        for field in fields(self)[:3]:
            limit = getattr(self, field.name)
            if limit is not None and not 1 <= limit < math.inf:
                raise InputError(f"{field.name} cannot be {limit!r}; give 1 or more, or None for no limit")
        if not 0 < self.burst_s < math.inf:
            raise InputError(f"burst_s cannot be {self.burst_s!r}; give seconds above 0")


class Allowance:
    """What one model may still be asked. Called by the server's thread only."""

    def __init__(self, model: str, limits: ApiLimits, clock: "Clock") -> None:
        self._model = model
        self._clock = clock
        self._requests = _Bucket("requests", limits.requests_per_minute, limits.burst_s)
        self._input = _Bucket("input-tokens", limits.input_tokens_per_minute, limits.burst_s)
        self._output = _Bucket("output-tokens", limits.output_tokens_per_minute, limits.burst_s)
        self._token_limit = self._input.limit + self._output.limit
        self._is_limited = any(bucket.is_limited for bucket in (self._requests, self._input, self._output))
        self._told: tuple[int, dict[str, str]] = (0, {})

    def admit(self, prompt: "Usage") -> None:
        """Take a request and its input; raises `RejectedError`, and takes nothing, where they do not fit yet."""
        if not self._is_limited:
            return
        now_s, tokens = self._clock.monotonic(), _counted(prompt)
        input_wait_s = self._input.wait_s(tokens, now_s) if tokens else 0.0  # who needs none pays no debt of others
        waits_s = self._requests.wait_s(1, now_s), input_wait_s, self._output.wait_s(1, now_s)
        wait_s = max(waits_s)
        if wait_s > 0:
            bucket = (self._requests, self._input, self._output)[waits_s.index(wait_s)]
            limit = f"{bucket.limit:,} {bucket.kind.replace('-', ' ')} per minute"
            retry_after = math.ceil(wait_s)
            message = f"the limit of {limit} for {self._model!r} is used up; ask again in {retry_after:,} s"
            raise RejectedError(ApiFault(429, message=message, retry_after=retry_after))
        self._requests.take(1, now_s)
        self._input.take(tokens, now_s)

    def settle(self, prompt: "Usage", billed: "Usage") -> None:
        """The answer begins: take its output, and set right what its prompt was admitted with."""
        now_s = self._clock.monotonic()
        self._input.take(_counted(billed) - _counted(prompt), now_s)
        self._output.take(billed.output_tokens, now_s)

    def headers(self) -> dict[str, str]:
        """How it stands, for reading only. Made once a second where nothing is limited: benchmarks would feel more."""
        time = self._clock.now().timestamp()
        second = math.ceil(time)
        if self._is_limited or second != self._told[0]:
            self._told = second, self._tell(time)
        return self._told[1]

    def _tell(self, time: float) -> dict[str, str]:
        """The kind `tokens` is input and output together, and full when both are."""
        now_s = self._clock.monotonic()
        requests_full_s = self._requests.full_in_s(now_s)
        input_full_s, output_full_s = self._input.full_in_s(now_s), self._output.full_in_s(now_s)
        input_left, output_left = self._input.left(input_full_s), self._output.left(output_full_s)
        return {
            "anthropic-ratelimit-requests-limit": str(self._requests.limit),
            "anthropic-ratelimit-requests-remaining": str(self._requests.left(requests_full_s)),
            "anthropic-ratelimit-requests-reset": _rfc3339(math.ceil(time + requests_full_s)),
            "anthropic-ratelimit-tokens-limit": str(self._token_limit),
            "anthropic-ratelimit-tokens-remaining": _tokens(input_left + output_left, self._token_limit),
            "anthropic-ratelimit-tokens-reset": _rfc3339(math.ceil(time + max(input_full_s, output_full_s))),
            "anthropic-ratelimit-input-tokens-limit": str(self._input.limit),
            "anthropic-ratelimit-input-tokens-remaining": _tokens(input_left, self._input.limit),
            "anthropic-ratelimit-input-tokens-reset": _rfc3339(math.ceil(time + input_full_s)),
            "anthropic-ratelimit-output-tokens-limit": str(self._output.limit),
            "anthropic-ratelimit-output-tokens-remaining": _tokens(output_left, self._output.limit),
            "anthropic-ratelimit-output-tokens-reset": _rfc3339(math.ceil(time + output_full_s)),
        }


class _Bucket:
    """All it keeps is when it will be full: that moves away by the time that it takes to refill what was taken."""

    def __init__(self, kind: str, limit: int | None, burst_s: float) -> None:
        self.kind = kind
        self.limit = GENEROUS[kind] if limit is None else limit
        self.is_limited = limit is not None
        self._capacity = max(1.0, limit * burst_s / 60) if limit is not None else self.limit
        self._full_at_s = -math.inf

    def full_in_s(self, now_s: float) -> float:
        """Seconds until it is full."""
        wait_s = self._full_at_s - now_s - CLOCK_ERROR_S
        return wait_s if wait_s > 0 else 0.0

    def left(self, full_in_s: float) -> int:
        """How much can be taken, in whole pieces; 0 for a debt."""
        return max(0, int(self._capacity - full_in_s * self.limit / 60))

    def wait_s(self, amount: int, now_s: float) -> float:
        """Seconds until that much is left, or until it is full; not above 0 where nothing need be waited for."""
        return self.full_in_s(now_s) - max(0.0, self._capacity - amount) * 60 / self.limit

    def take(self, amount: int, now_s: float) -> None:
        """Take what is there or not; a negative amount gives back."""
        if self.is_limited:
            self._full_at_s = max(self._full_at_s, now_s) + amount * 60 / self.limit


def _counted(usage: "Usage") -> int:
    """The prompt tokens that count towards the limit."""
    return usage.input_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens


def _tokens(left: int, limit: int) -> str:
    """Rounded as the API does: to the nearest 1,000."""
    return str((left + 500) // 1000 * 1000 if limit >= ROUNDED_FROM else left)


@lru_cache(maxsize=256)  # the formatting is slow, and within a second nearly all resets are the same few
def _rfc3339(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
