"""Foreign errors, made ours: by their content first and their class second, and none is left out.

| what the SDK raises | when | ours |
|---|---|---|
| `APIStatusError` and below | the API said no, before or in the middle of a stream | by kind and code, see below |
| `APITimeoutError`, `TimeoutException`, `TimeoutError` | an attempt took too long | `TimedOutError` |
| `APIConnectionError` | nothing answered | `ConnectionFailedError` |
| bare `httpx2.HTTPError`, `OSError` | a stream broke off | `ConnectionFailedError` |
| `msgspec.DecodeError` | what came is not the API's | `ProtocolError` |
| bare `TypeError`, `CredentialsError` | there are no credentials, or a missing profile | `CredentialsError` |
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import msgspec

from claude_force.base.errors import (
    AccountLimitError,
    ApiError,
    ClaudeForceError,
    ConnectionFailedError,
    CredentialsError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    ProtocolError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
    TimedOutError,
)
from claude_force.transports.wire import ErrorBody, StreamFailed, read_limits, text_or_none

if TYPE_CHECKING:
    from claude_force.base.records import Request


@contextmanager
def translated(request: "Request | None", headers: Mapping[str, str] | None = None) -> Iterator[None]:
    """Whatever the SDK raises inside leaves as one of our errors, with the foreign one as its cause.

    `headers` are those of a response that has begun: an error in its middle brings none of its own.
    """
    try:
        yield
    except Exception as error:  # not in the clause itself: a Ctrl-C would have to wait for the import in `_foreign`
        if isinstance(error, ClaudeForceError) or not isinstance(error, _foreign()):
            raise
        ours = _ours(error, request.model if request else None, headers)
        if ours is error:
            raise
        raise ours from None if _quotes_password(error) else error


def _foreign() -> tuple[type[Exception], ...]:
    """What the SDK lets through, by 2.11: its own errors, those of its HTTP client, and bare ones of Python's."""
    import anthropic  # noqa: PLC0415 - only after a failure
    import httpx2  # noqa: PLC0415

    bare = (ValueError, TypeError, OSError, ImportError, msgspec.DecodeError, StreamFailed)
    return anthropic.AnthropicError, httpx2.HTTPError, httpx2.InvalidURL, *bare


def _ours(  # noqa: C901, PLR0911, PLR0912 - a table, one row an error
    error: Exception, model: str | None, headers: Mapping[str, str] | None
) -> Exception:
    """The most specific of our errors for a foreign one; what is no failure of the outside comes back as it is."""
    import anthropic  # noqa: PLC0415 - only after a failure
    import httpx2  # noqa: PLC0415

    match error:
        case anthropic.APIStatusError():
            body = ErrorBody(error.type, error.api_message, {"error_code": error.error_code})
            return _api_error(error.status_code, error.response.headers, body, model)
        case StreamFailed():
            return _api_error(200, headers or {}, error.error, model)
        case anthropic.APITimeoutError() | httpx2.TimeoutException() | TimeoutError():
            return TimedOutError(
                "no answer came in the time of this attempt; raise the timeout or try later",
                model=model,
                may_have_arrived=not _is_before_sending(error),
            )
        case httpx2.InvalidURL():
            said = "the address is no URL; check ANTHROPIC_BASE_URL and the proxy variables"
            return _unreachable(said, model, should_retry=False)
        case httpx2.UnsupportedProtocol():
            return _unreachable(f"the address is no URL: {error}; check ANTHROPIC_BASE_URL", model, should_retry=False)
        case anthropic.APIConnectionError(__cause__=httpx2.UnsupportedProtocol() as cause):
            return _unreachable(f"the address is no URL: {cause}; check ANTHROPIC_BASE_URL", model, should_retry=False)
        case anthropic.APIConnectionError(__cause__=cause) if _is_header_fault(cause):
            return CredentialsError(
                "the API key, or another header, holds a character that none may have; copy it anew"
            )
        case anthropic.APIConnectionError():
            reason = error.__cause__ or error
            unreachable = _unreachable(
                f"no connection to {error.request.url.host!r}: {reason}; check the network", model
            )
            unreachable.may_have_arrived = not _is_before_sending(error)
            return unreachable
        case httpx2.HTTPError() | OSError():
            broken = _unreachable(f"the connection broke before the answer was complete: {error}; try again", model)
            broken.may_have_arrived = True
            return broken
        case anthropic.CredentialsError():
            return CredentialsError(
                f"the credentials cannot be read: {error}; mend the profile or set ANTHROPIC_API_KEY"
            )
        case TypeError() if "authentication method" in str(error):
            return CredentialsError(
                "there are no credentials for Claude; set ANTHROPIC_API_KEY, or see it work without:"
                " --offline (in Python: offline=True) asks the simulator"
            )
        case ImportError():
            said = f"the HTTP client lacks a package: {error}; unset the proxy variables, or install it"
            return _unreachable(said, model, should_retry=False)
        case ValueError() if "proxy URL" in str(error):  # which it shows without the password
            return _unreachable(f"{error}; mend or unset the proxy variables", model, should_retry=False)
        case UnicodeEncodeError():
            return CredentialsError("the API key holds a character that no key has; copy it anew")
        case msgspec.DecodeError() | UnicodeDecodeError():
            return ProtocolError(
                f"the server's answer is no Messages API reply ({error}); check ANTHROPIC_BASE_URL",
                status=200,
                model=model,
                may_have_arrived=True,
            )
        case anthropic.AnthropicError():
            return ApiError(f"the SDK failed: {error}", model=model)
    return error


