"""Many turns and trouble: one call for one question, a breaker, limits, other models. Both faces, over real HTTP."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from claude_force import (
    AgentOrchestrator,
    AgentResult,
    AsyncAgentOrchestrator,
    CircuitOpenError,
    ClaudeForceError,
    CredentialsError,
    DeadlineError,
    InvalidRequestError,
    OverloadedError,
    RateLimitError,
    ServerError,
    TaskError,
    TimedOutError,
)
from claude_force.testing import Answer, ApiFault, Hang, Rule, SeenRequest, Simulator

from .conftest import asking, ledger

SOON = {"retry-after-ms": "1"}
Face = Callable[..., Any]


pytestmark = pytest.mark.usefixtures("project")


def configure(project: Path, **sections: dict[str, Any]) -> None:
    """Write the project's configuration."""
    (project / ".claude/claude.json").write_text(json.dumps(sections))


def outcome(call: Callable[[], AgentResult]) -> AgentResult | ClaudeForceError:
    """What it gives, or what it raises."""
    try:
        return call()
    except ClaudeForceError as error:
        return error


def model_of(request: SeenRequest) -> str:
    """The model that a request names."""
    model: str = request.body["model"]
    return model


# ---------------------------------------------------------------- one call for one question


def wait_for_followers(subject: Any, count: int) -> None:
    """Return when so many turns wait for another one's answer."""
    flights = subject._project.parts.traffic.flights
    end = time.monotonic() + 20
    while sum(len(seats) - 1 for seats in list(flights._flights.values())) < count:
        assert time.monotonic() < end, "they do not wait for each other"
        threading.Event().wait(0.002)


def test_identical_requests_share_one_call(face: Face, project: Path) -> None:
    """Eight threads ask the same at once: one call is paid, all get its answer, and the ledger says who paid."""
    with ThreadPoolExecutor(8) as pool, Simulator(answer="Fine.") as simulator, asking(face, simulator) as subject:
        simulator.hold()
        calls = [pool.submit(subject.execute_agent, "reviewer", "same") for _ in range(8)]
        wait_for_followers(subject, 7)
        simulator.release()
        results = [call.result() for call in calls]
        assert simulator.stats.calls["/v1/messages"] == 1
    assert results == ["Fine."] * 8
    assert sorted(result.attempts for result in results) == [0] * 7 + [1]
    assert sorted(result.cached for result in results) == [False] + [True] * 7
    paid = [line for line in ledger(project) if not line.get("cached")]
    assert len(paid) == 1
    assert sum(line["estimated_cost"] for line in ledger(project)) == paid[0]["estimated_cost"]
    assert sum(line["total_tokens"] for line in ledger(project)) == paid[0]["total_tokens"]


def test_different_requests_do_not(face: Face) -> None:
    """One word more is another question."""
    with ThreadPoolExecutor(2) as pool, Simulator() as simulator, asking(face, simulator) as subject:
        simulator.hold()
        calls = [pool.submit(subject.execute_agent, "reviewer", f"task {number}") for number in range(2)]
        simulator.wait_until(lambda stats: stats.in_flight == 2)
        simulator.release()
        assert {call.result().attempts for call in calls} == {1}


def test_if_the_leader_fails_another_leads(face: Face) -> None:
    """A refused request of one turn is not the end of those that waited for it."""
    with (
        ThreadPoolExecutor(5) as pool,  # the last to end, or a failed test would wait for a call that is held
        Simulator(answer="Fine.", faults=[ApiFault(400)]) as simulator,
        asking(face, simulator) as subject,
    ):
        simulator.hold()
        calls = [pool.submit(outcome, lambda: subject.execute_agent("reviewer", "same")) for _ in range(5)]
        wait_for_followers(subject, 4)
        simulator.release()
        results = [call.result() for call in calls]
        assert simulator.stats.calls["/v1/messages"] == 2
    assert [str(result) for result in results].count("Fine.") == 4


def test_a_terminal_error_is_shared(face: Face) -> None:
    """What every further call would meet is met once."""
    with (
        ThreadPoolExecutor(5) as pool,
        Simulator(rules=[Rule(ApiFault(401))]) as simulator,
        asking(face, simulator) as subject,
    ):
        simulator.hold()
        calls = [pool.submit(outcome, lambda: subject.execute_agent("reviewer", "same")) for _ in range(5)]
        wait_for_followers(subject, 4)
        simulator.release()
        assert {type(call.result()) for call in calls} == {CredentialsError}
        assert simulator.stats.calls["/v1/messages"] == 1


