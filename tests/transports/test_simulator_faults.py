"""Everything that can go wrong between a client and the API, on demand: what the real SDK makes of each fault."""

import asyncio
import http.client
import itertools
import json
import ssl
import time
from contextlib import closing
from typing import Any

import aiohttp
import anthropic
import httpx2
import pytest

from claude_force.testing import (
    Answer,
    ApiFault,
    BadJson,
    CutStream,
    Disconnect,
    Fault,
    Hang,
    Latency,
    MidStreamError,
    NotMessages,
    Rule,
    Simulator,
    Stall,
)
from tests.transports.conftest import ASK

TEXT = "A text of some length, so that it comes in a few pieces."


def sdk(simulator: Simulator, wait_s: float = 10) -> anthropic.Anthropic:
    """The SDK, without retries; it trusts no certificates, of which reading the machine's would be most of a test."""
    http_client = anthropic.DefaultHttpxClient(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    return anthropic.Anthropic(
        base_url=simulator.base_url, api_key="k", max_retries=0, timeout=wait_s, http_client=http_client
    )


def plain(simulator: Simulator, *, wait_s: float = 10, **more: Any) -> Any:
    """Ask; a stalled server is given up soon."""
    with sdk(simulator, wait_s) as client:
        return client.messages.create(**{**ASK, **more})


def stream(simulator: Simulator, *, wait_s: float = 10, **more: Any) -> Any:
    """As `plain`, as a stream."""
    with sdk(simulator, wait_s) as client, client.messages.stream(**{**ASK, **more}) as events:
        return events.get_final_message()


async def with_aiohttp(simulator: Simulator) -> Any:
    """As `stream`, by the async SDK over aiohttp."""
    async with (
        anthropic.AsyncAnthropic(
            base_url=simulator.base_url, api_key="k", max_retries=0, http_client=anthropic.DefaultAioHttpClient()
        ) as client,
        client.messages.stream(**ASK) as events,
    ):
        return await events.get_final_message()


def test_the_first_requests_fail_and_then_all_is_well() -> None:
    """Faults are used up in order of arrival; `None` leaves a request alone."""
    with Simulator(TEXT, faults=[ApiFault(529), None, ApiFault(500)]) as simulator:
        for error in (anthropic.OverloadedError, None, anthropic.InternalServerError, None, None):
            if error:
                with pytest.raises(error):
                    plain(simulator)
            else:
                assert plain(simulator).content[0].text == TEXT
        assert simulator.stats.statuses == {529: 1, 200: 3, 500: 1}


def test_the_sdk_retries_through_what_passes() -> None:
    """With its own retries on, the SDK gets the answer behind two overloads."""
    with (
        Simulator(TEXT, faults=[ApiFault(529, headers={"retry-after-ms": "1"})] * 2) as simulator,
        anthropic.Anthropic(base_url=simulator.base_url, api_key="k") as client,
    ):
        assert client.messages.create(**ASK).content[0].text == TEXT
        assert [request.headers["x-stainless-retry-count"] for request in simulator.requests] == ["0", "1", "2"]


@pytest.mark.parametrize("ask", [plain, stream])
@pytest.mark.parametrize(
    ("fault", "error", "kind"),
    [
        (ApiFault(400), anthropic.BadRequestError, "invalid_request_error"),
        (ApiFault(401), anthropic.AuthenticationError, "authentication_error"),
        (ApiFault(402), anthropic.PaymentRequiredError, "billing_error"),
        (ApiFault(403), anthropic.PermissionDeniedError, "permission_error"),
        (ApiFault(404), anthropic.NotFoundError, "not_found_error"),
        (ApiFault(408), anthropic.RequestTimeoutError, "timeout_error"),
        (ApiFault(409), anthropic.ConflictError, "conflict_error"),
        (ApiFault(422), anthropic.UnprocessableEntityError, "invalid_request_error"),
        (ApiFault(429), anthropic.RateLimitError, "rate_limit_error"),
        (ApiFault(500), anthropic.InternalServerError, "api_error"),
        (ApiFault(502), anthropic.InternalServerError, "api_error"),
        (ApiFault(503), anthropic.ServiceUnavailableError, "overloaded_error"),
        (ApiFault(529), anthropic.OverloadedError, "overloaded_error"),
        (ApiFault(500, "overloaded_error"), anthropic.InternalServerError, "overloaded_error"),
    ],
    ids=lambda value: str(getattr(value, "status", "")),
)
def test_each_status_comes_as_the_sdks_own_error(
    ask: Any, fault: ApiFault, error: type[anthropic.APIStatusError], kind: str
) -> None:
    """Status and type are those of the API, with a request id in header and body."""
    with Simulator(faults=[fault]) as simulator, pytest.raises(error) as caught:
        ask(simulator)
    assert (caught.value.status_code, caught.value.type, caught.value.api_message) == (fault.status, kind, "simulated")
    assert caught.value.request_id == caught.value.body["request_id"]  # type: ignore[index]  # the SDK says object
    assert caught.value.response.headers["anthropic-ratelimit-requests-limit"]


def test_a_limit_says_when_to_come_back_and_why() -> None:
    """`retry-after`, error code and any other header reach the client as they were given."""
    fault = ApiFault(
        429,
        message="spent",
        error_code="enforced_spend_limit_reached",
        retry_after=75,
        headers={"x-should-retry": "false"},
    )
    with Simulator(faults=[fault]) as simulator, pytest.raises(anthropic.EnforcedSpendLimitReachedError) as caught:
        plain(simulator)
    assert caught.value.error_code == "enforced_spend_limit_reached"
    assert caught.value.response.headers["retry-after"] == "75"
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_a_stream_that_is_cut_cleanly_ends_without_a_stop_reason() -> None:
    """The SDK raises nothing for it: this is the failure that must be looked for."""
    with Simulator(TEXT, faults=[CutStream(after_events=4), CutStream(after_events=0)]) as simulator:
        message = stream(simulator)
        assert (message.stop_reason, message.content[0].text) == (None, TEXT[:24])
        with pytest.raises(Exception):  # noqa: B017, PT011 - without any event the SDK has nothing to report
            stream(simulator)


def test_a_stream_that_is_cut_off_breaks_the_connection() -> None:
    """In the middle of a chunked body, the SDK lets its HTTP client's error through."""
    with Simulator(TEXT, faults=[CutStream(clean=False)] * 2) as simulator:
        with pytest.raises(httpx2.RemoteProtocolError):
            stream(simulator)
        with pytest.raises((httpx2.HTTPError, aiohttp.ClientError)):
            asyncio.run(with_aiohttp(simulator))


@pytest.mark.parametrize(
    ("clean", "error"), [(True, json.JSONDecodeError), (False, anthropic.APIConnectionError)], ids=["clean", "broken"]
)
def test_a_plain_answer_that_is_cut_is_half_a_body(clean: bool, error: type[Exception]) -> None:  # noqa: FBT001 - a row
    """Half a JSON text, or a connection that ends before the promised length."""
    with Simulator(TEXT, faults=[CutStream(clean=clean)]) as simulator, pytest.raises(error):
        plain(simulator)


def test_an_error_in_mid_stream_has_status_200() -> None:
    """The type says what happened; the status does not."""
    with Simulator(TEXT, faults=[MidStreamError(), MidStreamError("api_error", 1, "oh")]) as simulator:
        with pytest.raises(anthropic.APIStatusError) as caught:
            stream(simulator)
        assert (caught.value.status_code, caught.value.type) == (200, "overloaded_error")
        with pytest.raises(anthropic.APIStatusError) as caught:
            stream(simulator)
        assert (caught.value.type, caught.value.api_message) == ("api_error", "oh")


def test_a_plain_request_gets_the_status_of_a_mid_stream_error() -> None:
    """The same trouble, as a request without a stream meets it; it is not billed."""
    with Simulator(TEXT, faults=[MidStreamError()]) as simulator:
        with pytest.raises(anthropic.OverloadedError):
            plain(simulator)
        assert simulator.stats.usage == {}


@pytest.mark.parametrize("ask", [plain, stream])
@pytest.mark.parametrize("fault", [Stall(), Stall(after_events=3), Hang()], ids=["headers", "events", "hang"])
def test_a_silent_server_runs_into_the_clients_timeout(ask: Any, fault: Fault) -> None:
    """Nothing comes any more, the connection stays open; what was made before is billed."""
    with Simulator(TEXT, faults=[fault]) as simulator:
        with pytest.raises((anthropic.APITimeoutError, httpx2.ReadTimeout)):
            ask(simulator, wait_s=0.1)
        stats = simulator.wait_until(lambda stats: stats.abandoned == 1)
        assert (stats.in_flight, bool(stats.usage)) == (0, not isinstance(fault, Hang))


@pytest.mark.parametrize("ask", [plain, stream])
@pytest.mark.parametrize("after", [None, 0, 3, 99])
def test_a_stall_may_pass(ask: Any, after: int | None) -> None:
    """After its pause the rest of the answer comes."""
    with Simulator(TEXT, faults=[Stall(after_events=after, seconds=0.05)]) as simulator:
        message = ask(simulator)
    assert (message.content[0].text, message.stop_reason) == (TEXT, "end_turn")


def open_response(connection: http.client.HTTPConnection, *, is_stream: bool) -> http.client.HTTPResponse:
    """The response as soon as its headers are there."""
    headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
    connection.request("POST", "/v1/messages", json.dumps({**ASK, "stream": is_stream}), headers)
    return connection.getresponse()


@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])
def test_a_stall_comes_where_it_was_put(is_stream: bool) -> None:  # noqa: FBT001 - a row
    """Before the headers, or behind them: the two look different to a client."""
    with Simulator(TEXT, faults=[Stall(seconds=0.2), Stall(after_events=0)]) as simulator:
        address = simulator.base_url.removeprefix("http://")
        with closing(http.client.HTTPConnection(address, timeout=10)) as connection:
            start = time.monotonic()
            response = open_response(connection, is_stream=is_stream)
            assert time.monotonic() - start >= 0.2
            response.read()
        with closing(http.client.HTTPConnection(address, timeout=10)) as connection:
            response = open_response(connection, is_stream=is_stream)
            assert response.status == 200
            connection.sock.settimeout(0.1)
            with pytest.raises(TimeoutError):
                response.read()


