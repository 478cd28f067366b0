"""The simulator speaks the Messages API: to the real SDK, in each of its four ways, and to a plain HTTP client."""

import asyncio
import http.client
import json
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

import anthropic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_force.base.models import CURRENT, takes_effort
from claude_force.base.usage import Usage
from claude_force.testing import SIMULATED_HEADER, SIMULATED_LINE, Answer, Refusal, Simulator
from claude_force.transports.simulator.catalogue import EFFORTS, MODELS
from claude_force.transports.simulator.schema import smallest_instance
from claude_force.transports.simulator.wire import RequestReader
from tests.transports.conftest import ASK, HEADERS, call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def simulator() -> "Iterator[Simulator]":
    """One simulator with default answers for all tests of this file: nothing that they do outlives a request."""
    with Simulator() as running:
        yield running


def sync_plain(simulator: Simulator, **request: Any) -> Any:
    """Ask with the blocking SDK."""
    with anthropic.Anthropic(base_url=simulator.base_url, api_key="k", max_retries=0) as client:
        return client.messages.create(**{**ASK, **request})


def sync_stream(simulator: Simulator, **request: Any) -> Any:
    """Ask with the blocking SDK, as a stream."""
    with (
        anthropic.Anthropic(base_url=simulator.base_url, api_key="k", max_retries=0) as client,
        client.messages.stream(**{**ASK, **request}) as stream,
    ):
        return stream.get_final_message()


async def ask_async(simulator: Simulator, http_client: Any, *, streamed: bool, **request: Any) -> Any:
    """Ask with the async SDK."""
    async with anthropic.AsyncAnthropic(
        base_url=simulator.base_url, api_key="k", max_retries=0, http_client=http_client
    ) as client:
        if not streamed:
            return await client.messages.create(**{**ASK, **request})
        async with client.messages.stream(**{**ASK, **request}) as stream:
            return await stream.get_final_message()


WAYS: dict[str, "Callable[..., Any]"] = {
    "sync": sync_plain,
    "sync-stream": sync_stream,
    "async": lambda s, **r: asyncio.run(ask_async(s, None, streamed=False, **r)),
    "async-stream": lambda s, **r: asyncio.run(ask_async(s, None, streamed=True, **r)),
    "aiohttp": lambda s, **r: asyncio.run(_with_aiohttp(s, streamed=False, **r)),
    "aiohttp-stream": lambda s, **r: asyncio.run(_with_aiohttp(s, streamed=True, **r)),
}