def _quotes_password(error: Exception) -> bool:
    """What is no port may be the beginning of a password with a / in it."""
    import httpx2  # noqa: PLC0415 - only after a failure

    return isinstance(error, httpx2.InvalidURL)


def _is_header_fault(cause: BaseException | None) -> bool:
    """httpx2 names it; aiohttp raises a bare ValueError, as it does for other things."""
    import httpx2  # noqa: PLC0415 - only after a failure

    return isinstance(cause, httpx2.LocalProtocolError) or (isinstance(cause, ValueError) and "header" in str(cause))


def _is_before_sending(error: BaseException) -> bool:
    """Whether there was no connection yet that the request could have been sent on."""
    import httpx2  # noqa: PLC0415 - only after a failure

    early = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
    return isinstance(error, early) or isinstance(error.__cause__, early)


def _unreachable(message: str, model: str | None, *, should_retry: bool | None = None) -> ConnectionFailedError:
    return ConnectionFailedError(message, model=model, should_retry=should_retry)


# `error.details.error_code` of a 429 that no waiting mends, and how a 400 words a limit that the user has set.
_SPENT = frozenset({"enforced_spend_limit_reached", "contract_spend_limit_reached"})
_SPENT_MESSAGE = "You have reached your specified API usage limits"

_BY_KIND: dict[str, type[ApiError]] = {
    "invalid_request_error": InvalidRequestError,
    "authentication_error": CredentialsError,
    "permission_error": CredentialsError,
    "billing_error": AccountLimitError,
    "not_found_error": ModelNotFoundError,
    "request_too_large": RequestTooLargeError,
    "rate_limit_error": RateLimitError,
    "overloaded_error": OverloadedError,
    "timeout_error": ServerError,
    "conflict_error": ServerError,
    "api_error": ServerError,
}
_BY_STATUS: dict[int, type[ApiError]] = {
    401: CredentialsError,
    402: AccountLimitError,
    403: CredentialsError,
    408: ServerError,
    409: ServerError,
    413: RequestTooLargeError,
    429: RateLimitError,
    503: OverloadedError,
    529: OverloadedError,
}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NEXT_STEP: dict[type[ApiError], str] = {
    CredentialsError: "check ANTHROPIC_API_KEY and what it may do",
    AccountLimitError: "raise the limit or add credit in the Console; nothing more is sent",
    ModelNotFoundError: "use haiku, sonnet, opus or fable, or a current id",
    RequestTooLargeError: "give less material",
    RateLimitError: "wait, or ask for fewer at once",
    OverloadedError: "try again later",
    ProtocolError: "redirects are not followed, as the task would go along; check ANTHROPIC_BASE_URL",
}


def _api_error(status: int, headers: Mapping[str, str], body: ErrorBody, model: str | None) -> ApiError:
    """By the body's words before the status, as a stream fails with status 200 and a spent limit looks like haste."""
    said = text_or_none(body.message) or f"HTTP {status} without a message of the API"
    kind = _class_of(status, text_or_none(body.type), body.code, said)
    advice = _NEXT_STEP.get(kind)
    return kind(
        f"{said}{f'; {advice}' if advice else ''}",
        status=status,
        kind=text_or_none(body.type),
        error_code=body.code,
        request_id=headers.get("request-id"),
        retry_after_s=_retry_after_s(headers),
        should_retry={"true": True, "false": False}.get(headers.get("x-should-retry", "")),
        model=model,
        limits=read_limits(headers),
    )


def entry_error(body: ErrorBody) -> ApiError:
    """The error of one entry of a batch, which has no status of its own: that of the results is 200."""
    return _api_error(200, {}, body, None)


def _class_of(status: int, kind: str | None, code: object, said: str) -> type[ApiError]:
    if code in _SPENT or said.startswith(_SPENT_MESSAGE):
        return AccountLimitError
    if status in {503, 529}:
        return OverloadedError
    if status in _REDIRECTS:
        return ProtocolError
    if kind in _BY_KIND:
        return _BY_KIND[kind]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return ServerError if status >= 500 else InvalidRequestError  # noqa: PLR2004 - HTTP's own border


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """What the server asks us to wait: milliseconds, seconds or a date. Nonsense, 0 and the past count as nothing said.

    A date is meant by the server's clock, which it tells with it; ours may be an hour off.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    return _number(value) or _seconds_until(value, headers.get("date"))


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 < number < math.inf else None


def _seconds_until(date: str | None, said_at: str | None) -> float | None:
    then, now = _moment(date), _moment(said_at) or datetime.now(UTC)
    seconds = (then - now).total_seconds() if then else 0.0
    return seconds if seconds > 0 else None


def _moment(date: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(date or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
