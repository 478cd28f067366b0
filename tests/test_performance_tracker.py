"""The ledger: one line per execution, none lost, none torn, and never at the cost of an answer."""

import hashlib
import json
import logging
import multiprocessing
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from claude_force.base.errors import BatchError
from claude_force.base.records import Execution
from claude_force.base.usage import Usage
from claude_force.performance_tracker import PerformanceTracker


def execution(**facts: Any) -> Execution:
    """One execution as a turn reports it."""
    defaults: dict[str, Any] = {
        "timestamp": datetime(2026, 11, 20, 12, 0, tzinfo=UTC),
        "agent_name": "linter",
        "task": "check it",
        "model": "claude-sonnet-5-5",
        "success": True,
        "duration_ms": 812.5,
        "attempts": 1,
        "usage": Usage(input_tokens=10, output_tokens=5, cache_read_tokens=3, cache_write_1h_tokens=2),
        "cost_usd": Decimal("0.00001225"),
    }
    return Execution(**(defaults | facts))


def lines(tracker: PerformanceTracker) -> list[dict[str, Any]]:
    """What is written, with money as it stands there."""
    return [json.loads(line, parse_float=Decimal) for line in tracker.path.read_text().splitlines()]


def test_the_line_of_an_execution(tmp_path: Path) -> None:
    """Every promised field is there, money exactly, and what says nothing is left out."""
    tracker = PerformanceTracker(tmp_path / "metrics")
    tracker.record(execution())
    assert lines(tracker) == [
        {
            "timestamp": "2026-11-20T12:00:00Z",
            "agent_name": "linter",
            "task_hash": hashlib.sha256(b"check it").hexdigest()[:8],
            "success": True,
            "execution_time_ms": Decimal("812.5"),
            "model": "claude-sonnet-5-5",
            "input_tokens": 10,
            "output_tokens": 5,
            "total_tokens": 20,
            "estimated_cost": Decimal("0.00001225"),
            "cache_read_tokens": 3,
            "cache_write_tokens": 2,
            "cache_write_1h_tokens": 2,
        }
    ]


def test_a_failure_is_written_as_one(tmp_path: Path) -> None:
    """A failed turn has its error's name, its attempts, and null for a price that is not known."""
    tracker = PerformanceTracker(tmp_path)
    tracker.record(execution(success=False, error_type="OverloadedError", attempts=4, usage=None, cost_usd=None))
    (line,) = lines(tracker)
    assert (line["success"], line["error_type"], line["attempts"], line["estimated_cost"]) == (
        False,
        "OverloadedError",
        4,
        None,
    )


