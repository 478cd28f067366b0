"""Workflows beside bare asyncio, rounds of `gather`, Dask and LangGraph: `benchmark_parallel_workflow.py [--rounds N]`.

Peers are measured where they are installed: `pip install dask langgraph`. Ratios within one run hold, absolute times
drift with the machine.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from scenarios import workflow


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="runs of which the median is told (default: 5)")
    for figure, value in workflow.measure(parser.parse_args().rounds).items():
        print(f"{figure:<90} {'not installed' if value is None else f'{value:10,.2f}'}")


if __name__ == "__main__":
    main()
