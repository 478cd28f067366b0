"""The response cache beside its peers.

How it is measured: `scenarios/cache.py`. It takes the options of `run_benchmarks.py`.
"""

import sys

from run_benchmarks import main

if __name__ == "__main__":
    main(["--scenario", "cache", *sys.argv[1:]])
