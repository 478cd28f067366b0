"""The circuit breaker: its table, one probe at a time, late results, and calls of every kind, with a moved clock."""

import asyncio
import functools
import inspect
import math
import pickle
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from claude_force import CircuitBreaker, CircuitOpenError
from claude_force.base.errors import (
    AccountLimitError,
    AgentNotFoundError,
    ApiError,
    ConnectionFailedError,
    CredentialsError,
    CutAnswerError,
    DeadlineError,
    InputError,
    InvalidRequestError,
    ModelNotFoundError,
    NotRunError,
    OverloadedError,
    ProtocolError,
    RateLimitError,
    RefusalError,
    ServerError,
    TimedOutError,
)
from claude_force.engine.breaker import PROBE_WAIT_S, TRANSITIONS, Event, Permit, Snapshot, State, is_outage
from claude_force.engine.faces import run_now
from tests.conftest import MovedClock, in_threads

TIMEOUT_S = 60


@pytest.fixture
def clock() -> MovedClock:
    """A clock that stands still."""
    return MovedClock(1000)


@pytest.fixture
def breaker(clock: MovedClock) -> CircuitBreaker:
    """A closed breaker that opens after two failures."""
    return CircuitBreaker(2, TIMEOUT_S, name="opus", clock=clock)


def lead_to(state: State, breaker: CircuitBreaker, clock: MovedClock) -> None:
    """Bring a closed breaker to a state."""
    if state is not State.CLOSED:
        breaker.enter().failed()
        breaker.enter().failed()
    if state is State.HALF_OPEN:
        clock.seconds += TIMEOUT_S


# ---------------------------------------------------------------- the table

CAUSES: dict[Event, Callable[[CircuitBreaker, MovedClock], None]] = {
    Event.FAILED_TOO_OFTEN: lambda breaker, clock: lead_to(State.OPEN, breaker, clock),
    Event.TIMEOUT_OVER: lambda _, clock: setattr(clock, "seconds", clock.seconds + TIMEOUT_S),
    Event.PROBE_SUCCEEDED: lambda breaker, _: breaker.enter().succeeded(),
    Event.PROBE_FAILED: lambda breaker, _: breaker.enter().failed(),
}


@pytest.mark.parametrize(("source", "event", "target"), [(*key, target) for key, target in TRANSITIONS.items()])
def test_every_transition_happens(
    source: State, event: Event, target: State, breaker: CircuitBreaker, clock: MovedClock
) -> None:
    """Each row of the table, which the docs draw, is what the breaker does."""
    lead_to(source, breaker, clock)
    assert breaker.state is source
    CAUSES[event](breaker, clock)
    assert breaker.state is target


def test_the_table_is_whole() -> None:
    """Every event is in it once, every state can be reached and left."""
    assert sorted(event for _, event in TRANSITIONS) == sorted(Event)
    assert {state for state, _ in TRANSITIONS} == set(TRANSITIONS.values()) == set(State)


# ---------------------------------------------------------------- one case each


def test_only_failures_in_a_row_open_it(breaker: CircuitBreaker) -> None:
    """A success between them starts the count anew; what was abandoned does not."""
    breaker.enter().failed()
    breaker.enter().succeeded()
    breaker.enter().failed()
    breaker.enter().abandoned()
    assert breaker.snapshot() == Snapshot("opus", State.CLOSED, failures=1, retry_after_s=0)
    breaker.enter().failed()
    assert breaker.snapshot() == Snapshot("opus", State.OPEN, failures=2, retry_after_s=60)


def test_an_open_breaker_says_when_to_come_back(breaker: CircuitBreaker, clock: MovedClock) -> None:
    """The error has the name and the seconds, as facts and in words, and nothing was sent."""
    lead_to(State.OPEN, breaker, clock)
    clock.seconds += 47.5
    with pytest.raises(CircuitOpenError) as caught:
        breaker.enter()
    error = caught.value
    assert str(error) == "the circuit breaker 'opus' is open after 2 failures in a row; try again in 13 s"
    assert (error.name, error.retry_after_s, error.attempts, error.exit_code) == ("opus", 12.5, 0, 5)
    assert isinstance(error, ApiError)
    clock.seconds += error.retry_after_s or 0
    breaker.enter()


