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
from itertools import count
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec

from claude_force.base.errors import OverloadedError, RateLimitError
from claude_force.base.records import Reply
from claude_force.engine.outside import Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.base.clock import Clock
    from claude_force.base.errors import ClaudeForceError
    from claude_force.base.records import Allowance, RateLimits, Request

T = TypeVar("T")

# Until answers have come: a token has about 3.5 characters, and an answer about a page.
FIRST_TOKENS_PER_CHAR = 1 / 3.5
FIRST_PROMPT_CHARS = 3500.0
FIRST_OUTPUT_TOKENS = 1000.0
# How much the last answer weighs in an estimate: an average over some ten of them.
WEIGHT = 0.1
# The shortest wait for a bucket to fill: below, rounding could make a turn spin.
SHORTEST_WAIT_S = 0.001


class Ticket(msgspec.Struct, eq=False):
    """One attempt's place in the line."""

    id: str
    request: "Request"
    thread: int
    passes_line: bool
    """It blocks a thread in which others wait or are under way: they cannot move before it has."""
    signal: Signal
    """Raised when it is worth asking again."""
    may_be_started: bool = False
    """Also where it was asked, and the answer got lost."""
    looks: int = 0
    """How often it was told to wait for others elsewhere."""


Amounts = tuple[float, float, float]
"""Of requests, input tokens and output tokens."""


class Reservation(msgspec.Struct, frozen=True, array_like=True):
    """What was set aside for a request that is under way."""

    round: int
    """Of which round of adapting it is."""
    amounts: Amounts
    until_s: float | None = None
    """When it counts no longer, whatever became of it."""


class Bucket(msgspec.Struct, array_like=True):
    """One limit: what is left of it now, as far as one knows."""

    limit: int | None = None
    """A minute; `None` until a header has said it."""
    level: float = 0.0
    at_s: float = 0.0

    def wait_s(self, amount: float, now_s: float) -> float:
        """Seconds until the amount is there, or the bucket is full; 0 where nothing is known."""
        if not self.limit:
            return 0.0
        missing = min(amount, self.limit) - self._now(now_s)
        return max(missing / self.limit * 60, SHORTEST_WAIT_S) if missing > 0 else 0.0

    def take(self, amount: float, now_s: float) -> None:
        """Take it out; a negative amount puts back."""
        if self.limit:
            self.level, self.at_s = self._now(now_s) - amount, now_s

    def see(self, allowance: "Allowance", seen_at_s: float, *, reserved: float) -> None:
        """What the API says counts; what is reserved by those under way may not have reached it yet."""
        self.limit, self.level, self.at_s = allowance.limit, allowance.remaining - reserved, seen_at_s

    def _now(self, now_s: float) -> float:
        limit = self.limit or 0
        return min(limit, self.level + limit / 60 * (now_s - self.at_s))


