"""What it costs to write an execution down, beside a bare append of a line of the same length.

The bare append, with the file open or opened for it, keeps no promise: it neither locks nor notices a torn line, a full
disk or a file that was moved away, and its line is there already.
"""

import os
import tempfile
from pathlib import Path

from claude_force import PerformanceTracker
from results import Figure, measured, ratio
from scenarios import in_turn

LINES = 200


def run(iterations: int) -> dict[str, Figure]:
    """Microseconds a line, one process."""
    with tempfile.TemporaryDirectory() as folder:
        tracker = PerformanceTracker(folder)
        bare = Path(folder) / "bare.jsonl"

        def record() -> None:
            for _ in range(LINES):
                tracker.track_execution("linter", "check it", success=True, execution_time_ms=812.5, model="haiku")

        record()
        line = b"x" * (tracker.path.stat().st_size // LINES - 1) + b"\n"

        def append() -> None:
            for _ in range(LINES):
                file = os.open(bare, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                os.write(file, line)
                os.close(file)

        with bare.open("ab", buffering=0) as file:
            subjects = {"record": record, "append": append, "write": lambda: [file.write(line) for _ in range(LINES)]}
            seconds = in_turn(iterations, **subjects)
    names = {"record": "record", "append": "bare open-append-close", "write": "bare write to an open file"}
    return {
        f"microseconds a line: {names[name]}": measured([one / LINES * 1e6 for one in times])
        for name, times in seconds.items()
    } | {"record over bare append": ratio(seconds["record"], seconds["append"])}
