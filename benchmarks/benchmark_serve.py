"""What a server takes with 200 pages open and 50 events a second.

How it is measured: `scenarios/pages.py`. It takes the options of `run_benchmarks.py`.
"""

import sys

from run_benchmarks import main

if __name__ == "__main__":
    main(["--scenario", "pages", *sys.argv[1:]])
