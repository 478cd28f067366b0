"""What it costs to write an execution down, beside a bare append of a line of the same length."""

import os
import tempfile
from pathlib import Path

from claude_force import PerformanceTracker
from scenarios import medians_in_turn

LINES = 200


def run(iterations: int) -> dict[str, float]:
    """Microseconds a line, one process."""
    with tempfile.TemporaryDirectory() as folder:
        tracker = PerformanceTracker(folder)
        bare = Path(folder) / "bare.jsonl"

        def record() -> None:
            for _ in range(LINES):
                tracker.track_execution("linter", "check it", success=True, execution_time_ms=812.5, model="haiku")

        def append() -> None:
            line = b"x" * 299 + b"\n"
            for _ in range(LINES):
                file = os.open(bare, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                os.write(file, line)
                os.close(file)

        seconds = medians_in_turn(iterations, record=record, append=append)
    return {
        "record, microseconds a line": seconds["record"] / LINES * 1e6,
        "bare open-append-close, microseconds a line": seconds["append"] / LINES * 1e6,
        "record over bare append": seconds["record"] / seconds["append"],
    }
