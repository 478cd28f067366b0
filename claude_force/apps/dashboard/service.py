"""What the routes do that is more than to read: each public method answers one. What many ask at once is read once."""

import asyncio
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from claude_force.apps.dashboard.acting import MOST_TASKS, Actor
from claude_force.apps.dashboard.metrics import CONTENT_TYPE, Metrics
from claude_force.apps.dashboard.problems import http_problem
from claude_force.apps.dashboard.reading import Reader
from claude_force.apps.dashboard.shapes import (
    Alive,
    EventsQuery,
    ExecuteTask,
    Nothing,
    OverviewQuery,
    ResumeRun,
    RunFacts,
    RunQuery,
    RunStarted,
    StartRun,
)
from claude_force.apps.dashboard.stream import MOST_STREAMS, EventStream, Feed
from claude_force.apps.dashboard.views import unwritten_run
from claude_force.apps.dashboard.watching import Watcher
from claude_force.async_orchestrator import cancelled
from claude_force.base.errors import RunNotFoundError
from claude_force.insight.health import check_health

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp

    from claude_force.insight.health import Health
    from claude_force.orchestrator import Project

FRESH_S = 1.0
"""For how long figures may be shown again: pages ask for them all at once, when something has happened."""
REST = 4
"""What took long is found out again after so many times as long: it takes a fifth of a core, and no more."""
MOST_KEPT = 64
MOST_AT_ONCE, MOST_WAITING = 2, 32
"""Threads that read, and questions that wait for one of them or are being read."""

T = TypeVar("T")


