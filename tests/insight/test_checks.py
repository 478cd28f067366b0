"""Is everything well? As a program asks it."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from claude_force import CircuitBreaker
from claude_force.insight.health import Check, Health, check_folder, check_health
from claude_force.performance_tracker import PerformanceTracker


def check(health: Health, name: str) -> Check:
    """The check of that name."""
    return next(check for check in health.checks if check.name == name)


def executed(project: Path, *, model: str = "m", good: int = 0, bad: int = 0, error: str = "OverloadedError") -> None:
    """So many executions, just now."""
    tracker = PerformanceTracker(project / ".claude/metrics")
    for number in range(good + bad):
        success = number < good
        tracker.track_execution(
            "x", "y", success=success, execution_time_ms=1, model=model, error_type=None if success else error
        )


def test_all_is_well(project: Path) -> None:
    """A project with an agent is ok before anything was executed; each check says what it looked at."""
    health = check_health(start=project)
    assert health.status == "ok"
    assert [check.name for check in health.checks] == [
        "config",
        "agents",
        "metrics",
        "stores",
        "executions",
        "breakers",
    ]
    assert check(health, "agents").facts == {"found": 1, "broken": 0}
    assert check(health, "metrics").facts["free_bytes"] > 0
    assert datetime.now(UTC) >= health.checked_at


def test_the_config_decides_the_project(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With a config elsewhere, its project is looked at, wherever the user stands."""
    other = tmp_path_factory.mktemp("other")
    (other / ".claude").mkdir()
    (other / ".claude/claude.json").write_text("{}")
    assert check(check_health(other / ".claude/claude.json"), "agents").facts["found"] == 0
    assert check(check_health(project / ".claude/claude.json"), "agents").facts["found"] == 1


@pytest.mark.parametrize(
    ("path", "text", "name", "status"),
    [
        (".claude/claude.json", "{", "config", "failing"),
        (".claude/claude.json", '{"cach": 1}', "config", "failing"),
        (".claude/agents/reviewer.md", "", "agents", "failing"),
        (".claude/agents/broken.md", "", "agents", "degraded"),
        (".claude/metrics", "", "metrics", "degraded"),
        (".claude/metrics/executions.jsonl", "no line\n", "executions", "ok"),
    ],
    ids=["no JSON", "unknown key", "no agent", "a broken agent", "no folder", "torn ledger"],
)
def test_what_is_ill(project: Path, path: str, text: str, name: str, status: str) -> None:
    """What is wrong is said with what to do about it, and decides the whole."""
    (project / path).parent.mkdir(exist_ok=True)
    (project / path).write_text(text)
    health = check_health(start=project)
    assert (check(health, name).status, health.status) == (status, status)
    assert bool(check(health, name).fix) is (status != "ok")


@pytest.mark.parametrize(
    ("good", "bad", "status"),
    [(0, 0, "ok"), (0, 9, "ok"), (95, 5, "ok"), (94, 6, "degraded"), (6, 5, "degraded"), (5, 5, "failing")],
)
def test_the_error_rate(project: Path, good: int, bad: int, status: str) -> None:
    """Above 5 % is degraded, from a half on failing, and a few executions say nothing."""
    executed(project, good=good, bad=bad)
    found = check(check_health(start=project), "executions")
    assert (found.status, found.facts["executions"], found.facts["errors"]) == (status, good + bad, bad)


def test_one_model_of_several(project: Path) -> None:
    """A model that is down is not all of it: the others go on. What the user ended is no failure."""
    executed(project, model="good", good=100)
    executed(project, model="down", bad=20)
    executed(project, model="down", bad=20, error="Interrupted")
    health = check_health(start=project)
    found = check(health, "executions")
    assert (health.status, found.facts["models"]["down"]["error_rate"]) == ("degraded", 1.0)
    assert (found.facts["executions"], found.facts["errors"], found.facts["interrupted"]) == (120, 20, 20)
    assert found.facts["error_types"] == {"OverloadedError": 20}


def test_a_hundred_good_ones_hide_no_model(project: Path) -> None:
    """A model's own rate counts where that of all together is fine."""
    executed(project, model="good", good=400)
    executed(project, model="down", bad=10)
    assert check(check_health(start=project), "executions").status == "degraded"


def test_without_a_ledger_nothing_is_known(project: Path) -> None:
    """Who has switched tracking off hears that errors are not known, instead of that there are none."""
    executed(project, bad=20)
    (project / ".claude/claude.json").write_text('{"tracking": {"enabled": false}}')
    assert "not known" in check(check_health(start=project), "executions").detail


def test_breakers(project: Path) -> None:
    """An open breaker is a degradation; they are those of the process that asks."""
    closed, opened = CircuitBreaker(name="a"), CircuitBreaker(1, name="b")
    with pytest.raises(ConnectionResetError), opened:
        raise ConnectionResetError
    health = check_health(start=project, breakers=[closed.snapshot()])
    assert (health.status, check(health, "breakers").detail) == ("ok", "1 closed")
    health = check_health(start=project, breakers=[closed.snapshot(), opened.snapshot()])
    assert (health.status, check(health, "breakers").detail) == ("degraded", "b is open")
    assert check(health, "breakers").facts == {"a": "closed", "b": "open"}


def test_the_cache_folder_where_there_is_one(project: Path) -> None:
    """It is looked at as the ledger's is."""
    (project / ".claude/cache").mkdir()
    assert check(check_health(start=project), "cache").status == "ok"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_rights(tmp_path: Path) -> None:
    """One that is not ours is said to be unwritable, also where the folder is not made yet."""
    tmp_path.chmod(0o500)
    assert check_folder("metrics", tmp_path / "a" / "b").status == "degraded"
    tmp_path.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look anywhere")
@pytest.mark.parametrize("closed", [".", ".claude"])
def test_a_project_that_cannot_be_looked_at(project: Path, closed: str) -> None:
    """It is failing; the check itself does not fail."""
    (project / closed).chmod(0)
    try:
        assert check_health(start=project).status == "failing"
    finally:
        (project / closed).chmod(0o700)


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """A path that the system refuses is ill, and raises nothing."""
    assert check_health(start=tmp_path / ("x" * 300)).status == "failing"