class Flow(msgspec.Struct, tag_field="format", tag="limits 1", forbid_unknown_fields=True):
    """What is known of the limits of one model, and what is under way.

    It has no clock and no lock, so it can be kept anywhere; times are those of whoever keeps it.
    """

    under_way: dict[str, Reservation] = msgspec.field(default_factory=dict)
    reserved: Amounts = (0.0, 0.0, 0.0)
    """By all that is under way: their sum, because a thousand may be."""
    requests: Bucket = msgspec.field(default_factory=Bucket)
    input_tokens: Bucket = msgspec.field(default_factory=Bucket)
    output_tokens: Bucket = msgspec.field(default_factory=Bucket)
    seen_at_s: float | None = None
    held_until_s: float = 0.0
    round: int = 0
    window: float | None = None
    """How many may be under way; `None` as long as there was no trouble."""
    before_trouble: int = 0
    mean_tokens: float = FIRST_PROMPT_CHARS * FIRST_TOKENS_PER_CHAR
    mean_chars: Annotated[float, msgspec.Meta(gt=0)] = FIRST_PROMPT_CHARS
    mean_output_tokens: float = FIRST_OUTPUT_TOKENS

    @property
    def has_place(self) -> bool:
        """Whether one more may be under way."""
        return self.window is None or len(self.under_way) < max(int(self.window), 1)

    def room_s(self, request: "Request", now_s: float) -> float:
        """Seconds until the buckets have room for it; 0 or less where they have it now."""
        waits = [bucket.wait_s(n, now_s) for bucket, n in zip(self._buckets, self._estimate(request), strict=True)]
        return max(self.held_until_s - now_s, *waits)

    def start(self, ticket: Ticket, now_s: float, *, lease_s: float | None = None) -> float | None:
        """`None`: its share is reserved. Else the seconds until there may be room; infinite where others must end."""
        if ticket.id in self.under_way:  # a server that keeps this may be asked twice
            return None
        if lease_s is not None:
            self._let_go(now_s)
        if not (ticket.passes_line or self.has_place):
            return math.inf
        wait = self.room_s(ticket.request, now_s)
        if wait > 0:
            return wait
        amounts = self._estimate(ticket.request)
        until_s = None if lease_s is None else now_s + lease_s
        self.under_way[ticket.id] = Reservation(self.round, amounts, until_s)
        self._count(amounts, 1)
        for bucket, amount in zip(self._buckets, amounts, strict=True):
            bucket.take(amount, now_s)
        return None

    def end(
        self, ticket: Ticket, outcome: "Reply | ClaudeForceError | None", now_s: float, *, seen_at_s: float = 0.0
    ) -> None:
        """What was started has ended, with headers that came at that time, if there are any."""
        reservation = self.under_way.pop(ticket.id, None)
        if reservation is not None:
            self._count(reservation.amounts, -1)
        self._settle(ticket, reservation, outcome, now_s)
        self._see(getattr(outcome, "limits", None), seen_at_s)
        self._adapt(reservation, outcome, now_s)

    @property
    def _buckets(self) -> tuple[Bucket, Bucket, Bucket]:
        return self.requests, self.input_tokens, self.output_tokens

    def _let_go(self, now_s: float) -> None:
        """Of those whose process never said how they ended."""
        lapsed = [id_ for id_, one in self.under_way.items() if one.until_s is not None and one.until_s <= now_s]
        for id_ in lapsed:
            self._count(self.under_way.pop(id_).amounts, -1)

    def _estimate(self, request: "Request") -> Amounts:
        """Requests, input and output tokens that it will use. `max_tokens` is no measure: it does not count."""
        output = min(self.mean_output_tokens, request.max_tokens)
        return 1.0, _length_chars(request) * self.mean_tokens / self.mean_chars, output

    def _count(self, amounts: Amounts, sign: int) -> None:
        requests, inputs, outputs = self.reserved
        more = (requests + sign * amounts[0], inputs + sign * amounts[1], outputs + sign * amounts[2])
        self.reserved = more if self.under_way else (0.0, 0.0, 0.0)

    def _settle(
        self,
        ticket: Ticket,
        reservation: Reservation | None,
        outcome: "Reply | ClaudeForceError | None",
        now_s: float,
    ) -> None:
        """Put back what was reserved too much, and learn."""
        usage = getattr(outcome, "usage", None)
        if usage is None:
            return
        inputs = usage.prompt_tokens - usage.cache_read_tokens  # reads do not count to the limit
        used = (1.0, float(inputs), float(usage.output_tokens))
        # Sums, so that tiny prompts do not weigh as much as large.
        self.mean_tokens += WEIGHT * (inputs - self.mean_tokens)
        self.mean_chars += WEIGHT * (max(_length_chars(ticket.request), 1) - self.mean_chars)
        self.mean_output_tokens += WEIGHT * (usage.output_tokens - self.mean_output_tokens)
        if reservation is not None:
            for bucket, reserved, spent in zip(self._buckets, reservation.amounts, used, strict=True):
                bucket.take(spent - reserved, now_s)

    def _see(self, limits: "RateLimits | None", seen_at_s: float) -> None:
        """Believe the newest headers."""
        if limits is None or (self.seen_at_s is not None and seen_at_s < self.seen_at_s):
            return
        self.seen_at_s = seen_at_s
        allowances = (limits.requests, limits.input_tokens, limits.output_tokens)
        for bucket, allowance, reserved in zip(self._buckets, allowances, self.reserved, strict=True):
            if allowance is not None:
                bucket.see(allowance, seen_at_s, reserved=reserved)

    def _adapt(self, reservation: Reservation | None, outcome: "Reply | ClaudeForceError | None", now_s: float) -> None:
        is_of_round = reservation is not None and reservation.round == self.round
        if isinstance(outcome, RateLimitError | OverloadedError):
            if outcome.retry_after_s is not None:
                self.held_until_s = max(self.held_until_s, now_s + outcome.retry_after_s)
            if is_of_round:  # others of the same burst say nothing new
                under_way = len(self.under_way) + 1
                self.before_trouble = max(under_way, self.before_trouble)
                self.window = max(min(self.window or math.inf, under_way) / 2, 1.0)
                self.round += 1
        elif self.window is not None and is_of_round and isinstance(outcome, Reply):
            self.window += 1 / self.window
            if self.window > self.before_trouble:
                self.window, self.before_trouble = None, 0