def test_words_for_a_breaker_without_a_name(clock: MovedClock) -> None:
    """One failure is said as one, and no empty quotes are shown; a probe under way is told."""
    breaker = CircuitBreaker(1, TIMEOUT_S, clock=clock)
    breaker.enter().failed()
    with pytest.raises(CircuitOpenError, match=r"^the circuit breaker is open after 1 failure; try again in 60 s$"):
        breaker.enter()
    clock.seconds += TIMEOUT_S
    breaker.enter()
    said = r"^the circuit breaker is half-open after 1 failure, and its probe is under way; try again in 1 s$"
    with pytest.raises(CircuitOpenError, match=said):
        breaker.enter()


def test_the_error_survives_pickle() -> None:
    """It crosses processes with its facts."""
    error = CircuitOpenError("no", name="opus", retry_after_s=1.5, model="claude-opus-5-5")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(again), str(again), again.__dict__) == (CircuitOpenError, "no", error.__dict__)


def test_one_probe_however_many_ask(breaker: CircuitBreaker, clock: MovedClock) -> None:
    """While it is in the air the others are told to wait a little, and never beyond its time."""
    lead_to(State.HALF_OPEN, breaker, clock)
    assert breaker.retry_after_s == 0
    breaker.enter()
    for _ in range(20):
        with pytest.raises(CircuitOpenError) as caught:
            breaker.enter()
        assert caught.value.retry_after_s == PROBE_WAIT_S
    clock.seconds += TIMEOUT_S - 0.25
    assert breaker.retry_after_s == 0.25


def test_an_abandoned_probe_frees_its_place(breaker: CircuitBreaker, clock: MovedClock) -> None:
    """A cancelled probe leaves the breaker half open, and the next caller is the probe."""
    lead_to(State.HALF_OPEN, breaker, clock)
    breaker.enter().abandoned()
    assert breaker.state is State.HALF_OPEN
    breaker.enter().succeeded()
    assert breaker.snapshot() == Snapshot("opus", State.CLOSED, failures=0, retry_after_s=0)


def test_a_forgotten_probe_blocks_nobody_for_ever(breaker: CircuitBreaker, clock: MovedClock) -> None:
    """When the timeout is over, its place goes to one other caller."""
    lead_to(State.HALF_OPEN, breaker, clock)
    breaker.enter()
    clock.seconds += TIMEOUT_S - 1
    with pytest.raises(CircuitOpenError):
        breaker.enter()
    clock.seconds += 1
    assert breaker.retry_after_s == 0
    second = breaker.enter()
    with pytest.raises(CircuitOpenError):
        breaker.enter()
    second.succeeded()
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize(
    ("end", "state"),
    [(Permit.succeeded, State.CLOSED), (Permit.failed, State.OPEN), (Permit.abandoned, State.HALF_OPEN)],
    ids=["succeeded", "failed", "abandoned"],
)
def test_a_slow_probe_is_heard_after_it_lost_its_place(
    end: Callable[[Permit], None], state: State, breaker: CircuitBreaker, clock: MovedClock
) -> None:
    """An answer that takes longer than the timeout still closes the breaker; but its place is no longer its own."""
    lead_to(State.HALF_OPEN, breaker, clock)
    slow = breaker.enter()
    clock.seconds += TIMEOUT_S
    second = breaker.enter()
    end(slow)
    assert breaker.state is state
    if state is State.HALF_OPEN:
        with pytest.raises(CircuitOpenError):
            breaker.enter()
    else:
        second.failed()
        assert breaker.snapshot().failures == (0 if state is State.CLOSED else 3)


def test_results_from_before_a_transition_change_nothing(breaker: CircuitBreaker, clock: MovedClock) -> None:
    """Calls that began while it was closed neither close it, nor open it, nor take the probe's place."""
    late = [breaker.enter() for _ in range(5)]
    lead_to(State.OPEN, breaker, clock)
    late[0].succeeded()
    assert breaker.state is State.OPEN
    clock.seconds += TIMEOUT_S
    probe = breaker.enter()
    late[1].failed()
    late[2].succeeded()
    late[3].abandoned()
    assert breaker.snapshot() == Snapshot("opus", State.HALF_OPEN, failures=2, retry_after_s=PROBE_WAIT_S)
    probe.succeeded()
    late[4].failed()
    assert breaker.snapshot() == Snapshot("opus", State.CLOSED, failures=0, retry_after_s=0)


