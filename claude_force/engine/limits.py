"""The API's rate limits for one model, as its own headers tell them: who may send now, and who waits for what.

- A line, first come, first served: only its head may go, so a large request is never overtaken for ever.
- Three token buckets (requests, input tokens, output tokens a minute). What a request will use is *reserved* by an
  estimate before it is sent, and *settled* by its usage afterwards; every response sets the buckets right.
- One `retry-after` holds back the whole line.
- After a 429 or 529 no more than half of those under way may be under way; each round without one lets one more in
  (additive increase, multiplicative decrease: Chiu and Jain 1989, https://doi.org/10.1016/0169-7552(89)90019-6).

Nothing is held back before the first header or trouble. Nothing here waits: a turn asks `try_start` until it may go.
"""

import math
import threading
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

import msgspec

from claude_force.base.errors import OverloadedError, RateLimitError
from claude_force.base.records import Reply
from claude_force.engine.outside import Signal

if TYPE_CHECKING:
    from claude_force.base.clock import Clock
    from claude_force.base.errors import ClaudeForceError
    from claude_force.base.records import Allowance, RateLimits, Request

# Until answers have come: a token has about 3.5 characters, and an answer about a page.
FIRST_TOKENS_PER_CHAR = 1 / 3.5
FIRST_PROMPT_CHARS = 3500.0
FIRST_OUTPUT_TOKENS = 1000.0
# How much the last answer weighs in an estimate: an average over some ten of them.
WEIGHT = 0.1
# The shortest wait for a bucket to fill: below, rounding could make a turn spin.
SHORTEST_WAIT_S = 0.001


class Ticket(msgspec.Struct, eq=False):
    """One attempt's place in the line, and what was reserved for it once it may go."""

    request: "Request"
    thread: int
    passes_line: bool
    """It blocks a thread in which others wait or are under way: they cannot move before it has."""
    signal: Signal
    """Raised when it is worth asking again."""
    round: int = -1
    """Of which round of adapting it is; -1 until it has started."""
    reserved: tuple[float, float, float] = (0.0, 0.0, 0.0)


class _Bucket:
    """One limit: what is left of it now, as far as one knows."""

    def __init__(self) -> None:
        self.limit: int | None = None
        """A minute; `None` until a header has said it."""
        self._level = 0.0
        self._at_s = 0.0

    def wait_s(self, amount: float, now_s: float) -> float:
        """Seconds until the amount is there, or the bucket is full; 0 where nothing is known."""
        if not self.limit:
            return 0.0
        missing = min(amount, self.limit) - self._now(now_s)
        return max(missing / self.limit * 60, SHORTEST_WAIT_S) if missing > 0 else 0.0

    def take(self, amount: float, now_s: float) -> None:
        """Take it out; a negative amount puts back."""
        self._level, self._at_s = self._now(now_s) - amount, now_s

    def see(self, allowance: "Allowance", seen_at_s: float, *, reserved: float) -> None:
        """What the API says counts; what is reserved by those under way may not have reached it yet."""
        self.limit = allowance.limit
        self._level, self._at_s = allowance.remaining - reserved, seen_at_s

    def _now(self, now_s: float) -> float:
        limit = self.limit or 0
        return min(limit, self._level + limit / 60 * (now_s - self._at_s))