async def _with_aiohttp(simulator: Simulator, *, streamed: bool, **request: Any) -> Any:
    return await ask_async(simulator, anthropic.DefaultAioHttpClient(), streamed=streamed, **request)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_the_sdk_gets_the_same_whole_answer(simulator: Simulator, way: str) -> None:
    """The SDK reads a simulated answer whichever of its clients asks, streamed or not."""
    message = WAYS[way](simulator)
    (block,) = message.content
    assert block.text.startswith(SIMULATED_LINE)
    assert "claude-sonnet-5-5" in block.text
    assert "Review the parser." in block.text
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == -(-len(block.text) // 4)
    assert block.text == WAYS["sync"](simulator).content[0].text


@pytest.mark.parametrize("way", WAYS)
def test_thinking_comes_before_the_text(way: str) -> None:
    """A thinking answer has its thinking block first, and its tokens are counted apart."""
    with Simulator(Answer("Yes.", thinking="Let me see: 2 + 2 = 4.")) as simulator:
        message = WAYS[way](simulator)
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[0].thinking == "Let me see: 2 + 2 = 4."
    assert message.content[0].signature
    assert message.usage.output_tokens_details.thinking_tokens == 6
    assert message.usage.output_tokens == 7


def test_the_default_answer_tells_what_arrived(simulator: Simulator) -> None:
    """An offline user sees that the system prompt, the material and the task all came through."""
    blocks = [{"type": "text", "text": "x" * 1234}, {"type": "text", "text": "Review\n\nit"}]
    message = sync_plain(
        simulator,
        system=[{"type": "text", "text": "y" * 50}],
        messages=[{"role": "user", "content": blocks}],
        output_config={"effort": "low"},
    )
    text = message.content[0].text
    for part in ("effort low", "Task (10 characters): Review it", "1,234 characters in 1 block", "50 characters in 1"):
        assert part in text


def test_a_stream_follows_the_event_grammar() -> None:
    """Events come in the API's order, with a ping, and usage is cumulative."""
    with (
        Simulator(Answer("A longer text than fits one delta.", thinking="Hm.")) as simulator,
        anthropic.Anthropic(base_url=simulator.base_url, api_key="k") as client,
    ):
        raw = client.messages.with_raw_response.create(**ASK, stream=True)
        names = [line[7:] for line in raw.http_response.iter_lines() if line.startswith("event: ")]
    assert names == [
        "message_start",
        *("content_block_start", "ping", "content_block_delta", "content_block_delta", "content_block_stop"),
        *("content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop"),
    ]


def test_every_response_is_marked_and_named(simulator: Simulator) -> None:
    """Each response, errors too, has a request id, the organization, and says that it is simulated."""
    asked: list[tuple[str, Any]] = [("/v1/messages", ASK), ("/v1/models", None), ("/nothing", None)]
    for path, body in asked:
        _, headers, _ = call(simulator, path, body)
        assert headers[SIMULATED_HEADER] == "true"
        assert headers["request-id"].startswith("req_")
        assert headers["anthropic-organization-id"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"authorization": "Bearer k"}, 200, id="bearer"),
        pytest.param({"x-api-key": "k"}, 200, id="x-api-key"),
        pytest.param({}, 401, id="none"),
        pytest.param({"authorization": "Basic k"}, 401, id="basic"),
        pytest.param({"authorization": "Bearer "}, 401, id="empty"),
        pytest.param({"x-api-key": "invalid"}, 401, id="invalid-key"),
        pytest.param({"authorization": "Bearer invalid"}, 401, id="invalid-bearer"),
        pytest.param({"authorization": "Bearer k", "x-api-key": "invalid"}, 401, id="the-key-wins"),
    ],
)
def test_credentials_are_asked_for(simulator: Simulator, headers: dict[str, str], status: int) -> None:
    """A key is needed, in either header, and the key "invalid" is refused."""
    got, _, body = call(simulator, body=ASK, headers={"anthropic-version": "2026-10-21", **headers})
    assert got == status
    assert body.get("error", {}).get("type") == (None if status == 200 else "authentication_error")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "temperature": ({"temperature": 1.0}, "temperature: sampling parameters"),
    "top_p": ({"top_p": 1}, "top_p: sampling"),
    "top_k": ({"top_k": 1}, "top_k: sampling"),
    "unknown field": ({"max_token": 5}, "max_token: Extra inputs are not permitted"),
    "no messages": ({"messages": []}, "at least one message"),
    "messages no list": ({"messages": "hi"}, "messages: Input should be a valid list"),
    "message no object": ({"messages": ["hi"]}, "messages.0: Input should be an object"),
    "message without content": ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
    "prefill": (
        {"messages": [*ASK["messages"], {"role": "assistant", "content": "Sure:"}]},
        "does not support assistant message prefill",
    ),
    "first role": ({"messages": [{"role": "assistant", "content": "a"}, *ASK["messages"]]}, "first message must use"),
    "unknown role": ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role"),
    "odd role": ({"messages": [{"role": ["user"], "content": "a"}]}, "messages.0.role"),
    "empty text": ({"messages": [{"role": "user", "content": ""}]}, "non-empty content"),
    "no blocks": ({"messages": [{"role": "user", "content": []}]}, "non-empty content"),
    "empty block": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": " \n"}]}]},
        "messages.0.content.0: text content blocks must contain non-whitespace",
    ),
    "block without text": ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "text: Field required"),
    "text no string": ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "valid string"),
    "unknown block": ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "'video'"),
    "block with more": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "name": "b"}]}]},
        "name: Extra inputs",
    ),
    "empty system block": ({"system": [{"type": "text", "text": ""}]}, "system.0"),
    "system image": ({"system": [{"type": "image", "source": {}}]}, "system.0"),
    "max_tokens negative": ({"max_tokens": -1}, "max_tokens: Input should be greater"),
    "max_tokens too large": ({"max_tokens": 128_001}, "max_tokens: 128001 > 128000"),
    "max_tokens text": ({"max_tokens": "9"}, "max_tokens: Input should be a valid integer"),
    "max_tokens bool": ({"max_tokens": True}, "max_tokens: Input should be a valid integer"),
    "model no string": ({"model": 5}, "model: Input should be a valid string"),
    "forced tool": (
        {"tools": [{"name": "t", "input_schema": {"type": "object"}}], "tool_choice": {"type": "any"}},
        "is not supported by claude-sonnet-5-5",
    ),
    "named tool": ({"tool_choice": {"type": "tool", "name": "t"}}, "is not supported by claude-sonnet-5-5"),
    "forced without tools": ({"model": "claude-opus-5", "tool_choice": {"type": "any"}}, "while providing tools"),
    "unknown tool choice": ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
    "tool not there": (
        {
            "model": "claude-opus-5",
            "tools": [{"name": "t", "input_schema": {}}],
            "tool_choice": {"type": "tool", "name": "u"},
        },
        "Tool 'u' not found",
    ),
    "tools no list": ({"tools": {}}, "tools: Input"),
    "tool without schema": ({"tools": [{"name": "t"}]}, "tools.0.input_schema: Field required"),
    "tool name": ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools.0.name"),
    "tools of one name": ({"tools": [{"name": "t", "input_schema": {}}] * 2}, "unique"),
    "thinking disabled": ({"model": "claude-opus-5-5", "thinking": {"type": "disabled"}}, "'disabled'"),
    "thinking disabled sonnet": ({"thinking": {"type": "disabled"}}, "between_tools"),
    "thinking enabled": ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "'enabled'"),
    "thinking unknown": ({"thinking": {"type": "hard"}}, "thinking.type"),
    "thinking display": ({"thinking": {"type": "adaptive", "display": "all"}}, "thinking.display"),
    "thinking budget": ({"thinking": {"type": "adaptive", "budget_tokens": 2000}}, "budget_tokens: Extra"),
    "budget too small": (
        {"model": "claude-haiku-4-5", "thinking": {"type": "enabled", "budget_tokens": 5}},
        "budget_tokens: Input should be greater",
    ),
    "budget too large": (
        {"model": "claude-haiku-4-5", "thinking": {"type": "enabled", "budget_tokens": 2000}},
        "`max_tokens` must be greater",
    ),
    "effort on a model without": ({"model": "claude-haiku-4-5", "output_config": {"effort": "low"}}, "effort"),
    "effort of a later model": ({"model": "claude-sonnet-4-6", "output_config": {"effort": "xhigh"}}, "'xhigh'"),
    "effort unknown": ({"output_config": {"effort": "most"}}, "output_config.effort"),
    "output_config unknown": ({"output_config": {"style": "a"}}, "output_config.style: Extra"),
    "format unknown": ({"output_config": {"format": {"type": "xml", "schema": {}}}}, "output_config.format.type"),
    "format without schema": ({"output_config": {"format": {"type": "json_schema"}}}, "schema: Field required"),
    "schema open": (
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        "'additionalProperties' must be explicitly set to false",
    ),
    "schema minimum": (
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "integer", "minimum": 1}}}},
        "'minimum' is not supported",
    ),
    "schema endless": (
        {"output_config": {"format": {"type": "json_schema", "schema": {"$ref": "#"}}}},
        "Recursive schemas",
    ),
    "schema broken": (
        {"output_config": {"format": {"type": "json_schema", "schema": {"$ref": "#/$defs/no"}}}},
        "cannot be read",
    ),
    "stream no bool": ({"stream": 1}, "stream: Input"),
    "metadata": ({"metadata": {"team": "a"}}, "metadata.team: Extra"),
    "service tier": ({"service_tier": "fast"}, "service_tier"),
    "speed": ({"speed": "slow"}, "speed"),
    "stop sequences": ({"stop_sequences": "a"}, "stop_sequences"),
    "blank stop sequence": ({"stop_sequences": [" "]}, "stop_sequences"),
    "cache marker": ({"cache_control": {"type": "always"}}, "cache_control.type"),
    "cache ttl": ({"cache_control": {"type": "ephemeral", "ttl": "2h"}}, "cache_control.ttl"),
    "cache scope": ({"cache_control": {"type": "ephemeral", "scope": "a"}}, "cache_control.scope: Extra"),
    "five markers": (
        {
            "cache_control": {"type": "ephemeral"},
            "system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}] * 4,
        },
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    "1h after 5m": (
        {
            "system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
            "cache_control": {"type": "ephemeral", "ttl": "1h"},
        },
        "must not come after",
    ),
    "prompt too long": (
        {"model": "claude-haiku-4-5", "messages": [{"role": "user", "content": "a" * 800_004}]},
        "prompt is too long: 200001 tokens > 200000 maximum",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_api_refuses_is_refused(simulator: Simulator, name: str) -> None:
    """A request that the API would answer with 400 is answered with 400, and the message names the fault."""
    change, message = REFUSED[name]
    status, headers, body = call(simulator, body={**ASK, **change})
    assert (status, body["type"], body["error"]["type"]) == (400, "error", "invalid_request_error")
    assert message in body["error"]["message"]
    assert body["request_id"] == headers["request-id"]


@pytest.mark.parametrize("field", ["model", "max_tokens", "messages"])
def test_required_fields_are_required(simulator: Simulator, field: str) -> None:
    """Without one of the three required fields there is no answer."""
    status, _, body = call(simulator, body={key: value for key, value in ASK.items() if key != field})
    assert (status, body["error"]["message"]) == (400, f"{field}: Field required")


ACCEPTED: dict[str, dict[str, Any]] = {
    "conversation": {
        "messages": [*ASK["messages"], {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
    },
    "prefill of an old model": {
        "model": "claude-haiku-4-5",
        "messages": [*ASK["messages"], {"role": "assistant", "content": "Sure:"}],
    },
    "most tokens": {"max_tokens": 128_000},
    "dated id": {"model": "claude-opus-4-5-20251101"},
    "adaptive": {"thinking": {"type": "adaptive", "display": "omitted"}},
    "between tools": {"thinking": {"type": "between_tools"}},
    "disabled": {"model": "claude-haiku-5-5", "thinking": {"type": "disabled"}},
    "budget": {"model": "claude-haiku-4-5", "max_tokens": 3000, "thinking": {"type": "enabled", "budget_tokens": 2000}},
    "tools": {"tools": [{"name": "t", "input_schema": {"type": "object"}}], "tool_choice": {"type": "auto"}},
    "server tool": {"tools": [{"name": "web_search", "type": "web_search_20260318"}]},
    "forced tool": {
        "model": "claude-opus-5",
        "tools": [{"name": "t", "input_schema": {}}],
        "tool_choice": {"type": "tool", "name": "t"},
    },
    "small fields": {
        "metadata": {"user_id": "a"},
        "service_tier": "auto",
        "speed": "standard",
        "stop_sequences": ["END"],
        "system": "",
        "inference_geo": "us",
        "container": None,
        "diagnostics": None,
    },
    "markers in order": {
        "system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "cache_control": {"type": "ephemeral"},
    },
    "image": {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_the_api_takes_is_taken(simulator: Simulator, name: str) -> None:
    """No check is stricter than the API."""
    status, _, body = call(simulator, body={**ASK, **ACCEPTED[name]})
    assert (status, body.get("error")) == (200, None)


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"[1,",
        b'{"a": NaN}',
        b'"\xff"',
        b'{"model": "\\ud800"}',
        b"[" * 100_000,
        b'{"max_tokens": ' + b"9" * 10_000 + b"}",
    ],
    ids=["open", "list", "nan", "no-utf8", "half-surrogate", "deep", "huge-number"],
)
def test_broken_json_is_a_bad_request(simulator: Simulator, raw: bytes) -> None:
    """A body that is no JSON text is answered with 400, whatever is wrong with it."""
    status, _, body = call(simulator, body=raw)
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")


def test_a_body_that_is_no_object_is_a_bad_request(simulator: Simulator) -> None:
    """Valid JSON alone is not enough."""
    bodies: tuple[Any, ...] = ([], "hi", 5)
    assert [call(simulator, body=body)[0] for body in bodies] == [400, 400, 400]


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("DELETE", "/v1/models", 405, "invalid_request_error"),
        ("POST", "/v1/models/claude-opus-5", 405, "invalid_request_error"),
        ("GET", "/", 404, "not_found_error"),
        ("POST", "/v1/complete", 404, "not_found_error"),
        ("GET", "/v1/models/claude-1", 404, "not_found_error"),
        ("GET", "/v1/models/", 404, "not_found_error"),
        ("GET", "/v1/messages/batches/no", 404, "not_found_error"),
        ("GET", "/v1/messages/batches/no/more", 404, "not_found_error"),
    ],
)
def test_what_is_not_there_is_said_so(simulator: Simulator, method: str, path: str, status: int, kind: str) -> None:
    """A wrong path is 404, a wrong method 405."""
    connection = http.client.HTTPConnection(simulator.base_url.removeprefix("http://"), timeout=10)
    with closing(connection):
        connection.request(method, path, headers=HEADERS)
        response = connection.getresponse()
        body = json.loads(response.read())
    assert (response.status, body["error"]["type"]) == (status, kind)
    assert (response.getheader("allow") is not None) == (status == 405)


@pytest.mark.parametrize(
    "model", ["claude-sonnet-4-20250514", "claude-opus-4-1", "claude-3-5-haiku-latest", "gpt-9", ""]
)
def test_unknown_and_retired_models_are_not_found(simulator: Simulator, model: str) -> None:
    """A model that the API no longer serves is 404, as the SDK's NotFoundError."""
    status, _, body = call(simulator, body={**ASK, "model": model})
    assert (status, body["error"]) == (404, {"type": "not_found_error", "message": f"model: {model}"})


def test_the_api_version_is_required(simulator: Simulator) -> None:
    """A hand-written client that forgets the version header learns it here, not in production."""
    status, _, body = call(simulator, body=ASK, headers={"x-api-key": "k"})
    assert (status, body["error"]["message"]) == (400, "anthropic-version: header is required")


def test_more_than_32_mb_is_too_large(simulator: Simulator) -> None:
    """The SDK gets the API's own 413, even though it is still sending."""
    with (
        anthropic.Anthropic(base_url=simulator.base_url, api_key="k", max_retries=0) as client,
        pytest.raises(anthropic.RequestTooLargeError) as caught,
    ):
        client.messages.create(**{**ASK, "messages": [{"role": "user", "content": "x" * 33 * 1024 * 1024}]})
    assert caught.value.status_code == 413
    assert caught.value.body["error"]["type"] == "request_too_large"  # type: ignore[index]  # the SDK says object


def test_zero_tokens_warm_the_cache_only(simulator: Simulator) -> None:
    """`max_tokens=0` is a request without an answer, in both ways."""
    for way in (sync_plain, sync_stream):
        message = way(simulator, max_tokens=0)
        assert (message.content, message.stop_reason, message.usage.output_tokens) == ([], "max_tokens", 0)


@pytest.mark.parametrize("way", [sync_plain, sync_stream])
def test_an_answer_is_cut_as_the_request_asks(way: "Callable[..., Any]") -> None:
    """`max_tokens` and `stop_sequences` end the text, and the stop reason says which of them did."""
    with Simulator("one two three END four") as simulator:
        short = way(simulator, max_tokens=2)
        stopped = way(simulator, stop_sequences=["four", "END"])
    assert (short.content[0].text, short.stop_reason, short.usage.output_tokens) == ("one two ", "max_tokens", 2)
    assert (stopped.content[0].text, stopped.stop_reason, stopped.stop_sequence) == (
        "one two three ",
        "stop_sequence",
        "END",
    )


@pytest.mark.parametrize("way", [sync_plain, sync_stream])
def test_a_refusal_is_a_regular_reply_without_text(way: "Callable[..., Any]") -> None:
    """A refusal comes with status 200, its category and its explanation."""
    with Simulator(Answer("", refusal=Refusal("cyber", "no"))) as simulator:
        message = way(simulator)
    assert (message.stop_reason, message.content) == ("refusal", [])
    assert (message.stop_details.category, message.stop_details.explanation) == ("cyber", "no")


@pytest.mark.parametrize("way", [sync_plain, sync_stream])
def test_usage_can_be_said(way: "Callable[..., Any]") -> None:
    """A test that is about money says what an answer costs."""
    usage = Usage(
        input_tokens=1, cache_read_tokens=2, cache_write_5m_tokens=3, cache_write_1h_tokens=4, output_tokens=5
    )
    with Simulator(Answer("Hi.", usage=usage)) as simulator:
        got = way(simulator).usage
        assert simulator.stats.usage == {"claude-sonnet-5-5": Usage(**{**_fields(usage), "thinking_tokens": 0})}
    assert (got.input_tokens, got.cache_read_input_tokens, got.cache_creation_input_tokens) == (1, 2, 7)
    assert (got.cache_creation.ephemeral_5m_input_tokens, got.cache_creation.ephemeral_1h_input_tokens) == (3, 4)
    assert got.output_tokens == 5


def _fields(usage: Usage) -> dict[str, Any]:
    return {name: getattr(usage, name) for name in Usage.__slots__}


def test_counting_agrees_with_what_is_billed(simulator: Simulator) -> None:
    """`count_tokens` gives the prompt tokens that the same request is then billed for."""
    request = {key: value for key, value in ASK.items() if key != "max_tokens"} | {"system": "Be brief."}
    with anthropic.Anthropic(base_url=simulator.base_url, api_key="k") as client:
        counted = client.messages.count_tokens(**request)
        assert counted.input_tokens == sync_plain(simulator, system="Be brief.").usage.input_tokens == 3 + 5
        with pytest.raises(anthropic.BadRequestError, match="max_tokens: Extra inputs"):
            client.messages.count_tokens(**request, extra_body={"max_tokens": 5})


def test_models_tell_what_they_can(simulator: Simulator) -> None:
    """The models endpoint serves the SDK's own types, page by page, and aliases."""
    with anthropic.Anthropic(base_url=simulator.base_url, api_key="k") as client:
        ids = [model.id for model in client.models.list(limit=4)]
        model = client.models.retrieve("claude-sonnet-5-5")
        old = client.models.retrieve("claude-sonnet-4-5")
        active = [model.id for model in client.models.list(lifecycle=["active"], limit=1000)]
    assert ids == list(MODELS)
    assert (old.id, old.lifecycle, old.line) == ("claude-sonnet-4-5-20250929", "deprecated", "sonnet")
    assert set(ids) - set(active) == {old.id}
    assert model.capabilities
    assert model.capabilities.thinking.types.between_tools.supported
    assert not model.capabilities.thinking.types.disabled.supported
    assert model.capabilities.effort.xhigh
    assert (model.max_tokens, model.display_name) == (128_000, "Claude Sonnet 5.5")
    assert old.capabilities
    assert not old.capabilities.effort.supported
    assert call(simulator, "/v1/models?limit=0")[0] == 400


def test_our_own_model_table_agrees_with_the_simulator() -> None:
    """What we believe about models is what the simulated API accepts."""
    assert set(CURRENT.values()) <= set(MODELS)
    for model in MODELS.values():
        assert tuple(effort for effort in EFFORTS if takes_effort(model.id, effort)) == model.efforts


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "verdict": {"enum": ["pass", "fail"]},
        "kind": {"const": "review"},
        "score": {"type": "number"},
        "lines": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
        "when": {"type": "string", "format": "date-time"},
        "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Step"}]},
        "step": {"$ref": "#/$defs/Step"},
        "both": {"allOf": [{"$ref": "#/$defs/Step"}]},
        "maybe": {"type": ["string", "null"]},
        "optional": {"type": "string"},
    },
    "required": ["verdict", "kind", "score", "lines", "when", "next", "step", "both", "maybe"],
    "additionalProperties": False,
    "$defs": {
        "Step": {
            "type": "object",
            "properties": {"is_done": {"type": "boolean"}},
            "required": ["is_done"],
            "additionalProperties": False,
        }
    },
}