def test_the_first_word_of_a_permit_counts(breaker: CircuitBreaker) -> None:
    """Saying more later changes nothing."""
    permit = breaker.enter()
    permit.failed()
    permit.failed()
    permit.succeeded()
    assert permit.is_settled
    assert breaker.snapshot().failures == 1


@pytest.mark.parametrize(
    ("threshold", "timeout", "said"),
    [
        (0, 60, "failure_threshold is 0, "),
        (-1, 60, "failure_threshold is -1, "),
        (math.nan, 60, "failure_threshold is nan, "),
        (5, 0, "timeout is 0, "),
        (5, -0.5, "timeout is -0.5, "),
        (5, math.nan, "timeout is nan, "),
        (5, math.inf, "timeout is inf, "),
    ],
)
def test_bad_arguments(threshold: int, timeout: float, said: str) -> None:
    """What could never work is refused at once, with a way out."""
    with pytest.raises(InputError, match=rf"^{said}.+; give .+"):
        CircuitBreaker(threshold, timeout)


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (ServerError("x", status=500), True),
        (ServerError("x", status=504), True),
        (ServerError("x", status=200, has_begun=True), True),
        (ServerError("x"), True),
        (OverloadedError("x", status=529), True),
        (ConnectionFailedError("x"), True),
        (TimedOutError("x"), True),
        (CutAnswerError("x"), True),
        (DeadlineError("x", last_error=OverloadedError("x")), True),
        (TimeoutError("x"), True),
        (ValueError("x"), True),
        (ServerError("x", status=408), False),
        (ServerError("x", status=409), False),
        (ConnectionFailedError("x", should_retry=False), False),
        (CutAnswerError("x", stop_reason="tool_use"), False),
        (DeadlineError("x", last_error=RateLimitError("x")), False),
        (DeadlineError("x"), False),
        (RateLimitError("x", status=429), False),
        (InvalidRequestError("x", status=400), False),
        (CredentialsError("x", status=401), False),
        (AccountLimitError("x", status=402), False),
        (ModelNotFoundError("x", status=404), False),
        (ProtocolError("x", status=200), False),
        (RefusalError("x"), False),
        (AgentNotFoundError("x"), False),
        (NotRunError("x"), False),
        (CircuitOpenError("x"), False),
    ],
    ids=repr,
)
def test_only_an_outage_counts(error: Exception, counts: bool) -> None:  # noqa: FBT001 - a row
    """What speaks against the server counts, what speaks against the call does not; unknown errors do."""
    assert is_outage(error) is counts
    breaker = CircuitBreaker(1)
    with pytest.raises(type(error)), breaker:
        raise error
    assert breaker.state is (State.OPEN if counts else State.CLOSED)


# ---------------------------------------------------------------- the law


@dataclass(eq=False)
class Sent:
    """A permit, and what the model knows of it."""

    permit: Permit
    period: int
    is_over: bool = False


