"""Did anything get slower? `regression_check.py [--baseline FILE] [--current FILE]`; ends with 1 if so.

Compared are the ratios of two runs, which hold from one machine to another better than times do. One got worse where
the nearer ends of both intervals are more than 15 % apart: what the noise of either run explains is no finding, so few
rounds hide much. A figure that a scenario no longer has is a finding, too, unless its peer is not installed here.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
from results import Figure, Results, read_results

LIMIT = 0.15
BASELINE = Path(__file__).parent / "baseline.json"
CURRENT = Path("build/benchmarks/results.json")


class Compared(NamedTuple):
    """One ratio, then and now."""

    scenario: str
    name: str
    verdict: Literal["worse", "missing", "better", "same"]
    then: Figure
    now: Figure | None


def compare(baseline: Results, current: Results) -> Iterator[Compared]:
    """Every ratio of the baseline whose scenario was run now."""
    absent = [peer for peer, version in current.versions.items() if version is None]
    for scenario, name, then in baseline.figures():
        if then.better is None or scenario not in current.scenarios:
            continue
        now = current.scenarios[scenario].figures.get(name)
        if now is not None:
            yield Compared(scenario, name, _verdict(then, now), then, now)
        elif not any(peer in name for peer in absent):
            yield Compared(scenario, name, "missing", then, now)


def _verdict(then: Figure, now: Figure) -> Literal["worse", "better", "same"]:
    is_lower_better = then.better == "lower"
    if now.low > then.high * (1 + LIMIT):
        return "worse" if is_lower_better else "better"
    if then.low > now.high * (1 + LIMIT):
        return "better" if is_lower_better else "worse"
    return "same"


def table(compared: Iterable[Compared]) -> str:
    """The findings, the worst first."""
    order = ("worse", "missing", "better", "same")
    rows = sorted(compared, key=lambda row: (order.index(row.verdict), row.scenario))
    return "\n".join(
        f"{row.verdict:<8} {row.scenario}: {row.name}, {row.then.better} is better: {_shown(row.then)} then,"
        f" {_shown(row.now) if row.now else 'not measured'} now"
        for row in rows
    )


def _shown(figure: Figure) -> str:
    return f"{figure.median:.2f} [{figure.low:.2f} to {figure.high:.2f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, print, and end with 0, 1, or 2 where there is nothing to compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="results to hold to (default: baseline.json)")
    parser.add_argument("--current", type=Path, default=CURRENT, help=f"results of now (default: {CURRENT})")
    options = parser.parse_args(arguments)
    baseline, current = read_results(options.baseline), read_results(options.current)
    found = list(compare(baseline, current))
    if not found:
        print(f"{options.current} has no scenario of {options.baseline}: nothing is compared", file=sys.stderr)
        sys.exit(2)
    print(table(found))
    bad = [row for row in found if row.verdict in {"worse", "missing"}]
    counted = f"{len(bad)} of {len(found)} ratios got worse by more than {LIMIT:.0%} beyond the noise, or are missing"
    print(f"\n{counted}; then: {_machine(baseline)}; now: {_machine(current)}")
    sys.exit(1 if bad else 0)


def _machine(results: Results) -> str:
    machine = results.machine
    return f"{machine.cpu}, {machine.cores} cores, load {machine.load_before:g}"


if __name__ == "__main__":
    main()