def test_structured_output_fits_its_schema(simulator: Simulator) -> None:
    """Who asks for JSON offline gets JSON that fits: required fields, first choices, and nothing more."""
    message = sync_plain(simulator, output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    assert json.loads(message.content[0].text) == {
        "verdict": "pass",
        "kind": "review",
        "score": 0,
        "lines": [0],
        "when": "2026-01-01T00:00:00Z",
        "next": None,
        "step": {"is_done": False},
        "both": {"is_done": False},
        "maybe": "simulated",
    }
    assert smallest_instance(SCHEMA)["verdict"] == "pass"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer", "description": 'Stars.\n\n{"minimum":1,"maximum":5}'}, 1),
        ({"type": "integer", "description": '{"exclusiveMinimum":1}'}, 2),
        ({"type": "integer", "description": '{"exclusiveMaximum":-3}'}, -4),
        ({"type": "number", "description": '{"exclusiveMinimum":0,"exclusiveMaximum":1}'}, 0.5),
        ({"type": "string", "description": '{"minLength":12}'}, "simulatedsim"),
        ({"type": "string", "description": '{"maxLength":3}'}, "sim"),
        ({"type": "array", "items": {"type": "null"}, "description": '{"minItems":3}'}, [None] * 3),
        ({"type": "array", "items": {"type": "null"}, "description": '{"minItems":1e12}'}, [None] * 10_000),
        ({"type": "integer", "description": '{"minimum":"much"}'}, 0),
        ({"type": "integer", "description": "At least 1."}, 0),
    ],
    ids=str,
)
def test_bounds_that_a_description_tells_are_kept(schema: dict[str, Any], value: Any) -> None:
    """As a model reads them there; what is no such JSON, or is beyond reason, is only text."""
    assert smallest_instance(schema) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["text", "user", "ephemeral"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(ASK)) | st.text(max_size=5), inner)
    ),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    change=st.dictionaries(
        st.sampled_from(["messages", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control"]),
        json_values,
        max_size=2,
    ),
    content=json_values,
)
def test_no_request_breaks_the_simulator(simulator: Simulator, change: dict[str, Any], content: object) -> None:
    """Whatever is sent, the answer is 200, 400 or 404, never a failure of the simulator."""
    body = {**ASK, "messages": [{"role": "user", "content": content}], **change}
    assert call(simulator, body=body)[0] in {200, 400, 404}


def test_batches_go_from_created_to_results() -> None:
    """A batch is at work until it is asked for, then its results are there, each with its own outcome."""
    with (
        Simulator(lambda request: request.prompt.upper()) as simulator,
        anthropic.Anthropic(base_url=simulator.base_url, api_key="k") as client,
    ):
        requests: list[Any] = [
            {"custom_id": "good", "params": ASK},
            {"custom_id": "bad", "params": {**ASK, "max_tokens": -1}},
        ]
        created = client.messages.batches.create(requests=requests)
        assert (created.processing_status, created.request_counts.processing) == ("in_progress", 2)
        assert [batch.processing_status for batch in client.messages.batches.list()] == ["in_progress"]
        ended = client.messages.batches.retrieve(created.id)
        assert (ended.processing_status, ended.request_counts.succeeded, ended.request_counts.errored) == (
            "ended",
            1,
            1,
        )
        results = {line.custom_id: line.result for line in client.messages.batches.results(created.id)}
        assert results["good"].type == "succeeded"
        assert results["good"].message.content[0].text == "REVIEW THE PARSER."  # type: ignore[union-attr]  # text
        assert results["good"].message.usage.service_tier == "batch"
        assert results["bad"].type == "errored"
        assert client.messages.batches.delete(created.id).id == created.id
        with pytest.raises(anthropic.NotFoundError):
            client.messages.batches.retrieve(created.id)


def test_a_cancelled_batch_answers_nothing() -> None:
    """Cancelled in time, no request of a batch is answered."""
    with (
        Simulator() as simulator,
        anthropic.Anthropic(base_url=simulator.base_url, api_key="k") as client,
    ):
        batch = client.messages.batches.create(requests=[{"custom_id": "a", "params": ASK}])  # type: ignore[typeddict-item]  # a dict of the tests
        with pytest.raises(anthropic.BadRequestError):
            client.messages.batches.delete(batch.id)
        assert client.messages.batches.cancel(batch.id).processing_status == "canceling"
        assert client.messages.batches.retrieve(batch.id).request_counts.canceled == 1
        with pytest.raises(anthropic.BadRequestError):
            client.messages.batches.cancel(batch.id)


@pytest.mark.parametrize(
    "requests",
    [
        [],
        "a",
        [{"custom_id": "a"}],
        [{"custom_id": "a b", "params": ASK}],
        [{"custom_id": "a", "params": ASK}] * 2,
    ],
    ids=["none", "no-list", "no-params", "bad-id", "same-id"],
)
def test_a_batch_that_cannot_be_read_is_refused(simulator: Simulator, requests: Any) -> None:
    """Ids must be there, well formed and different."""
    assert call(simulator, "/v1/messages/batches", {"requests": requests})[0] == 400


def raw_exchange(simulator: Simulator, *parts: bytes) -> bytes:
    """Send bytes, and read until the server closes or falls silent for long."""
    host, port = simulator.base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
        received = b""
        while data := connection.recv(65536):
            received += data
        return received


def http_request(body: bytes = b"", *headers: bytes, line: bytes = b"POST /v1/messages HTTP/1.1") -> bytes:
    """The bytes of a request."""
    lines = [line, b"host: a", b"x-api-key: k", b"anthropic-version: 1", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


GOOD = json.dumps(ASK).encode()


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(b"hello\r\n\r\n", 400, id="no-http"),
        pytest.param(http_request(line=b"GET / HTTP/3"), 400, id="http-3"),
        pytest.param(http_request(GOOD, b"no colon"), 400, id="header-line"),
        pytest.param(b"POST /v1/messages HTTP/1.1\r\ncontent-length: x\r\n\r\n", 400, id="length"),
        pytest.param(b"POST /v1/messages HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", 411, id="chunked"),
        pytest.param(b"POST /v1/messages HTTP/1.1\r\ncontent-length: 33554433\r\n\r\n", 413, id="too-long"),
        pytest.param(b"POST /v1/messages HTTP/1.1\r\ncontent-length: 9" + b"9" * 500 + b"\r\n\r\n", 413, id="far-too"),
        pytest.param(b"GET / HTTP/1.1\r\na: " + b"x" * 70_000, 431, id="headers"),
    ],
)
def test_what_is_no_request_is_refused_and_closed(simulator: Simulator, raw: bytes, status: int) -> None:
    """Bytes that cannot be served get the API's error body, and the connection ends."""
    reply = raw_exchange(simulator, raw)
    assert reply.startswith(b"HTTP/1.1 %d " % status)
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["type"] == "error"


