"""Ask twice, pay once: what users of both faces, of the shell, and of many processes rely on."""

import asyncio
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from claude_force import AsyncAgentOrchestrator, ClaudeForceError, OverloadedError, TaskError
from claude_force.testing import Answer, ApiFault, Refusal, Rule, SeenRequest, Simulator

from .conftest import asker, asking, calls, counted, ledger

Face = Callable[..., Any]


@pytest.fixture(autouse=True)
def _file(project: Path) -> None:
    """Something to ask about."""
    (project / "a.py").write_text("x = 1\n")


def test_the_same_again_costs_nothing(face: Face, project: Path) -> None:
    """The second call gets the first one's answer, says so, and the ledger has what it saved."""
    with Simulator(answer=counted) as simulator, asking(face, simulator) as subject:
        first, second = (subject.execute_agent("reviewer", "x", files="a.py") for _ in range(2))
        assert calls(simulator) == 1
    assert (first, first.cached, first.attempts) == ("answer 1", False, 1)
    assert (second, second.cached, second.attempts) == ("answer 1", True, 0)
    assert second.cost_usd == 0
    assert second.saved_usd == first.cost_usd > 0
    assert second.usage.total_tokens == 0
    assert 0 <= second.cache_age_seconds < 60
    assert (second.model, second.request_id, second.simulated) == (first.model, first.request_id, True)
    paid, free = ledger(project)
    assert (free["cached"], free["estimated_cost"], free["total_tokens"]) == (True, 0, 0)
    assert free["saved_cost"] == paid["estimated_cost"]


def test_another_orchestrator_finds_it_on_disk(face: Face) -> None:
    """What one has asked, the next one knows, in this process or a later one."""
    with Simulator(answer=counted) as simulator:
        for _ in range(3):
            with asking(face, simulator) as subject:
                assert subject.execute_agent("reviewer", "x") == "answer 1"
        assert calls(simulator) == 1


def edit_agent(project: Path, _: dict[str, Any]) -> None:
    """One line more."""
    with (project / ".claude/agents/reviewer.md").open("a") as agent:
        agent.write("Be brief.\n")


def edit_file(project: Path, _: dict[str, Any]) -> None:
    """One digit changes."""
    (project / "a.py").write_text("x = 2\n")


def option(**options: Any) -> Callable[[Path, dict[str, Any]], None]:
    """Another option."""

    def change(_: Path, before: dict[str, Any]) -> None:
        before.update(options)

    return change


CHANGES = {
    "agent": edit_agent,
    "file": edit_file,
    "model": option(model="opus"),
    "effort": option(effort="low"),
    "max_tokens": option(max_tokens=100),
    "task": option(task="y"),
    "no file": option(files=()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_whatever_decides_the_answer_asks_again(
    face: Face, project: Path, change: Callable[[Path, dict[str, Any]], None]
) -> None:
    """An edited agent, an edited file, another model or option: nothing stale is ever served."""
    options: dict[str, Any] = {"task": "x", "files": "a.py"}
    with Simulator(answer=counted) as simulator, asking(face, simulator) as subject:
        assert subject.execute_agent("reviewer", **options) == "answer 1"
        change(project, options)
        assert subject.execute_agent("reviewer", **options) == "answer 2"


def test_who_answers_decides_as_well(face: Face) -> None:
    """Another server's answer, or that of `--offline`, is not this one's."""
    with Simulator(answer=counted) as one, Simulator(answer=counted) as other:
        with asking(face, one) as subject:
            subject.execute_agent("reviewer", "x")
        with asking(face, other) as subject:
            assert not subject.execute_agent("reviewer", "x").cached
        with face(offline=True) as subject:
            assert not subject.execute_agent("reviewer", "x").cached
            assert subject.execute_agent("reviewer", "x").cached


def test_use_cache_decides(face: Face) -> None:
    """False neither takes nor keeps; `"refresh"` asks again and replaces."""
    with Simulator(answer=counted) as simulator, asking(face, simulator) as subject:
        answers = [
            subject.execute_agent("reviewer", "x", use_cache=use) for use in (None, False, True, "refresh", None, False)
        ]
    assert answers == ["answer 1", "answer 2", "answer 1", "answer 3", "answer 3", "answer 4"]


@pytest.mark.parametrize("use_cache", ["no", "", 0, 1])
def test_a_word_that_use_cache_does_not_know_is_refused(face: Face, use_cache: Any) -> None:
    """`0` and `"no"` do not quietly mean yes."""
    with Simulator() as simulator, asking(face, simulator) as subject:
        with pytest.raises(TaskError, match="use_cache"):
            subject.execute_agent("reviewer", "x", use_cache=use_cache)
        assert calls(simulator) == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"cache": {"enabled": False}},
        {"features": {"cache_enabled": False}},
        {"cache": {"exclude_agents": ["reviewer"]}},
        {"cache": {"agent_ttl_hours": {"reviewer": 1e-12}}},
        {"cache": {"ttl_hours": 1e-12}},
    ],
    ids=str,
)
def test_the_config_decides(face: Face, project: Path, settings: dict[str, Any]) -> None:
    """Switched off, excluded, too old: each call is asked."""
    (project / ".claude/claude.json").write_text(json.dumps(settings))
    with Simulator(answer=counted) as simulator, asking(face, simulator) as subject:
        assert [subject.execute_agent("reviewer", "x") for _ in range(2)] == ["answer 1", "answer 2"]


