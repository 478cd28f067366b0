"""The page of `claude-force serve` in a real browser, over a real server: what is seen, and what must never happen."""

import json
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest

from claude_force.performance_tracker import PerformanceTracker
from claude_force.stores.runs import RunRecord, RunStore, StepRecord
from claude_force.testing import ApiFault, Rule, SeenRequest, Simulator
from claude_force.workflows.definition import InputType

from .conftest import Run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: `pip install -e '.[browser]'`")
expect = playwright.expect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_MS = 60_000  # the machine may be busy with other things
HOSTILE = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"

Process = subprocess.Popen[str]
Start = Callable[..., Process]


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """One for all tests, as a start of it takes a second."""
    if CHROMIUM is None:
        pytest.skip("no chromium: `apt-get install --no-install-recommends chromium`")
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def faults() -> list[str]:
    """What the page did that it must not do. A test that breaks something on purpose takes out what that must bring."""
    return []


@pytest.fixture
def page(browser: "Browser", faults: list[str], start: Start) -> Iterator["Page"]:
    """A page with nothing in it. After the test: no error was in its console, and nothing was asked of elsewhere."""
    del start  # asked for, so that this page is closed before its server ends
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.on("console", lambda message: faults.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda asked: faults.append(asked.url) if "//127.0.0.1:" not in asked.url else None)
    expect.set_options(timeout=PATIENCE_MS)
    yield page
    context.close()
    assert faults == []


def serve(start: Start, port: str = "0") -> tuple[Process, str]:
    """A server in the project, and the address that it printed."""
    process = start("serve", "--port", port)
    assert process.stdout
    return process, process.stdout.readline().strip()


@pytest.fixture
def may_review() -> threading.Event:
    """Until it is set, no review is answered."""
    return threading.Event()


@pytest.fixture
def simulator(may_review: threading.Event) -> Iterator[Simulator]:
    """A server that is overloaded once, and whose answers are not to be trusted."""

    def answer(request: SeenRequest) -> str:
        if "Review" in request.prompt:
            assert may_review.wait(120)
        return HOSTILE

    busy = Rule(ApiFault(529), when=lambda request: "Other" in request.prompt, times=1)
    with Simulator(answer=answer, rules=[busy]) as running:
        yield running
        may_review.set()  # or it could not be ended


@pytest.fixture
def workflow(project: Path) -> str:
    """Two drafts side by side, and a review of them."""
    steps = [
        {"id": "draft", "agent": "reviewer", "task": "Draft."},
        {"id": "other", "agent": "reviewer", "task": "Other."},
        {"id": "review", "agent": "reviewer", "task": "Review.", "dependencies": ["draft", "other"]},
    ]
    config = {"defaults": {"max_retries": 2}, "workflows": {"paper": {"steps": steps}}}
    (project / ".claude/claude.json").write_text(json.dumps(config))
    return "paper"


def keep_run(project: Path, *steps: StepRecord, needs: Callable[[int], list[str]], **facts: Any) -> None:
    """A run in the journal, as if somebody had made it; `needs` says what each step depends on."""
    outline = [
        {"id": step.step, "agent": step.agent, "task": "-", "dependencies": needs(number)}
        for number, step in enumerate(steps)
    ]
    run = RunRecord(
        id="20261126-111530-3fa2c1",
        started_at=datetime(2026, 11, 26, tzinfo=UTC),
        definition=json.dumps({"steps": outline}),
        **facts,
    )
    store = RunStore(project / ".claude/runs.db")
    store.begin(run)
    store.note(run.id, *steps)


def named(page: "Page", name: str) -> Any:
    """A step in the graph."""
    return page.locator(f"#graph a[data-key={json.dumps(name)}]")


def says(beginning: str) -> re.Pattern[str]:
    """A label that begins so."""
    return re.compile(f"^{re.escape(beginning)}")


