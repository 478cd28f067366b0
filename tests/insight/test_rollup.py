"""Old lines become figures of days: totals stay, nothing is lost or counted twice, whenever it is killed."""

import fcntl
import gzip
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_force import MetricsError, PerformanceTracker
from claude_force.base.pricing import Prices
from claude_force.base.usage import Usage
from claude_force.insight.alerts import AlertReport
from claude_force.insight.anomalies import Finding, read_anomalies
from claude_force.insight.costs import ONLY_BY_DAY, Grouping, read_costs
from claude_force.insight.counting import Selected, Selection
from claude_force.insight.export import write_rows
from claude_force.insight.index import WORTH_BYTES
from claude_force.insight.ledger import Ledger
from claude_force.insight.report import read_report
from claude_force.insight.rollup import OldDetail, Rollup, roll_up
from claude_force.insight.summary import read_summary
from claude_force.insight.trends import Interval, read_trends
from tests.conftest import execution

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forked children do what is killed

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
NO_ALERTS = AlertReport(alerts=(), left_out=0, unreadable_lines=0)
OLD, NEW = NOW - timedelta(days=40), NOW - timedelta(days=2)


def rolled_up(path: Path, **options: Any) -> Rollup:
    """One that nobody else keeps from its work."""
    done = roll_up(path, now=NOW, **options)
    assert done is not None
    return done


def executions(path: Path) -> dict[str, int]:
    """How many each agent had."""
    summary = read_summary(path, Selection())
    assert summary.total.costs.executions == sum(figures.costs.executions for figures in summary.agents.values())
    return {name: figures.costs.executions for name, figures in summary.agents.items()}


def counted(path: Path) -> list[int]:
    """How many executions each way to read a ledger knows of."""
    report = read_report(path, Selection(), NO_ALERTS, now=NOW, days=60, zone=BERLIN)
    counts = [report.summary.total.costs.executions]
    daily, hourly = (
        read_trends(path, Selection(), interval=interval, until=NOW, days=60, zone=UTC)
        for interval in get_args(Interval)[::-1]
    )
    for found in (report.trends, daily, hourly):
        whole_days = found.only_by_day if found is hourly else 0
        counts.append(sum(figures.costs.executions for figures in found.intervals.values()) + whole_days)
    selected = Selected(path, Selection())
    counts.append(sum(map(len, selected)) + selected.only_by_day)
    return counts


def line(begun: datetime = NEW, **facts: Any) -> dict[str, Any]:
    """An execution, as the ledger has it."""
    usual = {"agent_name": "a", "success": True, "execution_time_ms": 1000.25, "model": "m", "input_tokens": 7}
    return {"timestamp": begun.isoformat(), **usual, "estimated_cost": 0.0000125, **facts}


def written(path: Path, lines: list[dict[str, Any] | str]) -> Path:
    """A ledger of these lines; text stands as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in lines))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of two agents, each with old and new lines, and some that nobody can read."""
    lines: list[dict[str, Any] | str] = ['{"torn']
    lines += [
        line((OLD, NEW)[number % 3 == 0] + timedelta(hours=number), agent_name="ab"[number % 2], n=number)
        for number in range(60)
    ]
    return written(tmp_path / "metrics/executions.jsonl", [*lines, "[]", "", "foreign"])


@pytest.mark.parametrize(
    "facts",
    [
        {"estimated_cost": "NaN"},
        {"saved_cost": "sNaN"},
        {"prompt_cache_saved": "-Infinity"},
        {"routing_saved": "1e999999"},
        {"estimated_cost": "-0.01"},
        {"input_tokens": 10**13},
        {"timestamp": "0001-01-01T00:00:00+14:00"},
        {"timestamp": "9999-12-31T23:59:59Z"},
    ],
    ids=str,
)
def test_a_line_that_would_spoil_all_figures_is_none(path: Path, facts: dict[str, Any]) -> None:
    """It is counted as unreadable, by those who sum up and by those who list, and stays where it is."""
    lines, bad = path.read_text(), json.dumps({**line(OLD), **facts}) + "\n"
    path.write_text(lines + "foreign\n")
    expected = answers(path)
    path.write_text(lines + bad)
    assert answers(path) == expected
    ledger = Ledger(path)
    assert (len(list(ledger.lines())), ledger.unreadable_lines) == (60, 4)
    rolled_up(path)
    assert answers(path) == expected
    assert path.read_text().endswith(bad)


