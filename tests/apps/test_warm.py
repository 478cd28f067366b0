"""`claude-force cache warm`: a real process, a real server, and not a cent more than was allowed."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_force.base.usage import Usage
from claude_force.testing import Answer, ApiFault, Simulator

from .conftest import Run

WARM = ("cache", "warm", "reviewer", "--tasks-file", "t.jsonl")
# Haiku's price of 1,000 tokens of output, which is nearly all that the small tasks here can cost: $0.0005.
SMALL = 1000
BIG = 100_000


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A server that answers with the task's last word, and uses all of the output that it may."""

    def answer(request: Any) -> Answer:
        usage = Usage(input_tokens=10, output_tokens=request.body["max_tokens"])
        return Answer(request.prompt.split()[-1], usage=usage)

    with Simulator(answer=answer) as running:
        yield running


@pytest.fixture
def write(project: Path) -> Callable[..., None]:
    """Writes the tasks file: `task 0` with so much output, and so on."""

    def write(*most: int) -> None:
        lines = ({"task": f"task {number}", "max_tokens": tokens} for number, tokens in enumerate(most))
        (project / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    return write


def asked(simulator: Simulator) -> Counter[str]:
    """How often each task has reached the server."""
    return Counter(request.prompt for request in simulator.requests)


def configure(project: Path, **config: Any) -> None:
    """The project's config, without retries."""
    (project / ".claude/claude.json").write_text(json.dumps({"defaults": {"max_retries": 0}} | config))


def test_it_asks_what_is_missing(run: Run, write: Any, simulator: Simulator) -> None:
    """The first asks all and prints no answer; a second one asks what is new; then `execute` pays for nothing."""
    write(SMALL, SMALL, SMALL)
    first = run(*WARM)
    assert (first.returncode, first.stdout) == (0, "")
    assert "0 were kept already, 3 asked, 0 failed, 0 not run, would cost $0.0015" in first.stderr
    assert "3 were kept already, 0 asked, 0 failed, 0 not run, $0.0000" in run(*WARM).stderr
    write(SMALL, SMALL, SMALL, SMALL)
    assert "3 were kept already, 1 asked" in run(*WARM).stderr
    result = json.loads(run("execute", "reviewer", "task 2", "--max-tokens", str(SMALL), "--json").stdout)
    assert (result["text"], result["cached"]) == ("2", True)
    assert asked(simulator) == {f"task {number}": 1 for number in range(4)}


def test_a_summary_for_a_machine(run: Run, write: Any) -> None:
    """With `--json`, stdout is one document with the counts, and no answer."""
    write(SMALL, BIG)
    data = json.loads(run(*WARM, "--json", "--max-usd", "0.01").stdout)
    expected = {"kept": 0, "asked": 1, "failed": 0, "not_run": 1, "exit_code": 4}
    assert {name: data[name] for name in expected} == expected
    assert data["error"]["type"] == "BudgetError"
    assert 0.0005 < data["cost_usd"] < 0.001
    assert data["simulated"] == 1


@pytest.mark.parametrize("extra", [(), ("--max-usd", "1")], ids=["without a limit", "with one"])
def test_a_task_that_stands_there_twice(run: Run, project: Path, simulator: Simulator, extra: tuple[str, ...]) -> None:
    """Is paid for once."""
    (project / "t.jsonl").write_text('"task 0"\n"task 0"\n')
    done = run(*WARM, *extra)
    assert "1 were kept already, 1 asked, 0 failed, 0 not run" in done.stderr
    assert asked(simulator) == {"task 0": 1}


def test_offline(run: Run, write: Any, simulator: Simulator) -> None:
    """`--offline` asks the built-in simulator, and its answers are kept for who is offline."""
    write(SMALL)
    assert "1 asked" in run(*WARM, "--offline").stderr
    assert "1 were kept already, 0 asked" in run(*WARM, "--offline").stderr
    assert simulator.stats.calls == {}


# ---------------------------------------------------------------- failures


def test_failures(run: Run, write: Any, simulator: Simulator) -> None:
    """What failed is told with the code of its error, and asked again by the same command."""
    write(SMALL, SMALL)
    simulator.script(ApiFault(529))
    done = run(*WARM, "--max-concurrent", "1")
    assert done.returncode == 5
    assert "0 were kept already, 2 asked, 1 failed, 0 not run" in done.stderr
    assert "line 1: OverloadedError" in done.stderr
    assert "1 were kept already, 1 asked, 0 failed" in run(*WARM).stderr


def test_an_error_that_all_would_meet(run: Run, write: Any, simulator: Simulator) -> None:
    """Nothing is sent after refused credentials."""
    write(SMALL, SMALL, SMALL)
    simulator.script(ApiFault(401))
    done = run(*WARM, "--max-usd", "1", "--max-concurrent", "1")
    assert done.returncode == 3
    assert "1 asked, 1 failed, 2 not run" in done.stderr
    assert asked(simulator).total() == 1


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"cache": {"enabled": False}}, "the cache is off"),
        ({"features": {"cache_enabled": False}}, "the cache is off"),
        ({"cache": {"exclude_agents": ["reviewer"]}}, "answers of 'reviewer' are not kept (line 1)"),
    ],
    ids=["off", "feature off", "excluded"],
)
def test_no_cache_to_warm(
    run: Run, write: Any, simulator: Simulator, project: Path, config: dict[str, Any], said: str
) -> None:
    """Where no answer would be kept, none is paid for."""
    write(SMALL)
    configure(project, **config)
    done = run(*WARM)
    assert (done.returncode, simulator.stats.calls) == (2, {})
    assert said in done.stderr