def test_followers_get_the_text_and_keep_their_deadline(face: Face) -> None:
    """Who streams and follows gets the whole text at once; who has no more time is told so."""
    pieces: list[str] = []
    with ThreadPoolExecutor(3) as pool, Simulator(answer="Fine.") as simulator, asking(face, simulator) as subject:
        simulator.hold()
        leader = pool.submit(subject.execute_agent, "reviewer", "same")
        simulator.wait_until(lambda stats: stats.in_flight == 1)
        follower = pool.submit(subject.execute_agent, "reviewer", "same", on_text=pieces.append)
        with pytest.raises(DeadlineError, match="0 attempts; it waited for the same request") as caught:
            subject.execute_agent("reviewer", "same", timeout_seconds=0.05)
        assert caught.value.exit_code == 1
        wait_for_followers(subject, 1)
        simulator.release()
        assert leader.result() == follower.result() == "Fine."
    assert pieces == ["Fine."]


async def test_a_cancelled_leader_loses_nobody() -> None:
    """The task that led is cancelled; one of the others leads, and its answer is everybody's."""
    with Simulator(answer="Fine.", faults=[Hang()]) as simulator:
        async with AsyncAgentOrchestrator(api_key="k", base_url=simulator.base_url) as subject:
            leader = asyncio.create_task(subject.execute_agent("reviewer", "same"))
            await asyncio.to_thread(simulator.wait_until, lambda stats: stats.in_flight == 1)
            others = [asyncio.create_task(subject.execute_agent("reviewer", "same")) for _ in range(4)]
            await asyncio.to_thread(wait_for_followers, subject, 4)
            leader.cancel()
            assert await asyncio.gather(*others) == ["Fine."] * 4
            assert leader.cancelled()
        assert simulator.stats.calls["/v1/messages"] == 2


async def test_a_blocking_call_does_not_wait_for_its_own_loop() -> None:
    """A task of this loop asks already; the sync method, which holds the loop up, asks for itself."""
    with (
        Simulator(answer="Fine.", faults=[Hang()]) as simulator,
        AgentOrchestrator(api_key="k", base_url=simulator.base_url) as subject,
    ):
        awaited = asyncio.create_task(subject.execute_agent_async("reviewer", "same"))
        await asyncio.to_thread(simulator.wait_until, lambda stats: stats.in_flight == 1)
        assert subject.execute_agent("reviewer", "same") == "Fine."
        awaited.cancel()
        with pytest.raises(asyncio.CancelledError):
            await awaited


async def test_tasks_and_threads_share_a_call() -> None:
    """The async face leads, a thread of the sync one follows."""
    with (
        Simulator(answer="Fine.") as simulator,
        AgentOrchestrator(api_key="k", base_url=simulator.base_url) as subject,
    ):
        simulator.hold()
        leader = asyncio.create_task(subject.execute_agent_async("reviewer", "same"))
        await asyncio.to_thread(simulator.wait_until, lambda stats: stats.in_flight == 1)
        follower = asyncio.create_task(asyncio.to_thread(subject.execute_agent, "reviewer", "same"))
        await asyncio.to_thread(wait_for_followers, subject, 1)
        simulator.release()
        assert [await leader, await follower] == ["Fine.", "Fine."]
        assert simulator.stats.calls["/v1/messages"] == 1


# ---------------------------------------------------------------- a server that is down


def test_a_server_that_is_down_is_left_alone(face: Face, project: Path) -> None:
    """After so many failures in a row nothing is sent; who has no time to wait is told at once, and until when."""
    configure(project, breaker={"failure_threshold": 3}, defaults={"max_retries": 0})
    with Simulator(rules=[Rule(ApiFault(500))]) as simulator, asking(face, simulator) as subject:
        results = [
            outcome(lambda: subject.execute_agent("reviewer", f"task {number}", timeout_seconds=30))  # noqa: B023
            for number in range(6)
        ]
        assert simulator.stats.calls["/v1/messages"] == 3
    refused = results[-1]
    assert isinstance(refused, CircuitOpenError)
    assert (refused.exit_code, refused.attempts, refused.name) == (5, 0, "claude-haiku-5-5")
    assert 50 < (refused.retry_after_s or 0) <= 60


