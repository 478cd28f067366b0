"""The simulated rate limits: what is admitted, what has to wait and for how long, and what the headers tell."""

import http.client
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple

import anthropic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.base.errors import InputError
from claude_force.base.usage import Usage
from claude_force.testing import Answer, ApiFault, ApiLimits, CutStream, Disconnect, Simulator
from claude_force.transports.simulator.limits import Allowance
from claude_force.transports.simulator.script import RejectedError
from tests.conftest import NOON, MovedClock
from tests.transports.conftest import call

MODEL = "claude-sonnet-5-5"
KINDS = ("requests", "input-tokens", "output-tokens", "tokens")
SHARED = "shared " * 600  # 4,200 characters: 1,050 tokens, enough to be cached


class Reply(NamedTuple):
    """What came back over plain HTTP."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def left(self) -> tuple[int, ...]:
        """What the headers say is left: requests, input, output, both."""
        return tuple(int(self.headers[f"anthropic-ratelimit-{kind}-remaining"]) for kind in KINDS)

    @property
    def resets_s(self) -> tuple[float, ...]:
        """When the headers say that each is full again, in seconds since the start."""
        resets = (self.headers[f"anthropic-ratelimit-{kind}-reset"] for kind in KINDS)
        return tuple((datetime.fromisoformat(reset) - NOON).total_seconds() for reset in resets)


def request(tokens: int = 10, **more: Any) -> dict[str, Any]:
    """A request with a prompt of that many tokens."""
    messages = [{"role": "user", "content": "x" * 4 * tokens}]
    return {"model": MODEL, "max_tokens": 1000, "messages": messages, **more}


def ask(simulator: Simulator, tokens: int = 10, **more: Any) -> Reply:
    """Send such a request."""
    return Reply(*call(simulator, body=request(tokens, **more)))


def limited(answer: Any = "x" * 40, *, burst_s: float = 60.0, **limits: int) -> tuple[Simulator, MovedClock]:
    """A simulator whose answers have ten tokens, and the clock by which it refills."""
    clock = MovedClock()
    return Simulator(answer, clock=clock, limits=ApiLimits(burst_s=burst_s, **limits)), clock


def test_the_sdk_is_told_when_to_come_again() -> None:
    """Beyond the limit the SDK raises its rate limit error; after `retry-after` seconds the request goes through."""
    simulator, clock = limited(requests_per_minute=3)
    with simulator, anthropic.Anthropic(base_url=simulator.base_url, api_key="k", max_retries=0) as client:
        for _ in range(3):
            client.messages.create(**request())
        with pytest.raises(anthropic.RateLimitError) as caught:
            client.messages.create(**request())
        assert caught.value.type == "rate_limit_error"
        assert caught.value.response.headers["retry-after"] == "20"
        assert "retry-after-ms" not in caught.value.response.headers
        clock.seconds += 20
        with client.messages.stream(**request()) as stream:
            assert stream.get_final_message().usage.output_tokens == 10
            assert stream.response.headers["anthropic-ratelimit-requests-remaining"] == "0"
        assert simulator.stats.statuses == {200: 4, 429: 1}
        assert simulator.stats.usage[MODEL].input_tokens == 4 * 10


@pytest.mark.parametrize(
    ("limits", "tokens", "retry_after", "named"),
    [
        pytest.param({"requests_per_minute": 1}, 10, "60", "1 requests", id="requests"),
        pytest.param({"input_tokens_per_minute": 100}, 41, "1", "100 input tokens", id="one-token-short"),
        pytest.param({"input_tokens_per_minute": 100}, 90, "30", "100 input tokens", id="input"),
        pytest.param({"output_tokens_per_minute": 10}, 10, "6", "10 output tokens", id="output"),
        pytest.param({"output_tokens_per_minute": 5}, 10, "72", "5 output tokens", id="output-in-debt"),
        pytest.param({"requests_per_minute": 7}, 10, None, None, id="fits"),
        pytest.param(
            {"requests_per_minute": 1, "input_tokens_per_minute": 100}, 100, "60", "1 requests", id="the-longest"
        ),
    ],
)
def test_each_limit_bites(limits: dict[str, int], tokens: int, retry_after: str | None, named: str | None) -> None:
    """A second request waits for whichever bucket lacks most: whole seconds, rounded up; the message says which."""
    simulator, clock = limited(**limits)
    with simulator:
        assert ask(simulator, 60).status == 200
        second = ask(simulator, tokens)
        assert second.headers.get("retry-after") == retry_after
        if retry_after:
            assert (second.status, second.body["error"]["type"]) == (429, "rate_limit_error")
            assert f"{named} per minute for '{MODEL}'" in second.body["error"]["message"]
            clock.seconds += int(retry_after) - 1
            assert ask(simulator, tokens).status == 429
            clock.seconds += 1
        assert ask(simulator, tokens).status == 200


def test_headers_tell_what_is_left_and_when_all_is_back() -> None:
    """Limits, rests and resets of four kinds, on success and on a 429, as they stand once the request is admitted."""
    simulator, clock = limited(requests_per_minute=2, input_tokens_per_minute=600, output_tokens_per_minute=20)
    with simulator:
        first = ask(simulator, 100)
        limits = [first.headers[f"anthropic-ratelimit-{kind}-limit"] for kind in KINDS]
        assert limits == ["2", "600", "20", "620"]
        assert (first.left, first.resets_s) == ((1, 500, 20, 520), (30, 10, 0, 10))
        clock.seconds += 5
        second = ask(simulator, 100)
        assert (second.left, second.resets_s) == ((0, 450, 11, 461), (60, 20, 30, 30))
        third = ask(simulator, 100)
        assert third.status == 429
        assert (third.left, third.resets_s) == ((0, 450, 1, 451), (60, 20, 60, 60))


@pytest.mark.parametrize(
    ("per_minute", "left"), [(99_999, 98_799), (100_000, 99_000), (100_700, 100_000)], ids=["exact", "down", "up"]
)
def test_large_rests_are_rounded_as_the_api_does(per_minute: int, left: int) -> None:
    """To the nearest thousand; a small limit, as tests use, is told to the token."""
    simulator, _ = limited(input_tokens_per_minute=per_minute)
    with simulator:
        assert ask(simulator, 1200).left[1] == left


def test_reads_from_the_prompt_cache_are_free() -> None:
    """Shared text counts once, when it is written."""
    simulator, _ = limited(input_tokens_per_minute=1200)
    system = [{"type": "text", "text": SHARED, "cache_control": {"type": "ephemeral"}}]
    with simulator:
        assert [ask(simulator, 10, system=system).left[1] for _ in range(3)] == [140, 130, 120]
        assert ask(simulator, 1000).status == 429


def test_max_tokens_does_not_count_and_output_counts_when_it_begins() -> None:
    """Answers that are held are not charged; released together they may leave a debt, which is paid by waiting."""
    simulator, clock = limited(output_tokens_per_minute=15)
    with simulator, ThreadPoolExecutor(2) as pool:
        simulator.hold()
        held = [pool.submit(ask, simulator, max_tokens=100_000) for _ in range(2)]
        simulator.wait_until(lambda stats: stats.in_flight == 2)
        simulator.release()
        assert [reply.result().status for reply in held] == [200, 200]
        assert ask(simulator).headers["retry-after"] == "24"  # a debt of 5, and 1 to go on
        clock.seconds += 24
        assert ask(simulator).left[2] == 1


def test_a_429_is_not_held_back() -> None:
    """`hold` keeps answers, and this is none."""
    simulator, _ = limited(requests_per_minute=1)
    with simulator:
        ask(simulator)
        simulator.hold()
        assert ask(simulator).status == 429


def test_each_model_has_its_own_limits() -> None:
    """A model that is used up stops no other; an alias is the same model."""
    simulator, _ = limited(requests_per_minute=1)
    with simulator:
        models = ("claude-haiku-4-5", MODEL, "claude-haiku-4-5-20251001", MODEL)
        assert [ask(simulator, model=model).status for model in models] == [200, 200, 429, 429]


def test_what_is_not_admitted_takes_nothing() -> None:
    """Neither a request, nor tokens, nor a scripted answer: however often one knocks, the wait is the same."""
    simulator, clock = limited(["one", "two"], requests_per_minute=2, input_tokens_per_minute=100)
    with simulator:
        assert ask(simulator, 60).body["content"][0]["text"] == "one"
        simulator.script(ApiFault(500))
        assert [ask(simulator, 60).headers["retry-after"] for _ in range(5)] == ["12"] * 5
        assert ask(simulator).status == 500
        clock.seconds += 60
        assert ask(simulator, 60).body["content"][0]["text"] == "two"


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(request(model="claude-nothing-1"), id="unknown-model"),
        pytest.param(request(max_tokens=0.5), id="invalid"),
        pytest.param({"model": [MODEL]}, id="model-is-no-text"),
        pytest.param(["no object"], id="no-object"),
    ],
)
def test_a_request_that_the_api_would_refuse_is_not_charged(refused: Any) -> None:
    """Its response has the headers all the same, and they say that nothing was taken."""
    simulator, _ = limited(requests_per_minute=1, input_tokens_per_minute=100, output_tokens_per_minute=10)
    with simulator:
        for _ in range(3):
            reply = Reply(*call(simulator, body=refused))
            assert 400 <= reply.status < 429
            assert reply.left == (1, 100, 10, 110)
        assert ask(simulator).status == 200


def test_a_request_that_fails_later_keeps_what_it_took() -> None:
    """A scripted error tells the headers, a lost connection none; both cost a request and its input, but no output."""
    simulator, _ = limited(requests_per_minute=9, input_tokens_per_minute=100, output_tokens_per_minute=100)
    with simulator:
        simulator.script(ApiFault(529), Disconnect())
        assert ask(simulator).left == (8, 90, 100, 190)
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            ask(simulator)
        assert ask(simulator).left == (6, 70, 100, 170)


def test_a_script_that_raises_still_tells_the_headers() -> None:
    """The 500 that a broken test function gets is a response as any other."""
    simulator, _ = limited(lambda _: 1 / 0, requests_per_minute=2)
    with simulator:
        reply = ask(simulator)
        assert (reply.status, reply.left[0]) == (500, 1)


def test_an_answer_that_breaks_off_is_charged_whole() -> None:
    """As it is billed: a stream that is cut after it began has cost its output."""
    simulator, _ = limited(output_tokens_per_minute=100)
    with simulator, anthropic.Anthropic(base_url=simulator.base_url, api_key="k", max_retries=0) as client:
        simulator.script(CutStream())
        with client.messages.stream(**request()) as stream:
            stream.until_done()
        assert ask(simulator).left[2] == 90


def test_a_scripted_usage_is_what_counts() -> None:
    """What is billed is what is charged, also where a script says so: settled once the answer begins."""
    usage = Usage(input_tokens=70, cache_read_tokens=5000, cache_write_1h_tokens=10, output_tokens=30)
    simulator, _ = limited(input_tokens_per_minute=200, output_tokens_per_minute=100)
    with simulator:
        simulator.script(Answer("ok", usage=usage), Answer("ok", usage=Usage()))
        assert ask(simulator, 100).left[1:3] == (100, 100)
        assert ask(simulator, 100).left[1:3] == (20, 70)
        assert ask(simulator, 1).left[1:3] == (119, 70)


def test_a_request_larger_than_the_bucket_waits_until_that_is_full() -> None:
    """It is late, but it is not lost; what it took beyond the bucket has to come back before the next."""
    simulator, clock = limited(input_tokens_per_minute=100)
    with simulator:
        ask(simulator, 10)
        assert ask(simulator, 250).headers["retry-after"] == "6"
        clock.seconds += 6
        large = ask(simulator, 250)
        assert (large.status, large.left[1], large.resets_s[1]) == (200, 0, 6 + 150)
        assert ask(simulator, 1).headers["retry-after"] == "91"  # a debt of 150, and 1 to go on, at 100 a minute
        clock.seconds += 91
        assert ask(simulator, 1).status == 200


@pytest.mark.parametrize(("burst_s", "at_once"), [(60, 120), (1, 2), (0.01, 1), (90, 180)])
def test_a_limit_can_be_enforced_by_the_second(burst_s: float, at_once: int) -> None:
    """`burst_s` says how much of a minute's limit may be asked at once; the pace is the same, and one always fits."""
    allowance = Allowance(MODEL, ApiLimits(requests_per_minute=120, burst_s=burst_s), clock := MovedClock())
    assert admitted(allowance, 200) == at_once
    clock.seconds += 0.5
    assert admitted(allowance, 200) == 1


