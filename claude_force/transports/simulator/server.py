"""The sockets: one asyncio loop in a thread of its own, a protocol that plays plans, no tasks per request.

Everything below runs in that thread, but for `Server.start`, `stop` and `call`.
"""

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Protocol, cast

from claude_force.transports.simulator.script import RejectedError
from claude_force.transports.simulator.wire import CONTINUE, MAX_HEAD_BYTES, RequestReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.transports.simulator.board import Board, Gate
    from claude_force.transports.simulator.plans import Plan
    from claude_force.transports.simulator.script import ApiFault
    from claude_force.transports.simulator.wire import HttpRequest

BACKLOG = 4096  # connections that arrive at once; the system may cap it (net.core.somaxconn is 4096 on Linux)
LINGER_S = 5.0  # a refused client may still be sending: read on, or the system resets the connection under the refusal
WANTED_FILES = 8192


class Api(Protocol):
    """What answers the requests."""

    def route_of(self, path: str) -> tuple[str, str]:
        """The name of a path, for the counts."""

    def answer(self, http: "HttpRequest") -> "Plan":
        """The response to a request."""

    def refuse(self, fault: "ApiFault") -> "Plan":
        """The response to something that is no request."""


class Server:
    """Listens on one port, in its own thread."""

    def __init__(self, api: Api, board: "Board", gate: "Gate") -> None:
        self.api = api
        self.board = board
        self.gate = gate
        self.connections: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None

    def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises `OSError` if it is taken."""
        allow_many_files()
        listening = threading.Event()
        outcome: list[int | OSError] = []

        async def run() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            try:
                listener = await self._loop.create_server(lambda: Connection(self), host, port, backlog=BACKLOG)
            except OSError as error:
                outcome.append(error)
                return
            finally:
                if outcome:
                    listening.set()
            outcome.append(listener.sockets[0].getsockname()[1])
            listening.set()
            await self._stop.wait()
            await self._close_all()
            listener.close()  # last: asyncio leaks a connection whose acceptance it finishes after this

        self._thread = threading.Thread(target=asyncio.run, args=(run(),), name="claude-force simulator", daemon=True)
        self._thread.start()
        listening.wait()
        found = outcome[0]
        if isinstance(found, OSError):
            self._thread.join()
            raise found
        return found

    def stop(self) -> None:
        """Close every connection and end the thread."""
        stop, thread = self._stop, self._thread
        if stop and thread and thread.is_alive():
            self.call(stop.set)
            thread.join()

    def call(self, function: "Callable[[], None]") -> None:
        """Have `function` called in the server's thread, soon; nothing happens where the server has stopped."""
        with contextlib.suppress(RuntimeError):
            if self._loop:
                self._loop.call_soon_threadsafe(function)

    async def _close_all(self) -> None:
        """Until none is left, those included that are just being accepted (the other tasks of this loop)."""
        while self.connections or len(asyncio.all_tasks()) > 1:
            for connection in tuple(self.connections):
                connection.abort()
            await asyncio.sleep(0)


class Connection(asyncio.Protocol):
    """One client: reads requests, plays their plans, one after the other."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._reader = RequestReader()
        self._plan: Plan | None = None
        self._keeps_alive = True
        self._is_refused = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102 - asyncio's
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        self._server.connections.add(self)
        self._server.board.connected()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002, D102 - asyncio's
        if self._timer:
            self._timer.cancel()
        if self._plan:
            self._server.gate.leave(self._play)
            self._server.board.ended(is_abandoned=True)
            self._plan = None
        self._server.connections.discard(self)
        self._server.board.disconnected()

    def data_received(self, data: bytes) -> None:  # noqa: D102 - asyncio's
        if self._is_refused:
            return
        self._reader.feed(data)
        if not self._plan:
            self._next_request()
        elif self._reader.buffered_bytes > MAX_HEAD_BYTES:
            self.abort()  # a client that sends on and on while it is being answered

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _next_request(self) -> None:
        if self._plan or self._is_refused or self._transport.is_closing():
            return
        try:
            request = self._reader.next_request()
        except RejectedError as rejected:
            self._refuse(self._server.api.refuse(rejected.fault))
            return
        if request is None:
            if self._reader.take_continue():
                self._transport.write(CONTINUE)
            return
        self._keeps_alive = request.keeps_alive
        self._server.board.arrived(self._server.api.route_of(request.path)[0])
        self._plan = self._server.api.answer(request)
        if not self._plan.is_gated or self._server.gate.enter(self._play):
            self._play()

    def _play(self) -> None:
        self._start = self._loop.time()
        self._position = 0
        self._go_on()

    def _go_on(self) -> None:
        """Send what is due, and come back when the next piece is."""
        plan = self._plan
        if plan is None:
            return
        self._timer = None
        for position in range(self._position, len(plan.pieces)):
            due, data = plan.pieces[position]
            if due and self._start + due > self._loop.time():
                self._position = position
                self._timer = self._loop.call_at(self._start + due, self._go_on)
                return
            if position == 0:
                self._begin(plan)
            if data:
                self._transport.write(data)
        if plan.ending != "stay":
            self._finish(plan)

    def _begin(self, plan: "Plan") -> None:
        if plan.on_begin:
            plan.on_begin()
        self._server.board.began(plan.status, plan.billed)

    def _finish(self, plan: "Plan") -> None:
        self._plan = None
        self._server.board.ended(is_abandoned=False)
        if plan.ending == "reset":
            self._transport.abort()
        elif plan.ending == "close" or not self._keeps_alive:
            self._transport.close()
        elif self._reader.buffered_bytes:
            self._loop.call_soon(self._next_request)

    def _refuse(self, plan: "Plan") -> None:
        """Say why, then read on for a while without listening."""
        self._is_refused = True
        self._server.board.arrived("unknown")
        self._begin(plan)
        self._server.board.ended(is_abandoned=False)
        self._transport.write(plan.pieces[0][1])
        self._transport.write_eof()
        self._timer = self._loop.call_later(LINGER_S, self._transport.close)


def allow_many_files() -> None:
    """Raise this process's own limit of open files as far as it may, up to some thousands: each connection is one."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS refuses more than it says; then less must do
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
