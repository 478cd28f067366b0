"""Which beginning of a request others can share, and what is remembered of it."""

import pytest
from msgspec.structs import replace

from claude_force.base.clock import SystemClock
from claude_force.base.records import Request
from claude_force.engine.warming import MOST_PREFIXES, Place, Warmth, prefixes

LONG = "word " * 4_000  # 5,000 tokens
REQUEST = Request(model="claude-opus-5-5", system=("shared", LONG), prompt=("a file", "a task"), max_tokens=100)


def keys(request: Request) -> list[bytes]:
    """Of its prefixes, the longest first."""
    return [prefix.key for prefix in prefixes(request)]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"prompt": ("a file", "another task")}, [True, True]),
        ({"max_tokens": 99}, [True, True]),
        ({"prompt": ("another file", "a task")}, [False, True]),
        ({"effort": "low"}, [False, True]),
        ({"output_schema": "{}"}, [False, True]),
        ({"system": ("share", "d" + LONG)}, [False, False]),
        ({"model": "claude-opus-5"}, [False, False]),
    ],
)
def test_what_is_shared(change: dict[str, object], same: list[bool]) -> None:
    """All but the task; what else is sent is part of a prefix that reaches into the message, as the API has it."""
    others = keys(replace(REQUEST, **change))
    assert [one == other for one, other in zip(keys(REQUEST), others, strict=True)] == same


@pytest.mark.parametrize(
    ("request_", "ends"),
    [
        (REQUEST, [1, 0]),
        (replace(REQUEST, prompt=("a task",)), [0]),
        (replace(REQUEST, system=(), prompt=(LONG, "a task")), [1]),
        (replace(REQUEST, system=("short",), prompt=(LONG, "a task")), [1]),
        (replace(REQUEST, system=("short",), prompt=("short", LONG)), []),
        (replace(REQUEST, system=("x" * 4 * 511,), prompt=("a task",)), []),
        (replace(REQUEST, system=("x" * 4 * 511 + "x",)), [1, 0]),
        (replace(REQUEST, system=("x" * 4 * 511 + "x",), model="claude-opus-4-7"), []),
    ],
)
def test_where_it_may_end(request_: Request, ends: list[int]) -> None:
    """Before the message, and before the task, where it is as long as the model wants; a task is shared by nobody."""
    assert [prefix.end for prefix in prefixes(request_)] == ends


def send(warmth: Warmth, request: Request) -> Place:
    """One that is sent at once, and answered."""
    place = warmth.join(request, is_blocking=True)
    assert place is not None
    assert warmth.try_send(place, others="none", ttl="5m", can_wait=True, is_late=False)
    warmth.leave(place, has_answer=True)
    return place


def test_not_everything_is_remembered() -> None:
    """A service that sees a new file with each call does not grow; what is used all the time is not forgotten."""
    warmth = Warmth(SystemClock())
    for number in range(3 * MOST_PREFIXES):
        file = f"{number} " * 2_000
        place = send(warmth, replace(REQUEST, prompt=(file, "a task")))
        assert number == 0 or place.caching is not None
    assert len(warmth._entries) <= MOST_PREFIXES + 2
