"""Message batches and what goes wrong: whoever dies, and whenever, nothing is sent twice and nothing is lost.

Time is a clock that a pause moves on, so that nobody waits; processes, server, files and kills are real.
"""

import asyncio
import json
import os
import random
import shutil
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import anthropic  # noqa: F401 - a second that no time limit of a test is to pay
import msgspec
import pytest

from claude_force import AgentOrchestrator, AsyncAgentOrchestrator
from claude_force.base.clock import SystemClock
from claude_force.base.endpoints import DEFAULT_ENDPOINT
from claude_force.base.errors import (
    BatchEntryError,
    BatchError,
    BatchNotFoundError,
    CredentialsError,
    ProtocolError,
    RateLimitError,
    ServerError,
)
from claude_force.engine.faces import Blocking, run_now
from claude_force.engine.request import Task
from claude_force.engine.sending import BatchWatch, as_asked, entry_of
from claude_force.orchestrator import Project
from claude_force.testing import (
    ApiFault,
    Disconnect,
    Hang,
    NotMessages,
    Rule,
    SeenRequest,
    Simulator,
)

from .conftest import bill

# Forks a child for each line that it reads; says how each ended.
NURSERY = """
import os, signal, sys
from datetime import datetime, timedelta
import msgspec
from claude_force.base.clock import SystemClock
from claude_force.base.endpoints import DEFAULT_ENDPOINT
from claude_force.engine.sending import BatchWatch
from claude_force.engine.faces import Blocking, run_now
from claude_force.engine.request import Task
from claude_force.orchestrator import Project

url, hand, noon = sys.argv[1:]

class Clock(SystemClock):
    def now(self):
        return datetime.fromisoformat(noon) + timedelta(seconds=os.stat(hand).st_mtime)

class Deadly(Blocking):
    clock, left = Clock(), 0

    async def pause(self, seconds):
        later = os.stat(hand).st_mtime + seconds
        os.utime(hand, (later, later))

    def step(self):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    async def call(self, function):
        value = function()
        self.step()
        return value

    apart = finish = finish_apart = call

def child(folder, steps, count):
    os.chdir(folder)
    project = Project(api_key="k", base_url=url)
    outside = Deadly(lambda: project.live)
    outside.left = steps
    batching = project.batching
    batching = msgspec.structs.replace(batching, parts=msgspec.structs.replace(batching.parts, clock=outside.clock))
    tasks = [Task(agent_name="reviewer", text=f"task {number}") for number in range(count)]
    run_now(batching.execute(outside, tasks, live_fallback=False, watch=BatchWatch()))

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
for line in sys.stdin:
    folder, count, steps, seconds = line.split()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            child(folder, int(steps), int(count))
            code = 0
        finally:
            os._exit(code)
    if float(seconds) and signal.sigtimedwait({signal.SIGCHLD}, float(seconds)) is None:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    signal.sigtimedwait({signal.SIGCHLD}, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""

ENTRIES = 1000
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Sundial(SystemClock):
    """One for the server and for all processes, which moves where one of them would wait: a file's time is its hand."""

    def __init__(self, hand: Path) -> None:
        self.hand = hand
        hand.touch()
        os.utime(hand, (0, 0))

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.hand.stat().st_mtime)


class Life(NamedTuple):
    """One process that wants `entries` answers, and when it is killed."""

    project: Path
    entries: int
    steps: int = 0
    """After which of its acts, from 1; 0 is never."""
    seconds: float = 0.0
    """After how long; 0 is never."""


