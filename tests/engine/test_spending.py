"""Setting money aside: who waits for what others hold, for how long, and who is refused at once."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from claude_force.base.config import Config
from claude_force.base.errors import BudgetError
from claude_force.base.ports import Shortage
from claude_force.base.pricing import Prices
from claude_force.base.records import Request
from claude_force.engine.faces import run_now
from claude_force.engine.parts import Parts
from claude_force.engine.spending import LAST_LOOK_S, LEASE_MARGIN_S, Stake, stake
from claude_force.engine.traffic import Traffic

from .conftest import StillWorld

REQUEST = Request(model="claude-haiku-5-5", system=(), prompt=("x",), max_tokens=1000)


class World(StillWorld):
    """A budget too: others hold so much of it for as many looks, and nobody knows for how long."""

    def __init__(self, *, looks: int, room_usd: Decimal) -> None:
        super().__init__()
        self.looks, self.room_usd = looks, room_usd
        self.leases_s: list[float] = []

    def hold(self, usd: Decimal, *, agent: str, at: datetime, lease_s: float) -> "World | Shortage":
        self.leases_s.append(lease_s)
        self.worst_usd = usd
        if len(self.leases_s) <= self.looks:
            return Shortage("budgets.per_day_usd", 1 + usd, spent_usd=1 + usd - self.room_usd * usd, held_usd=usd)
        return self

    def settle(self, cost_usd: Decimal) -> None:
        """It is not asked for here."""

    def stake(self, *, timeout_s: float = 100.0) -> Stake:
        """What is set aside for a request that has so much time."""
        parts = Parts(agents=self, prices=Prices(), ledger=self, clock=self, config=Config(), traffic=Traffic(self))
        outside: Any = self  # which can all but send
        coroutine = stake(
            outside, parts, self, "a", REQUEST, left_s=lambda: timeout_s - self.seconds, inference_geo=None
        )
        return run_now(coroutine)


def test_who_fits_exactly_waits_for_what_others_hold() -> None:
    """Soon looked for, and then less and less often; what is held names a time that grows shorter."""
    world = World(looks=8, room_usd=Decimal(1))
    assert world.stake() == Stake(world, world.worst_usd)
    assert world.pauses == sorted(world.pauses)
    assert (len(set(world.pauses)), world.pauses[-1]) == (6, LAST_LOOK_S)
    assert world.leases_s == [100.0 + LEASE_MARGIN_S - late_s for late_s in (0.0, *world.paused_until_s)]


def test_who_cannot_fit_is_refused_at_once() -> None:
    """Whatever others let go of, there is no room by the smallest amount."""
    world = World(looks=1, room_usd=1 - Decimal("1e-9"))
    with pytest.raises(BudgetError, match=r"raise budgets\.per_day_usd"):
        world.stake()
    assert world.pauses == []


def test_nobody_waits_for_longer_than_there_is_time() -> None:
    """An answer could not come any more."""
    world = World(looks=1000, room_usd=Decimal(1))
    with pytest.raises(BudgetError):
        world.stake(timeout_s=10.0)
    assert 10.0 - LAST_LOOK_S <= world.seconds < 10.0