def test_follows_a_run(page: "Page", start: Start, run: Run, may_review: threading.Event, workflow: str) -> None:
    """A run of another process is seen to its end: steps, retries, an answer, and the figures that `analytics` has."""
    page.goto(serve(start)[1])
    expect(page.locator("#line")).to_have_text("live")

    running = start("run-workflow", workflow)
    expect(page.locator("#runs .name")).to_have_text(workflow)
    expect(named(page, "other")).to_have_attribute("aria-label", re.compile(r"^other: done, .*, 2 attempts$"))
    expect(named(page, "review")).to_have_attribute("aria-label", says("review: ready"))
    expect(page.locator("#run-heading .state")).to_have_text("running, or broken off")
    may_review.set()
    expect(page.locator("#run-heading .state")).to_have_text("completed")
    expect(named(page, "review")).to_have_attribute("aria-label", says("review: done"))
    expect(page.locator("#said")).to_have_text("paper completed")
    running.communicate(timeout=120)

    named(page, "other").click()
    expect(page.locator("#step dd").filter(has_text="2: 1 retry")).to_be_visible()
    expect(page.locator("#step .answer")).to_have_text(HOSTILE)

    page.get_by_label("simulated").check()
    told = json.loads(run("analytics", "summary", "--simulated", "--json").stdout)
    shown = page.locator("#figures .figure")
    expect(shown.filter(has_text="Executions").locator("data")).to_have_text("3")
    values = {name: shown.filter(has_text=name).locator("data").get_attribute("value") for name in FIGURES}
    assert {name: json.loads(value or "null") for name, value in values.items()} == {
        name: find(told) for name, find in FIGURES.items()
    }


FIGURES: dict[str, Callable[[dict[str, Any]], object]] = {
    "Executions": lambda told: told["executions"],
    "Success rate": lambda told: told["success_rate"],
    "Time, P50": lambda told: told["time_ms"]["p50"],
    "Time, P95": lambda told: told["time_ms"]["p95"],
    "Cost today": lambda told: told["cost_usd"],
    "Hit rate": lambda told: told["hit_rate"],
}


def test_what_an_empty_page_says_to_type_works(page: "Page", start: Start, run: Run, project: Path) -> None:
    """Word for word, with all that a workflow must be given; and then it is seen."""
    inputs = {name: {"type": name, "required": True} for name in get_args(InputType)}
    task = " ".join(f"{{{{ inputs.{name} }}}}" for name in inputs)
    first = {"inputs": inputs, "steps": [{"id": "only", "agent": "reviewer", "task": task}]}
    (project / ".claude/claude.json").write_text(json.dumps({"workflows": {"broken": {}, "it's one": first}}))
    page.goto(serve(start)[1])
    for place in ("#no-runs code", "#beginning code"):
        program, *arguments = shlex.split(page.locator(place).inner_text())
        assert (program, run(*arguments).returncode) == ("claude-force", 0)
    expect(page.locator("#runs .state")).to_have_text("completed, simulated")
    expect(page.locator("#beginning")).to_contain_text("2 simulated executions are left out")


def test_survives_a_restart(
    page: "Page", start: Start, run: Run, may_review: threading.Event, workflow: str, faults: list[str]
) -> None:
    """Without its server the page says so, and keeps what it has; once there is one again, it shows what it missed."""
    may_review.set()
    process, address = serve(start)
    page.goto(address)
    line = page.locator("#line")
    expect(line).to_have_text("live")
    expect(page.locator("#no-runs code")).to_be_visible()
    process.terminate()
    process.communicate(timeout=120)
    expect(line).to_have_text("connection lost, trying again")
    assert run("run-workflow", workflow).returncode == 0
    expect(page.locator("#no-runs code")).to_be_visible()

    port = address.rstrip("/").rpartition(":")[2]
    assert serve(start, port)[1] == address
    expect(line).to_have_text("live")
    expect(named(page, "review")).to_have_attribute("aria-label", says("review: done"))
    expect(page.locator("#no-runs code")).to_have_count(0)
    assert all("net::ERR_" in fault for fault in faults), "the browser tells its console of each try"
    faults.clear()


