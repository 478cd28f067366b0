"""The Messages API's own words: from our request to its parameters, from its answer or events to our reply.

Decoding with msgspec validates an answer in a tenth of the time that building the SDK's models takes, and a server
that merely looks like the API is found out here.
"""

import json
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from claude_force.base.batches import BatchStatus
from claude_force.base.errors import ConnectionFailedError
from claude_force.base.records import Allowance, RateLimits, Reply
from claude_force.base.usage import Usage
from claude_force.transports.output_schema import narrowed

if TYPE_CHECKING:
    from claude_force.base.records import Caching, Request

SIMULATED_HEADER = "x-claude-force-simulated"
MOST_TOKENS = 2**53
"""Nobody can count to more than this: the sums of such counts would fit no ledger, and no clock's floats."""

Kind = TypeVar("Kind")


def _decoded(data: bytes | str, kind: type[Kind]) -> Kind:
    """What the server said, checked. Raises `msgspec.DecodeError`, for what is nested without an end as well."""
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError as error:
        raise msgspec.DecodeError("it is nested too deeply") from error


def to_parameters(
    request: "Request", caching: "Caching | None" = None, *, inference_geo: str | None = None
) -> dict[str, Any]:
    """The request in the API's words, marked where the prompt cache is to keep what comes before."""
    system, prompt = _text_blocks((*request.system, *request.skills)), _text_blocks(request.prompt)
    for end in caching.ends if caching else ():
        marker = {"type": "ephemeral"} | ({"ttl": caching.ttl} if caching and caching.ttl != "5m" else {})
        (prompt if end > 0 else system)[end - 1]["cache_control"] = marker
    output: dict[str, Any] = {"effort": request.effort} if request.effort else {}
    if request.output_schema is not None:
        schema = narrowed(json.loads(request.output_schema))
        output["format"] = {"type": "json_schema", "schema": schema}
    parameters = {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "system": system,
        "messages": [{"role": "user", "content": prompt}],
    }
    if output:
        parameters["output_config"] = output
    if inference_geo is not None:
        parameters["inference_geo"] = inference_geo
    return parameters


def _text_blocks(texts: tuple[str, ...]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text} for text in texts]


def to_count(request: "Request") -> dict[str, Any]:
    """The request in the words of the endpoint that counts: without what only an answer needs."""
    parameters = to_parameters(request)
    del parameters["max_tokens"]
    return parameters


class _CacheCreation(msgspec.Struct):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct):
    """Counts are optional where servers that imitate the API leave them out or send null."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens_details: _OutputDetails | None = None
    inference_geo: str | None = None


class _Block(msgspec.Struct):
    """A block of an answer, or what is added to one; those of another type may hold anything."""

    type: str
    text: Any = ""

    def words(self, type_: str) -> str:
        """Its text, if it is of this type."""
        if self.type != type_:
            return ""
        if not isinstance(self.text, str):
            raise msgspec.ValidationError(f"Expected `str` as the text of {type_!r}")
        return self.text


class _StopDetails(msgspec.Struct):
    category: str | None = None
    explanation: str | None = None


class _Message(msgspec.Struct):
    type: Literal["message"]
    model: str
    content: list[_Block]
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None
    usage: _Usage | None = None


class _MessageStart(msgspec.Struct):
    message: _Message


class _BlockStart(msgspec.Struct):
    content_block: _Block


class _BlockDelta(msgspec.Struct):
    delta: _Block


class _End(msgspec.Struct):
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None


class _MessageDelta(msgspec.Struct):
    delta: _End
    usage: _Usage | None = None


class ErrorBody(msgspec.Struct):
    """The API's error object, also that of an `error` event in the middle of a stream, as foreign as it may be."""

    type: Any = None
    message: Any = None
    details: Any = None

    @property
    def code(self) -> str | None:
        """`details.error_code`."""
        return text_or_none(self.details.get("error_code")) if isinstance(self.details, dict) else None


def text_or_none(value: object) -> str | None:
    """The value, if it is a text."""
    return value if isinstance(value, str) else None


class _ErrorEvent(msgspec.Struct):
    error: ErrorBody


class StreamFailed(Exception):  # noqa: N818 - a signal between wire and foreign, not an error that leaves
    """The stream said that it failed."""

    def __init__(self, error: ErrorBody) -> None:
        super().__init__(error.message)
        self.error = error


