"""What happens, for the `logging` of the standard library: how each piece of work ended, and the same as JSON.

Loggers are `claude_force.run`, `.step`, `.turn` and `.attempt` (INFO), `.lookup` and `.wait` (DEBUG), beside those of
the parts that warn. A failure is raised to whoever called, so it is no warning here. Prompts, answers and keys are in
none of it, at any level; errors are told by their type, because their messages may quote what was said.
"""

import json
import logging
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from claude_force.base.secrets import masked
from claude_force.base.spans import NO_SPANS, Span, SpanKind
from claude_force.insight.facts import facts_of
from claude_force.insight.tracing import current_ids

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from contextvars import Token

    from claude_force.base.spans import Outcome

_IDS = {"workflow", "run_id", "step_id"}
_LEVELS: dict[SpanKind, int] = {"lookup": logging.DEBUG, "wait": logging.DEBUG}
_WITHIN: ContextVar[dict[str, object]] = ContextVar("claude_force_ids")
"""The ids of the run, step and turn that is under way in this task or thread."""


class LogSpans:
    """Implements `base.spans.Spans`."""

    def span(self, kind: SpanKind, name: str, **facts: object) -> Span:
        """See `Spans.span`."""
        return _LoggedSpan(kind, name, facts)

    def here(self) -> "AbstractContextManager[object]":
        """See `Spans.here`: a turn tells the ids of its run and step itself."""
        return NO_SPANS


class _LoggedSpan:
    """One record when it ends. Implements `base.spans.Span`. What a handler of the application raises stays here."""

    def __init__(self, kind: SpanKind, name: str, facts: dict[str, object]) -> None:
        self._kind, self._name, self._facts = kind, name, facts
        self._begun_s = 0.0
        self._token: Token[dict[str, object]] | None = None

    def __enter__(self) -> Self:
        self._begun_s = time.perf_counter()
        ids = {name: value for name, value in self._facts.items() if name in _IDS and value is not None}
        if self._kind == "turn":
            ids["agent"] = self._name
        self._token = _WITHIN.set(_WITHIN.get({}) | ids)
        return self

    def tell(self, outcome: "Outcome") -> None:
        """See `Span.tell`."""
        self._facts |= facts_of(outcome)

    def __exit__(self, *ending: object) -> None:
        _, error, _ = ending
        if error is not None:
            self._facts["error_type"] = type(error).__name__
        seconds = time.perf_counter() - self._begun_s
        how = self._facts.get("error_type") or self._facts.get("status") or "done"
        facts = {"event": self._kind, self._kind: self._name, "duration_ms": round(seconds * 1000, 3)}
        said = {name: value for name, value in (facts | self._facts).items() if value is not None}
        with suppress(Exception):
            logging.getLogger(f"claude_force.{self._kind}").log(
                _LEVELS.get(self._kind, logging.INFO),
                "%s %s: %s after %.3f s",
                self._kind,
                self._name,
                how,
                seconds,
                extra=_WITHIN.get({}) | said,
            )
        with suppress(ValueError):  # ended in another context: whoever left it there is gone
            if self._token is not None:
                _WITHIN.reset(self._token)


class JsonFormatter(logging.Formatter):
    """Each record as one line of JSON: time, level, logger, message, its `extra` fields, and where it belongs.

    That is: the ids of the run, step and agent, and of the trace and span, where there are some. Fits any handler.

    Example:
        >>> import logging
        >>> record = logging.makeLogRecord({"levelname": "INFO", "msg": "sent %d", "args": (3,), "run_id": "r1"})
        >>> JsonFormatter().format(record).partition('"level"')[2]
        ': "INFO", "logger": null, "message": "sent 3", "run_id": "r1"}'
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        facts = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_WITHIN.get({}),
            **{name: value for name, value in vars(record).items() if name not in _USUAL},
            **current_ids(),
        }
        if record.exc_info:
            facts["exception"] = self.formatException(record.exc_info)
        return json.dumps(_plain(facts), allow_nan=False)


_USUAL = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
"""What any record has."""


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever somebody logs
    """As JSON has it; without what looks like a key, however deep it lies."""
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, Mapping):
        return {masked(str(name)): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return list(map(_plain, value))
    if not isinstance(value, str):
        with suppress(TypeError, ValueError, OverflowError):
            number = float(value)
            return number if math.isfinite(number) else str(value)
    return masked(str(value))
