"""What went wrong, as RFC 9457 has it: our errors become problem details with a status, and so does what HTTP says."""

from http import HTTPStatus

import msgspec
from starlette.responses import Response

from claude_force.apps.dashboard.shapes import Problem
from claude_force.base import errors

STATUSES: dict[type[errors.ClaudeForceError], int] = {
    errors.AgentNotFoundError: 404,
    errors.RunNotFoundError: 404,
    errors.InputError: 400,
    errors.InvalidRequestError: 400,
    errors.ModelNotFoundError: 400,
    errors.RequestTooLargeError: 413,
    errors.AccountLimitError: 402,
    errors.BudgetError: 402,
    errors.RateLimitError: 503,
    errors.OverloadedError: 503,
    errors.CircuitOpenError: 503,
    errors.TimedOutError: 504,
    errors.DeadlineError: 504,
    errors.RefusalError: 422,
    errors.ApiError: 502,
    errors.AnswerError: 502,
    errors.ClaudeForceError: 500,
}
"""The status of an error is that of its nearest ancestor here. 5xx is never the fault of who asks."""


def status_of(error: errors.ClaudeForceError) -> int:
    """The HTTP status of an error."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def problem_of(error: errors.ClaudeForceError) -> Response:
    """An error of ours as a response."""
    retry_after_s = getattr(error, "retry_after_s", None)
    problem = Problem(
        type=f"urn:claude-force:error:{type(error).__name__}",
        title=(type(error).__doc__ or "").partition("\n")[0],
        status=status_of(error),
        detail=str(error),
        exit_code=error.exit_code,
        problems=getattr(error, "problems", ()),
    )
    headers = {} if retry_after_s is None else {"Retry-After": str(max(round(retry_after_s), 1))}
    return _response(problem, headers)


def http_problem(status: int, detail: str, *, headers: dict[str, str] | None = None) -> Response:
    """What is wrong with a request, before it was about anything of ours."""
    title = HTTPStatus(status).phrase
    return _response(Problem(type="about:blank", title=title, status=status, detail=detail), headers or {})


def _response(problem: Problem, headers: dict[str, str]) -> Response:
    content = msgspec.json.encode(problem)
    return Response(content, problem.status, headers=headers, media_type="application/problem+json")
