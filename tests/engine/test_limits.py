"""Limits: who may send now, in a time that the test moves, against a server that counts as the API does."""

import heapq
import math
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from claude_force.base.errors import CredentialsError, OverloadedError, RateLimitError, ServerError
from claude_force.base.records import Allowance, RateLimits, Reply, Request
from claude_force.base.usage import Usage
from claude_force.engine.limits import SHORTEST_WAIT_S, Limits, Ticket
from tests.conftest import MovedClock

OVERLOADED = OverloadedError("busy")


def request(chars: int = 350, max_tokens: int = 4000) -> Request:
    """Some request."""
    return Request(model="m", system=(), prompt=("x" * chars,), max_tokens=max_tokens)


def reply(usage: Usage | None = None, limits: RateLimits | None = None) -> Reply:
    """Some answer."""
    return Reply(model="m", text="y", stop_reason="end_turn", usage=usage or Usage(output_tokens=10), limits=limits)


def started(limits: Limits, count: int = 1) -> list[Ticket]:
    """So many that are under way."""
    tickets = [limits.join(request(), is_blocking=False) for _ in range(count)]
    assert [limits.try_start(ticket) for ticket in tickets] == [None] * count
    return tickets


def test_nothing_is_held_back_before_anything_is_known() -> None:
    """Without a header and without trouble, all go at once."""
    assert len(started(Limits(MovedClock(1000)), 500)) == 500


def test_the_headers_are_obeyed() -> None:
    """What the headers say cannot pass waits until it can, and not longer."""
    time = MovedClock(1000)
    limits = Limits(time)
    (first,) = started(limits)
    limits.leave(first, reply(limits=RateLimits(seen_at_s=time.seconds, requests=Allowance(60, 2))))
    ended, _ = started(limits, 2)
    limits.leave(ended, reply())  # nothing new
    third = limits.join(request(), is_blocking=False)
    assert limits.try_start(third) == pytest.approx(1.0)
    time.seconds += 0.5
    assert limits.try_start(third) == pytest.approx(0.5)
    time.seconds += 0.5
    assert limits.try_start(third) is None


@given(
    limit=st.integers(1, 30),
    left=st.integers(0, 30),
    pauses=st.lists(st.none() | st.floats(0, 70), max_size=12),
)
def test_no_window_has_more_than_the_limit(limit: int, left: int, pauses: list[float | None]) -> None:
    """From any moment on no more go than were left then and came since; who waits as told goes."""
    time, sent = MovedClock(1000), [1000.0]
    limits = Limits(time)
    (first,) = started(limits)
    left = min(left, limit)
    limits.leave(first, reply(limits=RateLimits(seen_at_s=time.seconds, requests=Allowance(limit, left))))
    ticket, wait = limits.join(request(), is_blocking=False), 60 / limit
    for pause in pauses:  # `None`: as long as one was told
        time.seconds += wait if pause is None else pause
        may_go = pause is None
        while (told := limits.try_start(ticket)) is None:
            sent.append(time.seconds)
            assert len(sent) < 1_000
            ticket, may_go = limits.join(request(), is_blocking=False), False
        assert not may_go or told <= SHORTEST_WAIT_S  # of rounding
        wait = told
    for number, (start_s, room) in enumerate([(1000.0, left), *((at_s, limit) for at_s in sent[1:])]):
        for count, at_s in enumerate(sent[max(number, 1) :], 1):
            assert count <= room + limit / 60 * (at_s - start_s) + 1e-6


@pytest.mark.parametrize("kind", ["input_tokens", "output_tokens"])
def test_tokens_are_reserved_by_what_answers_used(kind: str) -> None:
    """The estimate follows the usage, so requests are spaced by what they really cost."""
    time = MovedClock(1000)
    limits = Limits(time)
    usage = Usage(input_tokens=1000, output_tokens=1000)
    for _ in range(100):
        (ticket,) = started(limits)
        limits.leave(ticket, reply(usage))
    (ticket,) = started(limits)
    known = RateLimits(seen_at_s=time.seconds, **{kind: Allowance(60_000, 2500)})
    limits.leave(ticket, reply(usage, known))
    started(limits, 2)
    third = limits.join(request(), is_blocking=False)
    assert limits.try_start(third) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("kind", ["input_tokens", "output_tokens"])
