"""How well and how fast an agent is chosen: `benchmark_selection.py [--iterations N]`.

By words, and by meaning as well where numpy and the model are at hand (`docs/how-to/selection.md`). What the set of
labelled tasks is worth: `selection/README.md`.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from scenarios import selection


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--iterations", type=int, default=10, help="measurements of each time (default: 10)")
    for figure, value in selection.run(parser.parse_args().iterations).items():
        print(f"{figure:<72} {value:>8.2f}")


if __name__ == "__main__":
    main()