def test_who_has_time_waits_for_the_probe(face: Face, project: Path) -> None:
    """A batch goes on by itself once the server is back: one asks first, then all the others."""
    configure(project, breaker={"failure_threshold": 2, "timeout_seconds": 0.3}, defaults={"max_retries": 9})
    busy = [ApiFault(529, headers=SOON)] * 2
    with (
        ThreadPoolExecutor(6) as pool,
        Simulator(answer="Fine.", faults=busy) as simulator,
        asking(face, simulator) as subject,
    ):
        assert subject.execute_agent("reviewer", "first") == "Fine."
        assert simulator.stats.calls["/v1/messages"] == 3
        calls = [pool.submit(subject.execute_agent, "reviewer", f"task {number}") for number in range(6)]
        assert [call.result() for call in calls] == ["Fine."] * 6


@pytest.mark.parametrize("fault", [ApiFault(400), ApiFault(429, headers=SOON), ApiFault(404)], ids=str)
def test_what_is_no_outage_opens_nothing(face: Face, project: Path, fault: ApiFault) -> None:
    """Bad requests and rate limits may come as often as they like."""
    configure(project, breaker={"failure_threshold": 2}, defaults={"max_retries": 0})
    with Simulator(answer="Fine.", faults=[fault] * 6) as simulator, asking(face, simulator) as subject:
        for number in range(6):
            assert isinstance(outcome(lambda: subject.execute_agent("reviewer", f"task {number}")), ClaudeForceError)  # noqa: B023
        assert subject.execute_agent("reviewer", "one more") == "Fine."


def test_a_wait_for_the_circuit_is_told_as_of_the_attempt_to_come(face: Face, project: Path) -> None:
    """Attempts are counted from 1, also where the first could not be made at once."""
    configure(project, breaker={"failure_threshold": 1, "timeout_seconds": 0.2}, defaults={"max_retries": 0})
    heard: list[Any] = []
    with Simulator(answer="Fine.", faults=[ApiFault(500)]) as simulator, asking(face, simulator) as subject:
        assert isinstance(outcome(lambda: subject.execute_agent("reviewer", "first")), ServerError)
        assert subject.execute_agent("reviewer", "second", on_retry=heard.append) == "Fine."
    assert {(retry.attempt, retry.max_attempts) for retry in heard} <= {(1, 1)}


def test_who_waits_in_line_is_not_sent_to_a_server_that_went_down(face: Face, project: Path) -> None:
    """The circuit may open while a call waits for the limits: then it is refused as any other."""
    configure(project, breaker={"failure_threshold": 1}, defaults={"max_retries": 0})
    faults = [ApiFault(429, headers=SOON), ApiFault(500)]
    with (
        ThreadPoolExecutor(2) as pool,
        Simulator(answer="Fine.", faults=faults) as simulator,
        asking(face, simulator) as subject,
    ):
        assert isinstance(outcome(lambda: subject.execute_agent("reviewer", "one at a time")), RateLimitError)
        simulator.hold()
        first = pool.submit(outcome, lambda: subject.execute_agent("reviewer", "first"))
        simulator.wait_until(lambda stats: stats.in_flight == 1)
        second = pool.submit(outcome, lambda: subject.execute_agent("reviewer", "second", timeout_seconds=30))
        limits = subject._project.parts.traffic.gate("claude-haiku-5-5").limits
        end = time.monotonic() + 20
        while not limits._line:
            assert time.monotonic() < end, "it does not wait"
            threading.Event().wait(0.002)
        simulator.release()
        assert isinstance(first.result(), ServerError)
        assert isinstance(second.result(), CircuitOpenError)
        assert simulator.stats.calls["/v1/messages"] == 2


# ---------------------------------------------------------------- other models