def test_text_of_others_stays_text(page: "Page", start: Start, project: Path) -> None:
    """Names, reasons and errors that look like markup are shown as they are, run nothing, and fit on a phone."""
    tracker = PerformanceTracker(project / ".claude/metrics")
    tracker.track_execution(HOSTILE, "x", success=False, execution_time_ms=5, model=HOSTILE, error_type=HOSTILE)
    failed = StepRecord(step="__proto__", agent=HOSTILE, status="failed", reason=HOSTILE, attempts=1)
    keep_run(project, failed, needs=lambda _: [], workflow=HOSTILE, status="failed", error=HOSTILE)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(serve(start)[1])
    expect(page.locator("#runs .name")).to_have_text(HOSTILE)
    expect(page.locator("#run-heading .error")).to_have_text(HOSTILE)
    for place in ("#by-agent .name", "#by-model .name", "#errors dt"):
        expect(page.locator(place)).to_have_text(HOSTILE)
    expect(page.get_by_label("agent").locator("option")).to_have_text(["all", HOSTILE])
    named(page, "__proto__").click()
    expect(page.locator("#step dd").filter(has_text=HOSTILE)).to_have_count(2)
    assert page.locator("main img, main script").count() == 0
    assert page.title() == f"{project.name} – claude-force"  # noqa: RUF001 - as it is shown
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_damaged_store_does_not_take_the_rest_along(
    page: "Page", start: Start, project: Path, faults: list[str]
) -> None:
    """What cannot be read is said in its place, with what to do."""
    (project / ".claude/runs.db").write_text("not a database, and long enough to be taken for one" * 100)
    PerformanceTracker(project / ".claude/metrics").track_execution("reviewer", "x", success=True, execution_time_ms=5)
    page.goto(serve(start)[1])
    expect(page.locator("#runs-problem")).to_contain_text("cannot be used")
    expect(page.locator("#by-agent .name")).to_have_text("reviewer")
    page.goto("about:blank")  # nothing is asked again after this
    assert all("500" in fault or "503" in fault for fault in faults)
    faults.clear()


def test_keys_reach_everything(page: "Page", start: Start, project: Path) -> None:
    """Tab stops at each control, and at the graph once; in it, the arrows lead from step to step."""
    steps = [StepRecord(step=name, agent="reviewer", status="done", attempts=1) for name in ("a", "b", "c")]
    keep_run(project, *steps, needs=lambda number: ["a"] if number else [], workflow="tree", status="completed")
    page.goto(serve(start)[1])
    expect(named(page, "c")).to_be_visible()
    controls = "a[href], button, select, input, [tabindex]"
    wanted = page.locator(controls).evaluate_all(
        "all => all.filter(one => one.checkVisibility() && one.tabIndex >= 0).length"
    )
    reached = set()
    for _ in range(wanted):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
        assert page.evaluate("document.activeElement.matches(':focus-visible')")
    assert (len(reached), page.locator("#graph a[tabindex='0']").count()) == (wanted, 1)

    named(page, "a").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#details")).to_be_focused()
    opened = page.locator("#step .title").inner_text()
    assert opened in {"b", "c"}
    page.keyboard.press("Escape")
    expect(page.locator("#details")).to_be_hidden()
    expect(named(page, opened)).to_be_focused()


def test_many_steps_stay_in_the_picture(page: "Page", start: Start, project: Path) -> None:
    """200 steps are all seen at once, none on top of another, and can be come near to."""
    steps = [StepRecord(step=f"step-{number:03}", agent="reviewer", status="done") for number in range(200)]

    def needs(number: int) -> list[str]:
        row = number // 20 - 1
        return [f"step-{20 * row + (number * factor) % 20:03}" for factor in (3, 7)] if row >= 0 else []

    keep_run(project, *steps, needs=needs, workflow="many", status="completed")
    page.goto(serve(start)[1])
    expect(page.locator("#graph a")).to_have_count(200)
    page.get_by_role("button", name="Fit").click()
    assert page.evaluate(
        """() => {
            const frame = document.querySelector('#graph').getBoundingClientRect();
            const boxes = [...document.querySelectorAll('#graph a rect')].map((box) => box.getBoundingClientRect());
            const inside = ({ left, top, right, bottom }) =>
                left >= frame.left && top >= frame.top && right <= frame.right && bottom <= frame.bottom;
            const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
            return [
                boxes.filter(inside).length,
                boxes.every((a, number) => boxes.slice(number + 1).every((b) => apart(a, b))),
            ];
        }"""
    ) == [200, True]
    expect(page.locator("#graph .facts")).to_have_count(0)
    named(page, "step-117").focus()
    for _ in range(8):
        page.keyboard.press("+")
    expect(named(page, "step-117").locator(".facts")).to_have_text("done")
