"""The retry rule: which errors pass, how long to wait, and never beyond the deadline."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from claude_force.base.errors import (
    AccountLimitError,
    ApiError,
    ClaudeForceError,
    ConnectionFailedError,
    CredentialsError,
    CutAnswerError,
    EmptyAnswerError,
    InvalidOutputError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    ProtocolError,
    RateLimitError,
    RefusalError,
    RequestTooLargeError,
    ServerError,
    TimedOutError,
)
from claude_force.engine.retry import CAP_S, is_passing, wait_s


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (RateLimitError("x"), True),
        (OverloadedError("x"), True),
        (ServerError("x"), True),
        (ConnectionFailedError("x"), True),
        (TimedOutError("x"), True),
        (CutAnswerError("x"), True),
        (CutAnswerError("x", stop_reason="tool_use"), False),
        (InvalidOutputError("x", stop_reason="end_turn"), True),
        (InvalidOutputError("x", stop_reason="max_tokens"), False),
        (RateLimitError("x", should_retry=False), False),
        (InvalidRequestError("x", should_retry=True), True),
        (CredentialsError("x", should_retry=True), False),
        (InvalidRequestError("x"), False),
        (RequestTooLargeError("x"), False),
        (ModelNotFoundError("x"), False),
        (CredentialsError("x"), False),
        (AccountLimitError("x"), False),
        (ProtocolError("x"), False),
        (ApiError("x"), False),
        (RefusalError("x"), False),
        (EmptyAnswerError("x"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_only_what_passes_is_tried_again(error: ClaudeForceError, passing: bool) -> None:  # noqa: FBT001 - a row
    """Trouble that time mends is retried; a terminal error never is, whatever the server says."""
    assert is_passing(error) is passing
    assert (wait_s(error, attempt=1, max_retries=3, left_s=100, roll=0.5) is not None) is passing


@given(
    attempt=st.integers(1, 10_000),
    left_s=st.floats(0.001, 1e6),
    roll=st.floats(0, 1, exclude_max=True),
    asked=st.none() | st.floats(0, 1e9),
)
@example(attempt=1, left_s=5.0, roll=0.5, asked=5.0)
def test_a_wait_ends_before_the_deadline(attempt: int, left_s: float, roll: float, asked: float | None) -> None:
    """Whatever the server asks, no wait reaches the deadline, and `retry-after` is waited in full or not at all."""
    wait = wait_s(
        RateLimitError("x", retry_after_s=asked), attempt=attempt, max_retries=10_000, left_s=left_s, roll=roll
    )
    if asked is not None:
        assert wait == (asked if asked < left_s else None)
    elif wait is not None:
        assert 0 <= wait < left_s
        assert wait <= CAP_S


@pytest.mark.parametrize(("attempt", "most"), [(1, 0.5), (2, 1.0), (3, 2.0), (5, 8.0), (6, 8.0), (50, 8.0)])
def test_the_back_off_doubles_up_to_its_cap(attempt: int, most: float) -> None:
    """Full jitter: anything from nothing to the doubled base."""
    waits = [wait_s(ServerError("x"), attempt=attempt, max_retries=99, left_s=1e9, roll=roll) for roll in (0.0, 0.5)]
    assert waits == [0, most / 2]


def test_retries_end() -> None:
    """After `max_retries` retries the error is final."""
    waits = [wait_s(ServerError("x"), attempt=n, max_retries=2, left_s=100.0, roll=0.5) for n in (1, 2, 3)]
    assert [wait is None for wait in waits] == [False, False, True]
    assert wait_s(ServerError("x"), attempt=1, max_retries=0, left_s=100.0, roll=0.5) is None
