"""Which beginning of a request others can share, and what is remembered of it."""

from functools import partial

import pytest
from msgspec.structs import replace

from claude_force.base.clock import SystemClock
from claude_force.base.records import Request
from claude_force.engine.warming import MOST_PREFIXES, Place, Warmth, prefixes
from tests.conftest import MovedClock

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


def joined(warmth: Warmth, count: int) -> list[Place]:
    """So many that share all but the task."""
    places = [warmth.join(REQUEST, is_blocking=False) for _ in range(count)]
    return [place for place in places if place]


def may_go(warmth: Warmth, place: Place, *, is_late: bool = False) -> bool:
    """Whether one goes that could wait."""
    return warmth.try_send(place, others="none", ttl="5m", can_wait=True, is_late=is_late)


def test_one_goes_first_and_calls_the_others() -> None:
    """It alone is marked to be kept; at its first event all others go, and read. Then nothing is left of them."""
    warmth = Warmth(MovedClock(1000))
    places, called = joined(warmth, 3), list[int]()
    assert [may_go(warmth, place) for place in places] == [True, False, False]
    for number, place in enumerate(places[1:], 1):
        place.called.listen(partial(called.append, number))
    first = places[0].caching
    assert first is not None
    assert first.on_begin is not None
    first.on_begin()
    assert called == [1, 2]
    assert [may_go(warmth, place) for place in places[1:]] == [True, True]
    assert [place.caching and (place.caching.ends, place.caching.on_begin) for place in places[1:]] == [
        (first.ends, None)
    ] * 2
    for place in places:
        warmth.leave(place, has_answer=True)
    assert {(entry.present, entry.leader, len(entry.waiting)) for entry in warmth._entries.values()} == {(0, None, 0)}


def test_who_has_waited_in_vain_goes_in_the_firsts_stead() -> None:
    """Only one of them does: the others then wait for that one."""
    warmth = Warmth(MovedClock(1000))
    _, second, third = places = joined(warmth, 3)
    assert [may_go(warmth, place) for place in places] == [True, False, False]
    assert may_go(warmth, second, is_late=True)
    assert second.caching is not None
    assert not may_go(warmth, third)
    assert third.waits_for is second
    warmth.leave(second, has_answer=False)
    assert may_go(warmth, third)
    assert third.caching is not None


@pytest.mark.parametrize(("seconds", "is_kept"), [(299.9, True), (300, False)])
def test_what_was_used_is_worth_keeping_for_five_minutes(seconds: float, is_kept: bool) -> None:  # noqa: FBT001 - a row
    """As long as the prompt cache itself would have had it."""
    time = MovedClock(1000)
    warmth = Warmth(time)
    send(warmth, REQUEST)
    time.seconds += seconds
    assert (send(warmth, REQUEST).caching is not None) is is_kept


def test_not_everything_is_remembered() -> None:
    """A service that sees a new file with each call does not grow; what is used all the time is not forgotten."""
    warmth = Warmth(SystemClock())
    for number in range(3 * MOST_PREFIXES):
        file = f"{number} " * 2_000
        place = send(warmth, replace(REQUEST, prompt=(file, "a task")))
        assert number == 0 or place.caching is not None
    assert len(warmth._entries) <= MOST_PREFIXES + 2