def test_nothing_is_limited_unless_said() -> None:
    """By default, and for each `None`, all is always left, as far as one can ask."""
    simulator, clock = limited(input_tokens_per_minute=2000)
    with simulator, Simulator(clock=clock) as plain:
        replies = [ask(each) for each in (simulator, plain) for _ in range(50)]
        assert {reply.status for reply in replies} == {200}
        assert {(reply.left[0], reply.left[2]) for reply in replies} == {(100_000, 100_000_000)}
        assert {reply.left[1] for reply in replies[50:]} == {400_000_000}
        clock.seconds += 100
        assert ask(plain).resets_s == (100, 100, 100, 100)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/v1/messages/count_tokens", {"model": MODEL, "messages": request()["messages"]}, id="count"),
        pytest.param("/v1/messages/batches", {"requests": [{"custom_id": "a", "params": request()}]}, id="batch"),
        pytest.param("/v1/models", None, id="models"),
    ],
)
def test_other_routes_are_not_limited(path: str, body: Any) -> None:
    """They go through while messages are used up, and tell nothing of limits that are not theirs."""
    simulator, _ = limited(requests_per_minute=1)
    with simulator:
        ask(simulator)
        for _ in range(3):
            reply = Reply(*call(simulator, path, body))
            assert reply.status == 200
            assert not [name for name in reply.headers if name.startswith("anthropic-ratelimit-")]
        assert ask(simulator).status == 429


