"""What was spent, and what is set aside, by all processes of a project: `Budgets`, and their accounts in a SQLite file.

An *account* is what a limit is about: a day, an agent's day, a run. Before a request is sent, its worst case is set
aside in all accounts that apply, in one transaction; after it, what it has cost is added to them, and the rest is free
again. So what was spent and what is set aside never pass a limit together, however many ask at once.

Each process has a claim (`stores.claims`), which the system drops when it dies. What a dead one had set aside is
released when it is in somebody's way: a crash must not eat the budget of a day, at the price that what it had in flight
is not counted. A message batch goes on without its process, and what it set aside stays until it is settled.

Money lies in the file as whole picodollars: sums are exact, and 9 million dollars fit. Where many machines share their
budgets, accounts lie on a server instead: `stores.shared_budgets`.
"""

import math
import os
import sqlite3
import time
from collections.abc import Sequence
from datetime import UTC
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import msgspec

from claude_force.base.errors import BudgetError
from claude_force.base.ports import Shortage
from claude_force.stores.claims import Claims
from claude_force.stores.database import Database, Design
from claude_force.stores.entries import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from claude_force.base.config import Budgets as Limits

_PICO = 10**12
_KEPT_S = 90 * 86_400.0
"""How long an account stands after its last change."""


class Ceiling(NamedTuple):
    """A limit on one account."""

    account: str
    limit_usd: Decimal
    named: str
    """As its owner knows it: `budgets.per_day_usd`."""


class Spending(NamedTuple):
    """How it stands with one limit."""

    limit: str
    limit_usd: Decimal
    spent_usd: Decimal
    held_usd: Decimal
    """Set aside for requests that are under way."""

    def to_dict(self) -> dict[str, Any]:
        """With what is left, ready for JSON: money is a float."""
        facts = self._asdict() | {"left_usd": self.limit_usd - self.spent_usd - self.held_usd}
        return {name: fact if name == "limit" else float(fact) for name, fact in facts.items()}


class Accounts(Protocol):
    """Where it is kept what was spent and what is set aside. Raises `StoreError`."""

    @property
    def way_out(self) -> str:
        """What to do where it cannot be read."""

    def hold(self, ceilings: Sequence[Ceiling], usd: Decimal, *, lease_s: float) -> "tuple[str, int] | Shortage":
        """Set this much aside in each account, if all have room for it: what settles it, or what is in the way.

        What is given to `settle`; one call of it ends the hold.
        """

    def settle(self, held: tuple[str, int], accounts: Sequence[str], usd: Decimal) -> None:
        """Let go of what was set aside, and add what was spent."""

    def hold_batch(self, id_: str, parts: "Sequence[tuple[Sequence[Ceiling], Decimal]]") -> Shortage | None:
        """As `hold`, for all parts of a batch or none, whether its process lives or not; anew if it did before."""

    def settle_batch(self, id_: str, usd: Sequence[Decimal]) -> None:
        """Let go of what the batch had set aside, and add what its parts have cost, to the same accounts; only once."""

    def standing(self, ceilings: Sequence[Ceiling]) -> list[Spending]:
        """How it stands with these limits; makes nothing where there is nothing."""

    def close(self) -> None:
        """Let go of files and connections; a later call opens them anew."""


def _m001_accounts(connection: sqlite3.Connection) -> None:
    for statement in (
        """CREATE TABLE accounts (name TEXT PRIMARY KEY, spent INTEGER NOT NULL, changed_at REAL NOT NULL)
            WITHOUT ROWID""",
        """CREATE TABLE holds (owner TEXT NOT NULL, number INTEGER NOT NULL, account TEXT NOT NULL,
            amount INTEGER NOT NULL, PRIMARY KEY (owner, number, account)) WITHOUT ROWID""",
    ):
        connection.execute(" ".join(statement.split()))


_DESIGN = Design("record of budgets", "move it away", (_m001_accounts,))
_SPENT = "SELECT coalesce(max(CAST(spent AS INTEGER)), 0) FROM accounts WHERE name = ?"
_HELD = "SELECT coalesce(sum(CAST(amount AS INTEGER)), 0) FROM holds WHERE account = ?"
_HELD_BY = "SELECT CAST(number AS INTEGER), CAST(account AS TEXT) FROM holds WHERE owner = ?"
BATCH = "batch "
"""How the names of owners begin that are no processes."""
_SPEND = (
    "INSERT INTO accounts VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET spent = spent + excluded.spent,"
    " changed_at = excluded.changed_at"
)


