"""Measures, offline: `run_benchmarks.py [--scenario NAME]... [--iterations N] [--report] [--output FOLDER]`.

What depends on the machine is shown as a ratio to something that was measured in the same run, in turns (A, B, A, B
...), because machines drift. Shown are medians and, in brackets, intervals that hold the true one in 95 of 100 cases
(`results.Figure`). Peers are measured where they are installed: `pip install 'claude-force[bench]'`.
"""

import argparse
import importlib
import pkgutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent))
import scenarios
import simulated
from report import page
from results import Figure, Results, Scenario, load, measured, this_machine, versions, write_results

NAMES = sorted(module.name for module in pkgutil.iter_modules(scenarios.__path__))
APART = {
    "anomalies": "is about quality, not speed",
    "cost": "replays some days",
    "pages": "watches a server for half a minute each time",
    "query": "fills a large memory",
    "routing": "is about quality, not speed",
    "selection": "is about quality, not speed",
    "skills": "is about quality, not speed",
    "soak": "runs until something would have grown",
}
"""Scenarios that are run only where they are named, and why; the others take ten minutes."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the scenarios that were asked for, print what they found, and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    apart = ", ".join(APART)
    help_ = f"one of {', '.join(NAMES)}; may be repeated (default: all but {apart})"
    parser.add_argument("--scenario", choices=NAMES, action="append", metavar="NAME", help=help_)
    parser.add_argument("--iterations", type=int, default=6, help="measurements of each figure (default: 6)")
    parser.add_argument("--report", action="store_true", help="also write a page that shows it all")
    parser.add_argument("--output", type=Path, metavar="FOLDER", default=Path("build/benchmarks"),
                        help="for results.json and report.html (default: build/benchmarks)")  # fmt: skip
    options = parser.parse_args(arguments)
    if options.iterations < 1:
        parser.error("--iterations is 1 or more")
    options.output.mkdir(parents=True, exist_ok=True)  # said before it is measured, not after
    machine, found = this_machine(), dict[str, Scenario]()
    try:
        for name in options.scenario or [name for name in NAMES if name not in APART]:
            found[name] = _run(name, options.iterations)
    finally:  # what was measured is kept, whatever ends this
        results = Results(
            made_at=datetime.now(UTC).replace(microsecond=0),
            machine=msgspec.structs.replace(machine, load_after=load()),
            versions=versions(),
            latency={
                "p50_s": simulated.P50_S,
                "p95_s": simulated.P95_S,
                "p99_s": simulated.P99_S,
                "scale": simulated.SCALE,
            },
            iterations=options.iterations,
            scenarios=found,
        )
        _keep(results, options.output, with_page=options.report)


def _keep(results: Results, folder: Path, *, with_page: bool) -> None:
    absent = [name for name, version in results.versions.items() if version is None]
    if absent:
        print(f"\nnot installed, so not measured: {', '.join(absent)}")
    write_results(results, folder / "results.json")
    print(f"\n{folder / 'results.json'} is written")
    if with_page:
        (folder / "report.html").write_text(page(results), encoding="utf-8")
        print(f"{folder / 'report.html'} is written")


def _run(name: str, iterations: int) -> Scenario:
    scenario = importlib.import_module(f"scenarios.{name}")
    about = (scenario.__doc__ or "").partition("\n")[0]
    print(f"\n{name}: {about}", flush=True)
    started, skipped, figures = time.perf_counter(), None, dict[str, Figure]()
    try:
        for figure, value in scenario.run(iterations).items():
            figures[figure] = value if isinstance(value, Figure) else measured([value])
            print(f"  {figure:<84} {shown(figures[figure])}", flush=True)
    except ModuleNotFoundError as error:
        skipped = f"{error.name} is not installed"
        print(f"  skipped: {skipped}")
    return Scenario(about, took_s=round(time.perf_counter() - started, 1), figures=figures, skipped=skipped)


def shown(figure: Figure) -> str:
    """As it is printed."""
    noise = f"  [{figure.low:,.2f} to {figure.high:,.2f}]" if figure.samples > 1 else ""
    return f"{figure.median:>10,.2f}{noise}"


if __name__ == "__main__":
    main()
