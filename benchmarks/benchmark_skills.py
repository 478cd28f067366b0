"""What choosing skills by task saves, and whether a needed one is missing: `benchmark_skills.py`.

How it is measured: `scenarios/skills.py`; what the labels are worth: `skills/README.md`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from scenarios import skills


def main() -> None:
    """Measure and print."""
    for figure, value in skills.run(5).items():
        print(f"{figure:<64} {value:>8.2f}")


if __name__ == "__main__":
    main()
