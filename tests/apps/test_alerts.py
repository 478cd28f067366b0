"""`claude-force analytics alerts` for cron, and `--alerts` after a run."""

import json
from pathlib import Path

import pytest

from claude_force.testing import ApiFault, Simulator

from .conftest import Run

RULES = [
    {"name": "errors", "metric": "error_rate", "above": 0.4, "severity": "critical", "min_executions": 2},
    {"name": "busy", "metric": "executions", "above": 1, "severity": "info"},
]


@pytest.fixture
def project(project: Path) -> Path:
    """A project with two rules, of which each run breaks one."""
    (project / ".claude/claude.json").write_text(json.dumps({"defaults": {"max_retries": 0}, "alerts": RULES}))
    return project


def test_for_cron(run: Run, project: Path, simulator: Simulator) -> None:
    """The exit code says whether something fires that one wants to hear of; errors keep their own."""
    assert run("analytics", "alerts").returncode == 0
    assert run("execute", "reviewer", "one").returncode == 0
    simulator.script(ApiFault(500))
    failed = run("execute", "reviewer", "two", "--alerts")
    assert failed.returncode == 1
    assert failed.stderr.count("critical: errors: error_rate is 1") == 0, "one failure is not of two real executions"
    simulator.script(ApiFault(500))
    failed = run("execute", "reviewer", "two", "--alerts")
    assert failed.returncode == 1
    assert "critical: errors: error_rate is 1, above 0.4, over 1h of 2 executions\n" in failed.stderr
    assert "warning: busy: executions is 2, above 1, over 1h of 2 executions\n" in failed.stderr
    done = run("analytics", "alerts")
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "errors\tcritical\tfiring\t1\tabove 0.4\terror_rate over 1h of 2 executions"
    quiet = run("analytics", "alerts", "--simulated", "--fail-on", "info", "--json")
    assert (quiet.returncode, [alert["state"] for alert in json.loads(quiet.stdout)["alerts"]]) == (
        0, ["unknown", "quiet"],
    )  # fmt: skip
    (project / ".claude/claude.json").write_text(json.dumps({"alerts": RULES[1:]}))
    assert run("analytics", "alerts").returncode == 0, "information alone is no failure"
    assert run("analytics", "alerts", "--fail-on", "info").returncode == 1
    (project / ".claude/claude.json").write_text("{")
    assert run("analytics", "alerts").returncode == 2


def test_after_a_run(run: Run, project: Path) -> None:
    """The answer and the exit code stay as they are, whatever fires, or cannot be judged."""
    for task in ("one", "two"):
        done = run("execute", "reviewer", task, "--alerts", "--offline", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["simulated"]
    assert "warning: busy: executions is 2, above 1, over 1h of 2 executions\n" in done.stderr
    (project / ".claude/metrics/executions.jsonl").unlink()
    (project / ".claude/metrics/executions.jsonl").mkdir()
    lost = run("execute", "reviewer", "three", "--alerts", "--offline")
    assert lost.returncode == 0
    assert "warning: the alerts are not known: cannot read" in lost.stderr
