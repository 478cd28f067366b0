"""The way through the real SDK, sync and async: every error of the API becomes the right one of ours."""

import asyncio
import contextlib
import json
import socket
import threading
import traceback
from collections.abc import Callable
from typing import Any, Protocol

import pytest

from claude_force.base.endpoints import DEFAULT_ENDPOINT
from claude_force.base.errors import (
    AccountLimitError,
    ApiError,
    ClaudeForceError,
    ConnectionFailedError,
    CredentialsError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    ProtocolError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
    TimedOutError,
)
from claude_force.base.records import Caching, Reply, Request
from claude_force.base.usage import Usage
from claude_force.testing import (
    Answer,
    ApiFault,
    BadJson,
    CutStream,
    Disconnect,
    Hang,
    Latency,
    MidStreamError,
    NotMessages,
    Refusal,
    Simulator,
    Stall,
)
from claude_force.transports.live import AsyncLiveTransport, LiveTransport, _certificates
from tests.conftest import in_threads

MESSAGE: dict[str, Any] = {
    "type": "message",
    "id": "x",
    "role": "assistant",
    "model": "llama3",
    "content": [],
    "stop_reason": None,
}


class Ask(Protocol):
    """One call through one of the two transports."""

    def __call__(
        self,
        base_url: str,
        request: Request = ...,
        *,
        timeout_s: float = ...,
        on_text: Callable[[str], None] | None = ...,
        api_key: str | None = ...,
        caching: Caching | None = ...,
    ) -> Reply:
        """Send once."""


QUESTION = Request(model="claude-sonnet-5-5", system=("You are short.",), prompt=("data", "Why?"), max_tokens=1000)


def ask_now(
    base_url: str,
    request: Request = QUESTION,
    *,
    timeout_s: float = 20,
    on_text: Any = None,
    api_key: str | None = "k",
    caching: Caching | None = None,
) -> Reply:
    """Through the blocking transport."""
    transport = LiveTransport(api_key=api_key, base_url=base_url)
    try:
        return transport.send(request, timeout_s=timeout_s, on_text=on_text, caching=caching)
    finally:
        transport.close()


def ask_awaited(
    base_url: str,
    request: Request = QUESTION,
    *,
    timeout_s: float = 20,
    on_text: Any = None,
    api_key: str | None = "k",
    caching: Caching | None = None,
) -> Reply:
    """Through the awaited transport."""

    async def main() -> Reply:
        transport = AsyncLiveTransport(api_key=api_key, base_url=base_url)
        try:
            return await transport.send(request, timeout_s=timeout_s, on_text=on_text, caching=caching)
        finally:
            await transport.aclose()

    return asyncio.run(main())


