"""Who hears of the engine's spans: the tracer of the application, its log, both, or, as a rule, nobody."""

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from claude_force.base.spans import NO_SPANS, Span, SpanKind, Spans
from claude_force.insight.tracing import find_tracer

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from claude_force.base.spans import Outcome


def find_spans() -> Spans:
    """Whoever hears of them now; asked for each piece of work, as an application may set either up late."""
    tracer, log = find_tracer(), _find_log()
    if tracer and log:
        return _Both(tracer, log)
    return tracer or log or NO_SPANS


def _find_log() -> Spans | None:
    if "logging" not in sys.modules:  # 10 ms, and nobody has set it up
        return None
    import logging  # noqa: PLC0415 - as above

    if not logging.getLogger("claude_force").isEnabledFor(logging.INFO):
        return None
    from claude_force.insight.logs import LogSpans  # noqa: PLC0415 - as above

    return LogSpans()


class _Both:
    """Implements `base.spans.Spans`. What is logged lies within the span, so that it can tell its id."""

    def __init__(self, tracer: Spans, log: Spans) -> None:
        self._tracer, self._log = tracer, log

    def span(self, kind: SpanKind, name: str, **facts: object) -> Span:
        """See `Spans.span`."""
        return _BothSpan(self._tracer.span(kind, name, **facts), self._log.span(kind, name, **facts))

    def here(self) -> "AbstractContextManager[object]":
        """See `Spans.here`. The log needs none: what it says of a turn has the turn's ids."""
        return self._tracer.here()


class _BothSpan:
    """Implements `base.spans.Span`."""

    def __init__(self, *spans: Span) -> None:
        self._spans, self._open = spans, ExitStack()

    def __enter__(self) -> Self:
        for span in self._spans:
            self._open.enter_context(span)
        return self

    def tell(self, outcome: "Outcome") -> None:
        """See `Span.tell`."""
        for span in self._spans:
            span.tell(outcome)

    def __exit__(self, *ending: object) -> None:
        self._open.__exit__(*ending)  # type: ignore[arg-type] # the three of a `with` block
