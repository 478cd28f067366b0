"""A turn's own time: with a clock that the test moves, and a world that answers as it is told."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.base.config import Config, Defaults
from claude_force.base.endpoints import Endpoint
from claude_force.base.errors import (
    ApiError,
    ClaudeForceError,
    CredentialsError,
    DeadlineError,
    OverloadedError,
    RateLimitError,
    ServerError,
    TimedOutError,
)
from claude_force.base.ports import ReplyCache
from claude_force.base.pricing import Prices
from claude_force.base.records import AgentResult, Execution, Reply, Request
from claude_force.base.usage import Usage
from claude_force.engine.faces import run_now
from claude_force.engine.parts import Parts, Watch
from claude_force.engine.request import Task
from claude_force.engine.traffic import Traffic
from claude_force.engine.turn import run_turn
from tests.engine.conftest import StillWorld

REPLY = Reply(model="claude-haiku-5-5", text="yes", stop_reason="end_turn", usage=Usage(input_tokens=1_000_000))


class World(StillWorld):
    """It answers as it is told, one answer after the other."""

    def __init__(self, *script: tuple[float, Reply | ClaudeForceError]) -> None:
        super().__init__()
        self.script = list(script)
        self.sent_with: list[float] = []
        self.sent_at_s: list[float] = []

    async def send(
        self, request: Request, *, timeout_s: float, on_text: object, caching: object, endpoint: Endpoint
    ) -> Reply:
        self.sent_with.append(timeout_s)
        self.sent_at_s.append(self.seconds)
        seconds, outcome = self.script.pop(0)
        self.seconds += seconds
        if isinstance(outcome, ClaudeForceError):
            raise outcome
        return outcome

    def run(self, *, timeout_s: float = 100, max_retries: int = 5, cache: ReplyCache | None = None) -> AgentResult:
        """One turn in this world."""
        config = Config(defaults=Defaults(max_retries=max_retries))
        parts = Parts(
            agents=self, prices=Prices(), ledger=self, clock=self, config=config, traffic=Traffic(self), cache=cache
        )
        return run_now(run_turn(self, parts, Task(agent_name="a", text="x", timeout_s=timeout_s), Watch()))


class Kept:
    """A cache that has nothing, and notes what it is to keep."""

    may_stall = False

    def __init__(self, notes: list[Execution]) -> None:
        self.notes = notes
        self.cost_usd: Decimal | None = None

    def recall(self, key: str, *, agent: str) -> None:
        """Nothing."""

    peek = recall

    def find(self, key: str, *, agent: str, counts: bool) -> None:
        """Nothing."""

    def claim(self, key: str, *, agent: str, is_blocking: bool) -> Callable[[], object]:
        return list

    def keep(self, key: str, reply: Reply, *, agent: str, task: str, cost_usd: Decimal | None) -> None:
        assert not self.notes
        self.cost_usd = cost_usd


def test_an_answer_is_kept_before_it_is_entered() -> None:
    """Who is killed in between does not pay for it again; the ledger may have to wait for others."""
    world = World((1, REPLY))
    cache = Kept(world.entries)
    world.run(cache=cache)
    (entered,) = world.entries
    assert cache.cost_usd == entered.cost_usd == Decimal("0.5")


def test_each_attempt_gets_the_time_that_is_left() -> None:
    """Attempts and waits are all taken from one deadline."""
    world = World((10, ServerError("a")), (5, RateLimitError("b", retry_after_s=20)), (1, REPLY))
    result = world.run()
    assert (result, result.attempts, result.duration_ms) == ("yes", 3, 36_250)
    assert world.pauses == [0.25, 20]
    assert world.sent_with == [100, 89.75, 64.75]
    assert world.entries[0].duration_ms == 36_250
    assert world.entries[0].cost_usd == Decimal("0.5")


TROUBLE = st.tuples(
    st.floats(0, 60),
    st.sampled_from([OverloadedError, ServerError, RateLimitError, TimedOutError]),
    st.none() | st.floats(0, 60),
)


@given(trouble=st.lists(TROUBLE, max_size=8), max_retries=st.integers(0, 6))
def test_nothing_is_begun_that_cannot_end_in_time(
    trouble: list[tuple[float, type[ApiError], float | None]], max_retries: int
) -> None:
    """No pause reaches the deadline, no attempt has more than what is left, and there are no more than were allowed."""
    script = [(seconds, kind("x", retry_after_s=asked)) for seconds, kind, asked in trouble]
    world = World(*script, *[(1.0, REPLY)] * (max_retries + 1))
    with suppress(ApiError, DeadlineError):
        world.run(timeout_s=100, max_retries=max_retries)
    assert len(world.sent_with) <= max_retries + 1
    assert all(at_s + timeout_s <= 100.001 for at_s, timeout_s in zip(world.sent_at_s, world.sent_with, strict=True))
    assert all(end_s < 100 for end_s in world.paused_until_s)


def test_time_that_is_used_up_is_a_deadline() -> None:
    """The error says how long, how often and why, and exits as its cause would."""
    world = World((60, OverloadedError("busy")), (50, TimedOutError("silence")))
    with pytest.raises(DeadlineError, match=r"within 100 s \(2 attempts; the last: silence\)") as caught:
        world.run()
    assert (caught.value.elapsed_s, caught.value.exit_code) == (110.25, 1)
    late = World((101, OverloadedError("busy")))
    with pytest.raises(DeadlineError) as caught:
        late.run()
    assert (caught.value.exit_code, late.entries[0].error_type) == (5, "DeadlineError")


def test_a_late_but_final_error_is_told_as_it_is() -> None:
    """A refused key is a refused key, though the answer came after the deadline: no time would have mended it."""
    with pytest.raises(CredentialsError):
        World((101, CredentialsError("no"))).run()


def test_a_late_answer_is_an_answer() -> None:
    """What was paid and has arrived is kept, whatever the clock says."""
    assert World((101, REPLY)).run() == "yes"


def test_a_sleep_that_ends_late_still_gets_an_attempt() -> None:
    """No attempt is ever sent with a time of zero or less, which would mean "no limit"."""
    world = World((1, RateLimitError("b", retry_after_s=8.9999)), (0, REPLY))
    assert world.run(timeout_s=10) == "yes"
    assert 0 < world.sent_with[1] <= 0.001


def test_an_error_with_time_left_stays_itself() -> None:
    """A retry that would come too late is not a deadline: there was time, but not for the wait."""
    with pytest.raises(RateLimitError):
        World((99.5, RateLimitError("b", retry_after_s=5))).run()


def test_the_ledger_has_every_fact() -> None:
    """Its line is the turn's: times from the clock, the model and ids of the answer."""
    reply = Reply(model="m-2026", text="yes", stop_reason="end_turn", usage=Usage(input_tokens=1), request_id="req_1")
    world = World((2, reply))
    world.seconds = 1000
    world.run()
    (entry,) = world.entries
    assert (entry.duration_ms, entry.model, entry.request_id, entry.stop_reason) == (
        2000,
        "m-2026",
        "req_1",
        "end_turn",
    )
    assert (entry.success, entry.attempts, entry.timestamp) == (True, 1, world.now() - timedelta(seconds=2))


def test_an_unknown_usage_makes_the_sum_unknown() -> None:
    """One attempt that was not counted makes tokens and price of the turn unknown, never too low."""
    cut = Reply(model="claude-haiku-5-5", text="y", stop_reason=None, usage=None)
    result = World((1, cut), (1, REPLY)).run()
    assert (result.usage, result.cost_usd, result.attempts) == (None, None, 2)
