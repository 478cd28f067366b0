"""One page that shows how it goes: `read_report` reads, `page` writes HTML that needs nothing else.

How it is built is `sheet.py`'s; names come from files of others, so all text is escaped.
"""

from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from html import escape
from pathlib import Path
from typing import NamedTuple

import msgspec

from claude_force.insight import charts, sheet
from claude_force.insight.alerts import AlertReport, figure
from claude_force.insight.anomalies import Anomalies, History, amount
from claude_force.insight.cells import Cells, add_lines, merge
from claude_force.insight.counting import Selected, Selection
from claude_force.insight.figures import Figures
from claude_force.insight.sheet import exact, table
from claude_force.insight.summary import Summary, summed
from claude_force.insight.trends import Trends, no_trends

MARK = "<!-- Made by claude-force analytics report; made anew by it, too. -->"
"""By which we know a page of ours, which may be overwritten."""
_HOURLY_DAYS = 3
"""Up to so many days are shown by the hour."""
_MOST_ROWS = 20


class Report(NamedTuple):
    """All that the page shows."""

    made_at: datetime
    """In the time zone of the page."""
    days: float
    summary: Summary
    trends: Trends
    anomalies: Anomalies
    alerts: AlertReport
    simulated: bool


def read_report(
    path: Path, selection: Selection, alerts: AlertReport, *, now: datetime, days: float, zone: tzinfo | None
) -> Report:
    """Read what the page shows, all in one pass. Raises as `count` does."""
    selection = msgspec.structs.replace(selection, since=now - timedelta(days=days))
    hourly = days <= _HOURLY_DAYS
    more_days = 1 / 24 if hourly else 1  # the time began in the middle of an interval
    trends = no_trends(now, days + more_days, "hourly" if hourly else "daily", zone)
    selected, history, cells = Selected(path, selection), History(), Cells()
    for lines in selected:
        add_lines(cells, lines)
        trends.add(lines)
        history.add(lines)
    found = selected.rest()
    trends.add_rest(found, zone)
    merge(found.cells, cells)
    return Report(
        made_at=now.astimezone(zone),
        days=days,
        summary=summed(found),
        trends=trends,
        anomalies=history.judged(selected),
        alerts=alerts,
        simulated=selection.simulated,
    )


def is_report(beginning: bytes) -> bool:
    """Whether a file that begins so is a page of ours."""
    return beginning.startswith(sheet.beginning(MARK).encode())


def page(report: Report) -> str:
    """The page."""
    total = report.summary.total
    body = "".join(
        [
            _header(report),
            _tiles(total),
            '<div class="grid">',
            _over_time(report),
            "</div>",
            _groups("Agents", report.summary.agents, total),
            _groups("Models", report.summary.models, total),
            '<div class="grid">',
            _savings(total),
            _errors(total),
            "</div>",
            _alerts(report.alerts),
            _anomalies(report.anomalies, report.made_at.tzinfo),
        ]
    )
    return sheet.document("claude-force report", body, mark=MARK)


def _header(report: Report) -> str:
    whose = "What the simulator answered" if report.simulated else "Executions"
    unread, gone = report.summary.unreadable_lines, report.summary.only_by_day
    torn = f" {unread:,} lines of the ledger cannot be read, and are passed over." if unread else ""
    rolled = f" {gone:,} are only known by their day of UTC, and not among what is out of the ordinary." if gone else ""
    span = f"{report.days:g} day{'' if report.days == 1 else 's'}"
    made = f"{report.made_at:%Y-%m-%d %H:%M %Z}"
    about = f"{whose} of the last {span}, as of {escape(made)}.{rolled}{torn}"
    return f"<header><h1>claude-force report</h1><p>{about}</p></header>"


# ---------------------------------------------------------------- figures


def _count(number: int, name: str = "") -> str:
    return exact(number, f"{number:,}", name)


def _rate(rate: float | None, name: str = "") -> str:
    return "–" if rate is None else exact(rate, f"{rate:.1%}", name)  # noqa: RUF001 - a dash for nothing


def _time(ms: float | None, name: str = "") -> str:
    return "–" if ms is None else exact(ms, f"{ms / 1000:,.2f} s", name)  # noqa: RUF001 - as above


def _usd(usd: Decimal | None, name: str = "") -> str:
    if usd is None:
        return "unpriced"
    return exact(float(usd), f"{'-' if usd < 0 else ''}${abs(usd):,.{2 if abs(usd) >= 100 else 4}f}", name)  # noqa: PLR2004 - cents suffice


def _tiles(total: Figures) -> str:
    costs = total.costs
    unpriced = f"and {costs.unpriced:,} unpriced" if costs.unpriced else "all priced"
    tiles = [
        ("Executions", _count(costs.executions, "executions"), f"{total.interrupted:,} interrupted"),
        ("Success", _rate(total.success_rate, "success_rate"), f"{total.failed:,} failed"),
        ("P50", _time(total.percentile_ms(50), "p50"), "of whole turns"),
        ("P95", _time(total.percentile_ms(95), "p95"), "of whole turns"),
        ("Cost", _usd(costs.cost_usd, "cost_usd"), unpriced),
        ("Saved", _usd(costs.saved_usd), f"{_percent(total.hit_rate)} answered from before"),
    ]
    return sheet.tiles(tiles)


def _percent(rate: float | None) -> str:
    return "nothing" if rate is None else f"{rate:.0%}"


# ---------------------------------------------------------------- over time