def test_what_was_reserved_too_much_is_put_back(kind: str) -> None:
    """An answer that is shorter than the estimate makes room at once, also where it has no headers."""
    limits = Limits(MovedClock(1000))
    (first,) = started(limits)
    known = RateLimits(seen_at_s=1000.0, **{kind: Allowance(60_000, 1_500)})
    limits.leave(first, reply(Usage(input_tokens=1_000, output_tokens=1_000), known))
    second, third = [limits.join(request(chars=3_500), is_blocking=False) for _ in range(2)]
    assert limits.try_start(second) is None
    assert limits.try_start(third)
    limits.leave(second, reply(Usage(input_tokens=10, output_tokens=10)))
    assert limits.try_start(third) is None


def test_the_outlook_is_what_one_who_comes_now_would_meet() -> None:
    """How long until there is room, and whether others are in the way; nothing is reserved for who only looks."""
    time = MovedClock(1000)
    limits = Limits(time)
    assert limits.outlook(request()) == (0.0, False)
    (first,) = started(limits)
    limits.leave(first, RateLimitError("slow down", retry_after_s=7.0))
    assert limits.outlook(request()) == (7.0, False)
    time.seconds += 8
    assert limits.outlook(request()) == (0.0, False)
    started(limits)
    assert limits.outlook(request()) == (0.0, True)


def test_prompt_tokens_that_were_cached_do_not_count() -> None:
    """Reads from the prompt cache are free of the limit."""
    time = MovedClock(1000)
    limits = Limits(time)
    for _ in range(200):
        (ticket,) = started(limits)
        limits.leave(ticket, reply(Usage(cache_read_tokens=100_000, output_tokens=1)))
    (ticket,) = started(limits)
    known = RateLimits(seen_at_s=time.seconds, input_tokens=Allowance(60, 10))
    limits.leave(ticket, reply(Usage(cache_read_tokens=100_000, output_tokens=1), known))
    started(limits, 5)


def test_a_request_larger_than_the_limit_goes_when_all_is_there() -> None:
    """It could never be sent otherwise; the server may judge."""
    time = MovedClock(1000)
    limits = Limits(time)
    (ticket,) = started(limits)
    limits.leave(ticket, reply(limits=RateLimits(seen_at_s=time.seconds, input_tokens=Allowance(600, 0))))
    large = limits.join(request(chars=1_000_000), is_blocking=False)
    assert limits.try_start(large) == pytest.approx(60)
    time.seconds += 60
    assert limits.try_start(large) is None


def test_one_retry_after_holds_back_everybody() -> None:
    """Those who were not refused wait as well, as long as the one who was."""
    time = MovedClock(1000)
    limits = Limits(time)
    one, other = started(limits, 2)
    limits.leave(one, RateLimitError("slow down", retry_after_s=7.0))
    waiting = [limits.join(request(), is_blocking=False) for _ in range(2)]
    limits.leave(other, reply())
    assert [limits.try_start(ticket) for ticket in waiting] == [7.0, math.inf]
    waiting[0].signal.listen(lambda: pytest.fail("what was before does not wake who was told to wait since"))
    time.seconds += 7
    assert [limits.try_start(ticket) for ticket in waiting] == [None, math.inf]  # one at a time, after trouble
    assert limits.window == 1.0


def test_trouble_halves_and_peace_grows_by_one() -> None:
    """Ten under way: a burst of refusals halves once, each round of successes adds one, until all is as before."""
    limits = Limits(MovedClock(1000))
    burst = started(limits, 10)
    for ticket in burst:
        limits.leave(ticket, OVERLOADED)
    assert limits.window == 5.0
    windows = [5.0]
    for _ in range(6):
        for ticket in started(limits, int(windows[-1])):
            limits.leave(ticket, reply())
        windows.append(limits.window or math.inf)
    assert all(0.7 < after - before <= 1.0 for before, after in pairwise(windows[:-1]))
    assert windows[-1] == math.inf


@pytest.mark.parametrize("outcome", [ServerError("x"), CredentialsError("x"), None], ids=str)
def test_what_is_no_congestion_slows_nobody(outcome: ServerError | None) -> None:
    """A server's fault, a refused key and a cancellation say nothing about how much is too much."""
    limits = Limits(MovedClock(1000))
    for ticket in started(limits, 10):
        limits.leave(ticket, outcome)
    assert limits.window is None


