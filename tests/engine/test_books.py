"""What a turn is in the ledger: all of its answers together, each by its own price, and never a guess."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.base.clock import SystemClock
from claude_force.base.config import Config
from claude_force.base.endpoints import Endpoint
from claude_force.base.errors import ApiError, ClaudeForceError, DeadlineError
from claude_force.base.pricing import BatchPrices, Prices, saved_by_caching_usd, total_usd
from claude_force.base.records import Execution, KeptReply, PromptCaching, Reply, Request
from claude_force.base.spans import NO_SPANS
from claude_force.base.usage import Usage
from claude_force.engine.books import close, enter
from claude_force.engine.parts import Parts, Turn, Watch
from claude_force.engine.request import Task
from claude_force.engine.spending import is_known
from claude_force.engine.traffic import Traffic

DAY = datetime(2026, 11, 20, tzinfo=UTC)
PRICES = Prices()
HAIKU = "claude-haiku-5-5"


class Book(list[Execution]):
    """A ledger that is a list."""

    def record(self, execution: Execution) -> None:
        self.append(execution)


BOOK = Book()


def turn(*replies: Reply, prices: Prices | BatchPrices = PRICES, server: str = "", **facts: Any) -> Turn:
    """One that got these replies, each asked for by the name of a model of its own."""
    clock = SystemClock()
    unused = cast("Any", None)
    parts = Parts(
        agents=unused,
        prices=prices,
        ledger=BOOK,
        clock=clock,
        config=Config(),
        traffic=Traffic(clock, failure_threshold=1),
        server=server,
    )
    known: dict[str, Any] = {
        "outside": unused,
        "parts": parts,
        "spans": NO_SPANS,
        "task": Task(agent_name="a", text="t"),
        "watch": Watch(),
        "model": "chosen",
        "unrouted_model": None,
        "inference_geo": None,
        "output_schema": None,
        "timeout_s": 9.0,
        "started_s": 0.0,
        "timestamp": DAY,
        "replies": list(replies),
        "asked": [Request(model=reply.model, system=(), prompt=("t",), max_tokens=9) for reply in replies],
    }
    return Turn(**(known | facts))


def reply(usage: Usage | None = None, **facts: Any) -> Reply:
    """Any."""
    return Reply(**({"model": HAIKU, "text": "yes", "stop_reason": "end_turn", "usage": usage} | facts))


COUNTS = st.integers(0, 10**5)
USAGES = st.builds(
    Usage,
    input_tokens=COUNTS,
    cache_read_tokens=COUNTS,
    cache_write_5m_tokens=COUNTS,
    cache_write_1h_tokens=COUNTS,
    output_tokens=COUNTS,
)
REPLIES = st.builds(
    reply, st.one_of(st.none(), *[USAGES] * 4), model=st.sampled_from([HAIKU, "claude-opus-5-5", HAIKU, "llama"])
)


@given(st.lists(REPLIES, max_size=3), st.booleans())
def test_a_turn_is_all_of_its_answers(replies: list[Reply], is_unknown: bool) -> None:  # noqa: FBT001 - drawn
    """Tokens, price and what the prompt cache and the router saved: sums, unknown where one part is."""
    BOOK.clear()
    made = turn(*replies, has_unknown_cost=is_unknown, unrouted_model="claude-opus-5-5", shared_tokens=1)
    told = enter(made)
    assert enter(made) is told
    assert BOOK.pop() is told
    assert not BOOK
    usages = [one.usage for one in replies]
    cost_usd = total_usd(PRICES.cost_usd(one.model, one.usage, DAY) for one in replies)
    else_usd = total_usd(PRICES.cost_usd("claude-opus-5-5", usage, DAY) for usage in usages)
    saved_usd = total_usd(saved_by_caching_usd(PRICES, one.model, one.usage, DAY) for one in replies)
    whole = None if is_unknown or None in usages else sum((usage for usage in usages if usage), Usage())
    assert told.usage == whole
    assert told.cost_usd == (None if is_unknown else cost_usd)
    caching, used = told.prompt_caching, whole or Usage()
    assert caching.saved_usd == (None if is_unknown else saved_usd)
    assert (caching.read_tokens, caching.shared_tokens) == (used.cache_read_tokens, 1)
    assert caching.written_tokens == used.cache_write_5m_tokens + used.cache_write_1h_tokens
    if not replies:
        assert told.routing_saved_usd == 0
    elif told.cost_usd is None or else_usd is None:
        assert told.routing_saved_usd is None
    else:
        assert told.routing_saved_usd == else_usd - told.cost_usd
    assert enter(turn(*replies)).routing_saved_usd == enter(turn(*replies)).batch_saved_usd == 0


def test_what_is_known_of_an_answer_is_told_of_it() -> None:
    """Where and when it came; of one that was kept, what it had cost, and nothing of the way here."""
    own = reply(Usage(output_tokens=1000), ttft_s=0.5, request_id="req", simulated=True)
    asked: dict[str, Any] = {"endpoint": Endpoint(name="b", region="moon"), "attempts": 2}
    told = enter(turn(own, **asked))
    assert (told.endpoint, told.region, told.ttft_ms, told.cached, told.saved_usd) == ("b", "moon", 500.0, False, None)
    assert (told.model, told.request_id, told.simulated, told.attempts) == (HAIKU, "req", True, 2)
    assert told.prompt_caching == PromptCaching()
    kept = enter(turn(kept=KeptReply(reply=own, cost_usd=Decimal(3), age_s=7.0), warming_s=2.0, **asked))
    assert (kept.endpoint, kept.region, kept.ttft_ms, kept.cached) == (None, None, None, True)
    assert (kept.saved_usd, kept.cost_usd) == (Decimal(3), Decimal(0))
    assert (kept.model, kept.usage, kept.cache_age_s) == (HAIKU, Usage(), 7.0)
    nothing = enter(turn(server="simulator", endpoint=Endpoint(name="")))
    assert (nothing.model, nothing.endpoint, nothing.simulated, nothing.ttft_ms) == ("chosen", None, True, None)
    batch = enter(turn(own, prices=BatchPrices(PRICES)))
    assert batch.cost_usd == batch.batch_saved_usd == Decimal("0.00025")


@pytest.mark.parametrize(
    ("replies", "failure"),
    [([reply()], None), ([reply(stop_reason="max_tokens")], "CutAnswer"), ([], "CutAnswer")],
    ids=["whole", "cut", "none"],
)
def test_only_a_whole_answer_is_a_success(replies: list[Reply], failure: str | None) -> None:
    """What was cut is no failure for who asked, and no success in the ledger."""
    made = turn(*replies)
    assert enter(turn(*replies)).error_type == "Interrupted"
    close(made)
    told = enter(made)
    assert (told.error_type, told.success) == (failure, failure is None)


@pytest.mark.parametrize(
    ("outcome", "is_so"),
    [
        (reply(), True),
        (ApiError("refused"), True),
        (ApiError("cut", has_begun=True), False),
        (ApiError("away", may_have_arrived=True), False),
        (DeadlineError("late"), False),
        (None, False),
    ],
    ids=["answer", "refused", "cut", "away", "late", "cancelled"],
)
def test_what_is_known_to_be_billed(outcome: Reply | ClaudeForceError | None, *, is_so: bool) -> None:
    """Only an answer, and a refusal before one had begun: all else counts as the worst case."""
    assert is_known(outcome) is is_so
