"""The page is whole by itself, harmless whatever names say, and has the figures of the summary."""

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from claude_force.base.alerts import DEFAULT_ALERTS
from claude_force.base.usage import Usage
from claude_force.insight.alerts import read_alerts
from claude_force.insight.counting import Selection
from claude_force.insight.report import is_report, page, read_report
from claude_force.performance_tracker import PerformanceTracker
from tests.conftest import execution

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
EVIL = '"><script>alert(1)</script>\N{RIGHT-TO-LEFT OVERRIDE}\ud800'
VOID = {"meta"}


class Page(HTMLParser):
    """A page that is read tag by tag; what is not closed where it should be fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def figures(self) -> dict[str, float]:
        """Those with a name, with all their digits."""
        named = [facts for tag, facts in self.tags if tag == "data" and "class" in facts]
        return {str(facts["class"]): float(facts["value"] or "") for facts in named}


@pytest.fixture
def tracker(tmp_path: Path) -> PerformanceTracker:
    """A ledger of ten days, with a spike, failures, and an agent and an error with names that would be markup."""
    tracker = PerformanceTracker(tmp_path)
    for number in range(200):
        failed = number % 40 == 7
        tracker.record(
            execution(
                timestamp=NOW - timedelta(hours=240 - 1.2 * number),
                agent_name=EVIL[:-1] if number % 50 == 3 else "reviewer",
                model="m & n",
                error_type="<b>Error" if failed else None,
                duration_ms=1000.0 + number % 7 + 9000 * (number == 150),
                cost_usd=Decimal("0.0123456789"),
                usage=Usage(input_tokens=10, output_tokens=20),
                cached=number % 4 == 0,
                saved_usd=Decimal("0.01") if number % 4 == 0 else None,
            )
        )
    return tracker


def made(path: Path, *, days: float = 30, **selection: Any) -> str:
    """The page of that ledger."""
    alerts = read_alerts(path, DEFAULT_ALERTS, now=NOW)
    return page(read_report(path, Selection(**selection), alerts, now=NOW, days=days, zone=UTC))


@pytest.mark.parametrize("days", [30, 2, 0.01], ids=["days", "hours", "nothing"])
def test_whole_by_itself(tracker: PerformanceTracker, days: float) -> None:
    """No request and no script: a policy allows but the style that is in it; every picture has a name."""
    text = made(tracker.path, days=days)
    parsed = Page(text)
    assert is_report(text.encode())
    assert {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in parsed.tags} == set()
    names = {name for _, facts in parsed.tags for name in facts}
    assert not {name for name in names if name in {"src", "href", "style"} or name.startswith("on")}
    assert not re.search(r"url\(|@import|https?:", text)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    (policy,) = (facts["content"] or "" for _, facts in parsed.tags if facts.get("http-equiv"))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    pictures = [facts for tag, facts in parsed.tags if tag == "svg"]
    assert len(pictures) >= 3
    assert all(facts.get("aria-label") or facts.get("aria-hidden") for facts in pictures)


def test_names_are_text(tracker: PerformanceTracker) -> None:
    """Whatever an agent or an error is called."""
    parsed = Page(made(tracker.path))
    assert EVIL[:-1] in parsed.text
    assert "<b>Error" in parsed.text
    assert {"script", "b"} & {tag for tag, _ in parsed.tags} == set()


def test_the_same_figures(tracker: PerformanceTracker) -> None:
    """As the summary has, to the last digit, of the executions that were chosen."""
    for agent, days in ((None, 30), ("reviewer", 30), (None, 6.3), (None, 2)):
        alerts = read_alerts(tracker.path, DEFAULT_ALERTS, now=NOW)
        report = read_report(tracker.path, Selection(agent=agent), alerts, now=NOW, days=days, zone=UTC)
        total = report.summary.total
        assert Page(page(report)).figures() == {
            "executions": total.costs.executions,
            "success_rate": total.success_rate,
            "p50": total.percentile_ms(50),
            "p95": total.percentile_ms(95),
            "cost_usd": float(total.costs.cost_usd),
        }
        assert sum(figures.costs.executions for figures in report.trends.intervals.values()) == total.costs.executions
        assert [finding.kind for finding in report.anomalies.findings] == (["spike"] if days > 3 else [])