def test_the_arguments_decide(face: Face) -> None:
    """`enable_cache=False` asks each time."""
    with Simulator(answer=counted) as simulator, asking(face, simulator, enable_cache=False) as subject:
        assert [subject.execute_agent("reviewer", "x") for _ in range(2)] == ["answer 1", "answer 2"]


async def test_the_async_face_has_its_own_limits() -> None:
    """`cache_ttl_hours` and `cache_max_size_mb` are those of the cache that it makes."""
    with Simulator(answer=counted) as simulator:
        async with AsyncAgentOrchestrator(
            api_key="k", base_url=simulator.base_url, cache_ttl_hours=1e-12, cache_max_size_mb=7
        ) as subject:
            assert [await subject.execute_agent("reviewer", "x") for _ in range(2)] == ["answer 1", "answer 2"]
            assert subject.response_cache.get_stats()["max_size_mb"] == 7


@pytest.mark.parametrize(
    "bad", [Answer("cut", stop_reason="max_tokens"), Answer("", refusal=Refusal()), ApiFault(400), ""], ids=str
)
def test_what_is_no_whole_answer_is_not_kept(face: Face, bad: Any) -> None:
    """Cut, refused, failed and empty answers are asked for again."""
    with Simulator(answer="Fine.", faults=[bad]) as simulator, asking(face, simulator) as subject:
        with suppress(ClaudeForceError):
            assert not subject.execute_agent("reviewer", "x").is_whole
        assert subject.execute_agent("reviewer", "x") == "Fine."


def test_another_models_answer_is_kept_as_its_own(face: Face) -> None:
    """What a fallback model said is not what the first one says when it is back."""
    busy = Rule(ApiFault(529), when=lambda request: "haiku" in request.body["model"], times=4)
    with Simulator(answer=counted, rules=[busy]) as simulator, asking(face, simulator) as subject:
        one = subject.execute_agent("reviewer", "x", fallback_models=["opus"])
        assert one.model == "claude-opus-5-5"
        assert subject.execute_agent("reviewer", "x", model="opus").cached
        again = subject.execute_agent("reviewer", "x")
    assert (again.model, again.cached) == ("claude-haiku-5-5", False)


def test_simulated_savings_are_none(face: Face) -> None:
    """What the simulator answered again has saved nobody a cent, and the figures do not say so."""
    with Simulator(answer=counted) as simulator, asking(face, simulator) as subject:
        for _ in range(2):
            subject.execute_agent("reviewer", "x")
        stats = subject.response_cache.get_stats()
    assert (stats["hits"], stats["misses"], stats["saved_usd"]) == (1, 1, 0.0)


def test_a_stream_of_a_cached_answer_has_its_text(face: Face) -> None:
    """Whoever watches gets the text of a kept answer, too."""
    pieces: list[str] = []
    with Simulator(answer="Fine.") as simulator, asking(face, simulator) as subject:
        subject.execute_agent("reviewer", "x")
        subject.execute_agent("reviewer", "x", on_text=pieces.append)
    assert pieces == ["Fine."]


def test_a_forged_answer_is_not_served(face: Face, project: Path) -> None:
    """Who can write to the folder cannot say what the agent says."""
    with Simulator(answer=counted) as simulator:
        with asking(face, simulator) as subject:
            subject.execute_agent("reviewer", "x")
            subject.response_cache.close()
        database = project / ".claude/cache/responses.db"
        data = database.read_bytes()
        assert b"answer 1" in data
        database.write_bytes(data.replace(b"answer 1", b"answer 9"))
        with asking(face, simulator) as subject:
            assert subject.execute_agent("reviewer", "x") == "answer 2"
            assert subject.response_cache.get_stats()["integrity_failures"] == 1


