"""What a mixed day costs with each saving alone and with all of them: `benchmark_cost.py`. Takes some minutes.

How the day is made, and what is not in its bill: `scenarios/cost.py`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from scenarios import cost


def main() -> None:
    """Replay and print."""
    for figure, value in cost.run(1).items():
        print(f"{figure:<64} {value:>8.2f}")


if __name__ == "__main__":
    main()