def live(simulator: Simulator, clock: Sundial, *lives: Life) -> list[int]:
    """Have these processes live one after the other; gives their exit codes."""
    codes: list[int] = []
    command = ["quick-python", "-c", NURSERY, simulator.base_url, str(clock.hand), str(NOON)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as it:
        assert it.stdin
        assert it.stdout
        for life in lives:
            if codes:
                has_heard_all(simulator)
            it.stdin.write(f"{life.project} {life.entries} {life.steps} {life.seconds}\n")
            it.stdin.flush()
            codes.append(int(it.stdout.readline()))
        assert it.communicate() == ("", "")
    return codes


def has_heard_all(simulator: Simulator) -> None:
    """Wait until the server has read all that the dead have sent: the minutes it has for that pass at once here."""
    line = HTTPConnection(urlsplit(simulator.base_url).netloc)
    line.request("GET", "/")
    line.getresponse().read()  # whoever has called before is let in by now
    line.close()
    simulator.wait_until(lambda stats: stats.connections_open == 0)


def posted(simulator: Simulator) -> list[str]:
    """The ids of all entries that the server was sent, in the order of their arrival."""
    bodies = [each.body for each in simulator.requests if each.path == "/v1/messages/batches" and each.body]
    return [one["custom_id"] for body in bodies for one in body["requests"]]


def ledger(project: Path) -> list[dict[str, Any]]:
    """The lines that say what a batch has answered; money is exact."""
    lines = (project / ".claude/metrics/executions.jsonl").read_text().splitlines()
    return [line for text in lines if "batch_id" in (line := json.loads(text, parse_float=Decimal))]


def check(simulator: Simulator, project: Path, entries: int) -> None:
    """Each is in the ledger once and in the cache; ledger and budget agree."""
    lines = ledger(project)
    assert Counter(Counter(line["request_id"] for line in lines).values()) == {1: entries}
    calls = simulator.stats.calls
    with AgentOrchestrator(api_key="k", base_url=simulator.base_url) as subject:
        again = subject.execute_batch([("reviewer", f"task {number}") for number in range(entries)])
        (standing,) = subject._project.budgets.standing(NOON)
    assert again == [f"task {number}" for number in range(entries)]
    assert all(result.cached for result in again)  # type: ignore[union-attr] # no errors: they are the texts
    assert simulator.stats.calls == calls
    cost = sum((Decimal(line["estimated_cost"]) for line in lines), Decimal(0))
    assert (standing.spent_usd, standing.held_usd) == (cost, Decimal(0))


@pytest.fixture
def project(project: Path) -> Path:
    """The project, with a budget, so that this is accounted for, too."""
    (project / ".claude/claude.json").write_text(json.dumps({"budgets": {"per_day_usd": 1000}}))
    return project


@pytest.fixture
def clock(tmp_path: Path) -> Sundial:
    """It says noon."""
    return Sundial(tmp_path / "hand")


@pytest.mark.usefixtures("_from_nursery")
def test_a_thousand_entries_and_kills_at_random_moments(project: Path, clock: Sundial) -> None:
    """Each entry is sent once, each answer is kept, and ledger and budget are the server's bill to the picodollar."""
    chance = random.Random(6)  # noqa: S311 - the same kills in every run
    # Half of the kills hit the moments between two acts, the early ones as often as the late; half of them any moment.
    lives = [Life(project, ENTRIES, steps=round(2 ** chance.uniform(0, 10))) for _ in range(8)]
    lives += [Life(project, ENTRIES, seconds=chance.uniform(0.05, 1.5)) for _ in range(8)]
    chance.shuffle(lives)
    with Simulator(lambda request: request.prompt, batch_polls=3, clock=clock, max_recorded=100_000) as simulator:
        codes = live(simulator, clock, *lives, Life(project, ENTRIES))
        assert codes[-1] == 0
        assert -9 in codes  # how many depends on how fast they are; of those by steps, the early ones always
        ids = posted(simulator)
        assert (len(ids), len(set(ids))) == (ENTRIES, ENTRIES)
        check(simulator, project, ENTRIES)
        assert sum(Decimal(line["estimated_cost"]) for line in ledger(project)) == bill(simulator)


@pytest.mark.usefixtures("_from_nursery")
def test_a_kill_after_each_act(tmp_path: Path, project: Path, clock: Sundial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever it was, the next process goes on from there; batches of others, of the same size, are left alone."""
    steps = range(1, 19)
    projects = [tmp_path / f"{number}" for number in steps]
    for copy in projects:
        shutil.copytree(project / ".claude", copy / ".claude")
        (copy / ".git").mkdir()
    lives = [
        life for copy, number in zip(projects, steps, strict=True) for life in (Life(copy, 1, number), Life(copy, 1))
    ]
    with Simulator(lambda request: request.prompt, batch_polls=2, clock=clock, max_recorded=100_000) as simulator:
        codes = live(simulator, clock, *lives)
        assert (codes[0], codes[-2]) == (-9, 0)  # the last one came to its end before
        assert set(codes[1::2]) == {0}
        assert len(posted(simulator)) == len(set(posted(simulator))) == len(projects)
        for copy in projects:
            monkeypatch.chdir(copy)
            check(simulator, copy, 1)


@pytest.mark.usefixtures("_from_nursery")
def test_two_processes_at_once(project: Path, clock: Sundial) -> None:
    """Whoever comes first sends; both have the answers, and one of them accounts for it."""
    with Simulator(lambda request: request.prompt, batch_polls=3, clock=clock, max_recorded=100_000) as simulator:
        with ThreadPoolExecutor() as threads:
            codes = list(threads.map(lambda _: live(simulator, clock, Life(project, 20)), range(3)))
        assert codes == [[0]] * 3
        assert len(posted(simulator)) == 20
        lines = ledger(project)
        assert len(lines) == 20
        assert sum(Decimal(line["estimated_cost"]) for line in lines) == bill(simulator)


# ---------------------------------------------------------------- in one process


class Clock(SystemClock):
    """The machine's, which a test moves on."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


class Hasty(Blocking):
    """An `Outside` that notes for how long it would wait."""

    def __init__(self, project: Project) -> None:
        super().__init__(lambda: project.live)
        self.clock = Clock()
        batching = project.batching
        parts = msgspec.structs.replace(batching.parts, clock=self.clock)
        self.batching = msgspec.structs.replace(batching, parts=parts)
        self.warnings: list[str] = []
        self.statuses: list[str] = []

    async def pause(self, seconds: float) -> None:
        self.clock.ahead += timedelta(seconds=seconds)

    @property
    def watch(self) -> BatchWatch:
        """Notes what it is told."""
        return BatchWatch(on_status=lambda status: self.statuses.append(status.status), on_warning=self.warnings.append)

    def execute(self, *texts: str, watch: BatchWatch | None = None, **options: Any) -> list[Any]:
        """The answers to these tasks."""
        tasks = [Task(agent_name="reviewer", text=text, **options) for text in texts]
        return run_now(self.batching.execute(self, tasks, live_fallback=False, watch=watch or self.watch))


def at(method: str, path: str) -> Callable[[SeenRequest], bool]:
    """Requests to the end of this path."""
    return lambda request: request.method == method and request.path.endswith(path)


@pytest.fixture
def served(project: Path) -> Iterator[Callable[..., tuple[Simulator, Hasty]]]:
    """A simulator with these rules, and who asks it."""
    with ExitStack() as stack:

        def serve(*rules: Rule, **options: Any) -> tuple[Simulator, Hasty]:
            simulator = stack.enter_context(Simulator("ok", rules=rules, **options))
            asks = Project(api_key="k", base_url=simulator.base_url, project_dir=project)
            stack.callback(asks.close)
            return simulator, Hasty(asks)

        yield serve


def test_time_goes_on_between_polls(served: Any) -> None:
    """First soon, then once a minute; what is said is what the server says."""
    _, outside = served(batch_polls=10)
    assert outside.execute("one") == ["ok"]
    assert outside.statuses == ["in_progress"] * 10 + ["ended"]
    assert timedelta(minutes=2) < outside.clock.ahead < timedelta(minutes=8)


def test_a_lost_connection_is_doubt(served: Any) -> None:
    """Nobody knows whether the server took it: it is looked for, and sent again only after a while."""
    simulator, outside = served(Rule(Disconnect(), when=at("POST", "/batches"), times=1))
    assert outside.execute("one") == ["ok"]
    assert outside.clock.ahead > timedelta(minutes=2)
    assert simulator.stats.calls["/v1/messages/batches"] > 4  # sent twice, and looked for
    assert len(posted(simulator)) == 2
    assert "not known whether the server has taken the batch" in outside.warnings[0]


@pytest.mark.parametrize("is_taken", [True, False])
def test_a_clock_that_was_set_back(served: Any, *, is_taken: bool) -> None:
    """A sender with a wrong clock dies, and the clock is set right: its batch is found, or soon sent again."""
    simulator, outside = served()
    outside.clock.ahead = timedelta(hours=1)
    batching = outside.batching
    (turn,) = batching.prepare([Task(agent_name="reviewer", text="one")])
    where: Any = {"server": batching.parts.server, "endpoint": "", "split": lambda entries: [entries]}
    ((id_, release),) = batching.store.join([entry_of(turn)], at=outside.clock.now(), **where).added.items()
    if is_taken:
        batching.servers(DEFAULT_ENDPOINT).create(as_asked(batching.store.entries(id_), DEFAULT_ENDPOINT))
    release()
    outside.clock.ahead = timedelta()
    assert outside.execute("one") == ["ok"]
    assert len(posted(simulator)) == 1
    assert outside.clock.ahead < timedelta(minutes=10)


def test_overload_is_no_doubt(served: Any) -> None:
    """The server said no, so it is asked again at once."""
    simulator, outside = served(Rule(ApiFault(529), when=at("POST", "/batches"), times=1))
    assert outside.execute("one") == ["ok"]
    assert outside.clock.ahead < timedelta(seconds=10)
    assert simulator.stats.calls["/v1/messages/batches"] == 2


def test_what_the_server_refuses_was_never_sent(served: Any) -> None:
    """Nothing is left of it, nor of what was set aside for it."""
    simulator, outside = served(Rule(ApiFault(401), when=at("POST", "/batches"), times=1))
    with pytest.raises(CredentialsError):
        outside.execute("one")
    assert outside.batching.store.records(outside.batching.parts.server) == []
    (standing,) = outside.batching.budget.standing(datetime.now(UTC))
    assert standing.held_usd == 0
    assert outside.execute("one") == ["ok"]
    assert len(posted(simulator)) == 2


def test_a_server_that_is_away_for_a_while(served: Any) -> None:
    """Is asked again; one that stays away is said, and the same call goes on later."""
    simulator, outside = served(Rule(ApiFault(500), when=lambda request: "/batches/" in request.path, times=16))
    with pytest.raises(ServerError):
        outside.execute("one")
    assert outside.execute("one") == ["ok"]
    assert len(outside.warnings) == 12 + 3
    assert len(posted(simulator)) == 1


def test_what_the_server_says_is_asked_for_again(served: Any) -> None:
    """The list of batches, the results, and those that end early, as a cut connection may: nothing is paid twice."""
    simulator, outside = served(
        Rule(Disconnect(), when=at("POST", "/batches"), times=1),
        Rule(ApiFault(529), when=at("GET", "/batches"), times=2),
        Rule(ApiFault(500), when=at("GET", "/results"), times=1),
        Rule(NotMessages(body=""), when=at("GET", "/results"), times=2),
    )
    assert outside.execute("one") == ["ok"]
    assert len(outside.warnings) == 1 + 2 + 1
    assert simulator.stats.calls["/v1/messages/batches/{id}/results"] == 1 + 2 + 1


def test_what_the_server_leaves_out_has_no_answer(served: Any, project: Path) -> None:
    """It is believed where it says the same again and again, or the batch would never end.

    But nobody knows what it has cost: here it was answered and billed.
    """
    simulator, outside = served(Rule(NotMessages(body=""), when=at("GET", "/results")))
    (outcome,) = outside.execute("one")
    assert isinstance(outcome, BatchEntryError)
    assert [line["estimated_cost"] for line in ledger(project)] == [None]
    (standing,) = outside.batching.budget.standing(datetime.now(UTC))
    assert standing.held_usd == 0
    assert standing.spent_usd >= bill(simulator) > 0


def test_no_batch_waits_for_a_year_to_be_sent(served: Any) -> None:
    """A server may say anything in `retry-after`."""
    _, outside = served(Rule(ApiFault(429, retry_after=3600 * 24 * 365), when=at("POST", "/batches"), times=1))
    with pytest.raises(RateLimitError):
        outside.execute("one")
    assert outside.execute("one") == ["ok"]


def test_a_batch_that_the_server_does_not_know(served: Any) -> None:
    """It may be of another workspace, so it is not sent again unasked."""
    simulator, outside = served(Rule(ApiFault(404), when=lambda request: "/batches/" in request.path, times=1))
    with pytest.raises(BatchNotFoundError, match="the API key is of the workspace"):
        outside.execute("one")
    assert outside.execute("one") == ["ok"]
    assert len(posted(simulator)) == 1


def test_an_answer_is_taken_before_its_batch_is_forgotten(served: Any) -> None:
    """Also where no cache keeps it: if it cannot be written down, the same call gives it again, for nothing."""
    simulator, outside = served()

    def full(number: int, _: Any) -> None:
        if number:
            raise OSError(28, "No space left on device")

    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            outside.execute("one", "two", use_cache=False, watch=BatchWatch(on_outcome=full))
    # Nor does who wants something else forget it, and is told so.
    said: list[str] = []
    assert outside.execute("three", watch=BatchWatch(on_warning=said.append)) == ["ok"]
    assert ["is not collected to its end" in text for text in said] == [True]
    assert outside.execute("one", "two", use_cache=False) == ["ok", "ok"]
    assert len(posted(simulator)) == 3
    assert len(ledger(outside.batching.parts.ledger.path.parents[2])) == 3
    (standing,) = outside.batching.budget.standing(datetime.now(UTC))
    assert (standing.spent_usd, standing.held_usd) == (bill(simulator), 0)


def test_what_no_cache_keeps_is_left_for_who_asked(served: Any) -> None:
    """Collecting it for nobody would lose what was paid."""
    simulator, outside = served()
    tasks = [Task(agent_name="reviewer", text="one", use_cache=False)]
    (id_,) = run_now(outside.batching.submit(outside, tasks, watch=outside.watch))
    with pytest.raises(BatchError, match="the command that sent it gives them"):
        run_now(outside.batching.see_through(outside, id_, outside.watch))
    assert outside.execute("one", use_cache=False) == ["ok"]
    assert len(posted(simulator)) == 1


@pytest.mark.parametrize("body", ["<html>", '{"custom_id": "a', f'{{"custom_id": {"[" * 100_000}'])
def test_results_that_are_none(served: Any, body: str) -> None:
    """Are an error of ours, and the batch stays to be collected."""
    simulator, outside = served(Rule(NotMessages(body=body), when=at("GET", "/results"), times=1))
    with pytest.raises(ProtocolError):
        outside.execute("one")
    assert outside.execute("one") == ["ok"]
    assert len(posted(simulator)) == 1


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE batches SET sent_at = 1e300",
        "UPDATE batches SET stage = CAST(x'ff' AS TEXT)",
        "UPDATE entries SET body = 'x'",
        "UPDATE entries SET agent = 'other'",
        "DROP TABLE entries",
    ],
)
def test_a_damaged_record_spends_nothing(served: Any, damage: str) -> None:
    """What was sent might be in it, so nothing is sent, and the file is named."""
    simulator, outside = served()
    run_now(outside.batching.submit(outside, [Task(agent_name="reviewer", text="one")], watch=outside.watch))
    outside.batching.store.close()
    with closing(sqlite3.connect(outside.batching.store.path)) as file, file:
        file.execute("PRAGMA foreign_keys = OFF")
        file.execute(damage)
    with pytest.raises(BatchError, match="record of batches"):
        outside.execute("one")
    assert len(posted(simulator)) == 1