@pytest.mark.parametrize("ask", [plain, stream])
def test_broken_json_is_no_error_of_the_sdk(ask: Any) -> None:
    """A corrupt body, or a corrupt event, reaches the caller as a JSON error."""
    with Simulator(TEXT, faults=[BadJson()]) as simulator, pytest.raises(json.JSONDecodeError):
        ask(simulator)


@pytest.mark.parametrize("ask", [plain, stream])
def test_a_page_of_a_proxy_is_no_answer(ask: Any) -> None:
    """HTML with status 200 makes no message; with another status it is that error."""
    with Simulator(TEXT, faults=[NotMessages(), NotMessages(status=502)]) as simulator:
        try:
            found = ask(simulator)
        except Exception as error:  # noqa: BLE001 - what the SDK makes of it differs; that it is no message does not
            found = error
        assert not isinstance(found, anthropic.types.Message)
        with pytest.raises(anthropic.InternalServerError):
            ask(simulator)


@pytest.mark.parametrize("ask", [plain, stream])
def test_a_connection_may_end_before_any_response(ask: Any) -> None:
    """The SDK reports a connection error, and nothing was billed."""
    with Simulator(TEXT, faults=[Disconnect()]) as simulator:
        with pytest.raises(anthropic.APIConnectionError) as caught:
            ask(simulator)
        assert not isinstance(caught.value, anthropic.APITimeoutError)
        assert simulator.stats.usage == {}
        assert ask(simulator).content[0].text == TEXT