class Limits:
    """The limits of one model, for all threads and tasks of this process. Every method returns at once."""

    def __init__(self, clock: "Clock") -> None:
        self._clock = clock
        self._lock = threading.Lock()  # protects all that follows
        self._line: OrderedDict[Ticket, None] = OrderedDict()
        self._under_way: set[Ticket] = set()
        self._reserved = [0.0, 0.0, 0.0]
        """By all that is under way: their sum, because a thousand may be."""
        self._threads: Counter[int] = Counter()
        self._buckets = (_Bucket(), _Bucket(), _Bucket())
        self._seen_at_s = -math.inf
        self._held_until_s = -math.inf
        self._round = 0
        self._window: float | None = None
        """How many may be under way; `None` as long as there was no trouble."""
        self._before_trouble = 0
        self._tokens, self._chars = FIRST_PROMPT_CHARS * FIRST_TOKENS_PER_CHAR, FIRST_PROMPT_CHARS
        self._output_tokens = FIRST_OUTPUT_TOKENS

    @property
    def window(self) -> float | None:
        """How many may be under way at once; `None` while nothing is held back."""
        return self._window

    def join(self, request: "Request", *, is_blocking: bool) -> Ticket:
        """Stand in line."""
        me = threading.get_ident()
        with self._lock:
            ticket = Ticket(request, me, is_blocking and self._threads[me] > 0, Signal())
            self._threads[me] += 1
            self._line[ticket] = None
        return ticket

    def try_start(self, ticket: Ticket) -> float | None:
        """`None`: send now, its share is reserved. Else the seconds to wait, unless the ticket's signal comes first."""
        with self._lock:
            wait = self._wait_s(ticket)
            if wait > 0:
                ticket.signal = Signal()
                return wait
            del self._line[ticket]
            self._under_way.add(ticket)
            ticket.round = self._round
            self._reserve(ticket, self._clock.monotonic())
            head = self._head()
        if head:
            head.signal.fire()
        return None

    def leave(self, ticket: Ticket, outcome: "Reply | ClaudeForceError | None") -> None:
        """Leave the line, or end what was started, with what came of it; `None` where it was cancelled."""
        with self._lock:
            self._line.pop(ticket, None)
            self._under_way.discard(ticket)
            self._threads[ticket.thread] -= 1
            if not self._threads[ticket.thread]:
                del self._threads[ticket.thread]
            if ticket.round >= 0:
                self._count(ticket.reserved, -1)
                self._settle(ticket, outcome)
                self._adapt(ticket, outcome)
            head = self._head()
        if head:
            head.signal.fire()

    def _head(self) -> Ticket | None:
        return next(iter(self._line), None)

    def _wait_s(self, ticket: Ticket) -> float:
        is_next = self._head() is ticket
        has_place = self._window is None or len(self._under_way) < max(int(self._window), 1)
        if not (ticket.passes_line or (is_next and has_place)):
            return math.inf
        now = self._clock.monotonic()
        amounts = self._estimate(ticket.request)
        waits = [bucket.wait_s(amount, now) for bucket, amount in zip(self._buckets, amounts, strict=True)]
        return max(self._held_until_s - now, *waits)

    def _estimate(self, request: "Request") -> tuple[float, float, float]:
        """Requests, input and output tokens that it will use. `max_tokens` is no measure: it does not count."""
        output = min(self._output_tokens, request.max_tokens)
        return 1.0, _length_chars(request) * self._tokens / self._chars, output

    def _reserve(self, ticket: Ticket, now_s: float) -> None:
        ticket.reserved = self._estimate(ticket.request)
        self._count(ticket.reserved, 1)
        for bucket, amount in zip(self._buckets, ticket.reserved, strict=True):
            bucket.take(amount, now_s)

    def _count(self, amounts: tuple[float, float, float], sign: int) -> None:
        for kind, amount in enumerate(amounts):
            self._reserved[kind] = self._reserved[kind] + sign * amount if self._under_way else 0.0

    def _settle(self, ticket: Ticket, outcome: "Reply | ClaudeForceError | None") -> None:
        """Put back what was reserved too much, and believe the newest headers."""
        now = self._clock.monotonic()
        usage = getattr(outcome, "usage", None)
        if usage is not None:
            inputs = usage.prompt_tokens - usage.cache_read_tokens  # reads do not count to the limit
            used = (1.0, float(inputs), float(usage.output_tokens))
            self._tokens += WEIGHT * (inputs - self._tokens)  # sums, so that tiny prompts do not weigh as much as large
            self._chars += WEIGHT * (max(_length_chars(ticket.request), 1) - self._chars)
            self._output_tokens += WEIGHT * (usage.output_tokens - self._output_tokens)
            for bucket, reserved, spent in zip(self._buckets, ticket.reserved, used, strict=True):
                bucket.take(spent - reserved, now)
        limits: RateLimits | None = getattr(outcome, "limits", None)
        if limits is None or limits.seen_at_s < self._seen_at_s:
            return
        self._seen_at_s = limits.seen_at_s
        allowances = (limits.requests, limits.input_tokens, limits.output_tokens)
        for bucket, allowance, reserved in zip(self._buckets, allowances, self._reserved, strict=True):
            if allowance is not None:
                bucket.see(allowance, limits.seen_at_s, reserved=reserved)

    def _adapt(self, ticket: Ticket, outcome: "Reply | ClaudeForceError | None") -> None:
        if isinstance(outcome, RateLimitError | OverloadedError):
            if outcome.retry_after_s is not None:
                until = self._clock.monotonic() + outcome.retry_after_s
                self._held_until_s = max(self._held_until_s, until)
            if ticket.round == self._round:  # others of the same burst say nothing new
                under_way = len(self._under_way) + 1
                self._before_trouble = max(under_way, self._before_trouble)
                self._window = max(min(self._window or math.inf, under_way) / 2, 1.0)
                self._round += 1
        elif self._window is not None and ticket.round == self._round and isinstance(outcome, Reply):
            self._window += 1 / self._window
            if self._window > self._before_trouble:
                self._window, self._before_trouble = None, 0


def _length_chars(request: "Request") -> int:
    return sum(map(len, (*request.texts, request.output_schema or "")))