# ---------------------------------------------------------------- the same figures, however they are kept

money = st.none() | st.integers(0, 10**9).map(lambda number: number / 10**7)
made = st.fixed_dictionaries(
    {
        "days_ago": st.floats(0, 3) | st.floats(25, 45),
        "execution_time_ms": st.sampled_from([0.0, 0.001, 812.5, 59_999.999, 3_600_000.0, 90_000_000.0])
        | st.floats(0, 9e4),
        "agent_name": st.sampled_from("abc"),
        "model": st.sampled_from(["m", "n", None]),
        "success": st.booleans(),
        "error_type": st.sampled_from([None, None, "ServerError", "Interrupted"]),
        "cached": st.booleans(),
        "simulated": st.sampled_from([False, False, False, True]),
        "estimated_cost": money,
        "saved_cost": money,
        "prompt_cache_saved": money,
        "batch_id": st.sampled_from([None, None, "b"]),
        "run_id": st.sampled_from([None, "r", "s"]),
        "input_tokens": st.integers(0, 10**6),
        "cache_read_tokens": st.integers(0, 99),
        "seconds_late": st.floats(0, 60),
        "garbage_after": st.sampled_from([None, None, None, "foreign", '{"timestamp":"2026-', "[1]", ""]),
    }
)


def ended_at(facts: dict[str, Any]) -> datetime:
    """When it did."""
    begun: datetime = NOW - timedelta(days=facts["days_ago"])
    return begun + timedelta(milliseconds=facts["execution_time_ms"])