def test_a_cache_that_cannot_be_used_costs_nothing(face: Face, project: Path) -> None:
    """A folder that is none costs the cache and never the answer."""
    (project / ".claude/cache").write_text("in the way")
    with Simulator(answer=counted) as simulator, asking(face, simulator) as subject:
        assert subject.execute_agent("reviewer", "x") == "answer 1"
        assert subject.execute_agent("reviewer", "x") == "answer 1"  # from memory
        assert subject.execute_agent("reviewer", "y") == "answer 2"


# ---------------------------------------------------------------- many processes


@pytest.mark.usefixtures("_from_nursery")
def test_eight_processes_pay_once() -> None:
    """All ask the same at once; one is sent, and all have its answer."""
    with Simulator(answer=Answer("Fine.", latency_s=0.5)) as simulator:
        processes = [asker(simulator) for _ in range(8)]
        assert [process.communicate(timeout=120)[0] for process in processes] == ["Fine.\n"] * 8
        assert calls(simulator) == 1


@pytest.mark.usefixtures("_from_nursery")
def test_a_killed_leader_costs_the_others_a_moment() -> None:
    """The process that asks is killed; another one asks, and nobody waits for the dead."""
    with Simulator(answer="Fine.") as simulator:
        simulator.hold()
        leader = asker(simulator)
        simulator.wait_until(lambda stats: stats.in_flight == 1, timeout_s=120)
        others = [asker(simulator) for _ in range(3)]
        leader.send_signal(signal.SIGKILL)
        leader.communicate()
        simulator.wait_until(lambda stats: stats.calls["/v1/messages"] == 2, timeout_s=120)
        simulator.release()
        assert [process.communicate(timeout=120)[0] for process in others] == ["Fine.\n"] * 3
        assert calls(simulator) == 2


def test_two_orchestrators_of_one_process_pay_once() -> None:
    """A web application that makes one for each request pays once, too."""
    from claude_force import AgentOrchestrator

    def ask(_: int) -> str:
        with AgentOrchestrator(api_key="k", base_url=simulator.base_url) as subject:
            return subject.execute_agent("reviewer", "same")

    with Simulator(answer=Answer("Fine.", latency_s=0.2)) as simulator, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == ["Fine."] * 4
        assert calls(simulator) == 1


@pytest.mark.usefixtures("_from_nursery")
def test_processes_do_not_wait_for_an_answer_that_is_not_kept(project: Path) -> None:
    """An excluded agent's: nobody would find it, and the last of eight would wait for seven calls."""
    (project / ".claude/claude.json").write_text(json.dumps({"cache": {"exclude_agents": ["reviewer"]}}))
    with Simulator(answer="Fine.") as simulator:
        simulator.hold()
        processes = [asker(simulator) for _ in range(2)]
        try:
            simulator.wait_until(lambda stats: stats.in_flight == 2, timeout_s=120)
        finally:
            simulator.release()
            assert [process.communicate(timeout=120)[0] for process in processes] == ["Fine.\n"] * 2


def test_who_asks_the_same_from_within_does_not_wait_for_itself(face: Face) -> None:
    """A callback that asks through another orchestrator holds up the very thread that would get the answer."""
    from claude_force import AgentOrchestrator

    with Simulator(answer="Fine.") as simulator, asking(AgentOrchestrator, simulator) as inner:
        within: list[str] = []

        def ask(_: str) -> None:
            within.append(inner.execute_agent("reviewer", "same", timeout_seconds=5))

        with asking(face, simulator) as outer:
            assert outer.execute_agent("reviewer", "same", on_text=ask) == "Fine."
    assert set(within) == {"Fine."}


def test_a_forked_child_reads_its_own_answers() -> None:
    """On the connection of its parent it would read the other's, and keep them as its own."""
    from claude_force import AgentOrchestrator

    def echo(request: SeenRequest) -> Answer:
        return Answer(request.body["messages"][0]["content"][-1]["text"], latency_s=0.01)

    with Simulator(answer=echo) as simulator, asking(AgentOrchestrator, simulator) as subject:

        def ask(name: str) -> None:
            for number in range(10):
                assert f"{name} {number}" in subject.execute_agent("reviewer", f"{name} {number}")

        subject.execute_agent("reviewer", "open a connection")
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=ask, args=(name,)) for name in ("one", "two")]
        for child in children:
            child.start()
        ask("parent")
        for child in children:
            child.join(30)
        assert [child.exitcode for child in children] == [0, 0]


