"""How a response goes over the wire: which bytes, when, and what becomes of the connection. Faults are worked in here.

A `Plan` is made when a request arrives; `server` only plays it. Errors come at once, answers take their latency.
"""

from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

from claude_force.transports.simulator.message import event
from claude_force.transports.simulator.prompt import encode
from claude_force.transports.simulator.script import (
    ApiFault,
    BadJson,
    CutStream,
    Disconnect,
    Fault,
    Hang,
    MidStreamError,
    NotMessages,
    Stall,
)
from claude_force.transports.simulator.wire import chunk, head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from claude_force.base.usage import Usage
    from claude_force.transports.simulator.message import Message

Headers = dict[str, str]
Piece = tuple[float, bytes]

BROKEN_EVENT = b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 0, "del\n\n'


@dataclass(slots=True)
class Plan:
    """One response."""

    status: int
    pieces: list[Piece] = field(default_factory=list)
    """Seconds after the start, and bytes; none where nothing is answered. The first is where the response begins."""
    ending: Literal["keep", "close", "reset", "stay"] = "keep"
    """`reset` drops what was not sent yet; `stay` leaves the connection open and silent."""
    is_gated: bool = False
    """Whether `Simulator.hold` keeps it back."""
    on_begin: "Callable[[], None] | None" = None
    billed: "tuple[str, Usage] | None" = None
    """Model and usage of an answer; it is paid for as soon as the response begins."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When an answer begins, and how long each token of it takes."""

    first_s: float = 0.0
    per_token_s: float = 0.0


def json_plan(status: int, body: object, headers: Headers) -> Plan:
    """A JSON response, at once."""
    return _whole(status, encode(body).encode(), {"content-type": "application/json", **headers})


def text_plan(status: int, text: str, content_type: str, headers: Headers) -> Plan:
    """Any other response, at once."""
    return _whole(status, text.encode(), {"content-type": content_type, **headers})


def fault_plan(fault: Fault, headers: Headers) -> Plan:
    """A fault that needs no answer."""
    match fault:
        case ApiFault():
            return error_plan(fault, headers)
        case NotMessages(status, body, content_type):
            return text_plan(status, body, content_type, headers)
        case Disconnect():
            return Plan(0, ending="reset")
        case Hang():
            return Plan(0, ending="stay")
        case _:
            raise TypeError(f"no simulated fault: {fault!r}; use the classes of claude_force.testing")


def error_plan(fault: ApiFault, headers: Headers) -> Plan:
    """The API's error response."""
    more = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
    return json_plan(fault.status, error_body(fault, headers["request-id"]), {**headers, **more, **fault.headers})


def error_body(fault: ApiFault, request_id: str) -> dict[str, Any]:
    """The API's error body."""
    error: dict[str, Any] = {"type": fault.error_type, "message": fault.message}
    if fault.error_code:
        error["details"] = {"error_code": fault.error_code}
    return {"type": "error", "error": error, "request_id": request_id}


def message_plan(message: "Message", fault: Fault | None, timing: Timing, headers: Headers) -> Plan:
    """An answer in one piece."""
    headers = {"content-type": "application/json", **headers}
    body = encode(message.to_json()).encode()
    half = len(body) // 2
    due = timing.first_s + timing.per_token_s * message.usage.output_tokens
    if isinstance(fault, BadJson):
        body = body[:half]
    opening = head(200, {**headers, "content-length": str(len(body))})
    plan = Plan(200)
    match fault:
        case CutStream(clean=clean):
            opening = head(200, {**headers, "connection": "close"}) if clean else opening
            plan.ending = "close"
            pieces = [(due, opening + body[:half])]
        case MidStreamError():
            return error_plan(fault.as_api_fault, headers)
        case Stall(after, pause):
            sent = b"" if after is None else opening + body[:half]
            pieces = [(due, sent)]
            if pause is None:
                plan.ending = "stay"
            else:
                pieces.append((due + pause, (opening + body)[len(sent) :]))
        case _:
            pieces = [(due, opening + body)]
    plan.pieces = _merge([(timing.first_s, b""), *pieces])
    return plan


def stream_plan(
    message: "Message", fault: Fault | None, timing: Timing, headers: Headers, *, can_chunk: bool = True
) -> Plan:
    """An answer as a stream of events."""
    is_chunked = can_chunk and not (isinstance(fault, CutStream) and fault.clean)
    headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", **headers}
    headers |= {"transfer-encoding": "chunked"} if is_chunked else {"connection": "close"}
    plan = Plan(200, ending="keep" if is_chunked else "close")
    due = timing.first_s
    events = []
    for tokens, data in message.events():
        due += tokens * timing.per_token_s
        events.append((due, data))
    head_due = timing.first_s
    match fault:
        case CutStream(after):
            events, plan.ending = events[:after], "close"
        case MidStreamError(kind, after, text):
            error = event("error", error={"type": kind, "message": text}, request_id=headers["request-id"])
            events = [*events[:after], (_last_due(events[:after], head_due), error)]
        case BadJson(after):
            events.insert(after, (_last_due(events[:after], head_due), BROKEN_EVENT))
        case Stall(after, None):
            plan.ending = "stay"
            if after is None:
                plan.pieces = [(head_due, b"")]
                return plan
            events = events[:after]
        case Stall(after, pause) if pause is not None:
            events = [*events[: after or 0], *((due + pause, data) for due, data in events[after or 0 :])]
            head_due += pause if after is None else 0
    body = _merge(events)
    if is_chunked:
        body = [(due, chunk(data)) for due, data in body]
        if plan.ending == "keep":
            body.append((body[-1][0], chunk(b"")))
    plan.pieces = _merge([(timing.first_s, b""), (head_due, head(200, headers)), *body])
    return plan


def _whole(status: int, body: bytes, headers: Headers) -> Plan:
    return Plan(status, [(0.0, head(status, {**headers, "content-length": str(len(body))}) + body)])


def _last_due(events: list[Piece], otherwise: float) -> float:
    return events[-1][0] if events else otherwise


def _merge(pieces: "Iterable[Piece]") -> list[Piece]:
    """What is due at the same time goes out in one write."""
    return [(due, b"".join([data for _, data in group])) for due, group in groupby(pieces, key=itemgetter(0))]
