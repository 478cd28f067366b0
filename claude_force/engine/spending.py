"""Never over a limit: what a request can cost is set aside before it is sent, and what it has cost is counted after.

What nobody knows counts as the worst case: an answer that broke off, a request that was cancelled, or that nobody
answered in time. What was refused with an HTTP status, or never sent, costs nothing.
"""

from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from claude_force.base.errors import ApiError, BudgetError
from claude_force.base.ports import Shortage
from claude_force.base.records import Reply
from claude_force.engine.budget import request_usd

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_force.base.errors import ClaudeForceError
    from claude_force.base.ports import Budget, Hold
    from claude_force.base.records import Request
    from claude_force.engine.outside import Outside
    from claude_force.engine.parts import Parts, Turn

# How often to look whether others have let go of what they did not need: first soon, then less and less often, because
# each look is a write that others have to wait for.
FIRST_LOOK_S, LAST_LOOK_S = 0.05, 1.0

# How late it may be said how something ended that had a deadline: a machine may have much to do.
LEASE_MARGIN_S = 60.0

_FREE = Decimal(0)


class Stake(msgspec.Struct, frozen=True):
    """What is set aside for one request."""

    hold: "Hold"
    worst_usd: Decimal

    def settle(self, cost_usd: Decimal | None) -> None:
        """Count what it has cost; `None` is not known."""
        self.hold.settle(self.worst_usd if cost_usd is None else cost_usd)


async def staked(turn: "Turn", request: "Request", *, inference_geo: str | None) -> Stake | None:
    """Set aside what the request can cost at the most; nothing where there is no limit.

    Waits while there would be room but for what others hold. Raises `BudgetError` where there is none.
    """
    budget, agent = turn.parts.budget, turn.task.agent_name
    if budget is None:
        return None
    return await stake(
        turn.outside, turn.parts, budget, agent, request, lambda: turn.left_s, inference_geo=inference_geo
    )


async def stake(
    outside: "Outside",
    parts: "Parts",
    budget: "Budget",
    agent: str,
    request: "Request",
    left_s: "Callable[[], float]",
    *,
    inference_geo: str | None,
) -> Stake:
    """As `staked`, for whom there is a limit; `left_s` says for how long it may wait."""
    now = parts.clock.now
    worst_usd = request_usd(request, parts.prices, now(), inference_geo=inference_geo)
    if worst_usd is None:
        raise BudgetError(
            f"{agent!r} is not sent: the price of {request.model!r} is not known, so no limit can be kept; set it under"
            " `pricing` in the config"
        )
    wait_s = FIRST_LOOK_S
    while True:
        # To its end: who is cancelled meanwhile must know what it holds.
        lease_s = left_s() + LEASE_MARGIN_S
        held = await outside.finish(partial(budget.hold, worst_usd, agent=agent, at=now(), lease_s=lease_s))
        if not isinstance(held, Shortage):
            return Stake(held, worst_usd)
        if held.spent_usd + worst_usd > held.limit_usd or left_s() <= wait_s:
            raise short(repr(agent), held, worst_usd)
        await outside.pause(wait_s)
        wait_s = min(2 * wait_s, LAST_LOOK_S)


def short(what: str, shortage: Shortage, worst_usd: Decimal) -> BudgetError:
    """The error of what is not sent because a limit has no room for it."""
    left_usd = max(shortage.limit_usd - shortage.spent_usd, _FREE)
    held = f" (${shortage.held_usd:.4f} of it is held by what is under way)" if shortage.held_usd else ""
    return BudgetError(
        f"{what} is not sent: it could cost ${worst_usd:.4f}, and ${left_usd:.4f} of {shortage.limit}"
        f" (${shortage.limit_usd}) is left{held}; raise {shortage.limit}, or lower its max_tokens",
        limit_usd=shortage.limit_usd,
        spent_usd=shortage.spent_usd,
        needed_usd=worst_usd,
    )


def cost_usd(
    turn: "Turn", request: "Request", outcome: "Reply | ClaudeForceError | None", *, is_sent: bool
) -> Decimal | None:
    """What one request has cost, by how it ended; `None` where nobody knows."""
    if not is_sent:
        return _FREE
    if isinstance(outcome, Reply):
        at = turn.parts.clock.now()
        return turn.parts.prices.cost_usd(outcome.model, outcome.usage, at, asked_as=request.model)
    return _FREE if is_known(outcome) else None


def is_known(outcome: "Reply | ClaudeForceError | None") -> bool:
    """Whether what was sent has ended in a way that says what is billed: by an answer, or by a refusal."""
    if isinstance(outcome, ApiError):
        return not (outcome.has_begun or outcome.may_have_arrived)
    return isinstance(outcome, Reply)
