"""What a person is told of a long batch."""

from decimal import Decimal

import pytest

from claude_force import AgentResult, ClaudeForceError, CredentialsError, NotRunError, RateLimitError, RefusalError
from claude_force.apps.selection import cost_cell
from claude_force.apps.tally import LINE_EVERY_S, Tally, shown
from claude_force.apps.task_file import FileTask, result_line
from claude_force.insight.figures import Costs
from claude_force.orchestrator import AgentTask

REFUSED = NotRunError("not run", exit_code=3)


def answer(cost_usd: str | None = "0.01", *, simulated: bool = False) -> AgentResult:
    """A whole answer."""
    cost = None if cost_usd is None else Decimal(cost_usd)
    return AgentResult("Fine.", agent_name="a", model="m", cost_usd=cost, simulated=simulated)


def counted(*results: AgentResult | ClaudeForceError, total: int = 9) -> Tally:
    """The tally of these, which end in the opposite order of their lines."""
    tally = Tally(total=total, started=0.0)
    for number, result in reversed(list(enumerate(results, 1))):
        tally.add(result_line(FileTask(number, None, "aa", AgentTask("a", "x"), "key"), result), result)
    return tally


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ([answer()], 0),
        ([answer(), RefusalError("no"), RateLimitError("busy")], 6),
        ([RateLimitError("busy"), RefusalError("no")], 5),
        ([RefusalError("no"), CredentialsError("bad key"), REFUSED], 3),
    ],
    ids=["all done", "first in the file", "not first in time", "terminal"],
)
def test_exit_code(results: list[AgentResult | ClaudeForceError], code: int) -> None:
    """The error that ended the batch decides, else the first task in the file that failed, whichever was faster."""
    assert counted(*results).exit_code == code


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([], "$0.0000"),
        ([answer(), answer("0.02")], "$0.0300"),
        ([answer(), answer(None)], "$0.0100 and 1 unpriced"),
        ([answer(None)], "1 unpriced"),
        ([answer(simulated=True)], "would cost $0.0100"),
    ],
    ids=["nothing", "sum", "partly priced", "unpriced", "simulated"],
)
def test_cost(results: list[AgentResult | ClaudeForceError], said: str) -> None:
    """What has no price is said to have none, and is never counted as free; analytics says it alike."""
    tally = counted(*results)
    assert tally.cost() == said
    assert cost_cell(Costs(cost_usd=tally.cost_usd, unpriced=tally.unpriced)) == said.removeprefix("would cost ")


def test_how_far_it_is() -> None:
    """Counts, rate, cost and the time left at that rate."""
    tally = counted(answer(), answer(), RateLimitError("busy"), total=1203)
    tally.retries = 2
    assert tally.so_far(10.0) == "3 of 1203, 1 failed, 2 retries, 0.3/s, $0.0200, 1:06:40 left"
    assert Tally(total=3, started=0.0).so_far(2.0) == "0 of 3, 0.0/s, $0.0000"


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """Not more often than every ten seconds, however fast tasks end."""
    tally = Tally(total=1000)
    tally.started -= LINE_EVERY_S
    with shown(tally, is_alone=True) as show:
        for _ in range(500):
            tally.done += 1
            show()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("progress: 1 of 1000")
