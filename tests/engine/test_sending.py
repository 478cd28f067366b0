"""Sending batches: how many requests go together, and what an error says of where they are."""

import pytest

from claude_force.base.batches import BatchEntry
from claude_force.base.errors import ApiError
from claude_force.engine.sending import MOST_BYTES, MOST_ENTRIES, _may_be_there, _split


@pytest.mark.parametrize(
    ("size", "count", "parts"),
    [
        (MOST_BYTES // 3, 7, [3, 3, 1]),
        (MOST_BYTES + 1, 2, [1, 1]),  # the server says no to each by itself
        (0, 2 * MOST_ENTRIES + 1, [MOST_ENTRIES, MOST_ENTRIES, 1]),
        (0, 0, []),
    ],
)
def test_no_batch_is_too_large(size: int, count: int, parts: list[int]) -> None:
    """Neither in bytes nor in entries, and each is as large as it may be."""
    entry = BatchEntry(key="k", agent="reviewer", body=bytes(size))
    assert [len(part) for part in _split([entry] * count)] == parts


@pytest.mark.parametrize(
    ("error", "may_be"),
    [
        (ApiError("x"), False),
        (ApiError("x", may_have_arrived=True), True),
        (ApiError("x", status=400), False),
        (ApiError("x", status=408), True),
        (ApiError("x", status=429), False),
        (ApiError("x", status=500), True),
        (ApiError("x", status=504), True),
        (ApiError("x", status=529), False),
    ],
)
def test_what_may_have_been_taken_is_not_sent_again(error: ApiError, *, may_be: bool) -> None:
    """Only a clear no is one: whatever else happened, the batch may be there, and be billed."""
    assert _may_be_there(error) is may_be
