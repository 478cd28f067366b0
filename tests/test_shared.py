"""Limits, breakers and budgets that many machines share: exact over all processes, whoever dies, whatever is away."""

import asyncio
import itertools
import json
import logging
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic  # noqa: F401 - its import takes a second, which no test should wait for
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from claude_force import (
    AgentOrchestrator,
    AsyncAgentOrchestrator,
    BudgetError,
    CircuitBreaker,
    CircuitOpenError,
    ServerError,
)
from claude_force.apps.diagnosis import diagnose
from claude_force.base.clock import SystemClock
from claude_force.base.errors import OverloadedError, RateLimitError
from claude_force.base.ports import Shortage
from claude_force.base.records import Allowance, RateLimits, Reply, Request
from claude_force.base.usage import Usage
from claude_force.engine.breaker import Permit
from claude_force.engine.limits import Flow, Limits, Ticket
from claude_force.engine.shared import SharedBreaker, SharedLimits
from claude_force.insight.health import check_health
from claude_force.stores.budgets import Ceiling
from claude_force.stores.documents import SharedDocuments, shared_documents
from claude_force.stores.shared_budgets import Account, SharedAccounts
from claude_force.testing import ApiFault, ApiLimits

from .conftest import TOKENS, WORST, MovedClock, bill, configure, spender

ONE = Decimal(1)


class Memory:
    """A server whose documents lie here, by a clock of its own, and whose word of a change may get lost."""

    AHEAD_S = 4096.0

    def __init__(self, clock: MovedClock) -> None:
        self.clock = clock
        self.bodies: dict[str, str] = {}
        self.loses_answers = False

    def read(self, names: Sequence[str]) -> tuple[list[str], float]:
        return [self.bodies.get(name, "") for name in names], self.clock.seconds + self.AHEAD_S

    def swap(self, names: Sequence[str], old: Sequence[str], new: Sequence[str]) -> bool:
        assert self.read(names)[0] == list(old)
        self.bodies |= dict(zip(names, new, strict=True))
        is_lost, self.loses_answers = self.loses_answers, False
        return not is_lost

    def check(self) -> str | None:
        return None

    def close(self) -> None: ...

    def after_fork(self) -> None: ...


def request() -> Request:
    """Some request."""
    return Request(model="m", system=(), prompt=("x" * 350,), max_tokens=4000)


def reply(limits: RateLimits | None = None) -> Reply:
    """Some answer."""
    return Reply(model="m", text="y", stop_reason="end_turn", usage=Usage(output_tokens=10), limits=limits)


# ---------------------------------------------------------------- the laws, in a time that the test moves


