"""What was spent and what is set aside, in one file: never more than a limit together, whoever dies or fails."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from claude_force.base.config import Budgets as Limits
from claude_force.base.errors import BudgetError
from claude_force.base.ports import Shortage
from claude_force.stores.budgets import Accounts, BudgetFile, Budgets, Ceiling
from claude_force.stores.documents import shared_documents
from claude_force.stores.entries import StoreError
from claude_force.stores.shared_budgets import SharedAccounts

ONE = Decimal(1)
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BudgetFile]:
    """An open file."""
    opened = BudgetFile(tmp_path / "budgets.db")
    yield opened
    opened.close()


@pytest.fixture(params=["file", "valkey", "postgres"])
def accounts(request: pytest.FixtureRequest) -> Iterator[Accounts]:
    """Accounts wherever they can lie, without anything in them."""
    place = request.getfixturevalue(request.param)
    opened = place if request.param == "file" else SharedAccounts(shared_documents(place))
    yield opened
    opened.close()


def limits(usd: int | str, *accounts: str) -> list[Ceiling]:
    """The same limit on each account."""
    return [Ceiling(account, Decimal(usd), f"the limit of {account}") for account in accounts]


def figures(kept: Accounts, *accounts: str) -> list[tuple[Decimal, Decimal]]:
    """Of each account, what was spent and what is held."""
    return [(one.spent_usd, one.held_usd) for one in kept.standing(limits(1, *accounts))]


def test_what_is_held_is_not_for_others(accounts: Accounts) -> None:
    """In every account alike; what was not needed comes free again."""
    day, run = limits(3, "day"), limits(2, "day", "run")
    held = accounts.hold(run, ONE, lease_s=60)
    assert accounts.hold(run, 2 * ONE, lease_s=60) == Shortage("the limit of day", 2 * ONE, Decimal(0), ONE)
    assert not isinstance(accounts.hold(day, 2 * ONE, lease_s=60), Shortage)
    assert isinstance(accounts.hold(day, Decimal("1e-12"), lease_s=60), Shortage)
    assert not isinstance(held, Shortage)
    accounts.settle(held, ["day", "run"], Decimal("0.25"))
    assert figures(accounts, "day", "run") == [(Decimal("0.25"), 2 * ONE), (Decimal("0.25"), Decimal(0))]


def test_a_limit_is_exact_and_sums_are(accounts: Accounts) -> None:
    """A tenth ten times is one; what is less than a picodollar counts as one."""
    ceilings = limits(1, "day")
    for _ in range(10):
        held = accounts.hold(ceilings, Decimal("0.1"), lease_s=60)
        assert not isinstance(held, Shortage)
        accounts.settle(held, ["day"], Decimal("0.1"))
    assert isinstance(accounts.hold(ceilings, Decimal("1e-30"), lease_s=60), Shortage)
    assert figures(accounts, "day") == [(ONE, Decimal(0))]


def test_eight_threads_never_pass_it(accounts: Accounts) -> None:
    """However they meet, no more is held than there is."""
    together = threading.Barrier(8)

    def ask(_: int) -> bool:
        together.wait()
        return not isinstance(accounts.hold(limits(5, "day"), ONE, lease_s=60), Shortage)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 5
    assert figures(accounts, "day") == [(Decimal(0), 5 * ONE)]


HOLDER = """
import sys
from decimal import Decimal
from pathlib import Path
from claude_force.stores.budgets import BudgetFile, Ceiling

file = BudgetFile(Path(sys.argv[1]))
held = file.hold([Ceiling("day", Decimal(1), "")], Decimal(1))
print(held, flush=True)
sys.stdin.read()
"""


def test_what_a_dead_process_held_is_free(file: BudgetFile) -> None:
    """Not before it is dead."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(file.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        assert isinstance(file.hold(limits(1, "day"), ONE), Shortage)
        assert figures(file, "day") == [(Decimal(0), ONE)]
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert isinstance(file.hold(limits(1, "day"), 2 * ONE), Shortage)  # which is more than there ever was
        assert not isinstance(file.hold(limits(1, "day"), ONE), Shortage)
    assert figures(file, "day") == [(Decimal(0), ONE)]


