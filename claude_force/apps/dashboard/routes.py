"""Every route of the API, in one table: the server's routes and the OpenAPI document are made of it."""

from collections import defaultdict

from starlette import routing
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from claude_force.apps.dashboard import shapes
from claude_force.apps.dashboard.openapi import document
from claude_force.apps.dashboard.reading import Reader
from claude_force.apps.dashboard.route import EVENTS, JSON, Handler, Route, handler
from claude_force.apps.dashboard.service import Service
from claude_force.insight.health import Health


async def openapi(_: Service) -> Response:
    """What this API is."""
    return Response(document(ROUTES), media_type=JSON)


ROUTES = (
    Route("GET", "/healthz", Service.alive, "Whether the server answers.", gives=shapes.Alive),
    Route(
        "GET",
        "/readyz",
        Service.ready,
        "How things are, as `claude-force health` says; 503 where agents cannot run.",
        gives=Health,
        also=503,
    ),
    Route("GET", "/metrics", Service.metrics, "Figures for Prometheus.", media_type="text/plain"),
    Route("GET", "/api/openapi.json", openapi, "This document."),
    Route(
        "GET",
        "/api/overview",
        Service.overview,
        "How executions went, and what there is.",
        gives=shapes.Overview,
        asks=shapes.OverviewQuery,
    ),
    Route("GET", "/api/agents", Reader.agents, "The agents that can be called.", gives=shapes.Agents),
    Route("GET", "/api/workflows", Reader.workflows, "The workflows that can be run.", gives=shapes.Workflows),
    Route("GET", "/api/runs", Reader.runs, "The newest runs.", gives=shapes.Runs, asks=shapes.RunsQuery),
    Route("GET", "/api/runs/{run}", Reader.run, "A run with its steps.", gives=shapes.RunView, asks=shapes.RunQuery),
    Route(
        "GET",
        "/api/runs/{run}/steps/{step}",
        Reader.step,
        "What a step answered, and what changed since the run before.",
        gives=shapes.StepView,
        asks=shapes.StepQuery,
    ),
    Route(
        "GET",
        "/api/events",
        Service.events,
        "What happens, as server-sent events: of all, or of one run.",
        asks=shapes.EventsQuery,
        media_type=EVENTS,
    ),
    Route(
        "POST",
        "/api/execute",
        Service.execute,
        "Have an agent do a task, and wait for its answer.",
        gives=shapes.Answer,
        takes=shapes.ExecuteTask,
    ),
    Route(
        "POST",
        "/api/runs",
        Service.start,
        "Start a workflow.",
        gives=shapes.RunStarted,
        takes=shapes.StartRun,
        status=202,
    ),
    Route(
        "POST",
        "/api/runs/{run}/resume",
        Service.resume,
        "Go on with a run: what it has paid for is not asked again.",
        gives=shapes.RunStarted,
        asks=shapes.RunQuery,
        takes=shapes.ResumeRun,
        status=202,
    ),
    Route(
        "POST",
        "/api/runs/{run}/cancel",
        Service.cancel,
        "Cancel a run that this server does; what was paid for is kept.",
        gives=shapes.RunStarted,
        asks=shapes.RunQuery,
        takes=shapes.Nothing,
        status=202,
    ),
)


def routes(service: Service) -> list[BaseRoute]:
    """What Starlette serves: a route for each path, which says of other methods what it takes."""
    by_path = defaultdict[str, dict[str, Handler]](dict)
    for route in ROUTES:
        by_path[route.path][route.method] = handler(route, service)
    return [routing.Route(path, _dispatcher(handlers), methods=list(handlers)) for path, handlers in by_path.items()]


def _dispatcher(handlers: dict[str, Handler]) -> Handler:
    async def dispatch(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return dispatch
