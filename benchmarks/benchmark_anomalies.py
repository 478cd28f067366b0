"""How often anomalies are found, and how often they are false.

How it is measured: `scenarios/anomalies.py`. It takes the options of `run_benchmarks.py`.
"""

import sys

from run_benchmarks import main

if __name__ == "__main__":
    main(["--scenario", "anomalies", *sys.argv[1:]])
