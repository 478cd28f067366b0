"""What a mixed day costs with each saving alone and with all of them, which takes some minutes.

How it is measured: `scenarios/cost.py`. It takes the options of `run_benchmarks.py`.
"""

import sys

from run_benchmarks import main

if __name__ == "__main__":
    main(["--scenario", "cost", *sys.argv[1:]])