class AnyHistory(RuleBasedStateMachine):
    """Any order of calls, ends and waits, beside a model that counts periods by number. Seconds are whole."""

    permits = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.clock = MovedClock(1000)
        self.breaker = CircuitBreaker(3, 10, clock=self.clock)
        self.state, self.period, self.failures = State.CLOSED, 0, 0
        self.opened_s = 0.0
        self.holder: Sent | None = None
        self.held_since_s = 0.0

    def begin(self, state: State) -> None:
        """The model's next period."""
        self.state, self.period, self.holder = state, self.period + 1, None
        if state is State.OPEN:
            self.opened_s = self.clock.seconds

    @rule(target=permits)
    def enter(self) -> Sent | None:
        """Closed lets all in, open nobody, half open one at a time."""
        is_taken = self.holder is not None and self.clock.seconds < self.held_since_s + 10
        if self.state is State.OPEN or (self.state is State.HALF_OPEN and is_taken):
            with pytest.raises(CircuitOpenError) as caught:
                self.breaker.enter()
            assert 0 < (caught.value.retry_after_s or 0) <= 10
            return None
        sent = Sent(self.breaker.enter(), self.period)
        if self.state is State.HALF_OPEN:
            self.holder, self.held_since_s = sent, self.clock.seconds
        return sent

    @rule(sent=permits, outcome=st.sampled_from(["succeeded", "failed", "abandoned"]))
    def end(self, sent: Sent | None, outcome: str) -> None:
        """Any permit may be told anything, at any time, more than once."""
        if sent is None:
            return
        getattr(sent.permit, outcome)()
        counts, sent.is_over = not sent.is_over and sent.period == self.period, True
        if not counts:
            return
        if outcome == "abandoned":
            self.holder = None if self.holder is sent else self.holder
        elif outcome == "succeeded":
            self.failures = 0
            if self.state is State.HALF_OPEN:
                self.begin(State.CLOSED)
        else:
            self.failures += 1
            if self.state is State.HALF_OPEN or self.failures == 3:
                self.begin(State.OPEN)

    @rule(seconds=st.integers(1, 12))
    def wait(self, seconds: int) -> None:
        """Time alone only opens the way for a probe."""
        self.clock.seconds += seconds
        if self.state is State.OPEN and self.clock.seconds >= self.opened_s + 10:
            self.begin(State.HALF_OPEN)

    @precondition(lambda self: self.breaker.retry_after_s > 0)
    @rule()
    def wait_as_told(self) -> None:
        """Whoever waits as told while nobody else asks gets in, or is told to wait for a probe again."""
        is_open = self.state is State.OPEN
        self.wait(int(self.breaker.retry_after_s))
        assert not is_open or self.breaker.retry_after_s == 0

    @invariant()
    def agrees(self) -> None:
        """State and failures are those of the model."""
        snapshot = self.breaker.snapshot()
        assert (snapshot.state, snapshot.failures) == (self.state, self.failures)
        assert self.state is not State.CLOSED or (snapshot.retry_after_s == 0 and self.failures < 3)


TestAnyHistory = AnyHistory.TestCase


# ---------------------------------------------------------------- threads


class Moment(float):
    """A time that lets other threads run while something is added to it: between a decision and its deed."""

    def __add__(self, other: float) -> float:
        time.sleep(0.001)  # long enough for a missing lock to show; with the lock, any time does
        return float(self) + other


class SlowClock(MovedClock):
    """A clock of such times."""

    def monotonic(self) -> float:
        """What the test says."""
        return Moment(super().monotonic())


def test_many_threads_one_probe() -> None:
    """However many threads ask at the same moment, one gets the permit."""
    clock = SlowClock(1000)
    breaker = CircuitBreaker(1, TIMEOUT_S, clock=clock)
    breaker.enter().failed()
    clock.seconds += TIMEOUT_S
    permits: list[Permit] = []

    def ask() -> None:
        with suppress(CircuitOpenError):
            permits.append(breaker.enter())

    in_threads(ask)
    assert len(permits) == 1


def test_many_threads_one_transition() -> None:
    """Of many calls that fail at the same moment the first opens it; the others belong to the time before."""
    breaker = CircuitBreaker(1, TIMEOUT_S, clock=SlowClock(1000))
    permits = [breaker.enter() for _ in range(16)]
    in_threads(lambda: permits.pop().failed())
    assert breaker.snapshot().failures == 1
    assert breaker.state is State.OPEN


# ---------------------------------------------------------------- around calls


async def answer(value: str = "yes") -> str:
    """A coroutine function that truly waits."""
    await asyncio.sleep(0)
    if value == "no":
        raise ConnectionFailedError(value)
    return value


class Asked:
    """An object that is called, with an awaitable as its answer."""

    async def __call__(self, value: str) -> str:
        return await answer(value)


def unmarked(value: str) -> Awaitable[str]:
    """Returns a coroutine and is no coroutine function: so are the methods of the SDK's async client."""
    return answer(value)