def test_a_refused_client_may_go_on_sending(simulator: Simulator) -> None:
    """The refusal still arrives: the server reads on for a while, so that the system does not reset the connection."""
    host, port = simulator.base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /v1/messages HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n")
        assert connection.recv(9) == b"HTTP/1.1 "
        for _ in range(20):
            connection.sendall(b"x" * 100_000)
        assert connection.recv(3) == b"413"


def test_bytes_may_come_in_any_portions(simulator: Simulator) -> None:
    """A request that arrives byte by byte, and two that arrive at once, are all answered."""
    last = http_request(GOOD, b"connection: close")
    reply = raw_exchange(simulator, *(bytes([byte]) for byte in http_request(GOOD)[:-1]), GOOD[-1:] + last)
    assert reply.count(b"HTTP/1.1 200 OK") == 2


def test_a_client_may_ask_before_it_sends(simulator: Simulator) -> None:
    """`Expect: 100-continue` is answered, as curl wants it for long bodies."""
    whole = http_request(GOOD, b"expect: 100-continue", b"connection: close")
    host, port = simulator.base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(whole.removesuffix(GOOD))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(GOOD)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_client_that_does_not_wait_is_not_told_to_go_on() -> None:
    """A body that came together with its `Expect` needs no 100, neither then nor before the next request."""
    reader = RequestReader()
    reader.feed(http_request(GOOD, b"expect: 100-continue") + b"POST /v1/mess")
    assert reader.next_request()
    assert reader.next_request() is None
    assert not reader.take_continue()


def test_an_old_client_gets_a_stream_without_chunks(simulator: Simulator) -> None:
    """HTTP/1.0 knows no chunks: the end of the connection is the end of the stream."""
    body = json.dumps({**ASK, "stream": True}).encode()
    reply = raw_exchange(simulator, http_request(body, line=b"POST /v1/messages HTTP/1.0"))
    assert b"transfer-encoding" not in reply
    assert reply.endswith(b'data: {"type":"message_stop"}\n\n')