def ledger_of(path: Path, facts: list[dict[str, Any]]) -> Path:
    """These executions, in about the order of their ends; enough bytes that an index is worth it."""
    padding = "x" * (WORTH_BYTES // len(facts) + 1)
    lines: list[tuple[datetime, list[dict[str, Any] | str]]] = []
    for number, each in enumerate(facts):
        begun = NOW - timedelta(days=each["days_ago"])
        kept = {name: value for name, value in each.items() if value is not None or name == "estimated_cost"}
        written_at = ended_at(each) + timedelta(seconds=kept.pop("seconds_late"))
        garbage = kept.pop("garbage_after", None)
        own: list[dict[str, Any] | str] = [line(begun, **kept, number=number, padding=padding)]
        lines.append((written_at, own if garbage is None else [*own, garbage]))
    lines.sort(key=lambda pair: pair[0])
    return written(path, [each for _, own in lines for each in own])


def reported(path: Path, selection: Selection) -> list[object]:
    """The figures of a report, which are those of the summary, and its chart."""
    days = 50.0 if selection.since is None else (NOW - selection.since) / timedelta(days=1)
    report = read_report(path, selection, NO_ALERTS, now=NOW, days=days, zone=UTC)
    summary = read_summary(path, msgspec.structs.replace(selection, since=NOW - timedelta(days=days)))
    total, agents, models = report.summary.total, report.summary.agents, report.summary.models
    assert (total, agents, models) == (summary.total, summary.agents, summary.models)
    return [total, agents, models, report.trends.intervals]


def answers(path: Path, *, since: datetime | None = None) -> list[object]:
    """What is said about a ledger."""
    found = reported(path, Selection(since=since))
    for simulated in (False, True):
        for agent in (None, "a"):
            selection = Selection(since=since, agent=agent, simulated=simulated)
            found.append(read_summary(path, selection))
            found.append(read_trends(path, selection, interval="daily", until=NOW, days=50, zone=UTC))
            found += [read_costs(path, selection, by=by, zone=UTC) for by in (None, "agent", "day")]
    return found


@settings(max_examples=12)
@given(st.lists(made, min_size=4, max_size=30), st.sampled_from(get_args(OldDetail)))
def test_figures_are_the_same_however_they_are_kept(
    tmp_path_factory: pytest.TempPathFactory, facts: list[dict[str, Any]], old_detail: OldDetail
) -> None:
    """Read anew, from the index, and from days and archives: equal to the digit."""
    path = ledger_of(tmp_path_factory.mktemp("m") / "executions.jsonl", facts)
    since = NOW - timedelta(days=1, hours=5)
    first, recent = answers(path), answers(path, since=since)
    for start in (None, since, NOW.replace(hour=0), NOW.replace(hour=0) - timedelta(days=2)):
        own = [each for each in facts if not each["simulated"] and (start is None or ended_at(each) >= start)]
        costs = read_summary(path, Selection(since=start)).total.costs
        assert costs.executions == len(own)
        assert costs.cost_usd == sum(Decimal(str(each["estimated_cost"] or 0)) for each in own)
    assert path.with_name("index.json").exists()
    assert answers(path) == first, "by the index"
    by_run = [
        read_costs(path, Selection(), by=by, prices=prices) for by in get_args(Grouping) for prices in (None, Prices())
    ]
    one_run = read_summary(path, Selection(run="r"))
    done = rolled_up(path, old_detail=old_detail)
    assert answers(path) == first, "by the days"
    assert answers(path, since=since) == recent
    if old_detail == "compress":
        assert by_run == [
            read_costs(path, Selection(), by=by, prices=prices)
            for by in get_args(Grouping)
            for prices in (None, Prices())
        ]
        assert read_summary(path, Selection(run="r")) == one_run
    assert rolled_up(path, old_detail=old_detail).lines == 0, "there is nothing left"
    again = read_costs(path, Selection(), by="step")
    assert again.total == read_costs(path, Selection()).total
    assert (ONLY_BY_DAY in again.groups) == (old_detail == "drop" and again.only_by_day > 0)
    assert again.only_by_day <= done.lines


def test_what_is_left(path: Path) -> None:
    """New lines and those that nobody can read stay as they are, byte for byte; the days have the promised figures."""
    before = path.read_text().splitlines()
    done = rolled_up(path)
    assert (done.lines, done.days) == (40, 3)
    new = [text for text in before if "timestamp" in text and json.loads(text)["timestamp"] >= NEW.isoformat()]
    assert path.read_text().splitlines() == ['{"torn', *new, "[]", "", "foreign"]
    header, *days = map(json.loads, path.with_name("daily.jsonl").read_text().splitlines())
    assert (header["format"], header["days"]) == (1, 3)
    assert [day["date"] for day in days] == ["2026-10-17", "2026-10-18", "2026-10-19"]
    (first, *_) = days
    assert first["executions"] == first["success"] == sum(agent["executions"] for agent in first["agents"].values())
    assert first["total_time_ms"] == first["executions"] * 1000.25
    assert first["total_tokens"] == first["executions"] * 7
    assert path.with_name("daily.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_realistic_month_is_a_tenth(tmp_path: Path) -> None:
    """Of 100 executions a day of 8 agents, the figures take less than a fifth of the room; with all detail, a half."""
    dice = random.Random(7)  # noqa: S311 - the same month each time
    tracker = PerformanceTracker(tmp_path)
    for number in range(3_000):
        usage = Usage(input_tokens=dice.randrange(9_000), output_tokens=dice.randrange(2_000))
        tracker.record(
            execution(
                timestamp=NOW - timedelta(days=62) + timedelta(minutes=14.4 * number),
                agent_name=f"agent-{dice.randrange(8)}",
                task=str(number),
                model=dice.choice(["claude-haiku-5-5", "claude-sonnet-5-5"]),
                duration_ms=dice.lognormvariate(8.5, 0.7),
                usage=usage,
                cost_usd=Decimal(dice.randrange(10**6)) / 10**7,
                stop_reason="end_turn",
                request_id=f"req_{dice.getrandbits(90):x}",
            )
        )
    shares = [rolled_up(tracker.path, dry_run=True, old_detail=kind).saved_share for kind in get_args(OldDetail)]
    assert shares[0] > 0.8
    assert rolled_up(tracker.path).saved_share == pytest.approx(shares[0], abs=0.001)
    assert shares[1] > 0.5


def test_what_needs_lines_that_are_gone_says_so(path: Path) -> None:
    """Figures of a whole day are given, and how many of them were not asked for in full is said."""
    rolled_up(path)
    by_step = read_costs(path, Selection(), by="step")
    assert (by_step.groups[ONLY_BY_DAY].executions, by_step.only_by_day) == (40, 40)
    of_run = read_summary(path, Selection(run="r"))
    assert (of_run.total.costs.executions, of_run.only_by_day) == (0, 40)
    since = read_summary(path, Selection(since=OLD + timedelta(days=1)))
    assert 0 < since.only_by_day < 40
    for begun in (NEW, OLD.replace(hour=0)):
        assert read_summary(path, Selection(since=begun)).only_by_day == 0


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_rolled_days_in_other_zones(path: Path, zone: str) -> None:
    """They stay days of UTC, on the date that they have there, and how many count so is said; hours have none."""
    by_day = Counter(re.findall(r'"timestamp": "(.{10})', path.read_text()))
    rolled_up(path)
    found = read_trends(path, Selection(), interval="daily", until=NOW, days=60, zone=ZoneInfo(zone))
    shown = {f"{begin.astimezone(ZoneInfo(zone)):%Y-%m-%d}": day for begin, day in found.intervals.items()}
    old = {day: executions for day, executions in by_day.items() if day < NEW.date().isoformat()}
    assert {day: shown[day].costs.executions for day in old} == old
    assert found.only_by_day == sum(old.values()) == 40
    of_run = read_trends(path, Selection(run="r"), interval="daily", until=NOW, days=60, zone=UTC)
    assert (sum(day.costs.executions for day in of_run.intervals.values()), of_run.only_by_day) == (0, 40)


def test_lines_of_archives_are_read_with_those_of_the_ledger(tmp_path: Path) -> None:
    """Export and anomalies have them in their order; of an archive that is gone, it is said how many are missing."""
    begun = [(OLD, NEW)[number >= 60] + timedelta(minutes=number) for number in range(80)]
    lines = [line(at, execution_time_ms=1000 + 90_000 * (n in {50, 70}), n=n) for n, at in enumerate(begun)]
    path = written(tmp_path / "executions.jsonl", [*lines])

    def read(since: datetime | None = None) -> tuple[bytes, list[Finding], int]:
        sink, selected = io.BytesIO(), Selected(path, Selection(since=since))
        write_rows(itertools.chain.from_iterable(selected), sink, "jsonl")
        return sink.getvalue(), read_anomalies(path, Selection(since=since)).findings, selected.only_by_day

    before, later = read(), read(begun[50])
    assert [finding.kind for finding in before[1]] == ["spike", "spike"]
    assert later[0].count(b"\n") == 30
    rolled_up(path, old_detail="compress")
    assert (read(), read(begun[50])) == (before, later)
    roll_up(path, now=NOW + timedelta(days=60), old_detail="compress")
    assert (path.read_bytes(), read()) == (b"", before), "two archives"
    (archive,) = (
        each for each in path.parent.glob("archive/*.gz") if gzip.decompress(each.read_bytes()).count(b"\n") == 60
    )
    archive.unlink()
    assert (read()[0].count(b"\n"), *read()[1:]) == (20, [], 60)
    assert read_anomalies(path, Selection()).only_by_day == 60
    assert read(NEW)[2] == 0


def test_an_archive_that_was_removed_is_done_without(path: Path) -> None:
    """Its days are still known; one that is damaged is named."""
    rolled_up(path, old_detail="compress")
    (archive,) = path.parent.glob("archive/*.gz")
    assert read_costs(path, Selection(), by="step").only_by_day == 0
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(MetricsError, match=rf"{archive.name}' is damaged"):
        read_costs(path, Selection(), by="step")
    archive.unlink()
    assert read_costs(path, Selection(), by="step").only_by_day == 40


def test_lines_that_come_with_an_old_time_are_rolled_up_next(path: Path) -> None:
    """As of a clock that was set, or an execution that was made elsewhere: they join their days."""
    rolled_up(path)
    tracker = PerformanceTracker(path.parent)
    before = executions(path)["a"]
    with path.open("a") as file:
        file.write(json.dumps(line(OLD, late=1)) + "\n")
    tracker.track_execution("a", "x", success=True, execution_time_ms=1)
    assert executions(path)["a"] == before + 2
    assert rolled_up(path).lines == 1
    tracker.track_execution("a", "x", success=True, execution_time_ms=1)  # its file has another inode now
    assert executions(path)["a"] == before + 3


# ---------------------------------------------------------------- trouble


def in_child(work: Callable[[], object]) -> multiprocessing.process.BaseProcess:
    """A forked process that does this."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    return child


@pytest.mark.parametrize("old_detail", get_args(OldDetail))
def test_killed_at_any_step_it_loses_and_doubles_nothing(path: Path, old_detail: OldDetail) -> None:
    """A rollup that is killed before each file that it opens, renames or removes; then read, written, rolled up."""
    lines, before = path.read_bytes(), executions(path)
    for step in range(1, 1000):
        for leftover in path.parent.rglob("*"):
            if leftover.is_file():
                leftover.unlink()
        path.write_bytes(lines)

        def work(step: int = step) -> None:
            seen = [0]

            def count(event: str, _: object) -> None:
                if event in {"open", "os.rename", "os.remove", "os.truncate", "os.mkdir"}:
                    seen[0] += 1
                    if seen[0] == step:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(count)
            rolled_up(path, old_detail=old_detail)

        child = in_child(work)
        child.join(120)
        assert executions(path) == before, f"after step {step}"
        assert counted(path) == [60] * 5, f"after step {step}"
        PerformanceTracker(path.parent).track_execution("c", "x", success=True, execution_time_ms=1)
        rolled_up(path, old_detail=old_detail)
        assert executions(path) == before | {"c": 1}, f"rolled up after step {step}"
        assert path.read_text().count("timestamp") == 21
        assert [each.name for each in path.parent.iterdir() if each.name.startswith(".executions")] == []
        assert len(list(path.parent.glob("archive/*.gz"))) == (old_detail == "compress")
        if child.exitcode == 0:
            assert step > 8
            return
        assert child.exitcode == -signal.SIGKILL
    raise AssertionError("it never came to its end")


def write(path: Path, number: int, counts: Any, stop: Any) -> None:
    """Executions old and new, until somebody says that it is enough; each counts once it is written."""
    tracker = PerformanceTracker(path.parent)
    while (
        not stop.wait(0.005) and counts[number] < 2_000
    ):  # not as fast as it goes: rollups have to come to an end, too
        tracker.record(
            execution(
                timestamp=(OLD if counts[number] % 4 else NEW) + timedelta(seconds=counts[number]),
                agent_name=f"agent-{number}",
                task=str(counts[number]),
                duration_ms=1.0,
                cost_usd=Decimal(1),
            )
        )
        counts[number] += 1


def test_eight_processes_write_while_a_rollup_is_killed_at_random(tmp_path: Path) -> None:
    """At the end every execution is counted exactly once; and at any time no fewer than were there before."""
    path, dice = tmp_path / "executions.jsonl", random.Random(11)  # noqa: S311 - moments, not secrets
    context = multiprocessing.get_context("fork")
    counts, stop = context.Array("q", 8, lock=False), context.Event()
    path.touch()
    writers = [in_child(partial(write, path, number, counts, stop)) for number in range(8)]

    def roll_on() -> None:
        while True:
            roll_up(path, now=NOW, old_detail=dice.choice(get_args(OldDetail)))

    kills = exchanges = 0
    while kills < 25 or (exchanges < 4 and kills < 200):  # a busy machine needs more of them, and longer ones
        before = path.stat().st_ino
        known = list(counts)
        found = executions(path)
        assert all(found.get(f"agent-{number}", 0) >= known[number] for number in range(8))
        child = in_child(roll_on)
        child.join(dice.random() / 4 * (1 + kills / 25))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        exchanges += path.stat().st_ino != before
        kills += 1
    stop.set()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0] * 8
    assert exchanges, "they have exchanged it while others wrote"
    rolled_up(path)
    expected = {f"agent-{number}": counts[number] for number in range(8)}
    assert executions(path) == expected
    assert read_costs(path, Selection()).total.cost_usd == sum(counts)
    assert path.read_text().count(OLD.strftime('"%Y-%m')) == 0


def test_who_gave_up_the_lock_is_not_forgotten(path: Path) -> None:
    """A line that comes without the lock in the moment of the exchange is taken over into the new ledger."""

    def work() -> None:
        def intrude(event: str, facts: tuple[Any, ...]) -> None:
            if event == "os.rename" and Path(facts[1]) == path:
                file = os.open(path, os.O_WRONLY | os.O_APPEND)
                os.write(file, json.dumps(line(agent_name="late")).encode() + b"\n")
                os.close(file)

        sys.addaudithook(intrude)
        rolled_up(path)

    child = in_child(work)
    child.join(120)
    assert child.exitcode == 0
    assert executions(path)["late"] == 1
    assert path.read_text().count("timestamp") == 21


def test_a_rollup_that_is_stopped_holds_up_no_answer(path: Path) -> None:
    """With the lock in its hands, in the moment of the exchange; what was written meanwhile is not lost."""
    before = executions(path)
    tracker = PerformanceTracker(path.parent)

    def work() -> None:
        def stop(event: str, facts: tuple[Any, ...]) -> None:
            if event == "os.rename" and Path(facts[1]) == path:
                os.kill(os.getpid(), signal.SIGSTOP)

        sys.addaudithook(stop)
        rolled_up(path)

    child = in_child(work)
    assert child.pid is not None
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    try:
        assert os.WIFSTOPPED(status)
        assert not lock_is_free(path)
        writer = in_child(partial(tracker.track_execution, "c", "x", success=True, execution_time_ms=1))
        writer.join(120)
        assert writer.exitcode == 0, "it waits for nobody longer than a second"
        assert executions(path) == before | {"c": 1}
    finally:
        os.kill(child.pid, signal.SIGCONT)
    child.join(120)
    assert child.exitcode == 0
    assert executions(path) == before | {"c": 1}
    assert path.read_text().count("timestamp") == 21


def lock_is_free(path: Path) -> bool:
    """Whether nobody holds the ledger."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_full_disk_costs_nothing(path: Path) -> None:
    """Wherever it is full, the rollup fails, and what is there is read as before; with room, it is made up for."""
    before = executions(path)
    for room in (0, 200, 1_000, 2_000, 4_000):

        def work(room: int = room) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
            with suppress(OSError):
                rolled_up(path)
                os._exit(3)

        child = in_child(work)
        child.join(120)
        assert child.exitcode in {0, 3}
        assert executions(path) == before
        assert [each.name for each in path.parent.iterdir() if each.name.startswith(".")] == []
    rolled_up(path)
    assert executions(path) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[: len(text) // 2], "is damaged"),
        (lambda text: text.rsplit("\n", 2)[0], "it has 2 days, of 3"),
        (lambda text: "torn" + text, "is damaged"),
        (lambda text: text.replace('"format":1', '"format":2'), "of a newer claude-force: its format is 2"),
        (lambda _: "", "is damaged"),
        (lambda text: text + '{"x":' + "[" * 100_000, "is damaged"),
        (lambda text: text.replace('"cost_usd":', '"cost_usd":"NaN","x":', 1), "it has a sum of money that is none"),
        (lambda text: text.replace('"date":', '"archive":"../../mine.gz","date":', 1), "is damaged"),
        (lambda text: text.replace('"times_ms":{', '"times_ms":{"31000":1,', 1), "is damaged"),
        (lambda text: text.replace('"times_ms":{', '"no_times":-99,"times_ms":{', 1), "is damaged"),
    ],
    ids=["half", "a day less", "no header", "newer", "empty", "deep", "no money", "no archive", "no time", "no count"],
)
def test_days_that_cannot_be_believed(path: Path, change: Callable[[str], str], said: str) -> None:
    """Nothing is guessed and nothing overwritten; executions are still written down."""
    rolled_up(path)
    daily = path.with_name("daily.jsonl")
    daily.write_text(change(daily.read_text()))
    broken = daily.read_text()
    for ask in (
        lambda: read_summary(path, Selection()),
        lambda: read_costs(path, Selection()),
        lambda: rolled_up(path),
    ):
        with pytest.raises(MetricsError, match=said):
            ask()
    assert daily.read_text() == broken
    size = path.stat().st_size
    PerformanceTracker(path.parent).track_execution("a", "x", success=True, execution_time_ms=1)
    assert path.stat().st_size > size


def test_what_a_cloned_repository_has_brought_along_takes_no_line_away(path: Path) -> None:
    """Days that would have swallowed whatever is written later, and an index that would be of any ledger."""
    old = json.dumps(line(OLD))
    written(path, [old])
    digest, last = hashlib.sha256(old.encode()).hexdigest(), hashlib.sha256(path.read_bytes()).hexdigest()
    for length in (path.stat().st_size + 100, 10**12):
        header = {"format": 1, "days": 0, "cutoff": "9999-12-31", "length": length, "offset": 0, "sha256": digest}
        path.with_name("daily.jsonl").write_text(json.dumps({**header, "last_sha256": last}) + "\n")
        assert executions(written(path, [old, line(), line()])) == {"a": 3}
        assert rolled_up(path).lines == 1
        assert executions(path) == {"a": 3}
    path.with_name("daily.jsonl").unlink()
    mark = hashlib.sha256(b"{").hexdigest()
    cell = {"agent": "made up", "costs": {"executions": 5, "cost_usd": 1000}}
    day = {"date": "2026-11-01", "start": 0, "end": 1, "cells": [cell]}
    index = {"format": 2, "length": 1, "first_sha256": mark, "last_sha256": mark, "unreadable_lines": 0, "days": [day]}
    path.with_name("index.json").write_text(json.dumps(index))
    assert executions(path) == {"a": 2}


def test_one_at_a_time(path: Path) -> None:
    """A second one leaves it to the first; a rehearsal disturbs nobody."""
    with path.with_name("rollup.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert roll_up(path, now=NOW) is None
        assert rolled_up(path, dry_run=True).lines == 40
    assert rolled_up(path).lines == 40


def test_an_index_that_cannot_be_believed_is_passed_over(tmp_path: Path) -> None:
    """Damaged, of another ledger, or in a folder that nobody may write to: figures are those of the lines."""
    path = written(tmp_path / "executions.jsonl", [line(number=n, padding="x" * 30_000) for n in range(80)])
    index = tmp_path / "index.json"
    assert executions(path) == {"a": 80}
    kept = index.read_text()
    for broken in ("", "{", "[]", kept[:-9], kept.replace('"format":2', '"format":1')):
        index.write_text(broken)
        assert executions(path) == {"a": 80}
        assert index.read_text() == kept
    written(path, [line(agent_name="b", number=n, padding="x" * 30_000) for n in range(80)])
    assert executions(path) == {"b": 80}
    index.unlink()
    index.symlink_to(tmp_path / "mine")
    assert executions(path) == {"b": 80}
    assert not (tmp_path / "mine").exists()