def test_what_was_made_is_billed_even_if_it_did_not_arrive() -> None:
    """A cut answer costs as much as a whole one: the reason never to throw away what was paid."""
    with Simulator(TEXT, faults=[CutStream()]) as simulator:
        stream(simulator)
        stream(simulator)
        assert simulator.stats.usage["claude-sonnet-5-5"].output_tokens == 2 * 14


def test_rules_choose_by_the_request() -> None:
    """A rule looks at the request, may be used up, and comes before the list of faults."""
    rules = [
        Rule(ApiFault(529), when=lambda request: "python" in request.prompt, times=1),
        Rule("from the rule", when=lambda request: request.system == "special"),
    ]
    with Simulator("else", rules=rules) as simulator:
        python = [{"role": "user", "content": "python"}]
        with pytest.raises(anthropic.OverloadedError):
            plain(simulator, messages=python)
        assert plain(simulator, messages=python).content[0].text == "else"
        assert plain(simulator, system="special").content[0].text == "from the rule"


def test_rules_hold_for_other_paths() -> None:
    """What asks for models can fail as well."""
    rule = Rule(ApiFault(503), when=lambda request: request.path.startswith("/v1/models"))
    with (
        Simulator(rules=[rule]) as simulator,
        anthropic.Anthropic(base_url=simulator.base_url, api_key="k", max_retries=0) as client,
    ):
        with pytest.raises(anthropic.ServiceUnavailableError):
            client.models.list()
        assert client.messages.create(**ASK).stop_reason == "end_turn"


def _failures(seed: int, order: list[int]) -> set[int]:
    failed = set()
    with Simulator(rules=[Rule(ApiFault(529), probability=0.5)], seed=seed) as simulator:
        for number in order:
            try:
                plain(simulator, messages=[{"role": "user", "content": f"task {number}"}])
            except anthropic.OverloadedError:
                failed.add(number)
    return failed


def test_chance_is_the_same_in_every_run_and_in_any_order() -> None:
    """Which requests fail is fixed by the seed and the request, not by when they arrive."""
    numbers = list(range(20))
    failed = _failures(1, numbers)
    assert 0 < len(failed) < 20
    assert failed == _failures(1, numbers[::-1])
    assert failed != _failures(2, numbers)