def _over_time(report: Report) -> str:
    intervals = list(report.trends.intervals.values())
    form = "%Y-%m-%d %H:%M" if report.trends.interval == "hourly" else "%Y-%m-%d"
    names = [f"{begin.astimezone(report.made_at.tzinfo):{form}}" for begin in report.trends.intervals]
    failed = [figures.failed for figures in intervals]
    counts = [figures.costs.executions for figures in intervals]
    p50, p95 = ([figures.percentile_ms(percent) for figures in intervals] for percent in (50, 95))
    costs = [float(figures.costs.cost_usd) for figures in intervals]
    went = charts.bars(
        f"Executions, {names[0]} to {names[-1]}",
        [
            charts.Bar(count - bad, bad, f"{name}: {count:,} executions, {bad:,} failed")
            for name, count, bad in zip(names, counts, failed, strict=True)
        ],
    )
    times = charts.lines(
        f"P50 and P95 of times, {names[0]} to {names[-1]}",
        (p50, p95),
        [f"{name}: {_times(fast, slow)}" for name, fast, slow in zip(names, p50, p95, strict=True)],
    )
    spent = charts.bars(
        f"Cost, {names[0]} to {names[-1]}",
        [charts.Bar(cost, 0, f"{name}: ${cost:.4f}") for name, cost in zip(names, costs, strict=True)],
    )
    slowest = max((ms for ms in p95 if ms is not None), default=0)
    legend = '<i class="key0"></i>P50 <i class="key1"></i>P95'
    ends = (names[0], names[-1])
    return (
        sheet.figure(
            "Executions", '<i class="key-low"></i>fine <i class="key-top"></i>failed', f"{max(counts):,}", went, ends
        )
        + sheet.figure("Times", legend, f"{slowest / 1000:,.1f} s", times, ends)
        + sheet.figure("Cost", "", f"${max(costs):,.4f}", spent, ends)
    )


def _times(p50: float | None, p95: float | None) -> str:
    return "no times" if p50 is None or p95 is None else f"P50 {p50 / 1000:.2f} s, P95 {p95 / 1000:.2f} s"


# ---------------------------------------------------------------- tables


def _groups(name: str, groups: dict[str, Figures], total: Figures) -> str:
    dearest = max((figures.costs.cost_usd for figures in groups.values()), default=Decimal(0)) or Decimal(1)
    executions = total.costs.executions
    rows = [
        (
            escape(group),
            _count(figures.costs.executions),
            _percent(figures.costs.executions / executions),
            _rate(figures.success_rate),
            _rate(figures.hit_rate),
            _time(figures.percentile_ms(50)),
            _time(figures.percentile_ms(95)),
            _usd(figures.costs.cost_usd) + charts.share(float(figures.costs.cost_usd / dearest)),
        )
        for group, figures in list(groups.items())[:_MOST_ROWS]
    ]
    headers = (name.removesuffix("s"), "executions", "share", "success", "from before", "P50", "P95", "cost")
    rest = len(groups) - len(rows)
    more = f"And {rest:,} more, with fewer executions." if rest else ""
    return table(name, headers, rows, empty="Nothing was executed in this time.", more=more)


def _savings(total: Figures) -> str:
    savings = total.costs.savings
    hows = {
        "the response cache": savings.cache_usd,
        "the prompt cache": savings.prompt_cache_usd,
        "routing": savings.routing_usd,
        "batches": savings.batch_usd,
    }
    rows = [(how.capitalize(), _usd(usd)) for how, usd in hows.items() if usd is None or usd]
    return table("Saved by", ("How", "saved"), rows, empty="Nothing.")


def _errors(total: Figures) -> str:
    rows = [(escape(kind), _count(number)) for kind, number in total.error_types.most_common(_MOST_ROWS)]
    return table("Errors", ("Type", "executions"), rows, empty="None.")


def _alerts(report: AlertReport) -> str:
    rows = [
        (
            f'<span class="badge {alert.severity if alert.state == "firing" else alert.state}">{alert.state}</span> '
            + escape(alert.name),
            alert.severity,
            f"{alert.metric} {alert.comparison} {figure(alert.threshold)}"
            + escape("".join(f", {name}" for name in (alert.agent, alert.model) if name)),
            "–" if alert.value is None else exact(alert.value, figure(alert.value)),  # noqa: RUF001 - as above
            "today (UTC)" if alert.metric == "budget_share" else alert.window,
            _count(alert.samples),
        )
        for alert in report.alerts
    ]
    headers = ("Rule", "severity", "fires", "value", "over", "of")
    return table("Alerts now", headers, rows, empty="The config has no rules.", words=3)


def _anomalies(found: Anomalies, zone: tzinfo | None) -> str:
    rows = [
        (
            f"{finding.began_at.astimezone(zone):%Y-%m-%d %H:%M}",
            finding.kind,
            escape(finding.agent),
            escape(finding.model),
            exact(finding.value, amount(finding.measure, finding.value)),
            exact(finding.usual, amount(finding.measure, finding.usual)),
            f"{finding.executions:,} of {finding.samples:,}",
        )
        for finding in found.findings[:_MOST_ROWS]
    ]
    headers = ("Since", "what", "agent", "model", "was", "usually", "executions")
    empty = f"None; {found.judged:,} agents by model have enough executions to tell."
    rest = len(found.findings) - len(rows)
    more = f"And {rest:,} before; `claude-force analytics anomalies` shows all." if rest else ""
    return table("Out of the ordinary", headers, rows, empty=empty, more=more, words=4)