class AsAlone(RuleBasedStateMachine):
    """Whatever one process does, it is the same as with limits and a breaker of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.time = MovedClock(1000)
        documents = SharedDocuments(Memory(self.time), "memory")
        self.limits = Limits(self.time), SharedLimits(documents, "limits", clock=self.time)
        self.breakers = (
            CircuitBreaker(2, 7, clock=self.time),
            SharedBreaker(documents, "breaker", 2, 7, name="", clock=self.time),
        )
        self.waiting: list[tuple[Ticket, ...]] = []
        self.under_way: list[tuple[Ticket, ...]] = []
        self.permits: list[tuple[Permit, ...]] = []

    @rule()
    def join(self) -> None:
        self.waiting.append(tuple(limits.join(request(), is_blocking=False) for limits in self.limits))

    @precondition(lambda self: self.waiting)
    @rule(number=st.integers(0, 3), lease_s=st.integers(1, 9))
    def start(self, number: int, lease_s: int) -> None:
        tickets = self.waiting[number % len(self.waiting)]
        alone, shared = (
            limits.try_start(ticket, lease_s=lease_s) for limits, ticket in zip(self.limits, tickets, strict=True)
        )
        if alone is None:
            assert shared is None
            self.waiting.remove(tickets)
            self.under_way.append(tickets)
        else:
            assert shared is not None
            assert shared == pytest.approx(alone, abs=1e-6) or shared <= 0.5

    @precondition(lambda self: self.under_way)
    @rule(number=st.integers(0, 3), remaining=st.integers(0, 3), how=st.sampled_from(["told", "busy", "lost", "done"]))
    def end(self, number: int, remaining: int, how: str) -> None:
        tickets = self.under_way.pop(number % len(self.under_way))
        known = RateLimits(seen_at_s=self.time.seconds - remaining, requests=Allowance(60, remaining))
        busy = RateLimitError("slow down", retry_after_s=2.0)
        outcomes: dict[str, Reply | RateLimitError | None] = {
            "told": reply(known),
            "busy": busy,
            "lost": None,
            "done": reply(),
        }
        for limits, ticket in zip(self.limits, tickets, strict=True):
            limits.leave(ticket, outcomes[how])

    @rule()
    def enter(self) -> None:
        alone, shared = (entry(breaker.enter) for breaker in self.breakers)
        assert (alone is None) is (shared is None)
        if alone and shared:
            self.permits.append((alone, shared))

    @precondition(lambda self: self.permits)
    @rule(number=st.integers(0, 3), how=st.sampled_from(["succeeded", "failed", "abandoned"]))
    def settle(self, number: int, how: str) -> None:
        for permit in self.permits.pop(number % len(self.permits)):
            getattr(permit, how)()

    @rule(seconds=st.floats(0, 5))
    def tick(self, seconds: float) -> None:
        self.time.seconds += seconds

    @invariant()
    def they_are_alike(self) -> None:
        alone, shared = (limits.window for limits in self.limits)
        assert shared == pytest.approx(alone)
        one, other = (breaker.snapshot() for breaker in self.breakers)
        assert (one.state, one.failures) == (other.state, other.failures)
        assert one.retry_after_s == pytest.approx(other.retry_after_s, abs=1e-6)


TestAsAlone = AsAlone.TestCase


def entry(enter: Callable[[], Permit]) -> Permit | None:
    """A permit, if there is one."""
    try:
        return enter()
    except CircuitOpenError:
        return None


def test_limits_that_somebody_planted(caplog: pytest.LogCaptureFixture) -> None:
    """What no process of ours can have written costs the shared limits, with a warning, and no call."""
    clock = MovedClock(1000)
    server = Memory(clock)
    server.bodies["limits"] = '{"format":"limits 1","mean_chars":0}'
    limits = SharedLimits(SharedDocuments(server, "memory"), "limits", clock=clock)
    assert limits.try_start(limits.join(request(), is_blocking=False), lease_s=9) is None
    assert "'limits' is nothing that this version of claude-force knows" in caplog.text


def test_who_waits_for_another_machine_looks_again() -> None:
    """No signal comes from there: soon at first, then less and less often, and never without an end."""
    clock = MovedClock()
    server = Memory(clock)
    here, there = (SharedLimits(SharedDocuments(server, "memory"), "limits", clock=clock) for _ in range(2))
    for outcome in (RateLimitError("slow down"), None):  # after which one at a time may be under way
        first = there.join(request(), is_blocking=False)
        assert there.try_start(first, lease_s=60) is None
        if outcome:
            there.leave(first, outcome)
    ticket = here.join(request(), is_blocking=False)
    waits = [here.try_start(ticket, lease_s=60) or 0.0 for _ in range(8)]
    assert waits == [0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5, 0.5]


def test_a_failure_in_another_circuit_says_nothing() -> None:
    """Where the server has forgotten, periods are counted anew, and a late failure may be of an open one's number."""
    clock = MovedClock(1000)
    server = Memory(clock)
    breaker = SharedBreaker(SharedDocuments(server, "memory"), "breaker", 1, 7, name="m", clock=clock)
    breaker.enter().failed()
    clock.seconds += 7
    breaker.enter().failed()
    clock.seconds += 7
    probe = breaker.enter()
    probe.succeeded()
    late = breaker.enter()
    server.bodies.clear()
    for _ in range(3):
        clock.seconds += 7
        breaker.enter().failed()
    before = breaker.snapshot()
    late.failed()
    assert breaker.snapshot() == before


BATCHES, PRICES = st.sampled_from("12"), st.decimals(0, 2, places=3)