def test_a_record_that_somebody_else_has_made(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloned repository may bring one along that asks for something to be sent: nothing is."""
    simulator, outside = served()
    run_now(outside.batching.submit(outside, [Task(agent_name="reviewer", text="one")], watch=outside.watch))
    outside.batching.store.close()
    with closing(sqlite3.connect(outside.batching.store.path)) as file, file:
        file.execute("UPDATE batches SET stage = 'sending', batch_id = NULL, sent_at = 0")
    monkeypatch.setenv("CLAUDE_CACHE_SECRET", "a secret of somebody else")
    with AgentOrchestrator(api_key="k", base_url=simulator.base_url) as subject:
        with pytest.raises(BatchError, match="that you have not signed, so nothing of that batch is sent"):
            subject.execute_batch([("reviewer", "one")])
        assert subject.execute_batch([("reviewer", "two")]) == ["ok"], "which has nothing to do with it"
    assert [id_[:20] for id_ in posted(simulator)].count(posted(simulator)[0][:20]) == 1


def test_a_record_without_the_id_of_a_batch(served: Any) -> None:
    """Whose it was is found out, as after a crash."""
    simulator, outside = served()
    run_now(outside.batching.submit(outside, [Task(agent_name="reviewer", text="one")], watch=outside.watch))
    with closing(sqlite3.connect(outside.batching.store.path)) as file, file:
        file.execute("UPDATE batches SET batch_id = ''")
    assert outside.execute("one") == ["ok"]
    assert len(posted(simulator)) == 1


def test_answers_that_are_not_kept_any_more(served: Any) -> None:
    """After 29 days the server has none: that is said once, and then they are asked for again."""
    clock = Clock()
    simulator, outside = served(clock=clock)
    run_now(outside.batching.submit(outside, [Task(agent_name="reviewer", text="one")], watch=outside.watch))
    (record,) = outside.batching.store.records(outside.batching.parts.server)
    assert outside.batching.server(record).show(record.batch_id).status == "ended"
    clock.ahead = outside.clock.ahead = timedelta(days=30)
    with pytest.raises(BatchNotFoundError, match="ask again"):
        outside.execute("one")
    assert outside.execute("one") == ["ok"]
    assert len(posted(simulator)) == 2


def test_cancelled_while_it_is_sent(project: Path) -> None:
    """The server's word is heard to its end, so there is no doubt whose batch it is."""
    arrived, answered = threading.Event(), threading.Event()

    def hold(request: SeenRequest) -> bool:
        if at("POST", "/batches")(request):
            arrived.set()
            assert answered.wait(60)
        return False

    async def work() -> None:
        async with AsyncAgentOrchestrator(api_key="k", base_url=simulator.base_url) as subject:
            task = asyncio.create_task(subject.execute_batch([("reviewer", "one")]))
            await asyncio.to_thread(arrived.wait, 60)
            task.cancel()
            asyncio.get_running_loop().call_soon(answered.set)
            with pytest.raises(asyncio.CancelledError):
                await task

    with Simulator("ok", rules=[Rule(Hang(), when=hold)]) as simulator:
        asyncio.run(work())
        with closing(sqlite3.connect(project / ".claude/batches.db")) as file:
            assert file.execute("SELECT stage FROM batches").fetchall() == [("sent",)]
