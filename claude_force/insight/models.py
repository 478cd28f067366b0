"""What the last lines of the ledger say of an agent: which models were too weak for it, how long answers are."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from claude_force.base.models import Tier, tier_of
from claude_force.engine.router import PastAnswers
from claude_force.insight.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from claude_force.insight.ledger import LedgerLine

# They are read before each choice, which takes half a millisecond; and farther back, an agent was another one.
LAST_LINES = 200
# A stronger model may do better. One that is down, or an answer that `max_tokens` cut, says nothing about its strength.
_UNUSABLE = frozenset({"EmptyAnswerError", "InvalidOutputError"})


class Past(NamedTuple):
    """What is known of an agent's last answers."""

    history: Mapping[Tier, PastAnswers]
    """On tasks of the same words, such as one that is asked of many files; of all its tasks where there are none."""
    output_tokens: Mapping[str, int]
    """The median length of its whole answers, by model."""


def read_last(path: Path, *, simulated: bool) -> "tuple[LedgerLine, ...]":
    """The last lines of the ledger, the very last first; none where it cannot be read."""
    try:
        lines = Ledger(path).lines(most=LAST_LINES)
        return tuple(line for line in lines if line.simulated == simulated and not line.cached)
    except OSError:
        return ()


def past_of(agent: str, last: "Iterable[LedgerLine]", *, task_hash: str) -> Past:
    """What the last lines say of this agent, and of this task."""
    lines = [line for line in last if line.agent_name == agent and line.model]
    lengths: defaultdict[str, list[int]] = defaultdict(list)
    for line in lines:
        if line.success:
            lengths[line.model or ""].append(line.output_tokens)
    return Past(
        _history([line for line in lines if line.task_hash == task_hash] or lines),
        {model: statistics.median_low(tokens) for model, tokens in lengths.items()},
    )


def _history(lines: "Iterable[LedgerLine]") -> dict[Tier, PastAnswers]:
    answers = Counter((line.model, line.success) for line in lines if line.success or line.error_type in _UNUSABLE)
    history: dict[Tier, PastAnswers] = {}
    for (model, was_usable), executions in answers.items():
        if tier := tier_of(model or ""):
            before = history.get(tier, PastAnswers(0, 0))
            history[tier] = PastAnswers(
                before.executions + executions, before.unusable + (0 if was_usable else executions)
            )
    return history