def read_body(body: bytes, headers: Mapping[str, str]) -> Reply:
    """The reply in a plain answer. Raises `msgspec.DecodeError` where it is none."""
    return _plain_reply(_decoded(body, _Message), dict(headers.items()))


def _plain_reply(message: _Message, headers: Mapping[str, str]) -> Reply:
    text = "".join(block.words("text") for block in message.content)
    return _reply(message, text, headers, read_limits(headers))


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


def read_models(body: bytes) -> list[str]:
    """The ids in a list of models. Raises `msgspec.DecodeError` where it is none."""
    return [model.id for model in _decoded(body, _Models).data]


class _Count(msgspec.Struct):
    input_tokens: int


def read_count(body: bytes) -> int:
    """The number of tokens. Raises `msgspec.DecodeError` where there is none."""
    return _decoded(body, _Count).input_tokens


class _Counts(msgspec.Struct):
    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0


class _Batch(msgspec.Struct):
    id: str
    processing_status: Literal["in_progress", "canceling", "ended"]
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    archived_at: datetime | None = None
    request_counts: _Counts = msgspec.field(default_factory=_Counts)


class _Batches(msgspec.Struct):
    data: list[_Batch]
    has_more: bool = False


class _EntryFailure(msgspec.Struct):
    """The API's error object, in one more of its own."""

    error: ErrorBody = msgspec.field(default_factory=ErrorBody)


class _EntryResult(msgspec.Struct):
    type: str
    message: _Message | None = None
    error: _EntryFailure | None = None


class _Entry(msgspec.Struct):
    custom_id: str
    result: _EntryResult


def read_batch(body: bytes) -> BatchStatus:
    """How a batch stands. Raises `msgspec.DecodeError` where it is none."""
    return _status(_decoded(body, _Batch))


def read_batches(body: bytes) -> tuple[list[BatchStatus], bool]:
    """One page of a list of batches, and whether there are more. Raises `msgspec.DecodeError` where it is none."""
    page = _decoded(body, _Batches)
    return [_status(batch) for batch in page.data], page.has_more


def _status(batch: _Batch) -> BatchStatus:
    return BatchStatus(
        id=batch.id,
        status=batch.processing_status,
        created_at=batch.created_at,
        expires_at=batch.expires_at,
        ended_at=batch.ended_at,
        is_archived=batch.archived_at is not None,
        **msgspec.structs.asdict(batch.request_counts),
    )


def read_custom_id(line: bytes) -> str:
    """Of which entry this line of a batch's results is."""
    return _decoded(line, _Entry).custom_id


def read_result(line: bytes, *, is_simulated: bool) -> tuple[str, Reply | ErrorBody | str]:
    """What a line of a batch's results says of which entry: its reply, its error, or why there is neither.

    An entry has no request id; it is known by its `custom_id`.
    """
    entry = _decoded(line, _Entry)
    result = entry.result
    if result.type == "succeeded" and result.message is not None:
        headers = {"request-id": entry.custom_id} | ({SIMULATED_HEADER: "true"} if is_simulated else {})
        return entry.custom_id, _plain_reply(result.message, headers)
    if result.type == "errored":
        return entry.custom_id, result.error.error if result.error else ErrorBody()
    return entry.custom_id, result.type


def _reply(
    message: _Message,
    text: str,
    headers: Mapping[str, str],
    limits: RateLimits | None,
    ttft_s: float | None = None,
) -> Reply:
    details = message.stop_details or _StopDetails()
    return Reply(
        model=message.model,
        text=text,
        stop_reason=message.stop_reason,
        usage=_usage(message.usage),
        request_id=headers.get("request-id"),
        refusal_category=details.category,
        refusal_explanation=details.explanation,
        simulated=SIMULATED_HEADER in headers,
        limits=limits,
        ttft_s=ttft_s,
    )


def read_limits(headers: Mapping[str, str]) -> RateLimits | None:
    """What these headers, which have just arrived, say about rate limits; `None` where they say nothing."""
    requests, inputs, outputs = (_allowance(headers, kind) for kind in ("requests", "input-tokens", "output-tokens"))
    if requests is inputs is outputs is None:
        return None
    return RateLimits(seen_at_s=time.monotonic(), requests=requests, input_tokens=inputs, output_tokens=outputs)