def test_a_child_that_is_forked_during_a_call_gets_its_answer() -> None:
    """From the cache, as any other process: the thread that asks is not in the child."""
    from claude_force import AgentOrchestrator

    with Simulator(answer="Fine.") as simulator, asking(AgentOrchestrator, simulator) as subject:
        simulator.hold()
        with ThreadPoolExecutor(1) as pool:
            leader = pool.submit(subject.execute_agent, "reviewer", "same")
            simulator.wait_until(lambda stats: stats.in_flight == 1, timeout_s=120)
            child = multiprocessing.get_context("fork").Process(
                target=subject.execute_agent, args=("reviewer", "same"), kwargs={"timeout_seconds": 10}
            )
            child.start()
            simulator.release()
            assert leader.result() == "Fine."
        child.join(30)
        assert child.exitcode == 0
        assert calls(simulator) == 1


@pytest.mark.usefixtures("_from_nursery")
def test_if_the_process_that_asks_fails_another_asks(face: Face) -> None:
    """Its claim ends with its failure."""
    faults = [ApiFault(529, headers={"retry-after": "900"})]
    with Simulator(answer="Fine.", faults=faults) as simulator:
        with asking(face, simulator) as subject, pytest.raises(OverloadedError):
            subject.execute_agent("reviewer", "same", timeout_seconds=5)
        process = asker(simulator)
        assert process.communicate(timeout=120)[0] == "Fine.\n"


# ---------------------------------------------------------------- the shell


def shell(simulator: Simulator, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`claude-force execute reviewer ...`."""
    environment = os.environ | {"ANTHROPIC_BASE_URL": simulator.base_url, "ANTHROPIC_API_KEY": "k"}
    command = ["claude-force", "execute", "reviewer", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)


@pytest.mark.usefixtures("_from_nursery")
def test_the_second_command_is_answered_by_the_first(project: Path) -> None:
    """The same text on stdout; on stderr how old it is."""
    with Simulator(answer=counted) as simulator:
        first, second = shell(simulator, "x"), shell(simulator, "x")
        others = [shell(simulator, "x", *options).stdout for options in (["--refresh"], ["--no-cache"], [])]
    assert first.stdout == second.stdout == "answer 1\n"
    assert "cached, " in second.stderr
    assert " s old" in second.stderr
    assert "cached" not in first.stderr
    assert others == ["answer 2\n", "answer 3\n", "answer 2\n"]
    assert (project / ".claude/cache/.gitignore").read_text() == "*\n"


@pytest.mark.usefixtures("_from_nursery")
def test_both_at_once_is_a_mistake() -> None:
    """`--refresh` keeps, `--no-cache` does not."""
    with Simulator() as simulator:
        assert shell(simulator, "x", "--refresh", "--no-cache").returncode == 2


HIT = """
import sys
before = set(sys.modules)
from claude_force import AgentOrchestrator
with AgentOrchestrator(api_key="k", base_url=sys.argv[1]) as subject:
    assert subject.execute_agent("reviewer", "same").cached
print(sorted(set(sys.modules) - before))
"""


@pytest.mark.usefixtures("_from_nursery")
def test_a_hit_loads_nothing_heavy() -> None:
    """An answer from disk needs neither the SDK nor an event loop."""
    with Simulator() as simulator:
        assert asker(simulator).communicate(timeout=120)[0]
        command = [sys.executable, "-c", HIT, simulator.base_url]
        loaded = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert "msgspec" in loaded
    sdk = ("anthropic", "pydantic", "asyncio", "rich", "genai_prices", "httpx2", "jsonschema")
    to_ask = ("claude_force.engine.breaker", "claude_force.engine.limits")
    for heavy in (*sdk, *to_ask, "base64", "json", "secrets", "select", "unicodedata", "yaml"):
        assert f"'{heavy}'" not in loaded


async def test_a_hit_is_in_the_ledger_when_the_loop_has_ended(project: Path) -> None:
    """Nobody waits for the line of a hit, and yet it is not lost."""
    with Simulator(answer=counted) as simulator:
        async with AsyncAgentOrchestrator(api_key="k", base_url=simulator.base_url) as subject:
            results = await asyncio.gather(*(subject.execute_agent("reviewer", "x") for _ in range(20)))
            results += [await subject.execute_agent("reviewer", "x") for _ in range(20)]
    assert results == ["answer 1"] * 40
    assert len(ledger(project)) == 40
