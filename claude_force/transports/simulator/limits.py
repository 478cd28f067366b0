"""The rate-limit headers of every response. Today nothing is ever limited; a token bucket would answer here instead."""

from datetime import datetime, timedelta

# Tokens are given in the API's own four kinds; the numbers are far above what one machine can ask.
LIMITS = {"requests": 100_000, "tokens": 500_000_000, "input-tokens": 400_000_000, "output-tokens": 100_000_000}


class GenerousLimits:
    """Limits that never bite: all of them is always left."""

    def __init__(self) -> None:
        self._second = -1
        self._headers: dict[str, str] = {}

    def headers(self, now: datetime) -> dict[str, str]:
        """The headers at that time; made once a second, as they are the same within it."""
        second = int(now.timestamp())
        if second != self._second:
            reset = (now + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
            self._second, self._headers = second, {}
            for kind, limit in LIMITS.items():
                for what, value in (("limit", str(limit)), ("remaining", str(limit)), ("reset", reset)):
                    self._headers[f"anthropic-ratelimit-{kind}-{what}"] = value
        return self._headers