def test_a_fork_holds_for_itself(file: BudgetFile) -> None:
    """A child that ends takes nothing of its parent's with it."""
    assert not isinstance(file.hold(limits(2, "day"), ONE), Shortage)
    if not (child := os.fork()):
        os._exit(isinstance(file.hold(limits(2, "day"), ONE), Shortage))
    assert os.waitpid(child, 0)[1] == 0
    assert not isinstance(file.hold(limits(2, "day"), ONE), Shortage)  # of the child, nothing is left
    assert figures(file, "day") == [(Decimal(0), 2 * ONE)]


def test_what_cannot_be_written_is_not_spent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No request is sent on a budget that cannot be kept; what cannot be settled stays held."""
    file = BudgetFile(tmp_path / "budgets.db")
    budgets = Budgets(file, Limits(per_day_usd=1))
    held = budgets.hold(ONE, agent="a", at=NOON, lease_s=60)
    assert not isinstance(held, Shortage)
    file.close()
    file.path.write_bytes(b"this is no database, and long enough to look like one" * 100)
    held.settle(Decimal(0))
    assert "its worst case stays set aside" in caplog.text
    with pytest.raises(BudgetError, match=r"'a' is not sent: the budget cannot be kept, for .*budgets\.db") as raised:
        budgets.hold(ONE, agent="a", at=NOON, lease_s=60)
    assert raised.value.exit_code == 4
    with pytest.raises(BudgetError, match="the batch is not sent"):
        budgets.hold_batch("1", {"a": ONE}, at=NOON)
    with pytest.raises(BudgetError, match="what the batch has cost cannot be written down"):
        budgets.settle_batch("1", {"a": ONE})
    with pytest.raises(BudgetError, match=r"cannot be read: .*; move that file away"):
        budgets.standing(NOON)
    file.close()


def test_who_cannot_show_that_it_lives_holds_nothing(tmp_path: Path) -> None:
    """Others would take it for dead, and spend what it holds."""
    (tmp_path / "budgets.lock").mkdir()
    file = BudgetFile(tmp_path / "budgets.db")
    with pytest.raises(StoreError, match="its lock cannot be taken"):
        file.hold(limits(1, "day"), ONE)
    file.close()


def test_what_nobody_needs_any_more_is_forgotten(file: BudgetFile) -> None:
    """An account that nothing was done to in three months, and what somebody holds who cannot be one of us."""
    for account in ("old", "new"):
        held = file.hold(limits(2, account), ONE)
        assert not isinstance(held, Shortage)
        file.settle(held, [account], ONE)
    with sqlite3.connect(file.path) as connection:
        connection.execute("UPDATE accounts SET changed_at = changed_at - 91 * 86400 WHERE name = 'old'")
        connection.execute("UPDATE accounts SET changed_at = changed_at - 89 * 86400 WHERE name = 'new'")
        connection.execute("INSERT INTO holds VALUES ('nobody', 0, 'new', 5)")
    connection.close()
    assert figures(file, "old", "new") == [(Decimal(0), Decimal(0)), (ONE, Decimal(0))]


def test_the_limits_of_the_config(accounts: Accounts) -> None:
    """A day, an agent's day, and more beside; another day, and another world, are accounts of their own."""
    budgets = Budgets(accounts, Limits(per_day_usd=3, per_agent_per_day_usd={"a": 1}))

    def settle(agent: str, at: datetime = NOON, budgets: Budgets = budgets) -> str | None:
        held = budgets.hold(ONE, agent=agent, at=at, lease_s=60)
        if isinstance(held, Shortage):
            return held.limit
        held.settle(ONE)
        return None

    assert [settle("a"), settle("a")] == [None, "budgets.per_agent_per_day_usd.a"]
    assert settle("b", budgets=budgets.limited("run 1", Decimal("0.5"), "max_cost_usd")) == "max_cost_usd"
    assert [settle("b"), settle("b"), settle("b")] == [None, None, "budgets.per_day_usd"]
    assert settle("a", NOON + timedelta(hours=12)) is None
    assert settle("a", budgets=Budgets(accounts, budgets.limits, "simulator: ")) is None
    later = NOON + timedelta(days=2)
    assert budgets.hold_batch("1", {"b": ONE, "a": ONE / 2}, at=later) is None
    shortage = budgets.hold_batch("2", {"b": ONE, "a": ONE}, at=later)
    assert shortage == Shortage("budgets.per_agent_per_day_usd.a", ONE, Decimal(0), ONE / 2)
    budgets.settle_batch("1", {"b": ONE / 4, "a": ONE / 8})
    assert [one.spent_usd for one in budgets.standing(later)] == [ONE / 8, 3 * ONE / 8]
    assert accounts.standing([]) == []
    assert [(one.limit, one.spent_usd) for one in budgets.standing(NOON)] == [
        ("budgets.per_agent_per_day_usd.a", ONE),
        ("budgets.per_day_usd", 3 * ONE),
    ]