class BudgetFile(Database):
    """The accounts of one project. Implements `Accounts`. Safe for threads and processes."""

    way_out = "move that file away, and counting begins anew"

    def __init__(self, path: Path) -> None:
        super().__init__(path, _DESIGN)
        self._claims = Claims(path.with_name("budgets.lock"))
        self._owner, self._process = "", 0
        self._numbers = count()

    def hold(
        self,
        ceilings: Sequence[Ceiling],
        usd: Decimal,
        *,
        lease_s: float = math.inf,  # noqa: ARG002 - a process's claim ends with it
    ) -> "tuple[str, int] | Shortage":
        """See `Accounts.hold`."""
        owner, number, amount = self._claimed(), next(self._numbers), picos(usd)

        def hold(writer: sqlite3.Connection) -> Shortage | None:
            shortage = _shortage(writer, ceilings, amount)
            if shortage and self._release_dead(writer):
                shortage = _shortage(writer, ceilings, amount)
            if shortage is None:
                rows = [(owner, number, ceiling.account, amount) for ceiling in ceilings]
                writer.executemany("INSERT INTO holds VALUES (?, ?, ?, ?)", rows)
            return shortage

        return self._transact(hold) or (owner, number)

    def hold_batch(self, id_: str, parts: "Sequence[tuple[Sequence[Ceiling], Decimal]]") -> Shortage | None:
        """See `Accounts.hold_batch`."""
        owner = BATCH + id_

        def hold(writer: sqlite3.Connection) -> Shortage | None:
            writer.execute("DELETE FROM holds WHERE owner = ?", (owner,))
            self._release_dead(writer)
            for number, (ceilings, usd) in enumerate(parts):
                amount = picos(usd)
                if shortage := _shortage(writer, ceilings, amount):
                    writer.execute("DELETE FROM holds WHERE owner = ?", (owner,))
                    return shortage
                rows = [(owner, number, ceiling.account, amount) for ceiling in ceilings]
                writer.executemany("INSERT INTO holds VALUES (?, ?, ?, ?)", rows)
            return None

        return self._transact(hold)

    def settle_batch(self, id_: str, usd: Sequence[Decimal]) -> None:
        """See `Accounts.settle_batch`."""
        if not os.path.lexists(self.path):  # nothing was ever set aside
            return
        owner, now = BATCH + id_, time.time()

        def settle(writer: sqlite3.Connection) -> None:
            held = writer.execute(_HELD_BY, (owner,)).fetchall()
            writer.execute("DELETE FROM holds WHERE owner = ?", (owner,))
            writer.executemany(_SPEND, [(account, picos(usd[number]), now) for number, account in held])

        self._transact(settle)

    def settle(self, held: tuple[str, int], accounts: Sequence[str], usd: Decimal) -> None:
        """See `Accounts.settle`."""
        rows = [(account, picos(usd), time.time()) for account in accounts]

        def settle(writer: sqlite3.Connection) -> None:
            writer.execute("DELETE FROM holds WHERE owner = ? AND number = ?", held)
            writer.executemany(_SPEND, rows)

        self._transact(settle)

    def standing(self, ceilings: Sequence[Ceiling]) -> list[Spending]:
        """See `Accounts.standing`."""
        if not os.path.lexists(self.path):
            return [Spending(ceiling.named, ceiling.limit_usd, Decimal(0), Decimal(0)) for ceiling in ceilings]
        self._transact(self._release_dead)
        figures = [(self._rows(_SPENT, account), self._rows(_HELD, account)) for account, _, _ in ceilings]
        return [
            Spending(ceiling.named, ceiling.limit_usd, usd_of(spent), usd_of(held))
            for ceiling, ([(spent,)], [(held,)]) in zip(ceilings, figures, strict=True)
        ]

    def _claimed(self) -> str:
        """This process's name, which lasts as long as it does."""
        with self._opening:
            if self._process != os.getpid():
                owner = os.urandom(16).hex()
                try:
                    self._claims.take(owner)
                except OSError as error:
                    raise StoreError(f"{str(self.path)!r}: its lock cannot be taken: {error}") from error
                self._owner, self._process = owner, os.getpid()
            return self._owner

    def _release_dead(self, writer: sqlite3.Connection) -> bool:
        """Let go of what dead processes had set aside; whether there was anything. Also of accounts that are old."""
        owners = [owner for (owner,) in writer.execute("SELECT DISTINCT CAST(owner AS TEXT) FROM holds")]
        dead = [(owner,) for owner in owners if not _is_alive(self._claims, owner)]
        writer.executemany("DELETE FROM holds WHERE owner = ?", dead)
        writer.execute("DELETE FROM accounts WHERE changed_at < ?", (time.time() - _KEPT_S,))
        return bool(dead)


def _is_alive(claims: Claims, owner: str) -> bool:
    if owner.startswith(BATCH):
        return True
    try:
        return claims.is_held(owner)
    except ValueError:  # nobody of ours is called so
        return False


