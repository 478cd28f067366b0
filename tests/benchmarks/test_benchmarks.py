"""The benchmarks measure what they say, and tell better from worse; no figure of this machine is judged here."""

import importlib
import itertools
import math
import re
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anthropic  # noqa: F401 - a second, which is not the time of whichever test is first
import pytest

ROOT = Path(__file__).parents[2]


def module(name: str) -> Any:
    """One of the benchmarks' own."""
    return importlib.import_module(name)


# ---------------------------------------------------------------- figures


@pytest.mark.parametrize(("count", "left_out"), [(1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (12, 2), (25, 7)])
def test_an_interval_is_as_sure_as_it_says(count: int, left_out: int) -> None:
    """The widest part of the order statistics that may be left out; the rows are those of printed tables."""
    figure = module("results").measured([float(number) for number in range(count)])
    assert (figure.low, figure.high) == (left_out, count - 1 - left_out)
    assert figure.median == (count - 1) / 2
    if count > 5:
        outside = 2 * sum(math.comb(count, k) for k in range(left_out + 1)) / 2**count
        assert outside <= 0.05


def test_a_ratio_is_taken_round_by_round() -> None:
    """So a machine that is slow for a whole round changes nothing."""
    slow_and_fast = [1.0, 10.0, 2.0]
    figure = module("results").ratio([2 * seconds for seconds in slow_and_fast], slow_and_fast)
    assert (figure.median, figure.low, figure.high) == (2, 2, 2)


def test_realistic_answers_take_what_was_seen() -> None:
    """P50, P95 and P99 of the scaled times, each within 3 percent; and the same for the same task."""
    simulated = module("simulated")
    times = [simulated.latency_s(f"task {number}") / simulated.SCALE for number in range(40_000)]
    cuts = statistics.quantiles(times, n=100)
    for percent, wanted_s in ((50, simulated.P50_S), (95, simulated.P95_S), (99, simulated.P99_S)):
        assert cuts[percent - 1] == pytest.approx(wanted_s, rel=0.03)
    assert simulated.latency_s("task 7") == simulated.latency_s("task 7") != simulated.latency_s("task 8")


# ---------------------------------------------------------------- runs


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Starts the runner for one round; what it printed, the results, and the page."""

    def run_(*scenarios: str) -> tuple[str, Any, str]:
        names = itertools.chain.from_iterable(("--scenario", name) for name in scenarios)
        module("run_benchmarks").main([*names, "--iterations", "1", "--report", "--output", str(tmp_path)])
        results = module("results").read_results(tmp_path / "results.json")
        return capsys.readouterr().out, results, (tmp_path / "report.html").read_text()

    return run_


def test_all_do_the_same_work_side_by_side(run: Any) -> None:
    """Whoever is installed, with as many requests; and asked again, ours sends none."""
    printed, results, page = run("three_agents", "asked_again")
    work = module("work")
    peers = [name for name in work.PEERS if work.is_installed(name)]
    figures = results.scenarios["three_agents"].figures
    assert set(figures) == {f"3 agents, s: {name}" for name in [work.OURS, *peers]} | {
        f"3 agents, times as long as claude-force: {name}" for name in peers
    }  # requests are told only where they differ
    assert results.figure("asked_again", "the same 60 again, requests: claude-force").median == 0
    assert results.figure("asked_again", "the same 60 again, requests: SDK, asyncio.gather").median == 60
    assert "60 new tasks, requests" not in printed
    for text in (*figures, results.machine.cpu, results.versions["anthropic"], "P95 7.8 s", "1/25"):
        assert text.rpartition(": ")[2] in page
    assert not re.search(r"https?://|<script|<link|url\(", page)
    missing = [name for name, version in results.versions.items() if version is None]
    assert not missing or ", ".join(missing) in printed


def test_what_a_scenario_needs_and_is_not_there_is_said(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the results and on the page; it does not end the others."""
    monkeypatch.setitem(sys.modules, "starlette", None)  # as where the extra is not there
    printed, results, page = run("pages", "ledger")
    assert results.scenarios["ledger"].figures
    assert results.scenarios["pages"].skipped == "starlette is not installed"
    assert "skipped: starlette is not installed" in printed
    assert "Skipped: starlette is not installed." in page


def test_what_was_measured_is_kept(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """When a later scenario fails, or Ctrl-C comes, after minutes."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")  # which the second scenario is to start
    with pytest.raises(FileNotFoundError):
        run("ledger", "start")
    assert list(module("results").read_results(tmp_path / "results.json").scenarios) == ["ledger"]


# ---------------------------------------------------------------- regressions


def made_up(path: Path, better: str | None, samples: list[float], **more: Any) -> Path:
    """Results with one figure, or what `more` says."""
    results = module("results")
    figures = more.pop("figures", None) or {"a ratio: langgraph": results.measured(samples, better)}
    machine = results.Machine("a processor", cores=2, system="Linux", load_before=0.5)
    made = results.Results(
        made_at=datetime(2026, 11, 27, tzinfo=UTC),
        machine=machine,
        versions=more.pop("versions", {}),
        latency={},
        iterations=len(samples),
        scenarios={more.pop("scenario", "fan_out"): results.Scenario("", took_s=1, figures=figures)},
    )
    results.write_results(made, path)
    return path


def check(baseline: Path, current: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code, and what was printed."""
    with pytest.raises(SystemExit) as ended:
        module("regression_check").main(["--baseline", str(baseline), "--current", str(current)])
    return ended.value.code, "".join(capsys.readouterr())  # type: ignore[return-value] # it is always a number


@pytest.mark.parametrize(
    ("better", "then", "now", "verdict"),
    [
        pytest.param("lower", [1.0, 1.1, 1.2], [1.0, 1.1, 1.2], "same", id="as it was"),
        pytest.param("lower", [1.0, 1.1, 1.2], [1.5, 1.6, 1.7], "worse", id="more than 15 % beyond the noise"),
        pytest.param("lower", [1.0, 1.1, 1.2], [1.3, 1.6, 1.7], "same", id="beyond the noise, by less"),
        pytest.param("lower", [1.0, 1.1, 1.2], [1.1, 3.0, 9.0], "same", id="a noisy run hides it"),
        pytest.param("lower", [1.5, 1.6, 1.7], [1.0, 1.1, 1.2], "better", id="better"),
        pytest.param("higher", [8.0, 9.0, 9.5], [5.0, 6.0, 6.5], "worse", id="where higher is better"),
        pytest.param("higher", [5.0, 6.0, 6.5], [8.0, 9.0, 9.5], "better", id="better, where higher is"),
    ],
)
def test_a_regression_is_told_from_noise(
    better: str, then: list[float], now: list[float], verdict: str, tmp_path: Path, capsys: Any
) -> None:
    """Red where the intervals are more than 15 % apart, on the wrong side; the table says which it was."""
    baseline, current = made_up(tmp_path / "then", better, then), made_up(tmp_path / "now", better, now)
    code, printed = check(baseline, current, capsys)
    assert code == (verdict == "worse")
    assert printed.startswith(f"{verdict:<8} fan_out: a ratio: langgraph, {better} is better: {then[1]:.2f} [")


def test_a_figure_that_is_gone_is_a_finding(tmp_path: Path, capsys: Any) -> None:
    """Unless it is of a peer that is not installed now."""
    results = module("results")
    other = {"another": results.measured([1.0], "lower")}
    both = other | {"a ratio: langgraph": results.measured([1.0], "lower")}
    baseline = made_up(tmp_path / "then", None, [], figures=both)
    code, printed = check(baseline, made_up(tmp_path / "now", None, [], figures=other), capsys)
    assert code == 1
    assert "missing  fan_out: a ratio: langgraph" in printed
    without = made_up(tmp_path / "now", None, [], figures=other, versions={"langgraph": None})
    assert check(baseline, without, capsys)[0] == 0


def test_nothing_to_compare_is_no_success(tmp_path: Path, capsys: Any) -> None:
    """Times alone, or other scenarios: exit code 2."""
    baseline = made_up(tmp_path / "then", "lower", [1.0])
    assert check(baseline, made_up(tmp_path / "now", "lower", [1.0], scenario="start"), capsys)[0] == 2
    assert check(made_up(tmp_path / "then", None, [1.0]), baseline, capsys)[0] == 2


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 99}', '{"schema": 1}', None])
def test_other_files_are_refused(text: str | None, tmp_path: Path) -> None:
    """With what to do, and not with a traceback."""
    path = tmp_path / "results.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit, match=r"make it (anew|with run_benchmarks.py --output)"):
        module("results").read_results(path)


# ---------------------------------------------------------------- the scripts


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "benchmarks").glob("*_*.py")))
def test_every_script_starts(script: str) -> None:
    """From its own folder's point of view, as a user starts it: a wrong import shows at `--help`."""
    if script == "benchmark_page.py":
        pytest.importorskip("playwright")
    command = [sys.executable, str(ROOT / "benchmarks" / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT / "docs", timeout=120)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
