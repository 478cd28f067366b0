"""Workflows beside bare asyncio, rounds of `gather`, Dask and LangGraph.

How it is measured: `scenarios/workflow.py`. It takes the options of `run_benchmarks.py`.
"""

import sys

from run_benchmarks import main

if __name__ == "__main__":
    main(["--scenario", "workflow", *sys.argv[1:]])
