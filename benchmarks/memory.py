"""What this process holds in memory, as Linux tells it in /proc.

`getrusage` tells the peak as well, but a new process inherits there the peak of the one that started it.
"""

from pathlib import Path


def resident_mb() -> float:
    """What it holds now."""
    return _status("VmRSS:")


def peak_mb() -> float:
    """The most that it ever held."""
    return _status("VmHWM:")


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