def test_who_leaves_wakes_the_next() -> None:
    """A cancelled head, a started one and an ended one each raise the signal of who is first then."""
    limits = Limits(MovedClock(1000))
    (under_way,) = started(limits)
    limits.leave(under_way, OVERLOADED)
    (under_way,) = started(limits)
    tickets = [limits.join(request(), is_blocking=False) for _ in range(3)]
    assert [limits.try_start(ticket) for ticket in tickets] == [math.inf] * 3
    woken: list[int] = []
    for number, ticket in enumerate(tickets):
        ticket.signal.listen(partial(woken.append, number))
    limits.leave(tickets[0], None)
    assert woken == [1]
    limits.leave(under_way, reply())
    assert limits.try_start(tickets[1]) is None
    assert woken == [1, 2]


def test_a_blocking_turn_never_waits_for_its_own_thread() -> None:
    """Tasks of the loop that it blocks could never make room for it."""
    limits = Limits(MovedClock(1000))
    (first,) = started(limits)
    limits.leave(first, OVERLOADED)
    started(limits)
    assert limits.try_start(limits.join(request(), is_blocking=True)) is None
    assert limits.try_start(limits.join(request(), is_blocking=False)) == math.inf


def test_who_was_never_sent_says_nothing() -> None:
    """Our own refusal of one that has no time to wait must not hold back those that have."""
    limits = Limits(MovedClock(1000))
    limits.leave(limits.join(request(), is_blocking=False), RateLimitError("no room in its time", retry_after_s=7.0))
    started(limits, 2)


def test_a_lease_ends_by_itself() -> None:
    """Who is never heard of again has its place until then, and what it reserved; an end after that is no harm."""
    time = MovedClock(1000)
    limits = Limits(time)
    (first,) = started(limits)
    limits.leave(first, OVERLOADED)
    lost, waiting = [limits.join(request(), is_blocking=False) for _ in range(2)]
    assert limits.try_start(lost, lease_s=5) is None
    time.seconds += 4.9
    assert limits.try_start(waiting, lease_s=5) == math.inf
    time.seconds += 0.1
    assert limits.try_start(waiting, lease_s=5) is None
    limits.leave(lost, reply())
    assert limits.try_start(limits.join(request(), is_blocking=False), lease_s=5) == math.inf


def test_what_a_lost_one_reserved_is_nobodys() -> None:
    """Headers that come after its lease are taken off what the others reserved, and no more."""
    time = MovedClock(1000)
    limits = Limits(time)
    lost, known, waiting = [limits.join(request(), is_blocking=False) for _ in range(3)]
    assert [limits.try_start(lost, lease_s=5), limits.try_start(known, lease_s=60)] == [None, None]
    time.seconds += 5
    assert limits.try_start(waiting, lease_s=60) is None
    limits.leave(known, reply(limits=RateLimits(seen_at_s=time.seconds, requests=Allowance(60, 3))))
    started(limits, 2)
    assert limits.try_start(limits.join(request(), is_blocking=False)) == pytest.approx(1.0)


class Api:
    """Token buckets as the API has them, and the time that an answer takes."""

    def __init__(self, time: MovedClock, requests: int, outputs: int, latency_s: float) -> None:
        self.time = time
        self.limits = {"requests": requests, "output_tokens": outputs}
        self.levels = {kind: limit / 10 for kind, limit in self.limits.items()}
        self.at_s = time.seconds
        self.latency_s = latency_s
        self.refused = 0

    def ask(self, output_tokens: int) -> Reply | RateLimitError:
        passed, self.at_s = self.time.seconds - self.at_s, self.time.seconds
        for kind, limit in self.limits.items():
            self.levels[kind] = min(limit / 10, self.levels[kind] + limit / 60 * passed)
        if self.levels["requests"] < 1 or self.levels["output_tokens"] <= 0:
            self.refused += 1
            return RateLimitError("slow down", retry_after_s=1.0, limits=self.seen())
        self.levels["requests"] -= 1
        self.levels["output_tokens"] -= output_tokens
        return reply(Usage(output_tokens=output_tokens), self.seen())

    def seen(self) -> RateLimits:
        allowances = {kind: Allowance(limit, max(int(self.levels[kind]), 0)) for kind, limit in self.limits.items()}
        return RateLimits(seen_at_s=self.time.seconds, **allowances)