@pytest.fixture(params=[ask_now, ask_awaited], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Each test runs through both transports."""
    asker: Ask = request.param
    return asker


def listener(streamed: bool) -> Callable[[str], None] | None:  # noqa: FBT001 - a row of a table
    """Somebody who watches, or nobody."""
    return (lambda _: None) if streamed else None


plain_and_streamed = pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])


@plain_and_streamed
def test_an_answer_arrives_with_its_facts(ask: Ask, streamed: bool) -> None:  # noqa: FBT001 - a row of a table
    """Text, model, stop reason, usage, request id and the simulator's mark; thinking is no text."""
    usage = Usage(
        input_tokens=11, output_tokens=7, cache_read_tokens=5, cache_write_5m_tokens=3, cache_write_1h_tokens=2
    )
    with Simulator(answer=Answer("Because.", thinking="Hm.", usage=usage)) as simulator:
        pieces: list[str] = []
        reply = ask(simulator.base_url, on_text=pieces.append if streamed else None)
        assert (reply.text, reply.model, reply.stop_reason) == ("Because.", "claude-sonnet-5-5", "end_turn")
        assert reply.usage is not None
        assert reply.usage.total_tokens == usage.total_tokens
        assert (reply.usage.cache_write_1h_tokens, reply.usage.cache_read_tokens) == (2, 5)
        assert reply.request_id is not None
        assert reply.request_id.startswith("req_")
        assert reply.simulated
        assert "".join(pieces) == ("Because." if streamed else "")


def test_what_is_sent(ask: Ask) -> None:
    """System blocks, the prompt's blocks in order, effort, and no sampling; nothing is marked for the prompt cache."""
    with Simulator() as simulator:
        ask(
            simulator.base_url,
            Request(model="claude-opus-5-5", system=("a", "b"), prompt=("x", "y"), max_tokens=9, effort="low"),
        )
        (seen,) = simulator.requests
    assert seen.body == {
        "model": "claude-opus-5-5",
        "max_tokens": 9,
        "system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]}],
        "output_config": {"effort": "low"},
    }
    assert seen.headers["authorization"] == "Bearer k"


@pytest.mark.parametrize(("ttl", "marker"), [("5m", {"type": "ephemeral"}), ("1h", {"type": "ephemeral", "ttl": "1h"})])
def test_the_prompt_cache_is_asked_where_it_is_said(ask: Ask, ttl: Any, marker: dict[str, str]) -> None:
    """A mark at the end of the system's blocks, and one after the message's first block; others have none."""
    with Simulator() as simulator:
        question = Request(model="claude-opus-5-5", system=("a", "b"), prompt=("x", "y"), max_tokens=9)
        ask(simulator.base_url, question, caching=Caching((0, 1), ttl))
        body = simulator.requests[0].body
    marked = {"cache_control": marker}
    assert body["system"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"} | marked]
    assert body["messages"][0]["content"] == [{"type": "text", "text": "x"} | marked, {"type": "text", "text": "y"}]


def test_the_beginning_of_an_answer_is_told(ask: Ask) -> None:
    """Before the first text, once, where thinking and a silence come first: then others can read what was kept."""
    told: list[str] = []
    fault = Stall(after_events=1)
    with Simulator(answer=Answer("Because.", thinking="Hm."), faults=[fault]) as simulator:
        for timeout_s in (1.0, 20.0):
            caching = Caching((0,), on_begin=lambda: told.append("begun"))
            with contextlib.suppress(TimedOutError):
                ask(simulator.base_url, timeout_s=timeout_s, on_text=told.append, caching=caching)
    assert told == ["begun", "begun", "Because."]


def test_a_long_answer_is_streamed_without_being_asked(ask: Ask) -> None:
    """Above what the API sends unstreamed, the call streams though nobody watches."""
    with Simulator(answer="long") as simulator:
        for max_tokens, streams in ((21_333, False), (21_334, True)):
            reply = ask(
                simulator.base_url, Request(model="claude-opus-5-5", system=(), prompt=("x",), max_tokens=max_tokens)
            )
            assert reply.text == "long"
            assert simulator.requests[-1].body.get("stream", False) is streams


@plain_and_streamed
def test_a_refusal_says_why(ask: Ask, streamed: bool) -> None:  # noqa: FBT001 - a row of a table
    """The category and the explanation of a refusal arrive."""
    with Simulator(answer=Answer("", refusal=Refusal("cyber", "not this"))) as simulator:
        reply = ask(simulator.base_url, on_text=listener(streamed))
    assert (reply.stop_reason, reply.refusal_category, reply.refusal_explanation) == ("refusal", "cyber", "not this")


STATUSES = [
    (ApiFault(400), InvalidRequestError),
    (ApiFault(400, message="You have reached your specified API usage limits. Try in May."), AccountLimitError),
    (ApiFault(401), CredentialsError),
    (ApiFault(402), AccountLimitError),
    (ApiFault(403), CredentialsError),
    (ApiFault(404), ModelNotFoundError),
    (ApiFault(408), ServerError),
    (ApiFault(409, "conflict_error"), ServerError),
    (ApiFault(413), RequestTooLargeError),
    (ApiFault(422), InvalidRequestError),
    (ApiFault(429), RateLimitError),
    (ApiFault(429, error_code="ramp_limit_exceeded"), RateLimitError),
    (ApiFault(429, error_code="enforced_spend_limit_reached"), AccountLimitError),
    (ApiFault(429, error_code="contract_spend_limit_reached"), AccountLimitError),
    (ApiFault(500), ServerError),
    (ApiFault(501), ServerError),
    (ApiFault(502), ServerError),
    (ApiFault(503), OverloadedError),
    (ApiFault(504), ServerError),
    (ApiFault(529), OverloadedError),
    (ApiFault(431, "something_new"), InvalidRequestError),
    (ApiFault(599, "something_new"), ServerError),
]


@plain_and_streamed
@pytest.mark.parametrize(
    ("fault", "kind"), STATUSES, ids=lambda v: f"{v.status}-{v.error_code}" if isinstance(v, ApiFault) else v.__name__
)
def test_a_status_is_the_right_error(ask: Ask, fault: ApiFault, kind: type[ApiError], streamed: bool) -> None:  # noqa: FBT001 - a row
    """Each row of the API's table of errors, with its facts as fields, and one request: the SDK retries nothing."""
    with Simulator(faults=[fault] * 3) as simulator:
        with pytest.raises(ClaudeForceError) as caught:
            ask(simulator.base_url, on_text=listener(streamed))
        assert sum(simulator.stats.calls.values()) == 1
    error = caught.value
    assert type(error) is kind
    assert isinstance(error, ApiError)
    assert (error.status, error.kind, error.error_code) == (fault.status, fault.error_type, fault.error_code)
    assert error.request_id is not None
    assert error.model == "claude-sonnet-5-5"
    assert fault.message in str(error)
    assert error.__cause__ is not None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Fri, 20 Nov 2020 00:00:00 GMT"}, None),
        ({"retry-after": "Fri, 20 Nov 2020 00:00:07 GMT", "date": "Fri, 20 Nov 2020 00:00:00 GMT"}, 7.0),
        ({"retry-after": "Wed, 20 Nov 2199 00:00:07 GMT", "date": "Wed, 20 Nov 2199 00:00:00 GMT"}, 7.0),
        ({"retry-after": "Fri, 20 Nov 2020 00:00:00 GMT", "date": "Fri, 20 Nov 2020 00:00:00 GMT"}, None),
        ({"retry-after": "Fri, 20 Nov 2020 00:00:00 GMT", "date": "today"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after-ms": "abc", "retry-after": "5"}, 5.0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 -2300"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_retry_after_is_read(ask: Ask, headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds and dates are understood; nonsense, and a moment that has passed, count as nothing.

    A date is read by the clock of the server that gives it, whatever ours says.
    """
    with Simulator(faults=[ApiFault(429, headers=headers)]) as simulator, pytest.raises(RateLimitError) as caught:
        ask(simulator.base_url)
    assert caught.value.retry_after_s == seconds


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError),
        (401, CredentialsError),
        (402, AccountLimitError),
        (403, CredentialsError),
        (408, ServerError),
        (409, ServerError),
        (413, RequestTooLargeError),
        (429, RateLimitError),
        (500, ServerError),
        (502, ServerError),
        (503, OverloadedError),
        (529, OverloadedError),
    ],
)
def test_a_status_without_the_apis_words(ask: Ask, status: int, kind: type[ApiError]) -> None:
    """A proxy's page has no kind and no code: the status alone decides."""
    with Simulator(faults=[NotMessages(status=status)]) as simulator, pytest.raises(ApiError) as caught:
        ask(simulator.base_url)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("invalid_request_error", InvalidRequestError),
        ("authentication_error", CredentialsError),
        ("permission_error", CredentialsError),
        ("billing_error", AccountLimitError),
        ("not_found_error", ModelNotFoundError),
        ("request_too_large", RequestTooLargeError),
        ("rate_limit_error", RateLimitError),
        ("timeout_error", ServerError),
        ("conflict_error", ServerError),
        ("api_error", ServerError),
    ],
)
def test_a_kind_decides_in_mid_stream(ask: Ask, kind: str, error: type[ApiError]) -> None:
    """The status is 200 there, so the kind alone decides; and the answer had begun, which is billed."""
    with Simulator(faults=[MidStreamError(kind)]) as simulator, pytest.raises(ApiError) as caught:
        ask(simulator.base_url, on_text=lambda _: None)
    assert type(caught.value) is error
    assert caught.value.has_begun


@pytest.mark.parametrize(
    "error",
    [{"type": ["a"], "message": {}}, {"type": 5, "message": 7, "details": "x"}, {"details": {"error_code": []}}, 7],
)
def test_an_error_of_another_shape(ask: Ask, error: object) -> None:
    """Whatever stands in the body, an error comes out, not a crash."""
    fault = NotMessages(status=418, body=json.dumps({"error": error}), content_type="application/json")
    with Simulator(faults=[fault]) as simulator, pytest.raises(InvalidRequestError):
        ask(simulator.base_url)


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"cache_creation_input_tokens": 9}, (9, 0)),
        ({"cache_creation_input_tokens": 9, "cache_creation": {}}, (9, 0)),
        ({"cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_1h_input_tokens": 4}}, (5, 4)),
        ({"cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": None}}, (2, 0)),
        ({"cache_creation_input_tokens": 3, "cache_creation": {"ephemeral_1h_input_tokens": 4}}, None),
        ({"cache_read_input_tokens": -1}, None),
        ({"output_tokens_details": {"thinking_tokens": -1}}, None),
        ({"output_tokens": 2**53}, None),
    ],
    ids=str,
)
def test_cache_writes_are_never_lost(ask: Ask, usage: dict[str, Any], counts: tuple[int, int] | None) -> None:
    """What the sum has beyond its parts was written for five minutes; counts that cannot be are unknown."""
    body = MESSAGE | {
        "content": [{"type": "text", "text": "hi"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1} | usage,
    }
    fault = NotMessages(body=json.dumps(body), content_type="application/json")
    with Simulator(faults=[fault]) as simulator:
        read = ask(simulator.base_url).usage
    assert (read and (read.cache_write_5m_tokens, read.cache_write_1h_tokens)) == counts


@pytest.mark.parametrize("fault", [CutStream(after_events=6, clean=False), Stall(after_events=6)], ids=str)
def test_an_answer_that_has_ended_is_kept(ask: Ask, fault: Any) -> None:
    """A connection that breaks or falls silent after the answer's last word costs nothing: it is paid and whole."""
    with Simulator(answer="short", faults=[fault]) as simulator:
        reply = ask(simulator.base_url, on_text=lambda _: None, timeout_s=2)
    assert (reply.text, reply.stop_reason) == ("short", "end_turn")
    assert reply.usage is not None


@pytest.mark.parametrize(("header", "fact"), [("true", True), ("false", False), ("perhaps", None)])
def test_should_retry_is_read(ask: Ask, header: str, fact: bool | None) -> None:  # noqa: FBT001 - a row of a table
    """The server's own word on retrying becomes a fact."""
    with (
        Simulator(faults=[ApiFault(500, headers={"x-should-retry": header})]) as simulator,
        pytest.raises(ServerError) as caught,
    ):
        ask(simulator.base_url)
    assert caught.value.should_retry is fact


@pytest.mark.parametrize(
    ("fault", "kind", "status"),
    [
        (MidStreamError("overloaded_error"), OverloadedError, 200),
        (MidStreamError("rate_limit_error"), RateLimitError, 200),
        (MidStreamError("api_error"), ServerError, 200),
        (MidStreamError("overloaded_error", after_events=1), OverloadedError, 200),
        (CutStream(clean=False), ConnectionFailedError, None),
        (CutStream(clean=True, after_events=0), ConnectionFailedError, 200),
        (BadJson(), ProtocolError, 200),
        (NotMessages(), ConnectionFailedError, 200),
        (NotMessages(status=502), ServerError, 502),
        (Disconnect(), ConnectionFailedError, None),
    ],
    ids=str,
)
def test_a_stream_that_breaks_is_an_error(ask: Ask, fault: Any, kind: type[ApiError], status: int | None) -> None:
    """What goes wrong after status 200 is classified by its content, though the SDK's class says otherwise."""
    with Simulator(answer="a long answer, " * 20, faults=[fault]) as simulator, pytest.raises(ApiError) as caught:
        ask(simulator.base_url, on_text=lambda _: None)
    assert type(caught.value) is kind
    assert caught.value.status == status


def test_a_cleanly_cut_stream_has_no_stop_reason(ask: Ask) -> None:
    """The SDK reports nothing here: the missing stop reason is all there is; what it really cost is not known."""
    with Simulator(answer="a long answer, " * 20, faults=[CutStream(after_events=5)]) as simulator:
        reply = ask(simulator.base_url, on_text=lambda _: None)
    assert reply.stop_reason is None
    assert reply.text
    assert reply.usage is None


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (BadJson(), ProtocolError),
        (NotMessages(), ProtocolError),
        (Disconnect(), ConnectionFailedError),
        (CutStream(clean=False), ConnectionFailedError),
    ],
    ids=str,
)
def test_a_plain_answer_that_breaks_is_an_error(ask: Ask, fault: Any, kind: type[ApiError]) -> None:
    """Broken JSON, a proxy's page and a lost connection are told apart."""
    with Simulator(faults=[fault]) as simulator, pytest.raises(ApiError) as caught:
        ask(simulator.base_url)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("fault", "streamed"),
    [(Hang(), False), (Hang(), True), (Stall(), False), (Stall(after_events=5), True), (Stall(after_events=5), False)],
    ids=str,
)
def test_silence_ends_in_time(ask: Ask, fault: Any, streamed: bool) -> None:  # noqa: FBT001 - a row of a table
    """A server that falls silent, at once or in mid-stream, holds nobody longer than the time given."""
    with Simulator(answer="a long answer, " * 20, faults=[fault]) as simulator:
        with pytest.raises(TimedOutError):
            ask(simulator.base_url, timeout_s=0.3, on_text=listener(streamed))
        simulator.wait_until(lambda stats: stats.connections_open == 0)


