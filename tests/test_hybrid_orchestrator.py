"""A model for each task, through both faces, over real HTTP."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from claude_force import (
    AgentNotFoundError,
    AgentOrchestrator,
    AgentTask,
    BudgetError,
    CostEstimate,
    CredentialsError,
    EmptyAnswerError,
    HybridOrchestrator,
    InputError,
    TaskError,
    Usage,
    WorkflowError,
)
from claude_force.base.records import Material
from claude_force.testing import Answer, ApiFault, Rule, SeenRequest, Simulator

HAIKU, SONNET, OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"
pytestmark = pytest.mark.usefixtures("project")

EASY, HARD = "Fix the typo in the title.", "Design the architecture of a payment service."


class Awaited(HybridOrchestrator):
    """The async methods, called as a script would: each in an event loop of its own."""

    def execute_agent(self, agent_name: str, task: str, **options: Any) -> Any:
        return asyncio.run(self.execute_agent_async(agent_name, task, **options))

    def execute_workflow(self, workflow: Any, inputs: Any = None, **options: Any) -> Any:
        return asyncio.run(self.execute_workflow_async(workflow, inputs, **options))

    def execute_cascade(self, agent_name: str, task: str, **options: Any) -> Any:
        return asyncio.run(self.execute_cascade_async(agent_name, task, **options))


@pytest.fixture(params=[HybridOrchestrator, Awaited], ids=["sync", "async"])
def hybrid(request: pytest.FixtureRequest) -> type[HybridOrchestrator]:
    """Each scenario runs through both faces."""
    kind: type[HybridOrchestrator] = request.param
    return kind


@pytest.fixture
def project(project: Path) -> Path:
    """The project of all tests, with an agent that names no model beside the one that does."""
    agent = project / ".claude/agents/helper.md"
    agent.write_text("---\nname: helper\ndescription: Helps.\nmodel: inherit\n---\nYou help.\n")
    return project


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A server to talk to."""
    with Simulator(answer="Done.") as running:
        yield running


def of(kind: type[HybridOrchestrator], simulator: Simulator, **options: Any) -> HybridOrchestrator:
    """An orchestrator which asks this simulator."""
    return kind(api_key="k", base_url=simulator.base_url, **options)


def asked(simulator: Simulator) -> list[tuple[str, str | None]]:
    """The model and the effort of each request."""
    return [(seen.model, (seen.body.get("output_config") or {}).get("effort")) for seen in simulator.requests]


# ---------------------------------------------------------------- who decides


def test_the_router_decides_where_nobody_does(hybrid: type[HybridOrchestrator], simulator: Simulator) -> None:
    """A trivial edit goes to the cheapest model, a design to a dear one, each with its effort."""
    with of(hybrid, simulator) as subject:
        results = [subject.execute_agent("helper", task) for task in (EASY, HARD)]
    assert asked(simulator) == [(HAIKU, "low"), (OPUS, "high")]
    assert [result.model for result in results] == [HAIKU, OPUS]
    assert [result.choice and result.choice.score for result in results] == [0.15, 0.75]


@pytest.mark.parametrize(
    ("agent", "options", "expected"),
    [
        ("reviewer", {"model": "opus"}, (OPUS, None)),
        ("reviewer", {}, (HAIKU, None)),
        ("reviewer", {"effort": "high"}, (HAIKU, "high")),
        ("helper", {"model": "haiku"}, (HAIKU, None)),
        ("helper", {"model": "inherit"}, (OPUS, "high")),
        ("helper", {"effort": "max"}, (OPUS, "max")),
    ],
    ids=["call before agent", "agent", "agent's model, call's effort", "call", "inherit", "call's effort"],
)
def test_who_names_a_model_is_obeyed(
    hybrid: type[HybridOrchestrator],
    simulator: Simulator,
    agent: str,
    options: dict[str, Any],
    expected: tuple[str, str | None],
) -> None:
    """The call comes before the agent's file, and the file before the router; what was recommended is asked."""
    with of(hybrid, simulator) as subject:
        recommended = subject.recommend_model(HARD, agent, **options)
        subject.execute_agent(agent, HARD, **options)
    assert asked(simulator) == [expected]
    assert (recommended.model, recommended.effort) == expected
    assert (recommended.score is None) is (expected[0] == HAIKU or options.get("model") == "opus")


