"""Stop asking a server that is down: a circuit breaker, around any call, sync or async.

After `failure_threshold` failures in a row it *opens* and refuses every call at once, so nobody waits for what will not
come. When `timeout` seconds are over it is *half open* and lets one call through as a probe, however many ask. The
probe's success closes it, the probe's failure opens it again.

1. `TRANSITIONS` is the whole law: the code moves by it, and docs/explanation/trouble.md draws it.
2. A call needs a `Permit`, and the permit belongs to the period between two transitions in which it was given: a result
   that comes later says nothing about the new period and changes nothing.
3. A probe that is not heard of for `timeout` seconds loses its place to the next caller, so one that was forgotten
   blocks nobody for ever. If it was only slow its result still counts: the first probe to report decides.
4. What says nothing about the server (a bad request, a rate limit, a cancellation) is neither failure nor success.
"""

import functools
import inspect
import math
import threading
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, TypeVar, cast

import msgspec
from msgspec.structs import replace

from claude_force.base.clock import Clock, SystemClock
from claude_force.base.errors import (
    CircuitOpenError,
    ClaudeForceError,
    ConnectionFailedError,
    CutAnswerError,
    DeadlineError,
    InputError,
    OverloadedError,
    ServerError,
    TimedOutError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from types import TracebackType

Function = TypeVar("Function", bound=Callable[..., Any])
T = TypeVar("T")
Outcome = Literal["succeeded", "failed", "abandoned"]

PROBE_WAIT_S = 1.0
"""What a caller is told to wait while a probe is in the air. Nobody knows when it reports; an answer takes seconds, and
asking again costs microseconds."""


class State(StrEnum):
    """What a breaker does with a call, in the order in which trouble goes through them."""

    CLOSED = "closed"
    """Lets every call through."""
    OPEN = "open"
    """Refuses every call."""
    HALF_OPEN = "half-open"
    """Lets one call through, as a probe."""


class Event(StrEnum):
    """What moves a breaker from one state to another."""

    FAILED_TOO_OFTEN = "failed too often"
    TIMEOUT_OVER = "timeout over"
    PROBE_SUCCEEDED = "probe succeeded"
    PROBE_FAILED = "probe failed"


TRANSITIONS = {
    (State.CLOSED, Event.FAILED_TOO_OFTEN): State.OPEN,
    (State.OPEN, Event.TIMEOUT_OVER): State.HALF_OPEN,
    (State.HALF_OPEN, Event.PROBE_SUCCEEDED): State.CLOSED,
    (State.HALF_OPEN, Event.PROBE_FAILED): State.OPEN,
}


def is_outage(error: Exception) -> bool:
    """True where an error speaks against the server, and not against the call or the caller.

    These do: 5xx and 529, connections that fail, time-outs, answers that break off, and errors that are not of our
    family, as nothing is known about them. Other errors of ours do not: 4xx and 429, bad input, a refusal.
    """
    match error:
        case DeadlineError(last_error=ClaudeForceError() as last):
            return is_outage(last)
        case ServerError(status=status):  # it covers 408 and 409, too
            return status is None or not 400 <= status < 500  # noqa: PLR2004 - HTTP's own borders
        case ConnectionFailedError():
            return error.should_retry is not False  # no URL, no HTTP client: nothing left this machine
        case CutAnswerError():
            return error.stop_reason is None
        case OverloadedError() | TimedOutError():
            return True
    return not isinstance(error, ClaudeForceError)


class Snapshot(msgspec.Struct, frozen=True):
    """A breaker at one moment, for a health report."""

    name: str
    state: State
    failures: int
    """Failures in a row, up to now."""
    retry_after_s: float
    """Seconds until a call may go; 0 where one may go now."""


class Period(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time between two transitions."""

    number: int = 0
    state: State = State.CLOSED
    failures: int = 0
    """In a row; a period begins with those of the one before."""
    blocked_until_s: float | None = None
    """Nobody enters before: while open, the end of the timeout; while half open, when the probe loses its place."""
    probe: str | None = None

    def wait_s(self, now_s: float) -> float:
        """Seconds until a call may go, or should ask again."""
        left = 0.0 if self.blocked_until_s is None else self.blocked_until_s - now_s
        return max(0.0, min(left, PROBE_WAIT_S) if self.state is State.HALF_OPEN else left)


class Circuit(msgspec.Struct, tag_field="format", tag="breaker 1", forbid_unknown_fields=True):
    """What a breaker knows, and how that changes: no clock and no lock, so it can be kept anywhere.

    Each change is one assignment, so that a Ctrl-C in its middle leaves the old period or the new one.
    """

    period: Period = Period()

    def enter(self, caller: str, now_s: float, *, timeout_s: float) -> tuple[Period, float]:
        """The period that applies, and the seconds that this caller has to wait; 0 where it may go, as a probe or not.

        Where this is kept on a server, a caller may ask twice.
        """
        period = self.at(now_s)
        wait_s = 0.0 if period.probe == caller else period.wait_s(now_s)
        if period.state is State.HALF_OPEN and not wait_s:
            self.period = replace(period, probe=caller, blocked_until_s=now_s + timeout_s)
        return period, wait_s

    def settle(self, entry: "Entry", outcome: Outcome, now_s: float, *, threshold: int, timeout_s: float) -> None:
        """Count how the call ended of who entered so."""
        period = self.period
        # Numbers may be those of another circuit, where a server forgot this one, or was away: none enters while open.
        if entry.period != period.number or period.state is State.OPEN:
            return
        is_half_open = period.state is State.HALF_OPEN
        if outcome == "abandoned":
            if period.probe == entry.caller:
                self.period = replace(period, blocked_until_s=None)
        elif outcome == "succeeded":
            if is_half_open:
                self.period = _after(period, Event.PROBE_SUCCEEDED, failures=0)
            elif period.failures:
                self.period = replace(period, failures=0)
        else:
            failures, until_s = period.failures + 1, now_s + timeout_s
            if is_half_open:
                self.period = _after(period, Event.PROBE_FAILED, failures=failures, blocked_until_s=until_s)
            elif failures >= threshold:
                self.period = _after(period, Event.FAILED_TOO_OFTEN, failures=failures, blocked_until_s=until_s)
            else:
                self.period = replace(period, failures=failures)

    def at(self, now_s: float) -> Period:
        """The period that applies now."""
        if self.period.state is State.OPEN and not self.period.wait_s(now_s):
            self.period = _after(self.period, Event.TIMEOUT_OVER, failures=self.period.failures)
        return self.period


def _after(period: Period, event: Event, *, failures: int, blocked_until_s: float | None = None) -> Period:
    return Period(period.number + 1, TRANSITIONS[period.state, event], failures, blocked_until_s)


class Entry(NamedTuple):
    """Who entered a circuit, and in which of its periods."""

    caller: str
    period: int


class CircuitBreaker:
    """Refuses calls while what they call is down; decorates a function, or guards a `with` block.

    It opens after `failure_threshold` failures in a row, and lets a probe through every `timeout` seconds until one
    succeeds. `is_failure` says which exceptions count; what is no `Exception` (Ctrl-C, a cancellation) never does.
    One breaker may be shared by any number of functions, threads, tasks and event loops. `name` is for messages.

    Example:
        >>> import claude_force
        >>> breaker = claude_force.CircuitBreaker(failure_threshold=2, timeout=60, name="weather")
        >>> @breaker
        ... def forecast(city):
        ...     raise ConnectionError(f"nobody knows about {city}")
        >>> for _ in range(3):
        ...     try:
        ...         forecast("Rome")
        ...     except (ConnectionError, claude_force.CircuitOpenError) as error:
        ...         print(error)
        nobody knows about Rome
        nobody knows about Rome
        the circuit breaker 'weather' is open after 2 failures in a row; try again in 60 s
    """

    def __init__(
        self,
        failure_threshold: int = 5,
        timeout: float = 60,
        *,
        name: str = "",
        clock: Clock = SystemClock(),  # noqa: B008 - it has no state
        is_failure: Callable[[Exception], bool] = is_outage,
    ) -> None:
        if not failure_threshold >= 1:
            raise InputError(f"failure_threshold is {failure_threshold!r}, so no call could ever go; give 1 or more")
        if not 0 < timeout < math.inf:
            raise InputError(f"timeout is {timeout!r}, which is no time to wait; give a number of seconds above 0")
        self.failure_threshold = failure_threshold
        self.timeout = timeout
        self.name = name
        self.is_failure = is_failure
        self._clock = clock
        self._lock = threading.Lock()  # around every look at the circuit and every change of it
        self._circuit = Circuit()
        self._callers = count()

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r}: {self.state}>"

    def enter(self) -> "Permit":
        """A permit for one call, to be told how the call ended; `with breaker.enter():` tells it by itself.

        Raises `CircuitOpenError` where no call may go now.
        """
        caller = self._name_caller()
        period, wait_s = self._change(lambda circuit, now_s: circuit.enter(caller, now_s, timeout_s=self.timeout))
        if wait_s > 0:
            raise self._refusal(period, wait_s)
        return Permit(self, Entry(caller, period.number))

    @property
    def state(self) -> State:
        """What it does with a call now."""
        return self.snapshot().state

    @property
    def retry_after_s(self) -> float:
        """Seconds until a call may go; 0 where one may go now."""
        return self.snapshot().retry_after_s

    def snapshot(self) -> Snapshot:
        """All that a health report wants to know, of one moment."""

        def look(circuit: Circuit, now_s: float) -> Snapshot:
            period = circuit.at(now_s)
            return Snapshot(self.name, period.state, period.failures, period.wait_s(now_s))

        return self._change(look)

    def __call__(self, function: Function) -> Function:
        """The function, guarded: each call of it enters first, and its end is counted.

        A coroutine function stays one. Of any other function that returns an awaitable, as the SDK's async client has
        them, the awaited end is counted. What only begins in the call needs `with breaker.enter():` where the work is
        done, so a generator function is an `InputError`.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InputError(
                f"a circuit breaker cannot guard {function!r}, a generator, whose work begins after the call;"
                " use `with breaker.enter():` in it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: object, **kwargs: object) -> object:
                with self.enter():
                    return await function(*args, **kwargs)

            return cast("Function", awaited)

        @functools.wraps(function)
        def called(*args: object, **kwargs: object) -> object:
            with ExitStack() as guard:
                guard.enter_context(self.enter())
                answer = function(*args, **kwargs)
                return _finish(answer, guard.pop_all()) if inspect.isawaitable(answer) else answer

        return cast("Function", called)

    def __enter__(self) -> "Permit":
        permit = self.enter()
        _entered.set((*_entered.get(), permit))
        return permit

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        entered = _entered.get()
        permit = next((permit for permit in reversed(entered) if permit.breaker is self), None)
        if permit is None:
            raise RuntimeError(f"{self!r} was entered in another thread or task; use `with breaker.enter():` there")
        _entered.set(tuple(other for other in entered if other is not permit))
        permit.__exit__(kind, error, traceback)

    def settle(self, permit: "Permit", outcome: Outcome) -> None:
        """Count how the call of a permit ended; the permit's own methods ask for this."""
        with self._lock:
            is_settled, permit.is_settled = permit.is_settled, True
        if is_settled:
            return

        def settle(circuit: Circuit, now_s: float) -> None:
            circuit.settle(permit.entry, outcome, now_s, threshold=self.failure_threshold, timeout_s=self.timeout)

        self._change(settle)

    def _name_caller(self) -> str:
        """What a call is known by among all that share the circuit."""
        return str(next(self._callers))

    def _change(self, decide: Callable[[Circuit, float], T]) -> T:
        """What the function says of the circuit, which it may change, at this moment."""
        with self._lock:
            return decide(self._circuit, self._clock.monotonic())

    def _refusal(self, period: Period, wait_s: float) -> CircuitOpenError:
        which = f"the circuit breaker {self.name!r}" if self.name else "the circuit breaker"
        failures = "1 failure" if period.failures == 1 else f"{period.failures} failures in a row"
        under_way = ", and its probe is under way" if period.state is State.HALF_OPEN else ""
        return CircuitOpenError(
            f"{which} is {period.state} after {failures}{under_way}; try again in {math.ceil(wait_s)} s",
            name=self.name,
            retry_after_s=wait_s,
        )


class Permit:
    """Leave to make one call. The first of `succeeded`, `failed` and `abandoned` counts; later ones are ignored.

    As a context manager it is told by how the block ends. Forgetting it is no disaster: it then counts for nothing, and
    a probe's place is free again after the breaker's timeout. (Not at once by a finalizer: that could run amid the few
    lines for which its own thread holds the lock, and wait for ever.)
    """

    __slots__ = ("breaker", "entry", "is_settled")

    def __init__(self, breaker: CircuitBreaker, entry: Entry) -> None:
        self.breaker = breaker
        self.entry = entry
        self.is_settled = False

    def succeeded(self) -> None:
        """The call did what it should."""
        self.breaker.settle(self, "succeeded")

    def failed(self) -> None:
        """What was called is in trouble."""
        self.breaker.settle(self, "failed")

    def abandoned(self) -> None:
        """The call says nothing about what was called: it was cancelled, or wrong itself. Frees a probe's place."""
        self.breaker.settle(self, "abandoned")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        if error is None:
            self.succeeded()
        elif isinstance(error, Exception) and self.breaker.is_failure(error):
            self.failed()
        else:
            self.abandoned()


async def _finish(answer: "Awaitable[T]", guard: ExitStack) -> T:
    with guard:
        return await answer


# The permits of `with breaker:` blocks, of this thread or task alone: the breaker itself is shared by all.
_entered: ContextVar[tuple[Permit, ...]] = ContextVar("_entered", default=())