PARTS = [(limits(4, "day", "a"), ONE), (limits(4, "day", "b"), 2 * ONE)]


def test_a_batch_is_held_as_a_whole(accounts: Accounts) -> None:
    """All of its parts or none; anew in the place of what it held before; settled once, where it was held."""
    assert accounts.hold_batch("1", PARTS) is None
    assert figures(accounts, "day", "a", "b") == [(Decimal(0), 3 * ONE), (Decimal(0), ONE), (Decimal(0), 2 * ONE)]
    assert accounts.hold_batch("2", PARTS) == Shortage("the limit of day", 4 * ONE, Decimal(0), 4 * ONE)
    assert accounts.hold_batch("1", PARTS[:1]) is None
    assert figures(accounts, "day", "a", "b") == [(Decimal(0), ONE), (Decimal(0), ONE), (Decimal(0), Decimal(0))]
    assert accounts.hold_batch("1", PARTS) is None
    for _ in range(2):
        accounts.settle_batch("1", [Decimal("0.5"), Decimal("0.25")])
        accounts.settle_batch("2", [ONE, ONE])
        assert figures(accounts, "day", "a", "b") == [
            (Decimal("0.75"), Decimal(0)),
            (Decimal("0.5"), Decimal(0)),
            (Decimal("0.25"), Decimal(0)),
        ]


def test_a_server_that_forgets_counts_nothing(valkey: str) -> None:
    """It could throw away what was spent, so nothing is, under its limits, until that is mended."""
    import redis

    accounts = SharedAccounts(shared_documents(valkey))
    with redis.Redis.from_url(valkey) as client:
        try:
            client.config_set("maxmemory-policy", "allkeys-lru")
            client.config_set("maxmemory", "100mb")
            with pytest.raises(StoreError, match="forgets what it has no room for"):
                accounts.hold(limits(3, "day"), ONE, lease_s=60)
        finally:
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")
    assert not isinstance(accounts.hold(limits(3, "day"), ONE, lease_s=60), Shortage)
    accounts.close()


def test_to_look_makes_no_file(file: BudgetFile) -> None:
    """Who has no budget gets no file."""
    assert figures(file, "day") == [(Decimal(0), Decimal(0))]
    assert not list(file.path.parent.iterdir())


amounts = st.decimals(0, 2, places=14)


class AgainstADict(RuleBasedStateMachine):
    """Two processes' worth of files on one path, against plain sums."""

    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "budgets.db"
        self.files = [BudgetFile(path), BudgetFile(path)]
        self.spent = dict.fromkeys("xy", Decimal(0))
        self.held: dict[tuple[str, int], tuple[str, Decimal]] = {}

    def rounded(self, usd: Decimal) -> Decimal:
        return usd.quantize(Decimal("1e-12"), rounding="ROUND_CEILING")

    @rule(target=holds, number=st.integers(0, 1), accounts=st.sampled_from(["x", "y", "xy"]), usd=amounts)
    def hold(self, number: int, accounts: str, usd: Decimal) -> object:
        held = self.files[number].hold(limits(3, *accounts), usd)
        has_room = all(
            self.spent[account] + sum(amount for of, amount in self.held.values() if account in of) + self.rounded(usd)
            <= 3
            for account in accounts
        )
        assert isinstance(held, Shortage) is not has_room
        if not isinstance(held, Shortage):
            self.held[held] = (accounts, self.rounded(usd))
        return held

    @rule(number=st.integers(0, 1), held=holds, share=st.decimals(0, 1, places=3))
    def settle(self, number: int, held: object, share: Decimal) -> None:
        if held not in self.held:
            return
        accounts, amount = self.held.pop(held)
        self.files[number].settle(held, list(accounts), amount * share)
        for account in accounts:
            self.spent[account] += self.rounded(amount * share)

    @invariant()
    def all_is_there(self) -> None:
        for account, (spent, held) in zip("xy", figures(self.files[1], *"xy"), strict=True):
            assert spent == self.spent[account]
            assert held == sum(amount for of, amount in self.held.values() if account in of)
            assert spent + held <= 3

    def teardown(self) -> None:
        for file in self.files:
            file.close()
        self.folder.cleanup()


TestAgainstADict = AgainstADict.TestCase