@pytest.mark.parametrize("fault", [ApiFault(529, headers=SOON), ApiFault(500, headers=SOON)], ids=str)
def test_another_model_answers(face: Face, project: Path, fault: ApiFault) -> None:
    """Where the chosen model is not there after all retries, the next is asked, and the result says so."""
    configure(project, defaults={"max_retries": 1, "fallback_models": ["opus"]})
    down = Rule(fault, when=lambda request: "haiku" in model_of(request))
    heard: list[str] = []
    with Simulator(answer="Fine.", rules=[down]) as simulator, asking(face, simulator) as subject:
        result = subject.execute_agent(
            "reviewer", "x", fallback_models=["haiku", "sonnet"], effort="high", on_warning=heard.append
        )
        assert [model_of(request) for request in simulator.requests] == ["claude-haiku-5-5"] * 2 + ["claude-sonnet-5-5"]
        assert simulator.requests[-1].body["output_config"] == {"effort": "high"}
    assert (result, result.model, result.attempts) == ("Fine.", "claude-sonnet-5-5", 3)
    assert heard == list(result.warnings)
    assert "claude-haiku-5-5 is not available, so claude-sonnet-5-5 is asked" in heard[0]


def test_another_model_has_its_own_price(face: Face, project: Path) -> None:
    """What the config says the first model costs is not what the one that answered costs."""
    configure(project, pricing={"claude-haiku-5-5": {"input": 1000.0, "output": 1000.0}}, defaults={"max_retries": 0})
    down = Rule(ApiFault(529), when=lambda request: "haiku" in model_of(request))
    path = project / ".claude/claude.json"
    with Simulator(answer="Fine.", rules=[down]) as simulator, asking(face, simulator, config_path=path) as subject:
        fallen_back = subject.execute_agent("reviewer", "x", fallback_models=["opus"])
        assert fallen_back.cost_usd == subject.execute_agent("reviewer", "y", model="opus").cost_usd


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (ApiFault(401), CredentialsError),
        (ApiFault(429, headers=SOON), RateLimitError),
        (ApiFault(402), ClaudeForceError),
    ],
    ids=str,
)
def test_what_another_model_would_not_mend_is_raised(face: Face, fault: ApiFault, error: type[Exception]) -> None:
    """Credentials, spent money and rate limits are never a reason to ask another model."""
    with Simulator(answer="Fine.", rules=[Rule(fault)]) as simulator, asking(face, simulator) as subject:
        with pytest.raises(error):
            subject.execute_agent("reviewer", "x", fallback_models=["sonnet"])
        assert {model_of(request) for request in simulator.requests} == {"claude-haiku-5-5"}


def test_the_agents_file_may_name_them(face: Face, project: Path) -> None:
    """The file's list wins over the config's, the call's over both; an empty one means none."""
    configure(project, defaults={"max_retries": 0, "fallback_models": ["opus"]})
    agent = project / ".claude/agents/reviewer.md"
    agent.write_text(agent.read_text().replace("model:", "fallback_models: [fable]\nmodel:"))
    down = Rule(ApiFault(529), when=lambda request: "haiku" in model_of(request))
    with Simulator(answer="Fine.", rules=[down]) as simulator, asking(face, simulator) as subject:
        assert subject.execute_agent("reviewer", "x").model == "claude-fable-5-2"
        with pytest.raises(OverloadedError):
            subject.execute_agent("reviewer", "x", fallback_models=[])


def test_a_model_whose_circuit_is_open_is_left_at_once(face: Face, project: Path) -> None:
    """Nobody waits for a probe while another model can answer."""
    configure(project, breaker={"failure_threshold": 1}, defaults={"max_retries": 0, "fallback_models": ["opus"]})
    down = Rule(ApiFault(529), when=lambda request: "haiku" in model_of(request))
    with Simulator(answer="Fine.", rules=[down]) as simulator, asking(face, simulator) as subject:
        for number in range(5):
            assert subject.execute_agent("reviewer", f"task {number}").model == "claude-opus-5-5"
        assert [model_of(request) for request in simulator.requests].count("claude-haiku-5-5") == 1


# ---------------------------------------------------------------- limits