class Accounting(RuleBasedStateMachine):
    """Two processes, batches, leases that end, answers that get lost, against plain sums: a limit is never passed."""

    def __init__(self) -> None:
        super().__init__()
        self.time = MovedClock(1000)
        self.memory = Memory(self.time)
        self.processes = [SharedAccounts(SharedDocuments(self.memory, "memory")) for _ in range(2)]
        self.spent = Decimal(0)
        self.holds: dict[tuple[str, int], tuple[Decimal, float]] = {}
        self.batches: dict[str, list[Decimal]] = {}

    def figures(self) -> tuple[Decimal, Decimal]:
        lost = sum((usd for usd, until_s in self.holds.values() if until_s <= self.time.seconds), Decimal(0))
        held = (*(usd for usd, _ in self.holds.values()), *itertools.chain(*self.batches.values()))
        return self.spent + lost, sum(held, Decimal(0)) - lost

    @rule(number=st.integers(0, 1), usd=PRICES, lease_s=st.integers(1, 9), loses=st.booleans())
    def hold(self, number: int, usd: Decimal, lease_s: int, *, loses: bool) -> None:
        self.memory.loses_answers = loses
        held = self.processes[number].hold([Ceiling("x", 3 * ONE, "x")], usd, lease_s=lease_s)
        assert isinstance(held, Shortage) is (sum(self.figures()) + usd > 3)
        if not isinstance(held, Shortage):
            self.holds[held] = usd, self.time.seconds + lease_s

    @precondition(lambda self: self.holds)
    @rule(number=st.integers(0, 3), share=st.decimals(0, 1, places=3), loses=st.booleans())
    def settle(self, number: int, share: Decimal, *, loses: bool) -> None:
        self.memory.loses_answers = loses
        held = list(self.holds)[number % len(self.holds)]
        usd, _ = self.holds.pop(held)
        self.processes[number % 2].settle(held, ["x"], usd * share)
        self.spent += usd * share

    @rule(number=st.integers(0, 1), id_=BATCHES, usd=st.lists(PRICES, min_size=1, max_size=2), loses=st.booleans())
    def hold_batch(self, number: int, id_: str, usd: list[Decimal], *, loses: bool) -> None:
        self.memory.loses_answers = loses
        self.batches.pop(id_, None)  # what it held before makes room for it
        has_room = sum(self.figures()) + sum(usd) <= 3
        shortage = self.processes[number].hold_batch(id_, [([Ceiling("x", 3 * ONE, "x")], each) for each in usd])
        assert (shortage is None) is has_room
        if has_room:
            self.batches[id_] = usd

    @rule(number=st.integers(0, 1), id_=BATCHES, share=st.decimals(0, 1, places=3), loses=st.booleans())
    def settle_batch(self, number: int, id_: str, share: Decimal, *, loses: bool) -> None:
        self.memory.loses_answers = loses
        costs = [usd * share for usd in self.batches.pop(id_, [])]
        self.processes[number].settle_batch(id_, costs or [ONE])
        self.spent += sum(costs)

    @rule(seconds=st.integers(0, 5))
    def tick(self, seconds: int) -> None:
        self.time.seconds += seconds

    @invariant()
    def all_is_there(self) -> None:
        (standing,) = self.processes[1].standing([Ceiling("x", 3 * ONE, "x")])
        assert (standing.spent_usd, standing.held_usd) == self.figures()
        assert sum(self.figures()) <= 3


TestAccounting = Accounting.TestCase


class Contended(Memory):
    """A server on which somebody else may be faster."""

    is_beaten = False

    def swap(self, names: Sequence[str], old: Sequence[str], new: Sequence[str]) -> bool:
        is_beaten, self.is_beaten = self.is_beaten, False
        return not is_beaten and super().swap(names, old, new)


@pytest.mark.parametrize("is_forgotten", [False, True], ids=["kept", "forgotten"])
def test_a_cost_is_counted_once_whoever_is_faster(*, is_forgotten: bool) -> None:
    """Also where the server has lost what was set aside: many settle at once after a restart, and none may be lost."""
    server = Contended(MovedClock(1000))
    accounts = SharedAccounts(SharedDocuments(server, "memory"))
    held = accounts.hold([Ceiling("a", ONE, "a")], ONE / 2, lease_s=60)
    assert not isinstance(held, Shortage)
    if is_forgotten:
        server.bodies.clear()
    server.is_beaten = True
    accounts.settle(held, ["a"], ONE / 4)
    (spending,) = accounts.standing([Ceiling("a", ONE, "a")])
    assert (spending.spent_usd, spending.held_usd) == (ONE / 4, ONE - ONE)


def test_a_document_does_not_grow_for_ever() -> None:
    """What nobody will ever settle becomes one sum; and what the server forgot still counts when it is settled."""
    clock = MovedClock(1000)
    memory = Memory(clock)
    accounts = SharedAccounts(SharedDocuments(memory, "memory"))
    ceilings = [Ceiling("x", 100 * ONE, "x")]
    for _ in range(50):
        held = accounts.hold(ceilings, ONE, lease_s=1)
        clock.seconds += 3700
    assert len(memory.bodies["budget x"]) < 300
    assert accounts.standing(ceilings)[0].spent_usd == 50 * ONE
    assert not isinstance(held, Shortage)
    memory.bodies.clear()
    accounts.settle(held, ["x"], ONE)
    assert accounts.standing(ceilings)[0].spent_usd == ONE