def test_a_cache_that_cannot_be_written(run: Run, write: Any, simulator: Simulator, project: Path) -> None:
    """Answers that would be gone with the process are not paid for."""
    write(SMALL)
    (project / ".claude/cache").write_text("no folder")
    done = run(*WARM)
    assert (done.returncode, simulator.stats.calls) == (1, {})
    assert "no answer can be kept in" in done.stderr


# ---------------------------------------------------------------- a budget


def test_what_fits_is_asked_and_nothing_else(run: Run, write: Any, simulator: Simulator) -> None:
    """Of five, the two that fit are sent, wherever they stand; the message says what another could have cost."""
    write(BIG, SMALL, BIG, SMALL, BIG)
    done = run(*WARM, "--max-usd", "0.01")
    assert done.returncode == 4
    assert asked(simulator) == {"task 1": 1, "task 3": 1}
    assert "line 1: BudgetError: 'reviewer' is not sent: it could cost $0.05" in done.stderr
    assert "of max_cost_usd ($0.01) is left" in done.stderr
    assert "0 were kept already, 2 asked, 0 failed, 3 not run, would cost $0.001" in done.stderr


def test_what_was_paid_is_gone(run: Run, write: Any, simulator: Simulator) -> None:
    """Each answer leaves less for the next: of five alike, a budget for two and a half buys two."""
    write(*[BIG] * 5)
    done = run(*WARM, "--max-usd", "0.125")
    assert done.returncode == 4
    assert asked(simulator) == {"task 0": 1, "task 1": 1}
    assert run(*WARM, "--max-usd", "0.125").returncode == 4
    assert asked(simulator) == {f"task {number}": 1 for number in range(4)}
    assert run(*WARM, "--max-usd", "0.125").returncode == 0


def test_what_is_kept_needs_no_budget(run: Run, write: Any) -> None:
    """An answer that is there costs nothing, so a budget of next to nothing will do."""
    write(BIG)
    run(*WARM)
    assert run(*WARM, "--max-usd", "1e-9").returncode == 0


@pytest.mark.parametrize("args", [["--max-usd", "nan"], ["--max-usd", "-1"], ["--max-usd", "0"]], ids=" ".join)
def test_a_budget_that_is_none(run: Run, write: Any, simulator: Simulator, args: list[str]) -> None:
    """Is refused before anything is sent."""
    write(SMALL)
    done = run(*WARM, *args)
    assert (done.returncode, simulator.stats.calls) == (2, {})
    assert "max" in done.stderr
