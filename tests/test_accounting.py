"""The ledger against the simulator's own bill: every token that was billed is in it, once, at its price."""

import json
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from claude_force import AgentOrchestrator, ClaudeForceError
from claude_force.base.pricing import Prices
from claude_force.base.usage import Usage
from claude_force.insight.costs import read_costs
from claude_force.insight.counting import Selection
from claude_force.testing import Answer, ApiFault, Fault, SeenRequest, Simulator

tokens = st.integers(0, 300_000)  # past the lengths at which some models' prices change
usages = st.builds(
    Usage,
    input_tokens=tokens,
    output_tokens=st.integers(1, 20_000),
    cache_read_tokens=tokens,
    cache_write_5m_tokens=tokens,
    cache_write_1h_tokens=tokens,
)
faults = st.sampled_from([ApiFault(status, headers={"retry-after-ms": "1"}) for status in (529, 500, 429, 400)])
calls = st.lists(
    st.tuples(
        st.integers(0, 5),  # the same task again is an answer from the cache
        st.sampled_from(["haiku", "sonnet", "opus", "fable"]),
        usages,
        st.lists(faults, max_size=2),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=25, phases=[Phase.explicit, Phase.generate])  # each example is a server: no time to shrink
@given(calls)
def test_the_ledger_is_the_bill(calls: list[tuple[int, str, Usage, list[Fault], bool]]) -> None:
    """To the last digit, over any mix of models, lengths, prompt caching, retries, failures, repeats and streams."""
    prices, billed, used = Prices(), list[Decimal | None](), Usage()

    def answer(request: SeenRequest) -> Answer:
        billed.append(prices.cost_usd(request.model, used, datetime.now(UTC)))
        return Answer("Fine.", usage=used)

    with tempfile.TemporaryDirectory() as folder, Simulator(answer=answer) as simulator:
        agents = Path(folder) / ".claude/agents"
        agents.mkdir(parents=True)
        (agents / "a.md").write_text("---\nname: a\ndescription: d\n---\nBe kind.\n")
        (agents.parent / "claude.json").write_text('{"breaker": {"failure_threshold": 1000}}')
        with AgentOrchestrator(api_key="k", base_url=simulator.base_url, project_dir=folder) as subject:
            for task, model, used, trouble, streams in calls:  # noqa: B007 - `answer` reads it
                simulator.script(*trouble)
                with suppress(ClaudeForceError):
                    subject.execute_agent("a", f"task {task}", model=model, on_text=print if streams else None)
        ledger = agents.parent / "metrics/executions.jsonl"
        lines = ledger.read_text().splitlines()
        added, repriced = (
            read_costs(ledger, Selection(simulated=True), prices=price_list).total for price_list in (None, prices)
        )
    entries = [json.loads(line, parse_float=Decimal) for line in lines]
    assert len(entries) == len(calls)
    costs = [entry["estimated_cost"] for entry in entries if entry["success"]]
    assert None not in {*costs, *billed}
    assert all(entry["estimated_cost"] == 0 for entry in entries if not entry["success"])  # what is refused is free
    bill = sum(cost for cost in billed if cost is not None)
    assert sum(map(Decimal, costs)) == bill
    assert added.cost_usd == repriced.cost_usd == bill