# ---------------------------------------------------------------- on real servers


@pytest.fixture
def hosts(url: str) -> Iterator[list[SharedDocuments]]:
    """Four that share it, each by a connection of its own."""
    opened = [shared_documents(url) for _ in range(4)]
    yield opened
    for documents in opened:
        documents.close()


def started(limits: SharedLimits) -> Ticket | None:
    """One more that is under way, if it may."""
    ticket = limits.join(request(), is_blocking=False)
    if limits.try_start(ticket, lease_s=600) is None:
        return ticket
    limits.leave(ticket, None)
    return None


def test_trouble_of_one_is_trouble_of_all(hosts: list[SharedDocuments]) -> None:
    """Of eight under way at four hosts one is refused: four in all may go then, whoever asks first."""
    limits = [SharedLimits(documents, "limits m", clock=SystemClock()) for documents in hosts]
    under_way = [(host, started(host)) for host in limits for _ in range(2)]
    for host, ticket in under_way:
        assert ticket
        host.leave(ticket, OverloadedError("busy"))
    assert [host.window for host in limits] == [4.0] * 4
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda host: [started(host) for _ in range(3)], limits))
    assert sum(ticket is not None for tickets in found for ticket in tickets) == 4


def test_one_breaker_and_one_probe(hosts: list[SharedDocuments]) -> None:
    """What opens at one host is open at all; when its time is over, one probe goes in all of them."""
    breakers = [SharedBreaker(documents, "breaker m", 2, 0.3, name="m", clock=SystemClock()) for documents in hosts]
    for breaker in breakers[:2]:
        breaker.enter().failed()
    with pytest.raises(CircuitOpenError, match="'m' is open after 2 failures in a row"):
        breakers[3].enter()
    until = time.monotonic() + 120
    permits: list[Permit | None] = []
    with ThreadPoolExecutor(4) as pool:
        while not any(permits):
            assert time.monotonic() < until
            permits = list(pool.map(lambda breaker: entry(breaker.enter), breakers))
    (probe,) = [permit for permit in permits if permit]
    probe.succeeded()
    assert [breaker.state for breaker in breakers] == ["closed"] * 4


HOLDER = """
import sys
from decimal import Decimal
from claude_force.base.clock import SystemClock
from claude_force.base.records import Request
from claude_force.engine.shared import SharedLimits
from claude_force.stores.budgets import Ceiling
from claude_force.stores.documents import shared_documents
from claude_force.stores.shared_budgets import SharedAccounts

documents = shared_documents(sys.argv[1])
limits = SharedLimits(documents, "limits m", clock=SystemClock())
ticket = limits.join(Request(model="m", system=(), prompt=("x",), max_tokens=9), is_blocking=False)
print(SharedAccounts(documents).hold([Ceiling("day", Decimal(2), "")], Decimal(1), lease_s=1))
print(limits.try_start(ticket, lease_s=1), flush=True)
sys.stdin.read()
"""


