"""Events to many pages at once: `Feed` keeps the newest ones, and `EventStream` sends them as server-sent events.

No page has a queue of its own. What is published is written down once, in a ring, as the bytes that go out; each page
has a place in it. So a thousand pages need no more memory than one, and a page that is too slow, or was away too long,
is told to fetch everything anew (`reset`).
"""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Receive, Scope, Send

MOST_EVENTS = 4096
"""A minute of 50 a second, and more."""
MOST_STREAMS = 1000
HEARTBEAT_S = 15.0
SEND_TIMEOUT_S = 20.0
"""For a piece that the client does not take: its buffers are full, and it is gone or asleep."""
_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]


class _Event(NamedTuple):
    number: int
    run: str | None
    data: bytes


class Feed:
    """What has happened lately. Belongs to one event loop."""

    def __init__(self) -> None:
        self.id = secrets.token_hex(4)
        """Of this server, so that a number of another one is not taken for one of ours."""
        self.last = 0
        """The number of the newest event."""
        self.is_closed = False
        self._events = deque[_Event](maxlen=MOST_EVENTS)
        self._bells = set[asyncio.Event]()

    @property
    def listeners(self) -> int:
        """How many pages listen."""
        return len(self._bells)

    def publish(self, kind: str, data: object, *, run: str | None = None) -> None:
        """Have all pages told; those who look at one run alone, if it is about that `run`. `ring` sends it off."""
        self.last += 1
        self._events.append(_Event(self.last, run, message(kind, data, id_=f"{self.id}.{self.last}")))

    def ring(self) -> None:
        """What was published goes out: to each page in one piece, however many events it is."""
        for bell in self._bells:
            bell.set()

    def close(self) -> None:
        """Say goodbye to all pages."""
        self.is_closed = True
        self.ring()

    @contextmanager
    def listening(self) -> "Iterator[asyncio.Event]":
        """What is set when there is something new."""
        bell = asyncio.Event()
        self._bells.add(bell)
        try:
            yield bell
        finally:
            self._bells.discard(bell)

    def place(self, last_id: str | None) -> int | None:
        """The number of the last event that a page has seen, by its id; `None` where it is none of ours.

        Who has seen none begins with what is to come.
        """
        if last_id is None:
            return self.last
        server, _, number = last_id.partition(".")
        is_ours = server == self.id and number.isascii() and number.isdecimal() and len(number) <= len(str(self.last))
        return int(number) if is_ours else None

    def after(self, place: int, run: str | None) -> bytes | None:
        """All that came after this place, of all runs or of one; `None` where some of it is not known any more."""
        new = self.last - place
        if not 0 <= new <= len(self._events):
            return None
        events = islice(reversed(self._events), new)  # from the end, which is near
        return b"".join([event.data for event in events if run in {None, event.run}][::-1])


def message(kind: str, data: object, *, id_: str | None = None) -> bytes:
    """One event as it goes over the line."""
    first = f"id: {id_}\n" if id_ else ""
    return f"{first}event: {kind}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"


class EventStream:
    """The response to one page: events until it leaves, or the server ends. An ASGI application."""

    def __init__(self, feed: Feed, *, last_id: str | None, run: str | None) -> None:
        self._feed = feed
        self._last_id = last_id
        self._run = run

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:  # noqa: ARG002 - ASGI's
        """Send until somebody leaves."""

        async def tell(data: bytes, *, more: bool = True) -> None:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await send({"type": "http.response.body", "body": data, "more_body": more})

        with self._feed.listening() as bell:
            leaving = asyncio.ensure_future(_left(receive))
            leaving.add_done_callback(lambda _: bell.set())
            try:
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                async for data in self._pieces(bell, leaving):
                    await tell(data)
                await tell(b"", more=False)
            except (OSError, TimeoutError):  # the client is gone, or takes nothing any more
                return
            finally:
                leaving.cancel()

    async def _pieces(self, bell: asyncio.Event, leaving: "asyncio.Future[None]") -> AsyncGenerator[bytes]:
        feed = self._feed
        yield b"retry: 2000\n" + message("hello", {"server": feed.id, "at": datetime.now(UTC)})
        place = feed.place(self._last_id)
        while not leaving.done():
            bell.clear()
            data = None if place is None else feed.after(place, self._run)
            place = feed.last
            if data is None:
                yield message("reset", {}, id_=f"{feed.id}.{place}")
            elif data:
                yield data
            elif feed.is_closed:
                yield message("bye", {})
                return
            else:
                try:
                    await asyncio.wait_for(bell.wait(), HEARTBEAT_S)
                except TimeoutError:  # a page is not told of comments, and would not notice a line that has died
                    yield message("beat", {})


async def _left(receive: "Receive") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