def test_the_router_comes_before_the_config(project: Path, simulator: Simulator) -> None:
    """`defaults.model` is for those who do not choose; choosing is what this orchestrator is asked for."""
    (project / ".claude/claude.json").write_text('{"defaults": {"model": "opus", "effort": "max"}}')
    with of(HybridOrchestrator, simulator) as subject:
        subject.execute_agent("helper", EASY)
    assert asked(simulator) == [(HAIKU, "low")]


@pytest.mark.parametrize(
    ("bounds", "task", "model"),
    [
        ({"min_tier": "sonnet"}, EASY, SONNET),
        ({"max_tier": "sonnet"}, HARD, SONNET),
        ({"max_tier": "haiku"}, HARD, HAIKU),
    ],
    ids=["least", "most", "cheapest only"],
)
def test_tiers_are_bounds(simulator: Simulator, bounds: Any, task: str, model: str) -> None:
    """Nothing outside of what the user allows is asked."""
    with of(HybridOrchestrator, simulator, **bounds) as subject:
        subject.execute_agent("helper", task)
    assert asked(simulator)[0][0] == model


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"max_tier": "gpt"}, "max_tier is 'gpt'; give one of haiku, sonnet, opus, fable"),
        ({"min_tier": "opus", "max_tier": "haiku"}, "which leaves none; exchange them"),
    ],
    ids=["unknown", "crossed"],
)
def test_bounds_that_cannot_be_kept_are_refused(bounds: Any, said: str) -> None:
    """A mistake in the bounds is said at once."""
    with pytest.raises(InputError, match=said):
        HybridOrchestrator(**bounds)


