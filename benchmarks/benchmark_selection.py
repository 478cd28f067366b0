"""How well and how fast an agent is chosen.

How it is measured: `scenarios/selection.py`. It takes the options of `run_benchmarks.py`.
"""

import sys

from run_benchmarks import main

if __name__ == "__main__":
    main(["--scenario", "selection", *sys.argv[1:]])
