"""What a server takes with 200 pages open and 50 events a second: `benchmark_serve.py`. Takes half a minute.

What is measured, and how: `scenarios/pages.py`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from scenarios import pages


def main() -> None:
    """Measure and print."""
    for figure, value in pages.run(1).items():
        print(f"{figure:<64} {value:>8.2f}")


if __name__ == "__main__":
    main()