def test_a_trickle_ends_in_time(ask: Ask) -> None:
    """A server that sends a little, again and again, cannot hold a turn for ever."""
    pieces: list[str] = []
    with Simulator(answer="word " * 3000, latency=Latency(0.0, per_token_s=0.02)) as simulator:
        with pytest.raises(TimedOutError):
            ask(simulator.base_url, timeout_s=0.5, on_text=pieces.append)
        simulator.wait_until(lambda stats: stats.connections_open == 0)
    assert pieces


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n"


@plain_and_streamed
@pytest.mark.parametrize("beginning", [HEAD + b"\r\n", HEAD + b"x: "], ids=["body", "headers"])
def test_what_trickles_ends_in_time(ask: Ask, beginning: bytes, streamed: bool) -> None:  # noqa: FBT001 - a row of a table
    """What comes byte by byte is cut off at the deadline, too: each byte resets the client's own time-out."""
    ended = threading.Event()

    def trickle(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(beginning)
            with contextlib.suppress(OSError):
                while not ended.wait(0.05):
                    connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=trickle, args=[listening])
        server.start()
        late = threading.Timer(20, ended.set)  # or a defect would be a test that hangs
        late.start()
        try:
            with pytest.raises(TimedOutError):
                ask(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout_s=0.5, on_text=listener(streamed))
        finally:
            assert not ended.is_set()
            late.cancel()
            ended.set()
            server.join()


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_loopback_is_never_asked_through_a_proxy(ask: Ask, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment does not see what goes to this machine, and cannot break it."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
    with Simulator(answer="direct") as simulator:
        assert ask(simulator.base_url).text == "direct"


async def test_plain_loopback_reads_no_certificates() -> None:
    """They take longer to read than many such calls; who speaks TLS, or to another machine, trusts whom it should."""
    url = "http://127.0.0.1:9"
    blocking, awaited = LiveTransport(api_key="k", base_url=url), AsyncLiveTransport(api_key="k", base_url=url)
    pools: list[Any] = [each.client_of(DEFAULT_ENDPOINT)._client._transport for each in (blocking, awaited)]
    assert pools[0]._pool._ssl_context.cert_store_stats()["x509"] == 0
    assert pools[1].ssl_context.cert_store_stats()["x509"] == 0
    assert [_certificates(url) for url in ("https://localhost", "http://gateway.example", None)] == [True] * 3
    blocking.close()
    await awaited.aclose()


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "nonsense://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SOCKS proxy without its package, or one of a kind that there is not, is a clear error, not a traceback."""
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.delenv("CLAUDE_FORCE_ALLOW_REAL_CALLS")
    with pytest.raises(ConnectionFailedError, match="proxy variables") as caught:
        ask_now("https://nowhere.invalid", timeout_s=5)
    assert caught.value.should_retry is False


def test_nothing_listens(ask: Ask) -> None:
    """An address where nobody answers is named."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1") as caught:
            ask(f"http://127.0.0.1:{unused.getsockname()[1]}", timeout_s=5)
    assert caught.value.should_retry is None


@pytest.mark.parametrize("base_url", ["nonsense", "ftp://127.0.0.1", "http://127.0.0.1:notaport"])
def test_an_address_that_is_none(ask: Ask, base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped address fails at once, without retries, and names the setting."""
    monkeypatch.delenv("CLAUDE_FORCE_ALLOW_REAL_CALLS")
    with pytest.raises(ConnectionFailedError, match="ANTHROPIC_BASE_URL") as caught:
        ask(base_url, timeout_s=5)
    assert caught.value.should_retry is False


@pytest.mark.parametrize("base_url", ["https://me:secret/x@h", "https://me:secret@h", "https://h/?key=secret"])
def test_an_address_with_a_password(ask: Ask, base_url: str) -> None:
    """Whatever is wrong with it: what says who asks is neither in the error, nor in its traceback."""
    with pytest.raises(ConnectionFailedError, match="ANTHROPIC_BASE_URL") as caught:
        ask(base_url, timeout_s=5)
    assert "secret" not in "".join(traceback.format_exception(caught.value)).replace(base_url, "")


def test_no_credentials(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key the error says how to set one, and how to do without."""
    with Simulator() as simulator:
        with pytest.raises(CredentialsError, match="--offline"):
            ask(simulator.base_url, api_key=None)
        monkeypatch.setenv("ANTHROPIC_PROFILE", "missing")
        with pytest.raises(CredentialsError, match="profile"):
            ask(simulator.base_url, api_key=None)
        assert not simulator.stats.calls


def test_credentials_come_from_wherever_the_sdk_finds_them(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ANTHROPIC_AUTH_TOKEN` and `ANTHROPIC_BASE_URL` work without any word of ours."""
    with Simulator(answer="yes") as simulator:
        monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "gateway-token")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        assert ask(None, api_key=None).text == "yes"  # type: ignore[arg-type] # None: as the SDK resolves it
        assert simulator.requests[0].headers["authorization"] == "Bearer gateway-token"


def test_a_refused_key(ask: Ask) -> None:
    """A key that the API refuses, or that no key can be, is a credentials error without the key in it."""
    with Simulator() as simulator:
        with pytest.raises(CredentialsError) as caught:
            ask(simulator.base_url, api_key="invalid")
        assert caught.value.status == 401
        with pytest.raises(CredentialsError, match="copy it anew") as caught:
            ask(simulator.base_url, api_key="sk-secret\n")
    assert "sk-secret" not in str(caught.value)


def test_the_switch_forbids_real_calls(ask: Ask) -> None:
    """With `CLAUDE_FORCE_ALLOW_REAL_CALLS=0` nothing but loopback is reached."""
    with pytest.raises(ConnectionFailedError, match="CLAUDE_FORCE_ALLOW_REAL_CALLS=0 forbids"):
        ask("https://api.anthropic.com")


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_is_not_followed(ask: Ask, status: int) -> None:
    """The task goes where the user says, and to nobody whom an answer names."""
    with Simulator() as other:
        elsewhere = ApiFault(status, headers={"location": f"{other.base_url}/v1/messages"})
        with Simulator(faults=[elsewhere]) as simulator, pytest.raises(ProtocolError, match="not followed"):
            ask(simulator.base_url)
        assert other.requests == ()


def stream_of(*events: dict[str, Any]) -> NotMessages:
    """A stream that a server of another make may send."""
    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return NotMessages(body=body, content_type="text/event-stream")


def test_a_server_that_does_not_count(ask: Ask) -> None:
    """An answer without usage, and with a block that nobody knows yet, is an answer, with unknown usage."""
    unknown = {"type": "hologram", "text": {"depth": 3}}
    body = json.dumps(MESSAGE | {"content": [unknown, {"type": "text", "text": "hi"}], "stop_reason": "end_turn"})
    plain = NotMessages(body=body, content_type="application/json")
    streamed = stream_of(
        {"type": "message_start", "message": MESSAGE},
        {"type": "content_block_start", "index": 0, "content_block": unknown},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    )
    with Simulator(faults=[plain, streamed]) as simulator:
        for on_text in (None, lambda _: None):
            reply = ask(simulator.base_url, on_text=on_text)
            assert (reply.text, reply.model, reply.usage, reply.stop_reason) == ("hi", "llama3", None, "end_turn")


@pytest.mark.parametrize(
    "event",
    [
        {"type": "message_start"},
        {"type": "message_start", "message": {"type": "message", "model": 5}},
        {"type": "content_block_start", "index": 0},
        {"type": "content_block_delta", "index": 0, "delta": {}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 5}},
        {"type": "error"},
        {"type": "message_delta"},
    ],
    ids=str,
)
def test_an_event_of_another_shape(ask: Ask, event: dict[str, Any]) -> None:
    """A stream that only looks like the API's is an error, not a crash."""
    stream = stream_of({"type": "message_start", "message": MESSAGE}, event)
    with Simulator(faults=[stream]) as simulator, pytest.raises(ProtocolError, match="no Messages API reply"):
        ask(simulator.base_url, on_text=lambda _: None)


