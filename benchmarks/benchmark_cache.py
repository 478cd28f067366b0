"""The response cache beside its peers: `benchmark_cache.py [--iterations N] [--entries N] [--crash ROUNDS]`.

Peers are measured where they are installed: `pip install cachetools diskcache langchain-community`. Ratios within one
run hold, absolute times drift with the machine. `--crash` also kills two writing processes so many times.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(Path(__file__).parent))
from scenarios import cache  # noqa: E402 - found there


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--iterations", type=int, default=20, help="measurements of each figure (default: 20)")
    parser.add_argument("--entries", type=int, default=100_000, help="of the large cache (default: 100,000)")
    parser.add_argument("--crash", type=int, default=0, metavar="ROUNDS", help="also the crash test (default: no)")
    options = parser.parse_args()
    figures = cache.measure(options.iterations, options.entries)
    for figure, value in figures.items():
        ours = figures[figure.rpartition(": ")[0] + ": claude_force"]
        ratio = f"{value / ours:>8.2f} x ours" if value and ours else ""
        print(f"{figure:<66} {'not installed' if value is None else f'{value:13,.2f}'} {ratio}")
    if options.crash:
        test = "tests/test_response_cache.py::test_kill_9_at_any_moment"
        environment = {**os.environ, "CLAUDE_FORCE_CRASH_ROUNDS": str(options.crash)}
        command = [sys.executable, "-m", "pytest", "-q", "-n0", test]
        sys.exit(subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