def said(value: str) -> str:
    """A plain function."""
    if value == "no":
        raise ConnectionFailedError(value)
    return value


ASYNC_FUNCTIONS = [answer, functools.partial(answer), Asked(), unmarked]


def test_a_guarded_function_is_as_before(breaker: CircuitBreaker) -> None:
    """Name, docstring, arguments and answer are the function's own; an async one stays async."""
    guarded = breaker(said)
    assert (guarded.__name__, guarded.__doc__, guarded(value="yes")) == ("said", "A plain function.", "yes")
    assert inspect.iscoroutinefunction(breaker(answer))
    assert not inspect.iscoroutinefunction(guarded)


def test_a_sync_function_is_not_called_while_it_is_open(breaker: CircuitBreaker) -> None:
    """Its failures open the breaker; then calls end before they begin."""
    calls: list[str] = []

    @breaker
    def call(value: str) -> str:
        calls.append(value)
        return said(value)

    assert call("yes") == "yes"
    for _ in range(2):
        with pytest.raises(ConnectionFailedError):
            call("no")
    with pytest.raises(CircuitOpenError):
        call("yes")
    assert calls == ["yes", "no", "no"]


@pytest.mark.parametrize("function", ASYNC_FUNCTIONS, ids=["function", "partial", "object", "unmarked"])
async def test_an_async_function_counts_by_how_its_awaiting_ends(
    function: Callable[[str], Awaitable[str]], breaker: CircuitBreaker
) -> None:
    """Making the coroutine is no success; its failure is a failure."""
    guarded = breaker(function)
    for _ in range(2):
        assert await guarded("yes") == "yes"
        with pytest.raises(ConnectionFailedError):
            await guarded("no")
    assert breaker.snapshot().failures == 1
    with pytest.raises(ConnectionFailedError):
        await guarded("no")
    with pytest.raises(CircuitOpenError):
        await guarded("yes")


@pytest.mark.parametrize("function", [answer, unmarked], ids=["function", "unmarked"])
async def test_a_hundred_tasks_one_probe(
    function: Callable[[str], Awaitable[str]], breaker: CircuitBreaker, clock: MovedClock
) -> None:
    """Tasks that ask while the probe waits for its answer are refused, and its success lets the next in."""
    lead_to(State.HALF_OPEN, breaker, clock)
    guarded = breaker(function)

    async def ask() -> str:
        return await guarded("yes")

    results = await asyncio.gather(*(ask() for _ in range(100)), return_exceptions=True)
    assert [result for result in results if isinstance(result, str)] == ["yes"]
    assert sum(isinstance(result, CircuitOpenError) for result in results) == 99
    assert await ask() == "yes"


@pytest.mark.parametrize("function", [asyncio.sleep, lambda s: asyncio.sleep(s)], ids=["function", "unmarked"])  # noqa: PLW0108 - it hides the coroutine function
async def test_a_cancelled_probe_is_neither_failure_nor_success(
    function: Callable[[float], Awaitable[None]], breaker: CircuitBreaker, clock: MovedClock
) -> None:
    """Who gives up says nothing about the server."""
    lead_to(State.HALF_OPEN, breaker, clock)
    guarded = breaker(function)

    async def ask() -> None:
        await guarded(3600)

    task = asyncio.create_task(ask())
    await asyncio.sleep(0)
    assert breaker.retry_after_s == PROBE_WAIT_S
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert breaker.snapshot() == Snapshot("opus", State.HALF_OPEN, failures=2, retry_after_s=0)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_is_no_exception_counts_for_nothing(stop: type[BaseException], breaker: CircuitBreaker) -> None:
    """Ctrl-C is no failure of a server, whatever `is_failure` says."""
    breaker.is_failure = lambda _: True
    breaker.enter().failed()
    with pytest.raises(stop), breaker:
        raise stop
    assert breaker.snapshot().failures == 1