def _shortage(writer: sqlite3.Connection, ceilings: Sequence[Ceiling], amount: int) -> Shortage | None:
    """The first limit that has no room."""
    for ceiling in ceilings:
        ((spent,),) = writer.execute(_SPENT, (ceiling.account,))
        ((held,),) = writer.execute(_HELD, (ceiling.account,))
        if shortage := shortage_of(ceiling, spent, held, amount):
            return shortage
    return None


def shortage_of(ceiling: Ceiling, spent: int, held: int, amount: int) -> Shortage | None:
    """Whether a limit has no room for so many picodollars, beside those that were spent and are set aside."""
    limit = int((ceiling.limit_usd * _PICO).to_integral_value(ROUND_FLOOR))
    if spent + held + amount <= limit:
        return None
    return Shortage(ceiling.named, ceiling.limit_usd, usd_of(spent), usd_of(held))


def picos(usd: Decimal) -> int:
    """As whole picodollars, rounded up."""
    return int((usd * _PICO).to_integral_value(ROUND_CEILING))


def usd_of(amount: int) -> Decimal:
    """So many picodollars, as dollars."""
    return Decimal(amount) / _PICO


class _Hold(NamedTuple):
    """Implements `base.ports.Hold`."""

    kept: Accounts
    held: tuple[str, int]
    accounts: Sequence[str]

    def settle(self, cost_usd: Decimal) -> None:
        """See `Hold.settle`."""
        try:
            self.kept.settle(self.held, self.accounts, cost_usd)
        except StoreError as error:
            import logging  # noqa: PLC0415 - 10 ms that only a failure pays

            logging.getLogger("claude_force.budgets").warning(
                "what a request has cost is not written down, so its worst case stays set aside: %s",
                error,
            )


class Budgets(msgspec.Struct, frozen=True):
    """The limits of one project. Implements `base.ports.Budget`."""

    accounts: Accounts
    limits: "Limits"
    world: str = ""
    """What the built-in simulator is asked must not eat what is for Claude, or for a gateway to it."""
    more: tuple[Ceiling, ...] = ()
    """Limits on what is done now, beside those of the config."""

    def limited(self, account: str, limit_usd: Decimal, named: str) -> Self:
        """The same with one limit more."""
        ceiling = Ceiling(self.world + account, limit_usd, named)
        return msgspec.structs.replace(self, more=(*self.more, ceiling))

    def hold(self, usd: Decimal, *, agent: str, at: "datetime", lease_s: float) -> "_Hold | Shortage":
        """See `Budget.hold`."""
        ceilings = self._ceilings((agent,), at)
        try:
            held = self.accounts.hold(ceilings, usd, lease_s=lease_s)
        except StoreError as error:
            raise _unkept(repr(agent), error) from error
        if isinstance(held, Shortage):
            return held
        return _Hold(self.accounts, held, [ceiling.account for ceiling in ceilings])

    def hold_batch(self, id_: str, usd: "Mapping[str, Decimal]", *, at: "datetime") -> Shortage | None:
        """See `BatchBudget.hold_batch`."""
        parts = [(self._ceilings((agent,), at), usd[agent]) for agent in sorted(usd)]
        try:
            return self.accounts.hold_batch(id_, parts)
        except StoreError as error:
            raise _unkept("the batch", error) from error

    def settle_batch(self, id_: str, usd: "Mapping[str, Decimal]") -> None:
        """See `BatchBudget.settle_batch`."""
        try:
            self.accounts.settle_batch(id_, [usd[agent] for agent in sorted(usd)])
        except StoreError as error:
            raise BudgetError(f"what the batch has cost cannot be written down: {error}; mend that") from error

    def standing(self, at: "datetime") -> list[Spending]:
        """How it stands with the limits of this day. Raises `BudgetError`."""
        try:
            return self.accounts.standing(self._ceilings(tuple(self.limits.per_agent_per_day_usd), at))
        except StoreError as error:
            raise BudgetError(f"the budgets cannot be read: {error}; {self.accounts.way_out}") from error

    def _ceilings(self, agents: Sequence[str], at: "datetime") -> list[Ceiling]:
        day = f"{self.world}day {at.astimezone(UTC):%Y-%m-%d}"
        limits: Mapping[str, float] = self.limits.per_agent_per_day_usd
        found = [
            Ceiling(f"{day} agent {agent}", _decimal(limits[agent]), f"budgets.per_agent_per_day_usd.{agent}")
            for agent in agents
            if agent in limits
        ]
        if self.limits.per_day_usd is not None:
            found.append(Ceiling(day, _decimal(self.limits.per_day_usd), "budgets.per_day_usd"))
        return [*self.more, *found]


def _unkept(what: str, error: StoreError) -> BudgetError:
    return BudgetError(f"{what} is not sent: the budget cannot be kept, for {error}; mend that, or take the limit out")


def _decimal(usd: float) -> Decimal:
    return Decimal(str(usd))  # by way of text: 0.1 is meant as a tenth
