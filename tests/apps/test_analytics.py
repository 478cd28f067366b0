"""`claude-force analytics`: figures for people, for pipes and for programs."""

import json
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from claude_force.testing import ApiFault, Simulator

from .conftest import Run, Start


def test_costs(run: Run, project: Path) -> None:
    """What was paid, what was not known, and what the cache saved; repriced by the prices that the config names now."""
    assert run("analytics", "costs").stdout == "total\t0\t0\t0\t0\t$0.0000\t$0.0000\n"
    for _ in range(2):
        assert run("execute", "reviewer", "look at this " * 500).returncode == 0
    with (project / ".claude/metrics/executions.jsonl").open("a") as ledger:
        ledger.write("torn\n")
    shown = run("analytics", "costs", "--by-agent", "--simulated")
    (row,) = shown.stdout.splitlines()
    name, executions, cached, *_, cost, saved = row.split("\t")
    assert (name, executions, cached) == ("reviewer", "2", "1")
    assert cost == saved != "$0.0000"
    assert f"saved: {saved} by the response cache" in shown.stderr
    assert "1 lines of" in shown.stderr
    assert "2 simulated executions are left out; --simulated shows them" in run("analytics", "costs").stderr

    def report(*options: str) -> dict[str, list[dict[str, object]]]:
        done = run("analytics", "costs", "--simulated", "--by-model", "--json", *options)
        found: dict[str, list[dict[str, object]]] = json.loads(done.stdout)
        return found

    (group,) = report()["groups"]
    model = str(group["model"])
    (project / "mine.json").write_text(json.dumps({"pricing": {model: {"input": 0, "output": 1_000_000}}}))
    (repriced,) = report("--reprice", "--config", "mine.json")["groups"]
    assert repriced["cost_usd"] == repriced["output_tokens"]
    assert report()["groups"] == [group], "the ledger stays as it is"


def test_mistakes(run: Run, project: Path) -> None:
    """They are named, with what to do."""
    unknown = run("analytics", "costs", "--by-day", "--tz", "Mars")
    assert (unknown.returncode, unknown.stderr) == (
        2, "error: there is no time zone 'Mars'; give a name such as Europe/Berlin, or UTC\n",
    )  # fmt: skip
    no_number = run("analytics", "summary", "--days", "nan")
    assert (no_number.returncode, no_number.stderr.splitlines()[-1]) == (
        2, "error: Invalid value for '--days': 'nan' is no number.",
    )  # fmt: skip
    (project / ".claude/metrics").mkdir(parents=True, exist_ok=True)
    os.mkfifo(project / ".claude/metrics/daily.jsonl")
    for command in (("analytics", "summary"), ("metrics", "rollup")):
        piped = run(*command)
        assert "daily.jsonl': it is no regular file" in piped.stderr
        assert "executions.jsonl" not in piped.stderr
    (project / ".claude/metrics/daily.jsonl").unlink()
    (project / ".claude/metrics/executions.jsonl").mkdir()
    broken = run("analytics", "costs", "--json")
    assert broken.returncode == 2
    assert "Is a directory; check the file and its rights" in json.loads(broken.stdout)["error"]["message"]


def test_how_it_went(run: Run, project: Path, simulator: Simulator) -> None:
    """For people and programs; an agent's failures are its own."""
    (project / ".claude/agents/helper.md").write_text("---\nname: helper\ndescription: d\nmodel: opus\n---\nHelp.\n")
    for _ in range(2):
        assert run("execute", "reviewer", "one").returncode == 0
    simulator.script(ApiFault(400))
    assert run("execute", "helper", "two").returncode != 0
    rows = dict(line.split("\t") for line in run("analytics", "summary", "--simulated").stdout.splitlines())
    assert (rows["executions"], rows["success rate"], rows["answered from before"]) == ("2", "100.0%", "50.0%")
    (helper,) = json.loads(run("analytics", "by-agent", "--json").stdout)
    assert (helper["agent"], helper["success_rate"], helper["error_types"]) == ("helper", 0, {"InvalidRequestError": 1})
    (reviewer,) = run("analytics", "by-agent", "--simulated").stdout.splitlines()
    assert reviewer.startswith("reviewer\t2\t100.0%\t50.0%\t")
    assert json.loads(run("analytics", "by-model", "--agent", "nobody", "--json").stdout) == []
    assert rows["top agents"] == "reviewer 100.0%"
    whole = json.loads(run("analytics", "summary", "--simulated", "--json").stdout)
    (model,) = whole["models"]
    assert (whole["agents"][0]["agent"], model["executions"], model["share"]) == ("reviewer", 2, 1)
    assert model["cost_usd"] == whole["cost_usd"]
    assert whole["time_ms"]["p50"] > 0


def test_trends(run: Run) -> None:
    """A line for each interval, the last of which is now; for programs with all figures, and no bars in a pipe."""
    assert run("execute", "reviewer", "one").returncode == 0
    lines = run("analytics", "trends", "--interval", "hourly", "--simulated", "--tz", "UTC").stdout.splitlines()
    assert len(lines) == 24
    executions = [line.split("\t")[1] for line in lines]
    assert executions.count("1") == 1
    assert executions.count("0") == len(lines) - 1
    assert max(len(line.split("\t")) for line in lines) == 7
    daily = json.loads(run("analytics", "trends", "--simulated", "--days", "3", "--json").stdout)
    assert daily["interval"] == "daily"
    assert sum(day["executions"] for day in daily["intervals"]) == 1