def test_the_user_says_what_counts(clock: MovedClock) -> None:
    """`is_failure` decides about every exception, ours and others'."""
    breaker = CircuitBreaker(1, TIMEOUT_S, clock=clock, is_failure=lambda error: isinstance(error, RateLimitError))
    with pytest.raises(ConnectionError), breaker:
        raise ConnectionError
    assert breaker.snapshot().state is State.CLOSED
    with pytest.raises(RateLimitError), breaker:
        raise RateLimitError("x")
    assert breaker.snapshot().state is State.OPEN


def test_a_block_that_returns_early_is_a_success(breaker: CircuitBreaker) -> None:
    """Only an exception is a failure."""

    def leave() -> str:
        with breaker:
            return "early"

    breaker.enter().failed()
    assert leave() == "early"
    assert breaker.snapshot().failures == 0


def test_what_the_block_says_itself_counts(breaker: CircuitBreaker) -> None:
    """A bad answer without an exception can be told as a failure."""
    with breaker as permit:
        permit.failed()
    assert breaker.snapshot().failures == 1


async def test_blocks_of_several_tasks_do_not_mix(breaker: CircuitBreaker, clock: MovedClock) -> None:
    """Each `with breaker:` settles its own permit, even if tasks leave in another order than they entered."""
    entered, leave = asyncio.Event(), asyncio.Event()

    async def late() -> None:
        with breaker:
            entered.set()
            await leave.wait()
            raise ConnectionError

    task = asyncio.create_task(late())
    await entered.wait()
    lead_to(State.HALF_OPEN, breaker, clock)
    with breaker:
        leave.set()
        with pytest.raises(ConnectionError):
            await task
        assert breaker.retry_after_s == PROBE_WAIT_S
    assert breaker.state is State.CLOSED


def test_blocks_of_two_breakers_nest(breaker: CircuitBreaker) -> None:
    """Each finds its own permit, and an inner refusal is no failure of the outer one."""
    other = CircuitBreaker(1)
    for expected in (ConnectionFailedError, CircuitOpenError):
        with pytest.raises(expected), breaker, other:
            raise ConnectionFailedError("x")
    assert (breaker.snapshot().failures, other.state) == (1, State.OPEN)


def test_blocks_of_one_breaker_nest(breaker: CircuitBreaker, clock: MovedClock) -> None:
    """The inner block settles the inner permit, here the probe's."""
    with breaker:
        lead_to(State.HALF_OPEN, breaker, clock)
        with breaker:
            pass
        assert breaker.state is State.CLOSED


def test_blocks_of_two_breakers_overlap(breaker: CircuitBreaker) -> None:
    """Generators in one thread may leave in the order in which they entered; each breaker knows its own permit."""
    other = CircuitBreaker(1)

    def guarded(breaker: CircuitBreaker) -> Iterator[None]:
        with breaker:
            yield
            raise ConnectionError

    first, second = guarded(breaker), guarded(other)
    next(first)
    next(second)
    with pytest.raises(ConnectionError):
        next(first)
    assert (breaker.snapshot().failures, other.snapshot().failures) == (1, 0)


def test_a_block_left_elsewhere_is_reported(breaker: CircuitBreaker) -> None:
    """A block that ends in another thread is a mistake that is told, not a result that is lost."""
    breaker.__enter__()
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match=r"'opus': closed> was entered in another"):
        pool.submit(breaker.__exit__, None, None, None).result()
    breaker.__exit__(None, None, None)


def test_the_sync_face_needs_no_loop(breaker: CircuitBreaker) -> None:
    """A coroutine that never waits is guarded without an event loop, as turns of the sync face are."""

    async def turn() -> str:
        with breaker.enter():
            return "done"

    assert run_now(turn()) == run_now(breaker(turn)()) == "done"


def numbers() -> Iterator[int]:
    """A generator function."""
    yield 1


async def async_numbers() -> AsyncIterator[int]:
    """An async one."""
    yield 1


@pytest.mark.parametrize("function", [numbers, async_numbers])
def test_a_generator_function_is_refused(function: Callable[[], object], breaker: CircuitBreaker) -> None:
    """Its call does nothing yet, so counting the call would call every failure a success."""
    with pytest.raises(InputError, match=r"numbers.*, a generator, .*; use `with breaker.enter\(\):` in it"):
        breaker(function)