@plain_and_streamed
def test_an_answer_that_is_nested_without_an_end(ask: Ask, streamed: bool) -> None:  # noqa: FBT001 - a row of a table
    """It is no answer, and says so as ours: no parser's own limit leaves as an error of Python's."""
    deep = '{"x": ' + "[" * 100_000 + "]" * 100_000 + "}"
    body = f"event: message_start\ndata: {deep}\n\n" if streamed else deep
    fault = NotMessages(body=body, content_type="text/event-stream" if streamed else "application/json")
    with Simulator(faults=[fault]) as simulator, pytest.raises(ProtocolError, match="no Messages API reply"):
        ask(simulator.base_url, on_text=listener(streamed))


def test_what_the_watcher_raises_is_passed_on(ask: Ask) -> None:
    """A closed terminal is no failure of the API, and must not be retried."""

    def closed(_: str) -> None:
        raise BrokenPipeError("closed")

    with Simulator(answer="hello") as simulator:
        with pytest.raises(BrokenPipeError):
            ask(simulator.base_url, on_text=closed)
        simulator.wait_until(lambda stats: stats.connections_open == 0)


def test_two_threads_share_one_client() -> None:
    """The first calls of many threads make one client, and connections are used again."""
    with Simulator() as simulator:
        transport = LiveTransport(api_key="k", base_url=simulator.base_url)
        clients: list[object] = []
        in_threads(lambda: clients.append(transport.client_of(DEFAULT_ENDPOINT)), 8)
        assert len({id(client) for client in clients}) == 1
        for _ in range(5):
            transport.send(QUESTION, timeout_s=20)
        assert simulator.stats.connections_made == 1
        transport.close()
        transport.close()
        assert transport.send(QUESTION, timeout_s=20).text
        transport.close()


async def test_a_cancelled_call_closes_its_connection() -> None:
    """Cancelling leaves no connection and no task behind, streamed or not."""
    with Simulator(faults=[Hang(), Stall(after_events=3)]) as simulator:
        transport = AsyncLiveTransport(api_key="k", base_url=simulator.base_url)
        for on_text in (None, listener(streamed=True)):
            task = asyncio.create_task(transport.send(QUESTION, timeout_s=20, on_text=on_text))
            await asyncio.to_thread(simulator.wait_until, lambda stats: stats.in_flight == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(simulator.wait_until, lambda stats: stats.in_flight == 0)
        await transport.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}
