"""The parts of the server that are best shown by themselves: events, figures for Prometheus, the API's document."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from claude_force import PerformanceTracker
from claude_force.apps.dashboard.guard import LINK_S, Access
from claude_force.apps.dashboard.metrics import MOST_AGENTS, Metrics
from claude_force.apps.dashboard.openapi import document
from claude_force.apps.dashboard.problems import status_of
from claude_force.apps.dashboard.reading import Reader
from claude_force.apps.dashboard.routes import ROUTES
from claude_force.apps.dashboard.server import make_app
from claude_force.apps.dashboard.service import Service
from claude_force.apps.dashboard.shapes import OverviewQuery, RunsQuery
from claude_force.apps.dashboard.stream import MOST_EVENTS, EventStream, Feed
from claude_force.base import errors
from claude_force.insight.rollup import roll_up
from claude_force.orchestrator import Project

if TYPE_CHECKING:
    from starlette.types import Message

ROOT = Path(__file__).parents[2]


# ---------------------------------------------------------------- events


class Page:
    """A client of a stream, which takes what it is told when it likes."""

    def __init__(self, feed: Feed, *, last_id: str | None = None, run: str | None = None) -> None:
        self.taken: list[bytes] = []
        self.told = asyncio.Event()
        self.takes = asyncio.Event()
        self.takes.set()
        self.leaves = asyncio.Event()
        self.task = asyncio.create_task(EventStream(feed, last_id=last_id, run=run)({}, self._receive, self._send))

    async def _receive(self) -> "Message":
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: "Message") -> None:
        await self.takes.wait()
        self.taken.append(message.get("body", b""))
        self.told.set()

    async def until(self, wanted: bytes) -> str:
        """All that was told, once this is among it."""
        while wanted not in b"".join(self.taken):
            self.told.clear()
            await self.told.wait()
        return b"".join(self.taken).decode()


async def test_events_are_told_in_one_piece() -> None:
    """However many happen at once, each page is told once, in their order; of one run only what is about it."""
    feed = Feed()
    page, of_b = Page(feed), Page(feed, run="b")
    await page.until(b"hello")
    await of_b.until(b"hello")
    for number in range(100):
        feed.publish("step", {"number": number}, run="ab"[number % 2])
    feed.ring()
    told = await page.until(b'"number":99')
    assert [int(number) for number in re.findall(r'"number":(\d+)', told)] == list(range(100))
    assert len([piece for piece in page.taken if piece]) == 2  # with the hello
    assert len(re.findall("event: step", await of_b.until(b'"number":99'))) == 50
    page.leaves.set()
    await page.task
    assert feed.listeners == 1
    feed.close()
    await of_b.task
    assert b"".join(of_b.taken).endswith(b"event: bye\ndata: {}\n\n")


async def test_a_slow_page_costs_no_memory() -> None:
    """Who does not take what is told has nothing kept for it: in the end it has to fetch all anew, and goes on."""
    feed = Feed()
    page = Page(feed)
    await page.until(b"hello")
    page.takes.clear()
    for number in range(MOST_EVENTS * 2):
        feed.publish("step", {"number": number})
        feed.ring()
    assert len(feed._events) == MOST_EVENTS
    page.takes.set()
    told = await page.until(b"reset")
    assert "event: step" not in told
    feed.publish("step", {"number": "new"})
    feed.ring()
    await page.until(b'"new"')
    feed.close()
    await page.task


@pytest.mark.parametrize("last_id", ["", "x", "other.1", "{id}.", "{id}.-1", "{id}.99", "{id}.1e3", "{id}.²"])
async def test_a_place_that_nobody_gave(last_id: str) -> None:
    """Whatever a page says it has seen last: what is not known is a reset, and never an error."""
    feed = Feed()
    feed.publish("step", {})
    page = Page(feed, last_id=last_id.format(id=feed.id))
    await page.until(b"event: reset")
    feed.close()
    await page.task


# ---------------------------------------------------------------- figures for Prometheus


def metrics_of(project: Project) -> Metrics:
    """As a server has them."""
    reader = Reader(project, here={}, allow_runs=False)
    steps = {"running": 0}
    return Metrics(reader, project.tracker.path, traffic=lambda: project.parts.traffic, steps=lambda: steps)  # type: ignore[arg-type,return-value] # a literal's keys


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every figure, by its name and labels."""
    families = text_string_to_metric_families(text.decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


@pytest.fixture
def busy(project: Path) -> Iterator[Project]:
    """A project with executions of more agents than have a name of their own, one of them a hostile one."""
    tracker = PerformanceTracker(project / ".claude/metrics")
    for number in range(MOST_AGENTS * 2):
        executed(tracker, f"agent-{number}", number=number)
    for _ in range(3):
        executed(tracker, 'x"}\n# HELP evil\\', number=1)
    (project / ".claude/claude.json").write_text('{"budgets": {"per_day_usd": 2}}')
    busy = Project(project_dir=project)
    yield busy
    busy.close()


def executed(tracker: PerformanceTracker, agent: str, *, number: int) -> None:
    """One execution."""
    error = "OverloadedError" if number % 10 == 0 else None
    tracker.track_execution(
        agent,
        "x",
        success=error is None,
        execution_time_ms=number * 100,
        model="claude-haiku-5-5",
        input_tokens=10,
        output_tokens=5,
        error_type=error,
    )


def test_metrics_are_those_of_the_stores(busy: Project) -> None:
    """They add up to what the ledger says, labels are bounded, and counters never fall when old lines are rolled up."""
    metrics, path = metrics_of(busy), busy.tracker.path
    before = samples(metrics.text())
    executions = {key: value for key, value in before.items() if key[0] == "claude_force_executions_total"}
    overview = Reader(busy, here={}, allow_runs=False).overview(OverviewQuery())
    assert sum(executions.values()) == overview.total.executions == MOST_AGENTS * 2 + 3
    assert len({dict(labels)["agent"] for _, labels in executions}) == MOST_AGENTS + 1
    label = (("agent", 'x"}\n# HELP evil\\'), ("model", "claude-haiku-5-5"), ("outcome", "answered"))
    assert before["claude_force_executions_total", label] == 3
    assert before["claude_force_errors_total", (("error_type", "OverloadedError"),)] == 10
    assert before["claude_force_tokens_total", (("kind", "input"), ("model", "claude-haiku-5-5"))] == 1030
    buckets = [value for key, value in before.items() if key[0] == "claude_force_execution_seconds_bucket"]
    assert buckets == sorted(buckets)
    assert buckets[-1] == before["claude_force_execution_seconds_count", (("model", "claude-haiku-5-5"),)] == 93
    seconds = before["claude_force_execution_seconds_sum", (("model", "claude-haiku-5-5"),)]
    assert seconds == pytest.approx((sum(range(100)) - sum(range(0, 100, 10)) + 3) / 10, rel=0.01)
    assert before["claude_force_budget_limit_usd", (("limit", "budgets.per_day_usd"),)] == 2

    rolled_up = roll_up(path, now=datetime.now(UTC) + timedelta(days=2), keep_days=1)
    assert rolled_up
    assert path.read_bytes() == b""
    executed(busy.tracker, "agent-1", number=1)
    with path.open("a") as ledger:  # of others: what the cache had, and failed all the same
        ledger.write(
            f'{{"timestamp": "{datetime.now(UTC)}", "agent_name": "agent-1", "model": "claude-haiku-5-5", '
            '"success": false, "cached": true, "error_type": "OverloadedError", "execution_time_ms": 1}\n'
        )
    after = samples(metrics.text())
    grown = {
        (name, dict(labels).get("outcome"), after[name, labels] - value)
        for (name, labels), value in before.items()
        if name.endswith("_total") and after[name, labels] != value
    }
    assert grown == {
        ("claude_force_executions_total", "answered", 1),
        ("claude_force_executions_total", "failed", 1),
        ("claude_force_errors_total", None, 1),
        ("claude_force_tokens_total", None, 10),
        ("claude_force_tokens_total", None, 5),
        ("claude_force_unpriced_executions_total", None, 2),
    }


@pytest.fixture(scope="module")
def promtool() -> str:
    """Prometheus' own checks."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed; `apt-get install prometheus` does it")
    return found


def test_prometheus_takes_them(busy: Project, promtool: str) -> None:
    """What we say is as Prometheus wants it, by the checks that it comes with."""
    done = subprocess.run(
        [promtool, "check", "metrics"], input=metrics_of(busy).text(), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_alert_rules(promtool: str) -> None:
    """The rules that ship are rules, and fire for what they are about, and for nothing else."""
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(
            [promtool, *command], cwd=ROOT / "docs/monitoring", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["alerts.yml", "alerts_test.yml", "grafana.json"])
def test_what_is_monitored_is_there(busy: Project, name: str) -> None:
    """Every figure that the alert rules and the dashboard name is one that `/metrics` gives."""
    text = metrics_of(busy).text().decode()
    families = {family.name: family.type for family in text_string_to_metric_families(text)}
    ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    given = {name + end for name, kind in families.items() for end in ends.get(kind, [""])}
    named = set(re.findall(r"\bclaude_force_\w+", (ROOT / "docs/monitoring" / name).read_text()))
    assert named
    assert named <= given


# ---------------------------------------------------------------- who may ask


@pytest.mark.parametrize(("after_s", "status"), [(0.0, 303), (LINK_S + 1, None)])
def test_the_link_works_once_and_not_for_ever(after_s: float, status: int | None) -> None:
    """Nobody who finds it in a log next week is let in by it."""
    now = iter((0.0, after_s))
    access = Access(token="a" * 20, hosts=(), any_address=False, port=0, clock=lambda: next(now))
    link = access.login_path
    response = access.log_in(link)
    assert (response and response.status_code) == status
    assert response is None or access.log_in(link) is None


async def test_who_asks_for_the_head_of_the_events_takes_no_place(project: Path) -> None:
    """Probes that look whether something is there must not shut out the pages."""
    service = Service(Project(project_dir=project), config_path=None, allow_runs=False)
    app = make_app(service, Access(token=None, hosts=("here",), any_address=False, port=0))
    scope = {
        "type": "http",
        "method": "HEAD",
        "path": "/api/events",
        "query_string": b"",
        "headers": [(b"host", b"here")],
    }
    sent: list[Message] = []

    async def send(message: "Message") -> None:
        sent.append(message)

    await asyncio.wait_for(app(scope, asyncio.Event().wait, send), 60)  # type: ignore[arg-type] # nobody says anything
    assert sent[0]["status"] == 200
    assert (b"content-type", b"text/event-stream; charset=utf-8") in sent[0]["headers"]
    assert service.feed.listeners == 0


# ---------------------------------------------------------------- the API's document


def test_the_document_has_every_route(project: Path) -> None:
    """The server's routes are those of the document, and the other way round; only files are beside them."""
    described = msgspec.json.decode(document(ROUTES))
    operations = {(method, path) for path, found in described["paths"].items() for method in found}
    service = Service(Project(project_dir=project), config_path=None, allow_runs=False)
    app: Any = make_app(service, Access(token=None, hosts=(), any_address=False, port=0))
    served = {
        (method.lower(), route.path)
        for route in app._app.routes
        for method in getattr(route, "methods", None) or ["GET"]
        if method != "HEAD"
    }
    assert served - operations == {("get", "/"), ("get", "/favicon.ico"), ("get", "/page")}
    assert operations <= served
    names = [operation["operationId"] for found in described["paths"].values() for operation in found.values()]
    assert len(set(names)) == len(ROUTES)


def test_answers_are_as_the_document_says(busy: Project) -> None:
    """What is given fits the schema that the document has of it."""
    described = msgspec.json.decode(document(ROUTES))
    reader = Reader(busy, here={}, allow_runs=False)
    for name, found in (
        ("Overview", reader.overview(OverviewQuery())),
        ("Agents", reader.agents()),
        ("Workflows", reader.workflows()),
        ("Runs", reader.runs(RunsQuery())),
    ):
        schema = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.validate(msgspec.json.decode(msgspec.json.encode(found)), schema)


def test_every_error_has_a_status() -> None:
    """Who asks wrongly is told so with 4xx; what fails behind us is 5xx; money and refusals have their own."""
    kinds, found = [errors.ClaudeForceError], dict[type[errors.ClaudeForceError], int]()
    while kinds:
        kind = kinds.pop()
        kinds += [one for one in kind.__subclasses__() if one.__module__ == errors.__name__]
        found[kind] = status_of(kind())
    wrong: set[type[errors.ClaudeForceError]] = {kind for kind in found if issubclass(kind, errors.InputError)}
    wrong |= {errors.InvalidRequestError, errors.ModelNotFoundError, errors.RequestTooLargeError}
    assert {found[kind] for kind in wrong} == {400, 404, 413}
    assert {kind.__name__: found[kind] for kind in found if found[kind] < 500 and kind not in wrong} == {
        "AccountLimitError": 402,
        "BudgetError": 402,
        "RefusalError": 422,
    }