def test_a_family_may_mean_another_model(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of the environment count, and what such a model does not take is not sent, without a warning."""
    monkeypatch.setenv("ANTHROPIC_DEFAULT_HAIKU_MODEL", "claude-haiku-4-5")
    with of(HybridOrchestrator, simulator) as subject:
        recommended = subject.recommend_model(EASY, "helper")
        result = subject.execute_agent("helper", EASY)
    assert asked(simulator) == [("claude-haiku-4-5", None)]
    assert (recommended.model, recommended.tier, recommended.effort) == ("claude-haiku-4-5", "haiku", None)
    assert not result.warnings


def test_files_count_and_are_read_once(project: Path, hybrid: type[HybridOrchestrator], simulator: Simulator) -> None:
    """Material is part of what decides, and reaches the model as ever."""
    for number in range(4):
        (project / f"{number}.py").write_text(f"x = {number}")
    files = (f"{number}.py" for number in range(3))
    material = Material("more", "y = 1")
    with of(hybrid, simulator) as subject:
        subject.execute_agent("helper", "Review this.", files=files, materials=iter([material]))
        subject.execute_agent("helper", "Review this.", files="3.py")
    assert asked(simulator) == [(SONNET, "high"), (SONNET, "medium")]
    assert all(text in simulator.requests[0].prompt for text in ("x = 0", "x = 2", "y = 1"))


@pytest.mark.parametrize(
    ("agent", "task", "error"),
    [("nobody", EASY, AgentNotFoundError), ("helper", " ", TaskError), ("helper", 7, TaskError), (7, EASY, TaskError)],
    ids=["agent", "empty task", "no text", "no name"],
)
def test_bad_input_costs_nothing(
    hybrid: type[HybridOrchestrator], simulator: Simulator, agent: Any, task: Any, error: type[Exception]
) -> None:
    """It is refused as the other orchestrators refuse it."""
    with of(hybrid, simulator) as subject, pytest.raises(error):
        subject.execute_agent(agent, task)
    assert not simulator.requests


def test_each_of_many_has_its_own_model(simulator: Simulator) -> None:
    """`execute_multiple_async` chooses task by task; options of one task count for that one."""
    tasks: list[tuple[str, str] | AgentTask] = [("helper", EASY)]
    tasks += [AgentTask("helper", HARD), AgentTask("helper", EASY, {"model": "sonnet"})]

    async def main() -> list[str]:
        with of(HybridOrchestrator, simulator) as subject:
            return [result.model for result in await subject.execute_multiple_async(tasks)]  # type: ignore[union-attr]

    assert asyncio.run(main()) == [HAIKU, OPUS, SONNET]


STEPS: list[dict[str, Any]] = [
    {"id": "easy", "agent": "helper", "task": EASY},
    {"id": "hard", "agent": "helper", "task": f"{HARD} {{{{ steps.easy.output }}}}", "dependencies": ["easy"]},
    {"id": "named", "agent": "helper", "task": HARD, "model": "sonnet", "dependencies": ["hard"]},
    {"id": "agent", "agent": "reviewer", "task": HARD, "dependencies": ["named"]},
    {"id": "effort", "agent": "helper", "task": EASY, "effort": "high", "dependencies": ["agent"]},
]


@pytest.mark.parametrize("is_file", [True, False], ids=["file", "dict"])
def test_each_step_has_its_own_model(
    project: Path, hybrid: type[HybridOrchestrator], simulator: Simulator, *, is_file: bool
) -> None:
    """In a workflow, too: what a step or its agent names is obeyed, and the router decides for the others."""
    workflow: Any = {"name": "five", "steps": STEPS}
    if is_file:
        (project / ".claude/workflows").mkdir()
        (project / ".claude/workflows/five.json").write_text(json.dumps(workflow | {"name": "Five steps"}))
        workflow = "five"
    with of(hybrid, simulator) as subject:
        result = subject.execute_workflow(workflow)
        again = subject.execute_workflow(workflow)
    assert asked(simulator) == [(HAIKU, "low"), (OPUS, "high"), (SONNET, None), (HAIKU, None), (HAIKU, "high")]
    assert (result.workflow_name, result.status) == ("five", "completed")
    assert again.cached_steps == ("easy", "hard", "named", "agent", "effort")


def test_a_run_is_taken_up_with_its_models(hybrid: type[HybridOrchestrator]) -> None:
    """The journal has the models with the workflow, so a run goes on as it began."""
    refuses = Rule(ApiFault(401), when=lambda seen: "opus" in seen.model, times=1)
    with Simulator(rules=[refuses]) as simulator, of(hybrid, simulator) as subject:
        stopped = subject.execute_workflow({"name": "two", "steps": STEPS[:2]}, on_error="return")
        result = subject.execute_workflow(None, resume="last")
    assert (stopped.status, result.status) == ("failed", "completed")
    assert [seen.model for seen in simulator.requests] == [HAIKU, OPUS, OPUS]


def fail_by_haiku(subject: AgentOrchestrator) -> None:
    """From now on, the ledger speaks against haiku."""
    for _ in range(5):
        subject.performance_tracker.track_execution(
            "helper", EASY, success=False, execution_time_ms=1, model=HAIKU, error_type="InvalidOutputError"
        )


@pytest.mark.parametrize(
    "edited", [{}, {"task": f"{EASY} Now."}, {"model": "opus"}], ids=["as it was", "task", "model"]
)
def test_what_was_learned_meanwhile_is_no_reason_to_pay_again(
    hybrid: type[HybridOrchestrator], edited: dict[str, str]
) -> None:
    """A run that is taken up asks the models that it chose, whatever the ledger says by now; an edited step is new."""
    refuses = Rule(ApiFault(401), when=lambda seen: "opus" in seen.model, times=1)
    steps = [STEPS[0] | edited, STEPS[1]]
    with Simulator(answer="Done.", rules=[refuses]) as simulator, of(hybrid, simulator, enable_cache=False) as subject:
        subject.execute_workflow({"name": "two", "steps": STEPS[:2]}, on_error="return")
        fail_by_haiku(subject)
        result = subject.execute_workflow({"name": "two", "steps": steps}, resume="last")
    again = {"task": [SONNET], "model": [OPUS]}.get("".join(edited), [])
    assert [seen.model for seen in simulator.requests] == [HAIKU, OPUS, *again, OPUS]
    choice = result.steps["hard"].to_dict()["choice"]
    assert (choice["tier"], choice["effort"], choice["reasons"][0]) == (
        "opus",
        "high",
        "hard work: design, architecture",
    )
    assert (result.steps["easy"].choice is None) == ("model" in edited)


def test_a_fallback_has_its_own_model(hybrid: type[HybridOrchestrator]) -> None:
    """What was chosen for the agent of a step says nothing against the model that another agent's file names."""
    step = {**STEPS[1], "dependencies": [], "task": HARD, "fallback": {"agent": "reviewer"}}
    faults = Rule(ApiFault(400), when=lambda seen: "opus" in seen.model)
    with Simulator(answer="Done.", rules=[faults]) as simulator, of(hybrid, simulator) as subject:
        result = subject.execute_workflow({"name": "one", "steps": [step]})
    assert ([seen.model for seen in simulator.requests], result.steps["hard"].choice) == ([OPUS, HAIKU], None)


@pytest.mark.parametrize(
    ("workflow", "said"),
    [
        ({"steps": "helper"}, "steps"),
        (
            {"steps": [{"id": "a", "agent": "nobody", "task": "x"}, {"id": "b", "agent": "helper", "task": 7}, 5]},
            "nobody",
        ),
        ("nowhere", "there is no workflow 'nowhere'"),
    ],
    ids=["no steps", "faulty steps", "no such workflow"],
)
def test_the_faults_of_a_workflow_are_said_as_ever(
    hybrid: type[HybridOrchestrator], simulator: Simulator, workflow: Any, said: str
) -> None:
    """The router passes over what it cannot read; the run lists every fault."""
    with of(hybrid, simulator) as subject, pytest.raises(WorkflowError, match=said):
        subject.execute_workflow(workflow)


# ---------------------------------------------------------------- why


def test_a_recommendation_says_why() -> None:
    """The tier, the score and the reasons; without an agent, by the task alone."""
    with HybridOrchestrator(offline=True) as subject:
        hard, named = subject.recommend_model(HARD), subject.recommend_model(HARD, "reviewer")
        called = subject.recommend_model(HARD, "reviewer", model="llama3.2:3b")
    assert (hard.tier, hard.model) == ("opus", OPUS)
    assert any("design" in reason for reason in hard.reasons)
    assert (named.tier, named.score, named.reasons) == ("haiku", None, ("the file of 'reviewer' names 'haiku'",))
    assert (called.tier, called.model, called.reasons) == (None, "llama3.2:3b", ("the call names 'llama3.2:3b'",))


def test_history_is_heeded(simulator: Simulator) -> None:
    """An agent whose answers by a tier could not be used gets the next one."""
    with of(HybridOrchestrator, simulator) as subject:
        fail_by_haiku(subject)
        recommended = subject.recommend_model(EASY, "helper")
        assert recommended.tier == "sonnet"
        assert recommended.reasons[0] == "5 of its last 5 answers by haiku could not be used"
        assert subject.recommend_model(EASY).tier == "haiku"


# ---------------------------------------------------------------- the cheapest first

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
JUDGE = "---\nname: judge\ndescription: Rates.\nmodel: opus\n---\nYou rate.\n"


def by_model(**answers: str) -> Any:
    """A simulated model's answer, by the family of the model that is asked."""
    return lambda seen: next(answer for family, answer in answers.items() if family in seen.model)


def paid(project: Path) -> Decimal:
    """What the ledger says that all executions have cost."""
    lines = (project / ".claude/metrics/executions.jsonl").read_text().splitlines()
    return sum((json.loads(line, parse_float=Decimal)["estimated_cost"] for line in lines), Decimal(0))


def test_the_next_tier_is_asked_only_where_an_answer_does_not_pass(
    project: Path, hybrid: type[HybridOrchestrator]
) -> None:
    """By a function of the user's: the first that passes is the result, and the cost is that of all.

    All of them run where the call says, and are remembered if it says so.
    """
    with (
        Simulator(answer=by_model(haiku="bad", sonnet="good", opus="best")) as simulator,
        of(hybrid, simulator) as subject,
    ):
        how: Any = {"inference_geo": "us", "use_memory": True}
        found = subject.execute_cascade("helper", HARD, check=lambda answer: answer != "bad", **how)
        assert subject.agent_memory.get_similar_sessions("helper", HARD)
    assert {seen.body.get("inference_geo") for seen in simulator.requests} == {"us"}
    assert (found.result, found.passed, found.result.model) == ("good", True, SONNET)
    assert [(each.model, each.passed) for each in found.attempts] == [("haiku", False), ("sonnet", True)]
    assert [seen.model for seen in simulator.requests] == [HAIKU, SONNET]
    assert found.cost_usd == paid(project) > (found.result.cost_usd or 0)


def test_a_schema_is_a_check(project: Path, hybrid: type[HybridOrchestrator]) -> None:
    """An answer that does not fit is no result, but it was paid, and is in the cost."""
    (project / ".claude/claude.json").write_text('{"defaults": {"max_retries": 0}}')
    with (
        Simulator(answer=by_model(haiku='{"n": "one"}', sonnet='{"n": 1}')) as simulator,
        of(hybrid, simulator) as subject,
    ):
        found = subject.execute_cascade("helper", EASY, output_schema=SCHEMA)
    assert (found.result.data, found.attempts[0].result) == ({"n": 1}, None)
    assert "$.n" in found.attempts[0].reason
    assert found.cost_usd == paid(project)


@pytest.mark.parametrize("judge", ["judge", "helper"], ids=["another agent", "the agent itself"])
def test_an_agent_may_rate(project: Path, hybrid: type[HybridOrchestrator], judge: str) -> None:
    """A judge is asked by its own model, an agent that rates itself by that of its answer; ratings are paid, too."""
    (project / ".claude/agents/judge.md").write_text(JUDGE)

    def answer(seen: SeenRequest) -> str:
        if "How sure are you" not in seen.prompt:
            return "good" if "sonnet" in seen.model else "bad"
        assert HARD in seen.prompt
        return json.dumps({"reason": "As it seems.", "confidence": 0.9 if ">\ngood\n<" in seen.prompt else 0.4})

    with Simulator(answer=answer) as simulator, of(hybrid, simulator) as subject:
        found = subject.execute_cascade("helper", HARD, check=judge, inference_geo="us")
    assert {seen.body.get("inference_geo") for seen in simulator.requests} == {"us"}  # the answer is in both
    own = (OPUS, OPUS) if judge == "judge" else (HAIKU, SONNET)
    assert [seen.model for seen in simulator.requests] == [HAIKU, own[0], SONNET, own[1]]
    assert (found.result, found.passed) == ("good", True)
    assert [each.reason for each in found.attempts] == [
        f"{judge!r} is 40% sure: As it seems.",
        f"{judge!r} is 90% sure: As it seems.",
    ]
    assert found.cost_usd == paid(project)


def test_a_judge_without_a_rating_lets_nothing_pass(project: Path) -> None:
    """What is no rating counts as a bad one."""
    (project / ".claude/claude.json").write_text('{"defaults": {"max_retries": 0}}')
    with Simulator(answer="Fine!") as simulator, of(HybridOrchestrator, simulator, max_tier="haiku") as subject:
        found = subject.execute_cascade("helper", EASY, check="helper")
    assert (found.result, found.passed) == ("Fine!", False)
    assert found.attempts[0].reason.startswith("'helper' gave no rating: ")


def test_no_failure_is_called_a_success(hybrid: type[HybridOrchestrator], simulator: Simulator) -> None:
    """If no answer passes, the dearest one is there, and it is said that it did not."""
    with of(hybrid, simulator, max_tier="sonnet") as subject:
        found = subject.execute_cascade("helper", EASY, check=lambda _: False)
    assert (found.passed, found.result.model, len(found.attempts)) == (False, SONNET, 2)


def test_an_answer_that_was_cut_does_not_pass(hybrid: type[HybridOrchestrator]) -> None:
    """Whatever the check says: nobody has seen its end."""
    with (
        Simulator(answer=Answer("half", stop_reason="max_tokens")) as simulator,
        of(hybrid, simulator, max_tier="haiku") as subject,
    ):
        found = subject.execute_cascade("helper", EASY, check=lambda _: True)
    assert (found.passed, found.attempts[0].reason) == (False, "the answer is not whole (max_tokens)")


def test_a_named_model_is_the_only_one(hybrid: type[HybridOrchestrator], simulator: Simulator) -> None:
    """Who names a model is obeyed here, too."""
    with of(hybrid, simulator) as subject:
        subject.execute_cascade("reviewer", HARD, check=lambda _: False)
        subject.execute_cascade("helper", HARD, check=lambda _: False, model="sonnet")
    assert [seen.model for seen in simulator.requests] == [HAIKU, SONNET]


def test_what_every_model_would_meet_ends_a_cascade(hybrid: type[HybridOrchestrator]) -> None:
    """Refused credentials are no reason to ask a dearer model; the last model's empty answer is an error."""
    with Simulator(faults=[ApiFault(401)]) as simulator, of(hybrid, simulator) as subject:
        with pytest.raises(CredentialsError):
            subject.execute_cascade("helper", EASY, check=lambda _: True)
        assert len(simulator.requests) == 1
    with (
        Simulator(answer="") as simulator,
        of(hybrid, simulator, max_tier="haiku") as subject,
        pytest.raises(EmptyAnswerError),
    ):
        subject.execute_cascade("helper", EASY, check=lambda _: True)


def test_a_limit_on_money_ends_a_cascade(hybrid: type[HybridOrchestrator], simulator: Simulator) -> None:
    """What the next tier could cost at the most has to be left, or it is not asked."""
    with of(hybrid, simulator, max_cost_usd=0.05) as subject, pytest.raises(BudgetError, match="max_cost_usd"):
        subject.execute_cascade("helper", EASY, check=lambda _: False)
    assert [seen.model for seen in simulator.requests] == [HAIKU]


def test_an_unpriced_part_makes_the_cost_unknown(project: Path) -> None:
    """`None`, and never what the rest has cost."""
    path = project / ".claude/claude.json"
    path.write_text('{"pricing": {"claude-haiku-5-5": {"input": 1, "output": 1}}}')
    answer = Answer("x", usage=Usage(cache_read_tokens=5, output_tokens=1))
    own = {"config_path": path, "max_tier": "sonnet"}
    with Simulator(answer=answer) as simulator, of(HybridOrchestrator, simulator, **own) as subject:
        found = subject.execute_cascade("helper", EASY, check=lambda answer: answer.model == SONNET)
    assert found.passed
    assert found.result.cost_usd is not None
    assert found.cost_usd is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "give check or output_schema"),
        ({"check": "helper", "min_confidence": 7}, "min_confidence is 7; give a number from 0 to 1"),
        ({"check": "nobody"}, "nobody"),
    ],
    ids=["no check", "confidence", "no such judge"],
)
def test_a_cascade_that_makes_no_sense_costs_nothing(
    hybrid: type[HybridOrchestrator], simulator: Simulator, options: Any, said: str
) -> None:
    """It is refused before anything is sent."""
    with of(hybrid, simulator) as subject, pytest.raises(InputError, match=said):
        subject.execute_cascade("helper", EASY, **options)
    assert not simulator.requests


