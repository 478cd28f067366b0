"""One page that shows what benchmarks found, built of what `claude-force analytics report` is built of."""

from collections.abc import Iterator
from html import escape

from claude_force.insight import charts, sheet
from results import Figure, Results, Scenario

MARK = "<!-- Made by benchmarks/run_benchmarks.py --report. -->"


def page(results: Results) -> str:
    """The page."""
    body = "".join(
        [
            _header(results),
            _tiles(results),
            *(_scenario(name, found) for name, found in results.scenarios.items()),
            _versions(results),
        ]
    )
    return sheet.document("claude-force benchmarks", body, mark=MARK)


def _header(results: Results) -> str:
    latency = results.latency
    answers = ", ".join(
        f"{name} {latency[key]:g} s" for name, key in (("P50", "p50_s"), ("P95", "p95_s"), ("P99", "p99_s"))
    )
    return (
        "<header><h1>claude-force benchmarks</h1>"
        f"<p>Measured on {results.made_at:%Y-%m-%d} against a simulator on the same machine. Medians; the interval, and"
        " the thin line over the bar, hold the true one in 95 of 100 cases, from six rounds on. Ratios hold, absolute"
        f" times drift with the machine. Realistic answers take {answers}, and all is scaled by"
        f" 1/{1 / latency['scale']:g}, so what a client itself takes weighs more than it would.</p></header>"
    )


def _tiles(results: Results) -> str:
    machine, versions = results.machine, results.versions
    return sheet.tiles(
        [
            ("Cores", str(machine.cores), escape(machine.cpu)),
            ("Load", f"{machine.load_before:g}", f"before; {machine.load_after or 0:g} after"),
            ("Rounds", str(results.iterations), "of each measurement, or fewer"),
            (
                "claude-force",
                escape(versions["claude-force"] or ""),
                f"anthropic {escape(versions['anthropic'] or '')}",
            ),
            ("Python", escape(versions["python"] or ""), escape(machine.system)),
        ]
    )


def _scenario(name: str, found: Scenario) -> str:
    head = f"<header><h2>{escape(name.replace('_', ' '))}</h2><p>{escape(found.about)}</p></header>"
    if found.skipped:
        return f"{head}<section><p>Skipped: {escape(found.skipped)}.</p></section>"
    return head + "".join(_tables(found))


def _tables(found: Scenario) -> Iterator[str]:
    """A table for each group of figures that differ by who was measured, and one of all others."""
    groups: dict[str, list[tuple[str, Figure]]] = {}
    for name, figure in found.figures.items():
        groups.setdefault(_what(name), []).append((name, figure))
    compared = {what: figures for what, figures in groups.items() if what and len(figures) > 1}
    yield from (_compared(what, figures) for what, figures in compared.items())
    if alone := [figure for what, figures in groups.items() if what not in compared for figure in figures]:
        yield _alone(alone)


def _what(name: str) -> str:
    return name.rpartition(": ")[0]


def _compared(what: str, figures: list[tuple[str, Figure]]) -> str:
    most = max(figure.high for _, figure in figures) or 1
    rows = []
    for name, figure in figures:
        value, noise = _cells(figure)
        bar = charts.share(figure.median / most, (figure.low / most, figure.high / most))
        rows.append((escape(name.rpartition(": ")[2]), value, noise + bar))
    return sheet.table(escape(what), (_better(figures), "median", "95 % interval"), rows, empty="")


def _better(figures: list[tuple[str, Figure]]) -> str:
    better = {figure.better for _, figure in figures} - {None}
    return f"{better.pop()} is better" if len(better) == 1 else ""


def _alone(figures: list[tuple[str, Figure]]) -> str:
    rows = [(escape(name), *_cells(figure)) for name, figure in figures]
    return sheet.table("Figures", ("", "median", "95 % interval"), rows, empty="")


def _cells(figure: Figure) -> tuple[str, str]:
    noise = f"{_shown(figure.low)} to {_shown(figure.high)}" if figure.samples > 1 else "measured once"
    return sheet.exact(figure.median, _shown(figure.median)), noise


def _shown(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:#.3g}"  # noqa: PLR2004 - as it says


def _versions(results: Results) -> str:
    rows = [(escape(name), escape(version or "not installed")) for name, version in results.versions.items()]
    head = "<header><h2>versions</h2><p>Peers that are not installed were not measured.</p></header>"
    return head + sheet.table("Installed", ("package", "version"), rows, empty="")