def test_one_retry_after_holds_back_the_others(face: Face, project: Path) -> None:
    """A refused turn's wait is everybody's: a call with less time than that is not even sent."""
    configure(project, defaults={"max_retries": 0})
    refusal = ApiFault(429, headers={"retry-after": "30"})
    with Simulator(answer="Fine.", faults=[refusal]) as simulator, asking(face, simulator) as subject:
        with pytest.raises(RateLimitError):
            subject.execute_agent("reviewer", "first")
        with pytest.raises(RateLimitError, match="leaves no room") as caught:
            subject.execute_agent("reviewer", "second", timeout_seconds=5)
        assert simulator.stats.calls["/v1/messages"] == 1
        assert subject.execute_agent("reviewer", "second", model="opus") == "Fine."  # another model, another limit
    assert 25 < (caught.value.retry_after_s or 0) <= 30
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("limit", "remaining"),
    [("-1", "-1"), ("0", "0"), ("9" * 400, "5"), ("60000", "-60000000"), ("100", "9" * 400), ("100", "many")],
    ids=["negative", "nothing", "too large", "a debt", "too much left", "a word"],
)
def test_absurd_limits_hold_back_nobody(face: Face, limit: str, remaining: str) -> None:
    """What no limit can be, as some gateways send it, counts as not said."""
    headers = {"anthropic-ratelimit-requests-limit": limit, "anthropic-ratelimit-requests-remaining": remaining}
    refusal = ApiFault(400, headers=headers)
    with Simulator(answer="Fine.", faults=[refusal]) as simulator, asking(face, simulator) as subject:
        assert isinstance(outcome(lambda: subject.execute_agent("reviewer", "first")), InvalidRequestError)
        assert subject.execute_agent("reviewer", "second", timeout_seconds=5) == "Fine."


# ---------------------------------------------------------------- attempts


def test_an_attempt_that_hangs_is_made_again(face: Face) -> None:
    """`attempt_timeout_seconds` ends an attempt and not the turn."""
    with Simulator(answer="Fine.", faults=[Hang()]) as simulator, asking(face, simulator) as subject:
        result = subject.execute_agent("reviewer", "x", attempt_timeout_seconds=0.5)
    assert result == "Fine."
    assert result.attempts >= 2  # more on a machine that is busy


def test_the_config_may_bound_attempts(face: Face, project: Path) -> None:
    """The error says that it was an attempt, and how many there were."""
    configure(project, defaults={"attempt_timeout_seconds": 0.5, "max_retries": 1})
    with Simulator(rules=[Rule(Hang())]) as simulator, asking(face, simulator) as subject:
        with pytest.raises(TimedOutError, match="2 attempts"):
            subject.execute_agent("reviewer", "x")
        with pytest.raises(TaskError, match="attempt"):
            subject.execute_agent("reviewer", "x", attempt_timeout_seconds=0)
        assert simulator.stats.calls["/v1/messages"] == 2


def test_a_slow_answer_is_none_of_its_business(face: Face) -> None:
    """An attempt's time does not add up with the others': each has its own."""
    with (
        Simulator(answer=Answer("Fine.", latency_s=0.05), faults=[ApiFault(529, headers=SOON)] * 3) as simulator,
        asking(face, simulator) as subject,
    ):
        assert subject.execute_agent("reviewer", "x", attempt_timeout_seconds=5).attempts == 4


def test_a_misspelt_fallback_is_not_the_batchs_end(face: Face, project: Path) -> None:
    """A warning names it; the next is asked, and where there is none, the error is that of the model that was meant."""
    configure(project, defaults={"max_retries": 0})
    down = Rule(ApiFault(529), when=lambda request: "haiku" in model_of(request))
    heard: list[str] = []
    with Simulator(answer="Fine.", rules=[down]) as simulator, asking(face, simulator) as subject:
        with pytest.raises(OverloadedError):
            subject.execute_agent("reviewer", "x", fallback_models="sonet", on_warning=heard.append)
        assert "'sonet' is unknown" in heard[-1]
        assert subject.execute_agent("reviewer", "x", fallback_models=["sonet", "opus"]).model == "claude-opus-5-5"


@pytest.mark.parametrize("callback", ["on_text", "on_retry", "on_warning"])
def test_what_a_watcher_raises_is_not_the_servers_fault(face: Face, callback: str) -> None:
    """An error of our own family, raised by a callback, is raised as it is: no retry, no other model."""
    raised = OverloadedError("mine")

    def fail(_: object) -> None:
        raise raised

    faults = [ApiFault(500, headers=SOON)] if callback == "on_retry" else []
    down = [Rule(ApiFault(529), when=lambda request: "haiku" in model_of(request))] if callback == "on_warning" else []
    with Simulator(answer="Fine.", faults=faults, rules=down) as simulator, asking(face, simulator) as subject:
        with pytest.raises(OverloadedError) as caught:
            subject.execute_agent("reviewer", "x", fallback_models=["opus", "sonnet"], **{callback: fail})
        assert caught.value is raised
        assert "claude-sonnet-5-5" not in {model_of(request) for request in simulator.requests}