def test_answers_come_in_order_and_say_when_they_run_out() -> None:
    """A list is used up in order of arrival; one more request is an error that says so."""
    with Simulator(["one", Answer("two"), ApiFault(400, message="three")], faults=[CutStream()]) as simulator:
        assert stream(simulator).stop_reason is None
        assert [plain(simulator).content[0].text for _ in range(2)] == ["one", "two"]
        with pytest.raises(anthropic.BadRequestError, match="three"):
            plain(simulator)
        with pytest.raises(anthropic.InternalServerError, match="list of 3 answers is used up"):
            plain(simulator)


def test_a_function_may_answer() -> None:
    """It sees the request; `None` is the default answer, and what it raises is told to the client."""

    def answer(request: Any) -> str | Answer | Fault | None:
        match request.prompt:
            case "fault":
                return ApiFault(529)
            case "default":
                return None
            case "broken":
                raise LookupError("no such thing")
            case other:
                return f"{request.number} {request.model}: {other}"

    def ask(simulator: Simulator, prompt: str) -> Any:
        return plain(simulator, messages=[{"role": "user", "content": prompt}])

    with Simulator(answer) as simulator:
        assert ask(simulator, "hello").content[0].text == "1 claude-sonnet-5-5: hello"
        assert ask(simulator, "default").content[0].text.startswith("[simulated answer")
        with pytest.raises(anthropic.OverloadedError):
            ask(simulator, "fault")
        with pytest.raises(anthropic.InternalServerError, match="no such thing"):
            ask(simulator, "broken")


def test_more_can_be_said_while_it_runs() -> None:
    """`script` adds to what the next requests get."""
    with Simulator() as simulator:
        simulator.script("one", ApiFault(429))
        assert plain(simulator).content[0].text == "one"
        with pytest.raises(anthropic.RateLimitError):
            plain(simulator)
        assert plain(simulator).stop_reason == "end_turn"


def test_a_refused_request_uses_up_no_answer() -> None:
    """What the API would refuse never reaches the script."""
    with Simulator(["one"]) as simulator:
        with pytest.raises(anthropic.BadRequestError):
            plain(simulator, messages=[{"role": "assistant", "content": "a"}])
        assert plain(simulator).content[0].text == "one"


@pytest.mark.parametrize("ask", [plain, stream])
@pytest.mark.parametrize(
    ("latency", "answer", "at_least_s"),
    [
        (0.05, TEXT, 0.05),
        (Latency(0.02, per_token_s=0.005), TEXT, 0.09),
        (60.0, Answer(TEXT, latency_s=0.05), 0.05),
        (60.0, Answer(TEXT, latency_s=0), 0.0),
    ],
    ids=["fixed", "per-token", "answer", "answer-at-once"],
)
def test_answers_take_their_time(ask: Any, latency: Any, answer: Any, at_least_s: float) -> None:
    """A latency is never undercut, whether streamed or not, and an answer's own comes first."""
    with Simulator(answer, latency=latency) as simulator:
        start = time.monotonic()
        assert ask(simulator).content[0].text == TEXT
        assert at_least_s <= time.monotonic() - start < 30.0


def test_a_paced_stream_comes_piece_by_piece() -> None:
    """The first pieces do not wait for the last, which would come after an hour; who leaves then is noticed."""
    with (
        Simulator("x" * 400_000, latency=Latency(per_token_s=0.04)) as simulator,
        anthropic.Anthropic(base_url=simulator.base_url, api_key="k") as client,
    ):
        start = time.monotonic()
        with client.messages.stream(**{**ASK, "max_tokens": 128_000}) as events:
            pieces = itertools.islice((event for event in events if event.type == "content_block_delta"), 2)
            assert len(list(pieces)) == 2
        assert time.monotonic() - start >= 2 * 6 * 0.04
        simulator.wait_until(lambda stats: stats.abandoned == 1)


@pytest.mark.parametrize(
    ("latency", "fifth", "last_fifth"),
    [
        (Latency(1.0), 1.0, 1.0),
        (Latency(1.0, kind="uniform", spread=0.5), 0.7, 1.3),
        (Latency(1.0, kind="lognormal", spread=0.5), 0.66, 1.52),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_latencies_vary_as_told(latency: Latency, fifth: float, last_fifth: float) -> None:
    """Around their middle, as far as their spread says."""
    steps = [number / 100 for number in range(100)]
    rolls = [{"latency": first, "angle": second} for first in steps for second in steps[::5]]
    times = sorted(latency.first_token_s(roll.__getitem__) for roll in rolls)
    assert [times[len(times) * part // 10] for part in (2, 5, 8)] == pytest.approx([fifth, 1.0, last_fifth], rel=0.05)
