"""What was spent, and what is set aside, by all processes of all machines: `SharedAccounts`, on a Redis or a Postgres.

It is what `stores.budgets` says of accounts, but for one thing: no lock tells here that a process has died. So what is
set aside has a lease, and what nobody settled in it counts as *spent*: nobody knows what it has cost, and a budget is
never passed. Should word of it come after all, the real cost takes its place. What a message batch sets aside has no
lease.

Accounts begin with what the server knows, never with what a file of one machine says.
"""

from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, TypeVar

import msgspec

from claude_force.stores.budgets import BATCH, Ceiling, Spending, picos, shortage_of, usd_of
from claude_force.stores.entries import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.base.ports import Shortage
    from claude_force.stores.documents import SharedDocuments

T = TypeVar("T")

_REMEMBERED_S = 3600.0
"""How long what was not settled can still be; not for ever, as its document is sent with each change."""


class Held(msgspec.Struct, frozen=True, array_like=True):
    """What is set aside for one request."""

    amount: int
    until_s: float | None
    """By the server's time; `None` is for ever."""


class Account(msgspec.Struct, tag_field="format", tag="budget 1", forbid_unknown_fields=True, omit_defaults=True):
    """A document: what a limit is about, in picodollars."""

    spent: int = 0
    holds: dict[str, Held] = msgspec.field(default_factory=dict)
    parts: list[list[str]] = msgspec.field(default_factory=list)
    """Of a message batch: the accounts in which each of its parts is held."""

    def figures(self, now_s: float) -> tuple[int, int]:
        """What was spent, with what nobody has settled in time, and what is set aside."""
        lost = sum(hold.amount for hold in self.holds.values() if hold.until_s is not None and hold.until_s <= now_s)
        return self.spent + lost, sum(hold.amount for hold in self.holds.values()) - lost

    def hold(self, key: str, held: Held, now_s: float) -> None:
        """Set it aside."""
        for old, one in tuple(self.holds.items()):
            if one.until_s is not None and one.until_s + _REMEMBERED_S <= now_s:
                self.spent += self.holds.pop(old).amount
        self.holds[key] = held


class SharedAccounts:
    """Implements `stores.budgets.Accounts`. Safe for threads and processes; raises `StoreError`."""

    way_out = "mend that, or take `shared.url` out, and each machine counts by itself"

    def __init__(self, documents: "SharedDocuments") -> None:
        self._documents = documents
        self._is_checked = False
        self._numbers = count()

    def hold(self, ceilings: Sequence[Ceiling], usd: Decimal, *, lease_s: float) -> "tuple[str, int] | Shortage":
        """See `Accounts.hold`."""
        held = self._documents.owner, next(self._numbers)
        names, key, amount = [ceiling.account for ceiling in ceilings], _key(held), picos(usd)

        def hold(accounts: Sequence[Account], now_s: float) -> "Shortage | None":
            if accounts[0].holds.get(key):  # that was done, and the answer got lost
                return None
            for ceiling, account in zip(ceilings, accounts, strict=True):
                if shortage := shortage_of(ceiling, *account.figures(now_s), amount):
                    return shortage
            for account in accounts:
                account.hold(key, Held(amount, now_s + lease_s), now_s)
            return None

        try:
            return (self._change(names, hold) if names else None) or held
        except StoreError:
            raise
        except BaseException:  # a Ctrl-C: who asked will never know that it was set aside
            with suppress(StoreError):
                self._documents.change(_documents(names), Account, lambda accounts, _: _let_go(accounts, key))
            raise

    def settle(self, held: tuple[str, int], accounts: Sequence[str], usd: Decimal) -> None:
        """See `Accounts.settle`. Where the server is away, the worst case stays, and the log has one warning."""
        key, amount = _key(held), picos(usd)
        seen: set[int] = set()

        def settle(kept: Sequence[Account], _: float) -> None:
            for number, account in enumerate(kept):
                is_held = account.holds.pop(key, None) is not None
                # What has gone since an earlier try was settled by it, and the answer got lost; else it was forgotten.
                if is_held or number not in seen:
                    account.spent += amount
                if is_held:
                    seen.add(number)

        try:
            if accounts:
                self._documents.change(_documents(accounts), Account, settle)
        except StoreError as error:
            self._documents.warn(error)

    def hold_batch(self, id_: str, parts: "Sequence[tuple[Sequence[Ceiling], Decimal]]") -> "Shortage | None":
        """See `Accounts.hold_batch`."""
        batch = BATCH + id_
        before = self._parts(batch)
        wanted = [[ceiling.account for ceiling in ceilings] for ceilings, _ in parts]
        names = sorted({name for part in (*before, *wanted) for name in part})

        def hold(accounts: Sequence[Account], now_s: float) -> "Shortage | None":
            record, of = accounts[0], dict(zip(names, accounts[1:], strict=True))
            _let_go_batch(batch, accounts)  # also of what this did already, where the answer got lost
            record.parts = []
            for number, (ceilings, usd) in enumerate(parts):
                amount = picos(usd)
                for ceiling in ceilings:
                    if shortage := shortage_of(ceiling, *of[ceiling.account].figures(now_s), amount):
                        _let_go_batch(batch, accounts)
                        return shortage
                for name in wanted[number]:
                    of[name].hold(f"{batch}/{number}", Held(amount, None), now_s)
            record.parts = wanted
            return None

        return self._change([batch, *names], hold)

    def settle_batch(self, id_: str, usd: Sequence[Decimal]) -> None:
        """See `Accounts.settle_batch`."""
        batch = BATCH + id_
        parts = self._parts(batch)
        names = sorted({name for part in parts for name in part})

        def settle(accounts: Sequence[Account], _: float) -> None:
            record, of = accounts[0], dict(zip(names, accounts[1:], strict=True))
            if record.parts != parts:  # somebody else has settled it
                return
            _let_go_batch(batch, accounts)
            record.parts = []
            for part, cost_usd in zip(parts, usd, strict=True):
                for name in part:
                    of[name].spent += picos(cost_usd)

        if parts:
            self._change([batch, *names], settle)

    def standing(self, ceilings: Sequence[Ceiling]) -> list[Spending]:
        """See `Accounts.standing`."""
        if not ceilings:
            return []
        figures = self._documents.change(
            _documents([ceiling.account for ceiling in ceilings]),
            Account,
            lambda accounts, now_s: [account.figures(now_s) for account in accounts],
        )
        return [
            Spending(ceiling.named, ceiling.limit_usd, usd_of(spent), usd_of(held))
            for ceiling, (spent, held) in zip(ceilings, figures, strict=True)
        ]

    def close(self) -> None:
        """See `Accounts.close`."""
        self._documents.close()

    def _parts(self, batch: str) -> list[list[str]]:
        return self._documents.change(_documents([batch]), Account, lambda accounts, _: accounts[0].parts)

    def _change(self, names: Sequence[str], decide: "Callable[[Sequence[Account], float], T]") -> T:
        if not self._is_checked:
            self._documents.check()
            self._is_checked = True
        return self._documents.change(_documents(names), Account, decide)


def _documents(accounts: Sequence[str]) -> list[str]:
    return [f"budget {account}" for account in accounts]


def _key(held: tuple[str, int]) -> str:
    return f"{held[0]}-{held[1]}"


def _let_go(accounts: Sequence[Account], key: str) -> None:
    for account in accounts:
        account.holds.pop(key, None)


def _let_go_batch(batch: str, accounts: Sequence[Account]) -> None:
    for account in accounts:
        for key in [key for key in account.holds if key.startswith(f"{batch}/")]:
            del account.holds[key]
