"""What choosing skills by task saves, and whether a needed one is missing.

How it is measured: `scenarios/skills.py`. It takes the options of `run_benchmarks.py`.
"""

import sys

from run_benchmarks import main

if __name__ == "__main__":
    main(["--scenario", "skills", *sys.argv[1:]])
