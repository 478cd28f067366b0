"""Spans as OpenTelemetry has them, for whoever has set it up; nobody else even loads it.

Names and attributes are those of the GenAI conventions, version 0.1.0
(https://github.com/open-telemetry/semantic-conventions-genai), and what they have no name for is under `claude_force.`.
Errors are told by their type alone: messages may quote what was asked or answered.
"""

import sys
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

from claude_force.base.spans import Span, SpanKind, Spans
from claude_force.insight.facts import facts_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer
    from opentelemetry.util.types import AttributeValue

    from claude_force.base.spans import Outcome

_TITLES: dict[SpanKind, str] = {
    "run": "invoke_workflow {}",
    "step": "step {}",
    "turn": "invoke_agent {}",
    "attempt": "chat {}",
    "lookup": "look up {}",
    "wait": "wait for {}",
}
_KINDS: "dict[SpanKind, tuple[str, dict[str, AttributeValue]]]" = {
    "run": ("gen_ai.agent.name", {"gen_ai.operation.name": "invoke_workflow"}),
    "turn": ("gen_ai.agent.name", {"gen_ai.operation.name": "invoke_agent"}),
    "attempt": ("gen_ai.request.model", {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "anthropic"}),
}
"""What the name of one is, and what else is said of all of that kind."""
_ATTRIBUTES = {
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_write.input_tokens",
    "effort": "gen_ai.request.reasoning.level",
    "error_type": "error.type",
    "input_tokens": "gen_ai.usage.input_tokens",
    "max_tokens": "gen_ai.request.max_tokens",
    "model": "gen_ai.response.model",
    "output_tokens": "gen_ai.usage.output_tokens",
    "server_address": "server.address",
    "request_id": "anthropic.request.id",  # as the SDK's own spans have it
    "stop_reason": "gen_ai.response.finish_reasons",
    "streamed": "gen_ai.request.stream",
    "thinking_tokens": "gen_ai.usage.reasoning.output_tokens",
    "ttft_s": "gen_ai.response.time_to_first_chunk",
}
"""Facts that others have a name for."""


def find_tracer() -> Spans | None:
    """Where the application has set up that spans go, if it has.

    The SDK of Claude loads OpenTelemetry's interface whether somebody traces or not: that alone says nothing.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    try:
        provider = trace.get_tracer_provider()
        is_there = not isinstance(provider, trace.ProxyTracerProvider)
        return _OpenSpans(provider.get_tracer("claude_force")) if is_there else None
    except Exception:  # noqa: BLE001 - a thread is still loading it, or the environment names one that cannot be loaded
        return None


def current_ids() -> dict[str, str]:
    """Those of the trace and the span that are under way here, as they are written everywhere; none where none are."""
    trace = sys.modules.get("opentelemetry.trace")
    context = trace and trace.get_current_span().get_span_context()
    if not context or not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


class _OpenSpans:
    """Spans of this tracer. Implements `base.spans.Spans`."""

    def __init__(self, tracer: "Tracer") -> None:
        self._tracer = tracer

    def span(self, kind: SpanKind, name: str, **facts: object) -> Span:
        """See `Spans.span`."""
        return _OpenSpan(self._tracer, kind, name, facts)

    def here(self) -> "AbstractContextManager[object]":
        """See `Spans.here`."""
        from opentelemetry import context  # noqa: PLC0415 - there, where there is a tracer

        return _Place(context.get_current())


class _Place:
    """A context that is the current one within a `with` block."""

    def __init__(self, current: "Context") -> None:
        self._context = current
        self._token: Any = None

    def __enter__(self) -> Self:
        from opentelemetry import context  # noqa: PLC0415 - there, where there is a tracer

        self._token = context.attach(self._context)
        return self

    def __exit__(self, *_: object) -> None:
        from opentelemetry import context  # noqa: PLC0415 - as above

        context.detach(self._token)


class _OpenSpan:
    """One span. Implements `base.spans.Span`. What a processor or a sampler of the application raises stays here."""

    def __init__(self, tracer: "Tracer", kind: SpanKind, name: str, facts: dict[str, object]) -> None:
        self._tracer, self._kind, self._name, self._facts = tracer, kind, name, facts
        self._span: Any = None
        self._place: _Place | None = None

    def __enter__(self) -> Self:
        from opentelemetry import trace  # noqa: PLC0415 - there, where there is a tracer

        name_is, attributes = _KINDS.get(self._kind, ("claude_force.name", {}))
        kind = trace.SpanKind.CLIENT if self._kind == "attempt" else trace.SpanKind.INTERNAL
        with suppress(Exception):
            self._span = self._tracer.start_span(
                _TITLES[self._kind].format(self._name),
                kind=kind,
                attributes=attributes | {name_is: self._name} | _said(self._facts),
            )
            self._place = _Place(trace.set_span_in_context(self._span))
            self._place.__enter__()
        return self

    def tell(self, outcome: "Outcome") -> None:
        """See `Span.tell`."""
        with suppress(Exception):
            said = _said(facts_of(outcome))
            self._span.set_attributes(said)
            if "error.type" in said:
                self._fail()

    def _fail(self) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - there, where there is a tracer

        self._span.set_status(trace.Status(trace.StatusCode.ERROR))

    def __exit__(self, *ending: object) -> None:
        _, error, _ = ending
        with suppress(Exception):
            if self._place:
                self._place.__exit__()
            if isinstance(error, Exception):
                self._span.set_attribute("error.type", type(error).__name__)
                self._fail()
            elif error is not None:  # to be stopped is no failure
                self._span.set_attribute("claude_force.interrupted", value=True)
            self._span.end()


def _said(facts: "Mapping[str, object]") -> "dict[str, AttributeValue]":
    """What these say, in OpenTelemetry's words."""
    return {
        _ATTRIBUTES.get(name, f"claude_force.{name}"): _plain(name, value)
        for name, value in facts.items()
        if value is not None
    }


def _plain(name: str, value: Any) -> "AttributeValue":  # noqa: ANN401 - a fact
    if name == "stop_reason":  # there may be several answers, if not from Claude
        return (value,)
    return float(value) if isinstance(value, Decimal) else value