def test_the_task_itself_is_not_kept(tmp_path: Path) -> None:
    """The ledger holds a hash of the task, equal for equal tasks, and no word of it."""
    tracker = PerformanceTracker(tmp_path)
    for task in ("a secret plan", "a secret plan", "another"):
        tracker.track_execution("linter", task, success=True, execution_time_ms=1)
    hashes = [line["task_hash"] for line in lines(tracker)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert "secret" not in tracker.path.read_text()


def test_only_the_user_may_read_it(tmp_path: Path) -> None:
    """The file is 0600 and its folder 0700."""
    tracker = PerformanceTracker(tmp_path / "metrics")
    tracker.record(execution())
    assert stat.S_IMODE(tracker.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(tracker.path.parent.stat().st_mode) == 0o700


WRITER = """
import sys
from claude_force.performance_tracker import PerformanceTracker
tracker = PerformanceTracker(sys.argv[1])
for number in range(500):
    tracker.track_execution(f"agent-{sys.argv[2]}", "x" * 50, success=True, execution_time_ms=number, model="m" * 300)
"""


@pytest.mark.usefixtures("_from_nursery")
def test_eight_processes_lose_and_tear_nothing(tmp_path: Path) -> None:
    """Eight processes write 500 lines each at once: 4,000 whole lines are there, in each writer's own order."""
    command = ["quick-python", "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(number)]) for number in range(8)]
    assert [writer.wait() for writer in writers] == [0] * 8
    written = lines(PerformanceTracker(tmp_path))
    assert len(written) == 4000
    for number in range(8):
        own = [line["execution_time_ms"] for line in written if line["agent_name"] == f"agent-{number}"]
        assert own == list(range(500))


def test_a_torn_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    """After a crash or a full disk cut a line, the next one starts on a line of its own."""
    tracker = PerformanceTracker(tmp_path)
    tracker.path.write_text('{"timestamp": "2026-')
    tracker.record(execution())
    torn, whole = tracker.path.read_text().splitlines()
    assert torn == '{"timestamp": "2026-'
    assert json.loads(whole)["agent_name"] == "linter"


FULL = """
import resource, sys
from claude_force.performance_tracker import PerformanceTracker
tracker = PerformanceTracker(sys.argv[1])
tracker.track_execution("linter", "x", success=True, execution_time_ms=1)
size = tracker.path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, size + 50))
tracker.track_execution("linter", "y", success=True, execution_time_ms=1)
tracker.track_execution("linter", "z", success=True, execution_time_ms=1)
print(tracker.path.stat().st_size == size)
"""


def test_a_full_disk_costs_no_answer(tmp_path: Path) -> None:
    """Where a line does not fit, no part of it stays, it is said once, and nothing is raised."""
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    assert done.stderr.count("executions are not written down") == 1
    assert len(lines(PerformanceTracker(tmp_path))) == 1


def test_the_ledger_follows_no_link(tmp_path: Path) -> None:
    """A repository cannot have us append to another file of the user's."""
    mine = tmp_path / "mine"
    mine.write_text("precious")
    (tmp_path / "executions.jsonl").symlink_to(mine)
    PerformanceTracker(tmp_path).record(execution())
    assert mine.read_text() == "precious"


def test_what_keeps_no_line_is_no_ledger(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A pipe in its place is said, and not waited for: by who writes a line, and by who asks for those of a batch."""
    tracker = PerformanceTracker(tmp_path)
    os.mkfifo(tracker.path)
    tracker.record(execution())
    assert "executions are not written down" in caplog.text
    with pytest.raises(BatchError, match="it is no regular file"):
        tracker.batch_entries("b")


def test_a_folder_that_cannot_be_made_costs_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file where the folder should be is no reason to fail."""
    (tmp_path / "metrics").write_text("in the way")
    with caplog.at_level(logging.WARNING, "claude_force"):
        PerformanceTracker(tmp_path / "metrics" / "deep").record(execution())
    assert "executions are not written down" in caplog.text


def test_switched_off_it_writes_nothing(tmp_path: Path) -> None:
    """`tracking.enabled: false` leaves no trace."""
    tracker = PerformanceTracker(tmp_path / "metrics", enabled=False)
    tracker.record(execution())
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_moved_away_gets_no_more_lines(tmp_path: Path) -> None:
    """Who moves the ledger, or deletes it, keeps what they have; the next line begins a new one."""
    tracker = PerformanceTracker(tmp_path)
    tracker.track_execution("a", "x", success=True, execution_time_ms=1)
    tracker.path.rename(tmp_path / "old.jsonl")
    tracker.track_execution("b", "x", success=True, execution_time_ms=1)
    tracker.path.unlink()
    tracker.track_execution("c", "x", success=True, execution_time_ms=1)
    assert [path.read_text().count("agent_name") for path in (tmp_path / "old.jsonl", tracker.path)] == [1, 1]
    assert '"c"' in tracker.path.read_text()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forking is what this is about
def test_a_ledger_that_comes_back_gets_its_lines_and_no_other_file_does(tmp_path: Path) -> None:
    """While the name was a link, the system gave the number of our closed file to another one."""
    tracker = PerformanceTracker(tmp_path)
    tracker.record(execution())
    tracker.path.rename(tmp_path / "away")
    tracker.path.symlink_to(tmp_path / "elsewhere")
    tracker.record(execution())  # refused
    with (tmp_path / "other").open("wb"):
        tracker.path.unlink()
        (tmp_path / "away").rename(tracker.path)
        tracker.record(execution())
    assert (tmp_path / "other").read_bytes() == b""
    assert len(lines(tracker)) == 2


def test_threads_and_a_forked_child_share_the_file(tmp_path: Path) -> None:
    """An open file is shared by threads and children, and still no line is lost or torn."""
    tracker = PerformanceTracker(tmp_path)

    def write(_: int) -> None:
        for _ in range(100):
            tracker.track_execution("a", "x" * 100, success=True, execution_time_ms=1)

    write(0)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=write, args=(0,)) for _ in range(3)]
    for child in children:
        child.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    for child in children:
        child.join()
    lines = tracker.path.read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 800


def test_a_child_that_is_forked_while_a_thread_writes_can_write(tmp_path: Path) -> None:
    """The thread that had the lock is not in the child."""
    tracker = PerformanceTracker(tmp_path)
    is_over = threading.Event()

    def write() -> None:
        while not is_over.is_set():
            tracker.record(execution())

    context = multiprocessing.get_context("fork")
    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write) for _ in range(2)]
        children = [context.Process(target=tracker.record, args=(execution(),)) for _ in range(5)]
        for child in children:
            child.start()
        for child in children:
            child.join(3)
        is_over.set()
    for child in children:
        child.kill()
        child.join()
    assert [writer.result() for writer in writers] == [None, None]
    assert [child.exitcode for child in children] == [0] * 5


def test_a_planted_line_holds_up_no_batch(tmp_path: Path) -> None:
    """A line that is nested too deeply is none of ours, as one that a crash has cut."""
    tracker = PerformanceTracker(tmp_path)
    tracker.path.write_text('{"batch_id": "b", "x": ' + "[" * 100_000 + '\n{"batch_id": "b", "request_id": "one"}\n')
    assert tracker.batch_entries("b") == {"one"}