def test_exactly_as_many_get_through_as_may() -> None:
    """Many threads at once: the limit is neither missed nor exceeded."""
    simulator, _ = limited(requests_per_minute=20)
    with simulator, ThreadPoolExecutor(16) as pool:
        statuses = Counter(reply.status for reply in pool.map(lambda _: ask(simulator), range(60)))
        assert statuses == simulator.stats.statuses == {200: 20, 429: 40}


@pytest.mark.parametrize(
    ("given_", "named"),
    [
        ({"requests_per_minute": 0}, "requests_per_minute cannot be 0; give 1 or more, or None"),
        ({"input_tokens_per_minute": -1}, "input_tokens_per_minute cannot be -1"),
        ({"output_tokens_per_minute": float("nan")}, "output_tokens_per_minute cannot be nan"),
        ({"burst_s": 0}, "burst_s cannot be 0; give seconds above 0"),
        ({"burst_s": float("inf")}, "burst_s cannot be inf"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(given_: dict[str, Any], named: str) -> None:
    """At once, by name, and with the way out."""
    with pytest.raises(InputError, match=named):
        ApiLimits(**given_)


# ---------------------------------------------------------------- the laws, without a server


def wait_s(allowance: Allowance, tokens: int = 0) -> int:
    """Admit a request, or say how long it is told to wait."""
    try:
        allowance.admit(Usage(input_tokens=tokens))
    except RejectedError as rejected:
        return int(str(rejected.fault.retry_after))
    return 0


def admitted(allowance: Allowance, attempts: int) -> int:
    """How many of so many requests get through."""
    return sum(wait_s(allowance) == 0 for _ in range(attempts))


GAPS = st.floats(0, 100) | st.just(0.0)
STEPS = st.lists(st.tuples(GAPS, st.integers(0, 80), st.integers(0, 40)), min_size=1, max_size=60)
LIMITS = st.builds(
    ApiLimits,
    requests_per_minute=st.none() | st.integers(1, 100),
    input_tokens_per_minute=st.none() | st.integers(1, 1000),
    output_tokens_per_minute=st.none() | st.integers(1, 1000),
    burst_s=st.floats(0.1, 120),
)


@given(limits=LIMITS, steps=STEPS, start_s=st.floats(0, 10_000_000))
def test_no_more_gets_through_than_the_limit(
    limits: ApiLimits, steps: list[tuple[float, int, int]], start_s: float
) -> None:
    """From a full bucket on: at most what it holds, and what came back meanwhile."""
    clock = MovedClock()
    clock.seconds = start_s
    allowance = Allowance(MODEL, limits, clock)
    per_minute = (limits.requests_per_minute, limits.input_tokens_per_minute, limits.output_tokens_per_minute)
    taken = [0, 0, 0]
    for gap_s, tokens, output in steps:
        clock.seconds += gap_s
        if wait_s(allowance, tokens):
            continue
        for limit, before, needed in zip(per_minute, taken, (1, tokens, 1), strict=True):
            if limit is not None and needed:  # who needs nothing waits for nothing
                holds = max(1.0, limit * limits.burst_s / 60)
                came_back = limit * (clock.seconds - start_s) / 60
                assert before + min(needed, holds) <= holds + came_back + 0.001
        allowance.settle(Usage(input_tokens=tokens), Usage(input_tokens=tokens, output_tokens=output))
        taken = [taken[0] + 1, taken[1] + tokens, taken[2] + output]


@given(limits=LIMITS, steps=STEPS, start_s=st.floats(0, 10_000_000))
def test_who_waits_as_told_gets_through(limits: ApiLimits, steps: list[tuple[float, int, int]], start_s: float) -> None:
    """`retry-after` is enough, and at most a second too much."""
    clock = MovedClock()
    clock.seconds = start_s
    allowance = Allowance(MODEL, limits, clock)
    for gap_s, tokens, output in steps:
        clock.seconds += gap_s
        told_s = wait_s(allowance, tokens)
        if told_s:
            clock.seconds += told_s - 1
            assert wait_s(allowance, tokens) == 1
            clock.seconds += 1
            assert wait_s(allowance, tokens) == 0
        allowance.settle(Usage(input_tokens=tokens), Usage(input_tokens=tokens, output_tokens=output))


@given(limits=LIMITS, steps=STEPS)
def test_the_headers_are_true(limits: ApiLimits, steps: list[tuple[float, int, int]]) -> None:
    """What they say is left fits at once, and at the time of the reset all is back."""
    clock = MovedClock()
    allowance = Allowance(MODEL, limits, clock)
    full = [value for name, value in allowance.headers().items() if name.endswith("remaining")]
    for gap_s, tokens, output in steps:
        clock.seconds += gap_s
        told = Reply(0, allowance.headers(), None)
        refused = wait_s(allowance, tokens) > 0
        assert not (refused and told.left[0] and told.left[1] >= tokens and told.left[2])
        assert refused or (told.left[0] and told.left[2])
        if not refused:
            allowance.settle(Usage(input_tokens=tokens), Usage(input_tokens=tokens, output_tokens=output))
    clock.seconds = max(clock.seconds, *Reply(0, allowance.headers(), None).resets_s)
    assert [value for name, value in allowance.headers().items() if name.endswith("remaining")] == full
