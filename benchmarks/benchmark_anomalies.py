"""How often anomalies are found, and how often they are false: `benchmark_anomalies.py [SEEDS]`, by default 5 a kind.

On what series, and beside which other ways: `scenarios/anomalies.py`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from scenarios import anomalies


def main() -> None:
    """Measure and print."""
    for figure, value in anomalies.run(int(sys.argv[1]) if sys.argv[1:] else 5).items():
        print(f"{figure:<64} {value:>8.2f}")


if __name__ == "__main__":
    main()
