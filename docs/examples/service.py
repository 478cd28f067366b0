"""Reviews as a web service, with FastAPI: one orchestrator for all requests, and a reason for what cannot be reviewed.

Start it with `uvicorn service:app`; `/docs` then shows it.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from claude_force import AsyncAgentOrchestrator, ClaudeForceError, InjectionError, Material, RefusalError, TaskError


class Change(BaseModel):
    """What is asked for."""

    diff: str = Field(min_length=1, max_length=200_000)


class Review(BaseModel):
    """What is answered: its schema is what the model has to keep to."""

    reasons: list[str]
    verdict: Literal["merge", "change"]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connections, limits and the cache are shared by all requests, and closed with the server."""
    async with AsyncAgentOrchestrator(max_concurrent=50, timeout_seconds=60) as orchestrator:
        app.state.orchestrator = orchestrator
        yield


app = FastAPI(title="Reviews", lifespan=lifespan)


@app.post("/reviews")
async def review(change: Change, request: Request) -> Review:
    """May this change be merged?"""
    orchestrator: AsyncAgentOrchestrator = request.app.state.orchestrator
    material = Material("change.diff", change.diff)
    answer = await orchestrator.execute_agent(
        "code-reviewer", "May this be merged?", materials=[material], output_schema=Review.model_json_schema()
    )
    return Review.model_validate(answer.data)


@app.exception_handler(ClaudeForceError)
async def failed(_: Request, error: ClaudeForceError) -> JSONResponse:
    """Tell who asks what is wrong with the change; all else is for us to mend, and for them to try again."""
    if isinstance(error, (TaskError, InjectionError, RefusalError)):
        return JSONResponse({"detail": str(error)}, 422)
    logging.getLogger("uvicorn.error").error("%s: %s", type(error).__name__, error)
    retry_after_s = getattr(error, "retry_after_s", None) or 30
    return JSONResponse({"detail": "no review now"}, 503, {"Retry-After": f"{retry_after_s:.0f}"})
