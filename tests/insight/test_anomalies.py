"""Anomalies are found, and few that are none, on labelled series; figures beside other ways: the benchmark."""

import importlib
import random
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from claude_force.base.usage import Usage
from claude_force.insight.anomalies import LEAST_SAMPLES, Finding, bursts, outliers, read_anomalies
from claude_force.insight.counting import Selection
from claude_force.performance_tracker import PerformanceTracker
from tests.conftest import execution

BEGIN = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
def labelled(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark's series and scores."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "benchmarks"), *sys.path])
    return importlib.import_module("scenarios.anomalies")


def test_spikes(labelled: Any) -> None:
    """On plain and heavy tails, on two kinds of answers, and on what is slow now and then; seen: 0.83 and 0.84."""
    scores = labelled.spike_scores(labelled.ours, range(5))
    assert scores["precision"] > 0.78
    assert scores["recall"] > 0.78
    assert labelled.spike_scores(labelled.ours, range(5), ["normal", "two kinds"])["precision"] > 0.97


def test_drifts(labelled: Any) -> None:
    """Shifts and slow drifts of 1.6 to 3 times are found, and hardly any where none is."""
    scores = labelled.drift_scores(range(5))
    assert scores["shifts found"] == scores["drifts found"] == 1
    assert scores["executions until a shift is found"] < 80
    assert scores["executions until a drift is found"] < 250
    assert scores["series with a false drift"] < 0.1


def test_bursts(labelled: Any) -> None:
    """Outages of eight executions, and not the failures that are usual."""
    scores = labelled.burst_scores(range(10))
    assert (scores["precision"], scores["recall"]) == (1, 1)


def test_too_few_or_too_regular() -> None:
    """Without a baseline nothing is judged; with times that are all the same, a little more is nothing."""
    assert outliers([]) == outliers([100.0] * (LEAST_SAMPLES - 1) + [1e6]) == []
    assert outliers([100.0] * 500 + [149.0] + [100.0] * 20) == []
    (spike,) = outliers([100.0] * 500 + [160.0] + [100.0] * 20)
    assert (spike.first, spike.last, spike.value, round(spike.usual)) == (500, 500, 160, 100)
    assert bursts([]) == bursts([True] * 20) == bursts([False] * 100 + [True] + [False] * 100) == []
    (burst,) = bursts([False] * 100 + [True] * 5 + [False] * 100)
    assert (burst.first, burst.last, burst.value) == (100, 104, 1)


def test_in_a_ledger(tmp_path: Path) -> None:
    """Each finding says what, when, how far from usual, and of how many; agents and models are judged apart."""
    tracker, dice = PerformanceTracker(tmp_path), random.Random(7)  # noqa: S311 - to be repeated
    for number in range(400):
        for agent, usual_ms in (("quick", 500), ("slow", 9_000)):
            is_down = agent == "slow" and 200 <= number < 210
            spike = 8 if (agent, number) == ("quick", 300) else 1
            shift = 2 if (agent == "slow" and number >= 250) else 1
            tracker.record(
                execution(
                    timestamp=BEGIN + timedelta(minutes=number),
                    agent_name=agent,
                    error_type="ServerError" if is_down else None,
                    duration_ms=usual_ms * dice.lognormvariate(0, 0.3) * spike,
                    usage=Usage(output_tokens=round(300 * dice.lognormvariate(0, 0.1)) * shift),
                    cost_usd=Decimal("0.01"),
                )
            )
    for error, cached in (("Interrupted", False), (None, True)):
        for number in range(50):  # neither says anything about the model
            tracker.record(
                execution(
                    timestamp=BEGIN + timedelta(minutes=number),
                    agent_name="quick",
                    error_type=error,
                    duration_ms=900_000,
                    cached=cached,
                )
            )
    found = read_anomalies(tracker.path, Selection())
    assert found.judged == 2
    spike_found, drift, failures = found.findings

    def told(finding: Finding) -> tuple[str, str, str, int]:
        return finding.kind, finding.measure, finding.agent, finding.samples

    assert told(spike_found) == ("spike", "time_ms", "quick", 400)
    assert spike_found.began_at == BEGIN + timedelta(minutes=300)
    assert spike_found.value / spike_found.usual > 4
    assert told(drift) == ("drift", "output_tokens", "slow", 390)
    assert abs(drift.began_at - BEGIN - timedelta(minutes=250)) < timedelta(minutes=6)
    assert drift.value == pytest.approx(600, rel=0.15)
    assert drift.usual == pytest.approx(300, rel=0.1)
    assert told(failures) == ("failures", "failure_rate", "slow", 400)
    assert failures.began_at == BEGIN + timedelta(minutes=200)
    assert (failures.executions, failures.value) == (10, 1)
