"""Three independent agents, all at once against one after the other.

How it is measured: `scenarios/async_vs_sync.py`. It takes the options of `run_benchmarks.py`.
"""

import sys

from run_benchmarks import main

if __name__ == "__main__":
    main(["--scenario", "async_vs_sync", *sys.argv[1:]])
