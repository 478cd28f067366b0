"""Whether to try again, and when: a pure rule.

| error | again? |
|---|---|
| 408, 409, 429, 5xx, 529, connection faults, an attempt's time-out, an answer cut in the middle | yes |
| a whole answer that does not fit its schema | yes |
| an open circuit breaker, when it lets the next one try | yes |
| everything else: bad requests, credentials, spent limits, refusals, foreign answers, what `max_tokens` cut | no |

The server's `x-should-retry` overrules the first row in either direction. The wait is what `retry-after` says, or full
jitter over an exponential back-off (base 0.5 s, cap 8 s, the SDK's own figures;
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). A wait that would end after the deadline is
not begun. There is no other retry loop: the SDK's is switched off.
"""

from claude_force.base.errors import (
    ApiError,
    CircuitOpenError,
    ClaudeForceError,
    ConnectionFailedError,
    CutAnswerError,
    InvalidOutputError,
    OverloadedError,
    RateLimitError,
    ServerError,
    TimedOutError,
)
from claude_force.base.records import WHOLE_STOP_REASONS

BASE_S = 0.5
CAP_S = 8.0

_PASSING = (RateLimitError, OverloadedError, ServerError, ConnectionFailedError, TimedOutError, CircuitOpenError)


def is_passing(error: ClaudeForceError) -> bool:
    """True where the same request may well succeed a little later."""
    if isinstance(error, CutAnswerError):
        return error.stop_reason is None
    if isinstance(error, InvalidOutputError):
        return error.stop_reason in WHOLE_STOP_REASONS
    if isinstance(error, ApiError) and not error.is_terminal and error.should_retry is not None:
        return error.should_retry
    return isinstance(error, _PASSING)


def wait_s(error: ClaudeForceError, *, attempt: int, max_retries: int, left_s: float, roll: float) -> float | None:
    """Seconds to wait before the next attempt, or `None` to give up.

    `attempt` is the number of the failed one, from 1; `left_s` the time to the deadline; `roll` a number in [0, 1).
    """
    if attempt > max_retries or not is_passing(error):
        return None
    asked = error.retry_after_s if isinstance(error, ApiError) else None
    wait = roll * min(CAP_S, BASE_S * 2.0 ** min(attempt - 1, 10)) if asked is None else asked
    return wait if wait < left_s else None
