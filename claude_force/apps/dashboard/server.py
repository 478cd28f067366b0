"""The server itself: the application behind its guard, and uvicorn, which ends at once when it is told to."""

import asyncio
import ipaddress
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from claude_force.apps.dashboard.guard import Access, Guard
from claude_force.apps.dashboard.problems import http_problem
from claude_force.apps.dashboard.routes import routes
from claude_force.base.errors import InputError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from claude_force.apps.dashboard.service import Service

PAGE = Path(__file__).with_name("page")
BACKLOG = 1024
REQUEST_S = 10.0
"""How long a client has to send the beginning of a request."""
ENDING_S = 0.5
"""How long clients have to take a goodbye; then they are left."""
_FRESH = {"Cache-Control": "no-cache"}
"""A browser asks each time whether a file is still the same, so a page is never half old."""
_SAID = {404: "there is nothing of this name", 405: "it takes no such method", 500: "a defect; the server's log has it"}


def make_app(service: "Service", access: Access) -> "ASGIApp":
    """The application."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with service:
            yield

    async def index(_: "Request") -> Response:
        return FileResponse(PAGE / "index.html", headers=_FRESH)

    async def icon(_: "Request") -> Response:
        return FileResponse(PAGE / "favicon.svg", headers=_FRESH)

    async def say(_: "Request", error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return http_problem(status, _SAID.get(status, str(error)), headers=dict(getattr(error, "headers", None) or {}))

    app = Starlette(
        routes=[
            *routes(service),
            Route("/", index),
            Route("/favicon.ico", icon),
            Mount("/page", _Files(directory=PAGE)),
        ],
        exception_handlers={HTTPException: say, Exception: say},
        lifespan=lifespan,
    )
    return Guard(app, access)


class _Files(StaticFiles):
    def file_response(self, *args: Any, **options: Any) -> Response:  # noqa: ANN401 - passed on as they are
        """As ever, but asked for anew each time."""
        response = super().file_response(*args, **options)
        response.headers.update(_FRESH)
        return response


class Listening(NamedTuple):
    """A socket that listens."""

    socket: socket.socket
    host: str
    port: int
    is_loopback: bool

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it, without a path."""
        any_address = ipaddress.ip_address(self.socket.getsockname()[0]).is_unspecified
        host = "127.0.0.1" if any_address else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def listen(host: str, port: int) -> Listening:
    """Listen there; port 0 is any that is free. Raises `InputError`."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        hint = "give another --port, or 0 for one that is free, or another --host"
        raise InputError(f"cannot listen at {host!r}, port {port}: {reason}; {hint}") from error
    own_host, own_port = listener.getsockname()[:2]
    return Listening(listener, host, own_port, ipaddress.ip_address(own_host).is_loopback)


def serve(
    app: "ASGIApp", listening: Listening, *, on_ready: Callable[[], object], on_end: Callable[[], object]
) -> None:
    """Serve until a signal comes, which is then raised as ever. `on_end` makes what is under way come to its end."""
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS says that there is no limit, and refuses to be taken at its word
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # each page that is open holds one
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # or anybody could say who asks
        ws="none",
        lifespan="on",
    )
    asyncio.run(_Server(config, on_ready, on_end).serve(sockets=[listening.socket]))


class _Server(uvicorn.Server):
    """Left to itself, it waits for every client to leave, and those with events never do."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], object], on_end: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._on_end = on_end
        self._silent: dict[Any, float] = {}
        """Connections that have sent no whole request yet, and since when."""

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; as ever, but whoever sends half a request must not hold a connection for ever."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            silent = [one for one in self.server_state.connections if _is_silent(one)]
            self._silent = {one: self._silent.get(one, now) for one in silent}
            for one, since in self._silent.items():
                if now - since > REQUEST_S:
                    one.transport.abort()
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin, and say so."""
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what is under way, and leave who does not take it."""
        self._on_end()
        asyncio.get_running_loop().call_later(ENDING_S, self._leave)
        await super().shutdown(sockets)

    def _leave(self) -> None:
        for connection in tuple(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()


def _is_silent(connection: Any) -> bool:  # noqa: ANN401 - one of uvicorn's two protocols, which have no common class
    """Whether we wait for a request, or the rest of one; between two of them uvicorn has a timer of its own."""
    cycle = connection.cycle
    is_asked = cycle is not None and not cycle.response_complete
    return connection.transport is not None and not is_asked and connection.timeout_keep_alive_task is None
