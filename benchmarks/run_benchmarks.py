"""Runs the benchmark scenarios and prints what was measured: `run_benchmarks.py [--scenario NAME] [--iterations N]`.

Everything is offline. A figure that depends on the machine is always shown as a ratio to something measured in the same
run, in turns (A, B, A, B ...), because machines drift.
"""

import argparse
import importlib
import json
import pkgutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import scenarios

LINE_END = "\n"


def main() -> None:
    """Run the scenarios that were asked for."""
    names = sorted(module.name for module in pkgutil.iter_modules(scenarios.__path__))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--scenario", choices=names, action="append", help="one of them; may be repeated (default: all)"
    )
    parser.add_argument("--iterations", type=int, default=20, help="measurements of each figure (default: 20)")
    parser.add_argument("--output", type=Path, help="also write all figures to this file, as JSON")
    options = parser.parse_args()
    results = {}
    for name in options.scenario or names:
        scenario = importlib.import_module(f"scenarios.{name}")
        print(f"\n{name}: {(scenario.__doc__ or '').partition(LINE_END)[0]}")
        results[name] = scenario.run(options.iterations)
        for figure, value in results[name].items():
            print(f"  {figure:<52} {value:>10.2f}")
    if options.output:
        options.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