def _allowance(headers: Mapping[str, str], kind: str) -> Allowance | None:
    try:
        limit = int(headers.get(f"anthropic-ratelimit-{kind}-limit", ""))
        remaining = int(headers.get(f"anthropic-ratelimit-{kind}-remaining", ""))
    except ValueError:
        return None
    # Gateways say -1 for "no limit".
    return Allowance(limit, min(max(remaining, 0), limit)) if 0 < limit < MOST_TOKENS else None


def _usage(usage: _Usage | None) -> Usage | None:
    """Our counts; `None` where the server does not say what went in and what came out, or says what cannot be."""
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    kept = usage.cache_creation or _CacheCreation()
    for_1h = kept.ephemeral_1h_input_tokens or 0
    written = usage.cache_creation_input_tokens
    if written is None:
        written = (kept.ephemeral_5m_input_tokens or 0) + for_1h
    counts = Usage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cache_read_input_tokens or 0,
        cache_write_5m_tokens=written - for_1h,  # five minutes is the default lifetime, where nobody says
        cache_write_1h_tokens=for_1h,
        output_tokens=usage.output_tokens,
        thinking_tokens=usage.output_tokens_details.thinking_tokens if usage.output_tokens_details else None,
        inference_geo=usage.inference_geo,
    )
    said = (counts.input_tokens, counts.cache_read_tokens, counts.cache_write_5m_tokens, for_1h, counts.output_tokens)
    return counts if all(0 <= count < MOST_TOKENS for count in (*said, counts.thinking_tokens or 0)) else None


class Assembly:
    """Puts the events of a stream together. A stream that ends early leaves `stop_reason` at `None`.

    Made when the request is sent, for it tells how long the first text was waited for.
    """

    def __init__(self, on_begin: Callable[[], object] | None = None) -> None:
        self._on_begin = on_begin
        self._headers: Mapping[str, str] = {}
        self._limits: RateLimits | None = None
        self._texts: list[str] = []
        self._message: _Message | None = None
        self._asked_at_s = time.monotonic()
        self._ttft_s: float | None = None

    def begin(self, headers: Mapping[str, str]) -> None:
        """Keep what the response says before its stream."""
        self._headers = dict(headers.items())  # the HTTP client's own mapping takes 5 us for each look
        self._limits = read_limits(self._headers)

    def add(self, event: str | None, data: str) -> str:
        """Take in one server-sent event; the text that came with it. Other events than these say nothing to us.

        Raises `StreamFailed` for the API's own error, `msgspec.DecodeError` for data that is not the API's.
        """
        match event:
            case "message_start":
                self._message = _decoded(data, _MessageStart).message
                if self._on_begin:
                    self._on_begin()
            case "content_block_start":
                return self._keep(_decoded(data, _BlockStart).content_block.words("text"))
            case "content_block_delta":
                return self._keep(_decoded(data, _BlockDelta).delta.words("text_delta"))
            case "message_delta":
                self._finish(_decoded(data, _MessageDelta))
            case "error":
                raise StreamFailed(_decoded(data, _ErrorEvent).error)
        return ""

    def _keep(self, text: str) -> str:
        if self._ttft_s is None and text:
            self._ttft_s = time.monotonic() - self._asked_at_s
        self._texts.append(text)
        return text

    def _finish(self, end: _MessageDelta) -> None:
        """The last event's word on why it ended, and its counts, which add to or replace those of the start."""
        if self._message is None:
            return
        self._message.stop_reason = end.delta.stop_reason
        self._message.stop_details = end.delta.stop_details
        for name, count in msgspec.structs.asdict(end.usage or _Usage()).items():
            if count is not None:
                self._message.usage = msgspec.structs.replace(self._message.usage or _Usage(), **{name: count})

    @property
    def is_complete(self) -> bool:
        """Whether the model has said why it stopped."""
        return self._message is not None and self._message.stop_reason is not None

    @property
    def has_begun(self) -> bool:
        """Whether the model has begun to answer."""
        return self._message is not None

    def reply(self) -> Reply:
        """What has arrived when the stream has ended."""
        if self._message is None:
            raise ConnectionFailedError(
                "the stream ended before the answer began; try again", status=200, may_have_arrived=True
            )
        if self._message.stop_reason is None:
            self._message.usage = None  # the last event would have said what the answer really cost
        return _reply(self._message, "".join(self._texts), self._headers, self._limits, self._ttft_s)
