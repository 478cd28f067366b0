"""What a run would cost, before anything is sent: certain where it can be, estimated by stated rules elsewhere."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_force import AgentOrchestrator
from claude_force.base.errors import WorkflowError
from claude_force.base.usage import Usage
from claude_force.insight.estimate import CHARS_PER_TOKEN
from claude_force.orchestrator import Project
from claude_force.testing import Answer, Simulator
from claude_force.workflows.forecast import Forecast, forecast
from claude_force.workflows.start import read_plan

A, B, SUM = (
    {"id": "a", "agent": "reviewer", "task": "Look at {{ inputs.x }}."},
    {"id": "b", "agent": "reviewer", "task": "Listen.", "model": "opus"},
    {"id": "sum", "agent": "reviewer", "task": "Sum up {{ steps.a.output }}", "dependencies": ["a", "b"]},
)


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """A server that all calls of the test reach."""
    with Simulator(answer=lambda request: Answer(f"About {request.prompt}", usage=Usage(output_tokens=40))) as running:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", running.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
        yield running


def workflow(*steps: Mapping[str, Any], **facts: Any) -> dict[str, Any]:
    """A workflow with one input."""
    return {"name": "w", "inputs": {"x": {"default": "it"}}, "steps": list(steps), **facts}


def seen(written: Mapping[str, Any], inputs: Mapping[str, Any] | None = None, **options: Any) -> Forecast:
    """Its forecast, by a process that has done nothing yet."""
    offline = options.pop("offline", False)
    shop = Project(offline=offline)
    return forecast(shop, read_plan(shop, written), inputs, **options)


def outlooks(found: Forecast) -> dict[str, str]:
    """What is to be expected of each step."""
    return {step.id: step.cache for step in found.steps.values()}


def files(folder: Path) -> dict[str, bytes]:
    """All that lies there, but for the marks of who reads a database."""
    return {
        str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.name.endswith("-shm")
    }


def test_before_the_first_run(project: Path, simulator: Simulator) -> None:
    """What needs no other step is asked, what needs one is not known; models are those that would be asked."""
    before = files(project)
    found = seen(workflow(A, B, SUM))
    assert outlooks(found) == {"a": "asked", "b": "asked", "sum": "unknown"}
    assert found.steps["sum"].why == "depends on the answer of a, b"
    assert [step.model for step in found.steps.values()] == ["claude-haiku-5-5", "claude-opus-5-5", "claude-haiku-5-5"]
    assert found.steps["a"].prompt_tokens == -(-len("You review code.Look at it.") // CHARS_PER_TOKEN)
    assert found.steps["sum"].prompt_tokens > found.steps["a"].output_tokens + found.steps["b"].output_tokens
    assert found.critical_seconds is None
    assert (simulator.stats.calls, files(project)) == ({}, before)


def test_after_a_run(project: Path, simulator: Simulator) -> None:
    """All is cached, and free; the cache counts no hit for it, and nothing is sent or written."""
    AgentOrchestrator().execute_workflow(workflow(A, B, SUM))
    calls, before = simulator.stats.calls, files(project)
    found = seen(workflow(A, B, SUM))
    assert set(outlooks(found).values()) == {"cached"}
    assert [found.min_usd, found.expected_usd, found.max_usd] == [Decimal(0)] * 3
    assert found.critical_seconds == 0
    assert simulator.stats.calls == calls
    assert files(project) == before
    assert Project().cache.get_stats()["hits"] == 0


@pytest.mark.usefixtures("project")
def test_after_an_edit() -> None:
    """Only what changed is asked, with the length and the time that earlier answers had; what depends on it may be.

    What the simulator did says nothing of Claude: a plan for real calls has no figures from it.
    """
    with AgentOrchestrator(offline=True) as orchestrator:
        usage = orchestrator.execute_workflow(workflow(A, B, SUM))["steps"]["a"].usage
    found = seen(workflow(A, B, SUM), {"x": "something else"}, offline=True)
    assert outlooks(found) == {"a": "asked", "b": "cached", "sum": "unknown"}
    assert found.steps["sum"].why == "depends on the answer of a"
    assert (found.steps["a"].output_tokens, found.steps["a"].is_guess) == (usage.output_tokens, False)
    assert found.critical_path == ("a", "sum")
    assert found.critical_seconds is not None
    live = seen(workflow(A, B, SUM), {"x": "something else"})
    assert (live.steps["a"].is_guess, live.steps["a"].seconds) == (True, None)


@pytest.mark.parametrize(
    ("step", "options"),
    [({"cache": False}, {}), ({"cache": "refresh"}, {}), ({}, {"force": ["a"]}), ({}, {"use_cache": False})],
    ids=["no cache", "refresh", "forced", "run without cache"],
)
@pytest.mark.usefixtures("project", "simulator")
def test_what_is_asked_anew(step: dict[str, Any], options: dict[str, Any]) -> None:
    """A step that would not take a kept answer is asked."""
    AgentOrchestrator().execute_workflow(workflow(A))
    assert outlooks(seen(workflow({**A, **step}), **options)) == {"a": "asked"}


@pytest.mark.usefixtures("project", "simulator")
def test_a_run_that_is_taken_up_again() -> None:
    """What that run has is not asked, whatever the cache has."""
    run = AgentOrchestrator(enable_cache=False).execute_workflow(workflow(A, B, SUM))
    assert outlooks(seen(workflow(A, B, SUM)))["a"] == "asked"
    assert set(outlooks(seen(workflow(A, B, SUM), run_id=run["run_id"])).values()) == {"cached"}


@pytest.mark.usefixtures("project", "simulator")
def test_conditions() -> None:
    """A condition on an input is decided now; one on an answer may turn out either way, and costs nothing at least."""
    off = {"id": "off", "agent": "reviewer", "task": "x", "when": {"input": "x", "equals": "no"}}
    after = {"id": "after", "agent": "reviewer", "task": "x", "dependencies": ["off"]}
    maybe = {**SUM, "id": "maybe", "when": {"step": "a", "contains": "bug"}}
    found = seen(workflow(off, after, A, B, maybe))
    assert outlooks(found) == {"off": "skipped", "after": "skipped", "a": "asked", "b": "asked", "maybe": "unknown"}
    assert found.steps["maybe"].min_usd == 0 < (found.steps["maybe"].expected_usd or 0)


@pytest.mark.usefixtures("project", "simulator")
def test_lists() -> None:
    """Each item of a list that is there counts, cached ones as free; of one that is not, nobody knows the most."""
    each = {"id": "each", "agent": "reviewer", "task": "Do {{ item }}.", "for_each": "{{ inputs.files }}"}
    files = {"files": {"type": "list"}}
    AgentOrchestrator().execute_workflow({**workflow(each), "inputs": files}, {"files": ["1", "2"]})
    found = seen({**workflow(each), "inputs": files}, {"files": ["1", "2", "3"]}).steps["each"]
    assert (found.cache, found.items, found.why) == ("asked", 3, "2 of 3 items are cached")
    listed = {**each, "for_each": "{{ steps.a.output }}", "dependencies": ["a"]}
    whole = seen(workflow(A, listed))
    assert whole.steps["each"].why == "depends on the answer of a; the number of items is an estimate"
    assert (whole.unbounded, whole.max_usd, whole.unpriced) == (("each",), None, ())
    assert whole.expected_usd


@pytest.mark.usefixtures("project", "simulator")
def test_no_price() -> None:
    """A model without a price is unpriced, never free, and named."""
    found = seen(workflow(A, {**B, "model": "llama"}))
    assert found.unpriced == ("llama",)
    assert (found.min_usd, found.expected_usd, found.max_usd) == (None, None, None)
    assert found.to_dict()["expected_usd"] is None
    assert seen(workflow({**B, "model": "llama"}, max_cost_usd=9)).budget == "short"


@pytest.mark.parametrize(
    ("part", "said", "stops_at"), [(0.0001, "short", "a"), (0.98, "enough", None), (1.01, "holds", None)]
)
@pytest.mark.usefixtures("project", "simulator")
def test_a_limit(part: float, said: str, stops_at: str | None) -> None:
    """Whether `max_cost_usd` is more than the most, more than what is expected, or too low, and for which step."""
    whole = workflow(A, B, SUM)
    assert seen(whole).budget == "none"
    found = seen(whole, max_cost_usd=part * float(_usd(seen(whole).max_usd)))
    assert (found.budget, found.stops_at) == (said, stops_at)


@pytest.mark.usefixtures("project", "simulator")
def test_what_would_be_refused() -> None:
    """A step that fails before anything is sent is told, and costs nothing."""
    found = seen(workflow({**A, "task": "{{ inputs.x }}"}), {"x": " "})
    assert outlooks(found) == {"a": "refused"}
    assert "is empty; say what to do" in found.steps["a"].why
    with pytest.raises(WorkflowError, match="no such input"):
        seen(workflow(A), {"nobody": "1"})


steps = st.lists(
    st.fixed_dictionaries(
        {"model": st.sampled_from(["haiku", "opus"]), "max_tokens": st.integers(1, 3000)},
        optional={
            "retries": st.integers(0, 3),
            "join": st.just("any"),
            "when": st.sampled_from(["About", "nothing"]),
            "fallback": st.just({"model": "fable"}),
            "for_each": st.just("{{ inputs.list }}"),
        },
    ),
    min_size=1,
    max_size=6,
)


@given(written=steps, data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.usefixtures("project")
def test_least_expected_most(written: list[dict[str, Any]], data: st.DataObject) -> None:
    """For every graph the figures are in order; after a run it is free, and what the run cost lay between them."""
    made = []
    for number, step in enumerate(written):
        needed = sorted(data.draw(st.sets(st.integers(0, number - 1), max_size=3))) if number else []
        names = [f"s{n}" for n in needed]
        rest = {key: value for key, value in step.items() if names or key not in {"join", "when"}}
        if "when" in rest:
            rest["when"] = {"step": names[0], "contains": step["when"]}
        named = " ".join(f"{{{{ steps.{name}.output }}}}" for name in names[:1])
        salt = data.draw(st.uuids())
        made.append({"id": f"s{number}", "agent": "reviewer", "task": f"{salt} {named}", "dependencies": names} | rest)
    whole = {"name": "w", "inputs": {"list": {"type": "list", "default": ["1", "2"]}}, "steps": made}
    found = seen(whole, offline=True)
    for figures in found.steps.values():
        assert Decimal(0) <= _usd(figures.min_usd) <= _usd(figures.expected_usd) <= _usd(figures.max_usd)
    with AgentOrchestrator(offline=True) as orchestrator:
        result = orchestrator.execute_workflow(whole, on_error="return")
    assert _usd(result.cost_usd) <= _usd(found.max_usd)
    if result.status == "completed":
        again = seen(whole, offline=True)
        assert set(outlooks(again).values()) <= {"cached", "skipped"}
        assert again.expected_usd == 0


def _usd(money: Decimal | None) -> Decimal:
    assert money is not None
    return money
