"""Logs and traces of commands: to stderr as the options say, and where OpenTelemetry's own variables say."""

import logging
import sys
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from claude_force.apps.console import harmless, note
from claude_force.base.secrets import masked
from claude_force.insight.logs import JsonFormatter

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

FLUSH_S = 5.0
"""For so long a command waits at its end until its traces have been sent."""


class _TextFormatter(logging.Formatter):
    """A line for a person, without keys and without what a terminal obeys."""

    def format(self, record: logging.LogRecord) -> str:
        return harmless(masked(super().format(record)))


def log(level: str, form: str) -> None:
    """What `claude_force` logs goes to stderr, from this level on."""
    handler = logging.StreamHandler(sys.stderr)
    text = _TextFormatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else text)
    logger = logging.getLogger("claude_force")
    logger.addHandler(handler)
    logger.setLevel(level.upper())


def trace(environment: Mapping[str, str]) -> Callable[[], object]:
    """Send spans where the environment says; gives what ends it, which waits for the last ones, but not for long."""
    exporters = _exporters(environment)
    if not exporters:
        return _nothing
    try:
        from opentelemetry import trace  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        made = [exporter() for exporter in exporters]
    except ImportError as error:
        note(f"no traces are sent: {error}; pip install 'claude-force[otel]'", kind="warning")
        return _nothing
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # opentelemetry-instrument was first
        return _nothing
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "claude-force"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in made:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)

    def end() -> None:
        ending = threading.Thread(target=provider.shutdown, daemon=True)
        ending.start()
        ending.join(FLUSH_S)
        if ending.is_alive():
            note(f"not all traces were sent within {FLUSH_S:g} s; is the endpoint there?", kind="warning")

    return end


def _exporters(environment: Mapping[str, str]) -> "list[Callable[[], SpanExporter]]":
    """Which are wanted, by the variables that OpenTelemetry's SDKs share; none where there is nothing to say where."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    has_endpoint = any(environment.get(f"OTEL_EXPORTER_OTLP_{part}ENDPOINT") for part in ("", "TRACES_"))
    names = environment.get("OTEL_TRACES_EXPORTER") or ("otlp" if has_endpoint else "none")
    wanted = []
    for name in filter(None, (part.strip() for part in names.split(","))):
        if name in _EXPORTERS:
            wanted.append(_EXPORTERS[name])
        elif name != "none":
            known = ", ".join([*_EXPORTERS, "none"])
            note(f"OTEL_TRACES_EXPORTER names {name!r}, which commands do not know; give {known}", kind="warning")
    return wanted


def _to_stderr() -> "SpanExporter":
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter  # noqa: PLC0415 - an extra

    return ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: f"{span.to_json(indent=None)}\n")


def _to_endpoint() -> "SpanExporter":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra

    return OTLPSpanExporter()


_EXPORTERS = {"console": _to_stderr, "otlp": _to_endpoint}


def _nothing() -> None:
    """Nothing was begun."""