def drive(api: Api, limits: Limits, sizes: list[int], concurrent: int) -> Iterator[tuple[float, int]]:
    """Run so many tasks as turns do, in virtual time; gives when each was answered, and which."""
    time, todo, order = api.time, list(enumerate(sizes)), 0
    line: list[tuple[int, int, Ticket]] = []
    landing: list[tuple[float, int, int, int, Ticket, Reply | RateLimitError]] = []
    while todo or line or landing:
        while todo and len(line) + len(landing) < concurrent:
            number, size = todo.pop(0)
            line.append((number, size, limits.join(request(), is_blocking=False)))
        waits = [limits.try_start(ticket) for *_, ticket in line]
        for (number, size, ticket), wait in zip(list(line), waits, strict=True):
            if wait is None:
                line.remove((number, size, ticket))
                order += 1
                heapq.heappush(landing, (time.seconds + api.latency_s, order, number, size, ticket, api.ask(size)))
        if None in waits:
            continue
        soonest = min((time.seconds + wait for wait in waits if wait is not None), default=math.inf)
        if landing and landing[0][0] <= soonest:
            time.seconds, _, number, size, ticket, outcome = heapq.heappop(landing)
            limits.leave(ticket, outcome)
            if isinstance(outcome, Reply):
                yield time.seconds, number
            else:
                todo.insert(0, (number, size))
        else:
            time.seconds = soonest


@pytest.mark.parametrize(("requests", "outputs"), [(600, 10_000_000), (100_000, 60_000)], ids=["RPM", "OTPM"])
def test_the_limit_is_used_and_hardly_ever_hit(requests: int, outputs: int) -> None:
    """A long batch gets 95 % of what the limit allows or more, with next to no 429s."""
    time = MovedClock(1000)
    api, sizes = Api(time, requests, outputs, latency_s=0.5), [60, 140] * 500
    start = time.seconds
    landed = list(drive(api, Limits(time), sizes, concurrent=20))
    assert sorted(number for _, number in landed) == list(range(1000))
    allowed_s = max((1000 - requests / 10) / requests, (sum(sizes) - outputs / 10) / outputs) * 60
    assert allowed_s / (time.seconds - start) > 0.95
    assert api.refused < 20


def test_nobody_starves() -> None:
    """A task whose answer is fifty times as long is answered about when its neighbours are."""
    time = MovedClock(1000)
    api, sizes = Api(time, 100_000, 60_000, latency_s=0.5), [100] * 50 + [5000] + [100] * 200
    places = [number for _, number in drive(api, Limits(time), sizes, concurrent=10)]
    assert abs(places.index(50) - 50) < 20


class Line(RuleBasedStateMachine):
    """Whatever happens in whatever order: in the end all who wait can go, and nothing is left."""

    def __init__(self) -> None:
        super().__init__()
        self.time = MovedClock(1000)
        self.limits = Limits(self.time)
        self.waiting: list[Ticket] = []
        self.under_way: list[Ticket] = []

    @rule()
    def join(self) -> None:
        self.waiting.append(self.limits.join(request(), is_blocking=False))

    @rule()
    def start(self) -> None:
        for ticket in list(self.waiting):
            if self.limits.try_start(ticket) is None:
                self.waiting.remove(ticket)
                self.under_way.append(ticket)

    @precondition(lambda self: self.under_way)
    @rule(remaining=st.integers(0, 3))
    def end(self, remaining: int) -> None:
        known = RateLimits(seen_at_s=self.time.seconds, requests=Allowance(60, remaining))
        self.limits.leave(self.under_way.pop(0), reply(limits=known))

    @precondition(lambda self: self.under_way)
    @rule()
    def refuse(self) -> None:
        self.limits.leave(self.under_way.pop(), RateLimitError("slow down", retry_after_s=2.0))

    @precondition(lambda self: self.waiting)
    @rule()
    def cancel(self) -> None:
        self.limits.leave(self.waiting.pop(), None)

    @rule(seconds=st.floats(0, 5))
    def tick(self, seconds: float) -> None:
        self.time.seconds += seconds

    def teardown(self) -> None:
        """All go, one second each at the most."""
        for _ in range(2 * len(self.waiting) + len(self.under_way) + 10):
            self.start()
            while self.under_way:
                self.limits.leave(self.under_way.pop(), reply())
            self.time.seconds += 1
        assert not self.waiting
        assert self.limits.try_start(self.limits.join(request(), is_blocking=False)) is None


TestLine = Line.TestCase