class Limits:
    """The limits of one model, for all threads and tasks of this process. Every method returns at once."""

    def __init__(self, clock: "Clock") -> None:
        self._clock = clock
        self._lining = threading.Lock()  # protects the line, and who is in which thread
        self._line: OrderedDict[Ticket, None] = OrderedDict()
        self._threads: Counter[int] = Counter()
        self._lock = threading.Lock()  # around every look at the flow and every change of it
        self._flow = Flow()
        self._ids = count()

    @property
    def window(self) -> float | None:
        """How many may be under way at once; `None` while nothing is held back."""
        return self._change(lambda flow, _: flow.window)

    def join(self, request: "Request", *, is_blocking: bool) -> Ticket:
        """Stand in line."""
        me = threading.get_ident()
        with self._lining:
            ticket = Ticket(self._name_ticket(), request, me, is_blocking and self._threads[me] > 0, Signal())
            self._threads[me] += 1
            self._line[ticket] = None
        return ticket

    def outlook(self, request: "Request") -> tuple[float, bool]:
        """Seconds until a request that comes now has room, and whether it would have to stand in line before."""
        with self._lining:
            has_line = bool(self._line)
        room_s, has_place = self._change(lambda flow, now_s: (flow.room_s(request, now_s), flow.has_place))
        return max(room_s, 0.0), has_line or not has_place

    def try_start(self, ticket: Ticket, *, lease_s: float | None = None) -> float | None:
        """`None`: send now, its share is reserved. Else the seconds to wait, unless the ticket's signal comes first.

        After `lease_s` it no longer counts as under way, even if nobody has said how it ended.
        """
        ticket.signal = Signal()  # before the look, so that nothing that happens after it is missed
        if not self._may_ask(ticket):
            return math.inf
        ticket.may_be_started = True
        wait = self._change(lambda flow, now_s: flow.start(ticket, now_s, lease_s=lease_s))
        ticket.may_be_started = wait is None
        if wait is None:
            with self._lining:
                self._line.pop(ticket, None)
                head = self._head()
            if head:
                head.signal.fire()
        return wait

    def leave(self, ticket: Ticket, outcome: "Reply | ClaudeForceError | None") -> None:
        """Leave the line, or end what was started, with what came of it; `None` where it was cancelled."""
        if ticket.may_be_started:
            limits: RateLimits | None = getattr(outcome, "limits", None)
            age_s = 0.0 if limits is None else self._clock.monotonic() - limits.seen_at_s
            self._change(lambda flow, now_s: flow.end(ticket, outcome, now_s, seen_at_s=now_s - age_s))
        with self._lining:
            self._threads[ticket.thread] -= 1
            if not self._threads[ticket.thread]:
                del self._threads[ticket.thread]
            self._line.pop(ticket, None)
            head = self._head()
        if head:
            head.signal.fire()

    def _name_ticket(self) -> str:
        """What a ticket is known by among all that share the flow."""
        return str(next(self._ids))

    def _may_ask(self, ticket: Ticket) -> bool:
        """Whether it is at the head of the line, or need not be."""
        with self._lining:
            return ticket.passes_line or self._head() is ticket

    def _head(self) -> Ticket | None:
        return next(iter(self._line), None)

    def _change(self, decide: "Callable[[Flow, float], T]") -> "T":
        """What the function says of the flow, which it may change, at this moment."""
        with self._lock:
            return decide(self._flow, self._clock.monotonic())


def _length_chars(request: "Request") -> int:
    return sum(map(len, (*request.texts, request.output_schema or "")))
