"""Warm fan-out: a turn takes its place among those that share the beginning of its request (`warming`)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_force.base.records import CacheTtl, Request
    from claude_force.engine.parts import Turn
    from claude_force.engine.request import Others
    from claude_force.engine.warming import Place, Warmth

# A first token takes a few seconds; whoever takes longer is in trouble, and must not take others along.
MOST_WAIT_S = 10.0
# Of the time that a turn has left: it needs the rest for its own answer.
MOST_WAIT_SHARE = 0.25
# For so long the prompt cache keeps what nobody reads, unless it is told to keep it for an hour, which costs more.
SHORT_RUN_S = 300.0


async def take_place(turn: "Turn", request: "Request", warmth: "Warmth") -> "Place | None":
    """The place of an attempt that is to be sent now; `None` where the prompt cache could keep nothing of it.

    Waits, for a bounded time, while another turn goes first with a long prefix that both share.
    """
    outside = turn.outside
    place = warmth.join(request, is_blocking=outside.is_blocking)
    if place is None:
        return None
    try:
        if not outside.is_blocking and not warmth.is_warm(place):
            await outside.pause(0)  # who comes at the same moment has then come, too
        await _wait(turn, place, warmth)
    except BaseException:
        warmth.leave(place, has_answer=False)
        raise
    return place


async def _wait(turn: "Turn", place: "Place", warmth: "Warmth") -> None:
    """Until it may be sent."""
    task, monotonic = turn.task, turn.parts.clock.monotonic
    others: Others = task.others() if task.others else "none"
    can_wait = turn.parts.config.cache.warm_fan_out
    now_s = monotonic()
    until_s = now_s + min(MOST_WAIT_S, turn.left_s * MOST_WAIT_SHARE)
    # A prefix that is kept for an hour costs more to write than a limit in dollars reckons with (`spending`).
    ttl: CacheTtl = "1h" if task.run_s > SHORT_RUN_S and turn.parts.budget is None else "5m"
    while not warmth.try_send(place, others=others, ttl=ttl, can_wait=can_wait, is_late=now_s >= until_s):
        asked_s = now_s
        with turn.spans.span("wait", "prompt cache"):
            await turn.outside.wait(place.called, timeout_s=until_s - now_s)
        now_s = monotonic()
        turn.warming_s += now_s - asked_s
