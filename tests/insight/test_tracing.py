"""Traces, as an application sees them that has set OpenTelemetry up: with its real SDK, which keeps them in memory."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic  # noqa: F401 - a second that no time limit of a test is to pay
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from claude_force import AgentOrchestrator, AsyncAgentOrchestrator, RateLimitError
from claude_force.testing import ApiFault, Hang, Rule, Simulator
from tests.conftest import about, step

Face = Callable[..., Any]
Tree = list["str | Tree"]

pytestmark = pytest.mark.usefixtures("project")
SOON = {"retry-after-ms": "1"}
CHAT, TURN = "chat claude-haiku-5-5", "invoke_agent reviewer"
LOOKED = ["look up memory", "look up cache"]


@pytest.fixture
def provider(unobserved: None) -> Iterator[TracerProvider]:  # noqa: ARG001 - before and after
    """What an application sets up."""
    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    yield provider
    provider.shutdown()


@pytest.fixture
def exporter(provider: TracerProvider) -> InMemorySpanExporter:
    """Has every span that has ended."""
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


def asking(face: Face, simulator: Simulator, **options: Any) -> Any:
    """An orchestrator of that face which asks this simulator."""
    return face(api_key="secret-canary", base_url=simulator.base_url, **options)


DIAMOND = {"name": "w", "steps": [step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c")]}


def tree(spans: Sequence[ReadableSpan], parent: int | None = None) -> Tree:
    """The names of the spans under that one, each with what is under it, in the order of their beginnings."""
    children = [span for span in spans if (span.parent.span_id if span.parent else None) == parent]
    found: Tree = []
    for span in sorted(children, key=lambda child: child.start_time or 0):
        below = tree(spans, span.context.span_id)
        found += [span.name, below] if below else [span.name]
    return found


def named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    """The one span of that name."""
    (span,) = [span for span in exporter.get_finished_spans() if span.name == name]
    return span


def facts(span: ReadableSpan) -> dict[str, Any]:
    """Its attributes."""
    return dict(span.attributes or {})


def test_a_run_is_one_trace(face: Face, exporter: InMemorySpanExporter) -> None:
    """Run, steps, turns, look-ups and each attempt, a retry too, are under one another; what they cost is said."""
    with Simulator(faults=[ApiFault(529, headers=SOON)]) as simulator, asking(face, simulator) as subject:
        result = subject.execute_workflow(DIAMOND)
    spans = exporter.get_finished_spans()
    assert len({span.context.trace_id for span in spans}) == 1
    plain: Tree = [TURN, [*LOOKED, CHAT]]
    steps = {"step a": [TURN, [*LOOKED, CHAT, CHAT]], "step b": plain, "step c": plain, "step d": plain}
    run, below = tree(spans)
    assert run == "invoke_workflow w"
    assert {str(name): of_it for name, of_it in zip(below[::2], below[1::2], strict=True)} == steps
    root = named(exporter, "invoke_workflow w")
    assert facts(root) == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.agent.name": "w",
        "claude_force.run_id": result.run_id,
        "claude_force.status": "completed",
        "claude_force.cost_usd": float(result.cost_usd),
        "claude_force.saved_usd": 0.0,
    }
    failed, good = [span for span in spans if span.name == CHAT][:2]
    assert (failed.status.status_code, facts(failed)["error.type"]) == (trace.StatusCode.ERROR, "OverloadedError")
    usage = simulator.stats.usage["claude-haiku-5-5"]
    assert {span.kind for span in spans if span.name == CHAT} == {trace.SpanKind.CLIENT}
    assert sum(facts(span).get("gen_ai.usage.output_tokens", 0) for span in spans) == usage.output_tokens
    of_the_answer = {"gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": 0, "anthropic.request.id": "req"}
    assert of_the_answer.keys() <= facts(good).keys()
    assert facts(good) | of_the_answer == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-haiku-5-5",
        "gen_ai.request.max_tokens": 16_000,
        "gen_ai.response.model": "claude-haiku-5-5",
        "gen_ai.response.finish_reasons": ("end_turn",),
        **of_the_answer,
        "claude_force.simulated": True,
    }


def test_a_run_with_a_failure_and_answers_from_before(face: Face, exporter: InMemorySpanExporter) -> None:
    """What the cache has is a hit and no attempt; a failure is one in the attempt, its turn, its step and the run."""
    rule = Rule(ApiFault(400, message="canary"), when=about("c"))
    with Simulator(rules=[rule]) as simulator, asking(face, simulator) as subject:
        subject.execute_workflow({"name": "before", "steps": [step("a")]})
        exporter.clear()
        result = subject.execute_workflow(DIAMOND, on_error="return")
    assert result.status == "failed"
    spans = {span.name: span for span in exporter.get_finished_spans()}
    all_of_a = tree(list(exporter.get_finished_spans()), spans["step a"].context.span_id)
    assert all_of_a == [TURN, ["look up memory"]]
    hit = next(span for span in exporter.get_finished_spans() if facts(span).get("claude_force.hit"))
    turn = next(span for span in exporter.get_finished_spans() if hit.parent and span.context == hit.parent)
    assert (facts(turn)["claude_force.cached"], facts(turn)["claude_force.attempts"]) == (True, 0)
    bad = [span for span in exporter.get_finished_spans() if span.status.status_code is trace.StatusCode.ERROR]
    assert [span.name for span in bad] == [CHAT, TURN, "step c", "invoke_workflow w"]
    assert {facts(span)["error.type"] for span in bad} == {"InvalidRequestError"}
    assert not any(span.status.description or span.events for span in bad)


def test_a_stream_tells_when_its_first_text_came(face: Face, exporter: InMemorySpanExporter) -> None:
    """And that it is one; and the trace goes along, once, as the SDK would send it."""
    with Simulator() as simulator, asking(face, simulator) as subject:
        result = subject.execute_agent("reviewer", "x", on_text=lambda _: None)
    chat = named(exporter, CHAT)
    assert facts(chat)["gen_ai.request.stream"] is True
    assert facts(chat)["gen_ai.response.time_to_first_chunk"] * 1000 == pytest.approx(result.ttft_ms)
    sent = simulator.requests[0].headers["traceparent"].split("-")
    assert sent[1:3] == [f"{chat.context.trace_id:032x}", f"{chat.context.span_id:016x}"]
    assert [span.name for span in exporter.get_finished_spans()] == [*LOOKED, CHAT, TURN]


def test_what_is_interrupted_ends_and_is_no_failure(face: Face, exporter: InMemorySpanExporter) -> None:
    """After Ctrl-C, its spans are there, and say so."""

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with Simulator() as simulator, asking(face, simulator) as subject, pytest.raises(KeyboardInterrupt):
        subject.execute_agent("reviewer", "x", on_text=interrupt)
    for name in (CHAT, TURN):
        span = named(exporter, name)
        assert (span.status.status_code, facts(span)["claude_force.interrupted"]) == (trace.StatusCode.UNSET, True)


async def test_a_run_that_is_cancelled(exporter: InMemorySpanExporter) -> None:
    """Every span that was begun ends with it, and none is a failure."""
    with Simulator(rules=[Rule(Hang(), when=about("b")), Rule(Hang(), when=about("c"))]) as simulator:
        async with asking(AsyncAgentOrchestrator, simulator) as subject:
            run = asyncio.create_task(subject.execute_workflow(DIAMOND))
            await asyncio.to_thread(simulator.wait_until, lambda stats: stats.in_flight == 2)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
    spans = exporter.get_finished_spans()
    cut = [span for span in spans if facts(span).get("claude_force.interrupted")]
    assert sorted(span.name for span in cut) == sorted([*[CHAT, TURN] * 2, "step b", "step c", "invoke_workflow w"])
    assert {span.status.status_code for span in spans} == {trace.StatusCode.UNSET}
    assert tree(spans)[::2] == ["invoke_workflow w"]


async def test_many_at_once_keep_their_parents(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """Fifty callers in tasks and eight in threads: each turn is under its caller, each attempt under its turn."""
    tracer = provider.get_tracer("application")

    async def call(number: int) -> None:
        with tracer.start_as_current_span(f"caller {number}"):
            await subject.execute_agent("reviewer", f"task {number}", use_cache=False)

    def call_now(number: int) -> None:
        with tracer.start_as_current_span(f"caller {number}"):
            face.execute_agent("reviewer", f"task {number}", use_cache=False)

    with Simulator(latency=0.01) as simulator:
        async with asking(AsyncAgentOrchestrator, simulator, max_concurrent=50) as subject:
            await asyncio.gather(*map(call, range(50)))
        with asking(AgentOrchestrator, simulator) as face, ThreadPoolExecutor(8) as pool:
            await asyncio.to_thread(lambda: list(pool.map(call_now, range(50, 58))))
    spans = [span for span in exporter.get_finished_spans() if not span.name.startswith("wait")]
    found = tree(spans)
    assert found[1::2] == [[TURN, [CHAT]]] * 58
    assert sorted(map(str, found[::2])) == sorted(f"caller {number}" for number in range(58))


def test_steps_of_a_batch_keep_theirs(face: Face, exporter: InMemorySpanExporter) -> None:
    """Steps that wait for one batch together have their answers under themselves, and not under one another."""
    with Simulator() as simulator, asking(face, simulator) as subject:
        subject.execute_workflow({"name": "w", "steps": [step("a"), step("b")]}, batch=True)
    spans = [span for span in exporter.get_finished_spans() if span.name.startswith(("invoke", "step", "chat"))]
    plain: Tree = [TURN, [CHAT]]
    assert tree(spans) == ["invoke_workflow w", ["step a", plain, "step b", plain]]


def test_a_wait_for_limits_is_seen(project: Path, exporter: InMemorySpanExporter) -> None:
    """One `retry-after` holds back the next call as well, which says for what it waited."""
    (project / ".claude/claude.json").write_text('{"defaults": {"max_retries": 0}}')
    faults = [ApiFault(429, headers={"retry-after-ms": "1000"})]
    with Simulator(faults=faults) as simulator, asking(AgentOrchestrator, simulator) as subject:
        with pytest.raises(RateLimitError):
            subject.execute_agent("reviewer", "x")
        exporter.clear()
        subject.execute_agent("reviewer", "y")
    assert tree(exporter.get_finished_spans()) == [TURN, [*LOOKED, "wait for limits", CHAT]]


class Broken(SpanProcessor):
    """An application's mistake."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise RuntimeError("mine")

    def on_end(self, span: Any) -> None:
        raise RuntimeError("mine")


def test_a_trace_costs_no_answer(face: Face, provider: TracerProvider) -> None:
    """Whatever a processor of the application raises."""
    provider.add_span_processor(Broken())
    with Simulator(answer="yes") as simulator, asking(face, simulator) as subject:
        assert subject.execute_agent("reviewer", "x") == "yes"


QUIET = """
import sys
from claude_force import AgentOrchestrator
with AgentOrchestrator(api_key="k", base_url=sys.argv[1]) as subject:
    print(subject.execute_agent("reviewer", "x").cached, "opentelemetry" in sys.modules)
"""


def test_who_does_not_trace_loads_nothing(project: Path) -> None:
    """Not even the interface of OpenTelemetry, which only a real call brings, with Claude's SDK."""
    with Simulator() as simulator, asking(AgentOrchestrator, simulator) as subject:
        subject.execute_agent("reviewer", "x")
        command = [sys.executable, "-c", QUIET, simulator.base_url]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "True False\n"