def test_report(run: Run, project: Path) -> None:
    """One page with the figures of the summary; what is no page of ours is not overwritten."""
    assert run("execute", "reviewer", "one").returncode == 0
    assert run("analytics", "report", "--simulated", "--output", "week.html").returncode == 0
    text = (project / "week.html").read_text()
    summary = json.loads(run("analytics", "summary", "--simulated", "--json").stdout)
    figures = dict(re.findall(r'<data class="(\w+)" value="(.*?)"', text))
    assert float(figures.pop("p50")) == summary["time_ms"]["p50"]
    assert float(figures.pop("p95")) == summary["time_ms"]["p95"]
    assert {name: float(value) for name, value in figures.items()} == {
        name: summary[name] for name in ("executions", "success_rate", "cost_usd")
    }
    assert run("analytics", "report", "--output", "week.html").returncode == 0, "made anew"
    (project / "mine.html").write_text("mine")
    refused = run("analytics", "report", "--output", "mine.html")
    assert (refused.returncode, refused.stderr) == (
        2, "error: 'mine.html' is there and no report of ours; give another --output, or --force\n",
    )  # fmt: skip
    assert (project / "mine.html").read_text() == "mine"
    assert run("analytics", "report", "--output", "mine.html", "--force").returncode == 0
    assert "cannot write" in run("analytics", "report", "--output", "/proc/none/report.html").stderr
    elsewhere = project.parent / "elsewhere.html"
    (project / "report.html").symlink_to(elsewhere)  # as a cloned repository may have it
    assert "'report.html' is a link that leads nowhere" in run("analytics", "report").stderr
    assert not elsewhere.exists()


def test_export(run: Run, start: Start, project: Path) -> None:
    """To a file, whole or not at all; to a pipe that may be closed before the end; only what can be read."""
    assert run("execute", "reviewer", "one").returncode == 0
    assert run("analytics", "export", "--format", "csv", "--simulated", "--output", "all.csv").returncode == 0
    assert len((project / "all.csv").read_text().splitlines()) == 2
    (row,) = json.loads(run("analytics", "export", "--format", "json", "--simulated").stdout)
    assert row["agent_name"] == "reviewer"
    ledger = project / ".claude/metrics/executions.jsonl"
    ledger.write_bytes(ledger.read_bytes() * 2_000)
    with start("analytics", "export", "--format", "jsonl", "--simulated") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait(120)) == ("", 141)
    assert "cannot write" in run("analytics", "export", "--format", "csv", "--output", "/proc/none/all.csv").stderr
    ledger.unlink()
    ledger.mkdir()
    failed = run("analytics", "export", "--format", "csv", "--output", "all.csv")
    assert (failed.returncode, "cannot read" in failed.stderr) == (2, True)
    assert len((project / "all.csv").read_text().splitlines()) == 2
    assert sorted(path.name for path in project.iterdir() if "all" in path.name) == ["all.csv"]


@pytest.mark.parametrize("format_", ["csv", "json", "jsonl"])
def test_no_ledger_moves_the_cursor(project: Path, format_: str) -> None:
    """On a terminal an export obeys nothing that a cloned repository has in its ledger."""
    line = {
        "timestamp": "2026-11-26T10:00:00Z", "agent_name": "\x1b[2J\x9b2J\u202e=cmd", "task_hash": "0", "success": True,
        "execution_time_ms": 1, "model": "\x1b]0;x\a", "input_tokens": 1, "output_tokens": 1, "total_tokens": 2,
        "estimated_cost": None,
    }  # fmt: skip
    (project / ".claude/metrics").mkdir()
    (project / ".claude/metrics/executions.jsonl").write_text(json.dumps(line) + "\n")
    ours, theirs = pty.openpty()
    command = ["claude-force", "analytics", "export", "--format", format_]
    subprocess.run(command, cwd=project, stdin=subprocess.DEVNULL, stdout=theirs, check=True, timeout=120)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    os.close(theirs)
    assert "2026-11-26" in shown
    assert not {"\x1b", "\x9b", "\u202e", "\a"} & set(shown)


def test_compare(run: Run, project: Path) -> None:
    """What got worse and not by chance is exit code 1."""
    row = {"success": True, "execution_time_ms": 1000, "estimated_cost": 0.01, "output_tokens": 100}
    (project / "a.json").write_text(json.dumps([row] * 100))
    (project / "b.json").write_text(json.dumps([row] * 80 + [row | {"success": False}] * 20))
    files = ("--baseline", "a.json", "--current", "b.json")
    worse = run("analytics", "compare", *files)
    assert worse.returncode == 1
    assert worse.stdout.splitlines()[0] == "success_rate\t1\t0.8\t-20.0%\t-28.9% to -12.4%\tpast the threshold"
    lenient = run("analytics", "compare", *files, "--threshold", "25", "--json")
    assert (lenient.returncode, json.loads(lenient.stdout)["past_threshold"]) == (0, [])
    assert run("analytics", "compare", "--baseline", "b.json", "--current", "a.json").returncode == 0, "better"
    (project / "b.json").write_text("[]")
    assert run("analytics", "compare", *files).returncode == 2
