"""`claude-force metrics`, and what the command line does by itself once an answer is out."""

import fcntl
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from claude_force.performance_tracker import PerformanceTracker

from .conftest import Run


@pytest.fixture
def ledger(project: Path) -> Path:
    """One with 50 lines of 40 days ago, and one of now."""
    tracker = PerformanceTracker(project / ".claude/metrics")
    tracker.track_execution("reviewer", "x", success=True, execution_time_ms=5)
    begun = (datetime.now(UTC) - timedelta(days=40)).isoformat()
    old = f'{{"timestamp":"{begun}","success":true,"execution_time_ms":5,"agent_name":"reviewer"}}\n'
    tracker.path.write_text(old * 50 + tracker.path.read_text())
    return tracker.path


def test_rollup(run: Run, ledger: Path) -> None:
    """It says what it would do, does it, and figures stay what they were."""
    before = run("analytics", "by-agent", "--json").stdout
    planned = dict(row.split("\t") for row in run("metrics", "rollup", "--dry-run").stdout.splitlines())
    assert len(ledger.read_text().splitlines()) == 51
    done = json.loads(run("metrics", "rollup", "--json").stdout)
    assert (done["lines"], done["days"], done["is_dry"]) == (50, 1, False)
    assert planned == {
        "lines": "50",
        "days": "1",
        "bytes before": f"{done['bytes_before']:,}",
        "bytes after": f"{done['bytes_after']:,}",
        "saved": f"{done['saved_share']:.1%}",
    }
    assert len(ledger.read_text().splitlines()) == 1
    assert run("analytics", "by-agent", "--json").stdout == before
    assert "50 executions are only known by day" in run("analytics", "costs", "--by-run").stderr
    known = "50 executions are only known by day, and"
    days = ("analytics", "trends", "--days", "60", "--json")
    hourly = run(*days, "--interval", "hourly")
    assert sum(hour["executions"] for hour in json.loads(hourly.stdout)["intervals"]) == 1
    assert f"{known} are left out" in hourly.stderr
    daily = run(*days, "--tz", "Asia/Tokyo")
    assert sum(day["executions"] for day in json.loads(daily.stdout)["intervals"]) == 51
    assert f"{known} count on their days of UTC" in daily.stderr
    assert "only known by day" not in run(*days, "--tz", "UTC").stderr
    for asked in (("export", "--format", "csv"), ("anomalies", "--days", "60")):
        assert f"{known} are left out" in run("analytics", *asked).stderr
    (ledger.parent / "daily.jsonl").write_text("{}")
    broken = run("analytics", "summary")
    assert (broken.returncode, broken.stdout) == (1, "")
    assert "daily.jsonl', which has what past days came to, is damaged" in broken.stderr


def test_it_is_done_once_an_answer_is_out(run: Run, project: Path, ledger: Path) -> None:
    """Once a day, unless the config says no; what is wrong with it never costs an answer."""
    config = project / ".claude/claude.json"
    config.write_text('{"metrics": {"auto_rollup": false}}')
    assert run("execute", "reviewer", "one").returncode == 0
    assert len(ledger.read_text().splitlines()) == 52
    config.write_text("{}")
    daily = ledger.parent / "daily.jsonl"
    daily.write_text("damaged")
    warned = run("execute", "reviewer", "two")
    assert (warned.returncode, warned.stdout) == (0, "Looks good.\n")
    assert "warning: old executions are not rolled up: " in warned.stderr
    daily.unlink()
    assert run("execute", "reviewer", "three").stderr.count("rolled up") == 0, "it was tried today"
    (ledger.parent / "rollup.lock").unlink()
    assert run("execute", "reviewer", "three").returncode == 0
    assert len(ledger.read_text().splitlines()) == 5


def test_rollup_json_has_one_form(run: Run, project: Path) -> None:
    """Where there is nothing yet, and where another process is at it."""
    nothing = json.loads(run("metrics", "rollup", "--json").stdout)
    assert (nothing["lines"], nothing["is_dry"], nothing["is_busy"]) == (0, False, False)
    folder = project / ".claude/metrics"
    folder.mkdir(parents=True)
    with (folder / "rollup.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        busy = json.loads(run("metrics", "rollup", "--json").stdout)
    assert busy == nothing | {"is_busy": True}