@pytest.mark.usefixtures("_from_nursery")
def test_what_a_killed_process_had_under_way(hosts: list[SharedDocuments], url: str) -> None:
    """When its lease is over, its place is free, and what it had set aside is spent."""
    mine, accounts = SharedLimits(hosts[0], "limits m", clock=SystemClock()), SharedAccounts(hosts[0])
    ticket = started(mine)
    assert ticket
    mine.leave(ticket, OverloadedError("busy"))  # so that one at a time may go
    command = ["quick-python", "-c", HOLDER, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert "(" in holder.stdout.readline()
        assert holder.stdout.readline() == "None\n"
        holder.send_signal(signal.SIGKILL)
    day = [Ceiling("day", 2 * ONE, "the day")]
    until = time.monotonic() + 120
    while started(mine) is None:
        assert time.monotonic() < until
    (standing,) = accounts.standing(day)
    assert [standing.spent_usd, standing.held_usd] == [ONE, 0]
    assert accounts.hold(day, 2 * ONE, lease_s=60) == Shortage("the day", 2 * ONE, ONE, Decimal(0))


# ---------------------------------------------------------------- whole calls, against the simulator's own counts


@pytest.fixture
def project(project: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose limits are shared."""
    monkeypatch.setenv("CLAUDE_SHARED_URL", url)
    return project


def copies(project: Path, count: int) -> list[Path]:
    """The same project on so many hosts, which have no file in common."""
    folders = [project / f"host {number}" for number in range(count)]
    for folder in folders:
        (folder / ".git").mkdir(parents=True)
        (folder / ".claude").mkdir()
        for path in project.glob(".claude/**/*.*"):
            target = folder / path.relative_to(project)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    return folders


CALLER = """
import asyncio, sys
import claude_force

async def main():
    async with claude_force.AsyncAgentOrchestrator(None, "k", 20, base_url=sys.argv[1], enable_cache=False) as subject:
        tasks = [("reviewer", f"{sys.argv[2]} {number}") for number in range(int(sys.argv[3]))]
        results = await subject.execute_multiple(tasks, on_error="return", max_tokens=1000)
    kinds = [type(result).__name__ for result in results]
    print(kinds.count("AgentResult"), kinds.count("BudgetError"))

asyncio.run(main())
"""


def at_once(folders: Sequence[Path], base_url: str, calls: int) -> tuple[int, int]:
    """So many calls in each of these hosts at once; how many were answered, and how many refused."""

    def ask(folder: Path) -> list[int]:
        command = ["quick-python", "-c", CALLER, base_url, folder.name, str(calls)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, timeout=300)
        return [int(word) for word in done.stdout.split()]

    with ThreadPoolExecutor(len(folders)) as pool:
        answered, refused = map(sum, zip(*pool.map(ask, folders), strict=True))
    return answered, refused


@pytest.mark.usefixtures("_from_nursery")
def test_a_budget_over_four_processes_on_two_hosts(project: Path) -> None:
    """It is never passed, used as far as it goes, and in the end what the server has billed."""
    limit = 20 * WORST
    configure(project, budgets={"per_day_usd": float(limit)})
    with spender(latency=0.02) as simulator:
        answered, refused = at_once(copies(project, 2) * 2, simulator.base_url, 15)
        spent = bill(simulator)
    assert answered + refused == 60
    assert limit - WORST < spent <= limit
    with AgentOrchestrator() as subject:
        (standing,) = subject._project.budgets.standing(datetime.now(UTC))
        assert [standing.spent_usd, standing.held_usd] == [spent, 0]
    assert not list(project.rglob("budgets.db"))


@pytest.mark.usefixtures("_from_nursery")
def test_a_rate_limit_over_four_processes_on_two_hosts(project: Path, url: str) -> None:
    """What one has heard of the limit holds for all: next to nothing is sent that has no room."""
    limits = ApiLimits(requests_per_minute=240, burst_s=15)  # 60 at once, and the other 12 within 3 s
    with spender(limits=limits, max_recorded=0) as simulator:
        with AgentOrchestrator(api_key="k", base_url=simulator.base_url) as subject:
            subject.execute_agent("reviewer", "what is the limit?")
        assert at_once(copies(project, 2) * 2, simulator.base_url, 18) == (72, 0)
        # Who do not share are refused until calls fail. A few are seen here, too: what the headers of two answers say
        # can reach the server in the other order, the more so where there is much to do.
        assert simulator.stats.statuses.get(429, 0) <= 72 // 4
    documents = shared_documents(url)
    name = f"limits {simulator.base_url.removeprefix('http://')} {next(iter(simulator.stats.usage))}"
    flow = documents.change([name], Flow, lambda flows, _: flows[0])
    assert (flow.under_way, flow.reserved, flow.requests.limit) == ({}, (0.0, 0.0, 0.0), 240)
    documents.close()


def test_a_breaker_over_two_hosts(project: Path) -> None:
    """What one has found down, the other does not ask."""
    configure(project, breaker={"failure_threshold": 2})
    one, other = copies(project, 2)
    with spender(faults=[ApiFault(500), ApiFault(500)]) as simulator:
        with AgentOrchestrator(api_key="k", base_url=simulator.base_url, project_dir=one) as subject:
            for _ in range(2):
                with pytest.raises(ServerError):
                    subject.execute_agent("reviewer", "one")
        with AgentOrchestrator(api_key="k", base_url=simulator.base_url, project_dir=other) as subject:
            with pytest.raises(CircuitOpenError, match="after 2 failures in a row"):
                subject.execute_agent("reviewer", "one", timeout_seconds=5)
            (gate,) = subject._project.parts.traffic.gates.values()
            assert gate.breaker.snapshot().state == "open"
        assert simulator.stats.calls == {"/v1/messages": 2}


async def test_who_is_cancelled_holds_nothing(project: Path, url: str) -> None:
    """However far it has come: no money is left set aside, and no place is taken."""
    configure(project, budgets={"per_day_usd": 100})
    with spender() as simulator:
        async with AsyncAgentOrchestrator(None, "k", base_url=simulator.base_url, enable_cache=False) as subject:
            await subject.execute_agent("reviewer", "first", max_tokens=TOKENS)
            for hops in range(0, 100, 2):  # each gets a little further than the one before
                call = asyncio.create_task(subject.execute_agent("reviewer", f"task {hops}", max_tokens=TOKENS))
                for _ in range(hops):
                    await asyncio.to_thread(int)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
        spent = bill(simulator)
    documents = shared_documents(url)
    day = f"budget day {datetime.now(UTC):%Y-%m-%d}"
    account = documents.change([day], Account, lambda accounts, _: accounts[0])
    assert account.holds == {}
    assert Decimal(account.spent) / 10**12 >= spent
    name = f"limits {simulator.base_url.removeprefix('http://')} {next(iter(simulator.stats.usage))}"
    assert documents.change([name], Flow, lambda flows, _: flows[0].under_way) == {}
    documents.close()


@pytest.mark.usefixtures("_from_nursery")
def test_what_people_are_shown(project: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Budgets of all hosts, and whether the server answers, without what only says who asks."""
    configure(project, budgets={"per_day_usd": 1})
    with spender() as simulator, AgentOrchestrator(api_key="k", base_url=simulator.base_url) as subject:
        subject.execute_agent("reviewer", "one", max_tokens=TOKENS)
        (budget,) = json.loads(subprocess.check_output(["claude-force", "budgets", "--json"]))
        assert budget["spent_usd"] == float(bill(simulator))
    shown = url.replace("postgres@", "")
    found = {check.name: check for check in check_health().checks}["shared"]
    assert (found.status, found.facts) == ("ok", {"url": shown})
    assert found.detail.startswith(f"{shown} answers")
    assert "appendonly yes" in found.fix or url.startswith("postgresql")
    for budgets, status in (({}, "warning"), ({"per_day_usd": 1}, "error")):
        configure(project, budgets=budgets)
        monkeypatch.setenv("CLAUDE_SHARED_URL", "redis://me:sesame@127.0.0.1:1/0")
        finding = {one.subject: one for one in diagnose(None, start=project)}["shared"]
        assert finding.state == status
        assert "'redis://127.0.0.1:1/0' does not answer: " in finding.detail


@pytest.mark.parametrize("kind", ["valkey", "postgres"])
def test_while_the_server_is_away(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What has a budget is refused, and says which server; the rest goes on by itself, with one warning."""
    running = request.getfixturevalue(f"{kind}_server")
    monkeypatch.setenv("CLAUDE_SHARED_URL", request.getfixturevalue(kind))
    project: Path = request.getfixturevalue("tmp_path")
    agent = project / ".claude/agents/reviewer.md"
    agent.parent.mkdir(parents=True)
    agent.write_text("---\nname: reviewer\ndescription: Reviews.\nmodel: haiku\n---\nYou review.\n")
    monkeypatch.chdir(project)
    with spender() as simulator:
        options: dict[str, Any] = {"api_key": "k", "base_url": simulator.base_url, "enable_cache": False}
        with AgentOrchestrator(**options) as free, AgentOrchestrator(**options, max_cost_usd=1) as bound:
            for subject in (free, bound):
                assert subject.execute_agent("reviewer", "one") == "one"
            running.stop(signal.SIGKILL if kind == "valkey" else signal.SIGINT)
            try:
                with pytest.raises(BudgetError, match=r"not sent: .*//.*127\.0\.0\.1.*does not answer") as raised:
                    bound.execute_agent("reviewer", "two")
                assert raised.value.exit_code == 4
                caplog.clear()
                assert [free.execute_agent("reviewer", task) for task in ("two", "three")] == ["two", "three"]
                assert [record.levelno for record in caplog.records] == [logging.WARNING]
            finally:
                running.start()
            until = time.monotonic() + 120
            while True:
                try:
                    assert bound.execute_agent("reviewer", "three") == "three"
                    break
                except BudgetError:
                    assert time.monotonic() < until
            assert free.execute_agent("reviewer", "four") == "four"