# ---------------------------------------------------------------- money


def test_an_estimate_is_near_what_is_paid(simulator: Simulator) -> None:
    """With earlier answers the length is known, and what is paid lies below the most; then the cache has it."""
    with of(HybridOrchestrator, simulator) as subject:
        guess = subject.estimate_cost(EASY, "helper")
        subject.performance_tracker.track_execution(
            "helper", "other", success=True, execution_time_ms=1, model=HAIKU, output_tokens=40
        )
        known = subject.estimate_cost(EASY, "helper")
        placed = subject.estimate_cost(EASY, "helper", inference_geo="us")
        result = subject.execute_agent("helper", EASY)
        again = subject.estimate_cost(EASY, "helper", use_cache=True)
        anew = subject.estimate_cost(EASY, "helper", use_cache="refresh")
    assert (guess.recommendation.model, guess.output_tokens, guess.is_guess) == (HAIKU, 2000, True)
    assert (known.output_tokens, known.is_guess, known.cached) == (40, False, False)
    assert known.expected_usd == (known.prompt_tokens * Decimal("0.1") + 40 * Decimal("0.5")) / 1_000_000
    assert placed.expected_usd == known.expected_usd * Decimal("1.1")
    assert result.cost_usd is not None
    assert known.max_usd is not None
    assert result.cost_usd <= known.max_usd
    assert again.cached
    assert not anew.cached
    assert (again.expected_usd, again.max_usd, again.prompt_tokens) == (Decimal(0), Decimal(0), 0)
    assert len(simulator.requests) == 1


def test_an_estimate_without_a_price_is_unpriced() -> None:
    """Nobody's price is `None`, never 0."""
    with HybridOrchestrator(offline=True) as subject:
        estimate = subject.estimate_cost(EASY, "helper", model="llama3.2:3b")
    assert isinstance(estimate, CostEstimate)
    assert (estimate.expected_usd, estimate.max_usd) == (None, None)


# ---------------------------------------------------------------- the family


def test_it_is_an_agent_orchestrator() -> None:
    """Everything else is as there."""
    with HybridOrchestrator(offline=True) as subject:
        assert isinstance(subject, AgentOrchestrator)
        assert [agent.name for agent in subject.list_agents()] == ["helper", "reviewer"]


def test_the_sync_class_alone_loads_no_loop(project: Path) -> None:
    """Importing it and choosing a model load neither asyncio nor the SDK."""
    program = (
        "import sys\nfrom claude_force import HybridOrchestrator\n"
        "HybridOrchestrator().recommend_model('x', 'helper')\n"
        "print([name for name in ('asyncio', 'anthropic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
