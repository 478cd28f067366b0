"""One route: what it takes, what it gives, who answers; and how a request becomes a call, and its result a response."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from claude_force.apps.dashboard.problems import http_problem, problem_of
from claude_force.base.errors import ClaudeForceError

if TYPE_CHECKING:
    from claude_force.apps.dashboard.service import Service

MAX_BODY_BYTES = 16 << 20
"""Above the most material that a task may have by default."""

Handler = Callable[[Request], Awaitable[Response]]

JSON = "application/json"
EVENTS = "text/event-stream"


class Route(NamedTuple):
    """One route."""

    method: Literal["GET", "POST"]
    path: str
    answer: Callable[..., Any]
    """Takes the query, then the body, where there are any: an async method of `Service`, or one of `Reader`, which may
    block."""
    does: str
    gives: type[msgspec.Struct] | None = None
    """`None` for what is no JSON document."""
    asks: type[msgspec.Struct] | None = None
    """The query together with what stands in the path."""
    takes: type[msgspec.Struct] | None = None
    """The body; who has one acts, which has to be allowed."""
    status: int = 200
    media_type: str = JSON
    also: int | None = None
    """Another status that the same document may come with."""

    @property
    def name(self) -> str:
        """Of the operation."""
        return self.answer.__name__

    @property
    def in_path(self) -> frozenset[str]:
        """The parameters that stand in the path."""
        return frozenset(re.findall(r"{(\w+)", self.path))


def handler(route: Route, service: "Service") -> Handler:
    """What Starlette calls for this route."""

    async def handle(request: Request) -> Response:
        try:
            if route.takes is not None and (refusal := service.refusal()):
                return http_problem(403, refusal)
            arguments = await _arguments(route, request)
            if route.media_type == EVENTS and request.method == "HEAD":
                return Response(media_type=EVENTS)  # who listens to nothing needs no place
            if asyncio.iscoroutinefunction(route.answer):
                found = await route.answer(service, *arguments)
            else:
                found = await asyncio.to_thread(route.answer, service.reader, *arguments)
        except ClaudeForceError as error:
            return problem_of(error)
        except _BadRequestError as error:
            return http_problem(error.status, str(error))
        if isinstance(found, msgspec.Struct):
            return Response(_encoded(found), route.status, media_type=JSON)
        response: Response = found
        return response

    return handle


def _encoded(found: msgspec.Struct) -> bytes:
    """As JSON, which has halves of characters as well: the name of a file need not be text."""
    try:
        return msgspec.json.encode(found)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(found)).encode()


class _BadRequestError(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


async def _arguments(route: Route, request: Request) -> list[Any]:
    """What the request gives its answer."""
    arguments: list[Any] = []
    if route.asks is not None:
        arguments.append(_asked(route.asks, request))
    if route.takes is not None:
        arguments.append(await _taken(route.takes, request))
    if route.media_type == EVENTS:
        arguments.append(request.headers.get("last-event-id"))
    return arguments


def _asked(kind: type[msgspec.Struct], request: Request) -> msgspec.Struct:
    given = request.query_params.multi_items()
    if len(dict(given)) < len(given):
        raise _BadRequestError(400, "the query says something twice; say it once")
    try:
        return msgspec.convert(dict(given) | request.path_params, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _BadRequestError(400, f"the query is wrong: {error}") from error


async def _taken(kind: type[msgspec.Struct], request: Request) -> msgspec.Struct:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != JSON:  # which no form of another page can send
        raise _BadRequestError(415, f"the body is no {JSON}; send JSON, and say so")
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_BODY_BYTES:
                raise _BadRequestError(413, f"the body has more than {MAX_BODY_BYTES >> 20} MB")
    except ClientDisconnect as error:
        raise _BadRequestError(400, "the body broke off") from error
    try:
        return msgspec.json.decode(bytes(body), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _BadRequestError(400, f"the body is wrong: {error}") from error