class Service:
    """One server's. Belongs to one event loop."""

    def __init__(
        self, project: "Project", *, config_path: "Path | None", allow_runs: bool, offline: bool = False
    ) -> None:
        self._project = project
        self._config_path = config_path
        self._allow_runs = allow_runs
        self._needs_credentials = allow_runs and not offline
        self.feed = Feed()
        self._actor = Actor(project, self.feed)
        self.reader = Reader(project, here=self._actor.under_way, allow_runs=allow_runs)
        self.watcher = Watcher(self.reader, project.tracker.path, self.feed)
        self._metrics = Metrics(
            self.reader, project.tracker.path, traffic=lambda: project.parts.traffic, steps=self.watcher.steps
        )
        self._lately = _Lately()
        self._overviews = _Lately()  # of which there are as many as questions: they must not hold up the others

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self.watcher.watch())
        self._figures = asyncio.create_task(self.overview(OverviewQuery()))  # which the first page asks for
        if self._allow_runs:  # the first call imports the SDK, which takes a second that no page should wait for
            self._importing = _found(lambda: import_module("anthropic"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._actor.aclose()
        await cancelled(self._watching, self._figures)

    def end(self) -> None:
        """Have all that is under way come to its end."""
        self._actor.end()
        self.feed.close()
        self._lately.end()
        self._overviews.end()

    def refusal(self) -> str | None:
        """Why nothing may be started here, if it may not."""
        if self._allow_runs:
            return None
        return "this server only shows; `claude-force serve --allow-runs` lets it run agents, which costs money"

    # ------------------------------------------------------------ how it is

    async def alive(self) -> Alive:
        """That we answer."""
        return Alive(status="ok")

    async def ready(self) -> Response:
        """How things are."""
        health = await self._lately.asked("health", self._health)
        status = 503 if health.status == "failing" else 200
        return _json(health, status)

    def _health(self) -> "Health":
        gates = self._project.parts.traffic.gates.values()
        breakers = [gate.breaker.snapshot() for gate in gates]
        return check_health(
            self._config_path, start=self._project.start, breakers=breakers, credentials=self._needs_credentials
        )

    async def metrics(self) -> Response:
        """Figures for Prometheus."""
        text = await self._lately.asked("metrics", self._metrics.text)
        return Response(text, headers={"Content-Type": CONTENT_TYPE})

    # ------------------------------------------------------------ what there is

    async def overview(self, query: OverviewQuery) -> Response:
        """How executions went."""
        if self._overviews.is_full:
            return http_problem(503, "too many different figures are asked for at once", headers={"Retry-After": "5"})
        made = await self._overviews.asked(query, lambda: msgspec.json.encode(self.reader.overview(query)))
        return Response(made, media_type="application/json")

    async def events(self, query: EventsQuery, last_id: str | None) -> "ASGIApp":
        """What happens."""
        if self.feed.listeners >= MOST_STREAMS:
            detail = f"{MOST_STREAMS:,} pages are open already; close some"
            return http_problem(503, detail, headers={"Retry-After": "30"})
        return EventStream(self.feed, last_id=last_id, run=query.run)

    # ------------------------------------------------------------ acting

    async def execute(self, asked: ExecuteTask) -> Response:
        """One turn."""
        if self._actor.is_busy:
            return _busy()
        try:
            result = await self._actor.execute(asked)
        except asyncio.CancelledError:
            if not self.feed.is_closed:
                raise
            return http_problem(503, "the server ends, so the call was cancelled; ask again")
        return _json(result.to_dict())

    async def start(self, asked: StartRun) -> Response:
        """A run begins."""
        if self._actor.is_busy:
            return _busy()
        run_id = self._actor.start(asked)
        try:
            return await self._started(run_id)
        except RunNotFoundError:  # it goes on although the journal cannot be written
            run = unwritten_run(run_id, asked.workflow, at=self._project.parts.clock.now())
            return _json(RunStarted(run=run), 202, headers=_at(run_id))

    async def resume(self, query: RunQuery, asked: ResumeRun) -> Response:
        """A run goes on."""
        run = await self._found(query)
        if run.is_here:
            return http_problem(409, f"run {run.id} is under way here; cancel it first, or let it come to its end")
        if self._actor.is_busy:
            return _busy()
        self._actor.resume(run.id, asked)
        return await self._started(run.id)

    async def cancel(self, query: RunQuery, _: Nothing) -> Response:
        """A run ends."""
        is_cancelled = await self._actor.cancel(query.run)  # even if the journal does not have it
        run = await self._found(query)
        if not is_cancelled and not await self._actor.cancel(run.id):
            return http_problem(409, f"run {run.id} is not under way in this server, which cannot cancel it")
        return await self._started(run.id)

    async def _found(self, query: RunQuery) -> RunFacts:
        return await asyncio.to_thread(lambda: self.reader.run_facts(self.reader.history.find(query.run)))

    async def _started(self, run_id: str) -> Response:
        run = await self._found(RunQuery(run=run_id))
        return _json(RunStarted(run=run), 202, headers=_at(run_id))


def _at(run_id: str) -> dict[str, str]:
    return {"Location": f"/api/runs/{run_id}"}


def _busy() -> Response:
    return http_problem(503, f"{MOST_TASKS} tasks and runs are under way; try again", headers={"Retry-After": "5"})


def _json(document: object, status: int = 200, *, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(document), status, headers=headers, media_type="application/json")


class _Kept(msgspec.Struct):
    """What somebody has asked, and until when it is fresh."""

    found: "asyncio.Future[Any]"
    until_s: float = math.inf


class _Lately:
    """What was found out within the last moment, for all who ask; who asks while it is looked up waits for it, too."""

    def __init__(self) -> None:
        self._kept = OrderedDict[object, _Kept]()
        self._places = asyncio.Semaphore(MOST_AT_ONCE)

    @property
    def is_full(self) -> bool:
        """Whether so many things are being found out that one more would only wait."""
        return sum(not kept.found.done() for kept in self._kept.values()) >= MOST_WAITING

    async def asked(self, key: object, find: Callable[[], T]) -> T:
        """What `find` gives, in a thread of its own. What took long to find is shown for longer."""
        kept = self._kept.get(key)
        if kept is None or time.monotonic() >= kept.until_s:
            kept = _Kept(asyncio.ensure_future(self._sought(find)))
            begun = time.monotonic()
            kept.found.add_done_callback(lambda _: _date(kept, begun))
            self._kept[key] = kept
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        try:
            found: T = await asyncio.shield(kept.found)  # who leaves takes nobody else along
        except asyncio.CancelledError:
            if not kept.found.cancelled():
                raise
            raise HTTPException(503, "the server ends") from None
        return found

    def end(self) -> None:
        """Have nobody wait any longer."""
        for kept in self._kept.values():
            kept.found.cancel()

    async def _sought(self, find: Callable[[], T]) -> T:
        async with self._places:
            return await _found(find)


def _found(find: Callable[[], T]) -> "asyncio.Future[T]":
    """What `find` gives, in a thread that nobody waits for: a large ledger takes seconds, and Ctrl-C is at once."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if found.cancelled():
            return
        if error is None:
            found.set_result(cast("T", result))
        else:
            found.set_exception(error)
            found.exception()  # seen: everybody who asked may have left

    def work() -> None:
        result, error = None, None
        try:
            result = find()
        except BaseException as raised:  # noqa: BLE001 - it is raised where it is awaited
            error = raised
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="claude-force serve", daemon=True).start()
    return found


def _date(kept: _Kept, begun_s: float) -> None:
    now = time.monotonic()
    if not kept.found.cancelled():
        kept.found.exception()  # seen: everybody who asked may have left
    kept.until_s = now + max(FRESH_S, REST * (now - begun_s))
