"""The memory's search for similar sessions: `benchmark_query_cache.py [--iterations N] [--sessions N]`.

Each session is stored as any other, some milliseconds each, so 100,000 take minutes; `TMPDIR=/dev/shm` saves what the
disk has of it. Ratios within one run hold, absolute times drift with the machine.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from scenarios import query


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--iterations", type=int, default=200, help="different questions (default: 200)")
    parser.add_argument("--sessions", type=int, default=100_000, help="in the memory (default: 100,000)")
    options = parser.parse_args()
    for figure, value in query.measure(options.iterations, options.sessions).items():
        print(f"{figure:<52} {value:>13,.2f}")


if __name__ == "__main__":
    main()
