"""The files of the page: what of them others wrote is as they wrote it, and what we wrote leaves no door open."""

import hashlib
from importlib.resources import files
from pathlib import Path

PAGE = Path(str(files("claude_force"))) / "apps/dashboard/page"
VENDOR = PAGE / "vendor"


def test_vendored_files_are_those_that_were_published() -> None:
    """Each has the sum that is written beside it, and its licence; `sha256sum -c` says the same."""
    sums = dict(line.split("  ")[::-1] for line in (VENDOR / "SHA256SUMS").read_text().splitlines())
    there = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir()}
    del there["SHA256SUMS"], there["README.md"]
    assert there == sums
    assert {name.partition(".")[0] for name in sums} == {path.stem for path in VENDOR.glob("*.LICENSE")}
